"""The history of a model, from its data to the binary, as signed statements tell it. Pure.

A statement of an upstream identity is a *step*: some files went in, others came out. Two steps
meet where one made what the other took, by SHA-256 and nothing else. What was taken and made by no
statement is a *gap*, and each gap is named, whatever the policy asks.

A policy lists the steps that a release needs, from data to model. They are there if there is *one*
history of the model (and of each file of its external data) in which

- each of the steps occurs, and none of them went into one that stands before it in the list;
- everything that went into any step came out of a step of the same history. The first step of the
  list begins it: what went into that one may come from nowhere, and is no part of the history.

One history, so that a second statement about the same file cannot lend its good name to a first
one with a gap. And only *whether there is* one decides, so that a statement that is left out can
take a history away, but never give one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.signoff.claims import MAX_NAME, Claim, Thing, Unreadable, claim
from harness.signoff.history import MOST_SHOWN, History
from harness.signoff.interface import BUILD_TYPE, PROVENANCE, Role, Signed
from harness.signoff.provenance import EXTERNAL
from harness.text import printable

BUILD = "build"  # the last step: from the model to the binary, by our own builders
MOST_STEPS = 10  # that a policy may list
MOST_LINES = 50  # of each kind that are told


@dataclass(frozen=True)
class Meeting:
    """What went into a step, and the statements that made it; none: a gap."""

    name: str
    sha256: str
    made_by: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One statement of the history. ``makes``: what others took of it, or the model itself.

    At most MOST_SHOWN of either are listed; ``took`` is how many there were.
    """

    name: str
    kind: str  # predicate type
    signer: str
    file: str
    digest: str  # of the statement
    takes: tuple[Meeting, ...]
    makes: tuple[Thing, ...]
    took: int


@dataclass(frozen=True)
class Chain:
    """``steps`` from data to binary. ``gaps``, ``notes`` and ``refusals``: one line each.

    ``refusals`` is empty if the history has all that the policy asks for, whatever ``gaps`` say.
    """

    steps: tuple[Step, ...]
    gaps: tuple[str, ...]
    notes: tuple[str, ...]
    refusals: tuple[str, ...]


def assess(
    signed: Sequence[Signed],
    model_sha256: str,
    external: Mapping[str, str],
    required: tuple[str, ...],
) -> Chain:
    """The history of a model with its external data (path → sha256), and what it lacks."""
    claims: list[Claim] = []
    notes: list[str] = []
    for one in sorted(signed, key=lambda each: (each.file, each.digest)):
        if one.signer.role is not Role.UPSTREAM:
            continue
        try:
            claims.append(claim(one))
        except Unreadable as reason:
            file, who = (printable(text, MAX_NAME) for text in (one.file, one.signer.name))
            notes.append(f"{file} by {who} is no step: {reason}")
    builds = [build for one in signed for build in _build(one, model_sha256, external)]
    upstream = tuple(step for step in required if step != BUILD)
    history = History(claims, model_sha256, external, upstream)
    gaps = [*history.model_gaps(), *history.gaps(history.met)]
    circle = history.cycle()
    if circle:
        gaps.append(f"what {claims[circle[0]].where} made went into itself")
    apart = [one for number, one in enumerate(claims) if number not in history.met]
    notes += [f"{one.where} does not meet the model's history" for one in apart]
    notes += history.rivals()
    steps = (*(_step(history, number) for number in history.ordered()), *builds)
    refusals = [*_form(required), *_missing(history, bool(builds), required)]
    return Chain(steps, _bounded(gaps), _bounded(notes), _bounded(refusals))


def told(chain: Chain) -> Iterator[str]:
    """The history in lines of text, from data to binary."""
    for step in chain.steps:
        yield f"{step.name}: {step.file}, by {step.signer}"
        for meeting in step.takes:
            source = ", ".join(meeting.made_by) or "no statement"
            yield f"  took {meeting.name} ({_short(meeting.sha256)}) from {source}"
        if step.took > len(step.takes):
            yield f"  and {step.took - len(step.takes):,} more"
        for thing in step.makes:
            yield f"  made {thing.name} ({_short(thing.sha256)})"
    yield from (f"gap: {gap}" for gap in chain.gaps)
    yield from (f"note: {note}" for note in chain.notes)


