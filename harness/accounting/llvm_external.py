"""A function that only hands its tensors to one of the runtime's own functions.

It writes headers of its tensors and a list of arguments on its caller's stack, and calls. What it
writes is followed from its parameters, instruction by instruction; at the call every argument has
to be what the operator says. A header that points elsewhere, another number, a second call or
anything else that it does is said of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.accounting.interface import NotInterpretedError
from harness.accounting.later import External
from harness.accounting.llvm_text import (
    Line,
    Routine,
    Value,
    constant,
    offset_in,
    size_of,
)

CALL, ONCE = b"@__TVMFFIFunctionCall", b"@__TVMFFIHandleInitOnce"
LOOKUP, CONTEXT = b"@__TVMFFIEnvModLookupFromImports", b"@__tvm_ffi__library_ctx"
HANDLE, MAKER = b"@.tvm_func.", b"__tvm_func_handle_init."
ARGUMENT, HEADER = 16, 48  # bytes of a packed argument, and of a tensor's header
INTEGER, TENSOR, TEXT, NOTHING = 1, 7, 8, 0  # what an argument says that it is
CODES = {"int": 0, "uint": 1, "float": 2}
CPU = 1
CALLS = 2  # to have the function looked up, and of it
STRING = re.compile(rb' constant \[[0-9]+ x i8\] c"([ !#-\[\]-~]*)\\00"')


@dataclass(frozen=True)
class Known:
    """``what``: a place in what parameter ``of`` points to, ``at`` bytes in, or a number, …"""

    what: str
    of: int = 0
    at: int = 0
    name: bytes = b""


class OddError(Exception):
    """What it does that the operator does not ask for."""


def maker_of(expected: External) -> str:
    return MAKER.decode() + expected.runtime


def finds(routine: Routine, expected: External, globals_: Mapping[bytes, bytes]) -> str:
    """What is odd about the function that looks the runtime's function up; empty if nothing is."""
    lines = [line for some in routine.lines.values() for line in some]
    if len(routine.parameters) != 1 or [line.opcode for line in lines] != [
        b"load", b"load", b"call", b"ret",
    ]:  # fmt: skip
        return "another form"
    context, lookup, call, end = lines
    if (context.operands[0].text, lookup.operands[0].text) != (CONTEXT, LOOKUP):
        return "it asks something else"
    names = [one.result or b"" for one in (context, lookup, call)]
    if call.called != b"%" + names[1] or len(call.operands) != 3:
        return "it calls something else"
    first, second, third = call.operands
    if first.text != b"%" + names[0] or third.text != routine.parameters[0].text:
        return "it hands on something else"
    if text_of(second.text, globals_) != expected.runtime:
        return "it asks for another function"
    if end.operands[0].text != b"%" + names[2]:
        return "it does not say whether it failed"
    return ""


def text_of(name: bytes, globals_: Mapping[bytes, bytes]) -> str | None:
    found = STRING.search(globals_.get(name[1:], b""))
    return None if found is None else found[1].decode("ascii")


def check(
    routine: Routine,
    expected: External,
    structs: Mapping[bytes, tuple[bytes, ...]],
    globals_: Mapping[bytes, bytes],
    stacks: Mapping[int, int],
    device: int,
) -> int:
    """The number of instructions. Raises OddError, and NotInterpretedError.

    stacks: number of a parameter that points to the caller's stack → bytes of it.
    device: number of the parameter that is the tensors' device.
    """
    return Followed(routine, expected, structs, globals_, stacks, device).run()


