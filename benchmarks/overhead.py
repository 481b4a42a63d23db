"""What the harness adds to the compilers' own time.

Runs, in one session and on warm caches, (A) every build of ``nightly.toml`` as the bare driver
command, as many at a time as there are cores, without sandbox, comparison or replay, summing CPU
time, and (B) ``harness nightly`` on the embedded engine. The goal: wall time of B ≤ 1.10 × CPU time
of A ÷ cores + 3 s. Warm: environments are there, and so are the results of replays that an earlier
run did with the same tools and the same sources. (C) is B with every replay run again.

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


def harnessed(scratch: Path, *options: str) -> float:
    """Wall seconds of ``harness nightly``."""
    results = Path(tempfile.mkdtemp(dir=scratch))
    began = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "nightly", "--quiet", "--engine", "sandbox"),
            *("--out", str(results), *options),
        ],
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        sys.exit(f"harness nightly ended with {done.returncode}")
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    cores = len(os.sched_getaffinity(0))
    cpu, warm, cold = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        harnessed(Path(folder))  # warms the caches
        for number in range(runs):
            cpu.append(bare(Path(folder), cores))
            warm.append(harnessed(Path(folder)))
            cold.append(harnessed(Path(folder), "--fresh"))
            print(
                f"run {number + 1}: drivers {cpu[-1]:.1f} s CPU, harness {warm[-1]:.1f} s wall, "
                f"with fresh replays {cold[-1]:.1f} s",
                flush=True,
            )
    drivers, harness = statistics.median(cpu), statistics.median(warm)
    goal = 1.10 * drivers / cores + 3
    print(f"cores                    {cores}")
    print(f"drivers' own CPU time    {drivers:.1f} s (median of {runs})")
    print(f"harness nightly, wall    {harness:.1f} s (median of {runs})")
    print(f"  with fresh replays     {statistics.median(cold):.1f} s (median of {runs})")
    verdict = "met" if harness <= goal else "MISSED"
    print(f"goal: 1.10 × CPU ÷ cores + 3 s = {goal:.1f} s: {verdict}")


if __name__ == "__main__":
    main()
