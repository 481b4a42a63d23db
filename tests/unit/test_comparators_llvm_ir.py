"""LLVM IR text: what has a name is found by it, labels do not count, nothing goes unseen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.comparators import llvm_ir
from harness.comparators.interface import Bounds, Examined, NotThisFormatError, Part, Status
from harness.comparators.llvm_ir import LlvmIr

MODULE = b"""\
; ModuleID = 'TVMMod'
source_filename = "TVMMod"
target triple = "x86_64-unknown-linux-gnu"

%struct.a = type { i32, ptr }
%struct.b = type { i64, ptr }

@.str = private constant [5 x i8] c"one\\00\\01", align 1
@.str.1 = private constant [4 x i8] c"two\\00", align 1
@weights = dso_local constant [4 x float] [float 1.0, float 2.0, float 3.0, float 4.0], align 16

; Function Attrs: nounwind
define dllexport i32 @first(ptr noalias %args, i32 %n) #0 !dbg !5 {
entry:
  %0 = icmp eq i32 %n, 4, !dbg !7
  br i1 %0, label %good, label %bad, !dbg !7, !prof !8

good:                                             ; preds = %entry
  %1 = load i32, ptr %args, align 4, !tbaa !10
  %x = alloca %struct.a, align 8
  %sum = add i32 %1, %n
  ret i32 %sum

bad:                                              ; preds = %entry
  call void @second(ptr @.str, ptr @.str.1)
  ret i32 -1
}

define internal void @second(ptr %a, ptr %b) #1 {
  %1 = load float, ptr %a, align 4
  %2 = fmul float %1, 2.000000e+00
  store float %2, ptr %b, align 4
  ret void
}

declare void @llvm.assume(i1 noundef) #1

attributes #0 = { nounwind "target-cpu"="x86-64-v3" }
attributes #1 = { noinline }

!llvm.module.flags = !{!0, !1}

