"""Engine ``docker``: each run in a fresh container. Also Podman, through its compatible socket.

The first process is the same launcher as in the sandbox, so variations and observations are the
same. It runs on the image's Python, though, which belongs to the toolchain: what it reports is
checked for its form, and the container's limits and walls do not depend on it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import platform
import secrets
import select
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import opened
from harness.engines import launch
from harness.engines.container import (
    GRACE_SECONDS,
    OWNER,
    PYTHON,
    REPORT,
    RUN,
    Place,
    create_request,
    entry,
)
from harness.engines.daemon import Daemon
from harness.engines.interface import EngineStatus, RunOutcome, RunResult, RunSpec
from harness.engines.sandbox import INSIDE, memory_file_systems, write_files
from harness.engines.watch import Violation, Watch
from harness.errors import EngineError
from harness.models import Isolation
from harness.process import POLL_SECONDS, TAIL_BYTES, Interrupted, Supervised, _Run

GATE_SECONDS = 0.005  # how often to look whether the run has come to its gate
UNWATCHED = "the run did not wait until it was watched"
FILE_ORDER = "a container's files come in the order of its file system"
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
# Where Debian's libfaketime is, for images of another architecture than this machine's.
_CLOCK = "/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1"
_OBSERVED: dict[str, type] = {
    "host_name": str, "uid": int, "gid": int, "user": str, "work": str, "home": str,
    "umask": int, "cpus": int, "aslr": bool, "clock": int, "time_zone": str,
    "time_zone_known": bool, "locale": str, "locale_known": bool, "hash_seed": str,
    "environment": int, "network": str, "listings": dict,
}  # fmt: skip
_ENDED: dict[str, type] = {"status": int, "max_rss_bytes": int}


class Docker:
    name = "docker"
    isolation = Isolation.CONTAINER
    python = PYTHON

    def __init__(self) -> None:
        self._daemon: Daemon | None = None
        self._lock = threading.Lock()

    def visible(self, source: Path, target: str) -> str:  # noqa: ARG002 - the interface's
        return target

    def status(self) -> EngineStatus:
        try:
            info = self.daemon().info()
        except EngineError as error:
            return EngineStatus(False, error.what, error.hint)
        if info.get("OSType", "linux") != "linux":
            return EngineStatus(False, "the daemon runs no Linux containers", "switch it to Linux")
        if _rootless(info) and "podman" not in kind(self.daemon()):
            return EngineStatus(
                False,
                "a rootless Docker daemon gives output to a user that is not ours",
                "use Podman, a daemon that root runs, or --engine sandbox",
            )
        return EngineStatus(True)

    def daemon(self) -> Daemon:
        """The daemon, connected to on first use, when the orphans of killed runs are removed."""
        with self._lock:
            if self._daemon is None:
                daemon = Daemon.connect()
                remove_orphans(daemon)
                self._daemon = daemon
            return self._daemon

    def run(self, spec: RunSpec) -> RunResult:
        daemon = self.daemon()
        command = ("docker", spec.image or "", *spec.argv)
        facts = daemon.image(spec.image) if spec.image else None
        if spec.image is None or facts is None:
            missing = f"image {spec.image} is not here" if spec.image else "no image was named"
            return _not_started(command, f"{missing}: `make images` builds it")
        volumes = (facts.get("Config") or {}).get("Volumes") or {}
        if volumes:
            first = sorted(volumes)[0]
            return _not_started(command, f"the image declares a volume, {first}, without a limit")
        readable(spec)
        place = self._place(spec, facts)
        settings = launcher_settings(spec, place)
        command = ("docker", spec.image, *entry(spec, place, settings), *spec.argv)
        labels = {OWNER: owner(), RUN: run_name(spec)}
        request = create_request(spec, spec.image, place, settings, labels)
        watch = Watch(spec.limits, (spec.out,), True, memory_file_systems(spec.variation))
        with _pipe(spec.out / place.report) as reader, _gate(spec, place) as gate:
            ended, oom_killed, seen = _supervise(daemon, request, spec, watch, gate)
            lines = _lines(reader)
        return replace(_result(spec, command, ended, lines, watch, oom_killed), opened=seen)

    def _place(self, spec: RunSpec, facts: dict[str, Any]) -> Place:
        """Who the run is. Where we are not root, its output must be ours, and so must it."""
        variation = spec.variation
        uid, gid = variation.uid, variation.gid
        if os.geteuid() == 0:
            os.chown(spec.out, uid, gid)
        else:
            uid, gid = os.getuid(), os.getgid()
        daemon = self.daemon()
        info = daemon.info()
        podman = "podman" in kind(daemon)
        files = write_files(spec.scratch, replace(variation, uid=uid, gid=gid))
        architecture = _ARCHITECTURES.get(facts.get("Architecture", ""), "")
        library: str | None = None
        clock: dict[str, str] = {}
        if variation.clock is not None:
            ours = launch.faketime_library() if architecture == platform.machine() else None
            library = str(ours) if ours else None
            inside = f"{INSIDE}/{ours.name}" if ours else _CLOCK.format(architecture)
            clock = launch.clock_environment(variation.clock, inside, time.time())
        return Place(
            launcher=str(launch.LAUNCHER),
            files=str(files),
            report=f".report-{secrets.token_hex(8)}",
            gate=f".gate-{secrets.token_hex(8)}" if spec.inside else "",
            uid=uid,
            gid=gid,
            cpus=int(info.get("NCPU", 0)) or os.cpu_count() or 1,
            clock=clock,
            clock_library=library,
            user_namespace="keep-id" if _rootless(info) else "",
            podman=podman,
            # Podman asks for more than this machine may allow unless it is told.
            ulimits=(("nofile", 1024), ("nproc", 4 * spec.limits.processes + 256))
            if podman
            else (),
        )


def launcher_settings(spec: RunSpec, place: Place) -> str:
    variation = spec.variation
    text = launch.settings(
        variation,
        spec.limits,
        command_environment={
            **launch.environment(variation, variation.home, spec.search_path),
            **place.clock,
        },
        work=variation.build_path,
        report=REPORT,
        own_namespace=True,
        listings=(),
    )
    # The kernel would count every task of this user id on the host; the container has a limit.
    return json.dumps({**json.loads(text), "tasks": 0}, ensure_ascii=False)


def run_name(spec: RunSpec) -> str:
    """The run that a scratch folder belongs to, for the label."""
    parts = spec.scratch.parts
    return parts[parts.index("scratch") - 1] if "scratch" in parts[1:] else spec.scratch.name


def readable(spec: RunSpec) -> None:
    """Let the run's user read its mounts, if our umask did not."""
    for mount in spec.mounts:
        with contextlib.suppress(PermissionError):
            if mount.source.stat().st_mode & 0o005 != 0o005:
                for path in (mount.source, *mount.source.rglob("*")):
                    if not path.is_symlink():
                        execute = 0o111 if path.is_dir() else 0
                        path.chmod(path.stat().st_mode | 0o444 | execute)


