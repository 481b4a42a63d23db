"""Functions that hand their tensors to one of the runtime's: clean, and attacks on all of it."""

from __future__ import annotations

import lzma
import re

import onnx
import pytest

from harness.accounting import later, llvm_decisions, reach, relax, relax_script
from harness.accounting.interface import Accounted
from harness.accounting.onnx_values import draw
from tests.unit.accounting_build import BUILD

TENSOR_IR = (BUILD / "sorted.txt").read_text("ascii")
LLVM = lzma.decompress((BUILD / "sorted.ll.xz").read_bytes()).decode()
COMPUTE = "define internal i32 @topk_compute_("
MAKER = "define internal i32 @__tvm_func_handle_init."


def accounted(llvm: str = LLVM, tensor_ir: str = TENSOR_IR) -> Accounted:
    return llvm_decisions.account(llvm.encode(), tensor_ir.encode())


def test_the_build_as_it_is() -> None:
    found = accounted()
    assert not found.findings
    assert not found.unknown
    assert found.things == found.attributed > 200


def changed(old: str, new: str, after: str = COMPUTE) -> str:
    """The module with one change, the first behind ``after``. ``old`` is a pattern."""
    head, mark, rest = LLVM.partition(after)
    assert mark
    rest, count = re.subn(old, new, rest, count=1)
    assert count == 1, old
    return head + mark + rest


def argument(number: int, part: int) -> str:
    """A pattern: up to the value that is stored as a part of an argument."""
    return rf"(ptr %stack_ffi_any, i32 {number}, i32 {part}[^\n]*\n  store i(?:32|64)) "


def header(number: int, *part: int) -> str:
    path = ", ".join(f"i32 {one}" for one in (number, *part))
    return rf"(ptr %stack_array, {path},[^\n]*\n  store (?:i[0-9]+|ptr)) "


def side(number: int) -> str:
    return rf"(ptr %stack_shape, i32 {number},[^\n]*\n  store i64) "


HANDED = {
    "fewer of them": (argument(3, 2) + "3", r"\1 2"),
    "along another axis": (argument(4, 2) + "1", r"\1 0"),
    "the smallest": (argument(6, 2) + "0", r"\1 1"),
    "an argument of another kind": (argument(3, 0) + "1", r"\1 2"),
    "padding that says something": (argument(3, 1) + "0", r"\1 1"),
    "a result that is there already": (argument(7, 0) + "0", r"\1 1"),
    "the places as values": (header(1, 0) + "%value_buf", r"\1 %indices_buf"),
    "the same tensor twice": (header(2, 0) + "%indices_buf", r"\1 %value_buf"),
    "fewer columns": (side(1) + "5", r"\1 4"),
    "more rows": (side(2) + "2", r"\1 3"),
    "another type": (header(0, 3, 0) + "2", r"\1 0"),
    "another width": (header(0, 3, 1) + "32", r"\1 16"),
    "fewer dimensions": (header(0, 2) + "2", r"\1 1"),
    "strides": (header(0, 5) + "null", r"\1 %stack_shape"),
    "an offset": (header(0, 6) + "0", r"\1 4"),
    "another device": (header(0, 1, 0) + "1", r"\1 2"),
    "another number of arguments": (r"(ptr %\d+, i32) 7, ptr", r"\1 6, ptr"),
    "a place behind the stack": (r"ptr %stack_shape, i32 5", "ptr %stack_shape, i32 6"),
    "a failure that is not looked at": (r"icmp eq (i32 %\d+, 0)", r"icmp ne \1"),
    "another text": (r"store ptr @\.str\.(\d+),", r"store ptr @.str,"),
    "another function looked up": (r"@__tvm_func_handle_init\.[a-z.]+\)", "@topk1_compute_)"),
    "returns a failure as none": (r"ret i32 0", "ret i32 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", HANDED)
def test_something_else_is_handed_on(case: str) -> None:
    found = accounted(changed(*HANDED[case]))
    assert any("hands on something else" in one.what for one in found.findings), found


def test_two_stacks_that_are_one() -> None:
    """What is written to one of them would be in the other as well."""
    call = re.search(r"call i32 @topk_compute_\([^\n]*", LLVM)
    assert call
    same = call[0].replace("ptr %stack_shape", "ptr %stack_array")
    found = accounted(LLVM.replace(call[0], same))
    assert found.findings


def test_less_room_than_is_written_to() -> None:
    assert accounted(changed("alloca i64, i32 6", "alloca i64, i32 5", "@__tvm_ffi_topk(")).findings


@pytest.mark.parametrize(
    "more",
    [
        "%900 = load float, ptr %data_buf, align 4",
        "store float 9.0e+00, ptr %data_buf, align 4",
        "store i64 9, ptr %stack_shape, align 8",
    ],
)
def test_something_more_is_done(more: str) -> None:
    head, mark, rest = LLVM.partition(COMPUTE)
    before, call, after = rest.partition("  call void @llvm.assume(")
    found = accounted(f"{head}{mark}{before}  {more}\n{call}{after}")
    assert any("hands on something else" in one.what for one in found.findings)


def test_a_predicate_after_the_call() -> None:
    """What the runtime has sorted is looked at, and changed."""
    head, mark, rest = LLVM.partition(COMPUTE)
    before, end, after = rest.partition("  ret i32 0")
    more = (
        "  %900 = load float, ptr %value_buf, align 4\n"
        "  %901 = fcmp oeq float %900, 1.250000e+00\n"
        "  %902 = select i1 %901, float 9.000000e+00, float %900\n"
        "  store float %902, ptr %value_buf, align 4\n"
    )
    found = accounted(head + mark + before + more + end + after)
    assert any("hands on something else" in one.what for one in found.findings)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"@__TVMFFIEnvModLookupFromImports", "@__TVMFFIFunctionCall"),
        (r"ptr @\.str\.\d+, ptr %0", "ptr @.str, ptr %0"),
        (r"ret i32 %\d+", "ret i32 0"),
    ],
)
def test_the_runtimes_function_is_looked_up_otherwise(old: str, new: str) -> None:
    found = accounted(changed(old, new, MAKER))
    assert found.findings