!0 = !{i32 4, !"Debug Info Version", i32 3}
!1 = !{i32 4, !"Dwarf Version", i32 4}
!2 = distinct !DICompileUnit(language: DW_LANG_C, file: !3, producer: "TVM")
!3 = !DIFile(filename: "a", directory: ".")
!4 = !DISubroutineType(types: !6)
!5 = distinct !DISubprogram(name: "first", scope: !3, file: !3, type: !4, unit: !2)
!6 = !{null}
!7 = !DILocation(line: 0, scope: !5)
!8 = !{!"branch_weights", i32 1048576, i32 1}
!9 = !{!"branch_weights", i32 1, i32 1048576}
!10 = !{!11, !11, i64 0}
!11 = !{!"0x5605364cd5a0", !12, i64 0}
!12 = !{!"root"}
"""


def look(folder: Path, left: bytes, right: bytes, bounds: Bounds = Bounds()) -> Examined:  # noqa: B008
    (folder / "left").write_bytes(left)
    (folder / "right").write_bytes(right)
    return LlvmIr().examine(folder / "left", folder / "right", bounds)


def changed(folder: Path, *replacements: tuple[bytes, bytes]) -> Examined:
    right = MODULE
    for old, new in replacements:
        assert old in right
        right = right.replace(old, new)
    return look(folder, MODULE, right)


def names(examined: Examined) -> list[tuple[str, str, str]]:
    return [(part.kind, part.name, part.status.value) for part in examined.parts]


def one(examined: Examined) -> Part:
    assert len(examined.parts) == 1, names(examined)
    return examined.parts[0]


def test_equal_modules_have_neither_parts_nor_notes(tmp_path: Path) -> None:
    assert look(tmp_path, MODULE, MODULE) == Examined("LLVM IR", ())


def test_one_changed_instruction_names_its_function_and_shows_only_it(tmp_path: Path) -> None:
    found = changed(tmp_path, (b"fmul float %1, 2.0", b"fmul float %1, 3.0"))
    part = one(found)
    assert (part.kind, part.name, part.status) == ("function", "second", Status.CHANGED)
    assert [line for line in part.lines if line[0] in "-+"] == [
        "-  %2 = fmul float %1, 2.000000e+00",
        "+  %2 = fmul float %1, 3.000000e+00",
    ]
    line = MODULE[: MODULE.index(b"  %2 = fmul")].count(b"\n") + 1
    assert part.lines[0].startswith(f"@@ line {line} ")
    assert found.notes == ()
    # Everything else: 1 function, 1 declaration, 3 globals, 2 types, 2 settings, 2 attribute
    # groups, 1 named node.
    assert found.same == 12


def test_renamed_values_and_labels_do_not_count_but_are_mentioned(tmp_path: Path) -> None:
    found = changed(
        tmp_path, (b"%sum", b"%other"), (b"%good", b"%target"), (b"good:     ", b"target:   "),
        (b"%x ", b'%"x y" '),
    )  # fmt: skip
    assert found.parts == ()
    assert len(found.notes) == 1
    assert found.notes[0].startswith("1 the same but for names")
    assert found.notes[0].endswith(": first")


def test_a_label_of_another_length_moves_its_comment(tmp_path: Path) -> None:
    found = changed(
        tmp_path, (b"%good", b"%go"), (b"good:                ", b"go:                  ")
    )
    assert found.parts == ()
    assert found.notes


def test_swapped_operands_are_no_renaming(tmp_path: Path) -> None:
    part = one(changed(tmp_path, (b"add i32 %1, %n", b"add i32 %n, %1")))
    assert part.name == "first"
    assert "-  %sum = add i32 %1, %n" in part.lines


def test_two_values_made_one_are_no_renaming(tmp_path: Path) -> None:
    found = changed(tmp_path, (b"store float %2, ptr %b", b"store float %1, ptr %b"))
    assert one(found).name == "second"


def test_another_type_is_no_renaming(tmp_path: Path) -> None:
    found = changed(tmp_path, (b"alloca %struct.a", b"alloca %struct.b"))
    assert names(found) == [("function", "first", "changed")]


def test_a_string_is_not_a_name(tmp_path: Path) -> None:
    left = MODULE.replace(b"ret i32 -1", b'call void asm "mov %a", ""()')
    right = left.replace(b'"mov %a"', b'"mov %b"')
    assert names(look(tmp_path, left, right)) == [("function", "first", "changed")]


def test_an_inserted_instruction_does_not_show_what_it_renumbers(tmp_path: Path) -> None:
    body = [b"  %%%d = add i32 %%%d, %d" % (i + 1, i, i) for i in range(60)]
    more = [b"  %1 = mul i32 %0, 77"] + [
        b"  %%%d = add i32 %%%d, %d" % (i + 2, i + 1 if i else 0, i) for i in range(60)
    ]

    def module(lines: list[bytes]) -> bytes:
        end = b"  ret i32 %%%d" % len(lines)
        return MODULE + b"\n".join([b"define i32 @big(i32 %0) {", *lines, end, b"}", b""])

    found = look(tmp_path, module(body), module(more))
    part = one(found)
    assert (part.name, part.status) == ("big", Status.CHANGED)
    assert [line for line in part.lines if line[0] in "-+"] == ["+  %_ = mul i32 %_, 77"]
    assert "left out" in part.note


def test_renumbered_metadata_and_attributes_do_not_count(tmp_path: Path) -> None:
    right = re.sub(rb"!(\d+)", lambda m: b"!%d" % (int(m[1]) + 30), MODULE)
    right = re.sub(rb"#(\d)", lambda m: b"#%d" % (1 - int(m[1])), right)
    found = look(tmp_path, MODULE, right)
    assert found.parts == ()
    assert any("13 metadata nodes are only numbered" in note for note in found.notes)
    assert any("2 attribute groups are only numbered" in note for note in found.notes)


def test_a_reference_to_another_node_counts(tmp_path: Path) -> None:
    part = one(changed(tmp_path, (b"!prof !8", b"!prof !9")))
    assert (part.kind, part.name) == ("function", "first")
    assert part.lines == (
        '-!8 = !{!"branch_weights", i32 1048576, i32 1}',
        '+!9 = !{!"branch_weights", i32 1, i32 1048576}',
    )


def test_swapped_nodes_behind_the_same_numbers_count(tmp_path: Path) -> None:
    """The function's bytes are equal: what they refer to is not."""
    found = changed(tmp_path, (b"!8 = ", b"!X = "), (b"!9 = ", b"!8 = "), (b"!X = ", b"!9 = "))
    assert ("function", "first", "changed") in names(found)
    part = next(part for part in found.parts if part.name == "first")
    assert '-!8 = !{!"branch_weights", i32 1048576, i32 1}' in part.lines


