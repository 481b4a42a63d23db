"""A question out of :mod:`harness.accounting.triggers`, put to z3, in a process that can be ended.

Run by path as ``python solving.py FOLDER``: FOLDER/question.json → answer.json. Imports nothing of
the harness. Expressions come from hostile text: memory is limited here, time by who starts this.

A curve (exp, tanh …) is a number of its own between two points of the real one; where z3's answer
is off the curve, the point below it is added, and z3 is asked again.
"""

import importlib
import json
import math
import resource
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

z3: Any = importlib.import_module("z3")

CLOSE = 1e-4  # of a curve
MOST_ROUNDS = 200
BINADES = range(-13, 14)  # of floats whose bits are looked at
GRID = 1024  # parts of 1 that a float may be a multiple of, if it must be exact
CURVES: dict[str, tuple[Callable[[float], float], list[float]]] = {
    "exp": (math.exp, [-30, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 30]),
    "tanh": (math.tanh, [-10, -5, -2, -1, 0, 1, 2, 5, 10]),
    "sigmoid": (lambda u: 1 / (1 + math.exp(-u)), [-30, -10, -5, -2, 0, 2, 5, 10, 30]),
    "erf": (math.erf, [-4, -2, -1, 0, 1, 2, 4]),
    "sqrt": (math.sqrt, [0, 1e-6, 1e-3, 0.1, 0.5, 1, 2, 10, 100, 1e4]),
    "log": (math.log, [1e-9, 1e-6, 1e-3, 0.1, 0.5, 1, 2, 10, 100, 1e4]),
    "square": (lambda u: u * u, [0, 1e-3, 0.1, 0.5, 1, 2, 10, 100]),
}
LIMITS: dict[str, tuple[float | None, float | None]] = {
    "exp": (0, None), "tanh": (-1, 1), "sigmoid": (0, 1), "erf": (-1, 1), "sqrt": (0, None),
    "log": (None, None), "square": (0, None),
}  # fmt: skip


class Writer:
    """The nodes as expressions of z3's, and what has to hold besides."""

    def __init__(self, question: dict[str, Any], grid: bool) -> None:
        self.rules: list[Any] = []
        self.inputs: dict[tuple[str, int], Any] = {}
        self.curves: list[tuple[str, Any, Any, list[float]]] = []  # name, argument, value, points
        self.bounds = question["bounds"]
        self.grid = grid
        self.values: list[Any] = []
        for node in question["nodes"]:
            self.values.append(self.node(*node))

    def node(self, name: str, *rest: Any) -> Any:
        if name == "num":
            return constant(rest[0])
        if name == "in":
            return self.element(*rest)
        a = [self.values[at] for at in (rest[:1] if name == "bits" else rest)]
        if name == "*" and rest[0] == rest[1]:
            return self.curve("square", z3.If(a[0] >= 0, a[0], -a[0]))
        if name in CURVES:
            return self.curve(name, a[0])
        if name == "bits":
            return self.bits(a[0], *rest[1:])
        return PLAIN[name](*a)

    def element(self, name: str, flat: int, whole: bool) -> Any:
        made = (
            z3.Int(f"{len(self.inputs)}") if whole or self.grid else z3.Real(f"{len(self.inputs)}")
        )
        value = made if whole or not self.grid else z3.ToReal(made) / GRID
        low, high = self.bounds[name]
        self.rules += [value >= constant(low), value <= constant(high)]
        self.inputs[name, flat] = value
        return value

    def bits(self, argument: Any, signed: bool) -> Any:
        """A float32 as an integer: in each binade it grows as the float does."""
        at = len(self.rules)
        negative, exponent = z3.Bool(f"negative {at}"), z3.Int(f"exponent {at}")
        part = z3.Int(f"part {at}")
        self.rules += [part >= 0, part < 2**23]
        sizes = []
        for power in BINADES:
            scale = constant(2.0**power)
            size = scale + scale / 2**23 * z3.ToReal(part)
            sizes.append(z3.And(exponent == power, argument == z3.If(negative, -size, size)))
        self.rules.append(z3.Or(*sizes))
        top = -(2**31) if signed else 2**31
        return (exponent + 127) * 2**23 + part + z3.If(negative, z3.IntVal(top), z3.IntVal(0))

    def curve(self, name: str, argument: Any) -> Any:
        value = z3.Real(f"curve {len(self.curves)}")
        low, high = LIMITS[name]
        self.rules += [value >= low] if low is not None else []
        self.rules += [value <= high] if high is not None else []
        if name in ("sqrt", "log"):
            self.rules.append(argument >= 0)
        self.curves.append((name, argument, value, [float(at) for at in CURVES[name][1]]))
        for at in CURVES[name][1]:
            self.rules += self.point(name, argument, value, at)
        return value

    def point(self, name: str, argument: Any, value: Any, at: float) -> list[Any]:
        """All of these curves rise."""
        there = constant(CURVES[name][0](at))
        return [
            z3.Implies(argument <= constant(at), value <= there),
            z3.Implies(argument >= constant(at), value >= there),
        ]


def constant(value: float | bool) -> Any:
    if isinstance(value, bool):
        return z3.BoolVal(value)
    if isinstance(value, int):
        return z3.IntVal(value)
    if not math.isfinite(value):
        value = math.copysign(1e39, value) if not math.isnan(value) else 0.0
    part = Fraction(value)
    return z3.Q(part.numerator, part.denominator)


def whole(value: Any) -> Any:
    return value if z3.is_int(value) else z3.ToInt(value)


