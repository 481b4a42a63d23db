"""The command: its group, how it ends, and what each command is called. No logic.

Exit codes: 0 nothing to explain, 1 a finding, 2 no answer.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import get_completion_class

from harness import __version__, doctor
from harness.commands.common import fail, out_option, print_error
from harness.commands.diff import diff
from harness.commands.explanations import explanations_group
from harness.commands.run import nightly, run
from harness.commands.show import independence_command, show
from harness.commands.toolchains import toolchains_group
from harness.errors import HarnessError, UsageError
from harness.text import printable


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


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="harness")
def main() -> None:
    """Build one ONNX model with several independent compilers and account for every difference.

    Exit codes: 0 nothing to explain, 1 a finding, 2 no answer.
    """
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


for command in (
    run,
    nightly,
    show,
    independence_command,
    diff,
    toolchains_group,
    explanations_group,
):
    main.add_command(command)


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
