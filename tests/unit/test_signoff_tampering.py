"""The table of tampering: each way to cheat is refused by the real command, for the right reason.

Every row starts from a release that verifies (the first test), changes one thing, and says with
which code `harness verify` ends and what it has to say. Where the liar holds a key that is trusted,
the row signs anew with that key: then the cross checks have to catch it.
"""

from __future__ import annotations

import base64
import datetime
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from securesystemslib.signer import CryptoSigner

from harness.cli import main
from harness.signoff import bundle as bundle_module
from harness.signoff.profilematerial import profile_material
from harness.signoff.statements import bill_statement
from tests.unit.samples import sha
from tests.unit.signoff_release import (
    ARTIFACT,
    POLICY,
    RELEASE,
    TODAY,
    A,
    B,
    Change,
    Release,
    bill,
    keyid,
    profile,
    release,
    sealed,
    trusted,
)

DEF, RUN = "predicate.buildDefinition", "predicate.runDetails"
OWN, GIVEN = f"{DEF}.internalParameters", f"{DEF}.externalParameters"
DAY = datetime.timedelta(days=1)

Tamper = Callable[[Release], object]
After = Callable[[Path], list[str] | None]


@dataclass(frozen=True)
class Case:
    """``after``: what is done to the files once all are laid out; it may return more arguments."""

    name: str
    code: int
    reason: str
    tamper: Tamper = lambda r: None
    after: After = lambda folder: None


def place(path: str, data: Any) -> tuple[Any, Any]:
    """(what holds the last step of ``path``, that step). Steps are joined by dots."""
    *above, last = (int(step) if step.isdigit() else step for step in path.split("."))
    for step in above:
        data = data[step]
    return data, last


def put(path: str, value: Any) -> Change:
    def change(statement: Any) -> None:
        holder, last = place(path, statement)
        holder[last] = value(holder[last]) if callable(value) else value

    return change


def cut(path: str) -> Change:
    def change(statement: Any) -> None:
        holder, last = place(path, statement)
        del holder[last]

    return change


def both(*changes: Change) -> Change:
    def change(statement: Any) -> None:
        for each in changes:
            each(statement)

    return change


def forged(name: str, change: Change) -> Tamper:
    return lambda r: r.forge(name, change)


def signed_by(name: str, change: Change, *signers: str) -> Tamper:
    return lambda r: r.change(name, change, *signers)


def lie(name: str, change: Change) -> Tamper:
    return lambda r: r.lie(name, change)


def spelled(change: Callable[[bytes], bytes], name: str = "builder-a") -> Tamper:
    return lambda r: r.spell(name, change)


def wrapped(change: Callable[[dict[str, Any]], object], name: str = "builder-a") -> Tamper:
    return lambda r: r.wrap(name, change)


def raw(change: Callable[[bytes], bytes], name: str = "builder-a") -> Tamper:
    def tamper(r: Release) -> None:
        r.files[name] = change(r.sealed(name))

    return tamper


def dropped(name: str) -> Tamper:
    return lambda r: r.drop(name)


def several(*tampers: Tamper) -> Tamper:
    def tamper(r: Release) -> None:
        for each in tampers:
            each(r)

    return tamper


def attribute(name: str, value: Any) -> Tamper:
    return lambda r: setattr(r, name, value)


def entry(who: str, **changes: Any) -> Tamper:
    """Changes in the trust file's entry of a key."""
    return lambda r: r.identities[who][0].update(changes)


def policy(change: Callable[[str], str], *, anew: bool = True) -> Tamper:
    """Another policy. ``anew``: the verifier passed the artifact under that one."""

    def tamper(r: Release) -> None:
        r.policy = change(r.policy)
        assert r.policy != POLICY
        if anew:
            r.lie("evidence", put("predicate.policy_sha256", sha(r.policy)))
            r.change("summary", put("predicate.policy.digest.sha256", sha(r.policy)))

    return tamper


def swap(text: str, by: str, *, anew: bool = True) -> Tamper:
    return policy(lambda old: old.replace(text, by), anew=anew)


def to_link(name: str) -> After:
    """Move a file or folder away, and leave a link to it in its place."""

    def after(folder: Path) -> None:
        here = folder / name
        there = folder / "elsewhere"
        here.rename(there)
        here.symlink_to(there)

    return after


def inside(option: str, file: str) -> After:
    """Name the policy or trust file that came with the bundle, a copy of the right one."""

    def after(folder: Path) -> list[str]:
        (folder / "bundle" / file).write_bytes((folder / file).read_bytes())
        return [option, str(folder / "bundle" / file)]

    return after


def linked_inside(folder: Path) -> list[str]:
    (folder / "bundle/policy.toml").write_bytes((folder / "policy.toml").read_bytes())
    (folder / "mine.toml").symlink_to(folder / "bundle/policy.toml")
    return ["--policy", str(folder / "mine.toml")]