class Followed:
    def __init__(
        self,
        routine: Routine,
        expected: External,
        structs: Mapping[bytes, tuple[bytes, ...]],
        globals_: Mapping[bytes, bytes],
        stacks: Mapping[int, int],
        device: int,
    ) -> None:
        self.routine, self.expected, self.structs = routine, expected, structs
        self.globals, self.stacks, self.device = globals_, stacks, device
        self.values: dict[bytes, Known] = {}
        self.memory: dict[tuple[int, int], tuple[int, Known]] = {}
        self.called = False
        self.asked = 0  # how often it has looked whether a call failed
        for at, value in enumerate(routine.parameters):
            known = Known("place", at) if value.type == b"ptr" else Known("scalar", at)
            self.values[value.text[1:]] = known

    def run(self) -> int:
        count = 0
        label: bytes | None = self.routine.blocks[0]
        seen: set[bytes] = set()
        while label is not None:
            if label in seen:
                raise OddError("it loops")
            seen.add(label)
            following: bytes | None = None
            for line in self.routine.lines[label]:
                count += 1
                following = self.step(line)
            label = following
        if not self.called:
            raise OddError(f"it does not call {self.expected.runtime}")
        return count

    def step(self, line: Line) -> bytes | None:
        """Where control goes, if the line says so."""
        kinds = [self.of(value) for value in line.operands]
        made = Known("odd")
        match line.opcode:
            case b"alloca":
                made = Known("spare")
            case b"store" if kinds[1].what == "spare":
                pass  # kept for debuggers: nothing reads it
            case b"store" if kinds[1].what == "place":
                self.store(line.operands[0], kinds[0], kinds[1])
            case b"getelementptr" if kinds[0].what == "place":
                at = kinds[0].at + offset_in(self.structs, line)
                made = Known("place", kinds[0].of, at)
            case b"load":
                made = self.load(line, kinds[0])
            case b"trunc" if kinds[0].what == "result":
                made = kinds[0]
            case b"icmp eq" if kinds[0].what == "status" and kinds[1] == Known("number"):
                made = Known("succeeded")
            case b"call":
                made = self.call(line, kinds)
            case b"br" if not line.operands:
                return line.labels[0]
            case b"br" if kinds[0].what == "succeeded":
                (failed,) = self.routine.lines[line.labels[1]][:1]
                if failed.opcode != b"ret" or self.of(failed.operands[0]).what != "status":
                    raise OddError("it goes on where a call failed")
                self.asked += 1
                return line.labels[0]
            case b"ret" if self.called and self.asked == CALLS and kinds == [Known("number")]:
                return None
            case _:
                raise OddError(line.shown())
        if line.result is not None:
            self.values[line.result] = made
        return None

    def of(self, value: Value) -> Known:
        if value.local:
            return self.values.get(value.text[1:], Known("odd"))
        if value.text.startswith(b"@"):
            return Known("global", 0, 0, value.text)
        try:
            number = constant(value)
        except NotInterpretedError:
            return Known("odd")
        return Known("number", 0, int(number)) if number == int(number) else Known("odd")

    def store(self, value: Value, known: Known, where: Known) -> None:
        size, room = size_of(value.type), self.stacks.get(where.of)
        if room is None:
            raise OddError("it writes to a tensor")
        if self.called or not 0 <= where.at <= where.at + size <= room:
            raise OddError("it writes after the call, or outside of the stack")
        for (of, at), (wide, _) in self.memory.items():
            if of == where.of and at < where.at + size and where.at < at + wide:
                raise OddError("it writes twice to one place")
        self.memory[where.of, where.at] = size, known

    def load(self, line: Line, where: Known) -> Known:
        if where.what == "global":
            if where.name in (CALL, ONCE):
                return Known("function", 0, 0, where.name)
            if where.name == HANDLE + self.expected.runtime.encode() and self.values.get(b" once"):
                return Known("handle")
        place, begin = self.result
        if where.what == "place" and self.called and where.of == place:  # what it returned
            return Known("result" if begin <= where.at < begin + ARGUMENT else "odd")
        raise OddError(line.shown())

    result = (-1, 0)

    def call(self, line: Line, kinds: list[Known]) -> Known:
        if line.called == b"@llvm.assume" and line.operands == (Value(b"i1", b"true"),):
            return Known("odd")
        target = self.values.get(line.called[1:], Known("odd"))
        runtime = self.expected.runtime.encode()
        if target.what != "function" or self.called:
            raise OddError(line.shown())
        if target.name == ONCE:
            wanted = [HANDLE + runtime, b"@" + MAKER + runtime]
            if [kind.name for kind in kinds] != wanted:
                raise OddError(f"it makes sure of another function: {line.shown()}")
            self.values[b" once"] = Known("once")
            return Known("status")
        if len(kinds) != 4 or kinds[0] != Known("handle") or kinds[1].what != "place":
            raise OddError(line.shown())
        expected = self.expected
        many = len(expected.operands) + len(expected.outputs) + len(expected.arguments)
        if kinds[2] != Known("number", 0, many) or kinds[3].what != "place":
            raise OddError("another number of arguments")
        self.arguments(kinds[1])
        if self.word(kinds[3], 0, 4) != Known("number", 0, NOTHING):
            raise OddError("what is returned is kept in a place that holds something")
        self.called, self.result = True, (kinds[3].of, kinds[3].at)
        return Known("status")

    def word(self, where: Known, at: int, size: int) -> Known:
        found = self.memory.get((where.of, where.at + at))
        if found is None or found[0] != size:
            raise OddError("an argument that is not written in full")
        return found[1]

    def arguments(self, where: Known) -> None:
        tensors = len(self.expected.types)
        for number, (kind, shape) in enumerate(self.expected.types):
            self.kind(where, number, TENSOR)
            header = self.word(where, ARGUMENT * number + 8, 8)
            if header.what != "place" or header.of not in self.stacks:
                raise OddError(f"argument {number} is no header of a tensor")
            self.tensor(header, number, kind, shape)
        for at, wanted in enumerate(self.expected.arguments):
            number = tensors + at
            found = self.word(where, ARGUMENT * number + 8, 8)
            if isinstance(wanted, str):
                self.kind(where, number, TEXT)
                if found.what != "global" or text_of(found.name, self.globals) != wanted:
                    raise OddError(f"argument {number} is not {wanted!r}")
            else:
                self.kind(where, number, INTEGER)
                if found != Known("number", 0, wanted):
                    raise OddError(f"argument {number} is not {wanted}")

    def kind(self, where: Known, number: int, wanted: int) -> None:
        found = (
            self.word(where, ARGUMENT * number, 4),
            self.word(where, ARGUMENT * number + 4, 4),
        )
        if found != (Known("number", 0, wanted), Known("number")):
            raise OddError(f"argument {number} is of another kind")

    def tensor(self, header: Known, number: int, dtype: str, shape: tuple[int, ...]) -> None:
        letters = dtype.rstrip("0123456789")
        fields = (
            (0, 8, Known("place", number)), (8, 4, Known("number", 0, CPU)),
            (12, 4, Known("scalar", self.device)), (16, 4, Known("number", 0, len(shape))),
            (20, 1, Known("number", 0, CODES.get(letters, -1))),
            (21, 1, Known("number", 0, int(dtype.removeprefix(letters) or 0))),
            (22, 2, Known("number", 0, 1)), (32, 8, Known("number")), (40, 8, Known("number")),
        )  # fmt: skip
        for at, size, wanted in fields:
            if self.word(header, at, size) != wanted:
                raise OddError(f"the header of tensor {number} says something else at byte {at}")
        sides = self.word(header, 24, 8)
        if sides.what != "place" or sides.of not in self.stacks:
            raise OddError(f"the shape of tensor {number} is somewhere else")
        for at, side in enumerate(shape):
            if self.word(sides, 8 * at, 8) != Known("number", 0, side):
                raise OddError(f"tensor {number} has another shape")


__all__ = ["OddError", "check", "finds", "maker_of"]
