"""Tensor-IR functions that only give a tensor another shape: proven index by index.

TVM replaces a call of such a function by ``vm.builtin.reshape``, and nothing else may be replaced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.accounting.tir_script import (
    Apply,
    Block,
    Expression,
    For,
    Function,
    Load,
    Number,
    Statement,
    Store,
    Variable,
)

MAX_ELEMENTS = 2**25

Index = NDArray[np.int64]


class _NoCopy(Exception):  # noqa: N818 (an answer, not a failure)
    """The function does something else, or holds what is not read here."""


def is_copy(function: Function) -> bool:
    """Whether its second parameter becomes its first, element by element in flat order."""
    if len(function.parameters) != 2:
        return False
    source, target = (function.buffers[name] for name in function.parameters)
    size = math.prod(target.shape)
    same = source.dtype == target.dtype and math.prod(source.shape) == size
    if not same or size > MAX_ELEMENTS or set(function.buffers) != set(function.parameters):
        return False
    try:
        ranges, store, axes = _only_store(function.body)
        if math.prod(extent for _, extent in ranges) != size:
            return False
        names: dict[str, Index] = {}
        for at, (name, extent) in enumerate(ranges):
            sides = [1] * len(ranges)
            sides[at] = extent
            names[name] = np.arange(extent, dtype=np.int64).reshape(sides)
        for name, value in axes:
            names[name] = _index(value, names)
        if store.buffer != target.name or not isinstance(store.value, Load):
            return False
        if store.value.buffer != source.name:
            return False
        shape = tuple(extent for _, extent in ranges)
        written = _flat(store.indices, target.shape, names, shape)
        read = _flat(store.value.indices, source.shape, names, shape)
    except _NoCopy:
        return False
    if not np.array_equal(written, read):
        return False
    seen = np.zeros(size, bool)
    seen[written] = True
    return bool(seen.all())


def _only_store(
    body: tuple[Statement, ...],
) -> tuple[list[tuple[str, int]], Store, list[tuple[str, Expression]]]:
    """The loops, the one store inside of them, and what the block calls its axes."""
    ranges: list[tuple[str, int]] = []
    axes: list[tuple[str, Expression]] = []
    for _ in range(32):
        if len(body) != 1:
            raise _NoCopy
        match body[0]:
            case Store() as store:
                if len({name for name, _ in (*ranges, *axes)}) < len(ranges) + len(axes):
                    raise _NoCopy
                return ranges, store, axes
            case For(ranges=several, body=inner):
                for name, first, many in several:
                    if not isinstance(first, Number) or first.value != 0:
                        raise _NoCopy
                    if not isinstance(many, Number) or not 0 <= int(many.value) <= MAX_ELEMENTS:
                        raise _NoCopy
                    ranges.append((name, int(many.value)))
                body = inner
            case Block(axes=own, init=(), body=inner):
                if any(axis.kind != "S" for axis in own):
                    raise _NoCopy
                axes += [(axis.name, axis.value) for axis in own]
                body = inner
            case _:
                raise _NoCopy
    raise _NoCopy


def _index(node: Expression, names: Mapping[str, Index]) -> Index:
    match node:
        case Number(value=value) if type(value) is int:
            return np.asarray(value, np.int64)
        case Variable(name=name) if name in names:
            return names[name]
        case Apply(operation=operation, arguments=(left, right)):
            a, b = _index(left, names), _index(right, names)
            if operation == "+":
                return a + b
            if operation == "-":
                return a - b
            if operation == "*":
                return a * b
            if operation in ("//", "%") and bool((b > 0).all()):
                return a // b if operation == "//" else a % b
    raise _NoCopy


def _flat(
    indices: tuple[Expression, ...],
    sides: tuple[int, ...],
    names: Mapping[str, Index],
    shape: tuple[int, ...],
) -> Index:
    """Places in flat order, for every turn of the loops. Refuses what lies outside the buffer."""
    if len(indices) != len(sides):
        raise _NoCopy
    total: Index = np.zeros((), np.int64)
    for node, side in zip(indices, sides, strict=True):
        index = _index(node, names)
        if bool(((index < 0) | (index >= side)).any()):
            raise _NoCopy
        total = total * side + index
    return np.broadcast_to(total, shape).reshape(-1)
