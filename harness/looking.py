"""Looking into what differs in a run: artifacts, handed to the comparators. Decides nothing."""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import ledger
from harness.comparators.examine import examine
from harness.comparators.interface import Bounds, Examined, Part, Status
from harness.errors import StoreError, UsageError
from harness.ledger import Ledger
from harness.models import BuildRecord, Report, Verdict
from harness.normalizers.interface import MAX_BYTES, NotApplicable
from harness.plan import build_id, kind_of
from harness.store import Store
from harness.text import printable
from harness.variations import CONTROL

MOST_PAIRS = 60  # looked into for one report
SECONDS = 60.0  # for all of them together
FINDINGS = (Verdict.UNEXPLAINED, Verdict.NONDETERMINISTIC)


@dataclass(frozen=True)
class Looked:
    """One artifact of two builds. ``same``: by its bytes, or by those after ``rules``.

    ``sides``: the files that were looked into, where no rule changed them.
    """

    name: str  # stage/artifact
    same: bool
    examined: Examined
    rules: tuple[str, ...] = ()  # ids of the ledger's entries that both sides went through
    sides: tuple[Path, Path] | None = None


def details(report: Report, store: Store) -> dict[str, Examined]:
    """What looking into the findings of a run gives, by ``LEFT|RIGHT|STAGE|ARTIFACT``; bounded.

    Each pair of contents is looked into once. What the store has lost is left out.
    """
    deadline = time.monotonic() + SECONDS
    known: dict[tuple[str, str], Examined] = {}
    found: dict[str, Examined] = {}
    for result in report.comparisons:
        if result.verdict not in FINDINGS:
            continue
        side = result.comparison
        for difference in result.differences:
            pair = (difference.left_sha256, difference.right_sha256)
            if difference.explained_by or pair[0] is None or pair[1] is None:
                continue
            left = deadline - time.monotonic()
            key = (pair[0], pair[1])
            if key not in known and len(known) < MOST_PAIRS and left > 0:
                try:
                    paths = [store.verified(digest) for digest in key]
                    bounds = Bounds(parts=60, lines=40, seconds=min(15.0, left))
                    known[key] = examine(paths[0], paths[1], bounds)
                except (StoreError, UsageError):
                    continue
            if key in known:
                name = f"{side.left}|{side.right}|{side.stage}|{difference.name}"
                found[name] = known[key]
    return found


def artifacts(
    report: Report,
    store: Store,
    model: str,
    stage: str,
    sides: tuple[str, str],
    rules: Ledger | None,
    bounds: Bounds,
) -> Iterator[Looked]:
    """What looking into each artifact of one stage of two builds gives.

    ``sides`` name toolchains, or builds as TOOLCHAIN/VARIATION. With ``rules``, both sides go
    through the normalizers of that ledger first: what is left is the finding.
    """
    left, right = (_record(report, model, side) for side in sides)
    names = {artifact.name for record in (left, right) for artifact in record.artifacts
             if artifact.stage == stage}  # fmt: skip
    if not names:
        stages = ", ".join(dict.fromkeys((*left.stages, *right.stages)))
        raise UsageError(
            f"neither build has a stage {printable(stage, 60)!r}", f"Stages: {stages}."
        )
    for name in sorted(names):
        digests = [_digest(record, stage, name) for record in (left, right)]
        yield _look(store, (left, right), (stage, name), digests, rules, bounds)


def _look(
    store: Store,
    sides: tuple[BuildRecord, BuildRecord],
    place: tuple[str, str],
    digests: list[str | None],
    rules: Ledger | None,
    bounds: Bounds,
) -> Looked:
    name = "/".join(place)
    one, other = digests
    if one is None or other is None:
        status = Status.ADDED if one is None else Status.REMOVED
        only = sides[one is None].id
        part = Part("artifact", place[1], status, note=f"only in {only}")
        return Looked(name, False, Examined("data", (part,)))
    if one == other:
        return Looked(name, True, Examined("data", ()))
    paths = store.verified(one), store.verified(other)
    if rules is None or max(path.stat().st_size for path in paths) > MAX_BYTES:
        return Looked(name, False, examine(paths[0], paths[1], bounds), sides=paths)
    used, data = _normalized([path.read_bytes() for path in paths], sides, place[0], rules)
    if data[0] == data[1]:
        return Looked(name, True, Examined("data", ()), used)
    if not used:
        return Looked(name, False, examine(paths[0], paths[1], bounds), sides=paths)
    with tempfile.TemporaryDirectory() as folder:
        for number, side in enumerate(data):
            Path(folder, str(number)).write_bytes(side)
        return Looked(name, False, examine(Path(folder, "0"), Path(folder, "1"), bounds), used)


def _normalized(
    data: list[bytes], sides: tuple[BuildRecord, BuildRecord], stage: str, rules: Ledger
) -> tuple[tuple[str, ...], list[bytes]]:
    today = datetime.datetime.now(datetime.UTC).date()
    used = []
    for rule in rules.applicable(sides[0].compiler, stage, kind_of(*sides), today):
        try:
            data = [ledger.apply_entry(rule, side, "diff").data for side in data]
        except NotApplicable:
            continue
        used.append(rule.id)
    return tuple(used), data


def _record(report: Report, model: str, side: str) -> BuildRecord:
    known = {record.id: record for record in report.builds if record.model == model}
    for wanted in (f"{model}/{side}", build_id(model, side, CONTROL)):
        if wanted in known:
            return known[wanted]
    names = ", ".join(sorted(name.partition("/")[2] for name in known)[:8])
    raise UsageError(
        f"run {report.run} has no build {printable(side, 120)!r} of {printable(model, 60)!r}",
        f"It has: {names or 'no build of that model'}.",
    )


def _digest(record: BuildRecord, stage: str, name: str) -> str | None:
    for artifact in record.artifacts:
        if (artifact.stage, artifact.name) == (stage, name):
            return artifact.sha256
    return None
