"""The order in which a compiler's own C++ compiler had it emit LLVM instructions.

C++ leaves open in which order the arguments of a call are evaluated. TVM writes
``builder->CreateOr(value(a), value(b))``, so its x86-64 wheel emits the code for ``b`` first and
its aarch64 wheel that for ``a``; each operation still gets the same operands on the same sides::

    %8 = icmp eq i32 %t, 7               %8 = icmp eq i32 %t, 0
    %9 = icmp eq i32 %t, 0               %9 = icmp eq i32 %t, 7
    %10 = or i1 %9, %8                   %10 = or i1 %8, %9

Each block is brought into an order that only its data flow decides, and what is numbered by
appearance (unnamed values, metadata) is numbered anew.

**Claim.** If ``normalize(a) == normalize(b)``, both modules do the same: the same effects in the
same order from the same values, and undefined behaviour for the same inputs. Each is a legal
rearrangement of that one text:

1. Lines are what they seem (:mod:`harness.normalizers.llvm_text`), and every line of a function is
   wholly of a form listed in :mod:`harness.normalizers.llvm_function`. Anything else is refused:
   other instructions, atomics, exceptions, ``strictfp``, ``uselistorder``, other metadata kinds.
   The operands of each, their text and their sides are never changed.
2. Names are unique within a function, and every name that is used is given; unnamed values have
   the numbers that LLVM gives them. So a use belongs to one instruction, whatever its place.
3. The order that is printed is *checked*, block by block, against the one that was read:

   a. It is a permutation. Blocks, their order and their labels stay, so nothing changes its block,
      and no branch, phi or check can be lost, added or redirected.
   b. *Fixed* instructions keep their order among each other: phis, terminators, debug records and
      *barriers*, which are stores, calls, volatile loads, fences, allocas.
   c. *Confined* instructions, which are plain loads, integer divisions and remainders, stay between
      the same two barriers. No load passes anything that could write what it reads, or a fence.
      Undefined behaviour (a faulting address, division by zero) stays on its side of everything
      that may not return; within a stretch without barriers control passes every instruction, so
      one that is undefined makes the execution undefined in whichever order they stand.
   d. *Pure* instructions (arithmetic, comparisons, casts, ``select``, ``getelementptr``, calls of
      declared intrinsics that only compute) depend on their operands alone and yield poison at
      worst, so that they may be computed at any time after their operands.
   e. Every value that a block gives is given there before it is used, before and after. By (2) each
      instruction has the same operands, so by induction over the new order the same values.

4. How the order is found does not matter to the proof. (It is: as late as possible, operands from
   left to right, in the order in which the fixed instructions ask for them, all over the function.
   Values that nothing uses stay in the order in which they stood.)
5. Values with a name keep it; numbers are given anew in the order of appearance, by a bijection, as
   LLVM would. Metadata is renumbered by a bijection (:mod:`harness.normalizers.llvm_metadata`).
   Numbers are labels: they carry no meaning.
6. Every other byte, outside functions and in them, is kept: types, constants, predicates, flags,
   alignments, attributes, globals, what is attached to an instruction moves with it.

**What could hide here.** A choice among the legal orders of a block: information, but no behaviour.
The optimiser starts from another order and may well emit other code of the same meaning, so stages
below this one stay different. Only a replay ties each side's object to its own text. Debug records
keep their order among themselves and the effects, but not beside pure instructions, so that line
tables and the ranges of variables may differ by such instructions.

**What is not explained**, although it may be benign: exchanged operands of commutative operations,
another order of blocks, of globals or of declarations, and of values that nothing uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.normalizers.interface import Normalized, NotApplicable, refuse_large
from harness.normalizers.llvm_function import (
    Block,
    Function,
    Instruction,
    Kind,
    read_functions,
    render,
)
from harness.normalizers.llvm_metadata import renumber
from harness.normalizers.llvm_text import check_lines

MAX_TEXT = 64 * 2**20  # bytes; the largest module seen has 4 million; ordering takes 50 times that
FREE = (Kind.PURE, Kind.CONFINED)


@dataclass(frozen=True)
class EvaluationOrder:
    """The normalizer ``llvm-evaluation-order``; the module's docstring is its proof."""

    id: str = "llvm-evaluation-order"
    applies_to: frozenset[str] = field(default=frozenset({"llvm-unoptimized"}))
    reorders: bool = True

    def normalize(self, data: bytes) -> Normalized:
        refuse_large(data)
        check_lines(data)
        if len(data) > MAX_TEXT:
            raise NotApplicable(f"{len(data)} bytes are more than the {MAX_TEXT} that it orders")
        for word in (b"strictfp", b"uselistorder"):
            if word in data:
                raise NotApplicable(f"the text speaks of {word.decode()}")
        before = data.split(b"\n")
        lines = list(before)
        for start, end, function in read_functions(before):
            lines[start:end] = canonical(function)
            if len(lines) != len(before):
                raise NotApplicable(f"line {start + 1}: not laid out as LLVM prints it")
        after = renumber(b"\n".join(lines))
        changed = sum(
            len(line) for line, new in zip(before, after.split(b"\n"), strict=True) if line != new
        )
        return Normalized(after, changed)


