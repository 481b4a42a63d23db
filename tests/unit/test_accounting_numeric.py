"""What is expected of a library, how far rounding may carry it, and what goes further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.accounting import numeric
from harness.accounting.interface import NotInterpretedError
from harness.accounting.numeric import (
    Drawn,
    Evaluator,
    Expected,
    edge_inputs,
    expect,
    judge,
    labels,
    random_inputs,
    towards_edge,
)

Array = np.ndarray[Any, Any]
SHAPES = {"x": (1, 3, 6, 6)}


def network(scale: float = 1.0, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Conv, Relu, mean, four classes, softmax. ``scale``: of one weight."""
    source = np.random.default_rng(5)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    weights = source.standard_normal((8, 3, 3, 3)).astype(dtype)
    weights[0, 0, 0, 0] *= np.asarray(scale, dtype)
    last = (3 * source.standard_normal((8, 4))).astype(dtype)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "v"], ["e"]),
        helper.make_node("Softmax", ["e"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("x", kind, SHAPES["x"])],
        [helper.make_tensor_value_info("y", kind, [1, 4])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(last, "v")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def expected(model: onnx.ModelProto, seed: int = 0) -> list[Expected]:
    double, single = Evaluator(model, double=True), Evaluator(model, double=False)
    drawn = [*random_inputs(model, SHAPES, seed, 4), *edge_inputs(model, SHAPES, seed)]
    done = [expect(double, single, one, seed) for one in drawn]
    walked = towards_edge(double, tuple(done), seed)
    return done + [expect(double, single, one, seed, outputs) for one, outputs in walked]


def answers(model: onnx.ModelProto, cases: Sequence[Expected]) -> list[tuple[Array, ...]]:
    """What a right library could answer: another order of the sums, in float32."""
    single = Evaluator(model, double=False)
    return [single(one.drawn.inputs) for one in cases]


def test_another_rounding_is_nothing_and_another_weight_is_something() -> None:
    cases = expected(network())
    assert not judge(cases, answers(network(), cases)).off
    judged = judge(cases, answers(network(1.1), cases))
    assert judged.off
    assert judged.ratio > numeric.ROOM
    assert judged.outputs == sum(one.finite for one in cases)


def test_a_rounding_at_random_is_no_finding() -> None:
    cases = expected(network())
    source = np.random.default_rng(1)
    for _ in range(20):
        noisy = [
            tuple(
                (value * (1 + source.uniform(-2e-7, 2e-7, value.shape))).astype(np.float32)
                for value in one.outputs
            )
            for one in cases
        ]
        assert not judge(cases, noisy).off


def test_one_output_of_one_case_is_enough() -> None:
    cases = expected(network())
    outputs = answers(network(), cases)
    changed = outputs[2][0].copy()
    changed[0, 3] += np.float32(1e-4)
    outputs[2] = (changed,)
    (off,) = judge(cases, outputs).off
    assert off.where == "random input 2, output 0, element (0, 3)"
    assert "0.0001 off" in off.what


def test_another_label_comes_first() -> None:
    cases = expected(network())
    outputs = answers(network(), cases)
    outputs[0] = (outputs[0][0] + np.float32(0.001),)
    outputs[1] = (np.roll(outputs[1][0], 1, axis=1),)
    judged = judge(cases, outputs)
    assert [one.flip for one in judged.off] == [True, False]
    assert judged.off[0].what.endswith("another label")
    assert judged.drift.flips >= 1


def test_a_label_within_rounding_is_no_other() -> None:
    tie = np.array([[0.5, 0.5 - 1e-9]])
    case = Expected(Drawn("margin", "tie", {"x": tie}), (tie,), (1e-8,))
    judged = judge([case], [(tie[:, ::-1].astype(np.float32),)])
    assert not judged.off


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_a_finding_where_the_answer_is(value: float) -> None:
    cases = expected(network())
    outputs = answers(network(), cases)
    outputs[0] = (np.full_like(outputs[0][0], value),)
    assert judge(cases, outputs).off[0].where.startswith("random input 0")


def test_nothing_is_promised_where_the_answer_is_not_finite() -> None:
    cases = expected(network())
    broken = [one for one in cases if not one.finite]
    assert [one.drawn.label for one in broken] == ["one element NaN"] or broken
    outputs = answers(network(), cases)
    for at, one in enumerate(cases):
        if not one.finite:
            outputs[at] = (np.full_like(outputs[at][0], 7),)
    assert not judge(cases, outputs).off


def test_other_shapes_types_or_numbers_are_no_answer() -> None:
    cases = expected(network())[:1]
    right = answers(network(), cases)[0][0]
    for wrong in ((), (right, right), (right[0],), (right.astype(np.int32),)):
        with pytest.raises(ValueError, match="where the model has"):
            judge(cases, [wrong])


def test_integers_are_exact_but_near_a_decision() -> None:
    label = np.array([3])
    for kind, findings in (("random", 1), ("margin", 0)):
        case = Expected(Drawn(kind, "label", {"x": label}), (label,), (0.0,))
        assert len(judge([case], [(label + 1,)]).off) == findings
        assert not judge([case], [(label,)]).off


def test_a_walk_ends_where_the_model_can_hardly_decide() -> None:
    model = network()
    double = Evaluator(model, double=True)
    known = [
        Expected(one, double(one.inputs), (0.0,)) for one in random_inputs(model, SHAPES, 3, 16)
    ]
    ends = {int(labels(one.outputs)[0][0]) for one in known}  # type: ignore[index]
    assert len(ends) > 1
    found = list(towards_edge(double, known, 0))
    assert found
    margins = [float(labels(outputs)[1][0]) for _, outputs in found]  # type: ignore[index]
    assert min(margins) < 1e-5
    assert all(drawn.inputs["x"].dtype == np.float32 for drawn, _ in found)


def test_no_walk_where_all_answers_are_alike() -> None:
    model = network()
    double = Evaluator(model, double=True)
    one = random_inputs(model, SHAPES, 3, 1)[0]
    assert not list(towards_edge(double, [Expected(one, double(one.inputs), (0.0,))] * 3, 0))


def test_inputs_are_the_same_for_the_same_seed() -> None:
    model = network()
    one, again, other = (random_inputs(model, SHAPES, seed, 2) for seed in (1, 1, 2))
    assert all((a.inputs["x"] == b.inputs["x"]).all() for a, b in zip(one, again, strict=True))
    assert (one[0].inputs["x"] != other[0].inputs["x"]).any()


def test_edges_are_of_the_models_type_and_have_what_they_say() -> None:
    edges = {one.label: one.inputs["x"] for one in edge_inputs(network(), SHAPES, 0)}
    assert all(value.dtype == np.float32 for value in edges.values())
    assert not edges["zeros"].any()
    assert (edges["ones"] == 1).all()
    assert 0 < np.abs(edges["denormals"]).max() < np.finfo(np.float32).tiny
    assert np.isnan(edges["one element NaN"]).sum() == 1
    assert np.isinf(edges["one element -infinity"]).sum() == 1


def test_half_precision_is_held_to_half_precision() -> None:
    model = network(kind=TensorProto.FLOAT16)
    cases = expected(model)
    assert not judge(cases, answers(model, cases)).off
    assert max(one.rounding[0] for one in cases if one.finite) > 1e-5


def test_a_node_that_cannot_be_evaluated_is_named() -> None:
    model = network()
    model.graph.node[1].op_type = "Nonesuch"
    with pytest.raises(NotInterpretedError, match="Nonesuch"):
        Evaluator(model, double=True)
    random = network()
    random.graph.node[1].op_type = "RandomNormalLike"
    with pytest.raises(NotInterpretedError, match="random"):
        Evaluator(random, double=False)


def test_the_evaluator_can_be_ended_between_nodes() -> None:
    left = 4

    class OverError(Exception):
        pass

    def tick() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OverError

    evaluator = Evaluator(network(), double=True, tick=tick)
    with pytest.raises(OverError):
        evaluator(random_inputs(network(), SHAPES, 0, 1)[0].inputs)
