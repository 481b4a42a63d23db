"""Each constant of the binary comes from the model bit for bit, or it is found."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from harness.accounting import relax_script, tir_script
from harness.accounting.constants import (
    Known,
    account_executable,
    account_simplified,
    known_of,
)
from harness.accounting.folding import fold
from harness.accounting.immediates import account_graph_numbers, account_immediates
from harness.accounting.interface import Accounted, Kind, NotInterpretedError
from harness.accounting.vm_executable import DataType, Executable, PoolTensor
from tests.unit import accounting_build as samples


@cache
def known() -> Known:
    return known_of(samples.model(), samples.INPUTS)


def account(executable: Executable, graph: bytes | None = None) -> Accounted:
    return account_executable(known(), executable, "object", graph)


def tensor(number: int) -> PoolTensor:
    one = samples.executable().constants[number]
    assert isinstance(one, PoolTensor)
    return one


def pool(value: NDArray[Any]) -> PoolTensor:
    dtype = DataType(str(value.dtype), value.itemsize * 8)
    return PoolTensor(dtype, value.shape, value.tobytes(), 0)


def only(value: NDArray[Any]) -> Executable:
    return replace(samples.executable(), constants=(pool(value),))


def test_a_real_build_has_nothing_left_over() -> None:
    found = account(samples.executable(), samples.text("graph"))
    assert (found.kind, found.stage) == (Kind.CONSTANTS, "object")
    assert found.things == found.attributed == 8
    assert not found.findings and not found.unknown
    found = account_simplified(known(), samples.model("simplified"))
    assert found.things == found.attributed == 9
    assert not found.findings and not found.unknown


def test_each_flipped_bit_is_found() -> None:
    for number in samples.tensors():
        one = tensor(number)
        for place in range(0, len(one.data), max(1, len(one.data) // 16)):
            data = bytearray(one.data)
            data[place] ^= 1 << place % 8
            changed = samples.with_constant(number, replace(one, data=bytes(data)))
            found = account(changed, samples.text("graph"))
            assert found.attributed == 7, (number, place)
            assert found.findings[0].where.startswith(f"constant {number} (float32 ")


def test_a_finding_says_what_was_changed() -> None:
    number = samples.tensors()[-1]
    one = tensor(number)
    data = bytearray(one.data)
    data[400] ^= 1
    found = account(samples.with_constant(number, replace(one, data=bytes(data)))).findings[0]
    assert found.kind is Kind.CONSTANTS and found.stage == "object"
    assert f"bytes {one.start:,} to {one.start + 768:,} of the executable" in found.where
    assert "it differs from initializer dense in 1 of 192 elements" in found.what
    assert "first in element 100" in found.what


def test_an_extra_constant_is_found() -> None:
    own = samples.executable()
    extra = pool(np.array([0.1337], np.float32))
    found = account(replace(own, constants=(*own.constants, extra)))
    assert (found.things, found.attributed, len(found.findings)) == (9, 8, 1)
    assert found.findings[0].what == "no constant of the model gives it"


def test_oddities_of_the_executable_are_findings() -> None:
    own = replace(samples.executable(), oddities=("7 bytes follow",))
    assert [one.what for one in account(own).findings] == ["7 bytes follow"]


# How a constant may have been arranged.


def value_of(name: str) -> NDArray[Any]:
    held = {one.name: numpy_helper.to_array(one) for one in samples.model().graph.initializer}
    found: NDArray[Any] = held[name]
    return found


@pytest.mark.parametrize(
    "value",
    [
        value_of("w").reshape(2, 36),
        value_of("w").transpose(1, 2, 3, 0).copy(),
        value_of("dense").T.copy(),
        value_of("dense").astype(np.float16),
        np.broadcast_to(value_of("bias2"), (2, 4, 3, 3)).copy(),
        np.full((3, 5), 6.0, np.float32),  # the clip's bound
        np.array([1, 64], np.int32),
        np.array([1, -1], np.int64),  # the reshape's, one side left out
        np.zeros((0, 4), np.float32),
    ],
)
def test_what_is_only_arranged_is_known(value: NDArray[Any]) -> None:
    assert account(only(value)).attributed == 1


@pytest.mark.parametrize(
    "value",
    [
        value_of("w")[::-1].copy(),
        value_of("w") * np.float32(2),
        value_of("dense").astype(np.float64) + 1e-9,
        value_of("dense") + np.float32(0.001),
        np.broadcast_to(value_of("bias2") * 2, (2, 4, 3, 3)).copy(),
        np.full((3, 5), 5.5, np.float32),
        np.full((3, 5), -0.0, np.float32),  # the clip's bound is +0.0
        np.array([2, 32], np.int64),
        np.array([True, False]),
        np.array([1e-9], np.float32),
    ],
)
def test_what_is_computed_is_not_known(value: NDArray[Any]) -> None:
    assert account(only(value)).attributed == 0


def test_one_element_exchanged_with_another_is_found() -> None:
    value = value_of("dense").copy()
    value[3, 1], value[4, 1] = value[4, 1], value[3, 1]
    assert account(only(value)).attributed == 0


# What a simplifier computes.


def test_a_batch_normalization_is_folded_bit_for_bit() -> None:
    scale, offset, mean, variance = map(value_of, ("scale", "offset", "mean", "variance"))
    factor = scale / np.sqrt(variance + np.float32(1e-3))
    weight = value_of("w") * factor.reshape(4, 1, 1, 1)
    bias = (value_of("cb") - mean) * factor + offset
    assert account(only(weight)).attributed == account(only(bias)).attributed == 1
    other = scale / np.sqrt(variance + np.float32(1.01e-3))
    assert account(only(value_of("w") * other.reshape(4, 1, 1, 1))).attributed == 0
    exact = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + 1e-3)
    rounded = (value_of("w") * exact.reshape(4, 1, 1, 1)).astype(np.float32)
    assert not np.array_equal(rounded, weight)  # else this would show nothing
    assert account(only(rounded)).attributed == 0


def built(
    nodes: list[onnx.NodeProto], given: dict[str, NDArray[Any]], shape: tuple[int, ...]
) -> Known:
    """A model of one input ``x`` and one output ``y``."""
    graph = helper.make_graph(
        nodes,
        "built",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in given.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    return known_of(model, {"x": shape})


def attributed(known_here: Known, value: NDArray[Any]) -> bool:
    return account_executable(known_here, only(value), "object").attributed == 1


def test_constant_nodes_are_evaluated() -> None:
    a = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    b = np.linspace(2, 5, 12, dtype=np.float32).reshape(3, 4)
    here = built(
        [
            helper.make_node("Mul", ["a", "b"], ["c"]),
            helper.make_node("Sqrt", ["b"], ["d"]),
            helper.make_node("Div", ["c", "d"], ["e"]),
            helper.make_node("Transpose", ["e"], ["f"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "f"], ["y"]),
        ],
        {"a": a, "b": b},
        (2, 4),
    )
    assert attributed(here, (a * b / np.sqrt(b)).T.copy())
    assert not attributed(here, np.nextafter(a * b / np.sqrt(b), np.float32(9)))


def test_a_quantised_code_off_by_one_is_found() -> None:
    codes = np.arange(-18, 18, dtype=np.int8).reshape(4, 9)
    scales = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    here = built(
        [
            helper.make_node("DequantizeLinear", ["codes", "scales", "zeros"], ["w"], axis=0),
            helper.make_node("Gemm", ["x", "w"], ["y"], transB=1),
        ],
        {"codes": codes, "scales": scales, "zeros": np.zeros(4, np.int8)},
        (1, 9),
    )
    assert attributed(here, codes)
    assert attributed(here, codes.astype(np.float32) * scales.reshape(4, 1))
    stepped = codes.copy()
    stepped[2, 3] += 1
    assert not attributed(here, stepped)
    assert not attributed(here, stepped.astype(np.float32) * scales.reshape(4, 1))


def test_factors_of_a_product_are_drawn_in() -> None:
    bias = np.array([1.1, 2.2, 3.3], np.float32)
    weight = np.ones((4, 3), np.float32) * np.float32(1.7)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], alpha=0.3, beta=0.7)
    here = built([node], {"w": weight, "b": bias}, (1, 4))
    assert attributed(here, bias * np.float32(0.7))
    assert not attributed(here, bias * np.float32(0.8))


def line(start: float, *shape: int) -> NDArray[Any]:
    size = int(np.prod(shape))
    return np.linspace(start, start + 1, size, dtype=np.float32).reshape(shape)


def test_factors_in_a_row_become_one() -> None:
    a, b = line(0.3, 4), line(2.1, 3, 4)
    nodes = [helper.make_node("Mul", ["a", "x"], ["c"]), helper.make_node("Mul", ["c", "b"], ["y"])]
    here = built(nodes, {"a": a, "b": b}, (3, 4))
    assert attributed(here, a * b)
    assert not attributed(here, b * b)
    assert not attributed(here, np.nextafter(a * b, np.float32(9)))


def test_what_stands_around_a_convolution_is_drawn_in() -> None:
    weight, before = line(-1, 4, 2, 3, 3), line(0.7, 1, 2, 1, 1)
    scale, bias = line(1.3, 4, 1, 1), line(0.1, 4)
    nodes = [
        helper.make_node("Mul", ["x", "before"], ["a"]),
        helper.make_node("Conv", ["a", "weight", "bias"], ["b"]),
        helper.make_node("Mul", ["b", "scale"], ["y"]),
    ]
    given = {"weight": weight, "before": before, "scale": scale, "bias": bias}
    here = built(nodes, given, (1, 2, 5, 5))
    per_output = scale.reshape(4, 1, 1, 1)
    assert attributed(here, weight * before)
    assert attributed(here, weight * per_output)
    assert attributed(here, weight * before * per_output)
    assert attributed(here, bias * scale.reshape(4))
    assert not attributed(here, weight * per_output * per_output)
    assert not attributed(here, bias * before.reshape(2)[0])


def test_a_transposed_convolution_is_scaled_by_its_own_axis() -> None:
    weight, scale = line(-1, 4, 4, 2, 2), line(1.3, 4)
    given = {"weight": weight, "s": scale, "b": line(0.1, 4), "m": line(0.2, 4), "v": line(1, 4)}
    nodes = [
        helper.make_node("ConvTranspose", ["x", "weight"], ["a"]),
        helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["y"]),
    ]
    here = built(nodes, given, (1, 4, 5, 5))
    factor = scale / np.sqrt(given["v"] + np.float32(1e-5))
    assert attributed(here, weight * factor.reshape(1, 4, 1, 1))
    assert not attributed(here, weight * factor.reshape(4, 1, 1, 1))
    assert attributed(here, -given["m"] * factor + given["b"])


def test_what_another_reads_is_not_drawn_in() -> None:
    weight, scale = line(-1, 4, 2, 1, 1), line(1.3, 4, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "weight"], ["a"]),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    here = built(nodes, {"weight": weight, "scale": scale}, (1, 2, 5, 5))
    assert not attributed(here, weight * scale.reshape(4, 1, 1, 1))


def test_indices_and_axes_are_known_as_they_are_rewritten() -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["a"]),
        helper.make_node("Unsqueeze", ["a", "three"], ["b"]),
        helper.make_node("Slice", ["b", "s", "e", "one"], ["c"]),
        helper.make_node("Slice", ["c", "s", "e", "two"], ["d"]),
        helper.make_node("Gather", ["d", "last"], ["y"], axis=2),
    ]
    given = {"one": [1], "two": [2], "three": [3], "s": [0], "e": [9], "last": [[-1, 3, -4]]}
    here = built(nodes, {name: np.array(one) for name, one in given.items()}, (2, 7))
    assert attributed(here, np.array([1, 3]))  # both axes of the one that is left
    assert attributed(here, np.array([0, 0])) and attributed(here, np.array([1, 2]))
    assert attributed(here, np.array([[6, 3, 3]]))
    assert not attributed(here, np.array([[6, 3, 4]]))
    assert not attributed(here, np.array([3, 5]))


def test_matrices_of_one_operand_are_known_side_by_side() -> None:
    q, k, v = line(0, 4, 2), line(1, 4, 2), line(2, 4, 2)
    nodes = [
        helper.make_node("MatMul", ["x", name], [f"{name}x"]) for name in ("q", "k", "v")
    ]  # fmt: skip
    nodes += [
        helper.make_node("Add", ["qx", "kx"], ["a"]),
        helper.make_node("Add", ["a", "vx"], ["y"]),
    ]
    here = built(nodes, {"q": q, "k": k, "v": v}, (3, 4))
    assert attributed(here, np.concatenate([q, k, v], 1))
    assert not attributed(here, np.concatenate([q, k, k], 1))


def test_numbers_of_an_operator_are_known_where_the_model_has_it() -> None:
    alpha = np.array(np.float32(0.37))
    with_elu = built([helper.make_node("Elu", ["x"], ["y"], alpha=0.37)], {}, (1, 4))
    without = built([helper.make_node("Tanh", ["x"], ["y"])], {}, (1, 4))
    assert attributed(with_elu, alpha) and attributed(with_elu, -alpha)
    assert not attributed(without, alpha)
    assert not attributed(with_elu, np.nextafter(alpha, np.float32(1)))


def test_shapes_are_folded_for_the_given_inputs() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["z"]),
        helper.make_node("Add", ["x", "z"], ["y"]),
    ]
    here = built(nodes, {}, (3, 7))
    assert attributed(here, np.array([3, 7], np.int64))
    assert not attributed(here, np.array([3, 8], np.int64))


# What the compiler's own graph arranges.

GRAPH = """\
@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor((1, 2), dtype="float32")) -> R.Tensor((1, 2), dtype="float32"):
        with R.dataflow():
            lv: R.Tensor((2, 3), dtype="float32") = {expression}
            gv: R.Tensor((1, 2), dtype="float32") = R.add(x, x)
            R.output(gv)
        return gv
