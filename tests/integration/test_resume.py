"""Resuming: a finished build is used again only if it is exactly what would be built now."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness import audit, plan
from harness.audit import Request
from harness.build import Installed, Linker
from harness.compare import Comparer
from harness.engines.interface import EngineStatus, RunOutcome, RunResult, RunSpec
from harness.environments import Environment
from harness.ledger import Ledger
from harness.models import Isolation, Model, Policy, Tool
from harness.store import Store
from tests.unit.samples import names, sha, toolchain

MANIFEST = (
    '{"contract": 1, "compiler": "tvm", "version": "0",'
    ' "stages": [{"name": "graph", "artifacts": ["file"]}]}'
)

pytestmark = pytest.mark.integration


class Writing:
    """An engine whose driver writes one file, the model's shapes: what a real one would embed."""

    name = "writing"
    isolation = Isolation.NAMESPACES
    python = "python3"

    def __init__(self) -> None:
        self.runs = 0

    def status(self) -> EngineStatus:
        return EngineStatus(True)

    def visible(self, source: Path, target: str) -> str:
        return str(source)

    def run(self, spec: RunSpec) -> RunResult:
        self.runs += 1
        (spec.out / "graph").mkdir()
        request = Path(spec.argv[-1]).read_text()
        (spec.out / "graph" / "file").write_text(request.partition('"target"')[0][-40:])
        (spec.out / "manifest.json").write_text(MANIFEST)
        return RunResult(RunOutcome.EXITED, 0, b"", 0.1, 0.1, 1, spec.argv)


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    driver = tmp_path / "driver.py"
    driver.write_text("")
    store = Store(tmp_path / "results")
    made = replace(toolchain(names(1)[0]), driver=str(driver))
    (tmp_path / "env" / "root").mkdir(parents=True)
    (tmp_path / "env" / ".complete.json").write_text('{"entries": {}}')
    environment = Environment(tmp_path / "env" / "root", "e" * 64)
    return Request(
        run="run",
        models=(Model("m", "/m", store.add_bytes(b"model"), {"x": (1, 8)}),),
        toolchains=(made,),
        installed={made.name: Installed(environment, Linker(environment, Tool("bin/ld")))},
        recipes={},
        replayers=(),
        linkers={},
        policy=Policy(),
        ledger=Ledger(()),
        seed=1,
        builds_per_toolchain=2,
        jobs=1,
        today=datetime.date(2026, 11, 23),
        bisect=False,
        resume=True,
    )


def go(what: Request, tmp_path: Path, engine: Writing | None = None) -> int:
    """Make what is missing; how many builds were made."""
    engine = engine or Writing()
    store = Store(tmp_path / "results")
    builds = plan.builds(what.models, what.toolchains, what.seed, what.builds_per_toolchain)
    with store.open_run(what.run) as scratch:
        comparer = Comparer(store, what.ledger, None, what.today)
        work = audit._Work(what, engine, store, scratch, comparer)
        known = audit._resumed(work, builds)
        for build in builds:
            if build.id not in known:
                work.build(build)
    return engine.runs


def test_finished_builds_are_used_again(request_: Request, tmp_path: Path) -> None:
    assert go(request_, tmp_path) == 2
    assert go(request_, tmp_path) == 0
    assert go(replace(request_, builds_per_toolchain=4), tmp_path) == 2
    assert go(replace(request_, resume=False), tmp_path) == 2


def model(what: Request, **changes: object) -> Request:
    return replace(what, models=(replace(what.models[0], **changes),))  # type: ignore[arg-type]


def environment(what: Request, **changes: object) -> Request:
    ((name, installed),) = what.installed.items()
    return replace(what, installed={name: replace(installed, **changes)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        lambda what: model(what, inputs={"x": (2, 8)}),
        lambda what: model(what, inputs={"x": (1, 8), "y": (1,)}),
        lambda what: model(what, sha256=sha("other")),
        lambda what: model(what, external=(("weights.bin", sha("weights")),)),
        lambda what: replace(what, toolchains=(replace(what.toolchains[0], identity="0" * 64),)),
        lambda what: environment(
            what,
            environment=replace(next(iter(what.installed.values())).environment, sha256="f" * 64),
        ),
        lambda what: environment(what, linker=None),
    ],
)
def test_anything_else_is_built_anew(
    request_: Request, tmp_path: Path, change: Callable[[Request], Request]
) -> None:
    """Else a report would name shapes or weights that its artifacts were not made from."""
    go(request_, tmp_path)
    Store(tmp_path / "results").add_bytes(b"other")
    Store(tmp_path / "results").add_bytes(b"weights")
    assert go(change(request_), tmp_path) == 2


def test_another_seed_builds_the_varied_one_anew(request_: Request, tmp_path: Path) -> None:
    go(request_, tmp_path)
    assert go(replace(request_, seed=2), tmp_path) == 1


def test_weaker_builds_do_not_pass_for_isolated_ones(request_: Request, tmp_path: Path) -> None:
    weak = Writing()
    weak.isolation = Isolation.NONE
    assert go(request_, tmp_path, weak) == 2
    assert go(request_, tmp_path) == 2


def test_builds_of_another_harness_are_built_anew(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(request_, tmp_path)
    monkeypatch.setattr(audit, "__version__", "9.9")
    assert go(request_, tmp_path) == 2


@pytest.mark.parametrize("name", ["record.json", "key"])
def test_damaged_build_is_made_again(request_: Request, tmp_path: Path, name: str) -> None:
    go(request_, tmp_path)
    build = plan.build_id("m", names(1)[0], "varied")
    (tmp_path / "results" / "run" / "builds" / build / name).write_bytes(b"damaged")
    assert go(request_, tmp_path) == 1


def test_artifact_that_changed_is_made_again(request_: Request, tmp_path: Path) -> None:
    go(request_, tmp_path)
    store = Store(tmp_path / "results")
    digest = store.load_builds("run")[0][0].artifacts[0].sha256
    path = store.objects / digest[:2] / digest[2:]
    path.chmod(0o644)
    path.write_bytes(b"changed")
    assert go(request_, tmp_path) >= 1
    assert store.read(digest)
