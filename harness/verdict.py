"""From comparisons and replays to verdicts, by policy. Pure.

The rule: a finding anywhere is a finding above; missing evidence is INCONCLUSIVE, never a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from harness import plan
from harness.models import (
    Account,
    BuildRecord,
    ComparisonKind,
    ComparisonResult,
    Isolation,
    Model,
    ModelVerdict,
    Outcome,
    Policy,
    ReplayResult,
    Report,
    StageVerdict,
    Verdict,
)
from harness.variations import CONTROL

AGREE = (Verdict.IDENTICAL, Verdict.EXPLAINED)


def worst(verdicts: Iterable[Verdict], none: Verdict = Verdict.INCONCLUSIVE) -> Verdict:
    """The most severe of the verdicts; of none at all, INCONCLUSIVE: nothing was checked."""
    return max(verdicts, key=lambda verdict: verdict.severity, default=none)


def exit_code(report: Report) -> int:
    """0 nothing to explain, 1 a finding, 2 no answer. A run that is not complete is no answer."""
    verdicts = [report.verdict, *(model.verdict for model in report.verdicts)]
    if not report.complete or not report.verdicts:
        verdicts.append(Verdict.INCONCLUSIVE)
    return worst(verdicts).exit_code


def judge_model(
    model: Model,
    planned: Sequence[str],
    records: Sequence[BuildRecord],
    comparisons: Sequence[ComparisonResult],
    replays: Sequence[ReplayResult],
    policy: Policy,
    independent: Mapping[str, int] = MappingProxyType({}),
    accounts: Sequence[Account] = (),
) -> ModelVerdict:
    """The verdict on one model.

    ``planned``: ids of all builds that were to be done. ``independent``: stage → number of
    effectively independent builders that agreed on it; a stage that is missing has none. The other
    arguments may hold other models' results; they are passed over.
    """
    records = [record for record in records if record.model == model.name]
    comparisons = [result for result in comparisons if result.comparison.model == model.name]
    replays = [result for result in replays if result.model == model.name]
    accounts = [account for account in accounts if account.model == model.name]
    built = [record for record in records if record.outcome is Outcome.BUILT]

    names = dict.fromkeys(stage for record in built for stage in record.stages)
    # also those that a replay should have ended in, if nobody left them
    names |= dict.fromkeys(result.stage for result in replays)
    names |= dict.fromkeys(account.stage for account in accounts if account.left_over)
    stages = tuple(
        judge_stage(model.name, stage, built, comparisons, replays, accounts) for stage in names
    )
    reasons = [
        *_failures(planned, records),
        *_skipped(built, comparisons),
        *_unmet(policy, built, stages, replays),
        *_unaccounted(policy, built, accounts),
        *_too_dependent(policy, independent),
    ]
    if not stages and not reasons:
        reasons.append("nothing was compared")
    verdicts = [stage.verdict for stage in stages]
    if reasons:
        verdicts.append(Verdict.INCONCLUSIVE)
    findings = [stage for stage in stages if stage.verdict.exit_code == 1]
    return ModelVerdict(
        model=model.name,
        verdict=worst(verdicts),
        stages=stages,
        first_divergence=findings[0].stage if findings else None,
        odd_ones_out=tuple(dict.fromkeys(o for stage in findings for o in stage.odd_ones_out)),
        reasons=tuple(reasons),
    )


def judge_stage(
    model: str,
    stage: str,
    records: Sequence[BuildRecord],
    comparisons: Sequence[ComparisonResult],
    replays: Sequence[ReplayResult],
    accounts: Sequence[Account] = (),
) -> StageVerdict:
    """The verdict on one stage of one model: its comparisons, the replays that end in it, and what
    in it the model does not ask for. What could not be accounted for is the policy's matter.
    """
    own = [result for result in comparisons if result.comparison.stage == stage]
    accounts = [account for account in accounts if account.stage == stage]
    left_over = [account for account in accounts if account.left_over]
    ending = [result for result in replays if result.stage == stage]
    by_kind = {
        kind.value: worst(result.verdict for result in own if result.comparison.kind is kind)
        for kind in ComparisonKind
        if any(result.comparison.kind is kind for result in own)
    }
    by_replay = {
        name: worst(result.verdict for result in ending if result.name == name)
        for name in dict.fromkeys(result.name for result in ending)
    }
    by_account = {
        kind: worst(account.verdict for account in accounts if account.kind == kind)
        for kind in dict.fromkeys(account.kind for account in accounts)
    }
    verdicts = [*by_kind.values(), *by_replay.values(), *(a.verdict for a in left_over)]
    reasons = [
        f"{_short(result.comparison.left)} and {_short(result.comparison.right)}: {result.reason}"
        for result in own
        if result.reason and result.verdict not in AGREE
    ]
    reasons += [
        f"{result.name} of {_short(result.build)}: {result.detail}"
        for result in ending
        if result.verdict is not Verdict.IDENTICAL
    ]
    reasons += [
        f"{account.kind} of {_short(account.build)}: {found.where}: {found.what}"
        for account in left_over
        for found in account.left_over
    ]
    if not own:
        verdicts.append(Verdict.INCONCLUSIVE)
        reasons.append("no two builds were compared here")
    explained = (e for result in own for d in result.differences for e in d.explained_by)
    return StageVerdict(
        model=model,
        stage=stage,
        verdict=worst(verdicts),
        comparisons=by_kind,
        replays=by_replay,
        explained_by=tuple(dict.fromkeys(explained)),
        odd_ones_out=odd_ones_out(stage, records, own, ending, accounts),
        reasons=tuple(reasons),
        accounts=by_account,
    )


def odd_ones_out(
    stage: str,
    records: Sequence[BuildRecord],
    comparisons: Sequence[ComparisonResult],
    replays: Sequence[ReplayResult],
    accounts: Sequence[Account] = (),
) -> tuple[str, ...]:
    """The toolchains that a stage's evidence speaks against. Empty where it cannot tell.

    1. A toolchain that does not agree with its own repeats.
    2. A toolchain whose artifact does not follow from the stage above it (failed replay).
    3. A toolchain that left something there that the model does not ask for.
    4. Where three or more toolchains of one compiler were compared: those outside the class of
       agreeing ones that holds more than half of them. Those that lack the stage agree in that.
    """
    by_id = {record.id: record for record in records}
    odd = [
        by_id[result.comparison.right].toolchain
        for result in comparisons
        if result.comparison.kind is ComparisonKind.REPEAT
        and result.verdict.exit_code == 1
        and result.comparison.right in by_id
    ]
    odd += [result.toolchain for result in replays if result.verdict is Verdict.UNEXPLAINED]
    odd += [account.toolchain for account in accounts if account.left_over]

    across = [
        result for result in comparisons if result.comparison.kind is not ComparisonKind.REPEAT
    ]
    compared = {side for r in across for side in (r.comparison.left, r.comparison.right)}
    agreeing = [(r.comparison.left, r.comparison.right) for r in across if r.verdict in AGREE]
    for compiler in dict.fromkeys(record.compiler for record in records):
        own = [
            record
            for record in records
            if record.compiler == compiler
            and record.variation.name == CONTROL
            and record.id in compared
        ]
        lacking = [record.id for record in own if stage not in record.stages]
        majority = _majority([record.id for record in own], [*agreeing, *pairwise(lacking)])
        odd += [record.toolchain for record in own if majority and record.id not in majority]
    return tuple(dict.fromkeys(odd))


def _majority(members: Sequence[str], agreeing: Iterable[tuple[str, str]]) -> set[str]:
    """The members in the class, of those that ``agreeing`` pairs join, that holds more than half
    of three or more. Empty if there is none.
    """
    classes = {member: {member} for member in members}
    for left, right in agreeing:
        if left in classes and right in classes:
            merged = classes[left] | classes[right]
            for member in merged:
                classes[member] = merged
    largest = max(classes.values(), key=len, default=set())
    return largest if len(members) >= 3 and 2 * len(largest) > len(members) else set()


def _short(build: str) -> str:
    """A build's id without its model, and without ``control``, as `harness diff` takes it."""
    return build.partition("/")[2].removesuffix(f"/{CONTROL}")


