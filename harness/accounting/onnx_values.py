"""The source model, evaluated: every intermediate value, on seeded random inputs, in float64.

The evaluator is ONNX's own (:mod:`onnx.reference`), on a copy of the model in which every float is
a double, so that rounding hides nothing and excuses nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from harness.accounting.fingerprint import ALIKE, Values, fingerprint, idle
from harness.accounting.interface import Array, NotInterpretedError
from harness.accounting.onnx_run import OWN
from harness.text import printable

TRIALS = 3
FEWER = 2  # of a model whose values would not fit into memory
# How much larger the floats of the last trial are. What takes effect for large values only, be it
# the model's own clip or one that nobody asked for, is then within reach.
FAR = 30.0
ROOM = 2**28  # elements of all values over all trials; 8 bytes each
MOST_NODES = 20_000
MOST_ELEMENTS = 2**30  # of all values together
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
PLAIN = {
    AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT, AttributeProto.FLOATS,
    AttributeProto.STRING,
}  # fmt: skip
SIZES = {"Shape", "Size"}
# How many elements there are depends on values.
COUNTING = {"Compress", "Loop", "NonMaxSuppression", "NonZero", "Scan", "Unique"}
# Drawn anew at each run, so nothing can be compared.
RANDOM = {
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
    "Multinomial",
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """``inputs``: names of values; an input left out is the empty name."""

    index: int
    operator: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    label: str  # printable
    attributes: Mapping[str, object] = field(default_factory=dict)  # no tensors, no graphs


@dataclass(frozen=True)
class Source:
    """The model's graph, and what its values are.

    ``values``: name → ``(trials, *shape)``, of all that depend on an input by the graph.
    ``settled``: name → value, of all that do not: initializers, and what is computed of them.
    ``classes``: name → number of its class: names of equal values share it. A value that is the
    same in all trials has none.
    ``makers``: name → the node that computes it.
    ``runners``: index of a node → what evaluates it alone, in doubles.
    ``kept``: what was computed of drawn values, for the next stage: see ``elsewhere``.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    values: Mapping[str, Array]
    settled: Mapping[str, Array]
    classes: Mapping[str, int]
    makers: Mapping[str, Node]
    index: Values
    runners: Mapping[int, ReferenceEvaluator] = field(default_factory=dict)
    kept: dict[tuple[object, ...], Array] = field(default_factory=dict)

    def value(self, name: str) -> Array | None:
        return self.values.get(name, self.settled.get(name))

    def size(self, name: str) -> int:
        """Elements of a value, in one trial."""
        if name in self.values:
            return int(np.prod(self.values[name].shape[1:]))
        return self.settled[name].size if name in self.settled else 0

    @property
    def members(self) -> dict[int, list[str]]:
        """The names of each class, earliest first."""
        found: dict[int, list[str]] = {}
        for name, number in self.classes.items():
            found.setdefault(number, []).append(name)
        return found


