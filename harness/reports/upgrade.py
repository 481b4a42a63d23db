"""``harness compare`` for people: one page, one summary line per model. Fits 100 columns.

Everything that comes from a toolchain went through ``printable`` when it was recorded; here it is
only laid out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.reports.terminal import WIDTH, Command
from harness.text import printable
from harness.upgrade import (
    Change,
    Compared,
    ModelChange,
    PartChange,
    PassChange,
    Size,
    StageChange,
    Times,
    Upgrade,
)

MOST_PARTS = 8  # named for one stage
MOST_SECTIONS = 12
_STYLE = {
    Change.SAME: "green",
    Change.PRINTING: "green",
    Change.TROUBLE: "yellow",
    Change.CHANGED: "bold red",
}
WORDS = {
    Change.SAME: "the same",
    Change.PRINTING: "printing only",
    Change.TROUBLE: "no answer",
    Change.CHANGED: "changed",
}
MEANING = {
    Change.SAME: "every stage is the same, byte for byte",
    Change.PRINTING: "nothing changes but how some stages are printed",
    Change.TROUBLE: "no answer: see above. This is not a yes",
    Change.CHANGED: "something changes: look at it before you upgrade",
}


def show(upgrade: Upgrade, console: Console, root: Path) -> None:
    """``root``: the folder of results as the reader knows it."""
    for part in _parts(upgrade, root):
        console.print(part, soft_wrap=isinstance(part, Command), width=WIDTH)


def render(upgrade: Upgrade, root: Path) -> str:
    console = Console(width=WIDTH, force_terminal=False, no_color=True)
    with console.capture() as capture:
        show(upgrade, console, root)
    return capture.get()


def _parts(upgrade: Upgrade, root: Path) -> Iterator[RenderableType]:
    yield Text(f"A  {upgrade.left}")
    yield Text(f"B  {upgrade.right}")
    for model in upgrade.models:
        yield Text()
        yield from _model(upgrade, model, root)
    yield Text()
    for note in upgrade.notes:
        yield Text(f"note: {note}", style="yellow")
    for model in upgrade.models:
        yield summary(model)
    line = Text(WORDS[upgrade.change], style=f"bold {_STYLE[upgrade.change]}")
    line.append(f"  {MEANING[upgrade.change]}", style="")
    yield line
    yield Text(f"run {upgrade.run}, engine {upgrade.engine}, inputs of seed {upgrade.seed}", "dim")


def summary(model: ModelChange) -> Text:
    """One line, however long: what a model comes to."""
    line = Command(f"{model.model}: ", style="bold")
    line.append(WORDS[model.change], style=_STYLE[model.change])
    said = [
        f"{count} {WORDS[change]}"
        for change in Change
        if (count := sum(1 for stage in model.stages if stage.change is change))
    ]
    said = [f"stages: {', '.join(said)}"] if said else []
    if model.first_changed:
        by_pass = f", by pass {model.passes.name}" if model.passes and model.passes.name else ""
        said.append(f"first {model.first_changed}{by_pass}")
    if model.sizes:
        said.append(f"library {_percent(model.sizes[0].left, model.sizes[0].right)}")
    if len(model.times) == 2:
        said.append(f"time {_faster(*model.times)}")
    if model.compared and (drift := model.compared[0].drift) is not None:
        said.append(f"drift {drift.max_ulp:,} ULP, {drift.flips} label flips")
    line.append("; " + "; ".join(said) if said else "", style="")
    return line


def _faster(left: Times, right: Times) -> str:
    """The change of the median, where it is more than the spread of both."""
    (low, high), (other_low, other_high) = left.spread, right.spread
    alike = low <= other_high and other_low <= high
    return "alike" if alike else _percent(left.median, right.median)


def _model(upgrade: Upgrade, model: ModelChange, root: Path) -> Iterator[RenderableType]:
    heading = Text(f"{model.model}  ", style="bold")
    heading.append(WORDS[model.change], style=_STYLE[model.change])
    yield heading
    if model.stages:
        yield _stages(model.stages)
    for stage in model.stages:
        if stage.change is Change.CHANGED:
            yield from _changed(stage)
    if model.first_changed:
        words = ["harness", "diff", upgrade.run, model.model, model.first_changed]
        command = shlex.join([*words, upgrade.left, upgrade.right, "--normalized"])
        yield Command(f"  see it:  {command}")
    if model.passes is not None:
        yield from _passes(model, model.passes, root)
    if model.sizes:
        yield from _sizes(model.sizes)
    if len(model.times) == 2:
        yield from _times(model.times)
    letters = {upgrade.left: "A", upgrade.right: "B"}
    for pair in model.compared:
        yield Padding(Text(_pair(pair, letters)), (0, 0, 0, 2))
    for line in model.problems:
        yield _bullet(line, "yellow")
    for line in model.notes:
        yield _bullet(line, "")


def _bullet(line: str, style: str) -> RenderableType:
    return Padding(Text(f"- {printable(line, 1000, newlines=True)}", style=style), (0, 0, 0, 2))


def _stages(stages: Sequence[StageChange]) -> Table:
    table = _table("  stage", "A → B", "what differs")
    for stage in stages:
        said = ", ".join(stage.explained_by)
        if stage.change is Change.CHANGED:
            said = counts(stage.parts, stage.more) or stage.reason
        elif stage.change is Change.TROUBLE:
            said = stage.reason
        words = Text(WORDS[stage.change], style=_STYLE[stage.change])
        table.add_row(f"  {stage.stage}", words, Text(said))
    return table


def counts(parts: Sequence[PartChange], more: bool = False) -> str:
    """``3 functions changed, 1 added; 2 sections changed``."""
    found: dict[str, dict[str, int]] = {}
    for part in parts:
        of_kind = found.setdefault(part.kind, {})
        of_kind[part.status] = of_kind.get(part.status, 0) + 1
    groups = []
    for kind, by_status in found.items():
        first, *rest = by_status.items()
        plural = "" if first[1] == 1 or kind.endswith("s") else "s"
        words = [f"{first[1]} {kind}{plural} {first[0]}", *(f"{n} {what}" for what, n in rest)]
        groups.append(", ".join(words))
    return "; ".join(groups) + (" or more" if more and groups else "")


def _changed(stage: StageChange) -> Iterator[RenderableType]:
    yield Text(f"  {stage.stage}:", style="bold")
    yield from _named(stage.parts)


def _named(parts: Sequence[PartChange]) -> Iterator[RenderableType]:
    # Functions first: they say most.
    ordered = sorted(parts, key=lambda part: part.kind != "function")
    for part in ordered[:MOST_PARTS]:
        sizes = [f"{size:,}" for size in (part.left_size, part.right_size) if size is not None]
        size = f", {' → '.join(dict.fromkeys(sizes))} bytes" if sizes else ""
        note = f"; {part.note}" if part.note else ""
        line = f"{part.artifact}: {part.kind} {part.name} {part.status}{size}{note}"
        yield Padding(Text(printable(line, 400)), (0, 0, 0, 4))
    if len(ordered) > MOST_PARTS:
        yield Text(f"    … and {len(ordered) - MOST_PARTS} more: --json", style="dim")


def _passes(model: ModelChange, found: PassChange, root: Path) -> Iterator[RenderableType]:
    if not found.name:
        yield Text("  passes: the same after every pass that both have")
    else:
        line = Text("  first diverging pass: ", style="bold")
        line.append(f"{found.name} (number {found.left} in A, {found.right} in B)", style="")
        yield line
        if model.change.exit_code == 0:
            yield Text("    no stage changes: it may be in printing only, or later passes undo it")
        for side, names in (("A", found.only_left), ("B", found.only_right)):
            if names:
                yield Text(f"    only {side} ran before it: {', '.join(names)}")
        if found.again:
            text = f"the same in between, and different again after {', '.join(found.again)}"
            yield Padding(Text(text), (0, 0, 0, 4))
        if found.parts:
            yield Text(f"    {counts(found.parts, found.more)}")
            yield from _named(found.parts)
        if found.files:
            files = [str(root / file) for file in found.files]
            yield Command(f"    see it:  {shlex.join(['harness', 'diff', *files])}")
    for note in found.notes:
        yield _bullet(note, "yellow")


def _sizes(sizes: Sequence[Size]) -> Iterator[RenderableType]:
    table = _table("  bytes", "A", "B", "change")
    for column in table.columns[1:]:
        column.justify = "right"
    whole, *sections = sizes
    shown = [size for size in sections if size.left != size.right]
    for size in (whole, *shown[:MOST_SECTIONS]):
        left, right = ("–" if n is None else f"{n:,}" for n in (size.left, size.right))
        table.add_row(f"  {size.what}", left, right, _percent(size.left, size.right))
    yield table
    if len(shown) > MOST_SECTIONS:
        yield Text(f"    … and {len(shown) - MOST_SECTIONS} more sections: --json", style="dim")
    elif not shown and sections:
        yield Text(f"    each of its {len(sections)} sections has the same size", style="dim")


def _times(times: Sequence[Times]) -> Iterator[RenderableType]:
    said = []
    for name, side in zip("AB", times, strict=True):
        low, high = side.spread
        said.append(f"{name} {_ms(side.median)} ms ({_ms(low)} to {_ms(high)})")
    runs = len(times[0].seconds)
    text = f"run time: {', '.join(said)}; median and quartiles of {runs} runs each, in turn"
    yield Padding(Text(f"{text}. Indicative: this machine, now"), (0, 0, 0, 2))


def _pair(pair: Compared, letters: Mapping[str, str]) -> str:
    names = " → ".join(letters.get(name, name) for name in (pair.left, pair.right))
    names = f"outputs, {names}"
    drift = pair.drift
    if drift is None:
        return f"{names}: not compared: {pair.reason}"
    said = (
        f"{names}: the same, bit for bit"
        if drift.none
        else f"{names}: at most {drift.max_ulp:,} ULP and {drift.max_abs:.3g} apart, "
        f"{drift.differing:,} of {drift.elements:,} values differ"
    )
    if drift.incomparable:
        said += f", {drift.incomparable:,} of them are not finite on one side"
    if drift.labels:
        said += f"; {drift.flips} of {drift.labels} labels flip"
    said += f" ({pair.cases} {'input' if pair.cases == 1 else 'inputs'})"
    return f"{said}; not all inputs: {pair.reason}" if pair.reason else said


def _percent(left: float | None, right: float | None) -> str:
    if left is None or right is None:
        return "only in A" if right is None else "only in B"
    if left == right:
        return "the same"
    return f"{100 * (right - left) / left:+.1f} %" if left else "from nothing"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:,.0f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])
    return table
