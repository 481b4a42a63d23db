"""What lies in the data of a build's objects and of its library, byte for byte.

The weights' object holds one symbol, all of its data, and no code. The code's object holds texts
and the literals of its instructions. The library holds the data of both and the linker's tables,
and runs nothing when it is loaded. Whatever else there is, is listed.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from harness.accounting.interface import Accounted, Kind, NotInterpretedError, Unaccounted
from harness.comparators.elf_file import ElfFile
from harness.comparators.elf_layout import gaps_of
from harness.comparators.elf_tables import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHT_DYNAMIC,
    SHT_DYNSYM,
    SHT_NOBITS,
    SHT_REL,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STT_FUNC,
    STT_OBJECT,
    Section,
    Symbol,
)
from harness.comparators.interface import NotThisFormatError
from harness.comparators.tensor import Blob
from harness.text import printable

DATA = b"__tvm_ffi__library_bin"
PREFIX = b"__tvm_ffi_"

MAX_FINDINGS = 100
MAX_SEGMENTS = 64
MAX_SECTIONS = 1000
MAX_ZEROS = 4096  # bytes of memory that starts as zeros: a few pointers
MAX_TABLES = 256  # bytes of the code's data that are neither texts nor literals: LLVM makes a few
MAX_COVERED = 2**20  # bytes of data beside the weights that are looked through
PADDING = 64  # bytes of zeros between two pieces
SHOWN = 120

SHF_WRITE, SHF_MERGE, SHF_STRINGS = 1, 16, 32
SHT_HASH, SHT_GNU_HASH, SHT_VERSIONS, SHT_NEEDED = 5, 0x6FFFFFF6, 0x6FFFFFFF, 0x6FFFFFFE
SHT_UNWIND = 0x70000001
TABLES = frozenset(
    {SHT_DYNSYM, SHT_STRTAB, SHT_HASH, SHT_GNU_HASH, SHT_VERSIONS, SHT_NEEDED, SHT_RELA, SHT_REL,
     SHT_DYNAMIC}
)  # fmt: skip
PT_LOAD, PT_DYNAMIC = 1, 2
DT_STRTAB, DT_SYMTAB = 5, 6
# Entries by which a loader runs code, or changes what cannot be written or in ways not read here.
RUNNING = {
    12: "DT_INIT", 13: "DT_FINI", 17: "DT_REL", 22: "DT_TEXTREL", 25: "DT_INIT_ARRAY",
    26: "DT_FINI_ARRAY", 32: "DT_PREINIT_ARRAY", 36: "DT_RELR",
}  # fmt: skip
CHANGING = {7: (8, "DT_RELA"), 23: (2, "DT_JMPREL")}  # a table's entry: its size's, its name
RUN_FOR_ADDRESS = 37  # a relocation whose value code computes


class Bytes(Blob):
    """A file that is in memory already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size] if offset >= 0 and size > 0 else b""


@dataclass(frozen=True)
class Piece:
    """A part of a file's data. ``what`` is ``""`` where nothing says what it is."""

    section: str  # printable
    start: int  # in the section
    size: int
    what: str  # printable


