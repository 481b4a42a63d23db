"""A decision, for people: what it is, what it lacks, and on whose word it rests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.signoff.interface import Decision
from harness.text import printable

# Digests, and files that are named by them: as many digits as tell them apart.
_LONG, _SHORT = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b"), r"\1…"


def shortened(line: str) -> str:
    return _LONG.sub(_SHORT, line)


def told(decision: Decision, word: str, artifact: Path) -> Iterator[str]:
    """Lines, beginning with ``word``."""
    yield f"{word} {printable(str(artifact), 500)}"
    yield f"sha256 {decision.artifact}"
    parts = (
        ("It lacks what the policy asks for:", decision.refusals),
        ("This speaks for it:", decision.rests),
        ("These say otherwise:", decision.dissent),
        ("From data to binary:", decision.chain),
        ("Also in the bundle:", decision.notes),
    )
    for title, lines in parts:
        if lines:
            yield ""
            yield title
            yield from (f"  {shortened(line)}" for line in lines)
