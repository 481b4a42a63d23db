"""What came of building a release again, and what is never built from a bundle."""

from __future__ import annotations

import datetime
from dataclasses import fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from harness import ledger
from harness.commands.replay_release import text_of
from harness.models import Variation, Verdict
from harness.places import HERE
from harness.signoff.provided import drawn
from harness.signoff.rebuild import Answer, Answers, StageAnswer
from harness.signoff.signed_builds import comparable
from harness.variations import LOCALES, control, draw
from tests.unit.samples import agreeing, record, report, sha

SAME = StageAnswer("object", Verdict.IDENTICAL)
EXPLAINED = StageAnswer("llvm", Verdict.EXPLAINED, ("some-entry",))
UNTOLD = StageAnswer("llvm", Verdict.INCONCLUSIVE, reason="no bytes")
OTHER = StageAnswer("library", Verdict.UNEXPLAINED, reason="model.so differs")


def answer(*stages: StageAnswer, **more: str) -> Answer:
    return Answer("s.json", "builder-a", "run/m/tvm/1-a-x86_64/control", "tvm/1-a-x86_64", stages,
                  **more)  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([answer(SAME)], 0),
        ([answer(SAME, EXPLAINED)], 0),
        ([answer(SAME), answer(SAME, UNTOLD)], 2),
        ([answer(SAME, UNTOLD, OTHER)], 1),
        ([answer(SAME), answer(unknown="no Docker here")], 2),
        ([answer(OTHER), answer(unknown="no Docker here")], 1),
        ([answer(SAME), answer(refused="compromised on purpose")], 1),
        ([answer(SAME, unknown="half of it")], 2),
        ([answer()], 2),  # nothing was held against anything
        ([], 2),
    ],
)
def test_exit_codes(found: list[Answer], code: int) -> None:
    assert Answers(tuple(found), ()).verdict.exit_code == code


def test_what_is_printed_names_what_did_not_come_out_and_acts_on_no_terminal() -> None:
    hostile = "\x1b]0;x\7\nIDENTICAL all"
    lines = text_of(
        Answers(
            (
                answer(SAME, EXPLAINED),
                replace(answer(OTHER), not_applied=("aslr",), signer=hostile),
                answer(unknown="no Docker here"),
            ),
            ("x.json does not count: unknown key",),
        )
    )
    assert lines[0] == "EXPLAINED run/m/tvm/1-a-x86_64/control, signed by builder-a"
    assert lines[1] == "  llvm: EXPLAINED by some-entry"
    assert "  library: UNEXPLAINED: model.so differs" in lines
    assert "  this machine could not give aslr" in lines
    assert "  no Docker here" in lines
    assert "  x.json does not count: unknown key" in lines
    assert lines[-1] == "3 signed builds: 1 came out, 1 did not come out, 1 without an answer"
    assert all(line.isprintable() for line in lines)


def test_surroundings_that_the_harness_draws_are_built_in() -> None:
    assert drawn(control())
    for number in (1, 4):
        for size in range(len(LOCALES) + 1):
            for locales in combinations(LOCALES, size):
                assert drawn(draw(5, number, locales))


@pytest.mark.parametrize("field", [field.name for field in fields(Variation)])
@pytest.mark.parametrize("base", [control(), draw(3, 4)], ids=lambda v: v.name)
def test_other_surroundings_are_not(base: Variation, field: str) -> None:
    """Whatever else is signed there: a place to build in, a variable for the loader."""
    value = getattr(base, field)
    others: dict[type, tuple[Any, ...]] = {
        str: ("/etc", "varied-0", "x\n"),
        bool: (not value,),
        tuple: ((("LD_PRELOAD", "/x.so"),), (("PATH", "/x"), *base.environment)),
    }
    for other in others.get(type(value), (7, -1)):
        assert not drawn(replace(base, **{field: other}))


def test_a_bundle_should_hold_what_may_come_out_with_other_bytes() -> None:
    """Only where the ledger has an explanation for repeats that still applies."""
    entries = ledger.load(
        HERE / "toolchains" / "explanations.toml", datetime.date.fromisoformat("2026-11-23")
    )
    left = {"llvm/module.ll": b"ir", "graph/module.py": b"graph", "object/lib0.o": b"code"}
    builds = [record(artifacts=left)]
    ran = report(builds, agreeing(builds))
    today = datetime.date.fromisoformat("2026-11-23")
    assert comparable(ran, entries, today) == (sha(b"ir"),)
    assert comparable(ran, entries, datetime.date.fromisoformat("2099-01-01")) == ()


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from harness.cli import main

    done = CliRunner().invoke(main, ["replay-release", str(tmp_path)])
    assert done.exit_code == 2
    assert "--policy" in done.output
