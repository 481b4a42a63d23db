"""``harness diff`` against diffoscope, on pairs of shared objects of which one thing differs.

    python -m benchmarks.diff [--sizes 10,100,500] [--kinds …] [--tools …] [--timeout 60] [--json]

Each pair is half code and half weights (benchmarks/pairs.py). One function is changed in one
instruction, one bit of one weight, or ``.comment``; or one function has grown early, so that all
that follows lies elsewhere; or nothing differs. The tools take turns on each pair. Measured: wall
time, and CPU time, which a shared machine disturbs less; peak memory of the largest process and,
sampled, of all of them together, mapped files included; and whether the answer names what was
changed. The pairs and a venv with diffoscope are made on first use and kept below --folder: 500 MB
take 3 GB there.

Exits with 0 whatever comes out: a measurement is not a test.
"""

from __future__ import annotations

import argparse
import ctypes.util
import dataclasses
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks import pairs

DIFFOSCOPE = "diffoscope==332"
TOOLS = {
    "verdict": "`harness diff --brief`",
    "harness": "`harness diff`",
    "diffoscope": "diffoscope 332",
    "diffoscope-quicker": "diffoscope 332 without line numbers",
}
CHECK, SAMPLE = 0.01, 0.05  # seconds between looks for the end, and at the memory of all processes


@dataclass(frozen=True)
class Run:
    """``code``: None if the time was up. Memory in bytes; ``all_memory``: of all processes."""

    size: int
    kind: str
    tool: str
    code: int | None
    seconds: float
    cpu_seconds: float
    memory: int
    all_memory: int
    named: bool | None  # None where there is nothing to name, or the tool is not asked
    answer_lines: int


def command(tool: str, folder: Path) -> list[str]:
    if tool == "verdict":
        return [sys.executable, "-m", "harness", "diff", "--brief"]
    if tool == "harness":
        return [sys.executable, "-m", "harness", "diff"]
    words = [str(diffoscope(folder)), "--no-progress", "--text", "-"]
    if tool == "diffoscope-quicker":
        words += ["--exclude-command", "objdump.*line-numbers"]
    return words


def diffoscope(folder: Path) -> Path:
    """diffoscope of its own venv, which is made if there is none."""
    place = folder / f"venv-{DIFFOSCOPE.replace('==', '-')}"
    program, complete = place / "bin/diffoscope", place / "complete"
    if complete.exists():
        return program
    shutil.rmtree(place, ignore_errors=True)
    bundled = [] if ctypes.util.find_library("magic") else ["pylibmagic"]
    python = place / "bin/python"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([str(python), *words, DIFFOSCOPE, *bundled], check=True)
    if bundled:  # nothing imports it unless it is told so
        listed = "import sysconfig; print(sysconfig.get_path('purelib'))"
        found = subprocess.run([str(python), "-c", listed], check=True, capture_output=True)
        (Path(found.stdout.decode().strip()) / "libmagic.pth").write_text("import pylibmagic\n")
    complete.touch()
    return program


def measured(
    words: Sequence[str], timeout: float, answer: Path
) -> tuple[int | None, float, float, int, int]:
    """Exit code, seconds of wall and of CPU time, peak bytes of the largest process and of all."""
    began = time.monotonic()
    with open(answer, "wb") as stream, open(os.devnull, "wb") as nowhere:
        child = subprocess.Popen(words, stdout=stream, stderr=nowhere, start_new_session=True)
    most, sampled, late = 0, 0.0, False
    while True:
        done, status, usage = os.wait4(child.pid, os.WNOHANG)
        now = time.monotonic()
        if done:
            break
        if now - sampled > SAMPLE:
            sampled, most = now, max(most, tree_memory(child.pid))
        if now - began > timeout and not late:
            late = True
            os.killpg(child.pid, signal.SIGKILL)
        time.sleep(CHECK)
    with suppress(ProcessLookupError):  # what it left behind
        os.killpg(child.pid, signal.SIGKILL)
    child.returncode = os.waitstatus_to_exitcode(status)
    largest = usage.ru_maxrss * 1024  # of the process, or of one that it has waited for
    code = None if late else child.returncode
    return code, now - began, usage.ru_utime + usage.ru_stime, largest, max(most, largest)


