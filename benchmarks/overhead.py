"""What the harness adds to the compilers' own time.

Runs, in one session and on warm caches, (A) every build of ``nightly.toml`` as the bare driver
command, one after the other, without sandbox, comparison or replay, summing CPU time, and (B)
``harness nightly``. The goal: wall time of B ≤ 1.10 × CPU time of A ÷ cores + 3 s.

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
from pathlib import Path

from harness import settings, toolchains
from harness.environments import prepare
from harness.sources import check_model, fetch

ROOT = Path(__file__).resolve().parent.parent


def bare(scratch: Path) -> float:
    """CPU seconds of all bare driver commands of one nightly run."""
    night = settings.load(ROOT / "nightly.toml")
    known = toolchains.load([ROOT / "toolchains"])
    total = 0.0
    for source in night.models:
        model = check_model(fetch(source), source.inputs, name=source.name)
        for name in night.toolchains:
            definition = toolchains.find(known, name)
            environment = prepare(definition)
            linker = known[str(definition.linker)]
            linker_root = prepare(linker).root
            tool = linker.tools["link"]
            link = [f"{linker_root}/{tool.path}", *tool.arguments]
            for _ in range(night.variations.builds):
                out = Path(tempfile.mkdtemp(dir=scratch))
                request = out / "request.json"
                request.write_text(
                    json.dumps(
                        {
                            "contract": 1,
                            "model": model.path,
                            "inputs": model.inputs,
                            "target": definition.target,
                            "out": str(out / "out"),
                            "tools": {"link": {"root": str(linker_root), "argv": link}},
                        }
                    )
                )
                child = subprocess.Popen(
                    [sys.executable, str(definition.driver), str(request)],
                    env={"PYTHONPATH": str(environment.root), "HOME": str(out)},
                    cwd=out,
                )
                _, status, usage = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
                if child.returncode:
                    sys.exit(f"{name} failed on {model.name}")
                total += usage.ru_utime + usage.ru_stime
    return total


def harnessed(scratch: Path) -> float:
    """Wall seconds of ``harness nightly``."""
    began = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "harness", "nightly", "--quiet", "--engine", "sandbox"),
            *("--out", tempfile.mkdtemp(dir=scratch)),
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
    cpu, wall = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            cpu.append(bare(Path(folder)))
            wall.append(harnessed(Path(folder)))
            print(f"run {number + 1}: drivers {cpu[-1]:.1f} s CPU, harness {wall[-1]:.1f} s wall")
    drivers, harness = statistics.median(cpu), statistics.median(wall)
    goal = 1.10 * drivers / cores + 3
    print(f"cores                    {cores}")
    print(f"drivers' own CPU time    {drivers:.1f} s (median of {runs})")
    print(f"harness nightly, wall    {harness:.1f} s (median of {runs})")
    verdict = "met" if harness <= goal else "MISSED"
    print(f"goal: 1.10 × CPU ÷ cores + 3 s = {goal:.1f} s: {verdict}")


if __name__ == "__main__":
    main()
