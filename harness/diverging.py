"""The first pass after which two compilers differ: each builds once more, and dumps every pass."""

from __future__ import annotations

import datetime
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness import passes
from harness.build import Installed, run_build
from harness.comparators.examine import examine
from harness.comparators.interface import Bounds
from harness.compare import Comparer
from harness.engines.interface import Engine
from harness.ledger import Explained, Explanation, Ledger, apply_entry, explain
from harness.models import (
    BuildRecord,
    Comparison,
    ComparisonKind,
    Model,
    Outcome,
    Toolchain,
    Verdict,
)
from harness.normalizers.interface import MAX_BYTES, NotApplicable
from harness.plan import Build, kind_of
from harness.store import Store, remove_tree
from harness.text import printable
from harness.upgrade import PassChange, part_changes
from harness.variations import control

STAGE = "tensor-ir"  # whose explanations hold for a dump: it is the same kind of text
BOUNDS = Bounds(parts=400, lines=1, seconds=20.0)
MOST_AGAIN = 12

Say = Callable[[str], None]


@dataclass(frozen=True)
class Subject:
    """The two toolchains, A first, whose run is looked into. ``installed`` by their names."""

    run: str
    toolchains: tuple[Toolchain, ...]
    installed: Mapping[str, Installed]
    ledger: Ledger
    today: datetime.date


def first_diverging(
    subject: Subject,
    model: Model,
    records: tuple[BuildRecord, BuildRecord],
    engine: Engine,
    store: Store,
    say: Say,
) -> PassChange:
    """``records``: the control builds of the two toolchains. Raises HarnessError."""
    dumps = []
    notes: list[str] = []
    for toolchain, record in zip(subject.toolchains, records, strict=True):
        say(f"{model.name}: {toolchain.name} once more, with a dump after every pass")
        build = Build(model, toolchain, control())
        installed = subject.installed[toolchain.name]
        installed.environment.confirm()
        with _folder() as scratch:
            (scratch / "build").mkdir()
            folder = scratch / "passes"
            again, _ = run_build(build, installed, engine, store, scratch / "build", folder)
            if again.outcome is not Outcome.BUILT:
                raise passes.PassesError(
                    f"{toolchain.name} left no dump of its passes: {again.outcome}: "
                    + printable(again.detail, 300)
                )
            dumps.append(passes.read(folder))
        notes += _strayed(subject, store, record, again)
    rules = subject.ledger.applicable(records[0].compiler, STAGE, kind_of(*records), subject.today)

    @cache  # many passes change nothing
    def same(one: bytes, other: bytes) -> bool:
        fits = max(len(one), len(other)) <= MAX_BYTES
        return fits and isinstance(explain(one, other, rules), Explained)

    found = passes.parting(dumps[0], dumps[1], same)
    if found is None:
        return PassChange("", notes=tuple(notes))
    texts = _normalized([dumps[0][found.left].text, dumps[1][found.right].text], rules)
    files = _kept(store.run_folder(subject.run) / "passes" / model.name, texts)
    examined = examine(*files, BOUNDS)
    return PassChange(
        name=found.name,
        left=found.left,
        right=found.right,
        only_left=found.only_left,
        only_right=found.only_right,
        again=found.again[:MOST_AGAIN],
        parts=tuple(part_changes("module.py", examined)),
        more=examined.truncated,
        files=tuple(str(file.relative_to(store.root)) for file in files),
        notes=tuple(notes),
    )


def _normalized(texts: Sequence[bytes | None], rules: Sequence[Explanation]) -> list[bytes]:
    """By those rules that both sides can go through, so that only what remains is shown."""
    sides = [text or b"" for text in texts]
    for rule in rules:
        try:
            sides = [apply_entry(rule, side, "pass").data for side in sides]
        except NotApplicable:
            continue
    return sides


def _kept(folder: Path, texts: Sequence[bytes]) -> tuple[Path, Path]:
    """The two texts as files of the run, to be looked at."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = folder / "left.py", folder / "right.py"
    for file, text in zip(files, texts, strict=True):
        file.write_bytes(text)
    return files


def _strayed(subject: Subject, store: Store, record: BuildRecord, again: BuildRecord) -> list[str]:
    """Whether the build that dumped its passes made what the ordinary build made."""
    comparer = Comparer(store, subject.ledger, None, subject.today)
    for stage in dict.fromkeys((*record.stages, *again.stages)):
        comparison = Comparison(ComparisonKind.REPEAT, record.model, stage, record.id, again.id)
        verdict = comparer.compare(comparison, record, again).verdict
        if verdict not in (Verdict.IDENTICAL, Verdict.EXPLAINED):
            return [
                f"{record.toolchain}: the build that dumped its passes made another {stage}: "
                "what it dumped need not be what the ordinary build did"
            ]
    return []


@contextmanager
def _folder() -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix="harness-"))
    try:
        yield scratch
    finally:
        remove_tree(scratch)
