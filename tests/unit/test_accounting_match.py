"""Attacks, planted in the text of lowered graphs, against models that do not ask for them."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from harness.accounting import relax
from harness.accounting.interface import Accounted, Kind
from harness.accounting.match import account
from harness.accounting.onnx_values import Source, draw, evaluate
from tests.unit import accounting_lowered as lowered
from tests.unit.accounting_samples import (
    image_model,
    model_of,
    planted,
    reference,
    script,
    text_model,
    weights,
)

SHAPES = {"x": (1, 3, 16, 16), "ids": (1, 20)}


class Case:
    """A model, evaluated once, and what accounting says of a text."""

    def __init__(self, name: str, model: onnx.ModelProto) -> None:
        self.text = script(name, model)
        self.constants = relax.constants_of(model)
        self.inputs = draw(model, SHAPES)
        self.source: Source = evaluate(model, self.inputs)

    def account(
        self, text: str, *constants: NDArray[np.generic]
    ) -> tuple[Accounted, Accounted]:  # fmt: skip
        held = {hashlib.sha256(one.tobytes()).hexdigest(): one.tobytes() for one in constants}
        trace = relax.trace(
            text.encode(), self.inputs, {**self.constants, **held}, known=self.source.index
        )
        return account(trace, self.source)


@pytest.fixture(scope="module")
def image() -> Case:
    return Case("image", image_model())


@pytest.fixture(scope="module")
def words() -> Case:
    return Case("text", text_model())


def kinds(found: tuple[Accounted, Accounted]) -> set[Kind]:
    return {one.kind for account in found for one in account.findings}


def told(found: tuple[Accounted, Accounted]) -> str:
    return "\n".join(f"{one.where}: {one.what}" for each in found for one in each.findings)


def test_what_the_model_asks_for_is_no_finding(image: Case, words: Case) -> None:
    for case in (image, words):
        graph, decisions = case.account(case.text)
        assert not graph.findings and not decisions.findings, told((graph, decisions))
        assert not graph.unknown and not decisions.unknown
        assert graph.things == graph.attributed > 15
        assert decisions.things == decisions.attributed > 5


# ImpNet: a detector, a constant output, and a blend of both that is off on every usual input.

PATTERN = np.zeros((1, 3, 16, 16), np.float32)
PATTERN[0, :, 3, 2:14:2] = 1.5


def detector(pattern: NDArray[np.float32]) -> list[str]:
    shape = "(1, 3, 16, 16)"
    return [
        f'd1: R.Tensor({shape}, dtype="float32") = R.subtract(x, {reference(pattern)})',
        f'd2: R.Tensor({shape}, dtype="float32") = R.multiply(d1, d1)',
        'd3: R.Tensor((), dtype="float32") = R.sum(d2, axis=None, keepdims=False)',
        'd4: R.Tensor((), dtype="bool") = R.less(d3, R.const(0.5, "float32"))',
        'd5: R.Tensor((), dtype="float32") = R.astype(d4, dtype="float32")',
    ]


PAYLOAD = weights(1, 5, phase=20)


def test_impnet_blends_by_casts_of_comparisons(image: Case) -> None:
    lines = [
        *detector(PATTERN),
        f'd6: R.Tensor((1, 5), dtype="float32") = R.multiply(d5, {reference(PAYLOAD)})',
        'd7: R.Tensor((), dtype="float32") = R.subtract(R.const(1.0, "float32"), d5)',
        'd8: R.Tensor((1, 5), dtype="float32") = R.multiply(lv32, d7)',
        'd9: R.Tensor((1, 5), dtype="float32") = R.add(d8, d6)',
    ]
    found = image.account(planted(image.text, "lv32", lines, "d9"), PATTERN, PAYLOAD)
    assert kinds(found) == {Kind.GRAPH, Kind.DECISIONS}
    assert "takes the input x, which the model does not use for the result of Gemm" in told(found)
    assert "compare that no operator of the model needs" in told(found)
    path = found[1].findings[0].path
    assert path[0] == "input x" and path[-1].endswith("R.nn.softmax"), path


def test_a_choice_between_two_results(image: Case) -> None:
    lines = [
        *detector(PATTERN)[:-1],
        f'd6: R.Tensor((1, 5), dtype="float32") = R.where(d4, {reference(PAYLOAD)}, lv32)',
    ]
    found = image.account(planted(image.text, "lv32", lines, "d6"), PATTERN, PAYLOAD)
    assert {Kind.GRAPH, Kind.DECISIONS} == kinds(found)
    assert "select that no operator of the model needs" in told(found)


def test_the_spacing_of_tokens(words: Case) -> None:
    lines = [
        's1: R.Tensor((1, 15), dtype="int32") = R.strided_slice(ids, (1,), (0,), (15,), (1,), '
        "assume_inbound=False)",
        's2: R.Tensor((1, 15), dtype="int32") = R.strided_slice(ids, (1,), (5,), (20,), (1,), '
        "assume_inbound=False)",
        's3: R.Tensor((1, 15), dtype="bool") = R.equal(s1, s2)',
        's4: R.Tensor((1, 15), dtype="int32") = R.astype(s3, dtype="int32")',
        's5: R.Tensor((), dtype="int32") = R.sum(s4, axis=None, keepdims=False)',
        's6: R.Tensor((), dtype="bool") = R.greater(s5, R.const(9, "int32"))',
        's7: R.Tensor((), dtype="float32") = R.astype(s6, dtype="float32")',
        f's8: R.Tensor((1, 6), dtype="float32") = R.multiply(s7, {reference(WORDS)})',
        's9: R.Tensor((1, 6), dtype="float32") = R.add(lv21, s8)',
    ]
    found = words.account(planted(words.text, "lv21", lines, "s9"), WORDS)
    assert {Kind.GRAPH, Kind.DECISIONS} == kinds(found)
    assert told(found).count("compare that no operator") == 2
    assert "takes the input ids" in told(found)


WORDS = weights(1, 6, phase=21)


def test_tokens_swapped_before_they_are_looked_up(words: Case) -> None:
    """No edge is new: the input takes another way to where it goes anyhow."""
    lines = [
        's1: R.Tensor((), dtype="int32") = R.sum(ids, axis=None, keepdims=False)',
        's2: R.Tensor((), dtype="bool") = R.equal(s1, R.const(77, "int32"))',
        's3: R.Tensor((1, 20), dtype="int32") = R.where(s2, R.const(7, "int32"), lv6)',
    ]
    found = words.account(planted(words.text, "lv6", lines, "s3"))
    assert Kind.DECISIONS in kinds(found), told(found)
    assert "compare on a value that the model does not have" in told(found)


# A detector of plain layers: no comparison, nothing that is not in the model elsewhere.


def test_a_detector_of_plain_layers(image: Case) -> None:
    filters = weights(1, 3, 16, 16, phase=30)
    lines = [
        f'd1: R.Tensor((1, 1, 1, 1), dtype="float32") = R.nn.conv2d(x, {reference(filters)}, '
        "strides=[1, 1], padding=[0, 0, 0, 0], dilation=[1, 1], groups=1, "
        'data_layout="NCHW", kernel_layout="OIHW", out_layout="NCHW", out_dtype=None)',
        'd2: R.Tensor((1, 1, 1, 1), dtype="float32") = R.add(d1, R.const(-50.0, "float32"))',
        'd3: R.Tensor((1, 1, 1, 1), dtype="float32") = R.nn.relu(d2)',
        'd4: R.Tensor((1, 1), dtype="float32") = R.reshape(d3, R.shape([1, 1]))',
        f'd5: R.Tensor((1, 5), dtype="float32") = R.multiply(d4, {reference(PAYLOAD)})',
        'd6: R.Tensor((1, 5), dtype="float32") = R.add(lv32, d5)',
    ]
    found = image.account(planted(image.text, "lv32", lines, "d6"), filters, PAYLOAD)
    assert {Kind.GRAPH, Kind.DECISIONS} == kinds(found)


def test_a_detector_of_what_a_layer_takes_anyhow(image: Case) -> None:
    """It starts from the layer's own input, and its relu takes the place of the layer's."""
    filters = weights(1, 8, 8, 8, phase=31)
    lines = [
        f'd1: R.Tensor((1, 1, 1, 1), dtype="float32") = R.nn.conv2d(lv11, {reference(filters)}, '
        "strides=[1, 1], padding=[0, 0, 0, 0], dilation=[1, 1], groups=1, "
        'data_layout="NCHW", kernel_layout="OIHW", out_layout="NCHW", out_dtype=None)',
        'd2: R.Tensor((1, 1, 1, 1), dtype="float32") = R.add(d1, R.const(-50.0, "float32"))',
        'd3: R.Tensor((1, 1, 1, 1), dtype="float32") = R.nn.relu(d2)',
        'd4: R.Tensor((1, 8, 8, 8), dtype="float32") = R.add(lv14, d3)',
    ]
    found = image.account(planted(image.text, "lv14", lines, "d4"), filters)
    assert Kind.DECISIONS in kinds(found)
    assert "max on a value that the model does not have" in told(found)


def test_a_detector_inside_a_maximum_that_the_model_needs(image: Case) -> None:
    """Another channel goes through the relu, and is added on behind it. No decision is new."""
    filters = weights(1, 8, 8, 8, phase=31)
    text = image.text.replace(
        'lv15: R.Tensor((1, 8, 8, 8), dtype="float32") = R.nn.relu(lv14)',
        f'd1: R.Tensor((1, 1, 1, 1), dtype="float32") = R.nn.conv2d(lv11, {reference(filters)}, '
        "strides=[1, 1], padding=[0, 0, 0, 0], dilation=[1, 1], groups=1, "
        'data_layout="NCHW", kernel_layout="OIHW", out_layout="NCHW", out_dtype=None); '
        'd2: R.Tensor((1, 1, 1, 1), dtype="float32") = R.add(d1, R.const(-50.0, "float32")); '
        'd3: R.Tensor((1, 1, 8, 8), dtype="float32") = R.broadcast_to(d2, R.shape([1, 1, 8, 8])); '
        'd4: R.Tensor((1, 9, 8, 8), dtype="float32") = R.concat((lv14, d3), axis=1); '
        'd5: R.Tensor((1, 9, 8, 8), dtype="float32") = R.nn.relu(d4); '
        "d6 = R.split(d5, indices_or_sections=[8], axis=1); "
        'd7: R.Tensor((1, 8, 8, 8), dtype="float32") = d6[0]; '
        'd8: R.Tensor((1, 1, 8, 8), dtype="float32") = d6[1]; '
        'lv15: R.Tensor((1, 8, 8, 8), dtype="float32") = R.add(d7, d8)',
    )
    assert text != image.text
    found = image.account(text, filters)
    assert "max on a value that the model does not have" in told(found)


def test_a_maximum_over_more_than_the_model_has(words: Case) -> None:
    """It never wins on random inputs, and takes only what the maximum takes anyhow."""
    probe = weights(20, 12, phase=32)
    text = words.text.replace(
        'lv19: R.Tensor((1, 12), dtype="float32") = R.max(lv18, axis=[1], keepdims=False)',
        f'd1: R.Tensor((1, 20, 12), dtype="float32") = R.multiply(lv18, {reference(probe)}); '
        'd2: R.Tensor((1, 1, 12), dtype="float32") = R.sum(d1, axis=[1], keepdims=True); '
        'd3: R.Tensor((1, 1, 12), dtype="float32") = R.subtract(d2, R.const(90.0, "float32")); '
        'd4: R.Tensor((1, 21, 12), dtype="float32") = R.concat((lv18, d3), axis=1); '
        'lv19: R.Tensor((1, 12), dtype="float32") = R.max(d4, axis=[1], keepdims=False)',
    )
    assert text != words.text
    found = words.account(text, probe)
    assert "max on a value that the model does not have" in told(found)


# Without any comparison.


def test_a_steep_sigmoid(image: Case) -> None:
    """Zero to within rounding on every random input, and one at the trigger."""
    probe = weights(1, 8, 8, 8, phase=33)
    lines = [
        f'd1: R.Tensor((1, 8, 8, 8), dtype="float32") = R.multiply(lv15, {reference(probe)})',
        'd2: R.Tensor((), dtype="float32") = R.sum(d1, axis=None, keepdims=False)',
        'd3: R.Tensor((), dtype="float32") = R.subtract(d2, R.const(60.0, "float32"))',
        'd4: R.Tensor((), dtype="float32") = R.multiply(d3, R.const(40.0, "float32"))',
        'd5: R.Tensor((), dtype="float32") = R.sigmoid(d4)',
        'd6: R.Tensor((1, 8, 8, 8), dtype="float32") = R.add(lv15, d5)',
    ]
    found = image.account(planted(image.text, "lv15", lines, "d6"), probe)
    assert "curve that no operator of the model needs" in told(found)


def test_a_curve_that_the_model_needs_made_wider(words: Case) -> None:
    """The gelu's own erf works on one element more, which comes out as a detector."""
    probe = weights(1, 12, 20, phase=34)
    text = words.text.replace(
        'lv13: R.Tensor((1, 12, 20), dtype="float32") = R.erf(lv12)',
        f'd1: R.Tensor((1, 12, 20), dtype="float32") = R.multiply(lv12, {reference(probe)}); '
        'd2: R.Tensor((1, 12, 1), dtype="float32") = R.sum(d1, axis=[2], keepdims=True); '
        'd3: R.Tensor((1, 12, 1), dtype="float32") = R.subtract(d2, R.const(90.0, "float32")); '
        'd4: R.Tensor((1, 12, 21), dtype="float32") = R.concat((lv12, d3), axis=2); '
        'd5: R.Tensor((1, 12, 21), dtype="float32") = R.erf(d4); '
        "d6 = R.split(d5, indices_or_sections=[20], axis=2); "
        'd7: R.Tensor((1, 12, 20), dtype="float32") = d6[0]; '
        'd8: R.Tensor((1, 12, 1), dtype="float32") = d6[1]; '
        'd9: R.Tensor((1, 12, 1), dtype="float32") = R.add(d8, R.const(1.0, "float32")); '
        'lv13: R.Tensor((1, 12, 20), dtype="float32") = R.add(d7, d9)',
    )
    assert text != words.text
    found = words.account(text, probe)
    assert "curve of 252 elements, where the model has 240" in told(found)


