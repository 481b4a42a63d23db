"""Whether what is decided on is a value of the model, or one moved about or scaled as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.accounting.cones import Cones
from harness.accounting.fingerprint import Values, plain
from harness.accounting.interface import Array

EXACT = 1e-9


class Origins:
    def __init__(self, cones: Cones) -> None:
        self.cones = cones
        self.resting = Values()  # the model's values that are the same on all inputs drawn
        for name, value in cones.source.values.items():
            if name not in cones.source.classes:
                self.resting.add(value, 0)

    def of_the_model(self, key: int) -> bool:
        """Whether a value is one of the model's, moved about or scaled and shifted as a whole."""
        if key in self.cones.classes or key in self.cones.inputs:
            return True
        if self.cones.makers[key].decisions:
            return True  # counted, and judged for itself
        origins = list(self.nearest(key))
        rows = plain(self.cones.trace.values[key])
        if key in self.cones.idle:
            # Whatever it may be of other inputs: unless the model has it just so.
            return self.idly(key) or (
                len(origins) == 1
                and self.idly(origins[0])
                and scaled(rows, plain(self.cones.trace.values[origins[0]]))
            )
        sources = [plain(self.cones.trace.values[origin]) for origin in origins]
        if len(sources) == 1 and scaled(rows, sources[0]):
            return True
        return moved(rows, sources)

    def idly(self, key: int) -> bool:
        """Whether a value that is the same in all trials is one of the model's that is, too."""
        return self.resting.find(self.cones.trace.values[key]) is not None

    def nearest(self, key: int) -> Iterator[int]:
        """The nearest values before one that are matched, or decided."""
        seen: set[int] = set()
        waiting = list(self.cones.makers[key].operands)
        while waiting:
            at = waiting.pop()
            if at in seen or at not in self.cones.moving:
                continue
            seen.add(at)
            if (
                at in self.cones.classes
                or at not in self.cones.makers
                or self.cones.makers[at].decisions
                or (at in self.cones.idle and self.idly(at))
            ):
                yield at
            else:
                waiting += self.cones.makers[at].operands


def scaled(rows: Array, source: Array) -> bool:
    """Whether ``rows`` are a number times ``source`` plus a number."""
    if rows.shape != source.shape or not np.isfinite(rows).all() or not np.isfinite(source).all():
        return False
    x, y = source.ravel(), rows.ravel()
    middle = x - x.mean()
    weight = float(middle @ middle)
    if weight == 0:
        return False
    slope = float(middle @ y) / weight
    left = y - (slope * middle + y.mean())
    return bool(np.abs(left).max() <= EXACT * max(float(np.abs(y).max()), 1e-300))


def moved(rows: Array, sources: Sequence[Array]) -> bool:
    """Whether each element of each trial is one of the sources', or the same in all trials."""
    fixed = (rows == rows[:1]).all(axis=0)
    for trial, row in enumerate(rows):
        pool = np.concatenate([source[trial] for source in sources]) if sources else row[:0]
        if not (np.isin(row, pool) | fixed).all():
            return False
    return True
