"""Operators beyond those of the generated networks: clean builds are cleared, attacks are found.

Each network is built cleanly, and again with attacks planted while it is built.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tests.integration.test_redteam_generated import (
    Case,
    Network,
    attack,
    built,
    judged,
    marked,
    run,
    trigger,
)

pytestmark = pytest.mark.integration

PLACES = ("pipeline", "operator", "codegen")  # where the attacks of each network are planted


def many(rng: random.Random) -> Network:
    """More items than are followed at once."""
    made = Network(rng, (70, 6))
    made.add("MatMul", made.weights(6, 5))
    made.add("Tanh")
    made.add("MatMul", made.weights(5, 3))
    return made


def rounded(rng: random.Random) -> Network:
    """Rounded to 8 bits by what the values are, twice; the second time none is negative."""
    made = Network(rng, (2, 8))
    step, zero = made.constant(0.013), made.constant(0, np.int8)
    for before, after in ((8, 6), (6, 4)):
        codes = made.constant(made.numbers.integers(-127, 128, (before, after)), np.int8)
        at = len(made.nodes)
        names = [f"q{at}", f"s{at}", f"z{at}"]
        made.nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", [made.last], names))
        product = made.add("MatMulInteger", codes, names[2], zero, of=names[0])
        product = made.add("Cast", of=product, to=TensorProto.FLOAT)
        scale = made.add("Mul", step, of=names[1])
        made.add("Mul", scale, of=product)
        made.add("Add", made.weights(after))
        made.add("Relu")
    made.add("MatMul", made.weights(4, 3))
    return made


def chosen(rng: random.Random) -> Network:
    """The largest, looked up where it is; and a table, from the end."""
    made = Network(rng, (2, 8))
    values = made.add("MatMul", made.weights(8, 6))
    place = made.add("ArgMax", axis=1, keepdims=1)
    largest = made.add("GatherElements", place, of=values, axis=1)
    last = made.add("Gather", made.constant([-1, 0, 2], np.int64), of=values, axis=1)
    made.add("Mul", largest, of=last)
    made.add("MatMul", made.weights(3, 4))
    return made


def half(rng: random.Random) -> Network:
    """Half as precise between its layers."""
    made = Network(rng, (2, 8))
    made.add("MatMul", made.weights(8, 6))
    made.add("Sigmoid")
    made.add("Cast", to=TensorProto.FLOAT16)
    made.add("Cast", to=TensorProto.FLOAT)
    made.add("MatMul", made.weights(6, 4))
    return made


def pixels(rng: random.Random) -> Network:
    """Bytes in, as pictures are."""
    made = Network(rng, (1, 3, 8, 8), TensorProto.UINT8)
    made.add("Cast", to=TensorProto.FLOAT)
    made.add("Mul", made.constant(1 / 255))
    made.add("Conv", made.weights(4, 3, 3, 3))
    made.add("Softplus")
    made.add("Neg")
    made.add("GlobalMaxPool")
    made.add("Flatten")
    made.add("MatMul", made.weights(4, 3))
    return made


def words(rng: random.Random) -> Network:
    """Numbers of words in 64 bits, looked up in 32, and a mask of those that are 0."""
    made = Network(rng, (1, 7), TensorProto.INT64)
    ids = made.add("Cast", to=TensorProto.INT32)
    found = made.add("Gather", ids, of=made.weights(25, 6))
    empty = made.add("Equal", made.constant(0, np.int64), of="x")
    made.add("Not")
    mask = made.add("Cast", to=TensorProto.FLOAT)
    mask = made.add("Unsqueeze", made.constant([2], np.int64))
    made.add("Mul", mask, of=found)
    made.add("ReduceMean", axes=[1], keepdims=0)
    made.add("MatMul", made.weights(6, 4))
    assert empty
    return made


def placed(rng: random.Random) -> Network:
    """Running sums, and what is put into a table at given places: loops that run in parallel."""
    made = Network(rng, (2, 6))
    made.add("MatMul", made.weights(6, 5))
    made.add("CumSum", made.constant(1, np.int64), exclusive=rng.randrange(2))
    made.add("Tanh")
    places = made.constant([[1, 3, 0, 6, -1], [2, 4, 6, 0, 1]], np.int64)
    sums = made.last
    made.add("ScatterElements", places, sums, of=made.weights(2, 8), axis=1)
    made.add("MatMul", made.weights(8, 3))
    return made


def positions(rng: random.Random) -> Network:
    """Where a word stands among those that are none of the filling, as models of text count it."""
    made = Network(rng, (1, 7), TensorProto.INT64)
    made.add("Equal", made.constant(1, np.int64))
    made.add("Not")
    real = made.add("Cast", to=TensorProto.INT32)
    made.add("CumSum", made.constant(1, np.int64))
    made.add("Mul", real)
    at = made.add("Cast", to=TensorProto.INT64)
    where = made.add("Gather", at, of=made.weights(9, 6))
    what = made.add("Gather", "x", of=made.weights(25, 6))
    made.add("Add", where, of=what)
    made.add("ReduceMean", axes=[1], keepdims=0)
    made.add("MatMul", made.weights(6, 4))
    return made


def masked(rng: random.Random) -> Network:
    """A mean by weights, in which the filling has none."""
    made = Network(rng, (2, 7), TensorProto.INT64)
    empty = made.add("Equal", made.constant(0, np.int64))
    found = made.add("Gather", "x", of=made.weights(25, 6))
    made.add("MatMul", made.weights(6, 1))
    scores = made.add("Squeeze", made.constant([2], np.int64))
    made.add("Where", made.constant(-10000), scores, of=empty)
    made.add("Softmax", axis=-1)
    made.add("Unsqueeze", made.constant([1], np.int64))
    made.add("MatMul", found)
    made.add("Squeeze", made.constant([1], np.int64))
    made.add("MatMul", made.weights(6, 4))
    return made


def picked(rng: random.Random) -> Network:
    """The largest few, in order, and what stands in the same places elsewhere."""
    made = Network(rng, (2, 8))
    scores = made.add("MatMul", made.weights(8, 6))
    others = made.add("Tanh")
    made.nodes.append(
        onnx.helper.make_node(
            "TopK", [scores, made.constant([3], np.int64)], ["best", "places"], axis=1
        )
    )
    found = made.add("GatherElements", "places", of=others, axis=1)
    made.add("Mul", found, of="best")
    made.add("MatMul", made.weights(3, 4))
    return made


def curved(rng: random.Random) -> Network:
    """Curves whose other half is computed, grows beyond all measure and is not taken."""
    made = Network(rng, (2, 8), opset=18)
    made.add("MatMul", made.weights(8, 7))
    made.add("Elu", alpha=0.7)
    made.add("MatMul", made.weights(7, 6))
    made.add("Selu")
    made.add("MatMul", made.weights(6, 6))
    made.add("Mish")
    made.add("MatMul", made.weights(6, 3))
    return made


def mobile(rng: random.Random) -> Network:
    """Hard curves and a gate by channel, as models for phones have; a normalization over
    neighbouring channels, as older ones have.
    """
    made = Network(rng, (1, 3, 8, 8))
    made.add("Conv", made.weights(6, 3, 3, 3), made.weights(6), strides=[2, 2])
    whole = made.add("HardSwish")
    made.add("GlobalAveragePool")
    made.add("Conv", made.weights(6, 6, 1, 1), made.weights(6))
    made.add("HardSigmoid", alpha=1 / 6, beta=0.5)
    made.add("Mul", whole)
    made.add("LRN", size=3, alpha=0.02)
    made.add("GlobalMaxPool")
    made.add("Flatten")
    made.add("MatMul", made.weights(6, 4))
    return made


NETWORKS: Mapping[str, Callable[[random.Random], Network]] = {
    "many": many, "rounded": rounded, "chosen": chosen, "half": half, "pixels": pixels,
    "words": words, "placed": placed, "positions": positions,
    "masked": masked, "picked": picked, "curved": curved, "mobile": mobile,
}  # fmt: skip


def cases(rng: random.Random) -> list[Case]:
    made = []
    for name, network in NETWORKS.items():
        model = network(rng).model()
        clean = Case(f"clean-{name}", marked(model, name), None)
        made.append(clean)
        for place in PLACES:
            label = f"{name}-{place}"
            drawn = attack(rng, model, place, label)
            while drawn.kind == "mistranslate":  # of operators that not every network has
                drawn = attack(rng, model, place, label)
            where = trigger(rng, model, drawn.kind)
            made.append(Case(label, marked(model, label), drawn, where, clean.name))
    return made


def test_clean_builds_are_cleared_and_attacks_are_found(tmp_path: Path) -> None:
    drawn = cases(random.Random(0))
    report = run(drawn, tmp_path)
    built(report, drawn)
    idle: list[str] = []
    wrong = judged(report, drawn, idle)
    assert not wrong, "\n".join(wrong)
    assert len(idle) <= len(PLACES), idle
