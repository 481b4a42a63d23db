"""Every digest of the run once, with the builds that left it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness.models import Artifact, Report
from harness.reports.findings import short
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


def artifacts_section(report: Report) -> Safe:
    """Every digest once, with the builds that left it."""
    stages: dict[tuple[str, str], dict[str, dict[Artifact, list[str]]]] = {}
    for build in report.builds:
        for artifact in build.artifacts:
            files = stages.setdefault((build.model, artifact.stage), {})
            files.setdefault(artifact.name, {}).setdefault(artifact, []).append(short(build.id))
    room = Room()
    left = limits.MAX_ROWS
    blocks: list[Safe] = []
    models = [
        tag("tr", tag("th", model.name, scope="row"), tag("td", name), tag("td", digest(sha)),
            class_="f")
        for model in report.models
        for name, sha in (("the model", model.sha256), *model.external)
    ]  # fmt: skip
    total = skipped = 0
    for (model, stage), files in stages.items():
        rows = [
            (name, artifact, who, len(found))
            for name, found in files.items()
            for artifact, who in found.items()
        ]
        total += len(rows)
        everyone = len({build for _, _, who, _ in rows for build in who})
        shown, _ = capped(rows, left, room, partial(_artifact, everyone), "artifacts")
        left -= len(shown)
        skipped += len(rows) - len(shown)
        several = sum(1 for found in files.values() if len(found) > 1)
        words = f" {counted(len(files), 'artifact')}, the same in all builds"
        if several:
            words = f" {counted(len(files), 'artifact')}, {several} not the same in all builds"
        head = ["artifact", "size", "SHA-256", "in the builds"]
        listed = table(head, shown, f"{model}: {stage}")
        blocks.append(fold([tag("strong", f"{model} · {stage}"), words], listed))
    words = f"… and {skipped:,} more digests in report.json, for which this page has no room"
    missing = tag("p", words, class_="cut") if skipped else Safe("")
    return section(
        "artifacts",
        f"Artifacts ({total:,} different)",
        table(["model", "file", "SHA-256"], models[: limits.MAX_ROWS], "models"),
        *blocks,
        missing,
    )


def _artifact(everyone: int, entry: tuple[str, Artifact, Sequence[str], int]) -> Safe:
    """``everyone``: how many builds left the stage; the entry: name, file, its builds, versions."""
    name, artifact, builds, versions = entry
    words = ", ".join(builds[:40]) + (f" … {len(builds)} in all" if len(builds) > 40 else "")
    if len(builds) == everyone:
        words = f"all {everyone}"
    return row(
        name,
        size(artifact.size),
        digest(artifact.sha256),
        words if versions == 1 else joined(words, tag("small", f" (one of {versions})")),
    )
