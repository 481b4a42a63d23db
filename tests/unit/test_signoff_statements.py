"""What is signed says what the report says, in the published formats, and the same every time."""

from __future__ import annotations

import copy
import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.predicates.vsa.v1.vsa_pb2 import VerificationSummary
from in_toto_attestation.v1.statement_pb2 import Statement

from harness.errors import HarnessError
from harness.models import (
    ArtifactDifference,
    ComparisonKind,
    Isolation,
    Outcome,
    Policy,
    Verdict,
)
from harness.signoff.evidence import Ground, Match, evidence_schema_text, read_evidence
from harness.signoff.fields import StatementError
from harness.signoff.interface import (
    BOM,
    BUILD_TYPE,
    EVIDENCE,
    PROVENANCE,
    STATEMENT_TYPE,
    SUMMARY,
    ReleasePolicy,
    Requirements,
)
from harness.signoff.provenance import read_provenance, regenerated_by
from harness.signoff.statements import (
    bill_statement,
    build_statement,
    replays_of,
)
from harness.signoff.strictjson import canonical, parse
from harness.signoff.summary import Rest, read_summary
from harness.signoff.wording import MOST_LINES
from tests.unit.samples import record, replayed, sha, toolchain
from tests.unit.signoff_samples import (
    ARTIFACTS,
    LIBRARY,
    NOW,
    A,
    B,
    build,
    context,
    evidence,
    explained,
    run_of,
    shipped,
    summary,
)

ROOT = Path(__file__).parents[2]
BILL = {
    "bomFormat": "CycloneDX",
    "metadata": {"component": {"type": "file", "hashes": [{"alg": "SHA-256", "content": LIBRARY}]}},
    "components": [],
}


def fits(data: dict[str, Any], message: Message) -> None:
    json_format.ParseDict(data, message, ignore_unknown_fields=False)


# The published formats


@pytest.mark.parametrize(
    "statement",
    [build(), evidence(), summary(), bill_statement(file="m", sha256=LIBRARY, bill=BILL)],
    ids=["build", "evidence", "summary", "bill"],
)
def test_every_statement_is_an_in_toto_statement(statement: dict[str, Any]) -> None:
    fits(statement, Statement())
    with pytest.raises(json_format.ParseError):
        fits({**statement, "more": 1}, Statement())


def test_provenance_fits_the_published_definition() -> None:
    predicate = build()["predicate"]
    fits(predicate, Provenance())
    with pytest.raises(json_format.ParseError):
        fits({**predicate, "more": 1}, Provenance())


@pytest.mark.parametrize("passed", [True, False])
def test_a_summary_fits_the_published_definition(passed: bool) -> None:
    """SLSA asks for a list of levels. The published definition has one text there (in-toto's
    attestation repository, issue 425, says that the definition is wrong), so each is tried."""
    predicate = summary(passed=passed)["predicate"]
    assert len(predicate["verifiedLevels"]) == 1
    for level in predicate["verifiedLevels"]:
        fits({**predicate, "verifiedLevels": level}, VerificationSummary())
    with pytest.raises(json_format.ParseError):
        fits({**predicate, "verifiedLevels": "x", "more": 1}, VerificationSummary())


def test_evidence_fits_its_schema_and_nothing_else_does() -> None:
    schema = parse(evidence_schema_text().encode(), "schema")
    jsonschema.Draft202012Validator.check_schema(schema)
    whole = parse(canonical(evidence(explained(run_of()))["predicate"]), "evidence")
    jsonschema.validate(whole, schema)
    for change in ({"more": 1}, {"complete": "yes"}, {"stages": 1}, {"policy_sha256": "x"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**whole, **change}, schema)


def test_published_schema_is_current() -> None:
    published = (ROOT / "harness" / "signoff" / "evidence.schema.json").read_text("utf-8")
    assert published == evidence_schema_text(), "run: make schema"


@pytest.mark.parametrize("make", [build, evidence, summary])
def test_the_same_again_is_the_same_bytes(make: Any) -> None:
    assert canonical(make()) == canonical(make())