def test_a_reference_to_another_attribute_group_counts(tmp_path: Path) -> None:
    found = changed(tmp_path, (b"ptr %b) #1 {", b"ptr %b) #0 {"))
    assert names(found) == [("function", "second", "changed")]
    assert "-attributes #1 = { noinline }" in one(found).lines


def test_a_changed_node_is_reported_once_and_not_for_each_user(tmp_path: Path) -> None:
    part = one(changed(tmp_path, (b'"0x5605364cd5a0"', b'"0x563484a8c2a0"')))
    assert (part.kind, part.name, part.status) == ("metadata", "!11", Status.CHANGED)
    assert part.lines == (
        '-!11 = !{!"0x5605364cd5a0", !12, i64 0}',
        '+!11 = !{!"0x563484a8c2a0", !12, i64 0}',
    )


def test_a_changed_attribute_group_is_reported_once(tmp_path: Path) -> None:
    part = one(changed(tmp_path, (b'"x86-64-v3"', b'"x86-64-v4"')))
    assert (part.kind, part.name, part.status) == ("attributes", "#0", Status.CHANGED)


def test_another_link_between_nodes_is_seen(tmp_path: Path) -> None:
    part = one(changed(tmp_path, (b"!10 = !{!11, !11", b"!10 = !{!11, !12")))
    assert (part.kind, part.name) == ("metadata", "!10")


def test_another_link_between_renumbered_nodes_is_seen(tmp_path: Path) -> None:
    right = MODULE.replace(b"!10 = !{!11, !11", b"!10 = !{!11, !12")
    right = re.sub(rb"!(\d+)", lambda m: b"!%d" % (int(m[1]) + 30), right)
    part = one(look(tmp_path, MODULE, right))
    assert (part.kind, part.name) == ("metadata", "links between nodes")


def test_many_changed_nodes_are_one_part_and_do_not_crowd_out_a_function(tmp_path: Path) -> None:
    more = b"".join(b'!%d = !{!"0x%d"}\n' % (100 + i, 7000 + i) for i in range(500))
    right = (MODULE + more.replace(b"0x7", b"0x8")).replace(b"fmul float", b"fadd float")
    found = look(tmp_path, MODULE + more, right, Bounds(parts=2, lines=10))
    assert [(part.kind, part.name) for part in found.parts] == [
        ("function", "second"),
        ("metadata", "500 of them: !100, !101, !102, …"),
    ]
    assert len(found.parts[1].lines) == 10


def test_a_changed_constant_gives_digests_type_and_range(tmp_path: Path) -> None:
    part = one(changed(tmp_path, (b'c"one\\00\\01"', b'c"ono\\00\\02"')))
    assert (part.kind, part.name) == ("global", ".str")
    assert part.note.count("sha256 ") == 2
    assert "[5 x i8]" in part.note
    assert part.note.endswith("bytes 2 to 4 of 5 differ")


def test_a_private_constant_inserted_in_front_changes_no_function(tmp_path: Path) -> None:
    found = changed(
        tmp_path, (b"@.str.1", b"@.str.2"), (b"@.str,", b"@.str.1,"),
        (b"@.str =", b'@.str = private constant [1 x i8] c"0"\n@.str.1 ='),
    )  # fmt: skip
    assert [part for part in names(found) if part[0] != "global"] == []
    assert names(found) == [("global", ".str", "added")]
    assert any("2 private, the same under another name" in note for note in found.notes)


