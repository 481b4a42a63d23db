"""Envelopes: what opens is exactly what was signed, by a key that may; all else says why."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, Key, Signature, Signer, SSlibKey

from harness.errors import StoreError, UsageError
from harness.signoff import strictjson
from harness.signoff.envelope import (
    MAX_BYTES,
    MAX_SIGNATURES,
    MAX_SUBJECTS,
    open_envelope,
    read_envelope,
    seal,
)
from harness.signoff.interface import (
    BOM,
    EVIDENCE,
    PAYLOAD_TYPE,
    PROVENANCE,
    SUMMARY,
    Rejected,
    Role,
    Signed,
    Trust,
)
from tests.fuzz.holds import claim, safe
from tests.fuzz.mutate import mutated
from tests.unit.signoff_keys import (
    DAY,
    SUBJECT,
    TODAY,
    YEAR,
    identity,
    key,
    payload_of,
    sealed,
    signer,
    statement,
    trust,
)

KNOWN = trust(
    identity("a"),
    identity("b", Role.BUILDER, key("b-old", until=TODAY), key("b")),
    identity("c", Role.BUILDER, key("c", scheme="ecdsa-sha2-nistp256")),
    identity("v", Role.VERIFIER, key("v", scheme="ecdsa-sha2-nistp384")),
    identity("u", Role.UPSTREAM),
    identity("lost", Role.BUILDER, key("lost", revoked="laptop lost")),
    identity("late", Role.BUILDER, key("late", TODAY - YEAR, TODAY - DAY)),
    identity("early", Role.BUILDER, key("early", TODAY + DAY)),
)
SCHEMES = {"c": "ecdsa-sha2-nistp256", "v": "ecdsa-sha2-nistp384"}
GOOD = seal(statement(), [signer("a")])


def by(name: str) -> CryptoSigner:
    return signer(name, SCHEMES.get(name, "ed25519"))


def opened(data: bytes, trusted: Trust = KNOWN, today: datetime.date = TODAY) -> list[Signed]:
    found = open_envelope(data, "f.json", trusted, today)
    assert isinstance(found, list), found
    assert found
    return found


def reason(data: bytes, trusted: Trust = KNOWN, today: datetime.date = TODAY) -> str:
    found = open_envelope(data, "f.json", trusted, today)
    assert isinstance(found, Rejected), found
    assert found.file == "f.json"
    return found.reason


# What opens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "b", "b-old", "c"])
def test_each_kind_of_key_signs(name: str) -> None:
    (found,) = opened(seal(statement(), [by(name)]))
    assert found.signer.name == name[0]
    assert found.keyid == by(name).public_key.keyid
    assert found.file == "f.json"
    assert found.statement == statement()
    assert found.predicate_type == PROVENANCE


def test_the_statement_is_exactly_the_bytes_that_were_signed() -> None:
    """Spelled as we never write it: nothing is written anew on the way."""
    payload = json.dumps(statement(), indent=3, ensure_ascii=False).encode()
    assert payload != strictjson.canonical(statement())
    (found,) = opened(sealed(payload, by("a")))
    assert found.digest == hashlib.sha256(payload).hexdigest()
    assert found.statement == json.loads(payload)
    (ours,) = opened(GOOD)
    assert ours.digest == hashlib.sha256(payload_of(GOOD)).hexdigest() != found.digest


def test_one_signed_for_each_identity_however_many_of_its_keys() -> None:
    data = seal(statement(), [by("b-old"), by("a"), by("b"), by("c")])
    assert [each.signer.name for each in opened(data)] == ["b", "a", "c"]
    assert len({each.digest for each in opened(data)}) == 1


def test_unknown_and_unusable_signatures_beside_a_good_one_do_no_harm() -> None:
    data = seal(statement(), [by("nobody"), by("lost"), by("late"), by("early"), by("a")])
    assert [each.signer.name for each in opened(data)] == ["a"]


def test_a_key_counts_on_its_first_and_on_its_last_day() -> None:
    known = trust(identity("a", Role.BUILDER, key("a", TODAY, TODAY + DAY)))
    assert opened(GOOD, known, TODAY)
    assert opened(GOOD, known, TODAY + DAY)
    assert "not valid before 2026-11-23" in reason(GOOD, known, TODAY - DAY)
    assert "expired on 2026-11-24" in reason(GOOD, known, TODAY + 2 * DAY)


# What does not -----------------------------------------------------------------------------------


def changed(**changes: Any) -> bytes:
    return strictjson.canonical({**json.loads(GOOD), **changes})


def of_signature(**changes: Any) -> bytes:
    return changed(signatures=[{**json.loads(GOOD)["signatures"][0], **changes}])


def stated(**changes: Any) -> bytes:
    """Something else, signed well."""
    return sealed(strictjson.canonical(statement(**changes)), by("a"))


def subject(**changes: Any) -> bytes:
    return stated(subject=[{**statement()["subject"][0], **changes}])


def without(name: str) -> bytes:
    found = statement()
    del found[name]
    return sealed(strictjson.canonical(found), by("a"))


def spelled(payload: str) -> bytes:
    return sealed(payload.encode(), by("a"))


SIGNATURE = json.loads(GOOD)["signatures"][0]["sig"]
OTHER = json.loads(seal(statement(), [by("b")]))["signatures"][0]
PAYLOAD = json.loads(GOOD)["payload"]
TEXT = payload_of(GOOD).decode()
KEYID = by("a").public_key.keyid
FLIPPED = base64.b64encode(bytes([base64.b64decode(SIGNATURE)[0] ^ 1]) +
                           base64.b64decode(SIGNATURE)[1:]).decode()  # fmt: skip

# Cause → how it is made, and the reason that it has to have, which no other cause may have.
CAUSES: dict[str, tuple[Callable[[], bytes], str]] = {
    # the file
    "too large": (lambda: GOOD + b" " * MAX_BYTES, r"^larger than 8388608 bytes$"),
    "cut off": (lambda: GOOD[:-1], r"^the envelope is not JSON at"),
    "too many values": (
        lambda: GOOD[:-1] + b',"x":[' + b"[]," * 300 + b"0]}",
        r"^the envelope holds more than 256 values$",
    ),
    "no JSON object": (lambda: b"[]", r"^the envelope is no object$"),
    "key twice in the envelope": (
        lambda: GOOD.replace(b'{"payload"', b'{"payloadType":"x","payload"'),
        r"^the envelope has the key 'payloadType' twice",
    ),
    "no payload": (
        lambda: b'{"payloadType":"x","signatures":[]}', r"^the envelope has no payload$"
    ),
    "no signatures": (
        lambda: b'{"payload":"","payloadType":"x"}', r"^the envelope has no signatures$"
    ),
    "more in the envelope": (lambda: changed(more=1), r"^the envelope has an unknown key: 'more'$"),
    "wrong media type": (
        lambda: changed(payloadType="application/json"),
        r"^wrong media type: 'application/json', not application/vnd\.in-toto\+json$",
    ),
    "media type that is no text": (
        lambda: changed(payloadType=[PAYLOAD_TYPE]), r"^wrong media type: 'a list', not"
    ),
    # signatures
    "empty list": (lambda: changed(signatures=[]), r"^signatures is no list of 1 to 16$"),
    "more in a signature": (
        lambda: of_signature(cert="x"), r"^a signature has an unknown key: 'cert'$"
    ),
    "no keyid": (
        lambda: changed(signatures=[{"sig": SIGNATURE}]), r"^a signature has no keyid$"
    ),
    "no sig": (lambda: changed(signatures=[{"keyid": KEYID}]), r"^a signature has no sig$"),
    "empty keyid": (lambda: of_signature(keyid=""), r"^keyid has not 1 to 4096 characters$"),
    "keyid that is no text": (lambda: of_signature(keyid=1), r"^keyid is no text$"),
    "two by one key": (
        lambda: changed(signatures=[{"keyid": KEYID, "sig": SIGNATURE}] * 2),
        r"^two signatures by one key: ",
    ),
    "empty signature": (lambda: of_signature(sig=""), r"^a signature has 0 bytes, not 1 to 1024$"),
    "long signature": (
        lambda: of_signature(sig=base64.b64encode(bytes(1025)).decode()),
        r"^a signature has 1025 bytes, not 1 to 1024$",
    ),
    "signature that is no text": (lambda: of_signature(sig=None), r"^sig is no text$"),
    "signature with a line break": (
        lambda: of_signature(sig=SIGNATURE + "\n"), r"^sig is not base64$"
    ),
    # Ed25519 signatures have 64 bytes: four bits of the last digit mean nothing.
    "signature with spare bits": (
        lambda: of_signature(sig=SIGNATURE[:-3] + chr(ord(SIGNATURE[-3]) + 1) + "=="),
        r"^sig is not base64 in its canonical form$",
    ),
    "payload without padding": (
        lambda: changed(payload=base64.b64encode(b"x").decode().rstrip("=")),
        r"^payload is not base64$",
    ),
    "changed signature": (
        lambda: of_signature(sig=FLIPPED), rf"^the signature by a \({KEYID}\) does not verify$"
    ),
    # keys
    "unknown key": (lambda: seal(statement(), [by("nobody")]), r"^unknown key [0-9a-f]{64}$"),
    "revoked key": (
        lambda: seal(statement(), [by("lost")]), r"^signed by lost with a key revoked: laptop lost$"
    ),
    "expired key": (
        lambda: seal(statement(), [by("late")]),
        r"^signed by late with a key expired on 2026-11-22$",
    ),
    "key of tomorrow": (
        lambda: seal(statement(), [by("early")]),
        r"^signed by early with a key not valid before 2026-11-24$",
    ),
    # the payload
    "payload cut off": (lambda: spelled(TEXT[:-1]), r"^the payload is not JSON at"),
    "key twice in the payload": (
        lambda: spelled(TEXT.replace('{"_type"', '{"_type":"","_type"')),
        r"^the payload has the key '_type' twice",
    ),
    "big number in the payload": (
        lambda: spelled(TEXT.replace('"words"', f'"n":{2**53},"words"')),
        r"^the payload has an integer beyond 2\^53",
    ),
    "payload is a list": (lambda: spelled("[]"), r"^the statement is no object$"),
    "old statement type": (
        lambda: stated(_type="https://in-toto.io/Statement/v0.1"), r"^wrong statement type: "
    ),
    "more in the statement": (
        lambda: stated(more=1), r"^the statement has an unknown key: 'more'$"
    ),
    "no predicate": (lambda: without("predicate"), r"^the statement has no predicate$"),
    "no subject": (lambda: without("subject"), r"^the statement has no subject$"),
    "predicate is text": (lambda: stated(predicate="{}"), r"^predicate is no object$"),
    "predicate type is no text": (
        lambda: stated(predicateType=None), r"^predicateType is no text$"
    ),
    "empty subject": (lambda: stated(subject=[]), r"^subject is no list of 1 to 10000$"),
    "subject is no object": (lambda: stated(subject=["x"]), r"^a subject is no object$"),
    "subject without a name": (
        lambda: stated(subject=[{"digest": {"sha256": SUBJECT}}]), r"^a subject's name is no text$"
    ),
    "more in a subject": (
        lambda: subject(sha256=SUBJECT), r"^a subject has an unknown key: 'sha256'$"
    ),
    "two subjects of one name": (
        lambda: stated(subject=statement()["subject"] * 2), r"^two subjects have one name: "
    ),
    "no digest": (lambda: subject(digest=SUBJECT), r"^subject 'library/model.so' has no digest$"),
    "no sha256": (
        lambda: subject(digest={"sha512": SUBJECT * 2}), r"has no sha256 of 64 small hex digits$"
    ),
    # roles
    "not for a builder": (
        lambda: stated(predicateType=SUMMARY),
        r"^signed by builder a, who may not state 'https://slsa\.dev/verification_summary/v1'$",
    ),
}  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_has_its_own_reason(cause: str) -> None:
    make, pattern = CAUSES[cause]
    found = reason(make())
    assert re.search(pattern, found), found
    alike = [name for name, (_, other) in CAUSES.items() if re.search(other, found)]
    assert alike == [cause]
    assert isinstance(open_envelope(GOOD, "f.json", KNOWN, TODAY), list)  # and not by itself


@pytest.mark.parametrize(
    "sha256", [SUBJECT.upper(), SUBJECT[1:], f"{SUBJECT}\n", f"0x{SUBJECT}", ""]
)
def test_a_digest_has_one_form(sha256: str) -> None:
    assert "64 small hex digits" in reason(subject(digest={"sha256": sha256}))


def test_other_digests_and_known_fields_may_stand_beside() -> None:
    (found,) = opened(
        subject(digest={"sha256": SUBJECT, "sha512": SUBJECT * 2}, uri="x", annotations={"a": 1})
    )
    assert found.statement["subject"][0]["uri"] == "x"


def test_a_changed_payload_does_not_verify() -> None:
    other = base64.b64encode(strictjson.canonical(statement(predicate={}))).decode()
    assert reason(changed(payload=other)) == f"the signature by a ({KEYID}) does not verify"


def test_a_signature_counts_under_its_own_key_only() -> None:
    """The identifier says which key to try, and no more."""
    assert "by a" in reason(of_signature(sig=OTHER["sig"]))
    assert "does not verify" in reason(of_signature(keyid=OTHER["keyid"]))
    assert reason(of_signature(keyid="a")) == "unknown key a"
    assert "unknown key" in reason(of_signature(keyid=KEYID.upper()))


@pytest.mark.parametrize("name", ["lost", "late", "early", "b"])
def test_a_bad_signature_under_a_known_key_refuses_the_file(name: str) -> None:
    """Whether that key may be used or not: somebody tampered."""
    bad = {"keyid": by(name).public_key.keyid, "sig": SIGNATURE}
    for listed in ([bad], [bad, json.loads(GOOD)["signatures"][0]],
                   [json.loads(GOOD)["signatures"][0], bad]):  # fmt: skip
        assert f"the signature by {name} " in reason(changed(signatures=listed))


def test_a_bad_signature_under_an_unknown_key_does_no_harm() -> None:
    listed = [{"keyid": "x", "sig": "AAAA"}, json.loads(GOOD)["signatures"][0]]
    assert opened(changed(signatures=listed))
    assert reason(changed(signatures=listed[:1])) == "unknown key x"


def test_nothing_of_a_payload_is_read_before_somebody_known_has_signed_it() -> None:
    assert "unknown key" in reason(sealed(b"not JSON", by("nobody")))
    assert "revoked" in reason(sealed(b"not JSON", by("lost")))
    other = base64.b64encode(b"not JSON").decode()
    assert "does not verify" in reason(changed(payload=other))


def test_a_key_under_another_identifier_is_refused() -> None:
    """As a trust file would not load it: the identifier has to be the key's own."""
    mine = key("a")
    named = SSlibKey("f" * 64, mine.public.keytype, mine.public.scheme, mine.public.keyval)
    known = trust(identity("x", Role.BUILDER, replace(mine, public=named)))
    data = sealed(payload_of(GOOD), CryptoSigner(by("a")._private_key, named))
    assert "is not the own identifier" in reason(data, known)


