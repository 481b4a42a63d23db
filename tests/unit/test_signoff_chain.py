"""The history of a model: what meets, which gaps are named, and what a policy refuses."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.signoff.chain import MOST_LINES, MOST_STEPS, Chain, assess, told
from harness.signoff.claims import LINK, MODEL_SIGNING, PROVENANCE_0_2, STEP
from harness.signoff.interface import (
    BUILD_TYPE,
    PROVENANCE,
    STATEMENT_TYPE,
    Identity,
    Role,
    Signed,
)

STEPS = ("data", "order", "training", "model")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


MODEL = sha("model.onnx")


def signed(
    kind: str,
    subject: Sequence[Mapping[str, Any]],
    predicate: Mapping[str, Any],
    *,
    file: str = "",
    role: Role = Role.UPSTREAM,
    signer: str = "lab",
) -> Signed:
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": list(subject),
        "predicateType": kind,
        "predicate": predicate,
    }
    digest = sha(json.dumps(statement, sort_keys=True))
    name = file or f"{digest[:8]}.json"
    return Signed(name, digest, Identity(signer, role, ()), "0" * 64, statement)


def thing(name: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha(name)}}


def things(*names: str) -> list[dict[str, Any]]:
    return [thing(name) for name in names]


def link(step: str, takes: Sequence[str], makes: Sequence[str], **more: Any) -> Signed:
    predicate = {"name": step, "materials": things(*takes)}
    return signed(LINK, things(*makes), predicate, **{"file": f"{step}.json", **more})


def root(files: Mapping[str, str]) -> str:
    """By the specification: SHA-256 over the digests of all files, in their order."""
    return hashlib.sha256(b"".join(bytes.fromhex(each) for each in files.values())).hexdigest()


def signing(
    files: Mapping[str, str], method: str = "files", algorithm: str = "sha256", **more: Any
) -> Signed:
    predicate = {
        "serialization": {"method": method, "hash_type": "sha256", "allow_symlinks": False},
        "resources": [
            {"name": name, "algorithm": algorithm, "digest": digest}
            for name, digest in files.items()
        ],
    }
    subject = [{"name": "folder", "digest": {"sha256": root(files)}}]
    return signed(MODEL_SIGNING, subject, predicate, **{"file": "model.json", **more})


def build(takes: Mapping[str, str] | None = None, role: Role = Role.BUILDER) -> Signed:
    """``takes``: name → SHA-256, where it is not just the model."""
    named = {"model": MODEL, "lock": sha("lock"), **(takes or {})}
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {},
            "resolvedDependencies": [
                {"name": name, "digest": {"sha256": digest}} for name, digest in named.items()
            ],
        }
    }
    return signed(PROVENANCE, things("library/model.so", "llvm/a.ll"), predicate,
                  file="build.json", role=role, signer="builder-a")  # fmt: skip


def whole() -> list[Signed]:
    return [
        link("data", [], ["data.tar"]),
        link("order", ["data.tar"], ["order.txt"]),
        link("training", ["data.tar", "order.txt"], ["model.onnx"]),
        signing({"README.md": sha("README.md"), "model.onnx": MODEL}),
        build(),
    ]


def of(statements: Sequence[Signed], required: tuple[str, ...] = STEPS, **external: str) -> Chain:
    return assess(statements, MODEL, external, required)


def test_a_whole_history_is_told_from_data_to_binary() -> None:
    chain = of(whole())
    assert chain.refusals == chain.gaps == chain.notes == ()
    assert [step.name for step in chain.steps] == ["data", "order", "training", "model", "build"]
    training, model, built = chain.steps[2:]
    assert [(m.name, m.sha256, m.made_by) for m in training.takes] == [
        ("data.tar", sha("data.tar"), ("data.json",)),
        ("order.txt", sha("order.txt"), ("order.json",)),
    ]
    assert [(m.name, m.made_by) for m in model.takes] == [("model.onnx", ("training.json",))]
    assert [(m.name, m.sha256) for m in built.takes] == [("model", MODEL)]
    assert [t.name for t in built.makes] == ["library/model.so"]
    text = "\n".join(told(chain))
    assert "training: training.json, by lab" in text
    assert f"took order.txt (sha256 {sha('order.txt')[:12]}…) from order.json" in text


@pytest.mark.parametrize("left_out", STEPS)
def test_a_missing_step_is_refused_by_name(left_out: str) -> None:
    statements = [one for one in whole() if one.file != f"{left_out}.json"]
    chain = of(statements)
    assert f"no upstream statement is of step {left_out!r}" in chain.refusals
    # What no policy asks for is told all the same, where somebody took it.
    assert of(statements, ()).refusals == ()
    gaps = {
        "data": f"where data.tar of step 'order' (order.json, by lab) comes from: sha256 "
        f"{sha('data.tar')}",
        "order": "where order.txt of step 'training' (training.json, by lab) comes from",
        "training": f"where model.onnx of step 'model' (model.json, by lab) comes from: sha256 "
        f"{MODEL}",
        "model": "",
    }
    assert any(gaps[left_out] in gap for gap in of(statements, ()).gaps) or not gaps[left_out]


def test_without_statements_there_is_no_history() -> None:
    chain = of([])
    assert chain.gaps == (f"the model's digest is a product of no statement: sha256 {MODEL}",)
    assert chain.gaps[0] in chain.refusals and len(chain.refusals) == 5
    assert of([], ()).refusals == () and of([], ()).gaps == chain.gaps


def test_digests_that_do_not_meet_are_refused() -> None:
    statements = whole()
    statements[0] = link("data", [], ["other.tar"])
    chain = of(statements)
    assert (
        "step 'data' (data.json, by lab) does not meet the model: nothing that it made went into it"
        in chain.refusals
    )
    assert any("data.tar of step 'training'" in line for line in chain.refusals)
    assert "step 'data' (data.json, by lab) does not meet the model's history" in chain.notes


def test_a_name_alone_meets_nothing() -> None:
    other = signed(LINK, [{"name": "data.tar", "digest": {"sha256": sha("evil")}}],
                   {"name": "data", "materials": []}, file="data.json")  # fmt: skip
    chain = of([other, *whole()[1:]])
    assert any("data.tar of step 'training'" in line for line in chain.refusals)


def test_what_is_not_listed_may_stand_between_but_not_lack_its_source() -> None:
    between = [
        link("data", [], ["data.tar"]),
        link("tokens", ["data.tar"], ["tokens.bin"]),
        link("training", ["tokens.bin"], ["model.onnx"]),
    ]
    assert of(between, ("data", "training")).refusals == ()
    between[1] = link("tokens", ["data.tar", "words.txt"], ["tokens.bin"])
    refusals = of(between, ("data", "training")).refusals
    assert len(refusals) == 1 and "words.txt of step 'tokens'" in refusals[0]


def test_only_what_went_into_the_first_step_may_come_from_nowhere() -> None:
    statements = [link("data", ["crawl.warc"], ["data.tar"]), *whole()[1:]]
    chain = of(statements)
    assert chain.refusals == ()
    assert any("crawl.warc of step 'data'" in gap for gap in chain.gaps)
    refusals = of(statements, ("order", "data", "training")).refusals
    assert any("crawl.warc" in line for line in refusals)


def test_the_order_of_the_list_is_kept() -> None:
    assert of(whole(), ("data", "training", "order", "model")).refusals == (
        "no single history of the model has the steps data, training, order, model in this order, "
        "each made of what others made",
    )


def test_a_later_step_may_make_again_what_an_earlier_one_took() -> None:
    statements = [
        link("data", [], ["data.tar"]),
        link("check", ["data.tar"], ["report"]),
        link("training", ["report"], ["data.tar", "model.onnx"]),
    ]
    assert of(statements, ("data", "check", "training")).refusals == ()


def test_a_step_may_occur_twice() -> None:
    statements = [
        link("data", [], ["data.tar"]),
        link("training", ["data.tar"], ["base.pt"], file="pretraining.json"),
        link("training", ["base.pt"], ["model.onnx"], file="tuning.json"),
    ]
    assert of(statements, ("data", "training")).refusals == ()


def test_a_second_producer_hides_no_gap_and_lends_no_name() -> None:
    honest = link("training", ["data.tar", "patch.py"], ["model.onnx"])
    from_nothing = link("training", [], ["model.onnx"], file="again.json", signer="other")
    data = link("data", [], ["data.tar"])
    for statements in ([data, honest, from_nothing], [data, from_nothing, honest]):
        chain = of(statements, ("data", "training"))
        assert any("patch.py of step 'training'" in line for line in chain.refusals)
        assert any("patch.py of step 'training'" in gap for gap in chain.gaps)
        assert any("2 statements say what made" in note for note in chain.notes)
    # With a history that is whole, the other one decides nothing, and its gap is told.
    honest_too = link("training", ["data.tar"], ["model.onnx"], file="whole.json")
    chain = of([data, honest, honest_too], ("data", "training"))
    assert chain.refusals == () and any("patch.py" in gap for gap in chain.gaps)


def test_one_statement_by_two_signers_is_no_rivalry() -> None:
    twice = [link("training", [], ["model.onnx"], signer=who) for who in ("lab", "other")]
    assert of(twice, ("training",)).notes == ()


def test_a_cycle_is_no_history() -> None:
    circle = [
        link("data", ["model.onnx"], ["data.tar"]),
        link("training", ["data.tar"], ["model.onnx"]),
    ]
    chain = of(circle, ("start", "data", "training"))
    assert any("went into itself" in gap for gap in chain.gaps)
    assert "no upstream statement is of step 'start'" in chain.refusals
    circle.append(link("start", [], ["unused"]))
    assert of(circle, ("start", "data", "training")).refusals
    assert {step.name for step in chain.steps} == {"data", "training"}
    own = of([link("training", ["model.onnx"], ["model.onnx"])], ("data", "training"))
    assert own.refusals and any("went into itself" in gap for gap in own.gaps)


def test_two_signings_of_one_file_are_no_source_of_each_other() -> None:
    files = {"model.onnx": MODEL}
    two = [signing(files), signing({**files, "b": sha("b")}, file="again.json", signer="other")]
    chain = of(two, ("data", "model"))
    assert any("where model.onnx of step 'model'" in line for line in chain.refusals)
    assert of([link("data", [], ["model.onnx"]), *two], ("data", "model")).refusals == ()


def test_a_model_signing_of_other_files_does_not_meet() -> None:
    files = {"README.md": sha("README.md"), "model.onnx": sha("another model")}
    chain = of([*whole()[:3], signing(files)])
    assert (
        "step 'model' (model.json, by lab) does not meet the model: nothing that it made went into "
        "it" in chain.refusals
    )
    chain = of([signing(files)], ("model",))
    assert f"the model's digest is a product of no statement: sha256 {MODEL}" in chain.refusals


def test_a_model_signing_has_to_add_up() -> None:
    one = signing({"model.onnx": MODEL})
    wrong = {**one.statement, "subject": [{"name": "folder", "digest": {"sha256": MODEL}}]}
    chain = of([Signed(one.file, one.digest, one.signer, one.keyid, wrong)], ("model",))
    assert chain.refusals
    assert "its digest is not the one over the files that it names" in chain.notes[0]


def test_a_digest_of_another_kind_is_no_sha256() -> None:
    assert of([signing({"model.onnx": MODEL}, algorithm="blake3")], ("model",)).refusals
    files = {"config.json": sha("config"), "model.onnx": MODEL}
    folder = [{"name": "folder", "digest": {"sha256": root(files)}}]
    training = signed(LINK, folder, {"name": "training", "materials": []})
    for algorithm, refused in (("sha256", False), ("blake3", True)):
        chain = of([training, signing(files, algorithm=algorithm)], ("training", "model"))
        assert bool(chain.refusals) == refused


def test_pieces_of_files_are_no_files() -> None:
    statements = [*whole()[:3], signing({"model.onnx:0:10": MODEL}, "shards")]
    chain = of(statements)
    assert chain.refusals
    twice = signing({"model.onnx": MODEL})
    resources = twice.statement["predicate"]["resources"]
    resources.append(resources[0])
    assert "names model.onnx twice" in of([twice], ("model",)).notes[0]


def test_training_may_make_the_folder_as_a_whole() -> None:
    files = {"config.json": sha("config"), "model.onnx": MODEL}
    folder = [{"name": "folder", "digest": {"sha256": root(files)}}]
    training = signed(LINK, folder, {"name": "training", "materials": things("data.tar")},
                      file="training.json")  # fmt: skip
    statements = [link("data", [], ["data.tar"]), training, signing(files)]
    chain = of(statements, ("data", "training", "model"))
    assert chain.refusals == chain.gaps == ()
    assert [step.name for step in chain.steps] == ["data", "training", "model"]
    assert chain.steps[2].takes[0].made_by == ("training.json",)
    # Without the signing, nothing says that the model is in that folder.
    assert of(statements[:2], ("data", "training")).refusals


def test_a_folder_may_go_into_a_step_as_a_whole() -> None:
    files = {"a.bin": sha("a.bin"), "b.bin": sha("b.bin")}
    taken = signed(LINK, things("model.onnx"), {"name": "export", "materials": [
        {"name": "folder", "digest": {"sha256": root(files)}}]}, file="export.json")  # fmt: skip
    statements = [link("training", [], ["a.bin", "b.bin"]), signing(files), taken]
    assert of(statements, ("training", "model", "export")).refusals == ()
    half = [link("training", [], ["a.bin"]), *statements[1:]]
    refusals = of(half, ("training", "model", "export")).refusals
    assert any("where b.bin of step 'model'" in line for line in refusals)


def test_external_data_are_part_of_the_model() -> None:
    both = {"a.data": sha("a.data"), "b.data": sha("b.data")}
    training = link("training", [], ["model.onnx", "a.data", "b.data"])
    assert assess([training], MODEL, both, ("training",)).refusals == ()
    assert any(
        "external data b.data is a product of no statement: sha256" in line
        for line in assess(
            [link("training", [], ["model.onnx", "a.data"])], MODEL, both, ("training",)
        ).refusals
    )
    swapped = {"a.data": both["b.data"], "b.data": both["a.data"]}
    refusals = assess([training], MODEL, swapped, ("training",)).refusals
    assert len(refusals) == 2 and "under this name" in refusals[0]


def test_a_signing_names_external_data_below_the_models_folder() -> None:
    files = {"onnx/model.onnx": MODEL, "onnx/w/a.data": sha("a"), "w/a.data": sha("b")}
    one = [signing(files)]
    assert assess(one, MODEL, {"w/a.data": sha("a")}, ("model",)).refusals == ()
    assert assess(one, MODEL, {"w/a.data": sha("b")}, ("model",)).refusals


def test_slsa_provenance_names_its_step_by_build_type_or_annotation() -> None:
    kind = "https://lab.example/training/v1"
    definition = {"buildType": kind, "resolvedDependencies": things("data.tar")}
    subject = [{**thing("model.onnx"), "annotations": {STEP: "training"}}]
    one = signed(PROVENANCE, subject, {"buildDefinition": definition})
    data = link("data", [], ["data.tar"])
    assert of([data, one], ("data", "training")).refusals == ()
    assert of([data, one], ("data", kind)).refusals == ()
    assert of([data, one], ("data", "train")).refusals
    given_by = {"uri": "https://lab.example/data.tar", "digest": {"sha256": sha("data.tar")}}
    old = signed(PROVENANCE_0_2, subject, {"buildType": kind, "materials": [given_by]})
    assert of([data, old], ("data", "training")).refusals == ()
    two = [{**thing("model.onnx"), "annotations": {STEP: "training"}},
           {**thing("b"), "annotations": {STEP: "data"}}]  # fmt: skip
    chain = of([signed(PROVENANCE, two, {"buildDefinition": definition})], ("data",))
    assert "its annotations name 2 steps, not one" in chain.notes[0]


def test_nothing_went_in_has_to_be_said() -> None:
    silent = signed(LINK, things("model.onnx"), {"name": "training"}, file="training.json")
    chain = of([silent], ("data", "training"))
    line = "step 'training' (training.json, by lab): it does not say what went in"
    assert line in chain.gaps and line in chain.refusals
    # Not even where another step of the list made something else of the model.
    data = link("data", [], ["w"])
    assert assess([silent, data], MODEL, {"w": sha("w")}, ("data", "training")).refusals == (line,)
    assert of([silent], ("training",)).refusals == ()
    card = signed("https://lab.example/card/v1", things("model.onnx"), {"a": 1}, file="card.json")
    assert any("does not say what went in" in line for line in of([card], ("data",)).refusals)
    assert of([card], ("https://lab.example/card/v1",)).refusals == ()


def test_what_has_no_sha256_meets_nothing() -> None:
    code = {"uri": "git+https://lab.example/code", "digest": {"gitCommit": "0" * 40}}
    predicate = {"name": "training", "materials": [thing("data.tar"), code]}
    training = signed(LINK, things("model.onnx"), predicate, file="training.json")
    chain = of([link("data", [], ["data.tar"]), training], ("data", "training"))
    assert chain.refusals == (
        "step 'training' (training.json, by lab): no sha256 is given of "
        "git+https://lab.example/code, which went in",
    )


def test_only_upstream_identities_tell_the_history() -> None:
    for role in (Role.BUILDER, Role.VERIFIER):
        statements = [link("training", [], ["model.onnx"], role=role)]
        assert of(statements, ("training",)).refusals


def test_the_build_is_by_a_builder_of_this_very_model() -> None:
    required = ("training", "build")
    training = link("training", [], ["model.onnx"])
    assert of([training, build()], required).refusals == ()
    refusal = ("no builder's statement says that it took this model",)
    assert of([training], required).refusals == refusal
    assert of([training, build({"model": sha("other")})], required).refusals == refusal
    assert of([training, build(role=Role.VERIFIER)], required).refusals == refusal
    # An upstream step of that name is not the build.
    named = link("build", [], ["model.onnx"])
    assert of([named], ("build",)).refusals == refusal
    external = {"a": sha("a"), "b": sha("b")}
    taken = {f"model/external/{path}": digest for path, digest in external.items()}
    assert assess([build(taken)], MODEL, external, ("build",)).refusals == ()
    assert assess([build()], MODEL, external, ("build",)).refusals == refusal
    assert assess([build(taken)], MODEL, {}, ("build",)).refusals == refusal
    swapped = {"a": external["b"], "b": external["a"]}
    assert assess([build(taken)], MODEL, swapped, ("build",)).refusals == refusal


def test_lists_that_nothing_fulfils_are_refused() -> None:
    assert "twice" in of(whole(), ("data", "data")).refusals[0]
    assert "before the last step" in of(whole(), ("data", "build", "model")).refusals[0]
    many = tuple(f"step{number}" for number in range(MOST_STEPS + 1))
    assert "more than 10 steps" in of(whole(), many).refusals[0]


@pytest.mark.parametrize(
    "predicate",
    [
        {},
        {"name": 3, "materials": []},
        {"name": "training", "materials": {}},
        {"name": "training", "materials": "model.onnx"},
        {"name": "training", "materials": [3]},
        {"name": "training", "materials": [{"digest": []}]},
        {"name": "training", "materials": [{"digest": {"sha256": "A" * 64}}]},
        {"name": "training", "materials": [{"name": ["x"], "digest": {}}]},
    ],
)
def test_a_statement_of_the_wrong_form_is_no_step(predicate: Mapping[str, Any]) -> None:
    chain = of([signed(LINK, things("model.onnx"), predicate)], ("training",))
    assert chain.refusals and "is no step: " in chain.notes[0]


KEYS = st.sampled_from(
    [
        "name", "uri", "digest", "sha256", "materials", "buildDefinition", "buildType", STEP,
        "resolvedDependencies", "resources", "algorithm", "serialization", "method",
    ]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just(MODEL),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from([LINK, PROVENANCE, PROVENANCE_0_2, MODEL_SIGNING, "x"]), JSON, JSON)
def test_no_statement_of_whatever_form_is_an_error(kind: str, notes: Any, predicate: Any) -> None:
    subject = [{**thing("model.onnx"), "annotations": notes}]
    chain = of([signed(kind, subject, predicate)])
    assert chain.refusals and len(chain.steps) + len(chain.notes) >= 1


def test_what_is_said_is_bounded_and_safe_to_print() -> None:
    names = [f"file {number}\x1b[2J" for number in range(3 * MOST_LINES)]
    training = link("training", names, ["model.onnx"], signer="\x1b]0;x\x07")
    chain = of([training], ("data", "training"))
    assert len(chain.gaps) == MOST_LINES + 1 and chain.gaps[-1] == "and 100 more"
    assert len(chain.steps[0].takes) == 20 and chain.steps[0].took == 3 * MOST_LINES
    text = "\n".join([*told(chain), *chain.refusals])
    assert "\x1b" not in text and "and 130 more" in text


def test_a_long_history_and_a_wide_one_come_to_an_end() -> None:
    long = [
        link("s", [f"f{n}"] if n else [], [f"f{n + 1}"], file=f"{n:03}.json") for n in range(510)
    ]
    long.append(link("training", ["f510"], ["model.onnx"]))
    assert of(long, ("training",)).refusals == ()
    assert of(long, ("s", "training")).refusals == ()
    assert of(long[1:], ("training", "s")).refusals
    files = {f"{n:05}": sha(str(n)) for n in range(5_000)} | {"model.onnx": MODEL}
    wide = [link("s", [], list(map(str, range(5_000)))), signing(files)]
    chain = of([*wide, link("training", [], ["model.onnx"])], ("training", "model"))
    assert chain.refusals == ()
    rich = [link("s", [], ["a"], file="0.json")]
    for number in range(200):  # every step can be made in two ways from the one before
        for label in ("even", "odd"):
            rich.append(
                link(label, [f"x{number}"] if number else ["a"], [f"x{number + 1}"],
                     file=f"{number}{label}.json"))  # fmt: skip
    rich.append(link("training", ["x200"], ["model.onnx"]))
    assert of(rich, ("s", "even", "odd", "training")).refusals == ()
    assert of(rich, ("s", "odd", "even", "training")).refusals == ()


FILES = ("f0", "f1", "f2", "model.onnx")
LABELS = ("a", "b", "c")
LINKS = st.lists(
    st.tuples(
        st.sampled_from(LABELS),
        st.lists(st.sampled_from((*FILES, "nowhere")), max_size=2, unique=True),
        st.lists(st.sampled_from(FILES), min_size=1, max_size=2, unique=True),
    ),
    max_size=5,
)
REQUIRED = st.lists(st.sampled_from(LABELS), min_size=1, unique=True).map(tuple)


def by_growing(links: Sequence[Any], required: tuple[str, ...]) -> bool:
    """The rule of the module, plainly: all histories of all files, as long as there are new ones.

    A history is known by the steps that occur in it.
    """
    known: dict[str, set[frozenset[str]]] = {name: set() for name in (*FILES, "nowhere")}
    before = -1
    while (size := sum(map(len, known.values()))) > before:
        before = size
        for label, takes, makes in links:
            own = frozenset({label} & set(required))
            new = {own} if label == required[0] else set()
            for choice in itertools.product(*(known[name] for name in takes)):
                below = frozenset().union(*choice)
                later = required[required.index(label) + 1 :] if own else ()
                if not below & set(later):
                    new.add(below | own)
            for name in makes:
                known[name] |= new
    return any(set(required) <= found for found in known["model.onnx"])


@settings(max_examples=200)
@given(LINKS, REQUIRED)
def test_histories_are_those_that_growing_finds(links: Any, required: tuple[str, ...]) -> None:
    statements = [link(*one, file=f"{number}.json") for number, one in enumerate(links)]
    assert (not of(statements, required).refusals) == by_growing(links, required)


@settings(max_examples=200)
@given(LINKS, REQUIRED, st.booleans(), st.data())
def test_leaving_out_a_statement_never_removes_a_refusal(
    links: Any, required: tuple[str, ...], model_signed: bool, data: st.DataObject
) -> None:
    statements = [link(*one, file=f"{number}.json") for number, one in enumerate(links)]
    if model_signed:
        statements.append(signing({name: sha(name) for name in FILES}))
    names = {"a": "model"} if model_signed else {}
    wanted = tuple(names.get(step, step) for step in required)
    fewer = [one for one in statements if data.draw(st.booleans())]
    if of(statements, wanted).refusals:
        assert of(fewer, wanted).refusals
