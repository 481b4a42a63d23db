"""Two artifacts of the same stage, held against each other. Bytes decide.

First by SHA-256; what differs goes through the normalizers that the ledger allows in this scope.
What is then still different is a finding, whatever any tool says about it.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from threading import Lock

from harness.ledger import Explanation, Ledger, NotExplained, apply_entry, explain
from harness.models import (
    Artifact,
    ArtifactDifference,
    BuildRecord,
    Comparison,
    ComparisonKind,
    ComparisonResult,
    Verdict,
)
from harness.normalizers import NORMALIZERS
from harness.normalizers.interface import MAX_BYTES, Normalized, NotApplicable
from harness.store import Store

MAX_REMEMBERED_BYTES = 2**30


class Comparer:
    """Compares builds of one run. What was normalized is remembered, up to a limit."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        allowed: Sequence[str] | None,
        today: datetime.date,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._allowed = allowed
        self._today = today
        self._known: dict[tuple[str, str], Normalized | NotApplicable] = {}
        self._remembered = 0  # bytes in _known
        self._lock = Lock()

    def compare(
        self, comparison: Comparison, left: BuildRecord, right: BuildRecord
    ) -> ComparisonResult:
        """The verdict over all artifacts of one stage of two builds.

        A difference without an explanation is NONDETERMINISTIC between repeats of one toolchain,
        and UNEXPLAINED otherwise.
        """
        unexplained = (
            Verdict.NONDETERMINISTIC
            if comparison.kind is ComparisonKind.REPEAT
            else Verdict.UNEXPLAINED
        )
        sides = [_artifacts(record, comparison.stage) for record in (left, right)]
        names = sorted(sides[0].keys() | sides[1].keys())
        if not any(artifact.size for side in sides for artifact in side.values()):
            return ComparisonResult(
                comparison, Verdict.INCONCLUSIVE, len(names), (), "neither side has a byte here"
            )
        rules = self.rules(left.compiler, comparison.stage, comparison.kind)
        differences = tuple(
            self._difference(name, sides[0].get(name), sides[1].get(name), rules)
            for name in names
            if sides[0].get(name) != sides[1].get(name)
        )
        if not differences:
            verdict = Verdict.IDENTICAL
        elif all(difference.explained_by for difference in differences):
            verdict = Verdict.EXPLAINED
        else:
            verdict = unexplained
        reason = next((d.reason for d in differences if not d.explained_by), "")
        return ComparisonResult(comparison, verdict, len(names), differences, reason)

    def rules(self, compiler: str, stage: str, kind: ComparisonKind) -> tuple[Explanation, ...]:
        """The ledger's entries for this scope that the policy admits."""
        return tuple(
            entry
            for entry in self._ledger.applicable(compiler, stage, kind, self._today)
            if self._allowed is None or entry.id in self._allowed
        )

    def _all_rules(self, compiler: str, stage: str) -> tuple[Explanation, ...]:
        rules = (rule for kind in ComparisonKind for rule in self.rules(compiler, stage, kind))
        kept = (rule for rule in rules if not NORMALIZERS[rule.normalizer].reorders)
        return tuple(dict.fromkeys(kept))

    def canonical(self, record: BuildRecord) -> dict[str, str]:
        """``stage/artifact`` → digest of its normalized form, which is put into the store.

        By every rule that the ledger has for the stage, whatever the comparison: replays start
        from this, and bytes decide whether that was sound.
        """
        digests = {}
        for artifact in record.artifacts:
            digest = artifact.sha256
            rules = self._all_rules(record.compiler, artifact.stage)
            for rule in rules if artifact.size <= MAX_BYTES else ():
                try:
                    made = self._apply(rule, self._store.read(digest), artifact.name)
                except NotApplicable:
                    continue
                digest = self._store.add_bytes(made.data)
            digests[f"{artifact.stage}/{artifact.name}"] = digest
        return digests

    def _difference(
        self, name: str, left: Artifact | None, right: Artifact | None, rules: Sequence[Explanation]
    ) -> ArtifactDifference:
        if left is None or right is None:
            missing = "left" if left is None else "right"
            digests = (left.sha256 if left else None, right.sha256 if right else None)
            return ArtifactDifference(name, *digests, reason=f"{name} is absent on the {missing}")
        both = (left.sha256, right.sha256)
        if not rules:
            reason = (
                f"{name} differs: no explanation applies to this compiler, stage and comparison"
            )
            return ArtifactDifference(name, *both, reason=reason)
        if max(left.size, right.size) > MAX_BYTES:
            reason = f"{name} differs: too large to be explained"
            return ArtifactDifference(name, *both, reason=reason)
        data = [self._store.read(digest) for digest in both]
        found = explain(data[0], data[1], tuple(rules), apply=self._apply)
        if isinstance(found, NotExplained):
            return ArtifactDifference(name, *both, reason=f"{name} differs: {found.reason}")
        meeting = hashlib.sha256(found.data).hexdigest()
        return ArtifactDifference(name, *both, found.ids, meeting, found.ignored_bytes)

    def _apply(self, rule: Explanation, data: bytes, side: str) -> Normalized:
        """As ledger.apply_entry, once per rule and content. The first caller names the side."""
        key = (rule.id, hashlib.sha256(data).hexdigest())
        with self._lock:
            known = self._known.get(key)
        if known is None:
            try:
                known = apply_entry(rule, data, side)
            except NotApplicable as refusal:
                known = refusal
            size = len(known.data) if isinstance(known, Normalized) else 0
            with self._lock:
                if self._remembered + size <= MAX_REMEMBERED_BYTES:
                    self._remembered += size
                    self._known[key] = known
        if isinstance(known, NotApplicable):
            raise known
        return known


def _artifacts(record: BuildRecord, stage: str) -> dict[str, Artifact]:
    return {a.name: a for a in record.artifacts if a.stage == stage}
