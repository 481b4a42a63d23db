"""Sign-off: from a run and a shipped artifact to signed statements, whatever they say.

The decision is not made here. What would be signed as passed is first put to the very rules that
verification applies (:func:`harness.signoff.verify.decide`), with the statements of builders and of
those upstream that the bundle already holds. Where these refuse, it is the refusal that is signed.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.audit import Request, replayers_used
from harness.engines.interface import Engine
from harness.errors import StoreError
from harness.models import Report
from harness.replay import Replayer
from harness.resolve import Options
from harness.signoff import layout, strictjson
from harness.signoff.bundle import Bundle
from harness.signoff.evidence import Match as Kind
from harness.signoff.evidence import Shipped
from harness.signoff.interface import (
    Decision,
    Identity,
    ReleasePolicy,
    Role,
    Signed,
    Trust,
)
from harness.signoff.keyless import KeylessVerifier
from harness.signoff.mlbom import release_bill
from harness.signoff.pens import Pen
from harness.signoff.provenance import LIBRARY
from harness.signoff.publishing import IN_TOTO, in_toto_files, publish
from harness.signoff.reading import read_bundle
from harness.signoff.shipped import Linking, Match, hold
from harness.signoff.statements import bill_statement, evidence_statement, summary_statement
from harness.signoff.summary import Rest
from harness.signoff.verify import decide
from harness.store import Store, remove_tree
from harness.tomlfile import read_limited


@dataclass(frozen=True)
class Release:
    """What is asked: may the file ``sha256``, called ``file``, be released as ``name``?

    It is in the store, and has ``size`` bytes. ``policy_file`` and ``ledger_file``: what the answer
    is given by. ``linkers``: others that the file may have been linked with.
    """

    file: str
    sha256: str
    size: int
    name: str
    policy: ReleasePolicy
    policy_file: Path
    ledger_file: Path
    linkers: tuple[Replayer, ...] = ()


@dataclass(frozen=True)
class Run:
    """A finished run about one model, and what it was made with."""

    report: Report
    request: Request
    options: Options
    engine: Engine
    store: Store


def sign_off(
    release: Release,
    run: Run,
    bundle: Bundle,
    trust: Trust,
    pen: Pen,
    now: datetime.datetime,
    verifier: KeylessVerifier | None = None,
) -> Decision:
    """Hold the artifact against the run, decide, sign, and put everything into the bundle.

    The other verifiers that a policy may ask for are not waited for; verification asks for them.
    Raises HarnessError where nothing could be signed.
    """
    match = _match(release, run)
    own = publish(run.report, run.request, run.options, run.store, bundle, pen)
    ledger_sha256 = bundle.add_material(release.ledger_file)
    bundle.add_material(read_limited(release.policy_file, StoreError))
    bill = pen.keep(pen.seal(_bill(release, run)), bundle)
    signed, rejected = read_bundle(bundle, trust, now.date(), verifier)
    rests = _rests(signed, (*own, bill))
    # Earlier verdicts, of whomever, must not speak for this one.
    resting = {rest.sha256 for rest in rests}
    heard = [each for each in signed if each.digest in resting]
    shipped = Shipped(
        release.sha256, release.size, match.kind, match.library, match.reason, match.sections
    )

    def evidence(refusals: Sequence[str]) -> dict[str, Any]:
        return evidence_statement(
            run.report, run.report.models[0].name, shipped,
            file=release.file, release=release.name, policy=release.policy,
            ledger=run.request.ledger, ledger_sha256=ledger_sha256, refusals=refusals,
        )  # fmt: skip

    def summary(resting: Sequence[Rest], passed: bool) -> dict[str, Any]:
        return summary_statement(
            file=release.file, sha256=release.sha256, verifier=pen.identity.name, verified=now,
            release=release.name, policy_sha256=release.policy.sha256,
            rests_on=resting, passed=passed,
        )  # fmt: skip

    # As it would be read, and not signed: a signature once made can get out, into a public log of
    # sigstore's for one, and nothing is ever signed as passed that is not.
    first = _as_read(evidence(()), pen.identity)
    last = _as_read(summary([*rests, Rest("evidence", first.digest)], True), pen.identity)
    alone = replace(release.policy, release=replace(release.policy.release, verifiers=1))
    decision = decide(
        release.sha256,
        [*heard, first, last],
        rejected,
        bundle.material,
        trust,
        alone,
        release.name,
        now,
    )
    skipped = tuple(_skipped(release, run))
    if decision.refusals or skipped:
        decision = replace(decision, refusals=(*skipped, *_reasons(decision, run, match)))
    told = pen.keep(pen.seal(evidence(decision.refusals)), bundle)
    pen.keep(pen.seal(summary([*rests, told], not decision.refusals)), bundle)
    if not decision.refusals and match.kind is Kind.IDENTICAL:
        decision = replace(
            decision, notes=(*decision.notes, *_layout(release, run, bundle, trust, pen, now))
        )
    return decision


def _as_read(statement: Mapping[str, Any], signer: Identity) -> Signed:
    """What :func:`open_envelope` would make of the statement, signed by ``signer``."""
    payload = strictjson.canonical(statement)
    digest = hashlib.sha256(payload).hexdigest()
    return Signed("this sign-off", digest, signer, "", strictjson.parse(payload, "the statement"))


def _skipped(release: Release, run: Run) -> Iterator[str]:
    """Toolchains that the settings leave out for this model, and the policy does not name."""
    for _, toolchain in sorted(run.request.without):
        if toolchain not in release.policy.release.declared:
            yield f"{toolchain} was left out of the run, and [release] declared does not name it"


def _layout(
    release: Release, run: Run, bundle: Bundle, trust: Trust, pen: Pen, now: datetime.datetime
) -> tuple[str, ...]:
    """Write what ``in-toto-verify`` reads, for people without this harness; a note if it cannot be.

    In-toto knows no equivalent results: it counts builders of these very bytes.
    """
    builders = release.policy.release.builders
    if not builders or pen.signer is None:
        return ()
    model, folder = run.report.models[0], bundle.root / IN_TOTO
    record = next(each for each in run.report.builds if each.artifacts)
    name = next(each.name for each in record.artifacts if each.stage == LIBRARY)
    files, library = in_toto_files(model), (name, release.sha256)
    keys = layout.agreeing(folder, files, library, trust, now.date())
    if not keys:
        return ("no in-toto layout: no builder made these very bytes",)
    days = release.policy.release.max_age_days or 365
    expires = now.date() + datetime.timedelta(days=days)
    threshold = min(builders, len(keys))
    layout.publish(folder, layout.release(files, library, threshold, keys, expires, pen.signer))
    if threshold < builders:
        return (
            f"the in-toto layout asks for {threshold} builders: in-toto explains no difference",
        )
    return ()


def _reasons(decision: Decision, run: Run, match: Match) -> tuple[str, ...]:
    """What the run says comes first; what follows from it for the bundle last."""
    verdict = run.report.verdicts[0]
    first = [f"{verdict.model} is {verdict.verdict}"] if verdict.verdict.exit_code else []
    first += verdict.reasons
    first += [
        f"{stage.stage} is {stage.verdict}: {reason}"
        for stage in verdict.stages
        if stage.verdict.exit_code
        for reason in stage.reasons
    ]
    if match.reason:
        first.append(match.reason)
    return tuple(dict.fromkeys([*first, *decision.refusals]))


def _rests(signed: Sequence[Signed], own: Sequence[Rest]) -> tuple[Rest, ...]:
    """Everything that the decision is given by: our own, and what builders and upstream said."""
    others = [
        Rest(each.file if "/" in each.file else f"statements/{each.file}", each.digest)
        for each in signed
        if each.signer.role in (Role.BUILDER, Role.UPSTREAM)
    ]
    return tuple({rest.sha256: rest for rest in (*own, *others)}.values())


def _match(release: Release, run: Run) -> Match:
    request = run.request
    linkers = {each.toolchain.name: each for each in (*request.linkers.values(), *release.linkers)}
    able = [each for each in request.replayers if "link" in each.toolchain.tools]
    linkers |= {each.toolchain.name: each for each in able}
    with run.store.open_run(run.report.run) as scratch:
        linking = Linking(request.recipes, tuple(linkers.values()), run.engine, _folders(scratch))
        return hold(
            release.sha256, run.report, run.report.models[0].name, run.store, linking,
            release.policy.release.sections,
        )  # fmt: skip


def _folders(scratch: Path) -> Callable[[], AbstractContextManager[Path]]:
    numbers = itertools.count()

    @contextmanager
    def folder() -> Iterator[Path]:
        place = scratch / f"link-{next(numbers)}"
        place.mkdir()
        try:
            yield place
        finally:
            remove_tree(place)

    return folder


def _bill(release: Release, run: Run) -> dict[str, object]:
    report, request = run.report, run.request
    names = [each.name for each in report.toolchains]
    used = replayers_used(request, report.replays)
    tools = [*names, *(each.toolchain.name for each in used)]
    model = report.models[0]
    bill = release_bill(
        file=release.file, sha256=release.sha256, size=release.size, release=release.name,
        model=model, content=run.store.read(model.sha256),
        bills=[run.store.load_bill(report.run, name) for name in dict.fromkeys(tools)],
        builders=names,
    )  # fmt: skip
    return bill_statement(file=release.file, sha256=release.sha256, bill=bill)