def test_signatures_are_over_the_type_as_well() -> None:
    """The bytes alone, as other schemes sign them, are not what DSSE signs."""
    plain = by("a").sign(payload_of(GOOD))
    assert "does not verify" in reason(
        of_signature(sig=base64.b64encode(bytes.fromhex(plain.signature)).decode())
    )


def test_all_reasons_are_named_where_no_key_counts() -> None:
    found = reason(seal(statement(), [by("lost"), by("late")]))
    assert found == (
        "signed by lost with a key revoked: laptop lost; signed by late with a key expired on "
        "2026-11-22"
    )


def test_hostile_names_are_shown_safely() -> None:
    found = open_envelope(of_signature(keyid="\x1b[2J\u202e" * 500), "\x1b[2J\n", KNOWN, TODAY)
    assert isinstance(found, Rejected)
    safe(found.reason, "the reason")
    safe(found.file, "the file")
    assert len(found.reason) < 200


# Roles -------------------------------------------------------------------------------------------

MAY = {
    "a": {PROVENANCE},
    "v": {PROVENANCE, SUMMARY, EVIDENCE, BOM},
    "u": {PROVENANCE, SUMMARY, BOM, "https://model_signing/signature/v1.0"},
}


@pytest.mark.parametrize("name", MAY)
@pytest.mark.parametrize("predicate_type", sorted(set().union(*MAY.values())))
def test_nobody_speaks_outside_of_the_role(name: str, predicate_type: str) -> None:
    data = seal(statement(predicateType=predicate_type), [by(name)])
    if predicate_type in MAY[name]:
        assert opened(data)[0].predicate_type == predicate_type
    else:
        assert "who may not state" in reason(data)


