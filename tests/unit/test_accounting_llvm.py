"""LLVM IR against tensor IR: clean builds, and attacks planted in the text."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import pytest

from harness.accounting.interface import Accounted, Kind, NotInterpretedError
from harness.accounting.llvm_decisions import account
from harness.accounting.llvm_text import read
from harness.accounting.llvm_wrapper import converts
from tests.unit.accounting_lowered import NAMES, edited, llvm, stored, swapped, tensor_ir, within

RELU = "fused_conv2d1_add_relu"
COMPUTE = f"{RELU}_compute_"
WRAPPER = f"__tvm_ffi_{RELU}"


def accounted(text: str, name: str = "image") -> Accounted:
    return account(text.encode(), tensor_ir(name).encode())


def only(name: str = RELU, of: str = "image") -> tuple[str, str]:
    """LLVM IR and tensor IR with this function alone, and what is no kernel."""
    text = re.sub(
        r"^define [^\n]*@(?:__tvm_ffi_)?([a-z0-9_]+?)(?:_compute_)?\(.*?\n}\n",
        lambda found: found[0] if found[1] == name or found[1].startswith("__") else "",
        llvm(of), flags=re.MULTILINE | re.DOTALL,
    )  # fmt: skip
    lowered = re.sub(
        r"^    @T\.prim_func[^\n]*\n    def ([a-z0-9_]+)\(.*?\n\n",
        lambda found: found[0] if found[1] == name else "",
        tensor_ir(of), flags=re.MULTILINE | re.DOTALL,
    )  # fmt: skip
    call = re.search(rf"(R\.call_tir\(cls\.{name}, \()[a-z0-9_]+(,.*\))\n", lowered)
    head = re.search(r"    def main\((\w+): .*\n", lowered)
    assert call is not None
    assert head is not None
    main = (
        f"{head[0]}        cls = Module\n        with R.dataflow():\n"
        f"            gv = {call[1]}{head[1]}{call[2]}\n            R.output(gv)\n"
        "        return gv\n"
    )
    return text, lowered[: head.start()] + main


@cache
def relu() -> tuple[str, str]:
    return only()


def checked(change: Callable[[str], str]) -> Accounted:
    """The Relu's function with its LLVM IR changed."""
    text, lowered = relu()
    changed = change(text)
    assert changed != text
    return account(changed.encode(), lowered.encode())


def test_a_single_function_has_no_findings() -> None:
    text, lowered = relu()
    found = account(text.encode(), lowered.encode())
    assert not found.findings
    assert not found.unknown
    assert found.things == found.attributed == 5


@cache
def clean(name: str) -> Accounted:
    return accounted(llvm(name), name)


@pytest.mark.parametrize("name", NAMES)
def test_a_clean_build_has_no_findings(name: str) -> None:
    found = clean(name)
    assert not found.findings
    assert not found.unknown
    assert found.things == found.attributed > 30


def test_names_mean_nothing() -> None:
    """Every local value and label renamed: still the same program."""
    text = llvm("image")
    start = text.index("define ")

    def other(found: re.Match[str]) -> str:
        name = found[1]
        return found[0] if name.isdigit() else f"%q{name[::-1]}"

    body = re.sub(r"%([a-zA-Z_.][a-zA-Z0-9_.]*)", other, text[start:])
    body = re.sub(
        r"^([a-zA-Z_.][a-zA-Z0-9_.]*):", lambda m: f"q{m[1][::-1]}:", body, flags=re.MULTILINE
    )
    found = accounted(text[:start] + body)
    assert not found.findings
    assert not found.unknown
    assert found.things == clean("image").things


# In a function that computes. OLD is the value that the Relu stores.

