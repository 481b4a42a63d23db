"""The ledger: strictly read, narrowly applied, and never a reason for two things to be equal."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.ledger import Explained, Explanation, Ledger, NotExplained, explain, load
from harness.models import ComparisonKind
from harness.normalizers import NORMALIZERS

TODAY = datetime.date(2026, 11, 22)
REAL = Path(__file__).parents[2] / "toolchains" / "explanations.toml"

ENTRY = """\
[[explanation]]
id = "names"
normalizer = "llvm-tbaa-names"
compiler = "tvm"
stages = ["llvm"]
kinds = ["repeat"]
class = "proven"
reason = "heap addresses"
evidence = "a test"
owner = "somebody"
expires = 2027-06-01
byte_budget = 1000
budget_fraction = 0.5
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "explanations.toml"
    path.write_text(text, encoding="utf-8")
    return path


def entry(folder: Path) -> Explanation:
    return load(written(folder, ENTRY), TODAY).entries[0]


def test_the_real_ledger_holds_what_it_should() -> None:
    ledger = load(REAL, TODAY)
    scopes = {
        (e.normalizer, e.compiler, stage, kind.value)
        for e in ledger.entries
        for stage in e.stages
        for kind in e.kinds
    }
    assert scopes == {
        ("llvm-tbaa-names", "tvm", stage, kind)
        for stage in ("llvm-unoptimized", "llvm")
        for kind in ("repeat", "rebuild", "version")
    } | {
        ("tvm-constant-spelling", "tvm", "graph", "version"),
        ("tvm-constant-spelling", "tvm", "tensor-ir", "version"),
        ("tvm-unit-axis", "tvm", "tensor-ir", "version"),
        ("llvm-alloca-count", "tvm", "llvm-unoptimized", "version"),
        ("llvm-evaluation-order", "tvm", "llvm-unoptimized", "rebuild"),
        ("llvm-evaluation-order", "tvm", "llvm-unoptimized", "version"),
    }
    assert ledger.expired(TODAY) == ()


