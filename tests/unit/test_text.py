r"""Nothing that acts on a terminal or cannot be seen leaves ``printable``."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.text import MARK, printable


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\nc\td\x00\x7f", r"a\rb\nc\td\x00\x7f"),
        ("abc\u202edcba\u202c\u2066", r"abc\u202edcba\u202c\u2066"),
        ("ad\u200bmin\ufeff\u00ad\u2060", r"ad\u200bmin\ufeff\xad\u2060"),
        ("\u2028\u2029\u00a0\u3000", r"\u2028\u2029\xa0\u3000"),
        ("\U000e0041\ue000\ufdd0\U0010ffff", r"\U000e0041\ue000\ufdd0\U0010ffff"),
        ("x\ufe0f\U000e0100\u3164\u2800", r"x\ufe0f\U000e0100\u3164\u2800"),
        (b"\xff\xc0\xafok\xe2\x82", r"\xff\xc0\xafok\xe2\x82"),
        (b"\xed\xa0\x80", r"\xed\xa0\x80"),
        ("\ud800", r"\ud800"),
        ("Grüße, 模型 → é\u0301 🙂", "Grüße, 模型 → é\u0301 🙂"),
        ("Grüße".encode(), "Grüße"),
        ("", ""),
    ],
)
def test_hostile_text_is_shown_as_visible_escapes(hostile: str | bytes, shown: str) -> None:
    assert printable(hostile, 200) == shown


def test_newlines_are_kept_only_when_asked_for() -> None:
    assert printable("a\nb\r\n", 50, newlines=True) == "a\nb\\r\n"


def test_marks_do_not_pile_up_without_end() -> None:
    assert printable("a" + "\u0301" * 50, 1000).count("\u0301") < 10


def test_a_cut_is_visible_and_within_the_limit() -> None:
    assert printable("x" * 20, 20) == "x" * 20
    assert printable("x" * 21, 20) == "x" * (20 - len(MARK)) + MARK
    assert printable(b"x" * 10**8, 20) == "x" * (20 - len(MARK)) + MARK


def test_an_escape_is_never_cut_in_two() -> None:
    shown = printable("\x1b" * 10, len(MARK) + 6)
    assert shown == r"\x1b" + MARK


def test_a_limit_without_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="room"):
        printable("x", len(MARK) - 1)


@pytest.mark.slow
def test_every_single_character_is_visible_or_escaped() -> None:
    for code in range(sys.maxunicode + 1):
        shown = printable(chr(code), 20)
        if len(shown) == 1:
            category = unicodedata.category(shown)
            assert category[0] in "LMNPS" or shown == " "
        else:
            assert shown.isascii()
            assert shown.startswith("\\")


@given(st.one_of(st.text(), st.binary()), st.integers(len(MARK), 60), st.booleans())
def test_the_result_is_safe_and_short(text: str | bytes, limit: int, newlines: bool) -> None:
    shown = printable(text, limit, newlines=newlines)
    assert len(shown) <= limit
    assert all(c == " " or unicodedata.category(c)[0] in "LMNPS" for c in shown.replace("\n", ""))
    assert newlines or "\n" not in shown
    shown.encode("utf-8")
