"""The command: exit codes, one clear line for each mistake, and help as it is documented."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from harness import cli
from harness.errors import StoreError
from harness.models import Report, Verdict
from harness.store import Store
from tests.unit.samples import STAGES, agreeing, names, report, twice

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "toolchains" / "README.md")
LEFT, RIGHT, THIRD = names(3)


def call(*words: object) -> Result:
    return CliRunner().invoke(
        cli.main, list(map(str, words)), prog_name="harness", terminal_width=80
    )


def one_line(result: Result) -> str:
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    return lines[0]


# What is documented ------------------------------------------------------------------------------


def documented_help() -> Iterator[tuple[str, str]]:
    """(command line, text) of every fenced block that begins with ``$ harness … --help``."""
    for document in DOCUMENTS:
        for block in re.findall(r"^```\w*\n(.*?)^```", document.read_text("utf-8"), re.M | re.S):
            first, _, text = block.partition("\n")
            if re.fullmatch(r"\$ (\S*/)?harness( \S+)* --help", first):
                yield first.removeprefix("$ "), text


def test_help_is_as_documented() -> None:
    blocks = list(documented_help())
    assert blocks, "no document shows the help of any command"
    for line, text in blocks:
        shown = call(*shlex.split(line)[1:])
        assert shown.exit_code == 0
        assert shown.stdout.strip() == text.strip(), f"{line} is documented differently"


def test_commands_and_options_that_documents_name_exist() -> None:
    known = {name for command in commands(cli.main) for p in command.params for name in p.opts}
    known |= {"--help", "--version", "--jobs"}
    for document in DOCUMENTS:
        for words in re.findall(r"`(--[a-z][a-z-]+)", document.read_text("utf-8")):
            assert words in known, f"{document.name} names {words}"


def commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner)


def test_every_command_and_option_has_help() -> None:
    for command in commands(cli.main):
        assert command.help
        for parameter in command.params:
            assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_HARNESS_COMPLETE" in call("completion", shell).stdout


# Showing a finished run --------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results"


def save(out: Path, verdict: Verdict = Verdict.IDENTICAL, run: str = "run") -> Report:
    store = Store(out)
    for stage in STAGES:
        store.add_bytes(stage.encode())
    records = twice(LEFT, RIGHT, THIRD)
    whole = report(records, agreeing(records, verdict), run=run)
    store.save_report(whole)
    return whole


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_show_ends_with_the_verdicts_code(out: Path, verdict: Verdict, form: list[str]) -> None:
    save(out, verdict)
    shown = call("show", "run", "--out", out, *form)
    assert shown.exit_code == verdict.exit_code
    if form:
        assert json.loads(shown.stdout)["verdict"] == verdict
    assert call("show", "latest", "--out", out, *form).stdout == shown.stdout


def test_show_of_a_run_that_is_not_complete_is_no_answer(out: Path) -> None:
    Store(out).save_report(replace(save(out), complete=False))
    assert call("show", "run", "--out", out).exit_code == 2


def test_show_lists_runs_oldest_first(out: Path) -> None:
    save(out, Verdict.UNEXPLAINED, "2026-b")
    save(out, run="2026-a")
    shown = call("show", "--out", out)
    assert (shown.exit_code, shown.stdout) == (0, "2026-a  IDENTICAL\n2026-b  UNEXPLAINED\n")


def test_a_damaged_report_keeps_no_other_from_being_listed(out: Path) -> None:
    for run in ("2026-a", "2026-b", "2026-c"):
        save(out, run=run)
    (out / "2026-b" / "report.json").write_bytes(b"{")
    shown = call("show", "--out", out)
    assert (shown.exit_code, shown.stdout) == (2, "2026-a  IDENTICAL\n2026-c  IDENTICAL\n")
    assert shown.stderr.startswith("2026-b  cannot be read: ")


def test_what_cannot_be_shown_is_one_line(out: Path) -> None:
    assert "no finished run" in one_line(call("show", "latest", "--out", out))
    save(out)
    assert "nothing" in one_line(call("show", "nothing", "--out", out))
    assert "not the name of a run" in one_line(call("show", "../run", "--out", out))
    path = out / "run" / "report.json"
    path.write_bytes(path.read_bytes()[:-50])
    assert "not a record of this harness" in one_line(call("show", "run", "--out", out))
    path.write_bytes(b"\xff" * 10)
    assert "not a record of this harness" in one_line(call("show", "run", "--out", out))


# Differences -------------------------------------------------------------------------------------


def diff(out: Path, *words: str) -> Result:
    return call("diff", "run", *words, "--out", out)


def test_diff_of_equal_and_of_other_bytes(out: Path) -> None:
    whole = save(out)
    same = diff(out, "m", "graph", LEFT, f"{RIGHT}/varied")
    assert (same.exit_code, same.stdout[:14]) == (0, "= graph/file: ")
    digest = Store(out).add_bytes(b"gr\x1b[2Japh\n")
    builds = [
        replace(b, artifacts=(replace(b.artifacts[0], sha256=digest), *b.artifacts[1:]))
        if b.toolchain == RIGHT else b for b in whole.builds
    ]  # fmt: skip
    Store(out).save_report(replace(whole, builds=tuple(builds)))
    found = diff(out, "m", "graph", LEFT, RIGHT)
    assert found.exit_code == 1
    assert "+gr\\x1b[2Japh" in found.stdout
    assert "\x1b" not in found.stdout
    assert diff(out, "m", "graph", LEFT, RIGHT, "--normalized").exit_code == 1
    assert diff(out, "m", "graph", LEFT, RIGHT, "--lines", "1").exit_code == 1


def test_diff_of_what_only_one_side_has(out: Path) -> None:
    whole = save(out)
    builds = [replace(b, artifacts=b.artifacts[1:]) if b.toolchain == RIGHT else b
              for b in whole.builds]  # fmt: skip
    Store(out).save_report(replace(whole, builds=tuple(builds)))
    for sides in ((LEFT, RIGHT), (RIGHT, LEFT)):
        found = diff(out, "m", "graph", *sides)
        assert found.exit_code == 1
        assert f"only in m/{LEFT}/control\n" in found.stdout


def test_diff_of_any_two_files_or_folders(tmp_path: Path) -> None:
    for side, text in (("a", "one\ntwo\n"), ("b", "one\n2\n")):
        (tmp_path / side).mkdir()
        (tmp_path / side / "same").write_text("x\n")
        (tmp_path / side / "other\x1b[2J").write_text(text)
    one, other = (tmp_path / side / "other\x1b[2J" for side in "ab")
    found = call("diff", one, other)
    assert found.exit_code == 1
    assert "-two" in found.stdout
    assert "\x1b" not in found.stdout
    assert call("diff", one, one).exit_code == 0
    folders = call("diff", tmp_path / "a", tmp_path / "b", "--json")
    assert folders.exit_code == 1
    plain = json.loads(folders.stdout)
    assert plain["same"] is False
    assert [file["name"] for file in plain["files"] if not file["same"]] == ["other\\x1b[2J"]
    assert call("diff", tmp_path / "a", tmp_path / "a").exit_code == 0
    assert "nowhere" in one_line(call("diff", one, tmp_path / "nowhere"))
    one_line(call("diff", one, tmp_path / "b"))
    one_line(call("diff", one, other, one))


@pytest.mark.parametrize("form", ["json", "junit", "sarif", "markdown", "html"])
def test_show_in_every_form_keeps_the_exit_code(out: Path, form: str) -> None:
    for verdict, code in ((Verdict.IDENTICAL, 0), (Verdict.UNEXPLAINED, 1)):
        save(out, verdict)
        shown = call("show", "run", "--out", out, "--format", form)
        assert shown.exit_code == code, shown.output
        assert verdict.value in shown.stdout or form == "sarif"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("n", "graph", LEFT, RIGHT), "'n'"),
        (("m", "library", LEFT, RIGHT), "'library'"),
        (("m", "graph", LEFT, "tvm/\x1b[2J"), "tvm/\\\\x1b[2J"),
    ],
)
def test_diff_of_what_is_not_there(out: Path, words: tuple[str, ...], named: str) -> None:
    save(out)
    assert named in one_line(diff(out, *words))


def test_diff_of_a_damaged_artifact_is_no_answer(out: Path) -> None:
    whole = save(out)
    builds = [
        replace(b, artifacts=(replace(b.artifacts[0], sha256="0" * 64), *b.artifacts[1:]))
        if b.toolchain == RIGHT else b for b in whole.builds
    ]  # fmt: skip
    Store(out).save_report(replace(whole, builds=tuple(builds)))
    one_line(diff(out, "m", "graph", LEFT, RIGHT))


# Mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "m.onnx", "--jobs", "0"],
        ["run", "m.onnx", "--repeat", "0"],
        ["run", "m.onnx", "--engine", "none"],
        ["run", "m.onnx", "--variation-seed", "-1"],
        ["run", "m.onnx", "--unknown"],
        ["nightly", "--settings", "/nowhere/nightly.toml"],
        ["run", "m.onnx", "--input", "x=1", "--input", "x=2"],
        ["run", "m.onnx", "--input", "x"],
        ["diff", "run"],
        ["unknown"],
        ["completion", "powershell"],
        ["toolchains", "unknown"],
    ],
)
def test_mistakes_are_no_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*words)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_resuming_what_never_began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("run", "m.onnx", "--resume", "typo\x1b[2J", "--quiet", "--engine", "plain")
    assert "no run 'typo\\\\x1b[2J'" in one_line(result)
    assert not list(tmp_path.rglob("typo*"))


@pytest.mark.parametrize("error", [KeyError("\x1b[2J"), RecursionError(), MemoryError(), OSError()])
def test_our_own_failure_is_never_a_finding(
    monkeypatch: pytest.MonkeyPatch, out: Path, error: Exception
) -> None:
    """Python's exit code for an exception is 1, which here means a finding. A bug is planted."""

    def fails(*_: object) -> list[str]:
        raise error

    monkeypatch.setattr(Store, "runs", fails)
    for debug in ("", "1"):
        monkeypatch.setenv("HARNESS_DEBUG", debug)
        result = call("show", "--out", out)
        assert result.exit_code == 2
        assert "\x1b" not in result.output
        assert ("Traceback" in result.stderr) == bool(debug)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StoreError("what", "hint")])
def test_interrupts_and_errors_are_no_answer(
    monkeypatch: pytest.MonkeyPatch, out: Path, error: BaseException
) -> None:
    def fails(*_: object) -> list[str]:
        raise error

    monkeypatch.setattr(Store, "runs", fails)
    assert call("show", "--out", out).exit_code == 2


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.slow
def test_reader_that_goes_away_makes_no_finding(out: Path, form: list[str]) -> None:
    """``harness show | head -1``: not 1, and no complaint of Python's."""
    save(out)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "harness", "show", "run", "--out", out, *form],
        cwd=ROOT, stdout=write, stderr=subprocess.PIPE, check=False, timeout=60,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (2, b"")
