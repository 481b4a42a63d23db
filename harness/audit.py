"""The story of a run, top to bottom: plan → build → compare → replay → judge.

Everything hostile happens in engines; everything that decides is pure and elsewhere. This file
only puts the steps in order, in parallel where they do not depend on each other.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from harness import __version__, account, exact, independence, libraries, numeric, plan
from harness import replay as replaying
from harness.accounting.interface import Accounted
from harness.bisect import find_cause
from harness.build import Installed, host_facts, run_build
from harness.compare import Comparer
from harness.components import host_base
from harness.derive import derive
from harness.engines.interface import Engine
from harness.engines.launch import interpreter
from harness.ledger import Derivation, Ledger
from harness.models import (
    Account,
    Bisection,
    BuildRecord,
    Comparison,
    ComparisonKind,
    ComparisonResult,
    Independence,
    Limits,
    Model,
    Outcome,
    Policy,
    ReplayResult,
    Report,
    Toolchain,
    Variation,
    Verdict,
)
from harness.profiles import base_of, gather, system_of
from harness.records import SCHEMA_VERSION
from harness.remembered import Memory, doubted
from harness.sbom import Unpacked, bill
from harness.store import Store, remove_tree
from harness.variations import CONTROL
from harness.verdict import judge_model, worst
from harness.workers import Workers

T = TypeVar("T")
Wanted = replaying.Job | None  # None: the build lacks what the replay starts from


@dataclass(frozen=True)
class Request:
    """Everything that one run is asked to do, resolved: nothing is looked up after this.

    ``installed`` by toolchain name; ``recipes`` by compiler; ``replayers`` are independent LLVMs;
    ``exact``: toolchain name → the one with its very LLVM. ``linkers`` by the name of the toolchain
    that links. ``cost``: model name → a rough weight,
    so that the longest builds start first.
    """

    run: str
    models: tuple[Model, ...]
    toolchains: tuple[Toolchain, ...]
    installed: Mapping[str, Installed]
    recipes: Mapping[str, tuple[replaying.Recipe, ...]]
    replayers: tuple[replaying.Replayer, ...]
    linkers: Mapping[str, replaying.Replayer]
    policy: Policy
    ledger: Ledger
    seed: int
    builds_per_toolchain: int
    jobs: int
    today: datetime.date
    bisect: bool = True
    keep: bool = False
    resume: bool = False
    cost: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    locales: tuple[str, ...] = ()  # that builds will find on this machine
    memory: Memory | None = None  # of replays
    books: account.Memory | None = None  # of accounting
    numeric: bool = False  # run the libraries, too
    account: bool = True  # hold each control build against its model
    without: frozenset[tuple[str, str]] = frozenset()  # (model, toolchain) that are not built
    exact: Mapping[str, replaying.Replayer] = field(default_factory=dict)


class Progress(Protocol):
    """Told what is going on, from the main thread only."""

    def planned(self, builds: Sequence[plan.Build]) -> None: ...
    def started(self, what: str, build: str) -> None: ...
    def finished(self, what: str, build: str, outcome: str, seconds: float) -> None: ...


def run(request: Request, engine: Engine, store: Store, progress: Progress) -> Report:
    """Do what was asked and write ``report.json``. Raises HarnessError where there is no answer.

    An interrupted run leaves its finished builds; run again with ``resume`` to go on.
    """
    started = datetime.datetime.now(datetime.UTC)
    began = time.monotonic()
    builds = plan.builds(
        request.models,
        request.toolchains,
        request.seed,
        request.builds_per_toolchain,
        request.locales,
        request.without,
    )
    builds = tuple(sorted(builds, key=lambda build: -request.cost.get(build.model.name, 0)))
    comparer = Comparer(store, request.ledger, request.policy.allowed_explanations, request.today)
    with store.open_run(request.run) as scratch:
        work = _Work(request, engine, store, scratch, comparer)
        progress.planned(builds)
        known = _resumed(work, builds)
        for record in known.values():
            progress.finished("build", record.id, "kept", record.wall_seconds)
        records, replays, accounts = _build_and_check(builds, known, work, progress)
        measured = _run_libraries(records, accounts, work, progress)
        comparisons = derive(
            _compare(records, work),
            replays,
            records,
            request.ledger,
            _derivations(request),
            {toolchain.name: toolchain.arch for toolchain in request.toolchains},
        )
        bisections = _bisect(builds, records, comparisons, work, progress)
        planned = {
            model.name: [build.id for build in builds if build.model.name == model.name]
            for model in request.models
        }
        shared = _independence(records, comparisons, replays, work)
        verdicts = tuple(
            judge_model(
                model, planned[model.name], records, comparisons, replays, request.policy,
                independence.counts(shared, model.name), measured.accounts,
            )
            for model in request.models
        )  # fmt: skip
        report = Report(
            schema_version=SCHEMA_VERSION,
            run=request.run,
            harness_version=__version__,
            started=started.isoformat(timespec="seconds"),
            wall_seconds=round(time.monotonic() - began, 3),
            seed=request.seed,
            complete=True,
            engine=engine.name,
            isolation=engine.isolation,
            host=host_facts(),
            policy=request.policy,
            models=request.models,
            toolchains=request.toolchains,
            builds=tuple(records),
            comparisons=tuple(comparisons),
            replays=tuple(replays),
            bisections=bisections,
            verdicts=verdicts,
            verdict=worst(verdict.verdict for verdict in verdicts),
            notes=(*request.notes, *_ledger_notes(request), *measured.notes),
            independence=shared,
            accounts=measured.accounts,
        )
        _save_bills(work, replays)
        store.save_report(report)
    return report


@dataclass(frozen=True)
class Books:
    """What accounting for a build found; ``remembered``: the day of an earlier run that did."""

    found: tuple[Accounted, ...]
    remembered: str | None = None
    wall_seconds: float = 0.0


@dataclass(frozen=True)
class _Work:
    """What every task of this run needs."""

    request: Request
    engine: Engine
    store: Store
    scratch: Path
    comparer: Comparer
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        folder = self.scratch / str(next(self.numbers))
        folder.mkdir()
        try:
            yield folder
        finally:
            if not self.request.keep:
                remove_tree(folder)

    def build(self, build: plan.Build) -> BuildRecord:
        installed = self.request.installed[build.toolchain.name]
        installed.environment.confirm()
        if installed.linker is not None:
            installed.linker.environment.confirm()
        with self.folder() as folder:
            record, log = run_build(build, installed, self.engine, self.store, folder)
        self.store.save_build(self.request.run, record, log, self.key(build))
        return record

    def account(self, job: account.Job) -> Books:
        """What the job finds. What it found before is enough if that was nothing."""
        memory = self.request.books
        before = memory.recall(job) if memory else None
        if before is not None and not doubted():
            return Books(*before)
        began = time.monotonic()
        with self.folder() as folder:
            found = account.account(job, self.store, folder)
        if memory:
            memory.keep(job, found, self.request.today)
        return Books(found, wall_seconds=time.monotonic() - began)

    def key(self, build: plan.Build) -> str:
        """A digest of all that decides what this build makes: another key, another build."""
        installed = self.request.installed[build.toolchain.name]
        linker = installed.linker.environment.sha256 if installed.linker else None
        model = (build.model.sha256, sorted(build.model.inputs.items()), build.model.external)
        toolchain = (build.toolchain.identity, installed.environment.sha256, linker)
        engine = (self.engine.name, self.engine.isolation, __version__)
        parts = repr((model, toolchain, build.variation, engine))
        return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()

    def regenerate(self, job: replaying.Job, expected: str | None) -> replaying.Regenerated:
        """What the job makes. What it made before is enough where that is what the build left."""
        job.replayer.environment.confirm()
        memory = self.request.memory
        before = memory.recall(job, self.store) if memory else None
        if before is not None and before.sha256 == expected and not doubted():
            return before
        with self.folder() as folder:
            made = replaying.regenerate(job, self.engine, self.store, folder, Limits())
        if memory and before is not None:
            memory.check(job, before, made)
        elif memory:
            memory.keep(job, made, self.store, self.request.today)
        return made


def _resumed(work: _Work, builds: Sequence[plan.Build]) -> dict[str, BuildRecord]:
    """Finished builds of the same run, if they are exactly what would be built now."""
    if not work.request.resume:
        return {}
    wanted = {build.id: work.key(build) for build in builds}
    return {
        record.id: record
        for record, key in work.store.load_builds(work.request.run)
        if record.outcome is Outcome.BUILT and wanted.get(record.id) == key
    }


def _build_and_check(
    builds: Sequence[plan.Build],
    known: Mapping[str, BuildRecord],
    work: _Work,
    progress: Progress,
) -> tuple[list[BuildRecord], list[ReplayResult], list[Account]]:
    """All builds, and as soon as each is there its replays and, of controls, the accounting. One
    pool for all.

    What starts from the same sources runs once.
    """
    records: dict[str, BuildRecord] = dict(known)
    shared: dict[tuple[str, str | None], Future[replaying.Regenerated]] = {}
    served: dict[tuple[str, str | None], str] = {}  # the same keys → the build that it ran for
    needed = _needed_replays(builds, work.request)
    wanted: list[tuple[replaying.Recipe, BuildRecord, replaying.Replayer, Wanted]] = []
    models = {model.name: model for model in work.request.models}
    accounting: dict[str, tuple[str, Future[Books]]] = {}  # key → served, result
    accountable: list[tuple[BuildRecord, str]] = []  # build, key

    with Workers(work.request.jobs) as pool:
        pending: dict[Future[Any], tuple[str, str]] = {}

        def submit(what: str, build: str, task: Callable[[], T]) -> Future[T]:
            # Replays at once, so that not the longest of them is left to the end.
            future = pool.submit(task, urgent=what != "build")
            pending[future] = (what, build)
            progress.started(what, build)
            return future

        def plan_checks(record: BuildRecord) -> None:
            if record.outcome is not Outcome.BUILT:
                return
            canonical = work.comparer.canonical(record)
            asked = account.job_for(record, models[record.model], canonical)
            if asked is not None and record.variation.name == CONTROL and work.request.account:
                accountable.append((record, asked.key))
                if asked.key not in accounting:
                    look = partial(work.account, asked)
                    accounting[asked.key] = record.id, submit("account", record.id, look)
            for recipe, replayer in _replays_of(record, work.request):
                if recipe.optional and recipe.name not in needed:
                    continue
                target = _target(record, work.request)
                ask(
                    recipe, record, replayer, replaying.job_for(recipe, replayer, target, canonical)
                )

        def ask(
            recipe: replaying.Recipe, record: BuildRecord, by: replaying.Replayer, job: Wanted
        ) -> None:
            wanted.append((recipe, record, by, job))
            expected = replaying.expected_by(recipe, record)
            if job is not None and (key := (replaying.key(job), expected)) not in shared:
                served[key] = record.id
                task = partial(work.regenerate, job, expected)
                shared[key] = submit(f"replay {recipe.name}", record.id, task)

        def finish() -> None:
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    what, build_id = pending.pop(future)
                    result = future.result()
                    if isinstance(result, BuildRecord):
                        records[result.id] = result
                        seconds = result.wall_seconds
                        progress.finished(what, build_id, result.outcome.value, seconds)
                        plan_checks(result)
                    else:
                        progress.finished(what, build_id, "done", result.wall_seconds)

        for build in builds:
            if build.id not in records:
                submit("build", build.id, partial(work.build, build))
        for record in known.values():
            plan_checks(record)
        finish()
        asked = {(r.name, record.id, by.toolchain.name) for r, record, by, _ in wanted}
        for recipe, record, _, job in tuple(wanted):
            expected = replaying.expected_by(recipe, record)
            if job is None or expected is None:
                continue
            before = shared[replaying.key(job), expected].result()
            again = exact.second(job, before, expected, work.request.exact.get(record.toolchain))
            if again is None:
                continue
            by = again.replayer
            if (question := (recipe.name, record.id, by.toolchain.name)) not in asked:
                asked.add(question)
                ask(recipe, record, by, again)
        finish()

    replays = []
    for recipe, record, replayer, job in wanted:
        key = (replaying.key(job), replaying.expected_by(recipe, record)) if job else None
        made = shared[key].result() if key else None
        result = replaying.result_for(recipe, record, replayer.toolchain.name, job, made)
        if key and served[key] != record.id:
            result = replace(result, shared_with=served[key])
        replays.append(result)
    replays = exact.settled(replays, work.request.exact, work.store)
    accounts: list[Account] = []
    for record, name in accountable:
        first, future = accounting[name]
        books = future.result()
        accounts += account.results(record, books.found, first, books.remembered)
    return [records[build.id] for build in builds if build.id in records], replays, accounts


def _run_libraries(
    records: Sequence[BuildRecord], accounts: Sequence[Account], work: _Work, progress: Progress
) -> numeric.Checked:
    """The accounts, and with ``numeric`` also what running the control builds' libraries says."""
    checked = numeric.Checked(tuple(accounts), ())
    controls = [record for record in records if record.variation.name == CONTROL]
    for model in work.request.models if work.request.numeric else ():
        progress.started("numbers", model.name)
        began = time.monotonic()
        checked = libraries.look(
            model, controls, checked, work.request.installed, work.store, work.engine, work.folder
        )
        progress.finished("numbers", model.name, "done", time.monotonic() - began)
    return checked


