"""zip and tar: members by name, then by content; nothing else goes unsaid; bombs do not go off."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.comparators import archive, archive_listing, archive_tar
from harness.comparators.archive import Archive
from harness.comparators.interface import Bounds, Examined, NotThisFormatError, Part, Status

BOUNDS = Bounds(parts=20, lines=30, seconds=10)
FILES = {"a.txt": b"one\ntwo\n", "lib/b.bin": bytes(range(200)), "lib/c.txt": b"see\n" * 50}


def make_zip(files: dict[str, bytes], *, minute: int = 0, mode: int = 0o644) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, minute, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            made.writestr(info, content)
    return out.getvalue()


def make_tar(files: dict[str, bytes], *, minute: int = 0, mode: int = 0o644) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(content), mode, 60 * minute
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def make_tar_gz(files: dict[str, bytes], *, minute: int = 0, mode: int = 0o644) -> bytes:
    return gzip.compress(make_tar(files, minute=minute, mode=mode), mtime=0)


MAKERS = {"zip": make_zip, "tar": make_tar, "tar.gz": make_tar_gz}
every_format = pytest.mark.parametrize("kind", list(MAKERS))


def examine(folder: Path, left: bytes, right: bytes, bounds: Bounds = BOUNDS) -> Examined:
    for name, content in (("left", left), ("right", right)):
        (folder / name).write_bytes(content)
    return Archive().examine(folder / "left", folder / "right", bounds)


def by_name(found: Examined) -> dict[str, Part]:
    return {part.name: part for part in found.parts}


@every_format
def test_equal_archives(tmp_path: Path, kind: str) -> None:
    content = MAKERS[kind](FILES)
    assert examine(tmp_path, content, content) == Examined(kind, (), same=3)


@every_format
def test_a_changed_member(tmp_path: Path, kind: str) -> None:
    make = MAKERS[kind]
    found = examine(tmp_path, make(FILES), make({**FILES, "a.txt": b"one\nthree\n"}))
    assert (found.same, found.notes) == (2, ())
    (part,) = found.parts
    assert (part.name, part.status, part.left_size, part.right_size) == (
        "a.txt", Status.CHANGED, 8, 10,
    )  # fmt: skip
    assert {"-two", "+three"} <= set(part.lines)


@every_format
def test_a_member_of_another_size(tmp_path: Path, kind: str) -> None:
    make = MAKERS[kind]
    found = examine(tmp_path, make(FILES), make({**FILES, "a.txt": bytes(30_000)}))
    assert (set(by_name(found)), found.notes) == ({"a.txt"}, ())


@every_format
def test_long_members_beside_the_changed_one(tmp_path: Path, kind: str) -> None:
    make = MAKERS[kind]
    files = {
        "long": bytes(3 * archive_tar.MAX_HEADER),
        **FILES,
        "longer": bytes(5 * archive_tar.MAX_HEADER),
    }
    found = examine(tmp_path, make(files), make({**files, "a.txt": b"other\n"}))
    assert (set(by_name(found)), found.notes, found.same) == ({"a.txt"}, (), 4)
    assert "+other" in by_name(found)["a.txt"].lines


@every_format
def test_members_added_removed_and_renamed(tmp_path: Path, kind: str) -> None:
    make = MAKERS[kind]
    right = {"a.txt": FILES["a.txt"], "lib/renamed": FILES["lib/b.bin"], "new": b"new"}
    found = by_name(examine(tmp_path, make(FILES), make(right)))
    assert (found["lib/b.bin"].status, found["lib/b.bin"].new_name) == (
        Status.RENAMED, "lib/renamed",
    )  # fmt: skip
    assert (found["lib/c.txt"].status, found["lib/c.txt"].left_size) == (Status.REMOVED, 200)
    assert (found["new"].status, found["new"].right_size) == (Status.ADDED, 3)
    assert set(found) == {"lib/b.bin", "lib/c.txt", "new"}


@every_format
def test_time_and_mode_are_notes(tmp_path: Path, kind: str) -> None:
    make = MAKERS[kind]
    found = examine(tmp_path, make(FILES), make(FILES, minute=5))
    assert (found.parts, found.same) == ((), 3)
    assert [note for note in found.notes if "time differs for 3 members, first a.txt" in note]
    found = examine(tmp_path, make(FILES), make(FILES, mode=0o755))
    (note,) = found.notes
    assert note.startswith("mode differs for 3 members")
    assert "644" in note
    assert "755" in note


@every_format
def test_the_order_is_a_note(tmp_path: Path, kind: str) -> None:
    make = MAKERS[kind]
    found = examine(tmp_path, make(FILES), make(dict(reversed(FILES.items()))))
    assert not found.parts
    assert "the members are in another order" in found.notes


def test_members_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    def make(second: bytes) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as made:
            for content in (b"first", second):
                info = tarfile.TarInfo("twice")
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
        return out.getvalue()

    found = examine(tmp_path, make(b"second"), make(b"changed"))
    assert set(by_name(found)) == {"twice (2)"}


def test_what_is_packed_otherwise(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as made:
        for name, content in FILES.items():
            made.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), content)
    found = examine(tmp_path, make_zip(FILES), out.getvalue())
    assert not found.parts
    assert "3 members of the same content are packed otherwise" in found.notes
    tar = make_tar(FILES)
    found = examine(tmp_path, gzip.compress(tar, 1, mtime=0), gzip.compress(tar, 9, mtime=0))
    assert (found.parts, len(found.notes)) == ((), 1)
    found = examine(tmp_path, gzip.compress(tar, mtime=0), gzip.compress(tar, mtime=1))
    assert found.notes[0].startswith("the header of the packing differs")


def test_an_archive_within_an_archive(tmp_path: Path) -> None:
    inner = make_tar({"deep": b"1\n"}), make_tar({"deep": b"2\n"})
    found = examine(tmp_path, make_zip({"in.tar": inner[0]}), make_zip({"in.tar": inner[1]}))
    assert set(by_name(found)) == {"in.tar", "in.tar → deep"}
    assert {"-1", "+2"} <= set(by_name(found)["in.tar → deep"].lines)


def test_nesting_ends(tmp_path: Path) -> None:
    left, right = b"1\n", b"2\n"
    for _ in range(archive.MAX_DEPTH + 3):
        left, right = make_tar({"n": left}), make_tar({"n": right})
    found = examine(tmp_path, left, right)
    assert max(part.name.count(" → ") for part in found.parts) == archive.MAX_DEPTH


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_listing, "MAX_UNPACKED", 2**20)
    bomb = bytes(2**22)
    for make in (make_zip, make_tar_gz):
        with pytest.raises(NotThisFormatError, match="unpack to more than"):
            examine(tmp_path, make({"a": b"a"}), make({"a": bomb}))


def test_a_header_of_the_tar_that_is_a_bomb(tmp_path: Path) -> None:
    """tarfile would read the whole of an extended header into memory."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**28
    bomb = gzip.compress(info.tobuf() + bytes(2**21), mtime=0)
    with pytest.raises(NotThisFormatError, match="header of more than"):
        examine(tmp_path, bomb, make_tar_gz(FILES))


