"""What a normalizer is: a pure function that removes one proven kind of difference from bytes.

A normalizer renames or respells; it never deletes. Each one proves, in its own docstring, that two
inputs which become equal differed in nothing but what it replaced. Where it cannot prove that, it
raises :class:`NotApplicable` and the difference stays a finding.

Inputs are hostile: a normalizer works in linear time and refuses what is too large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

MAX_BYTES = 512 * 2**20  # per artifact; the largest text seen from a compiler is 10 MB


class NotApplicable(Exception):  # noqa: N818 (an answer, not a failure)
    """The bytes are not what this normalizer can prove things about. One line says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Normalized:
    """``ignored_bytes``: how many bytes of the input were replaced by something canonical."""

    data: bytes
    ignored_bytes: int


class Normalizer(Protocol):
    @property
    def id(self) -> str:
        """The name by which ``toolchains/explanations.toml`` refers to it."""
        ...

    @property
    def applies_to(self) -> frozenset[str]:
        """The stages whose artifacts it understands; the ledger cannot allow it elsewhere."""
        ...

    @property
    def reorders(self) -> bool:
        """Whether it changes an order that a later tool looks at: then no replay starts from it."""
        ...

    def normalize(self, data: bytes) -> Normalized:
        """The canonical form of ``data``. Idempotent. Raises NotApplicable."""
        ...


def refuse_large(data: bytes) -> None:
    """Raises NotApplicable for more than MAX_BYTES bytes."""
    if len(data) > MAX_BYTES:
        raise NotApplicable(f"{len(data)} bytes are more than the {MAX_BYTES} that are looked at")
