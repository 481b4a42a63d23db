"""The axis of a block that computes one number: what may be respelt, and what may not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.normalizers import NORMALIZERS
from harness.normalizers.interface import NotApplicable
from harness.normalizers.tvm_unit_axis import MOST

AXIS = NORMALIZERS["tvm-unit-axis"]
OLD, NEW = "T.axis.spatial(1, T.int64(0))", "T.axis.spatial(T.int64(1), T.int64(0))"
TEXT = """\
# from tvm.script import tirx as T
class Module:
    def f(x: T.Buffer((), "float32"), y: T.Buffer((), "float32")):
        for i in range(3):
            with T.sblock("a"):
                vi = AXIS
                T.reads(x[()])
                y[()] = x[()] + T.float32(1.0)
        with T.sblock("b"):
            vi = AXIS
            y[()] = T.max(y[()],
vi2)
        with T.sblock("c"):
            vj = T.axis.spatial(3, i)
            y[()] = vi(vj)
"""


def text(axis: str = OLD) -> str:
    return TEXT.replace("AXIS", axis)


def normalized(data: str) -> str:
    return AXIS.normalize(data.encode()).data.decode()


def test_two_spellings_meet() -> None:
    assert normalized(text(OLD)) == text(NEW) == normalized(text(NEW))
    assert AXIS.normalize(text(OLD).encode()).ignored_bytes == 2
    assert AXIS.normalize(text(NEW).encode()).ignored_bytes == 0


def test_a_block_may_end_with_the_text() -> None:
    end = f'    with T.sblock("a"):\n        v = {OLD}\n        y[()] = x[()]'
    assert normalized(end) == end.replace(OLD, NEW)


KEPT = {
    "another extent": (OLD, "T.axis.spatial(2, T.int64(0))"),
    "another place": (OLD, "T.axis.spatial(1, T.int64(1))"),
    "a place of another type": (OLD, "T.axis.spatial(1, 0)"),
    "an axis to sum over": (OLD, "T.axis.reduce(1, T.int64(0))"),
    "something after it": (OLD, OLD + " + 1"),
    "two targets": ("vi = ", "vi = vk = "),
    "an attribute": ("vi = ", "vi.x = "),
    "another function": ("vi = T.", "vi = U."),
    "spaces": (OLD, "T.axis.spatial(1,  T.int64(0))"),
    "on two lines": (OLD, "T.axis.spatial(1,\n T.int64(0))"),
    "not first in its block": ('("a"):\n', '("a"):\n                y[()] = x[()]\n'),
    "below another statement": ('with T.sblock("a"):', "with T.init():"),
    "below a block whose name is no literal": ('("a")', "(a)"),
    "below a comment in place of a block": ("            with", "            # with"),
    "used by a statement": ("x[()] + T.float32(1.0)", "x[()] + T.float32(vi)"),
    "used as an index": ("T.reads(x[()])", "T.reads(x[vi])"),
    "used past a line that is indented less": ("T.reads(x[()])", "T.reads(\nvi)"),
    "used past a comment that is indented less": ("T.reads(x[()])", "# end\n                y[vi]"),
    "used past an empty line": ("T.reads(x[()])", "\n                y[vi]"),
    "used in a block within": ("T.reads(x[()])", 'if z:\n                    y[vi] = 1'),
    "a block too long to look at": ("T.reads(x[()])", f"T.reads({'0' * MOST})"),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT)
def test_whatever_else_is_left_as_it_is(case: str) -> None:
    old, new = KEPT[case]
    first, _, rest = TEXT.partition("AXIS")
    begin, _, end = (first + OLD + rest).partition('("b")')
    assert old in begin
    changed = begin.replace(old, new) + '("b")' + end.replace("AXIS", NEW)
    assert normalized(changed) == changed


REFUSED = {
    "a character that looks like another": ("vi2", "\uff56i"),  # Python reads it as `vi`
    "a backslash": ("vi2", "vi2\\"),
    "two statements on a line": ("T.reads(x[()])", "T.reads(x[()]); y[vi] = 1"),
    "a tab": ("                T.reads", "\t\tT.reads"),
    "a bracket that is never closed": ("vi2)", "vi2"),
    "a bracket that nothing opens": ("vi2)", "vi2))"),
    "a long string": ("vi2", '"""'),
    "a string of another kind": ("vi2", 'f"{vi}"'),
    "a string that is not closed": ("vi2", '"'),
    "a carriage return": ("vi2", "vi2\r"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_text_that_may_be_read_otherwise_is_refused(case: str) -> None:
    old, new = REFUSED[case]
    assert old in text()
    with pytest.raises(NotApplicable):
        normalized(text().replace(old, new, 1))


def test_strings_and_comments_are_never_rewritten() -> None:
    hidden = f'    with T.sblock("a"):\n        x = "vi = {OLD}"\n        # vi = {OLD}\n'
    assert normalized(hidden) == hidden
    quoted = f'    "with T.sblock():"\n        vi = {OLD}\n'
    assert normalized(quoted) == quoted


LINES = (
    '    with T.sblock("a"):', f"        vi = {OLD}", f"        vi = {NEW}", "        y = vi",
    "        y = x", "    z", "# c", "", f"    vi = {OLD}", "            y = vi", "(", ")",
)  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=10))
def test_nothing_but_the_extent_of_an_unused_axis_changes(lines: list[str]) -> None:
    """Against a reader that takes one line after another, where no bracket spans lines."""
    data = "\n".join(lines)
    try:
        found = normalized(data)
    except NotApplicable:
        assert "(" in lines or ")" in lines
        return
    assert normalized(found) == found
    if "(" in lines or ")" in lines:
        assert found.replace(NEW, OLD) == data.replace(NEW, OLD)
        return
    code = [line for line in lines if line.strip() and not line.startswith("#")]
    expected = list(code)
    for number, line in enumerate(code):
        if line != LINES[1] or number == 0 or code[number - 1] != LINES[0]:
            continue
        block = []
        for below in code[number + 1 :]:
            if not below.startswith(" " * 8):
                break
            block.append(below)
        if not any(re.search(r"\bvi\b", below) for below in block):
            expected[number] = LINES[2]
    kept = [line for line in found.split("\n") if line.strip() and not line.startswith("#")]
    assert kept == expected
