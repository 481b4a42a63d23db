"""Memory of two types, shared loops, dead stores and names in quotes: clean code, and attacks."""

from __future__ import annotations

import pytest

from harness.accounting import tir
from harness.accounting.interface import NotInterpretedError
from harness.accounting.llvm_lift import lift
from harness.accounting.llvm_offsets import UnlikeError
from harness.accounting.llvm_pairs import Excess, checked
from harness.accounting.llvm_text import read
from harness.accounting.tir_script import Function

MANY = 16


def tensor_ir(blocks: list[tuple[str, str, str]], buffers: dict[str, str]) -> Function:
    """A function from X to Y with one loop per block: (buffer, index of the store, value)."""
    lines = [
        "@I.ir_module", "class Module:", "    @T.prim_func(private=True, s_tir=True)",
        f'    def f(X: T.Buffer((T.int64({MANY}),), "float32"),'
        f' Y: T.Buffer((T.int64({MANY}),), "float32")):',
        '        T.func_attr({"tirx.noalias": True})',
        *(f'        {name} = T.sblock_alloc_buffer((T.int64({MANY}),), "{dtype}")'
          for name, dtype in buffers.items()),
    ]  # fmt: skip
    for number, (name, index, value) in enumerate(blocks):
        lines += [
            f"        for i in range(T.int64({MANY})):",
            f'            with T.sblock("b{number}"):',
            f"                v = T.axis.spatial(T.int64({MANY}), i)",
            f"                {name}[{index}] = {value}",
        ]
    lines += [
        "", "    @R.function",
        f'    def main(x: R.Tensor(({MANY},), dtype="float32"))'
        f' -> R.Tensor(({MANY},), dtype="float32"):',
        "        cls = Module", "        with R.dataflow():",
        f'            gv = R.call_tir(cls.f, (x,), out_ty=R.Tensor(({MANY},), dtype="float32"))',
        "            R.output(gv)", "        return gv", "",
    ]  # fmt: skip
    return tir.read("\n".join(lines).encode()).functions.read["f"]


def llvm(loops: list[str], places: dict[str, str]) -> str:
    """``places``: allocas. In a loop, ``N`` makes its names its own; ``%i`` counts."""
    out = ["define internal i32 @f(ptr noalias %X, ptr noalias %Y) #3 {", "entry:"]
    out += [f"  %{name} = alloca {what}, align 16" for name, what in places.items()]
    before = "entry"
    for number, body in enumerate(loops):
        head, inside, next_, end = (f"{part}{number}" for part in ("head", "body", "next", "end"))
        out += [
            f"  br label %{head}", "", f"{head}:",
            f"  %i{number} = phi i32 [ 0, %{before} ], [ %j{number}, %{next_} ]",
            f"  %c{number} = icmp slt i32 %i{number}, {MANY}",
            f"  br i1 %c{number}, label %{inside}, label %{end}", "", f"{inside}:",
            *(f"  {line.strip()}".replace("%i,", f"%i{number},").replace("N", f"_{number}_")
              for line in (body + "\n").replace("%i\n", f"%i{number}\n").split("\n")
              if line.strip()),
            f"  br label %{next_}", "", f"{next_}:", f"  %j{number} = add nsw i32 %i{number}, 1",
            f"  br label %{head}", "", f"{end}:",
        ]  # fmt: skip
        before = end
    return "\n".join([*out, "  ret i32 0", "}", ""])


def compared(text: str, function: Function) -> list[Excess]:
    assembly = read(text.encode(), "module.ll")
    assert not assembly.unread
    return checked(function, lift(assembly.routines["f"]))


# A float temporary whose memory then holds bytes, as TVM shares it.

