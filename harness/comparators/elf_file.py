"""What lies in an ELF file: functions, constants, and what an address is the place of."""

from __future__ import annotations

import bisect
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import chain

from harness.comparators.elf_relocations import Relocation, Relocations
from harness.comparators.elf_tables import (
    MAX_SYMBOLS,
    SHF_ALLOC,
    SHT_REL,
    SHT_RELA,
    STT_FUNC,
    STT_GNU_IFUNC,
    STT_OBJECT,
    ElfTables,
    Section,
    Symbol,
    name_text,
)


class ElfFile(ElfTables):
    """One file, read as far as it is asked for. Raises NotThisFormatError like its tables."""

    @cached_property
    def functions(self) -> list[Symbol]:
        """The functions that lie in sections of code, by place; each place once.

        Where symbols are missing, the table that is used for unwinding the stack still says where
        functions begin; these have no name.
        """
        best: dict[tuple[int, int], Symbol] = {}
        for symbol in self.symbols:
            section = self.linked(symbol.section)
            if symbol.kind not in (STT_FUNC, STT_GNU_IFUNC) or section is None:
                continue
            if not section.is_code or not 0 <= symbol.offset < section.size:
                continue
            place = symbol.section, symbol.offset
            other = best.get(place)
            if other is None or (-symbol.size, symbol.name) < (-other.size, other.name):
                best[place] = symbol
        for index, offset in self._unwound():
            nameless = Symbol(b"", index, offset, 0, STT_FUNC, STT_FUNC, 0)
            best.setdefault((index, offset), nameless)
        ordered = [best[place] for place in sorted(best)]
        all_code = sum(section.size for section in self.sections if section.is_code)
        lapping = sum(one.size for one in ordered) > 2 * all_code + 2**16
        if lapping:
            self.notes.append("functions lie over each other: each is taken to end at the next")
        for number, one in enumerate(ordered):
            section_end = self.sections[one.section].size
            end = section_end
            if number + 1 < len(ordered) and ordered[number + 1].section == one.section:
                end = ordered[number + 1].offset
            if not one.size or lapping:
                ordered[number] = one._replace(size=end - one.offset)
            elif one.offset + one.size > section_end:
                ordered[number] = one._replace(size=section_end - one.offset)
        return ordered

    def _unwound(self) -> Iterator[tuple[int, int]]:
        """(section, offset) of what .eh_frame_hdr's sorted table lists, in its usual encoding."""
        header = next((s for s in self.sections if s.key == ".eh_frame_hdr"), None)
        if header is None or self.relocatable:
            return
        raw = self.content(header)
        if len(raw) < 12 or raw[0] != 1 or raw[2:4] != b"\x03\x3b" or raw[1] & 15 not in (3, 11):
            return
        count = struct.unpack_from(f"{self.order}I", raw, 8)[0]
        rows = raw[12 : 12 + 8 * min(count, (len(raw) - 12) // 8, MAX_SYMBOLS)]
        code = sorted((s.address, s.address + s.size, s.number) for s in self.sections if s.is_code)
        starts = [one[0] for one in code]
        for where, _ in struct.iter_unpack(f"{self.order}ii", rows):
            address = header.address + where
            at = bisect.bisect_right(starts, address) - 1
            if at >= 0 and address < code[at][1]:
                yield code[at][2], address - code[at][0]

    @cached_property
    def objects(self) -> list[Symbol]:
        """The data symbols with a size, by place; each place once."""
        best: dict[tuple[int, int], Symbol] = {}
        for symbol in self.symbols:
            section = self.linked(symbol.section)
            if symbol.kind == STT_OBJECT and symbol.size and symbol.name and section is not None:
                inside = symbol.offset >= 0 and symbol.offset + symbol.size <= section.size
                other = best.get((symbol.section, symbol.offset))
                if inside and (
                    other is None or (-symbol.size, symbol.name) < (-other.size, other.name)
                ):
                    best[symbol.section, symbol.offset] = symbol
        if sum(one.size for one in best.values()) > 2 * self.blob.size:
            self.notes.append("constants lie over each other: they are not looked into one by one")
            return []
        return [best[place] for place in sorted(best)]

    @cached_property
    def _landmarks(self) -> tuple[list[int], list[Symbol]]:
        """Addresses in order, and what lies there; of a relocatable file nothing."""
        if self.relocatable:
            return [], []
        pairs = [
            (self.sections[one.section].address + one.offset, one)
            for one in (*self.functions, *self.objects)
            if one.name
        ]
        pairs.sort(key=lambda pair: pair[0])
        return [address for address, _ in pairs], [one for _, one in pairs]

    @cached_property
    def labels(self) -> dict[int, str]:
        """What to call the function or constant at an address instead of by its name."""
        return {}

    @cached_property
    def shared(self) -> frozenset[bytes]:
        """Names of several functions or constants."""
        seen: set[bytes] = set()
        again: set[bytes] = set()
        for one in chain(self.functions, self.objects):
            (again if one.name in seen else seen).add(one.name)
        return frozenset(again - {b""})

    @cached_property
    def _printed(self) -> dict[bytes, str]:
        return {}

    @cached_property
    def _loaded(self) -> tuple[list[int], list[Section]]:
        found = [s for s in self.sections if s.flags & SHF_ALLOC and s.address]
        found = [] if self.relocatable else sorted(found, key=lambda section: section.address)
        return [section.address for section in found], found

    def place(self, address: int, rename: Mapping[bytes, bytes]) -> str:
        """``name+0x12`` or ``.section+0x12``."""
        addresses, symbols = self._landmarks
        at = bisect.bisect_right(addresses, address) - 1
        if at >= 0 and (beyond := address - addresses[at]) < symbols[at].size:
            label = self.labels.get(addresses[at])
            if label is None:
                name = rename.get(symbols[at].name, symbols[at].name)
                label = self._printed.get(name) or self._printed.setdefault(name, name_text(name))
            return label + (f"+0x{beyond:x}" if beyond else "")
        starts, sections = self._loaded
        at = bisect.bisect_right(starts, address) - 1
        if at >= 0 and address - starts[at] < sections[at].declared[4]:
            return f"{sections[at].key}+0x{address - starts[at]:x}"
        return f"0x{address:x}"

    @cached_property
    def relocation_sections(self) -> dict[int, list[Section]]:
        """The relocations of each section of a relocatable file."""
        found: defaultdict[int, list[Section]] = defaultdict(list)
        for section in self.sections:
            if section.kind in (SHT_REL, SHT_RELA) and self.relocatable:
                found[section.info].append(section)
        return found

    def relocations(self, section: Section) -> Relocations:
        if section.number not in self._relocations:
            self._relocations[section.number] = Relocations(self, section)
        return self._relocations[section.number]

    @cached_property
    def _relocations(self) -> dict[int, Relocations]:
        return {}

    def relocated(self, one: Symbol) -> list[Relocation]:
        """The relocations within a function, relative to its start."""
        found = []
        for section in self.relocation_sections.get(one.section, ()):
            for entry in self.relocations(section).within(one.offset, one.offset + one.size):
                found.append(entry._replace(offset=entry.offset - one.offset))
        return found

    def address(self, one: Symbol) -> int:
        return self.sections[one.section].address + one.offset

    def file_offset(self, one: Symbol) -> int:
        return self.sections[one.section].offset + one.offset

    def code(self, one: Symbol) -> bytes:
        """All of it: ask for the size before."""
        return self.blob.read(self.file_offset(one), one.size)

    def code_digest(self, one: Symbol) -> bytes:
        return self.blob.digest(self.file_offset(one), one.size)
