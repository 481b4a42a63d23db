"""Hostile text made safe to print: visible escapes instead of anything that acts or hides.

Compilers print what they like, and name files as they like. A terminal obeys control characters,
and a reader is misled by characters that turn the direction of text, that have no width, or that
are no characters at all.
"""

from __future__ import annotations

import unicodedata

MARK = "…[cut]"

# Categories that are shown as they are: letters, marks, numbers, punctuation, symbols.
VISIBLE = frozenset("LMNPS")
# Of these, what is blank or joins invisibly all the same: fillers, variation selectors, the
# combining grapheme joiner, Mongolian selectors, Khmer inherent vowels, the braille blank.
BLANK = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
    | {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
)
SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
MOST_MARKS = 4  # combining marks in a row; more would run over neighbouring lines


def printable(text: str | bytes, limit: int, *, newlines: bool = False) -> str:
    r"""``text`` without anything that acts on a terminal or cannot be seen.

    limit: most characters of the result, a final mark included where something was cut off; at
    least the mark's length.
    newlines: keep ``\n``; otherwise it is escaped like every other control character.

    Bytes that are not UTF-8 are shown as ``\xff``, characters as ``\t``, ``\x1b``, ``\u202e`` or
    ``\U000e0001``, a backslash as itself. No markup is escaped: that is up to the report.
    """
    if limit < len(MARK):
        raise ValueError(f"a limit of {limit} characters leaves no room for the mark")
    # What cannot fit is not decoded: a character has at most four bytes.
    if isinstance(text, bytes):
        text = text[: 4 * (limit + 1)].decode("utf-8", "surrogateescape")
    pieces: list[str] = []
    size = marks = 0
    for character in text[: limit + 1]:
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        keep = marks <= MOST_MARKS and (safe(character) or (newlines and character == "\n"))
        piece = character if keep else escaped(character)
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            return cut(pieces, limit - len(MARK)) + MARK
    return "".join(pieces)


def safe(character: str) -> bool:
    if " " <= character <= "~":
        return True
    return unicodedata.category(character)[0] in VISIBLE and ord(character) not in BLANK


def escaped(character: str) -> str:
    if character in SHORT:
        return SHORT[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape carries it
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def cut(pieces: list[str], limit: int) -> str:
    """The pieces that fit into ``limit`` characters; an escape is kept whole or left out."""
    kept: list[str] = []
    for piece in pieces:
        limit -= len(piece)
        if limit < 0:
            break
        kept.append(piece)
    return "".join(kept)