QUANTIZED = tensor_ir(
    [
        ("t", "v", "X[v] * T.float32(2.0)"),
        ("s", "v", "t[v] + T.float32(0.5)"),
        ("u", "v", 'T.Cast("uint8", T.max(T.min(T.round(s[v]), T.float32(255.0)), '
                   'T.float32(0.0)))'),
        ("Y", "v", 'T.Cast("float32", T.Cast("int32", u[v]) - 10)'),
    ],
    {"t": "float32", "s": "float32", "u": "uint8"},
)  # fmt: skip
PLACES = {"t": "float, i64 16", "s": "float, i64 16"}
FIRST = """
    %aN = getelementptr inbounds float, ptr %X, i32 %i
    %bN = load float, ptr %aN, align 4
    %cN = fmul float %bN, 2.000000e+00
    %dN = getelementptr inbounds float, ptr %t, i32 %i
    store float %cN, ptr %dN, align 4
"""
SECOND = """
    %aN = getelementptr inbounds float, ptr %t, i32 %i
    %bN = load float, ptr %aN, align 4
    %cN = fadd float %bN, 5.000000e-01
    %dN = getelementptr inbounds float, ptr %s, i32 %i
    store float %cN, ptr %dN, align 4
"""
ROUND = """
    %aN = getelementptr inbounds float, ptr %s, i32 %i
    %bN = load float, ptr %aN, align 4
    %rN = call float @llvm.nearbyint.f32(float %bN)
    %sN = fcmp olt float %rN, 2.550000e+02
    %tN = select i1 %sN, float %rN, float 2.550000e+02
    %uN = fcmp ogt float %tN, 0.000000e+00
    %vN = select i1 %uN, float %tN, float 0.000000e+00
    %wN = fptoui float %vN to i8
    %xN = getelementptr inbounds i8, ptr %t, i32 %i
    store i8 %wN, ptr %xN, align 1
"""
LAST = """
    %aN = getelementptr inbounds i8, ptr %t, i32 %i
    %bN = load i8, ptr %aN, align 1
    %cN = zext i8 %bN to i32
    %dN = sub nsw i32 %cN, 10
    %eN = sitofp i32 %dN to float
    %fN = getelementptr inbounds float, ptr %Y, i32 %i
    store float %eN, ptr %fN, align 4
"""
LOOPS = [FIRST, SECOND, ROUND, LAST]


def test_memory_of_one_type_and_then_of_another() -> None:
    assert compared(llvm(LOOPS, PLACES), QUANTIZED) == []


def test_bytes_of_a_float_are_not_what_was_meant() -> None:
    """The byte buffer is elsewhere; what is read are bytes of the float that was here."""
    loops = [FIRST, SECOND, ROUND.replace("%t,", "%other,"), LAST]
    with pytest.raises(UnlikeError, match="has no value"):
        compared(llvm(loops, {**PLACES, "other": "i8, i64 16"}), QUANTIZED)


def test_a_float_made_of_bytes_is_gone() -> None:
    """Where bytes have been written since, the float is not what tensor IR means by it."""
    again = tensor_ir(
        [
            ("t", "v", "X[v] * T.float32(2.0)"),
            ("s", "v", "t[v] + T.float32(0.5)"),
            ("u", "v", 'T.Cast("uint8", T.max(T.min(T.round(s[v]), T.float32(255.0)), '
                       'T.float32(0.0)))'),
            ("Y", "v", "t[v]"),
        ],
        {"t": "float32", "s": "float32", "u": "uint8"},
    )  # fmt: skip
    last = """
        %aN = getelementptr inbounds float, ptr %t, i32 %i
        %bN = load float, ptr %aN, align 4
        %fN = getelementptr inbounds float, ptr %Y, i32 %i
        store float %bN, ptr %fN, align 4
    """
    apart = {**PLACES, "other": "i8, i64 16"}
    beside = [FIRST, SECOND, ROUND.replace("ptr %t,", "ptr %other,"), last]
    assert compared(llvm(beside, apart), again) == []
    with pytest.raises(UnlikeError, match="has no value"):
        compared(llvm([FIRST, SECOND, ROUND, last], PLACES), again)


def test_bytes_written_over_the_floats_that_the_same_loop_reads() -> None:
    loops = [FIRST, SECOND, ROUND.replace("ptr %t,", "ptr %s,"), LAST.replace("%t,", "%s,")]
    with pytest.raises(UnlikeError, match="another type"):
        compared(llvm(loops, PLACES), QUANTIZED)


