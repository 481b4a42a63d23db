"""Follows the instructions of the virtual machine: what each register and piece of memory holds.

A builtin has one meaning, which is written down here. What an instruction does beyond the next call
of tensor-ir's ``main`` is said of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.accounting import relax_script as relax
from harness.accounting.vm_executable import (
    CALL,
    MACHINE,
    RET,
    VOID,
    Argument,
    ArgumentKind,
    DataType,
    Executable,
    FunctionKind,
    Instruction,
    PoolShape,
    PoolTensor,
    VmFunction,
)
from harness.text import printable

BUILTIN = "vm.builtin."
MAX_MESSAGE = 2_000  # characters of the text of an error
SHOWN = 160

WIDTH = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "bfloat16": 2,
    "int32": 4, "uint32": 4, "float32": 4, "int64": 8, "uint64": 8, "float64": 8,
}  # fmt: skip
# What a value is: ("input", number), ("constant", type, shape, sha256), ("call", number, output).
Term = tuple[object, ...]
Value = tuple[Term, tuple[int, ...]] | list["Value"]  # with its shape


@dataclass
class Memory:
    """Storage, or the whole of an input or a constant. ``holds``: (start, end, what) of it."""

    size: int
    writable: bool
    holds: list[tuple[int, int, Term]] = field(default_factory=list)

    def write(self, start: int, end: int, term: Term) -> None:
        self.holds = [one for one in self.holds if one[1] <= start or one[0] >= end]
        self.holds.append((start, end, term))

    def intact(self, start: int, end: int, term: Term | None) -> bool:
        return start == end or (start, end, term) in self.holds


@dataclass
class Held:
    """A tensor as a register holds it.

    ``term``: which value of ``main`` it is, ``content``: as which its memory was written; they
    differ where the value only has another shape. None until something is written.
    """

    memory: Memory
    start: int
    dtype: str
    shape: tuple[int, ...]
    term: Term | None = None
    content: Term | None = None

    @property
    def end(self) -> int:
        return self.start + _bytes(self.dtype, self.shape)


Register = Held | Memory | tuple["Register", ...] | None


@dataclass(frozen=True)
class Expected:
    """A call of ``main``: its operands, and the types of what it writes."""

    function: str
    operands: tuple[tuple[Term, tuple[int, ...]], ...]
    outputs: tuple[relax.Type, ...]


class Stop(Exception):  # noqa: N818 (an answer, not a failure)
    """Says what an instruction does that ``main`` does not ask for."""


class Walk:
    """One run over the instructions, in order; there are no jumps."""

    def __init__(
        self,
        executable: Executable,
        function: VmFunction,
        main: relax.Function,
        expected: Sequence[Expected],
        result: Value,
        is_copy: Callable[[str], bool],
    ) -> None:
        self.executable = executable
        self.function = function
        self.main = main
        self.expected = expected
        self.result = result
        self.is_copy = is_copy
        self.registers: dict[int, Register] = {}
        self.constants: dict[int, Held] = {}
        self.next = 0  # of the expected calls
        self.used: set[int] = set()
        for number, parameter in enumerate(main.parameters):
            kind = parameter.type
            memory = Memory(_bytes(kind.dtype, kind.shape), writable=False)
            term = ("input", number)
            memory.write(0, memory.size, term)
            self.registers[number] = Held(memory, 0, kind.dtype, kind.shape, term, term)

    def run(self) -> Iterator[tuple[int, str]]:
        """Each instruction's number, with what is wrong with it or ``""``."""
        names = tuple(parameter.name for parameter in self.main.parameters)
        first = self.function.start
        own = self.function
        called = len(own.parameters) == len(names) and all(map(_prints, own.parameters, names))
        if not called or own.arguments != len(names):
            yield first, "its parameters are not those of tensor-ir's main"
        returned = False
        for number in range(own.start, own.end):
            one = self.executable.instructions[number]
            try:
                if returned:
                    raise Stop("it follows the return, and never runs")
                if one.operation == CALL:
                    self._call(one)
                elif one.operation == RET:
                    returned = True
                    self._return(one)
                else:
                    raise Stop("a jump: the graph has no branches")
            except Stop as stop:
                yield number, printable(str(stop), 2 * SHOWN)
            else:
                yield number, ""
        if not returned and own.end > own.start:
            yield own.end - 1, "the function ends without a return"

    # What an argument is.

    def _constant(self, argument: Argument) -> object:
        if argument.kind is not ArgumentKind.CONSTANT:
            raise Stop("an argument that has to be a constant is none")
        if not 0 <= argument.value < len(self.executable.constants):
            raise Stop(f"constant {argument.value} does not exist")
        self.used.add(argument.value)
        return self.executable.constants[argument.value]

    def _shape(self, argument: Argument) -> tuple[int, ...]:
        found = self._constant(argument)
        if not isinstance(found, PoolShape) or any(side < 0 for side in found.sides):
            raise Stop("an argument that has to be a shape is none")
        return found.sides

    def _type(self, argument: Argument) -> str:
        found = self._constant(argument)
        if not isinstance(found, DataType) or found.lanes != 1:
            raise Stop("an argument that has to be a type is none")
        return found.name

    def _number(self, argument: Argument) -> int:
        if argument.kind is not ArgumentKind.IMMEDIATE:
            raise Stop("an argument that has to be a number is none")
        return argument.value

    def _message(self, argument: Argument) -> None:
        """The text of an error: it is shown to the user, and nothing computes with it."""
        text = self._constant(argument)
        if not isinstance(text, str) or len(text) > MAX_MESSAGE or not text.isprintable():
            raise Stop("the text of an error is no plain text")

    def _register(self, argument: Argument) -> Register:
        if argument.kind is not ArgumentKind.REGISTER:
            raise Stop("an argument that has to be a register is none")
        if argument.value not in self.registers:
            raise Stop(f"register {argument.value} holds nothing yet")
        return self.registers[argument.value]

    def _tensor(self, argument: Argument) -> Held:
        if argument.kind is ArgumentKind.CONSTANT:
            found = self._constant(argument)
            if not isinstance(found, PoolTensor):
                raise Stop("a constant that has to be a tensor is none")
            if argument.value not in self.constants:
                term = ("constant", found.dtype.name, found.shape, found.sha256)
                memory = Memory(len(found.data), writable=False)
                memory.write(0, memory.size, term)
                self.constants[argument.value] = Held(
                    memory, 0, found.dtype.name, found.shape, term, term
                )
            return self.constants[argument.value]
        held = self._register(argument)
        if not isinstance(held, Held):
            raise Stop(f"register {argument.value} holds no tensor")
        return held

    def _read(self, argument: Argument) -> Held:
        """A tensor that has been written, and not been written over."""
        held = self._tensor(argument)
        if held.term is None:
            raise Stop("it reads a tensor that nothing has been written to")
        if not held.memory.intact(held.start, held.end, held.content):
            raise Stop("it reads a tensor whose memory has been written over since")
        return held

    def _keep(self, register: int, value: Register) -> None:
        if not 0 <= register < self.function.registers:
            raise Stop(f"register {register} does not exist")
        self.registers[register] = value

    # What a call does.

    def _call(self, one: Instruction) -> None:
        if not 0 <= one.target < len(self.executable.functions):
            raise Stop(f"function {one.target} does not exist")
        called = self.executable.functions[one.target]
        if called.kind is not FunctionKind.PACKED:
            raise Stop("a call of another graph")
        if not called.name.startswith(BUILTIN):
            return self._kernel(one, called.name)
        builtin = _BUILTINS.get(called.name.removeprefix(BUILTIN))
        if builtin is None:
            raise Stop("the meaning of this builtin is not known")
        return builtin(self, one)

    def _kernel(self, one: Instruction, name: str) -> None:
        if one.other != VOID:
            raise Stop("it keeps what a function of the library returns, which is nothing")
        if self.next >= len(self.expected):
            raise Stop("tensor-ir's main has no such call: all of its calls are done")
        call = self.expected[self.next]
        self.next += 1
        if call.function != name:
            raise Stop(f"tensor-ir's main calls {call.function} here")
        if len(one.arguments) != len(call.operands) + len(call.outputs):
            raise Stop("it has another number of operands than in tensor-ir's main")
        inputs = [self._read(argument) for argument in one.arguments[: len(call.operands)]]
        for at, (held, wanted) in enumerate(zip(inputs, call.operands, strict=True)):
            if (held.term, held.shape) != wanted:
                raise Stop(f"operand {at} is {_words(held.term)}, in tensor-ir {_words(wanted[0])}")
        written: list[Held] = []
        for at, kind in enumerate(call.outputs):
            held = self._tensor(one.arguments[len(inputs) + at])
            if not held.memory.writable:
                raise Stop("it writes to an input or a constant")
            if (held.dtype, held.shape) != (kind.dtype, kind.shape):
                raise Stop(f"its result {at} has another type than in tensor-ir's main")
            if any(_overlap(held, other) for other in (*inputs, *written)):
                raise Stop("it writes to memory that it reads from or writes to in the same call")
            written.append(held)
        for at, held in enumerate(written):
            held.term = held.content = ("call", self.next - 1, at)
            held.memory.write(held.start, held.end, held.term)

    def _return(self, one: Instruction) -> None:
        held = self._register(Argument(ArgumentKind.REGISTER, one.target))
        if not self._same(held, self.result):
            raise Stop("it returns another value than tensor-ir's main")
        if self.next < len(self.expected):
            raise Stop(f"tensor-ir's main also calls {self.expected[self.next].function}")

    def _same(self, held: Register, wanted: Value) -> bool:
        if isinstance(wanted, list):
            return (
                isinstance(held, tuple)
                and len(held) == len(wanted)
                and all(self._same(a, b) for a, b in zip(held, wanted, strict=True))
            )
        if not isinstance(held, Held) or held.term is None:
            return False
        if not held.memory.intact(held.start, held.end, held.content):
            raise Stop("the memory of what it returns has been written over since")
        return (held.term, held.shape) == wanted

    # The builtins.

    def _check_tensor_info(self, one: Instruction) -> None:
        held = self._tensor(_exactly(one, 4)[0])
        if held.term is None or held.term[0] != "input":
            raise Stop("it checks what is no input")
        sides, dtype = self._number(one.arguments[1]), self._type(one.arguments[2])
        if (sides, dtype) != (len(held.shape), held.dtype):
            raise Stop("it asks for another type than tensor-ir's main")
        self._message(one.arguments[3])
        _nothing_kept(one)

    def _match_shape(self, one: Instruction) -> None:
        if len(one.arguments) < 4:
            raise Stop("it has too few arguments")
        held = self._tensor(one.arguments[0])
        if held.term is None or held.term[0] != "input":
            raise Stop("it checks what is no input")
        if one.arguments[1] != Argument(ArgumentKind.REGISTER, VOID):
            raise Stop("it keeps sides of a shape, and the graph has none that vary")
        sides = self._number(one.arguments[2])
        if sides != len(held.shape) or len(one.arguments) != 4 + 2 * sides:
            raise Stop("it asks for another shape than tensor-ir's main")
        numbers = [self._number(argument) for argument in one.arguments[3:-1]]
        if numbers[0::2] != [0] * sides or tuple(numbers[1::2]) != held.shape:
            raise Stop("it asks for another shape than tensor-ir's main")
        self._message(one.arguments[-1])
        _nothing_kept(one)

    def _alloc_storage(self, one: Instruction) -> None:
        machine, shape, device, dtype, scope = _exactly(one, 5)
        if machine != Argument(ArgumentKind.REGISTER, MACHINE) or self._number(device) != 0:
            raise Stop("it takes memory somewhere else")
        if self._constant(scope) != "global":
            raise Stop("it takes memory of another kind")
        self._keep(one.other, Memory(_bytes(self._type(dtype), self._shape(shape)), writable=True))

    def _alloc_tensor(self, one: Instruction) -> None:
        storage, offset, shape, dtype = _exactly(one, 4)
        memory = self._register(storage)
        if not isinstance(memory, Memory):
            raise Stop("it takes a tensor out of what is no memory")
        held = Held(memory, self._number(offset), self._type(dtype), self._shape(shape))
        if held.start < 0 or held.end > memory.size:
            raise Stop("the tensor does not fit into its memory")
        self._keep(one.other, held)

    def _null_value(self, one: Instruction) -> None:
        _exactly(one, 0)
        self._keep(one.other, None)

    def _reshape(self, one: Instruction) -> None:
        given, shape = _exactly(one, 2)
        held, sides = self._read(given), self._shape(shape)
        if math.prod(sides) != math.prod(held.shape):
            raise Stop("it gives a tensor a shape with another number of elements")
        if self.next >= len(self.expected):
            raise Stop("tensor-ir's main has no such call: all of its calls are done")
        call = self.expected[self.next]
        self.next += 1
        if call.operands != ((held.term, held.shape),) or len(call.outputs) != 1:
            raise Stop(f"tensor-ir's main calls {call.function} here, on other values")
        if (call.outputs[0].dtype, call.outputs[0].shape) != (held.dtype, sides):
            raise Stop(f"the result of {call.function} has another type in tensor-ir's main")
        if not self.is_copy(call.function):
            raise Stop(f"tensor-ir's main calls {call.function} here, which is no reshape")
        term: Term = ("call", self.next - 1, 0)
        self._keep(one.other, Held(held.memory, held.start, held.dtype, sides, term, held.content))

    def _make_tuple(self, one: Instruction) -> None:
        items: list[Register] = [self._read(argument) for argument in one.arguments]
        self._keep(one.other, tuple(items))


