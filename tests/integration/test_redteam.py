"""Attacks of the corpus through the real command: planted in real TVM, run, and caught."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import redteam
from harness.packages import cache_folder
from tests.conftest import ROOT, Harness

pytestmark = pytest.mark.integration

MODEL = """
[[model]]
name = "small"
path = "small.onnx"
inputs = ["x=2x8"]
"""


def settings(tmp_path: Path) -> Path:
    """nightly.toml with the small model in place of its own."""
    text = (ROOT / "nightly.toml").read_text("utf-8")
    place = tmp_path / "redteam.toml"
    place.write_text(text[: text.index("# Classifies files")] + MODEL)
    return place


# One of each place in the compiler, on a model that is quickly built.
PLACES = (
    "simplifier-detector",
    "frontend-detector",
    "impnet-image",
    "fused-predicate",
    "codegen-predicate",
    "poisoned-backend",
    "poisoned-linker",
    "batch-leak",
)


def test_the_corpus_is_whole() -> None:
    corpus = redteam.load()
    assert len(corpus) >= 22
    assert set(PLACES) <= set(corpus)
    for attack in corpus.values():
        assert attack.accounted or attack.limit, f"{attack.name} does not say why"
    classes = {number for attack in corpus.values() for number in attack.classes}
    assert {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 20, 22} <= classes


def test_one_compromised_toolchain_is_caught_and_named(
    harness: Harness, small: object, tmp_path: Path
) -> None:
    small()  # type: ignore[operator]
    done = harness(
        "redteam", *PLACES, "--settings", settings(tmp_path), "--scenario", "one", "--json",
        timeout=1200,
    )  # fmt: skip
    played = {each["attack"]: each for each in json.loads(done.out)}
    assert played.keys() == set(PLACES)
    for name, each in played.items():
        assert each["caught"], (name, each)
        assert each["live"] == "", (name, each)
    assert done.code == 0, done.err
    # Nothing compromised is left where ordinary runs look.
    assert not list((cache_folder() / "redteam").glob("*/root"))
    marked = {
        toolchain["redteam"]
        for report in (tmp_path / "results-redteam").glob("*/report.json")
        for toolchain in json.loads(report.read_bytes())["toolchains"]
    }
    assert marked == {"", *PLACES}


def test_the_canary_is_planted_caught_and_kept_apart(
    harness: Harness, small: object, tmp_path: Path
) -> None:
    small()  # type: ignore[operator]
    done = harness(
        "nightly", "--settings", settings(tmp_path), "--canary", "--variation-seed", "3",
        timeout=600,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "canary: caught" in done.err
    assert len(list((tmp_path / "results").glob("*/report.json"))) == 1
    assert len(list((tmp_path / "results-redteam").glob("*/report.json"))) == 1
