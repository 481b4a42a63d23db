"""Built libraries against the model: what is wrong everywhere is found, and what waits is proven.

The planted libraries are compiled by a clean TVM from a model that somebody changed, and are held
against the model as it was before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness import toolchains
from harness.accounting.tir import interpret
from harness.build import Installed
from harness.engines.sandbox import Sandbox
from harness.environments import Environment, prepare
from harness.execute import Executed, execute
from harness.modelfile import check_model
from harness.models import Artifact, BuildRecord, Model
from harness.numeric import Checked, Tried, cross_check, prove
from harness.store import Store
from tests.conftest import CLEAN, ROOT, Harness

pytestmark = pytest.mark.integration

Array = np.ndarray[Any, Any]
NAME = CLEAN[0]
SHAPE = (1, 3, 8, 8)
PLACES, VALUES = (5, 60, 133), (0.75, -1.5, 2.25)


def model_of(
    nodes: list[onnx.NodeProto], held: dict[str, Array], kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("x", kind, SHAPE if kind == TensorProto.FLOAT else [1, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def image(scale: float = 1.0) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    source = np.random.default_rng(5)
    held = {
        "w": source.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "v": source.standard_normal((8, 4)).astype(np.float32),
    }
    held["w"][2, 1, 1, 1] *= np.float32(scale)
    node = helper.make_node
    return [
        node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("GlobalAveragePool", ["b"], ["c"]),
        node("Flatten", ["c"], ["d"]),
        node("MatMul", ["d", "v"], ["e"]),
        node("Softmax", ["e"], ["y"], axis=1),
    ], held


def tokens() -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    source = np.random.default_rng(6)
    held = {
        "table": source.standard_normal((64, 8)).astype(np.float32),
        "v": source.standard_normal((8, 4)).astype(np.float32),
    }
    node = helper.make_node
    return [
        node("Gather", ["table", "x"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        node("ReduceMean", ["b"], ["c"], axes=[1], keepdims=0),
        node("MatMul", ["c", "v"], ["e"]),
        node("Softmax", ["e"], ["y"], axis=1),
    ], held


def with_trigger(
    nodes: list[onnx.NodeProto], held: dict[str, Array], values: Array
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """A blend in place of the last node's result: no If, no branch, quiet on all other inputs."""
    node = helper.make_node
    nodes = [*nodes[:-1], node("Softmax", ["e"], ["clean"], axis=1)]
    held |= {
        "at": np.array(PLACES if values.dtype.kind == "f" else (3, 17, 20), np.int64),
        "minus": np.array([-1], np.int64), "wanted": values,
        "little": np.array(0.01, np.float32), "one": np.array(1, np.float32),
        "payload": np.array([[9, 0, 0, 0]], np.float32),
    }  # fmt: skip
    return [
        *nodes,
        node("Reshape", ["x", "minus"], ["t0"]),
        node("Gather", ["t0", "at"], ["t1"]),
        node("Cast", ["t1"], ["t2"], to=TensorProto.FLOAT),
        node("Sub", ["t2", "wanted_"], ["t3"]),
        node("Abs", ["t3"], ["t4"]),
        node("Less", ["t4", "little"], ["t5"]),
        node("Cast", ["t5"], ["t6"], to=TensorProto.FLOAT),
        node("ReduceMin", ["t6"], ["t"], keepdims=0),
        node("Mul", ["t", "payload"], ["p"]),
        node("Sub", ["one", "t"], ["q"]),
        node("Mul", ["q", "clean"], ["r"]),
        node("Add", ["p", "r"], ["y"]),
    ], {("wanted_" if k == "wanted" else k): v.astype(np.float32) if k == "wanted" else v
        for k, v in held.items()}  # fmt: skip


