"""Pairs of shared objects for benchmarks/diff.py: half code, half weights, of any size.

Assembled and linked with the tools of the repository's own environments. Each function has its own
immediate, vector code, references to weights and calls of other functions, so that moving
something changes the bytes of nearly every function. Made once and kept.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from harness import toolchains
from harness.environments import prepare

ROOT = Path(__file__).resolve().parent.parent
ASSEMBLER, LINKER = "llvm/22.1.8-xtc-x86_64", "llvm/22.1.8-ziglang-x86_64"
MEGABYTE = 10**6
PIECES = 8  # of vector code in one function, each between two references
PIECE = 480  # bytes
KERNELS = 97  # different pieces
FUNCTION = 4096  # bytes
WEIGHT = 2**20  # bytes of one constant
# What is changed: its name in an answer that finds it.
FUNCTION_CHANGED, FUNCTION_GROWN, CONSTANT = "f_0000123", "f_0000003", "weight_0002"
KINDS = {
    "function": FUNCTION_CHANGED,
    "weight": CONSTANT,
    "comment": ".comment",
    "shifted": FUNCTION_GROWN,
    "identical": "",
}


def pair(folder: Path, megabytes: int, kind: str) -> tuple[Path, Path]:
    """The two files. Raises CalledProcessError with what the tool said."""
    left = made(folder, megabytes, "base")
    return left, made(folder, megabytes, kind)


def made(folder: Path, megabytes: int, kind: str) -> Path:
    found = folder / f"{megabytes}-{kind}.so"
    if found.exists():
        return found
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = toolchains.load([ROOT / "toolchains"])
    assembler = prepare(known[ASSEMBLER]).root / "llvm/bin"
    linker = prepare(known[LINKER]).root / "ziglang/zig"
    source, module = folder / "source.s", folder / "module.o"
    size = megabytes * MEGABYTE // 2
    if not (folder / f"kernel-{KERNELS - 1}").exists():
        source.write_text("\n".join(kernel_text()))
        tool(assembler / "llvm-mc", "-mcpu=skylake", "-filetype=obj", source, "-o", module)
        tool(assembler / "llvm-objcopy", "-O", "binary", "-j", ".text", module, source)
        whole = source.read_bytes()
        for number in range(KERNELS):
            piece = whole[number * PIECE : (number + 1) * PIECE]
            (folder / f"kernel-{number}").write_bytes(piece)
    for number in range(-(-size // WEIGHT)):
        weight = folder / f"weight_{number:04}"
        if not weight.exists() or weight.stat().st_size != WEIGHT:
            weight.write_bytes(random.Random(number).randbytes(WEIGHT))
    changed = bytearray((folder / CONSTANT).read_bytes())
    changed[WEIGHT // 2] ^= 1
    (folder / "changed").write_bytes(changed)
    with open(source, "w", encoding="ascii") as stream:
        stream.writelines(f"{line}\n" for line in text(size, folder, kind))
    tool(assembler / "llvm-mc", "-mcpu=skylake", "-filetype=obj", source, "-o", module)
    unfinished = folder / "unfinished.so"
    tool(
        *(linker, "ld.lld", "-shared", "-Bsymbolic", "--build-id=none", "--eh-frame-hdr"),
        *("--hash-style=gnu", module, "-o", unfinished),
    )
    for leftover in (source, module):
        leftover.unlink()
    unfinished.rename(found)
    return found


def tool(*words: str | Path) -> None:
    environment = {"PATH": os.defpath, "HOME": os.devnull, "LC_ALL": "C"}
    subprocess.run([str(word) for word in words], check=True, env=environment)


def kernel_text() -> Iterator[str]:
    """Vector code as compilers unroll it, in pieces of PIECE bytes."""
    draw = random.Random(1)
    for number in range(KERNELS):
        yield f"start_{number}:"
        for _ in range(PIECE // 12):  # an instruction has at most 10 bytes here
            a, b, c = (draw.randrange(16) for _ in range(3))
            where = f"{draw.randrange(1, 512) * 32}(%rdi,%rcx,4)"
            yield draw.choice(
                (
                    f"vfmadd231ps {where}, %ymm{a}, %ymm{b}",
                    f"vmovups %ymm{a}, {where}",
                    f"vbroadcastss {where}, %ymm{a}",
                    f"vmaxps %ymm{a}, %ymm{b}, %ymm{c}",
                    f"addq ${draw.randrange(1, 100)}, %rcx",
                )
            )
        yield f".nops {PIECE}-(.-start_{number})"


def text(size: int, folder: Path, kind: str) -> Iterator[str]:
    """The assembly of a library with ``size`` bytes of code and as many of weights."""
    yield ".text"
    count, constants = -(-size // FUNCTION), -(-size // WEIGHT)
    for number in range(count):
        yield from function(number, count, constants, folder, kind)
    yield '.section .rodata,"a",@progbits'
    for name in (f"weight_{number:04}" for number in range(constants)):
        content = folder / ("changed" if kind == "weight" and name == CONSTANT else name)
        yield f".p2align 6\n.type {name},@object\n.size {name},{WEIGHT}"
        yield f'{name}:\n.incbin "{content}"'
    yield f'.ident "compiler {"2.0.1" if kind == "comment" else "2.0.0"}"'
    yield '.section .note.GNU-stack,"",@progbits'


def function(number: int, count: int, constants: int, folder: Path, kind: str) -> Iterator[str]:
    name = f"f_{number:07}"
    if number % 8 == 0:
        yield f".globl {name}"
    yield f".p2align 4\n.type {name},@function\n{name}:\n.cfi_startproc\npush %rbx"
    yield f"mov ${number}, %ebx"
    for piece in range(PIECES):
        constant = (number + piece) % constants
        yield f"lea weight_{constant:04}+{(number * 64 + piece * 8) % 8192}(%rip), %rdi"
        yield f'.incbin "{folder}/kernel-{(number * 5 + piece * 11) % KERNELS}"'
        yield f"call f_{(number * 7 + piece * 1009) % count:07}"
        if piece == PIECES // 2:
            changed = name == FUNCTION_CHANGED and kind == "function"
            yield f"{'vsubps' if changed else 'vaddps'} %ymm1, %ymm2, %ymm3"
            if name == FUNCTION_GROWN and kind == "shifted":
                yield "imul $11, %rbx, %rbx\n" * 10
    yield f"pop %rbx\nret\n.cfi_endproc\n.size {name},.-{name}"
