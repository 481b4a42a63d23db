"""How `harness diff` says what was found: as lines for a terminal, and for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.comparators.examine import equal
from harness.comparators.interface import Examined, Part
from harness.text import printable


def lines_of(name: str, examined: Examined) -> Iterator[str]:
    """Lines to print, safe for a terminal: ``=`` for equality, ``!`` for each part, its diff
    (``-``, ``+``, ``@``, space) below it, ``#`` for what else is to be said.
    """
    shown = printable(name, 1000)
    if equal(examined):
        yield f"= {shown}: the same"
        return
    more = " or more" if examined.truncated else ""
    yield (
        f"! {shown}: {examined.format}, {len(examined.parts)}{more} parts differ, "
        f"{examined.same} are the same"
    )
    for part in examined.parts:
        yield f"! {_heading(part)}"
        for line in part.lines:
            yield printable(line, 1000)
    for note in examined.notes:
        yield f"# {printable(note, 1000)}"


def _heading(part: Part) -> str:
    new = f" → {part.new_name}" if part.new_name else ""
    sizes = [str(size) for size in (part.left_size, part.right_size) if size is not None]
    size = f", {' → '.join(dict.fromkeys(sizes))} bytes" if sizes else ""
    note = f"; {part.note}" if part.note else ""
    return printable(f"{part.kind} {part.name}{new}: {part.status}{size}{note}", 2000)


def as_json(left: str, right: str, found: Mapping[str, Examined]) -> dict[str, object]:
    """For ``json.dumps``. ``found``: answers by name, one for two files."""
    return {
        "left": printable(left, 1000),
        "right": printable(right, 1000),
        "same": all(equal(examined) for examined in found.values()),
        "files": [_plain(name, examined) for name, examined in found.items()],
    }


def _plain(name: str, examined: Examined) -> dict[str, object]:
    return {
        "name": printable(name, 1000),
        "format": examined.format,
        "same": equal(examined),
        "same_parts": examined.same,
        "truncated": examined.truncated,
        "notes": [printable(note, 1000) for note in examined.notes],
        "parts": [
            {
                "kind": part.kind,
                "name": printable(part.name, 1000),
                "status": part.status.value,
                "left_size": part.left_size,
                "right_size": part.right_size,
                "new_name": printable(part.new_name, 1000),
                "note": printable(part.note, 2000),
                "lines": [printable(line, 1000) for line in part.lines],
            }
            for part in examined.parts
        ],
    }