@pytest.mark.parametrize(
    "name", ["__TVMFFIFunctionCall", "__TVMFFIHandleInitOnce", ".tvm_func.tvm.contrib.sort.topk"]
)
def test_a_pointer_of_the_runtimes_that_is_filled_in_already(name: str) -> None:
    line = re.search(rf"@{re.escape(name)} = [^\n]*global ptr null", LLVM)
    assert line
    filled = line[0].replace("ptr null", "ptr @topk1_compute_")
    found = accounted(LLVM.replace(line[0], filled))
    assert any("replaced" in one.what for one in found.findings)


def test_the_name_of_the_runtimes_function() -> None:
    found = accounted(LLVM.replace('c"tvm.contrib.sort.topk\\00"', 'c"tvm.contrib.sort.topX\\00"'))
    assert found.findings


@pytest.mark.parametrize(
    ("old", "new"),
    [("largest=True", "largest=False"), ("k=3, axis=1", "k=3, axis=0"), ("k=3", "k=2")],
)
def test_a_graph_that_asks_for_something_else(old: str, new: str) -> None:
    assert old in TENSOR_IR
    found = accounted(tensor_ir=TENSOR_IR.replace(old, new, 1))
    assert found.findings or found.unknown


def test_what_the_graph_asks_for() -> None:
    main = relax_script.functions(TENSOR_IR.encode(), "tensor-ir")["main"]
    first, second = later.externals(main).values()
    assert (first.name, second.name) == ("topk", "topk1")
    assert (first.arguments, second.arguments) == ((3, 1, "both", 0), (3, 1, "both", 1))
    assert first.types == (("float32", (2, 5)), ("float32", (2, 3)), ("int64", (2, 3)))


def test_what_is_picked_depends_on_its_row() -> None:
    model = onnx.load(BUILD / "sorted.onnx")
    held = relax.constants_of(model)
    drawn = draw(model, {"x": (2, 5)})
    clean = reach.account(TENSOR_IR.encode(), held, model, drawn)
    assert not clean.findings
    assert not clean.unknown
    text = TENSOR_IR.replace("k=3, axis=1", "k=2, axis=0", 1).replace("(2, 3)", "(2, 5)")
    assert reach.account(text.encode(), held, model, drawn).unknown  # shapes do not fit
