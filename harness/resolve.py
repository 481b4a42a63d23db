"""From names and options to a run request in which nothing is left to look up.

Everything that can go wrong before the first build goes wrong here: a missing model, an unknown
toolchain, a wheel whose hash changed, no network on first use.
"""

from __future__ import annotations

import ctypes
import datetime
import platform
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import onnx

from harness import account, images, ledger, toolchains
from harness.accounting.interface import Kind
from harness.audit import Request
from harness.build import Installed, Linker
from harness.engines.docker import Docker, kind
from harness.engines.interface import Engine
from harness.environments import Environment, prepare
from harness.errors import ModelError, UsageError
from harness.models import Isolation, Model, Policy, Toolchain
from harness.packages import cache_folder
from harness.places import HERE
from harness.remembered import Memory
from harness.replay import Recipe, Replayer, load_exact, load_recipes
from harness.settings import Settings
from harness.sources import ModelSource, check_model, fetch
from harness.store import Store
from harness.text import printable
from harness.variations import LOCALES
from harness.workers import Workers

ALL_CATEGORIES = 0x1FBF  # LC_ALL_MASK of glibc's <locale.h>
DEFAULT_REPLAYER = "llvm/22.1.8-xtc-x86_64"

Say = Callable[[str], None]

PODMAN = (
    "Podman answers in Docker's place; its walls are weaker: a build can make user namespaces, and "
    "write to memory at /run and /var/tmp"
)


@dataclass(frozen=True)
class Options:
    """How to run, whatever is run. ``seed`` and ``jobs`` as given, ``resume`` a run's name."""

    engine: str = "auto"
    jobs: int = 1
    seed: int | None = None
    repeat: int | None = None
    resume: str | None = None
    fresh: bool = False
    bisect: bool = True
    keep: bool = False
    toolchain_folders: tuple[Path, ...] = ()
    explanations: Path | None = None
    account: bool = True
    numeric: bool = False


def folders(options: Options) -> tuple[Path, ...]:
    return (HERE / "toolchains", *options.toolchain_folders)


def default_toolchains(options: Options, containers: bool = False) -> tuple[str, ...]:
    """Every toolchain with a driver that runs on this machine and is not an overlay.

    Those that are an image only count where there are ``containers``.
    """
    known = toolchains.load(folders(options))
    return tuple(
        name
        for name, definition in known.items()
        if definition.driver
        and not definition.overlay
        and definition.arch == platform.machine()
        and (containers or not (definition.image and definition.image.only))
    )


def image_problem(settings: Settings, options: Options, engine: Docker) -> str | None:
    """Why ``engine`` cannot have the images that this run needs; None if it can."""
    known = toolchains.load(folders(options))
    wanted = settings.on(True)
    names = (*wanted.toolchains, *wanted.replayers)
    chosen = [toolchains.find(known, name) for name in names]
    return images.problem(engine.daemon(), chosen)


