"""One block of tensor IR, run on numpy arrays.

A block whose points are independent is run on all points at once; a reduction as a sum, maximum or
product over its axes, where it is one, else point by point of those axes. What is neither is run
as it stands, one statement after the other, within a budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.accounting.arrays import Array
from harness.accounting.interface import NotInterpretedError
from harness.accounting.tir_grid import Grid
from harness.accounting.tir_operators import numpy_type
from harness.accounting.tir_script import (
    Apply,
    Block,
    Buffer,
    Expression,
    For,
    If,
    Let,
    Load,
    Number,
    Statement,
    Store,
    Variable,
    While,
    expressions,
    statements,
    walk,
)

MOST_POINTS = 2**23  # evaluated at once, trials included
MOST_ROUNDS = 20_000  # of a reduction
MOST_STEPS = 200_000  # run one by one
SMALL = 2**16  # below it, products are formed before they are summed
REDUCTIONS = {"+": np.add, "*": np.multiply, "max": np.maximum, "min": np.minimum}


@dataclass
class Memory:
    """The buffers of a function while it runs: ``(trials, *shape)``, or one trial for all."""

    shapes: Mapping[str, Buffer]
    trials: int
    arrays: dict[str, Array] = field(default_factory=dict)
    gaps: dict[str, Array] = field(default_factory=dict)  # where nothing is written yet
    written: bool = False  # floats of the declared types

    def readable(self) -> dict[str, Array]:
        return {name: array for name, array in self.arrays.items() if name not in self.gaps}

    def target(self, name: str, trials: int) -> Array:
        """The array to write into; the trials part where what is written differs by trial."""
        shape = self.shapes[name]
        held = self.arrays.get(name)
        if held is None:
            held = np.zeros((trials, *shape.shape), numpy_type(shape.dtype, self.written))
            self.gaps[name] = np.ones(shape.shape, bool)
        elif len(held) < trials:
            held = np.repeat(held, trials, axis=0)
        elif not held.flags.writeable:
            held = held.copy()
        self.arrays[name] = held
        return held

    def filled(self, name: str, at: Array) -> None:
        """``at``: a view into the buffer's gaps that has been written."""
        gaps = self.gaps.get(name)
        if gaps is not None:
            at[...] = False
            if not gaps.any():
                del self.gaps[name]


@dataclass(frozen=True)
class Nest:
    """A block with all its axes over fixed ranges, spatial ones first."""

    block: Block
    spatial: dict[str, tuple[int, int]]
    reduced: dict[str, tuple[int, int]]


def nest(statement: Statement) -> Nest | None:
    """Loops of fixed bounds around one plain block whose axes are those loops; else None."""
    loops: dict[str, int] = {}
    while isinstance(statement, For):
        for name, begin, many in statement.ranges:
            if not isinstance(begin, Number) or not isinstance(many, Number) or begin.value:
                return None
            if name in loops:
                return None
            loops[name] = int(many.value)
        if len(statement.body) != 1:
            return None
        statement = statement.body[0]
    if not isinstance(statement, Block):
        return None
    if any(not isinstance(one, Store | Let) for one in (*statement.init, *statement.body)):
        return None
    kinds: dict[str, dict[str, tuple[int, int]]] = {"S": {}, "R": {}}
    left = dict(loops)
    for axis in statement.axes:
        if isinstance(axis.value, Number):
            first, extent = int(axis.value.value), 1
        elif isinstance(axis.value, Variable) and axis.value.name in left:
            first, extent = 0, left.pop(axis.value.name)
            if axis.extent not in (-1, extent):
                return None
        else:
            return None
        if axis.kind not in kinds or extent < 0:
            return None
        kinds[axis.kind][axis.name] = (first, first + extent)
    if any(extent != 1 for extent in left.values()):  # a loop that no axis takes
        return None
    return Nest(statement, kinds["S"], kinds["R"])