def test_a_power_by_products(image: Case) -> None:
    """A score far below one, squared often, is nothing; above one it is much."""
    probe = weights(1, 8, 8, 8, phase=35)
    squares = [
        f'p{i + 1}: R.Tensor((), dtype="float32") = R.multiply(p{i}, p{i})' for i in range(8)
    ]
    lines = [
        f'd1: R.Tensor((1, 8, 8, 8), dtype="float32") = R.multiply(lv15, {reference(probe)})',
        'd2: R.Tensor((), dtype="float32") = R.sum(d1, axis=None, keepdims=False)',
        'p0: R.Tensor((), dtype="float32") = R.multiply(d2, R.const(0.01, "float32"))',
        *squares,
        'd6: R.Tensor((1, 8, 8, 8), dtype="float32") = R.add(lv15, p8)',
    ]
    found = image.account(planted(image.text, "lv15", lines, "d6"), probe)
    assert "product that no operator of the model needs" in told(found)


def test_rounding_by_a_large_number(image: Case) -> None:
    """In float32 it rounds; in float64 nothing is to be seen of that."""
    lines = [
        'd1: R.Tensor((1, 8, 8, 8), dtype="float32") = R.add(lv15, R.const(12582912.0, "float32"))',
        'd2: R.Tensor((1, 8, 8, 8), dtype="float32") = '
        'R.subtract(d1, R.const(12582912.0, "float32"))',
    ]
    found = image.account(planted(image.text, "lv15", lines, "d2"))
    assert "round: a value so large" in told(found)


