"""Which items of a batch each output depends on, by data flow and by number.

By data flow: tensor IR is run on sets instead of numbers. Each element of an input holds the set
of the batch items that it belongs to; what is computed holds the union of what it is computed from.
Conditions and indices that are no data are computed as they are, so that padding, slices and
reshapes take apart what they should. By number: an item of the source model's input is replaced,
and what changes depends on it. One element may stay as it is for other reasons (a Relu at 0, a
token that is the same), so all elements of an output item share what they depend on. Whatever
flows and changes nothing in the model's item is a finding.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray

from harness.accounting import later, relax_script
from harness.accounting.arrays import Array
from harness.accounting.fingerprint import plain
from harness.accounting.interface import (
    Accounted,
    Kind,
    NotInterpretedError,
    Unaccounted,
)
from harness.accounting.onnx_values import Source, evaluate
from harness.accounting.tir import STAGE, Interpreter, Program, read
from harness.accounting.tir_block import (
    Memory,
    independent,
    loops_around,
    nest,
    run,
    split,
)
from harness.accounting.tir_decisions import Flow
from harness.accounting.tir_grid import Grid
from harness.accounting.tir_operators import BINARY, UNARY
from harness.accounting.tir_script import (
    Apply,
    Expression,
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
from harness.text import printable

MOST_ITEMS = 1024  # of all inputs together
WORD = 64  # items that are followed at once: one bit each
MOST_ROUNDS = 20_000
MOST_PASSES = 64  # over statements in loops, until nothing flows on
MOST_AT_ONCE = 2**22  # points of such a loop
AT_ONCE = 4  # items that are replaced in one evaluation of the model: what bounds its memory
CHANGED = 1e-12  # of the largest value
OTHERS = {"cast", "reinterpret", "fma"}
Sets = NDArray[np.uint64]


@dataclass(frozen=True)
class Item:
    """Item ``at`` of an input's first dimension, of ``many``; the whole input if there is one."""

    name: str
    at: int
    many: int

    def shown(self) -> str:
        of = f"item {self.at} of " if self.many > 1 else ""
        return printable(f"{of}input {self.name}", 120)


def items_of(inputs: Mapping[str, Array]) -> list[Item]:
    """Raises NotInterpretedError if there are too many."""
    out = [
        Item(name, at, max(1, value.shape[1] if value.ndim > 1 else 1))
        for name, value in inputs.items()
        for at in range(max(1, value.shape[1] if value.ndim > 1 else 1))
    ]
    if len(out) > MOST_ITEMS:
        raise NotInterpretedError(f"{len(out)} batch items, more than {MOST_ITEMS}")
    return out


def account(
    tensor_ir: bytes,
    constants: Mapping[str, Array | bytes],
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
) -> Accounted:
    """inputs: by name, at least two trials; the second gives what items are replaced with.

    Raises NotInterpretedError if tensor IR or the model cannot be read.
    """
    items = items_of(inputs)
    program = read(tensor_ir)
    things = 0
    findings: list[Unaccounted] = []
    for first in range(0, len(items), WORD):
        # What flows between two parts flows from an item of one of them, and is seen there.
        found = followed(program, constants, model, inputs, items[first : first + WORD])
        if found.unknown:
            return found
        things += found.things
        findings += found.findings
    return Accounted(Kind.REACH, STAGE, things, things - len(findings), tuple(findings))


def followed(
    program: Program,
    constants: Mapping[str, Array | bytes],
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    items: Sequence[Item],
) -> Accounted:
    """Where these items get to, and in the model do not. At most WORD of them."""
    flowing = flow(program, constants, inputs, items)
    if flowing.unknown:
        return Accounted(Kind.REACH, STAGE, 0, 0, (), tuple(flowing.unknown))
    wanted = depends(model, inputs, items)
    found = held_against(flowing, wanted, items)
    for trial in range(2, min(map(len, inputs.values()))):
        if not found.findings:
            break
        # Perhaps the items were too much alike: a class, say, that both have.
        more = depends(model, inputs, items, trial)
        wanted = [one | other for one, other in zip(wanted, more, strict=True)]
        found = held_against(flowing, wanted, items)
    return found


