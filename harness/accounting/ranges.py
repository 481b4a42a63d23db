"""In which range each value of a model lies, whatever its inputs are.

A compiler may use that: a minimum with 6 of what is never more than 1 is left out. And what lies
outside can never be fed to anything, so nothing need be compared there. Where nothing is known of
an operator, its result may be anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from harness.accounting.interface import Array
from harness.accounting.onnx_values import Node, Source

Range = tuple[float, float]
ANY: Range = (-math.inf, math.inf)
FIXED: Mapping[str, Range] = {
    "Sigmoid": (0, 1), "HardSigmoid": (0, 1), "Softmax": (0, 1), "Tanh": (-1, 1), "Erf": (-1, 1),
    "Sin": (-1, 1), "Cos": (-1, 1), "Softsign": (-1, 1), "Sign": (-1, 1), "Exp": (0, math.inf),
    "Sqrt": (0, math.inf), "Softplus": (0, math.inf), "ReduceL1": (0, math.inf),
    "ReduceL2": (0, math.inf), "ReduceSumSquare": (0, math.inf), "HardSwish": (-0.375, math.inf),
    "LogSoftmax": (-math.inf, 0),
}  # fmt: skip
# Elements of the first input, or between such.
CARRYING = frozenset(
    {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice",
     "Split", "Expand", "Tile", "Gather", "GatherElements", "GatherND", "MaxPool", "GlobalMaxPool",
     "ReduceMax", "ReduceMin", "ReduceMean", "GlobalAveragePool", "DepthToSpace", "SpaceToDepth",
     "TopK"}
)  # fmt: skip
WITH_ZERO = frozenset({"AveragePool", "Pad", "Trilu"})
JOINING = frozenset({"Concat"})


class Ranges:
    """``of``: name → the least and the most that each element can be."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.of: dict[str, Range] = {}
        for name in source.inputs:
            self.of[name] = self.seen(name)
        for node in source.nodes:
            for at, name in enumerate(node.outputs):
                value = source.values.get(name)
                if value is None:
                    continue
                low, high = self.node(node) if at == 0 or node.operator == "Split" else ANY
                if math.isnan(low) or math.isnan(high) or low > high:
                    low, high = ANY
                if value.dtype.kind in "iu":
                    limits = np.iinfo(value.dtype.str)
                    if not limits.min <= low <= high <= limits.max:  # it may wrap, or be any
                        low, high = self.seen(name)
                self.of[name] = float(low), float(high)

    def seen(self, name: str) -> Range:
        """Integers may be places: as far as they were drawn, which is where they are in range."""
        value = self.source.values[name]
        if value.dtype.kind not in "iu" or not value.size:
            return ANY
        return float(value.min()), float(value.max())

    def range(self, name: str) -> Range:
        if name in self.of:
            return self.of[name]
        value = self.source.settled.get(name)
        if value is None or not value.size or value.dtype.kind not in "iuf":
            return ANY
        return float(value.min()), float(value.max())

    def node(self, node: Node) -> Range:
        operator = node.operator
        if node.domain:
            return ANY
        if operator in FIXED:
            return FIXED[operator]
        given = [self.range(name) for name in node.inputs if name]
        if not given:
            return ANY
        if operator in CARRYING:
            return given[0]
        if operator in WITH_ZERO:
            return padded(node, given, self.source.value)
        if operator in JOINING:
            return union(given)
        if operator == "Cast":
            return self.cast(node, given[0])
        rule = RULES.get(operator)
        return rule(node, given) if rule else ANY

    def cast(self, node: Node, given: Range) -> Range:
        before, after = self.source.value(node.inputs[0]), self.source.value(node.outputs[0])
        if before is None or after is None:
            return ANY
        if before.dtype.kind == "b":
            return 0, 1
        return given if after.dtype.kind == "f" else ANY


