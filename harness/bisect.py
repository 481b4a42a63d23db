"""Which variation makes the repeats of one toolchain differ.

Delta debugging after Zeller (Yesterday, my program worked. Today, it does not. Why?, 1999): the
recursion below finds a set of variations that makes the difference and of which no part does.
Every step is a real build.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.models import Variation
from harness.variations import differing, mixed

MAX_BUILDS = 32


@dataclass(frozen=True)
class Cause:
    """``variations`` is empty where the result differs although nothing was varied."""

    variations: tuple[str, ...]
    builds: int
    detail: str


class _OutOfBuildsError(Exception):
    pass


def find_cause(
    control: Variation, varied: Variation, differs: Callable[[Variation], bool]
) -> Cause:
    """Find what makes a build under ``varied`` differ from the one under ``control``.

    The cause found is tried once more on its own before it is named. Where more variations never
    undo a difference, no part of it would do, and no difference escapes.

    ``differs`` builds under the given surroundings and tells whether the result differs from the
    control's. At most MAX_BUILDS builds are made.
    """
    builds = 0

    def changed(names: tuple[str, ...]) -> bool:
        nonlocal builds
        if builds >= MAX_BUILDS:
            raise _OutOfBuildsError
        builds += 1
        return differs(mixed(f"bisect-{builds}", control, varied, names))

    names = differing(control, varied)
    try:
        if changed(()):
            return Cause((), builds, "differs with nothing varied: chance, time or hidden state")
        if not changed(names):
            return Cause((), builds, "does not differ every time: intermittent")
        found = _smallest(names, (), changed)
        if not changed(found):
            return Cause((), builds, "does not differ every time: intermittent")
    except _OutOfBuildsError:
        return Cause(names, builds, f"not narrowed down within {MAX_BUILDS} builds")
    ordered = tuple(name for name in names if name in found)
    return Cause(ordered, builds, f"differs when {' and '.join(ordered)} vary")


def _smallest(
    suspects: tuple[str, ...], fixed: tuple[str, ...], changed: Callable[[tuple[str, ...]], bool]
) -> tuple[str, ...]:
    if len(suspects) <= 1:
        return suspects
    middle = len(suspects) // 2
    left, right = suspects[:middle], suspects[middle:]
    if changed((*left, *fixed)):
        return _smallest(left, fixed, changed)
    if changed((*right, *fixed)):
        return _smallest(right, fixed, changed)
    # only together: one half is narrowed down with the other held varied, then the other with
    # what is left of the first, so that the two parts found belong to one cause
    needed = _smallest(left, (*right, *fixed), changed)
    return (*needed, *_smallest(right, (*needed, *fixed), changed))
