"""A value of tensor IR, written out over the elements of the inputs that it depends on.

Element by element, as they are needed, down through the blocks that make them. Numbers are real
here, not floating point.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.accounting.interface import Array, NotInterpretedError, Step
from harness.accounting.relax_script import shown
from harness.accounting.tir import Interpreter
from harness.accounting.tir_block import Memory, Nest, factored, independent, nest, reduction
from harness.accounting.tir_grid import Grid
from harness.accounting.tir_operators import declared, number
from harness.accounting.tir_script import (
    Apply,
    Expression,
    Function,
    Let,
    Load,
    Number,
    Statement,
    Store,
    Variable,
    walk,
)

MOST_NODES = 200_000  # of one question
MOST_POINTS = 400_000  # of expressions written out for one question
MOST_DEPTH = 150  # of elements that are computed from each other
MOST_TABLE = 4096  # numbers that are looked up by data
MOST_WORK = 3_000_000  # nodes evaluated, to make an answer plain
HALVINGS = 12
WIDEST = 64  # bits of an integer
Value = tuple[str, Any]  # ("n", number) or ("e", index of a node)
Node = tuple[Any, ...]


class NotExpressedError(NotInterpretedError):
    """What a value is computed by cannot be put as a question."""


@dataclass(frozen=True)
class Question:
    """Find inputs for which one of ``goals`` holds.

    ``nodes``: operator and arguments, each the index of an earlier node, ``["num", value]``, or
    ``["in", input, flat index, whole]``. ``goals``: in the order in which to try them, each the
    nodes of which one must be true. ``about``: printable.
    """

    where: str
    about: str
    nodes: tuple[Node, ...]
    goals: tuple[tuple[int, ...], ...]

    def asked(self, bounds: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
        """As :mod:`harness.solving` reads it. bounds: of each input's elements, both included."""
        return {
            "nodes": [list(node) for node in self.nodes],
            "goals": [list(goal) for goal in self.goals],
            "bounds": {name: list(pair) for name, pair in bounds.items()},
        }


@dataclass(frozen=True)
class Made:
    """What a step of the trace was made from. ``before``: the buffers' versions then."""

    step: Step
    function: Function
    statement: Statement
    buffer: str
    before: Mapping[str, int]
    label: str  # of the call in main


class Recorder(Interpreter):
    """Interprets as usual, and remembers which statement made which value."""

    made: dict[int, Made]
    names: Mapping[str, str]  # of main's parameters, what the model calls them

    def statement(
        self,
        function: Function,
        statement: Statement,
        memory: Memory,
        versions: dict[str, int],
        label: str,
    ) -> None:
        before = dict(versions)
        many = len(self.steps)
        super().statement(function, statement, memory, versions, label)
        names = {key: name for name, key in versions.items()}
        for step in self.steps[many:]:
            made = Made(step, function, statement, names[step.result], before, label)
            self.made[step.result] = made


def buffers(made: Made, recorder: Recorder) -> dict[str, Array]:
    return {name: recorder.values[key] for name, key in made.before.items()}


@dataclass
class Scope:
    """Where an expression stands: the statement, its axes' values, and what ``let`` has bound."""

    made: Made
    env: dict[str, int]
    bound: dict[str, Value]
    own: dict[str, Value] = field(default_factory=dict)  # buffers that the point itself has written


FOLDED: dict[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
    "/": lambda a, b: a / b, "//": lambda a, b: a // b, "%": lambda a, b: a % b,
    "max": max, "min": min, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b, "and": lambda a, b: bool(a) and bool(b),
    "or": lambda a, b: bool(a) or bool(b), "not": lambda a: not a, "neg": lambda a: -a,
    "abs": abs, "floor": math.floor, "ceil": math.ceil, "trunc": math.trunc, "rint": round,
    "real": float, "int": int, "whole": math.trunc, "true": bool,
    "exp": math.exp, "tanh": math.tanh, "sigmoid": lambda a: 1 / (1 + math.exp(-a)),
    "sqrt": math.sqrt, "log": math.log, "erf": math.erf,
    "any": lambda *a: any(a), "all": lambda *a: all(a),
    "&": lambda a, b: a & b, "|": lambda a, b: a | b, "^": lambda a, b: a ^ b,
    "<<": lambda a, b: a << b, ">>": lambda a, b: a >> b,
}  # fmt: skip
UNDEFINED = (ArithmeticError, ValueError, TypeError)


