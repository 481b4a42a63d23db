"""Small, whole pieces of data that the unit tests start from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations

from harness import plan
from harness.models import (
    Artifact,
    BuildRecord,
    Comparison,
    ComparisonKind,
    ComparisonResult,
    Isolation,
    Limits,
    Model,
    ModelVerdict,
    Outcome,
    Policy,
    ReplayResult,
    Report,
    Tool,
    Toolchain,
    Variation,
    Verdict,
)
from harness.variations import CONTROL, control, draw
from harness.verdict import judge_model, worst

MODEL = Model("m", "/m.onnx", "0" * 64, {"x": (1, 8)})
STAGES = ("graph", "object")


def sha(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def toolchain(name: str = "tvm/1-a-x86_64", **tools: str) -> Toolchain:
    compiler, _, rest = name.partition("/")
    version, publisher, arch = rest.split("-")
    return Toolchain(
        name=name,
        compiler=compiler,
        version=version,
        publisher=publisher,
        arch=arch,
        folder="/toolchains",
        driver="/toolchains/driver.py",
        lock="/toolchains/x.lock",
        linker=None,
        target={"mtriple": "x86_64-unknown-linux-gnu", "mcpu": "x86-64-v3"},
        tools={tool: Tool(path) for tool, path in tools.items()},
        limits=Limits(),
        identity=sha(name),
    )


def record(
    name: str = "tvm/1-a-x86_64",
    variation: Variation | None = None,
    artifacts: Mapping[str, bytes] | None = None,
    *,
    model: Model = MODEL,
    outcome: Outcome = Outcome.BUILT,
    isolation: Isolation = Isolation.NAMESPACES,
    detail: str = "",
) -> BuildRecord:
    """A build of ``model``; ``artifacts``: ``stage/name`` → content, by default one a stage."""
    made = toolchain(name)
    variation = variation or control()
    if artifacts is None:
        artifacts = {f"{stage}/file": stage.encode() for stage in STAGES}
    if outcome is not Outcome.BUILT:
        artifacts = {}
    return BuildRecord(
        id=plan.build_id(model.name, name, variation.name),
        model=model.name,
        model_sha256=model.sha256,
        toolchain=name,
        toolchain_identity=made.identity,
        environment_sha256="1" * 64,
        compiler=made.compiler,
        version=made.version,
        variation=variation,
        engine="sandbox",
        isolation=isolation,
        limits=Limits(),
        command=("python", "driver.py"),
        host={},
        outcome=outcome,
        detail=detail,
        stages=tuple(dict.fromkeys(path.partition("/")[0] for path in artifacts)),
        artifacts=tuple(
            Artifact(path.partition("/")[0], path.partition("/")[2], len(data), sha(data))
            for path, data in artifacts.items()
        ),
        wall_seconds=1.0,
        cpu_seconds=1.0,
        peak_memory_bytes=1,
    )


def names(count: int, compiler: str = "tvm") -> list[str]:
    return [f"{compiler}/{number}-p-x86_64" for number in range(count)]


def twice(*toolchains: str) -> list[BuildRecord]:
    """The control and one varied build by each."""
    return [record(name, variation) for name in toolchains for variation in (control(), draw(1))]


def ids(records: list[BuildRecord]) -> list[str]:
    return [item.id for item in records]


def agreeing(
    records: list[BuildRecord], verdict: Verdict = Verdict.IDENTICAL
) -> list[ComparisonResult]:
    """A result for every comparison that the plan asks for."""
    built = [item for item in records if item.outcome is Outcome.BUILT]
    return [ComparisonResult(c, verdict, 1) for c in plan.comparisons(built)]


def across(
    toolchains: list[str], verdicts: Mapping[frozenset[str], Verdict], stage: str = "object"
) -> list[ComparisonResult]:
    """Control against control, all pairs; those that are not named are UNEXPLAINED."""
    return [
        ComparisonResult(
            Comparison(
                ComparisonKind.VERSION, "m", stage, f"m/{left}/{CONTROL}", f"m/{right}/{CONTROL}"
            ),
            verdicts.get(frozenset({left, right}), Verdict.UNEXPLAINED),
            1,
        )
        for left, right in combinations(toolchains, 2)
    ]


def replayed(
    build: BuildRecord,
    name: str = "graph → object",
    verdict: Verdict = Verdict.IDENTICAL,
    *,
    stage: str = "object",
    detail: str = "",
) -> ReplayResult:
    return ReplayResult(
        name=name,
        model=build.model,
        build=build.id,
        toolchain=build.toolchain,
        replayer="llvm/1-b-x86_64",
        stage=stage,
        sources=("graph/file",),
        verdict=verdict,
        expected_sha256="2" * 64,
        got_sha256="2" * 64,
        commands=(),
        wall_seconds=0.0,
        detail=detail,
    )


def judged(
    records: list[BuildRecord],
    comparisons: list[ComparisonResult],
    replays: list[ReplayResult] | None = None,
    policy: Policy | None = None,
    planned: list[str] | None = None,
) -> ModelVerdict:
    return judge_model(
        MODEL,
        ids(records) if planned is None else planned,
        records,
        comparisons,
        replays or [],
        policy or Policy(),
    )


def report(
    records: list[BuildRecord],
    comparisons: list[ComparisonResult],
    replays: list[ReplayResult] | None = None,
    *,
    complete: bool = True,
    verdicts: tuple[ModelVerdict, ...] | None = None,
    run: str = "20260101-000000-1-abcd",
) -> Report:
    if verdicts is None:
        verdicts = (judged(records, comparisons, replays),)
    return Report(
        schema_version=1,
        run=run,
        harness_version="0",
        started="2026-01-01T00:00:00+00:00",
        wall_seconds=1.0,
        seed=1,
        complete=complete,
        engine="sandbox",
        isolation=Isolation.NAMESPACES,
        host={},
        policy=Policy(),
        models=(MODEL,),
        toolchains=tuple(toolchain(n) for n in dict.fromkeys(r.toolchain for r in records)),
        builds=tuple(records),
        comparisons=tuple(comparisons),
        replays=tuple(replays or ()),
        bisections=(),
        verdicts=verdicts,
        verdict=worst(verdict.verdict for verdict in verdicts),
    )
