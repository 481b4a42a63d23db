"""From comparisons and replays to verdicts, by policy. Pure.

The rule: a finding anywhere is a finding above; missing evidence is INCONCLUSIVE, never a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.models import (
    BuildRecord,
    ComparisonKind,
    ComparisonResult,
    Isolation,
    Model,
    ModelVerdict,
    Outcome,
    Policy,
    ReplayResult,
    StageVerdict,
    Verdict,
)
from harness.variations import CONTROL

AGREE = (Verdict.IDENTICAL, Verdict.EXPLAINED)


def worst(verdicts: Iterable[Verdict], none: Verdict = Verdict.INCONCLUSIVE) -> Verdict:
    """The most severe of the verdicts; of none at all, INCONCLUSIVE: nothing was checked."""
    return max(verdicts, key=lambda verdict: verdict.severity, default=none)


def judge_model(
    model: Model,
    planned: Sequence[str],
    records: Sequence[BuildRecord],
    comparisons: Sequence[ComparisonResult],
    replays: Sequence[ReplayResult],
    policy: Policy,
) -> ModelVerdict:
    """The verdict on one model.

    ``planned``: ids of all builds that were to be done. The other arguments may hold other models'
    results; they are passed over.
    """
    records = [record for record in records if record.model == model.name]
    comparisons = [result for result in comparisons if result.comparison.model == model.name]
    replays = [result for result in replays if result.model == model.name]
    built = [record for record in records if record.outcome is Outcome.BUILT]

    names = dict.fromkeys(stage for record in built for stage in record.stages)
    stages = tuple(judge_stage(model.name, stage, built, comparisons, replays) for stage in names)
    reasons = [*_failures(planned, records), *_unmet(policy, built, stages, replays)]
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
) -> StageVerdict:
    """The verdict on one stage of one model: its comparisons, and the replays that end in it."""
    own = [result for result in comparisons if result.comparison.stage == stage]
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
    verdicts = [*by_kind.values(), *by_replay.values()]
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
    if not own:
        verdicts.append(Verdict.INCONCLUSIVE)
        reasons.append("only one build has this stage: nothing to compare with")
    explained = (e for result in own for d in result.differences for e in d.explained_by)
    return StageVerdict(
        model=model,
        stage=stage,
        verdict=worst(verdicts),
        comparisons=by_kind,
        replays=by_replay,
        explained_by=tuple(dict.fromkeys(explained)),
        odd_ones_out=odd_ones_out(records, own, ending),
        reasons=tuple(reasons),
    )


def odd_ones_out(
    records: Sequence[BuildRecord],
    comparisons: Sequence[ComparisonResult],
    replays: Sequence[ReplayResult],
) -> tuple[str, ...]:
    """The toolchains that a stage's evidence speaks against. Empty where it cannot tell.

    1. A toolchain that does not agree with its own repeats.
    2. A toolchain whose artifact does not follow from the stage above it (failed replay).
    3. Where three or more toolchains were compared: those outside the class of agreeing ones that
       holds more than half of them.
    """
    toolchains = {record.id: record.toolchain for record in records}
    odd = [
        toolchains[result.comparison.right]
        for result in comparisons
        if result.comparison.kind is ComparisonKind.REPEAT and result.verdict not in AGREE
    ]
    odd += [result.toolchain for result in replays if result.verdict is Verdict.UNEXPLAINED]

    controls = [record for record in records if record.variation.name == CONTROL]
    if len(controls) >= 3:
        classes = {record.id: {record.id} for record in controls}
        for result in comparisons:
            left, right = result.comparison.left, result.comparison.right
            if result.verdict in AGREE and left in classes and right in classes:
                merged = classes[left] | classes[right]
                for member in merged:
                    classes[member] = merged
        largest = max(classes.values(), key=len)
        if 2 * len(largest) > len(controls):
            odd += [toolchains[record.id] for record in controls if record.id not in largest]
    return tuple(dict.fromkeys(odd))


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
