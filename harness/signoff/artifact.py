"""The file that is about to ship, read once.

Between a check and a use, a file can be swapped. So its bytes are read a single time, from one
descriptor, and while they are hashed they are copied: what the copy holds is what was judged,
whatever has become of the file since. The copy gets its name only after the answer.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

_CHUNK = 2**20


@dataclass(frozen=True)
class Taken:
    """What was read of an artifact. ``copy``: a temporary file with the same bytes, if asked."""

    sha256: str
    size: int
    mode: int
    copy: Path | None = None

    def release(self, target: Path) -> None:
        """Give the copy its name, replacing what was there. Nothing is ever half there."""
        assert self.copy is not None
        try:
            self.copy.chmod(self.mode & 0o777)
            self.copy.replace(target)
        except OSError as error:
            raise UsageError(f"{target}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def taken(path: Path, copy_to: Path | None = None) -> Iterator[Taken]:
    """``path``, hashed, and copied beside ``copy_to``; a copy that is not released is removed.

    Raises UsageError if it is not a regular file, if it is a link, or if it cannot be read or
    copied.
    """
    with contextlib.ExitStack() as stack:
        descriptor = _opened(path)
        stack.callback(os.close, descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: not a regular file", "name the artifact itself")
        copy = None
        if copy_to is not None:
            copy = _temporary(copy_to)
            stack.callback(copy.unlink, missing_ok=True)
        digest, size = _read(path, descriptor, copy)
        yield Taken(digest, size, status.st_mode, copy)


def _opened(path: Path) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(
                f"{path}: a symbolic link, which can be turned to another file after the check",
                f"name the file itself: {os.path.realpath(path)}",
            ) from error
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _temporary(target: Path) -> Path:
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:64]}.", dir=target.parent)
    except OSError as error:
        raise UsageError(
            f"{target}: cannot be written: {error.strerror}", "name a folder that is there"
        ) from error
    os.close(handle)
    return Path(name)


def _read(path: Path, descriptor: int, copy: Path | None) -> tuple[str, int]:
    """(sha256, bytes) of what is read, all of which goes to ``copy`` as well."""
    found, size = hashlib.sha256(), 0
    with open(copy or os.devnull, "wb") as out:
        while data := _some(path, descriptor):
            found.update(data)
            size += len(data)
            if copy is not None:
                _write(copy, out.fileno(), data)
        if copy is not None:
            os.fsync(out.fileno())
    return found.hexdigest(), size


def _some(path: Path, descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error


def _write(copy: Path, descriptor: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError as error:
        raise UsageError(f"{copy.parent}: cannot be written: {error.strerror}") from error
