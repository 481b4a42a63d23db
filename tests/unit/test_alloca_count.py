"""The rule for typed ``alloca`` counts: what it must explain, and what it must not."""

from __future__ import annotations

import pytest

from harness.normalizers.interface import NotApplicable
from harness.normalizers.llvm_alloca_count import AllocaCount

RULE = AllocaCount()
OLD = b"""define void @f() {
entry:
  %a = alloca float, i32 214, align 16, !dbg !5
  %b = alloca float, align 16
  %c.1 = alloca %0, i32 2, align 8
  ret void
}
"""
NEW = (
    OLD.replace(b"i32 214", b"i64 214")
    .replace(b"alloca float, align", b"alloca float, i64 1, align")
    .replace(b"i32 2,", b"i64 2,")
)


def test_both_spellings_meet() -> None:
    assert OLD != NEW
    assert RULE.normalize(OLD).data == RULE.normalize(NEW).data
    assert RULE.normalize(NEW).ignored_bytes == len(b", i64 1")
    assert RULE.normalize(OLD).ignored_bytes == len(b", i32 214, i32 2")


def test_canonical_form_is_its_own() -> None:
    once = RULE.normalize(OLD).data
    assert RULE.normalize(once).data == once
    assert RULE.normalize(once).ignored_bytes == 0


CHANGES = {
    "another count": (b"i32 214", b"i32 215"),
    "another type": (b"alloca float, i32 214", b"alloca double, i32 214"),
    "another alignment": (b"align 16, !dbg", b"align 8, !dbg"),
    "another name": (b"%a = ", b"%z = "),
    "other metadata": (b"!dbg !5", b"!dbg !6"),
    "count of zero": (b"i32 214", b"i32 0"),
    "negative count": (b"i32 214", b"i32 -1"),
    "count past 31 bits": (b"i32 214", b"i32 2147483648"),
    "narrow count": (b"i32 214", b"i8 214"),
    "computed count": (b"i32 214", b"i32 %n"),
    "one of two counts": (b", i32 2,", b","),
    "inalloca": (b"alloca float, i32 214", b"alloca inalloca float, i32 214"),
    "address space": (b"align 16, !dbg", b"align 16, addrspace(5), !dbg"),
    "indented otherwise": (b"  %a = alloca", b"   %a = alloca"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_other_change_stays(change: str) -> None:
    old, new = CHANGES[change]
    assert old in OLD
    assert RULE.normalize(OLD.replace(old, new, 1)).data != RULE.normalize(NEW).data


def test_a_count_without_alignment_is_left_as_it_is() -> None:
    text = OLD.replace(b", i32 214, align 16", b", i32 214")
    assert b"i32 214" in RULE.normalize(text).data


def test_text_in_strings_is_never_taken_for_code() -> None:
    inside = b'@s = constant [60 x i8] c"  %a = alloca float, i32 214, align 16"\n'
    assert RULE.normalize(inside).data == inside
    across = b'@s = constant [60 x i8] c"\n  %a = alloca float, i32 214, align 16\n"\n'
    with pytest.raises(NotApplicable):
        RULE.normalize(across)


def test_comments_that_hide_lines_are_refused() -> None:
    with pytest.raises(NotApplicable):
        RULE.normalize(b"/*\n" + OLD + b"*/\n")
