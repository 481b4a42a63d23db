"""What works on this machine, and what to install for the rest."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.engines.select import ENGINES
from harness.packages import cache_folder

MIN_FREE = 4 * 2**30  # bytes: three TVM environments, an LLVM and a linker, unpacked


@dataclass(frozen=True)
class Finding:
    """``weak``: works, but evidence is worth less; ``missing``: a run cannot succeed."""

    state: Literal["ok", "weak", "missing"]
    what: str
    hint: str = ""


def examine(out: Path) -> Iterator[Finding]:
    """All findings, cheapest first. ``out``: where results would go."""
    yield _python()
    yield _machine()
    yield from _space(out)
    yield from _engines()


def _python() -> Finding:
    return Finding("ok", f"Python {platform.python_version()}")


def _machine() -> Finding:
    found = f"{platform.system()} {platform.machine()}"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return Finding(
            "missing", found, "The toolchains that come with the harness are for Linux on x86-64."
        )
    return Finding("ok", found)


def _space(out: Path) -> Iterator[Finding]:
    for what, place in (("toolchain cache", cache_folder()), ("results", out.absolute())):
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        words = f"{what} in {place}: {free / 2**30:.1f} GiB free"
        if free < MIN_FREE:
            need = f"Free {MIN_FREE >> 30} GiB, or set XDG_CACHE_HOME or --out to another disk."
            yield Finding("weak", words, need)
        else:
            yield Finding("ok", words)


def _engines() -> Iterator[Finding]:
    """The embedded engine without namespaces works everywhere, so no engine is ever missing."""
    for name, make in ENGINES.items():
        engine = make()
        status = engine.status()
        words = f"engine {name} (isolation: {engine.isolation})"
        if status.works:
            yield Finding("ok", words)
        else:
            yield Finding("weak", f"{words}: {status.reason}", status.hint)