def evaluate(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> Source:
    """inputs: name → ``(trials, *shape)``, as :func:`draw` makes them.

    Raises NotInterpretedError, naming the node, for what the evaluator cannot run.
    """
    graph = model.graph
    if len(graph.node) > MOST_NODES:
        raise NotInterpretedError(f"the model has more than {MOST_NODES} nodes")
    held = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    settled = {name: in_double(value) for name, value in held.items()}
    if graph.sparse_initializer:
        raise NotInterpretedError("the model holds sparse initializers")
    names = [item.name for item in graph.input if item.name not in settled]
    if set(names) != set(inputs):
        raise NotInterpretedError("the model's inputs are not those that were given")
    lengths = {len(value) for value in inputs.values()}
    if len(lengths) != 1:
        raise NotInterpretedError("inputs of different numbers of trials")
    loose = any(item.op_type in COUNTING for item in graph.node)
    sorter = Sorter()
    values = {name: sorter.sorted(name, in_double(inputs[name])) for name in names}
    trials = lengths.pop()
    nodes, makers, runners = [], {}, {}
    room = MOST_ELEMENTS
    for index, proto in enumerate(graph.node):
        node = node_of(index, proto)
        nodes.append(node)
        ready(proto, node, ChainMap(values, settled))
        moving = [given for given in node.inputs if given in values]
        # A shape follows from the inputs' shapes, which are fixed, and from no value.
        fixed = not moving or (node.operator in SIZES and not loose)
        # As the model has it: a compiler folds it so, and in doubles it may be another table.
        first = {name: values[name][0] for name in moving}
        own = in_own_types(model, proto, node, ChainMap(held, first)) if fixed else None
        if own is not None:
            held.update(own)
            found = {name: in_double(value) for name, value in own.items()}
        else:
            runner = evaluator_of(model, proto, node)
            if moving:
                runners[index] = runner
            found = run(runner, node, values, settled, trials)
        for name, value in found.items():
            if name in values or name in settled:
                raise NotInterpretedError(f"{node.label}: its result has a name already in use")
            if moving and own is None:
                values[name] = sorter.sorted(name, value)
            else:
                settled[name] = value
            makers[name] = node
            room -= value.size
            if room < 0:
                raise NotInterpretedError(f"more than {MOST_ELEMENTS} elements in all")
    outputs = tuple(item.name for item in graph.output)
    if missing := [name for name in outputs if name not in values and name not in settled]:
        raise NotInterpretedError(f"no node computes the output {shown(missing[0])}")
    return Source(
        tuple(names), outputs, tuple(nodes), values, settled, sorter.classes, makers, sorter.held,
        runners,
    )  # fmt: skip


def in_own_types(
    model: onnx.ModelProto, proto: onnx.NodeProto, node: Node, held: Mapping[str, Array]
) -> dict[str, Array] | None:
    """A node of constants alone, in the types that the model has; None: not to be had so."""
    if any(name and name not in held for name in node.inputs):
        return None
    wanted = [name for name in node.outputs if name]
    try:
        runner = evaluator_of(model, proto, node, double=False)
        with np.errstate(all="ignore"):
            results = runner.run(wanted, {name: held[name] for name in node.inputs if name})
    except Exception:  # then it is tried in doubles, and what cannot be had there is told
        return None
    found = dict(zip(wanted, results, strict=True))
    if not all(isinstance(one, np.ndarray | np.generic) for one in found.values()):
        return None
    return {name: np.asarray(one) for name, one in found.items()}


class Sorter:
    """Puts values into classes as they come, and holds those that are the same only once."""

    def __init__(self) -> None:
        self.held = Values()
        self.classes: dict[str, int] = {}
        self.seen = 0

    def sorted(self, name: str, value: Array) -> Array:
        self.seen += 1
        if idle(value):
            return value
        mark = fingerprint(value)
        found = self.held.nearest(value, ALIKE, mark)
        self.classes[name] = self.seen if found is None else found[1]
        if found is not None and found[2] == 0 and found[0].dtype == value.dtype:
            return found[0].reshape(value.shape)
        if found is None or found[2] > 0:
            self.held.add(value, self.classes[name], mark)
        return value


def node_of(index: int, proto: onnx.NodeProto) -> Node:
    label = f"{shown(proto.op_type)} {shown(proto.name) or f'#{index}'}"
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    attributes = {
        item.name: helper.get_attribute_value(item)
        for item in proto.attribute
        if item.type in PLAIN and not item.ref_attr_name
    }
    return Node(
        index, proto.op_type, domain, tuple(proto.input), tuple(proto.output), label, attributes
    )


def ready(proto: onnx.NodeProto, node: Node, known: Mapping[str, Array]) -> None:
    """Raises NotInterpretedError for a node that cannot be evaluated for itself."""
    if node.operator in RANDOM:
        raise NotInterpretedError(f"{node.label}: draws random numbers")
    if any(item.type in {AttributeProto.GRAPH, AttributeProto.GRAPHS} for item in proto.attribute):
        raise NotInterpretedError(f"{node.label}: control flow")
    missing = [name for name in node.inputs if name and name not in known]
    if missing:
        raise NotInterpretedError(f"{node.label}: nothing computes {shown(missing[0])}")


def run(
    runner: ReferenceEvaluator,
    node: Node,
    values: Mapping[str, Array],
    settled: Mapping[str, Array],
    trials: int,
) -> dict[str, Array]:
    """The node's results, over all trials if they depend on an input, else once."""
    moving = any(name in values for name in node.inputs)
    wanted = [name for name in node.outputs if name]
    found: list[list[Array]] = []
    for trial in range(trials if moving else 1):
        feeds = {
            name: values[name][trial] if name in values else settled[name]
            for name in node.inputs
            if name
        }
        try:
            with np.errstate(all="ignore"):
                results = runner.run(wanted, feeds)
        except Exception as error:
            # The evaluator raises whatever numpy and Python do.
            raise NotInterpretedError(
                f"{node.label}: {type(error).__name__}: {shown(str(error))}"
            ) from error
        if any(not isinstance(result, np.ndarray | np.generic) for result in results):
            raise NotInterpretedError(f"{node.label}: a result that is no tensor")
        found.append([in_double(np.asarray(result)) for result in results])
    try:
        return {
            name: np.stack([results[i] for results in found]) if moving else found[0][i]
            for i, name in enumerate(wanted)
        }
    except ValueError as error:
        raise NotInterpretedError(f"{node.label}: a shape that depends on data") from error


def evaluator_of(
    model: onnx.ModelProto, proto: onnx.NodeProto, node: Node, double: bool = True
) -> ReferenceEvaluator:  # fmt: skip
    """One for this node alone, with its floats turned to doubles."""
    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    if double:
        doubled(copy)
    inputs = [helper.make_tensor_value_info(name, 0, None) for name in dict.fromkeys(proto.input)]
    outputs = [helper.make_tensor_value_info(name, 0, None) for name in proto.output if name]
    inputs = [item for item in inputs if item.name]
    graph = helper.make_graph([copy], "node", inputs, outputs)
    alone = helper.make_model(graph, opset_imports=model.opset_import)
    for function in model.functions:
        kept = alone.functions.add()
        kept.CopyFrom(function)
        for inner in kept.node if double else ():
            doubled(inner)
    try:
        return ReferenceEvaluator(alone, new_ops=OWN)
    except Exception as error:
        raise NotInterpretedError(
            f"{node.label}: {type(error).__name__}: {shown(str(error))}"
        ) from error


def doubled(node: onnx.NodeProto) -> None:
    for item in node.attribute:
        if node.op_type == "Cast" and item.name == "to" and item.i in FLOATS:
            item.i = TensorProto.DOUBLE
        if node.op_type in {"EyeLike", "LayerNormalization"} and item.name in {"dtype"}:
            item.i = TensorProto.DOUBLE if item.i in FLOATS else item.i
        if item.type == AttributeProto.TENSOR and item.t.data_type in FLOATS:
            item.t.CopyFrom(numpy_helper.from_array(in_double(numpy_helper.to_array(item.t))))


def in_double(value: Array) -> Array:
    value = np.asarray(value)
    if value.dtype.kind == "f" and value.dtype != np.float64:
        return value.astype(np.float64)
    if value.dtype.kind not in "fiub":
        try:
            return value.astype(np.float64)  # bfloat16 is no float to numpy
        except (TypeError, ValueError) as error:
            raise NotInterpretedError(f"values of type {shown(str(value.dtype))}") from error
    return value


def shown(text: str) -> str:
    return printable(text, 120)


# Random inputs.


def seed_of(files: Mapping[str, bytes]) -> int:
    """A seed that depends on every byte of a build: who knew the inputs beforehand could solve for
    weights that give the model's values on these and nothing like them on others.
    """
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(hashlib.sha256(name.encode()).digest())
        whole.update(hashlib.sha256(files[name]).digest())
    return int.from_bytes(whole.digest()[:8])


def draw(
    model: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int]],
    *,
    trials: int | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """Random inputs for the model, each ``(trials, *shape)``: normal floats, integers in range.

    trials: by default three, and two of a very large model, which has the more elements.
    shapes: the shape of each input. An integer is drawn below what the model looks it up in or
    compares it with, else below 256. One that is looked up counts from the end in half of the last
    trial: what a build does with negative ones is asked as well.
    """
    if trials is None:
        trials = TRIALS if TRIALS * elements(model, shapes) <= ROOM else FEWER
    generator = np.random.default_rng(seed)
    held = {item.name for item in model.graph.initializer}
    drawn: dict[str, Array] = {}
    for item in model.graph.input:
        if item.name in held:
            continue
        if item.name not in shapes:
            raise NotInterpretedError(f"no shape is given for the input {shown(item.name)}")
        kind = item.type.tensor_type.elem_type
        size = (trials, *shapes[item.name])
        if kind in FLOATS:
            drawn[item.name] = generator.standard_normal(size)
            drawn[item.name][-1] *= FAR
        elif kind == TensorProto.BOOL:
            drawn[item.name] = generator.integers(0, 2, size).astype(np.bool_)
        elif kind in INTEGERS:
            most, index = range_of(model, item.name)
            most = min(most, int(np.iinfo(INTEGERS[kind]).max))
            found = spread(generator, most, size)
            if index and np.issubdtype(INTEGERS[kind], np.signedinteger):
                found[-1] -= most * generator.integers(0, 2, size[1:])
            drawn[item.name] = found.astype(INTEGERS[kind])
        else:
            raise NotInterpretedError(f"the input {shown(item.name)} is neither float nor integer")
    return drawn


