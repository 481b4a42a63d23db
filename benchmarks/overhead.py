"""What the harness adds to the compilers' own time.

Runs, in one session and on warm caches, (A) every build of ``nightly.toml`` as the bare driver
command, as many at a time as there are cores, without sandbox, comparison or replay, summing CPU
time, and (B) ``harness nightly`` on the embedded engine. The goal: wall time of B ≤ 1.10 × CPU time
of A ÷ cores + 3 s. What the replays' own tools (opt, llc, lld) took is in B and not in A; it is
printed beside.

    python benchmarks/overhead.py [--runs N]

Prints the median of N runs of each (default 3), taken in turn so that a drifting machine hits
both alike. Exits with 0 whatever comes out: a measurement is not a test.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import settings, toolchains
from harness.environments import prepare
from harness.sources import check_model, fetch

ROOT = Path(__file__).resolve().parent.parent


def bare(scratch: Path, cores: int) -> float:
    """CPU seconds of all bare driver commands of one nightly run, ``cores`` at a time."""
    night = settings.load(ROOT / "nightly.toml")
    known = toolchains.load([ROOT / "toolchains"])
    commands = []
    for source in night.models:
        model = check_model(fetch(source), source.inputs, name=source.name)
        for name in night.toolchains:
            definition = toolchains.find(known, name)
            linker = known[str(definition.linker)]
            root, tool = prepare(linker).root, linker.tools["link"]
            link = {"root": str(root), "argv": [f"{root}/{tool.path}", *tool.arguments]}
            for _ in range(night.variations.builds):
                out = Path(tempfile.mkdtemp(dir=scratch))
                request = out / "request.json"
                asked = {
                    "contract": 1,
                    "model": model.path,
                    "inputs": model.inputs,
                    "target": definition.target,
                    "out": str(out / "out"),
                    "tools": {"link": link},
                }
                request.write_text(json.dumps(asked))
                command = [sys.executable, str(definition.driver), str(request)]
                commands.append((command, str(prepare(definition).root), out))
    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(lambda words: cpu_seconds(*words), commands))


def cpu_seconds(command: list[str], path: str, home: Path) -> float:
    child = subprocess.Popen(command, env={"PYTHONPATH": path, "HOME": str(home)}, cwd=home)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{command} ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime


def harnessed(scratch: Path) -> tuple[float, float]:
    """Wall seconds of ``harness nightly``, and those that its replays' tools took, one by one."""
    results = Path(tempfile.mkdtemp(dir=scratch))
    began = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "nightly", "--quiet", "--engine", "sandbox"),
            *("--out", str(results)),
        ],
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        sys.exit(f"harness nightly ended with {done.returncode}")
    wall = time.monotonic() - began
    (report,) = results.glob("*/report.json")
    replays = json.loads(report.read_bytes())["replays"]
    return wall, sum(
        replay["wall_seconds"]
        for replay in replays
        if not replay["shared_with"] and not replay["remembered"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    cores = len(os.sched_getaffinity(0))
    cpu, wall, tools = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            cpu.append(bare(Path(folder), cores))
            seconds, replayed = harnessed(Path(folder))
            wall.append(seconds)
            tools.append(replayed)
            print(f"run {number + 1}: drivers {cpu[-1]:.1f} s CPU, harness {seconds:.1f} s wall")
    drivers, harness = statistics.median(cpu), statistics.median(wall)
    replayed = statistics.median(tools)
    goal = 1.10 * drivers / cores + 3
    print(f"cores                    {cores}")
    print(f"drivers' own CPU time    {drivers:.1f} s (median of {runs})")
    print(f"harness nightly, wall    {harness:.1f} s (median of {runs})")
    print(f"  of it, replay tools    {replayed:.1f} s, {replayed / cores:.1f} s in parallel")
    verdict = "met" if harness <= goal else "MISSED"
    print(f"goal: 1.10 × CPU ÷ cores + 3 s = {goal:.1f} s: {verdict}")
    goal = 1.10 * (drivers + replayed) / cores + 3
    verdict = "met" if harness <= goal else "MISSED"
    print(f"the same, the replays' tools counted as compilers: {goal:.1f} s: {verdict}")


if __name__ == "__main__":
    main()
