"""The report as one HTML file: opens from disk, asks for nothing, runs nothing that it was told.

Its sections are in :mod:`harness.reports.page`. All text is escaped in one place there,
``markup.tag``: what is not markup made there is text. The page's Content-Security-Policy allows the
two inlined files by digest and nothing else, so that markup which came through all the same could
not act. Every list has a limit, and says what it left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from harness.comparators.interface import Examined
from harness.constants import Key, Summary
from harness.models import Report
from harness.reports.page.about import notes_section, policy_section, toolchains_section
from harness.reports.page.accounts import accounts_section
from harness.reports.page.artifacts import artifacts_section
from harness.reports.page.builds import builds_section
from harness.reports.page.comparisons import DetailKey
from harness.reports.page.constants import constants_section
from harness.reports.page.document import document
from harness.reports.page.explained import explained_section
from harness.reports.page.findings import findings_of, findings_section
from harness.reports.page.independence import independence_section
from harness.reports.page.markup import Safe, tag
from harness.reports.page.matrix import matrix_section
from harness.reports.page.replays import replays_section
from harness.reports.page.timings import timings_section
from harness.reports.page.top import contents, toolbar, top, whole_verdict

_NO_DETAILS: Mapping[DetailKey, Examined] = MappingProxyType({})
_NO_VALUES: Mapping[Key, Summary] = MappingProxyType({})


class HtmlReporter:
    def render(
        self,
        report: Report,
        details: Mapping[DetailKey, Examined] = _NO_DETAILS,
        constants: Mapping[Key, Summary] = _NO_VALUES,
    ) -> str:
        """The page. ``details``: what looking into two artifacts gave, where that was done;
        ``constants``: what is known of the numbers in them.
        """
        title = f"{whole_verdict(report)}: run {report.run}"
        return document(title, *_body(report, details, constants))


def _body(
    report: Report, details: Mapping[DetailKey, Examined], constants: Mapping[Key, Summary]
) -> Iterator[Safe]:
    findings = list(findings_of(report))
    yield top(report)
    yield toolbar()
    yield contents()
    yield tag(
        "main",
        matrix_section(report, findings),
        findings_section(report, findings, details),
        replays_section(report),
        accounts_section(report),
        independence_section(report.independence),
        timings_section(report),
        constants_section(report, constants),
        builds_section(report),
        artifacts_section(report),
        toolchains_section(report),
        policy_section(report),
        notes_section(report),
        explained_section(report, details),
    )
