"""Every target of ``tests/fuzz`` under Hypothesis: valid inputs, changed, and never a surprise.

A few seconds in all, and the same examples each time. ``HYPOTHESIS_PROFILE=deep`` draws many more,
and others each time; ``make fuzz`` lets coverage lead.
"""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import SPLIT, TARGETS

SMALL, LARGE = 2**13, 2**16  # bytes of an input
SECONDS = 2.0  # of CPU for one input of LARGE bytes
MEMORY = 96 * 2**20  # bytes for one input of LARGE bytes; a reader may ask for 64 MiB at once
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"  # see tests/conftest.py
# Element types of one comparator: one of them stands for all but in depth.
NAMES = [name for name in TARGETS if DEEP or not name.startswith("tensor-") or "float32" in name]

# What was found so far, each mended since.
RECIPE, RECORD = (TARGETS[name].seeds[0] for name in ("recipes", "record"))
FOUND = (
    ("lock", b"numpy==1\0\n"),
    ("lock", "numpy\u202e==1\n".encode()),
    ("cases", b'"a\\nb\\u001b[2J" = 1\n'),
    ("settings", b"x = 0x" + b"f" * 5000),
    ("settings", b"x = " + b"9" * 5000),
    ("ledger", b"x = " + b"[" * 5000),
    ("ledger", b"x = " + b"9" * 5000),
    ("recipes", b"replay = " + b"[" * 5000),
    ("recipes", RECIPE.replace(b"-mcpu={mcpu}", b"{mcpu:>99999999}", 1)),
    ("record", RECORD.replace(b'"host": {}', '"host": {"\u202e": 1}'.encode())),
    ("record", RECORD.replace(b'"host": {}', b'"host": {"' + b"k" * 9000 + b'": 1}')),
    ("opened", b"[" * 100_000),
    ("pip", b"DO NOT MATCH THE HASHES\n    a\0b:\n    Expected"),
    ("pip", b"No matching distribution found for a\x1b[2Jb"),
    ("pip", b"DO NOT MATCH THE HASHES\n " + b":" * 2**16 + b"\n"),
)


@pytest.mark.parametrize("number", range(len(FOUND)))
def test_what_was_found_stays_mended(number: int) -> None:
    name, data = FOUND[number]
    before = time.thread_time()
    TARGETS[name].run(data)
    assert time.thread_time() - before < SECONDS


@pytest.mark.parametrize("name", NAMES)
def test_valid_inputs_are_taken(name: str) -> None:
    target = TARGETS[name]
    assert target.seeds
    for seed in target.seeds:
        target.run(seed)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=2000 if DEEP else 12, suppress_health_check=list(HealthCheck))
@given(chance=st.randoms(use_true_random=False), two=st.booleans())
def test_changed_inputs_end_as_documented(name: str, chance: random.Random, two: bool) -> None:
    target = TARGETS[name]
    data = mutated(chance.choice(target.seeds), target.seeds, chance, SMALL)
    if two:
        data += SPLIT + mutated(chance.choice(target.seeds), target.seeds, chance, SMALL)
    target.run(data)


@settings(max_examples=2000 if DEEP else 100, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(NAMES), data=st.binary(max_size=400))
def test_any_bytes_end_as_documented(name: str, data: bytes) -> None:
    TARGETS[name].run(data)


def large(seeds: tuple[bytes, ...], chance: random.Random) -> Iterator[bytes]:
    """What is quadratic or grows shows on these: one piece of a valid input many times over."""
    seed = chance.choice(seeds)
    yield (seed * (LARGE // len(seed) + 1))[:LARGE]
    for size in (1, 2, 24, 500):
        start = chance.randrange(max(1, min(len(seed), LARGE // 2) - size))
        piece = seed[start : start + size]
        room = (LARGE - min(len(seed), LARGE // 2)) // len(piece)
        yield seed[:start] + piece * room + seed[start : start + LARGE // 2 - start]


@pytest.mark.parametrize("name", NAMES)
def test_large_inputs_take_neither_long_nor_much(name: str) -> None:
    """CPU time of this thread, so that a busy machine changes nothing."""
    target, chance = TARGETS[name], random.Random(4)
    for data in large(target.seeds, chance):
        before = time.thread_time()
        target.run(data)
        assert time.thread_time() - before < SECONDS
    tracemalloc.start()
    try:
        target.run(data)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
