"""Layout and links, verified by the ``in-toto-verify`` command of the in-toto project."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from in_toto.models.layout import Layout, Step
from in_toto.models.metadata import Envelope
from securesystemslib.signer import CryptoSigner

from harness import process
from harness.errors import UsageError
from harness.process import Completed
from harness.signoff.envelope import open_envelope
from harness.signoff.interface import Identity, Key, Rejected, Role, Trust
from harness.signoff.layout import (
    BUILD,
    LAYOUT,
    VERDICT,
    agreeing,
    build_link,
    link_name,
    make_layout,
    make_link,
    publish,
    release,
)

pytestmark = pytest.mark.integration

COMMAND = Path(sys.executable).with_name("in-toto-verify")
TODAY = datetime.datetime.now(datetime.UTC).date()
TOMORROW = TODAY + datetime.timedelta(days=1)
MODEL = {
    "model.onnx": hashlib.sha256(b"model").hexdigest(),
    "w/model.data": hashlib.sha256(b"weights").hexdigest(),
}
BYTES = b"\x7fELF the library"
LIBRARY = ("model.so", hashlib.sha256(BYTES).hexdigest())
OTHER = ("model.so", hashlib.sha256(b"other").hexdigest())


class Release:
    """A folder with a library and its in-toto metadata, and who signs there."""

    def __init__(self, root: Path, builders: int = 3) -> None:
        self.root = root
        self.links = root / "in-toto"
        self.links.mkdir(parents=True)
        self.verifier = CryptoSigner(ed25519.Ed25519PrivateKey.generate())
        self.builders = [CryptoSigner(ed25519.Ed25519PrivateKey.generate())]
        while len(self.builders) < builders:
            self.builders.append(CryptoSigner(ec.generate_private_key(ec.SECP256R1())))
        self.library = root / LIBRARY[0]
        self.library.write_bytes(BYTES)
        # Not in the folder of the release: a key that comes with it proves nothing.
        self.public = root.parent / f"{root.name}-verifier.pub"
        pem = self.verifier._private_key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        self.public.write_bytes(pem)

    def publish(
        self,
        model: dict[str, str] = MODEL,
        library: tuple[str, str] = LIBRARY,
        threshold: int = 2,
        expires: datetime.date = TOMORROW,
    ) -> Release:
        keys = [each.public_key for each in self.builders]
        files = release(model, library, threshold, keys, expires, self.verifier)
        files |= dict(build_link(model, library, each) for each in self.builders)
        publish(self.links, files)
        return self

    def link(self, number: int) -> Path:
        return self.links / link_name(BUILD, self.builders[number].public_key)

    def verify(self, key: Path | None = None) -> Completed:
        """As in the README."""
        words = ["--layout", str(self.links / LAYOUT), "--link-dir", str(self.links)]
        words += ["--verification-keys", str(key or self.public)]
        return process.run([str(COMMAND), *words], cwd=self.root, timeout=60)


@pytest.fixture
def made(tmp_path: Path) -> Release:
    return Release(tmp_path / "release").publish()


def refused(done: Completed, *words: str) -> None:
    assert done.exit_code == 1, done.output
    assert all(word in done.output for word in words), done.output


def test_what_builders_agree_on_passes(made: Release) -> None:
    done = made.verify()
    assert done.exit_code == 0, done.output


def test_the_library_is_looked_at_where_the_command_runs(made: Release) -> None:
    made.library.write_bytes(BYTES + b"\0")
    refused(made.verify(), "RuleVerificationError", "'DISALLOW model.so' matched")
    made.library.unlink()
    refused(made.verify(), "RuleVerificationError", "'REQUIRE model.so' did not find")
    made.library.write_bytes(BYTES)
    assert made.verify().exit_code == 0
    (made.root / "notes.txt").write_text("other files do not matter")
    assert made.verify().exit_code == 0


def test_the_threshold_has_to_be_met(made: Release) -> None:
    made.link(0).unlink()
    assert made.verify().exit_code == 0
    made.link(1).unlink()
    refused(made.verify(), "LinkNotFoundError", "requires '2' link metadata file(s), found '1'")


def test_the_verdicts_link_has_to_be_there(made: Release) -> None:
    (made.links / link_name(VERDICT, made.verifier.public_key)).unlink()
    refused(made.verify(), "LinkNotFoundError", "Step 'verdict'")


def test_a_stranger_cannot_stand_in_for_a_builder(made: Release, tmp_path: Path) -> None:
    stranger = Release(tmp_path / "stranger").publish()
    for number in (0, 1):
        made.link(number).write_bytes(stranger.link(number).read_bytes())
    refused(made.verify(), "ThresholdVerificationError", "Only found '1'")
    # Nor under a name of its own: only keys of the layout are looked for.
    (made.links / stranger.link(0).name).write_bytes(stranger.link(0).read_bytes())
    refused(made.verify(), "ThresholdVerificationError")


def test_one_builder_does_not_count_twice(made: Release) -> None:
    made.link(1).write_bytes(made.link(0).read_bytes())
    made.link(2).unlink()
    refused(made.verify(), "ThresholdVerificationError", "Only found '1'")


def test_a_changed_link_is_none(made: Release) -> None:
    for number in (0, 1):
        envelope = json.loads(made.link(number).read_text())
        payload = json.loads(base64.b64decode(envelope["payload"]))
        payload["products"][LIBRARY[0]]["sha256"] = OTHER[1]
        envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
        made.link(number).write_text(json.dumps(envelope))
    refused(made.verify(), "ThresholdVerificationError")


def test_builders_that_differ_are_refused(made: Release) -> None:
    made.link(1).write_bytes(build_link(MODEL, OTHER, made.builders[1])[1])
    refused(made.verify(), "ThresholdVerificationError", "different artifacts")


def test_a_layout_expires(tmp_path: Path) -> None:
    yesterday = TODAY - datetime.timedelta(days=1)
    old = Release(tmp_path / "release").publish(expires=yesterday)
    refused(old.verify(), "LayoutExpiredError")


def test_the_layout_is_the_verifiers(made: Release, tmp_path: Path) -> None:
    stranger = Release(tmp_path / "stranger")
    refused(made.verify(stranger.public), "SignatureVerificationError")
    layout = json.loads((made.links / LAYOUT).read_text())
    payload = base64.b64decode(layout["payload"]).replace(b'"threshold": 2', b'"threshold": 1')
    layout["payload"] = base64.b64encode(payload).decode()
    (made.links / LAYOUT).write_text(json.dumps(layout))
    refused(made.verify(), "SignatureVerificationError")


def _swap(made: Release, model: dict[str, str], library: tuple[str, str]) -> list[Path]:
    """Links, all of them well signed by the same people, of another release."""
    other = {link_name(VERDICT, made.verifier.public_key): release(
        model, library, 2, [each.public_key for each in made.builders], TOMORROW, made.verifier
    )[link_name(VERDICT, made.verifier.public_key)]}  # fmt: skip
    other |= dict(build_link(model, library, each) for each in made.builders)
    for name, data in other.items():
        (made.links / name).write_bytes(data)
    return [made.links / name for name in other]


def test_links_of_another_model_are_refused(made: Release) -> None:
    another = {**MODEL, "model.onnx": hashlib.sha256(b"another").hexdigest()}
    for number in range(3):
        made.link(number).write_bytes(build_link(another, LIBRARY, made.builders[number])[1])
    refused(made.verify(), "RuleVerificationError", "REQUIRE")
    _swap(made, another, LIBRARY)
    refused(made.verify(), "RuleVerificationError", "REQUIRE")


def test_links_of_an_older_release_are_refused(made: Release) -> None:
    made.library.write_bytes(b"other")
    for number in range(3):
        made.link(number).write_bytes(build_link(MODEL, OTHER, made.builders[number])[1])
    refused(made.verify(), "RuleVerificationError")
    _swap(made, MODEL, OTHER)
    refused(made.verify(), "RuleVerificationError", "REQUIRE")


@pytest.mark.parametrize("external", [{}, {"w/more.data": "0" * 64}])
def test_external_data_are_neither_missing_nor_more(
    made: Release, external: dict[str, str]
) -> None:
    other = {"model.onnx": MODEL["model.onnx"], **external}
    for number in range(3):
        made.link(number).write_bytes(build_link(other, LIBRARY, made.builders[number])[1])
    refused(made.verify(), "RuleVerificationError")


def test_a_path_does_not_stand_in_for_a_digest(made: Release) -> None:
    """Who signs a path with the model's digest, but another digest beside it, is refused."""
    digest = MODEL["model.onnx"]
    data = {f"{MODEL['w/model.data']}/w/model.data": MODEL["w/model.data"]}
    for each in made.builders:
        link = make_link(BUILD, {f"{digest}/model.onnx": "0" * 64, **data}, dict([LIBRARY]), each)
        (made.links / link_name(BUILD, each.public_key)).write_bytes(link)
    refused(made.verify(), "RuleVerificationError", "'DISALLOW *' matched")


