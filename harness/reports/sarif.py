"""SARIF 2.1.0, as code scanning reads it: one result for each finding, and how the run ended.

Follows the OASIS standard SARIF 2.1.0 (errata 01), and GitHub's rules for what it shows: relative
locations, a fingerprint that stays the same from run to run, ``security-severity`` of the rules.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from harness.models import Report
from harness.reports.findings import MAX_LINE, MAX_NAME, Finding, findings
from harness.text import printable
from harness.verdict import exit_code

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
MAX_RESULTS = 5000  # GitHub shows no more of one run


@dataclass(frozen=True)
class Rule:
    """A kind of finding. ``severity`` from 0 to 10, on GitHub's scale: above 7 is high."""

    id: str
    name: str
    short: str
    help: str
    severity: float


RULES = (
    Rule(
        "unexplained",
        "UnexplainedDifference",
        "Toolchains that should agree built different bytes, and no rule of the ledger explains it",
        "Do not release. More often a bug or nondeterminism than an attack. Look at the difference "
        "after normalizing: harness diff RUN MODEL STAGE A B --normalized. With three or more "
        "toolchains of one compiler the odd one out is named.",
        8.0,
    ),
    Rule(
        "replay-mismatch",
        "ReplayMismatch",
        "A stage does not follow from the stage above it",
        "An independent tool regenerated this stage from the toolchain's own dump and got other "
        "bytes: either the dump is not what was compiled, or the stage was changed afterwards. Do "
        "not release. This needs no second toolchain to be a finding.",
        9.0,
    ),
    Rule(
        "nondeterministic",
        "Nondeterministic",
        "A toolchain disagrees with itself",
        "Two builds by one toolchain, of one model, differ where only the surroundings were "
        "varied. Do not release. The run names the variation that does it, where it found one: "
        "clock, hash seed, build path and so on.",
        6.0,
    ),
    Rule(
        "unaccounted",
        "Unaccounted",
        "Something is in the output that the model does not account for",
        "Do not release before it is known where it comes from.",
        8.0,
    ),
    Rule(
        "build-failed",
        "BuildFailed",
        "A build left nothing that could be compared",
        "No answer, which is not a pass: the evidence of this build is missing. The build's log "
        "and record lie beside the report.",
        4.0,
    ),
    Rule(
        "inconclusive",
        "Inconclusive",
        "Evidence is missing, so there is no answer",
        "This is not a pass: something that the policy or the plan asks for was not shown.",
        4.0,
    ),
)


class SarifReporter:
    def render(self, report: Report) -> str:
        log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(report)]}
        return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _run(report: Report) -> dict[str, Any]:
    # What matters first, so that what is cut off is not a finding while there are missing answers.
    found = sorted(findings(report), key=lambda finding: not finding.answer)
    driver = {
        "name": "harness",
        "fullName": "Reproducible-build harness for ML compilers",
        "version": printable(report.harness_version, MAX_NAME),
        "rules": [_rule(rule) for rule in RULES],
    }
    return {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"harness/{printable(report.run, MAX_NAME)}"},
        "invocations": [_invocation(report, len(found))],
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding) for finding in found[:MAX_RESULTS]],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.short},
        "fullDescription": {"text": f"{rule.short}."},
        "help": {"text": rule.help},
        "defaultConfiguration": {"level": "error"},
        "properties": {
            "tags": ["security", "reproducibility", "supply-chain"],
            "precision": "very-high",
            "security-severity": f"{rule.severity:.1f}",
        },
    }


def _invocation(report: Report, found: int) -> dict[str, Any]:
    code = exit_code(report)
    meaning = {0: "nothing to explain", 1: "a finding", 2: "no answer"}
    notes = [printable(note, MAX_LINE) for note in report.notes]
    if found > MAX_RESULTS:
        notes.append(f"{found - MAX_RESULTS} more findings are in report.json")
    invocation: dict[str, Any] = {
        "executionSuccessful": code != 2,
        "exitCode": code,
        "exitCodeDescription": meaning[code],
        "toolExecutionNotifications": [
            {"level": "warning", "message": {"text": _message(note)}} for note in notes
        ],
    }
    try:
        start = datetime.datetime.fromisoformat(report.started).astimezone(datetime.UTC)
        end = start + datetime.timedelta(seconds=report.wall_seconds)
    except (ValueError, OverflowError):
        return invocation  # a time that cannot be read is left out
    for key, moment in (("startTimeUtc", start), ("endTimeUtc", end)):
        invocation[key] = moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
    return invocation


def _result(finding: Finding) -> dict[str, Any]:
    path = [part for part in (finding.stage, *finding.artifact.split("/")) if part]
    fingerprint = finding.fingerprint
    model = finding.model or "run"
    logical = [{"name": model, "fullyQualifiedName": model, "kind": "model"}]
    logical += [
        {"name": toolchain, "fullyQualifiedName": f"{model}/{toolchain}", "kind": "toolchain"}
        for toolchain in finding.toolchains
    ]
    return {
        "ruleId": finding.rule,
        "ruleIndex": next(n for n, rule in enumerate(RULES) if rule.id == finding.rule),
        "level": "error",
        "message": {"text": _message(finding.text())},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(path or [model])},
                    "region": {"startLine": 1},
                },
                "logicalLocations": logical,
            }
        ],
        "partialFingerprints": {
            "harnessFinding/v1": fingerprint,
            "primaryLocationLineHash": f"{fingerprint[:32]}:1",  # the one that GitHub reads
        },
        "properties": {"evidence": finding.evidence, "next": finding.command},
    }


def _uri(parts: Iterable[str]) -> str:
    """A relative URI that stays below where it starts, whatever the parts are called."""
    return "/".join("_" if part in (".", "..") else quote(part, safe="") for part in parts)


def _message(text: str) -> str:
    """Text without the links and placeholders that SARIF's messages can hold (3.11.5, 3.11.6)."""
    return re.sub(r"\](?=\()", r"\\]", text).replace("{", "{{").replace("}", "}}")
