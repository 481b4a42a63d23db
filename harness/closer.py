"""A closer look at the pairs of `harness diff` that need other people's tools. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from harness import bitcode, diffoscope
from harness.comparators.examine import HERE, equal
from harness.comparators.interface import Bounds, Examined
from harness.engines.interface import Engine
from harness.errors import HarnessError
from harness.inspection import Kit, isolated, kit

MOST_PAIRS = 10  # given to diffoscope by one command

Pairs = Mapping[str, tuple[Path, Path]]
Tools = Callable[[str], tuple[Engine, Kit]]


def tools(say: Callable[[str], None]) -> Tools:
    """The engine and a toolchain's kit, by its name; each is made when first asked for.

    What is returned raises EngineError or ToolchainError, the same one again without a new attempt.
    """

    @cache
    def attempt(name: str) -> tuple[Engine, Kit] | HarnessError:
        try:
            return isolated(), kit(name, say)
        except HarnessError as problem:
            return problem

    def at_hand(name: str) -> tuple[Engine, Kit]:
        found = attempt(name)
        if isinstance(found, HarnessError):
            raise found
        return found

    return at_hand


def pairs_of(
    left: Path, right: Path, found: Mapping[str, Examined]
) -> dict[str, tuple[Path, Path]]:
    """The files behind the answers that say that something differs."""
    if not left.is_dir():
        return {name: (left, right) for name, examined in found.items() if not equal(examined)}
    named = {name: (left / name, right / name) for name in found if name != HERE}
    return {
        name: sides
        for name, sides in named.items()
        if not equal(found[name]) and all(side.is_file() for side in sides)
    }


def with_bitcode(
    found: dict[str, Examined], pairs: Pairs, bounds: Bounds, at_hand: Tools
) -> dict[str, Examined]:
    """``found``, with the pairs of LLVM bitcode compared as text."""
    better = dict(found)
    for name, (left, right) in pairs.items():
        try:
            if not bitcode.is_bitcode(left, right):
                continue
        except OSError:
            continue  # its answer says so already
        better[name] = bitcode.disassembled(
            left, right, lambda: at_hand(bitcode.NAME), bounds, found[name]
        )
    return better


def by_diffoscope(
    found: Mapping[str, Examined], pairs: Pairs, bounds: Bounds, at_hand: Tools
) -> dict[str, diffoscope.Answer]:
    """What diffoscope says of each pair, of the first ten; and of what it cannot be asked."""
    answers: dict[str, diffoscope.Answer] = {}
    limits = diffoscope.Bounds(seconds=max(2, round(bounds.seconds)), lines=bounds.lines)
    for number, (name, (left, right)) in enumerate(pairs.items()):
        if number >= MOST_PAIRS:
            answers[name] = diffoscope.refused(f"only the first {MOST_PAIRS} files are given to it")
            continue
        try:
            engine, at = at_hand(diffoscope.NAME)
        except HarnessError as reason:
            answers[name] = diffoscope.refused(str(reason))
            continue
        answers[name] = diffoscope.look(left, right, engine, at, limits)
    for name, examined in found.items():
        if name not in pairs and name != HERE and not equal(examined):
            why = (
                "no two files of ours: one side lacks it, or a rule of the ledger changed its text"
            )
            answers[name] = diffoscope.refused(why)
    return answers
