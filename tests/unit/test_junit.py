"""JUnit XML, read back by a parser that dashboards' tools use, and by the standard library.

No package carries the schema that dashboards agree on; its required structure is checked here.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace

import pytest
from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from harness.models import Isolation, Outcome, Report, Verdict
from harness.reports.junit import MAX_TEXT, JunitReporter
from harness.verdict import exit_code
from tests.unit.samples import MODEL, agreeing, names, record, replayed, report, twice
from tests.unit.test_sarif import (
    CASES,
    clean,
    disagrees_with_itself,
    failed_build,
    many_failures_and_a_verdict,
    not_enough,
    odd_one_out,
    replay_mismatch,
    unfinished,
)

THREE = names(3)
ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "testcase": {"classname", "name", "time"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "property": {"name", "value"},
}
CHILDREN = {
    "testsuites": ["testsuite"],
    "testsuite": ["properties", "testcase", "system-out"],
    "properties": ["property"],
    "testcase": ["failure", "error", "system-out"],
}


def checked(what: Report) -> ET.Element:
    """The document, after checking elements, their order, attributes and sums."""
    root = ET.fromstring(JunitReporter().render(what))
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.keys()) == ATTRIBUTES.get(element.tag, set()), element.tag
        allowed = CHILDREN.get(element.tag, [])
        places = [allowed.index(child.tag) for child in element]
        assert places == sorted(places)
    for key, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        assert int(root.attrib[key]) == len(root.findall(f".//{tag}"))
        for suite in root:
            assert int(suite.attrib[key]) == len(suite.findall(f".//{tag}"))
    return root


def cases(what: Report) -> dict[str, TestCase]:
    """``classname name`` → test case, as junitparser reads it; no two have the same."""
    checked(what)
    found = [
        (f"{case.classname} {case.name}", case)
        for suite in JUnitXml.fromstring(JunitReporter().render(what).encode())
        if isinstance(suite, TestSuite)
        for case in suite
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def bad(what: Report) -> dict[str, type]:
    return {name: type(case.result[0]) for name, case in cases(what).items() if case.result}


def text(case: TestCase) -> str:
    (result,) = case.result
    return f"{result.message}\n{result.text}"


def test_one_case_for_each_stage_and_kind_of_evidence_and_each_build() -> None:
    expected = {
        "m verdict", "m.graph repeat", "m.graph version", "m.object repeat", "m.object version",
        "m.object replay graph → object",
        *(f"m.builds {name}/{which}" for name in THREE for which in ("control", "varied")),
    }  # fmt: skip
    assert cases(clean()).keys() == expected
    assert bad(clean()) == {}


@pytest.mark.parametrize("case", CASES)
def test_green_exactly_where_the_exit_code_is_0(case: Callable[[], Report]) -> None:
    what = case()
    found = set(bad(what).values())
    assert found <= {Failure, Error}
    assert bool(found) == (exit_code(what) != 0)
    assert (Failure in found) == (exit_code(what) == 1)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict(verdict: Verdict) -> None:
    records = twice(*THREE)
    found = bad(report(records, agreeing(records, verdict)))
    kind = {0: None, 1: Failure, 2: Error}[verdict.exit_code]
    stages = {
        f"m.{stage} {which}" for stage in ("graph", "object") for which in ("repeat", "version")
    }
    assert found == (dict.fromkeys({"m verdict", *stages}, kind) if kind else {})


def test_a_failure_says_what_differs_who_is_odd_and_what_to_run_next() -> None:
    what = odd_one_out()
    assert bad(what) == {"m verdict": Failure, "m.object version": Failure}
    said = text(cases(what)["m.object version"])
    for words in (
        "UNEXPLAINED",
        f"odd one out: {THREE[2]}",
        f"{THREE[0]} and {THREE[2]}: lib0.o differs: nobody knows why",
        "a" * 64,
        "b" * 64,
        f"next: harness diff 20260101-000000-1-abcd m object {THREE[0]} {THREE[2]}",
    ):
        assert words in said, words
    assert f"first divergence: object; odd one out: {THREE[2]}" in text(cases(what)["m verdict"])


def test_a_finding_that_is_gone_leaves_no_failure() -> None:
    what = odd_one_out()
    results = [replace(r, verdict=Verdict.IDENTICAL, differences=()) for r in what.comparisons]
    assert bad(report(list(what.builds), results)) == {}


def test_other_findings_stand_at_their_own_evidence() -> None:
    assert bad(disagrees_with_itself()) == {"m verdict": Failure, "m.graph repeat": Failure}
    where = "m.object replay graph → object"
    assert bad(replay_mismatch()) == {"m verdict": Failure, where: Failure}
    assert "2 bytes differ" in text(cases(replay_mismatch())[where])


def test_no_answer_is_an_error_and_never_skipped() -> None:
    what = failed_build()
    where = f"m.builds {THREE[2]}/control"
    assert bad(what) == {"m verdict": Error, where: Error}
    said = text(cases(what)[where])
    assert "failed" in said
    assert "words\n    | more" in said
    assert f"log: 20260101-000000-1-abcd/builds/m/{THREE[2]}/control/log.txt" in said
    assert bad(not_enough()) == {"m verdict": Error}
    assert "4 required" in text(cases(not_enough())["m verdict"])
    assert bad(unfinished()) == {"run verdict": Error}
    assert not any(case.is_skipped for case in cases(what).values())


def test_a_stage_that_nobody_compared_is_not_green() -> None:
    found = bad(report([record(THREE[0])], []))
    assert found.items() >= {"m.graph verdict": Error, "m.object verdict": Error}.items()


def test_what_was_explained_passes_and_says_what_was_set_aside() -> None:
    records = twice(*THREE)
    results = [
        replace(r, verdict=Verdict.EXPLAINED, differences=tuple(
            replace(d, explained_by=("rule",), ignored_bytes=1200) for d in r.differences))
        for r in odd_one_out().comparisons
    ]  # fmt: skip
    what = report(records, results)
    assert bad(what) == {}
    assert cases(what)["m.object version"].system_out == (
        "explained by rule; 2,400 bytes set aside"
    )


def test_times_are_seconds_and_a_replay_that_was_not_run_takes_none() -> None:
    records = [replace(r, wall_seconds=61.5) for r in twice(*THREE[:1])]
    replays = [
        replace(replayed(records[0]), wall_seconds=2.25),
        replace(replayed(records[1]), wall_seconds=2.25, shared_with=records[0].id),
        replace(replayed(records[1]), wall_seconds=2.25, remembered="2026-01-01"),
    ]
    found = cases(report(records, agreeing(records), replays))
    assert found[f"m.builds {THREE[0]}/control"].time == 61.5
    assert found["m.object replay graph → object"].time == 2.25
    root = checked(replace(clean(), wall_seconds=float("inf")))
    assert root.attrib["time"] == "0.000"


def test_a_long_failure_is_cut() -> None:
    reason = "words " * 10_000
    records = twice(*names(5))
    results = [replace(r, reason=reason) for r in agreeing(records, Verdict.UNEXPLAINED)]
    found = list(checked(report(records, results)).iter("failure"))
    assert max(len(element.text or "") for element in found) == MAX_TEXT
    assert all(len(element.attrib["message"]) < 1000 for element in found)


def test_the_message_is_of_a_finding_not_of_a_missing_answer() -> None:
    case = cases(many_failures_and_a_verdict())["m verdict"]
    assert isinstance(case.result[0], Failure)
    assert case.result[0].message == "UNACCOUNTED: m: UNACCOUNTED"
    assert "… and 15 more in report.json" in text(case)


HOSTILE = [
    "a\x00b\x1b[31mc\x85\u202ed\ufffe\ud800",
    "]]><failure/><!--",
    '"/><testcase name="forged"/>',
    "&xxe; <!ENTITY x>",
    "line\nUNEXPLAINED\r\nline",
    "x" * 200_000,
]


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("verdict", [Verdict.IDENTICAL, Verdict.INCONCLUSIVE, Verdict.UNEXPLAINED])
def test_hostile_words_stay_text(words: str, verdict: Verdict) -> None:
    model = replace(MODEL, name=words)
    records = [
        replace(record(name, model=model, outcome=outcome, detail=words), engine=words)
        for name, outcome in zip(THREE, (Outcome.BUILT, Outcome.BUILT, Outcome.FAILED), strict=True)
    ]
    records = [replace(r, stages=(words,)) for r in records]
    results = [replace(r, reason=words) for r in agreeing(records, verdict)]
    replays = [replayed(r, words, verdict, stage=words, detail=words) for r in records[:2]]
    what = report(records, results, replays)
    own = replace(what.verdicts[0], model=words, first_divergence=words, odd_ones_out=(words,))
    stage = replace(clean().verdicts[0].stages[0], model=words, stage=words, verdict=verdict,
                    replays={words: verdict}, reasons=(words,))  # fmt: skip
    what = replace(
        what, run=words, engine=words, notes=(words,), isolation=Isolation.NONE,
        verdicts=(replace(own, stages=(stage,), reasons=(words,)),), started=words,
    )  # fmt: skip
    xml = JunitReporter().render(what)
    assert "\\x00" in xml or "\x00" not in words
    root = ET.fromstring(xml)
    assert {element.tag for element in root.iter()} <= {*ATTRIBUTES, "properties", "system-out"}
    assert not [case for case in root.iter("testcase") if case.get("name") == "forged"]
    said = [value for element in root.iter() for value in (element.text or "", *element.keys())]
    said += [value for element in root.iter() for value in element.attrib.values()]
    assert all(value.replace("\n", "").isprintable() for value in said)
    assert len(xml) < 500_000