def _failures(planned: Sequence[str], records: Sequence[BuildRecord]) -> list[str]:
    known = {record.id: record for record in records}
    reasons = []
    for build in planned:
        record = known.get(build)
        if record is None:
            reasons.append(f"{build} was not built")
        elif record.outcome is not Outcome.BUILT:
            first = record.detail.splitlines()
            last = f": {first[-1]}" if first else ""
            reasons.append(f"{build}: {record.outcome}{last}")
    return reasons


def _skipped(built: Sequence[BuildRecord], comparisons: Sequence[ComparisonResult]) -> list[str]:
    """Comparisons that these builds call for and that nobody made."""
    made = {result.comparison for result in comparisons}
    missing = [comparison for comparison in plan.comparisons(built) if comparison not in made]
    return [
        f"{_short(comparison.left)} and {_short(comparison.right)} were not compared at "
        f"{comparison.stage}"
        for comparison in missing
    ]


def _too_dependent(policy: Policy, independent: Mapping[str, int]) -> list[str]:
    return [
        f"policy: stage {stage}: effectively independent builders that agreed: "
        f"{independent.get(stage, 0)}, {least} required"
        for stage, least in policy.min_independent.items()
        if independent.get(stage, 0) < least
    ]


def _unaccounted(
    policy: Policy, built: Sequence[BuildRecord], accounts: Sequence[Account]
) -> list[str]:
    """Accounting that the policy asks for and that did not come to an answer.

    It is done on control builds: what repeats make is held against those.
    """
    reasons = []
    for kind in policy.required_accounting:
        for record in built:
            if record.variation.name != CONTROL:
                continue
            own = [a for a in accounts if a.build == record.id and a.kind == kind]
            if not own:
                reasons.append(f"policy: accounting for {kind} of {record.id} is missing")
            reasons += [
                f"accounting for {kind} at {account.stage} of {_short(record.id)}: {line}"
                for account in own
                for line in account.unknown
            ]
    return reasons


