"""The differing part of two artifacts, for a reader; never for a verdict.

Bounded in lines and in time whatever the inputs are: what is equal is skipped by comparing memory
in blocks, and only windows of some hundred lines around a difference go through ``difflib``.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.text import printable

BLOCK = 64 * 1024  # bytes compared at once
WINDOW_LINES = 400  # above 200, difflib drops frequent lines, which keeps it from going quadratic
WINDOW_BYTES = 2**20
RESYNCHRONISED = 3  # equal lines in a row after which a difference counts as over
WIDTH = 240  # characters of one line shown
ROW = 16  # bytes in one row of a hex dump


@dataclass(frozen=True)
class TextDiff:
    """``lines`` are safe to print. A first character of ``-`` is left, ``+`` right, space both.

    first_offset: the first differing byte, None for equal inputs.
    differing_lines: lines (of a hex dump: rows) of either side that were found to differ; if
    ``truncated``, there may be more.
    """

    lines: tuple[str, ...]
    truncated: bool
    first_offset: int | None
    differing_lines: int
    binary: bool = False


def differing_part(
    left: bytes,
    right: bytes,
    *,
    context: int = 3,
    max_lines: int = 200,
    max_seconds: float = 5,
) -> TextDiff:
    """What differs, with ``context`` lines around it; at most ``max_lines`` lines.

    After ``max_seconds`` no further difference is looked for. Binary content gives a hex dump of
    the first differing region, 16 bytes a row.
    """
    if left == right:
        return TextDiff((), False, None, 0)
    first = common_prefix(left, 0, right, 0)
    same_end = common_suffix(left, right, min(len(left), len(right)) - first)
    ends = (len(left) - same_end, len(right) - same_end)
    if is_binary(left, first) or is_binary(right, first):
        return hex_dump(left, right, first, max(ends), context, max_lines)
    walk = Walk(left, right, context, max_lines, time.monotonic() + max_seconds)
    truncated = walk.run(*whole_lines(left, ends[0], right, ends[1], context))
    return TextDiff(tuple(walk.lines), truncated, first, walk.differing)


def common_prefix(left: bytes, i: int, right: bytes, j: int) -> int:
    """How many bytes from ``left[i]`` and ``right[j]`` on are equal."""
    a, b = memoryview(left)[i:], memoryview(right)[j:]
    size = min(len(a), len(b))
    a, b = a[:size], b[:size]
    done = 0
    while done < size and a[done : done + BLOCK] == b[done : done + BLOCK]:
        done += BLOCK
    if done >= size:
        return size
    low, high = done, min(done + BLOCK, size)  # equal before low, not equal up to high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def common_suffix(left: bytes, right: bytes, most: int) -> int:
    """How many of the last ``most`` bytes are equal, counted from the end."""
    a, b = memoryview(left)[len(left) - most :], memoryview(right)[len(right) - most :]
    end = most
    while end > 0 and a[max(0, end - BLOCK) : end] == b[max(0, end - BLOCK) : end]:
        end -= BLOCK
    if end <= 0:
        return most
    low, high = max(0, end - BLOCK), end  # equal from high on, not equal from low on
    while high - low > 1:
        middle = (low + high) // 2
        if a[middle:high] == b[middle:high]:
            high = middle
        else:
            low = middle
    return most - high


def whole_lines(left: bytes, i: int, right: bytes, j: int, context: int) -> tuple[int, int]:
    """The ends of what differs, moved on to where a line starts on both sides, and ``context``
    lines further.

    What follows ``i`` and ``j`` is the same, so both move equally far.
    """
    within = any(end > 0 and data[end - 1] != 0x0A for data, end in ((left, i), (right, j)))
    after = i
    for _ in range(context + within):
        newline = left.find(b"\n", after)
        after = len(left) if newline < 0 else newline + 1
        if newline < 0:
            break
    return after, j + after - i


def is_binary(data: bytes, around: int) -> bool:
    """Whether the beginning, or what is around that byte, is no text: a NUL, or much not UTF-8."""
    for sample in (data[:4096], data[max(0, around - 2048) : around + 2048]):
        strange = sum("\udc80" <= c <= "\udcff" for c in sample.decode("utf-8", "surrogateescape"))
        if b"\0" in sample or strange > 8 + len(sample) // 10:
            return True
    return False


@dataclass
class Walk:
    """One pass over both texts, from difference to difference."""

    left: bytes
    right: bytes
    context: int
    max_lines: int
    deadline: float
    lines: list[str] = field(default_factory=list)
    differing: int = 0
    shown: int = 0  # left is shown up to this byte
    counted: tuple[int, int, int, int] = (0, 1, 0, 1)  # left byte, its line, right byte, its line

    def run(self, left_end: int, right_end: int) -> bool:
        """Whether it stopped early. All positions are starts of lines, except the ends of data."""
        i = j = 0
        while True:
            same = common_prefix(self.left, i, self.right, j)
            same = min(same, left_end - i, right_end - j)
            if i + same >= left_end and j + same >= right_end:
                return False
            start = self.left.rfind(b"\n", i, i + same) + 1 or i
            i, j = start, j + start - i
            if len(self.lines) >= self.max_lines or time.monotonic() > self.deadline:
                return True
            a = list(window(self.left, i, left_end))
            b = list(window(self.right, j, right_end))
            taken = self.difference(i, j, a, b)
            if taken is None:
                return True
            i += sum(map(len, a[: taken[0]]))
            j += sum(map(len, b[: taken[1]]))

    def difference(self, i: int, j: int, a: list[bytes], b: list[bytes]) -> tuple[int, int] | None:
        """Shows the difference that begins here; how many lines of each side it took.

        None: the limit of lines was reached.
        """
        self.open_hunk(i, j)
        for tag, a1, a2, b1, b2 in difflib.SequenceMatcher(None, a, b).get_opcodes():
            if tag == "equal":
                if a2 - a1 >= RESYNCHRONISED:
                    after = a[a1 : min(a2, a1 + self.context)]
                    self.shown = i + sum(map(len, a[:a1])) + sum(map(len, after))
                    return (a1, b1) if self.show(" ", after) else None
                if not self.show(" ", a[a1:a2]):
                    return None
                continue
            columns = [common_prefix(x, 0, y, 0) for x, y in zip(a[a1:a2], b[b1:b2], strict=False)]
            for sign, part in (("-", a[a1:a2]), ("+", b[b1:b2])):
                if not self.show(sign, part, columns):
                    return None
        self.shown = i + sum(map(len, a))
        return len(a), len(b)

    def open_hunk(self, i: int, j: int) -> None:
        start = i
        for _ in range(self.context):
            if start <= self.shown:
                break
            start = self.left.rfind(b"\n", self.shown, start - 1) + 1 or self.shown
        if start > self.shown or not self.lines:
            line = self.numbers(i, j)
            self.lines.append(f"@@ line {line[0]} (byte {i}) | line {line[1]} (byte {j}) @@")
        self.show(" ", list(window(self.left, start, i)))

    def numbers(self, i: int, j: int) -> tuple[int, int]:
        i0, line, j0, other = self.counted
        line += self.left.count(b"\n", i0, i)
        other += self.right.count(b"\n", j0, j)
        self.counted = (i, line, j, other)
        return line, other

    def show(self, sign: str, part: list[bytes], columns: list[int] | None = None) -> bool:
        """False once there is no room for a line."""
        for index, line in enumerate(part):
            if len(self.lines) >= self.max_lines:
                return False
            where = columns[index] if columns and index < len(columns) else 0
            self.lines.append(sign + clipped(line, where))
            self.differing += sign != " "
        return True


def window(data: bytes, start: int, end: int) -> Iterator[bytes]:
    """The next lines, each with its newline: some hundred, or about a megabyte, at least one."""
    stop = min(end, start + WINDOW_BYTES)
    for _ in range(WINDOW_LINES):
        if start >= stop:
            return
        newline = data.find(b"\n", start, end)
        after = end if newline < 0 else newline + 1
        yield data[start:after]
        start = after


def clipped(line: bytes, column: int) -> str:
    """The line without its newline; a long one from a little before ``column`` on."""
    ending = "" if line.endswith(b"\n") else " [no newline at the end]"
    line = line.removesuffix(b"\n")
    if len(line) > WIDTH and column > WIDTH // 2:
        skipped = min(column, len(line)) - WIDTH // 4
        return f"[{skipped} bytes] …{printable(line[skipped:], WIDTH)}{ending}"
    return printable(line, WIDTH) + ending


def hex_dump(
    left: bytes, right: bytes, first: int, end: int, context: int, max_lines: int
) -> TextDiff:
    """Rows at the same offsets of both sides, from a little before ``first`` on."""
    lines: list[str] = []
    differing = 0
    start = max(0, first // ROW - context) * ROW
    stop = min(max(len(left), len(right)), (-(-end // ROW) + context) * ROW)
    for offset in range(start, stop, ROW):
        rows = (left[offset : offset + ROW], right[offset : offset + ROW])
        equal = rows[0] == rows[1]
        if len(lines) + (1 if equal else 2) > max_lines:
            return TextDiff(tuple(lines), True, first, differing, binary=True)
        for sign, row in ((" ", rows[0]),) if equal else (("-", rows[0]), ("+", rows[1])):
            if row:
                lines.append(hex_row(sign, offset, row))
                differing += sign != " "
    return TextDiff(tuple(lines), False, first, differing, binary=True)


def hex_row(sign: str, offset: int, row: bytes) -> str:
    characters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
    return f"{sign}{offset:08x}  {row.hex(' '):<{3 * ROW - 1}}  {characters}"
