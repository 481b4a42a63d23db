"""Is the shipped file what independent builders make of the model? Bytes first, then why not.

A run compares the libraries that it builds itself. What ships was built elsewhere, so it is held
against them here, the most certain answer first:

1. ``identical``: some of the builds left exactly these bytes;
2. ``relinked``: another linker of the run makes exactly these bytes of the objects that the
   builders agree on. For the step from objects to library there is that linker's word only;
3. ``unloaded``: what is loaded into memory is the same; see :mod:`harness.signoff.loaded`. Only
   where the policy has ``[release] sections = true``;
4. ``none``: anything else, with the first parts that differ.

Whether the builders agree is the run's own verdict on the stage. Without that there is no match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from harness import replay
from harness.comparators.examine import examine
from harness.comparators.interface import Bounds, Part
from harness.engines.interface import Engine
from harness.models import BuildRecord, Limits, Outcome, Report, Toolchain
from harness.signoff.evidence import Match as Kind
from harness.signoff.loaded import only_unloaded
from harness.signoff.strict_elf import NotTheSameError
from harness.store import Store
from harness.text import printable
from harness.verdict import AGREE

LIBRARY = "library"  # the stage that ships
MAX_LINKS = 32  # times that something is linked for one question
SHOWN = 20  # differing parts that are named
MAX_LINE = 1000  # characters
BOUNDS = Bounds(parts=SHOWN, lines=0, seconds=10.0)

Folder = Callable[[], AbstractContextManager[Path]]


@dataclass(frozen=True)
class Match:
    """How the shipped file follows from what was built.

    ``against``: the toolchains whose library it is, or was compared with; for RELINKED the linkers
    that make it. ``library``: the digest of that library; for RELINKED of the one that most
    toolchains left; None where the builders do not agree. ``reason``: why it is not identical, one
    line, safe to print; empty if it is. ``sections``: what differs, a line each, safe to print.
    """

    kind: Kind
    against: tuple[str, ...]
    library: str | None
    reason: str
    sections: tuple[str, ...] = ()


@dataclass(frozen=True)
class Linking:
    """How libraries can be linked: recipes by compiler, and toolchains with a ``link`` tool.

    ``linkers``: those of the run's toolchains, and any replayer that has the tool. ``folder`` gives
    an empty folder for a while.
    """

    recipes: Mapping[str, tuple[replay.Recipe, ...]]
    linkers: tuple[replay.Replayer, ...]
    engine: Engine
    folder: Folder


def hold(
    artifact: str, report: Report, model: str, store: Store, linking: Linking, sections: bool
) -> Match:
    """How the file with the digest ``artifact``, in the store, follows from the builds of a model.

    ``sections``: whether what is never loaded may differ. Raises HarnessError where nothing can be
    said: a damaged store, an engine that does not run.
    """
    builds = [record for record in report.builds if record.model == model]
    made = _libraries(builds)
    if problem := _no_consensus(report, model, builds, LIBRARY):
        same = f"; these bytes came from {', '.join(made[artifact])}" if artifact in made else ""
        return Match(Kind.NONE, (), None, _line(f"{problem}{same}"))
    if artifact in made:
        return Match(Kind.IDENTICAL, made[artifact], artifact, "")
    most = max(made, key=lambda digest: len(made[digest]))
    linkers, why = _relinked(artifact, report, model, builds, store, linking)
    if linkers:
        reason = (
            f"linked by {', '.join(linkers)} of the objects that were built: nobody else vouches "
            "for that step"
        )
        return Match(Kind.RELINKED, linkers, most, _line(reason))
    for digest, by in made.items():
        try:
            lines = only_unloaded(store.verified(digest), store.verified(artifact))
        except NotTheSameError as error:
            why.append(str(error))
            continue
        if sections:
            reason = "what is loaded is the same; other parts of the file differ"
            return Match(Kind.UNLOADED, by, digest, reason, _shown(lines))
        reason = (
            "differs in what is never loaded, which the policy does not accept ([release] sections)"
        )
        reason = "; ".join(dict.fromkeys([reason, *why]))
        return Match(Kind.NONE, by, digest, _line(reason), _shown(lines))
    parts = _parts(store.verified(most), store.verified(artifact))
    first = f": {'; '.join(parts[:3])}" if parts else ""
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    reason = f"nobody built these bytes; {made[most][0]}'s library differs{first}{more}"
    return Match(
        Kind.NONE, made[most], most, _line("; ".join(dict.fromkeys([reason, *why]))), parts
    )


def _libraries(builds: Sequence[BuildRecord]) -> dict[str, tuple[str, ...]]:
    """The digest of each library → the toolchains that left it, both in the order of the builds."""
    made: dict[str, dict[str, None]] = {}
    for record in builds:
        for artifact in record.artifacts:
            if artifact.stage == LIBRARY:
                made.setdefault(artifact.sha256, {})[record.toolchain] = None
    return {digest: tuple(names) for digest, names in made.items()}


def _no_consensus(report: Report, model: str, builds: Sequence[BuildRecord], stage: str) -> str:
    """Why the builders do not agree on a stage; empty if they do."""
    if not builds:
        return "nothing was built"
    if not report.complete:
        return "the run is not complete"
    used = {record.toolchain for record in builds}
    for toolchain in report.toolchains:
        if toolchain.redteam and toolchain.name in used:
            return f"{toolchain.name} is compromised on purpose"
    for record in builds:
        if record.outcome is not Outcome.BUILT:
            return f"{record.id} ended with {record.outcome}"
    judged = [one for verdict in report.verdicts for one in verdict.stages
              if (verdict.model, one.stage) == (model, stage)]  # fmt: skip
    if len(judged) != 1:
        return f"the run has no verdict on {printable(stage, 80)}"
    if judged[0].verdict not in AGREE:
        return f"the builders do not agree on {stage}: {judged[0].verdict}"
    for record in builds:
        count = sum(artifact.stage == stage for artifact in record.artifacts)
        if not count or (count > 1 and stage == LIBRARY):
            return f"{record.id} left {count} files as {stage}"
    return ""


def _relinked(
    artifact: str,
    report: Report,
    model: str,
    builds: Sequence[BuildRecord],
    store: Store,
    linking: Linking,
) -> tuple[tuple[str, ...], list[str]]:
    """The linkers that make the file of what was built, and why others do not."""
    found: dict[str, None] = {}
    why: list[str] = []
    done: set[str] = set()
    for job, known in _jobs(report, model, builds, linking, why):
        name, key = job.replayer.toolchain.name, replay.key(job)
        if key in done or name in found:
            continue
        done.add(key)
        if known:
            continue
        if len(done) > MAX_LINKS:
            why.append(f"not linked more than {MAX_LINKS} times")
            break
        job.replayer.environment.confirm()
        with linking.folder() as scratch:
            made = replay.regenerate(job, linking.engine, store, scratch, Limits())
        if made.sha256 == artifact:
            found[name] = None
        elif made.sha256 is None:
            first = (made.detail.splitlines() or [""])[0]
            why.append(f"{name} cannot link it: {first}")
    return tuple(found), why


def _jobs(
    report: Report,
    model: str,
    builds: Sequence[BuildRecord],
    linking: Linking,
    why: list[str],
) -> Iterator[tuple[replay.Job, bool]]:
    """Each way to link what was built; and whether the run did that already."""
    toolchains: dict[str, Toolchain] = {one.name: one for one in report.toolchains}
    known = {
        (result.build, result.name, result.replayer)
        for result in report.replays
        if result.got_sha256
    }
    for record in builds:
        files = {f"{one.stage}/{one.name}": one.sha256 for one in record.artifacts}
        for recipe in linking.recipes.get(record.compiler, ()):
            if recipe.with_ != "linker" or recipe.stage != LIBRARY:
                continue
            above = dict.fromkeys(source.partition("/")[0] for source in recipe.sources)
            problems = [_no_consensus(report, model, builds, stage) for stage in above]
            if any(problems):
                why.append(next(filter(None, problems)))
                continue
            for linker in linking.linkers:
                if "link" not in linker.toolchain.tools or linker.toolchain.redteam:
                    continue
                job = replay.job_for(recipe, linker, toolchains[record.toolchain].target, files)
                if job is not None:
                    yield job, (record.id, recipe.name, linker.toolchain.name) in known


def _parts(left: Path, right: Path) -> tuple[str, ...]:
    """The first parts that differ: functions and sections come before headers and gaps."""
    found = examine(left, right, BOUNDS)
    notes = [_line(note) for note in found.notes]
    return _shown([*(_part(part) for part in found.parts), *notes])


def _part(part: Part) -> str:
    sizes = [f"{size:,}" for size in (part.left_size, part.right_size) if size is not None]
    length = f" ({' → '.join(dict.fromkeys(sizes))} bytes)" if sizes else ""
    return _line(f"{part.kind} {printable(part.name, 120)} {part.status}{length}")


def _shown(lines: Sequence[str]) -> tuple[str, ...]:
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return (*lines[:SHOWN], *more)


def _line(text: str) -> str:
    return printable(text, MAX_LINE)
