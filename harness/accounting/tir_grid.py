"""Expressions of tensor IR over a grid of loop variables, all points at once.

Every array has one dimension for the trials and one for each variable of the grid, of length 1
where it does not depend on it. So whatever is combined, numpy's broadcasting lines it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.accounting.arrays import Array
from harness.accounting.interface import NotInterpretedError
from harness.accounting.tir_operators import apply, number
from harness.accounting.tir_script import Apply, Expression, Load, Number, Variable

MOST_DEPTH = 200


@dataclass(frozen=True)
class Affine:
    """``constant`` plus, for each variable, a factor times it."""

    constant: int
    factors: tuple[tuple[str, int], ...]


class Grid:
    """``ranges``: variable → (first, behind the last); a variable of one value takes no room.

    ``values``: what ``let`` has bound. ``written``: floats of the declared types, not float64.
    """

    def __init__(
        self,
        ranges: Mapping[str, tuple[int, int]],
        buffers: Mapping[str, Array],
        values: Mapping[str, Array],
        written: bool = False,
    ) -> None:
        self.ranges = ranges
        self.buffers = buffers
        self.values = values
        self.written = written
        self.order = [name for name, (low, high) in ranges.items() if high - low != 1]
        self.place = {name: at for at, name in enumerate(self.order, 1)}
        self.rank = 1 + len(self.order)

    def points(self) -> int:
        total = 1
        for low, high in self.ranges.values():
            total *= high - low
        return total

    def variable(self, name: str) -> Array:
        if name in self.values:
            return self.values[name]
        if name not in self.ranges:
            raise NotInterpretedError(f"{name} has no value")
        low, high = self.ranges[name]
        if name not in self.place:
            return np.asarray(low, np.int64)
        shape = [1] * self.rank
        shape[self.place[name]] = high - low
        return np.arange(low, high, dtype=np.int64).reshape(shape)

    def evaluate(self, one: Expression, mask: Array | None = None, depth: int = 0) -> Array:
        """``mask``: the points where the value matters; elsewhere it may be anything."""
        if depth > MOST_DEPTH:
            raise NotInterpretedError("an expression nested too deeply")
        match one:
            case Number():
                return number(one, self.written)
            case Variable():
                return self.variable(one.name)
            case Load():
                return self.load(one, mask, depth)
            case Apply(operation="Select" | "if_then_else", arguments=(test, then, otherwise)):
                chosen = self.evaluate(test, mask, depth + 1).astype(bool)
                yes = no = mask
                if one.operation == "if_then_else":  # the other side is not computed
                    yes = chosen if mask is None else mask & chosen
                    no = ~chosen if mask is None else mask & ~chosen
                if chosen.size == 1 and mask is None and one.operation == "if_then_else":
                    only = then if chosen.all() else otherwise
                    return self.evaluate(only, None, depth + 1)
                first = self.evaluate(then, yes, depth + 1)
                second = self.evaluate(otherwise, no, depth + 1)
                if first.dtype != second.dtype and {first.dtype.kind, second.dtype.kind} != {"i"}:
                    raise NotInterpretedError(f"{one.shown()}: two types")
                return np.where(chosen, first, second)
            case Apply():
                values = [self.evaluate(part, mask, depth + 1) for part in one.arguments]
                return apply(one, values, self.written)
        raise NotInterpretedError("an expression of no known kind")

    # Loads.

    def load(self, one: Load, mask: Array | None, depth: int) -> Array:
        held = self.buffers.get(one.buffer)
        if held is None:
            raise NotInterpretedError(f"{one.buffer} is read and has no value")
        simple = [self.affine(index) for index in one.indices]
        view = self.view(held, simple)
        if view is not None:
            return view
        indices = [self.evaluate(index, mask, depth + 1) for index in one.indices]
        checked: list[Array] = []
        for at, (index, size) in enumerate(zip(indices, held.shape[1:], strict=True)):
            if index.dtype.kind not in "iu":
                raise NotInterpretedError(f"{one.buffer}: index {at} is no integer")
            outside = (index < 0) | (index >= size)
            if outside.any():
                if mask is None or (outside & mask).any():
                    raise NotInterpretedError(f"{one.buffer} is read outside its {size} elements")
                index = np.where(outside, 0, index)
            checked.append(index.reshape(index.shape or (1,) * self.rank))
        trials = np.arange(len(held)).reshape((-1,) + (1,) * (self.rank - 1))
        return np.asarray(held[(trials, *checked)])

    def view(self, held: Array, indices: list[Affine | None]) -> Array | None:
        """A view of the buffer, if each index runs over one variable at most, each over another,
        and all stay inside.
        """
        cut: list[slice | int] = [slice(None)]
        names: list[str] = []
        for affine, size in zip(indices, held.shape[1:], strict=True):
            if affine is None or len(affine.factors) > 1:
                return None
            if not affine.factors:
                if not 0 <= affine.constant < size:
                    return None
                cut.append(affine.constant)
                continue
            ((name, factor),) = affine.factors
            low, high = self.ranges[name]
            if name in names or high <= low:
                return None
            first = affine.constant + factor * low
            last = affine.constant + factor * (high - 1)
            if not (0 <= first < size and 0 <= last < size):
                return None
            end = last + (1 if factor > 0 else -1)
            cut.append(slice(first, end if end >= 0 else None, factor))
            names.append(name)
        view = held[tuple(cut)]
        order = sorted(range(len(names)), key=lambda at: self.place[names[at]])
        view = view.transpose([0, *(at + 1 for at in order)])
        present = {self.place[name] for name in names}
        spread = [slice(None)] + [
            slice(None) if at in present else None for at in range(1, self.rank)
        ]
        return view[tuple(spread)]

    def affine(self, one: Expression) -> Affine | None:
        """The expression as a sum over variables that have more than one value, if it is one."""
        match one:
            case Number(value=int() as value):
                return Affine(int(value), ())
            case Variable(name=name) if name in self.place:
                return None if name in self.values else Affine(0, ((name, 1),))
            case Variable(name=name) if name in self.ranges and name not in self.values:
                return Affine(self.ranges[name][0], ())
            case Apply(operation="+" | "-" as sign, arguments=(left, right)):
                a, b = self.affine(left), self.affine(right)
                return a and b and combined(a, b, 1 if sign == "+" else -1)
            case Apply(operation="*", arguments=(left, right)):
                a, b = self.affine(left), self.affine(right)
                if a and b and not a.factors:
                    a, b = b, a
                if a and b and not b.factors:
                    scaled = tuple((name, factor * b.constant) for name, factor in a.factors)
                    return Affine(a.constant * b.constant, tuple(f for f in scaled if f[1]))
            case Apply(operation="cast", arguments=(inner,), dtype="int32" | "int64"):
                return self.affine(inner)
        return None


def combined(a: Affine, b: Affine, sign: int) -> Affine:
    factors = dict(a.factors)
    for name, factor in b.factors:
        factors[name] = factors.get(name, 0) + sign * factor
    kept = tuple((name, factor) for name, factor in factors.items() if factor)
    return Affine(a.constant + sign * b.constant, kept)
