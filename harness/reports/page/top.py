"""The verdict on the run, what weakens it, and the search bar."""

from __future__ import annotations

from collections.abc import Iterator

from harness.models import Isolation, Report, Verdict
from harness.reports import terminal
from harness.reports.page.badges import badge
from harness.reports.page.markup import Safe, counted, definitions, tag
from harness.text import printable
from harness.verdict import worst

_ACTION = {
    Verdict.IDENTICAL: "Nothing to do. Agreement says nothing about what the toolchains share.",
    Verdict.EXPLAINED: "Read below what was set aside and by which rule; otherwise nothing to do.",
    Verdict.INCONCLUSIVE: "Supply the evidence that is missing, then run again.",
    Verdict.NONDETERMINISTIC: "Start at the first finding; the bisection names what to pin.",
    Verdict.UNACCOUNTED: "Start at the first finding, and find out where the part comes from.",
    Verdict.UNEXPLAINED: "Start at the first divergence, with the command given there.",
}


_SECTIONS = {
    "matrix": "models",
    "findings": "findings",
    "replays": "replays",
    "accounting": "accounting",
    "independence": "independence",
    "timings": "times",
    "constants": "constants",
    "builds": "builds",
    "artifacts": "artifacts",
    "toolchains": "toolchains",
    "policy": "policy",
    "notes": "notes",
    "explained": "explained",
}


def whole_verdict(report: Report) -> Verdict:
    """As the exit code has it: a run that is not complete is no answer."""
    verdicts = [report.verdict, *(model.verdict for model in report.verdicts)]
    if not report.complete or not report.verdicts:
        verdicts.append(Verdict.INCONCLUSIVE)
    return worst(verdicts)


def top(report: Report) -> Safe:
    verdict = whole_verdict(report)
    meaning = terminal.MEANING[verdict]
    sentence = f"{meaning[0].upper()}{meaning[1:]}. {_ACTION[verdict]}"
    return tag(
        "header",
        tag("p", f"ML compiler harness, run {report.run}", class_="quiet"),
        tag("h1", badge(verdict)),
        tag("p", sentence, class_="meaning"),
        *_warnings(report),
        definitions(
            [
                ("models", f"{len(report.verdicts)}"),
                ("toolchains", f"{len(report.toolchains)}"),
                ("builds", f"{len(report.builds):,}"),
                ("comparisons", f"{len(report.comparisons):,}"),
                ("replays", terminal.replay_words(report.replays)),
                ("engine", report.engine),
                ("isolation", report.isolation.value),
                ("seed", str(report.seed)),
                ("started", report.started),
                ("took", f"{report.wall_seconds:,.0f} s"),
            ]
        ),
        class_=f"top top-{verdict.value.lower()}",
        id="verdict",
    )


def _warnings(report: Report) -> Iterator[Safe]:
    weak = sum(1 for build in report.builds if build.isolation is Isolation.NONE)
    if report.isolation is Isolation.NONE or weak:
        words = "The builds could see this machine; weaker evidence."
        if 0 < weak < len(report.builds):
            words = f"So it was for {counted(weak, 'build')} of {len(report.builds):,}, which "
            words += "could see this machine; weaker evidence."
        yield tag("p", tag("strong", "isolation: none. "), words, class_="warning")
    if not report.complete:
        words = "Planned work was not done. This is not a pass."
        yield tag("p", tag("strong", "The run is not complete. "), words, class_="warning")
    unclear = [v.model for v in report.verdicts if v.verdict is Verdict.INCONCLUSIVE]
    if unclear:
        words = f"INCONCLUSIVE for {len(unclear)} of {len(report.verdicts)} models: "
        rest = f"{', '.join(unclear[:20])}{' …' if len(unclear) > 20 else ''}. This is not a pass."
        yield tag("p", tag("strong", words), rest, class_="warning")
    not_applied = sorted({name for build in report.builds for name in build.not_applied})
    if not_applied:
        words = f"variations that could not be applied: {', '.join(not_applied)}"
        yield tag("p", words, class_="warning")
    if report.notes:
        count = counted(len(report.notes), "note")
        first = printable(report.notes[0], 200)
        yield tag("p", tag("a", count, href="#notes"), f": {first}", class_="warning")


def contents() -> Safe:
    """Where on the page things are. The names are those of its sections."""
    links = [
        x for name, words in _SECTIONS.items() for x in (tag("a", words, href=f"#{name}"), " ")
    ]
    return tag("nav", *links, class_="contents", aria_label="sections")


def toolbar(
    placeholder: str = "model, toolchain, stage, digest …", *, attention: bool = True
) -> Safe:
    """``attention``: whether the page has things to be shown alone because they need it."""
    search = tag(
        "input", type="search", id="search", placeholder=placeholder,
        autocomplete="off", spellcheck="false", aria_describedby="count",
    )  # fmt: skip
    bad = tag("label", tag("input", type="checkbox", id="bad"), " needs attention")
    wide = tag("label", tag("input", type="checkbox", id="wide", checked=True), " side by side")
    return tag(
        "nav",
        tag("label", "Search ", tag("kbd", "/"), search, class_="search"),
        bad if attention else Safe(""),
        wide,
        tag("button", "open all", type="button", id="open-all"),
        tag("button", "close all", type="button", id="close-all"),
        tag("output", "", id="count"),
        class_="tools",
        aria_label="search and view",
    )
