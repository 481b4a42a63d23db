"""Attacks where no random input leads: what the model decides itself is another thing there."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from harness.accounting import relax
from harness.accounting.elsewhere import Elsewhere, Valuation
from harness.accounting.fingerprint import same
from harness.accounting.interface import Accounted, Kind, Trace
from harness.accounting.match import account
from harness.accounting.onnx_values import draw, evaluate
from harness.accounting.ranges import Ranges
from harness.accounting.redraw import Draw, Plan, deciding, linear
from tests.unit import accounting_lowered as lowered
from tests.unit.accounting_samples import label, model_of, reference, weights

FAR = "where no random input came"
node = helper.make_node


class Case:
    """A model of one input ``x`` and one output ``y``, and what accounting says of a program."""

    def __init__(self, nodes: list[onnx.NodeProto], shape: tuple[int, ...], **held: Any) -> None:
        value = helper.make_tensor_value_info
        self.shape = shape
        self.model = model_of(
            nodes,
            [value("x", TensorProto.FLOAT, shape)],
            [value("y", TensorProto.FLOAT, list("abcd")[: len(shape)])],
            {
                name: one if isinstance(one, np.ndarray) else np.asarray(one, np.float32)
                for name, one in held.items()
            },
        )
        self.inputs = draw(self.model, {"x": shape})
        self.source = evaluate(self.model, self.inputs)

    def account(self, body: str, *constants: np.ndarray[Any, Any]) -> tuple[Accounted, ...]:
        lines = "\n".join(f"        {line.strip()}" for line in body.strip().splitlines())
        text = (
            "@I.ir_module\nclass Module:\n    @R.function\n"
            f'    def main(x: R.Tensor({self.shape}, dtype="float32")) -> R.Object:\n{lines}\n'
            "        return gv\n"
        )
        held = relax.constants_of(self.model)
        held |= {label(one).split(":")[1]: one.tobytes() for one in constants}
        trace = relax.trace(text.encode(), self.inputs, held, known=self.source.index)
        return account(trace, self.source)


def told(found: tuple[Accounted, ...]) -> str:
    return "\n".join(f"{one.where}: {one.what}" for each in found for one in each.findings)


def clean(found: tuple[Accounted, ...]) -> bool:
    return not any(each.findings or each.unknown for each in found)


def scalar(value: float) -> str:
    return f'R.const({value!r}, "float32")'


# A unit that sleeps.

ASLEEP = np.array([-1e5, *[0.1] * 5], np.float32)
FIRST, SECOND = weights(4, 6), weights(6, 3, phase=1)


@pytest.fixture(scope="module")
def network() -> Case:
    return Case(
        [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["a"]),
         node("Relu", ["a"], ["r"]), node("MatMul", ["r", "v"], ["y"])],
        (2, 4), w=FIRST, b=ASLEEP, v=SECOND,
    )  # fmt: skip


NETWORK = f"""m = R.matmul(x, {reference(FIRST)}, out_dtype=None)
a = R.add(m, {reference(ASLEEP)})
r = R.nn.relu(a)
gv = R.matmul(r, {reference(SECOND)}, out_dtype=None)"""


def test_the_network_as_it_is(network: Case) -> None:
    assert clean(network.account(NETWORK))


def test_a_unit_that_sleeps_counts_otherwise(network: Case) -> None:
    more = SECOND.copy()
    more[0] *= 1.01
    found = network.account(NETWORK.replace(label(SECOND), label(more)), more)
    assert f"computes something else than MatMul #3 {FAR}" in told(found)
    assert found[0].findings[0].kind is Kind.GRAPH
    assert found[0].attributed < found[0].things


def test_a_unit_that_sleeps_wakes_elsewhere(network: Case) -> None:
    """The maximum is the model's own, and takes one value of it; only its other side is not 0."""
    steep = np.array([-1e-9, *[0.0] * 5], np.float32)
    other = NETWORK.replace(
        "r = R.nn.relu(a)", f"n = R.multiply(a, {reference(steep)})\nr = R.maximum(a, n)"
    )
    assert told(network.account(other, steep))
    found = network.account(
        NETWORK.replace("r = R.nn.relu(a)", "r = R.nn.leakyrelu(a, alpha=1e-9)")
    )
    assert told(found)