def test_who_may_not_speak_does_not_count_beside_who_may() -> None:
    data = seal(statement(predicateType=EVIDENCE), [by("a"), by("v")])
    assert [each.signer.name for each in opened(data)] == ["v"]


# Sealing -----------------------------------------------------------------------------------------


def subjects(many: int) -> list[dict[str, Any]]:
    return [{**statement()["subject"][0], "name": str(number)} for number in range(many)]


def test_subjects_are_bounded() -> None:
    assert opened(stated(subject=subjects(MAX_SUBJECTS)))
    assert reason(stated(subject=subjects(MAX_SUBJECTS + 1))) == (
        "subject is no list of 1 to 10000"
    )


@pytest.mark.parametrize(
    "wrong",
    [
        statement(subject=[]),
        statement(predicate=[]),
        statement(more=1),
        statement(predicate={"n": 2**53}),
        statement(predicate={"n": float("nan")}),
        statement(subject=subjects(MAX_SUBJECTS + 1)),
    ],
    ids=["no subject", "predicate", "more", "big", "nan", "many"],
)
def test_what_would_not_open_is_not_sealed(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="cannot be signed"):
        seal(wrong, [by("a")])


def test_one_to_sixteen_signers_each_once() -> None:
    for many in ([], [by("a"), by("a")], [by(str(n)) for n in range(MAX_SIGNATURES + 1)]):
        with pytest.raises(UsageError):
            seal(statement(), many)
    assert len(read_envelope(seal(statement(), [by(str(n)) for n in range(16)])).signatures) == 16