def test_memory_too_small_for_its_second_type() -> None:
    """It has room for the bytes that come first, not for the floats."""
    widened = tensor_ir(
        [
            ("u", "v", 'T.Cast("uint8", T.max(T.min(T.round(X[v]), T.float32(255.0)), '
                       'T.float32(0.0)))'),
            ("w", "v", 'T.Cast("uint8", T.max(T.min(T.round(X[v]), T.float32(255.0)), '
                       'T.float32(0.0)))'),
            ("t", "v", 'T.Cast("float32", w[v])'),
            ("Y", "v", "t[v]"),
        ],
        {"u": "uint8", "w": "uint8", "t": "float32"},
    )  # fmt: skip
    byte = ROUND.replace("ptr %s,", "ptr %X,")
    loops = [
        byte,
        byte.replace("ptr %t,", "ptr %s,"),
        """
        %aN = getelementptr inbounds i8, ptr %s, i32 %i
        %bN = load i8, ptr %aN, align 1
        %cN = uitofp i8 %bN to float
        %dN = getelementptr inbounds float, ptr %t, i32 %i
        store float %cN, ptr %dN, align 4
        """,
        """
        %aN = getelementptr inbounds float, ptr %t, i32 %i
        %bN = load float, ptr %aN, align 4
        %fN = getelementptr inbounds float, ptr %Y, i32 %i
        store float %bN, ptr %fN, align 4
        """,
    ]
    assert compared(llvm(loops, {"t": "i8, i64 64", "s": "i8, i64 16"}), widened) == []
    with pytest.raises(UnlikeError, match="less room"):
        compared(llvm(loops, {"t": "i8, i64 60", "s": "i8, i64 16"}), widened)


def test_an_argument_has_one_type() -> None:
    """Bits of the model's input are no integer of the program."""
    both = FIRST + "%mN = load i32, ptr %aN, align 4\n"
    routine = read(llvm([both, SECOND, ROUND, LAST], PLACES).encode(), "x").routines["f"]
    with pytest.raises(NotInterpretedError, match="two types"):
        lift(routine)


def test_a_decision_on_memory_of_a_second_type() -> None:
    """What is decided by the bytes is data as much as by the floats."""
    hit = LAST.replace(
        "store float %eN",
        "%hN = icmp eq i8 %bN, 77\n%kN = select i1 %hN, float 9.000000e+00, float %eN\n"
        "store float %kN",
    )
    (found,) = compared(llvm([FIRST, SECOND, ROUND, hit], PLACES), QUANTIZED)
    assert found.choices
    assert found.different


@pytest.mark.parametrize("function", ["llvm.round.f32", "roundf"])
def test_a_half_that_is_rounded_away_from_zero(function: str) -> None:
    text = llvm([FIRST, SECOND, ROUND.replace("llvm.nearbyint.f32", function), LAST], PLACES)
    (found,) = compared(text, QUANTIZED)
    assert found.different


# Loops.

REVERSED = tensor_ir(
    [("t", "v", "X[v] * T.float32(2.0)"), ("Y", "v", f"t[T.int64({MANY - 1}) - v]")],
    {"t": "float32"},
)
BACK = f"""
    %mN = sub nsw i32 {MANY - 1}, %i
    %eN = getelementptr inbounds float, ptr %t, i32 %mN
    %fN = load float, ptr %eN, align 4
    %gN = getelementptr inbounds float, ptr %Y, i32 %i
    store float %fN, ptr %gN, align 4
"""


def test_two_blocks_in_one_loop_read_what_is_not_yet_written() -> None:
    assert compared(llvm([FIRST, BACK], PLACES), REVERSED) == []
    with pytest.raises(UnlikeError, match="loops shared"):
        compared(llvm([FIRST + BACK], PLACES), REVERSED)


# What nothing reads.

DEAD = tensor_ir(
    [("d", "v", "X[v]"), ("Y", "v", "X[v] * T.float32(2.0)")], {"d": "float32"}
)  # fmt: skip
KEEP = """
    %aN = getelementptr inbounds float, ptr %X, i32 %i
    %bN = load float, ptr %aN, align 4
    %cN = getelementptr inbounds float, ptr %d, i32 0
    store float %bN, ptr %cN, align 4
"""
DOUBLE = FIRST.replace("ptr %t,", "ptr %Y,")


def test_one_element_is_room_enough_for_what_nothing_reads() -> None:
    assert compared(llvm([KEEP, DOUBLE], {"d": "float, i64 1"}), DEAD) == []