def test_a_unit_that_is_always_awake_has_its_maximum_elsewhere() -> None:
    case = Case(
        [node("Add", ["x", "far"], ["a"]), node("Relu", ["a"], ["r"]),
         node("Mul", ["r", "two"], ["y"])],
        (2, 6), far=1e4, two=2,
    )  # fmt: skip
    text = f"a = R.add(x, {scalar(1e4)})\nr = R.nn.relu(a)\ngv = R.multiply(r, {scalar(2.0)})"
    assert clean(case.account(text))
    moved = text.replace("R.nn.relu(a)", f"R.maximum(a, {scalar(-50.0)})")
    assert FAR in told(case.account(moved))
    # It is there, but what follows does not take it.
    passed = text.replace("R.multiply(r,", "R.multiply(a,").replace(
        "gv =", f"z = R.multiply(r, {scalar(0.0)})\np ="
    )
    assert FAR in told(case.account(passed + "\ngv = R.add(p, z)"))


# Bounds that are never met.


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("R.clip(x, -60000, 60000)", "R.clip(x, -60000, 60600)"),
        ("R.clip(x, -60000, 60000)", "R.clip(x, -1000000, 60000)"),
        (
            "R.clip(x, -60000, 60000)",
            f"R.maximum(x, {scalar(-6e4)})\nc = R.minimum(c, {scalar(9e9)})",
        ),
    ],
)
def test_a_bound_that_no_random_input_meets_is_moved(right: str, wrong: str) -> None:
    case = Case(
        [node("Clip", ["x", "low", "high"], ["c"]), node("Mul", ["c", "half"], ["y"])],
        (2, 40), low=-6e4, high=6e4, half=0.5,
    )  # fmt: skip
    body = f"c = {right}\ngv = R.multiply(c, {scalar(0.5)})"
    assert clean(case.account(body))
    found = case.account(body.replace(right, wrong))
    assert FAR in told(found)
    assert found[1].findings


def test_a_hard_sigmoid_ends_elsewhere() -> None:
    case = Case(
        [node("HardSigmoid", ["x"], ["h"], alpha=1e-4, beta=0.5), node("Mul", ["h", "x"], ["y"])],
        (2, 30),
    )
    text = f"""s = R.multiply(x, {scalar(1e-4)})
a = R.add(s, {scalar(0.5)})
h = R.clip(a, 0, 1)
gv = R.multiply(h, x)"""
    assert clean(case.account(text))
    assert FAR in told(case.account(text.replace("R.clip(a, 0, 1)", "R.clip(a, 0, 2)")))
    assert FAR in told(case.account(text.replace("R.clip(a, 0, 1)", "R.clip(a, -9, 1)")))


def test_steps_of_an_operator_that_are_its_result_by_chance_are_no_finding() -> None:
    """On random inputs neither bound is met: three values are the hard sigmoid's, one really is."""
    case = Case([node("HardSigmoid", ["x"], ["y"], alpha=1e-4, beta=0.5)], (2, 30))
    text = f"""s = R.multiply(x, {scalar(1e-4)})
a = R.add(s, {scalar(0.5)})
b = R.maximum(a, {scalar(0.0)})
gv = R.minimum(b, {scalar(1.0)})"""
    assert clean(case.account(text))
    assert FAR in told(case.account(text.replace(scalar(1.0), scalar(1.5))))


def test_the_side_of_a_choice_that_is_never_taken() -> None:
    case = Case(
        [node("Greater", ["x", "far"], ["g"]), node("Mul", ["x", "two"], ["t"]),
         node("Where", ["g", "t", "x"], ["w"]), node("Mul", ["w", "half"], ["y"])],
        (2, 40), far=5e3, two=2, half=0.5,
    )  # fmt: skip
    text = f"""g = R.greater(x, {scalar(5e3)})
t = R.multiply(x, {scalar(2.0)})
w = R.where(g, t, x)
gv = R.multiply(w, {scalar(0.5)})"""
    assert clean(case.account(text))
    for old, new in (
        ("R.where(g, t, x)", f"R.where(g, {scalar(7.0)}, x)"),
        (scalar(5e3), scalar(5.1e3)),
        ("R.greater", "R.less"),
        ("R.where(g, t, x)", "R.where(g, x, x)"),
    ):
        assert told(case.account(text.replace(old, new, 1))), new


