"""What a compiler has after each of its passes: two such dumps, and where they part.

A dump is made on demand, by a build of its own (``build.run_build`` with ``passes``). It is a
claim like every dump, and it decides nothing: it says which pass to look at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from harness import untrusted
from harness.errors import HarnessError
from harness.text import printable
from harness.untrusted import UntrustedFileError

MAX_INDEX_BYTES = 4 * 2**20
MAX_PASSES = 4000
MAX_BYTES = 512 * 2**20  # of all texts together
_FILE = re.compile(r"[0-9]{4}-[A-Za-z0-9._]{1,80}/module\.py")

Same = Callable[[bytes, bytes], bool]


class PassesError(HarnessError):
    """A dump is not what the driver contract asks for."""


@dataclass(frozen=True)
class _Entry:
    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    file: str | None


@dataclass(frozen=True)
class _Index:
    __pydantic_config__ = ConfigDict(extra="forbid")

    passes: Annotated[list[_Entry], Field(max_length=MAX_PASSES)]
    left_out: int


@dataclass(frozen=True)
class Pass:
    """``name`` is safe to print. ``text``: what the compiler has after it; None if nothing."""

    name: str
    text: bytes | None


@dataclass(frozen=True)
class Parting:
    """The first pass of both sides after which they differ, having been the same before it.

    ``left`` and ``right``: its number on each side, counted from 0. ``only_left`` and
    ``only_right``: passes that ran on one side only, since the sides were last seen to be the same.
    ``again``: later passes after which they differ once more, having been the same in between.
    """

    name: str
    left: int
    right: int
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    again: tuple[str, ...] = ()


def read(folder: Path) -> tuple[Pass, ...]:
    """The dump in ``folder``, which a hostile compiler wrote. Raises PassesError."""
    try:
        index = TypeAdapter(_Index).validate_json(
            untrusted.read(folder, "index.json", MAX_INDEX_BYTES), strict=True
        )
        texts: dict[str, bytes] = {}
        room = MAX_BYTES
        for entry in index.passes:
            if entry.file is not None and entry.file not in texts:
                texts[entry.file] = _text(folder, entry.file, room)
                room -= len(texts[entry.file])
    except ValidationError:
        raise PassesError("the dump of passes has a broken index") from None
    except UntrustedFileError as error:
        raise PassesError(f"the dump of passes is broken: {error}") from None
    return tuple(
        Pass(printable(entry.name, 80), texts[entry.file] if entry.file else None)
        for entry in index.passes
    )


def _text(folder: Path, name: str, limit: int) -> bytes:
    if not _FILE.fullmatch(name):
        raise UntrustedFileError(f"{printable(name, 100)} is no name of a pass")
    return untrusted.read(folder, name, limit)


def parting(left: Sequence[Pass], right: Sequence[Pass], same: Same) -> Parting | None:
    """Where two dumps part; None if they are the same after every pass that both have. Pure.

    Passes are paired by name, in order. A pass whose text was left out is passed over.
    """
    names = [[_plain(each.name) for each in side] for side in (left, right)]
    found: Parting | None = None
    again: dict[str, None] = {}
    together = True
    seen = (0, 0)  # how many passes of each side lie behind
    for block in SequenceMatcher(None, names[0], names[1], autojunk=False).get_matching_blocks():
        for i, j in zip(
            range(block.a, block.a + block.size), range(block.b, block.b + block.size), strict=True
        ):
            one, other = left[i].text, right[j].text
            if one is None or other is None:
                continue
            before, together = together, one == other or same(one, other)
            if together:
                seen = (i + 1, j + 1)
            elif found is None:
                only = [_only(names, side, seen, (i, j)) for side in (0, 1)]
                mine, theirs = (
                    tuple(side[at].name for at in ats)
                    for side, ats in zip((left, right), only, strict=True)
                )
                found = Parting(left[i].name, i, j, mine, theirs)
            elif before:
                again[left[i].name] = None
    return replace(found, again=tuple(again)) if found else None


def _only(
    names: list[list[str]], side: int, seen: tuple[int, int], until: tuple[int, int]
) -> list[int]:
    """Which passes between ``seen`` and ``until`` one side has and the other has not."""
    other = names[1 - side][seen[1 - side] : until[1 - side]]
    return [at for at in range(seen[side], until[side]) if names[side][at] not in other]


def _plain(name: str) -> str:
    """A pass's name without its namespace: TVM renamed ``tir`` to ``tirx`` and ``s_tir``."""
    return name.rpartition(".")[2]
