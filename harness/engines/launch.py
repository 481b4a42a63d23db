"""The host's side of the launcher: what it is told, what it saw, and what was not applied."""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import os
import platform
import random
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.engines.interface import RunOutcome, RunResult, RunSpec
from harness.engines.watch import Watch
from harness.models import Limits, Variation
from harness.process import Supervised, supervise

LAUNCHER = Path(__file__).with_name("launcher.py")
CLOCK_SLACK = 2  # seconds between our reading the clock and the launcher's
SIGXFSZ = 25
PATH = "/usr/local/bin:/usr/bin:/bin"

Observed = dict[str, str | int | bool]


def interpreter() -> Path:
    """Our own Python, outside any virtual environment."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (Path(sys.base_prefix, "bin", name), Path(sys.base_prefix, "bin", "python3")):
        if path.exists():
            return path
    return Path(sys.executable).resolve()


def lay_python(folder: Path) -> Path:
    """A Python that knows no packages but the standard library's; returns its program.

    What is installed on this machine besides the toolchain must not take part in a build: an
    optional import would find it. It is a virtual environment without packages, in ``folder``.
    """
    program = interpreter()
    (folder / "bin").mkdir(parents=True)
    config = f"home = {program.parent}\ninclude-system-site-packages = false\n"
    (folder / "pyvenv.cfg").write_text(config, "utf-8")
    (folder / "bin" / "python3").symlink_to(program)
    return folder / "bin" / "python3"


def faketime_library() -> Path | None:
    """The preloadable clock of the ``libfaketime`` package, if it is there."""
    try:
        import libfaketime
    except ImportError:
        return None
    path = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
    return path if path.is_file() else None


def laid_down(names: Iterable[str], seed: int) -> list[str]:
    """Directory entries in the order that ``Variation.file_order`` means; 0 is sorted."""
    order = sorted(names)
    if seed:
        random.Random(seed).shuffle(order)  # noqa: S311 - a recorded order, no secret
    return order


def environment(variation: Variation, home: str, search_path: str | None) -> dict[str, str]:
    """The command's whole environment, but for the clock. What varies by name wins over extras."""
    fixed = {
        "PATH": PATH,
        "HOME": home,
        "USER": variation.user,
        "LOGNAME": variation.user,
        "LANG": variation.locale,
        "LC_ALL": variation.locale,
        "TZ": variation.time_zone,
        "PYTHONHASHSEED": str(variation.hash_seed),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
    }
    if search_path is not None:
        fixed["PYTHONPATH"] = search_path
    return {**dict(variation.environment), **fixed}


def clock_environment(clock: int | None, library: str | None, now: float) -> dict[str, str]:
    """Variables that make programs believe that it is ``clock`` (Unix time) at ``now``.

    An offset, so that time runs on from process to process, and no time zone comes into it.
    Monotonic clocks and file times stay real: timeouts must work.
    """
    if clock is None or library is None:
        return {}
    return {
        "LD_PRELOAD": library,
        "FAKETIME": f"{clock - int(now):+d}",
        "NO_FAKE_STAT": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


_cpu_turns = itertools.count()


def settings(
    variation: Variation,
    limits: Limits,
    *,
    command_environment: Mapping[str, str],
    work: str,
    report: int,
    own_namespace: bool,
    listings: Sequence[str],
) -> str:
    """The launcher's argument.

    The limits here are backstops, wider than ``limits``: the watchdog is to see an excess and name
    it, where a refused system call would only look like a broken compiler. RLIMIT_NPROC counts
    threads too.
    """
    return json.dumps(
        {
            "aslr": variation.aslr,
            "umask": variation.umask,
            "cpus": variation.cpus,
            # Builds at the same time must not all be held to the same CPU.
            "first_cpu": next(_cpu_turns) if variation.cpus else 0,
            "work": work,
            "environment": dict(command_environment),
            "address_space": 2 * limits.memory_bytes,
            "file_size": limits.output_bytes + 2**16,
            "tasks": 4 * limits.processes + 256 + others(own_namespace),
            "report": report,
            "own_namespace": own_namespace,
            "listings": list(listings),
            "parent": 0 if own_namespace else os.getpid(),
        },
        ensure_ascii=False,
    )


def others(own_namespace: bool) -> int:
    """How many tasks of this user's the kernel counts besides the run's own.

    Since Linux 5.14 a user namespace has a count of its own.
    """
    if own_namespace and kernel() >= (5, 14):
        return 0
    count = 0
    for table in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if table.name.isdigit() and table.stat().st_uid == os.getuid():
                count += len(os.listdir(table / "task"))  # noqa: PTH208
    return count


def kernel() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(found[1]), int(found[2])) if found else (0, 0)


