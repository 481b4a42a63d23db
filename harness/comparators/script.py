"""TVMScript and MLIR text, function by function.

Reading goes by lines, in linear time, on the mapped file: what a toolchain wrote is never given to
a parser of the language.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from harness.comparators.interface import Bounds, Examined, NotThisFormatError, Part, Status
from harness.comparators.mapped import Source, same_bytes, source
from harness.comparators.pieces import Findings, Piece, Pieces, by_content
from harness.comparators.pieces_differ import changed, compare_order, compare_rest, only

# TVMScript.

DEFINITION = re.compile(
    rb"(?:\n|\A)([ \t]{0,32})(?:async )?(?:def|(class)) +([A-Za-z_][A-Za-z_0-9]{0,400})"
)
OUT_OF = [re.compile(rb"\n(?=[ \t]{0,%d}[^ \t\r\n)])" % depth) for depth in range(33)]
MOST_DECORATORS = 16


def read_python(text: Source) -> Pieces:
    """Functions at the top and in classes there, with their decorators."""
    pieces = Pieces(text)
    classes: list[tuple[int, bytes]] = []
    position = floor = 0
    while True:
        found = DEFINITION.search(text.data, position)
        if found is None:
            return pieces
        text.looked(found.end() - position)
        depth, name = len(found[1]), found[3]
        position = found.end()
        while classes and depth <= classes[-1][0]:
            classes.pop()
        if found[2]:
            classes.append((depth, name))
            continue
        line = found.start(1)
        start = decorated(text, line, depth, floor)
        out = OUT_OF[depth].search(text.data, position - 1)
        floor = text.size if out is None else out.end()
        text.looked(floor - position)
        path = b".".join([*(outer for _, outer in classes if outer != b"Module"), name])
        pieces.add(Piece("function", path, start, floor))
        position = max(position, floor - 1)


def decorated(text: Source, line: int, depth: int, floor: int) -> int:
    """Where the decorators in front of a definition begin."""
    for _ in range(MOST_DECORATORS):
        if line <= floor:
            break
        before = max(text.data.rfind(b"\n", max(floor, line - 65536), line - 1) + 1, floor)
        if text.data[before + depth : before + depth + 1] != b"@":
            break
        if text.data[before : before + depth].strip(b" \t"):
            break
        line = before
    return line


# MLIR.

OPERATION = re.compile(
    rb"(?:\n|\A)( {0,16})(?:(?:\"?([a-z_][a-z_0-9]{0,40}(?:\.[a-z_0-9]{1,40}){0,6})\"?"
    rb"(?: [a-z_\"]{1,40}){0,6} @(\"[^\"\n]{0,400}\"|[-A-Za-z$._0-9]{1,400}))"
    rb"|([#!](?!loc)[-A-Za-z$._0-9]{1,400}) =|([A-Za-z_$][-A-Za-z$._0-9]{0,400}): \"0x"
    rb"|((?:builtin\.)?module)\b)"
)
AFTER = [re.compile(rb"\n(?=[ \t]{0,%d}[^ \t\r\n})\]])" % depth) for depth in range(17)]
HOLDS_OPERATIONS = re.compile(
    rb"(?:builtin\.)?module|vm\.module|gpu\.module|spirv\.module|ml_program\.module"
    rb"|(?:hal|flow|stream)\.executable(?:\.variant)?"
)


def read_mlir(text: Source) -> Pieces:
    """Operations with a symbol, outside of others; aliases; resources. Names tell the module."""
    pieces = Pieces(text)
    modules: list[tuple[int, bytes]] = []
    position = 0
    while True:
        found = OPERATION.search(text.data, position)
        if found is None:
            return pieces
        text.looked(found.end() - position)
        depth, operation, symbol = len(found[1]), found[2] or found[6], found[3] or b""
        while modules and depth <= modules[-1][0]:
            modules.pop()
        position = found.end()
        if operation is not None and HOLDS_OPERATIONS.fullmatch(operation):
            modules.append((depth, symbol))
            continue
        start = found.start(1)
        if found[4] or found[5]:
            end = text.after_line(position)
            kind = "alias" if found[4] else "resource"
            pieces.add(Piece(kind, found[4] or found[5], start, end))
        else:
            out = AFTER[depth].search(text.data, position - 1)
            end = text.size if out is None else out.end()
            kind = "function" if operation.endswith((b".func", b"func")) else operation.decode()
            path = b"::".join([*(outer for _, outer in modules if outer), symbol])
            pieces.add(Piece(kind, path, start, closed(text, start, end)))
        text.looked(end - position)
        position = max(position, end - 1)


def closed(text: Source, start: int, end: int) -> int:
    """Without the lines at the end that close what is around: the last brace of its own stays.

    They are recognised by standing further to the left than the piece begins.
    """
    depth = len(text.data[start : start + 17]) - len(text.data[start : start + 17].lstrip(b" "))
    for _ in range(MOST_DECORATORS):
        before = text.data.rfind(b"\n", max(start, end - 4096), end - 1) + 1
        line = text.data[before:end]
        if before <= start or len(line) - len(line.lstrip(b" ")) >= depth or not line.strip():
            break
        end = before
    return end


class Script:
    """Functions of TVMScript or MLIR text, and what else there has a name."""

    format = "TVMScript or MLIR"

    def examine(self, left: Path, right: Path, bounds: Bounds) -> Examined:
        """Raises NotThisFormatError."""
        findings = Findings(bounds)
        sides = source(left), source(right)
        languages = {language(side) for side in sides}
        if len(languages) != 1 or None in languages:
            raise NotThisFormatError("not both TVMScript, both Python or both MLIR")
        form = languages.pop() or ""
        read = read_mlir if form == "MLIR" else read_python
        a, b = (read(side) for side in sides)
        if not a.named and not b.named:
            raise NotThisFormatError("there is no function in it")
        if same_bytes(a.source, 0, a.source.size, b.source, 0, b.source.size):
            return Examined(form, (), same=len(a.named))
        compare(findings, a, b)
        return findings.examined(form)


def language(text: Source) -> str | None:
    """Which of them it seems to be, by its first 64 KB. Any Python is read like TVMScript."""
    head = text.data[: 2**16]
    if b"\0" in head:
        return None
    if re.search(rb"^# from tvm\.script import|^@?(?:T\.prim_func|I\.ir_module)", head, re.M):
        return "TVMScript"
    if re.search(rb"^[ \t]{0,8}(?:class \w{1,99}:|def \w{1,400}\()", head, re.M):
        return "Python"
    if re.search(rb"^ {0,16}(?:builtin\.)?module\b[^\n]{0,4000}\{ *$", head, re.M):
        return "MLIR"
    if re.search(rb"^ {0,16}\"?[a-z_]+\.func\"?(?: [a-z]+)* @|^#\w+ = [a-z#]", head, re.M):
        return "MLIR"
    return None


def compare(findings: Findings, a: Pieces, b: Pieces) -> None:
    """By name, then by content without the name, then what is between, then the order."""
    for key, x in a.named.items():
        y = b.named.get(key)
        if y is not None:
            if same_bytes(a.source, x.start, x.end, b.source, y.start, y.end):
                findings.same += 1
            else:
                changed(findings, a, x, b, y)
    left = {key: piece for key, piece in a.named.items() if key not in b.named}
    right = {key: piece for key, piece in b.named.items() if key not in a.named}
    for key, other in by_content(left, right, nameless(a), nameless(b)):
        x, y = left.pop(key), right.pop(other)
        findings.add(Part(x.kind, x.shown, Status.RENAMED, x.size, y.size, new_name=y.shown))
    for side, pieces, status in ((a, left, Status.REMOVED), (b, right, Status.ADDED)):
        for piece in pieces.values():
            only(findings, side, piece, status)
    compare_rest(findings, a.source, a.rest(), b.source, b.rest(), "lines outside of functions")
    compare_order(findings, a, b)


def nameless(pieces: Pieces) -> Callable[[Piece], str]:
    """The digest of a piece in which its own name, at its first place, counts as any other."""

    def digest(piece: Piece) -> str:
        name = re.split(rb"\.|::", piece.name)[-1] if piece.kind != "alias" else piece.name
        head = pieces.source.data[piece.start : min(piece.end, piece.start + 65536)]
        at = head.find(name)
        if at < 0:
            return pieces.source.digest(piece.start, piece.end)
        before = head[:at]
        rest = pieces.source.digest(piece.start + at + len(name), piece.end)
        return hashlib.sha256(before).hexdigest() + rest

    return digest
