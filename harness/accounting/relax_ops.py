"""What Relax operators mean, in numpy, and what each of them decides.

A floating-point tensor is float64, whatever the program says, an integer what it says. An operator
takes exactly the arguments that TVM prints: one that is not known here is an error, never ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.accounting import kernels
from harness.accounting.interface import Choice

Array = Any  # of numpy, of a type that the operator finds out
Ints = Sequence[int]
Number = int | float | bool
Moving = Sequence[bool]  # of each argument in place: whether it depends on the model's inputs
Choices = tuple[Choice, ...] | Callable[[Moving, Sequence[Any]], tuple[Choice, ...]]


@dataclass(frozen=True)
class Operator:
    """``compute``: the result, or a tuple of them. ``choices``: asked only of data."""

    compute: Callable[..., Any]
    choices: Choices = ()

    def decides(self, moving: Moving, arguments: Sequence[Any]) -> tuple[Choice, ...]:
        return self.choices(moving, arguments) if callable(self.choices) else self.choices


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


# What they decide.


def product(moving: Moving, _: Sequence[Any]) -> tuple[Choice, ...]:
    return (Choice.PRODUCT,) if sum(moving) > 1 else ()


def quotient(moving: Moving, arguments: Sequence[Any]) -> tuple[Choice, ...]:
    if integer(*arguments):
        return (Choice.DIVIDE,)
    return (Choice.PRODUCT,) if moving[1] else ()


def remainder(_: Moving, arguments: Sequence[Any]) -> tuple[Choice, ...]:
    return (Choice.DIVIDE,) if integer(*arguments) else (Choice.DIVIDE, Choice.ROUND)


def selection(moving: Moving, _: Sequence[Any]) -> tuple[Choice, ...]:
    return (Choice.SELECT,) if moving[0] else ()


def lookup(moving: Moving, _: Sequence[Any]) -> tuple[Choice, ...]:
    return (Choice.LOOKUP,) if moving[1] else ()


def clipping(_: Moving, arguments: Sequence[Any]) -> tuple[Choice, ...]:
    low, high = float(arguments[1]), float(arguments[2])
    return (Choice.MAX,) * (low > -np.inf) + (Choice.MIN,) * (high < np.inf)


NORMAL = (Choice.PRODUCT, Choice.PRODUCT, Choice.CURVE)

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
        if step < 0 or assume_inbound:
            raise ValueError("a backward slice, or one that is not checked")
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
    if reduction != "update":
        raise ValueError(f"a scatter that does {reduction}")
    result = np.array(x)
    np.put_along_axis(result, np.asarray(indices).astype(np.int64), updates, axis)
    return result


def scatter_nd(x: Array, indices: Array, updates: Array, *, reduction: str) -> Array:
    if reduction != "update":
        raise ValueError(f"a scatter that does {reduction}")
    result = np.array(x)
    result[tuple(np.moveaxis(np.asarray(indices).astype(np.int64), -1, 0))] = updates
    return result


def scattering(moving: Moving, _: Sequence[Any]) -> tuple[Choice, ...]:
    return (Choice.LOOKUP,) if moving[1] else ()


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


def casting(_: Moving, arguments: Sequence[Any]) -> tuple[Choice, ...]:
    """The dtype is the argument's after the value: see ``CAST``."""
    value = np.asarray(arguments[0])
    dtype = str(arguments[1])
    if dtype == "bool":
        return () if value.dtype == np.bool_ else (Choice.COMPARE,)
    if value.dtype.kind == "f" and dtype not in WIDE:
        return (Choice.ROUND,)  # to integers, or to floats of fewer bits
    if value.dtype.kind in "iu" and dtype in INTEGERS and narrower(value.dtype, dtype):
        return (Choice.DIVIDE,)  # the upper bits are lost
    return ()


WIDE = {"float32", "float64"}


def narrower(old: np.dtype[Any], new: str) -> bool:
    lost = np.iinfo(np.dtype(new)), np.iinfo(old)
    return int(lost[0].max) < int(lost[1].max) or int(lost[0].min) > int(lost[1].min)


# Networks.


def laid_out(given: Sequence[str], *, rank: int, kernel: str = "OI") -> None:
    spatial = {1: "W", 2: "HW", 3: "DHW"}[rank]
    known = {"NC" + spatial, kernel + spatial}
    if any(layout not in known for layout in given):
        raise ValueError(f"a layout of {', '.join(given)}")


