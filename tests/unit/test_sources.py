"""Model sources and model files: what is accepted, and the one line that each mistake gives."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from harness.errors import ModelError, UsageError
from harness.modelfile import shape_text
from harness.sources import ModelSource, check_model, fetch, parse_input


def tiny(shape: list[Any] | None, *, weights: list[Any] | None = None) -> Any:
    """A model with one input ``x`` of the given shape, added to itself."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("Add", ["x", "x"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y], initializer=weights or [])
    return helper.make_model(graph)


def saved(folder: Path, model: Any) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def external(location: str, **entries: str) -> Any:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def fails(path: Path, what: str, inputs: dict[str, tuple[int, ...]] | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        check_model(path, inputs or {})
    assert caught.value.what == what.replace("{}", str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value.hint


# --input


@given(
    st.text(min_size=1, max_size=20), st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=8)
)
def test_input_round_trip(name: str, sizes: list[int]) -> None:
    shape = tuple(sizes)
    assert parse_input(f"{name}={shape_text(shape)}") == (name, shape)


@given(st.text(max_size=40))
def test_any_input_is_a_shape_or_a_clear_error(text: str) -> None:
    try:
        name, shape = parse_input(text)
    except UsageError as problem:
        assert len(str(problem).splitlines()) == 1
    else:
        assert f"{name}=" in text
        assert min(shape) > 0


@pytest.mark.parametrize("text", ["", "x", "x=", "=1x2", "x=1x", "x=-1", "x=1,2", "x=1X2", "x=١"])
def test_input_that_is_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_input(text)
    assert caught.value.what == f"input {text!r} is not NAME=SHAPE"


@pytest.mark.parametrize("text", ["x=0", "x=1x0", "x=2147483648"])
def test_input_out_of_range(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_input(text)
    assert caught.value.what == f"input {text!r} has a dimension out of range"


# Shapes


def test_fixed_shapes_need_no_input(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny([1, 3]))
    model = check_model(path, {})
    assert (model.name, model.path, model.inputs) == ("m", str(path), {"x": (1, 3)})
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.external == ()
    assert check_model(path, {"x": (1, 3)}, name="other").name == "other"


@pytest.mark.parametrize("dimension", ["n", None, -1, 0])
def test_open_dimension(tmp_path: Path, dimension: object) -> None:
    path = saved(tmp_path, tiny([dimension, 3]))
    hint = fails(path, "m: input 'x' has open dimensions: ?x3")
    assert hint == "fix them, for example with --input x=1x3"
    assert check_model(path, {"x": (2, 3)}).inputs == {"x": (2, 3)}


def test_unknown_rank(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny(None))
    fails(path, "m: input 'x' has open dimensions: rank unknown")
    assert check_model(path, {"x": (2, 3)}).inputs == {"x": (2, 3)}


def test_contradictions(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny(["n", 3]))
    fails(path, "m: input 'x' has rank 2 (?x3), not 3 (1x3x1)", {"x": (1, 3, 1)})
    fails(path, "m: input 'x' is fixed to ?x3, not 1x4", {"x": (1, 4)})
    assert fails(path, "m: has no input 'y'", {"x": (1, 3), "y": (1,)}) == "its inputs are: x"


def test_initializers_are_no_inputs(tmp_path: Path) -> None:
    model = tiny([1])
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1]))
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [1], [0.5]))
    path = saved(tmp_path, model)
    assert check_model(path, {}).inputs == {"x": (1,)}
    fails(path, "m: has no input 'w'", {"w": (1,)})


def test_input_that_is_no_tensor(tmp_path: Path) -> None:
    model = tiny([1])
    model.graph.input.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    fails(saved(tmp_path, model), "m: input 's' is no tensor")


def test_hostile_names_are_shown_escaped(tmp_path: Path) -> None:
    model = tiny(["n"])
    model.graph.input[0].name = "\x1b[31mx"
    with pytest.raises(ModelError) as caught:
        check_model(saved(tmp_path, model), {})
    assert "\x1b" not in str(caught.value)


# Files that are no models


def test_not_onnx(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    fails(path, "m: {}: no such file")
    path.write_bytes(b"")
    fails(path, "m: {} is empty")
    for content in (b"hello, world\n" * 9, b"\x7fELF" + bytes(99), b"\xff" * 50):
        path.write_bytes(content)
        fails(path, "m: {} is not an ONNX model, or is truncated")


def test_directory(tmp_path: Path) -> None:
    fails(tmp_path, f"{tmp_path.name}: {{}}: no such file")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny([1, 3]))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            check_model(path, {})


