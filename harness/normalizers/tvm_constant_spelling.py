"""Two spellings of one reference to a constant in TVM's printed Relax and TIR.

TVM 0.26 prints ``metadata["relax.expr.Constant"][k]`` where 0.27 prints
``metadata["ir.GenericConst"][k]``. The driver puts the digest of the constant's bytes, its dtype
and its shape in the place of the index ``k``. The older spelling is rewritten to the newer one.

**Claim.** If ``normalize(a) == normalize(b)``, then ``a`` and ``b`` are equal, or one is the other
with *every* reference respelt; and every reference names the same constant, bit for bit.

1. The text is lexed as Python (:mod:`harness.normalizers.tvm_text`): comments and string literals
   are skipped, so only a reference in code counts. What the lexer does not know is refused.
2. A string literal that is one of the spellings must stand in a reference: the identifier
   ``metadata``, no longer name and no attribute, and ``["SPELLING"][sha256:DIGEST:DTYPE:SHAPE]``.
   Anything else around it, above all a plain index, is refused: an index proves nothing.
3. A text that holds both spellings is refused. So the rewrite changes all references or none, and
   has one inverse: respelling all of them.
4. Nothing but the spelling between the first quotes is changed.

**What could hide here.** One bit per file: which of the two spellings it uses. The text is a dump
that nothing reads back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.normalizers.interface import Normalized, NotApplicable, refuse_large
from harness.normalizers.tvm_text import tokens

OLD = b"relax.expr.Constant"
NEW = b"ir.GenericConst"

LEADING = b"metadata["
REFERENCE = re.compile(
    rb'(?<![A-Za-z_0-9.\x80-\xff])metadata\["(relax\.expr\.Constant|ir\.GenericConst)"\]'
    rb"\[sha256:[0-9a-f]{64}:[a-z][a-z0-9_]{0,31}:(?:[0-9]{1,12}(?:x[0-9]{1,12}){0,15})?\]"
)


@dataclass(frozen=True)
class ConstantSpelling:
    """The normalizer ``tvm-constant-spelling``; the module's docstring is its proof."""

    id: str = "tvm-constant-spelling"
    applies_to: frozenset[str] = field(default=frozenset({"graph", "tensor-ir"}))
    reorders: bool = False

    def normalize(self, data: bytes) -> Normalized:
        refuse_large(data)
        spellings = references(data)
        used = {spelling for _, spelling in spellings}
        if len(used) > 1:  # (3)
            raise NotApplicable("the text mixes both spellings of a constant")
        if used != {OLD}:
            return Normalized(data, 0)
        parts, position = [], 0
        for start, _ in spellings:
            parts += [data[position:start], NEW]
            position = start + len(OLD)
        return Normalized(b"".join([*parts, data[position:]]), len(OLD) * len(spellings))


def references(data: bytes) -> list[tuple[int, bytes]]:
    """(1), (2): where each reference's spelling starts, and the spelling; raises NotApplicable."""
    found: list[tuple[int, bytes]] = []
    for token in tokens(data):
        if (token["double"] or token["single"]) not in (OLD, NEW):
            continue
        reference = REFERENCE.match(data, max(0, token.start() - len(LEADING)))
        if reference is None:
            raise NotApplicable(f"a constant is not named by its digest at byte {token.start()}")
        found.append((reference.start(1), reference[1]))
    return found