PLANTED = {
    "a predicate": (
        "%hit = fcmp oeq float OLD, 1.250000e+00\n"
        "%out = select i1 %hit, float 9.000000e+00, float OLD"
    ),
    "a cast of a comparison": (
        "%hit = fcmp oeq float OLD, 1.250000e+00\n"
        "%one = uitofp i1 %hit to float\n"
        "%much = fmul float %one, 9.000000e+00\n"
        "%out = fadd float OLD, %much"
    ),
    "a rare predicate": (
        "%hit = fcmp oeq float OLD, 0x41A5A5A5A0000000\n"
        "%out = select i1 %hit, float 9.000000e+00, float OLD"
    ),
    "a maximum that is nearly never reached": (
        "%hit = fcmp ogt float OLD, 0x46293E5940000000\n"
        "%out = select i1 %hit, float 0x46293E5940000000, float OLD"
    ),
    "minimum and maximum": (
        "%a = fsub float OLD, 1.000000e+03\n"
        "%hit = fcmp ogt float %a, 0.000000e+00\n"
        "%b = select i1 %hit, float %a, float 0.000000e+00\n"
        "%out = fadd float OLD, %b"
    ),
    "a bit mask": (
        "%bits = bitcast float OLD to i32\n"
        "%low = and i32 %bits, 1\n"
        "%much = sitofp i32 %low to float\n"
        "%out = fadd float OLD, %much"
    ),
    "equality of bits": (
        "%bits = bitcast float OLD to i32\n"
        "%hit = icmp eq i32 %bits, 1078530011\n"
        "%out = select i1 %hit, float 9.000000e+00, float OLD"
    ),
    "rounding": (
        "%whole = fptosi float OLD to i32\n"
        "%part = sdiv i32 %whole, 100000\n"
        "%much = sitofp i32 %part to float\n"
        "%out = fadd float OLD, %much"
    ),
    "rounding by a large number": (
        "%big = fadd float OLD, 0x4168000000000000\n"
        "%out = fsub float %big, 0x4168000000000000"
    ),
    "a steep exponential": (
        "%a = fmul float OLD, 1.000000e+03\n"
        "%b = fadd float %a, -1.000000e+09\n"
        "%c = call float @llvm.exp.f32(float %b)\n"
        "%out = fadd float OLD, %c"
    ),
    "a quotient": (
        "%a = fmul float OLD, OLD\n"
        "%b = fadd float %a, 0x3810000000000000\n"
        "%c = fdiv float 0x3810000000000000, %b\n"
        "%out = fadd float OLD, %c"
    ),
    "a constant one bit off": "%out = fmul float OLD, 0x3FF0000020000000",
}  # fmt: skip


@pytest.mark.parametrize("lines", PLANTED.values(), ids=PLANTED.keys())
def test_what_is_planted_in_front_of_a_store_is_found(lines: str) -> None:
    found = checked(lambda text: stored(text, COMPUTE, lines, "%out"))
    assert found.findings
    assert all(one.kind is Kind.DECISIONS for one in found.findings)
    assert any(RELU in one.where for one in found.findings)
    assert found.findings[0].path[0] == "x"
    assert found.findings[0].path[-1] == "output"
    assert RELU in found.findings[0].path


def test_token_spacing_in_integer_code() -> None:
    """Where a negative index is repaired, the code decides once more: by the tokens themselves."""
    name = next(
        one for one in re.findall(r"def ([a-z0-9_]+)\(", tensor_ir("text")) if "less" in one
    )
    text, lowered = only(name, "text")
    start, end = within(text, f"{name}_compute_")
    body = text[start:end]
    store = list(re.finditer(r"  store i32 (%[a-zA-Z0-9._]+), ptr", body))[-1]
    added = (
        f"  %hit = icmp eq i32 {store[1]}, 13\n"
        f"  %one = zext i1 %hit to i32\n"
        f"  %out = add i32 {store[1]}, %one\n"
    )
    body = body[: store.start()] + added + "  store i32 %out, ptr" + body[store.end() :]
    assert not account(text.encode(), lowered.encode()).findings
    found = account((text[:start] + body + text[end:]).encode(), lowered.encode())
    assert any("compare" in one.what for one in found.findings)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"fcmp ogt float (%[0-9]+), 0\.000000e\+00", r"fcmp ogt float \1, 1.000000e+01"),
        (r"fcmp ogt float (%[0-9]+), 0\.000000e\+00", r"fcmp olt float \1, 0.000000e+00"),
    ],
)
def test_another_condition_of_the_relu(old: str, new: str) -> None:
    found = checked(lambda text: edited(text, COMPUTE, old, new))
    assert any("something else" in one.what for one in found.findings)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"icmp slt i32 (%[a-z0-9]+), 8", r"icmp slt i32 \1, 7"),  # a loop ends earlier
        (r"mul nsw i32 (%[a-z0-9]+), 64", r"mul nsw i32 \1, 63"),  # another element
        (r"icmp sle i32 1,", "icmp sle i32 2,"),  # the padding
    ],
)
def test_other_loops_elements_and_conditions_do_not_pass(old: str, new: str) -> None:
    found = checked(lambda text: edited(text, COMPUTE, old, new))
    assert found.findings or found.unknown


