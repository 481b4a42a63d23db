"""Differences that a rule explains, and how many bytes it set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness.comparators.interface import Examined
from harness.models import ArtifactDifference, ComparisonResult, Report
from harness.reports.findings import short
from harness.reports.page import limits
from harness.reports.page.comparisons import DetailKey, detail_key
from harness.reports.page.markup import Safe, digest, fold, row, section, table, tag
from harness.reports.page.parts import examined_parts
from harness.reports.page.room import Room, capped


def explained_section(report: Report, details: Mapping[DetailKey, Examined]) -> Safe:
    """Each difference that a rule explains once, whatever the number of comparisons that met it."""
    groups: dict[tuple[str, ...], list[tuple[ComparisonResult, ArtifactDifference]]] = {}
    totals: Counter[str] = Counter()
    for result in report.comparisons:
        for found in result.differences:
            if found.explained_by:
                side = result.comparison
                sides = sorted((found.left_sha256 or "", found.right_sha256 or ""))
                key = (side.model, side.stage, found.name, *sides)
                groups.setdefault(key, []).append((result, found))
                totals["; ".join(found.explained_by)] += found.ignored_bytes
    title = "Explained, and bytes set aside"
    if not groups:
        return section("explained", title, tag("p", "No rule was needed; nothing was set aside."))
    sums = [row(ids, f"{totals[ids]:,}") for ids in sorted(totals)]
    shown, missing = capped(
        list(groups.values()), limits.MAX_ROWS, Room(), _explained, "differences"
    )
    head = ["stage", "artifact", "one side", "other side", "both, normalized", "by", "set aside"]
    return section(
        "explained",
        title,
        tag("p", "Bytes that the rules replaced, on both sides together, in all comparisons."),
        table(["explanation", "bytes set aside"], sums, "bytes set aside"),
        fold(
            [f"{len(groups):,} different pairs of artifacts"],
            table([*head, "comparisons"], shown, "explained differences"),
            missing,
        ),
        *_looked_into(groups.values(), details),
    )


def _looked_into(
    groups: Iterable[Sequence[tuple[ComparisonResult, ArtifactDifference]]],
    details: Mapping[DetailKey, Examined],
) -> Iterator[Safe]:
    """What is behind an explained difference, where that was looked into."""
    found = [
        next(((r, d) for r, d in group if detail_key(r, d) in details), None) for group in groups
    ]

    def show(item: tuple[ComparisonResult, ArtifactDifference]) -> Safe:
        result, difference = item
        side = result.comparison
        left, right = short(side.left), short(side.right)
        return fold(
            [
                f"{side.model} · {side.stage} ",
                tag("code", difference.name),
                f": {left} and {right}",
            ],
            examined_parts(details[detail_key(result, difference)], left, right, opened=False),
        )

    shown, missing = capped([f for f in found if f], limits.MAX_ROWS, Room(), show, "differences")
    yield from shown
    yield missing


def _explained(group: Sequence[tuple[ComparisonResult, ArtifactDifference]]) -> Safe:
    result, found = group[0]
    return row(
        f"{result.comparison.model} · {result.comparison.stage}",
        tag("code", found.name),
        digest(found.left_sha256),
        digest(found.right_sha256),
        digest(found.normalized_sha256),
        ", ".join(found.explained_by),
        f"{found.ignored_bytes:,} bytes",
        str(len(group)),
    )