def test_a_chain_of_headers_that_is_a_bomb(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, archive_tar.MAX_HEADER
    bomb = gzip.compress((info.tobuf() + bytes(info.size)) * 6, mtime=0)
    with pytest.raises(NotThisFormatError, match="headers of more than"):
        examine(tmp_path, bomb, make_tar_gz(FILES))


def test_how_a_header_is_written_is_said_besides_a_changed_member(tmp_path: Path) -> None:
    right = bytearray(make_tar({**FILES, "lib/c.txt": b"other"}))
    right[100:108] = b"0644   \0"
    right[148:156] = b" " * 8
    right[148:156] = b"%06o\0 " % sum(right[:512])
    found = examine(tmp_path, make_tar(FILES), bytes(right))
    assert set(by_name(found)) == {"lib/c.txt"}
    assert found.notes == ("how a header is written differs for 1 members, first a.txt",)


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_listing, "MAX_MEMBERS", 5)
    many = {str(number): b"" for number in range(4)}
    for make in (make_zip, make_tar):
        with pytest.raises(NotThisFormatError, match="members"):
            examine(tmp_path, make(many), make(many))


def test_without_time_there_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(NotThisFormatError, match="too long"):
        examine(tmp_path, make_tar(FILES), make_tar(FILES), Bounds(20, 30, -1))


