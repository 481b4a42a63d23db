"""`harness attest`: build, and say so under a builder's signature."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from harness.commands.releasing import FILE, build, release_options, say, signing_of
from harness.errors import UsageError
from harness.models import Policy
from harness.settings import Variations
from harness.signoff.artifact import taken
from harness.signoff.bundle import Bundle
from harness.signoff.interface import Role
from harness.signoff.provenance import LIBRARY
from harness.signoff.publishing import publish, publish_links
from harness.signoff.signing import Run
from harness.verdict import exit_code


@click.command()
@click.argument("model")
@click.option("--copy-to", type=FILE, help="Write the library that was built there, to ship it.")
@release_options
def attest(model: str, copy_to: Path | None, **rest: Any) -> None:
    """Build MODEL and sign what came out, as a builder.

    MODEL is an ONNX file, or the name of a model in nightly.toml. Nothing is signed unless each
    toolchain agrees with itself and everything that was made again came out.
    """
    pen = signing_of(rest, Role.BUILDER).pen
    bundle = Bundle(rest["bundle"])
    repeat = rest["repeat"] or Variations().builds
    policy = Policy(min_builds=min(repeat, Policy().min_builds))
    ran = build(model, policy, rest)
    code = exit_code(ran.report)
    if code:
        say(rest, "nothing is signed: see above")
        sys.exit(code)
    written = publish(ran.report, ran.request, ran.options, ran.store, bundle, pen)
    publish_links(ran.report, bundle, pen)
    if copy_to is not None:
        _copy_library(ran, copy_to)
    say(rest, f"{pen.identity.name} signed {len(written)} builds, in {bundle.root}")


def _copy_library(ran: Run, target: Path) -> None:
    made = {
        artifact.sha256
        for record in ran.report.builds
        for artifact in record.artifacts
        if artifact.stage == LIBRARY
    }
    if len(made) != 1:
        raise UsageError(f"{len(made)} libraries were built", "Name one --toolchain.")
    with taken(ran.store.verified(made.pop()), target) as found:
        found.release(target)
