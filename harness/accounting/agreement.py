"""Whether a place computes what the model does there, on values that were drawn for it."""

from __future__ import annotations

import numpy as np

from harness.accounting.fingerprint import plain
from harness.accounting.interface import Array

# In parts of the largest element of a trial. All is computed in float64, one place at a time, so
# what is left is constants that were folded in float32: on clean builds of eleven models up to
# 1.3e-7. The rest is room for other models.
TOLERANCE = 2e-6


def alike(expected: Array, got: Array) -> bool:
    return worst(expected, got) is None


def worst(expected: Array, got: Array) -> tuple[int, int] | None:
    """(trial, element) where they differ most; None: nowhere, but for rounding. What the model
    makes no number of may be anything.
    """
    a, b = plain(expected), plain(got)
    if a.shape != b.shape:
        return (0, 0)
    if not a.size:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        off = a - b
        np.abs(off, out=off)
        size = np.maximum(a.max(axis=1), -a.min(axis=1))
        if (off.max(axis=1) <= TOLERANCE * size).all():  # not where there is a NaN
            return None
        fine = np.isfinite(a)
        size = np.abs(np.where(fine, a, 0)).max(axis=1, keepdims=True)
        off = np.where(fine, np.where(np.isnan(off), np.inf, off), 0)
    over = off > TOLERANCE * size
    if not over.any():
        return None
    share = np.where(over, off / np.maximum(size, 1e-300), 0)
    at = int(np.argmax(share))
    return at // a.shape[1], at % a.shape[1]