def padded(node: Node, given: list[Range], value: Callable[[str], Array | None]) -> Range:
    mode = node.attributes.get("mode", b"constant")
    if node.operator != "Pad":
        return union([given[0], (0, 0)])
    if mode != b"constant":
        return given[0]
    if "value" in node.attributes:
        return ANY
    filling = value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(())
    if filling is None:
        return ANY
    return union([given[0], (float(filling.min()), float(filling.max()))])


def union(given: list[Range]) -> Range:
    return min(low for low, _ in given), max(high for _, high in given)


def relu(_: Node, given: list[Range]) -> Range:
    low, high = given[0]
    return max(low, 0), max(high, 0)


def absolute(_: Node, given: list[Range]) -> Range:
    low, high = given[0]
    return max(low, -high, 0), max(-low, high)


def clip(node: Node, given: list[Range]) -> Range:
    low, high = given[0]
    if "min" in node.attributes or "max" in node.attributes:
        least, most = node.attributes.get("min", -math.inf), node.attributes.get("max", math.inf)
        assert isinstance(least, float) and isinstance(most, float)
        return min(max(low, least), most), max(min(high, most), least)
    names = [*node.inputs, "", ""]
    at = 1
    for which in (1, 2):
        if names[which]:
            bound = given[at]
            at += 1
            if which == 1:
                low, high = max(low, bound[0]), max(high, bound[1])
            else:
                low, high = min(low, bound[0]), min(high, bound[1])
    return low, high


def add(_: Node, given: list[Range]) -> Range:
    return sum(low for low, _ in given), sum(high for _, high in given)


def subtract(_: Node, given: list[Range]) -> Range:
    return given[0][0] - given[1][1], given[0][1] - given[1][0]


def multiply(node: Node, given: list[Range]) -> Range:
    if len(given) == 2 and len(set(node.inputs)) == 1:
        return 0, math.inf
    low, high = given[0]
    for other in given[1:]:
        ends = [0 if not (a and b) else a * b for a in (low, high) for b in other]
        low, high = min(ends), max(ends)
    return low, high


def divide(_: Node, given: list[Range]) -> Range:
    (low, high), (least, most) = given
    if least != most or not math.isfinite(least) or least == 0:
        return (0, math.inf) if low >= 0 and least >= 0 else ANY
    ends = [low / least, high / least]
    return min(ends), max(ends)


def total(_: Node, given: list[Range]) -> Range:
    low, high = given[0]
    return 0 if low >= 0 else -math.inf, 0 if high <= 0 else math.inf


def power(_: Node, given: list[Range]) -> Range:
    low, high = given[1]
    if low == high and low == 2:
        return 0, math.inf
    return (0, math.inf) if given[0][0] >= 0 else ANY


def sloped(node: Node, given: list[Range]) -> Range:
    low, high = given[0]
    alpha = node.attributes.get("alpha", 0.01)
    assert isinstance(alpha, float)
    if alpha < 0:
        return ANY
    return low if low >= 0 else low * alpha, high if high >= 0 else high * alpha


def largest(_: Node, given: list[Range]) -> Range:
    return max(low for low, _ in given), max(high for _, high in given)


def smallest(_: Node, given: list[Range]) -> Range:
    return min(low for low, _ in given), min(high for _, high in given)


RULES: Mapping[str, Callable[[Node, list[Range]], Range]] = {
    "Relu": relu, "Abs": absolute, "Clip": clip, "Add": add, "Sum": add, "Sub": subtract,
    "Mul": multiply, "Div": divide, "ReduceSum": total, "Pow": power, "LeakyRelu": sloped,
    "Max": largest, "Min": smallest,
    "Neg": lambda _, given: (-given[0][1], -given[0][0]),
    "Where": lambda _, given: union(given[1:]),
    "Floor": lambda _, given: (math.floor(given[0][0]), math.floor(given[0][1]))
    if math.isfinite(given[0][0] + given[0][1]) else ANY,
}  # fmt: skip
