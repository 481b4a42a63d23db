"""An ONNX model read into digests, so that the model itself can be let go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-untyped]

from harness.comparators.interface import NotThisFormatError
from harness.comparators.onnx_message import digest, part_of, plain, unknown_text
from harness.modelfile import MAX_BYTES
from harness.text import printable

MAX_NAME = 160
MAX_VALUE = 400  # characters of one attribute that are shown
MAX_NODES = 500_000
MAX_TEXT = 64 * 1024  # bytes of one field that is shown
# Element types by ONNX's number, as far as we can show them.
TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
}  # fmt: skip
GRAPH_FIELDS = frozenset({"node", "initializer", "input", "output"})


@dataclass(frozen=True)
class Node:
    """``rows``: what it is, line by line, but for its inputs and outputs. Names are raw."""

    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    rows: tuple[str, ...]
    digest: bytes  # of everything but inputs, outputs and name
    where: str

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        return self.where, self.outputs

    def text(self, names: Mapping[str, str]) -> bytes:
        rows = [
            *self.rows[:1],
            *(f"input {printable(names.get(name, name), MAX_NAME)}" for name in self.inputs),
            *(f"output {printable(name, MAX_NAME)}" for name in self.outputs),
            *self.rows[1:],
        ]
        return "".join(f"{row}\n" for row in rows).encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Tensor:
    """``size``: of its data, in bytes. ``content``: the digest of type, shape and data."""

    name: str
    shape: str
    size: int
    content: bytes
    whole: bytes  # the digest of all of it but the name
    external: bool


@dataclass
class Summary:
    """A model. ``fields``: what is neither a node nor an initializer: name → (digest, text)."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    fields: dict[str, tuple[bytes, str]] = field(default_factory=dict)


def load(path: Path) -> Any:
    """The ModelProto; it has a graph, a version, an output and an opset, as a whole one must."""
    size = path.stat().st_size
    if not size or size > MAX_BYTES:
        raise NotThisFormatError(f"a model of {size:,} bytes")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, RecursionError):
        raise NotThisFormatError("not an ONNX model, or truncated") from None
    graph = model.HasField("graph") and model.graph.output
    if not graph or not model.ir_version or not model.opset_import:
        raise NotThisFormatError("not an ONNX model, or truncated")
    return model


def summary(model: Any) -> Summary:
    found = Summary()
    visit(model.graph, "graph", found, top=True)
    for function in model.functions:
        name = f"function {printable(function.domain, 80)}:{printable(function.name, 80)}"
        add_nodes(function.node, name, found)
        others(function, name, found, {"node"})
    others(model, "model", found, {"graph", "functions"})
    return found


def visit(graph: Any, where: str, found: Summary, *, top: bool = False) -> None:
    """A graph and, for the top one only, its initializers by name."""
    for tensor in graph.initializer:
        name = plain(tensor.name) if top else f"{where}: {plain(tensor.name)}"
        while name in found.tensors:
            name += " (again)"
        found.tensors[name] = tensor_summary(tensor, name)
    add_nodes(graph.node, where, found)
    for kind in ("input", "output"):
        for one in getattr(graph, kind):
            add_field(found, f"{where} {kind} {printable(one.name, MAX_NAME)}", one)
    others(graph, where, found, GRAPH_FIELDS)
    for kind in ("input", "output"):
        order = "\n".join(plain(one.name) for one in getattr(graph, kind))
        digest = hashlib.sha256(order.encode("utf-8", "surrogateescape")).digest()
        found.fields[f"{where}: order of {kind}s"] = digest, order


def add_nodes(nodes: Iterable[Any], where: str, found: Summary) -> None:
    for node in nodes:
        if len(found.nodes) >= MAX_NODES:
            raise NotThisFormatError(f"a model with more than {MAX_NODES:,} nodes")
        found.nodes.append(node_summary(node, where, found))


