"""Strict JSON: one reading of every document, and nothing that is large or deep."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.signoff.strictjson import (
    DEPTH,
    MOST_INTEGER,
    VALUES,
    StrictJsonError,
    canonical,
    parse,
)
from tests.fuzz.holds import claim, safe

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES_OF_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MOST_INTEGER, MOST_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)

# What is refused, why, and the nearest thing that is taken.
TRICKS = {
    "two keys": (b'{"a":1,"a":1}', "the key 'a' twice", b'{"a":1,"b":1}'),
    "two keys, spelled apart": (
        b'{"a":1,"\\u0061":2}', "the key 'a' twice", b'{"a":1,"\\u0062":2}',
    ),
    "two keys, deep inside": (b'[{"x":{"a":1,"a":2}}]', "the key 'a' twice", b'[{"x":{"a":1}}]'),
    "a byte order mark": (b"\xef\xbb\xbf{}", "a byte order mark", b"{}"),
    "UTF-16": ('{"a":1}'.encode("utf-16-le"), "not JSON at 1", b'{"a":1}'),
    "not UTF-8": (b'"\xff"', "not UTF-8 at byte 1", b'"\xc3\xbf"'),
    "overlong UTF-8": (b'"\xc0\xaf"', "not UTF-8 at byte 1", b'"/"'),
    "a surrogate as UTF-8": (b'"\xed\xa0\x80"', "not UTF-8 at byte 1", b'"\xed\x9f\xbf"'),
    "half a pair": (b'"\\ud800"', "half of a surrogate pair", b'"\\ud83d\\ude00"'),
    "half a pair in a key": (b'{"\\udc00":1}', "half of a surrogate pair", b'{"\\u00dc":1}'),
    "not a number": (b"[NaN]", "has NaN", b"[null]"),
    "infinity": (b"[Infinity]", "has Infinity", b"[1]"),
    "minus infinity": (b"[-Infinity]", "has -Infinity", b"[-1]"),
    "infinity in digits": (b"[1e999]", "a number that is too large", b"[1e99]"),
    "a long fraction": (b"[0." + b"1" * 90 + b"]", "too large or too long", b"[0.1]"),
    "an integer too large": (
        str(MOST_INTEGER + 1).encode(), "an integer beyond 2^53", str(MOST_INTEGER).encode(),
    ),
    "an integer too small": (
        str(-MOST_INTEGER - 1).encode(), "an integer beyond 2^53", str(-MOST_INTEGER).encode(),
    ),
    "a huge integer": (b"9" * 5000, "an integer beyond 2^53", b"9"),
    "two documents": (b"{}{}", "not JSON at 2: Extra data", b"{} "),
    "nothing": (b"", "not JSON at 0", b"0"),
    "a comma too many": (b"[1,]", "not JSON at", b"[1]"),
    "a comment": (b"{}//", "not JSON at 2", b"{}\n"),
    "a control character": (b'"\x00"', "not JSON at 1", b'"\\u0000"'),
    "other quotes": (b"{'a':1}", "not JSON at 1", b'{"a":1}'),
    "a leading zero": (b"[01]", "not JSON at 2", b"[0]"),
    "a no-break space": ("[1,\u00a02]".encode(), "not JSON at 3", b"[1, 2]"),
    "too deep": (
        b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1), "deeper than", b"[" * DEPTH + b"]" * DEPTH,
    ),
    "objects too deep": (
        b'{"a":' * (DEPTH + 1) + b"1" + b"}" * (DEPTH + 1), "deeper than",
        b'{"a":' * DEPTH + b"1" + b"}" * DEPTH,
    ),
    "deeper than a stack": (b"[" * 500_000, "deeper than", b"[]"),
    "too many": (b"[" + b"0," * VALUES + b"0]", "more than", b"[" + b"0," * 1000 + b"0]"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_are_refused_and_what_is_next_to_them_is_taken(name: str) -> None:
    refused, why, taken = TRICKS[name]
    with pytest.raises(StrictJsonError) as error:
        parse(refused, "the thing")
    assert str(error.value).startswith("the thing ")
    assert why in str(error.value)
    parse(taken, "the thing")


def test_a_hostile_key_is_shown_safely() -> None:
    with pytest.raises(StrictJsonError) as error:
        parse('{"\u202e\\u001b[2J":1,"\u202e\\u001b[2J":2}'.encode(), "it")
    safe(str(error.value), "the reason")


@given(VALUES_OF_JSON)
def test_what_we_write_is_read_as_it_was(value: Any) -> None:
    data = canonical(value)
    assert parse(data, "it") == value
    assert json.loads(data) == value
    assert canonical(parse(data, "it")) == data
    assert data.isascii()


@given(st.dictionaries(TEXT, st.integers(-9, 9), max_size=5))
def test_equal_values_are_equal_bytes(value: dict[str, int]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


def test_the_form_that_we_write() -> None:
    assert canonical({"b": [1, None], "a": "é\n"}) == b'{"a":"\\u00e9\\n","b":[1,null]}'
    assert canonical(("a",)) == b'["a"]'


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53, "\ud800", {"\udfff": 1}], ids=repr
)
def test_what_would_be_refused_is_not_written(value: object) -> None:
    with pytest.raises(StrictJsonError):
        canonical(value)


@pytest.mark.parametrize(
    "value", [{1: 2, "1": 3}, {None: 1}, [{True: 1}], b"", {"a": {1}}], ids=repr
)
def test_what_is_no_json_is_not_written(value: object) -> None:
    with pytest.raises(TypeError):
        canonical(value)


def test_what_holds_itself_is_not_written() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(StrictJsonError):
        canonical(value)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | VALUES_OF_JSON.map(
    lambda value: json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass")
))  # fmt: skip
def test_any_bytes_end_in_one_reading_or_one_reason(data: bytes) -> None:
    try:
        value = parse(data, "it")
    except StrictJsonError as error:
        safe(str(error), "the reason")
        claim(len(str(error)) < 400, "a long reason")
    else:
        assert value == json.loads(data)
        assert parse(canonical(value), "it") == value


def test_a_mebibyte_of_brackets_does_not_take_long() -> None:
    data = b"[" + b"[]," * 350_000 + b"[]]"
    before = time.thread_time()
    parse(data, "it")
    assert time.thread_time() - before < 10
