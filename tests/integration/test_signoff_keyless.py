"""Signing and verifying through sigstore, with an instance of it that runs in the test.

Its authority, its log of certificates and its log of signatures are made here, and serve the
library's own clients on this machine. What the public instance does on top is not tested.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.server
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import model_signing
import pytest
import rfc8785
import sigstore
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from harness.errors import HarnessError, StoreError, UsageError
from harness.signoff.chain import Chain, assess
from harness.signoff.interface import PROVENANCE, STATEMENT_TYPE, Identity, Rejected, Role, Trust
from harness.signoff.keyless import KeylessVerifier, bundles, keep, load_keyless
from harness.signoff.keylesssigning import identity_token, sign
from harness.signoff.upstream import keyless, sealed

pytestmark = pytest.mark.integration

ISSUER = "https://issuer.example"
SUBJECT = "https://lab.example/train@main"
SCT = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
OIDC_ISSUER = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
TODAY = datetime.datetime.now(datetime.UTC).date()
SHA256 = ec.ECDSA(hashes.SHA256())
STATEMENT = {
    "_type": STATEMENT_TYPE,
    "subject": [{"name": "model.onnx", "digest": {"sha256": "0" * 64}}],
    "predicateType": PROVENANCE,
    "predicate": {"buildDefinition": {"buildType": "https://lab.example/training"}},
}


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Sigstore:
    """A certificate authority, and two logs, each with a key of its own."""

    def __init__(self) -> None:
        self.authority, self.certificates, self.log = (
            ec.generate_private_key(ec.SECP256R1()) for _ in range(3)
        )
        self.now = datetime.datetime.now(datetime.UTC)
        self.lifetime = datetime.timedelta(minutes=10)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the test")])
        self.root = (
            self._builder(name, name, self.authority.public_key(), datetime.timedelta(days=9))
            .add_extension(x509.BasicConstraints(True, 0), critical=True)
            .add_extension(self._usage(sign=True), critical=True)
            .sign(self.authority, hashes.SHA256())
        )
        self.answers: dict[str, Callable[[Any, str], Any]] = {
            "/api/v2/signingCert": self._certify,
            "/api/v1/log/entries": self._enter,
        }

    def trusted_root(self) -> dict[str, Any]:
        start = {"start": "2020-01-01T00:00:00Z"}

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            der = spki(key.public_key())
            return {
                "baseUrl": "http://log.example",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": b64(der),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": start,
                },
                "logId": {"keyId": b64(hashlib.sha256(der).digest())},
            }

        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log)],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "test", "commonName": "authority"},
                    "uri": "http://authority.example",
                    "certChain": {
                        "certificates": [{"rawBytes": b64(self.root.public_bytes(Encoding.DER))}]
                    },
                    "validFor": start,
                }
            ],
            "ctlogs": [log(self.certificates)],
            "timestampAuthorities": [],
        }

    def config(self, url: str) -> dict[str, Any]:
        service = {
            "url": url,
            "majorApiVersion": 1,
            "validFor": {"start": "2020-01-01T00:00:00Z"},
            "operator": "test",
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": self.trusted_root(),
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": [service],
                "oidcUrls": [service],
                "rekorTlogUrls": [service],
                "rekorTlogConfig": {"selector": "ANY"},
            },
        }

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: Any, life: datetime.timedelta
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - datetime.timedelta(seconds=5))
            .not_valid_after(self.now + life)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    def _usage(self, *, sign: bool) -> x509.KeyUsage:
        return x509.KeyUsage(not sign, False, False, False, False, sign, sign, False, False)

    def _certify(self, request: Any, token: str) -> Any:
        """As the authority does: the identity is the token's, and the log has seen it."""
        csr = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        assert csr.is_signature_valid
        claims = jwt.decode(token, options={"verify_signature": False, "verify_aud": False})
        authority = self.authority.public_key()
        builder = (
            self._builder(x509.Name([]), self.root.subject, csr.public_key(), self.lifetime)
            .add_extension(self._usage(sign=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(claims["sub"])]),
                critical=True,
            )
            .add_extension(
                x509.UnrecognizedExtension(OIDC_ISSUER, claims["iss"].encode()), critical=False
            )
        )
        tbs = builder.sign(self.authority, hashes.SHA256()).tbs_certificate_bytes
        stamp = int(self.now.timestamp() * 1000)
        entry = hashlib.sha256(spki(authority)).digest() + len(tbs).to_bytes(3, "big") + tbs
        seen = struct.pack("!BBQH", 0, 0, stamp, 1) + entry + b"\0\0"
        signature = self.certificates.sign(seen, SHA256)
        log_id = hashlib.sha256(spki(self.certificates.public_key())).digest()
        sct = b"\0" + log_id + struct.pack("!QHBBH", stamp, 0, 4, 3, len(signature)) + signature
        listed = struct.pack("!HH", len(sct) + 2, len(sct)) + sct
        value = b"\x04" + (
            bytes([len(listed)]) if len(listed) < 128 else bytes([0x81, len(listed)])
        )
        final = builder.add_extension(x509.UnrecognizedExtension(SCT, value + listed), False)
        chain = [final.sign(self.authority, hashes.SHA256()), self.root]
        pem = [each.public_bytes(Encoding.PEM).decode() for each in chain]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": pem}}}

    def _enter(self, request: Any, token: str) -> Any:
        """As the log does: the entry says what was signed by whom, and the log promises it."""
        content = request["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        payload = base64.b64decode(envelope["payload"])
        body = rfc8785.dumps(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {
                        "algorithm": "sha256",
                        "value": hashlib.sha256(content["envelope"].encode()).hexdigest(),
                    },
                    "payloadHash": {
                        "algorithm": "sha256",
                        "value": hashlib.sha256(payload).hexdigest(),
                    },
                    "signatures": [
                        {
                            "signature": envelope["signatures"][0]["sig"],
                            "verifier": content["verifiers"][0],
                        }
                    ],
                },
            }
        )
        root = hashlib.sha256(b"\0" + body).digest()
        log_id = hashlib.sha256(spki(self.log.public_key())).digest()
        note = f"log.example - 1\n1\n{b64(root)}\n"
        signed = b64(log_id[:4] + self.log.sign(note.encode(), SHA256))
        promise: dict[str, Any] = {
            "body": b64(body),
            "integratedTime": int(self.now.timestamp()),
            "logID": log_id.hex(),
            "logIndex": 0,
        }
        return {
            "uuid": {
                **promise,
                "verification": {
                    "inclusionProof": {
                        "logIndex": 0,
                        "rootHash": root.hex(),
                        "treeSize": 1,
                        "hashes": [],
                        "checkpoint": f"{note}\n— log.example {signed}\n",
                    },
                    "signedEntryTimestamp": b64(self.log.sign(rfc8785.dumps(promise), SHA256)),
                },
            }
        }


