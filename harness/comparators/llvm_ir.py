"""Textual LLVM IR, function by function, global by global.

Names of local values and numbers of metadata and attributes are labels that LLVM gives while
printing. Two functions that differ in nothing else count as the same, and a note says how many
there are. What a number stands for does count: a reference may lead only to a node that reads the
same, or to the one that is itself reported as changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.comparators.interface import Bounds, Examined, Part, Status
from harness.comparators.llvm_ir_constant import MAX_CANONICAL, constant
from harness.comparators.llvm_ir_labels import Canonical, spelled, unnamed
from harness.comparators.llvm_ir_links import REFERENCE, Links, behind
from harness.comparators.llvm_ir_numbered import SHOWN, Numbered
from harness.comparators.llvm_ir_reading import NAME, Module, read_module
from harness.comparators.mapped import same_bytes, source
from harness.comparators.pieces import Findings, Key, Piece, by_content
from harness.comparators.pieces_differ import changed, compare_order, compare_rest, only
from harness.comparators.text import TextDiff, differing_part
from harness.text import printable

PRIVATE = re.compile(rb"@%s = (?:private|internal) " % NAME)
SYMBOLS = re.compile(rb'@(?:"[^"\n]*"|[-a-zA-Z$._0-9]+)')


@dataclass
class Comparison:
    left: Module
    right: Module
    findings: Findings
    renamed: dict[bytes, bytes] = field(default_factory=dict)  # @left → @right
    anonymous: set[Key] = field(default_factory=set)  # where the name says nothing
    relabelled: list[str] = field(default_factory=list)  # same but for labels
    private: list[str] = field(default_factory=list)  # the same, to show
    unread: list[str] = field(default_factory=list)  # too large, or too late, for a closer look
    links: Links = field(default_factory=lambda: Links(({}, {})))

    def run(self) -> None:
        numbered = Numbered(self.left, self.right, self.findings)
        numbered.run()
        self.links, self.anonymous = numbered.links, numbered.anonymous
        left, right = dict(self.left.pieces.named), dict(self.right.pieces.named)
        for side in (left, right):
            for key in [key for key in side if key[0] == "attributes"]:
                del side[key]
        self.rename_globals(left, right)
        both = [key for key in left if key in right]
        late = {key: (left.pop(key), right.pop(key)) for key in both}
        self.rename(left, right)
        for pair in late.values():
            self.pair(*pair)
        for module, alone, status in (
            (self.left, left, Status.REMOVED),
            (self.right, right, Status.ADDED),
        ):
            for piece in alone.values():
                only(self.findings, module.pieces, piece, status)
        compare_rest(
            self.findings,
            self.left.pieces.source,
            self.left.pieces.rest(self.left.nodes),
            self.right.pieces.source,
            self.right.pieces.rest(self.right.nodes),
            "comments and blank lines",
        )
        for part in numbered.later:
            self.findings.add(part)
        compare_order(self.findings, self.left.pieces, self.right.pieces, self.anonymous)
        self.say()

    def say(self) -> None:
        for what, names in (
            ("the same but for names of local values and numbers of metadata and attributes "
             "(printing only)", self.relabelled),
            ("private, the same under another name", self.private),
            ("compared byte by byte only, names of local values included", self.unread),
        ):  # fmt: skip
            if names:
                shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
                self.findings.notes.append(f"{len(names)} {what}: {shown}")
        if self.left.open_end or self.right.open_end:
            side = "left" if self.left.open_end else "right"
            self.findings.notes.append(f"the {side} text ends inside a function")

    # Globals: the same name and content; then, where private, the same content; then the name.

    def rename_globals(self, left: dict[Key, Piece], right: dict[Key, Piece]) -> None:
        ours = private(left, right, self.left, self.right)
        theirs = private(right, left, self.right, self.left)
        pairs = by_content(ours, theirs, self.content(self.left), self.content(self.right))
        for key, other in pairs:
            if key != other:
                self.renamed[b"@" + key[1]] = b"@" + other[1]
                self.anonymous |= {key, other}
                self.private.append(f"{left[key].shown} → {right[other].shown}")
            else:
                self.relabelled.append(left[key].shown)
        # A name that another global has taken over leads to something else now.
        for _, other in pairs:
            if other in self.left.pieces.named:
                self.renamed.setdefault(b"@" + other[1], b"@:" + other[1])
        for key, other in pairs:
            if key == other:
                del self.renamed[b"@" + key[1]]
            del left[key], right[other]
            self.findings.same += 1

    def content(self, module: Module) -> Callable[[Piece], str]:
        """What a piece says but for its own name and labels."""

        def digest(piece: Piece) -> str:
            own = b"@" + piece.name
            if piece.size > MAX_CANONICAL or self.findings.seconds() <= 0:
                return module.pieces.source.digest(piece.start + len(own), piece.end)
            renamed = {own: b"@:"}
            if module is self.left:
                renamed = {**self.renamed, own: b"@:"} if self.renamed else renamed
            found = Canonical(module.read(piece), module.types, renamed)
            says = self.links.says[0 if module is self.left else 1]
            behind = [says.get(name, name) for name in found.references]
            return f"{hash(found.text):x} {hash(tuple(behind)):x}"

        return digest

    def rename(self, left: dict[Key, Piece], right: dict[Key, Piece]) -> None:
        """Takes away what has the same content under another name."""
        ours, theirs = (
            {key: piece for key, piece in side.items() if piece.kind != "setting"}
            for side in (left, right)
        )
        pairs = by_content(ours, theirs, self.content(self.left), self.content(self.right))
        for key, other in pairs:
            x, y = left.pop(key), right.pop(other)
            if x.kind in ("function", "global", "declaration"):
                self.renamed[b"@" + x.name] = b"@" + y.name
            self.findings.add(
                Part(x.kind, x.shown, Status.RENAMED, x.size, y.size, new_name=y.shown)
            )

    # Two pieces of one name.

    def pair(self, x: Piece, y: Piece) -> None:
        a, b = self.left.pieces, self.right.pieces
        equal = same_bytes(a.source, x.start, x.end, b.source, y.start, y.end)
        if equal and not self.links.unlike and not self.renamed:
            self.findings.same += 1
            return
        if equal and not self.touched(x):
            self.findings.same += 1
            return
        if max(x.size, y.size) > MAX_CANONICAL or self.findings.seconds() <= 0:
            self.unread.append(x.shown)
            if equal:
                self.findings.same += 1
            else:
                self.changed(x, y, None, None)
            return
        left = Canonical(self.left.read(x), self.left.types, self.renamed)
        right = Canonical(self.right.read(y), self.right.types, {})
        if left.text != right.text:
            if equal:
                self.other_globals(x, y)
            else:
                self.changed(x, y, left, right)
            return
        unlike = [
            pair
            for pair in dict.fromkeys(zip(left.references, right.references, strict=True))
            if not self.links.alike(*pair)
        ]
        if unlike:
            self.elsewhere(x, y, unlike)
        else:
            self.findings.same += 1
            if not equal:
                self.relabelled.append(x.shown)

    def touched(self, piece: Piece) -> bool:
        """Whether a piece that is equal on both sides refers to something that is not."""
        if piece.size > MAX_CANONICAL:
            return True
        text = self.left.read(piece)
        if self.links.unlike and not self.links.unlike.isdisjoint(REFERENCE.findall(text)):
            return True
        return bool(self.renamed) and not self.renamed.keys().isdisjoint(SYMBOLS.findall(text))

    def elsewhere(self, x: Piece, y: Piece, unlike: list[tuple[bytes, bytes]]) -> None:
        """The text is the same, but references lead to something else."""
        lines = []
        for pair in unlike[: max(1, self.findings.bounds.lines // 2)]:
            for sign, module, name in zip("-+", (self.left, self.right), pair, strict=True):
                lines.append(sign + printable(behind(module, name), 240))
        self.findings.add(
            Part(x.kind, x.shown, Status.CHANGED, x.size, y.size,
                 tuple(lines[: self.findings.bounds.lines]),
                 note=f"the text is the same; {len(unlike)} of its references lead to other "
                      "metadata or attributes")
        )  # fmt: skip

    def other_globals(self, x: Piece, y: Piece) -> None:
        """The text is the same, but a private global that it names is now another one."""
        names = dict.fromkeys(SYMBOLS.findall(self.left.read(x)))
        lines = []
        for name in [name for name in names if name in self.renamed]:
            for sign, module in (("-", self.left), ("+", self.right)):
                lines.append(sign + printable(behind(module, name), 240))
        self.findings.add(
            Part(x.kind, x.shown, Status.CHANGED, x.size, y.size,
                 tuple(lines[: self.findings.bounds.lines]),
                 note="the text is the same; what it names has other content")
        )  # fmt: skip

    def changed(self, x: Piece, y: Piece, left: Canonical | None, right: Canonical | None) -> None:
        note = ""
        if x.kind == "global":
            note = constant(self.left, self.right, x, y)
        elif (
            left
            and right
            and x.kind == "function"
            and not self.findings.full
            and self.named_alike(x, y, left, right)
        ):
            return
        changed(self.findings, self.left.pieces, x, self.right.pieces, y, note)

    def named_alike(self, x: Piece, y: Piece, left: Canonical, right: Canonical) -> bool:
        """Reports a function by the shortest of the diffs that leave labels out.

        False if the text as it is serves as well.
        """
        a, b = self.left.read(x), self.right.read(y)
        limit = self.findings.bounds.lines
        seconds = min(1.0, self.findings.seconds())

        def diff(left: bytes, right: bytes) -> TextDiff:
            return differing_part(left, right, context=2, max_lines=limit, max_seconds=seconds)

        plain = diff(a, b)
        best, note = plain, ""
        if left.names != right.names or self.renamed:
            same = dict(zip(right.names, left.names, strict=False))
            same.update((new, old) for old, new in self.renamed.items())
            mapped = diff(a, spelled(b, same, self.right.types))
            if mapped.lines and (mapped.truncated, mapped.differing_lines) < (
                best.truncated, best.differing_lines,
            ):  # fmt: skip
                best, note = mapped, "values are shown under the left side's names"
            blank = diff(unnamed(a, self.left.types), unnamed(b, self.right.types))
            if blank.lines and (blank.truncated, 4 * blank.differing_lines) < (
                best.truncated, best.differing_lines,
            ):  # fmt: skip
                best, note = blank, "names of local values are left out (%_)"
        if best is plain:
            return False
        note += ", lines and bytes counted from the function's beginning"
        if best.truncated:
            note += "; there is more than is shown"
        self.findings.add(
            Part(x.kind, x.shown, Status.CHANGED, x.size, y.size, best.lines, note=note)
        )
        return True


def private(
    here: dict[Key, Piece], there: dict[Key, Piece], a: Module, b: Module
) -> dict[Key, Piece]:
    """The globals that no other module can name, and that are not the same under the same name."""
    return {
        key: x
        for key, x in here.items()
        if x.kind == "global"
        and PRIVATE.match(a.pieces.source.data, x.start)
        and not (
            (y := there.get(key))
            and same_bytes(a.pieces.source, x.start, x.end, b.pieces.source, y.start, y.end)
        )
    }


class LlvmIr:
    """Functions, declarations, globals, types, attribute groups, metadata."""

    format = "LLVM IR"

    def examine(self, left: Path, right: Path, bounds: Bounds) -> Examined:
        """Raises NotThisFormatError."""
        findings = Findings(bounds)
        sides = source(left), source(right)
        if same_bytes(sides[0], 0, sides[0].size, sides[1], 0, sides[1].size):
            read_module(sides[0])
            return Examined(self.format, ())
        a, b = (read_module(side) for side in sides)
        Comparison(a, b, findings).run()
        return findings.examined(self.format)