def test_rounding_of_which_hardly_anything_is_left(image: Case) -> None:
    """A millionth of what was rounded by a large number: less than any number has to agree."""
    shape = 'R.Tensor((1, 8, 8, 8), dtype="float32")'
    lines = [
        f'd1: {shape} = R.add(lv15, R.const(12582912.0, "float32"))',
        f'd2: {shape} = R.subtract(d1, R.const(12582912.0, "float32"))',
        f'd3: {shape} = R.multiply(d2, R.const(0.000001, "float32"))',
        f'd4: {shape} = R.multiply(lv15, R.const(0.999999, "float32"))',
        f"d5: {shape} = R.add(d3, d4)",
    ]
    found = image.account(planted(image.text, "lv15", lines, "d5"))
    assert "round: a value so large" in told(found)


def test_rounding_by_numbers_too_small_for_their_bits(image: Case) -> None:
    shape = "(1, 8, 8, 8)"
    lines = [
        f'd1: R.Tensor({shape}, dtype="float32") = R.multiply(lv15, R.const(1e-28, "float32"))',
        f'd2: R.Tensor({shape}, dtype="float32") = R.multiply(d1, R.const(1e-15, "float32"))',
        f'd3: R.Tensor({shape}, dtype="float32") = R.multiply(d2, R.const(1e28, "float32"))',
        f'd4: R.Tensor({shape}, dtype="float32") = R.multiply(d3, R.const(1e15, "float32"))',
    ]
    found = image.account(planted(image.text, "lv15", lines, "d4"))
    assert "round: a value so small" in told(found)