def node_summary(node: Any, where: str, found: Summary) -> Node:
    operator = f"{plain(node.domain)}.{plain(node.op_type)}".removeprefix(".")
    rows = [f"operator {printable(operator, MAX_NAME)}"]
    if node.name:
        rows.append(f"name {printable(node.name, MAX_NAME)}")
    if node.doc_string:
        rows.append(f"doc_string {printable(node.doc_string, MAX_VALUE)}")
    for prop in node.metadata_props:
        rows.append(f"metadata {printable(prop.key, 80)} = {printable(prop.value, MAX_VALUE)}")
    for attribute in node.attribute:
        rows.append(f"attribute {printable(attribute.name, MAX_NAME)} = {shown(attribute)}")
        inner = [attribute.g] if attribute.HasField("g") else []
        for number, graph in enumerate((*inner, *attribute.graphs)):
            output = printable(node.output[0] if node.output else "", 80)
            place = f"{where} / {output}.{printable(attribute.name, 80)}"
            visit(graph, f"{place}[{number}]" if number else place, found)
    bare = digest(node, {"input", "output", "name"})
    rows.append(f"digest of all but inputs, outputs and name {bare.hex()[:12]}")
    outputs, inputs = map(plain, node.output), map(plain, node.input)
    return Node(tuple(outputs), tuple(inputs), tuple(rows), bare, where)


def shown(attribute: Any) -> str:
    """An attribute's value; of what is long, a digest."""
    kind = onnx.AttributeProto.AttributeType
    values = {
        kind.FLOAT: lambda: repr(attribute.f),
        kind.INT: lambda: repr(attribute.i),
        kind.STRING: lambda: repr(printable(attribute.s, MAX_VALUE)),
        kind.FLOATS: lambda: repr(list(attribute.floats[:64])),
        kind.INTS: lambda: repr(list(attribute.ints[:64])),
        kind.STRINGS: lambda: repr([printable(one, 80) for one in attribute.strings[:64]]),
    }
    text = values[attribute.type]() if attribute.type in values else ""
    if attribute.type == kind.TENSOR:
        text = tensor_shape(attribute.t)
    return printable(f"{text} #{digest(attribute).hex()[:12]}", 2 * MAX_VALUE)


def tensor_summary(tensor: Any, name: str) -> Tensor:
    raw = hashlib.sha256(tensor.raw_data).digest()
    content = hashlib.sha256(
        digest(tensor, {"raw_data", "name", "doc_string", "metadata_props"}) + raw
    ).digest()
    whole = hashlib.sha256(digest(tensor, {"raw_data", "name"}) + raw).digest()
    external = bool(tensor.data_location or tensor.external_data)
    size = len(tensor.raw_data) if tensor.HasField("raw_data") else tensor.ByteSize()
    return Tensor(name, tensor_shape(tensor), size, content, whole, external)


def tensor_shape(tensor: Any) -> str:
    known = onnx.TensorProto.DataType.values()
    kind = TYPES.get(tensor.data_type, "")
    if not kind and tensor.data_type in known:
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    shape = "x".join(str(size) for size in tensor.dims[:16])
    return f"{kind or f'type {tensor.data_type}'} {shape or 'scalar'}"


def others(message: Any, where: str, found: Summary, seen: Iterable[str]) -> None:
    """All fields but those that are looked at elsewhere, and those that ONNX does not know."""
    for descriptor, _ in message.ListFields():
        if descriptor.name not in seen:
            one = part_of(message, {descriptor.name})
            add_field(found, f"{where}: {descriptor.name}", one)
    if unknown := unknown_text(UnknownFieldSet(message)):
        found.fields[f"{where}: unknown fields"] = hashlib.sha256(unknown.encode()).digest(), ""


def add_field(found: Summary, name: str, message: Any) -> None:
    text = str(message) if message.ByteSize() <= MAX_TEXT else ""
    while name in found.fields:
        name += " (again)"
    found.fields[name] = digest(message), text
