"""An in-toto layout and its links, so that people without this harness can verify a release.

``in-toto-verify`` of the in-toto project reads them; ``harness verify`` never does. The layout is
signed by the verifier and asks for two steps and one inspection:

- ``verdict``, by the verifier: which model, and which library.
- ``build``, by at least ``threshold`` of the builders: that library, made of that model. In-toto
  counts builders whose links are equal in every file, and refuses if any two differ.
- ``shipped``: the library that lies in the folder where the command is run is that one.

A rule of in-toto cannot name a digest, and does not look at a link's own name. Without more, links
of another release by the same people would pass as well. So paths carry digests: the model is
``SHA256/model.onnx``, the library that the verdict is about ``SHA256/model.so``, and the layout
requires these very paths. Each rule that allows a file comes after one that requires it, because
a link that lists nothing breaks no other rule.
"""

from __future__ import annotations

import datetime
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from in_toto.models.layout import Inspection, Layout, Step
from in_toto.models.link import FILENAME_FORMAT, Link
from in_toto.models.metadata import Envelope
from securesystemslib.dsse import Envelope as SSlibEnvelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, Signer, SSlibKey

from harness import untrusted
from harness.errors import StoreError, UsageError
from harness.signoff import strictjson
from harness.signoff.envelope import MAX_BYTES, EnvelopeError, read_envelope
from harness.signoff.interface import PAYLOAD_TYPE, Role, Trust
from harness.signoff.trust import SHA256, usable
from harness.text import printable

LAYOUT = "root.layout"
VERDICT, BUILD, SHIPPED = "verdict", "build", "shipped"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"  # nothing that a rule takes for a pattern
_LIBRARY = re.compile(_PART)
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")


def build_link(
    model: Mapping[str, str], library: tuple[str, str], signer: Signer
) -> tuple[str, bytes]:
    """(file name, content) of a builder's link: what it made of a model.

    model: path → SHA-256 of the model and of its external data. library: file name and SHA-256.
    """
    name, digest = _checked(model, library)
    data = make_link(BUILD, _addressed(model), {name: digest}, signer)
    return link_name(BUILD, signer.public_key), data


def release(
    model: Mapping[str, str],
    library: tuple[str, str],
    threshold: int,
    builders: Sequence[SSlibKey],
    expires: datetime.date,
    signer: Signer,
) -> dict[str, bytes]:
    """File name → content of what the verifier writes: the layout, and its own link.

    threshold: how many of ``builders`` must have made it; give only those whose links are there and
    equal. expires: the last day, UTC, on which the layout counts.
    """
    name, digest = _checked(model, library)
    link = make_link(VERDICT, _addressed(model), _addressed({name: digest}), signer)
    layout = make_layout(model, library, threshold, builders, expires, signer)
    return {LAYOUT: layout, link_name(VERDICT, signer.public_key): link}


def agreeing(
    folder: Path,
    model: Mapping[str, str],
    library: tuple[str, str],
    trusted: Trust,
    today: datetime.date,
) -> list[SSlibKey]:
    """Keys of the builders whose links in ``folder`` say that they made this, one for each builder.

    In-toto counts keys, not builders: a second one of a builder's is left out.
    """
    name, digest = _checked(model, library)
    wanted = (BUILD, _hashes(_addressed(model)), _hashes({name: digest}))
    found = []
    for identity in trusted.identities:
        keys = [key.public for key in identity.keys if not usable(key, today)]
        if identity.role is Role.BUILDER:
            found += [key for key in keys if _says(folder, key) == wanted][:1]
    return found


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files of this module's, each as a whole; StoreError if they cannot be written."""
    if folder.is_symlink():
        raise StoreError(f"{folder} is a link, which is not followed")
    for name, data in files.items():
        new = folder / f".{secrets.token_hex(8)}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with new.open("xb") as file:
                file.write(data)
            new.rename(folder / name)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise StoreError(f"{folder / name}: cannot be written: {error.strerror}") from None


def make_link(
    name: str, materials: Mapping[str, str], products: Mapping[str, str], signer: Signer
) -> bytes:
    """A signed link: path → SHA-256 of what went into the step ``name``, and of what came out."""
    link = Link(name=name, materials=_hashes(materials), products=_hashes(products))
    return _signed(link, signer)


