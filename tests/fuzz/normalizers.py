"""What every normalizer promises, checked by other means than its own.

Not the whole claim: that needs an LLVM (``tests/integration/test_normalizers_meaning.py``). But
what no input may break: only the documented refusal, a canonical form that is its own, and nothing
touched but what the normalizer is about.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from harness.ledger import Explained, Explanation, explain, load
from harness.models import ComparisonKind
from harness.normalizers import NORMALIZERS
from harness.normalizers.interface import NotApplicable
from harness.normalizers.llvm_text import check_lines, evidently_plain, look_closely
from tests.fuzz.holds import claim, safe
from tests.fuzz.seeds import TOOLCHAINS

ADDRESS = re.compile(rb'(?<=!\{!")0x[0-9a-f]+')
LOCAL = re.compile(rb"%[-a-zA-Z$._0-9]+")
NODE = re.compile(rb"![0-9]+")
ALLOCA = re.compile(rb"(= alloca [^,]*)(?:, i(?:32|64) ([0-9]+))?(?=, align )")


def normalized(name: str, data: bytes) -> None:
    normalizer = NORMALIZERS[name]
    try:
        found = normalizer.normalize(data)
    except NotApplicable as refusal:
        safe(refusal.reason, "a refusal")
        return
    claim(0 <= found.ignored_bytes <= len(data), f"{found.ignored_bytes} of {len(data)} ignored")
    claim((found.data == data) <= (found.ignored_bytes == 0), "unchanged, but bytes were ignored")
    claim((found.ignored_bytes == 0) <= (found.data == data), "changed without a byte ignored")
    again = normalizer.normalize(found.data)
    claim(again.data == found.data and again.ignored_bytes == 0, "not its own canonical form")
    claim(ERASED[name](data) == ERASED[name](found.data), "more was changed than it is about")


def tbaa(data: bytes) -> bytes:
    return ADDRESS.sub(b"0x", data)


def alloca(data: bytes) -> bytes:
    """Every count in one form; without one it is 1."""
    return ALLOCA.sub(lambda found: found[1] + b" x %d" % int(found[2] or 1), data)


def order(data: bytes) -> Counter[bytes]:
    """The lines, each with the header or label above it, but for numbers of values and nodes."""
    return Counter(place + line for place, line in placed(data))


def placed(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    inside, place = False, b""
    for line in data.split(b"\n"):
        bare = NODE.sub(b"!", LOCAL.sub(b"%", line))
        if not inside and line.startswith(b"define"):
            inside, place = True, bare
        elif inside and line == b"}":
            inside, place = False, b""
        elif inside and line[:1] not in (b" ", b""):
            place += b"|"  # the next block
            bare = bare.partition(b":")[2]
        yield place, bare


def spelling(data: bytes) -> bytes:
    return data.replace(b"relax.expr.Constant", b"ir.GenericConst")


def axes(data: bytes) -> bytes:
    return data.replace(b"T.axis.spatial(T.int64(1), T.", b"T.axis.spatial(1, T.")


ERASED = {
    "llvm-tbaa-names": tbaa,
    "llvm-alloca-count": alloca,
    "llvm-evaluation-order": order,
    "tvm-constant-spelling": spelling,
    "tvm-unit-axis": axes,
}


# How lines are read ------------------------------------------------------------------------------


def lines(data: bytes) -> None:
    """:func:`check_lines` against a lexer that goes character by character, as LLVM's does."""
    try:
        check_lines(data)
    except NotApplicable:
        return
    if evidently_plain(data):
        look_closely(data)  # the short way allows no more than the long one
    state = "code"
    for at, character in enumerate(data.decode("ascii")):
        if state == "comment":
            state = "code" if character == "\n" else state
        elif state == "string":
            claim(character != "\n", f"a line ends inside a string at byte {at}")
            state = "code" if character == '"' else state
        elif character == '"':
            state = "string"
        elif character == ";":
            state = "comment"
        elif character == "*" and data[at - 1 : at] == b"/":
            claim(False, f"a comment that may go on past its line at byte {at}")
    claim(state != "string", "a string is not closed")


# All together ------------------------------------------------------------------------------------


@cache
def rules() -> tuple[Explanation, ...]:
    """Every entry of the shipped ledger that may meet two texts of LLVM IR."""
    today = datetime.date(2026, 11, 23)
    entries = load(TOOLCHAINS / "explanations.toml", today)
    return entries.applicable("tvm", "llvm-unoptimized", ComparisonKind.VERSION, today)


def explained(base: bytes, data: bytes) -> None:
    """What is explained differs in nothing but addresses, counts and orders."""
    for left, right in ((base, data), (data, base)):
        found = explain(left, right, rules())
        if not isinstance(found, Explained):
            safe(found.reason, "why it is not explained")
            continue
        claim((left == right) == (found.ids == ()), "explained by nothing")
        sides = [order(alloca(tbaa(side))) for side in (left, right)]
        claim(sides[0] == sides[1], "explained, but more differs")
