"""The report for machines: ``report.json``, whose schema is ``report.schema.json`` beside this."""

from __future__ import annotations

from harness.models import Report
from harness.records import dump_report


class JsonReporter:
    def render(self, report: Report) -> str:
        return dump_report(report).decode()
