"""Tables of an ELF file as text, and the difference of two such texts."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

from elftools.elf import enums

from harness.comparators.elf_file import ElfFile
from harness.comparators.elf_relocations import names_of
from harness.comparators.elf_tables import (
    MAX_NAME,
    MAX_TABLE_BYTES,
    SECTION_LAYOUT,
    Section,
    section_name,
    string_at,
)
from harness.comparators.text import differing_part
from harness.text import printable

MAX_TEXT_BYTES = 2**20  # of one small section that is shown as text
SEGMENT = (
    "type offset vaddr paddr filesz memsz flags align",
    "type flags offset vaddr paddr filesz memsz align",
)
SYMBOL_KINDS = names_of(enums.ENUM_ST_INFO_TYPE)
SYMBOL_BINDS = names_of(enums.ENUM_ST_INFO_BIND)
SECTION_KINDS = names_of(enums.ENUM_SH_TYPE_BASE)
SEGMENT_KINDS = names_of(enums.ENUM_P_TYPE_BASE)
DYNAMIC_TAGS = names_of(enums.ENUM_D_TAG_COMMON)


def attributes(section: Section) -> str:
    kind = SECTION_KINDS.get(section.kind, f"type {section.kind}").removeprefix("SHT_")
    return f"{kind} flags 0x{section.flags:x}"


def text_diff(
    left: Sequence[str],
    right: Sequence[str],
    most: int,
    offsets: Sequence[Sequence[int]] | None = None,
) -> tuple[str, ...]:
    """The differing lines. offsets: of each line, to be named instead of its number."""
    texts = [
        "".join(f"{line}\n" for line in side).encode("utf-8", "surrogateescape")
        for side in (left, right)
    ]
    found = differing_part(*texts, context=2, max_lines=most).lines
    return tuple(heading(line, offsets) if line[0] == "@" else line for line in found)


def heading(line: str, offsets: Sequence[Sequence[int]] | None) -> str:
    numbers = [int(number) - 1 for number in re.findall(r"line (\d+) ", line)]
    if offsets is None:
        return f"@@ line {numbers[0] + 1} | line {numbers[1] + 1} @@"
    ends = [
        f"+0x{side[number]:x}" if number < len(side) else "end"
        for side, number in zip(offsets, numbers, strict=True)
    ]
    return f"@@ at {ends[0]} | at {ends[1]} @@"


def header_rows(elf: ElfFile) -> list[str]:
    ident = elf.blob.read(0, 16)
    rows = [f"ident {ident.hex()}"]
    return rows + [f"{name} {number} (0x{number:x})" for name, number in elf.header.items()]


def segment_rows(elf: ElfFile) -> list[str]:
    names = SEGMENT[elf.wide].split()
    return [
        " ".join(
            f"{name} {SEGMENT_KINDS.get(cell, cell) if name == 'type' else hex(cell)}"
            for name, cell in zip(names, row, strict=True)
        )
        for row in elf.segments
    ]


def section_rows(elf: ElfFile) -> list[str]:
    return [
        f"{s.key}  {attributes(s)} address 0x{s.declared[2]:x} offset 0x{s.declared[3]:x}"
        f" size 0x{s.declared[4]:x} link {s.declared[5]} info {s.declared[6]}"
        f" align {s.declared[7]} entry {s.declared[8]}"
        for s in elf.sections
    ]


def table_bytes(elf: ElfFile) -> bytes:
    size = struct.calcsize(elf.order + SECTION_LAYOUT[elf.wide])
    return elf.blob.read(elf.header["shoff"], size * len(elf.sections)) if elf.sections else b""


def string_rows(elf: ElfFile, section: Section) -> list[str]:
    parts = elf.content(section, MAX_TABLE_BYTES // 8).rstrip(b"\0").split(b"\0")
    return [printable(part, 4096) for part in parts]


def dynamic_rows(elf: ElfFile, section: Section) -> list[str]:
    layout = elf.order + ("iI", "qQ")[elf.wide]
    raw = elf.content(section, MAX_TEXT_BYTES)
    strings = elf.linked(section.link)
    text = elf.content(strings) if strings else b""
    rows = []
    whole = len(raw) // struct.calcsize(layout) * struct.calcsize(layout)
    for tag, number in struct.iter_unpack(layout, raw[:whole]):
        name = DYNAMIC_TAGS.get(tag, f"tag 0x{tag:x}").removeprefix("DT_")
        named = name in ("NEEDED", "SONAME", "RPATH", "RUNPATH")
        shows = printable(string_at(text, number), MAX_NAME) if named else f"0x{number:x}"
        rows.append(f"{name} {shows}")
    return rows


def note_rows(elf: ElfFile, section: Section) -> list[str]:
    raw = elf.content(section, MAX_TEXT_BYTES)
    rows = []
    at = 0
    while at + 12 <= len(raw):
        name_size, size, kind = struct.unpack_from(f"{elf.order}III", raw, at)
        name = raw[at + 12 : at + 12 + name_size].rstrip(b"\0")
        start = at + 12 + -(-name_size // 4) * 4
        rows.append(f"{printable(name, 80)} type {kind} {raw[start : start + size].hex()[:400]}")
        at = start + -(-size // 4) * 4
    return rows


def relocation_rows(elf: ElfFile, section: Section) -> list[str]:
    table = elf.relocations(section)
    rows = (table.row(number) for number in range(len(table.offsets)))
    return [f"0x{row.offset:x} {table.text(row)}" for row in rows]


def symbol_rows(elf: ElfFile, table: Section) -> list[str]:
    """Each symbol but for its address, which changes whenever something moves."""
    return sorted(
        f"{printable(one.name, MAX_NAME) or '-'}  "
        f"{SYMBOL_KINDS.get(one.kind, one.kind)} {SYMBOL_BINDS.get(one.info >> 4, '?')}"
        f" {section_name(elf, one.section)} size {one.size} other {one.other}".replace(
            "STT_", ""
        ).replace("STB_", "")
        for one in elf.symbols_of(table)
    )
