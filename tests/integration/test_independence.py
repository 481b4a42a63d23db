"""Independence and bills of materials of a real run: real TVM wheels, real sandboxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.conftest import CLEAN, EVIL, ROOT, Harness

pytestmark = pytest.mark.integration

TWIN = "tvm/0.27.0-twin-x86_64"
REPLAYER, LINKER = "llvm/22.1.8-xtc-x86_64", "llvm/22.1.8-ziglang-x86_64"


def twin(folder: Path) -> None:
    """The wheels of 0.27.0 once more, by the name of somebody else."""
    source = ROOT / "toolchains" / "tvm"
    text = (source / "0.27.0-pypi-x86_64.toml").read_text("utf-8")
    head, found, _ = text.partition("\n[image]")
    text = head if found else text
    (folder / "tvm" / "driver.py").write_bytes((source / "driver.py").read_bytes())
    (folder / "tvm" / "replay.toml").write_bytes((source / "replay.toml").read_bytes())
    (folder / "tvm" / "0.27.0-twin-x86_64.lock").write_bytes(
        (source / "0.27.0-pypi-x86_64.lock").read_bytes()
    )
    (folder / "tvm" / "0.27.0-twin-x86_64.toml").write_text(
        text.replace('publisher = "pypi"', 'publisher = "twin"').replace(
            'lock = "0.27.0-pypi-x86_64.lock"', 'lock = "0.27.0-twin-x86_64.lock"'
        )
    )


def pair(found: dict[str, Any], left: str, right: str) -> dict[str, Any]:
    return next(p for p in found["pairs"] if {p["left"], p["right"]} == {left, right})


def numbers(found: dict[str, Any]) -> dict[str, int]:
    return {stage["stage"]: len(stage["independent"]) for stage in found["stages"]}


def test_a_run_says_how_independent_its_toolchains_are(
    harness: Harness, small: Callable[..., Path], evil: Path, tmp_path: Path
) -> None:
    """Two releases, a twin under another name and an overlay are one builder, and say so."""
    twin(evil)
    names = (CLEAN[0], CLEAN[1], TWIN, EVIL)
    chosen = [word for name in names for word in ("--toolchain", name)]
    done = harness(
        "run", small(), "--input", "x=2x8", "--repeat", 1, "--json",
        "--engine", "sandbox", "--toolchains-dir", evil, *chosen,
    )  # fmt: skip
    assert done.code == 0, done.err
    found = done.report["independence"]

    origins = {origin["toolchain"]: origin for origin in found["origins"]}
    assert set(origins) == {*names, REPLAYER, LINKER}
    assert all(origin["measured"] for origin in origins.values()), origins
    compiler = {part["name"]: part for part in origins[CLEAN[0]]["components"]}
    assert compiler["llvm"]["llvm"] == ["22.1.0"]
    assert any("GCC" in maker for maker in compiler["llvm"]["built_by"])
    assert 100 < compiler["compiler"]["files"] < 5000  # what was opened, not what is installed
    assert compiler["linker"]["files"] >= 3  # the linker and the two stubs that it is given

    # 1. Two names for one wheel are one.
    same = pair(found, CLEAN[1], TWIN)
    assert same["bytes_shared"] == 1
    assert set(same["components"].values()) == {1}
    # 2. An overlay of one file shares the rest.
    overlaid = pair(found, CLEAN[1], EVIL)
    assert 0.999 < overlaid["bytes_shared"] <= 1
    assert set(overlaid["same_builder"]) == {"frontend", "compiler", "llvm", "linker"}
    # 3. Two releases have another compiler library, and all else in common.
    releases = pair(found, CLEAN[0], CLEAN[1])
    assert 0.4 < releases["bytes_shared"] < 0.7
    assert releases["components"]["frontend"] == releases["components"]["linker"] == 1
    assert releases["components"]["llvm"] == 0
    assert "driver" in releases["facets"]
    # 4. Somebody else's LLVM shares nothing with them, and counts where it regenerates.
    assert pair(found, CLEAN[0], REPLAYER)["bytes_shared"] == 0
    replayed = {r["stage"] for r in done.report["replays"] if r["replayer"] == REPLAYER}
    assert "object" in replayed
    assert numbers(found) == {
        stage["stage"]: 2 if stage["stage"] in replayed else 1 for stage in found["stages"]
    }

    shown = harness("independence")
    assert shown.code == 0, shown.err
    assert max(map(len, shown.out.splitlines())) <= 100
    assert "object 2" in shown.out
    assert "proves nothing" in shown.out
    assert json.loads(harness("independence", done.report["run"], "--json").out) == found
    assert "object 2" in harness("show", "latest").out

    run = tmp_path / "results" / done.report["run"] / "sbom"
    for name in origins:
        data = (run / f"{name}.cdx.json").read_text("utf-8")
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data) is None
    bill = json.loads((run / f"{CLEAN[1]}.cdx.json").read_text("utf-8"))
    wheels = {part["name"]: part["version"] for part in bill["components"] if "purl" in part}
    assert wheels["apache-tvm"] == "0.27.0"
    assert wheels["ziglang"] == "0.17.1"


def test_policy_asks_for_independent_builders(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    small()
    (tmp_path / "nightly.toml").write_text(
        f'toolchains = ["{CLEAN[0]}", "{CLEAN[1]}"]\nreplayers = ["{REPLAYER}"]\n'
        "[variations]\nbuilds = 1\n[policy]\nmin_builds = 1\n"
        "[policy.min_independent]\nobject = 2\nlibrary = 2\n"
        '[[model]]\nname = "small"\npath = "small.onnx"\ninputs = ["x=2x8"]\n'
    )
    done = harness("nightly", "--engine", "sandbox", "--json")
    assert done.code == 2, done.err
    assert done.verdict()["verdict"] == "INCONCLUSIVE"
    assert done.verdict()["reasons"] == [
        "policy: stage library: effectively independent builders that agreed: 1, 2 required"
    ]
