"""Is each store of a lifted LLVM function the store of a block of tensor IR?

Both functions are laid out as the list of their stores, with the loops and conditions around each.
The n-th of one must be the n-th of the other: the same loops, written where and under what the
same conditions, and the same value for random content of memory. Memory is a function of place and
sample, so nothing is allocated, however large the buffers are. Among the samples are the constants
that either side holds and the numbers next to them.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from harness.accounting.arrays import Array
from harness.accounting.interface import Choice, NotInterpretedError
from harness.accounting.llvm_lift import Lifted, chosen
from harness.accounting.llvm_offsets import UnlikeError, from_beginnings
from harness.accounting.tir_block import independent, nest
from harness.accounting.tir_decisions import CURVES, QUOTIENTS, Flow
from harness.accounting.tir_grid import Grid
from harness.accounting.tir_operators import bounds, numpy_type
from harness.accounting.tir_script import (
    Apply,
    Block,
    Expression,
    For,
    Function,
    If,
    Let,
    Load,
    Number,
    Statement,
    Store,
    Variable,
    expressions,
    statements,
    walk,
)

SAMPLES = 4096
SEED = 0xACC0
NEAR = (-25, 25, 200_001)  # a dense grid: from, to, points
STEP = 0.5  # by how much the argument of a curve may change from point to point
TOLERANCE = 1e-11  # relative; both sides are evaluated in float64
APPROXIMATE = 2e-6  # for what is made of other operations below, such as tanh
NARROW = 1e-5  # the same in float32, of 1 or more
MOST_STORES = 5_000
MOST_CONSTANTS = 200
Loops = tuple[tuple[str, int, int], ...]  # (variable, first, how many), the outermost first


@dataclass(frozen=True)
class Entry:
    """A store with what is around it. ``nest``: counts the statements of a tensor-IR function;
    those of one share their loops.
    """

    loops: Loops
    conditions: tuple[Expression, ...]
    store: Store
    nest: int = 0
    steps: tuple[int, ...] = ()  # numbers of its loops, where statements of one share some


@dataclass(frozen=True)
class Excess:
    """What a store decides beyond the block that it belongs to."""

    entry: Entry
    block: str
    choices: Counter[Choice]
    different: str = ""  # how its value differs from the block's


# Two lists of stores.


def of_tir(
    body: Iterable[Statement], count: Iterator[int] | None = None
) -> Iterator[tuple[str, Entry]]:
    """Every store of the function, with the name of its block. Raises UnlikeError."""
    count = count or itertools.count()
    for statement in body:
        if isinstance(statement, Block) and not statement.axes and not statement.init:
            yield from of_tir(statement.body, count)
            continue
        one = nest(statement)
        if one is None:
            yield from in_order(statement, count, ())
            continue
        number = next(count)
        loops: list[tuple[str, int, int]] = []
        inner = statement
        while isinstance(inner, For):
            loops += [
                (name, 0, int(many.value))
                for name, _, many in inner.ranges
                if isinstance(many, Number)
            ]
            inner = inner.body[0]
        names = {
            axis.value.name: axis.name
            for axis in one.block.axes
            if isinstance(axis.value, Variable)
        }
        fixed = [
            (axis.name, int(axis.value.value), 1)
            for axis in one.block.axes
            if isinstance(axis.value, Number)
        ]
        around = tuple((names.get(name, name), first, many) for name, first, many in loops)
        begins = tuple(
            Apply("==", (Variable(name), Number(low, "int64")))
            for name, (low, high) in one.reduced.items()
            if high - low > 1
        )
        for part in stores(one.block.init):
            yield one.block.name, Entry((*around, *fixed), begins, part, number)
        for part in stores(one.block.body):
            yield one.block.name, Entry((*around, *fixed), (), part, number)


def in_order(
    statement: Statement, count: Iterator[int], around: tuple[tuple[int, str, int, int], ...]
) -> Iterator[tuple[str, Entry]]:
    """Stores in loops without blocks, each done for all others that follow it to see.

    ``around``: the loops, each with its number.
    """
    match statement:
        case Store():
            loops = tuple((name, first, many) for _, name, first, many in around)
            steps = tuple(number for number, _, _, many in around if many != 1)
            yield "", Entry(loops, (), statement, -1, steps)
        case For():
            for name, first, many in statement.ranges:
                if not isinstance(first, Number) or not isinstance(many, Number):
                    raise UnlikeError("a loop of another form")
                around = (*around, (next(count), name, int(first.value), int(many.value)))
            for inner in statement.body:
                yield from in_order(inner, count, around)
        case _:
            raise UnlikeError("a block of another form")


def stores(body: tuple[Statement, ...]) -> Iterator[Store]:
    """The stores, with what ``let`` binds put in its place."""
    bound: dict[str, Expression] = {}
    done: set[str] = set()
    for one in body:
        if isinstance(one, Let):
            bound[one.name] = put(one.value, bound)
        elif isinstance(one, Store):
            value = put(one.value, bound)
            indices = tuple(put(index, bound) for index in one.indices)
            for expression in (value, *indices):
                if bound and any(
                    isinstance(part, Load) and part.buffer in done for part in walk(expression)
                ):
                    raise UnlikeError("a block that reads what it has just written")
            done.add(one.buffer)
            yield Store(one.buffer, indices, value, one.line)


def put(value: Expression, bound: Mapping[str, Expression]) -> Expression:
    if not bound:
        return value
    match value:
        case Variable(name=name):
            return bound.get(name, value)
        case Load():
            return Load(value.buffer, tuple(put(index, bound) for index in value.indices))
        case Apply():
            parts = tuple(put(part, bound) for part in value.arguments)
            return Apply(value.operation, parts, value.dtype, value.text)
    return value


def of_llvm(
    body: Iterable[Statement], loops: Loops = (), conditions: tuple[Expression, ...] = ()
) -> Iterator[Entry]:
    for one in body:
        match one:
            case Store():
                yield Entry(loops, conditions, one)
            case For(ranges=((name, Number(value=first), Number(value=many)),)):
                around = (*loops, (name, int(first), int(many)))
                yield from of_llvm(one.body, around, conditions)
            case If():
                yield from of_llvm(one.then, loops, (*conditions, one.condition))
                negated = Apply("not", (one.condition,))
                yield from of_llvm(one.otherwise, loops, (*conditions, negated))
            case _:
                raise UnlikeError("a statement of another form")


# Samples.


class Samples(Grid):
    """Expressions at a number of samples: loop variables and memory are drawn at random.

    ``homes``: name of a buffer → (number of its place, its type, its shape or None if flat).
    """

    def __init__(
        self,
        variables: Mapping[str, Array],
        homes: Mapping[str, tuple[str, str, tuple[int, ...] | None]],
        content: Content,
    ) -> None:
        super().__init__({}, {}, variables)
        self.homes = homes
        self.content = content
        self.touched: dict[str, list[Array]] = {}
        self.single: set[str] = set()  # buffers kept in one element
        self.signed: set[str] = set()  # buffers of unsigned integers that are read with a sign

    def flat(self, name: str, indices: tuple[Expression, ...], depth: int = 0) -> Array:
        """Which element it is, counted through all dimensions."""
        if name not in self.homes:
            raise UnlikeError(f"{name} is read and has no value")
        if name in self.single:
            return np.zeros(SAMPLES, np.int64)
        shape = self.homes[name][2]
        values = [self.evaluate(index, None, depth + 1) for index in indices]
        if any(value.dtype.kind not in "iu" for value in values):
            raise UnlikeError(f"{name}: an index that is no integer")
        total = np.zeros((), np.int64)
        for value, size in zip(values, shape or (1,) * len(values), strict=True):
            total = total * size + value.astype(np.int64)
        return np.broadcast_to(total, (SAMPLES,))

    def load(self, one: Load, mask: Array | None, depth: int) -> Array:  # noqa: ARG002
        at = self.flat(one.buffer, one.indices, depth)
        place, dtype, _ = self.homes[one.buffer]
        self.touched.setdefault(place, []).append(at)
        value = self.content.read(place, at, dtype).astype(numpy_type(dtype, self.written))
        if one.buffer in self.signed:  # the same bits
            value = value.view(np.dtype(dtype.removeprefix("u")))
        return value


class Content:
    """What memory holds: drawn by place, element and sample."""

    def __init__(self, rng: np.random.Generator, constants: Iterable[float]) -> None:
        salt = rng.integers(0, 2**63, SAMPLES, dtype=np.uint64)
        same = rng.random(SAMPLES) < 0.1  # one value everywhere
        self.salt = salt
        self.same = same
        near: set[float] = set()
        for value in list(dict.fromkeys(constants))[:MOST_CONSTANTS]:
            if np.isfinite(value) and abs(value) < 1e30:
                narrow = np.float32(value)
                near |= {
                    float(value), float(np.nextafter(narrow, np.float32(np.inf))),
                    float(np.nextafter(narrow, np.float32(-np.inf))), value + 1, value - 1, -value,
                }  # fmt: skip
        usual = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 6.0, 255.0, 256.0, 1e-6, -1e-6, 30.0, -30.0]
        self.special = np.array([*usual, *sorted(near)], np.float64)
        self.whole = np.unique(np.clip(np.rint(self.special), -(2**31), 2**31 - 1)).astype(np.int64)
        self.numbers: dict[str, int] = {}

    def bits(self, place: str, at: Array) -> Array:
        number = np.uint64(self.numbers.setdefault(place, len(self.numbers) + 1))
        with np.errstate(over="ignore"):
            key = at.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            key = np.where(self.same, np.uint64(0), key + number * np.uint64(0xD1B54A32D192ED03))
            x = key + self.salt
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
                x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
            return x ^ (x >> np.uint64(31))

    def read(self, place: str, at: Array, dtype: str) -> Array:
        x = self.bits(place, at)
        kind = numpy_type(dtype).kind
        pick = (x >> np.uint64(8)) % np.uint64(2**20)
        often = (x % np.uint64(8)) < 3
        if kind == "b":
            return (pick % np.uint64(2)).astype(bool)
        if kind in "iu":
            special = self.whole[(pick % np.uint64(len(self.whole))).astype(np.int64)]
            usual = (pick % np.uint64(600)).astype(np.int64) - (0 if kind == "u" else 200)
            return np.where(often, special, usual).astype(numpy_type(dtype))
        special_of = self.special[(pick % np.uint64(len(self.special))).astype(np.int64)]
        usual_of = ((x >> np.uint64(11)).astype(np.float64) / 2**53 - 0.5) * 12
        return np.where(often, special_of, usual_of)


# Pairs.


@dataclass
class Pairing:
    """``kept``: place → buffer whose content it holds; ``homes``: buffer → its place."""

    function: Function
    lifted: Lifted
    kept: dict[str, str] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)
    single: set[str] = field(default_factory=set)
    nests: dict[int, list[str]] = field(default_factory=dict)  # of tensor IR → loops over there
    taken: dict[str, int] = field(default_factory=dict)  # loop over there → nest of tensor IR

    def run(self) -> list[Excess]:
        """Raises UnlikeError if the stores do not correspond."""
        ours = list(of_tir(self.function.body))
        theirs = list(of_llvm(self.lifted.body))
        if len(ours) != len(theirs) or len(ours) > MOST_STORES:
            raise UnlikeError(f"{len(theirs)} stores, the tensor-IR function has {len(ours)}")
        if len(self.function.parameters) != len(self.lifted.parameters):
            raise UnlikeError("another number of buffers")
        for name, place in zip(self.function.parameters, self.lifted.parameters, strict=True):
            self.kept[place] = name
            self.homes[name] = place
        rng = np.random.default_rng(SEED)
        found = []
        for (block, mine), other in zip(ours, theirs, strict=True):
            one = self.pair(block, mine, other, rng)
            if one is not None:
                found.append(one)
        return found

    def pair(
        self, block: str, mine: Entry, other: Entry, rng: np.random.Generator
    ) -> Excess | None:
        wide = [loop for loop in mine.loops if loop[2] != 1]
        wide_other = [loop for loop in other.loops if loop[2] != 1]
        if [(a, b) for _, a, b in wide] != [(a, b) for _, a, b in wide_other]:
            raise UnlikeError(f"block {block}: other loops")
        # Two nests in one loop would let the second read what the first has not yet written.
        loops = [name for name, _, _ in wide_other]
        shared = [(mine.nest, loops)]
        if mine.nest < 0:  # loop by loop: they hold several statements
            shared = [(number, [name]) for number, name in zip(mine.steps, loops, strict=True)]
        if any(
            self.nests.setdefault(number, names) != names
            or any(self.taken.setdefault(name, number) != number for name in names)
            for number, names in shared
        ):
            raise UnlikeError(
                f"block {block}: loops shared with another block, or not with its own"
            )
        buffer, place = mine.store.buffer, other.store.buffer
        shape = self.function.buffers[buffer]
        if self.homes.get(buffer, place) != place:
            raise UnlikeError(f"block {block}: another place is written to")
        if not place.startswith("argument"):
            width = numpy_type(shape.dtype, written=True).itemsize
            if other.store.indices[0] == Number(0, "int32") and (
                self.passing(buffer) or self.unread(buffer)
            ):
                self.single.add(buffer)
            elements = 1 if buffer in self.single else math.prod(shape.shape)
            if self.lifted.room.get(place, 0) < width * elements:
                raise UnlikeError(f"block {block}: less room than the buffer takes")
        variables, variables_other = self.draw(mine, other, wide, wide_other, rng)

        content = Content(rng, numbers(mine.store.value, other.store.value))
        ours = Samples(variables, self.our_homes(buffer, place), content)
        theirs = Samples(variables_other, self.their_homes(), content)
        theirs.homes = {
            **theirs.homes,
            place: (place, shape.dtype, None),
        }
        ours.single = self.single
        theirs.signed = set(self.unsigned())
        at = ours.flat(buffer, mine.store.indices)
        if not np.array_equal(at, theirs.flat(place, other.store.indices)):
            raise UnlikeError(f"block {block}: other elements are written")
        reached = truth(ours, mine.conditions)
        if not np.array_equal(reached, truth(theirs, other.conditions)):
            raise UnlikeError(f"block {block}: written under other conditions")
        a = np.broadcast_to(ours.evaluate(mine.store.value), (SAMPLES,))
        b = np.broadcast_to(theirs.evaluate(other.store.value), (SAMPLES,))
        b = as_stored(b, numpy_type(shape.dtype, written=True))
        before = self.kept.get(place)
        if before is not None and before != buffer:  # in place of another: only element by element
            for read in ours.touched.get(place, []):
                if not np.array_equal(read, at):
                    raise UnlikeError(f"block {block}: reads what it overwrites")
            self.homes.pop(before, None)
        for alias in self.aliases(place):
            if ours.touched.get(alias) or theirs.touched.get(alias):
                raise UnlikeError(f"block {block}: reads as another type what it overwrites")
            gone = self.kept.pop(alias, None)
            if gone is not None and self.homes.get(gone) == alias:
                del self.homes[gone]
        self.kept[place] = buffer
        self.homes[buffer] = place

        different = ""
        unlike = reached & ~(alike(a, b) & self.narrow(ours, theirs, mine, other))
        if unlike.any():
            first = int(np.flatnonzero(unlike)[0])
            different = (
                f"{int(unlike.sum())} of {SAMPLES} samples, such as {a[first]} and {b[first]}"
            )
        types = {**self.lifted.types, **self.unsigned()}
        more = decisions(other, types, self.truths()) - allowed(mine, self.function)
        if (more or different) and self.proven(mine, other) and one_element(ours, theirs):
            more, different = Counter(), ""
        if not more and not different:
            return None
        return Excess(other, block, more, different)

    def narrow(self, ours: Samples, theirs: Samples, mine: Entry, other: Entry) -> Array:
        """Where both agree in the declared types as well, with their rounding and overflow."""
        ours.written = theirs.written = True
        a = np.broadcast_to(ours.evaluate(mine.store.value), (SAMPLES,)).astype(np.float64)
        b = np.broadcast_to(theirs.evaluate(other.store.value), (SAMPLES,))
        dtype = self.function.buffers[mine.store.buffer].dtype
        b = as_stored(b, numpy_type(dtype, written=True)).astype(np.float64)
        ours.written = theirs.written = False
        return alike(a, b, NARROW)

    def aliases(self, place: str) -> list[str]:
        """Other names of the same memory: what it is when read or written as another type."""
        under = self.lifted.under
        memory = under.get(place, place)
        return [name for name in (memory, *(a for a, b in under.items() if b == memory))
                if name != place]  # fmt: skip

    def unread(self, buffer: str) -> bool:
        """Whether the function writes it and nothing ever reads it: then one element is enough."""
        return buffer not in self.function.parameters and not any(
            isinstance(part, Load) and part.buffer == buffer
            for expression in expressions(self.function.body)
            for part in walk(expression)
        )

    def passing(self, buffer: str) -> bool:
        """Whether a buffer is needed while one element of it is computed, and then no more: used
        in one block alone, always at the same indices, whose reduction runs in the innermost loops.
        """
        if buffer in self.function.parameters:
            return False
        users = []
        for statement in self.function.body:
            parts = list(statements((statement,)))
            if any(isinstance(part, Store) and part.buffer == buffer for part in parts) or any(
                isinstance(part, Load) and part.buffer == buffer
                for expression in expressions((statement,))
                for part in walk(expression)
            ):
                users.append(statement)
        one = nest(users[0]) if len(users) == 1 else None
        if one is None or not independent(one) or not one.block.init:
            return False
        kinds = [axis.kind for axis in one.block.axes]
        order = [axis.value.name for axis in one.block.axes if isinstance(axis.value, Variable)]
        loops: list[str] = []
        inner = users[0]
        while isinstance(inner, For):
            loops += [name for name, _, _ in inner.ranges]
            inner = inner.body[0]
        return kinds == sorted(kinds, reverse=True) and order == [x for x in loops if x in order]

    def truths(self) -> set[str]:
        """Places of buffers of bools."""
        return {
            place for place, name in self.kept.items()
            if self.function.buffers[name].dtype == "bool"
        }  # fmt: skip

    def unsigned(self) -> dict[str, str]:
        """The places that hold a buffer of unsigned integers: below, a type has no sign, and a
        number is made one where it is used.
        """
        declared = {place: self.function.buffers[name].dtype for place, name in self.kept.items()}
        return {
            place: dtype
            for place, dtype in declared.items()
            if dtype.startswith("u") and self.lifted.types.get(place) == dtype.removeprefix("u")
        }

    def our_homes(
        self, buffer: str, place: str
    ) -> dict[str, tuple[str, str, tuple[int, ...] | None]]:
        homes: dict[str, tuple[str, str, tuple[int, ...] | None]] = {
            name: (home, self.function.buffers[name].dtype, self.function.buffers[name].shape)
            for name, home in self.homes.items()
        }
        own = self.function.buffers[buffer]
        homes[buffer] = (place, own.dtype, own.shape)
        return homes

    def their_homes(self) -> dict[str, tuple[str, str, tuple[int, ...] | None]]:
        homes: dict[str, tuple[str, str, tuple[int, ...] | None]] = {}
        for place, name in self.kept.items():
            declared, dtype = self.function.buffers[name].dtype, self.lifted.types.get(place)
            same = (declared, declared.removeprefix("u"), "int8" if declared == "bool" else None)
            if dtype is not None and dtype not in same:
                raise UnlikeError(f"{name} is {declared}, and accessed as {dtype}")
            homes[place] = (place, declared, None)
        return homes

    def draw(
        self,
        mine: Entry,
        other: Entry,
        wide: list[tuple[str, int, int]],
        wide_other: list[tuple[str, int, int]],
        rng: np.random.Generator,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Points of the loops for both sides: inside, and often at an end."""
        ours: dict[str, Array] = {}
        theirs: dict[str, Array] = {}
        for entry, into in ((mine, ours), (other, theirs)):
            for name, first, many in entry.loops:
                if many == 1:
                    into[name] = np.asarray(first, np.int64)
                elif many < 1:
                    raise UnlikeError("a loop that never runs")
        for (name, first, many), (name_other, _, _) in zip(wide, wide_other, strict=True):
            drawn = rng.integers(first, first + many, SAMPLES)
            edge = rng.random(SAMPLES)
            drawn = np.where(edge < 0.3, first, np.where(edge > 0.8, first + many - 1, drawn))
            ours[name] = drawn
            theirs[name_other] = drawn
        return ours, theirs

    def proven(self, mine: Entry, other: Entry) -> bool:
        """Whether both are the same function of one number, tried closely."""
        leaves = [
            {part for part in walk(entry.store.value) if isinstance(part, Load)}
            for entry in (mine, other)
        ]
        if any(len(some) != 1 for some in leaves) or mine.conditions or other.conditions:
            return False
        if any(isinstance(part, Load) for leaf in leaves for one in leaf for i in one.indices
               for part in walk(i)):  # fmt: skip
            return False
        variables = {
            name: np.asarray(first, np.int64)
            for entry in (mine, other)
            for name, first, _ in entry.loops
        }
        if any(
            isinstance(part, Variable) for entry in (mine, other)
            for part in values_only(entry.store.value)
        ):  # fmt: skip
            return False
        (leaf,) = leaves[0]
        dtype = self.function.buffers[leaf.buffer].dtype
        return same_function(mine.store.value, other.store.value, variables, dtype)


