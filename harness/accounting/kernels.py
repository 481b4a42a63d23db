"""Windowed operators in numpy, on float64: convolution, pooling, resizing.

They stand in for the ONNX reference evaluator's own, which are slow in places, and interpret
lowered programs. Tests hold them against the reference evaluator.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Ints = Sequence[int]


def padded(data: Array, begins: Ints, ends: Ints, value: float = 0.0) -> Array:
    """The last dimensions padded; negative numbers cut off instead."""
    if not any(begins) and not any(ends):
        return data
    lead = data.ndim - len(begins)
    widths = [(0, 0)] * lead + [(max(b, 0), max(e, 0)) for b, e in zip(begins, ends, strict=True)]
    cut = [slice(None)] * lead + [
        slice(max(-b, 0), size - max(-e, 0))
        for b, e, size in zip(begins, ends, data.shape[lead:], strict=True)
    ]
    grown: Array = np.pad(data[tuple(cut)], widths, constant_values=value)
    return grown


def windows(
    data: Array, kernel: Ints, strides: Ints, dilations: Ints
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each place in the kernel, what lies under it: a view of the last dimensions."""
    spatial = data.shape[-len(kernel) :]
    sizes = [
        (size - (extent - 1) * dilation - 1) // stride + 1
        for size, extent, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True)
    ]
    if any(size < 1 for size in sizes):
        raise ValueError("a window larger than the data")
    for place in itertools.product(*(range(extent) for extent in kernel)):
        cut = [
            slice(offset * dilation, offset * dilation + (size - 1) * stride + 1, stride)
            for offset, dilation, size, stride in zip(place, dilations, sizes, strides, strict=True)
        ]
        under: tuple[Any, ...] = (..., *cut)
        yield place, data[under]


def at(place: tuple[int, ...]) -> tuple[Any, ...]:
    return (slice(None), slice(None), *place)