class Binary:
    """One file. Raises NotInterpretedError for what is no readable ELF file of 64 bits.

    what: how to call it, such as ``object/devc.o``.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self.what = what
        try:
            self.elf = ElfFile(Bytes(data))
            if not self.elf.wide or self.elf.order != "<":
                raise NotInterpretedError(f"{what} is not a little-endian ELF file of 64 bits")
            self.segments = self.elf.segments
            if len(self.segments) > MAX_SEGMENTS or len(self.elf.sections) > MAX_SECTIONS:
                raise NotInterpretedError(f"{what} has too many segments or sections")
            self.symbols = self._symbols()
            self.gaps = gaps_of(self.elf)
        except NotThisFormatError as error:
            raise NotInterpretedError(f"{what} cannot be read: {error}") from error
        if self.elf.notes:
            raise NotInterpretedError(f"{what}: {printable(self.elf.notes[0], SHOWN)}")

    def _symbols(self) -> list[Symbol]:
        """An object's, or those that a loader looks names up in."""
        wanted = SHT_SYMTAB if self.elf.relocatable else SHT_DYNSYM
        tables = [section for section in self.elf.sections if section.kind == wanted]
        if len(tables) != 1:
            raise NotInterpretedError(f"{self.what} has {len(tables)} tables of symbols, not one")
        if not self.elf.relocatable:
            self._check_places(tables[0])
        return self.elf.symbols_of(tables[0])

    def _check_places(self, table: Section) -> None:
        """Sections say the same as what a loader goes by: segments and the dynamic table."""
        strings = self.elf.linked(table.link)
        entries = self.dynamic
        if strings is None or entries.get(DT_SYMTAB) != [table.address]:
            raise NotInterpretedError(f"{self.what}: its symbols are not where a loader looks")
        if entries.get(DT_STRTAB) != [strings.address]:
            raise NotInterpretedError(f"{self.what}: its names are not where a loader looks")
        for section in self.elf.sections:
            loaded = section.flags & SHF_ALLOC and section.kind != SHT_NOBITS and section.size
            if loaded and self.mapped(section.address, section.size) != section.offset:
                name = section.key
                raise NotInterpretedError(f"{self.what}: {name} is not loaded from its place")

    @property
    def dynamic(self) -> dict[int, list[int]]:
        """What the dynamic table that a loader reads says."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        tables = [one for one in self.segments if one[0] == PT_DYNAMIC]
        if len(tables) != 1:
            raise NotInterpretedError(f"{self.what} has {len(tables)} dynamic tables, not one")
        raw = self.elf.blob.read(tables[0][2], min(tables[0][5], 2**20))
        if self.mapped(tables[0][3], len(raw)) != tables[0][2]:
            raise NotInterpretedError(f"{self.what}: its dynamic table is not where it is loaded")
        for tag, value in struct.iter_unpack("<qQ", raw[: len(raw) // 16 * 16]):
            if tag == 0:
                break
            found[tag].append(value)
        return found

    def mapped(self, address: int, size: int) -> int | None:
        """Where in the file what is loaded to this address lies; None if that is not one place."""
        places = [
            one[2] + address - one[3]
            for one in self.segments
            if one[0] == PT_LOAD and one[3] <= address < one[3] + max(one[6], 1)
        ]
        inside = [
            one for one in self.segments
            if one[0] == PT_LOAD and one[3] <= address and address + size <= one[3] + one[5]
        ]  # fmt: skip
        return places[0] if len(places) == len(inside) == 1 else None

    def exported(self) -> frozenset[str]:
        """The functions that the library offers to the runtime, without their prefix."""
        return frozenset(
            symbol.name.removeprefix(PREFIX).decode("utf-8", "backslashreplace")
            for symbol in self.symbols
            if symbol.name.startswith(PREFIX) and symbol.kind == STT_FUNC and symbol.section
        )

    def library_blob(self) -> tuple[Section, int, bytes]:
        """The symbol with the weights and the bytecode: its section, place and content."""
        found = [one for one in self.symbols if one.name == DATA and one.section]
        section = self.elf.linked(found[0].section) if len(found) == 1 else None
        if section is None or section.kind == SHT_NOBITS or found[0].kind != STT_OBJECT:
            raise NotInterpretedError(f"{self.what}: {len(found)} symbols hold the library's data")
        start, size = found[0].offset, found[0].size
        if start < 0 or start + size > section.size:
            raise NotInterpretedError(f"{self.what}: the library's data are not in one section")
        return section, start, self.elf.blob.read(section.offset + start, size)

    def data_sections(self) -> Iterator[Section]:
        """What is loaded and neither code nor one of the loader's tables."""
        for section in self.elf.sections:
            loaded = section.flags & SHF_ALLOC and not section.flags & SHF_EXECINSTR
            tables = frozenset() if self.elf.relocatable else TABLES
            if loaded and section.declared[4] and section.kind not in tables:
                yield section

    def content(self, section: Section) -> bytes:
        return self.elf.blob.read(section.offset, section.size)


def pieces_of_weights(binary: Binary) -> list[Piece]:
    """The data of the object with the weights: one symbol, and nothing beside it."""
    section, start, blob = binary.library_blob()
    found: list[Piece] = []
    for one in binary.elf.sections:
        if one.number == section.number:
            found.append(Piece(one.key, start, len(blob), "the weights and the bytecode"))
            rest = ((0, start), (start + len(blob), one.size))
            found += [Piece(one.key, low, high - low, "") for low, high in rest if high > low]
        elif one.kind not in (0, SHT_SYMTAB, SHT_STRTAB) and one.declared[4]:
            found.append(Piece(one.key, 0, one.declared[4], ""))
    return [*found, *_gaps(binary)]


