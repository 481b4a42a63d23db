"""Where the time went: each stage of each toolchain, by when its files were last written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from harness.models import BuildRecord, Outcome, Report
from harness.reports.page import limits
from harness.reports.page.markup import Safe, counted, fold, row, section, table, tag, time_bar
from harness.reports.page.room import Room, capped

Spans = dict[str, float]  # stage → seconds since the stage before it was there
REST = "after the last stage"
_SHADES = 4  # of the segments of a line; neighbours never have the same


def timings_section(report: Report) -> Safe:
    """Seconds per toolchain and stage, as lines and as a table."""
    models: dict[str, list[BuildRecord]] = defaultdict(list)
    for build in report.builds:
        if build.outcome is Outcome.BUILT and build.stage_ends:
            models[build.model].append(build)
    if not models:
        words = "No build of this run recorded when its stages were written."
        return section("timings", "Time per stage", tag("p", words))
    few = len(models) < limits.MANY
    shown, missing = capped(
        list(models.items()), limits.MAX_ROWS, Room(), lambda m: _model(*m, few), "models"
    )
    words = (
        "From the last write to the files of the stage before until the last write to this "
        "stage's files; the first one includes starting up. Work whose result is written later "
        "counts where it was written. "
        "The machine's kernel notes these times, but a toolchain can set the time of its files: "
        "they inform, and no verdict rests on them."
    )
    return section("timings", "Time per stage", tag("p", words, class_="quiet"), *shown, missing)


def spans(build: BuildRecord) -> Spans:
    """How long each stage took, in the order in which they were written; then what was left."""
    places = {stage: place for place, stage in enumerate(build.stages)}
    ends = sorted(build.stage_ends.items(), key=lambda end: (end[1], places.get(end[0], 0)))
    found: Spans = {}
    before = 0.0
    for stage, end in ends:
        found[stage] = end - before
        before = end
    found[REST] = max(build.wall_seconds - before, 0.0)
    return found


def typical(builds: Iterable[BuildRecord]) -> Spans:
    """The median of each stage over several builds by one toolchain."""
    every: dict[str, list[float]] = defaultdict(list)
    for build in builds:
        for stage, seconds in spans(build).items():
            every[stage].append(seconds)
    rest = {REST: every.pop(REST)} if REST in every else {}
    return {stage: median(seconds) for stage, seconds in {**every, **rest}.items()}


def _model(model: str, builds: Sequence[BuildRecord], opened: bool) -> Safe:
    own: dict[str, list[BuildRecord]] = defaultdict(list)
    for build in builds:
        own[build.toolchain].append(build)
    times = {name: typical(records) for name, records in own.items()}
    stages = [s for s in dict.fromkeys(s for found in times.values() for s in found) if s != REST]
    stages = [*stages[: limits.MAX_STAGES], REST]
    whole = max(sum(found.values()) for found in times.values())
    longest = max(found.get(stage, 0.0) for found in times.values() for stage in stages)
    lines = [_line(name, found, stages, whole) for name, found in times.items()]
    rows = [
        row(
            stage,
            *(
                time_bar(found[stage], longest, 2) if stage in found else "–"
                for found in times.values()
            ),
            found=False,
        )
        for stage in stages
    ]
    count = f"{counted(len(builds), 'build')} by {counted(len(own), 'toolchain')}"
    return fold(
        [tag("h3", model), tag("small", f" seconds per stage, medians of {count}")],
        tag("div", *lines[: limits.MAX_ROWS], class_="lines", aria_hidden="true"),
        table(["stage", *times], rows, f"{model}: seconds by stage and toolchain", "grid"),
        open_=opened,
        class_="f",
    )


def _line(toolchain: str, found: Mapping[str, float], stages: Sequence[str], whole: float) -> Safe:
    """All stages of one toolchain, one after the other, on the scale of the longest line."""
    segments = []
    at = 0.0
    for place, stage in enumerate(stages):
        part = 100 * found.get(stage, 0.0) / whole if whole > 0 else 0.0
        if part > 0:
            label = tag("text", stage, x="4", y="17") if part >= 5 else Safe("")
            shade = "rest" if stage == REST else f"s{place % _SHADES}"
            box = tag("rect", width="100%", height="24", class_=shade)
            words = tag("title", f"{stage}: {found[stage]:.2f} s")
            segments.append(
                tag("svg", words, box, label, x=f"{at:.2f}%", width=f"{part:.2f}%", height="24")
            )
        at += part
    total = f" {sum(found.values()):.1f} s"
    svg = tag("svg", *segments, width="100%", height="24", class_="line")
    return tag("div", tag("p", tag("code", toolchain), total), svg)
