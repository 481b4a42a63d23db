"""diffoscope, as one more pair of eyes: bounded, isolated, and never a judge.

Bytes decide whether two files differ. diffoscope's exit code says 0 where an option hides every
difference, and its nodes hold parts that are the same but were not reached in time; so neither
counts for anything here. What it shows is passed on, what it did not look at is said, and where it
fails that is a result with a reason.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from harness.comparators.examine import same_files
from harness.diffoscope_tree import MAX_BYTES, WHOLE, MalformedError, Node, parse
from harness.diffoscope_tree import Bounds as TreeBounds
from harness.diffoscope_unseen import Unseen, logged, unseen
from harness.engines.interface import Engine
from harness.errors import EngineError, ToolchainError
from harness.inspection import Job, Kit, Seen, inspected, left_behind, said, trouble
from harness.models import Limits
from harness.text import printable

NAME = "diffoscope/332-pypi-x86_64"
# Most of the time of a large file; the same disassembly without line numbers takes its place.
LINE_NUMBERS = "objdump.*line-numbers"
_SUFFIX = re.compile(r"(?:\.[A-Za-z0-9_]{1,12}){1,3}\Z")  # diffoscope goes by it for some formats
_STATUS_BYTES = 2**16
_REPORT, _STATUS = "diffoscope.json", "status.json"


@dataclass(frozen=True)
class Bounds:
    """Limits of one look. ``file_bytes``: a larger file is not given to diffoscope.

    ``seconds`` of wall time: diffoscope is told to go into nothing new after three quarters of it,
    and ended at its end. What it unpacks counts as memory, and may take a quarter of it.
    """

    seconds: int = 120
    memory_bytes: int = 4 * 2**30
    file_bytes: int = 512 * 2**20
    lines: int = 60

    @property
    def limits(self) -> Limits:
        return Limits(
            wall_seconds=self.seconds,
            memory_bytes=self.memory_bytes,
            processes=128,
            output_bytes=64 * 2**20,
            output_files=16,
        )


@dataclass(frozen=True)
class Answer:
    """What diffoscope showed. ``differ``: by the bytes.

    ``tree``: None where it shows nothing. ``trouble``: why there is no answer, or not a whole one.
    """

    differ: bool
    tree: Node | None = None
    unseen: tuple[Unseen, ...] = ()
    trouble: str = ""
    wall_seconds: float = field(default=0.0, compare=False)
    peak_memory_bytes: int = field(default=0, compare=False)

    @property
    def summary(self) -> str:
        """One line."""
        if not self.differ:
            return "the bytes are the same; diffoscope was not asked"
        if self.trouble:
            return f"no whole answer: {self.trouble}"
        if self.tree is None:
            return "diffoscope shows no difference; the bytes differ"
        return "diffoscope shows differences"


def look(
    left: Path,
    right: Path,
    engine: Engine,
    kit: Kit,
    bounds: Bounds = Bounds(),
) -> Answer:
    """What diffoscope says of two files. Its troubles and the sandbox's are part of the answer."""
    try:
        if same_files(left, right):
            return Answer(differ=False)
        for path in (left, right):
            if path.stat().st_size > bounds.file_bytes:
                return refused(f"a file has more than {bounds.file_bytes} bytes")
        return _look(left, right, engine, kit, bounds)
    except OSError as error:
        return refused(f"a file cannot be read: {error.strerror}")
    except (EngineError, ToolchainError) as error:
        return refused(str(error))


def refused(why: str) -> Answer:
    """Two files that differ, and that diffoscope did not see."""
    shown = printable(why, 500)
    return Answer(differ=True, unseen=(Unseen(WHOLE, shown),), trouble=shown)


def _look(left: Path, right: Path, engine: Engine, kit: Kit, bounds: Bounds) -> Answer:
    def command(seen: Seen) -> tuple[str, ...]:
        return (
            *(seen.python, f"{seen.folder}/start.py", f"{seen.out}/{_STATUS}"),
            *("--json", f"{seen.out}/{_REPORT}"),
            *("--exclude-command", LINE_NUMBERS, "--no-progress"),
            *("--timeout", str(max(1, bounds.seconds * 3 // 4))),
            *("--max-container-depth", "10", "--diff-context", "2"),
            *("--max-diff-block-lines-saved", str(max(20, bounds.lines)), "--"),
            *seen.files,
        )

    limits = bounds.limits
    name = name_there(left, right)
    files = (f"left/{name}", left), (f"right/{name}", right)
    job = Job(kit, files, command, limits, search_path=True)
    with inspected(job, engine) as (result, out):
        why = trouble(result, limits)
        if not why and result.exit_code not in (0, 1):
            why = f"it ended with exit code {result.exit_code}: {said(result)}"
        tree, missed = None, _status(out / _STATUS)
        try:
            data = left_behind(out / _REPORT, MAX_BYTES)
            if data is not None:
                tree = parse(data, TreeBounds(lines=bounds.lines))
            elif not why and result.exit_code != 0:
                why = f"it left no report: {said(result)}"
        except (ToolchainError, MalformedError) as error:
            why = "; ".join(filter(None, (why, f"its report is unreadable: {error}")))
    why = printable(why, 1000)
    if why:
        missed.append(Unseen(WHOLE if tree is None else "the rest", why))
    else:
        missed += logged(result.output)
    if tree is not None:
        missed += unseen(tree)
    return Answer(
        differ=True,
        tree=tree,
        unseen=tuple(missed),
        trouble=why,
        wall_seconds=round(result.wall_seconds, 3),
        peak_memory_bytes=result.peak_memory_bytes,
    )


def name_there(left: Path, right: Path) -> str:
    """A name that says no more than the suffix that both have; never one that somebody made up."""
    found = [_SUFFIX.search(path.name) for path in (left, right)]
    if found[0] and found[1] and found[0][0] == found[1][0]:
        return f"file{found[0][0]}"
    return "file"


def _status(status: Path) -> list[Unseen]:
    """What start.py found missing: programs, and a library, for which formats were taken out."""
    try:
        data = left_behind(status, _STATUS_BYTES)
        found = json.loads(data) if data else {}
        missing, lost = (_names(found, key) for key in ("missing", "without_libarchive"))
    except (ToolchainError, ValueError, TypeError, AttributeError, RecursionError):
        return [Unseen("some formats, perhaps", "what the start script left is unreadable")]
    missed = []
    if missing:
        missed.append(Unseen(WHOLE, f"{missing} is missing", "diffutils"))
    if lost:
        missed.append(Unseen(f"inside of {lost} files", "libarchive is missing", "libarchive"))
    return missed


def _names(found: dict[str, object], key: str) -> str:
    names = found.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(key)
    return printable(", ".join(names), 200)
