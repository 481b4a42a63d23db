"""The provenance of one build: SLSA Provenance v1, with parameters of our own build type. Pure.

An unknown external parameter refuses, as SLSA asks of who verifies; elsewhere SLSA has consumers
pass over fields that they do not know.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from harness.models import Isolation, Outcome, Strict, Variation, Verdict
from harness.signoff.fields import (
    Inputs,
    Name,
    Open,
    Resources,
    Sha256,
    Subjects,
    Text,
    Texts,
    Time,
    Type,
    by_name,
    read,
    time_of,
    unique,
    validated,
)
from harness.signoff.interface import BUILD_TYPE, PROVENANCE

EXTERNAL = "model/external/"
PROFILE = "profile:"
LIBRARY = "library"  # the stage that holds what ships


@dataclass(frozen=True)
class Sibling:
    """Another build of the same run by the same toolchain of the same model, or this very one.

    ``library``: sha256 of the only artifact of the stage ``library``; None if there is none, or
    several.
    """

    __pydantic_config__ = Strict

    build: Name
    library: Sha256 | None
    outcome: Outcome


@dataclass(frozen=True)
class Provenance:
    """One build, as its builder tells it.

    ``artifacts``: ``STAGE/NAME`` → sha256. ``profiles``: toolchain or replayer → sha256 of its
    profile (a material). ``replays``, ``record`` and ``report``: sha256 of materials.
    ``dependencies``: every resolved dependency, by name; ``executables``: the programs among them.
    ``siblings``: this build is among them.
    """

    builder: str
    run: str
    build: str
    started: datetime.datetime
    model: str
    model_sha256: str
    inputs: Mapping[str, tuple[int, ...]]
    external: Mapping[str, str]  # path → sha256
    toolchain: str
    toolchain_identity: str
    redteam: str
    variation: Variation
    isolation: Isolation
    siblings: tuple[Sibling, ...]
    artifacts: Mapping[str, str]
    dependencies: Mapping[str, str]
    executables: frozenset[str]
    profiles: Mapping[str, str]
    record: str | None
    replays: str | None
    report: str | None

    @property
    def library(self) -> str | None:
        """The digest of the only artifact of the stage ``library``."""
        return library_of(self.artifacts)


@dataclass(frozen=True)
class Replayed:
    """One replay of one build, as the material ``replays`` lists it.

    ``expected_sha256``: of the build's own artifact; None where it left none.
    """

    __pydantic_config__ = Strict

    name: Name
    replayer: Name
    stage: Name
    verdict: Verdict
    expected_sha256: Sha256 | None
    got_sha256: Sha256 | None


# What is on the wire. Field names are the format's own.


@dataclass(frozen=True)
class _External:
    __pydantic_config__ = Strict

    model: Name
    inputs: Inputs
    toolchain: Name
    target: Annotated[dict[Name, Text], Field(max_length=1000)]
    variation: Variation
    replayers: Texts


@dataclass(frozen=True)
class _Internal:
    __pydantic_config__ = Open

    toolchain_identity: Sha256
    redteam: Text
    isolation: Isolation
    siblings: Annotated[tuple[Sibling, ...], Field(min_length=1, max_length=2000)]


@dataclass(frozen=True)
class _Definition:
    __pydantic_config__ = Open

    buildType: str  # noqa: N815
    externalParameters: _External  # noqa: N815
    internalParameters: _Internal  # noqa: N815
    resolvedDependencies: Resources  # noqa: N815


@dataclass(frozen=True)
class _Builder:
    __pydantic_config__ = Open

    id: Name


@dataclass(frozen=True)
class _Metadata:
    __pydantic_config__ = Open

    invocationId: Name  # noqa: N815
    startedOn: Time  # noqa: N815


@dataclass(frozen=True)
class _Details:
    __pydantic_config__ = Open

    builder: _Builder
    metadata: _Metadata
    byproducts: Resources


@dataclass(frozen=True)
class _ProvenancePredicate:
    __pydantic_config__ = Open

    buildDefinition: _Definition  # noqa: N815
    runDetails: _Details  # noqa: N815


@dataclass(frozen=True)
class _ProvenanceStatement:
    __pydantic_config__ = Strict

    type_: Type
    subject: Subjects
    predicateType: str  # noqa: N815
    predicate: _ProvenancePredicate


_STATEMENT = TypeAdapter(_ProvenanceStatement)
_REPLAYED: TypeAdapter[tuple[Replayed, ...]] = TypeAdapter(
    Annotated[tuple[Replayed, ...], Field(max_length=10_000)]
)


def read_provenance(statement: Mapping[str, Any]) -> Provenance:
    """The build that a statement tells of."""
    whole = read(statement, _STATEMENT, PROVENANCE)
    definition, details = whole.predicate.buildDefinition, whole.predicate.runDetails
    if definition.buildType != BUILD_TYPE:
        raise ValueError(f"buildType: not {BUILD_TYPE}")
    given, own = definition.externalParameters, definition.internalParameters
    dependencies = by_name("resolvedDependencies", definition.resolvedDependencies)
    byproducts = by_name("byproducts", details.byproducts)
    if "model" not in dependencies:
        raise ValueError("resolvedDependencies names no model")
    artifacts = by_name("subject", whole.subject)
    run, _, build = details.metadata.invocationId.partition("/")
    mine = [each for each in own.siblings if each.build == build]
    if [each.library for each in mine] != [library_of(artifacts)]:
        raise ValueError("siblings does not list this build, or not as the subjects do")
    unique("build among siblings", (each.build for each in own.siblings))
    return Provenance(
        builder=details.builder.id,
        run=run,
        build=build,
        started=time_of(details.metadata.startedOn),
        model=given.model,
        model_sha256=dependencies["model"],
        inputs=given.inputs,
        external={
            name.removeprefix(EXTERNAL): digest
            for name, digest in dependencies.items()
            if name.startswith(EXTERNAL)
        },
        toolchain=given.toolchain,
        toolchain_identity=own.toolchain_identity,
        redteam=own.redteam,
        variation=given.variation,
        isolation=own.isolation,
        siblings=own.siblings,
        artifacts=artifacts,
        dependencies=dependencies,
        executables=frozenset(
            each.name for each in definition.resolvedDependencies if each.annotations.executable
        ),
        profiles={
            name.removeprefix(PROFILE): digest
            for name, digest in byproducts.items()
            if name.startswith(PROFILE)
        },
        record=byproducts.get("record"),
        replays=byproducts.get("replays"),
        report=byproducts.get("report"),
    )


def read_replays(material: bytes) -> tuple[Replayed, ...]:
    """The replays of one build, out of the material ``replays``."""
    return validated(material, _REPLAYED)


def dump_replays(replays: Iterable[Replayed]) -> bytes:
    return _REPLAYED.dump_json(tuple(replays))


def regenerated_by(
    provenance: Provenance, replays: Iterable[Replayed], stage: str
) -> tuple[str, ...]:
    """The replayers that made ``stage`` of this build again bit for bit, sorted.

    As in :mod:`harness.independence`, step 1: there is a replay, and all of its replays of that
    stage are IDENTICAL. Here each of them must also have met an artifact of this very build.
    """
    own = {digest for name, digest in provenance.artifacts.items() if name.startswith(f"{stage}/")}
    held: dict[str, bool] = {}
    for replay in replays:
        if replay.stage == stage:
            same = replay.verdict is Verdict.IDENTICAL
            met = replay.got_sha256 == replay.expected_sha256 and replay.expected_sha256 in own
            held[replay.replayer] = held.get(replay.replayer, True) and same and met
    return tuple(sorted(name for name, same in held.items() if same))


def library_of(artifacts: Mapping[str, str]) -> str | None:
    """``artifacts``: ``STAGE/NAME`` → sha256."""
    found = [digest for name, digest in artifacts.items() if name.startswith(f"{LIBRARY}/")]
    return found[0] if len(found) == 1 else None
