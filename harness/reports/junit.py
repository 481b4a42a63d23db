"""JUnit XML, as the dashboards of Jenkins, GitLab and GitHub read it.

A ``testsuite`` is a model; a ``testcase`` is a stage × a kind of evidence, a build, or the
model's verdict as a whole. A finding is a ``failure``. No answer is an ``error``, never
``skipped``: dashboards count what was skipped as fine.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.models import (
    ComparisonResult,
    Isolation,
    ModelVerdict,
    Outcome,
    ReplayResult,
    Report,
    StageVerdict,
    Verdict,
)
from harness.reports.findings import MAX_ITEMS, MAX_LINE, MAX_NAME, Finding, findings
from harness.reports.terminal import MEANING
from harness.text import printable
from harness.verdict import worst

MAX_TEXT = 30_000  # characters of one failure


@dataclass(frozen=True)
class _Case:
    """One test. ``classname`` is what dashboards group by.

    seconds: 0 where nothing was run for it. passed, failed: what to say in either case.
    """

    classname: str
    name: str
    verdict: Verdict
    seconds: float = 0.0
    findings: Sequence[Finding] = ()
    passed: str = ""
    failed: str = ""


class JunitReporter:
    def render(self, report: Report) -> str:
        found = findings(report)
        root = ET.Element("testsuites", name=f"harness {printable(report.run, MAX_NAME)}")
        for verdict in report.verdicts:
            own = [finding for finding in found if finding.about(verdict.model)]
            _suite(root, report, _name(verdict.model), list(_cases(report, verdict, own)))
        if whole := [finding for finding in found if not finding.model]:
            # What is wrong with the run and not with a model, such as that it did not finish.
            bad = Verdict.INCONCLUSIVE if not _answers(whole) else Verdict.UNEXPLAINED
            case = _Case("run", "verdict", worst([report.verdict, bad]), findings=whole)
            _suite(root, report, "run", [case])
        for key in ("tests", "failures", "errors", "skipped"):
            root.set(key, str(sum(int(suite.attrib[key]) for suite in root)))
        root.set("time", _seconds(report.wall_seconds))
        ET.indent(root)
        return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _cases(report: Report, verdict: ModelVerdict, found: Sequence[Finding]) -> Iterator[_Case]:
    model = _name(verdict.model)
    diverges = _divergence(verdict)
    said = f"{verdict.verdict}: {MEANING[verdict.verdict]}"
    yield _Case(model, "verdict", verdict.verdict, 0.0, found, said, diverges)
    comparisons = [r for r in report.comparisons if r.comparison.model == verdict.model]
    replays = [r for r in report.replays if r.model == verdict.model]
    for stage in verdict.stages:
        about = [finding for finding in found if finding.stage == _name(stage.stage)]
        own = [r for r in comparisons if r.comparison.stage == stage.stage]
        ending = [r for r in replays if r.stage == stage.stage]
        for case in _of_stage(stage, own, ending, about):
            yield replace(case, failed=diverges)
    for build in report.builds:
        if build.model == verdict.model:
            name = f"{build.toolchain}/{build.variation.name}"
            evidence = printable(f"build {name}", MAX_LINE)
            about = [finding for finding in found if finding.evidence == evidence]
            bad = Verdict.IDENTICAL if build.outcome is Outcome.BUILT else Verdict.INCONCLUSIVE
            name = printable(name, MAX_LINE)
            yield _Case(f"{model}.builds", name, bad, build.wall_seconds, about)


def _of_stage(
    stage: StageVerdict,
    comparisons: Sequence[ComparisonResult],
    replays: Sequence[ReplayResult],
    found: Sequence[Finding],
) -> Iterator[_Case]:
    where = f"{_name(stage.model)}.{_name(stage.stage)}"
    cases = []
    for kind, verdict in stage.comparisons.items():
        about = [finding for finding in found if finding.evidence == kind]
        own = [result for result in comparisons if result.comparison.kind.value == kind]
        cases.append(_Case(where, _name(kind), verdict, 0.0, about, _explained(own)))
    for replay, verdict in stage.replays.items():
        name = printable(f"replay {replay}", MAX_NAME)
        seconds = sum(
            result.wall_seconds
            for result in replays
            if result.name == replay and not result.shared_with and not result.remembered
        )
        about = [finding for finding in found if finding.evidence == name]
        cases.append(_Case(where, name, verdict, seconds, about))
    yield from cases
    if stage.verdict.severity > worst((c.verdict for c in cases), Verdict.IDENTICAL).severity:
        # Something else speaks against the stage, such as that nothing was compared.
        about = [finding for finding in found if not finding.evidence]
        yield _Case(where, "verdict", stage.verdict, findings=about)


def _explained(results: Iterable[ComparisonResult]) -> str:
    """Which rules stand behind EXPLAINED, and how much they set aside: a pass, and not for free."""
    differences = [difference for result in results for difference in result.differences]
    rules = sorted({rule for difference in differences for rule in difference.explained_by})
    ignored = sum(difference.ignored_bytes for difference in differences)
    words = f"explained by {', '.join(rules)}; {ignored:,} bytes set aside"
    return printable(words, MAX_LINE) if rules else ""


def _divergence(verdict: ModelVerdict) -> str:
    if verdict.first_divergence is None:
        return ""
    odd = ", ".join(verdict.odd_ones_out) or "cannot be told"
    words = f"first divergence: {verdict.first_divergence}; odd one out: {odd}"
    return printable(words, MAX_LINE)


def _suite(root: ET.Element, report: Report, name: str, cases: Sequence[_Case]) -> None:
    suite = ET.SubElement(root, "testsuite", name=name, tests=str(len(cases)))
    codes = [case.verdict.exit_code for case in cases]
    suite.set("failures", str(codes.count(1)))
    suite.set("errors", str(codes.count(2)))
    suite.set("skipped", "0")
    suite.set("time", _seconds(sum(case.seconds for case in cases)))
    if started := re.match(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}", report.started
    ):
        suite.set("timestamp", started[0])
    properties = ET.SubElement(suite, "properties")
    about = {"run": report.run, "seed": str(report.seed), "engine": report.engine}
    for key, value in {**about, "isolation": report.isolation.value}.items():
        ET.SubElement(properties, "property", name=key, value=printable(value, MAX_NAME))
    for case in cases:
        _testcase(suite, case)
    notes = [printable(note, MAX_LINE) for note in report.notes]
    if report.isolation is Isolation.NONE:
        notes.append("isolation: none. The builds could see this machine; weaker evidence.")
    if notes:
        ET.SubElement(suite, "system-out").text = "\n".join(notes)


def _testcase(suite: ET.Element, case: _Case) -> None:
    element = ET.SubElement(
        suite, "testcase", classname=case.classname, name=case.name, time=_seconds(case.seconds)
    )
    code = case.verdict.exit_code
    if code == 0:
        if case.passed:
            ET.SubElement(element, "system-out").text = case.passed
        return
    # What matters first: a missing answer must not push a finding out of sight.
    found = sorted(case.findings, key=lambda finding: not finding.answer)
    title = found[0].title if found else MEANING[case.verdict]
    bad = ET.SubElement(element, "failure" if code == 1 else "error", type=case.verdict.value)
    bad.set("message", printable(f"{case.verdict}: {title}", MAX_LINE))
    head = [f"{case.verdict}: {MEANING[case.verdict]}", case.failed]
    parts = ["\n".join(line for line in head if line)]
    parts += [finding.text() for finding in found[:MAX_ITEMS]]
    if len(found) > MAX_ITEMS:
        parts.append(f"… and {len(found) - MAX_ITEMS} more in report.json")
    bad.text = printable("\n\n".join(parts), MAX_TEXT, newlines=True)


def _answers(found: Iterable[Finding]) -> bool:
    return any(finding.answer for finding in found)


def _name(text: str) -> str:
    return printable(text, MAX_NAME)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if math.isfinite(seconds) else "0.000"
