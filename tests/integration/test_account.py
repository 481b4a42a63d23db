"""The process that accounts for a build: it answers, or says that it cannot. It never raises."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from harness import account
from harness.accounting.interface import Accounted, Kind
from harness.models import Model
from harness.packages import cache_folder
from harness.store import Store
from harness.variations import CONTROL
from tests.conftest import CLEAN, ROOT, Harness, small_model

pytestmark = pytest.mark.integration


Built = tuple[account.Job, Store]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The job for a clean build of the small model by the newest TVM."""
    folder = tmp_path_factory.mktemp("built")
    onnx.save(small_model(), folder / "small.onnx")
    words = ["run", "small.onnx", "--input", "x=2x8", "--toolchain", CLEAN[0], "--no-accounting"]
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words, "--engine", "sandbox", "--quiet"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    store = Store(folder / "results")
    report = store.load_report(store.runs()[-1])
    assert report.accounts == ()
    record = next(build for build in report.builds if build.variation.name == CONTROL)
    job = account.job_for(record, report.models[0], {})
    assert job is not None
    return job, store


def answer(job: account.Job, store: Store, folder: Path) -> tuple[Accounted, ...]:
    folder.mkdir()
    return account.account(job, store, folder)


def test_a_clean_build_is_wholly_asked_for(built: Built, tmp_path: Path) -> None:
    found = answer(*built, tmp_path / "a")
    assert {each.kind for each in found} == set(account.KINDS)
    assert all(each.attributed == each.things for each in found), found
    assert account.clean(found), found
    assert sum(each.things for each in found) > 20


def test_another_model_does_not_ask_for_it(
    built: Built, small: Callable[..., Path], tmp_path: Path
) -> None:
    """The same build, held against a model in which one weight has another lowest bit."""
    job, store = built
    model = onnx.load(small())
    tensor = model.graph.initializer[0]
    array = numpy_helper.to_array(tensor).copy()
    array.view("u4")[3, 3] ^= 1
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    place = tmp_path / "other.onnx"
    onnx.save(model, place)
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    # The file at the model's path is not asked: what was given is in the store.
    unread = Model(job.model.name, str(place), job.model.sha256, job.model.inputs)
    (tmp_path / "b").mkdir()
    assert account.clean(account.account(account.Job(unread, job.sources), store, tmp_path / "b"))
    assert store.add(place)[0] == digest
    other = Model(job.model.name, str(place), digest, job.model.inputs)
    found = answer(account.Job(other, job.sources), store, tmp_path / "a")
    left = [each for each in found if each.findings]
    assert {each.kind for each in left} == {Kind.CONSTANTS}
    assert "differs from" in left[0].findings[0].what


@pytest.mark.parametrize("what", ["garbage", "empty", "exchanged", "gone"])
def test_what_cannot_be_read_is_no_answer(built: Built, tmp_path: Path, what: str) -> None:
    job, store = built
    damaged = {"garbage": b"\xff\x00[" * 3000, "empty": b""}.get(what)
    sources = dict(job.sources)
    if damaged is not None:
        sources = dict.fromkeys(sources, store.add_bytes(damaged))
    elif what == "exchanged":
        sources = dict(zip(sources, reversed(list(sources.values())), strict=True))
    else:
        sources = {}
    found = answer(account.Job(job.model, tuple(sources.items())), store, tmp_path / "a")
    assert {each.kind for each in found} >= set(account.KINDS)
    for kind in account.KINDS:
        assert not account.clean(tuple(each for each in found if each.kind is kind)), kind


def test_a_process_that_does_not_end_is_no_answer(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "SECONDS", 0.05)
    found = answer(*built, tmp_path / "a")
    assert {each.kind for each in found} == set(account.KINDS)
    assert {each.unknown for each in found} == {("accounting did not end in time: ",)}


def test_a_clean_answer_is_remembered_and_fresh_works_it_out_again(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    own = tmp_path / "cache" / "ml-compiler-harness"
    own.mkdir(parents=True)
    (own / "environments").symlink_to(cache_folder() / "environments")
    command = ("run", small(), "--input", "x=2x8", "--toolchain", CLEAN[0])
    first = harness(*command, "--json", env=env, fresh=False)
    assert first.code == 0, first.err
    assert {each["remembered"] for each in first.report["accounts"]} == {None}
    assert json.loads(next(own.glob("accounts/*/*.json")).read_bytes())["made"]
    found = []
    for _ in range(4):  # each is worked out again by chance, one in sixteen
        found.append(harness(*command, "--json", env=env, fresh=False).report["accounts"])
        if found[-1][0]["remembered"]:
            break
    assert found[-1][0]["remembered"]
    fresh = harness(*command, "--json", env=env)
    assert {each["remembered"] for each in fresh.report["accounts"]} == {None}
