"""`harness doctor`: what works on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness import doctor
from harness.commands.common import out_option


@click.command("doctor")
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
