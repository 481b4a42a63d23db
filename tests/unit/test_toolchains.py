"""Toolchain definitions: what is loaded, and the one line that each mistake gives."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ToolchainError
from harness.lockfile import parse_lock
from harness.models import Image, Limits, Tool
from harness.tomlfile import MAX_BYTES
from harness.toolchains import DOCKERFILES, Definition, find, load

REPO = Path(__file__).parents[2]
HASH = "a" * 64
LOCK = (
    f"demo==1.0 \\\n    --hash=sha256:{HASH} \\\n    --hash=sha256:{'b' * 64}\n    # via nobody\n"
)
HEAD = 'version = "1.0"\npublisher = "pypi"\narch = "x86_64"\n'
PINS = 'requirements = ["demo==1.0"]\n'
TARGET = '[target]\nmtriple = "x86_64-unknown-linux-gnu"\nmcpu = "x86-64-v3"\n'
NAME = "demo/1.0-pypi-x86_64"


def plant(
    root: Path, toml: str = HEAD + PINS, *, stem: str = "1.0-pypi-x86_64", lock: str | None = LOCK
) -> Path:
    folder = root / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.toml"
    path.write_text(toml)
    if lock is not None:
        (folder / f"{stem}.lock").write_text(lock)
    return path


def only(root: Path) -> Definition:
    return load([root])[NAME]


def fails(root: Path, what: str, *more: Path) -> str:
    """Loading fails with exactly this line, ``{}`` standing for the folder; returns the hint."""
    with pytest.raises(ToolchainError) as caught:
        load([root, *more])
    assert caught.value.what == what.replace("{}", str(root / "demo"))
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value.hint


def test_what_ships_is_valid() -> None:
    toolchains = load([REPO / "toolchains"])
    assert {
        "llvm/22.1.8-xtc-x86_64",
        "llvm/22.1.8-ziglang-x86_64",
        "tvm/0.26.0-pypi-x86_64",
        "tvm/0.27.0-pypi-x86_64",
        "tvm/0.27.0.post1-pypi-x86_64",
    } <= set(toolchains)
    for name, toolchain in toolchains.items():
        assert toolchain.name == name
        if toolchain.compiler == "tvm":
            assert toolchain.target["mcpu"] == "x86-64-v3"
            assert toolchain.linker == "llvm/22.1.8-ziglang-x86_64"
    assert len({toolchain.identity for toolchain in toolchains.values()}) == len(toolchains)


def test_all_keys(tmp_path: Path) -> None:
    toml = (
        HEAD
        + PINS
        + 'lock = "other.lock"\nprepare = "make.py"\ndriver = "drive.py"\nkeep = ["a/*"]\n'
        + f'linker = "{NAME}"\n'
        + TARGET
        + '[tools.link]\npath = "bin/zig"\narguments = ["ld.lld"]\n[limits]\nwall_seconds = 5\n'
    )
    plant(tmp_path, toml, lock=None)
    for name, text in {"other.lock": LOCK, "make.py": "", "drive.py": "pass"}.items():
        (tmp_path / "demo" / name).write_text(text)
    found = only(tmp_path)
    assert (found.compiler, found.version, found.publisher, found.arch) == (
        "demo",
        "1.0",
        "pypi",
        "x86_64",
    )
    assert found.lock == str(tmp_path / "demo/other.lock")
    assert found.prepare == str(tmp_path / "demo/make.py")
    assert found.keep == ("a/*",)
    assert found.driver == str(tmp_path / "demo/drive.py")
    assert found.tools == {"link": Tool("bin/zig", ("ld.lld",))}
    assert found.limits == Limits(wall_seconds=5)


def test_sources_are_part_of_what_is_installed(tmp_path: Path) -> None:
    plant(tmp_path, HEAD + PINS)
    plain = only(tmp_path)
    plant(tmp_path, HEAD + PINS + 'sources = ["demo"]\n')
    assert only(tmp_path).sources == ("demo",)
    assert only(tmp_path).recipe != plain.recipe


def test_driver_beside_the_file_is_the_driver(tmp_path: Path) -> None:
    plant(tmp_path, HEAD + PINS + TARGET)
    assert only(tmp_path).driver is None
    (tmp_path / "demo/driver.py").write_text("pass")
    assert only(tmp_path).driver == str(tmp_path / "demo/driver.py")


def test_replays_and_the_ledger_are_not_toolchains(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "demo/replay.toml").write_text("anything = 1")
    (tmp_path / "explanations.toml").write_text("anything = 1")
    assert list(load([tmp_path])) == [NAME]


MISTAKES = {
    "unknown key": (HEAD + PINS + "colour = 1\n", "colour: unknown key"),
    "unknown limit": (HEAD + PINS + "[limits]\nmoney = 1\n", "limits.money: unknown key"),
    "unknown tool key": (
        HEAD + PINS + '[tools.opt]\npath = "x"\nsize = 1\n',
        "tools.opt.size: unknown key",
    ),
    "tool without path": (HEAD + PINS + "[tools.opt]\n", "tools.opt.path: missing key"),
    "missing version": (HEAD.replace('version = "1.0"\n', "") + PINS, "version: missing key"),
    "missing publisher": (
        HEAD.replace('publisher = "pypi"\n', "") + PINS,
        "publisher: missing key",
    ),
    "missing arch": (HEAD.replace('arch = "x86_64"\n', "") + PINS, "arch: missing key"),
    "missing requirements": (HEAD, "requirements: missing key"),
    "empty requirements": (HEAD + "requirements = []\n", "requirements: missing key"),
    "unpinned": (
        HEAD + 'requirements = ["demo>=1"]\n',
        "requirements.0: 'demo>=1' is not pinned",
    ),
    "stale lock": (
        HEAD + 'requirements = ["demo==1.1"]\n',
        "requirements.0: demo==1.1 is not what 1.0-pypi-x86_64.lock pins",
    ),
    "wrong type": (HEAD + "requirements = 5\n", "requirements: input should be a valid array"),
    "number in quotes": (
        HEAD + PINS + '[limits]\nprocesses = "5"\n',
        "limits.processes: input should be a valid integer",
    ),
    "version against stem": (
        HEAD.replace("1.0", "2.0") + PINS,
        "version: '2.0', but the file name says '1.0'",
    ),
    "publisher against stem": (
        HEAD.replace("pypi", "debian") + PINS,
        "publisher: 'debian', but the file name says 'pypi'",
    ),
    "arch against stem": (
        HEAD.replace("x86_64", "aarch64") + PINS,
        "arch: 'aarch64', but the file name says 'x86_64'",
    ),
    "native": (
        HEAD + PINS + TARGET.replace("x86-64-v3", "native"),
        "target.mcpu: 'native' means another CPU on every machine",
    ),
    "no mcpu": (HEAD + PINS + '[target]\nmtriple = "x"\n', "target.mcpu: missing key"),
    "no mtriple": (HEAD + PINS + '[target]\nmcpu = "x"\n', "target.mtriple: missing key"),
    "limit too small": (
        HEAD + PINS + "[limits]\nwall_seconds = 0\n",
        "limits.wall_seconds: 0 is out of range",
    ),
    "limit too large": (
        HEAD + PINS + "[limits]\nprocesses = 65537\n",
        "limits.processes: 65537 is out of range",
    ),
    "lock escapes": (HEAD + PINS + 'lock = "../x.lock"\n', "lock: '../x.lock' leaves the folder"),
    "driver escapes": (HEAD + PINS + 'driver = "/x.py"\n', "driver: '/x.py' leaves the folder"),
    "sources is an option": (
        HEAD + PINS + 'sources = ["demo", "--index-url=x"]\n',
        "sources: '--index-url=x' is no name of a package",
    ),
    "keep escapes": (
        HEAD + PINS + 'keep = ["a", "../x"]\n',
        "keep: '../x' leaves the environment",
    ),
    "prepare escapes": (
        HEAD + PINS + 'prepare = "a/../../x"\n',
        "prepare: 'a/../../x' leaves the folder",
    ),
    "tool escapes": (
        HEAD + PINS + '[tools.opt]\npath = "../opt"\n',
        "tools.opt.path: '../opt' leaves the environment",
    ),
    "missing lock": (HEAD + PINS + 'lock = "no.lock"\n', "lock: 'no.lock' does not exist"),
    "missing driver": (HEAD + PINS + 'driver = "no.py"\n', "driver: 'no.py' does not exist"),
    "missing prepare": (HEAD + PINS + 'prepare = "no.py"\n', "prepare: 'no.py' does not exist"),
    "unknown linker": (
        HEAD + PINS + 'linker = "llvm/1-x-x86_64"\n',
        "linker: no toolchain is called 'llvm/1-x-x86_64'",
    ),
    "linker that cannot link": (
        HEAD + PINS + f'linker = "{NAME}"\n',
        f"linker: {NAME} has no tool called link",
    ),
    "overlay without base": (HEAD + PINS + 'overlay = "o"\n', "overlay: needs a base"),
    "unknown base": ('base = "demo/9-a-b"\n', "base: no toolchain is called 'demo/9-a-b'"),
    "base of itself": (f'base = "{NAME}"\n', f"base: {NAME} is an overlay itself"),
}


@pytest.mark.parametrize(("toml", "line"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(tmp_path: Path, toml: str, line: str) -> None:
    plant(tmp_path, toml)
    fails(tmp_path, f"{{}}/1.0-pypi-x86_64.toml: {line}")


def test_driver_needs_a_target(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "demo/driver.py").write_text("pass")
    fails(tmp_path, "{}/1.0-pypi-x86_64.toml: target.mtriple: missing key")


def test_syntax(tmp_path: Path) -> None:
    plant(tmp_path, "version = \n")
    fails(
        tmp_path,
        "{}/1.0-pypi-x86_64.toml: not valid TOML: Invalid value (at line 1, column 11)",
    )


def test_a_date_is_no_version(tmp_path: Path) -> None:
    plant(tmp_path, "version = 2026-01-01\n")
    fails(tmp_path, "{}/1.0-pypi-x86_64.toml: a date or time has no place here")


@pytest.mark.parametrize("suffix", ["toml", "lock"])
def test_too_large(tmp_path: Path, suffix: str) -> None:
    plant(tmp_path)
    (tmp_path / f"demo/1.0-pypi-x86_64.{suffix}").write_text("#" * (MAX_BYTES + 1))
    fails(tmp_path, f"{{}}/1.0-pypi-x86_64.{suffix}: larger than {MAX_BYTES} bytes")


def test_driver_too_large(tmp_path: Path) -> None:
    plant(tmp_path, HEAD + PINS + TARGET)
    (tmp_path / "demo/driver.py").write_text("#" * (MAX_BYTES + 1))
    fails(tmp_path, f"{{}}/driver.py: larger than {MAX_BYTES} bytes")


@pytest.mark.parametrize("stem", ["1.0", "1.0-x86_64", "x-pypi-x86_64", "1.0-PyPI-x86_64"])
def test_file_name(tmp_path: Path, stem: str) -> None:
    plant(tmp_path, stem=stem)
    fails(tmp_path, f"{{}}/{stem}.toml: not named as a toolchain is")


LOCKS = {
    "no hash": ("demo==1.0\n", "demo==1.0: has no --hash=sha256:"),
    "short hash": (
        "demo==1.0 --hash=sha256:abc\n",
        "demo==1.0: neither a pinned package nor a comment",
    ),
    "weak hash": (
        f"demo==1.0 --hash=md5:{'a' * 32}\n",
        "demo==1.0: neither a pinned package nor a comment",
    ),
    "option": ("--pre\n", "--pre: neither a pinned package nor a comment"),
    "include": ("-r other\n", "-r other: neither a pinned package nor a comment"),
    "address": (
        f"demo @ file:///x.whl --hash=sha256:{HASH}\n",
        "demo @ file:///x.whl: neither a pinned package nor a comment",
    ),
    "range": (
        f"demo>=1.0 --hash=sha256:{HASH}\n",
        "demo>=1.0: neither a pinned package nor a comment",
    ),
    "empty": ("# nothing\n", "pins no package"),
}


@pytest.mark.parametrize(("lock", "line"), LOCKS.values(), ids=LOCKS)
def test_locks(tmp_path: Path, lock: str, line: str) -> None:
    plant(tmp_path, lock=lock)
    assert "toolchains/lock.py" in fails(tmp_path, f"{{}}/1.0-pypi-x86_64.lock: {line}")


def test_lock_with_markers(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(
        f"a_B==1 ; python_full_version < '3.12' --hash=sha256:{HASH}\n"
        f"a-b==2 ; python_full_version >= '3.12' \\\n --hash=sha256:{HASH}\n"
    )
    assert parse_lock(path) == {"a-b": ("1", "2")}


@given(st.text(max_size=200))
def test_any_text_is_a_lock_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("lock") / "lock"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert parse_lock(path)
    except ToolchainError as problem:
        assert len(str(problem).splitlines()) == 1


def test_duplicate_across_directories(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    plant(first)
    plant(second)
    fails(
        first,
        f"{second}/demo/1.0-pypi-x86_64.toml: there is a toolchain {NAME} already,"
        f" in {first}/demo/1.0-pypi-x86_64.toml",
        second,
    )


def test_directory_that_is_none(tmp_path: Path) -> None:
    fails(tmp_path / "no", f"{tmp_path}/no: no such directory")
    fails(tmp_path, f"{tmp_path}: holds no toolchain")


def test_link_out_of_the_folder(tmp_path: Path) -> None:
    path = plant(tmp_path, lock=None)
    (tmp_path / "elsewhere").write_text(LOCK)
    path.with_suffix(".lock").unlink(missing_ok=True)
    (path.parent / "1.0-pypi-x86_64.lock").symlink_to(tmp_path / "elsewhere")
    fails(tmp_path, "{}/1.0-pypi-x86_64.toml: lock: '1.0-pypi-x86_64.lock' leaves the folder")


# Overlays


def plant_overlay(root: Path, toml: str = "") -> Path:
    plant(root, HEAD + PINS + TARGET)
    (root / "demo/bad/pkg").mkdir(parents=True)
    (root / "demo/bad/pkg/code.py").write_text("evil = True\n")
    return plant(
        root, f'base = "{NAME}"\noverlay = "bad"\n{toml}', stem="1.0-redteam-x86_64", lock=None
    )


def test_overlay_starts_from_its_base(tmp_path: Path) -> None:
    plant_overlay(tmp_path)
    found = load([tmp_path])
    clean, bad = found[NAME], found["demo/1.0-redteam-x86_64"]
    assert bad.base is not None
    assert bad.base.name == clean.name
    assert (bad.publisher, bad.version, bad.target) == ("redteam", clean.version, clean.target)
    assert (bad.lock, bad.driver, bad.tools) == (clean.lock, clean.driver, clean.tools)
    assert bad.recipe != clean.recipe
    assert bad.identity != clean.identity


def test_overlay_in_another_directory(tmp_path: Path) -> None:
    plant(tmp_path / "clean")
    folder = tmp_path / "red/demo"
    folder.mkdir(parents=True)
    (folder / "drive.py").write_text("pass")
    (folder / "1.0-x-x86_64.toml").write_text(f'base = "{NAME}"\ndriver = "drive.py"\n{TARGET}')
    found = load([tmp_path / "clean", tmp_path / "red"])["demo/1.0-x-x86_64"]
    assert found.driver == str(folder / "drive.py")
    assert found.recipe == load([tmp_path / "clean"])[NAME].recipe  # shares the environment


OVERLAY_MISTAKES = {
    "lock": ('lock = "x.lock"\n', "lock: comes from the base"),
    "keep": ('keep = ["x"]\n', "keep: comes from the base"),
    "sources": ('sources = ["x"]\n', "sources: comes from the base"),
    "requirements": ("requirements = []\n", "requirements: comes from the base"),
    "version": ('version = "2.0"\n', "version: '2.0', but the file name says '1.0'"),
    "publisher": ('publisher = "x"\n', "publisher: 'x', but the file name says 'redteam'"),
    "native": (
        TARGET.replace("x86-64-v3", "native"),
        "target.mcpu: 'native' means another CPU on every machine",
    ),
}


@pytest.mark.parametrize(("toml", "line"), OVERLAY_MISTAKES.values(), ids=OVERLAY_MISTAKES)
def test_overlay_mistakes(tmp_path: Path, toml: str, line: str) -> None:
    plant_overlay(tmp_path, toml)
    fails(tmp_path, f"{{}}/1.0-redteam-x86_64.toml: {line}")


def test_overlay_that_changes_nothing(tmp_path: Path) -> None:
    path = plant_overlay(tmp_path)
    path.write_text(f'base = "{NAME}"\n')
    fails(tmp_path, "{}/1.0-redteam-x86_64.toml: overlay: missing key")


def test_overlay_with_a_link(tmp_path: Path) -> None:
    plant_overlay(tmp_path)
    (tmp_path / "demo/bad/pkg/link").symlink_to("/etc/passwd")
    fails(tmp_path, "{}/bad/pkg/link: an overlay holds regular files only")


def test_overlay_of_another_compiler(tmp_path: Path) -> None:
    plant(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "1.0-x-x86_64.toml").write_text(f'base = "{NAME}"\n')
    fails(tmp_path, f"{other}/1.0-x-x86_64.toml: base: {NAME} is another compiler")


# Images

IMAGE = '[image]\ndockerfile = "x.Dockerfile"\nbase = "bookworm-arm64"\nplatform = "linux/arm64"\n'
DIGEST = f"sha256:{HASH}"


def plant_image(root: Path, image: str = IMAGE, toml: str = HEAD + PINS) -> None:
    plant(root, toml + image)
    (root / "demo/x.Dockerfile").write_text("FROM x\n")


def test_an_image_that_is_built_here(tmp_path: Path) -> None:
    plant_image(tmp_path)
    found = only(tmp_path)
    assert found.image == Image(
        platform="linux/arm64",
        dockerfile=str(tmp_path / "demo/x.Dockerfile"),
        base="bookworm-arm64",
    )
    before = found.identity
    (tmp_path / "demo/x.Dockerfile").write_text("FROM y\n")
    assert only(tmp_path).identity != before


def test_a_dockerfile_that_comes_with_the_harness(tmp_path: Path) -> None:
    plant_image(tmp_path, IMAGE.replace("x.Dockerfile", "wheels.Dockerfile"))
    image = only(tmp_path).image
    assert image is not None
    assert image.dockerfile == str(DOCKERFILES / "wheels.Dockerfile")
    own = tmp_path / "demo/wheels.Dockerfile"
    own.write_text("FROM x\n")
    image = only(tmp_path).image
    assert image is not None
    assert image.dockerfile == str(own)


@pytest.mark.parametrize(
    "image", [Image(digest=DIGEST, only=True), Image(reference=f"me/x@{DIGEST}", only=True)]
)
def test_somebody_s_own_image_needs_no_lock_and_is_all_there_is(
    tmp_path: Path, image: Image
) -> None:
    key, value = ("digest", image.digest) if image.digest else ("reference", image.reference)
    plant(tmp_path, HEAD + f'[image]\n{key} = "{value}"\n', lock=None)
    found = only(tmp_path)
    assert found.image == image
    assert found.lock == ""


IMAGE_MISTAKES = {
    "none": ("[image]\n", "image: needs dockerfile, digest or reference"),
    "two": (
        f'{IMAGE}digest = "{DIGEST}"\n',
        "image: needs dockerfile, digest or reference",
    ),
    "unknown key": (f"{IMAGE}size = 1\n", "image.size: unknown key"),
    "platform": (
        IMAGE.replace("linux/arm64", "linux/riscv64"),
        "image.platform: 'linux/riscv64' is not known",
    ),
    "platform with more": (
        IMAGE.replace("linux/arm64", "linux/arm64/v8"),
        "image.platform: 'linux/arm64/v8' is not known",
    ),
    "digest without sha256": (
        f'[image]\ndigest = "{HASH}"\n',
        f"image.digest: '{HASH}' is no image id",
    ),
    "short digest": (
        '[image]\ndigest = "sha256:abc"\n',
        "image.digest: 'sha256:abc' is no image id",
    ),
    "digest and more": (
        f'[image]\ndigest = "{DIGEST}\\n"\n',
        f"image.digest: '{DIGEST}\\n' is no image id",
    ),
    "tag": (
        '[image]\nreference = "me/x:latest"\n',
        "image.reference: 'me/x:latest' is not pinned",
    ),
    "short reference": (
        '[image]\nreference = "me/x@sha256:abc"\n',
        "image.reference: 'me/x@sha256:abc' is not pinned",
    ),
    "reference with a space": (
        f'[image]\nreference = "me x@{DIGEST}"\n',
        f"image.reference: 'me x@{DIGEST}' is not pinned",
    ),
    "base of one's own image": (
        f'[image]\ndigest = "{DIGEST}"\nbase = "bookworm-amd64"\n',
        "image.base: belongs to a dockerfile",
    ),
    "no base": (
        IMAGE.replace('base = "bookworm-arm64"\n', ""),
        "image.base: '' is not known",
    ),
    "unknown base": (
        IMAGE.replace("bookworm-arm64", "sid-arm64"),
        "image.base: 'sid-arm64' is not known",
    ),
    "base of another platform": (
        IMAGE.replace("bookworm-arm64", "bookworm-amd64"),
        "image.platform: bookworm-amd64 is for linux/amd64",
    ),
    "platform left out": (
        IMAGE.replace('platform = "linux/arm64"\n', ""),
        "image.platform: bookworm-arm64 is for linux/arm64",
    ),
    "missing dockerfile": (
        IMAGE.replace("x.Dockerfile", "y.Dockerfile"),
        "image.dockerfile: 'y.Dockerfile' does not exist",
    ),
    "dockerfile escapes": (
        IMAGE.replace("x.Dockerfile", "../x.Dockerfile"),
        "image.dockerfile: '../x.Dockerfile' leaves the folder",
    ),
}


@pytest.mark.parametrize(("image", "line"), IMAGE_MISTAKES.values(), ids=IMAGE_MISTAKES)
def test_image_mistakes(tmp_path: Path, image: str, line: str) -> None:
    plant_image(tmp_path, image)
    fails(tmp_path, f"{{}}/1.0-pypi-x86_64.toml: {line}")


def test_an_image_beside_an_environment_needs_requirements(tmp_path: Path) -> None:
    plant_image(tmp_path, IMAGE, HEAD)
    fails(tmp_path, "{}/1.0-pypi-x86_64.toml: requirements: missing key")


def test_an_only_image_without_requirements_has_no_lock(tmp_path: Path) -> None:
    plant_image(tmp_path, IMAGE + "only = true\n", HEAD)
    assert only(tmp_path).lock == ""
    plant_image(tmp_path, IMAGE + "only = true\n", HEAD + 'requirements = ["demo==2.0"]\n')
    fails(
        tmp_path,
        "{}/1.0-pypi-x86_64.toml: requirements.0: demo==2.0 is not what 1.0-pypi-x86_64.lock pins",
    )


def test_an_overlay_has_the_image_of_its_base_only_without_files(tmp_path: Path) -> None:
    plant_image(tmp_path, IMAGE, HEAD + PINS + TARGET)
    (tmp_path / "demo/bad").mkdir()
    (tmp_path / "demo/bad/x.py").write_text("evil = True\n")
    (tmp_path / "demo/drive.py").write_text("pass")
    base = f'base = "{NAME}"\n'
    plant(tmp_path, base + 'overlay = "bad"\n', stem="1.0-bad-x86_64", lock=None)
    plant(tmp_path, base + 'driver = "drive.py"\n', stem="1.0-drive-x86_64", lock=None)
    found = load([tmp_path])
    assert found["demo/1.0-bad-x86_64"].image is None
    assert found["demo/1.0-drive-x86_64"].image == found[NAME].image
    plant(tmp_path, base + 'overlay = "bad"\n' + IMAGE, stem="1.0-bad-x86_64", lock=None)
    fails(tmp_path, "{}/1.0-bad-x86_64.toml: image: comes from the base")


# Identity


def test_identity_covers_everything_but_the_place(tmp_path: Path) -> None:
    toml = HEAD + PINS + 'prepare = "make.py"\n' + TARGET
    seen = set()

    def identity() -> str:
        return only(tmp_path).identity

    plant(tmp_path, toml)
    folder = tmp_path / "demo"
    (folder / "make.py").write_text("1")
    (folder / "driver.py").write_text("1")
    seen.add(identity())
    changes = {
        "driver.py": "2",
        "make.py": "2",
        "1.0-pypi-x86_64.lock": LOCK.replace("b" * 64, "c" * 64),
        "1.0-pypi-x86_64.toml": toml + "[limits]\nprocesses = 9\n",
    }
    for name, text in changes.items():
        (folder / name).write_text(text)
        assert identity() not in seen, name
        seen.add(identity())
    moved = tmp_path / "moved"
    moved.mkdir()
    folder.rename(moved / "demo")
    assert only(moved).identity in seen


def test_identity_covers_the_linker(tmp_path: Path) -> None:
    plant(tmp_path, HEAD + PINS + 'linker = "demo/1.0-zig-x86_64"\n')
    link = '[tools.link]\npath = "zig"\n'
    toml = HEAD.replace("pypi", "zig") + PINS + link
    plant(tmp_path, toml, stem="1.0-zig-x86_64")
    before = only(tmp_path)
    plant(tmp_path, toml + 'arguments = ["ld"]\n', stem="1.0-zig-x86_64")
    after = only(tmp_path)
    assert before.identity != after.identity
    assert before.recipe == after.recipe  # but the environment need not be made anew


def test_driver_does_not_change_the_recipe(tmp_path: Path) -> None:
    plant(tmp_path, HEAD + PINS + TARGET)
    before = only(tmp_path).recipe
    (tmp_path / "demo/driver.py").write_text("pass")
    assert only(tmp_path).recipe == before


# Names


def test_find(tmp_path: Path) -> None:
    plant(tmp_path)
    found = load([tmp_path])
    assert find(found, NAME) is found[NAME]
    for name in ("demo/1.0", "demo/1.0-pipy-x86_64"):
        with pytest.raises(ToolchainError, match=re.escape(f"did you mean {NAME}?")) as caught:
            find(found, name)
        assert caught.value.what == f"no toolchain is called {name!r}"
    with pytest.raises(ToolchainError) as caught:
        find(found, "?????")
    assert caught.value.hint == "harness toolchains list shows all names"
