"""What differs in a global of LLVM IR."""

from __future__ import annotations

import re

from harness.comparators.llvm_ir_reading import Module
from harness.comparators.pieces import Piece
from harness.text import printable

MAX_CANONICAL = 2**23  # bytes of one piece in which names are replaced
BYTES = re.compile(rb'(\[[0-9]+ x i8\]) c"([^"\n]*)"')
ESCAPE = re.compile(rb"\\([0-9A-Fa-f]{2})")
ARRAY = re.compile(rb"\[[0-9]+ x [^]\n]{1,40}\]")


def constant(left: Module, right: Module, x: Piece, y: Piece) -> str:
    """Digests of a changed global, its type, and which of its bytes differ."""
    sides = (left.pieces.source, x), (right.pieces.source, y)
    said = [f"sha256 {text.digest(p.start, p.end)[:16]}…" for text, p in sides]
    types = [ARRAY.search(text.data, p.start, min(p.end, p.start + 4096)) for text, p in sides]
    for side, found in enumerate(types):
        if found:
            said[side] += " " + printable(found[0], 60)
    note = " → ".join(said)
    if max(x.size, y.size) <= MAX_CANONICAL:
        values = [BYTES.search(text.read(p.start, p.end)) for text, p in sides]
        if values[0] and values[1]:
            a, b = (
                ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), value[2])
                for value in values
                if value
            )
            if len(a) == len(b) and a != b:
                at = [i for i in range(0, len(a), 4096) if a[i : i + 4096] != b[i : i + 4096]]
                first = next(i for i in range(at[0], len(a)) if a[i] != b[i])
                top = min(len(a), at[-1] + 4096)
                last = next(i for i in range(top - 1, -1, -1) if a[i] != b[i])
                note += f"; bytes {first} to {last} of {len(a)} differ"
    return note
