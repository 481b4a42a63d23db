"""Cases that each entry of the ledger must explain, and others that it must not.

Beside ``explanations.toml``, a folder ``explanations/ID`` holds ``cases.toml``. A case is a left
and a right file, named below ``explanations``; ``change`` replaces one text in the right one, which
must be there exactly once::

    [[must-explain]]
    name = "two processes"
    left = "ID/one.ll"
    right = "ID/other.ll"

    [[must-not-explain]]
    name = "an instruction"
    left = "ID/one.ll"
    right = "ID/other.ll"
    change = ["load float", "load volatile float"]

A case that must be explained has to need the entry. One that must not is tried with *all* entries
of the ledger that can meet it, in every stage and kind of comparison that the entry names: a rule
may be harmless alone and not beside another. Budgets play no part here: it is the rules that must
refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter

from harness.errors import UsageError
from harness.ledger import Explained, Explanation, Ledger, explain
from harness.normalizers import NORMALIZERS
from harness.normalizers.interface import Normalized, NotApplicable
from harness.tomlfile import read_toml

MAX_BYTES = 2**22


@dataclass(frozen=True)
class Case:
    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    left: str
    right: str
    change: tuple[str, str] | None = None


@dataclass(frozen=True)
class _File:
    __pydantic_config__ = ConfigDict(extra="forbid", validate_by_alias=True)

    explained: tuple[Case, ...] = Field((), alias="must-explain")
    refused: tuple[Case, ...] = Field((), alias="must-not-explain")


_ADAPTER = TypeAdapter(_File)


@dataclass(frozen=True)
class Checked:
    """What one entry's cases said. ``problems``: one line each; empty if all is well."""

    entry: Explanation
    explained: int
    refused: int
    problems: tuple[str, ...] = field(default=())


def check(ledger: Ledger, folder: Path) -> Iterator[Checked]:
    """Run the cases of every entry. ``folder`` holds a folder for each id.

    Raises UsageError for a file of cases that cannot be read.
    """
    for entry in ledger.entries:
        place = folder / entry.id
        if not (place / "cases.toml").is_file():
            yield Checked(entry, 0, 0, (f"there is no {place / 'cases.toml'}",))
            continue
        cases = read_toml(place / "cases.toml", _ADAPTER, UsageError)
        problems = []
        if not cases.explained:
            problems.append("no case that it must explain")
        if not cases.refused:
            problems.append("no case that it must not explain")
        problems += [
            problem
            for wanted, group in ((True, cases.explained), (False, cases.refused))
            for case in group
            for problem in _wrong(entry, ledger, case, folder, wanted)
        ]
        yield Checked(entry, len(cases.explained), len(cases.refused), tuple(problems))


def _wrong(
    entry: Explanation, ledger: Ledger, case: Case, folder: Path, wanted: bool
) -> Iterator[str]:
    left, right = (_read(folder, name, entry, case) for name in (case.left, case.right))
    if case.change is not None:
        old, new = (text.encode() for text in case.change)
        if right.count(old) != 1:
            yield f"{case.name!r}: {case.change[0]!r} is there {right.count(old)} times, not once"
            return
        right = right.replace(old, new)
    if left == right:
        yield f"{case.name!r}: both sides are the same"
        return
    for stage in entry.stages:
        for kind in entry.kinds:
            rules = tuple(
                other
                for other in ledger.entries
                if other.compiler == entry.compiler and stage in other.stages
                if kind in other.kinds
            )
            found = explain(left, right, rules, apply=_without_budget)
            needed = isinstance(found, Explained) and entry.id in found.ids
            if wanted and not needed:
                reason = "others do" if isinstance(found, Explained) else found.reason
                yield f"{case.name!r} is not explained at {stage} between {kind}s: {reason}"
            if not wanted and isinstance(found, Explained):
                yield f"{case.name!r} is EXPLAINED at {stage} between {kind}s"


def _without_budget(entry: Explanation, data: bytes, side: str) -> Normalized:
    try:
        return NORMALIZERS[entry.normalizer].normalize(data)
    except NotApplicable as refusal:
        raise NotApplicable(f"refused on the {side}: {refusal.reason}") from refusal


def _read(folder: Path, name: str, entry: Explanation, case: Case) -> bytes:
    parts = PurePosixPath(name).parts
    path = folder / name
    if not parts or name.startswith("/") or ".." in parts or not path.is_file():
        raise UsageError(
            f"{folder / entry.id / 'cases.toml'}: {case.name!r}: {name!r} is no file in {folder}",
            "Add it, or correct the name.",
        )
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: larger than {MAX_BYTES} bytes", "Make the case smaller.")
    return data
