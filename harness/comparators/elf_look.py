"""What is found while two ELF files are compared, and the limits of that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.comparators.elf_file import ElfFile
from harness.comparators.interface import Bounds, Part

ADDRESSES_SHARE = 0.3  # of all the time: telling functions that merely moved from changed ones


@dataclass
class Look:
    """What has been found so far in two files, within the limits."""

    left: ElfFile
    right: ElfFile
    bounds: Bounds
    same: int = 0
    cut: bool = False
    notes: list[str] = field(default_factory=list)
    functions: list[Part] = field(default_factory=list)
    constants: list[Part] = field(default_factory=list)
    sections: list[Part] = field(default_factory=list)
    rest: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start = time.monotonic()
        self.deadline = self.start + self.bounds.seconds
        # A quarter is kept for what is not a function or a constant.
        self.most = max(1, self.bounds.parts * 3 // 4)

    def constant(self, part: Part) -> None:
        if len(self.constants) < self.most:
            self.constants.append(part)
        else:
            self.cut = True


def run_length(runs: Sequence[tuple[int, int]]) -> int:
    return min(8, runs[0][1] - runs[0][0]) if runs else 0
