"""Which functions of two ELF files are the same, and which may not be."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from functools import cached_property

from harness.comparators.elf_code import call_targets
from harness.comparators.elf_look import Look
from harness.comparators.elf_tables import (
    SHT_DYNSYM,
    SHT_REL,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    Section,
    Symbol,
)
from harness.comparators.interface import Part, Status
from harness.comparators.tensor import differences, equal

MAX_CHECKED = 2**24  # bytes of one function whose calls are looked at


class Twins:
    """Whether two functions are the same, mostly without looking at each: by what differs."""

    def __init__(
        self,
        look: Look,
        pairs: Sequence[tuple[Section, Section]],
        differing: Sequence[tuple[Section, Section]],
    ) -> None:
        self.look = look
        self.left, self.right = look.left, look.right
        self.touched = {s.number for s, _ in differing}
        self.partner = {s.number: t.number for s, t in pairs}
        self.pairs = {s.number: (s, t) for s, t in pairs}
        self.runs: dict[int, tuple[list[int], list[int]] | None] = {}
        self.same_places = False
        self.places: dict[int, int] = {}  # addresses of functions: the left's → the right's
        self.starts: set[int] = set()  # addresses of all functions of the right

    def may_differ(self) -> bool:
        """Whether code, or what is relocated within it, or the symbols are not the same."""
        names = {self.left.sections[index].kind for index in self.touched}
        return (
            any(self.left.sections[index].is_code for index in self.touched)
            or not names.isdisjoint({SHT_SYMTAB, SHT_DYNSYM, SHT_STRTAB, SHT_RELA, SHT_REL})
            or any(
                s.is_code for s in self.left.sections if s.number and s.number not in self.partner
            )
            or len(self.left.sections) != len(self.right.sections)
            or any(part.kind == "section" for part in self.look.sections)
        )

    def same_tables(self) -> bool:
        """Whether both sides have the same functions at the same places: the usual quick case."""
        a, b = self.left, self.right
        if [s[1:] for s in a.sections] != [t[1:] for t in b.sections]:
            return False
        quiet = {".symtab", ".strtab", ".dynsym", ".dynstr", ".eh_frame_hdr", ".symtab_shndx"}
        touched = {a.sections[index].key for index in self.touched}
        return not touched & quiet and not any(
            a.sections[index].kind in (SHT_SYMTAB, SHT_STRTAB, SHT_DYNSYM) for index in self.touched
        )

    def moves(self, pairs: Sequence[tuple[Symbol, Symbol]]) -> None:
        """Learns where the left's functions lie on the right, if not all moved alike."""
        if self.left.relocatable or self.right.relocatable:
            return
        places = {self.left.address(one): self.right.address(other) for one, other in pairs}
        moved = {right - left for left, right in places.items()}
        if len(moved) > 1:
            self.places = places
            self.starts = {self.right.address(one) for one in self.right.functions}
            count = sum(right != left for left, right in places.items())
            note = f"{count:,} functions lie at other addresses"
            self.look.rest.append(Part("function", "(places)", Status.MOVED, note=note))

    def equal(self, one: Symbol, other: Symbol) -> bool:
        if one.size != other.size:
            return False
        if one.offset == other.offset and self.partner.get(one.section) == other.section:
            runs = self.differing_runs(one.section)
            if runs is not None:
                at = bisect.bisect_right(runs[1], one.offset)  # the first run that ends after it
                if at < len(runs[0]) and runs[0][at] < one.offset + one.size:
                    return False
                if not self.places:
                    return self.equal_relocations(one, other)
        places = self.left.file_offset(one), self.right.file_offset(other)
        if not equal(self.left.blob, places[0], self.right.blob, places[1], one.size):
            return False
        if not self.equal_relocations(one, other):
            return False
        if not self.places:
            return True
        if one.size > MAX_CHECKED:
            note = "a function is too long to see whether it calls others than before"
            if note not in self.look.notes:
                self.look.notes.append(note)
            return True
        return self.same_calls(one, other, self.left.code(one))

    def same_calls(self, one: Symbol, other: Symbol, code: bytes) -> bool:
        """Whether equal code at other places cannot call another function than before.

        Looks for the bytes of calls without disassembling, which would take too long. What looks
        like a call, and is none, costs a closer look only.
        """
        left, right = self.left.address(one), self.right.address(other)
        for target in call_targets(self.left.machine, code):
            if not 0 <= target < len(code):
                goal = self.places.get(left + target)
                if goal != right + target and (goal is not None or right + target in self.starts):
                    return False
        return True

    def differing_runs(self, section: int) -> tuple[list[int], list[int]] | None:
        """Starts and ends of what differs in a section; None where there is too much of it."""
        if section not in self.runs:
            s, t = self.pairs[section]
            found: tuple[list[int], list[int]] | None = None
            if section not in self.touched:
                found = ([], [])
            elif s.size == t.size:
                seen = differences(
                    self.left.blob, s.offset, self.right.blob, t.offset, s.size, self.look.deadline
                )
                if seen.listed and seen.complete:
                    found = ([run[0] for run in seen.runs], [run[1] for run in seen.runs])
            self.runs[section] = found
        return self.runs[section]

    def equal_relocations(self, one: Symbol, other: Symbol) -> bool:
        mine = self.left.relocation_sections.get(one.section, [])
        theirs = self.right.relocation_sections.get(other.section, [])
        if not mine and not theirs:
            return True
        if self.same_places and not any(table.number in self.touched for table in mine):
            return True
        if self.same_symbols and len(mine) == len(theirs) == 1:
            a, b = self.left.relocations(mine[0]), self.right.relocations(theirs[0])
            return a.alike(one, b, other)
        return self.left.relocated(one) == self.right.relocated(other)

    @cached_property
    def same_symbols(self) -> bool:
        """Whether a relocation's symbol number means the same on both sides."""
        named = [
            [(symbol.name, symbol.kind, symbol.section) for symbol in side.symbols]
            for side in (self.left, self.right)
        ]
        keys = [[section.key for section in side.sections] for side in (self.left, self.right)]
        return named[0] == named[1] and keys[0] == keys[1]
