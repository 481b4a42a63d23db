"""Container images without a registry: base root file systems from Debian's packages, and
toolchains built upon them from files that the host downloaded and checked.

Everything is kept by the container engine under a tag that names its inputs, and found there
again: nothing is built twice. Records name an image by its id, a digest over all of its content.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import json
import os
import platform
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from harness.engines.daemon import Daemon
from harness.environments import Environment, prepare
from harness.errors import EngineError, ToolchainError
from harness.models import Image
from harness.packages import Python, cache_folder, download_all
from harness.process import run
from harness.pruning import used
from harness.text import printable
from harness.toolchains import Definition
from harness.trees import listing, tree_digest

FORMAT = 1  # of what is made here; a change makes all of it anew
EPOCH = 1_764_547_200  # SOURCE_DATE_EPOCH: the newest time that any file in an image has
REPOSITORY = "ml-compiler-harness"
LABEL = "ml-compiler-harness.image"
DEFAULT_BASE = "bookworm-amd64"  # for toolchains that bring an environment and no image
SECONDS = 3600
# What says which system an image holds, and what was installed; in an image, links count as absent.
SYSTEM_FILES = ("etc/os-release", "usr/lib/os-release", "var/lib/dpkg/status")
MAX_SYSTEM_FILE_BYTES = 64 * 2**20
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_STEP = re.compile(r"---> ([0-9a-f]{12,64})")  # the classic builder, after each step

Say = Callable[[str], None]


@dataclass(frozen=True)
class Base:
    """A Debian root file system: ``arch`` in Debian's words, ``python`` what it brings."""

    suite: str
    arch: str
    packages: tuple[str, ...]
    python: str

    @property
    def platform(self) -> str:
        return f"linux/{self.arch}"

    @property
    def machine(self) -> str:
        return {"amd64": "x86_64", "arm64": "aarch64"}[self.arch]


_PYTHON = ("libfaketime", "python3", "python3-pip", "tzdata")
BASES = {
    "bookworm-amd64": Base("bookworm", "amd64", _PYTHON, "3.11"),
    "trixie-amd64": Base("trixie", "amd64", _PYTHON, "3.13"),
    "bookworm-arm64": Base("bookworm", "arm64", _PYTHON, "3.11"),
    "trixie-llvm-amd64": Base(
        "trixie", "amd64", ("libfaketime", "llvm-22", "python3", "tzdata"), "3.13"
    ),
}


def say_nothing(_line: str) -> None:
    """The default for ``say``."""


# Base root file systems


def ensure_base(daemon: Daemon, name: str, say: Say = say_nothing) -> str:
    """The id of the base image ``name``, made if it is not there."""
    tag = base_tag(name)
    with _lock():
        found = daemon.image(tag)
        if found is None:
            say(f"base {name}: making it from Debian's packages")
            with tempfile.TemporaryDirectory(prefix="base-", dir=_work()) as folder:
                layer = Path(folder, "layer.tar")
                bootstrap(name, layer)
                archive = Path(folder, "image.tar")
                pack(BASES[name], layer, tag, archive)
                daemon.load(archive)
            found = daemon.image(tag)
    if found is None:
        raise EngineError(f"Docker took base {name} and does not know it", "run again")
    return str(found["Id"])


def use_base(daemon: Daemon, name: str, reference: str) -> str:
    """Make the user's own image the base ``name``; it must be pinned and present."""
    if not re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", reference):
        raise ToolchainError(
            f"base image {reference!r} is not pinned", "write NAME@sha256:DIGEST: a tag can move"
        )
    found = daemon.image(reference)
    if found is None:
        raise ToolchainError(f"base image {reference} is not here", f"docker pull {reference}")
    if found.get("Architecture") != BASES[name].arch:
        raise ToolchainError(
            f"base image {reference} is for {found.get('Architecture')}, not {BASES[name].arch}",
            "name the image of the other architecture",
        )
    repository, _, tag = base_tag(name).partition(":")
    daemon.tag(str(found["Id"]), repository, tag)
    return str(found["Id"])


def base_tag(name: str) -> str:
    content = f"{FORMAT} {EPOCH} {BASES[name]!r} {bootstrap_command(BASES[name], '')!r}"
    return f"{REPOSITORY}/base:{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def again(daemon: Daemon, name: str) -> tuple[str, str]:
    """(digest of the base's layer as it is, digest of the same base made anew now)."""
    found = daemon.image(ensure_base(daemon, name)) or {}
    with tempfile.TemporaryDirectory(prefix="base-", dir=_work()) as folder:
        layer = Path(folder, "layer.tar")
        bootstrap(name, layer)
        return str(found["RootFS"]["Layers"][0]), f"sha256:{_sha256(layer)}"


