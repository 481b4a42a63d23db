"""Statements that were signed through sigstore: by an identity at an issuer, with no key to keep.

Who may sign so stands in a file of its own, next to the trust file::

    root = "trusted_root.json"     # of the sigstore instance; relative to this file

    [[identity]]
    name = "lab"                   # not one of the trust file's
    role = "upstream"
    issuer = "https://token.actions.githubusercontent.com"
    subject = "https://github.com/lab/model/.github/workflows/train.yml@refs/heads/main"
    since = "2026-11-23"
    until = "2027-11-23"
    revoked = "why"                # only if it may not be used any more

Bundles lie in ``BUNDLE/sigstore/``. The ``sigstore`` library verifies each without a network: the
certificate against the instance's authority, its log of certificates, the entry in the log of
signatures and the time that this gives, and the signature. Nothing is asked of the logs themselves,
so what they have learned since is not known. A signature counts if it was made from ``since`` to
``until``, and if today is one of these days as well.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from harness import untrusted
from harness.errors import StoreError, UsageError
from harness.models import Strict
from harness.signoff import strictjson
from harness.signoff.envelope import MAX_BYTES, EnvelopeError, check_statement, fits
from harness.signoff.interface import PAYLOAD_TYPE, Identity, Rejected, Role, Signed, Trust
from harness.signoff.trust import NAME
from harness.signoff.upstream import BUNDLE
from harness.text import printable
from harness.tomlfile import read_limited, read_toml

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

FOLDER = "sigstore"
MOST_BUNDLES = 512
_SUFFIX = ".sigstore.json"
INSTALL = "Install it: pip install 'ml-compiler-harness[sigstore]'"


@dataclass(frozen=True)
class Keyless:
    """Somebody who signs as ``subject`` at ``issuer``, from ``since`` until ``until`` (UTC)."""

    identity: Identity
    issuer: str
    subject: str
    since: datetime.date
    until: datetime.date
    revoked: str = ""


@dataclass(frozen=True)
class KeylessTrust:
    """``root``: the sigstore instance's trusted root, a file."""

    root: Path
    identities: tuple[Keyless, ...]


@dataclass(frozen=True)
class _Entry:
    __pydantic_config__ = Strict

    name: str
    role: Role
    issuer: str
    subject: str
    since: str
    until: str
    revoked: str | None = None


@dataclass(frozen=True)
class _File:
    __pydantic_config__ = Strict

    root: str
    identity: tuple[_Entry, ...]


_ADAPTER = TypeAdapter(_File)


def load_keyless(path: Path, trusted: Trust) -> KeylessTrust:
    """The file at ``path``; UsageError if it is wrong, or has a name of ``trusted``'s."""
    found = read_toml(path, _ADAPTER, UsageError)
    names = {identity.name for identity in trusted.identities}
    subjects: set[tuple[str, str]] = set()
    identities = []
    for entry in found.identity:
        place = f"{path}: identity {printable(entry.name, 128)}"
        if not NAME.fullmatch(entry.name):
            raise UsageError(f"{place}: not a name", "use letters, digits and ._:/@+-")
        if entry.name in names:
            raise UsageError(f"{place}: is there twice", "one entry for one identity")
        if not entry.issuer or not entry.subject:
            raise UsageError(f"{place}: no issuer or no subject", "give both")
        if (entry.issuer, entry.subject) in subjects:
            raise UsageError(f"{place}: another one has its issuer and subject", "keep one")
        if entry.revoked is not None and not entry.revoked.strip():
            raise UsageError(f"{place}: revoked without a reason", "say why")
        names.add(entry.name)
        subjects.add((entry.issuer, entry.subject))
        since, until = _day(place, entry.since), _day(place, entry.until)
        if until < since:
            raise UsageError(f"{place}: ends before it begins", "correct the days")
        who = Identity(entry.name, entry.role, ())
        identities.append(
            Keyless(who, entry.issuer, entry.subject, since, until, entry.revoked or "")
        )
    return KeylessTrust(path.parent / found.root, tuple(identities))


def bundles(root: Path) -> Iterator[tuple[str, bytes] | Rejected]:
    """(name, bytes) of each sigstore bundle in a release's bundle; StoreError: it is unreadable."""
    try:
        there = untrusted.names(root, FOLDER)
    except untrusted.UntrustedFileError as error:
        if not os.path.lexists(root / FOLDER):
            return
        raise StoreError(f"{root}: {error}", "check that this is the bundle you meant") from None
    if len(there) > MOST_BUNDLES:
        raise StoreError(f"{root}: {FOLDER} holds more than {MOST_BUNDLES} files")
    for name in sorted(there):
        shown = printable(f"{FOLDER}/{name}".encode("utf-8", "surrogateescape"), 200)
        if not name.endswith(_SUFFIX):
            yield Rejected(shown, f"its name does not end with {_SUFFIX}")
            continue
        try:
            yield shown, untrusted.read(root, f"{FOLDER}/{name}", MAX_BYTES)
        except untrusted.UntrustedFileError as error:
            yield Rejected(shown, printable(str(error), 300))


