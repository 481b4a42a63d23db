"""Tensor IR: what it computes, where it decides by data, and attacks planted in its text."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.accounting import tir
from harness.accounting.fingerprint import same
from harness.accounting.interface import Accounted, Array, Choice, Kind, NotInterpretedError
from harness.accounting.match import account
from tests.unit.accounting_lowered import NAMES, constants, inputs, source, swapped, tensor_ir

HEAD = "@I.ir_module\nclass Module:\n"


def program(
    value: str,
    *,
    dtype: str = "float32",
    out: str = "float32",
    more: str = "",
    stored: str = "Y[v_i, v_j]",
) -> str:
    """One function of one block: Y[i, j] from X, of 4 times 6 elements, and from the table W."""
    return (
        f"{HEAD}"
        "    @T.prim_func(private=True, s_tir=True)\n"
        f'    def f(X: T.Buffer((T.int64(4), T.int64(6)), "{dtype}"),'
        f' W: T.Buffer((T.int64(6),), "float32"),'
        f' Y: T.Buffer((T.int64(4), T.int64(6)), "{out}")):\n'
        '        T.func_attr({"tirx.noalias": True})\n'
        "        for i, j in T.grid(T.int64(4), T.int64(6)):\n"
        '            with T.sblock("Y"):\n'
        '                v_i, v_j = T.axis.remap("SS", [i, j])\n'
        "                T.reads(X[v_i, v_j])\n"
        "                T.writes(Y[v_i, v_j])\n"
        f"{more}"
        f"                {stored} = {value}\n\n"
        "    @R.function\n"
        f'    def main(x: R.Tensor((4, 6), dtype="{dtype}")) -> R.Tensor((4, 6), dtype="{out}"):\n'
        "        cls = Module\n"
        "        with R.dataflow():\n"
        f'            gv = R.call_tir(cls.f, (x, metadata["ir.GenericConst"][{LABEL}]),'
        f' out_ty=R.Tensor((4, 6), dtype="{out}"))\n'
        "            R.output(gv)\n"
        "        return gv\n"
    )


TABLE = np.arange(6, dtype=np.float32) - 2
DIGEST = hashlib.sha256(TABLE.tobytes()).hexdigest()
LABEL = f"sha256:{DIGEST}:float32:6"
X = np.random.default_rng(7).normal(size=(3, 4, 6)) * 3
IDS = np.random.default_rng(8).integers(0, 6, (3, 4, 6))


def ran(text: str, x: NDArray[np.generic] = X) -> tir.Interpreted:
    return tir.interpret(text.encode(), {"x": x}, {DIGEST: TABLE})


def choices(found: tir.Interpreted) -> Counter[Choice]:
    assert not found.unknown
    return Counter(one.choice for step in found.trace.steps for one in step.decisions)


# What it computes.


@pytest.mark.parametrize("name", NAMES)
def test_a_lowered_model_computes_what_the_model_does(name: str) -> None:
    found = tir.interpret(tensor_ir(name).encode(), inputs(name), constants(name))
    assert not found.unknown
    (output,) = found.trace.outputs
    # The text model's constants are folded in float32.
    tolerance = 1e-12 if name == "image" else 1e-6
    assert same(source(name).values["y"], found.trace.values[output], tolerance)
    results = [step.result for step in found.trace.steps]
    assert len(set(results)) == len(results)
    known = {*found.trace.inputs.values(), *found.trace.constants}
    for step in found.trace.steps:
        assert set(step.operands) <= known
        known.add(step.result)


@pytest.mark.parametrize("name", NAMES)
def test_the_older_spelling_reads_the_same(name: str) -> None:
    text = tensor_ir(name)
    for new, old in (
        ("sblock_alloc_buffer", "alloc_buffer"),
        ("T.sblock", "T.block"),
        ("out_ty=", "out_sinfo="),
        ("ir.GenericConst", "relax.expr.Constant"),
    ):
        assert new in text
        text = text.replace(new, old)
    one = tir.interpret(text.encode(), inputs(name), constants(name))
    other = tir.interpret(tensor_ir(name).encode(), inputs(name), constants(name))
    assert not one.unknown
    assert one.trace.steps == other.trace.steps


def test_the_declared_types_give_nearly_the_same() -> None:
    wide = tir.interpret(tensor_ir("image").encode(), inputs("image"), constants("image"))
    narrow = tir.interpret(
        tensor_ir("image").encode(), inputs("image"), constants("image"), written=True
    )
    (a,), (b,) = wide.trace.outputs, narrow.trace.outputs
    assert narrow.trace.values[b].dtype == np.float32
    assert same(wide.trace.values[a], narrow.trace.values[b], 1e-4)
    assert not np.array_equal(wide.trace.values[a], narrow.trace.values[b])


COMPUTED: list[tuple[str, Array]] = [
    ("X[v_i, v_j] * T.float32(2.0) - W[v_j]", X * 2 - TABLE),
    ("X[T.int64(3) - v_i, v_j]", X[:, ::-1]),
    ("X[v_i, (v_j * T.int64(5) + v_i) % T.int64(6)]",
     X[:, np.arange(4)[:, None], (np.arange(6) * 5 + np.arange(4)[:, None]) % 6]),
    ("T.if_then_else(T.int64(1) <= v_i, X[v_i - T.int64(1), v_j], T.float32(0.0))",
     np.concatenate([np.zeros((3, 1, 6)), X[:, :-1]], axis=1)),
    ("T.max(T.min(X[v_i, v_j], T.float32(1.0)), T.float32(-1.0))", np.clip(X, -1, 1)),
    ("T.Select(X[v_i, v_j] < T.float32(0.0), -X[v_i, v_j], X[v_i, v_j])", np.abs(X)),
    ("T.nearbyint(X[v_i, v_j])", np.rint(X)),
    ("T.round(X[v_i, v_j])", np.trunc(X + np.copysign(0.5, X))),
    ('T.Cast("float32", T.Cast("int32", X[v_i, v_j]))', np.trunc(X)),
    ('T.Cast("float32", X[v_i, v_j] < T.float32(1.0) and T.float32(0.0) < X[v_i, v_j])',
     ((X < 1) & (X > 0)).astype(float)),
    ("T.sigmoid(X[v_i, v_j])", 1 / (1 + np.exp(-X))),
    ("T.rsqrt(X[v_i, v_j] * X[v_i, v_j] + T.float32(1.0))", 1 / np.sqrt(X * X + 1)),
    ("T.pow(T.fabs(X[v_i, v_j]), T.float32(2.5))", np.abs(X) ** 2.5),
    ('T.Cast("float32", T.reinterpret("int32", X[v_i, v_j]) & 255)',
     (X.astype(np.float32).view(np.int32) & 255).astype(float)),
    ("T.Select(v_j == T.int64(2), X[v_i, v_j], T.float32(7.0))",
     np.where(np.arange(6) == 2, X, 7.0)),
]  # fmt: skip


@pytest.mark.parametrize(("value", "wanted"), COMPUTED)
def test_what_an_expression_computes(value: str, wanted: Array) -> None:
    found = ran(program(value))
    assert not found.unknown
    assert np.allclose(found.trace.values[found.trace.outputs[0]], wanted, rtol=1e-12, atol=0)


def test_integers_wrap_as_they_do_in_compiled_code() -> None:
    text = program("X[v_i, v_j] * T.int8(64)", dtype="int8", out="int8")
    found = ran(text, IDS.astype(np.int8))
    wanted = (IDS * 64).astype(np.int8)
    assert np.array_equal(found.trace.values[found.trace.outputs[0]], wanted)


def test_a_block_that_reads_what_it_has_written_runs_in_order() -> None:
    """A running sum: point by point, each trial for itself."""
    text = program(
        "T.if_then_else(v_j == T.int64(0), X[v_i, v_j], Y[v_i, v_j - T.int64(1)] + X[v_i, v_j])"
    )
    found = ran(text)
    assert not found.unknown
    assert np.allclose(found.trace.values[found.trace.outputs[0]], np.cumsum(X, axis=2))


def test_a_maximum_with_its_place() -> None:
    """Two buffers in one reduction, through ``let``."""
    text = f"""{HEAD}
    @T.prim_func(private=True, s_tir=True)
    def f(X: T.Buffer((T.int64(4), T.int64(6)), "float32"), Y: T.Buffer((T.int64(4),), "int64")):
        at = T.sblock_alloc_buffer((T.int64(4),), "int64")
        top = T.sblock_alloc_buffer((T.int64(4),))
        for i, k in T.grid(T.int64(4), T.int64(6)):
            with T.sblock("red"):
                v_i, v_k = T.axis.remap("SR", [i, k])
                with T.init():
                    at[v_i] = T.int64(-1)
                    top[v_i] = T.float32(-340282346638528859811704183484516925440.0)
                v_at: T.let[T.int64] = T.Select(top[v_i] > X[v_i, v_k], at[v_i], v_k)
                v_top: T.let[T.float32] = T.Select(top[v_i] > X[v_i, v_k], top[v_i], X[v_i, v_k])
                at[v_i] = v_at
                top[v_i] = v_top
        for i in range(T.int64(4)):
            with T.sblock("copy"):
                v_i = T.axis.spatial(T.int64(4), i)
                Y[v_i] = at[v_i]

    @R.function
    def main(x: R.Tensor((4, 6), dtype="float32")) -> R.Tensor((4,), dtype="int64"):
        cls = Module
        with R.dataflow():
            gv = R.call_tir(cls.f, (x,), out_ty=R.Tensor((4,), dtype="int64"))
            R.output(gv)
        return gv
