"""Engine ``plain``: an ordinary process with a cleared environment, private directories and limits.

For machines that forbid namespaces. It isolates nothing: a hostile command sees the host's files
and its network, so what it shows is weaker evidence, and every result says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import time
from pathlib import Path

from harness.engines import launch
from harness.engines.interface import EngineStatus, RunResult, RunSpec
from harness.engines.watch import Watch
from harness.models import Isolation, Variation
from harness.process import send

MARKER = "HARNESS_RUN"
CANNOT = {
    "host-name": "needs a namespace",
    "user": "needs a namespace",
    "file-order": "needs a namespace",
}


class Plain:
    name = "plain"
    isolation = Isolation.NONE

    def __init__(self) -> None:
        self._python = launch.interpreter()

    @property
    def python(self) -> str:
        return str(self._python)

    def visible(self, source: Path, target: str) -> str:  # noqa: ARG002 - the interface's
        return str(source)

    def status(self) -> EngineStatus:
        return EngineStatus(True)

    def run(self, spec: RunSpec) -> RunResult:
        began = time.time()
        variation = spec.variation
        places = directories(spec.scratch, variation)
        for place in places.values():
            place.mkdir(parents=True)
        library = None if variation.clock is None else launch.faketime_library()
        clock = launch.clock_environment(
            variation.clock, str(library) if library else None, time.time()
        )
        token = secrets.token_hex(16)
        home = str(places["home"])
        work = str(places["work"])
        report = os.pipe()
        python = str(launch.lay_python(spec.scratch / "python"))
        settings = launch.settings(
            variation,
            spec.limits,
            command_environment={
                **launch.environment(variation, home, spec.search_path),
                **clock,
                "TMPDIR": str(places["tmp"]),
                MARKER: token,
            },
            work=work,
            report=report[1],
            own_namespace=False,
            listings=(),
        )
        command = (
            *(self.python, "-I", "-S", str(launch.LAUNCHER), settings, "--"),
            *(python if word == self.python else word for word in spec.argv),
        )
        try:
            return launch.execute(
                spec,
                command,
                watch=Watch(spec.limits, (spec.out, spec.scratch), contained=False),
                launch_environment={**clock, MARKER: token},
                report=report,
                engine_limits=CANNOT,
                work=work,
                home=home,
                orders={},
                cwd=spec.scratch,
            )
        finally:
            end_marked(token)
            remove_clock_files(began)


def directories(scratch: Path, variation: Variation) -> dict[str, Path]:
    """Host directories for work, home and temporary files, with the varied paths as sub paths."""
    return {
        "work": scratch / "work" / variation.build_path.lstrip("/"),
        "home": scratch / "home" / variation.home.lstrip("/"),
        "tmp": scratch / "tmp",
    }


def remove_clock_files(since: float) -> None:
    """Remove what libfaketime left in shared memory for processes that were killed.

    Only files of ours, made after ``since`` (Unix time), for processes that are gone.
    """
    for path in Path("/dev/shm").glob("*faketime_s*_*"):  # noqa: S108 - the C library's place
        name = re.fullmatch(r"(?:sem\.faketime_sem|faketime_shm)_(\d+)", path.name)
        with contextlib.suppress(OSError):
            found = path.lstat()
            mine = found.st_uid == os.getuid() and found.st_mtime >= since - 1
            if name and mine and not Path("/proc", name[1]).exists():
                path.unlink()


def end_marked(token: str) -> None:
    """Kill what escaped from the launcher: every process that still carries the run's marker."""
    marker = f"{MARKER}={token}".encode()
    until = time.monotonic() + 5
    while (found := marked(marker)) and time.monotonic() < until:
        for pid in found:
            send(pid, signal.SIGSTOP)
        for pid in {*found, *marked(marker)}:
            send(pid, signal.SIGKILL)


def marked(marker: bytes) -> list[int]:
    found = []
    for table in Path("/proc").iterdir():
        if table.name.isdigit():
            with contextlib.suppress(OSError):
                if marker in (table / "environ").read_bytes():
                    found.append(int(table.name))
    return found
