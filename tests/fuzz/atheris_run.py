"""Targets under atheris: coverage of ours leads, with limits on time, memory and size.

    python -m tests.fuzz.atheris_run [TARGET...]      all of them, one process each
    FUZZ_SECONDS=20    seconds for each target
    FUZZ_OUT=.fuzz     where findings and what was learned are kept

One finding ends a target: an error that is not documented, a property that does not hold, an input
that takes more than TIMEOUT seconds, or more than MEMORY bytes of address space. It is kept as
``FUZZ_OUT/findings/TARGET-crash-…``, ``-timeout-…`` or ``-oom-…``, to be replayed with::

    python -m tests.fuzz.atheris_run --replay TARGET FILE

Ends with 0 if there is none, with 1 otherwise, with 2 if a target could not run.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

TIMEOUT = 10  # seconds for one input: code that counts its own branches is some times slower
MEMORY = 2 * 2**30  # bytes of address space; what is imported takes half of one GiB
RSS_MB = 1024
MAX_LENGTH = 2**16  # bytes of an input
ROOT = Path(__file__).parents[2]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--one"]:
        return one(arguments[1], arguments[2:])
    from tests.fuzz.targets import TARGETS

    if arguments[:1] == ["--replay"]:
        TARGETS[arguments[1]].run(Path(arguments[2]).read_bytes())
        say(f"{arguments[1]}: no finding")
        return 0
    if unknown := set(arguments) - TARGETS.keys():
        say(f"no target is called {min(unknown)}; there are: {', '.join(TARGETS)}")
        return 2
    seconds = int(os.environ.get("FUZZ_SECONDS", "20"))
    out = Path(os.environ.get("FUZZ_OUT", ".fuzz")).absolute()
    ends = [campaign(name, TARGETS[name].seeds, seconds, out) for name in arguments or TARGETS]
    say(f"{len(ends)} targets, {sum(end == 1 for end in ends)} with a finding, in {out}")
    return 2 if 2 in ends else max(ends)


def campaign(name: str, seeds: tuple[bytes, ...], seconds: int, out: Path) -> int:
    """One target in a process of its own. 0: nothing found, 1: a finding, 2: it did not run."""
    learned, findings = out / "corpus" / name, out / "findings"
    for folder in (learned, findings):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (learned / f"seed-{number}").write_bytes(seed)
    log = out / f"{name}.log"
    command = [
        sys.executable, "-m", "tests.fuzz.atheris_run", "--one", name,
        f"-max_total_time={seconds}", f"-timeout={TIMEOUT}", f"-rss_limit_mb={RSS_MB}",
        f"-max_len={MAX_LENGTH}", f"-artifact_prefix={findings / name}-", "-print_final_stats=1",
        str(learned),
    ]  # fmt: skip
    before = set(findings.iterdir())
    with log.open("wb") as printed:
        done = subprocess.run(
            command, cwd=ROOT, stdout=printed, stderr=printed, check=False,
            timeout=seconds + 10 * TIMEOUT + 60,
        )  # fmt: skip
    found = sorted(path.name for path in set(findings.iterdir()) - before)
    words = log.read_text("utf-8", "replace").split("\n")
    runs = next((line.split()[-1] for line in words if "number_of_executed_units" in line), "no")
    say(f"{name}: {runs} runs; {', '.join(found) or 'nothing found'}")
    if done.returncode == 0:
        return 0
    say(f"  exit code {done.returncode}; {log} says how")
    return 1 if found else 2


def one(name: str, options: list[str]) -> int:
    import atheris  # type: ignore[import-untyped]  # not there unless somebody fuzzes

    # The process that is fuzzed: what it reads may not make it large.
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # What reads formats for us counts as ours.
    with atheris.instrument_imports(
        include=["harness", "elftools", "tarfile", "zipfile", "tomllib", "csv"],
        enable_loader_override=False,
    ):
        from tests.fuzz.targets import TARGETS

    atheris.Setup([sys.argv[0], *options], TARGETS[name].run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
