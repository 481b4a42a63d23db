"""`harness diff`: where two files, two folders, or two builds of a run differ."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

import click
from rich.text import Text

from harness import ledger
from harness.commands.common import Terminal, load_run, out_option
from harness.comparators.examine import equal, examine, examine_folders
from harness.comparators.interface import Bounds, Examined
from harness.differences import as_json as as_plain
from harness.differences import lines_of
from harness.errors import UsageError
from harness.looking import artifacts
from harness.resolve import HERE
from harness.store import Store


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="A B | RUN MODEL STAGE A B")
@click.option(
    "--normalized",
    is_flag=True,
    help="Artifacts of a run: compare after the ledger's normalizers. What is left is the finding.",
)
@click.option(
    "--explanations",
    type=click.Path(dir_okay=False, path_type=Path),
    default=HERE / "toolchains" / "explanations.toml",
    help="The ledger for that.",
)
@click.option(
    "--parts",
    default=50,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Most differing parts to show, of each file.",
)
@click.option(
    "--lines",
    default=60,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="Most lines to show, of each part.",
)
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0.1, 86_400),
    help="Longest time to look into one pair of files.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@out_option
def diff(
    words: tuple[str, ...], normalized: bool, explanations: Path, parts: int, lines: int,
    seconds: float, as_json: bool, out: Path,
) -> None:  # fmt: skip
    """Show where two files, two folders, or two builds of a run differ.

    A and B are files or folders. Or, of RUN (or `latest`), builds of MODEL at STAGE: toolchains
    (their control builds), or TOOLCHAIN/VARIATION. Exit code 0: the same, 1: different, 2: no
    answer.
    """
    bounds = Bounds(parts=parts, lines=lines, seconds=seconds)
    found: dict[str, Examined] = {}
    same = True
    notes = []
    if len(words) == 2:
        left, right = words
        found = _two_places(Path(left), Path(right), bounds)
        same = all(equal(examined) for examined in found.values())
    elif len(words) == 5:
        run_name, model, stage, left, right = words
        store = Store(out)
        report = load_run(store, run_name)
        today = datetime.datetime.now(datetime.UTC).date()
        rules = ledger.load(explanations, today) if normalized else None
        for looked in artifacts(report, store, model, stage, (left, right), rules, bounds):
            found[looked.name] = looked.examined
            same = same and looked.same
            if looked.rules:
                notes.append(f"# {looked.name}: normalized by {', '.join(looked.rules)}")
    else:
        raise UsageError(
            f"{len(words)} arguments were given",
            "Give A B, or RUN MODEL STAGE A B: harness diff -h.",
        )
    if as_json:
        click.echo(json.dumps({**as_plain(left, right, found), "same": same}, indent=1))
    else:
        console = Terminal(soft_wrap=True)
        for line in (*(line for name in found for line in lines_of(name, found[name])), *notes):
            style = {"+": "green", "-": "red", "@": "cyan", "!": "bold"}.get(line[:1], "")
            console.print(Text(line, style=style))
    sys.exit(0 if same else 1)


def _two_places(left: Path, right: Path, bounds: Bounds) -> dict[str, Examined]:
    if left.is_dir() and right.is_dir():
        return examine_folders(left, right, bounds)
    return {f"{left} {right}": examine(left, right, bounds)}