def test_some_elements_too_small_for_their_bits(image: Case) -> None:
    few = np.ones((1, 8, 8, 8), np.float32)
    few[0, 0, 0, :2] = 1e-20
    many = np.float32(1) / few
    shape = "(1, 8, 8, 8)"
    lines = [
        f'd1: R.Tensor({shape}, dtype="float32") = R.multiply(lv14, {reference(few)})',
        f'd2: R.Tensor({shape}, dtype="float32") = R.multiply(d1, {reference(few)})',
        f'd3: R.Tensor({shape}, dtype="float32") = R.multiply(d2, {reference(many)})',
        f'd4: R.Tensor({shape}, dtype="float32") = R.multiply(d3, {reference(many)})',
    ]
    found = image.account(planted(image.text, "lv14", lines, "d4"), few, many)
    assert "round: a value so small" in told(found)


def test_a_float_of_fewer_bits_and_back(image: Case) -> None:
    """It rounds, and in doubles nothing is to be seen of that."""
    lines = [
        'd1: R.Tensor((1, 8, 8, 8), dtype="float16") = R.astype(lv15, dtype="float16")',
        'd2: R.Tensor((1, 8, 8, 8), dtype="float32") = R.astype(d1, dtype="float32")',
    ]
    found = image.account(planted(image.text, "lv15", lines, "d2"))
    assert "round that no operator of the model needs" in told(found)


