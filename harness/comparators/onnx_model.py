"""Two ONNX models: which nodes, initializers, inputs, outputs and other fields differ.

Each model is read into digests and let go before the other one is read, so that one model's size
is what the look needs. Nodes are matched by the names of their outputs, then by what they compute.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]

from harness.comparators.interface import Bounds, Examined, NotThisFormatError, Part, Status
from harness.comparators.onnx_summary import MAX_NAME, Node, Summary, Tensor, load, summary
from harness.comparators.onnx_tensors import data_note, raw_data, tensor_part
from harness.comparators.tensor import Blob, equal
from harness.comparators.text import differing_part
from harness.text import printable


class OnnxModel:
    """ONNX models, with all that they hold; external data is not read."""

    format = "ONNX"

    def examine(self, left: Path, right: Path, bounds: Bounds) -> Examined:
        deadline = time.monotonic() + bounds.seconds
        try:
            sides = []
            for path in (left, right):
                sides.append(summary(load(path)))
                if time.monotonic() > deadline:
                    raise NotThisFormatError("models that take too long to be read")
            return Look(sides[0], sides[1], (left, right), bounds).examined()
        except (UnicodeError, DecodeError, EncodeError, RecursionError) as problem:
            raise NotThisFormatError(f"not a sound ONNX model: {type(problem).__name__}") from None


@dataclass
class Look:
    left: Summary
    right: Summary
    paths: tuple[Path, Path]
    bounds: Bounds
    same: int = 0
    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # of values: the left's → the right's

    def examined(self) -> Examined:
        tensors = self.tensors()
        nodes = self.nodes()
        fields = self.fields()
        parts = (*nodes, *tensors, *fields)
        external = sum(one.external for one in self.left.tensors.values())
        if external:
            self.notes.append(f"external data of {external:,} initializers was not read")
        if not parts and not self.notes and not same_files(*self.paths):
            self.notes.append("the same model, encoded otherwise")
        more = len(parts) - self.bounds.parts
        if more > 0:
            self.notes.append(f"{more:,} more parts differ")
        kept = parts[: self.bounds.parts]
        return Examined(OnnxModel.format, kept, self.same, more > 0, tuple(self.notes[:20]))

    # Initializers

    def tensors(self) -> list[Part]:
        mine, theirs = self.left.tensors, self.right.tensors
        common = [name for name in mine if name in theirs]
        by_content: defaultdict[bytes, list[Tensor]] = defaultdict(list)
        for name, one in theirs.items():
            if name not in mine:
                by_content[one.content].append(one)
        parts = []
        for name, one in mine.items():
            if name in theirs:
                continue
            twins = by_content[one.content]
            if twins:
                other = twins.pop(0)
                self.names[name] = other.name
                new_name = printable(other.name, MAX_NAME)
                parts.append(tensor_part(one, other, Status.RENAMED, new_name=new_name))
            else:
                parts.append(tensor_part(one, None, Status.REMOVED))
        for twins in by_content.values():
            parts += [tensor_part(None, other, Status.ADDED) for other in twins]
        differing = [name for name in common if mine[name].whole != theirs[name].whole]
        self.same += len(common) - len(differing)
        if [name for name in mine if name in theirs] != [name for name in theirs if name in mine]:
            self.notes.append("the initializers are in another order")
        shown = [name for name in differing if mine[name].content != theirs[name].content]
        contents = [raw_data(path, shown[: self.bounds.parts]) for path in self.paths if shown]
        changed = []
        for name in differing:
            one, other = mine[name], theirs[name]
            note = f"{one.shape} → {other.shape}" if one.shape != other.shape else one.shape
            if one.content == other.content:
                note = f"{note}: the same data; doc_string, metadata or unknown fields differ"
            elif name in contents[0] and name in contents[1]:
                note = f"{note}: {data_note(one, other, contents[0][name], contents[1][name])}"
            changed.append(tensor_part(one, other, Status.CHANGED, note=note))
        return changed + parts

    # Nodes

    def nodes(self) -> list[Part]:
        theirs = {node.key: node for node in self.right.nodes}
        mine = {node.key for node in self.left.nodes}
        free: defaultdict[tuple[bytes, tuple[str, ...]], list[Node]] = defaultdict(list)
        for node in self.right.nodes:
            if node.key not in mine:
                free[node.digest, node.inputs].append(node)
        parts: list[Part] = []
        lost: list[Node] = []
        followed = 0
        for node in self.left.nodes:
            inputs = tuple(self.names.get(name, name) for name in node.inputs)
            other = theirs.pop(node.key, None)
            if other is not None:
                if node.text(self.names) == other.text({}) and node.digest == other.digest:
                    self.same += 1
                    followed += node.inputs != other.inputs
                else:
                    parts.append(self.node_part(node, other))
                continue
            twins = free[node.digest, inputs]
            if twins:
                other = twins.pop(0)
                theirs.pop(other.key, None)
                self.names.update(zip(node.outputs, other.outputs, strict=False))
                new_name = title(other)
                parts.append(Part("node", title(node), Status.RENAMED, new_name=new_name))
            else:
                lost.append(node)
        parts.sort(key=lambda part: part.status is Status.RENAMED)
        parts[:0] = [Part("node", title(node), Status.REMOVED, note=node.rows[0]) for node in lost]
        parts += [
            Part("node", title(node), Status.ADDED, note=node.rows[0]) for node in theirs.values()
        ]
        if followed:
            self.notes.append(f"{followed:,} nodes read values that are only named otherwise")
        orders = [
            [node.key for node in side.nodes if node.key in mine and node.key in right]
            for right in ({node.key for node in self.right.nodes},)
            for side in (self.left, self.right)
        ]
        if orders[0] != orders[1]:
            self.notes.append("the nodes are in another order")
        if any(len({node.key for node in side.nodes}) != len(side.nodes) for side in self.sides):
            self.notes.append("several nodes have the same outputs: they are not all matched")
        return parts

    @property
    def sides(self) -> tuple[Summary, Summary]:
        return self.left, self.right

    def node_part(self, node: Node, other: Node) -> Part:
        found = differing_part(
            node.text(self.names), other.text({}), context=1, max_lines=self.bounds.lines
        )
        lines = tuple(line for line in found.lines if line[0] != "@")
        note = node.rows[0]
        return Part("node", title(node), Status.CHANGED, lines=lines, note=note)

    # Everything else

    def fields(self) -> list[Part]:
        parts = []
        mine, theirs = self.left.fields, self.right.fields
        for name in dict.fromkeys((*mine, *theirs)):
            old, new = mine.get(name), theirs.get(name)
            if old == new:
                self.same += 1
                continue
            status = Status.CHANGED if old and new else Status.REMOVED if old else Status.ADDED
            texts = [
                (one[1] if one else "").encode("utf-8", "surrogateescape") for one in (old, new)
            ]
            lines = differing_part(texts[0], texts[1], context=1, max_lines=self.bounds.lines).lines
            parts.append(Part("field", name, status, lines=lines))
        return parts


def title(node: Node) -> str:
    """The outputs, as they name a node in its graph; of a graph within a node also its place."""
    outputs = ", ".join(printable(name, 80) for name in node.outputs[:4]) or "(no output)"
    return outputs if node.where == "graph" else f"{node.where}: {outputs}"


def same_files(left: Path, right: Path) -> bool:
    with Blob(left) as a, Blob(right) as b:
        return a.size == b.size and equal(a, 0, b, 0, a.size)
