"""Which functions of two ELF files differ, and how."""

from __future__ import annotations

import bisect
import hashlib
import re
import time
from collections import defaultdict
from collections.abc import Sequence

from harness.comparators.elf_code import MAX_CODE_BYTES, Disassembler, Instruction
from harness.comparators.elf_file import ElfFile
from harness.comparators.elf_filler import compare_filler
from harness.comparators.elf_look import ADDRESSES_SHARE, Look
from harness.comparators.elf_pairing import label_shared, matched
from harness.comparators.elf_suspects import rarest_first
from harness.comparators.elf_tables import Section, Symbol, name_text, section_name
from harness.comparators.elf_text import text_diff
from harness.comparators.elf_twins import Twins
from harness.comparators.interface import Part, Status
from harness.comparators.tensor import around, differences_of, equal_from_start
from harness.comparators.text import differing_part

MOST_UNKNOWN = 20  # functions that are listed though there was no time to look into them
LONG = 2**25  # bytes of code that take some seconds to decode
DATA_PLACE = re.compile(r"(\.[A-Za-z_][\w.]*)\+0x[0-9a-f]+")


class Functions:
    """Which functions differ, and how. They are paired by name, then by content."""

    def __init__(
        self,
        look: Look,
        pairs: Sequence[tuple[Section, Section]],
        differing: Sequence[tuple[Section, Section]],
    ) -> None:
        self.look = look
        self.left, self.right = look.left, look.right
        self.twins = Twins(look, pairs, differing)
        self.rename: dict[bytes, bytes] = {}  # the right side's names → the left side's
        self.renamed: list[tuple[Symbol, Symbol]] = []
        self.loose: list[Part] = []  # added, removed and renamed
        self.a, self.b = Disassembler(look.left), Disassembler(look.right)

    def run(self) -> None:
        code = [s for s in (*self.left.sections, *self.right.sections) if s.is_code]
        if not code or not self.twins.may_differ():
            return
        mine = self.left.functions
        self.twins.same_places = self.twins.same_tables()
        theirs = mine if self.twins.same_places else self.right.functions
        if not mine and not theirs:
            self.look.notes.append("no symbols of functions: code is compared as bytes only")
            return
        if theirs is mine:
            pairs = [(one, one) for one in mine]
            lost, fresh = list[Symbol](), list[Symbol]()
        else:
            pairs, lost, fresh = matched(self.look, mine, theirs)
        self.twins.moves(pairs)
        differing = [pair for pair in pairs if not self.twins.equal(*pair)]
        self.look.same += len(pairs) - len(differing)
        self.leftovers(lost, fresh)
        if differing:
            label_shared(self.left, self.right, [*pairs, *self.renamed])
        self.changed(differing)
        for number in sorted(self.twins.touched):
            s, t = self.twins.pairs[number]
            if s.is_code and t.is_code:
                compare_filler(self.look, s, mine, t, theirs)

    def leftovers(self, lost: list[Symbol], fresh: list[Symbol]) -> None:
        """Functions without a partner by name: the same code under another name, or new."""
        by_content: defaultdict[tuple[int, bytes], list[Symbol]] = defaultdict(list)
        if lost and fresh:
            for other in fresh:
                by_content[self.content(self.right, self.b, other)].append(other)
        found: list[Part] = []
        taken: set[Symbol] = set()
        for one in lost:
            twins = by_content.get(self.content(self.left, self.a, one)) if by_content else None
            name = shown(self.left, one)
            if not twins:
                found.append(Part("function", name, Status.REMOVED, one.size))
                continue
            other = twins.pop(0)
            taken.add(other)
            self.rename[other.name] = one.name
            self.renamed.append((one, other))
            new_name = shown(self.right, other)
            found.append(
                Part("function", name, Status.RENAMED, one.size, other.size, new_name=new_name)
            )
        for other in fresh:
            if other not in taken:
                found.append(
                    Part("function", shown(self.right, other), Status.ADDED, None, other.size)
                )
        self.loose = found

    def content(self, elf: ElfFile, engine: Disassembler, one: Symbol) -> tuple[int, bytes]:
        """What a function is, wherever it lies: its instructions, or its bytes."""
        late = time.monotonic() > self.look.start + self.look.bounds.seconds / 2
        if engine.engine is None or one.size > MAX_CODE_BYTES or late:
            entries = repr([entry[1:] for entry in elf.relocated(one)]).encode()
            return one.size, hashlib.sha256(elf.code_digest(one) + entries).digest()
        text = "\n".join(engine.text(one, elf.code(one), {}))
        return one.size, hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

    def changed(self, differing: list[tuple[Symbol, Symbol]]) -> None:
        """Sorts what differs: first what is other code, then what refers to other places."""
        look = self.look
        other_code = [pair for pair in differing if pair[0].size != pair[1].size]
        other_places: list[tuple[Symbol, Symbol]] = []
        unknown: list[tuple[Symbol, Symbol]] = []
        moved = 0
        until = look.start + look.bounds.seconds * ADDRESSES_SHARE
        alike = [pair for pair in differing if pair[0].size == pair[1].size]
        if sum(one.size for one, _ in alike) > LONG:
            alike = rarest_first(look, alike, look.start + (until - look.start) / 3)
        for one, other in alike:
            if len(differing) > 1 and time.monotonic() > until:
                unknown.append((one, other))
                continue
            kind = self.kind(one, other)
            if kind == "moved":
                moved += 1
            elif kind == "places":
                other_places.append((one, other))
            else:
                other_code.append((one, other))
        other_code.sort(key=lambda pair: (not pair[0].name, pair[0].section, pair[0].offset))
        late = "not looked into: the time was up; perhaps only addresses differ"
        for one, other in (*other_code, *other_places)[: look.most]:
            look.functions.append(self.part(one, other))
        look.functions += self.loose
        look.functions += [self.bare(*pair, late) for pair in unknown[:MOST_UNKNOWN]]
        known = len(other_code) + len(other_places) + len(self.loose)
        look.functions = look.functions[: look.most]
        hidden = known + len(unknown) - len(look.functions)
        if hidden:
            look.notes.append(f"{hidden:,} more functions differ, or may do so")
            look.cut = True
        if unknown:
            look.notes.append(
                f"{len(unknown):,} functions of equal size have other bytes; there was no time to"
                " find out whether only addresses in them differ"
            )
        if moved:
            note = f"{moved:,} functions hold other addresses or names of the same targets"
            look.rest.append(Part("function", "(addresses only)", Status.MOVED, note=note))

    def kind(self, one: Symbol, other: Symbol) -> str:
        """``moved``: the same instructions and targets at other addresses; ``places``: other
        places in a section; ``code``: anything else.
        """
        if self.a.engine is None or self.b.engine is None or one.size > MAX_CODE_BYTES:
            return "code"
        if self.left.machine != self.right.machine:
            return "code"
        codes = self.left.code(one), self.right.code(other)
        if self.left.relocatable or self.right.relocatable or codes[0] == codes[1]:
            if codes[0] != codes[1]:
                return "code"
            texts = self.a.text(one, codes[0], {}), self.b.text(other, codes[1], self.rename)
            return "moved" if texts[0] == texts[1] else "code"
        unequal = self.unequal(*codes)
        if not unequal or any(x[:3] != y[:3] or x == y for x, y in unequal):
            return "code"  # bytes that differ without a trace in the text are no mere address
        texts = (
            self.a.text(one, codes[0], {}, [x for x, _ in unequal]),
            self.b.text(other, codes[1], self.rename, [y for _, y in unequal]),
        )
        if texts[0] == texts[1]:
            return "moved"
        masked = [[DATA_PLACE.sub(r"\1+…", line) for line in text] for text in texts]
        return "places" if masked[0] == masked[1] else "code"

    def unequal(self, left: bytes, right: bytes) -> list[tuple[Instruction, Instruction]]:
        """The instructions of equally long code whose bytes differ; none if they are not aligned.

        Only one side is decoded as a whole. What follows an instruction plays no part in what it
        is, so one of the same bytes is the same as long as all before it begin at the same places.
        """
        starts = self.a.starts(left)
        if not starts:  # not all of it is code: what follows plays a part in what is
            rows, others = self.a.instructions(left), self.b.instructions(right)
            if [row[:2] for row in rows] != [row[:2] for row in others]:
                return []
            spans = [slice(row[0], row[0] + row[1]) for row in rows]
            pairs = zip(rows, others, spans, strict=True)
            return [(x, y) for x, y, span in pairs if left[span] != right[span]]
        found: list[tuple[Instruction, Instruction]] = []
        done = 0
        for start, end in differences_of(left, right, most=len(left)).runs:
            at = bisect.bisect_right(starts, max(start, done)) - 1
            while done < end:
                offset, done = starts[at], starts[at + 1]
                here = self.a.instructions(left[offset:done], offset)
                there = self.b.instructions(right[offset:done], offset)
                if len(there) != 1 or there[0][2] == ".byte":
                    return []
                found.append((here[0], there[0]))
                at += 1
        return found

    def part(self, one: Symbol, other: Symbol) -> Part:
        name = shown(self.left, one)
        lines, note = self.diff(one, other)
        new_name = shown(self.right, other) if one.name != other.name else ""
        return Part("function", name, Status.CHANGED, one.size, other.size, lines, new_name, note)

    def bare(self, one: Symbol, other: Symbol, note: str) -> Part:
        name = shown(self.left, one)
        return Part("function", name, Status.CHANGED, one.size, other.size, note=note)

    def diff(self, one: Symbol, other: Symbol) -> tuple[tuple[str, ...], str]:
        look = self.look
        if time.monotonic() > look.deadline:
            look.cut = True
            return (), "not disassembled: the time was up"
        sizes = one.size, other.size
        where = f"in {section_name(self.left, one.section)}"
        if self.a.engine is None or self.b.engine is None or max(sizes) > MAX_CODE_BYTES:
            why = "too long" if self.a.engine and self.b.engine else "an unknown machine"
            i, j = self.left.file_offset(one), self.right.file_offset(other)
            blobs = self.left.blob, self.right.blob
            first = equal_from_start(blobs[0], i, blobs[1], j, min(sizes))
            lines = around(blobs[0], i, blobs[1], j, sizes, first).lines(look.bounds.lines)
            return lines, f"{where}; not disassembled: {why}"
        codes = self.left.code(one), self.right.code(other)
        rows = self.a.instructions(codes[0]), self.b.instructions(codes[1])
        texts = (
            self.a.text(one, codes[0], {}, rows[0]),
            self.b.text(other, codes[1], self.rename, rows[1]),
        )
        lines = text_diff(*texts, look.bounds.lines, [[row[0] for row in side] for side in rows])
        if not lines:
            note = "the same instructions, encoded otherwise or with other addresses"
            return differing_part(*codes, max_lines=look.bounds.lines).lines, f"{where}; {note}"
        return lines, where


def shown(elf: ElfFile, one: Symbol) -> str:
    if one.name:
        return name_text(one.name)
    return f"(no name) {section_name(elf, one.section)}+0x{one.offset:x}"
