"""``llvm-evaluation-order``: what two hosts really print meets, and nothing else does."""

from __future__ import annotations

import datetime
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.ledger import Explained, NotExplained, explain, load
from harness.models import ComparisonKind
from harness.normalizers import NORMALIZERS
from harness.normalizers.interface import NotApplicable

ASSETS = Path(__file__).parents[2] / "toolchains" / "explanations" / "tvm-evaluation-order"
ORDER = NORMALIZERS["llvm-evaluation-order"]
NAMES = NORMALIZERS["llvm-tbaa-names"]


def canonical(text: str) -> bytes:
    return ORDER.normalize(text.encode()).data


def refused(text: str) -> bool:
    try:
        canonical(text)
    except NotApplicable:
        return True
    return False


def module(*body: str, attributes: str = "nounwind") -> str:
    """One function of the given lines (a label has no indentation), two metadata nodes."""
    lines = [
        line if line.endswith(":") or not line else f"  {'  ' if line[0] == '#' else ''}{line}"
        for line in body
    ]
    return "\n".join(
        [
            "@g = global i32 0, align 4",
            "",
            "define i32 @f(ptr %p, ptr %q, i32 %a, i32 %b) #0 {",
            "entry:",
            *lines,
            "}",
            "",
            "declare i32 @h(i32)",
            "",
            "declare i32 @llvm.smax.i32(i32, i32)",
            "",
            f"attributes #0 = {{ {attributes} }}",
            "",
            "!0 = !{!0}",
            "!1 = !{!0, !1}",
            "",
        ]
    )


# What must meet ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hosts() -> tuple[bytes, bytes]:
    """tanh(x - y), as TVM 0.27.0.post1 printed it on x86-64 and on aarch64, for x86-64."""
    left, right = ((ASSETS / f"{host}.ll").read_bytes() for host in ("x86_64", "aarch64"))
    return left, right


def meet(data: bytes) -> bytes:
    for normalizer in (NAMES, ORDER, NAMES):
        data = normalizer.normalize(data).data
    return data


def test_what_two_hosts_printed_meets(hosts: tuple[bytes, bytes]) -> None:
    left, right = hosts
    assert left != right
    assert NAMES.normalize(left).data != NAMES.normalize(right).data
    assert ORDER.normalize(left).data != ORDER.normalize(right).data
    assert meet(left) == meet(right)


def test_the_ledger_explains_it_between_builders_never_between_repeats(
    hosts: tuple[bytes, bytes],
) -> None:
    today = datetime.date(2026, 11, 22)
    ledger = load(ASSETS.parents[1] / "explanations.toml", today)
    for kind in (ComparisonKind.REPEAT, ComparisonKind.VERSION, ComparisonKind.REBUILD):
        found = explain(*hosts, ledger.applicable("tvm", "llvm-unoptimized", kind, today))
        if kind is ComparisonKind.REPEAT:
            assert isinstance(found, NotExplained)
            continue
        assert isinstance(found, Explained), found
        assert found.ids == (
            "tvm-tbaa-heap-addresses",
            "tvm-evaluation-order",
            "tvm-tbaa-heap-addresses-in-order",
        )


def test_the_canonical_form_is_its_own(hosts: tuple[bytes, bytes]) -> None:
    for text in hosts:
        once = ORDER.normalize(text)
        assert 0 < once.ignored_bytes < len(text) / 5
        again = ORDER.normalize(once.data)
        assert (again.data, again.ignored_bytes) == (once.data, 0)


def test_the_canonical_form_holds_the_same_lines_up_to_numbers(hosts: tuple[bytes, bytes]) -> None:
    for text in hosts:
        before, after = (
            sorted(re.sub(rb"[%!][0-9]+", b"N", data).split(b"\n"))
            for data in (text, ORDER.normalize(text).data)
        )
        assert before == after


def test_a_changed_byte_is_never_explained(hosts: tuple[bytes, bytes]) -> None:
    left, right = hosts
    target = meet(right)
    heap = {
        at for found in re.finditer(rb'(?<=!\{!")0x[0-9a-f]+', left) for at in range(*found.span())
    }
    chance = random.Random(3)
    tried = 0
    while tried < 60:
        at = chance.randrange(left.index(b"\ndefine"), len(left))
        byte = chance.choice([left[at] ^ (1 << chance.randrange(8)), chance.choice(left)])
        if at in heap or byte == left[at]:
            continue
        tried += 1
        try:
            assert meet(left[:at] + bytes([byte]) + left[at + 1 :]) != target, (at, byte)
        except NotApplicable:
            continue


