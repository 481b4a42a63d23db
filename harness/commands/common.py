"""What several commands share: options, how errors are printed, which run is the latest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.text import Text

from harness.errors import HarnessError, UsageError
from harness.models import Report
from harness.store import Store
from harness.text import printable

F = TypeVar("F", bound=Callable[..., Any])

OUT = "results"
LONGEST_ERROR = 4000  # characters


class Terminal(Console):
    """Leaves a vanished reader to the command group, where rich would exit with 1: a finding."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def fail(error: HarnessError) -> NoReturn:
    # Where an error quotes a file, that may be a toolchain's: nothing of it acts on the terminal.
    print_error(f"error: {printable(error.what, LONGEST_ERROR, newlines=True)}")
    if error.hint:
        print_error(f"       {printable(error.hint, LONGEST_ERROR, newlines=True)}")
    sys.exit(2)


def print_error(line: str) -> None:
    Terminal(stderr=True, soft_wrap=True).print(Text(line))


def out_option(function: F) -> F:
    return click.option(
        "--out", default=OUT, type=click.Path(file_okay=False, path_type=Path),
        show_default=True, help="Folder for results.",
    )(function)  # fmt: skip


def folder_option(function: F) -> F:
    return click.option(
        "--toolchains-dir", "extra", multiple=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Another folder of toolchains. Can be given several times.",
    )(function)  # fmt: skip


def load_run(store: Store, name: str) -> Report:
    """The report of a run; ``latest`` is the newest one."""
    if name != "latest":
        return store.load_report(name)
    runs = store.runs()
    if not runs:
        raise UsageError(f"there is no finished run in {store.root}", "Start one: harness run.")
    return store.load_report(runs[-1])
