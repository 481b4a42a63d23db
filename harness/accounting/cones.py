"""What of a stage lies between values of the model, and what of the model between the same values.

The *cone* of a value of the stage is all between it and the nearest values before it that are the
model's; the *region* of a value of the model is its nodes between classes of values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.accounting.fingerprint import idle
from harness.accounting.interface import Step, Trace
from harness.accounting.onnx_values import Node, Source


@dataclass
class Cone:
    """What is computed between ``borders``, the nearest matched values, and ``key``."""

    key: int
    steps: list[Step] = field(default_factory=list)
    borders: list[int] = field(default_factory=list)


@dataclass
class Region:
    """What the model computes between classes of values."""

    nodes: list[Node] = field(default_factory=list)
    reached: set[int] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)  # inputs that no border stands before


class Cones:
    """``classes``: the stage's values by the class of the model's that they are in. ``moving``:
    keys of what depends on an input. ``idle``: of these, what is the same on all inputs drawn.
    """

    def __init__(self, trace: Trace, source: Source) -> None:
        self.trace = trace
        self.source = source
        self.makers = {step.result: step for step in trace.steps}
        self.inputs = set(trace.inputs.values())
        self.moving = set(self.inputs)
        self.users: dict[int, list[Step]] = defaultdict(list)
        for step in trace.steps:
            if self.moving.intersection(step.operands):
                self.moving.add(step.result)
            for operand in step.operands:
                self.users[operand].append(step)
        here = {key: source.index.held(trace.values[key]) for key in sorted(self.moving)}
        self.idle = {key for key, held in here.items() if not held and idle(trace.values[key])}
        found = {
            key: source.index.find(trace.values[key]) for key in here if key not in self.idle
        }  # fmt: skip
        self.classes = {key: number for key, number in found.items() if number is not None}
        self.members = source.members
        self.known = set(self.members)

    # Over the trace.

    def needed(self) -> set[int]:
        """Everything that an output depends on."""
        found: set[int] = set()
        waiting = list(self.trace.outputs)
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting += self.makers[key].operands if key in self.makers else ()
        return found

    def cone(self, key: int) -> Cone:
        cone = Cone(key)
        seen: set[int] = set()
        waiting = [key]
        while waiting:
            at = waiting.pop()
            if at in seen or at not in self.moving:
                continue
            seen.add(at)
            if at != key and (at in self.classes or at in self.inputs):
                cone.borders.append(at)
            elif at in self.makers:
                cone.steps.append(self.makers[at])
                waiting += self.makers[at].operands
        cone.steps.sort(key=lambda step: step.result)
        return cone

    def covered(self, live: Iterable[Step]) -> set[int]:
        """Steps that some matched value is computed through."""
        return {
            inner.result
            for step in live
            if step.result in self.classes
            for inner in self.cone(step.result).steps
        }

    # Over the model.

    def region(self, names: Iterable[str], borders: set[int]) -> Region:
        """The nodes between classes and names, which may be of such a class themselves."""
        region = Region()
        seen: set[str] = set()
        waiting = [(name, True, True) for name in names]
        while waiting:
            name, first, strict = waiting.pop()
            if name in seen or name not in self.source.values:
                continue
            seen.add(name)
            number = self.source.classes.get(name)
            if number in borders and not first:
                region.reached.add(number)
                continue
            node = self.source.makers.get(name)
            if node is None:
                if strict:
                    region.missing.append(name)
                continue
            region.nodes.append(node)
            # What is behind a value that never changes, such as a shape, need not be there.
            strict = strict and number is not None
            waiting += [(given, False, strict) for given in node.inputs]
        return region

    def explained(self, number: int, borders: set[int], names: Iterable[str] = ()) -> Region:
        """How the model computes a value of a class from ``borders``.

        It may compute it in several ways, as a quantized value that is scaled and quantized again
        is. The first that starts from all of these and from nothing else is meant, else the first;
        ``names`` come before others.
        """
        found: Region | None = None
        for name in dict.fromkeys([*names, *self.members[number]]):
            region = self.region([name], borders)
            found = found or region
            if not region.missing and borders <= region.reached:
                return region
        assert found is not None
        return found

    def within(self, number: int) -> tuple[list[Node], set[int]]:
        """The nodes that compute a value of a class from another of the same class, and what
        else they start from.
        """
        found: dict[int, Node] = {}
        others: set[int] = set()
        for name in self.members[number][1:]:
            region = self.region([name], self.known)
            if number in region.reached and not region.missing:
                found.update({node.index: node for node in region.nodes})
                others |= region.reached
        return list(found.values()), others

    def takers(self, key: int, number: int, around: Iterable[Node]) -> list[Node]:
        """The nodes that start from a class, but for those around it: first those whose results
        are computed of ``key`` here, too.
        """
        names = set(self.members[number])
        inner = {node.index for node in around}
        found = [
            node
            for node in self.source.nodes
            if names.intersection(node.inputs) and node.index not in inner
        ]
        made = self.following(key)
        return sorted(
            found, key=lambda node: made.isdisjoint(map(self.source.classes.get, node.outputs))
        )

    def following(self, key: int) -> set[int | None]:
        """The classes of the first values that are computed of it, and are the model's."""
        found: set[int | None] = set()
        waiting, seen = [key], {key}
        while waiting:
            for step in self.users[waiting.pop()]:
                if step.result in self.classes:
                    found.add(self.classes[step.result])
                elif step.result not in seen:
                    seen.add(step.result)
                    waiting.append(step.result)
        return found

    def allowed(self, key: int, others: set[int]) -> bool:
        """Whether a border is one of these classes, or a linear function of such alone, and only
        by chance a value of the model as well.
        """
        if self.classes.get(key) in others:
            return True
        if key not in self.makers:
            return False
        inner = self.cone(key)
        return not any(step.decisions for step in inner.steps) and all(
            self.classes.get(border) in others for border in inner.borders
        )
