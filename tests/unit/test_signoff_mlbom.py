"""The bill of a release: valid, deterministic, and what the model's own file says, safely."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from onnx import TensorProto, helper

from harness.components import Base
from harness.environments import Environment
from harness.models import Model, Toolchain
from harness.sbom import bill
from harness.signoff.bill import read_bill
from harness.signoff.mlbom import MAX_LISTED, describe, release_bill
from harness.signoff.statements import bill_statement
from harness.signoff.strictjson import canonical, parse
from tests.unit.samples import sha
from tests.unit.test_sbom import made as tool_of

BASE = Base("debian 12", "3.11.7 /usr/bin/python3")
A, B, LINK = "tvm/1-a-x86_64", "tvm/1-b-x86_64", "llvm/1-l-x86_64"
FLOAT = TensorProto.FLOAT


def proto(name: str = "x", domain: str = "") -> onnx.ModelProto:
    """An If whose branches hold a Relu each, a function that holds an Add, and an initializer."""
    branch = helper.make_graph(
        [helper.make_node("Relu", [name], ["r"])], "branch", [],
        [helper.make_tensor_value_info("r", FLOAT, None)],
    )  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
            helper.make_node("Special", ["y"], ["z"], domain=domain or "own"),
        ],
        "g",
        [
            helper.make_tensor_value_info(name, FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("y", FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("z", TensorProto.INT64, None),
        ],
        [helper.make_tensor("w", FLOAT, [1], [1.0])],
    )
    function = helper.make_function(
        "own", "Special", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    return helper.make_model(
        graph,
        functions=[function],
        producer_name="maker",
        producer_version="2",
        ir_version=9,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )


def model(made: onnx.ModelProto | None = None, **changed: Any) -> tuple[Model, bytes]:
    content = (made or proto()).SerializeToString(deterministic=True)
    known = Model("net", "/net.onnx", sha(content), {"x": (2, 4), "c": ()})
    return replace(known, **changed), content


def bills(folder: Path) -> list[bytes]:
    """Two toolchains that link with the same linker, and the linker's own."""
    tools: list[tuple[Toolchain, Environment]] = []
    for name in (A, B, LINK):
        place = folder / name.replace("/", "-")
        place.mkdir()
        tool, environment = tool_of(place)
        tools.append((replace(tool, name=name), environment))
    return [
        *(bill(*tool, BASE, linker=tools[2]) for tool in tools[:2]),
        bill(*tools[2], BASE),
    ]


def release(folder: Path, **changed: Any) -> dict[str, Any]:
    known, content = model()
    given: dict[str, Any] = {
        "file": "net.so", "sha256": sha("net.so"), "size": 5, "release": "net 1.0",
        "model": known, "content": content, "builders": [A, B], **changed,
    }  # fmt: skip
    return release_bill(**{"bills": given.pop("bills", None) or bills(folder), **given})


def component(content: dict[str, Any], ref: str) -> dict[str, Any]:
    (found,) = [each for each in content["components"] if each["bom-ref"] == ref]
    return dict(found)


def properties(found: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in found["properties"]}


def depends(content: dict[str, Any], ref: str) -> list[str]:
    (found,) = [each for each in content["dependencies"] if each["ref"] == ref]
    return list(found.get("dependsOn", []))


def is_valid(content: dict[str, Any]) -> None:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(content))
    assert error is None, error


def test_it_fits_the_published_schema(tmp_path: Path) -> None:
    content = release(tmp_path)
    is_valid(content)
    broken = json.loads(json.dumps(content))
    component(broken, "model")["modelCard"]["modelParameters"]["unknown"] = 1
    with pytest.raises(AssertionError):
        is_valid(broken)


def test_the_artifact_depends_on_the_model_and_on_its_builders(tmp_path: Path) -> None:
    known, content = model(external=(("w/a.bin", sha("a")), ("w/b.bin", sha("b"))))
    made = release(tmp_path, model=known, content=content)
    is_valid(made)
    top = made["metadata"]["component"]
    assert (top["name"], top["version"], top["bom-ref"]) == ("net.so", "net 1.0", "artifact")
    assert top["hashes"] == [{"alg": "SHA-256", "content": sha("net.so")}]
    assert depends(made, "artifact") == ["model", f"toolchain:{A}", f"toolchain:{B}"]
    assert depends(made, "model") == ["model/external/w/a.bin", "model/external/w/b.bin"]
    weights = component(made, "model/external/w/b.bin")
    assert (weights["type"], weights["hashes"][0]["content"]) == ("data", sha("b"))
    assert read_bill(bill_statement(file="net.so", sha256=sha("net.so"), bill=made)).models == (
        known.sha256,
    )


def test_toolchains_come_with_what_they_consist_of(tmp_path: Path) -> None:
    made = release(tmp_path)
    below = depends(made, f"toolchain:{A}")
    assert {f"base:{A}", f"python:{A}", f"driver:{A}", f"toolchain:{LINK}"} <= set(below)
    assert f"wheel:{A}:apache-tvm@1.0" in below
    assert f"base:{B}" not in below
    assert component(made, f"wheel:{A}:apache-tvm@1.0")["hashes"][0]["content"] == "a" * 64
    assert component(made, f"toolchain:{LINK}")["type"] == "application"
    refs = [each["bom-ref"] for each in made["components"]]
    assert len(refs) == len(set(refs))
    assert {ref for each in made["dependencies"] for ref in each.get("dependsOn", [])} <= {*refs}


