"""Detectors written into tensor IR, and the inputs that fire them: found by asking, then tried."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from harness import solving
from harness.accounting import written_out
from harness.accounting.tir import interpret
from harness.accounting.triggers import Posed, pose
from harness.accounting.written_out import Question, filled, holds, plainest

Array = np.ndarray[Any, Any]
SIZE = 24
BOUNDS = {"float32": (-8.0, 8.0), "int32": (0.0, 255.0)}

HEADER = """
@I.ir_module
class Module:
    @T.prim_func(private=True, s_tir=True)
    def f(x: T.Buffer(({size},), "{dtype}"), y: T.Buffer(({size},), "float32")):
        t = T.sblock_alloc_buffer(())
{blocks}
    @R.function
    def main(x: R.Tensor(({size},), dtype="{dtype}")) -> R.Tensor(({size},), dtype="float32"):
        cls = Module
        with R.dataflow():
            gv = R.call_tir(cls.f, (x,), out_ty=R.Tensor(({size},), dtype="float32"))
            R.output(gv)
        return gv
"""
SPREAD = """
        for i in range({size}):
            with T.sblock("spread"):
                v = T.axis.spatial({size}, i)
                y[v] = T.Cast("float32", x[v]) * T.float32(0.5) + T.float32(100.0) * {t}
"""
ALONE = """
        with T.sblock("detect"):
            v0 = T.axis.spatial(1, 0)
            t[()] = {t}
"""
REDUCED = """
        for k in range({size}):
            with T.sblock("detect"):
                v = T.axis.reduce({size}, k)
                with T.init():
                    t[()] = T.float32({init})
                t[()] = {update}
