"""Types of values, and the Relax operators that work element by element, reduce, or move values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harness.accounting import kernels

Array = Any  # of numpy, of a type that the operator finds out
Ints = Sequence[int]
Number = int | float | bool


def integer(*values: Any) -> bool:
    return all(np.asarray(value).dtype.kind in "iu" for value in values)


def typed(value: Any, dtype: str | None) -> Array:
    """Cast, towards zero from float to integer."""
    value = np.asarray(value)
    if dtype in (None, ""):
        return value
    assert dtype is not None
    if dtype.startswith(("float", "bfloat")):
        return value.astype(np.float64)
    if dtype == "bool":
        return value.astype(np.bool_)
    if value.dtype.kind == "f":
        value = np.trunc(value)
    if dtype not in INTEGERS:
        raise ValueError(f"the type {dtype}")
    return value.astype(dtype)


INTEGERS = {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}


def kind_only(dtype: str | None) -> None:
    if dtype not in (None, "", "float32", "float64"):
        raise ValueError(f"a result of type {dtype}")


# Element by element.


def quotients(a: Array, b: Array) -> Array:
    if integer(a, b):
        found: Array = (np.sign(a) * np.sign(b) * (abs(a) // abs(b))).astype(np.asarray(a).dtype)
        return found
    return np.true_divide(a, b)


def sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        found: Array = 1 / (1 + np.exp(-x))
    return found


def clip(x: Array, low: Number, high: Number) -> Array:
    return np.minimum(np.maximum(x, low), high).astype(x.dtype)


def where(condition: Array, one: Array, other: Array) -> Array:
    if np.asarray(condition).dtype != np.bool_:
        raise ValueError("a condition that is not boolean")
    return np.where(condition, one, other)


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + kernels.erf(x / math.sqrt(2)))


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softplus(x: Array, *, beta: float, threshold: float) -> Array:
    return np.where(x * beta > threshold, x, np.log1p(np.exp(np.minimum(x * beta, 700))) / beta)


def leaky_relu(x: Array, *, alpha: float) -> Array:
    return np.where(x > 0, x, x * alpha)


def prelu(x: Array, slope: Array, *, axis: int) -> Array:
    shape = [1] * x.ndim
    shape[axis] = -1
    slope = np.asarray(slope)
    return np.where(x > 0, x, x * (slope.reshape(shape) if slope.ndim == 1 else slope))


# Reductions.


def axes_of(axis: Ints | int | None, rank: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(rank))
    return tuple([axis] if isinstance(axis, int) else axis)


def reduction(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, *, axis: Ints | None, keepdims: bool) -> Array:
        result = function(x, axis=axes_of(axis, x.ndim), keepdims=keepdims)
        return result.astype(x.dtype) if x.dtype.kind in "iu" else result

    return reduce


def place(function: Callable[..., Array]) -> Callable[..., Array]:
    def find(x: Array, *, axis: int | None, keepdims: bool) -> Array:
        return np.asarray(function(x, axis=axis, keepdims=keepdims)).astype(np.int64)

    return find


def running(function: Callable[..., Array], first: int) -> Callable[..., Array]:
    def accumulate(x: Array, *, axis: int | None, dtype: str | None, exclusive: bool) -> Array:
        x = typed(x, dtype)
        result = function(x, axis=axis, dtype=x.dtype)
        if exclusive:
            if axis is None:
                raise ValueError("an exclusive sum over all")
            result = np.roll(result, 1, axis)
            result[tuple([slice(None)] * (axis % x.ndim) + [0])] = first
        return result

    return accumulate


# Shapes and places.


def reshape(x: Array, shape: Ints) -> Array:
    return np.reshape(x, tuple(shape))


def squeeze(x: Array, *, axis: Ints | None) -> Array:
    return np.squeeze(x, None if axis is None else tuple(axis))


def expand_dims(x: Array, *, axis: Ints) -> Array:
    return np.expand_dims(x, tuple(axis))


def permute(x: Array, *, axes: Ints | None) -> Array:
    return np.transpose(x, axes)


def concat(parts: Sequence[Array], *, axis: int | None) -> Array:
    return np.concatenate(parts, axis=0 if axis is None else axis)


def stack(parts: Sequence[Array], *, axis: int | None) -> Array:
    return np.stack(parts, axis=axis or 0)


def split(x: Array, *, indices_or_sections: Ints | int, axis: int) -> tuple[Array, ...]:
    if isinstance(indices_or_sections, int):
        step = -(-x.shape[axis] // indices_or_sections)
        indices_or_sections = [step * i for i in range(1, indices_or_sections)]
    return tuple(np.split(x, list(indices_or_sections), axis))


def strided_slice(
    x: Array,
    axes: Ints,
    begins: Ints,
    ends: Ints,
    steps: Ints | None = None,
    *,
    assume_inbound: bool,
) -> Array:
    cut = [slice(None)] * x.ndim
    for axis, begin, end, step in zip(axes, begins, ends, steps or [1] * len(axes), strict=True):
        if assume_inbound:
            raise ValueError("a slice that is not checked")
        cut[axis] = slice(begin, end, step)
    return x[tuple(cut)]


def take(x: Array, indices: Array, *, axis: int | None, mode: str) -> Array:
    if axis is None:
        x, axis = x.reshape(-1), 0
    indices = np.asarray(indices)
    size = x.shape[axis]
    if mode == "wrap":
        indices = indices % size
    elif mode == "clip":
        indices = np.clip(indices, 0, size - 1)
    elif indices.size and not (indices.min() >= 0 and indices.max() < size):
        raise ValueError("an index out of range")
    return np.take(x, indices.astype(np.int64), axis)


def gather_elements(x: Array, indices: Array, *, axis: int) -> Array:
    return np.take_along_axis(x, np.asarray(indices).astype(np.int64), axis)


def gather_nd(x: Array, indices: Array, *, batch_dims: int) -> Array:
    if batch_dims:
        raise ValueError("gather_nd with batch dimensions")
    return x[tuple(np.moveaxis(np.asarray(indices).astype(np.int64), -1, 0))]


def scatter_elements(
    x: Array, indices: Array, updates: Array, *, axis: int, reduction: str
) -> Array:
    result = np.array(x)
    places = np.asarray(indices).astype(np.int64)
    if reduction == "update":
        np.put_along_axis(result, places, updates, axis)
        return result
    where_to: list[Array] = list(np.indices(places.shape))
    where_to[axis] = places
    combined(reduction).at(result, tuple(where_to), updates)
    return result


def combined(reduction: str) -> np.ufunc:
    known = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    if reduction not in known:
        raise ValueError(f"a scatter that does {reduction}")
    return known[reduction]


def scatter_nd(x: Array, indices: Array, updates: Array, *, reduction: str) -> Array:
    result = np.array(x)
    places = tuple(np.moveaxis(np.asarray(indices).astype(np.int64), -1, 0))
    if reduction == "update":
        result[places] = updates
    else:
        combined(reduction).at(result, places, updates)
    return result


def pad(x: Array, *, pad_width: Ints, pad_value: float, pad_mode: str) -> Array:
    pairs = [(pad_width[2 * i], pad_width[2 * i + 1]) for i in range(len(pad_width) // 2)]
    match pad_mode:
        case "constant":
            return np.pad(x, pairs, constant_values=pad_value)
        case "reflect":
            return np.pad(x, pairs, mode="reflect")
        case "replicate":
            return np.pad(x, pairs, mode="edge")
    raise ValueError(f"padding by {pad_mode}")


def flip(x: Array, *, axis: int) -> Array:
    return np.flip(x, axis)


def tile(x: Array, *, repeats: Ints) -> Array:
    return np.tile(x, tuple(repeats))


def repeat(x: Array, *, repeats: int, axis: int | None) -> Array:
    return np.repeat(x, repeats, axis)


def filled(value: float) -> Callable[..., Array]:
    def fill(shape: Ints, *, dtype: str) -> Array:
        return typed(np.full(tuple(shape), value), dtype)

    return fill


def filled_like(value: float) -> Callable[..., Array]:
    def fill(x: Array, *, dtype: str | None) -> Array:
        return typed(np.full_like(x, value), dtype)

    return fill


def full(shape: Ints, value: Array, *, dtype: str) -> Array:
    return typed(np.full(tuple(shape), np.asarray(value).item()), dtype)


def arange(start: Number, stop: Number, step: Number, *, dtype: str) -> Array:
    return typed(np.arange(start, stop, step), dtype)


def full_like(x: Array, value: Array, *, dtype: str | None) -> Array:
    return typed(np.full_like(x, np.asarray(value).item()), dtype)


def one_hot(x: Array, on: Number, off: Number, *, depth: int, axis: int) -> Array:
    hot = np.where(x[..., None] == np.arange(depth), on, off)
    return np.moveaxis(hot, -1, axis)


def top(
    x: Array, *, k: int, axis: int, ret_type: str, largest: bool, dtype: str
) -> Array | tuple[Array, ...]:
    order = np.argsort(-x if largest else x, axis, kind="stable")
    order = np.take(order, np.arange(min(k, x.shape[axis]) if k > 0 else x.shape[axis]), axis)
    values = np.take_along_axis(x, order, axis)
    match ret_type:
        case "both":
            return values, typed(order, dtype)
        case "values":
            return values
        case "indices":
            return typed(order, dtype)
    raise ValueError(f"top k returning {ret_type}")


def sort(x: Array, *, axis: int, descending: bool) -> Array:
    return np.flip(np.sort(x, axis), axis) if descending else np.sort(x, axis)


def argsort(x: Array, *, axis: int, descending: bool, dtype: str) -> Array:
    return typed(np.argsort(-x if descending else x, axis, kind="stable"), dtype)


def cast(x: Array, *, dtype: str) -> Array:
    return typed(x, dtype)
