"""What accounting found, from its process to the verdict; and what of it is remembered."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from harness import account, plan
from harness.accounting.interface import Accounted, Kind, Unaccounted
from harness.models import (
    Account,
    BuildRecord,
    ComparisonResult,
    LeftOver,
    ModelVerdict,
    Policy,
    Verdict,
)
from harness.verdict import judge_model
from tests.unit.samples import MODEL, ids, twice
from tests.unit.test_verdict import THREE

CLEAN = Accounted(Kind.GRAPH, "graph/module.py", 3, 3)
WHOLE = tuple(replace(CLEAN, kind=kind) for kind in account.KINDS)
FOUND = replace(CLEAN, attributed=2, findings=(Unaccounted(Kind.GRAPH, "graph", "x", "y"),))
UNREAD = replace(CLEAN, unknown=("R.new is not known",))
TODAY = date(2026, 11, 23)
JOB = account.Job(MODEL, (("graph/module.py", "0" * 64),))
KINDS = ("graph", "constants", "decisions", "reach")


def one(kind: str, build: str, **changes: object) -> Account:
    toolchain = build.partition("/")[2].rpartition("/")[0]
    made = Account(kind, MODEL.name, build, toolchain, "graph", 3, 3)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_only_clean_answers_are_remembered(tmp_path: Path) -> None:
    memory = account.Memory(tmp_path, "sandbox")
    for answer in ((FOUND,), (UNREAD,), (CLEAN, FOUND), ()):
        memory.keep(JOB, answer, TODAY)
        assert memory.recall(JOB) is None
    memory.keep(JOB, (CLEAN,), TODAY)
    assert memory.recall(JOB) is None  # one respect is not all of them
    memory.keep(JOB, WHOLE, TODAY)
    assert memory.recall(JOB) == (WHOLE, "2026-11-23")
    assert account.Memory(tmp_path, "plain").recall(JOB) is None
    other = replace(JOB, sources=(("graph/module.py", "1" * 64),))
    assert memory.recall(other) is None
    # A finding forgets what was remembered.
    memory.keep(JOB, (FOUND,), TODAY)
    assert memory.recall(JOB) is None


def test_a_damaged_or_forged_entry_is_none(tmp_path: Path) -> None:
    memory = account.Memory(tmp_path, "sandbox")
    memory.keep(JOB, WHOLE, TODAY)
    (entry,) = tmp_path.rglob("*.json")
    whole = entry.read_bytes()
    for damage in (
        whole[:-4],
        b"[]",
        b"x" * 2**21,
        whole.replace(b'"unknown":[]', b'"unknown":["?"]'),
    ):
        entry.write_bytes(damage)
        assert memory.recall(JOB) is None, damage[:40]
    entry.write_bytes(whole)
    assert memory.recall(JOB) is not None


def identical(records: list[BuildRecord]) -> list[ComparisonResult]:
    return [ComparisonResult(each, Verdict.IDENTICAL, 1) for each in plan.comparisons(records)]


def judged(accounts: list[Account], policy: Policy) -> ModelVerdict:
    records = twice(*THREE)
    return judge_model(MODEL, ids(records), records, identical(records), [], policy, {}, accounts)


def controls() -> list[str]:
    return [record.id for record in twice(*THREE) if record.variation.name == "control"]


def test_what_is_left_over_is_a_finding_whatever_the_policy_says() -> None:
    build = controls()[0]
    accounts = [one("graph", build, left_over=(LeftOver("graph", "x", "y"),))]
    assert judged(accounts, Policy()).verdict is Verdict.UNACCOUNTED
    verdict = judged(accounts, Policy())
    stage = next(stage for stage in verdict.stages if stage.stage == "graph")
    assert stage.accounts == {"graph": Verdict.UNACCOUNTED}
    assert stage.odd_ones_out == (accounts[0].toolchain,)
    assert verdict.first_divergence == "graph"


def test_what_is_left_over_at_a_stage_that_nobody_left_is_not_lost() -> None:
    left = one("graph", controls()[0], stage="elsewhere", left_over=(LeftOver("x", "x", "y"),))
    assert judged([left], Policy()).verdict is Verdict.UNACCOUNTED


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_that_asks_for_accounting_gets_it_or_no_answer(kind: str) -> None:
    policy = Policy(required_accounting=(kind,))
    whole = [one(kind, build) for build in controls()]
    assert judged(whole, policy).verdict is Verdict.IDENTICAL
    assert judged(whole[1:], policy).verdict is Verdict.INCONCLUSIVE
    assert judged([], policy).verdict is Verdict.INCONCLUSIVE
    unread = [replace(whole[0], unknown=("R.new is not known",)), *whole[1:]]
    assert judged(unread, policy).verdict is Verdict.INCONCLUSIVE
    assert judged(unread, Policy()).verdict is Verdict.IDENTICAL


def test_only_ir_is_read_in_its_normalized_form() -> None:
    record = replace(twice(*THREE)[0], compiler="tvm")
    raw = {f"{each.stage}/{each.name}": each.sha256 for each in record.artifacts}
    job = account.job_for(record, MODEL, dict.fromkeys([*raw, "llvm/module.ll"], "f" * 64))
    assert job is not None
    assert dict(job.sources) == raw | {"llvm/module.ll": "f" * 64}
    assert account.job_for(replace(record, compiler="other"), MODEL, {}) is None
