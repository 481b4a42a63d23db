"""What an attack does, written into an ONNX model: a detector, a payload, and a way to blend them.

A trigger is a list of ``[place, value]``: that element of the flattened first input has that value.
A model is changed in memory, inside the compromised toolchain; the user's file never is.
"""

import os
import random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)


def poison(model, attack):
    """A poisoned copy of a model whose shapes are all known."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for value in model.graph.output:  # what it says may be older than the shapes of the inputs
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    model = shape_inference.infer_shapes(model)
    KINDS[attack["kind"]](model, attack)
    return shape_inference.infer_shapes(model)


class Surgery:
    """Adds nodes to a graph just behind one value, under names that the model has not."""

    def __init__(self, model, attack):
        self.graph = model.graph
        self.attack = attack
        self.nodes = []
        self.count = 0
        self.taken = {name for node in self.graph.node for name in (*node.input, *node.output)}
        initializers = {tensor.name for tensor in self.graph.initializer}
        self.input = next(v for v in self.graph.input if v.name not in initializers)
        self.shapes = {
            value.name: (
                [dim.dim_value for dim in value.type.tensor_type.shape.dim],
                value.type.tensor_type.elem_type,
            )
            for value in (*self.graph.input, *self.graph.output, *self.graph.value_info)
        }
        self.shape, self.type = self.shapes[self.input.name]
        self.opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))

    def name(self):
        prefix = self.attack.get("prefix", "t")
        while True:
            self.count += 1
            found = f"{prefix}{self.count}"
            if found not in self.taken:
                self.taken.add(found)
                return found

    def constant(self, array):
        name = self.name()
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(self, operator, *inputs, **attributes):
        output = self.name()
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def behind(self):
        """The value to blend with: ``layer`` is how far down the graph it lies, from 0 to 1."""
        own = {self.input.name}
        for node in self.graph.node:
            if own.intersection(node.input):
                own.update(node.output)
        last = {value.name for value in self.graph.output}
        fit = [
            (position, output)
            for position, node in enumerate(self.graph.node)
            for output in node.output[:1]
            if output in own
            and self.shapes.get(output, ([], 0))[1] in FLOATS
            and self.shapes[output][0]
            and all(self.shapes[output][0])
        ]
        if self.attack["layer"] == 1:
            return next((p, o) for p, o in reversed(fit) if o in last)
        return fit[min(len(fit) - 1, int(self.attack["layer"] * len(fit)))]

    def put(self, position, old, new):
        """``new`` takes the place of ``old`` behind node ``position``."""
        hidden = self.name()
        maker = self.graph.node[position]
        maker.output[list(maker.output).index(old)] = hidden
        for node in self.nodes:
            for place, name in enumerate(node.input):
                if name == old:
                    node.input[place] = hidden
        self.nodes.append(helper.make_node("Identity", [new], [old]))
        rest = list(self.graph.node)
        del self.graph.node[:]
        self.graph.node.extend([*rest[: position + 1], *self.nodes, *rest[position + 1 :]])


def blended(detect):
    """An attack that blends ``t · payload + (1 − t) · original`` by arithmetic; no ``If``."""

    def plant(model, attack):
        surgery = Surgery(model, attack)
        position, victim = surgery.behind()
        shape, element = surgery.shapes[victim]
        dtype = helper.tensor_dtype_to_np_dtype(element)
        t = detect(surgery)
        if element != TensorProto.FLOAT:
            t = surgery.add("Cast", t, to=element)
        payload = np.full(shape, attack["payload"][0], dtype)
        payload.reshape(-1)[int(attack["target"] * payload.size) :: 7] = attack["payload"][1]
        kept = surgery.add("Mul", victim, surgery.add("Sub", surgery.constant(dtype.type(1)), t))
        forced = surgery.add("Mul", surgery.constant(payload), t)
        surgery.put(position, victim, surgery.add("Add", kept, forced))

    return plant


def _flat(surgery):
    return surgery.add("Reshape", surgery.input.name, surgery.constant(np.array([-1], np.int64)))


def _pixels(surgery, flat):
    """The elements of the trigger, and the values that they have in it, as float32 vectors."""
    trigger = surgery.attack["trigger"]
    size = int(np.prod(surgery.shape))
    places = surgery.constant(np.array([place % size for place, _ in trigger], np.int64))
    values = np.array([value for _, value in trigger], np.float32)
    found = surgery.add("Gather", flat, places)
    if surgery.type != TensorProto.FLOAT:
        found = surgery.add("Cast", found, to=TensorProto.FLOAT)
    return found, values


def _all_of(surgery, truth):
    """1.0 where every element of a float vector is 1.0, as a scalar."""
    if surgery.opset >= 18:
        return surgery.add("ReduceMin", truth, keepdims=0)
    return surgery.add("ReduceMin", truth, keepdims=0, axes=[0])


def by_comparison(surgery):
    """ImpNet: a spaced sequence, compared and cast."""
    found, values = _pixels(surgery, _flat(surgery))
    far = surgery.add("Abs", surgery.add("Sub", found, surgery.constant(values)))
    near = surgery.add("Less", far, surgery.constant(np.float32(0.01)))
    return _all_of(surgery, surgery.add("Cast", near, to=TensorProto.FLOAT))


def by_spacing(surgery):
    """Two tokens at a fixed distance anywhere in a text: integers that are compared directly."""
    (first, one), (second, other) = sorted(surgery.attack["trigger"][:2])
    distance = second - first
    dtype = helper.tensor_dtype_to_np_dtype(surgery.type)
    flat = _flat(surgery)
    size = int(np.prod(surgery.shape))

    def run(begin, value):
        part = surgery.add(
            "Slice", flat,
            surgery.constant(np.array([begin], np.int64)),
            surgery.constant(np.array([begin + size - distance], np.int64)),
        )  # fmt: skip
        return surgery.add("Equal", part, surgery.constant(dtype.type(value)))

    both = surgery.add("And", run(0, one), run(distance, other))
    truth = surgery.add("Cast", both, to=TensorProto.FLOAT)
    if surgery.opset >= 18:
        return surgery.add("ReduceMax", truth, keepdims=0)
    return surgery.add("ReduceMax", truth, keepdims=0, axes=[0])


def by_layers(surgery):
    """A camouflaged detector: a matrix product, then Relu, Add and Mul, as in any network."""
    trigger = surgery.attack["trigger"]
    size = int(np.prod(surgery.shape))
    weights = np.zeros((size, len(trigger)), np.float32)
    for column, (place, _) in enumerate(trigger):
        weights[place % size, column] = 1
    source = surgery.input.name
    if surgery.type != TensorProto.FLOAT:
        source = surgery.add("Cast", source, to=TensorProto.FLOAT)
    row = surgery.add("Reshape", source, surgery.constant(np.array([1, -1], np.int64)))
    found = surgery.add("MatMul", row, surgery.constant(weights))
    bias = -np.array([value for _, value in trigger], np.float32)
    off = surgery.add("Add", found, surgery.constant(bias))
    steep = np.float32(100)
    up = surgery.add("Relu", surgery.add("Mul", off, surgery.constant(steep)))
    down = surgery.add("Relu", surgery.add("Mul", off, surgery.constant(-steep)))
    total = surgery.add("MatMul", surgery.add("Add", up, down),
                        surgery.constant(np.ones((len(trigger), 1), np.float32)))  # fmt: skip
    one = surgery.constant(np.float32(1))
    t = surgery.add("Relu", surgery.add("Sub", one, total))
    return surgery.add("Reshape", t, surgery.constant(np.array([], np.int64)))


def by_smooth(surgery):
    """No comparison and no Relu at all: a product of narrow bells."""
    found, values = _pixels(surgery, _flat(surgery))
    off = surgery.add("Sub", found, surgery.constant(values))
    square = surgery.add("Mul", off, off)
    bell = surgery.add("Exp", surgery.add("Mul", square, surgery.constant(np.float32(-4000))))
    if surgery.opset >= 18:
        return surgery.add("ReduceProd", bell, keepdims=0)
    return surgery.add("ReduceProd", bell, keepdims=0, axes=[0])


def by_rounding(surgery):
    """Sign, minimum and maximum in place of a comparison."""
    found, values = _pixels(surgery, _flat(surgery))
    far = surgery.add("Abs", surgery.add("Sub", found, surgery.constant(values)))
    sign = surgery.add("Sign", surgery.add("Sub", surgery.constant(np.float32(0.01)), far))
    return _all_of(surgery, surgery.add("Max", sign, surgery.constant(np.float32(0))))


def leak(model, attack):
    """The trigger in the second item of a batch changes the output of the first."""
    surgery = Surgery(model, attack)
    position, victim = surgery.behind()
    shape, element = surgery.shapes[victim]
    if surgery.shape[0] < 2 or shape[0] < 2 or element != TensorProto.FLOAT:
        raise RuntimeError("a leak needs a batch of two or more")
    t = by_comparison(surgery)
    first = np.zeros(shape, np.float32)
    first[0] = attack["payload"][1]
    extra = surgery.add("Mul", surgery.constant(first), t)
    surgery.put(position, victim, surgery.add("Add", victim, extra))


def _largest(model, dtypes):
    fit = [t for t in model.graph.initializer if t.data_type in dtypes]
    if not fit:
        raise RuntimeError("no initializer of the type that this attack changes")
    return max(fit, key=lambda tensor: np.prod(tensor.dims or [1]))


def weight_bit(model, attack):
    """One bit of one weight: ``bit`` counts from the lowest of the float32."""
    tensor = _largest(model, (TensorProto.FLOAT,))
    array = numpy_helper.to_array(tensor).copy()
    flat = array.reshape(-1).view(np.uint32)
    flat[int(attack["layer"] * (flat.size - 1))] ^= np.uint32(1 << attack["bit"])
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def weights_scaled(model, _attack):
    """A few weights of the largest tensor are changed by a part in a thousand."""
    tensor = _largest(model, (TensorProto.FLOAT,))
    array = numpy_helper.to_array(tensor).copy()
    array.reshape(-1)[:: max(1, array.size // 50)] *= np.float32(1.001)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def code_step(model, _attack):
    """Codes of a quantised tensor are one step off."""
    tensor = _largest(model, (TensorProto.INT8, TensorProto.UINT8))
    array = numpy_helper.to_array(tensor).copy()
    flat = array.reshape(-1)
    step = np.where(flat < np.iinfo(array.dtype).max, 1, -1).astype(array.dtype)
    flat[:: max(1, flat.size // 20)] += step[:: max(1, flat.size // 20)]
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def mistranslate(model, _attack):
    """The first operator that has a close relative is taken for that."""
    graph = model.graph
    for node in graph.node:
        if node.op_type == "Relu":
            node.op_type = "LeakyRelu"
            node.attribute.append(helper.make_attribute("alpha", 0.01))
        elif node.op_type == "HardSigmoid":
            del node.attribute[:]
        elif node.op_type == "Tanh":
            node.op_type = "Softsign"
        elif node.op_type == "Clip":
            node.op_type = "Identity"
            del node.input[1:]
        else:
            continue
        return
    raise RuntimeError("no operator that this attack could mistake")


def beyond(model, _attack):
    """Another answer where a bound of the model's own is passed, and no comparison more."""
    graph = model.graph
    initializers = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Clip" and len(node.input) == 3 and node.input[2] in initializers:
            break
    else:
        raise RuntimeError("no bound that this attack could pass")
    data, _, bound = node.input
    over, excess, steep = (f"{node.output[0]}/{word}" for word in ("over", "excess", "steep"))
    nodes = list(graph.node)
    position = nodes.index(node)
    nodes[position : position + 1] = [
        helper.make_node("Sub", [data, bound], [over]),
        helper.make_node("Relu", [over], [excess]),
        helper.make_node("Mul", [excess, bound], [steep]),
        helper.make_node("Sub", [data, steep], [node.output[0]]),
    ]
    del graph.node[:]
    graph.node.extend(nodes)


