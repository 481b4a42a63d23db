"""`harness replay-release`: does everything that a bundle's builders signed still come out?"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import cache
from pathlib import Path

import click

from harness import ledger
from harness.commands.common import print_error
from harness.engines.interface import Engine
from harness.engines.select import ENGINES, choose
from harness.errors import HarnessError, UsageError
from harness.models import Verdict
from harness.places import HERE
from harness.signoff.apartfrom import leads_through
from harness.signoff.bundle import Bundle
from harness.signoff.provided import AUTO
from harness.signoff.rebuild import Answer, Answers, Asked, rebuild
from harness.signoff.releasepolicy import load_policy
from harness.signoff.trust import load_trust
from harness.store import Store
from harness.text import printable

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("bundle", type=FILE)
@click.option("--policy", required=True, type=FILE, help="Which explanations count; yours.")
@click.option("--keys", required=True, type=FILE, help="Whose word counts; yours.")
@click.option(
    "--engine",
    type=click.Choice([AUTO, *ENGINES]),
    default=AUTO,
    show_default=True,
    help="How builds are isolated; auto: as it was signed.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=os.cpu_count() or 1,
    metavar="N",
    help="Builds at the same time. [default: number of CPUs]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what was built in this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def replay_release(
    bundle: Path,
    policy: Path,
    keys: Path,
    engine: str,
    jobs: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Build everything again that the statements in BUNDLE tell of, from the bundle alone.

    Exit codes: 0 all of it came out, 1 something did not, 2 no answer: something could not be built
    here.
    """  # fmt: skip
    for option, path in (("--policy", policy), ("--keys", keys)):
        if leads_through(path, bundle):
            raise UsageError(
                f"{option}: {path} lies in the bundle, and who made that would judge himself",
                "give a file of your own, from a place that you trust",
            )
    now = datetime.datetime.now(datetime.UTC)
    asked = Asked(
        engine,
        load_policy(policy),
        ledger.load(HERE / "toolchains" / "explanations.toml", now.date()),
        now.date(),
        jobs,
        f"{now:%Y%m%d-%H%M%S}-replay-{secrets.token_hex(2)}",
    )
    trust = load_trust(keys)
    place = nullcontext(str(out)) if out else tempfile.TemporaryDirectory(prefix="harness-replay-")
    with place as folder:
        found = rebuild(Bundle(bundle), trust, asked, _engines(), Store(Path(folder)), print_error)
    click.echo(_json(found) if as_json else "\n".join(text_of(found)))
    sys.exit(found.verdict.exit_code)


def _engines() -> Callable[[str], Engine]:
    """Each engine that is asked for, tried once; again the same error if it does not work."""

    @cache
    def tried(name: str) -> Engine | HarnessError:
        try:
            return choose(name)[0]
        except HarnessError as problem:
            return problem

    def engine(name: str) -> Engine:
        found = tried(name)
        if isinstance(found, HarnessError):
            raise found
        return found

    return engine


def text_of(found: Answers) -> list[str]:
    lines = []
    for answer in found.answers:
        lines.append(f"{answer.verdict} {answer.build or answer.file}, signed by {answer.signer}")
        if why := answer.refused or answer.unknown:
            lines.append(f"  {why}")
        for stage in answer.stages:
            if stage.verdict is not Verdict.IDENTICAL:
                by = f" by {', '.join(stage.explained_by)}" if stage.explained_by else ""
                reason = f": {stage.reason}" if stage.reason else ""
                lines.append(f"  {stage.stage}: {stage.verdict}{by}{reason}")
        lines += [f"  this machine could not give {name}" for name in answer.not_applied]
    if found.notes:
        lines += ["", "Also in the bundle:", *(f"  {note}" for note in found.notes)]
    lines += ["", _summary(found.answers)]
    return [printable(line, 2000) for line in lines]


def _summary(answers: tuple[Answer, ...]) -> str:
    codes = [answer.verdict.exit_code for answer in answers]
    parts = [
        f"{codes.count(code)} {words}"
        for code, words in ((0, "came out"), (1, "did not come out"), (2, "without an answer"))
        if code in codes
    ]
    return f"{len(codes)} signed builds: {', '.join(parts)}"


def _json(found: Answers) -> str:
    return json.dumps(
        {
            "verdict": found.verdict,
            "builds": [asdict(answer) | {"verdict": answer.verdict} for answer in found.answers],
            "notes": found.notes,
        },
        indent=1,
    )
