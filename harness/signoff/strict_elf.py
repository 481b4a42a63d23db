"""The headers, sections and symbols of one ELF file, strictly: what is odd is refused, not guessed.

:mod:`harness.comparators.elf_tables` reads whatever can be shown; here a byte that is understood
wrongly would pass for known.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from harness.comparators.elf_tables import (
    HEADER,
    HEADER_LAYOUT,
    SECTION_LAYOUT,
    SEGMENT_LAYOUT,
    SHF_ALLOC,
    SHT_NOBITS,
    SHT_STRTAB,
    SHT_SYMTAB,
    SYMBOL_LAYOUT,
)
from harness.comparators.mapped import Source
from harness.text import printable

PT_LOAD = 1
ET_EXEC, ET_DYN = 2, 3
SHN_LORESERVE = 0xFF00
MAX_SEGMENTS = 256
MAX_SECTIONS = 4096
MAX_NAME = 256  # bytes of a section's name
MAX_SYMBOLS = 500_000
MAX_TABLE_BYTES = 64 * 2**20
_ABOUT_SECTIONS = ("shoff", "shentsize", "shnum", "shstrndx")

Range = tuple[int, int]  # start and end, in bytes of the file


class NotTheSameError(Exception):
    """What is loaded differs, or might: why, in one line."""


class Segment(NamedTuple):
    kind: int
    offset: int
    size: int  # bytes in the file
    align: int


class Row(NamedTuple):
    """A row of the section table; ``name`` is the name itself."""

    name: bytes
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int

    @property
    def text(self) -> str:
        return printable(self.name, 80) or "(no name)"

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def loaded(self) -> bool:
        return bool(self.flags & SHF_ALLOC)


class StrictElf:
    """A library or program. ``who`` begins what is said about it. Raises NotTheSameError."""

    def __init__(self, content: Source, who: str) -> None:
        self.content, self.who = content, who
        ident = content.read(0, 16)
        if len(ident) < 16 or ident[:4] != b"\x7fELF" or ident[4] not in (1, 2):
            raise self.odd("is not an ELF file")
        if ident[5] not in (1, 2):
            raise self.odd("is an ELF file of an unknown byte order")
        self.wide = ident[4] - 1
        self.order = "<" if ident[5] == 1 else ">"
        layout = self.order + HEADER_LAYOUT[self.wide]
        self.header_size = 16 + struct.calcsize(layout)
        raw = content.read(16, self.header_size)
        if len(raw) < self.header_size - 16:
            raise self.odd("ends within its ELF header")
        self.header = dict(zip(HEADER, struct.unpack(layout, raw), strict=True))
        if self.header["type"] not in (ET_EXEC, ET_DYN):
            raise self.odd("is no library or program: nothing of it is loaded as it is")
        self.segments = self._segments()
        self.rows = self._rows()

    def odd(self, what: str) -> NotTheSameError:
        return NotTheSameError(f"{self.who} {what}")

    @property
    def about_sections(self) -> tuple[Range, ...]:
        """Where the header speaks of the section table, in order."""
        places, at = [], 16
        for name, letter in zip(HEADER, HEADER_LAYOUT[self.wide], strict=True):
            size = struct.calcsize(f"{self.order}{letter}")
            if name in _ABOUT_SECTIONS:
                places.append((at, at + size))
            at += size
        return tuple(places)

    def table(self, what: str) -> Range:
        """Where the ``ph`` or ``sh`` table lies."""
        start = self.header[f"{what}off"]
        return start, start + self.header[f"{what}entsize"] * self.header[f"{what}num"]

    def _table(self, layouts: tuple[str, str], what: str) -> list[tuple[int, ...]]:
        layout = self.order + layouts[self.wide]
        if self.header[f"{what}entsize"] != struct.calcsize(layout):
            raise self.odd("has header entries of a strange size")
        start, end = self.table(what)
        raw = self.content.read(start, end)
        if len(raw) < end - start:
            raise self.odd("ends within a table of headers")
        return list(struct.iter_unpack(layout, raw))

    def _segments(self) -> list[Segment]:
        if not 0 < self.header["phnum"] <= MAX_SEGMENTS:
            raise self.odd(f"has {self.header['phnum']} program headers")
        found = []
        for row in self._table(SEGMENT_LAYOUT, "ph"):
            offset, size = (row[2], row[5]) if self.wide else (row[1], row[4])
            if size and offset + size > self.content.size:
                raise self.odd("ends within a segment")
            found.append(Segment(row[0], offset, size, row[7]))
        if all(segment.kind != PT_LOAD for segment in found):
            raise self.odd("has no segment that is loaded")
        return found

    def _rows(self) -> list[Row]:
        """All rows, the empty first one included; none where there is no table."""
        header = self.header
        if not header["shoff"]:
            if header["shnum"] or header["shstrndx"]:
                raise self.odd("counts sections and has no table of them")
            if header["shentsize"] not in (0, struct.calcsize("<" + SECTION_LAYOUT[self.wide])):
                raise self.odd("has header entries of a strange size")
            return []
        if not 0 < header["shnum"] <= MAX_SECTIONS:
            raise self.odd(f"has {header['shnum']} sections")
        rows = self._table(SECTION_LAYOUT, "sh")
        if any(rows[0]):
            raise self.odd("says something in the empty row of its sections")
        for row in rows:
            if row[1] not in (0, SHT_NOBITS) and row[4] + row[5] > self.content.size:
                raise self.odd("ends within a section")
        if header["shstrndx"] >= len(rows) or rows[header["shstrndx"]][1] != SHT_STRTAB:
            raise self.odd("has no names of sections")
        names = self._bounded(*rows[header["shstrndx"]][4:6])
        return [Row(self._name(names, row[0]), *row[1:]) for row in rows]

    def _name(self, names: bytes, start: int) -> bytes:
        end = names.find(b"\0", start, start + MAX_NAME)
        if end < 0:
            raise self.odd("has a section whose name does not end")
        return names[start:end]

    def _bounded(self, offset: int, size: int) -> bytes:
        if size > MAX_TABLE_BYTES:
            raise self.odd(f"has a table of {size:,} bytes")
        return self.content.read(offset, offset + size)

    def bytes_of(self, row: Row) -> bytes:
        return self._bounded(row.offset, row.size)

    def symbols(self, row: Row) -> Iterator[tuple[bytes, object]]:
        """(name, all the rest) of each symbol; its section by name."""
        if row.info > row.size or not 0 < row.link < len(self.rows):
            raise self.odd(f"has a {row.text} that is none")
        names_row = self.rows[row.link]
        if names_row.kind != SHT_STRTAB:
            raise self.odd(f"has a {row.text} without names")
        names = self.bytes_of(names_row)
        for entry in self._entries(row):
            number = entry[3] if self.wide else entry[5]
            where: object = number
            if 0 < number < SHN_LORESERVE:
                if number >= len(self.rows):
                    raise self.odd("has a symbol of a section that is not there")
                where = self.rows[number].name
            end = names.find(b"\0", entry[0])
            if end < 0:
                raise self.odd("has a symbol whose name does not end")
            rest = (entry[1:3], where, entry[4:]) if self.wide else (entry[1:5], where)
            yield names[entry[0] : end], rest

    def _entries(self, row: Row) -> Sequence[tuple[int, ...]]:
        layout = self.order + SYMBOL_LAYOUT[self.wide]
        width = struct.calcsize(layout)
        if row.kind != SHT_SYMTAB or row.flags or row.entry != width or row.size % width:
            raise self.odd(f"has a {row.text} that is none")
        if row.size // width > MAX_SYMBOLS:
            raise self.odd(f"has more than {MAX_SYMBOLS:,} symbols")
        return list(struct.iter_unpack(layout, self.bytes_of(row)))

    def nobodys(self, row: Row) -> int | None:
        """The first byte of a string table that is in no name of a section or symbol."""
        number = self.rows.index(row)
        starts: set[int] = set()
        if number == self.header["shstrndx"]:
            starts.update(entry[0] for entry in self._table(SECTION_LAYOUT, "sh"))
        for table in self.rows:
            if table.kind == SHT_SYMTAB and table.link == number:
                starts.update(entry[0] for entry in self._entries(table))
        text = self.bytes_of(row)
        done = 1 if text.startswith(b"\0") else 0
        for start in sorted(starts - {0}):
            if start > done:
                break
            done = max(done, text.find(b"\0", start) + 1)
        return done if done != len(text) else None
