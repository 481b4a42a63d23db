"""Arguments, wiring, exit codes. No logic.

Exit codes: 0 nothing to explain, 1 a finding, 2 no answer.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from platform import machine
from typing import Any, NoReturn, TypeVar

import click
from click.shell_completion import get_completion_class
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import (
    __version__,
    audit,
    doctor,
    environments,
    fixtures,
    images,
    ledger,
    settings,
    toolchains,
)
from harness.comparators.examine import equal, examine, examine_folders
from harness.comparators.interface import Bounds, Examined
from harness.differences import as_json as as_plain
from harness.differences import lines_of
from harness.engines.docker import Docker
from harness.engines.select import ENGINES, choose
from harness.errors import HarnessError, UsageError
from harness.looking import artifacts, details
from harness.models import Policy, Report
from harness.plan import model_name
from harness.records import dump_independence, dump_report
from harness.reports import sharing
from harness.reports.html import HtmlReporter
from harness.reports.interface import Reporter
from harness.reports.json import JsonReporter
from harness.reports.junit import JunitReporter
from harness.reports.markdown import MarkdownReporter
from harness.reports.progress import Lines, Live, Quiet
from harness.reports.sarif import SarifReporter
from harness.reports.terminal import WIDTH, TerminalReporter
from harness.resolve import (
    DEFAULT_REPLAYER,
    HERE,
    Options,
    default_toolchains,
    folders,
    image_problem,
    resolve,
)
from harness.settings import Chosen, Settings, Variations
from harness.sources import ModelSource, parse_input
from harness.store import Store
from harness.text import printable
from harness.verdict import exit_code

F = TypeVar("F", bound=Callable[..., Any])

OUT = "results"
REPORTERS: dict[str, Reporter] = {
    "json": JsonReporter(),
    "junit": JunitReporter(),
    "markdown": MarkdownReporter(),
    "sarif": SarifReporter(),
}
FORMATS = ("html", *REPORTERS)


class _Console(Console):
    """Leaves a reader that has gone away to _Group, where rich would exit with 1: a finding."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _Group(click.Group):
    """Turns every error that a user can act on into one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            fail(error)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # Nobody reads on. Python would complain again when it flushes at its end.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            sys.exit(2)
        except Exception as error:
            # Not a finding, whatever it is: Python's own exit code for it would be one.
            if os.environ.get("HARNESS_DEBUG"):
                print_error(printable(traceback.format_exc(), 100_000, newlines=True))
            words = printable(f"{type(error).__name__}: {error}", 500)
            print_error(f"error: a bug in the harness: {words}")
            print_error("       Please report it, with what HARNESS_DEBUG=1 prints.")
            sys.exit(2)
        except KeyboardInterrupt:
            print_error("interrupted: nothing half-done is kept as whole")
            print_error("what was finished can be used: add --resume RUN to the same command")
            ctx.exit(2)


def fail(error: HarnessError) -> NoReturn:
    print_error(f"error: {error.what}")
    if error.hint:
        print_error(f"       {error.hint}")
    sys.exit(2)


def print_error(line: str) -> None:
    _Console(stderr=True, soft_wrap=True).print(Text(line))


def out_option(function: F) -> F:
    return click.option(
        "--out", default=OUT, type=click.Path(file_okay=False, path_type=Path),
        show_default=True, help="Folder for results.",
    )(function)  # fmt: skip


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


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Build one ONNX model with several independent compilers and account for every difference.

    Exit codes: 0 nothing to explain, 1 a finding, 2 no answer.
    """
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


@main.command()
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


@main.command()
@click.option(
    "--settings",
    "path",
    default="nightly.toml",
    show_default=True,
    type=click.Path(path_type=Path),
    help="What to run.",
)
@run_options
def nightly(path: Path, **rest: Any) -> None:
    """Run everything that nightly.toml lists."""
    _run(settings.load(path), _options(rest), rest)


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
    )


def _run(what: Settings, options: Options, rest: dict[str, Any]) -> NoReturn:
    console = _Console(stderr=True)
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
        store.save_page(report.run, HtmlReporter().render(report, details(report, store)))
    _show(report, store, rest["as_json"], rest["quiet"])
    sys.exit(exit_code(report))


