"""Which engine runs the builds."""

from __future__ import annotations

from collections.abc import Callable

from harness.engines.docker import Docker
from harness.engines.interface import Engine
from harness.engines.plain import Plain
from harness.engines.sandbox import Sandbox
from harness.errors import EngineError, UsageError

# From strongest to weakest. ``plain`` is last: it always works and isolates nothing.
ENGINES: dict[str, Callable[[], Engine]] = {"docker": Docker, "sandbox": Sandbox, "plain": Plain}

# Why an engine's images neither exist nor can be built; None if they can.
Problem = Callable[[Docker], str | None]


def choose(name: str, problem: Problem | None = None) -> tuple[Engine, tuple[str, ...]]:
    """The engine called ``name``, and lines that the user must see before it starts.

    ``auto`` takes Docker where it answers and ``problem`` finds none with its images, else the
    sandbox where that works, else ``plain``. Raises UsageError for an unknown name, EngineError
    if the engine asked for does not work here.
    """
    if name == "auto":
        return _automatic(problem)
    if name not in ENGINES:
        known = ", ".join(["auto", *ENGINES])
        raise UsageError(f"unknown engine {name!r}", f"choose one of {known}")
    engine = ENGINES[name]()
    status = engine.status()
    if not status.works:
        raise EngineError(f"engine {name} does not work here: {status.reason}", status.hint)
    return engine, ()


def _automatic(problem: Problem | None) -> tuple[Engine, tuple[str, ...]]:
    notes: tuple[str, ...] = ()
    if problem is not None:
        docker = Docker()
        if docker.status().works:
            found = problem(docker)
            if found is None:
                return docker, ()
            notes = (f"Docker answers, but {found}: builds run without it",)
    sandbox = Sandbox()
    status = sandbox.status()
    if status.works:
        return sandbox, notes
    note = (
        f"no sandbox here ({status.reason}): builds run as plain processes, isolated from nothing, "
        "so the evidence is weaker"
    )
    hint = (f"to get the sandbox: {status.hint}",) if status.hint else ()
    return Plain(), (*notes, note, *hint)
