"""What speaks against the builds of a run, in the report's own words, with the next command.

:func:`findings` is the list that every report for machines shows. A report with an exit code
other than 0 has at least one; a report with none was clean.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.models import (
    ArtifactDifference,
    BuildRecord,
    Comparison,
    ComparisonKind,
    ComparisonResult,
    ModelVerdict,
    Outcome,
    ReplayResult,
    Report,
    StageVerdict,
    Verdict,
)
from harness.text import printable
from harness.variations import CONTROL
from harness.verdict import AGREE, exit_code

MAX_NAME = 200  # characters
MAX_LINE = 600
MAX_REASON = 3000
MAX_ITEMS = 6
MAX_ARTIFACTS = 200  # of one stage of two builds; the rest is one finding
_RULE_OF = {
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.NONDETERMINISTIC: "nondeterministic",
    Verdict.UNACCOUNTED: "unaccounted",
    Verdict.UNEXPLAINED: "unexplained",
}
_Pair = tuple[ComparisonResult, ArtifactDifference | None]  # None: it is not about one artifact
_NO_ANSWER = {"build-failed", "inconclusive"}


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against a run. All text is printable; only ``detail`` has lines.

    rule: id out of ``sarif.RULES``. stage, artifact: empty where it is about more than one.
    evidence: what was looked at: a kind of comparison, ``replay NAME``,
    ``build TOOLCHAIN/VARIATION``, ``accounting KIND``, or empty.
    toolchains: whom it speaks against; where that cannot be told, all that are involved.
    title: one line. command: the next one to run.
    """

    rule: str
    model: str
    stage: str
    artifact: str
    evidence: str
    toolchains: tuple[str, ...]
    title: str
    detail: str
    command: str

    @property
    def answer(self) -> bool:
        """False where it only says that there is no answer."""
        return self.rule not in _NO_ANSWER

    @property
    def fingerprint(self) -> str:
        """The same in every run that finds the same: no digest of an artifact, no run's name."""
        parts = [self.rule, self.model, self.stage, self.artifact, self.evidence]
        if not self.stage and not self.evidence:
            parts.append(self.title)  # all that tells one missing piece of evidence from another
        return hashlib.sha256("\0".join([*parts, *sorted(self.toolchains)]).encode()).hexdigest()

    def about(self, model: str) -> bool:
        return self.model == printable(model, MAX_NAME)

    def text(self) -> str:
        """Everything, for people."""
        return "\n".join(
            part for part in (self.title, self.detail, f"next: {self.command}") if part
        )


def findings(report: Report) -> tuple[Finding, ...]:
    """What speaks against each model, in the report's order, then against the run as a whole."""
    found = [finding for verdict in report.verdicts for finding in _of_model(report, verdict)]
    show = _show(report)
    if not report.complete:
        title = "the run did not finish: what it lacks is not known to be fine"
        found.append(Finding("inconclusive", "", "", "", "", (), title, "", show))
    if not report.verdicts:
        title = "the run looked at no model: nothing was checked"
        found.append(Finding("inconclusive", "", "", "", "", (), title, "", show))
    return (*found, *_missing(exit_code(report), report.verdict, "", found, show))


def diff_command(report: Report, comparison: Comparison) -> str:
    """What shows where the two builds of a comparison differ. One line."""
    sides = [short(side) for side in (comparison.left, comparison.right)]
    words = ["harness", "diff", report.run, comparison.model, comparison.stage, *sides]
    return printable(shlex.join(words), MAX_LINE)


def _show(report: Report) -> str:
    return printable(shlex.join(["harness", "show", report.run]), MAX_LINE)


def _of_model(report: Report, verdict: ModelVerdict) -> list[Finding]:
    builds = {build.id: build for build in report.builds if build.model == verdict.model}
    comparisons = [r for r in report.comparisons if r.comparison.model == verdict.model]
    replays = [r for r in report.replays if r.model == verdict.model]
    failed = [build for build in builds.values() if build.outcome is not Outcome.BUILT]
    found = [_of_build(report, build) for build in failed]
    for stage in verdict.stages:
        own = [r for r in comparisons if r.comparison.stage == stage.stage]
        ending = [r for r in replays if r.stage == stage.stage]
        here = [
            *_differences(report, stage, own),
            *_replays(report, stage, ending, builds),
            *_left_over(report, stage),
        ]
        found += here
        reasons = "\n".join(_line(reason) for reason in stage.reasons[:MAX_ITEMS])
        missing = _missing(
            stage.verdict.exit_code, stage.verdict, stage.model, here, _show(report), stage.stage
        )
        found += [replace(finding, detail=reasons) for finding in missing]
    # The reason that a failed build gives is the finding that it already has.
    said = tuple(f"{build.id}: {build.outcome}" for build in failed)
    for reason in verdict.reasons:
        if not reason.startswith(said):
            title = printable(f"{verdict.model}: {reason}", MAX_LINE)
            name = printable(verdict.model, MAX_NAME)
            found.append(Finding("inconclusive", name, "", "", "", (), title, "", _show(report)))
    missing = _missing(
        verdict.verdict.exit_code, verdict.verdict, verdict.model, found, _show(report)
    )
    return [*found, *missing]


