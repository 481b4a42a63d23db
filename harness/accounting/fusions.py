"""What becomes of a model's constants when a simplifier draws one operator into another.

Each step is taken in the precision of the weights and in the order of the original's operators, as
onnx-optimizer and onnxsim take it, so that the result can be held against theirs bit for bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from harness.accounting.folding import Folded, Source, shown
from harness.accounting.interface import Array

MAX_DRAWN_IN = 4  # nodes behind one convolution, or in a chain
MAX_TOGETHER = 3  # products of matrices of one operand that are made into one

Floats = NDArray[np.floating[Any]]


def fusions(found: Folded) -> Iterator[Source]:
    """Constants that a simplifier makes of those of the model."""
    graph = _Graph(found)
    with np.errstate(all="ignore"):
        for node in found.graph.node:
            if len(node.input) < 2 or not node.output:
                continue
            if node.op_type in ("Conv", "ConvTranspose"):
                yield from _into_convolution(graph, node)
            elif node.op_type == "Gemm":
                yield from _factors(graph, node)
            elif node.op_type == "Mul":
                yield from _chain(graph, node)
            elif node.op_type == "MatMul":
                yield from _together(graph, node)
            elif node.op_type in ("Unsqueeze", "Slice"):
                yield from _axes(graph, node)
            elif node.op_type in ("Gather", "GatherElements", "ScatterElements"):
                yield from _from_the_front(graph, node)


class _Graph:
    """Who makes a value, and who reads it."""

    def __init__(self, found: Folded) -> None:
        self.found = found
        self.makers: dict[str, onnx.NodeProto] = {}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        self.ends = {one.name for one in found.graph.output}
        for node in found.graph.node:
            for name in node.output:
                self.makers[name] = node
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        behind = self.readers.get(name, [])
        return behind[0] if len(behind) == 1 and name not in self.ends else None

    def floats(self, name: str) -> Floats | None:
        value = self.found.value(name)
        if value is None or value.dtype not in (np.float32, np.float64):
            return None
        return np.asarray(value, value.dtype)

    def factor(self, node: onnx.NodeProto) -> tuple[str, Floats] | None:
        """The other operand, and the constant one, of a product with one constant."""
        for name, other in itertools.permutations(node.input[:2]):
            value = self.floats(name)
            if value is not None and self.found.value(other) is None:
                return other, value
        return None


# Into a convolution.


def _into_convolution(graph: _Graph, node: onnx.NodeProto) -> Iterator[Source]:
    weight = graph.floats(node.input[1])
    bias = graph.floats(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if weight is None or weight.ndim < 2 or (bias is None and "".join(node.input[2:])):
        return
    group = next((one.i for one in node.attribute if one.name == "group"), 1)
    if node.op_type == "ConvTranspose" and group != 1:
        return
    before = _scale_before(graph, node, weight, group)
    starts = [weight] if before is None else [weight, weight * before]
    for start in starts:
        if start is not weight:
            yield Source(f"weight of a product fused into {shown(node.output[0])}", start)
        for source, made in _behind(graph, node, start, bias):
            yield source
            if before is not None and made is not None:
                yield Source(source.what, made * before)


def _scale_before(graph: _Graph, node: onnx.NodeProto, weight: Floats, group: int) -> Floats | None:
    """What a product before a convolution makes of each channel of its input."""
    maker = graph.makers.get(node.input[0])
    if node.op_type != "Conv" or maker is None or maker.op_type != "Mul":
        return None
    found = graph.factor(maker)
    if found is None or found[1].dtype != weight.dtype:
        return None
    factor = found[1]
    if factor.size == 1:
        return factor.reshape((1,) * weight.ndim)
    long = [at - factor.ndim for at, size in enumerate(factor.shape) if size != 1]
    if group != 1 or long != [1 - weight.ndim] or factor.size != weight.shape[1]:
        return None
    return factor.reshape(tuple(-1 if at == 1 else 1 for at in range(weight.ndim)))


def _behind(
    graph: _Graph, node: onnx.NodeProto, weight: Floats, bias: Floats | None
) -> Iterator[tuple[Source, Floats | None]]:
    """What each further node makes of weight and bias; a changed weight once more by itself."""
    axis = 0 if node.op_type == "Conv" else 1
    last = node
    for _ in range(MAX_DRAWN_IN):
        follower = graph.only_reader(last.output[0])
        if follower is None or not follower.output:
            return
        made = _drawn_in(graph, follower, last.output[0], weight, bias, axis)
        if made is None:
            return
        what = f"{follower.op_type} {shown(follower.output[0])} fused into {node.op_type}"
        if made[0] is not weight:
            yield Source(f"weight of {what}", made[0]), made[0]
        if made[1] is not None:
            yield Source(f"bias of {what}", made[1]), None
        weight, bias = made
        last = follower


def _drawn_in(
    graph: _Graph,
    node: onnx.NodeProto,
    through: str,
    weight: Floats,
    bias: Floats | None,
    axis: int,
) -> tuple[Floats, Floats | None] | None:
    channels = weight.shape[axis]
    along = tuple(channels if at == axis else 1 for at in range(weight.ndim))
    if node.op_type == "BatchNormalization" and node.input[0] == through:
        rest = [graph.floats(name) for name in node.input[1:5]]
        given = [one for one in rest if one is not None and one.shape == (channels,)]
        if len(given) < 4 or any(one.dtype != weight.dtype for one in given):
            return None
        scale, offset, mean, variance = given
        epsilon = next((one.f for one in node.attribute if one.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + np.asarray(np.float32(epsilon), weight.dtype))
        before = np.zeros(channels, weight.dtype) if bias is None else bias
        return weight * factor.reshape(along), (before - mean) * factor + offset
    if node.op_type not in ("Add", "Mul"):
        return None
    other = graph.floats(node.input[1] if node.input[0] == through else node.input[0])
    if other is None or other.dtype != weight.dtype or not _by_channel(other, weight, axis):
        return None
    each = np.broadcast_to(other.reshape(-1), (channels,))
    if node.op_type == "Add":
        return weight, each.copy() if bias is None else bias + each
    return weight * each.reshape(along), None if bias is None else bias * each


def _by_channel(other: Floats, weight: Floats, axis: int) -> bool:
    """Whether it is one number, or its one long side lies along the result's channels."""
    if other.size == 1:
        return True
    long = [at - other.ndim for at, size in enumerate(other.shape) if size != 1]
    return long == [1 - weight.ndim] and other.shape[long[0]] == weight.shape[axis]