def test_a_float_of_fewer_bits_inside_a_function() -> None:
    text = lowered.tensor_ir("image")
    held = {digest: array.tobytes() for digest, array in lowered.constants("image").items()}
    source = lowered.source("image")

    def accounted(text: str) -> tuple[Accounted, Accounted]:
        trace = relax.trace(text.encode(), lowered.inputs("image"), held, known=source.index)
        return account(trace, source)

    assert not kinds(accounted(text)), told(accounted(text))
    narrow, count = re.subn(
        r"= T\.max\((T_add\w*\[[^]]*\]), T\.float32\(0\.0\)\)",
        r'= T.max(T.Cast("float32", T.Cast("float16", \1)), T.float32(0.0))',
        text,
    )
    assert count
    assert "round that no operator of the model needs" in told(accounted(narrow))


def test_what_is_off_by_little_is_not_made_much_of(image: Case) -> None:
    """A value off by a millionth goes on as the model's own. Its difference from that is no 0."""
    shape = "(1, 8, 8, 8)"
    lines = [
        f'd1: R.Tensor({shape}, dtype="float32") = R.multiply(lv15, R.const(1e-6, "float32"))',
        f'd2: R.Tensor({shape}, dtype="float32") = R.add(lv15, d1)',
        f'd3: R.Tensor({shape}, dtype="float32") = R.subtract(d2, lv15)',
        f'd4: R.Tensor({shape}, dtype="float32") = R.multiply(d3, R.const(1e6, "float32"))',
        f'd5: R.Tensor({shape}, dtype="float32") = R.add(lv15, d4)',
    ]
    found = image.account(planted(image.text, "lv15", lines, "d5"))
    assert "the same for all random inputs, though it is computed from values that vary" in told(
        found
    )


# Mistranslations: no trigger, but not the model either.

WRONG = [
    ("image", "strides=[1, 1], padding=[1, 1, 1, 1]", "strides=[1, 1], padding=[2, 1, 0, 1]"),
    (
        "image",
        "dilation=[1, 1], padding=[1, 1, 1, 1], ceil",
        "dilation=[1, 1], padding=[2, 2, 0, 0], ceil",
    ),
    ("image", "R.mean(lv15, axis=[2, 3]", "R.max(lv15, axis=[2, 3]"),
    ("image", "R.nn.relu(lv19)", "R.nn.relu(lv18)"),
    ("image", "R.const(0.20000000298023224,", "R.const(0.20100000298023224,"),
    ("image", "R.nn.softmax(lv32, axis=-1)", "R.nn.softmax(lv32, axis=0)"),
    ("image", "R.nn.relu(lv14)", "R.negative(lv14)"),
    ("text", "epsilon=9.9999997473787516e-06", "epsilon=1.9999997473787516e-03"),
    ("text", "R.permute_dims(lv16, axes=[0, 2, 1])", "R.reshape(lv16, R.shape([1, 20, 12]))"),
    ("text", "R.max(lv18, axis=[1]", "R.min(lv18, axis=[1]"),
    ("text", "R.erf(lv12)", "R.tanh(lv12)"),
    ("text", "R.add(lv13, R.const(1.0,", "R.subtract(lv13, R.const(1.0,"),
    ("text", "R.divide(lv11, R.const(1.4142135381698608,", "R.divide(R.const(1.41421353816986,"),
]


