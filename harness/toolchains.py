"""Toolchain definitions: TOML and lock files → models, validated.

A toolchain is one TOML file in a compiler's folder: ``tvm/0.27.0-pypi-x86_64.toml`` describes
``tvm/0.27.0-pypi-x86_64``. ``driver.py`` in the folder, if there is one, is its driver. A file
with ``base`` starts from another toolchain and lays the files of ``overlay`` over it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pydantic import TypeAdapter

from harness.errors import ToolchainError
from harness.lockfile import check_requirements
from harness.models import Image, Limits, Strict, Tool, Toolchain
from harness.tomlfile import read_limited, read_toml

NOT_TOOLCHAINS = ("replay.toml", "explanations.toml")
MAX_OVERLAY_BYTES = 2**30
DOCKERFILES = Path(__file__).resolve().parent.parent / "Dockerfiles"
# Base root file systems that harness/images.py can make, and their platforms.
BASES = {
    "bookworm-amd64": "linux/amd64",
    "bookworm-arm64": "linux/arm64",
    "trixie-amd64": "linux/amd64",
    "trixie-llvm-amd64": "linux/amd64",
}
_STEM = re.compile(
    r"(?P<version>[0-9][0-9A-Za-z.+_]*)-(?P<publisher>[a-z0-9][a-z0-9-]*)-(?P<arch>[a-z0-9_]+)"
)
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # also no option of pip's
# Least and greatest value of each limit.
_RANGES = {
    "wall_seconds": (1, 7 * 86400),
    "memory_bytes": (64 * 2**20, 2**44),
    "processes": (1, 2**16),
    "output_bytes": (1, 2**44),
    "output_files": (1, 10**7),
}


@dataclass(frozen=True)
class Definition(Toolchain):
    """A toolchain and what its environment is made of. All paths are absolute.

    ``recipe`` is a sha256 over the lock, the preparation script, the patterns to keep and the
    overlay: what decides the environment. ``identity`` covers everything else as well, the driver
    and the linker included.
    """

    recipe: str = ""
    prepare: str | None = None
    keep: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()  # packages without a wheel
    overlay: str | None = None
    base: Definition | None = None


@dataclass(frozen=True)
class _File:
    """The keys of a TOML file."""

    __pydantic_config__ = Strict

    version: str | None = None
    publisher: str | None = None
    arch: str | None = None
    requirements: tuple[str, ...] | None = None
    lock: str | None = None
    linker: str | None = None
    driver: str | None = None
    prepare: str | None = None
    keep: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    base: str | None = None
    overlay: str | None = None
    target: dict[str, str] = field(default_factory=dict)
    tools: dict[str, Tool] = field(default_factory=dict)
    limits: Limits | None = None
    image: Image | None = None
    redteam: str | None = None


_ADAPTER = TypeAdapter(_File)
_Found = TypeVar("_Found", bound=Toolchain)


def load(paths: Sequence[Path]) -> dict[str, Definition]:
    """All toolchains of the given directories, by name. The first thing wrong is an error."""
    files: dict[str, tuple[Path, _File]] = {}
    for path in _discover(paths):
        name = f"{path.parent.name}/{path.name.removesuffix('.toml')}"
        if name in files:
            raise ToolchainError(
                f"{path}: there is a toolchain {name} already, in {files[name][0]}",
                "rename one of them, or leave one directory out",
            )
        files[name] = path, read_toml(path, _ADAPTER, ToolchainError)
    done: dict[str, Definition] = {}
    # Bases before overlays: an overlay starts from a finished definition.
    for name in sorted(files, key=lambda name: (files[name][1].base is not None, name)):
        path, file = files[name]
        if file.base is None:
            done[name] = _clean(name, path, file)
        else:
            done[name] = _overlaid(name, path, file, _base(path, file.base, files, done))
    return {name: _linked(done[name], files[name][0], done) for name in sorted(done)}


def find(toolchains: Mapping[str, _Found], name: str) -> _Found:
    """The toolchain called ``name``; else an error that lists those with similar names."""
    if name in toolchains:
        return toolchains[name]
    near = [known for known in toolchains if name and name in known]
    near = near or difflib.get_close_matches(name, toolchains, n=3, cutoff=0.5)
    listed = ", ".join(sorted(near)[:5])
    raise ToolchainError(
        f"no toolchain is called {name!r}",
        f"did you mean {listed}?" if listed else "harness toolchains list shows all names",
    )


def requirements_of(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The top-level pins that a TOML file keeps, none for an overlay; and its ``sources``."""
    file = read_toml(path, _ADAPTER, ToolchainError)
    return file.requirements or (), file.sources or ()