def resolve(
    settings: Settings,
    options: Options,
    store: Store,
    notes: Sequence[str],
    say: Say,
    engine: Engine | None = None,
) -> Request:
    """Fetch the models, make or verify the environments, read recipes and ledger.

    With an ``engine`` that runs containers, toolchains are taken from their images.
    """
    daemon = engine.daemon() if isinstance(engine, Docker) else None
    settings = settings.on(daemon is not None)
    if daemon is not None and "podman" in kind(daemon):
        notes = [*notes, PODMAN]

    # One at a time, in the order of use: the first builds start while the rest is verified.
    background = ThreadPoolExecutor(1)

    def prepared(definition: toolchains.Definition) -> Environment:
        if daemon is not None:
            return images.installed(daemon, definition, say)
        return prepare(definition, say=say, background=background)

    if options.resume is not None and not store.run_folder(options.resume).is_dir():
        raise UsageError(
            f"there is no run {printable(options.resume, 80)!r} in {store.root} to go on with",
            "Name its folder there, or leave out --resume.",
        )
    known = toolchains.load(folders(options))
    chosen = [toolchains.find(known, name) for name in settings.toolchains]
    for definition in chosen:
        if definition.driver is None:
            raise UsageError(
                f"{definition.name} has no driver: it regenerates stages, it does not build",
                "Choose a toolchain with a driver: harness toolchains list.",
            )
    today = datetime.datetime.now(datetime.UTC).date()
    entries = ledger.load(options.explanations or HERE / "toolchains" / "explanations.toml", today)
    _check_allowed(settings.policy, entries)

    models = tuple(_model(source, store, say) for source in settings.models)
    replayers = [toolchains.find(known, name) for name in settings.replayers]
    linkers = {d.name: known[d.linker] for d in chosen if d.linker}
    exact = _exact(chosen, known, folders(options)) if replayers else {}
    needed = {d.name: d for d in (*linkers.values(), *chosen, *replayers, *exact.values())}
    with Workers(options.jobs) as workers:
        made = {
            name: workers.submit(partial(prepared, definition))
            for name, definition in needed.items()
        }
        environments = {name: future.result() for name, future in made.items()}
    background.shutdown(wait=False)

    def replayer_of(definition: toolchains.Definition) -> Replayer:
        return Replayer(plain(definition), environments[definition.name])

    recipes = {
        compiler: _recipes(compiler, folders(options))
        for compiler in dict.fromkeys(definition.compiler for definition in chosen)
    }
    _check_replays(settings.policy, recipes)
    _check_accounting(settings.policy)
    notes = [*notes, *_unverified(recipes, settings.replayers), *_excluded(settings)]
    notes += [
        f"{d.name} is compromised on purpose ({d.redteam}): nothing of it may be released"
        for d in chosen
        if d.redteam
    ]
    seed = settings.variations.seed if options.seed is None else options.seed
    builds = options.repeat or settings.variations.builds
    return Request(
        run=options.resume or run_name(seed),
        models=models,
        toolchains=tuple(plain(definition) for definition in chosen),
        installed={
            d.name: Installed(environments[d.name], _linker(linkers.get(d.name), environments))
            for d in chosen
        },
        recipes=recipes,
        replayers=tuple(replayer_of(definition) for definition in replayers),
        exact={name: replayer_of(definition) for name, definition in exact.items()},
        linkers={name: replayer_of(definition) for name, definition in linkers.items()},
        policy=settings.policy,
        ledger=entries,
        seed=seed,
        builds_per_toolchain=builds,
        jobs=options.jobs,
        today=today,
        bisect=options.bisect,
        keep=options.keep,
        resume=options.resume is not None,
        cost={model.name: _cost(model) for model in models},
        notes=tuple(notes),
        locales=_locales(),
        memory=_memory(engine, options),
        books=_books(engine, options),
        account=options.account,
        numeric=options.numeric or Kind.NUMERIC in settings.policy.required_accounting,
        without=frozenset((each.model, each.toolchain) for each in settings.without),
    )


def _memory(engine: Engine | None, options: Options) -> Memory | None:
    """None where a toolchain could have written into it, and where nobody wants it."""
    if engine is None or engine.isolation is Isolation.NONE or options.fresh:
        return None
    return Memory(cache_folder() / "replays", f"{engine.name} {engine.isolation}")


def _books(engine: Engine | None, options: Options) -> account.Memory | None:
    if engine is None or engine.isolation is Isolation.NONE or options.fresh:
        return None
    return account.Memory(cache_folder() / "accounts", f"{engine.name} {engine.isolation}")


