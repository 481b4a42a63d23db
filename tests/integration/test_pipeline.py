"""The main job through the real command: real TVM, real sandboxes, an independent LLVM.

Attacks are planted by an overlay on a clean toolchain (tests/assets/overlay), never by changing
the harness.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import CLEAN, EVIL, ROOT, Harness

pytestmark = pytest.mark.integration

STAGES = (
    "simplified",
    "graph",
    "tensor-ir",
    "bytecode",
    "constants",
    "llvm-unoptimized",
    "llvm",
    "assembly",
    "object",
    "library",
)
REPLAYS = (
    "llvm-unoptimized → object",
    "llvm → object",
    "object → library",
    "llvm → assembly",
)
ARTIFACTS = (
    "simplified/model.onnx",
    "graph/module.py",
    "tensor-ir/module.py",
    "bytecode/executable.txt",
    "constants/00000.bin",
    "constants/index.json",
    "llvm-unoptimized/module.ll",
    "llvm/module.ll",
    "assembly/module.s",
    "object/lib0.o",
    "object/devc.o",
    "library/model.so",
)
# Two clean toolchains and the compromised one, so that an odd one out can be told.
THREE = ("--toolchain", CLEAN[0], "--toolchain", CLEAN[1], "--toolchain", EVIL)


def test_clean_toolchains_agree_and_every_stage_is_accounted_for(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    done = harness("run", small(), "--input", "x=2x8", "--json")
    assert done.code == 0, done.err
    report = done.report
    jsonschema.validate(
        report, json.loads((ROOT / "harness/reports/report.schema.json").read_text("utf-8"))
    )
    assert {toolchain["name"] for toolchain in report["toolchains"]} == set(CLEAN)
    assert len(report["builds"]) == 6
    assert [stage["stage"] for stage in done.verdict()["stages"]] == list(STAGES)
    for stage in done.verdict()["stages"]:
        explained = stage["stage"] in ("graph", "tensor-ir", "llvm-unoptimized", "llvm")
        assert stage["verdict"] == ("EXPLAINED" if explained else "IDENTICAL"), stage
    assert len(report["replays"]) == 6 * len(REPLAYS)
    assert {replay["verdict"] for replay in report["replays"]} == {"IDENTICAL"}
    assert {replay["name"] for replay in report["replays"]} == set(REPLAYS)
    # Kept, and shown again with the same exit code.
    shown = harness("show", "latest")
    assert shown.code == 0
    assert all(len(line) <= 100 for line in shown.out.splitlines() if "report:" not in line)
    assert harness("show").out.split() == [report["run"], "EXPLAINED"]
    assert not list((tmp_path / "results").glob("*/scratch"))


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_one_flipped_bit_is_found_at_its_stage_and_its_toolchain_named(
    harness: Harness, small: Callable[..., Path], evil: Path, artifact: str
) -> None:
    done = harness(
        "run", small(f"flip {artifact} 0.3"), "--input", "x=2x8", "--toolchains-dir", evil, *THREE,
        "--repeat", "1", "--json",
    )  # fmt: skip
    assert done.code == 1, done.err
    stage = artifact.partition("/")[0]
    assert done.verdict()["first_divergence"] == stage
    assert done.verdict()["odd_ones_out"] == [EVIL]
    assert done.stage(stage)["verdict"] == "UNEXPLAINED"
    others = {s["stage"]: s["verdict"] for s in done.verdict()["stages"] if s["stage"] != stage}
    # A dump that alone was changed also fails the replays that start from it.
    downstream = {
        "llvm-unoptimized": {"object"},
        "llvm": {"object", "assembly"},
        "object": {"library"},
    }.get(stage, set())
    assert {name for name, verdict in others.items() if verdict == "UNEXPLAINED"} <= downstream


def test_lying_dumper_is_caught_by_replay(
    harness: Harness, small: Callable[..., Path], evil: Path
) -> None:
    """Every dump is clean; the object and, consistently, the library are not."""
    model = small("lying-dumper 0.3")
    done = harness("run", model, "--input", "x=2x8", "--toolchains-dir", evil, *THREE, "--json")
    assert done.code == 1, done.err
    assert done.verdict()["first_divergence"] == "object"
    assert done.verdict()["odd_ones_out"] == [EVIL]
    assert done.stage("object")["replays"] == dict.fromkeys(REPLAYS[:2], "UNEXPLAINED")
    # Its linker was honest: the library does follow from the poisoned object.
    assert done.stage("library")["replays"] == {REPLAYS[2]: "IDENTICAL"}


def test_lying_dumper_is_caught_with_no_other_toolchain_to_compare_with(
    harness: Harness, small: Callable[..., Path], evil: Path
) -> None:
    done = harness(
        "run", small("lying-dumper 0.3"), "--input", "x=2x8", "--toolchains-dir", evil,
        "--toolchain", EVIL, "--json",
    )  # fmt: skip
    assert done.code == 1, done.err
    assert done.stage("object")["comparisons"] == {"repeat": "IDENTICAL"}
    assert done.stage("object")["verdict"] == "UNEXPLAINED"
    assert done.verdict()["odd_ones_out"] == [EVIL]


def test_exchanged_constants_of_one_shape_are_found_in_the_graph(
    harness: Harness, small: Callable[..., Path], evil: Path
) -> None:
    """The printed graph names constants by index: only their digests tell them apart."""
    model = small("swap-constants")
    done = harness("run", model, "--input", "x=2x8", "--toolchains-dir", evil, *THREE, "--json")
    assert done.code == 1, done.err
    assert done.verdict()["first_divergence"] == "graph"
    assert done.verdict()["odd_ones_out"] == [EVIL]
    shown = harness(
        "diff", "latest", "small", "graph", CLEAN[1], EVIL, "--normalized"
    )  # fmt: skip
    assert shown.code == 1
    assert "sha256:" in shown.out


@pytest.mark.parametrize(
    ("attack", "cause"),
    [
        ("flip-if-host assembly/module.s 0.3", ["host-name"]),
        ("flip-if-user-and-zone assembly/module.s 0.3", ["user", "time-zone"]),
        ("flip-by-chance assembly/module.s", []),
    ],
)
def test_what_makes_repeats_differ_is_found_by_bisection(
    harness: Harness, small: Callable[..., Path], evil: Path, attack: str, cause: list[str]
) -> None:
    done = harness(
        "run", small(attack), "--input", "x=2x8", "--toolchains-dir", evil,
        "--toolchain", EVIL, "--json",
    )  # fmt: skip
    assert done.code == 1, done.err
    assert done.stage("assembly")["comparisons"] == {"repeat": "NONDETERMINISTIC"}
    assert done.verdict()["odd_ones_out"] == [EVIL]
    (bisection,) = done.report["bisections"]
    assert bisection["cause"] == cause
    assert bisection["stage"] == "assembly"


HOSTILE = {
    "nothing": ("malformed-output", "left no manifest.json"),
    "big": ("limit-exceeded", "wrote more than 200000000 bytes"),
    "many": ("limit-exceeded", "wrote more than 2000 files"),
    "link": ("malformed-output", "llvm/module.ll is a link, not a file"),
    "fifo": ("malformed-output", "llvm/module.ll is a special file, not a file"),
    "dots": ("malformed-output", "artifact name '../../x' is not allowed"),
    "unlisted": ("malformed-output", "llvm/extra is there but not listed"),
    "manifest": ("malformed-output", "manifest.json is broken"),
    "escapes": ("failed", "exit code 7"),
    "forks": ("limit-exceeded", "started more than 64 processes"),
    "sleeps": ("timed-out", "did not finish within 5 s"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_toolchain_is_inconclusive_and_harms_nothing(
    harness: Harness, small: Callable[..., Path], evil: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "sleeps":
        definition = evil / "tvm" / "0.27.0-evil-x86_64.toml"
        text = definition.read_text()
        definition.write_text(text.replace("wall_seconds = 60", "wall_seconds = 5"))
    done = harness(
        "run", small(f"hostile {kind}"), "--input", "x=2x8", "--toolchains-dir", evil,
        "--toolchain", EVIL, "--toolchain", CLEAN[1], "--repeat", "1", "--json",
    )  # fmt: skip
    assert done.code == 2, done.err
    outcome, words = HOSTILE[kind]
    records = {build["id"]: build for build in done.report["builds"]}
    bad = [build for name, build in records.items() if EVIL in name]
    assert [build["outcome"] for build in bad] == [outcome]
    assert all(words in build["detail"] for build in bad), bad[0]["detail"]
    # The other toolchain's builds are whole, and nothing was stored of the hostile one's.
    good = [build for name, build in records.items() if CLEAN[1] in name]
    assert [build["outcome"] for build in good] == ["built"]
    assert all(not build["artifacts"] for build in bad)
    assert not list((tmp_path / "results").glob("*/scratch"))
    assert not (tmp_path / "x").exists()
    # One readable line, and nothing that acts on a terminal.
    assert any(words in reason.replace("\n", " ") or outcome in reason
               for reason in done.verdict()["reasons"])  # fmt: skip
    for text in (done.out, done.err, harness("show", "latest").out):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "Traceback" not in text


def test_a_bad_model_does_not_keep_the_others_from_being_built(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    import onnx
    from onnx import TensorProto, helper

    good = small()
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")],
        "unknown",
        [value("x", TensorProto.FLOAT, [2, 8])],
        [value("y", TensorProto.FLOAT, [2, 8])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "unknown.onnx"
    )
    (tmp_path / "nightly.toml").write_text(
        f'toolchains = ["{CLEAN[1]}"]\nreplayers = ["llvm/22.1.8-xtc-x86_64"]\n'
        f'[[model]]\nname = "unknown"\npath = "unknown.onnx"\n'
        f'[[model]]\nname = "good"\npath = "{good.name}"\ninputs = ["x=2x8"]\n'
    )
    done = harness("nightly", "--json")
    assert done.code == 2, done.err
    verdicts = {verdict["model"]: verdict for verdict in done.report["verdicts"]}
    assert verdicts["good"]["verdict"] == "EXPLAINED"
    assert verdicts["unknown"]["verdict"] == "INCONCLUSIVE"
    assert any("Frobnicate" in reason for reason in verdicts["unknown"]["reasons"])
    assert "Traceback" not in "".join(verdicts["unknown"]["reasons"])


def test_nightly_out_of_the_box(harness: Harness, tmp_path: Path) -> None:
    """magika and ppocr-cls, three releases, two builds each: what the README promises."""
    done = harness("nightly", "--settings", ROOT / "nightly.toml", "--json", timeout=900)
    assert done.code == 0, done.err
    assert {model["name"] for model in done.report["models"]} == {"magika", "ppocr-cls"}
    assert len(done.report["builds"]) == 12
    for number in range(2):
        for name in ("simplified", "constants", "bytecode", "assembly", "object", "library"):
            assert done.stage(name, number)["verdict"] == "IDENTICAL"
        for name in ("llvm-unoptimized", "llvm"):
            assert done.stage(name, number)["comparisons"] == {
                "repeat": "EXPLAINED",
                "version": "EXPLAINED",
            }
        for name in ("graph", "tensor-ir"):
            assert done.stage(name, number)["comparisons"] == {
                "repeat": "IDENTICAL",
                "version": "EXPLAINED",
            }
    newer = {  # the two 0.27s print alike; only against 0.26.0 does a spelling differ
        (result["comparison"]["stage"], result["verdict"])
        for result in done.report["comparisons"]
        if result["comparison"]["kind"] == "version" and "0.26.0" not in str(result["comparison"])
    }
    assert newer >= {("graph", "IDENTICAL"), ("tensor-ir", "IDENTICAL")}
    assert len(done.report["replays"]) == 12 * len(REPLAYS)
    assert {replay["verdict"] for replay in done.report["replays"]} == {"IDENTICAL"}
