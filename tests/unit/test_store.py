"""The store: whole or not there, verified at every read, and clean after a crash."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.models import BuildRecord
from harness.store import Store, remove_tree
from tests.unit.samples import agreeing, names, record, report, sha, twice


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def stored(store: Store, digest: str) -> Path:
    return store.objects / digest[:2] / digest[2:]


def damage(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


@contextmanager
def nobodys_folder() -> Iterator[Path]:
    """A folder whose permissions bind: root is nobody in here."""
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        if root:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)


# Artifacts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * (3 << 20)])
def test_what_goes_in_comes_out(store: Store, tmp_path: Path, data: bytes) -> None:
    assert store.add(put(tmp_path / "a", data)) == (sha(data), len(data))
    assert store.add_bytes(data) == sha(data)
    assert store.read(sha(data)) == data
    store.place(sha(data), tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == data
    assert len([path for path in store.objects.glob("*/*") if path.is_file()]) == 1
    assert not stored(store, sha(data)).stat().st_mode & 0o222


def test_only_regular_files_are_taken(store: Store, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/etc/passwd")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # opening it to read would wait for ever
    for path in (link, fifo, tmp_path, tmp_path / "absent", Path("/dev/null")):
        with pytest.raises(StoreError):
            store.add(path)
    assert not list(store.objects.glob("*/*"))


@pytest.mark.parametrize("data", [b"", b"origina", b"Original", b"original and more"])
def test_damaged_artifact_is_refused_and_stored_anew(
    store: Store, tmp_path: Path, data: bytes
) -> None:
    digest, _ = store.add(put(tmp_path / "a", b"original"))
    damage(stored(store, digest), data)
    with pytest.raises(StoreError, match="not what it was"):
        store.read(digest)
    with pytest.raises(StoreError, match="not what it was"):
        store.place(digest, tmp_path / "copy")
    again = Store(store.root)  # "run again" must help
    assert again.add(tmp_path / "a")[0] == digest
    assert again.read(digest) == b"original"
    damage(stored(store, digest), data)
    Store(store.root).add_bytes(b"original")
    assert store.read(digest) == b"original"


def test_missing_artifact_names_the_place(store: Store) -> None:
    with pytest.raises(StoreError, match="No such file"):
        store.read("0" * 64)


def test_place_overwrites_nothing(store: Store, tmp_path: Path) -> None:
    digest = store.add_bytes(b"x")
    target = put(tmp_path / "there", b"mine")
    with pytest.raises(StoreError):
        store.place(digest, target)
    assert target.read_bytes() == b"mine"


def test_out_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot use"):
        Store(put(tmp_path / "file", b"") / "results")


# Builds ------------------------------------------------------------------------------------------


@pytest.fixture
def build(store: Store) -> BuildRecord:
    made = record(artifacts={"graph/a": b"one", "object/b": b"two"})
    for data in (b"one", b"two"):
        store.add_bytes(data)
    store.save_build("run", made, b"log", "key")
    return made


def test_finished_builds_are_found_again(store: Store, build: BuildRecord) -> None:
    assert store.load_builds("run") == [(build, "key")]
    assert store.load_builds("other") == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: truncate(folder / "record.json"),
        lambda folder: (folder / "record.json").write_bytes(b""),
        lambda folder: (folder / "record.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "record.json").write_bytes(b"[" * 100_000),
        lambda folder: (folder / "record.json").unlink(),
        lambda folder: (folder / "key").unlink(),
        lambda folder: (folder / "key").write_bytes(b"\xff"),
    ],
)
def test_damaged_record_is_built_again(
    store: Store, build: BuildRecord, harm: Callable[[Path], object]
) -> None:
    harm(store.run_folder("run") / "builds" / build.id)
    assert store.load_builds("run") == []


@pytest.mark.parametrize("data", [None, b"", b"One", b"one more"])
def test_build_whose_artifact_changed_is_built_again(
    store: Store, build: BuildRecord, data: bytes | None
) -> None:
    path = stored(store, sha(b"one"))
    if data is None:
        path.unlink()
    else:
        damage(path, data)
    assert not store.verify(build)
    assert store.load_builds("run") == []


def test_wrong_size_is_no_whole_artifact(store: Store, build: BuildRecord) -> None:
    first = replace(build.artifacts[0], size=99)
    assert not store.verify(replace(build, artifacts=(first, *build.artifacts[1:])))


# Runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "objects", "a/b", "../x", "a\0b", "/etc"])
def test_names_that_are_no_runs(store: Store, name: str) -> None:
    with pytest.raises(StoreError):
        store.run_folder(name)


def test_run_without_a_report_is_no_run(store: Store, build: BuildRecord) -> None:
    assert store.runs() == []
    with pytest.raises(StoreError, match="no finished run"):
        store.load_report("run")
    records = twice(*names(2))
    whole = report(records, agreeing(records), run="run")
    path = store.save_report(whole)
    assert store.runs() == ["run"]
    assert store.load_report("run") == whole
    truncate(path)
    with pytest.raises(StoreError, match="not a record of this harness"):
        store.load_report("run")


def test_open_run_lends_scratch_and_takes_it_back(store: Store) -> None:
    with pytest.raises(RuntimeError), store.open_run("run") as scratch:
        put(scratch / "0" / "out" / "file", b"x")
        raise RuntimeError
    assert [path.name for path in store.run_folder("run").iterdir()] == []


def test_one_run_at_a_time_goes_by_one_name(store: Store) -> None:
    with store.open_run("run") as scratch:
        (scratch / "mine").mkdir()
        with (
            pytest.raises(StoreError, match="still going on"),
            Store(store.root).open_run("run"),
        ):
            pass
        with Store(store.root).open_run("other"):
            pass
        assert (scratch / "mine").is_dir()
    with store.open_run("run"):
        pass


def test_what_a_killed_run_left_is_removed_but_a_live_ones_is_not(store: Store) -> None:
    killed = store.run_folder("killed")
    put(killed / "scratch" / "0" / "secret", b"x")
    put(killed / "lock", b"")
    half = put(store.objects / "incoming-abc", b"half")
    with store.open_run("live") as scratch, Store(store.root).open_run("second"):
        assert not (killed / "scratch").exists()
        assert not half.exists()
        assert scratch.is_dir()
        mine = put(store.objects / "incoming-mine", b"being written")
        with Store(store.root).open_run("third"):
            pass
        assert mine.exists()


# Removing ----------------------------------------------------------------------------------------


def test_remove_tree_follows_no_link(tmp_path: Path) -> None:
    mine = put(tmp_path / "mine" / "file", b"x")
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(mine.parent)
    (tree / "broken").symlink_to("nowhere")
    os.mkfifo(tree / "fifo")
    remove_tree(tree)
    assert not tree.exists()
    (tmp_path / "tree").symlink_to(mine.parent)
    remove_tree(tmp_path / "tree")
    assert not tree.is_symlink()
    assert mine.read_bytes() == b"x"
    remove_tree(tmp_path / "absent")


def test_remove_tree_that_is_unreadable() -> None:
    with nobodys_folder() as folder:
        tree = folder / "tree"
        for name in ("a/b/c/file", "a/d/file", "e/file"):
            put(tree / name, b"x")
        for name in ("a/b/c", "a/b", "a/d", "a", "e"):
            (tree / name).chmod(0o400 if name == "e" else 0)
        tree.chmod(0o500)
        remove_tree(tree)
        assert not tree.exists()


def test_remove_tree_that_is_deeper_than_paths_reach(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    descriptor = os.open(tree, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d" * 20, dir_fd=descriptor)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    remove_tree(tree)
    assert not tree.exists()
