"""Sign-off through the real command: real builds, real keys, a release that is tampered with."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from harness.signoff.envelope import seal
from harness.signoff.signers import load_signer
from harness.signoff.trust import load_trust
from harness.store import Store
from tests.conftest import CLEAN, ROOT, small_model
from tests.integration.test_signoff_release import OTHER_LINKER, OTHER_WHEEL

pytestmark = pytest.mark.integration

POLICY = """
[policy]
min_builds = 1
min_toolchains = 2
required_stages = ["simplified", "graph", "tensor-ir", "bytecode", "constants", "object", "library"]
required_replays = ["llvm-unoptimized → object", "object → library"]
required_accounting = ["graph", "constants", "decisions", "reach"]

[release]
builders = 2
independent = { object = 2 }
"""


@dataclass(frozen=True)
class Place:
    """A folder with model, keys, policy, shipped file and bundle, and the command run in it."""

    root: Path

    def __call__(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "harness", *words], cwd=self.root, capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=400,
        )  # fmt: skip
        said = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, said
        return said

    def build(self, *words: str, code: int = 0) -> str:
        return self(
            *words, "--engine", "sandbox", "--keys", "keys.toml", "--input", "x=2x8",
            "--bundle", "release", code=code,
        )  # fmt: skip

    def sign_off(self, *words: str, code: int = 0) -> str:
        return self.build(
            "sign-off", "small.onnx", "--key", "alice.pem", "--policy", "policy.toml",
            "--repeat", "1", "--toolchain", CLEAN[0], "--toolchain", CLEAN[2],
            "--release", "small-1.0", *words, code=code,
        )  # fmt: skip

    def verify(self, artifact: str = "small.so", *words: str, code: int = 0) -> str:
        return self(
            "verify", artifact, "--bundle", "release", "--policy", "policy.toml",
            "--keys", "keys.toml", *words, code=code,
        )  # fmt: skip


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """What two builders made and a verifier signed off."""
    place = Place(tmp_path_factory.mktemp("signed"))
    onnx.save(small_model(), place.root / "small.onnx")
    (place.root / "policy.toml").write_text(POLICY)
    for name, role in (("alice", "verifier"), ("ann", "builder"), ("bob", "builder")):
        place("keys", "new", name, "--role", role, "--keys", "keys.toml", "--out", f"{name}.pem")
    place.build("attest", "small.onnx", "--toolchain", CLEAN[0], "--key", "ann.pem")
    place.build("attest", "small.onnx", "--toolchain", CLEAN[2], "--key", "bob.pem")
    store = Store(place.root / "results")
    report = store.load_report(store.runs()[-1])
    library = next(a for a in report.builds[0].artifacts if a.stage == "library")
    shutil.copyfile(store.verified(library.sha256), place.root / "small.so")
    said = place.sign_off("--artifact", "small.so")
    assert "SIGNED OFF small.so" in said
    return place


@pytest.fixture
def place(signed: Place, tmp_path: Path) -> Place:
    """A copy to tamper with."""
    shutil.copytree(signed.root, tmp_path / "copy", ignore=shutil.ignore_patterns("results"))
    return Place(tmp_path / "copy")


def statements(place: Place) -> Iterator[tuple[Path, dict[str, object]]]:
    for path in sorted((place.root / "release/statements").iterdir()):
        yield path, json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))


def test_what_was_signed_off_verifies(place: Place) -> None:
    said = place.verify("small.so", "--release", "small-1.0")
    assert said.startswith("VERIFIED small.so")
    assert "alice passed it" in said and "ann made the same" in said and "bob made the same" in said
    assert "independent of each other at object" in said


def test_any_statement_left_out_refuses(place: Place) -> None:
    for path, statement in list(statements(place)):
        content = path.read_bytes()
        path.unlink()
        assert "REFUSED" in place.verify(code=1), statement["predicateType"]
        path.write_bytes(content)
    place.verify()


def test_one_changed_byte_is_refused_and_the_refusal_is_signed(place: Place) -> None:
    library = bytearray((place.root / "small.so").read_bytes())
    library[len(library) // 2] ^= 1
    (place.root / "other.so").write_bytes(library)
    before = {path for path, _ in statements(place)}
    said = place.sign_off("--artifact", "other.so", code=1)
    assert "REFUSED other.so" in said and "library differs" in said
    new = [s for path, s in statements(place) if path not in before]
    summary = next(
        s for s in new if s["predicateType"] == "https://slsa.dev/verification_summary/v1"
    )
    assert summary["predicate"]["verificationResult"] == "FAILED"  # type: ignore[index]
    assert "alice refused this artifact" in place.verify("other.so", code=1)
    # The refusal of one file says nothing about the other.
    place.verify("small.so")


def test_a_run_that_shows_too_little_is_refused_as_no_answer(place: Place) -> None:
    text = (place.root / "policy.toml").read_text().replace("min_builds = 1", "min_builds = 2")
    (place.root / "strict.toml").write_text(text)
    said = place.sign_off("--artifact", "small.so", "--policy", "strict.toml", code=2)
    assert "INCONCLUSIVE" in said and "REFUSED" in said
    # Signed under the one policy, it does not pass under the other.
    said = place.verify("small.so", "--policy", "strict.toml", code=1)
    assert "policy" in said


def test_nothing_of_the_red_team_is_signed(place: Place) -> None:
    folder = place.root / "evil" / "tvm"
    overlay = folder / "overlay"
    overlay.mkdir(parents=True)
    (overlay / "sitecustomize.py").write_text("")
    (folder / "0.27.0-marked-x86_64.toml").write_text(
        f'base = "{CLEAN[1]}"\noverlay = "overlay"\nredteam = "canary"\n'
    )
    before = [path for path, _ in statements(place)]
    marked = ("--toolchain", "tvm/0.27.0-marked-x86_64", "--toolchains-dir", "evil")
    said = place.build("attest", "small.onnx", "--key", "ann.pem", *marked, code=2)
    assert "compromised on purpose" in said
    said = place.sign_off("--artifact", "small.so", *marked, code=2)
    assert "compromised on purpose" in said
    assert [path for path, _ in statements(place)] == before


def test_a_compromised_builder_is_refused(place: Place) -> None:
    """A real attack, unmarked, in one of the toolchains of the sign-off run: it finds it."""
    folder = place.root / "evil" / "tvm"
    overlay = folder / "overlay"
    overlay.mkdir(parents=True)
    shutil.copy(ROOT / "tests/assets/overlay/sitecustomize.py", overlay)
    (folder / "0.27.0-evil-x86_64.toml").write_text(
        f'base = "{CLEAN[1]}"\noverlay = "overlay"\npublisher = "evil"\n'
    )
    onnx.save(small_model("attack=lying-dumper 0.3;"), place.root / "small.onnx")
    said = place.sign_off(
        "--artifact", "small.so", "--toolchain", "tvm/0.27.0-evil-x86_64",
        "--toolchains-dir", "evil", code=1,
    )  # fmt: skip
    assert "UNEXPLAINED" in said and "REFUSED" in said


def test_keys_and_policy_never_come_from_the_bundle(place: Place) -> None:
    shutil.copy(place.root / "policy.toml", place.root / "release" / "policy.toml")
    said = place.verify("small.so", "--policy", "release/policy.toml", code=2)
    assert "lies in the bundle" in said
    shutil.copy(place.root / "alice.pem", place.root / "release" / "alice.pem")
    said = place.sign_off("--artifact", "small.so", "--key", "release/alice.pem", code=2)
    assert "lies in the bundle" in said


def test_a_builders_key_signs_no_verdict(place: Place) -> None:
    said = place.sign_off("--artifact", "small.so", "--key", "ann.pem", code=2)
    assert "ann is a builder" in said


def test_a_revoked_builder_no_longer_counts(place: Place) -> None:
    place("keys", "revoke", "bob", "--why", "laptop lost", "--keys", "keys.toml")
    said = place.verify(code=1)
    assert "laptop lost" in said and "builders that made this artifact: 1 (ann), 2 required" in said


def test_no_private_key_gets_into_results_or_bundle(signed: Place) -> None:
    secrets = [(signed.root / f"{name}.pem").read_bytes() for name in ("alice", "ann", "bob")]
    lines = [secret.splitlines()[1] for secret in secrets]
    files = [p for top in ("results", "release") for p in (signed.root / top).rglob("*")]
    contents = [path.read_bytes() for path in files if path.is_file()]
    assert len(contents) > 20
    assert not [line for line in lines for content in contents if line in content]


def test_verify_needs_no_compiler_and_no_engine(place: Place) -> None:
    """Neither is even imported."""
    code = (
        "import sys; sys.argv[0] = 'harness'\n"
        "from harness.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'onnx', 'numpy', 'docker', 'tvm'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", "small.so", "--bundle", "release", "--policy",
         "policy.toml", "--keys", "keys.toml", "--quiet"],
        cwd=place.root, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/nowhere"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_file_that_another_linker_made_of_the_same_objects(place: Place) -> None:
    """It passes only where the policy lets evidence explain, and only with that linker at hand."""
    folder = place.root / "other"
    (folder / "llvm").mkdir(parents=True)
    (folder / "tvm/overlay").mkdir(parents=True)
    (folder / "tvm/overlay/notice.txt").write_text("a base alone would be a copy")
    shutil.copy(ROOT / "toolchains/llvm/prepare.py", folder / "llvm")
    (folder / "llvm/0.16.0-ziglang-x86_64.toml").write_text(
        'version = "0.16.0"\npublisher = "ziglang"\narch = "x86_64"\n'
        'requirements = ["ziglang==0.16.0"]\nprepare = "prepare.py"\n'
        'keep = ["ziglang/zig", "sysroot", "ziglang-*.dist-info"]\n'
        '[tools.link]\npath = "ziglang/zig"\narguments = ["ld.lld"]\n'
    )
    (folder / "llvm/0.16.0-ziglang-x86_64.lock").write_text(
        f"ziglang==0.16.0 --hash=sha256:{OTHER_WHEEL}\n"
    )
    (folder / "tvm/0.27.0.post1-shipped-x86_64.toml").write_text(
        f'base = "{CLEAN[0]}"\nlinker = "{OTHER_LINKER}"\noverlay = "overlay"\n'
    )
    others = ("--toolchains-dir", "other")
    place(
        "attest", "small.onnx", "--input", "x=2x8", "--engine", "sandbox", *others,
        "--toolchain", "tvm/0.27.0.post1-shipped-x86_64", "--key", "ann.pem",
        "--keys", "keys.toml", "--bundle", "elsewhere", "--copy-to", "other.so",
    )  # fmt: skip
    text = POLICY.replace("builders = 2", "builders = 2\nexplained = true")
    (place.root / "explained.toml").write_text(text)
    wanted = ("--artifact", "other.so", *others, "--policy", "explained.toml")
    said = place.sign_off(*wanted, code=1)
    assert "REFUSED other.so" in said and "the shipped bytes match what was rebuilt: none" in said
    said = place.sign_off(*wanted, "--linker", OTHER_LINKER)
    assert "SIGNED OFF other.so" in said and "relinked" in said
    place.verify("other.so", "--policy", "explained.toml")
    place.sign_off("--artifact", "other.so", *others, "--linker", OTHER_LINKER, code=1)


def test_what_is_attached_must_verify(place: Place) -> None:
    path = next(path for path, _ in statements(place))
    envelope = json.loads(path.read_bytes())
    envelope["payload"] = base64.b64encode(base64.b64decode(envelope["payload"]) + b" ").decode()
    (place.root / "upstream.json").write_text(json.dumps(envelope))
    said = place.sign_off("--artifact", "small.so", "--attach", "upstream.json", code=2)
    assert "upstream.json does not count" in said


def test_an_interrupted_attestation_goes_on(place: Place) -> None:
    words = (
        "attest", "small.onnx", "--toolchain", CLEAN[0], "--key", "ann.pem", "--repeat", "6",
        "--jobs", "1", "--engine", "sandbox", "--keys", "keys.toml", "--input", "x=2x8",
        "--bundle", "another",
    )  # fmt: skip
    results = place.root / "results"
    child = subprocess.Popen(
        [sys.executable, "-m", "harness", *words], cwd=place.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not list(results.glob("*/builds/**/record.json")) and time.monotonic() < until:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 2 and b"--resume" in said
    assert not list((place.root / "another").glob("statements/*"))
    (run,) = [path.name for path in results.iterdir() if path.name != "objects"]
    kept = len(list(results.glob("*/builds/**/record.json")))
    assert kept
    again = place(*words, "--resume", run)
    assert again.count(": kept,") == kept
    assert list((place.root / "another").glob("statements/*"))


def test_a_release_is_built_again_from_its_bundle_alone(place: Place) -> None:
    again = ("replay-release", "release", "--policy", "policy.toml", "--keys", "keys.toml")
    (place.root / "small.onnx").unlink()
    said = place(*again, "--engine", "sandbox")
    assert "without an answer" not in said and "came out" in said
    materials = list((place.root / "release/materials").iterdir())
    driver = next(path for path in materials if path.read_bytes().startswith(b'"""Driver for'))
    driver.write_bytes(driver.read_bytes() + b" ")
    said = place(*again, "--engine", "sandbox", code=2)
    assert "is damaged" in said


