"""What a build left behind is an attacker's: exactly what its manifest says, or nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.build import (
    MAX_MANIFEST_BYTES,
    MalformedOutputError,
    _collect,
    _files,
    last_lines,
    read_manifest,
    stage_ends,
)
from harness.models import Artifact, Limits
from harness.plan import Build
from harness.store import Store
from harness.variations import control
from tests.unit.samples import MODEL, sha, toolchain
from tests.unit.test_store import nobodys_folder, put

BUILD = Build(MODEL, toolchain("tvm/1-a-x86_64"), control())
LIMITS = Limits(output_files=100, output_bytes=10_000)


def manifest(**changes: Any) -> dict[str, Any]:
    stages = [
        {"name": "graph", "artifacts": ["module.py"]},
        {"name": "object", "artifacts": ["lib0.o", "deep/er/file.o"]},
    ]
    return {"contract": 1, "compiler": "tvm", "version": "1", "stages": stages, **changes}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    for name in ("graph/module.py", "object/lib0.o", "object/deep/er/file.o"):
        put(folder / name, name.encode())
    say(folder, manifest())
    return folder


def say(out: Path, content: object) -> None:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (out / "manifest.json").write_bytes(text)


def refused(out: Path, limits: Limits = LIMITS) -> str:
    with pytest.raises(MalformedOutputError) as caught:
        read_manifest(out, BUILD, limits)
    words = str(caught.value)
    assert words.isprintable()
    assert len(words) < 500
    return words


def test_the_times_of_stages_are_those_of_their_newest_files(out: Path) -> None:
    found = read_manifest(out, BUILD, LIMITS)
    for name, at in (
        ("graph/module.py", 1001.5),
        ("object/lib0.o", 1004),
        ("object/deep/er/file.o", 3),
    ):
        os.utime(out / name, (at, at))
    assert stage_ends(found, out, 1000, 1005) == {"graph": 1.5, "object": 4.0}
    # A time outside the run was set by a program; the kernel's may be a tick too early.
    assert stage_ends(found, out, 1000, 1003) == {"graph": 1.5}
    assert stage_ends(found, out, 1002, 1005) == {"object": 2.0}
    assert stage_ends(found, out, 1001.51, 1005) == {"graph": 0.0, "object": 2.49}
    os.utime(out / "graph/module.py", ns=(0, 2**62))
    assert stage_ends(found, out, 1000, 1005) == {"object": 4.0}


def test_whole_output_is_taken(out: Path, tmp_path: Path) -> None:
    found = read_manifest(out, BUILD, LIMITS)
    artifacts = list(_collect(found, out, Store(tmp_path / "results")))
    names = ("graph/module.py", "object/deep/er/file.o", "object/lib0.o")
    assert artifacts == [
        Artifact(name.partition("/")[0], name.partition("/")[2], len(name), sha(name))
        for name in names
    ]


def test_no_manifest(out: Path) -> None:
    (out / "manifest.json").unlink()
    assert refused(out) == "left no manifest.json"


def test_manifest_that_is_no_file(out: Path) -> None:
    path = out / "manifest.json"
    content = path.read_bytes()
    path.unlink()
    path.symlink_to(put(out.parent / "elsewhere.json", content))
    assert refused(out) == "manifest.json is not a regular file"
    path.unlink()
    os.mkfifo(path)
    assert refused(out) == "manifest.json is not a regular file"
    path.unlink()
    path.mkdir()
    assert refused(out) == "manifest.json is not a regular file"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"NaN",
        b"\xff\xfe\x00",
        b'{"contract": 1, "stages": [',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        json.dumps(manifest(stages=[])).encode(),
        json.dumps(manifest(more=1)).encode(),
        json.dumps(manifest(contract="1")).encode(),
        json.dumps(manifest(contract=True)).encode(),
        json.dumps(manifest(contract=1.0)).encode(),
        json.dumps(manifest(contract=float("nan"))).encode(),
        json.dumps(manifest(contract=10**400)).encode(),
        json.dumps(manifest(version=None)).encode(),
        json.dumps(manifest(stages={"graph": []})).encode(),
        json.dumps(manifest(stages=[{"name": "graph"}])).encode(),
        json.dumps(manifest(stages=[{"name": 1, "artifacts": ["a"]}])).encode(),
        json.dumps(manifest(stages=[{"name": "g", "artifacts": "a"}])).encode(),
        json.dumps(manifest(stages=[{"name": "g", "artifacts": [["a"]]}])).encode(),
        json.dumps(manifest()).replace("graph", "\\ud800").encode(),
        json.dumps({k: v for k, v in manifest().items() if k != "compiler"}).encode(),
        json.dumps(manifest(**{"\x1b[2J": 1})).encode(),
    ],
)
def test_broken_manifest(out: Path, text: bytes) -> None:
    say(out, text)
    assert refused(out).startswith("manifest.json is broken: ")


def test_huge_manifest(out: Path) -> None:
    say(out, json.dumps(manifest()).encode() + b" " * MAX_MANIFEST_BYTES)
    assert "larger than" in refused(out)


def test_of_a_key_given_twice_the_later_counts(out: Path) -> None:
    """As in most parsers. Whichever counts, the files must be exactly those that it lists."""
    honest = json.dumps(manifest())[1:]
    say(out, b'{"stages": [{"name": "x", "artifacts": ["y"]}],' + honest.encode())
    assert [stage.name for stage in read_manifest(out, BUILD, LIMITS).stages] == ["graph", "object"]
    say(out, b"{" + honest.encode()[:-1] + b', "stages": [{"name": "x", "artifacts": ["y"]}]}')
    assert refused(out) == "x/y is listed but not there"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"contract": 2}, "manifest.json speaks contract 2, not 1"),
        ({"compiler": "iree"}, "manifest.json names iree/1, not tvm/1"),
        ({"version": "2\x1b[31m"}, "manifest.json names tvm/2\\x1b[31m, not tvm/1"),
        ({"stages": [{"name": "graph", "artifacts": []}]}, "stage graph lists no artifact"),
    ],
)
def test_manifest_that_does_not_fit(out: Path, changes: dict[str, Any], words: str) -> None:
    say(out, manifest(**changes))
    assert refused(out) == words


@pytest.mark.parametrize(
    "name",
    ["", "Graph", "-graph", "a b", "..", ".", "a/b", "graph\n", "g\x00", "\u0261raph", "a" * 65],
)
def test_stage_names(out: Path, name: str) -> None:
    say(out, manifest(stages=[{"name": name, "artifacts": ["module.py"]}]))
    assert "stage name" in refused(out)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "../../etc/passwd", "/etc/passwd", "a/../b", "a//b", "a/", "./a",
     ".hidden", "-rf", "a\n", "a\x1b[2J", "a b", "a\0b", "a/b/c/d/e", "\u202eb", "x" * 129],
)  # fmt: skip
def test_artifact_names(out: Path, name: str) -> None:
    say(out, manifest(stages=[{"name": "graph", "artifacts": [name]}]))
    assert "artifact name" in refused(out)


def test_names_given_twice(out: Path) -> None:
    stage = {"name": "graph", "artifacts": ["module.py"]}
    say(out, manifest(stages=[stage, stage]))
    assert "a stage twice" in refused(out)
    say(out, manifest(stages=[{"name": "graph", "artifacts": ["module.py", "module.py"]}]))
    assert "an artifact twice" in refused(out)


def test_listed_and_there_must_be_the_same(out: Path) -> None:
    put(out / "graph" / "\x1b[2Jextra", b"")
    assert refused(out) == "graph/\\x1b[2Jextra is there but not listed"
    (out / "graph" / "\x1b[2Jextra").unlink()
    (out / os.fsdecode(b"\xff\xfe")).write_bytes(b"")
    assert refused(out) == "\\xff\\xfe is there but not listed"
    (out / os.fsdecode(b"\xff\xfe")).unlink()
    (out / "object" / "lib0.o").unlink()
    assert refused(out) == "object/lib0.o is listed but not there"
    (out / "object" / "lib0.o").mkdir()
    assert refused(out) == "object/lib0.o is listed but not there"


def test_links_and_special_files(out: Path) -> None:
    victim = out / "object" / "lib0.o"
    victim.unlink()
    victim.symlink_to("/etc/passwd")
    assert refused(out) == "object/lib0.o is a link, not a file"
    victim.unlink()
    os.mkfifo(victim)
    assert refused(out) == "object/lib0.o is a special file, not a file"
    victim.unlink()
    (out / "object").rename(out.parent / "elsewhere")
    (out / "object").symlink_to(out.parent / "elsewhere")
    assert refused(out) == "object is a link, not a file"


def test_too_many_too_large_too_deep(out: Path) -> None:
    assert refused(out, Limits(output_files=3)) == "more than 3 files"
    assert refused(out, Limits(output_bytes=10)) == "more than 10 bytes"
    (out / "/".join("abcdefghijkl")).mkdir(parents=True)
    assert refused(out) == "folders are nested more than 8 deep"


def test_sparse_file_counts_with_its_size(out: Path) -> None:
    with open(out / "graph" / "module.py", "r+b") as file:
        file.truncate(2**40)
    assert refused(out) == "more than 10000 bytes"


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o400])
def test_folder_that_was_locked(mode: int) -> None:
    with nobodys_folder() as folder:
        put(folder / "graph" / "module.py", b"x")
        (folder / "graph").chmod(mode)
        try:
            with pytest.raises(MalformedOutputError, match="cannot be read"):
                list(_files(folder, LIMITS))
        finally:
            (folder / "graph").chmod(0o700)


def test_file_that_was_locked(tmp_path: Path) -> None:
    with nobodys_folder() as folder:
        put(folder / "graph" / "module.py", b"x").chmod(0)
        say(folder, manifest(stages=[{"name": "graph", "artifacts": ["module.py"]}]))
        found = read_manifest(folder, BUILD, LIMITS)
        with pytest.raises(MalformedOutputError, match="cannot be read"):
            list(_collect(found, folder, Store(folder / "results")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["contract", "compiler", "version", "stages", "name", "artifacts", "x"]),
        inner, max_size=5),
    max_leaves=12,
))  # fmt: skip
def test_no_manifest_that_is_not_the_honest_one_gets_through(out: Path, content: object) -> None:
    say(out, content)
    refused(out)


# What a program printed --------------------------------------------------------------------------


def test_last_lines_are_few_and_safe() -> None:
    output = b"".join(b"line %d\r\n\n" % number for number in range(100)) + b"\x1b[2J\xff\n"
    lines = last_lines(output).split("\n")
    assert lines == [*(f"line {number}" for number in range(93, 100)), "\\x1b[2J\\xff"]
    assert last_lines(b"") == last_lines(b"\n \n") == ""
    assert len(last_lines(b"x" * 100_000)) <= 300


@given(st.binary(max_size=2000))
def test_last_lines_never_act_on_a_terminal(output: bytes) -> None:
    assert last_lines(output).replace("\n", "").isprintable()
