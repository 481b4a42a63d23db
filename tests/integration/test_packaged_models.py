"""Models out of packages: the real pip, and a wheel of our own."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ModelError
from harness.sources import ModelSource, fetch

pytestmark = pytest.mark.integration

CONTENT = b"whatever the model is"
WHEEL = "demo_model-1.0-py3-none-any.whl"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip sees, with one wheel that holds a model."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    content = CONTENT
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("demo/model.onnx", content)
        info = "demo_model-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: demo-model\nVersion: 1.0\nRequires-Python: <3\n",
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def packaged(wheels: Path, **changes: Any) -> ModelSource:
    values: dict[str, Any] = {
        "name": "m",
        "package": "demo-model==1.0",
        "file": "demo/model.onnx",
        "package_sha256": (hashlib.sha256((wheels / WHEEL).read_bytes()).hexdigest(),),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
    }
    return ModelSource(**values | changes)


def test_package(tmp_path: Path, wheels: Path) -> None:
    """Requires-Python of the wheel does not matter: none of its code is run."""
    source = packaged(wheels)
    path = fetch(source, cache=tmp_path / "cache")
    assert path.name == "model.onnx"
    assert path.read_bytes() == CONTENT
    path.write_bytes(b"damaged")
    assert fetch(source, cache=tmp_path / "cache") == path
    assert path.read_bytes() == CONTENT
    (wheels / WHEEL).unlink()
    assert fetch(source, cache=tmp_path / "cache") == path  # no pip, no network
    assert [p.name for p in (tmp_path / "cache/models").iterdir()] == [source.sha256]


def test_package_mistakes(tmp_path: Path, wheels: Path) -> None:
    good = packaged(wheels)
    lines: dict[str, dict[str, Any]] = {
        f"m: demo-model==1.0 does not match its locked hash: got sha256 {good.package_sha256[0]}": {
            "package_sha256": ("0" * 64,)
        },
        f"m: demo/model.onnx in demo-model==1.0 has sha256 {good.sha256}, not {'0' * 64}": {
            "sha256": "0" * 64
        },
        f"m: {WHEEL} holds no file 'no.onnx'": {"file": "no.onnx"},
        "m: neither a path nor a whole package reference": {"package_sha256": ()},
    }
    for line, changes in lines.items():
        with pytest.raises(ModelError) as caught:
            fetch(packaged(wheels, **changes), cache=tmp_path / "cache")
        assert caught.value.what == line
    assert not list(tmp_path.glob("cache/models/*"))


def test_member_that_names_another_place(tmp_path: Path, wheels: Path) -> None:
    """The name inside the archive never decides where it is written."""
    with zipfile.ZipFile(wheels / WHEEL, "a") as archive:
        archive.writestr("../../escaped.onnx", CONTENT)
    path = fetch(packaged(wheels, file="../../escaped.onnx"), cache=tmp_path / "cache")
    assert path.is_relative_to(tmp_path / "cache/models")
    assert list(tmp_path.rglob("escaped.onnx")) == [path]
