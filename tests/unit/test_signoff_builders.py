"""k of n: who counts as a builder of the artifact, and who of them as independent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main
from harness.models import Verdict
from harness.signoff.apart import Maker, Pairs, largest
from harness.signoff.profilematerial import profile_material
from harness.signoff.provenance import Replayed, dump_replays
from tests.unit.samples import sha
from tests.unit.signoff_release import (
    ARTIFACT,
    REPLAYER,
    A,
    B,
    Release,
    profile,
    release,
    trusted,
)


def under(text: str, by: str, *more: tuple[str, str]) -> Release:
    """The release, passed under another policy."""
    r = release()
    for old, new in ((text, by), *more):
        assert old in r.policy
        r.policy = r.policy.replace(old, new)
    r.lie("evidence", lambda s: s["predicate"].update(policy_sha256=sha(r.policy)))
    r.change("summary", lambda s: s["predicate"]["policy"]["digest"].update(sha256=sha(r.policy)))
    return r


def byproducts(r: Release, builder: str) -> Any:
    return r.statements[builder]["predicate"]["runDetails"]["byproducts"]


def name_profile(r: Release, builder: str, name: str, data: bytes) -> None:
    """``builder`` names ``data`` as the profile of its toolchain or replayer ``name``."""
    r.materials[sha(data)] = data

    def change(statement: Any) -> None:
        listed = statement["predicate"]["runDetails"]["byproducts"]
        listed[:] = [each for each in listed if each["name"] != f"profile:{name}"]
        listed.append({"name": f"profile:{name}", "digest": {"sha256": sha(data)}})

    r.lie(builder, change)


def name_replays(r: Release, builder: str, *replays: Replayed) -> None:
    data = dump_replays(replays)
    r.materials[sha(data)] = data

    def change(statement: Any) -> None:
        for each in statement["predicate"]["runDetails"]["byproducts"]:
            if each["name"] == "replays":
                each["digest"]["sha256"] = sha(data)

    r.lie(builder, change)


def refusal(r: Release, begin: str) -> str:
    """The only refusal that begins so."""
    found = [line for line in r.decided().refusals if line.startswith(begin)]
    assert len(found) == 1, r.decided().refusals
    return found[0]


# The largest set


def maker(builder: str, name: str = A) -> Maker:
    return Maker(builder, "f.json", profile(name), {"lib0.o": sha("object")})


@given(
    st.lists(st.sampled_from("abcde"), max_size=9),
    st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8))),
    st.integers(0, 6),
)
def test_the_largest_set_is_found(
    builders: list[str], together: set[tuple[int, int]], enough: int
) -> None:
    makers = [maker(builder) for builder in builders]
    number = {id(each): i for i, each in enumerate(makers)}

    def apart(left: Maker, right: Maker) -> bool:
        pair = number[id(left)], number[id(right)]
        return left.builder != right.builder and not {pair, pair[::-1]} & together

    def whole(chosen: tuple[Maker, ...]) -> bool:
        return all(apart(left, right) for left, right in combinations(chosen, 2))

    found = largest(makers, apart, enough)
    assert whole(tuple(found))
    best = max(
        size
        for size in range(len(makers) + 1)
        if any(whole(chosen) for chosen in combinations(makers, size))
    )
    assert len(found) == min(best, enough) or (enough < len(found) == 1)


def test_pairs_are_judged_by_the_stage_that_is_asked_about() -> None:
    pairs, left, right = Pairs(), profile(A), profile(B)
    assert pairs.same(left, right, "library") == ()
    assert pairs.same(left, profile(B, content=A), "library") == ("linker",)
    assert pairs.same(left, profile(B, content=A), "graph") == ("frontend", "compiler")
    assert pairs.same(left, left, "object") == ("llvm",)


def test_sharing_is_judged_in_pairs_and_not_along_chains() -> None:
    """B shares with A and with C; A and C share nothing: they are two, whatever B says."""
    made = [maker("a"), maker("b"), maker("c")]
    shares = {("a", "b"), ("b", "c")}

    def apart(left: Maker, right: Maker) -> bool:
        return not {(left.builder, right.builder), (right.builder, left.builder)} & shares

    assert [each.builder for each in largest(made, apart, 3)] == ["a", "c"]


# Independence of a release's builders


def test_two_builders_that_share_a_component_are_one_where_it_matters() -> None:
    r = release()
    name_profile(r, "builder-b", B, profile_material(profile(B, content=A)))
    line = refusal(r, "independent builders at object: 2 (")
    assert "are one builder of the llvm" in line
    refusal(r, "independent builders at library: 2 (")
    r = under("library = 3", "graph = 3", ("object = 3", "object = 2"))
    name_profile(r, "builder-b", B, profile_material(profile(B, content=A)))
    assert r.decided().refusals[0].startswith("independent builders at graph: 2 (")


def test_an_independent_replayer_stands_for_its_builder_where_it_made_the_stage_again() -> None:
    r = under("library = 3\n", "")
    name_profile(r, "builder-b", B, profile_material(profile(B, content=A)))
    refusal(r, "independent builders at object: 2 (")
    name_profile(r, "builder-b", REPLAYER, profile_material(profile(REPLAYER)))
    found = r.decided()
    assert found.verified, found.refusals
    assert any(f"builder-b ({REPLAYER})" in line for line in found.rests)
    made = sha("object")
    bad = [
        (),
        (Replayed("r", REPLAYER, "object", Verdict.INCONCLUSIVE, made, made),),
        (Replayed("r", REPLAYER, "object", Verdict.IDENTICAL, made, sha("else")),),
        (Replayed("r", REPLAYER, "object", Verdict.IDENTICAL, sha("else"), sha("else")),),
        (Replayed("r", REPLAYER, "library", Verdict.IDENTICAL, made, made),),
    ]
    for replays in bad:
        name_replays(r, "builder-b", *replays)
        refusal(r, "independent builders at object: 2 (")


def test_a_builder_and_its_own_replayer_are_one() -> None:
    """However many tools a builder runs: they are one machine, and one signature."""
    r = under("builders = 3", "builders = 1", ("library = 3\n", ""), ("object = 3", "object = 2"))
    r.drop("builder-b", "builder-c")
    rests = r.statements["summary"]["predicate"]["inputAttestations"]
    rests[:] = [each for each in rests if each["uri"] not in
                ("statements/builder-b.json", "statements/builder-c.json")]  # fmt: skip
    name_profile(r, "builder-a", REPLAYER, profile_material(profile(REPLAYER)))
    assert refusal(r, "independent builders at object: 1 (builder-a")


def test_replays_that_cannot_be_read_add_nothing_and_harm_nothing() -> None:
    r = release()
    junk = b"[["
    r.materials[sha(junk)] = junk
    r.lie("builder-a", lambda s: s["predicate"]["runDetails"]["byproducts"][1]["digest"].update(
        sha256=sha(junk)))  # fmt: skip
    assert r.decided().verified


def test_a_builder_that_made_nothing_again_counts_by_its_toolchain(tmp_path: Path) -> None:
    r = release()
    r.lie("builder-a", lambda s: s["predicate"]["runDetails"]["byproducts"].pop(1))
    result = CliRunner().invoke(main, r.lay_out(tmp_path))
    assert result.exit_code == 0, result.output


# What is the same


def explained(r: Release, left: str, right: str, ground: str, stage: str = "library") -> None:
    """The verifier's evidence explains two artifacts by ``names``."""
    pair = {
        "stage": stage, "name": "model.so", "left": min(left, right), "right": max(left, right),
        "explained_by": ["names"],
    }  # fmt: skip
    r.lie("evidence", lambda s: s["predicate"].update(
        equivalences=[pair], explanations={"names": ground}))  # fmt: skip


