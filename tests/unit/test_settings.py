"""nightly.toml: what is read, and the one line that each mistake gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.models import Policy
from harness.settings import Chosen, Excluded, Settings, Variations, load
from harness.sources import ModelSource
from harness.toolchains import load as load_toolchains

REPO = Path(__file__).parents[2]
HASH = "a" * 64
TOP = 'toolchains = ["tvm/1-a-b", "tvm/2-a-b"]\n'
MODEL = '[[model]]\nname = "m"\npath = "m.onnx"\n'
PACKAGE = (
    f'[[model]]\nname = "p"\npackage = "p==1"\nfile = "a/b.onnx"\nsha256 = "{HASH}"\n'
    f'package_sha256 = ["{HASH}"]\n'
)


def loaded(folder: Path, text: str) -> Settings:
    path = folder / "n.toml"
    path.write_text(text)
    return load(path)


def test_what_ships_is_valid() -> None:
    settings = load(REPO / "nightly.toml")
    assert [model.name for model in settings.models] == ["magika", "ppocr-cls"]
    assert [model.inputs for model in settings.models] == [
        {"bytes": (1, 2048)},
        {"x": (1, 3, 48, 192)},
    ]
    known = load_toolchains([REPO / "toolchains"])
    assert set(settings.replayers) <= set(known)
    assert len(settings.toolchains) == 3
    assert set(settings.toolchains) <= set(known)
    assert settings.policy.min_toolchains == 3
    assert len(settings.policy.required_stages) == 10
    assert settings.policy.required_replays == (
        "llvm-unoptimized → object",
        "llvm → object",
        "object → library",
    )
    emulated = "tvm/0.27.0.post1-pypi-aarch64"
    contained = settings.on(True)
    assert {*contained.toolchains, *contained.replayers} <= set(known)
    assert emulated in contained.toolchains
    assert [(each.model, each.toolchain) for each in contained.without] == [("ppocr-cls", emulated)]
    assert settings.on(False).without == ()


def test_defaults(tmp_path: Path) -> None:
    settings = loaded(tmp_path, TOP + MODEL)
    assert settings == Settings(
        models=(ModelSource("m", path=tmp_path / "m.onnx"),),
        toolchains=("tvm/1-a-b", "tvm/2-a-b"),
        variations=Variations(seed=0, builds=2),
        policy=Policy(),
        replayers=(),
    )


def test_all_keys(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        TOP
        + 'replayers = ["llvm/1-a-b"]\n[variations]\nseed = 7\nbuilds = 3\n'
        + '[policy]\nmin_builds = 3\nmin_toolchains = 2\nrequired_stages = ["object"]\n'
        + 'required_replays = ["llvm → object"]\nallowed_explanations = []\n'
        + "allow_isolation_none = false\n"
        + PACKAGE
        + 'inputs = ["x=1x2", "y:0=3"]\n',
    )
    assert settings.models == (
        ModelSource(
            "p",
            package="p==1",
            file="a/b.onnx",
            sha256=HASH,
            package_sha256=(HASH,),
            inputs={"x": (1, 2), "y:0": (3,)},
        ),
    )
    assert settings.variations == Variations(7, 3)
    assert settings.policy == Policy(3, 2, ("object",), ("llvm → object",), (), False)
    assert settings.replayers == ("llvm/1-a-b",)
    assert settings.docker is None
    assert settings.on(True) == settings.on(False) == settings


DOCKER = '[docker]\ntoolchains = ["tvm/3-a-b", "tvm/1-a-b"]\n'


def test_containers_take_the_list_for_docker(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path, TOP + 'replayers = ["llvm/1-a-b"]\n' + DOCKER + 'replayers = ["r"]\n' + MODEL
    )
    assert settings.docker == Chosen(("tvm/3-a-b", "tvm/1-a-b"), ("r",))
    assert settings.on(False) == settings
    contained = settings.on(True)
    assert contained.toolchains == ("tvm/3-a-b", "tvm/1-a-b")
    assert contained.replayers == ("r",)
    assert contained.policy == settings.policy


@pytest.mark.parametrize("given", ["[docker]\n", "[docker]\ntoolchains = []\nreplayers = []\n"])
def test_an_empty_list_for_docker_leaves_the_general_one(tmp_path: Path, given: str) -> None:
    settings = loaded(tmp_path, TOP + 'replayers = ["llvm/1-a-b"]\n' + given + MODEL)
    contained = settings.on(True)
    assert contained.toolchains == ("tvm/1-a-b", "tvm/2-a-b")
    assert contained.replayers == ("llvm/1-a-b",)


def without(name: str = "tvm/1-a-b", reason: str = "it crashes") -> str:
    return f'[model.without]\n"{name}" = "{reason}"\n'


OTHER = '[[model]]\nname = "o"\npath = "o.onnx"\n'


def test_what_a_model_goes_without_is_kept_with_its_reason(tmp_path: Path) -> None:
    settings = loaded(tmp_path, TOP + MODEL + without(reason=" it crashes ") + OTHER)
    assert settings.without == (Excluded("m", "tvm/1-a-b", "it crashes"),)
    assert settings.on(True).without == settings.on(False).without == settings.without


def test_an_exclusion_counts_where_its_toolchain_is_taken(tmp_path: Path) -> None:
    settings = loaded(tmp_path, TOP + DOCKER + MODEL + without("tvm/3-a-b") + OTHER)
    assert settings.on(False).without == ()
    assert settings.on(True).without == (Excluded("m", "tvm/3-a-b", "it crashes"),)


def test_policy_counts_what_is_left_in_each_list(tmp_path: Path) -> None:
    policy = "[policy]\nmin_toolchains = 2\n"
    models = MODEL + without("tvm/4-a-b") + OTHER
    enough = DOCKER.replace('["', '["tvm/4-a-b", "')
    assert loaded(tmp_path, TOP + policy + enough + models).policy.min_toolchains == 2
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, TOP + policy + enough.replace(', "tvm/1-a-b"', "") + models)
    assert caught.value.what == (
        f"{tmp_path}/n.toml: policy.min_toolchains: 2 can never be met:"
        " model m with docker.toolchains has 1"
    )


MISTAKES = {
    "syntax": (
        "x\n",
        "not valid TOML: Expected '=' after a key in a key/value pair (at line 1, column 2)",
    ),
    "no model": (TOP, "model: missing key"),
    "empty model": ("model = []\n" + TOP, "model: there is none"),
    "no toolchains": (MODEL, "toolchains: missing key"),
    "empty toolchains": ("toolchains = []\n" + MODEL, "toolchains: there is none"),
    "unknown key": ("nights = 1\n" + TOP + MODEL, "nights: unknown key"),
    "unknown model key": (TOP + MODEL + "size = 1\n", "model.0.size: unknown key"),
    "unknown policy key": (
        TOP + MODEL + "[policy]\nlenient = true\n",
        "policy.lenient: unknown key",
    ),
    "unknown variation": (TOP + MODEL + "[variations]\nx = 1\n", "variations.x: unknown key"),
    "wrong type": (
        TOP + MODEL + "[variations]\nbuilds = true\n",
        "variations.builds: input should be a valid integer",
    ),
    "twice the toolchain": ('toolchains = ["a", "a"]\n' + MODEL, "toolchains: 'a' is there twice"),
    "twice the model": (TOP + MODEL + MODEL, "model: 'm' is there twice"),
    "no name": (TOP + '[[model]]\npath = "m"\n', "model.0.name: missing key"),
    "bad name": (TOP + '[[model]]\nname = "../m"\npath = "m"\n', "model.0.name: '../m' is no name"),
    "no source": (TOP + '[[model]]\nname = "m"\n', "model m: needs either path or package"),
    "two sources": (TOP + PACKAGE + 'path = "x"\n', "model p: needs either path or package"),
    "file of a path": (
        TOP + MODEL + 'file = "x"\n',
        "model m: file: belongs to a package, not to a path",
    ),
    "no file": (TOP + PACKAGE.replace('file = "a/b.onnx"\n', ""), "model p: file: missing key"),
    "no sha256": (
        TOP + PACKAGE.replace(f'\nsha256 = "{HASH}"', ""),
        "model p: sha256: missing key",
    ),
    "no package_sha256": (
        TOP + PACKAGE.replace(f'["{HASH}"]', "[]"),
        "model p: package_sha256: missing key",
    ),
    "unpinned": (TOP + PACKAGE.replace("p==1", "p>=1"), "model p: package: 'p>=1' is not pinned"),
    "option as package": (
        TOP + PACKAGE.replace("p==1", "--pre p==1"),
        "model p: package: '--pre p==1' is not pinned",
    ),
    "file escapes": (
        TOP + PACKAGE.replace("a/b.onnx", "../b.onnx"),
        "model p: file: '../b.onnx' is no path inside the package",
    ),
    "short hash": (TOP + MODEL + 'sha256 = "abc"\n', "model m: sha256: not a sha256"),
    "short package hash": (
        TOP + PACKAGE.replace(f'["{HASH}"]', '["abc"]'),
        "model p: package_sha256: not a sha256",
    ),
    "bad input": (
        TOP + MODEL + 'inputs = ["x=1,2"]\n',
        "model m: inputs: input 'x=1,2' is not NAME=SHAPE",
    ),
    "input twice": (
        TOP + MODEL + 'inputs = ["x=1", "x=2"]\n',
        "model m: inputs: 'x' is given twice",
    ),
    "no builds": (
        TOP + MODEL + "[variations]\nbuilds = 0\n",
        "variations.builds: 0 is out of range",
    ),
    "negative seed": (
        TOP + MODEL + "[variations]\nseed = -1\n",
        "variations.seed: is out of range",
    ),
    "too few builds": (
        TOP + MODEL + "[policy]\nmin_builds = 3\n",
        "policy.min_builds: 3 can never be met: this run has 2",
    ),
    "too few toolchains": (
        TOP + MODEL + "[policy]\nmin_toolchains = 3\n",
        "policy.min_toolchains: 3 can never be met: this run has 2",
    ),
    "nothing required": (
        TOP + MODEL + "[policy]\nmin_builds = 0\n",
        "policy.min_builds: 0 can never be met: this run has 2",
    ),
    "stage twice": (
        TOP + MODEL + '[policy]\nrequired_stages = ["a", "a"]\n',
        "policy.required_stages: 'a' is there twice",
    ),
    "no replayer": (
        TOP + MODEL + '[policy]\nrequired_replays = ["a"]\n',
        "replayers: missing key",
    ),
    "unknown docker key": (
        TOP + '[docker]\nimages = ["a"]\n' + MODEL,
        "docker.images: unknown key",
    ),
    "docker without a list": (
        TOP + '[docker]\ntoolchains = "tvm/1-a-b"\n' + MODEL,
        "docker.toolchains: input should be a valid array",
    ),
    "twice for docker": (
        TOP + '[docker]\ntoolchains = ["a", "a"]\n' + MODEL,
        "docker.toolchains: 'a' is there twice",
    ),
    "twice a replayer for docker": (
        TOP + '[docker]\nreplayers = ["a", "a"]\n' + MODEL,
        "docker.replayers: 'a' is there twice",
    ),
    "too few for docker": (
        TOP + '[docker]\ntoolchains = ["a"]\n[policy]\nmin_toolchains = 2\n' + MODEL,
        "policy.min_toolchains: 2 can never be met: model m with docker.toolchains has 1",
    ),
    "without an unknown one": (
        TOP + MODEL + without("tvm/9-a-b") + OTHER,
        "model m: without: 'tvm/9-a-b' is no toolchain of this file",
    ),
    "without a reason": (
        TOP + MODEL + without(reason="  ") + OTHER,
        "model m: without: 'tvm/1-a-b' has no reason",
    ),
    "without a reason in words": (
        TOP + MODEL + '[model.without]\n"tvm/1-a-b" = true\n' + OTHER,
        "model.0.without.tvm/1-a-b: input should be a valid string",
    ),
    "without as a list": (
        TOP + MODEL + 'without = ["tvm/1-a-b"]\n' + OTHER,
        "model.0.without: input should be an object",
    ),
    "every model without it": (
        TOP + MODEL + without() + OTHER + without(),
        "model: without: 'tvm/1-a-b' is left out of every model",
    ),
    "every model without one for docker": (
        TOP + DOCKER + MODEL + without("tvm/3-a-b"),
        "model: without: 'tvm/3-a-b' is left out of every model",
    ),
    "a model without any": (
        TOP + MODEL + without() + '"tvm/2-a-b" = "no"\n' + OTHER,
        "policy.min_toolchains: 1 can never be met: model m with toolchains has 0",
    ),
    "a model with too few": (
        TOP + "[policy]\nmin_toolchains = 2\n" + MODEL + without() + OTHER,
        "policy.min_toolchains: 2 can never be met: model m with toolchains has 1",
    ),
}


@pytest.mark.parametrize(("text", "line"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, text)
    assert caught.value.what == f"{tmp_path}/n.toml: {line}"
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "no.toml")
    assert caught.value.what == f"{tmp_path}/no.toml: cannot be read: No such file or directory"
