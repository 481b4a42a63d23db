"""What a verifier decided: SLSA's Verification Summary, v1. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from harness.models import Strict
from harness.signoff.fields import (
    Digest,
    Name,
    OneSubject,
    Open,
    Resource,
    Time,
    Type,
    read,
    time_of,
    unique,
)
from harness.signoff.interface import SUMMARY

SLSA_VERSION = "1.0"
PASSED_LEVEL, FAILED_LEVEL = "HARNESS_REPRODUCED", "FAILED"


@dataclass(frozen=True)
class Rest:
    """A statement that a summary rests on. ``sha256``: of its payload."""

    uri: str
    sha256: str


@dataclass(frozen=True)
class Summary:
    """A verification summary. ``time``: when it was verified, UTC."""

    artifact: str
    verifier: str
    time: datetime.datetime
    resource: str
    policy_sha256: str
    rests_on: tuple[Rest, ...]
    passed: bool
    levels: tuple[str, ...]


@dataclass(frozen=True)
class _Verifier:
    __pydantic_config__ = Open

    id: Name


@dataclass(frozen=True)
class _Input:
    __pydantic_config__ = Open

    uri: Name
    digest: Digest


@dataclass(frozen=True)
class _SummaryPredicate:
    __pydantic_config__ = Open

    verifier: _Verifier
    timeVerified: Time  # noqa: N815
    resourceUri: Name  # noqa: N815
    policy: Resource
    inputAttestations: Annotated[tuple[_Input, ...], Field(max_length=2000)]  # noqa: N815
    verificationResult: Literal["PASSED", "FAILED"]  # noqa: N815
    verifiedLevels: Annotated[tuple[Name, ...], Field(max_length=100)]  # noqa: N815


@dataclass(frozen=True)
class _SummaryStatement:
    __pydantic_config__ = Strict

    type_: Type
    subject: OneSubject
    predicateType: str  # noqa: N815
    predicate: _SummaryPredicate


_STATEMENT = TypeAdapter(_SummaryStatement)


def read_summary(statement: Mapping[str, Any]) -> Summary:
    """The decision in a statement. Its only subject is the artifact."""
    whole = read(statement, _STATEMENT, SUMMARY)
    said = whole.predicate
    if (said.verificationResult == "FAILED") != (FAILED_LEVEL in said.verifiedLevels):
        raise ValueError("verificationResult and verifiedLevels contradict each other")
    rests_on = tuple(Rest(each.uri, each.digest.sha256) for each in said.inputAttestations)
    unique("input attestation", (each.sha256 for each in rests_on))
    return Summary(
        artifact=whole.subject[0].digest.sha256,
        verifier=said.verifier.id,
        time=time_of(said.timeVerified),
        resource=said.resourceUri,
        policy_sha256=said.policy.digest.sha256,
        rests_on=rests_on,
        passed=said.verificationResult == "PASSED",
        levels=said.verifiedLevels,
    )
