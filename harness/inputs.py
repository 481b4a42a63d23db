"""Seeded inputs for a model: the same on every machine, of the types and shapes that it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from harness.errors import ModelError
from harness.text import printable

MAX_BYTES = 2**30  # of all cases together
_INTEGERS = 256  # whole numbers are drawn below this: bytes, and most vocabularies hold them
_FLOATS = (np.float16, np.float32, np.float64)


def seeded(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], seed: int, count: int
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """``count`` cases, inputs in the model's own order.

    Floating-point values are drawn from a standard normal distribution; whole numbers from 0 up,
    below 256 and below the length of a table that they are looked up in. Raises ModelError for a
    type that has no such values, and where the cases would be too large.
    """
    initial = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in initial]
    types = {value.name: _dtype(value) for value in values}
    size = sum(math.prod(shapes[name]) * kind.itemsize for name, kind in types.items())
    if size * count > MAX_BYTES:
        raise ModelError(f"{count} cases of inputs take more than {MAX_BYTES} bytes")
    below = {name: _below(model.graph, name) for name in types}
    cases = []
    for number in range(count):
        source = np.random.default_rng((seed, number))
        cases.append(
            {name: _draw(source, kind, shapes[name], below[name]) for name, kind in types.items()}
        )
    return cases


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    kind: np.dtype[Any] = np.dtype(
        onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    )
    if kind.kind not in "biu" and kind.type not in _FLOATS:
        shown = printable(value.name, 80)
        raise ModelError(f"input {shown!r} is of type {kind}: no values are drawn for it")
    return kind


def _draw(
    source: np.random.Generator, kind: np.dtype[Any], shape: tuple[int, ...], below: int
) -> np.ndarray[Any, Any]:
    if kind.kind == "b":
        return source.integers(0, 2, shape).astype(kind)
    if kind.kind in "iu":
        most = min(below, int(np.iinfo(kind).max) + 1)
        return source.integers(0, most, shape).astype(kind)
    return source.standard_normal(shape).astype(kind)


def _below(graph: onnx.GraphProto, name: str) -> int:
    """The length of the shortest table that ``name`` is looked up in, by way of nodes that keep
    its values; 256 at most.
    """
    tables = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    carried, limit = {name}, _INTEGERS
    for node in graph.node:  # in topological order, as ONNX asks for
        if node.op_type == "Gather" and len(node.input) > 1 and node.input[1] in carried:
            shape = tables.get(node.input[0], ())
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            if shape and -len(shape) <= axis < len(shape):
                limit = min(limit, max(1, shape[axis]))
        if node.op_type in _KEEP and node.input and node.input[0] in carried:
            carried.update(node.output)
    return limit


_KEEP = {"Cast", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice"}
