"""When a replayer makes something else: is it the toolchain, or the version of the replayer's LLVM?

One LLVM picks other instructions than the next, release by release. So a replay that fails says
something of the toolchain only if the replayer has the toolchain's own LLVM. ``replay.toml`` names,
for each release of a compiler, an independent build of exactly that LLVM. It is asked where another
replayer made something else:

1. It makes what the toolchain left, bit for bit. Then the artifact follows from its source, by the
   same argument as for any replay. The failed one is EXPLAINED, stays in the report as what it is,
   with what differs in words, and counts nowhere as agreement.
2. It makes something else as well. Both are findings.
3. It fails, or there is none. The finding stays, and says whose LLVM is which.

What this costs: a builder of the exact LLVM who conspires with the toolchain's builders can vouch
for what another replayer denies. That is as much as every replayer can do that is asked alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.comparators.examine import examine
from harness.comparators.interface import Bounds, Part
from harness.errors import HarnessError
from harness.models import ReplayResult, Verdict
from harness.replay import Job, Regenerated, Replayer
from harness.store import Store
from harness.text import printable

NAMED = 3  # functions
BOUNDS = Bounds(parts=200, lines=60, seconds=10.0)


def second(job: Job, made: Regenerated, expected: str | None, exact: Replayer | None) -> Job | None:
    """The same replay by ``exact``; None where it is not needed, or would be no other question."""
    if (
        exact is None
        or job.recipe.with_ != "replayer"
        or made.sha256 is None
        or made.sha256 == expected
        or job.replayer.toolchain.version == exact.toolchain.version
    ):
        return None
    return replace(job, replayer=exact)


def settled(
    results: Sequence[ReplayResult], exact: Mapping[str, Replayer], store: Store
) -> list[ReplayResult]:
    """``results`` with those explained that differ by the replayer's version only.

    ``exact``: toolchain name → the replayer that has its LLVM.
    """
    by_exact = {
        (result.build, result.name): result
        for result in results
        if result.toolchain in exact and result.replayer == exact[result.toolchain].toolchain.name
    }
    words: dict[tuple[str, str], str] = {}

    def settle(result: ReplayResult) -> ReplayResult:
        known = exact.get(result.toolchain)
        if (
            result.verdict is not Verdict.UNEXPLAINED
            or result.got_sha256 is None
            or known is None
            or (version := result.replayer.partition("/")[2].partition("-")[0])
            == known.toolchain.version
        ):
            return result
        if (other := by_exact.get((result.build, result.name))) is None:
            return result
        pair = result.got_sha256, result.expected_sha256
        if pair not in words:
            words[pair] = difference(store, *pair)
        detail = (
            f"the replayer's LLVM {version} is not the toolchain's {known.toolchain.version}: "
            f"{words[pair]}; "
        )
        if other.verdict is Verdict.IDENTICAL:
            detail += f"{other.replayer} makes what the toolchain left, bit for bit"
            return replace(result, verdict=Verdict.EXPLAINED, detail=detail)
        if other.verdict is Verdict.UNEXPLAINED:
            detail += f"{other.replayer} makes something else too"
        else:
            detail += f"{other.replayer} gave no answer"
        return replace(result, detail=f"{result.detail}; {detail}")

    return [settle(result) for result in results]


def difference(store: Store, got: str, expected: str) -> str:
    """In words, what differs between two artifacts. One line, printable."""
    try:
        found = examine(store.verified(got), store.verified(expected), BOUNDS)
    except HarnessError:
        return "what differs could not be read"
    functions = [part for part in found.parts if part.kind == "function"]
    if not functions:
        lines = sum(lines_of(part) for part in found.parts)
        return f"another {found.format}, in some {lines} lines"
    shown = ", ".join(
        f"{instructions(part)} in {printable(part.name, 80)}" for part in functions[:NAMED]
    )
    more = len(functions) - NAMED
    return f"other code: {shown}" + (f" and more in {more} other functions" if more > 0 else "")


def lines_of(part: Part) -> int:
    return max(sum(line[:1] == sign for line in part.lines) for sign in "-+")


def instructions(part: Part) -> str:
    """How many instructions of the toolchain's are not the replayer's; at least, if cut short."""
    count = lines_of(part)
    if not count:
        return "instructions"
    least = "at least " if len(part.lines) >= BOUNDS.lines else ""
    return f"{least}{count} instruction{'s' if count > 1 else ''}"
