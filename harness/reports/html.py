"""The report as one HTML file: opens from disk, asks for nothing, runs nothing that it was told.

Its sections are in :mod:`harness.reports.page`. All text is escaped in one place there,
``markup.tag``: what is not markup made there is text. The page's Content-Security-Policy allows the
two inlined files by digest and nothing else, so that markup which came through all the same could
not act. Every list has a limit, and says what it left out.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from importlib import resources
from types import MappingProxyType

from harness.comparators.interface import Examined
from harness.models import Report
from harness.reports.page.about import notes_section, policy_section, toolchains_section
from harness.reports.page.artifacts import artifacts_section
from harness.reports.page.builds import builds_section
from harness.reports.page.comparisons import DetailKey
from harness.reports.page.explained import explained_section
from harness.reports.page.findings import findings_of, findings_section
from harness.reports.page.independence import independence_section
from harness.reports.page.markup import Safe, tag
from harness.reports.page.matrix import matrix_section
from harness.reports.page.replays import replays_section
from harness.reports.page.top import toolbar, top, whole_verdict


class HtmlReporter:
    def render(
        self, report: Report, details: Mapping[DetailKey, Examined] = MappingProxyType({})
    ) -> str:
        """The page. ``details``: what looking into two artifacts gave, where that was done."""
        style, script = _asset("report.css"), _asset("report.js")
        policy = (
            f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
            "base-uri 'none'; form-action 'none'"
        )
        head = tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", http_equiv="Content-Security-Policy", content=policy),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("title", f"{whole_verdict(report)}: run {report.run}"),
            tag("style", Safe(style)),
        )
        body = tag("body", *_body(report, details), tag("script", Safe(script)))
        return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _body(report: Report, details: Mapping[DetailKey, Examined]) -> Iterator[Safe]:
    findings = list(findings_of(report))
    yield top(report)
    yield toolbar()
    yield tag(
        "main",
        matrix_section(report, findings),
        findings_section(report, findings, details),
        replays_section(report),
        independence_section(report.independence),
        builds_section(report),
        artifacts_section(report),
        toolchains_section(report),
        policy_section(report),
        notes_section(report),
        explained_section(report, details),
    )
    yield tag("p", "", id="said", role="status", class_="quiet")


def _asset(name: str) -> str:
    return (resources.files("harness.reports") / "assets" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