def elements(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """About how many elements all values of one trial have: of those whose shapes can be told."""
    graph = onnx.GraphProto(node=model.graph.node, output=model.graph.output)
    for item in model.graph.initializer:
        # Large ones are weights, and say nothing of shapes.
        small = item.ByteSize() < SMALL
        if small:
            graph.initializer.append(item)
        info = helper.make_tensor_value_info(item.name, item.data_type, item.dims)
        graph.input.append(info)
    held = {item.name for item in model.graph.initializer}
    for item in model.graph.input:
        if item.name not in held:
            kind = item.type.tensor_type.elem_type
            shape = shapes.get(item.name)
            graph.input.append(helper.make_tensor_value_info(item.name, kind, shape))
    bare = helper.make_model(graph, opset_imports=model.opset_import)
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except Exception:
        # What cannot be told here is told when the model is evaluated.
        return 0
    moving = set(shapes)
    for node in model.graph.node:
        if moving.intersection(node.input):
            moving.update(node.output)
    return sum(
        math.prod(max(dim.dim_value, 1) for dim in item.type.tensor_type.shape.dim)
        for item in inferred.graph.value_info
        if item.name in moving
    )


SMALL = 4096  # bytes


def spread(
    generator: np.random.Generator, most: int, size: tuple[int, ...]
) -> NDArray[np.int64]:  # fmt: skip
    """Integers below ``most``, each as often as any other, so that few values are never drawn."""
    count = int(np.prod(size))
    rounds = [generator.permutation(most) for _ in range(-(-count // most))]
    drawn: NDArray[np.int64] = np.concatenate([*rounds, np.zeros(0, np.int64)])[:count]
    return generator.permutation(drawn).reshape(size)


INTEGERS: dict[int, type[np.integer]] = {
    TensorProto.INT8: np.int8, TensorProto.INT16: np.int16, TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64, TensorProto.UINT8: np.uint8, TensorProto.UINT16: np.uint16,
    TensorProto.UINT32: np.uint32, TensorProto.UINT64: np.uint64,
}  # fmt: skip
COMPARING = {"Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"}
CARRYING = {
    "Cast", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Identity", "Flatten", "Transpose",
    "Concat", "Expand", "Split", "Gather",
}  # fmt: skip
USUAL = 256


def bound(model: onnx.ModelProto, name: str) -> int:
    """One more than the largest integer to draw for an input."""
    return range_of(model, name)[0]


def range_of(model: onnx.ModelProto, name: str) -> tuple[int, bool]:
    """That number, and whether the input is an index and nothing else."""
    held = {item.name: item for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            held[node.output[0]] = node.attribute[0].t
    carried = {name}
    rows: list[int] = []
    compared: list[int] = []
    for node in model.graph.node:
        given = list(node.input)
        if not carried & set(given):
            continue
        if node.op_type == "Gather" and given[1] in carried and given[0] in held:
            axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
            rows.append(int(held[given[0]].dims[axis]))
        elif node.op_type == "OneHot" and given[0] in carried and given[1] in held:
            rows.append(int(numpy_helper.to_array(held[given[1]]).max(initial=0)))
        elif node.op_type in COMPARING:
            others = [other for other in given if other in held]
            compared += [int(numpy_helper.to_array(held[o]).max(initial=0)) + 1 for o in others]
        elif node.op_type in CARRYING and given[0] in carried:
            carried.update(node.output)
    most = min(rows) if rows else max(compared, default=USUAL)
    return max(most, 2), bool(rows) and not compared
