"""Replays of an earlier run: when they are taken, and that they never decide anything new."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest

from harness import opened, remembered, shelf
from harness.errors import StoreError
from harness.remembered import Memory
from harness.replay import Job, Regenerated
from harness.store import Store
from tests.unit.test_replay import job

TODAY = datetime.date(2026, 11, 23)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "replays", "sandbox namespaces")


def made(store: Store, sha256: str | None = "a" * 64) -> Regenerated:
    seen = opened.Opened({"toolchain": ("bin/llc",)}, complete=True)
    digest = store.add_bytes(opened.dump(seen))
    return Regenerated(sha256, "", (("llc", "x"),), 1.5, digest)


def entries(memory_folder: Path) -> list[Path]:
    return list(memory_folder.glob("*/*.json"))


def test_what_was_kept_comes_back_with_its_day_in_another_store(
    memory: Memory, store: Store, tmp_path: Path
) -> None:
    memory.keep(job(), made(store), store, TODAY)
    other = Store(tmp_path / "other")
    found = memory.recall(job(), other)
    assert found == replace(made(store), remembered="2026-11-23")
    seen = opened.load(other.read(found.opened or ""))
    assert seen is not None
    assert seen.paths == {"toolchain": ("bin/llc",)}


def test_another_source_tool_or_engine_is_another_replay(
    memory: Memory, store: Store, tmp_path: Path
) -> None:
    memory.keep(job(), made(store), store, TODAY)
    others: list[Job] = [
        job(**{"graph/file": "1" * 64}),
        replace(job(), target=(("mcpu", "other"),)),
        replace(job(), recipe=replace(job().recipe, steps=(("{llc}", "-O1"),))),
        # The same files, but another program of them or other arguments: another definition.
        replace(
            job(),
            replayer=replace(
                job().replayer, toolchain=replace(job().replayer.toolchain, identity="other")
            ),
        ),
        replace(
            job(),
            replayer=replace(
                job().replayer, environment=replace(job().replayer.environment, image="sha256:1")
            ),
        ),
        replace(
            job(),
            replayer=replace(
                job().replayer, environment=replace(job().replayer.environment, sha256="f" * 64)
            ),
        ),
    ]
    assert [memory.recall(other, store) for other in others] == [None] * len(others)
    elsewhere = Memory(tmp_path / "replays", "docker container")
    assert elsewhere.recall(job(), store) is None


def test_a_failed_replay_is_not_kept(memory: Memory, store: Store, tmp_path: Path) -> None:
    memory.keep(job(), made(store, None), store, TODAY)
    assert entries(tmp_path / "replays") == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"sha256": 3}',
        b"\xff" * 100,
        b" " * (shelf.MAX_BYTES + 1),
        b"[" * 100_000,
    ],
)
def test_a_damaged_entry_is_none(
    memory: Memory, store: Store, tmp_path: Path, content: bytes
) -> None:
    memory.keep(job(), made(store), store, TODAY)
    (entry,) = entries(tmp_path / "replays")
    entry.write_bytes(content)
    assert memory.recall(job(), store) is None


def test_no_place_to_keep_it_is_no_matter(store: Store, tmp_path: Path) -> None:
    (tmp_path / "replays").write_text("a file")
    memory = Memory(tmp_path / "replays", "sandbox")
    memory.keep(job(), made(store), store, TODAY)
    assert memory.recall(job(), store) is None


def test_disagreement_ends_the_run(memory: Memory, store: Store) -> None:
    before, now = made(store), made(store, "b" * 64)
    memory.check(job(), before, before)
    memory.check(job(), before, made(store, None))
    with pytest.raises(StoreError) as caught:
        memory.check(job(), before, now)
    assert "aaaaaaaaaaaa…, but it makes bbbbbbbbbbbb…" in caught.value.what


def test_doubt_is_neither_never_nor_always() -> None:
    assert {remembered.doubted() for _ in range(2000)} == {True, False}
