"""Where tensor IR decides by data: found by flow from what the caller calls data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.accounting.interface import Choice, Decision
from harness.accounting.relax_script import shown
from harness.accounting.tir_operators import AWAY, bounds, declared
from harness.accounting.tir_script import (
    Apply,
    Block,
    Expression,
    For,
    If,
    Let,
    Load,
    Number,
    Statement,
    Store,
    Variable,
    While,
    expressions,
    statements,
    walk,
)

CHOICES: dict[str, Choice] = {
    **dict.fromkeys(["max"], Choice.MAX),
    **dict.fromkeys(["min"], Choice.MIN),
    **dict.fromkeys(["Select", "if_then_else"], Choice.SELECT),
    **dict.fromkeys(
        ["<", "<=", ">", ">=", "==", "!=", "isnan", "isinf", "isfinite"], Choice.COMPARE
    ),
    **dict.fromkeys(
        ["and", "or", "not", "And", "Or", "Not", "&", "|", "^", "~", "<<", ">>", "bitwise_and",
         "bitwise_or", "bitwise_xor", "bitwise_not", "shift_left", "shift_right", "reinterpret"],
        Choice.LOGIC,
    ),
    **dict.fromkeys(["floor", "ceil", "round", AWAY, "nearbyint", "trunc"], Choice.ROUND),
    **dict.fromkeys(["fabs", "abs", "copysign"], Choice.SIGN),
    **dict.fromkeys(
        ["//", "%", "floordiv", "floormod", "Div", "truncdiv", "Mod", "truncmod", "fmod"],
        Choice.DIVIDE,
    ),
}  # fmt: skip
CURVES = {
    "exp", "exp2", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "tanh", "sigmoid", "erf",
    "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "pow",
    "power", "atan2", "hypot",
}  # fmt: skip
QUOTIENTS = {"/", "div"}


@dataclass
class Flow:
    """What is data: names of buffers and variables. ``types``: theirs."""

    data: set[str]
    types: dict[str, str]
    found: list[Decision] = field(default_factory=list)
    where: str = ""

    def is_data(self, expression: Expression) -> bool:
        for one in walk(expression):
            if isinstance(one, Load) and one.buffer in self.data:
                return True
            if isinstance(one, Variable) and one.name in self.data:
                return True
        return False

    # What carries data.

    def spread(self, body: tuple[Statement, ...]) -> None:
        """Takes into ``data`` whatever the statements make depend on it."""
        while True:
            before = len(self.data)
            self.once(body, False)
            if len(self.data) == before:
                return

    def once(self, body: tuple[Statement, ...], under: bool) -> None:
        """``under``: control itself depends on data here."""
        for one in body:
            match one:
                case Store():
                    if under or any(map(self.is_data, (*one.indices, one.value))):
                        self.data.add(one.buffer)
                case Let():
                    self.types[one.name] = declared(one.value, self.types)
                    if under or self.is_data(one.value):
                        self.data.add(one.name)
                case If():
                    inner = under or self.is_data(one.condition)
                    self.once(one.then, inner)
                    self.once(one.otherwise, inner)
                case While():
                    self.once(one.body, under or self.is_data(one.condition))
                case For():
                    inner = under
                    for name, first, many in one.ranges:
                        if under or self.is_data(first) or self.is_data(many):
                            self.data.add(name)
                            inner = True
                    self.once(one.body, inner)
                case Block():
                    for axis in one.axes:
                        if under or self.is_data(axis.value):
                            self.data.add(axis.name)
                    self.once(one.init, under)
                    self.once(one.body, under)

    # Decisions. Call ``spread`` first.

    def decisions(self, body: tuple[Statement, ...]) -> tuple[Decision, ...]:
        self.found = []
        for one in statements(body):
            match one:
                case If() | While() if self.is_data(one.condition):
                    self.add(Choice.BRANCH, one.condition)
                case For():
                    for _, first, many in one.ranges:
                        for bound in (first, many):
                            if self.is_data(bound):
                                self.add(Choice.BRANCH, bound)
                case Store() if any(map(self.is_data, one.indices)):
                    self.add(Choice.LOOKUP, one.indices[0], f"store to {one.buffer}")
        for expression in expressions(body):
            for part in walk(expression):
                self.site(part)
        return tuple(self.found)

    def add(self, choice: Choice, at: Expression, text: str = "") -> None:
        if not text:
            text = (
                at.shown() if isinstance(at, Apply) else at.buffer if isinstance(at, Load) else ""
            )
        self.found.append(Decision(choice, self.where, shown(text or str(choice))))

    def site(self, one: Expression) -> None:
        if isinstance(one, Load):
            if any(map(self.is_data, one.indices)):
                self.add(Choice.LOOKUP, one, f"{one.buffer}[…] at an index that is data")
            return
        if not isinstance(one, Apply) or not any(map(self.is_data, one.arguments)):
            return
        if one.operation in ("Select", "if_then_else"):
            if self.is_data(one.arguments[0]):
                self.add(Choice.SELECT, one)
        elif one.operation in CHOICES and not self.truth(one):
            self.add(CHOICES[one.operation], one)
        elif one.operation == "cast":
            self.cast(one)
        elif one.operation in CURVES:
            self.add(Choice.CURVE, one)
        elif (one.operation in QUOTIENTS and self.is_data(one.arguments[-1])) or (
            one.operation in ("*", "fma") and all(map(self.is_data, one.arguments[:2]))
        ):
            self.add(Choice.PRODUCT, one)

    def truth(self, one: Apply) -> bool:
        """Whether it compares a truth value with a constant: that gives it, or its negation."""
        if CHOICES[one.operation] is not Choice.COMPARE or len(one.arguments) != 2:
            return False
        number, other = one.arguments
        if isinstance(other, Number):
            number, other = other, number
        while isinstance(other, Apply) and other.operation == "cast":
            if not other.dtype.startswith(("int", "uint")):
                return False
            (other,) = other.arguments
        return isinstance(number, Number) and declared(other, self.types) == "bool"

    def cast(self, one: Apply) -> None:
        """What a cast loses: float → integer rounds, to bool compares, to less room wraps or
        rounds; a bool's own does not.
        """
        source = declared(one.arguments[0], self.types)
        if source == "bool" or source == one.dtype:
            return
        if one.dtype == "bool":
            self.add(Choice.COMPARE, one)
        elif loses(source, one.dtype):
            self.add(Choice.ROUND, one)


def loses(source: str, wanted: str) -> bool:
    """Whether a cast between two types of numbers can change the number. Neither is bool.

    float64 → float32 does not count, nor do integers as float32: values of that size are looked for
    apart, as what absorbs others.
    """
    if not wanted.startswith(("int", "uint")):
        return bits(wanted) < 32 and (source.startswith(("int", "uint")) or source != wanted)
    if not source.startswith(("int", "uint")):
        return True
    low, high = bounds(source)
    least, most = bounds(wanted)
    return low < least or high > most


def bits(dtype: str) -> int:
    """0 where the name of the type says nothing, so that a cast to it loses."""
    found = re.search(r"[0-9]+", dtype)
    return int(found[0]) if found else 0
