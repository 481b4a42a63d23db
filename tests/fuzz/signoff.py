"""Targets for what sign-off reads: strict JSON, envelopes, and the trust file."""

from __future__ import annotations

import hashlib
import json
from functools import partial

from harness.errors import UsageError
from harness.signoff import strictjson
from harness.signoff.envelope import open_envelope, seal
from harness.signoff.interface import Rejected, Role
from harness.signoff.strictjson import StrictJsonError
from harness.signoff.trust import check_unique, load_trust, to_toml
from tests.fuzz.holds import MAX_MESSAGE, claim, only, safe
from tests.unit.signoff_keys import (
    TODAY,
    identity,
    key,
    payload_of,
    sealed,
    signer,
    statement,
    trust,
)

KNOWN = trust(
    identity("a"), identity("c", Role.BUILDER, key("c", scheme="ecdsa-sha2-nistp256")),
    identity("lost", Role.VERIFIER, key("lost", revoked="lost")),
)  # fmt: skip
ENVELOPES = (
    seal(statement(), [signer("a")]),
    seal(statement(), [signer("nobody"), signer("lost"), signer("c", "ecdsa-sha2-nistp256")]),
)
SIGNED = {hashlib.sha256(payload_of(data)).hexdigest() for data in ENVELOPES}
PAYLOADS = (payload_of(ENVELOPES[0]), json.dumps(statement(), indent=2).encode())


def strict(data: bytes) -> None:
    with only(StrictJsonError):
        found = strictjson.parse(data, "it")
        claim(strictjson.parse(strictjson.canonical(found), "it") == found, "two readings")
        claim(json.loads(data) == found, "another reading than elsewhere")


def envelope(data: bytes) -> None:
    """What opens is what was signed, whatever the file."""
    found = open_envelope(data, "f.json", KNOWN, TODAY)
    if isinstance(found, Rejected):
        safe(found.reason, "a reason")
        claim(0 < len(found.reason) <= MAX_MESSAGE, f"a reason of {len(found.reason)} characters")
        return
    for each in found:
        claim(each.digest in SIGNED, "a statement that nobody signed")
        claim(each.statement == statement(), "a statement that is not what was signed")


def payload(data: bytes) -> None:
    """Whatever somebody who may sign has signed: its form holds, or it is refused."""
    found = open_envelope(sealed(data, signer("a")), "f.json", KNOWN, TODAY)
    if isinstance(found, Rejected):
        safe(found.reason, "a reason")
        claim(0 < len(found.reason) <= MAX_MESSAGE, f"a reason of {len(found.reason)} characters")
        return
    (one,) = found
    claim(one.digest == hashlib.sha256(data).hexdigest(), "a digest of other bytes")
    claim(one.statement == json.loads(data), "another reading than elsewhere")
    for each in one.statement["subject"]:
        claim(len(bytes.fromhex(each["digest"]["sha256"])) == 32, "a digest that is none")


def trusted(data: bytes) -> None:
    from tests.fuzz.targets import written

    with only(UsageError):
        found = load_trust(written("keys.toml", data))
        check_unique(found, "it")
        again = load_trust(written("again.toml", to_toml(found).encode()))
        claim(again == found, "a trust file that is not what it was when written")


def targets() -> dict[str, tuple[str, partial[None], tuple[bytes, ...]]]:
    found = {
        "strict-json": (strictjson.__name__, strict, (*PAYLOADS, ENVELOPES[0])),
        "envelope": ("harness.signoff.envelope", envelope, ENVELOPES),
        "statement": ("harness.signoff.envelope", payload, PAYLOADS),
        "trust": ("harness.signoff.trust", trusted, (to_toml(KNOWN).encode(),)),
    }
    return {name: (reads, partial(run), seeds) for name, (reads, run, seeds) in found.items()}