# One container


def _supervise(
    daemon: Daemon, request: dict[str, Any], spec: RunSpec, watch: Watch, gate: Path | None
) -> tuple[Supervised[Violation], bool, opened.Opened | None]:
    """Run a container to its end, or end it.

    How it ended; whether the kernel killed it for memory; what it opened.
    """
    began = time.monotonic()
    deadline = began + spec.limits.wall_seconds
    violation: Violation | None = None
    timed_out = False
    usage: dict[str, Any] = {}
    # Registered as a run under way, so that process.kill_all ends it like any other.
    seen: opened.Opened | None = None
    with (
        contextlib.closing(_Run()) as this,
        _container(daemon, request) as container,
        contextlib.ExitStack() as watching,
    ):
        tail = _Tail(daemon.attach(container))
        try:
            daemon.start(container)
        except EngineError as error:
            return Supervised(127, error.what.encode(), 0.0, 0.0, 0, False, None), False, None
        pid = int(daemon.state(container).get("Pid", 0))
        shim = _parent(pid, container)
        recorder = None
        released = gate is None
        if gate is not None:
            recorder = watching.enter_context(opened.start(_roots(spec, pid, shim)))
        while not tail.ended.wait(POLL_SECONDS if gate is None else GATE_SECONDS):
            if gate is not None:
                released = _released(gate)
                if released or time.monotonic() - began > GRACE_SECONDS:
                    gate = None
            if _is_cancelled(this):
                raise Interrupted
            if time.monotonic() >= deadline:
                timed_out = True
                break
            violation = watch.poll(shim) if shim else watch.files()
            if violation is not None:
                break
        if _is_cancelled(this):
            raise Interrupted
        if timed_out or violation is not None:
            usage = daemon.usage(container)
            daemon.kill(container)
            tail.ended.wait(5)
        state = _final_state(daemon, container)
        watching.close()
        if recorder is not None:
            seen = recorder.result
            if not released:
                seen = replace(seen, complete=False, reason=UNWATCHED)
        ended = Supervised(
            exit_code=int(state.get("ExitCode", 0)),
            output=tail.value(),
            wall_seconds=time.monotonic() - began,
            cpu_seconds=usage.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage", 0) / 1e9,
            max_rss_bytes=usage.get("memory_stats", {}).get("max_usage", 0),
            timed_out=timed_out,
            violation=violation,
        )
        return ended, bool(state.get("OOMKilled")), seen


