"""What is asked of the daemon for one run: the body of its create-container request. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.engines.interface import Mount, RunSpec
from harness.engines.sandbox import INSIDE, memory_file_systems
from harness.models import Variation

PYTHON = "python3"  # the image's own, on launch.PATH
REPORT = 100  # descriptor of the report pipe
SHARED_MEMORY_BYTES = 64 * 2**20
GRACE_SECONDS = 60
OWNER = "ml-compiler-harness.owner"  # label: which harness process a container belongs to
RUN = "ml-compiler-harness.run"  # label: which run

# Runs before the launcher. The report goes through a named pipe in the output folder, which is
# gone before the command begins; nothing else leads out of a container. A second one, if there is
# one, holds the run until the harness has opened it: until it watches what will be opened. The
# alarm ends the run if the harness was killed: nobody else would. Children inherit neither. The
# default seccomp filter knows the question for the personality as 32 bits, in a register of 64.
ENTRY = f"""\
import _signal, ctypes, os, resource, sys
path, gate, seconds = sys.argv[1:4]
del sys.argv[1:4]
pipe = os.open(path, os.O_WRONLY)
os.unlink(path)
if gate:
    os.close(os.open(gate, os.O_RDONLY))
    os.unlink(gate)
os.dup2(pipe, {REPORT}, False)
os.close(pipe)
_signal.signal(_signal.SIGALRM, lambda *_: os._exit(124))
_signal.alarm(int(seconds))
with open({f"{INSIDE}/launcher.py"!r}) as file:
    launcher = dict(__name__="launcher")
    exec(compile(file.read(), "launcher.py", "exec"), launcher)
launcher["READ_PERSONALITY"] = ctypes.c_ulong(0xFFFFFFFF)
try:
    sys.exit(launcher["main"](sys.argv[1:]))
finally:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = dict(cpu_seconds=usage.ru_utime + usage.ru_stime)
    os.write({REPORT}, (repr(spent) + "\\n").encode())
"""


@dataclass(frozen=True)
class Place:
    """What of the host a container sees besides the run's mounts.

    ``uid`` and ``gid``: whom it runs as. ``files``: folder with passwd and group. ``clock``:
    environment that makes a false clock, and the library for it on the host, if it is there.
    ``ulimits``: more of them than none for core files.
    ``cpus``: how many there are.
    """

    launcher: str
    files: str
    report: str  # name of the named pipe in the output folder
    gate: str  # that of the one that holds the run, or empty
    uid: int
    gid: int
    cpus: int
    clock: dict[str, str]
    clock_library: str | None = None
    user_namespace: str = ""
    podman: bool = False
    ulimits: tuple[tuple[str, int], ...] = ()


def create_request(
    spec: RunSpec, image: str, place: Place, settings: str, labels: dict[str, str]
) -> dict[str, Any]:
    """The request for one container. ``settings``: the launcher's argument."""
    limits = spec.limits
    return {
        "Image": image,
        "Entrypoint": [*entry(spec, place, settings), *spec.argv],
        "Cmd": [],
        "Env": [f"{key}={value}" for key, value in place.clock.items()],
        "User": f"{place.uid}:{place.gid}",
        "WorkingDir": "/",
        "Hostname": spec.variation.host_name,
        "NetworkDisabled": True,
        "Tty": False,
        "OpenStdin": False,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": labels,
        "HostConfig": {
            "NetworkMode": "none",
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "UsernsMode": place.user_namespace,
            "ReadonlyRootfs": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],  # and the daemon's default seccomp filter
            "Memory": limits.memory_bytes,
            "MemorySwap": limits.memory_bytes,
            # Counts threads, too. A backstop: the watchdog counts processes, and names the excess.
            "PidsLimit": 4 * limits.processes + 256,
            "NanoCpus": (min(spec.variation.cpus, place.cpus) or place.cpus) * 10**9,
            "OomScoreAdj": 1000,
            "Ulimits": [
                {"Name": name, "Soft": most, "Hard": most}
                for name, most in (("core", 0), *place.ulimits)
            ],
            "ShmSize": SHARED_MEMORY_BYTES,
            "Tmpfs": _tmpfs(spec, place),
            "Mounts": [
                *(_bind(mount.source, mount.target) for mount in _mounts(spec, place)),
                _bind(spec.out, spec.out_target, writable=True),
            ],
            # What it prints is read from the daemon as it comes, and kept nowhere.
            "LogConfig": {"Type": "none"},
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
        },
    }


def entry(spec: RunSpec, place: Place, settings: str) -> tuple[str, ...]:
    """The command line up to the run's own."""
    seconds = str(spec.limits.wall_seconds + GRACE_SECONDS)
    report = f"{spec.out_target}/{place.report}"
    gate = f"{spec.out_target}/{place.gate}" if place.gate else ""
    return (PYTHON, "-I", "-S", "-c", ENTRY, report, gate, seconds, settings, "--")


def _tmpfs(spec: RunSpec, place: Place) -> dict[str, str]:
    variation: Variation = spec.variation
    size = max(2**20, spec.limits.memory_bytes // 4)
    options = f"rw,exec,nosuid,nodev,size={size}"
    if place.podman:  # knows no owner of a tmpfs; nobody but the run's user is in there anyway
        return dict.fromkeys(memory_file_systems(variation), f"{options},mode=1777")
    options += f",uid={place.uid},gid={place.gid}"
    return {
        path: f"{options},mode={'1777' if path == '/tmp' else '0755'}"  # noqa: S108
        for path in memory_file_systems(variation)
    }


def _mounts(spec: RunSpec, place: Place) -> tuple[Mount, ...]:
    own = [
        Mount(Path(place.files, "passwd"), "/etc/passwd"),
        Mount(Path(place.files, "group"), "/etc/group"),
        Mount(Path(place.launcher), f"{INSIDE}/launcher.py"),
    ]
    if place.clock_library is not None:
        library = Path(place.clock_library)
        own.append(Mount(library, f"{INSIDE}/{library.name}"))
    return (*own, *spec.mounts)


def _bind(source: object, target: str, writable: bool = False) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": not writable,
        "BindOptions": {"Propagation": "rprivate"},
    }
