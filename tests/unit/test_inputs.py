"""Seeded inputs: the same every time, of the right type, within what a table holds."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.errors import ModelError
from harness.inputs import seeded


def model(kind: int, table: int | None = None) -> onnx.ModelProto:
    """Its input "ids" is cast, reshaped and looked up in a table of that length, if any."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Cast", ["ids"], ["cast"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["cast", "shape"], ["flat"]),
    ]
    initial = [helper.make_tensor("shape", TensorProto.INT64, [1], [-1])]
    if table:
        rows = np.zeros((3, table), np.float32)
        initial.append(onnx.numpy_helper.from_array(rows, "table"))
        nodes.append(helper.make_node("Gather", ["table", "flat"], ["out"], axis=1))
    graph = helper.make_graph(
        nodes,
        "g",
        [value("ids", kind, ["n", 50]), value("shape", TensorProto.INT64, [1])],
        [value("flat", TensorProto.INT64, ["m"])],
        initial,
    )
    return helper.make_model(graph)


SHAPES = {"ids": (4, 50)}


def test_they_are_the_same_every_time_and_differ_from_case_to_case() -> None:
    one, other = (seeded(model(TensorProto.FLOAT), SHAPES, 7, 3) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert list(a) == ["ids"]  # an initializer is no input
        assert a["ids"].tobytes() == b["ids"].tobytes()
    assert len({case["ids"].tobytes() for case in one}) == 3
    assert (
        seeded(model(TensorProto.FLOAT), SHAPES, 8, 1)[0]["ids"].tobytes()
        != one[0]["ids"].tobytes()
    )
    # More cases do not change the first ones; and the values are those of any machine.
    more = seeded(model(TensorProto.FLOAT), SHAPES, 7, 5)
    assert more[2]["ids"].tobytes() == one[2]["ids"].tobytes()
    first = np.random.default_rng((7, 0)).standard_normal((4, 50)).astype(np.float32)
    assert (one[0]["ids"] == first).all()


@pytest.mark.parametrize(
    "kind",
    ["FLOAT", "DOUBLE", "FLOAT16", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64",
     "UINT64", "BOOL"],
)  # fmt: skip
def test_every_plain_type_has_values(kind: str) -> None:
    number = getattr(TensorProto, kind)
    (case,) = seeded(model(number), SHAPES, 0, 1)
    assert case["ids"].dtype == helper.tensor_dtype_to_np_dtype(number)
    assert case["ids"].shape == (4, 50)
    assert len(np.unique(case["ids"])) > 1
    assert np.isfinite(case["ids"].astype(np.float64)).all()
    if case["ids"].dtype.kind in "iu":
        assert case["ids"].min() >= 0


def test_whole_numbers_stay_within_a_table() -> None:
    for size in (2, 30, 200, 5000):
        (case,) = seeded(model(TensorProto.INT32, size), SHAPES, 0, 1)
        assert case["ids"].max() < size
        assert case["ids"].max() < 256
        assert case["ids"].max() > min(size, 256) * 0.4


def test_what_has_no_values_is_said() -> None:
    for kind in (TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.BFLOAT16):
        with pytest.raises(ModelError, match="'ids'"):
            seeded(model(kind), SHAPES, 0, 1)
    with pytest.raises(ModelError, match="more than"):
        seeded(model(TensorProto.FLOAT), {"ids": (2**20, 50)}, 0, 8)
