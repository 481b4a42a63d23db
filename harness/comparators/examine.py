"""Any two files, any two folders: the cheapest question first.

Equal bytes end the matter. Otherwise the content, never the name of a file, tells the format, and
its comparator says which parts differ. Where none can, text is shown as lines and anything else as
ranges of bytes. Files are read in blocks or mapped: two files of 2 GB do not need 2 GB.

Two things are equal here if and only if the answer has neither parts nor notes (:func:`equal`).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.comparators.interface import (
    Bounds,
    Comparator,
    Examined,
    NotThisFormatError,
    Part,
    Status,
)
from harness.comparators.llvm_ir import LlvmIr
from harness.comparators.llvm_ir_reading import BITCODE, EVIDENT
from harness.comparators.mapped import Source, prefix_of, source, suffix_of
from harness.comparators.pieces import Findings
from harness.comparators.pieces_differ import at_offset, difference_in
from harness.comparators.script import Script, language
from harness.comparators.text import ROW, hex_dump, is_binary
from harness.errors import UsageError
from harness.text import printable

HEAD = 2**16  # bytes that tell the format
BLOCK = 2**18
GAP = 16  # equal bytes between two differing ones that count as one range
MAX_ENTRIES = 100_000  # files, folders and links of one tree
MAX_DEPTH = 100
NAME = 1000  # characters of a path that are shown
HERE = "."  # what an answer about folders says of the folder itself

DATA = re.compile(rb"[^\0]+(?:\0{1,%d}[^\0]+)*" % GAP)


def examine(left: Path, right: Path, bounds: Bounds = Bounds()) -> Examined:  # noqa: B008
    """Where two files differ. Raises UsageError if one is no file or cannot be read.

    Follows a link that is given as ``left`` or ``right`` itself.
    """
    for path in (left, right):
        if not path.is_file():
            raise UsageError(f"{printable(str(path), 400)} is not a file", "Give two files.")
    try:
        if same_files(left, right):
            return Examined(kind_of(head(left)) or "data", ())
        return differing(left, right, bounds)
    except OSError as error:
        name = printable(str(error.filename or left), 400)
        raise UsageError(f"{name}: {error.strerror}", "Check that it can be read.") from error


def equal(examined: Examined) -> bool:
    return not (examined.parts or examined.notes or examined.truncated)


def differing(left: Path, right: Path, bounds: Bounds) -> Examined:
    """:func:`examine` for files whose bytes are known to differ."""
    started = time.monotonic()
    kinds = [kind_of(head(path)) for path in (left, right)]
    notes: list[str] = []
    for comparator in comparators(*kinds):
        try:
            found = comparator.examine(left, right, bounds)
        except NotThisFormatError as reason:
            notes.append(f"not read as {comparator.format}: {printable(str(reason), 300)}")
            continue
        except (OSError, MemoryError):
            raise
        except Exception as fault:  # a mistake of ours must not keep the answer back
            what = printable(f"{type(fault).__name__}: {fault}", 300)
            notes.append(f"not read as {comparator.format}, by a fault of the harness: {what}")
            continue
        if equal(found):
            found = replace(found, notes=("the bytes differ, but no part of it does",))
        return replace(found, notes=(*found.notes, *notes))
    if kinds[0] != kinds[1]:
        notes.append(f"left is {kinds[0] or 'data'}, right is {kinds[1] or 'data'}")
    elif kinds[0] == "LLVM bitcode":
        notes.append("LLVM bitcode is not read: llvm-dis turns it into text, to be compared again")
    spent = time.monotonic() - started
    left_over = replace(bounds, seconds=max(1.0, bounds.seconds - spent))
    found = plain(source(left), source(right), left_over)
    return replace(found, notes=(*found.notes, *notes))


def comparators(left: str | None, right: str | None) -> Iterator[Comparator]:
    """At most one so far. It is imported when it is needed: each brings a library of its own."""
    if left != right:
        return
    if left == "ELF":
        from harness.comparators.elf import Elf

        yield Elf()
    elif left == "archive":
        from harness.comparators.archive import Archive

        yield Archive()
    elif left == "ONNX":
        from harness.comparators.onnx_model import OnnxModel

        yield OnnxModel()
    elif left == "LLVM IR":
        yield LlvmIr()
    elif left in ("TVMScript", "Python", "MLIR"):
        yield Script()


def kind_of(start: bytes) -> str | None:
    """What a file's first 64 KB say that it is; None for other text and data."""
    if start.startswith(b"\x7fELF"):
        return "ELF"
    if start.startswith(BITCODE):
        return "LLVM bitcode"
    if start.startswith((b"!<arch>\n", b"!<thin>\n", b"PK\3\4", b"PK\5\6", b"\x1f\x8b\x08")):
        return "archive"
    if start[257:262] == b"ustar":
        return "archive"
    if b"\0" not in start:
        if EVIDENT.search(start):
            return "LLVM IR"
        script = language(Source(start))
        if script:
            return script
    # A protobuf message that begins with field 1, ir_version, a small number; what follows it in
    # an ONNX model is one of the fields 2 to 8 or 14, 20.
    if re.match(rb"\x08[\x01-\x3f][\x12\x1a\x22\x28\x32\x3a\x42\x72\xa2]", start):
        return "ONNX"
    return None


