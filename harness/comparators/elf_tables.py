"""The header, the sections and the symbols of one ELF file; hostile ones are refused.

The tables are read here rather than by pyelftools, which lends the names of its constants: it
takes 20 µs a symbol, and the files have hundreds of thousands.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from harness.comparators.interface import NotThisFormatError
from harness.comparators.tensor import Blob
from harness.text import MARK, printable

MAX_SECTIONS = 100_000
MAX_TABLE_BYTES = 64 * 2**20  # of one symbol, string or relocation table
MAX_SYMBOLS = 500_000
MAX_NAME = 160
SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_DYNAMIC, SHT_NOTE, SHT_NOBITS, SHT_REL = 2, 3, 4, 6, 7, 8, 9
SHT_DYNSYM, SHT_SYMTAB_SHNDX = 11, 18
STT_OBJECT, STT_FUNC, STT_SECTION, STT_GNU_IFUNC = 1, 2, 3, 10
SHF_ALLOC, SHF_EXECINSTR = 2, 4
ET_REL = 1
EM_ARM = 40
# Field names and layout of each table: (32 bit, 64 bit), in the file's byte order.
HEADER = (
    "type", "machine", "version", "entry", "phoff", "shoff", "flags", "ehsize", "phentsize",
    "phnum", "shentsize", "shnum", "shstrndx",
)  # fmt: skip
HEADER_LAYOUT = ("HHIIIIIHHHHHH", "HHIQQQIHHHHHH")
SECTION_LAYOUT = ("10I", "IIQQQQIIQQ")
SEGMENT_LAYOUT = ("8I", "IIQQQQQQ")
SYMBOL_LAYOUT = ("IIIBBH", "IBBHQQ")


class Section(NamedTuple):
    """``key``: its name, printable, with a number behind it if there are several of that name."""

    number: int
    key: str
    kind: int
    flags: int
    address: int
    offset: int
    size: int  # bytes in the file
    link: int
    info: int
    declared: tuple[int, ...]  # its row of the table without the name's place

    @property
    def is_code(self) -> bool:
        return bool(self.flags & SHF_EXECINSTR) and self.kind != SHT_NOBITS


class Symbol(NamedTuple):
    """``offset``: relative to its section."""

    name: bytes
    section: int
    offset: int
    size: int
    kind: int
    info: int
    other: int


class ElfTables:
    """The tables of one file. Raises NotThisFormatError for what is not ELF or goes too far."""

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        ident = blob.read(0, 16)
        if ident[:4] != b"\x7fELF" or len(ident) < 16 or ident[4] not in (1, 2):
            raise NotThisFormatError("not an ELF file")
        if ident[5] not in (1, 2):
            raise NotThisFormatError("an ELF file of an unknown byte order")
        self.wide = ident[4] - 1
        self.order = "<" if ident[5] == 1 else ">"
        self.header_size = 16 + struct.calcsize(self.order + HEADER_LAYOUT[self.wide])
        raw = blob.read(16, self.header_size - 16)
        if len(raw) < self.header_size - 16:
            raise NotThisFormatError("an ELF file that ends within its header")
        layout = self.order + HEADER_LAYOUT[self.wide]
        self.header = dict(zip(HEADER, struct.unpack(layout, raw), strict=True))
        self.relocatable = self.header["type"] == ET_REL
        self.machine = self.header["machine"]
        self.notes: list[str] = []
        self.sections = self._sections()

    def _table(self, layouts: tuple[str, str], offset: int, count: int) -> list[tuple[int, ...]]:
        layout = self.order + layouts[self.wide]
        size = struct.calcsize(layout)
        raw = self.blob.read(offset, size * count)
        if len(raw) < size * count:
            raise NotThisFormatError("an ELF file that ends within a table of headers")
        return list(struct.iter_unpack(layout, raw))

    @cached_property
    def segments(self) -> list[tuple[int, ...]]:
        count = self.header["phnum"]
        self._check_entry("phentsize", count, SEGMENT_LAYOUT)
        return self._table(SEGMENT_LAYOUT, self.header["phoff"], count) if count else []

    def _check_entry(self, name: str, count: int, layouts: tuple[str, str]) -> None:
        if count and self.header[name] != struct.calcsize(self.order + layouts[self.wide]):
            raise NotThisFormatError("an ELF file with header entries of a strange size")

    def _sections(self) -> list[Section]:
        offset, count = self.header["shoff"], self.header["shnum"]
        if not offset:
            return []
        self._check_entry("shentsize", 1, SECTION_LAYOUT)
        first = self._table(SECTION_LAYOUT, offset, 1)[0]
        count = count or first[5]  # more than fit into 16 bits: the count is in section 0
        if count > MAX_SECTIONS:
            raise NotThisFormatError(f"an ELF file with {count:,} sections")
        rows = self._table(SECTION_LAYOUT, offset, count)
        names = self.header["shstrndx"]
        names = first[6] if names == 0xFFFF else names
        table = rows[names] if names < len(rows) else None
        text = self.blob.read(table[4], min(table[5], MAX_TABLE_BYTES)) if table else b""
        seen: defaultdict[str, int] = defaultdict(int)
        found, total = [], 0
        for index, row in enumerate(rows):
            size = 0 if row[1] in (0, SHT_NOBITS) else min(row[5], self.blob.size - row[4])
            if size < 0 or (row[1] not in (0, SHT_NOBITS) and size < row[5]):
                self.notes.append(f"a section ends after the file: number {index}")
            size = max(0, size)
            total += size
            name = printable(string_at(text, row[0]), MAX_NAME) or "(no name)"
            seen[name] += 1
            key = name if seen[name] == 1 else f"{name} ({seen[name]})"
            found.append(
                Section(index, key, row[1], row[2], row[3], row[4], size, row[6], row[7], row[1:])
            )
        if total > 2 * self.blob.size + 2**20:
            raise NotThisFormatError("an ELF file whose sections lie over each other")
        self.notes = self.notes[:3]
        return found

    def content(self, section: Section, limit: int = MAX_TABLE_BYTES) -> bytes:
        if section.size > limit:
            self.notes.append(f"{section.key} has {section.size:,} bytes and was not read as names")
            return b""
        return self.blob.read(section.offset, section.size)

    def linked(self, number: int) -> Section | None:
        return self.sections[number] if 0 < number < len(self.sections) else None

    @cached_property
    def symbol_table(self) -> Section | None:
        """The fullest: .symtab, or what a stripped file still has."""
        for kind in (SHT_SYMTAB, SHT_DYNSYM):
            for section in self.sections:
                if section.kind == kind and section.size:
                    return section
        return None

    @cached_property
    def symbols(self) -> list[Symbol]:
        return self.symbols_of(self.symbol_table) if self.symbol_table else []

    def symbols_of(self, table: Section) -> list[Symbol]:
        layout = self.order + SYMBOL_LAYOUT[self.wide]
        width = struct.calcsize(layout)
        if table.size // width > MAX_SYMBOLS:
            self.notes.append(f"{table.key} has more than {MAX_SYMBOLS:,} symbols: not read")
            return []
        strings = self.linked(table.link)
        text = self.content(strings) if strings else b""
        raw = self.content(table)
        far = self._far_indices(table)
        addresses = [0 if self.relocatable else section.address for section in self.sections]
        thumb = self.machine == EM_ARM
        found = []
        for number, row in enumerate(struct.iter_unpack(layout, raw[: len(raw) // width * width])):
            if self.wide:
                name, info, other, section, value, size = row
            else:
                name, value, size, info, other, section = row
            if section == 0xFFFF and number < len(far):
                section = far[number]
            if 0 < section < len(addresses):
                value -= addresses[section]
            kind = info & 15
            value &= ~1 if thumb and kind == STT_FUNC else ~0
            found.append(Symbol(string_at(text, name), section, value, size, kind, info, other))
        return found

    def _far_indices(self, table: Section) -> Sequence[int]:
        for section in self.sections:
            if section.kind == SHT_SYMTAB_SHNDX and section.link == table.number:
                raw = self.content(section)
                return struct.unpack(f"{self.order}{len(raw) // 4}I", raw[: len(raw) // 4 * 4])
        return ()


def name_text(name: bytes) -> str:
    """Safe to print. A long name has a digest, so that no two look alike up to 4,096 bytes."""
    text = printable(name, MAX_NAME)
    if text.endswith(MARK):
        text = f"{text}#{hashlib.sha256(name).hexdigest()[:16]}"
    return text


def string_at(text: bytes, start: int) -> bytes:
    end = text.find(b"\0", start, start + 4096)
    return text[start : end if end >= 0 else start + 4096]


def section_name(elf: ElfTables, number: int) -> str:
    section = elf.linked(number)
    return section.key if section else {0: "UND", 0xFFF1: "ABS", 0xFFF2: "COM"}.get(number, "?")
