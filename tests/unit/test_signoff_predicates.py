"""Reading signed statements: each part is needed, each is of its kind, and nothing else is taken.

Every field of whole statements is taken away, and every value replaced by one of another kind:
what verification reads must be refused then, and what it passes over is listed here by name.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.models import Verdict
from harness.signoff.bill import read_bill
from harness.signoff.predicates import (
    Provenance,
    Replayed,
    dump_replays,
    library_of,
    read_evidence,
    read_provenance,
    read_replays,
    read_summary,
    regenerated_by,
)
from harness.signoff.statements import bill_statement
from tests.unit.samples import sha
from tests.unit.signoff_samples import LIBRARY, A, build, evidence, explained, run_of, summary

Path = tuple[str | int, ...]
Read = Callable[[Mapping[str, Any]], object]

BILL = {
    "bomFormat": "CycloneDX",
    "metadata": {"component": {"type": "file", "hashes": [{"alg": "SHA-256", "content": LIBRARY}]}},
    "components": [
        {"type": "machine-learning-model", "hashes": [{"alg": "SHA-256", "content": sha("m")}]},
        {"type": "library", "hashes": [{"alg": "SHA-256", "content": sha("l")}]},
    ],
}
STATEMENTS: dict[str, tuple[Read, dict[str, Any]]] = {
    "build": (read_provenance, build()),
    "evidence": (read_evidence, evidence(explained(run_of()))),
    "summary": (read_summary, summary()),
    "bill": (read_bill, bill_statement(file="m", sha256=LIBRARY, bill=BILL)),
}
_BUILD = ("predicate", "buildDefinition")
# Told for people and for building again; verification does not read it.
PASSED_OVER: dict[str, tuple[Path, ...]] = {
    "build": (
        *((*_BUILD, "internalParameters", name) for name in
          ("harness", "engine", "limits", "command", "host", "environment_sha256")),
        ("predicate", "runDetails", "builder", "version"),
    ),
    "evidence": (),
    "summary": (("predicate", "slsaVersion"),),
    "bill": (),
}  # fmt: skip
# What may be left out: a list of hashes, of materials, of what is not there.
OPTIONAL: dict[str, tuple[Path, ...]] = {
    "build": (
        # A summary or a list of materials without an entry says less, not something else.
        *((*_BUILD, "externalParameters", "target", key) for key in ("mtriple", "mcpu")),
        (*_BUILD, "externalParameters", "inputs", "x"),
        (*_BUILD, "resolvedDependencies", 1, "name"),
        (*_BUILD, "resolvedDependencies", 2, "name"),
        (*_BUILD, "resolvedDependencies", 2, "annotations"),
        (*_BUILD, "resolvedDependencies", 2, "annotations", "executable"),
        *(("predicate", "runDetails", "byproducts", number, "name") for number in range(4)),
    ),
    "evidence": (
        ("predicate", "model", "inputs", "x"),
        *(("predicate", "stages", number, "comparisons", kind)
          for number in range(3) for kind in ("repeat", "rebuild")),
        ("predicate", "stages", 1, "replays", "graph → object"),
    ),
    "summary": (("predicate", "policy", "uri"),),
    "bill": (("predicate", "components", 0, "hashes"), ("predicate", "components", 1, "hashes")),
}  # fmt: skip
# Objects that the formats let others extend; anywhere else an unknown key refuses.
EXTENSIBLE: dict[str, tuple[Path, ...]] = {
    "build": (
        ("predicate",),
        _BUILD,
        (*_BUILD, "internalParameters"),
        ("predicate", "runDetails"),
        ("predicate", "runDetails", "builder"),
        ("predicate", "runDetails", "metadata"),
        (*_BUILD, "externalParameters", "target"),  # keys are data
    ),
    "evidence": (("predicate", "run", "host"),),  # as here
    "summary": (("predicate",), ("predicate", "verifier"), ("predicate", "policy")),
    "bill": (
        ("predicate",), ("predicate", "metadata"), ("predicate", "metadata", "component"),
        ("predicate", "metadata", "component", "hashes", 0),
        ("predicate", "components", 0), ("predicate", "components", 1),
        ("predicate", "components", 0, "hashes", 0), ("predicate", "components", 1, "hashes", 0),
    ),
}  # fmt: skip


def places(value: object, path: Path = ()) -> Iterator[Path]:
    """Every place in a statement, but the top."""
    pairs: Iterator[tuple[str | int, object]] = iter(())
    if isinstance(value, dict):
        pairs = iter(value.items())
    elif isinstance(value, list):
        pairs = iter(enumerate(value))
    for key, below in pairs:
        yield (*path, key)
        yield from places(below, (*path, key))


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def put(whole: dict[str, Any], path: Path, new: object) -> dict[str, Any]:
    changed = copy.deepcopy(whole)
    at(changed, path[:-1])[path[-1]] = new
    return changed


def below(path: Path, tops: tuple[Path, ...]) -> bool:
    return any(path[: len(top)] == top for top in tops)


def refuses(read: Read, statement: Mapping[str, Any]) -> bool:
    try:
        read(statement)
    except ValueError as error:
        assert "\n" not in str(error)
        assert str(error).isprintable()
        return True
    return False


kinds = pytest.mark.parametrize("kind", STATEMENTS)


@kinds
def test_samples_are_read(kind: str) -> None:
    read, whole = STATEMENTS[kind]
    assert not refuses(read, whole)


@kinds
def test_whatever_is_taken_away_is_missed(kind: str) -> None:
    read, whole = STATEMENTS[kind]
    taken = set()
    for path in places(whole):
        if isinstance(path[-1], int) or below(path, PASSED_OVER[kind]):
            continue
        changed = copy.deepcopy(whole)
        del at(changed, path[:-1])[path[-1]]
        if not refuses(read, changed):
            taken.add(path)
    assert taken == set(OPTIONAL[kind])


@kinds
def test_whatever_is_of_another_kind_is_refused(kind: str) -> None:
    read, whole = STATEMENTS[kind]
    for path in places(whole):
        if below(path, PASSED_OVER[kind]):
            continue
        old = at(whole, path)
        others: list[object] = [[], {}, [[]], {"x": {}}, 1.5, 1.0, True, "1", None, "x\x1b[2J", -1]
        for new in others:
            alike = type(new) is type(old) or (old is None and isinstance(new, str | int))
            alike = alike or (new is None and path[-1] in NULLABLE)
            if not alike:
                assert refuses(read, put(whole, path, new)), (path, new)


NULLABLE = ("against", "library", "clock")


@kinds
def test_text_that_acts_on_a_terminal_is_refused(kind: str) -> None:
    """But for the values of a variation, which are the harness's own draw, and names of inputs."""
    read, whole = STATEMENTS[kind]
    seen = 0
    for path in places(whole):
        if isinstance(at(whole, path), str) and not below(
            path, (*PASSED_OVER[kind], (*_BUILD, "externalParameters", "variation"))
        ):
            seen += 1
            for bad in ("x\x1b[2J", "two\nlines", "x\u202e", "\ud800", "x" * 2001):
                assert refuses(read, put(whole, path, bad)), path
    assert seen > 4


