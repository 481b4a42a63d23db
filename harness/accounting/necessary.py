"""Which nodes of a model cannot be lowered without deciding: else one was left out."""

from __future__ import annotations

from harness.accounting.interface import Choice
from harness.accounting.needs import needs
from harness.accounting.onnx_values import Node, Source

SMOOTH = {Choice.CURVE, Choice.PRODUCT}
# Decisions that jump; the others are smooth.
JUMPS = frozenset(Choice) - SMOOTH
# What cannot be done without deciding. Others may: a cast that happens to fit, for instance.
DECIDING = frozenset(
    {"Abs", "Ceil", "Clip", "Floor", "GlobalMaxPool", "HardSigmoid", "HardSwish", "LeakyRelu",
     "Max", "MaxPool", "Min", "PRelu", "ReduceMax", "ReduceMin", "Relu", "Round", "Shrink", "Sign",
     "ThresholdedRelu", "Where"}
)  # fmt: skip
# Their results are not negative, so taking the sign away, or less than 0, changes nothing ever.
NOT_NEGATIVE = frozenset(
    {"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Sqrt", "ReduceL1", "ReduceL2",
     "ReduceSumSquare"}
)  # fmt: skip


def redundant(node: Node, source: Source) -> bool:
    """Whether no input at all makes a difference: a compiler may leave the node out."""
    if node.operator not in ("Abs", "Relu"):
        return False
    maker = source.makers.get(node.inputs[0])
    return maker is not None and maker.operator in NOT_NEGATIVE


def necessary(node: Node, source: Source) -> set[Choice]:
    """Of these a build needs one, wherever the node's result matters."""
    if node.operator not in DECIDING or redundant(node, source):
        return set()
    return set(needs(node, source) or ()) & JUMPS