def independent(one: Nest) -> bool:
    """Whether no point of the spatial axes reads or writes what another one writes."""
    wide = {name for name, (low, high) in one.spatial.items() if high - low != 1}
    places: dict[str, tuple[Expression, ...]] = {}
    for store in (*one.block.init, *one.block.body):
        if not isinstance(store, Store):
            continue
        if places.setdefault(store.buffer, store.indices) != store.indices:
            return False
        seen: set[str] = set()
        for index in store.indices:
            if isinstance(index, Variable) and index.name in one.spatial:
                if index.name in seen:
                    return False
                seen.add(index.name)
            elif not isinstance(index, Number):
                return False
        if not wide <= seen:
            return False
    for statement in (*one.block.init, *one.block.body):
        for expression in expressions((statement,)):
            for part in walk(expression):
                if isinstance(part, Load) and part.indices != places.get(part.buffer, part.indices):
                    return False
    return True


def run(statement: Statement, memory: Memory) -> None:
    """Runs a top-level statement. Raises NotInterpretedError."""
    one = nest(statement)
    if one is None or not independent(one):
        if not at_once(statement, memory):
            OneByOne(memory).run(statement)
        return
    if any(high <= low for low, high in (*one.spatial.values(), *one.reduced.values())):
        return
    update = reduction(one) if one.reduced else None
    for ranges in pieces(one, memory.trials):
        if update is not None:
            reduce(one, update, ranges, memory)
        else:
            rounds(one, ranges, memory)


def loops_around(
    statement: Statement,
) -> list[tuple[dict[str, tuple[int, int]], Store]] | None:
    """Each store with the loops that it stands in, for loops of fixed bounds around nothing but
    stores and loops; else None.
    """
    match statement:
        case Store():
            return [({}, statement)]
        case For():
            around: dict[str, tuple[int, int]] = {}
            for name, first, many in statement.ranges:
                if not isinstance(first, Number) or not isinstance(many, Number):
                    return None
                around[name] = (int(first.value), int(first.value) + int(many.value))
            out = []
            for inner in statement.body:
                found = loops_around(inner)
                if found is None or any(around.keys() & ranges.keys() for ranges, _ in found):
                    return None
                out += [({**around, **ranges}, store) for ranges, store in found]
            return out
    return None