def pieces_of_code(binary: Binary) -> list[Piece]:
    """The data of the object with the code. What it holds in code is tied to its IR by replay."""
    found: list[Piece] = []
    for section in binary.data_sections():
        content = binary.content(section)
        width = section.declared[8]
        if section.size > MAX_COVERED:
            found.append(Piece(section.key, 0, section.size, ""))
        elif section.kind == SHT_NOBITS:
            few = section.declared[4] <= MAX_ZEROS
            found.append(Piece(section.key, 0, section.declared[4], "zeros" if few else ""))
        elif section.kind == SHT_UNWIND:
            found.append(Piece(section.key, 0, section.size, "how the stack is unwound"))
        elif section.flags & SHF_MERGE and not section.flags & SHF_WRITE and 4 <= width <= 64:
            found += [
                Piece(section.key, at, width, f"a literal: {content[at : at + width].hex()}")
                for at in range(0, len(content), width)
            ]
        else:
            found += _texts(section.key, content)
    return [*found, *_gaps(binary)]


def _texts(key: str, content: bytes) -> Iterator[Piece]:
    """Texts that end in a zero; of what lies between, little is taken for tables of the code."""
    at = tables = 0
    for text in content.split(b"\0")[:-1]:
        plain = all(32 <= byte < 127 or byte in b"\t\n" for byte in text)
        tables += 0 if plain else len(text)
        what = "a table" if tables <= MAX_TABLES else ""
        if plain:
            what = f"text: {printable(text, 40)}"
        yield Piece(key, at, len(text) + 1, what)
        at += len(text) + 1
    if at < len(content):
        yield Piece(key, at, len(content) - at, "")


def pieces_of_library(library: Binary, weights: Binary, code: Binary) -> list[Piece]:
    """The data of the library: those of the two objects, and what a linker makes."""
    found: list[Piece] = []
    section, start, blob = library.library_blob()
    same = blob == weights.library_blob()[2]
    entries = library.dynamic
    for tag, name in RUNNING.items():
        if tag in entries:
            found.append(Piece(name, 0, 0, ""))
    found += _changed_on_loading(library, entries, section.address + start, len(blob))
    unwinding = _unwinding(code)
    for one in library.data_sections():
        content = library.content(one)
        if one.kind == SHT_NOBITS:
            # Memory up to the end of a page, which only the loader's protection needs, is no data.
            found.append(Piece(one.key, 0, one.declared[4], "zeros"))
        elif one.number == section.number:
            what = "the weights and the bytecode" if same else ""
            found.append(Piece(one.key, start, len(blob), what))
            found += _covered(one.key, content[:start], 0, code)
            found += _covered(one.key, content[start + len(blob) :], start + len(blob), code)
        elif _same_unwinding(content, unwinding):
            found.append(Piece(one.key, 0, one.size, "how the stack is unwound"))
        elif _is_unwinding_index(library, one, content):
            found.append(Piece(one.key, 0, one.size, "where the unwinding of a function is"))
        elif _are_places(library, content):
            found.append(Piece(one.key, 0, one.size, "places of functions, for the loader"))
        else:
            found += _covered(one.key, content, 0, code)
    return [*found, *_gaps(library)]