WRONG = {
    "unknown key": ('owner = "somebody"', 'owner = "somebody"\nreviewer = "x"', "'reviewer'"),
    "missing key": ('owner = "somebody"\n', "", "'owner'"),
    "unknown normalizer": ("llvm-tbaa-names", "everything", "'normalizer'"),
    "empty text": ('"heap addresses"', '" "', "'reason'"),
    "text over two lines": ('"a test"', '"a\\ntest"', "'evidence'"),
    "terminal escapes": ('"a test"', '"a\\u001b[2J"', "'evidence'"),
    "id that is no name": ('"names"', '"Names!"', "'id'"),
    "number as text": ('"somebody"', "7", "'owner'"),
    "stage that the normalizer does not know": ('["llvm"]', '["object"]', "'stages'"),
    "every stage": ('["llvm"]', '["*"]', "'stages'"),
    "no stage": ('["llvm"]', "[]", "'stages'"),
    "stage twice": ('["llvm"]', '["llvm", "llvm"]', "'stages'"),
    "stage that is no text": ('["llvm"]', "[1]", "'stages'"),
    "stages that are no list": ('["llvm"]', '"llvm"', "'stages'"),
    "unknown kind": ('["repeat"]', '["always"]', "'kinds'"),
    "comparisons with other compilers": ('["repeat"]', '["vendor"]', "'kinds'"),
    "unknown class": ('"proven"', '"believed"', "'class'"),
    "date as text": ("2027-06-01", '"2027-06-01"', "'expires'"),
    "date with a time": ("2027-06-01", "2027-06-01T00:00:00Z", "'expires'"),
    "far away date": ("2027-06-01", "2028-06-01", "'expires'"),
    "no budget": ("= 1000", "= 0", "'byte_budget'"),
    "endless budget": ("= 1000", "= 10_000_000_000", "'byte_budget'"),
    "budget that is a truth value": ("= 1000", "= true", "'byte_budget'"),
    "more than the whole": ("= 0.5", "= 1.5", "'budget_fraction'"),
    "no number": ("= 0.5", "= nan", "'budget_fraction'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_is_one_line_with_file_entry_and_key(case: str, tmp_path: Path) -> None:
    old, new, key = WRONG[case]
    assert ENTRY.count(old) == 1
    path = written(tmp_path, ENTRY.replace(old, new))
    with pytest.raises(UsageError) as caught:
        load(path, TODAY)
    assert str(path) in caught.value.what
    assert "entry 1" in caught.value.what
    assert key in caught.value.what
    assert caught.value.hint
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text", ["x = 1\n", "[[explanation]\n", "explanation = 1\n", "explanation = [1]\n"]
)
def test_a_file_that_is_no_ledger_is_one_line(text: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load(path, TODAY)
    assert str(path) in caught.value.what
    assert "\n" not in str(caught.value)


def test_a_missing_or_unreadable_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "none.toml", TODAY)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not valid TOML"):
        load(tmp_path / "binary.toml", TODAY)


def test_two_entries_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'names'"):
        load(written(tmp_path, ENTRY + ENTRY), TODAY)


def test_an_empty_ledger_explains_nothing(tmp_path: Path) -> None:
    ledger = load(written(tmp_path, ""), TODAY)
    assert ledger.applicable("tvm", "llvm", ComparisonKind.REPEAT, TODAY) == ()


def test_an_entry_applies_in_its_scope_only(tmp_path: Path) -> None:
    ledger = Ledger((entry(tmp_path),))
    assert ledger.applicable("tvm", "llvm", ComparisonKind.REPEAT, TODAY) == ledger.entries
    assert ledger.applicable("iree", "llvm", ComparisonKind.REPEAT, TODAY) == ()
    assert ledger.applicable("tvm", "object", ComparisonKind.REPEAT, TODAY) == ()
    assert ledger.applicable("tvm", "llvm", ComparisonKind.VERSION, TODAY) == ()


def test_an_expired_entry_never_applies_and_is_named(tmp_path: Path) -> None:
    ledger = Ledger((entry(tmp_path),))
    last = ledger.entries[0].expires
    after = last + datetime.timedelta(days=1)
    assert ledger.applicable("tvm", "llvm", ComparisonKind.REPEAT, last) == ledger.entries
    assert ledger.expired(last) == ()
    assert ledger.applicable("tvm", "llvm", ComparisonKind.REPEAT, after) == ()
    assert ledger.expired(after) == ledger.entries


def test_an_expired_entry_can_still_be_read(tmp_path: Path) -> None:
    later = datetime.date(2030, 1, 1)
    assert load(written(tmp_path, ENTRY), later).expired(later)


def module(*addresses: str, comment: str = "") -> bytes:
    size = len(addresses)
    lines = [f'!{i} = !{{!"{address}", !{size}, i64 0}}' for i, address in enumerate(addresses)]
    return "\n".join([f"; {comment}", *lines, f'!{size} = !{{!"tvm-tbaa"}}', ""]).encode()


def test_what_the_normalizer_makes_equal_is_explained_by_name(tmp_path: Path) -> None:
    found = explain(module("0xaa0"), module("0xbb0"), (entry(tmp_path),))
    assert found == Explained(("names",), module("0x1"), 10)


def test_what_stays_different_is_not_explained(tmp_path: Path) -> None:
    found = explain(module("0xaa0"), module("0xbb0", comment="x"), (entry(tmp_path),))
    assert isinstance(found, NotExplained)
    assert "names" in found.reason


def test_no_entry_explains_nothing() -> None:
    assert isinstance(explain(b"a", b"b", ()), NotExplained)


def test_a_refusal_on_either_side_is_told(tmp_path: Path) -> None:
    rules = (entry(tmp_path),)
    for left, right, side in (
        (module("0xaa0"), b"\x00", "right"),
        (b"\x00", module("0xaa0"), "left"),
    ):
        found = explain(left, right, rules)
        assert isinstance(found, NotExplained)
        assert f"names: refused on the {side}" in found.reason


def test_one_side_alone_is_never_normalized(tmp_path: Path) -> None:
    """The left would become the right; but the right is over budget, so nothing is applied."""
    rule = replace(entry(tmp_path), byte_budget=5)
    left, right = module("0xaa0"), module("0xaa00")
    found = explain(left, right, (rule,))
    assert isinstance(found, NotExplained)
    assert "over budget on the right: 6 bytes replaced, 5 allowed" in found.reason


def test_both_budgets_hold(tmp_path: Path) -> None:
    left, right = module("0xaa0"), module("0xbb0")
    exact = replace(entry(tmp_path), byte_budget=5, budget_fraction=5.01 / len(left))
    assert isinstance(explain(left, right, (exact,)), Explained)
    for tight in (replace(exact, byte_budget=4), replace(exact, budget_fraction=4.9 / len(left))):
        assert isinstance(explain(left, right, (tight,)), NotExplained)


def test_only_entries_that_were_needed_are_named(tmp_path: Path) -> None:
    first = entry(tmp_path)
    again = replace(first, id="again")
    spelling = replace(first, id="spelling", normalizer="tvm-constant-spelling")
    found = explain(module("0xaa0"), module("0xbb0"), (spelling, first, again))
    assert isinstance(found, Explained)
    assert found.ids == ("names",)


def test_an_obstacle_in_one_entry_does_not_stop_the_next(tmp_path: Path) -> None:
    first = entry(tmp_path)
    refusing = replace(first, id="tight", byte_budget=1)
    found = explain(module("0xaa0"), module("0xbb0"), (refusing, first))
    assert isinstance(found, Explained)
    assert found.ids == ("names",)


def test_equal_inputs_need_no_explanation(tmp_path: Path) -> None:
    assert explain(b"\x00", b"\x00", (entry(tmp_path),)) == Explained((), b"\x00", 0)


def test_every_normalizer_is_known_by_its_own_id() -> None:
    assert all(name == normalizer.id for name, normalizer in NORMALIZERS.items())
