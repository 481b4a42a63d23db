"""A verdict as a word with a sign beside it."""

from __future__ import annotations

from harness.models import Verdict
from harness.reports.page.markup import Safe, tag

# A sign beside each word, so that nothing rests on colour.
_SIGN = {
    Verdict.IDENTICAL: "=",
    Verdict.EXPLAINED: "≈",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NONDETERMINISTIC: "±",
    Verdict.UNACCOUNTED: "!",
    Verdict.UNEXPLAINED: "≠",
}


def badge(verdict: Verdict) -> Safe:
    sign = tag("span", _SIGN[verdict], aria_hidden="true")
    return tag("span", sign, f" {verdict.value}", class_=f"v v-{verdict.value.lower()}")


def brief(verdict: Verdict) -> Safe:
    """Only the sign where nothing is wrong; the legend and a screen reader have the word."""
    if verdict.exit_code != 0:
        return badge(verdict)
    word = tag("span", verdict.value, class_="unseen")
    sign = tag("span", _SIGN[verdict], aria_hidden="true")
    return tag("span", sign, word, class_="v", title=verdict.value)
