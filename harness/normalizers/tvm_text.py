"""What normalizers of TVM's printed script must know before they may look at single lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.normalizers.interface import NotApplicable

MAX_TOKENS = 20_000_000  # strings and comments; the largest text seen has some 20,000

TOKEN = re.compile(
    rb"""
      (?P<unknown> (?<=[A-Za-z_0-9\x80-\xff]) ["'] | \"{3} | '{3} )
    | " (?P<double> [^"\\\n]* (?: \\[^\n] [^"\\\n]* ){0,10000} ) "
    | ' (?P<single> [^'\\\n]* (?: \\[^\n] [^'\\\n]* ){0,10000} ) '
    | \#[^\n]*
    | (?P<unclosed> ["'] )
    """,
    re.VERBOSE,
)
CONTROLS = bytes(set(range(0x20)) - set(b"\t\n")) + b"\x7f"


def tokens(data: bytes) -> Iterator[re.Match[bytes]]:
    """Each string literal and comment of a text in Python; raises NotApplicable.

    What this lexer does not know (triple quotes, prefixed or unclosed strings, control characters,
    bytes that are not UTF-8) is refused.
    """
    if len(data.translate(None, CONTROLS)) != len(data):
        raise NotApplicable("the text holds control characters")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise NotApplicable("the text is not UTF-8") from None
    if sum(map(data.count, (b'"', b"'", b"#"))) > MAX_TOKENS:
        raise NotApplicable(f"the text has more than {MAX_TOKENS} tokens to look at")
    for token in TOKEN.finditer(data):
        if token["unknown"] or token["unclosed"]:
            raise NotApplicable(f"a string literal of an unknown kind at byte {token.start()}")
        yield token
