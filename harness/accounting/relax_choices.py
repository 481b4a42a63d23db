"""What a call of a Relax operator decides by its data, where that depends on its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.accounting.interface import Choice
from harness.accounting.relax_values import INTEGERS, integer

Moving = Sequence[bool]  # of each argument in place: whether it depends on the model's inputs
Choices = tuple[Choice, ...] | Callable[[Moving, Sequence[Any]], tuple[Choice, ...]]
WIDE = {"float32", "float64"}


@dataclass(frozen=True)
class Operator:
    """``compute``: the result, or a tuple of them. ``choices``: asked only of data."""

    compute: Callable[..., Any]
    choices: Choices = ()

    def decides(self, moving: Moving, arguments: Sequence[Any]) -> tuple[Choice, ...]:
        return self.choices(moving, arguments) if callable(self.choices) else self.choices


def product(moving: Moving, _: Sequence[Any]) -> tuple[Choice, ...]:
    return (Choice.PRODUCT,) if sum(moving) > 1 else ()


def quotient(moving: Moving, arguments: Sequence[Any]) -> tuple[Choice, ...]:
    if integer(*arguments):
        return (Choice.DIVIDE,)
    return (Choice.PRODUCT,) if moving[1] else ()


def remainder(_: Moving, arguments: Sequence[Any]) -> tuple[Choice, ...]:
    return (Choice.DIVIDE,) if integer(*arguments) else (Choice.DIVIDE, Choice.ROUND)


def selection(moving: Moving, _: Sequence[Any]) -> tuple[Choice, ...]:
    return (Choice.SELECT,) if moving[0] else ()


def lookup(moving: Moving, _: Sequence[Any]) -> tuple[Choice, ...]:
    return (Choice.LOOKUP,) if moving[1] else ()


def clipping(_: Moving, arguments: Sequence[Any]) -> tuple[Choice, ...]:
    low, high = float(arguments[1]), float(arguments[2])
    return (Choice.MAX,) * (low > -np.inf) + (Choice.MIN,) * (high < np.inf)


NORMAL = (Choice.PRODUCT, Choice.PRODUCT, Choice.CURVE)


def scattering(moving: Moving, _: Sequence[Any]) -> tuple[Choice, ...]:
    return (Choice.LOOKUP,) if moving[1] else ()


def casting(_: Moving, arguments: Sequence[Any]) -> tuple[Choice, ...]:
    """The dtype is the argument's after the value: see ``CAST``."""
    value = np.asarray(arguments[0])
    dtype = str(arguments[1])
    if dtype == "bool":
        return () if value.dtype == np.bool_ else (Choice.COMPARE,)
    if value.dtype.kind == "f" and dtype not in WIDE:
        return (Choice.ROUND,)  # to integers, or to floats of fewer bits
    if value.dtype.kind in "iu" and dtype in INTEGERS and narrower(value.dtype, dtype):
        return (Choice.DIVIDE,)  # the upper bits are lost
    return ()


def narrower(old: np.dtype[Any], new: str) -> bool:
    lost = np.iinfo(np.dtype(new)), np.iinfo(old)
    return int(lost[0].max) < int(lost[1].max) or int(lost[0].min) > int(lost[1].min)
