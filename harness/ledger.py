"""The ledger of accepted differences: which normalizer may explain what, where and until when.

``toolchains/explanations.toml`` holds one ``[[explanation]]`` table per entry. An entry allows one
normalizer in one scope. It never widens what the normalizer does; it can only narrow where it may
be used, how much it may replace, and for how long.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.models import ComparisonKind
from harness.normalizers import NORMALIZERS
from harness.normalizers.interface import MAX_BYTES, Normalized, NotApplicable
from harness.text import printable

# (entry, artifact, name of the side) → its canonical form; raises NotApplicable.
Apply = Callable[["Explanation", bytes, str], Normalized]

LONGEST = datetime.timedelta(days=366)  # how far ahead an entry may expire


class ExplanationClass(StrEnum):
    PROVEN = "proven"  # equal after normalizing implies equal in meaning; the normalizer proves it
    METADATA = "metadata"  # what differs reaches no code: time stamps, paths, names
    DECLARED = "declared"  # somebody answers for it, by name


@dataclass(frozen=True)
class Explanation:
    """One entry. ``byte_budget``: most bytes replaced per artifact; ``budget_fraction``: most of
    an artifact's size that they may be, above 0 and at most 1. Both hold.
    """

    id: str
    normalizer: str
    compiler: str
    stages: tuple[str, ...]
    kinds: tuple[ComparisonKind, ...]
    kind_class: ExplanationClass
    reason: str
    evidence: str
    owner: str
    expires: datetime.date  # the last day on which it applies
    byte_budget: int
    budget_fraction: float


@dataclass(frozen=True)
class Derivation:
    """An entry that lets later stages differ where an earlier one is proven equal.

    It applies where the stage ``follows`` agrees and all of ``replays`` came out bit for bit on
    both sides; :mod:`harness.derive` has the argument. ``artifacts``: exactly what may differ, as
    ``stage/artifact``: a stage also holds what no replay regenerates, such as packed weights.
    """

    id: str
    compiler: str
    follows: str
    artifacts: tuple[str, ...]
    replays: tuple[str, ...]
    kinds: tuple[ComparisonKind, ...]
    reason: str
    evidence: str
    owner: str
    expires: datetime.date


@dataclass(frozen=True)
class Explained:
    """Both sides meet in ``data``. ``ids``: the entries that changed anything, in ledger order."""

    ids: tuple[str, ...]
    data: bytes
    ignored_bytes: int  # of the left and the right together


@dataclass(frozen=True)
class NotExplained:
    """``reason``: one line; which normalizers refused or went over budget, or that none applies."""

    reason: str


@dataclass(frozen=True)
class Ledger:
    """All entries, in the order of the file, which is the order in which they are applied."""

    entries: tuple[Explanation, ...]
    derivations: tuple[Derivation, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        return frozenset({e.id for e in self.entries} | {d.id for d in self.derivations})

    def deriving(self, today: datetime.date) -> tuple[Derivation, ...]:
        """The derivations that have not expired."""
        return tuple(entry for entry in self.derivations if today <= entry.expires)

    def applicable(
        self, compiler: str, stage: str, kind: ComparisonKind, today: datetime.date
    ) -> tuple[Explanation, ...]:
        """The entries for one comparison, in ledger order. An expired entry never applies."""
        return tuple(
            entry
            for entry in self.entries
            if entry.compiler == compiler
            and stage in entry.stages
            and kind in entry.kinds
            and today <= entry.expires
        )

    def expired(self, today: datetime.date) -> tuple[Explanation | Derivation, ...]:
        """The entries that no longer apply; reports name them."""
        entries: tuple[Explanation | Derivation, ...] = (*self.entries, *self.derivations)
        return tuple(entry for entry in entries if entry.expires < today)


def explain(
    left: bytes,
    right: bytes,
    explanations: tuple[Explanation, ...],
    *,
    apply: Apply | None = None,
) -> Explained | NotExplained:
    """Whether the given entries, applied in order to both sides, make them equal.

    An entry whose normalizer refuses either side, or whose budget either side exceeds, is left out
    for both. Equal inputs are explained by nothing: ``Explained((), left, 0)``.

    ``apply`` stands in for :func:`apply_entry`, for a caller that remembers what it normalized.
    """
    one_side = apply or apply_entry
    if not explanations and left != right:
        return NotExplained("no explanation applies to this compiler, stage and comparison")
    ids: list[str] = []
    obstacles: list[str] = []
    ignored = 0
    for entry in explanations:
        if left == right:
            break
        try:
            pair = (one_side(entry, left, "left"), one_side(entry, right, "right"))
        except NotApplicable as refusal:
            obstacles.append(f"{entry.id}: {refusal.reason}")
            continue
        if (pair[0].data, pair[1].data) != (left, right):
            ids.append(entry.id)
            ignored += sum(side.ignored_bytes for side in pair)
            left, right = pair[0].data, pair[1].data
    if left == right:
        return Explained(tuple(ids), left, ignored)
    if obstacles:
        return NotExplained("; ".join(obstacles))
    tried = ", ".join(entry.id for entry in explanations)
    return NotExplained(f"the two sides still differ after {tried}")


def apply_entry(entry: Explanation, data: bytes, side: str) -> Normalized:
    """Raises NotApplicable where the normalizer refuses or the entry's budget is exceeded."""
    try:
        result = NORMALIZERS[entry.normalizer].normalize(data)
    except NotApplicable as refusal:
        raise NotApplicable(f"refused on the {side}: {refusal.reason}") from refusal
    budget = min(entry.byte_budget, int(entry.budget_fraction * len(data)))
    if result.ignored_bytes > budget:
        raise NotApplicable(
            f"over budget on the {side}: {result.ignored_bytes} bytes replaced, {budget} allowed"
        )
    return result


