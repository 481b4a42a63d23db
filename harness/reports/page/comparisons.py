"""Two builds held against each other at one stage: which artifacts are not the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from harness.comparators.interface import Examined
from harness.models import ArtifactDifference, ComparisonResult, Report
from harness.reports.findings import short
from harness.reports.page import limits
from harness.reports.page.badges import badge
from harness.reports.page.markup import (
    Safe,
    command_line,
    counted,
    definitions,
    digest,
    fold,
    prose,
    tag,
)
from harness.reports.page.parts import examined_parts
from harness.reports.page.room import Room, capped

DetailKey = str  # "LEFT_BUILD|RIGHT_BUILD|STAGE|ARTIFACT"


def detail_key(result: ComparisonResult, difference: ArtifactDifference) -> DetailKey:
    side = result.comparison
    return f"{side.left}|{side.right}|{side.stage}|{difference.name}"


def evidence(
    report: Report,
    results: Sequence[ComparisonResult],
    details: Mapping[DetailKey, Examined],
    room: Room,
    opened: bool,
) -> Iterator[Safe]:
    bad = [r for r in results if r.verdict.exit_code != 0]
    # A pair that was looked into says more than one that was not.
    bad.sort(key=lambda r: not any(detail_key(r, d) in details for d in r.differences))
    first = bad[0] if bad and opened else None
    inner = Room(max(room.left // 2, 0))
    shown, missing = capped(
        bad,
        limits.MAX_COMPARISONS,
        inner,
        lambda r: _comparison(report, r, details, r is first),
        "comparisons",
    )
    yield from shown
    yield missing


def _comparison(
    report: Report,
    result: ComparisonResult,
    details: Mapping[DetailKey, Examined],
    opened: bool,
) -> Safe:
    side = result.comparison
    differing = len(result.differences)
    told = {"", *(d.reason for d in result.differences)}
    count = f" {differing} of {counted(result.artifacts, 'artifact')} not the same"
    room = Room(limits.MAX_PAIR)
    shown, missing = capped(
        result.differences,
        limits.MAX_DIFFERENCES,
        room,
        lambda d: _difference(result, d, details.get(detail_key(result, d)), opened),
        "artifacts",
    )
    names = (tag("code", short(side.left)), " and ", tag("code", short(side.right)))
    return fold(
        [f"{side.kind.value}: ", *names, " ", badge(result.verdict), tag("small", count)],
        tag("p", prose(result.reason)) if result.reason not in told else Safe(""),
        *shown,
        missing,
        tag("p", "See it: ", command_line(diff_words(report, result))),
        open_=opened,
        class_="pair",
    )


def _difference(
    result: ComparisonResult,
    difference: ArtifactDifference,
    examined: Examined | None,
    opened: bool,
) -> Safe:
    side = result.comparison
    facts: list[tuple[str, str]] = [
        (short(side.left), digest(difference.left_sha256)),
        (short(side.right), digest(difference.right_sha256)),
    ]
    if difference.normalized_sha256:
        facts.append(("both, normalized", digest(difference.normalized_sha256)))
    if difference.explained_by:
        ids = ", ".join(difference.explained_by)
        facts.append(("explained by", f"{ids}; {difference.ignored_bytes:,} bytes set aside"))
    facts.append(("reason", prose(difference.reason or "no reason was recorded")))
    return tag(
        "div",
        tag("h5", difference.name),
        definitions(facts),
        examined_parts(examined, short(side.left), short(side.right), opened),
        class_="artifact",
    )


def diff_words(report: Report, result: ComparisonResult) -> list[str]:
    side = result.comparison
    sides = [short(side.left), short(side.right)]
    return ["harness", "diff", report.run, side.model, side.stage, *sides]
