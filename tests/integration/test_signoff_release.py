"""A real run, its library as it might ship, and a bundle from which it is built again.

One run of the small model serves all tests: they change what ships, or what was signed.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import re
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner
from securesystemslib.signer import CryptoSigner

from harness import audit, ledger, replay
from harness.cli import main
from harness.comparators.elf_file import ElfFile
from harness.comparators.tensor import Blob
from harness.engines.sandbox import Sandbox
from harness.engines.select import choose
from harness.environments import prepare
from harness.errors import UsageError
from harness.models import Limits, Policy, Report, Tool, Toolchain, Verdict
from harness.places import HERE
from harness.reports.progress import Quiet
from harness.resolve import DEFAULT_REPLAYER, Options, resolve
from harness.settings import Chosen, Settings, Variations
from harness.signoff.bundle import Bundle
from harness.signoff.evidence import Match as Kind
from harness.signoff.interface import (
    PROVENANCE,
    Identity,
    Key,
    ReleasePolicy,
    Requirements,
    Role,
    Trust,
)
from harness.signoff.pens import KeyPen
from harness.signoff.provided import Provider
from harness.signoff.publishing import publish
from harness.signoff.rebuild import Answer, Answers, Asked, rebuild
from harness.signoff.shipped import Linking, Match, hold
from harness.signoff.signed_builds import comparable
from harness.signoff.trust import change_trust, own_keyid
from harness.sources import ModelSource
from harness.store import Store
from harness.toolchains import load
from tests.conftest import CLEAN, small_model

pytestmark = pytest.mark.integration

TODAY = datetime.datetime.now(datetime.UTC).date()
# LLD 21 in place of the pinned LLD 22: another project's release, another program.
OTHER_LINKER = "llvm/0.16.0-ziglang-x86_64"
OTHER_WHEEL = "9fcda73f62b851dd72a54b710ad40a209896db14cfb13649e62191243556342b"


@dataclass(frozen=True)
class Run:
    report: Report
    request: audit.Request
    options: Options
    store: Store
    engine: Sandbox
    folder: Path

    @property
    def library(self) -> str:
        record = self.report.builds[0]
        return next(one.sha256 for one in record.artifacts if one.stage == "library")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("release")
    onnx.save(
        small_model(), folder / "small.onnx", save_as_external_data=True,
        location="weights.bin", size_threshold=0,
    )  # fmt: skip
    options = Options(engine="sandbox", jobs=2, seed=7, account=False, bisect=False)
    settings = Settings(
        (ModelSource("small", folder / "small.onnx", inputs={"x": (2, 8)}),),
        (CLEAN[0],),
        Variations(builds=2),
        Policy(min_builds=2),
        (DEFAULT_REPLAYER,),
        Chosen(()),
    )
    store, engine = Store(folder / "results"), Sandbox()
    request = resolve(settings, options, store, (), lambda _: None, engine)
    report = audit.run(request, engine, store, Quiet())
    assert report.verdict in (Verdict.IDENTICAL, Verdict.EXPLAINED)
    return Run(report, request, options, store, engine, folder)


# What ships.


def linking(run: Run, *more: replay.Replayer) -> Linking:
    @contextmanager
    def folder() -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=run.folder) as place:
            yield Path(place)

    return Linking(run.request.recipes, (*run.request.linkers.values(), *more), run.engine, folder)


def held(
    run: Run, artifact: str, *linkers: replay.Replayer, sections: bool = False,
    report: Report | None = None,
) -> Match:  # fmt: skip
    return hold(
        artifact, report or run.report, "small", run.store, linking(run, *linkers), sections
    )


@pytest.fixture(scope="module")
def other_linker(run: Run, tmp_path_factory: pytest.TempPathFactory) -> replay.Replayer:
    folder = tmp_path_factory.mktemp("toolchains") / "llvm"
    folder.mkdir()
    shutil.copy(HERE / "toolchains" / "llvm" / "prepare.py", folder)
    (folder / "0.16.0-ziglang-x86_64.toml").write_text(
        'version = "0.16.0"\npublisher = "ziglang"\narch = "x86_64"\n'
        'requirements = ["ziglang==0.16.0"]\nprepare = "prepare.py"\n'
        'keep = ["ziglang/zig", "sysroot", "ziglang-*.dist-info"]\n'
        '[tools.link]\npath = "ziglang/zig"\narguments = ["ld.lld"]\n'
    )
    (folder / "0.16.0-ziglang-x86_64.lock").write_text(
        f"ziglang==0.16.0 --hash=sha256:{OTHER_WHEEL}\n"
    )
    definition = load([folder.parent])[OTHER_LINKER]
    fields = Toolchain.__dataclass_fields__
    toolchain = Toolchain(**{name: getattr(definition, name) for name in fields})
    return replay.Replayer(toolchain, prepare(definition))


def linked(run: Run, linker: replay.Replayer) -> str:
    """The library that another linker makes of the objects that were built, somewhere else."""
    record = run.report.builds[0]
    recipe = next(r for r in run.request.recipes["tvm"] if r.stage == "library")
    files = {f"{one.stage}/{one.name}": one.sha256 for one in record.artifacts}
    job = replay.job_for(recipe, linker, run.report.toolchains[0].target, files)
    assert job is not None
    with linking(run).folder() as scratch:
        made = replay.regenerate(job, run.engine, run.store, scratch, Limits())
    assert made.sha256, made.detail
    return made.sha256


def test_what_was_built_is_identical(run: Run) -> None:
    assert held(run, run.library) == Match(Kind.IDENTICAL, (CLEAN[0],), run.library, "")


def test_another_linker_explains_the_library_that_it_made(
    run: Run, other_linker: replay.Replayer
) -> None:
    artifact = linked(run, other_linker)
    assert artifact != run.library
    found = held(run, artifact, other_linker)
    assert (found.kind, found.against) == (Kind.RELINKED, (OTHER_LINKER,))
    assert found.library == run.library
    assert OTHER_LINKER in found.reason
    # These two releases of LLD differ in their name only, which is never loaded.
    without = held(run, artifact)
    assert (without.kind, without.sections) == (Kind.NONE, (".comment changed",))
    assert held(run, artifact, sections=True).kind is Kind.UNLOADED
    disagreed = replace_verdict(run.report, "object", Verdict.UNEXPLAINED)
    refused = held(run, artifact, other_linker, report=disagreed)
    assert refused.kind is Kind.NONE
    assert "do not agree on object: UNEXPLAINED" in refused.reason


def test_a_linker_of_the_red_team_explains_nothing(run: Run, other_linker: replay.Replayer) -> None:
    artifact = linked(run, other_linker)
    evil = replace(other_linker, toolchain=replace(other_linker.toolchain, redteam="evil"))
    assert held(run, artifact, evil).kind is Kind.NONE


def test_a_linker_that_fails_is_named(run: Run, other_linker: replay.Replayer) -> None:
    tools = {"link": Tool("ziglang/zig", ("no-such-command",))}
    broken = replace(other_linker, toolchain=replace(other_linker.toolchain, tools=tools))
    found = held(run, run.store.add_bytes(b"no library"), broken)
    assert found.kind is Kind.NONE
    assert f"{OTHER_LINKER} cannot link it: zig ended with exited (1)" in found.reason


def without_section_table(library: bytes) -> bytes:
    """As llvm-strip --strip-sections does it: up to the end of the last segment."""
    segments = struct.unpack_from("<Q", library, 32)[0]
    rows = [
        struct.unpack_from("<IIQQQQQQ", library, segments + 56 * number)
        for number in range(struct.unpack_from("<H", library, 56)[0])
    ]
    end = max(row[2] + row[5] for row in rows if row[5])
    return library[:40] + bytes(8) + library[48:58] + bytes(6) + library[64:end]


def test_a_stripped_library_is_loaded_as_the_same(run: Run) -> None:
    stripped = run.store.add_bytes(without_section_table(run.store.read(run.library)))
    found = held(run, stripped, sections=True)
    assert (found.kind, found.against, found.library) == (
        Kind.UNLOADED, (CLEAN[0],), run.library,
    )  # fmt: skip
    assert ".symtab removed" in found.sections
    refused = held(run, stripped)
    assert refused.kind is Kind.NONE
    assert "[release] sections" in refused.reason


def test_a_changed_instruction_is_named_by_its_function(run: Run) -> None:
    with Blob(run.store.verified(run.library)) as blob:
        elf = ElfFile(blob)
        biggest = max(elf.functions, key=lambda function: function.size)
        name, at = biggest.name.decode(), elf.file_offset(biggest) + biggest.size // 2
    library = bytearray(run.store.read(run.library))
    library[at] ^= 8
    for sections in (False, True):
        found = held(run, run.store.add_bytes(bytes(library)), sections=sections)
        assert found.kind is Kind.NONE
        assert found.library == run.library
        assert found.sections[0].startswith(f"function {name} changed")
        assert found.sections[0] in found.reason
        assert "what is loaded differs" in found.reason


def replace_verdict(report: Report, stage: str, verdict: Verdict) -> Report:
    models = tuple(
        replace(
            model,
            stages=tuple(
                replace(one, verdict=verdict) if one.stage == stage else one for one in model.stages
            ),
        )
        for model in report.verdicts
    )
    return replace(report, verdicts=models)


# What was signed.

A, B = "builder-a", "builder-b"


@dataclass(frozen=True)
class Signed:
    """A bundle with the builds of the run, signed by two builders with the same results."""

    bundle: Bundle
    trust: Trust
    pens: dict[str, KeyPen]


def pen(name: str, role: Role = Role.BUILDER) -> KeyPen:
    signer = CryptoSigner.generate_ed25519()
    signer.public_key.keyid = own_keyid(signer.public_key)
    one = datetime.timedelta(days=1)
    identity = Identity(name, role, (Key(signer.public_key, TODAY - one, TODAY + one),))
    return KeyPen(signer, identity, Trust((identity,)), TODAY)


@pytest.fixture(scope="module")
def signed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    bundle = Bundle(tmp_path_factory.mktemp("signed") / "bundle")
    pens = {name: pen(name) for name in (A, B)}
    for one in pens.values():
        publish(run.report, run.request, run.options, run.store, bundle, one)
    for digest in comparable(run.report, run.request.ledger, TODAY):
        bundle.add_material(run.store.verified(digest))
    return Signed(bundle, Trust(tuple(one.identity for one in pens.values())), pens)


Change = Callable[[dict[str, Any]], object]


def forged(signed: Signed, folder: Path, change: Change, only: str = "control") -> Signed:
    """A bundle with the materials, and what A signed of one build, changed and signed again."""
    shutil.copytree(signed.bundle.root / "materials", folder / "forged" / "materials")
    bundle = Bundle(folder / "forged")
    for statement in statements(signed):
        if statement["predicate"]["runDetails"]["builder"]["id"] == A and said(statement) == only:
            change(statement)
            signed.pens[A].keep(signed.pens[A].seal(statement), bundle)
    return Signed(bundle, signed.trust, signed.pens)


def statements(signed: Signed) -> list[dict[str, Any]]:
    found = []
    for each in signed.bundle.statements():
        assert isinstance(each, tuple)
        found.append(json.loads(base64.b64decode(json.loads(each[1])["payload"])))
    return [one for one in found if one["predicateType"] == PROVENANCE]


def said(statement: dict[str, Any]) -> str:
    """The name of the build's variation."""
    name = statement["predicate"]["runDetails"]["metadata"]["invocationId"]
    return str(name).rpartition("/")[2]