# Others.


def _factors(graph: _Graph, node: onnx.NodeProto) -> Iterator[Source]:
    """The operands of ``alpha * A * B + beta * C``, already multiplied."""
    factors = {one.name: one.f for one in node.attribute if one.name in ("alpha", "beta")}
    for name, factor in zip(node.input, ("alpha", "alpha", "beta"), strict=False):
        value = graph.floats(name)
        if value is not None and factors.get(factor, 1.0) != 1.0:
            times = np.asarray(np.float32(factors[factor]), value.dtype)
            yield Source(f"{shown(name)} times {factor} of Gemm", value * times)


def _chain(graph: _Graph, node: onnx.NodeProto) -> Iterator[Source]:
    """One factor for two or more products with constants, the inner one first."""
    first = graph.factor(node)
    if first is None:
        return
    product = first[1]
    last = node
    for _ in range(MAX_DRAWN_IN):
        follower = graph.only_reader(last.output[0])
        if follower is None or follower.op_type != "Mul" or not follower.output:
            return
        more = graph.factor(follower)
        if more is None or more[1].dtype != product.dtype:
            return
        try:
            product = np.asarray(product * more[1])
        except ValueError:
            return
        yield Source(f"factors of the products up to {shown(follower.output[0])}", product)
        last = follower


def _together(graph: _Graph, node: onnx.NodeProto) -> Iterator[Source]:
    """The matrices by which one value is multiplied, side by side."""
    users = [
        one
        for one in graph.readers.get(node.input[0], [])
        if one.op_type == "MatMul" and one.input[0] == node.input[0]
    ]
    if not 2 <= len(users) <= MAX_TOGETHER or users[0] is not node:
        return
    matrices = [graph.floats(one.input[1]) for one in users]
    known = [one for one in matrices if one is not None and one.ndim == 2]
    if len(known) < len(users) or len({(one.shape[0], one.dtype.str) for one in known}) > 1:
        return
    for order in itertools.permutations(known):
        yield Source(f"matrices that multiply {shown(node.input[0])}", np.concatenate(order, 1))


def _axes(graph: _Graph, node: onnx.NodeProto) -> Iterator[Source]:
    """The arguments of two nodes in a row that become one."""
    follower = graph.only_reader(node.output[0])
    if follower is None or follower.op_type != node.op_type:
        return
    own = [graph.found.value(name) for name in node.input[1:]]
    other = [graph.found.value(name) for name in follower.input[1:]]
    what = f"arguments of {node.op_type} {shown(node.output[0])} and the next"
    if node.op_type == "Slice":
        for one, next_one in zip(own, other, strict=False):
            if one is not None and next_one is not None and one.ndim == next_one.ndim == 1:
                yield Source(what, np.concatenate([one, next_one]))
                yield Source(what, np.concatenate([next_one, one]))
        return
    rank = len(graph.found.shapes.get(follower.output[0], ()))
    first, then = _whole(own), _whole(other)
    if first is None or then is None or rank < len(first) + len(then):
        return
    later = {at % rank for at in then}
    kept = [at for at in range(rank) if at not in later]
    merged = sorted(later | {kept[at % len(kept)] for at in first})
    yield Source(what, np.array(merged, np.int64))


def _from_the_front(graph: _Graph, node: onnx.NodeProto) -> Iterator[Source]:
    """Indices that count from the end, as others that count from the front."""
    indices, shape = graph.found.value(node.input[1]), graph.found.shapes.get(node.input[0])
    axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
    if indices is not None and indices.dtype.kind == "i" and shape and abs(axis) < len(shape) + 1:
        side = shape[axis % len(shape)]
        whole = indices.astype(np.int64)
        counted = np.where(whole < 0, whole + side, whole).astype(indices.dtype)
        yield Source(f"indices of {node.op_type} {shown(node.output[0])}", counted)


def _whole(values: list[Array | None]) -> list[int] | None:
    if len(values) != 1 or values[0] is None or values[0].dtype.kind != "i":
        return None
    return [int(one) for one in values[0].reshape(-1)]