def test_padding_of_a_maximum_where_nothing_is_negative() -> None:
    shape = (1, 2, 8, 8)
    pool = node("MaxPool", ["a"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    case = Case([node("Add", ["x", "far"], ["a"]), pool], shape, far=1e4)
    text = f"""a = R.add(x, {scalar(1e4)})
p = R.nn.pad(a, pad_width=[0, 0, 0, 0, 1, 1, 1, 1], pad_value=-3.4028234663852886e38, \
pad_mode="constant")
gv = R.nn.max_pool2d(p, pool_size=[3, 3], strides=[2, 2], dilation=[1, 1], padding=[0, 0, 0, 0], \
ceil_mode=False, count_include_pad=False, layout="NCHW", out_layout="NCHW")"""
    assert clean(case.account(text))
    assert FAR in told(case.account(text.replace("-3.4028234663852886e38", "0")))
    # Behind a maximum with 0, nothing can be negative, and both are the same.
    case = Case([node("Relu", ["x"], ["a"]), pool], shape)
    other = text.replace(f"R.add(x, {scalar(1e4)})", "R.nn.relu(x)")
    assert clean(case.account(other))
    assert clean(case.account(other.replace("-3.4028234663852886e38", "0")))


@pytest.mark.parametrize(
    ("operator", "right", "wrong"),
    [
        ("Floor", "R.floor(a)", "R.trunc(a)"),
        ("Abs", "R.abs(a)", "R.sign(a)"),
        ("Round", "R.round(a)", "R.floor(a)"),
    ],
)
def test_what_differs_for_negative_numbers_only(operator: str, right: str, wrong: str) -> None:
    case = Case(
        [node("Add", ["x", "far"], ["a"]), node(operator, ["a"], ["f"]),
         node("Mul", ["f", "half"], ["y"])],
        (2, 40), far=1e4, half=0.5,
    )  # fmt: skip
    text = f"a = R.add(x, {scalar(1e4)})\nf = {right}\ngv = R.multiply(f, {scalar(0.5)})"
    assert clean(case.account(text))
    assert told(case.account(text.replace(right, wrong)))


def test_the_slope_of_a_leaky_relu_that_never_leaks() -> None:
    case = Case(
        [node("Add", ["x", "far"], ["a"]), node("LeakyRelu", ["a"], ["y"], alpha=0.01)],
        (2, 6), far=1e4,
    )  # fmt: skip
    text = f"a = R.add(x, {scalar(1e4)})\ngv = R.nn.leakyrelu(a, alpha=0.01)"
    assert clean(case.account(text))
    assert FAR in told(case.account(text.replace("alpha=0.01", "alpha=0.0101")))


# Values that are one on random inputs, and several elsewhere.


def test_two_values_that_differ_nowhere_but_beyond_a_bound_are_not_exchanged() -> None:
    case = Case(
        [node("Relu", ["x"], ["r"]), node("Clip", ["x", "zero", "high"], ["c"]),
         node("Mul", ["r", "two"], ["s"]), node("Mul", ["c", "three"], ["t"]),
         node("Sub", ["s", "t"], ["y"])],
        (2, 40), zero=0, high=6e4, two=2, three=3,
    )  # fmt: skip
    assert case.source.classes["r"] == case.source.classes["c"]
    text = f"""r = R.nn.relu(x)
c = R.clip(x, 0, 60000)
s = R.multiply(r, {scalar(2.0)})
t = R.multiply(c, {scalar(3.0)})
gv = R.subtract(s, t)"""
    assert clean(case.account(text))
    swapped = text.replace("multiply(r", "multiply(q").replace("multiply(c", "multiply(r")
    assert FAR in told(case.account(swapped.replace("multiply(q", "multiply(c")))


def test_what_the_model_computes_twice_may_be_computed_once() -> None:
    case = Case(
        [node("Relu", ["x"], ["r"]), node("Relu", ["x"], ["s"]), node("Add", ["r", "s"], ["y"])],
        (2, 40),
    )
    assert clean(case.account("r = R.nn.relu(x)\ngv = R.add(r, r)"))


def test_a_value_and_itself_turned_around() -> None:
    """Of one row for all, a transposed copy is the same on every input, in another order."""
    case = Case(
        [node("ReduceMean", ["x"], ["m"], axes=[0, 1], keepdims=1),
         node("Expand", ["m", "four"], ["e"]), node("Transpose", ["e"], ["t"], perm=[1, 0]),
         node("Mul", ["t", "w"], ["y"])],
        (4, 4), four=np.array([4, 4], np.int64), w=weights(4, 4),
    )  # fmt: skip
    text = f"""m = R.mean(x, axis=[0, 1], keepdims=True)
e = R.broadcast_to(m, R.shape([4, 4]))
t = R.permute_dims(e, axes=[1, 0])
gv = R.multiply(t, {reference(weights(4, 4))})"""
    assert clean(case.account(text))


# What decides though nothing is to be decided.


def test_a_softmax_that_takes_off_something_else_than_its_maximum() -> None:
    """In float64 that changes nothing, until a number is too large or too small for it."""
    case = Case([node("Softmax", ["x"], ["y"], axis=-1)], (2, 16))
    text = """m = R.max(x, axis=[-1], keepdims=True)
d = R.subtract(x, m)
e = R.exp(d)
s = R.sum(e, axis=[-1], keepdims=True)
gv = R.divide(e, s)"""
    assert clean(case.account(text))
    other = text.replace("R.max(x,", "R.max(n,").replace(
        "m = ", f"n = R.multiply(x, {scalar(5.0)})\nm = ", 1
    )
    assert FAR in told(case.account(other))


def test_an_epsilon_that_matters_for_small_numbers_only() -> None:
    case = Case(
        [node("Mul", ["x", "x"], ["s"]), node("ReduceMean", ["s"], ["m"], axes=[1]),
         node("Add", ["m", "small"], ["a"]), node("Sqrt", ["a"], ["r"]),
         node("Div", ["x", "r"], ["y"])],
        (2, 40), small=1e-5,
    )  # fmt: skip
    text = f"""s = R.multiply(x, x)
m = R.mean(s, axis=[1], keepdims=True)
a = R.add(m, {scalar(1e-5)})
r = R.sqrt(a)
gv = R.divide(x, r)"""
    assert clean(case.account(text))
    assert FAR in told(case.account(text.replace("1e-05", "1.5e-05")))


def test_what_is_not_the_models_is_not_excused_by_what_hides_it() -> None:
    """A norm is off for small numbers; the maximum behind it is tried on these as well."""
    bias, gain = weights(8), weights(8, phase=1)
    case = Case(
        [node("LayerNormalization", ["x", "g", "b"], ["n"], axis=-1, epsilon=1e-5),
         node("ReduceMax", ["n"], ["y"], axes=[1], keepdims=0)],
        (2, 8), g=gain, b=bias,
    )  # fmt: skip
    text = f"""n = R.nn.layer_norm(x, {reference(gain)}, {reference(bias)}, axes=[-1], \
epsilon=1e-05, center=True, scale=True)
gv = R.max(n, axis=[1], keepdims=False)"""
    assert clean(case.account(text))
    found = case.account(text.replace("1e-05", "1.2e-05"))
    assert "something else than LayerNormalization #0" in told(found)


# Tensor IR.


def of_tensor_ir(text: str, name: str = "image") -> Trace:
    held = {digest: array.tobytes() for digest, array in lowered.constants(name).items()}
    known = lowered.source(name).index
    return relax.trace(text.encode(), lowered.inputs(name), held, known=known)


def test_an_operator_in_tensor_ir_does_something_else_far_away() -> None:
    text = lowered.tensor_ir("image")
    source = lowered.source("image")
    assert clean(account(of_tensor_ir(text), source))
    found = re.search(r"T\.max\((\w+\[[^]]*\]), T\.float32\(0(?:\.0)?\)\)", text)
    assert found
    for other in (f"T.float32(-7000.0) - {found[1]}", f"{found[1]} * T.float32(1e-5)"):
        wrong = text.replace(found[0], f"T.max({found[1]}, {other})", 1)
        assert told(account(of_tensor_ir(wrong), source)), other


@pytest.mark.parametrize("name", ["image", "text"])
def test_what_is_computed_again_of_the_same_values_is_the_same(name: str) -> None:
    trace = of_tensor_ir(lowered.tensor_ir(name), name)
    trials = len(next(iter(trace.values.values())))
    assert len(trace.again) >= 20
    for one in dict.fromkeys(trace.again.values()):
        for key, value in zip(one.results, one.compute(trace.values, trials), strict=True):
            known = trace.values[key]
            assert same(known, np.broadcast_to(value, known.shape)), one


# What is drawn.


def floats(plan: Plan, root: int, size: int, low: float, high: float) -> NDArray[np.float64]:
    values = Draw(plan, root, size, "f", (low, high)).values(np.dtype(np.float64))
    return values.astype(np.float64)


def test_every_element_is_drawn_with_either_sign_and_near_each_constant() -> None:
    plan = deciding(1, [6.0, 0.3], 4000, 1000, curved=False)
    rows = floats(plan, 2, 1000, -np.inf, np.inf)
    assert rows.shape == (len(plan.trials), 1000)
    assert ((rows > 0).any(axis=0) & (rows < 0).any(axis=0)).all()
    for constant in (6.0, 0.3):
        near = rows[np.abs(rows - constant) <= 0.02 * constant]
        assert (near < constant).any() and (near == constant).any() and (near > constant).any()
    assert np.array_equal(rows, floats(plan, 2, 1000, -np.inf, np.inf))
    other = deciding(2, [6.0, 0.3], 4000, 1000, curved=False)
    assert not np.array_equal(rows, floats(other, 2, 1000, -np.inf, np.inf))


def test_small_tensors_are_not_drawn_alike() -> None:
    """Else what of two values is taken would not show."""
    plan = deciding(1, [6.0, 0.3], 40, 20, curved=False)
    one, other = (floats(plan, root, 20, -np.inf, np.inf) for root in (2, 3))
    assert (one == other).mean() < 0.1


def test_what_is_drawn_stays_in_its_range() -> None:
    plan = deciding(1, [6.0, -3.0, 100.0], 4000, 300, curved=False)
    for low, high in ((0.0, np.inf), (-np.inf, 2.0), (-1.0, 1.0), (5.0, 5.0), (-6e4, 6e4)):
        rows = floats(plan, 3, 300, low, high)
        assert rows.min() >= low and rows.max() <= high
    whole = Draw(plan, 3, 300, "i", (-7, 90)).values(np.dtype(np.int32)).astype(np.int64)
    assert whole.min() == -7 and whole.max() == 90
    truth = Draw(plan, 3, 300, "b", (-np.inf, np.inf)).values(np.dtype(np.bool_))
    assert truth.dtype == np.bool_ and (truth.any(axis=0) & ~truth.all(axis=0)).all()


def test_a_large_tensor_is_tried_twice() -> None:
    plan = deciding(1, [6.0, 3.0, 1e-5], 10**7, 10**6, curved=False)
    assert len(plan.trials) == 2
    rows = floats(plan, 2, 10**5, -np.inf, np.inf)
    assert ((rows[0] < 0) != (rows[1] < 0)).mean() > 0.8


def test_the_range_of_a_value_is_what_it_can_be() -> None:
    case = Case(
        [node("Relu", ["x"], ["r"]), node("Sigmoid", ["r"], ["s"]), node("Mul", ["r", "s"], ["m"]),
         node("Clip", ["x", "low", "high"], ["c"]), node("Concat", ["c", "s"], ["k"], axis=1),
         node("Sub", ["k", "low"], ["d"]), node("Neg", ["d"], ["n"]),
         node("ReduceSum", ["n"], ["t"], keepdims=1), node("Add", ["t", "m"], ["y"])],
        (2, 6), low=-3, high=6,
    )  # fmt: skip
    ranges = Ranges(case.source).of
    inf = float("inf")
    wanted = {
        "x": (-inf, inf), "r": (0, inf), "s": (0, 1), "m": (0, inf), "c": (-3, 6), "k": (-3, 6),
        "d": (0, 9), "n": (-9, 0), "t": (-inf, 0), "y": (-inf, inf),
    }  # fmt: skip
    assert {name: ranges[name] for name in wanted} == wanted


def test_names_that_differ_elsewhere_are_drawn_apart() -> None:
    case = Case(
        [node("Relu", ["x"], ["r"]), node("Clip", ["x", "zero", "high"], ["c"]),
         node("Relu", ["x"], ["s"]), node("Reshape", ["s", "flat"], ["f"]),
         node("Sum", ["r", "c", "s"], ["y"])],
        (2, 6), zero=0, high=6e4, flat=np.array([12], np.int64),
    )  # fmt: skip
    model = Elsewhere(case.source, 1)
    assert model.root("r") == "r" and model.root("c") == "c" and model.root("s") == "r"
    drawn = Valuation(model, linear(1))
    assert np.array_equal(drawn.value("r"), drawn.value("s"))
    assert np.array_equal(drawn.value("f").ravel(), drawn.value("s").ravel())
    assert not np.array_equal(drawn.value("r"), drawn.value("c"))


def test_what_cannot_be_computed_again_is_unknown(network: Case) -> None:
    held = relax.constants_of(network.model)
    lines = "\n".join(f"        {line}" for line in NETWORK.splitlines())
    text = (
        "@I.ir_module\nclass Module:\n    @R.function\n"
        f'    def main(x: R.Tensor((2, 4), dtype="float32")) -> R.Object:\n{lines}\n'
        "        return gv\n"
    )
    trace = relax.trace(text.encode(), network.inputs, held, known=network.source.index)
    without = type(trace)(
        trace.stage, trace.inputs, trace.outputs, trace.steps, trace.values, trace.constants
    )
    graph, decisions = account(without, network.source)
    assert "cannot be computed again" in graph.unknown[0]
    assert graph.unknown == decisions.unknown
