"""How long `harness verify` takes, from its start to its end, as a process of its own.

    python -m benchmarks.verify [--runs 10] [--files 2000] [--json]

The bundle is made of statements as sign-off writes them, under new keys: three builders with
profiles of as many files each, a verifier with evidence and the builds of its own run, a training
run. If one does not verify, the benchmark ends: its time would mean nothing. Printed are medians,
with the shortest and the longest run, of wall time and of CPU time, which a busy machine disturbs
less; and the same for Python alone.

Exits with 0 whatever comes out: a measurement is not a test.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from harness.components import NAMES, Profile, content_digest
from harness.signoff.profilematerial import profile_material
from tests.unit.samples import sha
from tests.unit.signoff_release import BUILDERS, Release, Statement, profile, release

SHARED = 50  # files that all builders have: small ones of Python, which honest strangers share


@dataclass(frozen=True)
class Took:
    """Seconds of one process."""

    wall: float
    cpu: float


def realistic(name: str, files: int) -> Profile:
    """A profile of ``files`` files: as many for each component, of its own but for a few."""
    small, each = profile(name), files // len(NAMES)
    parts = {
        part: {sha(f"{name if n >= SHARED else ''} {part} {n}"): 100 + n for n in range(each)}
        for part in NAMES
    }
    components = tuple(
        replace(
            component,
            files=each,
            size=sum(parts[component.name].values()),
            sha256=content_digest(parts[component.name]),
        )
        for component in small.origin.components
    )
    own = {d: s for part in NAMES[:-1] for d, s in parts[part].items()}
    origin = replace(small.origin, components=components)
    return Profile(origin, own, own | parts[NAMES[-1]], parts)


def with_profiles(files: int) -> Release:
    r = release()
    for builder, name in BUILDERS.items():
        data = profile_material(realistic(name, files))
        r.materials[sha(data)] = data
        r.lie(builder, partial(name_profile, sha(data)))
    return r


def name_profile(digest: str, statement: Statement) -> None:
    statement["predicate"]["runDetails"]["byproducts"][0]["digest"] = {"sha256": digest}


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def took(words: Sequence[str]) -> Took:
    began, before = time.perf_counter(), cpu_of_children()
    done = subprocess.run(words, capture_output=True, text=True)
    wall, cpu = time.perf_counter() - began, cpu_of_children() - before
    if done.returncode:
        sys.exit(f"error: {' '.join(words[:4])} ended with {done.returncode}:\n{done.stdout}")
    return Took(wall, cpu)


def measured(folder: Path, runs: int, files: int) -> dict[str, list[Took]]:
    arguments = with_profiles(files).lay_out(folder)
    command = [sys.executable, "-m", "harness", *arguments]
    python = [sys.executable, "-c", "pass"]
    took(command)  # compiles what is not compiled yet
    pairs = [(took(command), took(python)) for _ in range(runs)]
    return {
        "harness verify": [pair[0] for pair in pairs],
        "python -c pass": [pair[1] for pair in pairs],
    }


def line(name: str, values: Sequence[float]) -> str:
    middle = statistics.median(values)
    return f"{name}: median {middle:.2f} s, {min(values):.2f} to {max(values):.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", default=10, type=int)
    parser.add_argument("--files", default=2000, type=int, help="in each builder's profile")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), asked.runs, asked.files)
    if asked.json:
        print(json.dumps({name: [asdict(each) for each in runs] for name, runs in found.items()}))
        return
    for name, runs in found.items():
        print(line(f"{name}, wall time", [each.wall for each in runs]))
        print(line(f"{name}, CPU time", [each.cpu for each in runs]))


if __name__ == "__main__":
    main()