def overlay_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(path below ``folder``, file) of each file of an overlay, sorted."""
    total = 0
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.parts or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink() or not path.is_file():
            raise ToolchainError(
                f"{path}: an overlay holds regular files only", "replace it by a file"
            )
        total += path.stat().st_size
        if total > MAX_OVERLAY_BYTES:
            raise ToolchainError(
                f"{folder}: the overlay is larger than {MAX_OVERLAY_BYTES} bytes", "make it smaller"
            )
        yield path.relative_to(folder).as_posix(), path


def _discover(paths: Sequence[Path]) -> Iterator[Path]:
    for directory in paths:
        if not directory.is_dir():
            raise ToolchainError(
                f"{directory}: no such directory", "name a directory of toolchains"
            )
        found = [p for p in sorted(directory.glob("*/*.toml")) if p.name not in NOT_TOOLCHAINS]
        if not found:
            raise ToolchainError(
                f"{directory}: holds no toolchain",
                "a toolchain is COMPILER/VERSION-PUBLISHER-ARCH.toml",
            )
        yield from found


def _clean(name: str, path: Path, file: _File) -> Definition:
    required = ["version", "publisher", "arch"]
    if not (file.image and (file.image.only or not file.image.dockerfile)):
        required.append("requirements")
    for key in required:
        if not getattr(file, key):
            raise ToolchainError(f"{path}: {key}: missing key", "add it")
    if file.redteam is not None:
        raise ToolchainError(f"{path}: redteam: needs a base and an overlay", "remove the key")
    if file.overlay is not None:
        raise ToolchainError(
            f"{path}: overlay: needs a base", "name the toolchain that it starts from"
        )
    stem = _stem(path)
    for key in ("version", "publisher", "arch"):
        _matches_stem(path, key, getattr(file, key), stem[key])
    image = _image(path, file.image) if file.image else None
    lock = _lock(path, file, image)
    driver = _driver(path, file)
    if driver or file.target:
        _check_target(path, file.target)
    prepare = _inside(path, "prepare", file.prepare) if file.prepare else None
    for pattern in file.keep or ():
        if not _is_below(pattern):
            raise ToolchainError(
                f"{path}: keep: {pattern!r} leaves the environment", "use a path below its root"
            )
    for source in file.sources or ():
        if not _PACKAGE.fullmatch(source):
            raise ToolchainError(
                f"{path}: sources: {source!r} is no name of a package", "write only the name"
            )
    if file.sources and image is not None and image.dockerfile:
        raise ToolchainError(f"{path}: sources: an image is made from wheels", "remove the key")
    content: dict[str, object] = {
        "lock": _sha256(lock) if lock else None,
        "prepare": _sha256(prepare) if prepare else None,
        "keep": file.keep,
    }
    if file.sources:
        content["sources"] = file.sources
    recipe = _digest(content)
    definition = Definition(
        name=name,
        compiler=path.parent.name,
        version=stem["version"],
        publisher=stem["publisher"],
        arch=stem["arch"],
        folder=str(path.parent.absolute()),
        driver=str(driver) if driver else None,
        lock=str(lock) if lock else "",
        linker=file.linker,
        target=dict(file.target),
        tools=_tools(path, file.tools),
        limits=_limits(path, file.limits or Limits()),
        identity="",
        image=image,
        recipe=recipe,
        prepare=str(prepare) if prepare else None,
        keep=file.keep or (),
        sources=file.sources or (),
    )
    return _identified(definition)


def _overlaid(name: str, path: Path, file: _File, base: Definition) -> Definition:
    for key in ("requirements", "lock", "prepare", "keep", "sources", "image"):
        if getattr(file, key) is not None:
            raise ToolchainError(f"{path}: {key}: comes from the base", "remove the key")
    stem = _stem(path)
    _matches_stem(path, "version", file.version or base.version, stem["version"])
    _matches_stem(path, "publisher", file.publisher or stem["publisher"], stem["publisher"])
    _matches_stem(path, "arch", file.arch or base.arch, stem["arch"])
    if path.parent.name != base.compiler:
        raise ToolchainError(
            f"{path}: base: {base.name} is another compiler", f"move the file to {base.compiler}/"
        )
    driver = str(_inside(path, "driver", file.driver)) if file.driver else base.driver
    target = dict(file.target) or base.target
    if driver or target:
        _check_target(path, target)
    overlay, recipe = None, base.recipe
    if file.overlay is not None:
        overlay = _inside(path, "overlay", file.overlay)
        content = {
            place: [_sha256(source), bool(source.stat().st_mode & 0o100)]
            for place, source in overlay_files(overlay)
        }
        recipe = _digest({"base": base.recipe, "overlay": content})
    elif not file.driver:
        raise ToolchainError(
            f"{path}: overlay: missing key", "add it, or driver: a base alone is a copy"
        )
    definition = replace(
        base,
        name=name,
        publisher=stem["publisher"],
        folder=str(path.parent.absolute()),
        driver=driver,
        linker=file.linker or base.linker,
        target=target,
        tools=base.tools | _tools(path, file.tools),
        limits=_limits(path, file.limits) if file.limits else base.limits,
        # The files of an overlay are laid over an environment; an image does not have them.
        image=None if overlay else base.image,
        recipe=recipe,
        overlay=str(overlay) if overlay else None,
        base=base,
        redteam=file.redteam or "",
    )
    return _identified(definition)


def _base(
    path: Path, name: str, files: Mapping[str, tuple[Path, _File]], done: Mapping[str, Definition]
) -> Definition:
    if name not in files:
        raise ToolchainError(
            f"{path}: base: no toolchain is called {name!r}",
            "correct it, or name the directory that holds it as well",
        )
    if files[name][1].base is not None:
        raise ToolchainError(
            f"{path}: base: {name} is an overlay itself", "start from a clean toolchain"
        )
    return done[name]


def _linked(item: Definition, path: Path, known: Mapping[str, Definition]) -> Definition:
    """``item`` with its linker checked, and made part of its identity."""
    if item.linker is None:
        return item
    linker = known.get(item.linker)
    if linker is None:
        raise ToolchainError(
            f"{path}: linker: no toolchain is called {item.linker!r}",
            "correct it, or name the directory that holds it as well",
        )
    if "link" not in linker.tools:
        raise ToolchainError(
            f"{path}: linker: {item.linker} has no tool called link", "add [tools.link] to it"
        )
    return replace(item, identity=_digest({"self": item.identity, "linker": linker.identity}))


def _identified(item: Definition) -> Definition:
    """``item`` with its identity: everything that is pinned, nothing of where it lies."""
    content: dict[str, object] = {
        "name": item.name,
        "recipe": item.recipe,
        "driver": _sha256(Path(item.driver)) if item.driver else None,
        "linker": item.linker,
        "target": item.target,
        "tools": {name: asdict(tool) for name, tool in item.tools.items()},
        "limits": asdict(item.limits),
    }
    if item.redteam:
        content["redteam"] = item.redteam
    if item.image is not None:
        dockerfile = item.image.dockerfile
        content["image"] = {
            **asdict(item.image),
            "dockerfile": _sha256(Path(dockerfile)) if dockerfile else None,
        }
    return replace(item, identity=_digest(content))


def _lock(path: Path, file: _File, image: Image | None) -> Path | None:
    """The lock; None for an image that consists of no wheels."""
    name = file.lock or f"{path.name.removesuffix('.toml')}.lock"
    if image is not None and image.only and file.lock is None and not file.requirements:
        return None
    lock = _inside(path, "lock", name)
    check_requirements(path, file.requirements or (), lock)
    return lock


def _image(path: Path, image: Image) -> Image:
    """``image`` checked, its Dockerfile found. An image that is not built here is an only one."""
    ways = [key for key in ("dockerfile", "digest", "reference") if getattr(image, key)]
    if len(ways) != 1:
        raise ToolchainError(
            f"{path}: image: needs dockerfile, digest or reference", "give one of the three"
        )
    if not re.fullmatch(r"linux/(amd64|arm64)", image.platform):
        raise ToolchainError(
            f"{path}: image.platform: {image.platform!r} is not known",
            'write "linux/amd64" or "linux/arm64"',
        )
    if image.digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", image.digest):
        raise ToolchainError(
            f"{path}: image.digest: {image.digest!r} is no image id",
            "write sha256: and 64 hexadecimal digits, as `docker images --no-trunc` shows it",
        )
    if image.reference and not re.fullmatch(r"[^\s@]+@sha256:[0-9a-f]{64}", image.reference):
        raise ToolchainError(
            f"{path}: image.reference: {image.reference!r} is not pinned",
            "write NAME@sha256:DIGEST: a tag can move",
        )
    if not image.dockerfile:
        if image.base:
            raise ToolchainError(f"{path}: image.base: belongs to a dockerfile", "remove the key")
        return replace(image, only=True)
    base = image.base or ""
    if base not in BASES:
        raise ToolchainError(
            f"{path}: image.base: {base!r} is not known", f"choose one of {', '.join(BASES)}"
        )
    if BASES[base] != image.platform:
        raise ToolchainError(
            f"{path}: image.platform: {base} is for {BASES[base]}", "correct one of the two"
        )
    return replace(image, dockerfile=str(_dockerfile(path, image.dockerfile)))


def _dockerfile(path: Path, name: str) -> Path:
    """A Dockerfile of the toolchain's own folder, or one that comes with the harness."""
    if _is_below(name) and not (path.parent / name).exists() and (DOCKERFILES / name).is_file():
        return DOCKERFILES / name
    return _inside(path, "image.dockerfile", name)


