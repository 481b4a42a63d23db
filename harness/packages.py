"""The one place that asks pip: hash-checked files only, nothing built, no code of theirs run.

pip is the harness's own, and reads the user's own configuration: index, mirror, proxy and
certificates are theirs to choose, since every file is checked against a locked hash anyway.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from harness.errors import HarnessError
from harness.process import run
from harness.text import printable

TIMEOUT_SECONDS = 3600  # a slow line and half a gigabyte
_OUTPUT_BYTES = 256 * 1024
# Settings that choose *what* pip does. Those that say where files come from are left alone.
_NOT_OURS = (
    "PIP_CONSTRAINT",
    "PIP_DRY_RUN",
    "PIP_NO_BINARY",
    "PIP_ONLY_BINARY",
    "PIP_PREFIX",
    "PIP_QUIET",
    "PIP_REPORT",
    "PIP_REQUIREMENT",
    "PIP_ROOT",
    "PIP_TARGET",
    "PIP_VERBOSE",
    "PYTHONHOME",
    "PYTHONPATH",
)
# glibc 2.x releases whose wheels Debian bookworm (2.36) and later can load.
_OLDEST_GLIBC, _NEWEST_GLIBC = 5, 36
_SAFELY = ("--require-hashes", "--only-binary", ":all:", "--no-deps")


def cache_folder() -> Path:
    """Where everything lives that can be made again. Follows XDG_CACHE_HOME."""
    return platformdirs.user_cache_path("ml-compiler-harness", appauthor=False)


def install(
    lock: Path,
    target: Path,
    *,
    error: type[HarnessError],
    subject: str,
    sources: Sequence[str] = (),
) -> None:
    """Install what ``lock`` pins into the directory ``target``, uncompiled.

    ``sources``: packages of plain Python that are published without a wheel. They are unpacked by
    :mod:`harness.unpacked`; nothing of theirs runs.
    ``subject`` begins the line of the ``error`` that is raised when this fails.
    """
    command = ["install", *_SAFELY, "--no-compile", "--target", str(target), "-r", str(lock)]
    if not sources:
        _pip(command, target.parent, error, subject)
        return
    # No cache: a wheel that somebody else built would be taken, and ours would be left to others.
    command += ["--no-binary", ",".join(sources), "--no-build-isolation", "--use-pep517"]
    command += ["--no-cache-dir"]
    with tempfile.TemporaryDirectory(prefix="backend-", dir=target.parent) as folder:
        backend = Path(folder, "setuptools")
        backend.mkdir()
        (backend / "__init__.py").touch()
        shutil.copyfile(Path(__file__).with_name("unpacked.py"), backend / "build_meta.py")
        _pip(command, target.parent, error, subject, {"PYTHONPATH": folder})


def download(
    requirement: str,
    hashes: Sequence[str],
    folder: Path,
    *,
    error: type[HarnessError],
    subject: str,
) -> Path:
    """Download the wheel of ``requirement`` (``name==version``) into the empty ``folder``.

    The folder's parent must be private as well: it is where pip works.

    Only its files matter, never its code, so that it need not suit this Python's version.
    """
    lock = folder.parent / f"{folder.name}.lock"
    digests = " ".join(f"--hash=sha256:{digest}" for digest in hashes)
    lock.write_text(f"{requirement} {digests}\n")
    command = ["download", *_SAFELY, "--ignore-requires-python"]
    _pip([*command, "-d", str(folder), "-r", str(lock)], folder.parent, error, subject)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise error(
            f"{subject}: pip left {len(wheels)} wheels of {requirement}, not one", "try again"
        )
    return wheels[0]


@dataclass(frozen=True)
class Python:
    """A Python to download wheels for: ``version`` such as 3.11, ``machine`` such as aarch64."""

    version: str
    machine: str


def download_all(
    lock: Path, folder: Path, python: Python, *, error: type[HarnessError], subject: str
) -> None:
    """Download every wheel that ``lock`` pins, for another Python than ours, into ``folder``."""
    command = ["download", *_SAFELY, "--python-version", python.version]
    command += ["--implementation", "cp"]
    for abi in (f"cp{python.version.replace('.', '')}", "abi3", "none"):
        command += ["--abi", abi]
    for glibc in range(_OLDEST_GLIBC, _NEWEST_GLIBC + 1):
        command += ["--platform", f"manylinux_2_{glibc}_{python.machine}"]
    for alias in ("manylinux1", "manylinux2010", "manylinux2014", "linux"):
        command += ["--platform", f"{alias}_{python.machine}"]
    _pip([*command, "-d", str(folder), "-r", str(lock)], folder.parent, error, subject)


def pip_environment(outer: Mapping[str, str]) -> dict[str, str]:
    """The environment that pip runs in: the user's, less what would change its task."""
    kept = {name: value for name, value in outer.items() if name not in _NOT_OURS}
    return kept | {
        "LC_ALL": "C.UTF-8",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_COLOR": "1",
        "PIP_NO_INPUT": "1",
        "PIP_PROGRESS_BAR": "off",
        "PIP_USER": "0",
    }