@pytest.fixture
def instance() -> Sigstore:
    return Sigstore()


@pytest.fixture
def config(instance: Sigstore, tmp_path: Path) -> Iterator[Path]:
    """The instance serves; the file says where, and whom to trust."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            self._answer(instance.answers[self.path](request, token), 201)

        def do_GET(self) -> None:
            """What `model_signing` asks for before it looks at the token that it was given."""
            assert self.path == "/.well-known/openid-configuration"
            self._answer({"authorization_endpoint": "none", "token_endpoint": "none"}, 200)

        def _answer(self, what: Any, status: int) -> None:
            answer = json.dumps(what).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        path = tmp_path / "config.json"
        path.write_text(json.dumps(instance.config(f"http://127.0.0.1:{server.server_port}")))
        yield path
        server.shutdown()
        thread.join()


def token(subject: str = SUBJECT, issuer: str = ISSUER) -> str:
    now = int(time.time())
    claims = {"iss": issuer, "sub": subject, "aud": "sigstore", "iat": now, "exp": now + 300}
    return jwt.encode(claims, "of the issuer, who is asked by the authority only", "HS256")


@pytest.fixture
def bundle(config: Path) -> bytes:
    return sign(STATEMENT, token(), config)


def trust(tmp_path: Path, instance: Sigstore, **other: str) -> Path:
    entry = {
        "name": "lab",
        "role": "upstream",
        "issuer": ISSUER,
        "subject": SUBJECT,
        "since": str(TODAY - datetime.timedelta(days=1)),
        "until": str(TODAY + datetime.timedelta(days=1)),
        **other,
    }
    (tmp_path / "root.json").write_text(json.dumps(instance.trusted_root()))
    lines = [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    path = tmp_path / "sigstore.toml"
    path.write_text("\n".join(['root = "root.json"', "[[identity]]", *lines]))
    return path


def opened(
    bundle: bytes, path: Path, today: datetime.date = TODAY
) -> tuple[list[tuple[str, str]], str]:
    """(name and digest of each signer's statement, why not)."""
    found = KeylessVerifier(load_keyless(path, Trust(())), today).open(bundle, "b.json")
    if isinstance(found, Rejected):
        assert found.file == "b.json" and "\n" not in found.reason
        return [], found.reason
    assert all(one.statement == STATEMENT for one in found)
    return [(one.signer.name, one.digest) for one in found], ""


def test_what_is_signed_is_verified_without_a_network(
    bundle: bytes, instance: Sigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object) -> None:
        raise AssertionError(f"verifying used the network: {words}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    payload = base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"])
    found, reason = opened(bundle, trust(tmp_path, instance))
    assert reason == "" and found == [("lab", hashlib.sha256(payload).hexdigest())]
    assert keyless(bundle)
    with pytest.raises(UsageError, match="with a certificate of sigstore's"):
        sealed(bundle, Trust(()))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"subject": "https://lab.example/train@fork"}, "signed by nobody"),
        ({"issuer": "https://other.example"}, "signed by nobody"),
        ({"role": "builder"}, ""),
        ({"role": "verifier"}, ""),
        ({"revoked": "left the lab"}, "lab, whose identity is revoked: left the lab"),
        ({"since": str(TODAY + datetime.timedelta(days=1))}, "not valid before"),
        ({"until": str(TODAY - datetime.timedelta(days=1))}, "expired on"),
    ],
)
def test_an_identity_counts_in_its_role_and_its_days(
    bundle: bytes, instance: Sigstore, tmp_path: Path, other: dict[str, str], why: str
) -> None:
    found, reason = opened(bundle, trust(tmp_path, instance, **other))
    assert bool(found) == (not why) and why in reason


