"""Two ways to print how many elements an ``alloca`` reserves.

TVM 0.26 prints ``alloca float, i32 214`` where 0.27 prints ``alloca float, i64 214``, and
``alloca float`` where 0.27 prints ``alloca float, i64 1``. A count of one is left out, every
other is given the type ``i64``.

**Claim.** If ``normalize(a) == normalize(b)``, every instruction of ``a`` reserves as many bytes,
in the same place and with the same alignment, as its counterpart in ``b``, and nothing else
differs.

1. Lines are what they seem (:mod:`harness.normalizers.llvm_text`), so a line that begins with two
   spaces and ``%NAME = alloca`` is an instruction: not part of a string, a comment or metadata.
2. Only the whole beginning ``%NAME = alloca TYPE, iN COUNT, align`` is taken, where TYPE is one
   word without a comma, N is 32 or 64, and COUNT is a constant from 1 to 2^31 - 1. An unusual
   form (``inalloca``, an address space, a count that is computed) is left as it is, and so stays
   a difference.
3. The language reference gives ``alloca`` the size of TYPE times COUNT bytes, COUNT being read as
   an unsigned number; its integer type has no other meaning, and a missing COUNT is one. In this
   range the value is the same in ``i32`` and in ``i64``.
4. The canonical form names TYPE, COUNT (or no count for one) and everything after it: two texts
   with the same canonical form differ only in the type of a count, or in whether a count of one
   is there.

**What could hide here.** One bit for each ``alloca`` with a count: how its count is typed, and
for a count of one also whether it is there. The optimiser makes the same of all of them; the
replays that start from this stage prove that with the object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from harness.normalizers.interface import Normalized, refuse_large
from harness.normalizers.llvm_text import check_lines

COUNTED = re.compile(
    rb"^(  %[-a-zA-Z$._0-9]+ = alloca [%a-zA-Z][a-zA-Z._0-9]*)"
    rb"(, i(?:32|64) ([1-9][0-9]{0,9}))(?=, align [1-9])",
    re.MULTILINE,
)
MOST = 2**31 - 1


@dataclass(frozen=True)
class AllocaCount:
    """The normalizer ``llvm-alloca-count``; the module's docstring is its proof."""

    id: str = "llvm-alloca-count"
    applies_to: frozenset[str] = field(default=frozenset({"llvm-unoptimized", "llvm"}))
    reorders: bool = False

    def normalize(self, data: bytes) -> Normalized:
        refuse_large(data)
        check_lines(data)
        ignored = 0

        def canonical(found: re.Match[bytes]) -> bytes:
            nonlocal ignored
            count = int(found[3])
            if count > MOST:
                return found[0]
            new = b"" if count == 1 else b", i64 %d" % count
            if new != found[2]:
                ignored += len(found[2])
            return found[1] + new

        return Normalized(COUNTED.sub(canonical, data), ignored)
