"""The real diffoscope in the real sandbox, on ordinary pairs and on hostile ones."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness import diffoscope, inspection
from harness.diffoscope import Answer, Bounds, look
from harness.diffoscope_shown import lines_of
from harness.diffoscope_tree import walk
from harness.engines import launch
from harness.engines.interface import Engine
from harness.engines.plain import Plain
from harness.engines.select import choose
from harness.errors import ToolchainError
from harness.inspection import Kit, kit
from harness.packages import install
from harness.variations import control
from tests.conftest import Harness

pytestmark = pytest.mark.integration

EVIL = "evil\x1b[31m\x07\u202etxt\n<script>"
Look = Callable[..., Answer]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return choose("sandbox")[0]


@pytest.fixture(scope="module")
def tools() -> Kit:
    return kit(diffoscope.NAME, print)


@pytest.fixture
def see(engine: Engine, tools: Kit) -> Look:
    def call(left: Path, right: Path, **bounds: int) -> Answer:
        return look(left, right, engine, tools, Bounds(**bounds))

    return call


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def call(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return call


def shown(answer: Answer) -> list[str]:
    lines = list(lines_of({"pair": answer}))
    assert all(line.isprintable() for line in lines), lines
    return lines


def lacks(answer: Answer, package: str) -> bool:
    return any(each.install == package for each in answer.unseen)


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def tarred(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_text(see: Look, write: Callable[[str, bytes], Path]) -> None:
    answer = see(write("a", b"1\n2\n"), write("b", b"1\n3\n"))
    assert (answer.differ, answer.trouble, answer.unseen) == (True, "", ())
    assert answer.tree
    assert answer.tree.lines == ("@@ -1,2 +1,2 @@", " 1", "-2", "+3")


def test_elf(see: Look, write: Callable[[str, bytes], Path]) -> None:
    """A real program, and the same with the name of a section changed."""
    data = Path("/bin/true").read_bytes()
    place = data.rindex(b".shstrtab\0")
    right = data[:place] + b".SHSTRTAB" + data[place + 9 :]
    answer = see(write("left", data), write("right", right))
    assert answer.trouble == ""
    named = any("readelf --wide --sections" in line for line in shown(answer))
    assert named is not lacks(answer, "binutils")


def test_members_of_a_zip(see: Look, write: Callable[[str, bytes], Path]) -> None:
    left = write("a.zip", zipped({"same": b"s" * 9999, "other": b"one\n"}))
    right = write("b.zip", zipped({"same": b"s" * 9999, "other": b"two\n"}))
    answer = see(left, right)
    assert answer.trouble == ""
    assert answer.tree
    if lacks(answer, "unzip"):
        return  # then it cannot list members, and says so
    nodes = {path[-1]: node for path, node in walk(answer.tree)}
    assert nodes["other"].lines == ("@@ -1 +1 @@", "-one", "+two")
    assert "same" not in nodes


def test_equal_bytes_are_not_shown_to_diffoscope(see: Look, tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"x")
    other.write_bytes(b"x")
    assert see(one, other) == Answer(differ=False)


def test_a_timeout_is_an_answer(see: Look, write: Callable[[str, bytes], Path]) -> None:
    size = 20_000_000
    answer = see(write("a", os.urandom(size)), write("b", os.urandom(size)), seconds=1)
    assert answer.trouble == "it did not end within 1 s"
    assert answer.differ
    assert "not examined: the whole file: it did not end within 1 s" in "\n".join(shown(answer))


def test_a_memory_limit_is_an_answer(see: Look, write: Callable[[str, bytes], Path]) -> None:
    size = 30_000_000
    left, right = write("a", os.urandom(size)), write("b", os.urandom(size))
    answer = see(left, right, memory_bytes=64 * 2**20)
    assert "memory" in answer.trouble
    assert answer.tree is None


def test_a_zip_bomb_fills_only_its_own_room(see: Look, write: Callable[[str, bytes], Path]) -> None:
    left = write("a.zip", zipped({"bomb": b"a" * 300_000_000}))
    right = write("b.zip", zipped({"bomb": b"b" * 300_000_000}))
    answer = see(left, right, memory_bytes=256 * 2**20)
    assert answer.trouble
    assert answer.differ


def test_a_file_that_is_too_large_is_not_given(
    see: Look, write: Callable[[str, bytes], Path]
) -> None:
    answer = see(write("a", b"12345"), write("b", b"54321"), file_bytes=4)
    assert answer.trouble == "a file has more than 4 bytes"


def test_hostile_names_and_content(see: Look, write: Callable[[str, bytes], Path]) -> None:
    said = EVIL.encode()
    left = write("--help", zipped({EVIL: said + b"1", "../up": b"1", "/etc/passwd": b"1"}))
    right = write(EVIL.replace("/", ""), zipped({EVIL: said + b"2", "../up": b"2"}))
    answer = see(left, right)
    assert answer.trouble == ""
    lines = shown(answer)
    assert any("evil\\x1b[31m" in line for line in lines)


def test_what_a_tool_cannot_read_is_not_examined(
    see: Look, write: Callable[[str, bytes], Path]
) -> None:
    """A file system without an index, whether the tool for it is there or not."""
    head = b"hsqs" + b"\x01" * 24 + b"\x04\x00\x00\x00" + b"\0" * 64
    answer = see(write("a.squashfs", head + b"1"), write("b.squashfs", head + b"2"))
    assert answer.differ
    assert [line for line in shown(answer) if line.startswith("# not examined: ")], shown(answer)


def test_without_libarchive(
    see: Look, write: Callable[[str, bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that has none: the formats are named, everything else is read."""
    absent = replace(control(), environment=(("LIBARCHIVE", "/nonexistent"),))
    monkeypatch.setattr(inspection, "control", lambda: absent)
    answer = see(write("a.tar", tarred("m", b"one\n")), write("b.tar", tarred("m", b"two\n")))
    assert answer.trouble == ""
    assert [(each.install, "tar" in each.what) for each in answer.unseen] == [("libarchive", True)]
    assert answer.tree
    assert not answer.tree.nodes
    answer = see(write("a.zip", zipped({"m": b"1\n"})), write("b.zip", zipped({"m": b"2\n"})))
    assert answer.tree
    assert lacks(answer, "unzip") or any(path[-1] == "m" for path, _ in walk(answer.tree))


