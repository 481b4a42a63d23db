"""What LLVM IR numbers: attribute groups and metadata of two modules."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from harness.comparators.interface import NotThisFormatError, Part, Status
from harness.comparators.llvm_ir_links import Links, Nodes, TooManyError, deeper
from harness.comparators.llvm_ir_reading import Module
from harness.comparators.mapped import same_bytes
from harness.comparators.pieces import Findings, Key
from harness.comparators.pieces_differ import difference_in
from harness.text import printable

SHOWN = 3  # examples in a note
FEW = 8  # numbered things that get a part each
NAME_SHOWN = 160  # characters


@dataclass
class Numbered:
    """Attribute groups and metadata nodes: by what they say, then by number."""

    left: Module
    right: Module
    findings: Findings
    anonymous: set[Key] = field(default_factory=set)  # where the name says nothing
    links: Links = field(default_factory=lambda: Links(({}, {})))
    later: list[Part] = field(default_factory=list)  # to be reported behind what has a name

    def run(self) -> None:
        says: tuple[dict[bytes, int], dict[bytes, int]] = ({}, {})
        places: list[dict[bytes, tuple[int, int]]] = []
        for module, known in zip((self.left, self.right), says, strict=True):
            places.append({})
            for piece in module.pieces.named.values():
                if piece.kind == "attributes":
                    name = b"#" + piece.name
                    if name in known:
                        raise NotThisFormatError("an attribute group is defined twice")
                    places[-1][name] = piece.start, piece.end
                    known[name] = hash(module.read(piece).partition(b" = ")[2])
        self.links = Links(says)
        found = self.leftover("#")
        self.findings.same += len(places[0]) - sum(x is not None for x, _ in found)
        self.report("attributes", found, (places[0], places[1]))
        other = {name for name, value in says[0].items() if value != says[1].get(name)}
        self.anonymous.update(("attributes", name[1:], 0) for name in other)
        moved = len(other) - sum(x is not None for x, _ in found)
        if moved > 0:
            self.findings.notes.append(
                f"{moved} attribute groups are only numbered in another way (printing only)"
            )
        if not self.same_nodes():
            try:
                self.compare_nodes((Nodes.of(self.left), Nodes.of(self.right)))
            except TooManyError as error:
                self.whole_metadata("numbered nodes", f"{error}: not compared one by one")
        self.links.settle()

    def same_nodes(self) -> bool:
        a, b = self.left.nodes, self.right.nodes
        return len(a) == len(b) and all(
            same_bytes(self.left.pieces.source, *x, self.right.pieces.source, *y)
            for x, y in zip(a, b, strict=True)
        )

    def leftover(self, sigil: str) -> list[tuple[bytes | None, bytes | None]]:
        """What has no partner that says the same: in pairs if their numbers allow it.

        Pairs go into ``links.pairs``.
        """
        sides: list[list[bytes]] = []
        for here, there in ((0, 1), (1, 0)):
            names = [name for name in self.links.says[here] if name.startswith(sigil.encode())]
            partners = Counter(
                value
                for name, value in self.links.says[there].items()
                if name.startswith(sigil.encode())
            )
            alone = []
            for name in names:
                value = self.links.says[here][name]
                if partners[value]:
                    partners[value] -= 1
                else:
                    alone.append(name)
            sides.append(alone)
        left, right = sides
        if len(left) == len(right):
            pairs = list(zip(left, right, strict=True))
        else:
            pairs = [(name, name) for name in left if name in set(right)]
        self.links.pairs.update(pairs)
        paired = {name for name, _ in pairs}, {name for _, name in pairs}
        return [
            *pairs,
            *((name, None) for name in left if name not in paired[0]),
            *((None, name) for name in right if name not in paired[1]),
        ]

    def report(
        self,
        kind: str,
        found: list[tuple[bytes | None, bytes | None]],
        places: tuple[dict[bytes, tuple[int, int]], dict[bytes, tuple[int, int]]],
    ) -> None:
        """Each line on its own if they are few, otherwise all in one part."""
        texts = self.left.pieces.source, self.right.pieces.source
        limit = self.findings.bounds.lines
        parts: list[Part] = []
        for x, y in found:
            lines, sizes = [], []
            for sign, text, place, name in zip("-+", texts, places, (x, y), strict=True):
                sizes.append(None if name is None else place[name][1] - place[name][0])
                if name is not None:
                    start, end = place[name]
                    line = text.read(start, min(end, start + 4096)).rstrip(b"\n")
                    lines.append(sign + printable(line, 240))
            status = Status.CHANGED if x and y else Status.REMOVED if x else Status.ADDED
            new = printable(y, NAME_SHOWN) if x and y and x != y else ""
            shown = printable(x or y or b"", NAME_SHOWN)
            parts.append(Part(kind, shown, status, sizes[0], sizes[1], tuple(lines[:limit]), new))
            if len(parts) > limit:
                break
        if len(found) <= FEW:
            self.later += parts
            return
        lines = [line for part in parts for line in part.lines]
        names = ", ".join(part.name for part in parts[:SHOWN])
        self.later.append(
            Part(kind, f"{len(found)} of them: {names}, …", Status.CHANGED,
                 lines=tuple(lines[:limit]),
                 note="there is more than is shown" if 2 * len(found) > limit else "")
        )  # fmt: skip

    def whole_metadata(self, name: str, note: str) -> None:
        """All numbered metadata as one part."""
        spans = [
            (module.nodes[0][0], module.nodes[-1][1]) if module.nodes else (0, 0)
            for module in (self.left, self.right)
        ]
        lines, cut = difference_in(
            self.left.pieces.source, spans[0], self.right.pieces.source, spans[1],
            self.findings.bounds.lines, min(2.0, self.findings.seconds()),
        )  # fmt: skip
        if cut:
            note += "; there is more than is shown"
        sizes = [end - start for start, end in spans]
        self.later.append(
            Part("metadata", name, Status.CHANGED, sizes[0], sizes[1], lines, note=note)
        )

    def compare_nodes(self, nodes: tuple[Nodes, Nodes]) -> None:
        for side, known in zip(nodes, self.links.says, strict=True):
            known.update(side.says)
        found = self.leftover("!")
        self.findings.same += len(nodes[0].says) - sum(x is not None for x, _ in found)
        self.report("metadata", found, (nodes[0].place, nodes[1].place))
        left, right = nodes
        if left.says.keys() == right.says.keys() and all(
            value == right.says[name] or (name, name) in self.links.pairs
            for name, value in left.says.items()
        ):
            self.compare_links(left, right)
        elif found:
            self.findings.notes.append(
                "metadata is also numbered in another way, and where its nodes refer to each "
                "other was not compared"
            )
        elif deeper(left, self.left.pieces.source) != deeper(right, self.right.pieces.source):
            self.whole_metadata(
                "links between nodes",
                "the nodes say the same, but refer to each other in another way",
            )
        else:
            self.findings.notes.append(
                f"{len(left.says)} metadata nodes are only numbered in another way, as far as "
                "three links from each (printing only)"
            )

    def compare_links(self, left: Nodes, right: Nodes) -> None:
        """The numbers fit each other: what refers to other numbers is another node."""
        a, b = self.left.pieces.source, self.right.pieces.source
        unlike: list[tuple[bytes | None, bytes | None]] = [
            (name, name)
            for name, place in left.place.items()
            if left.says[name] == right.says[name]
            and not same_bytes(a, *place, b, *right.place[name])
        ]
        if unlike:
            self.findings.same -= len(unlike)
            self.report("metadata", unlike, (left.place, right.place))
