"""Reading and writing the models as JSON, strictly: what does not fit is refused, never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.errors import StoreError
from harness.models import BuildRecord, Independence, Report
from harness.text import printable

T = TypeVar("T")

SCHEMA_VERSION = 1
_MAX_BYTES = 256 * 2**20

_report: TypeAdapter[Report] = TypeAdapter(Report)
_build: TypeAdapter[BuildRecord] = TypeAdapter(BuildRecord)
_independence: TypeAdapter[Independence] = TypeAdapter(Independence)


def dump_report(report: Report) -> bytes:
    return _report.dump_json(report, indent=1) + b"\n"


def dump_independence(independence: Independence) -> bytes:
    return _independence.dump_json(independence, indent=1) + b"\n"


def load_report(path: Path) -> Report:
    return _load(path, _report)


def dump_build(record: BuildRecord) -> bytes:
    return _build.dump_json(record, indent=1) + b"\n"


def load_build(path: Path) -> BuildRecord:
    return _load(path, _build)


def report_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of ``report.json``."""
    schema = _report.json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def report_schema_text() -> str:
    return json.dumps(report_schema(), indent=1, sort_keys=True) + "\n"


def _load(path: Path, adapter: TypeAdapter[T]) -> T:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise StoreError(f"{path} is larger than {_MAX_BYTES >> 20} MiB", "It is not ours.")
        return adapter.validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the top level"
        raise StoreError(
            f"{path} is not a record of this harness: "
            f"{printable(first['msg'], 300)} at {printable(where, 200)}",
            "It was damaged or written by another version; run again.",
        ) from error
