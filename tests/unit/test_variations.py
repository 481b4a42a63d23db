"""Variations: everything differs, and the same seed gives the same again."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.models import VARIED_FIELDS, Variation
from harness.variations import control, differing, draw, mixed

SEEDS = st.integers(0, 2**63 - 1)
NAMES = tuple(VARIED_FIELDS)
SUBSETS = st.lists(st.sampled_from(NAMES), unique=True)


def test_every_field_of_a_variation_can_be_switched() -> None:
    switched = [field for group in VARIED_FIELDS.values() for field in group]
    assert sorted([*switched, "name", "seed"]) == sorted(f.name for f in fields(Variation))


@settings(max_examples=25)
@given(SEEDS)
def test_first_draw_differs_from_the_control_in_everything(seed: int) -> None:
    varied = draw(seed)
    for field in fields(Variation):
        if field.name != "seed":
            assert getattr(varied, field.name) != getattr(control(), field.name), field.name


@settings(max_examples=25)
@given(SEEDS, st.integers(1, 50))
def test_later_draws_differ_in_everything_but_aslr(seed: int, number: int) -> None:
    missing = set(NAMES) - set(differing(control(), draw(seed, number)))
    assert missing == (set() if number % 2 else {"aslr"})


@settings(max_examples=25)
@given(SEEDS, st.integers(1, 50))
def test_draws_are_reproducible_and_apart(seed: int, number: int) -> None:
    assert draw(seed, number) == draw(seed, number)
    assert draw(seed, number).name != draw(seed, number + 1).name
    assert draw(seed, number).build_path != draw(seed, number + 1).build_path
    assert draw(seed + 1, number).host_name != draw(seed, number).host_name


def test_same_values_on_every_machine() -> None:
    """A recorded seed must mean the same in a year: these values may never change."""
    varied = draw(1)
    assert (varied.hash_seed, varied.uid, varied.clock) == (3659580682, 36434, 2077835266)


@settings(max_examples=25)
@given(SEEDS)
def test_values_can_be_applied(seed: int) -> None:
    varied = draw(seed)
    assert 0 < varied.hash_seed < 2**32  # what PYTHONHASHSEED takes
    assert varied.clock is not None
    assert varied.clock < 2**31
    assert len(varied.host_name) <= 64
    assert varied.uid > 1000
    assert varied.build_path.startswith("/")
    assert len({name for name, _ in varied.environment}) == len(varied.environment)


@settings(max_examples=25)
@given(SEEDS, SUBSETS)
def test_mixed_and_differing_are_inverse(seed: int, chosen: list[str]) -> None:
    varied = draw(seed)
    some = mixed("some", control(), varied, chosen)
    assert differing(control(), some) == tuple(name for name in NAMES if name in chosen)
    assert differing(some, varied) == tuple(name for name in NAMES if name not in chosen)
    assert some.name == "some"
    assert some.seed == control().seed


def test_unknown_variation_is_refused() -> None:
    with pytest.raises(KeyError):
        mixed("x", control(), draw(1), ["moon-phase"])