def _stem(path: Path) -> dict[str, str]:
    match = _STEM.fullmatch(path.name.removesuffix(".toml"))
    if not match or not re.fullmatch(r"[a-z][a-z0-9_]*", path.parent.name):
        raise ToolchainError(
            f"{path}: not named as a toolchain is",
            "rename it to COMPILER/VERSION-PUBLISHER-ARCH.toml",
        )
    return match.groupdict()


def _matches_stem(path: Path, key: str, value: str, named: str) -> None:
    if value != named:
        raise ToolchainError(
            f"{path}: {key}: {value!r}, but the file name says {named!r}",
            "rename the file or correct it",
        )


def _driver(path: Path, file: _File) -> Path | None:
    if file.driver:
        return _inside(path, "driver", file.driver)
    return _inside(path, "driver", "driver.py") if (path.parent / "driver.py").exists() else None


def _inside(path: Path, key: str, value: str) -> Path:
    """The existing file or directory ``value`` below the folder of ``path``, absolute.

    A file must not be larger than definitions may be.
    """
    if not _is_below(value) or not (path.parent / value).resolve().is_relative_to(
        path.parent.resolve()
    ):
        raise ToolchainError(
            f"{path}: {key}: {value!r} leaves the folder",
            "use a path inside the toolchain's folder",
        )
    found = path.parent / value
    if not (found.is_dir() if key == "overlay" else found.is_file()):
        hint = "make it with toolchains/lock.py" if key == "lock" else "add it, or correct the path"
        raise ToolchainError(f"{path}: {key}: {value!r} does not exist", hint)
    if found.is_file():
        read_limited(found, ToolchainError)
    return found.absolute()


