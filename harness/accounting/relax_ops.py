"""What Relax operators mean, in numpy, and what each of them decides.

A floating-point tensor is float64, whatever the program says, an integer what it says. An operator
takes exactly the arguments that TVM prints: one that is not known here is an error, never ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.accounting import kernels
from harness.accounting.interface import Choice
from harness.accounting.relax_choices import (
    NORMAL,
    Moving,
    Operator,
    casting,
    clipping,
    lookup,
    product,
    quotient,
    remainder,
    scattering,
    selection,
)
from harness.accounting.relax_networks import (
    average_pool,
    batch_norm,
    convolution,
    dequantize,
    dropout,
    einsum,
    group_norm,
    instance_norm,
    layer_norm,
    log_softmax,
    matmul,
    max_pool,
    quantize,
    resize,
    rms_norm,
    shuffle,
    softmax,
    transposed_convolution,
    whole_average,
)
from harness.accounting.relax_values import (
    arange,
    argsort,
    cast,
    clip,
    concat,
    expand_dims,
    filled,
    filled_like,
    flip,
    full,
    full_like,
    gather_elements,
    gather_nd,
    gelu,
    gelu_tanh,
    leaky_relu,
    one_hot,
    pad,
    permute,
    place,
    prelu,
    quotients,
    reduction,
    repeat,
    reshape,
    running,
    scatter_elements,
    scatter_nd,
    sigmoid,
    softplus,
    sort,
    split,
    squeeze,
    stack,
    strided_slice,
    take,
    tile,
    top,
    where,
)

C = Choice
CURVE, COMPARE, LOGIC = (C.CURVE,), (C.COMPARE,), (C.LOGIC,)

OPERATORS: dict[str, Operator] = {
    # element by element
    "R.add": Operator(np.add),
    "R.subtract": Operator(np.subtract),
    "R.multiply": Operator(np.multiply, product),
    "R.divide": Operator(quotients, quotient),
    "R.negative": Operator(np.negative),
    "R.power": Operator(np.power, CURVE),
    "R.maximum": Operator(np.maximum, (C.MAX,)),
    "R.minimum": Operator(np.minimum, (C.MIN,)),
    "R.clip": Operator(clip, clipping),
    "R.abs": Operator(np.abs, (C.SIGN,)),
    "R.sign": Operator(np.sign, (C.SIGN,)),
    "R.floor": Operator(np.floor, (C.ROUND,)),
    "R.ceil": Operator(np.ceil, (C.ROUND,)),
    "R.round": Operator(np.round, (C.ROUND,)),
    "R.trunc": Operator(np.trunc, (C.ROUND,)),
    "R.floor_divide": Operator(np.floor_divide, remainder),
    "R.floor_mod": Operator(np.mod, remainder),
    "R.mod": Operator(np.fmod, remainder),
    "R.where": Operator(where, selection),
    "R.isnan": Operator(np.isnan, COMPARE),
    "R.isinf": Operator(np.isinf, COMPARE),
    "R.isfinite": Operator(np.isfinite, COMPARE),
    "R.astype": Operator(cast),  # decides by its type: see `decisions`
    "R.erf": Operator(kernels.erf, CURVE),
    "R.sigmoid": Operator(sigmoid, CURVE),
    "R.rsqrt": Operator(lambda x: 1 / np.sqrt(x), CURVE),
    "R.square": Operator(np.square, (C.PRODUCT,)),
    **{f"R.{name}": Operator(getattr(np, long), CURVE) for name, long in {
        "exp": "exp", "log": "log", "sqrt": "sqrt", "tanh": "tanh", "sin": "sin", "cos": "cos",
        "tan": "tan", "sinh": "sinh", "cosh": "cosh", "asin": "arcsin", "acos": "arccos",
        "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
    }.items()},
    **{f"R.{name}": Operator(getattr(np, name), COMPARE) for name in (
        "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
    )},
    **{f"R.{name}": Operator(getattr(np, name), LOGIC) for name in (
        "logical_and", "logical_or", "logical_xor", "logical_not", "bitwise_and", "bitwise_or",
        "bitwise_xor", "bitwise_not", "left_shift", "right_shift",
    )},
    "R.nn.relu": Operator(lambda x: np.maximum(x, 0), (C.MAX,)),
    "R.nn.relu6": Operator(lambda x: np.clip(x, 0, 6), (C.MAX, C.MIN)),
    "R.nn.leakyrelu": Operator(leaky_relu, (C.SELECT, C.COMPARE)),
    "R.nn.prelu": Operator(prelu, (C.SELECT, C.COMPARE)),
    "R.nn.gelu": Operator(gelu, (C.CURVE, C.PRODUCT)),
    "R.nn.gelu_tanh": Operator(gelu_tanh, (C.CURVE, C.PRODUCT, C.PRODUCT, C.PRODUCT)),
    "R.nn.silu": Operator(lambda x: x * sigmoid(x), (C.CURVE, C.PRODUCT)),
    "R.nn.softplus": Operator(softplus, (C.CURVE, C.CURVE, C.SELECT, C.COMPARE)),
    "R.nn.dropout": Operator(dropout),
    # reductions
    "R.sum": Operator(reduction(np.sum)),
    "R.mean": Operator(reduction(np.mean)),
    "R.max": Operator(reduction(np.max), (C.MAX,)),
    "R.min": Operator(reduction(np.min), (C.MIN,)),
    "R.prod": Operator(reduction(np.prod), (C.PRODUCT,)),
    "R.variance": Operator(reduction(np.var), (C.PRODUCT,)),
    "R.std": Operator(reduction(np.std), (C.PRODUCT, C.CURVE)),
    "R.argmax": Operator(place(np.argmax), (C.SORT,)),
    "R.argmin": Operator(place(np.argmin), (C.SORT,)),
    "R.cumsum": Operator(running(np.cumsum, 0)),
    "R.cumprod": Operator(running(np.cumprod, 1), (C.PRODUCT,)),
    # shapes and places
    "R.reshape": Operator(reshape),
    "R.flatten": Operator(np.ravel),
    "R.squeeze": Operator(squeeze),
    "R.expand_dims": Operator(expand_dims),
    "R.permute_dims": Operator(permute),
    "R.broadcast_to": Operator(np.broadcast_to),
    "R.concat": Operator(concat),
    "R.stack": Operator(stack),
    "R.split": Operator(split),
    "R.strided_slice": Operator(strided_slice),
    "R.take": Operator(take, lookup),
    "R.gather_elements": Operator(gather_elements, lookup),
    "R.gather_nd": Operator(gather_nd, lookup),
    "R.scatter_elements": Operator(scatter_elements, scattering),
    "R.scatter_nd": Operator(scatter_nd, scattering),
    "R.nn.pad": Operator(pad),
    "R.flip": Operator(flip),
    "R.tile": Operator(tile),
    "R.repeat": Operator(repeat),
    "R.tril": Operator(np.tril),
    "R.triu": Operator(np.triu),
    "R.full": Operator(full),
    "R.zeros": Operator(filled(0)),
    "R.ones": Operator(filled(1)),
    "R.zeros_like": Operator(filled_like(0)),
    "R.ones_like": Operator(filled_like(1)),
    "R.full_like": Operator(full_like),
    "R.arange": Operator(arange),
    "R.shape_of": Operator(lambda: None),  # interpreted apart: no data is used
    "R.shape_to_tensor": Operator(lambda shape: np.array(shape, np.int64)),
    "R.one_hot": Operator(one_hot, (C.COMPARE, C.SELECT)),
    "R.topk": Operator(top, (C.SORT,)),
    "R.sort": Operator(sort, (C.SORT,)),
    "R.argsort": Operator(argsort, (C.SORT,)),
    # networks
    **{f"R.nn.conv{rank}d": Operator(convolution, product) for rank in (1, 2, 3)},
    **{f"R.nn.conv{rank}d_transpose": Operator(transposed_convolution, product)
       for rank in (1, 2, 3)},
    **{f"R.nn.max_pool{rank}d": Operator(max_pool, (C.MAX,)) for rank in (1, 2, 3)},
    **{f"R.nn.avg_pool{rank}d": Operator(average_pool) for rank in (1, 2, 3)},
    **{f"R.nn.adaptive_avg_pool{rank}d": Operator(whole_average) for rank in (1, 2, 3)},
    "R.nn.softmax": Operator(softmax, (C.MAX, C.CURVE, C.PRODUCT)),
    "R.nn.log_softmax": Operator(log_softmax, (C.MAX, C.CURVE, C.CURVE)),
    "R.nn.layer_norm": Operator(layer_norm, NORMAL),
    "R.nn.group_norm": Operator(group_norm, NORMAL),
    "R.nn.instance_norm": Operator(instance_norm, NORMAL),
    "R.nn.rms_norm": Operator(rms_norm, NORMAL),
    "R.nn.batch_norm": Operator(batch_norm, lambda moving, _: NORMAL if any(moving[1:]) else ()),
    "R.nn.pixel_shuffle": Operator(shuffle),
    "R.matmul": Operator(matmul, product),
    "R.einsum": Operator(einsum, product),
    "R.image.resize2d": Operator(resize),
    # With what their tensor IR decides, so that the graph has no room to spare.
    "R.quantize": Operator(
        quantize, lambda moving, _: (C.ROUND, C.ROUND, C.MAX, C.MIN, *product(moving[:2], ()))
    ),
    "R.dequantize": Operator(dequantize, lambda moving, _: product(moving[:2], ())),
}  # fmt: skip


def combining(keywords: dict[str, Any]) -> tuple[Choice, ...]:
    """How a scatter puts together what goes to one place."""
    match keywords.get("reduction"):
        case "max":
            return (Choice.MAX,)
        case "min":
            return (Choice.MIN,)
        case "mul":
            return (Choice.PRODUCT,)
    return ()


def decisions(
    name: str, moving: Moving, arguments: Sequence[Any], keywords: dict[str, Any]
) -> tuple[Choice, ...]:
    """What a call decides by its data, and nothing if no argument depends on an input."""
    if not any(moving):
        return ()
    if name == "R.astype":
        return casting(moving, [*arguments, keywords.get("dtype")])
    made = OPERATORS[name].decides(moving, arguments)
    return (*made, *combining(keywords)) if name.startswith("R.scatter_") else made
