"""What binaries say of their makers, and binaries made to hurt whoever reads them."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.origins import (
    MAX_READ_BYTES,
    MAX_STRINGS,
    UNREADABLE,
    Makers,
    comments,
    llvm_versions,
    makers,
)

GIB = 2**30
COMMENT = b"GCC: (GNU) 14.2.1\0clang version 22.1.8\0"
NAMES = b"\0.comment\0.shstrtab\0"


def section(name: int, kind: int, offset: int, size: int) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, 0, 0, 1, 0)


def elf(
    comment: bytes = COMMENT,
    *,
    size: int | None = None,
    offset: int | None = None,
    count: int = 3,
    first_size: int = 0,
    names_index: int = 2,
    names: bytes = NAMES,
    kind: int = 1,
) -> bytes:
    """A small ELF file; the arguments are what its headers claim."""
    where = 64 + len(comment)
    table = where + len(names)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, count, names_index,
    )  # fmt: skip
    sections = section(0, 0, 0, first_size)
    sections += section(
        1, kind, 64 if offset is None else offset, len(comment) if size is None else size
    )
    sections += section(10, 3, where, len(names))
    return header + comment + names + sections


def read(data: bytes) -> tuple[str, ...]:
    began = time.process_time()
    found = comments(io.BytesIO(data))
    assert time.process_time() - began < 5  # a hang guard: it takes milliseconds
    return found


def test_comment_is_read() -> None:
    assert read(elf()) == ("GCC: (GNU) 14.2.1", "clang version 22.1.8")


def test_a_file_without_comment_names_nobody() -> None:
    assert read(elf(names=b"\0.commend\0.shstrtab\0")) == ()


def test_a_comment_of_a_gigabyte_is_read_to_its_limit_only() -> None:
    assert "GCC: (GNU) 14.2.1" in read(elf(size=GIB))
    many = b"".join(b"x%d\0" % number for number in range(5000))
    assert len(read(elf(many, size=GIB))) == MAX_STRINGS


def test_a_sparse_gigabyte_of_comment_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.so"
    with path.open("wb") as file:
        file.write(elf(size=GIB, offset=4096))
        file.truncate(GIB + 8192)
    with path.open("rb") as file:
        assert comments(file) == ()  # 64 KiB of zeros, no text
        assert file.tell() < 2**20


@pytest.mark.parametrize("length", [4, 16, 63, 64, 100, 150, 200, 290])
def test_truncated_files_end_in_nothing_or_unreadable(length: int) -> None:
    assert read(elf()[:length]) in ((), (UNREADABLE,))


def test_more_sections_than_anybody_needs_are_not_walked() -> None:
    """65,535 sections; and the form in which the first section holds a count of 2**60."""
    assert read(elf(count=65_535)) == (UNREADABLE,)
    assert read(elf(count=0, first_size=2**60)) == (UNREADABLE,)


def test_a_name_table_that_is_itself_or_nowhere_does_not_loop() -> None:
    for index in (0, 1, 3, 65_535):
        read(elf(names_index=index))
    read(elf(names=b"A" * 5_000_000))  # names without an end


def test_control_characters_do_not_get_out() -> None:
    (found,) = read(elf(b"GCC \x1b[2J\x07evil\0"))
    assert "\x1b" not in found
    assert "\x07" not in found


def test_nobits_comment_holds_nothing() -> None:
    assert read(elf(kind=8)) == ()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damaged_header_raises(data: st.DataObject) -> None:
    blob = bytearray(elf())
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(4, len(blob) - 1))] = data.draw(st.integers(0, 255))
    for text in read(bytes(blob)):
        assert len(text) <= 200


def test_llvm_versions_are_found_across_blocks() -> None:
    gap = b"\0" * (8 * 2**20 - 14)
    data = b"LLVM version 22.1.0\n" + gap[: -len(b"LLVM version 22.1.0\n")]
    data += b"LLVM version 23.0.12 (x)" + b"LLVM version x" + b"LLVM version 1.2.3"
    assert llvm_versions(io.BytesIO(data)) == ("22.1.0", "23.0.12")


def test_only_elf_files_have_makers(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"#!/bin/sh\nLLVM version 22.1.0\n")
    assert makers(path) is None
    path.write_bytes(b"")
    assert makers(path) is None
    path.write_bytes(elf() + b"LLVM version 22.1.0\n")
    assert makers(path) == Makers(("GCC: (GNU) 14.2.1", "clang version 22.1.8"), ("22.1.0",))


class Counting(io.BytesIO):
    """Counts the bytes that are read out of it."""

    total = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.total += len(data)
        return data


def test_names_without_an_end_are_read_to_the_ration_only() -> None:
    file = Counting(elf(names=b"A" * 32 * 2**20))
    assert comments(file) == (UNREADABLE,)
    assert file.total <= MAX_READ_BYTES


def test_a_walk_of_many_sections_never_begins() -> None:
    """Each of them would be a small, honest read."""
    file = Counting(elf(count=5000) + section(0, 0, 0, 0) * 5000)
    assert comments(file) == (UNREADABLE,)
    assert file.total < 4096