def execute(
    spec: RunSpec,
    command: Sequence[str],
    *,
    watch: Watch,
    launch_environment: Mapping[str, str],
    report: tuple[int, int],
    engine_limits: Mapping[str, str],
    work: str,
    home: str,
    orders: Mapping[str, Sequence[str]],
    cwd: Path | None = None,
) -> RunResult:
    """Run ``command``, whose last part is the launcher's, and say how it went.

    ``report``: reading and writing end of the launcher's pipe; both are closed here.
    ``engine_limits``: what this engine can never vary, with the reason. ``orders``: for each
    spread mount the names in the order in which they were laid down.
    """
    reader, writer = report
    try:
        try:
            ended = supervise(
                command,
                env=launch_environment,
                timeout=spec.limits.wall_seconds,
                poll=watch.poll,
                cwd=cwd,
                pass_fds=(writer,),
                hostile=True,
                contained=watch.contained,
            )
        except (OSError, ValueError) as error:
            return _not_started(command, str(error))
        os.set_blocking(reader, False)
        try:
            lines = os.read(reader, 2**17).decode("utf-8", "replace").splitlines()
        except BlockingIOError:
            lines = []
    finally:
        os.close(reader)
        os.close(writer)
    observed: dict[str, Any] = ast.literal_eval(lines[0]) if lines else {}
    end: dict[str, int] = ast.literal_eval(lines[1]) if len(lines) > 1 else {}
    outcome, exit_code, detail = _classify(ended, observed, end, watch)
    return RunResult(
        outcome=outcome,
        exit_code=exit_code,
        output=ended.output,
        wall_seconds=ended.wall_seconds,
        cpu_seconds=ended.cpu_seconds,
        peak_memory_bytes=max(watch.peak_memory_bytes, end.get("max_rss_bytes", 0)),
        command=tuple(command),
        detail=detail,
        observed=_flat(observed),
        not_applied=not_applied(spec.variation, observed, work, home, orders, engine_limits)
        if observed
        else dict(engine_limits),
    )


def _classify(
    ended: Supervised[Any], observed: Mapping[str, Any], end: Mapping[str, int], watch: Watch
) -> tuple[RunOutcome, int | None, str]:
    if ended.violation is not None:
        return ended.violation.outcome, None, ended.violation.detail
    if ended.timed_out:
        return RunOutcome.TIMED_OUT, None, f"after {watch.limits.wall_seconds} s"
    if not observed:
        last = ended.output.decode("utf-8", "replace").strip().splitlines()[-1:]
        return RunOutcome.NOT_STARTED, None, "".join(last) or f"exit code {ended.exit_code}"
    excess = watch.files()
    if excess is not None:
        return excess.outcome, None, excess.detail
    if not end:
        return RunOutcome.SIGNALLED, -9, "the run's first process was killed from outside"
    status = end["status"]
    if status == -SIGXFSZ:
        return RunOutcome.TOO_MUCH_OUTPUT, status, "one file was to become too large"
    if status < 0:
        detail = "by the kernel, perhaps for want of memory" if status == -9 else ""
        return RunOutcome.SIGNALLED, status, detail
    return RunOutcome.EXITED, status, ""


def _not_started(command: Sequence[str], detail: str) -> RunResult:
    return RunResult(RunOutcome.NOT_STARTED, None, b"", 0.0, 0.0, 0, tuple(command), detail)


def _flat(observed: Mapping[str, Any]) -> Observed:
    """Directory listings as one line each, first names only."""
    flat: Observed = {key: value for key, value in observed.items() if key != "listings"}
    for path, names in observed.get("listings", {}).items():
        flat[f"listing {path}"] = " ".join(names[:5])
    return flat


def not_applied(
    variation: Variation,
    observed: Mapping[str, Any],
    work: str,
    home: str,
    orders: Mapping[str, Sequence[str]],
    engine_limits: Mapping[str, str],
) -> dict[str, str]:
    """Each variation that the launcher did not see as requested, with the reason."""
    wanted: dict[str, tuple[tuple[str, object], ...]] = {
        "hash-seed": (("hash_seed", str(variation.hash_seed)),),
        "aslr": (("aslr", variation.aslr),),
        "build-path": (("work", work),),
        "home": (("home", home),),
        "host-name": (("host_name", variation.host_name),),
        "user": (("uid", variation.uid), ("gid", variation.gid), ("user", variation.user)),
        "locale": (("locale", variation.locale), ("locale_known", True)),
        "time-zone": (("time_zone", variation.time_zone), ("time_zone_known", True)),
        "umask": (("umask", variation.umask),),
    }
    if variation.cpus:
        wanted["cpus"] = (("cpus", variation.cpus),)
    missed = {
        name: f"{key} is {observed[key]} instead of {value}"
        for name, pairs in wanted.items()
        for key, value in reversed(pairs)
        if observed[key] != value
    }
    if variation.clock is not None and abs(observed["clock"] - variation.clock) > CLOCK_SLACK:
        missed["clock"] = "libfaketime is missing or does not load here"
    listings = observed["listings"]
    if not all(_same_order(listings.get(path, []), names) for path, names in orders.items()):
        missed["file-order"] = "the file system lists entries in an order of its own"
    return {**missed, **engine_limits}


def _same_order(listed: Sequence[str], laid: Sequence[str]) -> bool:
    """Some kernels list a tmpfs in the order of creation, others in reverse."""
    return list(listed) in (list(laid[: len(listed)]), list(reversed(laid))[: len(listed)])
