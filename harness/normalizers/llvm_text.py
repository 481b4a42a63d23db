"""What normalizers of textual LLVM IR must know before they may look at single lines."""

from __future__ import annotations

import re

from harness.normalizers.interface import NotApplicable

PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n"
MAX_TOKENS = 20_000_000  # strings, comments and references; the largest module seen has 300,000
STRINGS_AND_COMMENTS = re.compile(rb'(")[^"\n]*(")|;[^\n]*')
# LLVM also reads `! 1` as a reference to !1, but never prints it.
LOOSE_REFERENCE = re.compile(rb'!(?![-a-zA-Z$._\\{"0-9])')


def check_lines(data: bytes) -> None:
    """Raises NotApplicable unless every line is what it seems.

    Only printable ASCII, tabs and newlines, every string closed on its own line, no ``/* */``
    comment: so no line begins inside a string or a comment. And no ``!`` that stands apart from
    what it refers to.
    """
    if data.translate(None, PLAIN):
        raise NotApplicable("the text holds bytes that LLVM does not print")
    if sum(map(data.count, (b'"', b";", b"!"))) > MAX_TOKENS:
        raise NotApplicable(f"the text has more than {MAX_TOKENS} tokens to look at")
    if not evidently_plain(data):
        look_closely(data)


def look_closely(data: bytes) -> None:
    """The part of :func:`check_lines` about strings, comments and references, as it is meant."""
    rest = STRINGS_AND_COMMENTS.sub(rb"\1\2", data)
    if LOOSE_REFERENCE.search(rest):
        raise NotApplicable("a reference to metadata in a form that LLVM does not print")
    if b"/*" in rest or b'"' in rest.replace(b'""', b""):
        raise NotApplicable("a string goes on past its line, or there is a /* comment")


def evidently_plain(data: bytes) -> bool:
    """The same question for almost every text, ten times as fast; False: look closely.

    Cut at every quote. If no inner part has a line end, and no outer part leaves a ``;`` open on
    its last line, where the next quote would be in a comment, then the inner parts are the strings.
    Comments are still in the rest, and can only make it look suspicious: one that LLVM prints
    often goes first.
    """
    parts = data.split(b'"')
    outer, inner = parts[::2], parts[1::2]
    if len(parts) % 2 == 0 or any(b"\n" in part for part in inner):
        return False
    if any(part.rfind(b";") > part.rfind(b"\n") for part in outer[:-1]):
        return False
    rest = b'""'.join(outer).replace(b"; No predecessors!\n", b"\n")
    return b"/*" not in rest and LOOSE_REFERENCE.search(rest) is None
