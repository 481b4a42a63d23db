"""`harness keys`, as a person uses it: made, handed over, rotated, revoked, checked."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness import cli
from harness.signoff.envelope import open_envelope, seal
from harness.signoff.interface import Rejected, Role, Signed
from harness.signoff.signers import PASSPHRASE_FILE, load_signer
from harness.signoff.trust import change_trust, find, load_trust
from tests.unit.signoff_keys import identity, key, statement, trust

DIGEST = "ab" * 32
ONE_DAY = datetime.timedelta(days=1)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)
    monkeypatch.setitem(cli.COMMANDS, "keys", ("keys", "keys_group"))
    return tmp_path


def today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def call(line: str, *more: str, file: str = "keys.toml") -> Result:
    words = ["keys", *line.split(), *more, *(["--keys", file] if file else [])]
    return CliRunner().invoke(cli.main, words, prog_name="harness")


def done(line: str, *more: str, file: str = "keys.toml") -> str:
    result = call(line, *more, file=file)
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(line: str, *more: str, file: str = "keys.toml") -> str:
    result = call(line, *more, file=file)
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2
    return result.stderr


def sign(private: str, keys: str = "keys.toml") -> bytes:
    return seal(statement(), [load_signer(private, load_trust(Path(keys)), None, today())[0]])


def opened(data: bytes, keys: str = "keys.toml", days: int = 0) -> list[Signed] | Rejected:
    return open_envelope(data, "f", load_trust(Path(keys)), today() + days * ONE_DAY)


def test_a_new_key_is_trusted_and_signs(place: Path) -> None:
    words = done("new builder-a --role builder --out a.pem")
    (found,) = load_trust(Path("keys.toml")).identities
    (one,) = found.keys
    assert (found.name, found.role) == ("builder-a", Role.BUILDER)
    assert (one.since, one.until) == (today(), today() + 365 * ONE_DAY)
    assert one.public.keyid in words
    assert "harness keys add builder-a --role builder" in words
    assert stat.S_IMODE((place / "a.pem").stat().st_mode) == 0o600
    assert isinstance(opened(sign("a.pem")), list)
    assert (place / "a.pem").read_text().splitlines()[1] not in words


def test_each_role_and_kind_of_key(place: Path) -> None:
    done("new v --role verifier --out v.pem --scheme ecdsa-sha2-nistp256 --days 7")
    done("new u --role upstream --out u.pem --scheme ecdsa-sha2-nistp384")
    found = load_trust(Path("keys.toml")).identities
    assert [(each.role, each.keys[0].public.scheme) for each in found] == [
        (Role.VERIFIER, "ecdsa-sha2-nistp256"), (Role.UPSTREAM, "ecdsa-sha2-nistp384"),
    ]  # fmt: skip
    assert found[0].keys[0].until == today() + 7 * ONE_DAY


def test_nothing_is_overwritten(place: Path) -> None:
    done("new a --role builder --out a.pem")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert "there is an identity a already" in failed("new a --role verifier --out other.pem")
    assert "is not overwritten" in failed("new b --role builder --out a.pem")
    assert "is not overwritten" in failed("new b --role builder --out keys.toml")
    assert "cannot be the name" in failed("new", "b c", "--role", "builder", "--out", "b.pem")
    assert "is not overwritten" in failed("rotate a --out a.pem")
    assert "no identity is called 'b'" in failed("rotate b --out b.pem")
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_no_private_key_is_left_behind_where_nobody_trusts_it(place: Path) -> None:
    assert "No such file" in failed("new a --role builder --out a.pem", file="none/keys.toml")
    Path("keys.toml").write_text("[[identity]]\nname = 1\n")
    assert "identity.0.name" in failed("new a --role builder --out a.pem")
    assert [path.name for path in place.iterdir()] == ["keys.toml"]


def test_a_key_is_handed_over(place: Path) -> None:
    """From the builder's machine, with a trust file of its own, to the verifier's."""
    done("new b --role builder --out b.pem", file="theirs.toml")
    public = done("public b", file="theirs.toml")
    assert public.startswith("-----BEGIN PUBLIC KEY-----\n")
    Path("b.pub").write_text(public)
    data = sign("b.pem", "theirs.toml")
    done("new v --role verifier --out v.pem")
    assert isinstance(opened(data), Rejected)
    words = done("add b --role builder --public b.pub")
    keyid = load_trust(Path("theirs.toml")).identities[0].keys[0].public.keyid
    assert keyid in words
    assert "by another way" in words
    (found,) = opened(data)  # type: ignore[misc]
    assert found.signer.name == "b"

    assert "one public key is needed" in failed("add x --role builder")
    assert "one public key" in failed("add x --role builder --public b.pub --token hsm:2")
    assert "awskms:k is no token" in failed("add x --role builder --token awskms:k")
    assert "has a key that b has already" in failed("add other --role builder --public b.pub")
    assert "holds a private key" in failed("add x --role builder --public b.pem")
    assert "not the PEM of one public key" in failed("add x --role builder --public keys.toml")
    assert "b is a builder already" in failed("add b --role verifier --public b.pub")


def test_rotation_lets_both_count_and_then_one(place: Path) -> None:
    done("new a --role builder --out old.pem")
    old = sign("old.pem")
    words = done("rotate a --out new.pem --overlap 5")
    new = sign("new.pem")
    assert f"until {today() + 5 * ONE_DAY} at most" in words
    for days, counts in ((0, True), (5, True), (6, False)):
        assert isinstance(opened(old, days=days), list) is counts
        assert isinstance(opened(new, days=days), list)
    assert "-----BEGIN" in done("public a")
    keyid = load_trust(Path("keys.toml")).identities[0].keys[1].public.keyid
    assert done("public a") == done(f"public {keyid[:16]}")


def test_revoking_a_key_or_an_identity(place: Path) -> None:
    done("new a --role builder --out a.pem")
    done("rotate a --out a2.pem")
    done("new b --role builder --out b.pem")
    a, a2, b = sign("a.pem"), sign("a2.pem"), sign("b.pem")
    first = load_trust(Path("keys.toml")).identities[0].keys[0].public.keyid
    words = done(f"revoke {first[:12]}", "--why", "laptop lost")
    assert f"revoked: a {first}" in words
    assert "Hand the trust file to everybody" in words
    found = opened(a)
    assert isinstance(found, Rejected)
    assert found.reason == "signed by a with a key revoked: laptop lost"
    assert isinstance(opened(a2), list)
    done("revoke a", "--why", "left us")
    assert isinstance(opened(a2), Rejected)
    assert isinstance(opened(b), list)
    owner = find(load_trust(Path("keys.toml")), first)
    assert owner is not None
    assert owner[1].revoked == "laptop lost"
    assert "a has no key that may be used" in failed("public a")
    assert "no identity is called so" in failed("revoke nobody", "--why", "x")
    assert "a reason is needed" in failed("revoke b", "--why", " ")
    assert isinstance(opened(b), list)


def test_withdrawing_an_artifact(place: Path) -> None:
    done("new a --role builder --out a.pem")
    done(f"withdraw {DIGEST}", "--why", "it crashes")
    assert load_trust(Path("keys.toml")).withdrawn == {DIGEST: "it crashes"}
    assert f"withdrawn {DIGEST}: it crashes" in done("list")
    assert "is not a SHA-256" in failed("withdraw model.so", "--why", "x")


def test_the_list_says_everything(place: Path) -> None:
    done("new a --role builder --out a.pem --days 10")
    done("new b --role verifier --out b.pem --scheme ecdsa-sha2-nistp384")
    done("revoke b", "--why", "lost")
    lines = done("list").splitlines()
    a, b = load_trust(Path("keys.toml")).identities
    assert lines == [
        "a, builder",
        f"  {a.keys[0].public.keyid}",
        f"    ed25519, {today()} to {today() + 10 * ONE_DAY}: may be used",
        "b, verifier",
        f"  {b.keys[0].public.keyid}",
        f"    ecdsa-sha2-nistp384, {today()} to {today() + 365 * ONE_DAY}: revoked: lost",
    ]


def test_comments_are_lost_and_that_is_said(place: Path) -> None:
    done("new a --role builder --out a.pem")
    assert call(f"withdraw {DIGEST}", "--why", "x").stderr == ""
    Path("keys.toml").write_text("# ours\n" + Path("keys.toml").read_text())
    assert "the comments in keys.toml are not kept" in call("revoke a", "--why", "x").stderr


# Passphrases -------------------------------------------------------------------------------------


def test_a_passphrase_locks_the_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nobody can be asked" in failed("new a --role builder --out a.pem --passphrase")
    Path("word").touch(0o600)
    monkeypatch.setenv(PASSPHRASE_FILE, "word")
    assert "the passphrase is empty" in failed("new a --role builder --out a.pem --passphrase")
    assert not Path("a.pem").exists()
    Path("word").write_text("words\n")
    done("new a --role builder --out a.pem --passphrase")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in Path("a.pem").read_bytes()
    assert isinstance(opened(sign("a.pem")), list)


# Checking ----------------------------------------------------------------------------------------


def wrong(*more: str) -> str:
    result = call("check", *more)
    assert result.exit_code == 1, result.output
    assert all(line.startswith("FAIL  ") for line in result.stdout.splitlines())
    return result.stdout


def test_check_is_content_with_what_is_right(place: Path) -> None:
    done("new a --role builder --out a.pem")
    assert done("check", "--key", "a.pem").startswith("ok    keys.toml: nothing to do")


def test_check_says_what_ends_soon_or_is_over(place: Path) -> None:
    done("new a --role builder --out a.pem --days 30")
    assert f"a can sign until {today() + 30 * ONE_DAY} only" in wrong()
    done("rotate a --out a2.pem")
    done("check")
    old = trust(identity("z", Role.BUILDER, key("z", today() - 9 * ONE_DAY, today() - ONE_DAY)))
    change_trust(Path("keys.toml"), lambda _: old)
    assert (
        f"z has no key that may be used: {old.identities[0].keys[0].public.keyid[:16]}" in wrong()
    )


def test_check_says_what_is_there_twice(place: Path) -> None:
    done("new a --role builder --out a.pem")
    text = Path("keys.toml").read_text()
    Path("keys.toml").write_text(text + text.replace('name = "a"', 'name = "b"'))
    assert "b has a key that a has already" in wrong()


def test_check_says_who_could_change_the_file(place: Path) -> None:
    done("new a --role builder --out a.pem")
    for mode in (0o664, 0o646):
        Path("keys.toml").chmod(mode)
        assert "keys.toml can be written by others: chmod go-w keys.toml" in wrong()


def test_check_looks_at_private_keys(place: Path) -> None:
    done("new a --role builder --out a.pem")
    done("new b --role builder --out b.pem", file="other.toml")
    assert "b.pem: no identity of keys.toml has this key" in wrong("--key", "b.pem")
    Path("a.pem").chmod(0o644)
    assert "a.pem can be used by others (mode 0644): chmod 600 a.pem" in wrong("--key", "a.pem")
    Path("a.pem").chmod(0o600)
    done("revoke a", "--why", "lost")
    assert "a.pem: this key of a is revoked: lost" in wrong("--key", "a.pem")


def test_check_has_no_answer_where_there_is_no_file(place: Path) -> None:
    assert "cannot be read" in failed("check")


def test_the_trust_file_has_to_be_named(place: Path) -> None:
    """Never a default, never the working directory's."""
    done("new a --role builder --out a.pem")
    for line in ("list", "check", "revoke a --why x", "rotate a --out b", "public a"):
        result = call(line, file="")
        assert result.exit_code == 2
        assert "Missing option '--keys'" in result.output
