"""Whether a file is a model that can be compiled: ONNX, whole, and with the shapes asked for.

Reads structure only. Nothing that the file says is trusted: not its sizes, not where it says that
its weights lie.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from harness.errors import ModelError
from harness.models import Model
from harness.text import printable

MAX_BYTES = 2 * 2**30  # of one model file: what a protobuf message can hold


def check_model(
    path: Path, inputs: Mapping[str, tuple[int, ...]], *, name: str | None = None
) -> Model:
    """Read the model at ``path`` without trusting it, and fix its inputs to ``inputs``.

    The result names the shape of *every* input, and the digest of every file.
    name: what to call the model, by default the file's name without suffix.
    """
    called = name or path.stem
    try:
        content = _read(called, path)
        proto = _parse(called, path, content)
        external = tuple(
            (place, file_sha256(called, path.parent / place))
            for place in _external_files(called, path, proto)
        )
    except OSError as problem:
        raise ModelError(
            f"{called}: {problem.filename or path}: {problem.strerror}",
            "check the path and its permissions",
        ) from None
    shapes = _fixed_shapes(called, proto, inputs)
    digest = hashlib.sha256(content).hexdigest()
    return Model(called, str(path.absolute()), digest, shapes, external)


def shape_text(shape: tuple[int | None, ...]) -> str:
    """``1x?x48``: the shape as it is written on the command line, ``?`` for an open dimension."""
    return "x".join("?" if size is None else str(size) for size in shape) or "a scalar"


def file_sha256(name: str, path: Path) -> str:
    """The sha256 of the file at ``path``; ``name`` is the model's, for the error."""
    if not path.is_file():
        raise ModelError(f"{name}: {path}: no such file", "check the path")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(name: str, path: Path) -> bytes:
    if not path.is_file():
        raise ModelError(f"{name}: {path}: no such file", "check the path")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(
            f"{name}: {path} is larger than {MAX_BYTES} bytes",
            "keep its weights in external data files",
        )
    return path.read_bytes()


def _parse(name: str, path: Path, content: bytes) -> Any:
    """The ModelProto. Anything that is not one, or only the beginning of one, is an error."""
    whole = "check that the file is a whole ONNX model"
    if not content:
        raise ModelError(f"{name}: {path} is empty", whole)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except (DecodeError, RecursionError):
        raise ModelError(f"{name}: {path} is not an ONNX model, or is truncated", whole) from None
    if not proto.HasField("graph") or not proto.ir_version or not proto.graph.output:
        raise ModelError(f"{name}: {path} is not an ONNX model, or is truncated", whole)
    if not proto.opset_import:
        raise ModelError(f"{name}: {path} names no opset, or is truncated", whole)
    return proto


def _tensors(proto: Any) -> Iterator[Any]:
    """Every TensorProto of the model, wherever ONNX allows one."""
    graphs = [proto.graph]
    graphs += [part for training in proto.training_info for part in _training_graphs(training)]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
        for node in nodes:
            for attribute in node.attribute:
                yield attribute.t
                yield from attribute.tensors
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                if attribute.HasField("g"):
                    graphs.append(attribute.g)
                graphs.extend(attribute.graphs)
        nodes = []


def _training_graphs(training: Any) -> tuple[Any, Any]:
    return training.initialization, training.algorithm