# Builds


def test_a_build_says_what_its_record_says() -> None:
    made = run_of()
    statement = build(made)
    assert (statement["_type"], statement["predicateType"]) == (STATEMENT_TYPE, PROVENANCE)
    said = read_provenance(statement)
    first = made.builds[0]
    assert said.artifacts == {name: sha(data) for name, data in ARTIFACTS.items()}
    assert said.library == LIBRARY
    assert (said.run, said.build, said.builder) == (made.run, first.id, "builder-a")
    assert said.started == datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert (said.model, said.model_sha256, said.inputs) == ("m", "0" * 64, {"x": (1, 8)})
    assert (said.toolchain, said.toolchain_identity) == (A, toolchain(A).identity)
    assert said.variation == first.variation
    assert said.isolation is Isolation.NAMESPACES
    assert said.redteam == ""
    assert said.profiles == {A: sha("profile")}
    assert (said.record, said.replays, said.report) == (
        sha("record"), sha("replays"), sha("report"),
    )  # fmt: skip
    assert said.dependencies == {
        "model": "0" * 64,
        "toolchains/tvm/driver.py": sha("driver"),
        "toolchains/x": sha("x"),
    }
    assert said.executables == {"toolchains/x"}
    definition = statement["predicate"]["buildDefinition"]
    assert definition["buildType"] == BUILD_TYPE
    assert definition["externalParameters"]["target"]["mcpu"] == "x86-64-v3"
    assert definition["internalParameters"]["host"] == {"cpu": "a CPU"}


def test_siblings_are_the_builds_of_one_run_toolchain_and_model() -> None:
    made = run_of()
    broken = replace(
        record(A, made.builds[1].variation, outcome=Outcome.FAILED), id="m/tvm/1-a-x86_64/broken"
    )
    strange = replace(
        record(A, made.builds[1].variation, {"library/model.so": b"other"}), id="m/x/strange"
    )
    several = replace(
        record(A, made.builds[1].variation, {"library/a": b"1", "library/b": b"2"}), id="m/x/two"
    )
    elsewhere = replace(record(A, artifacts={"library/a": b"3"}), model="n", id="n/x")
    builds = (*made.builds, broken, strange, several, elsewhere)
    said = read_provenance(build(replace(made, builds=builds)))
    assert [(each.build, each.library, each.outcome) for each in said.siblings] == [
        (made.builds[0].id, LIBRARY, Outcome.BUILT),
        (made.builds[1].id, LIBRARY, Outcome.BUILT),
        (broken.id, None, Outcome.FAILED),
        (strange.id, sha("other"), Outcome.BUILT),
        (several.id, None, Outcome.BUILT),
    ]


def test_external_data_and_the_image_are_dependencies() -> None:
    made = run_of()
    model = replace(made.models[0], external=(("data/w.bin", sha("w")),))
    first = replace(made.builds[0], host={"image": f"sha256:{sha('image')}"})
    made = replace(made, models=(model,), builds=(first, *made.builds[1:]))
    said = read_provenance(build(made))
    assert said.external == {"data/w.bin": sha("w")}
    assert said.dependencies["image"] == sha("image")


def test_a_toolchain_of_the_red_team_is_named() -> None:
    made = run_of()
    evil = tuple(replace(each, redteam="bomb") for each in made.toolchains)
    assert read_provenance(build(replace(made, toolchains=evil))).redteam == "bomb"
    found = read_evidence(evidence(replace(made, toolchains=evil))).toolchains
    assert [each.redteam for each in found] == ["bomb", "bomb"]


