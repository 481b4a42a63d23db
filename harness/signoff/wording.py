"""What all statements are worded with. Pure.

Texts that a toolchain had a hand in are made printable and cut. A statement is read back before it
is handed out: whoever signs one never signs what verification cannot read.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from harness.models import Model, Report
from harness.signoff.fields import MAX_TEXT, StatementError
from harness.signoff.interface import STATEMENT_TYPE
from harness.text import printable

T = TypeVar("T")

MOST_LINES = 1000  # of reasons and the like; the rest is counted


def model_of(report: Report, name: str) -> Model:
    found = [model for model in report.models if model.name == name]
    if not found:
        raise StatementError(f"{printable(name, 100)}: not a model of {report.run}")
    return found[0]


def read_back(read: Callable[[Mapping[str, Any]], T], statement: Mapping[str, Any]) -> T:
    try:
        return read(statement)
    except ValueError as error:
        raise StatementError(f"a statement could not be read back: {error}") from None


def about(file: str, sha256: str, predicate_type: str, predicate: dict[str, Any]) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [resource(text_of(file), sha256)],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def resource(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def lines_of(lines: Iterable[str]) -> tuple[str, ...]:
    kept = list(lines)
    more = len(kept) - MOST_LINES
    rest = [f"and {more} more"] if more > 0 else []
    return tuple(text_of(line) for line in (*kept[:MOST_LINES], *rest))


def text_of(text: str) -> str:
    return printable(text, MAX_TEXT)


def time_text(text: str) -> str:
    try:
        return utc(datetime.datetime.fromisoformat(text))
    except ValueError:
        raise StatementError(f"{text_of(text)} is no time with a zone") from None


def utc(moment: datetime.datetime) -> str:
    """RFC 3339 in UTC."""
    if moment.tzinfo is None:
        raise StatementError(f"{moment} has no zone")
    return f"{moment.astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%S}Z"
