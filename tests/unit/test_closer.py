"""Which pairs get a closer look. Whatever gets none is named, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from harness.closer import MOST_PAIRS, by_diffoscope, pairs_of, with_bitcode
from harness.comparators.examine import examine, examine_folders
from harness.comparators.interface import Bounds, Examined, Part, Status
from harness.errors import EngineError

DIFFERENT = Examined("data", (Part("artifact", "x", Status.ADDED),))


def unavailable(_name: str) -> NoReturn:
    raise EngineError("no sandbox here: \x1b[31mwhy", "do this")


def plant(root: Path, side: str, **files: bytes) -> Path:
    folder = root / side
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_only_files_that_differ(tmp_path: Path) -> None:
    left = plant(tmp_path, "a", same=b"1", other=b"1", gone=b"1")
    right = plant(tmp_path, "b", same=b"1", other=b"2", new=b"2")
    assert pairs_of(left, right, examine_folders(left, right)) == {
        "other": (left / "other", right / "other")
    }
    one, two = left / "other", right / "other"
    assert pairs_of(one, two, {"x": examine(one, two)}) == {"x": (one, two)}
    assert pairs_of(one, one, {"x": examine(one, one)}) == {}


def test_without_a_sandbox_every_pair_says_so(tmp_path: Path) -> None:
    left = plant(tmp_path, "a", m=b"BC\xc0\xde1", n=b"1")
    right = plant(tmp_path, "b", m=b"BC\xc0\xde2", n=b"2")
    found = examine_folders(left, right)
    pairs = pairs_of(left, right, found)
    answers = by_diffoscope(found, pairs, Bounds(), unavailable)
    assert {answer.trouble for answer in answers.values()} == {
        "no sandbox here: \\x1b[31mwhy. do this"
    }
    read = with_bitcode(found, pairs, Bounds(), unavailable)
    assert read["m"].parts == found["m"].parts
    assert read["m"].notes[0].startswith("not examined: functions and globals: no sandbox here")
    assert not any("llvm-dis turns it into text" in note for note in read["m"].notes)
    assert read["n"] == found["n"]


def test_no_more_than_ten_and_what_has_no_files(tmp_path: Path) -> None:
    left = plant(tmp_path, "a", **{f"f{i:02}": b"1" for i in range(MOST_PAIRS + 2)})
    right = plant(tmp_path, "b", **{f"f{i:02}": b"2" for i in range(MOST_PAIRS + 2)})
    found = {**examine_folders(left, right), "llvm/module.ll": DIFFERENT}
    pairs = pairs_of(left, right, {name: found[name] for name in found if "/" not in name})
    answers = by_diffoscope(found, pairs, Bounds(), unavailable)
    assert len(answers) == MOST_PAIRS + 3
    refused = [name for name, answer in answers.items() if "only the first" in answer.trouble]
    assert refused == [f"f{MOST_PAIRS}", f"f{MOST_PAIRS + 1}"]
    assert "no two files" in answers["llvm/module.ll"].trouble
