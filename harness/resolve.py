"""From names and options to a run request in which nothing is left to look up.

Everything that can go wrong before the first build goes wrong here: a missing model, an unknown
toolchain, a wheel whose hash changed, no network on first use.
"""

from __future__ import annotations

import datetime
import platform
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import onnx

from harness import ledger, toolchains
from harness.audit import Request
from harness.build import Installed, Linker
from harness.environments import Environment, prepare
from harness.errors import ModelError, UsageError
from harness.models import Model, Policy, Toolchain
from harness.replay import Recipe, Replayer, load_recipes
from harness.settings import Settings
from harness.sources import ModelSource, check_model, fetch
from harness.store import Store
from harness.workers import Workers

HERE = Path(__file__).resolve().parent.parent  # the checkout: toolchains/ lies beside harness/
DEFAULT_REPLAYER = "llvm/22.1.8-xtc-x86_64"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to run, whatever is run. ``seed`` and ``jobs`` as given, ``resume`` a run's name."""

    engine: str = "auto"
    jobs: int = 1
    seed: int | None = None
    repeat: int | None = None
    resume: str | None = None
    bisect: bool = True
    keep: bool = False
    toolchain_folders: tuple[Path, ...] = ()
    explanations: Path | None = None


def folders(options: Options) -> tuple[Path, ...]:
    return (HERE / "toolchains", *options.toolchain_folders)


def default_toolchains(options: Options) -> tuple[str, ...]:
    """Every toolchain with a driver that runs on this machine and is not an overlay."""
    known = toolchains.load(folders(options))
    return tuple(
        name
        for name, definition in known.items()
        if definition.driver and not definition.overlay and definition.arch == platform.machine()
    )


def resolve(
    settings: Settings, options: Options, store: Store, notes: Sequence[str], say: Say
) -> Request:
    """Fetch the models, make or verify the environments, read recipes and ledger."""
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
    replayer = [toolchains.find(known, settings.replayer)] if settings.replayer else []
    linkers = {d.name: known[d.linker] for d in chosen if d.linker}
    needed = {d.name: d for d in (*chosen, *replayer, *linkers.values())}
    with Workers(options.jobs) as workers:
        made = {
            name: workers.submit(partial(prepare, definition, say=say))
            for name, definition in needed.items()
        }
        environments = {name: future.result() for name, future in made.items()}

    def replayer_of(definition: toolchains.Definition) -> Replayer:
        return Replayer(_plain(definition), environments[definition.name])

    recipes = {
        compiler: _recipes(compiler, folders(options))
        for compiler in dict.fromkeys(definition.compiler for definition in chosen)
    }
    _check_replays(settings.policy, recipes)
    notes = [*notes, *_unverified(recipes, settings.replayer)]
    seed = settings.variations.seed if options.seed is None else options.seed
    builds = options.repeat or settings.variations.builds
    return Request(
        run=options.resume or run_name(seed),
        models=models,
        toolchains=tuple(_plain(definition) for definition in chosen),
        installed={
            d.name: Installed(environments[d.name], _linker(linkers.get(d.name), environments))
            for d in chosen
        },
        recipes=recipes,
        replayers=tuple(replayer_of(definition) for definition in replayer),
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
    )


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


def _plain(definition: toolchains.Definition) -> Toolchain:
    """Without the paths of this machine's definition that no report needs."""
    return Toolchain(**{f.name: getattr(definition, f.name) for f in fields(Toolchain)})


def _linker(
    definition: toolchains.Definition | None, environments: Mapping[str, Environment]
) -> Linker | None:
    if definition is None:
        return None
    return Linker(environments[definition.name], definition.tools["link"])


def _check_allowed(policy: Policy, entries: ledger.Ledger) -> None:
    known = {entry.id for entry in entries.entries}
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


def _unverified(recipes: Mapping[str, tuple[Recipe, ...]], replayer: str | None) -> list[str]:
    notes = [
        f"{compiler} has no replay.toml: what it dumps is compared, but not verified"
        for compiler, found in recipes.items()
        if not found
    ]
    if replayer is None:
        notes.append("no replayer: what toolchains dump is compared, but not verified")
    return notes


def _check_replays(policy: Policy, recipes: Mapping[str, tuple[Recipe, ...]]) -> None:
    known = {recipe.name for found in recipes.values() for recipe in found}
    for name in policy.required_replays:
        if name not in known:
            raise UsageError(
                f"policy.required_replays names {name!r}, which no replay.toml holds",
                f"They hold: {', '.join(sorted(known)) or 'none'}.",
            )


def _cost(model: Model) -> int:
    """How long a model takes, roughly: its number of operators. Decides only what starts first."""
    return len(onnx.load(model.path, load_external_data=False).graph.node)
