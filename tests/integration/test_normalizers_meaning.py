"""Normalizers against what programs do: equal after normalizing means equal when executed by LLVM.

Random functions are mutated, legally and not, and all mutants are normalized. Those that become
equal are run by ``lli`` and must leave the same trace: every effect in order, every load and
division between the same two effects, every block entered, the result, the memory. So any wrong
equality among a few thousand mutants shows, without a list of what might be wrong.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from harness import environments, toolchains
from harness.normalizers import NORMALIZERS
from harness.normalizers.interface import NotApplicable
from harness.process import run

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
LLVM = "llvm/22.1.8-xtc-x86_64"
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
PROGRAMS = 400 if DEEP else 16
MUTANTS = 120  # of each program
RUN = 25  # of each group of equal mutants
CHAIN = ("llvm-tbaa-names", "llvm-alloca-count", "llvm-evaluation-order", "llvm-tbaa-names")


@pytest.fixture(scope="module")
def llvm() -> dict[str, str]:
    toolchain = toolchains.find(toolchains.load([ROOT / "toolchains"]), LLVM)
    root = environments.prepare(toolchain).root
    tools = {name: str(root / tool.path) for name, tool in toolchain.tools.items()}
    return {**tools, "lli": str(Path(tools["opt"]).with_name("lli"))}


def normalized(text: str) -> bytes | None:
    data = text.encode()
    for name in CHAIN:
        try:
            data = NORMALIZERS[name].normalize(data).data
        except NotApplicable:
            return None
    return data


# Programs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """``text`` with ``{0}``, ``{1}`` for operands and ``{r}`` for its result; operands name results
    or are text.
    """

    text: str
    operands: tuple[str, ...] = ()
    result: str = ""


Block = list[Line]
Program = list[Block]
ARGUMENTS = ("%a", "%b")
BINARY = ("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr")
TAGS = ("!0", "!3")


def made(chance: random.Random) -> Program:
    """Three blocks: the first branches to the second or the third, which has phis."""
    known: list[str] = list(ARGUMENTS)
    outer: list[str] = []
    inner: list[str] = []
    kept = 0
    count = 0
    blocks: Program = []

    unused: list[str] = []

    def value() -> str:
        if unused and chance.random() < 0.6:
            return unused.pop(0)
        return chance.choice(known[-6:]) if chance.random() < 0.8 else str(chance.randrange(-9, 99))

    def add(block: Block, text: str, *operands: str, gives: bool = True) -> str:
        nonlocal count
        name = ""
        if gives:
            count += 1
            name = f"v{count}"
        block.append(Line(text, operands, name))
        return name

    def give(block: Block, text: str, *operands: str) -> None:
        known.append(add(block, text, *operands))
        unused.append(known[-1])

    def place(block: Block) -> str:
        masked = add(block, "{r} = and i32 {0}, 7", value())
        return add(
            block,
            f"{{r}} = getelementptr inbounds i32, ptr %{chance.choice('pq')}, i32 {{0}}",
            masked,
        )

    for number in range(3):
        block: Block = []
        if number == 0 and chance.random() < 0.7:
            kind, size = chance.choice(("i32", "i64")), chance.choice((1, 4))
            spot = add(block, f"{{r}} = alloca i32, {kind} {size}, align 4")
            add(block, "store i32 {0}, ptr {1}, align 4", value(), spot, gives=False)
            give(block, "{r} = load i32, ptr {0}, align 4", spot)
        if number == 2:
            give(block, "{r} = phi i32 [ {0}, %b1 ], [ {1}, %b0 ]", inner[0], outer[0])
            give(block, "{r} = phi i32 [ {0}, %b0 ], [ {1}, %b1 ]", outer[1], inner[1])
        for _ in range(chance.randint(4, 12)):
            match chance.randrange(13):
                case 0 | 1:
                    tag = chance.choice(TAGS)
                    give(block, f"{{r}} = load i32, ptr {{0}}, align 4, !tbaa {tag}", place(block))
                case 2 | 3:
                    tag = chance.choice(TAGS)
                    text = f"store i32 {{0}}, ptr {{1}}, align 4, !tbaa {tag}"
                    add(block, text, value(), place(block), gives=False)
                case 4:
                    give(
                        block, f"{{r}} = call i32 @{chance.choice(('h', 'h2'))}(i32 {{0}})", value()
                    )
                case 5:
                    odd = add(block, "{r} = or i32 {0}, 1", value())
                    operation = chance.choice(("udiv", "urem"))
                    give(block, f"{{r}} = {operation} i32 {{0}}, {{1}}", value(), odd)
                case 6:
                    name = chance.choice(("smax", "umin"))
                    text = f"{{r}} = call i32 @llvm.{name}.i32(i32 {{0}}, i32 {{1}})"
                    give(block, text, value(), value())
                case 7:
                    give(block, "{r} = load volatile i32, ptr {0}, align 4", place(block))
                case 8:
                    text = "store volatile i32 {0}, ptr {1}, align 4"
                    add(block, text, value(), place(block), gives=False)
                case 9:
                    word = chance.choice(("acquire", "release", "seq_cst"))
                    add(block, f"fence {word}", gives=False)
                case 10:
                    test = chance.choice(("slt", "ult", "eq", "sge"))
                    flag = add(block, f"{{r}} = icmp {test} i32 {{0}}, {{1}}", value(), value())
                    text = "{r} = select i1 {0}, i32 {1}, i32 {2}"
                    give(block, text, flag, value(), value())
                case _:
                    operation = chance.choice(BINARY)
                    least = chance.randrange(1, 9)
                    other = str(least) if operation in BINARY[6:] else value()
                    give(block, f"{{r}} = {operation} i32 {{0}}, {{1}}", value(), other)
        if number == 0:
            flag = add(block, "{r} = icmp slt i32 {0}, {1}", value(), value())
            add(block, "br i1 {0}, label %b1, label %b2, !prof !5", flag, gives=False)
            kept = len(known)
            outer = [chance.choice(known) for _ in range(2)]
        elif number == 1:
            add(block, "br label %b2", gives=False)
        else:
            add(block, "ret i32 {0}", value(), gives=False)
        blocks.append(block)
        unused.clear()
        if number == 1:  # the last block may use what the first gave; of this, its phis only
            inner = [chance.choice(known) for _ in range(2)]
            del known[kept:]
    return blocks


NODES = """\
!0 = !{!1, !1, i64 0}
!1 = !{!"ADDRESS1", !2, i64 0}
!2 = !{!"tvm-tbaa"}
!3 = !{!4, !4, i64 0}
!4 = !{!"ADDRESS2", !2, i64 0}
!5 = !{!"branch_weights", i32 1, i32 4}
"""
DECLARED = """\
declare i32 @h(i32)

