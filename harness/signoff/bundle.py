"""A bundle: the folder in which signed statements travel, with the files that they name.

    BUNDLE/statements/*.json      DSSE envelopes; their names carry no meaning
    BUNDLE/materials/SHA256       files that statements name by digest
    BUNDLE/in-toto/               for people without this harness; never read here

Whoever hands over a bundle is not trusted. No link in it is followed; only regular files are read,
each through one descriptor, within limits. A statement counts by its signatures, a material by its
digest, which is computed from the very bytes that are returned: what is swapped between two reads
gains nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader, BufferedWriter
from pathlib import Path

from harness.errors import StoreError, UsageError
from harness.signoff.envelope import MAX_BYTES as MAX_STATEMENT
from harness.signoff.envelope import EnvelopeError, read_envelope
from harness.signoff.interface import Rejected
from harness.signoff.trust import SHA256
from harness.text import printable

MAX_STATEMENTS = 512
MAX_TOGETHER = 64 * 2**20  # bytes of all statements
MAX_MATERIAL = 2 * 2**30
MAX_IN_MEMORY = 64 * 2**20  # bytes of a material that is returned as bytes, by default
STATEMENTS, MATERIALS = "statements", "materials"
_BLOCK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Bundle:
    """The bundle at ``root``. It is made by the first thing that is added.

    ``missing``: why a material could not be had, by its digest, as far as somebody asked.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.missing: dict[str, str] = {}

    # statements

    def statements(self) -> Iterator[tuple[str, bytes] | Rejected]:
        """(name, bytes) of each statement's file, by name; a Rejected for what is none.

        StoreError if the bundle cannot be read, or holds more than the limits allow: a part of it
        is never taken for the whole.
        """
        with self._folder() as root:
            try:
                folder = os.open(STATEMENTS, _FOLDER, dir_fd=root)
            except FileNotFoundError:
                return
            except OSError as error:
                raise _unreadable(self.root / STATEMENTS, error) from None
            try:
                yield from self._each(folder)
            finally:
                os.close(folder)

    def _each(self, folder: int) -> Iterator[tuple[str, bytes] | Rejected]:
        names = _listed(folder, self.root / STATEMENTS)
        together = 0
        for name in names:
            shown = printable(name.encode("utf-8", "surrogateescape"), 200)
            if not name.endswith(".json"):
                yield Rejected(shown, "its name does not end with .json")
                continue
            try:
                data = _read(folder, name, MAX_STATEMENT)
            except _Unusable as reason:
                yield Rejected(shown, str(reason))
                continue
            together += len(data)
            if together > MAX_TOGETHER:
                raise _too_large(self.root)
            yield shown, data

    def add_statement(self, data: bytes) -> str:
        """Keep a DSSE file; return its payload's SHA-256. Nothing that is there is overwritten.

        Other signatures over the same payload are kept beside. UsageError if ``data`` is no
        envelope, StoreError if there is no room.
        """
        try:
            digest = read_envelope(data).digest
        except EnvelopeError as error:
            raise UsageError(f"not a statement: {error}") from None
        with self._made(STATEMENTS) as folder:
            places = (f"{digest}.json", f"{digest}-{hashlib.sha256(data).hexdigest()}.json")
            if any(_holds(folder, name, data) for name in places):
                return digest
            self._check_room(folder, len(data))
            for name in places:
                # Somebody else may write the same at the same time.
                if _write(folder, name, lambda file: file.write(data)):
                    return digest
                if _holds(folder, name, data):
                    return digest
        raise StoreError(f"{self.root}: {name} is there, and is something else")

    def _check_room(self, folder: int, size: int) -> None:
        names = _listed(folder, self.root / STATEMENTS)
        if len(names) >= MAX_STATEMENTS:
            raise StoreError(f"{self.root}: has {MAX_STATEMENTS} statements already")
        for name in names:
            with suppress(OSError):
                size += os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
        if size > MAX_TOGETHER:
            raise _too_large(self.root)

    # materials

    def add_material(self, source: Path | bytes) -> str:
        """Keep a copy of a regular file (no link), or of bytes; return its SHA-256."""
        with self._made(MATERIALS) as folder:
            if isinstance(source, bytes):
                return self._keep(folder, hashlib.sha256(source).hexdigest(), iter([source]))
            try:
                opened = _open(None, source, MAX_MATERIAL)
            except FileNotFoundError:
                raise StoreError(f"{source}: No such file", "Check the path.") from None
            except _Unusable as reason:
                raise StoreError(f"{source} {reason}", "Give the file itself.") from None
            with opened as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                return self._keep(folder, digest, _blocks(file))

    def material(self, sha256: str, limit: int = MAX_IN_MEMORY) -> bytes | None:
        """The bytes with that digest, verified; None with a reason in ``missing``.

        limit: most bytes.
        """
        with self._opened(sha256, limit) as file:
            if file is None:
                return None
            data = file.read(limit + 1)
            if len(data) <= limit and hashlib.sha256(data).hexdigest() == sha256:
                return data
            self.missing[sha256] = "is damaged" if len(data) <= limit else "grows while it is read"
        return None

    def copy_material(self, sha256: str, target: Path) -> bool:
        """Write the bytes with that digest to ``target``, a new file; False as for material().

        What was copied is what was verified. Nothing is left behind if it is not whole.
        """
        with self._opened(sha256, MAX_MATERIAL) as file:
            if file is None:
                return False
            seen = hashlib.sha256()
            try:
                with target.open("xb") as copy:
                    for block in _blocks(file):
                        seen.update(block)
                        copy.write(block)
            except OSError as error:
                raise StoreError(f"{target}: {error.strerror}") from None
            if seen.hexdigest() == sha256:
                return True
            target.unlink()
            self.missing[sha256] = "is damaged"
        return False

    def material_path(self, sha256: str) -> Path | None:
        """Where the material lies, after it was verified; None as for material().

        Only for a bundle that nobody else writes to: what is opened later may be something else.
        """
        with self._opened(sha256, MAX_MATERIAL) as file:
            if file is None:
                return None
            if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                return self.root / MATERIALS / sha256
            self.missing[sha256] = "is damaged"
        return None

    def _keep(self, folder: int, digest: str, blocks: Iterator[bytes]) -> str:
        """Write a material, unless it is there and whole."""
        with suppress(_Unusable, FileNotFoundError), _open(folder, digest, MAX_MATERIAL) as there:
            if hashlib.file_digest(there, "sha256").hexdigest() == digest:
                return digest

        def write(file: BufferedWriter) -> None:
            seen, size = hashlib.sha256(), 0
            for block in blocks:
                seen.update(block)
                size += len(block)
                if size > MAX_MATERIAL:
                    raise StoreError(f"a material is larger than {MAX_MATERIAL} bytes")
                file.write(block)
            if seen.hexdigest() != digest:
                raise StoreError("a material changed while it was being copied", "Try again.")

        # One that was damaged goes: its name says what it has to be.
        _write(folder, digest, write, over=True)
        return digest

    @contextmanager
    def _opened(self, sha256: str, limit: int) -> Iterator[BufferedReader | None]:
        """The material's file, not verified yet; None with a reason in ``missing``."""
        if not SHA256.fullmatch(sha256):
            self.missing[printable(sha256, 100)] = "is no SHA-256"
            yield None
            return
        with self._folder() as root:
            try:
                folder = os.open(MATERIALS, _FOLDER, dir_fd=root)
            except OSError as error:
                self.missing[sha256] = f"{MATERIALS} cannot be read: {error.strerror}"
                yield None
                return
            try:
                file = _open(folder, sha256, limit)
            except FileNotFoundError:
                self.missing[sha256] = "is not in the bundle"
                yield None
                return
            except _Unusable as reason:
                self.missing[sha256] = str(reason)
                yield None
                return
            finally:
                os.close(folder)
            with file:
                yield file

    # folders

    @contextmanager
    def _folder(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.root, _FOLDER)
        except OSError as error:
            raise _unreadable(self.root, error) from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _made(self, name: str) -> Iterator[int]:
        """A folder of the bundle, to write in."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._folder() as root:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=root)
                folder = os.open(name, _FOLDER, dir_fd=root)
            try:
                yield folder
            finally:
                os.close(folder)
        except FileExistsError:
            raise StoreError(f"{self.root} is not a folder") from None
        except OSError as error:
            raise StoreError(
                f"{self.root}: cannot be written: {error.strerror}", "Check room and permissions."
            ) from None


class _Unusable(Exception):  # noqa: N818 - a reason, which becomes a Rejected
    """A file that is not what a bundle holds; the text is the reason."""


def _listed(folder: int, place: Path) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > MAX_STATEMENTS:
                raise StoreError(
                    f"{place}: holds more than {MAX_STATEMENTS} files",
                    "Leave out what does not belong to this release.",
                )
    return sorted(names)


def _open(folder: int | None, name: str | Path, limit: int) -> BufferedReader:
    """A regular file of at most ``limit`` bytes, not a link; _Unusable or FileNotFoundError."""
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.EMLINK)
        words = "a link, which is not followed" if link else f"unreadable: {error.strerror}"
        raise _Unusable(f"is {words}") from None
    # Before it becomes a file of Python's, which would not take a folder.
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > limit:
        os.close(descriptor)
        regular = stat.S_ISREG(found.st_mode)
        raise _Unusable(f"is larger than {limit} bytes" if regular else "is not a regular file")
    return open(descriptor, "rb")


def _read(folder: int, name: str, limit: int) -> bytes:
    try:
        with _open(folder, name, limit) as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        raise _Unusable("went away while the bundle was read") from None
    except OSError as error:
        raise _Unusable(f"is unreadable: {error.strerror}") from None
    if len(data) > limit:
        raise _Unusable(f"is larger than {limit} bytes")
    return data


def _holds(folder: int, name: str, data: bytes) -> bool:
    try:
        return _read(folder, name, MAX_STATEMENT) == data
    except _Unusable:
        return False


def _blocks(file: BufferedReader) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _write(
    folder: int, name: str, write: Callable[[BufferedWriter], object], *, over: bool = False
) -> bool:
    """Make the file ``name`` whole or not at all. False if it is there and may not be replaced."""
    temporary = f".incoming-{secrets.token_hex(8)}"
    try:
        with open(os.open(temporary, _WRITE, 0o644, dir_fd=folder), "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if over:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            # Unlike a rename, never over what is there.
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
    return True


def _too_large(root: Path) -> StoreError:
    return StoreError(
        f"{root}: its statements are larger than {MAX_TOGETHER} bytes together",
        "Leave out what does not belong to this release.",
    )


def _unreadable(place: Path, error: OSError) -> StoreError:
    link = error.errno in (errno.ELOOP, errno.ENOTDIR) and place.is_symlink()
    words = "is a link, which is not followed" if link else f"cannot be read: {error.strerror}"
    return StoreError(f"{place}: {words}", "Give the folder or file itself." if link else "")
