"""The pytest plugin as a team uses it: its own pytest, in its own process, on real toolchains."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import onnx
import pytest

from harness.process import Completed, run
from tests.conftest import CLEAN, EVIL, ROOT, small_model

pytestmark = pytest.mark.integration

HEAD = """
from pathlib import Path
from harness.pytest_plugin import assert_reproducible
CLEAN = {clean!r}
EVIL = {evil!r}
OPTIONS = dict(
    inputs={{"x": (2, 8)}}, engine="sandbox", repeat=1,
    toolchain_folders=(Path("toolchains").absolute(),),
)
"""


def called(folder: Path, body: str, attack: str = "") -> Completed:
    """A pytest on a file with ``body``, beside ``model.onnx``; only the harness's plugin is in."""
    onnx.save(small_model(f"attack={attack};" if attack else ""), folder / "model.onnx")
    (folder / "pytest.ini").write_text("[pytest]\n")
    text = HEAD.format(clean=list(CLEAN[:2]), evil=EVIL)
    (folder / "test_release.py").write_text(text + body)
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "pytest", "-p", "harness.pytest_plugin", "-p", "no:cacheprovider",
        "--color=no", "test_release.py",
    ]  # fmt: skip
    return run(command, env=environment, cwd=folder, timeout=300)


def test_clean_toolchains_pass_and_the_report_can_be_looked_at(tmp_path: Path, evil: Path) -> None:
    done = called(
        tmp_path,
        """
def test_release():
    report = assert_reproducible("model.onnx", toolchains=CLEAN, **OPTIONS)
    assert report.verdict == "EXPLAINED"
    assert {build.toolchain for build in report.builds} == set(CLEAN)
    assert all(replay.verdict == "IDENTICAL" for replay in report.replays) and report.replays
    assert Path("results", report.run, "report.json").is_file()
""",
    )
    assert done.exit_code == 0, done.output
    assert "1 passed" in done.output


def test_a_compromised_toolchain_fails_and_the_failure_says_which(
    tmp_path: Path, evil: Path
) -> None:
    done = called(
        tmp_path,
        """
def test_release():
    assert_reproducible(Path("model.onnx"), [*CLEAN, EVIL], **OPTIONS)
""",
        "flip assembly/module.s 0.3",
    )
    assert done.exit_code == 1, done.output
    lines = [line.removeprefix("E").strip() for line in done.output.splitlines()]
    head = f"model: UNEXPLAINED; first divergence: assembly; odd one out: {EVIL}"
    assert f"AssertionError: {head}" in lines
    (run_folder,) = (path.parent for path in (tmp_path / "results").glob("*/report.json"))
    command = f"harness diff {run_folder.name} model assembly {CLEAN[0]} {EVIL}"
    assert f"see it:  {command}" in lines
    assert f"results: {tmp_path / 'results'}" in lines
    assert any("do not release" in line for line in lines)
    # The team's own line is shown, the harness's insides are not.
    assert any(line.startswith("> ") and "assert_reproducible(" in line for line in
               done.output.splitlines())  # fmt: skip
    assert "audit.run(" not in done.output
    assert "pytest_plugin.py" not in done.output


def test_no_answer_fails_with_its_reason(tmp_path: Path, evil: Path) -> None:
    done = called(
        tmp_path,
        """
def test_malformed():
    assert_reproducible("model.onnx", [CLEAN[0], EVIL], out="elsewhere", **OPTIONS)

def test_judged_by_the_team(harness_audit, tmp_path):
    report = harness_audit("model.onnx", [EVIL], **OPTIONS)
    assert report.verdict == "INCONCLUSIVE"
    assert (tmp_path / "results" / report.run).is_dir()

def test_unknown():
    assert_reproducible("model.onnx", ["tvm/none"], **OPTIONS)

def test_nothing_to_compare():
    assert_reproducible("model.onnx", [], **OPTIONS)

def test_no_model():
    assert_reproducible("absent.onnx", CLEAN, **OPTIONS)

def test_a_mistake_is_no_finding():
    assert_reproducible("model.onnx", CLEAN, spelling="wrong")
""",
        "hostile nothing",
    )
    assert done.exit_code == 1, done.output
    assert "5 failed, 1 passed" in done.output
    head = f"model: INCONCLUSIVE; model/{EVIL}/control: malformed-output: left no manifest.json"
    assert head in done.output
    assert "This is not a pass" in done.output
    assert "(add --out elsewhere to the command)" in done.output
    assert "model.onnx: INCONCLUSIVE, there is no answer: " in done.output
    assert "tvm/none" in done.output
    assert "no list of toolchains was given. Name one or more" in done.output
    assert "absent.onnx: INCONCLUSIVE, there is no answer: " in done.output
    assert "TypeError" in done.output
    assert "spelling" in done.output


def test_loading_it_costs_nothing_and_takes_nothing_of_pytests_insides(tmp_path: Path) -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import harness.pytest_plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
    )
    assert done.output.split() == ["harness", "harness.pytest_plugin"]
    text = (ROOT / "harness" / "pytest_plugin.py").read_text("utf-8")
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        assert not any(name.startswith("_pytest") for name in names)
