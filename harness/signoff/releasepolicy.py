"""Reading a policy file: what a run, and what a release, must show.

``[policy]`` is that of a run (:class:`harness.models.Policy`), ``[release]`` what verification asks
of a bundle (:class:`harness.signoff.interface.Requirements`). Both tables have to be there. The
file is known by the digest of its bytes: a verdict names the policy that it was given under.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter

from harness.errors import UsageError
from harness.models import Policy
from harness.signoff.interface import ReleasePolicy, Requirements
from harness.text import printable
from harness.tomlfile import parse_toml, read_limited

MOST = 1000  # of anything that is counted: more is a slip, and nobody could ever meet it
LONGEST = 36_500  # days


@dataclass(frozen=True)
class _File:
    __pydantic_config__ = ConfigDict(extra="forbid")

    policy: Policy
    release: Requirements


_ADAPTER = TypeAdapter(_File)


def load_policy(path: Path) -> ReleasePolicy:
    """The policy in ``path``. Raises UsageError, naming file and key, where it makes no sense."""
    data = read_limited(path, UsageError)
    found = parse_toml(path, data, _ADAPTER, UsageError)
    for key, value, most in _numbers(found):
        if not 0 <= value <= most:
            named = printable(key, 200)
            raise UsageError(f"{path}: {named}: {value} is not from 0 to {most}", "correct it")
    if not found.release.verifiers and not found.release.builders:
        raise UsageError(
            f"{path}: release: asks for no verifier and no builder, so for nothing",
            "set verifiers or builders to 1 or more",
        )
    return ReleasePolicy(hashlib.sha256(data).hexdigest(), found.policy, found.release)


def independent(release: Requirements) -> dict[str, int]:
    """Stage → how many builders must be effectively independent there, with its default."""
    if release.independent is None:
        return {"library": release.builders} if release.builders else {}
    return release.independent


def _numbers(found: _File) -> Iterator[tuple[str, int, int]]:
    """(key, value, the most that makes sense)."""
    run, release = found.policy, found.release
    yield "policy.min_builds", run.min_builds, MOST
    yield "policy.min_toolchains", run.min_toolchains, MOST
    for stage, least in run.min_independent.items():
        yield f"policy.min_independent.{stage}", least, MOST
    yield "release.verifiers", release.verifiers, MOST
    yield "release.builders", release.builders, MOST
    for stage, least in (release.independent or {}).items():
        yield f"release.independent.{stage}", least, MOST
    yield "release.max_age_days", release.max_age_days, LONGEST
