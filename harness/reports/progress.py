"""Live progress: what is being built, for how long, what is left.

A moving display on a terminal; plain lines elsewhere, one per finished piece of work; nothing
with ``--quiet``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from harness.plan import Build


class Quiet:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def planned(self, builds: Sequence[Build]) -> None:
        pass

    def started(self, what: str, build: str) -> None:
        pass

    def finished(self, what: str, build: str, outcome: str, seconds: float) -> None:
        pass


class Lines(Quiet):
    """One line for each finished piece of work, as a log wants it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = 0
        self._done = 0

    def say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def planned(self, builds: Sequence[Build]) -> None:
        self._total = len(builds)

    def finished(self, what: str, build: str, outcome: str, seconds: float) -> None:
        if what == "build":
            self._done += 1
        self.say(f"[{self._done:>2}/{self._total}] {what} {build}: {outcome}, {seconds:.1f} s")


class Live(Quiet):
    """A bar for all builds and a line for each that is going on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._all: TaskID | None = None
        self._running: dict[tuple[str, str], TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        self._progress.console.print(Text(line), soft_wrap=True)

    def planned(self, builds: Sequence[Build]) -> None:
        self._all = self._progress.add_task("builds", total=len(builds))

    def started(self, what: str, build: str) -> None:
        # Work waits in line before it runs; it is shown from here on, the oldest first.
        self._running[(what, build)] = self._progress.add_task(
            f"  {what} {build}", total=1, visible=len(self._running) < 4
        )

    def finished(self, what: str, build: str, outcome: str, seconds: float) -> None:  # noqa: ARG002
        task = self._running.pop((what, build), None)
        if task is not None:
            self._progress.remove_task(task)
        for shown in list(self._running.values())[:4]:
            self._progress.update(shown, visible=True)
        if what == "build" and self._all is not None:
            self._progress.advance(self._all)
        if outcome not in ("built", "done", "kept"):
            self.say(f"{what} {build}: {outcome}")
