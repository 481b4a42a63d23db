"""What diffoscope did not look at, out of what it says between the lines. Pure.

It says so in comments, in words of its own, and goes on with something coarser: a hex dump where
a tool is missing, a node without a difference where time ran out. That must not read as an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.diffoscope_tree import WHOLE, Node, walk
from harness.text import printable

MAX_UNSEEN = 200
PLACE = 600  # characters

_TOOL = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,60}"
# Where the comment names it, ``tool`` is what to install; ``package`` what brings it.
_MISSING = (
    re.compile(rf"'(?P<tool>{_TOOL})' (?:not available in path|command not installed)"),
    re.compile(rf"\b(?P<tool>{_TOOL}) not available in path"),
    re.compile(rf"\b(?P<tool>{_TOOL}) is not available"),
    re.compile(rf"'(?P<tool>{_TOOL})' Python (?:module|package)"),
    re.compile(rf"the \"(?P<tool>{_TOOL})\" Python module"),
    re.compile(rf"import Python (?P<tool>{_TOOL}) module"),
    re.compile(rf"Neither (?P<tool>{_TOOL}) nor {_TOOL} was found"),
)
_BROUGHT_BY = {
    "cmp": "diffutils",
    "diff": "diffutils",
    "llvm-bcanalyzer": "llvm",
    "llvm-dis": "llvm",
    "objdump": "binutils",
    "readelf": "binutils",
    "unsquashfs": "squashfs-tools",
    "zipinfo": "unzip",
}
_PACKAGE = re.compile(rf"Installing the '(?P<package>{_TOOL})' package")
_TIMEOUT = re.compile(r"Timeout exceeded")
# Comments that say that something was not read, or not all of it.
_NOT_READ = re.compile(
    r"Reached max container depth|failed with exit code|^error from `|^Error (?:parsing|extracting)"
    r"|may be incomplete|Could not decompile|cannot (?:compare|extract)|[Uu]nable to"
    r"|[Ff]alling back to (?:a )?(?:binary|text|Python)",
)
# What diffoscope concludes where it could not list the members, too.
_IDENTICAL = re.compile(r"^Archive contents identical")
_INSTALL = re.compile(rf"\bInstall (?P<tool>{_TOOL}) or\b")
_LOGGED = re.compile(rb"^[-0-9]{10} [:0-9]{8} [WEC]: diffoscope[.\w]*: (?P<says>[^\n]+)", re.M)
_TOO_LONG = re.compile(r"\[ Too much input for diff")


@dataclass(frozen=True)
class Unseen:
    """Something that was not looked at, or not as well as it could have been. Safe to print."""

    what: str
    reason: str
    install: str = ""  # a tool; empty where no tool would help

    def __str__(self) -> str:
        ending = f"; install {self.install}" if self.install else ""
        return f"not examined: {self.what}: {self.reason}{ending}"


def unseen(tree: Node) -> tuple[Unseen, ...]:
    """Everything that a tree says was not looked at, in its order, each once."""
    found: dict[Unseen, None] = {}
    for path, node in walk(tree):
        # The top is one of the two files, by the name that it had for diffoscope.
        place = printable(" / ".join(path[1:]), PLACE) or WHOLE
        for each in _of(place, node):
            if len(found) >= MAX_UNSEEN:
                rest = Unseen("more parts", f"only the first {MAX_UNSEEN} are listed")
                return (*found, rest)
            found[each] = None
    return tuple(found)


def logged(output: bytes) -> tuple[Unseen, ...]:
    """What diffoscope only warns of on its standard error: commands that failed, files skipped."""
    found: dict[Unseen, None] = {}
    for line in _LOGGED.finditer(output):
        says = printable(line["says"].rstrip(b"."), PLACE)
        wanted = _INSTALL.search(says)
        tool = wanted["tool"] if wanted else ""
        if "'objdump " in says:  # it is there, but does not know the file's processor
            tool = "binutils-multiarch"
        found[Unseen("some part", says, tool)] = None
    return tuple(found)[:MAX_UNSEEN]


def _of(place: str, node: Node) -> Iterator[Unseen]:
    bare = not (node.lines or node.nodes)
    lacking = False
    for number, comment in enumerate(node.comments):
        if _TIMEOUT.search(comment):
            how = "whether it differs is not known" if bare else "there may be more"
            yield Unseen(place, f"out of time; {how}")
            continue
        missing = next((found for each in _MISSING if (found := each.search(comment))), None)
        if missing:
            lacking = True
            package = _PACKAGE.search(comment)
            tool = _BROUGHT_BY.get(missing["tool"], missing["tool"])
            yield Unseen(place, comment.rstrip("."), package["package"] if package else tool)
        elif lacking and _IDENTICAL.search(comment):
            yield Unseen(place, "diffoscope calls the contents identical, but could not read them")
        elif _NOT_READ.search(comment):
            told = comment.endswith(":") and node.comments[number + 1 : number + 2]
            yield Unseen(place, " ".join((comment, *(told or ()))).rstrip("."))
    if any(_TOO_LONG.search(line) for line in node.lines):
        yield Unseen(place, "too many lines to compare; the rest only by digest")
    if node.lost:
        yield Unseen(place, f"{node.lost} of its parts are beyond the limit of this report")