declare i32 @h2(i32)

declare i32 @llvm.smax.i32(i32, i32)
"""
IMPOSTOR = "@llvm.umin.i32 = alias i32 (i32, i32), ptr @hidden\n"


def body(blocks: Program, numbered: bool) -> str:
    """The function, its values named or numbered as LLVM does."""
    names = {line.result: "" for block in blocks for line in block if line.result}
    for number, name in enumerate(names):
        names[name] = f"%{number}" if numbered else f"%{name}"
    out = ["define i32 @f(ptr %p, ptr %q, i32 %a, i32 %b) #0 {"]
    for number, block in enumerate(blocks):
        preds = {0: "", 1: "; preds = %b0", 2: "; preds = %b1, %b0"}[number]
        label = f"b{number}:"
        out += ([""] if number else []) + [f"{label:<50}{preds}" if preds else label]
        for line in block:
            operands = [names.get(operand, operand) for operand in line.operands]
            out.append("  " + line.text.format(*operands, r=names.get(line.result, "")))
    return "\n".join([*out, "}", ""])


def module(function: str, addresses: tuple[str, str]) -> str:
    nodes = NODES.replace("ADDRESS1", addresses[0]).replace("ADDRESS2", addresses[1])
    hidden = (
        "define i32 @hidden(i32 %x, i32 %y) {\nb0:\n  %0 = call i32 @h(i32 %y)\n  ret i32 %0\n}\n"
    )
    group = "attributes #0 = { nounwind }\n"
    return "\n".join([IMPOSTOR, hidden, function, DECLARED, group, nodes])


# Mutants -----------------------------------------------------------------------------------------


def kind_of(line: Line) -> str:
    if "= getelementptr" in line.text or "= alloca" in line.text:
        return "ptr"
    return "i1" if "= icmp" in line.text else "i32"


def places(block: Block, line: Line, at: int) -> range:
    """Where the line may go so that every value is still given before it is used: near ``at``."""
    first, last = 0, len(block) - 1
    for number, other in enumerate(block):
        if other.result and other.result in line.operands:
            first = number + 1
        if line.result and line.result in other.operands and not other.text.startswith("{r} = phi"):
            last = min(last, number)
    phis = sum(other.text.startswith("{r} = phi") for other in block)
    return range(max(first, at - 5, phis), max(min(last, at + 5), first, phis) + 1)


def mutant(blocks: Program, chance: random.Random) -> Program:
    """One to six changes. Most only move a line, so that many mutants are legal orders."""
    blocks = [list(block) for block in blocks]
    for _ in range(chance.choice((1, 1, 2, 4, 6))):
        block = chance.choice(blocks)
        last = len(block) - 2  # the terminator stays
        at = chance.randint(0, last)
        kind = chance.randrange(26)
        if kind < 16:
            line = block.pop(at)
            block.insert(chance.choice(places(block, line, at)), line)
        elif kind == 16:
            block[at] = replace(block[at], operands=block[at].operands[::-1])
        elif kind == 17 and block[at].operands:
            kinds = {line.result: kind_of(line) for other in blocks for line in other}
            changed = list(block[at].operands)
            place = chance.randrange(len(changed))
            wanted = kinds.get(changed[place], "i32")
            every = [line.result for line in block if line.result and kind_of(line) == wanted]
            changed[place] = chance.choice([changed[place], *every])
            block[at] = replace(block[at], operands=tuple(changed))
        elif kind == 18:
            words = [
                ("add", "sub"), ("smax", "umin"), ("@h(", "@h2("), ("slt", "sge"), ("udiv", "urem"),
                ("volatile ", ""), ("!0", "!3"), ("i64 4", "i32 4"), ("i32 1,", "i64 1,"),
                ("align 4", "align 2"), ("%p", "%q"), ("acquire", "seq_cst"), ("eq", "ne"),
            ]  # fmt: skip
            old, new = chance.choice(words)[:: chance.choice((1, -1))]
            text = block[at].text
            block[at] = replace(block[at], text=text.replace(old, new, 1) if old else text)
        elif kind == 19:
            operands = tuple(
                str(int(operand) + 1) if operand.lstrip("-").isdigit() else operand
                for operand in block[at].operands
            )
            block[at] = replace(block[at], operands=operands)
        elif kind == 20 and not block[at].result:
            del block[at]
        elif kind == 21 and not block[at].result:
            block.insert(chance.randint(0, last), block[at])
        elif kind == 22:
            # Two lines of one shape exchange what they do, but not their places.
            same = [n for n, line in enumerate(block[:-1]) if line.text == block[at].text]
            other = chance.choice(same)
            one, two = block[at], block[other]
            block[at] = replace(one, operands=two.operands)
            block[other] = replace(two, operands=one.operands)
    return blocks


def groups(chance: random.Random, program: Program) -> dict[bytes, set[str]]:
    """The texts of the program's mutants by what they are after normalizing."""
    found: dict[bytes, set[str]] = defaultdict(set)
    numbered = chance.random() < 0.5
    for number in range(MUTANTS):
        blocks = program if number == 0 else mutant(program, chance)
        addresses = tuple(f"0x{chance.randrange(1, 2**44):x}" for _ in range(2))
        text = module(body(blocks, numbered), (addresses[0], addresses[1]))
        form = normalized(text)
        if form is not None:
            found[form].add(text)
    return found


