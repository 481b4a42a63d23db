"""Two ELF files: which functions, constants, symbols, relocations and sections differ.

The file is cut into the header, both header tables, every section and the gaps between them, so
that no byte is left out; each piece is compared as bytes first, and only what differs is read as
code, names or notes.
"""

from __future__ import annotations

from pathlib import Path

from harness.comparators.elf_file import ElfFile
from harness.comparators.elf_functions import Functions
from harness.comparators.elf_layout import compare_gaps, compare_headers
from harness.comparators.elf_look import Look
from harness.comparators.elf_sections import (
    compare_section,
    equal_sections,
    matched_sections,
    unmatched_sections,
)
from harness.comparators.interface import Bounds, Examined
from harness.comparators.tensor import Blob


class Elf:
    """ELF files of any machine; disassembly for x86, ARM and RISC-V."""

    format = "ELF"

    def examine(self, left: Path, right: Path, bounds: Bounds) -> Examined:
        with Blob(left) as a, Blob(right) as b:
            return examined(Look(ElfFile(a), ElfFile(b), bounds))


def examined(look: Look) -> Examined:
    """All parts: first functions and constants, then sections, then headers and gaps."""
    pairs, only_left, only_right = matched_sections(look)
    differing = [pair for pair in pairs if not equal_sections(look, *pair)]
    look.same += len(pairs) - len(differing)
    unmatched_sections(look, only_left, only_right)
    compare_headers(look)
    Functions(look, pairs, differing).run()
    for s, t in differing[: look.bounds.parts]:
        compare_section(look, s, t)
    if len(differing) > look.bounds.parts:
        look.notes.append(f"{len(differing) - look.bounds.parts:,} more sections differ")
        look.cut = True
    compare_gaps(look)
    parts = (*look.functions, *look.constants, *look.sections, *look.rest)
    notes = dict.fromkeys((*look.notes, *look.left.notes, *look.right.notes))
    if len(parts) > look.bounds.parts:
        notes[f"{len(parts) - look.bounds.parts:,} more parts differ"] = None
        look.cut = True
    kept = parts[: look.bounds.parts]
    return Examined(Elf.format, kept, look.same, look.cut, tuple(list(notes)[:20]))