@given(st.binary(max_size=300))
def test_any_bytes_are_a_model_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("m") / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        check_model(path, {})
    assert len(str(caught.value).splitlines()) == 1


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31 + 1)
    fails(path, "m: {} is larger than 2147483648 bytes")


# External data


def test_external_data(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/w.bin").write_bytes(bytes(32))
    (tmp_path / "a.bin").write_bytes(bytes(16))
    weights = [external("sub/w.bin", offset="16", length="16"), external("./a.bin")]
    model = check_model(saved(tmp_path, tiny([1], weights=weights)), {})
    assert model.external == (
        ("a.bin", hashlib.sha256(bytes(16)).hexdigest()),
        ("sub/w.bin", hashlib.sha256(bytes(32)).hexdigest()),
    )


WHERE = "m: external data of tensor 'w': "


@pytest.mark.parametrize(
    ("location", "entries", "line"),
    [
        ("/etc/passwd", {}, "'/etc/passwd' points outside the model's folder"),
        ("../w.bin", {}, "'../w.bin' points outside the model's folder"),
        ("a/../../w.bin", {}, "'a/../../w.bin' points outside the model's folder"),
        ("link", {}, "'link' is a link out of the model's folder"),
        ("folder/w.bin", {}, "'folder/w.bin' is a link out of the model's folder"),
        ("no.bin", {}, "'no.bin' is missing"),
        (".", {}, "'.' is missing"),
        ("", {}, "no usable location: ''"),
        ("w.bin", {"offset": "8", "length": "16"}, "'w.bin' ends at byte 16, before byte 24"),
        ("w.bin", {"length": "9"}, "its length is 9 bytes, but its shape needs 16"),
        ("w.bin", {"offset": "12"}, "'w.bin' ends at byte 16, before byte 28"),
        ("w.bin", {"offset": "-1"}, "offset '-1' is no count"),
        ("w.bin", {"length": "many"}, "length 'many' is no count"),
    ],
)
def test_external_data_that_cannot_be_used(
    tmp_path: Path, location: str, entries: dict[str, str], line: str
) -> None:
    folder = tmp_path / "models"
    outside = tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    for place in (folder, outside):
        (place / "w.bin").write_bytes(bytes(16))
    (folder / "link").symlink_to(outside / "w.bin")
    (folder / "folder").symlink_to(outside)
    path = saved(folder, tiny([1], weights=[external(location, **entries)]))
    fails(path, WHERE + line)


def attribute_tensor(model: Any, tensor: Any) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def subgraph_tensor(model: Any, tensor: Any) -> None:
    inner = helper.make_graph([], "inner", [], [], initializer=[tensor])
    model.graph.node.append(helper.make_node("If", ["x"], ["c"], then_branch=inner))


def function_tensor(model: Any, tensor: Any) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("d", "f", [], ["c"], [node], opset))


def sparse_tensor(model: Any, tensor: Any) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def nested_tensor(model: Any, tensor: Any) -> None:
    inner = tiny([1])
    subgraph_tensor(inner, tensor)
    model.graph.node.append(helper.make_node("Loop", ["x"], ["c"], body=inner.graph))


def undeclared_tensor(model: Any, tensor: Any) -> None:
    tensor.data_location = TensorProto.DEFAULT
    model.graph.initializer.append(tensor)


@pytest.mark.parametrize(
    "hide",
    [
        attribute_tensor,
        subgraph_tensor,
        function_tensor,
        sparse_tensor,
        nested_tensor,
        undeclared_tensor,
    ],
)
def test_external_data_is_found_wherever_it_hides(tmp_path: Path, hide: Any) -> None:
    model = tiny([1])
    hide(model, external("../w.bin"))
    fails(saved(tmp_path, model), f"{WHERE}'../w.bin' points outside the model's folder")


# Where models come from


def test_path(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny([1]))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert fetch(ModelSource("m", path=path)) == path
    assert fetch(ModelSource("m", path=path, sha256=digest)) == path
    with pytest.raises(ModelError) as caught:
        fetch(ModelSource("m", path=path, sha256="0" * 64))
    assert caught.value.what == f"m: {path} has sha256 {digest}, not {'0' * 64}"
    with pytest.raises(ModelError) as caught:
        fetch(ModelSource("m", path=tmp_path / "no"))
    assert caught.value.what == f"m: {tmp_path}/no: no such file"