def test_nothing_is_said_of_what_was_not_built_or_is_not_of_the_run() -> None:
    made = run_of()
    for outcome in set(Outcome) - {Outcome.BUILT}:
        failed = replace(made.builds[0], outcome=outcome)
        with pytest.raises(ValueError, match="was not built"):
            build_statement(failed, replace(made, builds=(failed,)), context())
    empty = replace(made.builds[0], artifacts=())
    with pytest.raises(ValueError, match="was not built"):
        build_statement(empty, replace(made, builds=(empty,)), context())
    with pytest.raises(ValueError, match="is not a build of"):
        build_statement(replace(made.builds[0], detail="x"), made, context())
    other = replace(made.models[0], sha256="5" * 64)
    with pytest.raises(ValueError, match="another model or toolchain"):
        build(replace(made, models=(other,)))
    changed = tuple(replace(each, identity="5" * 64) for each in made.toolchains)
    with pytest.raises(ValueError, match="another model or toolchain"):
        build(replace(made, toolchains=changed))
    with pytest.raises(StatementError, match="another model or toolchain"):
        build(replace(made, toolchains=made.toolchains[1:]))


@pytest.mark.parametrize(
    "changed",
    [
        {"builder": ""},
        {"builder": "two\nlines"},
        {"dependencies": [("a", "x" * 64)]},
        {"dependencies": [("model", "1" * 64)]},
        {"dependencies": [("a", "1" * 64), ("a", "2" * 64)]},
        {"byproducts": [("record", "1" * 63)]},
    ],
)
def test_what_verification_could_not_read_is_not_handed_out(changed: dict[str, Any]) -> None:
    with pytest.raises(HarnessError) as caught:
        build(**changed)
    assert "\n" not in str(caught.value)


def test_hostile_text_is_shown_and_never_acts() -> None:
    made = run_of()
    first = replace(made.builds[0], command=("a\x1b[2J", "b\u202e"), host={"cpu": "x\ny"})
    whole = build(replace(made, builds=(first, *made.builds[1:])))
    internal = whole["predicate"]["buildDefinition"]["internalParameters"]
    assert internal["command"] == ["a\\x1b[2J", "b\\u202e"]
    assert internal["host"] == {"cpu": "x\\ny"}


def test_what_is_too_long_to_be_said_is_an_error_and_no_crash() -> None:
    made = run_of()
    model = replace(made.models[0], inputs={"x" * 2001: (1,)})
    for make in (build, evidence):
        with pytest.raises(HarnessError, match="could not be read back"):
            make(replace(made, models=(model,)))


def test_names_of_inputs_stay_as_they_are() -> None:
    """Two names that look alike when they are shown are two inputs."""
    made = run_of()
    model = replace(made.models[0], inputs={"x\u200b": (1,), "x\\u200b": (2,)})
    said = read_provenance(build(replace(made, models=(model,))))
    assert said.inputs == {"x\u200b": (1,), "x\\u200b": (2,)}


# Replays


def test_replays_of_a_build_are_its_own() -> None:
    made = run_of()
    found = replays_of(made.builds[0], made)
    assert [(each.replayer, each.stage, each.verdict) for each in found] == [
        ("llvm/1-b-x86_64", "object", Verdict.IDENTICAL)
    ]
    assert regenerated_by(read_provenance(build(made)), found, "object") == ("llvm/1-b-x86_64",)


def test_a_replay_that_nothing_was_expected_of_still_counts_against_its_replayer() -> None:
    """As in the independence report: *all* replays of the stage have to be identical."""
    made = run_of()
    without = replace(
        replayed(made.builds[0], "other", Verdict.INCONCLUSIVE), expected_sha256="", got_sha256=None
    )
    made = replace(made, replays=(*made.replays, without))
    found = replays_of(made.builds[0], made)
    assert [each.expected_sha256 for each in found] == [sha(b"object"), None]
    assert regenerated_by(read_provenance(build(made)), found, "object") == ()


# Evidence