def held_against(flowing: Flowing, wanted: Sequence[Sets], items: Sequence[Item]) -> Accounted:
    if len(wanted) != len(flowing.outputs):
        raise NotInterpretedError("tensor IR has another number of outputs than the model")
    findings = []
    things = 0
    for number, (sets, exact) in enumerate(zip(flowing.outputs, wanted, strict=True)):
        flat, allowed = sets.reshape(-1), by_item(exact, len(items)).reshape(-1)
        if flat.shape != allowed.shape:
            raise NotInterpretedError(f"output {number} has another size than the model's")
        for bit, item in enumerate(items):
            reached = (flat >> np.uint64(bit)) & np.uint64(1) != 0
            past = reached & ((allowed >> np.uint64(bit)) & np.uint64(1) == 0)
            things += 1
            if past.any():
                first = flowing.mixing.get(bit, "")
                findings.append(
                    Unaccounted(
                        Kind.REACH, STAGE, first or "main",
                        f"{int(past.sum())} of {flat.size} elements of output {number} can depend "
                        f"on {item.shown()}, and in the model do not",
                        (item.shown(), *((first,) if first else ()), f"output {number}"),
                    )
                )  # fmt: skip
    return Accounted(Kind.REACH, STAGE, things, things - len(findings), tuple(findings))


def depends(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    items: Sequence[Item],
    trial: int = 1,
) -> list[Sets]:
    """For each output of the model: the set of items that each element depends on.

    ``trial``: of the inputs, the one that gives what items are replaced with.
    """
    if min(map(len, inputs.values()), default=0) <= trial:
        raise NotInterpretedError("reach needs two trials of each input")
    out: list[Sets] = []
    for first in range(0, len(items), AT_ONCE):
        some = items[first : first + AT_ONCE]
        trials = {}
        for name, value in inputs.items():
            rows = np.repeat(value[:1], 1 + len(some), axis=0)
            for row, item in enumerate(some, 1):
                if item.name == name and item.many > 1:
                    rows[row, item.at] = value[trial, item.at]
                elif item.name == name:
                    rows[row] = value[trial]
            trials[name] = rows
        source = evaluate(model, trials)
        for number, name in enumerate(source.outputs):
            changed = changes(source, name)
            if number == len(out):
                out.append(np.zeros(changed.shape[1:], np.uint64))
            for bit in range(len(some) if len(changed) > 1 else 0):
                out[number] |= changed[bit + 1].astype(np.uint64) << np.uint64(first + bit)
    return out


def changes(source: Source, name: str) -> NDArray[np.bool_]:
    """Per trial, which elements of a value are not what they are in the first."""
    if name not in source.values:
        return np.zeros((1, *source.settled[name].shape), bool)
    value = source.values[name]
    rows = plain(value)
    room = CHANGED * max(1e-30, float(np.abs(rows).max(initial=0.0)))
    changed: NDArray[np.bool_] = ~(np.abs(rows - rows[0]) <= room)
    return changed.reshape(value.shape)


def by_item(sets: Sets, many: int) -> Sets:
    """All elements of an output item with what any of them depends on. The dimension that counts
    items is the one that takes the ``many`` items of the inputs apart best.
    """
    best = np.broadcast_to(np.bitwise_or.reduce(sets, axis=None), sets.shape)
    fewest = mixed(best, many)
    for axis, size in enumerate(sets.shape):
        if size > 1:
            others = tuple(other for other in range(sets.ndim) if other != axis)
            united = np.bitwise_or.reduce(sets, axis=others, keepdims=True)
            if mixed(united, many) < fewest:
                best, fewest = np.broadcast_to(united, sets.shape), mixed(united, many)
    return best


def mixed(sets: Sets, many: int) -> float:
    """How many items what depends on any item depends on, on average."""
    bits = [(sets >> np.uint64(bit)) & np.uint64(1) for bit in range(many)]
    return float(sum(int(one.sum()) for one in bits) / max(1, int(np.count_nonzero(sets))))


