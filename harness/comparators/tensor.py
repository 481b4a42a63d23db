"""Raw constants: how many bytes or elements differ, and where. Read in blocks, never as a whole.

Files are read and not mapped: a mapped file that is cut short meanwhile kills the process.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.comparators.interface import Bounds, Examined, NotThisFormatError, Part, Status
from harness.comparators.text import common_prefix, differing_part

BLOCK = 2**20  # bytes read at once
MOST_RUNS = 4096  # runs of differing bytes whose places are kept
SHOWN_RUNS = 8
DUMPED = 4096  # bytes around the first difference that may go into a hex dump
# Element types that we can show, by the names that numpy and TVM use: letters of ``struct``.
ELEMENTS = {
    "float16": "e", "float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int16": "h",
    "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
}  # fmt: skip
Read = Callable[[int, int], bytes]  # (offset, size) → bytes


class Blob:
    """A file that is read piece by piece. A context manager."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def read(self, offset: int, size: int) -> bytes:
        """The ``size`` bytes from ``offset`` on, fewer at the end of the file."""
        size = min(size, self.size - offset)
        if offset < 0 or size <= 0:
            return b""
        data = os.pread(self._fd, size, offset)
        while len(data) < size:
            more = os.pread(self._fd, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def blocks(self, offset: int, size: int) -> Iterator[bytes]:
        for start in range(offset, offset + size, BLOCK):
            yield self.read(start, min(BLOCK, offset + size - start))

    def digest(self, offset: int, size: int) -> bytes:
        found = hashlib.sha256()
        for block in self.blocks(offset, size):
            found.update(block)
        return found.digest()


def equal(left: Blob, i: int, right: Blob, j: int, size: int) -> bool:
    """Whether ``size`` bytes from ``i`` and ``j`` on are the same; stops at the first block."""
    pairs = zip(left.blocks(i, size), right.blocks(j, size), strict=True)
    return all(a == b for a, b in pairs)


def equal_from_start(left: Blob, i: int, right: Blob, j: int, size: int) -> int:
    """How many bytes from ``i`` and ``j`` on are the same; at most ``size``."""
    done = 0
    for a, b in zip(left.blocks(i, size), right.blocks(j, size), strict=True):
        if a != b:
            return done + common_prefix(a, 0, b, 0)
        done += len(a)
    return done


@dataclass(frozen=True)
class Differences:
    """Which bytes of two equally long pieces differ.

    count: bytes. runs: (start, end) of the first runs, relative to the pieces; more of them if not
    ``listed``. complete: False if the time was up before the end.
    """

    count: int
    runs: tuple[tuple[int, int], ...]
    listed: bool = True
    complete: bool = True

    @property
    def first(self) -> int:
        return self.runs[0][0] if self.runs else 0


def differences(
    left: Blob, i: int, right: Blob, j: int, size: int, deadline: float = float("inf")
) -> Differences:
    """Compares ``size`` bytes from ``i`` and ``j`` on. deadline: as time.monotonic() counts."""
    count = done = 0
    runs: list[tuple[int, int]] = []
    listed = True
    for a, b in zip(left.blocks(i, size), right.blocks(j, size), strict=True):
        if a != b:
            if time.monotonic() > deadline and runs:
                return Differences(count, tuple(runs), False, False)
            changed = exclusive_or(a, b)
            count += len(changed) - changed.count(0)
            for found in re.finditer(rb"[^\0]+", changed):
                start, end = done + found.start(), done + found.end()
                if runs and runs[-1][1] == start:
                    runs[-1] = (runs[-1][0], end)
                elif len(runs) < MOST_RUNS:
                    runs.append((start, end))
                else:
                    listed = False
                    break
        done += len(a)
    return Differences(count, tuple(runs), listed)


def differences_of(a: bytes, b: bytes, most: int = MOST_RUNS) -> Differences:
    """The same for two equally long pieces in memory. most: runs whose places are kept."""
    changed = exclusive_or(a, b)
    runs: list[tuple[int, int]] = []
    for found in re.finditer(rb"[^\0]+", changed):
        if len(runs) == most:
            return Differences(len(changed) - changed.count(0), tuple(runs), listed=False)
        runs.append(found.span())
    return Differences(len(changed) - changed.count(0), tuple(runs))


def exclusive_or(a: bytes, b: bytes) -> bytes:
    size = min(len(a), len(b))
    number = int.from_bytes(a[:size], "little") ^ int.from_bytes(b[:size], "little")
    return number.to_bytes(size, "little") + b"\xff" * (max(len(a), len(b)) - size)


def in_words(found: Differences, a: bytes, b: bytes, base: int = 0, unit: str = "byte") -> str:
    """``4 bytes differ, first at 0x1234: 0x00 → 0x01``.

    a, b: what is at the first difference. base: is added to the place that is named.
    """
    many = f"{found.count:,} {unit}{'' if found.count == 1 else 's'}"
    at_least = "" if found.complete else "at least "
    where = f"first at 0x{base + found.first:x}"
    values = f": 0x{a[:8].hex()} → 0x{b[:8].hex()}" if a or b else ""
    places = f" in {len(found.runs):,}{'' if found.listed else ' or more'} places"
    verb = "differs" if found.count == 1 else "differ"
    return f"{at_least}{many} {verb}{places if len(found.runs) > 1 else ''}, {where}{values}"


def around(left: Blob, i: int, right: Blob, j: int, sizes: tuple[int, int], first: int) -> Window:
    """The pieces' bytes around the byte ``first``, for a hex dump."""
    start = max(0, first - DUMPED // 4) // 16 * 16
    a, b = (max(0, min(DUMPED, size - start)) for size in sizes)
    return Window(start, left.read(i + start, a), right.read(j + start, b))


@dataclass(frozen=True)
class Window:
    start: int  # relative to the piece
    left: bytes
    right: bytes

    def lines(self, most: int) -> tuple[str, ...]:
        """A hex dump; offsets are those of the piece."""
        found = differing_part(self.left, self.right, context=1, max_lines=most).lines
        if not self.start:
            return found
        head = (f"@@ offsets from byte 0x{self.start:x} on @@",) if most > 1 else ()
        return (*head, *found[: most - len(head)])


class Tensor:
    """Two raw constants. Of equal size they are compared element by element, else as one part.

    element: the type of the elements, a key of ELEMENTS; empty where it is not known.
    """

    format = "raw constant"

    def __init__(self, element: str = "") -> None:
        self.element = element

    def examine(self, left: Path, right: Path, bounds: Bounds) -> Examined:
        if self.element and self.element not in ELEMENTS:
            raise NotThisFormatError("the type of the elements is not known")
        deadline = time.monotonic() + bounds.seconds
        with Blob(left) as a, Blob(right) as b:
            size = min(a.size, b.size)
            found = differences(a, 0, b, 0, size, deadline)
            if a.size == b.size and not found.count:
                return Examined(self.format, (), same=1)
            if a.size != b.size:
                first = found.first if found.runs else size
                note = f"of the first {size:,} bytes, {found.count:,} differ"
            else:
                first, note = found.first, self.explain(a, b, found)
            lines = around(a, 0, b, 0, (a.size, b.size), first).lines(bounds.lines)
            part = Part("constant", "data", Status.CHANGED, a.size, b.size, lines, note=note)
            truncated = not (found.complete and found.listed)
            return Examined(self.format, (part,), truncated=truncated)

    def explain(self, a: Blob, b: Blob, found: Differences) -> str:
        start, end = found.runs[0]
        length = min(8, end - start)
        words = in_words(found, a.read(start, length), b.read(start, length))
        return f"{words}{elements(a.read, b.read, a.size, self.element, found)}"


def elements(left: Read, right: Read, size: int, element: str, found: Differences) -> str:
    """``; elements of 100 float32: [3] 0.5 → 0.25, …``: the first few; empty if not known.

    left, right: hand out bytes of two equally long constants. size: of one, in bytes.
    """
    letter = ELEMENTS.get(element)
    if letter is None or size % (width := struct.calcsize(f"<{letter}")):
        return ""
    indices = sorted({start // width for start, _ in found.runs[:SHOWN_RUNS]})
    values = [
        f"[{index}] {value(letter, left(index * width, width))}"
        f" → {value(letter, right(index * width, width))}"
        for index in indices
    ]
    more = ", …" if len(found.runs) > SHOWN_RUNS else ""
    return f"; elements of {size // width:,} {element}: {', '.join(values)}{more}"


def value(letter: str, raw: bytes) -> str:
    """Little-endian. All digits, as a weight may differ in its last bit."""
    return repr(struct.unpack(f"<{letter}", raw)[0])