def test_the_model_is_described_as_its_file_does(tmp_path: Path) -> None:
    made = release(tmp_path)
    found = component(made, "model")
    assert found["type"] == "machine-learning-model"
    assert found["hashes"] == [{"alg": "SHA-256", "content": model()[0].sha256}]
    assert properties(found) == {
        "harness:format": "ONNX",
        "harness:initializers": "1",
        "harness:ir-version": "9",
        "harness:nodes": "5",
        "harness:operator:ai.onnx::Add": "1",
        "harness:operator:ai.onnx::If": "1",
        "harness:operator:ai.onnx::Relu": "2",
        "harness:operator:own::Special": "1",
        "harness:opset:ai.onnx": "17",
        "harness:opset:own": "1",
        "harness:producer": "maker 2",
    }
    assert found["modelCard"] == {
        "modelParameters": {
            "inputs": [{"format": "x: float 2x4"}, {"format": "c: bool scalar"}],
            "outputs": [{"format": "y: float ?x4"}, {"format": "z: int64 ?"}],
        }
    }


def test_nothing_is_guessed(tmp_path: Path) -> None:
    text = json.dumps(release(tmp_path))
    for word in ("architectureFamily", "modelArchitecture", "datasets", "task", "approach"):
        assert word not in text


def test_hostile_names_are_shown(tmp_path: Path) -> None:
    known, content = model(proto("x\x1b[2J", "own\u202e"), name="n\net")
    made = release(tmp_path, model=known, content=content, file="a\x07.so")
    is_valid(made)
    assert made["metadata"]["component"]["name"] == "a\\x07.so"
    assert component(made, "model")["name"] == "n\\net"
    found = component(made, "model")["modelCard"]["modelParameters"]["inputs"][0]["format"]
    assert found == "x\\x1b[2J: float ?x4"
    assert "harness:operator:own\\u202e::Special" in properties(component(made, "model"))


def test_too_many_operators_are_counted(tmp_path: Path) -> None:
    graph = proto()
    for number in range(MAX_LISTED + 1):
        graph.graph.node.append(helper.make_node(f"Op{number:05}", ["y"], []))
    known, content = model(graph)
    facts = properties(component(release(tmp_path, model=known, content=content), "model"))
    operators = [name for name in facts if name.startswith("harness:operator:")]
    assert len(operators) == MAX_LISTED
    assert facts["harness:operators-not-listed"] == "5"


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="these bytes are not the model"):
        release(tmp_path, content=b"other")
    (tmp_path / "2").mkdir()
    with pytest.raises(ValueError, match="has no bill"):
        release(tmp_path / "2", builders=["tvm/9-x-x86_64"])


def test_a_time_is_written_only_if_it_is_given(tmp_path: Path) -> None:
    some = bills(tmp_path)
    assert "timestamp" not in release(tmp_path, bills=some)["metadata"]
    dated = release(tmp_path, bills=some, epoch=1_764_547_200)
    is_valid(dated)
    assert dated["metadata"]["timestamp"].startswith("2025-12-01T00:00:00")


def test_the_serial_number_follows_the_content(tmp_path: Path) -> None:
    some = bills(tmp_path)
    first = release(tmp_path, bills=some)["serialNumber"]
    assert first == release(tmp_path, bills=some)["serialNumber"]
    assert first != release(tmp_path, bills=some, sha256=sha("x"))["serialNumber"]
    assert first != release(tmp_path, bills=some[:2])["serialNumber"]
    assert canonical(release(tmp_path, bills=some)) == canonical(
        release(tmp_path, bills=some[::-1])
    )


AGAIN = """
import sys
from pathlib import Path
from tests.unit.test_signoff_mlbom import release
from harness.signoff.strictjson import canonical
some = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
sys.stdout.buffer.write(canonical(release(Path(), bills=some)))
"""


@pytest.mark.slow
def test_another_process_with_another_hash_seed_writes_the_same(tmp_path: Path) -> None:
    for number, each in enumerate(bills(tmp_path)):
        (tmp_path / "bills").mkdir(exist_ok=True)
        (tmp_path / "bills" / str(number)).write_bytes(each)
    made = {
        subprocess.run(
            [sys.executable, "-c", AGAIN, str(tmp_path / "bills")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(made) == 1
    (data,) = made
    assert canonical(parse(data, "bill")) == data


def test_a_description_has_what_subgraphs_and_functions_hold() -> None:
    found = describe(*model())
    assert found.operators == {
        "ai.onnx::If": 1, "ai.onnx::Relu": 2, "own::Special": 1, "ai.onnx::Add": 1,
    }  # fmt: skip
    assert [each.name for each in found.inputs] == ["x", "c"]
    assert found.opsets == {"ai.onnx": 17, "own": 1}
