"""From a report to the evidence about one model and one shipped artifact. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.ledger import Ledger
from harness.models import (
    ComparisonKind,
    IndependentStage,
    Isolation,
    Model,
    ModelVerdict,
    Outcome,
    Report,
    StageVerdict,
    Toolchain,
    Verdict,
)
from harness.signoff.evidence import (
    Equivalence,
    Evidence,
    ExternalData,
    Ground,
    Shipped,
    SignedModel,
    SignedRun,
    SignedStage,
    SignedToolchain,
    dump_evidence,
    read_evidence,
)
from harness.signoff.fields import StatementError
from harness.signoff.interface import EVIDENCE, ReleasePolicy
from harness.signoff.wording import about, lines_of, model_of, read_back, text_of, time_text
from harness.text import printable


def evidence_statement(
    report: Report,
    model_name: str,
    shipped: Shipped,
    *,
    file: str,
    release: str,
    policy: ReleasePolicy,
    ledger: Ledger,
    ledger_sha256: str,
    refusals: Iterable[str],
) -> dict[str, Any]:
    """What ``report`` says of one model and of the shipped artifact, called ``file``."""
    if report.policy != policy.run:
        raise StatementError("the run was made under another policy")
    model = model_of(report, model_name)
    verdict = next((each for each in report.verdicts if each.model == model_name), None)
    if verdict is None:
        raise StatementError(f"{model_name}: the report has no verdict on it")
    equivalences = tuple(_equivalences(report, model_name))
    explained_by = {id_ for stage in verdict.stages for id_ in stage.explained_by}
    explained_by |= {id_ for each in equivalences for id_ in each.explained_by}
    grounds = _grounds(ledger)
    if unknown := sorted(explained_by - grounds.keys()):
        raise StatementError(f"the ledger does not hold {printable(unknown[0], 100)}")
    evidence = Evidence(
        release=text_of(release),
        model=_model(model),
        policy_sha256=policy.sha256,
        ledger_sha256=ledger_sha256,
        run=_run(report, model_name),
        complete=report.complete,
        verdict=verdict.verdict,
        missing=lines_of(verdict.reasons),
        stages=tuple(_stages(report, verdict)),
        toolchains=tuple(_toolchain(report, model_name, each) for each in report.toolchains),
        artifact=shipped,
        explanations={id_: grounds[id_] for id_ in sorted(explained_by)},
        equivalences=equivalences,
        refusals=lines_of(refusals),
    )
    statement = about(file, shipped.sha256, EVIDENCE, dump_evidence(evidence))
    if read_back(read_evidence, statement) != evidence:
        raise StatementError("the evidence does not read back as it was written")
    return statement


def _run(report: Report, model: str) -> SignedRun:
    isolations = [report.isolation, *(r.isolation for r in report.builds if r.model == model)]
    return SignedRun(
        id=text_of(report.run),
        started=time_text(report.started),
        seed=report.seed,
        engine=text_of(report.engine),
        isolation=max(isolations, key=list(Isolation).index),
        harness=text_of(report.harness_version),
        host={text_of(key): text_of(value) for key, value in report.host.items()},
    )


def _model(model: Model) -> SignedModel:
    external = tuple(ExternalData(path, sha256) for path, sha256 in sorted(model.external))
    return SignedModel(model.name, model.sha256, dict(model.inputs), external)


def _stages(report: Report, verdict: ModelVerdict) -> Iterable[SignedStage]:
    independent = {
        each.stage: each
        for each in (report.independence.stages if report.independence else ())
        if each.model == verdict.model
    }
    for stage in verdict.stages:
        yield _stage(stage, independent.get(stage.stage))


def _stage(stage: StageVerdict, independent: IndependentStage | None) -> SignedStage:
    return SignedStage(
        stage=text_of(stage.stage),
        verdict=stage.verdict,
        comparisons={ComparisonKind(kind): each for kind, each in stage.comparisons.items()},
        replays={text_of(name): verdict for name, verdict in stage.replays.items()},
        accounts={text_of(kind): verdict for kind, verdict in stage.accounts.items()},
        explained_by=stage.explained_by,
        independent=len(independent.independent) if independent else 0,
        agreed=independent.agreed if independent else (),
        reasons=lines_of(stage.reasons),
    )


def _toolchain(report: Report, model: str, toolchain: Toolchain) -> SignedToolchain:
    own = [r for r in report.builds if (r.model, r.toolchain) == (model, toolchain.name)]
    return SignedToolchain(
        name=toolchain.name,
        compiler=toolchain.compiler,
        version=toolchain.version,
        publisher=toolchain.publisher,
        arch=toolchain.arch,
        identity=toolchain.identity,
        environments=tuple(sorted({record.environment_sha256 for record in own})),
        redteam=text_of(toolchain.redteam),
        builds=len(own),
        built=sum(record.outcome is Outcome.BUILT for record in own),
    )


def _equivalences(report: Report, model: str) -> Iterable[Equivalence]:
    """Each pair of artifacts that differ and that an EXPLAINED comparison explains, once."""
    found: dict[tuple[str, str, str, str], set[str]] = {}
    for result in report.comparisons:
        if result.comparison.model != model or result.verdict is not Verdict.EXPLAINED:
            continue
        for difference in result.differences:
            left, right = difference.left_sha256, difference.right_sha256
            if left is None or right is None or not difference.explained_by:
                continue
            first, second = sorted((left, right))
            key = (text_of(result.comparison.stage), text_of(difference.name), first, second)
            found.setdefault(key, set()).update(difference.explained_by)
    for key in sorted(found):
        yield Equivalence(*key, explained_by=tuple(sorted(found[key])))


def _grounds(ledger: Ledger) -> dict[str, Ground]:
    grounds = {entry.id: Ground(entry.kind_class.value) for entry in ledger.entries}
    return grounds | {entry.id: Ground.DERIVED for entry in ledger.derivations}
