"""The builds, how to do each again, and what was varied around them."""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterable, Mapping

from harness.models import BuildRecord, Isolation, Outcome, Report, Variation
from harness.reports.page import limits
from harness.reports.page.markup import (
    Safe,
    command_line,
    counted,
    definitions,
    digest,
    fold,
    prose,
    section,
    tag,
    time_bar,
)
from harness.reports.page.room import Room, capped
from harness.text import printable
from harness.variations import CONTROL, VARIED


def builds_section(report: Report) -> Safe:
    if not report.builds:
        return section("builds", "Builds", tag("p", "Nothing was built.", class_="warning"))
    longest = max(build.wall_seconds for build in report.builds)
    ordered = sorted(report.builds, key=lambda b: (b.outcome is Outcome.BUILT,))
    variations = _variations(report.builds)
    shown, missing = capped(
        ordered, limits.MAX_ROWS, Room(), lambda b: _build(report, b, longest, variations), "builds"
    )
    failed = sum(1 for build in report.builds if build.outcome is not Outcome.BUILT)
    title = f"Builds ({len(report.builds)})"
    words = f"{counted(failed, 'build')} failed."
    warning = tag("p", words, class_="warning") if failed else Safe("")
    legend = tag("p", "Bars: seconds from start to end, on one scale.", class_="quiet")
    surroundings, more = capped(
        list(variations.items()), limits.MAX_ROWS, Room(), _variation, "variations"
    )
    return section(
        "builds", title, warning, legend, *shown, missing,
        tag("h3", "What was varied around the builds"), *surroundings, more,
    )  # fmt: skip


def _variations(builds: Iterable[BuildRecord]) -> dict[Variation, str]:
    """Each set of surroundings once, with its place on the page."""
    found: dict[Variation, str] = {}
    for build in builds:
        found.setdefault(build.variation, f"variation-{len(found) + 1}")
    return found


def _build(
    report: Report, build: BuildRecord, longest: float, variations: Mapping[Variation, str]
) -> Safe:
    good = build.outcome is Outcome.BUILT
    outcome = build.outcome.value if good else build.outcome.value.upper()
    weak = build.isolation is Isolation.NONE
    heading = [
        tag("code", build.id, class_="name"),
        tag("span", f" {outcome} ", class_=None if good else "alarm"),
        tag("strong", "isolation: none ", class_="alarm") if weak else Safe(""),
        time_bar(build.wall_seconds, longest),
    ]
    seed = "none (control)" if build.variation.name == CONTROL else str(build.variation.seed)
    facts: list[tuple[str, str]] = [
        ("build it again", command_line(reproduce(report, build))),
        ("surroundings", tag("a", build.variation.name, href=f"#{variations[build.variation]}")),
        ("variation seed", seed),
        ("model", digest(build.model_sha256)),
        ("toolchain", digest(build.toolchain_identity)),
        ("environment", digest(build.environment_sha256)),
        ("time", f"{build.wall_seconds:.1f} s, {build.cpu_seconds:.1f} s of CPU"),
        ("memory", f"{build.peak_memory_bytes / 2**20:,.0f} MiB at most"),
        ("engine", f"{build.engine}, isolation: {build.isolation.value}"),
        ("left", f"{len(build.artifacts)} artifacts of {len(build.stages)} stages"),
    ]
    if build.stage_ends:
        ends = list(build.stage_ends.items())[: limits.MAX_STAGES]
        written = "; ".join(f"{stage} after {end:.1f} s" for stage, end in ends)
        facts.append(("stages written", written))
    if build.opened:
        facts.append(("files opened", digest(build.opened)))
    if build.detail:
        facts.append(("detail", prose(build.detail)))
    for label, values in (
        ("not applied", build.not_applied),
        ("observed", build.observed),
        ("host", build.host),
    ):
        if values:
            words = "; ".join(f"{name}: {value}" for name, value in list(values.items())[:60])
            facts.append((label, words))
    shown = printable(shlex.join(build.command), limits.MAX_COMMAND)
    facts.append(("ran", tag("code", Safe(html.escape(shown)), class_="long")))
    return fold(heading, definitions(facts), class_="build f", data_bad=not good or weak)


def reproduce(report: Report, build: BuildRecord) -> list[str]:
    """The command that does this build again, with those before it that it is held against."""
    model = next((m for m in report.models if m.name == build.model), None)
    words = ["harness", "run", model.path if model else build.model]
    for name, shape in sorted(model.inputs.items()) if model else ():
        words += ["--input", f"{name}={'x'.join(map(str, shape))}"]
    words += ["--toolchain", build.toolchain, "--engine", build.engine]
    variation = build.variation
    repeat = 1
    if variation.name.startswith(VARIED):
        suffix = variation.name.removeprefix(f"{VARIED}-")
        repeat = int(suffix) + 1 if suffix.isdecimal() and len(suffix) < 5 else 2
    seed = report.seed if variation.name == CONTROL else variation.seed
    return [*words, "--repeat", str(repeat), "--variation-seed", str(seed)]


def _variation(item: tuple[Variation, str]) -> Safe:
    variation, place = item
    clock = "the real one" if variation.clock is None else f"starts at {variation.clock} (Unix)"
    environment = "; ".join(f"{name}={value}" for name, value in variation.environment)
    facts = [
        ("hash seed", str(variation.hash_seed)),
        ("address randomisation", "on" if variation.aslr else "off"),
        ("build path", variation.build_path),
        ("home", variation.home),
        ("host name", variation.host_name),
        ("user", f"{variation.user} ({variation.uid}:{variation.gid})"),
        ("locale", variation.locale),
        ("time zone", variation.time_zone),
        ("clock", clock),
        ("umask", f"{variation.umask:04o}"),
        ("CPUs", str(variation.cpus) if variation.cpus else "all"),
        ("file order", str(variation.file_order) if variation.file_order else "sorted"),
        ("environment", tag("code", environment or "nothing added", class_="long")),
    ]
    return fold([f"{variation.name}, seed {variation.seed}"], definitions(facts), id=place)
