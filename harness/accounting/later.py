"""Operators that tensor-ir's ``main`` still calls as such, and what TVM then makes of them.

``zero`` leaves some operators of Relax to be lowered further on, after tensor-ir is dumped. For
those that are known here the tensor IR is written down: the function is called as TVM calls it, and
the LLVM IR has to be what is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from harness.accounting import relax_script as relax
from harness.accounting import tir_script
from harness.accounting.interface import NotInterpretedError

ZEROS = {"float32": "T.float32(0.0)", "float64": "T.float64(0.0)", "int32": "T.int32(0)",
         "int64": "T.int64(0)"}  # fmt: skip
MOST = 2**28  # elements


@dataclass(frozen=True)
class Lowered:
    """``function`` takes its tensors flat; ``ranks``: how many dimensions they have in truth."""

    function: tir_script.Function
    ranks: tuple[int, ...]
    operands: tuple[relax.Expression, ...]
    outputs: tuple[relax.Type, ...]

    @property
    def name(self) -> str:
        return self.function.name


@dataclass(frozen=True)
class External:
    """A function that hands its tensors to one of the runtime's: ``runtime``, with ``arguments``
    behind the tensors. ``types``: dtype and shape of each tensor, operands first.
    """

    name: str
    runtime: str
    operands: tuple[relax.Expression, ...]
    outputs: tuple[relax.Type, ...]
    types: tuple[tuple[str, tuple[int, ...]], ...]
    arguments: tuple[int | str, ...]


def externals(main: relax.Function) -> dict[int, External]:
    """By the key of the binding, as :func:`lowered`."""
    types = types_of(main)
    made: dict[tuple[object, ...], str] = {}
    out: dict[int, External] = {}
    for binding in main.bindings:
        call = binding.value
        if not isinstance(call, relax.Call) or call.operator != "R.topk":
            continue
        given = {name: one.value for name, one in call.keywords.items() if hasattr(one, "value")}
        k, axis, largest, dtype = (given.get(n) for n in ("k", "axis", "largest", "dtype"))
        (operand,) = call.arguments if len(call.arguments) == 1 else (None,)
        kind = types.get(operand.key) if isinstance(operand, relax.Reference) else None
        if (
            set(given) != {"k", "axis", "ret_type", "largest", "dtype"}
            or set(call.keywords) != set(given)
            or given["ret_type"] != "both"
            or type(k) is not int
            or type(axis) is not int
            or not isinstance(largest, bool)
            or not isinstance(dtype, str)
            or kind is None
            or operand is None
            or kind.dtype not in ZEROS
            or dtype not in ZEROS
        ):
            continue
        rank = len(kind.shape)
        if not -rank <= axis < rank or not 0 < k <= kind.shape[axis]:
            continue
        shape = tuple(k if at == axis % rank else side for at, side in enumerate(kind.shape))
        key = ("topk", kind, k, axis % rank, largest, dtype)
        name = made.setdefault(key, f"topk{len(made) or ''}")
        outputs = (relax.Type(shape, kind.dtype), relax.Type(shape, dtype))
        held = tuple((one.dtype, one.shape) for one in (kind, *outputs))
        # In ascending order come the smallest.
        out[binding.key] = External(
            name, "tvm.contrib.sort.topk", (operand,), outputs, held,
            (k, axis, "both", int(not largest)),
        )  # fmt: skip
    return out


def types_of(main: relax.Function) -> dict[int, relax.Type]:
    """Of parameters, and of what has one."""
    types = {one.key: one.type for one in main.parameters}
    for binding in main.bindings:
        kind: object = binding.type
        if isinstance(binding.value, relax.Call) and binding.value.operator == "R.call_tir":
            kind = next(iter(binding.value.keywords.values()), kind)
        if isinstance(kind, relax.Type):
            types[binding.key] = kind
    return types


def lowered(main: relax.Function) -> dict[int, Lowered]:
    """By the key of the binding. What is not known is left out.

    Like calls share a function, and functions are numbered as they come.
    """
    made: dict[tuple[object, ...], str] = {}
    out: dict[int, Lowered] = {}
    for binding in main.bindings:
        call, kind = binding.value, binding.type
        if not isinstance(call, relax.Call) or call.operator != "R.cumsum" or kind is None:
            continue
        given = {name: one.value for name, one in call.keywords.items() if hasattr(one, "value")}
        axis, exclusive = given.get("axis"), given.get("exclusive")
        if (
            set(given) != {"axis", "dtype", "exclusive"}
            or set(call.keywords) != set(given)
            or given["dtype"] is not None
            or not isinstance(axis, int)
            or not isinstance(exclusive, bool)
            or len(call.arguments) != 1
            or kind.dtype not in ZEROS
            or not 0 <= axis < len(kind.shape)
        ):
            continue
        key = ("cumsum", kind.shape, kind.dtype, axis, exclusive)
        name = made.setdefault(key, f"cumsum{len(made) or ''}")
        function = running_sum(name, kind.shape, kind.dtype, axis, exclusive)
        ranks = (len(kind.shape),) * 2
        out[binding.key] = Lowered(function, ranks, call.arguments, (kind,))
    return out


def running_sum(
    name: str, shape: tuple[int, ...], dtype: str, axis: int, exclusive: bool
) -> tir_script.Function:
    """``Y[i] = Y[i - 1] + X[i]`` along the axis, or ``X[i - 1]`` if it is exclusive."""
    after = product(shape[axis + 1 :])
    long, rows, size = shape[axis], product(shape[:axis]) * after, product(shape)
    if not 0 < size <= MOST:
        raise NotInterpretedError(f"{name}: {size} elements")
    begin = f"v // T.int64({after}) * T.int64({after * long}) + v % T.int64({after})"
    here, there = (f"{begin} + (k + T.int64({n})) * T.int64({after})" for n in (0, 1))
    first = ZEROS[dtype] if exclusive else f"X[{begin}]"
    buffer = f'T.Buffer((T.int64({size}),), "{dtype}")'
    lines = [
        "@I.ir_module", "class Module:", "    @T.prim_func(private=True)",
        f"    def {name}(X: {buffer}, Y: {buffer}):",
        f"        for v in range(T.int64({rows})):",
        f"            Y[{begin}] = {first}",
    ]  # fmt: skip
    if long > 1:
        added = here if exclusive else there
        lines += [
            f"            for k in range(T.int64({long - 1})):",
            f"                Y[{there}] = Y[{here}] + X[{added}]",
        ]
    tree = relax.syntax("\n".join([*lines, ""]).encode(), name)
    return tir_script.functions_of(tree, name).read[name]


def product(sides: tuple[int, ...]) -> int:
    return reduce(lambda a, b: a * b, sides, 1)


def functions(found: Mapping[int, Lowered]) -> dict[str, Lowered]:
    return {one.name: one for one in found.values()}
