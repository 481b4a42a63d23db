"""What a verifier's word must show before it counts: a summary, and the evidence below it. Pure.

A summary says PASSED; that is never enough. It must rest on statements that are here, among them
evidence by the same verifier that by itself meets the policy, the builds of its own run that the
evidence is about, and a bill of materials. Everything is looked for, nothing is taken to be there:
what is left out can only take away from this.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.models import Isolation, Policy, Verdict
from harness.signoff.interface import ReleasePolicy, Requirements, Signed
from harness.signoff.predicates import (
    PASSED_LEVEL,
    Evidence,
    Ground,
    Match,
    Provenance,
    Summary,
)
from harness.signoff.provenance import LIBRARY
from harness.signoff.said import Said
from harness.text import printable
from harness.verdict import AGREE, worst

CLOCKS_APART = datetime.timedelta(minutes=5)  # how far a verifier's clock may be ahead of ours

Inputs = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, order=True)
class ModelId:
    """A model by content: its file, its external data, and the shapes that it is fixed to."""

    sha256: str
    inputs: Inputs
    external: tuple[tuple[str, str], ...]

    @classmethod
    def of_evidence(cls, evidence: Evidence) -> ModelId:
        model = evidence.model
        external = sorted((each.path, each.sha256) for each in model.external)
        return cls(model.sha256, tuple(sorted(model.inputs.items())), tuple(external))

    @classmethod
    def of_build(cls, build: Provenance) -> ModelId:
        inputs, external = build.inputs.items(), build.external.items()
        return cls(build.model_sha256, tuple(sorted(inputs)), tuple(sorted(external)))


@dataclass(frozen=True)
class Vouched:
    """A summary that counts, with the evidence that it rests on."""

    signed: Signed
    summary: Summary
    evidence: Evidence

    @property
    def model(self) -> ModelId:
        return ModelId.of_evidence(self.evidence)


@dataclass(frozen=True)
class Question:
    """What is asked: of which artifact, under which policy, as which release, and when."""

    artifact: str
    policy: ReleasePolicy
    release: str | None
    now: datetime.datetime


def vouched(said: Said, question: Question) -> tuple[list[Vouched], list[tuple[Signed, str]]]:
    """The summaries that count; and those that do not, with the first reason why."""
    good: list[Vouched] = []
    bad: list[tuple[Signed, str]] = []
    for signed, summary in said.summaries:
        evidence, faults = _below(signed, summary, said)
        reasons = [*_summary(summary, question), *faults]
        if evidence is not None:
            reasons += _evidence(evidence, question)
            reasons += _own_builds(signed, summary, evidence, said, question.policy.run)
            if evidence.release != summary.resource:
                reasons.append("its evidence is about another release")
        if reasons:
            bad.append((signed, reasons[0]))
        elif evidence is not None:
            good.append(Vouched(signed, summary, evidence))
    return good, bad


def acceptable(evidence: Evidence, ids: Sequence[str], policy: ReleasePolicy) -> list[str]:
    """Why explanations do not count under the policy; nothing if all of them do."""
    allowed, faults = policy.run.allowed_explanations, []
    for name in ids:
        if allowed is not None and name not in allowed:
            faults.append(f"explanation {name} is not one that the policy allows")
        ground = evidence.explanations.get(name)
        if ground in (None, Ground.DECLARED) and name not in policy.release.declared:
            faults.append(f"explanation {name} is only declared, and the policy does not name it")
    return faults


def may_match(match: Match, release: Requirements) -> bool:
    """Whether the shipped bytes may differ from the rebuilt ones in that way."""
    return (
        match is Match.IDENTICAL
        or (match is Match.RELINKED and release.explained)
        or (match is Match.UNLOADED and release.sections)
    )


def _summary(summary: Summary, question: Question) -> Iterator[str]:
    policy, now = question.policy, question.now
    if summary.artifact != question.artifact:
        yield f"it is about another artifact, {summary.artifact[:12]}…"
    if not summary.passed:
        yield "it says FAILED"
    elif PASSED_LEVEL not in summary.levels:
        yield f"it does not claim {PASSED_LEVEL}"
    if summary.policy_sha256 != policy.sha256:
        yield f"it was given under another policy, {summary.policy_sha256[:12]}…"
    if question.release is not None and summary.resource != question.release:
        yield f"it is about another release, {printable(summary.resource, 100)}"
    if summary.time > now + CLOCKS_APART:
        yield f"it is from the future, {summary.time:%Y-%m-%d %H:%M} UTC"
    oldest = policy.release.max_age_days
    if oldest and now - summary.time > datetime.timedelta(days=oldest):
        yield f"it is from {summary.time:%Y-%m-%d}, and the policy wants {oldest} days at most"


def _below(signed: Signed, summary: Summary, said: Said) -> tuple[Evidence | None, list[str]]:
    """The only evidence that a summary rests on, and what is wrong with what it rests on."""
    digests = {rest.sha256 for rest in summary.rests_on}
    faults = []
    unusable = {each.digest: why for each, why in said.faults}
    for rest in summary.rests_on:
        if rest.sha256 not in said.digests:
            why = unusable.get(rest.sha256, "it is not here, or its signature does not count")
            faults.append(f"it rests on {printable(rest.uri, 140)}: {why}")
    name = signed.signer.name
    evidence = {
        each.digest: found
        for each, found in said.evidence
        if each.digest in digests and each.signer.name == name
    }
    if len(evidence) != 1:
        faults.append(f"it rests on {len(evidence)} pieces of evidence by {name}, not on one")
        return None, faults
    found = next(iter(evidence.values()))
    bills = [
        bill
        for each, bill in said.bills
        if each.digest in digests and each.signer.name == name and bill.artifact == summary.artifact
    ]
    if not bills:
        faults.append(f"it rests on no bill of materials of this artifact by {name}")
    elif not any(found.model.sha256 in bill.models for bill in bills):
        faults.append("its bill of materials lists another model than its evidence")
    return found, faults


def _evidence(evidence: Evidence, question: Question) -> Iterator[str]:
    """Why evidence does not show what the policy asks for."""
    policy = question.policy
    if evidence.artifact.sha256 != question.artifact:
        yield f"its evidence is about another artifact, {evidence.artifact.sha256[:12]}…"
    if evidence.policy_sha256 != policy.sha256:
        yield f"its evidence was judged under another policy, {evidence.policy_sha256[:12]}…"
    if not evidence.complete:
        yield "its evidence is of a run that is not complete"
    if evidence.verdict not in AGREE:
        first = f": {evidence.missing[0]}" if evidence.missing else ""
        yield f"its evidence says {evidence.verdict}{first}"
    elif evidence.missing:
        yield f"its evidence lacks something: {evidence.missing[0]}"
    if evidence.refusals:
        yield f"its evidence refuses: {evidence.refusals[0]}"
    yield from _shipped(evidence, policy.release)
    yield from _toolchains(evidence, policy.run)
    yield from _stages(evidence, policy)
    if evidence.run.isolation is Isolation.NONE and not policy.run.allow_isolation_none:
        yield "its evidence is of a run without isolation"


def _shipped(evidence: Evidence, release: Requirements) -> Iterator[str]:
    shipped = evidence.artifact
    if not may_match(shipped.match, release):
        why = f": {shipped.reason}" if shipped.reason else ""
        yield f"by its evidence, the shipped bytes match what was rebuilt: {shipped.match}{why}"
    if shipped.against is None:
        yield "its evidence names no rebuilt library"
    differs = shipped.against != shipped.sha256
    if (shipped.match is Match.IDENTICAL) == bool(differs or shipped.reason or shipped.sections):
        yield "its evidence contradicts itself about how the shipped bytes match"


def _toolchains(evidence: Evidence, policy: Policy) -> Iterator[str]:
    building = [each for each in evidence.toolchains if each.builds]
    for each in evidence.toolchains:
        if each.redteam:
            yield f"in its evidence, {each.name} is a toolchain of the red team"
        if each.built != each.builds:
            yield f"in its evidence, {each.name} built {each.built} of {each.builds} times"
        if len(each.environments) > 1:
            yield f"in its evidence, the environment of {each.name} changed during the run"
    for each in building:
        if each.built < policy.min_builds:
            yield f"in its evidence, {each.name} built {each.built} times, not {policy.min_builds}"
    least = max(1, policy.min_toolchains)
    if len(building) < least:
        yield f"its evidence has {len(building)} toolchains that built, not {least}"


def _stages(evidence: Evidence, policy: ReleasePolicy) -> Iterator[str]:
    run, stages = policy.run, {each.stage: each for each in evidence.stages}
    if not stages:
        yield "its evidence is of no stage at all"
    replays: dict[str, set[Verdict]] = {}
    accounts: dict[str, set[Verdict]] = {}
    for stage in stages.values():
        parts = [stage.verdict, *stage.comparisons.values(), *stage.replays.values()]
        found = [verdict for verdict in parts if verdict not in AGREE]
        found += [verdict for verdict in stage.accounts.values() if verdict.exit_code == 1]
        if found:
            yield f"its evidence says {worst(found)} at {stage.stage}"
        elif stage.reasons:
            yield f"its evidence says of {stage.stage}: {stage.reasons[0]}"
        if stage.independent > len(set(stage.agreed)):
            yield f"its evidence counts more independent builders at {stage.stage} than agreed"
        if not stage.comparisons:
            yield f"its evidence compared nothing at {stage.stage}"
        # A replay is explained by another replay, see harness.exact, and not by the ledger.
        if Verdict.EXPLAINED in stage.comparisons.values() and not stage.explained_by:
            yield f"its evidence does not say what explains {stage.stage}"
        yield from acceptable(evidence, stage.explained_by, policy)
        for name, verdict in stage.replays.items():
            replays.setdefault(name, set()).add(verdict)
        for kind, verdict in stage.accounts.items():
            accounts.setdefault(kind, set()).add(verdict)
    for name in run.required_stages:
        if name not in stages:
            yield f"its evidence lacks the required stage {name}"
    for name in run.required_replays:
        if not replays.get(name) or not replays[name] <= set(AGREE):
            yield f"its evidence lacks the required replay {name}"
    for kind in run.required_accounting:
        if accounts.get(kind) != {Verdict.IDENTICAL}:
            yield f"its evidence lacks the required accounting for {kind}"
    for name, least in run.min_independent.items():
        number = stages[name].independent if name in stages else 0
        if number < least:
            yield f"its evidence has {number} independent builders at {name}, not {least}"


def _own_builds(
    signed: Signed, summary: Summary, evidence: Evidence, said: Said, policy: Policy
) -> Iterator[str]:
    """Whether the builds of the run are there, and are those that the evidence tells of."""
    digests = {rest.sha256 for rest in summary.rests_on}
    own = {
        each.digest: build
        for each, build in said.own_builds
        if each.digest in digests and each.signer.name == signed.signer.name
    }
    builds = list(own.values())
    model, listed = ModelId.of_evidence(evidence), {e.name: e for e in evidence.toolchains}
    for build in builds:
        named = f"the build {printable(build.build, 140)} that it rests on"
        known = listed.get(build.toolchain)
        if build.run != evidence.run.id:
            yield f"{named} is of another run"
        if ModelId.of_build(build) != model:
            yield f"{named} is of another model than its evidence"
        if known is None or known.identity != build.toolchain_identity:
            yield f"{named} is by another toolchain than its evidence lists"
        if build.redteam:
            yield f"{named} is by a toolchain of the red team"
        if build.isolation is Isolation.NONE and not policy.allow_isolation_none:
            yield f"{named} had no isolation"
        for sibling in build.siblings:
            same = [each for each in builds if each.build == sibling.build]
            if any(each.library != sibling.library for each in same):
                yield f"{named} contradicts another one about {printable(sibling.build, 140)}"
    alike = {stage.stage for stage in evidence.stages if stage.verdict is Verdict.IDENTICAL}
    for each in listed.values():
        made = {build.library for build in builds if build.toolchain == each.name}
        if LIBRARY in alike and len(made) > 1:
            yield f"its evidence says {LIBRARY} is IDENTICAL, and {each.name} made {len(made)}"
    # Each build once, however many statements tell of it.
    counted = Counter(toolchain for toolchain, _ in {(b.toolchain, b.build) for b in builds})
    for each in listed.values():
        if counted[each.name] != each.built:
            yield (
                f"it rests on {counted[each.name]} builds by {each.name},"
                f" and its evidence tells of {each.built}"
            )
    if evidence.artifact.against not in {build.library for build in builds}:
        yield "none of the builds that it rests on made the library of its evidence"
