"""Which files of an environment a run really opened, as seen from the host, without root.

How: inotify watches (``IN_OPEN``) on every directory of the environment. The kernel reports by
inode, so opens through bind mounts, in namespaces and in containers that mount the environment
are seen as well; opening for ``exec``, for ``mmap`` and by the dynamic linker are opens. The other
ways that were looked at see less or cost more: fanotify with process ids needs root; sampling
``/proc/PID/maps`` misses what is read and closed between two samples; access times are off
(``relatime``, ``noatime``) on most machines; Python's list of modules is told by the toolchain
itself. Measured with an environment of 1,103 directories: 25 to 40 ms to begin and end, nothing
measurable while the run opens about 800 files.

What it cannot see:

1. Who opened a file. Whoever reads the environment meanwhile counts: a second build of the same
   toolchain at the same time, another harness that verifies it. So the list can hold too much,
   never too little for that reason.
2. What was done with it. A file that was opened counts whole, even if one byte was read.
3. Files outside of the watched directories: the host's C library, the interpreter. They count as
   the base system.
4. Files of an image, by watching a copy: they have other inodes. An engine that has images watches
   the running container's own file system instead, before its command begins.
5. In an image, what its own Python opens before it comes to the gate. A run that never comes there
   counts as not watched.
6. More events than the kernel's queue holds (``fs.inotify.max_queued_events``), or directories
   than watches allow. Then nothing is known, :attr:`Opened.complete` is False, and callers must
   take every file for opened. A toolchain that floods the queue gains nothing by it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import struct
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_IN_OPEN = 0x20
_IN_Q_OVERFLOW = 0x4000
_IN_ONLYDIR = 0x01000000
_IN_DONT_FOLLOW = 0x02000000
_IN_ISDIR = 0x40000000
_HEADER = struct.Struct("iIII")
_BLOCK = 1 << 18
_POLL_SECONDS = 0.05
_MAX_LISTING_BYTES = 64 * 2**20
_MAX_PATHS = 200_000  # an environment has some ten thousand files


@dataclass(frozen=True)
class Opened:
    """By the name of each root: the files that were opened, as sorted paths below it.

    ``complete`` is False, with a reason, where events were lost or could not be had.
    """

    paths: Mapping[str, tuple[str, ...]]
    complete: bool
    reason: str = ""


@dataclass(frozen=True)
class Root:
    """A directory to watch. ``folders``: all directories below it, if that is known already."""

    path: Path
    folders: tuple[str, ...] | None = None


class Recorder:
    """Collects while it runs. ``result`` is whole only after the ``with`` block has ended."""

    def __init__(self, roots: Mapping[str, Root]) -> None:
        self._seen: dict[str, set[str]] = {name: set() for name in roots}
        self._folders: dict[int, list[tuple[str, str]]] = {}
        self._reason = ""
        self._stop_read, self._stop_write = -1, -1
        self._descriptor = -1
        self._thread: threading.Thread | None = None
        try:
            self._begin(roots)
        except OSError as error:
            self._close()
            self._reason = f"inotify: {error.strerror}"

    @property
    def result(self) -> Opened:
        paths = {name: tuple(sorted(seen)) for name, seen in self._seen.items()}
        return Opened(paths, not self._reason, self._reason)

    def stop(self) -> None:
        """Take in what the kernel still holds, and end."""
        if self._thread is not None:
            os.write(self._stop_write, b".")
            self._thread.join()
        self._close()

    def _begin(self, roots: Mapping[str, Root]) -> None:
        if not sys.platform.startswith("linux"):
            raise OSError(0, "exists on Linux only")
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise _last_error()
        flags = _IN_OPEN | _IN_ONLYDIR | _IN_DONT_FOLLOW
        for name, root in roots.items():
            path = os.fsencode(root.path)
            below = folders(root.path) if root.folders is None else root.folders
            for folder in ("", *below):
                # No slash at the end: it would follow a link that stands there.
                place = path + b"/" + os.fsencode(folder) if folder else path
                watch = libc.inotify_add_watch(self._descriptor, place, flags)
                if watch < 0:
                    raise _last_error()
                # Two roots may be one directory: then each gets what is opened.
                self._folders.setdefault(watch, []).append((name, folder))
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._collect, name="opened", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while True:
            # By the clock, not at every event: waking up a thousand times would slow the run down.
            ready, _, _ = select.select([self._stop_read], [], [], _POLL_SECONDS)
            while block := self._read():
                self._take(block)
            if ready:
                return

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, _BLOCK)
        except BlockingIOError:
            return b""

    def _take(self, block: bytes) -> None:
        at = 0
        while at < len(block):
            watch, mask, _, length = _HEADER.unpack_from(block, at)
            at += _HEADER.size
            name = os.fsdecode(block[at : at + length].rstrip(b"\0"))
            at += length
            if mask & _IN_Q_OVERFLOW:
                self._reason = "more files were opened at once than the kernel's queue holds"
            if not name or mask & _IN_ISDIR:
                continue
            for root, folder in self._folders.get(watch, ()):
                if len(self._seen[root]) >= _MAX_PATHS:
                    self._reason = f"more than {_MAX_PATHS} files were opened"
                else:
                    self._seen[root].add(f"{folder}/{name}" if folder else name)

    def _close(self) -> None:
        for descriptor in (self._descriptor, self._stop_read, self._stop_write):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._stop_read = self._stop_write = -1


@contextmanager
def start(roots: Mapping[str, Root]) -> Iterator[Recorder]:
    """Record what is opened below ``roots`` (by their names) until the block ends.

    Never raises for what the kernel refuses: then the result is not complete, and says why.
    """
    recorder = Recorder(roots)
    try:
        yield recorder
    finally:
        recorder.stop()


def merged(found: Iterable[Opened | None]) -> Opened | None:
    """What any of several runs opened. Not complete if one of them is not known."""
    paths: dict[str, set[str]] = {}
    reason, some = "", False
    for each in found:
        some = True
        if each is None:
            reason = reason or "not all of its runs were watched"
            continue
        reason = reason or each.reason
        for root, names in each.paths.items():
            paths.setdefault(root, set()).update(names)
    if not some:
        return None
    return Opened({root: tuple(sorted(names)) for root, names in paths.items()}, not reason, reason)


def dump(opened: Opened) -> bytes:
    """As it is kept in the store, so that equal lists are kept once."""
    content = {"complete": opened.complete, "paths": opened.paths, "reason": opened.reason}
    return json.dumps(content, sort_keys=True, indent=0, default=dict).encode("ascii")


def load(data: bytes) -> Opened | None:
    """None for anything that :func:`dump` did not write."""
    if len(data) > _MAX_LISTING_BYTES:
        return None
    try:
        found = json.loads(data)
        paths = {str(root): tuple(map(str, names)) for root, names in found["paths"].items()}
        return Opened(paths, found["complete"] is True, str(found["reason"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def folders(root: Path) -> tuple[str, ...]:
    """Every directory below ``root``, parents first."""
    found, pending = [], [""]
    while pending:
        folder = pending.pop()
        if folder:
            found.append(folder)
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{folder}/{entry.name}" if folder else entry.name)
    return tuple(found)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
