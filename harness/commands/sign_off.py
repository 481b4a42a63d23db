"""`harness attest` and `harness sign-off`: build, and say so under a signature."""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from harness import audit, settings
from harness.commands.common import F, Terminal, out_option
from harness.commands.show import show_report
from harness.engines.select import ENGINES, choose
from harness.errors import StoreError, UsageError
from harness.models import Policy, Report
from harness.pages import report_page
from harness.places import HERE
from harness.plan import model_name
from harness.reports.progress import Lines, Live, Quiet
from harness.resolve import DEFAULT_REPLAYER, Options, default_toolchains, image_problem, resolve
from harness.settings import Chosen, Settings, Variations
from harness.signoff import keyless, keylesssigning, upstream
from harness.signoff.apartfrom import leads_through
from harness.signoff.artifact import taken
from harness.signoff.bundle import Bundle
from harness.signoff.envelope import MAX_BYTES
from harness.signoff.interface import Decision, Role, Trust
from harness.signoff.pens import KeylessPen, KeyPen, Pen
from harness.signoff.provenance import LIBRARY
from harness.signoff.publishing import publish, publish_links
from harness.signoff.releasepolicy import load_policy
from harness.signoff.signers import load_signer
from harness.signoff.signing import Release, Run, sign_off
from harness.signoff.telling import told
from harness.signoff.trust import load_trust
from harness.sources import ModelSource, parse_input
from harness.store import Store
from harness.text import printable
from harness.tomlfile import read_limited
from harness.verdict import exit_code

FILE = click.Path(path_type=Path)
SIGSTORE = "sigstore:"
LEDGER = HERE / "toolchains" / "explanations.toml"


def build_options(function: F) -> F:
    """What is built, and by whom it is said."""
    decorators = [
        click.option("--bundle", required=True, type=FILE, help="Folder of signed statements."),
        click.option("--keys", required=True, type=FILE, help="Whose word counts."),
        click.option("--key", required=True, metavar="FILE|URI",
                     help="The private key to sign with; sigstore:[TOKEN FILE] for none."),
        click.option("--identity", metavar="NAME",
                     help="Whose key it is, in the trust file; needed for a URI."),
        click.option("--sigstore", type=FILE, help="Who may sign without a key, through sigstore."),
        click.option("--sigstore-instance", "instance", type=FILE,
                     help="A sigstore instance. [default: the public one]"),
        click.option("--input", "inputs", multiple=True, metavar="NAME=SHAPE",
                     help="Fix an input's shape, of a model that is a file."),
        click.option("--settings", "path", default="nightly.toml", show_default=True, type=FILE,
                     help="Where a model that is no file is looked up, with its toolchains."),
        click.option("--toolchain", "names", multiple=True, metavar="NAME",
                     help="A toolchain to build with. Can be given several times."),
        click.option("--replayer", "replayers", multiple=True, metavar="NAME",
                     help="An independent LLVM that regenerates stages."),
        click.option("--repeat", type=click.IntRange(1, 1000), metavar="N",
                     help="Builds per toolchain; the first is the control."),
        click.option("--variation-seed", type=click.IntRange(0), metavar="SEED",
                     help="Draw the variations from this seed."),
        click.option("--engine", type=click.Choice(["auto", *ENGINES]), default="auto",
                     show_default=True, help="How builds are isolated."),
        click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, metavar="N",
                     help="Builds at the same time. [default: number of CPUs]"),
        click.option("--toolchains-dir", "folders", multiple=True,
                     type=click.Path(exists=True, file_okay=False, path_type=Path),
                     help="Another folder of toolchains. Can be given several times."),
        click.option("--explanations", type=click.Path(dir_okay=False, path_type=Path),
                     help="Another ledger of accepted differences."),
        click.option("--fresh", is_flag=True, help="Use nothing that earlier runs remembered."),
        out_option,
        click.option("--quiet", is_flag=True, help="Print no progress and no table."),
    ]  # fmt: skip
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