def test_private_constants_that_swap_their_content_count(tmp_path: Path) -> None:
    """The using function's bytes are equal, and its meaning is not."""
    found = changed(
        tmp_path, (b"@.str =", b"@X ="), (b"@.str.1 =", b"@.str ="), (b"@X =", b"@.str.1 =")
    )
    assert ("function", "first", "changed") in names(found)


def test_a_name_taken_over_by_another_constant_counts(tmp_path: Path) -> None:
    """The using function's bytes are equal; what it names is gone, and something else is there."""
    use = b"  call void @second(ptr @.str, ptr @.str.1)\n"
    left = MODULE.replace(use, use.replace(b"@.str,", b"@.str.1,"))
    lines = left.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(b"@.str.1 =")]
    right = b"".join(kept).replace(b"@.str =", b"@.str.1 =")
    assert names(look(tmp_path, left, right)) == [
        ("function", "first", "changed"), ("global", ".str.1", "removed"),
    ]  # fmt: skip


def test_indented_types_are_types(tmp_path: Path) -> None:
    left = MODULE.replace(b"\n%struct", b"\n  %struct")
    found = look(tmp_path, left, left.replace(b"alloca %struct.a", b"alloca %struct.b"))
    assert names(found) == [("function", "first", "changed")]


def test_a_renamed_function_is_one_part_and_its_callers_stay(tmp_path: Path) -> None:
    found = changed(tmp_path, (b"@second(", b"@last("))
    part = one(found)
    assert (part.name, part.new_name, part.status) == ("second", "last", Status.RENAMED)


def test_a_moved_function_is_one_part(tmp_path: Path) -> None:
    start, middle = MODULE.index(b"define internal"), MODULE.index(b"declare void")
    right = MODULE[:start] + MODULE[middle:]
    at = right.index(b"; Function Attrs")
    right = right[:at] + MODULE[start:middle] + right[at:]
    found = look(tmp_path, MODULE, right)
    moved = [part for part in found.parts if part.status is Status.MOVED]
    assert [part.kind for part in moved] == ["function"]
    assert not [part for part in found.parts if part.kind == "function" and part not in moved]


def test_added_and_removed_functions_show_their_first_line(tmp_path: Path) -> None:
    extra = b"define void @trigger() {\n  ret void\n}\n"
    part = one(look(tmp_path, MODULE, MODULE + extra))
    assert (part.name, part.status, part.lines) == (
        "trigger", Status.ADDED, ("+define void @trigger() {",),
    )  # fmt: skip
    part = one(look(tmp_path, MODULE + extra, MODULE))
    assert (part.status, part.left_size, part.right_size) == (Status.REMOVED, len(extra), None)


def test_a_comment_counts(tmp_path: Path) -> None:
    part = one(changed(tmp_path, (b"; Function Attrs: nounwind", b"; Function Attrs: none")))
    assert (part.kind, part.name) == ("text", "comments and blank lines")


def test_a_text_that_ends_inside_a_function_is_said_to(tmp_path: Path) -> None:
    found = look(tmp_path, MODULE, MODULE[: MODULE.index(b"  store float")])
    assert "the right text ends inside a function" in found.notes
    assert ("function", "second", "changed") in names(found)


def test_hostile_names_are_made_safe(tmp_path: Path) -> None:
    extra = 'define void @"\x1b[2J\u202e<b>"() {\n}\n'.encode()
    part = one(look(tmp_path, MODULE, MODULE + extra))
    assert "\x1b" not in part.name + part.lines[0]
    assert "\u202e" not in part.name + part.lines[0]
    assert "\\x1b[2J" in part.name


@pytest.mark.parametrize("magic", [b"BC\xc0\xde", b"\xde\xc0\x17\x0b"])
def test_bitcode_is_refused_by_name(tmp_path: Path, magic: bytes) -> None:
    with pytest.raises(NotThisFormatError, match=r"LLVM bitcode.*llvm-dis"):
        look(tmp_path, magic + b"1", magic + b"2")


