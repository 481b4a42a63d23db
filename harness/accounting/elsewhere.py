"""The source model between values that are drawn: what it computes where no input has led.

Some names of a class are computed from others of it, such as what a bound that was never reached
lets through. On drawn values they differ, so only the first of them, the root, is drawn, and the
others follow from it. What the model computes twice, and alike wherever it is tried, is drawn once.
"""

from __future__ import annotations

import itertools
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from harness.accounting.agreement import alike
from harness.accounting.interface import Array, Choice, NotInterpretedError
from harness.accounting.needs import needs
from harness.accounting.onnx_again import at_once
from harness.accounting.onnx_values import Node, Source
from harness.accounting.ranges import ANY, Ranges
from harness.accounting.redraw import Draw, Plan, deciding

# The same elements in the same order.
SHAPING = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Expand"})
MOST_KEPT = 2**25  # elements of what is drawn and computed of it, for all stages
FEW = 16  # elements of a constant that is as good as numbers


class Elsewhere:
    def __init__(self, source: Source, seed: int) -> None:
        self.source = source
        self.seed = seed
        self.room = MOST_KEPT - sum(value.size for value in source.kept.values())
        self.ranges = Ranges(source)
        self.members = source.members
        self.known = set(self.members)
        self.roots: dict[str, str | None] = {}

    def region(self, name: str, stops: Callable[[str], bool]) -> tuple[list[Node], dict[str, None]]:
        """The nodes between a name and the first stops before it, in order, and these."""
        nodes: dict[int, Node] = {}
        ends: dict[str, None] = {}
        seen = {name}
        waiting = [name]
        while waiting:
            at = waiting.pop()
            node = self.source.makers.get(at)
            if node is None:
                ends[at] = None
                continue
            nodes[node.index] = node
            for given in node.inputs:
                if given in seen or given not in self.source.values:
                    continue
                seen.add(given)
                if stops(given):
                    ends[given] = None
                else:
                    waiting.append(given)
        return [nodes[index] for index in sorted(nodes)], ends

    def classed(self, name: str) -> bool:
        return name in self.source.classes

    def root(self, name: str) -> str | None:
        """The name of the same class that is drawn for this one; None: it is computed."""
        if name not in self.roots:
            self.sort(self.source.classes[name])
        return self.roots[name]

    def sort(self, number: int) -> None:
        first, *others = self.members[number]
        self.roots[first] = first
        drawn = [first]
        for name in others:
            _, ends = self.region(name, self.classed)
            if any(self.source.classes.get(end) == number for end in ends):
                self.roots[name] = None
            elif not ends:  # an input that equals another
                self.roots[name] = name
            else:
                twin = next((one for one in drawn if not self.told_apart(one, name)), None)
                self.roots[name] = twin or name
                drawn += [] if twin else [name]

    def plain_name(self, name: str) -> str:
        """The first name that has these elements in this order, by shapes alone."""
        source = self.source
        while True:
            node = source.makers.get(name)
            if node is None or node.operator not in SHAPING or node.domain:
                return name
            if self.classed(node.inputs[0]) and source.size(node.inputs[0]) == source.size(name):
                name = node.inputs[0]
            else:
                return name

    def candidates(self, number: int) -> list[str]:
        """Names of a class that need not be the same where it is tried."""
        found: dict[str, str] = {}
        for name in self.members[number]:
            plain_name = self.plain_name(name)
            root = self.root(plain_name)
            found.setdefault(root or plain_name, name)
        return list(found.values())

    def chain(self, name: str) -> list[Node]:
        """The nodes that compute it from values that are drawn; none if it is drawn itself."""
        found: list[Node] = []
        waiting, seen = [name], {name}
        while waiting:
            at = waiting.pop()
            if not self.classed(at) or self.root(self.plain_name(at)) is not None:
                continue
            nodes, ends = self.region(at, self.classed)
            found += nodes
            waiting += [end for end in ends if end not in seen]
            seen.update(ends)
        return found

    def told_apart(self, one: str, other: str) -> bool:
        """Whether both start from the same values, and differ on some of these."""
        (nodes, ends), (more, same_ends) = (
            self.region(name, self.classed) for name in (one, other)
        )
        if not ends or {self.source.classes.get(end) for end in ends} != {
            self.source.classes.get(end) for end in same_ends
        }:
            return False
        chains = [self.chain(end) for end in {*ends, *same_ends}]
        here = [*nodes, *more, *itertools.chain(*chains)]
        numbers = {x for node in here for x in numbers_of(node, self.source)}
        size = sum(self.source.size(out) for node in here for out in node.outputs)
        curved = any(Choice.CURVE in choices_of(node, self.source) for node in here)
        width = min(map(self.source.size, ends))
        plan = deciding(self.seed, numbers, size, width, curved)
        drawn = Valuation(self, plan)
        try:
            return not alike(*(drawn.computed(name, self.classed) for name in (one, other)))
        except NotInterpretedError:
            return False


