"""`harness compare` through the real command: two releases of TVM, and one that changes code.

The changed toolchain is an overlay on a clean one: its Relu lets a little through below zero.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import upgrade
from harness.audit import Request
from harness.build import PASSES, run_build
from harness.compare import Comparer
from harness.engines.sandbox import Sandbox
from harness.models import Comparison, ComparisonKind, Outcome, Policy, Verdict
from harness.passes import read
from harness.plan import Build
from harness.resolve import Options, resolve
from harness.settings import Settings, Variations
from harness.sources import ModelSource
from harness.store import Store
from harness.upgrade import Change
from harness.variations import control
from tests.conftest import CLEAN, EVIL, ROOT, Harness

pytestmark = pytest.mark.integration

LEAKY = """
import builtins

honest = builtins.__import__
done = []

def leak():
    import tvm
    from tvm import te

    def relu(builder, call):
        def compute(x):
            return te.compute(x.shape, lambda *i: te.max(x(*i), x(*i) * LEAK), name="relu")
        return builder.call_te(compute, call.args[0], primfunc_name_hint="relu")

    LEAK = tvm.tirx.const(0.0625, "float32") if hasattr(tvm, "tirx") else None
    tvm.ir.register_op_attr("relax.nn.relu", "FLegalize", relu, level=99)

def importing(name, *arguments, **options):
    module = honest(name, *arguments, **options)
    if not done and name.startswith("tvm.relax.frontend.onnx"):
        done.append(name)
        leak()
    return module

builtins.__import__ = importing
"""


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A toolchains folder with EVIL: tvm 0.27.0 with another Relu."""
    folder = tmp_path / "toolchains" / "tvm"
    (folder / "overlay").mkdir(parents=True)
    (folder / "overlay" / "sitecustomize.py").write_text(LEAKY)
    (folder / "0.27.0-evil-x86_64.toml").write_text(
        'base = "tvm/0.27.0-pypi-x86_64"\noverlay = "overlay"\npublisher = "evil"\n'
    )
    return folder.parent


