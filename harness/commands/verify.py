"""`harness verify`: may this artifact be released? Needs no compiler, no engine and no network."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from harness.errors import StoreError, UsageError
from harness.signoff.apartfrom import leads_through
from harness.signoff.artifact import Taken, taken
from harness.signoff.bundle import Bundle
from harness.signoff.interface import Decision, ReleasePolicy, Trust
from harness.signoff.reading import read_bundle
from harness.signoff.releasepolicy import load_policy
from harness.signoff.telling import told
from harness.signoff.trust import load_trust
from harness.signoff.verify import decide
from harness.text import printable

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("artifact", type=FILE)
@click.option("--bundle", required=True, type=FILE, help="Folder of signed statements.")
@click.option("--policy", required=True, type=FILE, help="What a release must show; yours.")
@click.option("--keys", required=True, type=FILE, help="Whose word counts; yours.")
@click.option("--sigstore", type=FILE, help="Whose word counts without a key, through sigstore.")
@click.option("--release", help="The release that it must have been verified as.")
@click.option(
    "--copy-to", type=FILE,
    help="If it may be released, write the very bytes that were judged there.",
)  # fmt: skip
@click.option("--html", type=FILE, help="Write the answer as a page there.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@click.option("--quiet", is_flag=True, help="Print nothing; the exit code is the answer.")
def verify(
    artifact: Path,
    bundle: Path,
    policy: Path,
    keys: Path,
    sigstore: Path | None,
    release: str | None,
    copy_to: Path | None,
    html: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say whether ARTIFACT may be released, by what a bundle of signed statements shows.

    Exit codes: 0 it may, 1 refused, 2 no answer. Policy and keys never come from the bundle.
    """
    for option, path in (("--policy", policy), ("--keys", keys), ("--sigstore", sigstore)):
        if path is not None and leads_through(path, bundle):
            raise UsageError(
                f"{option}: {path} lies in the bundle, and who made that would judge himself",
                "give a file of your own, from a place that you trust",
            )
    with taken(artifact, copy_to) as found:
        asked, trust = load_policy(policy), load_trust(keys)
        decision = _decide(found, Bundle(bundle), trust, sigstore, asked, release)
        if decision.verified and copy_to is not None:
            found.release(copy_to)
    if html is not None:
        write_page(
            html, decision, "VERIFIED" if decision.verified else "REFUSED", artifact, release
        )
    if as_json:
        click.echo(_json(decision, artifact, found, asked))
    elif not quiet:
        click.echo("\n".join(_text(decision, artifact, copy_to)))
    sys.exit(0 if decision.verified else 1)


def _decide(
    found: Taken,
    bundle: Bundle,
    trust: Trust,
    sigstore: Path | None,
    policy: ReleasePolicy,
    release: str | None,
) -> Decision:
    now = datetime.datetime.now(datetime.UTC)
    verifier = None
    if sigstore is not None:  # imported only then: it takes longer than all the rest
        from harness.signoff.keyless import KeylessVerifier, load_keyless

        verifier = KeylessVerifier(load_keyless(sigstore, trust), now.date())
    signed, rejected = read_bundle(bundle, trust, now.date(), verifier)
    if not signed and not rejected:
        raise StoreError(f"{bundle.root}: holds no statements", "name the folder of a bundle")
    return decide(found.sha256, signed, rejected, bundle.material, trust, policy, release, now)


def _word(decision: Decision) -> str:
    return "VERIFIED" if decision.verified else "REFUSED"


def _text(decision: Decision, artifact: Path, copy_to: Path | None) -> Iterator[str]:
    yield from told(decision, _word(decision), artifact)
    if copy_to is not None:
        written = "is a copy of what was judged" if decision.verified else "was not written"
        yield ""
        yield f"{printable(str(copy_to), 500)} {written}"


def write_page(
    path: Path, decision: Decision, word: str, artifact: Path, release: str | None
) -> None:
    from harness.signoff.page import page

    try:
        path.write_text(page(decision, word, str(artifact), release), "utf-8", "backslashreplace")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None


def _json(decision: Decision, artifact: Path, found: Taken, policy: ReleasePolicy) -> str:
    return json.dumps(
        {
            "verified": decision.verified,
            "artifact": {"file": str(artifact), "sha256": found.sha256, "size": found.size},
            "policy_sha256": policy.sha256,
            "refusals": decision.refusals,
            "rests": decision.rests,
            "dissent": decision.dissent,
            "chain": decision.chain,
            "notes": decision.notes,
        },
        indent=1,
    )
