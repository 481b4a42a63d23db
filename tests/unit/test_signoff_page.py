"""A decision for people: in lines, and as a page."""

from __future__ import annotations

from pathlib import Path

from harness.signoff.interface import Decision
from harness.signoff.page import page
from harness.signoff.telling import told

HOSTILE = "<script>alert(1)</script>\u202e"
DIGEST = "ab" * 32
DECISION = Decision(
    artifact=DIGEST,
    refusals=(f"builder {HOSTILE} is missing",),
    rests=(f"anna made the same ({DIGEST}.json)",),
    dissent=("boris made another",),
    chain=(
        "build: one, by anna",
        "  took model",
        "build: two, by boris",
        "  took model",
        "gap: data",
    ),
    notes=("something else",),
)


def test_the_page_says_all_of_it_and_nothing_acts() -> None:
    text = page(DECISION, "REFUSED", f"model{HOSTILE}.so", "r-1")
    assert "<script>alert" not in text and "\u202e" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    for words in ("REFUSED", "boris made another", "something else", "r-1", "gap: data"):
        assert words in text
    # Each step keeps its own lines.
    assert text.count("took model") == 2
    assert text.count(DIGEST) == 1 and "abababababab…" in text


def test_lines_shorten_digests_but_not_the_artifacts() -> None:
    lines = list(told(DECISION, "REFUSED", Path("model.so")))
    assert lines[:2] == ["REFUSED model.so", f"sha256 {DIGEST}"]
    assert "  anna made the same (abababababab….json)" in lines


def test_a_good_answer_has_no_list_of_refusals() -> None:
    text = page(Decision(DIGEST, ()), "VERIFIED", "model.so", None)
    assert "It lacks" not in text and "VERIFIED" in text
