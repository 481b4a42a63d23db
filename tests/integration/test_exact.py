"""A replayer of another LLVM than the toolchain's: no false alarm, and no excuse either.

For this model LLVM 22.1.8 writes one shufps where 22.1.0, which TVM carries, writes an insertps
(llvm/llvm-project#194332).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import CLEAN, EVIL, Called, Harness

pytestmark = pytest.mark.integration

OTHER, EXACT = "llvm/22.1.8-xtc-x86_64", "llvm/22.1.0-llvmlite-x86_64"
OBJECT = ("llvm-unoptimized → object", "llvm → object")


def model(folder: Path, attack: str = "") -> Path:
    weights = np.random.default_rng(7).standard_normal((10, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "shuffled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made.doc_string = f"attack={attack};" if attack else ""
    onnx.save(made, folder / "shuffled.onnx")
    return folder / "shuffled.onnx"


def replays(done: Called, name: str, toolchain: str) -> dict[str, dict[str, Any]]:
    """By replayer."""
    return {
        replay["replayer"]: replay
        for replay in done.report["replays"]
        if (replay["name"], replay["toolchain"]) == (name, toolchain)
    }


def test_what_only_the_replayers_version_changes_is_explained_and_shown(
    harness: Harness, tmp_path: Path
) -> None:
    chosen = [word for name in (CLEAN[0], CLEAN[2]) for word in ("--toolchain", name)]
    done = harness("run", model(tmp_path), *chosen, "--repeat", "1", "--json")
    assert done.code == 0, done.err
    assert done.stage("object")["verdict"] == "EXPLAINED"
    for toolchain in (CLEAN[0], CLEAN[2]):
        for name in OBJECT:
            found = replays(done, name, toolchain)
            assert set(found) == {OTHER, EXACT}
            assert found[EXACT]["verdict"] == "IDENTICAL"
            assert found[OTHER]["verdict"] == "EXPLAINED"
            assert found[OTHER]["got_sha256"] != found[OTHER]["expected_sha256"]
            assert found[OTHER]["detail"] == (
                "the replayer's LLVM 22.1.8 is not the toolchain's 22.1.0: other code: 1 "
                f"instruction in matmul_compute_; {EXACT} makes what the toolchain left, bit for "
                "bit"
            )
    # It did not regenerate the object, so it is none of those who agreed on it.
    (stage,) = [s for s in done.report["independence"]["stages"] if s["stage"] == "object"]
    assert EXACT in stage["independent"]
    assert OTHER not in stage["independent"]


@pytest.mark.parametrize("attack", ["flip object/lib0.o 0.3", "lying-dumper 0.3"])
def test_an_object_that_was_changed_is_not_excused(
    harness: Harness, tmp_path: Path, evil: Path, attack: str
) -> None:
    done = harness(
        "run", model(tmp_path, attack), "--toolchains-dir", evil, "--toolchain", EVIL,
        "--repeat", "1", "--json",
    )  # fmt: skip
    assert done.code == 1, done.err
    assert done.verdict()["odd_ones_out"] == [EVIL]
    for name in OBJECT:
        found = replays(done, name, EVIL)
        assert {by: replay["verdict"] for by, replay in found.items()} == {
            OTHER: "UNEXPLAINED",
            EXACT: "UNEXPLAINED",
        }
        assert "LLVM 22.1.8 is not the toolchain's 22.1.0" in found[OTHER]["detail"]
        assert found[OTHER]["detail"].endswith(f"{EXACT} makes something else too")