def _needed_replays(builds: Sequence[plan.Build], request: Request) -> set[str]:
    """Replays that the policy asks for, or an explanation that can apply to these builds."""
    versions = {(b.toolchain.compiler, b.toolchain.version, b.toolchain.name) for b in builds}
    kinds = {ComparisonKind.REPEAT} | {
        ComparisonKind.REBUILD if one[:2] == other[:2] else ComparisonKind.VERSION
        for one, other in itertools.combinations(versions, 2)
        if one[0] == other[0]
    }
    return set(request.policy.required_replays).union(
        *(rule.replays for rule in _derivations(request) if kinds & set(rule.kinds))
    )


def _replays_of(
    record: BuildRecord, request: Request
) -> Iterator[tuple[replaying.Recipe, replaying.Replayer]]:
    for recipe in request.recipes.get(record.compiler, ()):
        if recipe.with_ == "replayer":
            for replayer in request.replayers:
                yield recipe, replayer
        elif record.toolchain in request.linkers:
            yield recipe, request.linkers[record.toolchain]


def _target(record: BuildRecord, request: Request) -> Mapping[str, str]:
    return next(t.target for t in request.toolchains if t.name == record.toolchain)


def _compare(records: Sequence[BuildRecord], work: _Work) -> list[ComparisonResult]:
    built = {record.id: record for record in records if record.outcome is Outcome.BUILT}
    return [
        work.comparer.compare(comparison, built[comparison.left], built[comparison.right])
        for comparison in plan.comparisons(list(built.values()))
    ]


