"""diffoscope's JSON, read as what an attacker may have written: limits first, then its shape.

Files are hostile, so the programs that diffoscope gives them to are, and so is what it writes.
Everything in a :class:`Node` is bounded and safe to print. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from harness.text import printable

MAX_BYTES = 8 * 2**20  # of JSON; Python needs up to thirty times that to hold it
MAX_DEPTH = 60  # nodes within nodes
MAX_NODES = 5000
MAX_COMMENTS = 20  # of one node
NAME = 300  # characters
COMMENT = 1000
LINE = 400
WHOLE = "the whole file"
FORMAT = "diffoscope-json-version"
KEYS = {"source1", "source2", "unified_diff", "comments", "has_internal_linenos", "details"}


class MalformedError(Exception):
    """Not what diffoscope writes, or beyond the limits; the text says why."""


@dataclass(frozen=True)
class Node:
    """What diffoscope says of two things: files, members, or what a command printed of them.

    ``lines``: of a unified diff, first character ``-``, ``+``, ``@`` or space. ``cut``: there are
    more lines or comments than are kept. ``lost``: how many of its inner nodes were not read.
    """

    left: str
    right: str
    comments: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    cut: bool = False
    lost: int = 0
    nodes: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Bounds:
    """``lines``: most that are kept of each node, ``nodes``: most of them."""

    lines: int = 60
    nodes: int = MAX_NODES


def parse(data: bytes, bounds: Bounds = Bounds()) -> Node:
    """The tree. Raises MalformedError."""
    if len(data) > MAX_BYTES:
        raise MalformedError(f"more than {MAX_BYTES} bytes of JSON")
    try:
        found = json.loads(data, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise MalformedError("JSON of too many levels") from None
    except (ValueError, MemoryError) as error:
        raise MalformedError(f"no JSON: {printable(str(error), 200)}") from None
    if not isinstance(found, dict) or found.pop(FORMAT, None) != 1:
        raise MalformedError("not version 1 of diffoscope's JSON")
    return _Reader(bounds).node(found, 1)


def walk(node: Node, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    """(names from the top, node) of every node, from the top down."""
    name = node.left if node.left == node.right else f"{node.left} → {node.right}"
    # A format's comparator may put all that it found below the file itself.
    path = (*above, WHOLE if above and name == above[0] else name)
    yield path, node
    for inner in node.nodes:
        yield from walk(inner, path)


class _Reader:
    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.count = 0

    def node(self, found: object, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise MalformedError(f"more than {MAX_DEPTH} nodes within each other")
        if not isinstance(found, dict) or not found.keys() <= KEYS:
            raise MalformedError("a node that diffoscope does not write")
        self.count += 1
        comments = _list(found, "comments")
        lines, cut = self.lines(found)
        inner = _list(found, "details")
        nodes: list[Node] = []
        for each in inner:
            if self.count >= self.bounds.nodes:
                break
            nodes.append(self.node(each, depth + 1))
        return Node(
            left=_text(found, "source1", NAME),
            right=_text(found, "source2", NAME),
            comments=tuple(_comment(each) for each in comments[:MAX_COMMENTS]),
            lines=lines,
            cut=cut or len(comments) > MAX_COMMENTS,
            lost=len(inner) - len(nodes),
            nodes=tuple(nodes),
        )

    def lines(self, found: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
        text = found.get("unified_diff")
        if text is None:
            return (), False
        if not isinstance(text, str):
            raise MalformedError("unified_diff is no text")
        lines = text.removesuffix("\n").split("\n", self.bounds.lines) if text else []
        shown = [
            printable(line if line[:1] in ("-", "+", "@", " ") else f" {line}", LINE)
            for line in lines[: self.bounds.lines]
        ]
        return tuple(shown), len(lines) > self.bounds.lines


def _text(found: Mapping[str, Any], key: str, limit: int) -> str:
    if not isinstance(found.get(key), str):
        raise MalformedError(f"{key} is no text")
    return printable(found[key], limit)


def _comment(found: object) -> str:
    if not isinstance(found, str):
        raise MalformedError("a comment is no text")
    return printable(found.strip().replace("\n", " "), COMMENT)


def _list(found: Mapping[str, Any], key: str) -> list[object]:
    value = found.get(key, [])
    if not isinstance(value, list):
        raise MalformedError(f"{key} is no list")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("a key is there twice")
    return found


def _constant(_name: str) -> NoReturn:
    raise MalformedError("NaN or an infinity")