def test_without_any_tool(
    see: Look, write: Callable[[str, bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that has none of them on its PATH."""
    monkeypatch.setattr(launch, "PATH", "/nonexistent")
    answer = see(write("a", b"1\n"), write("b", b"2\n"))
    assert lacks(answer, "diffutils")
    assert "not on this machine" in answer.trouble
    assert answer.differ


def test_with_libarchive(see: Look, write: Callable[[str, bytes], Path]) -> None:
    answer = see(write("a.tar", tarred("m", b"one\n")), write("b.tar", tarred("m", b"two\n")))
    inside = answer.tree is not None and any(path[-1] == "m" for path, _ in walk(answer.tree))
    assert inside is not lacks(answer, "libarchive")


def test_it_never_runs_without_isolation(tools: Kit, write: Callable[[str, bytes], Path]) -> None:
    answer = look(write("a", b"1"), write("b", b"2"), Plain(), tools)
    assert "isolates nothing" in answer.trouble


# The command.


def test_the_command(harness: Harness, tmp_path: Path) -> None:
    for side, word in (("a", "one"), ("b", "two")):
        folder = tmp_path / side
        folder.mkdir()
        (folder / "same").write_text("same\n")
        (folder / "other").write_text(f"{word}\n")
        (folder / side).write_text("on one side only\n")
    done = harness("diff", "a", "b", "--diffoscope", "--json")
    assert done.code == 1, done.err
    found = done.report["diffoscope"]
    assert [each["name"] for each in found] == ["other"]
    assert found[0]["tree"]["lines"] == ["@@ -1 +1 @@", "-one", "+two"]
    done = harness("diff", "a", "b", "--diffoscope")
    assert "! diffoscope: other: diffoscope shows differences" in done.out
    assert done.out.index("! text lines") < done.out.index("! diffoscope")
    assert "diffoscope" not in harness("diff", "a", "b", "--json").report
    done = harness("diff", "a", "a", "--diffoscope", "--json")
    assert (done.code, done.report["diffoscope"]) == (0, [])


def test_no_toolchain_to_build_with(harness: Harness, small: Callable[..., Path]) -> None:
    done = harness("run", small(), "--toolchain", diffoscope.NAME)
    assert done.code == 2
    assert "has no driver" in done.err
    listed = harness("toolchains", "list", env={"COLUMNS": "200"}).out
    assert any(
        diffoscope.NAME in line and "looks into files" in line for line in listed.splitlines()
    )


# How it is installed.


@pytest.mark.parametrize("table", ["", '[build-system]\nrequires = ["setuptools"]\n'])
def test_nothing_of_a_source_archive_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """Neither its setup.py nor a backend of its own; pip itself is the real one."""
    wheels, ran = tmp_path / "wheels", tmp_path / "ran"
    wheels.mkdir()
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: demo-tool\nVersion: 1.0\n",
        "setup.py": f"open({str(ran)!r}, 'w')\nfrom setuptools import setup\nsetup()\n",
        "demo_tool/__init__.py": "VALUE = 1\n",
    }
    if table:
        files["pyproject.toml"] = table
    archive = wheels / "demo-tool-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        for name, text in files.items():
            member = tarfile.TarInfo(f"demo-tool-1.0/{name}")
            member.size = len(text)
            out.addfile(member, io.BytesIO(text.encode()))
    digest = subprocess.run(["sha256sum", archive], capture_output=True, check=True).stdout.decode()
    lock = tmp_path / "demo.lock"
    lock.write_text(f"demo-tool==1.0 --hash=sha256:{digest.split()[0]}\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    target = tmp_path / "root"
    target.mkdir()
    with pytest.raises(ToolchainError):  # unless it is named as one that has no wheel
        install(lock, target, error=ToolchainError, subject="demo")
    install(lock, target, error=ToolchainError, subject="demo", sources=("demo-tool",))
    assert (target / "demo_tool/__init__.py").read_text() == "VALUE = 1\n"
    assert not ran.exists()
    assert sorted(path.name for path in target.iterdir()) == [
        "demo_tool",
        "demo_tool-1.0.dist-info",
    ]
    lock.write_text(f"demo-tool==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ToolchainError, match="does not match its locked hash"):
        install(lock, target, error=ToolchainError, subject="demo", sources=("demo-tool",))
