"""Two files, two folders: the format by content, a fallback for everything, nothing unseen."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from harness.comparators import examine as module
from harness.comparators.examine import equal, examine, examine_folders, glance
from harness.comparators.interface import Bounds, Examined, Part, Status
from harness.comparators.llvm_ir import LlvmIr
from harness.differences import as_json, lines_of
from harness.errors import UsageError
from tests.unit.test_comparators_llvm_ir import MODULE
from tests.unit.test_comparators_script import MLIR, TVM


def look(folder: Path, left: bytes, right: bytes, bounds: Bounds = Bounds()) -> Examined:  # noqa: B008
    (folder / "left").write_bytes(left)
    (folder / "right").write_bytes(right)
    return examine(folder / "left", folder / "right", bounds)


def model(value: float) -> bytes:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [value])
    graph = helper.make_graph([node], "g", shape[:1], shape[1:], [weight])
    data: bytes = helper.make_model(graph).SerializeToString()
    return data


def zipped(text: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("member"), text)
    return stream.getvalue()


def tarred(text: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("member")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return stream.getvalue()


def library() -> tuple[bytes, bytes]:
    """An ELF file that is there anyway, and the same with one byte of its code changed."""
    data = Path(sys.executable).resolve().read_bytes()
    if not data.startswith(b"\x7fELF"):
        pytest.fail("this interpreter is no ELF file: the test needs one")
    entry = int.from_bytes(data[24:32], "little")
    return data, data[: entry % len(data)] + b"\xcc\xcc" + data[entry % len(data) + 2 :]


SAMPLES = {
    "LLVM IR": (MODULE, MODULE.replace(b"fmul", b"fadd")),
    "TVMScript": (TVM, TVM.replace(b"1.0", b"2.0")),
    "MLIR": (MLIR, MLIR.replace(b"addf", b"subf")),
    "ONNX": (model(1.0), model(2.0)),
    "zip": (zipped(b"a"), zipped(b"b")),
    "tar": (tarred(b"a"), tarred(b"b")),
    "text": (b"one\ntwo\n", b"one\n2\n"),
    "data": (bytes(range(256)) * 40, bytes(range(256)) * 39 + bytes(256)),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_format_is_told_by_content(tmp_path: Path, name: str) -> None:
    found = look(tmp_path, *SAMPLES[name])
    assert name.lower() in found.format.lower()
    assert found.parts
    assert not [note for note in found.notes if "not read" in note]


@pytest.mark.parametrize("name", SAMPLES)
def test_equal_files_have_neither_parts_nor_notes(tmp_path: Path, name: str) -> None:
    found = look(tmp_path, SAMPLES[name][0], SAMPLES[name][0])
    assert equal(found)
    assert list(lines_of("x", found)) == ["= x: the same"]


def test_an_elf_file(tmp_path: Path) -> None:
    found = look(tmp_path, *library())
    assert "ELF" in found.format
    assert found.parts


def test_a_file_is_equal_to_itself_and_a_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").symlink_to("a")
    assert equal(examine(tmp_path / "a", tmp_path / "b"))


def test_a_byte_more_at_the_end(tmp_path: Path) -> None:
    found = look(tmp_path, b"\0" * 2**20, b"\0" * 2**20 + b"x")
    part = found.parts[0]
    assert (part.left_size, part.right_size) == (0, 1)
    assert "1 bytes are on one side only" in part.note
    assert part.lines == ("+00100000  78" + " " * 47 + "x",)


def test_bitcode_is_data_and_the_tool_is_named(tmp_path: Path) -> None:
    found = look(tmp_path, b"BC\xc0\xde\0\0\0\1", b"BC\xc0\xde\0\0\0\2")
    assert found.format == "data"
    assert any("llvm-dis" in note for note in found.notes)


def test_python_is_not_called_tvmscript(tmp_path: Path) -> None:
    found = look(tmp_path, b"def f():\n    return 1\n", b"def f():\n    return 2\n")
    assert (found.format, found.parts[0].name) == ("Python", "f")


def test_two_formats_are_said(tmp_path: Path) -> None:
    found = look(tmp_path, MODULE, TVM)
    assert found.format == "text"
    assert "left is LLVM IR, right is TVMScript" in found.notes


def test_what_a_comparator_refuses_is_noted_and_still_shown(tmp_path: Path) -> None:
    found = look(tmp_path, b"\x7fELF" + b"\0" * 100, b"\x7fELF" + b"\1" * 100)
    assert found.parts[0].kind == "range"
    assert any(note.startswith("not read as ELF: ") for note in found.notes)


def test_a_fault_of_a_comparator_does_not_keep_the_answer_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Examined:
        raise RecursionError("too deep\x1b[2J")

    monkeypatch.setattr(LlvmIr, "examine", fails)
    found = look(tmp_path, *SAMPLES["LLVM IR"])
    assert found.format == "text"
    assert found.parts
    assert any("fault of the harness: RecursionError: too deep\\x1b[2J" in n for n in found.notes)


def test_a_comparator_that_finds_nothing_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlvmIr, "examine", lambda *_: Examined("LLVM IR", ()))
    assert not equal(look(tmp_path, *SAMPLES["LLVM IR"]))


def test_differing_ranges(tmp_path: Path) -> None:
    left = bytes(2**20)
    right = bytearray(left)
    right[70_000] = right[70_010] = right[600_000] = 1
    found = look(tmp_path, left, bytes(right))
    assert [part.name for part in found.parts] == [
        "bytes 70000 to 70010 (0x11170 to 0x1117a)",
        "bytes 600000 to 600000 (0x927c0 to 0x927c0)",
    ]
    assert found.parts[1].lines[1] == "+000927c0  01" + " " * 47 + "."


def test_a_range_over_the_edge_of_a_block_is_one(tmp_path: Path) -> None:
    right = bytearray(2**20)
    right[module.BLOCK - 2 : module.BLOCK + 2] = b"1234"
    part = look(tmp_path, bytes(2**20), bytes(right)).parts[0]
    assert (part.left_size, part.name.split(" (")[0]) == (4, "bytes 262142 to 262145")


def test_too_many_ranges_are_said_to_be(tmp_path: Path) -> None:
    found = look(tmp_path, bytes(10_000), (b"1" + bytes(99)) * 100, Bounds(parts=3))
    assert (len(found.parts), found.truncated) == (3, True)
    assert found.notes == ("not listed: whatever differs from byte 300 on",)


def test_an_insertion_in_data_is_one_range(tmp_path: Path) -> None:
    data = bytes(range(256)) * 100
    part = look(tmp_path, data, data[:5000] + b"\0new\0" + data[5000:]).parts[0]
    assert (part.left_size, part.right_size) == (0, 5)
    assert "the last 20600 bytes are the same again" in part.note


def test_text_shows_lines_as_they_are_counted_in_the_file(tmp_path: Path) -> None:
    left = b"".join(b"line %d\n" % number for number in range(1, 400_001))
    found = look(tmp_path, left, left.replace(b"line 300000\n", b"other\n"))
    assert found.parts[0].lines[0].startswith("@@ line 300000 ")
    assert "+other" in found.parts[0].lines


@pytest.mark.parametrize("what", ["missing", "folder", "fifo"])
def test_only_files_are_examined(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="is not a file"):
        examine(tmp_path / "file", tmp_path / what)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(SAMPLES)), st.binary(max_size=20), st.integers(0, 3000),
       st.integers(0, 20), st.booleans())  # fmt: skip
def test_mutated_files(
    tmp_path: Path, name: str, new: bytes, at: int, gone: int, cut: bool
) -> None:
    data = SAMPLES[name][0]
    other = data[:at] + new + (b"" if cut else data[at + gone :])
    found = look(tmp_path, data, other, Bounds(parts=4, lines=6))
    assert equal(found) == (data == other)
    assert len(found.parts) <= 4
    assert not [note for note in found.notes if "fault of the harness" in note]
    assert json.dumps(as_json("a", "b", {"f": found}))
    assert all(line.isprintable() for line in lines_of("f", found))


# Folders.


def tree(root: Path, **files: bytes) -> Path:
    root.mkdir()
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


def entry(found: dict[str, Examined], name: str) -> Part:
    return next(part for part in found["."].parts if part.name == name)


def test_equal_trees(tmp_path: Path) -> None:
    for side in "ab":
        root = tree(tmp_path / side, one=b"1", two=b"2")
        (root / "inner").mkdir()
        (root / "inner" / "link").symlink_to("/nowhere")
    found = examine_folders(tmp_path / "a", tmp_path / "b")
    assert found == {".": Examined("folder", (), same=4)}
    assert equal(found["."])


def test_a_changed_file_has_its_own_answer(tmp_path: Path) -> None:
    a = tree(tmp_path / "a", one=b"1\n", two=MODULE)
    b = tree(tmp_path / "b", one=b"1\n", two=SAMPLES["LLVM IR"][1])
    found = examine_folders(a, b)
    assert list(found) == [".", "two"]
    assert equal(found["."])
    assert [part.name for part in found["two"].parts] == ["second"]


def test_added_removed_and_renamed_files(tmp_path: Path) -> None:
    a = tree(tmp_path / "a", kept=b"0", old=b"the same", gone=b"x")
    b = tree(tmp_path / "b", kept=b"0", new=b"the same", more=b"yy")
    found = examine_folders(a, b)
    assert [(part.name, part.status.value, part.new_name) for part in found["."].parts] == [
        ("old", "renamed", "new"), ("gone", "removed", ""), ("more", "added", ""),
    ]  # fmt: skip


def test_a_file_is_renamed_once_only(tmp_path: Path) -> None:
    found = examine_folders(tree(tmp_path / "a", p=b"1", q=b"1"), tree(tmp_path / "b", r=b"1"))
    assert [part.status.value for part in found["."].parts] == ["renamed", "removed"]


def test_modes_links_kinds_and_special_files(tmp_path: Path) -> None:
    a, b = tree(tmp_path / "a", mode=b"1", kind=b"1"), tree(tmp_path / "b", mode=b"1")
    (a / "mode").chmod(0o644)
    (b / "mode").chmod(0o4755)
    (a / "link").symlink_to("here")
    (b / "link").symlink_to("there")
    (b / "kind").symlink_to("mode")
    for side in (a, b):
        os.mkfifo(side / "fifo", 0o600)
    os.mkfifo(b / "pipe", 0o600)
    found = examine_folders(a, b)
    assert list(found) == ["."]
    assert entry(found, "mode").lines == ("-file, mode 644", "+file, mode 4755")
    assert entry(found, "link").lines == ("-link to here", "+link to there")
    assert entry(found, "kind").lines[1] == "+link to mode"
    assert entry(found, "pipe").note == "special of kind p, mode 600"


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Not even one to the folder itself, nor one to a file that differs."""
    for side, data in (("a", b"1"), ("b", b"2")):
        root = tree(tmp_path / side)
        (root / "loop").symlink_to(".")
        (tmp_path / f"outside-{side}").write_bytes(data)
        (root / "out").symlink_to("../outside")
    found = examine_folders(tmp_path / "a", tmp_path / "b")
    assert found == {".": Examined("folder", (), same=2)}