def _form(required: tuple[str, ...]) -> Iterator[str]:
    """Lists of steps that nothing can fulfil."""
    if len(required) > MOST_STEPS:
        yield f"the policy lists more than {MOST_STEPS} steps"
    if len(set(required)) < len(required):
        yield "the policy lists a step twice"
    if BUILD in required[:-1]:
        yield f"the policy lists {BUILD!r} before the last step, and nothing comes after it"


def _missing(history: History, built: bool, required: tuple[str, ...]) -> Iterator[str]:
    if BUILD in required and not built:
        yield "no builder's statement says that it took this model"
    if not history.steps or len(required) > MOST_STEPS or history.complete():
        return
    lines = history.model_gaps()
    for index, step in enumerate(history.steps):
        own = [number for number, label in enumerate(history.label) if label == index]
        if not own:
            lines.append(f"no upstream statement is of step {printable(step, MAX_NAME)!r}")
        elif not history.met.intersection(own):
            where = history.claims[own[0]].where
            lines.append(f"{where} does not meet the model: nothing that it made went into it")
    lines += history.gaps(history.needed)
    if not lines:
        names = ", ".join(printable(step, MAX_NAME) for step in history.steps)
        lines.append(
            f"no single history of the model has the steps {names} in this order, "
            "each made of what others made"
        )
    yield from lines


def _step(history: History, number: int) -> Step:
    one = history.claims[number]
    used = history.used(number)
    takes = [thing for thing in one.takes if not one.passes or thing.sha256 in used]
    makes = [thing for thing in one.makes if thing.sha256 in used]
    meetings = tuple(_meeting(history, number, thing) for thing in takes[:MOST_SHOWN])
    return _shown(one, meetings, makes, len(takes))


def _meeting(history: History, number: int, thing: Thing) -> Meeting:
    one = history.claims[number]
    makers = [n for n in history.makers(thing.sha256) if not (one.passes and _passes(history, n))]
    if one.whole:
        makers += history.makers(one.whole)
    files = sorted({history.claims[n].signed.file for n in makers if n != number or not one.passes})
    made_by = tuple(printable(file, MAX_NAME) for file in files[:MOST_SHOWN])
    return Meeting(printable(thing.name, MAX_NAME), thing.sha256, made_by)


def _passes(history: History, number: int) -> bool:
    return history.claims[number].passes


def _build(signed: Signed, model: str, external: Mapping[str, str]) -> Iterator[Step]:
    """A build of this model, with these external data, by one of our builders; or nothing."""
    if signed.signer.role is not Role.BUILDER or signed.predicate_type != PROVENANCE:
        return
    try:
        one = claim(signed)
    except Unreadable:
        return
    wanted = {"model": model, **{f"{EXTERNAL}{path}": each for path, each in external.items()}}
    takes = [t for t in one.takes if t.name == "model" or t.name.startswith(EXTERNAL)]
    if BUILD_TYPE not in one.labels or sorted((t.name, t.sha256) for t in takes) != sorted(
        wanted.items()
    ):
        return
    makes = [thing for thing in one.makes if thing.name.startswith("library/")]
    meetings = tuple(
        Meeting(printable(thing.name, MAX_NAME), thing.sha256, ("the model",))
        for thing in takes[:MOST_SHOWN]
    )
    yield _shown(one, meetings, makes, len(takes), name=BUILD)


def _shown(
    one: Claim, takes: tuple[Meeting, ...], makes: Sequence[Thing], took: int, name: str = ""
) -> Step:
    signed = one.signed
    return Step(
        name or one.step,
        printable(signed.predicate_type, MAX_NAME),
        printable(signed.signer.name, MAX_NAME),
        printable(signed.file, MAX_NAME),
        signed.digest,
        takes,
        tuple(Thing(printable(t.name, MAX_NAME), t.sha256) for t in makes[:MOST_SHOWN]),
        took,
    )


def _short(digest: str) -> str:
    return f"sha256 {digest[:12]}…" if digest else "no sha256"


def _bounded(lines: Iterable[str]) -> tuple[str, ...]:
    """One of each, in order, at most MOST_LINES and one line that says how many more."""
    distinct = tuple(dict.fromkeys(lines))
    if len(distinct) <= MOST_LINES:
        return distinct
    return (*distinct[:MOST_LINES], f"and {len(distinct) - MOST_LINES:,} more")
