"""Values that no input of a run led to: drawn for one place of a program, to try it there.

A place that only adds and multiplies by constants is tried once, with random numbers. One that
decides is tried with numbers of several sizes, each element with either sign, and with the numbers
around every constant that occurs there. Of a large tensor only some elements are tried near
constants, and none with numbers of more than two sizes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.accounting.interface import Array
from harness.accounting.ranges import Range

T = TypeVar("T", bound=np.generic)
POOL = 1_048_583  # a prime, so that no dimension of a tensor is in step with it
SCALES = (1e-3, 1e3, 1e6)  # beside 1 and LARGE
# An exponential of the greater is more than a float64 holds, unless the maximum is taken off first.
CURVED_SCALES = (300.0, 3.0, 0.01)
LARGE = 30.0
STEEP = 3.0  # far beyond, a curve is flat, or more than a float
SLIGHT = 0.01  # here what keeps a division from being one by zero is of weight
MOST_NUMBERS = 48
FEW = 6  # constants of which pairs are combined
MOST_TRIALS = 40
SAMPLES = 2048  # so many of a small tensor, over all trials
WIDE = 256  # elements by which each number around a constant is tried at once
ELEMENTS = 2**20  # over all trials and all values of a place, if there are no more trials needed
MOST_ELEMENTS = 2**22  # beyond, there are two trials
ABOUT = 0.8  # of the elements of a trial are near constants
FEW_ABOUT = 0.1  # the same of a large tensor
NEAR = 1e-3
HUGE = 1e30  # what maxima are padded with is greater, and no number to try


@dataclass(frozen=True)
class Trial:
    """``size``: of random numbers. ``about``: what ``share`` of the elements are instead.
    ``signed``: each has the other sign than in the trial before.
    """

    size: float
    about: tuple[float, ...] = ()
    share: float = 0.0
    signed: bool = False


@dataclass(frozen=True)
class Plan:
    seed: int
    trials: tuple[Trial, ...]


def linear(seed: int) -> Plan:
    return Plan(seed, (Trial(1.0),))


def smooth(seed: int, work: int) -> Plan:
    """Of a large tensor, numbers of one size."""
    if work > ELEMENTS:
        return linear(seed)
    return Plan(seed, (Trial(STEEP), Trial(SLIGHT)))


def deciding(seed: int, numbers: Iterable[float], work: int, width: int, curved: bool) -> Plan:
    """numbers: the constants of the place. work: elements of all its values; width: of its
    smallest border. curved: whether there are exponentials and the like.
    """
    groups = grouped(numbers)
    if work * (2 + len(groups)) > MOST_ELEMENTS:
        small = tuple(x for group in groups for x in group if abs(x) <= LARGE)
        large = tuple(x for group in groups for x in group if abs(x) > LARGE) or small
        return Plan(
            seed, (Trial(1.0, small, FEW_ABOUT), Trial(LARGE, large, FEW_ABOUT, signed=True))
        )
    trials = [Trial(1.0), Trial(LARGE, signed=True)]
    room = max(ELEMENTS // max(work, 1), len(groups) + len(trials))
    # A small tensor has fewer elements to be tried with one number each.
    repeats = min(-(-WIDE // max(width, 1)), 8)
    near = [group for _ in range(repeats) for group in groups][: room - len(trials)]
    trials += [Trial(max(map(abs, group)), group, ABOUT) for group in near]
    scales = CURVED_SCALES if curved else SCALES
    trials += [Trial(scale) for scale in scales[: max(room - len(trials), 0)]]
    more = min(room, MOST_TRIALS, -(-SAMPLES // max(width, 1))) - len(trials)
    if more > 0:
        rng = np.random.default_rng([seed, more])
        powers = rng.uniform(-2, 1.5 if curved else 4, more)
        trials += [Trial(float(10**power)) for power in powers]
    return Plan(seed, tuple(trials))


def grouped(numbers: Iterable[float]) -> list[tuple[float, ...]]:
    """The numbers around each, those of about the same size together: beside a large one, what
    happens to a small one does not show.
    """
    kept = sorted({x for x in numbers if math.isfinite(x) and abs(x) <= HUGE}, key=abs)
    if len(kept) <= FEW:  # what is compared may be scaled and shifted before
        pairs = list(itertools.permutations(kept, 2))
        made = (
            {a - b for a, b in pairs} | {a / b for a, b in pairs if b} | {a + b for a, b in pairs}
        )
        kept = sorted({*kept, *(x for x in made if abs(x) <= HUGE)}, key=abs)
    kept = kept[:: -(-len(kept) // MOST_NUMBERS)] if kept else kept
    groups: dict[int, set[float]] = {}
    for x in {0.0, *kept}:
        decade = math.floor(math.log10(abs(x))) if x else 0
        step = abs(x) * NEAR or NEAR
        # No halves: what rounds a tie of scaled numbers may round either way.
        about = {
            x,
            x + step,
            x - step,
            x - 10 * step,
            x + 10 * step,
            -x,
            x * 1.4,
            x * 0.4,
        }  # no halves: ties round as they like
        if 0 <= decade < 3:
            about |= {x + 1, x - 1}
        groups.setdefault(decade // 3, set()).update(about)
    ordered = [sorted(groups[at]) for at in sorted(groups, key=abs)]
    return [
        tuple(sorted({*about, *((a + b) / 2 for a, b in itertools.pairwise(about))}))
        for about in ordered
    ]


@dataclass(frozen=True)
class Draw:
    """The values of one root in a plan. ``label``: the same for the same root, in each run."""

    plan: Plan
    label: int
    size: int
    kind: str  # numpy's letter
    range: Range

    def values(self, dtype: np.dtype[np.generic]) -> Array:
        """``(trials, size)``."""
        low, high = self.range
        rng = np.random.default_rng([self.plan.seed, self.label])
        normal, number = pools(self.plan.seed)
        place = np.empty(0, np.uint16)
        if any(trial.about for trial in self.plan.trials):
            place = np.empty(self.size, np.uint16)
            copy(number, int(rng.integers(POOL)), place)
            if self.size < WIDE:  # each number once, or nearly
                place = rng.permutation(self.size).astype(np.uint16) + place[0]
        whole = self.kind in "iu" and math.isfinite(low) and math.isfinite(high)
        rows = np.empty((len(self.plan.trials), self.size))
        for at, (trial, row) in enumerate(zip(self.plan.trials, rows, strict=True)):
            if whole:
                row[:] = rng.integers(int(low), int(high), self.size, endpoint=True)
            else:
                copy(normal, int(rng.integers(POOL)), row)
                row *= trial.size * rng.choice([-1.0, 1.0])
            if trial.signed:
                np.copysign(row, -rows[at - 1], out=row)
            if trial.about:
                self.near(trial, place, at, row)
        if self.kind == "b":
            return rows > 0
        if self.kind in "iu":
            limits = np.iinfo(dtype.str)
            return np.clip(np.rint(rows), max(low, limits.min), min(high, limits.max)).astype(dtype)
        return self.inside(rows)

    def near(
        self, trial: Trial, place: NDArray[np.uint16], at: int, row: NDArray[np.float64]
    ) -> None:
        """Puts the numbers of a trial in the place of some elements."""
        low, high = self.range
        fit = np.array([x for x in trial.about if low <= x <= high] or [self.middle()])
        chosen = np.flatnonzero((place < trial.share * 2**16) | (self.size < WIDE))
        row[chosen] = fit[(place[chosen] + np.uint16(at)) % np.uint16(len(fit))]

    def middle(self) -> float:
        low, high = self.range
        if math.isfinite(low) and math.isfinite(high):
            return (low + high) / 2
        return low + 1 if math.isfinite(low) else high - 1 if math.isfinite(high) else 0.0

    def inside(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """What lies outside the range, folded back into it."""
        low, high = self.range
        if low == 0 and not math.isfinite(high):
            return np.abs(rows, out=rows)
        if not math.isfinite(low) and not math.isfinite(high):
            return rows
        if ((rows >= low) & (rows <= high)).all():
            return rows
        if not math.isfinite(high):
            return np.where(rows < low, low + np.abs(rows - low), rows)
        if not math.isfinite(low):
            return np.where(rows > high, high - np.abs(rows - high), rows)
        if high == low:
            return np.full_like(rows, low)
        # To and fro between the ends.
        width = high - low
        phase = np.mod(rows - low, 2 * width)
        return low + np.where(phase > width, 2 * width - phase, phase)


@lru_cache(maxsize=1)
def pools(seed: int) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """Normal numbers and integers, of which each draw has a stretch from another place."""
    rng = np.random.default_rng([seed])
    return rng.standard_normal(POOL), rng.integers(0, 2**16, POOL, np.uint16)


def copy(pool: NDArray[T], start: int, into: NDArray[T]) -> None:
    """As much of a pool as there is room for, over and over, from a place on."""
    done = 0
    while done < len(into):
        part = pool[start : start + len(into) - done]
        into[done : done + len(part)] = part
        done += len(part)
        start = 0
