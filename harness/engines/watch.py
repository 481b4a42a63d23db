"""The watchdog: counts processes, memory and output of a run that is under way.

It looks from outside, about every 0.1 s, and never follows a link that the run made.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from harness.engines.interface import RunOutcome
from harness.models import Limits
from harness.process import children, descendants

MIN_FREE_BYTES = 512 * 2**20
MAX_DEPTH = 64
INODE_BYTES = 1024  # what an empty file on a tmpfs costs the kernel, about
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Violation:
    outcome: RunOutcome
    detail: str


@dataclass
class Watch:
    """One run's watchdog.

    ``written``: host directories whose content counts as output. ``contained``: the run has a PID
    namespace of its own. ``memory_file_systems``: its tmpfs mounts, as the run names them; what
    lies there counts as memory.
    """

    limits: Limits
    written: tuple[Path, ...]
    contained: bool
    memory_file_systems: tuple[str, ...] = ()
    peak_memory_bytes: int = 0
    next_scan: float = 0.0

    def poll(self, pid: int) -> Violation | None:
        """The first limit that the run below ``pid`` exceeds, or None."""
        violation = self.processes(pid)
        if violation is None and time.monotonic() >= self.next_scan:
            began = time.monotonic()
            violation = self.files()
            # A tree of many files must not keep us busy: at most a twentieth of one CPU.
            self.next_scan = time.monotonic() + 20 * (time.monotonic() - began)
        return violation

    def processes(self, pid: int) -> Violation | None:
        most = self.limits.processes
        tables = self.tables(pid, most + 2)
        if len(tables) - 1 > most:  # the launcher is not the run's
            return Violation(RunOutcome.TOO_MANY_PROCESSES, f"more than {most} processes")
        held = self.held_in_memory(pid)
        memory = held + sum(map(resident, tables))
        if memory > self.limits.memory_bytes:
            # Pages that forked processes share were counted once for each; now count them rightly.
            memory = held + sum(map(proportional, tables))
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory)
        if memory > self.limits.memory_bytes:
            used = f"{memory / 2**20:.0f} MiB of {self.limits.memory_bytes / 2**20:.0f} MiB"
            return Violation(RunOutcome.TOO_MUCH_MEMORY, used)
        return None

    def tables(self, pid: int, most: int) -> list[str]:
        """Folders in /proc of every process of the run, at most ``most``; the launcher is one.

        The namespace's own /proc lists all of its processes, however they fork and exit; a walk
        from parent to child can miss some.
        """
        if not self.contained:
            return [f"/proc/{each}" for each in (pid, *descendants(pid, most))][:most]
        root = namespace_root(pid)
        if root is None:
            return [f"/proc/{each}" for each in descendants(pid, most)][:most]
        try:
            names = [name for name in os.listdir(f"{root}/proc") if name.isdigit()]  # noqa: PTH208
        except OSError:
            if namespace_root(pid) is not None:
                raise  # it is there, and does not let itself be counted
            return []  # it has just ended
        return [f"{root}/proc/{name}" for name in names[:most]]

    def held_in_memory(self, pid: int) -> int:
        """Bytes on the run's tmpfs mounts."""
        root = namespace_root(pid) if self.contained else None
        total = 0
        for path in self.memory_file_systems if root else ():
            with contextlib.suppress(OSError):
                at = os.statvfs(f"{root}{path}")
                total += (at.f_blocks - at.f_bfree) * at.f_frsize
                total += (at.f_files - at.f_ffree) * INODE_BYTES
        return total

    def files(self) -> Violation | None:
        """Whether what the run wrote is too much. Also to be asked once after the run."""
        for directory in self.written:
            with contextlib.suppress(OSError):
                at = os.statvfs(directory)
                if at.f_bavail * at.f_frsize < MIN_FREE_BYTES:
                    return Violation(
                        RunOutcome.TOO_MUCH_OUTPUT,
                        f"less than {MIN_FREE_BYTES // 2**20} MiB are free where output is written",
                    )
        count = Count(self.limits)
        for directory in self.written:
            violation = count.add(directory)
            if violation is not None:
                return violation
        return None


@dataclass
class Count:
    """Running totals over directories."""

    limits: Limits
    size: int = 0
    number: int = 0

    def add(self, directory: Path) -> Violation | None:
        try:
            opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return self.below(opened, 1)
        finally:
            os.close(opened)

    def below(self, directory: int, depth: int) -> Violation | None:
        if depth > MAX_DEPTH:
            return Violation(
                RunOutcome.TOO_MANY_FILES, f"directories deeper than {MAX_DEPTH} levels"
            )
        with os.scandir(directory) as entries:
            for entry in entries:
                violation = self.entry(entry.name, directory, depth)
                if violation is not None:
                    return violation
        return None

    def entry(self, name: str, directory: int, depth: int) -> Violation | None:
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        self.number += 1
        if self.number > self.limits.output_files:
            most = self.limits.output_files
            return Violation(RunOutcome.TOO_MANY_FILES, f"more than {most} files")
        if stat.S_ISDIR(found.st_mode):
            return self.enter(name, directory, depth)
        # A sparse file counts as what it claims: whoever copies it would write all of that.
        self.size += max(found.st_size, found.st_blocks * 512)
        if self.size > self.limits.output_bytes:
            most = self.limits.output_bytes
            return Violation(RunOutcome.TOO_MUCH_OUTPUT, f"more than {most} bytes")
        return None

    def enter(self, name: str, directory: int, depth: int) -> Violation | None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            opened = os.open(name, flags, dir_fd=directory)
        except PermissionError:
            return Violation(
                RunOutcome.TOO_MUCH_OUTPUT, "a directory whose content cannot be counted"
            )
        except OSError:  # gone, or no directory any more
            return None
        try:
            return self.below(opened, depth + 1)
        finally:
            os.close(opened)


def namespace_root(pid: int) -> str | None:
    """Root directory of the namespaces below ``pid``; None while they are not ready or not ours.

    A /proc of another device than ours is another instance: that of the run's PID namespace.
    """

    init = next(iter(children(pid)), None)
    if init is None:
        return None
    root = f"/proc/{init}/root"
    with contextlib.suppress(OSError):
        if os.stat(f"{root}/proc").st_dev != os.stat("/proc").st_dev:  # noqa: PTH116
            return root
    return None


def resident(table: str) -> int:
    """Resident bytes of one process; 0 if it is gone."""
    try:
        return int(Path(table, "statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def proportional(table: str) -> int:
    """Resident bytes, shared pages divided among those that share them."""
    try:
        for line in Path(table, "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resident(table)
