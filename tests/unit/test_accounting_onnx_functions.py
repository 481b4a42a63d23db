"""Operators that are written out before a model is evaluated: they mean the same as before."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from harness.accounting.onnx_functions import written_out

node = helper.make_node
CODES = np.random.default_rng(5).integers(-128, 128, (6, 3)).astype(np.int8)


def model(nodes: list[NodeProto], held: dict[str, NDArray[np.generic]]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 6])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [4, 3])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def dynamic(*more: str, **held: NDArray[np.generic]) -> onnx.ModelProto:
    return model(
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("MatMulInteger", ["q", "w", *more], ["y"], "product"),
        ],
        {"w": CODES, **held},
    )


MODELS = {
    "no zero point": dynamic(),
    "one of the left side": dynamic("z"),
    "one of each side": dynamic("z", "wz", wz=np.array(3, np.int8)),
    "one of the right side": dynamic("", "wz", wz=np.array([-4], np.int8)),
    "one for each column": dynamic("z", "wz", wz=np.array([1, -2, 3], np.int8)),
}


def ran(made: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.generic]:
    (found,) = ReferenceEvaluator(made).run(None, {"x": x})
    return np.asarray(found)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scale", [1.0, 30.0, -1.0])
def test_it_computes_the_same(name: str, scale: float) -> None:
    x = np.random.default_rng(3).standard_normal((4, 6)).astype(np.float32)
    x = abs(x) * np.float32(scale) if scale < 0 else x * np.float32(scale)
    made = written_out(MODELS[name])
    assert not {each.op_type for each in made.graph.node} & {
        "DynamicQuantizeLinear", "MatMulInteger",
    }  # fmt: skip
    onnx.checker.check_model(made, full_check=True)
    whole = ran(MODELS[name], x)
    assert np.array_equal(ran(made, x), whole)
    assert np.count_nonzero(whole)


def test_the_model_itself_is_not_changed() -> None:
    before = MODELS["one of each side"].SerializeToString(deterministic=True)
    written_out(MODELS["one of each side"])
    assert MODELS["one of each side"].SerializeToString(deterministic=True) == before
    plain = model([node("Identity", ["x"], ["y"])], {})
    assert written_out(plain) is plain


def test_a_zero_point_that_may_be_one_for_each_row_is_left_as_it_is() -> None:
    rows = dynamic("az", az=np.array([1, 2, 3, 4], np.uint8))
    computed = dynamic("i")
    computed.graph.node.insert(1, node("Identity", ["z"], ["i"]))
    for made in (written_out(rows), written_out(computed)):
        kinds = [each.op_type for each in made.graph.node]
        assert "MatMulInteger" in kinds
        assert "DynamicQuantizeLinear" not in kinds


def test_another_domains_operator_of_that_name_is_left_as_it_is() -> None:
    other = model([node("MatMulInteger", ["x", "x"], ["y"], domain="com.example")], {})
    assert written_out(other) is other


def test_two_of_them_do_not_share_names() -> None:
    twice = model(
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("DynamicQuantizeLinear", ["s"], ["q2", "s2", "z2"]),
            node("MatMulInteger", ["q", "w", "z2"], ["y"]),
        ],
        {"w": CODES},
    )
    made = written_out(twice)
    written = [name for each in made.graph.node for name in each.output if name]
    assert len(written) == len(set(written))
