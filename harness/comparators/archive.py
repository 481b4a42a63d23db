"""Two archives, zip or tar (also packed by gzip): which members differ, and in what.

Nothing is extracted to disk. What an archive unpacks to is counted while it is unpacked, over all
levels of archives within archives, and the look ends where an honest archive would not go.
"""

from __future__ import annotations

import io
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from harness.comparators.archive_listing import BLOCK, BROKEN, MAX_NAME, Budget, Listing, Member
from harness.comparators.archive_reader import reader, unpack
from harness.comparators.interface import Bounds, Examined, NotThisFormatError, Part, Status
from harness.comparators.text import differing_part
from harness.text import printable

MAX_DEPTH = 3  # archives within archives


class Archive:
    """zip and tar. An archive within an archive is looked into where it differs."""

    format = "archive"

    def examine(self, left: Path, right: Path, bounds: Bounds) -> Examined:
        budget = Budget(time.monotonic() + bounds.seconds)
        with left.open("rb") as a, right.open("rb") as b:
            return compare(a, b, bounds, budget, 0)


def compare(a: BinaryIO, b: BinaryIO, bounds: Bounds, budget: Budget, depth: int) -> Examined:
    try:
        return Pair(a, b, bounds, budget, depth).examined()
    except BROKEN as problem:
        why = printable(str(problem), MAX_NAME) or type(problem).__name__
        raise NotThisFormatError(f"not a whole zip or tar archive: {why}") from None


@dataclass
class Pair:
    a: BinaryIO
    b: BinaryIO
    bounds: Bounds
    budget: Budget
    depth: int

    def examined(self) -> Examined:
        one, two = reader(self.a, self.budget), reader(self.b, self.budget)
        if one.format != two.format:
            raise NotThisFormatError(f"two formats: {one.format} and {two.format}")
        mine, theirs = one.listing(), two.listing()
        unpack(one, mine, theirs)
        unpack(two, theirs, mine)
        pairs, lost, fresh, renamed = match(mine.members, theirs.members)
        changed = [(x, y) for x, y in pairs if (x.digest, x.size) != (y.digest, y.size)]
        shown = changed[: self.bounds.parts]
        contents = (
            one.contents({x.key for x, _ in shown}),
            two.contents({y.key for _, y in shown}),
        )
        parts: list[Part] = []
        notes: list[str] = []
        for x, y in shown:
            parts += self.look_into(x, contents[0].get(x.key), y, contents[1].get(y.key), notes)
        parts += [
            Part("member", x.key, Status.RENAMED, x.size, y.size, new_name=y.key)
            for x, y in renamed
        ]
        parts += [Part("member", x.key, Status.REMOVED, x.size) for x in lost]
        parts += [Part("member", y.key, Status.ADDED, None, y.size) for y in fresh]
        notes = [
            *attribute_notes([*pairs, *renamed]), *structure_notes(mine, theirs, pairs), *notes
        ]  # fmt: skip
        if not parts and not notes and not same_bytes(self.a, self.b, self.budget):
            notes.append("the members are the same; the archives are packed or framed otherwise")
        hidden = len(parts) - self.bounds.parts + len(changed) - len(shown)
        if hidden > 0:
            notes.insert(0, f"{hidden:,} more parts differ")
        same = len(pairs) - len(changed)
        kept = tuple(parts[: self.bounds.parts])
        return Examined(one.format, kept, same, hidden > 0, tuple(notes[:40]))

    def look_into(
        self, x: Member, left: bytes | None, y: Member, right: bytes | None, notes: list[str]
    ) -> list[Part]:
        """The parts of a member that differs."""
        if left is None or right is None:
            note = "too long, or not readable: compared by digest"
            return [Part("member", x.key, Status.CHANGED, x.size, y.size, note=note)]
        streams = io.BytesIO(left), io.BytesIO(right)
        try:
            if self.depth == MAX_DEPTH:
                raise NotThisFormatError(f"archives nested deeper than {MAX_DEPTH}")
            inner = compare(*streams, self.bounds, self.budget, self.depth + 1)
        except NotThisFormatError:
            lines = differing_part(left, right, max_lines=self.bounds.lines, max_seconds=1).lines
            return [Part("member", x.key, Status.CHANGED, x.size, y.size, lines)]
        notes += [f"in {x.key}: {note}" for note in inner.notes]
        whole = Part("member", x.key, Status.CHANGED, x.size, y.size, note=inner.format)
        return [whole, *(replace(one, name=f"{x.key} → {one.name}") for one in inner.parts)]


def match(
    mine: list[Member], theirs: list[Member]
) -> tuple[list[tuple[Member, Member]], list[Member], list[Member], list[tuple[Member, Member]]]:
    """Pairs of one name, what is left of each side, and pairs of one content."""
    by_key = {one.key: one for one in theirs}
    pairs, rest = [], []
    for one in mine:
        other = by_key.pop(one.key, None)
        if other is None:
            rest.append(one)
        else:
            pairs.append((one, other))
    by_content: defaultdict[tuple[int, bytes], list[Member]] = defaultdict(list)
    for other in by_key.values():
        if other.size:
            by_content[other.size, other.digest].append(other)
    lost, renamed = [], []
    for one in rest:
        twins = by_content.get((one.size, one.digest))
        if twins:
            other = twins.pop(0)
            del by_key[other.key]
            renamed.append((one, other))
        else:
            lost.append(one)
    return pairs, lost, list(by_key.values()), renamed


def attribute_notes(pairs: list[tuple[Member, Member]]) -> list[str]:
    """One note for each attribute that differs: mode, time …"""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for x, y in pairs:
        for name in dict.fromkeys((*x.attributes, *y.attributes)):
            old, new = x.attributes.get(name, "-"), y.attributes.get(name, "-")
            if old != new:
                found[name].append(f"{x.key}: {old} → {new}")
        alike = x.attributes == y.attributes and (x.size, x.digest) == (y.size, y.digest)
        if alike and x.headers != y.headers and x.stored == y.stored:
            found["how a header is written"].append(x.key)
    return [
        f"{name} differs for {len(which):,} members, first {which[0]}"
        for name, which in found.items()
    ]


def structure_notes(
    mine: Listing, theirs: Listing, pairs: list[tuple[Member, Member]]
) -> list[str]:
    notes = []
    common = [{x.key for x, _ in pairs}, {y.key for _, y in pairs}]
    orders = [
        [one.key for one in side.members if one.key in keys]
        for side, keys in zip((mine, theirs), common, strict=True)
    ]
    if orders[0] != orders[1]:
        notes.append("the members are in another order")
    if mine.structure != theirs.structure:
        notes.append("bytes that belong to no member differ: padding, comments or what is behind")
    if mine.frame != theirs.frame:
        notes.append(f"the header of the packing differs: {mine.frame} → {theirs.frame}")
    packed = sum(x.digest == y.digest and x.stored != y.stored for x, y in pairs)
    if packed:
        notes.append(f"{packed:,} members of the same content are packed otherwise")
    return notes


def same_bytes(a: BinaryIO, b: BinaryIO, budget: Budget) -> bool:
    a.seek(0)
    b.seek(0)
    while True:
        x, y = a.read(BLOCK), b.read(BLOCK)
        budget.read(len(x))
        if x != y:
            return False
        if not x:
            return True
