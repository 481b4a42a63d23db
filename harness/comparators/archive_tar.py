"""A tar, also one that is packed by gzip; read forward only."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from collections.abc import Iterator
from typing import IO, BinaryIO, cast

from harness.comparators.archive_listing import (
    BLOCK,
    MAX_KEPT,
    MAX_KEPT_IN_ALL,
    MAX_NAME,
    Budget,
    Listing,
    Member,
    upto,
)
from harness.comparators.interface import NotThisFormatError
from harness.text import printable

MAX_HEADER = 2**20  # bytes that one header of a tar may have


class Tape:
    """A file that is only wound forward; keeps what was read outside the members' content."""

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        self.file = file
        self.budget = budget
        self.position = 0
        self.inside = False  # whether a member's content is read
        self.kept = bytearray()

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise NotThisFormatError(f"a tar with a header of more than {MAX_HEADER:,} bytes")
        data = self.file.read(size)
        self.budget.read(len(data))
        self.position += len(data)
        if not self.inside:
            self.kept += data
            if len(self.kept) > 4 * MAX_HEADER:
                raise NotThisFormatError(f"a tar with headers of more than {MAX_HEADER:,} bytes")
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position < self.position:
            raise NotThisFormatError("a tar whose members lie over each other")
        while self.position < position and self.read(min(BLOCK, position - self.position)):
            pass
        return self.position

    def tell(self) -> int:
        return self.position

    def take(self) -> bytes:
        data = bytes(self.kept)
        self.kept.clear()
        return data


class TarReader:
    def __init__(self, file: BinaryIO, budget: Budget, *, packed: bool) -> None:
        self.file = file
        self.budget = budget
        self.packed = packed
        self.format = "tar.gz" if packed else "tar"

    def members(self) -> Iterator[tuple[tarfile.TarInfo | None, bytes, Iterator[bytes]]]:
        """Each member: what is said of it, its headers, its content. Last None: what is behind."""
        self.file.seek(0)
        unpacked = gzip.GzipFile(fileobj=self.file) if self.packed else None
        tape = Tape(cast("IO[bytes]", unpacked or self.file), self.budget)
        archive = tarfile.open(fileobj=cast("IO[bytes]", tape), mode="r:", errorlevel=2)  # noqa: SIM115
        behind = hashlib.sha256()
        while (info := archive.next()) is not None:
            blocks = self.blocks(archive, info, tape)
            yield info, tape.take(), blocks
            for _ in blocks:  # what nobody wanted to see
                pass
            tape.inside = False
            tape.seek(archive.offset)
            behind.update(tape.take().rstrip(b"\0"))  # padding, as long as the content wants it
        zeros = 0  # at the very end only their number may differ
        while (block := tape.take()) or tape.read(BLOCK):
            if ending := block.rstrip(b"\0"):
                behind.update(b"%d zeros " % zeros + ending)
                zeros = 0
            zeros += len(block) - len(ending)
        yield None, behind.digest(), iter(())

    def blocks(
        self, archive: tarfile.TarFile, info: tarfile.TarInfo, tape: Tape
    ) -> Iterator[bytes]:
        stream = archive.extractfile(info) if info.isreg() else None
        if stream is None:
            return
        tape.inside = True
        while block := stream.read(BLOCK):
            self.budget.read(len(block) if info.issparse() else 0)
            yield block
        tape.inside = False

    def listing(self) -> Listing:
        found = Listing(self.format)
        if self.packed:
            self.file.seek(0)
            found.frame = self.file.read(10).hex()
        for info, headers, blocks in self.members():
            if info is None:
                found.structure = headers
                break
            self.budget.member()
            digest = hashlib.sha256()
            for block in blocks:
                digest.update(block)
            name = printable(info.name, MAX_NAME)
            attributes = {
                "time": str(info.mtime),
                "mode": f"{info.mode:o}",
                "owner": printable(f"{info.uid}:{info.gid} {info.uname}:{info.gname}", 400),
                "type": printable(info.type, 20),
                "target": printable(info.linkname, MAX_NAME),
                "headers": hashlib.sha256(masked(headers, info)).hexdigest()[:16],
            }
            size = info.size if info.isreg() else 0
            whole = hashlib.sha256(headers).digest()
            found.members.append(
                Member(name, found.key(name), size, digest.digest(), attributes, whole)
            )
        return found

    def digest(self, key: str) -> bytes:
        raise NotImplementedError("the listing has it")

    def contents(self, keys: set[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        names = Listing(self.format)
        total = 0
        for info, _, blocks in self.members():
            if info is None or not keys:
                break
            key = names.key(printable(info.name, MAX_NAME))
            wanted = key in keys and info.isreg() and info.size <= MAX_KEPT
            if wanted and total + info.size <= MAX_KEPT_IN_ALL:
                found[key] = b"".join(upto(blocks, MAX_KEPT))
                total += len(found[key])
        return found


def masked(headers: bytes, info: tarfile.TarInfo) -> bytes:
    """The headers without what is compared as a value: mode to check sum, names of owners."""
    last = len(headers) - tarfile.BLOCKSIZE
    if last < 0 or info.issparse():
        return headers
    block = headers[last:]
    return headers[:last] + block[:100] + block[156:157] + block[257:265] + block[329:]
