"""Which engine runs the builds."""

from __future__ import annotations

from collections.abc import Callable

from harness.engines.interface import Engine
from harness.engines.plain import Plain
from harness.engines.sandbox import Sandbox
from harness.errors import EngineError, UsageError

# From strongest to weakest. ``plain`` is last: it always works and isolates nothing.
ENGINES: dict[str, Callable[[], Engine]] = {"sandbox": Sandbox, "plain": Plain}


def choose(name: str) -> tuple[Engine, tuple[str, ...]]:
    """The engine called ``name``, and lines that the user must see before it starts.

    ``auto`` takes the sandbox where it works, else ``plain``. Raises UsageError for an unknown
    name, EngineError if the engine asked for does not work here.
    """
    if name == "auto":
        return _automatic()
    if name not in ENGINES:
        known = ", ".join(["auto", *ENGINES])
        raise UsageError(f"unknown engine {name!r}", f"choose one of {known}")
    engine = ENGINES[name]()
    status = engine.status()
    if not status.works:
        raise EngineError(f"engine {name} does not work here: {status.reason}", status.hint)
    return engine, ()


def _automatic() -> tuple[Engine, tuple[str, ...]]:
    sandbox = Sandbox()
    status = sandbox.status()
    if status.works:
        return sandbox, ()
    note = (
        f"no sandbox here ({status.reason}): builds run as plain processes, isolated from nothing, "
        "so the evidence is weaker"
    )
    return Plain(), (note, f"to get the sandbox: {status.hint}") if status.hint else (note,)