TYPE_CHECK = (
    ("%0 = load i32, ptr %p, align 4, !tbaa !0", "%1 = icmp sge i32 %0, 64"),
    ("%2 = load i32, ptr %q, align 4, !tbaa !1", "%3 = icmp eq i32 %2, 7"),
)
DECIDE = "%4 = or i1 %{}, %{}", "%5 = zext i1 %4 to i32", "ret i32 %5"


def test_operands_in_either_order_of_evaluation_meet() -> None:
    first, second = TYPE_CHECK
    left = module(*first, *second, DECIDE[0].format(1, 3), *DECIDE[1:])
    swapped = [
        "%0 = load i32, ptr %q, align 4, !tbaa !0",
        "%1 = icmp eq i32 %0, 7",
        "%2 = load i32, ptr %p, align 4, !tbaa !1",
        "%3 = icmp sge i32 %2, 64",
        DECIDE[0].format(3, 1),
        *DECIDE[1:],
    ]
    # LLVM numbers metadata as it meets it, so the nodes change their numbers too.
    right = module(*swapped).replace("!0 = !{!0}\n!1 = !{!0, !1}", "!0 = !{!1, !0}\n!1 = !{!1}")
    assert left != right
    assert canonical(left) == canonical(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        # a pure instruction passes a store, a call, a debug record
        (
            ["%0 = add i32 %a, 1", "store i32 %b, ptr %p, align 4", "ret i32 %0"],
            ["store i32 %b, ptr %p, align 4", "%0 = add i32 %a, 1", "ret i32 %0"],
        ),
        (
            ["%x = add i32 %a, 1", "%0 = call i32 @h(i32 %b)", "store i32 %0, ptr %p, align 4",
             "ret i32 %x"],
            ["%0 = call i32 @h(i32 %b)", "store i32 %0, ptr %p, align 4", "%x = add i32 %a, 1",
             "ret i32 %x"],
        ),
        # loads and divisions pass each other
        (
            ["%x = load i32, ptr %p, align 4", "%y = sdiv i32 %a, %b", "%z = add i32 %x, %y",
             "ret i32 %z"],
            ["%y = sdiv i32 %a, %b", "%x = load i32, ptr %p, align 4", "%z = add i32 %x, %y",
             "ret i32 %z"],
        ),
        # an intrinsic that only computes passes a load
        (
            ["%x = load i32, ptr %p, align 4", "%y = call i32 @llvm.smax.i32(i32 %a, i32 %b)",
             "%z = sub i32 %x, %y", "ret i32 %z"],
            ["%y = call i32 @llvm.smax.i32(i32 %a, i32 %b)", "%x = load i32, ptr %p, align 4",
             "%z = sub i32 %x, %y", "ret i32 %z"],
        ),
    ],
)  # fmt: skip
def test_legal_orders_meet(left: list[str], right: list[str]) -> None:
    assert canonical(module(*left)) == canonical(module(*right))


# What must not be explained -----------------------------------------------------------------------

BASE = [
    "%0 = load i32, ptr %p, align 4, !tbaa !0",
    "%1 = sub nsw i32 %0, %a",
    "%2 = icmp slt i32 %1, 7",
    "store i32 %1, ptr %q, align 4",
    "store i32 %a, ptr %p, align 4",
    "%3 = load i32, ptr %q, align 4",
    "%4 = call i32 @h(i32 %3)",
    "%5 = udiv exact i32 %4, %b",
    "%6 = load volatile i32, ptr %p, align 4",
    "%7 = load volatile i32, ptr %q, align 4",
    "fence seq_cst",
    "%8 = getelementptr inbounds i32, ptr %q, i32 %6",
    "br i1 %2, label %yes, label %no, !prof !1",
    "",
    "yes:",
    "%9 = add i32 %5, %7",
    "br label %no",
    "",
    "no:",
    "%10 = phi i32 [ %9, %yes ], [ %3, %entry ]",
    "%11 = load i32, ptr %8, align 4",
    "%12 = add i32 %10, %11",
    "ret i32 %12",
]


