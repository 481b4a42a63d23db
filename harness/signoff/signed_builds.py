"""The builds that a bundle tells of, by signatures that count, and what it takes to do each again.

Two statements about the same content make one build here: who signed it does not change what comes
out. Everything that is needed is named by digest in what was signed, and taken from the bundle's
materials by that digest only.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from harness.ledger import Ledger
from harness.models import ComparisonKind, Report
from harness.signoff.bundle import Bundle
from harness.signoff.fields import Name, Open, Sha256, Text, validated
from harness.signoff.interface import PROVENANCE, Role, Signed, Trust
from harness.signoff.keyless import FOLDER
from harness.signoff.provenance import Provenance, read_provenance
from harness.signoff.reading import read_bundle
from harness.signoff.strictjson import canonical
from harness.text import printable

DEFINITIONS = "toolchains"  # the first part of the names of files that define toolchains
IMAGE = "image"


@dataclass(frozen=True)
class _Around:
    __pydantic_config__ = Open

    environment_sha256: Sha256


@dataclass(frozen=True)
class _Asked:
    __pydantic_config__ = Open

    target: Annotated[dict[Name, Text], Field(max_length=1000)]


_AROUND, _ASKED = TypeAdapter(_Around), TypeAdapter(_Asked)


@dataclass(frozen=True)
class SignedBuild:
    """One statement: ``signed`` by a builder or verifier. ``environment``: its sha256."""

    signed: Signed
    told: Provenance
    environment: str
    target: Mapping[str, str]

    @property
    def definitions(self) -> frozenset[tuple[str, str, bool]]:
        """(name, sha256, whether it is a program) of every file that defines its toolchain, and
        others of the run.
        """
        return frozenset(
            (name, digest, name in self.told.executables)
            for name, digest in self.told.dependencies.items()
            if name.startswith(DEFINITIONS)
        )

    @property
    def image(self) -> str | None:
        """The sha256 of the image that it ran in; None without."""
        return self.told.dependencies.get(IMAGE)

    @property
    def content(self) -> object:
        """Equal for statements that tell of the same build."""
        told = self.told
        return (
            told.model_sha256,
            tuple(sorted(told.inputs.items())),
            tuple(sorted(told.external.items())),
            (told.toolchain, told.toolchain_identity, self.environment, self.image),
            self.definitions,
            told.variation,
        )


@dataclass(frozen=True)
class Found:
    """``unreadable``: (statement, why) of what a key that counts signed and nobody can read.
    ``notes``: what counts for nothing, one line each.
    """

    builds: tuple[SignedBuild, ...]
    unreadable: tuple[tuple[Signed, str], ...]
    notes: tuple[str, ...]


def signed_builds(bundle: Bundle, trust: Trust, today: datetime.date) -> Found:
    """Every build in the bundle that a builder's or verifier's key vouches for."""
    signed, rejected = read_bundle(bundle, trust, today)
    builds, unreadable = [], []
    for each in signed:
        if each.predicate_type != PROVENANCE or each.signer.role is Role.UPSTREAM:
            continue
        try:
            builds.append(_read(each))
        except ValueError as error:
            unreadable.append((each, printable(str(error), 300)))
    notes = [f"{each.file} does not count: {each.reason}" for each in rejected]
    if (bundle.root / FOLDER).exists():
        notes.append(f"{FOLDER}/ was not read: only keys of the trust file count here")
    return Found(tuple(builds), tuple(unreadable), tuple(notes))


def _read(signed: Signed) -> SignedBuild:
    told = read_provenance(signed.statement)
    if told.builder != signed.signer.name:
        raise ValueError(f"tells of a build by {told.builder}, and {signed.signer.name} signed it")
    definition = signed.statement["predicate"]["buildDefinition"]
    around = validated(canonical(definition["internalParameters"]), _AROUND)
    asked = validated(canonical(definition["externalParameters"]), _ASKED)
    return SignedBuild(signed, told, around.environment_sha256, asked.target)


def comparable(report: Report, ledger: Ledger, today: datetime.date) -> tuple[str, ...]:
    """Digests of what a bundle should hold besides: artifacts that may come out with other bytes
    again, for which the ledger has an explanation. Without the bytes, nothing can apply it.
    """
    found = {
        artifact.sha256: None
        for record in report.builds
        for artifact in record.artifacts
        if ledger.applicable(record.compiler, artifact.stage, ComparisonKind.REPEAT, today)
    }
    return tuple(found)
