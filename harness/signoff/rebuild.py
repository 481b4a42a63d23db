"""From a bundle alone: build everything that was signed again, and say whether it still comes out.

1. Statements that count are read; those that tell of the same build make one.
2. The files that define its toolchain are laid out, and the toolchain that they make must have the
   identity that was signed; its environment, made from the lock, the digest that was signed.
3. The build runs in the surroundings that were signed, in a fresh sandbox.
4. Each artifact is held against what was signed. Where bytes differ, the ledger of *this* checkout
   may explain it, in the ordinary way; for that the bundle must hold the bytes that were signed.

What cannot be done here is no answer for that build, and so none for the whole.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

from harness.build import run_build
from harness.compare import Comparer
from harness.errors import HarnessError, UsageError
from harness.ledger import ExplanationClass, Ledger
from harness.models import (
    Artifact,
    BuildRecord,
    Comparison,
    ComparisonKind,
    Outcome,
    Verdict,
)
from harness.signoff.bundle import Bundle
from harness.signoff.interface import ReleasePolicy, Trust
from harness.signoff.provided import Engines, Provider, Ready, RefusedError, Say
from harness.signoff.signed_builds import SignedBuild, signed_builds
from harness.store import Store
from harness.text import printable
from harness.verdict import AGREE, worst
from harness.workers import Workers


@dataclass(frozen=True)
class StageAnswer:
    """INCONCLUSIVE where bytes differ that the bundle does not hold, so that nothing can explain
    them. ``reason``: one line, safe to print.
    """

    stage: str
    verdict: Verdict
    explained_by: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Answer:
    """What came of one signed build.

    ``file``: the statement. ``refused``: why it must not be built; ``unknown``: why it could not
    be. ``not_applied``: which surroundings this machine could not give.
    """

    file: str
    signer: str
    build: str
    toolchain: str
    stages: tuple[StageAnswer, ...] = ()
    refused: str = ""
    unknown: str = ""
    not_applied: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        if self.refused:
            return Verdict.UNEXPLAINED
        if self.unknown:
            return Verdict.INCONCLUSIVE
        return worst(stage.verdict for stage in self.stages)


@dataclass(frozen=True)
class Answers:
    """One for each statement about a build that counts. ``notes``: what counts for nothing."""

    answers: tuple[Answer, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        return worst(answer.verdict for answer in self.answers)


@dataclass(frozen=True)
class Asked:
    """``engine``: a name, or AUTO. ``today``: in UTC. ``run``: what to call this in the store."""

    engine: str
    policy: ReleasePolicy
    ledger: Ledger
    today: datetime.date
    jobs: int
    run: str


Begun = Future[BuildRecord] | HarnessError | RefusedError


def rebuild(
    bundle: Bundle, trust: Trust, asked: Asked, engines: Engines, store: Store, say: Say
) -> Answers:
    """Build everything again that ``bundle`` tells of. Raises HarnessError if it tells of nothing
    that counts, or cannot be read.
    """
    found = signed_builds(bundle, trust, asked.today)
    if not found.builds and not found.unreadable:
        raise UsageError(
            f"{bundle.root}: no build in it is signed with a key that counts"
            + (f": {found.notes[0]}" if found.notes else ""),
            "Name the bundle of a release, and the keys of its builders.",
        )
    groups: dict[object, list[SignedBuild]] = {}
    for each in found.builds:
        groups.setdefault(each.content, []).append(each)
    with store.open_run(asked.run) as scratch, Workers(asked.jobs) as workers:
        weak = asked.policy.run.allow_isolation_none
        provider = Provider(bundle, asked.engine, engines, weak, store, scratch, say)
        work = _Work(provider, asked)
        pending = [(group, work.start(group[0], workers)) for group in groups.values()]
        answers = [answer for group, begun in pending for answer in work.answers(group, begun)]
    answers += [
        Answer(signed.file, signed.signer.name, "", "", unknown=f"it cannot be read: {why}")
        for signed, why in found.unreadable
    ]
    return Answers(tuple(sorted(answers, key=lambda each: (each.build, each.file))), found.notes)


class _Work:
    def __init__(self, provider: Provider, asked: Asked) -> None:
        self.provider, self.asked = provider, asked
        self.bundle, self.store = provider.bundle, provider.store
        declared = asked.policy.release.declared
        entries = tuple(
            entry
            for entry in asked.ledger.entries
            if entry.kind_class is not ExplanationClass.DECLARED or entry.id in declared
        )
        allowed = asked.policy.run.allowed_explanations
        self.comparer = Comparer(self.store, Ledger(entries), allowed, asked.today)

    def start(self, wanted: SignedBuild, workers: Workers) -> Begun:
        try:
            ready = self.provider.ready(wanted)
        except (HarnessError, RefusedError) as problem:
            return problem
        return workers.submit(partial(self.build, ready))

    def answers(self, group: Sequence[SignedBuild], begun: Begun) -> Iterator[Answer]:
        record: BuildRecord | None = None
        refused = unknown = ""
        try:
            if isinstance(begun, Exception):
                raise begun
            record = begun.result()
        except RefusedError as reason:
            refused = printable(str(reason), 500)
        except HarnessError as problem:
            unknown = printable(problem.what, 500)
        for each in group:
            told = each.told
            answer = Answer(
                each.signed.file, each.signed.signer.name, f"{told.run}/{told.build}",
                told.toolchain, refused=refused, unknown=unknown,
            )  # fmt: skip
            if record is not None and record.outcome is not Outcome.BUILT:
                last = (record.detail.splitlines() or [""])[-1]
                answer = replace(answer, unknown=f"here it ended with {record.outcome}: {last}")
            elif record is not None:
                stages = tuple(self.held(each, record))
                answer = replace(answer, stages=stages, not_applied=tuple(record.not_applied))
            yield answer

    def build(self, ready: Ready) -> BuildRecord:
        self.provider.say(f"building {ready.build.toolchain.name}, {ready.build.variation.name}")
        with self.provider.folder() as folder:
            record, log = run_build(ready.build, ready.installed, ready.engine, self.store, folder)
        record = replace(record, id=f"{next(self.provider.numbers)}/{record.id}")
        self.store.save_build(self.asked.run, record, log, "")
        return record

    # what came out

    def held(self, wanted: SignedBuild, record: BuildRecord) -> Iterator[StageAnswer]:
        signed: dict[str, dict[str, str]] = {}
        for path, digest in wanted.told.artifacts.items():
            stage, _, name = path.partition("/")
            signed.setdefault(stage, {})[name] = digest
        made: dict[str, dict[str, str]] = {}
        for artifact in record.artifacts:
            made.setdefault(artifact.stage, {})[artifact.name] = artifact.sha256
        for stage in dict.fromkeys((*record.stages, *signed)):
            yield self.stage(stage, signed.get(stage, {}), made.get(stage, {}), record)

    def stage(
        self, stage: str, signed: Mapping[str, str], made: Mapping[str, str], record: BuildRecord
    ) -> StageAnswer:
        shown = printable(stage, 80)
        if signed == made:
            return StageAnswer(shown, Verdict.IDENTICAL)
        for name in sorted(signed.keys() ^ made.keys()):
            how = "was signed and did not come out" if name in signed else "came out unsigned"
            reason = f"{printable(name, 200)} {how}"
            return StageAnswer(shown, Verdict.UNEXPLAINED, reason=reason)
        theirs = []
        for name, digest in sorted(signed.items()):
            size = self.size_of(digest, made[name])
            if size is None:
                return self.without_bytes(stage, name, digest, made[name], record)
            theirs.append(Artifact(stage, name, size, digest))
        other = replace(record, id=f"signed/{record.id}", artifacts=tuple(theirs))
        comparison = Comparison(ComparisonKind.REPEAT, record.model, stage, other.id, record.id)
        found = self.comparer.compare(comparison, other, record)
        by = dict.fromkeys(e for each in found.differences for e in each.explained_by)
        if found.verdict in AGREE:
            return StageAnswer(shown, found.verdict, tuple(by))
        reason = printable(found.reason, 500)
        return StageAnswer(shown, Verdict.UNEXPLAINED, tuple(by), reason)

    def without_bytes(
        self, stage: str, name: str, signed: str, made: str, record: BuildRecord
    ) -> StageAnswer:
        """Of two digests that differ, where only one has its bytes."""
        reason = f"{printable(name, 200)}: {made[:12]}… came out, {signed[:12]}… was signed"
        if self.comparer.rules(record.compiler, stage, ComparisonKind.REPEAT):
            reason += "; the ledger might explain it, but its bytes are not in the bundle"
            return StageAnswer(printable(stage, 80), Verdict.INCONCLUSIVE, reason=reason)
        return StageAnswer(printable(stage, 80), Verdict.UNEXPLAINED, reason=reason)

    def size_of(self, digest: str, made: str) -> int | None:
        """Of what was signed, in bytes, once it is in the store; None where nobody has it."""
        if digest == made:
            return self.store.verified(digest).stat().st_size
        with self.provider.folder() as folder:
            if not self.bundle.copy_material(digest, folder / "artifact"):
                return None
            return self.store.add(folder / "artifact")[1]