def head(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(HEAD)


def same_files(left: Path, right: Path) -> bool:
    """Whether the bytes are equal; the size is asked first."""
    with open(left, "rb", buffering=0) as a, open(right, "rb", buffering=0) as b:
        ours, theirs = os.fstat(a.fileno()), os.fstat(b.fileno())
        if ours.st_size != theirs.st_size:
            return False
        if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
            return True
        x, y = bytearray(2**20), bytearray(2**20)
        while True:
            size, other = fill(a.readinto, x), fill(b.readinto, y)
            if size != other or memoryview(x)[:size].tobytes() != memoryview(y)[:size].tobytes():
                return False
            if size < len(x):
                return True


def fill(read: Callable[[memoryview], int | None], buffer: bytearray) -> int:
    """Reads until the buffer is full or the file ends; how many bytes."""
    view, size = memoryview(buffer), 0
    while size < len(buffer):
        more = read(view[size:])
        if not more:
            break
        size += more
    return size


def plain(a: Source, b: Source, bounds: Bounds) -> Examined:
    """As text, or as data."""
    first = prefix_of(a, 0, a.size, b, 0, b.size)
    samples = [
        sample
        for side in (a, b)
        for sample in (side.read(0, 4096), side.read(max(0, first - 2048), first + 2048))
    ]
    if any(is_binary(sample, 0) for sample in samples):
        return data(a, b, first, bounds)
    lines, cut = difference_in(
        a, (0, a.size), b, (0, b.size), bounds.lines, max(0.5, bounds.seconds)
    )
    note = "there is more than is shown" if cut else ""
    part = Part("text", "lines", Status.CHANGED, a.size, b.size, lines, note=note)
    return Examined("text", (part,), truncated=cut)


def data(a: Source, b: Source, first: int, bounds: Bounds) -> Examined:
    """Differing ranges at the same offsets; what is between the equal ends if the sizes differ."""
    findings = Findings(bounds)
    if a.size != b.size:
        tail = suffix_of(a, a.size, b, b.size, min(a.size, b.size) - first)
        left, right = (first, a.size - tail), (first, b.size - tail)
        note = f"the last {tail} bytes are the same again" if tail else ""
        if left[0] == left[1] or right[0] == right[1]:
            note = f"{abs(a.size - b.size)} bytes are on one side only" + (note and f"; {note}")
        findings.add(ranged(findings, a, left, b, right, note))
        return findings.examined("data")
    for start, end in ranges(a, b, first):
        if findings.seconds() <= 0:
            findings.truncated = True
            findings.notes.append(f"not compared byte by byte from byte {start} on: out of time")
            break
        if findings.full:
            findings.truncated = True
            findings.notes.append(f"not listed: whatever differs from byte {start} on")
            break
        findings.add(ranged(findings, a, (start, end), b, (start, end), ""))
    return findings.examined("data")


def ranged(
    findings: Findings,
    a: Source,
    left: tuple[int, int],
    b: Source,
    right: tuple[int, int],
    note: str,
) -> Part:
    base = left[0] - left[0] % ROW  # both begin at the same offset
    most = base + ROW * findings.bounds.lines
    found = hex_dump(
        a.read(base, min(left[1], most)),
        b.read(base, min(right[1], most)),
        left[0] - base, max(left[1], right[1]) - base, 0, findings.bounds.lines,
    )  # fmt: skip
    lines = tuple(at_offset(line, base) for line in found.lines)
    end = max(left[1], right[1])
    cut = found.truncated or end > most
    note = "; ".join(filter(None, (note, "there is more than is shown" if cut else "")))
    sizes = left[1] - left[0], right[1] - right[0]
    name = f"bytes {left[0]} to {end - 1} ({left[0]:#x} to {end - 1:#x})"
    return Part("range", name, Status.CHANGED, *sizes, lines, note=note)


def ranges(a: Source, b: Source, first: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what differs; files of one size. A range may end with its block."""
    pending: tuple[int, int] | None = None
    for at in range(first - first % BLOCK, a.size, BLOCK):
        x, y = a.read(at, at + BLOCK), b.read(at, at + BLOCK)
        if x == y:
            continue
        size = len(x)
        unlike = (int.from_bytes(x, "big") ^ int.from_bytes(y, "big")).to_bytes(size, "big")
        for found in DATA.finditer(unlike):
            start, end = at + found.start(), at + found.end()
            if pending is None:
                pending = start, end
            elif start - pending[1] <= GAP:
                pending = pending[0], end
            else:
                yield pending
                pending = start, end
    if pending is not None:
        yield pending


# Folders.


@dataclass(frozen=True)
class Entry:
    """What a tree holds at one path, as the tree itself says; nothing is followed.

    ``kind``: file, folder, link or special. ``says``: a link's target, what a special file is.
    """

    kind: str
    mode: int
    size: int
    says: str = ""

    def __str__(self) -> str:
        what = f"{self.kind} {self.says}" if self.says else self.kind
        return what if self.kind == "link" else f"{what}, mode {self.mode:o}"


def examine_folders(left: Path, right: Path, bounds: Bounds = Bounds()) -> dict[str, Examined]:  # noqa: B008
    """Where two trees differ: by relative path, and for the whole under ``.``, which comes first.

    ``.`` tells what is on one side only, renamed, of another kind, mode or target; the files whose
    bytes differ have an answer each. Equal trees: one answer, without parts and notes. Times and
    owners play no part. Raises UsageError.
    """
    for root in (left, right):
        if not root.is_dir():
            raise UsageError(f"{printable(str(root), 400)} is not a folder", "Give two folders.")
    findings = Findings(bounds)
    ours, theirs = entries(left, findings.notes), entries(right, findings.notes)
    found: dict[str, Examined] = {}
    for path in sorted(ours.keys() & theirs.keys()):
        x, y = ours[path], theirs[path]
        if (x.kind, x.says) != (y.kind, y.says) or (x.kind != "link" and x.mode != y.mode):
            findings.add(
                Part(x.kind, printable(path, NAME), Status.CHANGED,
                     lines=(f"-{printable(str(x), NAME)}", f"+{printable(str(y), NAME)}"))
            )  # fmt: skip
        else:
            findings.same += x.kind != "file"
        if x.kind == y.kind == "file":
            examined = one_of_many(left / path, right / path, findings, len(found))
            if examined is None:
                findings.same += 1
            elif len(found) < bounds.parts:
                found[path] = examined
            else:
                findings.truncated = True
    alone = (
        {path: entry for path, entry in ours.items() if path not in theirs},
        {path: entry for path, entry in theirs.items() if path not in ours},
    )
    for path, other in renamed(left, alone[0], right, alone[1]):
        length = alone[0].pop(path).size
        del alone[1][other]
        findings.add(
            Part("file", printable(path, NAME), Status.RENAMED, length, length,
                 new_name=printable(other, NAME))
        )  # fmt: skip
    for side, status in zip(alone, (Status.REMOVED, Status.ADDED), strict=True):
        for path, entry in sorted(side.items()):
            size = entry.size if entry.kind == "file" else None
            sizes = (size, None) if status is Status.REMOVED else (None, size)
            note = "" if entry.kind == "file" else printable(str(entry), NAME)
            shown = printable(path, NAME)
            findings.add(Part(entry.kind, shown, status, sizes[0], sizes[1], note=note))
    whole = Examined(
        "folder", tuple(findings.parts), findings.same, findings.truncated, tuple(findings.notes)
    )
    return {HERE: whole, **found}


def glance(left: Path, right: Path) -> dict[str, Examined]:
    """Only whether two files, or two folders, are the same. Raises UsageError."""
    if left.is_dir() and right.is_dir():
        return examine_folders(left, right, Bounds(lines=0, seconds=0))
    try:
        sizes = left.stat().st_size, right.stat().st_size
        same = same_files(left, right)
    except OSError as error:
        raise UsageError(
            f"{printable(str(error.filename), 400)} cannot be read: {error.strerror}"
        ) from error
    part = Part("file", printable(left.name, NAME), Status.CHANGED, *sizes)
    return {f"{left} {right}": Examined("data", () if same else (part,))}


def one_of_many(left: Path, right: Path, findings: Findings, number: int) -> Examined | None:
    """None for equal bytes, which is decided at any time; the rest only while there is some."""
    try:
        if same_files(left, right):
            return None
        sizes = left.stat().st_size, right.stat().st_size
        if findings.seconds() > 0 and number < findings.bounds.parts:
            return differing(left, right, replace(findings.bounds, seconds=findings.seconds()))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it changed meanwhile"
        return Examined("data", (), notes=(f"cannot be read: {printable(str(reason), 200)}",))
    part = Part("file", printable(left.name, NAME), Status.CHANGED, *sizes)
    why = "out of time" if findings.bounds.seconds else "not asked for"
    return Examined("data", (part,), truncated=True, notes=(f"not looked into: {why}",))


def entries(root: Path, notes: list[str]) -> dict[str, Entry]:
    """Every path below ``root``. What could not be listed is noted, so that it is not forgotten."""
    found: dict[str, Entry] = {}
    pending: list[tuple[str, int]] = [("", 0)]
    while pending:
        folder, depth = pending.pop()
        if depth > MAX_DEPTH:
            notes.append(f"not listed: more than {MAX_DEPTH} folders deep")
            continue
        try:
            with os.scandir(root / folder) as listed:
                for one in listed:
                    if len(found) >= MAX_ENTRIES:
                        notes.append(f"not listed: more than {MAX_ENTRIES} files and folders")
                        return found
                    path = f"{folder}{one.name}"
                    found[path] = entry_of(one)
                    if found[path].kind == "folder":
                        pending.append((f"{path}/", depth + 1))
        except OSError as error:
            name = printable(folder or HERE, NAME)
            notes.append(f"not listed: {name}: {printable(str(error.strerror), 200)}")
    return found


def entry_of(one: os.DirEntry[str]) -> Entry:
    status = one.stat(follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode)
    if one.is_symlink():
        return Entry("link", mode, 0, f"to {os.readlink(one.path)}")  # noqa: PTH115
    if one.is_dir(follow_symlinks=False):
        return Entry("folder", mode, 0)
    if one.is_file(follow_symlinks=False):
        return Entry("file", mode, status.st_size)
    kind = stat.filemode(status.st_mode)[0]
    device = f" {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" if kind in "bc" else ""
    return Entry("special", mode, 0, f"of kind {kind}{device}")


def renamed(
    left: Path, ours: dict[str, Entry], right: Path, theirs: dict[str, Entry]
) -> list[tuple[str, str]]:
    """Files of one side only that have the same bytes; each at most once, never empty ones."""
    sizes = [{entry.size for entry in side.values() if entry.kind == "file" and entry.size}
             for side in (ours, theirs)]  # fmt: skip
    common = sizes[0] & sizes[1]
    digests: dict[str, list[str]] = {}
    for path in sorted(theirs, reverse=True):
        if theirs[path].kind == "file" and theirs[path].size in common:
            digests.setdefault(digest(right / path), []).append(path)
    pairs = []
    for path in sorted(ours):
        if ours[path].kind == "file" and ours[path].size in common:
            others = digests.get(digest(left / path))
            if others:
                pairs.append((path, others.pop()))
    return pairs


def digest(path: Path) -> str:
    """The sha256; a file that cannot be read is like no other."""
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return f"unreadable {path}"
