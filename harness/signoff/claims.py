"""What an upstream statement claims: which step it is, what went in, what came out.

Read by the rules of each predicate type. Files are told by SHA-256 alone; a name is for people. A
statement that does not say what went into a step is no origin: *nothing went in* has to be said,
by an empty list.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.signoff.interface import PROVENANCE, Signed
from harness.text import printable

LINK = "https://in-toto.io/attestation/link/v0.3"
PROVENANCE_0_2 = "https://slsa.dev/provenance/v0.2"
MODEL_SIGNING = "https://model_signing/signature/v1.0"
# In a subject's annotations: which step it came out of. A URN, as the specification asks for.
STEP = "urn:ml-compiler-harness:step"
MODEL = "model"  # the step of a model signing, which has no name of its own

MOST_THINGS = 100_000  # that one statement may name, on either side
MAX_NAME = 200

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True)
class Thing:
    """A file, or anything else with a digest. ``sha256`` is empty where none is given."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Claim:
    """One step of a history, as its signer tells it.

    ``labels``: what a policy may call it, the best first. ``unsaid``: why what went in is not
    known; empty if it is. ``passes``: it makes nothing, but passes on the files that it names, as a
    model signing does. ``whole``: the digest that stands for all of those together.
    """

    signed: Signed
    labels: tuple[str, ...]
    takes: tuple[Thing, ...]
    makes: tuple[Thing, ...]
    unsaid: str = ""
    passes: bool = False
    whole: str = ""

    @property
    def step(self) -> str:
        return printable(self.labels[0], MAX_NAME)

    @property
    def where(self) -> str:
        """The statement, for one line of text."""
        name = printable(self.signed.signer.name, MAX_NAME)
        return f"step {self.step!r} ({printable(self.signed.file, MAX_NAME)}, by {name})"


class Unreadable(Exception):  # noqa: N818 - a statement that counts for nothing is no error of ours
    """The statement does not follow its own specification; the text says where."""


def claim(signed: Signed) -> Claim:
    """What a statement claims. Raises Unreadable."""
    kind = signed.predicate_type
    predicate = _table(signed.statement.get("predicate"), "predicate")
    makes = tuple(_things(signed.statement.get("subject"), "subject"))
    if kind == MODEL_SIGNING:
        return _model_signing(signed, makes, predicate)
    annotated = _annotated(signed.statement["subject"])
    if kind == LINK:
        own, given = predicate.get("name"), predicate.get("materials")
        labels: tuple[object, ...] = (own,)
    elif kind == PROVENANCE:
        definition = _table(predicate.get("buildDefinition"), "buildDefinition")
        given = definition.get("resolvedDependencies")
        labels = (annotated, definition.get("buildType"))
    elif kind == PROVENANCE_0_2:
        given = predicate.get("materials")
        labels = (annotated, predicate.get("buildType"))
    else:
        given = None
        labels = (annotated, kind)
    named = tuple(label for label in labels if isinstance(label, str) and label)
    if not named:
        raise Unreadable("it does not say which step it is")
    if given is None:
        return Claim(signed, named, (), makes, "it does not say what went in")
    return Claim(signed, named, tuple(_things(given, "what went in")), makes)


def _model_signing(signed: Signed, makes: tuple[Thing, ...], predicate: Mapping[str, Any]) -> Claim:
    """OpenSSF model signing v1.0: files by digest, and one digest over all of theirs."""
    if len(makes) != 1:
        raise Unreadable(f"a model signing has one subject, not {len(makes)}")
    resources = predicate.get("resources")
    if not isinstance(resources, Sequence) or isinstance(resources, str):
        raise Unreadable("resources is no list")
    if len(resources) > MOST_THINGS:
        raise Unreadable(f"it names more than {MOST_THINGS:,} files")
    hasher = hashlib.sha256()
    files: dict[str, str] = {}
    for entry in resources:
        resource = _table(entry, "a resource")
        name, algorithm, digest = (resource.get(key) for key in ("name", "algorithm", "digest"))
        if not (isinstance(name, str) and isinstance(algorithm, str) and isinstance(digest, str)):
            raise Unreadable("a resource lacks its name, algorithm or digest")
        if name in files:
            raise Unreadable(f"it names {printable(name, MAX_NAME)} twice")
        if not re.fullmatch(r"(?:[0-9a-f]{2})+", digest):
            raise Unreadable(f"the digest of {printable(name, MAX_NAME)} is not hexadecimal")
        hasher.update(bytes.fromhex(digest))
        files[name] = digest if algorithm == "sha256" and _SHA256.match(digest) else ""
    if hasher.hexdigest() != makes[0].sha256:
        raise Unreadable("its digest is not the one over the files that it names")
    method = _table(predicate.get("serialization"), "serialization").get("method")
    things = tuple(Thing(name, digest) for name, digest in files.items())
    if method != "files":
        shown = printable(str(method), MAX_NAME)
        return Claim(signed, (MODEL,), (), makes, f"it hashes {shown} and not whole files")
    # Without the names of the algorithms in it, the digest is unambiguous for one of them only.
    whole = makes[0].sha256 if all(thing.sha256 for thing in things) else ""
    return Claim(signed, (MODEL,), things, things, passes=True, whole=whole)


def _annotated(subjects: Sequence[Mapping[str, Any]]) -> str | None:
    """The step that the subjects' annotations name, where they name one and the same."""
    found: set[str] = set()
    for subject in subjects:
        notes = subject.get("annotations")
        if isinstance(notes, Mapping) and STEP in notes:
            step = notes[STEP]
            if not isinstance(step, str):
                raise Unreadable(f"the annotation {STEP} is no text")
            found.add(step)
    if len(found) > 1:
        raise Unreadable(f"its annotations name {len(found)} steps, not one")
    return found.pop() if found else None


def _things(value: object, what: str) -> Iterator[Thing]:
    """Resource descriptors, each with the SHA-256 that it gives, if any."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Unreadable(f"{what} is no list")
    if len(value) > MOST_THINGS:
        raise Unreadable(f"{what}: more than {MOST_THINGS:,} entries")
    for entry in value:
        descriptor = _table(entry, what)
        digests = descriptor.get("digest", {})
        digest = _table(digests, "digest").get("sha256", "")
        if digest != "" and not (isinstance(digest, str) and _SHA256.match(digest)):
            raise Unreadable(f"{what}: a sha256 is not 64 lowercase hexadecimal digits")
        name = descriptor.get("name") or descriptor.get("uri") or "a file without a name"
        if not isinstance(name, str):
            raise Unreadable(f"{what}: a name is no text")
        yield Thing(name, digest)


def _table(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Unreadable(f"{what} is no object")
    return value
