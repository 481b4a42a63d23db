"""Numbers and shapes that an operator's lowering writes, though the model does not hold them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx

from harness.accounting.folding import Folded, Source
from harness.text import printable

MAX_SIDES = 6  # of a shape
MAX_NESTED = 8  # graphs inside graphs
SHOWN = 120

_GELU = (0.5, 1.0, 2.0, 0.044715, math.sqrt(2 / math.pi), 0.044715 * math.sqrt(2 / math.pi),
         math.sqrt(0.5))  # fmt: skip
# They begin with the least, or the greatest, number of their type.
LEAST = frozenset(
    {"ArgMax", "DynamicQuantizeLinear",
     "GlobalMaxPool", "Hardmax", "LogSoftmax", "Max", "MaxPool", "ReduceLogSumExp",
     "ReduceMax", "Softmax"}
)  # fmt: skip
GREATEST = frozenset({"ArgMin", "DynamicQuantizeLinear", "Min", "ReduceMin"})
QUANTISING = frozenset(
    {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "QLinearAdd"}
)
NORMALISING = frozenset(
    {"InstanceNormalization", "LayerNormalization", "GroupNormalization", "ReduceMean",
     "GlobalAveragePool", "MeanVarianceNormalization"}
)  # fmt: skip
# What begins a sum.
SUMMING = (
    "Conv", "ConvInteger", "ConvTranspose", "CumSum", "Einsum", "Gemm", "GlobalAveragePool", "LRN",
    "LpNormalization", "MatMul", "MatMulInteger", "Mean", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Softmax", "LogSoftmax",
    "InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization",
)  # fmt: skip
# What the usual lowering of an operator writes besides the operator's own attributes.
LOWERING: Mapping[str, tuple[float, ...]] = {
    **dict.fromkeys(SUMMING, (0.0,)),
    "ReduceProd": (1.0,),
    "AveragePool": (0.0,),
    "BatchNormalization": (0.0, 1.0),
    "Celu": (0.0, 1.0),
    "Clip": (-math.inf, math.inf),
    "ConstantOfShape": (0.0,),
    "DequantizeLinear": (0.0,),
    "DynamicQuantizeLinear": (0.0, 255.0),
    "Elu": (0.0, 1.0),
    "Gelu": _GELU,
    "HardSigmoid": (0.0, 1.0),
    "HardSwish": (0.0, 3.0, 6.0),
    "LayerNormalization": (0.0,),
    "LeakyRelu": (0.0,),
    "Mish": (1.0,),
    "Neg": (-1.0,),
    "Pad": (0.0,),
    "PRelu": (0.0,),
    "QuantizeLinear": (0.0,),
    "Reciprocal": (1.0,),
    "Relu": (0.0,),
    "Selu": (0.0, 1.0),
    "Sigmoid": (1.0,),
    "Sign": (-1.0, 0.0, 1.0),
    "Softplus": (-1.0, 0.0, 1.0, 20.0),  # 0.26 takes it for the identity from 20 on
    "Softsign": (1.0,),
    "ThresholdedRelu": (0.0,),
    "Trilu": (0.0,),
}


def shapes(folded: Folded) -> Iterator[Source]:
    """Shapes of the model's values, as a reshape asks for them: one side may be left to work out.

    A product of matrices is rewritten for operands of two dimensions, so that shape counts as well.
    """
    seen: set[tuple[int, ...]] = set()
    for node in folded.graph.node:
        asked = folded.value(node.input[1]) if _asks_for_a_shape(node) else None
        if asked is not None and asked.ndim == 1 and 1 <= asked.size <= MAX_SIDES:
            for at in range(asked.size):
                left_out = asked.copy()
                left_out[at] = -1
                yield Source(printable(f"shape of {node.output[0]}", SHOWN), left_out)
        for name in (*node.input, *node.output):
            shape = folded.shapes.get(name, ())
            if not shape or len(shape) > MAX_SIDES or shape in seen:
                continue
            seen.add(shape)
            worked_out = [(*shape[:at], -1, *shape[at + 1 :]) for at in range(len(shape))]
            flat = (math.prod(shape[:-1]), shape[-1])
            for wanted in dict.fromkeys((shape, flat, (-1, shape[-1]), *worked_out)):
                yield Source(printable(f"shape of {name}", SHOWN), np.array(wanted, np.int64))


def _asks_for_a_shape(node: onnx.NodeProto) -> bool:
    return node.op_type in ("Reshape", "Expand") and len(node.input) > 1 and bool(node.output)


def numbers(folded: Folded) -> Iterator[tuple[float, str]]:
    """Numbers that the operators of the model need, by their attributes and their lowering."""
    seen: set[tuple[str, float]] = set()
    for node in _nodes(folded.graph, 0):
        for number in (*_attributes(node), *LOWERING.get(node.op_type, ())):
            if (node.op_type, number) not in seen:
                seen.add((node.op_type, number))
                yield number, f"a number of {printable(node.op_type, 40)}"
        if node.op_type in ("Mean", "Sum"):
            yield float(len(node.input)), f"the operands of {node.op_type}"
        if node.op_type.startswith("Gather") and node.input:
            # Indices may count from the end.
            sides = folded.shapes.get(node.input[0], ())
            for side in (0, *sides):
                yield float(side), f"a side of what {node.op_type} takes from"
            axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
            if sides and node.op_type != "GatherND":
                yield float(axis % len(sides)), "which side that is"
        if node.op_type == "Cast":
            yield from _wrapping(node)
        yield from _limits(node.op_type)
        yield from _measures(node, folded)


def _wrapping(node: onnx.NodeProto) -> Iterator[tuple[float, str]]:
    """Floats to integers of some bits: what is not finite becomes 0, the rest wraps around."""
    to = next((one.i for one in node.attribute if one.name == "to"), 0)
    try:
        kind = onnx.helper.tensor_dtype_to_np_dtype(to)
    except KeyError:
        return
    if kind.kind in "iu":
        bits = 8 * kind.itemsize
        for number in (0.0, math.inf, 2.0**bits, 2.0 ** (bits - 1)):
            yield number, f"the range of {printable(kind.name, 40)}, for Cast"


def _limits(operation: str) -> Iterator[tuple[float, str]]:
    for kind in (np.float16, np.float32, np.float64):
        most = float(np.finfo(kind).max)
        if operation in LEAST:
            yield from ((-most, f"the least number, for {operation}"), (-math.inf, "the least"))
        if operation in GREATEST:
            yield from ((most, f"the greatest number, for {operation}"), (math.inf, "the greatest"))
    for code in ("int8", "uint8", "int16", "uint16") if operation in QUANTISING else ():
        yield float(np.iinfo(code).min), f"the least code, for {operation}"
        yield float(np.iinfo(code).max), f"the greatest code, for {operation}"


def _measures(node: onnx.NodeProto, folded: Folded) -> Iterator[tuple[float, str]]:
    """Numbers that follow from the sizes of what a node works on."""
    if not node.input or not node.output:
        return
    before = folded.shapes.get(node.input[0], ())
    after = folded.shapes.get(node.output[0], ())
    if node.op_type in NORMALISING:
        yield math.prod(before) / (math.prod(after) or 1), f"the elements of {node.op_type}"
        for at in range(len(before)):
            yield float(math.prod(before[at:])), f"the elements of {node.op_type}"
    if node.op_type in ("Resize", "Upsample"):
        yield 0.5, f"half a pixel ({node.op_type})"
        yield from ((one, f"cubic {node.op_type}") for one in _cubic(node))
        for one, other in zip(before, after, strict=False):
            if one > 0 < other:
                yield one / other, f"the scale of {node.op_type}"
                yield (one - 1) / max(1, other - 1), f"the scale of {node.op_type}"


def _cubic(node: onnx.NodeProto) -> Iterator[float]:
    """Coefficients of the two polynomials of a cubic resize, as its lowering gathers them."""
    given = {one.name: one for one in node.attribute}
    if "mode" in given and given["mode"].s == b"cubic":
        a = float(np.float32(given["cubic_coeff_a"].f)) if "cubic_coeff_a" in given else -0.75
        yield from (1.0, 2.0, a, -a, a + 2, a + 3, -(a + 2), -(a + 3), 2 * a, 2 * a + 3, -2 * a)


def _nodes(graph: onnx.GraphProto, depth: int) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH and depth < MAX_NESTED:
                yield from _nodes(attribute.g, depth + 1)


def _attributes(node: onnx.NodeProto) -> Iterator[float]:
    """The numbers that a node is given, and its operator's defaults; each as float32 has it."""
    given = {one.name for one in node.attribute}
    defaults: Iterable[onnx.AttributeProto] = ()
    if node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type):
        schema = onnx.defs.get_schema(node.op_type)
        defaults = [
            one.default_value for name, one in schema.attributes.items() if name not in given
        ]
    for one in (*node.attribute, *defaults):
        if one.type == onnx.AttributeProto.FLOAT:
            yield float(np.float32(one.f))
            yield -float(np.float32(one.f))
        elif one.type == onnx.AttributeProto.INT and one.name == "p":
            yield from (float(one.i), 1.0 / max(1, one.i))
