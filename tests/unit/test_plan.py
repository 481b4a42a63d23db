"""The plan: what is built, and what is held against what."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.models import ComparisonKind, Model
from harness.plan import build_id, builds, comparisons, kind_of, model_name
from harness.variations import control, draw
from tests.unit.samples import MODEL, names, record, toolchain, twice


def test_every_model_meets_every_toolchain_and_every_variation_once() -> None:
    models = [MODEL, Model("n", "/n.onnx", "1" * 64, {})]
    toolchains = [toolchain(name) for name in names(3)]
    made = builds(models, toolchains, seed=5, per_toolchain=3)
    assert len({build.id for build in made}) == len(made) == 2 * 3 * 3
    assert {build.variation for build in made} == {control(), draw(5, 1), draw(5, 2)}


def test_one_build_is_the_control() -> None:
    (build,) = builds([MODEL], [toolchain()], seed=5, per_toolchain=1)
    assert build.variation == control()
    assert build.id == build_id("m", "tvm/1-a-x86_64", "control") == "m/tvm/1-a-x86_64/control"


def test_what_a_model_goes_without_is_not_built() -> None:
    models = [MODEL, Model("n", "/n.onnx", "1" * 64, {})]
    toolchains = [toolchain(name) for name in names(3)]
    everything = builds(models, toolchains, seed=5, per_toolchain=2)
    left = builds(models, toolchains, 5, 2, without={("n", names(3)[1])})
    missing = [build.id for build in everything if build not in left]
    assert missing == [f"n/{names(3)[1]}/{v.name}" for v in (control(), draw(5, 1))]
    assert left == tuple(build for build in everything if build.id not in missing)


def test_kinds() -> None:
    mine = record("tvm/1-a-x86_64")
    assert kind_of(mine, record("tvm/1-a-x86_64", draw(1))) is ComparisonKind.REPEAT
    assert kind_of(mine, record("tvm/1-b-x86_64")) is ComparisonKind.REBUILD
    assert kind_of(mine, record("tvm/2-a-x86_64")) is ComparisonKind.VERSION
    assert kind_of(mine, record("iree/1-a-x86_64")) is ComparisonKind.VENDOR


def test_repeats_against_the_control_and_controls_against_each_other() -> None:
    found = comparisons(twice(*names(3)))
    assert len(found) == len(set(found)) == 2 * (3 + 3)  # stages × (repeats + pairs)
    assert all(c.left.endswith("/control") for c in found)
    assert all(c.right.endswith("/varied") == (c.kind is ComparisonKind.REPEAT) for c in found)


def test_stage_that_only_one_side_has_is_compared_too() -> None:
    left = record(names(2)[0], artifacts={"graph/a": b"", "extra/a": b""})
    right = record(names(2)[1], artifacts={"graph/a": b""})
    for pair in ([left, right], [right, left]):
        assert {c.stage for c in comparisons(pair)} == {"graph", "extra"}


def test_other_compilers_and_other_models_are_not_compared_by_bytes() -> None:
    other = record("tvm/2-a-x86_64", model=Model("n", "/n", "1" * 64, {}))
    assert comparisons([record("tvm/1-a-x86_64"), record("iree/1-a-x86_64"), other]) == ()


@pytest.mark.parametrize(
    ("stem", "name"),
    [("magika", "magika"), ("..", "model"), ("", "model"), ("a/b\n\x1b[2J", "a-b-2J")],
)
def test_model_names_are_plain(stem: str, name: str) -> None:
    assert model_name(stem) == name


@given(st.text())
def test_no_file_name_escapes_into_a_path_or_a_terminal(stem: str) -> None:
    name = model_name(stem)
    assert 0 < len(name) <= 64
    assert set(name) <= set(string.ascii_letters + string.digits + "._-")
    assert name[0] not in ".-"
