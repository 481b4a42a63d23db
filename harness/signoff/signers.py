"""Private keys: made, opened, and used to sign. Nothing of one is printed, logged or kept.

A key is a file (PKCS #8 in PEM, Ed25519 or ECDSA over P-256 or P-384), or a URI that
securesystemslib takes, for a key that never leaves its token or service:

    hsm:2?label=NAME          PKCS #11, by the module that PYKCS11LIB names
    gcpkms:… awskms:… azurekms:… hv:… tkey:…

Of these, ``hsm:`` was exercised with SoftHSM (tests/unit/test_signoff_signers.py). The others need
an account or a device, and were not: they are handed to securesystemslib as they are, and what they
sign is verified like every signature before it is used. OpenPGP (``gnupg:``) is refused, because
one of its keys holds others.

A passphrase or PIN comes from the file that HARNESS_KEY_PASSPHRASE_FILE names, or is asked for.
"""

from __future__ import annotations

import datetime
import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ecdsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import UnsupportedLibraryError, UnverifiedSignatureError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, HSMSigner, Signer, SSlibKey

from harness.errors import UsageError
from harness.signoff.interface import Identity, Key, Trust
from harness.signoff.trust import public_bytes, usable
from harness.text import printable

PASSPHRASE_FILE = "HARNESS_KEY_PASSPHRASE_FILE"  # noqa: S105 - a variable's name
MAX_KEY_BYTES = 2**16
Private = Ed25519PrivateKey | EllipticCurvePrivateKey
_FILE_SCHEME, _REFUSED = "file2", "gnupg"


def load_signer(
    uri_or_path: str, trust: Trust, identity: str | None, today: datetime.date
) -> tuple[Signer, Identity, str]:
    """Who signs with that key, by the trust file: (signer, identity, key's identifier).

    ``identity``: whose key it has to be; for a URI it has to be given. UsageError, with what to do,
    for a key that cannot be had, that is not in ``trust``, or that may not be used today.
    """
    scheme, colon, rest = uri_or_path.partition(":")
    if colon and scheme == _REFUSED:
        raise UsageError("OpenPGP keys are not used", "Make a key: harness keys new.")
    if colon and scheme in SIGNER_FOR_URI_SCHEME and scheme != _FILE_SCHEME:
        return _from_uri(uri_or_path, trust, identity, today)
    path = Path(rest if colon and scheme == _FILE_SCHEME else uri_or_path)
    private = load_private(path)
    public = SSlibKey.from_crypto(private.public_key())
    owner, key = _owner(path, public, trust)
    if identity is not None and owner.name != identity:
        raise UsageError(
            f"{path} is a key of {owner.name}, not of {printable(identity, 140)}",
            "Give that identity's key.",
        )
    if why := usable(key, today):
        raise UsageError(
            f"{path}: this key of {owner.name} is {why}", "Make another: harness keys rotate."
        )
    return CryptoSigner(private, key.public), owner, key.public.keyid


def load_private(path: Path) -> Private:
    """The private key in a file that nobody else can read; asks for the passphrase, if any."""
    pem = read_private(path)
    wrong = UsageError(
        f"{path}: not a private key that is used here",
        "It has to be Ed25519, P-256 or P-384, as PKCS #8 in PEM. Make one: harness keys new.",
    )
    try:
        found = load_pem_private_key(pem, None)
    except TypeError:  # this is how cryptography says that it is encrypted
        found = None
    except (ValueError, UnsupportedAlgorithm):
        raise wrong from None
    if found is None:
        passphrase = secret(f"passphrase of {path.name}")
        try:
            found = load_pem_private_key(pem, passphrase.encode("utf-8"))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise UsageError(f"{path}: the passphrase is not the right one") from None
    if isinstance(found, Ed25519PrivateKey):
        return found
    if isinstance(found, EllipticCurvePrivateKey) and isinstance(
        found.curve, SECP256R1 | SECP384R1
    ):
        return found
    raise wrong


