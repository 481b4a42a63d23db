"""The bundle: no links, regular files, within limits, and only what its digest says."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import HarnessError, StoreError, UsageError
from harness.signoff.bundle import (
    MAX_IN_MEMORY,
    MAX_MATERIAL,
    MAX_STATEMENTS,
    Bundle,
)
from harness.signoff.envelope import MAX_BYTES as MAX_STATEMENT
from harness.signoff.envelope import seal
from harness.signoff.interface import Rejected
from tests.fuzz.holds import safe
from tests.unit.signoff_keys import payload_of, signer, statement

ONE = seal(statement(), [signer("a")])
TWO = seal(statement(predicate={}), [signer("a")])
HELLO = hashlib.sha256(b"hello").hexdigest()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    found = Bundle(tmp_path / "bundle")
    found.add_statement(ONE)
    found.add_material(b"hello")
    return found


def read(bundle: Bundle) -> tuple[dict[str, bytes], dict[str, str]]:
    good, bad = {}, {}
    for each in bundle.statements():
        if isinstance(each, Rejected):
            bad[each.file] = each.reason
        else:
            good[each[0]] = each[1]
    return good, bad


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


# Statements --------------------------------------------------------------------------------------


def test_what_is_added_is_read(bundle: Bundle) -> None:
    digest = bundle.add_statement(TWO)
    assert digest == hashlib.sha256(payload_of(TWO)).hexdigest()
    good, bad = read(bundle)
    assert sorted(good.values()) == sorted([ONE, TWO])
    assert good[f"{digest}.json"] == TWO
    assert not bad


def test_adding_again_changes_nothing(bundle: Bundle) -> None:
    before = read(bundle)
    assert bundle.add_statement(ONE) == bundle.add_statement(ONE)
    assert read(bundle) == before


def test_other_signatures_over_the_same_payload_are_kept_beside(bundle: Bundle) -> None:
    other = seal(statement(), [signer("b")])
    assert bundle.add_statement(other) == bundle.add_statement(ONE) == bundle.add_statement(other)
    assert sorted(read(bundle)[0].values()) == sorted([ONE, other])


def test_only_envelopes_are_added(bundle: Bundle) -> None:
    for wrong in (b"", b"{}", ONE[:-1], payload_of(ONE)):
        with pytest.raises(UsageError, match="not a statement"):
            bundle.add_statement(wrong)
    assert list(read(bundle)[0].values()) == [ONE]


def test_names_carry_no_meaning(bundle: Bundle) -> None:
    folder = bundle.root / "statements"
    (one,) = folder.iterdir()
    one.rename(folder / "\x1b[2J\n\udcff.json")
    good, bad = read(bundle)
    assert list(good.values()) == [ONE]
    assert not bad
    for name in good:
        safe(name, "a name")


def test_what_is_no_statement_file_is_rejected_by_name(bundle: Bundle, tmp_path: Path) -> None:
    folder = bundle.root / "statements"
    (folder / "folder.json").mkdir()
    (folder / "link.json").symlink_to(next(folder.glob("*.json")))
    (folder / "nowhere.json").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "pipe.json")
    (folder / "notes.txt").write_bytes(ONE)
    sparse(folder / "large.json", MAX_STATEMENT + 1)
    good, bad = read(bundle)
    assert list(good.values()) == [ONE]
    assert bad == {
        "folder.json": "is not a regular file",
        "large.json": f"is larger than {MAX_STATEMENT} bytes",
        "link.json": "is a link, which is not followed",
        "notes.txt": "its name does not end with .json",
        "nowhere.json": "is a link, which is not followed",
        "pipe.json": "is not a regular file",
    }


def test_a_part_is_never_taken_for_the_whole(bundle: Bundle) -> None:
    folder = bundle.root / "statements"
    for number in range(MAX_STATEMENTS - 1):
        (folder / f"{number:03}.json").touch()
    assert len(read(bundle)[0]) == MAX_STATEMENTS
    with pytest.raises(StoreError, match="512 statements already"):
        bundle.add_statement(TWO)
    assert bundle.add_statement(ONE)
    (folder / "one more").touch()
    with pytest.raises(StoreError, match="holds more than 512 files"):
        read(bundle)


def test_statements_are_bounded_together(bundle: Bundle) -> None:
    for number in range(8):
        sparse(bundle.root / "statements" / f"{number}.json", MAX_STATEMENT)
    with pytest.raises(StoreError, match="larger than 67108864 bytes together"):
        read(bundle)
    with pytest.raises(StoreError, match="larger than 67108864 bytes together"):
        bundle.add_statement(TWO)
    (bundle.root / "statements" / "0.json").unlink()
    assert len(read(bundle)[0]) == 8


def test_a_bundle_without_statements_has_none(tmp_path: Path) -> None:
    assert list(Bundle(tmp_path).statements()) == []


@pytest.mark.parametrize("name", ["", "statements"])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_folder_that_is_none_is_an_error(
    bundle: Bundle, tmp_path: Path, name: str, kind: str
) -> None:
    place = bundle.root / name if name else bundle.root
    place.rename(tmp_path / "real")
    if kind == "link":
        place.symlink_to(tmp_path / "real")
    else:
        place.touch()
    with pytest.raises(StoreError, match="link" if kind == "link" else "Not a directory"):
        list(bundle.statements())
    with pytest.raises(HarnessError):
        bundle.add_statement(TWO)
    assert not list((tmp_path / "real").rglob(f"{hashlib.sha256(payload_of(TWO)).hexdigest()}*"))


def test_a_bundle_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file"):
        list(Bundle(tmp_path / "none").statements())
    with pytest.raises(StoreError, match="No such file"):
        Bundle(tmp_path / "none").material(HELLO)


# Materials ---------------------------------------------------------------------------------------


def test_materials_come_back_by_digest(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"words" * 500_000)
    digest = bundle.add_material(tmp_path / "file")
    assert digest == hashlib.sha256(b"words" * 500_000).hexdigest()
    assert bundle.material(digest) == b"words" * 500_000
    assert bundle.material(HELLO) == b"hello"
    path = bundle.material_path(HELLO)
    assert path is not None
    assert path.read_bytes() == b"hello"
    assert bundle.copy_material(digest, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"words" * 500_000
    assert bundle.missing == {}


def damaged(path: Path) -> None:
    path.write_bytes(b"hellO")


def cut(path: Path) -> None:
    path.write_bytes(b"hell")


def gone(path: Path) -> None:
    path.unlink()


def linked(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def large(path: Path) -> None:
    sparse(path, MAX_MATERIAL + 1)


def linked_folder(path: Path) -> None:
    path.parent.rename(path.parent.parent / "real")
    path.parent.symlink_to("real")


HARM: dict[Callable[[Path], None], str] = {
    damaged: "is damaged", cut: "is damaged", gone: "is not in the bundle",
    linked: "is a link, which is not followed", folder: "is not a regular file",
    pipe: "is not a regular file", large: "is larger than ", linked_folder: "cannot be read",
}  # fmt: skip


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_what_is_not_whole_is_missing_with_a_reason(
    bundle: Bundle, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    harm(bundle.root / "materials" / HELLO)
    asks: list[Callable[[], bool]] = [
        lambda: bundle.material(HELLO) is None,
        lambda: bundle.material_path(HELLO) is None,
        lambda: not bundle.copy_material(HELLO, tmp_path / "copy"),
    ]
    for ask in asks:
        bundle.missing.clear()
        assert ask()
        assert HARM[harm] in bundle.missing[HELLO]
    assert not (tmp_path / "copy").exists()


def test_a_limit_holds(bundle: Bundle) -> None:
    assert bundle.material(HELLO, 5) == b"hello"
    assert bundle.material(HELLO, 4) is None
    assert bundle.missing == {HELLO: "is larger than 4 bytes"}
    sparse(bundle.root / "materials" / ("0" * 64), MAX_IN_MEMORY + 1)
    assert bundle.material("0" * 64) is None
    assert "larger" in bundle.missing["0" * 64]


@pytest.mark.parametrize(
    "name", ["", "../materials/" + HELLO, HELLO.upper(), f"{HELLO}\n", "/etc/passwd", "x\x1b[2J"]
)
def test_only_digests_name_materials(bundle: Bundle, name: str) -> None:
    assert bundle.material(name) is None
    (shown,) = bundle.missing
    assert bundle.missing[shown] == "is no SHA-256"
    safe(shown, "a name")


def test_a_damaged_material_is_made_whole_by_adding_it_again(bundle: Bundle) -> None:
    place = bundle.root / "materials" / HELLO
    place.write_bytes(b"hellO")
    assert bundle.add_material(b"hello") == HELLO
    assert bundle.material(HELLO) == b"hello"
    linked(place)
    assert bundle.add_material(b"hello") == HELLO
    assert bundle.material(HELLO) == b"hello"


def test_only_regular_files_are_added(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    sparse(tmp_path / "large", MAX_MATERIAL + 1)
    for name, why in (
        ("link", "is a link"), ("pipe", "not a regular file"), (".", "not a regular file"),
        ("none", "No such file"), ("large", "is larger than"),
    ):  # fmt: skip
        with pytest.raises(StoreError, match=why):
            bundle.add_material(tmp_path / name)
    assert [path.name for path in (bundle.root / "materials").iterdir()] == [HELLO]


def test_a_copy_is_never_over_something(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    with pytest.raises(StoreError, match="File exists"):
        bundle.copy_material(HELLO, tmp_path / "mine")
    assert (tmp_path / "mine").read_bytes() == b"mine"


# At the same time --------------------------------------------------------------------------------


@contextmanager
def meanwhile(action: Callable[[], object]) -> Iterator[None]:
    """``action`` again and again in another thread, as often as it can."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_folder_that_is_swapped_for_a_link_lets_nothing_in(
    bundle: Bundle, tmp_path: Path
) -> None:
    """The folder of materials, now real, now a link to one that holds other things."""
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = hashlib.sha256(b"secret").hexdigest()
    (outside / secret).write_bytes(b"secret")
    (outside / HELLO).write_bytes(b"HELLO")
    real, place = tmp_path / "real", bundle.root / "materials"
    place.rename(real)
    other = tmp_path / "link"

    def swap() -> None:
        other.symlink_to(outside)
        other.rename(place)
        place.unlink()
        real.rename(place)
        place.rename(real)

    answers = set()
    with meanwhile(swap):
        for _ in range(400):
            answers.add(bundle.material(HELLO))
            assert bundle.material(secret) is None
    assert answers <= {None, b"hello"}


def test_a_material_that_changes_all_the_time_is_whole_or_missing(bundle: Bundle) -> None:
    place = bundle.root / "materials" / HELLO
    states = [b"hello", b"hellO"]

    def write() -> None:
        place.write_bytes(states[0])
        states.reverse()

    with meanwhile(write):
        assert {bundle.material(HELLO) for _ in range(400)} <= {None, b"hello"}


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    made = [seal(statement(predicate={"n": n}), [signer("a")]) for n in range(20)]
    bundle = Bundle(tmp_path / "bundle")

    def add() -> None:
        for each in made:
            bundle.add_statement(each)
            bundle.add_material(each)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read(bundle)[0].values()) == sorted(made)
    assert not read(bundle)[1]
    names = {path.name for path in (bundle.root / "materials").iterdir()}
    assert names == {hashlib.sha256(each).hexdigest() for each in made}