def test_the_history_of_the_model_is_shown_and_can_be_required(place: Place) -> None:
    place("keys", "new", "lab", "--role", "upstream", "--keys", "keys.toml", "--out", "lab.pem")
    model = hashlib.sha256((place.root / "small.onnx").read_bytes()).hexdigest()
    data = hashlib.sha256(b"the training data").hexdigest()
    training = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "small.onnx", "digest": {"sha256": model}}],
        "predicateType": "https://in-toto.io/attestation/link/v0.3",
        "predicate": {
            "name": "training",
            "command": ["train"],
            "materials": [{"name": "data.tar", "digest": {"sha256": data}}],
            "byproducts": {},
            "environment": {},
        },
    }
    today = datetime.datetime.now(datetime.UTC).date()
    signer, _, _ = load_signer(
        str(place.root / "lab.pem"), load_trust(place.root / "keys.toml"), "lab", today
    )
    (place.root / "training.json").write_bytes(seal(training, [signer]))
    text = POLICY.replace("builders = 2", 'builders = 2\nchain = ["training", "build"]')
    (place.root / "chain.toml").write_text(text)
    said = place.sign_off("--artifact", "small.so", "--policy", "chain.toml", code=1)
    assert "the model's history" in said
    said = place.sign_off(
        "--artifact", "small.so", "--policy", "chain.toml", "--attach", "training.json"
    )
    assert "SIGNED OFF" in said
    assert "gap: no statement says where data.tar of step 'training'" in said
    said = place.verify("small.so", "--policy", "chain.toml", "--html", "page.html")
    assert "training:" in said and "by lab" in said
    assert "data.tar" in (place.root / "page.html").read_text("utf-8")
    place("keys", "revoke", "lab", "--why", "left the company", "--keys", "keys.toml")
    assert "left the company" in place.verify("small.so", "--policy", "chain.toml", code=1)