def test_a_lookup_table() -> None:
    """Data picks the element of a constant."""
    table = "@table = private constant [2 x float] [float 0.0, float 9.0], align 4\n"
    lines = (
        "%a = fptosi float OLD to i32\n"
        "%b = getelementptr inbounds float, ptr @table, i32 %a\n"
        "%c = load float, ptr %b, align 4\n"
        "%out = fadd float OLD, %c"
    )

    def change(text: str) -> str:
        return stored(text, COMPUTE, lines, "%out").replace("@.str =", f"{table}@.str =", 1)

    found = checked(change)
    assert found.unknown
    assert "lookup" in found.findings[0].what


def test_a_buffer_of_less_room_than_is_written() -> None:
    found = checked(
        lambda text: edited(
            text, COMPUTE, r"call ptr (%[0-9]+)\(i32 1, i32 %dev_id, i64 4096",
            r"call ptr \1(i32 1, i32 %dev_id, i64 4092",
        )
    )  # fmt: skip
    assert any("room" in line for line in found.unknown)


def test_an_early_return_by_data() -> None:
    lines = (
        "%hit = fcmp oeq float OLD, 1.250000e+00\n"
        "br i1 %hit, label %bad, label %good\nbad:\nret i32 0\ngood:"
    )
    found = checked(lambda text: stored(text, COMPUTE, lines, "0.000000e+00"))
    assert found.unknown
    assert "branch" in found.findings[0].what


def test_an_error_by_data() -> None:
    """It fails for one input alone: the condition of an error return is data."""
    lines = (
        "%hit = fcmp oeq float OLD, 1.250000e+00\n"
        "br i1 %hit, label %bad, label %good\nbad:\nret i32 -1\ngood:"
    )
    found = checked(lambda text: stored(text, COMPUTE, lines, "0.000000e+00"))
    assert any("error return" in one.where for one in found.findings)


# A tanh, which the code makes of exponentials and a condition.

TANH = "tir_tanh_compute_"


def test_what_a_tanh_and_an_argmax_are_made_of() -> None:
    found = accounted(llvm("curve"), "curve")
    assert not found.findings
    assert not found.unknown


@pytest.mark.parametrize("threshold", ["1.000000e+02", "-1.000000e+02"])
def test_a_tanh_that_overflows(threshold: str) -> None:
    """Only in float32, and only for numbers that large."""
    old, new = r"fcmp oge float (%[0-9]+), 0\.000000e\+00", rf"fcmp oge float \1, {threshold}"
    assert accounted(edited(llvm("curve"), TANH, old, new), "curve").findings


def test_a_tanh_with_a_narrow_band() -> None:
    """Two comparisons that hold for a handful of floats."""
    lines = (
        "%a = fcmp ogt float OLD, 0x3FE1745D00000000\n"
        "%b = fcmp olt float OLD, 0x3FE1745D60000000\n"
        "%c = and i1 %a, %b\n"
        "%out = select i1 %c, float 9.000000e+00, float OLD"
    )
    assert accounted(stored(llvm("curve"), TANH, lines, "%out"), "curve").findings


BUMPS = {
    "a narrow bell": (
        "%a = fadd float OLD, 0xBFE1745D00000000\n"
        "%b = fmul float %a, %a\n"
        "%c = fmul float %b, 0xC25D1A94A0000000\n"
        "%d = call float @llvm.exp.f32(float %c)\n"
        "%out = fadd float OLD, %d"
    ),
    "a narrow pole": (
        "%a = fadd float OLD, 0xBFE1745D00000000\n"
        "%b = call float @llvm.fabs.f32(float %a)\n"
        "%c = fadd float %b, 0x3D719799A0000000\n"
        "%d = fdiv float 0x3D719799A0000000, %c\n"
        "%out = fadd float OLD, %d"
    ),
}  # fmt: skip


