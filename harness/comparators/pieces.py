"""A text that is cut into pieces with names; what is found in two of them.

Pieces and the rest between them are the whole file, so nothing can change unseen. They are matched
by name, then by content.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.comparators.interface import Bounds, Examined, NotThisFormatError, Part
from harness.comparators.mapped import Source
from harness.text import printable

MAX_PIECES = 200_000  # in one file
MAX_REST = 2**25  # bytes outside of all pieces
NAME = 160  # characters of a name that are shown
Key = tuple[str, bytes, int]  # kind, name, which of several with the same name


@dataclass(frozen=True, slots=True)
class Piece:
    """``start`` and ``end`` in bytes, whole lines."""

    kind: str
    name: bytes
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start

    @property
    def shown(self) -> str:
        return printable(self.name, NAME)


@dataclass
class Pieces:
    """Everything with a name, in the order of the file; the rest is what lies between."""

    source: Source
    named: dict[Key, Piece] = field(default_factory=dict)
    _count: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def add(self, piece: Piece) -> None:
        if len(self.named) >= MAX_PIECES:
            raise NotThisFormatError(f"more than {MAX_PIECES} functions and other named parts")
        number = self._count.get((piece.kind, piece.name), 0)
        self._count[piece.kind, piece.name] = number + 1
        self.named[piece.kind, piece.name, number] = piece

    def read(self, piece: Piece) -> bytes:
        return self.source.read(piece.start, piece.end)

    def rest(self, others: Iterable[tuple[int, int]] = ()) -> list[tuple[int, int]]:
        """What neither the pieces nor ``others`` cover. Raises NotThisFormatError if it is much."""
        covered = sorted([*((p.start, p.end) for p in self.named.values()), *others])
        gaps, position = [], 0
        for start, end in [*covered, (self.source.size, self.source.size)]:
            if start > position:
                gaps.append((position, start))
            position = max(position, end)
        if sum(end - start for start, end in gaps) > MAX_REST:
            raise NotThisFormatError(f"more than {MAX_REST} bytes that belong to no named part")
        return gaps


@dataclass
class Findings:
    """What has been found so far, within the limits."""

    bounds: Bounds
    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    same: int = 0
    truncated: bool = False
    started: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """What is left of the time; never below 0."""
        return max(0.0, self.started + self.bounds.seconds - time.monotonic())

    @property
    def full(self) -> bool:
        return len(self.parts) >= self.bounds.parts

    def add(self, part: Part) -> None:
        if self.full:
            self.truncated = True
        else:
            self.parts.append(part)

    def examined(self, form: str) -> Examined:
        """There is always something: this is called for two files that are not equal."""
        if not self.parts and not self.notes:
            self.notes.append("the bytes differ, but no part does: it is the order or the layout")
        return Examined(form, tuple(self.parts), self.same, self.truncated, tuple(self.notes))


def by_content(
    left: dict[Key, Piece],
    right: dict[Key, Piece],
    of_left: Callable[[Piece], bytes | str],
    of_right: Callable[[Piece], bytes | str],
) -> list[tuple[Key, Key]]:
    """Pairs of one kind and the same content, in order; each piece at most once."""
    found: dict[tuple[str, bytes | str], list[Key]] = {}
    for key, piece in right.items():
        found.setdefault((piece.kind, of_right(piece)), []).append(key)
    for keys in found.values():
        keys.reverse()
    pairs = []
    for key, piece in left.items():
        keys = found.get((piece.kind, of_left(piece)), [])
        if keys:
            pairs.append((key, keys.pop()))
    return pairs


def moved(left: Iterable[Key], right: Iterable[Key]) -> list[Key]:
    """The fewest of the common keys without which the rest has one order on both sides."""
    position = {key: number for number, key in enumerate(right)}
    keys = [key for key in left if key in position]
    ends: list[int] = []  # smallest last position of a rising sequence of each length
    who: list[int] = []
    before: list[int] = []
    for index, key in enumerate(keys):
        length = bisect.bisect_left(ends, position[key])
        before.append(who[length - 1] if length else -1)
        ends[length : length + 1] = [position[key]]
        who[length : length + 1] = [index]
    kept, index = set(), who[-1] if who else -1
    while index >= 0:
        kept.add(index)
        index = before[index]
    return [key for index, key in enumerate(keys) if index not in kept]
