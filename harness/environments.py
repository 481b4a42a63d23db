"""A toolchain's environment: made once from hash-checked wheels, verified at every use.

An environment is a directory that goes on PYTHONPATH and holds the toolchain's programs. It is
made in a temporary place and renamed, under a lock, so that a half-made one is never taken for a
whole one. Its digest covers every path, mode, size and byte; file times and the place where it
lies play no part, so that two machines with the same Python get the same digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import ToolchainError
from harness.packages import cache_folder, install
from harness.process import Completed, run
from harness.pruning import remove, used
from harness.text import printable
from harness.toolchains import Definition, overlay_files
from harness.trees import listing, tree_digest, walk

FORMAT = 1  # of an environment; a change makes all of them anew
SCRIPT_SECONDS = 600
COMPILE_SECONDS = 1800
_LISTING = ".complete.json"

Say = Callable[[str], None]
# Runs (script, environment, output): how a preparation script is started.
RunScript = Callable[[Path, Path, Path], Completed]


def say_nothing(_line: str) -> None:
    """The default for ``say``."""


@dataclass(frozen=True)
class Environment:
    """``root`` is the directory to mount; ``sha256`` is over everything in it.

    ``image``: the container image to run in, where the engine has images. With ``inside`` the
    toolchain is part of that image, ``sha256`` is the image's, and ``root`` only a copy to look at.
    ``folders``: every directory below ``root``, where that is known. ``confirm`` is to be called
    before anything of it runs: it returns once every byte has been verified, or raises.
    """

    root: Path
    sha256: str
    image: str | None = None
    inside: bool = False
    folders: tuple[str, ...] | None = None
    confirm: Callable[[], object] = field(default=bool, compare=False, repr=False)


def run_plainly(script: Path, root: Path, out: Path) -> Completed:
    """Run a preparation script as a plain process with an environment of its own."""
    with tempfile.TemporaryDirectory() as home:
        return run(
            [sys.executable, "-I", str(script), str(root), str(out)],
            env={"HOME": home, "LC_ALL": "C", "PATH": os.defpath, "TMPDIR": home},
            cwd=Path(home),
            timeout=SCRIPT_SECONDS,
        )


def prepare(
    toolchain: Definition,
    *,
    cache: Path | None = None,
    force: bool = False,
    say: Say = say_nothing,
    run_script: RunScript = run_plainly,
    background: Executor | None = None,
) -> Environment:
    """The environment of ``toolchain``: made if there is none yet, or anew if ``force``.

    cache: where environments are kept, by default below the user's cache directory.
    say: told, in one line, what takes time.
    background: verifies it, while the caller goes on until ``confirm``; without, it is verified.
    Raises ToolchainError if it cannot be made, or is not what it was when it was made.
    """
    if toolchain.image and toolchain.image.only:
        raise ToolchainError(
            f"{toolchain.name}: is a container image and nothing else", "use --engine docker"
        )
    if toolchain.arch != platform.machine():
        raise ToolchainError(
            f"{toolchain.name}: is for {toolchain.arch}, and this machine is {platform.machine()}",
            "run it on such a machine, or choose another toolchain",
        )
    place = _place(toolchain, cache)
    folder = place.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{place.name}.lock")
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            say(f"{toolchain.name}: waiting for another harness that prepares it")
            lock.acquire()
        try:
            if force or not (place / _LISTING).exists():
                _make(toolchain, place, cache, say, run_script)
            if background is None:
                return _verified(toolchain, place)
            found = _written_down(toolchain, place)
        finally:
            lock.release()
        verified = background.submit(_verified, toolchain, place)
        return replace(found, confirm=verified.result)
    except OSError as problem:
        raise ToolchainError(
            f"{toolchain.name}: its environment cannot be made or read: {problem.strerror}:"
            f" {problem.filename or folder}",
            f"free some space, or correct the permissions of {folder}, then try again",
        ) from None


def verify(toolchain: Definition, *, cache: Path | None = None) -> Environment | None:
    """The environment of ``toolchain`` if it was made and is what it was; None if never made.

    Raises ToolchainError if it was made and is no longer what it was.
    """
    place = _place(toolchain, cache)
    return _verified(toolchain, place) if (place / _LISTING).exists() else None


def discard(toolchain: Definition, *, cache: Path | None = None) -> None:
    """Remove the environment of a toolchain of the red team. No other is touched."""
    place = _place(toolchain, cache)
    if toolchain.redteam and place.parent.is_dir():
        remove(place, wait=True)


def files_of(environment: Environment) -> dict[str, tuple[str, int]]:
    """Path below the root → (sha256, size in bytes) of each regular file, as it was installed.

    Raises ToolchainError if what was written down then cannot be read.
    """
    place = environment.root.parent / _LISTING
    try:
        entries: dict[str, str] = json.loads(place.read_bytes())["entries"]
        parts = {path: entry.split() for path, entry in entries.items() if entry[0] == "f"}
        return {path: (part[3], int(part[2])) for path, part in parts.items()}
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise ToolchainError(
            f"{place} cannot be read or is damaged", "run: harness toolchains prepare --force"
        ) from None


def _place(toolchain: Definition, cache: Path | None) -> Path:
    """Where its environment lies. Compromised toolchains are kept apart from all others."""
    kind = "redteam" if toolchain.redteam else "environments"
    return (cache or cache_folder()).absolute() / kind / _key(toolchain)


def _key(toolchain: Definition) -> str:
    """Names an environment: two toolchains with the same key can share it."""
    python = f"{sys.implementation.cache_tag}-{platform.machine()}"
    content = f"{FORMAT} {toolchain.recipe} {python} {sys.platform}"
    return f"{toolchain.compiler}-{python}-{hashlib.sha256(content.encode()).hexdigest()[:24]}"


def _make(
    toolchain: Definition, place: Path, cache: Path | None, say: Say, run_script: RunScript
) -> None:
    for stale in place.parent.glob(f".{place.name}.*"):
        shutil.rmtree(stale, ignore_errors=True)  # we hold the lock: nobody is at work on it
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        new = work / "new"
        root = new / "root"
        new.mkdir()
        if toolchain.base and toolchain.overlay:
            clean = prepare(toolchain.base, cache=cache, say=say, run_script=run_script)
            say(f"{toolchain.name}: copying the environment of {toolchain.base.name}")
            shutil.copytree(clean.root, root, symlinks=True)
            _lay_over(root, Path(toolchain.overlay))
        else:
            say(f"{toolchain.name}: installing its packages")
            root.mkdir()
            lock = Path(toolchain.lock)
            install(
                lock,
                root,
                error=ToolchainError,
                subject=toolchain.name,
                sources=toolchain.sources,
            )
            _drop_launchers(root)
            say(f"{toolchain.name}: compiling its Python files")
            _compile(toolchain, root, root)
            if toolchain.prepare:
                say(f"{toolchain.name}: running {Path(toolchain.prepare).name}")
                _run_script(toolchain, Path(toolchain.prepare), root, work / "out", run_script)
            if toolchain.keep:
                _drop_others(toolchain, root)
        if toolchain.overlay:
            for name, _ in overlay_files(Path(toolchain.overlay)):
                if name.endswith(".py"):
                    _compile(toolchain, root, root / name)
        _settle_modes(root)
        entries = listing(root)
        complete = {"toolchain": toolchain.name, "sha256": tree_digest(entries), "entries": entries}
        with (new / _LISTING).open("w") as stream:
            json.dump(complete, stream)
            stream.flush()
            os.fsync(stream.fileno())
        if place.exists():
            place.rename(work / "old")
        new.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _written_down(toolchain: Definition, place: Path) -> Environment:
    """The environment as it was when it was made. What is there now may be something else."""
    used(place)
    expected, sha256 = _complete(toolchain, place)
    folders = tuple(path for path, entry in expected.items() if entry.startswith("d "))
    return Environment(place / "root", sha256, folders=folders)


def _complete(toolchain: Definition, place: Path) -> tuple[dict[str, str], str]:
    try:
        complete = json.loads((place / _LISTING).read_bytes())
        expected: dict[str, str] = complete["entries"]
        sha256: str = complete["sha256"]
        intact = tree_digest(expected) == sha256
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise ToolchainError(f"{toolchain.name}: {place / _LISTING} is damaged", _again(toolchain))
    return expected, sha256


def _again(toolchain: Definition) -> str:
    return f"run: harness toolchains prepare --force {toolchain.name}"


def _verified(toolchain: Definition, place: Path) -> Environment:
    expected, _ = _complete(toolchain, place)
    found = listing(place / "root")
    if found != expected:
        differing = min(
            path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path)
        )
        how = "was changed"
        if differing not in found:
            how = "is gone"
        elif differing not in expected:
            how = "was added"
        raise ToolchainError(
            f"{toolchain.name}: its environment is not what was installed: {differing!r} {how}",
            _again(toolchain),
        )
    return _written_down(toolchain, place)


def _drop_others(toolchain: Definition, root: Path) -> None:
    """Remove what no pattern of ``keep`` names: less to verify at every use, and to watch."""
    kept: set[Path] = set()
    for pattern in toolchain.keep:
        found = set(root.glob(pattern))
        if not found:
            raise ToolchainError(
                f"{toolchain.name}: keep: {pattern!r} names nothing that was installed",
                "correct the pattern",
            )
        kept |= found
    above = {parent for path in kept for parent in path.parents}

    def prune(folder: Path) -> None:
        for path in folder.iterdir():
            if path in kept:
                continue
            if path in above:
                prune(path)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    prune(root)


def _drop_launchers(root: Path) -> None:
    """Remove console scripts: they name this machine's interpreter, and nothing needs them."""
    dropped = set()
    for script in (root / "bin").glob("*"):
        if script.is_file() and os.fsencode(sys.executable) in script.read_bytes()[:1024]:
            script.unlink()
            dropped.add(script.name)
    for record in root.glob("*.dist-info/RECORD"):
        lines = record.read_text("utf-8").splitlines(keepends=True)
        kept = [
            line
            for line in lines
            if not (
                (path := line.split(",")[0]).endswith(f"bin/{Path(path).name}")
                and Path(path).name in dropped
            )
        ]
        record.write_text("".join(kept), "utf-8")
    if (root / "bin").is_dir() and not any((root / "bin").iterdir()):
        (root / "bin").rmdir()