@dataclass
class Flowing:
    """``outputs``: sets by output; ``mixing``: for an item, the first step that puts it with
    another item of the same input.
    """

    outputs: list[Sets]
    mixing: dict[int, str]
    unknown: list[str]


def flow(
    program: Program,
    constants: Mapping[str, Array | bytes],
    inputs: Mapping[str, Array],
    items: Sequence[Item],
) -> Flowing:
    sets: dict[str, Array] = {}
    for name, value in inputs.items():
        held = np.zeros((1, *value.shape[1:]), np.uint64)
        for bit, item in enumerate(items):
            if item.name == name:
                part = held[:, item.at] if item.many > 1 else held
                part |= np.uint64(1) << np.uint64(bit)
        sets[name] = held
    machine = Unions(program, sets, constants)
    machine.items = items
    done = machine.run()
    trace = done.trace
    outputs = [machine.sets(key) for key in trace.outputs]
    return Flowing(outputs, machine.mixing, list(done.unknown))


@dataclass
class Unions(Interpreter):
    """The interpreter, with sets in place of whatever depends on an input."""

    items: Sequence[Item] = ()
    mixing: dict[int, str] = field(default_factory=dict)

    def entry(self, value: Array, dtype: str) -> Array:  # noqa: ARG002
        return value

    def binding(self, one: relax_script.Binding) -> tuple[int, ...]:
        """A running sum depends on all that it has passed; other operators are the program's."""
        call = one.value
        if (sorts := later.externals(self.program.main).get(one.key)) is not None:
            return self.sorted(sorts, one.name)
        if not isinstance(call, relax_script.Call) or call.operator != "R.cumsum":
            return super().binding(one)
        known = later.lowered(self.program.main).get(one.key)
        axis = call.keywords.get("axis")
        if known is None or not isinstance(axis, relax_script.Literal):
            raise NotInterpretedError(f"{one.text}: in a form that is not known")
        (given,) = self.resolve(known.operands[0])
        key = self.key(known.outputs[0].dtype)
        if given in self.data:
            along = 1 + int(axis.value or 0)
            self.values[key] = np.bitwise_or.accumulate(self.sets(given), axis=along)
            self.data.add(key)
            self.note(printable(f"main, {one.name}", 120), self.values[key])
        else:
            raise NotInterpretedError(f"{one.text}: of no data")
        return (key,)

    def sorted(self, call: later.External, name: str) -> tuple[int, ...]:
        """What is picked by its size depends on all that it is picked from."""
        (given,) = self.resolve(call.operands[0])
        before, wanted = call.types[0][1], call.outputs[0].shape
        axes = tuple(1 + at for at, side in enumerate(before) if wanted[at] != side)
        axis = call.arguments[1]
        assert isinstance(axis, int)
        whole = np.bitwise_or.reduce(self.sets(given), axis=1 + axis % len(before), keepdims=True)
        assert axes in ((), (1 + axis % len(before),))
        out = []
        for kind in call.outputs:
            key = self.key(kind.dtype)
            self.values[key] = np.broadcast_to(whole, (1, *kind.shape)).copy()
            self.data.add(key)
            self.note(printable(f"main, {name}", 120), self.values[key])
            out.append(key)
        return tuple(out)

    def sets(self, key: int) -> Sets:
        value = self.values[key]
        return value.astype(np.uint64) if key in self.data else np.zeros(value.shape, np.uint64)

    def execute(self, statement: Statement, memory: Memory, flow: Flow) -> None:
        stores = [one for one in statements((statement,)) if isinstance(one, Store)]
        if not any(one.buffer in flow.data for one in stores):
            run(statement, memory)
            return
        one = nest(statement)
        if one is None or not independent(one):
            if not element_by_element(statement, memory, flow):
                everything(statement, memory, flow)
        else:
            names = list(dict.fromkeys(part.buffer for part in stores))
            for name in names:
                shape = memory.shapes[name].shape
                held = memory.arrays.get(name)
                if name not in flow.data or held is None or held.dtype != np.uint64:
                    memory.arrays[name] = np.zeros((1, *shape), np.uint64)
                else:
                    memory.arrays[name] = held.copy()
                memory.gaps.pop(name, None)
            for _ in range(2):  # a second time for what reads what it has written
                Spread(memory, flow, one.spatial, one.reduced).body(
                    (*one.block.init, *one.block.body)
                )
        for part in stores:
            self.note(flow.where, memory.arrays[part.buffer])

    def note(self, where: str, sets: Array) -> None:
        if sets.dtype != np.uint64:
            return
        for bit, item in enumerate(self.items):
            others = sum(
                1 << other
                for other, one in enumerate(self.items)
                if one.name == item.name and other != bit
            )
            if others and bit not in self.mixing:
                own = (sets >> np.uint64(bit)) & np.uint64(1) != 0
                if (own & (sets & np.uint64(others) != 0)).any():
                    self.mixing[bit] = where


