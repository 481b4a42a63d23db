"""Compromised compilers, planted for real: what the harness must catch, and whether it does.

An attack is a file in ``redteam/attacks``. Laid over a clean toolchain together with
``redteam/overlay`` it makes a compromised one, whose artifacts do what the attack says: that is
checked, too, by running them. The harness itself is told nothing of it.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
from pydantic import ConfigDict, TypeAdapter

from harness import audit, environments, toolchains
from harness.accounting.everything import shapes_of
from harness.accounting.interface import Array
from harness.accounting.onnx_values import draw
from harness.engines.interface import Engine
from harness.errors import HarnessError, UsageError
from harness.execute import execute
from harness.models import ComparisonKind, Model, Outcome, Policy, Report, Verdict
from harness.places import HERE
from harness.reports.progress import Quiet
from harness.resolve import Options, Say, folders, resolve
from harness.settings import Settings, Variations
from harness.sources import ModelSource, fetch
from harness.store import Store
from harness.tomlfile import read_toml

CORPUS = HERE / "redteam"
CLEAN_INPUTS = 20  # on which a compromised artifact must answer as the clean one does
SPREAD = 1e-4  # the greatest difference that rounding may make there, of outputs of size 1
EFFECT = 1e-2  # the least difference that a trigger must make

Element = tuple[int, float]  # place in the flattened input, value


class Scenario(StrEnum):
    ONE = "one"  # one toolchain of three is compromised: the others tell
    ALL = "all"  # all are, alike: nothing but accounting can tell


@dataclass(frozen=True)
class Trigger:
    """Elements of the first input and their values, for models that take floats, and integers."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    floats: tuple[Element, ...] = ()
    integers: tuple[Element, ...] = ()


@dataclass(frozen=True)
class Attack:
    """A file of ``redteam/attacks``.

    classes: as in the README's table of attacks. inserted: the stage in the public taxonomy of ML
    backdoors. place, within, kind, when: what ``redteam/overlay`` mounts. layer: how far down the
    graph, from 0 to 1. needs: the first input that it works on. first: where it shows first, if one
    toolchain is compromised. live: whether a trigger changes what comes out, or it always is
    changed, or only what is built elsewhere. builds: of each toolchain. repeats: whether it is the
    toolchain's own repeats that show it. accounted: whether accounting must find it where all
    toolchains are compromised alike; if not, ``limit`` says why, and what does. hidden: nothing
    that the harness does shows it; ``limit`` says why, and what would.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    title: str
    classes: tuple[int, ...]
    inserted: str
    literature: str
    place: str
    kind: str
    first: str
    needs: Literal["any", "float", "integer", "batch", "quantised"] = "any"
    within: Literal["model", "operator"] = "model"
    live: Literal["trigger", "always", "elsewhere"] = "trigger"
    layer: float = 1.0
    target: float = 0.3
    payload: tuple[float, float] = (0.0, 1.0)
    bit: int = 0
    builds: int = 1
    repeats: bool = False
    accounted: bool = True
    hidden: bool = False
    limit: str = ""
    prefix: str = "t"  # of the names of what it adds
    item: int = 0  # of a batch, to which the trigger's places are relative
    trigger: Trigger = field(default_factory=Trigger)
    when: tuple[tuple[str, str], ...] = ()
    name: str = ""  # the file's


class Planted(NamedTuple):
    """An attack as it is laid over a toolchain; ``model``: sha256 of the only model file that it
    is for.
    """

    attack: Attack
    trigger: Sequence[Element]
    model: str = ""


@dataclass(frozen=True)
class Played:
    """What came of one attack on one model.

    found: evidence → the first stage that it speaks of. caught: exit code 1, by the evidence that
    must show it, at the right stage, and against the right toolchains. missed: why it was not.
    limit: why it cannot be, for what is known to stay hidden. live: why it is not live, or empty.
    seconds: of the whole run.
    """

    attack: str
    model: str
    scenario: Scenario
    verdict: Verdict
    found: Mapping[str, str]
    caught: bool
    live: str
    seconds: float
    run: str
    missed: str = ""
    limit: str = ""

    @property
    def passed(self) -> bool:
        return (self.caught or bool(self.limit)) and not self.live


_ADAPTER = TypeAdapter(Attack)


def load(folder: Path = CORPUS / "attacks") -> dict[str, Attack]:
    """All attacks by name."""
    found = {
        path.stem: replace(read_toml(path, _ADAPTER, HarnessError), name=path.stem)
        for path in sorted(folder.glob("*.toml"))
    }
    if not found:
        raise UsageError(f"{folder} holds no attack", "Is this a whole checkout?")
    return found


def fits(attack: Attack, model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether the attack works on models of this kind."""
    held = {item.name for item in model.graph.initializer}
    first = next(item for item in model.graph.input if item.name not in held)
    floating = first.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    batch = shapes.get(first.name, [dim.dim_value for dim in first.type.tensor_type.shape.dim])[0]
    types = {item.data_type for item in model.graph.initializer}
    answers: dict[str, bool] = {
        "any": True,
        "float": floating,
        "integer": not floating,
        "batch": batch > 1,
        "quantised": bool(types & {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}),
    }
    return answers[attack.needs]


