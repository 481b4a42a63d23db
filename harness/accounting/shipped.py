"""Everything that is asked of what a build ships: its constants, its instructions, its data."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from harness.accounting import relax_script, tir_script
from harness.accounting.bytecode import account_bytecode, account_dump
from harness.accounting.constants import Known, account_executable, account_simplified, known_of
from harness.accounting.copies import is_copy
from harness.accounting.immediates import account_graph_numbers, account_immediates
from harness.accounting.interface import Accounted, Kind, NotInterpretedError
from harness.accounting.packed_data import Binary, account_data
from harness.accounting.vm_executable import Executable, read_library_blob
from harness.text import printable

SIMPLIFIED, GRAPH, TENSOR_IR = "simplified/model.onnx", "graph/module.py", "tensor-ir/module.py"
DUMP, WEIGHTS, CODE = "bytecode/executable.txt", "object/devc.o", "object/lib0.o"
LIBRARY = "library/model.so"
FILES = (SIMPLIFIED, GRAPH, TENSOR_IR, DUMP, WEIGHTS, CODE, LIBRARY)

SHOWN = 240


def account_shipped(
    model: onnx.ModelProto, inputs: Mapping[str, Sequence[int]], files: Mapping[str, bytes]
) -> tuple[Accounted, ...]:
    """All checks of one build.

    model: the original. inputs: the shapes that it was built for. files: the artifacts of the
    build by stage and name, as in ``FILES``; what a missing one would have shown is unknown.
    """
    found: list[Accounted] = []

    def check(kind: Kind, stage: str, ask: Callable[[], Accounted | Sequence[Accounted]]) -> None:
        try:
            answer = ask()
            found.extend([answer] if isinstance(answer, Accounted) else answer)
        except KeyError as error:
            missing = printable(str(error.args[0] if error.args else ""), SHOWN)
            found.append(Accounted(kind, stage, 0, 0, unknown=(f"{missing} is missing",)))
        except NotInterpretedError as error:
            found.append(Accounted(kind, stage, 0, 0, unknown=(printable(error.what, SHOWN),)))

    @cache
    def binary(name: str) -> Binary:
        return Binary(files[name], name)

    @cache
    def executable() -> Executable:
        return read_library_blob(binary(WEIGHTS).library_blob()[2])

    @cache
    def known() -> Known:
        return known_of(model, inputs)

    @cache
    def script(name: str) -> ast.Module:
        return relax_script.syntax(files[name], name.partition("/")[0])

    @cache
    def kernels() -> tir_script.Functions:
        return tir_script.functions_of(script(TENSOR_IR), "tensor-ir")

    def reshapes(name: str) -> bool:
        return name in kernels().read and is_copy(kernels().read[name])

    check(
        Kind.CONSTANTS, "library",
        lambda: account_data(binary(WEIGHTS), binary(CODE), binary(LIBRARY)),
    )  # fmt: skip
    check(
        Kind.CONSTANTS, "object",
        lambda: account_executable(known(), executable(), "object", files.get(GRAPH)),
    )  # fmt: skip
    check(
        Kind.CONSTANTS, "simplified",
        lambda: account_simplified(known(), _simplified(files[SIMPLIFIED])),
    )  # fmt: skip
    check(
        Kind.CONSTANTS, "graph",
        lambda: account_graph_numbers(known(), _main(script(GRAPH), "graph")),
    )  # fmt: skip
    check(Kind.CONSTANTS, "tensor-ir", lambda: account_immediates(known(), kernels()))
    check(Kind.GRAPH, "bytecode", lambda: account_dump(executable(), files[DUMP]))
    check(
        Kind.GRAPH, "object",
        lambda: account_bytecode(
            executable(), _main(script(TENSOR_IR), "tensor-ir"),
            binary(LIBRARY).exported(), reshapes,
        ),
    )  # fmt: skip
    return tuple(found)


def _simplified(data: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_from_string(data)
    except (DecodeError, RecursionError) as error:
        raise NotInterpretedError("simplified/model.onnx is no ONNX model") from error
    if not model.graph.node:
        raise NotInterpretedError("simplified/model.onnx holds no graph")
    return model


def _main(tree: ast.Module, what: str) -> relax_script.Function:
    functions = relax_script.functions_of(tree, what)
    if "main" not in functions:
        raise NotInterpretedError(f"{what} has no function main")
    return functions["main"]