# What they do ------------------------------------------------------------------------------------

# Each effect mixes itself and what was loaded or divided since the last one into the log.
RUNTIME = """\
@p = global [8 x i32] zeroinitializer, align 16
@q = global [8 x i32] zeroinitializer, align 16
@log = global i64 0, align 8
@since = global i64 0, align 8
@format = constant [11 x i8] c"%lld %lld\\0A\\00"

declare i32 @printf(ptr, ...)
declare i32 @llvm.smax.i32(i32, i32)
@llvm.umin.i32 = alias i32 (i32, i32), ptr @hidden

define i64 @hash(i64 %x) {
  %1 = mul i64 %x, -7046029254386353131
  %2 = lshr i64 %1, 29
  %3 = xor i64 %1, %2
  %4 = mul i64 %3, -4658895280553007687
  %5 = lshr i64 %4, 32
  %6 = xor i64 %4, %5
  ret i64 %6
}

define void @effect(i64 %kind, i64 %x, i64 %y) {
  %since = load i64, ptr @since, align 8
  store i64 0, ptr @since, align 8
  %log = load i64, ptr @log, align 8
  %1 = xor i64 %log, %since
  %2 = call i64 @hash(i64 %1)
  %3 = add i64 %2, %kind
  %4 = call i64 @hash(i64 %3)
  %5 = add i64 %4, %x
  %6 = call i64 @hash(i64 %5)
  %7 = add i64 %6, %y
  %8 = call i64 @hash(i64 %7)
  store i64 %8, ptr @log, align 8
  ret void
}

define void @confined(i64 %x, i64 %y) {
  %1 = call i64 @hash(i64 %x)
  %2 = add i64 %1, %y
  %3 = call i64 @hash(i64 %2)
  %since = load i64, ptr @since, align 8
  %4 = add i64 %since, %3
  store i64 %4, ptr @since, align 8
  ret void
}

; Places in p and q have a number; any other is a stack's, which has none.
define i64 @number(ptr %x) {
  %1 = ptrtoint ptr %x to i64
  %2 = sub i64 %1, ptrtoint (ptr @p to i64)
  %3 = sub i64 %1, ptrtoint (ptr @q to i64)
  %4 = icmp ult i64 %2, 32
  %5 = icmp ult i64 %3, 32
  %6 = add i64 %3, 1000
  %7 = select i1 %5, i64 %6, i64 -1
  %8 = select i1 %4, i64 %2, i64 %7
  ret i64 %8
}

define i32 @load(ptr %x) {
  %n = call i64 @number(ptr %x)
  call void @confined(i64 1, i64 %n)
  %v = load i32, ptr %x, align 4
  ret i32 %v
}

define i32 @vload(ptr %x) {
  %n = call i64 @number(ptr %x)
  call void @effect(i64 2, i64 %n, i64 0)
  %v = load i32, ptr %x, align 4
  ret i32 %v
}

define void @put(i64 %kind, i32 %v, ptr %x) {
  %n = call i64 @number(ptr %x)
  %w = zext i32 %v to i64
  call void @effect(i64 %kind, i64 %n, i64 %w)
  store i32 %v, ptr %x, align 4
  ret void
}

define i32 @udiv(i32 %x, i32 %y) {
  %1 = zext i32 %x to i64
  %2 = zext i32 %y to i64
  call void @confined(i64 %1, i64 %2)
  %3 = udiv i32 %x, %y
  ret i32 %3
}

define i32 @urem(i32 %x, i32 %y) {
  %1 = zext i32 %x to i64
  %2 = zext i32 %y to i64
  call void @confined(i64 %2, i64 %1)
  %3 = urem i32 %x, %y
  ret i32 %3
}

; It writes to p and gives what depends on all effects so far.
define i32 @called(i64 %kind, i32 %x, i32 %y) {
  %1 = zext i32 %x to i64
  %2 = zext i32 %y to i64
  call void @effect(i64 %kind, i64 %1, i64 %2)
  %3 = and i32 %x, 7
  %4 = getelementptr i32, ptr @p, i32 %3
  %5 = load i32, ptr %4, align 4
  %6 = add i32 %5, %x
  store i32 %6, ptr %4, align 4
  %log = load i64, ptr @log, align 8
  %7 = trunc i64 %log to i32
  ret i32 %7
}

define i32 @h(i32 %x) {
  %1 = call i32 @called(i64 10, i32 %x, i32 0)
  ret i32 %1
}

define i32 @h2(i32 %x) {
  %1 = call i32 @called(i64 11, i32 %x, i32 0)
  ret i32 %1
}

define i32 @hidden(i32 %x, i32 %y) {
  %1 = call i32 @called(i64 12, i32 %x, i32 %y)
  ret i32 %1
}

define void @run(ptr %f, i64 %number, ptr %second, i32 %a, i32 %b) {
start:
  store i64 0, ptr @log, align 8
  store i64 0, ptr @since, align 8
  br label %fill

fill:
  %i = phi i32 [ 0, %start ], [ %next, %fill ]
  %x = mul i32 %i, %a
  %y = xor i32 %x, %b
  %pi = getelementptr i32, ptr @p, i32 %i
  %qi = getelementptr i32, ptr @q, i32 %i
  store i32 %x, ptr %pi, align 4
  store i32 %y, ptr %qi, align 4
  %next = add i32 %i, 1
  %more = icmp ult i32 %next, 8
  br i1 %more, label %fill, label %go

go:
  %r = call i32 %f(ptr @p, ptr %second, i32 %a, i32 %b)
  %w = zext i32 %r to i64
  call void @effect(i64 20, i64 %w, i64 0)
  br label %read

read:
  %j = phi i32 [ 0, %go ], [ %after, %read ]
  %pj = getelementptr i32, ptr @p, i32 %j
  %qj = getelementptr i32, ptr @q, i32 %j
  %u = load i32, ptr %pj, align 4
  %v = load i32, ptr %qj, align 4
  %u64 = zext i32 %u to i64
  %v64 = zext i32 %v to i64
  call void @effect(i64 21, i64 %u64, i64 %v64)
  %after = add i32 %j, 1
  %again = icmp ult i32 %after, 8
  br i1 %again, label %read, label %done

done:
  %all = load i64, ptr @log, align 8
  %printed = call i32 (ptr, ...) @printf(ptr @format, i64 %number, i64 %all)
  ret void
}
"""
TRACED = (
    # What the stack holds is nobody's business: the same in every run.
    (r"(%\S+) = (alloca i32.*)", r"\1 = \2\n  store i32 77, ptr \1"),
    (r"(%\S+) = load i32, ptr (\S+), align \d", r"\1 = call i32 @load(ptr \2)"),
    (r"(%\S+) = load volatile i32, ptr (\S+), align \d", r"\1 = call i32 @vload(ptr \2)"),
    (r"store i32 (\S+), ptr (\S+), align \d", r"call void @put(i64 3, i32 \1, ptr \2)"),
    (r"store volatile i32 (\S+), ptr (\S+), align \d", r"call void @put(i64 4, i32 \1, ptr \2)"),
    (r"(%\S+) = (udiv|urem) i32 (\S+), (\S+)", r"\1 = call i32 @\2(i32 \3, i32 \4)"),
    (r"fence acquire", "call void @effect(i64 5, i64 0, i64 0)"),
    (r"fence release", "call void @effect(i64 6, i64 0, i64 0)"),
    (r"fence seq_cst", "call void @effect(i64 7, i64 0, i64 0)"),
)


