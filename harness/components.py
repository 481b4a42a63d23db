"""What a toolchain consists of, as far as its runs opened it: files → components → profiles.

A component is the part of a toolchain that makes some of the stages. Which file belongs to which
is told by the environment's own ``RECORD`` files, so by the toolchain: a claim. It only decides
what is asked about; whether two files are the same is decided by their bytes, and each component
is looked for among *all* files that the other side opened (see :mod:`harness.independence`).

| component | its files |
|---|---|
| frontend | opened files of distributions that do not carry the compiler's name |
| compiler | opened files of distributions that do: ``apache-tvm`` and ``apache-tvm-ffi`` of tvm |
| llvm | opened ELF files that name an LLVM version |
| linker | opened files of the linker's environment |

1. A file that no distribution lists (an overlay's) can reach into every stage: it belongs to
   frontend, compiler and llvm.
2. A component without files stands for something that was not found. Then every file that was
   opened takes its place: it counts as shared where anything is.
3. Where it is not known which files were opened, all that are installed take their place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from harness.distributions import normalized, owners
from harness.environments import Environment, files_of
from harness.models import Component, Origin, Toolchain
from harness.opened import Opened
from harness.origins import Makers, makers
from harness.text import printable

FRONTEND, COMPILER, LLVM, LINKER = "frontend", "compiler", "llvm", "linker"
NAMES = (FRONTEND, COMPILER, LLVM, LINKER)
TOOLCHAIN_ROOT, LINKER_ROOT = "toolchain", "linker"

Files = Mapping[str, int]  # sha256 → size in bytes


@dataclass(frozen=True)
class Profile:
    """A toolchain's origin, and the contents behind it.

    ``own``: what was opened of its own environment; ``opened``: of its linker's as well; ``parts``
    by component.
    """

    origin: Origin
    own: Files
    opened: Files
    parts: Mapping[str, Files]


@dataclass(frozen=True)
class Base:
    """What lies below a toolchain: operating system and C library; Python and where it is."""

    system: str
    python: str


def host_base(python: str) -> Base:
    """The base of every toolchain of an engine that shows the host's own system."""
    libc = " ".join(part for part in platform.libc_ver() if part)
    return Base(f"{os_name(Path('/'))}, {libc}", f"{platform.python_version()} {python}")


def os_name(root: Path) -> str:
    """ID and version out of ``etc/os-release`` below ``root``, or ``unknown``."""
    for place in ("etc/os-release", "usr/lib/os-release"):
        try:
            with (root / place).open("rb") as file:
                text = file.read(64 * 1024).decode("utf-8", "replace")
        except OSError:
            continue
        pairs = (line.partition("=") for line in text.splitlines())
        found = {key: value.strip("\"'") for key, _, value in pairs}
        named = f"{found.get('ID', 'unknown')} {found.get('VERSION_ID', '')}".strip()
        return printable(named, 80)
    return "unknown"


_MAKERS = TypeAdapter(Makers)


class Makings:
    """Who made a file, read once for each content.

    ``cache``: a folder that keeps what was read for later runs, as trusted as the environments
    beside it; whatever in it cannot be read is read anew from the file itself.
    """

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._known: dict[str, Makers | None] = {}

    def of(self, path: Path, sha256: str) -> Makers | None:
        if sha256 not in self._known:
            try:
                with path.open("rb") as file:
                    is_elf = file.read(4) == b"\x7fELF"
                self._known[sha256] = self._made(path, sha256) if is_elf else None
            except OSError:
                self._known[sha256] = None
        return self._known[sha256]

    def _made(self, path: Path, sha256: str) -> Makers | None:
        place = self._cache / f"{sha256}.json" if self._cache else None
        if place:
            with contextlib.suppress(OSError, ValidationError):
                return _MAKERS.validate_json(place.read_bytes())
        made = makers(path)
        if place and made:
            with contextlib.suppress(OSError):
                place.parent.mkdir(parents=True, exist_ok=True)
                new = place.with_suffix(f".{os.getpid()}")
                new.write_bytes(_MAKERS.dump_json(made))
                new.replace(place)
        return made