def folded(name: str, *values: Any) -> Any:
    """Raises one of UNDEFINED; for integers that no machine has, too, which could grow for ever."""
    if name in ("<<", ">>") and not 0 <= values[1] < WIDEST:
        raise ValueError("a shift that is not defined")
    result = FOLDED[name](*values)
    if isinstance(result, int) and abs(result) >= 2**WIDEST:
        raise OverflowError("an integer of more than 64 bits")
    return result


NAMES = {
    "+": "+", "-": "-", "*": "*", "/": "/", "//": "//", "%": "%", "floordiv": "//",
    "floormod": "%", "max": "max", "min": "min", "<": "<", "<=": "<=", "==": "==", "and": "and",
    "or": "or", "And": "and", "Or": "or", "not": "not", "Not": "not", "neg": "neg", "fabs": "abs",
    "abs": "abs", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "nearbyint": "rint",
    "exp": "exp", "tanh": "tanh", "sigmoid": "sigmoid", "sqrt": "sqrt", "log": "log", "erf": "erf",
    "&": "&", "|": "|", "^": "^", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
    "<<": "<<", ">>": ">>", "shift_left": "<<", "shift_right": ">>",
}  # fmt: skip
TRUTHS = {"<", "<=", "==", "and", "or", "not", "any", "all"}
OPEN = {"max", "min", "ite", "+", "-", "*", "real", "neg"}  # what a comparison is asked through


