"""What must hold of every answer, whatever was read: safe to print, bounded, and not a surprise."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from harness.comparators.interface import Bounds, Examined
from harness.errors import HarnessError, ToolchainError, UsageError

BOUNDS = Bounds(parts=50, lines=40, seconds=2.0)
MAX_LINE = 4000  # characters of one line that is shown
MAX_MESSAGE = 4000


class Broken(AssertionError):  # noqa: N818 (what a fuzzer reports)
    """A property does not hold; the text says which."""


def claim(holds: bool, what: str) -> None:
    if not holds:
        raise Broken(what)


def safe(text: str, what: str, *, newlines: bool = False) -> None:
    """No character that acts on a terminal, turns the direction of text, or is none at all."""
    for character in text:
        if newlines and character == "\n":
            continue
        category = unicodedata.category(character)
        if category[0] == "C" or category in ("Zl", "Zp"):
            raise Broken(f"{what} holds U+{ord(character):04X}")


def answer(found: Examined) -> None:
    """Of what a comparator says."""
    claim(len(found.parts) <= BOUNDS.parts, f"{len(found.parts)} parts")
    for part in found.parts:
        for text in (part.kind, part.name, part.new_name, part.note):
            safe(text, f"a {part.kind}")
            claim(len(text) <= MAX_LINE, f"a {part.kind} of {len(text)} characters")
        claim(len(part.lines) <= BOUNDS.lines + 3, f"{len(part.lines)} lines")
        for line in part.lines:
            safe(line, "a line")
            claim(len(line) <= MAX_LINE, f"a line of {len(line)} characters")
            claim(not line or line[0] in "-+@ ", f"a line begins with {line[:1]!r}")
    for note in found.notes:
        safe(note, "a note")
        claim(len(note) <= MAX_LINE, f"a note of {len(note)} characters")


@contextmanager
def only(*allowed: type[Exception]) -> Iterator[None]:
    """The documented errors end the block; their text is safe to print, and short.

    A HarnessError is shown as two lines: what happened, and what to do. One about a user's own file
    may quote it at length: it is cut where it is shown.
    """
    try:
        yield
    except allowed as error:
        texts = [error.what, error.hint] if isinstance(error, HarnessError) else [str(error)]
        for text in texts:
            safe(text, f"the text of a {type(error).__name__}")
            own = isinstance(error, (ToolchainError, UsageError))
            claim(own or len(text) <= MAX_MESSAGE, f"an error of {len(text)} characters")