def bootstrap_command(base: Base, target: str) -> tuple[str, ...]:
    """What makes the root file system, without what changes from run to run. Pure."""
    dropped = ("doc", "info", "lintian", "locale", "man")
    return (
        *("mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", "--components=main"),
        f"--architectures={base.arch}",
        f"--include={','.join(base.packages)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in dropped),
        '--customize-hook=rm -rf "$1"/var/log/* "$1"/var/cache/* "$1"/var/lib/apt/lists'
        ' "$1"/var/lib/dpkg/*-old "$1"/etc/resolv.conf "$1"/etc/hostname',
        *(base.suite, target),
    )


def bootstrap(name: str, target: Path) -> None:
    """Write the root file system of base ``name`` to ``target``, an uncompressed tar file."""
    base = BASES[name]
    reason = bootstrap_problem(base)
    if reason is not None:
        raise ToolchainError(f"base {name}: {reason[0]}", reason[1])
    command = [*bootstrap_command(base, str(target))]
    if mirror := os.environ.get("DEBIAN_MIRROR"):
        command.append(mirror)
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(EPOCH), "TZ": "UTC"}
    done = run(command, env=environment, timeout=SECONDS)
    if done.timed_out or done.exit_code:
        lines = [line.strip() for line in done.output.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("E:")] or lines[-1:]
        said = printable(errors[0], 300) if errors else f"exit code {done.exit_code}"
        raise ToolchainError(
            f"base {name}: mmdebstrap failed: {said}",
            "check the network, or name another mirror (DEBIAN_MIRROR)",
        )


def bootstrap_problem(base: Base) -> tuple[str, str] | None:
    """(why ``base`` cannot be made on this machine, what to do), or None."""
    if shutil.which("mmdebstrap") is None:
        return "mmdebstrap is missing", "apt-get install mmdebstrap"
    emulator = Path(f"/proc/sys/fs/binfmt_misc/qemu-{base.machine}")
    if base.machine != platform.machine() and not emulator.exists():
        return (
            f"nothing runs {base.machine} programs here",
            "apt-get install qemu-user-static binfmt-support arch-test",
        )
    return None


def pack(base: Base, layer: Path, tag: str, target: Path) -> None:
    """Write an image of one layer as ``docker load`` takes it. The same layer, the same id."""
    time = "2025-12-01T00:00:00Z"
    diff = _sha256(layer)
    config = json.dumps(
        {
            "architecture": base.arch,
            "os": "linux",
            "created": time,
            "config": {"Env": [_PATH], "Cmd": ["/bin/sh"], "Labels": {LABEL: tag}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff}"]},
            "history": [{"created": time, "created_by": f"mmdebstrap {base.suite}"}],
        },
        sort_keys=True,
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": name, "RepoTags": [tag], "Layers": [f"{diff}/layer.tar"]}]
    with tarfile.open(target, "w") as archive:
        _add_bytes(archive, name, config)
        _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())
        _add_file(archive, f"{diff}/layer.tar", layer)


# Toolchains


def ensure(
    daemon: Daemon, definition: Definition, say: Say = say_nothing, buildkit: bool = False
) -> str:
    """The id of the image of ``definition``, built if it is not there.

    For a toolchain without an image: that of the default base, which its environment goes into.
    """
    image = definition.image
    if image is None:
        return ensure_base(daemon, DEFAULT_BASE, say)
    if image.dockerfile is None:
        return _present(daemon, definition, image)
    base = ensure_base(daemon, image.base or DEFAULT_BASE, say)
    tag = toolchain_tag(definition, image, base)
    with _lock():
        found = daemon.image(tag)
        if found is None:
            say(f"{definition.name}: building its image")
            _build(daemon, definition, image, tag, say, buildkit)
            found = daemon.image(tag)
    if found is None:
        raise EngineError(f"Docker built {definition.name} and does not know it", "run again")
    return str(found["Id"])


def installed(daemon: Daemon, definition: Definition, say: Say = say_nothing) -> Environment:
    """``definition`` ready to run in a container."""
    image = ensure(daemon, definition, say)
    if definition.image is None:
        return replace(prepare(definition, say=say), image=image)
    root = _exported(daemon, image, definition.name, say)
    return Environment(root, image.removeprefix("sha256:"), image, inside=True)


