"""Which function of one ELF file is which of the other: by name, or by order."""

from __future__ import annotations

import difflib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from harness.comparators.elf_file import ElfFile
from harness.comparators.elf_look import ADDRESSES_SHARE, Look
from harness.comparators.elf_tables import Symbol, name_text

MAX_ALIGNED = 1_000  # functions without names that are aligned by their sizes


def matched(
    look: Look, mine: Sequence[Symbol], theirs: Sequence[Symbol]
) -> tuple[list[tuple[Symbol, Symbol]], list[Symbol], list[Symbol]]:
    """Pairs of one name; of several that share a name, the equal ones first, then in order."""
    groups: defaultdict[bytes, list[Symbol]] = defaultdict(list)
    for other in theirs:
        if other.name:
            groups[other.name].append(other)
    pairs, lost = [], []
    waiting: defaultdict[bytes, list[Symbol]] = defaultdict(list)
    for one in mine:
        group = groups.get(one.name, [])
        if not one.name:
            continue
        if len(group) == 1 and one.name not in waiting:
            pairs.append((one, group.pop()))
        else:
            waiting[one.name].append(one)
    for name, ones in waiting.items():
        group = groups.get(name, [])
        rest = []
        codes: defaultdict[bytes, list[Symbol]] = defaultdict(list)
        for other in group:
            codes[look.right.code_digest(other)].append(other)
        for one in ones:
            twins = codes[look.left.code_digest(one)] if group else []
            if twins:
                pairs.append((one, twins.pop(0)))
            else:
                rest.append(one)
        group = [other for twins in codes.values() for other in twins]
        pairs += zip(rest, group, strict=False)
        lost += rest[len(group) :]
        groups[name] = group[len(rest) :]
    fresh = [one for group in groups.values() for one in group]
    behind = nameless(mine), nameless(theirs)
    for name in dict.fromkeys((*behind[0], *behind[1])):
        late = time.monotonic() > look.start + look.bounds.seconds * ADDRESSES_SHARE
        groups_of = [side.get(name, []) for side in behind]
        aligned, more_lost, more_fresh = align(groups_of[0], groups_of[1], in_order=late)
        pairs += aligned
        lost += more_lost
        fresh += more_fresh
    return pairs, lost, fresh


def nameless(functions: Iterable[Symbol]) -> dict[bytes, list[Symbol]]:
    """The functions without a name, by the last one before them that has a name."""
    found: dict[bytes, list[Symbol]] = {}
    last = b""
    for one in functions:
        if one.name:
            last = one.name
        else:
            found.setdefault(last, []).append(one)
    return found


def align(
    mine: list[Symbol], theirs: list[Symbol], *, in_order: bool
) -> tuple[list[tuple[Symbol, Symbol]], list[Symbol], list[Symbol]]:
    """Functions without names, paired by their order and, unless ``in_order``, their sizes."""
    sizes = [one.size for one in mine], [one.size for one in theirs]
    if in_order or sizes[0] == sizes[1] or max(map(len, sizes)) > MAX_ALIGNED:
        common = min(len(mine), len(theirs))
        pairs = list(zip(mine, theirs, strict=False))
        return pairs, mine[common:], theirs[common:]
    pairs, lost, fresh = list[tuple[Symbol, Symbol]](), list[Symbol](), list[Symbol]()
    matcher = difflib.SequenceMatcher(None, *sizes)
    for _, i, i2, j, j2 in matcher.get_opcodes():
        common = min(i2 - i, j2 - j)
        pairs += zip(mine[i : i + common], theirs[j : j + common], strict=True)
        lost += mine[i + common : i2]
        fresh += theirs[j + common : j2]
    return pairs, lost, fresh


def label_shared(left: ElfFile, right: ElfFile, pairs: Sequence[tuple[Symbol, Symbol]]) -> None:
    """Adds the place to a name that several functions or constants share.

    Otherwise a call of one of them would look like a call of another. What is paired gets the same
    label on both sides, constants by their order.
    """
    names = left.shared | right.shared
    if not names:
        return
    labels = left.labels, right.labels
    for side, elf in enumerate((left, right)):
        for one in (*elf.functions, *elf.objects):
            if one.name in names:
                where = f"{name_text(one.name)} at 0x{elf.address(one):x}"
                labels[side][elf.address(one)] = f"{where}{' on the right' * side}"
    for one, other in (*pairs, *shared_constants(left, right, names)):
        if one.name in names or other.name in names:
            label = labels[0].get(left.address(one)) or name_text(one.name)
            labels[1][right.address(other)] = label


def shared_constants(
    left: ElfFile, right: ElfFile, names: frozenset[bytes]
) -> list[tuple[Symbol, Symbol]]:
    groups: list[defaultdict[bytes, list[Symbol]]] = []
    for elf in (left, right):
        groups.append(defaultdict(list))
        for one in elf.objects:
            if one.name in names:
                groups[-1][one.name].append(one)
    mine, theirs = groups
    return [
        pair
        for name, ones in mine.items()
        if len(ones) == len(theirs[name])
        for pair in zip(ones, theirs[name], strict=True)
    ]
