"""The Relax operators of neural networks: convolutions, pooling, norms, products, 8 bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.accounting import kernels
from harness.accounting.relax_values import Array, Ints, kind_only, typed


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
