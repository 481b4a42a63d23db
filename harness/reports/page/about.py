"""What the run was made with: toolchains, policy, machine and notes."""

from __future__ import annotations

from harness.models import Image, Limits, Report
from harness.reports.page import limits
from harness.reports.page.markup import Safe, definitions, digest, fold, section, tag
from harness.reports.page.room import Room, capped, reason_list


def toolchains_section(report: Report) -> Safe:
    blocks, missing = capped(
        [
            fold(
                [tag("code", toolchain.name, class_="name")],
                definitions(
                    [
                        ("compiler", f"{toolchain.compiler} {toolchain.version}"),
                        ("publisher", toolchain.publisher),
                        ("identity", digest(toolchain.identity)),
                        ("target", ", ".join(f"{k}={v}" for k, v in toolchain.target.items())),
                        ("linker", toolchain.linker or "none"),
                        ("tools", ", ".join(toolchain.tools) or "none"),
                        ("image", _image(toolchain.image)),
                        ("limits", _limits(toolchain.limits)),
                    ]
                ),
                class_="f",
            )
            for toolchain in report.toolchains[: limits.MAX_ROWS]
        ],
        limits.MAX_ROWS,
        Room(),
        lambda block: block,
        "toolchains",
    )
    return section("toolchains", f"Toolchains ({len(report.toolchains)})", *blocks, missing)


def _image(image: Image | None) -> str:
    if image is None:
        return "none"
    return image.reference or image.digest or f"made here upon {image.base}"


def _limits(most: Limits) -> str:
    return (
        f"{most.wall_seconds:,} s, {most.memory_bytes / 2**20:,.0f} MiB of memory, "
        f"{most.processes} processes, {most.output_bytes / 2**20:,.0f} MiB of output"
    )


def policy_section(report: Report) -> Safe:
    policy = report.policy
    allowed = policy.allowed_explanations
    none = "may count as evidence" if policy.allow_isolation_none else "does not count"
    independent = ", ".join(f"{stage}: {n}" for stage, n in policy.min_independent.items())
    facts = [
        ("builds by each toolchain", f"at least {policy.min_builds}"),
        ("toolchains", f"at least {policy.min_toolchains}"),
        ("required stages", ", ".join(policy.required_stages) or "none named"),
        ("required replays", ", ".join(policy.required_replays) or "none named"),
        ("explanations", "all in the ledger" if allowed is None else ", ".join(allowed) or "none"),
        ("isolation: none", none),
        ("independent builders that agreed, at least", independent or "not asked for"),
    ]
    return section("policy", "Policy", definitions(facts))


def notes_section(report: Report) -> Safe:
    machine = "; ".join(f"{name}: {value}" for name, value in report.host.items())
    facts = [
        ("machine", machine or "not recorded"),
        ("harness", report.harness_version),
        ("report", f"schema {report.schema_version}, run {report.run}"),
    ]
    notes = reason_list(report.notes) if report.notes else tag("p", "No notes.")
    return section("notes", "Notes", notes, definitions(facts))