def element_by_element(statement: Statement, memory: Memory, flow: Flow) -> bool:
    """Loops around stores to elements that no data choose: each element may depend on all that is
    ever written to it, in whatever order. False for any other form, and for what is too much.
    """
    found = loops_around(statement)
    if found is None or any(flow.is_data(index) for _, store in found for index in store.indices):
        return False
    for _, store in found:
        flow.data.add(store.buffer)
        held = memory.arrays.get(store.buffer)
        shape = memory.shapes[store.buffer].shape
        if held is None or held.dtype != np.uint64:
            memory.arrays[store.buffer] = np.zeros((1, *shape), np.uint64)
        else:
            memory.arrays[store.buffer] = held.copy()
        memory.gaps.pop(store.buffer, None)
    for _ in range(MOST_PASSES):
        changed = False
        for ranges, store in found:
            grid = Grid(ranges, memory.readable(), {})
            if grid.points() > MOST_AT_ONCE or any(high <= low for low, high in ranges.values()):
                return False
            sizes = (1, *(ranges[name][1] - ranges[name][0] for name in grid.order))
            places = tuple(
                np.broadcast_to(grid.evaluate(index), sizes)[0] for index in store.indices
            )
            sets = Spread(memory, flow, ranges, {}).union(store.value, grid, (), None)
            target = memory.arrays[store.buffer]
            before = target.copy()
            np.bitwise_or.at(target[0], places, np.broadcast_to(sets, sizes)[0])
            changed = changed or not np.array_equal(before, target)
        if not changed:
            return True
    return False


def everything(statement: Statement, memory: Memory, flow: Flow) -> None:
    """A statement of another form: whatever it writes may depend on whatever it reads."""
    total = np.uint64(0)
    for expression in expressions((statement,)):
        for part in walk(expression):
            if isinstance(part, Load) and part.buffer in flow.data:
                held = memory.arrays.get(part.buffer)
                if held is not None and held.dtype == np.uint64:
                    total |= np.bitwise_or.reduce(held, axis=None)
    for one in statements((statement,)):
        if isinstance(one, Store):
            shape = memory.shapes[one.buffer].shape
            before = memory.arrays.get(one.buffer)
            kept = before if before is not None and before.dtype == np.uint64 else np.uint64(0)
            flow.data.add(one.buffer)
            memory.arrays[one.buffer] = np.full((1, *shape), total, np.uint64) | kept
            memory.gaps.pop(one.buffer, None)


