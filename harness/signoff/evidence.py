"""The evidence predicate: what the verifier's run found about one model and one artifact. Pure.

It is our own, so an unknown field refuses. ``evidence.schema.json`` is made from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from harness.models import ComparisonKind, Isolation, Strict, Verdict
from harness.signoff.fields import (
    Count,
    Inputs,
    Name,
    OneSubject,
    Sha256,
    Text,
    Texts,
    Time,
    Type,
    Verdicts,
    read,
    unique,
)
from harness.signoff.interface import EVIDENCE


class Match(StrEnum):
    """How the shipped bytes meet those that were rebuilt. Listed from best to worst."""

    IDENTICAL = "identical"  # byte for byte what the rebuilds agree on
    RELINKED = "relinked"  # linking the agreed objects again makes these very bytes
    UNLOADED = "unloaded"  # all that is ever loaded is identical; other sections differ
    NONE = "none"


@dataclass(frozen=True)
class Shipped:
    """The artifact about to ship, held against the library that the rebuilds agree on.

    ``size`` in bytes. ``against``: sha256 of that library; None where there was none. ``sections``:
    which differ. ``reason``: why it is not identical, one line, empty if it is.
    """

    __pydantic_config__ = Strict

    sha256: Sha256
    size: Count
    match: Match
    against: Sha256 | None
    reason: Text
    sections: Texts


@dataclass(frozen=True)
class ExternalData:
    __pydantic_config__ = Strict

    path: Name
    sha256: Sha256


@dataclass(frozen=True)
class SignedModel:
    """The model, by its content. ``external``: sorted by path."""

    __pydantic_config__ = Strict

    name: Name
    sha256: Sha256
    inputs: Inputs
    external: Annotated[tuple[ExternalData, ...], Field(max_length=10_000)]


@dataclass(frozen=True)
class SignedRun:
    __pydantic_config__ = Strict

    id: Name
    started: Time
    seed: Count
    engine: Name
    isolation: Isolation  # the weakest of the engine's and of each build's
    harness: Name
    host: Annotated[dict[Name, Text], Field(max_length=100)]


@dataclass(frozen=True)
class SignedStage:
    """One stage: verdicts by kind of comparison, by replay, by kind of accounting.

    ``independent``: effectively independent builders, of those that ``agreed``.
    """

    __pydantic_config__ = Strict

    stage: Name
    verdict: Verdict
    comparisons: dict[ComparisonKind, Verdict]
    replays: Verdicts
    accounts: Verdicts
    explained_by: Texts
    independent: Count
    agreed: Texts
    reasons: Texts


@dataclass(frozen=True)
class SignedToolchain:
    """A toolchain that builds. ``built`` of its ``builds`` of this model came out.

    ``environments``: digests of those that it ran in; more than one, and it changed meanwhile.
    """

    __pydantic_config__ = Strict

    name: Name
    compiler: Name
    version: Name
    publisher: Name
    arch: Name
    identity: Sha256
    environments: tuple[Sha256, ...]
    redteam: Text
    builds: Count
    built: Count


class Ground(StrEnum):
    """Why an explanation may be believed, by its entry in the ledger."""

    PROVEN = "proven"  # equal after normalizing implies equal in meaning
    METADATA = "metadata"  # what differs reaches no code
    DECLARED = "declared"  # somebody answers for it, by name
    DERIVED = "derived"  # follows from what is proven further up, and from replays


@dataclass(frozen=True)
class Equivalence:
    """Two artifacts of one stage whose difference the ledger explains. ``name``: of the artifact.

    Of ``left`` and ``right``, both digests, the smaller stands first.
    """

    __pydantic_config__ = Strict

    stage: Name
    name: Name
    left: Sha256
    right: Sha256
    explained_by: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)]


@dataclass(frozen=True)
class Evidence:
    """The predicate of type EVIDENCE: what one run found about one model and one artifact.

    What was required is not repeated here: it is the policy's. ``missing`` says why the run's
    verdict is INCONCLUSIVE, where it is; ``refusals`` why the artifact was refused.
    ``explanations`` has the ground of every explanation that stages or equivalences name.
    """

    __pydantic_config__ = Strict

    release: Name
    model: SignedModel
    policy_sha256: Sha256
    ledger_sha256: Sha256
    run: SignedRun
    complete: bool
    verdict: Verdict
    missing: Texts
    stages: Annotated[tuple[SignedStage, ...], Field(max_length=1000)]
    toolchains: Annotated[tuple[SignedToolchain, ...], Field(max_length=1000)]
    artifact: Shipped
    explanations: Annotated[dict[Name, Ground], Field(max_length=1000)]
    equivalences: Annotated[tuple[Equivalence, ...], Field(max_length=50_000)]
    refusals: Texts


@dataclass(frozen=True)
class _EvidenceStatement:
    __pydantic_config__ = Strict

    type_: Type
    subject: OneSubject
    predicateType: str  # noqa: N815
    predicate: Evidence


_EVIDENCE = TypeAdapter(Evidence)
_STATEMENT = TypeAdapter(_EvidenceStatement)


def read_evidence(statement: Mapping[str, Any]) -> Evidence:
    """The evidence in a statement. Its only subject must be the artifact that it is about."""
    whole = read(statement, _STATEMENT, EVIDENCE)
    if whole.subject[0].digest.sha256 != whole.predicate.artifact.sha256:
        raise ValueError("the subject is not the artifact that the evidence is about")
    unique("stage", (stage.stage for stage in whole.predicate.stages))
    used = {id_ for stage in whole.predicate.stages for id_ in stage.explained_by}
    used |= {id_ for each in whole.predicate.equivalences for id_ in each.explained_by}
    if used - whole.predicate.explanations.keys():
        raise ValueError("explanations does not list all that explain something")
    unique("toolchain", (each.name for each in whole.predicate.toolchains))
    return whole.predicate


def evidence_schema_text() -> str:
    """JSON Schema (draft 2020-12) of the evidence predicate."""
    schema = _EVIDENCE.json_schema()
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": EVIDENCE, **schema}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def dump_evidence(evidence: Evidence) -> dict[str, Any]:
    """The predicate as JSON data."""
    data: dict[str, Any] = _EVIDENCE.dump_python(evidence, mode="json")
    return data