def test_evidence_says_what_the_report_says() -> None:
    made = run_of()
    statement = evidence(made)
    assert statement["subject"] == [{"name": "model.so", "digest": {"sha256": LIBRARY}}]
    assert statement["predicateType"] == EVIDENCE
    said = read_evidence(statement)
    assert said.release == "model 1.0"
    assert (said.policy_sha256, said.ledger_sha256) == (sha("policy"), sha("ledger"))
    assert (said.model.name, said.model.sha256, said.model.inputs) == ("m", "0" * 64, {"x": (1, 8)})
    assert (said.run.id, said.run.started, said.run.seed) == (made.run, "2026-01-01T00:00:00Z", 1)
    assert said.complete
    assert said.verdict is Verdict.IDENTICAL
    assert said.missing == said.refusals == ()
    assert said.equivalences == ()
    assert [each.stage for each in said.stages] == ["graph", "object", "library"]
    middle = said.stages[1]
    assert middle.comparisons == {
        ComparisonKind.REPEAT: Verdict.IDENTICAL,
        ComparisonKind.REBUILD: Verdict.IDENTICAL,
    }
    assert middle.replays == {"graph → object": Verdict.IDENTICAL}
    assert (middle.independent, middle.agreed) == (1, (A, B))
    assert [(each.name, each.builds, each.built) for each in said.toolchains] == [
        (A, 2, 2), (B, 2, 2),
    ]  # fmt: skip
    assert said.toolchains[0].environments == ("1" * 64,)
    assert said.artifact == shipped()


def test_evidence_keeps_what_speaks_against() -> None:
    made = run_of()
    verdict = replace(
        made.verdicts[0], verdict=Verdict.INCONCLUSIVE, reasons=("it\x07 was not built",)
    )
    made = replace(made, verdicts=(verdict,), complete=False)
    match = shipped(match=Match.NONE, against=None, reason="other bytes", sections=(".text",))
    said = read_evidence(evidence(made, shipped=match, refusals=["a line", "a\nsecond"]))
    assert (said.complete, said.verdict) == (False, Verdict.INCONCLUSIVE)
    assert said.missing == ("it\\x07 was not built",)
    assert said.refusals == ("a line", "a\\nsecond")
    assert said.artifact == match


def test_without_independence_nobody_is_independent() -> None:
    said = read_evidence(evidence(replace(run_of(), independence=None)))
    assert {(each.independent, each.agreed) for each in said.stages} == {(0, ())}


def test_too_many_lines_are_counted() -> None:
    said = read_evidence(evidence(refusals=[str(number) for number in range(MOST_LINES + 5)]))
    assert len(said.refusals) == MOST_LINES + 1
    assert said.refusals[-1] == "and 5 more"


def test_the_weakest_isolation_is_the_runs() -> None:
    made = run_of()
    assert read_evidence(evidence(made)).run.isolation is Isolation.NAMESPACES
    weak = replace(made.builds[-1], isolation=Isolation.NONE)
    made = replace(made, builds=(*made.builds[:-1], weak))
    assert read_evidence(evidence(made)).run.isolation is Isolation.NONE


def test_builds_that_failed_are_counted() -> None:
    made = run_of()
    failed = replace(made.builds[1], outcome=Outcome.FAILED)
    made = replace(made, builds=(made.builds[0], made.builds[2], made.builds[3], failed))
    found = {each.name: each for each in read_evidence(evidence(made)).toolchains}
    assert sorted((each.builds, each.built) for each in found.values()) == [(2, 1), (2, 2)]


def test_what_is_explained_is_an_equivalence_with_its_ground() -> None:
    said = read_evidence(evidence(explained(run_of(), ("names", "after"))))
    (found,) = said.equivalences
    first, second = sorted((sha(b"z"), sha(b"object")))
    assert (found.stage, found.name, found.left, found.right) == ("object", "lib0.o", first, second)
    assert found.explained_by == ("after", "names")
    assert said.explanations == {"names": Ground.DECLARED, "after": Ground.DERIVED}


@pytest.mark.parametrize("verdict", sorted(set(Verdict) - {Verdict.EXPLAINED}))
def test_only_what_came_out_explained_is_an_equivalence(verdict: Verdict) -> None:
    made = explained(run_of())
    comparisons = tuple(
        replace(each, verdict=verdict) if each.verdict is Verdict.EXPLAINED else each
        for each in made.comparisons
    )
    said = read_evidence(evidence(replace(made, comparisons=comparisons)))
    assert said.equivalences == ()


