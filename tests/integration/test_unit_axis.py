"""Models that compute a single number on the way, built by two releases of TVM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.conftest import CLEAN, Harness

pytestmark = pytest.mark.integration

node = helper.make_node
MODELS = {
    "mean": [
        node("ReduceMean", ["x"], ["m"], keepdims=0),
        node("Relu", ["m"], ["r"]),
        node("Mul", ["x", "r"], ["y"]),
    ],
    "number": [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Exp", ["m"], ["e"]),
        node("Greater", ["m", "t"], ["g"]),
        node("Sqrt", ["e"], ["s"]),
        node("Where", ["g", "e", "s"], ["w"]),
        node("Add", ["x", "w"], ["y"]),
    ],
}


@pytest.mark.parametrize("name", MODELS)
def test_two_releases_agree(harness: Harness, tmp_path: Path, name: str) -> None:
    nodes: list[NodeProto] = MODELS[name]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 8])],
        [numpy_helper.from_array(np.array(0.1, np.float32), "t")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    chosen = [word for each in (CLEAN[0], CLEAN[2]) for word in ("--toolchain", each)]
    done = harness("run", tmp_path / "model.onnx", *chosen, "--repeat", "1", "--json")
    assert done.code == 0, done.err
    assert done.stage("tensor-ir")["verdict"] == "EXPLAINED"
    assert "tvm-unit-axis-type" in done.stage("tensor-ir")["explained_by"]
