"""Accounting for one build: its artifacts, held against the model in a process of its own.

What a toolchain left is read by :mod:`harness.accounting`. A crash, a hang or too much memory there
ends that process and nothing else, and counts as no answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness import __version__, process
from harness.accounting.interface import Accounted, Kind
from harness.models import Account, BuildRecord, LeftOver, Model
from harness.shelf import Shelf
from harness.store import Store
from harness.text import printable

SECONDS = 600.0
MAX_RESULT = 64 * 2**20  # bytes
# Compilers whose stages accounting can read.
READABLE = frozenset({"tvm"})
NORMALIZED = ("llvm-unoptimized/", "llvm/")
# What is looked at where all goes well. Each is reported on, whatever happens.
KINDS = (Kind.GRAPH, Kind.CONSTANTS, Kind.DECISIONS, Kind.REACH)
# What a policy can ask for: the libraries are run, too.
ASKABLE = (*KINDS, Kind.NUMERIC)
_ROOT = Path(__file__).resolve().parent.parent
_ADAPTER = TypeAdapter(tuple[Accounted, ...])


@dataclass(frozen=True)
class _Entry:
    __pydantic_config__ = ConfigDict(extra="forbid")

    found: tuple[Accounted, ...]
    made: str  # YYYY-MM-DD


_ENTRY = TypeAdapter(_Entry)


@dataclass(frozen=True)
class Job:
    """One build to account for, and all others with the same sources.

    ``sources``: (``stage/artifact``, digest of its normalized bytes).
    """

    model: Model
    sources: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """A digest of all that decides what comes out."""
        model = (self.model.sha256, sorted(self.model.inputs.items()), self.model.external)
        parts = repr((model, self.sources))
        return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()


def job_for(record: BuildRecord, model: Model, canonical: Mapping[str, str]) -> Job | None:
    """None where accounting cannot read what this compiler leaves.

    canonical: ``stage/artifact`` → digest in the store of its normalized bytes. It is taken for
    LLVM IR only, whose raw text no two processes of TVM write alike: a replay that starts from it
    has to make the object bit for bit. Everything else is read as it was left.
    """
    if record.compiler not in READABLE:
        return None
    raw = {f"{artifact.stage}/{artifact.name}": artifact.sha256 for artifact in record.artifacts}
    plain = {name: digest for name, digest in canonical.items() if name.startswith(NORMALIZED)}
    return Job(model, tuple(sorted((raw | plain).items())))


def account(job: Job, store: Store, folder: Path) -> tuple[Accounted, ...]:
    """What came out; ``folder`` is empty, private and removed by the caller.

    Never raises for what the toolchain left: that is ``unknown`` in each respect.
    """
    request, result = folder / "request.json", folder / "result.json"
    # What was built, whatever lies at the model's path by now.
    model = folder / "model"
    store.place(job.model.sha256, model / "model.onnx")
    for location, digest in job.model.external:
        store.place(digest, model / location)
    described = {
        "model": str(model / "model.onnx"),
        "inputs": {name: list(shape) for name, shape in job.model.inputs.items()},
        "artifacts": {name: str(store.verified(digest)) for name, digest in job.sources},
    }
    request.write_text(json.dumps(described))
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    done = process.run(
        [sys.executable, "-P", "-m", "harness.accounting", str(request), str(result)],
        env={**process.FIXED_ENVIRONMENT, **threads, "PYTHONPATH": path},
        timeout=SECONDS,
    )
    try:
        data = result.read_bytes() if result.stat().st_size <= MAX_RESULT else b""
        found = _ADAPTER.validate_json(data)
    except (OSError, ValidationError):
        ended = "did not end in time" if done.timed_out else f"ended with {done.exit_code}"
        last = (done.output.strip().splitlines() or [""])[-1]
        return _no_answer(f"accounting {ended}: {printable(last, 300)}")
    missing = set(KINDS) - {each.kind for each in found}
    return (*found, *(one for one in _no_answer("nothing was looked at") if one.kind in missing))


class Memory:
    """Answers of earlier runs that had nothing left over, and nothing unknown, in ``folder``.

    As for replays (:mod:`harness.remembered`): an answer is a pure function of the sources and of
    the code that reads them, it can only confirm, and one in sixteen is worked out again.
    """

    def __init__(self, folder: Path, engine: str) -> None:
        self._shelf = Shelf(folder, engine, __version__, _code())

    def recall(self, job: Job) -> tuple[tuple[Accounted, ...], str] | None:
        """The answer, and the day on which it was worked out."""
        data = self._shelf.read(job.key)
        if data is None:
            return None
        try:
            entry = _ENTRY.validate_json(data)
        except ValidationError:
            return None
        whole = {each.kind for each in entry.found} >= set(KINDS)
        return (entry.found, entry.made) if whole and clean(entry.found) else None

    def keep(self, job: Job, found: tuple[Accounted, ...], today: date) -> None:
        """Remember a clean answer; of any other, forget what was remembered before."""
        if clean(found):
            self._shelf.write(job.key, _ENTRY.dump_json(_Entry(found, today.isoformat())))
        else:
            self._shelf.remove(job.key)


def clean(found: tuple[Accounted, ...]) -> bool:
    return bool(found) and not any(each.findings or each.unknown for each in found)


def _code() -> str:
    """A digest of the code that accounts: other code, other answers."""
    digest = hashlib.sha256()
    for path in sorted((_ROOT / "harness" / "accounting").glob("*.py")):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _no_answer(why: str) -> tuple[Accounted, ...]:
    return tuple(Accounted(kind, "library", 0, 0, unknown=(why,)) for kind in KINDS)


def results(
    record: BuildRecord, found: tuple[Accounted, ...], served: str, remembered: str | None = None
) -> tuple[Account, ...]:
    """For the report. ``served``: the build that the job ran for; ``remembered``: the day of the
    earlier run that the answer comes from.
    """
    return tuple(
        Account(
            kind=each.kind.value,
            model=record.model,
            build=record.id,
            toolchain=record.toolchain,
            stage=each.stage.partition("/")[0],
            things=each.things,
            attributed=each.attributed,
            left_over=tuple(
                LeftOver(one.stage.partition("/")[0], one.where, one.what, one.path)
                for one in each.findings
            ),
            unknown=each.unknown,
            shared_with=None if served == record.id else served,
            remembered=remembered,
        )
        for each in found
    )
