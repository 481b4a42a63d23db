"""Code that belongs to no function: filler, or something hidden there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from harness.comparators.elf_look import Look
from harness.comparators.elf_tables import Section, Symbol
from harness.comparators.interface import Part, Status
from harness.comparators.tensor import Blob
from harness.comparators.text import differing_part

WHOLE = 2**24  # bytes that are put together to be shown


def compare_filler(
    look: Look, s: Section, mine: Sequence[Symbol], t: Section, theirs: Sequence[Symbol]
) -> None:
    a, b = outside(mine, s), outside(theirs, t)
    sizes = sum(j - i for i, j in a), sum(j - i for i, j in b)
    lines: tuple[str, ...] = ()
    if max(sizes) > WHOLE:
        if digest_of(look.left.blob, s, a) == digest_of(look.right.blob, t, b):
            return
        note = "too long to be shown here"
    else:
        left = b"".join(look.left.blob.read(s.offset + i, j - i) for i, j in a)
        right = b"".join(look.right.blob.read(t.offset + i, j - i) for i, j in b)
        if left == right:
            return
        note = "put together"
        lines = differing_part(left, right, max_lines=look.bounds.lines).lines
    name = f"{s.key} (between functions)"
    note = f"bytes of code that belong to no function, {note}"
    look.rest.append(Part("filler", name, Status.CHANGED, *sizes, lines, note=note))


def outside(functions: Iterable[Symbol], section: Section) -> list[tuple[int, int]]:
    """The (start, end) within the section that no function covers."""
    found = []
    done = 0
    for one in functions:  # by place
        if one.section == section.number:
            if one.offset > done:
                found.append((done, one.offset))
            done = max(done, one.offset + one.size)
    if done < section.size:
        found.append((done, section.size))
    return found


def digest_of(blob: Blob, section: Section, ranges: Iterable[tuple[int, int]]) -> bytes:
    """Of the ranges of the section, put together."""
    found = hashlib.sha256()
    for start, end in ranges:
        for block in blob.blocks(section.offset + start, end - start):
            found.update(block)
    return found.digest()
