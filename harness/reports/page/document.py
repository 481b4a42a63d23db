"""The shell of a page: one file, its style and script inlined, and a policy against the rest."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from harness.reports.page.markup import Safe, tag


def document(title: str, *body: str) -> str:
    """A whole page. The policy allows the two inlined files by digest, and nothing else."""
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Safe(style)),
    )
    said = tag("p", "", id="said", role="status", class_="quiet")
    whole = tag("html", head, tag("body", *body, said, tag("script", Safe(script))), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _asset(name: str) -> str:
    return (resources.files("harness.reports") / "assets" / name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
