"""`harness show` and `harness independence`: look at a finished run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.commands.common import Terminal, load_run, out_option, print_error
from harness.errors import StoreError, UsageError
from harness.models import Report
from harness.pages import report_page
from harness.records import dump_independence, dump_report
from harness.reports import sharing
from harness.reports.interface import Reporter
from harness.reports.json import JsonReporter
from harness.reports.junit import JunitReporter
from harness.reports.markdown import MarkdownReporter
from harness.reports.sarif import SarifReporter
from harness.reports.terminal import WIDTH, TerminalReporter
from harness.store import Store
from harness.text import printable
from harness.verdict import exit_code

REPORTERS: dict[str, Reporter] = {
    "json": JsonReporter(),
    "junit": JunitReporter(),
    "markdown": MarkdownReporter(),
    "sarif": SarifReporter(),
}
FORMATS = ("html", *REPORTERS)


@click.command()
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
        damaged = False
        for name in store.runs():
            try:
                click.echo(f"{name}  {store.load_report(name).verdict}")
            except StoreError as error:
                damaged = True
                print_error(f"{name}  cannot be read: {printable(error.what, 300)}")
        sys.exit(2 if damaged else 0)
    report = load_run(store, run_name)
    if form == "html":
        click.echo(report_page(report, store), nl=False)
    elif form in REPORTERS:
        click.echo(REPORTERS[form].render(report), nl=False)
    else:
        show_report(report, store, as_json, quiet=False)
    sys.exit(exit_code(report))


def show_report(report: Report, store: Store, as_json: bool, quiet: bool) -> None:
    if as_json:
        click.echo(dump_report(report).decode(), nl=False)
    elif not quiet:
        # Redirected output has no width of its own; a table folded at 80 is harder to read.
        wide = Terminal(width=WIDTH)
        TerminalReporter().print(report, Terminal() if wide.is_terminal else wide)
        click.echo(f"report: {store.run_folder(report.run) / 'report.html'}")


@click.command("independence")
@click.argument("run_name", metavar="[RUN]", default="latest")
@out_option
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def independence_command(run_name: str, out: Path, as_json: bool) -> None:
    """Show what the toolchains of a run share. RUN is the latest one by default."""
    store = Store(out)
    report = load_run(store, run_name)
    if report.independence is None:
        raise UsageError(f"run {report.run} did not look at independence", "Run again.")
    if as_json:
        click.echo(dump_independence(report.independence).decode(), nl=False)
        return
    console = Terminal(width=None if sys.stdout.isatty() else WIDTH)
    for part in sharing.parts(report.independence):
        console.print(part, width=WIDTH)
