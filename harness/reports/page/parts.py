"""What looking into two artifacts gave: their parts, and the lines that differ."""

from __future__ import annotations

import html
from collections.abc import Sequence

from harness.comparators.interface import Examined, Part
from harness.reports.page import limits
from harness.reports.page.aligned import aligned
from harness.reports.page.markup import Safe, bullets, counted, fold, joined, prose, size, tag
from harness.reports.page.room import Room, capped
from harness.text import printable


def examined_parts(
    examined: Examined | None, left: str, right: str, opened: bool, found: bool = False
) -> Safe:
    """``opened``: show the first part that has lines; ``found``: the search looks at each part."""
    if examined is None:
        return tag("p", "Not looked into for this page; the command below does.", class_="quiet")
    changed = counted(len(examined.parts), "differing part")
    count = f"Read as {examined.format}: {changed}, {examined.same:,} the same."
    if examined.truncated:
        count += " There may be more."
    first = next((part for part in examined.parts if part.lines), None) if opened else None
    shown, missing = capped(
        examined.parts,
        limits.MAX_PARTS,
        Room(limits.MAX_LOOK),
        lambda p: _part(p, left, right, p is first, found),
        "parts",
    )
    notes = bullets(map(prose, examined.notes[:50])) if examined.notes else Safe("")
    return tag("div", tag("p", count), notes, *shown, missing, class_="parts")


def _part(part: Part, left: str, right: str, opened: bool, found: bool) -> Safe:
    name = tag("code", part.name)
    if part.new_name:
        name = joined(name, " → ", tag("code", part.new_name))
    sizes = f" {size(part.left_size)} → {size(part.right_size)}"
    if part.left_size is None and part.right_size is None:
        sizes = ""
    heading = [tag("strong", part.status.value), f" {part.kind} ", name, tag("small", sizes)]
    note = tag("p", prose(part.note)) if part.note else Safe("")
    names = "part f" if found else "part"
    if not part.lines:
        return tag("div", tag("p", *heading), note, class_=names)
    return fold(heading, note, line_box(part.lines, left, right), open_=opened, class_=names)


def line_box(lines: Sequence[str], left: str, right: str, most: int = limits.MAX_LINES) -> Safe:
    """One line an element, its sign first; the script makes two columns of it."""
    shown: list[Safe] = []
    rows = [printable(line, limits.MAX_LINE) for line in lines[:most]]
    index = 0
    while index < len(rows):
        gone = _run(rows, index, "-")
        came = _run(rows, index + len(gone), "+")
        if gone or came:
            shown += _changed(gone, came)
            index += len(gone) + len(came)
        else:
            kind = "at" if rows[index][:1] in ("@", "!", "#") else None
            shown.append(tag("span", _text(rows[index]), class_=kind))
            index += 1
    if len(lines) > most:
        shown.append(tag("span", f"… and {len(lines) - most} more lines", class_="at"))
    return tag(
        "div", *shown, class_="diff", data_left=left, data_right=right, tabindex="0",
        role="region", aria_label=f"difference of {left} and {right}",
    )  # fmt: skip


def _changed(gone: Sequence[str], came: Sequence[str]) -> list[Safe]:
    """Removed lines, then added ones. ``data-row``: which stand beside each other, where it is not
    simply the first beside the first.
    """
    olds: list[Safe] = []
    news: list[Safe] = []
    rows = aligned(gone, came)
    for place, (i, j) in enumerate(rows):
        if i is not None and j is not None:
            old, new = marked(gone[i], came[j])
        else:
            old = _text(gone[i]) if i is not None else Safe("")
            new = _text(came[j]) if j is not None else Safe("")
        if i is not None:
            olds.append(tag("del", old, data_row=str(place) if place != i else None))
        if j is not None:
            news.append(tag("ins", new, data_row=str(place) if place != j else None))
    return olds + news


def _run(rows: Sequence[str], start: int, sign: str) -> Sequence[str]:
    end = start
    while end < len(rows) and rows[end][:1] == sign:
        end += 1
    return rows[start:end]


def _text(row: str) -> Safe:
    return Safe(html.escape(row, quote=True))


def marked(old: str, new: str) -> tuple[Safe, Safe]:
    """Both lines, with a mark around what is between their equal beginning and equal end."""
    shortest = min(len(old), len(new))
    start = 1  # the sign
    while start < shortest and old[start] == new[start]:
        start += 1
    end = 0
    while end < shortest - start and old[-1 - end] == new[-1 - end]:
        end += 1

    def parted(row: str) -> Safe:
        stop = len(row) - end
        inner = tag("mark", _text(row[start:stop])) if start < stop else Safe("")
        return joined(_text(row[:start]), inner, _text(row[stop:]))

    return parted(old), parted(new)
