"""Decisions by data in the unoptimised LLVM IR, each function against its tensor IR.

Every function that the module defines is looked at. One that computes must be, store by store, the
blocks of its tensor-IR function (:mod:`harness.accounting.llvm_pairs`), and may decide no more than
these; one that wraps it may read nothing but the headers of its arguments
(:mod:`harness.accounting.llvm_wrapper`). The symbol that the virtual machine calls says which
tensor-IR function is meant; nothing else goes by name.

What a function decides more is a finding. What cannot be lifted, or does not correspond, is
unknown, and a finding as well if it decides more often than its tensor IR.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from harness.accounting import later, llvm_pairs, relax_script, tir
from harness.accounting.interface import (
    Accounted,
    Choice,
    Kind,
    NotInterpretedError,
    Unaccounted,
)
from harness.accounting.llvm_external import (
    CALL,
    CONTEXT,
    HANDLE,
    LOOKUP,
    ONCE,
    OddError,
    check,
    finds,
    maker_of,
)
from harness.accounting.llvm_lift import ALLOCATE, FREE, Lifted, lift
from harness.accounting.llvm_offsets import UnlikeError
from harness.accounting.llvm_pairs import checked
from harness.accounting.llvm_parallel import LAUNCH, inlined
from harness.accounting.llvm_text import Assembly, Line, Routine, read
from harness.accounting.llvm_wrapper import Wrapped, converts, reports, wrapper
from harness.accounting.tir_decisions import Flow
from harness.accounting.tir_operators import numpy_type
from harness.accounting.tir_script import Function, Load, expressions, walk
from harness.text import printable

STAGE = "llvm-unoptimized"
SYMBOLS = re.compile(rb"@([-a-zA-Z$._0-9]+)")
# Pointers that the runtime fills in, and nobody else.
RUNTIME = {ALLOCATE, FREE, LAUNCH, CALL, ONCE, LOOKUP, CONTEXT}
MOST_ODD = 8  # findings in one function's argument checks
SYMBOL = "__tvm_ffi_"  # what the virtual machine puts in front of a function's name
CAST_OPCODES = {
    b"fptosi": Choice.ROUND,
    b"fptoui": Choice.ROUND,
    b"trunc": Choice.ROUND,
}
# Rare in what decides nothing: looked at where a function cannot be lifted.
ROUGH: dict[bytes, Choice] = {
    b"icmp": Choice.COMPARE, b"fcmp": Choice.COMPARE, b"and": Choice.LOGIC, b"or": Choice.LOGIC,
    b"xor": Choice.LOGIC, b"shl": Choice.LOGIC, b"lshr": Choice.LOGIC, b"ashr": Choice.LOGIC,
    b"bitcast": Choice.LOGIC, b"sdiv": Choice.DIVIDE, b"udiv": Choice.DIVIDE,
    b"srem": Choice.DIVIDE, b"urem": Choice.DIVIDE, b"frem": Choice.DIVIDE,
    b"select": Choice.SELECT, b"br": Choice.BRANCH, **CAST_OPCODES,
}  # fmt: skip


def account(llvm: bytes, tensor_ir: bytes) -> Accounted:
    """llvm: ``llvm-unoptimized/module.ll``; tensor_ir: ``tensor-ir/module.py``.

    Raises NotInterpretedError if either cannot be read at all.
    """
    return Account(read(llvm, f"{STAGE}/module.ll"), tir.read(tensor_ir)).run()


class Account:
    def __init__(self, assembly: Assembly, program: tir.Program) -> None:
        self.assembly = assembly
        self.program = program
        self.findings: list[Unaccounted] = []
        self.unknown: list[str] = []
        self.things = 0
        self.attributed = 0
        lowered = later.lowered(program.main)
        self.later = later.functions(lowered)
        external = later.externals(program.main)
        self.external = {one.name: one for one in external.values()}
        names = {key: one.name for key, one in lowered.items()}
        names |= {key: one.name for key, one in external.items()}
        self.paths = paths(program.main, names)
        # main calls what has no tensor IR yet: a function of the module may be for that.
        self.other_calls = any(
            isinstance(binding.value, relax_script.Call)
            and binding.value.operator != "R.call_tir"
            and binding.key not in names
            for binding in program.main.bindings
        )

    def run(self) -> Accounted:
        routines = self.assembly.routines
        own = {name: one.function for name, one in self.later.items()}
        if taken := own.keys() & self.program.functions.read.keys():
            raise NotInterpretedError(f"{STAGE}: two functions are called {min(taken)}")
        functions = {**self.program.functions.read, **own}
        left = dict(routines)
        wrapped = {name: routines.get(SYMBOL + name) for name in functions}
        called = self.paths.keys()
        for name in sorted(called):
            if SYMBOL + name not in routines and SYMBOL + name not in self.assembly.unread:
                self.unknown.append(f"{STAGE}: no function for {printable(name, 80)}")
        computing = {
            name: one
            for name, one in routines.items()
            if not name.startswith(SYMBOL) and not reports(one)
        }
        used: Counter[str] = Counter()
        for name, one in wrapped.items():
            if one is None:
                continue
            del left[one.name]
            function = functions[name]
            found = self.wrapper(function, one, computing)
            target = found.calls
            used[target] += 1
            if target in routines:
                if left.pop(target, None) is not None:
                    for loop in self.compute(function, routines[target], found.offsets):
                        if left.pop(loop, None) is None:
                            self.find(name, "runs in parallel what another function uses too")
                else:
                    self.find(name, "computes in a function that another one uses too")
        for external in self.external.values():
            self.hands_on(external, left, computing)
        for name, one in left.items():
            self.other(name, one)
        for why in sorted(self.assembly.unread.values()):
            self.unknown.append(why)
        self.module()
        return Accounted(
            Kind.DECISIONS, STAGE, self.things, self.attributed, tuple(self.findings),
            tuple(self.unknown),
        )  # fmt: skip

    def find(self, where: str, what: str) -> None:
        name = where.split(",")[0]
        self.findings.append(
            Unaccounted(
                Kind.DECISIONS, STAGE, printable(where, 200), printable(what, 300),
                self.paths.get(name, ()),
            )
        )  # fmt: skip

    def wrapper(
        self, function: Function, routine: Routine, computing: Mapping[str, Routine]
    ) -> Wrapped:
        """Checks it; what it calls."""
        buffers = [function.buffers[name] for name in function.parameters]
        ranks = tuple(len(buffer.shape) for buffer in buffers)
        if function.name in self.later:
            ranks = self.later[function.name].ranks
        widths = tuple(numpy_type(buffer.dtype, written=True).itemsize for buffer in buffers)
        try:
            found = wrapper(routine, self.assembly.structs, ranks, computing, widths)
        except NotInterpretedError as error:
            self.unknown.append(f"{STAGE}: {error}")
            return Wrapped()
        if len(found.odd) > MOST_ODD:  # one odd value makes others odd
            found.odd[MOST_ODD:] = [f"and {len(found.odd) - MOST_ODD} more"]
        for odd in found.odd:
            self.find(f"{function.name}, argument checks", f"neither check nor call: {odd}")
        return found

    def compute(
        self, function: Function, routine: Routine, offsets: Mapping[int, int]
    ) -> tuple[str, ...]:
        """One that computes, against its tensor IR. The names of its parallel loops."""
        loops: tuple[str, ...] = ()
        try:
            whole, loops = inlined(routine, self.assembly.routines, self.assembly.structs)
            lifted = lift(whole)
        except NotInterpretedError as error:
            self.unknown.append(f"{STAGE}: {error}")
            self.rough(function, routine)
            return loops
        self.guards(function, lifted)
        try:
            found = checked(function, lifted, offsets)
        except UnlikeError as error:
            self.unknown.append(
                f"{STAGE}: {printable(function.name, 120)} is not its tensor IR: {error}"
            )
            self.rough(function, whole)
            return loops
        self.things += len(lifted.lines)
        self.attributed += len(lifted.lines) - len(found)
        for one in found:
            text = lifted.lines.get(one.entry.store.line, "")
            where = f"{function.name}, block {one.block}: {text}"
            if one.different:
                self.find(where, f"computes something else than the block: {one.different}")
            if one.choices:
                self.find(
                    where,
                    f"decides by data more than the block: {spelled(one.choices)}",
                )
        return loops

    def hands_on(
        self,
        external: later.External,
        left: dict[str, Routine],
        computing: Mapping[str, Routine],
    ) -> None:
        """A function that calls one of the runtime's own."""
        routine = left.pop(SYMBOL + external.name, None)
        if routine is None:  # that it is missing is said
            return
        ranks = tuple(len(shape) for _, shape in external.types)
        try:
            found = wrapper(routine, self.assembly.structs, ranks, computing, external=True)
            for odd in found.odd:
                self.find(
                    f"{external.name}, argument checks",
                    f"neither check nor call: {odd}",
                )
            target = left.pop(found.calls, None)
            if target is None:
                raise NotInterpretedError(f"{external.name}: nothing that only it calls")
            if len(found.fields) != 1:
                raise NotInterpretedError(f"{external.name}: no device is handed on")
            ((device, _),) = found.fields.items()
            structs, names = self.assembly.structs, self.assembly.globals
            count = check(target, external, structs, names, found.stacks, device)
            self.things += count
            self.attributed += count
            maker = self.assembly.routines.get(maker_of(external))
            if maker is None:
                raise NotInterpretedError(f"{external.name}: nothing looks the function up")
            left.pop(maker.name, None)
            if odd := finds(maker, external, names):
                self.find(maker.name, f"looks up a function of the runtime otherwise: {odd}")
        except NotInterpretedError as error:
            self.unknown.append(f"{STAGE}: {error}")
        except OddError as error:
            self.find(
                external.name,
                f"hands on something else than the operator says: {error}",
            )

    def guards(self, function: Function, lifted: Lifted) -> None:
        flow = Flow(set(lifted.types), dict(lifted.types))
        for guard in lifted.guards:
            if flow.is_data(guard):
                self.find(f"{function.name}, an error return", "fails by a condition on data")

    def rough(self, function: Function, routine: Routine) -> None:
        """Counts, where nothing better can be said: everything loaded is data."""
        theirs = counted(routine)
        types = {name: buffer.dtype for name, buffer in function.buffers.items()}
        flow = Flow(set(types), types)
        flow.spread(function.body)
        ours = Counter(one.choice for one in flow.decisions(function.body))
        # Below, a bool is a byte that is compared with 0, a maximum a comparison and a selection.
        ours[Choice.COMPARE] += sum(
            isinstance(part, Load) and types[part.buffer] == "bool"
            for expression in expressions(function.body)
            for part in walk(expression)
        )
        for choice in (Choice.MAX, Choice.MIN):
            ours[Choice.COMPARE] += ours[choice]
            ours[Choice.SELECT] += ours.pop(choice, 0)
        for some in (ours, theirs):  # a selection may be a branch below
            some[Choice.BRANCH] += some.pop(Choice.SELECT, 0)
        more = theirs - ours
        self.things += theirs.total()
        self.attributed += theirs.total() - more.total()
        if more:
            self.find(
                f"{function.name}, as a whole", f"decides by data more than its tensor IR: "
                f"{spelled(more)}",
            )  # fmt: skip

    def other(self, name: str, routine: Routine) -> None:
        """What no wrapper calls."""
        lines = [line for some in routine.lines.values() for line in some]
        if all(line.opcode == b"ret" for line in lines) or reports(routine) or converts(routine):
            return
        if self.program.functions.unread or self.other_calls:
            self.unknown.append(f"{STAGE}: {printable(name, 80)} has no tensor IR that is read")
            return
        loads = sum(line.opcode in (b"load", b"call") for line in lines)
        self.find(
            name, f"a function that nothing of the program needs: {len(lines)} instructions, "
            f"{loads} of them loads or calls",
        )  # fmt: skip

    def module(self) -> None:
        for name, line in self.assembly.globals.items():
            runtimes = b"@" + name in RUNTIME or name.startswith(HANDLE[1:])
            if runtimes and b" global ptr null," not in line:
                self.find(
                    name.decode("ascii", "replace"),
                    "the runtime's function is replaced",
                )
            if name.startswith(b"llvm."):
                for symbol in SYMBOLS.findall(line)[1:]:
                    if symbol.decode("ascii", "replace") not in self.assembly.routines:
                        self.find(
                            name.decode("ascii", "replace"),
                            f"runs {symbol.decode('ascii', 'replace')}, which is not here",
                        )
            if b" alias " in line or b" ifunc " in line:
                self.find(name.decode("ascii", "replace"), "another name for a function")
        for line in self.assembly.rest:
            self.find(
                "module",
                f"a line of no known kind: {line[:80].decode('ascii', 'replace')}",
            )


