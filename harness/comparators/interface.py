"""What looking into two files gives: the parts that differ, by name. It never decides.

Bytes decide whether two files are the same; a comparator says *where* they differ, so that a
person can go there. It may give up on anything it does not understand: then the file is one part.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class Status(StrEnum):
    ADDED = "added"  # on the right only
    REMOVED = "removed"  # on the left only
    CHANGED = "changed"
    RENAMED = "renamed"  # the same content under two names
    MOVED = "moved"  # the same part at another place


@dataclass(frozen=True)
class Part:
    """One named piece of a file that is not the same on both sides.

    ``kind``: section, function, constant, node, member … ``name`` and ``new_name`` (for RENAMED)
    are safe to print. ``lines``: a bounded diff, first character ``-``, ``+``, ``@`` or space,
    safe to print; empty where there is nothing to read. Sizes in bytes, None where it is absent.
    """

    kind: str
    name: str
    status: Status
    left_size: int | None = None
    right_size: int | None = None
    lines: tuple[str, ...] = ()
    new_name: str = ""
    note: str = ""  # one line: what can be said in words


@dataclass(frozen=True)
class Examined:
    """``format``: how the file was read (``ELF``, ``LLVM IR`` …, ``data`` if as plain bytes).

    ``same``: how many parts are equal. ``truncated``: there may be more parts than are listed.
    ``notes``: what was not examined, and why; what equal parts cannot account for.
    """

    format: str
    parts: tuple[Part, ...]
    same: int = 0
    truncated: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bounds:
    """Limits of one look: differing parts listed, lines shown per part, seconds in all."""

    parts: int = 200
    lines: int = 60
    seconds: float = 20.0


class NotThisFormatError(Exception):
    """Not what the comparator reads, or beyond its limits; the text says why."""


class Comparator(Protocol):
    """Reads one format. Pure but for reading the two files."""

    format: str

    def examine(self, left: Path, right: Path, bounds: Bounds) -> Examined:
        """Raises NotThisFormatError where one of the files cannot be read as this format."""
        ...