def read_private(path: Path) -> bytes:
    """The bytes of a regular file, not a link, that only its owner can read: us, or root."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(f"{path} is a link", "Give the file itself.") from None
        raise UsageError(f"{path}: cannot be read: {error.strerror}", "Check the path.") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{path} is not a regular file", "Give the file itself.")
        if found.st_uid not in (os.geteuid(), 0):
            raise UsageError(f"{path} belongs to somebody else", "Sign as its owner.")
        if found.st_mode & 0o077:
            raise UsageError(
                f"{path} can be used by others (mode {stat.S_IMODE(found.st_mode):04o})",
                f"chmod 600 {path}",
            )
        data = os.read(descriptor, MAX_KEY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_KEY_BYTES:
        raise UsageError(f"{path} is too large for a key", "Check that this is the file you meant.")
    return data


def create_private(path: Path, scheme: str, passphrase: str | None) -> SSlibKey:
    """Make a key, write its private part to a new file of mode 0600, return its public part.

    UsageError if anything is at ``path`` already. A passphrase encrypts the file.
    """
    private: Private
    if scheme == "ed25519":
        private = Ed25519PrivateKey.generate()
    else:
        private = generate_ecdsa({"256": SECP256R1, "384": SECP384R1}[scheme[-3:]]())
    locked = BestAvailableEncryption(passphrase.encode("utf-8")) if passphrase else NoEncryption()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} is there already, and is not overwritten", "Give another file."
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    return SSlibKey.from_crypto(private.public_key())


def secret(what: str) -> str:
    """A passphrase or PIN: from the file that PASSPHRASE_FILE names, or asked for."""
    if named := os.environ.get(PASSPHRASE_FILE):
        try:
            return read_private(Path(named)).decode("utf-8").partition("\n")[0].rstrip("\r")
        except UnicodeDecodeError:
            raise UsageError(f"{named}: the passphrase is not UTF-8") from None
    if not sys.stdin.isatty():
        raise UsageError(
            f"the {printable(what, 200)} is needed, and nobody can be asked",
            f"Name a file with it, of mode 600, in {PASSPHRASE_FILE}.",
        )
    answer = click.prompt(f"The {printable(what, 200)}", hide_input=True, err=True)
    return str(answer)


def token_public(uri: str) -> SSlibKey:
    """The public key that a PKCS #11 token has at ``hsm:[ID][?label=NAME]``."""
    place = urlsplit(uri)
    if place.scheme != HSMSigner.SCHEME:
        raise UsageError(
            f"{_place(uri)} is no token", "Give hsm:ID?label=NAME, or the public key as a file."
        )
    try:
        ident = int(place.path) if place.path else None
        label = dict(parse_qsl(place.query)).get("label")
        found = HSMSigner.import_(ident, label, cache(secret))[1]
    except UsageError:
        raise
    except Exception as error:  # whatever a token or its library raise
        raise _failed(uri, error) from None
    return found


def _owner(path: Path, public: SSlibKey, trust: Trust) -> tuple[Identity, Key]:
    der = public_bytes(public)
    for owner in trust.identities:
        for key in owner.keys:
            if public_bytes(key.public) == der:
                return owner, key
    raise UsageError(
        f"{path}: no identity of the trust file has this key ({public.keyid})",
        "Add its public part: harness keys add.",
    )


def _from_uri(
    uri: str, trust: Trust, identity: str | None, today: datetime.date
) -> tuple[Signer, Identity, str]:
    owner = next((each for each in trust.identities if each.name == identity), None)
    if owner is None:
        raise UsageError(
            "a key behind a URI needs the name of an identity of the trust file", "Give --identity."
        )
    pin = cache(secret)  # asked for once, as a token wants it at each signature
    reasons = []
    for key in owner.keys:
        why = usable(key, today)
        if not why:
            found = _signs(uri, key.public, pin)
            if isinstance(found, Signer):
                return found, owner, key.public.keyid
            why = found
        reasons.append(f"{key.public.keyid[:16]} is {why}")
    raise UsageError(
        f"{_place(uri)} is no key of {owner.name} that may be used: "
        f"{'; '.join(reasons) or 'it has none'}",
        "Add its public part: harness keys add.",
    )


def _signs(uri: str, public: SSlibKey, pin: Callable[[str], str]) -> Signer | str:
    """A signer behind ``uri``, if ``public`` verifies what it signs; or why there is none.

    If signing itself fails, that is the end: a token locks itself after a few wrong PINs.
    """
    try:
        signer = Signer.from_priv_key_uri(uri, public, pin)
    except UnsupportedLibraryError as error:
        raise _failed(uri, error) from None
    except Exception as error:  # whatever a service or its library raises for a key of another kind
        return f"not taken: {printable(f'{type(error).__name__}: {error}', 200)}"
    # No message that is signed elsewhere begins like this: DSSE's begin with "DSSEv1".
    challenge = b"harness: is this the key? " + secrets.token_hex(16).encode()
    try:
        signature = signer.sign(challenge)
    except UsageError:
        raise
    except Exception as error:  # whatever a token, a service or their libraries raise
        raise _failed(uri, error) from None
    try:
        public.verify_signature(signature, challenge)
    except UnverifiedSignatureError:
        return "another key"
    return signer


_EXTRAS = {"hsm": "hsm", "gcpkms": "gcpkms", "awskms": "awskms", "azurekms": "azurekms",
           "hv": "vault", "tkey": "tkey"}  # fmt: skip


def _failed(uri: str, error: Exception) -> UsageError:
    words = printable(f"{type(error).__name__}: {error}".rstrip(": "), 300)
    hint = "Check the URI, the token and the PIN."
    if isinstance(error, UnsupportedLibraryError):
        hint = f"pip install 'securesystemslib[{_EXTRAS.get(uri.partition(':')[0], 'crypto')}]'"
    return UsageError(f"{_place(uri)} cannot be used: {words}", hint)


def _place(uri: str) -> str:
    """Without its query, in which somebody may have put a secret."""
    return printable(uri.partition("?")[0], 200)