def _external_files(name: str, path: Path, proto: Any) -> tuple[str, ...]:
    """The external data files, relative to the model's folder, sorted; each one checked."""
    folder = path.parent.resolve()
    sizes: dict[str, int] = {}
    for tensor in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL and not tensor.external_data:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        which = f"{name}: external data of tensor {printable(tensor.name, 80)!r}"
        place = entries.get("location", "")
        shown = printable(place, 120)
        if not place or "\0" in place or "\\" in place:
            raise ModelError(f"{which}: no usable location: {shown!r}", "export the model again")
        if place.startswith("/") or ".." in PurePosixPath(place).parts:
            raise ModelError(
                f"{which}: {shown!r} points outside the model's folder", "export the model again"
            )
        target = (folder / place).resolve()
        if not target.is_relative_to(folder):
            raise ModelError(
                f"{which}: {shown!r} is a link out of the model's folder",
                "put the file itself beside the model",
            )
        if not target.is_file():
            raise ModelError(f"{which}: {shown!r} is missing", "put the file beside the model")
        place = PurePosixPath(place).as_posix()
        size = sizes.setdefault(place, target.stat().st_size)
        offset, length = (_count(which, entries, key) for key in ("offset", "length"))
        needed = _least_bytes(tensor)
        if length is not None and length < needed:
            raise ModelError(
                f"{which}: its length is {length} bytes, but its shape needs {needed}",
                "export the model again",
            )
        end = (offset or 0) + (needed if length is None else length)
        if end > size:
            raise ModelError(
                f"{which}: {shown!r} ends at byte {size}, before byte {end}",
                "check that the file is whole",
            )
    return tuple(sorted(sizes))


def _least_bytes(tensor: Any) -> int:
    """How many bytes the tensor's shape and type take; 0 for a type that we do not know."""
    if (
        tensor.data_type not in onnx.TensorProto.DataType.values()
        or min(tensor.dims, default=0) < 0
    ):
        return 0
    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    if kind in ("UNDEFINED", "STRING"):
        return 0
    packed = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    bits = packed.get(kind) or 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    count: int = math.prod(tensor.dims)
    return (count * int(bits) + 7) // 8


def _count(which: str, entries: Mapping[str, str], key: str) -> int | None:
    value = entries.get(key)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
        raise ModelError(f"{which}: {key} {printable(value, 40)!r} is no count", "export it again")
    return int(value)


def _fixed_shapes(
    name: str, proto: Any, given: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """The shape of every input: the model's own where it is fixed, the given one elsewhere."""
    initial = {tensor.name for tensor in proto.graph.initializer}
    declared = {
        value.name: _declared_shape(name, value)
        for value in proto.graph.input
        if value.name not in initial
    }
    for key in given:
        if key not in declared:
            known = ", ".join(printable(known, 40) for known in list(declared)[:5])
            raise ModelError(
                f"{name}: has no input {printable(key, 80)!r}", f"its inputs are: {known or 'none'}"
            )
    return {key: _fixed(name, key, shape, given.get(key)) for key, shape in declared.items()}


def _fixed(
    name: str, key: str, own: tuple[int | None, ...] | None, given: tuple[int, ...] | None
) -> tuple[int, ...]:
    shown = printable(key, 80)
    if given is None:
        if own is None or None in own:
            example = shape_text(tuple(1 if size is None else size for size in own or (None,)))
            raise ModelError(
                f"{name}: input {shown!r} has open dimensions:"
                f" {'rank unknown' if own is None else shape_text(own)}",
                f"fix them, for example with --input {shown}={example}",
            )
        return tuple(size for size in own if size is not None)
    if own is not None and len(own) != len(given):
        raise ModelError(
            f"{name}: input {shown!r} has rank {len(own)} ({shape_text(own)}), not {len(given)}"
            f" ({shape_text(given)})",
            "correct the given shape",
        )
    pairs = zip(own or (), given, strict=False)
    if any(size is not None and size != wanted for size, wanted in pairs):
        raise ModelError(
            f"{name}: input {shown!r} is fixed to {shape_text(own or ())}, not {shape_text(given)}",
            "correct the given shape",
        )
    return given


def _declared_shape(name: str, value: Any) -> tuple[int | None, ...] | None:
    """The shape that the graph gives an input: None for an open dimension or an unknown rank.

    Some exporters write 0 or −1 for an open dimension.
    """
    if value.type.WhichOneof("value") != "tensor_type":
        raise ModelError(
            f"{name}: input {printable(value.name, 80)!r} is no tensor",
            "use a model with tensor inputs",
        )
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in tensor.shape.dim
    )
