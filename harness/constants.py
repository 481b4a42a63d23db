"""The constants that the builds of a run left, and what is known of each. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.models import Artifact, BuildRecord, Outcome, Report

STAGE = "constants"
INDEX = "index.json"

Key = tuple[str, str, str]  # model, artifact of the stage ``constants``, SHA-256


@dataclass(frozen=True)
class Summary:
    """``claim``: type and shape as the toolchain's index has them, "" where it has none that fits.

    The rest is about the first ``read`` of ``elements`` numbers. ``bins``: how many lie in each of
    equally wide steps from ``low`` to ``high``; empty where all are the same or none is finite.
    """

    claim: str
    elements: int = 0
    read: int = 0
    first: tuple[str, ...] = ()
    low: str = ""
    high: str = ""
    mean: str = ""
    zeros: int = 0
    not_finite: int = 0
    bins: tuple[int, ...] = ()


def files_of(report: Report) -> dict[str, dict[str, dict[Artifact, list[BuildRecord]]]]:
    """By model and name: each version of a constant, with the builds that left it."""
    found: dict[str, dict[str, dict[Artifact, list[BuildRecord]]]] = {}
    for build in report.builds:
        if build.outcome is not Outcome.BUILT:
            continue
        for artifact in build.artifacts:
            if artifact.stage == STAGE:
                names = found.setdefault(build.model, {})
                names.setdefault(artifact.name, {}).setdefault(artifact, []).append(build)
    return found


def by_interest(
    names: Mapping[str, Mapping[Artifact, list[BuildRecord]]], builds: int
) -> list[tuple[str, bool]]:
    """Names of constants and whether all ``builds`` have the same: differing first, then by size.

    The index is not a constant and is left out.
    """

    def same(name: str) -> bool:
        versions = names[name]
        return len(versions) == 1 and sum(map(len, versions.values())) == builds

    ordered = sorted(
        (name for name in names if name != INDEX),
        key=lambda name: (same(name), -max(artifact.size for artifact in names[name]), name),
    )
    return [(name, same(name)) for name in ordered]
