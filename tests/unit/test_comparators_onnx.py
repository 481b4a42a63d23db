"""ONNX: nodes by what they compute, initializers by content, and every other field by name."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from harness.comparators.interface import Bounds, Examined, NotThisFormatError, Part, Status
from harness.comparators.onnx_model import OnnxModel

BOUNDS = Bounds(parts=50, lines=30, seconds=10)


def weights(name: str = "w", *values: float) -> Any:
    values = values or (1, 2, 3, 4)
    return helper.make_tensor(
        name, TensorProto.FLOAT, (2, 2), struct.pack("<4f", *values), raw=True
    )


def model() -> Any:
    """x → MatMul w → Relu → LeakyRelu → y"""
    floats = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 2))
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 2))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("LeakyRelu", ["b"], ["y"], alpha=0.5),
    ]
    graph = helper.make_graph(nodes, "g", [floats], [result], [weights()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def examine(folder: Path, left: bytes, right: bytes, bounds: Bounds = BOUNDS) -> Examined:
    for name, content in (("left", left), ("right", right)):
        (folder / name).write_bytes(content)
    return OnnxModel().examine(folder / "left", folder / "right", bounds)


def changed(
    folder: Path, change: Callable[[Any], object], base: Callable[[], Any] = model
) -> Examined:
    right = base()
    change(right)
    return examine(folder, base().SerializeToString(), right.SerializeToString())


def only(found: Examined) -> Part:
    (part,) = found.parts
    return part


def signs(part: Part) -> list[str]:
    return [line for line in part.lines if line[0] in "+-"]


def test_equal_models(tmp_path: Path) -> None:
    found = changed(tmp_path, lambda right: None)
    assert (found.parts, found.notes, found.truncated) == ((), (), False)
    assert found.same > 5


def test_a_changed_attribute(tmp_path: Path) -> None:
    def change(right: Any) -> None:
        right.graph.node[2].attribute[0].f = 0.25

    part = only(changed(tmp_path, change))
    assert (part.kind, part.name, part.status) == ("node", "y", Status.CHANGED)
    assert signs(part)[0].startswith("-attribute alpha = 0.5 ")
    assert any(line.startswith("+attribute alpha = 0.25 ") for line in signs(part))


def test_a_changed_operator_and_input(tmp_path: Path) -> None:
    def change(right: Any) -> None:
        right.graph.node[1].op_type = "Neg"
        right.graph.node[2].input[0] = "a"

    parts = {part.name: part for part in changed(tmp_path, change).parts}
    assert signs(parts["b"])[:2] == ["-operator Relu", "+operator Neg"]
    assert signs(parts["y"]) == ["-input b", "+input a"]


def test_one_bit_of_an_initializer(tmp_path: Path) -> None:
    def change(right: Any) -> None:
        right.graph.initializer[0].CopyFrom(weights("w", 1, 2, 3.5, 4))

    part = only(changed(tmp_path, change))
    assert (part.kind, part.name, part.left_size) == ("initializer", "w", 16)
    assert part.note.startswith("float32 2x2: 1 byte differs, first at 0xa: 0x40 → 0x60")
    assert part.note.endswith("[2] 3.0 → 3.5")


def test_another_shape_of_the_same_data(tmp_path: Path) -> None:
    part = only(changed(tmp_path, lambda right: right.graph.initializer[0].dims.__setitem__(0, 4)))
    assert part.note.startswith("float32 2x2 → float32 4x2")


def test_renamed_values_turn_nothing_else_red(tmp_path: Path) -> None:
    def change(right: Any) -> None:
        nodes = right.graph.node
        right.graph.initializer[0].name = nodes[0].input[1] = "weights"
        nodes[0].output[0] = nodes[1].input[0] = "a2"
        nodes[1].output[0] = nodes[2].input[0] = "b2"

    found = changed(tmp_path, change)
    assert {(part.name, part.status, part.new_name) for part in found.parts} == {
        ("a", Status.RENAMED, "a2"), ("b", Status.RENAMED, "b2"), ("w", Status.RENAMED, "weights"),
    }  # fmt: skip
    assert found.notes == ("1 nodes read values that are only named otherwise",)


def test_a_node_in_between(tmp_path: Path) -> None:
    """What an inserted predicate looks like: one node more, and what reads it instead."""

    def change(right: Any) -> None:
        right.graph.node.insert(2, helper.make_node("Mul", ["b", "b"], ["evil"]))
        right.graph.node[3].input[0] = "evil"

    parts = {part.name: part for part in changed(tmp_path, change).parts}
    assert parts["evil"].status is Status.ADDED
    assert signs(parts["y"]) == ["-input b", "+input evil"]
    assert set(parts) == {"evil", "y"}


def test_a_removed_node_and_a_name(tmp_path: Path) -> None:
    def change(right: Any) -> None:
        right.graph.node[0].name = "other"
        del right.graph.node[1]
        right.graph.node[1].input[0] = "a"

    parts = {part.name: part for part in changed(tmp_path, change).parts}
    assert parts["b"].status is Status.REMOVED
    assert signs(parts["a"]) == ["-name first", "+name other"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model: opset_import", lambda m: setattr(m.opset_import[0], "version", 18)),
        ("model: ir_version", lambda m: setattr(m, "ir_version", 9)),
        ("model: producer_name", lambda m: setattr(m, "producer_name", "other")),
        ("model: doc_string", lambda m: setattr(m, "doc_string", "other")),
        ("model: metadata_props", lambda m: m.metadata_props.add(key="k", value="v")),
        ("graph: doc_string", lambda m: setattr(m.graph, "doc_string", "other")),
        ("graph: name", lambda m: setattr(m.graph, "name", "other")),
        ("graph: value_info", lambda m: m.graph.value_info.add(name="a")),
        (
            "graph input x",
            lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 3),
        ),
    ],
)
def test_every_other_field(tmp_path: Path, name: str, change: Callable[[Any], object]) -> None:
    part = only(changed(tmp_path, change))
    assert (part.kind, part.name) == ("field", name)
    assert signs(part)


def test_unknown_fields_are_seen(tmp_path: Path) -> None:
    base = model()
    right = model()
    right.MergeFromString(b"\xa0\x1f\x05")
    found = examine(tmp_path, base.SerializeToString(), right.SerializeToString())
    assert only(found).name == "model: unknown fields"
    right = model()
    right.graph.node[1].MergeFromString(b"\xa0\x1f\x05")
    found = examine(tmp_path, base.SerializeToString(), right.SerializeToString())
    assert only(found).name == "b"


def test_graphs_within_nodes(tmp_path: Path) -> None:
    def base() -> Any:
        made = model()
        branch = helper.make_graph(
            [helper.make_node("Relu", ["b"], ["t"])], "branch", [],
            [helper.make_tensor_value_info("t", TensorProto.FLOAT, (2, 2))],
        )  # fmt: skip
        made.graph.node.append(
            helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
        )
        return made

    def change(right: Any) -> None:
        right.graph.node[3].attribute[0].g.node[0].op_type = "Neg"

    parts = {part.name: part for part in changed(tmp_path, change, base).parts}
    inner = [name for name in parts if name.endswith("_branch: t")]
    assert len(inner) == 1
    assert signs(parts[inner[0]])[:2] == ["-operator Relu", "+operator Neg"]


def test_order_is_a_note(tmp_path: Path) -> None:
    def change(right: Any) -> None:
        first = right.graph.node.pop(0)
        right.graph.node.append(first)

    found = changed(tmp_path, change)
    assert (found.parts, found.notes) == ((), ("the nodes are in another order",))


def test_external_data_is_said_not_to_be_read(tmp_path: Path) -> None:
    def base() -> Any:
        made = model()
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
        return made

    found = changed(tmp_path, lambda right: None, base)
    assert found.notes == ("external data of 1 initializers was not read",)


def test_hostile_names_are_safe_to_print(tmp_path: Path) -> None:
    def change(right: Any) -> None:
        right.graph.node[1].output[0] = "\x1b[2J\u202e"
        right.graph.node[1].op_type = "\x1b[31m"

    found = changed(tmp_path, change)
    assert found.parts
    assert "\x1b" not in repr(found).replace("\\x1b", "")
    assert not any("\u202e" in part.name for part in found.parts)


def test_parts_are_bounded(tmp_path: Path) -> None:
    def change(right: Any) -> None:
        right.graph.node.extend(helper.make_node("Relu", ["a"], [f"n{n}"]) for n in range(80))

    found = changed(tmp_path, change)
    assert (len(found.parts), found.truncated) == (50, True)


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\x08", b"\x08\x08\x3a\xff"])
def test_what_is_no_model(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotThisFormatError):
        examine(tmp_path, model().SerializeToString(), content)


def test_a_truncated_model(tmp_path: Path) -> None:
    content = model().SerializeToString()
    with pytest.raises(NotThisFormatError):
        examine(tmp_path, content, content[:-1])


@pytest.mark.slow
def test_every_changed_byte_is_said(tmp_path: Path) -> None:
    content = model().SerializeToString()
    for at in range(len(content)):
        for flip in (1, 0x80):
            other = content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
            try:
                found = examine(tmp_path, content, other)
            except NotThisFormatError:
                continue
            assert found.parts or found.notes, (at, flip)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.slow
def test_hostile_models_end_in_an_answer(tmp_path: Path, data: st.DataObject) -> None:
    base = model().SerializeToString()
    content = bytearray(base)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=3))
    hostile = bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    for one in (bytes(content), hostile):
        try:
            found = examine(tmp_path, base, one)
        except NotThisFormatError:
            continue
        assert len(found.parts) <= BOUNDS.parts
        assert one == base or found.parts or found.notes


def test_a_model_that_onnx_itself_wrote(tmp_path: Path) -> None:
    """Reading it back and writing it again changes nothing."""
    content = model().SerializeToString()
    again = onnx.load_model_from_string(content).SerializeToString(deterministic=True)
    assert not examine(tmp_path, content, again).parts
