"""The decision: what it rests on, that it is monotonic, and what is checked by nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import event, given, settings
from hypothesis import strategies as st

from harness.cli import main
from harness.errors import UsageError
from harness.signoff.apartfrom import leads_through
from harness.signoff.artifact import taken
from harness.signoff.interface import Decision, Rejected, Signed
from harness.signoff.profilematerial import profile_material
from harness.signoff.provenance import PROFILE
from harness.signoff.releasepolicy import independent, load_policy
from harness.signoff.verify import decide
from tests.unit.samples import sha
from tests.unit.signoff_release import (
    ARTIFACT,
    BUILDERS,
    POLICY,
    RELEASE,
    TODAY,
    A,
    D,
    Release,
    keyid,
    leaves,
    other,
    policy_of,
    profile,
    published,
    release,
    trust_of,
    trusted,
)

VERIFIERS = ("own-0", "own-1", "own-2", "own-3", "evidence", "bill", "summary")


def changed(path: tuple[Any, ...]) -> Callable[[Any], None]:
    def change(statement: Any) -> None:
        for step in path[:-1]:
            statement = statement[step]
        statement[path[-1]] = other(statement[path[-1]])

    return change


# Each field of each statement


@pytest.mark.parametrize("name", [*BUILDERS, "own-0", "evidence", "bill", "summary", "train"])
def test_no_field_can_be_changed_without_the_signers_key(name: str) -> None:
    count = 0
    for path in leaves(release().statements[name]):
        forged, stranger = release(), release()
        forged.forge(name, changed(path))
        stranger.change(name, changed(path), "stranger")
        for r, reason in ((forged, "does not verify"), (stranger, keyid("stranger"))):
            found = r.opened(name)
            assert isinstance(found, Rejected)
            assert reason in found.reason
        count += 1
    assert count > 10


# What is only told, and decides nothing: whoever signs it is all that vouches for it. Changing any
# other field, with the right key, and with a summary that rests on the change, is refused.
NAMES = r"subject\.\d+\.name|predicate\.model\.name|.*externalParameters\.model|.*\.uri"
TOLD = {
    "evidence": rf"{NAMES}|predicate\.ledger_sha256|predicate\.run\.(seed|engine|harness|host)"
    r"|predicate\.stages\.\d\.agreed\.\d|predicate\.artifact\.size"
    r"|predicate\.toolchains\.\d\.(compiler|version|publisher|arch|environments\.0)",
    "builder-a": rf"{NAMES}|.*\.(target|variation|limits|command|host|version|environment_sha256)"
    r"(\..*)?|.*\.(replayers|harness|engine|toolchain_identity)|.*\.siblings\.1\.build"
    # a stage of which the policy asks no independence; the driver; replays, which can only add
    r"|subject\.0\..*|.*\.resolvedDependencies\.2\..*|.*\.byproducts\.1\..*",
    "own-0": rf"{NAMES}|.*\.(target|variation|limits|command|host|version|environment_sha256)"
    r"(\..*)?|.*\.(replayers|harness|engine)|.*\.siblings\.1\.build|subject\.[01]\..*",
    "bill": rf"{NAMES}|.*\.(specVersion|version|name)|predicate\.metadata\.component\.type",
    "summary": rf"{NAMES}|predicate\.slsaVersion",
    # the chain is tested by itself; the first step of it may be of anything
    "train": r"subject\.0\.name|predicate.*",
}


@pytest.mark.parametrize("name", TOLD)
def test_what_a_signer_says_is_checked_against_the_rest_or_only_told(name: str) -> None:
    told = set()
    for path in leaves(release().statements[name]):
        r = release()
        (r.change if name == "summary" else r.lie)(name, changed(path))
        if r.decided().verified:
            told.add(".".join(map(str, path)))
    assert told
    assert not [path for path in told if not re.fullmatch(TOLD[name], path)]


# Monotonic


@cache
def crowd(policy: str) -> Release:
    """A release with more than it needs: a fourth builder, a second verifier, and those who say
    something else, or the same badly.
    """
    r = release()
    for who, role in (("builder-d", "builder"), ("verifier-w", "verifier")):
        r.roles[who], r.identities[who] = role, [trusted(who)]
    r.policy = policy
    r.lie("evidence", lambda s: s["predicate"].update(policy_sha256=sha(policy)))
    r.change("summary", lambda s: s["predicate"]["policy"]["digest"].update(sha256=sha(policy)))
    rests = r.statements["summary"]["predicate"]["inputAttestations"]
    rests[:] = [rest for rest in rests if "builder-" not in rest["uri"]]

    def more(name: str, like: str, signer: str, *changes: Callable[[Any], object]) -> None:
        r.statements[name] = json.loads(json.dumps(r.statements[like]))
        r.signers[name] = (signer,)
        for change in changes:
            change(r.statements[name])

    r.statements["builder-d"], materials = published("builder-d", D, "20260101-000009-1-abcd")
    r.signers["builder-d"] = ("builder-d",)
    copy = profile_material(profile(D, content=A))
    r.materials |= {sha(data): data for data in (*materials.values(), copy)}
    more(
        "builder-d-copied",
        "builder-d",
        "builder-d",
        lambda s: s["predicate"]["runDetails"]["byproducts"][0]["digest"].update(sha256=sha(copy)),
    )
    more("builder-a-otherwise", "builder-a", "builder-a", another_library)
    more(
        "builder-b-unsure",
        "builder-b",
        "builder-b",
        lambda s: internal(s)["siblings"][1].update(library=sha("else")),
    )
    more("builder-c-redteam", "builder-c", "builder-c", lambda s: internal(s).update(redteam="x"))
    more(
        "train-otherwise",
        "train",
        "trainer-t",
        lambda s: s["predicate"]["buildDefinition"]["resolvedDependencies"][0].update(
            digest={"sha256": sha("other data")}
        ),
    )
    more("data", "train", "trainer-t", data_step)
    more(
        "evidence-unsure",
        "evidence",
        "verifier-v",
        lambda s: s["predicate"].update(verdict="INCONCLUSIVE"),
    )
    more(
        "summary-unsure",
        "summary",
        "verifier-v",
        lambda s: rest_on(s, r.digest("evidence"), r.digest("evidence-unsure")),
    )
    more(
        "summary-failed",
        "summary",
        "verifier-v",
        lambda s: s["predicate"].update(verificationResult="FAILED", verifiedLevels=["FAILED"]),
    )
    for name in VERIFIERS[:4]:
        more(
            f"{name}-w",
            name,
            "verifier-w",
            lambda s: s["predicate"]["runDetails"]["builder"].update(id="verifier-w"),
        )
    more("evidence-w", "evidence", "verifier-w", lambda s: s["predicate"]["run"].update(seed=2))
    more("bill-w", "bill", "verifier-w", lambda s: s["predicate"].update(version=2))
    more(
        "summary-w",
        "summary",
        "verifier-w",
        lambda s: s["predicate"]["verifier"].update(id="verifier-w"),
        *(lambda s, n=name: rest_on(s, r.digest(n), r.digest(f"{n}-w")) for name in VERIFIERS[:6]),
    )
    r.statements["broken"], r.signers["broken"] = {}, ("builder-a",)
    r.files["broken"] = b"{}"
    return r  # fmt: skip


def internal(statement: Any) -> Any:
    return statement["predicate"]["buildDefinition"]["internalParameters"]


def another_library(statement: Any) -> None:
    statement["subject"][2]["digest"]["sha256"] = sha("else")
    for each in internal(statement)["siblings"]:
        each["library"] = sha("else")


def data_step(statement: Any) -> None:
    statement["subject"] = [
        {
            "name": "data",
            "digest": {"sha256": sha("data")},
            "annotations": {"urn:ml-compiler-harness:step": "data"},
        }
    ]
    statement["predicate"]["buildDefinition"]["resolvedDependencies"] = []


def rest_on(summary: Any, before: str, after: str) -> None:
    for rest in summary["predicate"]["inputAttestations"]:
        if rest["digest"]["sha256"] == before:
            rest["digest"]["sha256"] = after


POLICIES = {
    "two builders": POLICY.replace("builders = 3", "builders = 2").replace("= 3", "= 2"),
    "three builders": POLICY,
    "four builders": POLICY.replace("= 3", "= 4"),
    "unanimous": POLICY.replace("[release]", "[release]\nunanimous = true"),
    "two verifiers": POLICY.replace("verifiers = 1", "verifiers = 2"),
    "builders alone": POLICY.replace("verifiers = 1", "verifiers = 0"),
    "verifiers alone": POLICY.partition("[release]")[0] + "[release]\nverifiers = 1\n",
    "with data": POLICY.replace('["train"', '["data", "train"'),
}


@cache
def opened(policy: str) -> dict[str, list[Signed] | Rejected]:
    return {name: crowd(policy).opened(name) for name in crowd(policy).statements}


def answer(policy: str, names: frozenset[str], materials: frozenset[str]) -> Decision:
    r = crowd(policy)
    found = [opened(policy)[name] for name in sorted(names)]
    signed = [each for one in found if not isinstance(one, Rejected) for each in one]
    rejected = [one for one in found if isinstance(one, Rejected)]
    there = {digest: data for digest, data in r.materials.items() if digest in materials}
    trust = trust_of(r.trust_text())
    return decide(sha(ARTIFACT), signed, rejected, there.get, trust, policy_of(policy), None, TODAY)


@pytest.mark.parametrize("kind", POLICIES)
def test_the_whole_crowd_verifies(kind: str) -> None:
    r = crowd(POLICIES[kind])
    found = answer(r.policy, frozenset(r.statements), frozenset(r.materials))
    assert found.verified, found.refusals


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(POLICIES)), st.data())
def test_what_is_left_out_never_turns_a_refusal_into_a_pass(kind: str, data: st.DataObject) -> None:
    r = crowd(POLICIES[kind])
    pieces = sorted([*((True, name) for name in r.statements), *((False, d) for d in r.materials)])
    gone = data.draw(st.frozensets(st.sampled_from(pieces), max_size=6))
    more = data.draw(st.frozensets(st.sampled_from(pieces), min_size=1, max_size=4))
    found = []
    for without in (gone, gone | more):
        names = frozenset(name for name in r.statements if (True, name) not in without)
        materials = frozenset(d for d in r.materials if (False, d) not in without)
        found.append(answer(r.policy, names, materials))
    event(f"{found[0].verified} → {found[1].verified}")
    assert found[0].verified or not found[1].verified, found[0].refusals


def test_nothing_that_is_added_turns_a_pass_into_a_refusal() -> None:
    """Dissent, failures, junk: the other direction of the same, without chance."""
    policy = POLICIES["two builders"]
    r = crowd(policy)
    core = frozenset(("builder-a", "builder-b", "train", *VERIFIERS))
    everything = frozenset(r.materials)
    assert answer(policy, core, everything).verified
    extras = sorted(r.statements.keys() - core)
    assert len(extras) > 15
    for some in (*combinations(extras, 1), *combinations(extras, 2), tuple(extras)):
        found = answer(policy, core.union(some), everything)
        assert found.verified, (some, found.refusals)


def test_each_piece_of_a_release_without_spare_parts_is_needed() -> None:
    r = release()
    assert r.decided().verified
    for name in r.statements:
        assert not r.decided(names=r.statements.keys() - {name}).verified, name
    profiles = {
        each["digest"]["sha256"]
        for builder in BUILDERS
        for each in r.statements[builder]["predicate"]["runDetails"]["byproducts"]
        if each["name"].startswith(PROFILE)
    }
    assert len(profiles) == len(BUILDERS)
    for digest in profiles:
        assert not r.decided(materials=r.materials.keys() - {digest}).verified


# What is told


def test_a_dissenter_is_named_and_decides_nothing() -> None:
    r = crowd(POLICIES["two builders"])
    found = answer(r.policy, frozenset(r.statements), frozenset(r.materials))
    assert found.verified
    assert any(line.startswith("builder-a made ") and "another build" in line
               for line in found.dissent)  # fmt: skip
    assert any("verifier-v refused this artifact" in line for line in found.dissent)
    told = "\n".join(found.notes)
    for part in (
        "broken.json",
        "builder-b-unsure.json",
        "builder-c-redteam.json",
        "summary-unsure",
    ):
        assert f"{part}" in told
    assert "INCONCLUSIVE" in told


def test_a_builder_that_made_only_something_else_is_a_dissenter() -> None:
    r = release()
    r.lie("builder-c", another_library)
    found = r.decided()
    assert not found.verified
    assert any(line.startswith(f"builder-c made {sha('else')[:12]}… of this model with tvm/2-c-x86")
               for line in found.dissent)  # fmt: skip


def test_it_says_what_it_rests_on_and_names_each_gap() -> None:
    found = release().decided()
    assert any("verifier-v passed it" in line and RELEASE in line for line in found.rests)
    for builder in BUILDERS:
        assert any(line.startswith(f"{builder} made the same") for line in found.rests)
    assert any("independent of each other at object" in line for line in found.rests)
    assert any(line.startswith("gap: no statement says where data") for line in found.chain)


def test_it_says_what_explains_a_difference() -> None:
    r = release()
    more = {"verdict": "EXPLAINED", "explanations": {"heap-names": "proven"}}
    r.lie("evidence", lambda s: s["predicate"].update(more))
    stage = {"verdict": "EXPLAINED", "explained_by": ["heap-names"]}
    r.lie("evidence", lambda s: s["predicate"]["stages"][0].update(stage))
    found = r.decided()
    assert found.verified, found.refusals
    assert any(line.endswith("is EXPLAINED by heap-names") for line in found.rests)


def test_hostile_names_do_not_reach_the_terminal() -> None:
    r = release()
    r.statements["builder-a"]["subject"][0]["name"] = "graph/\x1b[2J\u202e"
    found = r.decided()
    lines = (*found.refusals, *found.notes, *found.rests, *found.chain, *found.dissent)
    assert all(line.isprintable() for line in lines)


# The command


def run(r: Release, folder: Path, *more: str) -> Any:
    return CliRunner().invoke(main, [*r.lay_out(folder), *more])


def test_json_has_the_same_answer(tmp_path: Path) -> None:
    result = run(release(), tmp_path, "--json")
    found = json.loads(result.output)
    assert result.exit_code == 0
    assert found["verified"] is True
    assert found["refusals"] == []
    assert found["artifact"] == {
        "file": str(tmp_path / "model.so"), "sha256": sha(ARTIFACT), "size": len(ARTIFACT),
    }  # fmt: skip
    assert found["policy_sha256"] == sha(POLICY)


def test_quiet_says_nothing(tmp_path: Path) -> None:
    r = release()
    assert run(r, tmp_path / "good", "--quiet").output == ""
    r.drop("builder-a")
    result = run(r, tmp_path / "bad", "--quiet")
    assert (result.exit_code, result.output) == (1, "")


def test_a_refusal_lists_reasons_one_a_line(tmp_path: Path) -> None:
    r = release()
    r.identities["builder-b"][0]["revoked"] = "laptop lost"
    result = run(r, tmp_path)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("REFUSED ")
    assert "It lacks what the policy asks for:" in lines
    assert any(
        "builder-b.json does not count: signed by builder-b with a key revoked: laptop lost" in line
        for line in lines
    )


def test_the_copy_holds_what_was_judged(tmp_path: Path) -> None:
    target = tmp_path / "released.so"
    target.write_bytes(b"the last release")
    result = run(release(), tmp_path / "x", "--copy-to", str(target))
    assert result.exit_code == 0
    assert target.read_bytes() == ARTIFACT
    assert sorted(each.name for each in tmp_path.iterdir()) == ["released.so", "x"]


def test_a_refused_artifact_is_not_copied(tmp_path: Path) -> None:
    r, target = release(), tmp_path / "released.so"
    target.write_bytes(b"the last release")
    r.drop("builder-a")
    result = run(r, tmp_path / "x", "--copy-to", str(target))
    assert result.exit_code == 1
    assert target.read_bytes() == b"the last release"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["released.so", "x"]


def test_what_is_swapped_after_the_check_is_not_in_the_copy(tmp_path: Path) -> None:
    artifact, target = tmp_path / "model.so", tmp_path / "released.so"
    artifact.write_bytes(ARTIFACT)
    artifact.chmod(0o750)
    with taken(artifact, target) as found:
        artifact.write_bytes(b"swapped")
        assert not target.exists()
        found.release(target)
    assert found.sha256 == sha(ARTIFACT)
    assert target.read_bytes() == ARTIFACT
    assert target.stat().st_mode & 0o777 == 0o750


def test_an_artifact_swapped_for_another_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real.so").write_bytes(ARTIFACT)
    (tmp_path / "model.so").symlink_to("real.so")
    with pytest.raises(UsageError) as error, taken(tmp_path / "model.so"):
        pass
    assert error.value.hint == f"name the file itself: {tmp_path / 'real.so'}"


def test_an_artifact_can_be_copied_over_itself_and_never_over_a_folder(tmp_path: Path) -> None:
    arguments = release().lay_out(tmp_path)
    artifact = tmp_path / "model.so"
    before = artifact.stat().st_ino
    result = CliRunner().invoke(main, [*arguments, "--copy-to", str(artifact)])
    assert result.exit_code == 0
    assert artifact.read_bytes() == ARTIFACT
    assert artifact.stat().st_ino != before
    result = CliRunner().invoke(main, [*arguments, "--copy-to", str(tmp_path / "bundle")])
    assert result.exit_code == 2
    assert "cannot be written" in result.output
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_nowhere_to_copy_to_is_no_answer(tmp_path: Path) -> None:
    result = run(release(), tmp_path / "x", "--copy-to", str(tmp_path / "gone" / "a.so"))
    assert result.exit_code == 2
    assert "cannot be written" in result.output


def test_it_needs_no_compiler_and_starts_no_engine(tmp_path: Path) -> None:
    """Nothing heavy is imported: it has to work, and quickly, where nothing else is installed."""
    arguments = release().lay_out(tmp_path)
    script = (
        "import sys\nfrom harness.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(*sorted(sys.modules))"
    )
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.startswith("VERIFIED")
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "securesystemslib" in loaded
    assert not loaded & {"onnx", "numpy", "docker", "z3", "capstone", "cyclonedx", "sigstore"}


# What is trusted does not come from the bundle


def test_what_leads_through_a_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "bundle", tmp_path / "outside"
    for each in (folder, folder / "sub", outside):
        each.mkdir()
    for each in (folder / "policy", outside / "policy"):
        each.touch()
    (outside / "to-inside").symlink_to("../bundle/sub")
    (folder / "to-outside").symlink_to(outside)
    (tmp_path / "alias").symlink_to("bundle")
    (tmp_path / "round").symlink_to("round")
    inside = (
        folder / "policy",
        folder / "to-outside/policy",  # outside, but the bundle says where
        outside / "../bundle/policy",
        outside / "to-inside/../policy",
        tmp_path / "alias/policy",
        folder / "missing",
        outside / "../outside/to-inside/policy",
    )
    for path in inside:
        assert leads_through(path, folder), path
        assert leads_through(path, tmp_path / "alias"), path
    elsewhere = (
        outside / "policy",
        folder / "../bundle/sub/../../outside/policy",
        *(tmp_path / name for name in ("missing", "round", "")),
    )
    for path in elsewhere:
        assert not leads_through(path, folder), path
    assert not leads_through(outside / "policy", tmp_path / "gone")


def test_a_relative_path_is_followed_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle").mkdir()
    monkeypatch.chdir(tmp_path / "bundle")
    assert leads_through(Path("policy.toml"), tmp_path / "bundle")
    assert leads_through(Path("policy.toml"), Path())
    assert not leads_through(Path("../policy.toml"), Path())


# Policies


def policy(text: str, folder: Path) -> Any:
    (folder / "p.toml").write_text(text, encoding="utf-8")
    return load_policy(folder / "p.toml")


def test_a_policy_is_known_by_its_bytes(tmp_path: Path) -> None:
    found = policy(POLICY, tmp_path)
    assert found.sha256 == sha(POLICY)
    assert found.run.required_stages == ("graph", "object", "library")
    assert (found.release.builders, found.release.max_age_days) == (3, 90)
    assert independent(found.release) == {"library": 3, "object": 3}
    assert policy(POLICY + "#", tmp_path).sha256 != found.sha256


def test_builders_have_to_be_independent_unless_the_policy_says_where(tmp_path: Path) -> None:
    text = "[policy]\n[release]\nbuilders = 2\n"
    assert independent(policy(text, tmp_path).release) == {"library": 2}
    assert independent(policy(text + "[release.independent]\n", tmp_path).release) == {}
    assert independent(policy("[policy]\n[release]\n", tmp_path).release) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[policy]\nmin_builds = -1\n[release]\n", "policy.min_builds: -1 is not from 0 to"),
        ("[policy]\n[release]\nbuilders = 1001\n", "release.builders: 1001 is not from 0 to 1000"),
        ("[policy]\n[release]\nmax_age_days = 99999\n", "release.max_age_days: 99999 is not"),
        ("[policy]\n[policy.min_independent]\ngraph = -1\n[release]\n", "min_independent.graph"),
        ("[policy]\n[release]\n[release.independent]\nlibrary = -1\n", "independent.library: -1"),
        ("[policy]\n[release]\nverifiers = 0\n", "asks for no verifier and no builder"),
        ("[policy]\n[release]\nverifiers = true\n", "release.verifiers"),
        ("[policy]\n", "release: missing key"),
        ("[release]\n", "policy: missing key"),
        ("[policy]\n[release]\nverifier = 1\n", "unknown key"),
    ],
)
def test_a_policy_that_makes_no_sense_is_an_error(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        policy(text, tmp_path)


def test_the_environment_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the right names in the working directory are not looked at."""
    r = release()
    arguments = r.lay_out(tmp_path / "x")
    here = tmp_path / "here"
    here.mkdir()
    for name in ("policy.toml", "keys.toml", "nightly.toml"):
        (here / name).write_text("nonsense")
    monkeypatch.chdir(here)
    assert CliRunner().invoke(main, arguments).exit_code == 0
    for option in ("--policy", "--keys", "--bundle"):
        at = arguments.index(option)
        left = arguments[:at] + arguments[at + 2 :]
        result = CliRunner().invoke(main, left)
        assert result.exit_code == 2
        assert f"Missing option '{option}'" in result.output