def make_layout(
    model: Mapping[str, str],
    library: tuple[str, str],
    threshold: int,
    builders: Sequence[SSlibKey],
    expires: datetime.date,
    signer: Signer,
) -> bytes:
    """The signed layout alone; see :func:`release`."""
    name, digest = _checked(model, library)
    verifier = signer.public_key
    keys = {key.keyid: key for key in (*builders, verifier)}
    short = {keyid[:8] for keyid in keys}
    if len(keys) != len(builders) + 1:
        raise UsageError("a key is there twice", "Give each builder, and the verifier, its own.")
    if len(short) != len(keys):
        raise UsageError("two keys begin with the same 8 digits, by which in-toto names links")
    if not 1 <= threshold <= len(builders):
        raise UsageError(f"{threshold} builders cannot be asked for where {len(builders)} agree")
    taken, made = sorted(_addressed(model)), f"{digest}/{name}"
    verdict = Step(
        name=VERDICT,
        pubkeys=[verifier.keyid],
        threshold=1,
        expected_materials=_only(taken, lambda path: ["ALLOW", path]),
        expected_products=_only([made], lambda path: ["ALLOW", path]),
    )
    build = Step(
        name=BUILD,
        pubkeys=sorted(key.keyid for key in builders),
        threshold=threshold,
        expected_materials=_only(
            taken, lambda path: ["MATCH", path, "WITH", "MATERIALS", "FROM", VERDICT]
        ),
        expected_products=_only(
            [name], lambda path: ["MATCH", path, "WITH", "PRODUCTS", "IN", digest, "FROM", VERDICT]
        ),
    )
    rules = [
        ["REQUIRE", name],
        ["MATCH", name, "WITH", "PRODUCTS", "FROM", BUILD],
        ["DISALLOW", name],
        ["ALLOW", "*"],
    ]
    # A command has to be run; this one is everywhere and does nothing.
    shipped = Inspection(
        name=SHIPPED, run=["true"], expected_materials=rules, expected_products=rules
    )
    layout = Layout(
        steps=[verdict, build],
        inspect=[shipped],
        keys={keyid: {"keyid": keyid, **key.to_dict()} for keyid, key in sorted(keys.items())},
        expires=f"{expires.isoformat()}T23:59:59Z",
        readme=f"{name}, sha256 {digest}, made of the same model by {threshold} builders",
    )
    return _signed(layout, signer)


def link_name(step: str, key: Key) -> str:
    """The file in which ``in-toto-verify`` looks for a link."""
    return str(FILENAME_FORMAT.format(step_name=step, keyid=key.keyid))


def _says(folder: Path, key: SSlibKey) -> tuple[object, object, object] | None:
    """Name, materials and products of a builder's link; None if it has none, or not a good one."""
    try:
        data = untrusted.read(folder, link_name(BUILD, key), MAX_BYTES)
        envelope = read_envelope(data)
        signature = Signature(key.keyid, envelope.signatures[key.keyid].hex())
        message = SSlibEnvelope(envelope.payload, PAYLOAD_TYPE, {}).pae()
        key.verify_signature(signature, message)
        link = strictjson.parse(envelope.payload, "the link")
    except (
        untrusted.UntrustedFileError,
        EnvelopeError,
        KeyError,
        UnverifiedSignatureError,
        strictjson.StrictJsonError,
    ):
        return None
    if not isinstance(link, dict) or link.get("_type") != "link":
        return None
    return link.get("name"), link.get("materials"), link.get("products")


def _only(paths: Sequence[str], allow: Callable[[str], list[str]]) -> list[list[str]]:
    """Each of these paths, and no other."""
    rules = [rule for path in paths for rule in (["REQUIRE", path], allow(path))]
    return [*rules, ["DISALLOW", "*"]]


def _checked(model: Mapping[str, str], library: tuple[str, str]) -> tuple[str, str]:
    if not model:
        raise UsageError("no model is given")
    for path in model:
        if not _PATH.fullmatch(path):
            raise UsageError(f"in-toto rules cannot name {printable(path, 100)!r}")
    if not _LIBRARY.fullmatch(library[0]):
        raise UsageError(f"in-toto rules cannot name {printable(library[0], 100)!r}")
    for digest in (*model.values(), library[1]):
        if not SHA256.fullmatch(digest):
            raise UsageError(f"{printable(digest, 100)!r} is no SHA-256")
    return library


def _addressed(files: Mapping[str, str]) -> dict[str, str]:
    return {f"{digest}/{path}": digest for path, digest in files.items()}


def _hashes(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {path: {"sha256": digest} for path, digest in files.items()}


def _signed(content: Link | Layout, signer: Signer) -> bytes:
    envelope = Envelope.from_signable(content)
    envelope.create_signature(signer)
    return json.dumps(envelope.to_dict(), sort_keys=True).encode("ascii")