def test_more_signatures_than_sixteen_are_not_tried() -> None:
    more = [{"keyid": f"x{n}", "sig": "AAAA"} for n in range(MAX_SIGNATURES)]
    good = json.loads(GOOD)["signatures"]
    assert opened(changed(signatures=more[1:] + good))
    assert reason(changed(signatures=more + good)) == "signatures is no list of 1 to 16"


def test_what_is_too_large_is_not_sealed() -> None:
    with pytest.raises(UsageError, match="larger than"):
        seal(statement(predicate={"x": "x" * MAX_BYTES}), [by("a")])


class Broken(Signer):
    """A token that signs something else, or that fails: no real one does so when asked."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails

    @property
    def public_key(self) -> Key:
        return by("a").public_key

    def sign(self, payload: bytes) -> Signature:
        if self.fails:
            raise RuntimeError("gone\x1b[2J")
        return by("a").sign(payload + b"!")

    @classmethod
    def from_priv_key_uri(cls, *_: object) -> Signer:
        raise NotImplementedError


def test_a_token_that_signs_something_else_or_fails_is_an_error() -> None:
    with pytest.raises(StoreError, match="does not verify"):
        seal(statement(), [Broken(False)])
    with pytest.raises(StoreError, match="could not sign: RuntimeError: gone") as error:
        seal(statement(), [Broken(True)])
    safe(error.value.what, "the error")


# With securesystemslib by itself ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "c", "v"])
def test_what_we_seal_verifies_elsewhere(name: str) -> None:
    data = seal(statement(predicateType=PROVENANCE), [by(name), by("b")])
    theirs = Envelope.from_dict(json.loads(data))
    keys: list[Key] = [by(name).public_key, by("b").public_key]
    assert set(theirs.verify(keys, 2)) == {each.keyid for each in keys}
    assert json.loads(theirs.payload) == statement()


@pytest.mark.parametrize("name", ["a", "c", "v"])
def test_what_is_sealed_elsewhere_opens(name: str) -> None:
    theirs = Envelope(json.dumps(statement()).encode(), PAYLOAD_TYPE, {})
    theirs.sign(by(name))
    (found,) = opened(json.dumps(theirs.to_dict(), indent=2).encode())
    assert found.signer.name == name
    assert found.statement == statement()


# Whatever comes ----------------------------------------------------------------------------------


def check(data: bytes) -> None:
    """Never an error; and what opens is what was signed."""
    found = open_envelope(data, "f.json", KNOWN, TODAY)
    if isinstance(found, Rejected):
        safe(found.reason, "the reason")
        claim(0 < len(found.reason) < 4000, "a long reason")
        return
    claim(bool(found), "an empty answer")
    for each in found:
        claim(each.digest in SIGNED, "somebody signed what nobody signed")
        claim(each.statement == SIGNED[each.digest], "a statement that is not what was signed")


SEEDS = (GOOD, seal(statement(), [by("a"), by("nobody"), by("c")]), stated(predicate={}), b"{}")
SIGNED = {
    hashlib.sha256(payload_of(data)).hexdigest(): json.loads(payload_of(data)) for data in SEEDS[:3]
}


@settings(max_examples=150)
@given(chance=st.randoms(use_true_random=False))
def test_a_changed_envelope_says_what_was_signed_or_nothing(chance: random.Random) -> None:
    check(mutated(chance.choice(SEEDS), SEEDS, chance, 2**13))


@settings(max_examples=100)
@given(at=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7))
def test_one_bit_changes_nothing_that_was_signed(at: int, bit: int) -> None:
    check(GOOD[:at] + bytes([GOOD[at] ^ 1 << bit]) + GOOD[at + 1 :])


@given(st.binary(max_size=300))
def test_any_bytes_as_a_file(data: bytes) -> None:
    check(data)


@given(st.binary(max_size=300))
def test_any_bytes_as_a_payload_that_is_signed_well(data: bytes) -> None:
    found = open_envelope(sealed(data, by("a")), "f.json", KNOWN, TODAY)
    assert isinstance(found, Rejected)
    safe(found.reason, "the reason")


@settings(max_examples=100)
@given(chance=st.randoms(use_true_random=False))
def test_a_changed_payload_that_is_signed_well_is_a_statement_or_refused(
    chance: random.Random,
) -> None:
    payload = mutated(TEXT.encode(), (TEXT.encode(),), chance, 2**13)
    found = open_envelope(sealed(payload, by("a")), "f.json", KNOWN, TODAY)
    if isinstance(found, Rejected):
        safe(found.reason, "the reason")
        return
    (one,) = found
    assert one.statement == json.loads(payload)
    assert one.digest == hashlib.sha256(payload).hexdigest()
