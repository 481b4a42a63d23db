"""Differences that follow from one that is already explained. Pure.

**Claim.** Where two builds leave different bytes at a stage, and an entry of the ledger with
``follows`` applies, both builds' artifacts of that stage are what an independent LLVM makes of
one and the same program.

1. At the stage that the entry names in ``follows``, the same two builds were compared and are
   identical, or explained by rules of class ``proven``: they hold one program there.
2. Each replay that the entry names was run for *each* of the two builds, starting from that build's
   own dumps, and gave that build's own artifacts bit for bit. The same tools ran for both: a linker
   that one side brought along proves nothing about what it links.
3. The named replays lead from the stage in ``follows`` to every stage that the entry covers; so
   each side's bytes are a function, computed by somebody else's tools, of its own rendering of that
   program.
4. Only the artifacts that the entry names may differ. A stage can hold others, which no replay
   makes out of the program of (1): TVM's object stage also holds the packed weights.
5. Whatever a replay of the stage starts from agrees between the two builds, or is explained, by
   this rule too: the library is made of the packed weights as well, and where those differ for no
   reason, the library does.
6. The two toolchains were built for different architectures. That is the one known cause of another
   order; between toolchains of one architecture every difference stays a finding.

**What could hide here.** An artifact that is named, but that no replay makes: the text of the
optimised IR. (2) ties the object to what it says, so what could differ unnoticed are comments and
the names of local values, in the dump of a toolchain of another architecture.

What then differs is only what those tools make of two orders of the same operations. A payload
would have to be in the program of (1), where the proof would not go through, or outside what (2)
regenerates, where the bytes would not match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.ledger import Derivation, ExplanationClass, Ledger
from harness.models import BuildRecord, ComparisonResult, ReplayResult, Verdict

_AGREE = (Verdict.IDENTICAL, Verdict.EXPLAINED)


def derive(
    comparisons: Sequence[ComparisonResult],
    replays: Sequence[ReplayResult],
    records: Sequence[BuildRecord],
    ledger: Ledger,
    rules: Iterable[Derivation],
    arch: Mapping[str, str],
) -> list[ComparisonResult]:
    """The comparisons, with those explained that follow from an earlier stage.

    ``arch``: toolchain name → the architecture that it runs on.
    """
    runs_on = {record.id: arch.get(record.toolchain) for record in records}
    compilers = {record.id: record.compiler for record in records}
    by_pair = {_pair(result): result for result in comparisons}
    proven_ids = {e.id for e in ledger.entries if e.kind_class is ExplanationClass.PROVEN}
    held = {  # (build, replay name) → whether every replayer regenerated it bit for bit
        (build, name): all(
            r.verdict is Verdict.IDENTICAL for r in replays if (r.build, r.name) == (build, name)
        )
        for build, name in {(r.build, r.name) for r in replays}
    }
    rules = tuple(rules)

    def proven(result: ComparisonResult | None) -> bool:  # (1)
        return (
            result is not None
            and result.verdict in _AGREE
            and all(set(d.explained_by) <= proven_ids for d in result.differences)
        )

    def tools(build: str, name: str) -> set[str]:
        return {r.replayer for r in replays if (r.build, r.name) == (build, name)}

    def follows(result: ComparisonResult, rule: Derivation) -> bool:
        comparison = result.comparison
        sides = (comparison.left, comparison.right)
        return (
            comparison.kind in rule.kinds
            and None not in (hosts := {runs_on.get(side) for side in sides})  # (6)
            and len(hosts) == 2
            and all(  # (4)
                f"{comparison.stage}/{d.name}" in rule.artifacts
                for d in result.differences
                if not d.explained_by
            )
            and all(compilers.get(side) == rule.compiler for side in sides)
            and proven(by_pair.get((*sides, rule.follows)))
            and all(held.get((side, name), False) for side in sides for name in rule.replays)  # (2)
            and all(tools(sides[0], name) == tools(sides[1], name) for name in rule.replays)  # (2)
            and all(  # (5)
                agrees(by_pair.get((*sides, stage)), artifact)
                for replay in replays
                if replay.build in sides and replay.stage == comparison.stage
                if replay.name in rule.replays
                for stage, _, artifact in (source.partition("/") for source in replay.sources)
            )
        )

    # Stage by stage: each derived one can be what the next starts from.
    while True:
        found = {
            pair: explained
            for pair, result in by_pair.items()
            if (explained := _explained(result, [r.id for r in rules if follows(result, r)]))
            != result
        }
        if not found:
            return [by_pair[_pair(result)] for result in comparisons]
        by_pair |= found


def _pair(result: ComparisonResult) -> tuple[str, str, str]:
    return (result.comparison.left, result.comparison.right, result.comparison.stage)


def agrees(result: ComparisonResult | None, artifact: str) -> bool:
    """Whether two builds agree in one artifact of a stage that was compared."""
    return (
        result is not None
        and result.verdict is not Verdict.INCONCLUSIVE
        and all(d.explained_by for d in result.differences if d.name == artifact)
    )


def _explained(result: ComparisonResult, rules: Sequence[str]) -> ComparisonResult:
    """With the first rule as explanation of every artifact that is there on both sides."""
    if result.verdict in (*_AGREE, Verdict.INCONCLUSIVE) or not rules:
        return result
    if any(d.left_sha256 is None or d.right_sha256 is None for d in result.differences):
        return result
    differences = tuple(
        d if d.explained_by else replace(d, explained_by=(rules[0],), reason="")
        for d in result.differences
    )
    return replace(result, verdict=Verdict.EXPLAINED, differences=differences, reason="")