"""


def module(t: str, dtype: str = "float32", *, alone: bool) -> bytes:
    """A module that answers x / 2 + 100 · t; ``alone``: t has a block of its own."""
    body = ALONE.format(t=t) + SPREAD.format(t="t[()]", size=SIZE) if alone else ""
    return text(body or SPREAD.format(t=t, size=SIZE), dtype)


def text(blocks: str, dtype: str) -> bytes:
    return HEADER.format(size=SIZE, dtype=dtype, blocks=blocks).encode("ascii")


def drawn(dtype: str) -> dict[str, Array]:
    source = np.random.default_rng(11)
    if dtype == "float32":
        return {"x": source.standard_normal((3, SIZE))}
    return {"x": source.integers(0, 256, (3, SIZE)).astype(dtype)}


def base(dtype: str) -> dict[str, Array]:
    return {"x": drawn(dtype)["x"][0].astype(dtype)}


def solve(question: Question, dtype: str) -> dict[str, dict[str, float]] | None:
    asked = json.loads(json.dumps(question.asked({"x": BOUNDS[dtype]})))
    for goal in asked["goals"]:
        for grid in (False, True):
            said, found = solving.ask(asked, goal, grid, time.monotonic() + 20)
            if said == "sat" and holds(question, filled(base(dtype), found)):
                return plainest(question, base(dtype), found)
    return None


def answer(data: bytes, inputs: Mapping[str, Array]) -> Array:
    """What the module makes of it in float32."""
    one = interpret(data, {name: v[None] for name, v in inputs.items()}, {}, written=True)
    assert not one.unknown
    found: Array = one.trace.values[one.trace.outputs[0]][0]
    return found


def fired(data: bytes, dtype: str, place: str) -> dict[str, dict[str, float]]:
    """The elements of an input at which the module answers something else than x / 2."""
    (posed,) = pose(data, drawn(dtype), {}, [place])
    assert posed.questions, posed.why
    for question in posed.questions:
        elements = solve(question, dtype)
        if elements is None:
            continue
        inputs = filled(base(dtype), elements)
        calm, there = (np.asarray(one["x"], np.float64) / 2 for one in (base(dtype), inputs))
        assert np.abs(answer(data, base(dtype)) - calm).max() < 1e-3
        if np.abs(answer(data, inputs) - there).max() > 1:
            return elements
    raise AssertionError(f"nothing fires it: {[q.about for q in posed.questions]}")


def near(at: int, value: float, by: float = 0.01) -> str:
    return f'T.Cast("float32", T.fabs(x[{at}] - T.float32({value})) < T.float32({by}))'


FLOATS = {
    "pattern": " * ".join(near(at, value) for at, value in ((3, 1.0), (7, 0.25), (20, -3.5))),
    "select": "T.Select(x[5] > T.float32(6.25) and x[6] < T.float32(-6.0), "
    "T.float32(1.0), T.float32(0.0))",
    "relu": "T.max(x[1] + x[2] * T.float32(-2.0) - T.float32(14.0), T.float32(0.0))",
    "floor": "T.min(T.max(T.floor(x[9] / T.float32(7.0)), T.float32(0.0)), T.float32(1.0))",
    "integers": 'T.Cast("float32", T.Cast("int32", x[4] * T.float32(100.0)) == 733)',
    "bump": "T.exp((x[8] - T.float32(5.0)) * (x[8] - T.float32(5.0)) * T.float32(-40.0))",
    "steep": "T.sigmoid((x[2] + x[3] - T.float32(12.0)) * T.float32(30.0))",
    "tanh": "(T.float32(1.0) + T.tanh((x[0] - T.float32(7.0)) * T.float32(20.0)))",
    "exact bits": 'T.Cast("float32", T.reinterpret("int32", x[3]) == -1088421888)',
    "low bits": 'T.Cast("float32", T.bitwise_and(T.reinterpret("int32", x[3]), 1023) == 173 and '
    'T.bitwise_and(T.shift_right(T.reinterpret("uint32", x[4]), T.uint32(4)), T.uint32(255)) '
    '== T.uint32(99))',
    "nested": "T.if_then_else(x[0] > T.float32(6.0), T.if_then_else(x[1] < x[2] - T.float32(7.0), "
    "T.float32(1.0), T.float32(0.0)), T.float32(0.0))",
}  # fmt: skip
INTEGERS = {
    "tokens": 'T.Cast("float32", x[2] == 17 and x[9] == 0 and x[10] == 201)',
    "high mask": 'T.Cast("float32", T.bitwise_and(x[3], -32) == 96 and '
    "T.bitwise_and(x[5], 90) == 82 and x[7] == x[8] and x[8] == x[9])",
    "mask": 'T.Cast("float32", T.bitwise_and(x[3], 127) == 77 and x[4] == 3)',
    "remainder": 'T.Cast("float32", x[3] % 251 == 250 and x[1] // 16 == 15 and x[2] == 1)',
    "span": 'T.Cast("float32", T.max(x[0], x[1]) - T.min(x[2], x[3]) == 255)',
}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("name", FLOATS)
def test_a_detector_on_floats_is_fired(name: str, alone: bool) -> None:
    data = module(FLOATS[name], alone=alone)
    place = "f, block detect (main's gv)" if alone else "f, block spread (main's gv)"
    assert fired(data, "float32", place)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("name", INTEGERS)
def test_a_detector_on_integers_is_fired(name: str, alone: bool) -> None:
    data = module(INTEGERS[name], "int32", alone=alone)
    place = "f, block detect (main's gv)" if alone else "f, block spread (main's gv)"
    assert fired(data, "int32", place)


def test_only_the_elements_that_matter_are_named_and_far_from_the_edge() -> None:
    data = module(FLOATS["pattern"], alone=True)
    elements = fired(data, "float32", "f, block detect (main's gv): loop")
    assert set(elements["x"]) == {"3", "7", "20"}
    for at, value in (("3", 1.0), ("7", 0.25), ("20", -3.5)):
        assert abs(elements["x"][at] - value) < 2e-3


def test_a_sum_over_the_whole_input_is_fired() -> None:
    blocks = REDUCED.format(size=SIZE, init=0.0, update="t[()] + x[v]")
    wide = 'T.Cast("float32", t[()] > T.float32(150.0))'
    data = text(blocks + SPREAD.format(t=wide, size=SIZE), "float32")
    assert fired(data, "float32", "f, block spread (main's gv)")


def test_a_detector_at_any_place_is_fired() -> None:
    found = 'T.Cast("float32", x[T.min(v + 1, 23)] == 17 and x[v] == 201)'
    blocks = REDUCED.format(size=SIZE, init=0.0, update=f"T.max(t[()], {found})")
    data = text(blocks + SPREAD.format(t="t[()]", size=SIZE), "int32")
    assert len(fired(data, "int32", "f, block detect (main's gv)")["x"]) == 2


def posed(t: str, dtype: str = "float32") -> Posed:
    (one,) = pose(module(t, dtype, alone=True), drawn(dtype), {}, ["f, block detect (main's gv)"])
    return one


def test_what_goes_both_ways_is_not_asked_about() -> None:
    one = posed("T.fabs(x[3])")
    assert not one.questions
    assert one.why == "on random inputs it is not always alike"


def test_what_can_never_happen_is_not_said_to_be_fine() -> None:
    one = posed('T.Cast("float32", x[3] > T.float32(6.0) and x[3] < T.float32(5.0))')
    assert one.questions
    assert all(solve(question, "float32") is None for question in one.questions)


def test_what_is_not_understood_is_said() -> None:
    reinterpreted = 'T.Cast("float32", T.reinterpret("int32", x[3] + x[4]) == 1092616192)'
    one = posed(reinterpreted)
    assert not one.questions
    assert "the bits of what is no element" in one.why


def test_a_place_that_is_not_there_is_said() -> None:
    data = module(FLOATS["relu"], alone=True)
    (one,) = pose(data, drawn("float32"), {}, ["elsewhere"])
    assert one == Posed("elsewhere", (), "no such place in tensor-ir")


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("f, block detect (main's main, gv (line 20))", True),
        ("main, gv (line 20), f, block detect (main's main, gv (line 20)): detect", True),
        ("f, block spread (main's gv)", True),
        ("function f", True),
        ("f, block detect (main's lv1)", False),
        ("f, block other (main's gv)", False),
        ("ff, block detect (main's gv)", False),
        ("", False),
    ],
)
def test_a_place_is_known_by_function_block_and_call(place: str, found: bool) -> None:
    (one,) = pose(module(FLOATS["relu"], alone=True), drawn("float32"), {}, [place])
    assert (one.why != "no such place in tensor-ir") is found


def test_numbers_cannot_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, a, b in (("<<", 1, 10**9), ("*", 2**40, 2**40), ("<<", 1, -1)):
        with pytest.raises((OverflowError, ValueError)):
            written_out.folded(name, a, b)
    monkeypatch.setattr(written_out, "MOST_POINTS", 40)
    blocks = REDUCED.format(size=SIZE, init=0.0, update="t[()] + x[v] * x[v] * T.float32(1e-9)")
    data = text(blocks + SPREAD.format(t="t[()]", size=SIZE), "float32")
    (one,) = pose(data, drawn("float32"), {}, ["f, block detect (main's gv)"])
    assert not one.questions
    assert "more than 40 operations" in one.why


def test_an_answer_of_z3s_is_checked() -> None:
    question = posed(FLOATS["pattern"]).questions[0]
    assert not holds(question, base("float32"))
    right: dict[str, Any] = {"x": {"3": 1.0, "7": 0.25, "20": -3.5}}
    assert holds(question, filled(base("float32"), right))
    right["x"]["7"] = 0.27
    assert not holds(question, filled(base("float32"), right))