"""


def graph(expression: str) -> bytes:
    one = pool(value_of("dense"))
    label = f'metadata["ir.GenericConst"][sha256:{one.sha256}:float32:64x3]'
    return GRAPH.format(expression=expression.replace("DENSE", label)).encode()


def test_what_the_graph_splits_and_joins_is_known() -> None:
    dense = value_of("dense")
    cut = only(dense[:16].copy())
    assert account(cut).attributed == 0
    text = graph("R.strided_slice(DENSE, (0,), (0,), (16,), (1,), assume_inbound=False)")
    assert fresh(cut, text) == 1
    assert fresh(only(dense[:17].copy()), text) == 0
    joined = only(np.concatenate([dense, dense], 1))
    assert fresh(joined, graph("R.concat((DENSE, DENSE), axis=1)")) == 1
    assert fresh(cut, graph("R.split(DENSE, indices_or_sections=4, axis=0)")) == 1


def fresh(executable: Executable, text: bytes) -> int:
    """Looked up with nothing remembered of other graphs."""
    here = known_of(samples.model(), samples.INPUTS)
    return account_executable(here, executable, "object", text).attributed


@pytest.mark.parametrize(
    "expression",
    [
        'R.add(DENSE, R.const(9.9999999747524271e-07, "float32"))',
        'R.multiply(DENSE, R.const(1.0, "float32"))',
        "R.concat((DENSE, R.multiply(DENSE, DENSE)), axis=1)",
        'R.broadcast_to(R.const(0.1337, "float32"), R.shape([64, 3]))',
        "R.reshape(x, R.shape([2]))",
    ],
)
def test_arithmetic_of_the_graph_is_not_believed(expression: str) -> None:
    dense = value_of("dense")
    for value in (
        dense + np.float32(1e-6),
        dense * dense,
        np.full((64, 3), 0.1337, np.float32),
        np.concatenate([dense, dense * dense], 1),
    ):
        assert fresh(only(value), graph(expression)) == 0


def test_a_graph_that_cannot_be_read_is_no_answer() -> None:
    cut = only(value_of("dense")[:16].copy())
    found = account(cut, b"import os")
    assert found.attributed == 0 and found.unknown


# Numbers that are written into the program.


def numbers_of(graph_text: bytes) -> Accounted:
    main = relax_script.functions(graph_text, "graph")["main"]
    return account_graph_numbers(known(), main)


def immediates_of(text: bytes) -> Accounted:
    tree = relax_script.syntax(text, "tensor-ir")
    return account_immediates(known(), tir_script.functions_of(tree, "tensor-ir"))


def test_numbers_of_a_real_build_are_known() -> None:
    for found in (numbers_of(samples.text("graph")), immediates_of(samples.text("tensor-ir"))):
        assert found.things == found.attributed == 6
        assert not found.findings and not found.unknown


@pytest.mark.parametrize("number", ["6.0000004768371582", "5.9999995231628418", "-6.0", "1e-30"])
def test_a_number_that_is_a_little_off_is_found(number: str) -> None:
    old = b'R.const(6.0, "float32")'
    text = samples.text("graph")
    assert old in text
    found = numbers_of(text.replace(old, f'R.const({number}, "float32")'.encode()))
    assert found.attributed < found.things
    assert found.findings[0].stage == "graph" and "float32" in found.findings[0].what


@pytest.mark.parametrize(
    "new", ["T.float32(1e-45)", "T.float32(-0.0)", "T.float64(0.1)", "T.float32(3)"]
)
def test_a_number_in_a_function_that_no_operator_needs_is_found(new: str) -> None:
    text = samples.text("tensor-ir").decode()
    assert "T.float32(0.0)" in text
    found = immediates_of(text.replace("T.float32(0.0)", new).encode())
    assert found.attributed < found.things
    assert found.findings[0].stage == "tensor-ir"


def test_a_function_that_cannot_be_read_is_no_answer() -> None:
    text = samples.text("tensor-ir").decode()
    found = immediates_of(text.replace("T.float32(0.0)", "T.mystery(0.0)[1].x").encode())
    assert found.unknown


# The simplified model.


def simplified_with(change: str) -> onnx.ModelProto:
    model = samples.model("simplified")
    if change == "bit":
        held = next(one for one in model.graph.initializer if len(one.raw_data) > 100)
        data = bytearray(held.raw_data)
        data[64] ^= 4
        held.raw_data = bytes(data)
    elif change == "extra":
        added = numpy_helper.from_array(np.array([7.5, 1.25], np.float32), "payload")
        model.graph.initializer.append(added)
    elif change == "node":
        value = numpy_helper.from_array(np.array([7.5, 1.25], np.float32), "payload")
        model.graph.node.append(helper.make_node("Constant", [], ["payload"], value=value))
    else:
        body = helper.make_graph([], "body", [], [])
        body.initializer.append(numpy_helper.from_array(np.array([7.5], np.float32), "deep"))
        node = helper.make_node("If", ["x"], [], then_branch=body, else_branch=body)
        model.graph.node.append(node)
    return model


@pytest.mark.parametrize("change", ["bit", "extra", "node", "nested"])
def test_what_the_simplifier_changed_is_found(change: str) -> None:
    found = account_simplified(known(), simplified_with(change))
    assert found.attributed < found.things
    assert {one.stage for one in found.findings} == {"simplified"}


def test_data_elsewhere_are_refused() -> None:
    model = samples.model()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(NotInterpretedError, match="another file"):
        fold(model, samples.INPUTS)
