"""What is changed around a build, drawn from a recorded seed. Pure.

The list follows reprotest's (hash seed, build path, home, host name, user, locale, time zone,
clock, umask, CPU count, file order, environment) and adds ASLR, which decides whether heap
addresses can leak into a compiler's output.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from harness.models import VARIED_FIELDS, Variation

CONTROL = "control"
VARIED = "varied"

# POSIX forms: they need no time-zone database in the container.
_TIME_ZONES = ("EST5EDT", "UTC-14", "UTC+12", "NPT-5:45", "NST3:30NDT")
# Another decimal point, another lower-case I, another character set. Few machines have them.
LOCALES = ("de_DE.UTF-8", "fr_CH.UTF-8", "ja_JP.UTF-8", "tr_TR.UTF-8")
_UMASKS = (0o077, 0o027, 0o002)


def control() -> Variation:
    """The surroundings that every other build is held against: plain, but not special."""
    return Variation(
        name=CONTROL,
        seed=0,
        hash_seed=0,
        aslr=True,
        build_path="/build",
        home="/home/builder",
        host_name="builder",
        uid=1000,
        gid=1000,
        user="builder",
        locale="C.UTF-8",
        time_zone="UTC0",
        clock=None,
        umask=0o022,
        cpus=0,
        file_order=0,
        environment=(),
    )


def draw(seed: int, number: int = 1, locales: Sequence[str] = ()) -> Variation:
    """The ``number``-th varied surroundings of ``seed``: every value differs from the control's,
    but that every second one has ASLR, as the control has.

    ``locales``: those of LOCALES that builds will find here; POSIX is always there. The same
    arguments give the same values on every machine and every Python.
    """
    source = random.Random(f"variation:{seed}:{number}")  # noqa: S311 - reproducible, not secret
    word = _words(source)
    user = word(5)
    return Variation(
        name=VARIED if number == 1 else f"{VARIED}-{number}",
        seed=seed,
        hash_seed=source.randrange(1, 2**32),
        aslr=number % 2 == 0,  # the first varied build runs without, the next one with
        build_path=f"/{word(4)}/{word(12)}/{word(7)}",
        home=f"/var/{word(6)}/{user}",
        host_name=f"{word(9)}-{word(4)}",
        uid=source.randrange(2000, 60000),
        gid=source.randrange(2000, 60000),
        user=user,
        locale=source.choice(("POSIX", *locales)),
        time_zone=source.choice(_TIME_ZONES),
        # years ahead, but before 2038: what a time bomb waits for, what 32 bits still hold
        clock=source.randrange(1_830_000_000, 2_100_000_000),
        umask=source.choice(_UMASKS),
        cpus=1,
        file_order=source.randrange(1, 2**32),
        environment=tuple(
            (f"{word(6).upper()}_{index}", word(source.randrange(1, 400))) for index in range(40)
        ),
    )


def mixed(name: str, base: Variation, other: Variation, changed: Iterable[str]) -> Variation:
    """``base`` with the named variations (keys of VARIED_FIELDS) taken from ``other``."""
    fields = [field for variation in changed for field in VARIED_FIELDS[variation]]
    return replace(base, name=name, **{field: getattr(other, field) for field in fields})


def differing(left: Variation, right: Variation) -> tuple[str, ...]:
    """Names of the variations in which the two differ, in report order."""
    return tuple(
        name
        for name, fields in VARIED_FIELDS.items()
        if any(getattr(left, field) != getattr(right, field) for field in fields)
    )


def _words(source: random.Random) -> Callable[[int], str]:
    def word(length: int) -> str:
        return "".join(source.choice(string.ascii_lowercase) for _ in range(length))

    return word
