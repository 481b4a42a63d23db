"""One build in one fresh container → one build record.

What comes out is an attacker's: it is read only after every process of the build is dead, without
following links, within limits, and it must be exactly what its manifest says. Digests are taken
here, on the host, never inside.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from harness import opened
from harness.components import LINKER_ROOT, TOOLCHAIN_ROOT
from harness.engines.interface import Engine, Inside, Mount, RunOutcome, RunResult, RunSpec
from harness.engines.watch import MIN_FREE_BYTES
from harness.environments import Environment
from harness.errors import EngineError, StoreError
from harness.models import Artifact, BuildRecord, Limits, Outcome, Tool
from harness.plan import Build
from harness.store import Store
from harness.text import printable

CONTRACT = 1
UNSUPPORTED_EXIT = 3
PASSES = "passes"  # below the output folder; no stage can be called so where it was asked for
MAX_MANIFEST_BYTES = 4 * 2**20
_STAGE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}\Z")
_NAME = re.compile(
    r"[A-Za-z0-9_+][A-Za-z0-9._+-]{0,127}(/[A-Za-z0-9_+][A-Za-z0-9._+-]{0,127}){0,3}\Z"
)
_LAST_LINES = 8
_CLOCK_STEP = 0.05  # seconds: a file's time is that of the kernel's last tick


@dataclass(frozen=True)
class Linker:
    """The toolchain that a driver links with: its environment and its ``link`` tool."""

    environment: Environment
    tool: Tool


@dataclass(frozen=True)
class Installed:
    """A toolchain's environment on this machine, and that of the linker that it uses."""

    environment: Environment
    linker: Linker | None


@dataclass(frozen=True)
class _Stage:
    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    artifacts: Annotated[list[str], Field(max_length=20_000)]


