"""The differing part: always found, always bounded, never hidden."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.comparators.text import common_prefix, common_suffix, differing_part


def numbered(count: int) -> list[bytes]:
    return [b"line %d\n" % number for number in range(1, count + 1)]


def test_equal_inputs_have_no_differing_part() -> None:
    found = differing_part(b"a\n", b"a\n")
    assert (found.lines, found.truncated, found.first_offset) == ((), False, None)


def test_one_changed_line_with_its_surroundings() -> None:
    left, right = numbered(10), numbered(10)
    right[4] = b"other\n"
    found = differing_part(b"".join(left), b"".join(right), context=1)
    assert found.lines == (
        "@@ line 5 (byte 28) | line 5 (byte 28) @@",
        " line 4",
        "-line 5",
        "+other",
        " line 6",
    )
    assert (found.truncated, found.first_offset, found.differing_lines) == (False, 28, 2)


def test_a_line_that_is_only_on_one_side() -> None:
    lines = numbered(6)
    found = differing_part(b"".join(lines), b"".join([*lines[:3], b"new\n", *lines[3:]]))
    assert [line for line in found.lines if line[0] in "+-"] == ["+new"]
    assert found.lines[-1] == " line 6"


def test_a_missing_newline_at_the_end_is_visible() -> None:
    found = differing_part(b"a\nb\n", b"a\nb")
    assert found.lines[-2:] == ("-b", "+b [no newline at the end]")


def test_differences_far_apart_are_all_found() -> None:
    left, right = numbered(200_000), numbered(200_000)
    for position in range(0, 200_000, 20_000):
        right[position] = b"x" + right[position]
    found = differing_part(b"".join(left), b"".join(right), max_seconds=600)
    assert found.differing_lines == 20
    assert not found.truncated
    place = len(b"".join(left[:180_000]))
    assert f"@@ line 180001 (byte {place}) | line 180001 (byte {place + 9}) @@" in found.lines


def test_the_number_of_lines_is_bounded() -> None:
    left, right = b"".join(numbered(500_000)), b"x\n" * 500_000
    found = differing_part(left, right, max_lines=50)
    assert len(found.lines) == 50
    assert found.truncated


def test_the_time_is_bounded() -> None:
    found = differing_part(b"a\nb\n", b"a\nc\n", max_seconds=-1)
    assert (found.lines, found.truncated, found.first_offset) == ((), True, 2)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (b"a\n" * 10**6, b"a\nb\n" * 10**6),
        (b"a\nb\n" * 10**6, b"b\na\n" * 10**6),
        (b"\n" * 10**7, b"\n" * 5 * 10**6 + b"x" + b"\n" * 10**6),
        (b"x" * 10**7, b"x" * 10**7 + b"y"),
        (b"", b"y\n" * 10**6),
    ],
)
def test_texts_made_to_be_slow_are_not(left: bytes, right: bytes) -> None:
    """Each of these takes difflib minutes to hours on the whole texts."""
    found = differing_part(left, right)
    assert found.differing_lines
    assert len(found.lines) <= 200


def test_a_long_line_is_shown_where_it_differs() -> None:
    found = differing_part(b"x" * 10**6 + b"old\n", b"x" * 10**6 + b"new\n")
    assert "old" in found.lines[-2]
    assert "new" in found.lines[-1]
    assert all(len(line) < 320 for line in found.lines)


def test_hostile_lines_are_made_printable() -> None:
    found = differing_part(b"\x1b[2J\xff\n", "\u202e\r\n".encode())
    assert found.lines[-2:] == ("-\\x1b[2J\\xff", "+\\u202e\\r")


def test_binary_content_is_a_hex_dump_with_offsets() -> None:
    left = bytes(range(256)) * 1000
    right = bytearray(left)
    right[100_000] ^= 0xFF
    found = differing_part(left, bytes(right), context=1)
    assert found.binary
    assert found.first_offset == 100_000
    assert found.lines == (
        " 00018690  90 91 92 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f  ................",
        "-000186a0  a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac ad ae af  ................",
        "+000186a0  5f a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac ad ae af  _...............",
        " 000186b0  b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 ba bb bc bd be bf  ................",
    )


def test_a_hex_dump_is_bounded() -> None:
    found = differing_part(b"\0" * 10**6, b"\1" * 10**6, max_lines=20)
    assert len(found.lines) <= 20
    assert found.truncated


@given(st.binary(max_size=50), st.binary(max_size=50), st.binary(max_size=5), st.integers(0, 3))
def test_common_parts_are_what_they_say(start: bytes, end: bytes, a: bytes, times: int) -> None:
    left, right = start * 3000 + a + end * 3000, start * 3000 + a * times + end * 3000
    size = common_prefix(left, 0, right, 0)
    assert left[:size] == right[:size]
    assert size == min(len(left), len(right)) or left[size] != right[size]
    most = min(len(left), len(right)) - size
    same = common_suffix(left, right, most)
    assert left[len(left) - same :] == right[len(right) - same :]
    assert same == most or left[-same - 1] != right[-same - 1]


texts = st.text("ab\n", max_size=40).map(str.encode)


@given(texts, texts, st.integers(0, 4))
def test_the_lines_shown_turn_left_into_right(left: bytes, right: bytes, context: int) -> None:
    """With context for everything, the diff holds both texts whole from the first line shown."""
    found = differing_part(left, right, context=10**6, max_lines=10**6, max_seconds=600)
    assert (found.first_offset is None) == (left == right)
    assert not found.truncated
    if left == right:
        return
    ending = " [no newline at the end]"
    body = [line for line in found.lines if not line.startswith("@@")]
    for signs, whole in (("- ", left), ("+ ", right)):
        side = [line[1:] for line in body if line[0] in signs]
        text = "".join(
            line.removesuffix(ending) if line.endswith(ending) else line + "\n" for line in side
        )
        assert whole.startswith(text.encode())
        rest = whole[len(text) :]
        assert left.endswith(rest)
        assert right.endswith(rest)
    small = differing_part(left, right, context=context, max_seconds=600)
    # Another context may align the lines otherwise; on balance the same ones come and go.
    assert balance(small.lines) == balance(found.lines)


def balance(lines: tuple[str, ...]) -> dict[str, int]:
    counts = Counter(line[1:] for line in lines if line[0] == "+")
    counts.subtract(line[1:] for line in lines if line[0] == "-")
    return {line: count for line, count in counts.items() if count}