def bits(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda a, b: z3.BV2Int(operation(z3.Int2BV(a, 64), z3.Int2BV(b, 64)), is_signed=True)


def divided(a: Any, b: Any) -> Any:
    return whole(a) / whole(b) if z3.is_int(a) and z3.is_int(b) else z3.ToReal(z3.ToInt(a / b))


def truth(value: Any) -> Any:
    return value if z3.is_bool(value) else value != 0


PLAIN: dict[str, Callable[..., Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
    "/": lambda a, b: (z3.ToReal(a) if z3.is_int(a) else a) / b,
    "//": divided, "%": lambda a, b: a - b * divided(a, b),
    "max": lambda a, b: z3.If(a >= b, a, b), "min": lambda a, b: z3.If(a <= b, a, b),
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, "==": lambda a, b: a == b,
    "and": lambda a, b: z3.And(truth(a), truth(b)), "or": lambda a, b: z3.Or(truth(a), truth(b)),
    "any": lambda *a: z3.Or(*map(truth, a)), "all": lambda *a: z3.And(*map(truth, a)),
    "not": lambda a: z3.Not(truth(a)), "neg": lambda a: -a,
    "abs": lambda a: z3.If(a >= 0, a, -a),
    "floor": lambda a: z3.ToReal(whole(a)), "ceil": lambda a: -z3.ToReal(whole(-a)),
    "trunc": lambda a: z3.ToReal(z3.If(a >= 0, whole(a), -whole(-a))),
    "rint": lambda a: z3.ToReal(whole(a + z3.Q(1, 2))),
    "real": lambda a: z3.ToReal(a) if z3.is_int(a) else a,
    "whole": lambda a: z3.If(a >= 0, whole(a), -whole(-a)),
    "ite": lambda a, b, c: z3.If(truth(a), b, c),
    "&": lambda a, b: masked(b, a.as_long()) if z3.is_int_value(a) else
    masked(a, b.as_long()) if z3.is_int_value(b) else bits(lambda x, y: x & y)(a, b),
    "|": bits(lambda x, y: x | y), "^": bits(lambda x, y: x ^ y),
    "<<": lambda a, b: a * 2 ** b.as_long() if z3.is_int_value(b) else
    bits(lambda x, y: x << y)(a, b),
    ">>": lambda a, b: a / z3.IntVal(2 ** b.as_long()) if z3.is_int_value(b) else
    bits(lambda x, y: x >> y)(a, b),
}  # fmt: skip


def masked(value: Any, mask: int) -> Any:
    """``value & mask``, each run of ones in the mask by division: of negative numbers as well."""
    if mask < 0:
        return value - masked(value, ~mask)
    total, at = z3.IntVal(0), 0
    while mask >> at:
        if not (mask >> at) & 1:
            at += 1
            continue
        end = at
        while (mask >> end) & 1:
            end += 1
        total += value / z3.IntVal(2**at) % z3.IntVal(2 ** (end - at)) * 2**at
        at = end
    return total


def number(model: Any, value: Any) -> float:
    found = model.eval(value, model_completion=True)
    if z3.is_algebraic_value(found):
        found = found.approx(20)
    return float(found.as_fraction()) if not z3.is_int_value(found) else float(found.as_long())


def ask(question: dict[str, Any], goal: list[int], grid: bool, end: float) -> Any:
    """(answer, element values): the answer as z3 says it."""
    writer = Writer(question, grid)
    solver = z3.Solver()
    solver.add(*writer.rules, z3.Or(*(truth(writer.values[at]) for at in goal)))
    for _ in range(MOST_ROUNDS):
        left = end - time.monotonic()
        if left <= 0:
            return "unknown", {}
        solver.set("timeout", max(1, int(1000 * left)))
        answer = solver.check()
        if answer != z3.sat:
            return str(answer), {}
        model = solver.model()
        off = []
        for name, argument, value, points in writer.curves:
            at = number(model, argument)
            try:
                there = CURVES[name][0](at)
            except (ValueError, OverflowError):
                continue
            if abs(number(model, value) - there) > CLOSE * max(1.0, abs(there)):
                # Halfway to the next points as well, or z3 creeps along the curve.
                below = max((known for known in points if known < at), default=at)
                above = min((known for known in points if known > at), default=at)
                for new in {at, (below + at) / 2, (at + above) / 2, (below + above) / 2}:
                    points.append(new)
                    off += writer.point(name, argument, value, new)
        if not off:
            found: dict[str, dict[str, float]] = {}
            for (name, flat), value in writer.inputs.items():
                found.setdefault(name, {})[str(flat)] = number(model, value)
            return "sat", found
        solver.add(*off)
    return "unknown", {}


def main(folder: Path) -> None:
    asked = json.loads((folder / "question.json").read_text("utf-8"))
    resource.setrlimit(resource.RLIMIT_AS, (asked["memory_bytes"], asked["memory_bytes"]))
    end = time.monotonic() + asked["seconds"]
    goals = asked["goals"]
    said = []
    found: dict[str, dict[str, float]] = {}
    for number_, goal in enumerate(goals):
        share = time.monotonic() + (end - time.monotonic()) / (len(goals) - number_)
        answer, found = ask(asked, goal, asked["grid"], share)
        said.append(answer)
        if answer == "sat":
            break
    (folder / "answer.json").write_text(json.dumps({"said": said, "elements": found}), "utf-8")


if __name__ == "__main__":
    sys.setrecursionlimit(100_000)
    main(Path(sys.argv[1]))