def _unmet(
    policy: Policy,
    built: Sequence[BuildRecord],
    stages: Sequence[StageVerdict],
    replays: Sequence[ReplayResult],
) -> list[str]:
    """What the policy asks for and the evidence does not show."""
    reasons = []
    per_toolchain: dict[str, int] = {}
    for record in built:
        per_toolchain[record.toolchain] = per_toolchain.get(record.toolchain, 0) + 1
    for toolchain, count in per_toolchain.items():
        if count < policy.min_builds:
            reasons.append(f"policy: {toolchain} built {count} times, {policy.min_builds} required")
    if len(per_toolchain) < policy.min_toolchains:
        reasons.append(
            f"policy: {len(per_toolchain)} toolchains built it, {policy.min_toolchains} required"
        )
    if not policy.allow_isolation_none:
        weak = [record.id for record in built if record.isolation is Isolation.NONE]
        if weak:
            reasons.append(f"policy: {len(weak)} builds had no isolation, such as {weak[0]}")
    present = {stage.stage for stage in stages}
    reasons += [
        f"policy: stage {stage} is required and nobody left it"
        for stage in policy.required_stages
        if stage not in present
    ]
    for record in built:
        reasons += [
            f"policy: {record.id} lacks stage {stage}"
            for stage in policy.required_stages
            if stage in present and stage not in record.stages
        ]
    for name in policy.required_replays:
        proven = {
            result.build
            for result in replays
            if result.name == name and result.verdict is not Verdict.INCONCLUSIVE
        }
        reasons += [
            f"policy: replay {name!r} of {record.id} is required and missing"
            for record in built
            if record.id not in proven
        ]
    return reasons
