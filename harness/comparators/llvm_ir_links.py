"""References to metadata and attribute groups, and what is behind their numbers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from harness.comparators.interface import NotThisFormatError
from harness.comparators.llvm_ir_reading import Module
from harness.comparators.mapped import Source, lines_between

MAX_NODES = 200_000  # numbered metadata nodes of one module that are compared one by one
REFERENCE = re.compile(rb'"[^"\n]*"|([!#][0-9]{1,9})(?![-a-zA-Z$._0-9])')


@dataclass(frozen=True)
class Nodes:
    """Numbered metadata: what each says, the numbers in it left out, and where it stands."""

    says: dict[bytes, int]  # b"!5" → hash of its text
    place: dict[bytes, tuple[int, int]]

    @classmethod
    def of(cls, module: Module) -> Nodes:
        nodes = cls({}, {})
        text = module.pieces.source
        for block in module.nodes:
            for start, end in lines_between(text, *block):
                line = text.read(start, end)
                number, _, body = line.partition(b" = ")
                if number in nodes.says:
                    raise NotThisFormatError("a metadata node is defined twice")
                if len(nodes.says) >= MAX_NODES:
                    raise TooManyError(f"more than {MAX_NODES} nodes")
                nodes.says[number] = hash(REFERENCE.sub(unnumbered, body))
                nodes.place[number] = (start, end)
        return nodes


def unnumbered(found: re.Match[bytes]) -> bytes:
    return found[0] if found[1] is None else found[1][:1]


class TooManyError(Exception):
    """More metadata nodes than are compared one by one."""


@dataclass
class Links:
    """Which number on the left may stand where which on the right does.

    ``says``: of both sides, what is behind a reference. ``pairs``: changed things, already
    reported. ``unlike``: numbers that lead to something else on the right than on the left.
    """

    says: tuple[dict[bytes, int], dict[bytes, int]]
    pairs: set[tuple[bytes, bytes]] = field(default_factory=set)
    unlike: set[bytes] = field(default_factory=set)

    def alike(self, left: bytes, right: bytes) -> bool:
        if left == right:
            return left not in self.unlike
        says, other = self.says[0].get(left), self.says[1].get(right)
        return (says is not None and says == other) or (left, right) in self.pairs

    def settle(self) -> None:
        """Fills ``unlike``, once all pairs are known."""
        for name in self.says[0].keys() | self.says[1].keys():
            if self.says[0].get(name) != self.says[1].get(name) and (name, name) not in self.pairs:
                self.unlike.add(name)


def deeper(nodes: Nodes, text: Source, rounds: int = 3) -> Counter[int]:
    """What each node says together with what stands up to ``rounds`` links away, as a multiset."""
    inner = {
        name: [ref for ref in REFERENCE.findall(text.read(*place).partition(b" = ")[2]) if ref]
        for name, place in nodes.place.items()
    }
    says = nodes.says
    for _ in range(rounds):
        says = {
            name: hash((says[name], *(says.get(ref, 0) for ref in refs)))
            for name, refs in inner.items()
        }
    return Counter(says.values())


def behind(module: Module, name: bytes) -> bytes:
    """The line that defines a numbered thing."""
    text = module.pieces.source
    if name[:1] in b"#@":
        kind = "attributes" if name.startswith(b"#") else "global"
        piece = module.pieces.named.get((kind, name[1:], 0))
        return (
            name
            if piece is None
            else text.read(piece.start, min(piece.end - 1, piece.start + 2000))
        )
    wanted = re.compile(rb"(?:\n|\A)(%s = [^\n]{0,2000})" % re.escape(name))
    for start, end in module.nodes:
        found = wanted.search(text.data, max(0, start - 1), end)
        if found:
            return found[1]
    return name + b" is not defined"