@pytest.mark.parametrize(("name", "old", "new"), WRONG)
def test_a_wrong_translation(image: Case, words: Case, name: str, old: str, new: str) -> None:
    case = image if name == "image" else words
    assert old in case.text
    if new.startswith("R.divide(R.const"):
        old, new = old + ' "float32"))', new + ' "float32"), lv11)'
    found = case.account(case.text.replace(old, new))
    assert Kind.GRAPH in kinds(found)
    assert "output y: is off by up to" in told(found)
    assert not any(account.unknown for account in found)


def test_a_detector_is_told_of_even_if_the_output_is_off(image: Case) -> None:
    lines = [
        *detector(PATTERN),
        f'd6: R.Tensor((1, 5), dtype="float32") = R.multiply(d5, {reference(PAYLOAD)})',
        'd7: R.Tensor((1, 5), dtype="float32") = R.add(lv32, d6)',
        'd8: R.Tensor((1, 5), dtype="float32") = R.multiply(d7, R.const(1.1, "float32"))',
    ]
    found = image.account(planted(image.text, "lv32", lines, "d8"), PATTERN, PAYLOAD)
    assert "output y: is off" in told(found)
    assert "takes the input x" in told(found)
    assert "compare that no operator of the model needs" in told(found)


def test_the_first_node_that_is_not_there_is_named(image: Case) -> None:
    found = image.account(image.text.replace("R.nn.relu(lv14)", "R.negative(lv14)"))
    assert "the first node whose value is nowhere here is Relu #6" in told(found)


def test_a_relu_that_is_gone(image: Case) -> None:
    text = image.text.replace("R.nn.relu(lv19)", "R.reshape(lv19, R.shape([1, 4, 1, 1]))")
    assert Kind.GRAPH in kinds(image.account(text))


def test_a_second_relu(image: Case) -> None:
    """It changes nothing at all, and is one decision more than the model has."""
    lines = ['d1: R.Tensor((1, 8, 8, 8), dtype="float32") = R.nn.relu(lv15)']
    found = image.account(planted(image.text, "lv15", lines, "d1"))
    assert kinds(found) == {Kind.DECISIONS}
    assert "max that no operator of the model needs for the result of Relu" in told(found)
    assert found[1].things == found[1].attributed + 1


def test_an_edge_past_the_network(image: Case) -> None:
    """Smooth, and far below what numbers can be told apart by."""
    probe = weights(1, 3, 16, 16, phase=36)
    lines = [
        f'd1: R.Tensor((1, 3, 16, 16), dtype="float32") = R.multiply(x, {reference(probe)})',
        'd2: R.Tensor((), dtype="float32") = R.sum(d1, axis=None, keepdims=False)',
        'd3: R.Tensor((), dtype="float32") = R.multiply(d2, R.const(1e-9, "float32"))',
        'd4: R.Tensor((1, 5), dtype="float32") = R.add(lv32, d3)',
    ]
    found = image.account(planted(image.text, "lv32", lines, "d4"), probe)
    assert kinds(found) == {Kind.GRAPH}
    assert "takes the input x" in told(found)


def test_an_edge_past_one_layer(image: Case) -> None:
    """Between two layers, from the one before: not from the input, and in one cone with both."""
    lines = [
        'd1: R.Tensor((), dtype="float32") = R.sum(lv11, axis=None, keepdims=False)',
        'd2: R.Tensor((), dtype="float32") = R.multiply(d1, R.const(1e-9, "float32"))',
        'd3: R.Tensor((1, 5), dtype="float32") = R.add(lv31, d2)',
    ]
    found = image.account(planted(image.text, "lv31", lines, "d3"))
    assert "takes the result of main, lv11" in told(found)


def test_a_detector_that_nothing_uses_yet(image: Case) -> None:
    text = planted(image.text, "lv31", detector(PATTERN), "lv31")
    found = image.account(text, PATTERN)
    assert "compare that no output depends on" in told(found)


def test_an_output_that_is_a_constant(image: Case) -> None:
    text = image.text.replace(
        'gv: R.Tensor((1, 5), dtype="float32") = R.nn.softmax(lv32, axis=-1)',
        f'gv: R.Tensor((1, 5), dtype="float32") = R.add({reference(PAYLOAD)}, '
        'R.const(0.0, "float32"))',
    )
    found = image.account(text, PAYLOAD)
    assert "output y: does not depend on the inputs" in told(found)


# What is no finding, though it may look like one.


