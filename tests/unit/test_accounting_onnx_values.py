from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from harness.accounting import kernels
from harness.accounting.fingerprint import TOLERANCE, Values, apart, fingerprint, idle, near, same
from harness.accounting.interface import NotInterpretedError
from harness.accounting.onnx_run import OWN
from harness.accounting.onnx_values import draw, elements, evaluate, seed_of
from tests.unit.accounting_samples import image_model, model_of, text_model, weights

FLOAT = TensorProto.FLOAT


def one_node(
    node: onnx.NodeProto, shape: list[int], held: dict[str, NDArray[Any]]
) -> onnx.ModelProto:
    return model_of(
        [node],
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, list("abcd"))],
        held,
    )


@pytest.mark.parametrize(
    ("model", "shapes"), [(image_model(), {"x": (1, 3, 16, 16)}), (text_model(), {"ids": (1, 20)})]
)
def test_the_model_is_evaluated_as_the_reference_does(
    model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]
) -> None:
    inputs = draw(model, shapes)
    source = evaluate(model, inputs)
    (name, value), *_ = inputs.items()
    for trial in range(3):
        given = value[trial].astype(np.float32) if value.dtype.kind == "f" else value[trial]
        wanted = ReferenceEvaluator(model).run(None, {name: given})[0]
        assert np.allclose(source.values["y"][trial], wanted, rtol=1e-4, atol=1e-6)
    assert source.values["y"].dtype == np.float64
    assert len(source.values) == len(model.graph.node) + 1  # each node's result, and the input
    assert "y" in source.classes


def test_the_same_seed_draws_the_same() -> None:
    model = image_model()
    one, again, other = (draw(model, {"x": (1, 3, 16, 16)}, seed=seed) for seed in (1, 1, 2))
    assert (one["x"] == again["x"]).all() and (one["x"] != other["x"]).any()
    assert one["x"].shape == (3, 1, 3, 16, 16)


def test_integers_stay_below_what_they_are_looked_up_in_and_leave_none_out() -> None:
    drawn = draw(text_model(), {"ids": (1, 40)})["ids"]
    assert drawn.dtype == np.int32
    # In the last trial half of them count from the end.
    assert drawn[:-1].min() >= 0
    assert -64 <= drawn[-1].min() < 0 < drawn[-1].max() < 64
    assert set((drawn % 64).ravel().tolist()) == set(range(64))


def test_values_that_are_equal_share_a_class_whatever_their_shape_and_type() -> None:
    node = helper.make_node
    model = model_of(
        [
            node("Relu", ["x"], ["r"]),
            node("Reshape", ["r", "shape"], ["flat"]),
            node("Relu", ["r"], ["again"]),
            node("Greater", ["x", "zero"], ["g"]),
            node("Cast", ["g"], ["y"], to=FLOAT),
        ],
        [helper.make_tensor_value_info("x", FLOAT, [2, 6])],
        [helper.make_tensor_value_info("y", FLOAT, [2, 6])],
        {"shape": np.array([12]), "zero": np.array(0, np.float32)},
    )
    source = evaluate(model, draw(model, {"x": (2, 6)}))
    assert source.classes["r"] == source.classes["flat"] == source.classes["again"]
    assert source.classes["g"] == source.classes["y"] != source.classes["r"]
    assert source.members[source.classes["r"]] == ["r", "flat", "again"]


def test_a_value_that_does_not_vary_has_no_class() -> None:
    node = helper.make_node
    model = model_of(
        [
            node("Shape", ["x"], ["s"]),
            node("Clip", ["x", "ten", "ten"], ["c"]),
            node("Add", ["c", "x"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", FLOAT, [2, 6])],
        [helper.make_tensor_value_info("y", FLOAT, [2, 6])],
        {"ten": np.array(10, np.float32)},
    )
    source = evaluate(model, draw(model, {"x": (2, 6)}))
    assert set(source.classes) == {"x", "y"}


REFUSED = [
    (helper.make_node("RandomNormalLike", ["x"], ["y"]), "draws random numbers"),
    (helper.make_node("Mystery", ["x"], ["y"], domain="else.where"), "Mystery #0"),
    (helper.make_node("Reshape", ["x", "shape"], ["y"]), "Reshape #0"),
    (helper.make_node("NonZero", ["x"], ["y"]), None),
]


@pytest.mark.parametrize(("node", "what"), REFUSED)
def test_what_cannot_be_evaluated_is_named(node: onnx.NodeProto, what: str | None) -> None:
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", FLOAT, [2, 6])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(np.array([7]), "shape")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    inputs = draw(model, {"x": (2, 6)})
    if what is None:  # a shape that happens to be the same in all trials
        assert evaluate(model, inputs).values["y"].shape == (3, 2, 12)
        return
    with pytest.raises(NotInterpretedError, match=what):
        evaluate(model, inputs)


def test_inputs_have_to_be_the_models() -> None:
    with pytest.raises(NotInterpretedError, match="no shape"):
        draw(image_model(), {"other": (1,)})
    with pytest.raises(NotInterpretedError, match="not those"):
        evaluate(image_model(), {"other": np.zeros((3, 1))})


# Operators of our own.

WINDOWS = [
    ("Conv", {"strides": [2, 1], "pads": [1, 0, 2, 1]}, {"w": weights(6, 4, 3, 3)}),
    ("Conv", {"group": 2, "dilations": [2, 1]}, {"w": weights(6, 2, 3, 2), "b": weights(6)}),
    ("Conv", {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"w": weights(4, 1, 3, 3)}),
    ("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 3]}, {"w": weights(2, 4, 2, 2)}),
    ("ConvTranspose", {"strides": [2, 2], "pads": [1, 0, 0, 1]}, {"w": weights(4, 3, 3, 3)}),
    ("ConvTranspose", {"strides": [2, 3], "output_padding": [1, 2]}, {"w": weights(4, 3, 2, 2)}),
    ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}, {}),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1}, {}),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, {}),
    ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0], "count_include_pad": 1}, {}),
    ("GlobalMaxPool", {}, {}),
]