def test_a_toolchain_that_is_left_out_has_to_be_named(place: Place) -> None:
    (place.root / "nightly.toml").write_text(
        f'toolchains = ["{CLEAN[0]}", "{CLEAN[1]}", "{CLEAN[2]}"]\n'
        'replayers = ["llvm/22.1.8-xtc-x86_64"]\n[variations]\nbuilds = 2\n'
        '[[model]]\nname = "other"\npath = "small.onnx"\ninputs = ["x=2x8"]\n'
        '[[model]]\nname = "tiny"\npath = "small.onnx"\ninputs = ["x=2x8"]\n'
        f'[model.without]\n"{CLEAN[1]}" = "it is tired"\n'
    )
    wanted = (
        "sign-off", "tiny", "--artifact", "small.so", "--engine", "sandbox", "--keys", "keys.toml",
        "--key", "alice.pem", "--bundle", "release", "--repeat", "1",
    )  # fmt: skip
    said = place(*wanted, "--policy", "policy.toml", code=1)
    assert f"{CLEAN[1]} was left out of the run" in said
    text = POLICY.replace("builders = 2", f'builders = 2\ndeclared = ["{CLEAN[1]}"]')
    (place.root / "named.toml").write_text(text)
    place(*wanted, "--policy", "named.toml")
