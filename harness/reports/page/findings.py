"""The findings, each with its evidence, its likely benign causes and the next command."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.comparators.interface import Examined
from harness.models import (
    BuildRecord,
    ComparisonKind,
    ComparisonResult,
    ModelVerdict,
    Outcome,
    Report,
    StageVerdict,
    Verdict,
)
from harness.reports.findings import short
from harness.reports.page import limits
from harness.reports.page.accounts import left_over
from harness.reports.page.badges import badge
from harness.reports.page.builds import reproduce
from harness.reports.page.causes import causes
from harness.reports.page.comparisons import DetailKey, diff_words, evidence
from harness.reports.page.markup import (
    Safe,
    bullets,
    command_line,
    counted,
    fold,
    joined,
    prose,
    section,
    tag,
)
from harness.reports.page.replays import alike, replay_row, replay_table
from harness.reports.page.room import Room, capped, reason_list
from harness.reports.page.top import whole_verdict

_CHANGE = {
    Verdict.INCONCLUSIVE: "The evidence named above, once it is there. Until then this is no pass.",
    Verdict.NONDETERMINISTIC: "Builds by a toolchain that agrees with itself. A second run that "
    "happens to agree would not be enough.",
    Verdict.UNACCOUNTED: "Something in the model that accounts for what is named above.",
    Verdict.UNEXPLAINED: "Builds whose bytes agree, or an entry in the ledger whose rule proves "
    "that both sides mean the same. An opinion that it looks harmless would not be enough.",
}


@dataclass(frozen=True)
class Finding:
    """One thing to be looked at. ``stage`` None: about the model as a whole."""

    id: str
    model: ModelVerdict
    stage: StageVerdict | None

    @property
    def verdict(self) -> Verdict:
        return self.stage.verdict if self.stage else self.model.verdict

    @property
    def first(self) -> bool:
        return self.stage is not None and self.stage.stage == self.model.first_divergence


def findings_of(report: Report) -> Iterator[Finding]:
    """Divergences first, and first of them the first divergence of each model."""
    number = 0
    for model in report.verdicts:
        stages = [s for s in model.stages if s.verdict.exit_code != 0]
        stages.sort(key=lambda s: (s.stage != model.first_divergence, s.verdict.exit_code))
        rest = model.reasons or (model.verdict.exit_code != 0 and not stages)
        for stage in [*stages, *([None] if rest else [])]:
            number += 1
            yield Finding(f"finding-{number}", model, stage)


def findings_section(
    report: Report, findings: Sequence[Finding], details: Mapping[DetailKey, Examined]
) -> Safe:
    if not findings:
        words = "No stage of any model was judged a finding."
        if whole_verdict(report).exit_code == 2:
            words = "No finding, but no answer either: see the warnings above."
        return section("findings", "Findings", tag("p", words))
    by_stage: dict[tuple[str, str], list[ComparisonResult]] = defaultdict(list)
    for result in report.comparisons:
        by_stage[(result.comparison.model, result.comparison.stage)].append(result)
    room = Room()
    models: set[str] = set()

    def show(finding: Finding) -> Safe:
        results = by_stage[(finding.model.model, finding.stage.stage)] if finding.stage else []
        opened = finding.model.model not in models and len(models) < limits.MANY
        models.add(finding.model.model)
        return _finding(report, finding, results, details, room, opened)

    shown, missing = capped(findings, limits.MAX_ROWS, room, show, "findings")
    title = f"Findings ({len(findings)})"
    return section("findings", title, *shown, missing)


def _finding(
    report: Report,
    finding: Finding,
    results: Sequence[ComparisonResult],
    details: Mapping[DetailKey, Examined],
    room: Room,
    opened: bool,
) -> Safe:
    stage = finding.stage
    where = stage.stage if stage else "the model as a whole"
    heading: list[str] = [tag("h3", f"{finding.model.model} · {where}"), " "]
    heading.append(badge(finding.verdict))
    if finding.first:
        heading += [" ", tag("strong", "first divergence", class_="mark")]
    parts: list[Safe] = []
    if stage is None:
        reasons = finding.model.reasons or ("No reason was recorded.",)
        parts += [tag("h4", "What is missing or wrong"), reason_list(reasons)]
    else:
        odd = ", ".join(stage.odd_ones_out) or "cannot be told"
        parts.append(tag("p", "odd one out: ", tag("strong", odd)))
        parts += [tag("h4", "What was compared"), _compared(stage, results)]
        parts += [tag("h4", "Evidence"), reason_list(stage.reasons) if stage.reasons else Safe("")]
        parts += evidence(report, results, details, room, opened)
        parts += _failed_replays(report, finding.model.model, stage.stage)
        parts += _left_over(report, finding.model.model, stage.stage)
        parts += [tag("h4", "Likely benign causes"), causes(report, finding.model, stage)]
        parts += _bisections(report, finding.model.model, stage.stage)
    parts += [tag("h4", "What would change my mind"), tag("p", _CHANGE[finding.verdict])]
    parts += [tag("h4", "Next"), *_next(report, finding, results)]
    return fold(
        heading, *parts, open_=opened, class_="finding f", id=finding.id, data_bad=True
    )  # fmt: skip


def _compared(stage: StageVerdict, results: Sequence[ComparisonResult]) -> Safe:
    lines = []
    for kind in ComparisonKind:
        own = [r for r in results if r.comparison.kind is kind]
        if not own:
            continue
        counts = Counter(r.verdict for r in own)
        words = ", ".join(f"{counts[v]} {v.value}" for v in Verdict if counts[v])
        files = sum(r.artifacts for r in own)
        what = f"{counted(len(own), 'comparison')} of {counted(files, 'artifact')}"
        lines.append(f"{kind.value}: {what}: {words}")
    lines += [f"replay {name}: {verdict.value}" for name, verdict in stage.replays.items()]
    lines += [f"accounting of {kind}: {found.value}" for kind, found in stage.accounts.items()]
    return bullets(lines or ["nothing was compared at this stage"])


def _failed_replays(report: Report, model: str, stage: str) -> list[Safe]:
    bad = [
        r for r in report.replays
        if r.model == model and r.stage == stage and r.verdict.exit_code != 0
    ]  # fmt: skip
    if not bad:
        return []
    shown, missing = capped(alike(bad), 50, Room(), replay_row, "replays")
    return [replay_table(shown), missing]


def _left_over(report: Report, model: str, stage: str) -> list[Safe]:
    own = [a for a in report.accounts if a.model == model and a.stage == stage and a.left_over]
    return [
        fold(
            [f"{account.kind} of ", tag("code", short(account.build))],
            left_over(account),
            open_=number == 0,
        )
        for number, account in enumerate(own[:50])
    ]


def _with_left_over(report: Report, finding: Finding) -> BuildRecord | None:
    """A build in which something at the finding's stage is not asked for by the model."""
    model, stage = finding.model.model, finding.stage.stage if finding.stage else ""
    ids = {a.build for a in report.accounts if (a.model, a.stage) == (model, stage) and a.left_over}
    return next((build for build in report.builds if build.id in ids), None)


