"""Which batch items flow where, and paths past the network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.accounting import everything, past, reach, tir
from harness.accounting.interface import (
    Accounted,
    Array,
    Kind,
    NotInterpretedError,
    Step,
    Trace,
    Unaccounted,
)
from harness.accounting.onnx_values import Source, draw, evaluate
from tests.unit.accounting_lowered import (
    NAMES,
    constants,
    inputs,
    model,
    source,
    swapped,
    tensor_ir,
)


def batch(name: str, text: str) -> Accounted:
    return reach.account(text.encode(), constants(name), model(name), inputs(name))


def paths(name: str, text: str) -> Accounted:
    found = tir.interpret(text.encode(), inputs(name), constants(name))
    assert not found.unknown
    return past.account(found.trace, source(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_clean_build_reaches_what_the_model_reaches(name: str) -> None:
    for one in (batch(name, tensor_ir(name)), paths(name, tensor_ir(name))):
        assert not one.findings
        assert not one.unknown
        assert one.things == one.attributed > 0


@pytest.mark.parametrize("name", NAMES)
def test_each_output_item_depends_on_its_own_input_item(name: str) -> None:
    items = reach.items_of(inputs(name))
    program = tir.read(tensor_ir(name).encode())
    (sets,) = reach.flow(program, constants(name), inputs(name), items).outputs
    assert np.array_equal(sets[0, 0], np.full(sets.shape[2], 1))
    assert np.array_equal(sets[0, 1], np.full(sets.shape[2], 2))


ADDED = "T_add_intermediate[v_i0, v_i1, v_i2, v_i3]"
RELU = f"T.max({ADDED}, T.float32(0.0))"
LEAKS = [
    f"{RELU} + T_add_intermediate[T.int64(1) - v_i0, v_i1, v_i2, v_i3] * T.float32(1e-12)",
    f"{RELU} + T.if_then_else(v_i0 == T.int64(0) and v_i1 == T.int64(3),"
    " T_add_intermediate[T.int64(1), v_i1, v_i2, v_i3] * T.float32(1e-20), T.float32(0.0))",
    f"{RELU} + T.max(T_add_intermediate[T.int64(0), v_i1, v_i2, v_i3] - T.float32(1e9),"
    " T.float32(0.0))",
    f"{RELU} + T_add_intermediate[(v_i0 + v_i3) % T.int64(2), v_i1, v_i2, v_i3] * T.float32(1e-20)",
]


@pytest.mark.parametrize("value", LEAKS)
def test_a_leak_between_batch_items(value: str) -> None:
    text = swapped(
        tensor_ir("image"), f"= {RELU}", f"= {value}", after="def fused_conv2d1_add_relu("
    )
    found = batch("image", text)
    assert {one.kind for one in found.findings} == {Kind.REACH}
    assert "fused_conv2d1_add_relu" in found.findings[0].where
    assert "item" in found.findings[0].what


def test_what_stays_inside_an_item_is_no_leak() -> None:
    text = swapped(
        tensor_ir("image"), f"= {RELU}",
        f"= {RELU} + T_add_intermediate[v_i0, T.int64(7) - v_i1, v_i2, v_i3] * T.float32(1e-20)",
        after="def fused_conv2d1_add_relu(",
    )  # fmt: skip
    assert not batch("image", text).findings


def test_a_lookup_by_data_in_the_whole_batch() -> None:
    """What is looked up may be anywhere in what is indexed by data."""
    at = f'T.Cast("int64", T.min({RELU}, T.float32(1.0)))'
    text = swapped(
        tensor_ir("image"), f"= {RELU}",
        f"= {RELU} + T_add_intermediate[{at}, v_i1, v_i2, v_i3] * T.float32(1e-20)",
        after="def fused_conv2d1_add_relu(",
    )  # fmt: skip
    assert len(batch("image", text).findings) == 2


def bypass(text: str, value: str) -> str:
    """A function more, which adds something of the model's input to its last result."""
    function = (
        "    @T.prim_func(private=True, s_tir=True)\n"
        '    def more(p: T.Buffer((T.int64(2), T.int64(5)), "float32"),'
        ' x: T.Buffer((T.int64(2), T.int64(3), T.int64(16), T.int64(16)), "float32"),'
        ' q: T.Buffer((T.int64(2), T.int64(5)), "float32")):\n'
        "        for i, j in T.grid(T.int64(2), T.int64(5)):\n"
        '            with T.sblock("q"):\n'
        '                v_i, v_j = T.axis.remap("SS", [i, j])\n'
        f"                q[v_i, v_j] = p[v_i, v_j] + {value}\n\n"
    )
    text = swapped(text, "    @R.function\n", function + "    @R.function\n")
    call = 'R.call_tir(cls.more, (gv, x), out_ty=R.Tensor((2, 5), dtype="float32"))'
    text = text.replace(
        "            R.output(gv)", f"            gv2 = {call}\n            R.output(gv2)"
    )
    return text.replace("        return gv\n", "        return gv2\n")


