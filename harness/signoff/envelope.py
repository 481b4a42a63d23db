"""DSSE envelopes: statements are sealed here, and opened here only.

Opening goes in this order, and what fails first is the reason:

1. The file is strict JSON of exactly the form of an envelope, with our media type.
2. No signature under the identifier of a known key is a bad one. Those of unknown keys prove
   nothing and harm nothing, as anybody can add them.
3. At least one signature is by a key that may be used today, under that key's own identifier.
4. The payload, exactly the bytes that were signed, is strict JSON of the form of a statement.
5. The predicate type is one that the signer's role may speak about.

A key's identifier in the envelope only says which key to try: it is never believed.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature, Signer, SSlibKey

from harness.errors import StoreError, UsageError
from harness.signoff import strictjson, trust
from harness.signoff.interface import (
    BOM,
    EVIDENCE,
    PAYLOAD_TYPE,
    PROVENANCE,
    STATEMENT_TYPE,
    SUMMARY,
    Identity,
    Rejected,
    Role,
    Signed,
    Trust,
)
from harness.text import printable

MAX_BYTES = 8 * 2**20  # of an envelope
MAX_SIGNATURES = 16
MAX_VALUES = 256  # in an envelope, the payload not looked into; 16 signatures need about 100
MAX_SIGNATURE = 1024  # bytes; DER over P-384 takes 104
MAX_SUBJECTS = 10_000
MAX_TEXT = 4096  # characters of a name, a type or a key's identifier
_SUBJECT = {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
_SPEAKS = {
    Role.BUILDER: frozenset({PROVENANCE}),
    Role.VERIFIER: frozenset({SUMMARY, EVIDENCE, BOM, PROVENANCE}),
}


class EnvelopeError(ValueError):
    """Not an envelope, or not a statement; the text is one line, safe to print."""


@dataclass(frozen=True)
class Unverified:
    """What an envelope holds. Nothing says yet that any of it is true.

    ``signatures``: key's identifier → bytes, in the order of the file.
    """

    payload: bytes
    signatures: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()


def seal(statement: Mapping[str, Any], signers: Sequence[Signer]) -> bytes:
    """The content of a DSSE file: ``statement``, signed by each of ``signers``.

    Refuses to sign what :func:`open_envelope` would not take (UsageError). A signature that does
    not verify with the signer's own public key is a StoreError: a token or a service failed.
    """
    try:
        payload = strictjson.canonical(statement)
        check_statement(strictjson.parse(payload, "the statement"))
    except (EnvelopeError, strictjson.StrictJsonError) as error:
        raise UsageError(f"the statement cannot be signed: {error}") from None
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    for signer in signers:
        key = signer.public_key
        if not isinstance(key, SSlibKey) or key.keyid != trust.own_keyid(key):
            raise UsageError("a signer's key is not under its own identifier")
        if key.keyid in envelope.signatures:
            raise UsageError(f"the key {key.keyid} is given twice", "Give each key once.")
        try:
            signature = signer.sign(envelope.pae())
        except Exception as error:  # whatever a token, a service or their libraries raise
            words = printable(f"{type(error).__name__}: {error}", 300)
            raise StoreError(f"the key {key.keyid} could not sign: {words}") from None
        if not _verifies(key, signature.keyid, bytes.fromhex(signature.signature), envelope.pae()):
            raise StoreError(f"the signature by {key.keyid} does not verify", "Try again.")
        envelope.signatures[signature.keyid] = signature
    if not 1 <= len(envelope.signatures) <= MAX_SIGNATURES:
        raise UsageError(f"a statement takes 1 to {MAX_SIGNATURES} signatures")
    data = strictjson.canonical(envelope.to_dict())
    if len(data) > MAX_BYTES:
        raise UsageError(f"the statement is larger than {MAX_BYTES} bytes as a file")
    return data


def open_envelope(
    data: bytes, file: str, trusted: Trust, today: datetime.date
) -> list[Signed] | Rejected:
    """The statement of a DSSE file, once for each identity that counts as its signer.

    ``file``: a name for messages. Anything wrong with the file is a Rejected, never an error.
    """
    file = printable(file, 200)
    try:
        found = read_envelope(data)
        signers = _signers(found, trusted, today)
        statement = strictjson.parse(found.payload, "the payload")
        check_statement(statement)
        speakers = _speakers(signers, str(statement["predicateType"]))
    except (EnvelopeError, strictjson.StrictJsonError) as error:
        return Rejected(file, str(error))
    return [Signed(file, found.digest, identity, keyid, statement) for identity, keyid in speakers]


def read_envelope(data: bytes) -> Unverified:
    """The form of an envelope, and nothing about its content; EnvelopeError says what is wrong."""
    if len(data) > MAX_BYTES:
        raise EnvelopeError(f"larger than {MAX_BYTES} bytes")
    try:
        found = strictjson.parse(data, "the envelope", MAX_VALUES)
    except strictjson.StrictJsonError as error:
        raise EnvelopeError(str(error)) from None
    _keys(found, {"payload", "payloadType", "signatures"}, "the envelope")
    kind = found["payloadType"]
    if kind != PAYLOAD_TYPE:
        raise EnvelopeError(f"wrong media type: {_shown(kind)}, not {PAYLOAD_TYPE}")
    listed = found["signatures"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_SIGNATURES:
        raise EnvelopeError(f"signatures is no list of 1 to {MAX_SIGNATURES}")
    signatures: dict[str, bytes] = {}
    for each in listed:
        _keys(each, {"keyid", "sig"}, "a signature")
        keyid = each["keyid"]
        _text(keyid, "keyid")
        if keyid in signatures:
            raise EnvelopeError(f"two signatures by one key: {printable(keyid, 80)}")
        signatures[keyid] = _decoded(each["sig"], "sig")
        if not 1 <= (size := len(signatures[keyid])) <= MAX_SIGNATURE:
            raise EnvelopeError(f"a signature has {size} bytes, not 1 to {MAX_SIGNATURE}")
    return Unverified(_decoded(found["payload"], "payload"), signatures)


def check_statement(found: Any) -> None:
    """The form of an in-toto Statement v1, without what is not in it; EnvelopeError says why not.

    The specification has readers ignore fields that they do not know. Here they refuse: nothing
    that was signed goes unseen.
    """
    _keys(found, {"_type", "subject", "predicateType", "predicate"}, "the statement")
    if found["_type"] != STATEMENT_TYPE:
        raise EnvelopeError(f"wrong statement type: {_shown(found['_type'])}, not {STATEMENT_TYPE}")
    _text(found["predicateType"], "predicateType")
    if not isinstance(found["predicate"], dict):
        raise EnvelopeError("predicate is no object")
    subjects = found["subject"]
    if not isinstance(subjects, list) or not 1 <= len(subjects) <= MAX_SUBJECTS:
        raise EnvelopeError(f"subject is no list of 1 to {MAX_SUBJECTS}")
    names: set[str] = set()
    for each in subjects:
        if not isinstance(each, dict):
            raise EnvelopeError("a subject is no object")
        if unknown := each.keys() - _SUBJECT:
            raise EnvelopeError(f"a subject has an unknown key: {_shown(min(unknown))}")
        _text(each.get("name"), "a subject's name")
        if each["name"] in names:
            raise EnvelopeError(f"two subjects have one name: {_shown(each['name'])}")
        names.add(each["name"])
        _digest(each.get("digest"), each["name"])


def fits(role: Role, predicate_type: str) -> bool:
    """Whether a signer in that role may speak about that."""
    if role is Role.UPSTREAM:  # the chain knows what it understands; a run's evidence is none
        return predicate_type != EVIDENCE
    return predicate_type in _SPEAKS[role]


def _signers(
    found: Unverified, trusted: Trust, today: datetime.date
) -> dict[str, tuple[Identity, str]]:
    """By name: who signed with a key that may be used, and with which. Never empty."""
    message = Envelope(found.payload, PAYLOAD_TYPE, {}).pae()
    counted: dict[str, tuple[Identity, str]] = {}
    reasons = []
    for keyid, signature in found.signatures.items():
        owner = trust.find(trusted, keyid)
        if owner is None:
            reasons.append(f"unknown key {printable(keyid, 80)}")
            continue
        identity, key = owner
        if trust.own_keyid(key.public) != keyid:
            raise EnvelopeError(f"{keyid} is not the own identifier of {identity.name}'s key")
        if not _verifies(key.public, keyid, signature, message):
            raise EnvelopeError(f"the signature by {identity.name} ({keyid}) does not verify")
        if why := trust.usable(key, today):
            reasons.append(f"signed by {identity.name} with a key {why}")
        else:
            counted.setdefault(identity.name, (identity, keyid))
    if not counted:
        raise EnvelopeError(printable("; ".join(reasons), 1000))
    return counted


def _speakers(
    signers: Mapping[str, tuple[Identity, str]], predicate_type: str
) -> list[tuple[Identity, str]]:
    speakers = [each for each in signers.values() if fits(each[0].role, predicate_type)]
    if not speakers:
        who = ", ".join(f"{identity.role} {name}" for name, (identity, _) in signers.items())
        raise EnvelopeError(
            printable(f"signed by {who}, who may not state {_shown(predicate_type)}", 1000)
        )
    return speakers


def _verifies(key: SSlibKey, keyid: str, signature: bytes, message: bytes) -> bool:
    try:
        key.verify_signature(Signature(keyid, signature.hex()), message)
    except UnverifiedSignatureError:
        return False
    return True


def _decoded(text: object, what: str) -> bytes:
    """Of the one base64 spelling that encoding gives; others carry bits that nobody signed."""
    if not isinstance(text, str):
        raise EnvelopeError(f"{what} is no text")
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise EnvelopeError(f"{what} is not base64") from None
    if base64.b64encode(data).decode("ascii") != text:
        raise EnvelopeError(f"{what} is not base64 in its canonical form")
    return data


def _keys(found: object, wanted: set[str], what: str) -> None:
    if not isinstance(found, dict):
        raise EnvelopeError(f"{what} is no object")
    if missing := wanted - found.keys():
        raise EnvelopeError(f"{what} has no {min(missing)}")
    if unknown := found.keys() - wanted:
        raise EnvelopeError(f"{what} has an unknown key: {_shown(min(unknown))}")


def _text(found: object, what: str) -> None:
    if not isinstance(found, str):
        raise EnvelopeError(f"{what} is no text")
    if not 1 <= len(found) <= MAX_TEXT:
        raise EnvelopeError(f"{what} has not 1 to {MAX_TEXT} characters")


def _digest(found: object, name: str) -> None:
    """A ``sha256`` in the one form that it has; others may stand beside it and are not used."""
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise EnvelopeError(f"subject {_shown(name)} has no digest")
    if not trust.SHA256.fullmatch(found.get("sha256", "")):
        raise EnvelopeError(f"subject {_shown(name)} has no sha256 of 64 small hex digits")


def _shown(found: object) -> str:
    text = found if isinstance(found, str) else f"a {type(found).__name__}"
    return repr(printable(text, 100))