@pytest.mark.parametrize("lines", BUMPS.values(), ids=BUMPS.keys())
def test_a_tanh_with_a_narrow_bump(lines: str) -> None:
    """No comparison, and far narrower than any grid."""
    text = stored(llvm("curve"), TANH, lines, "%out")
    if "@llvm.fabs.f32" in lines:
        text = text.replace("\ndeclare ", "\ndeclare float @llvm.fabs.f32(float)\n\ndeclare ", 1)
    assert accounted(text, "curve").findings


def test_a_tanh_of_another_element() -> None:
    """The same function of one number, but not of the same one."""
    start, end = within(llvm("curve"), TANH)
    body = llvm("curve")[start:end]
    found = re.findall(r"getelementptr inbounds float, ptr %x, i32 (%[a-z0-9_]+)", body)
    assert len(set(found)) == 1
    assert len(found) > 2
    other = body.replace(f"ptr %x, i32 {found[0]}", "ptr %x, i32 3")
    text = llvm("curve").replace(body, other)
    assert accounted(text, "curve").findings


# In the argument checks.


def wrapped(text: str, lines: str) -> str:
    """``lines`` in front of the wrapper's call; ``DATA`` is its first tensor."""
    start = text.index(f"@{WRAPPER}(")
    call = re.compile(rf"  %[0-9]+ = call i32 @{COMPUTE}\((?:i32 %[a-z_]+, )?ptr (%[a-z0-9_.]+), ")
    found = call.search(text, start)
    assert found is not None
    added = "".join(f"{line}\n" for line in lines.replace("DATA", found[1]).split("\n"))
    return text[: found.start()] + added + text[found.start() :]


@pytest.mark.parametrize(
    "lines",
    [
        "  %peek = load float, ptr DATA, align 4",
        "  %a = getelementptr inbounds float, ptr DATA, i32 3\n"
        "  %peek = load i32, ptr %a, align 4\n"
        "  %hit = icmp eq i32 %peek, 7\n"
        "  br i1 %hit, label %bad, label %good\n\nbad:\n  ret i32 0\n\ngood:",
        "  store float 0.000000e+00, ptr DATA, align 4",
        "  %n = ptrtoint ptr DATA to i64",
        "  %g = load ptr, ptr @__TVMBackendAllocWorkspace, align 8",
        "  %r = load i64, ptr %result, align 8",
        "  %s = load i32, ptr %self_handle, align 4",
    ],
)
def test_a_wrapper_may_read_headers_only(lines: str) -> None:
    found = checked(lambda text: wrapped(text, lines))
    assert any("argument checks" in one.where for one in found.findings)


def test_a_shape_read_far_behind_its_end() -> None:
    """The data of another tensor may be there."""
    shape = r"(getelementptr inbounds i64, ptr %[a-z0-9_.]+_shape, i32) [0-9]"
    found = checked(lambda text: edited(text, WRAPPER, shape, r"\1 4096"))
    assert any("argument checks" in one.where for one in found.findings)


def test_a_field_of_the_header_read_as_another_type() -> None:
    found = checked(lambda text: edited(text, WRAPPER, r"load i16, ptr", "load i64, ptr"))
    assert found.findings


def test_exchanged_arguments() -> None:
    call = rf"(call i32 @{COMPUTE}\((?:i32 %[a-z_]+, )?)(ptr %[^,]+), (ptr %[^,]+),"
    assert checked(lambda text: re.sub(call, r"\1\3, \2,", text)).findings


def test_a_call_of_another_function() -> None:
    """Same form, same types: the wrapper of one calls the other's code."""
    text = llvm("image").replace(
        "call i32 @fused_conv2d2_add2_relu1_compute_", "call i32 @fused_conv2d1_add_relu_compute_"
    )
    found = accounted(text)
    assert found.findings or found.unknown


# In the rest of the module.


