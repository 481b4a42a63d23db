"""Two dumps of passes: where they part, and what a hostile one is refused for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.passes import MAX_PASSES, Parting, Pass, PassesError, parting, read


def dump(*passes: tuple[str, str | None]) -> list[Pass]:
    return [Pass(name, text.encode() if text is not None else None) for name, text in passes]


def equal(_one: bytes, _other: bytes) -> bool:
    return False


def test_equal_dumps_do_not_part() -> None:
    one = dump(("Fold", "a"), ("Fuse", "b"))
    assert parting(one, one, equal) is None
    assert parting([], [], equal) is None


def test_the_first_pass_after_which_they_differ() -> None:
    left = dump(("Fold", "a"), ("Fuse", "b"), ("Lower", "c"))
    right = dump(("Fold", "a"), ("Fuse", "x"), ("Lower", "y"))
    assert parting(left, right, equal) == Parting("Fuse", 1, 1, (), ())


def test_what_the_ledger_explains_is_no_difference() -> None:
    left = dump(("Fold", "A"), ("Fuse", "b"))
    right = dump(("Fold", "a"), ("Fuse", "x"))

    def in_other_letters(one: bytes, other: bytes) -> bool:
        return one.lower() == other.lower()

    found = parting(left, right, in_other_letters)
    assert found is not None
    assert found.name == "Fuse"


def test_passes_are_paired_by_name_whatever_their_namespace() -> None:
    left = dump(("tir.Fold", "a"), ("tir.Old", "b"), ("tir.Lower", "c"))
    right = dump(("tirx.Fold", "a"), ("s_tir.New", "x"), ("s_tir.Newer", "y"), ("tirx.Lower", "z"))
    assert parting(left, right, equal) == Parting(
        "tir.Lower", 2, 3, ("tir.Old",), ("s_tir.New", "s_tir.Newer")
    )
    # Where one side has a pass more and nothing comes of it, nothing parts.
    assert (
        parting(dump(("A", "1"), ("B", "2")), dump(("A", "1"), ("X", "9"), ("B", "2")), equal)
        is None
    )


def test_where_they_part_again_is_said() -> None:
    left = dump(("A", "1"), ("B", "2"), ("C", "3"), ("D", "4"), ("E", "5"), ("F", "6"))
    right = dump(("A", "x"), ("B", "2"), ("C", "x"), ("D", "x"), ("E", "5"), ("F", "x"))
    assert parting(left, right, equal) == Parting("A", 0, 0, (), (), ("C", "F"))


def test_what_was_left_out_is_passed_over() -> None:
    left = dump(("A", "1"), ("B", None), ("C", "3"))
    right = dump(("A", "1"), ("B", "2"), ("C", "4"))
    found = parting(left, right, equal)
    assert found is not None
    assert (found.name, found.left) == ("C", 2)


def write(folder: Path, index: Any, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "index.json").write_text(index if isinstance(index, str) else json.dumps(index))
    return folder


def test_a_dump_is_read(tmp_path: Path) -> None:
    entries = [
        {"name": "Fold", "file": "0000-Fold/module.py"},
        {"name": "evil\x1b[2J", "file": "0000-Fold/module.py"},
        {"name": "Fuse", "file": None},
    ]
    index = {"passes": entries, "left_out": 1}
    folder = write(tmp_path / "passes", index, {"0000-Fold/module.py": "x"})
    assert read(folder) == (Pass("Fold", b"x"), Pass("evil\\x1b[2J", b"x"), Pass("Fuse", None))


@pytest.mark.parametrize(
    "index",
    [
        "{",
        "[]",
        '{"passes": [], "left_out": 0, "more": 1}',
        {"passes": [{"name": 1, "file": None}], "left_out": 0},
        {"passes": [{"name": "A", "file": "../../etc/passwd"}], "left_out": 0},
        {"passes": [{"name": "A", "file": "/etc/passwd"}], "left_out": 0},
        {"passes": [{"name": "A", "file": "0000-../module.py"}], "left_out": 0},
        {"passes": [{"name": "A", "file": "0001-A/module.py"}], "left_out": 0},
        {"passes": [{"name": "A", "file": None}] * (MAX_PASSES + 1), "left_out": 0},
        " " * (5 * 2**20),
    ],
    ids=range(10),
)
def test_a_broken_dump_is_refused(tmp_path: Path, index: Any) -> None:
    folder = write(tmp_path / "passes", index, {"0000-A/module.py": "x"})
    with pytest.raises(PassesError):
        read(folder)


def test_links_are_not_followed(tmp_path: Path) -> None:
    index = {"passes": [{"name": "A", "file": "0000-A/module.py"}], "left_out": 0}
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "module.py").write_text("secret")
    folder = write(tmp_path / "one", index, {})
    (folder / "0000-A").symlink_to(secret)
    with pytest.raises(PassesError):
        read(folder)
    (folder / "0000-A").unlink()
    (folder / "0000-A").mkdir()
    (folder / "0000-A" / "module.py").symlink_to(secret / "module.py")
    with pytest.raises(PassesError):
        read(folder)
    (folder / "0000-A" / "module.py").unlink()
    os.mkfifo(folder / "0000-A" / "module.py")
    with pytest.raises(PassesError):
        read(folder)
    other = tmp_path / "link"
    other.symlink_to(folder)
    with pytest.raises(PassesError):
        read(other)
