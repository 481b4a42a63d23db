"""What every reader of an archive can do, and which one fits a file."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO, Protocol

from harness.comparators.archive_listing import Budget, Listing
from harness.comparators.archive_tar import TarReader
from harness.comparators.archive_zip import ZipReader
from harness.comparators.interface import NotThisFormatError


class Reader(Protocol):
    format: str

    def listing(self) -> Listing: ...

    def contents(self, keys: set[str]) -> dict[str, bytes]:
        """The content of these members, but for what is too long or cannot be unpacked."""
        ...

    def digest(self, key: str) -> bytes:
        """The digest of a member's content, where ``listing`` did not give it."""
        ...


def reader(file: BinaryIO, budget: Budget) -> Reader:
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return ZipReader(file, budget)
    if head[:3] == b"\x1f\x8b\x08":
        return TarReader(file, budget, packed=True)
    if head[257:262] == b"ustar":
        return TarReader(file, budget, packed=False)
    raise NotThisFormatError("neither a zip nor a tar archive")


def unpack(one: Reader, mine: Listing, theirs: Listing) -> None:
    """Gives digests of content to the members that the other side does not hold packed alike."""
    alike = {(member.key, member.stored) for member in theirs.members if member.stored}
    for number, member in enumerate(mine.members):
        if member.stored:
            known = (member.key, member.stored) in alike
            digest = member.stored if known else one.digest(member.key)
            mine.members[number] = replace(member, digest=digest)
