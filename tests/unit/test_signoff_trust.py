"""The trust file: strict, no key twice in any spelling, and written back whole."""

from __future__ import annotations

import tempfile
import threading
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ed448, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256K1,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.signoff import keyring
from harness.signoff.interface import Identity, Role, Trust
from harness.signoff.trust import (
    change_trust,
    check_unique,
    find,
    has_comments,
    load_trust,
    own_keyid,
    public_pem,
    read_public,
    usable,
)
from tests.unit.signoff_keys import DAY, TODAY, YEAR, identity, key, signer, trust

NIST = "ecdsa-sha2-nistp256"
SOME = Trust(
    (
        identity("builder-a"),
        identity(
            "Org/b:1@x", Role.VERIFIER, key("b", scheme=NIST), key("b2", revoked='a "q" \\ é')
        ),
        identity("none", Role.UPSTREAM, key("c", scheme="ecdsa-sha2-nistp384")),
        Identity("nothing yet".replace(" ", "-"), Role.BUILDER, ()),
    ),
    {"0" * 64: "wrong model", "f" * 64: "tab\tand \U0001f600 and \x7f"},
)


def written(folder: Path, trusted: Trust) -> Path:
    path = folder / "keys.toml"
    change_trust(path, lambda _: trusted, new=True)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path, trust(identity("builder-a"), identity("v", Role.VERIFIER)))


def refused(path: Path, *, hint: str = "") -> str:
    with pytest.raises(UsageError) as error:
        load_trust(path)
    assert str(path) in error.value.what
    assert "\n" not in error.value.what
    assert hint in error.value.hint
    return error.value.what


# Reading and writing -----------------------------------------------------------------------------


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    path = written(tmp_path, SOME)
    assert load_trust(path) == SOME
    assert load_trust(path).withdrawn == SOME.withdrawn


def test_the_form_in_the_documentation_loads(tmp_path: Path) -> None:
    public = key("a").public
    path = tmp_path / "keys.toml"
    path.write_text(
        f"""
        # a comment
        [[identity]]
        name = "builder-a"
        role = "builder"
        [[identity.key]]
        keyid = "{public.keyid}"
        scheme = "ed25519"
        public = '''{public_pem(public)}'''
        since = "2026-11-23"
        until = "2027-11-23"
        [[withdrawn]]
        sha256 = "{"0" * 64}"
        reason = "it crashes"
        """
    )
    found = load_trust(path)
    assert found == replace(
        trust(identity("builder-a", Role.BUILDER, key("a"))), withdrawn={"0" * 64: "it crashes"}
    )
    assert has_comments(path)