@click.command()
@click.argument("model")
@click.option("--copy-to", type=FILE, help="Write the library that was built there, to ship it.")
@build_options
def attest(model: str, copy_to: Path | None, **rest: Any) -> None:
    """Build MODEL and sign what came out, as a builder.

    MODEL is an ONNX file, or the name of a model in nightly.toml. Nothing is signed unless each
    toolchain agrees with itself and everything that was made again came out.
    """
    pen = _signing(rest, Role.BUILDER).pen
    bundle = Bundle(rest["bundle"])
    repeat = rest["repeat"] or Variations().builds
    policy = Policy(min_builds=min(repeat, Policy().min_builds))
    ran = _build(model, policy, rest)
    code = exit_code(ran.report)
    _refuse_redteam(ran.report)
    if code:
        _say(rest, "nothing is signed: see above")
        sys.exit(code)
    written = publish(ran.report, ran.request, ran.options, ran.store, bundle, pen)
    publish_links(ran.report, bundle, pen)
    if copy_to is not None:
        _copy_library(ran, copy_to)
    _say(rest, f"{pen.identity.name} signed {len(written)} builds, in {bundle.root}")


@click.command("sign-off")
@click.argument("model")
@click.option("--artifact", required=True, type=FILE, help="The file that is about to ship.")
@click.option("--policy", required=True, type=FILE, help="What a release must show.")
@click.option("--release", metavar="NAME", help="What it ships as. [default: the model's name]")
@click.option("--attach", multiple=True, type=FILE,
              help="A signed statement about the model. Can be given several times.")  # fmt: skip
