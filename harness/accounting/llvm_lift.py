"""A function of LLVM IR, lifted back to loops and stores.

The result is made of the same statements as what :mod:`harness.accounting.tir_script` reads, so
that both are looked at by the same rules. Nothing goes by the names of values or labels: loops and
conditions are found in the control flow graph, addresses by following each pointer to where it
comes from. What has another form is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.accounting.interface import NotInterpretedError
from harness.accounting.llvm_text import Line, Routine, Value, constant, size_of
from harness.accounting.tir_operators import AWAY
from harness.accounting.tir_script import (
    Apply,
    Expression,
    For,
    If,
    Load,
    Number,
    Statement,
    Store,
    Variable,
)
from harness.text import printable

MOST_LINES = 200_000
MOST_DEPTH = 60
MOST_PARTS = 5_000  # of one expression
TYPES = {
    b"half": "float16", b"float": "float32", b"double": "float64", b"i1": "bool", b"i8": "int8",
    b"i16": "int16", b"i32": "int32", b"i64": "int64", b"bfloat": "bfloat16",
}  # fmt: skip
BINARY = {
    b"add": "+", b"fadd": "+", b"sub": "-", b"fsub": "-", b"mul": "*", b"fmul": "*",
    b"fdiv": "/", b"sdiv": "truncdiv", b"srem": "truncmod", b"frem": "fmod",
    b"and": "&", b"or": "|", b"xor": "^", b"shl": "<<", b"ashr": ">>",
}  # fmt: skip
TRUTHS = {b"and": "and", b"or": "or"}
COMPARED = {
    b"eq": "==", b"ne": "!=", b"slt": "<", b"sle": "<=", b"sgt": ">", b"sge": ">=",
    b"oeq": "==", b"ueq": "==", b"one": "!=", b"une": "!=", b"olt": "<", b"ult": "<",
    b"ole": "<=", b"ule": "<=", b"ogt": ">", b"ugt": ">", b"oge": ">=", b"uge": ">=",
}  # fmt: skip
UNSIGNED = {b"ult", b"ule", b"ugt", b"uge"}
INTRINSICS = {
    "exp": "exp", "exp2": "exp2", "log": "log", "log2": "log2", "log10": "log10", "sqrt": "sqrt",
    "sin": "sin", "cos": "cos", "fabs": "fabs", "floor": "floor", "ceil": "ceil",
    "trunc": "trunc", "rint": "nearbyint", "nearbyint": "nearbyint", "roundeven": "nearbyint",
    "round": AWAY, "pow": "pow", "maxnum": "max", "minnum": "min", "maximum": "max",
    "minimum": "min", "smax": "max", "smin": "min", "copysign": "copysign",
}  # fmt: skip
# What the C library gives under these names.
LIBRARY = {
    "expf": "exp", "exp2f": "exp2", "logf": "log", "log2f": "log2", "log10f": "log10",
    "log1pf": "log1p", "tanhf": "tanh", "sinf": "sin", "cosf": "cos", "tanf": "tan",
    "sinhf": "sinh", "coshf": "cosh", "asinf": "asin", "acosf": "acos", "atanf": "atan",
    "asinhf": "asinh", "acoshf": "acosh", "atanhf": "atanh", "erff": "erf", "powf": "pow",
    "sqrtf": "sqrt", "floorf": "floor", "ceilf": "ceil", "roundf": AWAY, "fabsf": "fabs",
    "truncf": "trunc", "nearbyintf": "nearbyint", "fmodf": "fmod", "atan2f": "atan2",
    "hypotf": "hypot", "copysignf": "copysign", "ldexpf": "ldexp",
}  # fmt: skip
# The runtime's own, through pointers that it fills in under these names.
ALLOCATE, FREE = b"@__TVMBackendAllocWorkspace", b"@__TVMBackendFreeWorkspace"
STATUS = Variable("status")


@dataclass(frozen=True)
class Pointer:
    """``index``: in elements of ``step`` bytes from the beginning of ``base``."""

    base: str
    index: Expression
    step: int


@dataclass(frozen=True)
class Slot:
    """A runtime function's pointer, loaded from the global of this name."""

    name: bytes


