"""`harness run` and `harness nightly`: build, compare, judge, show."""

from __future__ import annotations

import datetime
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from harness import redteam, settings
from harness.commands.building import build_options, carried_out, options_of
from harness.commands.common import F, print_error
from harness.commands.show import show_report
from harness.engines.select import choose
from harness.environments import say_nothing
from harness.errors import HarnessError, UsageError
from harness.models import Policy
from harness.plan import model_name
from harness.resolve import DEFAULT_REPLAYER, Options, default_toolchains, image_problem
from harness.settings import Chosen, Settings, Variations
from harness.sources import ModelSource, parse_input
from harness.store import Store
from harness.verdict import exit_code


def run_options(function: F) -> F:
    """What `run` and `nightly` have in common."""
    decorators = [
        click.option("--numeric", is_flag=True,
                     help="Also run the built libraries: numbers, and inputs that fire a finding."),
        click.option("--no-accounting", is_flag=True,
                     help="Do not hold what was built against the model itself."),
        click.option("--no-bisect", is_flag=True,
                     help="Do not look for the variation that makes repeats differ."),
        click.option("--keep", is_flag=True,
                     help="Keep the builds' folders until the run ends, to look at them."),
        click.option("--json", "as_json", is_flag=True, help="Print report.json instead."),
    ]  # fmt: skip
    for decorator in reversed(decorators):
        function = decorator(function)
    return build_options(function)


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
    options = options_of(rest)
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
        _canary(what, options_of(rest), rest)
    _run(what, options_of(rest), rest)


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


def _run(what: Settings, options: Options, rest: dict[str, Any]) -> NoReturn:
    report, _, _, store = carried_out(what, options, rest)
    show_report(report, store, rest["as_json"], rest["quiet"])
    sys.exit(exit_code(report))
