"""Statements of a real run: real TVM wheels, real sandboxes, and the files to build it again."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format  # type: ignore[import-untyped]
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement_pb2 import Statement

from harness import ledger, toolchains
from harness.build import Installed, Linker
from harness.components import Profile, host_base
from harness.engines.launch import interpreter
from harness.environments import prepare
from harness.independence import shared
from harness.models import Report, Verdict
from harness.profiles import gather
from harness.records import load_report
from harness.replay import Replayer, load_recipes
from harness.signoff.bill import read_bill
from harness.signoff.evidence import Match, Shipped, evidence_schema_text, read_evidence
from harness.signoff.interface import ReleasePolicy, Requirements
from harness.signoff.materials import Material, lay_out, of_model, of_toolchains
from harness.signoff.mlbom import release_bill
from harness.signoff.profilematerial import profile_material, read_profile
from harness.signoff.provenance import dump_replays, read_provenance, read_replays, regenerated_by
from harness.signoff.statements import (
    Context,
    bill_statement,
    build_statement,
    evidence_statement,
    replays_of,
)
from harness.signoff.strictjson import canonical, parse
from harness.store import Store
from tests.conftest import CLEAN, ROOT, Harness

pytestmark = pytest.mark.integration

REPLAYER, LINKER = "llvm/22.1.8-xtc-x86_64", "llvm/22.1.8-ziglang-x86_64"
OURS = ROOT / "toolchains"


@dataclass(frozen=True)
class Made:
    report: Report
    store: Store
    profiles: tuple[Profile, ...]
    materials: tuple[Material, ...]


@pytest.fixture
def made(harness: Harness, small: Callable[..., Path], tmp_path: Path) -> Made:
    """One run of the small model by two toolchains, and all that is signed with it."""
    done = harness(
        "run", small(), "--input", "x=2x8", "--repeat", 1, "--out", tmp_path / "out", "--json",
        "--toolchain", CLEAN[0], "--toolchain", CLEAN[2],
    )  # fmt: skip
    assert done.code == 0, done.err
    store = Store(tmp_path / "out")
    report = load_report(tmp_path / "out" / done.report["run"] / "report.json")
    known = toolchains.load([OURS])
    there = {name: prepare(known[name]) for name in (CLEAN[0], CLEAN[2], REPLAYER, LINKER)}
    link = Linker(there[LINKER], known[LINKER].tools["link"])
    profiles = gather(
        report.toolchains,
        {name: Installed(there[name], link) for name in (CLEAN[0], CLEAN[2])},
        [Replayer(known[name], there[name]) for name in (REPLAYER, LINKER)],
        report.builds,
        report.replays,
        store,
        host_base(str(interpreter())),
    )
    wanted = [*report.toolchains, known[REPLAYER], known[LINKER]]
    materials = of_toolchains(wanted, known, [OURS], {"tvm": load_recipes(OURS / "tvm")})
    return Made(report, store, profiles, materials)


def test_a_run_is_told_in_statements_that_say_what_it_found(made: Made, tmp_path: Path) -> None:
    report = made.report
    model = report.models[0]
    profiles = {each.origin.toolchain: profile_material(each) for each in made.profiles}

    # What is read back is what the run measured: the same pairs, the same shares.
    again = [read_profile(data) for data in profiles.values()]
    assert again == list(made.profiles)
    assert report.independence is not None
    assert {(p.left, p.right): p for p in report.independence.pairs} == {
        (left.origin.toolchain, right.origin.toolchain): shared(left, right)
        for left, right in combinations(again, 2)
    }

    libraries = set()
    for record in report.builds:
        context = Context(
            builder="builder-a",
            dependencies=[(each.name, each.sha256) for each in made.materials],
            byproducts=[(f"profile:{name}", "0" * 64) for name in profiles],
            replayers=[REPLAYER],
        )
        data = canonical(build_statement(record, report, context))
        statement = parse(data, "statement")
        json_format.ParseDict(statement, Statement(), ignore_unknown_fields=False)
        json_format.ParseDict(statement["predicate"], Provenance(), ignore_unknown_fields=False)
        said = read_provenance(statement)
        assert said.model_sha256 == model.sha256
        assert said.artifacts == {f"{a.stage}/{a.name}": a.sha256 for a in record.artifacts}
        replays = read_replays(dump_replays(replays_of(record, report)))
        assert regenerated_by(said, replays, "object") == (REPLAYER,)
        assert regenerated_by(said, replays, "library") == (LINKER,)
        libraries.add(said.library)
    assert len(libraries) == 1  # for this model, both releases make the same
    (library,) = libraries
    assert library is not None

    # Of the artifact
    policy = ReleasePolicy("1" * 64, report.policy, Requirements())
    entries = ledger.load(OURS / "explanations.toml", datetime.datetime.now(datetime.UTC).date())
    shipped = Shipped(library, 1, Match.IDENTICAL, library, "", ())
    statement = evidence_statement(
        report, model.name, shipped, file="small.so", release="small 1", policy=policy,
        ledger=entries, ledger_sha256="2" * 64, refusals=[],
    )  # fmt: skip
    told = read_evidence(parse(canonical(statement), "statement"))
    jsonschema.validate(statement["predicate"], json.loads(evidence_schema_text()))
    assert told.verdict in (Verdict.IDENTICAL, Verdict.EXPLAINED)
    counted = {s.stage: len(s.independent) for s in report.independence.stages}
    assert {each.stage: each.independent for each in told.stages} == counted
    assert set(told.explanations) <= entries.ids
    differing = [c for c in report.comparisons if c.differences]
    assert bool(differing) == bool(told.equivalences)

    bills = sorted((made.store.root / report.run / "sbom").rglob("*.cdx.json"))
    bill: dict[str, Any] = release_bill(
        file="small.so", sha256=library, size=1, release="small 1", model=model,
        content=made.store.read(model.sha256), bills=[path.read_bytes() for path in bills],
        builders=[each.name for each in report.toolchains],
    )  # fmt: skip
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    whole = bill_statement(file="small.so", sha256=library, bill=bill)
    assert read_bill(parse(canonical(whole), "statement")).models == (model.sha256,)

    # From the statement's names and digests alone: the same toolchains, the same model.
    by_digest = {each.sha256: each for each in (*made.materials, *of_model(model, made.store))}
    named = read_provenance(parse(data, "statement")).dependencies
    rebuilt = [Material(name, digest, by_digest[digest].content) for name, digest in named.items()]
    found = toolchains.load(lay_out(rebuilt, tmp_path / "again"))
    for each in report.toolchains:
        assert found[each.name].identity == each.identity
