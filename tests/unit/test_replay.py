"""Replays: recipes, command lines, jobs, and what their results mean. No tool runs here but sh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness import toolchains
from harness.engines.interface import EngineStatus, RunOutcome, RunResult, RunSpec
from harness.environments import Environment
from harness.errors import ToolchainError
from harness.models import Isolation, Limits, Verdict
from harness.replay import (
    Job,
    Recipe,
    Regenerated,
    Replayer,
    command_lines,
    job_for,
    key,
    load_exact,
    load_recipes,
    regenerate,
    result_for,
)
from harness.store import Store
from tests.unit.samples import record, sha, toolchain

RECIPE = Recipe(
    name="graph → object",
    sources=("graph/file",),
    result="object/file",
    steps=(("{llc}", "-mcpu={mcpu}", "{in}/graph/file", "-o", "{out}/made.o"),),
    output="made.o",
    with_="replayer",
)
LLVM = toolchain("llvm/1-b-x86_64", llc="bin/llc")
TARGET = {"mcpu": "x86-64-v3"}


def replayer(root: Path = Path("/nowhere")) -> Replayer:
    return Replayer(LLVM, Environment(root, "e" * 64))


def job(**changes: str) -> Job:
    made = job_for(RECIPE, replayer(), TARGET, {"graph/file": "0" * 64, **changes})
    assert made is not None
    return made


# Recipes -----------------------------------------------------------------------------------------


def test_what_ships_regenerates_objects_and_library() -> None:
    recipes = load_recipes(Path("toolchains/tvm").absolute())
    assert {recipe.stage for recipe in recipes} >= {"object", "library"}
    assert load_recipes(Path("toolchains/llvm").absolute()) == ()


WHOLE = """
[[replay]]
name = "a"
with = "replayer"
sources = ["graph/file"]
result = "object/file"
steps = [["{llc}"]]
output = "made.o"
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('with = "replayer"', 'with = "anything"'),
        ('with = "replayer"', ""),
        ('["graph/file"]', "[]"),
        ('[["{llc}"]]', "[]"),
        ('output = "made.o"', 'output = "made.o"\nmore = 1'),
        ('name = "a"', "name = 1"),
        ("[[replay]]", "[[replays]]"),
        ("[[replay]]", "[[replay"),
        (WHOLE, WHOLE + WHOLE),
        (WHOLE, "\udcff"),
    ],
)
def test_recipes_that_are_wrong(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "replay.toml"
    path.write_text(WHOLE)
    assert len(load_recipes(tmp_path)) == 1
    path.write_bytes(WHOLE.replace(old, new).encode("utf-8", "surrogateescape"))
    with pytest.raises(ToolchainError) as caught:
        load_recipes(tmp_path)
    assert str(path) in caught.value.what
    assert "\n" not in caught.value.what


def test_command_lines_are_filled_in() -> None:
    assert command_lines(RECIPE, LLVM, TARGET, "/t", "/i", "/o") == (
        ("/t/bin/llc", "-mcpu=x86-64-v3", "/i/graph/file", "-o", "/o/made.o"),
    )


def test_a_tool_that_is_a_python_program_is_run_by_the_engines_python() -> None:
    tools = toolchain("llvm/1-b-x86_64", llc="bin/llc.py")
    (line,) = command_lines(RECIPE, tools, TARGET, "/t", "/i", "/o", "/p/python3")
    assert line[:4] == ("/p/python3", "-I", "-S", "/t/bin/llc.py")


def test_which_replayer_has_a_releases_own_llvm(tmp_path: Path) -> None:
    shipped = load_exact(Path("toolchains/tvm").absolute())
    known = toolchains.load([Path("toolchains").absolute()])
    releases = {d.version for d in known.values() if d.compiler == "tvm"}
    assert releases == set(shipped)
    assert set(shipped.values()) <= set(known)
    assert load_exact(tmp_path) == {}
    (tmp_path / "replay.toml").write_text('[exact]\n"1" = "llvm/1-a-x86_64"\n' + WHOLE)
    assert load_exact(tmp_path) == {"1": "llvm/1-a-x86_64"}
    (tmp_path / "replay.toml").write_text("[exact]\n1 = 2\n" + WHOLE)
    with pytest.raises(ToolchainError):
        load_exact(tmp_path)


@pytest.mark.parametrize("word", ["{opt}", "{nothing}/x", "{", "{}", "{in.real}{0}"])
def test_placeholder_that_nothing_fills(word: str) -> None:
    with pytest.raises(ToolchainError):
        command_lines(replace(RECIPE, steps=((word,),)), LLVM, TARGET, "/t", "/i", "/o")


# Jobs --------------------------------------------------------------------------------------------


def test_no_source_no_job() -> None:
    assert job_for(RECIPE, replayer(), TARGET, {"object/file": "0" * 64}) is None


def test_two_jobs_are_one_only_if_all_is_the_same() -> None:
    assert key(job()) == key(job(**{"other/file": "1" * 64}))
    others = [
        job(**{"graph/file": "1" * 64}),
        replace(job(), target=(("mcpu", "x86-64"),)),
        replace(job(), recipe=replace(RECIPE, output="other.o")),
        replace(job(), replayer=Replayer(LLVM, Environment(Path("/nowhere"), "f" * 64))),
    ]
    assert len({key(job()), *map(key, others)}) == 1 + len(others)


# What came out -----------------------------------------------------------------------------------


def made(digest: str | None, detail: str = "") -> Regenerated:
    return Regenerated(digest, detail, (("llc",),), 1.0)


def test_bytes_decide() -> None:
    build = record()
    same = result_for(RECIPE, build, "llvm", job(), made(sha("object")))
    assert same.verdict is Verdict.IDENTICAL
    assert same.expected_sha256 == same.got_sha256 == sha("object")
    other = result_for(RECIPE, build, "llvm", job(), made(sha("Object")))
    assert other.verdict is Verdict.UNEXPLAINED
    assert "does not follow" in other.detail


@pytest.mark.parametrize(
    ("artifacts", "job_made", "result"),
    [
        ({"graph/file": b"graph"}, True, made(sha("object"))),  # nothing to hold it against
        ({"object/file": b"object"}, False, None),  # nothing to start from
        ({"graph/file": b"", "object/file": b"object"}, True, made(None, "llc ended with 1")),
        ({"graph/file": b"", "object/other": b"object"}, True, made(sha("object"))),
    ],
)
def test_what_could_not_be_replayed_is_no_answer(
    artifacts: dict[str, bytes], job_made: bool, result: Regenerated | None
) -> None:
    found = result_for(
        RECIPE, record(artifacts=artifacts), "llvm", job() if job_made else None, result
    )
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detail


class Acting:
    """An engine whose tool is a function: what a tool leaves behind can be anything."""

    name = "acting"
    isolation = Isolation.NONE
    python = "python3"

    def __init__(self, act: Callable[[Path], int]) -> None:
        self._act = act

    def status(self) -> EngineStatus:
        return EngineStatus(True)

    def visible(self, source: Path, target: str) -> str:
        return str(source)

    def run(self, spec: RunSpec) -> RunResult:
        code = self._act(spec.out)
        return RunResult(RunOutcome.EXITED, code, b"\x1b[2Jwords", 0.1, 0.1, 1, spec.argv)


def write(data: bytes, code: int = 0) -> Callable[[Path], int]:
    def act(out: Path) -> int:
        (out / "made.o").write_bytes(data)
        return code

    return act


def link(out: Path) -> int:
    (out.parent / "elsewhere").write_bytes(b"object")
    (out / "made.o").symlink_to(out.parent / "elsewhere")
    return 0


@pytest.mark.parametrize(
    ("act", "verdict", "words"),
    [
        (write(b"object"), Verdict.IDENTICAL, ""),
        (write(b"poison"), Verdict.UNEXPLAINED, "does not follow"),
        (write(b""), Verdict.UNEXPLAINED, "does not follow"),
        (write(b"object", 1), Verdict.INCONCLUSIVE, "llc ended with exited (1)"),
        (lambda _: 0, Verdict.INCONCLUSIVE, "made.o was not made"),
        (link, Verdict.INCONCLUSIVE, "made.o was not made"),
    ],
)
def test_regenerating(
    tmp_path: Path, act: Callable[[Path], int], verdict: Verdict, words: str
) -> None:
    store = Store(tmp_path / "results")
    source = store.add_bytes(b"graph")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    wanted = job_for(RECIPE, replayer(), TARGET, {"graph/file": source})
    assert wanted is not None
    regenerated = regenerate(wanted, Acting(act), store, scratch, Limits())
    assert (scratch / "in" / "graph" / "file").read_bytes() == b"graph"
    found = result_for(RECIPE, record(), "llvm", wanted, regenerated)
    assert found.verdict is verdict
    assert words in found.detail
    assert "\x1b" not in found.detail
