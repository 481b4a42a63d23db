"""Loops that run in parallel, tensors with an offset, and operators that are lowered later."""

from __future__ import annotations

import lzma
import re

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.accounting import (
    later,
    llvm_decisions,
    reach,
    relax,
    relax_script,
    tir_script,
)
from harness.accounting.interface import Accounted
from harness.accounting.onnx_values import draw
from harness.accounting.relax_script import syntax
from harness.accounting.tir_block import Memory, OneByOne, at_once, run
from tests.unit.accounting_build import BUILD

TENSOR_IR = (BUILD / "parallel.txt").read_bytes()
LLVM = lzma.decompress((BUILD / "parallel.ll.xz").read_bytes()).decode()
FIRST = "define private i32 @__tvm_parallel_lambda("


def accounted(llvm: str = LLVM) -> Accounted:
    return llvm_decisions.account(llvm.encode(), TENSOR_IR)


def test_the_build_as_it_is() -> None:
    found = accounted()
    assert not found.findings
    assert not found.unknown
    assert found.things == found.attributed > 0


def changed(old: str, new: str, after: str = FIRST) -> str:
    """The module with one change, behind the first place of ``after``."""
    head, mark, rest = LLVM.partition(after)
    assert mark
    assert old in rest, old
    return head + mark + rest.replace(old, new, 1)


