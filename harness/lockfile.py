"""Lock files: what a toolchain's environment is installed from, every package with its hashes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.errors import ToolchainError
from harness.text import printable
from harness.tomlfile import read_limited

_PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!_-]+)(?:\s*;[^\\]*?)?"
    r"(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})*)"
)
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!_-]+)")


def parse_lock(path: Path) -> dict[str, tuple[str, ...]]:
    """The pinned packages of a lock file: normalised name → versions (several by marker).

    A lock holds nothing but ``name==version ; marker --hash=sha256:…`` and comments: no option,
    no address, nothing without a hash.
    """
    pinned: dict[str, tuple[str, ...]] = {}
    for line in _lines(path):
        match = _PINNED.fullmatch(line)
        shown = printable(line.split(" --hash")[0].strip(), 80)
        if not match:
            raise ToolchainError(
                f"{path}: {shown}: neither a pinned package nor a comment",
                "make the lock again with toolchains/lock.py",
            )
        if not match["hashes"]:
            raise ToolchainError(
                f"{path}: {shown}: has no --hash=sha256:",
                "make the lock again with toolchains/lock.py",
            )
        key = _normal(match["name"])
        pinned[key] = (*pinned.get(key, ()), match["version"])
    if not pinned:
        raise ToolchainError(
            f"{path}: pins no package", "make the lock again with toolchains/lock.py"
        )
    return pinned


def hashes_of(path: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """(normalised name, version) → every sha256 that a lock file allows for it, sorted."""
    parse_lock(path)
    return {
        (_normal(match["name"]), match["version"]): tuple(
            sorted(re.findall(r"sha256:([0-9a-f]{64})", match["hashes"]))
        )
        for match in map(_PINNED.fullmatch, _lines(path))
        if match
    }


def check_requirements(definition: Path, requirements: Sequence[str], lock: Path) -> None:
    """Check that the lock is whole, and that it pins what the definition asks for."""
    pinned = parse_lock(lock)
    for index, requirement in enumerate(requirements):
        match = _REQUIREMENT.fullmatch(requirement)
        if not match:
            raise ToolchainError(
                f"{definition}: requirements.{index}: {requirement!r} is not pinned",
                "write name==version",
            )
        if match["version"] not in pinned.get(_normal(match["name"]), ()):
            raise ToolchainError(
                f"{definition}: requirements.{index}: {requirement} is not what {lock.name} pins",
                "make the lock again with toolchains/lock.py",
            )


def _lines(path: Path) -> list[str]:
    """The lines that say something, each with those that continue it."""
    text = read_limited(path, ToolchainError).decode("utf-8", "replace")
    lines = text.replace("\\\n", " ").splitlines()
    return [kept for line in lines if (kept := re.sub(r"(^|\s)#.*", "", line).strip())]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