def test_a_role_speaks_about_its_own_matters(
    config: Path, instance: Sigstore, tmp_path: Path
) -> None:
    other = {**STATEMENT, "predicateType": "https://in-toto.io/attestation/link/v0.3"}
    made = sign(other, token(), config)
    assert "may not state" in opened(made, trust(tmp_path, instance, role="builder"))[1]


def test_a_signature_counts_only_if_made_in_the_identitys_days(
    bundle: bytes, instance: Sigstore, tmp_path: Path
) -> None:
    """And only as long as these last, whatever day it was made."""
    path = trust(tmp_path, instance)
    tomorrow = TODAY + datetime.timedelta(days=1)
    assert opened(bundle, path, tomorrow)[0]
    assert "expired on" in opened(bundle, path, tomorrow + datetime.timedelta(days=1))[1]
    days = [TODAY + datetime.timedelta(days=number) for number in (1, 3)]
    path = trust(tmp_path, instance, since=str(days[0]), until=str(days[1]))
    assert "not valid before" in opened(bundle, path, days[0])[1]


def test_another_instance_is_not_believed(bundle: bytes, tmp_path: Path) -> None:
    found, reason = opened(bundle, trust(tmp_path, Sigstore()))
    assert not found and "sigstore refuses it" in reason


def test_the_root_of_the_public_instance_is_read_and_refuses_others(
    bundle: bytes, instance: Sigstore, tmp_path: Path
) -> None:
    """As the library brings it with it; whether it is still the right one, only a network tells."""
    path = trust(tmp_path, instance)
    store = Path(str(sigstore.__file__)).parent / "_store"
    (public,) = store.glob("*tuf-repo-cdn.sigstore.dev/trusted_root.json")
    (tmp_path / "root.json").write_bytes(public.read_bytes())
    found, reason = opened(bundle, path)
    assert not found and "sigstore refuses it" in reason


