"""Regenerating a stage from the stage above it with a tool that somebody else built.

A dump is a claim. A replay ties the binary to it: if an independent ``opt`` and ``llc`` make the
very same object from the IR that was dumped, then the object holds what that IR says, whatever
the toolchain did in between. It catches a poisoned back end, and a dumper that lies.

A tool that makes something else need not be an alarm: LLVM 22.1.8 picks other instructions than
22.1.0 here and there. ``replay.toml`` names a replayer with exactly the LLVM of each release, which
then is asked too (:mod:`harness.exact`).

Sources are replayed in their *normalized* form, for builds whose IR differs only in what a proven
rule renames; so each distinct program is replayed once, not once a build. This cannot hide
anything: the result must equal the build's own object, byte for byte, and a normalizer that lost
something would make it differ.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from harness import opened
from harness.build import inside, last_lines, watched
from harness.components import TOOLCHAIN_ROOT
from harness.engines.interface import Engine, Mount, RunOutcome, RunSpec
from harness.environments import Environment
from harness.errors import StoreError, ToolchainError
from harness.models import BuildRecord, Limits, ReplayResult, Toolchain, Verdict
from harness.store import Store
from harness.text import printable
from harness.tomlfile import read_toml
from harness.variations import control

_ROOT = "/replay"


@dataclass(frozen=True)
class Recipe:
    """One way to regenerate ``result`` from ``sources`` (both as ``stage/artifact``).

    ``steps`` are command lines with placeholders; the file ``output`` of the last one is held
    against ``result``. ``with_``: whose tools run, the independent replayer's or the linker's.
    ``optional``: runs only where the policy or an explanation needs it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", populate_by_name=True)

    name: str
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    result: str
    steps: Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)]
    output: str
    with_: Annotated[Literal["replayer", "linker"], Field(alias="with")]
    optional: bool = False

    @property
    def stage(self) -> str:
        return self.result.partition("/")[0]


@dataclass(frozen=True)
class _File:
    __pydantic_config__ = ConfigDict(extra="forbid")

    replay: tuple[Recipe, ...]
    exact: dict[str, str] = field(default_factory=dict)


_ADAPTER = TypeAdapter(_File)


@dataclass(frozen=True)
class Replayer:
    """A toolchain whose tools regenerate stages, and its environment on this machine."""

    toolchain: Toolchain
    environment: Environment


@dataclass(frozen=True)
class Job:
    """One replay to run, for all builds that share its sources.

    ``sources``: (``stage/artifact``, digest of the normalized bytes).
    """

    recipe: Recipe
    replayer: Replayer
    target: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Regenerated:
    """What a job made: the digest of its output, or None and why."""

    sha256: str | None
    detail: str
    commands: tuple[tuple[str, ...], ...]
    wall_seconds: float
    opened: str | None = None  # digest in the store: which of the replayer's files were opened
    remembered: str | None = None  # the day on which it was made, if not in this run


def load_recipes(folder: Path) -> tuple[Recipe, ...]:
    """The recipes in ``replay.toml`` of a compiler's folder; none where there is no such file."""
    path = folder / "replay.toml"
    if not path.exists():
        return ()
    recipes = read_toml(path, _ADAPTER, ToolchainError).replay
    names = [recipe.name for recipe in recipes]
    if duplicates := {name for name in names if names.count(name) > 1}:
        name = printable(sorted(duplicates)[0], 80)
        raise ToolchainError(f"{path}: replay {name!r} is there twice")
    return recipes


def load_exact(folder: Path) -> dict[str, str]:
    """``exact`` of ``replay.toml``: release of the compiler → the replayer that has its LLVM."""
    path = folder / "replay.toml"
    return read_toml(path, _ADAPTER, ToolchainError).exact if path.exists() else {}


def command_lines(
    recipe: Recipe,
    toolchain: Toolchain,
    target: Mapping[str, str],
    root: str,
    inputs: str,
    out: str,
    python: str = "python3",
) -> tuple[tuple[str, ...], ...]:
    """The recipe's steps with every placeholder filled in. Pure.

    A tool that is a Python program is run by ``python``. Raises ToolchainError for a placeholder
    that nothing fills.
    """
    values = {**target, "root": root, "in": inputs, "out": out}
    lines = []
    for step in recipe.steps:
        line: list[str] = []
        for word in step:
            name = word[1:-1] if word.startswith("{") and word.endswith("}") else ""
            if name in toolchain.tools:
                tool = toolchain.tools[name]
                start = (python, "-I", "-S") if tool.path.endswith(".py") else ()
                line += [*start, f"{root}/{tool.path}", *tool.arguments]
                continue
            try:
                for _, wanted, how, conversion in Formatter().parse(word):
                    # A name and nothing else: `{in:>999999999}` would be a long word.
                    if wanted is not None and (wanted not in values or how or conversion):
                        raise KeyError(printable(wanted + (how or ""), 80))
                line.append(word.format_map(values))
            except (KeyError, ValueError) as error:
                raise ToolchainError(
                    f"replay {printable(recipe.name, 80)!r}: {printable(word, 200)!r} asks for "
                    f"{printable(str(error), 200)}, which {toolchain.name} does not have",
                    "Name a tool of the replayer or a key of the target.",
                ) from None
        lines.append(tuple(line))
    return tuple(lines)


