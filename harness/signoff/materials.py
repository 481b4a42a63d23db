"""What a stranger needs to build again what was signed: files, by name and content.

| name | what it is |
|---|---|
| ``model``, ``model/external/PATH`` | the model and its external data |
| ``toolchains/COMPILER/…`` | definitions, locks, drivers, overlays, Dockerfiles, replay recipes |
| ``toolchains-2/COMPILER/…`` | the same, out of a second directory of toolchains, and so on |
| ``ledger``, ``policy`` | the explanations and the policy that the verdict was given by |

With a toolchain goes what it starts from and links with, though the run never named it. Whether
the files suffice is tried here: they are laid out, read as toolchains, and must have the very
identities that the run had. So a definition that was edited since the run is refused as well.

Not among them: the wheels, which the locks pin; and Debian's packages, of which a base image is
made and which nothing pins, but the digest of the image that came out, in the build's record.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness import toolchains
from harness.errors import ToolchainError, UsageError
from harness.models import Model, Toolchain
from harness.replay import Recipe, load_exact, load_recipes
from harness.signoff.profilematerial import profile_material, read_profile
from harness.signoff.provenance import EXTERNAL
from harness.store import Store
from harness.text import printable
from harness.tomlfile import read_limited
from harness.toolchains import DOCKERFILES, MAX_OVERLAY_BYTES, Definition, overlay_files

__all__ = [
    "Material",
    "checked",
    "lay_out",
    "of_file",
    "of_model",
    "of_toolchains",
    "profile_material",
    "read_profile",
]

RECIPES = "replay.toml"
MAX_FILES = 50_000
HOSTILE = "no honest bundle holds this"
_BLOCK = 1 << 20
_FOLDER = re.compile(r"toolchains(-[1-9][0-9]{0,2})?")


@dataclass(frozen=True)
class Material:
    """One file. ``content``: its bytes, or where they lie, which must still have that digest.

    ``executable``: whether its owner may run it; an overlay's files keep that.
    """

    name: str
    sha256: str
    content: bytes | Path
    executable: bool = False


def of_model(model: Model, store: Store) -> tuple[Material, ...]:
    """The model and its external data, from the store, which verifies them."""
    named = (("model", model.sha256), *((EXTERNAL + path, sha) for path, sha in model.external))
    return tuple(Material(name, sha256, store.verified(sha256)) for name, sha256 in named)


def of_file(name: str, path: Path) -> Material:
    """A small file, such as the ledger or the policy."""
    return _material(name, read_limited(path, UsageError))


def of_toolchains(
    wanted: Sequence[Toolchain],
    known: Mapping[str, Definition],
    folders: Sequence[Path],
    recipes: Mapping[str, tuple[Recipe, ...]],
) -> tuple[Material, ...]:
    """All files that define ``wanted``, those of a run: its toolchains, replayers and linkers.

    ``known``: what ``folders`` hold, as :func:`harness.toolchains.load` read it. ``recipes``: those
    of the run, by compiler. Raises ToolchainError where the files do not define what the run used.
    """
    places = [folder.absolute() for folder in folders]
    wanted = [*wanted, *_exact(wanted, known, places)]
    found: dict[str, Material] = {}
    for name in _closure([toolchain.name for toolchain in wanted], known):
        for material in _files_of(known[name], places):
            found.setdefault(material.name, material)
    for compiler in recipes:
        if place := _with_recipes(compiler, places):
            path = place / compiler / RECIPES
            material = _material(_name(path, places), read_limited(path, ToolchainError))
            found[material.name] = material
    made = tuple(found[name] for name in sorted(found))
    _check(made, wanted, recipes)
    return made


def lay_out(materials: Iterable[Material], folder: Path) -> tuple[Path, ...]:
    """Write the materials of toolchains below ``folder``; return the directories of toolchains, in
    the order in which :func:`harness.toolchains.load` takes them.

    ``folder`` is empty, and ours. Names may come from a stranger: one that is not plainly a path
    below ``toolchains``, and content that does not have its digest, is a ToolchainError. Other
    materials are passed over.
    """
    left = MAX_OVERLAY_BYTES
    for count, material in enumerate(materials):
        if count >= MAX_FILES:
            raise ToolchainError(f"more than {MAX_FILES} materials", HOSTILE)
        if not _FOLDER.fullmatch(material.name.partition("/")[0]):
            continue
        target = folder / checked(material.name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                left -= _copy(material, out, left)
            target.chmod(0o755 if material.executable else 0o644)
        except OSError as error:
            shown = printable(material.name, 200)
            raise ToolchainError(f"material {shown} cannot be written: {error.strerror}") from error
    return tuple(sorted(folder.glob("toolchains*"), key=_rank))


def checked(name: str) -> str:
    """``name``, if it is a plain relative path; else a ToolchainError."""
    parts = name.split("/")
    plain = name.isprintable() and "\\" not in name and len(name) <= 1000
    if not plain or not 1 < len(parts) <= 40 or any(part in ("", ".", "..") for part in parts):
        raise ToolchainError(f"material {printable(name, 200)!r} is no plain path", HOSTILE)
    return name


def _exact(
    wanted: Sequence[Toolchain], known: Mapping[str, Definition], places: Sequence[Path]
) -> Iterator[Definition]:
    """Replayers that recipes name for the toolchains' releases; a run asks them where it must."""
    for toolchain in wanted:
        place = _with_recipes(toolchain.compiler, places)
        name = load_exact(place / toolchain.compiler).get(toolchain.version) if place else None
        if name is not None and name in known:
            yield known[name]


