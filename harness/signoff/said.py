"""Signed statements, by what they say: read, and sorted by the role of who signed. Pure.

A statement outside its signer's role, or one that cannot be read, counts for nothing, whoever
signed it. Here that is only written down: as nothing that is present may decide by itself, a faulty
statement is as good as none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.signoff.bill import Bill, read_bill
from harness.signoff.interface import BOM, EVIDENCE, PROVENANCE, SUMMARY, Role, Signed
from harness.signoff.predicates import (
    Evidence,
    Provenance,
    Summary,
    read_evidence,
    read_provenance,
    read_summary,
)
from harness.text import printable

_SPEAK = {
    PROVENANCE: (Role.BUILDER, Role.VERIFIER),
    EVIDENCE: (Role.VERIFIER,),
    SUMMARY: (Role.VERIFIER,),
    BOM: (Role.VERIFIER,),
}


@dataclass(frozen=True)
class Said:
    """All that was said. ``builds``: by builders; ``own_builds``: by verifiers, of their runs.

    ``faults``: what counts for nothing, and why. ``digests``: of the payloads that do count.
    """

    builds: list[tuple[Signed, Provenance]] = field(default_factory=list)
    own_builds: list[tuple[Signed, Provenance]] = field(default_factory=list)
    evidence: list[tuple[Signed, Evidence]] = field(default_factory=list)
    summaries: list[tuple[Signed, Summary]] = field(default_factory=list)
    bills: list[tuple[Signed, Bill]] = field(default_factory=list)
    faults: list[tuple[Signed, str]] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)


def sort(signed: Sequence[Signed]) -> Said:
    said = Said()
    for each in sorted(signed, key=lambda one: (one.file, one.digest, one.signer.name)):
        try:
            _sort(each, said)
        except ValueError as error:
            said.faults.append((each, printable(str(error), 400)))
        else:
            said.digests.add(each.digest)
    return said


def _sort(each: Signed, said: Said) -> None:
    kind, role = each.predicate_type, each.signer.role
    if role is Role.UPSTREAM and kind not in (EVIDENCE, SUMMARY):
        return  # the chain's matter: it reads these by rules of its own
    if role not in _SPEAK.get(kind, ()):
        raise ValueError(f"its signer is {role}, which may not state {printable(kind, 100)}")
    if kind == PROVENANCE:
        build = read_provenance(each.statement)
        _own(each, build.builder)
        (said.builds if role is Role.BUILDER else said.own_builds).append((each, build))
    elif kind == EVIDENCE:
        said.evidence.append((each, read_evidence(each.statement)))
    elif kind == SUMMARY:
        summary = read_summary(each.statement)
        _own(each, summary.verifier)
        said.summaries.append((each, summary))
    else:
        said.bills.append((each, read_bill(each.statement)))


def _own(each: Signed, named: str) -> None:
    """Nobody speaks for another identity, not even in its own role."""
    if named != each.signer.name:
        shown = printable(named, 140)
        raise ValueError(f"it is signed by {each.signer.name} and speaks as {shown}")
