"""Lock toolchains anew: ``python toolchains/lock.py TOML…`` (all of this folder if none is named).

For each TOML file, resolves its ``requirements`` and writes the lock beside it: every package with
the sha256 of each of its wheels, one file for Python 3.11 and later. Needs ``uv`` on PATH (or
beside this Python), and asks whichever package index uv is set up for. What was there stays
until the new lock has been read back and found whole. Look at the difference before you commit it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import click

from harness.errors import HarnessError, ToolchainError
from harness.lockfile import parse_lock
from harness.process import run
from harness.toolchains import NOT_TOOLCHAINS, requirements_of

LOWEST_PYTHON = "3.11"
TIMEOUT_SECONDS = 600


def lock(definition: Path, uv: str) -> None:
    """Write the lock of one TOML file. An overlay has none: its base's counts."""
    requirements, sources = requirements_of(definition)
    if not requirements:
        return
    target = definition.parent / f"{definition.name.removesuffix('.toml')}.lock"
    with tempfile.TemporaryDirectory(prefix=".lock-", dir=definition.parent) as folder:
        work = Path(folder)
        (work / "requirements.in").write_text("".join(f"{line}\n" for line in requirements))
        command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
        command += ["--universal", "--python-version", LOWEST_PYTHON]
        command += ["--generate-hashes", "--only-binary", ":all:"]
        command += [part for name in sources for part in ("--no-binary", name)]
        command += ["--output-file", "new.lock", "requirements.in"]
        done = run(command, env=dict(os.environ), cwd=work, timeout=TIMEOUT_SECONDS)
        if done.timed_out or done.exit_code:
            raise ToolchainError(
                f"{definition}: uv could not resolve it: {done.output.strip()[-1000:]}",
                "correct requirements, or check the network",
            )
        parse_lock(work / "new.lock")
        (work / "new.lock").replace(target)
    click.echo(target)


@click.command(help=__doc__)
@click.argument("definitions", nargs=-1, type=click.Path(exists=True, path_type=Path))
def main(definitions: tuple[Path, ...]) -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise click.ClickException("uv is not installed: pip install uv, then try again")
    found = sorted(Path(__file__).parent.glob("*/*.toml"))
    for definition in definitions or [path for path in found if path.name not in NOT_TOOLCHAINS]:
        try:
            lock(definition, uv)
        except HarnessError as problem:
            raise click.ClickException(str(problem)) from None


if __name__ == "__main__":
    main()
