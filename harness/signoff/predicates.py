"""What signed statements say, read strictly: all of it, under one name."""

from harness.signoff.evidence import (
    Equivalence,
    Evidence,
    ExternalData,
    Ground,
    Match,
    Shipped,
    SignedModel,
    SignedRun,
    SignedStage,
    SignedToolchain,
    read_evidence,
)
from harness.signoff.provenance import (
    Provenance,
    Replayed,
    Sibling,
    dump_replays,
    library_of,
    read_provenance,
    read_replays,
    regenerated_by,
)
from harness.signoff.summary import FAILED_LEVEL, PASSED_LEVEL, Rest, Summary, read_summary

__all__ = [
    "FAILED_LEVEL",
    "PASSED_LEVEL",
    "Equivalence",
    "Evidence",
    "ExternalData",
    "Ground",
    "Match",
    "Provenance",
    "Replayed",
    "Rest",
    "Shipped",
    "Sibling",
    "SignedModel",
    "SignedRun",
    "SignedStage",
    "SignedToolchain",
    "Summary",
    "dump_replays",
    "library_of",
    "read_evidence",
    "read_provenance",
    "read_replays",
    "read_summary",
    "regenerated_by",
]
