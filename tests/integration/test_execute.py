"""Built libraries run for real: what goes in, what comes back, and what a hostile one may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness import execute as module
from harness import toolchains
from harness.drift import between
from harness.engines.interface import Engine
from harness.engines.plain import Plain
from harness.engines.sandbox import Sandbox
from harness.environments import Environment, prepare
from harness.execute import MAX_OUTPUTS, ExecutionError, execute, has_runner
from harness.reference import evaluate
from harness.store import Store
from tests.conftest import CLEAN, ROOT, Harness

pytestmark = pytest.mark.integration

# A runner of the test's own in place of TVM's: the engine and everything around it are real.


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "toolchains" / "toy").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    numpy_root = Path(np.__file__).parent.parent
    (tmp_path / "model.so").write_bytes(b"library")
    monkeypatch.setattr(module, "_TOOLCHAINS", tmp_path / "toolchains")

    def call(code: str, repeat: int = 0, cases: Any = None) -> module.Executed:
        (tmp_path / "toolchains" / "toy" / "runner.py").write_text(
            f"import sys\nsys.path.insert(0, {str(numpy_root)!r})\n"
            "import json, os\nimport numpy as np\n"
            "request = json.load(open(sys.argv[1]))\nout = request['out']\n"
            "def case(n, *arrays):\n"
            "    os.mkdir(f'{out}/{n}')\n"
            "    for i, a in enumerate(arrays): np.save(f'{out}/{n}/{i}.npy', a)\n"
            "def timing(*seconds):\n"
            "    json.dump({'seconds': seconds}, open(f'{out}/timing.json', 'w'))\n"
            f"{code}\n"
        )
        given_cases = cases or [{"x": np.arange(3, dtype=np.float32)}]
        environment = Environment(tmp_path / "root", "0" * 64)
        return execute(
            "toy", environment, tmp_path / "model.so", given_cases, Plain(), repeat=repeat
        )

    return call


ECHO = (
    "assert open(request['library'], 'rb').read() == b'library'\n"
    "for n, c in enumerate(request['cases']):\n"
    "    case(n, *(np.load(c['inputs'][name]) * 2 for name in request['inputs']))\n"
    "timing(*[0.5] * request['repeat'])"
)


def test_inputs_go_in_by_name_and_outputs_come_back_in_order(run: Any) -> None:
    cases = [
        {"x": np.full((2, 2), number, np.float32), "a": np.array(number, np.int64)}
        for number in range(3)
    ]
    done = run(ECHO, repeat=2, cases=cases)
    assert done.seconds == (0.5, 0.5)
    for number, outputs in enumerate(done.outputs):
        assert outputs[0].tolist() == [[2.0 * number] * 2] * 2
        assert outputs[1].tolist() == 2 * number
        assert outputs[1].shape == ()


FAULTS = {
    "nothing": ("", "left no output for case 0"),
    "no timing": ("case(0, np.zeros(1))", "timing.json"),
    "too few timings": ("case(0, np.zeros(1)); timing()", "1 durations"),
    "negative time": ("case(0, np.zeros(1)); timing(-1.0)", "durations"),
    "endless time": ("case(0, np.zeros(1)); timing(float('inf'))", "timing.json"),
    "no output": ("case(0); timing(1.0)", "something else than outputs"),
    "gap": (
        "case(0, *np.zeros((3, 1))); os.unlink(f'{out}/0/1.npy'); timing(1.0)",
        "something else",
    ),
    "extra": ("case(0, np.zeros(1)); open(f'{out}/0/x', 'w'); timing(1.0)", "something else"),
    "object": (
        "case(0); np.save(f'{out}/0/0.npy', np.array([{}]), allow_pickle=True); timing(1.0)",
        "not a plain",
    ),
    "many": (f"case(0, *np.zeros(({MAX_OUTPUTS + 1}, 1))); timing(1.0)", "more than"),
    "folder link": ("os.symlink('/etc', f'{out}/0'); timing(1.0)", "left no output"),
    "file link": (
        "case(0); os.symlink('/etc/passwd', f'{out}/0/0.npy'); timing(1.0)",
        "cannot be read",
    ),
    "fifo": ("case(0); os.mkfifo(f'{out}/0/0.npy'); timing(1.0)", "not a regular file"),
    "timing link": (
        "case(0, np.zeros(1)); os.symlink('/etc/passwd', f'{out}/timing.json')",
        "cannot be read",
    ),
    "failure": ("raise ValueError('\\x1b[31mthe shape is wrong')", "the shape is wrong"),
    "exit": ("sys.exit(3)", "(3)"),
    "crash": ("os.kill(os.getpid(), 11)", "(-11)"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_run_that_left_something_else_is_an_error(run: Any, name: str) -> None:
    code, words = FAULTS[name]
    with pytest.raises(ExecutionError) as caught:
        run(code, repeat=1)
    assert words in caught.value.what
    assert "\x1b" not in caught.value.what


def test_every_case_has_as_many_outputs_as_the_first(run: Any) -> None:
    cases = [{"x": np.zeros(1)}] * 2
    with pytest.raises(ExecutionError, match="more outputs"):
        run("case(0, np.zeros(1)); case(1, *np.zeros((2, 1))); timing()", cases=cases)


def test_cases_must_be_alike(run: Any) -> None:
    for cases in ([{"x": np.zeros(1)}, {"y": np.zeros(1)}], [{"x": np.zeros(1)}, {}]):
        with pytest.raises(ExecutionError, match="same inputs"):
            run(ECHO, cases=cases)


def test_a_compiler_without_a_runner_is_said_to_have_none() -> None:
    assert has_runner("tvm")
    assert not has_runner("other")
    with pytest.raises(ExecutionError):
        has_runner("../tvm")
    environment = Environment(Path("nowhere"), "0" * 64)
    with pytest.raises(ExecutionError, match="no runner for other"):
        execute("other", environment, Path("model.so"), [{"x": np.zeros(1)}], Plain())


def test_nothing_is_left_behind(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    run(ECHO)
    with pytest.raises(ExecutionError):
        run("os.mkdir(f'{out}/deep'); os.chmod(f'{out}/deep', 0); sys.exit(1)")
    assert not list(place.iterdir())


# Real libraries ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runtime() -> Environment:
    return prepare(toolchains.load([ROOT / "toolchains"])[CLEAN[0]])


def two_in_two_out() -> onnx.ModelProto:
    """a − b, which tells the inputs apart, and the sum of b's rows as whole numbers."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Sub", ["a", "b"], ["difference"]),
        helper.make_node("ReduceSum", ["b", "axes"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["whole"], to=TensorProto.INT32),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [value("a", TensorProto.FLOAT, [2, 3]), value("b", TensorProto.FLOAT, [2, 3])],
        [value("difference", TensorProto.FLOAT, [2, 3]), value("whole", TensorProto.INT32, [2])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def two(harness: Harness, tmp_path: Path) -> tuple[Path, Path]:
    """A model and the library that TVM makes of it."""
    onnx.save(two_in_two_out(), tmp_path / "two.onnx")
    done = harness("run", tmp_path / "two.onnx", "--toolchain", CLEAN[0], "--json")
    assert done.code == 0, done.err
    build = done.report["builds"][0]
    digest = next(a["sha256"] for a in build["artifacts"] if a["stage"] == "library")
    return tmp_path / "two.onnx", Store(tmp_path / "results").verified(digest)


@pytest.mark.parametrize("engine", [Sandbox(), Plain()], ids=lambda engine: engine.name)
def test_a_library_answers_as_the_model_says(
    two: tuple[Path, Path], runtime: Environment, engine: Engine
) -> None:
    model, library = two
    source = np.random.default_rng(3)
    cases = [
        {name: source.integers(-9, 9, (2, 3)).astype(np.float32) for name in ("a", "b")}
        for _ in range(200)
    ]
    done = execute("tvm", runtime, library, cases, engine, repeat=4)
    assert len(done.seconds) == 4
    for case, (difference, whole) in zip(cases, done.outputs, strict=True):
        assert (difference == case["a"] - case["b"]).all()
        assert (whole == case["b"].sum(axis=1).astype(np.int32)).all()
    expected, why = evaluate(model, cases)
    assert why == ""
    assert between(done.outputs, expected).none


def test_another_shape_is_an_error_that_says_so(
    two: tuple[Path, Path], runtime: Environment
) -> None:
    case = {"a": np.zeros((2, 4), np.float32), "b": np.zeros((2, 4), np.float32)}
    with pytest.raises(ExecutionError, match="exited"):
        execute("tvm", runtime, two[1], [case], Sandbox())


def test_what_is_no_library_is_an_error(runtime: Environment, tmp_path: Path) -> None:
    (tmp_path / "model.so").write_bytes(b"\x7fELF")
    with pytest.raises(ExecutionError, match="running the library ended"):
        execute("tvm", runtime, tmp_path / "model.so", [{"x": np.zeros(1)}], Sandbox())