@pytest.mark.parametrize("part", ["authority", "certificates", "log"])
def test_each_part_of_an_instance_is_needed(
    part: str, bundle: bytes, instance: Sigstore, tmp_path: Path
) -> None:
    """A root that trusts another authority, or another of the two logs, refuses."""
    other = Sigstore()
    if part == "authority":
        instance.root = other.root
    else:
        setattr(instance, part, getattr(other, part))
    found, reason = opened(bundle, trust(tmp_path, instance))
    assert not found and "sigstore refuses it" in reason


def _payload(bundle: dict[str, Any]) -> None:
    envelope = bundle["dsseEnvelope"]
    envelope["payload"] = b64(base64.b64decode(envelope["payload"]).replace(b"model", b"modal"))


def _signature(bundle: dict[str, Any]) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    pae = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    envelope["signatures"][0]["sig"] = b64(other.sign(pae, SHA256))


def _entry(bundle: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = bundle["verificationMaterial"]["tlogEntries"][0]
    return entry


def _promise(bundle: dict[str, Any]) -> None:
    promise = _entry(bundle)["inclusionPromise"]
    promise["signedEntryTimestamp"] = b64(b"0" * 70)


def _time(bundle: dict[str, Any]) -> None:
    _entry(bundle)["integratedTime"] = str(int(_entry(bundle)["integratedTime"]) + 1)


def _late(bundle: dict[str, Any]) -> None:
    _entry(bundle)["integratedTime"] = str(int(_entry(bundle)["integratedTime"]) + 86400)


def _proof(bundle: dict[str, Any]) -> None:
    _entry(bundle)["inclusionProof"]["rootHash"] = b64(b"0" * 32)


def _no_entry(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


def _kind(bundle: dict[str, Any]) -> None:
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.3"


def _more(bundle: dict[str, Any]) -> None:
    bundle["more"] = 1


CHANGES = [_payload, _signature, _promise, _time, _late, _proof, _no_entry, _kind, _more]


def test_model_signing_through_sigstore_is_read_alike(
    config: Path, instance: Sigstore, tmp_path: Path
) -> None:
    """Its own verifier, and ours, before and after the model is changed."""
    folder, signature = tmp_path / "model", tmp_path / "model.sig"
    folder.mkdir()
    model = folder / "model.onnx"
    model.write_bytes(b"the model")
    signing = model_signing.signing.Config()
    signing.use_sigstore_signer(identity_token=token(), trust_config=config)
    signing.sign(folder, signature)
    verifying = model_signing.verifying.Config()
    verifying.use_sigstore_verifier(identity=SUBJECT, oidc_issuer=ISSUER, trust_config=config)
    loaded = load_keyless(trust(tmp_path, instance), Trust(()))

    def ours() -> Chain:
        found = KeylessVerifier(loaded, TODAY).open(signature.read_bytes(), "model.sig")
        assert isinstance(found, list)
        return assess(found, hashlib.sha256(model.read_bytes()).hexdigest(), {}, ("model",))

    verifying.verify(folder, signature)
    assert ours().refusals == () and [step.name for step in ours().steps] == ["model"]
    model.write_bytes(b"another")
    with pytest.raises(ValueError, match="mismatch"):
        verifying.verify(folder, signature)
    assert any("is a product of no statement" in line for line in ours().refusals)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_bundle_is_refused(
    change: Callable[[dict[str, Any]], None], bundle: bytes, instance: Sigstore, tmp_path: Path
) -> None:
    changed = json.loads(bundle)
    change(changed)
    found, reason = opened(json.dumps(changed).encode(), trust(tmp_path, instance))
    assert not found and reason


def test_what_was_signed_after_the_certificate_ended_is_refused(
    config: Path, instance: Sigstore, tmp_path: Path
) -> None:
    """The log's word, well signed by the log, is what tells the time."""
    entered = instance.answers["/api/v1/log/entries"]

    def late(request: Any, token: str) -> Any:
        instance.now += datetime.timedelta(hours=1)
        return entered(request, token)

    instance.answers["/api/v1/log/entries"] = late
    with pytest.raises(StoreError, match="sigstore could not sign"):
        sign(STATEMENT, token(), config)


def test_a_log_that_enters_something_else_is_found_out(config: Path, instance: Sigstore) -> None:
    entered = instance.answers["/api/v1/log/entries"]

    def other(request: Any, token: str) -> Any:
        content = request["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        envelope["payload"] = b64(b"{}")
        content["envelope"] = json.dumps(envelope)
        return entered(request, token)

    instance.answers["/api/v1/log/entries"] = other
    with pytest.raises(StoreError, match="payload hash does not match"):
        sign(STATEMENT, token(), config)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"mediaType": 3}', b"\xff", b"[" * 100_000])
def test_what_is_no_bundle_is_rejected(data: bytes, instance: Sigstore, tmp_path: Path) -> None:
    found, reason = opened(data, trust(tmp_path, instance))
    assert not found and reason
    assert not keyless(data)


def test_json_that_can_be_read_twice_is_rejected(
    bundle: bytes, instance: Sigstore, tmp_path: Path
) -> None:
    twice = bundle.replace(b'{"mediaType"', b'{"mediaType":"x","mediaType"', 1)
    assert twice != bundle
    assert "twice" in opened(twice, trust(tmp_path, instance))[1]


def test_bundles_are_kept_and_found_again(bundle: bytes, tmp_path: Path) -> None:
    assert list(bundles(tmp_path)) == []
    path = keep(tmp_path, bundle)
    assert keep(tmp_path, bundle) == path
    (path.parent / "note.txt").write_text("x")
    (path.parent / "link.sigstore.json").symlink_to(path)
    found = list(bundles(tmp_path))
    assert (f"sigstore/{path.name}", bundle) in found and len(found) == 3
    assert sum(isinstance(each, Rejected) for each in found) == 2
    path.parent.rename(tmp_path / "away")
    (tmp_path / "sigstore").symlink_to(tmp_path / "away")
    with pytest.raises(StoreError):
        list(bundles(tmp_path))


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"name": "two words"}, "not a name"),
        ({"name": "builder-a"}, "is there twice"),
        ({"issuer": ""}, "no issuer or no subject"),
        ({"since": "2026-1-1"}, "is not a day"),
        ({"until": "2020-01-01"}, "ends before it begins"),
        ({"revoked": " "}, "without a reason"),
        ({"email": "x"}, "unknown key"),
    ],
)
def test_a_wrong_file_is_an_error(
    instance: Sigstore, tmp_path: Path, other: dict[str, str], why: str
) -> None:
    known = Trust((Identity("builder-a", Role.BUILDER, ()),))
    with pytest.raises(UsageError, match=why):
        load_keyless(trust(tmp_path, instance, **other), known)


