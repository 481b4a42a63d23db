"""Lists that are cut where a section has no more room, and say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.reports.page import limits
from harness.reports.page.markup import Safe, bullets, joined, prose, tag

Item = TypeVar("Item")


@dataclass
class Room:
    """How many characters one section may still take."""

    left: int = limits.MAX_SECTION

    def fits(self, piece: str) -> bool:
        self.left -= len(piece)
        return self.left >= 0


def capped(
    items: Sequence[Item], limit: int, room: Room, show: Callable[[Item], Safe], left_out: str
) -> tuple[list[Safe], Safe]:
    """What of ``items`` has room, and a line that says how many have none."""
    shown: list[Safe] = []
    for item in items[:limit]:
        piece = show(item)
        if not room.fits(piece):
            break
        shown.append(piece)
    missing = len(items) - len(shown)
    words = f"… and {missing:,} more {left_out} in report.json, for which this page has no room"
    return shown, tag("p", words, class_="cut") if missing else Safe("")


def reason_list(reasons: Sequence[str]) -> Safe:
    shown, missing = capped(list(reasons), 100, Room(), prose, "reasons")
    return joined(bullets(shown), missing)