def _missing(
    code: int,
    verdict: Verdict,
    model: str,
    found: Sequence[Finding],
    command: str,
    stage: str = "",
) -> list[Finding]:
    """A verdict that none of the findings speaks of is a finding itself: nothing gets lost."""
    if code == 0 or any(finding.answer or code == 2 for finding in found):
        return []
    where = " at ".join(printable(part, MAX_NAME) for part in (model, stage) if part) or "the run"
    title = f"{where}: {verdict}"
    names = (printable(model, MAX_NAME), printable(stage, MAX_NAME))
    # A run can have an exit code that is worse than its own verdict says.
    rule = _RULE_OF.get(verdict, "inconclusive" if code == 2 else "unexplained")
    return [Finding(rule, *names, "", "", (), title, "", command)]


def _of_build(report: Report, build: BuildRecord) -> Finding:
    title = f"{build.model}: {build.toolchain}, {build.variation.name} build: {build.outcome}"
    log = f"log: {printable(report.run, MAX_NAME)}/builds/{printable(build.id, MAX_LINE)}/log.txt"
    return Finding(
        "build-failed",
        printable(build.model, MAX_NAME),
        "",
        "",
        printable(f"build {build.toolchain}/{build.variation.name}", MAX_LINE),
        (printable(build.toolchain, MAX_NAME),),
        printable(title, MAX_LINE),
        "\n".join([*([_line(build.detail)] if build.detail else []), log]),
        _show(report),
    )


def _differences(
    report: Report,
    stage: StageVerdict,
    results: Iterable[ComparisonResult],
) -> Iterator[Finding]:
    """One for each artifact and kind of comparison; repeats for each toolchain by itself."""
    groups: dict[tuple[Verdict, ComparisonKind, str, str], list[_Pair]] = {}
    for result in results:
        if result.verdict in AGREE:
            continue
        kind = result.comparison.kind
        own = _toolchain(result.comparison.right) if kind is ComparisonKind.REPEAT else ""
        left: list[ArtifactDifference | None] = []
        left += [difference for difference in result.differences if not difference.explained_by]
        if len(left) > MAX_ARTIFACTS or not left:
            left = [*left[:MAX_ARTIFACTS], None]
        for difference in left:
            key = (result.verdict, kind, difference.name if difference else "", own)
            groups.setdefault(key, []).append((result, difference))
    for (verdict, kind, name, own), members in groups.items():
        sides = [s for r, _ in members for s in (r.comparison.left, r.comparison.right)]
        involved = tuple(dict.fromkeys(_toolchain(side) for side in sides))
        blamed = tuple(odd for odd in stage.odd_ones_out if odd in involved)
        place = f"{stage.stage}/{name}" if name else stage.stage
        if verdict is Verdict.INCONCLUSIVE:
            title = f"{stage.model}: no answer at {place} ({kind})"
        elif own:
            title = f"{stage.model}: {own} disagrees with itself at {place}"
        else:
            title = f"{stage.model}: {place} differs and nobody explains it ({kind})"
        odd = ", ".join(blamed) or "cannot be told"
        lines = [] if own else [printable(f"odd one out: {odd}", MAX_LINE)]
        lines += [line for pair in members[:MAX_ITEMS] for line in _said(*pair)]
        if len(members) > MAX_ITEMS:
            lines.append(f"… and {len(members) - MAX_ITEMS} more pairs in report.json")
        if own:
            lines += [
                printable(f"{b.detail} ({b.builds} builds to find out)", MAX_LINE)
                for b in report.bisections
                if (b.model, b.toolchain, b.stage) == (stage.model, own, stage.stage)
            ]
        yield Finding(
            _RULE_OF[verdict],
            printable(stage.model, MAX_NAME),
            printable(stage.stage, MAX_NAME),
            printable(name, MAX_NAME),
            kind.value,
            tuple(printable(t, MAX_NAME) for t in blamed or involved),
            printable(title, MAX_LINE),
            "\n".join(lines),
            diff_command(report, members[0][0].comparison),
        )