def fifo(name: str) -> After:
    def after(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return after


def on_file(name: str, change: Callable[[Path], object]) -> After:
    def after(folder: Path) -> None:
        change(folder / name)

    return after


def to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def profile_of(r: Release, builder: str) -> str:
    return str(place(f"{RUN}.byproducts.0.digest.sha256", r.statements[builder])[0]["sha256"])


def with_profile(builder: str, data: bytes) -> Tamper:
    """The builder names another profile of its toolchain, and hands it over."""

    def tamper(r: Release) -> None:
        r.materials[sha(data)] = data
        r.lie(builder, put(f"{RUN}.byproducts.0.digest.sha256", sha(data)))

    return tamper


def without_material(builder: str) -> Tamper:
    return lambda r: r.materials.pop(profile_of(r, builder))


def damaged_material(r: Release) -> None:
    r.materials[profile_of(r, "builder-a")] += b" "


def all_siblings(statement: Any) -> None:
    for each in place(f"{OWN}.siblings", statement)[0]["siblings"]:
        each["library"] = sha("else")


def another_library(statement: Any) -> None:
    """The builder made something else, and says so without contradicting itself."""
    put("subject.2.digest.sha256", sha("else"))(statement)
    all_siblings(statement)


def one_library_of_two(statement: Any) -> None:
    """The control made another library than the varied build."""
    put("subject.2.digest.sha256", sha("else"))(statement)
    put(f"{OWN}.siblings.0.library", sha("else"))(statement)


def siblings_of_two(statement: Any) -> None:
    put(f"{OWN}.siblings.0.library", sha("else"))(statement)


def told_as_control(statement: Any) -> None:
    """The varied build is another statement about the control."""
    for name in (f"{RUN}.metadata.invocationId", f"{OWN}.siblings.1.build"):
        put(name, lambda old: old.replace("varied", "control"))(statement)
    cut(f"{OWN}.siblings.0")(statement)


def second_key(r: Release) -> None:
    r.identities["builder-a"].append(trusted("builder-a"))


def key_of_two(r: Release) -> None:
    """One key signs for two builders."""
    r.identities["builder-b"] = [trusted("builder-a")]


def other_spelling(r: Release) -> None:
    twin = trusted("builder-a")
    twin["public"] = twin["public"].replace("\n", "\r\n") + "\r\n"
    r.identities["builder-b"] = [twin]


def other_keyid(r: Release) -> None:
    r.identities["builder-b"] = [trusted("builder-a") | {"keyid": "0" * 64}]


def two_roles(r: Release) -> None:
    r.trust = r.trust_text() + r.trust_text().partition('[[identity]]\nname = "builder-b"')[0]


def certificate(r: Release) -> None:
    public = r.identities["builder-a"][0]["public"].replace("PUBLIC KEY", "CERTIFICATE")
    r.identities["builder-a"][0]["public"] = public


def rsa(r: Release) -> None:
    from securesystemslib.signer import SSlibKey

    public = CryptoSigner.generate_rsa().public_key
    assert isinstance(public, SSlibKey)
    entry("builder-a", keyid=public.keyid, scheme=public.scheme, public=public.keyval["public"])(r)


def rotated(r: Release) -> None:
    """Two statements of one builder, each with a key of its own: still one builder."""
    r.identities["builder-b"] = [trusted("builder-b")]
    r.identities["builder-a"].append(trusted("builder-a2"))
    r.statements["builder-b"] = json.loads(json.dumps(r.statements["builder-a"]))
    r.signers["builder-b"] = ("builder-a2",)


def second_verifier(r: Release) -> None:
    r.roles["verifier-w"] = "verifier"
    r.identities["verifier-w"] = [trusted("verifier-w")]


def bill_by_another(r: Release) -> None:
    second_verifier(r)
    r.signers["bill"] = ("verifier-w",)


def evidence_by_another(r: Release) -> None:
    second_verifier(r)
    r.signers["evidence"] = ("verifier-w",)


def second_evidence(r: Release) -> None:
    """The summary rests on two pieces of evidence, so nobody knows which of them it means."""
    r.statements["evidence-2"] = json.loads(json.dumps(r.statements["evidence"]))
    r.signers["evidence-2"] = ("verifier-v",)
    put("predicate.run.seed", 2)(r.statements["evidence-2"])
    new = {"uri": "statements/evidence-2.json", "digest": {"sha256": r.digest("evidence-2")}}
    r.change("summary", lambda s: s["predicate"]["inputAttestations"].append(new))


def rests_without(name: str) -> Tamper:
    def tamper(r: Release) -> None:
        gone = r.digest(name)
        rests = r.statements["summary"]["predicate"]["inputAttestations"]
        rests[:] = [rest for rest in rests if rest["digest"]["sha256"] != gone]

    return tamper


def other_model(r: Release) -> None:
    """Builder A's statement about another model stands in for the one about this model."""
    r.lie("builder-a", put(f"{DEF}.resolvedDependencies.0.digest.sha256", sha("m2")))


def older_release(r: Release) -> None:
    """Everything is of an older release of the same bytes, and is shown as the new one."""
    r.lie("evidence", put("predicate.release", "m 0.9"))
    r.change("summary", put("predicate.resourceUri", "m 0.9"))
    r.extra = ["--release", RELEASE]


def older_artifact(r: Release) -> None:
    """What was said of the last release's artifact is shown beside a new one."""
    r.artifact = b"the new artifact"


def verified_at(moment: datetime.datetime) -> Tamper:
    return signed_by("summary", put("predicate.timeVerified", f"{moment:%Y-%m-%dT%H:%M:%SZ}"))


def other_bill(r: Release) -> None:
    """The bill of another model, as our own writer makes it."""
    content = bill()
    content["components"][0]["hashes"][0]["content"] = sha("m2")
    new = bill_statement(file="model.so", sha256=sha(ARTIFACT), bill=content)
    r.lie("bill", lambda s: s.update(new))


def many_files(folder: Path) -> None:
    for number in range(bundle_module.MAX_STATEMENTS):
        (folder / f"bundle/statements/{number}.json").touch()


def huge(folder: Path) -> None:
    with (folder / "bundle/statements/builder-a.json").open("r+b") as file:
        file.truncate(9 * 2**20)


def empty_bundle(folder: Path) -> None:
    for file in (folder / "bundle/statements").iterdir():
        file.unlink()


def repeated(name: bytes) -> Callable[[bytes], bytes]:
    """``name`` is there twice in the payload; the second one is what most parsers take."""
    return lambda data: data.replace(b'"%s":' % name, b'"%s":"x","%s":' % (name, name), 1)


def b64(change: Callable[[str], str]) -> Callable[[dict[str, Any]], object]:
    return lambda envelope: envelope.update(payload=change(envelope["payload"]))


def padded(text: str) -> str:
    """Another spelling of the same bytes: bits of the last character that nobody reads."""
    data = base64.b64decode(text)
    if len(data) % 3 == 0:
        return text + "===="
    body, pad = text.rstrip("="), text[len(text.rstrip("=")) :]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    twin = body[:-1] + alphabet[alphabet.index(body[-1]) + 1] + pad
    assert base64.b64decode(twin) == data
    return twin


def retyped(r: Release) -> None:
    """Signed, with a good signature, as something that is no in-toto statement."""
    payload = base64.b64decode(json.loads(r.sealed("builder-a"))["payload"])
    r.files["builder-a"] = sealed(payload, ("builder-a",), "application/json")


SHORT = {"builder-a": "builders that made this artifact: 2 (builder-b, builder-c), 3 required"}
NOBODY = "verifiers that passed this artifact under this policy: 0, 1 required"
PARTS = {
    "builder-a": f"{OWN}.isolation",
    "own-0": f"{OWN}.redteam",
    "evidence": "predicate.verdict",
    "summary": "predicate.verificationResult",
    "bill": "predicate.version",
    "train": f"{DEF}.buildType",
}
seal_of_b = f"{keyid('builder-b')}"

CASES = [
    # Whose signature it is
    *(Case(f"{name}: changed, the signature kept", 1, "does not verify",
           forged(name, put(path, "x"))) for name, path in PARTS.items()),
    *(Case(f"{name}: changed, signed by a stranger", 1, f"unknown key {keyid('stranger')}",
           signed_by(name, put(path, "x"), "stranger")) for name, path in PARTS.items()),
    Case("one builder's key signs for another", 1, "signed by builder-b and speaks as builder-a",
         signed_by("builder-a", lambda s: None, "builder-b")),
    Case("a builder speaks as another builder", 1, "signed by builder-a and speaks as builder-b",
         lie("builder-a", put(f"{RUN}.builder.id", "builder-b"))),
    Case("a verifier speaks as a builder", 1, "signed by verifier-v and speaks as builder-a",
         signed_by("builder-a", lambda s: None, "verifier-v")),
    Case("the verifier's own build in place of a builder's", 1, SHORT["builder-a"],
         signed_by("builder-a", put(f"{RUN}.builder.id", "verifier-v"), "verifier-v")),
    Case("a builder signs the evidence", 1, "signed by builder builder-a, who may not state",
         signed_by("evidence", lambda s: None, "builder-a")),
    Case("a builder signs the summary", 1, "signed by builder builder-a, who may not state",
         signed_by("summary", put("predicate.verifier.id", "builder-a"), "builder-a")),
    Case("an upstream signs the summary", 1, "its signer is upstream, which may not state",
         signed_by("summary", put("predicate.verifier.id", "trainer-t"), "trainer-t")),
    Case("a builder signs the training", 1, "no upstream statement is of step 'train'",
         signed_by("train", lambda s: None, "builder-a")),
    Case("another verifier signs the evidence", 1, "rests on 0 pieces of evidence by verifier-v",
         evidence_by_another),
    Case("another verifier signs the bill", 1, "rests on no bill of materials of this artifact by",
         bill_by_another),
    Case("no signature", 1, "signatures is no list of 1 to 16",
         wrapped(lambda e: e["signatures"].clear())),
    Case("seventeen signatures", 1, "signatures is no list of 1 to 16",
         wrapped(lambda e: e.update(signatures=e["signatures"] * 17))),
    Case("a signature of no bytes", 1, "a signature has 0 bytes",
         wrapped(lambda e: e["signatures"][0].update(sig=""))),
    Case("a signature under another builder's identifier", 1, "does not verify",
         wrapped(lambda e: e["signatures"][0].update(keyid=seal_of_b))),
    Case("a signature under no known identifier", 1, "unknown key 0000",
         wrapped(lambda e: e["signatures"][0].update(keyid="0" * 64))),
    Case("a signature under an identifier in capitals", 1, "unknown key",
         wrapped(lambda e: e["signatures"][0].update(keyid=keyid("builder-a").upper()))),
    Case("the same signature twice", 1, "two signatures by one key",
         wrapped(lambda e: e["signatures"].append(e["signatures"][0]))),
    Case("a bad signature beside a good one", 1, "does not verify",
         wrapped(lambda e: e["signatures"].append(e["signatures"][0] | {"keyid": seal_of_b}))),
    Case("a field beside the signature", 1, "a signature has an unknown key: 'cert'",
         wrapped(lambda e: e["signatures"][0].update(cert="x"))),
    Case("one builder, two keys, two statements", 1, "builders that made this artifact: 2 "
         "(builder-a, builder-c)", rotated),
    # The trust file
    Case("a key twice in one identity", 2, "has a key that builder-a has already", second_key),
    Case("one key for two builders", 2, "has a key that builder-a has already", key_of_two),
    Case("one key for two builders, spelled otherwise", 2, "has already", other_spelling),
    Case("one key for two builders, under another identifier", 2, "the key's own identifier is",
         other_keyid),
    Case("one name with two entries", 2, "identity builder-a is there twice", two_roles),
    Case("an OpenPGP key", 2, "not the PEM of an Ed25519",
         entry("builder-a", public="-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQENBF\n")),
    Case("an OpenPGP key's scheme", 2, "is none of", entry("builder-a", scheme="pgp+eddsa")),
    Case("subkeys", 2, "subkeys: unknown key", entry("builder-a", subkeys="x")),
    Case("a certificate in place of a key", 2, "not the PEM of an Ed25519", certificate),
    Case("an RSA key", 2, "is none of", rsa),
    Case("another scheme for the key", 2, "not for ecdsa",
         entry("builder-a", scheme="ecdsa-sha2-nistp256")),
    Case("a day that is none", 2, "is no day", entry("builder-a", until="2026-02-30")),
    Case("revoked, no reason given", 2, "revoked without a reason", entry("builder-a", revoked="")),
    Case("a role that there is not", 2, "role", lambda r: r.roles.update({"builder-a": "admin"})),
    Case("a misspelled key of the trust file", 2, "unknown key",
         entry("builder-a", revokd="laptop lost")),
    Case("a builder's key is revoked", 1, "signed by builder-a with a key revoked: laptop lost",
         entry("builder-a", revoked="laptop lost")),
    Case("a builder's key has expired", 1, f"with a key expired on {TODAY - DAY:%Y-%m-%d}",
         entry("builder-a", until=f"{TODAY - DAY:%Y-%m-%d}")),
    Case("a builder's key is not valid yet", 1, f"a key not valid before {TODAY + DAY:%Y-%m-%d}",
         entry("builder-a", since=f"{TODAY + DAY:%Y-%m-%d}")),
    Case("the verifier's key is revoked", 1, "signed by verifier-v with a key revoked: left",
         entry("verifier-v", revoked="left")),
    Case("the trainer's key has expired", 1, "signed by trainer-t with a key expired on",
         entry("trainer-t", until=f"{TODAY - DAY:%Y-%m-%d}")),
    Case("a builder is a verifier in the trust file", 1, SHORT["builder-a"],
         lambda r: r.roles.update({"builder-a": "verifier"})),
    Case("a builder is not in the trust file", 1, f"unknown key {keyid('builder-a')}",
         lambda r: r.identities.pop("builder-a")),
    Case("nobody is in the trust file", 1, "unknown key", lambda r: r.identities.clear()),
    Case("the artifact was withdrawn", 1, "this artifact was withdrawn: wrong weights",
         lambda r: r.withdrawn.update({sha(ARTIFACT): "wrong weights"})),
    # Envelopes and JSON
    Case("an envelope cut short", 1, "the envelope is not JSON", raw(lambda d: d[:-20])),
    Case("an empty file", 1, "the envelope is not JSON", raw(lambda d: b"\n")),
    Case("an envelope in a list", 1, "the envelope is no object", raw(lambda d: b"[%s]" % d)),
    Case("two envelopes in a file", 1, "the envelope is not JSON", raw(lambda d: d + d)),
    Case("an envelope behind a byte order mark", 1, "byte order mark",
         raw(lambda d: b"\xef\xbb\xbf" + d)),
    Case("an envelope in UTF-16", 1, "UTF-8", raw(lambda d: d.decode().encode("utf-16"))),
    Case("a key twice in the envelope", 1, "'payloadType'",
         raw(lambda d: d.replace(b"{", b'{"payloadType":"x",', 1))),
    Case("a key twice in the envelope, once escaped", 1, "'payload'",
         raw(lambda d: d.replace(b"{", b'{"\\u0070ayload":"x",', 1))),
    Case("a field beside the payload", 1, "unknown key: 'extra'",
         wrapped(lambda e: e.update(extra="x"))),
    Case("no payload", 1, "the envelope has no payload", wrapped(lambda e: e.pop("payload"))),
    Case("another media type", 1, "wrong media type: 'application/json'",
         wrapped(lambda e: e.update(payloadType="application/json"))),
    Case("another media type, and signed as that", 1, "wrong media type: 'application/json'",
         retyped),
    Case("a media type in capitals", 1, "wrong media type",
         wrapped(lambda e: e.update(payloadType=e["payloadType"].upper()))),
    Case("base64 with a line break", 1, "payload is not base64", wrapped(b64(lambda t: t + "\n"))),
    Case("base64 without padding, or with too much", 1, "payload is not base64",
         wrapped(b64(lambda t: t.rstrip("=") if t.endswith("=") else t + "="))),
    Case("base64 with other bits at the end", 1, "payload is not base64", wrapped(b64(padded))),
    Case("base64 of the other alphabet", 1, "payload is not base64",
         wrapped(b64(lambda t: "_" + t[1:]))),
    Case("a signature in hex", 1, "does not verify",
         wrapped(lambda e: e["signatures"][0].update(sig=base64.b64decode(
             e["signatures"][0]["sig"]).hex()[:64] * 2))),
    Case("a key twice in the payload", 1, "'predicateType'", spelled(repeated(b"predicateType"))),
    Case("a key twice deep in the payload", 1, "'redteam'", spelled(repeated(b"redteam"))),
    Case("a number that a double does not hold", 1, "the payload",
         spelled(lambda d: d.replace(b'"seed":0', b'"seed":9007199254740993'))),
    Case("a number of a thousand digits", 1, "the payload",
         spelled(lambda d: d.replace(b'"seed":0', b'"seed":' + b"9" * 1000))),
    Case("a number beyond all doubles", 1, "the payload",
         spelled(lambda d: d.replace(b'"seed":0', b'"seed":1e999'))),
    Case("a fraction in place of an integer", 1, "integer",
         spelled(lambda d: d.replace(b'"seed":0', b'"seed":0.5'))),
    Case("an integer with a point", 1, "integer",
         spelled(lambda d: d.replace(b'"seed":0', b'"seed":0.0'))),
    Case("NaN", 1, "NaN", spelled(lambda d: d.replace(b'"seed":0', b'"seed":NaN'))),
    Case("Infinity", 1, "Infinity", spelled(lambda d: d.replace(b'"seed":0', b'"seed":-Infinity'))),
    Case("deeper than any honest payload", 1, "deeper than 64",
         spelled(lambda d: d.replace(b'"seed":0', b'"seed":' + b"[" * 100 + b"]" * 100))),
    Case("deeper than the parser's stack", 1, "deeper than 64",
         spelled(lambda d: d.replace(b'"seed":0', b'"seed":' + b"[" * 99999 + b"]" * 99999))),
    Case("a payload behind a byte order mark", 1, "byte order mark",
         spelled(lambda d: b"\xef\xbb\xbf" + d)),
    Case("something after the payload", 1, "the payload is not JSON", spelled(lambda d: d + b"{}")),
    Case("a zero byte after the payload", 1, "the payload is not JSON",
         spelled(lambda d: d + b"\0")),
    Case("half a character", 1, "the payload",
         spelled(lambda d: d.replace(b'"home":"', b'"home":"\\ud800'))),
    Case("bytes that are not UTF-8", 1, "not UTF-8",
         spelled(lambda d: d.replace(b'"home":"', b'"home":"\xff'))),
    Case("a field that looks like another", 1, "the statement has",
         spelled(lambda d: d.replace(b'"subject":', '"ѕubject":'.encode()))),
    Case("text that turns its direction", 1, "characters that are not shown",
         spelled(lambda d: d.replace(b'"toolchain":"', '"toolchain":"\u202e'.encode()))),
    # Statements of the wrong kind
    Case("an older statement type", 1, "wrong statement type",
         lie("builder-a", put("_type", "https://in-toto.io/Statement/v0.1"))),
    Case("another predicate type", 1, "who may not state",
         lie("builder-a", put("predicateType", "https://slsa.dev/provenance/v0.2"))),
    Case("evidence called a summary", 1, "does not count",
         lie("evidence", put("predicateType", "https://slsa.dev/verification_summary/v1"))),
    Case("another build type", 1, "buildType",
         lie("builder-a", put(f"{DEF}.buildType", "urn:other"))),
    Case("no subject", 1, "subject is no list", lie("builder-a", put("subject", []))),
    Case("a subject without sha256", 1, "no sha256",
         lie("builder-a", put("subject.2.digest", {"sha512": "0" * 128}))),
    Case("a digest in capitals", 1, "no sha256",
         lie("builder-a", put("subject.2.digest.sha256", str.upper))),
    Case("one subject twice", 1, "two subjects have one name",
         lie("builder-a", put("subject", lambda old: [*old, old[-1]]))),
    Case("no predicate", 1, "predicate", lie("builder-a", cut("predicate"))),
    Case("an unknown field in the statement", 1, "unknown key: 'more'",
         lie("builder-a", lambda s: s.update(more=1))),
    Case("an unknown parameter of the build", 1, "externalParameters.more",
         lie("builder-a", lambda s: place(f"{GIVEN}.more", s)[0].update(more=1))),
    Case("an unknown field in the evidence", 1, "predicate.more",
         lie("evidence", lambda s: s["predicate"].update(more=1))),
    # A builder that lies, or that is not one of its own
    Case("a builder took another model", 1, "it is of another model",
         lie("builder-a", put(f"{DEF}.resolvedDependencies.0.digest.sha256", sha("m2")))),
    Case("statements swapped between models", 1, "it is of another model", other_model),
    Case("a builder took other external data", 1, "with other external data",
         lie("builder-a", put(f"{DEF}.resolvedDependencies.1.digest.sha256", sha("w2")))),
    Case("a builder took no external data", 1, "with other external data",
         lie("builder-a", cut(f"{DEF}.resolvedDependencies.1"))),
    Case("a builder took no model", 1, "names no model",
         lie("builder-a", cut(f"{DEF}.resolvedDependencies.0"))),
    Case("a builder fixed other shapes", 1, "the model with other shapes",
         lie("builder-a", put(f"{GIVEN}.inputs.x.1", 16))),
    Case("a builder made another library", 1, SHORT["builder-a"],
         lie("builder-a", another_library)),
    Case("a builder's statement contradicts itself", 1, "siblings does not list this build",
         lie("builder-a", put("subject.2.digest.sha256", sha("else")))),
    Case("a builder made two libraries", 1, "siblings does not list this build",
         lie("builder-a", lambda s: s["subject"].append(
             {"name": "library/2.so", "digest": {"sha256": sha("2")}}))),
    Case("a builder's builds disagree", 1, "the builder's own builds disagree",
         lie("builder-a", put(f"{OWN}.siblings.1.library", sha("else")))),
    Case("a builder's other build failed", 1, "/varied failed",
         lie("builder-a", both(put(f"{OWN}.siblings.1.outcome", "failed"),
                                     put(f"{OWN}.siblings.1.library", None)))),
    Case("a builder hides its own build among siblings", 1, "siblings does not list this build",
         lie("builder-a", cut(f"{OWN}.siblings.0"))),
    Case("another build's name", 1, "siblings does not list this build",
         lie("builder-a", put(f"{RUN}.metadata.invocationId", "r/m/other/control"))),
    Case("a builder used the red team's toolchain", 1, "a toolchain of the red team",
         lie("builder-a", put(f"{OWN}.redteam", "trojan-pass"))),
    Case("a builder isolated nothing", 1, "it had no isolation",
         lie("builder-a", put(f"{OWN}.isolation", "none"))),
    Case("a build from the future", 1, "it is from the future",
         lie("builder-a", put(f"{RUN}.metadata.startedOn",
                                    f"{TODAY + DAY:%Y-%m-%dT%H:%M:%SZ}"))),
    # How independent builders are
    Case("two builders that share all files", 1, "are one builder of the linker",
         with_profile("builder-b", profile_material(profile(B, content=A)))),
    Case("a builder hands in another's profile", 1, "its profile is of another toolchain",
         with_profile("builder-b", profile_material(profile(A)))),
    Case("a builder names no profile", 1, "its statement names no profile",
         lie("builder-a", cut(f"{RUN}.byproducts.0"))),
    Case("a profile is missing", 1, "its profile is not in the bundle",
         without_material("builder-a")),
    Case("a profile was changed", 1, "its profile is not in the bundle", damaged_material),
    Case("a profile that is none", 1, "its profile cannot be read",
         with_profile("builder-a", b"{}")),
    Case("a profile that lists less than it counts", 1, "its profile cannot be read",
         with_profile("builder-a", profile_material(profile(A)).replace(b":100", b":1", 1))),
    Case("builders agree on the library alone", 1, "made different things at object",
         lie("builder-a", put("subject.1.digest.sha256", sha("other object")))),
    Case("a builder leaves a stage out", 1, "builder-a names nothing at object",
         lie("builder-a", cut("subject.1"))),
    # A verifier that lies, or whose run did not show enough
    Case("evidence of an INCONCLUSIVE run signed as PASSED", 1, "its evidence says INCONCLUSIVE",
         lie("evidence", both(put("predicate.verdict", "INCONCLUSIVE"),
                              put("predicate.missing", ["nothing was compared"])))),
    Case("evidence of an UNEXPLAINED run", 1, "its evidence says UNEXPLAINED",
         lie("evidence", put("predicate.verdict", "UNEXPLAINED"))),
    Case("evidence with something missing", 1, "its evidence lacks something: a build",
         lie("evidence", put("predicate.missing", ["a build"]))),
    Case("evidence that refuses", 1, "its evidence refuses: not today",
         lie("evidence", put("predicate.refusals", ["not today"]))),
    Case("a run that is not complete", 1, "a run that is not complete",
         lie("evidence", put("predicate.complete", False))),
    Case("a stage is INCONCLUSIVE", 1, "its evidence says INCONCLUSIVE at object",
         lie("evidence", put("predicate.stages.1.verdict", "INCONCLUSIVE"))),
    Case("a comparison is UNEXPLAINED", 1, "its evidence says UNEXPLAINED at library",
         lie("evidence", put("predicate.stages.2.comparisons.rebuild", "UNEXPLAINED"))),
    Case("nothing was compared", 1, "its evidence compared nothing at graph",
         lie("evidence", put("predicate.stages.0.comparisons", {}))),
    Case("a required stage is missing", 1, "lacks the required stage library",
         lie("evidence", cut("predicate.stages.2"))),
    Case("all stages are missing", 1, "its evidence is of no stage at all",
         lie("evidence", put("predicate.stages", []))),
    Case("a required replay is missing", 1, "lacks the required replay graph → object",
         lie("evidence", put("predicate.stages.1.replays", {}))),
    Case("a required replay is INCONCLUSIVE", 1, "its evidence says INCONCLUSIVE at object",
         lie("evidence", put("predicate.stages.1.replays.graph → object", "INCONCLUSIVE"))),
    Case("required accounting is missing", 1, "lacks the required accounting for graph",
         lie("evidence", put("predicate.stages.0.accounts", {}))),
    Case("required accounting came to no answer", 1, "lacks the required accounting for graph",
         lie("evidence", put("predicate.stages.0.accounts.graph", "INCONCLUSIVE"))),
    Case("something was left over in accounting", 1, "its evidence says UNACCOUNTED at graph",
         lie("evidence", put("predicate.stages.0.accounts.other", "UNACCOUNTED"))),
    Case("too few independent toolchains", 1, "has 1 independent builders at library, not 2",
         lie("evidence", put("predicate.stages.2.independent", 1))),
    Case("more independent ones than agreed", 1, "counts more independent builders at library",
         lie("evidence", put("predicate.stages.2.agreed", [A]))),
    Case("a stage is explained by nothing", 1, "does not say what explains graph",
         lie("evidence", put("predicate.stages.0.comparisons.rebuild", "EXPLAINED"))),
    Case("a stage is explained by somebody's word", 1, "explanation wish is only declared",
         lie("evidence", both(put("predicate.stages.0.explained_by", ["wish"]),
                              put("predicate.explanations", {"wish": "declared"})))),
    Case("a stage is explained by what the policy forbids", 1, "not one that the policy allows",
         several(swap("[policy]", '[policy]\nallowed_explanations = ["tbaa"]'),
                 lie("evidence", both(put("predicate.stages.0.explained_by", ["names"]),
                                      put("predicate.explanations", {"names": "proven"}))))),
    Case("a red-team toolchain in the run", 1, "is a toolchain of the red team",
         lie("evidence", put("predicate.toolchains.1.redteam", "trojan-pass"))),
    Case("a red-team build in the run", 1, "is by a toolchain of the red team",
         lie("own-0", put(f"{OWN}.redteam", "trojan-pass"))),
    Case("a build of the run failed", 1, "built 1 of 2 times",
         lie("evidence", put("predicate.toolchains.0.built", 1))),
    Case("too few builds", 1, "built 1 times, not 2",
         lie("evidence", both(put("predicate.toolchains.0.built", 1),
                              put("predicate.toolchains.0.builds", 1)))),
    Case("too few toolchains", 1, "has 1 toolchains that built, not 2",
         lie("evidence", cut("predicate.toolchains.1"))),
    Case("the environment changed during the run", 1, "changed during the run",
         lie("evidence", put("predicate.toolchains.0.environments", ["1" * 64, "2" * 64]))),
    Case("a run without isolation", 1, "a run without isolation",
         lie("evidence", put("predicate.run.isolation", "none"))),
    Case("a build of the run without isolation", 1, "had no isolation",
         lie("own-0", put(f"{OWN}.isolation", "none"))),
    Case("evidence of another run than its builds", 1, "is of another run",
         lie("evidence", put("predicate.run.id", "20250101-000000-1-abcd"))),
    Case("evidence of another model than its builds", 1, "is of another model than its evidence",
         several(lie("evidence", put("predicate.model.sha256", sha("m2"))),
                 lie("bill", put("predicate.components.0.hashes.0.content", sha("m2"))))),
    Case("evidence of other shapes than its builds", 1, "is of another model than its evidence",
         lie("evidence", put("predicate.model.inputs.x.1", 16))),
    Case("another toolchain under the same name", 1, "another toolchain than its evidence lists",
         lie("evidence", put("predicate.toolchains.0.identity", sha("other")))),
    Case("builds of one toolchain differ, and the evidence says IDENTICAL", 1,
         "says library is IDENTICAL, and tvm/1-a-x86_64 made 2",
         several(lie("own-0", one_library_of_two), lie("own-1", siblings_of_two))),
    Case("statements of the run contradict each other", 1, "contradicts another one about",
         lie("own-0", one_library_of_two)),
    Case("one build of the run is told twice", 1, "it rests on 1 builds by tvm/1-a-x86_64",
         lie("own-1", told_as_control)),
    Case("none of the run's builds made this library", 1, "made the library of its evidence",
         several(*(lie(f"own-{n}", another_library) for n in range(4)))),
    Case("the artifact matches nothing that was built", 1, "match what was rebuilt: none: differs",
         lie("evidence", both(put("predicate.artifact.match", "none"),
                              put("predicate.artifact.reason", "differs"),
                              put("predicate.artifact.against", sha("else"))))),
    Case("the artifact is stripped, which the policy does not allow", 1, "rebuilt: unloaded",
         lie("evidence", both(put("predicate.artifact.match", "unloaded"),
                              put("predicate.artifact.against", sha("else"))))),
    Case("the artifact was linked otherwise, which the policy does not allow", 1,
         "rebuilt: relinked", lie("evidence", both(put("predicate.artifact.match", "relinked"),
                                                   put("predicate.artifact.against", sha("e"))))),
    Case("identical to another library", 1, "contradicts itself about how the shipped bytes match",
         lie("evidence", put("predicate.artifact.against", sha("else")))),
    Case("identical to no library", 1, "its evidence names no rebuilt library",
         lie("evidence", put("predicate.artifact.against", None))),
    Case("evidence about another artifact", 1, "its evidence is about another artifact",
         lie("evidence", both(put("predicate.artifact.sha256", sha("else")),
                              put("subject.0.digest.sha256", sha("else"))))),
    Case("evidence with another subject", 1, "the subject is not the artifact",
         lie("evidence", put("subject.0.digest.sha256", sha("else")))),
    Case("evidence judged under another policy", 1, "judged under another policy",
         lie("evidence", put("predicate.policy_sha256", sha("else")))),
    Case("evidence about another release", 1, "its evidence is about another release",
         lie("evidence", put("predicate.release", "m 2.0"))),
    Case("evidence signed anew, the summary not", 1, "it rests on statements/evidence.json: it is",
         signed_by("evidence", put("predicate.run.seed", 2))),
    Case("two pieces of evidence", 1, "rests on 2 pieces of evidence by verifier-v",
         second_evidence),
    # The summary
    Case("a summary that says FAILED", 1, "it says FAILED",
         signed_by("summary", both(put("predicate.verificationResult", "FAILED"),
                                   put("predicate.verifiedLevels", ["FAILED"])))),
    Case("a summary of both minds", 1, "contradict each other",
         signed_by("summary", put("predicate.verifiedLevels", ["FAILED"]))),
    Case("a summary of another level", 1, "it does not claim HARNESS_REPRODUCED",
         signed_by("summary", put("predicate.verifiedLevels", ["SLSA_BUILD_LEVEL_3"]))),
    Case("a summary by another name", 1, "signed by verifier-v and speaks as verifier-w",
         signed_by("summary", put("predicate.verifier.id", "verifier-w"))),
    Case("a summary about another artifact", 1, "it is about another artifact",
         signed_by("summary", put("subject.0.digest.sha256", sha("else")))),
    Case("a summary about two artifacts", 1, "subject",
         signed_by("summary", put("subject", lambda old: [*old, old[0] | {"name": "2"}]))),
    Case("a summary under another policy", 1, "it was given under another policy",
         signed_by("summary", put("predicate.policy.digest.sha256", sha("else")))),
    Case("a summary from the future", 1, "it is from the future", verified_at(TODAY + DAY)),
    Case("a summary that is too old", 1, "the policy wants 90 days at most",
         verified_at(TODAY - 91 * DAY)),
    Case("a summary at no time", 1, "is no time",
         signed_by("summary", put("predicate.timeVerified", "2026-02-30T00:00:00Z"))),
    Case("a summary with a local time", 1, "timeVerified",
         signed_by("summary", put("predicate.timeVerified", "2026-01-01T00:00:00+02:00"))),
    Case("a summary that rests on nothing", 1, "rests on 0 pieces of evidence by verifier-v",
         signed_by("summary", put("predicate.inputAttestations", []))),
    Case("a summary that does not rest on its builds", 1, "it rests on 1 builds by tvm/1-a-x86_64",
         rests_without("own-0")),
    Case("a summary that does not rest on a bill", 1, "rests on no bill of materials",
         rests_without("bill")),
    Case("a summary that rests on what is not here", 1, "it rests on statements/gone.json",
         signed_by("summary", lambda s: s["predicate"]["inputAttestations"].append(
             {"uri": "statements/gone.json", "digest": {"sha256": sha("gone")}}))),
    Case("a bill of another model", 1, "lists another model than its evidence", other_bill),
    Case("a bill of another artifact", 1, "not the component that the bill is of",
         lie("bill", put("subject.0.digest.sha256", sha("else")))),
    Case("a bill of another format", 1, "bomFormat",
         lie("bill", put("predicate.bomFormat", "SPDX"))),
    # Leaving out
    *(Case(f"{name} is left out", 1, reason, dropped(name)) for name, reason in (
        ("builder-a", SHORT["builder-a"]),
        ("own-0", "it rests on statements/own-0.json: it is not here"),
        ("evidence", "it rests on statements/evidence.json: it is not here"),
        ("summary", NOBODY),
        ("bill", "it rests on statements/bill.json: it is not here"),
        ("train", "no upstream statement is of step 'train'"),
    )),
    # From older releases
    Case("an older release of the same bytes", 1, "it is about another release, m 0.9",
         older_release),
    Case("the verdict on the last release's artifact", 1, "it is about another artifact",
         older_artifact),
    # The model's history
    Case("the training made another model", 1, "the model's digest is a product of no statement",
         lie("train", put("subject.0.digest.sha256", sha("m2")))),
    Case("the training made other external data", 1, "external data weights.bin",
         lie("train", put("subject.1.digest.sha256", sha("w2")))),
    Case("the training is another step", 1, "no upstream statement is of step 'train'",
         lie("train", lambda s: [each["annotations"].update(
             {"urn:ml-compiler-harness:step": "tune"}) for each in s["subject"]])),
    # Policies
    Case("another policy, by one space", 1, "it was given under another policy",
         policy(lambda old: old + " \n", anew=False)),
    Case("a policy that was widened afterwards", 1, "it was given under another policy",
         swap("builders = 3", "builders = 1", anew=False)),
    Case("a fourth builder is required", 1, "3 (builder-a, builder-b, builder-c), 4 required",
         swap("builders = 3", "builders = 4")),
    Case("a second verifier is required", 1, "under this policy: 1 (verifier-v), 2 required",
         swap("verifiers = 1", "verifiers = 2")),
    Case("a fourth independent builder is required", 1, "independent builders at library: 3",
         swap("library = 3", "library = 4")),
    Case("another stage is required", 1, "lacks the required stage assembly",
         swap('"graph", "object"', '"graph", "assembly", "object"')),
    Case("another replay is required", 1, "lacks the required replay object → library",
         swap('["graph → object"]', '["graph → object", "object → library"]')),
    Case("other accounting is required", 1, "lacks the required accounting for reach",
         swap('accounting = ["graph"]', 'accounting = ["graph", "reach"]')),
    Case("all builders are required, and one is silent", 1, "builder-d does not say that it made",
         several(swap("[release]", "[release]\nunanimous = true"),
                 lambda r: r.roles.update({"builder-d": "builder"}),
                 lambda r: r.identities.update({"builder-d": [trusted("builder-d")]}))),
    Case("a policy that asks for nothing", 2, "asks for no verifier and no builder",
         policy(lambda old: old.replace("verifiers = 1", "verifiers = 0").replace(
             "builders = 3", "builders = 0"))),
    Case("a policy with a negative number", 2, "release.builders: -1 is not from 0",
         swap("builders = 3", "builders = -1")),
    Case("a policy with a number in quotes", 2, "release.builders",
         swap("builders = 3", 'builders = "3"')),
    Case("a policy with a misspelled key", 2, "unknown key", swap("builders = 3", "bilders = 3")),
    Case("a policy without a release", 2, "release: missing key",
         policy(lambda old: old.partition("[release]")[0])),
    Case("a policy with a key twice", 2, "not valid TOML",
         swap("builders = 3", "builders = 3\nbuilders = 0")),
    Case("the policy comes with the bundle", 2, "lies in the bundle",
         after=inside("--policy", "policy.toml")),
    Case("the keys come with the bundle", 2, "lies in the bundle",
         after=inside("--keys", "keys.toml")),
    Case("the policy comes with the bundle, by a link", 2, "lies in the bundle",
         after=linked_inside),
    Case("the policy is missing", 2, "policy.toml: cannot be read",
         after=on_file("policy.toml", lambda f: f.unlink())),
    Case("the trust file is missing", 2, "keys.toml: cannot be read",
         after=on_file("keys.toml", lambda f: f.unlink())),
    # Files
    Case("the artifact was changed by one bit", 1, "it is about another artifact",
         attribute("artifact", ARTIFACT[:-1] + b"m")),
    Case("the artifact was cut short", 1, "it is about another artifact",
         attribute("artifact", ARTIFACT[:-1])),
    Case("the artifact is empty", 1, "it is about another artifact", attribute("artifact", b"")),
    Case("the artifact is a link", 2, "a symbolic link", after=to_link("model.so")),
    Case("the artifact is a pipe", 2, "not a regular file", after=fifo("model.so")),
    Case("the artifact is a folder", 2, "not a regular file",
         after=on_file("model.so", to_folder)),
    Case("the artifact is missing", 2, "model.so: cannot be read",
         after=on_file("model.so", lambda f: f.unlink())),
    Case("a statement is a link", 1, "builder-a.json does not count: is a link",
         after=to_link("bundle/statements/builder-a.json")),
    Case("a statement is a pipe", 1, "builder-a.json does not count: is not a regular file",
         after=fifo("bundle/statements/builder-a.json")),
    Case("a statement is a folder", 1, "builder-a.json does not count: is ",
         after=on_file("bundle/statements/builder-a.json", to_folder)),
    Case("a statement under another name", 1, "its name does not end with .json",
         after=on_file("bundle/statements/builder-a.json", lambda f: f.rename(f.with_suffix("")))),
    Case("a statement that is too large", 1, "is larger than", after=huge),
    Case("statements without end", 2, "holds more than 512 files", after=many_files),
    Case("the statements are a link", 2, "statements: is a link",
         after=to_link("bundle/statements")),
    Case("the bundle is a link", 2, "bundle: is a link", after=to_link("bundle")),
    Case("the materials are a link", 1, "its profile is not in the bundle",
         after=to_link("bundle/materials")),
    Case("the bundle is missing", 2, "bundle: cannot be read",
         after=on_file("bundle", lambda f: f.rename(f.with_name("gone")))),
    Case("the bundle holds no statements", 2, "holds no statements", after=empty_bundle),
    Case("the statements are missing", 2, "holds no statements",
         after=on_file("bundle/statements", lambda f: f.rename(f.with_name("gone")))),
]  # fmt: skip


def verified(r: Release, folder: Path, *more: str, after: After = lambda folder: None) -> Result:
    """What `harness verify` says of ``r``, laid out below ``folder``."""
    arguments = r.lay_out(folder)
    return CliRunner().invoke(main, [*arguments, *(after(folder) or []), *more])


def test_what_the_table_starts_from_verifies(tmp_path: Path) -> None:
    result = verified(release(), tmp_path, "--release", RELEASE)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("VERIFIED")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_tampering_is_refused_for_the_right_reason(case: Case, tmp_path: Path) -> None:
    r = release()
    case.tamper(r)
    result = verified(r, tmp_path, "--json", after=case.after)
    assert result.exit_code == case.code, result.output
    if case.code == 1:
        answer = json.loads(result.output)
        assert not answer["verified"]
        assert any(case.reason in line for line in answer["refusals"]), answer["refusals"]
        assert all(line.isprintable() for line in answer["refusals"])
    else:
        assert result.output.startswith("error: ")
        assert case.reason in result.output


def test_the_table_is_long_enough_and_every_row_is_another() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)
