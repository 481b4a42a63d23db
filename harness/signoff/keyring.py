"""What may be done to a trust file: keys added, rotated, revoked; artifacts withdrawn.

No files: a trust file's content goes in, another comes out. Nothing is ever taken out of it, so
that it keeps saying why something does not count any more.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace

from harness.errors import UsageError
from harness.signoff.interface import Identity, Key, Role, Trust
from harness.signoff.trust import NAME, SHA256, usable
from harness.text import printable

SOON = datetime.timedelta(days=30)  # before its end, a key wants another one beside it
SHORTEST_KEYID = 8  # hex digits that may stand for a key


def identity(trust: Trust, name: str) -> Identity:
    """UsageError if there is none of that name."""
    for each in trust.identities:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in trust.identities)
    raise UsageError(
        f"no identity is called {printable(name, 140)!r}", f"There are: {names or 'none yet'}."
    )


def check_new(trust: Trust, name: str) -> None:
    """UsageError if ``name`` cannot be given to a new identity."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{printable(name, 140)!r} cannot be the name of an identity",
            "Use letters, digits and ._:/@+-, at most 128, a letter or digit first.",
        )
    if any(each.name == name for each in trust.identities):
        raise UsageError(
            f"there is an identity {name} already",
            "Give it another key: harness keys rotate.",
        )


def added(trust: Trust, name: str, role: Role, key: Key) -> Trust:
    """With one more key: of a new identity, or of one that has that role already."""
    if not any(each.name == name for each in trust.identities):
        check_new(trust, name)
        return replace(trust, identities=(*trust.identities, Identity(name, role, (key,))))
    found = identity(trust, name)
    if found.role is not role:
        raise UsageError(
            f"{name} is a {found.role} already, and has one role only", "Give it another name."
        )
    return _changed(trust, replace(found, keys=(*found.keys, key)))


def rotated(trust: Trust, name: str, key: Key, today: datetime.date, last: datetime.date) -> Trust:
    """With ``key`` for ``name``, whose keys of today count until ``last`` at most."""
    found = identity(trust, name)
    old = tuple(
        each if usable(each, today) else replace(each, until=min(each.until, last))
        for each in found.keys
    )
    return _changed(trust, replace(found, keys=(*old, key)))


def chosen(trust: Trust, what: str) -> list[tuple[Identity, Key]]:
    """The keys that ``what`` names: all of an identity, or one by the beginning of its keyid."""
    for each in trust.identities:
        if each.name == what:
            return [(each, key) for key in each.keys]
    found = [
        (each, key)
        for each in trust.identities
        for key in each.keys
        if len(what) >= SHORTEST_KEYID and key.public.keyid.startswith(what)
    ]
    if len(found) == 1:
        return found
    problem = "more than one key begins" if found else "no identity is called so, no key begins"
    raise UsageError(
        f"{problem} with {printable(what, 140)!r}",
        f"Give a name, or at least {SHORTEST_KEYID} digits of a keyid: harness keys list.",
    )


def revoked(trust: Trust, what: str, why: str) -> Trust:
    """Nothing counts any more that the keys signed which ``what`` names. A first reason stays."""
    keyids = {key.public.keyid for _, key in chosen(trust, what)}
    why = _said(why)
    return replace(
        trust,
        identities=tuple(
            replace(
                each,
                keys=tuple(
                    replace(key, revoked=key.revoked or why) if key.public.keyid in keyids else key
                    for key in each.keys
                ),
            )
            for each in trust.identities
        ),
    )


def withdrawn(trust: Trust, sha256: str, why: str) -> Trust:
    """The artifact may not be released any more, whoever says what. A first reason stays."""
    if not SHA256.fullmatch(sha256):
        raise UsageError(
            f"{printable(sha256, 80)!r} is not a SHA-256", "Give 64 hex digits, in small letters."
        )
    return replace(trust, withdrawn={sha256: _said(why), **trust.withdrawn})


def problems(trust: Trust, today: datetime.date) -> Iterator[str]:
    """What keeps, or soon keeps, an identity from signing: one line each."""
    if not trust.identities:
        yield "nobody is trusted: there is no identity"
    for each in trust.identities:
        kept = [key for key in each.keys if not key.revoked]
        good = [key for key in kept if not usable(key, today)]
        if not each.keys:
            yield f"{each.name} has no key at all"
        elif kept and not good:  # who is revoked altogether is meant to be
            reasons = "; ".join(f"{key.public.keyid[:16]} is {usable(key, today)}" for key in kept)
            yield f"{each.name} has no key that may be used: {reasons}: rotate or revoke it"
        elif good and max(key.until for key in good) - today <= SOON:
            last = max(key.until for key in good)
            yield f"{each.name} can sign until {last} only: rotate its key"


def _changed(trust: Trust, identity: Identity) -> Trust:
    return replace(
        trust,
        identities=tuple(
            identity if each.name == identity.name else each for each in trust.identities
        ),
    )


def _said(why: str) -> str:
    if not why.strip():
        raise UsageError("a reason is needed", "Say why: --why TEXT.")
    return printable(why.strip(), 500)
