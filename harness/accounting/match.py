"""An interpreted stage against the source model: what of it does the model not ask for?

Values of both are matched by what they are on random inputs. Between a matched value and the
nearest matched values that it is computed from lies its *cone*; the model's nodes between the same
values are what may be in it:

1. The cone starts from what those nodes start from, neither more nor less.
2. It decides no more often than they need. Without decisions, and without curves and products of
   data, it is linear, and linear functions that agree at random points are equal.
3. What it decides on is a value of the model, or one moved about or scaled as a whole; otherwise
   the same number of decisions could be made on something else.
   A curve or a product is no wider than the model's, so that none of its elements are to spare.
4. A cone that computes what it starts from (a blend that is off) may start from nothing else.
5. No value is so large that adding to it rounds, which is a decision too.
6. The outputs are the model's outputs, and nothing is computed that no output needs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.accounting.fingerprint import LARGEST, Values, apart, extent, idle, plain, same
from harness.accounting.interface import Accounted, Array, Choice, Kind, Step, Trace, Unaccounted
from harness.accounting.needs import needs
from harness.accounting.onnx_values import Node, Source
from harness.text import printable

# Decisions that jump; the others are smooth, and only counted.
JUMPS = frozenset(Choice) - {Choice.CURVE, Choice.PRODUCT}
MOST_PATH = 12  # steps shown
MOST_FINDINGS = 200
EXACT = 1e-9
ABSORBING = 2.0**18  # float32 has 24 bits
TINY = 2.0**-102  # of float32, below 2 ** -126, fewer


def account(trace: Trace, source: Source) -> tuple[Accounted, Accounted]:
    """The graph and the decisions of a stage. The trace's inputs and outputs are the model's."""
    return Matching(trace, source).accounted()


@dataclass
class Cone:
    """What is computed between ``borders``, the nearest matched values, and ``key``."""

    key: int
    steps: list[Step] = field(default_factory=list)
    borders: list[int] = field(default_factory=list)


@dataclass
class Region:
    """What the model computes between classes of values."""

    nodes: list[Node] = field(default_factory=list)
    reached: set[int] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)  # inputs that no border stands before


class Matching:
    def __init__(self, trace: Trace, source: Source) -> None:
        self.trace = trace
        self.source = source
        self.makers = {step.result: step for step in trace.steps}
        self.inputs = set(trace.inputs.values())
        self.moving = set(self.inputs)
        self.users: dict[int, list[Step]] = defaultdict(list)
        for step in trace.steps:
            if self.moving.intersection(step.operands):
                self.moving.add(step.result)
            for operand in step.operands:
                self.users[operand].append(step)
        here = {key: source.index.held(trace.values[key]) for key in sorted(self.moving)}
        self.idle = {key for key, held in here.items() if not held and idle(trace.values[key])}
        found = {
            key: source.index.find(trace.values[key]) for key in here if key not in self.idle
        }  # fmt: skip
        self.classes = {key: number for key, number in found.items() if number is not None}
        self.members = source.members
        self.resting = Values()
        for name, value in source.values.items():
            if name not in source.classes:
                self.resting.add(value, 0)
        self.known = set(self.members)
        self.graph: list[Unaccounted] = []
        self.decided: list[Unaccounted] = []
        self.unknown: list[str] = []
        # What nodes need and no cone before has used: see `judge`.
        self.spare: dict[int, Counter[Choice]] = {}
        self.lent: dict[int, Counter[Choice]] = defaultdict(Counter)
        self.around: dict[int, list[Node]] = {}
        self.extents: dict[int, float] = {}
        self.deciding: dict[int, set[Choice]] = defaultdict(set)  # by class: what its steps decide
        self.bad: set[int] = set()  # results of steps with a finding, or in a cone with one

    def accounted(self) -> tuple[Accounted, Accounted]:
        needed = self.needed()
        self.outputs()
        steps = [step for step in self.trace.steps if step.result in self.moving]
        live = [step for step in steps if step.result in needed]
        for step in live:
            if step.result in self.classes:
                choices = {one.choice for one in step.decisions}
                self.deciding[self.classes[step.result]] |= choices
        for step in live:
            if step.result in self.classes:
                self.judge(self.cone(step.result), self.classes[step.result])
        for key, name in zip(self.trace.outputs, self.source.outputs, strict=False):
            if key in self.makers and key not in self.classes and name in self.source.classes:
                self.judge(self.cone(key), self.source.classes[name])
        here = self.trace.steps
        self.dead(
            [step for step in here if step.result not in needed],
            [step for step in here if step.result in needed],
        )
        self.left_out()
        covered = self.covered(live)
        for step in live:
            if step.result not in covered:
                self.bad.add(step.result)
        decisions = [one for step in first_results(steps) for one in step.decisions]
        lost = sum(len(step.decisions) for step in live if step.result not in covered)
        stage = self.trace.stage
        unknown = tuple(dict.fromkeys(self.unknown))
        return (
            Accounted(
                Kind.GRAPH, stage, len(live),
                len([step for step in live if step.result not in self.bad]),
                tuple(self.graph[:MOST_FINDINGS]), unknown,
            ),
            Accounted(
                Kind.DECISIONS, stage, len(decisions),
                max(len(decisions) - len(self.decided) - lost, 0),
                tuple(self.decided[:MOST_FINDINGS]), unknown,
            ),
        )  # fmt: skip

    # Over the trace.

    def needed(self) -> set[int]:
        """Everything that an output depends on."""
        found: set[int] = set()
        waiting = list(self.trace.outputs)
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                waiting += self.makers[key].operands if key in self.makers else ()
        return found

    def cone(self, key: int) -> Cone:
        cone = Cone(key)
        seen: set[int] = set()
        waiting = [key]
        while waiting:
            at = waiting.pop()
            if at in seen or at not in self.moving:
                continue
            seen.add(at)
            if at != key and (at in self.classes or at in self.inputs):
                cone.borders.append(at)
            elif at in self.makers:
                cone.steps.append(self.makers[at])
                waiting += self.makers[at].operands
        cone.steps.sort(key=lambda step: step.result)
        return cone

    def covered(self, live: Iterable[Step]) -> set[int]:
        """Steps that some matched value is computed through."""
        return {
            inner.result
            for step in live
            if step.result in self.classes
            for inner in self.cone(step.result).steps
        }

    # Over the model.

    def region(self, names: Iterable[str], borders: set[int]) -> Region:
        """The nodes between classes and names, which may be of such a class themselves."""
        region = Region()
        seen: set[str] = set()
        waiting = [(name, True, True) for name in names]
        while waiting:
            name, first, strict = waiting.pop()
            if name in seen or name not in self.source.values:
                continue
            seen.add(name)
            number = self.source.classes.get(name)
            if number in borders and not first:
                region.reached.add(number)
                continue
            node = self.source.makers.get(name)
            if node is None:
                if strict:
                    region.missing.append(name)
                continue
            region.nodes.append(node)
            # What is behind a value that never changes, such as a shape, need not be there.
            strict = strict and number is not None
            waiting += [(given, False, strict) for given in node.inputs]
        return region

    def explained(self, number: int, borders: set[int]) -> Region:
        """How the model computes a value of a class from ``borders``.

        It may compute it in several ways, as a quantized value that is scaled and quantized again
        is. The first that starts from all of these and from nothing else is meant, else the first.
        """
        regions = (self.region([name], borders) for name in self.members[number])
        found: Region | None = None
        for region in regions:
            found = found or region
            if not region.missing and borders <= region.reached:
                return region
        assert found is not None
        return found

    def within(self, number: int) -> tuple[list[Node], set[int]]:
        """The nodes that compute a value of a class from another of the same class, and what
        else they start from.
        """
        found: dict[int, Node] = {}
        others: set[int] = set()
        for name in self.members[number][1:]:
            region = self.region([name], self.known)
            if number in region.reached and not region.missing:
                found.update({node.index: node for node in region.nodes})
                others |= region.reached
        return list(found.values()), others

    # Judging.

    def judge(self, cone: Cone, number: int) -> None:
        """One cone against the model's nodes between the same values; ``number``: the class that
        it computes, or, if it does not, should.

        A decision may change nothing on random inputs: a clip that is never reached. Then it is in
        a cone that computes what it starts from, and one of these needs it: a node between two such
        values, the node that made the first and has not used all that it needs, or a node that
        takes it and so must do without.
        """
        borders = {self.classes[key] for key in cone.borders if key in self.classes}
        before = len(self.graph) + len(self.decided)
        if number in borders:
            inner, others = self.within(number)
            if number not in self.spare:
                self.around[number] = inner
                self.spare[number] = self.needs(inner)
            takers = self.takers(number)
            self.decisions(cone, number, self.spare[number], takers)
            self.widths(cone, [*self.around[number], *takers])
            others.add(number)
        else:
            region = self.explained(number, borders)
            others = region.reached
            if region.missing:
                self.report(
                    self.graph, Kind.GRAPH, self.makers[cone.key],
                    "computes what the model computes from its input "
                    f"{shown(region.missing[0])}, but not from there",
                )  # fmt: skip
            allowed = self.needs(region.nodes)
            self.decisions(cone, number, allowed, [])
            self.undecided(cone, number, region.nodes)
            self.widths(cone, region.nodes)
            if number not in self.spare:
                inner, _ = self.within(number)
                self.around[number] = [*region.nodes, *inner]
                self.spare[number] = allowed + self.needs(inner)
        self.sizes(cone)
        self.cancels(cone)
        for key in dict.fromkeys(cone.borders):
            if not self.allowed(key, others):
                self.more(cone, key, number)
        if len(self.graph) + len(self.decided) > before:
            self.bad.update(step.result for step in cone.steps)

    def allowed(self, key: int, others: set[int]) -> bool:
        """Whether a border is one of these classes, or a linear function of such alone, and only
        by chance a value of the model as well.
        """
        if self.classes.get(key) in others:
            return True
        if key not in self.makers:
            return False
        inner = self.cone(key)
        return not any(step.decisions for step in inner.steps) and all(
            self.classes.get(border) in others for border in inner.borders
        )

    def takers(self, number: int) -> list[Node]:
        """The nodes that start from a class, but for those whose needs are known to it anyhow."""
        names = set(self.members[number])
        inner = {node.index for node in self.around[number]}
        return [
            node
            for node in self.source.nodes
            if names.intersection(node.inputs) and node.index not in inner
        ]

    def more(self, cone: Cone, key: int, number: int) -> None:
        """A border that the model's nodes do not start from."""
        through = next(
            (step for step in cone.steps if key in step.operands), self.makers[cone.key]
        )  # fmt: skip
        what = f"takes {self.called(key)}, which the model does not use for {self.of(number)}"
        if any(self.classes.get(border) == number for border in cone.borders):
            what += "; on random inputs this changes nothing"
        self.report(self.graph, Kind.GRAPH, through, what)

    def decisions(
        self, cone: Cone, number: int, allowed: Counter[Choice], takers: Iterable[Node]
    ) -> None:
        """``allowed`` is used up; then what ``takers`` need is taken from them."""
        for step in first_results(cone.steps):
            for decision in step.decisions:
                if allowed[decision.choice] > 0:
                    allowed[decision.choice] -= 1
                elif (taker := self.lender(takers, decision.choice)) is not None:
                    self.lent[taker.index][decision.choice] += 1
                else:
                    self.report(
                        self.decided, Kind.DECISIONS, step,
                        f"{decision.choice.value} that no operator of the model needs "
                        f"for {self.of(number)}: {shown(decision.text)}",
                        where=decision.where,
                    )  # fmt: skip
            if cone.key not in self.classes:
                continue  # nothing in it is the model's, and that is said already
            if JUMPS.intersection(one.choice for one in step.decisions):
                for operand in dict.fromkeys(step.operands):
                    if operand in self.moving and not self.of_the_model(operand):
                        self.report(
                            self.decided, Kind.DECISIONS, step,
                            f"{step.decisions[0].choice.value} on a value that the model does not "
                            f"have: {shown(step.decisions[0].text)}",
                            where=step.decisions[0].where,
                        )  # fmt: skip

    def widths(self, cone: Cone, nodes: Iterable[Node]) -> None:
        """No curve or product of data has more elements than the nodes that need it work on."""
        for step in cone.steps:
            for decision in step.decisions:
                if decision.choice in JUMPS:
                    continue
                wide = max(
                    (
                        self.source.size(name)
                        for node in nodes
                        if (needs(node, self.source) or Counter())[decision.choice]
                        for name in (*node.inputs, *node.outputs)
                    ),
                    default=0,
                )
                here = int(np.prod(self.trace.values[step.result].shape[1:]))
                if 0 < wide < here:
                    self.report(
                        self.decided, Kind.DECISIONS, step,
                        f"{decision.choice.value} of {here} elements, where the model has {wide}: "
                        f"{shown(decision.text)}",
                        where=decision.where,
                    )  # fmt: skip

    def sizes(self, cone: Cone) -> None:
        """Adding a large number and taking it away again rounds, but not in float64; nor does
        making numbers so small that float32 holds few bits of them, and large again.
        """
        ends = [self.largest(key) for key in (*cone.borders, cone.key)]
        curved = any(one.choice is Choice.CURVE for step in cone.steps for one in step.decisions)
        for step in cone.steps:
            if step.result in self.classes or step.result not in self.moving:
                continue
            if self.trace.values[step.result].dtype.kind in "iu":
                continue  # integers wrap, here as in the build, but they never round
            if self.largest(step.result) > ABSORBING * max(ends) > 0:
                self.report(
                    self.decided, Kind.DECISIONS, step,
                    "round: a value so large that what is added to it is rounded",
                )  # fmt: skip
            elif self.vanishing(step, curved) and min(ends) > TINY:
                self.report(
                    self.decided, Kind.DECISIONS, step,
                    "round: a value so small that few of its bits are left",
                )  # fmt: skip

    def cancels(self, cone: Cone) -> None:
        """What is linear in data that vary, and does not vary, takes away what it adds.

        Values that are off by little go on here as the same, so that nothing shows of their
        difference, however much it is made of afterwards.
        """
        for step in cone.steps:
            if step.result in self.idle and not step.decisions:
                given = [key for key in step.operands if key in self.moving]
                if len(given) > 1 and not any(key in self.idle for key in given):
                    self.report(
                        self.decided, Kind.DECISIONS, step,
                        "the same for all random inputs, though it is computed from values that "
                        "vary",
                    )  # fmt: skip

    def vanishing(self, step: Step, curved: bool) -> bool:
        """Whether an element is too small for float32 in all trials, and not just zero. Behind a
        curve, or a constant with such elements, that is usual: then whether all of them are.
        """
        if 0 < self.largest(step.result) < TINY:
            return True
        values = self.trace.values
        if curved or values[step.result].dtype.kind != "f":
            return False
        if any(tiny(values[key][:1]) for key in step.operands if key not in self.moving):
            return False
        return tiny(plain(values[step.result]))

    def largest(self, key: int) -> float:
        if key not in self.extents:
            value = plain(self.trace.values[key])
            found = extent(value.ravel())
            if not found < LARGEST:
                # What pads a maximum is no number to reckon with: adding to it changes nothing in
                # float64 either.
                found = extent(value[np.isfinite(value) & (np.abs(value) != LARGEST)])
            self.extents[key] = found
        return self.extents[key]

    def lender(self, takers: Iterable[Node], choice: Choice) -> Node | None:
        return next((node for node in takers if self.needs([node])[choice] > 0), None)

    def of_the_model(self, key: int) -> bool:
        """Whether a value is one of the model's, moved about or scaled and shifted as a whole."""
        if key in self.classes or key in self.inputs:
            return True
        if self.makers[key].decisions:
            return True  # counted, and judged for itself
        origins = list(self.origins(key))
        rows = plain(self.trace.values[key])
        if key in self.idle:
            # Whatever it may be of other inputs: unless the model has it just so.
            return self.idly(key) or (
                len(origins) == 1
                and self.idly(origins[0])
                and scaled(rows, plain(self.trace.values[origins[0]]))
            )
        sources = [plain(self.trace.values[origin]) for origin in origins]
        if len(sources) == 1 and scaled(rows, sources[0]):
            return True
        return moved(rows, sources)

    def idly(self, key: int) -> bool:
        """Whether a value that is the same in all trials is one of the model's that is, too."""
        return self.resting.find(self.trace.values[key]) is not None

    def origins(self, key: int) -> Iterator[int]:
        """The nearest values before one that are matched, or decided."""
        seen: set[int] = set()
        waiting = list(self.makers[key].operands)
        while waiting:
            at = waiting.pop()
            if at in seen or at not in self.moving:
                continue
            seen.add(at)
            if (
                at in self.classes
                or at not in self.makers
                or self.makers[at].decisions
                or (at in self.idle and self.idly(at))
            ):
                yield at
            else:
                waiting += self.makers[at].operands

    def needs(self, nodes: Iterable[Node]) -> Counter[Choice]:
        total: Counter[Choice] = Counter()
        for node in {node.index: node for node in nodes}.values():
            found = needs(node, self.source)
            if found is None:
                self.unknown.append(f"{node.label}: what it decides is not known")
            else:
                total.update(found - self.lent[node.index])
        return total

    def undecided(self, cone: Cone, number: int, nodes: Iterable[Node]) -> None:
        """Whether what each of the model's nodes decides in a cone is decided at all: in it, or on
        the way to its result or to the node's, where it changes nothing on these inputs. What is
        left out may be what no random input reaches.
        """
        made = {one.choice for step in cone.steps for one in step.decisions}
        for node in nodes:
            wanted = self.wanted(node)
            own = self.source.classes.get(node.outputs[0], number) if node.outputs else number
            if wanted and not (made | self.deciding[own] | self.deciding[number]) & wanted:
                self.report(
                    self.decided, Kind.DECISIONS, self.makers[cone.key],
                    f"{shown(node.label)} of the model decides here ({', '.join(sorted(wanted))}), "
                    "and nothing does",
                )  # fmt: skip

    def wanted(self, node: Node) -> set[Choice]:
        """Of these a build needs one, wherever the node's result matters."""
        if node.operator not in DECIDING or redundant(node, self.source):
            return set()
        return set(needs(node, self.source) or ()) - SMOOTH

    def left_out(self) -> None:
        """Decisions of the model that changed nothing on these inputs: are they there at all?

        Its result and what it works on are one class then, and a build without it has the same
        values. So some step that computes this class has to decide.
        """
        for node in self.source.nodes:
            number = self.source.classes.get(node.outputs[0]) if node.outputs else None
            same = [n for n in node.inputs if n and self.source.classes.get(n) == number]
            wanted = self.wanted(node)
            if number is not None and same and wanted and not self.deciding[number] & wanted:
                words = ", ".join(sorted(wanted))
                self.decided.append(
                    Unaccounted(
                        Kind.DECISIONS, self.trace.stage, shown(node.label),
                        f"the model decides here ({words}), and nothing in this stage does; on "
                        "the inputs drawn it changes nothing",
                    )
                )  # fmt: skip

    def outputs(self) -> None:
        if len(self.trace.outputs) != len(self.source.outputs):
            self.graph.append(
                Unaccounted(
                    Kind.GRAPH,
                    self.trace.stage,
                    "outputs",
                    f"{len(self.trace.outputs)}, not {len(self.source.outputs)} as the model has",
                )
            )
        for key, name in zip(self.trace.outputs, self.source.outputs, strict=False):
            wanted = self.source.values.get(name)
            if wanted is None or name not in self.source.classes:
                self.unknown.append(f"the output {shown(name)} does not vary with the inputs")
                continue
            value = self.trace.values[key]
            if value.shape != wanted.shape:
                what = f"has shape {value.shape[1:]}, not {wanted.shape[1:]}"
            elif key not in self.moving:
                what = "does not depend on the inputs"
            elif self.classes.get(key) != self.source.classes[name] or not same(wanted, value):
                what = f"is off by up to {apart(wanted, value):.3g} of its largest; " + self.lost()
            else:
                continue
            self.graph.append(
                Unaccounted(
                    Kind.GRAPH,
                    self.trace.stage,
                    f"output {shown(name)}",
                    what,
                    tuple(self.path(key, key)),
                )
            )

    def lost(self) -> str:
        """The first node of the model whose value the stage does not have."""
        here = set(self.classes.values())
        for name, number in self.source.classes.items():
            node = self.source.makers.get(name)
            if number not in here and node is not None and self.followed(name, here):
                return f"the first node whose value is nowhere here is {node.label}"
        return "each of the model's values is somewhere"

    def followed(self, name: str, here: set[int]) -> bool:
        """Whether no value right after this one is there either, so that it was not just fused."""
        users = [node for node in self.source.nodes if name in node.inputs]
        after = [self.source.classes.get(out) for node in users for out in node.outputs]
        return not any(number in here for number in after)

    def dead(self, steps: Iterable[Step], live: Iterable[Step]) -> None:
        alive = {(step.where, step.operation) for step in live}
        for step in first_results(steps):
            if (step.where, step.operation) in alive:
                continue  # another result of the same call
            held = [key for key in step.operands if key in self.trace.constants]
            if step.decisions:
                self.report(
                    self.decided, Kind.DECISIONS, step,
                    f"{step.decisions[0].choice.value} that no output depends on: "
                    f"{shown(step.decisions[0].text)}",
                )  # fmt: skip
            elif step.result in self.moving and any(
                self.trace.values[key][:1].size > 1 for key in held
            ):
                self.report(
                    self.graph, Kind.GRAPH, step, "uses a constant, but no output depends on it"
                )

    # Telling.

    def report(
        self,
        into: list[Unaccounted],
        kind: Kind,
        step: Step,
        what: str,
        *,
        where: str = "",
    ) -> None:
        self.bad.add(step.result)
        place = where or f"{step.where}: {step.operation}"
        if len(into) < MOST_FINDINGS and not any(
            (one.where, one.what) == (place, what) for one in into
        ):
            path = tuple(self.path(step.result, step.result))
            into.append(Unaccounted(kind, self.trace.stage, place, what, path))

    def called(self, key: int) -> str:
        for name, given in self.trace.inputs.items():
            if given == key:
                return f"the input {shown(name)}"
        step = self.makers[key]
        return f"the result of {step.where}: {step.operation}"

    def of(self, number: int) -> str:
        name = self.members[number][0]
        node = self.source.makers.get(name)
        return f"the input {shown(name)}" if node is None else f"the result of {node.label}"

    def path(self, back: int, on: int) -> list[str]:
        """Steps from an input of the model through a value to an output, by their names."""
        before = self.shortest(back, self.inputs, self.before)
        after = self.shortest(on, set(self.trace.outputs), self.after)
        keys = [*reversed(before), *after[1:]]
        shown_keys = [self.name(key) for key in keys]
        if len(shown_keys) > MOST_PATH:
            half = MOST_PATH // 2
            left = len(shown_keys) - 2 * half
            shown_keys = [*shown_keys[:half], f"({left} more)", *shown_keys[-half:]]
        return shown_keys

    def name(self, key: int) -> str:
        for name, given in self.trace.inputs.items():
            if given == key:
                return f"input {shown(name)}"
        step = self.makers.get(key)
        return f"{step.where}: {step.operation}" if step else "a constant"

    def before(self, key: int) -> Sequence[int]:
        return self.makers[key].operands if key in self.makers else ()

    def after(self, key: int) -> Sequence[int]:
        return [step.result for step in self.users[key]]

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


