"""What an archive holds, and what reading it may cost.

What an archive unpacks to is counted while it is unpacked, over all levels of archives within
archives.
"""

from __future__ import annotations

import tarfile
import time
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from harness.comparators.interface import NotThisFormatError

MAX_MEMBERS = 50_000  # of both archives, at all levels
MAX_UNPACKED = 8 * 2**30  # bytes that are unpacked or read, of both archives, at all levels
MAX_KEPT = 16 * 2**20  # of one member that is looked into
MAX_KEPT_IN_ALL = 64 * 2**20
BLOCK = 256 * 1024
MAX_NAME = 200
# What the standard library raises for archives that are broken or made to break it.
BROKEN = (
    OSError, EOFError, ValueError, LookupError, ArithmeticError, NotImplementedError, RuntimeError,
    AttributeError, TypeError, MemoryError, zlib.error, zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip


@dataclass
class Budget:
    """What both archives may still cost. Raises NotThisFormatError when it is spent."""

    deadline: float
    members: int = field(default_factory=lambda: MAX_MEMBERS)
    unpacked: int = field(default_factory=lambda: MAX_UNPACKED)

    def member(self) -> None:
        self.members -= 1
        if self.members < 0:
            raise NotThisFormatError(f"archives with more than {MAX_MEMBERS:,} members")

    def read(self, size: int) -> None:
        self.unpacked -= size
        if self.unpacked < 0:
            raise NotThisFormatError(f"archives that unpack to more than {MAX_UNPACKED:,} bytes")
        if time.monotonic() > self.deadline:
            raise NotThisFormatError("archives that take too long to be unpacked")


@dataclass(frozen=True)
class Member:
    """``attributes``: what is said of it besides its content. ``stored``: how its bytes are packed
    and their digest; empty where nothing is packed. ``headers``: the digest of all its headers.
    """

    name: str
    key: str  # the name, with a number behind it if it occurs several times
    size: int
    digest: bytes
    attributes: dict[str, str]
    headers: bytes
    stored: bytes = b""


@dataclass
class Listing:
    """One archive. ``structure``: the digest of all bytes that are no member's content or header.
    ``frame``: how the whole is packed.
    """

    format: str
    members: list[Member] = field(default_factory=list)
    structure: bytes = b""
    frame: str = ""
    seen: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def key(self, name: str) -> str:
        self.seen[name] += 1
        return name if self.seen[name] == 1 else f"{name} ({self.seen[name]})"


def upto(blocks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    for block in blocks:
        limit -= len(block)
        if limit < 0:
            raise OSError("a member is longer than it says")
        yield block
