"""What a cast in tensor IR can lose, and so decides."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from harness.accounting import tir
from harness.accounting.interface import Choice
from harness.accounting.tir_decisions import loses
from tests.unit.test_accounting_pairs import ROUND, compared, llvm, tensor_ir
from tests.unit.test_accounting_tir import DIGEST, TABLE, program

KEEPS = [
    ("uint8", "int32"), ("uint8", "int16"), ("int8", "int64"), ("uint32", "int64"),
    ("int32", "float32"), ("int64", "float64"), ("float16", "float32"), ("float32", "float64"),
    ("float64", "float32"), ("bfloat16", "float32"), ("uint8", "uint64"),
]  # fmt: skip
LOSES = [
    ("int8", "uint8"), ("int8", "uint64"), ("uint8", "int8"), ("int64", "int32"),
    ("uint64", "int64"), ("uint32", "int32"), ("float32", "int64"), ("float16", "uint8"),
    ("float32", "float16"), ("float64", "float16"), ("float32", "bfloat16"),
    ("float16", "bfloat16"), ("bfloat16", "float16"), ("int32", "float16"), ("uint8", "bfloat16"),
    ("float32", "float8_e4m3fn"), ("float32", "handle"),
]  # fmt: skip


@pytest.mark.parametrize("pair", KEEPS)
def test_what_every_number_of_the_type_survives(pair: tuple[str, str]) -> None:
    assert not loses(*pair)


@pytest.mark.parametrize("pair", LOSES)
def test_what_some_number_of_the_type_does_not_survive(pair: tuple[str, str]) -> None:
    assert loses(*pair)


def choices(value: str, dtype: str, out: str) -> Counter[Choice]:
    x = np.random.default_rng(7).integers(0, 100, (3, 4, 6)).astype(dtype)
    text = program(value, dtype=dtype, out=out)
    found = tir.interpret(text.encode(), {"x": x}, {DIGEST: TABLE})
    assert not found.unknown
    return Counter(one.choice for step in found.trace.steps for one in step.decisions)


def test_only_casts_of_data_that_lose_are_decisions() -> None:
    assert not choices('T.Cast("int32", X[v_i, v_j])', "uint8", "int32")
    assert choices('T.Cast("uint8", X[v_i, v_j])', "int32", "uint8") == {Choice.ROUND: 1}
    half = 'T.Cast("float32", T.Cast("float16", X[v_i, v_j]))'
    assert choices(half, "float32", "float32") == {Choice.ROUND: 1}
    # A table is no data, whatever it is rounded to.
    table = 'X[v_i, v_j] + T.Cast("float32", T.Cast("float16", W[v_j]))'
    assert not choices(table, "float32", "float32")


# One level below, integers have no sign; it is where they are used that makes one.

BYTES = tensor_ir(
    [
        ("u", "v", 'T.Cast("uint8", T.max(T.min(T.round(X[v]), T.float32(255.0)), '
                   'T.float32(0.0)))'),
        ("Y", "v", 'T.max(X[v] + T.Cast("float32", u[v]), T.float32(0.0))'),
    ],
    {"u": "uint8"},
)  # fmt: skip
MADE = ROUND.replace("ptr %s, i32", "ptr %X, i32").replace("ptr %t, i32", "ptr %u, i32")
USED = """
    %aN = getelementptr inbounds float, ptr %X, i32 %i
    %bN = load float, ptr %aN, align 4
    %cN = getelementptr inbounds i8, ptr %u, i32 %i
    %dN = load i8, ptr %cN, align 1
    %eN = uitofp i8 %dN to float
    %fN = fadd float %bN, %eN
    %gN = fcmp ogt float %fN, 0.000000e+00
    %hN = select i1 %gN, float %fN, float 0.000000e+00
    %kN = getelementptr inbounds float, ptr %Y, i32 %i
    store float %hN, ptr %kN, align 4
"""
ROOM = {"u": "i8, i64 16"}


def test_bytes_without_sign_are_read_as_such() -> None:
    assert compared(llvm([MADE, USED], ROOM), BYTES) == []


def test_bytes_read_with_a_sign_are_something_else() -> None:
    (found,) = compared(llvm([MADE, USED.replace("uitofp", "sitofp")], ROOM), BYTES)
    assert found.different


def test_the_sign_of_other_integers_is_a_decision() -> None:
    """Whether it is negative shows in the number that is made of it without a sign."""
    signed = tensor_ir(
        [
            ("u", "v", 'T.Cast("int8", T.max(T.min(T.round(X[v]), T.float32(127.0)), '
                       'T.float32(-128.0)))'),
            ("Y", "v", 'T.max(X[v] + T.Cast("float32", u[v]), T.float32(0.0))'),
        ],
        {"u": "int8"},
    )  # fmt: skip
    made = MADE.replace("2.550000e+02", "1.270000e+02").replace("fptoui", "fptosi")
    made = made.replace("0.000000e+00", "-1.280000e+02")
    assert compared(llvm([made, USED.replace("uitofp", "sitofp")], ROOM), signed) == []
    (found,) = compared(llvm([made, USED], ROOM), signed)
    assert found.choices[Choice.ROUND]
