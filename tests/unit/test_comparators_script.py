"""TVMScript and MLIR text: functions by name, then by content; nothing goes unseen."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.comparators.interface import Bounds, Examined, NotThisFormatError, Part, Status
from harness.comparators.mapped import source
from harness.comparators.pieces import moved
from harness.comparators.script import Script

TVM = b"""\
# from tvm.script import ir as I
# from tvm.script import tirx as T

@I.ir_module
class Module:
    I.module_attrs({"external_mods": []})

    @T.prim_func(private=True, s_tir=True)
    def add(A: T.Buffer((T.int64(1), T.int64(8)), "float32"), B: T.Buffer((1, 8), "float32")):
        T.func_attr({"tirx.noalias": True})
        # with T.sblock("root"):
        for i in T.grid(T.int64(8)):
            with T.sblock("T_add"):
                B[0, i] = A[0, i] + T.float32(1.0)

    @T.prim_func(private=True, s_tir=True)
    def maximum(A: T.Buffer((1, 8), "float32")):
        for i in T.grid(T.int64(8)):
            A[0, i] = T.max(A[0, i], T.float32(0.0))

    @R.function
    def main(x: R.Tensor((1, 8), dtype="float32")) -> R.Tensor((1, 8), dtype="float32"):
        R.func_attr({"num_input": 1})
        cls = Module
        with R.dataflow():
            lv = R.call_tir(cls.add, (x,), out_ty=R.Tensor((1, 8), dtype="float32"))
            R.output(lv)
        return lv

# Metadata omitted. Use show_meta=True in script() method to show it.
"""

MLIR = b"""\
#map = affine_map<(d0) -> (d0)>
module @model attributes {stream.topology = #hal.device.topology<links = []>} {
  util.global private @weights = dense<"0x00000000"> : tensor<1xf32>
  func.func private @callee(%arg0: tensor<4xf32>) -> tensor<4xf32> {
    %0 = arith.addf %arg0, %arg0 : tensor<4xf32>
    return %0 : tensor<4xf32>
  }
  util.func public @main(%arg0: !hal.buffer_view) -> !hal.buffer_view attributes {
    iree.abi.stub
  } {
    %0 = func.call @callee(%arg0) : (tensor<4xf32>) -> tensor<4xf32>
    cf.br ^bb1
  ^bb1:
    util.return %0 : tensor<4xf32>
  }
  hal.executable private @kernels {
    hal.executable.variant public @vmvx target(<"vmvx">) {
      builtin.module {
        func.func @dispatch() {
          return
        }
      }
    }
  }
}

