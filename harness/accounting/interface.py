"""What accounting works on: a lowered program, interpreted, and what it makes of it.

A reader turns one stage into a :class:`Trace`: what each step computed on seeded random inputs, in
float64, with the data that it came from. Values are then matched with those of the ONNX model
(*random interpretation*: Gulwani and Necula, "Discovering affine equalities using random
interpretation", POPL 2003). Two analytic functions that agree at random points are equal; only a
*decision* can hide a behaviour where no random point falls. So each decision has to be needed by an
operator of the model, and each edge has to be one of the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError

Array = NDArray[np.generic]


class Kind(StrEnum):
    """What a finding, or a check, is about."""

    GRAPH = "graph"
    CONSTANTS = "constants"
    DECISIONS = "decisions"
    REACH = "reach"
    NUMERIC = "numeric"


class Choice(StrEnum):
    """A step whose value does not vary smoothly with its data, by what it does with them."""

    MAX = "max"
    MIN = "min"
    SELECT = "select"  # one of two values, by a condition on data
    COMPARE = "compare"  # data against data or a constant, giving a truth value
    LOGIC = "logic"  # and, or, not, bit operations and shifts on data
    ROUND = "round"  # floor, ceil, round, trunc, float to integer
    SIGN = "sign"  # sign, absolute value
    DIVIDE = "divide"  # integer division or remainder of data
    LOOKUP = "lookup"  # data used as an index
    SORT = "sort"  # an order by value: top k, argmax, sort
    BRANCH = "branch"  # control flow by a condition on data
    # No jump, but steep enough to act as one: a sigmoid, an exponential, a power, a product or a
    # quotient of data can be flat at every random point and not at one chosen.
    CURVE = "curve"  # exp, log, tanh, sigmoid, erf, sqrt, power, sine … of data
    PRODUCT = "product"  # data times data, or something divided by data


@dataclass(frozen=True)
class Decision:
    """``where`` and ``text`` are printable: the place, and the expression as the stage has it."""

    choice: Choice
    where: str
    text: str


@dataclass(frozen=True)
class Step:
    """One operation. ``operands`` and ``result`` are keys of ``Trace.values``.

    ``operands`` hold every value that the result can depend on, conditions and indices included.
    """

    where: str  # printable: function and binding, or function and block
    operation: str  # printable: what it is called there
    operands: tuple[int, ...]
    result: int
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class Again:
    """A call, to be computed once more of other values: some, of operands that follow from inputs.

    ``compute``: takes these by key, each ``(trials, *shape)``, and the number of trials. It gives
    one value for each of ``results``, over all trials or, where none of it depends on them, once.
    It may raise what it likes. ``numbers``: constants that the call itself writes.
    """

    results: tuple[int, ...]
    compute: Callable[[Mapping[int, Array], int], tuple[Array, ...]]
    numbers: Callable[[], tuple[float, ...]] = tuple


@dataclass(frozen=True)
class Trace:
    """A stage, interpreted. Steps are in an order in which operands come before results.

    ``values``: each value over all trials, shape ``(trials, *shape)``; floats as float64.
    ``constants``: for values that the program holds itself, the sha256 of their raw bytes.
    ``again``: by the key of each result, the call that made it.
    """

    stage: str
    inputs: Mapping[str, int]
    outputs: tuple[int, ...]
    steps: tuple[Step, ...]
    values: Mapping[int, Array]
    constants: Mapping[int, str] = field(default_factory=dict)
    again: Mapping[int, Again] = field(default_factory=dict)


@dataclass(frozen=True)
class Unaccounted:
    """One thing that the model does not ask for. All texts are printable, one line each.

    ``path``: from model input to model output through it, where there is one.
    """

    kind: Kind
    stage: str
    where: str
    what: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Accounted:
    """What one check of one stage found.

    ``things``: how many calls, constants or decisions it looked at; ``attributed``: how many of
    them the model asks for. ``unknown``: what could not be read or interpreted, and so is *not*
    accounted for, one line each; with any of these the check is no answer.
    """

    kind: Kind
    stage: str
    things: int
    attributed: int
    findings: tuple[Unaccounted, ...] = ()
    unknown: tuple[str, ...] = ()


class NotInterpretedError(HarnessError):
    """A stage, an operator or a file that accounting cannot read; says what and where."""
