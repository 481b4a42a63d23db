"""Small results in the user's cache, by the digest of all that they follow from.

A result that is not there, not whole, too large or unreadable is none. A full disk or a read-only
cache is no matter.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

MAX_BYTES = 2**20


class Shelf:
    """Files in ``folder``. ``words`` are the same for all of them, such as the engine's name."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self._words = words

    def read(self, key: str) -> bytes | None:
        try:
            with self.place(key).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError:
            return None
        return data if len(data) <= MAX_BYTES else None

    def write(self, key: str, data: bytes) -> None:
        place = self.place(key)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=place.parent, prefix=".")
            try:
                with open(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(place)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError:
            return

    def remove(self, key: str) -> None:
        with contextlib.suppress(OSError):
            self.place(key).unlink()

    def place(self, key: str) -> Path:
        name = hashlib.sha256(" ".join([key, *self._words]).encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.json"
