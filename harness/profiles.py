"""From the records of a run to profiles: what each toolchain and replayer of it opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness import opened
from harness.build import Installed
from harness.components import Base, Makings, Profile, os_name, profile
from harness.environments import Environment
from harness.errors import StoreError
from harness.models import BuildRecord, Outcome, ReplayResult, Toolchain
from harness.packages import cache_folder
from harness.replay import Replayer
from harness.store import Store


def gather(
    toolchains: Sequence[Toolchain],
    installed: Mapping[str, Installed],
    replayers: Iterable[Replayer],
    records: Sequence[BuildRecord],
    replays: Sequence[ReplayResult],
    store: Store,
    base: Base,
) -> tuple[Profile, ...]:
    """A profile of each toolchain, and of each replayer once. ``base``: that of the host.

    Raises ToolchainError if an environment's list of files is damaged.
    """
    makings = Makings(cache_folder() / "makers")
    profiles = []
    for toolchain in toolchains:
        own = [r for r in records if r.toolchain == toolchain.name and r.outcome is Outcome.BUILT]
        seen = opened.merged(_load(record.opened, store) for record in own)
        there = installed[toolchain.name]
        linker = there.linker.environment if there.linker else None
        below = base_of(toolchain, there.environment, base)
        profiles.append(profile(toolchain, there.environment, linker, seen, below, makings))
    done = {toolchain.name for toolchain in toolchains}
    for replayer in replayers:
        name = replayer.toolchain.name
        if name in done:
            continue
        done.add(name)
        ran = [r for r in replays if r.replayer == name and r.got_sha256 is not None]
        seen = opened.merged(
            _load(digest, store) for digest in dict.fromkeys(r.opened for r in ran)
        )
        below = base_of(replayer.toolchain, replayer.environment, base)
        profiles.append(
            profile(replayer.toolchain, replayer.environment, None, seen, below, makings)
        )
    return tuple(profiles)


def base_of(toolchain: Toolchain, environment: Environment, host: Base) -> Base:
    """What lies below a toolchain: the host's system, or that of the image that it runs in."""
    if environment.image is None:
        return host
    named = toolchain.image.base if toolchain.image and environment.inside else None
    system = system_of(environment)
    release = os_name(system) if system else "not looked at"
    return Base(f"image {named or environment.image[:19]}: {release}", "of the image")


def system_of(environment: Environment) -> Path | None:
    """A copy of an image's ``etc/os-release`` and ``var/lib/dpkg/status``, if there is one."""
    folder = environment.root.parent / "system"
    return folder if environment.inside and folder.is_dir() else None


def _load(digest: str | None, store: Store) -> opened.Opened | None:
    try:
        return opened.load(store.read(digest)) if digest else None
    except StoreError:
        return None
