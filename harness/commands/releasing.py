"""What `harness attest` and `harness sign-off` have in common: options, who signs, the run."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from harness import audit, settings
from harness.commands.building import build_options, carried_out, options_of
from harness.commands.common import F
from harness.commands.show import show_report
from harness.errors import UsageError
from harness.models import Policy
from harness.plan import model_name
from harness.resolve import (
    DEFAULT_REPLAYER,
    Options,
    default_toolchains,
)
from harness.settings import Chosen, Settings, Variations
from harness.signoff import keyless, keylesssigning
from harness.signoff.apartfrom import leads_through
from harness.signoff.interface import Role, Trust
from harness.signoff.pens import KeylessPen, KeyPen, Pen
from harness.signoff.signers import load_signer
from harness.signoff.signing import Run
from harness.signoff.trust import load_trust
from harness.sources import ModelSource, parse_input
from harness.text import printable

FILE = click.Path(path_type=Path)
SIGSTORE = "sigstore:"


def release_options(function: F) -> F:
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
    ]  # fmt: skip
    for decorator in reversed(decorators):
        function = decorator(function)
    return build_options(function)


@dataclass(frozen=True)
class Signing:
    trust: Trust
    pen: Pen
    verifier: keyless.KeylessVerifier | None


def signing_of(rest: dict[str, Any], role: Role) -> Signing:
    """Who signs, and whose word counts; all of it from outside the bundle."""
    key = str(rest["key"])
    given = [("--keys", rest["keys"]), ("--sigstore", rest["sigstore"])]
    given += [("--key", Path(key.removeprefix(SIGSTORE)))]
    outside(*((option, path) for option, path in given if path), bundle=rest["bundle"])
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
    return Signing(trust, pen, verifier)


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


def outside(*given: tuple[str, Path], bundle: Path) -> None:
    for option, path in given:
        if leads_through(path, bundle):
            raise UsageError(
                f"{option}: {path} lies in the bundle, which is handed on",
                "Keep keys and policy elsewhere.",
            )


def build(model: str, policy: Policy, rest: dict[str, Any]) -> Run:
    """The ordinary run about one model, shown as always."""
    options = options_of(rest)
    what = _settings(model, policy, options, rest)
    report, request, engine, store = carried_out(what, options, rest, _refuse_redteam)
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


def _refuse_redteam(request: audit.Request) -> None:
    others = (*request.replayers, *request.linkers.values(), *request.exact.values())
    for toolchain in (*request.toolchains, *(other.toolchain for other in others)):
        if toolchain.redteam:
            raise UsageError(
                f"{toolchain.name} is compromised on purpose ({printable(toolchain.redteam, 80)}): "
                "nothing of it is ever signed",
                "Leave it out.",
            )


def say(rest: dict[str, Any], line: str) -> None:
    if not rest["quiet"]:
        click.echo(line)