def another_library(statement: Any) -> None:
    statement["subject"][2]["digest"]["sha256"] = sha("else")
    for each in statement["predicate"]["buildDefinition"]["internalParameters"]["siblings"]:
        each["library"] = sha("else")


EXPLAINED = "[release]\nexplained = true"


def test_other_bytes_count_where_the_verifier_explains_them_and_the_policy_lets_them() -> None:
    for policy, ground, counts in (
        (EXPLAINED, "proven", True),
        (EXPLAINED, "derived", True),
        (EXPLAINED, "declared", False),
        (f'{EXPLAINED}\ndeclared = ["names"]', "declared", True),
        (f'{EXPLAINED}\ndeclared = ["others"]', "declared", False),
        ("[release]\n", "proven", False),
    ):
        r = under("[release]", policy)
        r.lie("builder-c", another_library)
        assert not r.decided().verified
        explained(r, sha(ARTIFACT), sha("else"), ground)
        assert r.decided().verified is counts, (policy, ground)


def test_what_is_explained_is_one_step_from_the_artifact() -> None:
    r = under("[release]", EXPLAINED)
    r.lie("builder-c", another_library)
    explained(r, sha("a third"), sha("else"), "proven")
    assert not r.decided().verified
    explained(r, sha(ARTIFACT), sha("else"), "proven", stage="object")
    assert not r.decided().verified


