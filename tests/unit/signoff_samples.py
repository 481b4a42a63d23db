"""Whole statements, made from small reports, that the tests of sign-off start from."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.ledger import Derivation, Explanation, ExplanationClass, Ledger
from harness.models import (
    ArtifactDifference,
    BuildRecord,
    ComparisonKind,
    Independence,
    IndependentStage,
    Report,
    Verdict,
)
from harness.signoff.evidence import Match, Shipped
from harness.signoff.interface import ReleasePolicy, Requirements
from harness.signoff.statements import (
    Context,
    build_statement,
    evidence_statement,
    summary_statement,
)
from harness.signoff.summary import Rest
from tests.unit.samples import agreeing, record, replayed, report, sha, twice

A, B = "tvm/1-a-x86_64", "tvm/1-b-x86_64"
ARTIFACTS = {
    "graph/main.json": b"graph",
    "object/lib0.o": b"object",
    "library/model.so": b"library",
}
LIBRARY = sha(b"library")
NOW = datetime.datetime(2026, 11, 23, 12, 0, tzinfo=datetime.UTC)
DAY = datetime.date(2027, 1, 1)
LEDGER = Ledger(
    (
        Explanation(
            "names", "rename", "tvm", ("object",), (ComparisonKind.REPEAT,),
            ExplanationClass.DECLARED, "r", "e", "o", DAY, 1, 0.5,
        ),
    ),
    (Derivation("after", "tvm", "object", ("library/model.so",), (), (), "r", "e", "o", DAY),),
)  # fmt: skip


def run_of(*builds: BuildRecord) -> Report:
    """By default two toolchains, two builds each, all alike, each object made again."""
    builds = builds or tuple(
        replace(record(each.toolchain, each.variation, ARTIFACTS), host={"cpu": "a CPU"})
        for each in twice(A, B)
    )
    replays = [
        replace(replayed(each), expected_sha256=sha(b"object"), got_sha256=sha(b"object"))
        for each in builds
    ]
    made = report(list(builds), agreeing(list(builds)), replays)
    stages = tuple(
        IndependentStage("m", stage, (), (A, B), (A,)) for stage in ("graph", "object", "library")
    )
    return replace(made, independence=Independence(0.1, (), (), stages))


def explained(made: Report, ids: tuple[str, ...] = ("names",)) -> Report:
    """With the first comparison of the objects explained by ``ids``."""
    first = next(each for each in made.comparisons if each.comparison.stage == "object")
    difference = ArtifactDifference("lib0.o", sha(b"z"), sha(b"object"), ids)
    other = replace(first, verdict=Verdict.EXPLAINED, differences=(difference,))
    comparisons = tuple(other if each is first else each for each in made.comparisons)
    return replace(made, comparisons=comparisons)


def context(**changed: Any) -> Context:
    whole = Context(
        builder="builder-a",
        dependencies=[("toolchains/tvm/driver.py", sha("driver")), ("toolchains/x", sha("x"))],
        byproducts=[
            ("record", sha("record")), ("replays", sha("replays")), ("report", sha("report")),
            (f"profile:{A}", sha("profile")),
        ],
        replayers=["llvm/1-b-x86_64"],
        executables=["toolchains/x"],
    )  # fmt: skip
    return replace(whole, **changed)


def shipped(**changed: Any) -> Shipped:
    return replace(Shipped(LIBRARY, 7, Match.IDENTICAL, LIBRARY, "", ()), **changed)


def build(made: Report | None = None, **changed: Any) -> dict[str, Any]:
    made = made or run_of()
    return build_statement(made.builds[0], made, context(**changed))


def evidence(made: Report | None = None, **changed: Any) -> dict[str, Any]:
    made = made or run_of()
    given: Mapping[str, Any] = {
        "file": "model.so",
        "release": "model 1.0",
        "policy": ReleasePolicy(sha("policy"), made.policy, Requirements()),
        "ledger": LEDGER,
        "ledger_sha256": sha("ledger"),
        "refusals": (),
        **changed,
    }
    return evidence_statement(made, "m", given.get("shipped", shipped()), **{
        key: value for key, value in given.items() if key != "shipped"
    })  # fmt: skip


def summary(**changed: Any) -> dict[str, Any]:
    given: Mapping[str, Any] = {
        "file": "model.so",
        "sha256": LIBRARY,
        "verifier": "verifier-a",
        "verified": NOW,
        "release": "model 1.0",
        "policy_sha256": sha("policy"),
        "rests_on": [Rest("statements/a.json", sha("a")), Rest("statements/b.json", sha("b"))],
        "passed": True,
        **changed,
    }
    return summary_statement(**given)