def _lay_over(root: Path, overlay: Path) -> None:
    for name, source in overlay_files(overlay):
        target = root / name
        if target.is_symlink() or target.is_dir():
            raise ToolchainError(
                f"{source}: would replace a directory or link of the base",
                "replace single files only",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copyfile(source, target)
        target.chmod(source.stat().st_mode)
        for compiled in (target.parent / "__pycache__").glob(f"{target.stem}.*.pyc"):
            compiled.unlink()  # unchecked: it would hide the new source


def _compile(toolchain: Definition, root: Path, what: Path) -> None:
    """Compile to .pyc files that name no place and no time, and are trusted as they are.

    One process and a fixed hash seed: the bytes depend on the sources alone. Files that are not
    Python of this version stay uncompiled (packages carry templates and tests), so the exit code
    says nothing. -P: nothing in the working directory shadows Python's own modules.
    """
    command = [sys.executable, "-P", "-s", "-m", "compileall", "-qq", "-f", "-s", str(root)]
    command += ["--invalidation-mode", "unchecked-hash", str(what)]
    environment = {"LC_ALL": "C.UTF-8", "PATH": os.defpath, "PYTHONHASHSEED": "0"}
    if run(command, env=environment, timeout=COMPILE_SECONDS).timed_out:
        raise ToolchainError(
            f"{toolchain.name}: compiling its Python files never ended", "try again"
        )


def _run_script(
    toolchain: Definition, script: Path, root: Path, out: Path, run_script: RunScript
) -> None:
    out.mkdir()
    done = run_script(script, root, out)
    if done.timed_out or done.exit_code != 0:
        lines = [line.strip() for line in done.output.splitlines() if line.strip()]
        reason = f"no end after {SCRIPT_SECONDS} s" if done.timed_out else f"exit {done.exit_code}"
        last = printable(lines[-1], 300) if lines else ""
        raise ToolchainError(
            f"{toolchain.name}: {script.name} failed: {reason}{': ' if last else ''}{last}",
            "correct the cause, then try again",
        )
    for path, entry in sorted(walk(out)):
        target = root / path
        if entry.startswith("d "):
            target.mkdir(exist_ok=True)
        elif entry.startswith("l ") or target.exists():
            raise ToolchainError(
                f"{toolchain.name}: {script.name} left a link or an existing file: {path!r}",
                "correct the script: it may add files only",
            )
        else:
            shutil.copyfile(out / path, target)
            target.chmod((out / path).stat().st_mode)


def _settle_modes(root: Path) -> None:
    """Make modes independent of the umask: 755 for directories and programs, 644 for the rest."""
    root.chmod(0o755)
    for path, entry in walk(root):
        if entry.startswith("d "):
            (root / path).chmod(0o755)
        elif entry.startswith("f "):
            (root / path).chmod(0o755 if int(entry.split()[1], 8) & 0o100 else 0o644)
