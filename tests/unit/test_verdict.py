"""Verdicts: a finding anywhere is a finding above, and missing evidence is never a pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.models import (
    BuildRecord,
    Comparison,
    ComparisonKind,
    ComparisonResult,
    Isolation,
    Model,
    Outcome,
    Policy,
    ReplayResult,
    Verdict,
)
from harness.variations import control, draw
from harness.verdict import exit_code, judge_stage, odd_ones_out, worst
from tests.unit.samples import (
    MODEL,
    STAGES,
    across,
    agreeing,
    ids,
    judged,
    names,
    record,
    replayed,
    report,
    twice,
)

SAME, E, U, N = Verdict.IDENTICAL, Verdict.EXPLAINED, Verdict.UNEXPLAINED, Verdict.NONDETERMINISTIC
UNKNOWN = Verdict.INCONCLUSIVE
THREE = names(3)


# Nothing is nothing ------------------------------------------------------------------------------


def test_no_verdicts_are_no_answer() -> None:
    assert worst([]) is UNKNOWN
    assert {verdict.exit_code for verdict in (SAME, E)} == {0}
    assert UNKNOWN.exit_code == 2
    assert {v.exit_code for v in Verdict if v not in (SAME, E, UNKNOWN)} == {1}


def test_nothing_planned_nothing_built_is_no_answer() -> None:
    found = judged([], [], planned=[])
    assert found.verdict is UNKNOWN
    assert found.reasons


def test_builds_without_a_stage_are_no_answer() -> None:
    records = [replace(r, stages=(), artifacts=()) for r in twice(*THREE)]
    found = judged(records, agreeing(records))
    assert found.verdict is UNKNOWN
    assert found.reasons


def test_builds_without_comparisons_are_no_answer() -> None:
    found = judged(twice(*THREE), [])
    assert found.verdict is UNKNOWN
    assert all(stage.verdict is UNKNOWN and stage.reasons for stage in found.stages)


def test_replays_alone_are_no_answer() -> None:
    lonely = [record()]
    policy = Policy(min_builds=1)
    assert judged(lonely, [], [replayed(lonely[0])], policy).verdict is UNKNOWN


def test_two_vendors_built_once_are_not_compared_and_no_answer() -> None:
    records = [record("tvm/1-a-x86_64"), record("iree/1-a-x86_64")]
    assert judged(records, agreeing(records), policy=Policy(min_builds=1)).verdict is UNKNOWN


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_all_clear_takes_every_comparison(count: int) -> None:
    records = twice(*names(count))
    results = agreeing(records)
    assert judged(records, results).verdict is SAME
    for left_out in results:
        found = judged(records, [result for result in results if result is not left_out])
        assert found.verdict is UNKNOWN, left_out
        assert any("not compared" in reason for reason in found.reasons)


def test_other_models_results_do_not_count() -> None:
    records = twice(*THREE)
    other = [
        replace(result, comparison=replace(result.comparison, model="n"))
        for result in agreeing(records)
    ]
    assert judged(records, other).verdict is UNKNOWN
    assert judged([replace(r, model="n") for r in records], other, planned=[]).verdict is UNKNOWN


# Builds that are missing -------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.BUILT])
@pytest.mark.parametrize("variation", [control(), draw(1)])
def test_one_build_that_failed_is_no_answer(outcome: Outcome, variation: object) -> None:
    records = [
        record(r.toolchain, r.variation, outcome=outcome, detail="first\nlast words")
        if r.toolchain == THREE[0] and r.variation == variation
        else r
        for r in twice(*THREE)
    ]
    found = judged(records, agreeing(records))
    assert found.verdict is UNKNOWN
    assert any("last words" in reason and outcome in reason for reason in found.reasons)


def test_toolchain_all_of_whose_builds_failed_is_no_answer() -> None:
    good = twice(*THREE[:2])
    bad = [record(THREE[2], v, outcome=Outcome.FAILED) for v in (control(), draw(1))]
    found = judged([*good, *bad], agreeing(good))
    assert found.verdict is UNKNOWN
    assert sum(THREE[2] in reason for reason in found.reasons) == 2


def test_build_that_was_planned_and_has_no_record_is_no_answer() -> None:
    records = twice(*THREE)
    found = judged(records, agreeing(records), planned=[*ids(records), "m/tvm/9-p-x86_64/control"])
    assert found.verdict is UNKNOWN
    assert "m/tvm/9-p-x86_64/control was not built" in found.reasons


def test_finding_is_not_hidden_by_a_failed_build() -> None:
    bad = record(THREE[2], outcome=Outcome.FAILED)
    good = twice(*THREE[:2])
    found = judged([*good, bad], agreeing(good, U))
    assert found.verdict is U
    assert found.reasons


# Stages that only some have ----------------------------------------------------------------------


def test_stage_that_only_one_build_has_is_no_pass() -> None:
    records = [record(THREE[0]), record(THREE[1], artifacts={"graph/file": b"graph"})]
    without = [r for r in agreeing(records) if r.comparison.stage == "graph"]
    found = judged(records, without, policy=Policy(min_builds=1))
    stage = next(stage for stage in found.stages if stage.stage == "object")
    assert stage.verdict is UNKNOWN
    assert stage.reasons == ("no two builds were compared here",)


def test_stage_that_nobody_left_but_a_replay_should_have_made_is_no_pass() -> None:
    """Every build hides its object: the replays into it are undecided, and that must count."""
    records = [
        record(name, v, {"graph/file": b"graph"})
        for name in THREE[:2]
        for v in (control(), draw(1))
    ]
    replays = [replayed(r, verdict=UNKNOWN, detail="the build left no object/file")
               for r in records]  # fmt: skip
    found = judged(records, agreeing(records), replays)
    assert found.verdict is UNKNOWN
    (stage,) = [stage for stage in found.stages if stage.stage == "object"]
    assert any("left no object/file" in reason for reason in stage.reasons)


def test_required_stage_must_be_there_in_every_build() -> None:
    records = twice(*THREE)
    assert judged(records, agreeing(records), policy=Policy(required_stages=STAGES)).verdict is SAME
    found = judged(records, agreeing(records), policy=Policy(required_stages=("library",)))
    assert found.verdict is UNKNOWN
    assert found.reasons == ("policy: stage library is required and nobody left it",)
    few = [record(THREE[0], r.variation, {"graph/file": b"graph"})
           if r.toolchain == THREE[0] else r for r in records]  # fmt: skip
    found = judged(few, agreeing(few), policy=Policy(required_stages=STAGES))
    assert found.verdict is UNKNOWN
    assert sum("lacks stage object" in reason for reason in found.reasons) == 2


# Replays -----------------------------------------------------------------------------------------


def test_failed_replay_beats_identical_comparisons() -> None:
    records = twice(*THREE)
    replays = [replayed(r) for r in records]
    assert judged(records, agreeing(records), replays).verdict is SAME
    replays[0] = replayed(records[0], verdict=U, detail="does not follow")
    found = judged(records, agreeing(records), replays)
    assert found.verdict is U
    assert found.first_divergence == "object"
    assert found.odd_ones_out == (THREE[0],)


def test_undecided_replay_is_no_answer() -> None:
    records = twice(*THREE)
    replays = [replayed(r) for r in records[1:]]
    replays.append(replayed(records[0], verdict=UNKNOWN, detail="llc ended with timed-out"))
    found = judged(records, agreeing(records), replays)
    assert found.verdict is UNKNOWN
    assert not found.odd_ones_out


def test_required_replay_must_be_there_for_every_build() -> None:
    records = twice(*THREE)
    policy = Policy(required_replays=("graph → object",))
    replays = [replayed(r) for r in records]
    assert judged(records, agreeing(records), replays, policy).verdict is SAME
    for missing in range(len(replays)):
        some = replays[:missing] + replays[missing + 1 :]
        found = judged(records, agreeing(records), some, policy)
        assert found.verdict is UNKNOWN
        (reason,) = found.reasons
        assert records[missing].id in reason
    others = [replace(r, name="other") for r in replays]
    assert judged(records, agreeing(records), others, policy).verdict is UNKNOWN


# Policy ------------------------------------------------------------------------------------------


def test_policy_on_numbers_and_isolation() -> None:
    records = twice(*THREE)
    results = agreeing(records)
    for unmet in (Policy(min_builds=3), Policy(min_toolchains=4)):
        found = judged(records, results, policy=unmet)
        assert found.verdict is UNKNOWN
        assert all(reason.startswith("policy: ") for reason in found.reasons)
    weak = [replace(records[0], isolation=Isolation.NONE), *records[1:]]
    assert judged(weak, results).verdict is SAME
    assert judged(weak, results, policy=Policy(allow_isolation_none=False)).verdict is UNKNOWN


# The odd one out ---------------------------------------------------------------------------------


def odd(count: int, *pairs: tuple[int, int], verdict: Verdict = SAME) -> tuple[int, ...]:
    """Which of ``count`` toolchains are odd when just these pairs agree."""
    all_names = names(count)
    verdicts = {frozenset({all_names[a], all_names[b]}): verdict for a, b in pairs}
    records = [record(name) for name in all_names]
    found = odd_ones_out("object", records, across(all_names, verdicts), [])
    return tuple(all_names.index(name) for name in found)


@pytest.mark.parametrize(
    ("count", "pairs", "expected"),
    [
        (1, [], ()),
        (2, [], ()),
        (2, [(0, 1)], ()),
        (3, [(0, 1)], (2,)),
        (3, [(1, 2)], (0,)),
        (3, [], ()),
        (3, [(0, 1), (1, 2), (0, 2)], ()),
        (4, [(0, 1), (1, 2), (0, 2)], (3,)),
        (4, [(0, 1), (2, 3)], ()),  # a tie
        (4, [(0, 1)], ()),  # two of four are no majority
        (5, [(0, 1), (1, 2), (0, 2)], (3, 4)),
        (5, [(0, 1), (1, 2), (0, 2), (3, 4)], (3, 4)),
        (5, [(0, 1), (2, 3)], ()),
        (5, [(a, b) for a in range(4) for b in range(a)], (4,)),
    ],
)
@pytest.mark.parametrize("verdict", [SAME, E])
def test_odd_one_out(
    count: int, pairs: list[tuple[int, int]], expected: tuple[int, ...], verdict: Verdict
) -> None:
    assert odd(count, *pairs, verdict=verdict) == expected


def test_explained_chain_makes_one_class_and_no_odd_one() -> None:
    """0 ~ 1 and 1 ~ 2 but not 0 ~ 2: nobody stands alone, and the verdict is still a finding."""
    assert odd(3, (0, 1), (1, 2), verdict=E) == ()


def test_pairs_without_an_answer_join_nothing() -> None:
    assert odd(3, (0, 1), verdict=UNKNOWN) == ()


def test_toolchain_with_a_stage_too_many_or_too_few_is_odd() -> None:
    full = {"graph/file": b"graph", "object/file": b"object"}
    for usual, strange in ((STAGES[:1], STAGES), (STAGES, STAGES[:1])):
        records = [
            record(name, None, {f"{s}/file": full[f"{s}/file"] for s in stages})
            for name, stages in zip(THREE, (usual, usual, strange), strict=True)
        ]
        results = [
            replace(r, verdict=U)
            if THREE[2] in r.comparison.right and r.comparison.stage == "object"
            else r
            for r in agreeing(records)
        ]
        found = judged(records, results, policy=Policy(min_builds=1))
        assert found.verdict is U
        assert found.first_divergence == "object"
        assert found.odd_ones_out == (THREE[2],)


def test_other_compilers_are_no_odd_ones_out() -> None:
    """A compiler that has no such stage is not odd for it, and does not outvote either."""
    others = [record(name, None, {"bytecode/file": b"b"}) for name in names(3, "iree")]
    records = [*(record(name) for name in THREE), *others]
    pairs = {frozenset(THREE[:2]): SAME}
    assert odd_ones_out("object", records, across(THREE, pairs), []) == (THREE[2],)
    agreed = {frozenset({a, b}): SAME for a in THREE for b in THREE if a != b}
    assert odd_ones_out("object", records, across(THREE, agreed), []) == ()


def repeat_result(name: str, verdict: Verdict) -> ComparisonResult:
    sides = (f"m/{name}/control", f"m/{name}/varied")
    return ComparisonResult(Comparison(ComparisonKind.REPEAT, "m", "object", *sides), verdict, 1)


def test_toolchain_that_disagrees_with_itself_is_odd_whatever_the_others_do() -> None:
    records = twice(THREE[0])
    assert odd_ones_out("object", records, [repeat_result(THREE[0], N)], []) == (THREE[0],)
    for verdict in (SAME, E, UNKNOWN):
        assert odd_ones_out("object", records, [repeat_result(THREE[0], verdict)], []) == ()


def test_mixed_repeats_are_nondeterministic() -> None:
    repeats = [record(THREE[0], v) for v in (control(), draw(1), draw(1, 2))]
    results = [replace(r, verdict=N) if r.comparison.right.endswith("-2") else r
               for r in agreeing(repeats)]  # fmt: skip
    found = judged(repeats, results)
    assert found.verdict is N
    assert {stage.comparisons["repeat"] for stage in found.stages} == {N}


def test_stage_reports_the_worst_of_each_kind_and_what_explained() -> None:
    results = agreeing(twice(*THREE))
    results = [replace(r, verdict=E) if r.comparison.kind is ComparisonKind.VERSION else r
               for r in results]  # fmt: skip
    stage = judge_stage("m", "object", twice(*THREE), results, [])
    assert stage.comparisons == {"repeat": SAME, "version": E}
    assert stage.verdict is E


# A report's exit code ----------------------------------------------------------------------------


def test_report_that_is_not_complete_is_no_answer() -> None:
    records = twice(*THREE)
    assert exit_code(report(records, agreeing(records))) == 0
    assert exit_code(report(records, agreeing(records), complete=False)) == 2
    assert exit_code(report(records, agreeing(records, U), complete=False)) == 1


def test_report_is_no_better_than_its_models() -> None:
    records = twice(*THREE)
    bad = report(records, agreeing(records, U))
    assert exit_code(replace(bad, verdict=SAME)) == 1
    assert exit_code(replace(bad, verdict=SAME, verdicts=())) == 2


# Properties --------------------------------------------------------------------------------------

VERDICTS = st.sampled_from(list(Verdict))
REPLAY_VERDICTS = st.sampled_from([SAME, U, UNKNOWN])


@st.composite
def evidence(
    draws: st.DrawFn,
) -> tuple[list[BuildRecord], list[ComparisonResult], list[ReplayResult], Policy]:
    repeats = draws(st.integers(1, 3))
    records = []
    for name in names(draws(st.integers(1, 4))):
        for number in range(repeats):
            variation = draw(1, number) if number else control()
            outcome = draws(st.sampled_from([Outcome.BUILT] * 9 + [Outcome.FAILED]))
            stages = draws(st.sampled_from([STAGES] * 4 + [STAGES[:1], STAGES[1:]]))
            artifacts = {f"{stage}/file": stage.encode() for stage in stages}
            records.append(record(name, variation, artifacts, outcome=outcome))
    clean = draws(st.booleans())
    results = [
        replace(result, verdict=SAME if clean else draws(VERDICTS)) for result in agreeing(records)
    ]
    replays = [
        replayed(r, verdict=SAME if clean else draws(REPLAY_VERDICTS))
        for r in records
        if r.outcome is Outcome.BUILT and draws(st.booleans())
    ]
    policy = Policy(
        min_builds=draws(st.integers(1, 3)),
        min_toolchains=draws(st.integers(1, 3)),
        required_stages=draws(st.sampled_from([(), STAGES])),
        required_replays=draws(st.sampled_from([(), ("graph → object",)])),
    )
    return records, results, replays, policy


@given(evidence(), st.data())
@pytest.mark.slow
def test_worse_evidence_never_gives_a_better_verdict(
    given_evidence: tuple[list[BuildRecord], list[ComparisonResult], list[ReplayResult], Policy],
    data: st.DataObject,
) -> None:
    records, results, replays, policy = given_evidence
    before = judged(records, results, replays, policy).verdict
    if results:
        place = data.draw(st.integers(0, len(results) - 1))
        old = results[place]
        worse = [v for v in Verdict if v.severity >= old.verdict.severity]
        new = replace(old, verdict=data.draw(st.sampled_from(worse)))
        changed = [*results[:place], new, *results[place + 1 :]]
        after = judged(records, changed, replays, policy).verdict
        assert after.severity >= before.severity
        assert after.severity >= new.verdict.severity
    if replays:
        place = data.draw(st.integers(0, len(replays) - 1))
        changed_replays = [*replays[:place], replace(replays[place], verdict=U),
                           *replays[place + 1 :]]  # fmt: skip
        assert judged(records, results, changed_replays, policy).verdict is U


@given(evidence(), st.data())
@pytest.mark.slow
def test_nothing_without_an_answer_gives_all_clear(
    given_evidence: tuple[list[BuildRecord], list[ComparisonResult], list[ReplayResult], Policy],
    data: st.DataObject,
) -> None:
    records, results, replays, policy = given_evidence
    kind = data.draw(st.sampled_from(["comparison", "replay", "build", "planned", "dropped"]))
    planned = ids(records)
    if kind == "comparison" and results:
        place = data.draw(st.integers(0, len(results) - 1))
        results = [*results[:place], replace(results[place], verdict=UNKNOWN),
                   *results[place + 1 :]]  # fmt: skip
    elif kind == "replay":
        stage = data.draw(st.sampled_from([*STAGES, "library"]))
        replays = [*replays, replayed(records[0], "new", UNKNOWN, stage=stage)]
    elif kind == "build":
        records = [*records, record("tvm/9-p-x86_64", outcome=Outcome.TIMED_OUT)]
        planned = ids(records)
    elif kind == "dropped" and results:
        results.pop(data.draw(st.integers(0, len(results) - 1)))
    else:
        planned = [*planned, "m/tvm/9-p-x86_64/control"]
    assert judged(records, results, replays, policy, planned).verdict.exit_code != 0


@given(evidence())
@pytest.mark.slow
def test_all_clear_means_that_everything_was_held_against_something(
    given_evidence: tuple[list[BuildRecord], list[ComparisonResult], list[ReplayResult], Policy],
) -> None:
    records, results, replays, policy = given_evidence
    found = judged(records, results, replays, policy)
    if found.verdict.exit_code == 0:
        assert all(r.outcome is Outcome.BUILT for r in records)
        assert all(r.verdict in (SAME, E) for r in results)
        assert all(r.verdict is SAME for r in replays)
        held = {(side, r.comparison.stage) for r in results
                for side in (r.comparison.left, r.comparison.right)}  # fmt: skip
        assert held >= {(r.id, stage) for r in records for stage in r.stages}
        assert not found.reasons


def test_the_sample_model_is_what_the_records_name() -> None:
    assert isinstance(MODEL, Model)
    assert {r.model for r in twice(*THREE)} == {MODEL.name}
