"""The kinds of values in signed statements, and reading them strictly. Pure.

A signature says who spoke, never that it makes sense: a key can be stolen, and a builder can lie.
So everything here is taken for hostile. Nothing is converted or guessed; what does not fit is one
:class:`ValueError` of one line.

Texts are one line and printable, but for the names of a model's inputs: those are the model's own,
compared as they are, and to be escaped by whoever shows them.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from harness.errors import HarnessError
from harness.models import Verdict
from harness.signoff.interface import STATEMENT_TYPE
from harness.signoff.strictjson import MOST_INTEGER
from harness.text import printable

MAX_TEXT = 2000  # characters of one text
MAX_SUBJECTS = 50_000

T = TypeVar("T")

# To be said of each class: one without takes over what surrounds it.
Open = ConfigDict(extra="ignore")


def _one_line(text: str) -> str:
    if printable(text, 4 * MAX_TEXT) != text:
        raise ValueError("holds characters that are not shown")
    return text


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_one_line)]
Name = Annotated[Text, Field(min_length=1)]
Time = Annotated[
    str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$")
]
Count = Annotated[int, Field(ge=0, le=MOST_INTEGER)]
Raw = Annotated[str, Field(max_length=MAX_TEXT)]
Shape = Annotated[tuple[Count, ...], Field(max_length=64)]
Inputs = Annotated[dict[Raw, Shape], Field(max_length=10_000)]
Verdicts = Annotated[dict[Name, Verdict], Field(max_length=1000)]
Texts = Annotated[tuple[Text, ...], Field(max_length=10_000)]


@dataclass(frozen=True)
class Digest:
    __pydantic_config__ = Open

    sha256: Sha256


@dataclass(frozen=True)
class Subject:
    __pydantic_config__ = Open

    name: Name
    digest: Digest


@dataclass(frozen=True)
class Annotations:
    """Our own, of a dependency: whether it is a program."""

    __pydantic_config__ = Open

    executable: bool = False


@dataclass(frozen=True)
class Resource:
    __pydantic_config__ = Open

    digest: Digest
    name: Text = ""
    uri: Text = ""
    annotations: Annotations = field(default_factory=Annotations)


Type = Annotated[str, Field(alias="_type")]
Subjects = Annotated[tuple[Subject, ...], Field(min_length=1, max_length=MAX_SUBJECTS)]
OneSubject = tuple[Subject]
Resources = Annotated[tuple[Resource, ...], Field(max_length=MAX_SUBJECTS)]


class StatementError(HarnessError, ValueError):
    """What was found cannot be put into a statement that verification could read."""


def read(statement: Mapping[str, Any], kind: TypeAdapter[T], predicate: str) -> T:
    """``statement`` as a ``kind``. ``predicate``: the type that it has to name."""
    if statement.get("_type") != STATEMENT_TYPE:
        raise ValueError("_type: not an in-toto statement, v1")
    if statement.get("predicateType") != predicate:
        raise ValueError(f"predicateType: not {predicate}")
    try:
        # By way of JSON: there strict mode takes lists for tuples and objects for dataclasses.
        text = json.dumps(statement, allow_nan=False)
    except (TypeError, RecursionError):
        raise ValueError("is not JSON") from None
    return validated(text, kind)


def validated(text: str | bytes, kind: TypeAdapter[T]) -> T:
    try:
        return kind.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = printable(".".join(str(part) for part in first["loc"]) or "top level", 200)
        message = printable(first["msg"].removeprefix("Value error, "), 200)
        raise ValueError(f"{where}: {message[:1].lower()}{message[1:]}") from None


def by_name(where: str, resources: Iterable[Resource | Subject]) -> dict[str, str]:
    resources = tuple(resources)
    unique(where, (each.name for each in resources))
    return {each.name: each.digest.sha256 for each in resources}


def unique(what: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {printable(twice[0], 100)!r} is there twice")


def time_of(text: str) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{text} is no time") from None
