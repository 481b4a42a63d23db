"""Who counts as one builder, and how many agree on a stage: contents decide, names do not."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from harness import plan
from harness.components import COMPILER, FRONTEND, LINKER, LLVM, NAMES, Profile
from harness.independence import (
    CLASSES,
    THRESHOLD,
    agreeing,
    assess,
    builders,
    counts,
    responsible,
    shared,
    stage_class,
    summary,
)
from harness.models import (
    BuildRecord,
    ComparisonResult,
    Component,
    Independence,
    Origin,
    Outcome,
    Policy,
    ReplayResult,
    Verdict,
)
from harness.verdict import judge_model
from tests.unit.samples import MODEL, ids, record, replayed, toolchain

STAGES = tuple(stage for stages in CLASSES.values() for stage in stages)
A, B, C = "tvm/1-a-x86_64", "tvm/1-b-x86_64", "tvm/2-a-x86_64"
R, L = "llvm/22-r-x86_64", "llvm/22-l-x86_64"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def profile(name: str, **parts: dict[str, int]) -> Profile:
    """``parts``: component → content → size; by default one file of 100 bytes of its own each."""
    made = toolchain(name)
    found = {
        part: {sha(text): size for text, size in parts.get(part, {f"{name} {part}": 100}).items()}
        for part in NAMES
    }
    origin = Origin(
        toolchain=name, compiler=made.compiler, publisher=made.publisher, version=made.version,
        arch=made.arch, base="debian 12", python="3.11.7 /usr/bin/python", driver_sha256=sha("d"),
        linker=L, measured=True, reason="",
        components=tuple(
            Component(part, len(files), sum(files.values()), sha(part),
                      (), ("GCC: (GNU) 14.2.1",), ("22.1.0",))
            for part, files in found.items()
        ),
    )  # fmt: skip
    own = found[FRONTEND] | found[COMPILER] | found[LLVM]
    return Profile(origin, own, own | found[LINKER], found)


def packaged(found: Profile, package: str) -> Profile:
    """``found``, and its compiler comes out of ``package``."""
    components = tuple(
        replace(part, packages=(package,)) if part.name == COMPILER else part
        for part in found.origin.components
    )
    return replace(found, origin=replace(found.origin, components=components))


def built(*names: str) -> list[BuildRecord]:
    artifacts = {f"{stage}/file": stage.encode() for stage in STAGES}
    return [record(name, artifacts=artifacts) for name in names]


def compared(
    records: list[BuildRecord], *stages: str, verdict: Verdict = Verdict.IDENTICAL
) -> list[ComparisonResult]:
    return [
        ComparisonResult(comparison, verdict, 1)
        for comparison in plan.comparisons(records)
        if comparison.stage in (stages or STAGES)
    ]


def assessed(*profiles: Profile, replays: tuple[ReplayResult, ...] = ()) -> Independence:
    records = built(*(p.origin.toolchain for p in profiles if p.origin.compiler == "tvm"))
    return assess(profiles, records, compared(records), replays)


def numbers(found: Independence) -> dict[str, int]:
    return counts(found, MODEL.name)


def test_strangers_that_agree_count_each() -> None:
    assert numbers(assessed(profile(A), profile(B))) == dict.fromkeys(STAGES, 2)


def test_two_names_for_one_wheel_count_as_one() -> None:
    files = {part: {f"{part} file": 100} for part in NAMES}
    assert numbers(assessed(profile(A, **files), profile(B, **files))) == dict.fromkeys(STAGES, 1)


def test_padding_does_not_make_a_copy_independent() -> None:
    files = {part: {f"{part} file": 100} for part in NAMES}
    padded = {part: {**content, f"{part} pad": 10**12} for part, content in files.items()}
    assert set(numbers(assessed(profile(A, **files), profile(B, **padded))).values()) == {1}


def test_a_file_moved_to_another_component_is_found() -> None:
    honest = profile(A, compiler={"lib": 100})
    moved = profile(B, compiler={"x": 1}, frontend={"lib": 100, "y": 1})
    assert COMPILER in shared(honest, moved).same_builder
    assert COMPILER in shared(moved, honest).same_builder


def test_the_same_publisher_is_one_builder_whatever_the_bytes() -> None:
    found = numbers(assessed(profile(A), profile(C)))
    assert found.pop("library") == 2  # the linkers are other people's
    assert set(found.values()) == {1}


def test_one_distribution_of_an_index_is_one_builder_and_a_local_label_is_another() -> None:
    def hands(left: str, right: str) -> tuple[str, ...]:
        return shared(packaged(profile(A), left), packaged(profile(B), right)).same_builder

    assert hands("apache-tvm", "apache-tvm") == (COMPILER,)
    assert hands("apache-tvm", "apache-tvm+b") == ()
    assert hands("apache-tvm+b", "apache-tvm+b") == ()
    assert hands("apache-tvm", "own-tvm") == ()


def test_a_chain_makes_one_builder() -> None:
    """B has the bytes of A, and C the publisher of A; C and B share nothing by themselves."""
    copy = {part: {f"{A} {part}": 100} for part in NAMES}
    profiles = [profile(A), profile(B, **copy), profile(C)]
    assert shared(profiles[1], profiles[2]).same_builder == ()
    assert numbers(assessed(*profiles))["object"] == 1


@pytest.mark.parametrize(("size", "one"), [(11, True), (10, False)])
def test_the_threshold_is_on_bytes(size: int, one: bool) -> None:
    assert THRESHOLD == 0.1
    left = profile(A, llvm={"common": size, "left": 100 - size})
    right = profile(B, llvm={"common": size, "right": 100 - size})
    assert (LLVM in shared(left, right).same_builder) is one


def test_what_is_not_known_counts_as_shared() -> None:
    assert LLVM in shared(profile(A, llvm={}), profile(B)).same_builder


def test_a_linker_that_is_merely_used_shares_no_back_end() -> None:
    tool = profile(L, **{part: {"zig": 100} for part in NAMES})
    user = profile(A, linker={"zig": 100})
    assert shared(tool, user).same_builder == (LINKER,)


def test_a_replayer_counts_for_the_stage_that_it_regenerates_and_for_no_other() -> None:
    records = built(A)
    replay = replace(replayed(records[0]), replayer=R, stage="object", verdict=Verdict.IDENTICAL)
    found = numbers(assess([profile(A), profile(R)], records, [], [replay]))
    assert found.pop("object") == 2
    assert set(found.values()) == {1}


@pytest.mark.parametrize("verdict", [Verdict.UNEXPLAINED, Verdict.INCONCLUSIVE])
def test_a_replay_that_failed_counts_for_nothing(verdict: Verdict) -> None:
    records = built(A)
    replay = replace(replayed(records[0]), replayer=R, stage="object", verdict=verdict)
    assert numbers(assess([profile(A), profile(R)], records, [], [replay]))["object"] == 1
    good = replace(replay, verdict=Verdict.IDENTICAL)  # from another stage, beside the bad one
    for both in ([good, replay], [replay, good]):
        assert numbers(assess([profile(A), profile(R)], records, [], both))["object"] == 1


def test_the_linker_that_links_again_is_no_second_builder() -> None:
    records = built(A)
    replay = replace(replayed(records[0]), replayer=L, stage="library", verdict=Verdict.IDENTICAL)
    profiles = [
        profile(A, linker={"zig": 100}), profile(L, **{part: {"zig": 100} for part in NAMES}),
    ]  # fmt: skip
    assert numbers(assess(profiles, records, [], [replay]))["library"] == 1


def test_only_those_who_agree_count() -> None:
    records = built(A, B)
    differ = compared(records, "object", verdict=Verdict.UNEXPLAINED)
    assert agreeing(MODEL.name, "object", records, differ, []) == [{A}, {B}]
    assert numbers(assess([profile(A), profile(B)], records, differ, []))["object"] == 1
    explained = compared(records, "object", verdict=Verdict.EXPLAINED)
    assert numbers(assess([profile(A), profile(B)], records, explained, []))["object"] == 2


def test_a_build_that_failed_agrees_with_nobody() -> None:
    records = built(A, B)
    results = compared(records, "object")
    records = [records[0], replace(records[1], outcome=Outcome.FAILED)]
    assert agreeing(MODEL.name, "object", records, results, []) == [{A}]


def test_a_toolchain_without_a_profile_counts_for_nothing() -> None:
    records = built(A, B)
    results = compared(records, "object")
    assert numbers(assess([profile(A)], records, results, []))["object"] == 1


def test_an_unknown_stage_asks_about_everything() -> None:
    assert responsible("phase-7") == NAMES
    assert stage_class("phase-7") == "other"
    assert responsible("graph") == (FRONTEND, COMPILER)


def test_builders_are_the_same_in_whatever_order() -> None:
    profiles = [profile(name) for name in (C, B, A)]
    pairs = assessed(*profiles).pairs
    assert builders([A, B, C], pairs, "object") == builders([C, B, A], pairs, "object")


def test_summary_has_one_line_a_class() -> None:
    lines = dict(summary(assessed(profile(A), profile(B)), MODEL.name))
    assert lines == {
        "frontend": "simplified 2, graph 2",
        "compiler": "tensor-ir 2, bytecode 2, constants 2, llvm-unoptimized 2",
        "llvm": "llvm 2, assembly 2, object 2",
        "linker": "library 2",
    }


def test_policy_is_not_met_by_too_few_builders() -> None:
    records = built(A, B)
    results = compared(records)
    policy = Policy(min_builds=1, min_independent={"object": 2, "nowhere": 1})

    def judged(independent: dict[str, int]) -> tuple[str, ...]:
        verdict = judge_model(MODEL, ids(records), records, results, [], policy, independent)
        assert verdict.verdict is (Verdict.INCONCLUSIVE if verdict.reasons else Verdict.IDENTICAL)
        return verdict.reasons

    start = "policy: stage"
    end = "effectively independent builders that agreed"
    assert judged({"object": 1, "nowhere": 1}) == (f"{start} object: {end}: 1, 2 required",)
    assert judged({"object": 2}) == (f"{start} nowhere: {end}: 0, 1 required",)
    assert judged({"object": 2, "nowhere": 1}) == ()