def test_what_is_not_listed_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"f{number}": b"" for number in range(20)}
    a, b = tree(tmp_path / "a", **files), tree(tmp_path / "b", **files)
    monkeypatch.setattr(module, "MAX_ENTRIES", 10)
    found = examine_folders(a, b)
    assert not equal(found["."])
    assert "not listed: more than 10 files and folders" in found["."].notes


def test_deep_trees_are_cut_and_that_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_DEPTH", 3)
    for side in "ab":
        (tmp_path / side / "1/2/3/4/5").mkdir(parents=True)
    found = examine_folders(tmp_path / "a", tmp_path / "b")
    assert not equal(found["."])
    assert "not listed: more than 3 folders deep" in found["."].notes


def test_without_time_every_differing_file_is_still_named(tmp_path: Path) -> None:
    a, b = tree(tmp_path / "a", x=b"1", y=b"2"), tree(tmp_path / "b", x=b"1", y=b"3")
    found = examine_folders(a, b, Bounds(seconds=0))
    assert list(found) == [".", "y"]
    assert found["y"].notes == ("not looked into: not asked for",)


def test_files_beyond_the_limit_are_not_taken_for_equal(tmp_path: Path) -> None:
    a = tree(tmp_path / "a", **{f"f{number}": b"1" for number in range(9)})
    b = tree(tmp_path / "b", **{f"f{number}": b"2" for number in range(9)})
    found = examine_folders(a, b, Bounds(parts=4))
    assert len(found) == 5
    assert found["."].truncated
    assert not equal(found["."])