def problem(daemon: Daemon, definitions: Sequence[Definition]) -> str | None:
    """Why the images of ``definitions`` neither exist nor can be built here; None if all can."""
    for definition in definitions:
        image = definition.image or Image(dockerfile="", base=DEFAULT_BASE)
        if image.dockerfile is None:
            if daemon.image(image.digest or image.reference or "") is None:
                return f"the image of {definition.name} is not here"
            continue
        name = image.base or DEFAULT_BASE
        if daemon.image(base_tag(name)) is None:
            reason = bootstrap_problem(BASES[name])
            if reason is not None:
                return f"base {name} cannot be made: {reason[0]} ({reason[1]})"
    return None


def toolchain_tag(definition: Definition, image: Image, base: str) -> str:
    """Names an image by its inputs."""
    lock = _sha256(Path(definition.lock)) if definition.lock else ""
    dockerfile = _sha256(Path(image.dockerfile or ""))
    content = f"{FORMAT} {EPOCH} {base} {lock} {dockerfile} {image.platform}"
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f"{REPOSITORY}/{definition.compiler}:{digest[:24]}"


def _exported(daemon: Daemon, image: str, name: str, say: Say) -> Path:
    """A copy of an image's /toolchain, with the listing that environments have. Nothing runs it:
    it is what independence is measured on. Links that leave it are left out. Beside it, in
    ``system``, what names the image's system and its packages."""
    place = cache_folder() / "images" / image.removeprefix("sha256:")[:24]
    with FileLock(_work() / f"{place.name}.lock"):
        if not place.exists():
            say(f"{name}: copying its files out of the image, to look at")
            with tempfile.TemporaryDirectory(prefix=".copy-", dir=_work()) as work:
                new = Path(work, "new")
                (new / "root").mkdir(parents=True)
                with tempfile.TemporaryFile(dir=work) as archive:
                    daemon.copy_out(image, "/toolchain", archive)
                    if archive.tell():
                        archive.seek(0)
                        with tarfile.open(fileobj=archive) as files:
                            files.extractall(work, filter=_harmless)  # noqa: S202 - filtered
                        Path(work, "toolchain").rename(new / "root")
                entries = listing(new / "root")
                complete = {"toolchain": name, "sha256": tree_digest(entries), "entries": entries}
                (new / ".complete.json").write_text(json.dumps(complete))
                new.rename(place)
        if not (place / "system").exists():
            with tempfile.TemporaryDirectory(prefix=".copy-", dir=_work()) as work:
                _copy_system(daemon, image, Path(work, "system"))
                Path(work, "system").rename(place / "system")
    used(place)
    return place / "root"


def _copy_system(daemon: Daemon, image: str, target: Path) -> None:
    """Copy those of SYSTEM_FILES that are regular files of an image, and not too large."""
    target.mkdir()
    for name in SYSTEM_FILES:
        with tempfile.TemporaryFile(dir=target.parent) as archive:
            daemon.copy_out(image, f"/{name}", archive)
            if not archive.tell():
                continue
            archive.seek(0)
            with tarfile.open(fileobj=archive) as files:
                member = files.next()
                # An image is hostile: a link would be followed on this machine.
                if member is None or not member.isfile() or member.size > MAX_SYSTEM_FILE_BYTES:
                    continue
                content = files.extractfile(member)
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).write_bytes(content.read() if content else b"")


