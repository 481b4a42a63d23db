"""Comparing with the real store and the real ledger: bytes decide, in every order of things."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import compare, ledger
from harness.compare import Comparer
from harness.errors import StoreError
from harness.ledger import Ledger
from harness.models import BuildRecord, Comparison, ComparisonKind, ComparisonResult, Verdict
from harness.store import Store
from tests.unit.samples import names, record, sha

TODAY = datetime.date(2026, 11, 23)
LEDGER = ledger.load(Path("toolchains/explanations.toml").absolute(), TODAY)
REPEAT, VERSION = ComparisonKind.REPEAT, ComparisonKind.VERSION
LEFT, RIGHT = names(2)
OLD = b'lv = R.add(x, metadata["relax.expr.Constant"][sha256:%s:float32:1x2])\n' % (b"a" * 64)
NEW = OLD.replace(b"relax.expr.Constant", b"ir.GenericConst")
SPELLING = "tvm-constant-reference-spelling"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def build(store: Store, name: str, **files: bytes) -> BuildRecord:
    """``graph__a=b"…"`` is the artifact ``a`` of the stage ``graph``."""
    artifacts = {path.replace("__", "/"): data for path, data in files.items()}
    for data in artifacts.values():
        store.add_bytes(data)
    return record(name, artifacts=artifacts)


def held(
    store: Store,
    left: BuildRecord,
    right: BuildRecord,
    *,
    kind: ComparisonKind = VERSION,
    stage: str = "graph",
    entries: Ledger = LEDGER,
    allowed: tuple[str, ...] | None = None,
    today: datetime.date = TODAY,
) -> ComparisonResult:
    comparer = Comparer(store, entries, allowed, today)
    return comparer.compare(Comparison(kind, "m", stage, left.id, right.id), left, right)


def test_same_bytes_are_identical(store: Store) -> None:
    both = [build(store, name, graph__a=b"1", graph__b=b"", object__o=b"x") for name in names(2)]
    found = held(store, *both)
    assert (found.verdict, found.artifacts, found.differences) == (Verdict.IDENTICAL, 2, ())


@pytest.mark.parametrize("kind", list(ComparisonKind))
def test_other_bytes_are_a_finding(store: Store, kind: ComparisonKind) -> None:
    found = held(store, build(store, LEFT, graph__a=b"1"), build(store, RIGHT, graph__a=b"2"),
                 kind=kind)  # fmt: skip
    expected = Verdict.NONDETERMINISTIC if kind is REPEAT else Verdict.UNEXPLAINED
    assert found.verdict is expected
    assert found.reason.startswith("a differs: ")
    (difference,) = found.differences
    assert (difference.left_sha256, difference.right_sha256) == (sha("1"), sha("2"))


@pytest.mark.parametrize("kind", [REPEAT, VERSION])
@pytest.mark.parametrize("data", [b"", b"1"])
def test_artifact_on_one_side_only_is_a_finding(
    store: Store, kind: ComparisonKind, data: bytes
) -> None:
    more = build(store, LEFT, graph__a=b"1", graph__b=data)
    less = build(store, RIGHT, graph__a=b"1")
    for left, right, words in ((more, less, "right"), (less, more, "left")):
        found = held(store, left, right, kind=kind)
        assert found.verdict.exit_code == 1
        assert found.reason == f"b is absent on the {words}"
        assert found.artifacts == 2
    none = build(store, RIGHT, object__o=b"1")
    assert held(store, more, none, kind=kind).verdict.exit_code == 1


def test_nothing_to_hold_against_nothing_is_no_answer(store: Store) -> None:
    both = [build(store, name, object__o=b"x") for name in names(2)]
    assert held(store, *both).verdict is Verdict.INCONCLUSIVE
    empty = [build(store, name, graph__a=b"", graph__b=b"") for name in names(2)]
    found = held(store, *empty)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason
    # Names alone are something: they differ here.
    other = build(store, RIGHT, graph__a=b"", graph__c=b"1")
    assert held(store, empty[0], other).verdict is Verdict.UNEXPLAINED


def test_one_spelling_is_explained_where_the_ledger_allows_it(store: Store) -> None:
    old, new = build(store, LEFT, graph__a=OLD), build(store, RIGHT, graph__a=NEW)
    found = held(store, old, new)
    assert found.verdict is Verdict.EXPLAINED
    (difference,) = found.differences
    assert difference.explained_by == (SPELLING,)
    assert difference.normalized_sha256
    assert difference.ignored_bytes > 0
    assert (difference.left_sha256, difference.right_sha256) == (sha(OLD), sha(NEW))


def test_scope_policy_and_date_each_take_the_explanation_away(store: Store) -> None:
    old, new = build(store, LEFT, graph__a=OLD), build(store, RIGHT, graph__a=NEW)
    assert held(store, old, new, allowed=(SPELLING,)).verdict is Verdict.EXPLAINED
    assert held(store, old, new, allowed=()).verdict is Verdict.UNEXPLAINED
    assert held(store, old, new, allowed=("tvm-tbaa-heap-addresses",)).verdict.exit_code == 1
    assert held(store, old, new, kind=REPEAT).verdict is Verdict.NONDETERMINISTIC
    assert held(store, old, new, entries=Ledger(())).verdict is Verdict.UNEXPLAINED
    late = max(entry.expires for entry in LEDGER.entries) + datetime.timedelta(days=1)
    assert held(store, old, new, today=late).verdict is Verdict.UNEXPLAINED
    stages = [build(store, name, object__a=data) for name, data in ((LEFT, OLD), (RIGHT, NEW))]
    assert held(store, *stages, stage="object").verdict is Verdict.UNEXPLAINED
    others = [replace(side, compiler="iree") for side in (old, new)]
    assert held(store, *others).verdict is Verdict.UNEXPLAINED


def test_explained_artifact_does_not_cover_the_one_beside_it(store: Store) -> None:
    old = build(store, LEFT, graph__a=OLD, graph__b=b"1")
    new = build(store, RIGHT, graph__a=NEW, graph__b=b"2")
    found = held(store, old, new)
    assert found.verdict is Verdict.UNEXPLAINED
    assert [bool(d.explained_by) for d in found.differences] == [True, False]
    assert found.reason.startswith("b differs")


def test_explained_spelling_does_not_cover_another_change(store: Store) -> None:
    old = build(store, LEFT, graph__a=OLD)
    new = build(store, RIGHT, graph__a=NEW.replace(b"R.add", b"R.sub"))
    assert held(store, old, new).verdict is Verdict.UNEXPLAINED


def test_damaged_artifact_is_an_error_and_no_verdict(store: Store) -> None:
    old, new = build(store, LEFT, graph__a=OLD), build(store, RIGHT, graph__a=NEW)
    path = store.objects / sha(NEW)[:2] / sha(NEW)[2:]
    path.chmod(0o644)
    path.write_bytes(OLD)  # would look alike
    with pytest.raises(StoreError):
        held(store, old, new)


def test_too_large_to_be_read_is_a_finding_and_is_not_read(store: Store) -> None:
    """4 GiB of a hostile toolchain's must not be taken into memory: here they do not even exist."""
    sides = [build(store, name, graph__a=data) for name, data in ((LEFT, b"1"), (RIGHT, b"2"))]
    big = [
        replace(side, artifacts=(replace(side.artifacts[0], size=2**32, sha256=digest * 64),))
        for side, digest in zip(sides, "ab", strict=True)
    ]
    found = held(store, *big)
    assert found.verdict is Verdict.UNEXPLAINED
    assert "too large" in found.reason
    canonical = Comparer(store, LEDGER, None, TODAY).canonical(big[0])
    assert canonical == {"graph/a": "a" * 64}