@pytest.mark.parametrize(
    "value",
    [
        "x[v_i, T.int64(0), T.int64(0), v_j] * T.float32(1e-12)",
        'T.Cast("float32", x[v_i, T.int64(0), T.int64(0), v_j] == T.float32(1.5))',
        "T.max(x[v_i, T.int64(0), T.int64(0), v_j] - T.float32(100.0), T.float32(0.0))",
    ],
)
def test_a_path_past_the_network(value: str) -> None:
    found = paths("image", bypass(tensor_ir("image"), value))
    assert found.findings
    assert all(one.kind is Kind.REACH for one in found.findings)
    assert found.findings[0].path[0] == "input"
    assert "more" in found.findings[0].path[-1]
    # Each item by itself: no leak between them.
    assert not batch("image", bypass(tensor_ir("image"), value)).findings


def test_constants_may_be_given_as_bytes() -> None:
    held = {digest: value.tobytes() for digest, value in constants("image").items()}
    found = reach.account(
        tensor_ir("image").encode(), held, model("image"), inputs("image")
    )  # fmt: skip
    assert found.things == found.attributed == 2
    cut = {digest: value[:-1] for digest, value in held.items()}
    assert reach.account(
        tensor_ir("image").encode(), cut, model("image"), inputs("image")
    ).unknown  # fmt: skip


def test_too_many_items_are_refused() -> None:
    with pytest.raises(NotInterpretedError):
        reach.items_of({"x": np.zeros((2, reach.MOST_ITEMS + 1, 3))})


def rows(many: int, value: str) -> Accounted:
    """A build of Y = X + X, of so many items of 4 elements, that computes ``value``."""
    shape = f'T.Buffer((T.int64({many}), T.int64(4)), "float32")'
    text = (
        "@I.ir_module\nclass Module:\n"
        "    @T.prim_func(private=True, s_tir=True)\n"
        f"    def f(X: {shape}, Y: {shape}):\n"
        f"        for i, j in T.grid(T.int64({many}), T.int64(4)):\n"
        '            with T.sblock("Y"):\n'
        '                v_i, v_j = T.axis.remap("SS", [i, j])\n'
        f"                Y[v_i, v_j] = {value}\n\n"
        "    @R.function\n"
        f'    def main(x: R.Tensor(({many}, 4), dtype="float32")):\n'
        "        cls = Module\n"
        "        with R.dataflow():\n"
        f'            gv = R.call_tir(cls.f, (x,), out_ty=R.Tensor(({many}, 4), dtype="float32"))\n'
        "            R.output(gv)\n"
        "        return gv\n"
    )
    made = small(helper.make_node("Add", ["x", "x"], ["y"]), {}, many)
    return reach.account(text.encode(), {}, made, draw(made, {"x": (many, 4)}))


MANY = 2 * reach.WORD + 3
ITSELF = "X[v_i, v_j] + X[v_i, v_j]"


