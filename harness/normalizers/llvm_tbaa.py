"""Heap addresses that TVM uses as names of TBAA nodes in textual LLVM IR.

TVM names the alias class of a buffer after the address of the object that describes it, so the
text differs in every process::

    !539 = !{!540, !540, i64 0}                        an access tag
    !540 = !{!"0x5570b193e0f0.w4.b0", !541, i64 0}     bytes 0 to 3 of the buffer ...
    !541 = !{!"0x5570b193e0f0.w8.b0", !549, i64 0}     ... within bytes 0 to 7 (up to w1024)
    !549 = !{!"0x5570b193e0f0", !550, i64 0}           the whole buffer
    !550 = !{!"tvm-tbaa"}                              the root

The addresses are renamed ``0x1``, ``0x2`` ... in the order in which they first appear.

**Claim.** If ``normalize(a) == normalize(b)``, a bijection between the addresses of ``a`` and of
``b`` turns ``a`` into ``b``, and both mean the same to LLVM.

1. Only printable ASCII, tabs and newlines, with every string closed on its own line and no
   ``/* */`` comment: so no line begins inside a string or a comment, and a line is what it seems.
2. Numbered metadata ``!0 =``, ``!1 =`` ... stands in one block at the end, numbered without gap or
   repetition. Named metadata, globals and functions come before it and are never changed.
3. A *name* is a whole line ``!N = !{!"ADDRESS", !P, i64 0}`` or the same with ``.wW.bB``, in that
   block, whose parent P is what TVM makes it: the one root for a bare address; for ``.wW.bB`` the
   name of the same address and twice the width, around the same bytes, or for W = 1024 the bare
   address. A parent is a name or the root, so nothing else ever takes a name's place in the tree.
4. No two names are the same string. LLVM makes equal nodes one, so a printed module cannot repeat
   one; here it also means that renaming neither merges nor splits nodes.
5. Names are used by names (as parent) and by tags ``!T = !{!N, !N, i64 0}`` and by nothing else;
   tags are used by ``!tbaa`` attachments and by nothing else. So names reach only alias analysis,
   which asks whether two nodes are the same and never how they are spelt; no name is emitted into
   code, debug data, symbols or sections.
6. Every address in a name is replaced, all by one mapping from addresses to ``0x1`` ... ``0xn``,
   which is a bijection because each first appearance takes the next number. Let f be that mapping
   for ``a`` and g for ``b``: ``f(a) == g(b)`` gives ``b == g⁻¹(f(a))``, which is the claim. No
   other byte changes, and the places of addresses are the same in ``f(a)`` and ``a``.
7. The canonical names are addresses themselves, so they are renamed like any other: there is no
   reserved form that an input could collide with, and a canonical text is its own canonical form.

**What could hide here.** The digits: at most 12 per name (a user-space address is below 2^48), the
same in all names of one buffer, within the ledger's byte budget. Because of (5) they cannot change
what LLVM makes of the module. A different number of buffers, another tree, or a tag on another
access is a difference elsewhere in the text and stays one. The same address given to two buffers
merges their names, which changes the tree and the tags: it is not explained.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from harness.normalizers.interface import Normalized, NotApplicable, refuse_large
from harness.normalizers.llvm_text import MAX_TOKENS, check_lines

WIDEST = 1024  # bytes; TVM halves from here down to the width of the access

NUMBERED_LINE = re.compile(rb"\n[ \t]*![0-9]")
NUMBERED = re.compile(rb"!(0|[1-9][0-9]{0,8}) = ")
NAME = re.compile(
    rb'!([0-9]{1,9}) = !\{!"(0x[1-9a-f][0-9a-f]{0,11})'
    rb'(?:\.w([1-9][0-9]{0,3})\.b(0|[1-9][0-9]{0,17}))?", !([0-9]{1,9}), i64 0\}'
)
TAG = re.compile(rb"!([0-9]{1,9}) = !\{!([0-9]{1,9}), !([0-9]{1,9}), i64 0\}")
ROOT = re.compile(rb'!([0-9]{1,9}) = !\{!"tvm-tbaa"\}')
ANY_USE = re.compile(rb"!([0-9]+)")
ATTACHED = re.compile(rb"!tbaa !([0-9]+)")


@dataclass(frozen=True)
class Name:
    """One TBAA node named by an address. ``width`` is None for the whole buffer; bytes."""

    address: bytes
    width: int | None
    offset: int
    parent: int
    start: int  # where the address stands in its line


@dataclass(frozen=True)
class TbaaNames:
    """The normalizer ``llvm-tbaa-names``; the module's docstring is its proof."""

    id: str = "llvm-tbaa-names"
    applies_to: frozenset[str] = field(default=frozenset({"llvm-unoptimized", "llvm"}))
    reorders: bool = False

    def normalize(self, data: bytes) -> Normalized:
        refuse_large(data)
        head, lines = split(data)
        names = {
            number: name for number, line in enumerate(lines) if (name := parse(line)) is not None
        }
        if not names:
            return Normalized(data, 0)
        check_tree(names, lines)
        check_uses(names, head, lines)

        # (6) One mapping, in order of first appearance, applied to every name.
        canonical: dict[bytes, bytes] = {}
        ignored = 0
        for number, name in names.items():
            new = canonical.setdefault(name.address, b"0x%x" % (len(canonical) + 1))
            line, end = lines[number], name.start + len(name.address)
            lines[number] = line[: name.start] + new + line[end:]
            if new != name.address:
                ignored += len(name.address)
        return Normalized(head + b"\n".join(lines), ignored)


