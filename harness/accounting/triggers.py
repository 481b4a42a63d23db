"""From a decision that the model does not need to a question: which input turns it?

A hidden detector does nothing on random inputs: its result is *quiet*, the same in every trial. So
for a decision that is left over, the last quiet values that come of it (or, in a statement whose
result is not quiet, the largest quiet parts of it) are written out as expressions over elements of
the model's inputs, element by element as they are needed, down through the blocks of tensor IR. The
question is then whether such a value can be another one. :mod:`harness.solving` puts it to z3; what
it answers is tried on the library itself, and only that is a proof.

Numbers are real here, not floating point, and exp, tanh and the like are known by points on their
curves alone. So an answer may be wrong, and is checked; and no answer means nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.accounting import relax_script
from harness.accounting.fingerprint import plain
from harness.accounting.interface import Array, NotInterpretedError
from harness.accounting.relax_script import shown
from harness.accounting.tir import Program, read
from harness.accounting.tir_block import Nest, independent, nest
from harness.accounting.tir_grid import Grid
from harness.accounting.tir_script import Apply, Expression, Load, Store, walk
from harness.accounting.written_out import (
    Made,
    NotExpressedError,
    Question,
    Recorder,
    Scope,
    Value,
    Writer,
    buffers,
)

MOST_TARGETS = 12  # questions for one finding
MOST_ELEMENTS = 16  # of a value that are asked about
MOST_SAMPLED = 4096  # elements looked through for these
MOST_AWAY = 8  # steps from a decision to the first quiet value
QUIET = 1e-6  # what moves less, over random inputs, does nothing
MOVES = (0.5, 0.05)  # by how much a value is to differ from what it is at random

BLOCK = re.compile(r"\bblock ([A-Za-z0-9_]*)(?=[ ,:)]|$)")
CALL = re.compile(r"\(main's (?:main, )?([A-Za-z0-9_]+)(?=[ ,:)]|$)")


@dataclass(frozen=True)
class Posed:
    """What came of one finding: questions, the most telling first, or why there are none."""

    where: str
    questions: tuple[Question, ...]
    why: str = ""


def pose(
    module: bytes,
    inputs: Mapping[str, Array],
    blobs: Mapping[str, bytes],
    places: Sequence[str],
) -> tuple[Posed, ...]:
    """Questions for the findings at ``places``: what a finding's ``where`` says.

    module: tensor-ir/module.py. inputs: random ones, ``(trials, *shape)``, by the model's names and
    in its order. blobs: constants, by the sha256 of their bytes. Raises NotInterpretedError if the
    module cannot be read at all.
    """
    program = read(module)
    names = [parameter.name for parameter in program.main.parameters]
    if len(names) != len(inputs):
        raise NotInterpretedError(f"main takes {len(names)} inputs, the model {len(inputs)}")
    given = dict(zip(names, inputs.values(), strict=True))  # the compiler may have renamed them
    recorder = Recorder(program, given, pool(program, blobs))
    recorder.made = {}
    recorder.names = dict(zip(names, inputs, strict=True))
    recorder.run()
    return tuple(Poser(recorder).pose(place) for place in dict.fromkeys(places))


class Poser:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.values = recorder.values
        self.users: dict[int, list[int]] = {}
        for key, made in recorder.made.items():
            for operand in made.step.operands:
                self.users.setdefault(operand, []).append(key)
        self.known: dict[int, bool] = {}

    def quiet(self, key: int) -> bool:
        """Whether it comes from an input, and yet is the same in all trials."""
        if key not in self.known:
            self.known[key] = key in self.recorder.data and still(self.values[key])
        return self.known[key]

    def pose(self, place: str) -> Posed:
        starts = [
            key
            for key, made in self.recorder.made.items()
            if key in self.recorder.data and named(place, made)
        ]
        if not starts:
            return Posed(place, (), "no such place in tensor-ir")
        questions: list[Question] = []
        reasons: dict[str, None] = {}
        for target in self.targets(starts)[:MOST_TARGETS]:
            try:
                questions += target(place)
            except (NotInterpretedError, RecursionError) as error:
                why = "nested too deeply" if isinstance(error, RecursionError) else error.what
                reasons[why] = None
        why = "" if questions else "; ".join(reasons) or "on random inputs it is not always alike"
        return Posed(place, tuple(questions), shown(why))

    def targets(self, starts: list[int]) -> list[Callable[[str], list[Question]]]:
        """Questions to pose: about the last quiet values, then parts of statements, then others."""
        found: dict[int, None] = {}
        order = self.after(starts)
        outputs = set(self.recorder.steps and self.last())
        for key in reversed(order):
            users = self.users.get(key, [])
            if key in outputs or any(not self.quiet(user) for user in users):
                found[key] = None
        found.update(dict.fromkeys(reversed(order)))
        targets: list[Callable[[str], list[Question]]] = [
            lambda place, key=key: self.about_value(place, key)  # type: ignore[misc]
            for key in found
        ]
        for key in starts:
            if not self.quiet(key):
                targets.append(lambda place, key=key: self.about_parts(place, key))  # type: ignore[misc]
                made = self.recorder.made[key]
                targets += [
                    lambda place, key=operand: self.about_value(place, key)  # type: ignore[misc]
                    for operand in made.step.operands
                    if operand in self.recorder.made and self.quiet(operand)
                ]
        return targets

    def after(self, starts: list[int]) -> list[int]:
        """The quiet values that come of these, through quiet values or a few others."""
        distance = dict.fromkeys(starts, 0)
        waiting = list(starts)
        order: dict[int, None] = {}
        while waiting:
            key = waiting.pop(0)
            away = 0 if self.quiet(key) else distance[key] + 1
            if not away:
                order[key] = None
            for user in self.users.get(key, []):
                if user in distance or away > MOST_AWAY:
                    continue
                if self.quiet(user) or not order:
                    distance[user] = away
                    waiting.append(user)
        return list(order)

    def last(self) -> list[int]:
        return [key for key in self.recorder.made if key not in self.users]

    def about_value(self, place: str, key: int) -> list[Question]:
        """Whether the value can be another one than at random, in some element."""
        writer = Writer(self.recorder)
        value = self.values[key]
        size = math.prod(value.shape[1:])
        step = max(1, size // MOST_SAMPLED)
        found: list[tuple[Value, float]] = []
        middle = usual(value)
        for flat in range(0, size, step):
            index = tuple(int(i) for i in np.unravel_index(flat, value.shape[1:]))
            written = writer.element(key, index)
            if written[0] == "e" and all(written != other for other, _ in found):
                found.append((written, float(middle[index])))
                if len(found) == MOST_ELEMENTS:
                    break
        return self.question(place, self.recorder.made[key].step.where, writer, found)

    def about_parts(self, place: str, key: int) -> list[Question]:
        """The same of the largest quiet parts of the statement that makes the value."""
        made = self.recorder.made[key]
        one = nest(made.statement)
        if one is None or not independent(one):
            raise NotExpressedError(f"{made.step.where}: not computed point by point")
        questions: list[Question] = []
        for statement in one.block.body:
            if not isinstance(statement, Store):
                continue
            for part in quiet_parts(statement.value, one, made, self.recorder):
                writer = Writer(self.recorder)
                found: list[tuple[Value, float]] = []
                for env in points(one):
                    written = writer.expression(part, Scope(made, dict(env), {}))
                    if written[0] == "e" and all(written != other for other, _ in found):
                        grid = Grid(
                            {name: (at, at + 1) for name, at in env.items()},
                            buffers(made, self.recorder), {},
                        )  # fmt: skip
                        got = grid.evaluate(part)
                        got = got.reshape(len(got) if got.ndim else 1, -1)
                        found.append((written, float(usual(got)[0])))
                        if len(found) == MOST_ELEMENTS:
                            break
                questions += self.question(place, made.step.where, writer, found)
        return questions

    def question(
        self, place: str, where: str, writer: Writer, found: list[tuple[Value, float]]
    ) -> list[Question]:
        if not found:
            return []
        goals = []
        for move in MOVES:
            goal = [writer.differs(value, usual, move) for value, usual in found]
            goals.append(tuple(int(at) for kind, at in goal if kind == "e"))
        goals = [goal for goal in dict.fromkeys(goals) if goal]
        about = shown(f"{where}: {len(found)} elements that are always {found[0][1]:.6g} at random")
        return [Question(place, about, tuple(writer.nodes), tuple(goals))] if goals else []


def usual(value: Array) -> Array:
    """The value in the middle trial, element by element."""
    rows = plain(value)
    middle: Array = np.sort(rows, axis=0)[len(rows) // 2] if len(rows) else rows
    return middle.reshape(value.shape[1:])


def still(value: Array) -> bool:
    """Whether no element moves, in more than half of the trials: a detector may fire by chance."""
    rows = plain(value)
    if len(rows) < 2 or not np.isfinite(rows).all():
        return len(rows) < 2
    middle = plain(usual(value)[None])
    near = (np.abs(rows - middle) <= QUIET * np.maximum(1.0, np.abs(middle))).all(axis=1)
    return bool(2 * np.count_nonzero(near) > len(rows))


def points(one: Nest) -> Iterable[dict[str, int]]:
    """Points of a block's axes, spread over it."""
    spans = {**one.spatial, **one.reduced}
    total = math.prod(high - low for low, high in spans.values())
    step = max(1, total // MOST_SAMPLED)
    shape = [high - low for low, high in spans.values()]
    for flat in range(0, total, step):
        at = np.unravel_index(flat, shape) if shape else ()
        yield {name: low + int(i) for (name, (low, _)), i in zip(spans.items(), at, strict=True)}


def quiet_parts(value: Expression, one: Nest, made: Made, recorder: Recorder) -> list[Expression]:
    """The largest parts that depend on data and are the same in all trials."""
    held = buffers(made, recorder)
    data = {name for name, key in made.before.items() if key in recorder.data}
    spans = {**one.spatial, **one.reduced}
    total = math.prod(high - low for low, high in spans.values())
    if total * recorder.trials > 2**22:
        raise NotExpressedError(f"{made.step.where}: {total} points")
    found: list[Expression] = []

    def look(part: Expression) -> None:
        loads = [inner for inner in walk(part) if isinstance(inner, Load)]
        if isinstance(part, Load) or not any(load.buffer in data for load in loads):
            return
        if any(load.buffer == made.buffer for load in loads):
            quiet = False  # its own earlier value: a reduction
        else:
            try:
                grid = Grid(spans, held, {})
                got = grid.evaluate(part, np.zeros((1,) * grid.rank, bool))
                quiet = still(got.reshape(len(got) if got.ndim else 1, -1)) and got.ndim > 0
            except NotInterpretedError:
                quiet = False
        if quiet:
            found.append(part)
        elif isinstance(part, Apply):
            for argument in part.arguments:
                look(argument)

    look(value)
    return found


def named(place: str, made: Made) -> bool:
    """Whether a finding's ``where`` speaks of this step: of its function, and where it says so, of
    its block and of the call in main. Long ones are cut off.
    """
    if made.function.name not in re.findall(r"\w+", place):
        return False
    block, call = BLOCK.search(place), CALL.search(place)
    operation = made.step.operation
    return (
        block is None or block[1] in (operation, "") or (block[1], operation) == ("", "loop")
    ) and (call is None or call[1] == made.label)


def pool(program: Program, blobs: Mapping[str, bytes]) -> dict[str, Array]:
    """What main's constants are. blobs: by the sha256 of their bytes; others are left out."""
    found: dict[str, Array] = {}

    def look(one: relax_script.Expression, depth: int) -> None:
        if isinstance(one, relax_script.Constant) and one.digest in blobs:
            dtype = np.dtype(one.dtype) if one.dtype != "bfloat16" else np.dtype(np.uint16)
            data = blobs[one.digest]
            if len(data) == math.prod(one.shape) * dtype.itemsize:
                found[one.digest] = np.frombuffer(data, dtype).reshape(one.shape)
        elif isinstance(one, relax_script.Items) and depth:
            for item in one.items:
                look(item, depth - 1)
        elif isinstance(one, relax_script.Call) and depth:
            for item in one.arguments:
                look(item, depth - 1)

    for binding in program.main.bindings:
        look(binding.value, 4)
    return found
