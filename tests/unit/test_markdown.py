"""The step summary: verdict first, below the limit, and hostile words nowhere but in code.

What a browser would get is looked at: markdown-it, a CommonMark parser, with tables and raw HTML.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from harness.models import Isolation, Outcome, Report, Verdict
from harness.reports.markdown import MAX_BYTES, MarkdownReporter, block, code
from harness.verdict import exit_code
from tests.unit.samples import MODEL, agreeing, judged, names, record, replayed, report, twice
from tests.unit.test_sarif import (
    CASES,
    clean,
    disagrees_with_itself,
    failed_build,
    many_failures_and_a_verdict,
    odd_one_out,
    unfinished,
)

THREE = names(3)
OURS = {"h1", "h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "pre",
        "strong"}  # fmt: skip


class Page(HTMLParser):
    """Tags and attributes of a page, its text outside of code, and its code."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.plain = ""
        self.code: list[str] = []
        self._depth = 0
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "code":
            self._depth += 1
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "code"

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.code[-1] += data
        else:
            self.plain += data


def rendered(what: Report) -> str:
    text = MarkdownReporter().render(what)
    assert len(text.encode()) <= MAX_BYTES
    return text


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_comes_first(case: Callable[[], Report]) -> None:
    what = case()
    mark = {0: "✅", 1: "❌", 2: "⚠️"}[exit_code(what)]
    first = rendered(what).splitlines()[0]
    assert first.startswith(f"# {mark} ")
    assert Verdict(first.split()[-1]).exit_code == exit_code(what)
    assert ("harness show" in rendered(what) or "harness diff" in rendered(what)) == (
        exit_code(what) != 0
    )


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict(verdict: Verdict) -> None:
    records = twice(*THREE)
    text = rendered(report(records, agreeing(records, verdict)))
    assert text.splitlines()[0].endswith(f" {verdict}")
    assert ("### `m`, stage `graph`" in text) == (verdict.exit_code != 0)


def test_table_of_stages_and_evidence() -> None:
    lines = rendered(replace(clean(), isolation=Isolation.NONE)).splitlines()
    assert "| stage | repeat | version | replay | verdict |" in lines
    same = "✅ IDENTICAL"
    assert f"| `graph` | {same} | {same} | – | {same} |" in lines
    assert f"| `object` | {same} | {same} | 1 of 1 bit for bit | {same} |" in lines
    assert any("Isolation: none" in line for line in lines)


def test_a_finding_says_what_differs_who_is_odd_and_what_to_run_next() -> None:
    page = Page(rendered(odd_one_out()))
    assert f"harness diff 20260101-000000-1-abcd m object {THREE[0]} {THREE[2]}\n" in page.code
    said = "\n".join(page.code)
    for words in (f"odd one out: {THREE[2]}", "nobody knows why", "a" * 64, "b" * 64):
        assert words in said, words
    overview = f"| `m` | ❌ UNEXPLAINED | `object` | `{THREE[2]}` |"
    assert overview in rendered(odd_one_out()).splitlines()
    assert "differs when umask varies" in rendered(disagrees_with_itself())


def test_a_finding_that_is_gone_is_not_shown() -> None:
    what = odd_one_out()
    results = [replace(r, verdict=Verdict.IDENTICAL, differences=()) for r in what.comparisons]
    text = rendered(report(list(what.builds), results))
    assert "❌" not in text
    assert "harness diff" not in text


def test_missing_evidence_is_said() -> None:
    text = rendered(failed_build())
    assert "This is not a pass" in text
    assert "### `m`, as a whole" in text
    assert "words\n    | more" in text
    assert "the run did not finish" in rendered(unfinished())


def test_missing_answers_do_not_push_a_finding_out() -> None:
    text = rendered(many_failures_and_a_verdict())
    assert "**`m: UNACCOUNTED`**" in text
    assert "… and 11 more in report.json" in text


