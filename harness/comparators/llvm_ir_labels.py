"""Labels that LLVM gives while printing: text without them, or under other ones."""

from __future__ import annotations

import re

COMMENT = 50  # the column in which LLVM puts a comment behind a label
TOKEN = re.compile(
    rb'%"[^"\n]*"|%[-a-zA-Z$._0-9]+'
    rb'|@"[^"\n]*"|@[-a-zA-Z$._0-9]+'
    rb"|[!#][0-9]{1,9}(?![-a-zA-Z$._0-9])"
    rb'|^("[^"\n]*"|[-a-zA-Z$._0-9]+):( +(?=;))?'
    rb'|"[^"\n]*"',
    re.M,
)
PREDECESSORS = re.compile(rb"^([^\n;\"]*:) *; preds = [^\n]*", re.M)
References = list[bytes]


class Canonical:
    """One piece of text with its labels out of the way.

    ``text``: locals numbered by first appearance, globals as ``renamed`` says, references without
    their numbers; ``references``: these, in order; ``names``: the locals, in order.
    """

    def __init__(self, text: bytes, types: set[bytes], renamed: dict[bytes, bytes]) -> None:
        self.references: References = []
        numbers: dict[bytes, int] = {}

        def replaced(found: re.Match[bytes]) -> bytes:
            token = found[0]
            first = token[0]
            if first == 0x25:  # %
                if token in types:
                    return token
                return b"%%:%d" % numbers.setdefault(token, len(numbers))
            if first == 0x40:  # @
                return renamed.get(token, token)
            if first in b"!#":
                self.references.append(token)
                return token[:1] + b":"
            if found[1]:  # a label; blanks up to a column follow it
                number = numbers.setdefault(b"%" + found[1], len(numbers))
                return b":%d:%s" % (number, b" " if found[2] else b"")
            return token

        self.text = TOKEN.sub(replaced, text)
        self.names = list(numbers)


def spelled(text: bytes, names: dict[bytes, bytes], types: set[bytes]) -> bytes:
    """The text with its locals under other names."""

    def replaced(found: re.Match[bytes]) -> bytes:
        token = found[0]
        if token[0] in b"%@" and token not in types:
            return names.get(token, token)
        if found[1]:
            label = names.get(b"%" + found[1], b"%" + found[1])[1:] + b":"
            return label.ljust(COMMENT) if found[2] else label
        return token

    return TOKEN.sub(replaced, text)


def unnamed(text: bytes, types: set[bytes]) -> bytes:
    """The text without names of locals, and without numbers of what it refers to."""

    def replaced(found: re.Match[bytes]) -> bytes:
        token = found[0]
        if token[0] == 0x25 and token not in types:
            return b"%_"
        if found[1]:
            return b"_:"
        return token[:1] + b"_" if token[0] in b"!#" else token

    return TOKEN.sub(replaced, PREDECESSORS.sub(rb"\1", text))