@pytest.mark.parametrize("data", [b"", b"hello\n", b"define\n", b"\0" + MODULE])
def test_what_is_no_module_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotThisFormatError):
        look(tmp_path, data, MODULE)


def test_too_many_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.comparators.pieces.MAX_PIECES", 5)
    with pytest.raises(NotThisFormatError, match="more than 5"):
        look(tmp_path, MODULE, MODULE + b"\n")


def test_too_many_nodes_are_one_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.comparators.llvm_ir_links.MAX_NODES", 5)
    part = one(changed(tmp_path, (b'"0x5605364cd5a0"', b'"0x563484a8c2a0"')))
    assert (part.kind, part.name) == ("metadata", "numbered nodes")
    assert any("0x563484a8c2a0" in line for line in part.lines)
    assert "more than 5" in part.note


def test_a_piece_that_is_too_large_is_compared_by_bytes_and_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llvm_ir, "MAX_CANONICAL", 50)
    found = changed(tmp_path, (b"%sum", b"%other"))
    assert names(found) == [("function", "first", "changed")]
    assert any("byte by byte" in note for note in found.notes)


def test_without_time_the_changed_functions_are_still_named(tmp_path: Path) -> None:
    right = MODULE.replace(b"fmul float", b"fadd float")
    found = look(tmp_path, MODULE, right, Bounds(seconds=0))
    assert ("function", "second", "changed") in names(found)
    assert found.truncated


@pytest.mark.parametrize("position", range(0, len(MODULE), 23))
def test_a_changed_byte_is_never_unseen(tmp_path: Path, position: int) -> None:
    right = bytearray(MODULE)
    right[position] = 0x7E if right[position] != 0x7E else 0x21
    found = look(tmp_path, MODULE, bytes(right))
    assert found.parts or found.notes


EDITS = st.lists(
    st.tuples(
        st.integers(0, len(MODULE)),
        st.integers(0, 40),
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from(
                [
                    b"\n",
                    b'"',
                    b"\ndefine ",
                    b"\n}\n",
                    b"!7",
                    b"#1",
                    b"%1",
                    b"@a",
                    b":",
                    b"\n!5 = ",
                    b"\nattributes #0 = ",
                    b"{",
                    b";",
                    b"99999999999999999999",
                ]
            ),
        ),
    ),
    max_size=6,
)


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(EDITS, st.integers(0, len(MODULE)))
def test_mutated_and_truncated_modules(
    tmp_path: Path, edits: list[tuple[int, int, bytes]], cut: int
) -> None:
    right = MODULE
    for at, gone, new in edits:
        right = right[:at] + new + right[at + gone :]
    for other in (right, right[:cut]):
        try:
            found = look(tmp_path, MODULE, other, Bounds(parts=5, lines=7))
        except NotThisFormatError:
            continue
        assert bool(found.parts or found.notes) == (other != MODULE)
        assert len(found.parts) <= 5
        assert all(len(part.lines) <= 7 for part in found.parts)
        assert all(line[0] in "-+@ " for part in found.parts for line in part.lines)


@pytest.mark.parametrize(
    "unit",
    [b'"', b"%", b"!0 ", b"#0 ", b"; ", b"!{", b'%"', b"a:", b"define ", b"\n!1", b"\ndeclare @a",
     b"\n}\n", b"\n\n", b"@a = ", b'@a = c"\\00', b"[1 x "],
)  # fmt: skip
@pytest.mark.slow
def test_reading_takes_linear_time(tmp_path: Path, unit: bytes) -> None:
    """If any step were quadratic, this would hang."""
    data = MODULE + b"define void @f() {\n" + unit * (200_000 // len(unit))
    try:
        found = look(tmp_path, data, MODULE + b"x" + data[len(MODULE) :], Bounds(seconds=2))
        assert found.parts or found.notes
    except NotThisFormatError:
        pass