def edited(*edits: tuple[str, str]) -> str:
    """BASE with each first text replaced by the second; each must be there exactly once."""
    text = "\n".join(BASE)
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return module(*text.split("\n"))


def exchanged(first: str, second: str) -> str:
    """BASE with the lines that begin so exchanged; the numbers of values stay where they were."""
    lines = list(BASE)
    one, two = (
        next(at for at, line in enumerate(lines) if line.startswith(start))
        for start in (first, second)
    )
    lines[one], lines[two] = lines[two], lines[one]
    return module(*lines)


WRONG = {
    "swapped operands of a subtraction": edited(("i32 %0, %a", "i32 %a, %0")),
    "another predicate": edited(("icmp slt", "icmp sle")),
    "a dropped nsw": edited(("sub nsw", "sub")),
    "a dropped exact": edited(("udiv exact", "udiv")),
    "a dropped inbounds": edited(("inbounds ", "")),
    "an added flag": edited(("%12 = add", "%12 = add nuw")),
    "another alignment of a load": edited(("i32, ptr %p, align 4, !", "i32, ptr %p, align 1, !")),
    "another alignment of a store": edited(("i32 %1, ptr %q, align 4", "i32 %1, ptr %q, align 8")),
    "another constant": edited(("i32 %1, 7", "i32 %1, 8")),
    "another width": edited(("load i32, ptr %8", "load i16, ptr %8")),
    "another operation": edited(("%9 = add", "%9 = xor")),
    "another alias class": edited((", !tbaa !0", ", !tbaa !1")),
    "no alias class": edited((", !tbaa !0", "")),
    "other branch weights": edited(("!prof !1", "!prof !0")),
    "a removed check": edited(("br i1 %2, label %yes, label %no, !prof !1", "br label %yes")),
    "a check that is always true": edited(("br i1 %2,", "br i1 true,")),
    "exchanged targets": edited(("label %yes, label %no,", "label %no, label %yes,")),
    "a phi's values exchanged": edited(("%9, %yes ], [ %3", "%3, %yes ], [ %9")),
    "another callee": edited(("@h(i32 %3)", "@h2(i32 %3)")),
    "another argument": edited(("@h(i32 %3)", "@h(i32 %a)")),
    "one more call": edited(("fence seq_cst", "call void @hidden()\nfence seq_cst")),
    "one more store": edited(("fence seq_cst", "store i32 1, ptr @g, align 4\nfence seq_cst")),
    "one store less": edited(("store i32 %a, ptr %p, align 4\n", "")),
    "one more value that nothing uses": edited(("fence", "%dead = add i32 1, 2\nfence")),
    "a weaker fence": edited(("fence seq_cst", "fence acquire")),
    "no fence": edited(("fence seq_cst\n", "")),
    "a load made volatile": edited(("%3 = load", "%3 = load volatile")),
    "a volatile load made plain": edited(("%6 = load volatile", "%6 = load")),
    "a store made volatile": edited(("store i32 %a", "store volatile i32 %a")),
    "stores exchanged": exchanged("store i32 %1", "store i32 %a"),
    "volatile loads exchanged": edited(
        ("%6 = load volatile i32, ptr %p", "%6 = load volatile i32, ptr %q"),
        ("%7 = load volatile i32, ptr %q", "%7 = load volatile i32, ptr %p"),
        ("ptr %q, i32 %6", "ptr %q, i32 %7"),
        ("i32 %5, %7", "i32 %5, %6"),
    ),
    "a load moved over a store": edited(
        ("store i32 %a, ptr %p, align 4\n%3 = load i32, ptr %q, align 4",
         "%3 = load i32, ptr %q, align 4\nstore i32 %a, ptr %p, align 4"),
    ),
    "a load moved over a call": edited(
        ("%3 = load i32, ptr %q, align 4\n%4 = call i32 @h(i32 %3)",
         "%3 = call i32 @h(i32 %3)\n%4 = load i32, ptr %q, align 4"),
        ("i32 %4, %b", "i32 %3, %b"),
        ("[ %3, %entry ]", "[ %4, %entry ]"),
    ),
    "a division moved over a volatile load": edited(
        ("%5 = udiv exact i32 %4, %b\n%6 = load volatile i32, ptr %p, align 4",
         "%5 = load volatile i32, ptr %p, align 4\n%6 = udiv exact i32 %4, %b"),
        ("ptr %q, i32 %6", "ptr %q, i32 %5"),
        ("i32 %5, %7", "i32 %6, %7"),
    ),
    "an instruction moved to the next block": edited(
        ("%8 = getelementptr inbounds i32, ptr %q, i32 %6\n", ""),
        ("%10 = phi i32 [ %9, %yes ], [ %3, %entry ]\n",
         "%9 = phi i32 [ %8, %yes ], [ %3, %entry ]\n"
         "%10 = getelementptr inbounds i32, ptr %q, i32 %6\n"),
        ("%9 = add", "%8 = add"),
        ("ptr %8", "ptr %10"),
        ("i32 %10, %11", "i32 %9, %11"),
    ),
    "another function attribute": module(*BASE, attributes="nounwind willreturn"),
    "another type of a global": module(*BASE).replace("global i32 0", "constant i32 0"),
    "another attribute of an argument": module(*BASE).replace("(ptr %p,", "(ptr noalias %p,"),
    "another metadata node": module(*BASE).replace("!1 = !{!0, !1}", "!1 = !{!1, !0}"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_is_never_explained(case: str) -> None:
    base = canonical(module(*BASE))
    wrong = WRONG[case]
    assert wrong != module(*BASE)
    assert refused(wrong) or canonical(wrong) != base


def test_most_of_these_are_read_and_told_apart_not_refused() -> None:
    assert [case for case in WRONG if refused(WRONG[case])] == ["a load moved over a call"]


def test_a_load_that_really_passed_a_call_is_told_apart() -> None:
    before = module("%0 = load i32, ptr %p, align 4", "%1 = call i32 @h(i32 %a)",
                    "%2 = sub i32 %0, %1", "ret i32 %2")  # fmt: skip
    after = module("%0 = call i32 @h(i32 %a)", "%1 = load i32, ptr %p, align 4",
                   "%2 = sub i32 %1, %0", "ret i32 %2")  # fmt: skip
    assert canonical(before) != canonical(after)


@pytest.mark.parametrize(
    "barrier",
    ["store i32 %a, ptr %q, align 4", "call void @w()", "fence acquire", "%v = alloca i32, align 4",
     "%v = load volatile i32, ptr %q, align 4", "%v = call i32 %q(i32 %b)",
     "%v = call i32 @llvm.ctpop.i32(i32 %b)",
     "%v = call i32 @llvm.smax.i32(i32 %a, i32 %b) #0"],
)  # fmt: skip
@pytest.mark.parametrize(
    "confined",
    ["%x = load i32, ptr %p, align 4", "%x = udiv i32 %a, %b", "%x = sdiv i32 %a, %b",
     "%x = urem i32 %a, %b", "%x = srem i32 %a, %b"],
)  # fmt: skip
def test_what_may_fault_or_read_stays_on_its_side(barrier: str, confined: str) -> None:
    before, after = module(confined, barrier, "ret i32 %x"), module(barrier, confined, "ret i32 %x")
    assert canonical(before) == before.encode()
    assert canonical(after) == after.encode()


@pytest.mark.parametrize(
    "line",
    ["%x = load atomic i32, ptr %p seq_cst, align 4", "%x = atomicrmw add ptr %p, i32 1 seq_cst",
     "%x = cmpxchg ptr %p, i32 1, i32 2 seq_cst seq_cst", "%x = freeze i32 %a",
     "%x = invoke i32 @h(i32 1) to label %entry unwind label %entry", "%x = va_arg ptr %p, i32",
     "%x = add i32 %a", "%x = add i32 %a, %b, !range !0", "%x = add i32 %a, %nowhere",
     "%x = add i32 %a, %x", "%5 = add i32 %a, 1", "%007 = add i32 %a, 1", "%a = add i32 %b, 1",
     "%x = add i32 %a, ptrtoint (ptr @g to i32)", "%x = add i32 %a, %b ; said",
     "musttail call void @w()",
     "%x = call i32 @h(i32 %a) strictfp", "call void asm \"\", \"\"()", "%x = add i32 %a, %\"b\"",
     "store i32 %a, ptr %p, align 4, !nontemporal !0", "%x = add  i32 %a, %b", "add i32 %a, %b",
     "%x = store i32 %a, ptr %p, align 4", "uselistorder i32 %a, { 1, 0 }",
     "%x = load i32, ptr %p, align 4, !tbaa ! 0", "%x = load i32, ptr %p, align 4, !tbaa !00"],
)  # fmt: skip
def test_what_is_not_known_is_refused(line: str) -> None:
    assert refused(module(line, "ret i32 1"))
    assert not refused(module("%x = add i32 %a, %b", "ret i32 1"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("define i32", "define\ni32"),
        ("{\nentry:", "{ entry:"),
        ("entry:", "entry: ret i32 1"),
        ("ret i32 %12\n}", "ret i32 %12"),
        ("ret i32 %12\n", "ret i32 %12\n  ret i32 %12\n"),
        ("ret i32 %12\n", ""),
        ("\n\nyes:", "\nyes:"),
        ("yes:", "entry:"),
        ("yes:", "a:"),
        ("ptr %q, i32 %a,", "ptr byval(i32) %q, i32 %a,"),
        ("!0 = !{!0}", "!0 = !{! 1}"),
        ("!0 = !{!0}", "!0 = !{!00000000001}"),
        ("!0 = !{!0}", "!0 = !{!7}"),
        ("@g = global", "/*\n*/ @g = global"),
        ("nounwind", "nounwind strictfp"),
    ],
)  # fmt: skip
def test_a_module_of_another_layout_is_refused(old: str, new: str) -> None:
    text = module(*BASE)
    assert old in text
    assert refused(text.replace(old, new, 1))


def test_values_that_need_each_other_are_no_endless_loop() -> None:
    body = ["ret i32 0", "", "one:", "%0 = add i32 %1, 2", "br label %two", "",
            "two:", "%1 = add i32 %0, 3", "br label %one"]  # fmt: skip
    assert canonical(module(*body)) == module(*body).encode()


def test_deep_graphs_need_no_deep_recursion() -> None:
    deep = [f"%{at} = add i32 {f'%{at - 1}' if at else '%a'}, {at}" for at in range(5000)]
    text = module(*deep, "ret i32 %4999")
    assert canonical(text) == text.encode()


def test_a_reference_in_a_string_or_a_comment_is_no_reference() -> None:
    text = module(*BASE).replace(
        "@g = global", '; !7 and "!8"\n@s = global [3 x i8] c"!1\\00"\n@g = global'
    )
    assert b'; !7 and "!8"\n@s = global [3 x i8] c"!1\\00"' in canonical(text)


# Properties -------------------------------------------------------------------------------------


class Program:
    """Two blocks of random instructions. Every value has its own constant somewhere, so that no two
    instructions are alike; every value is used.

    ``lines[i]``: the text, ``{}`` for each operand; ``operands[i]``: numbers of instructions, or of
    arguments below zero. ``group``: free, confined or fixed.
    """

    def __init__(self, draw: st.DrawFn) -> None:
        self.blocks: list[list[int]] = [[], []]
        self.lines: list[str] = []
        self.operands: list[list[int]] = []
        self.groups: list[str] = []
        numbers, pointers = [-1], [-2]
        unused: set[int] = set()

        def add(block: int, line: str, operands: list[int], group: str) -> int:
            self.lines.append(line.replace("KEY", str(len(self.lines) + 2)))
            self.operands.append(operands)
            self.groups.append(group)
            unused.difference_update(operands)
            self.blocks[block].append(len(self.lines) - 1)
            return len(self.lines) - 1

        def one(values: list[int]) -> int:
            return draw(st.sampled_from(values[-4:]))

        for block in (0, 1):
            for _ in range(draw(st.integers(1, 12))):
                kind = draw(st.sampled_from(["sub", "address", "load", "store", "call", "div"]))
                if kind == "sub":
                    new = add(block, "sub i32 {}, KEY", [one(numbers)], "free")
                elif kind == "div":
                    new = add(block, "sdiv i32 KEY, {}", [one(numbers)], "confined")
                elif kind == "address":
                    new = add(
                        block,
                        "getelementptr [KEY x i32], ptr {}, i32 {}, i32 {}",
                        [one(pointers), one(numbers), one(numbers)],
                        "free",
                    )
                    pointers.append(new)
                    unused.add(new)
                    continue
                elif kind == "load":
                    new = add(block, "load i32, ptr {}, align KEY", [one(pointers)], "confined")
                elif kind == "store":
                    operands = [one(numbers), one(pointers)]
                    add(block, "store i32 {}, ptr {}, align KEY", operands, "fixed")
                    continue
                else:
                    new = add(block, "call i32 @h(i32 {}, i32 KEY)", [one(numbers)], "fixed")
                numbers.append(new)
                unused.add(new)
        for value in sorted(unused):
            kind = "ptr" if "getelementptr" in self.lines[value] else "i32"
            add(1, f"call void @u({kind} {{}}, i32 KEY)", [value], "fixed")

    def text(self, orders: list[list[int]]) -> str:
        names = {-1: "%a", -2: "%p"}
        body: list[str] = []
        for position, order in enumerate(orders):
            for at in order:
                line = self.lines[at].format(*(names[operand] for operand in self.operands[at]))
                if not line.startswith(("store", "call void")):
                    names[at] = f"%{len(names) - 2}"
                    line = f"{names[at]} = {line}"
                body.append(line)
            body += ["ret i32 0"] if position else ["br label %next", "", "next:"]
        return module(*body)

    def shuffled(self, chance: random.Random) -> list[list[int]]:
        """Any order that the rules allow, drawn without knowing the canonical one."""
        return [self.shuffled_block(block, chance) for block in self.blocks]

    def shuffled_block(self, block: list[int], chance: random.Random) -> list[int]:
        after: dict[int, set[int]] = {at: set(self.operands[at]) & set(block) for at in block}
        for position, late in enumerate(block):
            for early in block[:position]:
                groups = {self.groups[early], self.groups[late]}
                if groups in ({"fixed"}, {"fixed", "confined"}):
                    after[late].add(early)
        order: list[int] = []
        while len(order) < len(block):
            ready = [at for at in block if at not in order and after[at] <= set(order)]
            order.append(chance.choice(ready))
        return order


programs = st.composite(Program)


@given(programs(), st.randoms(use_true_random=False))
@settings(max_examples=120, deadline=None)
@pytest.mark.slow
def test_every_legal_order_meets(program: Program, chance: random.Random) -> None:
    straight = canonical(program.text(program.blocks))
    for _ in range(3):
        assert canonical(program.text(program.shuffled(chance))) == straight


@given(programs(), st.randoms(use_true_random=False), st.data())
@settings(max_examples=200, deadline=None)
@pytest.mark.slow
def test_no_other_graph_meets(program: Program, chance: random.Random, data: st.DataObject) -> None:
    straight = canonical(program.text(program.blocks))
    at = data.draw(st.sampled_from(range(len(program.lines))))
    operands, line = program.operands[at], program.lines[at]
    change = data.draw(st.sampled_from(["operand", "constant", "fixed", "drop"]))
    orders = program.shuffled(chance)
    if change == "operand":
        place = data.draw(st.integers(0, len(operands) - 1))
        pointer = "ptr {}, align" in line or (place == 0 and "ptr {}" in line)
        earlier = [-2 if pointer else -1] + [
            other
            for block in orders
            for other in block
            if program.lines[other].startswith("getelementptr") == pointer
            and not program.lines[other].startswith(("store", "call void"))
        ]
        flat = [other for block in orders for other in block]
        others = [
            other
            for other in earlier
            if other != operands[place] and (other < 0 or flat.index(other) < flat.index(at))
        ]
        if not others:
            return
        operands[place] = data.draw(st.sampled_from(others))
    elif change == "constant":
        program.lines[at] = re.sub(r"\d+(?!\d|.*(?<![a-z{])\d)", lambda n: n[0] + "1", line)
        if program.lines[at] == line:
            return
    elif change == "drop":
        if not line.startswith(("store", "call void")):
            return
        orders = [[other for other in block if other != at] for block in orders]
    else:
        void = [
            i for i, text in enumerate(program.lines) if text.startswith(("store", "call void"))
        ]
        pairs = [(i, j) for i, j in pairwise(void) if max(program.operands[j]) < i]
        if not pairs:
            return
        one, two = data.draw(st.sampled_from(pairs))
        lines, needs = program.lines, program.operands
        lines[one], lines[two] = lines[two], lines[one]
        needs[one], needs[two] = needs[two], needs[one]
        orders = program.shuffled(chance)
    text = program.text(orders)
    assert refused(text) or canonical(text) != straight
