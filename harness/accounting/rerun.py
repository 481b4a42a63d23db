"""A statement of tensor IR, run once more on other values of what it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.accounting.arrays import Array
from harness.accounting.interface import Again
from harness.accounting.tir_block import Memory, run
from harness.accounting.tir_script import (
    Apply,
    Function,
    Load,
    Number,
    Statement,
    expressions,
    walk,
)


@dataclass(frozen=True)
class Rerun:
    """A statement, and what memory was when it ran. ``versions``: name of a buffer → its key."""

    function: Function
    statement: Statement
    versions: Mapping[str, int]
    written: bool  # floats of the declared types
    gaps: Mapping[str, Array]

    def outcome(
        self, names: Sequence[str], values: Mapping[int, Array], trials: int
    ) -> tuple[Array, ...]:  # fmt: skip
        """What these buffers hold behind it."""
        memory = Memory(self.function.buffers, trials, written=self.written)
        used = {
            part.buffer
            for expression in expressions((self.statement,))
            for part in walk(expression)
            if isinstance(part, Load)
        }
        for name, key in self.versions.items():
            if name in used or name in names:
                memory.arrays[name] = values[key].view()
                memory.arrays[name].flags.writeable = False
        memory.gaps = {name: gaps.copy() for name, gaps in self.gaps.items()}
        run(self.statement, memory)
        return tuple(memory.arrays[name] for name in names)

    def numbers(self) -> tuple[float, ...]:
        stack = list(expressions((self.statement,)))
        found: dict[float, None] = {}
        while stack:
            one = stack.pop()
            if isinstance(one, Number):
                found[float(one.value)] = None
            elif isinstance(one, Apply):
                stack.extend(one.arguments)
        return tuple(found)


def outside(one: Again, keys: Mapping[int, int]) -> Again:
    """The same for who calls the function. ``keys``: of the function's values → of the caller's."""

    def compute(values: Mapping[int, Array], trials: int) -> tuple[Array, ...]:
        known = {key: values[each] for key, each in keys.items() if each in values}
        return one.compute(known, trials)

    return Again(tuple(keys[key] for key in one.results), compute, one.numbers)
