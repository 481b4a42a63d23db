"""Constants that the imported graph makes of others by arranging them anew: split, joined, taken.

A compiler folds these while it lowers the graph. No arithmetic is believed here: what an addition
or a product of constants gives has to follow from the model itself (``folding``), or a weight could
be changed by adding next to nothing to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from harness.accounting.folding import Source
from harness.accounting.interface import Array, NotInterpretedError
from harness.accounting.relax_script import (
    Call,
    Constant,
    Dims,
    Expression,
    Item,
    Items,
    Literal,
    Number,
    Reference,
    functions,
)
from harness.text import printable

MAX_VALUE = 2**29  # bytes of one value
MAX_TOTAL = 2**31  # of all
SHOWN = 80

Value = Array | tuple[Array, ...]
Tensor = Callable[[str], Array | None]  # of a digest
Scalar = Callable[[str, bytes], bool]  # a type and a number in it


class _NotConstant(Exception):  # noqa: N818 (an answer, not a failure)
    """The expression depends on data, or holds what is not evaluated here."""


def fold_graph(text: bytes, tensor: Tensor, scalar: Scalar) -> tuple[list[Source], list[str]]:
    """What ``main`` of an imported graph arranges anew, and what could not be read.

    tensor: the known constant of this sha256. scalar: whether this number is known.
    """
    try:
        main = functions(text, "graph").get("main")
    except NotInterpretedError as error:
        return [], [printable(str(error), 2 * SHOWN)]
    if main is None:
        return [], ["the graph has no function main"]
    values: dict[int, Value] = {}
    found: list[Source] = []
    total = 0
    for binding in main.bindings:
        try:
            value = _value(binding.value, values, tensor, scalar)
        except (_NotConstant, ValueError, TypeError, IndexError, KeyError, OverflowError):
            continue
        values[binding.key] = value
        several = value if isinstance(value, tuple) else (value,)
        total += sum(one.nbytes for one in several)
        if total > MAX_TOTAL:
            return found, ["the graph makes too much of its constants"]
        what = printable(f"{binding.name} of the graph, known constants arranged anew", 2 * SHOWN)
        found += [Source(what, one) for one in several]
    return found, []


def _value(node: Expression, values: Mapping[int, Value], tensor: Tensor, scalar: Scalar) -> Value:
    match node:
        case Reference(key=key) if key in values:
            return values[key]
        case Constant(digest=digest, dtype=dtype, shape=shape):
            raw = tensor(digest)
            if raw is not None and str(raw.dtype) == dtype and raw.size == math.prod(shape):
                return raw.reshape(shape)
        case Number(value=number, dtype=dtype):
            held = np.asarray(number).astype(dtype)
            if scalar(dtype, held.tobytes()):
                return held
        case Items(items=items):
            return tuple(_one(item, values, tensor, scalar) for item in items)
        case Item(of=of, index=index):
            several = _value(of, values, tensor, scalar)
            if isinstance(several, tuple):
                return several[index]
        case Call():
            return _called(node, values, tensor, scalar)
    raise _NotConstant


def _one(node: Expression, values: Mapping[int, Value], tensor: Tensor, scalar: Scalar) -> Array:
    value = _value(node, values, tensor, scalar)
    if isinstance(value, tuple):
        raise _NotConstant
    return value


def _called(node: Call, values: Mapping[int, Value], tensor: Tensor, scalar: Scalar) -> Value:
    if not node.arguments:
        raise _NotConstant
    given = _value(node.arguments[0], values, tensor, scalar)
    rest = node.arguments[1:]
    if isinstance(given, tuple):
        axis = _whole(node.keywords.get("axis", Literal(0)))
        if sum(one.nbytes for one in given) > MAX_VALUE:
            raise _NotConstant
        if node.operator == "R.concat":
            return np.concatenate(given, axis=axis)
        if node.operator == "R.stack":
            return np.stack(given, axis=axis)
        raise _NotConstant
    match node.operator, rest:
        case "R.reshape", (Dims(shape=shape),):
            return given.reshape(shape)
        case "R.broadcast_to", (Dims(shape=shape),):
            if math.prod(shape) * given.itemsize > MAX_VALUE:
                raise _NotConstant
            return np.broadcast_to(given, shape)
        case "R.permute_dims", ():
            return given.transpose(_sides(node.keywords.get("axes", Literal(None))))
        case "R.expand_dims", ():
            return np.expand_dims(given, _sides(node.keywords["axis"]) or ())
        case "R.squeeze", ():
            return np.squeeze(given, _sides(node.keywords.get("axis", Literal(None))))
        case "R.flip", ():
            return np.flip(given, _whole(node.keywords["axis"]))
        case "R.split", ():
            parts = node.keywords["indices_or_sections"]
            axis = _whole(node.keywords.get("axis", Literal(0)))
            where = _whole(parts) if isinstance(parts, Literal) else list(_sides(parts) or ())
            return tuple(np.split(given, where, axis))
        case "R.strided_slice", (Items(), Items(), Items(), *strides):
            axes, begins, ends = (_sides(one) or () for one in rest[:3])
            steps = _sides(strides[0]) if strides else None
            cut = [slice(None)] * given.ndim
            for at, axis in enumerate(axes):
                cut[axis] = slice(begins[at], ends[at], steps[at] if steps else 1)
            return given[tuple(cut)]
        case "R.take", (indices,):
            which = _one(indices, values, tensor, scalar)
            axis = _whole(node.keywords.get("axis", Literal(0)))
            if which.size * given.nbytes // max(1, given.shape[axis]) > MAX_VALUE:
                raise _NotConstant
            return np.take(given, which.astype(np.int64), axis)
    raise _NotConstant


def _whole(node: Expression) -> int:
    if isinstance(node, Literal) and type(node.value) is int:
        return node.value
    raise _NotConstant


def _sides(node: Expression) -> tuple[int, ...] | None:
    if isinstance(node, Literal) and node.value is None:
        return None
    if isinstance(node, Items):
        return tuple(_whole(item) for item in node.items)
    return (_whole(node),)
