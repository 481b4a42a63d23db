"""Stages that were made again from the stage above, by somebody else's tool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.models import ReplayResult, Report, Verdict
from harness.reports.findings import short
from harness.reports.page import limits
from harness.reports.page.badges import badge
from harness.reports.page.markup import (
    Safe,
    bullets,
    command_line,
    counted,
    digest,
    fold,
    joined,
    prose,
    row,
    section,
    table,
    tag,
    time_bar,
)
from harness.reports.page.room import Room, capped


def replays_section(report: Report) -> Safe:
    if not report.replays:
        return section("replays", "Replays", tag("p", "No stage was regenerated in this run."))
    intro = "A stage made again from the stage above it, by somebody else's tool."
    longest = max(replay.wall_seconds for replay in report.replays)
    groups = sorted(alike(report.replays), key=lambda g: -g[0].verdict.severity)
    shown, missing = capped(
        groups, limits.MAX_ROWS, Room(), lambda g: replay_row(g, longest), "replays"
    )
    bad = any(r.verdict.exit_code != 0 for r in report.replays)
    same = sum(1 for r in report.replays if r.verdict is Verdict.IDENTICAL)
    return section(
        "replays",
        f"Replays ({len(report.replays)})",
        tag("p", intro),
        fold(
            [f"{same} of {len(report.replays)} bit for bit, {len(groups)} distinct"],
            replay_table(shown),
            missing,
            open_=bad or len(groups) <= 60,
        ),
    )


def replay_table(rows: Iterable[Safe]) -> Safe:
    head = ["replay", "of the builds", "by", "verdict", "expected", "got", "seconds", "more"]
    return table(head, rows, "replays")


def alike(replays: Iterable[ReplayResult]) -> list[list[ReplayResult]]:
    """Replays of the same inputs with the same result; each is shown once, for all its builds."""
    groups: dict[tuple[object, ...], list[ReplayResult]] = {}
    for r in replays:
        key = (r.name, r.model, r.replayer, r.verdict, r.expected_sha256, r.got_sha256, r.commands)
        groups.setdefault((*key, r.detail, r.remembered, r.opened), []).append(r)
    return list(groups.values())


def replay_row(group: Sequence[ReplayResult], longest: float = 0.0) -> Safe:
    replay = next((r for r in group if r.shared_with is None), group[0])
    got = digest(replay.got_sha256) if replay.got_sha256 else tag("span", "nothing")
    if replay.got_sha256 == replay.expected_sha256:
        got = tag("span", "the same", class_="quiet")
    more: list[Safe] = []
    builds = [tag("code", short(r.build)) for r in group[:40]]
    if len(group) > 40:
        builds.append(Safe(f"… {len(group)} in all"))
    if replay.opened:
        more.append(tag("p", "files opened ", digest(replay.opened)))
    if replay.remembered:
        more.append(tag("p", f"remembered from {replay.remembered}"))
    if replay.detail:
        more.append(tag("p", prose(replay.detail)))
    commands = [command_line(command, limits.MAX_COMMAND) for command in replay.commands[:8]]
    if commands:
        more.append(fold(["commands"], *commands))
    return row(
        replay.name,
        joined(tag("code", replay.model), fold([counted(len(group), "build")], bullets(builds))),
        tag("code", replay.replayer),
        badge(replay.verdict),
        digest(replay.expected_sha256),
        got,
        time_bar(replay.wall_seconds, longest),
        joined(*more),
        bad=replay.verdict.exit_code != 0,
    )