def test_canonical_form_is_what_replays_start_from(store: Store) -> None:
    comparer = Comparer(store, LEDGER, None, TODAY)
    left = comparer.canonical(build(store, LEFT, graph__a=OLD, object__o=OLD))
    right = comparer.canonical(build(store, RIGHT, graph__a=NEW, object__o=OLD))
    assert left == right
    assert left["object/o"] == sha(OLD)
    assert store.read(left["graph/a"])
    raw = Comparer(store, LEDGER, (), TODAY).canonical(build(store, LEFT, graph__a=OLD))
    assert raw == {"graph/a": sha(OLD)}


def test_remembering_has_a_limit_and_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = build(store, LEFT, graph__a=OLD), build(store, RIGHT, graph__a=NEW)
    comparison = Comparison(VERSION, "m", "graph", old.id, new.id)
    results = []
    for most in (2**30, 0):
        monkeypatch.setattr(compare, "MAX_REMEMBERED_BYTES", most)
        comparer = Comparer(store, LEDGER, None, TODAY)
        results += [comparer.compare(comparison, old, new) for _ in range(2)]
    assert results[0].verdict is Verdict.EXPLAINED
    assert results == [results[0]] * 4


FILES = st.dictionaries(
    st.sampled_from(["graph__a", "graph__b", "graph__c", "object__o"]),
    st.sampled_from([b"", b"1", b"2", OLD, NEW]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES, FILES)
def test_all_clear_only_where_both_sides_hold_the_same(
    store: Store, left: dict[str, bytes], right: dict[str, bytes]
) -> None:
    found = held(store, build(store, LEFT, **left), build(store, RIGHT, **right))
    sides = [
        {name: data.replace(b"relax.expr.Constant", b"ir.GenericConst")
         for name, data in side.items() if name.startswith("graph")}
        for side in (left, right)
    ]  # fmt: skip
    clear = found.verdict.exit_code == 0
    assert clear == (sides[0] == sides[1] and any(sides[0].values()))
    mirrored = held(store, build(store, RIGHT, **right), build(store, LEFT, **left))
    assert mirrored.verdict is found.verdict
