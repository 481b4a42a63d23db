"""The functions of a module that compute nothing: argument checks, error reports, conversions.

A wrapper takes the packed arguments apart, checks the headers of the tensors and calls the
function that computes. What it may read is followed from its parameters, never known by name:
the type and the handle of each argument, the fields of a tensor's header, its shape and strides.
Anything else that it reads, writes, calls or computes is listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.accounting.arrays import Array
from harness.accounting.interface import NotInterpretedError
from harness.accounting.llvm_lift import shape
from harness.accounting.llvm_text import Line, Routine, Value, constant, layout, offset_in

ARGUMENT = 16  # bytes of a packed argument: type, padding, value
OBJECT_HEADER = 24  # bytes in front of the tensor in a tensor object
# Fields of a tensor's header: offset → the type that is loaded, what it is.
FIELDS = {
    0: (b"ptr", "data"), 8: (b"i32", "header"), 12: (b"i32", "device"), 16: (b"i32", "header"),
    20: (b"i8", "header"), 21: (b"i8", "header"), 22: (b"i16", "header"), 24: (b"ptr", "shape"),
    32: (b"ptr", "strides"), 40: (b"i64", "offset"),
}  # fmt: skip


@dataclass(frozen=True)
class Known:
    """What a value is: ``what`` of argument ``of``, ``at`` bytes in."""

    what: str
    of: int = 0
    at: int = 0


HEADER = Known("header")
CHECKED = {"header", "offset", "device", "constant"}  # what conditions may be about


@dataclass
class Wrapped:
    """``calls``: the function that computes; ``odd``: what has no place in a wrapper.

    ``offsets``: number of a parameter of that function → the tensor whose beginning it is, in
    elements from where its memory begins.
    """

    calls: str = ""
    odd: list[str] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)
    # Number of a parameter → bytes of the stack that it points to, or of the header's field.
    stacks: dict[int, int] = field(default_factory=dict)
    fields: dict[int, int] = field(default_factory=dict)


def wrapper(
    routine: Routine, structs: Mapping[bytes, tuple[bytes, ...]], ranks: tuple[int, ...],
    computing: Mapping[str, Routine], widths: tuple[int, ...] = (), external: bool = False,
) -> Wrapped:  # fmt: skip
    """ranks: numbers of dimensions of its tensors. widths: bytes of an element of each.
    external: what it calls may be given room on the stack, and the tensors' device.

    Raises NotInterpretedError for loops.
    """
    out = Wrapped()
    back, _ = shape(routine)
    if back:
        out.odd.append("a loop")
    types = tuple(value.type for value in routine.parameters)
    if types != (b"ptr", b"ptr", b"i32", b"ptr"):
        raise NotInterpretedError(f"{routine.name}: parameters of another form")
    kinds = [Known("self"), Known("arguments"), HEADER, Known("result")]
    values: dict[bytes, Known] = {
        value.text[1:]: kind for value, kind in zip(routine.parameters, kinds, strict=True)
    }
    reachable = reached(routine)
    called_in: bytes | None = None
    for label in ordered(routine, reachable):
        for line in routine.lines[label]:
            made = step(line, values, structs, ranks, computing, out, widths, external)
            if line.result is not None:
                values[line.result] = made or Known("odd")
            if line.opcode == b"call" and line.called.decode("ascii", "replace")[1:] in computing:
                if called_in is not None:
                    out.odd.append(f"a second call: {line.shown()}")
                called_in = label
    if called_in is None:
        out.odd.append("no call of a function that computes")
    else:
        for label in reached(routine, without=called_in):
            end = routine.lines[label][-1]
            if end.opcode == b"ret" and (
                not end.operands or end.operands[0].local or constant(end.operands[0]) == 0
            ):
                out.odd.append("it can return without having computed")
    return out


def reached(routine: Routine, without: bytes | None = None) -> set[bytes]:
    found: set[bytes] = set()
    stack = [routine.blocks[0]]
    while stack:
        label = stack.pop()
        if label in found or label == without or label not in routine.lines:
            continue
        found.add(label)
        stack.extend(routine.lines[label][-1].labels)
    return found


def ordered(routine: Routine, reachable: set[bytes]) -> Iterator[bytes]:
    """Reachable blocks, each after all that lead to it."""
    coming = dict.fromkeys(reachable, 0)
    for label in reachable:
        for target in set(routine.lines[label][-1].labels):
            coming[target] += 1
    ready = [routine.blocks[0]]
    while ready:
        label = ready.pop()
        yield label
        for target in set(routine.lines[label][-1].labels):
            coming[target] -= 1
            if not coming[target]:
                ready.append(target)


def step(
    line: Line,
    values: Mapping[bytes, Known],
    structs: Mapping[bytes, tuple[bytes, ...]],
    ranks: tuple[int, ...],
    computing: Mapping[str, Routine],
    out: Wrapped,
    widths: tuple[int, ...],
    external: bool,
) -> Known | None:
    """What a line makes; notes what is odd."""

    def of(value: Value) -> Known:
        if value.local:
            return values.get(value.text[1:], Known("odd"))
        return Known("constant")

    kinds = [of(value) for value in line.operands]
    match line.opcode.split(b" ")[0]:
        case b"br" | b"ret" if all(kind.what in CHECKED for kind in kinds):
            return None
        case b"udiv" if kinds[0].what == "offset" and kinds[0].of < len(widths):
            divisor = line.operands[1]
            if not divisor.local and constant(divisor) == widths[kinds[0].of]:
                return Known("elements", kinds[0].of)
        case b"alloca" if external:
            room = layout(structs, line.type)[0] * int(constant(line.operands[0]))
            return Known("slot", len(values), room)  # with a number of its own
        case b"alloca":
            return Known("slot")
        case b"store" if kinds[1].what == "slot":
            return None  # kept for debuggers: what is loaded from a slot is odd
        case b"getelementptr" if kinds[0].what in (
            "arguments", "object", "tensor", "shape", "strides"
        ):  # fmt: skip
            try:
                return Known(kinds[0].what, kinds[0].of, kinds[0].at + offset_in(structs, line))
            except NotInterpretedError:
                pass
        case b"load":
            found = loaded(line, kinds[0], ranks)
            if found is not None:
                return found
        case b"phi" if line.type == b"ptr":
            held = {(kind.what, kind.of, kind.at) for kind in kinds}
            first = kinds[0].of
            if held == {("object", first, 0), ("object", first, OBJECT_HEADER)}:
                return Known("tensor", first)
        case b"icmp" if line.operands[0].type == b"ptr":
            if {value.text for value in line.operands} & {b"null"}:
                return HEADER
        case b"icmp" | b"and" | b"or" | b"xor" if all(kind.what in CHECKED for kind in kinds) and (
            line.opcode.startswith(b"icmp") or line.type == b"i1"
        ):
            return HEADER
        case b"call":
            return called(line, kinds, ranks, computing, out, external)
    out.odd.append(line.shown())
    return None


def loaded(line: Line, where: Known, ranks: tuple[int, ...]) -> Known | None:
    match where.what:
        case "arguments":
            number, rest = divmod(where.at, ARGUMENT)
            if 0 <= number < len(ranks):
                if rest == 0 and line.type == b"i32":
                    return HEADER
                if rest == 8 and line.type == b"ptr":
                    return Known("object", number)
        case "tensor":
            wanted = FIELDS.get(where.at)
            if wanted is not None and wanted[0] == line.type:
                return HEADER if wanted[1] == "header" else Known(wanted[1], where.of)
        case "shape" | "strides":
            if line.type == b"i64" and where.at % 8 == 0 and 0 <= where.at < 8 * ranks[where.of]:
                return HEADER
    return None


def called(
    line: Line,
    kinds: list[Known],
    ranks: tuple[int, ...],
    computing: Mapping[str, Routine],
    out: Wrapped,
    external: bool,
) -> Known | None:
    name = line.called.decode("ascii", "replace")
    if name == "@llvm.assume" and line.operands == (Value(b"i1", b"true"),):
        return None
    if name[1:] in computing and name.startswith("@"):
        given = [kind for kind in kinds if kind.what not in ("header", "device")]
        tensors = [kind for kind in given if kind.what != "elements"]
        expected = [Known("data", at) for at in range(len(ranks))]
        if external and kinds[: len(ranks)] == expected:
            behind = dict(enumerate(kinds))
            for at in range(len(ranks)):
                del behind[at]
            slots = [kind.of for kind in behind.values() if kind.what == "slot"]
            others = [kind for kind in behind.values() if kind.what != "slot"]
            if len(set(slots)) == len(slots) and all(kind.what == "device" for kind in others):
                out.calls = out.calls or name[1:]
                out.stacks = {at: kind.at for at, kind in behind.items() if kind.what == "slot"}
                out.fields = {at: kind.of for at, kind in behind.items() if kind.what == "device"}
                return HEADER
        leading = kinds[: len(kinds) - len(given)]
        if tensors == expected == given[: len(tensors)] and all(
            kind.what in ("header", "device") for kind in leading
        ):
            out.calls = out.calls or name[1:]
            out.offsets = {at: kind.of for at, kind in enumerate(kinds) if kind.what == "elements"}
            return HEADER
    elif name.startswith("@") and all(kind.what == "constant" for kind in kinds):
        return Known("odd") if line.result is not None else None
    out.odd.append(line.shown())
    return None


def reports(routine: Routine) -> bool:
    """Whether it only puts what it is given into a list of its own and hands that on."""
    allowed = {b"alloca", b"getelementptr", b"store", b"call", b"ret"}
    own: set[bytes] = set()
    if len(routine.blocks) != 1:
        return False
    for line in routine.lines[routine.blocks[0]]:
        if line.opcode not in allowed:
            return False
        if line.opcode == b"alloca" and line.result:
            own.add(line.result)
        if line.opcode == b"getelementptr":
            if line.operands[0].text[1:] not in own or line.result is None:
                return False
            own.add(line.result)
        if line.opcode == b"store" and line.operands[1].text[1:] not in own:
            return False
    return True


# Scalar functions: conversions that a backend calls for types that the hardware lacks.

CONVERSIONS = {(b"float", b"half"), (b"half", b"float")}


def converts(routine: Routine) -> bool:
    """Whether it is the conversion between half and float that its types promise: tried for every
    half, or for every float next to a half or in the middle of two, and a hundred thousand others.
    """
    try:
        if len(routine.parameters) != 1:
            return False
        source, target = routine.parameters[0].type, returned(routine)
        if (source, target) not in CONVERSIONS:
            return False
        halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
        if source == b"half":
            x: Array = halves
            wanted: Array = halves.astype(np.float32)
        else:
            x = floats_near(halves)
            with np.errstate(over="ignore"):
                wanted = x.astype(np.float16)
        got = Scalar(routine, x).run()
    except NotInterpretedError:
        return False
    both = np.isnan(got.astype(np.float32)) & np.isnan(wanted.astype(np.float32))
    bits = np.uint32 if source == b"half" else np.uint16
    return bool((both | (got.view(bits) == wanted.view(bits))).all())


def floats_near(halves: Array) -> Array:
    exact = halves.astype(np.float32)
    finite = np.sort(exact[np.isfinite(exact)])
    middle = ((finite[:-1].astype(np.float64) + finite[1:]) / 2).astype(np.float32)
    some = [exact, middle]
    for towards in (-np.inf, np.inf):
        some += [np.nextafter(part, np.float32(towards)) for part in (finite, middle)]
    drawn = np.random.default_rng(0xF16).integers(0, 2**32, 2**17, dtype=np.uint64)
    some.append(drawn.astype(np.uint32).view(np.float32))
    return np.concatenate(some)


def returned(routine: Routine) -> bytes:
    for lines in routine.lines.values():
        if lines[-1].opcode == b"ret" and lines[-1].operands:
            return lines[-1].operands[0].type
    return b"void"


KINDS: dict[bytes, type[np.generic]] = {
    b"i1": np.bool_, b"i8": np.uint8, b"i16": np.uint16, b"i32": np.uint32, b"i64": np.uint64,
    b"half": np.float16, b"float": np.float32,
}  # fmt: skip


class Scalar:
    """A function without loops and memory, for many arguments at once."""

    def __init__(self, routine: Routine, x: Array) -> None:
        self.routine = routine
        self.values: dict[bytes, Array] = {routine.parameters[0].text[1:]: x}
        self.x = x
        self.broken: dict[bytes, Array] = {}  # where a value is made by a promise not kept

    def run(self) -> Array:
        routine = self.routine
        if shape(routine)[0]:
            raise NotInterpretedError(f"{routine.name} loops")
        taken: dict[tuple[bytes, bytes], Array] = {}
        here: dict[bytes, Array] = {routine.blocks[0]: np.ones(len(self.x), bool)}
        out: Array | None = None
        for label in ordered(routine, reached(routine)):
            mask = here[label]
            for line in routine.lines[label]:
                if line.opcode == b"phi":
                    value = np.zeros(len(self.x), KINDS[line.type])
                    broken = np.zeros(len(self.x), bool)
                    for operand, source in zip(line.operands, line.labels, strict=True):
                        edge = taken.get((source, label))
                        if edge is not None:
                            value = np.where(edge, self.value(operand), value)
                            broken = np.where(edge, self.breach(operand), broken)
                    self.values[line.result or b""] = value
                    self.broken[line.result or b""] = broken
                elif line.opcode == b"br":
                    test = self.value(line.operands[0]) if line.operands else None
                    self.sound(line, mask)
                    for at, target in enumerate(line.labels):
                        edge = mask if test is None else mask & (test if at == 0 else ~test)
                        before = taken.get((label, target))
                        taken[label, target] = edge if before is None else before | edge
                        here[target] = here.get(target, np.zeros(len(self.x), bool)) | edge
                elif line.opcode == b"ret":
                    result = self.value(line.operands[0])
                    self.sound(line, mask)
                    out = result if out is None else np.where(mask, result, out)
                elif line.result is not None:
                    self.values[line.result] = self.made(line)
                    self.broken[line.result] = self.breaks(line)
                else:
                    raise NotInterpretedError(line.shown())
        if out is None:
            raise NotInterpretedError(f"{routine.name} returns nothing")
        return np.ascontiguousarray(np.broadcast_to(out, self.x.shape))

    def value(self, one: Value) -> Array:
        if one.local:
            held = self.values.get(one.text[1:])
            if held is None:
                raise NotInterpretedError("a value out of nowhere")
            return held
        kind = KINDS.get(one.type)
        if kind is None:
            raise NotInterpretedError("a constant of another type")
        number = constant(one)
        if issubclass(kind, np.unsignedinteger):
            number = int(number) % 2 ** (8 * np.dtype(kind).itemsize)
        return np.full(len(self.x), number, kind)

    def made(self, line: Line) -> Array:
        opcode, _, predicate = line.opcode.partition(b" ")
        values = [self.value(operand) for operand in line.operands]
        if line.type not in KINDS:
            raise NotInterpretedError(line.shown())
        with np.errstate(all="ignore"):
            match opcode, len(values):
                case b"icmp", 2:
                    return unsigned(predicate, *values)
                case b"select", 3:
                    return np.where(*values)
                case ((b"zext" | b"trunc"), 1):
                    return values[0].astype(KINDS[line.type])
                case b"bitcast", 1:
                    return values[0].view(KINDS[line.type])
                case ((b"add" | b"sub" | b"and" | b"or" | b"xor"), 2) if (
                    values[0].dtype.kind == "u"
                ):
                    operator = {b"add": np.add, b"sub": np.subtract, b"and": np.bitwise_and,
                                b"or": np.bitwise_or, b"xor": np.bitwise_xor}[opcode]  # fmt: skip
                    return operator(*values)
                case ((b"shl" | b"lshr"), 2) if values[0].dtype.kind == "u":
                    width = 8 * values[0].dtype.itemsize
                    by = np.minimum(values[1], width - 1)
                    moved = (np.left_shift if opcode == b"shl" else np.right_shift)(values[0], by)
                    return np.where(values[1] < width, moved, 0).astype(values[0].dtype)
        raise NotInterpretedError(line.shown())

    def sound(self, line: Line, mask: Array) -> None:
        """What is branched on or returned must not come from a promise that was not kept: an
        optimiser may make anything of it.
        """
        if line.operands and (self.breach(line.operands[0]) & mask).any():
            raise NotInterpretedError(f"a promise is not kept: {line.shown()}")

    def breach(self, one: Value) -> Array:
        return self.broken.get(one.text[1:], np.zeros(1, bool)) if one.local else np.zeros(1, bool)

    def breaks(self, line: Line) -> Array:
        """Where a value overflows that is said not to, or is made of one that does."""
        values = [self.value(operand) for operand in line.operands]
        before = [self.breach(operand) for operand in line.operands]
        if line.opcode == b"select":
            return before[0] | np.where(values[0], before[1], before[2])
        out = self.values[line.result or b""]
        broken = np.zeros(out.shape, bool)
        for one in before:
            broken = broken | one
        flags = {flag for flag in (b"nuw", b"nsw") if b" " + flag + b" " in line.text}
        width = 8 * out.dtype.itemsize
        if line.opcode in (b"shl", b"lshr"):
            broken = broken | (values[1] >= width)
        if not flags:
            return broken
        signed = np.dtype(f"int{width}")
        a, b = values
        x, y, z = (one.view(signed) for one in (a, b, out))
        match line.opcode:
            case b"add":
                wrong = {b"nuw": out < a, b"nsw": ((x ^ z) & (y ^ z)) < 0}
            case b"sub":
                wrong = {b"nuw": a < b, b"nsw": ((x ^ y) & (x ^ z)) < 0}
            case b"shl":
                by = np.minimum(b, width - 1)
                wrong = {b"nuw": np.right_shift(out, by) != a,
                         b"nsw": np.right_shift(z, by.astype(signed)) != x}  # fmt: skip
            case _:
                raise NotInterpretedError(line.shown())
        for flag in flags:
            broken = broken | wrong[flag]
        return broken


def unsigned(predicate: bytes, a: Array, b: Array) -> Array:
    compared = {b"eq": np.equal, b"ne": np.not_equal, b"ult": np.less, b"ule": np.less_equal,
                b"ugt": np.greater, b"uge": np.greater_equal}.get(predicate)  # fmt: skip
    if compared is None:
        raise NotInterpretedError("a comparison with sign")
    return compared(a, b)
