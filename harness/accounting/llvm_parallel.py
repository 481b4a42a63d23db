"""Loops that TVM runs in parallel, put back in the place where they are started.

A parallel loop is a function of its own. Its caller puts what the loop needs into a structure and
hands both to the runtime, which runs the function once for each task. The function takes the
structure apart, works out its share of the iterations by the number of tasks and its own, and runs
them. Shares are of one size, rounded up, one behind the other, and the last ends where the loop
does: together they are the loop. So the function stands here for the loop from 0 to its end, one
iteration after the other, in the place of the call. That iterations do not wait for each other is
for the compiler to know: here they run in the order of the tensor IR.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.accounting.interface import NotInterpretedError
from harness.accounting.llvm_text import Line, Routine, Value, constant, layout, offset_in, size_of

LAUNCH = b"@__TVMBackendParallelLaunch"
MOST_INLINED = 64
Structs = Mapping[bytes, tuple[bytes, ...]]


def inlined(
    routine: Routine, routines: Mapping[str, Routine], structs: Structs
) -> tuple[Routine, tuple[str, ...]]:
    """The routine with its parallel loops in it, and the names of the functions they were.

    Raises NotInterpretedError for a launch of another form.
    """
    names: list[str] = []
    while (found := launch(routine)) is not None:
        if len(names) >= MOST_INLINED:
            raise NotInterpretedError(f"{routine.name}: too many parallel loops")
        label, at = found
        routine, name = put_in(routine, label, at, routines, structs, len(names))
        if name in names:
            raise NotInterpretedError(f"{routine.name}: a parallel loop that is started twice")
        names.append(name)
    lines = {
        label: tuple(line for line in some if not loads_launch(line))
        for label, some in routine.lines.items()
    }
    return replace(routine, lines=lines), tuple(names)


def loads_launch(line: Line) -> bool:
    return line.opcode == b"load" and line.operands[0].text == LAUNCH


def launch(routine: Routine) -> tuple[bytes, int] | None:
    """Where the first of its calls of the runtime is: label, and number of the line."""
    for label in routine.blocks:
        pointers: set[bytes] = set()
        for at, line in enumerate(routine.lines[label]):
            if loads_launch(line) and line.result:
                pointers.add(line.result)
            if line.opcode == b"call" and line.called[1:] in pointers:
                return label, at
    return None


def put_in(
    routine: Routine,
    label: bytes,
    at: int,
    routines: Mapping[str, Routine],
    structs: Structs,
    number: int,
) -> tuple[Routine, str]:
    """One launch, replaced by the function that it launches."""
    lines = routine.lines[label]
    call, rest = lines[at], lines[at + 1 :]
    wrong = NotInterpretedError(f"{routine.name}: {call.shown()}")
    match call.operands:
        case (Value(text=function), Value(text=closure), tasks) if constant(tasks) == 0:
            name = function[1:].decode("ascii", "replace")
        case _:
            raise wrong
    if not function.startswith(b"@") or name not in routines or call.result is None:
        raise wrong
    # What follows asks whether it failed, and goes on only if it did not.
    if len(rest) != 2 or rest[0].opcode != b"icmp eq" or rest[1].opcode != b"br":
        raise wrong
    if rest[0].operands[0].text != b"%" + call.result or constant(rest[0].operands[1]) != 0:
        raise wrong
    if len(rest[1].labels) != 2 or rest[1].operands[0].text != b"%" + (rest[0].result or b""):
        raise wrong
    following = rest[1].labels[0]
    held, kept = fields(routine, label, at, closure[1:], structs)
    loop = Lambda(routines[name], structs, held, b"parallel%d." % number, following).run()

    entry, *others = loop.blocks
    made = {
        one: tuple(line for line in routine.lines[one] if line not in kept)
        for one in routine.blocks
        if one != label
    }
    made[following] = tuple(arriving(line, label, loop.last) for line in made[following])
    before = [line for line in lines[:at] if line not in kept]
    made[label] = (*before, *loop.lines[entry])
    for one in others:
        made[one] = tuple(arriving(line, entry, label) for line in loop.lines[one])
    reached = {target for some in made.values() for target in some[-1].labels}
    blocks: list[bytes] = []
    for one in routine.blocks:
        if one in reached or one == routine.blocks[0]:  # not where it went if the launch failed
            blocks += [one, *others] if one == label else [one]
    made = {one: made[one] for one in blocks}
    return replace(routine, blocks=tuple(blocks), lines=made), name


def arriving(line: Line, old: bytes, new: bytes) -> Line:
    """A phi, with another name of a block that control comes from."""
    if line.opcode != b"phi":
        return line
    return replace(line, labels=tuple(new if label == old else label for label in line.labels))


def fields(
    routine: Routine, label: bytes, at: int, closure: bytes, structs: Structs
) -> tuple[dict[int, Value], list[Line]]:
    """What is stored in the structure, by the offset; and the lines that do it. Each byte of it is
    stored to once, in the block of the launch and before it, and it is used for nothing else.
    """
    wrong = NotInterpretedError(f"{routine.name}: a structure that is used otherwise")
    places: dict[bytes, int] = {}
    held: dict[int, Value] = {}
    kept: list[Line] = []
    room = 0
    for one in routine.blocks:
        for number, line in enumerate(routine.lines[one]):
            used = [value.text[1:] for value in line.operands if value.local]
            inside = one == label and number < at
            if line.result == closure:
                if line.opcode != b"alloca":
                    raise wrong
                room = layout(structs, line.type)[0]
                kept.append(line)
            elif closure in used:
                if line.opcode == b"call" and (one, number) == (label, at):
                    continue
                if line.opcode != b"getelementptr" or line.result is None or not inside:
                    raise wrong
                places[line.result] = offset_in(structs, line)
                kept.append(line)
            elif places.keys() & set(used):
                if line.opcode != b"store" or used[-1] not in places or not inside:
                    raise wrong
                if line.operands[0].text[1:] in places:
                    raise wrong
                place = places[used[-1]]
                end = place + size_of(line.operands[0].type)
                if not 0 <= place < end <= room or any(
                    place < other + size_of(value.type) and other < end
                    for other, value in held.items()
                ):
                    raise wrong
                held[place] = line.operands[0]
                kept.append(line)
    return held, kept


@dataclass(frozen=True)
class Loop:
    blocks: tuple[bytes, ...]  # the first goes to the end of the block of the launch
    lines: Mapping[bytes, tuple[Line, ...]]
    last: bytes  # the block from which the loop is left


class Lambda:
    """A function that runs a task's share, as the whole loop.

    ``held``: what the structure holds, by offset. ``prefix``: of all its names, so that they are
    its own. ``following``: where to go on.
    """

    def __init__(
        self,
        routine: Routine,
        structs: Structs,
        held: Mapping[int, Value],
        prefix: bytes,
        following: bytes,
    ) -> None:
        self.routine = routine
        self.structs = structs
        self.held = held
        self.prefix = prefix
        self.following = following
        self.wrong = NotInterpretedError(f"{routine.name}: a parallel loop of another form")
        self.known: dict[bytes, Value] = {}  # its names → what stands there
        self.share: dict[bytes, Share] = {}  # what its share is worked out with

    def run(self) -> Loop:
        routine = self.routine
        types = tuple(value.type for value in routine.parameters)
        if types != (b"i32", b"ptr", b"ptr"):
            raise self.wrong
        task, environment, closure = (value.text[1:] for value in routine.parameters)
        self.share[task] = Share("task")
        places: dict[bytes, tuple[str, int]] = {environment: ("tasks", 0), closure: ("held", 0)}
        entry = routine.blocks[0]
        rest = []
        for line in routine.lines[entry]:
            if not self.begins(line, places):
                rest.append(line)
        self.begin = self.end = False
        made: dict[bytes, tuple[Line, ...]] = {}
        leaving: list[bytes] = []
        for label in routine.blocks:
            lines = rest if label == entry else list(routine.lines[label])
            if label == entry and (len(lines) != 1 or lines[0].opcode != b"br"):
                raise self.wrong
            out = []
            for line in lines:
                if line.opcode == b"ret":
                    if len(line.operands) != 1 or constant(line.operands[0]) != 0:
                        raise self.wrong
                    leaving.append(self.prefix + label)
                    out.append(Line(b"br", None, b"", (), (self.following,), b"", line.text))
                else:
                    out.append(self.line(line, places))
            made[self.prefix + label] = tuple(out)
        if len(leaving) != 1 or not self.begin or not self.end:
            raise self.wrong
        # The first block goes to the end of the launch's: whoever comes from it comes from there.
        return Loop(tuple(self.prefix + label for label in routine.blocks), made, leaving[0])

    def begins(self, line: Line, places: dict[bytes, tuple[str, int]]) -> bool:
        """Whether a line of the first block takes the structure apart or works the share out."""
        if line.result is None:
            return False
        names = [value.text[1:] for value in line.operands if value.local]
        if line.opcode == b"getelementptr" and names and names[0] in places:
            what, at = places[names[0]]
            places[line.result] = (what, at + offset_in(self.structs, line))
            return True
        if line.opcode == b"load" and names and names[0] in places:
            what, at = places[names[0]]
            if what == "tasks":
                if line.type != b"i32" or at != 8:
                    raise self.wrong
                self.share[line.result] = Share("tasks")
            else:
                value = self.held.get(at)
                if value is None or value.type != line.type:
                    raise self.wrong
                self.known[line.result] = value
            return True
        made = worked_out(line, self.share)
        if made is None:
            return False
        self.share[line.result] = made
        return True

    def line(self, line: Line, places: Mapping[bytes, tuple[str, int]]) -> Line:
        """With names of its own, and the whole loop's bounds in place of the share's."""
        operands = []
        for value in line.operands:
            name = value.text[1:]
            if not value.local:
                operands.append(value)
            elif name in places:
                raise self.wrong
            elif name in self.share:
                operands.append(self.bound(line, value))
            elif name in self.known:
                operands.append(Value(value.type, self.known[name].text))
            else:
                operands.append(Value(value.type, b"%" + self.prefix + name))
        return replace(
            line,
            result=None if line.result is None else self.prefix + line.result,
            operands=tuple(operands),
            labels=tuple(self.prefix + label for label in line.labels),
        )

    def bound(self, line: Line, value: Value) -> Value:
        """The first iteration of a share is where a phi starts, the end of it what is compared."""
        share = self.share[value.text[1:]]
        if share.what == "begin" and line.opcode == b"phi" and not self.begin:
            self.begin = True
            return Value(value.type, b"0")
        if (
            share.what == "end"
            and line.opcode == b"icmp slt"
            and line.operands[1] == value
            and not self.end
        ):
            self.end = True
            return Value(value.type, b"%d" % share.extent)
        raise self.wrong


@dataclass(frozen=True)
class Share:
    """``what`` a value is: the number of the task or of tasks, how many iterations a task has, or
    the first of them or the one behind the last; ``extent``: of the whole loop.
    """

    what: str
    extent: int = 0


def worked_out(line: Line, share: Mapping[bytes, Share]) -> Share | None:
    """What a step of ``min(task * ((extent + tasks - 1) / tasks), extent)`` gives, or the same for
    the next task; None for anything else.
    """

    def of(value: Value) -> Share | int | None:
        if value.local:
            return share.get(value.text[1:])
        return int(constant(value)) if re.fullmatch(rb"-?[0-9]+", value.text) else None

    match line.opcode, tuple(map(of, line.operands)):
        case b"sext", (Share(what="task" | "tasks" | "next") as one,):
            return one
        case b"add", (int(extent), Share(what="tasks")) if extent > 0:
            return Share("sum", extent)
        case b"sub", (Share(what="sum", extent=extent), 1):
            return Share("rounded", extent)
        case b"add", (Share(what="tasks"), int(less)) if less > 0:  # extent - 1, in one
            return Share("rounded", less + 1)
        case b"sdiv", (Share(what="rounded", extent=extent), Share(what="tasks")):
            return Share("size", extent)
        case b"add", (Share(what="task"), 1):
            return Share("next")
        case b"mul", (Share(what="task"), Share(what="size", extent=extent)):
            return Share("from", extent)
        case b"mul", (Share(what="next"), Share(what="size", extent=extent)):
            return Share("to", extent)
        case b"icmp slt", (Share(what="from" | "to" as what, extent=extent), int(most)) if (
            most == extent
        ):
            return Share(f"{what} inside", extent)
        case b"select", (
            Share(what=inside, extent=extent), Share(what="from" | "to" as what), int(most),
        ) if inside == f"{what} inside" and most == extent:  # fmt: skip
            return Share("begin" if what == "from" else "end", extent)
    return None


__all__ = ["inlined"]