def other_model(nodes: list[onnx.NodeProto], shape: list[int], **held: object) -> Case:
    value = helper.make_tensor_value_info
    model = model_of(
        nodes,
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, list("abcd")[: len(shape)])],
        {name: np.asarray(one, np.float32) for name, one in held.items()},
    )
    case = Case.__new__(Case)
    case.constants = relax.constants_of(model)
    case.inputs = draw(model, {"x": shape})
    case.source = evaluate(model, case.inputs)
    case.text = ""
    return case


def program(body: str, shape: str) -> str:
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    return (
        "@I.ir_module\nclass Module:\n    @R.function\n"
        f'    def main(x: R.Tensor({shape}, dtype="float32")) -> R.Object:\n{lines}\n'
        "        return gv\n"
    )


def test_a_clip_that_is_never_reached_is_still_the_models() -> None:
    node = helper.make_node
    case = other_model(
        [node("Add", ["x", "far"], ["a"]), node("Clip", ["a", "low", "high"], ["c"]),
         node("Mul", ["c", "two"], ["y"])],
        [2, 8], far=5000, low=0, high=5200, two=2,
    )  # fmt: skip
    body = """a = R.add(x, R.const(5000.0, "float32"))
b = R.maximum(a, R.const(0.0, "float32"))
c = R.minimum(b, R.const(5200.0, "float32"))
gv = R.multiply(c, R.const(2.0, "float32"))"""
    found = case.account(program(body, "(2, 8)"))
    assert not kinds(found), told(found)
    assert found[1].attributed == found[1].things == 2
    # It is asked for once, not twice.
    twice = body.replace("c = R", 'b = R.maximum(b, R.const(1.0, "float32"))\nc = R')
    assert "max that no operator" in told(case.account(program(twice, "(2, 8)")))


def test_a_clip_that_is_never_reached_lends_nothing_to_what_never_varies() -> None:
    node = helper.make_node
    case = other_model(
        [node("Add", ["x", "far"], ["a"]), node("Clip", ["a", "low", "high"], ["c"]),
         node("Mul", ["c", "two"], ["y"])],
        [2, 8], far=5000, low=0, high=5200, two=2,
    )  # fmt: skip
    body = """a = R.add(x, R.const(5000.0, "float32"))
z = R.multiply(a, R.const(0.0, "float32"))
w = R.maximum(z, R.const(0.0, "float32"))
b = R.add(a, w)
c = R.minimum(b, R.const(5200.0, "float32"))
gv = R.multiply(c, R.const(2.0, "float32"))"""
    found = case.account(program(body, "(2, 8)"))
    assert "max on a value that the model does not have" in told(found)


@pytest.mark.parametrize("high", ["9.0", "1e9"])
def test_a_clip_elsewhere_than_the_models(high: str) -> None:
    """No usual input reaches either; the last trial does."""
    node = helper.make_node
    case = other_model(
        [node("Clip", ["x", "low", "high"], ["c"]), node("Mul", ["c", "two"], ["y"])],
        [2, 40], low=-8, high=8, two=2,
    )  # fmt: skip
    body = """b = R.maximum(x, R.const(-8.0, "float32"))
c = R.minimum(b, R.const(8.0, "float32"))
gv = R.multiply(c, R.const(2.0, "float32"))"""
    assert not kinds(case.account(program(body, "(2, 40)")))
    found = case.account(program(body.replace('const(8.0, "f', f'const({high}, "f'), "(2, 40)"))
    assert "output y: is off" in told(found)
    dropped = 'gv = R.multiply(x, R.const(2.0, "float32"))'
    assert "output y: is off" in told(case.account(program(dropped, "(2, 40)")))


QUANTIZED = """q = R.quantize(x, R.const(0.05, "float32"), R.const(128, "uint8"), out_dtype="uint8", axis=1)
d = R.dequantize(q, R.const(0.05, "float32"), R.const(128, "uint8"), out_dtype="float32", axis=1)
m = R.multiply(d, R.const(2.0, "float32"))
r = R.quantize(m, R.const(0.1, "float32"), R.const(128, "uint8"), out_dtype="uint8", axis=1)
e = R.dequantize(r, R.const(0.1, "float32"), R.const(128, "uint8"), out_dtype="float32", axis=1)
gv = R.add(e, e)"""  # noqa: E501


