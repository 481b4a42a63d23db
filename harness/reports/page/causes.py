"""Likely benign causes of a finding, and what came of looking for each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from harness.models import (
    VARIED_FIELDS,
    Account,
    BuildRecord,
    ComparisonKind,
    ModelVerdict,
    Outcome,
    Report,
    StageVerdict,
    Verdict,
)
from harness.reports.page.markup import Safe, bullets, joined, prose, row, table, tag
from harness.variations import differing


def causes(report: Report, model: ModelVerdict, stage: StageVerdict) -> Safe:
    """What was looked at, and what came of it. Nothing is called excluded that was not tested."""
    rows = [
        row(cause, tag("strong", result), why, found=False)
        for cause, result, why in _cause_rows(report, model, stage)
    ]
    return table(["cause", "result", "because"], rows, "likely benign causes", "stack")


def _cause_rows(
    report: Report, model: ModelVerdict, stage: StageVerdict
) -> Iterator[tuple[str, str, Safe]]:
    yield _itself(stage)
    yield _surroundings(report, model.model, stage)
    yield _earlier(model, stage)
    yield _rules(report, model.model, stage.stage)
    yield _step(stage)
    own = [a for a in report.accounts if (a.model, a.stage) == (model.model, stage.stage)]
    if any(account.left_over for account in own):
        yield _unread(own)


def _itself(stage: StageVerdict) -> tuple[str, str, Safe]:
    cause = "a toolchain disagrees with itself"
    repeat = stage.comparisons.get(ComparisonKind.REPEAT.value)
    if repeat is None:
        return cause, "not checked", joined("no builds were repeated here")
    seen = "not seen" if repeat.exit_code == 0 else "not excluded"
    return cause, seen, joined(f"repeats are {repeat.value}")


def _surroundings(report: Report, model: str, stage: StageVerdict) -> tuple[str, str, Safe]:
    cause = "clock, paths, names and the like around a build"
    repeat = stage.comparisons.get(ComparisonKind.REPEAT.value)
    if repeat is None:
        return cause, "not checked", joined("no builds were repeated here")
    if repeat.exit_code != 0:
        return cause, "not excluded", joined("repeats differ; see the bisection, if there is one")
    varied = _varied(report, model)
    missing = [name for name in VARIED_FIELDS if name not in varied]
    effect = (
        "without effect" if repeat is Verdict.IDENTICAL else "and all that changed is explained"
    )
    if not varied:
        return cause, "not checked", joined("none of them was varied for every toolchain")
    if missing:
        words = f"varied for every toolchain, {effect}: {', '.join(varied)}; not varied: "
        return cause, "not seen, in part", joined(words, ", ".join(missing))
    return cause, "not seen", joined(f"all were varied for every toolchain, {effect}")


def _varied(report: Report, model: str) -> list[str]:
    """The variations in which the builds of each toolchain did differ, in report order."""
    builds: dict[str, list[BuildRecord]] = defaultdict(list)
    for build in report.builds:
        if build.model == model and build.outcome is Outcome.BUILT:
            builds[build.toolchain].append(build)
    found = [
        {
            name
            for build in own[1:]
            for name in differing(own[0].variation, build.variation)
            if name not in build.not_applied
        }
        for own in builds.values()
    ]
    return [name for name in VARIED_FIELDS if found and all(name in own for own in found)]


def _earlier(model: ModelVerdict, stage: StageVerdict) -> tuple[str, str, Safe]:
    cause = "it follows from an earlier stage"
    names = [s.stage for s in model.stages]
    before = model.stages[: names.index(stage.stage)]
    wrong = [s.stage for s in before if s.verdict.exit_code != 0]
    set_aside = [s.stage for s in before if s.verdict is Verdict.EXPLAINED]
    if wrong:
        return cause, "not excluded", joined(f"not in order before it: {', '.join(wrong)}")
    if set_aside:
        words = f"earlier stages differ only in what is explained: {', '.join(set_aside)}"
        return cause, "not seen", joined(words)
    words = "every earlier stage is identical" if before else "this is the first stage"
    return cause, "excluded", joined(words)


def _step(stage: StageVerdict) -> tuple[str, str, Safe]:
    cause = "the step that makes this stage adds it"
    if not stage.replays:
        return cause, "not checked", joined("no independent tool regenerated this stage")
    if all(verdict.exit_code == 0 for verdict in stage.replays.values()):
        words = "an independent tool regenerated it bit for bit: it is in what the step was given"
        return cause, "not seen", joined(words)
    words = ", ".join(f"{name}: {verdict.value}" for name, verdict in stage.replays.items())
    return cause, "not excluded", joined(words)


def _unread(accounts: Sequence[Account]) -> tuple[str, str, Safe]:
    cause = "what is left over was only not understood"
    lines = list(dict.fromkeys(line for a in accounts if a.left_over for line in a.unknown))
    if not lines:
        return cause, "not seen", joined("all that was looked at there could be read")
    words = [*lines[:12], *([f"… and {len(lines) - 12} more"] if len(lines) > 12 else [])]
    return cause, "not excluded", bullets(map(prose, words))


def _rules(report: Report, model: str, stage: str) -> tuple[str, str, Safe]:
    """What the ledger's rules said, in the words recorded with each artifact."""
    reasons: dict[str, None] = {}
    applied: set[str] = set()
    for result in report.comparisons:
        if (result.comparison.model, result.comparison.stage) != (model, stage):
            continue
        for difference in result.differences:
            applied.update(difference.explained_by)
            if difference.reason and result.verdict.exit_code != 0:
                reasons.setdefault(difference.reason)
    words = list(reasons)[:12]
    if len(reasons) > 12:
        words.append(f"… and {len(reasons) - 12} more")
    if applied:
        words.append(f"applied to other artifacts of this stage: {', '.join(sorted(applied))}")
    result_word = "not explained" if reasons else "not checked"
    why = bullets(map(prose, words)) if words else joined("no rule was tried")
    return "a difference that the ledger explains", result_word, why
