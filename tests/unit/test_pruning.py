"""The cache forgets what nothing has used, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from filelock import FileLock

from harness import pruning
from harness.commands.toolchains import toolchains_group
from harness.packages import cache_folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_folder()


def folder(cache: Path, name: str, days: float) -> Path:
    place = cache / name
    (place / "root").mkdir(parents=True)
    (place / "root" / "file").write_bytes(b"x" * 2_000_000)
    then = time.time() - days * pruning.DAY
    os.utime(place, (then, then))
    return place


def prune(*words: str) -> str:
    done = CliRunner().invoke(toolchains_group, ["prune", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_only_what_was_not_used_goes(cache: Path) -> None:
    old = [
        folder(cache, name, 31)
        for name in ("environments/a", "redteam/b", "images/c", "wheels/d", "images/.copy-e")
    ]
    kept = [folder(cache, "environments/new", 29), folder(cache, "models/m", 400)]
    said = prune()
    assert "freed 10 MB" in said
    assert not [path for path in old if path.exists()]
    assert all((path / "root" / "file").exists() for path in kept)
    assert not list(cache.glob("*/*.gone"))


def test_a_dry_run_only_says_it(cache: Path) -> None:
    place = folder(cache, "environments/a", 10)
    assert "would free 2 MB" in prune("--dry-run", "--days", "5")
    assert place.exists()
    assert "freed 0 MB" in prune()


def test_what_another_harness_is_making_stays(cache: Path) -> None:
    place = folder(cache, "environments/a", 40)
    with FileLock(place.with_name("a.lock")):
        assert "in use" in prune()
    assert place.exists()


def test_a_link_out_of_the_cache_is_not_followed(cache: Path, tmp_path: Path) -> None:
    outside = folder(tmp_path, "precious", 90)
    (cache / "images").mkdir(parents=True)
    (cache / "images" / "link").symlink_to(outside)
    inner = folder(cache, "environments/a", 90)
    (inner / "root" / "link").symlink_to(outside)
    then = time.time() - 90 * pruning.DAY
    os.utime(inner, (then, then))
    prune()
    assert not inner.exists()
    assert (outside / "root" / "file").exists()


def test_use_is_noticed(cache: Path) -> None:
    place = folder(cache, "environments/a", 90)
    pruning.used(place)
    assert not list(pruning.unused(cache, 1))
    pruning.used(cache / "nowhere")


def test_an_empty_machine_has_nothing_to_remove(cache: Path) -> None:
    assert not cache.exists()
    assert prune() == "freed 0 MB\n"
