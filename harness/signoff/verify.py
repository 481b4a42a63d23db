"""May this artifact be released? The decision, from statements, policy and trust. Pure.

The rule that all of it follows: only what is there, and speaks in favour, can lead to a yes. So the
answer is monotonic: with a statement or a material fewer, a refusal stays a refusal. Whoever hands
over the bundle gains nothing by leaving something out; and what speaks against the artifact, such
as a builder that made something else, is told, by name, but decides nothing, since it could have
been left out. What is to stop an artifact belongs into the policy (``unanimous``) or into the trust
file (a revoked key, a withdrawn artifact).

The artifact may be released if it is not withdrawn and there is one model of which

1. enough verifiers have passed this artifact under this very policy (:mod:`holding`);
2. enough builders have built the same, each under its own key (:mod:`builders`);
3. enough of those are independent of each other at each stage that the policy names, in pairs
   (:mod:`apart`), whatever the verifiers say of their own runs;
4. every builder of the trust file is among them, if the policy wants it unanimous;
5. the model's history has all steps that the policy names (:mod:`chain`).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.signoff import chain
from harness.signoff.builders import Agreement, Independence, Material, Profiles, Same, agreement
from harness.signoff.holding import ModelId, Question, Vouched, vouched
from harness.signoff.interface import Decision, Rejected, ReleasePolicy, Role, Signed, Trust
from harness.signoff.predicates import Match, Provenance
from harness.signoff.releasepolicy import independent
from harness.signoff.said import Said, sort
from harness.signoff.trust import usable
from harness.text import printable

LONGEST_LINE = 600  # characters
MOST_LINES = 60  # of one kind
MOST_TOLD = 5  # models, where none will do


@dataclass(frozen=True)
class _Answer:
    """What is to be said if ``model`` is the one that the artifact was made from."""

    refusals: list[str]
    rests: list[str]
    agreement: Agreement
    chain: chain.Chain


def decide(
    artifact_sha256: str,
    signed: Sequence[Signed],
    rejected: Sequence[Rejected],
    material: Material,
    trust: Trust,
    policy: ReleasePolicy,
    release: str | None,
    now: datetime.datetime,
) -> Decision:
    """The decision on the artifact with that digest.

    ``rejected``: files of the bundle that count for nothing; only told. ``material``: bytes by
    sha256, verified, or None. ``release``: the name that verdicts must give, or None for any.
    ``now``: with a time zone.
    """
    question = Question(artifact_sha256, policy, release, now.astimezone(datetime.UTC))
    said = sort(signed)
    good, bad = vouched(said, question)
    profiles = Profiles(material)
    answers = [
        _answer(
            model, signed, said, [v for v in good if v.model == model], profiles, trust, question
        )
        for model in _models(said, good, question)
    ]
    best = min(answers, key=lambda each: len(each.refusals))
    refusals = [*_withdrawn(artifact_sha256, trust), *best.refusals]
    useless = [
        *(f"{each.file} does not count: {each.reason}" for each in rejected),
        *(_no_count(each, why) for each, why in (*said.faults, *bad, *best.agreement.bad)),
    ]
    return Decision(
        artifact=artifact_sha256,
        refusals=_lines([*refusals, *useless]) if refusals else (),
        notes=() if refusals else _lines(useless),
        rests=_lines(best.rests),
        dissent=_lines(_dissent(said, best.agreement, question)),
        chain=_bounded([*chain.told(best.chain)]),  # steps may have lines in common
    )


def _models(said: Said, good: Sequence[Vouched], question: Question) -> list[ModelId]:
    """The models that the artifact may have been made from; never none.

    Without a verifier who says so, and where none is asked for, any builder's word will do. Where
    nobody's does, the answer is no, and a few others are only there to say why.
    """
    found = {each.model for each in good}
    if not question.policy.release.verifiers or not found:
        found |= {
            ModelId.of_build(build)
            for _, build in said.builds
            if build.library == question.artifact
        }
    if not found:
        told = {ModelId.of_evidence(each) for _, each in said.evidence}
        told |= {ModelId.of_build(build) for _, build in said.builds}
        found = set(sorted(told)[:MOST_TOLD]) or {ModelId("", (), ())}
    return sorted(found)


def _answer(
    model: ModelId,
    signed: Sequence[Signed],
    said: Said,
    good: Sequence[Vouched],
    profiles: Profiles,
    trust: Trust,
    question: Question,
) -> _Answer:
    policy, release = question.policy, question.policy.release
    refusals, rests = [], [_verified_by(each) for each in good]
    verifiers = {each.signed.signer.name for each in good}
    if len(verifiers) < release.verifiers:
        refusals.append(
            f"verifiers that passed this artifact under this policy: {_counted(verifiers)},"
            f" {release.verifiers} required"
        )
    same = Same.of(question.artifact, good, policy)
    found = agreement(said, model, same, policy, question.now)
    rests += [line for own in found.agreed.values() for line in _built_by(own, question.artifact)]
    if len(found.agreed) < release.builders:
        refusals.append(
            f"builders that made this artifact: {_counted(found.agreed)},"
            f" {release.builders} required"
        )
    if release.unanimous:
        refusals += _not_unanimous(found, trust, question.now.date())
    asked = Independence(found, same, profiles)
    for stage, least in independent(release).items():
        makers, why = asked.at(stage, least)
        names = [maker.name for maker in makers]
        if len(makers) < least:
            refusals.append(
                f"independent builders at {stage}: {_counted(names)}, {least} required"
                + "".join(f"; {reason}" for reason in why[:4])
            )
        elif names:
            rests.append(f"independent of each other at {stage}: {', '.join(names)}")
    history = chain.assess(signed, model.sha256, dict(model.external), release.chain)
    refusals += [f"the model's history: {line}" for line in history.refusals]
    return _Answer(refusals, rests, found, history)


def _withdrawn(artifact: str, trust: Trust) -> list[str]:
    if artifact not in trust.withdrawn:
        return []
    return [f"this artifact was withdrawn: {printable(trust.withdrawn[artifact], 300)}"]


def _not_unanimous(found: Agreement, trust: Trust, today: datetime.date) -> Iterable[str]:
    for each in trust.identities:
        may_speak = any(not usable(key, today) for key in each.keys)
        if each.role is Role.BUILDER and may_speak and each.name not in found.agreed:
            yield f"all builders have to agree, and {each.name} does not say that it made this"


def _dissent(said: Said, found: Agreement, question: Question) -> Iterable[str]:
    """Who says otherwise: of the same model, or of this very artifact."""
    made: dict[tuple[str, str, str | None], list[str]] = {}
    for signed, build in found.dissent:
        key = signed.signer.name, build.toolchain, build.library
        made.setdefault(key, []).append(signed.file)
    for (name, toolchain, library), files in made.items():
        what = f"{library[:12]}…" if library else "no single library"
        also = ", and this artifact in another build" if name in found.agreed else ""
        listed = ", ".join(dict.fromkeys(files))
        yield f"{name} made {what} of this model with {toolchain} ({listed}){also}"
    evidence = {each.digest: one for each, one in said.evidence}
    for signed, summary in said.summaries:
        if summary.artifact == question.artifact and not summary.passed:
            below = [evidence[r.sha256] for r in summary.rests_on if r.sha256 in evidence]
            reasons = [line for one in below for line in (*one.refusals, *one.missing)]
            why = f": {reasons[0]}" if reasons else ""
            yield (
                f"{signed.signer.name} refused this artifact on {summary.time:%Y-%m-%d}"
                f" ({signed.file}){why}"
            )


def _verified_by(each: Vouched) -> str:
    shipped, run = each.evidence.artifact, each.evidence.run
    how = "" if shipped.match is Match.IDENTICAL else f", {shipped.match}"
    names = sorted({name for stage in each.evidence.stages for name in stage.explained_by})
    by = f" by {', '.join(names)}" if names else ""
    return (
        f"{each.signed.signer.name} passed it on {each.summary.time:%Y-%m-%d} as"
        f" {each.summary.resource}: run {run.id} is {each.evidence.verdict}{by}{how}"
    )


def _built_by(own: Sequence[tuple[Signed, Provenance]], artifact: str) -> Iterable[str]:
    """One line for each toolchain of a builder: what was made with it, and how often."""
    made: dict[tuple[str, str, bool], list[str]] = {}
    for signed, build in own:
        key = signed.signer.name, build.toolchain, build.library == artifact
        made.setdefault(key, []).append(signed.file)
    for (name, toolchain, same), files in made.items():
        what = "made the same" if same else "made other bytes, which the evidence explains,"
        yield f"{name} {what} with {toolchain} ({', '.join(dict.fromkeys(files))})"


def _no_count(signed: Signed, why: str) -> str:
    return f"{signed.file} by {signed.signer.name} does not count: {why}"


def _counted(names: Iterable[str]) -> str:
    names = sorted(names)
    return f"{len(names)} ({', '.join(names)})" if names else "0"


def _lines(lines: Iterable[str]) -> tuple[str, ...]:
    """Each once, safe to print."""
    return _bounded(list(dict.fromkeys(printable(line, LONGEST_LINE) for line in lines)))


def _bounded(lines: Sequence[str]) -> tuple[str, ...]:
    more = [f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return (*(printable(line, LONGEST_LINE) for line in lines[:MOST_LINES]), *more)
