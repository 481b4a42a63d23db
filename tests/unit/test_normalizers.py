"""Each rule with what it must explain and, more important, what it must not."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.normalizers import NORMALIZERS, llvm_text
from harness.normalizers.interface import NotApplicable

TBAA = NORMALIZERS["llvm-tbaa-names"]
SPELLING = NORMALIZERS["tvm-constant-spelling"]

HEAD = """\
; ModuleID = 'TVMMod'
source_filename = "TVMMod"
@.str = private constant [16 x i8] c"it's 0x55a8\\0A; \\22!\\00", align 1

define float @f(ptr %p) !dbg !4 {
entry:                                            ; preds = %start
  %v = load float, ptr %p, align 4, !dbg !5, !tbaa !{tag}
  store float %v, ptr %p, !tbaa !9
  ret float %v
}

!llvm.module.flags = !{!0, !1}

"""
NODES = """\
!0 = !{i32 4, !"Debug Info Version", i32 3}
!1 = !{i32 2, !"note", !"0x55a800c24f70"}
!2 = !{!3, !3, i64 0}
!3 = !{!"A.w512.b512", !6, i64 0}
!4 = distinct !DISubprogram(name: "f", retainedNodes: !8)
!5 = !DILocation(line: 0, scope: !4)
!6 = !{!"A.w1024.b0", !7, i64 0}
!7 = !{!"A", !11, i64 0}
!8 = !{!0}
!9 = !{!10, !10, i64 0}
!10 = !{!"B", !11, i64 0}
!11 = !{!"tvm-tbaa"}
"""


def module(a: str = "0x55a800c24f70", b: str = "0x55a8deadbee0") -> str:
    names = NODES.replace('!"A', f'!"{a}').replace('!"B', f'!"{b}')
    return HEAD.replace("{tag}", "2") + names


def tbaa(text: str) -> str:
    return TBAA.normalize(text.encode()).data.decode()


def test_addresses_of_two_processes_meet() -> None:
    left, right = module(), module("0x7f00c0ffee10", "0x561200000000")
    assert left != right
    assert tbaa(left) == tbaa(right)


def test_only_the_addresses_change_and_are_counted() -> None:
    result = TBAA.normalize(module().encode())
    assert result.data.decode() == module("0x1", "0x2")
    assert result.ignored_bytes == 4 * len("0x55a800c24f70")


def test_a_canonical_text_is_its_own_canonical_form() -> None:
    result = TBAA.normalize(module("0x1", "0x2").encode())
    assert (result.data.decode(), result.ignored_bytes) == (module("0x1", "0x2"), 0)


def test_canonical_names_in_the_input_are_renamed_like_any_other() -> None:
    assert tbaa(module("0x2", "0x1")) == module("0x1", "0x2")
    assert tbaa(module("0x55a800c24f70", "0x1")) == module("0x1", "0x2")


@pytest.mark.parametrize("text", ["", "\n", HEAD, 'target triple = "x"\n!x = !{}\n'])
def test_a_text_without_addresses_is_left_as_it_is(text: str) -> None:
    result = TBAA.normalize(text.encode())
    assert (result.data.decode(), result.ignored_bytes) == (text, 0)


def test_a_last_line_without_newline_stays_without() -> None:
    assert tbaa(module()[:-1]) == module("0x1", "0x2")[:-1]


CHANGES = {
    "an instruction": ("load float", "load volatile float"),
    "which access has which tag": ("!tbaa !2", "!tbaa !9"),
    "a string constant": ("0x55a8\\0A", "0x55a9\\0A"),
    "an address in a string of other metadata": ('!"note", !"0x55a', '!"note", !"0x55b'),
    "a comment": ("TVMMod'", "TVMMoe'"),
    "the range of bytes": (".w512.b512", ".w512.b0"),
    "an attachment's kind": ("!dbg !5, !tbaa", "!dbg !5, !foo"),
    "a number in other metadata": ("i32 3}", "i32 4}"),
    "white space": ("ret float %v", "ret float  %v"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_other_change_stays_or_is_refused(change: str) -> None:
    old, new = CHANGES[change]
    right = module("0x7f00c0ffee10", "0x561200000000")
    assert right.count(old) == 1
    expected = tbaa(module())
    with contextlib.suppress(NotApplicable):
        assert tbaa(right.replace(old, new)) != expected


REFUSED = {
    "a string over two lines": ("it's", "it's\n"),
    "a string over two lines that would hide a node": (
        "c\"it's",
        'c"\n!2 = !{!"0xabc", !11, i64 0}\n',
    ),
    "a C comment": ("entry:", "entry: /* x */"),
    "a control character": ("entry:", "entry:\x1b"),
    "a carriage return that ends a comment": ("; preds", "; preds\r!2 = "),
    "text that LLVM would escape": ("it's", "it’s"),
    "numbered metadata in front of a function": ("define", "!12 = !{}\ndefine"),
    "a gap in the numbers": ("!8 = !{!0}", "!12 = !{!0}"),
    "something after the metadata": ("!11 = ", "\n!11 = "),
    "a function after the metadata": ("!11 = ", "define void @g() { ret void }\n!11 = "),
    "a comment after the metadata": ("!11 = ", "; !11\n!11 = "),
    "a second root": ("!8 = !{!0}", '!8 = !{!"tvm-tbaa"}'),
    "another root": ('!"tvm-tbaa"', '!"llvm-tbaa"'),
    "the same name twice": ('!"B"', '!"A"'),
    "a name below another address": ('!{!"A", !11', '!{!"C", !11'),
    "a name that skips a width": ('!"A.w512.b512", !6', '!"A.w256.b512", !6'),
    "a name outside its parent": (".w512.b512", ".w512.b1024"),
    "a misaligned name": (".w512.b512", ".w512.b100"),
    "a width that is no power of two": (".w512.b512", ".w500.b500"),
    "a parent that is a tag": ('!"B", !11', '!"B", !9'),
    "a name used by other metadata": ("!8 = !{!0}", "!8 = !{!10}"),
    "a name used by a distinct tag": ("!9 = !{!10", "!9 = distinct !{!10"),
    "a name used by an attachment": ("!dbg !5", "!dbg !3"),
    "a name used by a call": ("ret float", "call void @r(metadata !10)\n  ret float"),
    "a name used by named metadata": ("flags = !{!0,", "flags = !{!10,"),
    "a tag used by other metadata": ("!8 = !{!0}", "!8 = !{!9}"),
    "a tag used by another attachment": ("!dbg !5", "!prof !2"),
    "a name used apart from its mark": ("flags = !{!0,", "flags = !{! 10,"),
    "a name used past a comment": ("flags = !{!0,", "flags = !{!;x\n10,"),
    "a name used under a long number": ("flags = !{!0,", "flags = !{!0000000010,"),
    "a tag of two names": ("!2 = !{!3, !3", "!2 = !{!3, !6"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_proven_is_refused(case: str) -> None:
    old, new = REFUSED[case]
    text = (HEAD.replace("{tag}", "2") + NODES).replace(old, new, 1)
    assert text != HEAD.replace("{tag}", "2") + NODES, "the case changes nothing"
    text = re.sub('!"([ABC])(?=["w.])', lambda m: f'!"0x55a80000000{m[1].lower()}', text)
    with pytest.raises(NotApplicable):
        tbaa(text)


@pytest.mark.parametrize("name", ["0x", "0x0", "0xG1", "0X1f", "55a8", "0x1234567890abc", "0x1.w3"])
def test_a_name_that_is_no_address_is_never_renamed(name: str) -> None:
    """Such a node is other metadata; here it takes the place of B, alone in using its parent."""
    assert f'!"{name}"' in tbaa(module(b=name))
    assert tbaa(module(b=name)) != tbaa(module(b=name + "z"))


addresses = st.integers(1, 2**48 - 1).map(hex)


@st.composite
def trees(draw: st.DrawFn) -> str:
    """A module with some buffers, each with some chains of names, and a tag and use for each."""
    names: dict[str, str] = {}
    leaves = []
    for address in draw(st.lists(addresses, min_size=1, max_size=4, unique=True)):
        names[address] = "root"
        leaves.append(address)
        for _ in range(draw(st.integers(0, 2))):
            width, offset = 1024, draw(st.integers(0, 3000))
            parent = address
            while width >= draw(st.sampled_from([64, 512, 1024])):
                name = f"{address}.w{width}.b{offset - offset % width}"
                names[name] = parent
                parent, width = name, width // 2
            leaves.append(parent)
    order = draw(st.permutations(sorted(names)))
    number = {name: position for position, name in enumerate(order)} | {"root": len(order)}
    lines = [f'!{number[n]} = !{{!"{n}", !{number[names[n]]}, i64 0}}' for n in order]
    lines.append(f'!{len(order)} = !{{!"tvm-tbaa"}}')
    for leaf in leaves:
        lines.append(f"!{len(lines)} = !{{!{number[leaf]}, !{number[leaf]}, i64 0}}")
    uses = [f"  store i8 0, ptr %p, !tbaa !{len(order) + 1 + i}" for i in range(len(leaves))]
    return "\n".join(["define void @f(ptr %p) {", *uses, "}", *lines, ""])


def rename(text: str, mapping: dict[str, str]) -> str:
    return re.sub(r'(?<=!")0x[0-9a-f]+', lambda found: mapping[found[0]], text)


def names_in(text: str) -> list[str]:
    return re.findall(r'!"(0x[0-9a-f]+)', text)


@given(trees(), st.data())
def test_any_one_to_one_renaming_is_explained(text: str, data: st.DataObject) -> None:
    old = sorted(set(names_in(text)))
    size = len(old)
    new = data.draw(st.lists(addresses, min_size=size, max_size=size, unique=True))
    assert tbaa(rename(text, dict(zip(old, new, strict=True)))) == tbaa(text)
    assert tbaa(tbaa(text)) == tbaa(text)


@given(trees(), st.data())
def test_whatever_becomes_equal_is_a_one_to_one_renaming(text: str, data: st.DataObject) -> None:
    """Addresses exchanged, merged or split one place at a time; refused, different, or renamed."""
    places = list(re.finditer(r'(?<=!")0x[0-9a-f]+', text))
    pool = [place[0] for place in places] + data.draw(st.lists(addresses, max_size=2))
    other, position = "", 0
    for place in places:
        change = data.draw(st.booleans())
        other += text[position : place.start()]
        other += data.draw(st.sampled_from(pool)) if change else place[0]
        position = place.end()
    other += text[position:]
    try:
        equal = tbaa(other) == tbaa(text)
    except NotApplicable:
        return
    pairs = set(zip(names_in(text), names_in(other), strict=True))
    bijection = len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert equal == bijection


@given(trees(), st.data())
def test_one_changed_byte_outside_the_addresses_is_never_explained(
    text: str, data: st.DataObject
) -> None:
    inside = {i for found in re.finditer(r'(?<=!")0x[0-9a-f]+', text) for i in range(*found.span())}
    outside = [i for i in range(len(text)) if i not in inside]
    where = data.draw(st.sampled_from(outside))
    byte = data.draw(st.integers(0, 255))
    original = text.encode()
    other = bytearray(original)
    if other[where] == byte:
        return
    other[where] = byte
    expected = TBAA.normalize(original).data
    with contextlib.suppress(NotApplicable):
        assert TBAA.normalize(bytes(other)).data != expected


DIGESTS = ("sha256:" + "0a" * 32 + ":float32:1x2", "sha256:" + "1b" * 32 + ":int64:3")


def relax(spelling: str, *references: str) -> str:
    lines = [f'    lv{i} = R.add(x, metadata["{spelling}"][{r}])' for i, r in enumerate(references)]
    head = '# relax as R "\n@R.function\ndef main(x: R.Tensor((1,), "float32")):'
    return "\n".join([head, *lines, ""])


def spelt(text: str) -> str:
    return SPELLING.normalize(text.encode()).data.decode()


def test_two_spellings_of_the_same_constants_meet() -> None:
    old, new = relax("relax.expr.Constant", *DIGESTS), relax("ir.GenericConst", *DIGESTS)
    assert spelt(old) == new == spelt(new)
    assert SPELLING.normalize(old.encode()).ignored_bytes == 2 * len("relax.expr.Constant")
    assert SPELLING.normalize(new.encode()).ignored_bytes == 0


def test_exchanged_constants_stay_different() -> None:
    old = relax("relax.expr.Constant", *DIGESTS)
    assert spelt(old) != relax("ir.GenericConst", *reversed(DIGESTS))


SPELLINGS_REFUSED = {
    "a plain index": relax("relax.expr.Constant", "0"),
    "a plain index in the newer spelling": relax("ir.GenericConst", DIGESTS[0], "1"),
    "a digest that is too short": relax("relax.expr.Constant", "sha256:00:float32:1"),
    "a digest in upper case": relax("relax.expr.Constant", DIGESTS[0].replace("0a", "0A")),
    "no dtype": relax("relax.expr.Constant", "sha256:" + "00" * 32),
    "both spellings": relax("relax.expr.Constant", DIGESTS[0])
    + relax("ir.GenericConst", DIGESTS[1]),
    "another container": relax("relax.expr.Constant", DIGESTS[0]).replace("metadata", "other"),
    "a longer name": relax("relax.expr.Constant", DIGESTS[0]).replace("metadata", "xmetadata"),
    "an attribute": relax("relax.expr.Constant", DIGESTS[0]).replace("metadata", "x.metadata"),
    "white space before the index": relax("relax.expr.Constant", DIGESTS[0]).replace("][", "] ["),
    "single quotes": "x = metadata['relax.expr.Constant'][0]\n",
    "a triple-quoted string": '"""x"""\n' + relax("relax.expr.Constant", DIGESTS[0]),
    "a raw string": 'y = r"x"\n' + relax("relax.expr.Constant", DIGESTS[0]),
    "an unclosed string": 'y = "x\n' + relax("relax.expr.Constant", DIGESTS[0]),
    "a carriage return": "# x\r" + relax("relax.expr.Constant", DIGESTS[0]),
}


@pytest.mark.parametrize("case", SPELLINGS_REFUSED)
def test_a_reference_that_proves_nothing_is_refused(case: str) -> None:
    with pytest.raises(NotApplicable):
        spelt(SPELLINGS_REFUSED[case])


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(NotApplicable):
        SPELLING.normalize(b'x = "\xff"\n')


@pytest.mark.parametrize(
    "line",
    [
        'x = "metadata[\\"relax.expr.Constant\\"][0]"',
        "x = 'metadata[\"relax.expr.Constant\"][0]'",
        '# metadata["relax.expr.Constant"][0]',
        'x = "\\\\" # metadata["relax.expr.Constant"][0]',
    ],
)
def test_strings_and_comments_are_never_rewritten(line: str) -> None:
    text = line + "\n" + relax("relax.expr.Constant", *DIGESTS)
    assert spelt(text) == line + "\n" + relax("ir.GenericConst", *DIGESTS)


references = st.lists(st.sampled_from(DIGESTS), max_size=4)
fragments = st.text("ab\"'\\#\n[]{}.", max_size=12)


@given(references, references, fragments, fragments)
def test_equal_afterwards_means_respelt_throughout(
    left: list[str], right: list[str], before: str, after: str
) -> None:
    a = before + relax("relax.expr.Constant", *left) + before
    b = after + relax("ir.GenericConst", *right) + after
    try:
        equal = spelt(a) == spelt(b)
        assert spelt(spelt(a)) == spelt(a)
    except NotApplicable:
        return
    assert equal == (a == b or a.replace("relax.expr.Constant", "ir.GenericConst") == b)


# Quotes, comments and references in any order: what the fast look passes, the slow one must too.
PIECES = (b'"', b";", b"\n", b"!", b"!0", b"/*", b"a", b"/", b"; No predecessors!\n", b'"x"', b"! ")


@given(st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
def test_the_fast_look_at_lines_passes_nothing_that_the_slow_one_refuses(data: bytes) -> None:
    if llvm_text.evidently_plain(data):
        llvm_text.look_closely(data)


def test_the_fast_look_is_what_decides_on_real_text() -> None:
    assert llvm_text.evidently_plain(b'; ModuleID = \'m\'\nsource_filename = "m"\n!0 = !{!"x"}\n')
    assert not llvm_text.evidently_plain(b'; a "\n x " !\n')
