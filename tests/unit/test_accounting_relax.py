"""Relax text, read and interpreted; hostile text, refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.accounting import relax
from harness.accounting.interface import Choice, NotInterpretedError, Trace
from harness.accounting.onnx_values import draw, evaluate
from harness.accounting.relax_script import (
    Binding,
    Call,
    Constant,
    Global,
    Items,
    Literal,
    Number,
    Reference,
    Type,
    functions,
    syntax,
)
from tests.unit.accounting_samples import image_model, reference, script, text_model, weights

X = np.random.default_rng(3).standard_normal((3, 2, 4, 6, 8))
V = np.random.default_rng(4).standard_normal((3, 3, 5))
SHAPED = {"x": X, "v": V}


def module(body: str, *, parameters: str = 'v: R.Tensor((3, 5), dtype="float32")') -> str:
    lines = "\n".join(f"            {line}" for line in body.split("\n"))
    return (
        "# from tvm.script import ir as I\n\n@I.ir_module\nclass Module:\n    @R.function\n"
        f"    def main({parameters}) -> R.Object:\n        with R.dataflow():\n{lines}\n"
        "            R.output(gv)\n        return gv\n"
    )


def bindings(body: str) -> tuple[Binding, ...]:
    return functions(module(body).encode(), "module.py")["main"].bindings


def run(body: str, **inputs: NDArray[np.generic]) -> Trace:
    given = inputs or {"v": V}
    parameters = ", ".join(
        f'{name}: R.Tensor({value.shape[1:]}, dtype="{kind(value)}")'
        for name, value in given.items()
    )
    return relax.trace(module(body, parameters=parameters).encode(), given, {})


def kind(value: NDArray[np.generic]) -> str:
    return "float32" if value.dtype.kind == "f" else str(value.dtype)


def result(body: str, **inputs: NDArray[np.generic]) -> NDArray[np.generic]:
    trace = run(body, **inputs)
    return trace.values[trace.outputs[0]]


# Reading.


def test_both_spellings_of_a_constant_are_read() -> None:
    for spelling in ("ir.GenericConst", "relax.expr.Constant"):
        label = reference(weights(3, 5)).replace("ir.GenericConst", spelling)
        (binding,) = bindings(f"gv = R.add(v, {label})")
        assert isinstance(binding.value, Call)
        constant = binding.value.arguments[1]
        assert isinstance(constant, Constant)
        assert (constant.dtype, constant.shape) == ("float32", (3, 5))


def test_a_name_that_is_bound_again_is_another_value() -> None:
    first, second, third = bindings("lv = R.negative(v)\nlv = R.exp(lv)\ngv = R.abs(lv)")
    assert first.name == second.name == "lv" and first.key != second.key
    assert isinstance(second.value, Call) and isinstance(third.value, Call)
    assert second.value.arguments == (Reference(first.key, "lv"),)
    assert third.value.arguments == (Reference(second.key, "lv"),)


def test_calls_of_tensor_functions_are_read() -> None:
    text = module('gv = R.call_tir(cls.f, (v, v), out_ty=R.Tensor((3, 5), dtype="float32"))')
    text = text.replace("        with R.d", "        cls = Module\n        with R.d")
    (binding,) = functions(text.encode(), "m")["main"].bindings
    v = Reference(0, "v")
    assert binding.value == Call(
        "R.call_tir", (Global("f"), Items((v, v))), {"out_ty": Type((3, 5), "float32")}
    )


def test_numbers_are_read() -> None:
    values = ['R.const("-inf", "float32")', 'R.const(-2, "int64")', 'R.const(True, "bool")']
    (binding,) = bindings(f"gv = R.stack(({', '.join(values)}), axis=0)")
    assert isinstance(binding.value, Call)
    assert binding.value.arguments == (
        Items((Number(-np.inf, "float32"), Number(-2, "int64"), Number(True, "bool"))),
    )
    assert binding.value.keywords == {"axis": Literal(0)}


HOSTILE = {
    "depth": "gv = R.add(" + "(" * 200 + "v" + ")" * 200 + ", v)",
    "a chain": "gv = R.add(" + "-" * 3000 + "1, v)",
    "a sum": "gv = R.add(" + "+".join("1" * 3000) + ", v)",
    "attributes": "gv = R.add(v" + ".a" * 5000 + ", v)",
    "subscripts": "gv = v" + "[0]" * 900,
    "a loop": "while True:\n    pass",
    "a branch": "if v:\n    gv = v\nelse:\n    gv = v",
    "a call of something else": "gv = open('x')",
    "a lambda": "gv = R.add(v, lambda: v)",
    "an import": "import os",
    "an unknown name": "gv = R.add(v, w)",
    "a starred argument": "gv = R.add(*v)",
    "an f-string": 'gv = R.add(v, f"{v}")',
    "a symbolic shape": 'gv: R.Tensor((n, 5), dtype="float32") = R.exp(v)',
    "a walrus": "gv = R.add(v, (w := v))",
    "a string that goes on": 'gv = R.add(v, """x""")',
    "a backslash": "gv = R.add(v, \\\n v)",
    "a zero byte": "gv = R.add(v, v)\0",
    "letters that only look alike": "gv = R.аdd(v, v)",
    "a very long line": "gv = R.add(v, v)" + " " * 300_000,
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused(body: str) -> None:
    with pytest.raises(NotInterpretedError):
        functions(module(body).encode(), "module.py")


def test_code_after_the_result_is_refused() -> None:
    with pytest.raises(NotInterpretedError):
        functions((module("gv = R.exp(v)") + "        lv = R.exp(gv)\n").encode(), "m")


def test_two_functions_of_one_name_are_refused() -> None:
    text = module("gv = R.exp(v)")
    twice = text + text[text.index("    @R.function") :]
    with pytest.raises(NotInterpretedError, match="two functions"):
        functions(twice.encode(), "m")


# Interpreting.


@pytest.mark.parametrize("name", ["image", "text"])
def test_what_tvm_imports_computes_what_the_model_does(name: str) -> None:
    model = image_model() if name == "image" else text_model()
    inputs = draw(model, {"x": (1, 3, 16, 16), "ids": (1, 20)})
    source = evaluate(model, inputs)
    trace = relax.trace(script(name, model).encode(), inputs, relax.constants_of(model))
    assert np.allclose(trace.values[trace.outputs[0]], source.values["y"], rtol=1e-6, atol=1e-12)
    for step in trace.steps:
        assert all(key < step.result for key in step.operands)


OPERATORS = [
    ('gv: R.Tensor((3, 5), dtype="float32") = R.clip(v, -0.5, 1)', np.clip(V, -0.5, 1)),
    ("gv = R.sum(v, axis=[1], keepdims=True)", V.sum(2, keepdims=True)),
    ("gv = R.variance(v, axis=[0], keepdims=False)", V.var(1)),
    ("gv = R.nn.softmax(v, axis=-1)", np.exp(V) / np.exp(V).sum(-1, keepdims=True)),
    ("gv = R.permute_dims(v, axes=None)", V.transpose(0, 2, 1)),
    ("gv = R.strided_slice(v, (1,), (1,), (99,), (2,), assume_inbound=False)", V[:, :, 1::2]),
    ("gv = R.strided_slice(v, (1,), (-1,), (-99,), (-1,), assume_inbound=False)", V[:, :, ::-1]),
    ("gv = R.concat((v, v), axis=1)", np.concatenate([V, V], 2)),
    ("gv = R.split(v, indices_or_sections=[2], axis=1)", V[:, :, :2]),
    ("lv = R.split(v, indices_or_sections=[2], axis=1)\ngv = lv[1]", V[:, :, 2:]),
    ('gv = R.astype(v, dtype="int32")', np.trunc(V).astype(np.int32)),
    ('gv = R.argmax(v, axis=1, keepdims=False)', V.argmax(2)),
    ('gv = R.nn.leakyrelu(v, alpha=0.1)', np.where(V > 0, V, 0.1 * V)),
    ("gv = R.flip(v, axis=1)", V[:, :, ::-1]),
    ("gv = R.cumsum(v, axis=1, dtype=None, exclusive=False)", V.cumsum(2)),
    ('gv = R.nn.pad(v, pad_width=[0, 0, 1, 2], pad_value=0.5, pad_mode="constant")',
     np.pad(V, [(0, 0), (0, 0), (1, 2)], constant_values=0.5)),
]  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), OPERATORS)
def test_operators(body: str, wanted: NDArray[np.generic]) -> None:
    found = result(body)
    assert found.shape == wanted.shape and np.allclose(found, wanted)


DECIDES = [
    ("gv = R.add(v, v)", []),
    ("gv = R.multiply(v, R.const(2.0, 'float32'))", []),
    ("gv = R.multiply(v, v)", [Choice.PRODUCT]),
    ("gv = R.divide(v, R.const(2.0, 'float32'))", []),
    ("gv = R.divide(R.const(2.0, 'float32'), v)", [Choice.PRODUCT]),
    ("gv = R.clip(v, 0, 6)", [Choice.MAX, Choice.MIN]),
    ("gv = R.nn.relu(v)", [Choice.MAX]),
    ("gv = R.exp(v)", [Choice.CURVE]),
    ("gv = R.floor(v)", [Choice.ROUND]),
    ("gv = R.sign(v)", [Choice.SIGN]),
    ('gv = R.astype(v, dtype="int8")', [Choice.ROUND]),
    ('gv = R.astype(v, dtype="bool")', [Choice.COMPARE]),
    ('gv = R.astype(v, dtype="float16")', [Choice.ROUND]),
    ('gv = R.astype(v, dtype="float64")', []),
    ("lv = R.less(v, v)\ngv = R.where(lv, v, v)", [Choice.COMPARE, Choice.SELECT]),
    ('lv = R.isnan(R.const(1.0, "float32"))\ngv = R.where(lv, v, v)', []),
    ('lv = R.topk(v, k=2, axis=1, ret_type="both", largest=True, dtype="int32")\ngv = lv[0]',
     [Choice.SORT, Choice.SORT]),
]  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), DECIDES)
def test_decisions_are_those_on_data(body: str, wanted: list[Choice]) -> None:
    found = [one.choice for step in run(body).steps for one in step.decisions]
    assert found == wanted


def test_integers_wrap_and_lose_their_upper_bits() -> None:
    given = np.array([[300], [5], [-1]], np.int32)
    trace = run('gv = R.astype(i, dtype="uint8")', i=given)
    assert trace.values[trace.outputs[0]].ravel().tolist() == [44, 5, 255]
    assert [one.choice for one in trace.steps[0].decisions] == [Choice.DIVIDE]


REFUSED = {
    "an operator": "gv = R.nn.mystery(v)",
    "an attribute that is not known": "gv = R.sum(v, axis=[1], keepdims=True, fast=True)",
    "an attribute that is left out": "gv = R.sum(v, axis=[1])",
    "a layout": "gv = R.nn.max_pool1d(v, pool_size=[1], strides=[1], dilation=[1], "
    'padding=[0, 0], ceil_mode=False, count_include_pad=False, layout="NWC", out_layout="NWC")',
    "a norm that trains": "gv = R.nn.batch_norm(v, v, v, v, v, axis=1, epsilon=1e-05, center=True,"
    " scale=True, momentum=0.1, training=True)",
    "shapes that do not fit": "gv = R.matmul(v, v, out_dtype=None)",
    "an index out of range": 'gv = R.take(v, R.const(9, "int64"), axis=0, mode="fast")',
    "a type that is not the declared one": 'gv: R.Tensor((3, 5), dtype="int32") = R.exp(v)',
    "a shape that is not the declared one": 'gv: R.Tensor((5, 3), dtype="float32") = R.exp(v)',
    "a tensor by keyword": "gv = R.sum(v, axis=v, keepdims=True)",
    "an unknown constant": f"gv = R.add(v, {reference(weights(3, 5))})",
    "a number of no type": 'gv = R.add(v, R.const(1.0, "float1"))',
    "a call of a function that is not there": "gv = R.call_tir(v, (v,), "
    'out_ty=R.Tensor((3, 5), dtype="float32"))',
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_an_error(body: str) -> None:
    with pytest.raises(NotInterpretedError):
        run(body)


def test_inputs_have_to_fit() -> None:
    text = module("gv = R.exp(v)").encode()
    with pytest.raises(NotInterpretedError, match="takes 1 inputs"):
        relax.trace(text, {"a": V, "b": V}, {})
    with pytest.raises(NotInterpretedError, match="has shape"):
        relax.trace(text, {"a": X}, {})


def test_constants_have_to_be_of_their_shape() -> None:
    held = weights(3, 5)
    text = module(f"gv = R.add(v, {reference(held)})".replace(":3x5]", ":5x5]")).encode()
    digest = reference(held).split("sha256:")[1][:64]
    with pytest.raises(NotInterpretedError, match="not of its shape"):
        relax.trace(text, {"v": V}, {digest: held.tobytes()})


def test_hostile_text_writes_no_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        syntax(b"class Module:\n    a = 1 is 1\n    c = 1()\n", "a file")
