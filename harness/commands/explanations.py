"""`harness explanations`: look after the ledger of accepted differences."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import click

from harness import fixtures, ledger
from harness.commands.common import load_run, out_option
from harness.places import HERE
from harness.store import Store
from harness.text import printable


@click.group("explanations")
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
        report = load_run(store, run_name)
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
