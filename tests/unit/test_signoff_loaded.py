"""What a stripped library may lack, and that nothing else passes: a real one, changed by hand."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.signoff.loaded import only_unloaded
from harness.signoff.strict_elf import NotTheSameError

ASSET = Path(__file__).parents[1] / "assets" / "accounting" / "model.so.xz"
HEADER = struct.Struct("<HHIQQQIHHHHHH")  # behind the 16 bytes of e_ident
ROW = struct.Struct("<IIQQQQIIQQ")
SEGMENT = struct.Struct("<IIQQQQQQ")
SYMBOL = struct.Struct("<IBBHQQ")
PHOFF = 64
ALLOC = 2
# Names in the order of the file.
UNLOADED = (
    ".debug_loc", ".debug_abbrev", ".debug_info", ".debug_ranges", ".debug_str",
    ".debug_pubnames", ".debug_pubtypes", ".debug_line", ".comment", ".symtab", ".shstrtab",
    ".strtab",
)  # fmt: skip
DEBUG = UNLOADED[:8]
LOADED_END = 0x85B8  # of the last segment; its page goes on to 0x9000


@cache
def library() -> bytes:
    """As TVM and the pinned linker built it."""
    return lzma.decompress(ASSET.read_bytes())


def header(data: bytes) -> list[int]:
    return list(HEADER.unpack_from(data, 16))


def sections(data: bytes) -> dict[str, tuple[int, ...]]:
    """Name → row of the table, with the first, empty one."""
    found = header(data)
    rows = [ROW.unpack_from(data, found[5] + 64 * n) for n in range(found[11])]
    names = data[rows[found[12]][4] :]
    return {names[row[0] : names.index(b"\0", row[0])].decode(): row for row in rows}


def content(data: bytes, name: str) -> bytes:
    row = sections(data)[name]
    return data[row[4] : row[4] + row[5]]


def symbols(data: bytes) -> list[tuple[bytes, tuple[int, ...]]]:
    names = content(data, ".strtab")
    found = SYMBOL.iter_unpack(content(data, ".symtab"))
    return [(names[row[0] : names.index(b"\0", row[0])], row) for row in found]


def laid_out(
    keep: tuple[str, ...],
    change: Mapping[str, bytes] | None = None,
    rows: Mapping[str, Mapping[int, int]] | None = None,
    add: Mapping[str, tuple[int, bytes]] | None = None,
    symtab: Callable[[bytes], bool] = lambda name: True,
    extra_symbols: tuple[bytes, ...] = (),
    table_at: int = 8,
) -> bytes:
    """The library with ``keep`` of its unloaded sections behind the loaded part, as llvm-strip
    does it: the tables of names, symbols and sections are made anew.

    change: other content; rows: other values of fields in the section table; add: name → type and
    content of a section. ``symtab`` says which symbols stay.
    """
    data, old = library(), sections(library())
    loaded = [name for name, row in old.items() if row[2] & ALLOC]
    order = ["", *loaded, *(name for name in UNLOADED if name in keep), *(add or {})]
    out = bytearray(data[:LOADED_END])
    added, table = add or {}, []
    strings, symbol_rows = bytearray(b"\0"), bytearray()
    for word, entry in symbols(data):
        if symtab(word):
            at = len(strings) if word else 0
            strings += word + b"\0" if word else b""
            # Sections keep their numbers: those that are not loaded come last.
            symbol_rows += SYMBOL.pack(at, *entry[1:])
    for word in extra_symbols:
        symbol_rows += SYMBOL.pack(len(strings), 0x12, 0, 1, 0, 0)
        strings += word + b"\0"
    section_names = b"\0" + b"".join(name.encode() + b"\0" for name in order[1:])
    fresh = {".symtab": bytes(symbol_rows), ".strtab": bytes(strings), ".shstrtab": section_names}
    fresh |= {name: body for name, (_, body) in added.items()} | dict(change or {})
    for name in order:
        place = section_names.index(b"\0" + name.encode() + b"\0") + 1 if name else 0
        row = [place, *old.get(name, (0,) * 10)[1:]]
        if name in added:
            row[1], row[8] = added[name][0], 1
        if name and not row[2] & ALLOC:
            body = fresh[name] if name in fresh else content(data, name)
            out += bytes(-len(out) % max(1, row[8]))
            row[4], row[5] = len(out), len(body)
            out += body
        if name == ".symtab":
            row[6] = order.index(".strtab")
        for field, value in (rows or {}).get(name, {}).items():
            row[field] = value
        table.append(ROW.pack(*row))
    out += bytes(-len(out) % table_at)
    fields = header(data)
    fields[5], fields[11], fields[12] = len(out), len(table), order.index(".shstrtab")
    out[16:64] = HEADER.pack(*fields)
    return bytes(out) + b"".join(table)


def only_segments() -> bytes:
    """As `llvm-strip --strip-sections`: no section table at all."""
    fields = header(library())
    fields[5] = fields[10] = fields[11] = fields[12] = 0
    return library()[:16] + HEADER.pack(*fields) + library()[64:LOADED_END]


STRIPPED = (".shstrtab",)
WITHOUT_DEBUG = (".comment", ".symtab", ".shstrtab", ".strtab")


def held(folder: Path, other: bytes, first: bytes | None = None) -> tuple[str, ...]:
    (folder / "first").write_bytes(library() if first is None else first)
    (folder / "other").write_bytes(other)
    return only_unloaded(folder / "first", folder / "other")


def refused(folder: Path, other: bytes, first: bytes | None = None) -> str:
    with pytest.raises(NotTheSameError) as caught:
        held(folder, other, first)
    return str(caught.value)


def put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def flipped(data: bytes, at: int) -> bytes:
    return put(data, at, bytes([data[at] ^ 1]))


def test_a_stripped_library_is_the_same_to_who_loads_it(tmp_path: Path) -> None:
    lines = held(tmp_path, laid_out(STRIPPED))
    gone = [f"{name} removed" for name in UNLOADED if name != ".shstrtab"]
    assert sorted(lines) == sorted([*gone, ".shstrtab rebuilt"])
    assert list(lines) == [
        line for name in UNLOADED for line in lines if line.startswith(f"{name} ")
    ]


def test_without_debug_information_the_symbols_are_looked_at_one_by_one(tmp_path: Path) -> None:
    lines = held(tmp_path, laid_out(WITHOUT_DEBUG, symtab=lambda name: name[-1:] != b"1"))
    assert set(lines) - {f"{name} removed" for name in DEBUG} == {
        ".symtab rebuilt", ".strtab rebuilt", ".shstrtab rebuilt",
    }  # fmt: skip


def test_a_library_without_a_section_table_is_the_same(tmp_path: Path) -> None:
    assert held(tmp_path, only_segments()) == tuple(f"{name} removed" for name in UNLOADED)


def test_other_words_of_who_made_it_and_other_debug_information(tmp_path: Path) -> None:
    """Behind the last page that is mapped, which .debug_loc fills here."""
    loc = content(library(), ".debug_loc")
    changed = {".comment": b"another linker\0", ".debug_loc": flipped(loc, len(loc) - 1)}
    lines = held(tmp_path, laid_out(UNLOADED, changed))
    assert lines[:2] == (".debug_loc changed", ".comment changed")
    # The names of symbols are not shared here, as the linker does it.
    assert lines[2:] == (".symtab rebuilt", ".strtab rebuilt")


# Each of these is loaded, read by the loader, or of no known use.


@pytest.mark.parametrize("name", [n for n, row in sections(library()).items() if row[2] & ALLOC])
def test_one_bit_of_a_loaded_section_is_refused(tmp_path: Path, name: str) -> None:
    row = sections(library())[name]
    if row[1] == 8:  # no bytes of its own in the file
        rows = {name: {5: row[5] + 1}}
        assert name in refused(tmp_path, laid_out(STRIPPED, rows=rows))
        return
    for at in (row[4], row[4] + row[5] // 2, row[4] + row[5] - 1):
        assert "what is loaded differs" in refused(tmp_path, flipped(laid_out(STRIPPED), at))
        assert "what is loaded differs" in refused(tmp_path, flipped(only_segments(), at))


@settings(max_examples=150)
@given(st.integers(0, len(library()) - 1), st.integers(0, 7))
def test_one_bit_anywhere_is_refused_or_is_in_what_is_never_loaded(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    """Of the library itself: what passes lies in .comment or DWARF behind the last page."""
    other = put(library(), at, bytes([library()[at] ^ 1 << bit]))
    folder = tmp_path_factory.mktemp("flip")
    try:
        lines = held(folder, other)
    except NotTheSameError:
        return
    rows = sections(library())
    where = [n for n, row in rows.items() if row[4] <= at < row[4] + row[5] and row[1] != 8]
    assert at >= 0x9000
    assert where
    assert where[0] == ".comment" or where[0] in DEBUG
    assert lines == (f"{where[0]} changed",)


@pytest.mark.parametrize("at", [*range(7, 40), *range(48, 58)])
def test_every_field_of_the_elf_header_that_is_not_about_sections_counts(
    tmp_path: Path, at: int
) -> None:
    """Byte order and class are read before. 24 to 31: the entry; 54, 56: program headers."""
    assert refused(tmp_path, flipped(laid_out(STRIPPED), at))


@pytest.mark.parametrize("field", range(8))
@pytest.mark.parametrize("number", range(8))
def test_every_field_of_every_program_header_counts(
    tmp_path: Path, number: int, field: int
) -> None:
    at = PHOFF + SEGMENT.size * number + struct.calcsize("<IIQQQQQQ"[: field + 2]) - 1
    said = refused(tmp_path, flipped(laid_out(STRIPPED), at))
    assert "program headers differ" in said or "ends within a segment" in said


def test_a_needed_library_that_was_added_is_refused(tmp_path: Path) -> None:
    """DT_NULL entries follow the last one, so there is room for another DT_NEEDED."""
    row = sections(library())[".dynamic"]
    entries = list(struct.iter_unpack("<QQ", content(library(), ".dynamic")))
    at = row[4] + 16 * next(n for n, entry in enumerate(entries) if entry[0] == 0)
    other = put(laid_out(STRIPPED), at, struct.pack("<QQ", 1, 1))
    assert "what is loaded differs" in refused(tmp_path, other)


def test_program_headers_at_another_place_are_refused(tmp_path: Path) -> None:
    """A copy behind everything, with e_phoff there: the loader would take that one."""
    other = laid_out(STRIPPED)
    fields = header(other)
    table = other[PHOFF : PHOFF + 8 * SEGMENT.size]
    fields[4] = len(other)
    moved = other[:16] + HEADER.pack(*fields) + other[64:] + table
    assert "ELF header" in refused(tmp_path, moved)


def test_an_object_file_is_refused_as_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    fields = header(library())
    fields[0] = 1
    other = library()[:16] + HEADER.pack(*fields) + library()[64:]
    assert "no library or program" in refused(tmp_path, other, other)


def test_no_program_headers_at_all_are_refused(tmp_path: Path) -> None:
    fields = header(library())
    fields[9] = 0
    other = library()[:16] + HEADER.pack(*fields) + library()[64:]
    assert "program headers" in refused(tmp_path, other, other)


def test_segments_none_of_which_is_loaded_are_refused(tmp_path: Path) -> None:
    other = library()
    for number in range(8):
        at = PHOFF + SEGMENT.size * number
        if struct.unpack_from("<I", other, at)[0] == 1:
            other = put(other, at, struct.pack("<I", 4))
    assert "no segment that is loaded" in refused(tmp_path, other, other)


# Payloads.


def test_what_follows_the_end_is_refused(tmp_path: Path) -> None:
    for tail in (b"payload", b"\0", bytes(16)):
        for other in (library(), laid_out(STRIPPED), only_segments()):
            assert "belong to nothing" in refused(tmp_path, other + tail)


def test_a_payload_between_segments_is_refused(tmp_path: Path) -> None:
    """0x2a54 to 0x2a5f: filler that two pages of the loaded library show."""
    for other in (library(), laid_out(STRIPPED), only_segments()):
        assert "belong to nothing" in refused(tmp_path, put(other, 0x2A54, b"\x90" * 12))


def test_a_section_in_the_filler_between_segments_is_refused(tmp_path: Path) -> None:
    other = put(laid_out(WITHOUT_DEBUG, {".comment": b"words\0"}), 0x2A54, b"words\0")
    row = header(other)[5] + 64 * list(sections(other)).index(".comment")
    assert "or mixed" in refused(tmp_path, put(other, row + 24, struct.pack("<Q", 0x2A54)))


def test_a_payload_in_the_tail_of_a_page_is_refused(tmp_path: Path) -> None:
    """With the bytes of a section that may differ elsewhere: they would be in memory."""
    loc = content(library(), ".debug_loc")
    for at in (0, 0x9000 - LOADED_END - 1):
        changed = laid_out(UNLOADED, {".debug_loc": flipped(loc, at)})
        assert "where a page of a segment is mapped" in refused(tmp_path, changed)
    assert held(tmp_path, laid_out(UNLOADED, {".debug_loc": flipped(loc, 0x9000 - LOADED_END)}))
    words = laid_out((".comment", ".shstrtab"), {".comment": b"words of another linker\0"})
    assert "where a page of a segment is mapped" in refused(tmp_path, words)


def test_a_payload_in_the_padding_before_a_table_is_refused(tmp_path: Path) -> None:
    other = laid_out(STRIPPED, table_at=64)
    start = header(other)[5]
    assert held(tmp_path, other)
    assert not other[start - 1]
    assert "belong to nothing" in refused(tmp_path, put(other, start - 1, b"!"))
    assert "belong to nothing" in refused(tmp_path, laid_out(STRIPPED, table_at=4096))


@pytest.mark.parametrize("kind", [1, 7, 0x6FFFFFF5, 3])
@pytest.mark.parametrize(
    "name", [".payload", ".note.GNU-stack", ".debug_gdb_scripts", ".debug_names"]
)
def test_a_section_that_nobody_built_is_refused(tmp_path: Path, name: str, kind: int) -> None:
    assert "nobody built" in refused(tmp_path, laid_out(STRIPPED, add={name: (kind, b"payload")}))


def test_two_sections_of_one_name_are_refused(tmp_path: Path) -> None:
    other = laid_out(UNLOADED)
    row = header(other)[5] + 64 * list(sections(other)).index(".debug_line")
    name = content(other, ".shstrtab").index(b"\0.debug_info\0") + 1
    twice = put(other, row, struct.pack("<I", name))
    assert "two sections .debug_info" in refused(tmp_path, twice)
    assert "two sections .debug_info" in refused(tmp_path, other, twice)


def test_debug_information_of_no_known_kind_may_not_differ(tmp_path: Path) -> None:
    """Debuggers run what is in .debug_gdb_scripts."""
    first = library().replace(b".debug_pubnames\0", b".debug_gdb_scri\0")
    assert len(first) == len(library())
    place = sections(first)[".debug_gdb_scri"][4]
    assert "none that may differ" in refused(tmp_path, flipped(first, place), first)


def test_a_symbol_that_nobody_built_is_refused(tmp_path: Path) -> None:
    other = laid_out(WITHOUT_DEBUG, extra_symbols=(b"payload",))
    assert "a symbol that nobody built: payload" in refused(tmp_path, other)


def test_a_symbol_that_now_names_another_place_is_refused(tmp_path: Path) -> None:
    rows = symbols(library())
    number, (name, row) = next((n, s) for n, s in enumerate(rows) if s[0] and s[1][3] == 11)
    moved = SYMBOL.pack(row[0], *row[1:4], row[4] + 16, row[5])
    table = put(content(library(), ".symtab"), number * 24, moved)
    strings = content(library(), ".strtab")
    other = laid_out(UNLOADED, {".symtab": table, ".strtab": strings})
    assert f"nobody built: {name.decode()}" in refused(tmp_path, other)


def test_the_same_symbol_table_with_other_names_is_refused(tmp_path: Path) -> None:
    strings = content(library(), ".strtab")
    table = content(library(), ".symtab")
    assert held(tmp_path, laid_out(UNLOADED, {".symtab": table, ".strtab": strings}))
    other = {".symtab": table, ".strtab": flipped(strings, len(strings) - 2)}
    assert "a symbol that nobody built" in refused(tmp_path, laid_out(UNLOADED, other))


@pytest.mark.parametrize("name", [".strtab", ".shstrtab"])
def test_bytes_that_are_in_no_name_are_refused(tmp_path: Path, name: str) -> None:
    names = content(laid_out(WITHOUT_DEBUG), name)
    for text in (names + b"payload\0", names + b"\0", names + b"payload"):
        said = refused(tmp_path, laid_out(WITHOUT_DEBUG, {name: text}))
        assert f"{name} what is nobody's name, at byte {len(names)}" in said
    said = refused(tmp_path, laid_out(WITHOUT_DEBUG, {name: b"\1" + names[1:]}))
    assert "nobody" in said


def test_more_than_words_in_the_comment_is_refused(tmp_path: Path) -> None:
    for body in (b"\x90\x90", b"\x1b[2J", b"w" * 5000):
        other = laid_out(UNLOADED, {".comment": body})
        assert "more than words" in refused(tmp_path, other)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        (".comment", 1, 7), (".comment", 1, 0), (".comment", 1, 8), (".comment", 2, 4),
        (".comment", 3, 64), (".comment", 6, 1), (".comment", 7, 1), (".comment", 9, 3),
        (".debug_info", 1, 14), (".debug_info", 2, 1), (".debug_info", 8, 4096),
        (".symtab", 1, 11), (".symtab", 6, 99), (".symtab", 7, 10**6), (".symtab", 9, 23),
        (".strtab", 1, 1), (".shstrtab", 2, 0x20),
        (".text", 3, 0x3000), (".text", 4, 0x2000), (".text", 5, 16), (".text", 2, 2),
        (".dynsym", 7, 0), (".rela.plt", 6, 2), ("", 5, 1), ("", 4, 1), ("", 0, 1),
    ],
)  # fmt: skip
def test_a_section_table_that_says_something_else_is_refused(
    tmp_path: Path, name: str, field: int, value: int
) -> None:
    changed = {".comment": b"other\0", ".debug_info": b"other"}
    assert held(tmp_path, laid_out(UNLOADED, changed))
    assert refused(tmp_path, laid_out(UNLOADED, changed, rows={name: {field: value}}))


def test_sections_that_lie_over_each_other_are_refused(tmp_path: Path) -> None:
    other = laid_out(UNLOADED)
    info = sections(other)[".debug_info"]
    row = header(other)[5] + 64 * list(sections(other)).index(".comment")
    over = put(other, row + 24, struct.pack("<QQ", info[4], info[5]))
    assert refused(tmp_path, over)
    into_text = put(other, row + 24, struct.pack("<Q", sections(other)[".text"][4]))
    assert refused(tmp_path, into_text)


def test_a_loaded_section_that_claims_not_to_be_is_refused(tmp_path: Path) -> None:
    other = laid_out(UNLOADED, rows={".rodata": {2: 0}})
    assert "says something else of .rodata" in refused(tmp_path, other)


@pytest.mark.parametrize("length", [0, 3, 15, 40, 63, 64, 300, 0x2000, LOADED_END - 1])
def test_a_file_that_ends_early_is_refused(tmp_path: Path, length: int) -> None:
    assert refused(tmp_path, laid_out(STRIPPED)[:length])
    assert refused(tmp_path, only_segments()[:length])


@pytest.mark.parametrize(
    ("at", "value"),
    [(5, 2**63), (5, 2**64 - 64), (11, 65535), (11, 5000), (11, 0), (12, 65535), (12, 1), (10, 65)],
)
def test_a_header_with_wild_numbers_is_refused(tmp_path: Path, at: int, value: int) -> None:
    other = laid_out(STRIPPED)
    fields = header(other)
    fields[at] = value
    assert refused(tmp_path, other[:16] + HEADER.pack(*fields) + other[64:])


@settings(max_examples=150)
@given(st.data())
def test_hostile_bytes_never_do_anything_but_refuse(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Wild values in the headers and tables: refused or the same, nothing else is raised."""
    other = bytearray(laid_out(data.draw(st.sampled_from([STRIPPED, WITHOUT_DEBUG, UNLOADED]))))
    table = header(bytes(other))[5]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, 0x240), st.integers(table, len(other) - 8)))
        value = data.draw(st.sampled_from([0, 1, 2**15, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 64]))
        other[at : at + 8] = struct.pack("<Q", value)
    folder = tmp_path_factory.mktemp("wild")
    for sides in ((bytes(other), None), (library(), bytes(other)), (bytes(other), bytes(other))):
        try:
            held(folder, *sides)
        except NotTheSameError as reason:
            assert str(reason).isprintable()