def one_element(ours: Samples, theirs: Samples) -> bool:
    """Whether both sides have read the same single element of memory, in every sample."""
    if len(ours.touched) != 1 or ours.touched.keys() != theirs.touched.keys():
        return False
    first, *rest = [
        at for samples in (ours, theirs) for some in samples.touched.values() for at in some
    ]
    return all(np.array_equal(first, at) for at in rest)


def values_only(value: Expression) -> Iterator[Expression]:
    """The parts of an expression, what is inside indices left out."""
    stack = [value]
    while stack:
        one = stack.pop()
        yield one
        if isinstance(one, Apply):
            stack.extend(one.arguments)


class OneNumber(Grid):
    """Expressions in which every load gives the same numbers."""

    def __init__(self, variables: Mapping[str, Array], x: Array) -> None:
        super().__init__({}, {}, variables)
        self.x = x

    def load(self, one: Load, mask: Array | None, depth: int) -> Array:  # noqa: ARG002
        return self.x


def same_function(
    one: Expression, other: Expression, variables: Mapping[str, Array], dtype: str
) -> bool:
    """On a dense grid, and on both sides of wherever either decides."""
    if any(isinstance(part, Apply) and part.operation == "reinterpret" and compares_bits(expression)
           for expression in (one, other) for part in walk(expression)):  # fmt: skip
        return False
    if dtype == "bool":
        x: Array = np.array([False, True])
    elif numpy_type(dtype).kind in "iu":
        first, last = bounds(dtype)
        some = range(max(first, -70_000), min(last, 70_000) + 1)
        x = np.array(sorted({*some, first, first + 1, last - 1, last}), numpy_type(dtype))
    else:
        x = grid_of_floats()
        for expression in (one, other):
            x = np.concatenate([x, edges(expression, variables, x)])
    a = np.broadcast_to(OneNumber(variables, x).evaluate(one), x.shape)
    b = np.broadcast_to(OneNumber(variables, x).evaluate(other), x.shape)
    if x.dtype.kind != "f":
        return bool(alike(a, b, 0).all())
    made = any(isinstance(part, Apply) and part.operation in CURVES for part in walk(one))
    if not tame(one, other, variables):
        return False
    if not alike(a, b, APPROXIMATE if made else TOLERANCE).all():
        return False
    # Overflow is another thing in float32.
    narrow = [
        OneNumber(variables, x.astype(np.float32)),
        OneNumber(variables, x.astype(np.float32)),
    ]
    for grid in narrow:
        grid.written = True
    c, d = (
        np.broadcast_to(grid.evaluate(side), x.shape).astype(np.float64)
        for grid, side in zip(narrow, (one, other), strict=True)
    )
    with np.errstate(invalid="ignore", over="ignore"):
        close = np.abs(c - d) <= NARROW * np.maximum(1, np.abs(c))
    return bool((close | (c == d) | (np.isnan(c) & np.isnan(d))).all())