def run_name(seed: int) -> str:
    """Sorts by time; the last part keeps two runs of one second apart."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%d-%H%M%S}-{seed}-{secrets.token_hex(2)}"


def _model(source: ModelSource, store: Store, say: Say) -> Model:
    if source.package:
        say(f"{source.name}: taking it from {source.package}")
    path = fetch(source)
    model = check_model(path, source.inputs, name=source.name)
    # From here on the builds get this very content, whatever happens to the file meanwhile.
    for place, digest in ((path, model.sha256), *((path.parent / p, d) for p, d in model.external)):
        if store.add(place)[0] != digest:
            raise ModelError(f"{place} changed while it was being read", "Run again.")
    return model


def plain(definition: toolchains.Definition) -> Toolchain:
    """Without the paths of this machine's definition that no report needs."""
    return Toolchain(**{f.name: getattr(definition, f.name) for f in fields(Toolchain)})


def _locales() -> tuple[str, ...]:
    """The locales that this machine has, out of those that variations can use."""
    libc = ctypes.CDLL(None)
    libc.newlocale.restype = ctypes.c_void_p
    found = []
    for name in LOCALES:
        if handle := libc.newlocale(ALL_CATEGORIES, name.encode(), None):
            libc.freelocale(ctypes.c_void_p(handle))
            found.append(name)
    return tuple(found)


def _linker(
    definition: toolchains.Definition | None, environments: Mapping[str, Environment]
) -> Linker | None:
    if definition is None:
        return None
    return Linker(environments[definition.name], definition.tools["link"])


def _check_allowed(policy: Policy, entries: ledger.Ledger) -> None:
    known = entries.ids
    for name in policy.allowed_explanations or ():
        if name not in known:
            raise UsageError(
                f"policy.allowed_explanations names {name!r}, which the ledger does not hold",
                f"It holds: {', '.join(sorted(known))}.",
            )


def _recipes(compiler: str, places: Sequence[Path]) -> tuple[Recipe, ...]:
    """The first ``replay.toml`` for a compiler; the harness's own folder comes first.

    By compiler, never by toolchain: a toolchain must not choose how it is checked.
    """
    for place in places:
        if found := load_recipes(place / compiler):
            return found
    return ()


def _exact(
    chosen: Sequence[toolchains.Definition],
    known: Mapping[str, toolchains.Definition],
    places: Sequence[Path],
) -> dict[str, toolchains.Definition]:
    """Toolchain → the replayer that has the LLVM of its release, where one runs on this machine."""
    tables = {
        compiler: next((found for place in places if (found := load_exact(place / compiler))), {})
        for compiler in dict.fromkeys(definition.compiler for definition in chosen)
    }
    wanted = {
        definition.name: toolchains.find(known, tables[definition.compiler][definition.version])
        for definition in chosen
        if definition.version in tables[definition.compiler]
    }
    return {name: found for name, found in wanted.items() if found.arch == platform.machine()}


def _unverified(recipes: Mapping[str, tuple[Recipe, ...]], replayers: Sequence[str]) -> list[str]:
    notes = [
        f"{compiler} has no replay.toml: what it dumps is compared, but not verified"
        for compiler, found in recipes.items()
        if not found
    ]
    if not replayers:
        notes.append("no replayer: what toolchains dump is compared, but not verified")
    return notes


def _excluded(settings: Settings) -> list[str]:
    return [
        f"{each.model} is not built with {each.toolchain}: {printable(each.reason, 300)}"
        for each in settings.without
    ]


def _check_replays(policy: Policy, recipes: Mapping[str, tuple[Recipe, ...]]) -> None:
    known = {recipe.name for found in recipes.values() for recipe in found}
    for name in policy.required_replays:
        if name not in known:
            raise UsageError(
                f"policy.required_replays names {name!r}, which no replay.toml holds",
                f"They hold: {', '.join(sorted(known)) or 'none'}.",
            )


def _check_accounting(policy: Policy) -> None:
    for name in policy.required_accounting:
        if name not in account.ASKABLE:
            raise UsageError(
                f"policy.required_accounting names {name!r}, which accounting does not look at",
                f"It looks at: {', '.join(account.ASKABLE)}.",
            )


def _cost(model: Model) -> int:
    """How long a model takes, roughly: its number of operators. Decides only what starts first."""
    return len(onnx.load(model.path, load_external_data=False).graph.node)