@pytest.mark.parametrize("empty", ["materials", "products"])
def test_a_link_that_lists_nothing_is_refused(made: Release, empty: str) -> None:
    both = {
        "materials": {f"{digest}/{path}": digest for path, digest in MODEL.items()},
        "products": dict([LIBRARY]),
    }
    both[empty] = {}
    for each in made.builders:
        data = make_link(BUILD, both["materials"], both["products"], each)
        (made.links / link_name(BUILD, each.public_key)).write_bytes(data)
    refused(made.verify(), "RuleVerificationError", "REQUIRE")


def test_builders_whose_links_agree_are_found(made: Release) -> None:
    def names(*, who: Role = Role.BUILDER, until: datetime.date = TOMORROW) -> list[int]:
        """Numbers of those found, where 0 and 1 are keys of one and the same builder."""
        keys = [Key(each.public_key, TODAY, until) for each in made.builders]
        trusted = Trust((Identity("a", who, (keys[0], keys[1])), Identity("b", who, (keys[2],))))
        found = agreeing(made.links, MODEL, LIBRARY, trusted, TODAY)
        known = [each.public_key.keyid for each in made.builders]
        return [known.index(key.keyid) for key in found]

    assert names() == [0, 2]
    assert names(who=Role.VERIFIER) == names(until=TODAY - datetime.timedelta(days=1)) == []
    made.link(0).unlink()
    assert names() == [1, 2]
    made.link(1).write_bytes(build_link(MODEL, OTHER, made.builders[1])[1])
    assert names() == [2]
    made.link(2).write_bytes(build_link({"model.onnx": "0" * 64}, LIBRARY, made.builders[2])[1])
    assert names() == []
    made.link(2).write_bytes(make_link("other", {}, {}, made.builders[2]))
    assert names() == []
    made.link(2).write_bytes(b"{}")
    assert names() == []
    forged = build_link(MODEL, LIBRARY, made.builders[0])[1]
    swapped = forged.replace(
        made.builders[0].public_key.keyid.encode(), made.builders[2].public_key.keyid.encode()
    )
    assert swapped != forged
    made.link(2).write_bytes(swapped)
    assert names() == []


