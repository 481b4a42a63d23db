"""A small real build, read once, for the tests of accounting; and ways to change it."""

from __future__ import annotations

import lzma
from dataclasses import replace
from functools import cache
from pathlib import Path

import onnx

from harness.accounting import relax_script, tir_script
from harness.accounting.copies import is_copy
from harness.accounting.packed_data import Binary
from harness.accounting.vm_executable import (
    CALL,
    Argument,
    ArgumentKind,
    Constant,
    Executable,
    FunctionKind,
    Instruction,
    PoolTensor,
    VmFunction,
    read_library_blob,
)

BUILD = Path(__file__).parents[1] / "assets" / "accounting"
INPUTS = {"x": (1, 2, 4, 4)}


@cache
def binary(name: str) -> bytes:
    """``devc.o``, ``lib0.o`` or ``model.so``."""
    return lzma.decompress((BUILD / f"{name}.xz").read_bytes())


@cache
def text(name: str) -> bytes:
    return (BUILD / f"{name}.txt").read_bytes()


def model(name: str = "model") -> onnx.ModelProto:
    return onnx.load(BUILD / f"{name}.onnx")


@cache
def blob() -> bytes:
    """The weights and the bytecode as they lie in the object."""
    return Binary(binary("devc.o"), "devc.o").library_blob()[2]


@cache
def executable() -> Executable:
    return read_library_blob(blob())


@cache
def main() -> relax_script.Function:
    return relax_script.functions(text("tensor-ir"), "tensor-ir")["main"]


@cache
def copies() -> frozenset[str]:
    """The functions of tensor-ir that only reshape."""
    tree = relax_script.syntax(text("tensor-ir"), "tensor-ir")
    read = tir_script.functions_of(tree, "tensor-ir").read
    return frozenset(name for name, function in read.items() if is_copy(function))


@cache
def library() -> frozenset[str]:
    return Binary(binary("model.so"), "model.so").exported()


def calls(name: str) -> list[int]:
    """Where the executable calls this function."""
    own = executable()
    return [
        number
        for number, one in enumerate(own.instructions)
        if one.operation == CALL and own.functions[one.target].name == name
    ]


def tensors() -> list[int]:
    """The numbers of the constants that are tensors."""
    return [n for n, one in enumerate(executable().constants) if isinstance(one, PoolTensor)]


def with_instruction(number: int, *put: Instruction) -> Executable:
    """These in the place of one instruction."""
    rest = executable().instructions
    return with_instructions(*rest[:number], *put, *rest[number + 1 :])


def with_instructions(*all_of_them: Instruction) -> Executable:
    own = executable()
    functions = tuple(
        replace(one, end=len(all_of_them)) if one.kind is FunctionKind.BYTECODE else one
        for one in own.functions
    )
    return replace(own, instructions=all_of_them, functions=functions)


def with_argument(number: int, at: int, argument: Argument) -> Executable:
    one = executable().instructions[number]
    changed = list(one.arguments)
    changed[at] = argument
    return with_instruction(number, replace(one, arguments=tuple(changed)))


def with_constant(number: int, constant: Constant) -> Executable:
    own = executable()
    pool = own.constants
    return replace(own, constants=(*pool[:number], constant, *pool[number + 1 :]))


def with_function(name: str) -> tuple[Executable, int]:
    """One more function of the library or the runtime, and its number."""
    own = executable()
    added = VmFunction(FunctionKind.PACKED, name, 0, 0, -2, 0, ())
    return replace(own, functions=(*own.functions, added)), len(own.functions)


def register(number: int) -> Argument:
    return Argument(ArgumentKind.REGISTER, number)


def constant(number: int) -> Argument:
    return Argument(ArgumentKind.CONSTANT, number)


def immediate(number: int) -> Argument:
    return Argument(ArgumentKind.IMMEDIATE, number)