def canonical(function: Function) -> list[bytes]:
    """The lines of the function, without its closing brace."""
    names = check_names(function)
    blocks = [block.instructions for block in function.blocks]
    before = [stretches(block) for block in blocks]  # so that arranging comes to an end
    ordered = arrange(blocks, names)
    if [stretches(block) for block in ordered] != before:
        raise NotApplicable("the canonical order of a block would not be a legal one")
    return print_function(function, ordered)


# (2) Names --------------------------------------------------------------------------------------


def check_names(function: Function) -> set[bytes]:
    """The names of all results. Raises NotApplicable unless every name is given once, every name
    that is used is given, and the numbers are those that LLVM gives.
    """
    given: set[bytes] = set()
    results: set[bytes] = set()
    numbers = 0
    for name, is_result in names_in_order(function, function.blocks):
        number = b"%d" % numbers
        if name is None or name.isdigit():
            if name not in (None, number):
                raise NotApplicable(f"%{short(name)} stands where %{numbers} should be")
            name, numbers = number, numbers + 1
        if name in given:
            raise NotApplicable(f"%{short(name)} is given twice")
        given.add(name)
        if is_result:
            results.add(name)
    for block in function.blocks:
        used = set(block.opening[3::2])
        used.update(name for one in block.instructions for name in one.operands)
        if missing := used - given:
            raise NotApplicable(f"%{short(min(missing))} is used and never given")
    return results


def names_in_order(
    function: Function, blocks: Iterable[Block]
) -> Iterable[tuple[bytes | None, bool]]:
    """Arguments, labels and results in the order in which LLVM numbers those without a name; and
    whether it is a result. None is a first block without a label, which takes a number too.
    """
    for name in function.arguments:
        yield name, False
    for block in blocks:
        yield block.label, False
        for one in block.instructions:
            if one.result is not None:
                yield one.result, True


def short(name: bytes | None) -> str:
    return (name or b"").decode()[:60]


# (4) The canonical order --------------------------------------------------------------------------


def arrange(blocks: list[list[Instruction]], results: set[bytes]) -> list[list[Instruction]]:
    """Each block in canonical order. Nothing in the proof depends on how it is found."""
    everything = [one for block in blocks for one in block]
    maker = {one.result: at for at, one in enumerate(everything) if one.result is not None}
    needs = [[maker[name] for name in one.operands if name in results] for one in everything]
    free = [one.kind in FREE for one in everything]

    rank = [0] * len(everything)
    for place, at in enumerate(demanded(needs, free)):
        rank[at] = place

    ordered: list[list[Instruction]] = []
    first = 0
    for block in blocks:
        after = first + len(block)
        order = arrange_block(everything, needs, rank, first, after)
        ordered.append([everything[at] for at in order])
        first = after
    return ordered


