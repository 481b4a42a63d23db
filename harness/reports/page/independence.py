"""What the toolchains share, and how many independent builders agreed."""

from __future__ import annotations

from harness.components import LLVM, NAMES
from harness.independence import summary
from harness.models import Independence
from harness.reports import sharing
from harness.reports.page import limits
from harness.reports.page.markup import (
    Safe,
    bullets,
    counted,
    digest,
    fold,
    joined,
    row,
    section,
    table,
    tag,
)


def independence_section(independence: Independence | None) -> Safe:
    if independence is None:
        words = "This run did not look at what the toolchains share."
        return section("independence", "Independence", tag("p", words))
    number = {o.toolchain: str(n) for n, o in enumerate(independence.origins, 1)}
    lines: list[Safe] = []
    for model in dict.fromkeys(stage.model for stage in independence.stages):
        words = "; ".join(f"{name}: {numbers}" for name, numbers in summary(independence, model))
        lines.append(row(model, words))
    pairs = [
        row(
            f"{number.get(pair.left, pair.left)} – {number.get(pair.right, pair.right)}",
            sharing.percent(pair.bytes_shared),
            *(
                sharing.percent(pair.components[name]) + (" *" if name in pair.same_builder else "")
                if name in pair.components
                else "–"
                for name in NAMES
            ),
            ", ".join(pair.facets) or "nothing of what was looked at",
        )
        for pair in independence.pairs[: limits.MAX_ROWS]
    ]
    return section(
        "independence",
        "Independence",
        tag("p", sharing.CAUTION),
        table(
            ["model", "independent builders that agreed, by the component that makes the stage"],
            lines,
            "independent builders that agreed",
            "prose",
        ),
        _origins(independence),
        table(
            ["pair", "all bytes", *NAMES, "have in common"], pairs, "what each pair shares", "prose"
        ),
        tag(
            "p",
            "* counts as one builder of this component, by its publisher or by its bytes",
            class_="quiet",
        ),
    )


def _origins(independence: Independence) -> Safe:
    rows = []
    for number, origin in enumerate(independence.origins, 1):
        how = "opened" if origin.measured else f"installed: {origin.reason}"
        parts = [
            joined(
                f"{part.name}: {counted(part.files, 'file')} {how}, {part.size / 2**20:,.0f} MiB ",
                digest(part.sha256),
            )
            for part in origin.components
        ]
        if origin.driver_sha256:
            parts.append(joined("driver ", digest(origin.driver_sha256)))
        llvm = next((part for part in origin.components if part.name == LLVM), None)
        claims = [f"base {origin.base}", f"Python {origin.python}"]
        claims += [f"LLVM {v}" for v in llvm.llvm] if llvm else []
        claims += [f"built by {maker}" for maker in llvm.built_by] if llvm else []
        rows.append(
            row(
                str(number),
                origin.toolchain,
                origin.publisher,
                origin.arch,
                bullets(parts),
                fold([counted(len(claims), "claim")], bullets(claims)),
            )
        )
    head = ["", "toolchain", "publisher", "arch", "files", "claims"]
    return table(head, rows, "where the toolchains come from")
