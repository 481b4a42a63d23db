"""What differs in two files cut into pieces: in one piece, between them, in their order."""

from __future__ import annotations

import re
from collections.abc import Collection

from harness.comparators.interface import Part, Status
from harness.comparators.mapped import Source, prefix_of, suffix_of
from harness.comparators.pieces import Findings, Key, Piece, Pieces, moved
from harness.comparators.text import TextDiff, differing_part
from harness.text import printable

WINDOW = 2**22  # bytes of one side in which a difference is shown
CONTEXT = 2
PLACE = re.compile(r"@@ line (\d+) \(byte (\d+)\) \| line (\d+) \(byte (\d+)\) @@")
ROW = re.compile(r"([-+ ])([0-9a-f]{8,}) ")


def difference_in(
    a: Source,
    left: tuple[int, int],
    b: Source,
    right: tuple[int, int],
    max_lines: int,
    seconds: float,
) -> tuple[tuple[str, ...], bool]:
    """A diff of two ranges with lines and bytes counted in the whole files; whether it is cut off.

    At most ``WINDOW`` bytes from the first difference on are read.
    """
    (start, end), (other, other_end) = left, right
    same = prefix_of(a, start, end, b, other, other_end)
    tail = suffix_of(a, end, b, other_end, min(end - start, other_end - other) - same)
    before = a.read(start + max(0, same - 4096), start + same)
    lines = before.splitlines(keepends=True)
    kept = sum(map(len, lines[-CONTEXT - 1 :]))
    start, other = start + same - kept, other + same - kept
    after = min(tail, 4096)
    end, other_end = end - tail + after, other_end - tail + after
    cut = max(end - start, other_end - other) > WINDOW

    def diff(start: int, other: int) -> TextDiff:
        return differing_part(
            a.read(start, min(end, start + WINDOW)),
            b.read(other, min(other_end, other + WINDOW)),
            context=CONTEXT,
            max_lines=max_lines,
            max_seconds=seconds,
        )

    found = diff(start, other)
    if found.binary:  # once more, with rows that begin at round offsets
        start, other = start - min(start, other) % 16, other - min(start, other) % 16
        found = diff(start, other)
    if found.binary:
        return tuple(at_offset(line, start) for line in found.lines), found.truncated or cut
    base, other_base = a.line(start), b.line(other)

    def placed(found: re.Match[str]) -> str:
        numbers = [int(found[group]) for group in (1, 2, 3, 4)]
        return (
            f"@@ line {numbers[0] + base} (byte {numbers[1] + start})"
            f" | line {numbers[2] + other_base} (byte {numbers[3] + other}) @@"
        )

    shown = tuple(PLACE.sub(placed, line) if line.startswith("@") else line for line in found.lines)
    return shown, found.truncated or cut


def at_offset(row: str, start: int) -> str:
    """A row of a hex dump of what begins at ``start``."""
    return ROW.sub(lambda found: f"{found[1]}{int(found[2], 16) + start:08x} ", row, count=1)


def changed(findings: Findings, a: Pieces, x: Piece, b: Pieces, y: Piece, note: str = "") -> None:
    """One piece that is not the same, with its differing lines."""
    if findings.full or findings.seconds() <= 0:
        findings.truncated = True
        lines: tuple[str, ...] = ()
    else:
        lines, cut = difference_in(
            a.source,
            (x.start, x.end),
            b.source,
            (y.start, y.end),
            findings.bounds.lines,
            min(2.0, findings.seconds()),
        )
        note = "; ".join(filter(None, (note, "there is more than is shown" if cut else "")))
    findings.add(Part(x.kind, x.shown, Status.CHANGED, x.size, y.size, lines, note=note))


def only(findings: Findings, side: Pieces, piece: Piece, status: Status) -> None:
    """A piece on one side, with its first line."""
    if findings.full:
        findings.truncated = True
        return
    start = piece.start
    while start < piece.end and side.source.data[start : start + 1] in (b"\n", b"\r"):
        start += 1
    first = side.source.read(start, min(piece.end, start + 4096)).split(b"\n", 1)[0]
    left, right = (piece.size, None) if status is Status.REMOVED else (None, piece.size)
    line = ("-" if right is None else "+") + printable(first, 240)
    findings.add(Part(piece.kind, piece.shown, status, left, right, (line,)))


def compare_order(
    findings: Findings, left: Pieces, right: Pieces, leave_out: Collection[Key] = ()
) -> None:
    """Reports what has another place; of ``leave_out`` neither name is one to go by."""
    keys = [[key for key in side.named if key not in leave_out] for side in (left, right)]
    for key in moved(*keys):
        x, y = left.named[key], right.named[key]
        findings.add(Part(x.kind, x.shown, Status.MOVED, x.size, y.size))


def compare_rest(
    findings: Findings,
    left: Source,
    gaps: list[tuple[int, int]],
    right: Source,
    others: list[tuple[int, int]],
    name: str,
) -> None:
    """What lies between the pieces, taken together."""
    a = b"".join(left.read(*gap) for gap in gaps)
    b = b"".join(right.read(*gap) for gap in others)
    if a == b:
        if [end - start for start, end in gaps] != [end - start for start, end in others]:
            findings.notes.append(f"{name} stand at other places")
        return
    found = differing_part(
        a, b, context=CONTEXT, max_lines=findings.bounds.lines, max_seconds=findings.seconds()
    )
    note = "counted without the named parts" + (
        "; there is more than is shown" if found.truncated else ""
    )
    findings.add(Part("text", name, Status.CHANGED, len(a), len(b), found.lines, note=note))