def traced(text: str, number: int) -> str:
    """The module's function alone, with a call of the runtime for all that the trace shows."""
    function = text[text.index("define i32 @f(") :]
    function = function[: function.index("\n}\n") + 3].replace("@f(", f"@f{number}(", 1)
    function = re.sub(r", !(?:tbaa|prof) !\d+", "", function).replace(" #0 {", " {")
    for old, new in TRACED:
        function = re.sub(rf"^  {old}$", f"  {new}", function, flags=re.MULTILINE)
    # A block's entry is an effect; phis come first.
    parts = re.split(r"^b(\d):.*\n((?:  \S+ = phi .*\n)*)", function, flags=re.MULTILINE)
    out = parts[0]
    for at in range(1, len(parts), 3):
        entered = f"  call void @effect(i64 8, i64 {parts[at]}, i64 0)\n"
        out += f"b{parts[at]}:\n{parts[at + 1]}{entered}{parts[at + 2]}"
    return out


INPUTS = (("@q", 3, 5), ("@q", -7, 2), ("@p", 11, 900), ("@q", 0, 0), ("@p", 1 << 30, -1))


def traces(llvm: dict[str, str], texts: list[str], folder: Path) -> dict[str, tuple[str, ...]]:
    """What each module's function does on all inputs; nothing for what LLVM does not take."""
    lines = [
        f"  call void @run(ptr @f{number}, i64 {number}, ptr {second}, i32 {a}, i32 {b})"
        for number in range(len(texts))
        for second, a, b in INPUTS
    ]
    main = "\n".join(["define i32 @main() {", *lines, "  ret i32 0", "}", ""])
    functions = [traced(text, number) for number, text in enumerate(texts)]
    source = folder / "traced.ll"
    source.write_text("\n".join([RUNTIME, *functions, main]))
    done = run([llvm["lli"], "-O0", str(source)], timeout=120, tail_bytes=2**24)
    if done.exit_code != 0:
        if len(texts) == 1:
            return {}
        half = len(texts) // 2
        return traces(llvm, texts[:half], folder) | traces(llvm, texts[half:], folder)
    found: dict[str, list[str]] = defaultdict(list)
    for line in done.output.splitlines():
        number, trace = line.split()
        found[texts[int(number)]].append(trace)
    assert all(len(each) == len(INPUTS) for each in found.values())
    return {text: tuple(each) for text, each in found.items()}


