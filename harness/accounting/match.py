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
7. Each cone does what those nodes do on values drawn for it, where no random input has led
   (:mod:`harness.accounting.locally`): what the model decides itself could be another thing there.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from harness.accounting.cones import Cone, Cones
from harness.accounting.fingerprint import apart, same
from harness.accounting.interface import Accounted, Choice, Kind, Step, Trace, Unaccounted
from harness.accounting.locally import Locally
from harness.accounting.necessary import JUMPS, necessary
from harness.accounting.needs import needs
from harness.accounting.onnx_values import Node, Source
from harness.accounting.origins import Origins
from harness.accounting.routes import Routes, shown
from harness.accounting.sizes import Sizes
from harness.text import printable

MOST_FINDINGS = 200


def account(trace: Trace, source: Source) -> tuple[Accounted, Accounted]:
    """The graph and the decisions of a stage. The trace's inputs and outputs are the model's."""
    return Matching(trace, source).accounted()


class Matching:
    def __init__(self, trace: Trace, source: Source) -> None:
        self.trace = trace
        self.source = source
        self.cones = Cones(trace, source)
        self.routes = Routes(self.cones)
        self.origins = Origins(self.cones)
        self.sizes = Sizes(self.cones)
        self.local = Locally(self.cones, seed_of(source))
        self.graph: list[Unaccounted] = []
        self.decided: list[Unaccounted] = []
        self.unknown: list[str] = []
        # What nodes need and no cone before has used: see `judge`.
        self.spare: dict[int, Counter[Choice]] = {}
        self.lent: dict[int, Counter[Choice]] = defaultdict(Counter)
        self.around: dict[int, list[Node]] = {}
        self.deciding: dict[int, set[Choice]] = defaultdict(set)  # by class: what its steps decide
        self.bad: set[int] = set()  # results of steps with a finding, or in a cone with one

    def accounted(self) -> tuple[Accounted, Accounted]:
        needed = self.cones.needed()
        self.outputs()
        steps = [step for step in self.trace.steps if step.result in self.cones.moving]
        live = [step for step in steps if step.result in needed]
        self.local.run(live)
        for step in live:
            if step.result in self.cones.classes:
                choices = {one.choice for one in step.decisions}
                self.deciding[self.cones.classes[step.result]] |= choices
        for step in live:
            if step.result in self.cones.classes:
                self.judge(self.cones.cone(step.result), self.cones.classes[step.result])
        for key, name in zip(self.trace.outputs, self.source.outputs, strict=False):
            if (
                key in self.cones.makers
                and key not in self.cones.classes
                and name in self.source.classes
            ):
                self.judge(self.cones.cone(key), self.source.classes[name])
        here = self.trace.steps
        self.dead(
            [step for step in here if step.result not in needed],
            [step for step in here if step.result in needed],
        )
        self.left_out()
        self.elsewhere()
        covered = self.cones.covered(live)
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

    # Judging.

    def judge(self, cone: Cone, number: int) -> None:
        """One cone against the model's nodes between the same values; ``number``: the class that
        it computes, or, if it does not, should.

        A decision may change nothing on random inputs: a clip that is never reached. Then it is in
        a cone that computes what it starts from, and one of these needs it: a node between two such
        values, the node that made the first and has not used all that it needs, or a node that
        takes it and so must do without.
        """
        borders = {self.cones.classes[key] for key in cone.borders if key in self.cones.classes}
        before = len(self.graph) + len(self.decided)
        if number in borders:
            inner, others = self.cones.within(number)
            if number not in self.spare:
                self.around[number] = inner
                self.spare[number] = self.needs(inner)
            takers = self.cones.takers(cone.key, number, self.around[number])
            self.decisions(cone, number, self.spare[number], takers)
            self.widths(cone, [*self.around[number], *takers])
            others.add(number)
        else:
            region = self.cones.explained(number, borders, self.local.names.get(cone.key, ()))
            others = region.reached
            if region.missing:
                self.report(
                    self.graph, Kind.GRAPH, self.cones.makers[cone.key],
                    "computes what the model computes from its input "
                    f"{shown(region.missing[0])}, but not from there",
                )  # fmt: skip
            allowed = self.needs(region.nodes)
            self.decisions(cone, number, allowed, [])
            self.undecided(cone, number, region.nodes)
            self.widths(cone, region.nodes)
            if number not in self.spare:
                inner, _ = self.cones.within(number)
                self.around[number] = [*region.nodes, *inner]
                self.spare[number] = allowed + self.needs(inner)
        for step, what in (*self.sizes.rounding(cone), *self.sizes.cancelling(cone)):
            self.report(self.decided, Kind.DECISIONS, step, what)
        for key in dict.fromkeys(cone.borders):
            if not self.cones.allowed(key, others):
                self.more(cone, key, number)
        if len(self.graph) + len(self.decided) > before:
            self.bad.update(step.result for step in cone.steps)

    def more(self, cone: Cone, key: int, number: int) -> None:
        """A border that the model's nodes do not start from."""
        through = next(
            (step for step in cone.steps if key in step.operands), self.cones.makers[cone.key]
        )  # fmt: skip
        what = (
            f"takes {self.routes.called(key)}, "
            f"which the model does not use for {self.routes.of(number)}"
        )
        if any(self.cones.classes.get(border) == number for border in cone.borders):
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
                        f"for {self.routes.of(number)}: {shown(decision.text)}",
                        where=decision.where,
                    )  # fmt: skip
            if cone.key not in self.cones.classes:
                continue  # nothing in it is the model's, and that is said already
            if JUMPS.intersection(one.choice for one in step.decisions):
                for operand in dict.fromkeys(step.operands):
                    if operand in self.cones.moving and not self.origins.of_the_model(operand):
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

    def lender(self, takers: Iterable[Node], choice: Choice) -> Node | None:
        return next((node for node in takers if self.needs([node])[choice] > 0), None)

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
            wanted = necessary(node, self.source)
            own = self.source.classes.get(node.outputs[0], number) if node.outputs else number
            if wanted and not (made | self.deciding[own] | self.deciding[number]) & wanted:
                self.report(
                    self.decided, Kind.DECISIONS, self.cones.makers[cone.key],
                    f"{shown(node.label)} of the model decides here ({', '.join(sorted(wanted))}), "
                    "and nothing does",
                )  # fmt: skip

    def left_out(self) -> None:
        """Decisions of the model that changed nothing on these inputs: are they there at all?

        Its result and what it works on are one class then, and a build without it has the same
        values. So some step that computes this class has to decide.
        """
        for node in self.source.nodes:
            number = self.source.classes.get(node.outputs[0]) if node.outputs else None
            same = [n for n in node.inputs if n and self.source.classes.get(n) == number]
            wanted = necessary(node, self.source)
            if number is not None and same and wanted and not self.deciding[number] & wanted:
                words = ", ".join(sorted(wanted))
                self.decided.append(
                    Unaccounted(
                        Kind.DECISIONS, self.trace.stage, shown(node.label),
                        f"the model decides here ({words}), and nothing in this stage does; on "
                        "the inputs drawn it changes nothing",
                    )
                )  # fmt: skip

    def elsewhere(self) -> None:
        """Whether cones do the same as the model where no random input came."""
        for one in self.local.found:
            kind = Kind.DECISIONS if one.decides else Kind.GRAPH
            into = self.decided if one.decides else self.graph
            self.report(into, kind, one.step, shown_long(one.what))
        self.unknown += [shown_long(why) for why in self.local.untried]

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
            elif key not in self.cones.moving:
                what = "does not depend on the inputs"
            elif self.cones.classes.get(key) != self.source.classes[name] or not same(
                wanted, value
            ):
                what = f"is off by up to {apart(wanted, value):.3g} of its largest; " + self.lost()
            else:
                continue
            self.graph.append(
                Unaccounted(
                    Kind.GRAPH,
                    self.trace.stage,
                    f"output {shown(name)}",
                    what,
                    tuple(self.routes.path(key, key)),
                )
            )

    def lost(self) -> str:
        """The first node of the model whose value the stage does not have."""
        here = set(self.cones.classes.values())
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
            elif step.result in self.cones.moving and any(
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
            path = tuple(self.routes.path(step.result, step.result))
            into.append(Unaccounted(kind, self.trace.stage, place, what, path))


def first_results(steps: Iterable[Step]) -> Iterator[Step]:
    """One step for each call: with several results it is as many steps, and decides once."""
    seen: set[tuple[str, str]] = set()
    for step in steps:
        if (step.where, step.operation) not in seen:
            seen.add((step.where, step.operation))
            yield step


def shown_long(text: str) -> str:
    return printable(text, 400)


def seed_of(source: Source) -> int:
    """Of the inputs' content, which is drawn by a seed that depends on the whole build."""
    whole = hashlib.sha256()
    for name in source.inputs:
        whole.update(np.ascontiguousarray(source.values[name]).tobytes())
    return int.from_bytes(whole.digest()[:7])