def tame(one: Expression, other: Expression, variables: Mapping[str, Array]) -> bool:
    """Whether nothing in ``other`` is so steep that it could rise and fall between points of the
    grid: exponentials of what changes slowly, divided by what keeps its order of magnitude.
    """
    x = np.linspace(*NEAR)
    grid = OneNumber(variables, x)
    products = [
        sum(
            isinstance(part, Apply)
            and part.operation == "*"
            and not any(map(plain_number, part.arguments))
            for part in set(walk(side))
        )
        for side in (one, other)
    ]
    if products[1] > products[0]:
        return False
    for part in walk(other):
        if not isinstance(part, Apply):
            continue
        with np.errstate(all="ignore"):
            if part.operation in CURVES:
                if len(part.arguments) != 1:
                    return False
                argument = np.broadcast_to(grid.evaluate(part.arguments[0]), x.shape)
                if not np.abs(np.diff(argument)).max() <= STEP:
                    return False
            elif part.operation in QUOTIENTS:
                below = np.broadcast_to(grid.evaluate(part.arguments[1]), x.shape)
                if not np.abs(np.diff(np.log(np.abs(below)))).max() <= STEP:
                    return False
                if not (np.sign(below) == np.sign(below[0])).all():
                    return False
    return True


def plain_number(one: Expression) -> bool:
    return not any(isinstance(part, Load) for part in walk(one))


