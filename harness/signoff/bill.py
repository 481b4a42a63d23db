"""A bill of materials in a statement: CycloneDX, read as far as verification needs it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from harness.models import Strict
from harness.signoff.fields import Name, OneSubject, Open, Type, read
from harness.signoff.interface import BOM

FORMAT = "CycloneDX"
MODEL = "machine-learning-model"


@dataclass(frozen=True)
class Bill:
    """``artifact``: sha256 of what it is the bill of; ``models``: of the models that it lists."""

    artifact: str
    models: tuple[str, ...]


@dataclass(frozen=True)
class _Hash:
    __pydantic_config__ = Open

    alg: Name
    content: Name


@dataclass(frozen=True)
class _Component:
    __pydantic_config__ = Open

    type: Name
    hashes: Annotated[tuple[_Hash, ...], Field(max_length=20)] = ()


@dataclass(frozen=True)
class _Metadata:
    __pydantic_config__ = Open

    component: _Component


@dataclass(frozen=True)
class _Bom:
    __pydantic_config__ = Open

    bomFormat: str  # noqa: N815
    metadata: _Metadata
    components: Annotated[tuple[_Component, ...], Field(max_length=50_000)]


@dataclass(frozen=True)
class _BillStatement:
    __pydantic_config__ = Strict

    type_: Type
    subject: OneSubject
    predicateType: str  # noqa: N815
    predicate: _Bom


_STATEMENT = TypeAdapter(_BillStatement)


def read_bill(statement: Mapping[str, Any]) -> Bill:
    """The bill in a statement. It must be the bill of the statement's only subject."""
    whole = read(statement, _STATEMENT, BOM)
    if whole.predicate.bomFormat != FORMAT:
        raise ValueError(f"predicate.bomFormat: not {FORMAT}")
    artifact = whole.subject[0].digest.sha256
    if _sha256(whole.predicate.metadata.component) != [artifact]:
        raise ValueError("the subject is not the component that the bill is of")
    models = [each for each in whole.predicate.components if each.type == MODEL]
    return Bill(artifact, tuple(digest for each in models for digest in _sha256(each)))


def _sha256(component: _Component) -> list[str]:
    return [each.content for each in component.hashes if each.alg == "SHA-256"]