def _bisect(
    builds: Sequence[plan.Build],
    records: Sequence[BuildRecord],
    comparisons: Sequence[ComparisonResult],
    work: _Work,
    progress: Progress,
) -> tuple[Bisection, ...]:
    """For each toolchain that disagrees with itself: which variation does it, at which stage."""
    if not work.request.bisect:
        return ()
    by_id = {record.id: record for record in records}
    planned = {build.id: build for build in builds}
    found: dict[tuple[str, str], Bisection] = {}
    for result in comparisons:
        comparison = result.comparison
        if (
            comparison.kind is not ComparisonKind.REPEAT
            or result.verdict is not Verdict.NONDETERMINISTIC
        ):
            continue
        control = by_id[comparison.left]
        where = (control.model, control.toolchain)
        if where in found:  # an earlier stage of this toolchain, or another repeat of it
            continue
        build = planned[control.id]

        def differs(
            variation: Variation,
            build: plan.Build = build,
            control: BuildRecord = control,
            comparison: Comparison = comparison,
        ) -> bool:
            progress.started("bisect", f"{build.id} ({comparison.stage})")
            again = work.build(replace(build, variation=variation))
            progress.finished("bisect", f"{build.id} ({comparison.stage})", again.outcome.value, 0)
            if again.outcome is not Outcome.BUILT:
                return False
            held = replace(comparison, right=again.id)
            return work.comparer.compare(held, control, again).verdict is Verdict.NONDETERMINISTIC

        cause = find_cause(control.variation, by_id[comparison.right].variation, differs)
        found[where] = Bisection(
            control.model, control.toolchain, comparison.stage, cause.variations, cause.builds,
            cause.detail,
        )  # fmt: skip
    return tuple(found.values())