def _pip(
    arguments: list[str],
    folder: Path,
    error: type[HarnessError],
    subject: str,
    more: Mapping[str, str] | None = None,
) -> None:
    """Run pip, with ``more`` in its environment.

    It unpacks within ``folder``, which is on the disk where the result belongs.
    -P: nothing in the working directory shadows pip. The directory itself stays the user's, since
    settings may hold paths relative to it.
    """
    with tempfile.TemporaryDirectory(prefix="pip-", dir=folder) as scratch:
        done = run(
            [sys.executable, "-P", "-m", "pip", *arguments],
            env={**pip_environment(os.environ), "TMPDIR": scratch, **(more or {})},
            timeout=TIMEOUT_SECONDS,
            tail_bytes=_OUTPUT_BYTES,
        )
    if done.timed_out:
        raise error(
            f"{subject}: pip did not finish within {TIMEOUT_SECONDS} s",
            "check the network, try again",
        )
    if done.exit_code != 0:
        what, hint = distil(done.output)
        raise error(f"{subject}: {what}", hint)


_NETWORK = re.compile(
    r"Retrying \(Retry|Max retries exceeded|NewConnectionError|Connection refused|ProxyError"
    r"|Name or service not known|name resolution|Network is unreachable|timed out|SSLError"
)
_MISMATCH = re.compile(
    r"^ ++(?P<package>[^\s=:;]++(?:==[^\s:;]++)?)[^\n]*:\n +Expected", re.MULTILINE
)
_GOT = re.compile(r"^ +Got +(?P<got>[0-9a-f]+)$", re.MULTILINE)
_NOT_FOUND = re.compile(r"No matching distribution found for (?P<package>[^\s;]+)")
_NONE_OFFERED = re.compile(r"\(from versions: none\)")


def distil(output: str) -> tuple[str, str]:
    """(what happened, what to do), one line each, out of pip's whole output."""
    if "DO NOT MATCH THE HASHES" in output:
        package, got = _MISMATCH.search(output), _GOT.search(output)
        named = printable(package["package"], 200) if package else "a package"
        what = f"{named} does not match its locked hash"
        return what + (f": got sha256 {got['got'][:64]}" if got else ""), (
            "do not use that file; find out who changed it, and lock it anew only if that was meant"
        )
    if re.search(r"No space left on device|Disk quota exceeded|Errno 28", output):
        return (
            "the disk is full",
            f"free some space where caches are kept (XDG_CACHE_HOME, now {cache_folder().parent})",
        )
    if "No module named pip" in output:
        return "this Python has no pip", f"run {sys.executable} -m ensurepip"
    missing = _NOT_FOUND.search(output)
    if _NETWORK.search(output) and (not missing or _NONE_OFFERED.search(output)):
        package_name = printable(missing["package"], 200) if missing else "a package"
        return f"{package_name} cannot be fetched: the package index does not answer", (
            "check the network, or point pip at a mirror or a folder of wheels"
            " (PIP_INDEX_URL, PIP_FIND_LINKS)"
        )
    if missing:
        here = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {platform.machine()}"
        return f"no wheel of {printable(missing['package'], 200)} for {here}", (
            "use a Python and a machine that it was published for, or another version"
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    last = (errors or lines or ["it says nothing"])[-1]
    last = re.sub(r"://[^/@\s]+@", "://", last)  # no passwords
    return f"pip failed: {printable(last, 300)}", "correct the cause, then try again"
