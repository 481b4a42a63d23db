"""A decision as a page for people: what `told` says, with the history of the model as steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.reports.page.document import document
from harness.reports.page.markup import Safe, bullets, definitions, digest, section, tag
from harness.signoff.interface import Decision
from harness.signoff.telling import shortened


def page(decision: Decision, word: str, artifact: str, release: str | None) -> str:
    """One self-contained file. ``word``: what is decided, such as VERIFIED."""
    look = "unexplained" if decision.refusals else "identical"
    sign = tag("span", "≠" if decision.refusals else "=", aria_hidden="true")
    badge = tag("span", sign, f" {word}", class_=f"v v-{look}")
    facts: list[tuple[str, str]] = [
        ("artifact", tag("code", artifact)),
        ("sha256", digest(decision.artifact)),
    ]
    if release:
        facts.append(("release", release))
    top = tag(
        "header", tag("h1", badge, f" {artifact}"), definitions(facts), class_=f"top top-{look}"
    )
    parts = (
        ("refusals", "It lacks what the policy asks for", decision.refusals),
        ("rests", "This speaks for it", decision.rests),
        ("dissent", "These say otherwise", decision.dissent),
    )
    body = [
        section(name, head, bullets(map(shortened, lines))) for name, head, lines in parts if lines
    ]
    if decision.chain:
        body.append(
            section(
                "chain",
                "From data to binary",
                *_steps([shortened(line) for line in decision.chain]),
            )
        )
    if decision.notes:
        body.append(section("notes", "Also in the bundle", bullets(map(shortened, decision.notes))))
    return document(f"{word}: {artifact}", top, tag("main", *body))


def _steps(lines: Sequence[str]) -> Iterator[Safe]:
    """Lines that are set in belong to the step above them; gaps stand out."""
    step: list[str] = []

    def done() -> Iterator[Safe]:
        if step:
            first, *rest = step
            gap = first.startswith("gap:")
            head = tag("strong", first, class_="alarm" if gap else None)
            yield tag("div", head, bullets(line.strip() for line in rest), class_="artifact")
            step.clear()

    for line in lines:
        if not line.startswith(" "):
            yield from done()
        step.append(line)
    yield from done()