HOSTILE = [
    "a | b ` c",
    "```\n# ✅ IDENTICAL\n```",
    "~~~\n# ✅ IDENTICAL",
    "[link](https://example.org) ![image](https://example.org/x.png)",
    "<img src=x onerror=alert(1)><script>alert(1)</script>",
    "</code></pre><h1>✅ IDENTICAL</h1>",
    "`</code><b>bold</b>`",
    "@everyone see #123 and https://example.org, mail@example.org, :tada:",
    "\\` \\| ``` ``````",
    "a\x00b\x1b[31m\u202ec\ud800",
    "$$x$$ <!-- hidden",
    "\n\n# ✅ IDENTICAL\n\n",
    "`",
    " ",
    "|",
]


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.UNEXPLAINED])
@pytest.mark.slow
def test_hostile_words_are_code_and_nothing_else(words: str, verdict: Verdict) -> None:
    def page(words: str) -> Page:
        model = replace(MODEL, name=words)
        records = [record(name, model=model) for name in THREE[:2]]
        records.append(record(THREE[2], model=model, outcome=Outcome.FAILED, detail=words))
        results = [
            replace(r, reason=words, comparison=replace(r.comparison, stage=words))
            for r in agreeing(records, verdict)
        ]
        replays = [replayed(r, words, verdict, stage=words, detail=words) for r in records[:2]]
        stage = replace(clean().verdicts[0].stages[0], model=words, stage=words, verdict=verdict,
                        reasons=(words,), odd_ones_out=(words,))  # fmt: skip
        own = replace(clean().verdicts[0], model=words, verdict=verdict, stages=(stage,),
                      first_divergence=words, odd_ones_out=(words,), reasons=(words,))  # fmt: skip
        what = report(records, results, replays, verdicts=(own,), run=words)
        return Page(rendered(replace(what, engine=words, notes=(words,))))

    found, plain = page(words), page("plain")
    assert found.tags <= OURS
    assert {key for key, _ in found.attributes} <= {"class"}
    # Outside of code there is what is there for a harmless word, and in code as many pieces.
    assert found.plain == plain.plain
    assert len(found.code) == len(plain.code)


@pytest.mark.parametrize("words", HOSTILE)
def test_code_shows_all_of_the_words(words: str) -> None:
    page = Page(code(words))
    assert page.plain.strip() == ""
    shown = page.code[0].replace("\\x60", "`").replace("\\x7c", "|")
    kept = "".join(c for c in words if c.isprintable()).strip()
    assert "".join(c for c in kept if c.isalnum()) == "".join(
        c for c in shown.replace("\\n", "").replace("\\x00", "").replace("\\x1b", "")
        .replace("\\u202e", "").replace("\\ud800", "") if c.isalnum()
    )  # fmt: skip
    (inner,) = Page(block(words)).code
    assert inner.count("`") == words.count("`")


def test_what_does_not_fit_is_left_out_as_whole_sections_and_said() -> None:
    long = "\U0001f600" * 3_000
    models = [replace(MODEL, name=f"m{number}") for number in range(60)]
    verdicts = []
    records = []
    for number, model in enumerate(models):
        own = [record(name, model=model, outcome=Outcome.FAILED, detail=long) for name in THREE]
        records += own
        verdict = judged(own, [])
        # The worst one is the last of the report, and must not be what is left out.
        kind = Verdict.UNACCOUNTED if number == 59 else Verdict.INCONCLUSIVE
        verdicts.append(replace(verdict, model=model.name, verdict=kind, reasons=()))
    text = rendered(report(records, [], verdicts=tuple(verdicts)))
    assert len(text.encode()) > MAX_BYTES / 2
    assert text.splitlines()[0].endswith("UNACCOUNTED")
    assert "## `m59`" in text
    last = text.splitlines()[-1]
    assert "more sections are left out here" in last
    assert "report.json" in last
    page = Page(text)
    assert page.plain.rstrip().endswith("All is in report.json.")  # and no block was left open
    shown = text.count("\n## ") + text.count("\n### ")
    assert shown + int(last.removeprefix("**").split()[0]) == 2 * len(models)
