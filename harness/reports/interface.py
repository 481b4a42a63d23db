"""What a report is: a run's result, shown to somebody. It decides nothing.

Text that comes from a toolchain has passed through :func:`harness.text.printable` when it was
recorded; a report still escapes for its own medium.
"""

from __future__ import annotations

from typing import Protocol

from harness.models import Report


class Reporter(Protocol):
    def render(self, report: Report) -> str:
        """The whole report as text of its medium."""
        ...
