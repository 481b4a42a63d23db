"""What every command that builds has in common: how builds are made, and the run itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from harness import audit
from harness.audit import Request
from harness.commands.common import F, Terminal, out_option
from harness.engines.interface import Engine
from harness.engines.select import ENGINES, choose
from harness.models import Report
from harness.pages import report_page
from harness.reports.progress import Lines, Live, Quiet
from harness.resolve import Options, image_problem, resolve
from harness.settings import Settings
from harness.store import Store


def build_options(function: F) -> F:
    decorators = [
        click.option("--repeat", type=click.IntRange(1, 1000), metavar="N",
                     help="Builds per toolchain; the first is the control."),
        click.option("--variation-seed", type=click.IntRange(0), metavar="SEED",
                     help="Draw the variations from this seed, to run a build again."),
        click.option("--engine", type=click.Choice(["auto", *ENGINES]), default="auto",
                     show_default=True, help="How builds are isolated."),
        click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, metavar="N",
                     help="Builds at the same time. [default: number of CPUs]"),
        out_option,
        click.option("--resume", metavar="RUN",
                     help="Go on with an interrupted run: use the builds that it finished."),
        click.option("--fresh", is_flag=True,
                     help="Run every replay, also those with a result from an earlier run."),
        click.option("--toolchains-dir", "folders", multiple=True,
                     type=click.Path(exists=True, file_okay=False, path_type=Path),
                     help="Another folder of toolchains. Can be given several times."),
        click.option("--explanations", type=click.Path(dir_okay=False, path_type=Path),
                     help="Another ledger of accepted differences."),
        click.option("--quiet", is_flag=True, help="Print no progress and no table."),
    ]  # fmt: skip
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def options_of(rest: dict[str, Any]) -> Options:
    """What :func:`build_options` and, where a command has them, its own options say."""
    return Options(
        engine=rest["engine"],
        jobs=rest["jobs"],
        seed=rest["variation_seed"],
        repeat=rest["repeat"],
        resume=rest["resume"],
        fresh=rest["fresh"],
        bisect=not rest.get("no_bisect", False),
        keep=rest.get("keep", False),
        toolchain_folders=tuple(rest["folders"]),
        explanations=rest["explanations"],
        account=not rest.get("no_accounting", False),
        numeric=rest.get("numeric", False),
    )


def carried_out(
    what: Settings,
    options: Options,
    rest: dict[str, Any],
    accepts: Callable[[Request], None] = lambda _: None,
) -> tuple[Report, Request, Engine, Store]:
    """The run, with its report and its page in the store. ``accepts`` raises what stands against
    it, before anything is built.
    """
    store = Store(rest["out"])
    progress = progress_of(rest["quiet"])
    with progress:
        engine, notes = choose(options.engine, partial(image_problem, what, options))
        for note in notes:
            progress.say(f"note: {note}")
        request = resolve(what, options, store, notes, progress.say, engine)
        accepts(request)
        progress.say(f"run {request.run} on the {engine.name} engine")
        report = audit.run(request, engine, store, progress)
        store.save_page(report.run, report_page(report, store))
    return report, request, engine, store


def progress_of(quiet: bool) -> Quiet:
    if quiet:
        return Quiet()
    console = Terminal(stderr=True)
    return Live(console) if console.is_terminal else Lines(console)