def _roots(spec: RunSpec, pid: int, shim: int | None) -> dict[str, opened.Root]:
    """What to watch of a container that waits at its gate. A root that is not there: no answer."""
    process = f"/proc/{pid}/root" if shim else "/nonexistent"
    return {
        place.name: opened.Root(Path(process + place.path), opened.folders(place.copy))
        for place in spec.inside
    }


def _released(gate: Path) -> bool:
    """Open the gate, if the run has come to it."""
    try:
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
    except OSError:  # nobody waits there yet, or it is not there any more
        return False
    return True


def _is_cancelled(this: _Run) -> bool:
    poller = select.poll()
    poller.register(this.wake, select.POLLIN)
    return bool(poller.poll(0))


@contextlib.contextmanager
def _container(daemon: Daemon, request: dict[str, Any]) -> Iterator[str]:
    container = daemon.create(request, f"ml-compiler-harness-{secrets.token_hex(8)}")
    try:
        yield container
    finally:
        # If the daemon is gone, the next run removes it, by its label.
        with contextlib.suppress(EngineError):
            daemon.remove(container)


def _final_state(daemon: Daemon, container: str) -> dict[str, Any]:
    """The state once it has stopped; output ends a moment earlier."""
    until = time.monotonic() + 30
    while (state := daemon.state(container)).get("Running") and time.monotonic() < until:
        time.sleep(0.01)
    if state.get("Running"):
        raise EngineError("Docker does not end a container", "restart the daemon, then run again")
    return state


def _parent(pid: int, container: str) -> int | None:
    """The process whose only child is the container's first, as the watchdog wants it.

    None where the daemon's processes are not ours to see (a virtual machine, another host).
    """
    try:
        if container not in Path(f"/proc/{pid}/cgroup").read_text():
            return None
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return int(fields[1]) or None
    except (OSError, IndexError, ValueError):
        return None


class _Tail:
    """The last bytes of a stream, read by a thread of its own; ``ended`` is set at its end."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self.ended = threading.Event()
        self._kept = bytearray()
        self._stream = stream
        threading.Thread(target=self._drain, name="output", daemon=True).start()

    def _drain(self) -> None:
        # Whatever breaks the connection ends the output; the container's state says the rest.
        with contextlib.suppress(Exception):
            for chunk in self._stream:
                self._kept += chunk
                if len(self._kept) > 2 * TAIL_BYTES:
                    del self._kept[:-TAIL_BYTES]
        self.ended.set()

    def value(self) -> bytes:
        return bytes(self._kept[-TAIL_BYTES:])


# Orphans


def owner() -> str:
    """This process, told apart from every other one that ever was on this machine."""
    return " ".join((*_here(), str(os.getpid()), _started("self")))


def remove_orphans(daemon: Daemon) -> None:
    """Remove the containers of harness processes that are gone; never anybody else's."""
    for container in daemon.labelled(OWNER):
        label = (container.get("Labels") or {}).get(OWNER, "")
        if is_orphan(label):
            daemon.remove(str(container["Id"]))


def is_orphan(label: str) -> bool:
    """Whether ``label`` names a process of this machine, in our own PID namespace, that is gone.

    What another machine or namespace owns cannot be judged from here, and is left alone.
    """
    machine, boot, namespace = _here()
    parts = label.split(" ")
    if len(parts) != 5 or parts[0] != machine:
        return False
    if parts[1] != boot:
        return True
    return parts[2] == namespace and _started(parts[3]) != parts[4]


