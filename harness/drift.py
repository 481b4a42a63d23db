"""How far apart two sets of outputs are: in units in the last place, absolutely, and in labels.

Pure arithmetic on arrays. The distance in ULP of two floating-point numbers is how many
representable numbers one has to step over to get from one to the other: 0 for equal numbers and
for the two zeros. Of integers it is their difference.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.models import Strict

Array = np.ndarray[Any, Any]
MAX_LABEL_RANK = 2  # (batch, classes); beyond that a last axis is no list of classes


@dataclass(frozen=True)
class Drift:
    """What is between two sets of outputs.

    ``incomparable``: elements of which one alone is not a number, or infinite, or which are
    infinite with different signs; they count in nothing else but ``differing``. ``labels``: how
    many rows of outputs of rank 1 or 2 have a largest element; ``flips``: in how many of these it
    is another one. ``max_abs`` is at most the largest double.
    """

    __pydantic_config__ = Strict

    elements: int = 0
    differing: int = 0
    incomparable: int = 0
    max_ulp: int = 0
    max_abs: float = 0.0
    labels: int = 0
    flips: int = 0

    @property
    def none(self) -> bool:
        return not self.differing


def between(left: Sequence[Sequence[Array]], right: Sequence[Sequence[Array]]) -> Drift:
    """Over all outputs of all cases. Raises ValueError where shapes, types or counts differ."""
    total = Drift()
    for one, other in zip(left, right, strict=True):
        if len(one) != len(other):
            raise ValueError(f"{len(one)} outputs against {len(other)}")
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            if a.dtype != b.dtype:
                raise ValueError(f"output {index} is of {a.dtype} against {b.dtype}")
            if a.shape != b.shape:
                raise ValueError(f"output {index} has shape {a.shape} against {b.shape}")
            total = _sum(total, of(a, b))
    return total


def of(left: Array, right: Array) -> Drift:
    """Between two arrays of one shape and type: floating-point, integer or boolean."""
    distance, comparable = ulps(left, right)
    differing = int(np.count_nonzero(distance[comparable])) + int(np.count_nonzero(~comparable))
    labels, flips = _labels(left, right)
    return Drift(
        elements=left.size,
        differing=differing,
        incomparable=int(np.count_nonzero(~comparable)),
        max_ulp=int(distance[comparable].max(initial=0)),
        max_abs=_max_abs(left[comparable], right[comparable]),
        labels=labels,
        flips=flips,
    )


def ulps(left: Array, right: Array) -> tuple[Array, Array]:
    """(distances as unsigned 64-bit integers, which of them mean something), elementwise.

    Two values that are not a number are equal, whatever their bits.
    """
    if left.dtype.kind in "biu":
        kind = np.uint64 if left.dtype.kind in "bu" else np.int64
        a, b = left.astype(kind), right.astype(kind)
        # Unsigned arithmetic wraps round, so the difference is exact even across all 64 bits.
        up, down = b.view(np.uint64) - a.view(np.uint64), a.view(np.uint64) - b.view(np.uint64)
        return np.where(a <= b, up, down), np.ones(left.shape, bool)
    if left.dtype.kind != "f" or left.dtype.itemsize > 8:
        raise ValueError(f"no distance is known between values of {left.dtype}")
    bits = np.dtype(f"u{left.dtype.itemsize}")
    top = bits.type(1) << bits.type(8 * bits.itemsize - 1)
    a, b = np.ascontiguousarray(left).view(bits), np.ascontiguousarray(right).view(bits)
    a, b = a.reshape(left.shape), b.reshape(right.shape)
    size = [(side & ~top).astype(np.uint64) for side in (a, b)]
    with np.errstate(over="ignore"):  # of the branch that is not taken
        apart = np.where(size[0] > size[1], size[0] - size[1], size[1] - size[0])
    distance = np.where((a & top) == (b & top), apart, size[0] + size[1])
    both_nan = np.isnan(left) & np.isnan(right)
    distance = np.where(both_nan, np.uint64(0), distance)
    finite = np.isfinite(left) & np.isfinite(right)
    return distance, finite | both_nan | (left == right)


def _max_abs(left: Array, right: Array) -> float:
    if not left.size:
        return 0.0
    with np.errstate(all="ignore"):
        if left.dtype.kind in "biu":
            return float(ulps(left, right)[0].max())
        apart = np.abs(left.astype(np.float64) - right.astype(np.float64))
    # Where both are infinite, or no number, there is no difference to speak of.
    apart = np.where(np.isnan(apart), 0.0, apart)
    return min(float(apart.max()), sys.float_info.max)


def _labels(left: Array, right: Array) -> tuple[int, int]:
    if not 1 <= left.ndim <= MAX_LABEL_RANK or left.shape[-1] < 2 or left.dtype.kind == "b":
        return 0, 0
    a, b = left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1])
    return a.shape[0], int(np.count_nonzero(a.argmax(axis=1) != b.argmax(axis=1)))


def _sum(one: Drift, other: Drift) -> Drift:
    return Drift(
        elements=one.elements + other.elements,
        differing=one.differing + other.differing,
        incomparable=one.incomparable + other.incomparable,
        max_ulp=max(one.max_ulp, other.max_ulp),
        max_abs=max(one.max_abs, other.max_abs),
        labels=one.labels + other.labels,
        flips=one.flips + other.flips,
    )
