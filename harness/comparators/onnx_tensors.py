"""Initializers of an ONNX model as parts of an answer, with what differs in their data."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.comparators.interface import Part, Status
from harness.comparators.onnx_message import plain
from harness.comparators.onnx_summary import MAX_NAME, Tensor, load
from harness.comparators.tensor import differences_of, elements, in_words
from harness.text import printable

MAX_KEPT = 64 * 2**20  # bytes of differing initializers that are looked into


def tensor_part(
    one: Tensor | None, other: Tensor | None, status: Status, *, new_name: str = "", note: str = ""
) -> Part:
    known = one or other
    assert known is not None
    sizes = one.size if one else None, other.size if other else None
    name = printable(known.name, MAX_NAME)
    return Part("initializer", name, status, *sizes, (), new_name, note or known.shape)


def raw_data(path: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The data of the named initializers, up to a limit."""
    wanted = set(names)
    found: dict[str, bytes] = {}
    total = 0
    for tensor in load(path).graph.initializer:
        name = plain(tensor.name)
        if name in wanted and name not in found and tensor.HasField("raw_data"):
            total += len(tensor.raw_data)
            if total > MAX_KEPT:
                break
            found[name] = tensor.raw_data
    return found


def data_note(one: Tensor, other: Tensor, a: bytes, b: bytes) -> str:
    if len(a) != len(b) or one.shape != other.shape:
        return f"{len(a):,} → {len(b):,} bytes"
    found = differences_of(a, b)
    if not found.count:
        return "the same raw data; other fields of the data differ"
    start, end = found.runs[0]
    words = in_words(found, a[start : min(end, start + 8)], b[start : min(end, start + 8)])
    element = one.shape.partition(" ")[0]
    values = elements(
        lambda at, size: a[at : at + size],
        lambda at, size: b[at : at + size],
        len(a), element, found,
    )  # fmt: skip
    return f"{words}{values}"
