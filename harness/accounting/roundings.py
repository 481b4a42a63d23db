"""What other implementations of an operator may make of the same constants, in the last bits.

Sums and products of two numbers are rounded alike everywhere; a sine or a long sum is not. How far
a table that is computed of such results may be off is found as by Monte Carlo arithmetic (D. S.
Parker, 1997): the results are moved at random by as much as a sound implementation may be off, and
the table is computed of them again, several times. What lies between the results, and a little
beyond, is the same table, rounded otherwise. Where that is more than a rounding, as close to a
pole, an element has to be bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.accounting.interface import Array

# What implementations round otherwise. Nothing that only moves, adds, multiplies, divides or takes
# roots of single numbers.
INEXACT = frozenset(
    {"Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cos", "Cosh", "CumSum", "Erf", "Exp",
     "HannWindow", "HammingWindow", "BlackmanWindow", "Log", "LogSoftmax", "MelWeightMatrix", "Pow",
     "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceSum",
     "ReduceSumSquare", "Sigmoid", "Sin", "Sinh", "Softmax", "Softplus", "Tan", "Tanh"}
)  # fmt: skip
RUNS = 16
# In units of the last place: seen were differences of one between numpy and onnxruntime.
ULPS = 2
BEYOND = 1.0  # times the width between the least and the greatest result
MOST = 2**20  # elements of one table
# Of the largest element of a table: where a rounding grows beyond that, as close to a pole, an
# element could be almost anything, and has to be bit for bit.
WIDEST = 2.0**-14

Runs = tuple[Array, ...]
Compute = Callable[[Mapping[str, Array]], Sequence[Array]]


@dataclass(frozen=True)
class Between:
    """Each element of a table lies from ``low`` to ``high``. ``what``: printable."""

    what: str
    kind: np.dtype[np.generic]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def holds(self, value: Array) -> bool:
        """Whether a constant is the table, in its order."""
        if value.dtype != self.kind or value.size != self.low.size:
            return False
        flat = value.reshape(-1).astype(np.float64)
        return bool(((flat >= self.low) & (flat <= self.high)).all())


def again(
    operator: str, results: Sequence[Array], moved: Mapping[str, Runs], compute: Compute, seed: int
) -> list[Runs] | None:
    """Each result of a node in several runs; None: it is the same everywhere, or is not followed.

    moved: those of its operands that are not the same in all runs. compute: the node, of these.
    seed: another for each node, or errors that have nothing to do with each other would cancel.
    """
    inexact = operator in INEXACT
    if not inexact and not moved:
        return None
    if any(one.dtype.kind != "f" or one.size > MOST for one in results):
        return None
    rng = np.random.default_rng(seed)
    runs = []
    for number in range(RUNS):
        made = compute({name: one[number] for name, one in moved.items()}) if moved else results
        runs.append([jolted(one, rng) if inexact else one for one in made])
    return [tuple(run[at] for run in runs) for at in range(len(results))]


def jolted(value: Any, rng: np.random.Generator) -> Array:
    """Each element moved by up to ULPS."""
    steps = rng.integers(-ULPS, ULPS + 1, value.shape)
    with np.errstate(all="ignore"):
        found: Array = np.asarray(value + steps * np.spacing(np.abs(value))).astype(value.dtype)
    return found


def between(what: str, value: Array, runs: Runs) -> Between:
    rows: NDArray[np.float64] = np.stack([value, *runs]).astype(np.float64).reshape(1 + RUNS, -1)
    exact = rows[0]
    with np.errstate(all="ignore"):
        low, high = rows.min(axis=0), rows.max(axis=0)
        room = (high - low) * BEYOND
        low, high = low - room, high + room
        largest = np.abs(exact[np.isfinite(exact)]).max(initial=0)
        fine = high - low <= WIDEST * largest  # not where one is infinite, or no number
    return Between(what, value.dtype, np.where(fine, low, exact), np.where(fine, high, exact))
