"""Materials: what is kept of a run is enough to define it again, and nothing else is believed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.components import LINKER, NAMES, Profile, content_digest
from harness.errors import StoreError, ToolchainError, UsageError
from harness.independence import shared
from harness.models import Model
from harness.replay import load_recipes
from harness.signoff.materials import Material, lay_out, of_file, of_model, of_toolchains
from harness.signoff.profilematerial import profile_material, read_profile
from harness.store import Store
from harness.toolchains import Definition, load
from tests.unit.samples import sha
from tests.unit.test_independence import A, B, profile
from tests.unit.test_toolchains import HEAD, LOCK, NAME, PINS, TARGET, plant

OURS = Path(__file__).parents[2] / "toolchains"
RECIPES = """\
[[replay]]
name = "again"
sources = ["graph/a"]
result = "object/b"
steps = [["{opt}", "{in}", "-o", "{out}"]]
output = "b"
with = "replayer"
"""


def collected(folders: Sequence[Path], *names: str) -> tuple[Material, ...]:
    known = load(folders)
    wanted = [known[name] for name in names]
    recipes = {item.compiler: load_recipes(Path(folders[0]) / item.compiler) for item in wanted}
    return of_toolchains(wanted, known, folders, recipes)


def planted(root: Path) -> Path:
    """A directory of toolchains in which everything is used."""
    toml = HEAD + PINS + 'prepare = "make.py"\nlinker = "link/1.0-pypi-x86_64"\n' + TARGET
    toml += '[image]\ndockerfile = "own.Dockerfile"\nbase = "bookworm-amd64"\n'
    plant(root, toml)
    folder = root / "demo"
    (folder / "make.py").write_text("print(1)\n")
    (folder / "driver.py").write_text("print(2)\n")
    (folder / "own.Dockerfile").write_text("FROM scratch\n")
    (folder / "replay.toml").write_text(RECIPES)
    (folder / "README.md").write_text("nothing that a toolchain needs\n")
    (root / "link").mkdir()
    (root / "link" / "1.0-pypi-x86_64.toml").write_text(
        HEAD + PINS + '[tools.link]\npath = "bin/ld"\n'
    )
    (root / "link" / "1.0-pypi-x86_64.lock").write_text(LOCK)
    plant(root, HEAD.replace('"1.0"', '"2.0"') + PINS + TARGET, stem="2.0-pypi-x86_64")
    return root


def overlaid(root: Path) -> Path:
    """A second directory: an overlay upon the first, with a driver of the same name."""
    folder = root / "demo"
    folder.mkdir(parents=True)
    (folder / "1.0-mine-x86_64.toml").write_text(
        f'base = "{NAME}"\noverlay = "files"\ndriver = "driver.py"\n'
    )
    (folder / "driver.py").write_text("print('mine')\n")
    (folder / "files" / "bin").mkdir(parents=True)
    (folder / "files" / "bin" / "tool").write_text("#!/bin/sh\n")
    (folder / "files" / "bin" / "tool").chmod(0o755)
    (folder / "files" / "data.txt").write_text("data\n")
    return root


def identities(found: dict[str, Definition], *names: str) -> list[str]:
    return [found[name].identity for name in names]


def test_what_ships_is_defined_by_its_materials(tmp_path: Path) -> None:
    known = load([OURS])
    made = collected([OURS], *known)
    found = load(lay_out(made, tmp_path))
    assert identities(found, *known) == identities(known, *known)
    assert load_recipes(tmp_path / "toolchains" / "tvm") == load_recipes(OURS / "tvm")
    assert "toolchains/tvm/0.27.0.post1-pypi-x86_64.toml" in {each.name for each in made}


def test_all_that_one_toolchain_needs_and_nothing_more(tmp_path: Path) -> None:
    root = planted(tmp_path / "a")
    made = collected([root], NAME)
    assert [each.name for each in made] == [
        "toolchains/demo/1.0-pypi-x86_64.lock",
        "toolchains/demo/1.0-pypi-x86_64.toml",
        "toolchains/demo/driver.py",
        "toolchains/demo/make.py",
        "toolchains/demo/own.Dockerfile",
        "toolchains/demo/replay.toml",
        "toolchains/link/1.0-pypi-x86_64.lock",
        "toolchains/link/1.0-pypi-x86_64.toml",
    ]
    found = load(lay_out(made, tmp_path / "b"))
    assert identities(found, NAME) == identities(load([root]), NAME)
    for left_out in made:
        if left_out.name.endswith("replay.toml"):
            continue  # defines no toolchain
        folder = tmp_path / sha(left_out.name)
        rest = lay_out([each for each in made if each is not left_out], folder)
        try:
            again = identities(load(rest), NAME)
        except (ToolchainError, KeyError):
            continue
        assert again != identities(load([root]), NAME), left_out.name


def test_the_replayer_that_recipes_name_for_a_release_comes_along(tmp_path: Path) -> None:
    root = planted(tmp_path / "a")
    exact = '[exact]\n"1.0" = "llvm/1.0-pypi-x86_64"\n"2.0" = "llvm/unheard-of"\n'
    (root / "demo" / "replay.toml").write_text(exact + RECIPES)
    (root / "llvm").mkdir()
    for version in ("1.0", "2.0"):
        text = (HEAD + PINS).replace('version = "1.0"', f'version = "{version}"')
        (root / "llvm" / f"{version}-pypi-x86_64.toml").write_text(text)
        (root / "llvm" / f"{version}-pypi-x86_64.lock").write_text(LOCK)
    names = {each.name for each in collected([root], NAME)}
    assert "toolchains/llvm/1.0-pypi-x86_64.toml" in names
    assert "toolchains/llvm/2.0-pypi-x86_64.toml" not in names
    assert not any("llvm" in each.name for each in collected([root], "demo/2.0-pypi-x86_64"))


def test_an_overlay_of_another_directory_keeps_its_own_files_and_modes(tmp_path: Path) -> None:
    places = [planted(tmp_path / "a"), overlaid(tmp_path / "b")]
    mine = "demo/1.0-mine-x86_64"
    made = collected(places, mine)
    names = {each.name: each for each in made}
    assert {"toolchains/demo/driver.py", "toolchains-2/demo/driver.py"} <= names.keys()
    assert names["toolchains-2/demo/files/bin/tool"].executable
    assert not names["toolchains-2/demo/files/data.txt"].executable
    assert "toolchains/demo/1.0-pypi-x86_64.toml" in names  # its base
    found = load(lay_out(made, tmp_path / "c"))
    assert identities(found, mine) == identities(load(places), mine)
    # The mode is part of what it is.
    flat = [replace(each, executable=False) for each in made]
    assert identities(load(lay_out(flat, tmp_path / "d")), mine) != identities(found, mine)


def test_a_definition_that_was_edited_since_the_run_is_refused(tmp_path: Path) -> None:
    root = planted(tmp_path / "a")
    known = load([root])
    wanted = [known[NAME]]
    recipes = {"demo": load_recipes(root / "demo")}
    assert of_toolchains(wanted, known, [root], recipes)
    (root / "demo" / "driver.py").write_text("print(3)\n")
    with pytest.raises(ToolchainError, match="no longer those that the run used"):
        of_toolchains(wanted, load([root]), [root], recipes)


def test_recipes_that_were_edited_since_the_run_are_refused(tmp_path: Path) -> None:
    root = planted(tmp_path / "a")
    known = load([root])
    recipes = {"demo": load_recipes(root / "demo")}
    (root / "demo" / "replay.toml").write_text(RECIPES.replace("again", "once"))
    with pytest.raises(ToolchainError, match=r"replay\.toml: is no longer"):
        of_toolchains([known[NAME]], known, [root], recipes)
    (root / "demo" / "replay.toml").unlink()
    with pytest.raises(ToolchainError, match="no longer"):
        of_toolchains([known[NAME]], known, [root], recipes)


def test_a_toolchain_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    root = planted(tmp_path / "a")
    known = load([root])
    with pytest.raises(ToolchainError, match="no toolchain is called"):
        of_toolchains([replace(known[NAME], name="demo/9-x-x86_64")], known, [root], {})
    with pytest.raises(ToolchainError, match="below no directory"):
        of_toolchains([known[NAME]], known, [tmp_path / "elsewhere"], {})


@pytest.mark.parametrize(
    "name",
    [
        "toolchains/../x", "toolchains/./x", "toolchains//x", "toolchains/x/", "toolchains",
        "toolchains/a\\b", "toolchains/a\0b", "toolchains/a\nb", "toolchains/" + "a/" * 40 + "b",
        "toolchains/" + "a" * 1000, "toolchains/..",
    ],
)  # fmt: skip
def test_names_that_are_no_plain_paths_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ToolchainError, match="no plain path") as caught:
        lay_out([Material(name, sha(b""), b"")], tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "name", ["/toolchains/x", "../toolchains/x", "model", "toolchains-0/x", "toolchains-1x/y",
             "Toolchains/x", "toolchains-2\n/x", "policy", "ledger"],
)  # fmt: skip
def test_what_is_not_of_a_toolchain_is_passed_over(tmp_path: Path, name: str) -> None:
    assert lay_out([Material(name, sha(b""), b"")], tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_content_that_is_not_what_was_named_is_refused(tmp_path: Path) -> None:
    wrong = Material("toolchains/a/b", sha(b"one"), b"two")
    with pytest.raises(ToolchainError, match="does not have its digest"):
        lay_out([wrong], tmp_path / "a")
    file = tmp_path / "file"
    file.write_bytes(b"two")
    with pytest.raises(ToolchainError, match="does not have its digest"):
        lay_out([replace(wrong, content=file)], tmp_path / "b")
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(ToolchainError, match="cannot be written"):
        lay_out([Material("toolchains/a/b", sha(b"two"), link)], tmp_path / "c")


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    one = Material("toolchains/a/b", sha(b"one"), b"one")
    for other in (one, replace(one, name="toolchains/a/b/c")):
        with pytest.raises(ToolchainError, match="cannot be written"):
            lay_out([one, other], tmp_path / sha(other.name))


def test_directories_come_back_in_their_order(tmp_path: Path) -> None:
    names = ["toolchains-10/a/b", "toolchains/a/b", "toolchains-2/a/b"]
    found = lay_out([Material(name, sha(b""), b"") for name in names], tmp_path)
    assert [each.name for each in found] == ["toolchains", "toolchains-2", "toolchains-10"]


# Models, ledger and policy


def test_a_model_comes_from_the_store_verified(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    main, weights = store.add_bytes(b"model"), store.add_bytes(b"weights")
    model = Model("m", "/nowhere", main, {}, (("data/w.bin", weights),))
    found = {each.name: each for each in of_model(model, store)}
    assert {name: each.sha256 for name, each in found.items()} == {
        "model": main, "model/external/data/w.bin": weights,
    }  # fmt: skip
    place = found["model"].content
    assert isinstance(place, Path)
    assert place.read_bytes() == b"model"
    place.chmod(0o644)
    place.write_bytes(b"another")
    with pytest.raises(StoreError, match="not what it was"):
        of_model(model, store)


def test_a_file_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_bytes(b"[policy]\n")
    found = of_file("policy", tmp_path / "policy.toml")
    assert found == Material("policy", sha(b"[policy]\n"), b"[policy]\n")
    with pytest.raises(UsageError):
        of_file("policy", tmp_path / "absent")


# Profiles


def whole(name: str, **parts: dict[str, int]) -> Profile:
    """A profile whose components are counted as they should be."""
    made = profile(name, **parts)
    components = tuple(
        replace(each, sha256=content_digest(made.parts[each.name]))
        for each in made.origin.components
    )
    return replace(made, origin=replace(made.origin, components=components))


def test_a_profile_comes_back_and_is_judged_the_same() -> None:
    left, right = whole(A), whole(B, llvm={f"{A} llvm": 100})
    again = [read_profile(profile_material(each)) for each in (left, right)]
    assert again == [left, right]
    assert shared(*again) == shared(left, right)
    assert shared(*again).same_builder == ("llvm",)


def test_there_is_one_way_to_write_a_profile() -> None:
    data = profile_material(whole(A))
    assert profile_material(read_profile(data)) == data
    parsed = json.loads(data)
    turned = {**parsed, "files": parsed["files"][::-1]}
    doubled = {**parsed, "files": [*parsed["files"], parsed["files"][-1]]}
    nowhere = {**parsed, "files": [*parsed["files"], {"sha256": "f" * 64, "size": 1, "parts": []}]}
    for changed in (turned, doubled, nowhere):
        with pytest.raises(ValueError, match="not written as profiles are"):
            read_profile(json.dumps(changed, separators=(",", ":")).encode())
    first = b'{"origin":' + json.dumps(parsed["origin"]).encode() + b"," + data[1:]
    for other in (data + b" ", json.dumps(parsed).encode(), first):
        with pytest.raises(ValueError, match="not written as profiles are"):
            read_profile(other)


def changed(path: Sequence[str | int], new: object) -> bytes:
    parsed = json.loads(profile_material(whole(A)))
    inner: Any = parsed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return json.dumps(parsed, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (("files", 0, "size"), 1000),  # weighs more than its component says
        (("files", 0, "size"), -1),
        (("files", 0, "size"), 2**53),
        (("files", 0, "size"), 1.0),
        (("files", 0, "size"), True),
        (("files", 0, "sha256"), "0" * 64),
        (("files", 0, "sha256"), "x"),
        (("files", 0, "parts"), ["own", "opened"]),
        (("files", 0, "parts"), ["frontend"]),  # of a component, and never opened
        (("files", 0, "parts"), ["else"]),
        (("files", 0, "parts"), ["own"] * 7),
        (("files", 0, "more"), 1),
        (("files",), []),
        (("files",), {}),
        (("more",), 1),
        (("origin", "measured"), 1),
        (("origin", "more"), 1),
        (("origin", "publisher"), "x\x1b[2J"),
        (("origin", "base"), "x" * 2001),
        (("origin", "components"), []),
        (("origin", "components", 0, "files"), 2),
        (("origin", "components", 0, "size"), 1),
        (("origin", "components", 0, "sha256"), "0" * 64),
        (("origin", "components", 0, "name"), LINKER),
        (("origin", "components", 0, "built_by"), ["a\nb"]),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(
    path: Sequence[str | int], new: object
) -> None:
    with pytest.raises(ValueError) as caught:
        read_profile(changed(path, new))
    assert "\n" not in str(caught.value)


def test_components_are_all_there_once() -> None:
    parsed = json.loads(profile_material(whole(A)))
    components = parsed["origin"]["components"]
    assert [each["name"] for each in components] == list(NAMES)
    for wrong in (components[1:], [*components, components[0]], components[::-1]):
        with pytest.raises(ValueError, match=r"origin\.components"):
            read_profile(changed(("origin", "components"), wrong))


def test_own_files_were_opened() -> None:
    made = whole(A)
    stray = replace(made, own={**made.own, "f" * 64: 1})
    with pytest.raises(ValueError, match="own"):
        read_profile(profile_material(stray))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"null", b"[" * 100_000])
def test_what_is_no_profile_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError) as caught:
        read_profile(data)
    assert "\n" not in str(caught.value)
