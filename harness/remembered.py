"""Replays that an earlier run did: the same tools, the same sources, so the same bytes.

A replay is a pure function of a verified environment and of what lies in a content-addressed
store, so a result can be kept under the digest of both. A build is not, and never is: that it
comes out the same again is what a run is there to find out.

What keeps this from hiding anything:

1. Only results of an isolated engine are kept and used. What a toolchain does in its container
   cannot reach them.
2. A remembered result can only confirm. Where it does not match what the build left, the replay
   runs, and the finding rests on what that makes.
3. One in sixteen is run again all the same, by chance that nobody can foresee. If it disagrees with
   what was remembered, the run ends there.
4. Every report says which results were remembered, and since when. ``--fresh`` uses none.

Whoever can write into the user's cache could also exchange the harness itself. (3) is for what
lies there and rots, and for who gets at nothing else.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness import __version__
from harness.errors import StoreError
from harness.replay import Job, Regenerated, key
from harness.shelf import Shelf
from harness.store import Store

ONE_IN = 16


@dataclass(frozen=True)
class _Entry:
    __pydantic_config__ = ConfigDict(extra="forbid")

    sha256: str
    commands: tuple[tuple[str, ...], ...]
    wall_seconds: float
    opened: str
    made: date


_ADAPTER = TypeAdapter(_Entry)


class Memory:
    """Results of replays in ``folder``. ``engine`` names the engine; its results are its own."""

    def __init__(self, folder: Path, engine: str) -> None:
        self._shelf = Shelf(folder, engine, __version__)

    def recall(self, job: Job, store: Store) -> Regenerated | None:
        """What this job made before, or None. Anything that is not whole counts as None."""
        data = self._shelf.read(key(job))
        if data is None:
            return None
        try:
            entry = _ADAPTER.validate_json(data)
        except ValidationError:
            return None
        opened = store.add_bytes(entry.opened.encode())
        return Regenerated(
            entry.sha256, "", entry.commands, entry.wall_seconds, opened, entry.made.isoformat()
        )

    def keep(self, job: Job, made: Regenerated, store: Store, today: date) -> None:
        """Remember a result that is there."""
        if made.sha256 is None or made.opened is None:
            return
        opened = store.read(made.opened).decode()
        entry = _Entry(made.sha256, made.commands, made.wall_seconds, opened, today)
        self._shelf.write(key(job), _ADAPTER.dump_json(entry))

    def check(self, job: Job, before: Regenerated, now: Regenerated) -> None:
        """Raises StoreError if the same job made something else before."""
        if now.sha256 is not None and now.sha256 != before.sha256:
            raise StoreError(
                f"{self._shelf.place(key(job))} says that {job.recipe.name!r} made "
                f"{(before.sha256 or '')[:12]}…, but it makes {now.sha256[:12]}…",
                f"Find out who changed it, remove {self._shelf.folder}, and run again.",
            )


def doubted() -> bool:
    """Whether to run a replay again although its result is remembered."""
    return secrets.randbelow(ONE_IN) == 0
