"""A strict reader of functions in textual LLVM IR, as LLVM prints them, one instruction a line.

It knows the instructions that TVM emits and says of each what reordering has to know. Anything
else is refused: an instruction, flag, type or metadata kind that is not listed here is never
guessed at. Names are kept apart from the text around them, so that they can be replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from harness.normalizers.interface import NotApplicable


class Kind(Enum):
    """What may happen to an instruction's place within its block."""

    PURE = auto()  # yields a value from its operands and nothing else; at worst poison
    CONFINED = auto()  # the same, but reads memory, or is undefined for some operands
    BARRIER = auto()  # anything that may have an effect, or from which control may not return
    RECORD = auto()  # a debug record
    PHI = auto()
    END = auto()  # ends its block


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line. ``pieces``: text, name, text, name, ... text; every second one is a local name."""

    kind: Kind
    result: bytes | None
    pieces: list[bytes]

    @property
    def operands(self) -> list[bytes]:
        """The local names that it uses, labels included, in order."""
        return self.pieces[1 if self.result is None else 3 :: 2]


@dataclass(frozen=True)
class Block:
    """``opening``: the lines up to its label, in pieces; empty for a first block without one."""

    label: bytes | None
    opening: list[bytes]
    instructions: list[Instruction]


@dataclass(frozen=True)
class Function:
    """``header``: the ``define`` line, in pieces."""

    header: list[bytes]
    arguments: list[bytes]
    blocks: list[Block]


# The grammar. Every repetition begins with a character that cannot go on what stands before it, so
# that matching takes linear time.
NAME = rb"(?:[-a-zA-Z$._][-a-zA-Z$._0-9]*|[0-9]+)"
SCALAR = rb"(?:ptr|half|bfloat|float|double|i[1-9][0-9]{0,3})"
TYPE = rb"(?:%s|<[1-9][0-9]{0,5} x %s>)" % (SCALAR, SCALAR)
SHAPED = rb"(?:%s|\[[0-9]{1,18} x %s\]|%%%s)" % (TYPE, TYPE, NAME)
CONSTANT = (
    rb"(?:-?[0-9]{1,400}(?:\.[0-9]{1,40}e[-+][0-9]{1,4})?|0x[HKLMR]?[0-9A-F]{1,32}"
    rb"|true|false|null|undef|poison|zeroinitializer)"
)
VALUE = rb"(?:[%%@]%s|%s)" % (NAME, CONSTANT)
TYPED = rb"%s %s" % (TYPE, VALUE)
FAST = rb"(?:(?:fast|reassoc|nnan|ninf|nsz|arcp|contract|afn) ){0,8}"
COMPARED = (
    rb"(?:eq|ne|ugt|uge|ult|ule|sgt|sge|slt|sle|oeq|ogt|oge|olt|ole|one|ord|uno|ueq|une|true|false)"
)
ALIGNED = rb", align [1-9][0-9]{0,9}"
LABEL = rb"label %%%s" % NAME
INCOMING = rb"\[ %s, %%%s \]" % (VALUE, NAME)

BINARY = (rb"(?:(?:nuw|nsw|exact|disjoint) ){0,3}%s%s, %s" % (FAST, TYPED, VALUE), Kind.PURE)
DIVISION = (BINARY[0], Kind.CONFINED)
CAST = (rb"(?:(?:nuw|nsw|nneg) ){0,3}%s%s to %s" % (FAST, TYPED, TYPE), Kind.PURE)
SHAPES: dict[bytes, tuple[bytes, Kind]] = {
    **dict.fromkeys(b"add sub mul shl lshr ashr and or xor fadd fsub fmul fdiv".split(), BINARY),
    **dict.fromkeys(b"udiv sdiv urem srem frem".split(), DIVISION),
    **dict.fromkeys(
        b"trunc zext sext fptrunc fpext fptoui fptosi uitofp sitofp ptrtoint inttoptr"
        b" bitcast".split(),
        CAST,
    ),
    b"fneg": (FAST + TYPED, Kind.PURE),
    b"icmp": (rb"(?:samesign )?%s %s, %s" % (COMPARED, TYPED, VALUE), Kind.PURE),
    b"fcmp": (rb"%s%s %s, %s" % (FAST, COMPARED, TYPED, VALUE), Kind.PURE),
    b"select": (rb"%s%s, %s, %s" % (FAST, TYPED, TYPED, TYPED), Kind.PURE),
    b"getelementptr": (
        rb"(?:(?:inbounds|nusw|nuw) ){0,3}%s, ptr %s(?:, %s)+" % (SHAPED, VALUE, TYPED),
        Kind.PURE,
    ),
    b"load": (rb"(?:volatile )?%s, ptr %s%s" % (TYPE, VALUE, ALIGNED), Kind.CONFINED),
    b"store": (rb"(?:volatile )?%s, ptr %s%s" % (TYPED, VALUE, ALIGNED), Kind.BARRIER),
    b"alloca": (rb"%s(?:, %s)?%s" % (SHAPED, TYPED, ALIGNED), Kind.BARRIER),
    b"fence": (rb"(?:acquire|release|acq_rel|seq_cst)", Kind.BARRIER),
    b"call": (
        rb"%s(?:void|%s) [%%@]%s\((?:%s(?:, %s)*)?\)(?: #[0-9]{1,9})?"
        rb'(?: \[ "align"\(%s(?:, %s)*\) \])?' % (FAST, TYPE, NAME, TYPED, TYPED, TYPED, TYPED),
        Kind.BARRIER,
    ),
    b"phi": (rb"%s%s %s(?:, %s)*" % (FAST, TYPE, INCOMING, INCOMING), Kind.PHI),
    b"br": (rb"(?:%s|i1 %s, %s, %s)" % (LABEL, VALUE, LABEL, LABEL), Kind.END),
    b"ret": (rb"(?:void|%s)" % TYPED, Kind.END),
    b"unreachable": (rb"", Kind.END),
}
NO_RESULT = {b"store", b"fence", b"br", b"ret", b"unreachable"}  # a call may have one

# Intrinsics of LLVM that only compute. Its reference gives them no effect and no undefined
# behaviour, its verifier forbids a module to define them, and its own table decides their
# attributes. The call must be plain: no attributes, no operand bundles. And the text must declare
# the name, for then it is a function's: an alias, an ifunc or a global may bear the name of an
# intrinsic as well, and a call of it is a call of anything.
COMPUTING = (
    b"fabs sqrt exp exp2 log log2 log10 sin cos floor ceil trunc rint nearbyint round roundeven"
    b" pow minnum maxnum minimum maximum copysign smin smax umin umax fma fmuladd"
).split()
INTRINSIC = rb"@(llvm\.(?:%s)\.[a-z0-9]+)\(" % b"|".join(COMPUTING)
COMPUTES = re.compile(
    rb"%s%s %s(?:%s(?:, %s)*)?\)(?:, ![a-z]+ ![0-9]{1,9})*" % (FAST, TYPE, INTRINSIC, TYPED, TYPED)
)
DECLARES = re.compile(rb"declare %s %s" % (TYPE, INTRINSIC))

ATTACHED = rb"(?:, !(?:dbg|tbaa|prof) ![0-9]{1,9})*"
PATTERNS = {
    opcode: (re.compile(b"%s%s" % (shape, ATTACHED)), kind)
    for opcode, (shape, kind) in SHAPES.items()
}
LINE = re.compile(rb"  (?:%%(%s) = )?([a-z]+)(?: (.*))?" % NAME)
RECORD = re.compile(
    rb"    #dbg_(?:declare|value)\(%s, ![0-9]{1,9}, !DIExpression\([A-Za-z0-9_, ]*\),"
    rb" ![0-9]{1,9}\)" % TYPED
)
OPENING = re.compile(
    rb"(%s):(?: +; (?:No predecessors!|preds = %%%s(?:, %%%s)*))?" % (NAME, NAME, NAME)
)
PARAMETER = rb"%s(?: [a-z]+| [1-9][0-9]{0,9}){0,16} %%%s" % (TYPE, NAME)
HEADER = re.compile(
    rb"define [^%%\"{;()]*@%s\((?:%s(?:, %s)*)?\)[^%%{;]*\{" % (NAME, PARAMETER, PARAMETER)
)
LOCAL = re.compile(rb"%%(%s)" % NAME)
SOURCE_TYPE = re.compile(rb"(?:(?:inbounds|nusw|nuw) )*%s" % SHAPED)


def read_functions(lines: list[bytes]) -> Iterator[tuple[int, int, Function]]:
    """Every function, with the range of lines that it takes. Raises NotApplicable.

    The lines must be what they seem (:func:`harness.normalizers.llvm_text.check_lines`).
    """
    declared = {found[1] for found in map(DECLARES.match, lines) if found}
    position = 0
    while position < len(lines):
        if not lines[position].lstrip(b" \t").startswith(b"define"):
            position += 1
            continue
        end = position + 1
        while end < len(lines) and lines[end] != b"}":
            end += 1
        if end == len(lines):
            raise NotApplicable(f"line {position + 1}: a function without an end")
        yield position, end, read_function(lines, position, end, declared)
        position = end + 1


def read_function(lines: list[bytes], start: int, end: int, declared: set[bytes]) -> Function:
    """The function from the ``define`` line ``start`` up to the ``}`` in line ``end``.

    ``declared``: the intrinsics that only compute and are declared in the text.
    """
    if not HEADER.fullmatch(lines[start]):
        raise NotApplicable(f"line {start + 1}: a function header of an unknown form")
    header = LOCAL.split(lines[start])
    blocks: list[Block] = []
    open_block: Block | None = None
    for number in range(start + 1, end):
        line = lines[number]
        if open_block is None:
            if not line and blocks and number + 1 < end:
                continue  # the empty line in front of a label
            found = OPENING.fullmatch(line)
            if found is not None:
                before = b"\n" if blocks else b""
                if before and lines[number - 1]:
                    raise NotApplicable(f"line {number + 1}: no empty line in front of a label")
                rest = LOCAL.split(line[found.end(1) :])
                open_block = Block(found[1], [before, found[1], *rest], [])
                blocks.append(open_block)
                continue
            if blocks:
                raise NotApplicable(f"line {number + 1}: no label after the end of a block")
            open_block = Block(None, [], [])
            blocks.append(open_block)
        instruction = read_instruction(line, number, declared)
        seen = open_block.instructions
        if instruction.kind is Kind.PHI and seen and seen[-1].kind is not Kind.PHI:
            raise NotApplicable(f"line {number + 1}: a phi behind something else")
        seen.append(instruction)
        if instruction.kind is Kind.END:
            open_block = None
    if open_block is not None or not blocks:
        raise NotApplicable(f"line {end + 1}: a block without an end")
    return Function(header, header[1::2], blocks)


def read_instruction(line: bytes, number: int, declared: set[bytes]) -> Instruction:
    """One line of a block; ``number`` counts from 0 and only names the line in a refusal."""
    found = LINE.fullmatch(line)
    if found is None:
        if RECORD.fullmatch(line):
            return Instruction(Kind.RECORD, None, LOCAL.split(line))
        raise NotApplicable(f"line {number + 1}: not an instruction of a known form")
    result, opcode, rest = found[1], found[2], found[3] or b""
    pattern, kind = PATTERNS.get(opcode, (None, Kind.BARRIER))
    if pattern is None or not pattern.fullmatch(rest):
        word = opcode[:20].decode()
        raise NotApplicable(f"line {number + 1}: {word!r} in a form that is not known")
    if opcode == b"call":
        computes = COMPUTES.fullmatch(rest)
        if computes is not None and computes[1] in declared:
            kind = Kind.PURE
    elif (result is None) != (opcode in NO_RESULT):
        raise NotApplicable(f"line {number + 1}: a result where none should be, or none")
    if opcode == b"load" and rest.startswith(b"volatile "):
        kind = Kind.BARRIER

    if opcode in (b"getelementptr", b"alloca"):  # a name in the type is not a value's
        start = found.start(3)
        typed = SOURCE_TYPE.match(rest)
        assert typed is not None  # the pattern begins with the same
        split = start + typed.end()
        pieces = LOCAL.split(line[:start])
        pieces[-1] += line[start:split]
        after = LOCAL.split(line[split:])
        pieces[-1] += after[0]
        pieces += after[1:]
    else:
        pieces = LOCAL.split(line)
    return Instruction(kind, result, pieces)


def render(pieces: list[bytes], names: dict[bytes, bytes], sigil: bytes = b"%") -> bytes:
    """The text with every name replaced by what ``names`` gives for it, or kept."""
    if len(pieces) == 1:
        return pieces[0]
    out = [pieces[0]]
    for position in range(1, len(pieces), 2):
        name = pieces[position]
        out += (sigil, names.get(name, name), pieces[position + 1])
    return b"".join(out)