class Writer:
    """Nodes over elements of the inputs. Equal ones are one."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.nodes: list[Node] = []
        self.places: dict[Node, int] = {}
        self.elements: dict[tuple[int, tuple[int, ...]], Value] = {}
        self.nests: dict[int, Nest] = {}
        self.static: dict[tuple[int, int], bool] = {}
        self.inputs = {key: name for name, key in self.input_keys().items()}
        self.left = MOST_POINTS
        self.depth = 0

    def input_keys(self) -> dict[str, int]:
        main = self.recorder.program.main
        called = self.recorder.names
        return {called[p.name]: self.recorder.bound[p.key][0] for p in main.parameters}

    def node(self, *parts: Any) -> Value:
        at = self.places.get(parts)
        if at is None:
            if len(self.nodes) >= MOST_NODES:
                raise NotExpressedError(f"more than {MOST_NODES} operations")
            at = self.places[parts] = len(self.nodes)
            self.nodes.append(parts)
        return ("e", at)

    def index(self, value: Value) -> int:
        """The node of a value, which may be a number."""
        return int(value[1] if value[0] == "e" else self.node("num", value[1])[1])

    def apply(self, name: str, *values: Value) -> Value:
        if all(kind == "n" for kind, _ in values):
            try:
                return ("n", folded(name, *(value for _, value in values)))
            except UNDEFINED as error:
                raise NotExpressedError(f"{name} has no value: {error}") from error
        for at, (kind, held) in enumerate(values):
            other = values[1 - at] if len(values) == 2 else None
            if kind != "n" or other is None:
                continue
            if name == "*" and held == 0:
                return ("n", held)
            if (name == "+" and held == 0) or (name == "*" and held == 1):
                return other
            if name == "-" and held == 0 and at == 1:
                return other
            if name in ("and", "or"):
                return ("n", bool(held)) if bool(held) is (name == "or") else other
        if name in ("<", "<=") and values[0][0] == "n":
            return self.at_least(values[1], float(values[0][1]), name == "<")
        if name in ("<", "<=") and values[1][0] == "n":
            return self.apply("not", self.at_least(values[0], float(values[1][1]), name == "<="))
        if name == "not" and self.nodes[values[0][1]][0] == "not":
            return ("e", self.nodes[values[0][1]][1])
        return self.node(name, *(self.index(value) for value in values))

    def at_least(self, value: Value, bound: float, strict: bool) -> Value:
        """Whether a value is at least ``bound``, or more if ``strict``: asked of what it is made
        of, where that is simple. A maximum of thousands is so a choice of thousands, not a nest.
        """
        flip = False  # asked for: not (value >= bound)
        while value[0] == "e":
            node = self.nodes[value[1]]
            name, args = node[0], [self.back(at) for at in node[1:]] if node[0] in OPEN else []
            fixed = [at for at, (kind, _) in enumerate(args) if kind == "n"]
            if name in ("max", "min"):
                leaves = [self.at_least(leaf, bound, strict) for leaf in self.leaves(name, value)]
                out = self.several("any" if name == "max" else "all", leaves)
                return self.apply("not", out) if flip else out
            if name == "ite" and 1 in fixed and 2 in fixed:
                yes, no = (self.at_least(args[at], bound, strict)[1] for at in (1, 2))
                out = ("n", yes) if yes == no else args[0] if yes else self.apply("not", args[0])
                return self.apply("not", out) if flip else out
            if name == "+" and fixed:
                bound, value = bound - args[fixed[0]][1], args[1 - fixed[0]]
            elif name == "-" and fixed == [1]:
                bound, value = bound + args[1][1], args[0]
            elif name == "*" and fixed and args[fixed[0]][1] > 0:
                bound, value = bound / args[fixed[0]][1], args[1 - fixed[0]]
            elif name == "real":
                value = args[0]
            elif (name == "-" and fixed == [0]) or name == "neg":
                # c - v >= b is not v > c - b
                bound = args[0][1] - bound if name == "-" else -bound
                value, strict, flip = args[-1], not strict, not flip
            else:
                sign = "<" if strict else "<="
                out = self.node(sign, self.index(("n", bound)), value[1])
                return self.apply("not", out) if flip else out
        true = value[1] > bound if strict else value[1] >= bound
        return ("n", bool(true) is not flip)

    def back(self, at: int) -> Value:
        """The value that a node stands for: a number, where it is one."""
        node = self.nodes[at]
        return ("n", node[1]) if node[0] == "num" else ("e", at)

    def leaves(self, name: str, value: Value) -> list[Value]:
        found: dict[Value, None] = {}
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if one[0] == "e" and self.nodes[one[1]][0] == name:
                waiting += [self.back(at) for at in self.nodes[one[1]][1:]]
            else:
                found[one] = None
        return list(found)

    def several(self, name: str, values: Iterable[Value]) -> Value:
        """``any`` or ``all`` of truth values."""
        kept: dict[Value, None] = {}
        for value in values:
            if value[0] == "e":
                kept[value] = None
            elif value[1] is (name == "any"):
                return value
        if not kept:
            return ("n", name == "all")
        return self.node(name, *(at for _, at in kept)) if len(kept) > 1 else next(iter(kept))

    def choose(self, test: Value, yes: Value, no: Value) -> Value:
        if test[0] == "n":
            return yes if test[1] else no
        if yes == no:
            return yes
        return self.node("ite", self.index(test), self.index(yes), self.index(no))

    def differs(self, value: Value, usual: float, move: float) -> Value:
        """Whether a value is at least ``move`` away from what it usually is."""
        if self.nodes[value[1]][0] in TRUTHS:
            return value if not usual else self.apply("not", value)
        above = self.apply("<=", ("n", usual + move), value)
        return self.apply("or", above, self.apply("<=", value, ("n", usual - move)))

    # Elements.

    def element(self, key: int, at: tuple[int, ...]) -> Value:
        recorder = self.recorder
        label = (key, at)
        if label in self.elements:
            return self.elements[label]
        value = recorder.values[key]
        if key in self.inputs:
            flat = int(np.ravel_multi_index(at, value.shape[1:])) if at else 0
            name = self.inputs[key]
            made = self.node("in", name, flat, value.dtype.kind in "iu")
        elif key not in recorder.data:
            made = ("n", value[(0, *at)].item())
        else:
            self.depth += 1
            if self.depth > MOST_DEPTH:
                raise NotExpressedError("computed through too many steps")
            made = self.computed(key, at)
            self.depth -= 1
        self.elements[label] = made
        return made

    def computed(self, key: int, at: tuple[int, ...]) -> Value:
        made = self.recorder.made.get(key)
        if made is None:
            raise NotExpressedError("a value that no block makes")
        if key not in self.nests:
            one = nest(made.statement)
            if one is None or not independent(one):
                raise NotExpressedError(f"{made.step.where}: not computed point by point")
            self.nests[key] = one
        one = self.nests[key]
        env = {name: low for name, (low, high) in (*one.spatial.items(), *one.reduced.items())}
        stores = [s for s in one.block.body if isinstance(s, Store) and s.buffer == made.buffer]
        if not stores:
            raise NotExpressedError(f"{made.step.where}: written by nothing")
        for index, wanted in zip(stores[0].indices, at, strict=True):
            if isinstance(index, Variable):
                low, high = one.spatial[index.name]
                if not low <= wanted < high:
                    raise NotExpressedError(f"{made.step.where}: written in part")
                env[index.name] = wanted
            elif not isinstance(index, Number) or index.value != wanted:
                raise NotExpressedError(f"{made.step.where}: written in part")
        scope = Scope(made, env, {})
        self.run(one.block.init, scope)
        for point in self.rounds(one, scope):
            scope.env.update(zip(one.reduced, point, strict=True))
            self.run(one.block.body, scope)
        return scope.own[made.buffer]

    def rounds(self, one: Nest, scope: Scope) -> Iterable[tuple[int, ...]]:
        """The points of a reduction, without those of a sum at which a constant factor is 0."""
        spans = [range(low, high) for low, high in one.reduced.values()]
        update = reduction(one) if one.reduced else None
        if update is None or update[0] != "+":
            return itertools.product(*spans)
        factors = factored(update[2])
        fixed = [factor for factor in factors if self.constant(factor, scope)]
        if len(factors) != 2 or not fixed:
            return itertools.product(*spans)
        ranges = {name: (at, at + 1) for name, at in scope.env.items()}
        grid = Grid({**ranges, **one.reduced}, buffers(scope.made, self.recorder), {})
        weights = grid.evaluate(fixed[0])
        order = [grid.place[name] for name in one.reduced if name in grid.place]
        if len(order) != len(one.reduced) or weights.ndim != grid.rank:
            return itertools.product(*spans)
        shape = [len(span) for span in spans]
        flat = np.broadcast_to(weights[0].transpose([at - 1 for at in order]), shape)
        lows = [span.start for span in spans]
        return [
            tuple(int(i) + low for i, low in zip(at, lows, strict=True))
            for at in np.argwhere(flat != 0)
        ]

    def run(self, body: tuple[Statement, ...], scope: Scope) -> None:
        for statement in body:
            if isinstance(statement, Store):
                scope.own[statement.buffer] = self.expression(statement.value, scope)
            elif isinstance(statement, Let):
                scope.bound[statement.name] = self.expression(statement.value, scope)

    # Expressions.

    def constant(self, one: Expression, scope: Scope) -> bool:
        """Whether it holds no data; the answer is kept for each expression and statement."""
        label = (id(one), id(scope.made))
        if label not in self.static:
            data = self.recorder.data
            self.static[label] = not any(
                (isinstance(part, Load) and (
                    part.buffer not in scope.made.before
                    or scope.made.before[part.buffer] in data
                    or part.buffer in scope.own
                ))
                or (isinstance(part, Variable) and part.name in scope.bound)
                for part in walk(one)
            )  # fmt: skip
        return self.static[label]

    def expression(self, one: Expression, scope: Scope) -> Value:
        self.left -= 1
        if self.left < 0:
            raise NotExpressedError(f"more than {MOST_POINTS} operations written out")
        match one:
            case Number():
                return ("n", number(one).item())
            case Variable(name=name):
                return scope.bound[name] if name in scope.bound else ("n", scope.env[name])
            case Load():
                return self.load(one, scope)
            case Apply(operation="Select" | "if_then_else", arguments=(test, yes, no)):
                chosen = self.expression(test, scope)
                if chosen[0] == "n":
                    return self.expression(yes if chosen[1] else no, scope)
                return self.choose(chosen, self.expression(yes, scope), self.expression(no, scope))
            case Apply(operation="*", arguments=(left, right)):
                if self.constant(right, scope):
                    left, right = right, left
                first = self.expression(left, scope)
                if first == ("n", 0):  # the other side need not be written out
                    return first
                return self.apply("*", first, self.expression(right, scope))
            case Apply():
                return self.operation(one, scope)
        raise NotExpressedError("an expression of no known kind")

    def operation(self, one: Apply, scope: Scope) -> Value:
        values = [self.expression(part, scope) for part in one.arguments]
        name = one.operation
        if name == "cast":
            types = {b.name: b.dtype for b in scope.made.function.buffers.values()}
            return self.cast(values[0], declared(one.arguments[0], types), one.dtype)
        if name == "reinterpret":
            return self.bits(values[0], one)
        if name == "if_then_else":
            raise NotExpressedError("a choice in an unknown form")
        if name in (">", ">=") and len(values) == 2:
            return self.apply("<" if name == ">" else "<=", values[1], values[0])
        if name == "!=" and len(values) == 2:
            return self.apply("not", self.apply("==", *values))
        if name == "fma" and len(values) == 3:
            return self.apply("+", self.apply("*", values[0], values[1]), values[2])
        if name == "rsqrt":
            return self.apply("/", ("n", 1.0), self.apply("sqrt", values[0]))
        if name in ("pow", "power") and values[1][0] == "n" and values[1][1] in (1, 2, 3, 4):
            out = values[0]
            for _ in range(int(values[1][1]) - 1):
                out = self.apply("*", out, values[0])
            return out
        if name in ("min_value", "max_value", "infinity") and not values:
            grid = Grid({}, {}, {})
            return ("n", grid.evaluate(one).item())
        if name in ("and", "or") and len(values) > 2:
            out = values[0]
            for value in values[1:]:
                out = self.apply(name, out, value)
            return out
        if name not in NAMES:
            raise NotExpressedError(f"{one.shown()}: {shown(name)} is not put into questions")
        return self.apply(NAMES[name], *values)

    def bits(self, value: Value, one: Apply) -> Value:
        """The bits of an input's element, as an integer."""
        plain = value[0] == "e" and self.nodes[value[1]][0] == "in"
        if not plain or self.nodes[value[1]][3] or one.dtype not in ("int32", "uint32"):
            raise NotExpressedError(f"{one.shown()}: the bits of what is no element of an input")
        return self.node("bits", value[1], one.dtype == "int32")

    def cast(self, value: Value, source: str, target: str) -> Value:
        kinds = [kind_of(source), kind_of(target)]
        match kinds:
            case ["f", "f"] | ["i", "i"] | ["b", "b"]:
                return value
            case ["i", "f"]:
                return self.apply("real", value)
            case ["f", "i"]:
                return self.apply("whole", value)
            case ["b", "f" | "i"]:
                one, zero = (1.0, 0.0) if kinds[1] == "f" else (1, 0)
                return self.choose(value, ("n", one), ("n", zero))
            case [_, "b"]:
                return self.apply("not", self.apply("==", value, ("n", 0)))
        raise NotExpressedError(f"a cast from {shown(source)} to {shown(target)}")

    def load(self, one: Load, scope: Scope) -> Value:
        if one.buffer in scope.own:
            return scope.own[one.buffer]
        key = scope.made.before.get(one.buffer)
        if key is None:
            raise NotExpressedError(f"{shown(one.buffer)} has no value")
        indices = [self.expression(index, scope) for index in one.indices]
        shape = self.recorder.values[key].shape[1:]
        open_ = [at for at, value in enumerate(indices) if value[0] == "e"]
        fixed = [int(value[1]) if value[0] == "n" else 0 for value in indices]
        if any(not 0 <= i < size for i, size in zip(fixed, shape, strict=True)):
            raise NotExpressedError(f"{shown(one.buffer)} is read outside its elements")
        if not open_:
            return self.element(key, tuple(fixed))
        if len(open_) > 1 or shape[open_[0]] > MOST_TABLE:
            raise NotExpressedError(f"{shown(one.buffer)} is looked up in by data")
        at = open_[0]
        entries = []
        for i in range(shape[at]):
            fixed[at] = i
            entries.append(self.element(key, tuple(fixed)))
        out = entries[-1]
        # From the end, so that equal neighbours need one question.
        for i in range(len(entries) - 2, -1, -1):
            if entries[i] != out or i == 0:
                test = self.apply("==", indices[at], ("n", i))
                out = self.choose(test, entries[i], out)
        return out


