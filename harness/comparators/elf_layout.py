"""The headers of two ELF files, and the bytes that no section covers."""

from __future__ import annotations

from harness.comparators.elf_file import ElfFile
from harness.comparators.elf_look import Look
from harness.comparators.elf_text import (
    header_rows,
    section_rows,
    segment_rows,
    table_bytes,
    text_diff,
)
from harness.comparators.interface import Part, Status
from harness.comparators.tensor import Blob, around, equal, equal_from_start


def compare_headers(look: Look) -> None:
    a, b = look.left, look.right
    sizes = a.header_size, b.header_size
    if a.blob.read(0, sizes[0]) != b.blob.read(0, sizes[1]):
        lines = text_diff(header_rows(a), header_rows(b), look.bounds.lines)
        look.rest.append(Part("header", "ELF header", Status.CHANGED, *sizes, lines))
    if a.segments != b.segments:
        lines = text_diff(segment_rows(a), segment_rows(b), look.bounds.lines)
        look.rest.append(Part("header", "program headers", Status.CHANGED, None, None, lines))
    tables = (table_bytes(a), table_bytes(b))
    if tables[0] != tables[1]:
        rows = [section_rows(one) for one in (a, b)]
        lines = text_diff(rows[0], rows[1], look.bounds.lines)
        moved = " (only where names or content lie)" if not lines else ""
        note = f"places, sizes or attributes of sections{moved}"
        sizes = len(tables[0]), len(tables[1])
        look.rest.append(
            Part("header", "section headers", Status.CHANGED, *sizes, lines, note=note)
        )


def compare_gaps(look: Look) -> None:
    """What belongs to no section: padding, and whatever follows the end."""
    mine, theirs = gaps_of(look.left), gaps_of(look.right)
    for name in dict.fromkeys((*mine, *theirs)):
        i, j = mine.get(name), theirs.get(name)
        a, b = (i[1] - i[0] if i else 0), (j[1] - j[0] if j else 0)
        start = i[0] if i else 0, j[0] if j else 0
        if a == b and equal(look.left.blob, start[0], look.right.blob, start[1], a):
            continue
        if len(look.rest) >= look.bounds.parts:
            look.notes.append("more gaps between sections differ")
            look.cut = True
            return
        status = Status.CHANGED if i and j else Status.REMOVED if i else Status.ADDED
        first = equal_from_start(look.left.blob, start[0], look.right.blob, start[1], min(a, b))
        where = "left" if i else "right"
        zeros = is_zero(look.left.blob, start[0], a) and is_zero(look.right.blob, start[1], b)
        place = f"at 0x{(i or j or (0,))[0]:x} of the {where} file"
        note = f"{'zeros only; ' if zeros else ''}belongs to no section; {place}"
        lines = around(look.left.blob, start[0], look.right.blob, start[1], (a, b), first)
        look.rest.append(
            Part(
                "gap",
                name,
                status,
                a if i else None,
                b if j else None,
                lines.lines(look.bounds.lines),
                note=note,
            )
        )


def is_zero(blob: Blob, start: int, size: int) -> bool:
    return all(block.count(0) == len(block) for block in blob.blocks(start, size))


def gaps_of(elf: ElfFile) -> dict[str, tuple[int, int]]:
    """What neither a header nor a section covers: its name → (start, end), not empty."""
    pieces = [(0, elf.header_size, "the ELF header")]
    for count, size, start, name in (
        (len(elf.segments), elf.header["phentsize"], elf.header["phoff"], "the program headers"),
        (len(elf.sections), elf.header["shentsize"], elf.header["shoff"], "the section headers"),
    ):
        if count:
            pieces.append((start, start + count * size, name))
    pieces += [(s.offset, s.offset + s.size, s.key) for s in elf.sections if s.size]
    pieces.append((elf.blob.size, elf.blob.size, "the end"))
    pieces.sort()
    found: dict[str, tuple[int, int]] = {}
    done, last = 0, ""
    for start, end, name in pieces:
        if start > done:
            found[f"after {last}"] = (done, start)
        if end >= done:
            done, last = end, name
    return found
