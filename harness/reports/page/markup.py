"""Markup, and the one place where text is escaped: what is not made here is text."""

from __future__ import annotations

import html
import re
import shlex
from collections.abc import Iterable, Sequence

from harness.reports.page import limits
from harness.text import printable

_VOID = frozenset({"meta", "input", "br"})
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Safe(str):
    """Markup that was made here. Any other string is text."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | bool | None) -> Safe:
    """An element. Children that are not Safe, and all attributes, are escaped.

    Attributes: ``class_`` and ``for_`` lose their mark, other underscores become hyphens; True
    stands for the bare name, None and False for no attribute.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        words.append(label if value is True else f'{label}="{_escaped(value)}"')
    start = f"<{' '.join(words)}>"
    if name in _VOID:
        return Safe(start)
    return Safe(f"{start}{joined(*children)}</{name}>")


def joined(*children: str) -> Safe:
    return Safe("".join(c if isinstance(c, Safe) else _escaped(c) for c in children))


def _escaped(text: str, limit: int = limits.MAX_TEXT) -> Safe:
    return Safe(html.escape(printable(text, limit), quote=True))


def prose(text: str) -> Safe:
    """What a program may have said: its lines kept, direction and markup without effect."""
    words = Safe(html.escape(printable(text, limits.MAX_TEXT, newlines=True), quote=True))
    return tag("span", words, class_="said")


def digest(sha256: str | None) -> Safe:
    if sha256 is None:
        return tag("span", "absent", class_="quiet")
    if not _DIGEST.fullmatch(sha256):
        return tag("code", sha256)
    return _copyable("digest", sha256)


def _copyable(kind: str, text: str) -> Safe:
    button = tag("button", "copy", type="button", class_="copy", aria_label=f"copy this {kind}")
    return tag("span", tag("code", text), button, class_=kind)


def command_line(words: Sequence[str], limit: int = limits.MAX_TEXT) -> Safe:
    """A line to be copied. Cut off, it could do something else; then it is not offered."""
    line = shlex.join(words)
    shown = printable(line, limit)
    if shown != line:
        return tag("p", tag("code", Safe(html.escape(shown))), " (not as it is: see report.json)")
    return _copyable("command", line)


def table(head: Sequence[str], rows: Iterable[str], label: str, class_: str = "") -> Safe:
    """In a box of its own that scrolls, so that the page does not."""
    cells = [tag("th", text, scope="col") for text in head]
    inner = tag("table", tag("thead", tag("tr", *cells)), tag("tbody", *rows))
    names = f"box {class_}".strip()
    return tag("div", inner, class_=names, role="region", aria_label=label, tabindex="0")


def row(name: str, *cells: str, bad: bool = False, found: bool = True) -> Safe:
    """``found``: the search looks at it."""
    head = tag("th", name, scope="row")
    kind = "f" if found else None
    return tag("tr", head, *(tag("td", cell) for cell in cells), class_=kind, data_bad=bad)


def definitions(pairs: Iterable[tuple[str, str]]) -> Safe:
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs))


def bullets(items: Iterable[str]) -> Safe:
    return tag("ul", *(tag("li", item) for item in items))


def section(name: str, title: str, *children: str) -> Safe:
    return tag("section", tag("h2", title, id=f"h-{name}"), *children, id=name)


def fold(
    summary_: Iterable[str], *children: str, open_: bool = False, **attributes: str | bool | None
) -> Safe:
    return tag("details", tag("summary", *summary_), *children, open=open_, **attributes)


def time_bar(seconds: float, longest: float, digits: int = 1) -> Safe:
    """Seconds, and a bar of up to 100 units."""
    words = f"{seconds:.{digits}f} s"
    if longest <= 0:
        return joined(words)
    width = min(max(100 * seconds / longest, 0.5), 100)
    bar = tag("rect", width=f"{width:.1f}", height="10", class_="bar")
    svg = tag("svg", bar, viewBox="0 0 100 10", width="100", height="10", aria_hidden="true")
    return tag("span", svg, f" {words}", class_="time")


def counted(number: int, what: str, several: str = "") -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {several or f'{what}s'}"


def size(number: int | None) -> str:
    return "–" if number is None else f"{number:,} bytes"
