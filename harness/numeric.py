"""Each built library of a model, run, against the model itself: is what it answers what ONNX says?

What is expected is evaluated in a process of its own, which can be ended; the libraries run in the
engine. See :mod:`harness.accounting.numeric` for the inputs and for what rounding may do.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from pydantic import TypeAdapter, ValidationError

from harness.accounting.interface import Kind, NotInterpretedError
from harness.accounting.numeric import (
    SAMPLES,
    Drawn,
    Evaluator,
    Expected,
    Judged,
    edge_inputs,
    expect,
    judge,
    random_inputs,
    towards_edge,
)
from harness.accounting.onnx_values import TRIALS, bound, draw
from harness.accounting.triggers import Posed, pose
from harness.accounting.written_out import Question, filled, holds, plainest
from harness.build import Installed
from harness.drift import between
from harness.engines.interface import Engine
from harness.errors import HarnessError
from harness.execute import execute, has_runner
from harness.models import Account, BuildRecord, LeftOver, Model, Outcome
from harness.process import FIXED_ENVIRONMENT, run
from harness.store import Store
from harness.text import printable

Array = np.ndarray[Any, Any]
Outputs = tuple[tuple[Array, ...], ...]

LIBRARY = "library"
INPUTS = 8  # random ones; the edges and the walks come on top
SECONDS = 20.0  # of CPU for what is expected; what is done by then counts
SLOW = 0.5  # seconds of CPU of one evaluation, with which there is one sample of rounding, not four
MEMORY_BYTES = 8 * 2**30
MOST_INPUT_BYTES = 2**30  # of all cases together
MOST_SHOWN = 20  # findings of one library

SEARCH_SECONDS = 60.0  # of z3, for one finding
POSE_SECONDS = 12.0  # a tenth of what posing the questions may take
SOLVER_BYTES = 4 * 2**30
SEARCHES = ((8.0, False), (8.0, True), (1e4, False))  # floats up to; multiples of a small part only
MOST_SECONDS = 240.0  # of z3, for all findings of a build
MOST_PLACES = 20  # findings that are tried
MOST_ANSWERS = 2  # inputs that are run for one finding
MOST_LISTED = 8  # elements that are named
ORDINARY = 3  # random inputs beside them, for what rounding does as a rule
_POSED = TypeAdapter(tuple[Posed, ...])
_ROOT = Path(__file__).resolve().parent.parent
_SOLVING = Path(__file__).with_name("solving.py")


@dataclass(frozen=True)
class Checked:
    """``accounts``: of each build. ``notes``: what was measured, a line for each library, pair."""

    accounts: tuple[Account, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """``why``: what could not be evaluated, empty if everything was."""

    expected: tuple[Expected, ...]
    why: str


def cross_check(
    model: Model,
    records: Sequence[BuildRecord],
    installed: Mapping[str, Installed],
    store: Store,
    engine: Engine,
    folder: Path,
    *,
    inputs: int = INPUTS,
    seed: int = 0,
    seconds: float = SECONDS,
) -> Checked:
    """Every built library of ``records`` (one model's) against the model, and against each other.

    installed: by toolchain. folder: an empty one to work in. inputs: how many random ones.
    seconds: of CPU for the evaluator. Libraries of equal bytes run once. Raises nothing for what
    a library or a model does: what cannot be answered is ``unknown``.
    """
    built = [record for record in records if record.outcome is Outcome.BUILT]
    asked = expectations(model, store, folder, inputs, seed, seconds)
    cases = [one.drawn.inputs for one in asked.expected] or unjudged(model, folder, inputs, seed)
    accounts: list[Account] = []
    notes: list[str] = []
    first: dict[str, Account] = {}
    answers: dict[str, Outputs] = {}
    for record in built:
        found = [one for one in record.artifacts if one.stage == LIBRARY]
        if len(found) != 1:
            accounts.append(blank(record, "the build has not exactly one library"))
            continue
        digest = found[0].sha256
        if digest in first:
            before = first[digest]
            accounts.append(
                replace(before, build=record.id, toolchain=record.toolchain,
                        shared_with=before.build)
            )  # fmt: skip
            continue
        account, note, outputs = one_library(record, digest, installed, store, engine, asked, cases)
        first[digest] = account
        accounts.append(account)
        notes += note
        if outputs:
            answers[digest] = outputs
    names = {digest: account.toolchain for digest, account in first.items() if digest in answers}
    for one, other in itertools.combinations(answers, 2):
        notes.append(drifted(model.name, names[one], names[other], answers[one], answers[other]))
    return Checked(tuple(accounts), tuple(notes))


def one_library(
    record: BuildRecord,
    digest: str,
    installed: Mapping[str, Installed],
    store: Store,
    engine: Engine,
    asked: Asked,
    cases: Sequence[Mapping[str, Array]],
) -> tuple[Account, list[str], Outputs]:
    """Its account, what was measured, and its outputs for all cases."""
    if not has_runner(record.compiler):
        why = f"no runner for {record.compiler}: its libraries cannot be run"
        return blank(record, why), [], ()
    # The first input again at the end: a library must not answer by what came before.
    cases = [*cases, *cases[:1]]
    if not cases:
        return blank(record, f"the ONNX reference evaluator: {asked.why}"), [], ()
    try:
        library = store.verified(digest)
        environment = installed[record.toolchain].environment
        done = execute(record.compiler, environment, library, cases, engine)
    except HarnessError as error:
        return blank(record, f"running the library: {error.what}"), [], ()
    outputs = done.outputs[:-1]
    left = []
    if not same(done.outputs[0], done.outputs[-1]):
        what = "answers the same input differently after others"
        left.append(LeftOver(LIBRARY, "the first random input", what))
    if not asked.expected:
        why = printable(f"the ONNX reference evaluator: {asked.why}", 600)
        return account(record, len(left), 0, left, (why,)), [], outputs
    why = f"not all inputs: {asked.why}"
    enough = any(one.drawn.kind == "random" and one.finite for one in asked.expected)
    unknown = (why,) if asked.why and not enough else ()
    try:
        judged = judge(asked.expected, outputs)
    except ValueError as error:
        left.append(LeftOver(LIBRARY, "outputs", printable(str(error), 300)))
        return account(record, 1, 0, left, unknown), [], outputs
    left += [
        LeftOver(LIBRARY, printable(off.where, 300), printable(off.what, 300))
        for off in judged.off[:MOST_SHOWN]
    ]
    made = account(record, judged.outputs, judged.outputs - len(judged.off), left, unknown)
    if not judged.outputs:
        made = replace(made, unknown=(*made.unknown, "no input has a finite answer"))
    notes = [measured(record, judged)]
    if asked.why and enough:
        notes.append(printable(f"{record.model}: {len(asked.expected)} inputs; {why}", 600))
    return made, notes, outputs


def unjudged(model: Model, folder: Path, count: int, seed: int) -> list[dict[str, Array]]:
    """Inputs to hold libraries against each other at least, where the model cannot be evaluated."""
    proto = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    try:
        drawn = random_inputs(proto, model.inputs, seed, count)
    except NotInterpretedError:
        return []
    return [dict(one.inputs) for one in drawn]


def measured(record: BuildRecord, judged: Judged) -> str:
    drift = judged.drift
    flips = f", {drift.flips} of {drift.labels} labels differ" if drift.labels else ""
    return printable(
        f"{record.model}, {record.toolchain}: {judged.outputs} outputs against the ONNX reference "
        f"in float64: at most {drift.max_abs:.3g} apart ({judged.farthest}), {drift.max_ulp} ULP, "
        f"{judged.ratio:.2g} times what rounding does{flips}",
        600,
    )


def drifted(model: str, left: str, right: str, one: Outputs, other: Outputs) -> str:
    try:
        drift = between(one, other)
    except ValueError as error:
        return printable(f"{model}: {left} against {right}: {error}", 600)
    return printable(
        f"{model}: {left} against {right}: at most {drift.max_abs:.3g} apart, {drift.max_ulp} ULP, "
        f"{drift.flips} of {drift.labels} labels differ",
        600,
    )


def same(one: Sequence[Array], other: Sequence[Array]) -> bool:
    return len(one) == len(other) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(one, other, strict=True)
    )


def blank(record: BuildRecord, why: str) -> Account:
    return account(record, 0, 0, [], (printable(why, 600),))


def account(
    record: BuildRecord,
    things: int,
    attributed: int,
    left: list[LeftOver],
    unknown: tuple[str, ...],
) -> Account:
    return Account(
        Kind.NUMERIC.value, record.model, record.id, record.toolchain, LIBRARY, things, attributed,
        tuple(left), unknown,
    )  # fmt: skip


# Triggers: inputs that make what is left over speak.


@dataclass(frozen=True)
class Tried:
    """What the search for a trigger came to, for the finding at ``where``.

    ``proven``: the library answers ``inputs`` otherwise than the model does. ``what`` is one
    printable line that says so, or says ``unsolved`` and why: never that it is fine.
    """

    where: str
    proven: bool
    what: str
    inputs: Mapping[str, Array] | None = None


@dataclass(frozen=True)
class _Answer:
    place: str
    inputs: dict[str, Array]
    shown: str


def prove(
    model: Model,
    record: BuildRecord,
    places: Sequence[str],
    installed: Mapping[str, Installed],
    store: Store,
    engine: Engine,
    folder: Path,
    *,
    seed: int = 0,
    seconds: float = SEARCH_SECONDS,
) -> tuple[Tried, ...]:
    """For each finding of the build's tensor IR, an input that shows what it does, if one is found.

    places: ``where`` of the findings (:class:`LeftOver`), of stage tensor-ir or any other that
    names a function of tensor IR. installed: by toolchain. folder: an empty one to work in.
    seconds: for z3, all questions of a finding together.
    """
    if find_spec("z3") is None:
        return tuple(
            Tried(place, False, "unsolved: z3-solver is not installed") for place in places
        )
    placed(model, store, folder)
    proto = onnx.load(str(folder / "model.onnx"))
    try:
        base = random_inputs(proto, model.inputs, seed, 1)[0].inputs
        posed = questions(model, record, list(dict.fromkeys(places))[:MOST_PLACES], store, folder,
                          seed)  # fmt: skip
    except NotInterpretedError as error:
        return tuple(Tried(place, False, f"unsolved: {error.what}") for place in places)
    answers: list[_Answer] = []
    why = dict.fromkeys(places, f"unsolved: not tried, after {MOST_PLACES} findings or in time")
    search = _Search(proto, base, folder)
    end = time.monotonic() + MOST_SECONDS
    for one in posed:
        left = min(seconds, end - time.monotonic())
        if left > 0:
            found, said = search.solved(one, left)
            answers += found
            why[one.where] = f"unsolved: {said}"
    shown = demonstrated(model, record, answers, installed, store, engine, folder, seed)
    out = []
    for place in places:
        proofs = [tried for tried in shown if tried.where == place]
        best = next((tried for tried in proofs if tried.proven), proofs[0] if proofs else None)
        out.append(best or Tried(place, False, printable(why[place], 600)))
    return tuple(out)


def questions(
    model: Model, record: BuildRecord, places: list[str], store: Store, folder: Path, seed: int
) -> tuple[Posed, ...]:
    """What :func:`pose` makes of the build's tensor IR, in a process that can be ended."""
    blobs: dict[str, str] = {}
    module = None
    for artifact in record.artifacts:
        if (artifact.stage, artifact.name) == ("tensor-ir", "module.py"):
            module = str(store.verified(artifact.sha256))
        elif artifact.stage == "constants":
            blobs[artifact.sha256] = str(store.verified(artifact.sha256))
    if module is None:
        raise NotInterpretedError("the build has no tensor-ir/module.py")
    request = {
        "pose": {"module": module, "blobs": blobs, "places": places},
        "shapes": {name: list(shape) for name, shape in model.inputs.items()}, "seed": seed,
    }  # fmt: skip
    why = called(folder, request, POSE_SECONDS)
    try:
        return _POSED.validate_json((folder / "posed.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise NotInterpretedError(why or "no question could be posed") from error


def posing(folder: Path, request: dict[str, Any]) -> None:
    """The other side of it."""
    asked = request["pose"]
    proto = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    shapes = {name: tuple(shape) for name, shape in request["shapes"].items()}
    drawn = draw(proto, shapes, seed=request["seed"], trials=TRIALS)
    blobs = {digest: Path(path).read_bytes() for digest, path in asked["blobs"].items()}
    posed = pose(Path(asked["module"]).read_bytes(), drawn, blobs, asked["places"])
    (folder / "posed.json").write_bytes(_POSED.dump_json(posed))


class _Search:
    """Asks z3; each question once."""

    def __init__(self, proto: onnx.ModelProto, base: Mapping[str, Array], folder: Path) -> None:
        self.proto = proto
        self.base = base
        self.folder = folder
        self.known: dict[tuple[Any, ...], tuple[dict[str, dict[str, float]] | None, str]] = {}

    def solved(self, posed: Posed, seconds: float) -> tuple[list[_Answer], str]:
        """Inputs that answer the questions, or why there is none."""
        end = time.monotonic() + seconds
        found: list[_Answer] = []
        said = posed.why
        for question in posed.questions:
            left = end - time.monotonic()
            if left <= 0 or len(found) == MOST_ANSWERS:
                break
            key = (question.nodes, question.goals)
            if key not in self.known:
                self.known[key] = self.elements(question, left)
            plain, said = self.known[key]
            if plain is not None:
                inputs = filled(self.base, plain)
                found.append(_Answer(posed.where, inputs, listed(plain)))
        return found, said or "not solved in time"

    def elements(
        self, question: Question, seconds: float
    ) -> tuple[dict[str, dict[str, float]] | None, str]:
        end = time.monotonic() + seconds
        said = "not solved in time"
        for wide, grid in SEARCHES:
            left = end - time.monotonic()
            if left <= 0:
                break
            bounds = {
                name: (0.0, float(bound(self.proto, name) - 1))
                if value.dtype.kind in "iu"
                else (-wide, wide)
                for name, value in self.base.items()
            }
            elements, said = asked_of_z3(question, bounds, grid, self.folder, left)
            if elements is not None and holds(question, filled(self.base, elements)):
                return plainest(question, self.base, elements), ""
        return None, said


def listed(elements: Mapping[str, Mapping[str, float]]) -> str:
    """``x[3] = 1, x[17] = 0``: flat indices."""
    found = [
        f"{name}[{at}] = {value:.6g}"
        for name, part in elements.items()
        for at, value in sorted(part.items(), key=lambda item: int(item[0]))
    ]
    many = f" … ({len(found)} elements)" if len(found) > MOST_LISTED else ""
    return ", ".join(found[:MOST_LISTED]) + many


def asked_of_z3(
    question: Question,
    bounds: Mapping[str, tuple[float, float]],
    grid: bool,
    folder: Path,
    seconds: float,
) -> tuple[dict[str, dict[str, float]] | None, str]:
    asked = question.asked(bounds)
    asked |= {"grid": grid, "seconds": seconds, "memory_bytes": SOLVER_BYTES}
    (folder / "question.json").write_text(json.dumps(asked), "utf-8")
    (folder / "answer.json").unlink(missing_ok=True)
    argv = [sys.executable, "-P", str(_SOLVING), str(folder)]
    done = run(argv, timeout=seconds + 20, cwd=folder)
    if done.timed_out or done.exit_code != 0:
        lines = [line.strip() for line in done.output.splitlines() if line.strip()]
        return None, "z3: not done in time" if done.timed_out else f"z3: {(lines or ['ended'])[-1]}"
    answer = json.loads((folder / "answer.json").read_text("utf-8"))
    if answer["said"][-1] == "sat":
        return answer["elements"], "an input was found, but its numbers do not hold in floats"
    return None, f"z3 says {answer['said'][-1]} of: {question.about}"


def demonstrated(
    model: Model,
    record: BuildRecord,
    answers: Sequence[_Answer],
    installed: Mapping[str, Installed],
    store: Store,
    engine: Engine,
    folder: Path,
    seed: int,
) -> list[Tried]:
    """Each answer, run through the library and the model."""
    if not answers:
        return []
    names = list(answers[0].inputs)
    single: dict[bytes, int] = {}  # of each input that is run once, its number
    numbers = [
        single.setdefault(b"".join(answer.inputs[name].tobytes() for name in names), len(single))
        for answer in answers
    ]
    for number, answer in zip(numbers, answers, strict=True):
        arrays: dict[str, Any] = {str(at): answer.inputs[name] for at, name in enumerate(names)}
        np.savez(folder / f"given-{number}.npz", allow_pickle=False, **arrays)
    request = {
        "shapes": {name: list(shape) for name, shape in model.inputs.items()},
        "inputs": ORDINARY, "seed": seed, "seconds": SECONDS, "given": len(single),
        "names": names,
    }  # fmt: skip
    asked = evaluated(folder, request, SECONDS)
    ordinary = asked.expected[:ORDINARY]
    libraries = [one for one in record.artifacts if one.stage == LIBRARY]
    shown = []
    try:
        if len(asked.expected) <= ORDINARY:
            raise NotInterpretedError(asked.why or "nothing was evaluated")
        if len(libraries) != 1:
            raise NotInterpretedError("the build has not exactly one library")
        done = execute(
            record.compiler, installed[record.toolchain].environment,
            store.verified(libraries[0].sha256), [one.drawn.inputs for one in asked.expected],
            engine,
        )  # fmt: skip
        for answer, number in zip(answers, numbers, strict=True):
            if ORDINARY + number >= len(asked.expected):
                continue
            expected = asked.expected[ORDINARY + number]
            outputs = done.outputs[ORDINARY + number]
            judged = judge([*ordinary, expected], [*done.outputs[:ORDINARY], outputs])
            off = [item for item in judged.off if item.where.startswith(expected.drawn.label)]
            if off:
                place = off[0].where.removeprefix(f"{expected.drawn.label}, ")
                what = f"fired by a random input with {answer.shown}: {place}: {off[0].what}"
            else:
                what = f"unsolved: with {answer.shown} the library answers as the model does"
            shown.append(Tried(answer.place, bool(off), printable(what, 600), answer.inputs))
    except (HarnessError, ValueError) as error:
        why = error.what if isinstance(error, HarnessError) else str(error)
        what = printable(f"unsolved: an input was found, but not run: {why}", 600)
        return [Tried(answer.place, False, what, answer.inputs) for answer in answers]
    return shown


# What is expected, evaluated in a process that can be ended.


def expectations(
    model: Model, store: Store, folder: Path, inputs: int, seed: int, seconds: float
) -> Asked:
    """Evaluates until ``seconds`` of CPU are over. ``folder`` gets the model and the results."""
    placed(model, store, folder)
    request = {
        "shapes": {name: list(shape) for name, shape in model.inputs.items()},
        "inputs": inputs, "seed": seed, "seconds": seconds,
    }  # fmt: skip
    return evaluated(folder, request, seconds)


def placed(model: Model, store: Store, folder: Path) -> None:
    store.place(model.sha256, folder / "model.onnx")
    for location, digest in model.external:
        store.place(digest, folder / location)


def called(folder: Path, request: dict[str, Any], seconds: float) -> str:
    """Runs :func:`main` on the request; why it did not do all of it, or nothing."""
    (folder / "request.json").write_text(json.dumps(request), "utf-8")
    (folder / "why.txt").unlink(missing_ok=True)
    # -P: the working directory must not come first on the module path.
    argv = [sys.executable, "-P", "-m", "harness.numeric", str(folder)]
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    # One thread, so that sums have one order.
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    environment = {**os.environ, **FIXED_ENVIRONMENT, **threads, "PYTHONPATH": path}
    done = run(argv, env=environment, timeout=10 * seconds + 60, cwd=folder)
    said = folder / "why.txt"
    if said.exists():
        return said.read_text("utf-8")
    if done.exit_code == 0:
        return ""
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    return "not done in time" if done.timed_out else (lines or [f"exit {done.exit_code}"])[-1]


def evaluated(folder: Path, request: dict[str, Any], seconds: float) -> Asked:
    why = called(folder, request, seconds)
    found = []
    for number in itertools.count():
        file = folder / f"expected-{number}.npz"
        if not file.exists():
            break
        found.append(loaded(file))
    return Asked(tuple(found), printable(why, 300))


def saved(path: Path, one: Expected) -> None:
    names = list(one.drawn.inputs)
    arrays: dict[str, Any] = {f"in-{at}": one.drawn.inputs[name] for at, name in enumerate(names)}
    arrays.update({f"out-{at}": value for at, value in enumerate(one.outputs)})
    arrays["rounding"] = np.asarray(one.rounding, np.float64)
    about = json.dumps({"kind": one.drawn.kind, "label": one.drawn.label, "names": names})
    arrays["about"] = np.frombuffer(about.encode("utf-8"), np.uint8)
    part = path.with_suffix(".part.npz")
    np.savez(part, allow_pickle=False, **arrays)
    part.rename(path)


def loaded(path: Path) -> Expected:
    with np.load(path, allow_pickle=False) as data:
        about = json.loads(data["about"].tobytes().decode("utf-8"))
        inputs = {name: data[f"in-{at}"] for at, name in enumerate(about["names"])}
        rounding = tuple(float(value) for value in data["rounding"])
        outputs = tuple(data[f"out-{at}"] for at in range(len(rounding)))
    return Expected(Drawn(about["kind"], about["label"], inputs), outputs, rounding)


class _TimeIsUp(Exception):  # noqa: N818 - it is no error
    pass


def main(folder: Path) -> None:
    """``python -m harness.numeric FOLDER``: request.json → expected-N.npz, or posed.json."""
    request = json.loads((folder / "request.json").read_text("utf-8"))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    end = time.process_time() + request.get("seconds", math.inf)

    def tick() -> None:
        if time.process_time() > end:
            raise _TimeIsUp

    why = ""
    try:
        if "pose" in request:
            posing(folder, request)
        else:
            work(folder, request, tick)
    except _TimeIsUp:
        why = f"it was not done within {request['seconds']:g} s"
    except (NotInterpretedError, MemoryError) as error:
        why = error.what if isinstance(error, NotInterpretedError) else "out of memory"
    if why:
        (folder / "why.txt").write_text(why, "utf-8")


def work(folder: Path, request: dict[str, Any], tick: Any) -> None:
    model = onnx.load(str(folder / "model.onnx"))
    shapes = {name: tuple(shape) for name, shape in request["shapes"].items()}
    double = Evaluator(model, double=True, tick=tick)
    single = Evaluator(model, double=False, tick=tick)
    seed = request["seed"]
    done: list[Expected] = []
    samples = [SAMPLES]
    size = 0

    def keep(drawn: Drawn, outputs: tuple[Array, ...] | None = None) -> None:
        nonlocal size
        size += sum(value.nbytes for value in drawn.inputs.values())
        if size > MOST_INPUT_BYTES:
            raise NotInterpretedError(f"inputs of more than {MOST_INPUT_BYTES} bytes")
        if outputs is None:
            began = time.process_time()
            outputs = double(drawn.inputs)
            if time.process_time() - began > SLOW:
                samples[0] = 1
        done.append(expect(double, single, drawn, seed, outputs, samples[0]))
        saved(folder / f"expected-{len(done) - 1}.npz", done[-1])

    for drawn in random_inputs(model, shapes, seed, request["inputs"]):
        keep(drawn)
    for number in range(request.get("given", 0)):
        with np.load(folder / f"given-{number}.npz", allow_pickle=False) as data:
            inputs = {name: data[str(at)] for at, name in enumerate(request["names"])}
        keep(Drawn("given", f"given input {number}", inputs))
    if "given" not in request:
        for drawn in edge_inputs(model, shapes, seed):
            keep(drawn)
        for drawn, outputs in towards_edge(double, tuple(done), seed):
            keep(drawn, outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
