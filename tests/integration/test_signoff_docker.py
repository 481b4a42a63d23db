"""Three builders, two engines, one emulated; signed off, and verified in a clean container.

What the README walks through, on a small model.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import onnx
import pytest

from harness import images
from harness.engines.docker import Docker
from harness.errors import UsageError
from harness.packages import Python, download_all
from tests.conftest import CLEAN, ROOT, small_model
from tests.integration.test_sign_off import POLICY, Place

pytestmark = pytest.mark.integration

EMULATED, TRIXIE = "tvm/0.27.0.post1-pypi-aarch64", "tvm/0.27.0.post1-trixie-x86_64"
REPLAYER = ("--replayer", "llvm/22.1.8-debian-x86_64")


@pytest.fixture(scope="module")
def image() -> str:
    found = Docker()
    status = found.status()
    if not status.works:
        pytest.skip(f"no Docker engine: {status.reason}")
    return images.ensure_base(found.daemon(), images.DEFAULT_BASE)


@pytest.fixture(scope="module")
def place(image: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("three"))
    onnx.save(small_model(), place.root / "small.onnx")
    explained = "builders = 3\nexplained = true\nunanimous = true"
    (place.root / "policy.toml").write_text(POLICY.replace("builders = 2", explained))
    for name, role in (("alice", "verifier"), ("a", "builder"), ("b", "builder"), ("c", "builder")):
        place("keys", "new", name, "--role", role, "--keys", "keys.toml", "--out", f"{name}.pem")
    common = ("small.onnx", "--input", "x=2x8", "--keys", "keys.toml", "--bundle", "release")
    attest = ("attest", *common)
    own = ("--engine", "sandbox", "--copy-to", "small.so")
    place(*attest, "--toolchain", CLEAN[0], *own, "--key", "a.pem")
    contained = ("--engine", "docker", *REPLAYER)
    place(*attest, "--toolchain", TRIXIE, *contained, "--key", "b.pem")
    place(*attest, "--toolchain", EMULATED, *contained, "--key", "c.pem")
    place(
        "sign-off", *common, *contained, "--repeat", "1", "--policy", "policy.toml",
        "--artifact", "small.so", "--key", "alice.pem",
        "--toolchain", CLEAN[0], "--toolchain", TRIXIE, "--toolchain", EMULATED,
    )  # fmt: skip
    return place


# All that `harness verify` imports: neither a compiler, nor an engine, nor onnx.
NEEDED = {
    "annotated-types", "cffi", "click", "cryptography", "filelock", "markdown-it-py", "mdurl",
    "platformdirs", "pycparser", "pydantic", "pydantic-core", "pyelftools", "pygments", "rich",
    "securesystemslib", "typing-extensions", "typing-inspection",
}  # fmt: skip


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the harness needs for this, by locked hashes, for the Python of the image."""
    folder = tmp_path_factory.mktemp("wheels")
    stanzas = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements.lock").read_text("utf-8"))
    chosen = [text for text in stanzas if re.split(r"[^a-z0-9.-]", text)[0] in NEEDED]
    assert len(chosen) == len(NEEDED)
    (folder / "lock").write_text("\n".join(chosen) + "\n")
    (folder / "wheels").mkdir()
    python = Python("3.11", "x86_64")
    download_all(folder / "lock", folder / "wheels", python, error=UsageError, subject="verify")
    return folder / "wheels"


def verified_in_a_container(image: str, wheels: Path, place: Path) -> tuple[int, str]:
    """The command in a container that has Python and what the command needs, and nothing else."""
    command = (
        "python3 -m pip install --quiet --no-index --no-deps --disable-pip-version-check "
        "--target /tmp/packages /wheels/*.whl && PYTHONPATH=/source:/tmp/packages "
        "exec python3 -B -m harness verify small.so --bundle release --policy policy.toml "
        "--keys keys.toml"
    )
    done = subprocess.run(
        [
            "docker", "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL",
            "--tmpfs", "/tmp:exec", "--env", "HOME=/tmp", "--workdir", "/given",
            "--volume", f"{wheels}:/wheels:ro", "--volume", f"{place}:/given:ro",
            "--volume", f"{ROOT / 'harness'}:/source/harness:ro", image, "sh", "-c", command,
        ],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def handed_on(place: Place, tmp_path: Path) -> Path:
    """What a stranger gets: no private key, no results."""
    target = tmp_path / "given"
    shutil.copytree(place.root, target, ignore=shutil.ignore_patterns("results", "*.pem"))
    return target


def test_a_stranger_verifies_in_a_clean_container(
    image: str, wheels: Path, handed_on: Path
) -> None:
    code, said = verified_in_a_container(image, wheels, handed_on)
    assert code == 0, said
    assert said.startswith("VERIFIED small.so")
    for builder in ("a made", "b made", "c made"):
        assert builder in said
    assert "independent of each other at object" in said


def test_a_tampered_release_is_refused_there(image: str, wheels: Path, handed_on: Path) -> None:
    library = bytearray((handed_on / "small.so").read_bytes())
    library[len(library) // 2] ^= 1
    (handed_on / "small.so").write_bytes(library)
    code, said = verified_in_a_container(image, wheels, handed_on)
    assert code == 1, said
    assert "REFUSED" in said and "0 required" not in said


def test_the_emulated_builder_counts_only_by_the_explanation(place: Place, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(place.root, copy, ignore=shutil.ignore_patterns("results"))
    other = Place(copy)
    text = (copy / "policy.toml").read_text()
    (copy / "policy.toml").write_text(text.replace("explained = true", "explained = false"))
    said = other.verify(code=1)
    # Under this policy nothing was signed, and the emulated builder made other bytes.
    assert "c made" in said and "3 required" in said
