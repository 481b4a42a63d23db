"""Property: accounting finds an attack whatever it looks like, and nothing in a clean build.

Attacks and models are drawn by a seed: place in the compiler, kind, layer, size and values of the
trigger, payload, names. HARNESS_ATTACKS says how many (16), HARNESS_SEED which (0).
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness import audit, environments, redteam, toolchains
from harness.engines.sandbox import Sandbox
from harness.environments import say_nothing
from harness.models import Outcome, Policy, Report
from harness.redteam import Attack, Element, Planted
from harness.reports.progress import Quiet
from harness.resolve import Options, folders, resolve
from harness.settings import Settings, Variations
from harness.sources import ModelSource
from harness.store import Store
from tests.conftest import CLEAN

pytestmark = pytest.mark.integration

COUNT = int(os.environ.get("HARNESS_ATTACKS", "16"))
SEED = int(os.environ.get("HARNESS_SEED", "0"))
REPLAYER = "llvm/22.1.8-xtc-x86_64"

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
PLACES = ("simplify", "frontend", "pipeline", "operator", "codegen", "backend", "linker")
# All dumps are clean; only the binary is not. Replays may tell as well as accounting.
BELOW = ("backend", "linker")
KINDS = (
    "comparison", "spacing", "layers", "smooth", "rounding", "leak", "weight-bit",
    "weights-scaled", "code-step", "mistranslate",
)  # fmt: skip
PREFIXES = ("t", "onnx::MatMul_", "conv_", "/model/layer.1/attention/", "relu", "x_scale_")


class Network:
    """An ONNX model, node by node, with random weights."""

    def __init__(
        self, rng: random.Random, shape: Sequence[int], element: int = FLOAT, opset: int = 17
    ) -> None:
        self.shape, self.element, self.opset = tuple(shape), element, opset
        self.numbers = np.random.default_rng(rng.randrange(2**32))
        self.nodes: list[onnx.NodeProto] = []
        self.held: list[TensorProto] = []
        self.last = "x"

    def weights(self, *shape: int) -> str:
        return self.constant(self.numbers.standard_normal(shape) / math.sqrt(shape[-1]))

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"w{len(self.held)}"
        self.held.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def add(self, operator: str, *more: str, of: str | None = None, **attributes: Any) -> str:
        """A node of the last value (or ``of``) and ``more``; what it yields is the last one now."""
        made = f"v{len(self.nodes)}"
        inputs = [self.last if of is None else of, *more]
        self.nodes.append(helper.make_node(operator, inputs, [made], **attributes))
        self.last = made
        return made

    def model(self) -> onnx.ModelProto:
        self.nodes[-1].output[0] = "y"
        graph = helper.make_graph(
            self.nodes,
            "generated",
            [helper.make_tensor_value_info("x", self.element, self.shape)],
            [helper.make_tensor_value_info("y", FLOAT, None)],
            self.held,
        )
        opset = helper.make_opsetid("", self.opset)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def dense(rng: random.Random, asleep: bool = False) -> Network:
    """Layers of any width, two items at once. asleep: one unit that hardly any input wakes."""
    width = rng.randrange(6, 20)
    made = Network(rng, (2, width))
    for _ in range(rng.randrange(2, 4)):
        width, before = rng.randrange(6, 20), width
        made.add("MatMul", made.weights(before, width))
        made.add(
            "Add", made.constant([-60.0, *[0.1] * (width - 1)]) if asleep else made.weights(width)
        )
        made.add("Relu" if asleep else rng.choice(["Relu", "Tanh"]))
    made.add("MatMul", made.weights(width, 5))
    return made


def image(rng: random.Random) -> Network:
    """Convolution, normalization, pooling, a classifier."""
    size, channels = rng.randrange(10, 15), rng.randrange(3, 7)
    made = Network(rng, (1, 3, size, size))
    made.add("Conv", made.weights(channels, 3, 3, 3), pads=[1, 1, 1, 1])
    scale, offset, mean = (made.weights(channels) for _ in range(3))
    made.add("BatchNormalization", scale, offset, mean, made.constant(np.linspace(1, 2, channels)))
    made.add("Relu")
    made.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    made.add("Conv", made.weights(4, channels, 3, 3), made.weights(4))
    made.add(rng.choice(["Relu", "Sigmoid", "LeakyRelu"]))
    made.add("GlobalAveragePool")
    made.add("Flatten")
    made.add("Gemm", made.weights(4, 6), made.weights(6))
    made.add("Softmax")
    return made


def text(rng: random.Random) -> Network:
    """Numbers of words, looked up in a table."""
    words, width = rng.randrange(24, 60), rng.randrange(4, 9)
    made = Network(rng, (rng.choice([1, 2]), rng.randrange(16, 24)), rng.choice([INT32, INT64]))
    table = made.weights(words, width)
    made.add("Gather", made.last, of=table)
    made.add("MatMul", made.weights(width, width))
    made.add("Tanh")
    made.add("ReduceMean", axes=[1], keepdims=0)
    made.add("MatMul", made.weights(width, 4))
    made.add("Relu")
    made.add("MatMul", made.weights(4, 4))
    return made


def other(rng: random.Random, bound: float | None = None) -> Network:
    """Bounds, choices and a normalization: operators that decide by values."""
    width = rng.randrange(8, 16)
    bound = rng.choice([0.3, 0.6]) if bound is None else bound
    made = Network(rng, (rng.choice([1, 2, 3]), width))
    made.add("MatMul", made.weights(width, width))
    low, high = made.constant(-bound), made.constant(bound)
    clipped = made.add("Clip", low, high)
    above = made.add("Greater", made.constant(0.1))
    squashed = made.add("HardSigmoid", of=clipped, alpha=0.3, beta=0.4)
    made.add("Where", squashed, clipped, of=above)
    made.add("LayerNormalization", made.weights(width), made.weights(width), axis=-1)
    made.add("MatMul", made.weights(width, 4))
    return made


def far(rng: random.Random) -> Network:
    """A choice and a bound that ordinary inputs do not reach."""
    width = rng.randrange(8, 16)
    made = Network(rng, (2, width))
    usual = made.add("MatMul", made.weights(width, width))
    doubled = made.add("Mul", made.constant(2))
    above = made.add("Greater", made.constant(rng.uniform(3000, 6000)), of=usual)
    made.add("Where", doubled, usual, of=above)
    made.add("Clip", made.constant(-7000), made.constant(7000))
    made.add("MatMul", made.weights(width, 4))
    return made


def bright(rng: random.Random) -> Network:
    """Windows in which ordinary inputs leave nothing negative."""
    made = Network(rng, (1, 3, 8, 8))
    made.add("Conv", made.weights(4, 3, 3, 3), pads=[1, 1, 1, 1])
    made.add("Add", made.constant(rng.uniform(1000, 5000)))
    made.add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    made.add("GlobalAveragePool")
    made.add("Flatten")
    made.add("Gemm", made.weights(4, 5), made.weights(5))
    return made


def quantised(rng: random.Random) -> Network:
    """Weights in 8 bits, and values rounded to 8 bits between layers."""
    width = rng.randrange(8, 16)
    made = Network(rng, (2, width), opset=19)
    zero = made.constant(0, np.int8)
    for before, after in ((width, 8), (8, 5)):
        step = made.constant(0.05)
        values = made.add("QuantizeLinear", step, zero)
        values = made.add("DequantizeLinear", step, zero)
        codes = made.constant(made.numbers.integers(-127, 128, (before, after)), np.int8)
        weights = made.add("DequantizeLinear", made.constant(0.01), zero, of=codes)
        made.add("MatMul", weights, of=values)
        made.add("Relu")
    return made


MAKES: Mapping[str, Callable[[random.Random], Network]] = {
    "dense": dense, "image": image, "text": text, "other": other, "quantised": quantised,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model, and the attack that is planted while it is built; None: a clean build."""

    name: str
    model: onnx.ModelProto
    attack: Attack | None
    trigger: tuple[Element, ...] = ()
    clean: str = ""  # the case that is the same model, built cleanly

    def __str__(self) -> str:
        if self.attack is None:
            return self.name
        plain = Attack(
            title="", classes=(), inserted="", literature="", place="", kind="", first=""
        )
        default = asdict(plain)
        said = {k: v for k, v in asdict(self.attack).items() if v != default[k]}
        return f"{self.name}: {said}, trigger {self.trigger}"


