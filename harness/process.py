"""Starting, watching and ending processes. The only file that uses ``subprocess``.

:func:`run` is for trusted tools (pip). :func:`supervise` is for hostile commands: whatever they
do, output is drained into a bounded tail, wall time is enforced, and no process stays behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from harness.errors import HarnessError

TAIL_BYTES = 64 * 1024
POLL_SECONDS = 0.1
FIXED_ENVIRONMENT = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}

V = TypeVar("V")


class Interrupted(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The run was ended by :func:`kill_all`; it has no result."""


@dataclass(frozen=True)
class Completed:
    """``exit_code`` is -signal if a signal ended it; ``output`` the tail of stdout and stderr."""

    exit_code: int
    output: str
    timed_out: bool


@dataclass(frozen=True)
class Supervised(Generic[V]):
    """How a supervised command ended. ``violation`` is what ``poll`` returned, if it ended the run.

    ``cpu_seconds`` is user and system time of all processes that were waited for below the
    command, ``max_rss_bytes`` the largest single one of them (the kernel starts this number at
    the caller's own size).
    """

    exit_code: int
    output: bytes
    wall_seconds: float
    cpu_seconds: float
    max_rss_bytes: int
    timed_out: bool
    violation: V | None


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float,
    tail_bytes: int = TAIL_BYTES,
) -> Completed:
    """Run a trusted tool to its end; ``timeout`` in seconds. Never raises for an exit code.

    Without ``env`` the tool gets our environment with a fixed language and time zone, with
    ``env`` exactly that. Raises HarnessError if the tool cannot be started.
    """
    environment = {**os.environ, **FIXED_ENVIRONMENT} if env is None else dict(env)
    try:
        done: Supervised[None] = supervise(
            argv, env=environment, cwd=cwd, timeout=timeout, tail_bytes=tail_bytes
        )
    except OSError as error:
        raise HarnessError(
            f"cannot start {argv[0]}: {error.strerror}", "check that it is installed"
        ) from error
    return Completed(done.exit_code, done.output.decode("utf-8", "replace"), done.timed_out)


def supervise(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout: float,
    poll: Callable[[int], V | None] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    tail_bytes: int = TAIL_BYTES,
    hostile: bool = False,
    contained: bool = False,
) -> Supervised[V]:
    """Run ``argv`` in a session of its own until it exits, breaks a rule or runs out of time.

    ``poll`` gets the process id about every 0.1 s; what it returns, unless None, ends the run.
    ``hostile`` makes the kernel kill this run first when the machine runs out of memory.
    ``contained`` says that the command's child is the first process of a PID namespace, so that
    killing it kills everything. Raises OSError if the command cannot be started and Interrupted
    if :func:`kill_all` ended it.
    """
    this = _Run()
    options = _Options(
        tuple(argv), dict(env), timeout, cwd, tuple(pass_fds), tail_bytes, hostile, contained
    )
    if threading.current_thread() is not threading.main_thread():
        return _supervise(this, options, poll)
    # KeyboardInterrupt strikes the main thread between any two steps. So another thread owns the
    # process, and this one only waits for it.
    future: Future[Supervised[V]] = Future()

    def work() -> None:
        try:
            future.set_result(_supervise(this, options, poll))
        except BaseException as error:
            future.set_exception(error)

    thread = threading.Thread(target=work, name="supervise")
    try:
        thread.start()
        return future.result()
    except BaseException:
        this.cancel()
        if thread.ident is not None:
            thread.join()
        raise


def kill_all() -> None:
    """End every run that is under way, in whatever thread, and wait until they are gone.

    Each of them raises Interrupted in its own thread. Does not stop anyone from starting more.
    """
    with _lock:
        runs = tuple(_active)
    for each in runs:
        each.cancel()
    for each in runs:
        each.gone.wait(15)


