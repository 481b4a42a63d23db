"""JSON in one reading only: what two parsers could understand differently is refused.

The rules are those of I-JSON (RFC 7493), with limits: UTF-8 without a byte order mark, no key twice
in one object, integers that a double holds exactly, finite numbers, no lone surrogates, one
document, at most DEPTH levels and VALUES values.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from harness.text import printable

DEPTH = 64  # objects and lists inside each other
VALUES = 1_000_000  # in one document: what is small as text may be large in memory
MOST_INTEGER = 2**53 - 1  # RFC 7493 2.2: beyond it, some parsers round
_LONGEST_NUMBER = 64  # characters


class StrictJsonError(ValueError):
    """Not JSON in one reading; the text is one line, safe to print, and says what and why."""


def parse(data: bytes, what: str, values: int = VALUES) -> Any:
    """The value that ``data`` spells; ``what`` names it in the text of a StrictJsonError.

    values: about the most that it may hold, for what is never large when it is honest.
    """
    if data.startswith(codecs.BOM_UTF8):
        raise StrictJsonError(f"{what} begins with a byte order mark")
    # An upper bound: strings may hold these, too.
    if data.count(b",") + data.count(b"[") + data.count(b"{") + 1 > values:
        raise StrictJsonError(f"{what} holds more than {values} values")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
    except UnicodeDecodeError as error:
        raise StrictJsonError(f"{what} is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise StrictJsonError(f"{what} is deeper than {DEPTH} levels") from None
    except StrictJsonError as error:
        raise StrictJsonError(f"{what} {error}") from None
    except json.JSONDecodeError as error:
        problem = printable(error.msg, 120)
        raise StrictJsonError(f"{what} is not JSON at {error.pos}: {problem}") from None
    _check(value, what)
    return value


def canonical(value: Any) -> bytes:
    """How we write JSON: sorted keys, no spaces, ASCII; equal values are equal bytes.

    StrictJsonError for what :func:`parse` would refuse; TypeError for what is not JSON.
    """
    _only_strings_as_keys(value)
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain
        )
    except RecursionError:
        raise StrictJsonError(f"it is deeper than {DEPTH} levels") from None
    except ValueError as error:  # a float that is not finite, or a circle
        raise StrictJsonError(f"it cannot be written: {error}") from None
    data = text.encode("ascii")
    parse(data, "it")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise StrictJsonError(f"has the key {printable(key, 80)!r} twice in one object")
            seen.add(key)
    return found


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER or abs(int(text)) > MOST_INTEGER:
        raise StrictJsonError(f"has an integer beyond 2^53: {printable(text, 40)}")
    return int(text)


def _number(text: str) -> float:
    if len(text) > _LONGEST_NUMBER or not math.isfinite(float(text)):
        raise StrictJsonError(f"has a number that is too large or too long: {printable(text, 40)}")
    return float(text)


def _constant(text: str) -> NoReturn:
    raise StrictJsonError(f"has {text}, which is no JSON")


def _check(value: Any, what: str) -> None:
    """Depth, and text that is no text. Level by level, as the depth is not known yet."""
    level, above = [value], 0
    while level:
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict | list):
                if above == DEPTH:
                    raise StrictJsonError(f"{what} is deeper than {DEPTH} levels")
                below.extend(each)
                if isinstance(each, dict):
                    below.extend(each.values())
            elif isinstance(each, str) and not each.isascii() and not _is_text(each):
                raise StrictJsonError(f"{what} has half of a surrogate pair in a string")
        level, above = below, above + 1


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is no JSON")


def _only_strings_as_keys(value: Any) -> None:
    """json.dumps would turn other keys into strings, and two keys into one."""
    pending, seen = [value], 0
    while pending:
        each = pending.pop()
        seen += 1
        if seen > VALUES:
            raise StrictJsonError(f"it holds more than {VALUES} values, or itself")
        if isinstance(each, Mapping):
            for key in each:
                if not isinstance(key, str):
                    raise TypeError(f"a {type(key).__name__} is no key of a JSON object")
            pending.extend(each.values())
        elif isinstance(each, list | tuple):
            pending.extend(each)