def demanded(needs: list[list[int]], free: list[bool]) -> Iterable[int]:
    """The free instructions in the order in which the fixed ones ask for them, operands first;
    at last those whose value nothing uses, as they stood.
    """
    seen = [False] * len(needs)
    roots = [at for at, moves in enumerate(free) if not moves]
    roots += [at for at, moves in enumerate(free) if moves]
    for root in roots:
        stack = [(root, iter(needs[root]))]
        if free[root]:
            if seen[root]:
                continue
            seen[root] = True
        while stack:
            at, rest = stack[-1]
            for need in rest:
                if free[need] and not seen[need]:
                    seen[need] = True
                    stack.append((need, iter(needs[need])))
                    break
            else:
                stack.pop()
                if free[at]:
                    yield at


def arrange_block(
    everything: list[Instruction], needs: list[list[int]], rank: list[int], first: int, after: int
) -> list[int]:
    """The instructions ``first`` to ``after`` as late as possible: each just in front of the first
    fixed one that needs it, what is confined no later than its barrier, the rest at the end.
    """
    order: list[int] = []
    waiting: set[int] = set()
    confined: list[int] = []

    def emit(root: int) -> None:
        stack = [root]
        while stack:
            at = stack[-1]
            if at not in waiting:
                stack.pop()
            elif missing := [need for need in needs[at] if need in waiting]:
                stack.extend(reversed(missing))
            else:
                stack.pop()
                waiting.discard(at)
                order.append(at)

    for at in range(first, after):
        one = everything[at]
        if one.kind in FREE:
            waiting.add(at)
            if one.kind is Kind.CONFINED:
                confined.append(at)
            continue
        if one.kind is not Kind.PHI:
            wanted = [need for need in needs[at] if need in waiting]
            if one.kind is Kind.BARRIER:
                wanted += confined
                confined = []
            elif one.kind is Kind.END:
                wanted = list(waiting)
            for need in sorted(wanted, key=rank.__getitem__):
                emit(need)
        order.append(at)
    return order


# (3) The order is legal ---------------------------------------------------------------------------


def stretches(block: list[Instruction]) -> tuple[list[int], dict[int, int]]:
    """(b) the fixed instructions in order; (a), (c), (d) every other one, with the number of
    barriers in front of it, or -1 if it may stand anywhere. Raises NotApplicable for what (e)
    forbids.
    """
    given = {one.result for one in block if one.result is not None}
    fixed: list[int] = []
    free: dict[int, int] = {}
    barriers = 0
    for one in block:
        if one.kind is not Kind.PHI and not given.isdisjoint(one.operands):
            name = next(name for name in one.operands if name in given)
            raise NotApplicable(f"%{short(name)} is used in front of where it is given")
        given.discard(one.result)
        if one.kind in FREE:
            free[id(one)] = barriers if one.kind is Kind.CONFINED else -1
        else:
            fixed.append(id(one))
            barriers += one.kind is Kind.BARRIER
    return fixed, free


# (5) Printing -------------------------------------------------------------------------------------


def print_function(function: Function, ordered: list[list[Instruction]]) -> list[bytes]:
    """The function with its blocks in the given order and its numbered values numbered anew."""
    blocks = [
        Block(block.label, block.opening, instructions)
        for block, instructions in zip(function.blocks, ordered, strict=True)
    ]
    numbers: dict[bytes, bytes] = {}
    for name, _ in names_in_order(function, blocks):
        if name is None or name.isdigit():
            number = b"%d" % len(numbers)
            numbers[number if name is None else name] = number
    out = [render(function.header, numbers)]
    for block in blocks:
        if block.opening:
            # The label stands without a sigil, an empty line before every one but the first.
            label = numbers.get(block.opening[1], block.opening[1])
            out += (block.opening[0] + label + render(block.opening[2:], numbers)).split(b"\n")
        out += [render(one.pieces, numbers) for one in block.instructions]
    return out
