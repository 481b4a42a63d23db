"""What diffoscope said, as lines for a terminal and for machines. Everything is safe to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.diffoscope import Answer
from harness.diffoscope_tree import WHOLE, Node, walk
from harness.text import printable

MAX_LINES = 2000  # printed of one pair
HEADING = 400
Plain = dict[str, object]


def lines_of(answers: Mapping[str, Answer]) -> Iterator[str]:
    """Lines to print, by the name of each pair: ``!`` for parts, ``#`` for what else is said."""
    for name, answer in answers.items():
        yield from _lines(printable(name, 1000), answer)


def as_plain(answers: Mapping[str, Answer]) -> list[Plain]:
    """For ``json.dumps``."""
    return [{"name": printable(name, 1000), **_answer(each)} for name, each in answers.items()]


def _lines(shown: str, answer: Answer) -> Iterator[str]:
    yield f"! diffoscope: {shown}: {answer.summary}"
    count = 0
    for heading, node in _speaking(answer.tree):
        if count + len(node.lines) > MAX_LINES:
            yield f"# diffoscope: there is more than {MAX_LINES} lines; --json has it"
            break
        yield f"! {heading}"
        yield from node.lines
        if node.cut:
            yield "# there is more than is shown"
        for comment in node.comments:
            yield f"# diffoscope says: {comment}"
        count += 1 + len(node.lines) + len(node.comments)
    for each in answer.unseen:
        yield f"# {each}"


def _answer(answer: Answer) -> Plain:
    return {
        "differ": answer.differ,
        "summary": answer.summary,
        "trouble": answer.trouble,
        "wall_seconds": answer.wall_seconds,
        "peak_memory_bytes": answer.peak_memory_bytes,
        "not_examined": [
            {"what": each.what, "reason": each.reason, "install": each.install}
            for each in answer.unseen
        ],
        "tree": None if answer.tree is None else _plain(answer.tree),
    }


def _speaking(tree: Node | None) -> Iterator[tuple[str, Node]]:
    """(heading, node) of each node that says something itself."""
    for path, node in walk(tree) if tree else ():
        if node.lines or node.comments:
            # The top is one of the two files, by the name that it had for diffoscope.
            inner = path[1:] or (WHOLE,)
            yield printable(" / ".join(inner), HEADING), node


def _plain(node: Node) -> Plain:
    return {
        "left": node.left,
        "right": node.right,
        "comments": list(node.comments),
        "lines": list(node.lines),
        "cut": node.cut,
        "lost": node.lost,
        "nodes": [_plain(inner) for inner in node.nodes],
    }