@build_options
def sign_off_command(
    model: str, artifact: Path, policy: Path, release: str | None, attach: tuple[Path, ...],
    **rest: Any,
) -> None:  # fmt: skip
    """Say under a signature whether ARTIFACT is what independent builders make of MODEL.

    It rebuilds, compares with the shipped bytes, replays, accounts, looks at what builders and
    those upstream have signed into the bundle, and decides by policy. A refusal is signed as well.
    Exit codes: 0 it may ship, 1 refused, 2 no answer.
    """
    signing = _signing(rest, Role.VERIFIER)
    _outside(("--policy", policy), bundle=rest["bundle"])
    asked = load_policy(policy)
    bundle = Bundle(rest["bundle"])
    for path in attach:
        data = read_limited(path, UsageError, MAX_BYTES)
        if upstream.keyless(data):
            keyless.keep(bundle.root, data)
        else:
            bundle.add_statement(upstream.sealed(data, signing.trust))
    store = Store(rest["out"])
    with tempfile.TemporaryDirectory(prefix="harness-artifact-") as scratch:
        with taken(artifact, Path(scratch) / "artifact") as found:
            assert found.copy is not None
            sha256, size = store.add(found.copy)
        if sha256 != found.sha256:
            raise StoreError(f"{artifact}: its copy is not what was read", "Run again.")
    ran = _build(model, asked.run, rest)
    _refuse_redteam(ran.report)
    wanted = Release(
        file=artifact.name, sha256=sha256, size=size, name=release or ran.report.models[0].name,
        policy=asked, policy_file=policy, ledger_file=rest["explanations"] or LEDGER,
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
    with taken(artifact) as after:
        if after.sha256 != sha256:
            raise UsageError(
                f"{artifact} changed while it was judged; the answer is about sha256 {sha256}",
                "Sign off the file that ships.",
            )
    no_answer = exit_code(ran.report) == 2
    sys.exit((2 if no_answer else 1) if decision.refusals else 0)


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


@dataclass(frozen=True)
class _Signing:
    trust: Trust
    pen: Pen
    verifier: keyless.KeylessVerifier | None


def _signing(rest: dict[str, Any], role: Role) -> _Signing:
    """Who signs, and whose word counts; all of it from outside the bundle."""
    key = str(rest["key"])
    given = [("--keys", rest["keys"]), ("--sigstore", rest["sigstore"])]
    given += [("--key", Path(key.removeprefix(SIGSTORE)))]
    _outside(*((option, path) for option, path in given if path), bundle=rest["bundle"])
    trust = load_trust(rest["keys"])
    today = datetime.datetime.now(datetime.UTC).date()
    known = keyless.load_keyless(rest["sigstore"], trust) if rest["sigstore"] else None
    verifier = keyless.KeylessVerifier(known, today) if known else None
    if key.startswith(SIGSTORE):
        pen: Pen = _without_key(rest, key.removeprefix(SIGSTORE), known, verifier)
    else:
        signer, identity, _ = load_signer(key, trust, rest["identity"], today)
        pen = KeyPen(signer, identity, trust, today)
    if pen.identity.role is not role:
        raise UsageError(
            f"{pen.identity.name} is a {pen.identity.role}, and this is signed by a {role}",
            f"Give the key of a {role}.",
        )
    return _Signing(trust, pen, verifier)


def _without_key(
    rest: dict[str, Any],
    token: str,
    known: keyless.KeylessTrust | None,
    verifier: keyless.KeylessVerifier | None,
) -> KeylessPen:
    if known is None or verifier is None:
        raise UsageError("--key sigstore: needs --sigstore", "Say who may sign so.")
    found = [each.identity for each in known.identities if each.identity.name == rest["identity"]]
    if not found:
        raise UsageError(
            f"--identity names none of {rest['sigstore']}",
            f"It has {', '.join(each.identity.name for each in known.identities) or 'none'}.",
        )
    proof = keylesssigning.identity_token(Path(token) if token else None)
    return KeylessPen(found[0], proof, rest["instance"], verifier)


def _outside(*given: tuple[str, Path], bundle: Path) -> None:
    for option, path in given:
        if leads_through(path, bundle):
            raise UsageError(
                f"{option}: {path} lies in the bundle, which is handed on",
                "Keep keys and policy elsewhere.",
            )


def _build(model: str, policy: Policy, rest: dict[str, Any]) -> Run:
    """The ordinary run about one model, shown as always."""
    options = Options(
        engine=rest["engine"], jobs=rest["jobs"], seed=rest["variation_seed"],
        repeat=rest["repeat"], fresh=rest["fresh"], toolchain_folders=tuple(rest["folders"]),
        explanations=rest["explanations"],
    )  # fmt: skip
    what = _settings(model, policy, options, rest)
    store = Store(rest["out"])
    progress = _progress(rest["quiet"])
    with progress:
        engine, notes = choose(options.engine, partial(image_problem, what, options))
        for note in notes:
            progress.say(f"note: {note}")
        request = resolve(what, options, store, notes, progress.say, engine)
        progress.say(f"run {request.run} on the {engine.name} engine")
        report = audit.run(request, engine, store, progress)
        store.save_page(report.run, report_page(report, store))
    show_report(report, store, False, rest["quiet"])
    return Run(report, request, options, engine, store)


def _settings(model: str, policy: Policy, options: Options, rest: dict[str, Any]) -> Settings:
    """One model: a file, with toolchains by option; or one of the settings file, with its own."""
    names, replayers = tuple(dict.fromkeys(rest["names"])), tuple(dict.fromkeys(rest["replayers"]))
    file = Path(model)
    if file.exists() or file.suffix == ".onnx":
        shapes = dict(parse_input(text) for text in rest["inputs"])
        if len(shapes) != len(rest["inputs"]):
            raise UsageError("an --input is given twice", "Give each input one shape.")
        source = ModelSource(name=model_name(file.stem), path=file, inputs=shapes)
        return Settings(
            (source,),
            names or default_toolchains(options),
            Variations(),
            policy,
            replayers or (DEFAULT_REPLAYER,),
            Chosen(() if names else default_toolchains(options, containers=True)),
        )
    known = settings.load(rest["path"])
    found = [source for source in known.models if source.name == model]
    if not found:
        raise UsageError(
            f"{printable(model, 200)} is neither a file nor a model of {rest['path']}",
            f"Its models are: {', '.join(source.name for source in known.models)}.",
        )
    without = tuple(each for each in known.without if each.model == model)
    chosen = replace(known, models=tuple(found), policy=policy, without=without)
    docker = known.docker or Chosen()
    if names:
        chosen = replace(chosen, toolchains=names, without=())
        docker = replace(docker, toolchains=names)
    if replayers:
        chosen = replace(chosen, replayers=replayers)
        docker = replace(docker, replayers=replayers)
    return replace(chosen, docker=docker)


def _refuse_redteam(report: Report) -> None:
    for toolchain in report.toolchains:
        if toolchain.redteam:
            raise UsageError(
                f"{toolchain.name} is compromised on purpose ({printable(toolchain.redteam, 80)}): "
                "nothing of it is ever signed",
                "Leave it out.",
            )


def _progress(quiet: bool) -> Quiet:
    if quiet:
        return Quiet()
    console = Terminal(stderr=True)
    return Live(console) if console.is_terminal else Lines(console)


def _say(rest: dict[str, Any], line: str) -> None:
    if not rest["quiet"]:
        click.echo(line)


def _tell(decision: Decision, artifact: Path, bundle: Bundle, rest: dict[str, Any]) -> None:
    if not rest["quiet"]:
        word = "REFUSED" if decision.refusals else "SIGNED OFF"
        click.echo("\n".join(told(decision, word, artifact)))
        click.echo(f"\nsigned, in {bundle.root}")
