"""`harness sign-off`: say under a signature whether a file may ship."""

from __future__ import annotations

import datetime
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from harness import environments, images, toolchains
from harness.commands.releasing import FILE, Signing, build, outside, release_options, signing_of
from harness.commands.verify import write_page
from harness.engines.docker import Docker
from harness.errors import StoreError, UsageError
from harness.places import HERE
from harness.replay import Replayer
from harness.resolve import (
    folders,
    plain,
)
from harness.signoff import keyless, upstream
from harness.signoff.artifact import taken
from harness.signoff.bundle import Bundle
from harness.signoff.envelope import MAX_BYTES
from harness.signoff.interface import Decision, Rejected, Role
from harness.signoff.releasepolicy import load_policy
from harness.signoff.signing import Release, Run, sign_off
from harness.signoff.telling import told
from harness.store import Store
from harness.tomlfile import read_limited
from harness.verdict import exit_code

LEDGER = HERE / "toolchains" / "explanations.toml"


@click.command("sign-off")
@click.argument("model")
@click.option("--artifact", required=True, type=FILE, help="The file that is about to ship.")
@click.option("--policy", required=True, type=FILE, help="What a release must show.")
@click.option("--release", metavar="NAME", help="What it ships as. [default: the model's name]")
@click.option(
    "--linker", "linkers", multiple=True, metavar="NAME",
    help="A toolchain with which the file may have been linked. Can be given several times.",
)  # fmt: skip
@click.option("--attach", multiple=True, type=FILE,
              help="A signed statement about the model. Can be given several times.")  # fmt: skip
@click.option("--html", type=FILE, help="Write the decision as a page there.")
@release_options
def sign_off_command(
    model: str, artifact: Path, policy: Path, release: str | None, linkers: tuple[str, ...],
    attach: tuple[Path, ...], html: Path | None, **rest: Any,
) -> None:  # fmt: skip
    """Say under a signature whether ARTIFACT is what independent builders make of MODEL.

    It rebuilds, compares with the shipped bytes, replays, accounts, looks at what builders and
    those upstream have signed into the bundle, and decides by policy. A refusal is signed as well.
    Exit codes: 0 it may ship, 1 refused, 2 no answer.
    """
    signing = signing_of(rest, Role.VERIFIER)
    outside(("--policy", policy), bundle=rest["bundle"])
    asked = load_policy(policy)
    bundle = Bundle(rest["bundle"])
    for path in attach:
        _attach(path, bundle, signing)
    store = Store(rest["out"])
    with tempfile.TemporaryDirectory(prefix="harness-artifact-") as scratch:
        with taken(artifact, Path(scratch) / "artifact") as found:
            assert found.copy is not None
            sha256, size = store.add(found.copy)
        if sha256 != found.sha256:
            raise StoreError(f"{artifact}: its copy is not what was read", "Run again.")
    ran = build(model, asked.run, rest)
    wanted = Release(
        file=artifact.name, sha256=sha256, size=size, name=release or ran.report.models[0].name,
        policy=asked, policy_file=policy, ledger_file=rest["explanations"] or LEDGER,
        linkers=_linkers(linkers, ran),
    )  # fmt: skip
    decision = sign_off(
        wanted,
        ran,
        bundle,
        signing.trust,
        signing.pen,
        datetime.datetime.now(datetime.UTC),
        signing.verifier,
    )
    _tell(decision, artifact, bundle, rest)
    if html is not None:
        word = "REFUSED" if decision.refusals else "SIGNED OFF"
        write_page(html, decision, word, artifact, wanted.name)
    with taken(artifact) as after:
        if after.sha256 != sha256:
            raise UsageError(
                f"{artifact} changed while it was judged; the answer is about sha256 {sha256}",
                "Sign off the file that ships.",
            )
    no_answer = exit_code(ran.report) == 2
    sys.exit((2 if no_answer else 1) if decision.refusals else 0)


def _linkers(names: tuple[str, ...], ran: Run) -> tuple[Replayer, ...]:
    """Toolchains with a ``link`` tool, ready to run on the run's engine."""
    known = toolchains.load(folders(ran.options))
    found = []
    for name in names:
        definition = toolchains.find(known, name)
        if "link" not in definition.tools or definition.redteam:
            raise UsageError(
                f"{definition.name} is no linker", "Name a toolchain with a link tool."
            )
        daemon = ran.engine.daemon() if isinstance(ran.engine, Docker) else None
        ready = images.installed(daemon, definition) if daemon else environments.prepare(definition)
        found.append(Replayer(plain(definition), ready))
    return tuple(found)


def _attach(path: Path, bundle: Bundle, signing: Signing) -> None:
    """Put somebody's statement into the bundle; only if it verifies."""
    data = read_limited(path, UsageError, MAX_BYTES)
    if upstream.keyless(data):
        if signing.verifier is None:
            raise UsageError(f"{path} is signed without a key", "Say who may do so: --sigstore.")
        opened = signing.verifier.open(data, path.name)
    else:
        today = datetime.datetime.now(datetime.UTC).date()
        opened = upstream.attach(data, path.name, signing.trust, today)
    if isinstance(opened, Rejected):
        raise UsageError(f"{path} does not count: {opened.reason}", "Leave it out, or mend it.")
    if upstream.keyless(data):
        keyless.keep(bundle.root, data)
    else:
        bundle.add_statement(upstream.sealed(data, signing.trust))


def _tell(decision: Decision, artifact: Path, bundle: Bundle, rest: dict[str, Any]) -> None:
    if not rest["quiet"]:
        word = "REFUSED" if decision.refusals else "SIGNED OFF"
        click.echo("\n".join(told(decision, word, artifact)))
        click.echo(f"\nsigned, in {bundle.root}")