def tree_memory(pid: int) -> int:
    """Bytes that a process and all below it hold; a page that two of them share counts twice."""
    total, pending = 0, [pid]
    while pending:
        place = Path("/proc", str(pending.pop()))
        with suppress(OSError):
            total += int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
            for children in (place / "task").glob("*/children"):
                pending += map(int, children.read_text().split())
    return total


def run(folder: Path, size: int, kind: str, tool: str, timeout: float) -> Run:
    words = [*command(tool, folder), *map(str, pairs.pair(folder, size, kind))]
    answer = folder / "answer"
    code, seconds, cpu, memory, all_memory = measured(words, timeout, answer)
    name, named, lines = pairs.KINDS[kind].encode(), False, 0
    with open(answer, "rb") as stream:
        for line in stream:
            lines += 1
            named = named or name in line
    asked = bool(name) and tool != "verdict"
    found = named if asked else None
    return Run(size, kind, tool, code, seconds, cpu, memory, all_memory, found, lines)


def table(runs: Sequence[Run], timeout: float) -> str:
    rows = [
        "| MB | differs | tool | time | CPU time | largest process | all | names it | lines |",
        "|---:|---|---|---:|---:|---:|---:|---|---:|",
    ]
    for one in runs:
        took, cpu = f"{one.seconds:.1f} s", f"{one.cpu_seconds:.1f} s"
        if one.code is None:
            took, cpu = f"not done after {timeout:g} s", "–"
        elif one.code != (one.kind != "identical"):
            took += f", exit code {one.code}"
        named = {None: "–", True: "yes", False: "no"}[None if one.code is None else one.named]
        rows.append(
            f"| {one.size} | {one.kind} | {TOOLS[one.tool]} | {took} | {cpu}"
            f" | {one.memory / 1e6:,.0f} MB | {one.all_memory / 1e6:,.0f} MB"
            f" | {named} | {one.answer_lines:,} |"
        )
    return "\n".join(rows)


def one_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    def chosen(text: str) -> list[str]:
        words = text.split(",")
        if unknown := set(words).difference(known):
            raise argparse.ArgumentTypeError(f"{unknown.pop()!r} is none of {', '.join(known)}")
        return words

    return chosen


def private(folder: Path) -> Path:
    """Made if there is none; refused if another user could have put programs there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
        sys.exit(f"error: {folder} belongs to others, or others may write there. Say --folder.")
    return folder.absolute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(tempfile.gettempdir(), f"harness-benchmark-{os.getuid()}")
    parser.add_argument("--sizes", default="10,100,500", help="of one file, in MB")
    parser.add_argument("--kinds", default=list(pairs.KINDS), type=one_of(pairs.KINDS))
    parser.add_argument("--tools", default=list(TOOLS), type=one_of(TOOLS))
    parser.add_argument("--timeout", default=60.0, type=float, help="seconds of one run")
    parser.add_argument("--folder", default=default, type=Path, help="for pairs and diffoscope")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    folder = private(asked.folder)
    for program in ("objdump", "readelf"):
        if any("diffoscope" in tool for tool in asked.tools) and not shutil.which(program):
            sys.exit(f"error: diffoscope needs {program}. Install binutils, or choose --tools.")
    for tool in asked.tools:
        command(tool, folder)
    runs = []
    for size in map(int, asked.sizes.split(",")):
        for kind in asked.kinds:
            pairs.pair(folder, size, kind)
            for tool in asked.tools:
                runs.append(run(folder, size, kind, tool, asked.timeout))
                print(f"{size} MB, {kind}, {tool}: {runs[-1].seconds:.1f} s", file=sys.stderr)
    if asked.json:
        print(json.dumps([dataclasses.asdict(one) for one in runs], indent=1))
    else:
        print(table(runs, asked.timeout))


if __name__ == "__main__":
    main()
