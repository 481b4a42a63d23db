"""The tables of relocations of an ELF file."""

from __future__ import annotations

import bisect
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from elftools.elf import enums

from harness.comparators.elf_tables import (
    EM_ARM,
    SHT_DYNSYM,
    SHT_RELA,
    SHT_SYMTAB,
    STT_SECTION,
    ElfTables,
    Section,
    Symbol,
    name_text,
)


def names_of(table: Mapping[str, object]) -> dict[int, str]:
    return {number: name for name, number in table.items() if isinstance(number, int)}


RELOCATION_NAMES = {
    62: names_of(enums.ENUM_RELOC_TYPE_x64), 183: names_of(enums.ENUM_RELOC_TYPE_AARCH64),
    3: names_of(enums.ENUM_RELOC_TYPE_i386), EM_ARM: names_of(enums.ENUM_RELOC_TYPE_ARM),
}  # fmt: skip


class Relocation(NamedTuple):
    offset: int
    kind: int
    target: str
    addend: int | None


class Relocations:
    """One table of relocations; rows are decoded when they are asked for."""

    def __init__(self, elf: ElfTables, section: Section) -> None:
        self.elf = elf
        self.addends = section.kind == SHT_RELA
        letter, self.shift = ("Q", 32) if elf.wide else ("I", 8)
        self.columns = 3 if self.addends else 2
        raw = elf.content(section)
        self.cells = array(letter)
        width = self.cells.itemsize * self.columns
        self.cells.frombytes(raw[: len(raw) // width * width])
        if (elf.order == "<") != (sys.byteorder == "little"):
            self.cells.byteswap()
        self.offsets = self.cells[:: self.columns]
        self.rows: Sequence[int] = range(len(self.offsets))
        if any(a > b for a, b in zip(self.offsets, self.offsets[1:], strict=False)):
            self.rows = sorted(self.rows, key=self.offsets.__getitem__)
            self.offsets = array(letter, (self.offsets[row] for row in self.rows))
        self.symbols: list[Symbol] = []
        if elf.relocatable:
            self.symbols = elf.symbols
        elif table := elf.linked(section.link):
            self.symbols = elf.symbols_of(table) if table.kind in (SHT_SYMTAB, SHT_DYNSYM) else []

    def within(self, start: int, end: int) -> Iterator[Relocation]:
        first = bisect.bisect_left(self.offsets, start)
        for at in range(first, len(self.offsets)):
            if self.offsets[at] >= end:
                return
            yield self.row(self.rows[at])

    def alike(self, one: Symbol, other: Relocations, twin: Symbol) -> bool:
        """Whether the rows within two functions are the same, relative to where those begin.

        Only for tables whose symbols are numbered alike.
        """
        sides = []
        for table, symbol in ((self, one), (other, twin)):
            first = bisect.bisect_left(table.offsets, symbol.offset)
            last = bisect.bisect_left(table.offsets, symbol.offset + symbol.size)
            sides.append(
                [
                    (table.offsets[at] - symbol.offset, *table.cells[row + 1 : row + table.columns])
                    for at in range(first, last)
                    for row in (table.rows[at] * table.columns,)
                ]
            )
        return sides[0] == sides[1]

    def row(self, number: int) -> Relocation:
        cells = self.cells[number * self.columns : (number + 1) * self.columns]
        addend = None
        if self.addends:
            half = 1 << (8 * self.cells.itemsize - 1)
            addend = (cells[2] ^ half) - half
        kind = cells[1] & ((1 << self.shift) - 1)
        return Relocation(cells[0], kind, self.target(cells[1] >> self.shift), addend)

    def target(self, number: int) -> str:
        if not 0 < number < len(self.symbols):
            return ""
        symbol = self.symbols[number]
        section = self.elf.linked(symbol.section)
        if symbol.kind == STT_SECTION and section:
            return section.key
        return name_text(symbol.name)

    def text(self, entry: Relocation) -> str:
        return f"{relocation_name(self.elf.machine, entry.kind)} {pointed(entry)}"


def pointed(entry: Relocation) -> str:
    if not entry.addend:
        return entry.target or "0x0"
    sign = "-" if entry.addend < 0 else "+"
    return f"{entry.target}{sign}0x{abs(entry.addend):x}"


def relocation_name(machine: int, kind: int) -> str:
    return RELOCATION_NAMES.get(machine, {}).get(kind, f"type {kind}")