OTHERWISE = {
    "a share that is not rounded up": ("%8 = sub nsw i64 %7, 1,", "%8 = sub nsw i64 %7, 2,"),
    "a share of another length": ("%7 = add nsw i64 2, %6", "%7 = add nsw i64 3, %6"),
    "a loop that ends before": ("%14 = icmp slt i64 %13, 2", "%14 = icmp slt i64 %13, 1"),
    "a share that begins elsewhere": ("i1 %23, i64 %22, i64 2", "i1 %23, i64 %22, i64 1"),
    "every task from the beginning": ("phi i64 [ %24,", "phi i64 [ 0,"),
    "each task to the end": ("icmp slt i64 %v, %15", "icmp slt i64 %v, 2"),
    "a share for the next task": ("%22 = mul nsw i64 %21,", "%22 = mul nsw i64 %12,"),
    "the task's number used otherwise": ("mul nsw i64 %v, 3", "mul nsw i64 %11, 3"),
    "what the runtime says of the tasks": ("ptr %0, i32 0, i32 1", "ptr %0, i32 0, i32 0"),
    "another loop within": ("icmp slt i64 %v5, 2", "icmp slt i64 %v5, 1"),
    "another element": ("add nsw i64 %32, 1", "add nsw i64 %32, 2"),
    "another operator": ("fadd float %37, %35", "fsub float %37, %35"),
    "an offset left out": ("add nsw i64 %cse_v1, %elem_offset", "add nsw i64 %cse_v1, 0"),
    "an offset twice": ("add nsw i64 %32, 1", "add nsw i64 %32, %elem_offset"),
    "an offset of what is written": ("%out_buf, i64 %cse_v1", "%out_buf, i64 %elem_offset"),
    "an offset as a factor": ("mul nsw i64 %v, 3", "mul nsw i64 %v, %elem_offset"),
    "a loop that says it failed": ("ret i32 0", "ret i32 1"),
    "another part of the structure": ("ptr %1, i32 0, i32 1", "ptr %1, i32 0, i32 0"),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_a_parallel_loop_that_does_something_else(case: str) -> None:
    found = accounted(changed(*OTHERWISE[case]))
    assert found.findings or found.unknown


COMPUTE = "define internal i32 @cumsum_compute_("
AROUND = {
    "more tasks at once": (r"(@__tvm_parallel_lambda, ptr %\d+, i32) 0", r"\1 1"),
    "another function": (r"@__tvm_parallel_lambda, ptr", "@__tvm_parallel_lambda.53, ptr"),
    "going on if it failed": (r"icmp eq (i32 %\d+, 0)", r"icmp ne \1"),
    "a constant in the place of the offset": (r"store i64 %elem_offset, (ptr %\d+, align 8, !dbg "
                                              r"![0-9]+\n  %\d+ = load ptr)", r"store i64 7, \1"),
}  # fmt: skip


def test_parts_of_the_structure_that_overlap_or_lie_outside() -> None:
    """A second store may change what the first one put there."""
    head, mark, rest = LLVM.partition(COMPUTE)
    place = re.search(
        r"  (%\d+) = (getelementptr inbounds %closure_loop_parallel_v, ptr %\d+)", rest
    )
    assert place
    line = rest[place.start() :].partition("\n")[0]
    for offset in ("i32 0, i32 0", "i32 1, i32 0", "i32 -1, i32 0"):
        more = (
            f"  %900 = {place[2]}, {offset}, !dbg !0\n"
            "  store ptr %out_buf, ptr %900, align 8, !dbg !0\n"
        )
        found = accounted(head + mark + rest.replace(line, more + line, 1))
        assert found.findings or found.unknown


@pytest.mark.parametrize("case", AROUND)
def test_a_parallel_loop_that_is_started_otherwise(case: str) -> None:
    old, new = AROUND[case]
    head, mark, rest = LLVM.partition(COMPUTE)
    rest, count = re.subn(old, new, rest, count=1)
    assert count == 1
    found = accounted(head + mark + rest)
    assert found.findings or found.unknown


def test_an_offset_of_another_width() -> None:
    text = changed("udiv i64 %", "udiv i64 %", "@__tvm_ffi_cumsum(")
    head, mark, rest = text.partition("@__tvm_ffi_cumsum(")
    rest, count = re.subn(r"(%elem_offset = udiv i64 %\d+), 4", r"\1, 8", rest, count=1)
    assert count == 1
    assert accounted(head + mark + rest).findings


DECIDING = [
    ("%28 = load float, ptr %27, align 4", "store float %28",
     "%90 = fcmp oeq float %28, 1.250000e+00\n  %91 = select i1 %90, float 9.0e+00, float %28"),
    ("%38 = fadd float %37, %35", "store float %38",
     "%90 = fcmp ogt float %38, 6.400000e+01\n  %91 = select i1 %90, float 9.0e+00, float %38"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "stored", "more"), DECIDING)
def test_a_predicate_in_a_parallel_loop(made: str, stored: str, more: str) -> None:
    head, mark, rest = LLVM.partition(FIRST)
    before, middle, after = rest.partition(made)
    assert middle
    after = after.replace("\n", f"\n  {more}\n", 1).replace(stored, "store float %91", 1)
    found = accounted(head + mark + before + middle + after)
    assert any("decides by data" in one.what for one in found.findings)


def test_a_store_more_in_a_parallel_loop() -> None:
    line = re.search(r"  store float %28, ptr %29[^\n]*\n", LLVM)
    assert line
    found = accounted(LLVM.replace(line[0], line[0] * 2, 1))
    assert found.findings or found.unknown


# Operators that are lowered later.


def sum_of(x: NDArray[np.float64], axis: int, exclusive: bool) -> NDArray[np.float64]:
    whole = np.cumsum(x, axis)
    return whole - x if exclusive else whole


@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4), (1, 5), (4, 1)])
@pytest.mark.parametrize("exclusive", [False, True])
def test_what_a_running_sum_is_held_against(shape: tuple[int, ...], exclusive: bool) -> None:
    x = np.random.default_rng(1).standard_normal((2, *shape))
    for axis in range(len(shape)):
        function = later.running_sum("cumsum", shape, "float32", axis, exclusive)
        memory = Memory(function.buffers, 2)
        memory.arrays["X"] = x.reshape(2, -1)
        for statement in function.body:
            run(statement, memory)
        assert not memory.gaps
        wanted = sum_of(x, axis + 1, exclusive).reshape(2, -1)
        assert np.allclose(memory.arrays["Y"], wanted, atol=1e-12)


def bindings(*calls: str) -> relax_script.Function:
    lines = [
        "@I.ir_module", "class Module:", "    @R.function",
        '    def main(x: R.Tensor((2, 3), dtype="float32")) -> R.Tensor((2, 3), dtype="float32"):',
        "        with R.dataflow():",
        *(f'            v{at}: R.Tensor((2, 3), dtype="float32") = R.cumsum({call})'
          for at, call in enumerate(calls)),
        f"            R.output(v{len(calls) - 1})", f"        return v{len(calls) - 1}", "",
    ]  # fmt: skip
    return relax_script.functions("\n".join(lines).encode(), "graph")["main"]


def test_like_calls_share_a_function_and_others_are_numbered() -> None:
    plain = "axis=1, dtype=None, exclusive=False"
    found = later.lowered(
        bindings(f"x, {plain}", "v0, axis=0, dtype=None, exclusive=False", f"v1, {plain}")
    )
    assert [one.name for one in found.values()] == ["cumsum", "cumsum1", "cumsum"]