def _save_bills(work: _Work, replays: Sequence[ReplayResult]) -> None:
    """A bill of materials for each toolchain and replayer of the run."""
    request = work.request
    base = host_base(str(interpreter()))
    written = os.environ.get("SOURCE_DATE_EPOCH", "")
    epoch = int(written) if re.fullmatch(r"[0-9]{1,11}", written) else None
    used = {
        toolchain.name: (
            toolchain,
            request.installed[toolchain.name].environment,
            request.linkers.get(toolchain.name),
        )
        for toolchain in request.toolchains
    }
    for replayer in replayers_used(request, replays):
        used.setdefault(replayer.toolchain.name, (replayer.toolchain, replayer.environment, None))
    for name, (toolchain, environment, linker) in used.items():
        link = (linker.toolchain, linker.environment) if linker else None
        below = base_of(toolchain, environment, base)
        image = Unpacked(environment.image, system_of(environment)) if environment.image else None
        made = bill(toolchain, environment, below, linker=link, image=image, epoch=epoch)
        work.store.save_bill(request.run, name, made)


def _independence(
    records: Sequence[BuildRecord],
    comparisons: Sequence[ComparisonResult],
    replays: Sequence[ReplayResult],
    work: _Work,
) -> Independence:
    request = work.request
    replayers = replayers_used(request, replays)
    profiles = gather(
        request.toolchains, request.installed, replayers, records, replays, work.store,
        host_base(str(interpreter())),
    )  # fmt: skip
    return independence.assess(profiles, records, comparisons, replays)


def replayers_used(
    request: Request, replays: Sequence[ReplayResult]
) -> tuple[replaying.Replayer, ...]:
    """All that regenerate something, and those with an exact LLVM that were needed."""
    ran = {result.replayer for result in replays}
    needed = [each for each in request.exact.values() if each.toolchain.name in ran]
    return (*request.replayers, *needed, *request.linkers.values())


def _derivations(request: Request) -> list[Derivation]:
    allowed = request.policy.allowed_explanations
    rules = request.ledger.deriving(request.today)
    return [rule for rule in rules if allowed is None or rule.id in allowed]


def _ledger_notes(request: Request) -> list[str]:
    return [
        f"explanation {entry.id} expired on {entry.expires} and no longer applies"
        for entry in request.ledger.expired(request.today)
    ]