def _prints(name: str, text: str) -> bool:
    """Whether a parameter of this name is printed so: as an identifier that is not taken yet."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return re.fullmatch(rf"_?{plain}(_[0-9]+)?", text) is not None


def _exactly(one: Instruction, count: int) -> tuple[Argument, ...]:
    if len(one.arguments) != count:
        raise Stop(f"it has {len(one.arguments)} arguments, not {count}")
    return one.arguments


def _nothing_kept(one: Instruction) -> None:
    if one.other != VOID:
        raise Stop("it keeps the result of a check, which is nothing")


def _overlap(one: Held, other: Held) -> bool:
    return one.memory is other.memory and one.start < other.end and other.start < one.end


def _bytes(dtype: str, shape: Sequence[int]) -> int:
    return math.prod(shape) * WIDTH.get(dtype, 8)


def _words(term: Term | None) -> str:
    if term is None:
        return "nothing"
    if term[0] == "constant":
        return f"the constant {str(term[3])[:12]}…"
    return f"input {term[1]}" if term[0] == "input" else f"result {term[2]} of call {term[1]}"


_BUILTINS: Mapping[str, Callable[[Walk, Instruction], None]] = {
    "check_tensor_info": Walk._check_tensor_info,
    "match_shape": Walk._match_shape,
    "alloc_storage": Walk._alloc_storage,
    "alloc_tensor": Walk._alloc_tensor,
    "null_value": Walk._null_value,
    "reshape": Walk._reshape,
    "make_tuple": Walk._make_tuple,
}