def at_once(statement: Statement, memory: Memory) -> bool:
    """Runs loops around a single store, if each of their points writes to another element and reads
    nothing that another one writes. False, and nothing is done, where that cannot be told.
    """
    found = loops_around(statement)
    if found is None or len(found) != 1:
        return False
    ((ranges, store),) = found
    if any(high <= low for low, high in ranges.values()) or store.buffer not in memory.shapes:
        return False
    if any(
        isinstance(part, Load) and part.buffer == store.buffer and part.indices != store.indices
        for expression in (store.value, *store.indices)
        for part in walk(expression)
    ):
        return False
    grid = Grid(ranges, memory.readable(), {}, memory.written)
    if grid.points() * memory.trials > MOST_POINTS:
        return False
    shape = tuple(high - low for low, high in (ranges[name] for name in grid.order))
    sides = memory.shapes[store.buffer].shape
    indices = [grid.evaluate(index) for index in store.indices]
    value = grid.evaluate(store.value)
    wanted = numpy_type(memory.shapes[store.buffer].dtype, memory.written)
    if value.dtype.kind != wanted.kind:
        return False
    trials = max([1, *(len(one) for one in (*indices, value) if one.ndim == grid.rank)])
    flat: Array = np.zeros((), np.int64)
    for index, side in zip(indices, sides, strict=True):
        if index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= side:
            return False
        flat = flat * side + index
    flat = np.broadcast_to(full(flat, grid.rank), (trials, *shape)).reshape(trials, -1)
    ordered = np.sort(flat, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        return False
    held = memory.target(store.buffer, trials)
    if len(held) > trials:
        flat = np.repeat(flat, len(held), axis=0)
    spread = np.broadcast_to(full(value, grid.rank), (trials, *shape)).reshape(trials, -1)
    whole = held.reshape(len(held), -1)
    np.put_along_axis(whole, flat, np.broadcast_to(spread, flat.shape).astype(wanted), axis=1)
    memory.arrays[store.buffer] = whole.reshape(held.shape)
    gaps = memory.gaps.get(store.buffer)
    if gaps is not None:
        missing = np.broadcast_to(gaps.reshape(-1), (len(flat), gaps.size)).copy()
        np.put_along_axis(missing, flat, values=False, axis=1)
        gaps[...] = missing.any(axis=0).reshape(gaps.shape)
        if not gaps.any():
            del memory.gaps[store.buffer]
    return True


def pieces(one: Nest, trials: int) -> list[dict[str, tuple[int, int]]]:
    """The spatial ranges, cut along the longest so that a piece is not too large at once."""
    points = trials
    for low, high in one.spatial.values():
        points *= high - low
    parts = -(-points // MOST_POINTS)
    if parts <= 1 or one.reduced or not one.spatial:  # a reduction reads what it has written
        return [one.spatial]
    longest = max(one.spatial, key=lambda name: one.spatial[name][1] - one.spatial[name][0])
    low, high = one.spatial[longest]
    width = max(1, (high - low) // parts)
    return [
        {**one.spatial, longest: (first, min(first + width, high))}
        for first in range(low, high, width)
    ]


def reduction(one: Nest) -> tuple[str, Store, Expression] | None:
    """(operator, store, what is taken in) of ``b = b op …``, with nothing else in the block."""
    if len(one.block.body) != 1 or not isinstance(one.block.body[0], Store):
        return None
    store = one.block.body[0]
    value = store.value
    if not isinstance(value, Apply) or value.operation not in REDUCTIONS:
        return None
    if len(value.arguments) != 2:
        return None
    left, right = value.arguments
    own = Load(store.buffer, store.indices)
    if left != own:
        left, right = right, left
    if left != own or any(
        isinstance(part, Load) and part.buffer == store.buffer for part in walk(right)
    ):
        return None
    return value.operation, store, right


def rounds(one: Nest, spatial: dict[str, tuple[int, int]], memory: Memory) -> None:
    """All spatial points at once; the reduction's, if there are any, one after the other."""
    many = 1
    for low, high in one.reduced.values():
        many *= high - low
    if many > MOST_ROUNDS:
        raise NotInterpretedError(f"block {one.block.name}: {many} rounds of a reduction")
    spans = [range(low, high) for low, high in one.reduced.values()]
    for at, point in enumerate(itertools.product(*spans)):
        fixed = {name: (i, i + 1) for name, i in zip(one.reduced, point, strict=True)}
        body = one.block.body if at else (*one.block.init, *one.block.body)
        values: dict[str, Array] = {}
        for statement in body:
            grid = Grid({**spatial, **fixed}, memory.readable(), values, memory.written)
            if isinstance(statement, Let):
                values[statement.name] = grid.evaluate(statement.value)
            elif isinstance(statement, Store):
                store(statement, grid, grid.evaluate(statement.value), memory)


def store(statement: Store, grid: Grid, value: Array, memory: Memory) -> None:
    """Writes what all points of the grid give; its places are one for each point."""
    value = value if value.ndim == grid.rank else value.reshape((1,) * grid.rank)
    wanted = numpy_type(memory.shapes[statement.buffer].dtype, memory.written)
    if value.dtype != wanted:
        if value.dtype.kind != wanted.kind:
            raise NotInterpretedError(f"{value.dtype} stored as {wanted} in {statement.buffer}")
        value = value.astype(wanted)
    held = memory.target(statement.buffer, len(value))
    places = [grid.affine(index) for index in statement.indices]
    view = grid.view(held, places)
    if view is None:
        raise NotInterpretedError(f"{statement.buffer} is written outside, or not point by point")
    view[...] = value
    gaps = memory.gaps.get(statement.buffer)
    if gaps is not None:
        inside = grid.view(gaps[None], places)
        assert inside is not None
        memory.filled(statement.buffer, inside)


def reduce(
    one: Nest,
    update: tuple[str, Store, Expression],
    spatial: dict[str, tuple[int, int]],
    memory: Memory,
) -> None:
    """A reduction by one operator, in whatever order is convenient: this is float64."""
    operator, target, value = update
    if one.block.init:
        start = Nest(Block(one.block.name, (), (), one.block.init, 0), spatial, {})
        rounds(start, spatial, memory)
    grid = Grid(spatial, memory.readable(), {}, memory.written)
    total = grid.evaluate(Load(target.buffer, target.indices))
    total = total if total.ndim == grid.rank else total.reshape((1,) * grid.rank)

    outer, inner = split(one.reduced, value)
    many = 1
    for low, high in outer.values():
        many *= high - low
    if many > MOST_ROUNDS:
        raise NotInterpretedError(f"block {one.block.name}: {many} rounds of a reduction")
    combine = REDUCTIONS[operator]
    readable = memory.readable()
    for point in itertools.product(*(range(low, high) for low, high in outer.values())):
        fixed = {name: (i, i + 1) for name, i in zip(outer, point, strict=True)}
        part = taken(operator, value, {**fixed, **spatial}, inner, readable, memory)
        total = combine(total, part)
    store(target, grid, np.asarray(total), memory)


def split(
    reduced: dict[str, tuple[int, int]], value: Expression
) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[int, int]]]:
    """The reduction's axes that share an index with others, to be looped over, and the rest."""
    shared: set[str] = set()
    for part in walk(value):
        if not isinstance(part, Load):
            continue
        for index in part.indices:
            names = {inner.name for inner in walk(index) if isinstance(inner, Variable)}
            if not isinstance(index, Variable):
                shared |= names
    outer = {name: span for name, span in reduced.items() if name in shared}
    return outer, {name: span for name, span in reduced.items() if name not in shared}


def taken(
    operator: str,
    value: Expression,
    fixed: dict[str, tuple[int, int]],
    inner: dict[str, tuple[int, int]],
    readable: Mapping[str, Array],
    memory: Memory,
) -> Array:
    """What a reduction takes in over its inner axes, as an array over the others."""
    grid = Grid({**fixed, **inner}, readable, {}, memory.written)
    axes = tuple(grid.place[name] for name in inner if name in grid.place)
    whole = 1
    for low, high in inner.values():
        whole *= high - low
    factors = factored(value) if operator == "+" else [value]
    if len(factors) == 2 and axes and grid.points() > SMALL:
        a, b = (full(grid.evaluate(factor), grid.rank) for factor in factors)
        if a.dtype.kind == "f" and b.dtype.kind == "f":
            return contracted(a, b, axes, grid)
    if grid.points() * memory.trials > 4 * MOST_POINTS and inner:
        # Cut along the longest inner axis.
        longest = max(inner, key=lambda name: inner[name][1] - inner[name][0])
        low, high = inner[longest]
        if high - low > 1:
            middle = (low + high) // 2
            halves = [
                taken(operator, value, fixed, {**inner, longest: span}, readable, memory)
                for span in ((low, middle), (middle, high))
            ]
            return REDUCTIONS[operator](*halves)
    out = full(grid.evaluate(value), grid.rank)
    shape = list(out.shape)
    for at in axes:
        shape[at] = grid.ranges[grid.order[at - 1]][1] - grid.ranges[grid.order[at - 1]][0]
    spread = np.broadcast_to(out, shape)
    return np.asarray(REDUCTIONS[operator].reduce(spread, axis=axes, dtype=out.dtype))


def full(array: Array, rank: int) -> Array:
    return array if array.ndim == rank else array.reshape((1,) * rank)


def factored(value: Expression) -> list[Expression]:
    if isinstance(value, Apply) and value.operation == "*":
        return list(value.arguments)
    return [value]


def contracted(a: Array, b: Array, axes: tuple[int, ...], grid: Grid) -> Array:
    """The sum over ``axes`` of ``a * b``, as a product of matrices; the axes are left out."""
    sizes = [max(x, y) for x, y in zip(a.shape, b.shape, strict=True)]
    for at in axes:  # what neither depends on is summed as often as it stands there
        sizes[at] = grid.ranges[grid.order[at - 1]][1] - grid.ranges[grid.order[at - 1]][0]
    both = [at for at in range(grid.rank) if a.shape[at] == b.shape[at] and at not in axes]
    left = [at for at in range(grid.rank) if at not in axes and at not in both and a.shape[at] > 1]
    right = [at for at in range(grid.rank) if at not in axes and at not in both and at not in left]
    for at in axes:
        if a.shape[at] != sizes[at]:
            a = np.repeat(a, sizes[at], axis=at)
        if b.shape[at] != sizes[at]:
            b = np.repeat(b, sizes[at], axis=at)

    def matrix(array: Array, *groups: list[int]) -> Array:
        order = [at for group in groups for at in group]
        rest = [at for at in range(grid.rank) if at not in order]
        moved = array.transpose([*order, *rest])
        return moved.reshape(
            [int(np.prod([array.shape[at] for at in group], dtype=int)) for group in groups]
        )

    summed = list(axes)
    product = np.matmul(matrix(a, both, left, summed), matrix(b, both, summed, right))
    order = [*both, *left, *right]
    shaped = product.reshape([sizes[at] for at in order])
    return np.asarray(shaped.transpose(np.argsort(order)))


class OneByOne:
    """Statements as they stand, each trial for itself."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.left = MOST_STEPS

    def run(self, statement: Statement) -> None:
        memory = self.memory
        for one in statements((statement,)):
            if isinstance(one, Store):
                memory.target(one.buffer, memory.trials)
        before = {name: gaps.copy() for name, gaps in memory.gaps.items()}
        after: dict[str, Array] = {}
        for trial in range(memory.trials):
            for name, gaps in before.items():
                memory.gaps[name] = gaps.copy()
            self.trial = trial
            self.values: dict[str, Array] = {}
            self.body((statement,))
            for name in before:
                left = memory.gaps.get(name)
                if left is not None:
                    after[name] = after[name] | left if name in after else left
            for name in before:
                memory.gaps.pop(name, None)
        memory.gaps.update({name: left for name, left in after.items() if left.any()})

    def body(self, body: tuple[Statement, ...]) -> None:
        for one in body:
            self.left -= 1
            if self.left < 0:
                raise NotInterpretedError(f"more than {MOST_STEPS} statements one by one")
            match one:
                case Let():
                    self.values[one.name] = self.value(one.value)
                case Store():
                    self.store(one)
                case If():
                    self.body(one.then if self.value(one.condition).all() else one.otherwise)
                case While():
                    while self.value(one.condition).all():
                        self.left -= 1
                        self.body(one.body)
                case For():
                    self.loop(one)
                case Block():
                    first = True
                    for axis in one.axes:
                        at = self.value(axis.value)
                        self.values[axis.name] = at
                        first = first and not (axis.kind == "R" and at != 0)
                    if first:
                        self.body(one.init)
                    self.body(one.body)

    def loop(self, one: For, depth: int = 0) -> None:
        if depth == len(one.ranges):
            self.body(one.body)
            return
        name, first, many = one.ranges[depth]
        low, count = int(self.value(first)), int(self.value(many))
        for at in range(low, low + count):
            self.values[name] = np.asarray(at, np.int64)
            self.loop(one, depth + 1)

    def value(self, expression: Expression) -> Array:
        memory = self.memory
        grid = Scalars({}, memory.arrays, self.values, memory.written)
        grid.trial, grid.gaps = self.trial, memory.gaps
        return grid.evaluate(expression)

    def store(self, one: Store) -> None:
        memory = self.memory
        held = memory.arrays[one.buffer]
        at = tuple(int(self.value(index)) for index in one.indices)
        if any(not 0 <= i < size for i, size in zip(at, held.shape[1:], strict=True)):
            raise NotInterpretedError(f"{one.buffer} is written outside its elements")
        value = self.value(one.value)
        if value.dtype.kind != held.dtype.kind:
            raise NotInterpretedError(f"{value.dtype} stored as {held.dtype} in {one.buffer}")
        held[(self.trial, *at)] = value
        if one.buffer in memory.gaps:
            memory.gaps[one.buffer][at] = False


class Scalars(Grid):
    """A grid of one point in one trial."""

    trial = 0
    gaps: Mapping[str, Array] = {}

    def load(self, one: Load, mask: Array | None, depth: int) -> Array:
        held = self.buffers.get(one.buffer)
        if held is None:
            raise NotInterpretedError(f"{one.buffer} is read and has no value")
        at = tuple(int(self.evaluate(index, mask, depth + 1)) for index in one.indices)
        if any(not 0 <= i < size for i, size in zip(at, held.shape[1:], strict=True)):
            if mask is not None and not mask.all():
                return np.zeros((), held.dtype)
            raise NotInterpretedError(f"{one.buffer} is read outside its elements")
        if one.buffer in self.gaps and self.gaps[one.buffer][at]:
            raise NotInterpretedError(f"{one.buffer} is read before it is written")
        return np.asarray(held[(self.trial if len(held) > 1 else 0, *at)])
