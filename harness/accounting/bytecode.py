"""Do the instructions in the binary do what tensor-ir's ``main`` says, and nothing else?

The virtual machine calls functions one after the other. They are followed (``vm_walk``) with what
each register and each piece of memory holds: every call has to be the next one of ``main``, on the
same values, and no value may be overwritten while it is still needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator

import numpy as np

from harness.accounting import later
from harness.accounting import relax_script as relax
from harness.accounting.interface import (
    Accounted,
    Kind,
    NotInterpretedError,
    Unaccounted,
)
from harness.accounting.vm_executable import (
    CALL,
    Executable,
    FunctionKind,
    as_text,
    line,
)
from harness.accounting.vm_walk import BUILTIN, WIDTH, Expected, Term, Value, Walk
from harness.text import printable

OUTPUTS = frozenset({"out_ty", "out_sinfo"})  # how call_tir names its results' types
EMPTY = "(an empty line)"
MAX_FINDINGS = 50
SHOWN = 160


def account_dump(executable: Executable, dumped: bytes) -> Accounted:
    """Is the dumped text that of the executable in the binary, byte for byte?"""
    own = as_text(executable).encode("utf-8", "surrogatepass")
    count = len(executable.instructions)
    if own == dumped:
        return Accounted(Kind.GRAPH, "bytecode", count, count)
    mine, theirs = own.split(b"\n"), dumped.split(b"\n")
    at = next(
        (n for n, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]),
        min(len(mine), len(theirs)),
    )
    there = printable(mine[at], SHOWN) if at < len(mine) else "(the end)"
    here = printable(theirs[at], SHOWN) if at < len(theirs) else "(the end)"
    what = f"the binary has {there.strip() or EMPTY}, the dump {here.strip() or EMPTY}"
    finding = Unaccounted(Kind.GRAPH, "bytecode", f"line {at + 1}", what)
    return Accounted(Kind.GRAPH, "bytecode", count, min(at, count), (finding,))


def account_bytecode(
    executable: Executable,
    main: relax.Function,
    library: Collection[str],
    is_copy: Callable[[str], bool],
    stage: str = "object",
) -> Accounted:
    """The instructions of the executable against ``main`` of tensor-ir.

    library: the functions that the code exports, without their prefix. is_copy: whether this
    function of tensor-ir only gives its operand another shape.
    """
    findings: list[Unaccounted] = []
    for where, what in _around(executable, main, library):
        findings.append(Unaccounted(Kind.GRAPH, stage, where, what))
    try:
        expected, result = _expected(main)
    except NotInterpretedError as error:
        count = len(executable.instructions)
        unknown = (f"tensor-ir: {printable(error.what, 2 * SHOWN)}",)
        return Accounted(Kind.GRAPH, stage, count, 0, tuple(findings), unknown)
    function = next(
        (one for one in executable.functions if one.name == main.name
         and one.kind is FunctionKind.BYTECODE), None,
    )  # fmt: skip
    things = len(executable.instructions)
    attributed = 0
    if function is None:
        findings.append(Unaccounted(Kind.GRAPH, stage, "the executable", "it has no function main"))
    else:
        walk = Walk(executable, function, main, expected, result, is_copy)
        for number, problem in walk.run():
            if problem:
                names = [one.name for one in executable.functions]
                text = printable(line(executable.instructions[number], names), SHOWN)
                where = f"instruction {number} of {function.name}: {text}"
                findings.append(
                    Unaccounted(Kind.GRAPH, stage, printable(where, 2 * SHOWN), problem)
                )
            else:
                attributed += 1
        findings += [
            Unaccounted(Kind.CONSTANTS, stage, f"constant {number}", "no instruction uses it")
            for number in sorted(set(range(len(executable.constants))) - walk.used)
        ]
    return Accounted(Kind.GRAPH, stage, things, attributed, tuple(findings[:MAX_FINDINGS]))


def _around(
    executable: Executable, main: relax.Function, library: Collection[str]
) -> Iterator[tuple[str, str]]:
    """What is wrong before any instruction runs: (where, what)."""
    called = {one.target for one in executable.instructions if one.operation == CALL}
    for number, one in enumerate(executable.functions):
        name = printable(one.name, SHOWN)
        if one.kind is FunctionKind.BYTECODE:
            if one.name != main.name:
                yield f"function {name}", "the model's graph has no such function"
            continue
        if number not in called:
            yield f"function {name}", "it is listed and no instruction calls it"
        if one.name.startswith(BUILTIN) and one.name in library:
            yield (
                f"function {name}",
                "the library has a function in the place of a builtin",
            )
        if not one.name.startswith(BUILTIN) and one.name not in library:
            yield f"function {name}", "no function of the library has this name"
    if executable.scopes:
        yield "the executable", "it places constants in other memory"


def _expected(main: relax.Function) -> tuple[list[Expected], Value]:
    """The calls of ``main`` in order, and what it returns."""
    values: dict[int, Value] = {}
    for number, parameter in enumerate(main.parameters):
        values[parameter.key] = (("input", number), parameter.type.shape)
    calls: list[Expected] = []
    lowered: dict[int, later.Lowered | later.External] = {}
    lowered.update(later.lowered(main))
    lowered.update(later.externals(main))

    def flat_of(given: Value) -> tuple[tuple[Term, tuple[int, ...]], ...]:
        items = given if isinstance(given, list) else [given]
        return tuple(one for one in items if isinstance(one, tuple))

    def value(node: relax.Expression) -> Value:
        match node:
            case relax.Reference(key=key) if key in values:
                return values[key]
            case relax.Constant(digest=digest, dtype=dtype, shape=shape):
                return ("constant", dtype, shape, digest), shape
            case relax.Number(value=number, dtype=dtype) if dtype in WIDTH.keys() - {"bfloat16"}:
                try:
                    raw = np.asarray(number).astype(dtype).tobytes()
                except OverflowError as error:
                    raise NotInterpretedError(f"{number} is no {dtype}") from error
                return ("constant", dtype, (), hashlib.sha256(raw).hexdigest()), ()
            case relax.Items(items=items):
                return [value(item) for item in items]
            case relax.Item(of=of, index=index):
                inner = value(of)
                if isinstance(inner, list) and 0 <= index < len(inner):
                    return inner[index]
            case relax.Call(operator="R.call_tir", arguments=(relax.Global(name=name), given)):
                operands = value(given)
                kinds = tuple(node.keywords[key] for key in OUTPUTS if key in node.keywords)
                several = len(kinds) == 1 and isinstance(kinds[0], relax.Items)
                outputs = kinds
                if len(kinds) == 1 and isinstance(kinds[0], relax.Items):
                    outputs = kinds[0].items
                types = tuple(one for one in outputs if isinstance(one, relax.Type))
                given_flat = operands if isinstance(operands, list) else [operands]
                flat = tuple(one for one in given_flat if isinstance(one, tuple))
                if (
                    set(node.keywords) <= OUTPUTS
                    and len(types) == len(outputs)
                    and len(flat) == len(given_flat)
                ):
                    calls.append(Expected(name, flat, types))
                    made: list[Value] = [
                        (("call", len(calls) - 1, at), one.shape) for at, one in enumerate(types)
                    ]
                    return made if several else made[0]
        raise NotInterpretedError(f"{main.name} holds what is not known")

    for binding in main.bindings:
        try:
            if (known := lowered.get(binding.key)) is not None:
                flat = flat_of([value(one) for one in known.operands])
                if len(flat) != len(known.operands):
                    raise NotInterpretedError(f"{main.name} holds what is not known")
                calls.append(Expected(known.name, flat, known.outputs))
                made: list[Value] = [
                    (("call", len(calls) - 1, at), one.shape)
                    for at, one in enumerate(known.outputs)
                ]
                values[binding.key] = made[0] if len(made) == 1 else made
                continue
            values[binding.key] = value(binding.value)
        except NotInterpretedError as error:
            where = f"line {binding.line}, {binding.name} = {binding.text}"
            raise NotInterpretedError(f"{error.what}: {where}") from error
    result = value(main.result)
    return calls, result
