"""How a finding is told: names of values, and a way from an input of the model to an output."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.accounting.cones import Cones
from harness.text import printable

MOST_PATH = 12  # steps shown


class Routes:
    def __init__(self, cones: Cones) -> None:
        self.cones = cones

    def called(self, key: int) -> str:
        for name, given in self.cones.trace.inputs.items():
            if given == key:
                return f"the input {shown(name)}"
        step = self.cones.makers[key]
        return f"the result of {step.where}: {step.operation}"

    def of(self, number: int) -> str:
        name = self.cones.members[number][0]
        node = self.cones.source.makers.get(name)
        return f"the input {shown(name)}" if node is None else f"the result of {node.label}"

    def path(self, back: int, on: int) -> list[str]:
        """Steps from an input of the model through a value to an output, by their names."""
        before = self.shortest(back, self.cones.inputs, self.before)
        after = self.shortest(on, set(self.cones.trace.outputs), self.after)
        keys = [*reversed(before), *after[1:]]
        shown_keys = [self.name(key) for key in keys]
        if len(shown_keys) > MOST_PATH:
            half = MOST_PATH // 2
            left = len(shown_keys) - 2 * half
            shown_keys = [*shown_keys[:half], f"({left} more)", *shown_keys[-half:]]
        return shown_keys

    def name(self, key: int) -> str:
        for name, given in self.cones.trace.inputs.items():
            if given == key:
                return f"input {shown(name)}"
        step = self.cones.makers.get(key)
        return f"{step.where}: {step.operation}" if step else "a constant"

    def before(self, key: int) -> Sequence[int]:
        return self.cones.makers[key].operands if key in self.cones.makers else ()

    def after(self, key: int) -> Sequence[int]:
        return [step.result for step in self.cones.users[key]]

    def shortest(
        self, start: int, goals: set[int], onward: Callable[[int], Sequence[int]]
    ) -> list[int]:
        came = {start: start}
        waiting = [start]
        for key in waiting:
            if key in goals:
                found = [key]
                while found[-1] != start:
                    found.append(came[found[-1]])
                return found[::-1]
            for other in onward(key):
                if other not in came:
                    came[other] = key
                    waiting.append(other)
        return [start]


def shown(text: str) -> str:
    return printable(text, 160)
