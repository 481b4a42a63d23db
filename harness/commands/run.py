"""`harness run` and `harness nightly`: build, compare, judge, show."""

from __future__ import annotations

import datetime
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from harness import audit, redteam, settings
from harness.commands.common import F, Terminal, out_option, print_error
from harness.commands.show import show_report
from harness.engines.select import ENGINES, choose
from harness.environments import say_nothing
from harness.errors import HarnessError, UsageError
from harness.models import Policy
from harness.pages import report_page
from harness.plan import model_name
from harness.reports.progress import Lines, Live, Quiet
from harness.resolve import DEFAULT_REPLAYER, Options, default_toolchains, image_problem, resolve
from harness.settings import Chosen, Settings, Variations
from harness.sources import ModelSource, parse_input
from harness.store import Store
from harness.verdict import exit_code


def run_options(function: F) -> F:
    """What `run` and `nightly` have in common."""
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
        click.option("--numeric", is_flag=True,
                     help="Also run the built libraries: numbers, and inputs that fire a finding."),
        click.option("--no-accounting", is_flag=True,
                     help="Do not hold what was built against the model itself."),
        click.option("--no-bisect", is_flag=True,
                     help="Do not look for the variation that makes repeats differ."),
        click.option("--keep", is_flag=True,
                     help="Keep the builds' folders until the run ends, to look at them."),
        click.option("--toolchains-dir", "folders", multiple=True,
                     type=click.Path(exists=True, file_okay=False, path_type=Path),
                     help="Another folder of toolchains. Can be given several times."),
        click.option("--explanations", type=click.Path(dir_okay=False, path_type=Path),
                     help="Another ledger of accepted differences."),
        click.option("--json", "as_json", is_flag=True, help="Print report.json instead."),
        click.option("--quiet", is_flag=True, help="Print no progress and no table."),
    ]  # fmt: skip
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=SHAPE",
    help="Fix an input's shape, such as x=1x3x48x192. Can be given several times.",
)
@click.option(
    "--toolchain",
    "names",
    multiple=True,
    metavar="NAME",
    help="A toolchain to build with. Can be given several times. [default: all]",
)
@click.option(
    "--replayer",
    "replayers",
    multiple=True,
    default=[DEFAULT_REPLAYER],
    show_default=True,
    metavar="NAME",
    help="An independent LLVM that regenerates stages. Can be given several times.",
)
@run_options
def run(
    model: Path,
    inputs: tuple[str, ...],
    names: tuple[str, ...],
    replayers: tuple[str, ...],
    **rest: Any,
) -> None:
    """Build MODEL with several toolchains, compare every stage, and judge."""
    shapes = dict(parse_input(text) for text in inputs)
    if len(shapes) != len(inputs):
        raise UsageError("an --input is given twice", "Give each input one shape.")
    options = _options(rest)
    chosen = tuple(dict.fromkeys(names)) or default_toolchains(options)
    repeat = options.repeat or Variations().builds
    # A build that is not repeated was asked for; then one build is what there is to be had.
    policy = Policy(min_builds=min(repeat, Policy().min_builds))
    source = ModelSource(name=model_name(model.stem), path=model, inputs=shapes)
    replayers = tuple(dict.fromkeys(replayers))
    contained = Chosen(() if names else default_toolchains(options, containers=True))
    variations = Variations(builds=repeat)
    what = Settings((source,), chosen, variations, policy, replayers, contained)
    _run(what, options, rest)


@click.command()
@click.option(
    "--settings",
    "path",
    default="nightly.toml",
    show_default=True,
    type=click.Path(path_type=Path),
    help="What to run.",
)
@click.option(
    "--canary",
    is_flag=True,
    help="First plant one attack of the red team, picked by --variation-seed or the day. If it is "
    "not caught, this night has no answer.",
)
@run_options
def nightly(path: Path, canary: bool, **rest: Any) -> None:
    """Run everything that nightly.toml lists."""
    what = settings.load(path)
    if canary:
        _canary(what, _options(rest), rest)
    _run(what, _options(rest), rest)


def _canary(what: Settings, options: Options, rest: dict[str, Any]) -> None:
    """Raises HarnessError if the planted attack is not caught, or does nothing."""
    seed = datetime.datetime.now(datetime.UTC).toordinal() if options.seed is None else options.seed
    attack, source = redteam.pick(redteam.load(), what.models, seed)
    if not rest["quiet"]:
        print_error(f"canary: {attack.name} in {source.name} (seed {seed})")
    engine, _ = choose(options.engine, partial(image_problem, what, options))
    store = Store(Path(f"{rest['out']}-redteam"))
    played = redteam.play(
        attack, source, redteam.Scenario.ONE, what.toolchains, what.replayers, what.policy,
        options, engine, store, say_nothing,
    )  # fmt: skip
    if played.missed or played.live:
        raise HarnessError(
            f"the canary was not caught: {attack.name} in {source.name}: "
            f"{played.missed or played.live}",
            f"What the harness says tonight cannot be relied on. See {store.root}, {played.run}.",
        )
    if not rest["quiet"]:
        print_error(f"canary: caught, {'; '.join(f'{k}: {v}' for k, v in played.found.items())}")


def _options(rest: dict[str, Any]) -> Options:
    return Options(
        engine=rest["engine"],
        jobs=rest["jobs"],
        seed=rest["variation_seed"],
        repeat=rest["repeat"],
        resume=rest["resume"],
        fresh=rest["fresh"],
        bisect=not rest["no_bisect"],
        keep=rest["keep"],
        toolchain_folders=tuple(rest["folders"]),
        explanations=rest["explanations"],
        account=not rest["no_accounting"],
        numeric=rest["numeric"],
    )


def _run(what: Settings, options: Options, rest: dict[str, Any]) -> NoReturn:
    console = Terminal(stderr=True)
    progress: Quiet
    if rest["quiet"]:
        progress = Quiet()
    elif console.is_terminal:
        progress = Live(console)
    else:
        progress = Lines(console)
    store = Store(rest["out"])
    with progress:
        engine, notes = choose(options.engine, partial(image_problem, what, options))
        for note in notes:
            progress.say(f"note: {note}")
        request = resolve(what, options, store, notes, progress.say, engine)
        progress.say(f"run {request.run} on the {engine.name} engine")
        report = audit.run(request, engine, store, progress)
        store.save_page(report.run, report_page(report, store))
    show_report(report, store, rest["as_json"], rest["quiet"])
    sys.exit(exit_code(report))