def test_two_clean_builds_of_one_release_are_the_same(
    harness: Harness, small: Callable[..., Path]
) -> None:
    done = harness(
        "compare", CLEAN[0], CLEAN[1], small(), "--input", "x=2x8", "--engine", "sandbox", "--json",
        "--cases", "3",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = upgrade.load(done.out)
    (model,) = found.models
    assert {stage.change for stage in model.stages} <= {Change.SAME, Change.PRINTING}
    assert model.problems == ()
    assert [pair.cases for pair in model.compared] == [3, 3, 3]
    drift = [pair.drift for pair in model.compared]
    assert drift[0] is not None
    assert drift[0].none
    assert drift[0].labels == 6
    # The reference adds in another order: near, and the same labels.
    assert drift[1] is not None
    assert drift[1].max_abs < 1e-4
    assert drift[1].flips == 0
    left, right = model.times
    assert len(left.seconds) == len(right.seconds) >= 9
    assert model.sizes[0].what == "library"
    assert model.sizes[0].left == model.sizes[0].right
    assert any(size.what == ".text" for size in model.sizes)


def test_another_release_changes_printing_only(
    harness: Harness, small: Callable[..., Path]
) -> None:
    done = harness(
        "compare", CLEAN[2], CLEAN[1], small(), "--input", "x=2x8", "--engine", "sandbox",
        "--cases", "2", "--passes",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "small: printing only; stages: 6 the same, 4 printing only; library" in done.out
    assert "tvm-constant-reference-spelling" in done.out
    assert "; drift 0 ULP, 0 label flips" in done.out
    long = [line for line in done.out.splitlines() if len(line) > 100]
    assert all("see it:" in line or line.startswith("small: ") for line in long)
    assert "first diverging pass:" in done.out


@pytest.mark.slow
def test_magika_by_its_name_from_one_release_to_the_next(harness: Harness) -> None:
    done = harness(
        "compare", CLEAN[2], CLEAN[1], "magika", "--settings", ROOT / "nightly.toml", "--engine",
        "sandbox", "--cases", "3", "--json", timeout=540,
    )  # fmt: skip
    assert done.code == 0, done.err
    found = upgrade.load(done.out)
    (model,) = found.models
    assert found.change is Change.PRINTING
    changes = {stage.stage: stage.change for stage in model.stages}
    assert {name for name, change in changes.items() if change is Change.PRINTING} == {
        "graph", "tensor-ir", "llvm-unoptimized", "llvm",
    }  # fmt: skip
    assert changes["library"] is Change.SAME
    assert [pair.cases for pair in model.compared] == [3, 3, 3]
    drift = model.compared[0].drift
    assert drift is not None
    assert drift.none
    for pair in model.compared[1:]:
        assert pair.drift is not None, pair.reason
        assert (pair.drift.labels, pair.drift.flips) == (3, 0)
        assert pair.drift.max_abs < 1e-5


def test_changed_code_is_named_with_its_pass_its_functions_and_its_drift(
    harness: Harness, small: Callable[..., Path], leaky: Path, tmp_path: Path
) -> None:
    command = (
        "compare", CLEAN[1], EVIL, small(), "--input", "x=2x8", "--engine", "sandbox", "--passes",
        "--toolchains-dir", leaky,
    )  # fmt: skip
    done = harness(*command, "--json")
    assert done.code == 1, done.err
    (model,) = upgrade.load(done.out).models
    assert model.change is Change.CHANGED
    assert model.first_changed == "tensor-ir"
    stages = {stage.stage: stage for stage in model.stages}
    for name in ("simplified", "graph", "constants"):
        assert stages[name].change is Change.SAME, name
    for name in ("tensor-ir", "llvm", "object", "library"):
        changed = [
            part
            for part in stages[name].parts
            if part.kind == "function" and part.status == "changed" and "relu" in part.name
        ]
        assert changed, (name, stages[name])
        # What the overlay left alone is not said to have changed.
        assert not any("function fused_matmul " in f"{p.kind} {p.name} " for p in changed)
    passes = model.passes
    assert passes is not None
    assert (passes.name, passes.left, passes.right) == ("LegalizeOps", 0, 0)
    assert [part.name for part in passes.parts if part.kind == "function"] == ["relu"]
    assert passes.notes == ()
    for file in passes.files:
        assert "def relu" in (tmp_path / "results" / file).read_text()
    drift = model.compared[0].drift
    assert drift is not None
    assert drift.max_ulp > 1000
    assert drift.max_abs > 0.01
    against = {pair.left: pair.drift for pair in model.compared[1:]}
    clean, evil = against[CLEAN[1]], against[EVIL]
    assert clean is not None
    assert clean.max_abs < 1e-4
    assert evil is not None
    assert evil.max_abs > 0.01
    # The commands that it names work.
    shown = harness("diff", *(tmp_path / "results" / file for file in passes.files))
    assert shown.code == 1
    assert "relu" in shown.out


def test_what_cannot_be_built_is_no_answer(
    harness: Harness, small: Callable[..., Path], evil: Path
) -> None:
    done = harness(
        "compare", CLEAN[1], EVIL, small("hostile escapes"), "--input", "x=2x8", "--engine",
        "sandbox", "--toolchains-dir", evil,
    )  # fmt: skip
    assert done.code == 2, done.err
    assert "small: no answer" in done.out
    assert f"- {EVIL}, control build: failed\n  exit code 7\n" in re.sub(" +\n", "\n", done.out)
    assert "\x1b" not in done.out
    assert "\u202e" not in done.out


def test_a_poisoned_object_is_a_change_of_named_functions(
    harness: Harness, small: Callable[..., Path], evil: Path
) -> None:
    done = harness(
        "compare", CLEAN[1], EVIL, small("lying-dumper 0.3"), "--input", "x=2x8", "--engine",
        "sandbox", "--toolchains-dir", evil, "--json",
    )  # fmt: skip
    assert done.code == 1, done.err
    (model,) = upgrade.load(done.out).models
    assert model.first_changed == "object"
    # Its dumps are clean, and so a replay says that they are not what was compiled.
    assert any(EVIL in line and "did not come out" in line for line in model.problems)


def test_wrong_words_are_one_line(harness: Harness, small: Callable[..., Path]) -> None:
    model = small()
    for words, said in (
        ((CLEAN[0], CLEAN[0], model), "given twice"),
        ((CLEAN[0], "tvm/9-x", model), "no toolchain is called"),
        ((CLEAN[0], CLEAN[1], "unknown", "--settings", ROOT / "nightly.toml"), "neither a file"),
        ((CLEAN[0], CLEAN[1], model, model), "two models"),
        ((CLEAN[0], "llvm/22.1.8-xtc-x86_64", model), "has no driver"),
    ):
        done = harness("compare", *words, "--engine", "sandbox", "--quiet")
        assert done.code == 2
        assert said in done.err
        assert len(done.err.strip().splitlines()) == 2


# Dumps of passes --------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [CLEAN[0], CLEAN[2]])
def test_dumping_passes_changes_no_artifact(
    small: Callable[..., Path], tmp_path: Path, release: str
) -> None:
    """Byte for byte, but for the heap addresses that differ in every process anyway."""
    store = Store(tmp_path / "results")
    source = ModelSource(name="small", path=small(), inputs={"x": (2, 8)})
    what = Settings((source,), (release,), Variations(builds=1), Policy(), ())
    request: Request = resolve(what, Options(), store, (), lambda _: None)
    (model,), (toolchain,) = request.models, request.toolchains
    build = Build(model, toolchain, control())
    records = []
    for number, passes in enumerate((None, tmp_path / "passes")):
        scratch = tmp_path / f"scratch{number}"
        scratch.mkdir()
        record, _ = run_build(build, request.installed[release], Sandbox(), store, scratch, passes)
        assert record.outcome is Outcome.BUILT, record.detail
        assert PASSES not in record.stages
        records.append(record)
    one, other = records
    assert one.stages == other.stages
    comparer = Comparer(store, request.ledger, None, request.today)
    for stage in one.stages:
        side = Comparison(ComparisonKind.REPEAT, "small", stage, one.id, other.id)
        verdict = comparer.compare(side, one, other).verdict
        addresses = stage in ("llvm", "llvm-unoptimized")
        assert verdict is Verdict.IDENTICAL or (addresses and verdict is Verdict.EXPLAINED), stage
    dump = read(tmp_path / "passes")
    names = [each.name.rpartition(".")[2] for each in dump]
    assert names[0] == "LegalizeOps"
    assert {"FoldConstant", "FuseOps", "FuseTIR", "VMShapeLower", "LowerIntrin"} <= set(names)
    empty = {name for each, name in zip(dump, names, strict=True) if each.text is None}
    assert empty <= {"Filter", "NormalizeGlobalVar"}  # of the device that there is none of
    # What FuseTIR left is what the stage says that the pipeline left.
    (artifact,) = [a for a in one.artifacts if a.stage == "tensor-ir"]
    after = next(each for each, name in zip(dump, names, strict=True) if name == "FuseTIR")
    assert after.text == store.read(artifact.sha256)
    # Each text is there once, and constants are named by what they hold.
    files = list((tmp_path / "passes").rglob("*.py"))
    assert len({path.read_bytes() for path in files}) == len(files) < len(dump)
    assert b"sha256:" in (dump[0].text or b"")
    index = json.loads((tmp_path / "passes" / "index.json").read_text())
    assert index["left_out"] == 0