@kinds
def test_unknown_keys_are_taken_only_where_the_format_is_open(kind: str) -> None:
    read, whole = STATEMENTS[kind]
    objects = [(), *(p for p in places(whole) if isinstance(at(whole, p), dict))]
    open_ = {
        path
        for path in objects
        if not below(path, PASSED_OVER[kind])
        and not refuses(read, put(whole, (*path, "unknown"), "x"))
    }
    resources = {
        path
        for path in open_
        if path[-1:] in (("digest",), ("annotations",))
        or (len(path) > 1 and path[-2] in ("subject", "resolvedDependencies", "byproducts",
                                           "inputAttestations"))
    }  # fmt: skip
    assert open_ - resources == set(EXTENSIBLE[kind])


@kinds
def test_each_reads_only_its_own_type(kind: str) -> None:
    read, _ = STATEMENTS[kind]
    for other, (_, whole) in STATEMENTS.items():
        assert refuses(read, whole) == (other != kind)
    _, whole = STATEMENTS[kind]
    for version in ("https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1/", None):
        assert refuses(read, {**whole, "_type": version})
    assert refuses(read, {**whole, "predicateType": whole["predicateType"] + "/"})


@kinds
def test_digests_are_sha256_in_lower_case(kind: str) -> None:
    read, whole = STATEMENTS[kind]
    found = 0
    for path in places(whole):
        old = at(whole, path)
        if below(path, PASSED_OVER[kind]) or not (isinstance(old, str) and len(old) == 64):
            continue
        if kind == "bill" and path[:2] == ("predicate", "components"):
            continue  # compared as they are
        found += 1
        for bad in (old.upper().replace("0", "A"), old[:-1], old + "0", old + "\n", "g" * 64, ""):
            if bad != old:
                assert refuses(read, put(whole, path, bad)), path
    assert found


