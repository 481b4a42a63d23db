"""When builders agree, and what is said of a file that none of them made."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from harness.engines.plain import Plain
from harness.models import Outcome, Report, Verdict
from harness.signoff.evidence import Match as Kind
from harness.signoff.shipped import Linking, Match, hold
from harness.store import Store
from tests.unit.samples import MODEL, agreeing, names, record, report, toolchain, twice

LIBRARY = b"the library\n"
ONE, TWO = names(2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def ran(store: Store, *libraries: bytes, stage: str = "library", more: str = "") -> Report:
    """One toolchain for each library, each with two builds that left it."""
    builds = []
    for name, library in zip(names(len(libraries)), libraries, strict=True):
        store.add_bytes(library)
        left = {"object/lib0.o": b"object", f"{stage}/model.so": library}
        if more:
            left[f"{stage}/{more}"] = b"more"
        builds += [
            replace(made, artifacts=found.artifacts, stages=found.stages)
            for made in twice(name)
            for found in [record(name, made.variation, left)]
        ]
    found = report(builds, agreeing(builds))
    return replace(found, toolchains=tuple(toolchain(name) for name in names(len(libraries))))


def held(store: Store, found: Report, artifact: bytes, *, sections: bool = False) -> Match:
    linking = Linking({}, (), Plain(), lambda: nullcontext(store.root))
    return hold(store.add_bytes(artifact), found, MODEL.name, store, linking, sections)


def with_verdict(found: Report, verdict: Verdict) -> Report:
    (model,) = found.verdicts
    stages = tuple(
        replace(one, verdict=verdict) if one.stage == "library" else one for one in model.stages
    )
    return replace(found, verdicts=(replace(model, stages=stages),))


def test_exactly_these_bytes(store: Store) -> None:
    found = held(store, ran(store, LIBRARY, LIBRARY), LIBRARY)
    assert (found.kind, found.against, found.reason) == (Kind.IDENTICAL, (ONE, TWO), "")
    assert found.library == store.add_bytes(LIBRARY)


def test_of_libraries_whose_difference_is_explained_each_may_ship(store: Store) -> None:
    """Only those who made exactly these bytes are named."""
    run = with_verdict(ran(store, LIBRARY, b"another\n"), Verdict.EXPLAINED)
    assert held(store, run, LIBRARY).against == (ONE,)
    found = held(store, run, b"another\n")
    assert (found.kind, found.against) == (Kind.IDENTICAL, (TWO,))


@pytest.mark.parametrize(
    "verdict", [v for v in Verdict if v not in (Verdict.IDENTICAL, Verdict.EXPLAINED)]
)
def test_where_builders_do_not_agree_nothing_matches(store: Store, verdict: Verdict) -> None:
    run = with_verdict(ran(store, LIBRARY, LIBRARY), verdict)
    found = held(store, run, LIBRARY, sections=True)
    assert (found.kind, found.library) == (Kind.NONE, None)
    assert found.reason == (
        f"the builders do not agree on library: {verdict}; these bytes came from {ONE}, {TWO}"
    )


def test_what_makes_a_run_no_ground_for_anything(store: Store) -> None:
    good = ran(store, LIBRARY, LIBRARY)
    assert held(store, good, LIBRARY).kind is Kind.IDENTICAL
    evil = tuple(
        replace(one, redteam="fast-math") if one.name == TWO else one for one in good.toolchains
    )
    failed = tuple(
        replace(one, outcome=Outcome.FAILED) if one.toolchain == TWO else one for one in good.builds
    )
    without = tuple(replace(one, artifacts=one.artifacts[:1]) for one in good.builds)
    (verdict,) = good.verdicts
    cases = {
        "the run is not complete": replace(good, complete=False),
        f"{TWO} is compromised on purpose": replace(good, toolchains=evil),
        f"m/{TWO}/control ended with failed": replace(good, builds=failed),
        f"m/{ONE}/control left 0 files as library": replace(good, builds=without),
        f"m/{ONE}/control left 2 files as library": ran(store, LIBRARY, LIBRARY, more="b.so"),
        "the run has no verdict on library": replace(good, verdicts=()),
        "nothing was built": replace(good, builds=()),
    }
    for reason, run in cases.items():
        found = held(store, run, LIBRARY, sections=True)
        assert found.kind is Kind.NONE
        assert found.reason.startswith(reason)
        assert found.library is None
    twice_said = replace(good, verdicts=(verdict, verdict))
    assert held(store, twice_said, LIBRARY).kind is Kind.NONE


def test_another_model_of_the_run_does_not_count(store: Store) -> None:
    run = ran(store, LIBRARY, LIBRARY)
    other = replace(run, builds=tuple(replace(one, model="other") for one in run.builds))
    assert held(store, other, LIBRARY).reason == "nothing was built"


def test_what_differs_is_named_line_by_line(store: Store) -> None:
    found = held(store, ran(store, LIBRARY, LIBRARY), b"the librarian\n", sections=True)
    assert found.kind is Kind.NONE
    assert found.library == store.add_bytes(LIBRARY)
    assert found.against == (ONE, TWO)
    assert found.sections == ("text lines changed (12 → 14 bytes)",)
    assert found.reason == (
        f"nobody built these bytes; {ONE}'s library differs: {found.sections[0]}; "
        "the library that was built is not an ELF file"
    )


def test_what_is_said_is_one_line_that_acts_on_no_terminal(store: Store) -> None:
    hostile = "tvm/\x1b[2J\n-p-x86_64"
    run = ran(store, LIBRARY)
    builds = tuple(replace(one, toolchain=hostile) for one in run.builds)
    named = tuple(replace(one, name=hostile) for one in run.toolchains)
    found = held(store, replace(run, builds=builds, toolchains=named), b"\x1b]0;title\7\n")
    assert found.kind is Kind.NONE
    for line in (found.reason, *found.sections):
        assert line.isprintable()
