"""The backend that makes a wheel of a source archive without running any of it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from harness.unpacked import Unpacked


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An unpacked source archive, as the working directory."""
    root = tmp_path / "demo-1.0"
    (root / "demo_tool" / "data").mkdir(parents=True)
    (root / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: Demo.Tool\nVersion: 1.0\n")
    (root / "setup.py").write_text("open('ran', 'w')\n")
    (root / "demo_tool/__init__.py").write_text("VALUE = 1\n")
    (root / "demo_tool/data/x.txt").write_text("x\n")
    (root / "other.py").write_text("no part of the package\n")
    monkeypatch.chdir(root)
    return root


def test_the_package_and_nothing_else(archive: Path, tmp_path: Path) -> None:
    name = Unpacked().build_wheel(str(tmp_path))
    assert name == "demo_tool-1.0-py3-none-any.whl"
    with zipfile.ZipFile(tmp_path / name) as wheel:
        assert wheel.namelist() == [
            "demo_tool/__init__.py",
            "demo_tool/data/x.txt",
            "demo_tool-1.0.dist-info/METADATA",
            "demo_tool-1.0.dist-info/WHEEL",
            "demo_tool-1.0.dist-info/RECORD",
        ]
    assert not (archive / "ran").exists()


def test_the_same_bytes_again(archive: Path, tmp_path: Path) -> None:
    first = (tmp_path / Unpacked().build_wheel(str(tmp_path))).read_bytes()
    (archive / "demo_tool/__init__.py").touch()
    assert (tmp_path / Unpacked().build_wheel(str(tmp_path))).read_bytes() == first


def test_a_link_is_refused(archive: Path, tmp_path: Path) -> None:
    (archive / "demo_tool/data/link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="no regular file"):
        Unpacked().build_wheel(str(tmp_path))


@pytest.mark.parametrize("name", ["../x", "missing", "a/b", "demo_tool\x00"])
def test_a_name_that_is_no_package_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    (archive / "PKG-INFO").write_text(f"Name: {name}\nVersion: 1.0\n")
    with pytest.raises(ValueError, match=r"package"):
        Unpacked().build_wheel(str(tmp_path))
