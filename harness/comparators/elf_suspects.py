"""Which of many functions with other bytes to decode first: those that changed as no other did.

Where everything moved, nearly every function holds other distances, but a few numbers are added to
all of them. A change of another kind adds another number. This only sets the order.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from harness.comparators.elf_look import Look
from harness.comparators.elf_tables import Symbol
from harness.comparators.tensor import differences_of

FIELD = 4  # bytes of a distance
MOST_BYTES = 2**20  # of one function
MOST_RUNS = 64  # of one function that are looked at
SAMPLE = 4096  # functions that tell what is common
Pair = tuple[Symbol, Symbol]


def rarest_first(look: Look, pairs: Sequence[Pair], until: float) -> list[Pair]:
    """``pairs`` of functions of equal size; those like each other stay in order.

    until: when to stop, as time.monotonic() counts; what is not looked at then comes last.
    """
    sample = pairs[:: 1 + len(pairs) // SAMPLE]
    count = Counter(step for one in sample for place in steps(look, one) for step in place)
    common = []
    for one in pairs:
        if time.monotonic() > until:
            break
        places = steps(look, one)
        common.append(min((max(count[step] for step in place) for place in places), default=0))
    order = sorted(range(len(common)), key=common.__getitem__)
    return [*(pairs[number] for number in order), *pairs[len(common) :]]


def steps(look: Look, pair: Pair) -> tuple[tuple[int, ...], ...]:
    """For each differing place, what may have been added there, as it is not known where the
    number begins.
    """
    if pair[0].size > MOST_BYTES:
        return ()
    left, right = look.left.code(pair[0]), look.right.code(pair[1])
    found = differences_of(left, right, MOST_RUNS)
    places = []
    for start, end in found.runs:
        if end - start > FIELD:
            return ()
        places.append(
            tuple(
                int.from_bytes(right[at : at + FIELD], "little")
                - int.from_bytes(left[at : at + FIELD], "little")
                for at in range(max(0, end - FIELD), start + 1)
            )
        )
    return tuple(places)
