"""`harness redteam`: plant known attacks, and see whether they are caught."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import click
import onnx
from rich.table import Table
from rich.text import Text

from harness import redteam, settings
from harness.commands.common import Terminal
from harness.engines.select import ENGINES, choose
from harness.environments import say_nothing
from harness.errors import UsageError
from harness.redteam import Attack, Played, Scenario
from harness.reports.terminal import WIDTH
from harness.resolve import Options, image_problem
from harness.settings import Settings
from harness.sources import fetch, parse_input
from harness.store import Store
from harness.text import printable


@click.command("redteam")
@click.argument("names", nargs=-1, metavar="[ATTACK]...")
@click.option(
    "--settings",
    "path",
    default="nightly.toml",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Models, clean toolchains and policy.",
)
@click.option("--model", "models", multiple=True, metavar="NAME", help="Only these of its models.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=SHAPE",
    help="Another shape of an input than the settings', for one: a batch of two.",
)
@click.option(
    "--scenario",
    type=click.Choice([*(each.value for each in Scenario), "both"]),
    default="both",
    show_default=True,
    help="One toolchain compromised, or all alike.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", *ENGINES]),
    default="sandbox",
    show_default=True,
    help="How builds are isolated.",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, metavar="N",
    help="Builds at the same time. [default: number of CPUs]",
)  # fmt: skip
@click.option(
    "--out",
    default="results-redteam",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results. Never that of real runs.",
)
@click.option("--list", "listing", is_flag=True, help="List the attacks, and plant none.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def redteam_command(
    names: tuple[str, ...], path: Path, models: tuple[str, ...], inputs: tuple[str, ...],
    scenario: str, engine: str, jobs: int, out: Path, listing: bool, as_json: bool,
) -> None:  # fmt: skip
    """Plant attacks in clean toolchains, run the ordinary pipeline, and see what catches them.

    Exit code 0: each was caught as it must be, or is a known limit; 1: one was not; 2: no answer.
    """
    corpus = redteam.load()
    for name in names:
        if name not in corpus:
            raise UsageError(
                f"no attack is called {printable(name, 80)!r}", f"There are {', '.join(corpus)}."
            )
    chosen = [corpus[name] for name in names or corpus]
    if listing:
        _list(chosen)
        return
    what = _shaped(settings.load(path), models, dict(parse_input(text) for text in inputs))
    played = _play(chosen, what, scenario, Options(engine=engine, jobs=jobs), Store(out))
    if not played:
        raise UsageError(
            "none of these attacks works on these models", "See harness redteam --list."
        )
    if as_json:
        click.echo(json.dumps([asdict(each) for each in played], indent=1))
    else:
        _matrix(played)
    sys.exit(any(not each.passed for each in played))


def _shaped(
    what: Settings, models: tuple[str, ...], inputs: dict[str, tuple[int, ...]]
) -> Settings:
    """Only these models, and their inputs of these shapes."""
    unknown = set(models) - {source.name for source in what.models}
    if unknown:
        raise UsageError(f"no model is called {printable(min(unknown), 80)!r}")
    found = []
    for source in what.models:
        if models and source.name not in models:
            continue
        held = onnx.load(fetch(source), load_external_data=False).graph.input
        own = {name: inputs[name] for name in inputs if name in {item.name for item in held}}
        found.append(replace(source, inputs={**source.inputs, **own}))
    for name in inputs:
        if not any(name in source.inputs for source in found):
            raise UsageError(f"no model has an input {printable(name, 80)!r}")
    return replace(what, models=tuple(found))


def _play(
    attacks: list[Attack],
    what: Settings,
    scenario: str,
    options: Options,
    store: Store,
) -> list[Played]:
    engine, _ = choose(options.engine, partial(image_problem, what, options))
    console = Terminal(stderr=True)
    wanted = [each for each in Scenario if scenario in (each.value, "both")]
    played = []
    for source in what.models:
        proto = onnx.load(fetch(source))
        for attack in attacks:
            if not redteam.fits(attack, proto, source.inputs):
                continue
            for one in wanted:
                console.print(Text(f"{attack.name} in {source.name}, {one} compromised …"))
                played.append(
                    redteam.play(
                        attack, source, one, what.toolchains, what.replayers, what.policy, options,
                        engine, store, say_nothing,
                    )
                )  # fmt: skip
    return played


def _list(attacks: list[Attack]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("attack", "classes", "stage", "shows first", "what it is"):
        table.add_column(column, no_wrap=column != "what it is")
    for attack in attacks:
        classes = ", ".join(map(str, attack.classes))
        table.add_row(attack.name, classes, attack.inserted, attack.first, attack.title)
    Terminal().print(table)


def _caught(each: Played) -> Text:
    if each.caught:
        return Text("yes")
    return Text("limit") if each.limit else Text("NO", style="bold red")


def _matrix(played: list[Played]) -> None:
    """Attack × evidence: the first stage that each kind of evidence speaks of."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("attack", "model", "who", "caught", "live", "by", "s"):
        table.add_column(column, no_wrap=column != "by")
    for each in played:
        by = "; ".join(f"{kind}: {stage}" for kind, stage in each.found.items())
        table.add_row(
            each.attack,
            each.model,
            each.scenario.value,
            _caught(each),
            Text("yes") if not each.live else Text("NO", style="bold red"),
            Text("; ".join(part for part in (each.limit or each.missed, each.live, by) if part)),
            f"{each.seconds:.0f}",
        )
    wide = Terminal(width=WIDTH)
    (Terminal() if wide.is_terminal else wide).print(table)
