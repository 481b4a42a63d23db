"""All that accounting asks of one build: from its artifacts and the original model to answers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from harness.accounting import llvm_decisions, match, onnx_functions, past, reach, relax
from harness.accounting.interface import Accounted, Array, Kind, NotInterpretedError
from harness.accounting.onnx_values import Source, draw, evaluate, seed_of
from harness.accounting.shipped import account_shipped
from harness.text import printable

GRAPH, TENSOR_IR = "graph/module.py", "tensor-ir/module.py"
SIMPLIFIED = "simplified/model.onnx"
LLVM = "llvm-unoptimized/module.ll"
INDEX = "constants/"
SHOWN = 240
DRAWS = 5
REPLACED = 16  # values in turn that a batch item is replaced by, if the first change nothing


def shapes_of(
    model: onnx.ModelProto, given: Mapping[str, Sequence[int]]
) -> dict[str, tuple[int, ...]]:
    """The shape of each input: the one that was given, else the model's own."""
    held = {item.name for item in model.graph.initializer}
    return {
        item.name: tuple(
            given.get(item.name, [dim.dim_value for dim in item.type.tensor_type.shape.dim])
        )
        for item in model.graph.input
        if item.name not in held
    }


def telling(
    model: onnx.ModelProto, inputs: Mapping[str, Sequence[int]], seed: int
) -> tuple[dict[str, Array], Source]:
    """Random inputs on which every output of the model varies, if a few draws find such, and what
    the model's values are there. The answer of a model in 8 bits is the same on many inputs.
    """
    for number in range(DRAWS):
        drawn = draw(model, inputs, seed=seed + number)
        source = evaluate(model, drawn)
        if all(name in source.classes for name in source.outputs):
            break
    return drawn, source


def account(
    model: onnx.ModelProto, inputs: Mapping[str, Sequence[int]], files: Mapping[str, bytes]
) -> tuple[Accounted, ...]:
    """model: the original, as the user gave it. inputs: the shapes that were fixed for the build.
    files: the artifacts of the build by ``stage/name``.

    Whatever cannot be read or interpreted is ``unknown`` in the answer that it belongs to.
    """
    inputs = shapes_of(model, inputs)
    model = onnx_functions.written_out(model)
    found = list(account_shipped(model, inputs, files))

    def check(kinds: Sequence[Kind], stage: str, ask: Callable[[], Sequence[Accounted]]) -> None:
        try:
            found.extend(ask())
        except KeyError as error:
            missing = printable(str(error.args[0] if error.args else ""), SHOWN)
            why = f"{missing} is missing"
        except NotInterpretedError as error:
            why = printable(error.what, SHOWN)
        else:
            return
        found.extend(Accounted(kind, stage, 0, 0, unknown=(why,)) for kind in kinds)

    def lowered() -> Sequence[Accounted]:
        return [llvm_decisions.account(files[LLVM], files[TENSOR_IR])]

    check([Kind.DECISIONS], "llvm-unoptimized", lowered)
    # What a constant's digest stands for. Where it may come from is asked elsewhere.
    held = relax.constants_of(model)
    with contextlib.suppress(DecodeError):
        held |= relax.constants_of(onnx.load_from_string(files.get(SIMPLIFIED, b"")))
    held |= {
        hashlib.sha256(data).hexdigest(): data
        for name, data in files.items()
        if name.startswith(INDEX)
    }

    def items() -> Sequence[Accounted]:
        drawn = draw(model, inputs, trials=REPLACED)
        return [reach.account(files[TENSOR_IR], held, model, drawn)]

    # Nothing leaks where there is no second item. First, while nothing else fills the memory.
    if any(shape and shape[0] > 1 for shape in inputs.values()):
        check([Kind.REACH], "tensor-ir", items)
    try:
        drawn, source = telling(model, inputs, seed_of(files))
    except NotInterpretedError as error:
        why = (printable(error.what, SHOWN),)
        for stage in ("graph", "tensor-ir"):
            for kind in (Kind.GRAPH, Kind.DECISIONS, Kind.REACH):
                found.append(Accounted(kind, stage, 0, 0, unknown=why))
    else:

        def graph() -> Sequence[Accounted]:
            trace = relax.trace(files[GRAPH], drawn, held, known=source.index)
            return match.account(trace, source)

        def operators() -> Sequence[Accounted]:
            trace = relax.trace(files[TENSOR_IR], drawn, held, known=source.index, what=TENSOR_IR)
            return [*match.account(trace, source), past.account(trace, source)]

        check((Kind.GRAPH, Kind.DECISIONS), "graph", graph)
        check((Kind.GRAPH, Kind.DECISIONS, Kind.REACH), "tensor-ir", operators)
    return tuple(found)