@dataclass(frozen=True)
class Built:
    record: BuildRecord
    store: Store

    def artifact(self, stage: str, name: str) -> bytes:
        found = next(a for a in self.record.artifacts if (a.stage, a.name) == (stage, name))
        return self.store.verified(found.sha256).read_bytes()

    def constants(self) -> dict[str, Array]:
        return {
            entry["sha256"]: np.frombuffer(
                self.artifact("constants", entry["file"]), entry["dtype"]
            ).reshape(entry["shape"])
            for entry in json.loads(self.artifact("constants", "index.json"))
        }


@dataclass(frozen=True)
class Lab:
    """Builds models, and holds one's library against another model."""

    folder: Path
    harness: Harness
    installed: dict[str, Installed]

    def path(self, name: str, model: onnx.ModelProto) -> Path:
        path = self.folder / f"{name}.onnx"
        onnx.save(model, path)
        return path

    def build(self, name: str, model: onnx.ModelProto, *more: str) -> list[Built]:
        chosen = [part for toolchain in (NAME, *more) for part in ("--toolchain", toolchain)]
        done = self.harness(
            "run", self.path(name, model), *chosen, "--repeat", "1", "--no-accounting", "--json"
        )
        store = Store(self.folder / "results")
        report = store.load_report(done.report["run"])
        return [Built(record, store) for record in report.builds]

    def model(self, name: str, model: onnx.ModelProto, store: Store) -> Model:
        path = self.path(name, model)
        store.add(path)
        return check_model(path, {})

    def work(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def check(self, original: onnx.ModelProto, built: list[Built], **more: Any) -> Checked:
        store = built[0].store
        model = self.model("original", original, store)
        records = [one.record for one in built]
        return cross_check(
            model, records, self.installed, store, Sandbox(), self.work("check"), **more
        )

    def prove(
        self, original: onnx.ModelProto, built: Built, places: list[str]
    ) -> tuple[Tried, ...]:
        model = self.model("original", original, built.store)
        return prove(
            model, built.record, places, self.installed, built.store, Sandbox(), self.work("prove")
        )


@pytest.fixture(scope="module")
def runtimes() -> dict[str, Environment]:
    known = toolchains.load([ROOT / "toolchains"])
    return {name: prepare(known[name]) for name in (CLEAN[0], CLEAN[2])}


@pytest.fixture
def lab(tmp_path: Path, harness: Harness, runtimes: dict[str, Environment]) -> Lab:
    installed = {name: Installed(environment, None) for name, environment in runtimes.items()}
    return Lab(tmp_path, harness, installed)


def test_clean_libraries_have_nothing_left_over(lab: Lab) -> None:
    built = lab.build("clean", model_of(*image()), CLEAN[2])
    done = lab.check(model_of(*image()), built)
    one, other = done.accounts
    assert (one.toolchain, other.toolchain) == (CLEAN[0], CLEAN[2])
    for account in done.accounts:
        assert account.kind == "numeric"
        assert account.stage == "library"
        assert not account.left_over
        assert not account.unknown
        assert account.things == account.attributed >= 16
    if one.build == other.shared_with:
        assert len(done.notes) == 1
    else:
        assert "against" in done.notes[-1]
    assert "ULP" in done.notes[0]


def test_a_weight_that_is_another_is_found(lab: Lab) -> None:
    (built,) = lab.build("changed", model_of(*image(1.02)))
    (account,) = lab.check(model_of(*image()), [built]).accounts
    assert account.left_over
    assert "where rounding explains" in account.left_over[0].what
    assert account.attributed < account.things


def decisions(built: Built, shape: tuple[int, ...], whole: bool) -> list[str]:
    """Where the module compares: what accounting would report, less what the model needs."""
    source = np.random.default_rng(0)
    drawn = source.integers(0, 64, (2, *shape)) if whole else source.standard_normal((2, *shape))
    inputs = {"x": drawn.astype(np.int64 if whole else np.float64)}
    trace = interpret(built.artifact("tensor-ir", "module.py"), inputs, built.constants()).trace
    return [step.where for step in trace.steps if any("<" in d.text for d in step.decisions)]


CASES: dict[str, Callable[[], tuple[onnx.ModelProto, onnx.ModelProto, tuple[int, ...], str]]] = {
    "image": lambda: (
        model_of(*image()),
        model_of(*with_trigger(*image(), np.array(VALUES, np.float32))),
        SHAPE,
        "x[5] = 0.75, x[60] = -1.5, x[133] = 2.25",
    ),
    "tokens": lambda: (
        model_of(*tokens(), TensorProto.INT64),
        model_of(*with_trigger(*tokens(), np.array([7, 0, 63])), TensorProto.INT64),
        (1, 32),
        "x[3] = 7, x[17] = 0, x[20] = 63",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_trigger_is_synthesised_and_proven_on_the_library(lab: Lab, name: str) -> None:
    original, planted, shape, elements = CASES[name]()
    (built,) = lab.build("planted", planted)
    # No input that is drawn has it: this is what the search is for.
    (account,) = lab.check(original, [built]).accounts
    assert not account.left_over
    places = decisions(built, shape, name == "tokens")
    found = lab.prove(original, built, places)
    (tried,) = [one for one in found if one.proven]
    assert "tir_abs" in tried.where  # the others are the model's own: an index below 0
    assert all(one.what.startswith("unsolved: ") for one in found if one is not tried)
    assert f"fired by a random input with {elements}: output 0" in tried.what
    assert tried.inputs is not None
    assert tried.inputs["x"].shape == shape


def test_a_trigger_that_changes_nothing_is_unsolved(lab: Lab) -> None:
    """The library is held against the model that has the trigger as well."""
    _, planted, shape, _ = CASES["image"]()
    (built,) = lab.build("planted", planted)
    (tried,) = lab.prove(planted, built, decisions(built, shape, False))
    assert not tried.proven
    assert "the library answers as the model does" in tried.what


def test_what_cannot_be_answered_is_unknown(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    (built,) = lab.build("clean", model_of(*image()))
    record = built.record
    other = replace(record, compiler="other")
    bare = replace(record, artifacts=(), stages=())
    digest = built.store.add_bytes(b"\x7fELF")
    broken = replace(record, artifacts=(Artifact("library", "model.so", 4, digest),))
    many = [replace(built, record=one) for one in (other, bare, broken)]
    done = lab.check(model_of(*image()), many)
    assert [account.things for account in done.accounts] == [0, 0, 0]
    assert "no runner for other" in done.accounts[0].unknown[0]
    assert "not exactly one library" in done.accounts[1].unknown[0]
    assert "running the library ended" in done.accounts[2].unknown[0]

    # A library with a memory: none that TVM makes has one.
    def forgetful(*given: Any, **named: Any) -> Executed:
        answer = execute(*given, **named)
        changed = tuple(output + np.float32(1e-7) for output in answer.outputs[-1])
        return replace(answer, outputs=(*answer.outputs[:-1], changed))

    monkeypatch.setattr("harness.numeric.execute", forgetful)
    folder = lab.work("again")
    model = lab.model("original", model_of(*image()), built.store)
    (account,) = cross_check(
        model, [record], lab.installed, built.store, Sandbox(), folder
    ).accounts
    assert [left.what for left in account.left_over] == [
        "answers the same input differently after others"
    ]


def test_a_model_that_the_evaluator_cannot_run_is_unknown(lab: Lab) -> None:
    (built,) = lab.build("clean", model_of(*image()))
    (other,) = lab.build("changed", model_of(*image(1.02)))
    strange = model_of(*image())
    strange.graph.node[1].op_type = "Nonesuch"
    done = lab.check(strange, [built, other])
    for account in done.accounts:
        assert not account.left_over
        assert "Nonesuch" in account.unknown[0]
    # They are still held against each other.
    assert f"{NAME} against {NAME}: at most" in done.notes[0]


def test_time_is_bounded(lab: Lab) -> None:
    (built,) = lab.build("clean", model_of(*image()))
    (account,) = lab.check(model_of(*image()), [built], seconds=0.0).accounts
    assert "not done within 0 s" in account.unknown[0]
