"""The trust file: who may say what, with which keys, and from when until when.

::

    [[identity]]
    name = "builder-a"
    role = "builder"               # builder, verifier or upstream
    [[identity.key]]
    keyid = "…"                    # 64 hex digits; checked against the key
    scheme = "ed25519"             # or ecdsa-sha2-nistp256, ecdsa-sha2-nistp384
    public = '''…PEM…'''
    since = "2026-11-23"           # both days count, UTC
    until = "2027-11-23"
    revoked = "why"                # only for a key that may not be used any more

    [[withdrawn]]
    sha256 = "…"                   # of an artifact that may not be released any more
    reason = "…"

A key is one public key. It is in the file once, whatever its identifier or its spelling, so that
nobody counts twice; no identity has two roles. Keys that hold others (OpenPGP) have no place here.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from pydantic import TypeAdapter
from securesystemslib.signer import SSlibKey

from harness.errors import StoreError, UsageError
from harness.models import Strict
from harness.signoff.interface import Identity, Key, Role, Trust
from harness.text import printable
from harness.tomlfile import read_toml

SCHEMES = ("ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FIRST_LINE = "# Written by `harness keys`, which keeps every entry and no comment.\n"


@dataclass(frozen=True)
class _KeyEntry:
    __pydantic_config__ = Strict

    keyid: str
    scheme: str
    public: str
    since: str
    until: str
    revoked: str | None = None


@dataclass(frozen=True)
class _IdentityEntry:
    __pydantic_config__ = Strict

    name: str
    role: Role
    key: tuple[_KeyEntry, ...] = ()


@dataclass(frozen=True)
class _WithdrawnEntry:
    __pydantic_config__ = Strict

    sha256: str
    reason: str


@dataclass(frozen=True)
class _File:
    __pydantic_config__ = Strict

    identity: tuple[_IdentityEntry, ...] = ()
    withdrawn: tuple[_WithdrawnEntry, ...] = ()


_ADAPTER = TypeAdapter(_File)


def load_trust(path: Path) -> Trust:
    """The trust file at ``path``; UsageError if it cannot be read or is wrong anywhere."""
    found = read_toml(path, _ADAPTER, UsageError)
    withdrawn: dict[str, str] = {}
    for entry in found.withdrawn:
        place = f"{path}: withdrawn {printable(entry.sha256, 80)}"
        if not SHA256.fullmatch(entry.sha256):
            raise UsageError(f"{place}: not a SHA-256", "give 64 hex digits, in small letters")
        if entry.sha256 in withdrawn:
            raise UsageError(f"{place}: is there twice", "keep one of them")
        if not entry.reason.strip():
            raise UsageError(f"{place}: no reason", "say why")
        withdrawn[entry.sha256] = entry.reason
    identities = tuple(_identity(path, entry) for entry in found.identity)
    trust = Trust(identities, withdrawn)
    check_unique(trust, str(path))
    return trust


def check_unique(trust: Trust, place: str) -> None:
    """UsageError if a name or a public key is in ``trust`` twice; ``place`` names it."""
    names: set[str] = set()
    keys: dict[bytes, str] = {}
    for identity in trust.identities:
        if identity.name in names:
            raise UsageError(
                f"{place}: identity {identity.name} is there twice", "put its keys into one entry"
            )
        names.add(identity.name)
        for key in identity.keys:
            der = public_bytes(key.public)
            if der in keys:
                raise UsageError(
                    f"{place}: {identity.name} has a key that {keys[der]} has already: "
                    f"{key.public.keyid}",
                    "give each identity keys of its own, each of them once",
                )
            keys[der] = identity.name


def usable(key: Key, today: datetime.date) -> str:
    """Why nothing signed with ``key`` counts on the day ``today`` (UTC); empty if it counts."""
    if key.revoked:
        return f"revoked: {printable(key.revoked, 200)}"
    if today > key.until:
        return f"expired on {key.until}"
    if today < key.since:
        return f"not valid before {key.since}"
    return ""


def find(trust: Trust, keyid: str) -> tuple[Identity, Key] | None:
    """Whose key ``keyid`` is."""
    for identity in trust.identities:
        for key in identity.keys:
            if key.public.keyid == keyid:
                return identity, key
    return None


def own_keyid(public: SSlibKey) -> str:
    """What securesystemslib calls this public key by itself, whatever ``public`` is called."""
    return str(SSlibKey.from_crypto(_crypto(public), scheme=public.scheme).keyid)


def public_bytes(public: SSlibKey) -> bytes:
    """DER SubjectPublicKeyInfo: the same for every spelling of one public key."""
    return _crypto(public).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_pem(public: SSlibKey) -> str:
    found = _crypto(public).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found.decode("ascii")


def _crypto(public: SSlibKey) -> Ed25519PublicKey | EllipticCurvePublicKey:
    text = public.keyval["public"]
    if public.scheme == "ed25519":
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    found = load_pem_public_key(text.encode("ascii"))
    if not isinstance(found, EllipticCurvePublicKey):
        raise ValueError(f"not a public key for {public.scheme}")
    return found


def read_public(pem: str, scheme: str) -> SSlibKey:
    """The public key that ``pem`` spells, for signatures by ``scheme``; ValueError says why not."""
    if scheme not in SCHEMES:
        raise ValueError(f"{printable(scheme, 40)!r} is none of {', '.join(SCHEMES)}")
    if pem.count("-----BEGIN ") != 1:
        raise ValueError("not the PEM of one public key")
    try:
        found = SSlibKey.from_crypto(load_pem_public_key(pem.encode("utf-8")))
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not the PEM of an Ed25519, NIST P-256 or NIST P-384 public key") from None
    if found.scheme != scheme:
        raise ValueError(f"the key is for {printable(found.scheme, 40)}, not for {scheme}")
    return found


def change_trust(path: Path, change: Callable[[Trust], Trust], *, new: bool = False) -> Trust:
    """Write what ``change`` makes of the trust file, all of it or nothing; return it.

    Nobody else who writes with this function comes between. Every entry is kept; comments are not.
    ``new``: the file may be missing. What would not load is not written (UsageError).
    """
    path = path.resolve()
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(
            f"{path.parent}: {error.strerror}", "Give a file in a folder that is there."
        ) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        there = path.exists()
        trust = change(load_trust(path) if there or not new else Trust(()))
        check_unique(trust, str(path))
        _write(path, trust, mode=path.stat().st_mode & 0o777 if there else 0o644)
        os.fsync(folder)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written: {error.strerror}", "Check its folder's permissions."
        ) from None
    finally:
        os.close(folder)
    return trust


def _write(path: Path, trust: Trust, mode: int) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(to_toml(trust))
            file.flush()
            os.fchmod(handle, mode)
            os.fsync(handle)
        if load_trust(Path(name)) != trust:
            raise StoreError(f"{path}: not written: it would not read back as it is")
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def has_comments(path: Path) -> bool:
    """Whether :func:`change_trust` would lose a comment that somebody wrote."""
    text = path.read_text("utf-8").removeprefix(_FIRST_LINE)
    # More than there are: a `#` inside of a string is none.
    return "#" in text


def _identity(path: Path, entry: _IdentityEntry) -> Identity:
    if not NAME.fullmatch(entry.name):
        raise UsageError(
            f"{path}: {printable(entry.name, 140)!r} cannot be the name of an identity",
            "use letters, digits and ._:/@+-, at most 128, a letter or digit first",
        )
    keys = tuple(_key(f"{path}: {entry.name}", key) for key in entry.key)
    return Identity(entry.name, entry.role, keys)


def _key(place: str, entry: _KeyEntry) -> Key:
    place = f"{place}: key {printable(entry.keyid, 80)}"
    try:
        public = read_public(entry.public, entry.scheme)
    except ValueError as error:
        raise UsageError(f"{place}: {error}", "correct it, or make one: harness keys new") from None
    if public.keyid != entry.keyid:
        raise UsageError(
            f"{place}: the key's own identifier is {public.keyid}",
            "correct the identifier, if the key is the right one",
        )
    if entry.revoked is not None and not entry.revoked.strip():
        raise UsageError(f"{place}: revoked without a reason", "say why")
    since, until = _day(place, "since", entry.since), _day(place, "until", entry.until)
    if until < since:
        raise UsageError(f"{place}: it ends before it begins", "correct since or until")
    return Key(public, since, until, entry.revoked or "")


def _day(place: str, name: str, text: str) -> datetime.date:
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{place}: {name}: {printable(text, 40)!r} is no day", "write it as 2026-11-23"
        ) from None


def to_toml(trust: Trust) -> str:
    lines = [_FIRST_LINE]
    for identity in trust.identities:
        lines += ["\n[[identity]]\n", _line("name", identity.name), _line("role", identity.role)]
        for key in identity.keys:
            lines += [
                "\n[[identity.key]]\n",
                _line("keyid", key.public.keyid),
                _line("scheme", key.public.scheme),
                f'public = """\n{public_pem(key.public)}"""\n',
                _line("since", str(key.since)),
                _line("until", str(key.until)),
            ]
            if key.revoked:
                lines.append(_line("revoked", key.revoked))
    for digest, reason in trust.withdrawn.items():
        lines += ["\n[[withdrawn]]\n", _line("sha256", digest), _line("reason", reason)]
    return "".join(lines)


def _line(name: str, value: str) -> str:
    """A TOML basic string is a JSON string, but for DEL, which has to be escaped."""
    quoted = json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"{name} = {quoted}\n"