def _is_below(value: str) -> bool:
    parts = PurePosixPath(value).parts
    return bool(parts) and not value.startswith("/") and ".." not in parts and "\0" not in value


def _tools(path: Path, tools: dict[str, Tool]) -> dict[str, Tool]:
    for name, tool in tools.items():
        if not _is_below(tool.path):
            raise ToolchainError(
                f"{path}: tools.{name}.path: {tool.path!r} leaves the environment",
                "use a path below its root",
            )
    return tools


def _limits(path: Path, limits: Limits) -> Limits:
    for limit in fields(limits):
        least, most = _RANGES[limit.name]
        value = getattr(limits, limit.name)
        if not least <= value <= most:
            raise ToolchainError(
                f"{path}: limits.{limit.name}: {value} is out of range", f"use {least} to {most}"
            )
    return limits


def _check_target(path: Path, target: Mapping[str, str]) -> None:
    for key in ("mtriple", "mcpu"):
        if not target.get(key):
            raise ToolchainError(
                f"{path}: target.{key}: missing key",
                "name it: the host must not decide what is built",
            )
    if target["mcpu"] in ("native", "host"):
        raise ToolchainError(
            f"{path}: target.mcpu: {target['mcpu']!r} means another CPU on every machine",
            'name one, such as "x86-64-v3"',
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
