"""What a model answers, how far rounding may carry a library, and which libraries go further.

Expected is what ONNX's own operators give in float64. How far a right library may be off is not
assumed but measured, on each input: the same operators in float32 are one right answer among many,
and float64 with every node's results a little off, a few times over at random, shows what unlucky
rounding does to this model on this input (Monte Carlo arithmetic: Parker, "Monte Carlo arithmetic",
1997). Another order of the same sums, fused multiplications, folded weights and polynomials for exp
and tanh do about as much: a library may be off :data:`ROOM` times as far. Where rounding happens to
do nothing (a saturated softmax) it may be off as far as is usual for the model.

What this cannot find: a trigger. No input drawn here has one, but for the simplest. It finds what
is wrong on every input: weights, attributes and operators that are not the model's, unless the
change is no greater than rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from harness.accounting.interface import NotInterpretedError
from harness.accounting.onnx_run import OWN
from harness.accounting.onnx_values import (
    MOST_NODES,
    RANDOM,
    draw,
    evaluator_of,
    in_double,
    node_of,
    shown,
)
from harness.drift import MAX_LABEL_RANK, Drift, of

Array = np.ndarray[Any, Any]
Case = Mapping[str, Array]

# Clean libraries of eleven models, for text, vision and audio, are at most 8 times as far off.
ROOM = 32.0
SAMPLES = 4  # of unlucky rounding
# The evaluator has these from opset 19 on only; what there was before is unchanged.
QUANTISING, NEWER = {"DequantizeLinear", "QuantizeLinear"}, 21
STEPS = 24  # of a walk towards a decision's edge
KEPT = 4  # inputs of a walk that are used, nearest to the edge
PRECISION = float(np.finfo(np.float32).eps)
LARGE, SMALL, DENORMAL = 1e3, 1e-30, 1e-40


@dataclass(frozen=True)
class Drawn:
    """``kind``: random, edge, margin. ``label``: printable."""

    kind: str
    label: str
    inputs: Case


@dataclass(frozen=True)
class Expected:
    """An input, and what the model answers in float64.

    ``rounding``: how far off float32 and the samples of unlucky rounding are, for each output; not
    finite where they, or the answer, are not: then nothing is promised.
    """

    drawn: Drawn
    outputs: tuple[Array, ...]
    rounding: tuple[float, ...]

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.rounding).all())


@dataclass(frozen=True)
class Off:
    """One output of one case that is further off than rounding explains. Texts are printable."""

    where: str
    what: str
    flip: bool = False


@dataclass(frozen=True)
class Judged:
    """A library's answers held against what is expected.

    ``outputs``: how many were looked at; ``drift``: over all of them. ``off``: the worst first.
    ``ratio``: the largest difference, as a multiple of what rounding does; ``farthest``: where the
    largest absolute difference is.
    """

    outputs: int
    drift: Drift
    ratio: float
    farthest: str
    off: tuple[Off, ...]


class Evaluator:
    """The model, evaluated a node at a time. ``double``: with every float a double.

    ``tick`` is called before each node and may raise, to end it. Raises NotInterpretedError for
    what cannot be evaluated.
    """

    def __init__(
        self, model: onnx.ModelProto, *, double: bool, tick: Callable[[], None] = lambda: None
    ) -> None:
        graph = model.graph
        if len(graph.node) > MOST_NODES or graph.sparse_initializer:
            raise NotInterpretedError("too many nodes, or sparse initializers")
        self.double = double
        self.tick = tick
        self.settled: dict[str, Array] = {
            item.name: self.converted(numpy_helper.to_array(item)) for item in graph.initializer
        }
        self.inputs = [item.name for item in graph.input if item.name not in self.settled]
        self.outputs = [item.name for item in graph.output]
        self.nodes: list[tuple[str, list[str], list[str], ReferenceEvaluator]] = []
        self.kinds: dict[str, np.dtype[Any]] = {}  # of what the last call has computed
        newer = onnx.ModelProto(opset_import=[helper.make_opsetid("", NEWER)])
        moving = set(self.inputs)
        for index, proto in enumerate(graph.node):
            node = node_of(index, proto)
            graphs = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
            if node.operator in RANDOM or any(item.type in graphs for item in proto.attribute):
                raise NotInterpretedError(f"{node.label}: random numbers, or control flow")
            source = newer if node.operator in QUANTISING and node.domain == "" else model
            made = evaluator_of(source, proto, node) if double else alone(source, proto, node.label)
            given = [name for name in dict.fromkeys(node.inputs) if name]
            wanted = [name for name in node.outputs if name]
            if moving.intersection(given):
                moving.update(wanted)
                self.nodes.append((node.label, given, wanted, made))
            else:
                self.settled.update(self.apply(node.label, given, wanted, made, self.settled))
        last = {name: at for at, (_, given, _, _) in enumerate(self.nodes) for name in given}
        self.last = {name: at for name, at in last.items() if name not in set(self.outputs)}

    def converted(self, value: Array) -> Array:
        return in_double(value) if self.double else np.asarray(value)

    def apply(
        self,
        label: str,
        given: Sequence[str],
        wanted: Sequence[str],
        made: ReferenceEvaluator,
        values: Mapping[str, Array],
    ) -> dict[str, Array]:
        self.tick()
        if missing := [name for name in given if name not in values]:
            raise NotInterpretedError(f"{label}: nothing computes {shown(missing[0])}")
        try:
            with np.errstate(all="ignore"):
                results = made.run(list(wanted), {name: values[name] for name in given})
        except Exception as error:
            # The evaluator raises whatever numpy and Python do.
            why = f"{type(error).__name__}: {shown(str(error))}"
            raise NotInterpretedError(f"{label}: {why}") from error
        if any(not isinstance(result, np.ndarray | np.generic) for result in results):
            raise NotInterpretedError(f"{label}: a result that is no tensor")
        # Some of the evaluator's operators answer in double whatever they are given.
        wide = (
            self.double
            or label.startswith("Cast ")
            or any(values[name].dtype == np.float64 for name in given)
        )
        single = any(values[name].dtype == np.float32 for name in given)
        out = {}
        for name, result in zip(wanted, results, strict=True):
            value = self.converted(np.asarray(result))
            narrow = single and not wide and value.dtype == np.float64
            out[name] = value.astype(np.float32) if narrow else value
        return out

    def __call__(
        self,
        inputs: Case,
        noise: np.random.Generator | None = None,
        kinds: Mapping[str, np.dtype[Any]] = MappingProxyType({}),
    ) -> tuple[Array, ...]:
        """The model's outputs; with ``noise``, as if each node had rounded in an unlucky way, to
        the types that its values have according to ``kinds``.
        """
        values = dict(self.settled)
        values.update({name: self.converted(inputs[name]) for name in self.inputs})
        for at, (label, given, wanted, made) in enumerate(self.nodes):
            results = self.apply(label, given, wanted, made, values)
            if noise is not None:
                results = {
                    name: disturbed(value, noise, kinds.get(name))
                    for name, value in results.items()
                }
            self.kinds.update({name: value.dtype for name, value in results.items()})
            values.update(results)
            for name in given:
                if self.last.get(name) == at and name not in self.settled:
                    values.pop(name, None)
        if missing := [name for name in self.outputs if name not in values]:
            raise NotInterpretedError(f"nothing computes the output {shown(missing[0])}")
        return tuple(values[name] for name in self.outputs)


def disturbed(value: Array, noise: np.random.Generator, kind: np.dtype[Any] | None = None) -> Array:
    """Each channel off by a random part of its type's precision, the same all over the channel.

    Roundings average out over an image of noise, but not over one of a single colour, where all of
    a channel's elements are rounded alike; nor does a weight's, which is folded once.
    """
    if value.dtype.kind != "f" or not value.size:
        return value
    shape = [1] * value.ndim
    if value.ndim:
        channel = 1 if value.ndim > 1 else 0
        shape[channel] = value.shape[channel]
    part = float(np.finfo(kind).eps) if kind is not None and kind.kind == "f" else PRECISION
    with np.errstate(all="ignore"):
        return value * (1 + noise.uniform(-part, part, shape))


def alone(model: onnx.ModelProto, proto: onnx.NodeProto, label: str) -> ReferenceEvaluator:
    """One for this node, in the precision that the model declares."""
    names = [name for name in dict.fromkeys(proto.input) if name]
    graph = helper.make_graph(
        [proto], "node",
        [helper.make_tensor_value_info(name, 0, None) for name in names],
        [helper.make_tensor_value_info(name, 0, None) for name in proto.output if name],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions)
    try:
        return ReferenceEvaluator(made, new_ops=OWN)
    except Exception as error:
        why = f"{type(error).__name__}: {shown(str(error))}"
        raise NotInterpretedError(f"{label}: {why}") from error


# Inputs.


def types(model: onnx.ModelProto) -> dict[str, np.dtype[Any]]:
    held = {item.name for item in model.graph.initializer}
    return {
        item.name: np.dtype(helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type))
        for item in model.graph.input
        if item.name not in held
    }


def random_inputs(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], seed: int, count: int
) -> list[Drawn]:
    drawn = draw(model, shapes, trials=count, seed=seed)
    kinds = types(model)
    return [
        Drawn(
            "random",
            f"random input {number}",
            {name: values[number].astype(kinds[name]) for name, values in drawn.items()},
        )
        for number in range(count)
    ]


def edge_inputs(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], seed: int
) -> Iterator[Drawn]:
    """All zeros, all ones, the largest and smallest that make sense, denormals, infinities."""
    kinds = types(model)
    many = draw(model, shapes, trials=64, seed=seed)
    base = {name: values[0].astype(kinds[name]) for name, values in many.items()}

    def made(
        label: str, floats: Callable[[Array], Array], whole: Callable[[Array, int], Array]
    ) -> Drawn:
        inputs = {}
        for name, value in base.items():
            if value.dtype.kind == "f":
                with np.errstate(all="ignore"):
                    inputs[name] = floats(value).astype(value.dtype)
            else:
                most = int(many[name].max(initial=0))
                inputs[name] = whole(value, most).astype(value.dtype)
        return Drawn("edge", label, inputs)

    def every(number: float) -> Callable[[Array], Array]:
        return lambda value: np.full_like(value, number)

    def signed(number: float) -> Callable[[Array], Array]:
        return lambda value: np.sign(value) * np.asarray(number, value.dtype)

    def one(number: float) -> Callable[[Array], Array]:
        def put(value: Array) -> Array:
            changed = value.copy()
            changed.reshape(-1)[: 1 if value.size else 0] = number
            return changed

        return put

    yield made("zeros", every(0.0), lambda v, _: np.zeros_like(v))
    yield made("ones", every(1.0), lambda v, most: np.full_like(v, min(1, most)))
    yield made("minus ones", every(-1.0), lambda v, most: np.full_like(v, most))
    yield made("large values", signed(LARGE), lambda v, most: np.where(v % 2, 0, most))
    if any(value.dtype.kind == "f" for value in base.values()):
        yield made("small values", signed(SMALL), lambda v, _: v)
        yield made("denormals", signed(DENORMAL), lambda v, _: v)
        for number, label in ((np.inf, "infinity"), (-np.inf, "-infinity"), (np.nan, "NaN")):
            yield made(f"one element {label}", one(number), lambda v, _: v)


def between(a: Case, b: Case, part: float, order: Mapping[str, Array]) -> dict[str, Array]:
    """Floats: on the line between the two. Others: the first ``part`` in ``order`` from ``b``."""
    mixed = {}
    for name, left in a.items():
        right = b[name]
        if left.dtype.kind == "f":
            mixed[name] = (left + (right - left) * np.asarray(part, left.dtype)).astype(left.dtype)
        else:
            flat = left.reshape(-1).copy()
            chosen = order[name][: round(part * flat.size)]
            flat[chosen] = right.reshape(-1)[chosen]
            mixed[name] = flat.reshape(left.shape)
    return mixed


def labels(outputs: Sequence[Array]) -> tuple[Array, Array] | None:
    """(largest element's place, its distance to the second) of each row of the first output that
    has rows of classes; None if no output has.
    """
    for value in outputs:
        if 1 <= value.ndim <= MAX_LABEL_RANK and value.shape[-1] >= 2 and value.dtype.kind == "f":
            rows = value.reshape(-1, value.shape[-1])
            top = np.sort(rows, axis=1)[:, -2:]
            return rows.argmax(axis=1), top[:, 1] - top[:, 0]
    return None


def towards_edge(
    evaluate: Callable[[Case], tuple[Array, ...]], known: Sequence[Expected], seed: int
) -> Iterator[tuple[Drawn, tuple[Array, ...]]]:
    """Inputs at which the model can hardly decide: on the way between two with other answers.

    The way is halved, on the side where the answer changes. Nothing, if all answers are alike.
    """
    found: dict[int, Expected] = {}
    for one in known:
        answer = labels(one.outputs)
        if answer is not None and one.finite:
            found.setdefault(int(answer[0][0]), one)
    if len(found) < 2:
        return
    ends = sorted(found.values(), key=lambda one: (one.drawn.kind == "edge", one.drawn.label))
    source = np.random.default_rng([seed, 1])
    for number, (left, right) in enumerate(itertools.pairwise(ends)):
        order = {name: source.permutation(v.size) for name, v in left.drawn.inputs.items()}
        first = labels(left.outputs)
        assert first is not None
        low, high = 0.0, 1.0
        seen: dict[bytes, None] = {}
        walked: list[tuple[Drawn, tuple[Array, ...]]] = []
        for _ in range(STEPS):
            middle = (low + high) / 2
            inputs = between(left.drawn.inputs, right.drawn.inputs, middle, order)
            key = b"".join(value.tobytes() for value in inputs.values())
            if key in seen:
                break
            seen[key] = None
            outputs = evaluate(inputs)
            answer = labels(outputs)
            if answer is None:
                break
            walked.append((Drawn("margin", f"walk {number}, {len(walked)}", inputs), outputs))
            if answer[0][0] == first[0][0]:
                low = middle
            else:
                high = middle
        yield from walked[-KEPT:]


# Judging.


def expect(
    double: Evaluator,
    single: Evaluator,
    drawn: Drawn,
    seed: int,
    outputs: tuple[Array, ...] | None = None,
    samples: int = SAMPLES,
) -> Expected:
    """Evaluates one input. ``outputs``: in float64, if they are known."""
    known = double(drawn.inputs) if outputs is None else outputs
    noise = np.random.default_rng([seed, 2])
    others = [single(drawn.inputs)]
    others += [double(drawn.inputs, noise, single.kinds) for _ in range(samples)]
    rounding = tuple(
        max(apart(other[at], value) for other in others) for at, value in enumerate(known)
    )
    return Expected(drawn, known, rounding)


def apart(one: Array, other: Array) -> float:
    """The largest difference; infinite where one is not finite."""
    return worst(one, other)[1] if one.shape == other.shape and one.size else 0.0


def usual(expected: Sequence[Expected]) -> tuple[float, ...]:
    """How far rounding carries each output as a rule: the median over random inputs."""
    good = [one for one in expected if one.drawn.kind == "random" and one.finite]
    return tuple(
        float(np.median([one.rounding[at] for one in good])) if good else 0.0
        for at in range(len(expected[0].outputs) if expected else 0)
    )


def slack(one: Expected, at: int, ordinary: Sequence[float]) -> float:
    """How far rounding carries this output here, or as a rule if that is more."""
    value = one.outputs[at]
    if value.dtype.kind != "f":
        return one.rounding[at]
    least = PRECISION * float(np.abs(value).max(initial=0.0))
    return max(one.rounding[at], ordinary[at], least, float(np.finfo(np.float32).tiny))


def judge(expected: Sequence[Expected], answers: Sequence[Sequence[Array]]) -> Judged:
    """Raises ValueError where the library's outputs are not of the model's number or shapes."""
    ordinary = usual(expected)
    looked, ratio, farthest, distance = 0, 0.0, "", -1.0
    total = Drift()
    off: list[tuple[float, Off]] = []
    for one, answer in zip(expected, answers, strict=True):
        if len(answer) != len(one.outputs):
            raise ValueError(f"{len(answer)} outputs where the model has {len(one.outputs)}")
        if not one.finite:
            continue  # nothing is promised
        for at, got in enumerate(answer):
            wanted = one.outputs[at]
            if got.shape != wanted.shape or got.dtype.kind != wanted.dtype.kind:
                raise ValueError(
                    f"output {at}: {got.dtype} {got.shape} where the model has "
                    f"{wanted.dtype} {wanted.shape}"
                )
            looked += 1
            here = of(got, wanted.astype(got.dtype))
            total = added(total, here)
            if not got.size:
                continue
            room = slack(one, at, ordinary)
            place, gap = worst(got, wanted)
            where = f"{one.drawn.label}, output {at}, element {place}"
            if gap > distance:
                distance, farthest = gap, where
            if got.dtype.kind != "f":
                # Near an edge of a decision, either answer is right.
                if gap > room and one.drawn.kind != "margin":
                    off.append((np.inf, Off(where, f"{pair(got, wanted, place)}: no rounding")))
                continue
            here_ratio = gap / room if np.isfinite(gap) else np.inf
            ratio = max(ratio, here_ratio)
            flip = flipped(got, wanted, ROOM * room)
            if here_ratio <= ROOM and not flip:
                continue
            what = (
                f"{pair(got, wanted, place)}: {gap:.3g} off, where rounding explains "
                f"{ROOM * room:.3g}"
            )
            off.append((here_ratio, Off(where, what + ("; another label" if flip else ""), flip)))
    ordered = sorted(off, key=lambda item: (not item[1].flip, -item[0]))
    return Judged(looked, total, float(ratio), farthest, tuple(item for _, item in ordered))


def added(one: Drift, other: Drift) -> Drift:
    return Drift(
        one.elements + other.elements,
        one.differing + other.differing,
        one.incomparable + other.incomparable,
        max(one.max_ulp, other.max_ulp),
        max(one.max_abs, other.max_abs),
        one.labels + other.labels,
        one.flips + other.flips,
    )


def worst(got: Array, wanted: Array) -> tuple[tuple[int, ...], float]:
    """Where the two are farthest apart, and how far: infinitely, if one alone is not finite."""
    with np.errstate(all="ignore"):
        gaps = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    gaps = np.where(np.isfinite(gaps), gaps, np.inf)
    place = np.unravel_index(int(gaps.argmax()), gaps.shape)
    return tuple(int(at) for at in place), float(gaps[place])


def pair(got: Array, wanted: Array, place: tuple[int, ...]) -> str:
    return f"{got[place]:.9g} instead of {wanted[place]:.9g}"


def flipped(got: Array, wanted: Array, room: float) -> bool:
    """Whether a row has another largest element, although the model's leads by more than both of
    two elements can be off.
    """
    if not 1 <= wanted.ndim <= MAX_LABEL_RANK or wanted.shape[-1] < 2:
        return False
    rows, other = wanted.reshape(-1, wanted.shape[-1]), got.reshape(-1, got.shape[-1])
    top = np.sort(rows, axis=1)[:, -2:]
    clear = top[:, 1] - top[:, 0] > 2 * room
    return bool(((rows.argmax(axis=1) != other.argmax(axis=1)) & clear).any())
