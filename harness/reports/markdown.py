"""The report as a GitHub step summary: verdict first, then each model, worst first.

Everything that a toolchain, a model or a file could have named stands in code: there GitHub knows
no HTML, links, images, mentions, issue numbers or commits. A code span here holds no backtick and
no pipe, and a block's fence is longer than any run of backticks in it, so neither can be left.

GitHub shows no summary above 1 MiB at all. What does not fit is left out, section by section,
and the last line says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from harness.independence import summary
from harness.models import (
    ComparisonKind,
    Isolation,
    ModelVerdict,
    Outcome,
    Report,
    StageVerdict,
    Verdict,
)
from harness.reports.findings import MAX_LINE, Finding, findings
from harness.reports.terminal import MEANING
from harness.text import printable
from harness.verdict import worst

MAX_BYTES = 1_000_000  # of UTF-8; the platform takes 1 MiB of one step
MAX_CELL = 100  # characters
MAX_ROWS = 100
MAX_ITEMS = 10
MAX_BLOCK = 6_000  # characters
_MARK = {0: "✅", 1: "❌", 2: "⚠️"}  # by exit code


class MarkdownReporter:
    def render(self, report: Report) -> str:
        found = findings(report)
        worst_first = sorted(report.verdicts, key=lambda verdict: -verdict.verdict.severity)
        sections = [_head(report, worst_first, found)]
        for verdict in worst_first:
            sections += _model(report, verdict, [f for f in found if f.about(verdict.model)])
        return _fitting(sections)


def code(text: str, limit: int = MAX_LINE) -> str:
    """Text on one line as a code span, in a table too. What would end it is shown as an escape."""
    shown = printable(text, limit).replace("`", "\\x60").replace("|", "\\x7c").strip()
    return f"`{shown or ' '}`"


def block(text: str, language: str = "text") -> str:
    """Text with lines as a fenced block."""
    shown = printable(text, MAX_BLOCK, newlines=True)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def _fitting(sections: Sequence[str]) -> str:
    """The sections that fit, from the first on. After one that does not, there is none."""
    kept: list[str] = []
    size = 200  # for the last line
    for section in sections:
        size += len(section.encode()) + 2
        if size > MAX_BYTES:
            kept.append(
                f"**{len(sections) - len(kept)} more sections are left out here:** a summary can "
                "hold 1 MiB. All is in report.json."
            )
            break
        kept.append(section)
    return "\n\n".join(kept) + "\n"


def _head(report: Report, verdicts: Sequence[ModelVerdict], found: Sequence[Finding]) -> str:
    """The verdict on the run, a line for each model, and what is to be said of the run itself."""
    all_verdicts = [report.verdict, *(each.verdict for each in verdicts)]
    if not report.complete or not verdicts:
        all_verdicts.append(Verdict.INCONCLUSIVE)
    verdict = worst(all_verdicts)
    distinct = sum(1 for replay in report.replays if replay.shared_with is None)
    parts = [
        f"# {_MARK[verdict.exit_code]} {verdict}",
        f"{MEANING[verdict][0].upper()}{MEANING[verdict][1:]}.",
        f"Run {code(report.run, MAX_CELL)}: {len(report.builds)} builds, "
        f"{len(report.comparisons)} comparisons, {len(report.replays)} replays ({distinct} "
        f"distinct), {report.wall_seconds:.0f} s, seed {report.seed}, "
        f"engine {code(report.engine, MAX_CELL)}.",
    ]
    if verdicts:
        rows = [["model", "verdict", "first divergence", "odd one out"]]
        rows += [_overview(each) for each in verdicts[:MAX_ROWS]]
        parts.append(_table(rows))
    if len(verdicts) > MAX_ROWS:
        parts.append(f"… and {len(verdicts) - MAX_ROWS} more models, none of them worse.")
    parts += [_finding(finding) for finding in found if not finding.model]
    return "\n\n".join([*parts, *_caveats(report)])


def _overview(verdict: ModelVerdict) -> list[str]:
    first = verdict.first_divergence
    odd = ", ".join(code(name, MAX_CELL) for name in verdict.odd_ones_out[:3])
    unknown = "–" if first is None else "cannot be told"
    return [
        code(verdict.model, MAX_CELL),
        _cell(verdict.verdict),
        "–" if first is None else code(first, MAX_CELL),
        odd or unknown,
    ]


def _caveats(report: Report) -> Iterator[str]:
    """What makes the evidence weaker, or was set aside."""
    if report.isolation is Isolation.NONE:
        yield "**Isolation: none.** The builds could see this machine; weaker evidence."
    differences = [d for result in report.comparisons for d in result.differences]
    if explained := sorted({rule for d in differences for rule in d.explained_by}):
        ignored = sum(difference.ignored_bytes for difference in differences)
        yield f"Explained by {code(', '.join(explained))}; {ignored:,} bytes set aside."
    if lacking := sorted({name for build in report.builds for name in build.not_applied}):
        yield f"Variations that could not be applied: {code(', '.join(lacking))}"
    for note in report.notes[:MAX_ITEMS]:
        yield f"Note: {code(note)}"


def _model(report: Report, verdict: ModelVerdict, found: Sequence[Finding]) -> Iterator[str]:
    """Sections: the table of stages, then what was found, a section for each stage."""
    built = [b for b in report.builds if b.model == verdict.model and b.outcome is Outcome.BUILT]
    toolchains = len({build.toolchain for build in built})
    parts = [
        f"## {code(verdict.model, MAX_CELL)} {_cell(verdict.verdict)}",
        f"{toolchains} toolchains, {len(built)} builds",
    ]
    kinds = [k for k in ComparisonKind if any(k.value in s.comparisons for s in verdict.stages)]
    if verdict.stages:
        rows = [["stage", *(kind.value for kind in kinds), "replay", "verdict"]]
        rows += [_row(stage, kinds) for stage in verdict.stages[:MAX_ROWS]]
        parts.append(_table(rows))
    if len(verdict.stages) > MAX_ROWS:
        parts.append(f"… and {len(verdict.stages) - MAX_ROWS} more stages in report.json")
    if report.independence is not None and verdict.stages:
        lines = [f"{name}: {said}" for name, said in summary(report.independence, verdict.model)]
        heading = "independent builders that agreed, by the component that makes the stage"
        parts.append(f"{heading}:\n\n{block(chr(10).join(lines))}")
    yield "\n\n".join(parts)
    for stage, group in groupby(found, key=lambda finding: finding.stage):
        # What matters first: a missing answer must not push a finding out of sight.
        members = sorted(group, key=lambda finding: not finding.answer)
        own = [_finding(finding) for finding in members[:MAX_ITEMS]]
        if len(members) > MAX_ITEMS:
            own.append(f"… and {len(members) - MAX_ITEMS} more in report.json")
        where = f"stage {code(stage, MAX_CELL)}" if stage else "as a whole"
        yield "\n\n".join([f"### {code(verdict.model, MAX_CELL)}, {where}", *own])


def _row(stage: StageVerdict, kinds: Sequence[ComparisonKind]) -> list[str]:
    same = sum(1 for verdict in stage.replays.values() if verdict is Verdict.IDENTICAL)
    replays = f"{same} of {len(stage.replays)} bit for bit" if stage.replays else "–"
    cells = [stage.comparisons.get(kind.value) for kind in kinds]
    return [
        code(stage.stage, MAX_CELL),
        *("–" if verdict is None else _cell(verdict) for verdict in cells),
        replays,
        _cell(stage.verdict),
    ]


def _finding(finding: Finding) -> str:
    parts = [f"**{code(finding.title)}**"]
    if finding.detail:
        parts.append(block(finding.detail))
    return "\n\n".join([*parts, block(finding.command, "console")])


def _cell(verdict: Verdict) -> str:
    return f"{_MARK[verdict.exit_code]} {verdict}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