# Reading the file -------------------------------------------------------------------------------

KEYS = {
    "id", "normalizer", "compiler", "stages", "kinds", "class", "reason", "evidence", "owner",
    "expires", "byte_budget", "budget_fraction",
}  # fmt: skip
DERIVATION_KEYS = frozenset(
    {"id", "compiler", "follows", "artifacts", "replays", "kinds", "reason", "evidence", "owner"}
    | {"expires"}
)
IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def load(path: Path, today: datetime.date) -> Ledger:
    """Reads and validates the ledger. Raises UsageError naming file, entry and key.

    ``today`` bounds how far ahead an entry may expire: one that never does is never looked at
    again.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", "Restore it from the repository"
        ) from error
    except (ValueError, RecursionError) as error:
        detail = printable(str(error), 300)
        raise UsageError(f"{path}: not valid TOML: {detail}", "Correct the file") from error

    if unknown := sorted(document.keys() - {"explanation", "derivation"}):
        raise UsageError(
            f"{path}: unknown key {printable(unknown[0], 80)!r}",
            "Entries are [[explanation]] and [[derivation]] tables",
        )
    tables = _tables(path, document, "explanation")
    entries = tuple(
        Reader(path, position, table).entry(today) for position, table in enumerate(tables, 1)
    )
    derivations = tuple(
        Reader(path, position, table, DERIVATION_KEYS).derivation(today)
        for position, table in enumerate(_tables(path, document, "derivation"), 1)
    )
    names = [*(entry.id for entry in entries), *(entry.id for entry in derivations)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"{path}: two entries have the id {printable(name, 80)!r}", "Rename one of them"
            )
    return Ledger(entries, derivations)


def _tables(path: Path, document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    tables = document.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: {key!r} is no list of tables", f"Write [[{key}]]")
    return tables


@dataclass(frozen=True)
class Reader:
    """One table of the file, the ``position``-th of its kind, counted from 1."""

    path: Path
    position: int
    table: dict[str, Any]
    keys: frozenset[str] = frozenset(KEYS)

    def error(self, key: str, problem: str, hint: str) -> UsageError:
        name = self.table.get("id")
        named = name if isinstance(name, str) and IDENTIFIER.fullmatch(name) else None
        label = "no id" if named is None else repr(printable(named, 80))
        said = f"key {printable(key, 80)!r} {printable(problem, 200)}"
        return UsageError(f"{self.path}: entry {self.position} ({label}): {said}", hint)

    def check_keys(self) -> None:
        for key in self.table:
            if key not in self.keys:
                raise self.error(key, "is unknown", f"Known keys: {', '.join(sorted(self.keys))}")
        for key in sorted(self.keys):
            if key not in self.table:
                raise self.error(key, "is missing", "Every entry needs every key")

    def derivation(self, today: datetime.date) -> Derivation:
        self.check_keys()
        kinds = [kind.value for kind in ComparisonKind if kind is not ComparisonKind.VENDOR]
        return Derivation(
            id=self.identifier("id"),
            compiler=self.identifier("compiler"),
            follows=self.identifier("follows"),
            artifacts=self.lines("artifacts"),
            replays=self.lines("replays"),
            kinds=tuple(ComparisonKind(kind) for kind in self.choices("kinds", kinds)),
            reason=self.line("reason"),
            evidence=self.line("evidence"),
            owner=self.line("owner"),
            expires=self.date("expires", today),
        )

    def lines(self, key: str) -> tuple[str, ...]:
        values = self.table[key]
        if not isinstance(values, list) or not values:
            raise self.error(key, "is not a list with something in it", "Name at least one")
        if not all(isinstance(value, str) and value.isprintable() for value in values):
            raise self.error(key, "holds something that is not a name", "Write names in quotes")
        return tuple(values)

    def entry(self, today: datetime.date) -> Explanation:
        self.check_keys()
        normalizer = self.choice("normalizer", NORMALIZERS)
        understood = NORMALIZERS[normalizer].applies_to
        kinds = [kind.value for kind in ComparisonKind if kind is not ComparisonKind.VENDOR]
        return Explanation(
            id=self.identifier("id"),
            normalizer=normalizer,
            compiler=self.identifier("compiler"),
            stages=self.choices("stages", understood),
            kinds=tuple(ComparisonKind(kind) for kind in self.choices("kinds", kinds)),
            kind_class=ExplanationClass(self.choice("class", [c.value for c in ExplanationClass])),
            reason=self.line("reason"),
            evidence=self.line("evidence"),
            owner=self.line("owner"),
            expires=self.date("expires", today),
            byte_budget=self.budget("byte_budget"),
            budget_fraction=self.fraction("budget_fraction"),
        )

    def line(self, key: str) -> str:
        value = self.table[key]
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.error(key, "is not one line of text", "Write one non-empty line")
        return value

    def identifier(self, key: str) -> str:
        value = self.line(key)
        if not IDENTIFIER.fullmatch(value):
            raise self.error(key, "is not a name", "Use lower-case words joined by hyphens")
        return value

    def choice(self, key: str, allowed: Collection[str]) -> str:
        value = self.line(key)
        if value not in allowed:
            raise self.error(key, f"is {value!r}", f"Use one of: {', '.join(sorted(allowed))}")
        return value

    def choices(self, key: str, allowed: Collection[str]) -> tuple[str, ...]:
        values = self.table[key]
        hint = f"Use some of: {', '.join(sorted(allowed))}"
        if not isinstance(values, list) or not values:
            raise self.error(key, "is not a list with something in it", hint)
        for value in values:
            if not isinstance(value, str) or value not in allowed:
                raise self.error(key, f"holds {value!r}", hint)
            if values.count(value) > 1:
                raise self.error(key, f"holds {value!r} twice", hint)
        return tuple(values)

    def date(self, key: str, today: datetime.date) -> datetime.date:
        value = self.table[key]
        if type(value) is not datetime.date:
            raise self.error(key, "is not a date", "Write it bare: expires = 2027-11-22")
        if value > today + LONGEST:
            raise self.error(key, f"is {value}, more than a year ahead", "Expire it sooner")
        return value

    def budget(self, key: str) -> int:
        value = self.table[key]
        if type(value) is not int or not 0 < value <= MAX_BYTES:
            raise self.error(key, "is not a number of bytes", f"Write 1 to {MAX_BYTES}")
        return value

    def fraction(self, key: str) -> float:
        value = self.table[key]
        if type(value) not in (int, float) or not 0 < value <= 1:
            raise self.error(key, "is not a fraction", "Write a number above 0 and at most 1")
        return float(value)