def split(data: bytes) -> tuple[bytes, list[bytes]]:
    """(1), (2): what comes before the numbered metadata, and its lines; line N defines ``!N``.

    A file that ends in a newline leaves one empty line at the end of the list.
    """
    check_lines(data)
    start = 0 if data.startswith(b"!0 = ") else data.find(b"\n!0 = ") + 1
    if start == 0 and not data.startswith(b"!0 = "):
        if NUMBERED_LINE.search(b"\n" + data):
            raise NotApplicable("numbered metadata does not begin with !0")
        return data, []
    if data.count(b"\n", start) > MAX_TOKENS:
        raise NotApplicable(f"the text has more than {MAX_TOKENS} metadata nodes")
    head, lines = data[:start], data[start:].split(b"\n")
    if NUMBERED_LINE.search(b"\n" + head):
        raise NotApplicable("numbered metadata stands in front of !0")
    for number, line in enumerate(lines):
        found = NUMBERED.match(line)
        if found is None and not line and number == len(lines) - 1:
            break
        if found is None or int(found[1]) != number:
            raise NotApplicable(f"the numbered metadata is not in order where !{number} should be")
    return head, lines


def parse(line: bytes) -> Name | None:
    """(3): the line as a name, or None if it is anything else."""
    found = NAME.fullmatch(line)
    if found is None:
        return None
    width, offset = found[3], found[4]
    return Name(
        found[2], int(width) if width else None, int(offset or 0), int(found[5]), found.start(2)
    )


def check_tree(names: dict[int, Name], lines: list[bytes]) -> None:
    """(3) and (4); raises NotApplicable."""
    roots = [number for number, line in enumerate(lines) if ROOT.fullmatch(line)]
    if len(roots) != 1:
        raise NotApplicable(f"{len(roots)} TBAA roots of TVM's instead of one")

    seen: set[tuple[bytes, int | None, int]] = set()
    for number, name in names.items():
        if (key := (name.address, name.width, name.offset)) in seen:
            raise NotApplicable(f"!{number} repeats the name of another node")
        seen.add(key)

        if name.width is None:
            if name.parent != roots[0]:
                raise NotApplicable(f"!{number} does not hang below TVM's TBAA root")
            continue
        if name.width & (name.width - 1) or name.width > WIDEST or name.offset % name.width:
            raise NotApplicable(f"!{number} names bytes that TVM would not name")
        parent = names.get(name.parent)
        wider = None if name.width == WIDEST else name.width * 2
        around = 0 if wider is None else name.offset - name.offset % wider
        if parent is None or (parent.address, parent.width, parent.offset) != (
            name.address,
            wider,
            around,
        ):
            raise NotApplicable(f"!{number} does not hang below the node around it")


def check_uses(names: dict[int, Name], head: bytes, lines: list[bytes]) -> None:
    """(5); raises NotApplicable. A lookalike inside a string counts as a use: that only refuses."""
    tags: set[int] = set()
    for number, line in enumerate(lines):
        if (tag := TAG.fullmatch(line)) and tag[2] == tag[3] and int(tag[2]) in names:
            tags.add(number)
    for number, line in enumerate(lines):
        if number in names or number in tags:
            continue
        used = counted(ANY_USE, line[line.find(b" = ") + 3 :]).keys()
        if used & names.keys() or used & tags:
            raise NotApplicable(f"!{number} uses a TBAA node that is named by an address")
    uses, attached = counted(ANY_USE, head), counted(ATTACHED, head)
    for number in (*names, *tags):
        if uses[number] != (attached[number] if number in tags else 0):
            raise NotApplicable(f"!{number} is used for something other than !tbaa")


def counted(pattern: re.Pattern[bytes], text: bytes) -> Counter[int]:
    """How often each numbered node is named by the pattern's group."""
    found: Counter[int] = Counter()
    for digits, times in Counter(pattern.findall(text)).items():
        if len(digits) > 9:
            raise NotApplicable("a metadata number has more than nine digits")
        found[int(digits)] += times
    return found