@pytest.mark.parametrize(
    "call",
    [
        'x, axis=1, dtype="float64", exclusive=False',
        "x, axis=None, dtype=None, exclusive=False",
        "x, axis=2, dtype=None, exclusive=False",
        "x, axis=1, dtype=None, exclusive=False, reverse=True",
        "x, axis=1, dtype=None",
    ],
)
def test_a_form_that_is_not_known_is_left_out(call: str) -> None:
    assert not later.lowered(bindings(call))


def test_another_sum_than_the_models_is_found() -> None:
    """The same function, of which the graph says something else."""
    text = TENSOR_IR.decode()
    assert text.count("exclusive=False") == 1
    other = text.replace("exclusive=False", "exclusive=True")
    found = llvm_decisions.account(LLVM.encode(), other.encode())
    assert found.findings or found.unknown


# Which items flow where, in loops without blocks.


def batch(text: str) -> Accounted:
    model = onnx.load(BUILD / "parallel.onnx")
    held = relax.constants_of(model)
    drawn = draw(model, {"x": (2, 3)})
    return reach.account(text.encode(), held, model, drawn)


def test_a_running_sum_and_a_scatter_keep_to_their_items() -> None:
    found = batch(TENSOR_IR.decode())
    assert not found.findings
    assert not found.unknown
    assert found.things == 2


def test_a_scatter_into_another_item() -> None:
    text = TENSOR_IR.decode()
    (line,) = [one for one in text.split("\n") if "out_buf[" in one and "B[" in one]
    value = line.partition(" = ")[2]
    old = value.rpartition("lv[")[2]
    index = old.partition(" // ")[0]
    assert line.count(f"lv[{index} // ") == 1
    other = line.replace(f"lv[{index} // T.int64(3)", f"lv[T.int64(1) - {index} // T.int64(3)")
    assert other != line
    found = batch(text.replace(line, other))
    assert len(found.findings) == 2


def test_a_running_sum_over_the_items() -> None:
    text = TENSOR_IR.decode().replace("R.cumsum(x, axis=1", "R.cumsum(x, axis=0")
    found = batch(text)
    assert [one.path[0] for one in found.findings] == ["item 0 of input x"]


# Loops at once give what they give one by one.


def function_of(place: str, value: str) -> tir_script.Function:
    lines = [
        "@I.ir_module", "class Module:", "    @T.prim_func(private=True)",
        '    def f(X: T.Buffer((T.int64(6),), "float32"), Y: T.Buffer((T.int64(6),), "float32")):',
        "        for i in T.parallel(T.int64(2)):", "            for j in range(T.int64(3)):",
        f"                Y[{place}] = {value}", "",
    ]  # fmt: skip
    tree = syntax("\n".join(lines).encode(), "f")
    return tir_script.functions_of(tree, "f").read["f"]


PLACES = (
    "i * T.int64(3) + j", "j * T.int64(2) + i", "i + j", "T.int64(5) - i * T.int64(3) - j",
    "(i * T.int64(3) + j) % T.int64(4)", "j",
)  # fmt: skip
VALUES = (
    "X[i * T.int64(3) + j]", "T.float32(2.0)", "Y[i * T.int64(3) + j] + X[j]", "Y[j] + X[i]",
    'T.Cast("float32", i)',
)  # fmt: skip


@given(st.sampled_from(PLACES), st.sampled_from(VALUES), st.booleans())
def test_at_once_is_one_by_one(place: str, value: str, filled: bool) -> None:
    function = function_of(place, value)
    made = []
    for way in (at_once, None):
        memory = Memory(function.buffers, 2)
        memory.arrays["X"] = np.arange(12.0).reshape(2, 6)
        if filled:
            memory.arrays["Y"] = -np.arange(12.0).reshape(2, 6)
        elif "Y[" in value:
            return
        if way is None:
            OneByOne(memory).run(function.body[0])
        elif not way(function.body[0], memory):
            return
        gaps = memory.gaps.get("Y", np.zeros(6, bool))
        made.append((np.where(gaps, 0, memory.arrays["Y"] + np.zeros((2, 6))), gaps))
    assert np.array_equal(made[0][0], made[1][0])
    assert np.array_equal(made[0][1], made[1][1])


def test_at_once_is_what_runs_where_it_can() -> None:
    memory = Memory(function_of(PLACES[0], VALUES[0]).buffers, 1)
    memory.arrays["X"] = np.zeros((1, 6))
    assert at_once(function_of(PLACES[0], VALUES[0]).body[0], memory)
    assert not at_once(function_of("j", VALUES[0]).body[0], memory)
