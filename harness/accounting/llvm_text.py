"""Instructions of textual LLVM IR, with their operands: on top of the strict reader that explains
evaluation order (:mod:`harness.normalizers.llvm_function`).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from harness.accounting.interface import NotInterpretedError
from harness.normalizers.interface import NotApplicable
from harness.normalizers.llvm_function import (
    DECLARES,
    TYPE,
    Block,
    Kind,
    read_function,
)
from harness.normalizers.llvm_text import check_lines
from harness.text import printable

MOST_BYTES = 256 * 2**20
NAME = rb"[%@](?:[-a-zA-Z$._0-9]+)"
OPERAND = re.compile(rb"(?:(%s) )?(%s|[^ ,()\[\]]+)" % (TYPE, NAME))
ATTACHED = re.compile(rb"(?:, ![a-z]+ ![0-9]+)+$")
FLAGS = re.compile(
    rb"^(?:(?:nuw|nsw|exact|disjoint|nneg|samesign|fast|reassoc|nnan|ninf|nsz|arcp|contract|afn"
    rb"|inbounds|nusw|volatile) )*"
)
# What an instruction may promise. With any other promise, such as `exact` or `nnan`, it is not
# what it computes: where the promise does not hold, an optimiser may make anything of it.
PROMISES = {b"nuw", b"nsw", b"inbounds"}
LABELS = re.compile(rb"label %([-a-zA-Z$._0-9]+)")
INCOMING = re.compile(rb"\[ ([^ ,]+), %([-a-zA-Z$._0-9]+) \]")
DEFINED = re.compile(rb"@([-a-zA-Z$._0-9]+)\(")
HEADED = re.compile(rb"(%s)(?: [a-z]+| [1-9][0-9]*)* %%([-a-zA-Z$._0-9]+)" % TYPE)
STRUCT = re.compile(rb"%([-a-zA-Z$._0-9]+) = type \{ ([^{}]*) \}")
# A name that LLVM prints in quotes, and how it is called here: no plain name begins like that.
RENAMED = b"quoted$"
PLAIN_NAME = re.compile(rb"[-a-zA-Z$._][-a-zA-Z$._0-9]*")
ESCAPED = re.compile(rb"\\([0-9A-F]{2})")
SIZES = {b"ptr": 8, b"half": 2, b"bfloat": 2, b"float": 4, b"double": 8}


@dataclass(frozen=True, slots=True)
class Value:
    """``text``: ``%name``, ``@name`` or a constant."""

    type: bytes
    text: bytes

    @property
    def local(self) -> bool:
        return self.text.startswith(b"%")


@dataclass(frozen=True, slots=True)
class Line:
    """``opcode``: with the predicate behind it for comparisons. ``type``: of the result, or for
    ``getelementptr`` of what it steps over. ``labels``: of a branch, or where a phi comes from.
    """

    opcode: bytes
    result: bytes | None
    type: bytes
    operands: tuple[Value, ...]
    labels: tuple[bytes, ...] = ()
    called: bytes = b""
    text: bytes = b""

    def shown(self) -> str:
        return printable(self.text.strip().decode("ascii", "replace"), 120)


@dataclass(frozen=True)
class Routine:
    """A function. ``blocks``: its labels in order; ``lines``: what each holds."""

    name: str
    parameters: tuple[Value, ...]
    blocks: tuple[bytes, ...]
    lines: Mapping[bytes, tuple[Line, ...]]
    text_line: int


@dataclass(frozen=True)
class Assembly:
    routines: Mapping[str, Routine]
    unread: Mapping[str, str]
    structs: Mapping[bytes, tuple[bytes, ...]]
    globals: Mapping[bytes, bytes]  # name → its line
    rest: tuple[bytes, ...]  # lines that are none of all this, comments left out


def read(data: bytes, what: str) -> Assembly:
    """Raises NotInterpretedError if the text as a whole is not what LLVM prints."""
    if len(data) > MOST_BYTES:
        raise NotInterpretedError(f"{what} has {len(data)} bytes, more than {MOST_BYTES}")
    try:
        check_lines(data)
    except NotApplicable as error:
        raise NotInterpretedError(f"{what}: {error}") from error
    lines = unquoted(data, what).split(b"\n")
    declared = {found[1] for found in map(DECLARES.match, lines) if found}
    routines: dict[str, Routine] = {}
    unread: dict[str, str] = {}
    structs: dict[bytes, tuple[bytes, ...]] = {}
    globals_: dict[bytes, bytes] = {}
    rest: list[bytes] = []
    position = 0
    while position < len(lines):
        line = lines[position]
        if line.startswith(b"define"):
            end = position + 1
            while end < len(lines) and lines[end] != b"}":
                end += 1
            found = DEFINED.search(line)
            name = found[1].decode() if found else f"line {position + 1}"
            if name in routines or name in unread:
                raise NotInterpretedError(f"{what}: {printable(name, 80)} is defined twice")
            try:
                if end == len(lines):
                    raise NotApplicable("a function without an end")
                read_one = read_function(lines, position, end, declared)
                routines[name] = routine(name, line, read_one.blocks, position + 1)
            except (NotApplicable, NotInterpretedError, ValueError, IndexError) as error:
                unread[name] = printable(f"{what}, {name}: {error}", 300)
            position = end + 1
            continue
        if named := STRUCT.fullmatch(line):
            structs[named[1]] = tuple(named[2].split(b", "))
        elif line.startswith(b"@") and b" = " in line:
            globals_[line[1 : line.index(b" ")]] = line
        elif line and not line.startswith((b";", b"!", b"declare ", b"attributes ", b"target ",
                                           b"source_filename")):  # fmt: skip
            rest.append(line)
        position += 1
    return Assembly(routines, unread, structs, globals_, tuple(rest))


def unquoted(data: bytes, what: str) -> bytes:
    """The text with other names in place of those in quotes, such as ``%"a:0"``: one for one, and
    none that the text has already. Every string must be closed on its own line.

    Raises NotInterpretedError if a name is spelled as LLVM does not print it: two spellings could
    be one name.
    """
    if b'%"' not in data and b'@"' not in data:
        return data
    if RENAMED in data:
        raise NotInterpretedError(f"{what}: a name that accounting gives itself")
    out = []
    for line in data.split(b"\n"):
        pieces = line.split(b'"')
        if len(pieces) > 1:
            for at in range(1, len(pieces), 2):
                before = pieces[at - 1]
                if before.endswith((b"%", b"@")) and b";" not in before:
                    pieces[at] = RENAMED + plain_name(pieces[at], what)
                else:
                    pieces[at] = b'"' + pieces[at] + b'"'
            line = b"".join(pieces)
        out.append(line)
    return b"\n".join(out)


def plain_name(name: bytes, what: str) -> bytes:
    """One plain name for each that needs quotes."""
    held = ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), name)
    printed = b"".join(
        bytes([c]) if 0x20 <= c < 0x7F and c not in b'"\\' else b"\\%02X" % c for c in held
    )
    if printed != name or not name or PLAIN_NAME.fullmatch(name):
        shown = printable(name.decode("ascii", "replace"), 60)
        raise NotInterpretedError(f'{what}: "{shown}" is no name as LLVM prints it')
    return b"".join(
        bytes([c]) if bytes([c]).isalnum() or c in b"._-" else b"$%02X" % c for c in held
    )


def routine(name: str, header: bytes, blocks: list[Block], line: int) -> Routine:
    inside = header[header.index(b"(") + 1 : header.rindex(b")")] if b"(" in header else b""
    parameters = tuple(Value(t, b"%" + n) for t, n in HEADED.findall(inside))
    if len(parameters) != inside.count(b"%"):
        raise NotInterpretedError("a header of an unknown form")
    labels: list[bytes] = []
    held: dict[bytes, tuple[Line, ...]] = {}
    unnamed = sum(value.text[1:].isdigit() for value in parameters)
    for block in blocks:
        label = block.label if block.label is not None else b"%d" % unnamed
        labels.append(label)
        held[label] = tuple(
            parsed(b"".join(joined(one.pieces)))
            for one in block.instructions
            if one.kind is not Kind.RECORD
        )
    return Routine(name, parameters, tuple(labels), held, line)


def joined(pieces: list[bytes]) -> list[bytes]:
    return [b"%" + piece if at % 2 else piece for at, piece in enumerate(pieces)]


def parsed(text: bytes) -> Line:
    """One instruction, already known to be of a form that the strict reader lists."""
    body = ATTACHED.sub(b"", text.strip())
    result = None
    if body.startswith(b"%"):
        given, _, body = body.partition(b" = ")
        result = given[1:]
    opcode, _, rest = body.partition(b" ")
    rest = unpromised(rest) if opcode != b"call" else rest
    match opcode:
        case b"br":
            labels = tuple(LABELS.findall(rest))
            values = (Value(b"i1", rest.split(b",")[0][3:]),) if len(labels) == 2 else ()
            return Line(opcode, None, b"void", values, labels, text=text)
        case b"ret" | b"unreachable" | b"fence":
            values = () if rest in (b"void", b"") or opcode == b"fence" else (typed(rest),)
            return Line(opcode, None, b"void", values, text=text)
        case b"phi":
            kind = re.match(rb"(%s) " % TYPE, rest)
            if kind is None:
                raise NotInterpretedError("a phi of an unknown form")
            pairs = INCOMING.findall(rest)
            return Line(opcode, result, kind[1], tuple(Value(kind[1], v) for v, _ in pairs),
                        tuple(label for _, label in pairs), text=text)  # fmt: skip
        case b"icmp" | b"fcmp":
            predicate, _, rest = rest.partition(b" ")
            return Line(opcode + b" " + predicate, result, b"i1", shared(rest), text=text)
        case b"load":
            kind_of, pointer = rest.split(b", ")[:2]
            return Line(opcode, result, kind_of, (typed(pointer),), text=text)
        case b"store":
            value, pointer = rest.split(b", ")[:2]
            return Line(opcode, None, b"void", (typed(value), typed(pointer)), text=text)
        case b"alloca":
            parts = rest.split(b", ")
            many = typed(parts[1]) if not parts[1].startswith(b"align") else Value(b"i64", b"1")
            return Line(opcode, result, parts[0], (many,), text=text)
        case b"getelementptr":
            parts = rest.split(b", ")
            return Line(opcode, result, parts[0], tuple(map(typed, parts[1:])), text=text)
        case b"select":
            three = tuple(map(typed, rest.split(b", ")))
            return Line(opcode, result, three[1].type, three, text=text)
        case b"call":
            return call(text, result, rest)
        case _ if b" to " in rest:
            source, _, kind_to = rest.partition(b" to ")
            return Line(opcode, result, kind_to, (typed(source),), text=text)
        case b"fneg":
            one = typed(rest)
            return Line(opcode, result, one.type, (one,), text=text)
    two = shared(rest)
    return Line(opcode, result, two[0].type, two, text=text)


def unpromised(rest: bytes) -> bytes:
    """Without the flags. Raises NotInterpretedError for those that no clean code has."""
    found = FLAGS.match(rest)
    flags = found[0].split() if found else []
    if odd := set(flags) - PROMISES:
        raise NotInterpretedError(f"an instruction that promises {min(odd).decode()}")
    return rest[found.end() :] if found else rest


def call(text: bytes, result: bytes | None, rest: bytes) -> Line:
    rest = unpromised(rest)
    rest = rest.split(b' [ "align"')[0]
    rest = re.sub(rb" #[0-9]+$", b"", rest)
    kind, _, rest = rest.partition(b" ")
    opened = rest.index(b"(")
    inside = rest[opened + 1 : rest.rindex(b")")]
    values = tuple(map(typed, inside.split(b", "))) if inside else ()
    return Line(b"call", result, kind, values, called=rest[:opened], text=text)


def typed(text: bytes) -> Value:
    kind, _, value = text.rpartition(b" ")
    return Value(kind, value)


def shared(text: bytes) -> tuple[Value, ...]:
    """``float %a, %b``: the type stands once."""
    first, _, second = text.partition(b", ")
    one = typed(first)
    return one, Value(one.type, second)


def constant(value: Value) -> bool | int | float:
    """Raises NotInterpretedError for what is no plain number."""
    text = value.text
    if text in (b"true", b"false"):
        return text == b"true"
    if text == b"null":
        return 0
    if value.type.startswith(b"i") and re.fullmatch(rb"-?[0-9]+", text):
        return int(text)
    if value.type in (b"float", b"double") and re.fullmatch(rb"0x[0-9A-F]{1,16}", text):
        return float(struct.unpack(">d", int(text, 16).to_bytes(8, "big"))[0])
    if value.type == b"half" and re.fullmatch(rb"0xH[0-9A-F]{1,4}", text):
        return float(struct.unpack(">e", int(text[3:], 16).to_bytes(2, "big"))[0])
    if value.type in (b"float", b"double", b"half") and re.fullmatch(
        rb"-?[0-9.]+e[-+][0-9]+", text
    ):
        return float(text)
    raise NotInterpretedError(f"no plain number: {printable(text.decode('ascii', 'replace'), 60)}")


def size_of(kind: bytes) -> int:
    """Bytes of a scalar. Raises NotInterpretedError."""
    if kind in SIZES:
        return SIZES[kind]
    if kind.startswith(b"i") and kind[1:].isdigit() and int(kind[1:]) in (1, 8, 16, 32, 64):
        return max(1, int(kind[1:]) // 8)
    raise NotInterpretedError(f"a value of type {printable(kind.decode(), 40)}")


def offset_in(structs: Mapping[bytes, tuple[bytes, ...]], line: Line) -> int:
    """The constant number of bytes that a ``getelementptr`` steps. Raises NotInterpretedError."""
    total = 0
    kind = line.type
    for at, index in enumerate(line.operands[1:]):
        step = constant(index)
        if at == 0:
            total += int(step) * layout(structs, kind)[0]
            continue
        found = layout(structs, kind)
        array = re.fullmatch(rb"\[([0-9]+) x (.+)\]", kind)
        if array:
            kind = array[2]
            total += int(step) * layout(structs, kind)[0]
            continue
        if kind[1:] not in structs or not 0 <= step < len(found[2]):
            raise NotInterpretedError("a step into what has no parts")
        total += found[2][int(step)]
        kind = structs[kind[1:]][int(step)]
    return total


def layout(
    structs: Mapping[bytes, tuple[bytes, ...]], kind: bytes, depth: int = 0
) -> tuple[int, int, tuple[int, ...]]:
    """Size, alignment, and for a structure the offsets of its parts."""
    if depth > 8:
        raise NotInterpretedError("a structure nested too deeply")
    array = re.fullmatch(rb"\[([0-9]{1,9}) x (.+)\]", kind)
    if array:
        size, align, _ = layout(structs, array[2], depth + 1)
        return int(array[1]) * size, align, ()
    if kind.startswith(b"%"):
        if kind[1:] not in structs:
            raise NotInterpretedError("a type that is not defined")
        at, widest, offsets = 0, 1, []
        for part in structs[kind[1:]]:
            size, align, _ = layout(structs, part, depth + 1)
            at = -(-at // align) * align
            offsets.append(at)
            at += size
            widest = max(widest, align)
        return -(-at // widest) * widest, widest, tuple(offsets)
    size = size_of(kind)
    return size, size, ()