def _here() -> tuple[str, str, str]:
    """(machine, boot, PID namespace)."""
    machine = platform.node()
    with contextlib.suppress(OSError):
        machine = Path("/etc/machine-id").read_text().strip() or machine
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return machine.replace(" ", "-"), boot, str(Path("/proc/self/ns/pid").readlink())


def _started(process: str) -> str:
    """When a process began, in clock ticks since boot; empty if there is none."""
    try:
        return Path("/proc", process, "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]  # noqa: E501  # fmt: skip
    except (OSError, IndexError):
        return ""


# The report


@contextlib.contextmanager
def _gate(spec: RunSpec, place: Place) -> Iterator[Path | None]:
    """A named pipe that holds the run until somebody opens it; None where none is wanted."""
    if not place.gate:
        yield None
        return
    path = spec.out / place.gate
    os.mkfifo(path)
    try:
        path.chmod(0o644)
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _pipe(path: Path) -> Iterator[int]:
    """A named pipe that anybody may write; yields the end to read from."""
    os.mkfifo(path)
    try:
        path.chmod(0o622)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            yield reader
        finally:
            os.close(reader)
    finally:
        path.unlink(missing_ok=True)


def _lines(reader: int) -> list[dict[str, Any]]:
    """What was reported, as far as it has the form that the launcher gives it."""
    try:
        data = os.read(reader, 2**16)
    except BlockingIOError:
        return []
    lines: list[dict[str, Any]] = []
    for text in data.decode("utf-8", "replace").splitlines()[:3]:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            break
        if not isinstance(value, dict):
            break
        lines.append(value)
    return lines


def well_formed(found: dict[str, Any], expected: dict[str, type]) -> bool:
    return found.keys() == expected.keys() and all(
        type(found[key]) is kind for key, kind in expected.items()
    )


def _result(
    spec: RunSpec,
    command: tuple[str, ...],
    ended: Supervised[Violation],
    lines: list[dict[str, Any]],
    watch: Watch,
    oom_killed: bool,
) -> RunResult:
    observed = lines[0] if lines and well_formed(lines[0], _OBSERVED) else {}
    observed = {**observed, "listings": {}} if observed else {}
    end = lines[1] if len(lines) > 1 and well_formed(lines[1], _ENDED) else {}
    spent = lines[2].get("cpu_seconds") if len(lines) > 2 else None
    variation = spec.variation
    outcome, exit_code, detail = launch._classify(ended, observed, end, watch)
    if oom_killed and ended.violation is None:
        # Also where it was the launcher that the kernel chose, or ran on without the victim.
        outcome, detail = RunOutcome.TOO_MUCH_MEMORY, "the kernel ended it: no memory left"
    peak = max(watch.peak_memory_bytes, end.get("max_rss_bytes", 0), ended.max_rss_bytes)
    return RunResult(
        outcome=outcome,
        exit_code=exit_code,
        output=ended.output,
        wall_seconds=ended.wall_seconds,
        cpu_seconds=float(spent) if isinstance(spent, float | int) else ended.cpu_seconds,
        peak_memory_bytes=max(peak, spec.limits.memory_bytes) if oom_killed else peak,
        command=command,
        detail=detail,
        observed=launch._flat(observed),
        not_applied=launch.not_applied(
            variation, observed, variation.build_path, variation.home, {}, _cannot(spec)
        )
        if observed
        else _cannot(spec),
    )


def _cannot(spec: RunSpec) -> dict[str, str]:
    return {"file-order": FILE_ORDER} if spec.variation.file_order else {}


def _not_started(command: tuple[str, ...], detail: str) -> RunResult:
    return RunResult(RunOutcome.NOT_STARTED, None, b"", 0.0, 0.0, 0, command, detail)


def _rootless(info: dict[str, Any]) -> bool:
    return any("rootless" in option for option in info.get("SecurityOptions") or ())


def kind(daemon: Daemon) -> str:
    """The names of what answers, in lower case: ``docker`` or ``podman`` is one of them."""
    components = daemon.version().get("Components") or ()
    return " ".join(str(part.get("Name", "")) for part in components).lower()