def _closure(names: Iterable[str], known: Mapping[str, Definition]) -> list[str]:
    """``names``, and all that they start from or link with, sorted."""
    pending, found = list(names), set[str]()
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            definition = toolchains.find(known, name)
            pending += [definition.linker] if definition.linker else []
            pending += [definition.base.name] if definition.base else []
    return sorted(found)


def _files_of(definition: Definition, places: Sequence[Path]) -> Iterator[Material]:
    """The files of one definition. What it takes over from its base, it shares with that."""
    folder = Path(definition.folder)
    files = [folder / f"{definition.name.partition('/')[2]}.toml"]
    files += [
        Path(path) for path in (definition.lock, definition.driver, definition.prepare) if path
    ]
    for path in files:
        yield _material(_name(path, places), read_limited(path, ToolchainError))
    dockerfile = definition.image.dockerfile if definition.image else None
    if dockerfile:
        path = Path(dockerfile)
        if path.is_relative_to(DOCKERFILES):  # found there; laid out, it is the toolchain's own
            name = _name(folder / path.relative_to(DOCKERFILES), places)
        else:
            name = _name(path, places)
        yield _material(name, read_limited(path, ToolchainError))
    if definition.overlay:
        for _, path in overlay_files(Path(definition.overlay)):
            with path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            executable = bool(path.stat().st_mode & 0o100)
            yield Material(_name(path, places), sha256, path, executable)


def _name(path: Path, places: Sequence[Path]) -> str:
    """``toolchains/…``, for a path below one of the directories of toolchains."""
    for number, place in enumerate(places, 1):
        if path.is_relative_to(place):
            top = "toolchains" if number == 1 else f"toolchains-{number}"
            return checked(f"{top}/{path.relative_to(place).as_posix()}")
    raise ToolchainError(
        f"{path} is below no directory of toolchains", "name its directory as well"
    )


def _check(
    made: Sequence[Material],
    wanted: Sequence[Toolchain],
    recipes: Mapping[str, tuple[Recipe, ...]],
) -> None:
    with tempfile.TemporaryDirectory(prefix="materials-") as folder:
        places = lay_out(made, Path(folder))
        found = toolchains.load(places) if places else {}
        for toolchain in wanted:
            same = found.get(toolchain.name)
            if same is None or same.identity != toolchain.identity:
                raise ToolchainError(
                    f"{toolchain.name}: its files are no longer those that the run used",
                    "run again",
                )
        for compiler, known in recipes.items():
            place = _with_recipes(compiler, places)
            if known != (load_recipes(place / compiler) if place else ()):
                raise ToolchainError(
                    f"{compiler}/{RECIPES}: is no longer what the run used", "run again"
                )


def _with_recipes(compiler: str, places: Sequence[Path]) -> Path | None:
    """The directory whose recipes a run takes for a compiler: the first that has any."""
    return next((place for place in places if load_recipes(place / compiler)), None)


def _material(name: str, content: bytes) -> Material:
    return Material(name, hashlib.sha256(content).hexdigest(), content)


def _copy(material: Material, out: BinaryIO, most: int) -> int:
    """Write the content, and return its size, which may be ``most`` bytes; its digest must fit."""
    digest, size = hashlib.sha256(), 0
    with _opened(material.content) as source:
        while block := source.read(_BLOCK):
            digest.update(block)
            size += len(block)
            if size > most:
                raise ToolchainError(f"materials larger than {MAX_OVERLAY_BYTES} bytes", HOSTILE)
            out.write(block)
    if digest.hexdigest() != material.sha256:
        raise ToolchainError(
            f"material {printable(material.name, 200)} does not have its digest", HOSTILE
        )
    return size


def _opened(content: bytes | Path) -> BinaryIO:
    if isinstance(content, bytes):
        return io.BytesIO(content)
    return open(os.open(content, os.O_RDONLY | os.O_NOFOLLOW), "rb")


def _rank(folder: Path) -> int:
    return int(folder.name.partition("-")[2] or 1)
