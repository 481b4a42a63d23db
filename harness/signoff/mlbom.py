"""A bill of materials for what ships: the model, what compiled it, and what that consists of.

CycloneDX 1.6, JSON, deterministic. The library that writes it has no class for model cards, so
that part is added to the JSON that it made; the whole fits the published schema.

What is in it: the shipped artifact (``metadata.component``), which depends on the model and on the
toolchains that build it; the model with its digest, inputs, outputs, operators and opsets, as its
own file tells them; its external data; and every toolchain and replayer of the run with all that
its own bill lists (see :mod:`harness.sbom`). Nobody told us what kind of network the model is, what
it is for, or what it was trained on: that is left out, not guessed.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6

from harness import __version__
from harness.models import Model
from harness.signoff.fields import StatementError
from harness.text import printable

MODEL_REF, ARTIFACT_REF = "model", "artifact"
MAX_NAME = 300
MAX_LISTED = 2000  # operators, inputs and outputs; the rest is counted
_SERIALS = uuid.UUID("6f2a1c1e-0f0f-5d7b-9a55-6d0c1b7a4e22")  # a namespace of our own
_SHARED = ("base", "python", "driver")  # references that mean another thing in each bill


@dataclass(frozen=True)
class Tensor:
    """An input or output. ``shape`` as text, ``?`` for an open dimension: ``1x3x?x48``."""

    name: str
    type: str
    shape: str


@dataclass(frozen=True)
class Description:
    """What a model's file tells of the model. ``operators``: ``domain::name`` → how many nodes,
    those of subgraphs and functions included; ``opsets``: domain → version."""

    ir_version: int
    producer: str
    opsets: Mapping[str, int]
    operators: Mapping[str, int]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    initializers: int


def describe(model: Model, content: bytes) -> Description:
    """What ``content``, the file of ``model``, tells. It was checked when the model was taken."""
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise StatementError(f"{printable(model.name, MAX_NAME)}: these bytes are not the model")
    proto = onnx.load_model_from_string(content)
    operators: Counter[str] = Counter(
        f"{node.domain or 'ai.onnx'}::{node.op_type}" for node in _nodes(proto)
    )
    constant = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constant]
    return Description(
        ir_version=proto.ir_version,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        opsets={each.domain or "ai.onnx": each.version for each in proto.opset_import},
        operators=operators,
        inputs=tuple(_tensor(value, model.inputs.get(value.name)) for value in inputs),
        outputs=tuple(_tensor(value, None) for value in proto.graph.output),
        initializers=len(proto.graph.initializer),
    )


def release_bill(
    *,
    file: str,
    sha256: str,
    size: int,
    release: str,
    model: Model,
    content: bytes,
    bills: Sequence[bytes],
    builders: Sequence[str],
    epoch: int | None = None,
) -> dict[str, Any]:
    """The bill of the artifact ``file`` of ``size`` bytes.

    ``content``: the bytes of the model's file. ``bills``: those of all toolchains and replayers of
    the run, as :func:`harness.sbom.bill` wrote them. ``builders``: names of the toolchains that
    build the artifact. ``epoch``: Unix time to put in, or None. Raises StatementError
    where these do not belong together.
    """
    description = describe(model, content)
    artifact = Component(
        name=_text(file),
        type=ComponentType.FILE,
        version=_text(release),
        bom_ref=ARTIFACT_REF,
        hashes=[_hash(sha256)],
        properties=_properties({"harness:size-bytes": str(size)}),
    )
    root = _model(model, description)
    external = [_external(path, digest) for path, digest in sorted(model.external)]
    toolchains, parts, below = _toolchains(bills)
    missing = sorted(set(builders) - toolchains.keys())
    if missing:
        raise StatementError(f"{printable(missing[0], MAX_NAME)} has no bill of materials")
    everything = {
        str(each.bom_ref.value): each for each in (root, *external, *toolchains.values(), *parts)
    }
    bom = Bom(components=everything.values())
    bom.metadata.component = artifact
    bom.metadata.tools.components.add(_harness())
    bom.register_dependency(artifact, [root, *(toolchains[name] for name in builders)])
    bom.register_dependency(root, external)
    for name, references in below.items():
        bom.register_dependency(toolchains[name], [everything[each] for each in references])
    identities = [sha256, model.sha256, *(digest for _, digest in sorted(model.external))]
    identities += sorted(hashlib.sha256(bill).hexdigest() for bill in bills)
    bom.serial_number = uuid.uuid5(_SERIALS, "\n".join(identities))
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(epoch or 0, datetime.UTC)
    made: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    if epoch is None:
        del made["metadata"]["timestamp"]
    card = {"inputs": _formats(description.inputs), "outputs": _formats(description.outputs)}
    for component in made["components"]:
        if component["bom-ref"] == MODEL_REF:
            component["modelCard"] = {"modelParameters": card}
    return made


def _toolchains(
    bills: Iterable[bytes],
) -> tuple[dict[str, Component], list[Component], dict[str, list[str]]]:
    """(toolchain → its component, all that they consist of, toolchain → references to those)."""
    toolchains: dict[str, Component] = {}
    parts: list[Component] = []
    below: dict[str, list[str]] = {}
    for bill in bills:
        bom = Bom.from_json(json.loads(bill))  # type: ignore[attr-defined]
        top = bom.metadata.component
        name = top.name
        toolchains[name] = top
        below[name] = []
        for component in bom.components:
            if component.bom_ref.value in _SHARED:
                component.bom_ref.value = f"{component.bom_ref.value}:{name}"
            parts.append(component)
            below[name].append(component.bom_ref.value)
    # A linker stands in the bill of who uses it as well; its own bill says more.
    own = {each.bom_ref.value for each in toolchains.values()}
    return toolchains, [each for each in parts if each.bom_ref.value not in own], below


def _model(model: Model, description: Description) -> Component:
    facts = {
        "harness:format": "ONNX",
        "harness:ir-version": str(description.ir_version),
        "harness:initializers": str(description.initializers),
        "harness:nodes": str(sum(description.operators.values())),
    }
    if description.producer:
        facts["harness:producer"] = _text(description.producer)
    for domain, version in description.opsets.items():
        facts[f"harness:opset:{_text(domain)}"] = str(version)
    listed = sorted(description.operators.items())
    for name, count in listed[:MAX_LISTED]:
        facts[f"harness:operator:{_text(name)}"] = str(count)
    if len(listed) > MAX_LISTED:
        facts["harness:operators-not-listed"] = str(len(listed) - MAX_LISTED)
    return Component(
        name=_text(model.name),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=MODEL_REF,
        hashes=[_hash(model.sha256)],
        properties=_properties(facts),
    )


def _external(path: str, sha256: str) -> Component:
    return Component(
        name=_text(path),
        type=ComponentType.DATA,
        bom_ref=f"model/external/{path}",
        hashes=[_hash(sha256)],
    )


def _harness() -> Component:
    return Component(
        name="ml-compiler-harness", type=ComponentType.APPLICATION, version=__version__
    )


def _nodes(proto: Any) -> Iterator[Any]:
    """Every node, of subgraphs and functions as well."""
    pending = [*proto.graph.node, *(node for each in proto.functions for node in each.node)]
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                pending.extend(graph.node)


def _tensor(value: Any, fixed: tuple[int, ...] | None) -> Tensor:
    kind = value.type.tensor_type
    known = value.type.WhichOneof("value") == "tensor_type"
    types = onnx.TensorProto.DataType
    named = known and kind.elem_type in types.values()
    if fixed is not None:
        shape = "x".join(map(str, fixed)) or "scalar"
    elif known and kind.HasField("shape"):
        sizes = [str(d.dim_value) if d.dim_value > 0 else "?" for d in kind.shape.dim]
        shape = "x".join(sizes) or "scalar"
    else:
        shape = "?"
    return Tensor(value.name, types.Name(kind.elem_type).lower() if named else "unknown", shape)


def _formats(tensors: Sequence[Tensor]) -> list[dict[str, str]]:
    return [
        {"format": f"{_text(each.name)}: {each.type} {_text(each.shape)}"}
        for each in tensors[:MAX_LISTED]
    ]


def _hash(sha256: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=sha256)


def _properties(facts: Mapping[str, str]) -> list[Property]:
    return [Property(name=name, value=value) for name, value in sorted(facts.items())]


def _text(text: str) -> str:
    return printable(text, MAX_NAME)