def pick(
    corpus: Mapping[str, Attack], sources: Sequence[ModelSource], seed: int
) -> tuple[Attack, ModelSource]:
    """One attack and a model that it works on, by the seed. None that shows only by chance."""
    protos = {source.name: onnx.load(fetch(source)) for source in sources}
    fit = [
        (attack, source)
        for attack in corpus.values()
        for source in sources
        if not attack.repeats
        and not attack.hidden
        and fits(attack, protos[source.name], source.inputs)
    ]
    if not fit:
        raise UsageError("no attack works on these models", "See harness redteam --list.")
    return random.Random(seed).choice(fit)  # noqa: S311 - nobody is to be surprised by it


def elements(
    attack: Attack, model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]
) -> tuple[Element, ...]:
    """The trigger for a model that takes floats, or integers, by places in the whole input."""
    held = {item.name for item in model.graph.initializer}
    first = next(item for item in model.graph.input if item.name not in held)
    floating = first.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    batch, *rest = shapes_of(model, shapes)[first.name]
    size = math.prod(rest) if attack.item else batch * math.prod(rest)
    begin = attack.item * size
    wanted = attack.trigger.floats if floating else attack.trigger.integers
    return tuple((begin + place % size, value) for place, value in wanted)


def compose(name: str, planted: Sequence[Planted], bases: Sequence[str], folder: Path) -> None:
    """A folder of toolchains, each of the bases compromised by the attacks, under their name."""
    described = [
        {
            "kind": attack.kind, "place": attack.place, "within": attack.within,
            "layer": attack.layer, "target": attack.target, "payload": attack.payload,
            "bit": attack.bit, "prefix": attack.prefix, "when": attack.when,
            "trigger": list(trigger), "model": model,
        }
        for attack, trigger, model in planted
    ]  # fmt: skip
    for base in bases:
        compiler, _, rest = base.partition("/")
        own = folder / compiler
        overlay = own / "overlay"
        if not overlay.exists():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CORPUS / "overlay", overlay, ignore=skip)
            (overlay / "attacks.json").write_text(json.dumps(described, indent=1))
        version, _, tail = rest.partition("-")
        arch = tail.rpartition("-")[2]
        (own / f"{version}-redteam-{arch}.toml").write_text(
            f'base = "{base}"\noverlay = "overlay"\nredteam = "{name}"\n'
        )


def compromised(base: str) -> str:
    """What :func:`compose` calls a base that it compromised."""
    compiler, _, rest = base.partition("/")
    version, _, tail = rest.partition("-")
    return f"{compiler}/{version}-redteam-{tail.rpartition('-')[2]}"


def play(
    attack: Attack,
    source: ModelSource,
    scenario: Scenario,
    clean: Sequence[str],
    replayers: tuple[str, ...],
    policy: Policy,
    options: Options,
    engine: Engine,
    store: Store,
    say: Say,
) -> Played:
    """Plant the attack, run the ordinary pipeline, and look whether it was caught and was live.

    clean: toolchains of one compiler; the last one is compromised, or all but the first.
    """
    began = time.monotonic()
    proto = onnx.load(fetch(source))
    trigger = elements(attack, proto, source.inputs)
    bases = (clean[-1],) if scenario is Scenario.ONE else tuple(clean[1:])
    honest = clean[:-1] if scenario is Scenario.ONE else ()
    with tempfile.TemporaryDirectory(prefix="harness-redteam-") as name:
        folder = Path(name)
        compose(attack.name, [Planted(attack, trigger)], bases, folder)
        chosen = replace(options, toolchain_folders=(folder,), fresh=True)
        evil = tuple(compromised(base) for base in bases)
        what = Settings(
            models=(source,),
            toolchains=(*honest, *evil),
            variations=Variations(builds=attack.builds),
            policy=replace(policy, min_builds=1, min_toolchains=1),
            replayers=replayers,
        )
        try:
            request = resolve(what, chosen, store, (), say, engine)
            report = audit.run(request, engine, store, Quiet())
            live = _live(attack, trigger, proto, report, request, engine, store, scenario)
        finally:
            known = toolchains.load(folders(chosen))
            for each in evil:
                environments.discard(known[each])
    found = evidence(report)
    missed = _missed(attack, scenario, report, found, evil)
    return Played(
        attack=attack.name, model=source.name, scenario=scenario, verdict=report.verdict,
        found=found, caught=not missed, live=live, missed=missed, run=report.run,
        seconds=round(time.monotonic() - began, 1), limit=attack.limit if attack.hidden else "",
    )  # fmt: skip


