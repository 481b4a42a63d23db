"""What a build opens inside its image is seen from outside, before its command begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness import opened
from harness.engines.docker import Docker
from harness.engines.interface import Inside, RunOutcome
from harness.store import Store
from tests.conftest import Harness
from tests.integration.test_docker import engine, image, place, spec, third_party

pytestmark = pytest.mark.integration

__all__ = ["engine", "image", "place", "third_party"]  # fixtures

TRIXIE = "tvm/0.27.0.post1-trixie-x86_64"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """As a copy of the image's /usr/share would have its folders."""
    folder = tmp_path / "copy"
    (folder / "common-licenses").mkdir(parents=True)
    return folder


def test_what_is_opened_is_seen_and_nothing_else(
    engine: Docker, image: str, place: Path, copy: Path
) -> None:
    code = "open('/usr/share/common-licenses/GPL-3').read(); open('/etc/os-release').read()"
    wanted = Inside("share", "/usr/share", copy)
    result = engine.run(replace(spec(engine, image, place, code), inside=(wanted,)))
    assert result.opened == opened.Opened({"share": ("common-licenses/GPL-3",)}, complete=True)
    (out,) = place.glob("out*")
    assert list(out.iterdir()) == []  # neither pipe is left


def test_what_is_not_there_to_be_watched_is_no_answer(
    engine: Docker, image: str, place: Path, copy: Path
) -> None:
    wanted = Inside("docs", "/no/such/place", copy)
    result = engine.run(replace(spec(engine, image, place, "print(1)"), inside=(wanted,)))
    assert result.exit_code == 0
    assert result.opened is not None
    assert not result.opened.complete


def test_a_link_in_the_place_of_the_folder_leads_nowhere(
    engine: Docker, image: str, place: Path, copy: Path
) -> None:
    """/bin is a link on Debian; followed from outside, it would be the host's."""
    wanted = Inside("bin", "/bin", copy)
    result = engine.run(replace(spec(engine, image, place, "print(1)"), inside=(wanted,)))
    assert result.opened is not None
    assert not result.opened.complete


def test_a_run_that_does_not_wait_to_be_watched_is_no_answer(
    engine: Docker, image: str, place: Path, copy: Path, third_party: Callable[..., str]
) -> None:
    """An image whose Python is something else, and never comes to the gate."""
    dockerfile = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN ln -sf /bin/true /usr/bin/python3\n"
    strange = third_party(image, {"Dockerfile": dockerfile})
    wanted = Inside("share", "/usr/share", copy)
    made = replace(spec(engine, strange, place, "print(1)"), inside=(wanted,))
    result = engine.run(made)
    assert result.outcome is not RunOutcome.EXITED
    assert result.opened is not None
    assert not result.opened.complete


@pytest.mark.usefixtures("engine")
def test_independence_counts_what_a_build_in_an_image_opened(
    harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    done = harness(
        "run", small(), "--input", "x=2x8", "--toolchain", TRIXIE, "--engine", "docker",
        "--replayer", "llvm/22.1.8-debian-x86_64", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    origins = {origin["toolchain"]: origin for origin in done.report["independence"]["origins"]}
    assert {name: origin["measured"] for name, origin in origins.items()} == dict.fromkeys(
        origins, True
    )
    found = opened.load(Store(tmp_path / "results").read(done.report["builds"][0]["opened"]))
    assert found is not None
    assert any(path.endswith("libtvm_compiler.so") for path in found.paths["toolchain"])
    # numpy is imported; its tests are installed and are not.
    assert any(path.startswith("numpy/") for path in found.paths["toolchain"])
    assert not any(path.startswith("numpy/tests/") for path in found.paths["toolchain"])
