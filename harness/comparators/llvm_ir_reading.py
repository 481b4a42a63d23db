"""A module of LLVM IR as text, cut into its pieces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from harness.comparators.interface import NotThisFormatError
from harness.comparators.mapped import Source
from harness.comparators.pieces import Piece, Pieces

BITCODE = (b"BC\xc0\xde", b"\xde\xc0\x17\x0b")  # the second: a wrapper around it
NAME = rb'(?:"[^"\n]{0,1000}"|[-a-zA-Z$._0-9]{1,1000})'
EVIDENT = re.compile(
    rb"^(?:; ModuleID = |source_filename = |target (?:datalayout|triple) = "
    rb"|define [^\n]{0,2000}@|declare [^\n]{0,2000}@)",
    re.M,
)
SYMBOL = re.compile(rb"@(%s)" % NAME)
GLOBAL = re.compile(rb"@(%s) =" % NAME)
TYPE = re.compile(rb"%%(%s) = type" % NAME)
GROUP = re.compile(rb"attributes #([0-9]{1,9}) =")
NAMED_NODE = re.compile(rb"!([-a-zA-Z$._\\][-a-zA-Z$._\\0-9]{0,1000}) =")
NODE = re.compile(rb"!([0-9]{1,9}) = ")
OTHER = re.compile(rb"(?:\$%s|[a-z_]+(?: [a-z_]+)?)" % NAME)
BLANKS = re.compile(rb"[ \t]*")
AFTER_NODES = re.compile(rb"\n(?!![0-9])")


@dataclass
class Module:
    """A module's pieces, the ranges of its numbered metadata, and the types that it names."""

    pieces: Pieces
    nodes: list[tuple[int, int]] = field(default_factory=list)
    types: set[bytes] = field(default_factory=set)
    open_end: bool = False  # the text stops inside a function

    def read(self, piece: Piece) -> bytes:
        return self.pieces.read(piece)


def read_module(text: Source) -> Module:
    """Raises NotThisFormatError."""
    head = text.data[: 2**16]
    if head.startswith(BITCODE):
        raise NotThisFormatError("LLVM bitcode: llvm-dis turns it into text")
    if b"\0" in head or not EVIDENT.search(head):
        raise NotThisFormatError("no LLVM IR text")
    module = Module(Pieces(text))
    position = 0
    while position < text.size:
        end = text.after_line(position)
        at = position  # LLVM indents nothing here; what somebody else indented counts the same
        if text.data[at : at + 1] in (b" ", b"\t"):
            at += len(BLANKS.match(text.data, position)[0])  # type: ignore[index]
        first = text.data[at : at + 1]
        if first in b";\r\n}":
            pass
        elif text.data[at : at + 7] == b"define ":
            end = function_end(text, module, end)
            module.pieces.add(Piece("function", symbol(text, at), position, end))
        elif first == b"!" and NODE.match(text.data, position):
            found = AFTER_NODES.search(text.data, end - 1)
            end = text.size if found is None else found.end()
            module.nodes.append((position, end))
        else:
            piece = replace(line_piece(text, at, end), start=position)
            module.pieces.add(piece)
            if piece.kind == "type":
                module.types.add(b"%" + piece.name)
        text.looked(end - position)
        position = end
    return module


def function_end(text: Source, module: Module, start: int) -> int:
    end = text.data.find(b"\n}", start - 1)
    if end < 0:
        module.open_end = True
        return text.size
    return text.after_line(end + 2)


def symbol(text: Source, position: int) -> bytes:
    found = SYMBOL.search(text.data, position, min(position + 4096, text.after_line(position)))
    return found[1] if found else text.data[position : position + 80]


def line_piece(text: Source, start: int, end: int) -> Piece:
    for kind, pattern in (
        ("global", GLOBAL),
        ("metadata", NAMED_NODE),
        ("attributes", GROUP),
        ("type", TYPE),
    ):
        found = pattern.match(text.data, start)
        if found:
            return Piece(kind, found[1], start, end)
    if text.data[start : start + 8] == b"declare ":
        return Piece("declaration", symbol(text, start), start, end)
    found = OTHER.match(text.data, start)
    return Piece("setting", found[0] if found else text.data[start : start + 40], start, end)
