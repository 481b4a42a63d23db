"""``llvm-tbaa-names`` on IR that TVM really printed, held against a real LLVM.

The IR is made here, in two processes with address randomisation, from a small program, so that the
addresses are real ones and nothing large is stored in the repository.
"""

from __future__ import annotations

import datetime
import os
import random
import re
import sys
from pathlib import Path

import pytest

from harness import environments, toolchains
from harness.ledger import Explained, Explanation, NotExplained, explain, load
from harness.models import ComparisonKind
from harness.normalizers import NORMALIZERS
from harness.process import run

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
TVM = "tvm/0.27.0.post1-pypi-x86_64"
LLVM = "llvm/22.1.8-xtc-x86_64"
STAGES = ("llvm-unoptimized", "llvm")
MUTATIONS = 300

PROGRAM = """
import sys
import tvm
from tvm import relax

builder = relax.BlockBuilder()
x = relax.Var("x", relax.TensorType((1, 4, 9, 9), "float32"))
w = relax.Var("w", relax.TensorType((6, 4, 3, 3), "float32"))
with builder.function("main", [x, w]):
    with builder.dataflow():
        y = builder.emit(relax.op.nn.relu(relax.op.nn.conv2d(x, w)))
        z = builder.emit(relax.op.nn.softmax(relax.op.max(y, axis=[1])))
        out = builder.emit_output(z)
    builder.emit_func_output(out)
common = {"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu", "mcpu": "x86-64-v3"}
target = tvm.target.Target(common)
with target:
    module = relax.get_pipeline("zero")(builder.get())
for stage, options in (("llvm-unoptimized", {"opt-level": 0}), ("llvm", {})):
    code = tvm.compile(module, tvm.target.Target({**common, **options})).mod.imports[0]
    with open(f"{sys.argv[1]}/{stage}.ll", "w") as file:
        file.write(code.inspect_source("ll"))
"""


@pytest.fixture(scope="module")
def known() -> dict[str, toolchains.Definition]:
    return toolchains.load([ROOT / "toolchains"])


@pytest.fixture(scope="module")
def printed(
    known: dict[str, toolchains.Definition], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, bytes]]:
    """What two processes print: for each, the text of each stage."""
    root = environments.prepare(toolchains.find(known, TVM)).root
    folder = tmp_path_factory.mktemp("tvm")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    texts = []
    for number in range(2):
        out = folder / str(number)
        out.mkdir()
        done = run(
            [sys.executable, str(program), str(out)],
            env={"PYTHONPATH": str(root), "PATH": os.defpath, "HOME": str(folder)},
            timeout=300,
        )
        assert done.exit_code == 0, done.output
        texts.append({stage: (out / f"{stage}.ll").read_bytes() for stage in STAGES})
    return texts


@pytest.fixture(scope="module")
def rules() -> tuple[Explanation, ...]:
    today = datetime.date(2026, 11, 22)
    ledger = load(ROOT / "toolchains" / "explanations.toml", today)
    return ledger.applicable("tvm", "llvm", ComparisonKind.REPEAT, today)


@pytest.fixture(scope="module")
def llvm(known: dict[str, toolchains.Definition]) -> dict[str, str]:
    toolchain = toolchains.find(known, LLVM)
    root = environments.prepare(toolchain).root
    return {name: str(root / tool.path) for name, tool in toolchain.tools.items()}


def normalized(text: bytes) -> bytes:
    return NORMALIZERS["llvm-tbaa-names"].normalize(text).data


def reprinted(llvm: dict[str, str], text: bytes, folder: Path) -> bytes | None:
    """The text through LLVM's own parser and printer; None if it is no valid module."""
    source, code, result = (folder / name for name in ("in.ll", "code.bc", "out.ll"))
    source.write_bytes(text)
    if run([llvm["as"], str(source), "-o", str(code)], timeout=60).exit_code != 0:
        return None
    done = run([llvm["dis"], str(code), "-o", str(result)], timeout=60)
    assert done.exit_code == 0, done.output
    return result.read_bytes().replace(str(code).encode(), b"code.bc")


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_meet(
    stage: str, printed: list[dict[str, bytes]], rules: tuple[Explanation, ...]
) -> None:
    left, right = (texts[stage] for texts in printed)
    assert left != right, "this machine gave both processes the same addresses"
    found = explain(left, right, rules)
    assert isinstance(found, Explained), found
    assert found.ids == ("tvm-tbaa-heap-addresses",)
    assert found.ignored_bytes > 100
    assert normalized(found.data) == found.data


@pytest.mark.parametrize("stage", STAGES)
def test_one_changed_byte_anywhere_else_is_never_explained(
    stage: str, printed: list[dict[str, bytes]], rules: tuple[Explanation, ...]
) -> None:
    left, right = (texts[stage] for texts in printed)
    protected = {
        position
        for found in re.finditer(rb'(?<=!\{!")0x[0-9a-f]+', left)
        for position in range(*found.span())
    }
    chance = random.Random(22)
    tried = 0
    # Half of the places in the metadata at the end, where the rule is at work.
    numbered = left.index(b"\n!0 = ")
    for count in range(MUTATIONS):
        where = chance.randrange(numbered if count % 2 else 0, len(left))
        byte = chance.choice([left[where] ^ (1 << chance.randrange(8)), chance.choice(left)])
        if where in protected or byte == left[where]:
            continue
        mutant = left[:where] + bytes([byte]) + left[where + 1 :]
        tried += 1
        assert isinstance(explain(mutant, right, rules), NotExplained), (where, byte)
    assert tried > MUTATIONS // 2


@pytest.mark.parametrize("stage", STAGES)
def test_llvm_reads_the_same_module_up_to_the_names(
    stage: str, printed: list[dict[str, bytes]], llvm: dict[str, str], tmp_path: Path
) -> None:
    """Equal after normalizing means equal for LLVM: it reads both sides as one module, renamed."""
    left, right = (texts[stage] for texts in printed)
    seen = [reprinted(llvm, text, tmp_path) for text in (left, right, normalized(left))]
    assert seen[0] is not None
    assert seen[1] is not None
    assert seen[2] is not None
    assert seen[0] != seen[1]
    assert normalized(seen[0]) == normalized(seen[1]) == normalized(seen[2]) == seen[2]


@pytest.mark.parametrize("stage", STAGES)
def test_code_does_not_depend_on_the_names(
    stage: str, printed: list[dict[str, bytes]], llvm: dict[str, str], tmp_path: Path
) -> None:
    left, right = (texts[stage] for texts in printed)
    target = ["-mcpu=x86-64-v3"]
    objects = []
    for number, text in enumerate((left, right, normalized(left))):
        source, optimised, code = (tmp_path / f"{number}.{kind}" for kind in ("ll", "bc", "o"))
        source.write_bytes(text)
        opt = [llvm["opt"], "-passes=default<O3>", *target, str(source), "-o", str(optimised)]
        llc = [llvm["llc"], "-O3", *target, "-filetype=obj", str(optimised), "-o", str(code)]
        for command in (opt, llc):
            done = run(command, timeout=120)
            assert done.exit_code == 0, done.output
        objects.append(code.read_bytes())
    assert objects[0] == objects[1] == objects[2]