def test_more_items_than_are_followed_at_once() -> None:
    found = rows(MANY, ITSELF)
    assert not found.findings
    assert not found.unknown
    assert found.things == found.attributed == MANY


@pytest.mark.parametrize(
    ("one", "other"),
    [(0, MANY - 1), (MANY - 1, 0), (reach.WORD - 1, reach.WORD), (MANY - 2, MANY - 1)],
)
def test_a_leak_between_items_that_are_not_followed_at_once(one: int, other: int) -> None:
    leak = f"X[T.int64({one}), v_j] * T.float32(1e-20)"
    found = rows(
        MANY, f"{ITSELF} + T.if_then_else(v_i == T.int64({other}), {leak}, T.float32(0.0))"
    )
    assert not found.unknown
    assert [item.path[0] for item in found.findings] == [f"item {one} of input x"]


INDEX = 'T.Cast("int64", T.max(T.min(X[v_i, v_j], T.float32(3.0)), T.float32(0.0)))'


def test_a_lookup_by_data_stays_in_the_item_that_it_names() -> None:
    """Along the dimension that is indexed by data it may be anywhere, along others it is not."""
    assert not rows(3, f"{ITSELF} + X[v_i, {INDEX}] * T.float32(1e-20)").findings
    assert len(rows(3, f"{ITSELF} + X[{INDEX}, v_j] * T.float32(1e-20)").findings) == 3
    other = f"X[(v_i + T.int64(1)) % T.int64(3), {INDEX}]"
    assert len(rows(3, f"{ITSELF} + {other} * T.float32(1e-20)").findings) == 3


def test_what_cannot_be_interpreted_is_unknown() -> None:
    text = swapped(tensor_ir("image"), RELU, RELU.replace("T.max", "T.evil"))
    found = batch("image", text)
    assert found.unknown
    assert found.attributed == 0


# All that accounting asks of a build.


def reach_of(name: str, text: str) -> tuple[list[Unaccounted], list[str]]:
    """Only what is about reach: the other stages are not there."""
    files = {"tensor-ir/module.py": text.encode()}
    files |= {f"constants/{digest}.bin": v.tobytes() for digest, v in constants(name).items()}
    shapes = {key: value.shape[1:] for key, value in inputs(name).items()}
    found = [
        one for one in everything.account(model(name), shapes, files) if one.kind is Kind.REACH
    ]
    return (
        [finding for one in found for finding in one.findings],
        [why for one in found for why in one.unknown if "graph/module.py" not in why],
    )


@pytest.mark.parametrize("value", LEAKS)
def test_a_leak_between_batch_items_of_a_whole_build(value: str) -> None:
    text = swapped(
        tensor_ir("image"), f"= {RELU}", f"= {value}", after="def fused_conv2d1_add_relu("
    )
    findings, unknown = reach_of("image", text)
    assert not unknown
    assert any("item" in one.what for one in findings)


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_clean_build(name: str) -> None:
    assert reach_of(name, tensor_ir(name)) == ([], [])


def test_what_cannot_be_asked_about_items_is_unknown() -> None:
    _, unknown = reach_of("image", tensor_ir("image").replace("T.max(", "T.evil("))
    assert unknown


# What the model's items depend on.


def small(node: onnx.NodeProto, held: dict[str, Array], batch: int = 2) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, 4])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    given = [numpy_helper.from_array(value, name) for name, value in held.items()]
    return helper.make_model(
        helper.make_graph([node], "g", [x], [y], given),
        opset_imports=[helper.make_opsetid("", 17)],
    )


def dependence(made: onnx.ModelProto, batch: int = 2) -> list[list[int]]:
    """For each element of the output the items that it may depend on."""
    drawn = draw(made, {"x": (batch, 4)})
    items = reach.items_of(drawn)
    (sets,) = reach.depends(made, drawn, items)
    united: list[list[int]] = reach.by_item(sets, len(items)).tolist()
    return united


