"""`harness diff --html`: whole, bounded, aligned, and not to be broken out of."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.comparators.interface import Examined, Part, Status
from harness.reports.difference import difference_page
from harness.reports.page.aligned import MOST, Row, aligned
from harness.reports.page.limits import MAX_LINES
from tests.unit.test_html import HOSTILE, LOUD, Page, checked

COMMAND = ["harness", "diff", "a", "b"]
PART = Part("function", "f", Status.CHANGED, 9, 12, ("@@ 1 @@", " x", "-a 1", "+a 2"), note="note")
FOUND = {"one": Examined("ELF", (PART,), 7, notes=("a word",)), "two": Examined("data", ())}


def shown(found: dict[str, Examined], **changes: object) -> Page:
    return checked(difference_page("left side", "right side", found, False, COMMAND, **changes))  # type: ignore[arg-type]


def test_the_answer_comes_first_then_what_differs() -> None:
    page = shown(FOUND, rules=["normalized by x"], more=[("diffoscope", ["-old", "+new"])])
    text = page.text
    places = [
        "DIFFERENT", "1 file with other contents; 1 the same", "harness diff a b", "Overview",
        "no difference left: 1 file", "Set aside by rules", "normalized by x", "What differs",
        "Read as ELF", "changed function f", "9 bytes → 12 bytes", "What another tool says",
    ]  # fmt: skip
    assert [text.index(words) for words in places] == sorted(text.index(words) for words in places)
    assert "a word" in text
    boxes = [a for name, a in page.elements if a.get("class") == "diff"]
    assert [(a["data-left"], a["data-right"]) for a in boxes] == [("left side", "right side")] * 2


def test_the_same_says_so() -> None:
    text = checked(difference_page("a", "b", {".": Examined("folder", ())}, True, COMMAND)).text
    assert "SAME" in text
    assert "No difference." in text
    assert "DIFFERENT" not in text


def test_what_rules_set_aside_is_not_called_the_same() -> None:
    found = {"one": Examined("data", ())}
    text = checked(difference_page("a", "b", found, True, COMMAND, ["one: normalized by x"])).text
    assert "≈ SAME AFTER RULES" in text
    assert "The bytes differ." in text
    assert "No difference." not in text


def test_folders_are_counted_in_words() -> None:
    alone = Part("file", "only", Status.ADDED, None, 3)
    text = shown({".": Examined("folder", (alone,), 30), **FOUND}).text
    words = "1 file with other contents; 1 entry on one side only, renamed or of another kind"
    assert f"{words}; 30 the same." in text
    assert "the folders themselves" in text


def test_a_limit_that_was_reached_is_said() -> None:
    long = Part("function", "f", Status.CHANGED, lines=("+x",) * (MAX_LINES + 5))
    text = shown({"one": Examined("ELF", (long,), truncated=True)}).text
    assert "There may be more: a limit was reached." in text
    assert "… and 5 more lines" in text


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_text_is_text(words: str) -> None:
    part = Part("k" + words, words, Status.RENAMED, 1, 2, ("-" + words, "+" + words), words, words)
    found = {words: Examined("f" + words, (part,), notes=(words,)), "x": FOUND["one"]}
    html = difference_page(
        words, words, found, False, ["harness", words], [words], [(words, [words])]
    )
    page = checked(html)
    assert not LOUD.search(html.replace("\n", ""))
    assert page.raw == shown(FOUND).raw


@pytest.mark.parametrize(
    ("gone", "came", "rows"),
    [
        ([], ["x"], [(None, 0)]),
        (["x"], [], [(0, None)]),
        (["a = add b c"], ["new", "a = add b d"], [(None, 0), (0, 1)]),
        (["old", "a = add b c"], ["a = add b d"], [(0, None), (1, 0)]),
        (["x", "a b c"], ["y", "z", "a b d"], [(0, 0), (None, 1), (1, 2)]),
        (["a b c", "d e f"], ["d e g", "a b h"], [(0, None), (1, 0), (None, 1)]),
        (["", ""], [""], [(0, 0), (1, None)]),
    ],
)
def test_lines_that_are_alike_stand_side_by_side(
    gone: list[str], came: list[str], rows: list[Row]
) -> None:
    assert aligned([f"-{line}" for line in gone], [f"+{line}" for line in came]) == rows


def test_long_runs_are_taken_in_their_order() -> None:
    rows = aligned(["-a"] * MOST, ["+b", "+a"])
    assert rows[:3] == [(0, 0), (1, 1), (2, None)]
    assert len(rows) == MOST


def test_rows_are_marked_only_where_they_are_not_the_order() -> None:
    lines = ("-a b c d", "+new", "+a b c e")
    page = shown({"one": Examined("text", (Part("text", "t", Status.CHANGED, lines=lines),))})
    marks = [(name, a.get("data-row")) for name, a in page.elements if name in ("del", "ins")]
    assert marks == [("del", "1"), ("ins", None), ("ins", None)]


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    left, right, page = (tmp_path / name for name in ("left.txt", "right.txt", "page.html"))
    left.write_text("a\nb\n", "utf-8")
    right.write_text("a\nc\n", "utf-8")
    done = CliRunner().invoke(main, ["diff", str(left), str(right), "--html", str(page)])
    assert done.exit_code == 1
    text = checked(page.read_text("utf-8")).text
    assert f"harness diff -- {left} {right}" in text
    assert "-b" in text
    same = CliRunner().invoke(main, ["diff", str(left), str(left), "--html", str(page)])
    assert same.exit_code == 0
    assert "SAME" in checked(page.read_text("utf-8")).text
    nowhere = str(tmp_path / "no" / "page.html")
    failed = CliRunner().invoke(main, ["diff", str(left), str(right), "--html", nowhere])
    assert failed.exit_code == 2
