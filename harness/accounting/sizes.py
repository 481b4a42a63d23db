"""Rounding that no decision shows: by values too large or too small, or by what cancels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.accounting.cones import Cone, Cones
from harness.accounting.fingerprint import LARGEST, extent, plain
from harness.accounting.interface import Array, Choice, Step

ABSORBING = 2.0**18  # float32 has 24 bits
SAME = "the same for all random inputs, though it is computed from values that vary"
TINY = 2.0**-102  # of float32, below 2 ** -126, fewer
COARSE = 2.0**-8  # by which large elements are changed, to see whether the result is made of them
UNCHANGED = 2.0**-40  # of the largest; all is computed in float64


class Sizes:
    def __init__(self, cones: Cones) -> None:
        self.cones = cones
        self.extents: dict[int, float] = {}

    def rounding(self, cone: Cone) -> Iterator[tuple[Step, str]]:
        """Adding a large number and taking it away again rounds, but not in float64; nor does
        making numbers so small that float32 holds few bits of them, and large again.
        """
        ends = [self.largest(key) for key in (*cone.borders, cone.key)]
        curved = any(one.choice is Choice.CURVE for step in cone.steps for one in step.decisions)
        for step in cone.steps:
            if step.result in self.cones.classes or step.result not in self.cones.moving:
                continue
            if self.cones.trace.values[step.result].dtype.kind in "iu":
                continue  # integers wrap, here as in the build, but they never round
            value = self.cones.trace.values[step.result]
            large = ABSORBING * max(ends)
            if self.largest(step.result) > large > 0 and not self.left_out(
                cone, step, otherwise(value, large)
            ):
                yield step, ("round: a value so large that what is added to it is rounded")
            elif (
                self.vanishing(step, curved)
                and min(ends) > TINY
                and not self.left_out(cone, step, without(value))
            ):
                yield step, ("round: a value so small that few of its bits are left")

    def left_out(self, cone: Cone, step: Step, changed: Array) -> bool:
        """Whether the cone yields the same where a step of it makes other values than it does.

        Then nothing of what was changed is in the result, let alone its last bits: as of the
        exponential in the half of an Elu that is not taken.
        """
        trace = self.cones.trace
        values = {step.result: changed}
        for other in cone.steps:
            if other.result in values or not any(key in values for key in other.operands):
                continue
            again = trace.again.get(other.result)
            if again is None:
                return False
            given = {key: values.get(key, trace.values[key]) for key in other.operands}
            try:
                with np.errstate(all="ignore"):
                    made = again.compute(given, len(changed))
            except Exception:  # numpy raises what it likes, and then nothing is shown
                return False
            values.update(zip(again.results, made, strict=True))
        expected, got = plain(trace.values[cone.key]), values.get(cone.key)
        if got is None:
            return False
        got = plain(np.broadcast_to(got, trace.values[cone.key].shape))
        with np.errstate(invalid="ignore"):
            off = np.where(got == expected, 0, np.abs(got - expected))
            most = extent(expected[np.isfinite(expected)])
            return bool((off <= UNCHANGED * most).all())

    def cancelling(self, cone: Cone) -> Iterator[tuple[Step, str]]:
        """What is linear in data that vary, and does not vary, takes away what it adds.

        Values that are off by little go on here as the same, so that nothing shows of their
        difference, however much it is made of afterwards.
        """
        for step in cone.steps:
            if step.result in self.cones.idle and not step.decisions:
                given = [key for key in step.operands if key in self.cones.moving]
                if len(given) > 1 and not any(key in self.cones.idle for key in given):
                    yield step, SAME

    def vanishing(self, step: Step, curved: bool) -> bool:
        """Whether an element is too small for float32 in all trials, and not just zero. Behind a
        curve, or a constant with such elements, that is usual: then whether all of them are.
        """
        if 0 < self.largest(step.result) < TINY:
            return True
        values = self.cones.trace.values
        if curved or values[step.result].dtype.kind != "f":
            return False
        if any(tiny(values[key][:1]) for key in step.operands if key not in self.cones.moving):
            return False
        return tiny(plain(values[step.result]))

    def largest(self, key: int) -> float:
        if key not in self.extents:
            value = plain(self.cones.trace.values[key])
            found = extent(value.ravel())
            if not found < LARGEST:
                # What pads a maximum is no number to reckon with: adding to it changes nothing in
                # float64 either.
                found = extent(value[np.isfinite(value) & (np.abs(value) != LARGEST)])
            self.extents[key] = found
        return self.extents[key]


def tiny(rows: Array) -> bool:
    return bool(vanished(rows).any())


def vanished(rows: Array) -> NDArray[np.bool_]:
    """Elements that are too small in all trials, and not just zero."""
    most = np.abs(rows).max(axis=0)
    found: NDArray[np.bool_] = (most > 0) & (most < TINY)
    return found


def without(value: Array) -> Array:
    """The value, with zeros for what is too small."""
    return np.where(vanished(value), 0, value)


def otherwise(value: Array, large: float) -> Array:
    """The value, with its large elements changed by far more than a rounding."""
    with np.errstate(all="ignore"):
        size = np.abs(value)
        # What is infinite, or pads a maximum, is not counted as large either.
        at = (size > large) & (size < LARGEST)
        signs = np.where(np.arange(value.size).reshape(value.shape) % 2, COARSE, -COARSE)
        return np.where(at, value * (1 + signs), value)
