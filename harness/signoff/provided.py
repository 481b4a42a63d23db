"""What a signed build needs to be done again: toolchain, environment, model and engine.

Each is made once, and held against what was signed: the files of a toolchain must make the identity
that was signed, its environment the digest, and the surroundings must be some that the harness
itself draws. A reason why something cannot be had is remembered, too.

Nothing of the bundle runs outside of an engine. A preparation script does so only where this
checkout makes the very same environment by it.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from harness import images, plan, toolchains
from harness.build import Installed, Linker
from harness.engines.docker import Docker
from harness.engines.interface import Engine, Mount, RunOutcome, RunSpec
from harness.environments import SCRIPT_SECONDS, Environment, prepare, run_plainly
from harness.errors import EngineError, HarnessError, ModelError, StoreError, ToolchainError
from harness.modelfile import check_model
from harness.models import Isolation, Limits, Model, Toolchain, Variation
from harness.places import HERE
from harness.process import Completed
from harness.signoff.bundle import Bundle
from harness.signoff.materials import Material, checked, lay_out
from harness.signoff.signed_builds import SignedBuild
from harness.store import Store, remove_tree
from harness.text import printable
from harness.toolchains import Definition
from harness.variations import LOCALES, VARIED, control, draw

K = TypeVar("K")
V = TypeVar("V")
Files = frozenset[tuple[str, str, bool]]  # as in SignedBuild.definitions
Say = Callable[[str], None]
Engines = Callable[[str], Engine]  # by name; EngineError where it does not work here
AUTO = "auto"  # the engine that was signed: Docker for a build in an image, else the sandbox
PLAIN = "plain"
MAX_DATA_BYTES = 64 * 2**30  # of one model's external data


class RefusedError(Exception):
    """Something that was signed and must not be built: why, in one line."""


@dataclass(frozen=True)
class Ready:
    """All that :func:`harness.build.run_build` takes."""

    build: plan.Build
    installed: Installed
    engine: Engine


class Provider:
    """``engine``: a name, or AUTO. ``weak``: whether an engine may isolate nothing. ``scratch`` is
    empty, and ours; the caller removes it.
    """

    def __init__(
        self, bundle: Bundle, engine: str, engines: Engines, weak: bool, store: Store,
        scratch: Path, say: Say,
    ) -> None:  # fmt: skip
        self.bundle, self.engine_name, self.engines, self.weak = bundle, engine, engines, weak
        self.store, self.scratch, self.say = store, scratch, say
        self.numbers = itertools.count()
        self.known: dict[Files, Mapping[str, Definition] | HarnessError] = {}
        self.models: dict[object, Model | HarnessError] = {}
        self.environments: dict[tuple[str, str], Environment | HarnessError] = {}

    @contextmanager
    def folder(self) -> Iterator[Path]:
        folder = self.scratch / str(next(self.numbers))
        folder.mkdir()
        try:
            yield folder
        finally:
            remove_tree(folder)

    def ready(self, wanted: SignedBuild) -> Ready:
        told = wanted.told
        if told.redteam:
            raise RefusedError(f"{told.toolchain} is compromised on purpose: it is not run")
        if not drawn(told.variation):
            raise ToolchainError("its surroundings are none that this harness draws")
        known = self.definitions(wanted)
        definition = toolchains.find(known, told.toolchain)
        linker = known[definition.linker] if definition.linker else None
        for each in (definition, linker, definition.base):
            if each is not None and each.redteam:
                raise RefusedError(f"{each.name} is compromised on purpose: it is not run")
        if definition.identity != told.toolchain_identity:
            raise ToolchainError(
                f"{told.toolchain}: its files make the identity {definition.identity[:12]}…, "
                f"signed was {told.toolchain_identity[:12]}…"
            )
        if definition.driver is None:
            raise ToolchainError(f"{told.toolchain} has no driver: it builds nothing")
        if dict(wanted.target) != definition.target:
            raise RefusedError(f"the statement names another target than {told.toolchain} has")
        model = self.model(wanted)
        engine = self.engine(wanted)
        environment = self.environment(definition, engine)
        if environment.sha256 != wanted.environment:
            raise ToolchainError(
                f"{told.toolchain}: its environment here is {environment.sha256[:12]}…, "
                f"signed was {wanted.environment[:12]}…"
            )
        image = (environment.image or "").removeprefix("sha256:")
        if image != (wanted.image or ""):
            raise ToolchainError(
                f"{told.toolchain}: it runs here in {_named(image)}, signed was "
                f"{_named(wanted.image or '')}"
            )
        link = None
        if linker is not None:
            link = Linker(self.environment(linker, engine), linker.tools["link"])
        build = plan.Build(model, _plain(definition), told.variation)
        return Ready(build, Installed(environment, link), engine)

    def definitions(self, wanted: SignedBuild) -> Mapping[str, Definition]:
        return _once(self.known, wanted.definitions, lambda: self._definitions(wanted.definitions))

    def _definitions(self, named: Files) -> Mapping[str, Definition]:
        folder = self.scratch / f"definitions-{next(self.numbers)}"
        folder.mkdir()
        with self.folder() as copies:
            materials = []
            for name, digest, program in sorted(named):
                place = copies / digest  # once, however many names it has
                if not place.exists():
                    self.copy(name, digest, place)
                materials.append(Material(name, digest, place, program))
            places = lay_out(materials, folder)
        if not places:
            raise ToolchainError("the statement names no files that define its toolchain")
        return toolchains.load(places)

    def model(self, wanted: SignedBuild) -> Model:
        told = wanted.told
        key = (told.model_sha256, tuple(sorted(told.external.items())), repr(told.inputs))
        return _once(self.models, key, lambda: self._model(wanted))

    def _model(self, wanted: SignedBuild) -> Model:
        told = wanted.told
        with self.folder() as folder:
            path = folder / "model.onnx"
            self.copy("model", told.model_sha256, path)
            left = MAX_DATA_BYTES
            for name, digest in sorted(told.external.items()):
                place = folder / checked(f"data/{name}").removeprefix("data/")
                self.copy(f"model/external/{name}", digest, place)
                left -= place.stat().st_size
                if left < 0:
                    raise ModelError(f"the model has more than {MAX_DATA_BYTES} bytes of data")
            model = check_model(path, told.inputs, name=plan.model_name(told.model))
            if model.sha256 != told.model_sha256 or dict(model.external) != dict(told.external):
                raise ModelError("the model is not the one that was signed, or other data is")
            if model.inputs != dict(told.inputs):
                raise ModelError("the model has other inputs than were signed")
            for place in (path, *(folder / name for name, _ in model.external)):
                self.store.add(place)
        return model

    def copy(self, name: str, digest: str, target: Path) -> None:
        shown = printable(name, 200)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            there = target.exists()
        except OSError as error:  # too long, or it takes another file for a folder
            raise StoreError(f"material {shown} cannot be written: {error.strerror}") from error
        if there:
            raise StoreError(f"material {shown} cannot be written: it is there already")
        if not self.bundle.copy_material(digest, target):
            why = self.bundle.missing.get(digest, "is not in the bundle")
            raise StoreError(f"material {shown} ({digest[:12]}…) {why}")

    def engine(self, wanted: SignedBuild) -> Engine:
        name = self.engine_name
        if name == AUTO:
            name = "docker" if wanted.image else "sandbox"
        engine = self.engines(name)
        if engine.isolation is Isolation.NONE and not self.weak:
            raise EngineError(f"engine {name} isolates nothing, and the policy asks for isolation")
        return engine

    def environment(self, definition: Definition, engine: Engine) -> Environment:
        key = (definition.identity, engine.name)
        return _once(self.environments, key, lambda: self._environment(definition, engine))

    def _environment(self, definition: Definition, engine: Engine) -> Environment:
        # Made first, so that a preparation script of the bundle runs where it can do no harm.
        if not isinstance(engine, Docker) or definition.image is None:
            script = run_plainly if _ours(definition) else self._in_engine
            made = prepare(definition, say=self.say, run_script=script)
            if not isinstance(engine, Docker):
                return made
        return images.installed(engine.daemon(), definition, self.say)

    def _in_engine(self, script: Path, root: Path, out: Path) -> Completed:
        """A preparation script that only the bundle has, or for other packages than ours."""
        engine = self.engines(PLAIN if self.engine_name == PLAIN else "sandbox")
        with self.folder() as folder:
            alone, scratch = folder / "script", folder / "engine"
            alone.mkdir()
            scratch.mkdir()
            shutil.copyfile(script, alone / "prepare.py")
            done = engine.run(
                RunSpec(
                    argv=(
                        engine.python, "-I", engine.visible(alone, "/script") + "/prepare.py",
                        engine.visible(root, "/environment"), engine.visible(out, "/prepared"),
                    ),
                    mounts=(Mount(alone, "/script"), Mount(root, "/environment")),
                    scratch=scratch,
                    out=out,
                    out_target="/prepared",
                    variation=control(),
                    limits=Limits(wall_seconds=SCRIPT_SECONDS),
                )
            )  # fmt: skip
        ended = done.exit_code if done.outcome is RunOutcome.EXITED else None
        timed_out = done.outcome is RunOutcome.TIMED_OUT
        said = done.output.decode("utf-8", "replace") + done.detail
        return Completed(1 if ended is None else ended, said, timed_out)


def _once(known: dict[K, V | HarnessError], key: K, make: Callable[[], V]) -> V:
    """What was made for ``key`` before, or the error that there was."""
    if key not in known:
        try:
            known[key] = make()
        except HarnessError as problem:
            known[key] = problem
    found = known[key]
    if isinstance(found, HarnessError):
        raise found
    return found


def drawn(variation: Variation) -> bool:
    """Whether the harness itself gives builds such surroundings: else they are a stranger's."""
    if variation == control():
        return True
    number = re.fullmatch(rf"{VARIED}(?:-([0-9]{{1,4}}))?", variation.name)
    if number is None:
        return False
    subsets = (s for size in range(len(LOCALES) + 1) for s in combinations(LOCALES, size))
    return any(draw(variation.seed, int(number[1] or 1), s) == variation for s in subsets)


def _named(image: str) -> str:
    return f"image {image[:12]}…" if image else "no image"


def _ours(definition: Definition) -> bool:
    """Whether this checkout makes the very same environment, by the same script."""
    known = toolchains.load((HERE / "toolchains",))
    return definition.recipe in {each.recipe for each in known.values()}


def _plain(definition: Definition) -> Toolchain:
    return Toolchain(**{each.name: getattr(definition, each.name) for each in fields(Toolchain)})