def test_links_and_hostile_names_are_only_named(tmp_path: Path) -> None:
    def make(target: str) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as made:
            info = tarfile.TarInfo("../../etc/\x1b[2Jlink")
            info.type, info.linkname = tarfile.SYMTYPE, target
            made.addfile(info)
        return out.getvalue()

    found = examine(tmp_path, make("/etc/passwd"), make("/etc/shadow"))
    (note,) = (note for note in found.notes if note.startswith("target"))
    assert "/etc/passwd → /etc/shadow" in note
    assert "\x1b" not in note
    assert sorted(one.name for one in tmp_path.iterdir()) == ["left", "right"]


def test_the_number_of_parts_is_bounded(tmp_path: Path) -> None:
    left, right = ({str(n): content for n in range(30)} for content in (b"1", b"2"))
    found = examine(tmp_path, make_zip(left), make_zip(right))
    assert (len(found.parts), found.truncated) == (20, True)
    assert found.notes[0] == "10 more parts differ"


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x1f\x8b\x08\0"])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotThisFormatError):
        examine(tmp_path, content, make_zip(FILES))
    with pytest.raises(NotThisFormatError):
        examine(tmp_path, make_tar(FILES), make_zip(FILES))


@every_format
@pytest.mark.slow
def test_every_changed_byte_is_said(tmp_path: Path, kind: str) -> None:
    content = MAKERS[kind]({"a": b"content of a", "b": bytes(30)})
    step = 1 if kind != "tar" else 19
    for at in range(0, len(content), step):
        changed = content[:at] + bytes([content[at] ^ 0x11]) + content[at + 1 :]
        try:
            found = examine(tmp_path, content, changed)
        except NotThisFormatError:
            continue
        assert found.parts or found.notes, at


@every_format
def test_a_second_difference_is_said_besides_a_changed_member(tmp_path: Path, kind: str) -> None:
    """A payload behind the end, or in the padding, is not hidden by what is listed."""
    right = MAKERS[kind]({**FILES, "a.txt": b"other"})
    if kind == "tar.gz":
        right = gzip.compress(gzip.decompress(right) + b"payload", mtime=0)
    else:
        right += b"payload" if kind == "tar" else b""
    if kind == "zip":
        right = right[:-2] + b"\x07\x00payload"  # the archive's comment
    found = examine(tmp_path, MAKERS[kind](FILES), right)
    assert set(by_name(found)) == {"a.txt"}
    assert [note for note in found.notes if "belong to no member" in note]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.slow
def test_hostile_archives_end_in_an_answer(tmp_path: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["zip", "tar", "tar.gz", "packed"]))
    base = make_tar(FILES) if kind == "packed" else MAKERS[kind](FILES)
    content = bytearray(base)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 1] = data.draw(st.binary(max_size=4))
        content = content or bytearray(b"\0")
    hostile = bytes(content[: data.draw(st.integers(0, len(content)))])
    if kind == "packed":
        base, hostile = gzip.compress(base, 1, mtime=0), gzip.compress(hostile, 1, mtime=0)
    for content_ in (bytes(content), hostile):
        try:
            found = examine(tmp_path, base, content_)
        except NotThisFormatError:
            continue
        assert len(found.parts) <= BOUNDS.parts
        assert content_ == base or found.parts or found.notes
