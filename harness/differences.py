"""What `harness diff` shows: where two builds of a run differ at one stage, bounded."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from harness import ledger
from harness.comparators.text import differing_part
from harness.errors import UsageError
from harness.models import BuildRecord, Report
from harness.normalizers.interface import NotApplicable
from harness.plan import build_id, kind_of
from harness.resolve import HERE
from harness.store import Store
from harness.text import printable
from harness.variations import CONTROL


def difference(
    report: Report,
    store: Store,
    model: str,
    stage: str,
    sides: tuple[str, str],
    normalized: bool,
    max_lines: int,
) -> Iterator[str]:
    """Lines to print, safe for a terminal. Lines that begin with ``=`` report equality."""
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
        heading = f"{stage}/{name}"
        if digests[0] == digests[1]:
            yield f"= {heading}: the same {digests[0]}"
            continue
        if digests[0] is None or digests[1] is None:
            yield f"! {heading}: only in {(right if digests[0] is None else left).id}"
            continue
        data = [store.read(digest) for digest in (digests[0], digests[1])]
        if normalized:
            data = _normalize(data, left, right, stage)
            if data[0] == data[1]:
                yield f"= {heading}: the same after normalizing"
                continue
        yield f"--- {left.id} {heading} {digests[0]}"
        yield f"+++ {right.id} {heading} {digests[1]}"
        yield from differing_part(data[0], data[1], max_lines=max_lines).lines


def _normalize(data: list[bytes], left: BuildRecord, right: BuildRecord, stage: str) -> list[bytes]:
    today = datetime.datetime.now(datetime.UTC).date()
    entries = ledger.load(HERE / "toolchains" / "explanations.toml", today)
    for rule in entries.applicable(left.compiler, stage, kind_of(left, right), today):
        try:
            data = [ledger.apply_entry(rule, side, "diff").data for side in data]
        except NotApplicable:
            continue
    return data


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
