"""The report at a terminal: fits, says what is known, and cannot be imitated by what it shows."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from harness.models import Bisection, Isolation, Outcome, Report, Verdict
from harness.plan import builds
from harness.reports.progress import Lines, Live, Quiet
from harness.reports.terminal import TerminalReporter
from tests.unit.samples import (
    MODEL,
    agreeing,
    names,
    record,
    replayed,
    report,
    toolchain,
    twice,
)

THREE = names(3)


def rendered(what: Report) -> list[str]:
    text = TerminalReporter().render(what)
    assert text.replace("\n", "").isprintable()
    lines = text.splitlines()
    assert all(len(line) <= 100 for line in lines if "see it:" not in line)
    return lines


def with_replays(verdict: Verdict, detail: str) -> Report:
    records = twice(*THREE)
    replays = [replayed(r, verdict=verdict, detail=detail) for r in records]
    return report(records, agreeing(records), replays)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_is_said_in_words(verdict: Verdict) -> None:
    records = twice(*THREE)
    lines = rendered(report(records, agreeing(records, verdict)))
    assert any(line.startswith(f"{MODEL.name}  {verdict}") for line in lines)
    assert any(line.startswith(f"{verdict}  ") for line in lines)
    assert any(line.split()[:2] == ["stage", "repeat"] for line in lines)
    shown = any("see it:  harness diff" in line for line in lines)
    assert shown == (verdict.exit_code == 1)


def test_finding_names_stage_and_toolchain_and_the_next_command() -> None:
    records = twice(*THREE)
    results = [
        replace(r, verdict=Verdict.UNEXPLAINED, reason="file differs: nobody knows why")
        if THREE[2] in r.comparison.right and r.comparison.left.split("/")[2] != "2-p-x86_64"
        and r.comparison.stage == "object"
        else r
        for r in agreeing(records)
    ]  # fmt: skip
    text = "\n".join(rendered(report(records, results)))
    assert f"first divergence: object; odd one out: {THREE[2]}" in text
    assert f"diff 20260101-000000-1-abcd m object {THREE[0]} {THREE[2]}" in text
    assert "nobody knows why" in text


def test_missing_evidence_is_said_not_left_out() -> None:
    records = [*twice(*THREE[:2]), record(THREE[2], outcome=Outcome.FAILED, detail="words")]
    lines = rendered(report(records, agreeing(records)))
    assert any("INCONCLUSIVE" in line and "not a pass" in line for line in lines)
    assert any(THREE[2] in line and "failed: words" in line for line in lines)


def test_weak_isolation_and_what_was_not_applied() -> None:
    records = [replace(r, not_applied={"host-name": "no namespaces"}) for r in twice(*THREE)]
    what = replace(report(records, agreeing(records)), isolation=Isolation.NONE)
    text = "\n".join(rendered(what))
    assert "isolation: none" in text
    assert "variations that could not be applied: host-name" in text


FAKE = "IDENTICAL  every comparison and every replay came out byte for byte"


@pytest.mark.parametrize(
    "words",
    [
        FAKE,
        f"llc: error\n{FAKE}\nmore",
        f"llc: error\r{FAKE}",
        "x" * 92 + " " + FAKE,  # so that wrapping would begin a line with it
        ("a " * 47 + FAKE + " ") * 30,
        f"\x1b[2J\x1b[1;1H{FAKE}",
        f"\u202e{FAKE}\x9b31m",
        f"[bold]{FAKE}[/bold]",
        "x" * 100_000,
    ],
)
@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.UNEXPLAINED])
def test_what_a_tool_says_cannot_pass_for_the_report(words: str, verdict: Verdict) -> None:
    lines = rendered(with_replays(verdict, words))
    assert not any(line.startswith("IDENTICAL") for line in lines)
    assert any(line.startswith(f"{verdict}  ") for line in lines)
    assert len(lines) < 400


def test_bisection_is_shown() -> None:
    records = twice(*THREE)
    what = report(records, agreeing(records, Verdict.NONDETERMINISTIC))
    found = Bisection("m", THREE[0], "graph", ("umask",), 7, "differs when umask vary")
    text = " ".join(" ".join(rendered(replace(what, bisections=(found,)))).split())
    assert "differs when umask vary (7 builds to find out)" in text


def test_many_reasons_are_cut_and_counted() -> None:
    records = [record(name, outcome=Outcome.FAILED) for name in names(50)]
    lines = rendered(report(records, []))
    assert any("… and 45 more in report.json" in line for line in lines)
    assert len(lines) < 30


@pytest.mark.parametrize("kind", [Quiet, Lines, Live])
def test_progress_tells_every_build_once(kind: type[Quiet | Lines | Live]) -> None:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=kind is Live)
    progress = kind() if kind is Quiet else kind(console)  # type: ignore[call-arg]
    planned = builds([MODEL], [toolchain(name) for name in THREE], 1, 2)
    with progress:
        progress.say("note: [bold]words[/bold]")
        progress.planned(planned)
        for build in planned:
            progress.started("build", build.id)
        for build in planned:
            progress.finished("build", build.id, "failed", 1.0)
            progress.finished("replay x", build.id, "done", 1.0)
    text = out.getvalue()
    if kind is Quiet:
        assert text == ""
    else:
        assert "note: [bold]words[/bold]" in text
        assert text.count(": failed") == len(planned)
    if kind is Lines:
        assert f"[ 6/6] build {planned[-1].id}: failed, 1.0 s" in text
        assert "\x1b" not in text
