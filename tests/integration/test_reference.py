"""The ONNX reference evaluator in a process of its own: right answers, or a reason."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from harness.reference import evaluate

pytestmark = pytest.mark.integration


def save(
    path: Path, nodes: Sequence[NodeProto], shape: Sequence[int], opset: int, **weights: np.ndarray
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 4, 5), (1, 2, 3, 4, 5)])
def test_a_global_maximum_is_over_all_places(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    nodes = [helper.make_node("GlobalMaxPool", ["x"], ["y"])]
    ((y,),), why = evaluate(save(tmp_path / "m.onnx", nodes, shape, 17), [{"x": x}])
    assert why == ""
    assert y.tolist() == x.max(axis=tuple(range(2, x.ndim)), keepdims=True).tolist()


@pytest.mark.parametrize("opset", [7, 9, 11, 14, 15])
def test_a_batch_normalization_does_not_train(tmp_path: Path, opset: int) -> None:
    source = np.random.default_rng(0)
    weights = {name: source.random(3, np.float32) + 1 for name in ("s", "b", "m", "v")}
    x = source.standard_normal((2, 3, 4)).astype(np.float32)
    nodes = [helper.make_node("BatchNormalization", ["x", *weights], ["y"], epsilon=0.5)]
    path = save(tmp_path / "m.onnx", nodes, x.shape, opset, **weights)
    ((y,),), why = evaluate(path, [{"x": x}])
    assert why == ""
    s, b, m, v = (array.reshape(3, 1) for array in weights.values())
    assert np.allclose(y, s * (x - m) / np.sqrt(v + np.float32(0.5)) + b, atol=1e-6)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_a_local_normalization_counts_all_channels(tmp_path: Path, size: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 6, 2, 2)).astype(np.float32)
    nodes = [helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.5, beta=0.5, bias=2.0)]
    ((y,),), why = evaluate(save(tmp_path / "m.onnx", nodes, x.shape, 13), [{"x": x}])
    assert why == ""
    near = np.subtract.outer(np.arange(6), np.arange(6))  # of each channel, how far each other is
    taken = (near <= (size - 1) // 2) & (-near <= -(-(size - 1) // 2))
    sums = np.einsum("cd,ndhw->nchw", taken.astype(np.float64), x.astype(np.float64) ** 2)
    assert np.allclose(y, x / np.sqrt(2.0 + 0.5 / size * sums), atol=1e-6)


def test_what_it_does_not_know_is_said(tmp_path: Path) -> None:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")]
    path = save(tmp_path / "m.onnx", nodes, (2,), 17)
    found, why = evaluate(path, [{"x": np.zeros(2, np.float32)}])
    assert found == ()
    assert "Frobnicate" in why
    assert "\n" not in why


def test_it_is_ended_in_time_and_what_was_done_counts(tmp_path: Path) -> None:
    """A case takes some seconds: hundreds of matrix products, one after another."""
    names = ["x", *(f"t{number}" for number in range(400)), "y"]
    nodes = [helper.make_node("MatMul", [one, "w"], [other]) for one, other in pairwise(names)]
    path = save(tmp_path / "m.onnx", nodes, (900, 900), 17, w=np.eye(900, dtype=np.float32))
    cases = [{"x": np.ones((900, 900), np.float32)}] * 60
    found, why = evaluate(path, cases, seconds=12)
    assert why == "it was not done within 12 s"
    assert len(found) < 60
    assert all((outputs[0] == 1).all() for outputs in found)