# The tests ---------------------------------------------------------------------------------------


def test_what_becomes_equal_does_the_same(llvm: dict[str, str], tmp_path: Path) -> None:
    chance = random.Random() if DEEP else random.Random(2026)
    together = 0
    told = 0
    for _ in range(PROGRAMS // 8):
        found = [groups(chance, made(chance)) for _ in range(8)]
        every = [sorted(group)[:RUN] for one in found for group in one.values()]
        did = traces(llvm, [text for group in every for text in group], tmp_path)
        for group in every:
            valid = [text for text in group if text in did]
            for text, other in pairwise(valid):
                assert did[text] == did[other], f"a wrong equality:\n{text}\n---\n{other}"
            together += len(valid) - 1 if valid else 0
        for one in found:
            told += len({did[text] for group in one.values() for text in group if text in did}) > 1
    assert together > 3 * PROGRAMS  # the test sees enough that became equal
    assert told > PROGRAMS // 2  # and mutants that do something else


# Alias classes and counts: no code may depend on what is replaced --------------------------------

REPLACING = ("llvm-tbaa-names", "llvm-alloca-count")
MODULES = 60 if DEEP else 6
VARIANTS = 60
COMPILED = 6  # of each group of equal variants
BUFFERS = ("0x5570b193e0f0", "0x5570b193e1a0", "0x7ffe00001000")


def replaced(text: str) -> bytes | None:
    data = text.encode()
    for name in REPLACING:
        try:
            data = NORMALIZERS[name].normalize(data).data
        except NotApplicable:
            return None
    return data


def tree() -> tuple[list[str], list[int]]:
    """The numbered nodes that TVM writes for two places of each buffer; and the tags' numbers."""
    nodes: dict[str, str] = {}

    def number(name: str) -> str:
        return f"!{list(nodes).index(name)}"

    nodes["root"] = '!{!"tvm-tbaa"}'
    for buffer in BUFFERS:
        nodes[buffer] = f'!{{!"{buffer}", {number("root")}, i64 0}}'
        for width in (1024, 512, 256, 128, 64, 32, 16, 8, 4):
            for offset in (0, 64):
                start = offset - offset % width
                name = f"{buffer}.w{width}.b{start}"
                wide = offset - offset % (2 * width)
                above = buffer if width == 1024 else f"{buffer}.w{2 * width}.b{wide}"
                nodes.setdefault(name, f'!{{!"{name}", {number(above)}, i64 0}}')
    for name in [name for name in nodes if ".w4." in name]:
        nodes[f"tag {name}"] = f"!{{{number(name)}, {number(name)}, i64 0}}"
    lines = [f"!{at} = {content}" for at, content in enumerate(nodes.values())]
    return lines, [at for at, name in enumerate(nodes) if name.startswith("tag")]


def accesses(chance: random.Random) -> str:
    """Loads and stores through three pointers that only their alias classes tell apart."""
    nodes, tags = tree()
    count = chance.choice((1, 3, 7))
    counted = ", ".join(["alloca i32", f"{chance.choice(('i32', 'i64'))} {count}", "align 4"])
    lines = [f"  %s = {counted}", "  %t = alloca float, align 4"]
    lines += ["  store i32 %n, ptr %s, align 4", "  call void @use(ptr %s, ptr %t)"]
    for number in range(12):
        tag = f"!tbaa !{chance.choice(tags)}"
        pointer = f"ptr %{chance.choice('pqr')}, align 4, {tag}"
        if chance.random() < 0.5:
            lines += [f"  %v{number} = load i32, {pointer}"]
            lines += [f"  %w{number} = getelementptr i32, ptr %o, i64 {number}"]
            lines += [f"  store i32 %v{number}, ptr %w{number}, align 4, !tbaa !{tags[0]}"]
        else:
            lines += [f"  store i32 {chance.randrange(9)}, {pointer}"]
    return "\n".join(
        [
            'source_filename = "m"',
            'target triple = "x86_64-unknown-linux-gnu"',
            "",
            "define void @f(ptr %p, ptr %q, ptr %r, ptr noalias %o, i32 %n) {",
            "entry:",
            *lines,
            "  ret void",
            "}",
            "",
            "declare void @use(ptr, ptr)",
            "",
            *nodes,
            "",
        ]
    )


def variant(text: str, chance: random.Random) -> str:
    """Other addresses, some of them the same; other counts; and often one more change."""
    fresh = [f"0x{chance.randrange(1, 2**44):x}" for _ in BUFFERS]
    if chance.random() < 0.2:
        fresh[1] = fresh[0]
    if chance.random() < 0.3:
        fresh = list(BUFFERS[::-1])
    for old, new in zip(BUFFERS, fresh, strict=True):
        text = text.replace(f'"{old}', f'"<{new}')
    text = text.replace('"<', '"')
    if chance.random() < 0.5:
        found = re.search(r"%s = alloca i32, (i32|i64) (\d+)", text)
        assert found is not None
        kind, count = found[1], int(found[2])
        new = f", {chance.choice(('i32', 'i64', 'i16'))} {chance.choice((count, count, count + 1))}"
        if count == 1 and chance.random() < 0.5:
            new = ""
        text = text.replace(f"alloca i32, {kind} {count}", f"alloca i32{new}")
    if chance.random() < 0.2:
        text = text.replace("alloca float,", chance.choice(("alloca float, i64 1,", "alloca i64,")))
    if chance.random() < 0.5:
        lines = text.split("\n")
        used = [n for n, line in enumerate(lines) if "!" in line]
        one, other = chance.choice(used), chance.choice(used)
        numbers = re.findall(r"!(\d+)", lines[other])
        lines[one] = re.sub(r"!\d+(?!.*!\d)", f"!{chance.choice(numbers)}", lines[one], count=1)
        text = "\n".join(lines)
    return text


def compiled(llvm: dict[str, str], text: str, folder: Path) -> tuple[bytes, bytes] | None:
    """The object that LLVM makes of it, and the text as LLVM prints it; None if it is invalid."""
    source, code, printed, made = (folder / name for name in ("m.ll", "m.bc", "p.ll", "m.o"))
    source.write_text(text)
    opt = [llvm["opt"], "-passes=default<O2>", "-mcpu=x86-64-v3", str(source), "-o", str(code)]
    if run(opt, timeout=60).exit_code != 0:
        return None
    for command in (
        [llvm["llc"], "-O2", "-mcpu=x86-64-v3", "-filetype=obj", str(code), "-o", str(made)],
        [llvm["opt"], "-passes=verify", "-S", str(source), "-o", str(printed)],
    ):
        done = run(command, timeout=60)
        assert done.exit_code == 0, done.output
    return made.read_bytes(), printed.read_bytes()


def test_no_code_depends_on_what_is_replaced(llvm: dict[str, str], tmp_path: Path) -> None:
    chance = random.Random() if DEEP else random.Random(2027)
    together = 0
    objects: set[bytes] = set()
    for _ in range(MODULES):
        base = accesses(chance)
        found: dict[bytes, set[str]] = defaultdict(set)
        for number in range(VARIANTS):
            text = variant(base, chance) if number else base
            form = replaced(text)
            if form is not None:
                found[form].add(text)
        for form, texts in sorted(found.items(), key=lambda item: -len(item[1]))[:5]:
            made = [compiled(llvm, text, tmp_path) for text in sorted(texts)[:COMPILED]]
            valid = [one for one in made if one is not None]
            for code, printed in valid:
                assert code == valid[0][0], form.decode()
                # LLVM reads them as one module, but for what is replaced.
                assert replaced(printed.decode()) == replaced(valid[0][1].decode()), form.decode()
                objects.add(code)
            together += max(0, len(valid) - 1)
    assert together > 2 * MODULES
    assert len(objects) > MODULES  # alias classes matter: some variants are other code


# Attachments: they move with their instruction ---------------------------------------------------


def attached(text: str) -> Counter[str]:
    """Each instruction's shape with all that hangs on it, by block; numbers written out."""
    nodes = dict(re.findall(r"^!(\d+) = (.*)$", text, re.MULTILINE))

    def whole(number: str, depth: int = 0) -> str:
        if depth == 6:
            return "…"
        return re.sub(r"!(\d+)", lambda found: whole(found[1], depth + 1), nodes[number])

    found: Counter[str] = Counter()
    block = ""
    for line in text[: text.index("\n!0 = ")].split("\n"):
        block = line if line[:1] not in (" ", "") else block
        shape = re.sub(r"%[\w.]+", "%", line)
        found[block + re.sub(r"!(\d+)", lambda one: whole(one[1]), shape)] += 1
    return found


def test_attachments_stay_with_their_instructions() -> None:
    chance = random.Random() if DEEP else random.Random(2028)
    order = NORMALIZERS["llvm-evaluation-order"]
    together = 0
    for _ in range(PROGRAMS):
        program, found = made(chance), defaultdict(set)
        for number in range(MUTANTS // 2):
            blocks = program if number == 0 else mutant(program, chance)
            text = module(body(blocks, numbered=True), ("0x1", "0x2"))
            try:
                found[order.normalize(text.encode()).data].add(text)
            except NotApplicable:
                continue
        for texts in found.values():
            shapes = [attached(text) for text in texts]
            assert all(shape == shapes[0] for shape in shapes), sorted(texts)[0]
            together += len(texts) - 1
    assert together > 3 * PROGRAMS


# Names: what a call may be taken for -------------------------------------------------------------

INTRINSIC = "declare i32 @llvm.umin.i32(i32, i32)\n"
OTHERS = (
    "@llvm.umin.i32 = alias i32 (i32, i32), ptr @hidden\n",
    "@llvm.umin.i32 = ifunc i32 (i32, i32), ptr @chosen\n",
    "@llvm.umin.i32 = global i32 0\n",
    '@"llvm.umin.i32" = alias i32 (i32, i32), ptr @hidden\n',
    '@"llvm.\\75min.i32" = alias i32 (i32, i32), ptr @hidden\n',
    "define i32 @llvm.umin.i32(i32 %x, i32 %y) {\n  ret i32 %x\n}\n",
)
REST = (
    "define i32 @hidden(i32 %x, i32 %y) {\n  ret i32 %y\n}\n"
    "define ptr @chosen() {\n  ret ptr @hidden\n}\n"
    "define i32 @f(i32 %x) {\n  %1 = call i32 @llvm.umin.i32(i32 %x, i32 1)\n  ret i32 %1\n}\n"
)


@pytest.mark.parametrize("other", OTHERS)
def test_a_declared_name_is_no_others(llvm: dict[str, str], tmp_path: Path, other: str) -> None:
    """An alias may bear the name of an intrinsic, but not where the text declares it."""
    source = tmp_path / "m.ll"

    def taken(text: str) -> bool:
        source.write_text(text)
        return run([llvm["as"], str(source), "-o", os.devnull], timeout=60).exit_code == 0

    assert taken(INTRINSIC + REST)
    assert taken(other + REST) != other.startswith("define")
    assert not taken(INTRINSIC + other + REST)
    assert not taken(other + INTRINSIC + REST)