def internal(statement: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = statement["predicate"]["buildDefinition"]["internalParameters"]
    return found


def external(statement: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = statement["predicate"]["buildDefinition"]["externalParameters"]
    return found


def dependencies(statement: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    return found


def named(statement: dict[str, Any], name: str) -> dict[str, Any]:
    everything = [*dependencies(statement), *statement["subject"]]
    return next(one for one in everything if one["name"] == name)


def again(
    signed: Signed, folder: Path, engine: str = "auto", told: list[str] | None = None,
    policy: Policy = Policy(),  # noqa: B008
) -> Answers:  # fmt: skip
    entries = ledger.load(HERE / "toolchains" / "explanations.toml", TODAY)
    asked = Asked(engine, ReleasePolicy("0" * 64, policy, Requirements()), entries, TODAY, 2, "r")
    told = [] if told is None else told
    return rebuild(
        signed.bundle, signed.trust, asked, lambda name: choose(name)[0],
        Store(folder / "again"), told.append,
    )  # fmt: skip


def only(found: Answers) -> Answer:
    assert len(found.answers) == 1
    return found.answers[0]


def test_everything_that_was_signed_comes_out_again(
    signed: Signed, tmp_path: Path, run: Run
) -> None:
    """Through the command, with policy and keys in files."""
    (tmp_path / "policy.toml").write_text("[policy]\n[release]\nbuilders = 2\nverifiers = 0\n")
    change_trust(tmp_path / "keys.toml", lambda _: signed.trust, new=True)
    command = [
        "replay-release", str(signed.bundle.root), "--policy", str(tmp_path / "policy.toml"),
        "--keys", str(tmp_path / "keys.toml"), "--out", str(tmp_path / "out"),
    ]  # fmt: skip
    done = CliRunner().invoke(main, [*command, "--json"])
    assert done.exit_code == 0, done.output
    # Two builders signed each of two builds; each is done once.
    assert done.stderr.count(f"building {CLEAN[0]}") == 2
    answer = json.loads(done.stdout)
    assert answer["verdict"] == "EXPLAINED"
    told = sorted((one["signer"], one["build"].rpartition("/")[2]) for one in answer["builds"])
    assert told == [(A, "control"), (A, "varied"), (B, "control"), (B, "varied")]
    for one in answer["builds"]:
        stages = {stage["stage"]: stage for stage in one["stages"]}
        assert list(stages) == list(run.report.builds[0].stages)
        for name, stage in stages.items():
            # Heap addresses in the IR's metadata; without ASLR they are the same again.
            heap = name in ("llvm-unoptimized", "llvm") and one["build"].endswith("/control")
            assert stage["verdict"] == ("EXPLAINED" if heap else "IDENTICAL")
            assert stage["explained_by"] == (["tvm-tbaa-heap-addresses"] if heap else [])
    assert len(list((tmp_path / "out").glob("*/builds/**/record.json"))) == 2


def test_a_digest_that_does_not_come_out_is_a_finding(signed: Signed, tmp_path: Path) -> None:
    def change(statement: dict[str, Any]) -> None:
        named(statement, "object/lib0.o")["digest"]["sha256"] = "f" * 64

    found = only(again(forged(signed, tmp_path, change), tmp_path))
    assert found.verdict is Verdict.UNEXPLAINED
    wrong = {one.stage: one for one in found.stages if one.verdict is Verdict.UNEXPLAINED}
    assert list(wrong) == ["object"]
    assert "lib0.o" in wrong["object"].reason
    assert "ffffffffffff…" in wrong["object"].reason


def test_bytes_that_nothing_explains_are_a_finding_although_they_are_there(
    signed: Signed, tmp_path: Path, run: Run
) -> None:
    """Another program in place of the IR, and an artifact too many, and one too few."""
    artifact = next(a for a in run.report.builds[0].artifacts if a.stage == "llvm")
    other = run.store.read(artifact.sha256).replace(b" fmul ", b" fadd ", 1)

    def change(statement: dict[str, Any]) -> None:
        named(statement, "llvm/module.ll")["digest"]["sha256"] = hashlib.sha256(other).hexdigest()
        statement["subject"].append({"name": "object/more.o", "digest": {"sha256": "e" * 64}})
        statement["subject"].remove(named(statement, "graph/module.py"))

    bundle = forged(signed, tmp_path, change)
    bundle.bundle.add_material(other)
    found = only(again(bundle, tmp_path))
    wrong = {one.stage: one.reason for one in found.stages if one.verdict is Verdict.UNEXPLAINED}
    assert sorted(wrong) == ["graph", "llvm", "object"]
    assert "module.ll differs" in wrong["llvm"]
    assert wrong["object"] == "more.o was signed and did not come out"
    assert wrong["graph"] == "module.py came out unsigned"


def test_without_the_signed_bytes_nothing_explains_a_difference(
    signed: Signed, tmp_path: Path, run: Run
) -> None:
    """No finding either: the ledger might have. And never a pass."""
    bundle = forged(signed, tmp_path, lambda _: None)
    control = next(one for one in run.report.builds if one.id.endswith("/control"))
    digest = next(one.sha256 for one in control.artifacts if one.stage == "llvm")
    (bundle.bundle.root / "materials" / digest).unlink()
    found = only(again(bundle, tmp_path))
    assert found.verdict is Verdict.INCONCLUSIVE
    (stage,) = [one for one in found.stages if one.verdict is Verdict.INCONCLUSIVE]
    assert stage.stage == "llvm"
    assert "its bytes are not in the bundle" in stage.reason


def test_an_explanation_that_the_policy_does_not_allow_explains_nothing(
    signed: Signed, tmp_path: Path
) -> None:
    bundle = forged(signed, tmp_path, lambda _: None)
    found = only(again(bundle, tmp_path, policy=Policy(allowed_explanations=())))
    wrong = [one.stage for one in found.stages if one.verdict is Verdict.UNEXPLAINED]
    assert wrong == ["llvm-unoptimized", "llvm"]


TINY = """
import os, pathlib, sys
_, root, out = sys.argv
assert pathlib.Path(root, "iniconfig").is_dir()
try:
    pathlib.Path({outside!r}).write_text("escaped")
except OSError:
    pass
pathlib.Path(out, "prepared.txt").write_text(os.environ.get("HOME", ""))
"""


def test_a_preparation_script_of_the_bundle_runs_in_the_sandbox(
    signed: Signed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real small wheel, and a script beside it that reaches for the host."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "toolchains" / "tiny"
    folder.mkdir(parents=True)
    outside = tmp_path / "escaped"
    (folder / "prepare.py").write_text(TINY.format(outside=str(outside)))
    locked = (HERE / "requirements-dev.lock").read_text()
    entry = re.search(r"^iniconfig==(\S+)( \\\n +--hash=\S+)+$", locked, re.MULTILINE)
    assert entry
    (folder / "1-tiny-x86_64.lock").write_text(f"{entry[0]}\n")
    (folder / "1-tiny-x86_64.toml").write_text(
        'version = "1"\npublisher = "tiny"\narch = "x86_64"\n'
        f'requirements = ["iniconfig=={entry[1]}"]\nprepare = "prepare.py"\n'
    )
    definition = load([folder.parent])["tiny/1-tiny-x86_64"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    provider = Provider(
        signed.bundle, "auto", lambda name: choose(name)[0], True, Store(tmp_path / "s"), scratch,
        lambda _: None,
    )  # fmt: skip
    made = provider.environment(definition, Sandbox())
    assert (made.root / "prepared.txt").read_text() == "/home/builder"
    assert not outside.exists()


@pytest.mark.parametrize(
    "name",
    [
        "toolchains/tvm/driver.py",
        "toolchains/tvm/0.27.0.post1-pypi-x86_64.lock",
        "model",
        "model/external/weights.bin",
    ],
)
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_damaged_material_is_no_answer(
    signed: Signed, tmp_path: Path, name: str, how: str
) -> None:
    bundle = forged(signed, tmp_path, lambda _: None)
    digest = named(statements(bundle)[0], name)["digest"]["sha256"]
    place = bundle.bundle.root / "materials" / digest
    content = place.read_bytes()
    place.unlink()
    if how == "changed":
        place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = only(again(bundle, tmp_path))
    assert found.verdict is Verdict.INCONCLUSIVE
    words = "is damaged" if how == "changed" else "is not in the bundle"
    assert found.unknown == f"material {name} ({digest[:12]}…) {words}"
    assert not found.stages


def drop_table(statement: dict[str, Any]) -> None:
    dependencies(statement)[:] = [named(statement, "model")]


def rename(old: str, new: str) -> Change:
    return lambda statement: named(statement, old).update(name=new)


DRIVER, WEIGHTS = "toolchains/tvm/driver.py", "model/external/weights.bin"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: internal(s).update(environment_sha256="e" * 64), "signed was eeeeeeeeeeee…"),
        (lambda s: internal(s).update(toolchain_identity="e" * 64), "signed was eeeeeeeeeeee…"),
        (lambda s: external(s).update(toolchain="tvm/9-x-x86_64"), "no toolchain is called"),
        (lambda s: external(s).update(toolchain="llvm/22.1.8-ziglang-x86_64"), "the identity"),
        (lambda s: external(s)["inputs"].update(x=[3, 8]), ""),
        (lambda s: external(s)["inputs"].update(y=[1]), "y"),
        (lambda s: external(s)["variation"].update(build_path="/usr"), "none that this harness"),
        (lambda s: external(s)["variation"].update(environment=[["LD_PRELOAD", "/x"]]), "draws"),
        (lambda s: external(s)["variation"].update(name="varied-99999"), "draws"),
        (drop_table, "names no files that define its toolchain"),
        (rename(DRIVER, "toolchains/../../escaped"), "no plain path"),
        (rename(DRIVER, "toolchains//tmp/escaped"), "no plain path"),
        (rename(DRIVER, "toolchains/tvm/replay.toml/driver.py"), "cannot be written"),
        (rename(DRIVER, "toolchains/tvm/other.py"), "the identity"),
        (rename(DRIVER, "toolchains-extra/tvm/driver.py"), "the identity"),
        (rename(WEIGHTS, "model/external/../../escaped"), "no plain path"),
        (rename(WEIGHTS, "model/external/model.onnx/x"), "cannot be written"),
        (rename(WEIGHTS, "model/external/model.onnx"), "cannot be written"),
        (rename(WEIGHTS, "model/external/" + "x" * 300), "cannot be written"),
        (rename(WEIGHTS, "model/external/other.bin"), "is missing"),
        (rename(WEIGHTS, "other"), "is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_as_it_was_signed_is_no_answer(
    signed: Signed, tmp_path: Path, change: Change, words: str
) -> None:
    if words == "":  # another shape is another build: it comes out, but not as signed
        found = only(again(forged(signed, tmp_path, change), tmp_path))
        assert found.verdict is Verdict.UNEXPLAINED
        return
    told: list[str] = []
    found = only(again(forged(signed, tmp_path, change), tmp_path, told=told))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert words in found.unknown
    assert not [line for line in told if line.startswith("building")]
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: internal(s).update(redteam="fast-math"), "compromised on purpose"),
        (lambda s: external(s)["target"].update(mcpu="x86-64-v4"), "names another target"),
    ],
)
def test_what_must_not_be_built_is_refused(
    signed: Signed, tmp_path: Path, change: Change, words: str
) -> None:
    told: list[str] = []
    found = only(again(forged(signed, tmp_path, change), tmp_path, told=told))
    assert found.verdict is Verdict.UNEXPLAINED
    assert words in found.refused
    assert not [line for line in told if line.startswith("building")]


def test_a_statement_that_nobody_can_read_is_no_answer(signed: Signed, tmp_path: Path) -> None:
    def change(statement: dict[str, Any]) -> None:
        external(statement)["surprise"] = 1

    found = only(again(forged(signed, tmp_path, change), tmp_path))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "surprise" in found.unknown


def test_a_build_that_another_builder_claims_is_no_answer(signed: Signed, tmp_path: Path) -> None:
    def change(statement: dict[str, Any]) -> None:
        statement["predicate"]["runDetails"]["builder"]["id"] = B

    found = only(again(forged(signed, tmp_path, change), tmp_path))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.unknown == f"it cannot be read: tells of a build by {B}, and {A} signed it"


def test_without_a_key_that_counts_there_is_nothing_to_say(signed: Signed, tmp_path: Path) -> None:
    stranger = replace(signed, trust=Trust((pen("stranger").identity,)))
    with pytest.raises(UsageError, match="no build in it is signed with a key that counts"):
        again(stranger, tmp_path)
    upstream = replace(signed.pens[A].identity, role=Role.UPSTREAM)
    with pytest.raises(UsageError, match="no build in it"):
        again(replace(signed, trust=Trust((upstream,))), tmp_path)


def test_an_engine_that_is_not_here_is_named(
    signed: Signed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was built in an image is built in one again, or not at all."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")

    def change(statement: dict[str, Any]) -> None:
        dependencies(statement).append({"name": "image", "digest": {"sha256": "e" * 64}})

    found = only(again(forged(signed, tmp_path, change), tmp_path))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "engine docker does not work here" in found.unknown


def test_what_was_built_in_an_image_is_not_built_without(signed: Signed, tmp_path: Path) -> None:
    def change(statement: dict[str, Any]) -> None:
        dependencies(statement).append({"name": "image", "digest": {"sha256": "e" * 64}})

    found = only(again(forged(signed, tmp_path, change), tmp_path, engine="sandbox"))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.unknown.endswith("it runs here in no image, signed was image eeeeeeeeeeee…")


def test_plain_processes_are_no_isolation(signed: Signed, tmp_path: Path) -> None:
    policy = Policy(allow_isolation_none=False)
    bundle = forged(signed, tmp_path, lambda _: None)
    found = only(again(bundle, tmp_path, engine="plain", policy=policy))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "engine plain isolates nothing" in found.unknown


def test_policy_and_keys_never_come_from_the_bundle(signed: Signed, tmp_path: Path) -> None:
    keys, inside, link = (tmp_path / "keys.toml", signed.bundle.root / "p.toml", tmp_path / "p")
    change_trust(keys, lambda _: signed.trust, new=True)
    inside.write_text("[policy]\n[release]\n")
    link.symlink_to(inside)
    for policy in (inside, link):
        command = ["replay-release", signed.bundle.root, "--policy", policy, "--keys", keys]
        done = CliRunner().invoke(main, [str(word) for word in command])
        assert done.exit_code == 2
        assert "lies in the bundle" in done.output