def counted(routine: Routine) -> Counter[Choice]:
    """Instructions that decide by what was loaded, whatever the form of the function."""
    data: set[bytes] = set()
    stored: set[bytes] = set()
    lines = [line for some in routine.lines.values() for line in some]
    while True:
        before = len(data) + len(stored)
        for line in lines:
            if line.result is not None and (
                (line.opcode == b"load" and line.type != b"ptr")
                or any(value.local and value.text[1:] in data for value in line.operands)
            ):
                data.add(line.result)
        if len(data) + len(stored) == before:
            break
    found: Counter[Choice] = Counter()
    for line in lines:
        choice = choice_of(line, data)
        if choice is not None:
            found[choice] += 1
    return found


def choice_of(line: Line, data: set[bytes]) -> Choice | None:
    touched = [value.local and value.text[1:] in data for value in line.operands]
    if not any(touched):
        return None
    opcode = line.opcode.split(b" ")[0]
    if opcode in (b"getelementptr",):
        return Choice.LOOKUP if any(touched[1:]) else None
    if opcode == b"select" and not touched[0]:
        return None
    if opcode in (b"icmp", b"fcmp") and b"ptr" in line.text.split()[:5]:
        return None
    return ROUGH.get(opcode)


def paths(
    main: relax_script.Function, later_names: Mapping[int, str]
) -> dict[str, tuple[str, ...]]:
    """For each function that ``main`` calls: a way from an input through it to an output.

    ``later_names``: of the functions of bindings that are lowered further on.
    """
    ways: dict[int, tuple[str, ...]] = {one.key: (one.name,) for one in main.parameters}
    users: dict[int, list[tuple[int, str]]] = {}
    names: dict[int, str] = {}
    for binding in main.bindings:
        name = target(binding.value) or later_names.get(binding.key, "")
        names[binding.key] = name
        for key in keys(binding.value):
            users.setdefault(key, []).append((binding.key, name))
            if key in ways and binding.key not in ways:
                ways[binding.key] = (*ways[key], name or binding.name)
    ends: dict[int, tuple[str, ...]] = dict.fromkeys(keys(main.result), ("output",))
    for binding in reversed(main.bindings):
        for key, name in users.get(binding.key, []):
            if key in ends and binding.key not in ends:
                ends[binding.key] = (name or "…", *ends[key])
    out: dict[str, tuple[str, ...]] = {}
    for key, name in names.items():
        if name and name not in out:
            out[name] = (*ways.get(key, (name,)), *ends.get(key, ()))
    return out


def target(value: relax_script.Expression) -> str:
    if isinstance(value, relax_script.Call) and value.operator == "R.call_tir":
        first = value.arguments[0] if value.arguments else None
        if isinstance(first, relax_script.Global):
            return first.name
    return ""


def keys(value: relax_script.Expression) -> list[int]:
    match value:
        case relax_script.Reference():
            return [value.key]
        case relax_script.Items():
            return [key for item in value.items for key in keys(item)]
        case relax_script.Item():
            return keys(value.of)
        case relax_script.Call():
            return [key for one in value.arguments for key in keys(one)]
    return []


def spelled(choices: Mapping[Choice, int]) -> str:
    return ", ".join(f"{number} {choice}" for choice, number in sorted(choices.items()))


__all__ = ["account", "llvm_pairs"]