def _said(result: ComparisonResult, difference: ArtifactDifference | None) -> Iterator[str]:
    """What is known of two builds that differ in one artifact, with the digests of both."""
    sides = [short(side) for side in (result.comparison.left, result.comparison.right)]
    reason = (difference.reason if difference else "") or result.reason
    if difference is None and len(result.differences) > MAX_ARTIFACTS:
        reason += f" ({len(result.differences):,} artifacts differ, not all are listed)"
    yield _line(f"{sides[0]} and {sides[1]}: {reason}")
    if difference is not None:
        for side, digest in zip(sides, _digests(difference), strict=True):
            yield f"    sha256 {digest}  {printable(side, MAX_NAME)}"


def _digests(difference: ArtifactDifference) -> tuple[str, str]:
    sides = (difference.left_sha256, difference.right_sha256)
    left, right = ("absent" if s is None else printable(s, 64) for s in sides)
    return left, right


def _replays(
    report: Report,
    stage: StageVerdict,
    results: Iterable[ReplayResult],
    builds: dict[str, BuildRecord],
) -> Iterator[Finding]:
    """One for each replay, toolchain and artifact that did not come out bit for bit."""
    groups: dict[tuple[Verdict, str, str, str], list[ReplayResult]] = {}
    for result in results:
        if result.verdict not in (Verdict.IDENTICAL, Verdict.EXPLAINED):
            name = _regenerated(result, builds)
            key = (result.verdict, result.name, result.toolchain, name)
            groups.setdefault(key, []).append(result)
    for (verdict, replay, toolchain, name), members in groups.items():
        answer = verdict.exit_code == 1
        place = f"{stage.stage}/{name}" if name else stage.stage
        said = "does not follow from the stage above it" if answer else "could not be regenerated"
        lines = []
        for result in members[:MAX_ITEMS]:
            lines.append(_line(f"{short(result.build)} by {result.replayer}: {result.detail}"))
            got = result.got_sha256 or "none"
            lines.append(f"    sha256 built {printable(result.expected_sha256, 64)}")
            lines.append(f"    sha256 regenerated {printable(got, 64)}")
        if len(members) > MAX_ITEMS:
            lines.append(f"… and {len(members) - MAX_ITEMS} more builds in report.json")
        yield Finding(
            "replay-mismatch" if answer else "inconclusive",
            printable(stage.model, MAX_NAME),
            printable(stage.stage, MAX_NAME),
            printable(name, MAX_NAME),
            printable(f"replay {replay}", MAX_NAME),
            (printable(toolchain, MAX_NAME),),
            printable(f"{stage.model}: {place} of {toolchain} {said} ({replay})", MAX_LINE),
            "\n".join(lines),
            _show(report),
        )


def _left_over(report: Report, stage: StageVerdict) -> Iterator[Finding]:
    """One for each kind of accounting and toolchain that came out with something left over."""
    for account in report.accounts:
        if (account.model, account.stage) != (stage.model, stage.stage) or not account.left_over:
            continue
        lines = []
        for found in account.left_over[:MAX_ITEMS]:
            lines.append(_line(f"{found.where}: {found.what}"))
            if found.path:
                lines.append(_line("    path: " + " → ".join(found.path)))
        if len(account.left_over) > MAX_ITEMS:
            lines.append(f"… and {len(account.left_over) - MAX_ITEMS} more in report.json")
        title = (
            f"{stage.model}: {stage.stage} of {account.toolchain} holds what the model does not "
            f"ask for ({account.kind})"
        )
        yield Finding(
            "unaccounted",
            printable(stage.model, MAX_NAME),
            printable(stage.stage, MAX_NAME),
            "",
            printable(f"accounting {account.kind}", MAX_NAME),
            (printable(account.toolchain, MAX_NAME),),
            printable(title, MAX_LINE),
            "\n".join(lines),
            _show(report),
        )


def _regenerated(result: ReplayResult, builds: dict[str, BuildRecord]) -> str:
    """The artifact that a replay made again; empty where its build left no such bytes."""
    build = builds.get(result.build)
    for artifact in build.artifacts if build else ():
        if artifact.stage == result.stage and artifact.sha256 == result.expected_sha256:
            return artifact.name
    return ""


def _toolchain(build: str) -> str:
    """The toolchain in a build's id: ``model/toolchain/variation``."""
    return build.partition("/")[2].rpartition("/")[0]


def short(build: str) -> str:
    """A build's id as `harness diff` takes it."""
    return build.partition("/")[2].removesuffix(f"/{CONTROL}")


def _line(text: str) -> str:
    """What a program printed, however many lines, can be told from the lines of a report."""
    return printable(text, MAX_REASON, newlines=True).replace("\n", "\n    | ")
