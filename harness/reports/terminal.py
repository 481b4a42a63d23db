"""The report for people at a terminal: verdict, stage × evidence, findings, the next command.

Fits 100 columns. Colour only where the terminal has it; the words say the same without.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.independence import summary
from harness.models import (
    ComparisonKind,
    Independence,
    Isolation,
    ModelVerdict,
    Outcome,
    ReplayResult,
    Report,
    StageVerdict,
    Verdict,
)
from harness.text import printable
from harness.variations import CONTROL

WIDTH = 100
_MAX_REASONS = 6
_MAX_REASON = 3000  # characters
_STYLE = {
    Verdict.IDENTICAL: "green",
    Verdict.EXPLAINED: "green",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NONDETERMINISTIC: "bold red",
    Verdict.UNACCOUNTED: "bold red",
    Verdict.UNEXPLAINED: "bold red",
}
MEANING = {
    Verdict.IDENTICAL: "every comparison and every replay came out byte for byte",
    Verdict.EXPLAINED: "all that differs is explained by a rule with proof",
    Verdict.INCONCLUSIVE: "no answer: evidence is missing (see below). This is not a pass",
    Verdict.NONDETERMINISTIC: "a toolchain disagrees with itself; do not release",
    Verdict.UNACCOUNTED: "something is in the output that the model does not account for",
    Verdict.UNEXPLAINED: "a difference nobody explains; do not release. More often a bug or "
    "nondeterminism than an attack",
}


class TerminalReporter:
    def __init__(self, width: int = WIDTH) -> None:
        self._width = width

    def render(self, report: Report) -> str:
        console = Console(width=self._width, force_terminal=False, no_color=True)
        with console.capture() as capture:
            self.print(report, console)
        return capture.get()

    def print(self, report: Report, console: Console) -> None:
        """To a live console, which decides on colour itself."""
        for part in self._parts(report):
            # A command must stay one line, however long, to be copied.
            console.print(part, soft_wrap=isinstance(part, Command), width=self._width)

    def _parts(self, report: Report) -> Iterator[RenderableType]:
        for verdict in report.verdicts:
            yield Text()
            yield from _model(report, verdict)
        yield Text()
        yield from _summary(report)


class Command(Text):
    """A line to be copied."""


def _model(report: Report, verdict: ModelVerdict) -> Iterator[RenderableType]:
    built = [b for b in report.builds if b.model == verdict.model and b.outcome is Outcome.BUILT]
    toolchains = len({build.toolchain for build in built})
    heading = Text(f"{verdict.model}  ", style="bold")
    heading.append(verdict.verdict.value, style=_STYLE[verdict.verdict])
    heading.append(f"  {toolchains} toolchains, {len(built)} builds", style="dim")
    yield heading
    kinds = [k for k in ComparisonKind if any(k.value in s.comparisons for s in verdict.stages)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  stage", no_wrap=True)
    for kind in kinds:
        table.add_column(kind.value, no_wrap=True)
    table.add_column("replay", no_wrap=True)
    accounted = any(stage.accounts for stage in verdict.stages)
    if accounted:
        table.add_column("accounting", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for stage in verdict.stages:
        table.add_row(
            f"  {stage.stage}",
            *(_cell(stage.comparisons.get(kind.value)) for kind in kinds),
            _replays(stage),
            *([_accounts(stage)] if accounted else []),
            Text(stage.verdict.value, style=_STYLE[stage.verdict]),
        )
    if verdict.stages:
        yield table
    yield from _findings(report, verdict)
    yield from _bullets(verdict.reasons, "yellow")
    if report.independence is not None and verdict.stages:
        yield from independence_lines(report.independence, verdict.model)


def independence_lines(independence: Independence, model: str) -> Iterator[RenderableType]:
    """One line for each class of stages: how many effectively independent builders agreed."""
    yield Text("  independent builders that agreed, by the component that makes the stage:")
    for name, numbers in summary(independence, model):
        yield Text(f"    {name:<9} {numbers}")


def _cell(verdict: Verdict | None) -> Text:
    if verdict is None:
        return Text("–", style="dim")
    plain = verdict in (Verdict.IDENTICAL, Verdict.EXPLAINED)
    return Text(verdict.value.lower(), style="" if plain else _STYLE[verdict])


def _replays(stage: StageVerdict) -> Text:
    if not stage.replays:
        return Text("–", style="dim")
    same = sum(1 for verdict in stage.replays.values() if verdict.exit_code == 0)
    style = "" if same == len(stage.replays) else "bold red"
    return Text(f"{same} of {len(stage.replays)} bit for bit", style=style)


def _accounts(stage: StageVerdict) -> Text:
    if not stage.accounts:
        return Text("–", style="dim")
    verdict = max(stage.accounts.values(), key=lambda found: found.severity)
    words = {Verdict.IDENTICAL: "accounted for", Verdict.UNACCOUNTED: "left over"}
    style = "" if verdict is Verdict.IDENTICAL else _STYLE[verdict]
    return Text(words.get(verdict, "no answer"), style=style)


def _findings(report: Report, verdict: ModelVerdict) -> Iterator[RenderableType]:
    if verdict.first_divergence is None:
        return
    text = Text("  first divergence: ", style="bold")
    text.append(verdict.first_divergence)
    text.append(f"; odd one out: {', '.join(verdict.odd_ones_out) or 'cannot be told'}")
    yield text
    for stage in verdict.stages:
        if stage.verdict.exit_code == 1:
            odd = f" (odd one out: {', '.join(stage.odd_ones_out)})" if stage.odd_ones_out else ""
            yield Text(f"  {stage.stage}{odd}:", style="bold")
            yield from _bullets(stage.reasons, "")
    for bisection in report.bisections:
        if bisection.model == verdict.model:
            yield Text(
                f"  {bisection.toolchain} at {bisection.stage}: {bisection.detail} "
                f"({bisection.builds} builds to find out)"
            )
    yield from _next_command(report, verdict)


def _bullets(lines: Iterable[str], style: str) -> Iterator[RenderableType]:
    lines = list(lines)
    for line in lines[:_MAX_REASONS]:
        # Indented as a whole: what a program printed must not look like a line of this report.
        text = Text(f"- {printable(line, _MAX_REASON, newlines=True)}", style=style)
        yield Padding(text, (0, 0, 0, 4))
    if len(lines) > _MAX_REASONS:
        yield Text(f"    … and {len(lines) - _MAX_REASONS} more in report.json", style="dim")


def _next_command(report: Report, verdict: ModelVerdict) -> Iterator[RenderableType]:
    for result in report.comparisons:
        comparison = result.comparison
        if (
            comparison.model == verdict.model
            and comparison.stage == verdict.first_divergence
            and result.verdict.exit_code == 1
        ):
            sides = [side.partition("/")[2] for side in (comparison.left, comparison.right)]
            sides = [side.removesuffix(f"/{CONTROL}") for side in sides]
            command = shlex.join(
                ["harness", "diff", report.run, verdict.model, comparison.stage, *sides]
            )
            yield Command(f"  see it:  {command}")
            return


def _summary(report: Report) -> Iterator[RenderableType]:
    for note in report.notes:
        yield Text(f"note: {note}", style="yellow")
    if report.isolation is Isolation.NONE:
        yield Text("isolation: none. The builds could see this machine; weaker evidence.", "yellow")
    explained = {e for r in report.comparisons for d in r.differences for e in d.explained_by}
    ignored = sum(d.ignored_bytes for r in report.comparisons for d in r.differences)
    if explained:
        yield Text(f"explained by {', '.join(sorted(explained))}; {ignored:,} bytes set aside")
    not_applied = sorted({name for build in report.builds for name in build.not_applied})
    if not_applied:
        yield Text(f"variations that could not be applied: {', '.join(not_applied)}", "yellow")
    line = Text(report.verdict.value, style=f"bold {_STYLE[report.verdict]}")
    line.append(f"  {MEANING[report.verdict]}", style="")
    yield line
    yield Text(
        f"run {report.run}: {len(report.builds)} builds, {len(report.comparisons)} comparisons, "
        f"{replay_words(report.replays)}, {report.wall_seconds:.0f} s, seed {report.seed}, "
        f"engine {report.engine}",
        style="dim",
    )


def replay_words(replays: tuple[ReplayResult, ...]) -> str:
    distinct = [replay for replay in replays if replay.shared_with is None]
    remembered = sum(1 for replay in distinct if replay.remembered)
    words = f", {remembered} of an earlier run" if remembered else ""
    return f"{len(replays)} replays ({len(distinct)} distinct{words})"