def _show(report: Report, store: Store, as_json: bool, quiet: bool) -> None:
    if as_json:
        click.echo(dump_report(report).decode(), nl=False)
    elif not quiet:
        # Redirected output has no width of its own; a table folded at 80 is harder to read.
        wide = _Console(width=WIDTH)
        TerminalReporter().print(report, _Console() if wide.is_terminal else wide)
        click.echo(f"report: {store.run_folder(report.run) / 'report.html'}")


@main.command()
@click.argument("run_name", metavar="[RUN]", required=False)
@out_option
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", *FORMATS]),
    default="table",
    show_default=True,
    help="Print the report in another form.",
)
def show(run_name: str | None, out: Path, as_json: bool, form: str) -> None:
    """Show a finished run again, or list the runs. RUN may be `latest`."""
    store = Store(out)
    if run_name is None:
        for name in store.runs():
            click.echo(f"{name}  {store.load_report(name).verdict}")
        return
    report = store.load_report(_latest(store) if run_name == "latest" else run_name)
    if form == "html":
        click.echo(HtmlReporter().render(report, details(report, store)), nl=False)
    elif form in REPORTERS:
        click.echo(REPORTERS[form].render(report), nl=False)
    else:
        _show(report, store, as_json, quiet=False)
    sys.exit(exit_code(report))


def _latest(store: Store) -> str:
    runs = store.runs()
    if not runs:
        raise UsageError(f"there is no finished run in {store.root}", "Start one: harness run.")
    return runs[-1]


@main.command("independence")
@click.argument("run_name", metavar="[RUN]", default="latest")
@out_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def independence_command(run_name: str, out: Path, as_json: bool) -> None:
    """Show what the toolchains of a run share. RUN is the latest one by default."""
    store = Store(out)
    report = store.load_report(_latest(store) if run_name == "latest" else run_name)
    if report.independence is None:
        raise UsageError(f"run {report.run} did not look at independence", "Run again.")
    if as_json:
        click.echo(dump_independence(report.independence).decode(), nl=False)
        return
    console = _Console(width=None if sys.stdout.isatty() else WIDTH)
    for part in sharing.parts(report.independence):
        console.print(part, width=WIDTH)


@main.command()
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
        report = store.load_report(_latest(store) if run_name == "latest" else run_name)
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
        console = _Console(soft_wrap=True)
        for line in (*(line for name in found for line in lines_of(name, found[name])), *notes):
            style = {"+": "green", "-": "red", "@": "cyan", "!": "bold"}.get(line[:1], "")
            console.print(Text(line, style=style))
    sys.exit(0 if same else 1)


def _two_places(left: Path, right: Path, bounds: Bounds) -> dict[str, Examined]:
    if left.is_dir() and right.is_dir():
        return examine_folders(left, right, bounds)
    return {f"{left} {right}": examine(left, right, bounds)}


@main.group("toolchains")
def toolchains_group() -> None:
    """List, prepare and check toolchains."""


def folder_option(function: F) -> F:
    return click.option(
        "--toolchains-dir", "extra", multiple=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Another folder of toolchains. Can be given several times.",
    )(function)  # fmt: skip


