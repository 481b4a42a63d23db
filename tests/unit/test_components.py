"""Files → components: by what was opened, and against what RECORD files may claim."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.components import (
    COMPILER,
    FRONTEND,
    LINKER,
    LLVM,
    Base,
    Makings,
    Profile,
    host_base,
    os_name,
    profile,
)
from harness.distributions import distributions
from harness.environments import Environment, files_of
from harness.errors import ToolchainError
from harness.independence import shared
from harness.models import Component
from harness.opened import Opened
from harness.origins import Makers, makers
from harness.trees import listing
from tests.unit.samples import toolchain
from tests.unit.test_origins import elf

BASE = Base("debian 12, glibc 2.36", "3.11.7 /usr/bin/python3")
LIBRARY = elf() + b"LLVM version 22.1.0\n"
FILES = {
    "tvm/lib.so": LIBRARY,
    "tvm/__init__.py": b"version = 1\n",
    "tvm/__pycache__/__init__.cpython-311.pyc": b"compiled tvm",
    "tvm/unused.py": b"never opened\n",
    "onnx/__init__.py": b"onnx = 1\n",
    "apache_tvm-1.0.dist-info/RECORD": b"tvm/lib.so,,\ntvm/__init__.py,,\ntvm/unused.py,,\n",
    "onnx-2.0.dist-info/RECORD": b"onnx/__init__.py,,\n../../etc/passwd,,\n",
}
OPENED = tuple(sorted(path for path in FILES if "unused" not in path and "RECORD" not in path))


def environment(folder: Path, files: dict[str, bytes]) -> Environment:
    root = folder / "root"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (folder / ".complete.json").write_text(json.dumps({"entries": listing(root), "sha256": "0"}))
    return Environment(root, "0" * 64)


def profiled(
    folder: Path,
    files: dict[str, bytes],
    opened: Opened | None,
    name: str = "tvm/1-a-x86_64",
) -> Profile:
    made = toolchain(name)
    made = type(made)(**{**vars(made), "driver": None})
    return profile(made, environment(folder, files), None, opened, BASE, Makings())


def seen(*paths: str) -> Opened:
    return Opened({"toolchain": paths}, True)


def part(found: Profile, name: str) -> Component:
    return next(each for each in found.origin.components if each.name == name)


def test_components_hold_what_was_opened(tmp_path: Path) -> None:
    found = profiled(tmp_path, FILES, seen(*OPENED))
    assert found.origin.measured
    assert part(found, FRONTEND).files == 1
    assert part(found, COMPILER).files == 3  # the compiled file follows its source
    assert part(found, COMPILER).packages == ("apache-tvm",)
    assert part(found, LLVM).llvm == ("22.1.0",)
    assert part(found, LLVM).built_by == ("GCC: (GNU) 14.2.1", "clang version 22.1.8")
    assert part(found, LLVM).size == len(LIBRARY)
    assert part(found, LINKER).files == 4  # no linker of its own: everything stands for it


@pytest.mark.parametrize(
    "opened",
    [None, Opened({"toolchain": OPENED}, False, "lost"), Opened({"toolchain": ()}, True)],
)
def test_where_it_is_not_known_all_that_is_installed_counts(
    tmp_path: Path, opened: Opened | None
) -> None:
    found = profiled(tmp_path, FILES, opened)
    assert not found.origin.measured
    assert found.origin.reason
    assert len(found.own) == len(FILES)


def test_a_component_without_files_is_everything(tmp_path: Path) -> None:
    found = profiled(tmp_path, FILES, seen("tvm/__init__.py", "onnx/__init__.py"))
    assert found.parts[LLVM] == found.own


def test_a_file_that_nobody_lists_reaches_into_every_stage(tmp_path: Path) -> None:
    files = {**FILES, "sitecustomize.py": b"evil"}
    found = profiled(tmp_path, files, seen(*OPENED, "sitecustomize.py"))
    (stray,) = {digest for digest, size in found.own.items() if size == 4}
    assert all(stray in found.parts[name] for name in (FRONTEND, COMPILER, LLVM))


def test_an_overlay_that_changes_one_file_shares_the_rest(tmp_path: Path) -> None:
    clean = profiled(tmp_path / "clean", FILES, seen(*OPENED))
    changed = {**FILES, "tvm/__init__.py": b"changed = 1\n"}
    evil = profiled(tmp_path / "evil", changed, seen(*OPENED), "tvm/1-evil-x86_64")
    pair = shared(clean, evil)
    assert 0.9 < pair.components[COMPILER] < 1
    assert pair.components[FRONTEND] == pair.components[LLVM] == 1
    assert set(pair.same_builder) >= {FRONTEND, COMPILER, LLVM}


def test_other_names_and_other_records_for_the_same_files_change_nothing(tmp_path: Path) -> None:
    clean = profiled(tmp_path / "clean", FILES, seen(*OPENED))
    renamed = {f"other/{i}{Path(p).suffix}": FILES[p] for i, p in enumerate(OPENED)}
    records = {"own-1.0.dist-info/RECORD": "".join(f"{p},,\n" for p in renamed).encode()}
    copy = profiled(tmp_path / "copy", renamed | records, seen(*renamed), "tvm/1-b-x86_64")
    assert shared(clean, copy).bytes_shared == 1
    assert set(shared(clean, copy).same_builder) >= {FRONTEND, COMPILER, LLVM}


def test_records_made_to_hurt_are_harmless(tmp_path: Path) -> None:
    hurt = {
        **FILES,
        "x-1.dist-info/RECORD": b'"' + b"a" * 200_000 + b"\n",
        "\x1b[2Jy-1.dist-info/RECORD": b"\xff\xfe\n,,,\n",
        "RECORD": b"tvm/lib.so,,\n",
    }
    there = environment(tmp_path, hurt)
    found = distributions(there.root, files_of(there))
    assert {each.name for each in found} >= {"apache-tvm", "onnx", "x"}
    assert not any("\x1b" in each.name for each in found)


def test_a_damaged_list_of_files_is_an_error(tmp_path: Path) -> None:
    there = environment(tmp_path, FILES)
    for damaged in ("", "[]", '{"entries": {"a": "f"}}', '{"entries": {"a": 1}}'):
        (tmp_path / ".complete.json").write_text(damaged)
        with pytest.raises(ToolchainError):
            files_of(there)


def test_the_base_is_named(tmp_path: Path) -> None:
    assert host_base("/usr/bin/python3").python.endswith(" /usr/bin/python3")
    assert os_name(tmp_path) == "unknown"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="x"\nID=debian\nVERSION_ID="12"\n\x1b[2J=1\n')
    assert os_name(tmp_path) == "debian 12"


def test_makers_are_read_once_and_a_damaged_cache_is_read_anew(tmp_path: Path) -> None:
    path, digest = Path(sys.executable).resolve(), "a" * 64
    honest = makers(path)
    assert honest is not None
    cache = tmp_path / "makers"
    assert Makings(cache).of(path, digest) == honest
    (kept,) = cache.iterdir()
    kept.write_text('{"built_by": ["kept"], "llvm": []}')
    assert Makings(cache).of(path, digest) == Makers(("kept",), ())
    kept.write_text('{"built_by": 1')
    assert Makings(cache).of(path, digest) == honest
    assert Makings().of(tmp_path / "absent", digest) is None