def test_a_dead_value_that_is_read_after_all() -> None:
    leak = DOUBLE.replace(
        "store float %cN",
        """
        %gN = getelementptr inbounds float, ptr %d, i32 0
        %hN = load float, ptr %gN, align 4
        %kN = fmul float %hN, 1.000000e-06
        %lN = fadd float %cN, %kN
        store float %lN""",
    )
    (found,) = compared(llvm([KEEP, leak], {"d": "float, i64 1"}), DEAD)
    assert found.different


def test_a_dead_value_far_behind_its_room() -> None:
    wide = KEEP.replace("ptr %d, i32 0", "ptr %d, i32 %i")
    with pytest.raises(UnlikeError, match="less room"):
        compared(llvm([wide, DOUBLE], {"d": "float, i64 1"}), DEAD)


def test_a_value_that_is_read_needs_its_room() -> None:
    function = tensor_ir(
        [("d", "v", "X[v]"), ("Y", "v", "d[v] * T.float32(2.0)")], {"d": "float32"}
    )
    double = DOUBLE.replace("ptr %X, i32 %i", "ptr %d, i32 0")
    with pytest.raises(UnlikeError, match="less room"):
        compared(llvm([KEEP, double], {"d": "float, i64 1"}), function)


# Names in quotes.

ODD = '"serving_default_input_2:0"'


def test_names_in_quotes() -> None:
    text = llvm(LOOPS, PLACES).replace("%X", f"%{ODD}")
    assert compared(text, QUANTIZED) == []
    text = text.replace("%t,", '%"t \\22%X\\22",').replace("%t =", '%"t \\22%X\\22" =')
    assert compared(text, QUANTIZED) == []


def test_a_decision_behind_a_name_in_quotes() -> None:
    hit = LAST.replace(
        "store float %eN",
        '%"a;b" = icmp eq i8 %bN, 77\n'
        '%"a,b" = select i1 %"a;b", float 9.000000e+00, float %eN\nstore float %"a,b"',
    )
    (found,) = compared(llvm([FIRST, SECOND, ROUND, hit], PLACES), QUANTIZED)
    assert found.choices


@pytest.mark.parametrize(
    "name",
    [
        '"X"',  # the same as %X
        '"a\\62:"',  # the same as "ab:"
        '"a\\3a"',  # the same as "a:"
        '""',
        '"a\\"',
    ],
)
def test_a_name_of_two_spellings_is_refused(name: str) -> None:
    text = llvm(LOOPS, PLACES).replace("%X", f"%{name}", 1)
    with pytest.raises(NotInterpretedError):
        read(text.encode(), "module.ll")


def test_two_names_in_quotes_stay_two() -> None:
    names = ["a:", "a;", "a 3A", "a$3A:", "A:", "0"]
    lines = [f'@"{name}" = private constant [1 x i8] c"x"' for name in names]
    assert len(read("\n".join(lines).encode(), "x").globals) == len(names)


def test_a_name_that_accounting_gives_is_refused() -> None:
    text = llvm(LOOPS, PLACES).replace("%X", f"%{ODD}").replace("%cN", "%quoted$x")
    text = text.replace("%c_0_", "%quoted$serving_default_input_2$3A0")
    with pytest.raises(NotInterpretedError):
        read(text.encode(), "module.ll")


# Promises: what an instruction gives where they do not hold is anything.


@pytest.mark.parametrize(
    ("plain", "promised"),
    [
        ("fmul float", "fmul nnan float"),
        ("fadd float", "fadd reassoc nsz float"),
        ("fcmp olt float", "fcmp fast olt float"),
        ("call float @llvm", "call ninf float @llvm"),
        ("zext i8", "zext nneg i8"),
        ("sub nsw i32", "sub nuw nsw i32"),
        ("icmp slt i32", "icmp samesign slt i32"),
        ("load i8,", "load volatile i8,"),
    ],
)
def test_a_promise_that_clean_code_does_not_make(plain: str, promised: str) -> None:
    text = llvm(LOOPS, PLACES)
    assert plain in text
    found = read(text.replace(plain, promised).encode(), "module.ll")
    with pytest.raises((NotInterpretedError, KeyError)):
        checked(QUANTIZED, lift(found.routines["f"]))
    assert found.unread or "nuw" in promised
