"""What `harness compare` comes to, and how it is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.comparators.interface import Examined, Part, Status
from harness.drift import Drift
from harness.reports.upgrade import render
from harness.upgrade import (
    Change,
    Compared,
    ModelChange,
    PartChange,
    PassChange,
    Size,
    StageChange,
    Times,
    Upgrade,
    dump,
    load,
    overall,
    part_changes,
    worst,
)

SAME = StageChange("graph", Change.SAME)
PRINTING = StageChange("llvm", Change.PRINTING, explained_by=("tvm-tbaa-heap-addresses",))
CHANGED = StageChange(
    "object",
    Change.CHANGED,
    parts=(
        PartChange("lib0.o", "section", ".text", "changed", 100, 120),
        PartChange("lib0.o", "function", "fused_relu", "changed", 40, 60, "3 instructions"),
        PartChange("lib0.o", "function", "fused_new", "added", None, 20),
    ),
    reason="lib0.o differs",
)
SILENT = StageChange("assembly", Change.TROUBLE, reason="neither side has a byte here")
NO_DRIFT = Compared("a/1-x-y", "a/2-x-y", 8, Drift(elements=16, labels=8))
SOME_DRIFT = replace(
    NO_DRIFT, drift=Drift(16, differing=3, max_ulp=1234, max_abs=1.5e-6, labels=8, flips=1)
)


def test_the_worst_counts() -> None:
    assert worst([]) is Change.TROUBLE
    assert worst([Change.SAME, Change.PRINTING]) is Change.PRINTING
    assert worst([Change.PRINTING, Change.TROUBLE]) is Change.TROUBLE
    assert worst([Change.CHANGED, Change.TROUBLE]) is Change.CHANGED
    assert [change.exit_code for change in Change] == [0, 0, 2, 1]


@pytest.mark.parametrize(
    ("stages", "compared", "problems", "expected"),
    [
        ([SAME], [NO_DRIFT], [], Change.SAME),
        ([SAME, PRINTING], [NO_DRIFT], [], Change.PRINTING),
        ([SAME, PRINTING, CHANGED], [NO_DRIFT], [], Change.CHANGED),
        ([SAME], [SOME_DRIFT], [], Change.CHANGED),
        ([SAME], [replace(NO_DRIFT, drift=None)], [], Change.CHANGED),
        # Against the reference there is always some drift, and it may be unable to run a model.
        ([SAME], [NO_DRIFT, SOME_DRIFT, replace(NO_DRIFT, drift=None)], [], Change.SAME),
        ([SAME], [], [], Change.SAME),
        ([SAME], [NO_DRIFT], ["it does not run"], Change.TROUBLE),
        ([SAME, SILENT], [NO_DRIFT], [], Change.TROUBLE),
        ([CHANGED], [], ["it does not run"], Change.CHANGED),
        ([], [], [], Change.TROUBLE),
    ],
)
def test_what_it_comes_to(
    stages: list[StageChange], compared: list[Compared], problems: list[str], expected: Change
) -> None:
    assert overall(stages, compared, problems) is expected


def test_median_and_quartiles() -> None:
    assert Times((3.0, 1.0, 2.0)).median == 2.0
    assert Times((4.0, 1.0, 2.0, 3.0)).median == 2.5
    assert Times((5.0,)).spread == (5.0, 5.0)
    assert Times(tuple(float(n) for n in range(1, 10))).spread == (3.0, 7.0)


def test_parts_are_taken_over_without_lines() -> None:
    cut = "there is more than is shown"
    examined = Examined(
        "ELF",
        (
            Part("function", "f", Status.RENAMED, 4, 4, ("-a",), "g", f"moved; {cut}"),
            Part("function", "\x1b", Status.CHANGED, note=cut),
        ),
    )
    assert part_changes("lib\u202e0.o", examined) == [
        PartChange("lib\\u202e0.o", "function", "f → g", "renamed", 4, 4, "moved"),
        PartChange("lib\\u202e0.o", "function", "\\x1b", "changed"),
    ]


def upgrade(*models: ModelChange) -> Upgrade:
    return Upgrade(
        schema_version=1,
        harness_version="0",
        run="20261123-000000-0-aaaa",
        left="a/1-x-y",
        right="a/2-x-y",
        engine="sandbox",
        seed=3,
        change=worst(model.change for model in models),
        models=models,
    )


FULL = ModelChange(
    "net",
    Change.CHANGED,
    stages=(SAME, PRINTING, SILENT, CHANGED),
    sizes=(Size("library", 1000, 1100), Size(".text", 100, 120), Size(".new", None, 8)),
    times=(Times((0.010, 0.012, 0.011)), Times((0.020, 0.022, 0.021))),
    compared=(
        SOME_DRIFT,
        Compared("a/1-x-y", "ONNX reference", 2, Drift(elements=4), "it took too long"),
        Compared("a/2-x-y", "ONNX reference", 0, None, "no such operator"),
    ),
    passes=PassChange(
        "FuseOps", 3, 4, ("Old",), ("New",), again=("Lower",),
        parts=(PartChange("module.py", "function", "relu", "changed"),),
        files=("20261123-000000-0-aaaa/passes/net/left.py",) * 2,
        notes=("it made another object",),
    ),
    problems=("a replay did not come out",),
    notes=("a note",),
)  # fmt: skip


def test_it_survives_json() -> None:
    found = upgrade(FULL, ModelChange("other", Change.SAME))
    assert load(dump(found)) == found
    assert json.loads(dump(found))["schema_version"] == 1
    with pytest.raises(ValueError, match="more"):
        load(dump(found).replace('"run"', '"more"', 1))


def test_the_page_says_everything() -> None:
    text = " ".join(render(upgrade(FULL), Path("results")).split())
    for words in (
        "A a/1-x-y B a/2-x-y net changed",
        "llvm printing only tvm-tbaa-heap-addresses",
        "assembly no answer neither side has a byte here",
        "object changed 1 section changed; 1 function changed, 1 added",
        "lib0.o: function fused_relu changed, 40 → 60 bytes; 3 instructions",
        "lib0.o: function fused_new added, 20 bytes",
        "see it: harness diff 20261123-000000-0-aaaa net object a/1-x-y a/2-x-y --normalized",
        "first diverging pass: FuseOps (number 3 in A, 4 in B)",
        "only A ran before it: Old",
        "only B ran before it: New",
        "different again after Lower",
        "harness diff results/20261123-000000-0-aaaa/passes/net/left.py",
        "it made another object",
        "library 1,000 1,100 +10.0 %",
        ".text 100 120 +20.0 %",
        ".new – 8 only in B",
        "run time: A 11 ms (10 to 12), B 21 ms (20 to 22); median and quartiles of 3 runs each",
        "Indicative",
        "outputs, A → B: at most 1,234 ULP and 1.5e-06 apart, 3 of 16 values differ; 1 of 8 labels"
        " flip (8 inputs)",
        "A → ONNX reference: the same, bit for bit (2 inputs); not all inputs: it took too long",
        "B → ONNX reference: not compared: no such operator",
        "a replay did not come out",
        "net: changed; stages: 1 the same, 1 printing only, 1 no answer, 1 changed; first object,"
        " by pass FuseOps; library +10.0 %; time +90.9 %; drift 1,234 ULP, 1 label flips",
        "changed something changes: look at it before you upgrade",
    ):
        assert words in text, words


def test_the_page_fits() -> None:
    wide = replace(FULL, problems=("x " * 400, "y" * 300), model="n" * 64)
    for line in render(upgrade(wide), Path("results")).splitlines():
        assert len(line) <= 100 or "see it:" in line or line.startswith("n" * 64 + ": ")


def test_times_within_each_others_spread_are_alike() -> None:
    near = replace(FULL, times=(Times((1.0, 2.0, 3.0)), Times((2.0, 3.0, 4.0))))
    assert "; time alike;" in render(upgrade(near), Path("results"))


def test_a_long_list_is_cut_and_says_so() -> None:
    parts = tuple(PartChange("a.o", "function", f"f{n}", "changed") for n in range(30))
    many = replace(FULL, stages=(replace(CHANGED, parts=parts, more=True),))
    text = render(upgrade(many), Path("results"))
    assert "30 functions changed or more" in text
    assert "and 22 more: --json" in text


def test_hostile_words_are_text() -> None:
    part = PartChange("a.o", "function", "\x1b[31m[red]f", "changed")
    evil = replace(
        FULL, stages=(replace(CHANGED, parts=(part,)),), problems=("\x1b]0;x\x07\u202e",)
    )
    text = render(upgrade(evil), Path("results"))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]" in text
