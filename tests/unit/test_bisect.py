"""Bisection: what it names is a smallest cause, and chance is not named as one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bisect import MAX_BUILDS, find_cause
from harness.models import VARIED_FIELDS, Variation
from harness.variations import control, differing, draw, mixed

NAMES = tuple(VARIED_FIELDS)
CAUSES = st.lists(st.sets(st.sampled_from(NAMES), min_size=1), min_size=1, max_size=4)


def changes(variation: Variation) -> set[str]:
    return set(differing(control(), variation))


@given(CAUSES)
@pytest.mark.slow
def test_finds_a_smallest_cause_of_whatever_only_grows(causes: list[set[str]]) -> None:
    """Any number of causes, each of any number of variations that must come together."""

    def differs(variation: Variation) -> bool:
        return any(cause <= changes(variation) for cause in causes)

    found = find_cause(control(), draw(3), differs)
    assert differs(mixed("x", control(), draw(3), found.variations))
    for name in found.variations:
        rest = [other for other in found.variations if other != name]
        assert not differs(mixed("x", control(), draw(3), rest))
    assert set(found.variations) in causes
    assert found.builds <= MAX_BUILDS
    assert all(name in found.detail for name in found.variations)
    assert list(found.variations) == [name for name in NAMES if name in found.variations]


def test_two_causes_that_lie_crosswise_are_not_mixed_up() -> None:
    """Halving once narrowed the two sides down apart, and named a set that changes nothing."""
    causes = ({NAMES[0], NAMES[-1]}, {NAMES[1], NAMES[-2]})
    found = find_cause(control(), draw(3), lambda v: any(c <= changes(v) for c in causes))
    assert set(found.variations) in causes


def test_differing_with_nothing_varied_is_chance() -> None:
    found = find_cause(control(), draw(3), lambda _: True)
    assert (found.variations, found.builds) == ((), 1)
    assert "nothing varied" in found.detail


def test_not_differing_again_is_intermittent() -> None:
    found = find_cause(control(), draw(3), lambda _: False)
    assert (found.variations, found.builds) == ((), 2)
    assert "intermittent" in found.detail


def test_cause_that_does_not_hold_a_second_time_is_not_named() -> None:
    answers = iter([False, *[True] * 4])
    found = find_cause(control(), draw(3), lambda _: next(answers, False))
    assert found.variations == ()
    assert "intermittent" in found.detail


@given(st.integers(0, 2**32))
def test_ends_within_its_builds_whatever_is_answered(seed: int) -> None:
    source = random.Random(seed)
    seen: list[str] = []

    def differs(variation: Variation) -> bool:
        seen.append(variation.name)
        return source.random() < 0.7

    found = find_cause(control(), draw(3), differs)
    assert found.builds == len(seen) == len(set(seen)) <= MAX_BUILDS


def test_never_builds_more_than_it_may() -> None:
    """Where half of a set answers no and the whole yes, every variation is needed."""
    found = find_cause(control(), draw(3), lambda v: changes(v) == set(NAMES))
    assert found.variations == NAMES
    assert found.builds <= MAX_BUILDS
