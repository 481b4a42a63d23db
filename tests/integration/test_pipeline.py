"""The main job through the real command: real TVM, real sandboxes, an independent LLVM.

Attacks are planted by an overlay on a clean toolchain (tests/assets/overlay), never by changing
the harness.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from harness import toolchains
from harness.environments import prepare
from harness.packages import cache_folder
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
    # Runs only where an explanation between two toolchains may need it, or the policy asks.
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
    for build in report["builds"]:
        # By the kernel's clock, also where the build's own was another one.
        assert set(build["stage_ends"]) == set(STAGES)
        assert 0 < max(build["stage_ends"].values()) <= build["wall_seconds"] + 1
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


def test_one_flipped_bit_that_no_replay_notices_is_found(
    harness: Harness, small: Callable[..., Path], evil: Path
) -> None:
    """In the comment that begins the optimised IR: the object follows from it all the same."""
    done = harness(
        "run", small("flip llvm/module.ll 0.0001"), "--input", "x=2x8", "--toolchains-dir", evil,
        *THREE, "--json",
    )  # fmt: skip
    assert done.code == 1, done.err
    assert {replay["verdict"] for replay in done.report["replays"]} == {"IDENTICAL"}
    assert done.verdict()["first_divergence"] == "llvm"
    assert done.verdict()["odd_ones_out"] == [EVIL]
    assert done.stage("llvm")["comparisons"]["rebuild"] == "UNEXPLAINED"
    assert done.stage("llvm")["comparisons"]["version"] == "UNEXPLAINED"


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


def only_known_environments(tmp_path: Path) -> dict[str, str]:
    """Environment variables for a cache of one's own that has the prepared toolchains, no more."""
    own = tmp_path / "cache" / "ml-compiler-harness"
    own.mkdir(parents=True)
    (own / "environments").symlink_to(cache_folder() / "environments")
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_replays_are_remembered_and_say_so(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    env = only_known_environments(tmp_path)
    command = ("run", small(), "--input", "x=2x8", "--toolchain", CLEAN[0])
    first = harness(*command, "--json", env=env, fresh=False)
    assert first.code == 0, first.err
    assert {replay["remembered"] for replay in first.report["replays"]} == {None}
    again = harness(*command, "--json", env=env, fresh=False)
    assert again.code == 0, again.err
    # Each is run again by chance, one in sixteen.
    assert any(replay["remembered"] for replay in again.report["replays"])
    for one, other in zip(first.report["replays"], again.report["replays"], strict=True):
        assert (one["got_sha256"], one["verdict"]) == (other["got_sha256"], other["verdict"])
    assert " of an earlier run" in harness("show", "latest").out
    fresh = harness(*command, "--json", env=env)
    assert {replay["remembered"] for replay in fresh.report["replays"]} == {None}


def test_a_remembered_replay_never_excuses_a_finding(
    harness: Harness, small: Callable[..., Path], evil: Path, tmp_path: Path
) -> None:
    """The same program as a clean run's, whose replays are all known, and another object."""
    env = only_known_environments(tmp_path)
    model = small("lying-dumper 0.3")
    common = ("run", model, "--input", "x=2x8", "--toolchains-dir", evil, "--json")
    clean = harness(*common, "--toolchain", CLEAN[1], env=env, fresh=False)
    assert clean.code == 0, clean.err
    done = harness(*common, "--toolchain", EVIL, env=env, fresh=False)
    assert done.code == 1, done.err
    found = [r for r in done.report["replays"] if r["stage"] == "object"]
    assert {(r["verdict"], r["remembered"]) for r in found} == {("UNEXPLAINED", None)}


def test_a_poisoned_memory_of_replays_ends_the_run(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    env = only_known_environments(tmp_path)
    command = ("run", small(), "--input", "x=2x8", "--toolchain", CLEAN[0], "--quiet")
    assert harness(*command, env=env, fresh=False).code == 0
    entries = list((tmp_path / "cache").glob("ml-compiler-harness/replays/*/*.json"))
    assert len(entries) == len(REPLAYS) - 1  # one toolchain alone needs no assembly
    for entry in entries:
        content = json.loads(entry.read_bytes())
        entry.write_text(json.dumps(content | {"sha256": "0" * 64}))
    done = harness(*command, env=env, fresh=False)
    assert done.code == 2
    assert "says that" in done.err
    assert "but it makes" in done.err
    assert len(done.err.strip().splitlines()) == 2, done.err
    assert harness(*command, env=env).code == 0


def test_an_environment_that_was_changed_ends_the_run_before_it_is_used(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    env = only_known_environments(tmp_path)
    link = tmp_path / "cache" / "ml-compiler-harness" / "environments"
    copy = tmp_path / "copy"
    definitions = toolchains.load([ROOT / "toolchains"])
    linker = prepare(definitions[str(definitions[CLEAN[0]].linker)]).root.parent
    copy.mkdir()
    for place in link.resolve().iterdir():
        if place != linker and place.is_dir():
            (copy / place.name).symlink_to(place)
    shutil.copytree(linker, copy / linker.name, symlinks=True)
    link.unlink()
    link.symlink_to(copy)
    victim = copy / linker.name / "root" / "sysroot" / "lib" / "libm.so.6"
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x7f")
    command = ("run", small(), "--input", "x=2x8", "--toolchain", CLEAN[0], "--quiet")
    done = harness(*command, env=env)
    assert done.code == 2
    assert "'sysroot/lib/libm.so.6' was changed" in done.err
    assert len(done.err.strip().splitlines()) == 2, done.err
    assert not list((tmp_path / "results").glob("*/builds/*"))


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
