"""A profile as a file, so that independence can be computed from what others signed. Pure.

``{"origin": …, "files": [{"sha256": …, "size": …, "parts": […]}, …]}``, sorted by digest. ``parts``
says where a file counts: ``own``, ``opened``, and the names of components; see
:class:`harness.components.Profile`. There is one way to write a profile, and no other is read.

What it says is its author's claim. Reading makes sure only that it does not contradict itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from harness.components import NAMES, Files, Profile, content_digest
from harness.models import Origin, Strict
from harness.signoff.fields import MAX_TEXT, Count, Sha256, validated
from harness.text import printable

MAX_BYTES = 64 * 2**20
MAX_FILES = 200_000
OWN, OPENED = "own", "opened"

Part = Literal["own", "opened", "frontend", "compiler", "llvm", "linker"]


@dataclass(frozen=True)
class _Entry:
    __pydantic_config__ = Strict

    sha256: Sha256
    size: Count
    parts: Annotated[tuple[Part, ...], Field(max_length=6)]


@dataclass(frozen=True)
class _File:
    __pydantic_config__ = Strict

    origin: Origin
    files: Annotated[tuple[_Entry, ...], Field(max_length=MAX_FILES)]


_ADAPTER = TypeAdapter(_File)


def profile_material(profile: Profile) -> bytes:
    """The one way to write ``profile``."""
    places: list[tuple[Part, Files]] = [("own", profile.own), ("opened", profile.opened)]
    places += [(name, profile.parts[name]) for name in NAMES]  # type: ignore[misc]
    sizes = {digest: size for _, files in places for digest, size in files.items()}
    entries = tuple(
        _Entry(digest, sizes[digest], tuple(name for name, files in places if digest in files))
        for digest in sorted(sizes)
    )
    return _ADAPTER.dump_json(_File(profile.origin, entries))


def read_profile(material: bytes) -> Profile:
    """The profile in ``material``. ValueError, in one line, for anything that is not one."""
    if len(material) > MAX_BYTES:
        raise ValueError(f"profile: larger than {MAX_BYTES} bytes")
    file = validated(material, _ADAPTER)
    if any(printable(text, MAX_TEXT) != text for text in _texts(asdict(file.origin))):
        raise ValueError("profile: origin: a text is too long, or not printable")

    def part(name: str) -> dict[str, int]:
        return {entry.sha256: entry.size for entry in file.files if name in entry.parts}

    profile = Profile(file.origin, part(OWN), part(OPENED), {name: part(name) for name in NAMES})
    if profile_material(profile) != material:
        raise ValueError("profile: not written as profiles are")
    components = {component.name: component for component in file.origin.components}
    if tuple(components) != NAMES or len(file.origin.components) != len(NAMES):
        raise ValueError(f"profile: origin.components: not {', '.join(NAMES)}")
    for name, files in profile.parts.items():
        said = components[name]
        found = (len(files), sum(files.values()), content_digest(files))
        if (said.files, said.size, said.sha256) != found:
            raise ValueError(f"profile: {name}: the files are not those that its origin counts")
        if not files.keys() <= profile.opened.keys():
            raise ValueError(f"profile: {name}: holds files that were not opened")
    if not profile.own.keys() <= profile.opened.keys():
        raise ValueError("profile: own: holds files that were not opened")
    return profile


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