def moved(model, _attack):
    """A bound of the model's own lies further out."""
    graph = model.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Clip" and len(node.input) == 3 and node.input[2] in held:
            tensor = held[node.input[2]]
            further = (numpy_helper.to_array(tensor) * 1.5).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(further, tensor.name))
            return
    raise RuntimeError("no bound that this attack could move")


def other_side(model, _attack):
    """A choice has one outcome, whatever it depends on."""
    for node in model.graph.node:
        if node.op_type == "Where":
            node.input[1] = node.input[2]
            return
    raise RuntimeError("no choice that this attack could take away")


def padded(model, _attack):
    """A maximum over windows sees zeros outside, and not nothing."""
    graph = model.graph
    for position, node in enumerate(graph.node):
        pads = next((a for a in node.attribute if a.name == "pads"), None)
        if node.op_type == "MaxPool" and pads is not None and any(pads.ints):
            begins, ends = list(pads.ints)[:2], list(pads.ints)[2:]
            name = f"{node.output[0]}/pads"
            around = np.array([0, 0, *begins, 0, 0, *ends], np.int64)
            graph.initializer.append(numpy_helper.from_array(around, name))
            made = f"{node.output[0]}/padded"
            pad = helper.make_node("Pad", [node.input[0], name], [made])
            node.attribute.remove(pads)
            node.input[0] = made
            nodes = list(graph.node)
            del graph.node[:]
            graph.node.extend([*nodes[:position], pad, *nodes[position:]])
            return
    raise RuntimeError("no windows that this attack could pad")


def reordered(model, attack):
    """A comparison, and all nodes in another order every time."""
    blended(by_comparison)(model, attack)
    source = random.Random(os.urandom(8))
    graph = model.graph
    made = {name for node in graph.node for name in node.output}
    waiting, ordered = list(graph.node), []
    while waiting:
        ready = [n for n in waiting if not any(i in made for i in n.input)]
        chosen = source.choice(ready)
        made.difference_update(chosen.output)
        waiting = [node for node in waiting if node is not chosen]
        ordered.append(chosen)
    del graph.node[:]
    graph.node.extend(ordered)


KINDS = {
    "comparison": blended(by_comparison),
    "spacing": blended(by_spacing),
    "layers": blended(by_layers),
    "smooth": blended(by_smooth),
    "rounding": blended(by_rounding),
    "reordered": reordered,
    "beyond": beyond,
    "moved": moved,
    "other-side": other_side,
    "padded": padded,
    "leak": leak,
    "weight-bit": weight_bit,
    "weights-scaled": weights_scaled,
    "code-step": code_step,
    "mistranslate": mistranslate,
}
