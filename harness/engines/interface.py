"""What an engine is: something that runs one command, alone, within limits, and tells how it went.

A run sees read-only mounts, one writable output directory, a private ``/tmp`` and home, and
nothing else: no network, no host name of ours, no environment of ours. Every run is a fresh one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from harness.models import Isolation, Limits, Variation
from harness.opened import Opened


class RunOutcome(StrEnum):
    EXITED = "exited"  # by itself, with exit_code
    SIGNALLED = "signalled"  # killed by a signal that was not ours; exit_code is -signal
    TIMED_OUT = "timed-out"
    TOO_MUCH_MEMORY = "too-much-memory"
    TOO_MANY_PROCESSES = "too-many-processes"
    TOO_MUCH_OUTPUT = "too-much-output"
    TOO_MANY_FILES = "too-many-files"
    NOT_STARTED = "not-started"  # the engine could not set the run up


@dataclass(frozen=True)
class Mount:
    """``source`` on the host appears read-only at ``target``.

    With ``spread``, ``target`` becomes a directory whose *top-level entries* are laid down one by
    one in the order that ``Variation.file_order`` gives, so that a program that depends on
    directory order shows it.
    """

    source: Path
    target: str
    spread: bool = False


@dataclass(frozen=True)
class Inside:
    """A folder of an image whose files are recorded as they are opened.

    ``name`` as in :func:`harness.opened.start`, ``path`` in the image, ``copy`` a copy on the host
    that has the same folders below it.
    """

    name: str
    path: str
    copy: Path


@dataclass(frozen=True)
class RunSpec:
    """One command to run.

    All paths in ``argv``, ``environment`` and ``work`` are as :meth:`Engine.visible` gave them.
    ``scratch`` is an empty private host directory that the engine may use and the caller removes;
    ``out`` a host directory that the run may write, at ``out_target``.
    ``search_path``: value of PYTHONPATH for the command, or None. ``image``: the container image
    to run in, by its digest, for engines that have images; others ignore it, and ``inside``.
    """

    argv: tuple[str, ...]
    mounts: tuple[Mount, ...]
    scratch: Path
    out: Path
    out_target: str
    variation: Variation
    limits: Limits
    search_path: str | None = None
    image: str | None = None
    inside: tuple[Inside, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """``output`` is the tail of stdout and stderr together (at most 64 KiB, raw bytes).

    ``observed`` is what the launcher saw just before the command began; ``not_applied`` maps each
    variation that could not be applied to the reason. ``opened``: which files of ``inside`` the run
    opened; None where the engine did not look.
    """

    outcome: RunOutcome
    exit_code: int | None
    output: bytes
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    command: tuple[str, ...]
    detail: str = ""
    observed: dict[str, str | int | bool] = field(default_factory=dict)
    not_applied: dict[str, str] = field(default_factory=dict)
    opened: Opened | None = None


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine works here; if not, ``reason`` names what forbids it, ``hint`` the cure."""

    works: bool
    reason: str = ""
    hint: str = ""


class Engine(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def isolation(self) -> Isolation: ...

    @property
    def python(self) -> str:
        """Path of the Python interpreter as runs see it."""
        ...

    def status(self) -> EngineStatus: ...

    def visible(self, source: Path, target: str) -> str:
        """Where a run sees what is ``source`` on the host and is mounted at ``target``.

        ``target`` for engines that remap paths, ``source`` for those that cannot.
        """
        ...

    def run(self, spec: RunSpec) -> RunResult: ...
