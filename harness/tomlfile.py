"""Reading a TOML file into a type, strictly: what is wrong is one line with file and key."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.errors import HarnessError
from harness.text import printable

T = TypeVar("T")

MAX_BYTES = 2**20  # of a definition, a lock or a driver: far more than any honest one needs


def read_limited(path: Path, error: type[HarnessError], limit: int = MAX_BYTES) -> bytes:
    """The file's bytes; ``error`` if it cannot be read or holds more than ``limit`` bytes."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as problem:
        raise error(
            f"{path}: cannot be read: {problem.strerror}", "check the path and its permissions"
        ) from None
    if len(data) > limit:
        raise error(f"{path}: larger than {limit} bytes", "check that this is the file you meant")
    return data


def read_toml(path: Path, kind: TypeAdapter[T], error: type[HarnessError]) -> T:
    """Read ``path`` as a ``kind``. No value is converted: a number in quotes is not a number."""
    return parse_toml(path, read_limited(path, error), kind, error)


def parse_toml(path: Path, data: bytes, kind: TypeAdapter[T], error: type[HarnessError]) -> T:
    """``data`` as a ``kind``, for who needs the very bytes as well. ``path``: for messages."""
    try:
        # By way of JSON: there strict mode takes lists for tuples and tables for dataclasses.
        values = json.dumps(tomllib.loads(data.decode("utf-8")))
    except TypeError:
        raise error(f"{path}: a date or time has no place here", "put it in quotes") from None
    except (ValueError, RecursionError) as problem:  # not only TOMLDecodeError: huge numbers, too
        detail = printable(str(problem), 300)
        raise error(f"{path}: not valid TOML: {detail}", "correct the file") from None
    try:
        return kind.validate_json(values, strict=True)
    except ValidationError as problem:
        raise error(*_first(path, problem)) from None


def _first(path: Path, problem: ValidationError) -> tuple[str, str]:
    """(what, hint) for the first thing that is wrong."""
    first = problem.errors(include_url=False, include_input=False)[0]
    key = printable(".".join(str(part) for part in first["loc"]), 200)
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{path}: {key}: unknown key", "remove it, or correct its spelling"
    if first["type"].startswith("missing"):
        return f"{path}: {key}: missing key", "add it"
    message = printable(first["msg"].removeprefix("Value error, "), 300)
    return f"{path}: {key}: {message[:1].lower()}{message[1:]}", "correct the value"
