"""Two libraries of one model, run side by side on seeded inputs: what they answer, how fast."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from harness import reference
from harness.drift import between
from harness.engines.interface import Engine
from harness.environments import Environment
from harness.errors import HarnessError, ModelError
from harness.execute import Executed, execute, has_runner
from harness.inputs import seeded
from harness.models import Model
from harness.store import Store
from harness.text import printable
from harness.upgrade import Compared, Times

ROUNDS = 3  # each library in turn, so that a busy moment of the machine meets both
SECONDS = 1.0  # about as long as one round of one library measures
LEAST, MOST = 3, 50  # runs in a round
REFERENCE = "ONNX reference"

Say = Callable[[str], None]
Cases = Sequence[Mapping[str, np.ndarray[Any, Any]]]
Outputs = tuple[tuple[np.ndarray[Any, Any], ...], ...]


@dataclass(frozen=True)
class Sides:
    """Left and right: where each library's runtime is, the library, the toolchain's name."""

    environments: tuple[Environment, ...]
    libraries: tuple[Path | None, ...]
    names: tuple[str, str]
    compiler: str


@dataclass(frozen=True)
class Ran:
    """``problems`` leave a question open that ought to have an answer; ``notes`` only say so."""

    times: tuple[Times, ...] = ()
    compared: tuple[Compared, ...] = ()
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run_both(
    sides: Sides, model: Model, engine: Engine, store: Store, count: int, seed: int, say: Say
) -> Ran:
    """Each library with its own toolchain's runtime on the same ``count`` inputs."""
    if count == 0:
        return Ran()
    if not has_runner(sides.compiler):
        return Ran(notes=[f"not run: there is no runner for {sides.compiler}"])
    with tempfile.TemporaryDirectory() as place:
        path = _placed(model, store, Path(place))
        try:
            proto = onnx.load(str(path), load_external_data=False)
            cases = seeded(proto, model.inputs, seed, count)
        except ModelError as error:
            return Ran(notes=[f"not run: {error.what}"])
        say(f"{model.name}: running both libraries on {count} inputs")
        first: list[Executed] = []
        for environment, library, name in zip(
            sides.environments, sides.libraries, sides.names, strict=True
        ):
            if library is None:
                return Ran(problems=[f"not run: {name} left no single library"])
            try:
                first.append(execute(sides.compiler, environment, library, cases, engine, repeat=1))
            except HarnessError as error:
                return Ran(problems=[f"{name}: {error.what}"])
        answers = [each.outputs for each in first]
        compared = [_pair(sides.names[0], sides.names[1], answers[0], answers[1])]
        say(f"{model.name}: evaluating it by the ONNX reference evaluator")
        truth, why = reference.evaluate(path, cases)
        for name, answer in zip(sides.names, answers, strict=True):
            compared.append(_against_reference(name, answer, truth, why))
    times, problems = _times(sides, cases[:1], engine, first)
    return Ran(times, tuple(compared), problems)


def _placed(model: Model, store: Store, folder: Path) -> Path:
    """The model's files, verified, as they lay beside each other."""
    store.place(model.sha256, folder / "model.onnx")
    for location, digest in model.external:
        store.place(digest, folder / location)
    return folder / "model.onnx"


def _pair(left: str, right: str, one: Outputs, other: Outputs, why: str = "") -> Compared:
    try:
        return Compared(left, right, len(one), between(one, other), why)
    except ValueError as error:
        return Compared(left, right, len(one), None, printable(str(error), 300))


def _against_reference(name: str, answer: Outputs, truth: Outputs, why: str) -> Compared:
    if not truth:
        return Compared(name, REFERENCE, 0, None, why)
    return _pair(name, REFERENCE, answer[: len(truth)], truth, why)


def _times(
    sides: Sides, case: Cases, engine: Engine, first: Sequence[Executed]
) -> tuple[tuple[Times, ...], list[str]]:
    """The runs of each side, in turn; and whether a library answers as it did before."""
    slowest = max(each.seconds[0] for each in first)
    repeat = max(LEAST, min(MOST, int(SECONDS / max(slowest, 1e-6))))
    seconds: tuple[list[float], list[float]] = ([], [])
    problems: dict[str, None] = {}
    for _ in range(ROUNDS):
        for at, name in enumerate(sides.names):
            library = sides.libraries[at]
            if library is None:
                continue
            environment = sides.environments[at]
            try:
                done = execute(sides.compiler, environment, library, case, engine, repeat=repeat)
            except HarnessError as error:
                return (), [f"{name}: {error.what}"]
            seconds[at].extend(done.seconds)
            again = _pair(name, name, first[at].outputs[:1], done.outputs)
            if again.drift is None or not again.drift.none:
                problems[f"{name}: its library answers the same input differently"] = None
    return tuple(Times(tuple(side)) for side in seconds), list(problems)
