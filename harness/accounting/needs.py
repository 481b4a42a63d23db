"""Which decisions an ONNX operator needs: the most that its usual lowerings make.

A decision that no operator needs is a finding, so each number here is room for one that somebody
hides: as few as real lowerings allow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from harness.accounting.interface import Choice
from harness.accounting.onnx_values import FLOATS, INTEGERS, Node, Source

C = Choice
Needs = dict[Choice, int]
CURVED: Needs = {C.CURVE: 1}
COMPARED: Needs = {C.COMPARE: 1}
SORTED: Needs = {C.SORT: 1, C.COMPARE: 4, C.SELECT: 4, C.LOGIC: 4, C.MAX: 1, C.MIN: 1}
NORMAL: Needs = {C.CURVE: 1, C.PRODUCT: 4}
# It rounds, and what is rounded is turned into an integer.
QUANTIZED: Needs = {C.ROUND: 2, C.MAX: 1, C.MIN: 1}
UNSIGNED = {TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32}
# How a scatter may put together what goes to one place; an attribute's text is bytes.
COMBINING = {"b'max'": C.MAX, "b'min'": C.MIN, "b'mul'": C.PRODUCT}
EXPONENTIAL: Needs = {C.CURVE: 1, C.MAX: 2}


def moving(node: Node, source: Source) -> list[bool]:
    return [name in source.values for name in node.inputs]


def integers(node: Node, source: Source) -> bool:
    value = source.value(node.inputs[0])
    return value is not None and value.dtype.kind in "iu"


def products(node: Node, source: Source) -> Needs:
    return {C.PRODUCT: max(sum(moving(node, source)) - 1, 0)}


def quotient(node: Node, source: Source) -> Needs:
    if integers(node, source):
        return {C.DIVIDE: 1}
    return {C.PRODUCT: 1} if moving(node, source)[1] else {}


def clip(node: Node, _: Source) -> Needs:
    given = (*node.inputs, "", "")
    low = bool(given[1]) or "min" in node.attributes
    high = bool(given[2]) or "max" in node.attributes
    return {C.MAX: int(low), C.MIN: int(high)}


def selection(node: Node, source: Source) -> Needs:
    return {C.SELECT: int(moving(node, source)[0])}


def lookup(node: Node, source: Source) -> Needs:
    # A negative index counts from the end.
    here = int(moving(node, source)[1])
    return {C.LOOKUP: here, C.COMPARE: here, C.SELECT: here}


def scatter(node: Node, source: Source) -> Needs:
    here = int(moving(node, source)[1])
    how = COMBINING.get(str(node.attributes.get("reduction", "")))
    found = {C.LOOKUP: here, C.COMPARE: 2 * here, C.SELECT: 2 * here, C.LOGIC: here}
    return found if how is None else {**found, how: 1}


def cast(node: Node, source: Source) -> Needs:
    to = node.attributes.get("to")
    if to == TensorProto.BOOL:
        return {C.COMPARE: 1}
    if to in FLOATS:
        # Interpreted in doubles it rounds nothing, but as it is built it does.
        return {} if to in {TensorProto.FLOAT, TensorProto.DOUBLE} else {C.ROUND: 1}
    if integers(node, source):
        # A remainder in the graph; in tensor IR a cast that loses.
        return {C.DIVIDE: 1, C.ROUND: 1} if narrows(node, source) else {}
    # What is not finite becomes 0, and what does not fit wraps. In tensor IR `isfinite` is written
    # out, with the sign taken away, a comparison with infinity and two with itself, and the last
    # cast narrows.
    more = 0 if to == TensorProto.INT64 else 1
    return {
        C.ROUND: 1 + more,
        C.SIGN: 1,
        C.COMPARE: 3 + more,
        C.SELECT: 1 + more,
        C.LOGIC: 4 + int(to in UNSIGNED),  # which keeps the lowest bits by a mask
        C.DIVIDE: 2 * more,
    }


def quantize(node: Node, source: Source) -> Needs:
    return {**QUANTIZED, C.PRODUCT: int(moving(node, source)[1])}


def dequantize(node: Node, source: Source) -> Needs:
    return {C.PRODUCT: int(all(moving(node, source)[:2]))}


def narrows(node: Node, source: Source) -> bool:
    """A cast of integers to a type that does not hold all of them."""
    value = source.value(node.inputs[0])
    to = node.attributes.get("to")
    if value is None or not isinstance(to, int) or to not in INTEGERS:
        return True
    wanted, held = np.iinfo(INTEGERS[to]), np.iinfo(np.dtype(value.dtype.name))
    return bool(wanted.max < held.max or wanted.min > held.min)


def gelu(node: Node, _: Source) -> Needs:
    return {C.CURVE: 1, C.PRODUCT: 3 if node.attributes.get("approximate") == b"tanh" else 1}


def several(choice: Choice) -> Callable[[Node, Source], Needs]:
    return lambda node, _: {choice: max(len(node.inputs) - 1, 1)}


Entry = Needs | Callable[[Node, Source], Needs]


def each(names: str, entry: Entry) -> dict[str, Entry]:
    return dict.fromkeys(names.split(), entry)


NEEDS: dict[str, Entry] = {
    **each(
        "Add Sub Neg Sum Mean Identity Dropout Reshape Flatten Squeeze Unsqueeze Transpose Concat "
        "Split Slice Expand Tile Pad Shape Size Constant ConstantOfShape ReduceSum ReduceMean "
        "AveragePool GlobalAveragePool BatchNormalization CumSum DepthToSpace SpaceToDepth EyeLike "
        "Range Trilu Resize Upsample", {}),
    **each("Mul MatMul Gemm Einsum Conv ConvTranspose MatMulInteger ConvInteger", products),
    **each("Exp Log Sqrt Tanh Sigmoid Erf Sin Cos Tan Sinh Cosh Asin Acos Atan Asinh Acosh Atanh",
           CURVED),
    **each("Equal Less Greater LessOrEqual GreaterOrEqual IsNaN", COMPARED),
    **each("And Or Xor Not BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot", {C.LOGIC: 1}),
    **each("Floor Ceil Round", {C.ROUND: 1}),
    **each("Relu MaxPool GlobalMaxPool ReduceMax", {C.MAX: 1}),
    **each("TopK ArgMax ArgMin", SORTED),
    **each("LayerNormalization InstanceNormalization GroupNormalization RMSNormalization "
           "SimplifiedLayerNormalization", NORMAL),
    "DequantizeLinear": dequantize,
    **each("QLinearConv QLinearMatMul", QUANTIZED),
    "QuantizeLinear": quantize,
    **each("Gather GatherElements GatherND", lookup),
    **each("ScatterElements ScatterND Scatter", scatter),
    **each("Elu Selu Celu", EXPONENTIAL),
    "Div": quotient,
    "Reciprocal": {C.PRODUCT: 1},
    "Pow": {C.CURVE: 1, C.PRODUCT: 1},
    "Mod": {C.DIVIDE: 1, C.ROUND: 1, C.COMPARE: 1, C.SELECT: 1},
    "Max": several(C.MAX),
    "Min": several(C.MIN),
    "ReduceMin": {C.MIN: 1},
    "ReduceProd": {C.PRODUCT: 1},
    "ReduceL1": {C.SIGN: 1},
    "ReduceL2": {C.PRODUCT: 1, C.CURVE: 1},
    "ReduceSumSquare": {C.PRODUCT: 1},
    "ReduceLogSum": {C.CURVE: 1},
    "ReduceLogSumExp": {C.MAX: 1, C.CURVE: 2},
    "LpNormalization": {C.SIGN: 1, C.PRODUCT: 2, C.CURVE: 2, C.MAX: 1},
    "LRN": {C.CURVE: 1, C.PRODUCT: 2},
    "IsInf": {C.COMPARE: 2, C.LOGIC: 2, C.SIGN: 1},
    "Abs": {C.SIGN: 1},
    "Sign": {C.SIGN: 1, C.SELECT: 2, C.COMPARE: 2},
    "Clip": clip,
    "Where": selection,
    "Cast": cast,
    "HardSigmoid": {C.MAX: 1, C.MIN: 1},
    "HardSwish": {C.MAX: 1, C.MIN: 1, C.PRODUCT: 1},
    "LeakyRelu": {C.SELECT: 1, C.COMPARE: 1},
    "PRelu": {C.SELECT: 1, C.COMPARE: 1},
    "ThresholdedRelu": {C.COMPARE: 1, C.PRODUCT: 1},
    "Shrink": {C.SELECT: 2, C.COMPARE: 2},
    "Softmax": {C.MAX: 1, C.CURVE: 1, C.PRODUCT: 1},
    "LogSoftmax": {C.MAX: 1, C.CURVE: 2},
    "Softplus": {C.CURVE: 2, C.MAX: 1, C.SIGN: 1, C.SELECT: 1, C.COMPARE: 1},
    "Softsign": {C.SIGN: 1, C.PRODUCT: 1},
    "Mish": {C.CURVE: 3, C.PRODUCT: 1},
    "Gelu": gelu,
    "OneHot": {C.COMPARE: 2, C.SELECT: 2, C.DIVIDE: 1},
}  # fmt: skip


def needs(node: Node, source: Source) -> Counter[Choice] | None:
    """Nothing is known of an operator of which there is no entry."""
    found = NEEDS.get(node.operator) if node.domain in {"", "com.microsoft"} else None
    if found is None:
        return None
    return Counter(found(node, source) if callable(found) else found)