def compares_bits(value: Expression) -> bool:
    """Whether a condition is made of bits: then no grid finds where it changes."""
    return any(
        isinstance(part, Apply)
        and part.operation in ("<", "<=", ">", ">=", "==", "!=", "max", "min")
        and any(
            isinstance(inner, Apply)
            and inner.operation in ("reinterpret", "&", "|", "^", "<<", ">>", "truncmod")
            for inner in walk(part)
        )
        for part in walk(value)
    )


def grid_of_floats() -> Array:
    sizes = np.logspace(-40, 38, 20_000)
    near = np.linspace(*NEAR)
    x = np.concatenate([near, sizes, -sizes, [0.0, -0.0, 1.0, -1.0]])
    return np.sort(x.astype(np.float32).astype(np.float64))


def edges(expression: Expression, variables: Mapping[str, Array], x: Array) -> Array:
    """Numbers on both sides of where a condition in the expression changes, or comes close to."""
    out: list[Array] = []
    for part in walk(expression):
        if not isinstance(part, Apply) or len(part.arguments) != 2:
            continue
        if part.operation not in ("<", "<=", ">", ">=", "==", "!=", "max", "min"):
            continue
        pair = part.arguments

        def gap(at: Array, pair: tuple[Expression, ...] = pair) -> Array:
            grid = OneNumber(variables, at)
            left, right = (grid.evaluate(side).astype(np.float64) for side in pair)
            with np.errstate(invalid="ignore"):
                return np.nan_to_num(np.broadcast_to(left - right, at.shape))

        d = gap(x)
        crossing = np.flatnonzero(np.sign(d[:-1]) != np.sign(d[1:]))[:4096]
        low, high = x[crossing].copy(), x[crossing + 1].copy()
        side = np.sign(d[crossing])
        for _ in range(60):
            middle = (low + high) / 2
            stays = np.sign(gap(middle)) == side
            low, high = np.where(stays, middle, low), np.where(stays, high, middle)
        size = np.abs(d)
        dips = np.flatnonzero((size[1:-1] < size[:-2]) & (size[1:-1] <= size[2:]))[:4096] + 1
        a, b = x[dips - 1].copy(), x[dips + 1].copy()
        for _ in range(80):
            third = (b - a) / 3
            left_lower = np.abs(gap(a + third)) < np.abs(gap(b - third))
            a, b = np.where(left_lower, a, a + third), np.where(left_lower, b - third, b)
        for at in (low, high, a, b):
            narrow = at.astype(np.float32)
            for towards in (-np.inf, np.inf):
                out.append(np.nextafter(narrow, np.float32(towards)).astype(np.float64))
            out += [narrow.astype(np.float64), at]
    return np.concatenate(out) if out else np.zeros(0)


