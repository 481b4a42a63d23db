"""Tensors that begin anywhere in their memory, as LLVM IR reads them.

Where tensor IR lets a tensor begin at a number that is known when the function is called, the code
below is given that number and adds it to every index. Here it is taken away, where it has been
added once and as such; then both read from the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from harness.accounting.llvm_lift import Lifted
from harness.accounting.tir_script import (
    Apply,
    Expression,
    For,
    If,
    Load,
    Number,
    Statement,
    Store,
    Variable,
    walk,
)


class UnlikeError(Exception):
    """The two functions do not correspond, store by store: says where and how."""


def from_beginnings(lifted: Lifted, offsets: Mapping[int, int]) -> Lifted:
    """``offsets``: number of a parameter → number of the tensor that begins there. Raises
    UnlikeError where one is used for anything else, or left out.
    """
    if not offsets:
        return lifted
    begins = {f"argument {of}": f"scalar {at}" for at, of in offsets.items()}
    return replace(lifted, body=tuple(begun(one, begins) for one in lifted.body))


def begun(one: Statement, begins: Mapping[str, str]) -> Statement:
    """The statement, with each tensor read from its beginning. ``begins``: base → the variable that
    every index into it has to have added, once and as such, and that is used for nothing else.
    """
    match one:
        case Store():
            if one.buffer in begins:
                raise UnlikeError("a tensor with an offset is written to")
            indices = tuple(without(index, begins) for index in one.indices)
            return Store(one.buffer, indices, without(one.value, begins), one.line)
        case For():
            return For(one.ranges, tuple(begun(inner, begins) for inner in one.body))
        case If():
            return If(
                without(one.condition, begins),
                tuple(begun(inner, begins) for inner in one.then),
                tuple(begun(inner, begins) for inner in one.otherwise),
            )
    raise UnlikeError("a statement of another form")


def without(value: Expression, begins: Mapping[str, str]) -> Expression:
    match value:
        case Variable(name=name) if name.startswith("scalar "):
            raise UnlikeError("the beginning of a tensor is used for something else")
        case Load():
            indices = value.indices
            if (begin := begins.get(value.buffer)) is not None:
                indices = tuple(taken_away(index, Variable(begin)) for index in indices)
            return Load(value.buffer, tuple(without(index, begins) for index in indices))
        case Apply():
            parts = tuple(without(part, begins) for part in value.arguments)
            return Apply(value.operation, parts, value.dtype, value.text)
    return value


def taken_away(index: Expression, variable: Variable) -> Expression:
    """The sum, without one term."""
    if index == variable:
        return Number(0, "int64")
    if isinstance(index, Apply) and index.operation == "+" and len(index.arguments) == 2:
        for at in (0, 1):
            if any(part == variable for part in walk(index.arguments[at])):
                parts = list(index.arguments)
                parts[at] = taken_away(parts[at], variable)
                return Apply("+", tuple(parts), index.dtype, index.text)
    raise UnlikeError("a tensor is not read from its beginning")
