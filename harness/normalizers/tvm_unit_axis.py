"""Two ways to print the axis of a block that computes a single number.

A tensor of rank 0 has no axis, so TVM gives its block one of extent 1, which nothing uses. TVM 0.26
prints ``vi = T.axis.spatial(1, T.int64(0))`` where 0.27 prints
``vi = T.axis.spatial(T.int64(1), T.int64(0))``: the older one makes the extent an int32, whatever
the axis is. The older spelling is rewritten to the newer one.

**Claim.** If ``normalize(a) == normalize(b)``, then ``a`` and ``b`` are equal but for the type of
the extents of axes, each of which takes the value 0 alone and is used nowhere.

1. The text is lexed as Python (:mod:`harness.normalizers.tvm_text`); what the lexer does not know
   is refused. Beyond strings and comments it is ASCII, without tabs, backslashes or semicolons. So
   a statement is what lies between two line ends outside of all brackets, and belongs to the
   statements above it that are indented less.
2. Only a whole statement, on one line, ``NAME = T.axis.spatial(1, T.int64(0))`` is taken, and only
   right below ``with T.sblock("…"):``, as the first in that block.
3. NAME occurs in no other statement of that block, which is no longer than MOST bytes; outside of
   it, the name means something else. So whatever type the axis has, it reaches nothing.
4. An axis of extent 1 that is bound to 0 has the values 0 ≤ v < 1, in int32 as in int64: the block
   runs once, as it does in the other spelling.
5. Nothing but the number between ``(`` and ``,`` is changed.

**What could hide here.** One bit for each such axis: how its extent is spelt. The text is a dump
that nothing reads back, and the LLVM IR made of it is compared by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.normalizers.interface import Normalized, NotApplicable, refuse_large
from harness.normalizers.tvm_text import tokens

MOST = 2**16
OLD, NEW = b"1", b"T.int64(1)"
AXIS = re.compile(rb" +([A-Za-z_][A-Za-z_0-9]*) = T\.axis\.spatial\((1), T\.int64\(0\)\)")
BLOCK = re.compile(rb' +with T\.sblock\("\.*"\):')
FOREIGN = re.compile(rb"[^\n -\x7e]|[\\;]")
BRACKET = re.compile(rb"[][(){}]")
NAMES = re.compile(rb"[A-Za-z_][A-Za-z_0-9]*")


@dataclass(frozen=True)
class Statement:
    """``start``, ``end``: its place in the text. ``indent``: spaces before it."""

    start: int
    end: int
    indent: int


@dataclass(frozen=True)
class UnitAxis:
    """The normalizer ``tvm-unit-axis``; the module's docstring is its proof."""

    id: str = "tvm-unit-axis"
    applies_to: frozenset[str] = field(default=frozenset({"tensor-ir"}))
    reorders: bool = False

    def normalize(self, data: bytes) -> Normalized:
        refuse_large(data)
        code = code_of(data)
        parts, position = [], 0
        for place in places(code):
            parts += [data[position:place], NEW]
            position = place + len(OLD)
        return Normalized(b"".join([*parts, data[position:]]), len(OLD) * (len(parts) // 2))


def code_of(data: bytes) -> bytes:
    """(1): the text with dots for what is in strings, and spaces for comments; as long as it."""
    parts, position = [], 0
    for token in tokens(data):
        text = token[0]
        inner = text[:1] + b"." * (len(text) - 2) + text[-1:]
        hidden = b" " * len(text) if text[:1] == b"#" else inner
        parts += [data[position : token.start()], hidden]
        position = token.end()
    code = b"".join([*parts, data[position:]])
    if (found := FOREIGN.search(code)) is not None:
        raise NotApplicable(f"a character that TVM does not print at byte {found.start()}")
    return code


def statements(code: bytes) -> Iterator[Statement]:
    """(1): each statement that is not empty, in order."""
    depth, start, position = 0, 0, 0
    for line in code.split(b"\n"):
        for bracket in BRACKET.findall(line):
            depth += 1 if bracket in b"([{" else -1
            if depth < 0:
                raise NotApplicable(f"a bracket that nothing opens near byte {position}")
        position += len(line) + 1
        if depth:
            continue
        text = code[start : position - 1]
        if text.strip():
            yield Statement(start, position - 1, len(text) - len(text.lstrip(b" \n")))
        start = position
    if depth:
        raise NotApplicable("a bracket that nothing closes")


def places(code: bytes) -> Iterator[int]:
    """(2), (3): where the extent stands that is to be rewritten."""
    found = list(statements(code))
    for number in range(1, len(found)):
        one = found[number]
        axis = AXIS.fullmatch(code, one.start, one.end)
        above = found[number - 1]
        if (
            axis is None
            or BLOCK.fullmatch(code, above.start, above.end) is None
            or above.indent >= one.indent
        ):
            continue
        if not used(axis[1], found, number, code):
            yield axis.start(2)


def used(name: bytes, found: Sequence[Statement], number: int, code: bytes) -> bool:
    """(3): whether the rest of the block of this axis uses it, or is too long to tell."""
    axis = found[number]
    for below in range(number + 1, len(found)):
        one = found[below]
        if one.indent < axis.indent:
            return False
        if one.end - axis.start > MOST or name in NAMES.findall(code, one.start, one.end):
            return True
    return False
