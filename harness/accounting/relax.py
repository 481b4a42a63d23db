"""A Relax function, interpreted on the model's random inputs: every intermediate value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from harness.accounting import tir, tir_script
from harness.accounting.fingerprint import Values
from harness.accounting.interface import (
    Again,
    Array,
    Decision,
    NotInterpretedError,
    Step,
    Trace,
)
from harness.accounting.relax_ops import OPERATORS, decisions
from harness.accounting.relax_script import (
    Binding,
    Call,
    Constant,
    Dims,
    Expression,
    Global,
    Item,
    Items,
    Literal,
    Number,
    Reference,
    Type,
    functions_of,
    syntax,
)
from harness.accounting.relax_values import typed
from harness.accounting.rerun import outside
from harness.accounting.tir_block import Memory
from harness.accounting.tir_decisions import Flow
from harness.text import printable

STORED = {"float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64",
          "uint8", "uint16", "uint32", "uint64"}  # fmt: skip
ENTRY = "main"
MOST_ELEMENTS = 2**30  # of all values together
FEW = 16  # elements of a constant that is as good as numbers


def trace(
    text: bytes,
    inputs: Mapping[str, Array],
    constants: Mapping[str, bytes],
    *,
    known: Values | None = None,
    what: str = "graph/module.py",
) -> Trace:
    """``main`` of a Relax module.

    inputs: name → ``(trials, *shape)``, in the order of the function's parameters.
    constants: sha256 → the raw bytes with it.
    known: the model's values; what equals one of them goes on as that one.
    what: how to call the file in an error.
    """
    tree = syntax(text, what)
    found = functions_of(tree, what)
    if ENTRY not in found:
        raise NotInterpretedError(f"{what} has no function {ENTRY}")
    if len(found) > 1:
        raise NotInterpretedError(f"{what} has more Relax functions than {ENTRY}")
    program = tir.Program(found[ENTRY], tir_script.functions_of(tree, what))
    return Interpreter(program, inputs, constants, known, what).trace()


def constants_of(model: onnx.ModelProto) -> dict[str, bytes]:
    """sha256 → raw bytes of each tensor that an ONNX model holds."""
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        tensors += [item.t for item in node.attribute if item.HasField("t")]
    raw = [numpy_helper.to_array(tensor).tobytes() for tensor in tensors]
    return {hashlib.sha256(data).hexdigest(): data for data in raw}


@dataclass(frozen=True)
class Held:
    """A value by key. ``moving``: it depends on an input, and is over all trials."""

    key: int
    value: Array
    moving: bool


Evaluated = Any  # Held, or a plain value, or a tuple of these


class Interpreter:
    def __init__(
        self,
        program: tir.Program,
        inputs: Mapping[str, Array],
        constants: Mapping[str, bytes],
        known: Values | None,
        what: str,
    ) -> None:
        self.program = program
        self.function = program.main
        self.inputs = inputs
        self.bytes = constants
        self.known = known
        self.what = what
        self.room = MOST_ELEMENTS
        self.bound: dict[int, Evaluated] = {}
        self.values: dict[int, Array] = {}
        self.steps: list[Step] = []
        self.constants: dict[int, str] = {}
        self.again: dict[int, Again] = {}
        self.held: dict[tuple[str, str, tuple[int, ...]], Held] = {}
        lengths = {len(value) for value in inputs.values()}
        if len(lengths) != 1:
            raise NotInterpretedError("inputs of different numbers of trials")
        self.trials = lengths.pop()

    def trace(self) -> Trace:
        names: dict[str, int] = {}
        if len(self.function.parameters) != len(self.inputs):
            raise NotInterpretedError(
                f"{self.what}: {ENTRY} takes {len(self.function.parameters)} inputs, "
                f"the model has {len(self.inputs)}"
            )
        for parameter, (name, value) in zip(
            self.function.parameters, self.inputs.items(), strict=True
        ):
            if parameter.type.shape != value.shape[1:]:
                raise NotInterpretedError(
                    f"{self.what}: {printable(parameter.name, 80)} has shape "
                    f"{parameter.type.shape}, the model's input {value.shape[1:]}"
                )
            given = self.keep(value, True)
            self.bound[parameter.key] = given
            names[name] = given.key
        for binding in self.function.bindings:
            self.bind(binding)
        return Trace(
            self.what,
            names,
            tuple(self.flat(self.evaluate(self.function.result), "the result")),
            tuple(self.steps),
            self.values,
            self.constants,
            self.again,
        )

    def keep(self, value: Array, moving: bool) -> Held:
        key = len(self.values)
        self.room -= value.size
        if self.room < 0:
            raise NotInterpretedError(f"{self.what}: more than {MOST_ELEMENTS} elements in all")
        if not moving:
            value = np.asarray(value)
            self.values[key] = np.broadcast_to(value, (self.trials, *value.shape))
        else:
            self.values[key] = value
        return Held(key, value, moving)

    def flat(self, value: Evaluated, where: str) -> list[int]:
        if isinstance(value, Held):
            return [value.key]
        if isinstance(value, tuple) and value:
            return [key for item in value for key in self.flat(item, where)]
        raise NotInterpretedError(f"{self.what}, {where}: no tensor")

    def bind(self, binding: Binding) -> None:
        where = f"{ENTRY}, {printable(binding.name, 80)} (line {binding.line})"
        if isinstance(binding.value, Call):
            result = self.call(binding.value, binding, where)
        else:
            result = self.evaluate(binding.value)
        if isinstance(result, Held) and binding.type is not None:
            shape = result.value.shape[1:] if result.moving else result.value.shape
            if shape != binding.type.shape:
                raise NotInterpretedError(
                    f"{self.what}, {where}: has shape {shape}, not {binding.type.shape}"
                )
            kind = np.dtype(np.float64) if binding.type.dtype.startswith(("f", "bf")) else None
            if result.value.dtype != (kind or np.dtype(binding.type.dtype)):
                raise NotInterpretedError(
                    f"{self.what}, {where}: is {result.value.dtype}, not {binding.type.dtype}"
                )
        self.bound[binding.key] = result

    # Expressions.

    def evaluate(self, node: Expression) -> Evaluated:
        match node:
            case Reference(key=key):
                return self.bound[key]
            case Constant():
                return self.constant(node)
            case Number(value=value, dtype=dtype):
                return self.number(value, dtype)
            case Literal(value=value):
                return value
            case Dims(shape=shape):
                return shape
            case Items(items=items):
                return tuple(self.evaluate(item) for item in items)
            case Item(of=of, index=index):
                whole = self.evaluate(of)
                if isinstance(whole, tuple) and 0 <= index < len(whole):
                    return whole[index]
        raise NotInterpretedError(f"{self.what}: a {type(node).__name__} where a value should be")

    def constant(self, node: Constant) -> Held:
        label = (node.digest, node.dtype, node.shape)
        if label not in self.held:
            data = self.bytes.get(node.digest)
            if data is None:
                raise NotInterpretedError(
                    f"{self.what}: the constant sha256:{node.digest} is not known"
                )
            if node.dtype not in STORED:
                raise NotInterpretedError(f"{self.what}: a constant of type {node.dtype}")
            stored = np.frombuffer(data, np.dtype(node.dtype))
            if stored.size != int(np.prod(node.shape)):
                raise NotInterpretedError(
                    f"{self.what}: the constant sha256:{node.digest} is not of its shape"
                )
            self.held[label] = self.keep(typed(stored.reshape(node.shape), node.dtype), False)
            self.constants[self.held[label].key] = node.digest
        return self.held[label]

    def number(self, value: float, dtype: str) -> Held:
        if dtype not in STORED:
            raise NotInterpretedError(f"{self.what}: a number of type {printable(dtype, 40)}")
        with np.errstate(over="ignore"):
            stored = np.asarray(value).astype(np.dtype(dtype))
        digest = hashlib.sha256(stored.tobytes()).hexdigest()
        label = (digest, dtype, ())
        if label not in self.held:
            self.held[label] = self.keep(typed(stored, dtype), False)
            self.constants[self.held[label].key] = digest
        return self.held[label]

    # Calls.

    def call(self, node: Call, binding: Binding, where: str) -> Evaluated:
        if node.operator == "R.call_tir":
            return self.call_tir(node, where)
        operator = OPERATORS.get(node.operator)
        if operator is None:
            raise NotInterpretedError(
                f"{self.what}, {where}: the operator {printable(node.operator, 80)} is not known"
            )
        arguments = [self.evaluate(item) for item in node.arguments]
        keywords = {name: self.evaluate(item) for name, item in node.keywords.items()}
        if any(holds(value) for value in keywords.values()):
            raise NotInterpretedError(f"{self.what}, {where}: a tensor given by keyword")
        if node.operator == "R.shape_of":
            return self.shape_of(arguments, where)
        moving = [moves(argument) for argument in arguments]
        compute = operator.compute

        def run(values: Mapping[int, Array], trials: int) -> list[Any]:
            with np.errstate(all="ignore"):
                return [
                    compute(*(at(a, trial, values) for a in arguments), **keywords)
                    for trial in range(trials)
                ]

        try:
            results = run(self.values, self.trials if any(moving) else 1)
        except Exception as error:
            # Numpy and Python raise what they like at arguments that do not fit.
            raise NotInterpretedError(
                f"{self.what}, {where}: {printable(node.operator, 80)}: "
                f"{type(error).__name__}: {printable(str(error), 160)}"
            ) from error
        made = decisions(
            node.operator, moving, [at(a, 0, self.values) for a in arguments], keywords
        )
        shown = tuple(Decision(choice, where, binding.text) for choice in made)
        operands = [key for a in arguments if holds(a) for key in self.keys(a)]
        count = len(results[0]) if isinstance(results[0], tuple) else 1
        whole = [r if isinstance(r, tuple) else (r,) for r in results]
        found = tuple(
            self.step(where, node.operator, operands, [r[i] for r in whole], any(moving), shown)
            for i in range(count)
        )
        if any(moving):
            keys = tuple(one.key for one in found)
            once_more = Again(
                keys,
                lambda values, trials: stacked(run(values, trials)),
                lambda: tuple(numbers((arguments, keywords))),
            )
            self.again.update(dict.fromkeys(keys, once_more))
        return found if isinstance(results[0], tuple) else found[0]

    def shape_of(self, arguments: Sequence[Evaluated], where: str) -> tuple[int, ...]:
        if len(arguments) != 1 or not isinstance(arguments[0], Held):
            raise NotInterpretedError(f"{self.what}, {where}: cannot read this shape_of")
        shape = arguments[0].value.shape
        return tuple(shape[1:] if arguments[0].moving else shape)

    def step(
        self,
        where: str,
        operation: str,
        operands: Sequence[int],
        results: Sequence[Any],
        moving: bool,
        made: tuple[Decision, ...],
    ) -> Held:
        value = np.stack([np.asarray(r) for r in results]) if moving else np.asarray(results[0])
        return self.stepped(where, operation, operands, value, moving, made)

    def stepped(
        self,
        where: str,
        operation: str,
        operands: Sequence[int],
        value: Array,
        moving: bool,
        made: tuple[Decision, ...],
        *,
        settled: bool = False,
    ) -> Held:
        if value.dtype.kind == "f":
            value = value.astype(np.float64, copy=False)
        if moving and self.known is not None and not settled:
            value = self.known.settled(value)
        held = self.keep(value, moving)
        self.steps.append(
            Step(where, printable(operation, 80), tuple(operands), held.key, made)
        )  # fmt: skip
        return held

    def call_tir(self, node: Call, where: str) -> Evaluated:
        match node.arguments, dict(node.keywords):
            case (Global(name=name), Items() as given), {"out_ty": kind}:
                pass
            case (Global(name=name), Items() as given), {"out_sinfo": kind}:
                pass
            case _:
                raise NotInterpretedError(f"{self.what}, {where}: cannot read this call_tir")
        kinds = [kind] if isinstance(kind, Type) else getattr(kind, "items", ())
        types = [item for item in kinds if isinstance(item, Type)]
        arguments = [self.evaluate(item) for item in given.items]
        function = self.program.functions.read.get(name)
        if (
            len(node.keywords) != 1
            or function is None
            or not types
            or len(types) != len(kinds)
            or not all(isinstance(argument, Held) for argument in arguments)
        ):
            raise NotInterpretedError(f"{self.what}, {where}: cannot read this call_tir")
        inner = Settling(self.program, self.inputs, {}, known=self.known)
        inner.trials = self.trials
        held: dict[int, Held] = {}
        for argument, buffer in zip(arguments, function.parameters, strict=False):
            key = inner.key(function.buffers[buffer].dtype)
            held[key] = argument
            inner.values[key] = self.values[argument.key]
            if argument.moving:
                inner.data.add(key)
        results = inner.call(function, tuple(held), types, where)
        for step in inner.steps:
            operands = [held[key].key for key in step.operands]
            moving = any(held[key].moving for key in step.operands)
            value = inner.values[step.result]
            value = np.broadcast_to(value, (self.trials, *value.shape[1:])) if moving else value[0]
            held[step.result] = self.stepped(
                f"{where}, {step.where}", step.operation, operands, value, moving, step.decisions,
                settled=True,
            )  # fmt: skip
        for one in dict.fromkeys(inner.again.values()):
            if any(held[key].moving for key in one.results):
                once_more = outside(one, {key: each.key for key, each in held.items()})
                self.again.update(dict.fromkeys(once_more.results, once_more))
        found = tuple(held[key] for key in results)
        return found[0] if isinstance(kind, Type) else found

    def keys(self, argument: Evaluated) -> list[int]:
        if isinstance(argument, Held):
            return [argument.key]
        if isinstance(argument, tuple):
            return [key for item in argument for key in self.keys(item)]
        return []


@dataclass
class Settling(tir.Interpreter):
    """Goes on with the model's own values inside a function too.

    Else a value one step after one of the model's is off by what was folded in float32 before,
    and cannot be told from one that was meant to be off.
    """

    known: Values | None = None

    def execute(
        self, statement: tir_script.Statement, memory: Memory, flow: Flow
    ) -> None:  # fmt: skip
        super().execute(statement, memory, flow)
        if self.known is None:
            return
        for one in tir_script.statements((statement,)):
            if not isinstance(one, tir_script.Store) or one.buffer in memory.gaps:
                continue
            array = memory.arrays[one.buffer]
            if len(array) == self.trials:
                memory.arrays[one.buffer] = self.known.settled(array)
                memory.arrays[one.buffer].flags.writeable = False


def holds(argument: Evaluated) -> bool:
    if isinstance(argument, tuple):
        return any(holds(item) for item in argument)
    return isinstance(argument, Held)


def moves(argument: Evaluated) -> bool:
    if isinstance(argument, tuple):
        return any(moves(item) for item in argument)
    return isinstance(argument, Held) and argument.moving


def at(argument: Evaluated, trial: int, values: Mapping[int, Array]) -> Any:
    """The argument as the operator takes it, in one trial."""
    if isinstance(argument, Held):
        return values[argument.key][trial] if argument.moving else argument.value
    if isinstance(argument, tuple):
        return tuple(at(item, trial, values) for item in argument)
    return argument


def stacked(results: Sequence[Any]) -> tuple[Array, ...]:
    """The results of a call, each over all trials."""
    whole = [r if isinstance(r, tuple) else (r,) for r in results]
    return tuple(np.stack([np.asarray(one) for one in each]) for each in zip(*whole, strict=True))


def numbers(argument: Any) -> Iterator[float]:
    """Single numbers that a call is given, attributes and small constants included."""
    if isinstance(argument, bool | str) or argument is None:
        return
    if isinstance(argument, int | float):
        yield float(argument)
    elif isinstance(argument, Held):
        if not argument.moving and argument.value.size <= FEW:
            yield from np.asarray(argument.value, np.float64).ravel().tolist()
    elif isinstance(argument, dict):
        yield from (one for item in argument.values() for one in numbers(item))
    elif isinstance(argument, list | tuple):
        yield from (one for item in argument for one in numbers(item))
