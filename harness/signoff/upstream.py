"""What may be attached to a sign-off: DSSE statements, and the bundles that sigstore tools write.

A bundle of OpenSSF model signing that was signed with a key is an envelope with a hint at the key:
the SHA-256 of its PEM. It is made into a plain envelope by putting the key's own identifier in,
which no signature covers, and then opened like any other. The hint only says which key to try.

The library that wrote such a bundle is not needed to read it. Its readers accept two things more:
signatures over another text, which version 0.2 made by mistake, and no hint at all with whatever
key they are given. Here the first is no signature, and without a hint each trusted key is tried.

A bundle that was signed without a key, through sigstore, stays what it is: see
:mod:`harness.signoff.keyless`.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
from collections.abc import Iterator
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature

from harness.errors import UsageError
from harness.signoff import strictjson
from harness.signoff.envelope import MAX_BYTES, EnvelopeError, open_envelope
from harness.signoff.interface import PAYLOAD_TYPE, Key, Rejected, Signed, Trust
from harness.signoff.trust import public_pem
from harness.text import printable

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_BUNDLES = "application/vnd.dev.sigstore.bundle"  # how all versions of the type begin
_CERTIFIED = ("certificate", "x509CertificateChain")


def attach(data: bytes, file: str, trusted: Trust, today: datetime.date) -> list[Signed] | Rejected:
    """The statement of an envelope or of a bundle signed with a key, by identities that count."""
    try:
        return open_envelope(sealed(data, trusted), file, trusted, today)
    except UsageError as error:
        return Rejected(printable(file, 200), error.what)


def sealed(data: bytes, trusted: Trust) -> bytes:
    """The plain envelope to keep in a bundle; what is none of sigstore's is returned as it is.

    UsageError if it is a bundle of sigstore's that no key of the trust file can have signed. That
    it is returned does not yet say that it is good.
    """
    if len(data) > MAX_BYTES:
        raise UsageError(f"larger than {MAX_BYTES} bytes", "Attach the statement alone.")
    try:
        found = strictjson.parse(data, "the bundle")
        if not isinstance(found, dict) or "mediaType" not in found:
            return data
        return _unpacked(found, trusted)
    except (EnvelopeError, strictjson.StrictJsonError) as error:
        raise UsageError(str(error)) from None


def keyless(data: bytes) -> bool:
    """Whether it says of itself that it is a bundle with a certificate of sigstore's."""
    if len(data) > MAX_BYTES:
        return False
    try:
        found = strictjson.parse(data, "the bundle")
    except strictjson.StrictJsonError:
        return False
    material = found.get("verificationMaterial") if isinstance(found, dict) else None
    return isinstance(material, dict) and any(key in material for key in _CERTIFIED)


def _unpacked(bundle: dict[str, Any], trusted: Trust) -> bytes:
    kind = bundle["mediaType"]
    if kind != BUNDLE:
        shown = printable(kind, 100) if isinstance(kind, str) else f"a {type(kind).__name__}"
        raise EnvelopeError(f"wrong media type: {shown!r}, not {BUNDLE}")
    material = _table(bundle, "verificationMaterial")
    if any(key in material for key in _CERTIFIED):
        raise EnvelopeError("signed with a certificate of sigstore's, not with a key")
    envelope = _table(bundle, "dsseEnvelope")
    hint = _table(material, "publicKey").get("hint") or ""
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise EnvelopeError("a bundle has exactly one signature")
    payload, signature = _bytes(envelope, "payload"), _bytes(signatures[0], "sig")
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise EnvelopeError(f"the envelope's payloadType is not {PAYLOAD_TYPE}")
    message = Envelope(payload, PAYLOAD_TYPE, {}).pae()
    known = False
    for key in _hinted(trusted, hint):
        known = True
        keyid = key.public.keyid
        try:
            key.public.verify_signature(Signature(keyid, signature.hex()), message)
        except UnverifiedSignatureError:
            continue
        entry = {"keyid": keyid, "sig": base64.b64encode(signature).decode("ascii")}
        return strictjson.canonical(
            {"payload": envelope["payload"], "payloadType": PAYLOAD_TYPE, "signatures": [entry]}
        )
    if known:
        raise EnvelopeError("the signature does not verify with the key that the bundle names")
    raise EnvelopeError(f"unknown key {printable(str(hint), 80)}")


def _hinted(trusted: Trust, hint: object) -> Iterator[Key]:
    for identity in trusted.identities:
        for key in identity.keys:
            pem = public_pem(key.public).encode("ascii")
            if not hint or hint == hashlib.sha256(pem).hexdigest():
                yield key


def _table(found: object, name: str) -> dict[str, Any]:
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, dict):
        raise EnvelopeError(f"the bundle has no {name}")
    return value


def _bytes(found: object, name: str) -> bytes:
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, str):
        raise EnvelopeError(f"the bundle's envelope has no {name}")
    try:
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise EnvelopeError(f"{name} is not base64") from None