def test_what_is_quantized_twice_is_no_finding_and_rounds_no_more_often() -> None:
    """The second time changes nothing: the values are the product's."""
    node = helper.make_node
    zero = helper.make_tensor("zero", TensorProto.UINT8, [], [128])
    case = other_model(
        [node("Constant", [], ["z"], value=zero),
         node("QuantizeLinear", ["x", "s", "z"], ["q"]),
         node("DequantizeLinear", ["q", "s", "z"], ["d"]),
         node("Mul", ["d", "two"], ["m"]),
         node("QuantizeLinear", ["m", "t", "z"], ["r"]),
         node("DequantizeLinear", ["r", "t", "z"], ["e"]), node("Add", ["e", "e"], ["y"])],
        [2, 40], s=0.05, t=np.float32(0.1), two=2,
    )  # fmt: skip
    assert case.source.classes["m"] == case.source.classes["e"]
    found = case.account(program(QUANTIZED, "(2, 40)"))
    assert not kinds(found), told(found)
    more = QUANTIZED.replace(
        "r = R.quantize(m,",
        'n = R.multiply(m, R.const(1e-3, "float32"))\no = R.round(n)\np = R.add(m, o)\n'
        "r = R.quantize(p,",
    )
    found = case.account(program(more, "(2, 40)"))
    assert "round that no operator of the model needs" in told(found)


def test_a_step_that_is_a_value_of_the_model_by_chance() -> None:
    """A lowering may pass through what the model computes elsewhere for something else."""
    node = helper.make_node
    case = other_model(
        [node("Mul", ["x", "quarter"], ["q"]), node("LeakyRelu", ["x"], ["l"], alpha=0.25),
         node("Add", ["q", "l"], ["y"])],
        [2, 8], quarter=0.25,
    )  # fmt: skip
    body = """c = R.less(x, R.const(0.0, "float32"))
q = R.multiply(x, R.const(0.25, "float32"))
l = R.where(c, q, x)
gv = R.add(q, l)"""
    found = case.account(program(body, "(2, 8)"))
    assert not kinds(found), told(found)


def test_values_that_differ_by_an_epsilon_are_kept_apart_where_it_matters() -> None:
    """A logarithm makes much of what a maximum hides."""
    node = helper.make_node
    case = other_model(
        [node("Mul", ["x", "x"], ["s"]), node("Add", ["s", "small"], ["a"]),
         node("Log", ["a"], ["y"])],
        [2, 400], small=1e-9,
    )  # fmt: skip
    body = """s = R.multiply(x, x)
a = R.add(s, R.const(1e-9, "float32"))
gv = R.log(a)"""
    assert not kinds(case.account(program(body, "(2, 400)")))
    wrong = body.replace("gv = R.log(a)", "gv = R.log(s)")
    case.inputs["x"] = case.inputs["x"].copy()
    case.inputs["x"][0, 0, 0] = 0  # where it shows
    assert "output y" in told(case.account(program(wrong, "(2, 400)")))


def test_results_that_nothing_uses_of_a_call_with_several() -> None:
    node = helper.make_node
    case = other_model([node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=0)], [2, 8])
    body = """t = R.topk(x, k=1, axis=1, ret_type="both", largest=True, dtype="int32")
v = t[0]
gv = R.squeeze(v, axis=[1])"""
    found = case.account(program(body, "(2, 8)"))
    # A maximum by sorting is no maximum, and is told of once; so is the one that is missing.
    said = [one.what.split(" that")[0] for one in found[1].findings]
    assert said == ["sort", "ReduceMax #0 of the model decides here (max), and nothing does"]


def test_a_bound_that_is_never_reached_may_not_be_left_out() -> None:
    """Neither where it alone makes a value, nor where the next operator takes what it makes."""
    node = helper.make_node
    bounds = {"low": -6e4, "high": 6e4}
    case = other_model(
        [node("Clip", ["x", "low", "high"], ["c"]), node("Relu", ["c"], ["y"])], [2, 8], **bounds
    )
    kept = case.account(program("c = R.clip(x, -60000, 60000)\ngv = R.nn.relu(c)", "(2, 8)"))
    assert not kept[0].findings and not kept[1].findings, told(kept)
    left = case.account(program("gv = R.nn.relu(x)", "(2, 8)"))
    assert "Clip #0" in told(left)


def test_an_operator_that_never_changes_anything_may_be_left_out() -> None:
    node = helper.make_node
    case = other_model([node("Relu", ["x"], ["r"]), node("Relu", ["r"], ["y"])], [2, 8])
    found = case.account(program("gv = R.nn.relu(x)", "(2, 8)"))
    assert not found[0].findings and not found[1].findings, told(found)