def test_an_element_that_stays_the_same_shares_what_its_item_depends_on() -> None:
    """The first two are 0, whatever the input is."""
    mask = np.array([[0, 0, 1, 1]], np.float32)
    made = small(helper.make_node("Mul", ["x", "m"], ["y"]), {"m": mask})
    assert dependence(made) == [[1] * 4, [2] * 4]


def test_a_batch_in_another_dimension() -> None:
    mask = np.array([[0, 0, 1, 1]], np.float32).T @ np.ones((1, 4), np.float32)
    made = small(helper.make_node("Gemm", ["m", "x"], ["y"], transB=1), {"m": mask})
    assert dependence(made) == [[1, 2]] * 4


def test_a_model_that_mixes_its_items() -> None:
    made = small(helper.make_node("CumSum", ["x", "axis"], ["y"]), {"axis": np.array(0)})
    assert dependence(made) == [[1] * 4, [3] * 4]


def test_more_items_than_are_replaced_at_once() -> None:
    many = 2 * reach.AT_ONCE + 1
    made = small(helper.make_node("Neg", ["x"], ["y"]), {}, many)
    assert dependence(made, many) == [[1 << at] * 4 for at in range(many)]


# A value that the model itself computes again, of itself and something beside.


def guarded() -> Source:
    """``w * (0 if m == 0 else s / m)``, where s is ``x`` plus numbers and m their maximum."""
    node = helper.make_node
    rng = np.random.default_rng(5)
    held = {"b": rng.random((1, 8)).astype(np.float32), "zero": np.zeros((), np.float32),
            "w": rng.random((8, 3)).astype(np.float32)}  # fmt: skip
    nodes = [
        node("Add", ["x", "b"], ["s"]), node("ReduceMax", ["s"], ["m"], axes=[1]),
        node("Div", ["s", "m"], ["d"]), node("Equal", ["m", "zero"], ["e"]),
        node("Where", ["e", "zero", "d"], ["v"]), node("MatMul", ["v", "w"], ["p"]),
        node("Tanh", ["p"], ["y"]),
    ]  # fmt: skip
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3])
    made = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y],
                          [numpy_helper.from_array(v, name) for name, v in held.items()]),
        opset_imports=[helper.make_opsetid("", 17)],
    )  # fmt: skip
    return evaluate(made, draw(made, {"x": (1, 8)}))


NODES = {"s": "x", "m": "s", "d": "sm", "e": "m", "v": "de", "p": "v", "y": "p"}


def lowered(joins: dict[str, str]) -> Accounted:
    """The model's own steps; ``joins``: what comes in besides, too small to be seen."""
    given = guarded()
    names = ["x", *NODES, *(f"{name}'" for name in joins)]
    keys = {name: key for key, name in enumerate(names)}
    values = {keys[name]: given.values[name[0]] for name in names}
    latest = dict.fromkeys("xsmdevpy", "")
    steps = []
    for name, operands in NODES.items():
        read = tuple(keys[one + latest[one]] for one in operands)
        steps.append(Step(name, name, read, keys[name]))
        if name in joins:
            more = (keys[name], *(keys[one] for one in joins[name]))
            steps.append(Step(f"{name}'", "join", more, keys[f"{name}'"]))
            latest[name] = "'"
    trace = Trace("tensor-ir", {"x": 0}, (keys["y" + latest["y"]],), tuple(steps), values)
    return past.account(trace, given)


def test_a_value_that_the_model_computes_again_of_itself() -> None:
    found = lowered({})
    assert not found.findings
    assert found.things == found.attributed == 3


@pytest.mark.parametrize(
    ("where", "what"), [("v", "x"), ("p", "x"), ("y", "x"), ("m", "x"), ("v", "s"), ("s", "x")]
)
def test_what_joins_there_is_found_all_the_same(where: str, what: str) -> None:
    """``v`` is where the model joins its own: nothing else may come in there."""
    found = lowered({where: what})
    assert found.findings
