"""The report of a finished run as a page, with what looking into its artifacts gives."""

from __future__ import annotations

from harness.constant_values import summaries
from harness.looking import details
from harness.models import Report
from harness.reports.html import HtmlReporter
from harness.store import Store


def report_page(report: Report, store: Store) -> str:
    """One self-contained file. What the store has lost is left out of it."""
    return HtmlReporter().render(report, details(report, store), summaries(report, store))
