"""Differences that follow from a proven one: what must be explained, and what must not."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest

from harness.derive import derive
from harness.ledger import Derivation, Explanation, ExplanationClass, Ledger
from harness.models import (
    ArtifactDifference,
    BuildRecord,
    Comparison,
    ComparisonKind,
    ComparisonResult,
    Isolation,
    Limits,
    Outcome,
    ReplayResult,
    Verdict,
)
from harness.variations import control

DAY = datetime.date(2027, 1, 1)
PROOF = Explanation(
    "order", "n", "tvm", ("ir",), (ComparisonKind.REBUILD,), ExplanationClass.PROVEN,
    "r", "e", "o", DAY, 1, 1.0,
)  # fmt: skip
RULE = Derivation(
    "follows-ir", "tvm", "ir", ("object/x",), ("ir → object",), (ComparisonKind.REBUILD,),
    "r", "e", "o", DAY,
)  # fmt: skip
LEDGER = Ledger((PROOF,), (RULE,))


def record(name: str, compiler: str = "tvm") -> BuildRecord:
    return BuildRecord(
        name, "m", "0", name, "i", "e", compiler, "1", control(), "sandbox", Isolation.NAMESPACES,
        Limits(), (), {}, Outcome.BUILT, "", ("ir", "object"), (), 0.0, 0.0, 0,
    )  # fmt: skip


RECORDS = (record("a"), record("b"))
ARCH = {"a": "x86_64", "b": "aarch64"}


def result(stage: str, verdict: Verdict, *ids: str, **change: str | None) -> ComparisonResult:
    comparison = Comparison(ComparisonKind.REBUILD, "m", stage, "a", "b")
    difference = ArtifactDifference("x", "1", "2", ids, reason="" if ids else "differs")
    return ComparisonResult(comparison, verdict, 1, (replace(difference, **change),))  # type: ignore[arg-type]


def replay(build: str, verdict: Verdict = Verdict.IDENTICAL) -> ReplayResult:
    return ReplayResult("ir → object", "m", build, build, "llvm", "object", ("ir/x",), verdict,
                        "1", "1", (), 0.0)  # fmt: skip


PROVEN = result("ir", Verdict.EXPLAINED, "order")
DIFFERS = result("object", Verdict.UNEXPLAINED)
REPLAYS = (replay("a"), replay("b"))


def test_what_follows_from_a_proven_stage_is_explained() -> None:
    first, second = derive((PROVEN, DIFFERS), REPLAYS, RECORDS, LEDGER, (RULE,), ARCH)
    assert first == PROVEN
    assert second.verdict is Verdict.EXPLAINED
    assert second.differences[0].explained_by == ("follows-ir",)
    assert second.differences[0].left_sha256 == "1"  # raw digests stay


CASES: dict[str, dict[str, Any]] = {
    "the earlier stage differs": {"first": result("ir", Verdict.UNEXPLAINED)},
    "the earlier stage was not compared": {"first": None},
    "the earlier stage is only declared": {"first": result("ir", Verdict.EXPLAINED, "somebody")},
    "one side was not replayed": {"replays": (replay("a"),)},
    "no side was replayed": {"replays": ()},
    "one side's replay differs": {"replays": (replay("a"), replay("b", Verdict.UNEXPLAINED))},
    "one side was replayed by a tool of its own": {
        "replays": (replay("a"), replace(replay("b"), replayer="its own"))
    },
    "one replayer disagrees": {"replays": (*REPLAYS, replay("b", Verdict.UNEXPLAINED))},
    "a replay gave no answer": {"replays": (replay("a"), replay("b", Verdict.INCONCLUSIVE))},
    "another kind": {"rule": replace(RULE, kinds=(ComparisonKind.VERSION,))},
    "another stage": {"rule": replace(RULE, artifacts=("library/x",))},
    "another artifact of the stage, such as weights": {
        "second": result("object", Verdict.UNEXPLAINED, name="weights")
    },
    "weights beside the code": {
        "second": replace(
            DIFFERS,
            differences=(
                *DIFFERS.differences,
                ArtifactDifference("weights", "3", "4", reason="differs"),
            ),
        )
    },
    "one architecture": {"arch": {"a": "x86_64", "b": "x86_64"}},
    "an architecture that is not known": {"arch": {"a": "x86_64"}},
    "another compiler": {"records": (record("a"), record("b", "iree"))},
    "one more replay is asked for": {"rule": replace(RULE, replays=("ir → object", "else"))},
    "no rule": {"rule": None},
    "an artifact is missing": {"second": result("object", Verdict.UNEXPLAINED, right_sha256=None)},
}


@pytest.mark.parametrize("case", CASES)
def test_everything_else_stays_a_finding(case: str) -> None:
    change: dict[str, Any] = {"first": PROVEN, "second": DIFFERS, "replays": REPLAYS}
    change |= {"records": RECORDS, "rule": RULE, "arch": ARCH, **CASES[case]}
    comparisons = [c for c in (change["first"], change["second"]) if c is not None]
    rules = [change["rule"]] if change["rule"] else []
    found = derive(comparisons, change["replays"], change["records"], LEDGER, rules, change["arch"])
    assert found[-1] == change["second"]
    assert found[-1].verdict is Verdict.UNEXPLAINED


def linked(build: str) -> ReplayResult:
    return replace(
        replay(build), name="object → library", stage="library",
        sources=("object/x", "object/weights"),
    )  # fmt: skip


LINK = replace(
    RULE, artifacts=("object/x", "library/x"), replays=("ir → object", "object → library")
)


@pytest.mark.parametrize("stages_first", [False, True])
def test_what_is_linked_follows_only_if_all_that_is_linked_does(stages_first: bool) -> None:
    replays = [*REPLAYS, linked("a"), linked("b")]
    library = result("library", Verdict.UNEXPLAINED)
    order = (DIFFERS, library) if stages_first else (library, DIFFERS)
    found = derive((PROVEN, *order), replays, RECORDS, LEDGER, (LINK,), ARCH)
    assert {result.verdict for result in found} == {Verdict.EXPLAINED}
    # The weights differ, and no rule says why: so does what holds them.
    weights = ArtifactDifference("weights", "3", "4", reason="differs")
    poisoned = replace(DIFFERS, differences=(*DIFFERS.differences, weights))
    found = derive((PROVEN, poisoned, library), replays, RECORDS, LEDGER, (LINK,), ARCH)
    assert [result.verdict for result in found[1:]] == [Verdict.UNEXPLAINED] * 2
    # Nobody compared what it was linked from.
    found = derive((PROVEN, library), replays, RECORDS, LEDGER, (LINK,), ARCH)
    assert found[1].verdict is Verdict.UNEXPLAINED


def test_a_missing_answer_stays_missing() -> None:
    missing = ComparisonResult(DIFFERS.comparison, Verdict.INCONCLUSIVE, 0)
    assert derive((PROVEN, missing), REPLAYS, RECORDS, LEDGER, (RULE,), ARCH)[1] == missing
