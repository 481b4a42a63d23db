"""May we upgrade? What changes for some models when one toolchain takes the place of another.

The data of ``harness compare``, and what follows from the data. Nothing here builds or runs:
:mod:`harness.upgrading` does. A difference that the ledger explains is one in printing only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import TypeAdapter

from harness.comparators.interface import Examined
from harness.drift import Drift
from harness.models import Strict
from harness.text import printable

SCHEMA_VERSION = 1
MOST_NAME = 300  # characters
CUT = "there is more than is shown"  # what comparators say of lines, and here there are none


class Change(StrEnum):
    """From best to worst."""

    SAME = "same"
    PRINTING = "printing-only"  # every difference is explained by the ledger
    TROUBLE = "no-answer"
    CHANGED = "changed"

    @property
    def severity(self) -> int:
        return list(Change).index(self)

    @property
    def exit_code(self) -> int:
        return {Change.CHANGED: 1, Change.TROUBLE: 2}.get(self, 0)


@dataclass(frozen=True)
class PartChange:
    """One function, node, constant … that is not the same. All text is safe to print.

    ``status``: added, removed, changed, renamed or moved. Sizes in bytes, None where it is absent.
    """

    __pydantic_config__ = Strict

    artifact: str
    kind: str
    name: str
    status: str
    left_size: int | None = None
    right_size: int | None = None
    note: str = ""


@dataclass(frozen=True)
class StageChange:
    """``parts``: of a changed stage, after the ledger's normalizers. ``more``: there may be more
    than are listed. ``unstable``: toolchains whose own repeats differ here.
    """

    __pydantic_config__ = Strict

    stage: str
    change: Change
    explained_by: tuple[str, ...] = ()
    unstable: tuple[str, ...] = ()
    parts: tuple[PartChange, ...] = ()
    more: bool = False
    reason: str = ""

    def counts(self) -> dict[tuple[str, str], int]:
        """(kind, status) → how many parts."""
        return dict(Counter((part.kind, part.status) for part in self.parts))


@dataclass(frozen=True)
class Size:
    """Bytes on both sides of ``what``: the library, or a section of it. None: it is absent."""

    __pydantic_config__ = Strict

    what: str
    left: int | None
    right: int | None


@dataclass(frozen=True)
class Times:
    """Seconds of each run of one library on the same input, as the runs themselves measured it."""

    __pydantic_config__ = Strict

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        ordered = sorted(self.seconds)
        middle = len(ordered) // 2
        return (ordered[middle] + ordered[~middle]) / 2

    @property
    def spread(self) -> tuple[float, float]:
        """The first and the third quartile, by the nearest rank."""
        ordered = sorted(self.seconds)
        return ordered[(len(ordered) - 1) // 4], ordered[-1 - (len(ordered) - 1) // 4]


@dataclass(frozen=True)
class Compared:
    """Outputs held against each other on ``cases`` seeded inputs.

    ``left`` and ``right``: toolchains, or ``ONNX reference``. ``drift`` is None where there is
    none to be had, for the reason given; with both, the drift is over fewer cases than there are.
    """

    __pydantic_config__ = Strict

    left: str
    right: str
    cases: int
    drift: Drift | None
    reason: str = ""


@dataclass(frozen=True)
class PassChange:
    """The first pass after which the two differ; see :class:`harness.passes.Parting`.

    ``name`` is empty where there is none. ``files``: what each side has after it, below the run's
    folder.
    """

    __pydantic_config__ = Strict

    name: str
    left: int = 0
    right: int = 0
    only_left: tuple[str, ...] = ()
    only_right: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    parts: tuple[PartChange, ...] = ()
    more: bool = False
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelChange:
    """All that is known of one model. ``problems``: why there is no answer to something."""

    __pydantic_config__ = Strict

    model: str
    change: Change
    stages: tuple[StageChange, ...] = ()
    sizes: tuple[Size, ...] = ()
    times: tuple[Times, ...] = ()  # left, right
    compared: tuple[Compared, ...] = ()
    passes: PassChange | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def first_changed(self) -> str | None:
        return next((s.stage for s in self.stages if s.change is Change.CHANGED), None)


@dataclass(frozen=True)
class Upgrade:
    """What ``harness compare --json`` prints. ``run``: the run that has the builds."""

    __pydantic_config__ = Strict

    schema_version: int
    harness_version: str
    run: str
    left: str
    right: str
    engine: str
    seed: int  # of the inputs
    change: Change
    models: tuple[ModelChange, ...]
    notes: tuple[str, ...] = field(default_factory=tuple)


def part_changes(artifact: str, examined: Examined) -> list[PartChange]:
    """What a comparator found in one artifact, without the lines."""
    return [
        PartChange(
            printable(artifact, MOST_NAME),
            part.kind,
            printable(part.name + (f" → {part.new_name}" if part.new_name else ""), MOST_NAME),
            part.status.value,
            part.left_size,
            part.right_size,
            printable(part.note.removesuffix(CUT).removesuffix("; "), MOST_NAME),
        )
        for part in examined.parts
    ]


_upgrade: TypeAdapter[Upgrade] = TypeAdapter(Upgrade)


def dump(upgrade: Upgrade) -> str:
    return _upgrade.dump_json(upgrade, indent=1).decode() + "\n"


def load(text: str) -> Upgrade:
    return _upgrade.validate_json(text, strict=True)


def worst(changes: Iterable[Change]) -> Change:
    """TROUBLE for none at all: nothing was looked at."""
    return max(changes, key=lambda change: change.severity, default=Change.TROUBLE)


def overall(
    stages: Iterable[StageChange], compared: Iterable[Compared], problems: Iterable[str]
) -> Change:
    """What all of it comes to, for one model.

    Other outputs are a change, whatever the stages say. The reference evaluator's own rounding is
    not: only the two toolchains are held against each other.
    """
    found = [worst(stage.change for stage in stages)]
    for pair in list(compared)[:1]:
        if pair.drift is None or not pair.drift.none:
            found.append(Change.CHANGED)
    if list(problems):
        found.append(Change.TROUBLE)
    return worst(found)