@pytest.mark.parametrize(("operator", "attributes", "held"), WINDOWS)
def test_our_operators_are_the_reference_evaluators(
    operator: str, attributes: dict[str, object], held: dict[str, NDArray[Any]]
) -> None:
    node = helper.make_node(operator, ["x", *held], ["y"], **attributes)
    model = one_node(node, [2, 4, 7, 8], held)
    inputs = draw(model, {"x": (2, 4, 7, 8)})
    found = evaluate(model, inputs).values["y"]
    wanted = ReferenceEvaluator(model).run(None, {"x": inputs["x"][0].astype(np.float32)})[0]
    assert found.shape[1:] == wanted.shape
    assert np.allclose(found[0], wanted, atol=1e-5)


def test_batch_normalization_does_not_train_at_older_opsets() -> None:
    """The reference evaluator does, from opset 9 to 13."""
    held: dict[str, NDArray[Any]] = {
        name: np.abs(weights(4, phase=i)) + 0.1 for i, name in enumerate("gbmv")
    }
    node = helper.make_node("BatchNormalization", ["x", *held], ["y"])
    model = one_node(node, [1, 4, 2, 3], held)
    model.opset_import[0].version = 11
    inputs = draw(model, {"x": (1, 4, 2, 3)})
    g, b, m, v = (value.reshape(1, 4, 1, 1) for value in held.values())
    wanted = (inputs["x"][0] - m) / np.sqrt(v + 1e-5) * g + b
    assert np.allclose(evaluate(model, inputs).values["y"][0], wanted)


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_neighbouring_channels_are_all_counted(size: int) -> None:
    """The sum is from ``c - floor((size - 1) / 2)`` to ``c + ceil((size - 1) / 2)``, by ONNX."""
    node = helper.make_node("LRN", ["x"], ["y"], size=size, alpha=0.3, beta=0.6, bias=2.0)
    model = one_node(node, [2, 5, 2, 3], {})
    inputs = draw(model, {"x": (2, 5, 2, 3)})
    found = evaluate(model, inputs).values["y"][0]
    x = inputs["x"][0].astype(np.float64)
    for c in range(5):
        first, last = max(0, c - (size - 1) // 2), min(4, c + -(-(size - 1) // 2))
        squares = sum(x[:, other] ** 2 for other in range(first, last + 1))
        wanted = x[:, c] / (2.0 + np.float32(0.3) / size * squares) ** np.float32(0.6)
        assert np.allclose(found[:, c], wanted, rtol=1e-12)


def test_a_hard_swish_is_exact_near_its_bound() -> None:
    """As a compiler computes it, by adding three and taking a sixth."""
    model = one_node(helper.make_node("HardSwish", ["x"], ["y"]), [64], {})
    x = np.linspace(-3 - 1e-3, -3 + 1e-3, 64)
    found = evaluate(model, {"x": np.stack([x, x])}).values["y"][0]
    wanted = x * np.clip(x + 3, 0, 6) / 6
    assert np.abs(found - wanted).max() < 1e-14


def test_the_error_function_is_exact() -> None:
    points = np.concatenate([np.linspace(-7, 7, 3001), [0.46875, 1e-300, np.inf, -np.inf]])
    wanted = [math.erf(point) for point in points]
    assert np.abs(kernels.erf(points) - wanted).max() < 1e-15
    assert np.isnan(kernels.erf(np.array([np.nan]))[0])


# What is refused: training, blocks, and integers and floats of fewer than eight bits or so.
REFUSING = ("training_mode", "blocked", "e4m3", "e5m2", "int4", "int2", "float4")


@pytest.mark.slow
def test_our_operators_pass_the_onnx_projects_own_tests() -> None:
    from onnx.backend.test.loader import load_model_tests

    ours = {operator.__name__ for operator in OWN}
    ran = set()
    for case in load_model_tests(kind="node"):
        model = case.model
        if model is None or not {node.op_type for node in model.graph.node} <= ours:
            continue
        if any(word in case.name for word in REFUSING):
            continue
        for inputs, outputs in case.data_sets:
            given = dict(zip((item.name for item in model.graph.input), inputs, strict=False))
            source = evaluate(model, {name: np.stack([v, v]) for name, v in given.items()})
            for item, wanted in zip(model.graph.output, outputs, strict=False):
                found = source.values[item.name][0]
                assert found.shape == wanted.shape, case.name
                assert np.allclose(found, wanted, rtol=1e-3, atol=1e-5), case.name
            ran.add(model.graph.node[0].op_type)
    assert ran == ours


# Which values are equal.


def random(*shape: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(shape)


def test_one_element_that_is_off_makes_another_value() -> None:
    """Projections alone would miss it: it is one of a hundred thousand."""
    one = random(3, 100_000)
    other = one.copy()
    other[1, 77] += 100 * TOLERANCE * np.abs(one[1]).max()
    assert not same(one, other) and same(one, one * (1 + TOLERANCE / 2))
    known = Values()
    known.add(one, 5)
    assert known.find(other) is None
    assert known.find(one.reshape(3, 100, 1000)) == 5


def test_equal_values_have_near_fingerprints_and_others_not() -> None:
    one = random(3, 500)
    assert near(fingerprint(one), fingerprint(one + TOLERANCE / 2))
    assert not near(fingerprint(one), fingerprint(one[:, ::-1]))
    assert not near(fingerprint(one), fingerprint(one[:2]))


def test_of_values_that_differ_by_little_the_nearest_is_found() -> None:
    one = random(3, 50)
    known = Values()
    known.add(one, 1)
    known.add(one + TOLERANCE / 2, 2)
    assert known.find(one + TOLERANCE / 2 + 1e-9) == 2
    assert known.settled(one + 1e-9) is not None
    assert (known.settled(one + 1e-9) == one).all()
    other = random(3, 50, seed=2)
    assert known.settled(other) is other


def test_infinite_and_missing_numbers_are_told_apart() -> None:
    one = random(2, 4)
    one[0, 1], one[1, 2] = np.inf, np.nan
    other = one.copy()
    other[0, 1] = -np.inf
    assert same(one, one.copy()) and not same(one, other)
    assert apart(one, np.zeros((2, 4))) == np.inf
    assert apart(np.zeros((2, 4)), one) == np.inf
    assert apart(np.zeros((2, 4)), np.full((2, 4), 1e-9)) == np.inf


def test_idle_is_what_all_trials_share() -> None:
    row = random(1, 9)
    assert idle(np.repeat(row, 3, axis=0)) and not idle(random(3, 9))


def test_a_view_of_a_known_value_is_known_by_its_place() -> None:
    values = Values()
    one = random(3, 4, 5)
    values.add(one, 7)
    found = values.held(one.reshape(3, 20))
    assert found is not None and found[0] is one and found[1] == 7
    assert values.held(one[:2]) is None and values.held(one.copy()) is None
    assert values.held(one.transpose(0, 2, 1)) is None
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 0  # it would still be taken for what it was


def test_the_floats_of_the_last_trial_are_large() -> None:
    drawn = draw(image_model(), {"x": (1, 3, 16, 16)})["x"]
    assert len(drawn) == 3
    assert np.abs(drawn[:2]).max() < 6 and np.abs(drawn[2]).max() > 60


def test_a_model_of_very_many_elements_gets_fewer_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {"x": (1, 3, 16, 16)}
    many = elements(image_model(), shapes)
    source = evaluate(image_model(), draw(image_model(), shapes))
    inner = [name for name in source.values if name not in ("x", "y")]
    assert many == sum(source.size(name) for name in inner)
    monkeypatch.setattr("harness.accounting.onnx_values.ROOM", 3 * many - 1)
    assert len(draw(image_model(), shapes)["x"]) == 2


def test_the_seed_depends_on_every_byte_and_name() -> None:
    files = {"a/b": b"one", "c/d": b"two"}
    assert seed_of(files) == seed_of(dict(reversed(files.items())))
    others = [
        {"a/b": b"one", "c/d": b"tw0"}, {"a/b": b"one", "c/e": b"two"}, {"a/b": b"one"},
        {"a/b": b"two", "c/d": b"one"},
    ]  # fmt: skip
    assert len({seed_of(one) for one in (files, *others)}) == 5
