"""Distances between outputs: what is one step, what is none, what is no distance at all."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.drift import Drift, between, of, ulps

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def one(kind: str, left: Any, right: Any) -> Drift:
    return of(np.array([left], kind), np.array([right], kind))


@pytest.mark.parametrize("kind", FLOATS)
def test_the_next_number_is_one_step_away(kind: str) -> None:
    dtype = np.dtype(kind).type
    for value in (0.0, 1.0, -1.0, 1.5, -0.25, float(np.finfo(dtype).max)):
        near = np.nextafter(dtype(value), dtype(0.5))
        assert one(kind, value, near).max_ulp == 1, value
        assert one(kind, near, value).max_ulp == 1, value


@pytest.mark.parametrize("kind", FLOATS)
def test_the_two_zeros_are_equal_and_denormals_count_across_them(kind: str) -> None:
    smallest = np.finfo(kind).smallest_subnormal
    assert one(kind, 0.0, -0.0) == Drift(elements=1)
    assert one(kind, smallest, 0.0).max_ulp == 1
    assert one(kind, smallest, -0.0).max_ulp == 1
    assert one(kind, smallest, -smallest).max_ulp == 2
    # From the largest denormal to the smallest normal number is one step as well.
    normal = np.finfo(kind).tiny
    assert one(kind, normal, np.nextafter(normal, np.dtype(kind).type(0))).max_ulp == 1


@pytest.mark.parametrize("kind", FLOATS)
def test_numbers_that_are_none_are_equal_to_each_other_only(kind: str) -> None:
    nan, inf = float("nan"), float("inf")
    assert one(kind, nan, nan) == Drift(elements=1)
    assert one(kind, inf, inf) == Drift(elements=1)
    odd = Drift(elements=1, differing=1, incomparable=1)
    for left, right in ((nan, 1.0), (nan, inf), (inf, -inf), (inf, 1.0), (1.0, -inf)):
        assert one(kind, left, right) == odd
        assert one(kind, right, left) == odd


def test_the_bits_of_what_is_no_number_do_not_matter() -> None:
    bits = np.array([0x7FC00000, 0xFFC12345, 0x7F800001], np.uint32).view(np.float32)
    assert between([[bits]], [[bits[::-1]]]).none


def test_the_whole_range_of_a_type_is_exact() -> None:
    top = np.finfo(np.float64).max
    whole = 2 * int(np.array(top).view(np.uint64))
    drift = one("float64", top, -top)
    assert drift.max_ulp == whole
    assert drift.max_abs == sys.float_info.max
    assert one("float16", 65504, -65504).max_ulp == 2 * 0x7BFF
    for kind in INTEGERS:
        least, most = np.iinfo(kind).min, np.iinfo(kind).max
        assert one(kind, least, most).max_ulp == most - least
        assert one(kind, most, least).max_abs == float(most - least)
    assert one("bool", True, False) == Drift(elements=1, differing=1, max_ulp=1, max_abs=1.0)


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_differ_by_their_difference(kind: str) -> None:
    drift = one(kind, 7, 100)
    assert (drift.max_ulp, drift.max_abs) == (93, 93.0)


@pytest.mark.parametrize("kind", FLOATS)
def test_it_agrees_with_stepping(kind: str) -> None:
    """Eleven steps by nextafter, across zero."""
    dtype = np.dtype(kind).type
    value = start = dtype(-5) * np.finfo(kind).smallest_subnormal
    for _ in range(11):
        value = np.nextafter(value, dtype(1))
    assert one(kind, start, value).max_ulp == 11


@given(hnp.arrays("float32", 12), hnp.arrays("float32", 12))
def test_it_is_a_distance(left: Any, right: Any) -> None:
    there, meaning = ulps(left, right)
    back, same_meaning = ulps(right, left)
    assert (there == back).all()
    assert (meaning == same_meaning).all()
    equal = (left == right) | (np.isnan(left) & np.isnan(right))
    assert ((there == 0) & meaning == equal).all()
    assert of(left, left).none
    assert of(left, right).differing == int((~equal).sum())


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2))
def test_integers_of_64_bits_are_exact(pair: list[int]) -> None:
    assert one("int64", *pair).max_ulp == abs(pair[0] - pair[1])


def test_labels_flip_where_another_element_is_the_largest() -> None:
    left = np.array([[0.1, 0.9], [0.6, 0.4], [0.5, 0.5]], np.float32)
    right = np.array([[0.2, 0.8], [0.4, 0.6], [0.5, 0.5]], np.float32)
    drift = of(left, right)
    assert (drift.labels, drift.flips) == (3, 1)
    assert (drift.elements, drift.differing) == (6, 4)
    assert drift.max_abs == pytest.approx(0.2)
    # An image has no labels, nor has a single number.
    assert of(np.zeros((1, 1, 4, 4)), np.ones((1, 1, 4, 4))).labels == 0
    assert of(np.array(1.0), np.array(2.0)).labels == 0
    assert of(np.zeros((2, 1)), np.ones((2, 1))).labels == 0


def test_cases_and_outputs_add_up() -> None:
    a, b = np.array([1.0, 2.0]), np.array([1.0, 2.5])
    total = between([[a, a], [a, b]], [[a, b], [a, b]])
    assert (total.elements, total.differing, total.max_abs) == (8, 1, 0.5)
    assert (total.labels, total.flips) == (4, 0)
    assert between([[np.zeros(0)]], [[np.zeros(0)]]) == Drift()


def test_layout_does_not_matter() -> None:
    """Transposed and sliced arrays are compared element by element."""
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert of(a.T, np.ascontiguousarray(a.T)).none
    assert of(a[:, ::2], a[:, ::2].copy()).none
    assert of(a.T, (a + 1).T).differing == 12


def test_what_cannot_be_compared_is_refused() -> None:
    a = np.zeros(2, np.float32)
    for other in (np.zeros(2, np.float64), np.zeros(3, np.float32), np.zeros((1, 2), np.float32)):
        with pytest.raises(ValueError, match="output 0"):
            between([[a]], [[other]])
    with pytest.raises(ValueError, match="outputs"):
        between([[a]], [[a, a]])
    with pytest.raises(ValueError, match="shorter"):
        between([[a], [a]], [[a]])
    with pytest.raises(ValueError, match="complex"):
        of(np.zeros(1, complex), np.zeros(1, complex))
