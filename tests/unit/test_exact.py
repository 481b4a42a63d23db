"""When a failed replay is the replayer's version, and when it is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.environments import Environment
from harness.exact import second, settled
from harness.models import ReplayResult, Verdict
from harness.replay import Job, Recipe, Regenerated, Replayer
from harness.store import Store
from tests.unit.samples import toolchain

RECIPE = Recipe("a → b", ("a/f",), "b/f", (("{llc}",),), "f", "replayer")
OLD, EXACT, AGAIN = "llvm/2-x-x86_64", "llvm/1-y-x86_64", "llvm/1-z-x86_64"
TVM = "tvm/9-p-x86_64"


def replayer(name: str) -> Replayer:
    return Replayer(toolchain(name, llc="bin/llc"), Environment(Path("/nowhere"), "e" * 64))


def job(name: str, recipe: Recipe = RECIPE) -> Job:
    return Job(recipe, replayer(name), (), (("a/f", "0" * 64),))


def made(sha256: str | None) -> Regenerated:
    return Regenerated(sha256, "", (), 0.0)


# Who is asked ------------------------------------------------------------------------------------


def test_the_exact_one_is_asked_the_same_where_another_made_something_else() -> None:
    again = second(job(OLD), made("1" * 64), "2" * 64, replayer(EXACT))
    assert again == replace(job(OLD), replayer=replayer(EXACT))


@pytest.mark.parametrize(
    ("by", "got", "expected", "exact"),
    [
        (OLD, "1" * 64, "1" * 64, EXACT),  # came out
        (OLD, None, "1" * 64, EXACT),  # made nothing: its failure is no other version's work
        (OLD, "1" * 64, "2" * 64, None),  # there is none
        (AGAIN, "1" * 64, "2" * 64, EXACT),  # of the same version: no other question
    ],
)
def test_nobody_else_is_asked(by: str, got: str | None, expected: str, exact: str | None) -> None:
    assert second(job(by), made(got), expected, (exact and replayer(exact)) or None) is None


def test_the_linker_is_the_toolchains_own_and_so_exact() -> None:
    links = replace(RECIPE, with_="linker")
    assert second(job(OLD, links), made("1" * 64), "2" * 64, replayer(EXACT)) is None


# What the answers mean ---------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def results(store: Store, exact: Verdict | None = Verdict.IDENTICAL) -> list[ReplayResult]:
    """A replay by OLD that failed, and the same by EXACT with this verdict, if there is one."""
    got, expected = store.add_bytes(b"one\ntwo\n"), store.add_bytes(b"one\n2\n")
    failed = ReplayResult(
        "a → b", "m", "m/tvm/control", TVM, OLD, "b", ("a/f",), Verdict.UNEXPLAINED, expected, got,
        (), 0.0, "b/f does not follow from a/f",
    )  # fmt: skip
    if exact is None:
        return [failed]
    return [failed, replace(failed, replayer=EXACT, verdict=exact)]


def judged(found: list[ReplayResult], store: Store, exact: str = EXACT) -> list[ReplayResult]:
    return settled(found, {TVM: replayer(exact)}, store)


def test_what_the_exact_one_regenerates_is_explained_and_both_stay(store: Store) -> None:
    first, other = judged(results(store), store)
    assert (first.verdict, other.verdict) == (Verdict.EXPLAINED, Verdict.IDENTICAL)
    assert first.got_sha256 != first.expected_sha256  # what it made is not hidden
    assert first.detail == (
        "the replayer's LLVM 2 is not the toolchain's 1: another text, in some 1 lines; "
        f"{EXACT} makes what the toolchain left, bit for bit"
    )


@pytest.mark.parametrize(
    ("exact", "words"),
    [
        (Verdict.UNEXPLAINED, "makes something else too"),
        (Verdict.INCONCLUSIVE, "gave no answer"),
    ],
)
def test_a_finding_stays_one_unless_the_exact_one_regenerates_it(
    store: Store, exact: Verdict, words: str
) -> None:
    first, other = judged(results(store, exact), store)
    assert (first.verdict, other.verdict) == (Verdict.UNEXPLAINED, exact)
    assert first.detail.startswith("b/f does not follow from a/f; the replayer's LLVM 2 is not")
    assert first.detail.endswith(words)


def test_an_answer_about_something_else_explains_nothing(store: Store) -> None:
    failed, other = results(store)
    for about in (
        replace(other, build="m/tvm/1"),
        replace(other, name="c → b"),
        replace(other, replayer=AGAIN),  # nobody named it the exact one
    ):
        assert judged([failed, about], store)[0] == failed
    assert judged(results(store, None), store) == results(store, None)
    assert settled([failed, other], {}, store) == [failed, other]
    assert settled([failed, other], {"tvm/8-p-x86_64": replayer(EXACT)}, store) == [failed, other]


def test_the_same_version_is_never_excused(store: Store) -> None:
    failed, other = results(store)
    failed = replace(failed, replayer=AGAIN)
    assert judged([failed, other], store)[0] == failed


def test_no_answer_is_not_made_an_explanation(store: Store) -> None:
    failed, other = results(store)
    failed = replace(failed, verdict=Verdict.INCONCLUSIVE, got_sha256=None)
    assert judged([failed, other], store)[0] == failed


def test_content_that_is_gone_is_said_to_be(store: Store) -> None:
    failed, other = results(store)
    first, _ = judged([replace(failed, got_sha256="f" * 64), other], store)
    assert "what differs could not be read" in first.detail