def children(pid: int) -> list[int]:
    """Process ids of the direct children; empty if the process is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(word) for word in (task / "children").read_text().split()]
    return found


def descendants(pid: int, most: int | None = None) -> list[int]:
    """Process ids of everything below ``pid``, parents first; stops when ``most`` are found."""
    found: list[int] = []
    seen = {pid}
    queue = [pid]
    while queue and (most is None or len(found) < most):
        for child in children(queue.pop(0)):
            if child not in seen:
                seen.add(child)
                found.append(child)
                queue.append(child)
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that is gone or not ours is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


_lock = threading.Lock()
_active: set[_Run] = set()


class _Run:
    """One run under way. ``wake`` becomes readable when the run is to end."""

    def __init__(self) -> None:
        self.wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.gone = threading.Event()
        with _lock:
            _active.add(self)

    def cancel(self) -> None:
        with _lock:
            if not self.gone.is_set():
                os.eventfd_write(self.wake, 1)

    def close(self) -> None:
        with _lock:
            _active.discard(self)
            self.gone.set()
            os.close(self.wake)


@dataclass(frozen=True)
class _Options:
    argv: tuple[str, ...]
    env: dict[str, str]
    timeout: float
    cwd: Path | None
    pass_fds: tuple[int, ...]
    tail_bytes: int
    hostile: bool
    contained: bool


class _Tail:
    """The last bytes that came through a pipe; memory stays below twice the limit and a chunk."""

    def __init__(self, reader: int, limit: int) -> None:
        self.reader = reader
        self.limit = limit
        self.kept = bytearray()

    def drain(self, most: int) -> bool:
        """Read what is there, up to ``most`` bytes. False once there will be no more."""
        while most > 0:
            try:
                chunk = os.read(self.reader, 65536)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            most -= len(chunk)
            self.kept += chunk
            if len(self.kept) > 2 * self.limit:
                del self.kept[: -self.limit]
        return True

    def value(self) -> bytes:
        return bytes(self.kept[-self.limit :])


def _supervise(
    this: _Run, options: _Options, poll: Callable[[int], V | None] | None
) -> Supervised[V]:
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.callback(this.close)
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        os.set_blocking(reader, False)
        try:
            child = subprocess.Popen(
                options.argv,
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=options.env,
                cwd=options.cwd,
                pass_fds=options.pass_fds,
                start_new_session=True,
            )
        finally:
            os.close(writer)
        tail = _Tail(reader, options.tail_bytes)
        ended = timed_out = False
        violation: V | None = None
        try:
            if options.hostile:
                stack.enter_context(_ahead_of_others())
                with contextlib.suppress(OSError):
                    Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000")
            pidfd = os.pidfd_open(child.pid)
            stack.callback(os.close, pidfd)
            poller = select.poll()
            for descriptor in (reader, pidfd, this.wake):
                poller.register(descriptor, select.POLLIN)
            deadline = started + options.timeout
            due = started + POLL_SECONDS
            while not ended:
                now = time.monotonic()
                if now >= deadline:
                    timed_out = True
                    break
                if now >= due:
                    violation = poll(child.pid) if poll else None
                    if violation is not None:
                        break
                    due = time.monotonic() + POLL_SECONDS
                wait = max(0.0, min(deadline, due) - time.monotonic())
                ready = {descriptor for descriptor, _ in poller.poll(wait * 1000 + 1)}
                if this.wake in ready:
                    raise Interrupted
                if reader in ready and not tail.drain(2**20):
                    poller.unregister(reader)
                ended = pidfd in ready
        finally:
            if not ended:
                _end(child.pid, options.contained)
            # Its number is ours until it is waited for, so this cannot hit a stranger's group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        tail.drain(2**22)
        return Supervised(
            exit_code=child.returncode,
            output=tail.value(),
            wall_seconds=time.monotonic() - started,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            max_rss_bytes=usage.ru_maxrss * 1024,
            timed_out=timed_out,
            violation=violation,
        )


def _end(root: int, contained: bool) -> None:
    """Kill everything below ``root``, then ``root``, which is left for the caller to wait for.

    A root that only waits for its child may first end by itself, so that the child's CPU time is
    counted.
    """
    with _ahead_of_others():
        if _end_below(root, contained):
            send(root, signal.SIGCONT)
            if _wait_for_state(root, "ZX", 0.5):
                return
            _end_below(root, contained)
        send(root, signal.SIGKILL)


def _end_below(root: int, contained: bool) -> bool:
    """Stop ``root`` and kill all below it. True if there was something to kill.

    A stopped parent does not reap: a process id read from it stays that process until we are done.
    """
    send(root, signal.SIGSTOP)
    _wait_for_state(root, "TtZX", 1.0)
    found = False
    until = time.monotonic() + 10
    while time.monotonic() < until:
        below = children(root) if contained else descendants(root)
        alive = [pid for pid in below if _state(pid) not in "ZX"]
        found = found or bool(below)
        if not alive:
            break
        if not contained:
            _kill_groups(alive, root)
        for pid in alive:
            if contained:
                # It is this process that kills the others, so it must get the CPU before them.
                with contextlib.suppress(OSError):
                    os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
            send(pid, signal.SIGKILL)
        time.sleep(0.001)
    return found


def _kill_groups(pids: Sequence[int], root: int) -> None:
    """Kill the process groups of ``pids``, but never ours or ``root``'s.

    The kernel does this in one step, which no fork can outrun; killing one by one may never end.
    """
    groups = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            groups.add(os.getpgid(pid))
    for group in groups - {root, os.getpgid(0)}:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


@contextlib.contextmanager
def _ahead_of_others() -> Iterator[None]:
    """Where we may, give this thread the CPU before any number of processes that it watches.

    That takes root, whose runs have no hard limit on processes. Children do not inherit it.
    """
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, policy, parameter)


def _wait_for_state(pid: int, states: str, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while _state(pid) not in states:
        if time.monotonic() > until:
            return False
        time.sleep(0.001)
    return True


def _state(pid: int) -> str:
    """The kernel's letter for a process: R, S, D, T, Z; X if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"