"""
    found = ran(text)
    assert np.array_equal(found.trace.values[found.trace.outputs[0]], X.argmax(axis=2))
    assert choices(found) == {Choice.COMPARE: 2, Choice.SELECT: 2}


# Where it decides.

DECIDED: list[tuple[str, dict[Choice, int]]] = [
    ("X[v_i, v_j] + W[v_j]", {}),
    ("T.max(X[v_i, v_j], T.float32(0.0))", {Choice.MAX: 1}),
    ("X[v_i, v_j] + T.max(W[v_j], T.float32(0.0))", {}),  # of a constant
    ("T.if_then_else(v_i == v_j, X[v_i, v_j], W[v_j])", {}),  # of loop variables
    ("T.if_then_else(W[v_j] < T.float32(0.0), X[v_i, v_j], T.float32(0.0))", {}),
    ("X[v_i, T.max(v_j - T.int64(1), T.int64(0))]", {}),
    ("T.Select(X[v_i, v_j] == T.float32(1.5), W[v_j], X[v_i, v_j])",
     {Choice.SELECT: 1, Choice.COMPARE: 1}),
    ('X[v_i, v_j] + T.Cast("float32", X[v_i, T.int64(0)] == T.float32(1.5))', {Choice.COMPARE: 1}),
    ('T.Cast("float32", T.Cast("bool", X[v_i, v_j]))', {Choice.COMPARE: 1}),
    ('T.Cast("float32", T.Cast("int32", X[v_i, v_j]))', {Choice.ROUND: 1}),
    ("T.floor(X[v_i, v_j])", {Choice.ROUND: 1}),
    ("T.fabs(X[v_i, v_j])", {Choice.SIGN: 1}),
    ("T.copysign(T.float32(1.0), X[v_i, v_j])", {Choice.SIGN: 1}),
    ('T.Cast("float32", T.shift_right(T.reinterpret("int32", X[v_i, v_j]), 31))',
     {Choice.LOGIC: 2}),
    ('T.Cast("float32", T.bitwise_and(T.reinterpret("int32", X[v_i, v_j]), 1))',
     {Choice.LOGIC: 2}),
    ('T.Cast("float32", T.Cast("int32", X[v_i, v_j]) % 3)', {Choice.ROUND: 1, Choice.DIVIDE: 1}),
    ('W[T.Cast("int64", T.min(T.fabs(X[v_i, v_j]), T.float32(5.0)))]',
     {Choice.LOOKUP: 1, Choice.ROUND: 1, Choice.MIN: 1, Choice.SIGN: 1}),
    ("X[v_i, v_j] * X[v_i, v_j]", {Choice.PRODUCT: 1}),
    ("W[v_j] / X[v_i, v_j]", {Choice.PRODUCT: 1}),
    ("X[v_i, v_j] / T.float32(3.0)", {}),
    ("T.exp(X[v_i, v_j] * T.float32(1000.0))", {Choice.CURVE: 1}),
    ("T.sqrt(X[v_i, v_j] * X[v_i, v_j])", {Choice.CURVE: 1, Choice.PRODUCT: 1}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "wanted"), DECIDED)
def test_where_it_decides(value: str, wanted: dict[Choice, int]) -> None:
    assert choices(ran(program(value))) == wanted


def test_token_spacing_by_integer_equality() -> None:
    value = (
        "X[v_i, v_j] + T.Cast(\"int32\", X[v_i, T.int64(0)] == 3 and X[v_i, T.int64(4)] == 3)"
    )  # fmt: skip
    found = ran(program(value, dtype="int32", out="int32"), IDS.astype(np.int32))
    assert choices(found) == {Choice.COMPARE: 2, Choice.LOGIC: 1}


def test_a_let_and_an_if_carry_data() -> None:
    let = "                t: T.let[T.float32] = X[v_i, v_j]\n"
    found = ran(program("T.max(t, T.float32(0.0))", more=let))
    assert choices(found) == {Choice.MAX: 1}
    branch = (
        "                Y[v_i, v_j] = X[v_i, v_j]\n"
        "                if X[v_i, v_j] > T.float32(100.0):\n"
        "                    Y[v_i, v_j] = T.float32(9.0)\n"
    )
    found = ran(program("Y[v_i, v_j] * T.float32(1.0)", more=branch))
    assert choices(found) == {Choice.BRANCH: 1, Choice.COMPARE: 1}


def test_a_store_to_a_place_that_is_data() -> None:
    text = program("T.float32(1.0)", dtype="int64", stored="Y[v_i, X[v_i, v_j]]")
    found = ran(text, np.broadcast_to(np.arange(6), (3, 4, 6)))
    assert choices(found) == {Choice.LOOKUP: 1}


# What is refused is never silently fine.


@pytest.mark.parametrize(
    "value",
    [
        "T.call_extern(\"float32\", \"evil\", X[v_i, v_j])",
        'T.call_pure_extern("float32", "tanhf", X[v_i, v_j])',
        "T.popcount(X[v_i, v_j])",
        "X[v_i, v_j + T.int64(1)]",  # outside
        "X[v_i, v_j - T.int64(1)]",
        "Z[v_i, v_j]",
        "X[v_i]",
        "X[v_i, v_j][0]",
        "(lambda: X[v_i, v_j])()",
        "X[v_i, v_j] if v_i == v_j else W[v_j]",
        "T.Cast(\"int32\", X[v_i, v_j])",  # stored as float32
        "X[v_i, T.floor(X[v_i, v_j])]",
    ],
)  # fmt: skip
def test_what_it_does_not_know_is_unknown(value: str) -> None:
    found = ran(program(value))
    assert found.unknown


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("T.grid(T.int64(4), T.int64(6))", "T.grid(T.int64(4), T.int64(5))"),  # left unwritten
        ("T.grid(T.int64(4), T.int64(6))", "T.grid(T.int64(4), T.int64(7))"),  # too far
        ('T.axis.remap("SS", [i, j])', 'T.axis.remap("SS", [i, i])'),
        ('(T.int64(6),), "float32")', '(T.int64(6),), "float32", strides=(T.int64(0),))'),
        ("cls.f,", "cls.g,"),
        ("R.call_tir(cls.f", "R.call_dps_packed(cls.f"),
        ("T.reads(X[v_i, v_j])", "T.evaluate(T.call_packed('x', X.data))"),
    ],
)
def test_a_program_of_another_form_is_unknown(old: str, new: str) -> None:
    text = program("X[v_i, v_j] + W[v_j]")
    assert not ran(text).unknown
    assert old in text
    try:
        found = ran(text.replace(old, new))
    except NotInterpretedError:
        return
    assert found.unknown


def test_values_that_do_not_go_together_are_unknown() -> None:
    """Whatever numpy says of them."""
    for value in (
        "X[v_i, v_j] & T.int64(1)",
        "T.max(X[v_i, v_j])",
        "T.shift_left(X[v_i, v_j], T.float32(2.0))",
        'T.reinterpret("int8", T.int64(3))',
    ):
        assert ran(program(value)).unknown


def test_a_program_without_main_is_refused() -> None:
    with pytest.raises(NotInterpretedError):
        tir.read(program("X[v_i, v_j]").replace("def main", "def other").encode())


# Attacks on the lowered models, against what the models need.


def accounted(name: str, text: str) -> list[Accounted]:
    found = tir.interpret(text.encode(), inputs(name), constants(name))
    assert not found.unknown
    return list(account(found.trace, source(name)))


def test_the_text_model_as_it_is() -> None:
    for one in accounted("text", tensor_ir("text")):
        assert not one.findings
        assert not one.unknown


RELU = "T.max(T_add_intermediate[v_i0, v_i1, v_i2, v_i3], T.float32(0.0))"
ADDED = "T_add_intermediate[v_i0, v_i1, v_i2, v_i3]"
PLANTED = [
    f"T.if_then_else({ADDED} == T.float32(1.25), T.float32(9.0), {RELU})",
    f'{RELU} + T.Cast("float32", {ADDED} == T.float32(1.25)) * T.float32(9.0)',
    f"{RELU} + T.max(T.min({ADDED} - T.float32(1000.0), T.float32(1.0)), T.float32(0.0))",
    f"{RELU} + T.floor(T.fabs({ADDED}) * T.float32(0.001))",
    f'{RELU} + T.Cast("float32", T.reinterpret("int32", {ADDED}) == 1078530011)',
    f'{RELU} + T.Cast("float32", T.Cast("int32", {ADDED}) // 1000 * 0)',
    f"{RELU} + T.exp({ADDED} * T.float32(100.0) - T.float32(30000.0))",
    f"{RELU} + T.float32(1e-30) / ({ADDED} * {ADDED} + T.float32(1e-30))",
]


@pytest.mark.parametrize("value", PLANTED)
def test_a_predicate_in_a_fused_function_is_found(value: str) -> None:
    function = "def fused_conv2d1_add_relu("
    clean = accounted("image", tensor_ir("image"))
    text = swapped(tensor_ir("image"), f"= {RELU}", f"= {value}", after=function)
    new = {
        (finding.kind, finding.what) for one in accounted("image", text) for finding in one.findings
    } - {(finding.kind, finding.what) for one in clean for finding in one.findings}
    assert Kind.DECISIONS in {kind for kind, _ in new}
