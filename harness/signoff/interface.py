"""The nouns of sign-off. Frozen data; files are read and written elsewhere.

Three files meet at verification, and only the first two are trusted: the *policy* (what a release
must show), the *trust file* (who may say so), and the *bundle* (what was said). Nothing of the
first two is ever taken from the third, or from the working directory.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from securesystemslib.signer import SSlibKey

from harness.models import Policy, Strict

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
SUMMARY = "https://slsa.dev/verification_summary/v1"
BOM = "https://cyclonedx.org/bom"
# Ours: what the run found, stage by stage. A URN, as nobody needs to own a name for it.
EVIDENCE = "urn:ml-compiler-harness:evidence:v1"
BUILD_TYPE = "urn:ml-compiler-harness:build:v1"


class Role(StrEnum):
    """What a key may speak about. A statement outside its signer's role counts for nothing."""

    BUILDER = "builder"  # what it built: PROVENANCE
    VERIFIER = "verifier"  # what it verified: SUMMARY, EVIDENCE, BOM, and its own PROVENANCE
    UPSTREAM = "upstream"  # where a model comes from: anything that the chain understands


@dataclass(frozen=True)
class Key:
    """A public key in the trust file, with the times in which what it signs counts.

    ``until`` and ``since`` are days, UTC, both included. ``revoked``: why; empty if it is not. A
    revoked or expired key counts for nothing, whatever day its statements give: nothing tells when
    a signature was really made.
    """

    public: SSlibKey
    since: datetime.date
    until: datetime.date
    revoked: str = ""


@dataclass(frozen=True)
class Identity:
    """One person or builder, however many keys: keys of one identity never count twice."""

    name: str
    role: Role
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Trust:
    """The trust file. No key is in it twice. ``withdrawn``: sha256 of artifact → why."""

    identities: tuple[Identity, ...]
    withdrawn: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Signed:
    """A statement whose signature verified with a key that may be used today.

    ``digest``: sha256 of the payload's bytes, by which statements refer to each other. ``file``:
    where it was found, for messages only.
    """

    file: str
    digest: str
    signer: Identity
    keyid: str
    statement: Mapping[str, Any]

    @property
    def predicate_type(self) -> str:
        return str(self.statement.get("predicateType"))


@dataclass(frozen=True)
class Rejected:
    """A file of a bundle that counts for nothing, and why: one line."""

    file: str
    reason: str


@dataclass(frozen=True)
class Requirements:
    """``[release]`` of a policy: what verification asks of a bundle.

    verifiers: how many verifiers must have passed it. builders: how many builders must have made
    the same; ``independent``: stage → how many of those must be effectively independent of each
    other there; by default ``{"library": builders}``. explained: whether a builder's other bytes
    count where a verifier's evidence explains the difference. unanimous: whether every builder of
    the trust file must have spoken and agreed. max_age_days: of a verdict; 0 for any.
    chain: steps of the model's history that must be there without a gap.
    declared: what may be merely declared, by name: explanations on somebody's word, and toolchains
    that the settings leave out; sections: whether parts of the shipped file that
    are never loaded may differ (a stripped library).
    """

    __pydantic_config__ = Strict

    verifiers: int = 1
    builders: int = 0
    independent: dict[str, int] | None = None
    explained: bool = False
    unanimous: bool = False
    max_age_days: int = 90
    chain: tuple[str, ...] = ()
    declared: tuple[str, ...] = ()
    sections: bool = False


@dataclass(frozen=True)
class ReleasePolicy:
    """A policy file. ``sha256``: of its bytes; a verdict under another one does not count."""

    sha256: str
    run: Policy
    release: Requirements


@dataclass(frozen=True)
class Decision:
    """Whether an artifact may be released. ``refusals``: one line each; none: it may.

    ``notes``: what does not decide but must be seen. ``rests``: what the answer rests on, and on
    whose word. ``dissent``: who says otherwise, by name. ``chain``: the model's history, each gap
    named. All of them are lines that are safe to print.
    """

    artifact: str  # sha256
    refusals: tuple[str, ...]
    notes: tuple[str, ...] = ()
    rests: tuple[str, ...] = ()
    dissent: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        return not self.refusals