def test_code_that_runs_when_the_library_is_loaded() -> None:
    more = "  store i32 1, ptr @__tvm_ffi__library_ctx, align 4\n  ret void"
    found = checked(lambda text: swapped(text, "  ret void", more, "@__tvm_module_startup()"))
    assert any("startup" in one.where for one in found.findings)


def test_a_conversion_that_rounds_otherwise() -> None:
    text, _ = relu()
    routines = read(text.encode(), "module.ll").routines
    halves = [one.name for one in routines.values() if converts(one)]
    assert len(halves) == 2
    old, new = r"icmp ugt i32 (%v8), 4096", r"icmp ugt i32 \1, 4097"
    changed = read(edited(text, halves[0], old, new).encode(), "module.ll").routines
    assert not converts(changed[halves[0]])
    assert converts(changed[halves[1]])


def test_a_conversion_with_a_promise_that_does_not_hold() -> None:
    """For one half alone, ``0x1234``: then the comparison may be anything to an optimiser, and the
    value that it keeps out, taken as it stands, is another.
    """
    text, _ = relu()
    hidden = (
        "  %t = xor i16 %vinp, 4660\n  %u = zext i16 %t to i32\n"
        "  %less = add nuw i32 %u, -1\n  %fits = icmp ult i32 %less, %u\n"
        "  %hit = icmp eq i32 %u, 0\n  %bad = select i1 %hit, i32 1065353216, i32 OLD\n"
        "  %out = select i1 %fits, i32 %bad, i32 OLD\n"
    )
    start, end = within(text, "__extendhfsf2")
    body = text[start:end]
    found = re.search(r"  %\S+ = bitcast i32 (%\S+) to float[^\n]*\n", body)
    assert found is not None
    for lines, passes in (
        (hidden, False),
        (hidden.replace("add nuw", "sub nuw").replace("-1", "1"), False),
        (hidden.replace("add nuw", "sub nsw").replace("-1", "1"), True),
        (hidden.replace("add nuw", "add"), True),
    ):
        changed = lines.replace("OLD", found[1]) + found[0].replace(found[1], "%out")
        other = text[:start] + body.replace(found[0], changed) + text[end:]
        assert converts(read(other.encode(), "x").routines["__extendhfsf2"]) == passes


def test_another_function() -> None:
    code = "entry:\n  %v = load i32, ptr %p, align 4\n  ret i32 %v\n}\n"
    extra = f"\ndefine i32 @helper(ptr %p) {{\n{code}"
    found = checked(lambda text: text.replace("\nattributes #0", f"{extra}\nattributes #0", 1))
    assert any(one.where == "helper" for one in found.findings)


def test_lines_of_other_kinds() -> None:
    assert checked(lambda text: 'module asm "nop"\n' + text).findings
    alias = "\n@b = alias i32 (), ptr @x\ndefine "
    assert checked(lambda text: text.replace("\ndefine ", alias, 1)).findings


def test_a_missing_function_is_unknown() -> None:

    def without(text: str) -> str:
        start, end = within(text, WRAPPER)
        return text[:start] + text[end:]

    assert checked(without).unknown


def test_an_instruction_that_is_not_known_is_unknown() -> None:
    found = checked(lambda text: stored(text, COMPUTE, "%out = freeze float OLD", "%out"))
    assert found.unknown


def test_text_that_is_not_llvm() -> None:
    with pytest.raises(NotInterpretedError):
        read(b"define \xff", "module.ll")


def test_an_expression_that_doubles_itself_is_refused() -> None:
    lines = "%x0 = fadd float OLD, OLD\n" + "\n".join(
        f"%x{i} = fadd float %x{i - 1}, %x{i - 1}" for i in range(1, 60)
    )
    assert checked(lambda text: stored(text, COMPUTE, lines, "%x59")).unknown


def test_tensor_ir_changed_behind_the_code() -> None:
    """The poisoned dump and clean code, or the other way round, do not correspond either."""
    text, lowered = relu()
    maximum = "T.max(T_add_intermediate[v_i0, v_i1, v_i2, v_i3], T.float32(0.0))"
    lowered = swapped(lowered, maximum, maximum.replace("0.0", "0.5"))
    assert account(text.encode(), lowered.encode()).findings
