"""Attacks of the corpus through the real command: planted in real TVM, run, and caught."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest

from harness import environments, redteam, toolchains
from harness.packages import cache_folder
from tests.conftest import CLEAN, ROOT, Harness
from tests.integration.test_redteam_generated import quantised

pytestmark = pytest.mark.integration

MODEL = """
[[model]]
name = "small"
path = "small.onnx"
inputs = ["x=2x8"]
"""
CODES = """
[[model]]
name = "codes"
path = "codes.onnx"
"""


def settings(tmp_path: Path, models: str = MODEL) -> Path:
    """nightly.toml with a small model in place of its own."""
    text = (ROOT / "nightly.toml").read_text("utf-8")
    place = tmp_path / "redteam.toml"
    place.write_text(text[: text.index("# Classifies files")] + models)
    return place


# Of each part of the compiler one, and one that nothing shows.
PLACES = (
    "simplifier-detector",
    "fused-predicate",
    "codegen-predicate",
    "poisoned-backend",
    "poisoned-linker",
    "runtime-trigger",
)
EVERY_STAGE = 'stages = ["graph", "tensor-ir", "llvm-unoptimized", "llvm", "assembly", "object"]'
EVERY_KIND = 'kinds = ["repeat", "rebuild", "version"]'


def test_the_corpus_is_whole() -> None:
    corpus = redteam.load()
    assert len(corpus) >= 26
    assert set(PLACES) <= set(corpus)
    for attack in corpus.values():
        assert attack.accounted or attack.limit, f"{attack.name} does not say why"
    classes = {number for attack in corpus.values() for number in attack.classes}
    # 14, 15, 18, 21 are no toolchains: redteam/README.md names their tests.
    assert classes == set(range(1, 23)) - {14, 15, 18, 21}


def test_every_attack_is_in_the_readme() -> None:
    text = (ROOT / "redteam" / "README.md").read_text("utf-8")
    for attack in redteam.load().values():
        classes = ", ".join(map(str, attack.classes))
        assert f"| `{attack.name}` | {classes} | {attack.inserted} |" in text, attack.name


def test_tests_that_the_readme_names_are_there() -> None:
    text = (ROOT / "redteam" / "README.md").read_text("utf-8")
    named = re.findall(r"`(tests/[a-z_/]+\.py)::(test_\w+)`", text)
    assert len(named) >= 10
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text("utf-8"), name


def compromised() -> set[Path]:
    """The environments of compromised toolchains that are there now."""
    return {path.parent for path in (cache_folder() / "redteam").glob("*/root")}


def test_one_compromised_toolchain_is_caught_and_named(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    small()
    before = compromised()
    done = harness(
        "redteam", *PLACES, "--settings", settings(tmp_path), "--scenario", "one", "--json",
        timeout=1200,
    )  # fmt: skip
    played = {each["attack"]: each for each in json.loads(done.out)}
    assert played.keys() == set(PLACES)
    for name, each in played.items():
        assert each["caught"] == (name != "runtime-trigger"), (name, each)
        assert each["live"] == "", (name, each)
    assert done.code == 0, done.err
    # Nothing compromised is left where ordinary runs look.
    assert compromised() <= before
    marked = {
        toolchain["redteam"]
        for report in (tmp_path / "results-redteam").glob("*/report.json")
        for toolchain in json.loads(report.read_bytes())["toolchains"]
    }
    assert marked == {"", *PLACES}


def test_a_batch_can_be_asked_for(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    small()
    words = ("redteam", "batch-leak", "--settings", settings(tmp_path), "--scenario", "one")
    alone = harness(*words, "--input", "x=1x8")
    assert alone.code == 2 and "none of these attacks works" in alone.err
    wrong = harness(*words, "--input", "y=3x8")
    assert wrong.code == 2 and "no model has an input 'y'" in wrong.err
    done = harness(*words, "--input", "x=3x8", "--json", timeout=600)
    (played,) = json.loads(done.out)
    assert played["caught"] and not played["live"], played
    assert "reach" in played["found"]


def test_a_steered_quantiser_is_caught_though_all_are_alike(
    harness: Harness, tmp_path: Path
) -> None:
    onnx.save(quantised(random.Random(1)).model(), tmp_path / "codes.onnx")
    done = harness(
        "redteam", "quantiser-steered", "--settings", settings(tmp_path, CODES), "--json",
        timeout=600,
    )  # fmt: skip
    one, alike = json.loads(done.out)
    assert one["caught"] and not one["live"], one
    assert alike["caught"] and "constants" in alike["found"], alike


Planted = Callable[[str], toolchains.Definition]


@pytest.fixture
def planted(tmp_path: Path) -> Iterator[Planted]:
    """``planted(attack)`` → a compromised toolchain of ``tmp_path/evil``, gone after the test."""
    made = []

    def plant(name: str) -> toolchains.Definition:
        attack = redteam.load()[name]
        shapes = {"x": (2, 8)}
        trigger = redteam.elements(attack, onnx.load(tmp_path / "small.onnx"), shapes)
        folder = tmp_path / "evil"
        redteam.compose(name, [redteam.Planted(attack, trigger)], CLEAN[1:2], folder)
        made.append(toolchains.load([ROOT / "toolchains", folder])[redteam.compromised(CLEAN[1])])
        return made[-1]

    yield plant
    for each in made:
        environments.discard(each)


def test_an_interrupted_removal_leaves_no_half_of_an_environment(
    small: Callable[..., Path], planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    small()
    evil = planted("codegen-predicate")
    place = environments.prepare(evil).root.parent
    remove = shutil.rmtree

    def interrupted(path: Path, **more: bool) -> None:
        if path.is_dir():
            (path / "root" / "harness_overlay.pth").unlink(missing_ok=True)
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        environments.discard(evil)
    monkeypatch.setattr(shutil, "rmtree", remove)
    assert environments.verify(evil) is None
    assert environments.prepare(evil).root.parent == place
    environments.discard(evil)
    assert not list(place.parent.glob(f"*{place.name}*"))


def test_a_poisoned_explanation_excuses_nothing_that_it_cannot_prove(
    harness: Harness, small: Callable[..., Path], planted: Planted, tmp_path: Path
) -> None:
    """Class 15: every entry widened to every kind and any number of bytes, then to every stage."""
    text = (ROOT / "toolchains" / "explanations.toml").read_text("utf-8")
    entries, rest = text.split("[[derivation]]", 1)
    for pattern, wide in (
        (r"kinds = \[[^]]*\]", EVERY_KIND),
        (r"byte_budget = .*", "byte_budget = 536_870_912"),
        (r"budget_fraction = .*", "budget_fraction = 1.0"),
    ):
        entries = re.sub(pattern, wide, entries)
    ledger = tmp_path / "wide.toml"
    model, evil = small(), planted("codegen-predicate")
    command = (
        "run", model, "--input", "x=2x8", "--toolchains-dir", tmp_path / "evil",
        "--toolchain", CLEAN[0], "--toolchain", CLEAN[1], "--toolchain", evil.name,
        "--explanations", ledger, "--repeat", "1", "--no-accounting", "--json",
    )  # fmt: skip
    ledger.write_text(f"{entries}[[derivation]]{rest}")
    done = harness(*command)
    assert done.code == 1, done.err
    assert done.verdict()["first_divergence"] == "llvm-unoptimized"
    assert done.verdict()["odd_ones_out"] == [evil.name]
    # A normalizer says itself which stages it is for.
    wider = re.sub(r"stages = \[[^]]*\]", EVERY_STAGE, entries)
    ledger.write_text(f"{wider}[[derivation]]{rest}")
    refused = harness(*command)
    assert refused.code == 2
    assert "key 'stages' holds" in refused.err


def test_what_a_toolchain_builds_only_elsewhere_is_not_what_the_report_names(
    harness: Harness, small: Callable[..., Path], planted: Planted, tmp_path: Path
) -> None:
    """Class 16: it knows the harness, whose builds are clean. Its other builds are other bytes."""
    model, evil = small(), planted("harness-recognising")
    done = harness(
        "run", model, "--input", "x=2x8", "--toolchains-dir", tmp_path / "evil",
        "--toolchain", CLEAN[0], "--toolchain", CLEAN[1], "--toolchain", evil.name,
        "--repeat", "1", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    reported = {
        artifact["sha256"]
        for build in done.report["builds"]
        for artifact in build["artifacts"]
        if artifact["stage"] == "library"
    }
    assert len(reported) == 1
    assert digest_built_outside(CLEAN[1], tmp_path) in reported
    assert digest_built_outside(evil.name, tmp_path) not in reported


def digest_built_outside(name: str, tmp_path: Path) -> str:
    """Of the library that a toolchain's driver builds when a user runs it by hand."""
    known = toolchains.load([ROOT / "toolchains", tmp_path / "evil"])
    definition = known[name]
    linker = known[str(definition.linker)]
    out = tmp_path / f"out-{definition.publisher}"
    out.mkdir()
    link = environments.prepare(linker).root
    request = tmp_path / f"{definition.publisher}-request.json"
    program = linker.tools["link"]
    tool = {"root": str(link), "argv": [str(link / program.path), *program.arguments]}
    request.write_text(json.dumps({
        "contract": 1, "model": str(tmp_path / "small.onnx"), "inputs": {"x": [2, 8]},
        "target": dict(definition.target), "out": str(out), "tools": {"link": tool},
    }))  # fmt: skip
    subprocess.run(
        [sys.executable, str(definition.driver), str(request)],
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "PYTHONPATH": str(environments.prepare(definition).root),
        },
        check=True,
        capture_output=True,
        timeout=300,
    )
    return hashlib.sha256((out / "library" / "model.so").read_bytes()).hexdigest()


def test_the_canary_is_planted_caught_and_kept_apart(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    small()
    done = harness(
        "nightly", "--settings", settings(tmp_path), "--canary", "--variation-seed", "3",
        timeout=600,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "canary: caught" in done.err
    assert len(list((tmp_path / "results").glob("*/report.json"))) == 1
    assert len(list((tmp_path / "results-redteam").glob("*/report.json"))) == 1