def convolution(
    x: Array, weight: Array, *, strides: Ints, padding: Ints, dilation: Ints, groups: int,
    data_layout: str, kernel_layout: str, out_layout: str, out_dtype: str | None,
) -> Array:  # fmt: skip
    rank = x.ndim - 2
    laid_out([data_layout, kernel_layout, out_layout], rank=rank)
    kind_only(out_dtype)
    return kernels.convolve(
        x, weight, strides, padding[:rank], padding[rank:], dilation, groups
    )  # fmt: skip


def transposed_convolution(
    x: Array, weight: Array, *, strides: Ints, padding: Ints, output_padding: Ints,
    dilation: Ints, groups: int, data_layout: str, kernel_layout: str, out_layout: str,
    out_dtype: str | None,
) -> Array:  # fmt: skip
    rank = x.ndim - 2
    laid_out([data_layout, kernel_layout, out_layout], rank=rank, kernel="IO")
    kind_only(out_dtype)
    return kernels.convolve_transposed(
        x, weight, strides, padding[:rank], padding[rank:], dilation, groups, output_padding
    )


def wider(
    x: Array, kernel: Ints, strides: Ints, dilation: Ints, padding: Ints, ceil_mode: bool
) -> list[int]:
    """How much further the last windows run if their number is rounded up."""
    rank = len(kernel)
    if not ceil_mode:
        return [0] * rank
    return [
        kernels.overrun(x.shape[2 + i], kernel[i], strides[i], dilation[i],
                        padding[i] + padding[rank + i])
        for i in range(rank)
    ]  # fmt: skip


def max_pool(
    x: Array, *, pool_size: Ints, strides: Ints, dilation: Ints, padding: Ints, ceil_mode: bool,
    count_include_pad: bool, layout: str, out_layout: str,
) -> Array:  # fmt: skip
    del count_include_pad  # padding is never the largest
    rank = len(pool_size)
    laid_out([layout, out_layout], rank=rank)
    over = wider(x, pool_size, strides, dilation, padding, ceil_mode)
    ends = [padding[rank + i] + over[i] for i in range(rank)]
    return kernels.largest(x, pool_size, strides, padding[:rank], ends, dilation)


def average_pool(
    x: Array, *, pool_size: Ints, strides: Ints, dilation: Ints, padding: Ints, ceil_mode: bool,
    count_include_pad: bool, layout: str, out_layout: str,
) -> Array:  # fmt: skip
    rank = len(pool_size)
    laid_out([layout, out_layout], rank=rank)
    return kernels.average(
        x, pool_size, strides, padding[:rank], padding[rank:], dilation,
        outside=count_include_pad,
        over=wider(x, pool_size, strides, dilation, padding, ceil_mode),
    )  # fmt: skip


def whole_average(x: Array, *, output_size: Ints | None, layout: str, out_layout: str) -> Array:
    laid_out([layout, out_layout], rank=x.ndim - 2)
    if output_size is None or any(size != 1 for size in output_size):
        raise ValueError("adaptive pooling to more than one element")
    return x.mean(axis=tuple(range(2, x.ndim)), keepdims=True)


def softmax(x: Array, *, axis: int) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    result: Array = powers / powers.sum(axis=axis, keepdims=True)
    return result


def log_softmax(x: Array, *, axis: int) -> Array:
    low = x - x.max(axis=axis, keepdims=True)
    result: Array = low - np.log(np.exp(low).sum(axis=axis, keepdims=True))
    return result