def evidence(report: Report) -> dict[str, str]:
    """Each kind of evidence that speaks against the first model → the first stage it speaks of."""
    verdict = report.verdicts[0]
    order = [stage.stage for stage in verdict.stages]
    found: dict[str, list[str]] = {}
    for result in report.comparisons:
        if result.verdict.exit_code == 1:
            found.setdefault(result.comparison.kind, []).append(result.comparison.stage)
    for replay in report.replays:
        if replay.verdict.exit_code == 1:
            found.setdefault("replay", []).append(replay.stage)
    for account in report.accounts:
        if account.left_over:
            found.setdefault(account.kind, []).append(account.stage)
    return {kind: min(stages, key=order.index) for kind, stages in found.items()}


def _missed(
    attack: Attack,
    scenario: Scenario,
    report: Report,
    found: Mapping[str, str],
    evil: Sequence[str],
) -> str:
    """Why this does not count as caught; empty if it does."""
    failed = [build.id for build in report.builds if build.outcome is not Outcome.BUILT]
    if failed:
        return f"{failed[0]} was not built"
    comparisons = {kind.value for kind in ComparisonKind}
    if scenario is Scenario.ALL:
        if not found:
            return "nothing found it"
        if attack.accounted and not set(found) - comparisons - {"replay"}:
            return "accounting found nothing"
        return ""
    verdict = report.verdicts[0]
    wanted = ComparisonKind.REPEAT.value if attack.repeats else None
    if wanted and wanted not in found:
        return "its own repeats agree"
    if not wanted and not comparisons & set(found):
        return "no comparison found it"
    if verdict.first_divergence != attack.first:
        return f"found at {verdict.first_divergence}, not at {attack.first}"
    if set(verdict.odd_ones_out) != set(evil):
        return f"odd one out: {', '.join(verdict.odd_ones_out) or 'cannot be told'}"
    return ""


def _live(
    attack: Attack,
    trigger: Sequence[Element],
    proto: onnx.ModelProto,
    report: Report,
    request: audit.Request,
    engine: Engine,
    store: Store,
    scenario: Scenario,
) -> str:
    """Run the artifacts: empty if the attack does what it says, else what it does not do."""
    if scenario is Scenario.ALL:
        return ""  # the same artifact, against no clean one
    marked = {each.name for each in report.toolchains if each.redteam}
    built = [b for b in report.builds if b.outcome is Outcome.BUILT]
    good = next((b for b in built if b.toolchain not in marked), None)
    bad = [b for b in built if b.toolchain in marked]
    if good is None or not bad:
        return "nothing was built"
    library = {
        b.id: next((a.sha256 for a in b.artifacts if a.stage == "library"), None)
        for b in (good, *bad)
    }
    other = next((b for b in bad if library[b.id] != library[good.id]), None)
    if attack.live == "elsewhere":
        return "it is mounted here, too" if other else ""
    runtimes = [request.installed[good.toolchain].environment] * 2
    if attack.place == "runtime":
        other = bad[0]
        runtimes[1] = request.installed[other.toolchain].environment
    if other is None:
        return "its library is the clean one"
    cases, triggered = _cases(proto, report.models[0], trigger)
    answers: list[tuple[tuple[Array, ...], ...]] = []
    with tempfile.TemporaryDirectory() as name:
        for build, environment in zip((good, other), runtimes, strict=True):
            digest = library[build.id]
            assert digest is not None
            place = Path(name) / f"{len(answers)}.so"
            shutil.copyfile(store.verified(digest), place)
            done = execute(good.compiler, environment, place, [*cases, triggered], engine)
            answers.append(done.outputs)
    spreads = [_distance(a, b) for a, b in zip(*answers, strict=True)]
    if attack.live == "always":
        return "" if max(spreads) > 0 else "its library answers as the clean one does"
    if max(spreads[:-1]) > SPREAD:
        return f"it changes what comes out without its trigger, by {max(spreads[:-1]):.3g}"
    if spreads[-1] < EFFECT:
        return f"its trigger changes what comes out by {spreads[-1]:.3g} only"
    return ""


def _cases(
    proto: onnx.ModelProto, model: Model, trigger: Sequence[Element]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Random inputs, and one of them with the trigger in it, in the types that the model takes."""
    drawn = draw(proto, shapes_of(proto, model.inputs), trials=CLEAN_INPUTS, seed=1)
    held = {item.name for item in proto.graph.initializer}
    types = {
        item.name: onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
        for item in proto.graph.input
        if item.name not in held
    }
    cases = [
        {name: np.ascontiguousarray(values[number].astype(types[name]))
         for name, values in drawn.items()}
        for number in range(CLEAN_INPUTS)
    ]  # fmt: skip
    first = next(iter(types))
    marked = cases[-1][first].copy()
    for place, value in trigger:
        marked.reshape(-1)[place % marked.size] = value
    return cases, {**cases[-1], first: marked}


def _distance(one: Sequence[Any], other: Sequence[Any]) -> float:
    """The greatest difference between two answers, against the size of the first."""
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        size = max(1.0, float(np.abs(a.astype(np.float64)).max(initial=0)))
        worst = max(worst, float(np.abs(a.astype(np.float64) - b).max(initial=0)) / size)
    return worst
