"""Other people's tools for looking into files, in the sandbox: diffoscope, and LLVM's own.

They read what an attacker may have written, so they run isolated or not at all.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness import toolchains
from harness.build import last_lines
from harness.engines.interface import Engine, Mount, RunOutcome, RunResult, RunSpec
from harness.engines.sandbox import Sandbox
from harness.environments import Environment, prepare
from harness.errors import EngineError, ToolchainError
from harness.models import Isolation, Limits
from harness.toolchains import Definition
from harness.variations import control

TOOLCHAINS = Path(__file__).resolve().parent.parent / "toolchains"
_ROOT = "/inspection"

_LIMITS = {
    RunOutcome.TIMED_OUT: "it did not end within {0.wall_seconds} s",
    RunOutcome.TOO_MUCH_MEMORY: "it used more than {0.memory_bytes} bytes of memory",
    RunOutcome.TOO_MANY_PROCESSES: "it started more than {0.processes} processes",
    RunOutcome.TOO_MUCH_OUTPUT: "it wrote more than {0.output_bytes} bytes",
    RunOutcome.TOO_MANY_FILES: "it wrote more than {0.output_files} files",
}


@dataclass(frozen=True)
class Kit:
    """A toolchain whose tools are used, and its environment on this machine."""

    definition: Definition
    environment: Environment


@dataclass(frozen=True)
class Seen:
    """Paths as a run sees them, of the things in :class:`Job`."""

    python: str
    root: str  # the environment
    folder: str  # the definition's, with its scripts
    files: tuple[str, ...]
    out: str


@dataclass(frozen=True)
class Job:
    """One command that looks at files. ``files``: (where below its root, which) of each."""

    kit: Kit
    files: tuple[tuple[str, Path], ...]
    command: Callable[[Seen], tuple[str, ...]]
    limits: Limits
    search_path: bool = False  # whether the environment is on PYTHONPATH


def isolated() -> Engine:
    """The engine. Raises EngineError where it does not work."""
    engine = Sandbox()
    status = engine.status()
    if not status.works:
        raise EngineError(f"no sandbox here: {status.reason}", status.hint)
    return engine


def kit(name: str, say: Callable[[str], None], cache: Path | None = None) -> Kit:
    """The tools of the toolchain ``name``, made if there are none yet. Raises ToolchainError."""
    definition = toolchains.find(toolchains.load((TOOLCHAINS,)), name)
    return Kit(definition, prepare(definition, say=say, cache=cache))


@contextmanager
def inspected(job: Job, engine: Engine) -> Iterator[tuple[RunResult, Path]]:
    """(how it went, the folder with what it left), which is gone afterwards.

    Raises EngineError for an engine that isolates nothing.
    """
    if engine.isolation is Isolation.NONE:
        raise EngineError(f"the {engine.name} engine isolates nothing", "use --engine sandbox")
    with tempfile.TemporaryDirectory(prefix="harness-", ignore_cleanup_errors=True) as folder:
        out, scratch = Path(folder, "out"), Path(folder, "scratch")
        for each in (out, scratch):
            each.mkdir()
        root, scripts = job.kit.environment.root, Path(job.kit.definition.folder)
        files = [Mount(path.resolve(), f"{_ROOT}/in/{name}") for name, path in job.files]
        tools = Mount(root, "/toolchain"), Mount(scripts, f"{_ROOT}/scripts")
        seen = Seen(
            python=engine.python,
            root=engine.visible(root, "/toolchain"),
            folder=engine.visible(scripts, f"{_ROOT}/scripts"),
            files=tuple(engine.visible(each.source, each.target) for each in files),
            out=engine.visible(out, f"{_ROOT}/out"),
        )
        spec = RunSpec(
            argv=job.command(seen),
            mounts=(*tools, *files),
            scratch=scratch,
            out=out,
            out_target=f"{_ROOT}/out",
            variation=replace(control(), name="inspection"),
            limits=job.limits,
            search_path=seen.root if job.search_path else None,
        )
        yield engine.run(spec), out
        _let_go(out)


def _let_go(out: Path) -> None:
    """Whatever modes a run gave to what it left, it can be removed."""
    for folder, names, _ in os.walk(out):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(out, ignore_errors=True)


def trouble(result: RunResult, limits: Limits) -> str:
    """Why a run came to no end of its own, in one line; empty if it did."""
    if result.outcome is RunOutcome.EXITED:
        return ""
    if result.outcome in _LIMITS:
        return _LIMITS[result.outcome].format(limits)
    if result.outcome is RunOutcome.SIGNALLED:
        return f"signal {-(result.exit_code or 0)} ended it"
    return f"it could not be started: {result.detail or said(result)}"


def said(result: RunResult) -> str:
    """The last line that it printed, safe to show."""
    return last_lines(result.output).rpartition("\n")[2] or "it says nothing"


def left_behind(path: Path, most: int) -> bytes | None:
    """The bytes of a file that a run left; None if there is none.

    Raises ToolchainError for anything but a regular file of at most ``most`` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ToolchainError(f"{path.name} cannot be read: {error.strerror}") from None
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ToolchainError(f"{path.name} is not a regular file")
        data = stream.read(most + 1)
    if len(data) > most:
        raise ToolchainError(f"{path.name} is larger than {most} bytes")
    return data