@pytest.mark.parametrize(
    "difference",
    [
        ArtifactDifference("lib0.o", None, sha("a"), ("names",)),
        ArtifactDifference("lib0.o", sha("a"), None, ("names",)),
        ArtifactDifference("lib0.o", sha("a"), sha("b"), ()),
    ],
    ids=["absent left", "absent right", "without explanation"],
)
def test_no_equivalence_without_both_sides_and_an_explanation(
    difference: ArtifactDifference,
) -> None:
    made = explained(run_of())
    comparisons = tuple(
        replace(each, differences=(difference,)) if each.differences else each
        for each in made.comparisons
    )
    assert read_evidence(evidence(replace(made, comparisons=comparisons))).equivalences == ()


def test_equivalences_of_another_model_are_not_told() -> None:
    made = explained(run_of())
    comparisons = tuple(
        replace(each, comparison=replace(each.comparison, model="n")) if each.differences else each
        for each in made.comparisons
    )
    assert read_evidence(evidence(replace(made, comparisons=comparisons))).equivalences == ()


def test_evidence_that_does_not_belong_together_is_refused() -> None:
    made = run_of()
    lax = ReleasePolicy(sha("policy"), Policy(min_builds=1), Requirements())
    with pytest.raises(ValueError, match="under another policy"):
        evidence(made, policy=lax)
    with pytest.raises(ValueError, match="does not hold unheard-of"):
        evidence(explained(made, ("unheard-of",)))
    with pytest.raises(ValueError, match="has no verdict"):
        evidence(replace(made, verdicts=()))
    with pytest.raises(ValueError, match="not a model of"):
        evidence(replace(made, models=()))


# Summaries and bills


def test_a_summary_says_what_was_decided() -> None:
    statement = summary()
    assert statement["predicateType"] == SUMMARY
    said = read_summary(statement)
    assert (said.artifact, said.verifier, said.time) == (LIBRARY, "verifier-a", NOW)
    assert (said.resource, said.policy_sha256) == ("model 1.0", sha("policy"))
    assert said.rests_on == (
        Rest("statements/a.json", sha("a")), Rest("statements/b.json", sha("b")),
    )  # fmt: skip
    assert (said.passed, said.levels) == (True, ("HARNESS_REPRODUCED",))
    said = read_summary(summary(passed=False))
    assert (said.passed, said.levels) == (False, ("FAILED",))


def test_a_time_in_another_zone_is_the_same_time() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=-9))
    said = summary(verified=NOW.astimezone(zone))
    assert said["predicate"]["timeVerified"] == "2026-11-23T12:00:00Z"


def test_a_time_without_a_zone_is_none() -> None:
    with pytest.raises(HarnessError, match="has no zone"):
        summary(verified=NOW.replace(tzinfo=None))
    for wrong in ("2026-01-01T00:00:00", "yesterday"):
        with pytest.raises(HarnessError, match="no time with a zone"):
            evidence(replace(run_of(), started=wrong))


def test_a_summary_rests_on_each_statement_once() -> None:
    twice = [Rest("statements/a.json", sha("a")), Rest("statements/b.json", sha("a"))]
    with pytest.raises(ValueError, match="there twice"):
        summary(rests_on=twice)


def test_a_bill_is_of_its_subject() -> None:
    statement = bill_statement(file="model.so", sha256=LIBRARY, bill=BILL)
    assert (statement["predicateType"], statement["predicate"]) == (BOM, BILL)
    with pytest.raises(ValueError, match="not the component"):
        bill_statement(file="model.so", sha256="5" * 64, bill=BILL)
    other = copy.deepcopy(BILL)
    other["bomFormat"] = "SPDX"
    with pytest.raises(ValueError, match="not CycloneDX"):
        bill_statement(file="model.so", sha256=LIBRARY, bill=other)


@pytest.mark.parametrize("make", [build, evidence, summary])
def test_what_is_parsed_from_the_bytes_is_what_was_made(make: Any) -> None:
    assert parse(canonical(make()), "statement") == make()
