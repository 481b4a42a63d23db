"""Which files were opened: everything that is, by whatever way, and nothing that is not."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import opened
from harness.opened import Opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    for name in ("top", "a/one", "a/two", "a/b/deep", "a/b/unread"):
        (root / name).write_bytes(b"x" * 100)
    (root / "a" / "link").symlink_to("b/deep")
    (root / "tool").write_text("#!/bin/sh\nexit 0\n")
    (root / "tool").chmod(0o755)
    return root


def test_reading_mapping_running_and_links_are_seen(root: Path) -> None:
    with opened.start({"x": opened.Root(root)}) as recorder:
        (root / "top").read_bytes()
        with (root / "a/one").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
            pass
        (root / "a/link").read_bytes()
        subprocess.run([root / "tool"], check=True)
        (root / "a/two").stat()
        list((root / "a/b").iterdir())
    assert recorder.result == Opened({"x": ("a/b/deep", "a/one", "tool", "top")}, True)


def test_what_another_process_opens_just_before_it_ends_is_seen(root: Path) -> None:
    with opened.start({"x": opened.Root(root)}) as recorder:
        subprocess.run([sys.executable, "-S", "-c", f"open({str(root / 'top')!r})"], check=True)
    assert recorder.result.paths["x"] == ("top",)


def test_before_and_after_do_not_count(root: Path) -> None:
    (root / "top").read_bytes()
    with opened.start({"x": opened.Root(root)}) as recorder:
        pass
    (root / "a/one").read_bytes()
    assert recorder.result == Opened({"x": ()}, True)


def test_roots_are_kept_apart_and_may_be_the_same(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    with opened.start(
        {"x": opened.Root(root), "y": opened.Root(other), "again": opened.Root(root)}
    ) as recorder:
        (root / "top").read_bytes()
        (other / "file").read_bytes()
    assert recorder.result.paths == {"x": ("top",), "y": ("file",), "again": ("top",)}


def test_a_flood_makes_it_incomplete_and_never_short(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events than the kernel keeps: the reader is held back until all have happened."""
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    monkeypatch.setattr(opened, "_POLL_SECONDS", 3600)
    places = [root / "top", root / "a/one"]  # alternating: equal events in a row are merged
    with opened.start({"x": opened.Root(root)}) as recorder:
        for number in range(queue + 10):
            os.close(os.open(places[number % 2], os.O_RDONLY))
    assert not recorder.result.complete
    assert "queue" in recorder.result.reason


def test_a_directory_that_is_gone_is_not_complete(tmp_path: Path) -> None:
    with opened.start({"x": opened.Root(tmp_path / "nowhere")}) as recorder:
        pass
    assert not recorder.result.complete
    assert recorder.result.reason == "inotify: No such file or directory"


def test_no_descriptors_and_no_threads_are_left(root: Path) -> None:
    before = list(Path("/proc/self/fd").iterdir())
    for _ in range(5):
        with opened.start({"x": opened.Root(root)}):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_several_runs_are_one_list_and_an_unknown_one_spoils_it() -> None:
    one, two = Opened({"x": ("a",)}, True), Opened({"x": ("b",), "y": ("c",)}, True)
    assert opened.merged([one, two]) == Opened({"x": ("a", "b"), "y": ("c",)}, True)
    assert opened.merged([]) is None
    lost = opened.merged([one, None])
    assert lost is not None
    assert not lost.complete
    lost = opened.merged([one, Opened({}, False, "too many")])
    assert lost is not None
    assert (lost.complete, lost.reason) == (False, "too many")


def test_stored_lists_come_back_and_damaged_ones_do_not() -> None:
    found = Opened({"x": ("a", "b\udcff")}, False, "why")
    assert opened.load(opened.dump(found)) == found
    for damaged in (b"", b"[]", b"{}", b'{"paths": {"x": 1}}', b"\xff"):
        assert opened.load(damaged) is None