# Small things.


def truth(samples: Samples, conditions: tuple[Expression, ...]) -> Array:
    out = np.ones(SAMPLES, bool)
    for condition in conditions:
        out &= samples.evaluate(condition).astype(bool)
    return out


def as_stored(value: Array, dtype: np.dtype[np.generic]) -> Array:
    """An integer as the buffer's type has it: its bits are stored, which below have no sign."""
    same_bits = value.dtype.kind == "i" and dtype.kind == "u"
    return value.astype(dtype) if same_bits and value.dtype.itemsize == dtype.itemsize else value


def alike(a: Array, b: Array, tolerance: float = TOLERANCE) -> Array:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum(np.abs(x), np.abs(y))
        # What cancels near 0 is held against the numbers that are drawn, of the order of 1.
        near = np.abs(x - y) <= tolerance * np.maximum(size, 1e-3)
    return np.asarray(near | (x == y) | (np.isnan(x) & np.isnan(y)))


def numbers(*values: Expression) -> Iterator[float]:
    for value in values:
        for part in walk(value):
            if isinstance(part, Number):
                yield float(part.value)


def decisions(entry: Entry, types: Mapping[str, str], truths: set[str]) -> Counter[Choice]:
    """What a store and the conditions around it decide, each expression once."""
    flow = Flow(set(types), {**types, **dict.fromkeys(truths, "bool")})
    counted: Counter[Choice] = Counter()
    seen: set[Expression] = set()
    for value in (entry.store.value, *entry.store.indices, *entry.conditions):
        for part in walk(value):
            if part in seen:
                continue
            seen.add(part)
            flow.found = []
            flow.site(part)
            counted.update(one.choice for one in flow.found)
    for condition in entry.conditions:
        if flow.is_data(condition):
            counted[Choice.BRANCH] += 1
    for index in entry.store.indices:
        if flow.is_data(index):
            counted[Choice.LOOKUP] += 1
    return counted


