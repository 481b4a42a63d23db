"""The constants of each model: type, size, digest, numbers, and which toolchains disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.constants import Key, Summary, by_interest, files_of
from harness.models import Artifact, BuildRecord, Report
from harness.reports.page import limits
from harness.reports.page.markup import (
    Safe,
    counted,
    digest,
    fold,
    joined,
    row,
    section,
    size,
    table,
    tag,
)
from harness.reports.page.room import Room, capped

Versions = Mapping[Artifact, Sequence[BuildRecord]]


def constants_section(report: Report, summaries: Mapping[Key, Summary]) -> Safe:
    models = files_of(report)
    if not models:
        words = "No build of this run left a stage named constants."
        return section("constants", "Constants", tag("p", words))
    room = Room()
    shown, missing = capped(
        list(models.items()), limits.MAX_ROWS, room, lambda m: _model(*m, summaries), "models"
    )
    intro = (
        "The raw bytes of each tensor that the compiled model refers to. Digests and sizes were "
        "taken by the harness; type and shape are what the toolchain's index says, and are shown "
        "only where they fit the size. The numbers are read with that type."
    )
    title = "Constants"
    return section("constants", title, tag("p", intro, class_="quiet"), *shown, missing)


def _model(
    model: str,
    names: Mapping[str, Mapping[Artifact, list[BuildRecord]]],
    summaries: Mapping[Key, Summary],
) -> Safe:
    builds = {
        build.id: build.toolchain
        for versions in names.values() for own in versions.values() for build in own
    }  # fmt: skip
    of_toolchain = Counter(builds.values())
    ordered = by_interest(names, len(builds))
    differing = sum(1 for _, same in ordered if not same)
    others: dict[str, set[str]] = {}
    for name, versions in names.items():
        for artifact in versions:
            others.setdefault(artifact.sha256, set()).add(name)
    rows = [
        _row(model, name, artifact, versions, of_toolchain, others, same, summaries)
        for name, same in ordered[: limits.MAX_CONSTANTS]
        for versions in [names[name]]
        for artifact in list(versions)[:8]
    ]
    total = sum(max(artifact.size for artifact in names[name]) for name, _ in ordered)
    heading = [tag("strong", model), f" {counted(len(ordered), 'constant')}, {size(total)}, "]
    if differing:
        heading.append(tag("span", f"{differing} not the same in all builds", class_="alarm"))
    else:
        heading.append(f"the same in all {counted(len(builds), 'build')}")
    left = len(ordered) - limits.MAX_CONSTANTS
    words = f"… and {left:,} more, smaller: see the artifacts below"
    head = ["constant", "claimed type", "size", "SHA-256", "numbers", "left by"]
    return fold(
        heading,
        table(head, rows, f"{model}: constants", "stack"),
        tag("p", words, class_="cut") if left > 0 else Safe(""),
        open_=bool(differing),
        data_bad=bool(differing),
    )


def _row(
    model: str,
    name: str,
    artifact: Artifact,
    versions: Versions,
    of_toolchain: Mapping[str, int],
    others: Mapping[str, set[str]],
    same: bool,
    summaries: Mapping[Key, Summary],
) -> Safe:
    who = joined(f"all {counted(sum(of_toolchain.values()), 'build')}")
    if not same:
        own = Counter(build.toolchain for build in versions[artifact])
        words = [
            toolchain if count == of_toolchain[toolchain]
            else f"{toolchain} ({count} of {of_toolchain[toolchain]} builds)"
            for toolchain, count in list(own.items())[:40]
        ]  # fmt: skip
        elsewhere = sorted(others[artifact.sha256] - {name})
        where = f"; the same bytes are also {', '.join(elsewhere[:3])}" if elsewhere else ""
        mark = f"version {list(versions).index(artifact) + 1} of {len(versions)}: "
        alone = mark if len(versions) > 1 else "not in all builds: "
        who = tag("div", tag("strong", alone, class_="alarm"), ", ".join(words), where)
    summary = summaries.get((model, name, artifact.sha256))
    return row(
        name,
        summary.claim if summary and summary.claim else tag("span", "not known", class_="quiet"),
        size(artifact.size),
        digest(artifact.sha256),
        _numbers(summary),
        who,
        bad=not same,
    )


def _numbers(summary: Summary | None) -> Safe:
    if summary is None or not summary.claim:
        return tag("span", "–", class_="quiet")
    values = ", ".join(summary.first)
    if summary.elements <= len(summary.first):
        return tag("span", values or "none")
    words = [f"{summary.low} … {summary.high}, mean {summary.mean}"] if summary.low else []
    if summary.zeros:
        words.append(f"{summary.zeros / summary.read:.0%} zero")
    if summary.not_finite:
        words.append(f"{summary.not_finite:,} not finite")
    if summary.read < summary.elements:
        words.append(f"of the first {summary.read:,} of {summary.elements:,}")
    first = tag("small", f"first: {values}{' …' if summary.elements > len(summary.first) else ''}")
    shown = tag("div", ", ".join(words))
    return tag("div", _histogram(summary.bins), shown, first, class_="numbers")


def _histogram(bins: Sequence[int]) -> Safe:
    """How the values are spread from the lowest to the highest. The words beside it say the rest.
    A step that is not empty can be seen, however few are in it.
    """
    highest = max(bins, default=0)
    if not highest:
        return Safe("")
    bars = []
    for place, count in enumerate(bins):
        if count:
            tall = max(20 * count / highest, 1)
            bars.append(
                tag("rect", x=f"{5 * place}", y=f"{20 - tall:.1f}", width="4",
                    height=f"{tall:.1f}", class_="bar")
            )  # fmt: skip
    wide = f"{5 * len(bins)}"
    return tag(
        "svg", *bars, viewBox=f"0 0 {wide} 20", width=wide, height="20", class_="spread",
        aria_hidden="true",
    )  # fmt: skip
