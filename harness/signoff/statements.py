"""From reports to in-toto statements. Pure: data in, data out.

Four kinds, each in the field's own format: SLSA Provenance for a build, our own evidence and a
CycloneDX bill for what a verifier found, SLSA's Verification Summary for what it decided. Each is
read back before it is handed out: whoever signs one never signs what verification cannot read.
That, and a report that does not fit the rest, is a StatementError.

Texts that a toolchain had a hand in are made printable and cut; the names of a model's inputs stay
as they are, since builders are held against each other by them.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from harness import __version__
from harness.models import BuildRecord, Outcome, Report, Toolchain, Variation
from harness.signoff.bill import read_bill
from harness.signoff.evidence_statement import evidence_statement
from harness.signoff.fields import StatementError
from harness.signoff.interface import BOM, BUILD_TYPE, PROVENANCE, STATEMENT_TYPE, SUMMARY
from harness.signoff.provenance import EXTERNAL, Replayed, library_of, read_provenance
from harness.signoff.summary import FAILED_LEVEL, PASSED_LEVEL, SLSA_VERSION, Rest, read_summary
from harness.signoff.wording import (
    about,
    is_digest,
    model_of,
    read_back,
    resource,
    text_of,
    time_text,
    utc,
)
from harness.text import printable

__all__ = [
    "Context",
    "bill_statement",
    "build_statement",
    "evidence_statement",
    "model_of",
    "replays_of",
    "summary_statement",
]

_VARIATION = TypeAdapter(Variation)


@dataclass(frozen=True)
class Context:
    """What a build's record and report do not know.

    ``builder``: the name of the identity that signs, as in the trust file. ``dependencies``: (name,
    sha256) of everything that the build was made from, but for the model and the image, which its
    record names; ``byproducts``: of the materials that belong to it, such as ``record``,
    ``replays``, ``report`` and ``profile:NAME``. ``replayers``: whose tools made stages again.
    ``executables``: names of dependencies that are programs, so that their mode can be restored.
    """

    builder: str
    dependencies: Sequence[tuple[str, str]] = ()
    byproducts: Sequence[tuple[str, str]] = ()
    replayers: Sequence[str] = ()
    executables: Collection[str] = ()


def build_statement(record: BuildRecord, report: Report, context: Context) -> dict[str, Any]:
    """SLSA Provenance of one build. It must have been built and left an artifact."""
    if record.outcome is not Outcome.BUILT or not record.artifacts:
        raise StatementError(
            f"{record.id}: was not built: there is nothing to say where it comes from"
        )
    if record not in report.builds:
        raise StatementError(f"{record.id}: is not a build of {report.run}")
    model = model_of(report, record.model)
    toolchain = next((each for each in report.toolchains if each.name == record.toolchain), None)
    known = (model.sha256, toolchain.identity) if toolchain else ()
    if toolchain is None or known != (record.model_sha256, record.toolchain_identity):
        raise StatementError(f"{record.id}: its report is about another model or toolchain")
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [
            resource(f"{artifact.stage}/{artifact.name}", artifact.sha256)
            for artifact in record.artifacts
        ],
        "predicateType": PROVENANCE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "model": text_of(model.name),
                    "inputs": {name: list(shape) for name, shape in model.inputs.items()},
                    "toolchain": toolchain.name,
                    "target": {
                        text_of(key): text_of(value) for key, value in toolchain.target.items()
                    },
                    "variation": _VARIATION.dump_python(record.variation, mode="json"),
                    "replayers": [text_of(name) for name in context.replayers],
                },
                "internalParameters": _internal(record, report, toolchain),
                "resolvedDependencies": [
                    resource("model", model.sha256),
                    *(resource(f"{EXTERNAL}{path}", sha256) for path, sha256 in model.external),
                    *_image(record),
                    *_dependencies(context),
                ],
            },
            "runDetails": {
                "builder": {"id": context.builder, "version": {"harness": text_of(__version__)}},
                "metadata": {
                    "invocationId": f"{report.run}/{record.id}",
                    "startedOn": time_text(report.started),
                },
                "byproducts": [resource(name, sha256) for name, sha256 in context.byproducts],
            },
        },
    }
    read_back(read_provenance, statement)
    return statement


def replays_of(record: BuildRecord, report: Report) -> tuple[Replayed, ...]:
    """The replays of one build, for the material ``replays``."""
    return tuple(
        Replayed(
            text_of(replay.name),
            text_of(replay.replayer),
            text_of(replay.stage),
            replay.verdict,
            replay.expected_sha256 if is_digest(replay.expected_sha256) else None,
            replay.got_sha256,
        )
        for replay in report.replays
        if replay.build == record.id
    )


def summary_statement(
    *,
    file: str,
    sha256: str,
    verifier: str,
    verified: datetime.datetime,
    release: str,
    policy_sha256: str,
    rests_on: Iterable[Rest],
    passed: bool,
) -> dict[str, Any]:
    """The decision on an artifact, by the identity ``verifier``. ``verified``: with a time zone.

    ``rests_on``: every statement that it was decided by.
    """
    predicate = {
        "verifier": {"id": verifier},
        "timeVerified": utc(verified),
        "resourceUri": text_of(release),
        "policy": {"uri": "policy", "digest": {"sha256": policy_sha256}},
        "inputAttestations": [
            {"uri": each.uri, "digest": {"sha256": each.sha256}} for each in rests_on
        ],
        "verificationResult": "PASSED" if passed else "FAILED",
        "verifiedLevels": [PASSED_LEVEL if passed else FAILED_LEVEL],
        "slsaVersion": SLSA_VERSION,
    }
    statement = about(file, sha256, SUMMARY, predicate)
    read_back(read_summary, statement)
    return statement


def bill_statement(*, file: str, sha256: str, bill: Mapping[str, Any]) -> dict[str, Any]:
    """The bill of materials of an artifact; see :mod:`harness.signoff.mlbom`."""
    statement = about(file, sha256, BOM, dict(bill))
    read_back(read_bill, statement)
    return statement


def _internal(record: BuildRecord, report: Report, toolchain: Toolchain) -> dict[str, Any]:
    return {
        "harness": text_of(report.harness_version),
        "engine": text_of(record.engine),
        "isolation": record.isolation.value,
        "limits": asdict(record.limits),
        "command": [printable(word, 100_000) for word in record.command],
        "host": _texts(record.host),
        "environment_sha256": record.environment_sha256,
        "toolchain_identity": toolchain.identity,
        "redteam": text_of(toolchain.redteam),
        "siblings": [
            {
                "build": text_of(each.id),
                "library": library_of({f"{a.stage}/{a.name}": a.sha256 for a in each.artifacts}),
                "outcome": each.outcome.value,
            }
            for each in report.builds
            if (each.model, each.toolchain) == (record.model, record.toolchain)
        ],
    }


def _dependencies(context: Context) -> Iterable[dict[str, Any]]:
    for name, sha256 in context.dependencies:
        executable = {"annotations": {"executable": True}} if name in context.executables else {}
        yield resource(name, sha256) | executable


def _image(record: BuildRecord) -> list[dict[str, Any]]:
    """The image that it ran in. An image's id is a sha256 over its configuration and layers."""
    algorithm, _, digest = record.host.get("image", "").partition(":")
    return [resource("image", digest)] if algorithm == "sha256" else []


def _texts(table: Mapping[str, str]) -> dict[str, str]:
    return {text_of(key): text_of(value) for key, value in table.items()}
