"""The constants in the sections of data of two ELF files, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from harness.comparators.elf_look import Look, run_length
from harness.comparators.elf_tables import Section, Symbol, name_text
from harness.comparators.interface import Part, Status
from harness.comparators.tensor import around, differences, equal, in_words


def compare_constants(look: Look, s: Section, t: Section) -> int:
    """Constants by name; how many of them differ."""
    mine = by_name(one for one in look.left.objects if one.section == s.number)
    theirs = by_name(one for one in look.right.objects if one.section == t.number)
    before = len(look.constants)
    lost: list[Symbol] = []
    moved = 0
    for name, one in mine.items():
        other = theirs.pop(name, None)
        if other is None:
            lost.append(one)
        else:
            moved += one.offset != other.offset
            compare_constant(look, s, t, one, other)
    names = {other: name for name, other in theirs.items()}
    fresh: dict[tuple[int, bytes], Symbol] = {}
    for other in theirs.values() if lost else ():
        digest = look.right.blob.digest(t.offset + other.offset, other.size)
        fresh[other.size, digest] = other
    for one in lost:
        key = one.size, look.left.blob.digest(s.offset + one.offset, one.size)
        twin = fresh.pop(key, None)
        old_name = name_text(one.name)
        if twin is None:
            look.constant(Part("constant", old_name, Status.REMOVED, one.size))
            continue
        theirs.pop(names[twin], None)
        new_name = name_text(twin.name)
        look.constant(
            Part("constant", old_name, Status.RENAMED, one.size, twin.size, new_name=new_name)
        )
    for other in theirs.values():
        new_name = name_text(other.name)
        look.constant(Part("constant", new_name, Status.ADDED, None, other.size))
    if moved:
        note = f"{moved:,} constants of {s.key} lie at other places in it"
        look.rest.append(Part("constant", "(places)", Status.MOVED, note=note))
    return len(look.constants) - before


def by_name(constants: Iterable[Symbol]) -> dict[tuple[bytes, int], Symbol]:
    """By name and, as several may share one, by which of them it is, in order of their places."""
    seen: Counter[bytes] = Counter()
    found = {}
    for one in constants:
        found[one.name, seen[one.name]] = one
        seen[one.name] += 1
    return found


def compare_constant(look: Look, s: Section, t: Section, one: Symbol, other: Symbol) -> None:
    a, b = look.left.blob, look.right.blob
    i, j = s.offset + one.offset, t.offset + other.offset
    if one.size == other.size and equal(a, i, b, j, one.size):
        look.same += 1
        return
    size = min(one.size, other.size)
    found = differences(a, i, b, j, size, look.deadline)
    first = found.first if found.runs else size
    count = run_length(found.runs)
    note = in_words(found, a.read(i + first, count), b.read(j + first, count))
    if one.size != other.size:
        note = f"{one.size:,} → {other.size:,} bytes, first difference at 0x{first:x}"
    lines = around(a, i, b, j, (one.size, other.size), first).lines(look.bounds.lines)
    note = f"in {s.key}: {note}"
    name = name_text(one.name)
    look.constant(Part("constant", name, Status.CHANGED, one.size, other.size, lines, note=note))