def allowed(entry: Entry, function: Function) -> Counter[Choice]:
    """What the block decides by, and what its operators are made of one level below."""
    types = {name: buffer.dtype for name, buffer in function.buffers.items()}
    value = alike_chosen(entry.store.value)
    counted = decisions(replace(entry, store=replace(entry.store, value=value)), types, set())
    for part in {part for part in walk(entry.store.value) if isinstance(part, Apply)}:
        if part.operation in ("sigmoid", "rsqrt"):  # a quotient of an exponential, of a root
            counted[Choice.PRODUCT] += 1
        elif part.operation == "tan":  # a sine by a cosine
            counted[Choice.PRODUCT] += 1
            counted[Choice.CURVE] += 1
    return counted


def alike_chosen(value: Expression) -> Expression:
    """A selection that is a maximum or a minimum as such, as the lifted code has it."""
    if not isinstance(value, Apply):
        return value
    parts = tuple(map(alike_chosen, value.arguments))
    if value.operation in ("Select", "if_then_else") and len(parts) == 3:
        made = chosen(value.operation, *parts)
        return replace(made, text=value.text) if isinstance(made, Apply) else made
    return replace(value, arguments=parts)


def checked(
    function: Function, lifted: Lifted, offsets: Mapping[int, int] | None = None
) -> list[Excess]:
    """Raises UnlikeError.

    ``offsets``: number of a parameter of the lifted function → number of the tensor of which it
    says at which element it begins.
    """
    try:
        return Pairing(function, from_beginnings(lifted, offsets or {})).run()
    except (NotInterpretedError, ValueError, TypeError, IndexError, KeyError) as error:
        raise UnlikeError(str(error)) from error
    except RecursionError as error:
        raise UnlikeError("an expression nested too deeply") from error
