"""What each build was held against without a peer: its model. What the model does not ask for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.models import Account, Report, StageVerdict, Verdict
from harness.reports.findings import short
from harness.reports.page import limits
from harness.reports.page.badges import badge
from harness.reports.page.markup import (
    Safe,
    bullets,
    counted,
    fold,
    joined,
    prose,
    row,
    section,
    table,
    tag,
)
from harness.reports.page.room import Room, capped

MOST = 100  # things shown of one account


def accounts_section(report: Report) -> Safe:
    if not report.accounts:
        words = "No build of this run was held against its model."
        return section("accounting", "Accounting", tag("p", words))
    groups = sorted(_alike(report.accounts), key=lambda group: -group[0].verdict.severity)
    shown, missing = capped(groups, limits.MAX_ROWS, Room(), _row, "accounts")
    bad = any(group[0].verdict.exit_code != 0 for group in groups)
    whole = sum(1 for a in report.accounts if a.verdict is Verdict.IDENTICAL)
    intro = (
        "Each build held against its model alone, so that toolchains which agree on something that "
        "the model does not ask for are seen too."
    )
    head = ["what", "stage", "of the builds", "verdict", "asked for by the model", "the rest"]
    return section(
        "accounting",
        f"Accounting ({len(report.accounts)})",
        tag("p", intro, class_="quiet"),
        fold(
            [f"{whole} of {len(report.accounts)} wholly asked for, {len(groups)} distinct"],
            table(head, shown, "accounting", "stack"),
            missing,
            open_=bad or len(groups) <= 60,
        ),
    )


def _alike(accounts: Iterable[Account]) -> list[list[Account]]:
    """Accounts with the same result; each is shown once, for all its builds."""
    groups: dict[tuple[object, ...], list[Account]] = {}
    for a in accounts:
        key = (a.kind, a.model, a.stage, a.things, a.attributed, a.left_over, a.unknown)
        groups.setdefault(key, []).append(a)
    return list(groups.values())


def _row(group: Sequence[Account]) -> Safe:
    account = group[0]
    builds = [tag("code", short(a.build)) for a in group[:40]]
    if len(group) > 40:
        builds.append(Safe(f"… {len(group)} in all"))
    return row(
        account.kind,
        f"{account.model} · {account.stage}",
        fold([counted(len(group), "build")], bullets(builds)),
        badge(account.verdict),
        f"{account.attributed:,} of {account.things:,}",
        joined(left_over(account), _unknown(account)),
        bad=account.verdict.exit_code != 0,
    )


def left_over(account: Account) -> Safe:
    """What the model does not ask for, each with a way from the model's input to its output."""
    if not account.left_over:
        return Safe("")
    items = [
        joined(
            tag("strong", found.where),
            ": ",
            prose(found.what),
            tag("small", f" path: {' → '.join(found.path[:40])}") if found.path else Safe(""),
        )
        for found in account.left_over[:MOST]
    ]
    return joined(tag("p", "left over:", class_="alarm"), bullets(items), _more(account.left_over))


def _unknown(account: Account) -> Safe:
    if not account.unknown:
        return Safe("")
    items = [prose(line) for line in account.unknown[:MOST]]
    return joined(tag("p", "could not be read:"), bullets(items), _more(account.unknown))


def _more(items: Sequence[object]) -> Safe:
    words = f"… and {len(items) - MOST:,} more in report.json"
    return tag("p", words, class_="cut") if len(items) > MOST else Safe("")


def accounts_cell(stage: StageVerdict) -> Safe:
    """The worst of a stage's accounts, in words."""
    if not stage.accounts:
        return tag("span", "–", class_="quiet")
    verdict = max(stage.accounts.values(), key=lambda found: found.severity)
    if verdict.exit_code == 0:
        return tag("span", ", ".join(stage.accounts))
    kinds = ", ".join(kind for kind, found in stage.accounts.items() if found is verdict)
    said = "left over" if verdict is Verdict.UNACCOUNTED else "no answer"
    return tag("span", f"{said}: {kinds}", class_="alarm")