@dataclass
class Lifted:
    """``types``: base → element type; ``parameters``: bases of the pointers it is given.

    Memory that it allocates may be used as one type and later as another: each type of it is a
    base of its own then, and ``under`` says what memory it is. Whatever is written as one type is
    gone as any other.
    """

    body: tuple[Statement, ...]
    types: dict[str, str]
    parameters: tuple[str, ...]
    guards: list[Expression]  # conditions that lead to an error return
    lines: dict[int, str]  # number of a store → its text
    room: dict[str, int]  # base → bytes, of those that it allocates
    under: dict[str, str] = field(default_factory=dict)  # base → memory, where it is not the same


def lift(routine: Routine) -> Lifted:
    """Raises NotInterpretedError."""
    try:
        return Lifter(routine).run()
    except RecursionError as error:
        raise NotInterpretedError(f"{routine.name} is nested too deeply") from error


@dataclass
class Lifter:
    routine: Routine
    values: dict[bytes, Expression | Pointer | Slot] = field(default_factory=dict)
    stamps: dict[bytes, dict[str, tuple[int, tuple[int, ...]]]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)
    guards: list[Expression] = field(default_factory=list)
    late: set[str] = field(default_factory=set)
    loops: tuple[int, ...] = ()
    counter: int = 0
    number: int = 0
    texts: dict[int, str] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    sizes: dict[bytes, int] = field(default_factory=dict)
    room: dict[str, int] = field(default_factory=dict)
    under: dict[str, str] = field(default_factory=dict)

    def run(self) -> Lifted:
        routine = self.routine
        if sum(map(len, routine.lines.values())) > MOST_LINES:
            raise NotInterpretedError(f"{routine.name} has more than {MOST_LINES} lines")
        parameters = []
        for at, value in enumerate(routine.parameters):
            name = f"argument {at}"
            if value.type == b"ptr":
                self.values[value.text[1:]] = Pointer(name, Number(0, "int32"), 1)
                parameters.append(name)
            else:
                self.values[value.text[1:]] = Variable(f"scalar {at}")
        self.idle = self.unread_places()
        self.back, self.after = shape(routine)
        body, _ = self.walk(routine.blocks[0], None, 0)
        if wrong := {base for base in self.late if self.writes.get(base)}:
            raise NotInterpretedError(
                f"{routine.name}: {min(wrong)} is read and written in between before use"
            )
        return Lifted(
            tuple(body), self.types, tuple(parameters), self.guards, self.texts, self.room,
            self.under,
        )  # fmt: skip

    def unread_places(self) -> set[bytes]:
        """Allocas that are only stored to: kept for debuggers."""
        places: set[bytes] = set()
        for lines in self.routine.lines.values():
            places |= {line.result for line in lines if line.opcode == b"alloca" and line.result}
        for lines in self.routine.lines.values():
            for line in lines:
                for at, value in enumerate(line.operands):
                    if value.local and not (line.opcode == b"store" and at == 1):
                        places.discard(value.text[1:])
        return places

    # Control.

    def walk(
        self, label: bytes, stop: bytes | None, depth: int, came: bytes | None = None
    ) -> tuple[list[Statement], bytes | None]:
        """The statements from ``label`` up to ``stop``, and the last label in front of it."""
        if depth > MOST_DEPTH:
            raise NotInterpretedError(f"{self.routine.name} is nested too deeply")
        out: list[Statement] = []
        while label != stop:
            if label in self.seen:
                raise NotInterpretedError(f"{self.routine.name}: control flow of another form")
            self.seen.add(label)
            lines = self.routine.lines[label]
            if label in self.back:
                statement, following = self.loop(label, lines, depth, came)
                out.append(statement)
                came, label = label, following
                continue
            for line in lines[:-1]:
                if line.opcode == b"phi":
                    if line.result not in self.values or len(line.labels) == 1:
                        self.only(line, came)
                else:
                    out += self.line(line)
            end = lines[-1]
            if end.opcode == b"ret":
                if stop is not None or (end.operands and constant(end.operands[0]) != 0):
                    raise NotInterpretedError(f"{self.routine.name} returns early")
                return out, label
            if end.opcode != b"br":
                raise NotInterpretedError(f"{self.routine.name}: {end.shown()}")
            if len(end.labels) == 1:
                came, label = label, end.labels[0]
                continue
            came, label = self.branch(label, end, out, depth)
        return out, came

    def only(self, line: Line, came: bytes | None) -> None:
        """A phi where control comes from one place alone."""
        for value, label in zip(line.operands, line.labels, strict=True):
            if label == came and line.result is not None:
                self.name(line.result, self.value(value), self.stamp(value))
                return
        raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")

    def branch(
        self, label: bytes, end: Line, out: list[Statement], depth: int
    ) -> tuple[bytes | None, bytes]:
        """A condition: either side may end in an error, or both meet again."""
        condition = self.expression(end.operands[0])
        then, otherwise = end.labels
        failing = [self.fails(side) for side in end.labels]
        if any(failing):
            self.guards.append(condition)
            if all(failing):
                raise NotInterpretedError(f"{self.routine.name} always fails")
            return label, otherwise if failing[0] else then
        if then == otherwise:
            return label, then
        meet = self.after.get(label)
        if meet is None:
            raise NotInterpretedError(f"{self.routine.name}: a condition of another form")
        stamp = self.stamp(end.operands[0])
        first, from_then = self.walk(then, meet, depth + 1, label)
        second, from_else = self.walk(otherwise, meet, depth + 1, label)
        if first or second:
            self.used(stamp)
            out.append(If(condition, tuple(first), tuple(second)))
        for line in self.routine.lines[meet]:
            if line.opcode != b"phi" or line.result is None or meet in self.back:
                break
            sides = dict(zip(line.labels, line.operands, strict=True))
            if from_then not in sides or from_else not in sides or from_then == from_else:
                raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
            a, b = sides[from_then], sides[from_else]
            self.weigh(line.result, (a, b, end.operands[0]))
            made = chosen("if_then_else", condition, self.expression(a), self.expression(b))
            self.name(line.result, made, merged(stamp, self.stamp(a), self.stamp(b)))
        return label, meet

    def fails(self, label: bytes) -> bool:
        """Whether a block only reports an error and returns other than 0."""
        *before, end = self.routine.lines[label]
        if end.opcode != b"ret" or not end.operands or end.operands[0].local:
            return False
        if constant(end.operands[0]) == 0:
            return False
        return all(
            line.opcode == b"call" and line.type == b"void"
            and not any(value.local for value in line.operands)
            and line.called.startswith(b"@")
            for line in before
        )  # fmt: skip

    def loop(
        self, label: bytes, lines: tuple[Line, ...], depth: int, came: bytes | None
    ) -> tuple[For, bytes]:
        """``for (i = first; i < bound; i++)``, and the block behind it."""
        phi, *between = lines
        end = lines[-1]
        latches = self.back[label]
        wrong = NotInterpretedError(f"{self.routine.name}: a loop of another form")
        if phi.opcode != b"phi" or len(phi.labels) != 2 or len(latches) != 1 or phi.result is None:
            raise wrong
        if any(line.opcode == b"phi" for line in between) or len(end.labels) != 2:
            raise wrong
        sides = dict(zip(phi.labels, phi.operands, strict=True))
        latch = next(iter(latches))
        if latch not in sides or came not in sides or came == latch:
            raise wrong
        first = self.expression(sides[came])
        self.counter += 1
        variable = Variable(f"i{self.counter}")
        self.name(phi.result, variable, {})
        for line in between[:-1]:
            if self.line(line):
                raise wrong
        match self.expression(end.operands[0]):
            case Apply(operation="<", arguments=(left, bound)) if left == variable:
                pass
            case _:
                raise wrong
        if not isinstance(first, Number) or not isinstance(bound, Number):
            raise wrong
        outer, self.loops = self.loops, (*self.loops, self.counter)
        body, _ = self.walk(end.labels[0], label, depth + 1, label)
        stepped = self.expression(sides[latch])
        if stepped != Apply("+", (variable, Number(1, "int32"))) and stepped != Apply(
            "+", (variable, Number(1, "int64"))
        ):
            raise wrong
        self.loops = outer
        many = Number(int(bound.value) - int(first.value), "int64")
        return For(((variable.name, first, many),), tuple(body)), end.labels[1]

    # Values.

    def name(
        self,
        result: bytes,
        value: Expression | Pointer | Slot,
        stamp: dict[str, tuple[int, tuple[int, ...]]],
    ) -> None:
        self.values[result] = value
        self.stamps[result] = stamp

    def weigh(self, result: bytes | None, operands: tuple[Value, ...]) -> None:
        """A value used twice stands twice in an expression: what doubles itself grows fast."""
        size = 1 + sum(self.sizes.get(value.text[1:], 1) for value in operands if value.local)
        if size > MOST_PARTS:
            raise NotInterpretedError(f"{self.routine.name}: an expression of too many parts")
        if result is not None:
            self.sizes[result] = size

    def stamp(self, value: Value) -> dict[str, tuple[int, tuple[int, ...]]]:
        return self.stamps.get(value.text[1:], {}) if value.local else {}

    def used(self, stamp: dict[str, tuple[int, tuple[int, ...]]]) -> None:
        """What was loaded must still be what memory holds."""
        for base, (count, loops) in stamp.items():
            if count != self.writes.get(base, 0) or loops != self.loops:
                self.late.add(base)

    def value(self, one: Value) -> Expression | Pointer | Slot:
        if one.local:
            held = self.values.get(one.text[1:])
            if held is None:
                raise NotInterpretedError(f"{self.routine.name}: a value out of nowhere")
            return held
        if one.type == b"ptr":
            name = printable(one.text.decode("ascii", "replace"), 80)
            return Pointer(f"global {name}", Number(0, "int32"), 1)
        return Number(constant(one), TYPES.get(one.type, "int32"))

    def expression(self, one: Value) -> Expression:
        held = self.value(one)
        if isinstance(held, Pointer | Slot):
            raise NotInterpretedError(f"{self.routine.name}: a pointer used as a number")
        return held

    def pointer(self, one: Value) -> Pointer:
        held = self.value(one)
        if not isinstance(held, Pointer):
            raise NotInterpretedError(f"{self.routine.name}: an address made of a number")
        return held

    def place(self, one: Value, kind: bytes) -> tuple[str, Expression]:
        """Base and element index of an access."""
        at = self.pointer(one)
        size = size_of(kind)
        if at.index != Number(0, "int32") and at.step != size:
            raise NotInterpretedError(f"{self.routine.name}: an address in other steps than {size}")
        dtype = TYPES.get(kind)
        if dtype is None or at.base.startswith("global"):
            raise NotInterpretedError(f"{self.routine.name}: {at.base} is accessed as memory")
        base = at.base
        if self.types.setdefault(base, dtype) != dtype:
            if base.startswith("argument"):
                raise NotInterpretedError(f"{self.routine.name}: {base} is accessed as two types")
            base = f"{at.base} as {dtype}"
            self.types[base] = dtype
            self.under[base] = at.base
            if at.base in self.room:
                self.room[base] = self.room[at.base]
        return base, at.index

    def line(self, line: Line) -> list[Statement]:
        self.weigh(line.result, line.operands)
        match line.opcode:
            case b"store":
                return self.store(line)
            case b"call":
                self.call(line)
                return []
            case b"alloca":
                if line.result is not None:
                    name = f"local {len(self.values)}"
                    if line.type in TYPES:
                        many = int(constant(line.operands[0]))
                        self.room[name] = size_of(line.type) * many
                    self.name(line.result, Pointer(name, Number(0, "int32"), 1), {})
                return []
        if line.result is None:
            raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
        stamp: dict[str, tuple[int, tuple[int, ...]]] = {}
        for operand in line.operands:
            stamp = merged(stamp, self.stamp(operand))
        match line.opcode:
            case b"load":
                if line.type == b"ptr":
                    target = line.operands[0].text
                    if target not in (ALLOCATE, FREE):
                        raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
                    self.name(line.result, Slot(target), {})
                    return []
                base, index = self.place(line.operands[0], line.type)
                memory = self.under.get(base, base)
                stamp = merged(stamp, {memory: (self.writes.get(memory, 0), self.loops)})
                self.name(line.result, Load(base, (index,)), stamp)
            case b"getelementptr":
                if len(line.operands) != 2:
                    raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
                start = self.pointer(line.operands[0])
                size = size_of(line.type)
                if start.index != Number(0, "int32"):
                    raise NotInterpretedError(f"{self.routine.name}: a step from a step")
                moved = self.expression(line.operands[1])
                if isinstance(moved, Number):
                    moved = Number(moved.value, "int32")
                self.name(line.result, Pointer(start.base, moved, size), stamp)
            case _:
                self.name(line.result, self.computed(line), stamp)
        return []

    def store(self, line: Line) -> list[Statement]:
        value, target = line.operands
        if target.local and target.text[1:] in self.idle:
            return []
        if value.type == b"ptr":
            raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
        self.used(merged(self.stamp(value), self.stamp(target)))
        base, index = self.place(target, value.type)
        memory = self.under.get(base, base)
        self.writes[memory] = self.writes.get(memory, 0) + 1
        self.number += 1
        self.texts[self.number] = line.shown()
        return [Store(base, (index,), self.expression(value), self.number)]

    def call(self, line: Line) -> None:
        called = line.called
        if called.startswith(b"%"):
            slot = self.values.get(called[1:])
            if not isinstance(slot, Slot) or line.result is None:
                raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
            if slot.name == ALLOCATE and line.type == b"ptr":
                made = Pointer(f"workspace {len(self.values)}", Number(0, "int32"), 1)
                if len(line.operands) > 2 and not line.operands[2].local:
                    self.room[made.base] = int(constant(line.operands[2]))
                self.name(line.result, made, {})
                return
            if slot.name == FREE and line.type == b"i32":
                self.name(line.result, STATUS, {})
                return
            raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
        name = called[1:].decode("ascii", "replace")
        if name == "llvm.assume":
            if line.operands != (Value(b"i1", b"true"),):
                raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
            return
        if line.result is None:
            raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
        values = tuple(map(self.expression, line.operands))
        stamp: dict[str, tuple[int, tuple[int, ...]]] = {}
        for operand in line.operands:
            stamp = merged(stamp, self.stamp(operand))
        found = re.fullmatch(r"llvm\.([a-z0-9]+)\.([a-z0-9]+)", name)
        operation = INTRINSICS.get(found[1]) if found else LIBRARY.get(name)
        made_of: Expression
        if found and found[1] in ("fma", "fmuladd") and len(values) == 3:
            made_of = Apply("+", (Apply("*", values[:2]), values[2]))
        elif operation is None:
            raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
        else:
            made_of = Apply(operation, values)
        self.name(line.result, made_of, stamp)

    def computed(self, line: Line) -> Expression:
        opcode, _, predicate = line.opcode.partition(b" ")
        if b" nuw " in line.text:  # a promise that tensor IR does not make
            raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
        if opcode in (b"icmp", b"fcmp"):
            return self.comparison(line, opcode, predicate)
        values = tuple(map(self.expression, line.operands))
        first = line.operands[0].type
        if opcode == b"select":
            return chosen("Select", *values)
        if opcode in BINARY and len(values) == 2:
            if first == b"i1":
                if opcode == b"xor" and values[1] == Number(True, "bool"):
                    return Apply("not", values[:1])
                if opcode not in TRUTHS:
                    raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
                return Apply(TRUTHS[opcode], values)
            return Apply(BINARY[opcode], values)
        if opcode == b"fneg":
            return Apply("neg", values)
        target = TYPES.get(line.type)
        if target is None or len(values) != 1:
            raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
        match opcode:
            case b"sitofp" | b"fptosi" | b"fpext" | b"fptrunc" | b"sext" | b"trunc":
                if target == "bool" or (first == b"i1" and opcode != b"fpext"):
                    raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
                return Apply("cast", values, target)
            case b"zext" | b"uitofp":
                inner = values[0]
                if first != b"i1":
                    inner = Apply("cast", values, "u" + TYPES[first])
                return Apply("cast", (inner,), target)
            case b"fptoui":
                return Apply("cast", values, "u" + target)
            case b"bitcast":
                return Apply("reinterpret", values, target)
        raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")

    def comparison(self, line: Line, opcode: bytes, predicate: bytes) -> Expression:
        if line.operands[0].type == b"ptr":
            others = [value for value in line.operands if value.text == b"null"]
            if predicate not in (b"eq", b"ne") or len(others) != 1:
                raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
            return Apply(COMPARED[predicate], (STATUS, Number(0, "int64")))
        values = tuple(map(self.expression, line.operands))
        if predicate == b"uno" and values[0] == values[1]:
            return Apply("isnan", values[:1])
        if predicate == b"ord" and values[0] == values[1]:
            return Apply("not", (Apply("isnan", values[:1]),))
        if predicate not in COMPARED or (opcode == b"icmp" and predicate in UNSIGNED):
            raise NotInterpretedError(f"{self.routine.name}: {line.shown()}")
        return Apply(COMPARED[predicate], values)


