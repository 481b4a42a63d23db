"""diffoscope's report: read as an attacker may have written it, and what it did not look at."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.diffoscope import Answer, name_there
from harness.diffoscope_shown import as_plain, lines_of
from harness.diffoscope_tree import (
    COMMENT,
    FORMAT,
    LINE,
    MAX_BYTES,
    MAX_COMMENTS,
    MAX_DEPTH,
    NAME,
    WHOLE,
    Bounds,
    MalformedError,
    Node,
    parse,
    walk,
)
from harness.diffoscope_unseen import MAX_UNSEEN, Unseen, logged, unseen

EVIL = "\x1b[31m\u202e\r\n\x07\ud800"


def node(**rest: Any) -> dict[str, Any]:
    return {"source1": "a", "source2": "b", "unified_diff": None, **rest}


def report(**rest: Any) -> bytes:
    return json.dumps({FORMAT: 1, **node(**rest)}).encode()


def comments(*said: str, **rest: Any) -> tuple[Unseen, ...]:
    return unseen(parse(report(details=[node(source1="x", comments=list(said), **rest)])))


def safe(text: str) -> bool:
    return all(unicodedata.category(character)[0] != "C" for character in text)


# The parser.


def test_a_tree_is_read() -> None:
    inner = node(source1="m", source2="m", unified_diff="@@ -1 +1 @@\n-1\n+2\n")
    found = parse(report(details=[inner], comments=["one", "two"], has_internal_linenos=True))
    assert found.comments == ("one", "two")
    assert [path for path, _ in walk(found)] == [("a → b",), ("a → b", "m")]
    assert found.nodes[0].lines == ("@@ -1 +1 @@", "-1", "+2")
    assert not found.nodes[0].cut


def test_a_node_for_the_file_itself_has_no_name_of_ours() -> None:
    found = parse(report(details=[node(details=[node(source1="m", source2="m")])]))
    assert [path for path, _ in walk(found)][1:] == [("a → b", WHOLE), ("a → b", WHOLE, "m")]


def test_lines_are_bounded_and_begin_as_those_of_a_diff() -> None:
    text = "\n".join(["@@ -1 +1 @@", "\\ No newline at end of file", "", "-x" + "y" * 5000, "+z"])
    found = parse(report(unified_diff=text), Bounds(lines=4))
    assert found.lines[1:3] == (" \\ No newline at end of file", " ")
    assert [len(line) <= LINE for line in found.lines] == [True] * 4
    assert found.cut
    assert not parse(report(unified_diff=text), Bounds(lines=5)).cut
    assert parse(report(unified_diff=text), Bounds(lines=0)).lines == ()


def test_control_characters_are_shown_not_obeyed() -> None:
    inner = node(source1=EVIL, source2=EVIL * 500, comments=[EVIL], unified_diff="+" + EVIL)
    found = parse(report(details=[inner])).nodes[0]
    for text in (found.left, found.right, *found.comments, *found.lines):
        assert safe(text), text
    assert "\\x1b[31m\\u202e" in found.left
    assert len(found.right) <= NAME
    shown = list(lines_of({EVIL: Answer(differ=True, tree=Node("a", "b", nodes=(found,)))}))
    assert shown
    assert all(safe(line) for line in shown)


def test_comments_are_bounded() -> None:
    found = parse(report(comments=["x" * 9999] * 99))
    assert len(found.comments) == MAX_COMMENTS
    assert {len(comment) for comment in found.comments} == {COMMENT}
    assert found.cut


def test_more_nodes_than_the_limit_are_counted_as_not_examined() -> None:
    found = parse(report(details=[node(details=[node()] * 3), node(), node()]), Bounds(nodes=4))
    assert sum(1 for _ in walk(found)) == 4
    assert (found.lost, found.nodes[0].lost) == (2, 1)
    assert "2 of its parts" in str(unseen(found)[0])


def deep(levels: int) -> dict[str, Any]:
    found = node()
    for _ in range(levels - 2):
        found = node(details=[found])
    return found


def test_depth_is_limited() -> None:
    assert parse(report(details=[deep(MAX_DEPTH)]))
    with pytest.raises(MalformedError, match="within each other"):
        parse(report(details=[deep(MAX_DEPTH + 1)]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 1_000_000,
        b'{"a":' * 1_000_000,
        b'{"details":[' * 100_000 + b"]}" * 100_000,
        b"1" * 100_000,
        report()[:-1],
        report().replace(b": 1", b": 2"),
        report().replace(b": 1", b": NaN"),
        report(details=[node(source1=None)]),
        report(source2=["b"]),
        report(unified_diff=["-a"]),
        report(unified_diff=7),
        report(comments="text"),
        report(comments=[{"a": 1}]),
        report(comments=None),
        report(details={"a": 1}),
        report(details=[1]),
        report(details=[[]]),
        report(details=[node(other=1)]),
        report(other=1),
        b'{"%s": 1, "source1": "a", "source2": "b"}' % b"other",
        report()[:-1] + b', "source1": "again"}',
        report(details=[node()])[:-2] + b', {"source1": "a", "source1": "b", "source2": "c"}]}',
        b" " * (MAX_BYTES + 1),
    ],
)
def test_what_diffoscope_does_not_write_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError) as refused:
        parse(data)
    assert safe(str(refused.value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.fixed_dictionaries(
            {"source1": inner, "source2": inner, "unified_diff": inner},
            optional={"details": st.lists(inner, max_size=3), "comments": inner},
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_report_is_read_or_refused(found: object) -> None:
    try:
        tree = parse(report(details=[found]))
    except MalformedError:
        return
    for _, each in walk(tree):
        for text in (each.left, each.right, *each.comments, *each.lines):
            assert safe(text)
    unseen(tree)
    json.dumps(as_plain({"x": Answer(differ=True, tree=tree)}))


# What was not looked at. The words are those of diffoscope 332.


@pytest.mark.parametrize(
    ("comment", "tool"),
    [
        (
            "'unsquashfs' not available in path. Falling back to binary comparison.",
            "squashfs-tools",
        ),
        (
            "'isoinfo' not available in path. Falling back to binary comparison. "
            "Installing the 'genisoimage' package may produce better output.",
            "genisoimage",
        ),
        ("xxd not available in path. Falling back to Python hexlify.", "xxd"),
        ("diff is not available", "diffutils"),
        ("'dexdump' command not installed; cannot compare format-specific details.", "dexdump"),
        ("Installing the 'binwalk' Python module may produce a better output.", "binwalk"),
        ('Unable to find the "debian" Python module. Falling back to text comparison.', "debian"),
        ("Unable to import Python rpm module. Falling back to binary comparison.", "rpm"),
        ("'androguard' Python package not installed; cannot extract V2 keys.", "androguard"),
        (
            "Neither otool nor llvm-readobj was found in path, falling back to binary comparison.",
            "otool",
        ),
    ],
)
def test_a_missing_tool_is_named(comment: str, tool: str) -> None:
    found = comments(comment)
    assert [each.install for each in found] == [tool]
    assert str(found[0]).startswith("not examined: x → b: ")
    assert str(found[0]).endswith(f"; install {tool}")


@pytest.mark.parametrize(
    "comment",
    [
        "Command `readelf -a {}` failed with exit code 1. Standard error:",
        "error from `objdump -d {}` (a):",
        "Error parsing output of `pdftotext` for <class 'X'>",
        "Error extracting 'a', falling back to binary comparison: \"x\"",
        "Reached max container depth (10)",
        "Differences may be incomplete: x",
        "Could not decompile bytecode: bad magic",
        "Archive contents identical but files differ, possibly due to different compression "
        "levels. Falling back to binary comparison.",
    ],
)
def test_what_was_read_badly_is_not_examined(comment: str) -> None:
    found = comments(comment)
    assert [each.install for each in found] == [""]
    assert found[0].reason.startswith(comment.rstrip("."))


def test_what_a_command_said_is_part_of_the_reason() -> None:
    said = comments("Command `x` failed with exit code 1. Standard error:", "bad file")
    assert said[0].reason.endswith("Standard error: bad file")


def test_archives_that_could_not_be_read_are_not_identical() -> None:
    words = "Archive contents identical but files differ. Falling back to binary comparison."
    found = comments("'zipinfo' not available in path. Falling back.", words)
    assert [each.install for each in found] == ["unzip", ""]
    assert "could not read them" in found[1].reason


def test_a_timeout_says_nothing_about_a_difference() -> None:
    words = "Timeout exceeded; details may be incomplete."
    assert comments(words)[0].reason == "out of time; whether it differs is not known"
    assert comments(words, unified_diff="+1")[0].reason == "out of time; there may be more"


def test_other_comments_are_not_mistaken() -> None:
    for comment in ("Ordering differences only", "Similarity: 98%", "comprises of 3 members", ""):
        assert comments(comment) == ()


def test_what_is_only_logged_is_not_examined() -> None:
    said = (
        b"2026-11-23 06:00:00 W: diffoscope.comparators.utils.container: Skipping /tmp/x (denied)\n"
        b"2026-11-23 06:00:00 I: diffoscope.main: Fuzzy-matching is disabled.\n"
        b"2026-11-23 06:00:00 E: diffoscope.comparators.elf: Command 'x' returned \x1b[31m1.\n"
        b"2026-11-23 06:00:00 E: diffoscope.comparators.elf: Command 'x' returned \x1b[31m1.\n"
        b"E: somebody else\n"
        b"2026-11-23 06:00:00 W: diffoscope.comparators.xml: Install defusedxml or upgrade.\n"
    )
    assert [each.reason for each in logged(said)] == [
        "Skipping /tmp/x (denied)",
        "Command 'x' returned \\x1b[31m1",
        "Install defusedxml or upgrade",
    ]
    assert [each.install for each in logged(said)] == ["", "", "defusedxml"]
    other = b"2026-11-23 06:00:00 E: diffoscope.comparators.elf: Command '['objdump -d x']' failed"
    assert logged(other)[0].install == "binutils-multiarch"
    assert len(logged(b"".join(said[:80] + b"%d\n" % i for i in range(999)))) == MAX_UNSEEN


def test_too_many_lines_and_the_whole_file() -> None:
    line = "+[ Too much input for diff (SHA256: 00) ]"
    assert comments(unified_diff=line)[0].reason.startswith("too many lines")
    assert unseen(parse(report(unified_diff=line)))[0].what == WHOLE


def test_what_was_not_looked_at_is_bounded_and_listed_once() -> None:
    same = [node(source1="x", comments=["diff is not available"])] * 5
    assert len(unseen(parse(report(details=same)))) == 1
    many = [node(source1=f"x{i}", comments=["diff is not available"]) for i in range(999)]
    found = unseen(parse(report(details=many)))
    assert len(found) == MAX_UNSEEN + 1
    assert found[-1].what == "more parts"


# What is said of it.


def test_a_difference_of_bytes_that_is_not_shown_is_said() -> None:
    lines = list(lines_of({"a b": Answer(differ=True)}))
    assert lines == ["! diffoscope: a b: diffoscope shows no difference; the bytes differ"]
    assert "not asked" in Answer(differ=False).summary
    assert Answer(differ=True, tree=Node("a", "b"), trouble="killed").summary.endswith("killed")


def test_plain_has_everything() -> None:
    tree = parse(report(details=[node(unified_diff="-1\n+2")]))
    answer = Answer(differ=True, tree=tree, unseen=(Unseen("x", "y", "z"),))
    found: Any = as_plain({"pair": answer})[0]
    assert found["name"] == "pair"
    assert found["differ"] is True
    assert found["tree"]["nodes"][0]["lines"] == ["-1", "+2"]
    assert found["not_examined"] == [{"what": "x", "reason": "y", "install": "z"}]


def test_names_are_never_those_of_the_files() -> None:
    def named(left: str, right: str) -> str:
        return name_there(Path(left), Path(right))

    assert named("a.tar.gz", "b.tar.gz") == "file.tar.gz"
    assert named("a.so", "b.o") == "file"
    assert named("--help", "--help") == "file"
    assert named("a.\x1b[0m", "b.\x1b[0m") == "file"
    assert named("a." + "x" * 50, "b." + "x" * 50) == "file"