# What cannot be done without deciding. Others may: a cast that happens to fit, for instance.
DECIDING = frozenset(
    {"Abs", "Ceil", "Clip", "Floor", "GlobalMaxPool", "HardSigmoid", "HardSwish", "LeakyRelu",
     "Max", "MaxPool", "Min", "PRelu", "ReduceMax", "ReduceMin", "Relu", "Round", "Shrink", "Sign",
     "ThresholdedRelu", "Where"}
)  # fmt: skip
SMOOTH = {Choice.CURVE, Choice.PRODUCT}
# Their results are not negative, so taking the sign away, or less than 0, changes nothing ever.
NOT_NEGATIVE = frozenset(
    {"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Sqrt", "ReduceL1", "ReduceL2",
     "ReduceSumSquare"}
)  # fmt: skip


def redundant(node: Node, source: Source) -> bool:
    """Whether no input at all makes a difference: a compiler may leave the node out."""
    if node.operator not in ("Abs", "Relu"):
        return False
    maker = source.makers.get(node.inputs[0])
    return maker is not None and maker.operator in NOT_NEGATIVE


def first_results(steps: Iterable[Step]) -> Iterator[Step]:
    """One step for each call: with several results it is as many steps, and decides once."""
    seen: set[tuple[str, str]] = set()
    for step in steps:
        if (step.where, step.operation) not in seen:
            seen.add((step.where, step.operation))
            yield step


def tiny(rows: Array) -> bool:
    most = np.abs(rows).max(axis=0)
    return bool(((most > 0) & (most < TINY)).any())


def scaled(rows: Array, source: Array) -> bool:
    """Whether ``rows`` are a number times ``source`` plus a number."""
    if rows.shape != source.shape or not np.isfinite(rows).all() or not np.isfinite(source).all():
        return False
    x, y = source.ravel(), rows.ravel()
    middle = x - x.mean()
    weight = float(middle @ middle)
    if weight == 0:
        return False
    slope = float(middle @ y) / weight
    left = y - (slope * middle + y.mean())
    return bool(np.abs(left).max() <= EXACT * max(float(np.abs(y).max()), 1e-300))


def moved(rows: Array, sources: Sequence[Array]) -> bool:
    """Whether each element of each trial is one of the sources', or the same in all trials."""
    fixed = (rows == rows[:1]).all(axis=0)
    for trial, row in enumerate(rows):
        pool = np.concatenate([source[trial] for source in sources]) if sources else row[:0]
        if not (np.isin(row, pool) | fixed).all():
            return False
    return True


def shown(text: str) -> str:
    return printable(text, 160)
