"""Content-addressed artifacts and the folders of runs. Atomic, crash-safe, verified at every read.

    <root>/objects/ab/cdef…        each artifact once, by SHA-256, read-only
    <root>/<run>/builds/<id>/record.json, log.txt
    <root>/<run>/report.json       written last: a run without it is not a run
    <root>/<run>/report.html       made from it, for people

Nothing is taken for whole before a rename has put it in its place. A live run holds a lock on its
folder; scratch left behind by a killed one is removed by the next.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from harness.errors import StoreError
from harness.models import BuildRecord, Report
from harness.records import dump_build, dump_report, load_build, load_report

_BLOCK = 1 << 20


class Store:
    """Results below ``root``. Every OS error becomes a StoreError that names the place."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.objects = self.root / "objects"
        self._whole: set[str] = set()  # objects that were seen to be whole
        with _friendly(self.root):
            self.objects.mkdir(parents=True, exist_ok=True)

    # artifacts

    def add(self, source: Path) -> tuple[str, int]:
        """Take a copy of a regular file; return its SHA-256 and size in bytes.

        The file is opened once, without following links, and hashed from that descriptor. What
        is stored is hashed again while it is copied, so a file that changes meanwhile is refused.
        """
        with _friendly(source):
            descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise StoreError(f"{source} is not a regular file")
                digest, size = _digest(file)
                if not self._has(digest):
                    file.seek(0)
                    self._copy(file, digest)
        return digest, size

    def add_bytes(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        with _friendly(self.objects):
            if not self._has(digest):
                _write_atomically(self._path(digest), data, mode=0o444)
        return digest

    def read(self, digest: str) -> bytes:
        """The bytes of an artifact, verified."""
        path = self._path(digest)
        with _friendly(path):
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError(f"{path} is not what it was when it was stored", "Run again.")
        return data

    def verified(self, digest: str) -> Path:
        """Where an artifact lies, read-only, after its bytes have been verified."""
        path = self._path(digest)
        with _friendly(path), path.open("rb") as file:
            if _digest(file)[0] != digest:
                raise StoreError(f"{path} is not what it was when it was stored", "Run again.")
        return path

    def place(self, digest: str, target: Path) -> None:
        """Write a verified copy of an artifact to ``target``."""
        path = self._path(digest)
        with _friendly(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, target.open("xb") as copy:
                seen = hashlib.sha256()
                while block := source.read(_BLOCK):
                    seen.update(block)
                    copy.write(block)
        if seen.hexdigest() != digest:
            raise StoreError(f"{path} is not what it was when it was stored", "Run again.")

    def verify(self, record: BuildRecord) -> bool:
        """Whether every artifact of ``record`` is still here, byte for byte."""
        for artifact in record.artifacts:
            try:
                with self._path(artifact.sha256).open("rb") as file:
                    if _digest(file) != (artifact.sha256, artifact.size):
                        return False
            except OSError:
                return False
        return True

    def _has(self, digest: str) -> bool:
        """Whether the artifact is here and whole; one that was damaged is stored anew."""
        if digest not in self._whole:
            try:
                with self._path(digest).open("rb") as file:
                    if _digest(file)[0] != digest:
                        return False
            except FileNotFoundError:
                return False
            self._whole.add(digest)
        return True

    def _path(self, digest: str) -> Path:
        return self.objects / digest[:2] / digest[2:]

    def _copy(self, source: BinaryIO, digest: str) -> None:
        target = self._path(digest)
        target.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.objects, prefix="incoming-")
        try:
            with open(handle, "wb") as copy:
                seen = hashlib.sha256()
                while block := source.read(_BLOCK):
                    seen.update(block)
                    copy.write(block)
                os.fchmod(copy.fileno(), 0o444)
            if seen.hexdigest() != digest:
                raise StoreError("an artifact changed while it was being stored")
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)

    # runs

    def run_folder(self, run: str) -> Path:
        if not run or run in {".", "..", "objects"} or "/" in run or "\0" in run:
            raise StoreError(f"{run!r} is not the name of a run", "See `harness show`.")
        return self.root / run

    def runs(self) -> list[str]:
        """Finished runs, oldest first (their names begin with the time they started)."""
        return sorted(path.parent.name for path in self.root.glob("*/report.json"))

    def save_build(self, run: str, record: BuildRecord, log: bytes, key: str) -> None:
        """``key``: a digest of all that decided what was built, for who wants to use it again."""
        folder = self.run_folder(run) / "builds" / record.id
        with _friendly(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # The record is what makes the build count, so it goes first and comes last.
            (folder / "record.json").unlink(missing_ok=True)
            _write_atomically(folder / "log.txt", log)
            _write_atomically(folder / "key", key.encode("ascii"))
            _write_atomically(folder / "record.json", dump_build(record))

    def load_builds(self, run: str) -> list[tuple[BuildRecord, str]]:
        """The builds that an interrupted run had finished and that are still whole, with keys."""
        builds = []
        for path in sorted((self.run_folder(run) / "builds").glob("**/record.json")):
            try:
                record = load_build(path)
                key = (path.parent / "key").read_text("ascii")
            except (StoreError, OSError, UnicodeDecodeError):
                continue  # damaged: it is built again
            if self.verify(record):
                builds.append((record, key))
        return builds

    def save_report(self, report: Report) -> Path:
        path = self.run_folder(report.run) / "report.json"
        with _friendly(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, dump_report(report), durable=True)
        return path

    def save_page(self, run: str, page: str) -> Path:
        """The report for people, beside report.json."""
        path = self.run_folder(run) / "report.html"
        with _friendly(path):
            _write_atomically(path, page.encode("utf-8", "backslashreplace"))
        return path

    def save_bill(self, run: str, toolchain: str, bill: bytes) -> Path:
        """Keep a toolchain's bill of materials with the run."""
        path = self.run_folder(run) / "sbom" / f"{toolchain}.cdx.json"
        with _friendly(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(path, bill)
        return path

    def load_bill(self, run: str, toolchain: str) -> bytes:
        path = self.run_folder(run) / "sbom" / f"{toolchain}.cdx.json"
        with _friendly(path):
            return path.read_bytes()

    def load_report(self, run: str) -> Report:
        path = self.run_folder(run) / "report.json"
        if not path.exists():
            known = ", ".join(self.runs()[-3:]) or "none"
            raise StoreError(f"no finished run {run} in {self.root}", f"Latest runs: {known}.")
        return load_report(path)

    @contextmanager
    def open_run(self, run: str) -> Iterator[Path]:
        """Lock the run's folder and lend a scratch folder that is gone afterwards."""
        folder = self.run_folder(run)
        scratch = folder / "scratch"
        # One at a time, or a run could clean away another that is just about to take its lock.
        with _friendly(folder), open(self.objects / "door", "wb") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            self._clean()
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(lock)
                raise StoreError(
                    f"run {run} is still going on", "Wait for it, or start another run."
                ) from error
        try:
            with _friendly(scratch):
                scratch.mkdir(exist_ok=True)
            yield scratch
        finally:
            remove_tree(scratch)
            (folder / "lock").unlink(missing_ok=True)
            os.close(lock)

    def _clean(self) -> None:
        """Remove what killed runs left behind: their scratch, and artifacts half stored."""
        live = False
        for lock_path in self.root.glob("*/lock"):
            with open(lock_path, "rb+") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    live = True
                    continue
                remove_tree(lock_path.parent / "scratch")
                lock_path.unlink(missing_ok=True)
        if not live:
            for leftover in self.objects.glob("incoming-*"):
                leftover.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder that a hostile program wrote: unreadable, or deeper than paths reach.

    Follows no link. What cannot be removed all the same stays; nothing takes it for anything.
    """
    if path.is_symlink():
        path.unlink()
    with suppress(OSError, RecursionError):
        path.chmod(0o700)
        shutil.rmtree(path)
    if path.exists():
        with suppress(OSError):
            _remove_flattened(path)


def _remove_flattened(path: Path) -> None:
    """Each folder is moved up into ``heap`` before it is emptied, so that no path grows long."""
    heap = Path(tempfile.mkdtemp(dir=path))
    pending = [path]
    numbers = itertools.count()
    while pending:
        folder = pending.pop()
        with os.scandir(folder) as entries:
            inside = [entry for entry in entries if entry.path != str(heap)]
        for entry in inside:
            here = Path(entry.path)
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    here.chmod(0o700)  # also what moving a folder takes
                    pending.append(here.rename(heap / str(next(numbers))))
                else:
                    here.unlink()
        if folder != path:
            with suppress(OSError):
                folder.rmdir()
    heap.rmdir()
    path.rmdir()


def _digest(file: BinaryIO) -> tuple[str, int]:
    seen = hashlib.sha256()
    size = 0
    while block := file.read(_BLOCK):
        seen.update(block)
        size += len(block)
    return seen.hexdigest(), size


def _write_atomically(path: Path, data: bytes, mode: int = 0o644, durable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix="incoming-")
    try:
        with open(handle, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def _friendly(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"no space left to write {place}", "Free some space, or use another --out folder."
            ) from error
        raise StoreError(
            f"cannot use {place}: {error.strerror}", "Check its permissions, or use another --out."
        ) from error
