"""`harness diff`: where two files, two folders, or two builds of a run differ."""

from __future__ import annotations

import datetime
import json
import sys
from functools import partial
from pathlib import Path

import click
from rich.text import Text

from harness import diffoscope_shown, ledger
from harness.closer import by_diffoscope, pairs_of, tools, with_bitcode
from harness.commands.common import Terminal, load_run, out_option, print_error
from harness.comparators.examine import equal, examine, examine_folders, glance
from harness.comparators.interface import Bounds, Examined
from harness.differences import as_json as as_plain
from harness.differences import lines_of
from harness.errors import UsageError
from harness.looking import artifacts
from harness.places import HERE
from harness.reports.difference import difference_page
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
@click.option(
    "--diffoscope",
    is_flag=True,
    help="Then show the files that differ to diffoscope, in the sandbox: the first ten of them.",
)
@click.option(
    "--brief", is_flag=True, help="Only whether two files or folders are the same: bytes decide."
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write it to this file, as one page that opens from disk.",
)
@out_option
def diff(
    words: tuple[str, ...], normalized: bool, explanations: Path, parts: int, lines: int,
    seconds: float, diffoscope: bool, brief: bool, as_json: bool, page: Path | None, out: Path,
) -> None:  # fmt: skip
    """Show where two files, two folders, or two builds of a run differ.

    A and B are files or folders. Or, of RUN (or `latest`), builds of MODEL at STAGE: toolchains
    (their control builds), or TOOLCHAIN/VARIATION. Exit code 0: the same, 1: different, 2: no
    answer.
    """
    bounds = Bounds(parts=parts, lines=lines, seconds=seconds)
    found: dict[str, Examined] = {}
    pairs: dict[str, tuple[Path, Path]] = {}
    named = words
    same = True
    notes = []
    if len(words) == 2:
        left, right = words
        look = glance if brief else partial(_two_places, bounds=bounds)
        found = look(Path(left), Path(right))
        same = all(equal(examined) for examined in found.values())
        pairs = pairs_of(Path(left), Path(right), found)
    elif len(words) == 5 and not brief:
        run_name, model, stage, left, right = words
        store = Store(out)
        report = load_run(store, run_name)
        named = (report.run, *words[1:])
        today = datetime.datetime.now(datetime.UTC).date()
        rules = ledger.load(explanations, today) if normalized else None
        for looked in artifacts(report, store, model, stage, (left, right), rules, bounds):
            found[looked.name] = looked.examined
            same = same and looked.same
            if looked.sides:
                pairs[looked.name] = looked.sides
            if looked.rules:
                notes.append(f"# {looked.name}: normalized by {', '.join(looked.rules)}")
    else:
        raise UsageError(
            f"{len(words)} arguments were given",
            "Give A B, or without --brief also RUN MODEL STAGE A B: harness diff -h.",
        )
    at_hand = tools(print_error)
    found = found if brief else with_bitcode(found, pairs, bounds, at_hand)
    answers = by_diffoscope(found, pairs, bounds, at_hand) if diffoscope else {}
    if page is not None:
        rest = ["--normalized"] if normalized else []
        command = ["harness", "diff", *rest, "--", *named]
        said = [note.removeprefix("# ") for note in notes]
        more = [
            (f"diffoscope: {name}", list(diffoscope_shown.lines_of({name: answer})))
            for name, answer in answers.items()
        ]
        of = ", ".join(named[:-2])
        write_page(page, difference_page(left, right, found, same, command, said, more, of))
    if as_json:
        plain = {**as_plain(left, right, found), "same": same}
        if diffoscope:
            plain["diffoscope"] = diffoscope_shown.as_plain(answers)
        click.echo(json.dumps(plain, indent=1))
    else:
        console = Terminal(soft_wrap=True)
        looked_into = (line for name in found for line in lines_of(name, found[name]))
        for line in (*looked_into, *notes, *diffoscope_shown.lines_of(answers)):
            style = {"+": "green", "-": "red", "@": "cyan", "!": "bold"}.get(line[:1], "")
            console.print(Text(line, style=style))
    sys.exit(0 if same else 1)


def write_page(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _two_places(left: Path, right: Path, bounds: Bounds) -> dict[str, Examined]:
    if left.is_dir() and right.is_dir():
        return examine_folders(left, right, bounds)
    return {f"{left} {right}": examine(left, right, bounds)}