def keep(root: Path, data: bytes) -> Path:
    """Put a sigstore bundle into a release's bundle, named by its digest; StoreError: no room."""
    folder = root / FOLDER
    path = folder / f"{hashlib.sha256(data).hexdigest()}{_SUFFIX}"
    new = folder / f".{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with new.open("xb") as file:
            file.write(data)
        new.rename(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from None
    return path


class KeylessVerifier:
    """Opens bundles, for one day and one trusted root. UsageError if the root cannot be used."""

    def __init__(self, trusted: KeylessTrust, today: datetime.date) -> None:
        try:
            from sigstore.models import TrustedRoot
            from sigstore.verify import Verifier
        except ImportError:
            raise UsageError("the sigstore library is not installed", INSTALL) from None
        read_limited(trusted.root, UsageError)  # for its message, and its limit
        try:
            self._verifier = Verifier(trusted_root=TrustedRoot.from_file(str(trusted.root)))
        except Exception as error:  # whatever its parsers raise
            why = f"not a trusted root of sigstore: {words(error)}"
            raise UsageError(f"{trusted.root}: {why}") from None
        self._trusted = trusted
        self._today = today

    def open(self, data: bytes, file: str) -> list[Signed] | Rejected:
        """The statement of a bundle, by each identity that counts as its signer."""
        from sigstore.models import Bundle

        file = printable(file, 200)
        who = _Who(self._trusted, self._today)
        try:
            if len(data) > MAX_BYTES:
                raise EnvelopeError(f"larger than {MAX_BYTES} bytes")
            found = strictjson.parse(data, "the bundle")
            if not isinstance(found, dict) or found.get("mediaType") != BUNDLE:
                raise EnvelopeError(f"its media type is not {BUNDLE}")
            kind, payload = self._verifier.verify_dsse(Bundle.from_json(data), who)
            if kind != PAYLOAD_TYPE:
                raise EnvelopeError(f"wrong media type: {printable(kind, 100)!r}")
            statement = strictjson.parse(payload, "the payload")
            check_statement(statement)
            kind = str(statement["predicateType"])
            speakers = [one for one in who.matched if fits(one.identity.role, kind)]
            if not speakers:
                names = ", ".join(f"{o.identity.role} {o.identity.name}" for o in who.matched)
                raise EnvelopeError(f"signed by {names}, who may not state {printable(kind, 100)}")
        except (EnvelopeError, strictjson.StrictJsonError) as error:
            return Rejected(file, str(error))
        except (
            Exception
        ) as error:  # whatever the library, and those below it, raise of hostile data
            return Rejected(file, who.why or f"sigstore refuses it: {words(error)}")
        digest = hashlib.sha256(payload).hexdigest()
        return [
            Signed(file, digest, one.identity, f"sigstore:{who.certificate}", statement)
            for one in speakers
        ]


class _Who:
    """A policy, as sigstore calls what judges a certificate: is it one of ours, and in its days?"""

    def __init__(self, trusted: KeylessTrust, today: datetime.date) -> None:
        self._trusted = trusted
        self._today = today
        self.matched: list[Keyless] = []
        self.certificate = ""
        self.why = ""

    def verify(self, cert: Certificate) -> None:
        from cryptography.hazmat.primitives.hashes import SHA256
        from sigstore.errors import VerificationError
        from sigstore.verify import policy

        self.certificate = cert.fingerprint(SHA256()).hex()
        made = cert.not_valid_before_utc.date()
        for one in self._trusted.identities:
            try:
                policy.Identity(identity=one.subject, issuer=one.issuer).verify(cert)
            except VerificationError:
                continue
            reason = _unusable(one, self._today) or _unusable(one, made)
            if reason:
                self.why = f"signed by {one.identity.name}, whose identity is {reason}"
            else:
                self.matched.append(one)
        if self.matched:
            self.why = ""
            return
        self.why = self.why or "signed by nobody of the sigstore identities that are trusted"
        raise VerificationError(self.why)


def _unusable(one: Keyless, day: datetime.date) -> str:
    if one.revoked:
        return f"revoked: {printable(one.revoked, 200)}"
    if day > one.until:
        return f"expired on {one.until}"
    return f"not valid before {one.since}" if day < one.since else ""


def _day(place: str, text: str) -> datetime.date:
    try:
        found = datetime.date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        shown = printable(text, 40)
        raise UsageError(f"{place}: {shown!r} is not a day", 'write it as "2026-11-23"')
    return found


def words(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}", 300)
