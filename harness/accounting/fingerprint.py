"""Which values are equal: a fingerprint finds candidates, all elements decide.

A value is an array over all trials, ``(trials, *shape)``. Two values are equal if their elements
are, in flattened order, whatever their shapes; by more than ``TOLERANCE`` of the largest element
none may differ.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Lowered programs are interpreted in float64, so what is left is constants folded in float32: on
# clean builds of six models up to 2.5e-7 of the largest element, and a value that is equal goes
# on as the model's own, so that it does not add up. The rest is room for other models. What it
# can hide is a change of weights or of small elements by less than this: weights are held bit by
# bit elsewhere. It cannot hide a decision, for these are counted, whatever they are worth on
# random inputs.
TOLERANCE = 5e-6
ALIKE = 1e-7  # values of the model itself: what an epsilon is added to stays what it was
MARKS = 2  # projections of each trial
FOLD = 2**14  # elements that are projected: longer values are folded first
ROOM = 8  # how many standard deviations a projection of equal values may be off
SEED = 0x5EED
LARGEST = float(np.finfo(np.float32).max)  # what maxima are padded with, for minus infinity


@dataclass(frozen=True)
class Fingerprint:
    """``marks``: projections of each trial on random directions of unit length per element."""

    size: int
    scale: float
    marks: tuple[float, ...]


@lru_cache(maxsize=64)
def directions(size: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng([SEED, size]).standard_normal((MARKS, size), np.float32)
    drawn /= np.float32(np.sqrt(size))
    return drawn


def plain(values: Array) -> NDArray[np.float64]:
    """As float64, a row for each trial."""
    rows = np.asarray(values, dtype=np.float64)
    return rows.reshape(len(rows), -1)


def fingerprint(values: Array) -> Fingerprint:
    rows = plain(values)
    low, high = float(rows.min(initial=0.0)), float(rows.max(initial=0.0))
    finite = rows
    if not math.isfinite(low) or not math.isfinite(high):  # a NaN makes both NaN
        finite = np.nan_to_num(rows, posinf=1e30, neginf=-1e30)
        low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    scale = max(-low, high)
    if not rows.size:
        return Fingerprint(rows.shape[1], scale, ())
    flat = folded(finite)
    marks = flat @ directions(flat.shape[1]).T
    return Fingerprint(rows.shape[1], scale, tuple(marks.ravel().tolist()))


def folded(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Long rows laid in layers and added up; a last, partial layer is left out."""
    layers = rows.shape[1] // FOLD
    if layers < 2:
        return rows
    whole = rows[:, : layers * FOLD].reshape(len(rows), layers, FOLD)
    found: NDArray[np.float64] = whole.mean(axis=1)
    return found


def near(one: Fingerprint, other: Fingerprint, tolerance: float = TOLERANCE) -> bool:
    """Whether they can be of equal values. A yes is no proof."""
    if one.size != other.size or len(one.marks) != len(other.marks):
        return False
    room = ROOM * tolerance * max(one.scale, other.scale)
    return all(abs(a - b) <= room for a, b in zip(one.marks, other.marks, strict=True))


def apart(one: Array, other: Array) -> float:
    """The largest difference of elements, in parts of the largest element of its trial."""
    a, b = plain(one), plain(other)
    if a.shape != b.shape:
        return math.inf
    return max((apart_once(x, y) for x, y in zip(a, b, strict=True)), default=0.0)


def apart_once(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Of one trial. What is not finite has to be the same."""
    with np.errstate(invalid="ignore"):  # infinities, looked at below
        largest, off = extent(a), extent(a - b)
    if not math.isfinite(largest) or not math.isfinite(off):
        finite = np.isfinite(a)
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return math.inf
        a, b = a[finite], b[finite]
        largest, off = extent(a), extent(a - b)
        if not math.isfinite(off):
            return math.inf
    if largest == 0:
        return math.inf if off > 0 else 0.0
    return off / largest


def extent(values: NDArray[np.float64]) -> float:
    """The largest absolute value; a NaN if there is one. Copies nothing."""
    if not values.size:
        return 0.0
    low, high = float(values.min()), float(values.max())
    return math.nan if math.isnan(low) or math.isnan(high) else max(0.0, -low, high)


def same(one: Array, other: Array, tolerance: float = TOLERANCE) -> bool:
    return apart(one, other) <= tolerance


def idle(values: Array) -> bool:
    """Whether it is the same in all trials, and so tells nothing of what it depends on."""
    rows = plain(values)
    if not extent(rows) < LARGEST:  # by which nothing else would be of any size
        rows = np.where(np.abs(rows) == LARGEST, 0.0, rows)
    return len(rows) < 2 or all(same(rows[:1], rows[i : i + 1], 1e-9) for i in range(1, len(rows)))


def place_of(values: Array) -> tuple[int, int, str] | None:
    """Where its elements lie, in order. Two arrays in use with one place are of equal elements."""
    if not values.flags.c_contiguous or not values.size:
        return None
    return values.__array_interface__["data"][0], values.nbytes, values.dtype.str


class Values:
    """Values by number, to be found again by what they are."""

    def __init__(self) -> None:
        self.known: dict[int, list[tuple[Fingerprint, Array, int]]] = defaultdict(list)
        self.places: dict[tuple[int, int, str], tuple[Array, int]] = {}

    def add(self, values: Array, number: int, mark: Fingerprint | None = None) -> None:
        mark = mark or fingerprint(values)
        self.known[mark.size].append((mark, values, number))
        if (place := place_of(values)) is not None:
            values.flags.writeable = False
            self.places[place] = values, number

    def held(self, values: Array) -> tuple[Array, int] | None:
        """The known value whose memory this very array is a view of, and its number."""
        place = place_of(values)
        return None if place is None else self.places.get(place)

    def nearest(
        self, values: Array, tolerance: float, mark: Fingerprint | None = None
    ) -> tuple[Array, int, float] | None:
        """The nearest value, its number, and how far it is: a model may hold values that differ
        by little.
        """
        if (held := self.held(values)) is not None:
            return *held, 0.0
        mark = mark or fingerprint(values)
        found: tuple[Array, int, float] | None = None
        for other, known, number in self.known.get(mark.size, []):
            if not near(mark, other, tolerance):
                continue
            distance = apart(known, values)
            if distance <= (tolerance if found is None else found[2]):
                found = known, number, distance
            if distance == 0:
                break
        return found

    def find(self, values: Array, tolerance: float = TOLERANCE) -> int | None:
        """The number of the nearest value that is equal."""
        found = self.nearest(values, tolerance)
        return None if found is None else found[1]

    def settled(self, values: Array) -> Array:
        """The known value that this one is equal to, in its shape and type; else this one.

        To go on with what was found equal keeps small differences from adding up, and holds the
        value in memory once.
        """
        found = self.nearest(values, TOLERANCE)
        if found is None or found[0].dtype != values.dtype:
            return values
        return found[0].reshape(values.shape)
