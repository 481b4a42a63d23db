"""A path from an input to an output past the network.

Some values of the source model lie on every path from its inputs to its outputs. Whichever of them
tensor IR computes as well must lie on all its paths too. A value that the lowered program computes
a second time, out of itself and something else, is no such place: what joins it there has come past
the first. The model may do that itself (``0 if y == 0 else x / y``, where that is ``x / y``): then
what it takes beside is part of the place, and every path passes one or the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from harness.accounting.interface import Accounted, Kind, Trace, Unaccounted
from harness.accounting.onnx_values import Source
from harness.text import printable

SHAPES = {"Shape", "Size"}  # what depends on these depends on no element


def account(trace: Trace, source: Source) -> Accounted:
    """The trace and the model's values must be of the same inputs, trial by trial."""
    matched: dict[int, int] = {}
    for key, value in trace.values.items():
        if key not in trace.constants:
            number = source.index.find(value)
            if number is not None:
                matched[key] = number
    names: dict[int, list[str]] = defaultdict(list)
    for name, number in source.classes.items():
        names[number].append(name)
    present = [
        number for number in dict.fromkeys(matched.values()) if needed(source, names[number])
    ]
    findings = []
    followers: dict[int, list[int]] = defaultdict(list)
    before: dict[int, set[int]] = {}
    where = {step.result: step.where for step in trace.steps}
    for step in trace.steps:
        for operand in step.operands:
            followers[operand].append(step.result)
    for step in trace.steps:  # of which classes a member comes before it
        held: set[int] = set()
        for operand in step.operands:
            held |= before.get(operand, set())
            if operand in matched:
                held.add(matched[operand])
        before[step.result] = held
    seen: set[tuple[int, ...]] = set()

    def first(number: int) -> set[int]:
        return {
            key for key, own in matched.items()
            if own == number and number not in before.get(key, set())
        }  # fmt: skip

    def way_past(place: set[int]) -> list[int] | None:
        if place & set(trace.inputs.values()) or place & set(trace.outputs):
            return None
        return path(trace.inputs.values(), set(trace.outputs), followers, place)

    known = set(matched.values())
    for number in list(present):
        way = way_past(first(number))
        if way is not None and not needed(source, earliest(source, names[number])):
            beside = taken_beside(source, names, number, known)
            whole = {number, *beside}
            if not needed(source, {n for one in whole for n in earliest(source, names[one])}):
                present.remove(number)  # the model has a path past all that
                continue
            way = way_past({key for one in whole for key in first(one)})
        if way is None or tuple(way[-2:]) in seen:
            continue
        seen.add(tuple(way[-2:]))
        shown = tuple(where.get(key, "input") for key in way)
        text = printable(names[number][0], 80)
        findings.append(
            Unaccounted(
                Kind.REACH, trace.stage, shown[1] if len(shown) > 1 else "main",
                f"a path to the output past {text}, which every path of the model passes",
                shown,
            )
        )  # fmt: skip
    return Accounted(
        Kind.REACH, trace.stage, len(present), len(present) - len(findings), tuple(findings)
    )


def needed(source: Source, removed: Iterable[str]) -> bool:
    """Whether every path of the model from an input to an output passes one of these names."""
    gone = set(removed)
    reached = {name for name in source.inputs if name not in gone}
    if gone & set(source.inputs) or gone & set(source.outputs):
        return False
    for node in source.nodes:
        if node.operator in SHAPES:
            continue
        if any(name in reached for name in node.inputs):
            reached |= {name for name in node.outputs if name not in gone}
    return not any(name in reached for name in source.outputs)


def earliest(source: Source, members: Iterable[str]) -> set[str]:
    """Those of the names that are not computed from another of them."""
    these = set(members)
    return these - following(source, these)


def following(source: Source, start: set[str]) -> set[str]:
    """The names of what is computed from these."""
    after: set[str] = set()
    for node in source.nodes:
        if node.operator not in SHAPES and any(n in start or n in after for n in node.inputs):
            after |= set(node.outputs)
    return after


def taken_beside(
    source: Source, names: Mapping[int, Sequence[str]], number: int, known: set[int]
) -> set[int]:
    """Where a value is computed again of itself and others: the nearest ``known`` of the others."""
    these = set(names[number])
    stack = list(these & following(source, these))
    seen: set[str] = set()
    found: set[int] = set()
    while stack:
        maker = source.makers.get(stack.pop())
        for name in maker.inputs if maker is not None and maker.operator not in SHAPES else ():
            own = source.classes.get(name)
            if name in these or name in seen or name in source.settled:
                continue
            seen.add(name)
            if own in known:
                found.add(own)
            else:
                stack.append(name)
    return found


def path(
    starts: Iterable[int], ends: set[int], followers: Mapping[int, Sequence[int]], gone: set[int]
) -> list[int] | None:
    """The shortest way that avoids ``gone``."""
    came: dict[int, int | None] = {start: None for start in starts if start not in gone}
    queue = list(came)
    for at in queue:
        if at in ends:
            way: list[int] = []
            step: int | None = at
            while step is not None:
                way.append(step)
                step = came[step]
            return way[::-1]
        for following in followers.get(at, ()):
            if following not in came and following not in gone:
                came[following] = at
                queue.append(following)
    return None
