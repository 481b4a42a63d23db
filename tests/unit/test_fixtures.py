"""The ledger's own cases: those that ship hold, and the check notices what is missing."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import fixtures, ledger
from harness.cli import main
from harness.errors import UsageError

SHIPPED = Path(__file__).parents[2] / "toolchains" / "explanations.toml"
TODAY = datetime.date(2026, 11, 23)
ID = "tvm-alloca-count-type"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The ledger that ships and its cases, to be changed."""
    shutil.copytree(SHIPPED.with_suffix(""), tmp_path / "explanations")
    return Path(shutil.copy(SHIPPED, tmp_path / "explanations.toml"))


def problems(path: Path) -> dict[str, tuple[str, ...]]:
    found = fixtures.check(ledger.load(path, TODAY), path.with_suffix(""))
    return {checked.entry.id: checked.problems for checked in found if checked.problems}


def edit(path: Path, name: str, change: Callable[[str], str]) -> None:
    file = path.with_suffix("") / ID / name
    before = file.read_text()
    file.write_text(change(before))
    assert file.read_text() != before


def test_what_ships_holds() -> None:
    found = list(fixtures.check(ledger.load(SHIPPED, TODAY), SHIPPED.with_suffix("")))
    assert [checked.problems for checked in found] == [()] * len(found)
    assert all(checked.explained and checked.refused >= 4 for checked in found)


def test_a_rule_without_cases_fails(copy: Path) -> None:
    shutil.rmtree(copy.with_suffix("") / ID)
    (problem,) = problems(copy)[ID]
    assert problem.endswith("cases.toml")
    assert problem.startswith("there is no")


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("must-explain", "no case that it must not explain"),
        ("must-not-explain", "no case that it must explain"),
    ],
)
@pytest.mark.slow
def test_both_kinds_of_cases_are_needed(copy: Path, kept: str, said: str) -> None:
    def only(text: str) -> str:
        tables = text.split("\n[[")
        return "\n[[".join(t for t in tables if t.lstrip("[").startswith(f"{kept}]]"))

    edit(copy, "cases.toml", lambda text: "[[" + only(text).lstrip("["))
    assert said in problems(copy)[ID]


def test_a_rule_that_explains_too_much_is_told(copy: Path) -> None:
    """A change that the rule does explain, given as one that it must not."""
    edit(
        copy,
        "cases.toml",
        lambda text: (
            text
            + '\n[[must-not-explain]]\nname = "a spelling"\nleft = "tvm-alloca-count-type/old.ll"\n'
            'right = "tvm-alloca-count-type/new.ll"\n'
        ),
    )
    (problem,) = problems(copy)[ID]
    assert problem == "'a spelling' is EXPLAINED at llvm-unoptimized between versions"


def test_a_rule_that_explains_too_little_is_told(copy: Path) -> None:
    edit(copy, "new.ll", lambda text: text.replace("i64 214", "i64 215"))
    assert any("is not explained at llvm-unoptimized" in p for p in problems(copy)[ID])


def test_a_change_that_changes_nothing_is_told(copy: Path) -> None:
    edit(copy, "cases.toml", lambda text: text.replace('"i32 214"', '"no such text"', 1))
    assert any("'no such text' is there 0 times, not once" in p for p in problems(copy)[ID])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[[must-explain]]", "[[must-explains]]", "unknown key"),
        ('name = "', 'nam = "', "nam"),
        ("tvm-alloca-count-type/old.ll", "../../../etc/passwd", "is no file in"),
        ("tvm-alloca-count-type/old.ll", "/etc/passwd", "is no file in"),
        ("tvm-alloca-count-type/old.ll", "nowhere.ll", "is no file in"),
    ],
)
def test_cases_that_cannot_be_read(copy: Path, old: str, new: str, said: str) -> None:
    edit(copy, "cases.toml", lambda text: text.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        problems(copy)
    assert said in caught.value.what
    assert "\n" not in caught.value.what


@pytest.mark.slow
def test_the_command(copy: Path) -> None:
    command = ["explanations", "check", "--explanations"]
    good = CliRunner().invoke(main, [*command, str(copy)])
    assert good.exit_code == 0, good.output
    assert f"ok    {ID}: proven, must explain 1, must not explain 14" in good.output
    copy.write_text(copy.read_text().replace("expires = 2027-11-22", "expires = 2026-01-01", 1))
    shutil.rmtree(copy.with_suffix("") / ID)
    bad = CliRunner().invoke(main, [*command, str(copy)])
    assert bad.exit_code == 1
    assert f"FAIL  {ID}" in bad.output
    assert "expired on 2026-01-01" in bad.output
