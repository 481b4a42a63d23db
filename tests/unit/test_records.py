"""Records and the report's schema: what was written comes back, and nothing else is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.errors import StoreError
from harness.models import Report, Verdict
from harness.records import (
    dump_build,
    dump_report,
    load_build,
    load_report,
    report_schema,
    report_schema_text,
)
from harness.reports.json import JsonReporter
from tests.unit.samples import agreeing, names, record, replayed, report, twice

ROOT = Path(__file__).parents[2]


def sample() -> Report:
    records = twice(*names(3))
    return report(records, agreeing(records, Verdict.UNEXPLAINED), [replayed(records[0])])


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(dump_report(sample()))
    assert load_report(path) == sample()
    path.write_bytes(dump_build(record()))
    assert load_build(path) == record()
    assert JsonReporter().render(sample()).encode() == dump_report(sample())


def test_published_schema_is_current() -> None:
    published = (ROOT / "harness" / "reports" / "report.schema.json").read_text("utf-8")
    assert published == report_schema_text(), "run: make schema"


def test_report_fits_its_schema_and_nothing_else_does() -> None:
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    whole = json.loads(dump_report(sample()))
    jsonschema.validate(whole, schema)
    changes: tuple[dict[str, Any], ...] = (
        {"verdict": "FINE"},
        {"complete": "yes"},
        {"more": 1},
        {"builds": {}},
    )
    for change in changes:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**whole, **change}, schema)


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "fine"},
        {"outcome": None},
        {"more": 1},
        {"wall_seconds": "1"},
        {"wall_seconds": True},
        {"stages": "graph"},
        {"artifacts": [{"stage": "graph", "name": "a", "size": "1", "sha256": ""}]},
        {"peak_memory_bytes": 1.5},
        {"variation": {}},
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**json.loads(dump_build(record())), **change}))
    refused(path)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"null", b"[]", b"\xff", b"NaN", b"[" * 100_000, b'{"id":' * 100_000]
)
def test_what_is_no_record_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(data)
    refused(path)
    with pytest.raises(StoreError):
        load_report(path)


def refused(path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        load_build(path)
    assert str(path) in caught.value.what
    assert "\n" not in caught.value.what


def test_absent_or_huge(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot read"):
        load_build(tmp_path / "absent")
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(StoreError, match="larger than"):
        load_build(path)
