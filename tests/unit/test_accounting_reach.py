"""Which batch items flow where, and paths past the network."""

from __future__ import annotations

import numpy as np
import pytest

from harness.accounting import past, reach, tir
from harness.accounting.interface import Accounted, Kind, NotInterpretedError
from tests.unit.accounting_lowered import (
    NAMES,
    constants,
    inputs,
    model,
    source,
    swapped,
    tensor_ir,
)


def batch(name: str, text: str) -> Accounted:
    return reach.account(text.encode(), constants(name), model(name), inputs(name))


def paths(name: str, text: str) -> Accounted:
    found = tir.interpret(text.encode(), inputs(name), constants(name))
    assert not found.unknown
    return past.account(found.trace, source(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_clean_build_reaches_what_the_model_reaches(name: str) -> None:
    for one in (batch(name, tensor_ir(name)), paths(name, tensor_ir(name))):
        assert not one.findings
        assert not one.unknown
        assert one.things == one.attributed > 0


@pytest.mark.parametrize("name", NAMES)
def test_each_output_item_depends_on_its_own_input_item(name: str) -> None:
    items = reach.items_of(inputs(name))
    program = tir.read(tensor_ir(name).encode())
    (sets,) = reach.flow(program, constants(name), inputs(name), items).outputs
    assert np.array_equal(sets[0, 0], np.full(sets.shape[2], 1))
    assert np.array_equal(sets[0, 1], np.full(sets.shape[2], 2))


ADDED = "T_add_intermediate[v_i0, v_i1, v_i2, v_i3]"
RELU = f"T.max({ADDED}, T.float32(0.0))"
LEAKS = [
    f"{RELU} + T_add_intermediate[T.int64(1) - v_i0, v_i1, v_i2, v_i3] * T.float32(1e-12)",
    f"{RELU} + T.if_then_else(v_i0 == T.int64(0) and v_i1 == T.int64(3),"
    " T_add_intermediate[T.int64(1), v_i1, v_i2, v_i3] * T.float32(1e-20), T.float32(0.0))",
    f"{RELU} + T.max(T_add_intermediate[T.int64(0), v_i1, v_i2, v_i3] - T.float32(1e9),"
    " T.float32(0.0))",
    f"{RELU} + T_add_intermediate[(v_i0 + v_i3) % T.int64(2), v_i1, v_i2, v_i3] * T.float32(1e-20)",
]


@pytest.mark.parametrize("value", LEAKS)
def test_a_leak_between_batch_items(value: str) -> None:
    text = swapped(
        tensor_ir("image"), f"= {RELU}", f"= {value}", after="def fused_conv2d1_add_relu("
    )
    found = batch("image", text)
    assert {one.kind for one in found.findings} == {Kind.REACH}
    assert "fused_conv2d1_add_relu" in found.findings[0].where
    assert "item" in found.findings[0].what


def test_what_stays_inside_an_item_is_no_leak() -> None:
    text = swapped(
        tensor_ir("image"), f"= {RELU}",
        f"= {RELU} + T_add_intermediate[v_i0, T.int64(7) - v_i1, v_i2, v_i3] * T.float32(1e-20)",
        after="def fused_conv2d1_add_relu(",
    )  # fmt: skip
    assert not batch("image", text).findings


def test_a_lookup_by_data_in_the_whole_batch() -> None:
    """What is looked up may be anywhere in what is indexed by data."""
    at = f'T.Cast("int64", T.min({RELU}, T.float32(1.0)))'
    text = swapped(
        tensor_ir("image"), f"= {RELU}",
        f"= {RELU} + T_add_intermediate[{at}, v_i1, v_i2, v_i3] * T.float32(1e-20)",
        after="def fused_conv2d1_add_relu(",
    )  # fmt: skip
    assert len(batch("image", text).findings) == 2


def bypass(text: str, value: str) -> str:
    """A function more, which adds something of the model's input to its last result."""
    function = (
        "    @T.prim_func(private=True, s_tir=True)\n"
        '    def more(p: T.Buffer((T.int64(2), T.int64(5)), "float32"),'
        ' x: T.Buffer((T.int64(2), T.int64(3), T.int64(16), T.int64(16)), "float32"),'
        ' q: T.Buffer((T.int64(2), T.int64(5)), "float32")):\n'
        "        for i, j in T.grid(T.int64(2), T.int64(5)):\n"
        '            with T.sblock("q"):\n'
        '                v_i, v_j = T.axis.remap("SS", [i, j])\n'
        f"                q[v_i, v_j] = p[v_i, v_j] + {value}\n\n"
    )
    text = swapped(text, "    @R.function\n", function + "    @R.function\n")
    call = 'R.call_tir(cls.more, (gv, x), out_ty=R.Tensor((2, 5), dtype="float32"))'
    text = text.replace(
        "            R.output(gv)", f"            gv2 = {call}\n            R.output(gv2)"
    )
    return text.replace("        return gv\n", "        return gv2\n")


@pytest.mark.parametrize(
    "value",
    [
        "x[v_i, T.int64(0), T.int64(0), v_j] * T.float32(1e-12)",
        'T.Cast("float32", x[v_i, T.int64(0), T.int64(0), v_j] == T.float32(1.5))',
        "T.max(x[v_i, T.int64(0), T.int64(0), v_j] - T.float32(100.0), T.float32(0.0))",
    ],
)
def test_a_path_past_the_network(value: str) -> None:
    found = paths("image", bypass(tensor_ir("image"), value))
    assert found.findings
    assert all(one.kind is Kind.REACH for one in found.findings)
    assert found.findings[0].path[0] == "input"
    assert "more" in found.findings[0].path[-1]
    # Each item by itself: no leak between them.
    assert not batch("image", bypass(tensor_ir("image"), value)).findings


def test_constants_may_be_given_as_bytes() -> None:
    held = {digest: value.tobytes() for digest, value in constants("image").items()}
    found = reach.account(
        tensor_ir("image").encode(), held, model("image"), inputs("image")
    )  # fmt: skip
    assert found.things == found.attributed == 2
    cut = {digest: value[:-1] for digest, value in held.items()}
    assert reach.account(
        tensor_ir("image").encode(), cut, model("image"), inputs("image")
    ).unknown  # fmt: skip


def test_too_many_items_are_refused() -> None:
    with pytest.raises(NotInterpretedError):
        reach.items_of({"x": np.zeros((2, 65, 3))})


def test_what_cannot_be_interpreted_is_unknown() -> None:
    text = swapped(tensor_ir("image"), RELU, RELU.replace("T.max", "T.evil"))
    found = batch("image", text)
    assert found.unknown
    assert found.attributed == 0