def test_an_empty_file_trusts_nobody(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text("")
    assert load_trust(path) == Trust(())


def test_a_file_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "keys.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        change_trust(tmp_path / "keys.toml", lambda trusted: trusted)


# What is wrong → what is said. Each is one change to a file that loads.
WRONG = {
    ('role = "builder"', 'role = "king"'): "identity.0.role",
    ('role = "builder"\n', ""): "identity.0.role: missing key",
    ('role = "builder"', 'role = "builder"\nroles = 1'): "identity.0.roles: unknown key",
    ('name = "builder-a"', 'name = "builder a"'): "'builder a' cannot be the name",
    ('name = "builder-a"', 'name = "-a"'): "'-a' cannot be the name",
    ('name = "builder-a"', 'name = ""'): "'' cannot be the name",
    ('name = "builder-a"', 'name = "b\\n"'): "cannot be the name",
    ('name = "builder-a"', 'name = "bu\u0456lder"'): "cannot be the name",
    ('name = "builder-a"', f'name = "{"a" * 129}"'): "cannot be the name",
    ('name = "builder-a"', 'name = "v"'): "identity v is there twice",
    ('since = "2026-11-23"', 'since = "20261123"'): "since: '20261123' is no day",
    ('since = "2026-11-23"', "since = 2026-11-23"): "a date or time has no place here",
    ('since = "2026-11-23"', 'since = "2026-W48-1"'): "since: '2026-W48-1' is no day",
    ('since = "2026-11-23"', 'since = "2026-02-30"'): "since: '2026-02-30' is no day",
    ('since = "2026-11-23"', 'since = "2026-11-2\u0663"'): "is no day",
    ('since = "2026-11-23"', 'since = "2028-11-23"'): "it ends before it begins",
    ('until = "2027-11-23"', 'until = "never"'): "until: 'never' is no day",
    ('until = "2027-11-23"', 'until = "2027-11-23"\nrevoked = ""'): "revoked without a reason",
    ('until = "2027-11-23"', 'until = "2027-11-23"\nrevoked = true'): "identity.0.key.0.revoked",
    ('scheme = "ed25519"', 'scheme = "rsa"'): "'rsa' is none of ed25519,",
    ('scheme = "ed25519"', 'scheme = "ecdsa-sha2-nistp256"'): "the key is for ed25519, not for",
    ('keyid = "', 'keyid = "0'): "the key's own identifier is",
    ("-----BEGIN", "-----BEGINN"): "not the PEM of one public key",
    ("MCow", "MCov"): "not the PEM of an Ed25519, NIST P-256 or NIST P-384 public key",
    ("[[identity]]", f'[[withdrawn]]\nsha256 = "{"A" * 64}"\nreason = "x"\n[[identity]]'):
        "not a SHA-256",
    ("[[identity]]", f'[[withdrawn]]\nsha256 = "{"a" * 64}"\nreason = " "\n[[identity]]'):
        "no reason",
    ("[[identity]]", f'[[withdrawn]]\nsha256 = "{"a" * 64}"\nreason = "x"\n' * 2 + "[[identity]]"):
        "is there twice",
}  # fmt: skip


@pytest.mark.parametrize("change", WRONG, ids=lambda change: repr(change[1])[:50])
def test_what_is_wrong_is_named(file: Path, change: tuple[str, str]) -> None:
    load_trust(file)
    text = file.read_text("utf-8")
    assert change[0] in text
    file.write_text(text.replace(*change, 1), "utf-8")
    assert WRONG[change] in refused(file)


def test_keys_of_other_kinds_are_refused() -> None:
    others = (
        rsa.generate_private_key(65537, 2048), ed448.Ed448PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(), generate_private_key(SECP256K1()),
        dsa.generate_private_key(1024),
    )  # fmt: skip
    for other in others:
        pem = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(ValueError, match=r"not the PEM of an Ed25519|the key is for rsa"):
            read_public(pem.decode(), "ed25519")
    with pytest.raises(ValueError, match="not the PEM of one public key"):
        read_public(public_pem(key("a").public) + public_pem(key("b").public), "ed25519")
    with pytest.raises(ValueError, match="not the PEM of one public key"):
        read_public("-----BEGIN PGP PUBLIC KEY BLOCK-----" * 2, "ed25519")


# Nobody counts twice -----------------------------------------------------------------------------


def compressed(pem: str) -> str:
    """The same public key, its point in the short form: other bytes, another PEM."""
    public = load_pem_public_key(pem.encode())
    assert isinstance(public, EllipticCurvePublicKey)
    point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    # SEQUENCE {algorithm, BIT STRING 0x00 || point}: the algorithm does not change.
    algorithm = der[2 : 2 + 2 + der[3]]
    bits = b"\x03" + bytes([len(point) + 1]) + b"\0" + point
    body = b64encode(b"\x30" + bytes([len(algorithm) + len(bits)]) + algorithm + bits).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize("same", [True, False], ids=["one identity", "two identities"])
def test_one_key_twice_is_refused_in_any_spelling(tmp_path: Path, same: bool) -> None:
    first = key("a", scheme=NIST)
    path = written(tmp_path, trust(identity("a", Role.BUILDER, first), identity("v")))
    text = path.read_text()
    pem = public_pem(first.public)
    entry = text[text.index("[[identity.key]]") : text.rindex("[[identity]]")]
    for other in (pem, pem.replace("\n", "\r\n"), "words before\n" + pem, compressed(pem)):
        assert other == pem or other not in text
        spelled = entry.replace(pem, other).replace('since = "2026', 'since = "2025')
        more = spelled if same else f'[[identity]]\nname = "b"\nrole = "verifier"\n{spelled}'
        path.write_text(text.replace(entry, f"{entry}\n{more}"), newline="")
        assert "has a key that a has already" in refused(path, hint="keys of its own")


def test_a_compressed_key_is_the_same_key(tmp_path: Path) -> None:
    """The control of the test above: the spelling alone is not what was refused."""
    first = key("a", scheme=NIST)
    path = written(tmp_path, trust(identity("a", Role.BUILDER, first)))
    pem = public_pem(first.public)
    path.write_text(path.read_text().replace(pem, compressed(pem)))
    assert load_trust(path) == trust(identity("a", Role.BUILDER, first))


def test_one_key_under_two_identifiers_is_refused() -> None:
    """A trust file cannot say so; what is put together in memory could."""
    first = key("a")
    first.public.keyid = "0" * 64
    both = trust(identity("a", Role.BUILDER, first), identity("b", Role.BUILDER, key("a")))
    with pytest.raises(UsageError, match="has a key that a has already"):
        check_unique(both, "it")
    assert own_keyid(first.public) == key("a").public.keyid


# When a key counts -------------------------------------------------------------------------------


def test_usable_says_why_not() -> None:
    assert usable(key("a", TODAY, TODAY), TODAY) == ""
    assert usable(key("a", TODAY, TODAY), TODAY + DAY) == "expired on 2026-11-23"
    assert usable(key("a", TODAY, TODAY), TODAY - DAY) == "not valid before 2026-11-23"
    late = key("a", TODAY, TODAY, revoked="lost\x1b[2J")
    assert usable(late, TODAY + DAY) == usable(late, TODAY) == "revoked: lost\\x1b[2J"


def test_find_goes_by_the_whole_identifier() -> None:
    keyid = key("b2").public.keyid
    found = find(SOME, keyid)
    assert found is not None
    assert (found[0].name, found[1].revoked) == ("Org/b:1@x", 'a "q" \\ é')
    assert find(SOME, keyid[:-1]) is None
    assert find(SOME, "") is None


# Changing ----------------------------------------------------------------------------------------


def test_a_change_that_would_not_load_is_not_written(file: Path) -> None:
    before = file.read_bytes()
    double = identity("b", Role.BUILDER, key("builder-a"))
    with pytest.raises(UsageError, match="has a key that builder-a has already"):
        change_trust(file, lambda old: replace(old, identities=(*old.identities, double)))
    with pytest.raises(UsageError, match="cannot be the name"):
        change_trust(file, lambda _: trust(identity("\n")))
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["keys.toml"]


def test_the_mode_of_the_file_stays(file: Path) -> None:
    file.chmod(0o640)
    change_trust(file, lambda old: old)
    assert file.stat().st_mode & 0o777 == 0o640


def test_a_link_to_the_file_stays_a_link(file: Path) -> None:
    link = file.with_name("link.toml")
    link.symlink_to(file)
    change_trust(link, lambda _: Trust(()))
    assert link.is_symlink()
    assert load_trust(file) == Trust(())


def test_writers_at_the_same_time_lose_nothing(file: Path) -> None:
    def add(number: int) -> None:
        name = f"n{number}"
        change_trust(file, lambda old: keyring.added(old, name, Role.BUILDER, key(name)))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {each.name for each in load_trust(file).identities}
    assert names == {"builder-a", "v", *(f"n{number}" for number in range(12))}


@settings(max_examples=20)
@given(st.text(min_size=1, max_size=60).filter(lambda text: text.strip() and text.isprintable()))
def test_any_reason_reads_back(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trusted = trust(identity("a", Role.BUILDER, key("a", revoked=text)))
        assert load_trust(written(Path(folder), trusted)) == trusted


# The keyring -------------------------------------------------------------------------------------


def test_rotating_ends_the_old_key_and_keeps_what_is_over() -> None:
    gone, lost = key("gone", TODAY - YEAR, TODAY - DAY), key("lost", revoked="lost")
    soon = key("soon", TODAY, TODAY + DAY)
    old = trust(identity("a", Role.BUILDER, gone, lost, soon, key("a")), identity("b"))
    last = TODAY + 14 * DAY
    found = keyring.rotated(old, "a", key("a2"), TODAY, last)
    assert found.identities[0].keys == (gone, lost, soon, replace(key("a"), until=last), key("a2"))
    assert found.identities[1] == identity("b")
    with pytest.raises(UsageError, match="no identity is called 'c'"):
        keyring.rotated(old, "c", key("c"), TODAY, last)


def test_revoking_by_name_or_by_key() -> None:
    old = trust(identity("a", Role.BUILDER, key("a"), key("a2", revoked="first")), identity("b"))
    found = keyring.revoked(old, "a", " laptop lost ")
    assert [each.revoked for each in found.identities[0].keys] == ["laptop lost", "first"]
    assert found.identities[1] == identity("b")
    one = keyring.revoked(old, key("b").public.keyid[:8], "x")
    assert [each.revoked for each in (*one.identities[0].keys, *one.identities[1].keys)] == [
        "", "first", "x",
    ]  # fmt: skip
    for wrong in (key("b").public.keyid[:7], "", "c"):
        with pytest.raises(UsageError, match="no identity is called so"):
            keyring.revoked(old, wrong, "x")
    with pytest.raises(UsageError, match="a reason is needed"):
        keyring.revoked(old, "a", " ")


def test_a_beginning_that_two_keys_share_names_neither() -> None:
    one, two = key("a"), key("b")
    one.public.keyid, two.public.keyid = "0" * 64, "0" * 9 + "1" * 55
    old = trust(identity("a", Role.BUILDER, one), identity("b", Role.BUILDER, two))
    with pytest.raises(UsageError, match="more than one key begins with '00000000'"):
        keyring.revoked(old, "0" * 8, "x")
    assert [each.name for each, _ in keyring.chosen(old, "0" * 10)] == ["a"]


def test_a_name_that_looks_like_a_key_is_a_name() -> None:
    prefix = key("a").public.keyid[:8]
    old = trust(identity("a"), identity(prefix))
    assert [each.name for each, _ in keyring.chosen(old, prefix)] == [prefix]


def test_an_identity_has_one_role() -> None:
    old = trust(identity("a"))
    with pytest.raises(UsageError, match="a is a builder already, and has one role only"):
        keyring.added(old, "a", Role.VERIFIER, key("a2"))
    assert keyring.added(old, "a", Role.BUILDER, key("a2")).identities == (
        identity("a", Role.BUILDER, key("a"), key("a2")),
    )


def test_withdrawing_keeps_the_first_reason() -> None:
    found = keyring.withdrawn(keyring.withdrawn(Trust(()), "0" * 64, "one"), "0" * 64, "two")
    assert found.withdrawn == {"0" * 64: "one"}
    with pytest.raises(UsageError, match="is not a SHA-256"):
        keyring.withdrawn(Trust(()), "0" * 63, "one")


PROBLEMS = {
    "nobody": (Trust(()), ["nobody is trusted: there is no identity"]),
    "good": (trust(identity("a")), []),
    "soon": (
        trust(identity("a", Role.BUILDER, key("a", until=TODAY + 30 * DAY))),
        ["a can sign until 2026-12-23 only: rotate its key"],
    ),
    "not so soon": (trust(identity("a", Role.BUILDER, key("a", until=TODAY + 31 * DAY))), []),
    "soon, but another": (
        trust(identity("a", Role.BUILDER, key("a", until=TODAY), key("a2"))), []
    ),
    "expired": (
        trust(identity("a", Role.BUILDER, key("a", TODAY - YEAR, TODAY - DAY))),
        ["a has no key that may be used: ", " is expired on 2026-11-22: rotate or revoke it"],
    ),
    "revoked": (trust(identity("a", Role.BUILDER, key("a", revoked="x"))), []),
    "none": (trust(Identity("a", Role.BUILDER, ())), ["a has no key at all"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems(name: str) -> None:
    trusted, expected = PROBLEMS[name]
    found = "\n".join(keyring.problems(trusted, TODAY))
    assert all(part in found for part in expected)
    assert bool(found) == bool(expected)


def test_the_keys_of_these_tests_are_no_two_alike() -> None:
    assert signer("a").public_key == signer("a").public_key
    assert signer("a").public_key != signer("b").public_key