def profile(
    toolchain: Toolchain,
    environment: Environment,
    linker: Environment | None,
    opened: Opened | None,
    base: Base,
    makings: Makings,
) -> Profile:
    """What ``toolchain`` is made of. ``opened``: by root, or None where nothing is known."""
    installed = files_of(environment)
    if opened is not None and opened.complete and not opened.paths.get(TOOLCHAIN_ROOT):
        # No run does without opening any file of its toolchain: the engine shows it a copy.
        opened = Opened({}, False, "no open was seen: its runs do not use these very files")
    known = opened is not None and opened.complete
    names = _chosen(installed, opened, TOOLCHAIN_ROOT)
    owner = owners(environment.root, installed)
    compiler = normalized(toolchain.compiler)

    def ours(path: str) -> bool:
        return compiler in owner[path].partition("+")[0].split("-")

    found = {path: makings.of(environment.root / path, installed[path][0]) for path in names}

    def files(wanted: Iterable[str]) -> dict[str, int]:
        return {installed[path][0]: installed[path][1] for path in wanted}

    everything = files(names)
    core = {
        FRONTEND: files(p for p in names if p in owner and not ours(p)),
        COMPILER: files(p for p in names if p in owner and ours(p)),
        LLVM: files(p for p in names if (made := found[p]) and made.llvm),
        LINKER: {},
    }
    makers_of = {installed[path][0]: made for path, made in found.items() if made is not None}
    if linker is not None:
        there = files_of(linker)
        at = _chosen(there, opened, LINKER_ROOT)
        core[LINKER] = {there[path][0]: there[path][1] for path in at}
        for path in at:
            made = makings.of(linker.root / path, there[path][0])
            if made is not None:
                makers_of[there[path][0]] = made
    named: dict[str, set[str]] = {}  # digest → distributions
    for path in names:
        if path in owner:
            named.setdefault(installed[path][0], set()).add(owner[path])
    stray = files(path for path in names if path not in owner)
    reaches = {FRONTEND: stray, COMPILER: stray, LLVM: stray, LINKER: {}}
    parts = {name: (core[name] or everything) | reaches[name] for name in NAMES}
    reason = "" if known else (opened.reason if opened else "its runs were not watched")
    origin = Origin(
        toolchain=toolchain.name,
        compiler=toolchain.compiler,
        publisher=toolchain.publisher,
        version=toolchain.version,
        arch=toolchain.arch,
        base=base.system,
        python=base.python,
        driver_sha256=_sha256(Path(toolchain.driver)) if toolchain.driver else None,
        linker=toolchain.linker,
        measured=known,
        reason=reason,
        components=tuple(
            _component(name, parts[name], _packages(core[name], named), makers_of) for name in NAMES
        ),
    )
    return Profile(origin, everything, everything | parts[LINKER], parts)


def content_digest(files: Files) -> str:
    """One sha256 over contents, whatever they are called and how often they are there."""
    return hashlib.sha256("".join(f"{digest}\n" for digest in sorted(files)).encode()).hexdigest()


def _packages(core: Files, named: Mapping[str, set[str]]) -> tuple[str, ...]:
    return tuple(sorted({name for digest in core for name in named.get(digest, ())}))


def _component(
    name: str, files: Files, packages: tuple[str, ...], made: Mapping[str, Makers]
) -> Component:
    by = [made[digest] for digest in files if digest in made]
    return Component(
        name=name,
        files=len(files),
        size=sum(files.values()),
        sha256=content_digest(files),
        packages=packages,
        built_by=tuple(sorted({text for each in by for text in each.built_by})),
        llvm=tuple(sorted({version for each in by for version in each.llvm})),
    )


def _chosen(installed: Mapping[str, object], opened: Opened | None, root: str) -> list[str]:
    """The files to count: those opened, or all that are installed where that is not known."""
    if opened is None or not opened.complete:
        return sorted(installed)
    return sorted(path for path in opened.paths.get(root, ()) if path in installed)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