class Spread:
    """The statements of one block on sets."""

    def __init__(
        self,
        memory: Memory,
        flow: Flow,
        spatial: dict[str, tuple[int, int]],
        reduced: dict[str, tuple[int, int]],
    ) -> None:
        self.memory = memory
        self.flow = flow
        self.spatial = spatial
        self.reduced = reduced
        self.bound: dict[str, Expression] = {}

    def body(self, body: tuple[Statement, ...]) -> None:
        for one in body:
            if isinstance(one, Let):
                self.bound[one.name] = one.value
            elif isinstance(one, Store):
                self.store(one)

    def store(self, one: Store) -> None:
        grid = Grid(self.spatial, self.memory.readable(), {})
        outer, inner = split(self.reduced, one.value)
        many = 1
        for low, high in outer.values():
            many *= high - low
        if many > MOST_ROUNDS:
            raise NotInterpretedError(f"{many} rounds of a reduction")
        total: Array = np.zeros((1,) * grid.rank, np.uint64)
        for point in itertools.product(*(range(low, high) for low, high in outer.values())):
            fixed = {name: (i, i + 1) for name, i in zip(outer, point, strict=True)}
            whole = Grid({**fixed, **self.spatial, **inner}, self.memory.readable(), {})
            axes = tuple(whole.place[name] for name in inner if name in whole.place)
            total = total | self.union(one.value, whole, axes, None)
        view = grid.view(
            self.memory.arrays[one.buffer],
            [grid.affine(index) for index in one.indices],
        )
        if view is None:
            raise NotInterpretedError(f"{one.buffer} is not written point by point")
        view |= total.astype(np.uint64)

    def union(
        self, one: Expression, grid: Grid, axes: tuple[int, ...], mask: Array | None
    ) -> Array:
        """What an expression is computed from, united over ``axes``, which are left out."""
        if isinstance(one, Variable) and one.name in self.bound:
            return self.union(self.bound[one.name], grid, axes, mask)
        if not self.flow.is_data(one):
            return np.zeros((1,) * (grid.rank - len(axes)), np.uint64)
        match one:
            case Load():
                return self.load(one, grid, axes, mask)
            case Apply(operation="Select" | "if_then_else", arguments=(test, then, otherwise)):
                if self.flow.is_data(test):
                    parts = [self.union(part, grid, axes, mask) for part in one.arguments]
                    return parts[0] | parts[1] | parts[2]
                chosen = grid.evaluate(test, mask)
                chosen = chosen.reshape(chosen.shape or (1,) * grid.rank).astype(bool)
                sides = []
                for side, when in ((then, chosen), (otherwise, ~chosen)):
                    inside = when if mask is None else mask & when
                    whole = self.union(side, grid, (), inside) if when.any() else np.uint64(0)
                    sides.append(np.where(when, whole, np.uint64(0)))
                return self.reduced_over(sides[0] | sides[1], axes)
            case Apply():
                if one.operation not in BINARY.keys() | UNARY.keys() | OTHERS:
                    raise NotInterpretedError(f"{one.shown()}: the operator is not known")
                out: Array = np.zeros((1,) * (grid.rank - len(axes)), np.uint64)
                for part in one.arguments:
                    out = out | self.union(part, grid, axes, mask)
                return out
        raise NotInterpretedError("an expression of no known kind")

    def load(self, one: Load, grid: Grid, axes: tuple[int, ...], mask: Array | None) -> Array:
        held = self.memory.arrays.get(one.buffer)
        if held is None:
            raise NotInterpretedError(f"{one.buffer} is read and has no value")
        if any(map(self.flow.is_data, one.indices)):
            out: Array = np.zeros((1,) * (grid.rank - len(axes)), np.uint64)
            if one.buffer in self.flow.data:
                out = out | self.somewhere(one, held, grid, axes, mask)
            for index in one.indices:
                out = out | self.union(index, grid, axes, mask)
            return out
        found = grid.load(one, mask, 0)
        return self.reduced_over(found.reshape(found.shape or (1,) * grid.rank), axes)

    def somewhere(
        self,
        one: Load,
        held: Array,
        grid: Grid,
        axes: tuple[int, ...],
        mask: Array | None,
    ) -> Array:
        """What an element may be computed from, of which some indices are data: any along these."""
        moving = [self.flow.is_data(index) for index in one.indices]
        along = tuple(at for at, moves in enumerate(moving, 1) if moves)
        united = np.bitwise_or.reduce(held, axis=along, keepdims=True)
        fixed = tuple(
            Number(0, "int64") if moves else index
            for index, moves in zip(one.indices, moving, strict=True)
        )
        near = Grid(grid.ranges, {**grid.buffers, one.buffer: united}, grid.values)
        found = near.load(Load(one.buffer, fixed), mask, 0)
        return self.reduced_over(found.reshape(found.shape or (1,) * grid.rank), axes)

    def reduced_over(self, sets: Array, axes: tuple[int, ...]) -> Array:
        return np.bitwise_or.reduce(sets, axis=axes) if axes else sets


__all__ = ["account", "flow", "items_of"]
