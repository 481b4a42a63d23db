"""Valid inputs, changed: what a random stream of bytes never reaches.

Every change is drawn from one ``random.Random``, so that a seed names it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

TOKEN = re.compile(rb"[A-Za-z_0-9.]+|\s+|[^A-Za-z_0-9.\s]")
WORDS = (
    b"\x1b[2J", b"\\u001b[2J", b"\\u202e", b"\\ud800", "\u202e".encode(), b"\0", b"\xff\xfe",
    b"\r\n", b'"', b"'", b"\\", b"{", b"}", b"[" * 3000, b'{"a":' * 2000, b"(" * 200, b"9" * 5000,
    b"0x" + b"f" * 5000, b"-1", b"0x7fffffffffffffff", b"1e999", b"nan", b"%", b"@", b"!", b"#",
    b";", b"/*", b"\x80\x80\x80\x80\x01", b"../", b"/", b"=", b",",
)  # fmt: skip
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def mutated(data: bytes, others: Sequence[bytes], chance: random.Random, most: int) -> bytes:
    """``data`` after one to eight changes, at most ``most`` bytes."""
    for _ in range(chance.randint(1, 8)):
        change = chance.choice(CHANGES)
        data = change(data or b"\0", others, chance)[:most]
    return data


def _bytes(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


def _bit(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]


def _number(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """A little- or big-endian field at an aligned place, as in headers."""
    size = chance.choice((1, 2, 4, 8))
    at = chance.randrange(len(data)) // size * size
    value = chance.choice(NUMBERS) & ((1 << 8 * size) - 1)
    field = value.to_bytes(size, "little" if chance.random() < 0.5 else "big")
    return data[:at] + field + data[at + size :]


def _word(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(WORDS) + data[at + chance.choice((0, 0, 1, 4)) :]


def _cut(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return data[:start] if chance.random() < 0.2 else data[:start] + data[end:]


def _lines(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Two lines exchanged, one lost, one twice."""
    lines = data.split(b"\n")
    one, other = (chance.randrange(len(lines)) for _ in range(2))
    kind = chance.randrange(3)
    if kind == 0:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 1:
        del lines[one]
    else:
        lines.insert(other, lines[one])
    return b"\n".join(lines)


def _tokens(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """One token takes the place of another, or both change places."""
    tokens = TOKEN.findall(data)
    one, other = (chance.randrange(len(tokens)) for _ in range(2))
    taken = tokens[one]
    if chance.random() < 0.5:
        tokens[one] = tokens[other]
    tokens[other] = taken
    return b"".join(tokens)


def _digits(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    found = list(re.finditer(rb"[0-9]+", data))
    if not found:
        return data
    place = chance.choice(found)
    value = str(chance.choice(NUMBERS)).encode()
    return data[: place.start()] + value + data[place.end() :]


def _spliced(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    other = chance.choice(others) if others else data
    at, start = chance.randrange(len(data) + 1), chance.randrange(len(other) + 1)
    return data[:at] + other[start:]


def _repeated(data: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """A piece many times: what is quadratic shows."""
    start = chance.randrange(len(data))
    piece = data[start : start + chance.choice((1, 2, 8, 64))]
    return data[:start] + piece * chance.choice((3, 50, 1000)) + data[start:]


CHANGES = (
    _bytes, _bit, _number, _word, _cut, _lines, _tokens, _digits, _spliced, _repeated,
)  # fmt: skip
