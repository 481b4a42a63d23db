"""Tensor IR, interpreted: what every block computes, and where it decides by data.

``main`` says which function is called with what; each block of a function is a step of the trace,
so that the values inside fused functions are seen as well.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.accounting import relax_script
from harness.accounting.arrays import Array
from harness.accounting.interface import Again, NotInterpretedError, Step, Trace
from harness.accounting.relax_script import shown
from harness.accounting.rerun import Rerun
from harness.accounting.tir_block import Memory, run
from harness.accounting.tir_decisions import Flow
from harness.accounting.tir_operators import numpy_type
from harness.accounting.tir_script import (
    Block,
    Function,
    Functions,
    Load,
    Statement,
    Store,
    expressions,
    functions_of,
    statements,
    walk,
)

STAGE = "tensor-ir"
MOST_CALLS = 20_000
# What numpy says of operands that do not go together; the text decides what they are.
BROKEN = (MemoryError, RecursionError, ValueError, TypeError, IndexError, KeyError, OverflowError)


@dataclass(frozen=True)
class Program:
    """A tensor-ir module: its ``main``, and the functions that it calls."""

    main: relax_script.Function
    functions: Functions


def read(data: bytes, what: str = "tensor-ir/module.py") -> Program:
    """Raises NotInterpretedError if there is no ``main`` that can be read."""
    tree = relax_script.syntax(data, what)
    relax = relax_script.functions_of(tree, what)
    if set(relax) != {"main"}:
        names = ", ".join(map(shown, sorted(relax))) or "none"
        raise NotInterpretedError(f"{what}: expected one Relax function, main; there are: {names}")
    return Program(relax["main"], functions_of(tree, what))


@dataclass(frozen=True)
class Interpreted:
    """``unknown``: what could not be interpreted, one line each; what follows it is missing."""

    trace: Trace
    unknown: tuple[str, ...]


def interpret(
    data: bytes,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array | bytes],
    *,
    written: bool = False,
) -> Interpreted:
    """The trace of ``tensor-ir/module.py``.

    inputs: by name, ``(trials, *shape)``. constants: by the sha256 of their bytes,
    as arrays or as these bytes.
    written: compute in the declared types, float32 and float16, instead of in float64.
    """
    return Interpreter(read(data), inputs, constants, written).run()


@dataclass
class Interpreter:
    program: Program
    given: Mapping[str, Array]
    pool: Mapping[str, Array | bytes]
    written: bool = False
    values: dict[int, Array] = field(default_factory=dict)
    types: dict[int, str] = field(default_factory=dict)
    data: set[int] = field(default_factory=set)  # keys of what depends on an input
    constants: dict[int, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    again: dict[int, Again] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    bound: dict[int, tuple[int, ...]] = field(default_factory=dict)  # relax_script's keys → ours
    keys: int = 0
    held: dict[str, int] = field(default_factory=dict)

    def run(self) -> Interpreted:
        trials = {len(value) for value in self.given.values()}
        if len(trials) != 1:
            raise NotInterpretedError("inputs of different numbers of trials")
        self.trials = trials.pop()
        main = self.program.main
        inputs = {}
        for parameter in main.parameters:
            key = self.key(parameter.type.dtype)
            inputs[parameter.name] = key
            self.bound[parameter.key] = (key,)
            self.data.add(key)
            value = self.given.get(parameter.name)
            if value is None or value.shape[1:] != parameter.type.shape:
                raise NotInterpretedError(f"no input {shown(parameter.name)} of main's shape")
            self.values[key] = self.entry(value, parameter.type.dtype)
        if len(main.bindings) > MOST_CALLS:
            raise NotInterpretedError(f"main has more than {MOST_CALLS} bindings")
        for binding in main.bindings:
            try:
                self.bound[binding.key] = self.binding(binding)
            except NotInterpretedError as error:
                self.unknown.append(f"main, {shown(binding.name)}: {error}")
        outputs: tuple[int, ...] = ()
        try:
            outputs = self.resolve(main.result)
        except NotInterpretedError as error:
            self.unknown.append(f"main's result: {error}")
        called = {shown(text) for text in self.program.functions.unread.values()}
        self.unknown += sorted(called)
        full = {
            key: np.broadcast_to(value, (self.trials, *value.shape[1:]))
            for key, value in self.values.items()
        }
        trace = Trace(
            STAGE, inputs, outputs, tuple(self.steps), full, self.constants, self.again
        )  # fmt: skip
        return Interpreted(trace, tuple(self.unknown))

    def entry(self, value: Array, dtype: str) -> Array:
        return value.astype(numpy_type(dtype, self.written))

    def execute(self, statement: Statement, memory: Memory, flow: Flow) -> None:  # noqa: ARG002
        """Runs a statement on what the buffers hold."""
        run(statement, memory)

    def key(self, dtype: str) -> int:
        self.keys += 1
        self.types[self.keys] = dtype
        return self.keys

    # main's expressions.

    def resolve(self, one: relax_script.Expression) -> tuple[int, ...]:
        """The values that an expression stands for; a tuple is several."""
        match one:
            case relax_script.Reference():
                if one.key not in self.bound:
                    raise NotInterpretedError(f"{shown(one.name)} has no value")
                return self.bound[one.key]
            case relax_script.Constant():
                return (self.constant(one.digest, one.dtype, one.shape),)
            case relax_script.Number():
                array = np.asarray(one.value, numpy_type(one.dtype, written=True))
                digest = hashlib.sha256(array.tobytes()).hexdigest()
                key = self.key(one.dtype)
                self.values[key] = array[None].astype(numpy_type(one.dtype, self.written))
                self.constants[key] = digest
                return (key,)
            case relax_script.Items():
                out: tuple[int, ...] = ()
                for item in one.items:
                    inner = self.resolve(item)
                    if len(inner) != 1:
                        raise NotInterpretedError("a tuple inside a tuple")
                    out += inner
                return out
            case relax_script.Item():
                inside = self.resolve(one.of)
                if not 0 <= one.index < len(inside):
                    raise NotInterpretedError("an item that the tuple does not have")
                return (inside[one.index],)
        raise NotInterpretedError(f"no value: {shown(str(one))}")

    def constant(self, digest: str, dtype: str, shape: tuple[int, ...]) -> int:
        label = f"{digest}:{dtype}:{shape}"
        if label not in self.held:
            array = self.pool.get(digest)
            if isinstance(array, bytes):
                kind = numpy_type(dtype, written=True)
                if len(array) != kind.itemsize * math.prod(shape):
                    raise NotInterpretedError(f"constant {digest[:16]}… is of another size")
                array = np.frombuffer(array, kind).reshape(shape)
            if array is None or array.shape != shape:
                raise NotInterpretedError(f"no constant {digest[:16]}… of this shape")
            key = self.key(dtype)
            self.values[key] = array[None].astype(numpy_type(dtype, self.written))
            self.constants[key] = digest
            self.held[label] = key
        return self.held[label]

    def binding(self, one: relax_script.Binding) -> tuple[int, ...]:
        call = one.value
        if not isinstance(call, relax_script.Call):
            return self.resolve(call)
        if call.operator != "R.call_tir":
            raise NotInterpretedError(f"{one.text}: only call_tir is known here")
        if len(call.arguments) != 2 or set(call.keywords) - {"out_ty", "out_sinfo"}:
            raise NotInterpretedError(f"{one.text}: call_tir in an unknown form")
        target, packed = call.arguments
        if not isinstance(target, relax_script.Global):
            raise NotInterpretedError(f"{one.text}: no function of the module")
        outs = [*call.keywords.values()]
        kinds = outs[0].items if outs and isinstance(outs[0], relax_script.Items) else outs
        types = [kind for kind in kinds if isinstance(kind, relax_script.Type)]
        if not types or len(types) != len(kinds):
            raise NotInterpretedError(f"{one.text}: outputs of an unknown form")
        function = self.program.functions.read.get(target.name)
        if function is None:
            why = self.program.functions.unread.get(target.name, "there is no such function")
            raise NotInterpretedError(why)
        return self.call(function, self.resolve(packed), types, one.name)

    # One function.

    def call(
        self,
        function: Function,
        arguments: tuple[int, ...],
        types: list[relax_script.Type],
        label: str,
    ) -> tuple[int, ...]:
        """Runs it; the last parameters are its outputs. Their keys.

        Raises NotInterpretedError, whatever the function's text does.
        """
        try:
            return self.called(function, arguments, types, label)
        except BROKEN as error:
            why = shown(f"{type(error).__name__}: {error}")
            raise NotInterpretedError(f"{function.name}: {why}") from error

    def called(
        self,
        function: Function,
        arguments: tuple[int, ...],
        types: list[relax_script.Type],
        label: str,
    ) -> tuple[int, ...]:
        names = function.parameters
        if len(names) != len(arguments) + len(types) or len(set(names)) != len(names):
            raise NotInterpretedError(f"{function.name} takes {len(names)} buffers")
        memory = Memory(function.buffers, self.trials, written=self.written)
        versions: dict[str, int] = {}
        for name, key in zip(names, arguments, strict=False):
            buffer = function.buffers[name]
            value = self.values.get(key)
            if value is None:
                raise NotInterpretedError(f"{function.name}: {name} has no value")
            if value.shape[1:] != buffer.shape or self.types[key] != buffer.dtype:
                raise NotInterpretedError(f"{function.name}: {name} gets another shape or type")
            held = value.view()
            held.flags.writeable = False
            memory.arrays[name] = held
            versions[name] = key
        outputs = names[len(arguments) :]
        for name, kind in zip(outputs, types, strict=True):
            buffer = function.buffers[name]
            if buffer.shape != kind.shape or buffer.dtype != kind.dtype:
                raise NotInterpretedError(f"{function.name}: {name} is not what call_tir says")
        for statement in top(function.body):
            self.statement(function, statement, memory, versions, label)
        if missing := [name for name in outputs if name not in versions or name in memory.gaps]:
            raise NotInterpretedError(f"{function.name}: {missing[0]} is not written in full")
        return tuple(versions[name] for name in outputs)

    def statement(
        self,
        function: Function,
        statement: Statement,
        memory: Memory,
        versions: dict[str, int],
        label: str,
    ) -> None:
        """A step for each buffer that it writes. The first holds the decisions."""
        inner = tuple(statements((statement,)))
        stores = list(dict.fromkeys(one.buffer for one in inner if isinstance(one, Store)))
        if not stores:
            raise NotInterpretedError(f"{function.name}: a statement that writes nothing")
        block = next((one.name for one in inner if isinstance(one, Block)), "")
        where = shown(f"{function.name}, block {block} (main's {label})")
        types = {name: buffer.dtype for name, buffer in function.buffers.items()}
        flow = Flow({name for name, key in versions.items() if key in self.data}, types)
        flow.where = where
        flow.spread((statement,))
        decisions = flow.decisions((statement,))
        read = reads((statement,), stores, versions)
        gaps = {name: at.copy() for name, at in memory.gaps.items()}
        rerun = Rerun(function, statement, dict(versions), self.written, gaps)
        self.execute(statement, memory, flow)
        operands = tuple(dict.fromkeys(versions[name] for name in read))
        for at, name in enumerate(stores):
            key = self.key(function.buffers[name].dtype)
            self.values[key] = memory.arrays[name]
            if name in flow.data:
                self.data.add(key)
            if name in versions and versions[name] not in operands and partial(inner, name):
                operands = (*operands, versions[name])
            before = (versions[stores[0]],) if at else ()
            self.steps.append(
                Step(where, block or "loop", operands + before, key, decisions if not at else ())
            )
            versions[name] = key
            # What is written later must not change this version.
            memory.arrays[name] = memory.arrays[name].view()
            memory.arrays[name].flags.writeable = False
        once_more = Again(
            tuple(versions[name] for name in stores),
            lambda values, trials: rerun.outcome(stores, self.fixed(values), trials),
            rerun.numbers,
        )
        self.again.update(dict.fromkeys(once_more.results, once_more))

    def fixed(self, values: Mapping[int, Array]) -> Mapping[int, Array]:
        """These, and all that depends on no input."""
        held = {key: value[:1] for key, value in self.values.items() if key not in self.data}
        return {**held, **values}


def top(body: tuple[Statement, ...]) -> Iterable[Statement]:
    """The statements below blocks that only group them."""
    for one in body:
        if isinstance(one, Block) and not one.axes and not one.init:
            yield from top(one.body)
        else:
            yield one


def reads(body: tuple[Statement, ...], stores: list[str], versions: Mapping[str, int]) -> list[str]:
    """Names of the buffers whose content it starts from."""
    fresh = {
        one.buffer
        for block in statements(body)
        if isinstance(block, Block)
        for one in block.init
        if isinstance(one, Store)
    }
    names: dict[str, None] = {}
    for expression in expressions(body):
        for part in walk(expression):
            if isinstance(part, Load) and part.buffer in versions:
                begun = part.buffer in fresh and part.buffer in stores
                names.update({} if begun else {part.buffer: None})
    return list(names)


def partial(inner: tuple[Statement, ...], name: str) -> bool:
    """Whether something of the buffer's old content may stay: assumed of every buffer."""
    return any(isinstance(one, Store) and one.buffer == name for one in inner)
