"""What an ONNX model holds, and what follows from that alone, in the model's own precision.

A compiler evaluates constant parts of a model beforehand. We do so ourselves, with the reference
implementation of each operator in numpy, so that a constant of a build can be held against the
result bit for bit. Additions, multiplications, divisions and roots are exactly rounded everywhere;
how far other operators may be off between implementations is followed up (``roundings``).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from harness.accounting.interface import Array, NotInterpretedError
from harness.accounting.roundings import Between, Runs, again, between
from harness.text import printable

MAX_NODES = 200_000
MAX_VALUE = 512 * 2**20  # bytes of one folded value
MAX_TOTAL = 4 * 2**30  # bytes of all of them
MAX_FOLLOWED = 512 * 2**20  # bytes of what other implementations may make of them
MAX_SHAPE_DATA = 2**16  # bytes of a constant that a shape may follow from
MAX_ROUNDS = 4  # of folding and inferring shapes
MAX_NESTED = 8  # graphs inside graphs
SHOWN = 80

# Their value is not a function of their operands.
NEVER = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial",
     "Bernoulli", "Dropout", "If", "Loop", "Scan", "SequenceMap"}
)  # fmt: skip

# Their result can be larger than what they are given.
GROWING = frozenset({"ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Pad", "Upsample"})
# Operators that the reference has in a later version only, which means the same by default.
LATER = {"DequantizeLinear": 21, "QuantizeLinear": 21}


@dataclass(frozen=True)
class Source:
    """A constant that follows from the model. ``what``: from what, printable."""

    what: str
    value: Array


@dataclass
class Folded:
    """``values``: each constant of the main graph by its name, with where it comes from.

    ``runs``: of those that implementations round otherwise, what they may be instead.
    ``shapes``: of the values of the main graph that have known ones. ``others``: constants of
    graphs inside it. ``notes``: what could not be evaluated, one line each.
    """

    graph: onnx.GraphProto
    values: dict[str, Source] = field(default_factory=dict)
    runs: dict[str, Runs] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    others: list[Source] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    total: int = 0
    followed: int = 0  # bytes of ``runs``

    def sources(self) -> Iterator[Source]:
        yield from self.values.values()
        yield from self.others

    def rounded(self) -> Iterator[Between]:
        """What the values may be where another implementation computes them."""
        for name, runs in self.runs.items():
            source = self.values[name]
            yield between(source.what, source.value, runs)

    def value(self, name: str) -> Array | None:
        found = self.values.get(name)
        return None if found is None else found.value


def fold(model: onnx.ModelProto, inputs: Mapping[str, Sequence[int]]) -> Folded:
    """Everything constant in ``model``, its inputs having the shapes ``inputs``.

    Raises NotInterpretedError where the model goes beyond the limits or its constants cannot be
    read.
    """
    fixed = with_shapes(model, inputs)
    found = held_by(fixed)
    for _ in range(MAX_ROUNDS):
        before = len(found.values)
        found.shapes = _inferred(fixed, found)
        _evaluate(fixed, found)
        if len(found.values) == before:
            break
    return found


def held_by(model: onnx.ModelProto) -> Folded:
    """The constants that the model itself holds, and no others."""
    found = Folded(model.graph)
    if len(model.graph.node) > MAX_NODES:
        raise NotInterpretedError(f"the model has more than {MAX_NODES:,} nodes")
    _read(model.graph, found, 0)
    return found


def with_shapes(model: onnx.ModelProto, inputs: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """A copy whose inputs have these shapes; what was inferred of other values is dropped."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for one in fixed.graph.input:
        if one.name in inputs:
            shape = one.type.tensor_type.shape
            del shape.dim[:]
            for side in inputs[one.name]:
                shape.dim.add().dim_value = side
    for one in fixed.graph.output:
        one.type.tensor_type.ClearField("shape")
    return fixed


def shown(name: str) -> str:
    """A name of the model, printable."""
    return printable(name, SHOWN) or "(no name)"


def _read(graph: onnx.GraphProto, found: Folded, depth: int) -> None:
    """Initializers, and what nodes hold."""
    if depth > MAX_NESTED:
        raise NotInterpretedError("the model nests graphs too deeply")
    if graph.sparse_initializer:
        found.notes.append("sparse initializers are not read")
    for tensor in graph.initializer:
        _keep(found, tensor.name, f"initializer {shown(tensor.name)}", _array(tensor), depth)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _read(attribute.g, found, depth + 1)
            elif attribute.type == onnx.AttributeProto.GRAPHS:
                for inner in attribute.graphs:
                    _read(inner, found, depth + 1)
            elif attribute.type == onnx.AttributeProto.TENSOR and node.op_type != "Constant":
                what = f"{attribute.name} of {node.op_type}"
                found.others.append(Source(printable(what, SHOWN), _array(attribute.t)))
        if node.op_type == "Constant" and node.output:
            value = _constant(node, found)
            if value is not None:
                _keep(found, node.output[0], f"constant {shown(node.output[0])}", value, depth)


def _keep(found: Folded, name: str, what: str, value: Array, depth: int = 0) -> None:
    found.total += value.nbytes
    if value.nbytes > MAX_VALUE or found.total > MAX_TOTAL:
        raise NotInterpretedError(f"{what} is too large")
    if depth:
        found.others.append(Source(what, value))
    else:
        found.values[name] = Source(what, value)


