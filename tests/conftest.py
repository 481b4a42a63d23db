"""Fixtures that every test may use: the command as a user calls it, and small real models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
CLEAN = ("tvm/0.27.0.post1-pypi-x86_64", "tvm/0.27.0-pypi-x86_64", "tvm/0.26.0-pypi-x86_64")
EVIL = "tvm/0.27.0-evil-x86_64"

# The same examples in every run, so that a failure is of this change. In depth: many, and others.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile("deep", max_examples=5000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--strict-skips", action="store_true", help="a skipped test is a failure (for CI)"
    )


def pytest_configure() -> None:
    """A shell that starts us in the background has SIGINT ignored in us and in all we start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.skipped and item.config.getoption("--strict-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and nothing may be skipped here: {report.longrepr}"
    return report


@dataclass(frozen=True)
class Called:
    """A finished call of the command."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    def verdict(self, model: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.report["verdicts"][model]
        return found

    def stage(self, name: str, model: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = next(
            stage for stage in self.verdict(model)["stages"] if stage["stage"] == name
        )
        return found


Harness = Callable[..., Called]


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    """Call the command: ``harness("run", model, …, env={…}, timeout=…)``, in ``tmp_path``.

    Builds run in the embedded engine unless the call says otherwise, and every replay runs unless
    it says ``fresh=False``.
    """

    def call(
        *args: object,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
        fresh: bool = True,
    ) -> Called:
        words = [str(argument) for argument in args]
        if words[0] in ("run", "nightly") and "--engine" not in words:
            words += ["--engine", "sandbox"]
        if words[0] in ("run", "nightly") and fresh:
            words += ["--fresh"]
        done = subprocess.run(
            [sys.executable, "-m", "harness", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return Called(done.returncode, done.stdout.decode(), done.stderr.decode())

    return call


def small_model(doc: str = "") -> onnx.ModelProto:
    """Two dense layers with a Relu between, two inputs of each layer of the same shape: 8 → 8 → 4.

    Weights are fixed; ``doc`` becomes the graph's doc string, which no compiler looks at.
    """
    source = np.random.default_rng(7)

    def tensor(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(source.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Add", ["a", "b1"], ["b"]),
        helper.make_node("Mul", ["b", "s1"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [tensor("w1", 8, 8), tensor("b1", 8), tensor("s1", 8), tensor("w2", 8, 4)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.doc_string = doc
    return model


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Path]:
    """``small()`` → path of the small model; ``small("attack words")`` → with an attack in it."""

    def write(attack: str = "") -> Path:
        path = tmp_path / "small.onnx"
        onnx.save(small_model(f"attack={attack};" if attack else ""), path)
        return path

    return write


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A toolchains folder with one compromised toolchain: an overlay on a clean one."""
    folder = tmp_path / "toolchains"
    (folder / "tvm").mkdir(parents=True)
    overlay = folder / "tvm" / "overlay"
    overlay.mkdir()
    code = (ROOT / "tests" / "assets" / "overlay" / "sitecustomize.py").read_bytes()
    (overlay / "sitecustomize.py").write_bytes(code)
    (folder / "tvm" / "0.27.0-evil-x86_64.toml").write_text(
        'base = "tvm/0.27.0-pypi-x86_64"\noverlay = "overlay"\npublisher = "evil"\n'
        "[limits]\nwall_seconds = 60\nmemory_bytes = 8_000_000_000\nprocesses = 64\n"
        "output_bytes = 200_000_000\noutput_files = 2_000\n"
    )
    return folder