def kind_of(dtype: str) -> str:
    if dtype.startswith(("float", "bfloat")):
        return "f"
    return "b" if dtype == "bool" else "i" if dtype.startswith(("int", "uint")) else "?"


# Checking an answer.


def holds(question: Question, inputs: Mapping[str, Array]) -> bool:
    """Whether one of the goals is true for these inputs, in float64."""
    values: list[Any] = []
    for node in question.nodes:
        name, *rest = node
        try:
            if name == "num":
                values.append(rest[0])
            elif name == "in":
                values.append(inputs[rest[0]].reshape(-1)[rest[1]].item())
            elif name == "bits":
                whole = np.asarray(values[rest[0]], np.float32).view(np.int32).item()
                values.append(whole if rest[1] else whole % 2**32)
            elif name == "ite":
                values.append(values[rest[1]] if values[rest[0]] else values[rest[2]])
            else:
                values.append(folded(name, *(values[at] for at in rest)))
        except UNDEFINED:
            values.append(math.nan)
    return any(values[at] is True for goal in question.goals for at in goal)


def plainest(
    question: Question, base: Mapping[str, Array], elements: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Of what was found, the elements that are needed, each in the middle of where it may be.

    z3 names a corner of what is possible, where float32 can fall on the other side.
    """
    kept = [(name, at, value) for name, part in elements.items() for at, value in part.items()]

    def good(some: Sequence[tuple[str, str, float]]) -> bool:
        nested: dict[str, dict[str, float]] = {}
        for name, at, value in some:
            nested.setdefault(name, {})[at] = value
        return holds(question, filled(base, nested))

    tries = max(50, MOST_WORK // max(1, len(question.nodes)))
    width = len(kept) // 2
    while width and tries > 0 and good(kept):
        at = 0
        while at < len(kept) and tries > 0:
            tries -= 1
            without = kept[:at] + kept[at + width :]
            if good(without):
                kept = without
            else:
                at += width
        width //= 2
    for at, (name, place, value) in enumerate(kept):
        if base[name].dtype.kind != "f" or tries < 2 * HALVINGS or not good(kept):
            continue
        ends = []
        for sign in (-1, 1):
            near, far = 0.0, 1.0
            for _ in range(HALVINGS):
                tries -= 1
                middle = (near + far) / 2
                moved = [*kept]
                moved[at] = (name, place, value + sign * middle)
                near, far = (middle, far) if good(moved) else (near, middle)
            ends.append(value + sign * near)
        moved = [*kept]
        moved[at] = (name, place, sum(ends) / 2)
        if good(moved):
            kept = moved
    out: dict[str, dict[str, float]] = {}
    for name, place, value in kept:
        out.setdefault(name, {})[place] = value
    return out


def filled(
    base: Mapping[str, Array], elements: Mapping[str, Mapping[str, float]]
) -> dict[str, Array]:
    """``base`` with some elements, by their flat index, set to what was found."""
    out = {}
    for name, value in base.items():
        changed = value.copy()
        for at, number_ in elements.get(name, {}).items():
            changed.reshape(-1)[int(at)] = number_
        out[name] = changed
    return out
