"""The sections of two ELF files: paired by name, then by content; what differs as text."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness.comparators.elf_constants import compare_constants
from harness.comparators.elf_file import ElfFile
from harness.comparators.elf_look import Look, run_length
from harness.comparators.elf_tables import (
    MAX_TABLE_BYTES,
    SHT_DYNAMIC,
    SHT_DYNSYM,
    SHT_NOBITS,
    SHT_NOTE,
    SHT_REL,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    Section,
)
from harness.comparators.elf_text import (
    attributes,
    dynamic_rows,
    note_rows,
    relocation_rows,
    string_rows,
    symbol_rows,
    text_diff,
)
from harness.comparators.interface import Part, Status
from harness.comparators.tensor import around, differences, equal, equal_from_start, in_words


def matched_sections(
    look: Look,
) -> tuple[list[tuple[Section, Section]], list[Section], list[Section]]:
    others = {section.key: section for section in look.right.sections[1:]}
    pairs = []
    only_left = []
    for section in look.left.sections[1:]:
        other = others.pop(section.key, None)
        if other is None:
            only_left.append(section)
        else:
            pairs.append((section, other))
    return pairs, only_left, list(others.values())


def equal_sections(look: Look, s: Section, t: Section) -> bool:
    """Content and what the section is; where it lies is the header table's affair."""
    if (s.kind, s.flags, s.size) != (t.kind, t.flags, t.size):
        return False
    if s.kind == SHT_NOBITS:
        return s.declared[4] == t.declared[4]
    return equal(look.left.blob, s.offset, look.right.blob, t.offset, s.size)


def unmatched_sections(look: Look, only_left: list[Section], only_right: list[Section]) -> None:
    by_content = {}
    if only_left:
        for t in only_right:
            if t.size:
                digest = look.right.blob.digest(t.offset, t.size)
                by_content[t.kind, t.flags, digest] = t
    matched = set()
    for s in only_left:
        key = s.kind, s.flags, look.left.blob.digest(s.offset, s.size) if by_content else b""
        other = by_content.pop(key, None)
        if other is not None:
            matched.add(other.number)
            look.sections.append(
                Part("section", s.key, Status.RENAMED, s.size, other.size, new_name=other.key)
            )
        else:
            look.sections.append(Part("section", s.key, Status.REMOVED, s.size))
    for t in only_right:
        if t.number not in matched:
            look.sections.append(Part("section", t.key, Status.ADDED, None, t.size))


def compare_section(look: Look, s: Section, t: Section) -> None:
    """What there is to say of a section with other content; always one part at least."""
    note = ""
    lines: tuple[str, ...] = ()
    if s.kind != t.kind or s.flags != t.flags:
        note = f"{attributes(s)} → {attributes(t)}; "
    if s.size == t.size:
        found = differences(
            look.left.blob, s.offset, look.right.blob, t.offset, s.size, look.deadline
        )
        first = found.first
        a = look.left.blob.read(s.offset + first, run_length(found.runs))
        b = look.right.blob.read(t.offset + first, run_length(found.runs))
        note += in_words(found, a, b) if found.count else "the same bytes"
        look.cut |= not found.complete
    else:
        size = min(s.size, t.size)
        first = equal_from_start(look.left.blob, s.offset, look.right.blob, t.offset, size)
        note += f"{s.size:,} → {t.size:,} bytes, first difference at 0x{first:x}"
    if s.kind == SHT_NOBITS:
        note = f"{s.declared[4]:,} → {t.declared[4]:,} bytes of zeros"
    constants = compare_constants(look, s, t) if not s.is_code and not t.is_code else 0
    named = {
        SHT_SYMTAB: symbol_rows, SHT_DYNSYM: symbol_rows, SHT_RELA: relocation_rows,
        SHT_REL: relocation_rows, SHT_NOTE: note_rows, SHT_DYNAMIC: dynamic_rows,
        SHT_STRTAB: string_rows,
    }.get(s.kind)  # fmt: skip
    if s.flags & 0x20 or s.key in (".comment", ".interp", ".debug_str"):
        named = string_rows
    if named is not None:
        lines = as_text(look, s, t, named)
    elif not constants and not (s.is_code and look.functions):
        window = around(
            look.left.blob, s.offset, look.right.blob, t.offset, (s.size, t.size), first
        )
        lines = window.lines(look.bounds.lines)
    look.sections.append(Part("section", s.key, Status.CHANGED, s.size, t.size, lines, note=note))


def as_text(
    look: Look, s: Section, t: Section, rows: Callable[[ElfFile, Section], list[str]]
) -> tuple[str, ...]:
    if max(s.size, t.size) > MAX_TABLE_BYTES // 8 or time.monotonic() > look.deadline:
        return ("@@ too much to be shown as text @@",)
    return text_diff(rows(look.left, s), rows(look.right, t), look.bounds.lines)
