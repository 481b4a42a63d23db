"""The executable of TVM's virtual machine, as it lies in the binary: our own reader.

The dumps of a build are claims. What ships is a blob in ``.rodata``: a list of modules, of which
one is the executable with its functions, its constants and its instructions. Everything here is
hostile: each count has a limit, and every byte is either read as a field or reported.

Layout (TVM 0.26 to 0.27.0.post1), little-endian: u64 length; u64 counts and u64 entries of the
import tree (row starts, then children); for each module its kind as a string and, but for the code
itself (``_lib``), its bytes. The executable: magic, version, functions, memory scopes, constants,
where each instruction starts, instruction words.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from harness.accounting.interface import NotInterpretedError
from harness.text import printable

MAGIC = 0xD225DE2F4214151E
TENSOR_MAGIC = 0xDD5E40F096B4A13F
VERSION = "0.14"
KIND = "relax.VMExecutable"
LIBRARY = "_lib"

MAX_MODULES = 16
MAX_FUNCTIONS = 20_000
MAX_PARAMETERS = 4_096
MAX_CONSTANTS = 100_000
MAX_INSTRUCTIONS = 500_000
MAX_WORDS = 8_000_000
MAX_ARGUMENTS = 4_096
MAX_NAME = 16_384  # bytes; names of fused functions are long
MAX_TEXT = 1_000_000  # bytes of a string constant
MAX_DIMENSIONS = 16
SHOWN = 120

VOID = 1 << 54
MACHINE = VOID + 1
CALL, RET, GOTO, IF = 1, 2, 3, 4
# Words of an instruction without the arguments of a call.
WORDS = {CALL: 4, RET: 2, GOTO: 2, IF: 3}
CODES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 6: "bool"}


class FunctionKind(IntEnum):
    """Where a function is found: in the library or the runtime, in the instructions, neither."""

    PACKED = 0
    BYTECODE = 1
    TIR = 2


class ArgumentKind(IntEnum):
    REGISTER = 0
    IMMEDIATE = 1
    CONSTANT = 2
    FUNCTION = 3


_FUNCTIONS = {int(kind): kind for kind in FunctionKind}
_ARGUMENTS = {int(kind): kind for kind in ArgumentKind}


@dataclass(frozen=True)
class DataType:
    """A name as numpy has it (``float32``, ``bool``); ``lanes`` is 1 but for vectors."""

    name: str
    bits: int
    lanes: int = 1

    def __str__(self) -> str:
        return self.name if self.lanes == 1 else f"{self.name}x{self.lanes}"


@dataclass(frozen=True)
class PoolTensor:
    """``start``: where ``data`` lies in the executable, in bytes."""

    dtype: DataType
    shape: tuple[int, ...]
    data: bytes
    start: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class PoolShape:
    sides: tuple[int, ...]


Constant = PoolTensor | PoolShape | DataType | str | int | float


@dataclass(frozen=True)
class VmFunction:
    kind: FunctionKind
    name: str
    start: int
    end: int
    arguments: int
    registers: int
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Argument:
    kind: ArgumentKind
    value: int


@dataclass(frozen=True)
class Instruction:
    """``operation``: CALL, RET, GOTO or IF.

    ``target``: the function of a call, the register of a return or a condition, the offset of a
    jump. ``other``: the register that a call writes, the offset of a condition.
    """

    operation: int
    target: int
    other: int = VOID
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True)
class Executable:
    """``oddities``: bytes that no compiler writes so and that nothing needs; one line each."""

    functions: tuple[VmFunction, ...]
    scopes: tuple[tuple[int, str], ...]
    constants: tuple[Constant, ...]
    instructions: tuple[Instruction, ...]
    oddities: tuple[str, ...]


class _Reader:
    def __init__(self, data: memoryview, what: str) -> None:
        self.data = data
        self.at = 0
        self.what = what
        self.oddities: list[str] = []

    def broken(self, problem: str) -> NotInterpretedError:
        return NotInterpretedError(f"{self.what}, byte {self.at:,}: {problem}")

    def take(self, size: int, of: str) -> memoryview:
        if size < 0 or size > len(self.data) - self.at:
            raise self.broken(f"{of} goes beyond the end")
        self.at += size
        return self.data[self.at - size : self.at]

    def unsigned(self, of: str) -> int:
        return int.from_bytes(self.take(8, of), "little")

    def signed(self, of: str, size: int = 8) -> int:
        return int.from_bytes(self.take(size, of), "little", signed=True)

    def count(self, of: str, limit: int) -> int:
        found = self.unsigned(f"the number of {of}")
        if found > limit:
            raise self.broken(f"{found:,} {of}; {limit:,} are read at most")
        return found

    def words(self, of: str, limit: int) -> tuple[int, ...]:
        count = self.count(of, limit)
        return struct.unpack(f"<{count}q", self.take(8 * count, of))

    def string(self, of: str, limit: int = MAX_NAME) -> str:
        raw = bytes(self.take(self.count(f"bytes of {of}", limit), of))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.broken(f"{of} is not UTF-8") from error

    def odd(self, text: str) -> None:
        if len(self.oddities) < SHOWN:
            self.oddities.append(text)

    def finished(self, of: str) -> None:
        if self.at != len(self.data):
            self.odd(f"{len(self.data) - self.at:,} bytes follow {of}: nothing reads them")


def read_library_blob(blob: bytes) -> Executable:
    """The executable in the content of the library's data symbol.

    Raises NotInterpretedError for anything but one executable that imports the code beside it.
    """
    reader = _Reader(memoryview(blob), "the library's data")
    length = reader.unsigned("the length")
    if length > len(blob) - 8:
        raise reader.broken("it is longer than its symbol")
    reader.data = reader.data[: 8 + length]
    rows = reader.words("rows of the import tree", MAX_MODULES + 1)
    children = reader.words("children of the import tree", MAX_MODULES)
    modules: list[tuple[str, memoryview]] = []
    while reader.at < len(reader.data) and len(modules) < MAX_MODULES:
        kind = reader.string("a module's kind")
        content = memoryview(b"")
        if kind != LIBRARY:
            content = reader.take(reader.unsigned("a module's length"), "a module")
        modules.append((kind, content))
    reader.finished("the modules")
    kinds = [kind for kind, _ in modules]
    if kinds != [KIND, LIBRARY] or rows != (0, 1, 1) or children != (1,):
        shown = ", ".join(printable(kind, 40) for kind in kinds)
        raise NotInterpretedError(
            f"the library's data holds the modules {shown or 'none'} in an order that is not known",
            "one executable that imports the code is read",
        )
    found = read_executable(modules[0][1])
    if len(blob) > 8 + length:
        reader.odd(f"{len(blob) - 8 - length:,} bytes follow the modules within the symbol")
    return Executable(
        found.functions, found.scopes, found.constants, found.instructions,
        (*reader.oddities, *found.oddities),
    )  # fmt: skip


def read_executable(data: memoryview | bytes) -> Executable:
    """Raises NotInterpretedError, naming the place, for what is not such an executable."""
    reader = _Reader(memoryview(data), "the executable")
    if reader.unsigned("the magic number") != MAGIC:
        raise reader.broken("its magic number is not known")
    version = reader.string("the version")
    if version != VERSION:
        raise reader.broken(f"its version is {printable(version, 40)}, not {VERSION}")
    functions = tuple(_function(reader) for _ in range(reader.count("functions", MAX_FUNCTIONS)))
    scopes = tuple(
        (reader.signed("a scope"), reader.string("a scope"))
        for _ in range(reader.count("memory scopes", MAX_CONSTANTS))
    )
    constants = tuple(
        _constant(reader, number)
        for number in range(reader.count("constants", MAX_CONSTANTS))
    )  # fmt: skip
    starts = reader.words("instructions", MAX_INSTRUCTIONS)
    words = reader.words("words of instructions", MAX_WORDS)
    reader.finished("the instructions")
    instructions = _instructions(reader, starts, words)
    _check_functions(reader, functions, len(instructions))
    return Executable(functions, scopes, constants, instructions, tuple(reader.oddities))


def _function(reader: _Reader) -> VmFunction:
    kind = reader.signed("a function's kind", 4)
    if kind not in _FUNCTIONS:
        raise reader.broken(f"a function of kind {kind}")
    name = reader.string("a function's name")
    start, end, arguments, registers = (reader.signed("a function's numbers") for _ in range(4))
    count = reader.count("parameters", MAX_PARAMETERS)
    parameters = tuple(reader.string("a parameter's name") for _ in range(count))
    found = VmFunction(_FUNCTIONS[kind], name, start, end, arguments, registers, parameters)
    if kind == FunctionKind.PACKED and (
        (start, end, arguments, registers, parameters) != (0, 0, -2, 0, ())
    ):
        reader.odd(f"function {printable(name, SHOWN)} has numbers that nothing reads")
    return found


def _data_type(reader: _Reader) -> DataType:
    code, bits, lanes = struct.unpack("<BBH", reader.take(4, "a type"))
    if code == 3 and bits == 0 and lanes == 0:
        return DataType("void", 0, 0)
    if code not in CODES or not bits or not lanes:
        raise reader.broken(f"a type of code {code}, {bits} bits and {lanes} lanes")
    name = "bool" if code == 6 or (code == 1 and bits == 1) else f"{CODES[code]}{bits}"
    return DataType(name, bits, lanes)


def _constant(reader: _Reader, number: int) -> Constant:
    kind = reader.signed("a constant's kind", 4)
    if kind == 70:
        return _tensor(reader, number)
    if kind == 69:
        return PoolShape(reader.words("sides of a shape", MAX_DIMENSIONS))
    if kind == 65:
        return reader.string("a string constant", MAX_TEXT)
    if kind == 5:
        return _data_type(reader)
    if kind == 1:
        return reader.signed("a whole number")
    if kind == 3:
        return float(struct.unpack("<d", reader.take(8, "a number"))[0])
    raise reader.broken(f"constant {number} is of kind {kind}")


def _tensor(reader: _Reader, number: int) -> PoolTensor:
    if reader.unsigned("a tensor's magic number") != TENSOR_MAGIC:
        raise reader.broken(f"constant {number} is no tensor of a known layout")
    if reader.unsigned("a reserved field"):
        reader.odd(f"constant {number}: its reserved field is not zero")
    device = reader.signed("a device", 4), reader.signed("a device", 4)
    if device != (1, 0):
        reader.odd(f"constant {number}: it says device {device[0]}:{device[1]}, not the CPU")
    sides = reader.signed("the number of dimensions", 4)
    if not 0 <= sides <= MAX_DIMENSIONS:
        raise reader.broken(f"constant {number} has {sides} dimensions")
    dtype = _data_type(reader)
    shape = struct.unpack(f"<{sides}q", reader.take(8 * sides, "a shape"))
    size = reader.signed("a tensor's size")
    if any(side < 0 for side in shape):
        raise reader.broken(f"constant {number} has a negative side")
    if size != math.prod(shape) * ((dtype.bits + 7) // 8) or dtype.lanes != 1:
        raise reader.broken(f"constant {number}: {size:,} bytes do not fit its type and shape")
    start = reader.at
    return PoolTensor(dtype, shape, bytes(reader.take(size, "a tensor's data")), start)


def _instructions(
    reader: _Reader, starts: Sequence[int], words: Sequence[int]
) -> tuple[Instruction, ...]:
    """Each word belongs to one instruction: they lie one after the other, without gaps."""
    found = []
    at = 0
    for number, start in enumerate(starts):
        if start != at:
            raise reader.broken(f"instruction {number} does not start where the last one ends")
        operation = words[at] if at < len(words) else -1
        size = WORDS.get(operation, 0)
        if not size or at + size > len(words):
            raise reader.broken(f"instruction {number} has the unknown code {operation}, or is cut")
        if operation == CALL:
            into, function, count = words[at + 1 : at + 4]
            if not 0 <= count <= MAX_ARGUMENTS or at + 4 + count > len(words):
                raise reader.broken(f"instruction {number} has {count} arguments")
            size += count
            arguments = tuple(_argument(reader, word) for word in words[at + 4 : at + 4 + count])
            found.append(Instruction(CALL, function, into, arguments))
        elif operation == IF:
            found.append(Instruction(IF, words[at + 1], words[at + 2]))
        else:
            found.append(Instruction(operation, words[at + 1]))
        at += size
    if at != len(words):
        reader.odd(f"{len(words) - at:,} words follow the last instruction: nothing reads them")
    return tuple(found)


def _argument(reader: _Reader, word: int) -> Argument:
    kind = _ARGUMENTS.get((word >> 56) & 0xFF)
    if kind is None:
        raise reader.broken(f"an argument of kind {(word >> 56) & 0xFF}")
    value = word & ((1 << 56) - 1)
    return Argument(kind, value - (1 << 56) if value >> 55 else value)


def _check_functions(reader: _Reader, functions: Sequence[VmFunction], count: int) -> None:
    """A name once, and each instruction in one function."""
    if len({function.name for function in functions}) < len(functions):
        reader.odd("two functions have one name: the last one counts")
    done = 0
    for function in functions:
        if function.kind is FunctionKind.PACKED:
            continue
        inside = function.start == done <= function.end <= count
        if function.kind is FunctionKind.BYTECODE and inside:
            done = function.end
        else:
            raise reader.broken(f"function {printable(function.name, SHOWN)} is not laid out so")
    if done != count:
        reader.odd(f"instructions that belong to no function: {count - done:,}")


def as_text(executable: Executable) -> str:
    """The executable as TVM prints it: what ``bytecode/executable.txt`` has to be."""
    names = [function.name for function in executable.functions]
    pieces: list[str] = []
    for function in executable.functions:
        if function.kind is not FunctionKind.BYTECODE:
            pieces.append(f"@{function.name} packed_func;\n\n")
            continue
        pieces.append(f"@{function.name}:\n")
        for one in executable.instructions[function.start : function.end]:
            pieces.append(f"  {line(one, names)}\n")
        pieces.append("\n")
    return "".join(pieces)


def line(one: Instruction, names: Sequence[str]) -> str:
    """One instruction as TVM prints it. names: of the functions."""
    if one.operation == CALL:
        shown = ", ".join(_shown(argument, names) for argument in one.arguments)
        called = _named(one.target, names)
        return f"{'call':6}{called:16} in: {shown:12} dst: {_register(one.other)}"
    if one.operation == RET:
        return f"{'ret ':6}{_register(one.target)}"
    if one.operation == GOTO:
        return f"{'goto':6}{one.target}"
    return f"{'If':6}{_register(one.target)}, {one.other}"


def _named(index: int, names: Sequence[str]) -> str:
    return names[index] if 0 <= index < len(names) else f"unknown_func_index({index})"


def _shown(argument: Argument, names: Sequence[str]) -> str:
    if argument.kind is ArgumentKind.REGISTER:
        return _register(argument.value)
    if argument.kind is ArgumentKind.FUNCTION:
        return f"f[{_named(argument.value, names)}]"
    immediate = argument.kind is ArgumentKind.IMMEDIATE
    return f"i{argument.value}" if immediate else f"c[{argument.value}]"


def _register(register: int) -> str:
    return {VOID: "%void", MACHINE: "%vm"}.get(register, f"%{register}")