def chosen(how: str, test: Expression, first: Expression, second: Expression) -> Expression:
    """``a > b ? a : b`` is a maximum; both a comparison's sides must be what is chosen from."""
    match test:
        case Apply(operation=">" | ">=", arguments=(a, b)) if (a, b) == (first, second):
            return Apply("max", (first, second))
        case Apply(operation="<" | "<=", arguments=(a, b)) if (a, b) == (first, second):
            return Apply("min", (first, second))
        case Apply(operation="<" | "<=", arguments=(a, b)) if (b, a) == (first, second):
            return Apply("max", (first, second))
        case Apply(operation=">" | ">=", arguments=(a, b)) if (b, a) == (first, second):
            return Apply("min", (first, second))
    return Apply(how, (test, first, second))


def merged(
    *stamps: Mapping[str, tuple[int, tuple[int, ...]]],
) -> dict[str, tuple[int, tuple[int, ...]]]:
    """What was loaded where; of two loads of one base the older counts."""
    out: dict[str, tuple[int, tuple[int, ...]]] = {}
    for stamp in stamps:
        for base, when in stamp.items():
            out[base] = min(out.get(base, when), when)
    return out


def shape(routine: Routine) -> tuple[dict[bytes, set[bytes]], dict[bytes, bytes]]:
    """Where loops begin, with the blocks that lead back; and for each condition where its sides
    meet again: its nearest block that every way from it to the end passes, back edges left out.
    """
    following: dict[bytes, list[bytes]] = {}
    back: dict[bytes, set[bytes]] = {}
    state: dict[bytes, int] = {}
    order: list[bytes] = []
    first = routine.blocks[0]
    stack: list[tuple[bytes, int]] = [(first, 0)]
    state[first] = 1
    while stack:
        label, at = stack.pop()
        ends = routine.lines[label][-1].labels if routine.lines[label] else ()
        if at == 0:
            following[label] = []
        if at < len(ends):
            stack.append((label, at + 1))
            target = ends[at]
            if target not in routine.lines:
                raise NotInterpretedError(f"{routine.name}: a branch to nowhere")
            if state.get(target) == 1:
                back.setdefault(target, set()).add(label)
            else:
                following[label].append(target)
                if target not in state:
                    state[target] = 1
                    stack.append((target, 0))
        else:
            state[label] = 2
            order.append(label)  # after everything that it leads to
    # Error returns are no way to the end; a latch goes on to where its loop ends.
    failing = {
        label for label in order
        if routine.lines[label][-1].opcode == b"ret"
        and routine.lines[label][-1].operands
        and not routine.lines[label][-1].operands[0].local
        and constant(routine.lines[label][-1].operands[0]) != 0
    }  # fmt: skip
    latches = {latch: header for header, some in back.items() for latch in some}
    meets: dict[bytes, bytes | None] = {}
    for label in order:
        targets = [target for target in following[label] if target not in failing]
        if label in latches:
            # Inside a loop, everything meets at the latest where the next round begins.
            targets.append(latches[label])
        if not targets:
            meets[label] = None
            continue
        common: bytes | None = targets[0]
        for target in targets[1:]:
            common = meeting(common, target, meets)
        meets[label] = common
    return back, {label: meet for label, meet in meets.items() if meet is not None}


def meeting(
    a: bytes | None,
    b: bytes | None,
    meets: Mapping[bytes, bytes | None],
) -> bytes | None:
    ways = []
    for start in (a, b):
        way: list[bytes] = []
        while start is not None and start not in way:
            way.append(start)
            start = meets.get(start)
        ways.append(way)
    return next((label for label in ways[0] if label in ways[1]), None)
