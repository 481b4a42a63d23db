"""LLVM bitcode, read by the replayer's own llvm-dis in the sandbox and compared as text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness.comparators.examine import equal, head, kind_of
from harness.comparators.interface import Bounds, Examined, NotThisFormatError
from harness.comparators.llvm_ir import LlvmIr
from harness.engines.interface import Engine, RunResult
from harness.errors import HarnessError, ToolchainError
from harness.inspection import Job, Kit, Seen, inspected, said, trouble
from harness.models import Limits
from harness.text import printable

NAME = "llvm/22.1.8-xtc-x86_64"
TOOL = "dis"
_TEXT = "module.ll"
FORMAT = "LLVM bitcode"
MAX_BYTES = 256 * 2**20  # of one bitcode file
MEMORY_BYTES = 4 * 2**30
TEXT_BYTES = 2**30  # of one side's text


def is_bitcode(left: Path, right: Path) -> bool:
    """Whether both files begin as bitcode does."""
    return all(kind_of(head(path)) == FORMAT for path in (left, right))


def disassembled(
    left: Path,
    right: Path,
    tools: Callable[[], tuple[Engine, Kit]],
    bounds: Bounds,
    plainly: Examined,
) -> Examined:
    """Where two bitcode files differ, function by function.

    ``tools``: the engine and the kit with llvm-dis, asked for only here. ``plainly``: the answer by
    bytes, which stays, with the reason, where the files cannot be read.
    """
    try:
        for path in (left, right):
            if path.stat().st_size > MAX_BYTES:
                raise ToolchainError(f"larger than {MAX_BYTES} bytes")
        engine, kit = tools()
        found = _disassembled(left, right, engine, kit, bounds)
    except (HarnessError, NotThisFormatError) as reason:
        return _not_read(plainly, str(reason))
    except OSError as error:
        return _not_read(plainly, f"a file cannot be read: {error.strerror}")
    notes = [f"read as text by llvm-dis of {kit.definition.name}"]
    if equal(found):
        notes.append("the bytes differ, but the text that llvm-dis makes of them does not")
    return replace(found, format=FORMAT, notes=(*notes, *found.notes))


def _disassembled(left: Path, right: Path, engine: Engine, kit: Kit, bounds: Bounds) -> Examined:
    tool = kit.definition.tools[TOOL]
    limits = Limits(
        wall_seconds=max(1, round(bounds.seconds)),
        memory_bytes=MEMORY_BYTES,
        processes=16,
        output_bytes=TEXT_BYTES,
        output_files=4,
    )

    def command(seen: Seen) -> tuple[str, ...]:
        program = f"{seen.root}/{tool.path}"
        return (program, *tool.arguments, *seen.files, "-o", f"{seen.out}/{_TEXT}")

    # One name for both: llvm-dis writes it into the text.
    jobs = [Job(kit, (("module.bc", path),), command, limits) for path in (left, right)]
    with inspected(jobs[0], engine) as ours, inspected(jobs[1], engine) as theirs:
        texts = [
            _text(side, result, out, limits)
            for side, (result, out) in (("left", ours), ("right", theirs))
        ]
        return LlvmIr().examine(texts[0], texts[1], bounds)


def _text(side: str, result: RunResult, out: Path, limits: Limits) -> Path:
    """What llvm-dis made of one side. Raises ToolchainError."""
    why = trouble(result, limits)
    path = out / _TEXT
    if not why and (result.exit_code != 0 or path.is_symlink() or not path.is_file()):
        why = f"no text, exit code {result.exit_code}: {said(result)}"
    if why:
        raise ToolchainError(f"the {side} file: llvm-dis: {why}")
    return path


def _not_read(plainly: Examined, why: str) -> Examined:
    reason = f"not examined: functions and globals: {printable(why, 500)}"
    kept = tuple(note for note in plainly.notes if not note.startswith("LLVM bitcode is not read"))
    return replace(plainly, notes=(reason, *kept))