def _changed_on_loading(
    library: Binary, entries: dict[int, list[int]], start: int, size: int
) -> Iterator[Piece]:
    """Places in the weights that the loader would change, or has code compute."""
    for tag, (sized, name) in CHANGING.items():
        for address, many in zip(entries.get(tag, ()), entries.get(sized, ()), strict=False):
            place = library.mapped(address, many)
            if place is None or many > MAX_COVERED or len(entries[tag]) > 1:
                yield Piece(name, 0, many, "")
                continue
            rows = library.elf.blob.read(place, many // 24 * 24)
            for at, (where, what, _) in enumerate(struct.iter_unpack("<QQq", rows)):
                if start - 8 < where < start + size or what & 0xFFFFFFFF == RUN_FOR_ADDRESS:
                    yield Piece(name, 24 * at, 24, "")


def _covered(key: str, content: bytes, start: int, code: Binary) -> list[Piece]:
    """Data of the object with the code, literals each on its own, as a linker lays them out.

    start: where ``content`` lies in its section, which begins at a multiple of any width.
    """
    if len(content) > MAX_COVERED:
        return [Piece(key, start, len(content), "")]
    whole: list[tuple[str, bytes]] = []
    literals: dict[int, set[bytes]] = {}
    for section in code.data_sections():
        data = code.content(section)
        width = section.declared[8]
        if section.kind in (SHT_NOBITS, SHT_UNWIND):
            continue
        if section.flags & SHF_MERGE and not section.flags & SHF_STRINGS and width > 1:
            cut = {data[at : at + width] for at in range(0, len(data), width)}
            literals.setdefault(width, set()).update(cut)
        else:
            whole.append((section.key, data))
    widths = sorted(literals, reverse=True)
    found: list[Piece] = []
    at = 0
    while at < len(content):
        text = next((one for one in whole if content.startswith(one[1], at)), None)
        width = next(
            (one for one in widths
             if (start + at) % one == 0 and content[at : at + one] in literals[one]), 0,
        )  # fmt: skip
        if text is not None:
            whole.remove(text)
            piece = Piece(key, start + at, len(text[1]), f"{text[0]} of the code's object")
        elif width:
            piece = Piece(key, start + at, width, "a literal of the code's object")
        else:
            piece = Piece(key, start + at, 1, "" if content[at] else "padding")
            last = found[-1] if found else None
            if last is not None and last.what == piece.what and last.what in ("", "padding"):
                found.pop()
                long = piece.what and last.size == PADDING
                piece = Piece(key, last.start, last.size + 1, "" if long else piece.what)
        found.append(piece)
        at = piece.start + piece.size - start
    return found


def _unwinding(code: Binary) -> tuple[bytes, list[int]]:
    """The object's unwinding table, and where in it addresses are filled in."""
    tables = [one for one in code.data_sections() if one.kind == SHT_UNWIND]
    if len(tables) != 1:
        return b"", []
    places: list[int] = []
    for section in code.elf.relocation_sections.get(tables[0].number, ()):
        raw = code.content(section)
        places += [int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw) - 23, 24)]
    return code.content(tables[0]), places


def _same_unwinding(content: bytes, unwinding: tuple[bytes, list[int]]) -> bool:
    table, places = unwinding
    if not table or content[len(table) :].strip(b"\0") or len(content) < len(table):
        return False
    mine, theirs = bytearray(table), bytearray(content[: len(table)])
    for place in places:
        if 0 <= place <= len(table) - 4:
            mine[place : place + 4] = theirs[place : place + 4] = bytes(4)
    return mine == theirs


def _is_unwinding_index(library: Binary, section: Section, content: bytes) -> bool:
    """A header and rows of (function, its unwinding), both as distances from the section."""
    if (
        not 12 <= len(content) <= MAX_COVERED
        or content[:4] != b"\x01\x1b\x03\x3b"
        or len(content) % 8 != 4
    ):
        return False
    count = int.from_bytes(content[8:12], "little")
    if len(content) != 12 + 8 * count:
        return False
    code = [one for one in library.elf.sections if one.is_code]
    return all(
        any(0 <= section.address + row[0] - one.address < one.size for one in code)
        for row in struct.iter_unpack("<ii", content[12:])
    )


def _are_places(library: Binary, content: bytes) -> bool:
    """Words that are zero or a place in code or the dynamic table."""
    if not content or len(content) % 8 or len(content) > MAX_COVERED:
        return False
    inside = [one for one in library.elf.sections if one.is_code or one.kind == SHT_DYNAMIC]
    return all(
        word == 0 or any(one.address <= word < one.address + one.size for one in inside)
        for (word,) in struct.iter_unpack("<Q", content)
    )


def _gaps(binary: Binary) -> Iterator[Piece]:
    """What belongs to no section, and is not zero."""
    for name, (start, end) in binary.gaps.items():
        if binary.elf.blob.read(start, end - start).strip(b"\0"):
            yield Piece(printable(name, SHOWN), 0, end - start, "")


def account_data(weights: Binary, code: Binary, library: Binary) -> tuple[Accounted, ...]:
    """The data of ``object/devc.o``, ``object/lib0.o`` and ``library/model.so``.

    Raises NotInterpretedError where the library's data cannot be found.
    """
    return (
        _account("object", weights.what, pieces_of_weights(weights)),
        _account("object", code.what, pieces_of_code(code)),
        _account("library", library.what, pieces_of_library(library, weights, code)),
    )


def _account(stage: str, what: str, pieces: list[Piece]) -> Accounted:
    left = [piece for piece in pieces if not piece.what]
    findings = tuple(
        Unaccounted(
            Kind.CONSTANTS, stage, f"{what}, {piece.section}",
            f"nothing accounts for {piece.size:,} bytes from byte {piece.start:,} on"
            if piece.size else "by this entry the loader runs code, or changes what is loaded",
        )
        for piece in left[:MAX_FINDINGS]
    )  # fmt: skip
    return Accounted(Kind.CONSTANTS, stage, len(pieces), len(pieces) - len(left), findings)
