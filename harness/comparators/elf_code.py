"""Code of an ELF file as text that does not depend on where it lies."""

from __future__ import annotations

import ctypes
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

import capstone  # type: ignore[import-untyped,import-not-found,unused-ignore]

from harness.comparators.elf_file import ElfFile
from harness.comparators.elf_relocations import pointed, relocation_name
from harness.comparators.elf_tables import EM_ARM, Symbol, name_text

MAX_CODE_BYTES = 2**20  # of one function that is disassembled
# e_machine → capstone's architecture and mode; the byte order is added.
MACHINES = {
    3: (capstone.CS_ARCH_X86, capstone.CS_MODE_32),
    62: (capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    EM_ARM: (capstone.CS_ARCH_ARM, capstone.CS_MODE_ARM),
    183: (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    243: (capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCVC),
}
X86 = (3, 62)
ARM_BRANCHES = frozenset({"b", "bl", "cbz", "cbnz", "tbz", "tbnz", "adr", "adrp"})
LAST_ADDRESS = re.compile(r"#?(0x[0-9a-f]+|[0-9]+)$")
RIP = re.compile(r"\[rip ([+-]) (0x[0-9a-f]+|[0-9]+)\]")
Instruction = tuple[int, int, str, str]  # offset, size, mnemonic, operands
CALL = re.compile(rb"[\xe8\xe9]|\x0f[\x80-\x8f]")  # call, jmp, jcc with 32 bits of distance


def call_targets(machine: int, code: bytes) -> Iterator[int]:
    """Where what looks like a call or a jump leads to, relative to the start of the code."""
    if machine in X86:
        for found in CALL.finditer(code, 0, max(0, len(code) - 4)):
            if len(raw := code[found.end() : found.end() + 4]) == 4:
                yield found.end() + 4 + int.from_bytes(raw, "little", signed=True)
    elif machine == 183:
        for at, (word,) in enumerate(struct.iter_unpack("<I", code[: len(code) // 4 * 4])):
            if word & 0x7C000000 == 0x14000000:
                yield 4 * (at + (((word & 0x3FFFFFF) ^ 0x2000000) - 0x2000000))


class Disassembler:
    """One file's code as text that does not depend on where it lies."""

    def __init__(self, elf: ElfFile) -> None:
        self.elf = elf
        known = MACHINES.get(elf.machine)
        self.engine = None
        if known and (elf.order == "<" or elf.machine not in (*X86, 243)):
            mode = known[1] | (capstone.CS_MODE_BIG_ENDIAN if elf.order == ">" else 0)
            if elf.machine == 243:
                mode |= capstone.CS_MODE_RISCV64 if elf.wide else capstone.CS_MODE_RISCV32
            self.engine = capstone.Cs(known[0], mode)
            self.engine.skipdata = True
            self.strict = capstone.Cs(known[0], mode)

    def instructions(self, code: bytes, start: int = 0) -> list[Instruction]:
        """As if the function's code lay at 0. start: how far in it ``code`` begins."""
        assert self.engine is not None
        return list(self.engine.disasm_lite(code, start))

    def starts(self, code: bytes) -> list[int]:
        """Where each instruction begins, and the end; empty if not all of it is instructions.

        Twice as fast as ``instructions``: nothing but the sizes is made a Python object.
        """
        row = capstone._cs_insn
        rows = ctypes.POINTER(row)()
        place = ctypes.byref(rows)
        count = capstone._cs.cs_disasm(self.strict.csh, code, len(code), 0, 0, place)
        if not count:
            return []
        width = ctypes.sizeof(row)
        table = (ctypes.c_ubyte * (count * width)).from_address(ctypes.addressof(rows.contents))
        low = row.size.offset + (sys.byteorder == "big")  # no instruction has 256 bytes
        found = list(accumulate(memoryview(table).cast("B")[low::width].tobytes(), initial=0))
        capstone._cs.cs_free(rows, count)
        return found if found[-1] == len(code) else []

    def text(
        self,
        one: Symbol,
        code: bytes,
        rename: Mapping[bytes, bytes],
        rows: Iterable[Instruction] | None = None,
    ) -> list[str]:
        """A line for each instruction. rename: names to write instead of others."""
        base = one.offset
        if not self.elf.relocatable:
            base += self.elf.sections[one.section].address
        entries = self.elf.relocated(one)
        at = 0
        lines = []
        for offset, size, mnemonic, operands in rows or self.instructions(code):
            while at < len(entries) and entries[at].offset < offset:
                at += 1
            remark = ""
            if at < len(entries) and entries[at].offset < offset + size:
                entry = entries[at]
                target = renamed(pointed(entry), entry.target, rename)
                remark = f"  ; {relocation_name(self.elf.machine, entry.kind)} {target}"
                if self.branches(mnemonic):
                    operands = LAST_ADDRESS.sub("?", operands)
            elif "[rip " in operands:
                operands = self.relative(operands, base + offset + size, rename)
            elif self.branches(mnemonic):
                operands = self.branch(operands, offset, base, one.size, rename)
            lines.append(f"{mnemonic} {operands}{remark}".rstrip())
        return lines

    def branches(self, mnemonic: str) -> bool:
        if self.elf.machine in X86:
            return mnemonic[0] == "j" or mnemonic in ("call", "loop", "loope", "loopne")
        return mnemonic in ARM_BRANCHES or mnemonic.startswith("b.")

    def branch(
        self, operands: str, offset: int, base: int, size: int, rename: Mapping[bytes, bytes]
    ) -> str:
        found = LAST_ADDRESS.search(operands)
        if found is None or (self.elf.machine in X86 and found.start()):
            return operands
        target = int(found[1], 0)
        if target >= 2**63:
            target -= 2**64
        if 0 <= target < size:
            where = f".{target - offset:+#x}"
        else:
            where = self.elf.place(base + target, rename)
        return operands[: found.start()] + where

    def relative(self, operands: str, following: int, rename: Mapping[bytes, bytes]) -> str:
        found = RIP.search(operands)
        if found is None:
            return operands
        address = following + int(
            found[1] + found[2].removeprefix("0x"), 16 if "x" in found[2] else 10
        )
        where = self.elf.place(address, rename)
        return f"{operands[: found.start()]}[rip → {where}]{operands[found.end() :]}"


def renamed(text: str, name: str, rename: Mapping[bytes, bytes]) -> str:
    other = rename.get(name.encode("utf-8", "surrogateescape")) if rename else None
    return text if other is None else name_text(other) + text[len(name) :]
