"""A zip: its members, its rows, and the bytes between them."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO, cast

from harness.comparators.archive_listing import (
    BLOCK,
    BROKEN,
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

MAX_CENTRAL = 8 * 2**20  # of a zip's central directory


class Rationed:
    """A file that never hands out more than MAX_CENTRAL bytes at once. For zipfile."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.seek, self.tell = file.seek, file.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size if 0 <= size <= MAX_CENTRAL else MAX_CENTRAL + 1)
        if len(data) > MAX_CENTRAL:
            raise NotThisFormatError(f"a zip with more than {MAX_CENTRAL:,} bytes of names")
        return data


class ZipReader:
    format = "zip"

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self.file = file
        self.budget = budget
        self.zip = zipfile.ZipFile(cast("IO[bytes]", Rationed(file)))
        self.infos: dict[str, zipfile.ZipInfo] = {}

    def listing(self) -> Listing:
        found = Listing(self.format)
        central = self.central()
        covered: list[tuple[int, int]] = []
        for number, info in enumerate(self.zip.infolist()):
            self.budget.member()
            name = printable(info.orig_filename, MAX_NAME)
            key = found.key(name)
            self.infos[key] = info
            local, start = self.local(info)
            end = start + info.compress_size
            stored = hashlib.sha256(f"{info.compress_type} {info.flag_bits & 1} ".encode())
            for block in self.raw(start, info.compress_size):
                stored.update(block)
            row_start, row = central[number] if number < len(central) else (0, b"")
            covered += [(info.header_offset, end + self.descriptor(info, end))]
            covered += [(row_start, row_start + len(row))]
            masked = local[:10] + local[26:] + row[:12] + row[28:38] + row[46:]
            attributes = {
                "time": "{:04}-{:02}-{:02} {:02}:{:02}:{:02}".format(*info.date_time),
                "mode": f"{info.external_attr >> 16:o}/{info.external_attr & 0xFFFF:x}",
                "headers": hashlib.sha256(masked).hexdigest()[:16],
            }
            headers = hashlib.sha256(local[:14] + local[26:] + row[:16] + row[28:42] + row[46:])
            found.members.append(
                Member(
                    name, key, info.file_size, b"", attributes, headers.digest(), stored.digest()
                )
            )
        found.structure = self.structure(covered)
        return found

    def central(self) -> list[tuple[int, bytes]]:
        """The rows of the central directory, each with its place."""
        found: list[tuple[int, bytes]] = []
        at = self.zip.start_dir
        while True:
            self.file.seek(at)
            row = self.file.read(46)
            if len(row) < 46 or row[:4] != b"PK\x01\x02":
                return found
            row += self.file.read(sum(struct.unpack_from("<3H", row, 28)))
            found.append((at, row))
            at += len(row)

    def local(self, info: zipfile.ZipInfo) -> tuple[bytes, int]:
        """The header before a member, and where its content begins."""
        self.file.seek(info.header_offset)
        head = self.file.read(30)
        if head[:4] != b"PK\x03\x04" or len(head) < 30:
            raise NotThisFormatError("a zip with a member that is not there")
        head += self.file.read(sum(struct.unpack_from("<2H", head, 26)))
        return head, info.header_offset + len(head)

    def descriptor(self, info: zipfile.ZipInfo, end: int) -> int:
        """The length of the record behind a member that repeats its checksum and its sizes."""
        if info.flag_bits & 8:
            self.file.seek(end)
            record = self.file.read(24)
            for layout in ("<4sIII", "<4sIQQ"):
                wanted = struct.pack(
                    layout, b"PK\x07\x08", info.CRC & 0xFFFFFFFF, info.compress_size, info.file_size
                )  # fmt: skip
                if record.startswith(wanted):
                    return len(wanted)
        return 0

    def structure(self, covered: list[tuple[int, int]]) -> bytes:
        """The digest of what is neither a member nor its row, but for offsets and sizes."""
        found = hashlib.sha256()
        self.file.seek(0, io.SEEK_END)
        size = self.file.tell()
        done = 0
        for start, end in (*sorted(covered), (size, size)):
            if start > done:
                gap = b"".join(self.raw(done, min(start - done, MAX_CENTRAL)))
                if gap.startswith(b"PK\x05\x06"):
                    gap = gap[:8] + gap[20:]
                found.update(gap)
                for block in self.raw(done + MAX_CENTRAL, start - done - MAX_CENTRAL):
                    found.update(block)
            done = max(done, end)
        return found.digest()

    def raw(self, start: int, size: int) -> Iterator[bytes]:
        self.file.seek(start)
        while size > 0:
            block = self.file.read(min(BLOCK, size))
            if not block:
                return
            self.budget.read(len(block))
            size -= len(block)
            yield block

    def digest(self, key: str) -> bytes:
        """Of what is encrypted or packed in an unknown way: of its bytes as they are stored."""
        found = hashlib.sha256()
        info = self.infos[key]
        try:
            for block in self.blocks(info):
                found.update(block)
        except BROKEN:
            found = hashlib.sha256(b"not readable ")
            for block in self.raw(self.local(info)[1], info.compress_size):
                found.update(block)
        return found.digest()

    def blocks(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        with self.zip.open(info) as stream:
            while block := stream.read(BLOCK):
                self.budget.read(len(block))
                yield block

    def contents(self, keys: set[str]) -> dict[str, bytes]:
        found = {}
        total = 0
        for key in keys:
            info = self.infos[key]
            total += info.file_size
            if info.file_size > MAX_KEPT or total > MAX_KEPT_IN_ALL:
                continue
            try:
                content = b"".join(upto(self.blocks(info), MAX_KEPT))
            except BROKEN:
                continue
            found[key] = content
        return found