def test_a_root_that_is_none_is_an_error(instance: Sigstore, tmp_path: Path) -> None:
    path = trust(tmp_path, instance)
    loaded = load_keyless(path, Trust(()))
    for text in ("", "{}", json.dumps({**instance.trusted_root(), "tlogs": []})):
        (tmp_path / "root.json").write_text(text)
        with pytest.raises(UsageError, match="not a trusted root"):
            KeylessVerifier(loaded, TODAY)
    (tmp_path / "root.json").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        KeylessVerifier(loaded, TODAY)


def test_without_the_library_one_line_says_so(
    instance: Sigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_keyless(trust(tmp_path, instance), Trust(()))
    for name in [each for each in sys.modules if each.partition(".")[0] == "sigstore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sigstore", None)
    calls: list[Callable[[], object]] = [
        lambda: KeylessVerifier(loaded, TODAY),
        lambda: sign(STATEMENT, token(), None),
        lambda: identity_token(None),
    ]
    for call in calls:
        with pytest.raises(UsageError) as caught:
            call()
        assert "not installed" in caught.value.what and "[sigstore]" in caught.value.hint


def test_tokens_come_from_a_file_or_from_the_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(f"{token()}\n")
    assert sign(STATEMENT, identity_token(path), config)
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "BUILDKITE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="no identity token"):
        identity_token(None)
    with pytest.raises(HarnessError):
        sign(STATEMENT, "no token", config)


def test_a_network_that_is_not_there_is_one_line(config: Path) -> None:
    words = json.loads(config.read_text())
    with socket.socket() as closed:  # a port that nobody answers
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        words["signingConfig"]["caUrls"][0]["url"] = url
        config.write_text(json.dumps(words))
        with pytest.raises(StoreError, match="sigstore could not sign"):
            sign(STATEMENT, token(), config)
