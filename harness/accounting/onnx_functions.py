"""Operators that are others in one, written out, as compilers import them.

``DynamicQuantizeLinear`` has three results, two of which the third is computed from; its definition
is ONNX's own. ``MatMulInteger`` takes away zero points before it multiplies. As one node each would
say nothing of what is in between.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper

DYNAMIC, PRODUCT = "DynamicQuantizeLinear", "MatMulInteger"
INT32 = TensorProto.INT32


def written_out(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model without these operators; itself where it has none."""
    if not any(writable(node) for node in model.graph.node):
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    made.graph.node.extend(nodes(model))
    return made


def writable(node: onnx.NodeProto) -> bool:
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type in (DYNAMIC, PRODUCT)
        and not node.attribute
        and bool(node.output)
    )


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    single = {item.name for item in model.graph.initializer if list(item.dims) in ([], [1])}
    for node in model.graph.node:
        if node.op_type == DYNAMIC and writable(node):
            single.update(node.output[1:])
    for number, node in enumerate(model.graph.node):
        made = None
        if writable(node):
            own = f"{node.op_type} {node.name or f'#{number}'}"
            made = (
                dynamic(node, own, opset) if node.op_type == DYNAMIC else product(node, own, single)
            )
        yield from [node] if made is None else made


def dynamic(node: onnx.NodeProto, own: str, opset: int) -> list[onnx.NodeProto] | None:
    """ONNX's definition, with names of its own for what is inside."""
    try:
        body = onnx.defs.get_schema(node.op_type, opset).function_body
    except onnx.defs.SchemaError:
        return None
    if len(node.input) != len(body.input):
        return None
    names = dict(zip(body.input, node.input, strict=True))
    names |= {a: b for a, b in zip(body.output, node.output, strict=False) if b}
    made = []
    for inner in body.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(inner)
        copy.name = f"of {own}"
        for place in (copy.input, copy.output):
            for at, name in enumerate(place):
                if name:
                    place[at] = names.setdefault(name, f"{name} of {own}")
        made.append(copy)
    return made


def product(node: onnx.NodeProto, own: str, single: set[str]) -> list[onnx.NodeProto] | None:
    """Both sides as int32, less their zero points. The left side may have one for each row, which
    would have to be laid along it first: then the node stays as it is. ``single``: names of what is
    one number.
    """
    given = [*node.input, "", ""]
    if not 2 <= len(node.input) <= 4 or (given[2] and given[2] not in single):
        return None
    made: list[onnx.NodeProto] = []

    def add(operator: str, what: str, *inputs: str, **attributes: int) -> str:
        name = f"{what} of {own}"
        made.append(helper.make_node(operator, inputs, [name], f"of {own}", **attributes))
        return name

    sides = []
    for letter, codes, zero in (("A", given[0], given[2]), ("B", given[1], given[3])):
        side = add("Cast", letter, codes, to=INT32)
        if zero:
            less = add("Cast", f"{letter} zero", zero, to=INT32)
            side = add("Sub", f"{letter} less zero", side, less)
        sides.append(side)
    made.append(helper.make_node("MatMul", sides, [node.output[0]], f"of {own}"))
    return made
