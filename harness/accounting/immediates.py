"""Numbers that are written into the program: each is one of the model's, or of an operator's.

A number that is a little off changes too little for the values to show it, so its bits are looked
up like those of any constant.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from harness.accounting import relax_script as relax
from harness.accounting import tir_script as tir
from harness.accounting.constants import Known
from harness.accounting.interface import Accounted, Kind, Unaccounted
from harness.text import printable

MAX_FINDINGS = 100
SHOWN = 160


def account_graph_numbers(known: Known, main: relax.Function) -> Accounted:
    """The numbers of the imported graph's ``main``."""
    found = [
        (f"line {binding.line}, {binding.name}", one.value, one.dtype)
        for binding in main.bindings
        for one in _numbers(binding.value)
    ]
    return _account(known, "graph", found, ())


def account_immediates(known: Known, functions: tir.Functions) -> Accounted:
    """The numbers that tensor-ir's functions compute with. Whole ones are places and sizes."""
    found = [
        (f"function {name}", part.value, part.dtype)
        for name, function in functions.read.items()
        for whole in tir.expressions(function.body)
        for part in tir.walk(whole)
        if isinstance(part, tir.Number) and part.dtype.startswith(("float", "bfloat"))
    ]
    unread = tuple(f"tensor-ir: {printable(text, SHOWN)}" for text in functions.unread.values())
    return _account(known, "tensor-ir", found, unread[:MAX_FINDINGS])


def _numbers(node: relax.Expression) -> Iterator[relax.Number]:
    match node:
        case relax.Number():
            yield node
        case relax.Items(items=items):
            for item in items:
                yield from _numbers(item)
        case relax.Item(of=of):
            yield from _numbers(of)
        case relax.Call(arguments=arguments, keywords=keywords):
            for one in (*arguments, *keywords.values()):
                yield from _numbers(one)


def _account(
    known: Known,
    stage: str,
    found: list[tuple[str, bool | int | float, str]],
    unknown: tuple[str, ...],
) -> Accounted:
    times: dict[tuple[str, str], int] = {}
    left = 0
    seen: dict[tuple[float, str, str], bool] = {}
    for where, value, dtype in found:
        key = (value, str(value), dtype)  # 0.0 and -0.0 are equal, and are two numbers
        if key not in seen:
            seen[key] = _is_known(known, value, dtype)
        if seen[key]:
            continue
        left += 1
        what = f"no number of the model or of its operators is {value!r} ({dtype})"
        told = printable(where, SHOWN), printable(what, SHOWN)
        times[told] = times.get(told, 0) + 1
    findings = tuple(
        Unaccounted(Kind.CONSTANTS, stage, where, what if count == 1 else f"{what}; {count} times")
        for (where, what), count in itertools.islice(times.items(), MAX_FINDINGS)
    )
    return Accounted(Kind.CONSTANTS, stage, len(found), len(found) - left, findings, unknown)


def _is_known(known: Known, value: bool | float, dtype: str) -> bool:
    try:
        raw = np.asarray(value).astype(dtype).tobytes()
    except (TypeError, ValueError, OverflowError):
        return False
    return known.is_number(dtype, raw)
