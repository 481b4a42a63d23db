"""Constants as they are summarised: a toolchain's claims are used only where they fit."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from harness.constant_values import BINS, SAMPLE, summaries
from harness.constants import Summary, by_interest, files_of
from harness.models import Report
from harness.store import Store
from tests.unit.samples import names, record, report, sha

FLOATS = struct.pack("<4f", 0.0, -1.0, 1.0, 2.0)


def run(store: Store, files: dict[str, bytes], index: object = None) -> Report:
    content = {f"constants/{name}": data for name, data in files.items()}
    if index is not None:
        raw = index if isinstance(index, bytes) else json.dumps(index).encode()
        content["constants/index.json"] = raw
    for data in content.values():
        store.add_bytes(data)
    return report([record(artifacts=content)], [])


def entry(name: str, dtype: Any, shape: Any) -> dict[str, Any]:
    return {"file": name, "dtype": dtype, "shape": shape, "sha256": "0" * 64}


def only(store: Store, data: bytes, dtype: Any, shape: Any) -> Summary:
    what = run(store, {"0.bin": data}, [entry("0.bin", dtype, shape)])
    return summaries(what, store)["m", "0.bin", sha(data)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def test_numbers_are_summarised(store: Store) -> None:
    found = only(store, FLOATS, "float32", [2, 2])
    assert (found.claim, found.elements, found.read) == ("float32 2x2", 4, 4)
    assert (found.first, found.low, found.high, found.mean) == (
        ("0", "-1", "1", "2"),
        "-1",
        "2",
        "0.5",
    )
    assert (found.zeros, found.not_finite) == (1, 0)
    assert sum(found.bins) == 4
    assert len(found.bins) == BINS


@pytest.mark.parametrize(
    ("dtype", "data", "first"),
    [
        ("float16", struct.pack("<e", 1.5), "1.5"),
        ("bfloat16", b"\xc0\x3f", "1.5"),
        ("float64", struct.pack("<d", 1e300), "1e+300"),
        ("int8", b"\xff", "-1"),
        ("uint64", b"\xff" * 8, "1.84467e+19"),
        ("bool", b"\x01", "1"),
    ],
)
def test_types(store: Store, dtype: str, data: bytes, first: str) -> None:
    found = only(store, data, dtype, [])
    assert found.claim == f"{dtype} scalar"
    assert found.first == (first,)
    assert found.bins == ()


def test_what_is_not_finite_is_counted_and_left_out(store: Store) -> None:
    data = struct.pack("<4f", float("nan"), float("inf"), -3.0, 3.0)
    found = only(store, data, "float32", [4])
    assert (found.low, found.high, found.mean, found.not_finite) == ("-3", "3", "0", 2)
    nothing = only(store, struct.pack("<f", float("nan")), "float32", [])
    assert (nothing.low, nothing.bins, nothing.not_finite) == ("", (), 1)


def test_the_largest_numbers_do_not_overflow(store: Store) -> None:
    largest = 1.7976931348623157e308
    found = only(store, struct.pack("<2d", -largest, largest), "float64", [2])
    assert (found.mean, found.bins) == ("0", ())


def test_an_empty_tensor(store: Store) -> None:
    found = only(store, b"", "float32", [0, 3])
    assert (found.claim, found.elements, found.first) == ("float32 0x3", 0, ())


def test_a_large_one_is_read_in_part(store: Store) -> None:
    found = only(store, bytes(SAMPLE + 8), "float32", [SAMPLE // 4 + 2])
    assert (found.elements, found.read) == (SAMPLE // 4 + 2, SAMPLE // 4)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("float32", [5]), ("float32", [-4]), ("float32", [2.0, 2]), ("float32", [True, 4]),
        ("float32", 4), ("object", [4]), ("float32", [2**40, 2**40]), (["float32"], [4]),
        ("float32", [1] * 17), (None, None), ("<f4", [4]),
    ],
)  # fmt: skip
def test_a_claim_that_does_not_fit_is_not_used(store: Store, dtype: Any, shape: Any) -> None:
    assert only(store, FLOATS, dtype, shape) == Summary("")


@pytest.mark.parametrize(
    "index",
    [b"", b"{", b"null", b"{}", b"[1, null, []]", b"[" * 100_000, b"\xff", b" " * 2**22 + b"[]"],
)
def test_a_broken_index_costs_only_the_claims(store: Store, index: bytes) -> None:
    what = run(store, {"0.bin": FLOATS}, index)
    assert summaries(what, store)["m", "0.bin", sha(FLOATS)] == Summary("")


def test_what_the_store_lost_is_left_out(store: Store) -> None:
    what = run(store, {"0.bin": FLOATS}, [entry("0.bin", "float32", [4])])
    (store.objects / sha(FLOATS)[:2] / sha(FLOATS)[2:]).unlink()
    assert summaries(what, store) == {}


def test_differing_ones_come_first_then_the_largest() -> None:
    files = {
        "constants/a": b"1",
        "constants/b": b"22",
        "constants/c": b"x",
        "constants/index.json": b"",
    }
    other = {**files, "constants/c": b"y"}
    builds = [
        record(name, artifacts=own) for name, own in zip(names(2), (files, other), strict=True)
    ]
    found = files_of(report(builds, []))["m"]
    assert by_interest(found, 2) == [("c", False), ("b", True), ("a", True)]
