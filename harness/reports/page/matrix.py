"""Model × stage × evidence, and stage × toolchain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from harness.models import (
    BuildRecord,
    ComparisonKind,
    ModelVerdict,
    Outcome,
    Report,
    StageVerdict,
    Verdict,
)
from harness.reports.page import limits
from harness.reports.page.accounts import accounts_cell
from harness.reports.page.badges import badge, brief
from harness.reports.page.findings import Finding
from harness.reports.page.markup import Safe, fold, joined, row, section, table, tag
from harness.reports.page.room import Room, capped
from harness.variations import CONTROL


def matrix_section(report: Report, findings: Sequence[Finding]) -> Safe:
    places = {(f.model.model, f.stage.stage): f.id for f in findings if f.stage}
    places |= {(f.model.model, ""): f.id for f in findings if not f.stage}
    models = sorted(report.verdicts, key=lambda v: -v.verdict.severity)
    room = Room()
    few = len(models) <= limits.MANY
    by_model = _by_model(report.builds)
    shown, missing = capped(
        models, limits.MAX_ROWS, room, lambda v: _model(v, by_model[v.model], places, few), "models"
    )
    overview = _overview(models, places) if len(models) > 1 else Safe("")
    if not models:
        shown = [tag("p", "No model was judged.", class_="warning")]
    return section("matrix", "Models and stages", overview, *shown, missing)


def _by_model(builds: Iterable[BuildRecord]) -> dict[str, list[BuildRecord]]:
    found: dict[str, list[BuildRecord]] = defaultdict(list)
    for build in builds:
        found[build.model].append(build)
    return found


def _linked(shown: Safe, place: str | None) -> Safe:
    return tag("a", shown, href=f"#{place}", class_="to") if place else shown


def _overview(models: Sequence[ModelVerdict], places: Mapping[tuple[str, str], str]) -> Safe:
    stages = list(dict.fromkeys(s.stage for model in models for s in model.stages))
    rows = []
    for model in models[: limits.MAX_ROWS]:
        found = {s.stage: s.verdict for s in model.stages}
        cells = [
            _linked(brief(found[stage]), places.get((model.model, stage)))
            if stage in found
            else "–"
            for stage in stages
        ]
        whole = _linked(badge(model.verdict), places.get((model.model, "")))
        rows.append(row(model.model, whole, *cells, bad=model.verdict.exit_code != 0))
    legend = [x for verdict in Verdict for x in (badge(verdict), " ")]
    grid = table(["model", "verdict", *stages], rows, "models by stages", "overview")
    return joined(grid, tag("p", *legend, class_="legend"))


def _model(
    verdict: ModelVerdict,
    records: Sequence[BuildRecord],
    places: Mapping[tuple[str, str], str],
    few: bool,
) -> Safe:
    built = [build for build in records if build.outcome is Outcome.BUILT]
    count = f"{len({b.toolchain for b in built})} toolchains, {len(built)} builds"
    if len(built) < len(records):
        count += f" of {len(records)}"
    bad = verdict.verdict.exit_code != 0
    kinds = [k for k in ComparisonKind if any(k.value in s.comparisons for s in verdict.stages)]
    accounted = any(stage.accounts for stage in verdict.stages)
    rows = [
        row(
            stage.stage,
            *(_cell(stage.comparisons.get(kind.value)) for kind in kinds),
            _replays_cell(stage),
            *([accounts_cell(stage)] if accounted else []),
            _linked(badge(stage.verdict), places.get((verdict.model, stage.stage))),
            bad=stage.verdict.exit_code != 0,
        )
        for stage in verdict.stages[: limits.MAX_ROWS]
    ]
    head = ["stage", *(kind.value for kind in kinds), "replay"]
    head += ["accounting", "verdict"] if accounted else ["verdict"]
    first = Safe("")
    if verdict.first_divergence is not None:
        odd = ", ".join(verdict.odd_ones_out) or "cannot be told"
        name = tag("strong", verdict.first_divergence)
        first = tag(
            "p", "first divergence: ", name, "; odd one out: ", tag("strong", odd), class_="first"
        )
    return fold(
        [tag("h3", verdict.model), " ", badge(verdict.verdict), tag("small", f" {count}")],
        first,
        table(head, rows, f"{verdict.model}: stages by evidence"),
        _agreement(verdict, built),
        open_=few or bad,
    )


def _cell(verdict: Verdict | None) -> Safe:
    return tag("span", "–", class_="quiet") if verdict is None else badge(verdict)


def _replays_cell(stage: StageVerdict) -> Safe:
    if not stage.replays:
        return tag("span", "–", class_="quiet")
    same = sum(1 for verdict in stage.replays.values() if verdict.exit_code == 0)
    words = f"{same} of {len(stage.replays)} bit for bit"
    return tag("span", words, class_=None if same == len(stage.replays) else "alarm")


def _agreement(verdict: ModelVerdict, built: Sequence[BuildRecord]) -> Safe:
    """Toolchain × stage: the same letter where the control builds are the same bytes."""
    controls = [build for build in built if build.variation.name == CONTROL]
    if len(controls) < 2:
        return Safe("")
    odd = {s.stage: s.odd_ones_out for s in verdict.stages}
    columns: dict[str, dict[str, str]] = {}
    for stage in odd:
        letters: dict[frozenset[tuple[str, str]], str] = {}
        column = columns.setdefault(stage, {})
        for build in controls:
            files = frozenset((a.name, a.sha256) for a in build.artifacts if a.stage == stage)
            if files:
                column[build.toolchain] = letters.setdefault(files, _letter(len(letters)))
    rows = [
        row(
            build.toolchain,
            *(
                tag("strong", f"{column.get(build.toolchain, '–')} odd one out", class_="alarm")
                if build.toolchain in odd[stage]
                else column.get(build.toolchain, "–")
                for stage, column in columns.items()
            ),
            found=False,
        )
        for build in controls
    ]
    return fold(
        ["which toolchains agree with which, byte for byte"],
        tag("p", "The same letter: the control builds left the same bytes at this stage. Whether "
            "other letters are explained is in the table above.", class_="quiet"),
        table(["toolchain", *columns], rows, f"{verdict.model}: toolchains by stages"),
        open_=any(odd.values()),
    )  # fmt: skip


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"
