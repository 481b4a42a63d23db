"""`harness keys`: make keys, and say in the trust file who may sign what."""

from __future__ import annotations

import datetime
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.text import Text
from securesystemslib.signer import SSlibKey

from harness.commands.common import Terminal
from harness.errors import UsageError
from harness.signoff import keyring
from harness.signoff.interface import Key, Role, Trust
from harness.signoff.signers import (
    PASSPHRASE_FILE,
    create_private,
    load_private,
    secret,
    token_public,
)
from harness.signoff.trust import (
    SCHEMES,
    change_trust,
    find,
    has_comments,
    load_trust,
    public_pem,
    read_public,
    usable,
)
from harness.text import printable
from harness.tomlfile import read_limited

F = TypeVar("F", bound=Callable[..., Any])
OVERLAP = 14  # days


@click.group("keys")
def keys_group() -> None:
    """Make keys, and say in a trust file who may sign what."""


def keys_option(function: F) -> F:
    return click.option(
        "--keys", required=True, type=click.Path(dir_okay=False, path_type=Path),
        help="The trust file.",
    )(function)  # fmt: skip


def making(function: F) -> F:
    """The options of everything that makes a key."""
    for option in (
        click.option(
            "--passphrase", "locked", is_flag=True,
            help=f"Encrypt the file. Asks, or reads the file that {PASSPHRASE_FILE} names.",
        ),
        days_option,
        click.option(
            "--scheme", type=click.Choice(SCHEMES), default="ed25519", show_default=True,
            help="Kind of key.",
        ),
        click.option(
            "--out", required=True, metavar="PRIVATE", type=click.Path(path_type=Path),
            help="New file for the private key.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def days_option(function: F) -> F:
    return click.option(
        "--days", type=click.IntRange(1, 3660), default=365, show_default=True,
        help="How long it may be used.",
    )(function)  # fmt: skip


def role_option(function: F) -> F:
    return click.option(
        "--role", required=True, type=click.Choice([str(role) for role in Role]),
        help="What it may sign.",
    )(function)  # fmt: skip


@keys_group.command()
@click.argument("name")
@role_option
@keys_option
@making
def new(
    name: str, role: str, keys: Path, out: Path, scheme: str, days: int, locked: bool
) -> None:  # fmt: skip
    """Make a key for the new identity NAME.

    It gets a private file, and an entry in the trust file, which is made if it is not there.
    """
    keyring.check_new(load_trust(keys) if keys.exists() else Trust(()), name)

    def change(trust: Trust, key: Key) -> Trust:
        keyring.check_new(trust, name)
        return keyring.added(trust, name, Role(role), key)

    key = _make(keys, out, scheme, days, locked, change)
    click.echo(f"{keys} now trusts {name} as a {role}, until {key.until}, with the key")
    click.echo(f"  {key.public.keyid}")
    _private_words(out)
    click.echo("Whoever shall trust it needs its public part, and should ask you for that number:")
    click.echo(f"  harness keys public {name} --keys {keys} > {name_of(name)}.pub")
    click.echo(f"  harness keys add {name} --role {role} --public {name_of(name)}.pub --keys …")


@keys_group.command()
@click.argument("name")
@role_option
@click.option(
    "--public", "pem", type=click.Path(dir_okay=False, path_type=Path),
    help="File with the public key, in PEM.",
)  # fmt: skip
@click.option("--token", metavar="hsm:ID?label=NAME", help="PKCS #11 token with the key.")
@days_option
@keys_option
def add(
    name: str, role: str, pem: Path | None, token: str | None, days: int, keys: Path
) -> None:  # fmt: skip
    """Trust a key by its public part."""
    if (pem is None) == (token is None):
        raise UsageError("one public key is needed", "Give --public or --token.")
    public = _read_public(pem) if pem is not None else token_public(str(token))
    today = _today()
    key = Key(public, today, today + datetime.timedelta(days=days))
    _change(keys, lambda trust: keyring.added(trust, name, Role(role), key), new=True)
    click.echo(f"{keys} now trusts {name} as a {role}, until {key.until}, with the key")
    click.echo(f"  {public.keyid}")
    click.echo("Ask its owner, by another way than the file came, whether that is the number.")


@keys_group.command("list")
@keys_option
def list_keys(keys: Path) -> None:
    """List who may sign what, and what was withdrawn."""
    trust, today = load_trust(keys), _today()
    out = Terminal(soft_wrap=True)
    for each in trust.identities:
        out.print(Text(f"{each.name}, {each.role}" + (": no key" if not each.keys else "")))
        for key in each.keys:
            state = usable(key, today) or "may be used"
            out.print(Text(f"  {key.public.keyid}"))
            out.print(Text(f"    {key.public.scheme}, {key.since} to {key.until}: {state}"))
    for sha256, reason in trust.withdrawn.items():
        out.print(Text(f"withdrawn {sha256}: {printable(reason, 500)}"))


@keys_group.command()
@click.argument("what", metavar="NAME|KEYID")
@keys_option
def public(what: str, keys: Path) -> None:
    """Print a public key in PEM, to hand over.

    Of NAME, it is the newest that may be used.
    """
    found = keyring.chosen(load_trust(keys), what)
    good = [key for owner, key in found if what != owner.name or not usable(key, _today())]
    if not good:
        raise UsageError(f"{what} has no key that may be used", "Make one: harness keys rotate.")
    click.echo(public_pem(max(good, key=lambda key: (key.since, key.until)).public), nl=False)


@keys_group.command()
@click.argument("name")
@keys_option
@making
@click.option(
    "--overlap", type=click.IntRange(0, 366), default=OVERLAP, show_default=True,
    help="Days for which the old key counts as well.",
)  # fmt: skip
def rotate(
    name: str, keys: Path, out: Path, scheme: str, days: int, locked: bool, overlap: int
) -> None:
    """Give NAME another key, and let the old one end.

    What the old key signed counts until it ends: sign again what is still to be released.
    """
    keyring.identity(load_trust(keys), name)
    today = _today()
    last = today + datetime.timedelta(days=overlap)

    def change(trust: Trust, key: Key) -> Trust:
        return keyring.rotated(trust, name, key, today, last)

    key = _make(keys, out, scheme, days, locked, change)
    click.echo(f"{name} has another key, until {key.until}:")
    click.echo(f"  {key.public.keyid}")
    click.echo(f"What it had before counts until {last} at most.")
    _private_words(out)


@keys_group.command()
@click.argument("what", metavar="NAME|KEYID")
@click.option("--why", required=True, metavar="TEXT", help="Shown wherever its signature is found.")
@keys_option
def revoke(what: str, why: str, keys: Path) -> None:
    """Let a key, or all keys of NAME, count no more.

    That goes for what they have signed as well: nothing tells when a signature was really made.
    """
    hit = [
        f"{each.name} {key.public.keyid}" for each, key in keyring.chosen(load_trust(keys), what)
    ]
    _change(keys, lambda trust: keyring.revoked(trust, what, why))
    for line in hit:
        click.echo(f"revoked: {line}")
    click.echo("Hand the trust file to everybody who verifies: they do not know it otherwise.")


@keys_group.command()
@click.argument("sha256")
@click.option("--why", required=True, metavar="TEXT", help="Shown when it is refused.")
@keys_option
def withdraw(sha256: str, why: str, keys: Path) -> None:
    """Refuse an artifact from now on, whoever signed for it."""
    _change(keys, lambda trust: keyring.withdrawn(trust, sha256, why))
    click.echo(f"withdrawn: {sha256}")
    click.echo("Hand the trust file to everybody who verifies: they do not know it otherwise.")


@keys_group.command()
@keys_option
@click.option(
    "--key", "privates", multiple=True, metavar="PRIVATE", type=click.Path(path_type=Path),
    help="Also check this private key. Can be given several times.",
)  # fmt: skip
def check(keys: Path, privates: tuple[Path, ...]) -> None:
    """Check a trust file and private keys.

    Who can read or change them, what ends within 30 days, what is there twice.

    Exit code 1 if something is wrong, 2 if the file cannot be read at all.
    """
    read_limited(keys, UsageError)  # not there: no answer
    found = list(_problems(keys, privates))
    for line in found:
        Terminal(soft_wrap=True).print(Text(f"FAIL  {line}"))
    if not found:
        click.echo(f"ok    {keys}: nothing to do for {keyring.SOON.days} days")
    sys.exit(bool(found))


def _problems(keys: Path, privates: tuple[Path, ...]) -> Iterator[str]:
    found, today = keys.stat(), _today()
    if stat.S_IMODE(found.st_mode) & 0o022:
        yield f"{keys} can be written by others: chmod go-w {keys}"
    if found.st_uid not in (os.geteuid(), 0):
        yield f"{keys} belongs to somebody else, who can change it"
    try:
        trust = load_trust(keys)
    except UsageError as error:
        yield f"{error.what}: {error.hint}"
        return
    yield from keyring.problems(trust, today)
    for path in privates:
        try:
            public = SSlibKey.from_crypto(load_private(path).public_key())
        except UsageError as error:
            yield f"{error.what}: {error.hint}"
            continue
        owner = find(trust, public.keyid)
        if owner is None:
            yield f"{path}: no identity of {keys} has this key"
        elif why := usable(owner[1], today):
            yield f"{path}: this key of {owner[0].name} is {why}"


def _make(
    keys: Path, out: Path, scheme: str, days: int, locked: bool,
    change: Callable[[Trust, Key], Trust],
) -> Key:  # fmt: skip
    """A new private file and its entry, both or none."""
    passphrase = _new_passphrase() if locked else None
    today = _today()
    key = Key(create_private(out, scheme, passphrase), today, today + datetime.timedelta(days=days))
    try:
        _change(keys, lambda trust: change(trust, key), new=True)
    except BaseException:
        out.unlink()  # nobody trusts it, and nobody knows of it
        raise
    return key


def _change(keys: Path, change: Callable[[Trust], Trust], *, new: bool = False) -> None:
    if keys.exists() and has_comments(keys):
        click.echo(f"note: the comments in {keys} are not kept", err=True)
    change_trust(keys, change, new=new)


def _new_passphrase() -> str:
    if PASSPHRASE_FILE in os.environ or not sys.stdin.isatty():
        found = secret("new passphrase")
    else:
        found = click.prompt(
            "The new passphrase", hide_input=True, confirmation_prompt=True, err=True
        )
    if not found:
        raise UsageError("the passphrase is empty", "Leave --passphrase out, or give one.")
    return str(found)


def _read_public(path: Path) -> SSlibKey:
    pem = read_limited(path, UsageError, 2**16)
    if b"PRIVATE" in pem:
        raise UsageError(
            f"{path} holds a private key", "Give the public part: harness keys public."
        )
    text = pem.decode("utf-8", "replace")
    problem = ""
    for scheme in SCHEMES:
        try:
            return read_public(text, scheme)
        except ValueError as error:
            problem = str(error)
    raise UsageError(f"{path}: {problem}", "Give the PEM of one public key.")


def _private_words(out: Path) -> None:
    click.echo(f"The private key is {out}. You alone can read it; keep a copy where nobody can.")


def name_of(identity: str) -> str:
    """An identity's name as that of a file."""
    return identity.replace("/", "-")


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