@kinds
def test_a_second_subject_is_one_too_many_where_there_is_one_artifact(kind: str) -> None:
    read, whole = STATEMENTS[kind]
    more = {"name": "another", "digest": {"sha256": "5" * 64}}
    changed = {**whole, "subject": [*whole["subject"], more]}
    assert refuses(read, changed) == (kind != "build")
    assert refuses(read, {**whole, "subject": []})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@kinds
@given(data=st.data())
def test_anything_at_any_place_is_read_or_refused_in_one_line(kind: str, data: Any) -> None:
    read, whole = STATEMENTS[kind]
    path = data.draw(st.sampled_from(list(places(whole))))
    refuses(read, put(whole, path, data.draw(json_values)))


# Builds


def test_two_resources_of_one_name_refuse() -> None:
    whole = STATEMENTS["build"][1]
    for where in (
        ("subject",),
        (*_BUILD, "resolvedDependencies"),
        ("predicate", "runDetails", "byproducts"),
    ):
        items = at(whole, where)
        again = {**items[0], "digest": {"sha256": "5" * 64}}
        changed = put(whole, where, [*items, again])
        with pytest.raises(ValueError, match="there twice"):
            read_provenance(changed)


def test_a_build_without_a_model_is_none() -> None:
    where = (*_BUILD, "resolvedDependencies")
    whole = STATEMENTS["build"][1]
    with pytest.raises(ValueError, match="names no model"):
        read_provenance(put(whole, where, at(whole, where)[1:]))


def test_another_build_type_is_not_ours() -> None:
    with pytest.raises(ValueError, match="buildType"):
        read_provenance(put(STATEMENTS["build"][1], (*_BUILD, "buildType"), "urn:other"))


def test_siblings_hold_the_build_itself_as_its_subjects_do() -> None:
    whole = STATEMENTS["build"][1]
    where = (*_BUILD, "internalParameters", "siblings")
    listed = at(whole, where)
    for wrong in (
        listed[1:],  # without itself
        [{**listed[0], "library": sha("other")}, *listed[1:]],
        [{**listed[0], "library": None}, *listed[1:]],
        [listed[0], listed[0], *listed[1:]],
        [listed[0], {**listed[1], "build": listed[0]["build"]}],
    ):
        assert refuses(read_provenance, put(whole, where, wrong)), wrong


def test_the_library_is_the_only_artifact_of_its_stage() -> None:
    assert library_of({"library/a": "1", "object/b": "2"}) == "1"
    assert library_of({"library/a": "1", "library/b": "2"}) is None
    assert library_of({"library-two/a": "1", "object/library/b": "2"}) is None


# Replays


def provenance() -> Provenance:
    return read_provenance(STATEMENTS["build"][1])


def again(**changed: Any) -> Replayed:
    whole = Replayed("r", "llvm/1-b-x86_64", "object", Verdict.IDENTICAL, sha(b"object"),
                     sha(b"object"))  # fmt: skip
    return replace(whole, **changed)


def test_replays_come_back() -> None:
    made = (again(), again(got_sha256=None, expected_sha256=None, verdict=Verdict.INCONCLUSIVE))
    assert read_replays(dump_replays(made)) == made
    for bad in (b"", b"{}", b"[1]", b'[{"name": "x"}]', b"\xff", dump_replays(made)[:-1]):
        with pytest.raises(ValueError) as caught:
            read_replays(bad)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError):
        read_replays(json.dumps([{**json.loads(dump_replays(made))[0], "more": 1}]).encode())


