"""A node of the source model on other values: all trials at once, where that is the same."""

from __future__ import annotations

from collections.abc import Mapping

from harness.accounting.interface import Array, NotInterpretedError
from harness.accounting.onnx_values import Node, Source, in_double, run

# Each element of the result is of one element of each operand: all trials can be one tensor.
ELEMENTWISE = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp",
     "Floor", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
     "Less", "LessOrEqual", "Log", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round",
     "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Sqrt", "Sub", "Tanh", "Where"}
)  # fmt: skip
# Each item of a batch is for itself: all trials can be one batch.
BY_ITEM = frozenset(
    {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool",
     "GlobalMaxPool", "InstanceNormalization", "MaxPool"}
)  # fmt: skip


def at_once(
    node: Node, values: Mapping[str, Array], source: Source, trials: int
) -> Mapping[str, Array]:  # fmt: skip
    """Its results for all trials, ``(trials, *shape)``. Raises NotInterpretedError."""
    runner = source.runners.get(node.index)
    if runner is None:
        raise NotInterpretedError(f"{node.label}: cannot be evaluated again")
    given = {name: values[name] for name in node.inputs if name in values}
    one_of_each = len(node.outputs) == 1
    if node.operator in ELEMENTWISE and one_of_each and trials > 1:
        fixed = [source.settled[name] for name in node.inputs if name in source.settled]
        rank = max([value.ndim - 1 for value in given.values()] + [one.ndim for one in fixed])
        if node.operator != "Clip" or len(given) == 1:
            whole = {name: lined_up(value, rank)[None] for name, value in given.items()}
            (found,) = run(runner, node, whole, source.settled, 1).values()
            return {node.outputs[0]: in_double(found[0])}
    if node.operator in BY_ITEM and one_of_each and list(given) == [node.inputs[0]]:
        (batch,) = given.values()
        whole = {node.inputs[0]: batch.reshape(1, -1, *batch.shape[2:])}
        (found,) = run(runner, node, whole, source.settled, 1).values()
        return {node.outputs[0]: found[0].reshape(*batch.shape[:2], *found.shape[2:])}
    return run(runner, node, values, source.settled, trials)


def lined_up(value: Array, rank: int) -> Array:
    """``(trials, *shape)`` with ones in front of the shape, so that it has ``rank`` dimensions."""
    return value.reshape(len(value), *[1] * (rank + 1 - value.ndim), *value.shape[1:])