{-#
  dialect_resources: {
    builtin: {
      w0: "0x0400000000000000",
      w1: "0x0400000001010101"
    }
  }
#-}
"""


def look(folder: Path, left: bytes, right: bytes, bounds: Bounds = Bounds()) -> Examined:  # noqa: B008
    (folder / "left").write_bytes(left)
    (folder / "right").write_bytes(right)
    return Script().examine(folder / "left", folder / "right", bounds)


def changed(folder: Path, text: bytes, old: bytes, new: bytes) -> Examined:
    assert old in text
    return look(folder, text, text.replace(old, new))


def names(examined: Examined) -> list[tuple[str, str, str]]:
    return [(part.kind, part.name, part.status.value) for part in examined.parts]


def one(examined: Examined) -> Part:
    assert len(examined.parts) == 1, names(examined)
    return examined.parts[0]


@pytest.mark.parametrize(("text", "form", "parts"), [(TVM, "TVMScript", 3), (MLIR, "MLIR", 7)])
def test_equal_texts(tmp_path: Path, text: bytes, form: str, parts: int) -> None:
    assert look(tmp_path, text, text) == Examined(form, (), same=parts)


def test_a_changed_statement_names_its_function(tmp_path: Path) -> None:
    found = changed(tmp_path, TVM, b"T.float32(1.0)", b"T.float32(2.0)")
    part = one(found)
    assert (part.kind, part.name, part.status) == ("function", "add", Status.CHANGED)
    assert [line for line in part.lines if line[0] in "-+"] == [
        "-                B[0, i] = A[0, i] + T.float32(1.0)",
        "+                B[0, i] = A[0, i] + T.float32(2.0)",
    ]
    line = TVM[: TVM.index(b"B[0, i] =")].count(b"\n") + 1
    assert part.lines[0].startswith(f"@@ line {line} ")
    assert (found.format, found.same) == ("TVMScript", 2)


def test_a_decorator_belongs_to_its_function(tmp_path: Path) -> None:
    right = TVM[::-1].replace(b"eurT=etavirp", b"eslaF=etavirp", 1)[::-1]
    assert right != TVM
    assert names(look(tmp_path, TVM, right)) == [("function", "maximum", "changed")]


def test_what_is_outside_of_functions_counts(tmp_path: Path) -> None:
    found = changed(tmp_path, TVM, b'"external_mods": []', b'"external_mods": [1]')
    assert names(found) == [("text", "lines outside of functions", "changed")]


def test_an_added_function_does_not_turn_the_others_red(tmp_path: Path) -> None:
    extra = b"    @T.prim_func\n    def trigger():\n        pass\n\n"
    at = TVM.index(b"    @T.prim_func")
    part = one(look(tmp_path, TVM, TVM[:at] + extra + TVM[at:]))
    assert (part.name, part.status, part.left_size) == ("trigger", Status.ADDED, None)


def test_a_renamed_function(tmp_path: Path) -> None:
    part = one(changed(tmp_path, TVM, b"def maximum(", b"def relu("))
    assert (part.name, part.new_name, part.status) == ("maximum", "relu", Status.RENAMED)


def test_a_moved_function(tmp_path: Path) -> None:
    first, second = TVM.index(b"    @T.prim_func"), TVM.index(b"    @T.prim_func", 400)
    third = TVM.index(b"    @R.function")
    right = TVM[:first] + TVM[second:third] + TVM[first:second] + TVM[third:]
    assert one(look(tmp_path, TVM, right)).status is Status.MOVED


def test_inner_functions_and_other_classes(tmp_path: Path) -> None:
    text = b"class Other:\n  def f():\n    def g():\n      return 1\n"
    text += b"\nclass Module:\n  def f():\n    x\n"
    assert names(changed(tmp_path, text, b"return 1", b"return 2")) == [
        ("function", "Other.f", "changed")
    ]
    assert names(changed(tmp_path, text, b"    x\n", b"    y\n")) == [("function", "f", "changed")]


@pytest.mark.parametrize(
    ("old", "new", "kind", "name"),
    [
        (b"arith.addf", b"arith.subf", "function", "model::callee"),
        (b"cf.br ^bb1", b"cf.br ^bb2", "function", "model::main"),
        (b"iree.abi.stub", b"iree.abi.none", "function", "model::main"),
        (b'"0x00000000"', b'"0x00000001"', "util.global", "model::weights"),
        (b"          return\n", b"          stop\n", "function", "model::kernels::vmvx::dispatch"),
        (b"01010101", b"01010102", "resource", "w1"),
        (b"(d0) -> (d0)", b"(d0) -> (0)", "alias", "#map"),
        (b"links = []", b"links = [1]", "text", "lines outside of functions"),
    ],
)
def test_mlir_by_symbol(tmp_path: Path, old: bytes, new: bytes, kind: str, name: str) -> None:
    found = changed(tmp_path, MLIR, old, new)
    assert names(found) == [(kind, name, "changed")]
    assert found.format == "MLIR"


def test_a_renamed_mlir_function(tmp_path: Path) -> None:
    part = one(changed(tmp_path, MLIR, b"func.func @dispatch(", b"func.func @dispatch_0("))
    assert (part.status, part.new_name) == (Status.RENAMED, "model::kernels::vmvx::dispatch_0")


@pytest.mark.parametrize(
    ("left", "right"), [(TVM, MLIR), (b"", TVM), (b"text\n", b"other\n"), (b"\0" + TVM, TVM)]
)
def test_what_is_neither_is_refused(tmp_path: Path, left: bytes, right: bytes) -> None:
    with pytest.raises(NotThisFormatError):
        look(tmp_path, left, right)


def test_too_many_functions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.comparators.pieces.MAX_PIECES", 2)
    with pytest.raises(NotThisFormatError, match="more than 2"):
        look(tmp_path, TVM, TVM + b"\n")


def test_much_outside_of_functions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.comparators.pieces.MAX_REST", 10)
    with pytest.raises(NotThisFormatError, match="no named part"):
        look(tmp_path, TVM, TVM + b"\n")


def test_the_answer_is_bounded(tmp_path: Path) -> None:
    left = b"class Module:\n" + b"".join(b"    def f%d():\n        1\n" % i for i in range(300))
    found = look(tmp_path, left, left.replace(b"  1\n", b"  2\n"), Bounds(parts=7, lines=2))
    assert (len(found.parts), found.truncated) == (7, True)
    assert max(len(part.lines) for part in found.parts) == 2


def test_lines_are_counted_in_the_whole_file(tmp_path: Path) -> None:
    """Past the first counted block, and far behind the beginning of the function."""
    filler = b"        x = 1\n" * 50_000
    left = b"class Module:\n    def f():\n" + filler + b"        y = 1\n" + filler
    part = one(look(tmp_path, left, left.replace(b"y = 1", b"y = 2")))
    assert part.lines[0].startswith("@@ line 50003 ")
    assert f"(byte {left.index(b'        y = 1')})" in part.lines[0]


@given(st.permutations(range(8)))
def test_moved_leaves_one_order(order: list[int]) -> None:
    left = [("function", b"%d" % number, 0) for number in range(8)]
    right = [left[number] for number in order]
    gone = set(moved(left, right))
    assert [key for key in left if key not in gone] == [key for key in right if key not in gone]
    assert bool(gone) == (order != sorted(order))


def test_a_line_far_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"ab\n" * 400_000)
    text = source(tmp_path / "file")
    assert [text.line(at) for at in (0, 2, 3, 900_000, 5, 1_200_000)] == [
        0, 0, 1, 300_000, 1, 400_000,
    ]  # fmt: skip


EDITS = st.lists(
    st.tuples(
        st.integers(0, 1400),
        st.integers(0, 40),
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from(
                [
                    b"\n",
                    b"\n    def f(",
                    b"\nclass A:\n",
                    b"    @x\n",
                    b"\n  func.func @f(",
                    b"}\n",
                    b"module {\n",
                    b"\n#map = ",
                    b'w0: "0x',
                    b"\n  }\n",
                    b"\t",
                    b"\r\n",
                ]
            ),
        ),
    ),
    max_size=6,
)


@pytest.mark.parametrize("text", [TVM, MLIR])
@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=EDITS, cut=st.integers(0, 1400))
@pytest.mark.slow
def test_mutated_and_truncated_texts(
    tmp_path: Path, text: bytes, edits: list[tuple[int, int, bytes]], cut: int
) -> None:
    right = text
    for at, gone, new in edits:
        right = right[:at] + new + right[at + gone :]
    for other in (right, right[:cut]):
        try:
            found = look(tmp_path, text, other, Bounds(parts=5, lines=7))
        except NotThisFormatError:
            continue
        assert bool(found.parts or found.notes) == (other != text)
        assert len(found.parts) <= 5
        assert all(len(part.lines) <= 7 for part in found.parts)
        assert all(line[0] in "-+@ " for part in found.parts for line in part.lines)


@pytest.mark.parametrize("text", [TVM, MLIR])
def test_a_changed_byte_is_never_unseen(tmp_path: Path, text: bytes) -> None:
    for position in range(0, len(text), 13):
        right = bytearray(text)
        right[position] = 0x7E if right[position] != 0x7E else 0x21
        found = look(tmp_path, text, bytes(right))
        assert found.parts or found.notes, position


@pytest.mark.parametrize("text", [TVM, MLIR])
@pytest.mark.parametrize(
    "unit",
    [b"\n", b" ", b"\t", b"\n ", b"@x\n", b"    @x\n", b"def ", b"\n    def f(", b"\nclass A:",
     b'"', b"\n  a.b.c", b"\nfunc.func @f", b"\n  func.func @f(", b"\nmodule ", b"\n  }",
     b"a ", b"\nfunc.func a a a a", b"\n  a: \"0x"],
)  # fmt: skip
@pytest.mark.slow
def test_reading_takes_linear_time(tmp_path: Path, text: bytes, unit: bytes) -> None:
    """If any step were quadratic, this would hang."""
    left = text + unit * (200_000 // len(unit))
    try:
        found = look(tmp_path, left, text + b"x" + left[len(text) :], Bounds(seconds=2))
        assert found.parts or found.notes
    except NotThisFormatError:
        pass
