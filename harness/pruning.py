"""What the cache holds that nothing has used for a while: environments, copies of images, wheels.

All of it is made again where it is needed. A folder's own time says when it was last used.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

KINDS = ("environments", "redteam", "images", "wheels")
DAY = 86_400


@dataclass(frozen=True)
class Unused:
    """``size``: bytes of its regular files. ``days``: since it was used."""

    path: Path
    size: int
    days: int


def used(place: Path) -> None:
    """To be called whenever something of the cache is used. A cache that is read-only stays so."""
    with contextlib.suppress(OSError):
        os.utime(place)


def unused(cache: Path, days: int) -> Iterator[Unused]:
    """What was not used for so many days, and what an interrupted run left half-made."""
    for kind in KINDS:
        if not (cache / kind).is_dir():
            continue
        for path in sorted((cache / kind).iterdir()):
            if path.is_symlink() or not path.is_dir():
                continue
            age = int((time.time() - path.stat().st_mtime) // DAY)
            if age >= days:
                yield Unused(path, _size(path), age)


def remove(place: Path, *, wait: bool = False) -> bool:
    """False: another harness is at work on it, and was not waited for.

    It goes as a whole, and then its files: if this is interrupted, no half of it is left that
    would be taken for an environment.
    """
    lock = place.with_name(f"{place.name}.lock")
    gone = place.with_name(f".{place.name.lstrip('.')}.gone")
    try:
        with FileLock(lock, timeout=-1 if wait else 0):
            shutil.rmtree(gone, ignore_errors=True)
            with contextlib.suppress(OSError):
                place.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            lock.unlink(missing_ok=True)
    except Timeout:
        return False
    return not place.exists()


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size if not path.is_dir() else 0
    return total
