"""The work of ``harness compare``: from a finished run with two toolchains to what changes.

Each stage's verdict is the run's own. Added to it: which functions changed, the size of the
libraries, how they run, and on demand the first pass after which the two compilers part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import __version__, looking
from harness.comparators.elf_file import ElfFile
from harness.comparators.interface import Bounds, NotThisFormatError
from harness.comparators.tensor import Blob
from harness.diverging import Subject, first_diverging
from harness.engines.interface import Engine
from harness.errors import HarnessError
from harness.models import BuildRecord, ComparisonResult, Model, Outcome, Report, Verdict
from harness.plan import build_id
from harness.running import Sides, run_both
from harness.store import Store
from harness.text import printable
from harness.upgrade import (
    SCHEMA_VERSION,
    Change,
    ModelChange,
    PartChange,
    Size,
    StageChange,
    Upgrade,
    overall,
    part_changes,
    worst,
)
from harness.variations import CONTROL

LIBRARY = "library"  # the stage that holds what ships
BOUNDS = Bounds(parts=400, lines=1, seconds=20.0)

Say = Callable[[str], None]
_CHANGES = {
    Verdict.IDENTICAL: Change.SAME,
    Verdict.EXPLAINED: Change.PRINTING,
    Verdict.INCONCLUSIVE: Change.TROUBLE,
}


@dataclass(frozen=True)
class Wanted:
    """What is asked for besides the stages. ``cases``: how many inputs the libraries are run on,
    0 for none; ``seed`` draws them.
    """

    cases: int = 8
    seed: int = 0
    passes: bool = False


@dataclass(frozen=True)
class _Work:
    subject: Subject
    report: Report
    engine: Engine
    store: Store
    wanted: Wanted
    say: Say

    @property
    def names(self) -> tuple[str, str]:
        left, right = self.subject.toolchains
        return left.name, right.name

    def controls(self, model: str) -> tuple[BuildRecord | None, BuildRecord | None]:
        by_id = {record.id: record for record in self.report.builds}
        left, right = (by_id.get(build_id(model, name, CONTROL)) for name in self.names)
        return left, right


def survey(
    subject: Subject, report: Report, engine: Engine, store: Store, wanted: Wanted, say: Say
) -> Upgrade:
    """What changes from the first to the second of the two toolchains of a finished run."""
    work = _Work(subject, report, engine, store, wanted, say)
    models = tuple(_model(work, model) for model in report.models)
    left, right = work.names
    return Upgrade(
        schema_version=SCHEMA_VERSION,
        harness_version=__version__,
        run=report.run,
        left=left,
        right=right,
        engine=engine.name,
        seed=wanted.seed,
        change=worst(model.change for model in models),
        models=models,
        notes=report.notes,
    )


def _model(work: _Work, model: Model) -> ModelChange:
    left, right = work.controls(model.name)
    records = [record for record in work.report.builds if record.model == model.name]
    problems = [
        printable(
            f"{r.toolchain}, {r.variation.name} build: {r.outcome}\n{r.detail}", 2000, newlines=True
        ).strip()
        for r in records
        if r.outcome is not Outcome.BUILT
    ]
    if left is None or right is None or problems:
        return ModelChange(model.name, Change.TROUBLE, problems=tuple(problems) or ("not built",))
    stages = tuple(_stage(work, left, right, stage) for stage in _stages(left, right))
    problems += _unfinished(work, model.name, stages)
    sizes, notes = _sizes(work, left, right)
    ran = run_both(
        Sides(
            tuple(work.subject.installed[name].environment for name in work.names),
            tuple(_library(work.store, record) for record in (left, right)),
            work.names,
            left.compiler,
        ),
        model, work.engine, work.store, work.wanted.cases, work.wanted.seed, work.say,
    )  # fmt: skip
    problems += ran.problems
    found = None
    if work.wanted.passes:
        try:
            found = first_diverging(
                work.subject, model, (left, right), work.engine, work.store, work.say
            )
        except HarnessError as error:
            problems.append(f"passes: {error.what}")
    return ModelChange(
        model=model.name,
        change=overall(stages, ran.compared, problems),
        stages=stages,
        sizes=sizes,
        times=ran.times,
        compared=ran.compared,
        passes=found,
        problems=tuple(problems),
        notes=(*notes, *ran.notes),
    )


def _stages(left: BuildRecord, right: BuildRecord) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*left.stages, *right.stages)))


def _stage(work: _Work, left: BuildRecord, right: BuildRecord, stage: str) -> StageChange:
    results = [r for r in work.report.comparisons if r.comparison.stage == stage]
    unstable = tuple(
        dict.fromkeys(
            r.comparison.left.partition("/")[2].removesuffix(f"/{CONTROL}")
            for r in results
            if r.comparison.model == left.model and r.verdict is Verdict.NONDETERMINISTIC
        )
    )
    result = next(
        (r for r in results if (r.comparison.left, r.comparison.right) == (left.id, right.id)), None
    )
    if result is None:
        reason = "the two were not compared here"
        return StageChange(stage, Change.TROUBLE, unstable=unstable, reason=reason)
    change = _CHANGES.get(result.verdict, Change.CHANGED)
    ids = {name for difference in result.differences for name in difference.explained_by}
    parts: tuple[PartChange, ...] = ()
    more = False
    if change is Change.CHANGED:
        parts, more = _parts(work, result)
    reason = printable(result.reason, 600)
    return StageChange(stage, change, tuple(sorted(ids)), unstable, parts, more, reason)


def _parts(work: _Work, result: ComparisonResult) -> tuple[tuple[PartChange, ...], bool]:
    side = result.comparison
    explained = {d.name for d in result.differences if d.explained_by}
    found: list[PartChange] = []
    more = False
    for looked in looking.artifacts(
        work.report, work.store, side.model, side.stage, work.names, work.subject.ledger, BOUNDS
    ):
        name = looked.name.partition("/")[2]
        if not looked.same and name not in explained:
            found += part_changes(name, looked.examined)
            more |= looked.examined.truncated
    return tuple(found[: BOUNDS.parts]), more or len(found) > BOUNDS.parts


def _unfinished(work: _Work, model: str, stages: tuple[StageChange, ...]) -> list[str]:
    """What else the run itself found: a comparison alone must not clear a model."""
    verdict = next(v for v in work.report.verdicts if v.model == model)
    shown = f"harness show {work.report.run}"
    failed = {
        (replay.toolchain, replay.name)
        for replay in work.report.replays
        if replay.model == model and replay.verdict.exit_code != 0
    }
    found = [f"{name} did not come out for {who}: {shown}" for who, name in sorted(failed)]
    found += [
        f"{stage.stage}: {', '.join(stage.unstable)} differs from itself: {shown}"
        for stage in stages
        if stage.unstable
    ]
    fine = worst(stage.change for stage in stages).exit_code == 0
    if fine and not found and verdict.verdict.exit_code != 0:
        found.append(f"the run says {verdict.verdict}: {shown}")
    return [printable(line, 600) for line in found]


def _library(store: Store, record: BuildRecord) -> Path | None:
    """The one library of a build; None where there is none, or more than one."""
    found = [a for a in record.artifacts if a.stage == LIBRARY]
    return store.verified(found[0].sha256) if len(found) == 1 else None


def _sizes(
    work: _Work, left: BuildRecord, right: BuildRecord
) -> tuple[tuple[Size, ...], list[str]]:
    sections: list[dict[str, int]] = []
    totals: list[int] = []
    for record in (left, right):
        path = _library(work.store, record)
        if path is None:
            return (), ["sizes: not every build has one library"]
        totals.append(path.stat().st_size)
        try:
            with Blob(path) as blob:
                elf = ElfFile(blob)
                sections.append({s.key: s.size for s in elf.sections[1:] if s.size})
        except NotThisFormatError as error:
            sections.append({})
            return (Size(LIBRARY, *totals),) if len(totals) == 2 else (), [f"sizes: {error}"]
    names = dict.fromkeys(itertools.chain(*sections))
    rows = (Size(name, sections[0].get(name), sections[1].get(name)) for name in names)
    return (Size(LIBRARY, totals[0], totals[1]), *rows), []
