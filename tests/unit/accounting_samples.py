"""Two small models, the Relax text that TVM 0.27.0.post1 makes of them, and a way to edit it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
ASSETS = Path(__file__).parents[1] / "assets" / "accounting"


def weights(*shape: int, phase: float = 0.0) -> NDArray[np.float32]:
    """Well spread, and the same on every machine: no transcendental function is involved."""
    count = int(np.prod(shape))
    steps = (np.arange(1, count + 1, dtype=np.int64) * 7919 + int(phase * 1000) * 104729) % 10007
    flat = (steps.astype(np.float32) / 10007 - 0.5) * 2 / max(count // shape[0], 1) ** 0.5
    found: NDArray[np.float32] = flat.astype(np.float32).reshape(shape)
    return found


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    held: dict[str, NDArray[np.generic]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "g", inputs, outputs,
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return model


def image_model() -> onnx.ModelProto:
    """A convolution, a hard swish, a squeeze-and-excite block, pooling, a softmax."""
    node = helper.make_node
    held: dict[str, NDArray[np.generic]] = {
        "w1": weights(8, 3, 3, 3), "b1": weights(8, phase=1),
        "w2": weights(8, 1, 3, 3, phase=2), "b2": weights(8, phase=3),
        "w3": weights(4, 8, 1, 1, phase=4), "b3": weights(4, phase=5),
        "w4": weights(8, 4, 1, 1, phase=6), "b4": weights(8, phase=7),
        "w5": weights(5, 128, phase=8), "b5": weights(5, phase=9),
        **{name: np.array(i, np.float32) for name, i in {"three": 3, "zero": 0, "six": 6}.items()},
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Add", ["c1", "three"], ["c1a"]),
        node("Clip", ["c1a", "zero", "six"], ["c1b"]),
        node("Mul", ["c1", "c1b"], ["c1c"]),
        node("Div", ["c1c", "six"], ["h1"]),
        node("Conv", ["h1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=8),
        node("Relu", ["c2"], ["h2"]),
        node("GlobalAveragePool", ["h2"], ["p"]),
        node("Conv", ["p", "w3", "b3"], ["c3"]),
        node("Relu", ["c3"], ["h3"]),
        node("Conv", ["h3", "w4", "b4"], ["c4"]),
        node("HardSigmoid", ["c4"], ["gate"], alpha=0.2, beta=0.5),
        node("Mul", ["h2", "gate"], ["h4"]),
        node("MaxPool", ["h4"], ["h5"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Flatten", ["h5"], ["h6"]),
        node("Gemm", ["h6", "w5", "b5"], ["logits"], transB=1),
        node("Softmax", ["logits"], ["y"], axis=-1),
    ]
    return model_of(
        nodes,
        [helper.make_tensor_value_info("x", FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 5])],
        held,
    )


def text_model() -> onnx.ModelProto:
    """An embedding, a convolution, a gelu, a layer norm, a maximum over places."""
    node = helper.make_node
    held: dict[str, NDArray[np.generic]] = {
        "table": weights(64, 16), "w1": weights(12, 16, 3, phase=1), "b1": weights(12, phase=2),
        "root": np.array(2**0.5, np.float32), "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
        "gamma": weights(12, phase=3), "beta": weights(12, phase=4),
        "w2": weights(12, 6, phase=5), "b2": weights(6, phase=6),
    }  # fmt: skip
    nodes = [
        node("Gather", ["table", "ids"], ["e"]),
        node("Transpose", ["e"], ["t"], perm=[0, 2, 1]),
        node("Conv", ["t", "w1", "b1"], ["c"], pads=[1, 1]),
        node("Div", ["c", "root"], ["g1"]),
        node("Erf", ["g1"], ["g2"]),
        node("Add", ["g2", "one"], ["g3"]),
        node("Mul", ["c", "g3"], ["g4"]),
        node("Mul", ["g4", "half"], ["g"]),
        node("Transpose", ["g"], ["gt"], perm=[0, 2, 1]),
        node("LayerNormalization", ["gt", "gamma", "beta"], ["n"], axis=-1, epsilon=1e-5),
        node("ReduceMax", ["n"], ["m"], axes=[1], keepdims=0),
        node("MatMul", ["m", "w2"], ["mm"]),
        node("Add", ["mm", "b2"], ["logits"]),
        node("Softmax", ["logits"], ["y"], axis=-1),
    ]
    return model_of(
        nodes,
        [helper.make_tensor_value_info("ids", TensorProto.INT32, [1, 20])],
        [helper.make_tensor_value_info("y", FLOAT, [1, 6])],
        held,
    )


def label(array: NDArray[np.generic]) -> str:
    digest = hashlib.sha256(array.tobytes()).hexdigest()
    return f"sha256:{digest}:{array.dtype}:{'x'.join(map(str, array.shape))}"


def reference(array: NDArray[np.generic]) -> str:
    """A constant as the driver names it."""
    return f'metadata["ir.GenericConst"][{label(array)}]'


def script(name: str, model: onnx.ModelProto) -> str:
    """The Relax text of a model, ``image`` or ``text``."""
    text = (ASSETS / f"relax_{name}.txt").read_text("ascii")
    for item in model.graph.initializer:
        text = text.replace("{" + item.name + "}", reference(numpy_helper.to_array(item)))
    return text


def planted(text: str, name: str, lines: list[str], instead: str) -> str:
    """``lines`` after the binding of ``name``; what used it uses ``instead``."""
    found = re.search(rf"^( *){name}\b.* = .*\n", text, re.MULTILINE)
    assert found, name
    added = "".join(f"{found[1]}{line}\n" for line in lines)
    rest = re.sub(rf"\b{name}\b", instead, text[found.end() :])
    return text[: found.end()] + added + rest
