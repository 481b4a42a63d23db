"""What a binary says about its makers: the compilers in ``.comment``, the LLVM that it carries.

Binaries are an attacker's: both are claims, and reading them must end soon. pyelftools gets a
stream that hands out a bounded number of bytes, so a section of a gigabyte, a table that points
to itself and a million sections all end in the same way: the file counts as unreadable.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from elftools.elf.elffile import ELFFile

from harness.text import printable

MAX_READ_BYTES = 4 * 2**20  # of headers and names; an honest file needs a few KiB
MAX_SECTIONS = 4096
MAX_COMMENT_BYTES = 64 * 1024
MAX_SCANNED_BYTES = 2 * 2**30
MAX_STRINGS = 64
UNREADABLE = "(unreadable)"
_BLOCK = 8 * 2**20
_OVERLAP = 64
_LLVM = re.compile(rb"LLVM version (\d{1,3}\.\d{1,3}\.\d{1,3})(?=[^0-9])")


@dataclass(frozen=True)
class Makers:
    """``built_by``: strings of ``.comment``, sorted, safe to show; ``llvm``: versions, sorted."""

    built_by: tuple[str, ...] = ()
    llvm: tuple[str, ...] = ()


def makers(path: Path) -> Makers | None:
    """Who made the ELF file at ``path``; None if it is no ELF file. Never raises for its content.

    Raises OSError if it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return None
        return Makers(comments(file), llvm_versions(file))


def comments(file: BinaryIO) -> tuple[str, ...]:
    """The distinct strings of the section ``.comment``, at most 64 of at most 200 characters."""
    stream = _Rationed(file, MAX_READ_BYTES)
    try:
        elf = ELFFile(cast("IO[bytes]", stream))
        count = elf.num_sections()
        if count > MAX_SECTIONS:
            return (UNREADABLE,)
        for number in range(count):
            section = elf.get_section(number)
            if section.name == ".comment":
                if section["sh_type"] == "SHT_NOBITS":
                    return ()
                stream.seek(section["sh_offset"])
                raw = stream.read(min(section["sh_size"], MAX_COMMENT_BYTES))
                break
        else:
            return ()
    # pyelftools meets hostile bytes with errors of every kind, AttributeError included.
    except Exception:
        return (UNREADABLE,)
    found = {printable(part.decode("utf-8", "replace"), 200) for part in raw.split(b"\0") if part}
    return tuple(sorted(found)[:MAX_STRINGS])


def llvm_versions(file: BinaryIO) -> tuple[str, ...]:
    """Every LLVM version that the file names, as LLVM itself prints it."""
    file.seek(0)
    found: set[bytes] = set()
    tail = b""
    scanned = 0
    while scanned < MAX_SCANNED_BYTES and len(found) < MAX_STRINGS:
        block = file.read(_BLOCK)
        if not block:
            break
        scanned += len(block)
        found.update(_LLVM.findall(tail + block))
        tail = block[-_OVERLAP:]
    return tuple(sorted(version.decode("ascii") for version in found))


class _Rationed(io.RawIOBase):
    """A view of a file that hands out ``ration`` bytes in all, then raises."""

    def __init__(self, file: BinaryIO, ration: int) -> None:
        self._file = file
        self._ration = ration

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._ration + 1 if size is None or size < 0 else size
        if wanted > self._ration:
            raise OSError("more was asked for than an honest file needs")
        data = self._file.read(wanted)
        self._ration -= len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
