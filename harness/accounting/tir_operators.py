"""What the operators of tensor IR do to numpy arrays.

Integers keep their width, so that they wrap as they do in the compiled code. Floats are float64,
whatever the program says; :func:`as_written` takes the declared types instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.accounting.arrays import Array
from harness.accounting.interface import NotInterpretedError
from harness.accounting.tir_script import Apply, Expression, Load, Number

FLOATS: dict[str, type[np.floating[Any]]] = {
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
}
LARGEST = {name: float(np.finfo(kind).max) for name, kind in FLOATS.items()}
WIDTHS = {1: np.uint8, 2: np.float16, 4: np.float32, 8: np.float64}


def numpy_type(dtype: str, written: bool = False) -> np.dtype[np.generic]:
    """``written``: the declared float, not float64."""
    if dtype.startswith(("float", "bfloat")):
        if not written:
            return np.dtype(np.float64)
        if dtype not in FLOATS:
            raise NotInterpretedError(f"arithmetic in {dtype} is not known")
        return np.dtype(FLOATS[dtype])
    try:
        return np.dtype(dtype)
    except TypeError as error:
        raise NotInterpretedError(f"the type {dtype} is not known") from error


def number(one: Number, written: bool = False) -> Array:
    """The constant as the compiled code has it: rounded to its own type first."""
    if one.dtype in FLOATS and isinstance(one.value, int | float):
        with np.errstate(all="ignore"):
            rounded = np.asarray(one.value, FLOATS[one.dtype])
        return rounded.astype(numpy_type(one.dtype, written))
    try:
        return np.asarray(one.value, numpy_type(one.dtype, written))
    except OverflowError as error:
        raise NotInterpretedError(f"{one.value} is no {one.dtype}") from error


def integral(*arrays: Array) -> bool:
    return all(array.dtype.kind in "iub" for array in arrays)


def truncated_quotient(a: Array, b: Array) -> Array:
    if not integral(a, b):
        return np.asarray(a / b)
    if not np.all(b):
        raise NotInterpretedError("an integer division by zero")
    quotient = np.floor_divide(a, b)
    uneven = (quotient * b != a) & ((a < 0) != (b < 0))
    return np.asarray(quotient + uneven, quotient.dtype)


def truncated_rest(a: Array, b: Array) -> Array:
    if not integral(a, b):
        return np.asarray(np.fmod(a, b))
    return np.asarray(a - truncated_quotient(a, b) * b, a.dtype)


def floored(a: Array, b: Array) -> Array:
    if integral(a, b) and not np.all(b):
        raise NotInterpretedError("an integer division by zero")
    return np.floor_divide(a, b)


def floored_rest(a: Array, b: Array) -> Array:
    if integral(a, b) and not np.all(b):
        raise NotInterpretedError("an integer division by zero")
    return np.mod(a, b)


def divided(a: Array, b: Array) -> Array:
    if integral(a, b):
        raise NotInterpretedError("`/` between integers")
    return np.divide(a, b)


def shifted(left: bool) -> Callable[..., Array]:
    def shift(a: Array, b: Array) -> Array:
        if not integral(a, b) or np.any(b < 0) or np.any(b >= 8 * a.dtype.itemsize):
            raise NotInterpretedError("a shift that is not defined")
        return (np.left_shift if left else np.right_shift)(a, b)

    return shift


AWAY = "round away"  # a half goes away from 0: what LLVM and the C library call round


def rounded_away(a: Array) -> Array:
    return np.asarray(np.trunc(a + np.copysign(0.5, a)))


def sigmoid(a: Array) -> Array:
    return (1 / (1 + np.exp(-a))).astype(a.dtype)


def erf(a: Array) -> Array:
    values = np.frompyfunc(math.erf, 1, 1)(np.asarray(a, np.float64))
    return np.asarray(values, a.dtype)


def reciprocal_root(a: Array) -> Array:
    return (1 / np.sqrt(a)).astype(a.dtype)


BINARY: dict[str, Callable[..., Array]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": divided,
    "//": floored, "%": floored_rest, "floordiv": floored, "floormod": floored_rest,
    "Div": truncated_quotient, "truncdiv": truncated_quotient, "div": truncated_quotient,
    "Mod": truncated_rest, "truncmod": truncated_rest, "fmod": truncated_rest,
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
    "==": np.equal, "!=": np.not_equal, "max": np.maximum, "min": np.minimum,
    "and": np.logical_and, "or": np.logical_or, "And": np.logical_and, "Or": np.logical_or,
    "&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "<<": shifted(True), ">>": shifted(False),
    "shift_left": shifted(True), "shift_right": shifted(False),
    "pow": np.power, "power": np.power, "copysign": np.copysign, "atan2": np.arctan2,
    "hypot": np.hypot,
}  # fmt: skip
UNARY: dict[str, Callable[..., Array]] = {
    "neg": np.negative, "not": np.logical_not, "Not": np.logical_not,
    "~": np.invert, "bitwise_not": np.invert,
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sqrt": np.sqrt, "rsqrt": reciprocal_root, "tanh": np.tanh,
    "sigmoid": sigmoid, "erf": erf, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "nearbyint": np.rint,
    # TVM lowers ``round`` to nearbyint: a half goes to the even side, as ONNX has it.
    "round": np.rint, AWAY: rounded_away, "fabs": np.abs, "abs": np.abs,
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
}  # fmt: skip
VARIADIC = {"and", "or"}
TRUTH = {
    "<", "<=", ">", ">=", "==", "!=", "and", "or", "not", "And", "Or", "Not", "isnan", "isinf",
    "isfinite",
}  # fmt: skip


def apply(one: Apply, values: Sequence[Array], written: bool = False) -> Array:
    """Every operator but the two that choose. Raises NotInterpretedError."""
    name = one.operation
    with np.errstate(all="ignore"):
        if name in VARIADIC and len(values) >= 2:
            out = values[0]
            for value in values[1:]:
                out = BINARY[name](out, value)
            return out
        if name in BINARY and len(values) == 2:
            return BINARY[name](*values)
        if name in UNARY and len(values) == 1:
            return UNARY[name](*values)
        if name == "fma" and len(values) == 3:
            return values[0] * values[1] + values[2]
        if name == "cast" and len(values) == 1:
            return cast(values[0], one.dtype, written)
        if name == "reinterpret" and len(values) == 1:
            return reinterpreted(values[0], one.dtype, written)
        if name in ("min_value", "max_value", "infinity") and not values:
            return limit(name, one.dtype, written)
    raise NotInterpretedError(f"{one.shown()}: the operator {name!r} is not known")


def cast(value: Array, dtype: str, written: bool) -> Array:
    wanted = numpy_type(dtype, written)
    if wanted.kind in "iu" and value.dtype.kind == "f":
        # As the hardware does it: towards zero, through the widest integer.
        whole = np.trunc(
            np.nan_to_num(np.asarray(value, np.float64), posinf=2**62, neginf=-(2**62))
        )
        return np.clip(whole, -(2.0**62), 2.0**62).astype(np.int64).astype(wanted)
    return value.astype(wanted)


def reinterpreted(value: Array, dtype: str, written: bool) -> Array:
    wanted = numpy_type(dtype, written=True)
    if value.dtype.kind == "f":
        narrow: NDArray[np.generic] = value.astype(WIDTHS[wanted.itemsize])
        return np.ascontiguousarray(narrow).view(wanted)
    if value.dtype.itemsize != wanted.itemsize:
        raise NotInterpretedError(f"{value.dtype} reinterpreted as {dtype}")
    return np.ascontiguousarray(value).view(wanted).astype(numpy_type(dtype, written))


def limit(name: str, dtype: str, written: bool) -> Array:
    if dtype in FLOATS:
        largest = LARGEST[dtype]
        value = {"min_value": -largest, "max_value": largest, "infinity": math.inf}[name]
        return np.asarray(value, numpy_type(dtype, written))
    if name == "infinity":
        raise NotInterpretedError(f"infinity as {dtype}")
    low, high = bounds(dtype)
    return np.asarray(low if name == "min_value" else high, numpy_type(dtype))


def bounds(dtype: str) -> tuple[int, int]:
    """The smallest and the largest integer of a type."""
    kind = numpy_type(dtype)
    width = 8 * kind.itemsize
    if kind.kind not in "iu":
        raise NotInterpretedError(f"{dtype} is no type of integers")
    return (-(2 ** (width - 1)), 2 ** (width - 1) - 1) if kind.kind == "i" else (0, 2**width - 1)


def declared(expression: Expression, types: dict[str, str]) -> str:
    """The type of an expression; ``types``: those of buffers and bound variables."""
    match expression:
        case Number():
            return expression.dtype
        case Load():
            return types.get(expression.buffer, "")
        case Apply(operation="cast" | "reinterpret", dtype=dtype):
            return dtype
        case Apply(operation=name) if name in TRUTH:
            return "bool"
        case Apply(operation="Select" | "if_then_else", arguments=(_, first, *_)):
            return declared(first, types)
        case Apply(arguments=(first, *rest)):
            mine = declared(first, types)
            return declared(rest[0], types) if rest and isinstance(first, Number) else mine
        case Apply():
            return expression.dtype
    return types.get(expression.name, "int64")
