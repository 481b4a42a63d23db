"""A stage tried where no random input leads: each of its cones on values drawn for that cone.

Random inputs reach little of what a network could be fed with inside: a unit may sleep on all of
them, a bound may never be met. So every cone, and the model's nodes between the same values, are
computed once more on values drawn for the place (:mod:`harness.accounting.redraw`), and must agree.

A value of the stage can be one of the model's by chance, such as what a bound will cut that these
inputs do not reach. Then it is not on the values drawn here, and what is computed from it is tried
from further back, on the same values among others. It is a finding if nothing that follows agrees
either, or only what has fewer elements.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.accounting.agreement import worst
from harness.accounting.cones import Cones
from harness.accounting.elsewhere import Elsewhere, Valuation, choices_of, numbers_of
from harness.accounting.interface import Array, Choice, NotInterpretedError, Step
from harness.accounting.necessary import JUMPS
from harness.accounting.onnx_values import Node
from harness.accounting.redraw import Plan, deciding, linear, smooth

FEW = 16  # elements of a constant that is as good as numbers
MOST_BACK = 3  # values in a row that are the model's by chance only
MOST_NAMES = 32  # of a class that are tried
MOST_WAYS = 6  # to read the borders of a cone, where they can stand for several values
MOST_STEPS = 400  # of a cone


@dataclass(frozen=True)
class Difference:
    """``step``: where. ``what``: printable. ``decides``: whether a decision is part of it."""

    step: Step
    what: str
    decides: bool


@dataclass(frozen=True)
class Pending:
    """A value that is not the model's on values drawn: ``back`` in a row. What is computed from it
    has to agree on the same ``plans``, too.
    """

    back: int
    difference: Difference
    plans: tuple[Plan, ...]


@dataclass(frozen=True)
class Attempt:
    """A cone, and the nodes that it is held against: those that compute ``name`` from the ``stops``
    or, without these, from another value of its class. ``through``: pending values in the cone.
    """

    name: str
    stops: Callable[[str], bool] | None
    nodes: list[Node]
    ends: Iterable[str]  # what these start from
    steps: list[Step]
    borders: list[int]
    through: set[int]

    def expected(self, drawn: Valuation) -> Array:
        if self.stops is None:
            return drawn.value(self.name)
        return drawn.computed(self.name, self.stops)


class Around:
    """The borders of a cone, by what of the model they are."""

    def __init__(self, local: Locally, borders: Iterable[int]) -> None:
        self.known = local.source.classes
        self.classes = {local.classes[one] for one in borders if one in local.classes}
        self.names = {name for one in borders for name in local.names.get(one, ())}

    def stops(self, name: str) -> bool:
        return name in self.names or self.known.get(name) in self.classes


class Locally:
    """``found``: where a stage does something else than the model; ``untried``: what could not be
    computed again, and why.
    """

    def __init__(self, cones: Cones, seed: int) -> None:
        self.cones = cones
        self.trace = cones.trace
        self.source = cones.source
        self.classes = cones.classes
        self.makers = cones.makers
        self.seed = seed
        self.model = Elsewhere(cones.source, seed)
        # Which of the model's values each of the stage's is, here as well; the likeliest first.
        self.names: dict[int, list[str]] = {
            key: [name] for name, key in self.trace.inputs.items() if name in self.source.values
        }
        self.pending: dict[int, Pending] = {}
        self.found: list[Difference] = []
        self.untried: list[str] = []

    def run(self, live: Iterable[Step]) -> None:
        ends = set(self.trace.outputs)
        for step in live:
            key = step.result
            if key not in self.classes:
                continue
            try:
                self.judge(key, key in ends)
            except Exception as error:
                # Numpy and Python raise what they like at values that do not fit.
                self.untried.append(f"{step.where}: {type(error).__name__}: {error}")
                self.names[key] = self.model.members[self.classes[key]][:1]

    def judge(self, key: int, last: bool) -> None:
        number = self.classes[key]
        agreed: list[str] = []
        first: Difference | None = None
        plans: tuple[Plan, ...] = ()
        through: set[int] = set()
        for name in self.model.candidates(number)[:MOST_NAMES]:
            attempt = self.attempt(key, number, name)
            if attempt is None:
                continue
            through |= attempt.through
            tried = self.plans(attempt)
            off = next(
                (one for plan in tried if (one := self.differs(key, attempt, plan)) is not None),
                None,
            )
            if off is None:
                agreed.append(name)
            elif first is None:
                first, plans = off, tried
        if agreed or first is None:
            self.names[key] = agreed or self.model.members[number][:1]
            # What has fewer elements hides some: a maximum over a value excuses nothing of it.
            self.tell([one for one in through if self.size(one) > self.size(key)])
            return
        back = 1 + max((self.pending[one].back for one in through), default=0)
        if not last and back <= MOST_BACK:
            self.pending[key] = Pending(back, first, plans)
        elif through:
            self.tell(through)
        else:
            self.found.append(first)
        if key not in self.pending:
            self.names[key] = self.model.members[number][:1]

    def tell(self, pending: Collection[int]) -> None:
        """The first of these is a finding. None of them is in the way any longer."""
        if pending:
            self.found.append(self.pending[min(pending)].difference)
        for one in pending:
            del self.pending[one]
            self.names[one] = self.model.members[self.classes[one]][:1]

    def size(self, key: int) -> int:
        return int(np.prod(self.trace.values[key].shape[1:]))

    # What is held against what.

    def attempt(self, key: int, number: int, name: str) -> Attempt | None:
        """None: the model does not compute it from there, which is told elsewhere."""
        opened: set[int] = set()
        while True:
            steps, borders, through = self.cone(key, opened)
            if len(steps) > MOST_STEPS:
                raise NotInterpretedError(f"a cone of more than {MOST_STEPS} steps")
            around = Around(self, borders)
            stops = None if number in around.classes else around.stops
            nodes, ends = self.model.region(name, stops or self.model.classed)
            if stops and any(not stops(end) for end in ends if self.model.classed(end)):
                return None
            reached = {number, *(self.source.classes.get(end) for end in ends)}
            # What the model does not start from is no border: see `Cones.allowed`.
            spare = {
                one for one in borders
                if one in self.makers and one in self.classes and self.classes[one] not in reached
            }  # fmt: skip
            if not spare:
                return Attempt(name, stops, nodes, ends, steps, borders, through)
            opened |= spare

    def cone(self, key: int, opened: set[int]) -> tuple[list[Step], list[int], set[int]]:
        steps: dict[int, Step] = {}
        borders: dict[int, None] = {}
        through: set[int] = set()
        seen: set[int] = set()
        waiting = [key]
        while waiting:
            at = waiting.pop()
            if at in seen or at not in self.cones.moving:
                continue
            seen.add(at)
            if at != key and at in self.names and at not in opened:
                borders[at] = None
            elif at in self.makers:
                if at in self.pending:
                    through.add(at)
                steps[at] = self.makers[at]
                waiting += self.makers[at].operands
        return [steps[at] for at in sorted(steps)], list(borders), through

    # Trying.

    def plans(self, attempt: Attempt) -> tuple[Plan, ...]:
        """Its own, and those on which the values that it goes through did not agree."""
        own = self.plan(attempt)
        others = [plan for one in sorted(attempt.through) for plan in self.pending[one].plans]
        return tuple(dict.fromkeys([own, *others]))

    def differs(self, key: int, attempt: Attempt, plan: Plan) -> Difference | None:
        drawn = Valuation(self.model, plan)
        expected = attempt.expected(drawn)
        ways = itertools.product(*(self.names[border] for border in attempt.borders))
        first: Difference | None = None
        for way in itertools.islice(ways, MOST_WAYS):
            given = {
                border: self.shaped(border, drawn.value(one))
                for border, one in zip(attempt.borders, way, strict=True)
            }
            got = self.computed(key, attempt.steps, given, len(plan.trials))
            at = worst(expected, got)
            if at is None:
                for border, one in zip(attempt.borders, way, strict=True):
                    self.names[border] = [one, *(n for n in self.names[border] if n != one)]
                return None
            if first is None:
                what = self.told(attempt, given, expected, got, at)
                first = Difference(self.makers[key], what, bool(self.choices(attempt)))
        return first

    def apart(self, attempt: Attempt) -> list[Node]:
        """The nodes between values of one class, where the cone starts from another of these than
        the model does. They have to show a difference, too.
        """
        names: dict[int | None, set[str]] = {}
        for name in (*attempt.ends, *(n for one in attempt.borders for n in self.names[one])):
            number = self.source.classes.get(name)
            names.setdefault(number, set()).add(self.model.plain_name(name))
        several = [name for some in names.values() if len(some) > 1 for name in some]
        return [node for name in several for node in self.model.chain(name)]

    def choices(self, attempt: Attempt) -> set[Choice]:
        found = {one.choice for step in attempt.steps for one in step.decisions}
        for node in (*attempt.nodes, *self.apart(attempt)):
            found |= choices_of(node, self.source)
        return found

    def plan(self, attempt: Attempt) -> Plan:
        choices = self.choices(attempt)
        nodes = [*attempt.nodes, *self.apart(attempt)]
        work = sum(self.source.size(out) for node in nodes for out in node.outputs)
        work += sum(self.size(step.result) for step in attempt.steps)
        if not choices & JUMPS:
            return smooth(self.seed, work) if Choice.CURVE in choices else linear(self.seed)
        numbers = {x for node in nodes for x in numbers_of(node, self.source)}
        values = self.trace.values
        for step in attempt.steps:
            numbers.update(self.trace.again[step.result].numbers())
            for operand in step.operands:
                if operand not in self.cones.moving and values[operand][:1].size <= FEW:
                    numbers.update(np.asarray(values[operand][0], np.float64).ravel().tolist())
        width = min(map(self.size, attempt.borders), default=1)
        return deciding(self.seed, numbers, work, width, Choice.CURVE in choices)

    def shaped(self, key: int, value: Array) -> Array:
        """As the stage has it: another shape, another type."""
        known = self.trace.values[key]
        return value.reshape(len(value), *known.shape[1:]).astype(known.dtype, copy=False)

    def computed(
        self, key: int, steps: Sequence[Step], given: Mapping[int, Array], trials: int
    ) -> Array:
        values = dict(given)
        for step in steps:
            if step.result in values:
                continue
            again = self.trace.again.get(step.result)
            if again is None:
                raise NotInterpretedError("a step that cannot be computed again")
            with np.errstate(all="ignore"):
                made = again.compute(values, trials)
            for result, value in zip(again.results, made, strict=True):
                if result not in values:
                    values[result] = np.broadcast_to(value, (trials, *value.shape[1:]))
        return values[key]

    # Telling.

    def told(
        self, attempt: Attempt, given: Mapping[int, Array], expected: Array, got: Array,
        at: tuple[int, int],
    ) -> str:  # fmt: skip
        trial, element = at
        node = self.source.makers.get(attempt.name)
        label = node.label if node is not None else f"the input {attempt.name}"
        wanted = expected.reshape(len(expected), -1)[trial, element]
        made = got.reshape(len(got), -1)[trial, element]
        starts = []
        for border, value in itertools.islice(given.items(), 2):
            row = value.reshape(len(value), -1)[trial]
            maker = self.makers.get(border)
            place = maker.where if maker is not None else "the input"
            if row.size == expected[trial].size:
                starts.append(f"{row[element]:.6g} from {place}")
            elif row.size:
                starts.append(f"{row.min():.4g} to {row.max():.4g} from {place}")
        return (
            f"computes something else than {label} where no random input came: element {element} "
            f"is {made:.6g}, not {wanted:.6g}, of {' and '.join(starts)}"
        )
