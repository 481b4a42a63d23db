"""Which installed distributions there are, and which files are theirs, by their RECORD files.

RECORD lies in the environment, so it is the toolchain's own claim: read within limits, and never
used to decide whether two files are the same.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.text import printable

_MAX_RECORD_BYTES = 32 * 2**20
_COMPILED = re.compile(r"(?P<folder>.*/)?__pycache__/(?P<stem>[^/]+)\.cpython-[0-9]+\.pyc\Z")


@dataclass(frozen=True)
class Distribution:
    """An installed package. ``sha256`` and ``size`` (bytes) are over its files as installed."""

    name: str
    version: str
    sha256: str
    size: int


def distributions(root: Path, installed: Mapping[str, tuple[str, int]]) -> tuple[Distribution, ...]:
    """What is installed below ``root``, by the environment's own RECORD files, sorted by name."""
    found = []
    for record in _records(installed):
        name, version = _named(record)
        files = {path: installed[path] for path in _listed(root / record) if path in installed}
        lines = "".join(f"{path}\0{digest}\n" for path, (digest, _) in sorted(files.items()))
        sha256 = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
        size = sum(size for _, size in files.values())
        found.append(Distribution(name, version, sha256, size))
    return tuple(sorted(found, key=lambda each: (each.name, each.version)))


def _named(record: str) -> tuple[str, str]:
    """Name and version of the distribution whose RECORD this is."""
    name, _, version = record.partition("/")[0].removesuffix(".dist-info").rpartition("-")
    return normalized(printable(name, 200)), printable(version, 100)


def _records(installed: Mapping[str, object]) -> list[str]:
    return sorted(
        path for path in installed if path.endswith(".dist-info/RECORD") and path.count("/") == 1
    )


def owners(root: Path, installed: Mapping[str, object]) -> dict[str, str]:
    """Path → distribution, ``name`` or ``name+label`` where its version has a local label, by the
    environment's RECORD files; the first one that claims it."""
    owner: dict[str, str] = {}
    for record in _records(installed):
        name, version = _named(record)
        _, plus, label = version.partition("+")
        for listed in _listed(root / record):
            owner.setdefault(listed, f"{name}{plus}{label}")
    for path in installed:
        compiled = _COMPILED.match(path)
        if path not in owner and compiled:
            source = f"{compiled['folder'] or ''}{compiled['stem']}.py"
            if source in owner:
                owner[path] = owner[source]
    return owner


def _listed(record: Path) -> Iterator[str]:
    with record.open("rb") as file:
        text = file.read(_MAX_RECORD_BYTES).decode("utf-8", "replace")
    try:
        yield from (row[0] for row in csv.reader(text.splitlines()) if row)
    except csv.Error:
        return


def normalized(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
