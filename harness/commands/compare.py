"""`harness compare`: may we upgrade from one toolchain to another?"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import click

from harness import audit, settings, upgrade, upgrading
from harness.commands.building import progress_of
from harness.commands.common import Terminal, folder_option, out_option
from harness.diverging import Subject
from harness.engines.select import ENGINES, choose
from harness.errors import UsageError
from harness.models import Policy
from harness.pages import report_page
from harness.plan import model_name
from harness.reports import upgrade as page
from harness.resolve import DEFAULT_REPLAYER, Options, image_problem, resolve
from harness.settings import Chosen, Settings, Variations
from harness.sources import ModelSource, parse_input
from harness.store import Store
from harness.text import printable


@click.command()
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=SHAPE",
    help="Fix an input's shape, of models that are files. Can be given several times.",
)
@click.option(
    "--settings",
    "path",
    default="nightly.toml",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where models that are no files are looked up by name.",
)
@click.option(
    "--passes", is_flag=True, help="Build once more with a dump after every pass: which one parts?"
)
@click.option(
    "--cases",
    default=8,
    show_default=True,
    type=click.IntRange(0, 10_000),
    help="Inputs to run both libraries on; 0: do not run them.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Draw the inputs, and the variations of repeats, from this seed.",
)
@click.option(
    "--repeat",
    default=1,
    show_default=True,
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Builds per toolchain; more than one shows a toolchain that differs from itself.",
)
@click.option(
    "--replayer",
    "replayers",
    multiple=True,
    default=[DEFAULT_REPLAYER],
    show_default=True,
    metavar="NAME",
    help="An independent LLVM, for explanations that need a replay.",
)
@click.option("--engine", type=click.Choice(["auto", *ENGINES]), default="auto", show_default=True,
              help="How builds and runs are isolated.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, metavar="N",
              help="Builds at the same time. [default: number of CPUs]")  # fmt: skip
@click.option(
    "--explanations",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Another ledger of accepted differences.",
)
@folder_option
@out_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--quiet", is_flag=True, help="Print no progress.")
def compare(
    left: str, right: str, models: tuple[str, ...], inputs: tuple[str, ...], path: Path,
    passes: bool, cases: int, seed: int, repeat: int, replayers: tuple[str, ...], engine: str,
    jobs: int, explanations: Path | None, extra: tuple[Path, ...], out: Path, as_json: bool,
    quiet: bool,
) -> None:  # fmt: skip
    """Show what changes for each MODEL when toolchain B takes the place of A.

    MODEL is an ONNX file, or the name of a model in nightly.toml. Exit code 0: nothing changes
    beyond printing, 1: something changes, 2: no answer.
    """
    if left == right:
        raise UsageError(f"{printable(left, 120)} is given twice", "Name two toolchains.")
    shapes = dict(parse_input(text) for text in inputs)
    if len(shapes) != len(inputs):
        raise UsageError("an --input is given twice", "Give each input one shape.")
    options = Options(
        engine=engine, jobs=jobs, seed=seed, bisect=False, toolchain_folders=extra,
        explanations=explanations,
    )  # fmt: skip
    what = Settings(
        models=_sources(models, shapes, path),
        toolchains=(left, right),
        variations=Variations(builds=repeat),
        policy=Policy(min_builds=1, min_toolchains=2),
        replayers=tuple(dict.fromkeys(replayers)),
        docker=Chosen((left, right)),
    )
    store = Store(out)
    progress = progress_of(quiet)
    with progress:
        chosen, notes = choose(engine, partial(image_problem, what, options))
        for note in notes:
            progress.say(f"note: {note}")
        request = resolve(what, options, store, notes, progress.say, chosen)
        if len({toolchain.compiler for toolchain in request.toolchains}) > 1:
            raise UsageError(
                f"{left} and {right} are different compilers: they share no stage",
                "Name two toolchains of one compiler.",
            )
        progress.say(f"run {request.run} on the {chosen.name} engine")
        report = audit.run(request, chosen, store, progress)
        store.save_page(report.run, report_page(report, store))
        wanted = upgrading.Wanted(cases, seed, passes)
        subject = Subject(
            request.run, request.toolchains, request.installed, request.ledger, request.today
        )
        found = upgrading.survey(subject, report, chosen, store, wanted, progress.say)
    if as_json:
        click.echo(upgrade.dump(found), nl=False)
    else:
        page.show(found, Terminal(), out)
    sys.exit(found.change.exit_code)


def _sources(
    models: tuple[str, ...], shapes: dict[str, tuple[int, ...]], path: Path
) -> tuple[ModelSource, ...]:
    """Files by their path, the rest by their name in the settings file."""
    found = []
    for model in models:
        file = Path(model)
        if file.exists() or file.suffix == ".onnx":
            found.append(ModelSource(name=model_name(file.stem), path=file, inputs=shapes))
            continue
        known = {source.name: source for source in settings.load(path).models}
        if model not in known:
            raise UsageError(
                f"{printable(model, 200)} is neither a file nor a model of {path}",
                f"Its models are: {', '.join(known)}.",
            )
        found.append(known[model])
    names = [source.name for source in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two models are called {name}", "Rename one of the files.")
    return tuple(found)