def convolve(
    data: Array,
    weight: Array,
    strides: Ints,
    begins: Ints,
    ends: Ints,
    dilations: Ints,
    groups: int,
) -> Array:
    """``data``: (N, C, spatial…); ``weight``: (M, C / groups, kernel…)."""
    batch, channels = data.shape[:2]
    filters, inner, *kernel = weight.shape
    if channels != inner * groups or filters % groups:
        raise ValueError("channels, filters and groups do not fit")
    grown = padded(data, begins, ends)
    result: Array | None = None
    for place, view in windows(grown, kernel, strides, dilations):
        part = weight[at(place)]
        if inner == 1 and filters == groups:  # depthwise
            term: Array = view * part.reshape(1, channels, *[1] * len(kernel))
        else:
            size = view.shape[2:]
            flat = view.reshape(batch, groups, inner, -1)
            term = part.reshape(groups, filters // groups, inner) @ flat
            term = term.reshape(batch, filters, *size)
        result = term if result is None else np.add(result, term, out=result)
    assert result is not None
    return result


def convolve_transposed(
    data: Array,
    weight: Array,
    strides: Ints,
    begins: Ints,
    ends: Ints,
    dilations: Ints,
    groups: int,
    extra: Ints,
) -> Array:
    """``weight``: (C, M / groups, kernel…); ``extra``: what ONNX calls output_padding."""
    batch, channels, *spatial = data.shape
    _, outer, *kernel = weight.shape
    if weight.shape[0] != channels or channels % groups:
        raise ValueError("channels, filters and groups do not fit")
    full = [
        (size - 1) * stride + (extent - 1) * dilation + 1 + more
        for size, stride, extent, dilation, more in zip(
            spatial, strides, kernel, dilations, extra, strict=True
        )
    ]
    result = np.zeros((batch, groups * outer, *full))
    flat = data.reshape(batch, groups, channels // groups, -1)
    for place in itertools.product(*(range(extent) for extent in kernel)):
        part = weight[at(place)]
        part = part.reshape(groups, channels // groups, outer).transpose(0, 2, 1)
        cut = [
            slice(offset * dilation, offset * dilation + (size - 1) * stride + 1, stride)
            for offset, dilation, size, stride in zip(
                place, dilations, spatial, strides, strict=True
            )
        ]
        under: tuple[Any, ...] = (..., *cut)
        result[under] += (part @ flat).reshape(batch, groups * outer, *spatial)
    return padded(result, [-b for b in begins], [-e for e in ends])


def largest(
    data: Array, kernel: Ints, strides: Ints, begins: Ints, ends: Ints, dilations: Ints
) -> Array:
    """Max pooling. What lies outside never wins."""
    grown = padded(data, begins, ends, -np.inf)
    result: Array | None = None
    for _, view in windows(grown, kernel, strides, dilations):
        result = view.copy() if result is None else np.maximum(result, view, out=result)
    assert result is not None
    return result


def average(
    data: Array,
    kernel: Ints,
    strides: Ints,
    begins: Ints,
    ends: Ints,
    dilations: Ints,
    *,
    outside: bool,
    over: Ints = (),
) -> Array:
    """Average pooling. ``outside``: padding counts. ``over``: further columns that a last, partial
    window runs over (ceil_mode); they never count.
    """
    over = over or [0] * len(kernel)
    lead = [1, 1]
    counted = np.ones([*lead, *data.shape[2:]])
    counted = padded(counted, begins, ends, 1.0 if outside else 0.0)
    grown = padded(data, begins, ends)
    nothing = [0] * len(kernel)
    counted, grown = padded(counted, nothing, over), padded(grown, nothing, over)
    total = sum(view for _, view in windows(grown, kernel, strides, dilations))
    count = sum(view for _, view in windows(counted, kernel, strides, dilations))
    result: Array = np.asarray(total) / np.asarray(count)
    return result


def overrun(size: int, kernel: int, stride: int, dilation: int, pads: int) -> int:
    """How many columns past the padding the last window needs when its count is rounded up."""
    reach = (kernel - 1) * dilation + 1
    steps = -(-(size + pads - reach) // stride)
    return max(steps * stride + reach - size - pads, 0)


# Resizing, one axis at a time.


def coordinates(mode: str, size: int, target: int, scale: float) -> NDArray[np.float64]:
    """Where each of ``target`` places lies in the data; ``scale`` is target over size."""
    at = np.arange(target, dtype=np.float64)
    match mode:
        case "half_pixel":
            return (at + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (at + 0.5) / scale - 0.5 if target > 1 else at * 0
        case "asymmetric":
            return at / scale
        case "align_corners":
            return at * (size - 1) / (size * scale - 1) if target > 1 else at * 0
        case "tf_half_pixel_for_nn":
            return (at + 0.5) / scale
    raise ValueError(f"coordinates by {mode}")


EPSILON = 1e-5  # 2.9999999 was meant to be 3


def nearest(at: NDArray[np.float64], rounding: str) -> NDArray[np.int64]:
    match rounding:
        case "round":
            found = np.round(at)
        case "round_prefer_floor":
            found = np.ceil(at - 0.5)
        case "round_prefer_ceil":
            found = np.floor(at + 0.5)
        case "floor":
            found = np.floor(at + EPSILON)
        case "ceil":
            found = np.ceil(at - EPSILON)
        case _:
            raise ValueError(f"rounding by {rounding}")
    return found.astype(np.int64)


def resized(
    data: Array,
    axis: int,
    at: NDArray[np.float64],
    method: str,
    rounding: str = "",
    alpha: float = -0.75,
    exclude: bool = False,
) -> Array:
    """``data`` with ``axis`` sampled at the coordinates ``at``; the edge goes on for ever."""
    last = data.shape[axis] - 1
    shape = [1] * data.ndim
    shape[axis] = len(at)
    if method == "nearest":
        return np.take(data, np.clip(nearest(at, rounding), 0, last), axis)
    low = np.floor(at).astype(np.int64)
    part = at - low
    if method == "linear":
        weights = [(0, 1 - part), (1, part)]
    elif method == "cubic":
        far = [(place, np.abs(part - place)) for place in (-1, 0, 1, 2)]
        weights = [(place, cubic(distance, alpha)) for place, distance in far]
    else:
        raise ValueError(f"resizing by {method}")
    if exclude:
        inside = [(low + place >= 0) & (low + place <= last) for place, _ in weights]
        kept = [weight * good for (_, weight), good in zip(weights, inside, strict=True)]
        whole = sum(kept)
        weights = [(place, one / whole) for (place, _), one in zip(weights, kept, strict=True)]
    result: Array = np.zeros(())
    for place, weight in weights:
        taken = np.take(data, np.clip(low + place, 0, last), axis)
        result = result + taken * weight.reshape(shape)
    return result


def cubic(distance: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    near = ((alpha + 2) * distance - (alpha + 3)) * distance * distance + 1
    far = ((alpha * distance - 5 * alpha) * distance + 8 * alpha) * distance - 4 * alpha
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


# W. J. Cody, "Rational Chebyshev approximations for the error function", 1969: numpy has none.
NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
     3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
     2.84423683343917062e3),
)  # fmt: skip
FAR = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
     2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
     1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
     1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3,
     1.23033935480374942e3),
)  # fmt: skip


def erf(x: Array) -> NDArray[np.float64]:
    """The error function, to about 1e-15; beyond 6 it is 1."""
    x = np.asarray(x, np.float64)
    size = np.abs(x)
    low = np.minimum(size, 0.5) ** 2
    small = x * np.polyval(NEAR[0], low) / np.polyval(NEAR[1], low)
    high = np.clip(size, 0.46875, 6.0)
    large = np.exp(-high * high) * np.polyval(FAR[0], high) / np.polyval(FAR[1], high)
    found: NDArray[np.float64] = np.where(size <= 0.46875, small, np.copysign(1.0 - large, x))
    return np.where(np.isnan(x), x, found)
