"""First process of every run: sets limits and variations, reports what it sees, runs the command.

    python -I -S launcher.py SETTINGS -- COMMAND…

SETTINGS is a JSON object, written by :mod:`harness.engines.launch`. Standard library only, and as
little of it as possible: importing ``json`` alone would cost more than everything else here.
The command gets its environment only at exec, so nothing of a toolchain runs in this process.

It stays as the parent of the command: it adopts and reaps orphans, so that CPU time is complete,
and ends whatever the command left running. Two lines go to the report pipe, as Python literals:
what was observed before the command began, and how the command ended. The pipe closes on exec.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
ADDR_NO_RANDOMIZE = 0x0040000
READ_PERSONALITY = 0xFFFFFFFF
SIGKILL, SIGPIPE, SIGTERM, SIGXFSZ = 9, 13, 15, 25
LISTED = 100  # names reported per directory; keeps the report below the pipe's 64 KiB


def apply(settings: dict[str, Any], libc: ctypes.CDLL) -> None:
    os.umask(settings["umask"])
    if settings["cpus"]:
        allowed = sorted(os.sched_getaffinity(0))
        first = settings["first_cpu"] % len(allowed)
        os.sched_setaffinity(0, (allowed[first:] + allowed[:first])[: settings["cpus"]])
    if not settings["aslr"]:
        libc.personality(libc.personality(READ_PERSONALITY) | ADDR_NO_RANDOMIZE)
    os.chdir(settings["work"])
    if settings["own_namespace"]:
        return
    import signal

    def leave(*_: object) -> None:
        raise SystemExit(128 + SIGTERM)

    signal.signal(signal.SIGTERM, leave)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0)
    if os.getppid() != settings["parent"]:
        raise SystemExit("launcher: the harness is gone")


def limit(settings: dict[str, Any]) -> None:
    """Limits of the command and all below it; 0 leaves one as it is."""
    kinds = (
        (resource.RLIMIT_AS, settings["address_space"]),
        (resource.RLIMIT_FSIZE, settings["file_size"]),
        (resource.RLIMIT_NPROC, settings["tasks"]),
    )
    for kind, value in kinds:
        hard = resource.getrlimit(kind)[1]
        if value and (hard == resource.RLIM_INFINITY or value < hard):
            resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def observe(settings: dict[str, Any], libc: ctypes.CDLL) -> dict[str, Any]:
    environment = settings["environment"]
    umask = os.umask(0)
    os.umask(umask)
    with open("/proc/sys/kernel/randomize_va_space") as file:
        randomize = file.read().strip() != "0"
    zone = environment["TZ"]
    return {
        "host_name": os.uname().nodename,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "user": user_name(),
        "work": os.getcwd(),  # noqa: PTH109
        "home": environment["HOME"],
        "umask": umask,
        "cpus": len(os.sched_getaffinity(0)),
        "aslr": randomize and not libc.personality(READ_PERSONALITY) & ADDR_NO_RANDOMIZE,
        "clock": int(time.time()),
        "time_zone": zone,
        "time_zone_known": any(c.isdigit() for c in zone)
        or os.path.exists("/usr/share/zoneinfo/" + zone),  # noqa: PTH110
        "locale": environment["LC_ALL"],
        "locale_known": has_locale(environment["LC_ALL"]),
        "hash_seed": environment["PYTHONHASHSEED"],
        "environment": len(environment),
        "network": network(),
        "listings": {path: os.listdir(path)[:LISTED] for path in settings["listings"]},  # noqa: PTH208
    }


def user_name() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return ""


def has_locale(name: str) -> bool:
    import _locale

    try:
        _locale.setlocale(_locale.LC_ALL, name)
    except _locale.Error:  # type: ignore[attr-defined]
        return False
    return True


def network() -> str:
    """Names of the network interfaces other than loopback."""
    with open("/proc/self/net/dev") as file:
        names = [line.split(":")[0].strip() for line in file if ":" in line]
    return ",".join(name for name in names if name != "lo")


def start(argv: list[str], settings: dict[str, Any], libc: ctypes.CDLL) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        os.nice(5)  # the watchdog and our parent go first, whatever the command starts
        os.setpgid(0, 0)  # a group of its own, so that it can be killed in one step without us
        limit(settings)
        # Python ignores these two, and exec would hand that on.
        libc.signal(SIGPIPE, None)
        libc.signal(SIGXFSZ, None)
        os.execvpe(argv[0], argv, settings["environment"])  # noqa: S606
    except OSError as error:
        os.write(2, f"launcher: cannot start {argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def wait_for(pid: int) -> int:
    """Reap everything until the command itself is done; its status, -signal if killed."""
    while True:
        done, status = os.wait()
        if done == pid:
            return os.waitstatus_to_exitcode(status)


def end_the_rest(own_namespace: bool) -> None:
    """Kill and reap whatever is still running below us."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in [-1] if own_namespace else below():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, SIGKILL)
            os.wait()


def below() -> list[int]:
    with open("/proc/thread-self/children") as file:
        return [int(word) for word in file.read().split()]


def main(arguments: list[str]) -> int:
    # The harness wrote this argument; json's own reader would double our start-up time.
    names = {"__builtins__": {}, "true": True, "false": False, "null": None}
    settings: dict[str, Any] = eval(arguments[0], names)  # noqa: S307
    argv = arguments[2:]
    report: int = settings["report"]
    libc = ctypes.CDLL(None, use_errno=True)
    os.set_inheritable(report, False)
    apply(settings, libc)
    observed = observe(settings, libc)
    # Nobody below us may read our memory or reach the report pipe through /proc.
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.write(report, (repr(observed) + "\n").encode())
    try:
        status = wait_for(start(argv, settings, libc))
    finally:
        end_the_rest(settings["own_namespace"])
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = {"status": status, "max_rss_bytes": usage.ru_maxrss * 1024}
    os.write(report, (repr(ended) + "\n").encode())
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