def _harmless(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    try:
        return tarfile.data_filter(member, folder)
    except tarfile.FilterError:
        return None


def _present(daemon: Daemon, definition: Definition, image: Image) -> str:
    """A user's own image: it is taken as it is, and must be the one that is pinned."""
    pinned = image.digest or image.reference or ""
    found = daemon.image(pinned)
    if found is None:
        hint = f"docker pull {pinned}" if image.reference else "docker load it"
        raise ToolchainError(f"{definition.name}: image {pinned} is not here", hint)
    if image.digest and found["Id"].removeprefix("sha256:") != image.digest.removeprefix("sha256:"):
        raise ToolchainError(
            f"{definition.name}: {pinned} is not the id of an image",
            "write the id that `docker images --no-trunc` shows",
        )
    told = f"{found.get('Os')}/{found.get('Architecture')}"
    if told != image.platform:
        raise ToolchainError(
            f"{definition.name}: its image is for {told}, not {image.platform}",
            "correct image.platform",
        )
    return str(found["Id"])


def _build(
    daemon: Daemon, definition: Definition, image: Image, tag: str, say: Say, buildkit: bool
) -> None:
    base = BASES[image.base or DEFAULT_BASE]
    arguments = {
        "BASE_IMAGE": base_tag(image.base or DEFAULT_BASE),
        "SOURCE_DATE_EPOCH": str(EPOCH),
    }
    with tempfile.TemporaryDirectory(prefix="context-", dir=_work()) as folder:
        context = Path(folder, "context.tar")
        with tarfile.open(context, "w") as archive:
            _add_file(archive, "Dockerfile", Path(image.dockerfile or ""))
            if definition.lock:
                _add_file(archive, "requirements.lock", Path(definition.lock))
                for wheel in _wheels(definition, base, say):
                    _add_file(archive, f"wheels/{wheel.name}", wheel)
        if buildkit:
            _build_with_buildkit(context, arguments, image, tag, definition)
            return
        options = {
            "tag": tag,
            "buildargs": arguments,
            "labels": {LABEL: tag},
            "network_mode": "none",
            "platform": image.platform,
            "rm": True,
            "forcerm": True,
            "pull": False,
            "nocache": True,
        }
        said: list[str] = []
        steps: list[str] = []
        began = _daemon_time(daemon)
        try:
            with context.open("rb") as stream:
                for line in daemon.build(stream, options):
                    said = [*said[-20:], line.strip()]
                    if step := _STEP.fullmatch(line.strip()):
                        steps.append(step[1])
        except EngineError as error:
            last = next((line for line in reversed(said) if "ERROR" in line), error.what)
            raise ToolchainError(
                f"{definition.name}: its image cannot be built: {printable(last, 300)}", error.hint
            ) from error
        finally:
            _remove_steps(daemon, steps, began)


def _daemon_time(daemon: Daemon) -> datetime.datetime:
    """A daemon that does not tell the time is in the far future: nothing is younger than that."""
    told = daemon.info().get("SystemTime") or "9999-12-31T00:00:00Z"
    return datetime.datetime.fromisoformat(str(told))


def _remove_steps(daemon: Daemon, steps: Sequence[str], began: datetime.datetime) -> None:
    """Remove the images that steps of a build left behind and that no tagged image is made of.

    ``steps``: their ids as the build printed them. A Dockerfile can print other ids, too: only
    what has no name and is younger than ``began`` is removed.
    """
    for step in reversed(steps):  # the last step of a stage first: the others are below it
        # Refused: it is what another image is made of. No time, or none that can be read: not ours.
        with contextlib.suppress(EngineError, KeyError, ValueError):
            found = daemon.image(step)
            if found is None or found.get("RepoTags") or found.get("RepoDigests"):
                continue
            if datetime.datetime.fromisoformat(str(found["Created"])) >= began:
                daemon.remove_image(str(found["Id"]))


def _build_with_buildkit(
    context: Path, arguments: dict[str, str], image: Image, tag: str, definition: Definition
) -> None:
    """By the command-line client, which alone speaks BuildKit's protocol."""
    command = ["docker", "build", "--network", "none", "--platform", image.platform, "--no-cache"]
    command += ["--tag", tag, "--label", f"{LABEL}={tag}", "--progress", "plain"]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    with tempfile.TemporaryDirectory(prefix="context-", dir=_work()) as folder:
        with tarfile.open(context) as archive:
            archive.extractall(folder, filter="data")
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        done = run([*command, folder], env=environment, timeout=SECONDS)
    if done.timed_out or done.exit_code:
        lines = [line.strip() for line in done.output.splitlines() if line.strip()]
        said = printable(lines[-1], 300) if lines else f"exit code {done.exit_code}"
        raise ToolchainError(
            f"{definition.name}: BuildKit cannot build its image: {said}",
            "without --buildkit the classic builder does it",
        )


def _wheels(definition: Definition, base: Base, say: Say) -> list[Path]:
    """The wheels of a lock for the Python and the architecture of ``base``, downloaded once."""
    lock = Path(definition.lock)
    key = hashlib.sha256(f"{_sha256(lock)} {base.python} {base.machine}".encode()).hexdigest()
    folder = cache_folder() / "wheels" / key[:24]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        say(f"{definition.name}: downloading its wheels")
        with tempfile.TemporaryDirectory(prefix=".wheels-", dir=folder.parent) as work:
            new = Path(work, "new")
            new.mkdir()
            python = Python(base.python, base.machine)
            download_all(lock, new, python, error=ToolchainError, subject=definition.name)
            new.rename(folder)
    used(folder)
    return sorted(folder.glob("*.whl"))


def _work() -> Path:
    """Where temporary files go: hundreds of megabytes, so not a memory file system."""
    folder = cache_folder() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lock() -> FileLock:
    return FileLock(_work() / "lock")


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    archive.addfile(_entry(name, len(data)), io.BytesIO(data))


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> None:
    with path.open("rb") as stream:
        archive.addfile(_entry(name, path.stat().st_size), stream)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, EPOCH, 0o644
    return entry


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