def _array(tensor: onnx.TensorProto) -> Array:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise NotInterpretedError(f"{shown(tensor.name)} is in another file and was not loaded")
    if math.prod(tensor.dims) * 16 > 16 * MAX_VALUE:
        raise NotInterpretedError(f"{shown(tensor.name)} is too large")
    if tensor.data_type == onnx.TensorProto.STRING:
        return np.frombuffer(b"".join(text + b"\0" for text in tensor.string_data), np.uint8)
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise NotInterpretedError(f"{shown(tensor.name)} cannot be read") from error


def _constant(node: onnx.NodeProto, found: Folded) -> Array | None:
    for attribute in node.attribute:
        match attribute.name:
            case "value":
                return _array(attribute.t)
            case "value_float":
                return np.array(attribute.f, np.float32)
            case "value_int":
                return np.array(attribute.i, np.int64)
            case "value_floats":
                return np.array(attribute.floats, np.float32)
            case "value_ints":
                return np.array(attribute.ints, np.int64)
    found.notes.append(f"constant {shown(node.output[0])} is of a kind that is not read")
    return None


def _inferred(fixed: onnx.ModelProto, found: Folded) -> dict[str, tuple[int, ...]]:
    """Shapes of values, with what is folded so far in place of its node."""
    light = onnx.ModelProto(ir_version=fixed.ir_version)
    light.opset_import.extend(fixed.opset_import)
    light.functions.extend(fixed.functions)
    light.graph.name = fixed.graph.name
    light.graph.output.extend(fixed.graph.output)
    light.graph.node.extend(
        node for node in fixed.graph.node if not all(out in found.values for out in node.output)
    )
    given = {one.name: one for one in fixed.graph.input}
    for name, source in found.values.items():
        if source.value.nbytes <= MAX_SHAPE_DATA:
            light.graph.initializer.append(numpy_helper.from_array(source.value, name))
        else:  # its type will do
            kind = onnx.helper.np_dtype_to_tensor_dtype(source.value.dtype)
            given[name] = onnx.helper.make_tensor_value_info(name, kind, source.value.shape)
    light.graph.input.extend(given.values())
    try:
        light = shape_inference.infer_shapes(light, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        found.notes.append("shapes could not be inferred")
        return {}
    shapes: dict[str, tuple[int, ...]] = {}
    for one in (*light.graph.input, *light.graph.value_info, *light.graph.output):
        kind_of = one.type.tensor_type
        known = kind_of.HasField("shape")
        if known and all(side.HasField("dim_value") for side in kind_of.shape.dim):
            shapes[one.name] = tuple(side.dim_value for side in kind_of.shape.dim)
    for name, source in found.values.items():
        shapes[name] = source.value.shape
    return shapes


def _evaluate(fixed: onnx.ModelProto, found: Folded) -> None:
    """Each node whose operands are all known, in order."""
    for node in fixed.graph.node:
        if all(out in found.values for out in node.output) or node.op_type in NEVER:
            continue
        if node.domain not in ("", "ai.onnx"):
            continue
        operands = [found.value(name) for name in node.input if name]
        if node.op_type in ("Shape", "Size") and node.input and node.input[0] in found.shapes:
            # The value itself does not matter, and it may be large.
            shape = found.shapes[node.input[0]]
            operands = [np.broadcast_to(np.float32(0), shape)]
        if any(operand is None for operand in operands):
            continue
        sizes = [math.prod(found.shapes[out]) for out in node.output if out in found.shapes]
        unsized = not sizes and node.op_type in GROWING
        if unsized or max(sizes, default=0) > MAX_VALUE // 8:
            found.notes.append(f"{shown(node.name)} ({node.op_type}) is too large to be folded")
            continue
        try:
            results = _run(node, fixed, dict(zip(filter(None, node.input), operands, strict=True)))
        except Exception as error:  # the reference raises whatever numpy raises
            kind = type(error).__name__
            found.notes.append(f"{shown(node.name)} ({node.op_type}) was not folded: {kind}")
            continue
        kept = [name for name in node.output if name]
        for name, result in zip(kept, results, strict=True):
            if isinstance(result, np.ndarray | np.generic) and result.dtype.kind != "O":
                what = f"{node.op_type} {shown(name)} of constants"
                _keep(found, name, what, np.asarray(result))
        _follow(node, fixed, found, kept)


def _follow(node: onnx.NodeProto, fixed: onnx.ModelProto, found: Folded, names: list[str]) -> None:
    """What the node's results may be instead, if implementations differ on them."""
    if not all(name in found.values for name in names) or found.followed > MAX_FOLLOWED:
        return
    operands = {name: found.value(name) for name in node.input if name}

    def compute(moved: Mapping[str, Array]) -> list[Array]:
        return [np.asarray(one) for one in _run(node, fixed, {**operands, **moved})]

    moved = {name: found.runs[name] for name in operands if name in found.runs}
    results = [found.values[name].value for name in names]
    try:
        runs = again(node.op_type, results, moved, compute, zlib.crc32(names[0].encode()))
    except Exception:  # the reference raises whatever numpy raises; then nothing is allowed for
        return
    if runs is not None:
        for name, one, result in zip(names, runs, results, strict=True):
            if all(run.shape == result.shape for run in one):
                found.followed += result.nbytes * len(one)
                found.runs[name] = one


def _run(
    node: onnx.NodeProto, model: onnx.ModelProto, operands: dict[str, Array | None]
) -> list[object]:
    """The node's results, by the reference implementation of its operator."""
    graph = onnx.helper.make_graph(
        [node],
        "one",
        [onnx.ValueInfoProto(name=name) for name in operands],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
    )
    opsets = list(model.opset_import)
    if node.op_type in LATER:
        opsets = [onnx.helper.make_opsetid("", LATER[node.op_type])]
    one = onnx.helper.make_model(graph, opset_imports=opsets)
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(one).run(None, operands))