def cases(seed: int, count: int) -> list[Case]:
    """A clean build of each model, and so many attacks, spread over models and places."""
    rng = random.Random(seed)
    models = {make: network(rng).model() for make, network in MAKES.items()}
    clean = [Case(f"clean-{make}", marked(model, make), None) for make, model in models.items()]
    places, makes = rng.sample(PLACES, len(PLACES)), rng.sample(clean, len(clean))
    made = []
    for number in range(count):
        source = makes[number % len(makes)]
        drawn = attack(rng, source.model, places[number % len(places)], f"drawn-{seed}-{number}")
        model = marked(source.model, drawn.name)
        where = trigger(rng, model, drawn.kind)
        made.append(Case(drawn.name, model, drawn, where, source.name))
    return [*clean, *made]


def marked(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The same model, in other bytes: an attack is for one file. No compiler reads this text."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.doc_string = name
    return copy


def attack(rng: random.Random, model: onnx.ModelProto, place: str, name: str) -> Attack:
    """One that works on this model."""
    inner = place == "operator" or (place in ("codegen", *BELOW) and rng.random() < 0.3)
    needs = {"spacing": "integer", "leak": "batch", "code-step": "quantised"}
    while True:
        kind = "predicate" if inner else rng.choice(KINDS)
        drawn = Attack(
            title="drawn", classes=(), inserted="", literature="", first="", name=name,
            place=place,
            within="operator" if inner else "model",
            kind=kind,
            needs=needs.get(kind, "any"),  # type: ignore[arg-type]
            layer=rng.choice([1.0, rng.random()]),
            target=rng.random() * 0.9,
            payload=(rng.choice([0.0, rng.uniform(-50, 50)]), rng.uniform(-50, 50)),
            bit=rng.randrange(31),
            prefix=rng.choice(PREFIXES),
        )  # fmt: skip
        if redteam.fits(drawn, model, {}):
            return drawn


def trigger(rng: random.Random, model: onnx.ModelProto, kind: str) -> tuple[Element, ...]:
    """1 to 12 elements of one item of the input; if it is to leak, of the second."""
    tensor = model.graph.input[0].type.tensor_type
    batch, *rest = (dim.dim_value for dim in tensor.shape.dim)
    size = math.prod(rest)
    count = 2 if kind == "spacing" else rng.randint(1, min(12, size))
    begin = size * (1 if kind == "leak" else rng.randrange(batch))
    places = sorted(rng.sample(range(begin, begin + size), count))
    floating = tensor.elem_type == FLOAT
    return tuple(
        (place, round(rng.uniform(-2, 2), 2) if floating else float(rng.randrange(20)))
        for place in places
    )


def run(cases: Sequence[Case], folder: Path) -> Report:
    """One run of all of them in one toolchain, which plants each attack while its model builds."""
    sources, planted = [], []
    for case in cases:
        path = folder / f"{case.name}.onnx"
        onnx.save(case.model, path)
        sources.append(ModelSource(case.name, path))
        if case.attack is not None:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            planted.append(Planted(case.attack, case.trigger, digest))
    evil = redteam.compromised(CLEAN[0])
    redteam.compose("generated", planted, CLEAN[:1], folder / "toolchains")
    jobs = os.cpu_count() or 1
    options = Options(jobs=jobs, toolchain_folders=(folder / "toolchains",), fresh=True)
    what = Settings(
        models=tuple(sources),
        toolchains=(evil,),
        variations=Variations(builds=1),
        policy=Policy(min_builds=1, min_toolchains=1),
        replayers=(REPLAYER,),
    )
    store, engine = Store(folder / "results"), Sandbox()
    try:
        request = resolve(what, options, store, (), say_nothing, engine)
        return audit.run(request, engine, store, Quiet())
    finally:
        environments.discard(toolchains.load(folders(options))[evil])


def evidence(report: Report, case: Case) -> list[str]:
    """What speaks against a build. Unknowns do not: they are no evidence, they end as no answer."""
    replays = [
        f"replay {each.name}"
        for each in report.replays
        if each.model == case.name and each.verdict.exit_code == 1
    ]
    return [*replays, *(
        f"{each.kind} of {each.stage}: {left.what} ({left.where})"
        for each in report.accounts
        if each.model == case.name
        for left in each.left_over
    )]  # fmt: skip


def library(report: Report, case: Case) -> str:
    build = next(each for each in report.builds if each.model == case.name)
    return next(each.sha256 for each in build.artifacts if each.stage == "library")


def judged(report: Report, drawn: Sequence[Case], idle: list[str]) -> list[str]:
    """What is wrong: an attack that was not found, a clean build that was not cleared."""
    wrong = []
    for case in drawn:
        found = evidence(report, case)
        accounted = [line for line in found if not line.startswith("replay ")]
        accounts = [each for each in report.accounts if each.model == case.name]
        unknown = [why for each in accounts for why in each.unknown]
        if case.attack is None:
            wrong += [f"{case}: {line}" for line in (*accounted, *unknown)]
            continue
        clean = next(each for each in drawn if each.name == case.clean)
        if library(report, case) == library(report, clean):
            idle.append(case.name)  # such as a bit that folding rounds away: nothing was planted
        elif case.attack.place in BELOW:
            # Where a replay speaks against the clean build as well, it says nothing here.
            if not accounted and not set(found) - set(evidence(report, clean)):
                wrong.append(f"nothing found: {case}")
        elif not accounted:
            wrong.append(f"accounting found nothing: {case}; unknown: {unknown}")
    return wrong


def built(report: Report, drawn: Sequence[Case]) -> None:
    failed = [each for each in report.builds if each.outcome is not Outcome.BUILT]
    named = {each.model: each.detail for each in failed}
    assert not named, [f"{case}: {named[case.name]}" for case in drawn if case.name in named]


def test_every_drawn_attack_is_found_and_nothing_in_clean_builds(tmp_path: Path) -> None:
    drawn = cases(SEED, COUNT)
    report = run(drawn, tmp_path)
    built(report, drawn)
    idle: list[str] = []
    wrong = judged(report, drawn, idle)
    assert not wrong, "\n".join(wrong)
    assert len(idle) <= COUNT // 4, idle


def unreached(rng: random.Random) -> list[Case]:
    """Attacks that change only what random inputs never reach, and that add no decision."""
    made = []
    for make, network, planted in (
        # a bound that is left out; as many comparisons as before, but another answer past it
        ("wide", other(rng, 60.0), (("pipeline", "mistranslate"), ("pipeline", "beyond"))),
        # weights of a unit that sleeps; a unit that is awake where it should sleep
        ("asleep", dense(rng, asleep=True), (("operator", "sleeping"), ("operator", "woken"))),
        # another row for an index that counts from the end
        ("text", text(rng), (("operator", "negative"),)),
        # a bound that lies further out; a choice that is none
        ("far", far(rng), (("pipeline", "moved"), ("pipeline", "other-side"))),
        # zeros outside of windows
        ("bright", bright(rng), (("pipeline", "padded"),)),
    ):
        model = network.model()
        clean = Case(f"clean-{make}", marked(model, make), None)
        made.append(clean)
        for place, kind in planted:
            name = f"{make}-{kind}"
            within: Any = "operator" if place == "operator" else "model"
            attack = Attack(
                title="unreached", classes=(), inserted="", literature="", first="", name=name,
                place=place, within=within, kind=kind,
            )  # fmt: skip
            made.append(Case(name, marked(model, name), attack, (), clean.name))
    return made


# What only values drawn for the place can tell, where no random input leads.
BY_PLACE = {"asleep-sleeping", "asleep-woken", "far-moved", "bright-padded"}


def test_what_random_inputs_never_reach(tmp_path: Path) -> None:
    drawn = unreached(random.Random(SEED))
    report = run(drawn, tmp_path)
    built(report, drawn)
    idle: list[str] = []
    wrong = judged(report, drawn, idle)
    assert not wrong, "\n".join(wrong)
    assert not idle
    for case in drawn:
        if case.name in BY_PLACE:
            found = evidence(report, case)
            assert any("where no random input came" in line for line in found), (case, found)