def job_for(
    recipe: Recipe,
    replayer: Replayer,
    target: Mapping[str, str],
    normalized: Mapping[str, str],
) -> Job | None:
    """The job that regenerates ``recipe.result``; None if a source is not there.

    ``normalized`` maps each ``stage/artifact`` of a build to the digest to replay from.
    """
    if any(source not in normalized for source in recipe.sources):
        return None
    sources = tuple((source, normalized[source]) for source in recipe.sources)
    return Job(recipe, replayer, tuple(sorted(target.items())), sources)


def regenerate(
    job: Job, engine: Engine, store: Store, scratch: Path, limits: Limits
) -> Regenerated:
    """Run the job's steps in one fresh folder. ``scratch`` is empty; the caller removes it."""
    environment = job.replayer.environment
    roots = {} if environment.inside else {TOOLCHAIN_ROOT: watched(environment)}
    in_image: list[opened.Opened | None] = []
    with opened.start(roots) as recorder:
        made = _regenerate(job, engine, store, scratch, limits, in_image)
    seen = opened.merged(in_image) if environment.inside else recorder.result
    return replace(made, opened=store.add_bytes(opened.dump(seen)) if seen else None)


def _regenerate(
    job: Job,
    engine: Engine,
    store: Store,
    scratch: Path,
    limits: Limits,
    in_image: list[opened.Opened | None],
) -> Regenerated:
    """``in_image`` takes what each step opened in its image."""
    began = time.monotonic()
    inputs, out = scratch / "in", scratch / "out"
    inputs.mkdir()
    out.mkdir()
    for name, digest in job.sources:
        store.place(digest, inputs / name)
    environment = job.replayer.environment
    root = environment.root
    mounts: tuple[Mount, ...] = (Mount(inputs, f"{_ROOT}/in"),)
    if not environment.inside:
        mounts = (Mount(root, "/toolchain"), *mounts)
    lines = command_lines(
        job.recipe,
        job.replayer.toolchain,
        dict(job.target),
        engine.visible(root, "/toolchain"),
        engine.visible(inputs, f"{_ROOT}/in"),
        engine.visible(out, f"{_ROOT}/out"),
        engine.python,
    )

    def failed(why: str) -> Regenerated:
        return Regenerated(None, why, lines, time.monotonic() - began)

    for number, line in enumerate(lines):
        engine_scratch = scratch / f"engine-{number}"
        engine_scratch.mkdir()
        result = engine.run(
            RunSpec(
                argv=line,
                mounts=mounts,
                scratch=engine_scratch,
                out=out,
                out_target=f"{_ROOT}/out",
                variation=control(),
                limits=limits,
                image=environment.image,
                inside=inside(environment),
            )
        )
        in_image.append(result.opened)
        if result.outcome is not RunOutcome.EXITED or result.exit_code != 0:
            tool = Path(line[0]).name
            return failed(
                f"{tool} ended with {result.outcome} ({result.exit_code})\n"
                f"{result.detail}\n{last_lines(result.output)}".strip()
            )
    try:
        digest, _ = store.add(out / job.recipe.output)
    except StoreError as error:
        return failed(f"{job.recipe.output} was not made: {error.what}")
    return Regenerated(digest, "", lines, time.monotonic() - began)


def expected_by(recipe: Recipe, record: BuildRecord) -> str | None:
    """The digest of what the build left where the recipe's result belongs."""
    found = (a.sha256 for a in record.artifacts if f"{a.stage}/{a.name}" == recipe.result)
    return next(found, None)


def result_for(
    recipe: Recipe, record: BuildRecord, replayer: str, job: Job | None, made: Regenerated | None
) -> ReplayResult:
    """Hold what was regenerated against the build's own artifact. Bytes decide."""
    expected = expected_by(recipe, record)
    verdict, detail = Verdict.INCONCLUSIVE, ""
    if not expected:
        detail = f"the build left no {recipe.result}"
    elif job is None or made is None:
        detail = f"the build left no {' or no '.join(recipe.sources)}"
    elif made.sha256 is None:
        detail = made.detail
    elif made.sha256 == expected:
        verdict = Verdict.IDENTICAL
    else:
        verdict = Verdict.UNEXPLAINED
        detail = (
            f"{recipe.result} does not follow from {', '.join(recipe.sources)}: "
            f"{replayer} makes {made.sha256[:12]}…, the toolchain left {expected[:12]}…"
        )
    return ReplayResult(
        name=recipe.name,
        model=record.model,
        build=record.id,
        toolchain=record.toolchain,
        replayer=replayer,
        stage=recipe.stage,
        sources=recipe.sources,
        verdict=verdict,
        expected_sha256=expected or "",
        got_sha256=made.sha256 if made else None,
        commands=made.commands if made else (),
        wall_seconds=round(made.wall_seconds, 3) if made else 0.0,
        detail=detail,
        opened=made.opened if made else None,
        remembered=made.remembered if made else None,
    )


def key(job: Job) -> str:
    """Two jobs with the same key would do exactly the same."""
    parts: Sequence[str] = (
        repr(job.recipe),
        # The definition too: which program a tool is, and its arguments.
        job.replayer.toolchain.identity,
        job.replayer.environment.sha256,
        job.replayer.environment.image or "",
        repr(job.target),
        repr(job.sources),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