def test_only_folders_are_examined(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is not a folder"):
        examine_folders(tmp_path, tmp_path / "file")


# What is printed.


def test_lines_and_json(tmp_path: Path) -> None:
    found = look(tmp_path, b"one\n", b"two\n")
    assert list(lines_of("a\x1b[2J", found)) == [
        "! a\\x1b[2J: text, 1 parts differ, 0 are the same",
        "! text lines: changed, 4 bytes",
        "@@ line 1 (byte 0) | line 1 (byte 0) @@",
        "-one",
        "+two",
    ]
    plain = json.loads(json.dumps(as_json("a", "b", {"f": found})))
    assert plain["same"] is False
    assert plain["files"][0]["parts"][0]["status"] == "changed"
    assert plain["files"][0]["parts"][0]["lines"][1:] == ["-one", "+two"]


def test_hostile_names_of_files(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\x1b[2J\n.txt")
    for side, data in (("a", b"1\n"), ("b", b"2\n")):
        (tree(tmp_path / side) / name).write_bytes(data)
    (tmp_path / "a" / f"{name}2").write_bytes(b"")
    found = examine_folders(tmp_path / "a", tmp_path / "b")
    lines = [line for key, examined in found.items() for line in lines_of(key, examined)]
    assert all(line.isprintable() for line in lines)
    assert any("\\xff\\x1b[2J\\n.txt" in line for line in lines)
    json.dumps(as_json("a", "b", found)).encode("utf-8")


def test_a_part_that_is_not_safe_is_made_so() -> None:
    part = Part("k", "n\x1b", Status.RENAMED, lines=("+\x1b",), new_name="m\u202e", note="\x07")
    found = Examined("data", (part,), notes=("\x1b",))
    assert all(line.isprintable() for line in lines_of("f", found))
    assert "\x1b" not in str(as_json("\x1b", "b", {"f": found}))


def test_onnx_files_are_what_the_sample_says() -> None:
    """The sample must not pass by being something else."""
    assert onnx.load_model_from_string(model(1.0)).graph.node[0].op_type == "Add"


def test_a_glance_says_only_whether_they_are_the_same(tmp_path: Path) -> None:
    a, b = tree(tmp_path / "a", x=b"1", y=b"2"), tree(tmp_path / "b", x=b"1", y=b"3")
    assert all(equal(one) for one in glance(a / "x", b / "x").values())
    (found,) = glance(a / "y", b / "y").values()
    assert not equal(found)
    assert [part.status for part in found.parts] == [Status.CHANGED]
    assert [name for name, one in glance(a, b).items() if not equal(one)] == ["y"]
    with pytest.raises(UsageError, match="cannot be read"):
        glance(a / "x", a / "none")
