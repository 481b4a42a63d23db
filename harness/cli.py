"""The command: its group, how it ends, and what each command is called. No logic.

Exit codes: 0 nothing to explain, 1 a finding, 2 no answer.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from importlib import import_module
from typing import Any, NoReturn

import click
from click.shell_completion import get_completion_class

from harness import __version__
from harness.commands.common import fail, print_error
from harness.errors import HarnessError, UsageError
from harness.text import printable

# Each is imported when it is called: one command does not wait for what the others need.
COMMANDS = {
    "run": ("run", "run"),
    "nightly": ("run", "nightly"),
    "show": ("show", "show"),
    "independence": ("show", "independence_command"),
    "diff": ("diff", "diff"),
    "compare": ("compare", "compare"),
    "redteam": ("redteam", "redteam_command"),
    "toolchains": ("toolchains", "toolchains_group"),
    "explanations": ("explanations", "explanations_group"),
    "attest": ("attest", "attest"),
    "sign-off": ("sign_off", "sign_off_command"),
    "verify": ("verify", "verify"),
    "replay-release": ("replay_release", "replay_release"),
    "keys": ("keys", "keys_group"),
    "doctor": ("doctor", "doctor_command"),
}


class _Group(click.Group):
    """Turns every error that a user can act on into one line and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, name = COMMANDS[cmd_name]
        found = getattr(import_module(f"harness.commands.{module}"), name)
        assert isinstance(found, click.Command)
        return found

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


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script: eval "$(harness completion bash)"."""
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"no completion for {shell}", "Use bash, zsh or fish.")
    click.echo(kind(main, {}, "harness", "_HARNESS_COMPLETE").source())
