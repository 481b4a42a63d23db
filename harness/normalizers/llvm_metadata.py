"""Numbered metadata of textual LLVM IR, numbered anew in the order of its first use.

LLVM numbers the nodes ``!0``, ``!1`` ... as it meets them while printing, so the numbers follow the
order of the instructions. They are labels: nothing but the text itself refers to them.

**Claim.** The result is the input under one bijection of the numbers, and the lines that define
them stand in the order of the new ones.

1. The numbered metadata stands in one block at the end, one node a line, numbered from 0 without
   gap or repetition (:func:`harness.normalizers.llvm_tbaa.split`).
2. Outside strings and comments every ``!`` is followed by a number without leading zeros that
   belongs to a node, by a name, by ``{`` or by a string. So every reference is found: none is
   written with a space between, or in another spelling.
3. The new numbers are 0 to n - 1, each given once; every reference is replaced.
"""

from __future__ import annotations

import re

from harness.normalizers.interface import NotApplicable
from harness.normalizers.llvm_tbaa import split

NUMBER = rb"(?:0|[1-9][0-9]{0,8})(?![-a-zA-Z$._\\0-9])"
OTHER = re.compile(rb'"[^"\n]*"|;[^\n]*|!(?!%s|[-a-zA-Z$._\\{"])' % NUMBER)
REFERENCE = re.compile(rb'"[^"\n]*"|;[^\n]*|!(%s)' % NUMBER)


def renumber(data: bytes) -> bytes:
    """Linear time. Raises NotApplicable."""
    head, lines = split(data)
    if any(found[0] == b"!" for found in OTHER.finditer(data)):
        raise NotApplicable("a reference to metadata in a form that LLVM does not print")
    end = [lines.pop()] if lines and not lines[-1] else []
    bodies = [line[line.index(b" = ") :] for line in lines]
    inner = [references(body) for body in bodies]

    # Named metadata first, as LLVM does, so that most numbers stay what they are.
    named = b"\n".join(line for line in head.split(b"\n") if line.startswith(b"!"))
    new: dict[int, int] = {}
    for root in (*references(named), *references(head), *range(len(lines))):
        stack = [root]
        while stack:
            node = stack.pop()
            if node >= len(lines):
                raise NotApplicable(f"!{node} is used and never defined")
            if node not in new:
                new[node] = len(new)
                stack.extend(reversed(inner[node]))

    def renamed(found: re.Match[bytes]) -> bytes:
        return found[0] if found[1] is None else b"!%d" % new[int(found[1])]

    defined = [b""] * len(lines)
    for node, body in enumerate(bodies):
        defined[new[node]] = b"!%d" % new[node] + REFERENCE.sub(renamed, body)
    return REFERENCE.sub(renamed, head) + b"\n".join([*defined, *end])


def references(text: bytes) -> list[int]:
    return [int(found) for found in REFERENCE.findall(text) if found]
