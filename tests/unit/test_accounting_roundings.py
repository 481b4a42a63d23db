"""A table of sines may be rounded otherwise. Nothing else may, and it may be nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from harness.accounting.constants import Known, known_of
from harness.accounting.onnx_values import draw, evaluate

ANGLES = np.linspace(0.1, 40, 96, dtype=np.float32).reshape(8, 12)
Table = NDArray[np.float32]


def windowed() -> onnx.ModelProto:
    """x + cos(a) * w / sum(w): a table of a sine's kind, used further."""
    node = helper.make_node
    nodes = [
        node("Cos", ["angles"], ["cosines"]),
        node("Mul", ["cosines", "w"], ["tapered"]),
        node("ReduceSum", ["w"], ["total"], keepdims=0),
        node("Div", ["tapered", "total"], ["table"]),
        node("Mul", ["w", "w"], ["squares"]),
        node("Add", ["x", "table"], ["y"]),
        node("Add", ["y", "squares"], ["z"]),
    ]
    weights = np.linspace(0.3, 0.9, 96, dtype=np.float32).reshape(8, 12)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g",
        [value("x", TensorProto.FLOAT, [8, 12])], [value("z", TensorProto.FLOAT, [8, 12])],
        [numpy_helper.from_array(ANGLES, "angles"), numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def origin(known: Known, table: NDArray[Any]) -> str:
    return known.origin(str(table.dtype), table.shape, table.tobytes())


@pytest.fixture
def known() -> Known:
    return known_of(windowed(), {"x": (8, 12)})


def tables() -> dict[str, Table]:
    """As correctly rounded, from doubles."""
    weights = np.linspace(0.3, 0.9, 96, dtype=np.float32).reshape(8, 12)
    cosines = np.cos(ANGLES.astype(np.float64))
    return {
        "Cos cosines": cosines.astype(np.float32),
        "Div table": (cosines * weights / weights.astype(np.float64).sum()).astype(np.float32),
    }


@pytest.mark.parametrize("what", ["Cos cosines", "Div table"])
@pytest.mark.parametrize("way", [0, 1, -1])
def test_another_rounding_is_the_same_table(known: Known, what: str, way: int) -> None:
    table = tables()[what]
    moved = np.nextafter(table, np.float32(np.inf * way)) if way else table
    assert origin(known, moved).startswith(what)
    assert origin(known, moved.reshape(12, 8)).startswith(what)


@pytest.mark.parametrize("what", ["Cos cosines", "Div table"])
def test_it_is_no_other_table(known: Known, what: str) -> None:
    table = tables()[what]
    for change in (1.00001, 0.9999, -1, 0):
        for place in (0, 37, 95):
            other = table.copy()
            other.reshape(-1)[place] *= np.float32(change)
            assert origin(known, other) == "", (change, place)
    assert origin(known, table[::-1].copy()) == ""
    assert origin(known, table[:4].copy()) == ""
    assert origin(known, np.full_like(table, np.nan)) == ""
    for bit in range(6, 32):
        other = table.copy()
        other.view(np.uint32)[2, 3] ^= np.uint32(1 << bit)
        assert origin(known, other) == "", bit


def test_what_is_rounded_alike_everywhere_stays_bit_for_bit(known: Known) -> None:
    weights = np.linspace(0.3, 0.9, 96, dtype=np.float32).reshape(8, 12)
    for exact in (weights, weights * weights, ANGLES):
        assert origin(known, exact)
        for place in (0, 50):
            other = exact.copy()
            other.reshape(-1)[place] = np.nextafter(other.reshape(-1)[place], np.float32(9))
            assert origin(known, other) == ""


def test_beside_a_pole_an_element_is_not_free() -> None:
    """There the results of other implementations are anything at all, infinite included."""
    node = helper.make_node
    nodes = [
        node("Sin", ["angles"], ["sines"]),
        node("Div", ["one", "sines"], ["table"]),
        node("Add", ["x", "table"], ["y"]),
    ]
    angles = np.array([0.0, 3.1415927, 6.2831855, 1.0, 2.0], np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [5])], [value("y", TensorProto.FLOAT, [5])],
        [
            numpy_helper.from_array(angles, "angles"),
            numpy_helper.from_array(np.float32(1), "one"),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    known = known_of(model, {"x": (5,)})
    with np.errstate(divide="ignore"):
        table = np.float32(1) / np.sin(angles)
    assert origin(known, table)
    for place in range(3):
        for wrong in (5.0, -5.0, 1e30, np.nan, -np.inf, table[place] * np.float32(1.01)):
            other = table.copy()
            other[place] = wrong
            if not np.array_equal(other, table):
                assert origin(known, other) == "", (place, wrong)


def test_constants_are_computed_in_the_models_own_types() -> None:
    """As a compiler folds them: the sine of a large angle is another one in doubles."""
    node = helper.make_node
    nodes = [
        node("Mul", ["turns", "speed"], ["angles"]),
        node("Sin", ["angles"], ["table"]),
        node("Add", ["x", "table"], ["y"]),
    ]
    turns = np.arange(1000, 1064, dtype=np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [64])], [value("y", TensorProto.FLOAT, [64])],
        [
            numpy_helper.from_array(turns, "turns"),
            numpy_helper.from_array(np.float32(3.3333), "speed"),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    source = evaluate(model, draw(model, {"x": (64,)}))
    wanted = np.sin((turns * np.float32(3.3333)).astype(np.float64))
    assert np.abs(source.settled["table"] - wanted).max() < 1e-6
    doubled = np.sin(turns.astype(np.float64) * np.float64(np.float32(3.3333)))
    assert np.abs(doubled - wanted).max() > 1e-5


def test_what_follows_from_a_shape_does_not_move() -> None:
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Sub", ["shape", "four"], ["less"]),
        node("Max", ["less", "zero"], ["room"]),
        node("Concat", ["none", "room"], ["pads"], axis=0),
        node("Pad", ["x", "pads"], ["y"]),
    ]
    held = {"four": [4], "zero": [0], "none": [0]}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [7])], [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(one, np.int64), name) for name, one in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    source = evaluate(model, draw(model, {"x": (7,)}))
    assert source.settled["room"].tolist() == [3]
    assert set(source.values) == {"x", "y"}
    # Where a number of elements follows from values, so do shapes.
    model.graph.node.insert(0, node("NonZero", ["x"], ["places"]))
    assert "room" in evaluate(model, draw(model, {"x": (7,)})).values