def _bisections(report: Report, model: str, stage: str) -> list[Safe]:
    own = [b for b in report.bisections if b.model == model and b.stage == stage]
    if not own:
        return []
    lines = [
        joined(
            tag("code", found.toolchain),
            ": ",
            tag("strong", ", ".join(found.cause) or "differs with nothing varied"),
            ". ",
            prose(found.detail),
            f" ({found.builds} builds to find out)",
        )
        for found in own[:100]
    ]
    return [tag("h4", "Bisection"), bullets(lines)]


def _next(report: Report, finding: Finding, results: Sequence[ComparisonResult]) -> Iterator[Safe]:
    bad = [r for r in results if r.verdict.exit_code == 1] or [
        r for r in results if r.verdict.exit_code != 0
    ]
    if bad:
        yield tag("p", "See it: ", command_line(diff_words(report, bad[0])))
    elif finding.stage is not None and (alone := _with_left_over(report, finding)):
        yield tag("p", "Build it alone, and look at what it leaves: ",
                  command_line([*reproduce(report, alone), "--keep"]))  # fmt: skip
    elif finding.stage is not None:
        words = "Nothing was compared at this stage; look at the replays and builds below."
        yield tag("p", words)
    else:
        failed = [
            b for b in report.builds
            if b.model == finding.model.model and b.outcome is not Outcome.BUILT
        ]  # fmt: skip
        for build in failed[:3]:
            yield tag("p", "Build it alone: ", command_line(reproduce(report, build)))
        if not failed:
            yield tag(
                "p", "Run again with what is missing: ", command_line(["harness", "run", "-h"])
            )
