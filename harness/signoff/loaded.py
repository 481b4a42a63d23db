"""Whether two ELF files are the same to whoever loads them: all but what is never in memory.

A stripped library has other bytes than the one that was linked, and does the same. To say so, every
byte of the other file must be one of these:

1. what a segment of any kind takes from the file, the ELF header, the program headers: the same
   bytes at the same place. Only the header's fields about the section table may differ;
2. the content of a section that is not loaded and that the first file has, too: the same, or, for
   ``.comment`` and DWARF, other content outside of every page that is mapped;
3. ``.symtab``, ``.strtab`` and ``.shstrtab``, made anew: no symbol that the first file lacks, no
   byte that is in no name;
4. the section table: the rows of loaded sections as they were, or no table at all;
5. between what is loaded, the bytes that the first file has there; behind it, a few zeros for
   alignment.

Sections and tables lie behind what is loaded. A page is mapped whole, so memory also holds what
stands in the file around a segment: content that somebody could choose (2) must not be there.
Anything else is refused, whatever it is: both files are hostile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.comparators.elf_tables import SHT_STRTAB, SHT_SYMTAB
from harness.comparators.mapped import Source, same_bytes, source
from harness.signoff.strict_elf import PT_LOAD, NotTheSameError, Range, Row, StrictElf
from harness.text import printable

SHT_PROGBITS = 1
EM_386, EM_X86_64 = 3, 62
SHF_MERGE, SHF_STRINGS, SHF_COMPRESSED = 0x10, 0x20, 0x800
MAX_COMMENT = 4096  # bytes
PADDING = 64  # bytes: zeros, at most, before something that is aligned
# Nothing here acts on whoever reads it; .debug_gdb_scripts would.
DWARF = frozenset(
    f".debug_{name}".encode()
    for name in (
        "abbrev", "addr", "aranges", "frame", "info", "line", "line_str", "loc", "loclists",
        "macinfo", "macro", "names", "pubnames", "pubtypes", "ranges", "rnglists", "str",
        "str_offsets", "types",
    )
)  # fmt: skip


def only_unloaded(first: Path, other: Path) -> tuple[str, ...]:
    """What differs and is never loaded: one line for each section, in the order of ``first``.

    Raises NotTheSameError where anything else differs, or might.
    """
    a = StrictElf(source(first), "the library that was built")
    b = StrictElf(source(other), "the file")
    loaded = _same_segments(a, b)
    if b.rows:
        _same_loaded_rows(a.rows, b.rows)
    lines, chosen = _unloaded(a, b)
    pieces = [(row.offset, row.end) for row in b.rows if not row.loaded and row.size]
    if b.rows:
        pieces.append(b.table("sh"))
    _nothing_else(a.content, b.content, loaded, _apart(pieces, loaded))
    _no_choice_in_memory(a, b, chosen)
    return tuple(lines) or ("section table",)


def _same_segments(a: StrictElf, b: StrictElf) -> list[Range]:
    """All that is loaded, merged: ELF header, program headers, segments; it must be the same."""
    start, spared = 0, a.about_sections
    for end, after in (*spared, (a.header_size, a.header_size)):
        if a.content.read(start, end) != b.content.read(start, end):
            raise NotTheSameError(f"the ELF header differs, between bytes {start} and {end - 1}")
        start = after
    table = a.table("ph")
    if a.content.read(*table) != b.content.read(*table) or a.segments != b.segments:
        raise NotTheSameError("the program headers differ")
    taken = [(one.offset, one.offset + one.size) for one in a.segments if one.size]
    loaded = _merged([(0, a.header_size), table, *taken])
    for begin, end in loaded:
        for left, right in _without(begin, end, spared):
            if not same_bytes(a.content, left, right, b.content, left, right):
                raise NotTheSameError(
                    f"what is loaded differs, within bytes {left:#x} to {right - 1:#x}"
                )
    return loaded


def _same_loaded_rows(ours: Sequence[Row], theirs: Sequence[Row]) -> None:
    """Where loaded sections are said to lie, which debuggers and disassemblers believe."""
    known, found = (
        {number: row for number, row in enumerate(rows) if row.loaded} for rows in (ours, theirs)
    )
    for number in sorted(known.keys() | found.keys()):
        if known.get(number) != found.get(number):
            row = found.get(number) or known[number]
            raise NotTheSameError(f"the section table says something else of {row.text}")


def _unloaded(a: StrictElf, b: StrictElf) -> tuple[list[str], list[Row]]:
    """What there is to say of sections that are not loaded; and those that somebody could choose
    the content of.
    """
    known: dict[bytes, Row] = {}
    for row in a.rows[1:]:
        if not row.loaded and known.setdefault(row.name, row) is not row:
            raise a.odd(f"has two sections {row.text}")
    said = {name: f"{row.text} removed" for name, row in known.items()}
    chosen, present = [], set()
    for row in b.rows[1:]:
        if row.loaded:
            continue
        if row.name in present:
            raise b.odd(f"has two sections {row.text}")
        if row.name not in known:
            raise b.odd(f"has a section {row.text} that nobody built")
        present.add(row.name)
        how = _held(a, known[row.name], b, row)
        if how == "changed":
            chosen.append(row)
        if how:
            said[row.name] = f"{row.text} {how}"
        else:
            del said[row.name]
    return list(said.values()), chosen


def _held(a: StrictElf, old: Row, b: StrictElf, row: Row) -> str:
    """What became of a section: ``""`` if it is the same, ``rebuilt`` or ``changed``."""
    same = _alike(row, old) and same_bytes(
        a.content, old.offset, old.end, b.content, row.offset, row.end
    )
    if row.name == b".symtab":
        _no_new_symbols(a, old, b, row)  # names and sections lie elsewhere
        return "" if same else "rebuilt"
    if same:
        return ""
    if not _alike(row, old._replace(flags=row.flags, size=row.size, align=row.align)):
        raise b.odd(f"has another kind of {row.text}")
    if row.align > PADDING:
        raise b.odd(f"has a {row.text} that is aligned to {row.align} bytes")
    if row.name in (b".strtab", b".shstrtab"):
        odd = None if row.kind == SHT_STRTAB and not row.flags else 0
        odd = b.nobodys(row) if odd is None else odd
        if odd is not None:
            raise b.odd(f"has in {row.text} what is nobody's name, at byte {odd}")
        return "rebuilt"
    flags = SHF_MERGE | SHF_STRINGS
    if row.name in DWARF:
        flags |= SHF_COMPRESSED
    elif row.name != b".comment":
        raise b.odd(f"has another {row.text}, which is none that may differ")
    elif row.size > MAX_COMMENT or any(
        byte and not 32 <= byte < 127 for byte in b.bytes_of(row)
    ):  # fmt: skip
        raise b.odd("has more than words in .comment")
    if row.kind != SHT_PROGBITS or row.flags & ~flags:
        raise b.odd(f"has another kind of {row.text}")
    return "changed"


def _alike(row: Row, old: Row) -> bool:
    """Whether two rows say the same of what they hold, wherever that lies."""
    if row.kind == SHT_SYMTAB:  # its numbers are checked with its symbols
        row, old = row._replace(link=0, info=0), old._replace(link=0, info=0)
    return row._replace(offset=0) == old._replace(offset=0)


def _no_new_symbols(a: StrictElf, old: Row, b: StrictElf, row: Row) -> None:
    if row.address != old.address or row.align > PADDING:
        raise b.odd(f"has another kind of {row.text}")
    extra = Counter(b.symbols(row)) - Counter(a.symbols(old))
    if extra:
        name = printable(next(iter(extra))[0], 80) or "(no name)"
        raise b.odd(f"has a symbol that nobody built: {name}")


def _apart(pieces: Sequence[Range], loaded: Sequence[Range]) -> list[Range]:
    """``pieces`` in order; they must lie behind all that is loaded, and not over each other."""
    ordered, done = sorted(pieces), loaded[-1][1]
    for start, end in ordered:
        if start < done:
            raise NotTheSameError(f"two things lie over each other, or mixed, at byte {start:#x}")
        done = end
    return ordered


def _nothing_else(a: Source, b: Source, loaded: Sequence[Range], pieces: Sequence[Range]) -> None:
    """What belongs to nothing is as it was; behind all that is loaded it is a few zeros."""
    at, loaded_end = 0, loaded[-1][1]
    for start, end in (*loaded, *pieces, (b.size, b.size)):
        if start <= loaded_end:
            known = start <= a.size and same_bytes(a, at, start, b, at, start)
        else:
            known = start < b.size and start - at < PADDING and not any(b.read(at, start))
        if at < start and not known:
            raise NotTheSameError(
                f"bytes {at:#x} to {start - 1:#x} belong to nothing that is known"
            )
        at = end


def _no_choice_in_memory(a: StrictElf, b: StrictElf, chosen: Sequence[Row]) -> None:
    """A page holds more than its segment: nothing there that somebody could have chosen."""
    x86 = b.header["machine"] in (EM_386, EM_X86_64)
    mapped = []
    for one in b.segments:
        if one.kind == PT_LOAD:
            page = 4096 if x86 else max(4096, min(one.align, 65536))
            end = -(-(one.offset + one.size) // page) * page
            mapped.append((one.offset // page * page, end))
    for row in chosen:
        for start, end in _merged(mapped):
            left, right = max(start, row.offset), min(end, row.end)
            if left < right and not (
                right <= a.content.size
                and same_bytes(a.content, left, right, b.content, left, right)
            ):
                raise NotTheSameError(f"{row.text} differs where a page of a segment is mapped")


def _merged(ranges: Sequence[Range]) -> list[Range]:
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def _without(start: int, end: int, holes: Sequence[Range]) -> Iterator[Range]:
    """The parts of a range that are in none of the sorted holes."""
    for left, right in holes:
        if start < left < end:
            yield start, left
        if left < end and right > start:
            start = right
    if start < end:
        yield start, end