@toolchains_group.command("list")
@folder_option
def list_toolchains(extra: tuple[Path, ...]) -> None:
    """List all toolchains and what they are for."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("toolchain", "does", "target", "identity"):
        table.add_column(column, no_wrap=True)
    for name, definition in toolchains.load(folders(Options(toolchain_folders=extra))).items():
        tools = ", ".join(definition.tools)
        does = "builds" if definition.driver else f"regenerates: {tools}"
        target = definition.target.get("mcpu", "–")
        table.add_row(Text(name), Text(does), Text(target), definition.identity[:12])
    _Console().print(table)


@toolchains_group.command()
@click.argument("names", nargs=-1)
@click.option("--force", is_flag=True, help="Make them anew.")
@folder_option
def prepare(names: tuple[str, ...], force: bool, extra: tuple[Path, ...]) -> None:
    """Make the environments of toolchains (default: all) from hash-checked packages."""
    known = toolchains.load(folders(Options(toolchain_folders=extra)))
    made = [n for n, d in known.items() if not (d.image and d.image.only) and d.arch == machine()]
    for name in names or made:
        environment = environments.prepare(
            toolchains.find(known, name), force=force, say=click.echo
        )
        click.echo(f"{name}  {environment.sha256[:12]}  {environment.root}")


@toolchains_group.command()
@click.argument("names", nargs=-1)
@click.option(
    "--base-image",
    "references",
    multiple=True,
    envvar="BASE_IMAGE",
    metavar="[BASE=]NAME@sha256:…",
    help="Your own base image instead of Debian's packages. Can be given several times.",
)
@click.option("--buildkit", is_flag=True, help="Build with BuildKit, by the docker command.")
@click.option("--again", is_flag=True, help="Make each base a second time and compare the bytes.")
@folder_option
def build(
    names: tuple[str, ...],
    references: tuple[str, ...],
    buildkit: bool,
    again: bool,
    extra: tuple[Path, ...],
) -> None:
    """Make the container images of toolchains (default: all) without a registry.

    What is there already is not made again.
    """
    known = toolchains.load(folders(Options(toolchain_folders=extra)))
    daemon = Docker().daemon()
    for text in references:
        base, _, reference = text.rpartition("=")
        click.echo(images.use_base(daemon, base or images.DEFAULT_BASE, reference))
    every = [name for name, d in known.items() if d.image and d.image.dockerfile]
    for name in names or every:
        definition = toolchains.find(known, name)
        image = images.ensure(daemon, definition, click.echo, buildkit)
        images.installed(daemon, definition, click.echo)
        click.echo(f"{name}  {image}")
    if again:
        found = [(base, *images.again(daemon, base)) for base in images.BASES]
        for base, first, second in found:
            click.echo(
                f"{base}  {'the same bytes' if first == second else 'OTHER BYTES'}  {second}"
            )
        sys.exit(any(first != second for _, first, second in found))


@toolchains_group.command()
@folder_option
def check(extra: tuple[Path, ...]) -> None:
    """Check every definition, lock and prepared environment. Makes nothing."""
    for name, definition in toolchains.load(folders(Options(toolchain_folders=extra))).items():
        state = "environment verified" if environments.verify(definition) else "not prepared yet"
        click.echo(f"{name}  ok, {state}")


@main.group("explanations")
def explanations_group() -> None:
    """Look after the ledger of accepted differences."""


@explanations_group.command("check")
@click.option(
    "--explanations",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=HERE / "toolchains" / "explanations.toml",
    help="Another ledger; its cases lie in a folder of that name without .toml.",
)
@click.option(
    "--run",
    "run_name",
    metavar="RUN",
    help="Also say which entries this run did not need. RUN may be `latest`.",
)
@out_option
def check_explanations(path: Path, run_name: str | None, out: Path) -> None:
    """Run the cases that each entry must explain, and those that it must not.

    Exit code 1 if an entry lacks a case, fails one, or has expired.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    entries = ledger.load(path, today)
    used = None
    if run_name is not None:
        store = Store(out)
        report = store.load_report(_latest(store) if run_name == "latest" else run_name)
        used = {e for r in report.comparisons for d in r.differences for e in d.explained_by}
    bad = False
    for checked in fixtures.check(entries, path.with_suffix("")):
        entry = checked.entry
        bad = bad or bool(checked.problems)
        click.echo(
            f"{'FAIL' if checked.problems else 'ok  '}  {entry.id}: {entry.kind_class}, must "
            f"explain {checked.explained}, must not explain {checked.refused}; {entry.owner}, "
            f"until {entry.expires}"
        )
        for problem in checked.problems:
            click.echo(f"      {printable(problem, 300)}")
    for late in entries.expired(today):
        bad = True
        click.echo(f"FAIL  {late.id}: expired on {late.expires}, and no longer applies")
    for derivation in entries.derivations:
        click.echo(
            f"ok    {derivation.id}: follows from {derivation.follows} by replays of the builds at "
            f"hand, so it has no cases; {derivation.owner}, until {derivation.expires}"
        )
    for unused in sorted(entries.ids - used) if used is not None else ():
        click.echo(f"note  {unused}: run {run_name} did not need it")
    sys.exit(1 if bad else 0)


@main.command("doctor")
@out_option
def doctor_command(out: Path) -> None:
    """Say what works on this machine, and what to install for the rest."""
    works = True
    for finding in doctor.examine(out):
        mark = {"ok": "ok  ", "weak": "weak", "missing": "FAIL"}[finding.state]
        click.echo(f"{mark}  {finding.what}")
        if finding.hint:
            click.echo(f"      {finding.hint}")
        works = works and finding.state != "missing"
    sys.exit(0 if works else 2)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script: eval "$(harness completion bash)"."""
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"no completion for {shell}", "Use bash, zsh or fish.")
    click.echo(kind(main, {}, "harness", "_HARNESS_COMPLETE").source())
