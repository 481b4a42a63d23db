"""Bills of materials: valid by the library's own strict schema, and the same every time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from harness.components import Base
from harness.environments import Environment
from harness.lockfile import hashes_of
from harness.models import Image, Toolchain
from harness.profiles import base_of, system_of
from harness.sbom import Unpacked, bill, debian_packages
from tests.unit.samples import toolchain
from tests.unit.test_components import FILES, environment

BASE = Base("debian 12", "3.11.7 /usr/bin/python3")
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u9
Description: GNU C Library
 Package: not-a-package

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: ../evil
Status: install ok installed
Version: 1

Package: odd
Status: install ok installed
Version: 1\x1b[2J
"""


def made(folder: Path) -> tuple[Toolchain, Environment]:
    """``apache-tvm`` has one hash in its lock, ``onnx`` has two."""
    there = environment(folder, FILES)
    (folder / "driver.py").write_text("pass\n")
    (folder / "x.lock").write_text(
        f"apache-tvm==1.0 \\\n    --hash=sha256:{'a' * 64}\n"
        f"onnx==2.0 ; python_version > '3' \\\n    --hash=sha256:{'c' * 64} \\\n"
        f"    --hash=sha256:{'b' * 64}\n"
    )
    item = replace(toolchain(), driver=str(folder / "driver.py"), lock=str(folder / "x.lock"))
    return item, there


def image(folder: Path) -> Unpacked:
    (folder / "image/var/lib/dpkg").mkdir(parents=True)
    (folder / "image/var/lib/dpkg/status").write_text(STATUS)
    return Unpacked("sha256:" + "d" * 64, folder / "image")


def components(data: bytes) -> dict[str, dict[str, Any]]:
    return {each["bom-ref"]: each for each in json.loads(data)["components"]}


def test_it_is_valid_cyclonedx_1_6(tmp_path: Path) -> None:
    item, there = made(tmp_path)
    tool = made(tmp_path / "linker"), "llvm/22-l-x86_64"
    linker = (replace(tool[0][0], name=tool[1]), tool[0][1])
    data = bill(item, there, BASE, linker=linker, image=image(tmp_path), epoch=1_700_000_000)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None
    content = json.loads(data)
    assert content["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert content["metadata"]["component"]["name"] == item.name


def test_it_is_the_same_every_time_and_has_no_time_unless_given(tmp_path: Path) -> None:
    item, there = made(tmp_path)
    data = bill(item, there, BASE)
    assert data == bill(item, there, BASE)
    assert "timestamp" not in json.loads(data)["metadata"]
    other = Environment(there.root, "1" * 64)
    assert json.loads(bill(item, other, BASE))["serialNumber"] != json.loads(data)["serialNumber"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None


def test_a_wheels_hash_is_stated_only_where_the_lock_leaves_no_choice(tmp_path: Path) -> None:
    item, there = made(tmp_path)
    assert hashes_of(Path(item.lock))[("onnx", "2.0")] == ("b" * 64, "c" * 64)
    found = components(bill(item, there, BASE))
    tvm = found[f"wheel:{item.name}:apache-tvm@1.0"]
    assert tvm["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert tvm["purl"] == "pkg:pypi/apache-tvm@1.0"
    onnx = found[f"wheel:{item.name}:onnx@2.0"]
    assert "hashes" not in onnx
    facts = {each["name"]: each["value"] for each in onnx["properties"]}
    assert facts["harness:sha256-one-of"] == f"{'b' * 64} {'c' * 64}"
    assert facts["harness:installed-bytes"] == str(len(FILES["onnx/__init__.py"]))


def test_a_changed_file_changes_the_wheels_installed_digest(tmp_path: Path) -> None:
    item, there = made(tmp_path / "one")
    changed = environment(tmp_path / "two", {**FILES, "onnx/__init__.py": b"evil"})
    ref = f"wheel:{item.name}:onnx@2.0"
    one, two = (components(bill(item, e, BASE))[ref] for e in (there, changed))
    assert one["properties"] != two["properties"]


def test_driver_and_debian_packages_are_listed(tmp_path: Path) -> None:
    item, there = made(tmp_path)
    found = components(bill(item, there, BASE, image=image(tmp_path)))
    digest = hashlib.sha256(b"pass\n").hexdigest()
    assert found["driver"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    libc = found["deb:libc6@2.36-9+deb12u9:amd64"]
    assert libc["purl"].startswith("pkg:deb/debian/libc6@2.36-9")
    assert libc["purl"].endswith("?arch=amd64")
    assert [ref for ref in found if ref.startswith("deb:")] == sorted(
        ref for ref in found if ref.startswith(("deb:libc6", "deb:odd"))
    )


def test_an_image_whose_packages_nobody_copied_says_so(tmp_path: Path) -> None:
    item, there = made(tmp_path)
    data = bill(item, there, BASE, image=Unpacked("sha256:" + "d" * 64, None))
    facts = {each["name"]: each["value"] for each in components(data)["base"]["properties"]}
    assert facts["harness:image-digest"] == "sha256:" + "d" * 64
    assert "not listed" in facts["harness:packages"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) is None


def test_the_base_of_a_toolchain_is_the_hosts_or_its_images(tmp_path: Path) -> None:
    item, there = made(tmp_path)
    assert base_of(item, there, BASE) == BASE
    inside = replace(there, image="sha256:" + "d" * 64, inside=True)
    assert base_of(item, inside, BASE).system == "image sha256:dddddddddddd: not looked at"
    (tmp_path / "system/etc").mkdir(parents=True)
    (tmp_path / "system/etc/os-release").write_text("ID=debian\nVERSION_ID=13\n")
    item = replace(item, image=Image(base="trixie-amd64"))
    assert base_of(item, inside, BASE).system == "image trixie-amd64: debian 13"
    assert system_of(there) is None


def test_hostile_package_lists_stay_text(tmp_path: Path) -> None:
    root = image(tmp_path).root
    assert root is not None
    assert [name for name, _, _ in debian_packages(root)] == ["libc6", "odd"]
    assert not any("\x1b" in version for _, version, _ in debian_packages(tmp_path / "image"))
    assert list(debian_packages(tmp_path / "nowhere")) == []
    link = tmp_path / "linked"
    (link / "var/lib/dpkg").mkdir(parents=True)
    (link / "var/lib/dpkg/status").symlink_to(tmp_path / "image/var/lib/dpkg/status")
    assert list(debian_packages(link)) == []
