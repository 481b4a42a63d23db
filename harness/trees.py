"""What a directory tree holds: every path, mode, size and byte, in one listing and one digest.

Times and the place where the tree lies play no part.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.errors import ToolchainError


def listing(root: Path) -> dict[str, str]:
    """Path below ``root`` → what is there, for everything in it. Hashes files in parallel.

    ``d MODE``, ``f MODE SIZE SHA256`` or ``l TARGET``. Raises ToolchainError for a link that
    leaves ``root``, and for anything that is neither file, directory nor link.
    """
    found = dict(walk(root))
    files = [path for path, entry in found.items() if entry.startswith("f ")]
    workers = os.cpu_count() or 1
    shares = [files[start::workers] for start in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        for share, digests in zip(shares, pool.map(lambda s: _hash(root, s), shares), strict=True):
            for path, digest in zip(share, digests, strict=True):
                found[path] += f" {digest}"
    return found


def tree_digest(entries: dict[str, str]) -> str:
    """One sha256 over a :func:`listing`."""
    digest = hashlib.sha256()
    for path, entry in sorted(entries.items()):
        digest.update(os.fsencode(path) + b"\0" + os.fsencode(entry) + b"\0")
    return digest.hexdigest()


def walk(root: Path) -> Iterator[tuple[str, str]]:
    """(path, entry) as in :func:`listing`, but without digests, in no particular order."""
    real = os.path.realpath(root)
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                status = entry.stat(follow_symlinks=False)
                mode = f"{stat.S_IMODE(status.st_mode):o}"
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    if target != real and not target.startswith(real + os.sep):
                        raise ToolchainError(
                            f"{root}: {path!r} is a link that leaves the environment",
                            "do not use this toolchain",
                        )
                    yield path, f"l {Path(entry.path).readlink()}"
                elif entry.is_dir():
                    pending.append(f"{path}/")
                    yield path, f"d {mode}"
                elif entry.is_file():
                    yield path, f"f {mode} {status.st_size}"
                else:
                    raise ToolchainError(
                        f"{root}: {path!r} is neither file, directory nor link",
                        "do not use this toolchain",
                    )


def _hash(root: Path, paths: list[str]) -> list[str]:
    digests = []
    for path in paths:
        with open(f"{root}/{path}", "rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests
