"""Bundles of OpenSSF model signing, made and verified by its own library, are read as it reads."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import model_signing
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from model_signing._signing.sign_sigstore_pb import pae_compat

from harness.errors import UsageError
from harness.signoff.chain import Chain, assess
from harness.signoff.envelope import open_envelope
from harness.signoff.interface import Identity, Key, Rejected, Role, Signed, Trust
from harness.signoff.trust import read_public
from harness.signoff.upstream import attach, keyless, sealed

pytestmark = pytest.mark.integration

TODAY = datetime.date(2026, 11, 23)


class Lab:
    """Somebody who publishes a model: a folder, a key, and a signature beside the folder."""

    def __init__(self, root: Path, curve: ec.EllipticCurve | None = None) -> None:
        self.folder = root / "model"
        (self.folder / "onnx").mkdir(parents=True)
        (self.folder / "onnx" / "model.onnx").write_bytes(b"the model")
        (self.folder / "onnx" / "model.data").write_bytes(b"its weights")
        (self.folder / "README.md").write_bytes(b"about")
        self.signature = root / "model.sig"
        self.private = ec.generate_private_key(curve or ec.SECP256R1())
        self.secret = root / "secret.pem"
        self.secret.write_bytes(
            self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        self.public = root / "public.pem"
        pem = self.private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        self.public.write_bytes(pem)
        scheme = f"ecdsa-sha2-nistp{self.private.curve.key_size}"
        public = read_public(pem.decode(), scheme)
        self.key = Key(public, datetime.date(2026, 1, 1), datetime.date(2026, 12, 31))
        self.trust = Trust((Identity("lab", Role.UPSTREAM, (self.key,)),))

    def sign(self, hashing: model_signing.hashing.Config | None = None) -> None:
        config = model_signing.signing.Config().use_elliptic_key_signer(private_key=self.secret)
        if hashing is not None:
            config.set_hashing_config(hashing)
        config.sign(self.folder, self.signature)

    def theirs(self) -> bool:
        """Whether the library's own verifier accepts folder and signature."""
        config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=self.public)
        try:
            config.verify(self.folder, self.signature)
        except (ValueError, InvalidSignature, KeyError):
            return False
        return True

    def ours(self, trust: Trust | None = None) -> list[Signed] | Rejected:
        return attach(self.signature.read_bytes(), "model.sig", trust or self.trust, TODAY)

    def chain(self) -> Chain:
        """What the chain says of the folder as it is now."""
        found = self.ours()
        signed = found if isinstance(found, list) else []
        model, data = (
            hashlib.sha256((self.folder / "onnx" / name).read_bytes()).hexdigest()
            for name in ("model.onnx", "model.data")
        )
        return assess(signed, model, {"model.data": data}, ("model",))

    def change(self, how: Callable[[dict[str, Any]], None]) -> None:
        bundle = json.loads(self.signature.read_text())
        how(bundle)
        self.signature.write_text(json.dumps(bundle))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    found = Lab(tmp_path)
    found.sign()
    return found


def reason(found: list[Signed] | Rejected) -> str:
    assert isinstance(found, Rejected), found
    assert found.file == "model.sig"
    return found.reason


def test_what_the_library_signs_meets_the_model(lab: Lab) -> None:
    assert lab.theirs()
    found = lab.ours()
    assert isinstance(found, list) and [one.signer.name for one in found] == ["lab"]
    assert found[0].keyid == lab.key.public.keyid
    assert lab.chain().refusals == ()
    assert lab.chain().steps[0].makes[0].name == "onnx/model.data"


def test_what_is_kept_is_a_plain_envelope(lab: Lab) -> None:
    data = sealed(lab.signature.read_bytes(), lab.trust)
    assert json.loads(data).keys() == {"payload", "payloadType", "signatures"}
    assert open_envelope(data, "model.sig", lab.trust, TODAY) == lab.ours()
    assert sealed(data, lab.trust) == data
    assert not keyless(data) and not keyless(lab.signature.read_bytes())


def test_larger_curves_are_read_as_well(tmp_path: Path) -> None:
    lab = Lab(tmp_path, ec.SECP384R1())
    lab.sign()
    assert lab.theirs() and isinstance(lab.ours(), list) and not lab.chain().refusals


@pytest.mark.parametrize("name", ["model.onnx", "model.data"])
def test_a_changed_model_is_refused_by_both(lab: Lab, name: str) -> None:
    (lab.folder / "onnx" / name).write_bytes(b"another")
    assert not lab.theirs()
    assert isinstance(lab.ours(), list)  # what was said is still said, but of another model
    refusals = lab.chain().refusals
    digest = hashlib.sha256(b"another").hexdigest()
    assert any("is a product of no statement" in line and digest in line for line in refusals)


def test_swapped_external_data_are_refused_by_both(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    (lab.folder / "onnx" / "more.data").write_bytes(b"more weights")
    lab.sign()
    assert lab.theirs() and not lab.chain().refusals
    (lab.folder / "onnx" / "model.data").write_bytes(b"more weights")
    (lab.folder / "onnx" / "more.data").write_bytes(b"its weights")
    assert not lab.theirs()
    assert "under this name" in lab.chain().refusals[0]


def _payload(bundle: dict[str, Any]) -> None:
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    changed = payload.replace(b"README", b"REEDME")
    assert changed != payload
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(changed).decode()


def _hint(bundle: dict[str, Any]) -> None:
    bundle["verificationMaterial"]["publicKey"]["hint"] = "0" * 64


def _kind(bundle: dict[str, Any]) -> None:
    bundle["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1"


def _payload_type(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payloadType"] = "application/json"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_payload, "does not verify with the key that the bundle names"),
        (_hint, "unknown key 0000"),
        (_kind, "wrong media type"),
        (_payload_type, "payloadType is not"),
    ],
)
def test_a_changed_bundle_is_refused_by_both(
    lab: Lab, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    lab.change(change)
    assert not lab.theirs()
    assert why in reason(lab.ours())
    with pytest.raises(UsageError):
        sealed(lab.signature.read_bytes(), lab.trust)
    assert lab.chain().refusals


def test_another_key_is_refused_by_both(lab: Lab, tmp_path: Path) -> None:
    other = Lab(tmp_path / "other")
    other.signature = lab.signature
    assert not other.theirs()
    assert "unknown key" in reason(other.ours())


def test_without_a_hint_each_trusted_key_is_tried(lab: Lab, tmp_path: Path) -> None:
    lab.change(lambda bundle: bundle["verificationMaterial"]["publicKey"].pop("hint"))
    assert lab.theirs() and isinstance(lab.ours(), list)
    other = Lab(tmp_path / "other")
    other.signature = lab.signature
    assert not other.theirs()
    assert "does not verify" in reason(other.ours())


def test_roles_and_days_of_a_key_hold_for_bundles(lab: Lab) -> None:
    def with_key(key: Key, role: Role = Role.UPSTREAM) -> str:
        return reason(lab.ours(Trust((Identity("lab", role, (key,)),))))

    assert "expired" in with_key(replace(lab.key, until=datetime.date(2026, 11, 22)))
    assert "revoked: lost" in with_key(replace(lab.key, revoked="lost"))
    assert "may not state" in with_key(lab.key, Role.BUILDER)


def test_hashes_of_pieces_are_read_and_say_nothing_of_files(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.sign(model_signing.hashing.Config().use_shard_serialization())
    # The library's own verifier (1.1) fails on what its signer writes of pieces.
    assert isinstance(lab.ours(), list)
    chain = lab.chain()
    assert chain.refusals and any("does not meet" in line for line in chain.refusals)


def test_other_hashes_meet_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.sign(model_signing.hashing.Config().use_file_serialization(hashing_algorithm="blake2"))
    assert isinstance(lab.ours(), list)
    assert lab.chain().refusals


def test_the_mistaken_text_of_an_early_version_is_no_signature(lab: Lab) -> None:
    """The one case that we refuse and the library does not: see the module."""

    def as_then(bundle: dict[str, Any]) -> None:
        payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
        signature = lab.private.sign(pae_compat(payload), ec.ECDSA(hashes.SHA256()))
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()

    lab.change(as_then)
    assert lab.theirs()
    assert "does not verify" in reason(lab.ours())


@pytest.mark.parametrize(
    "bundle",
    [
        {"mediaType": 3},
        {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"},
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {"payload": "?", "signatures": [{"sig": ""}]},
        },
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ["x"]}},
            "dsseEnvelope": {"payload": "", "signatures": [[]]},
        },
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {"payload": "", "signatures": []},
        },
        [],
    ],
)
def test_what_is_no_bundle_is_rejected_in_one_line(lab: Lab, bundle: Mapping[str, Any]) -> None:
    found = attach(json.dumps(bundle).encode(), "model.sig", lab.trust, TODAY)
    assert reason(found) and "\n" not in reason(found)