@pytest.mark.parametrize(
    "other",
    [
        {"verdict": Verdict.UNEXPLAINED},
        {"verdict": Verdict.INCONCLUSIVE},
        {"verdict": Verdict.EXPLAINED},
        {"got_sha256": None},
        {"got_sha256": sha("x")},
        {"expected_sha256": None},
        {"expected_sha256": None, "got_sha256": None},
        {"expected_sha256": sha("x"), "got_sha256": sha("x")},  # of no artifact of this build
        {"expected_sha256": LIBRARY, "got_sha256": LIBRARY},  # of another stage
    ],
)
def test_one_replay_that_is_not_identical_takes_the_replayer_away(other: dict[str, Any]) -> None:
    build = provenance()
    assert regenerated_by(build, [again()], "object") == ("llvm/1-b-x86_64",)
    assert regenerated_by(build, [again(**other)], "object") == ()
    assert regenerated_by(build, [again(), again(**other)], "object") == ()
    assert regenerated_by(build, [again(**other), again()], "object") == ()


def test_replays_of_other_stages_and_replayers_are_apart() -> None:
    build = provenance()
    bad = again(stage="library", verdict=Verdict.UNEXPLAINED)
    worse = again(replayer="llvm/1-c-x86_64", verdict=Verdict.UNEXPLAINED)
    assert regenerated_by(build, [again(), bad, worse], "object") == ("llvm/1-b-x86_64",)
    assert regenerated_by(build, [], "object") == ()
    assert regenerated_by(build, [again()], "graph") == ()


# Evidence, summaries, bills


def test_evidence_is_about_its_subject() -> None:
    whole = STATEMENTS["evidence"][1]
    with pytest.raises(ValueError, match="not the artifact"):
        read_evidence(put(whole, ("subject", 0, "digest", "sha256"), "5" * 64))


def test_evidence_lists_each_stage_and_toolchain_once() -> None:
    whole = STATEMENTS["evidence"][1]
    for where in (("predicate", "stages"), ("predicate", "toolchains")):
        items = at(whole, where)
        with pytest.raises(ValueError, match="there twice"):
            read_evidence(put(whole, where, [*items, items[0]]))


def test_every_explanation_has_a_ground() -> None:
    whole = STATEMENTS["evidence"][1]
    with pytest.raises(ValueError, match="explanations"):
        read_evidence(put(whole, ("predicate", "explanations"), {}))
    changed = put(whole, ("predicate", "stages", 0, "explained_by"), ["another"])
    with pytest.raises(ValueError, match="explanations"):
        read_evidence(changed)


@pytest.mark.parametrize(
    ("result", "levels"),
    [("PASSED", ["FAILED"]), ("PASSED", ["HARNESS_REPRODUCED", "FAILED"]),
     ("FAILED", ["HARNESS_REPRODUCED"]), ("FAILED", []), ("passed", ["HARNESS_REPRODUCED"])],
)  # fmt: skip
def test_a_summary_does_not_contradict_itself(result: str, levels: list[str]) -> None:
    whole = put(STATEMENTS["summary"][1], ("predicate", "verificationResult"), result)
    assert refuses(read_summary, put(whole, ("predicate", "verifiedLevels"), levels))


@pytest.mark.parametrize(
    "time",
    ["2026-11-23T12:00:00", "2026-11-23T12:00:00+00:00", "2026-11-23 12:00:00Z", "2026-11-23Z",
     "2026-13-23T12:00:00Z", "2026-11-31T12:00:00Z", "0000-01-01T00:00:00Z", "1795435200",
     "2026-11-23T25:00:00Z", "2026-11-23T12:00:00Z\n", "２０26-11-23T12:00:00Z"],
)  # fmt: skip
def test_a_time_is_rfc_3339_in_utc(time: str) -> None:
    assert refuses(read_summary, put(STATEMENTS["summary"][1], ("predicate", "timeVerified"), time))


def test_a_bill_names_its_models_only() -> None:
    found = read_bill(STATEMENTS["bill"][1])
    assert (found.artifact, found.models) == (LIBRARY, (sha("m"),))
    whole = STATEMENTS["bill"][1]
    where = ("predicate", "components", 0, "hashes", 0, "alg")
    assert read_bill(put(whole, where, "SHA-1")).models == ()


def test_profiles_are_by_name() -> None:
    assert provenance().profiles == {A: sha("profile")}