@dataclass
class Valuation:
    """Values of the model in one plan, by name."""

    of: Elsewhere
    plan: Plan
    held: dict[str, Array] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        return len(self.plan.trials)

    def value(self, name: str) -> Array:
        """``(trials, *shape)``."""
        if name not in self.held:
            source = self.of.source
            shape = source.values[name].shape[1:]
            first = self.of.plain_name(name)
            if first != name:
                self.held[name] = self.value(first).reshape(self.trials, *shape)
                return self.held[name]
            root = self.of.root(name) if name in source.classes else None
            if root is None and name in source.makers:
                self.held[name] = self.computed(name, self.of.classed)
            elif root not in (None, name):
                assert root is not None
                self.held[name] = self.value(root).reshape(self.trials, *shape)
            else:
                self.held[name] = self.drawn(name)
        return self.held[name]

    def drawn(self, name: str) -> Array:
        label = (self.plan, name)
        found = self.of.source.kept.get(label)
        return self.keep(label, self.draw(name)) if found is None else found

    def draw(self, name: str) -> Array:
        known = self.of.source.values[name]
        draw = Draw(
            self.plan, zlib.crc32(name.encode()), int(np.prod(known.shape[1:])), known.dtype.kind,
            self.of.ranges.of.get(name, ANY),
        )  # fmt: skip
        return draw.values(known.dtype).reshape(self.trials, *known.shape[1:])

    def computed(self, name: str, stops: Callable[[str], bool]) -> Array:
        """What the model makes of the values at the stops. Raises NotInterpretedError."""
        nodes, ends = self.of.region(name, stops)
        label = (self.plan, name, *ends)
        known = self.of.source.kept.get(label)
        if known is not None:
            return known
        values = {end: self.value(end) for end in ends}
        for node in nodes:
            for out, found in at_once(node, values, self.of.source, self.trials).items():
                values.setdefault(out, found)
        return self.keep(label, values[name])

    def keep(self, label: tuple[object, ...], value: Array) -> Array:
        """For the next stage, which is tried on the same, as far as there is room."""
        kept = self.of.source.kept
        self.of.room -= value.size
        if self.of.room > 0:
            value.flags.writeable = False
            kept[label] = value
        return value


def choices_of(node: Node, source: Source) -> set[Choice]:
    return {choice for choice, many in (needs(node, source) or Counter()).items() if many}


def numbers_of(node: Node, source: Source) -> set[float]:
    """Constants that a node is given or has as attributes."""
    found: set[float] = set()
    for value in node.attributes.values():
        if isinstance(value, float):
            found.add(value)
    for name in node.inputs:
        held = source.settled.get(name)
        if held is not None and held.size <= FEW and held.dtype.kind in "iuf":
            found.update(np.asarray(held, np.float64).ravel().tolist())
    return found
