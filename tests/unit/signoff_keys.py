"""Keys and statements that are the same in every run. Nobody trusts these keys anywhere."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from harness.signoff import strictjson
from harness.signoff.interface import (
    PAYLOAD_TYPE,
    PROVENANCE,
    STATEMENT_TYPE,
    Identity,
    Key,
    Role,
    Trust,
)

TODAY = datetime.date(2026, 11, 23)
DAY = datetime.timedelta(days=1)
YEAR = datetime.timedelta(days=365)
SUBJECT = "a" * 64


def signer(name: str, scheme: str = "ed25519") -> CryptoSigner:
    """The same key for the same name."""
    seed = hashlib.sha256(name.encode()).digest()
    if scheme == "ed25519":
        return CryptoSigner(Ed25519PrivateKey.from_private_bytes(seed))
    curve = SECP256R1() if scheme.endswith("256") else SECP384R1()
    return CryptoSigner(derive_private_key(int.from_bytes(seed) >> 8, curve))


def key(
    name: str,
    since: datetime.date = TODAY,
    until: datetime.date = TODAY + YEAR,
    revoked: str = "",
    scheme: str = "ed25519",
) -> Key:
    return Key(signer(name, scheme).public_key, since, until, revoked)


def identity(name: str, role: Role = Role.BUILDER, *keys: Key) -> Identity:
    return Identity(name, role, keys or (key(name),))


def trust(*identities: Identity) -> Trust:
    return Trust(identities)


def statement(**changes: Any) -> dict[str, Any]:
    """A statement with little in it, but of the right form."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "library/model.so", "digest": {"sha256": SUBJECT}}],
        "predicateType": PROVENANCE,
        "predicate": {"words": ["é", 1, None, True]},
        **changes,
    }


def payload_of(data: bytes) -> bytes:
    return base64.b64decode(strictjson.parse(data, "it")["payload"])


def sealed(payload: bytes, *signers: CryptoSigner, **changes: Any) -> bytes:
    """An envelope around any bytes, signed well: what somebody hostile with a key can make."""
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    for each in signers:
        envelope.sign(each)
    found: Mapping[str, Any] = {**envelope.to_dict(), **changes}
    return strictjson.canonical(found)