def test_what_the_policy_does_not_allow_explains_nothing() -> None:
    r = under(
        "[release]", EXPLAINED, ("[policy]\n", '[policy]\nallowed_explanations = ["other"]\n')
    )
    r.lie("builder-c", another_library)
    explained(r, sha(ARTIFACT), sha("else"), "proven")
    assert refusal(r, "builders that made this artifact: 2")


def ship(r: Release, content: bytes, **shipped: Any) -> None:
    """Another file ships, and the verifier says how it matches what was built."""
    r.artifact = content
    about: Mapping[str, Any] = {"sha256": sha(content), "size": len(content), **shipped}
    for name in ("evidence", "bill"):
        r.lie(name, lambda s: s["subject"][0]["digest"].update(sha256=sha(content)))
    r.lie("evidence", lambda s: s["predicate"]["artifact"].update(about))
    hashes = [{"alg": "SHA-256", "content": sha(content)}]
    r.lie("bill", lambda s: s["predicate"]["metadata"]["component"].update(hashes=hashes))
    r.change("summary", lambda s: s["subject"][0]["digest"].update(sha256=sha(content)))


@pytest.mark.parametrize(
    ("match", "policy", "verified"),
    [
        ("unloaded", "sections = true", True),
        ("unloaded", "explained = true", False),
        ("relinked", "explained = true", True),
        ("relinked", "sections = true", False),
        ("none", "sections = true\nexplained = true", False),
    ],
)
def test_a_stripped_or_relinked_artifact_ships_where_the_policy_lets_it(
    match: str, policy: str, verified: bool
) -> None:
    r = under("[release]", f"[release]\n{policy}")
    ship(r, b"stripped", match=match, reason=".symtab removed", sections=[".symtab removed"])
    found = r.decided()
    assert found.verified is verified, found.refusals
    if verified:
        assert any(match in line for line in found.rests)


def test_only_a_verifier_that_counts_says_what_a_stripped_artifact_was() -> None:
    r = under("[release]", "[release]\nsections = true")
    ship(r, b"stripped", match="unloaded", reason="r", sections=[".symtab removed"])
    r.lie("evidence", lambda s: s["predicate"].update(complete=False))
    assert refusal(r, "builders that made this artifact: 0, 3 required")


# Who has to speak


def test_unanimous_asks_every_builder_with_a_key_that_may_be_used() -> None:
    r = under("[release]", "[release]\nunanimous = true")
    assert r.decided().verified
    r.roles["builder-d"], r.identities["builder-d"] = "builder", [trusted("builder-d")]
    assert refusal(r, "all builders have to agree, and builder-d does not say that it made this")
    r.identities["builder-d"][0]["revoked"] = "retired"
    assert r.decided().verified
    r.identities["builder-d"] = []
    assert r.decided().verified
    r.lie("builder-c", another_library)
    assert refusal(r, "all builders have to agree, and builder-c does not say")


def test_builders_alone_can_be_asked() -> None:
    r = under("verifiers = 1", "verifiers = 0")
    r.drop("summary", "evidence", "bill", *(f"own-{number}" for number in range(4)))
    found = r.decided()
    assert found.verified, found.refusals
    r.change("builder-c", lambda s: s["predicate"]["buildDefinition"]["resolvedDependencies"][0][
        "digest"].update(sha256=sha("m2")))  # fmt: skip
    assert refusal(r, "builders that made this artifact: 2 (builder-a, builder-b), 3 required")


def test_two_summaries_of_one_verifier_are_one_verifier() -> None:
    r = under("verifiers = 1", "verifiers = 2")
    r.statements["again"] = json.loads(json.dumps(r.statements["summary"]))
    r.statements["again"]["predicate"]["slsaVersion"] = "1.1"
    r.signers["again"] = ("verifier-v",)
    r.identities["verifier-v"].append(trusted("verifier-v2"))
    r.statements["anew"], r.signers["anew"] = r.statements["again"], ("verifier-v2",)
    assert refusal(r, "verifiers that passed this artifact under this policy: 1 (verifier-v), 2")


def test_each_builder_counts_once_however_often_it_speaks() -> None:
    r = under("builders = 3", "builders = 4")
    r.statements["again"] = json.loads(json.dumps(r.statements["builder-a"]))
    r.statements["again"]["predicate"]["runDetails"]["builder"]["version"] = {"harness": "9"}
    r.signers["again"] = ("builder-a",)
    assert refusal(r, "builders that made this artifact: 3 (builder-a, builder-b, builder-c), 4")


def test_where_nobody_agrees_it_says_so_without_a_model() -> None:
    r = release()
    first, second, *_ = r.decided(names=[]).refusals
    assert first == "verifiers that passed this artifact under this policy: 0, 1 required"
    assert second == "builders that made this artifact: 0, 3 required"
