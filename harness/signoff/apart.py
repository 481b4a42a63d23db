"""The largest set of makers of a stage no two of whom are one builder. Pure.

A run joins builders by chains: A and B by their bytes, B and C by their publisher. Here that would
not do: a statement that somebody leaves out could break a chain, and a refusal would become a pass.
So only pairs count, and the set is one in which *every* pair is apart: another statement can make
it larger, never smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.components import Profile
from harness.independence import responsible, shared
from harness.models import SharedPair


@dataclass(frozen=True)
class Maker:
    """Who made a stage: a builder's toolchain, or a replayer with which the builder made it again.

    ``builder``: whose word it is, so no two of one builder are apart. ``contents``: the artifact's
    name → sha256, of the whole stage. ``file``: the statement, for messages.
    """

    builder: str
    file: str
    profile: Profile
    contents: Mapping[str, str]

    @cached_property
    def name(self) -> str:
        return f"{self.builder} ({self.profile.origin.toolchain})"


class Pairs:
    """What two profiles share, computed once for each two, however many stages ask."""

    def __init__(self) -> None:
        # With the profiles, so that no other ones get their ids.
        self._known: dict[tuple[int, int], tuple[SharedPair, Profile, Profile]] = {}

    def same(self, left: Profile, right: Profile, stage: str) -> tuple[str, ...]:
        """The components responsible for ``stage`` in which the two are one builder."""
        key = id(left), id(right)
        if key not in self._known:
            self._known[key] = shared(left, right), left, right
        same = self._known[key][0].same_builder
        return tuple(name for name in responsible(stage) if name in same)


def largest(
    makers: Sequence[Maker], apart: Callable[[Maker, Maker], bool], enough: int
) -> list[Maker]:
    """A largest set of which every two are apart, or one of ``enough``.

    ``apart``: whether two count as two; of one builder, never. The time grows with the power of the
    number of builders in the worst case; there are a few of them.
    """
    best: list[Maker] = []

    def extend(chosen: list[Maker], rest: list[Maker]) -> None:
        nonlocal best
        if len(chosen) > len(best):
            best = chosen
        while rest and len(best) < enough:
            if len(chosen) + len({maker.builder for maker in rest}) <= len(best):
                return
            first, *rest = rest
            extend([*chosen, first], [each for each in rest if apart(first, each)])

    extend([], list(makers))
    return best
