"""``nightly.toml``: which models, toolchains, variations and policy one run takes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter

from harness.errors import UsageError
from harness.models import Policy, Strict
from harness.sources import ModelSource, parse_input
from harness.tomlfile import read_toml

MAX_BUILDS = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!_-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Variations:
    """``seed`` draws the values of every variation; ``builds`` is how many builds per toolchain."""

    __pydantic_config__ = Strict

    seed: int = 0
    builds: int = 2


@dataclass(frozen=True)
class Chosen:
    """Names of toolchains and replayers; an empty list leaves the general one as it is."""

    __pydantic_config__ = Strict

    toolchains: tuple[str, ...] = ()
    replayers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Excluded:
    """A toolchain that cannot build a model, and why. Every report of such a run says so."""

    model: str
    toolchain: str
    reason: str


@dataclass(frozen=True)
class Settings:
    """One run. Toolchains and replayers are still names; see :func:`harness.toolchains.find`.

    ``docker``: what a container engine takes instead, since it can run more. ``without``: what is
    not built.
    """

    models: tuple[ModelSource, ...]
    toolchains: tuple[str, ...]
    variations: Variations
    policy: Policy
    replayers: tuple[str, ...]
    docker: Chosen | None = None
    without: tuple[Excluded, ...] = ()

    def on(self, containers: bool) -> Settings:
        """As it is for an engine with or without container images."""
        docker = (self.docker if containers else None) or Chosen()
        toolchains = docker.toolchains or self.toolchains
        return replace(
            self,
            toolchains=toolchains,
            replayers=docker.replayers or self.replayers,
            without=tuple(each for each in self.without if each.toolchain in toolchains),
        )


@dataclass(frozen=True)
class _ModelTable:
    __pydantic_config__ = Strict

    name: str
    inputs: tuple[str, ...] = ()
    path: str | None = None
    package: str | None = None
    file: str | None = None
    sha256: str | None = None
    package_sha256: tuple[str, ...] = ()
    without: dict[str, str] = field(default_factory=dict)  # toolchain → why it cannot build this


@dataclass(frozen=True)
class _File:
    __pydantic_config__ = Strict

    model: tuple[_ModelTable, ...]
    toolchains: tuple[str, ...]
    variations: Variations = field(default_factory=Variations)
    policy: Policy = field(default_factory=Policy)
    replayers: tuple[str, ...] = ()
    docker: Chosen | None = None


_ADAPTER = TypeAdapter(_File)


def load(path: Path) -> Settings:
    """Read and check a settings file. A model's ``path`` is taken from the file's own folder."""
    file = read_toml(path, _ADAPTER, UsageError)
    if not file.model:
        raise UsageError(f"{path}: model: there is none", "add a [[model]]")
    if not file.toolchains:
        raise UsageError(f"{path}: toolchains: there is none", "name at least one")
    _unique(path, "model", (table.name for table in file.model))
    _unique(path, "toolchains", file.toolchains)
    _unique(path, "replayers", file.replayers)
    for key in ("toolchains", "replayers"):
        _unique(path, f"docker.{key}", getattr(file.docker or Chosen(), key))
    models = tuple(_model(path, index, table) for index, table in enumerate(file.model))
    without = _without(path, file)
    _check_numbers(path, file)
    return Settings(
        models, file.toolchains, file.variations, file.policy, file.replayers, file.docker, without
    )


def _model(path: Path, index: int, table: _ModelTable) -> ModelSource:
    where = f"{path}: model.{index}"
    if not _NAME.fullmatch(table.name):
        raise UsageError(
            f"{where}.name: {table.name!r} is no name",
            "use up to 64 letters, digits, '.', '_', '-'",
        )
    where = f"{path}: model {table.name}"
    if (table.path is None) == (table.package is None):
        raise UsageError(f"{where}: needs either path or package", "give one of the two")
    if table.path is not None:
        for key in ("file", "package_sha256"):
            if getattr(table, key):
                raise UsageError(
                    f"{where}: {key}: belongs to a package, not to a path", "remove it"
                )
    else:
        for key in ("file", "sha256", "package_sha256"):
            if not getattr(table, key):
                raise UsageError(f"{where}: {key}: missing key", "a package needs it: add it")
        if not _PACKAGE.fullmatch(table.package or ""):
            raise UsageError(
                f"{where}: package: {table.package!r} is not pinned", "write name==version"
            )
        parts = PurePosixPath(table.file or "").parts
        if (table.file or "").startswith("/") or ".." in parts or not parts:
            raise UsageError(
                f"{where}: file: {table.file!r} is no path inside the package", "correct the path"
            )
    for key, digests in (("sha256", (table.sha256,)), ("package_sha256", table.package_sha256)):
        if any(digest is not None and not _SHA256.fullmatch(digest) for digest in digests):
            raise UsageError(
                f"{where}: {key}: not a sha256", "give 64 lower-case hexadecimal digits"
            )
    inputs: dict[str, tuple[int, ...]] = {}
    for text in table.inputs:
        try:
            name, shape = parse_input(text)
        except UsageError as problem:
            raise UsageError(f"{where}: inputs: {problem.what}", problem.hint) from None
        if name in inputs:
            raise UsageError(f"{where}: inputs: {name!r} is given twice", "remove one")
        inputs[name] = shape
    return ModelSource(
        name=table.name,
        path=path.parent / table.path if table.path is not None else None,
        package=table.package,
        file=table.file,
        package_sha256=table.package_sha256,
        sha256=table.sha256,
        inputs=inputs,
    )


def _without(path: Path, file: _File) -> tuple[Excluded, ...]:
    """What models leave out. A toolchain that then builds nothing is an error."""
    known = dict.fromkeys(name for names in _lists(file).values() for name in names)
    found = []
    for table in file.model:
        where = f"{path}: model {table.name}: without"
        for name, reason in table.without.items():
            if name not in known:
                raise UsageError(
                    f"{where}: {name!r} is no toolchain of this file",
                    "correct it as toolchains or docker.toolchains has it, or remove it",
                )
            if not reason.strip():
                raise UsageError(f"{where}: {name!r} has no reason", "say why it cannot build it")
            found.append(Excluded(table.name, name, reason.strip()))
    for name in known:
        if all(name in table.without for table in file.model):
            raise UsageError(
                f"{path}: model: without: {name!r} is left out of every model",
                "remove it from toolchains and docker.toolchains, or let it build one",
            )
    return tuple(found)


def _lists(file: _File) -> dict[str, tuple[str, ...]]:
    """The lists of toolchains of which a run takes one, by their keys."""
    lists = {"toolchains": file.toolchains}
    if file.docker and file.docker.toolchains:
        lists["docker.toolchains"] = file.docker.toolchains
    return lists


def _check_numbers(path: Path, file: _File) -> None:
    if not 1 <= file.variations.builds <= MAX_BUILDS:
        raise UsageError(
            f"{path}: variations.builds: {file.variations.builds} is out of range",
            f"use 1 to {MAX_BUILDS}",
        )
    if not 0 <= file.variations.seed < 2**63:
        raise UsageError(f"{path}: variations.seed: is out of range", f"use 0 to {2**63 - 1}")
    at_hand = [
        ("min_builds", "this run", file.variations.builds),
        ("min_toolchains", "this run", len(file.toolchains)),
    ]
    for key, names in _lists(file).items():
        at_hand += [
            (
                "min_toolchains",
                f"model {table.name} with {key}",
                len(set(names) - set(table.without)),
            )
            for table in file.model
        ]
    for key, what, most in at_hand:
        value = getattr(file.policy, key)
        if not 1 <= value <= most:
            raise UsageError(
                f"{path}: policy.{key}: {value} can never be met: {what} has {most}",
                f"use 1 to {most}" if most else "let a toolchain build it",
            )
    for rule in fields(Policy):
        value = getattr(file.policy, rule.name)
        if isinstance(value, tuple):
            _unique(path, f"policy.{rule.name}", value)
    if file.policy.required_replays and not file.replayers:
        raise UsageError(
            f"{path}: replayers: missing key", "policy.required_replays needs it: add it"
        )


def _unique(path: Path, key: str, names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise UsageError(f"{path}: {key}: {name!r} is there twice", "remove one")
        seen.add(name)