def standard(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    spread = x.var(axis=axes, keepdims=True)
    result: Array = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(spread + epsilon)
    return result


def layer_norm(
    x: Array, gamma: Array, beta: Array, *, axes: Ints, epsilon: float, center: bool, scale: bool
) -> Array:
    if not center or not scale:
        raise ValueError("a norm without its weights")
    shape = [x.shape[i] if i in {axis % x.ndim for axis in axes} else 1 for i in range(x.ndim)]
    found = standard(x, tuple(axes), epsilon)
    return found * np.reshape(gamma, shape) + np.reshape(beta, shape)


def group_norm(
    x: Array, gamma: Array, beta: Array, *, num_groups: int, channel_axis: int, axes: Ints,
    epsilon: float, center: bool, scale: bool,
) -> Array:  # fmt: skip
    if not center or not scale or channel_axis != 1 or list(axes) != list(range(2, x.ndim)):
        raise ValueError("a group norm of an unusual kind")
    grouped = x.reshape(x.shape[0], num_groups, -1)
    shape = [1, x.shape[1]] + [1] * (x.ndim - 2)
    found = standard(grouped, (2,), epsilon).reshape(x.shape)
    return found * np.reshape(gamma, shape) + np.reshape(beta, shape)


def instance_norm(
    x: Array, gamma: Array, beta: Array, *, channel_axis: int, axes: Ints, epsilon: float,
    center: bool, scale: bool,
) -> Array:  # fmt: skip
    return group_norm(
        x, gamma, beta, num_groups=x.shape[channel_axis], channel_axis=channel_axis, axes=axes,
        epsilon=epsilon, center=center, scale=scale,
    )  # fmt: skip


def rms_norm(x: Array, gamma: Array, *, axes: Ints, epsilon: float) -> Array:
    mean = (x * x).mean(axis=tuple(axes), keepdims=True)
    found: Array = x / np.sqrt(mean + epsilon) * gamma
    return found


def batch_norm(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, axis: int,
    epsilon: float, center: bool, scale: bool, momentum: float, training: bool,
) -> tuple[Array, ...]:  # fmt: skip
    del momentum
    if training:
        raise ValueError("a norm that trains")
    if not center or not scale:
        raise ValueError("a norm without its weights")
    shape = [1] * x.ndim
    shape[axis] = -1
    factor = np.reshape(gamma / np.sqrt(variance + epsilon), shape)
    return (x - np.reshape(mean, shape)) * factor + np.reshape(beta, shape), mean, variance


def dropout(x: Array, *, rate: float) -> tuple[Array, ...]:
    del rate
    return x, np.ones_like(x)


def matmul(a: Array, b: Array, *, out_dtype: str | None) -> Array:
    if a.dtype.kind == "f":
        kind_only(out_dtype)
        return np.matmul(a, b)
    return np.matmul(typed(a, out_dtype), typed(b, out_dtype))


def einsum(parts: Sequence[Array], *, subscripts: str) -> Array:
    found: Array = np.einsum(subscripts, *parts, optimize=True)
    return found


LETTERS = {"nearest_neighbor": "nearest", "linear": "linear", "cubic": "cubic"}


def resize(
    x: Array, size: Ints, *, roi: Ints, layout: str, method: str,
    coordinate_transformation_mode: str, rounding_method: str, cubic_alpha: float,
    cubic_exclude: int, extrapolation_value: float, out_dtype: str | None,
) -> Array:  # fmt: skip
    del extrapolation_value  # for cropping only, which is refused
    laid_out([layout], rank=x.ndim - 2)
    kind_only(out_dtype)
    if any(roi) or method not in LETTERS:
        raise ValueError("a resize of an unusual kind")
    for i, target in enumerate(size):
        was = x.shape[2 + i]
        if was == target:
            continue
        at = kernels.coordinates(coordinate_transformation_mode, was, target, target / was)
        x = kernels.resized(
            x, 2 + i, at, LETTERS[method], rounding_method, cubic_alpha, bool(cubic_exclude)
        )
    return x


def shuffle(x: Array, *, upscale_factor: int) -> Array:
    batch, channels, high, wide = x.shape
    r = upscale_factor
    parts = x.reshape(batch, channels // (r * r), r, r, high, wide)
    return parts.transpose(0, 1, 4, 2, 5, 3).reshape(batch, -1, high * r, wide * r)


def quantize(
    x: Array, scale: Array, zero: Array, *, out_dtype: str, axis: int
) -> Array:  # fmt: skip
    shape = [1] * x.ndim
    if np.ndim(scale):
        shape[axis] = -1
    scale, zero = np.reshape(scale, shape), np.reshape(zero, shape).astype(np.float64)
    limits = np.iinfo(np.dtype(out_dtype))
    return np.clip(np.round(x / scale) + zero, limits.min, limits.max).astype(out_dtype)


def dequantize(
    x: Array, scale: Array, zero: Array, *, out_dtype: str, axis: int
) -> Array:  # fmt: skip
    kind_only(out_dtype)
    shape = [1] * x.ndim
    if np.ndim(scale):
        shape[axis] = -1
    zero = np.reshape(zero, shape).astype(np.float64)
    found: Array = (x.astype(np.float64) - zero) * np.reshape(scale, shape)
    return found


C = Choice
CURVE, COMPARE, LOGIC = (C.CURVE,), (C.COMPARE,), (C.LOGIC,)

OPERATORS: dict[str, Operator] = {
    # element by element
    "R.add": Operator(np.add),
    "R.subtract": Operator(np.subtract),
    "R.multiply": Operator(np.multiply, product),
    "R.divide": Operator(quotients, quotient),
    "R.negative": Operator(np.negative),
    "R.power": Operator(np.power, CURVE),
    "R.maximum": Operator(np.maximum, (C.MAX,)),
    "R.minimum": Operator(np.minimum, (C.MIN,)),
    "R.clip": Operator(clip, clipping),
    "R.abs": Operator(np.abs, (C.SIGN,)),
    "R.sign": Operator(np.sign, (C.SIGN,)),
    "R.floor": Operator(np.floor, (C.ROUND,)),
    "R.ceil": Operator(np.ceil, (C.ROUND,)),
    "R.round": Operator(np.round, (C.ROUND,)),
    "R.trunc": Operator(np.trunc, (C.ROUND,)),
    "R.floor_divide": Operator(np.floor_divide, remainder),
    "R.floor_mod": Operator(np.mod, remainder),
    "R.mod": Operator(np.fmod, remainder),
    "R.where": Operator(where, selection),
    "R.isnan": Operator(np.isnan, COMPARE),
    "R.isinf": Operator(np.isinf, COMPARE),
    "R.isfinite": Operator(np.isfinite, COMPARE),
    "R.astype": Operator(cast),  # decides by its type: see `decisions`
    "R.erf": Operator(kernels.erf, CURVE),
    "R.sigmoid": Operator(sigmoid, CURVE),
    "R.rsqrt": Operator(lambda x: 1 / np.sqrt(x), CURVE),
    "R.square": Operator(np.square, (C.PRODUCT,)),
    **{f"R.{name}": Operator(getattr(np, long), CURVE) for name, long in {
        "exp": "exp", "log": "log", "sqrt": "sqrt", "tanh": "tanh", "sin": "sin", "cos": "cos",
        "tan": "tan", "sinh": "sinh", "cosh": "cosh", "asin": "arcsin", "acos": "arccos",
        "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
    }.items()},
    **{f"R.{name}": Operator(getattr(np, name), COMPARE) for name in (
        "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
    )},
    **{f"R.{name}": Operator(getattr(np, name), LOGIC) for name in (
        "logical_and", "logical_or", "logical_xor", "logical_not", "bitwise_and", "bitwise_or",
        "bitwise_xor", "bitwise_not", "left_shift", "right_shift",
    )},
    "R.nn.relu": Operator(lambda x: np.maximum(x, 0), (C.MAX,)),
    "R.nn.relu6": Operator(lambda x: np.clip(x, 0, 6), (C.MAX, C.MIN)),
    "R.nn.leakyrelu": Operator(leaky_relu, (C.SELECT, C.COMPARE)),
    "R.nn.prelu": Operator(prelu, (C.SELECT, C.COMPARE)),
    "R.nn.gelu": Operator(gelu, (C.CURVE, C.PRODUCT)),
    "R.nn.gelu_tanh": Operator(gelu_tanh, (C.CURVE, C.PRODUCT, C.PRODUCT, C.PRODUCT)),
    "R.nn.silu": Operator(lambda x: x * sigmoid(x), (C.CURVE, C.PRODUCT)),
    "R.nn.softplus": Operator(softplus, (C.CURVE, C.CURVE, C.SELECT, C.COMPARE)),
    "R.nn.dropout": Operator(dropout),
    # reductions
    "R.sum": Operator(reduction(np.sum)),
    "R.mean": Operator(reduction(np.mean)),
    "R.max": Operator(reduction(np.max), (C.MAX,)),
    "R.min": Operator(reduction(np.min), (C.MIN,)),
    "R.prod": Operator(reduction(np.prod), (C.PRODUCT,)),
    "R.variance": Operator(reduction(np.var), (C.PRODUCT,)),
    "R.std": Operator(reduction(np.std), (C.PRODUCT, C.CURVE)),
    "R.argmax": Operator(place(np.argmax), (C.SORT,)),
    "R.argmin": Operator(place(np.argmin), (C.SORT,)),
    "R.cumsum": Operator(running(np.cumsum, 0)),
    "R.cumprod": Operator(running(np.cumprod, 1), (C.PRODUCT,)),
    # shapes and places
    "R.reshape": Operator(reshape),
    "R.flatten": Operator(np.ravel),
    "R.squeeze": Operator(squeeze),
    "R.expand_dims": Operator(expand_dims),
    "R.permute_dims": Operator(permute),
    "R.broadcast_to": Operator(np.broadcast_to),
    "R.concat": Operator(concat),
    "R.stack": Operator(stack),
    "R.split": Operator(split),
    "R.strided_slice": Operator(strided_slice),
    "R.take": Operator(take, lookup),
    "R.gather_elements": Operator(gather_elements, lookup),
    "R.gather_nd": Operator(gather_nd, lookup),
    "R.scatter_elements": Operator(scatter_elements, scattering),
    "R.scatter_nd": Operator(scatter_nd, scattering),
    "R.nn.pad": Operator(pad),
    "R.flip": Operator(flip),
    "R.tile": Operator(tile),
    "R.repeat": Operator(repeat),
    "R.tril": Operator(np.tril),
    "R.triu": Operator(np.triu),
    "R.full": Operator(full),
    "R.zeros": Operator(filled(0)),
    "R.ones": Operator(filled(1)),
    "R.zeros_like": Operator(filled_like(0)),
    "R.ones_like": Operator(filled_like(1)),
    "R.full_like": Operator(full_like),
    "R.arange": Operator(arange),
    "R.shape_of": Operator(lambda: None),  # interpreted apart: no data is used
    "R.shape_to_tensor": Operator(lambda shape: np.array(shape, np.int64)),
    "R.one_hot": Operator(one_hot, (C.COMPARE, C.SELECT)),
    "R.topk": Operator(top, (C.SORT,)),
    "R.sort": Operator(sort, (C.SORT,)),
    "R.argsort": Operator(argsort, (C.SORT,)),
    # networks
    **{f"R.nn.conv{rank}d": Operator(convolution, product) for rank in (1, 2, 3)},
    **{f"R.nn.conv{rank}d_transpose": Operator(transposed_convolution, product)
       for rank in (1, 2, 3)},
    **{f"R.nn.max_pool{rank}d": Operator(max_pool, (C.MAX,)) for rank in (1, 2, 3)},
    **{f"R.nn.avg_pool{rank}d": Operator(average_pool) for rank in (1, 2, 3)},
    **{f"R.nn.adaptive_avg_pool{rank}d": Operator(whole_average) for rank in (1, 2, 3)},
    "R.nn.softmax": Operator(softmax, (C.MAX, C.CURVE, C.PRODUCT)),
    "R.nn.log_softmax": Operator(log_softmax, (C.MAX, C.CURVE, C.CURVE)),
    "R.nn.layer_norm": Operator(layer_norm, NORMAL),
    "R.nn.group_norm": Operator(group_norm, NORMAL),
    "R.nn.instance_norm": Operator(instance_norm, NORMAL),
    "R.nn.rms_norm": Operator(rms_norm, NORMAL),
    "R.nn.batch_norm": Operator(batch_norm, lambda moving, _: NORMAL if any(moving[1:]) else ()),
    "R.nn.pixel_shuffle": Operator(shuffle),
    "R.matmul": Operator(matmul, product),
    "R.einsum": Operator(einsum, product),
    "R.image.resize2d": Operator(resize),
    # With what their tensor IR decides, so that the graph has no room to spare.
    "R.quantize": Operator(quantize, (C.ROUND, C.ROUND, C.MAX, C.MIN)),
    "R.dequantize": Operator(dequantize, (C.ROUND,)),
}  # fmt: skip


def decisions(
    name: str, moving: Moving, arguments: Sequence[Any], keywords: dict[str, Any]
) -> tuple[Choice, ...]:
    """What a call decides by its data, and nothing if no argument depends on an input."""
    if not any(moving):
        return ()
    if name == "R.astype":
        return casting(moving, [*arguments, keywords.get("dtype")])
    return OPERATORS[name].decides(moving, arguments)
