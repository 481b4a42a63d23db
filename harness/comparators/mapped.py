"""A mapped file, and which bytes of two such files are equal.

Reading goes on the mapped file: what is 2 GB long must not need 2 GB.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path

from harness.comparators.text import common_prefix, common_suffix

BLOCK = 2**18  # bytes compared or counted at once
FORGET = 2**26  # bytes looked at before the pages that are mapped so far are given back
AROUND = 2**16  # bytes that one look at a mapped file may bring in


class Source:
    """One file, mapped. Nothing of it is copied before it is asked for."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        self.size = len(data)
        self._newlines = [0]  # before each block, as far as counted
        self._looked = 0

    def read(self, start: int, end: int) -> bytes:
        self.looked(end - start)
        return self.data[start:end]

    def looked(self, size: int) -> None:
        """Gives mapped pages back from time to time: 2 GB of text must not need 2 GB."""
        self._looked += max(size, AROUND)
        if self._looked > FORGET:
            self._looked = 0
            if isinstance(self.data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                self.data.madvise(mmap.MADV_DONTNEED)

    def after_line(self, start: int) -> int:
        """Where the next line begins."""
        found = self.data.find(b"\n", start)
        return self.size if found < 0 else found + 1

    def line(self, position: int) -> int:
        """How many lines end before ``position``."""
        counts = self._newlines
        while len(counts) <= position // BLOCK:
            start = (len(counts) - 1) * BLOCK
            counts.append(counts[-1] + self.read(start, start + BLOCK).count(b"\n"))
        block = position // BLOCK
        return counts[block] + self.data[block * BLOCK : position].count(b"\n")

    def digest(self, start: int, end: int) -> str:
        """The sha256 of a range."""
        digest = hashlib.sha256()
        for at in range(start, end, BLOCK):
            digest.update(self.read(at, min(at + BLOCK, end)))
        return digest.hexdigest()


def source(path: Path) -> Source:
    """The mapping ends when the last reference to it goes; a match of ``re`` may still hold one."""
    with open(path, "rb") as stream:
        if stream.seek(0, 2) == 0:
            return Source(b"")
        return Source(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def same_bytes(a: Source, start: int, end: int, b: Source, other: int, other_end: int) -> bool:
    if end - start != other_end - other:
        return False
    for at in range(0, end - start, BLOCK):
        size = min(BLOCK, end - start - at)
        here, there = start + at, other + at
        if a.read(here, here + size) != b.read(there, there + size):
            return False
    return True


def prefix_of(a: Source, start: int, end: int, b: Source, other: int, other_end: int) -> int:
    """How many bytes are equal from the two starts on."""
    size = min(end - start, other_end - other)
    for at in range(0, size, BLOCK):
        step = min(BLOCK, size - at)
        x = a.read(start + at, start + at + step)
        y = b.read(other + at, other + at + step)
        if x != y:
            return at + common_prefix(x, 0, y, 0)
    return size


def suffix_of(a: Source, end: int, b: Source, other_end: int, most: int) -> int:
    """How many bytes are equal back from the two ends; at most ``most``."""
    for at in range(0, most, BLOCK):
        step = min(BLOCK, most - at)
        x = a.read(end - at - step, end - at)
        y = b.read(other_end - at - step, other_end - at)
        if x != y:
            return at + common_suffix(x, y, step)
    return most


def lines_between(text: Source, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each line, its newline included."""
    while start < end:
        after = min(text.after_line(start), end)
        yield start, after
        start = after