@dataclass(frozen=True)
class Manifest:
    """What a driver says that it left behind, in stage order."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    contract: Annotated[int, Field(ge=0, le=1000)]
    compiler: str
    version: str
    stages: Annotated[list[_Stage], Field(min_length=1, max_length=256)]


_manifest: TypeAdapter[Manifest] = TypeAdapter(Manifest)


class MalformedOutputError(Exception):
    """The output is not what the driver contract asks for; the text says how."""


def run_build(
    build: Build,
    installed: Installed,
    engine: Engine,
    store: Store,
    scratch: Path,
    passes: Path | None = None,
) -> tuple[BuildRecord, bytes]:
    """Run one build; return its record and the tail of what it printed.

    ``scratch`` is an empty private folder; the caller removes it. The model is placed there from
    the store, verified. ``passes``: the driver is asked for what it has after every pass, and that
    is moved there, unread. Raises EngineError when the engine itself cannot run anything.
    """
    spec = _spec(build, installed, engine, store, scratch, passes is not None)
    with opened.start(_watched(installed)) as recorder:
        began = time.time()
        result = engine.run(spec)
    seen = recorder.result
    if spec.inside:
        seen = opened.merged((seen, result.opened)) or seen
    if result.outcome is RunOutcome.NOT_STARTED:
        raise EngineError(
            f"{engine.name} could not start {build.id}: {result.detail}",
            "`harness doctor` says what works on this machine.",
        )
    free = shutil.disk_usage(spec.out).free
    if result.outcome is RunOutcome.TOO_MUCH_OUTPUT and free < MIN_FREE_BYTES:
        raise StoreError(
            f"no space left: less than {MIN_FREE_BYTES >> 20} MiB are free in {store.root}",
            "Free some space, or use another --out folder.",
        )
    outcome, detail = _judge_run(result, spec.limits)
    stages: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    ends: dict[str, float] = {}
    if outcome is Outcome.BUILT:
        try:
            if passes is not None:
                _set_apart(spec.out / PASSES, passes)
            manifest = read_manifest(spec.out, build, spec.limits)
            stages = tuple(stage.name for stage in manifest.stages)
            ends = stage_ends(manifest, spec.out, began, time.time())
            artifacts = tuple(_collect(manifest, spec.out, store))
        except MalformedOutputError as error:
            outcome, detail = Outcome.MALFORMED, str(error)
            stages, artifacts, ends = (), (), {}
    record = BuildRecord(
        id=build.id,
        model=build.model.name,
        model_sha256=build.model.sha256,
        toolchain=build.toolchain.name,
        toolchain_identity=build.toolchain.identity,
        environment_sha256=installed.environment.sha256,
        compiler=build.toolchain.compiler,
        version=build.toolchain.version,
        variation=build.variation,
        engine=engine.name,
        isolation=engine.isolation,
        limits=spec.limits,
        command=result.command,
        host=_surroundings(installed),
        outcome=outcome,
        detail=detail,
        stages=stages,
        artifacts=artifacts,
        wall_seconds=round(result.wall_seconds, 3),
        cpu_seconds=round(result.cpu_seconds, 3),
        peak_memory_bytes=result.peak_memory_bytes,
        observed=result.observed,
        not_applied=result.not_applied,
        opened=store.add_bytes(opened.dump(seen)),
        stage_ends=ends,
    )
    return record, result.output


def _watched(installed: Installed) -> dict[str, opened.Root]:
    roots = {}
    if not installed.environment.inside:  # the engine sees what is opened in an image
        roots[TOOLCHAIN_ROOT] = watched(installed.environment)
    if installed.linker is not None:
        roots[LINKER_ROOT] = watched(installed.linker.environment)
    return roots


def watched(environment: Environment) -> opened.Root:
    return opened.Root(environment.root, environment.folders)


def inside(environment: Environment) -> tuple[Inside, ...]:
    """What an engine is to watch in the image of a toolchain that is part of one."""
    if not environment.inside:
        return ()
    return (Inside(TOOLCHAIN_ROOT, "/toolchain", environment.root),)


def _surroundings(installed: Installed) -> dict[str, str]:
    image = installed.environment.image
    return host_facts() | ({"image": image} if image else {})


def host_facts() -> dict[str, str]:
    """What of this machine could matter to a build, and identifies nobody."""
    return {
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cpu": _cpu_model(),
        "cpus": str(os.cpu_count() or 0),
        "python": platform.python_version(),
        "libc": "-".join(platform.libc_ver()),
    }


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split("\n"):
            if line.startswith(("model name", "Model")):
                return printable(line.partition(":")[2].strip(), 100)
    except OSError:
        pass
    return "unknown"


def _set_apart(source: Path, target: Path) -> None:
    """Move what is no artifact; a link is moved itself."""
    try:
        source.rename(target)
    except FileNotFoundError:
        raise MalformedOutputError(f"left no {source.name}, although it was asked for") from None
    except OSError as error:
        raise MalformedOutputError(f"{source.name} cannot be moved: {error.strerror}") from None


def _spec(
    build: Build,
    installed: Installed,
    engine: Engine,
    store: Store,
    scratch: Path,
    passes: bool = False,
) -> RunSpec:
    root = build.variation.build_path
    model_folder = scratch / "model"
    store.place(build.model.sha256, model_folder / "model.onnx")
    for location, digest in build.model.external:
        store.place(digest, model_folder / location)
    driver_folder = scratch / "driver"
    driver_folder.mkdir()
    driver = driver_folder / "driver.py"
    driver.write_bytes(Path(build.toolchain.driver or "").read_bytes())

    mounts = [
        Mount(model_folder, f"{root}/in", spread=True),
        Mount(driver_folder, f"{root}/driver"),
    ]
    if not installed.environment.inside:
        mounts.append(Mount(installed.environment.root, "/toolchain", spread=True))
    tools: dict[str, object] = {}
    if installed.linker is not None:
        linker_root = installed.linker.environment.root
        mounts.append(Mount(linker_root, "/linker"))
        seen = engine.visible(linker_root, "/linker")
        tool = installed.linker.tool
        tools["link"] = {"root": seen, "argv": [f"{seen}/{tool.path}", *tool.arguments]}

    out = scratch / "out"
    out.mkdir()
    request = driver_folder / "request.json"
    request.write_text(
        json.dumps(
            {
                "contract": CONTRACT,
                "model": engine.visible(model_folder, f"{root}/in") + "/model.onnx",
                "inputs": build.model.inputs,
                "target": build.toolchain.target,
                "out": engine.visible(out, f"{root}/out"),
                "tools": tools,
                **({"passes": True} if passes else {}),
            },
            indent=1,
        ),
        encoding="utf-8",
    )
    seen_driver = engine.visible(driver_folder, f"{root}/driver")
    engine_scratch = scratch / "engine"
    engine_scratch.mkdir()
    return RunSpec(
        argv=(engine.python, f"{seen_driver}/driver.py", f"{seen_driver}/request.json"),
        mounts=tuple(mounts),
        scratch=engine_scratch,
        out=out,
        out_target=f"{root}/out",
        variation=build.variation,
        limits=build.toolchain.limits,
        search_path=engine.visible(installed.environment.root, "/toolchain"),
        image=installed.environment.image,
        inside=inside(installed.environment),
    )


_LIMIT_WORDS = {
    RunOutcome.TIMED_OUT: "did not finish within {0.wall_seconds} s",
    RunOutcome.TOO_MUCH_MEMORY: "used more than {0.memory_bytes} bytes of memory",
    RunOutcome.TOO_MANY_PROCESSES: "started more than {0.processes} processes",
    RunOutcome.TOO_MUCH_OUTPUT: "wrote more than {0.output_bytes} bytes",
    RunOutcome.TOO_MANY_FILES: "wrote more than {0.output_files} files",
}


def _judge_run(result: RunResult, limits: Limits) -> tuple[Outcome, str]:
    last = last_lines(result.output)
    if result.outcome in _LIMIT_WORDS:
        words = _LIMIT_WORDS[result.outcome].format(limits)
        timed_out = result.outcome is RunOutcome.TIMED_OUT
        return (Outcome.TIMED_OUT if timed_out else Outcome.LIMIT), words
    if result.exit_code == 0:
        return Outcome.BUILT, ""
    if result.exit_code == UNSUPPORTED_EXIT:
        return Outcome.UNSUPPORTED, last
    if result.outcome is RunOutcome.SIGNALLED:
        return Outcome.FAILED, f"killed by signal {-(result.exit_code or 0)}\n{last}".strip()
    return Outcome.FAILED, f"exit code {result.exit_code}\n{last}".strip()


def last_lines(output: bytes) -> str:
    """The last lines that a program printed, safe to show."""
    lines = [line for line in output.split(b"\n") if line.strip()]
    return "\n".join(printable(line.rstrip(b"\r"), 300) for line in lines[-_LAST_LINES:])


def read_manifest(out: Path, build: Build, limits: Limits) -> Manifest:
    """The manifest in ``out``, which must name every file that is there, and no other."""
    path = out / "manifest.json"
    try:
        found = os.lstat(path)
    except OSError as error:
        raise MalformedOutputError("left no manifest.json") from error
    if not stat.S_ISREG(found.st_mode):
        raise MalformedOutputError("manifest.json is not a regular file")
    if found.st_size > MAX_MANIFEST_BYTES:
        raise MalformedOutputError(f"manifest.json is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            manifest = _manifest.validate_json(file.read(MAX_MANIFEST_BYTES + 1), strict=True)
    except OSError as error:
        raise MalformedOutputError(f"manifest.json cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise MalformedOutputError(
            f"manifest.json is broken: {printable(first['msg'], 200)} at {printable(where, 100)}"
        ) from error

    if manifest.contract != CONTRACT:
        raise MalformedOutputError(
            f"manifest.json speaks contract {manifest.contract}, not {CONTRACT}"
        )
    said = (manifest.compiler, manifest.version)
    if said != (build.toolchain.compiler, build.toolchain.version):
        raise MalformedOutputError(
            f"manifest.json names {printable('/'.join(said), 100)}, "
            f"not {build.toolchain.compiler}/{build.toolchain.version}"
        )
    listed: list[str] = []
    for stage in manifest.stages:
        if not _STAGE.match(stage.name):
            raise MalformedOutputError(f"stage name {printable(stage.name, 80)!r} is not allowed")
        if not stage.artifacts:
            raise MalformedOutputError(f"stage {stage.name} lists no artifact")
        for name in stage.artifacts:
            if not _NAME.match(name):
                raise MalformedOutputError(f"artifact name {printable(name, 80)!r} is not allowed")
            listed.append(f"{stage.name}/{name}")
    if len({stage.name for stage in manifest.stages}) != len(manifest.stages):
        raise MalformedOutputError("manifest.json lists a stage twice")
    if len(set(listed)) != len(listed):
        raise MalformedOutputError("manifest.json lists an artifact twice")

    present = {*_files(out, limits)} - {"manifest.json"}
    if missing := sorted(set(listed) - present):
        raise MalformedOutputError(f"{printable(missing[0], 200)} is listed but not there")
    if unlisted := sorted(present - set(listed)):
        raise MalformedOutputError(f"{printable(unlisted[0], 200)} is there but not listed")
    return manifest


def _files(out: Path, limits: Limits) -> Iterator[str]:
    """Relative paths of all files below ``out``; anything but files and folders is refused."""
    pending = [""]
    count = 0
    size = 0
    while pending:
        folder = pending.pop()
        try:
            entries = os.scandir(out / folder)
        except OSError as error:
            raise MalformedOutputError(
                f"folder {printable(folder, 200)} cannot be read: {error.strerror}"
            ) from error
        with entries:
            for entry in entries:
                count += 1
                if count > limits.output_files:
                    raise MalformedOutputError(f"more than {limits.output_files} files")
                name = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError as error:  # a folder that may be listed but not entered
                    raise MalformedOutputError(
                        f"{printable(name, 200)} cannot be read: {error.strerror}"
                    ) from error
                if stat.S_ISDIR(found.st_mode):
                    if name.count("/") > 8:
                        raise MalformedOutputError("folders are nested more than 8 deep")
                    pending.append(name)
                elif stat.S_ISREG(found.st_mode):
                    size += found.st_size
                    if size > limits.output_bytes:
                        raise MalformedOutputError(f"more than {limits.output_bytes} bytes")
                    yield name
                else:
                    kind = "link" if stat.S_ISLNK(found.st_mode) else "special file"
                    raise MalformedOutputError(f"{printable(name, 200)} is a {kind}, not a file")


def stage_ends(manifest: Manifest, out: Path, began: float, ended: float) -> dict[str, float]:
    """Seconds from ``began`` to the newest change of each stage's files, as the kernel noted it.

    ``began`` and ``ended`` are Unix times of this machine. A varied clock does not change what the
    kernel notes, but a program can set the time of its files: a time outside the run is left out,
    one within it may still be untrue.
    """
    found = {}
    for stage in manifest.stages:
        try:
            newest = max(os.lstat(out / stage.name / name).st_mtime for name in stage.artifacts)
        except OSError:
            continue
        if began - _CLOCK_STEP <= newest <= ended + _CLOCK_STEP:
            found[stage.name] = round(max(newest - began, 0.0), 3)
    return found


def _collect(manifest: Manifest, out: Path, store: Store) -> Iterator[Artifact]:
    for stage in manifest.stages:
        for name in sorted(stage.artifacts):
            path = out / stage.name / name
            try:
                digest, size = store.add(path)
            except StoreError as error:
                if "no space" in error.what:
                    raise
                raise MalformedOutputError(f"{stage.name}/{name} cannot be read") from error
            yield Artifact(stage.name, name, size, digest)