def test_no_file_of_these_is_a_statement(made: Release) -> None:
    """They bear the same media type, and `harness verify` must not take one for another."""
    key = Key(made.verifier.public_key, TODAY, TOMORROW)
    trusted = Trust((Identity("verifier", Role.VERIFIER, (key,)),))
    for name in (LAYOUT, link_name(VERDICT, made.verifier.public_key)):
        found = open_envelope((made.links / name).read_bytes(), name, trusted, TODAY)
        assert isinstance(found, Rejected)


def test_a_builders_own_layout_is_no_way_around(made: Release) -> None:
    """In-toto lets a step be a layout of its own; with no links below, it must not pass."""
    empty = Layout(steps=[Step(name=BUILD, pubkeys=[])], expires=f"{TOMORROW}T00:00:00Z")
    for number, signer in enumerate(made.builders):
        envelope = Envelope.from_signable(empty)
        envelope.create_signature(signer)
        made.link(number).write_text(json.dumps(envelope.to_dict()))
    assert made.verify().exit_code == 1


@pytest.mark.parametrize(
    ("model", "library", "threshold", "builders"),
    [
        ({}, LIBRARY, 1, [0]),
        ({"*.onnx": "0" * 64}, LIBRARY, 1, [0]),
        ({"../model.onnx": "0" * 64}, LIBRARY, 1, [0]),
        ({"model.onnx": "0" * 63}, LIBRARY, 1, [0]),
        (MODEL, ("[m].so", "0" * 64), 1, [0]),
        (MODEL, ("a/model.so", "0" * 64), 1, [0]),
        (MODEL, LIBRARY, 0, [0]),
        (MODEL, LIBRARY, 2, [0]),
        (MODEL, LIBRARY, 1, [0, 0]),
    ],
)
def test_what_cannot_be_asked_for_is_an_error(
    made: Release,
    model: dict[str, str],
    library: tuple[str, str],
    threshold: int,
    builders: Sequence[int],
) -> None:
    keys = [made.builders[number].public_key for number in builders]
    with pytest.raises(UsageError):
        make_layout(model, library, threshold, keys, TOMORROW, made.verifier)


def test_a_verifier_is_no_builder(made: Release) -> None:
    keys = [made.builders[0].public_key, made.verifier.public_key]
    with pytest.raises(UsageError, match="twice"):
        make_layout(MODEL, LIBRARY, 1, keys, TOMORROW, made.verifier)
