"""Running a built library on given inputs, in one fresh container → what it answered.

The library is what a hostile compiler made, and it runs as native code: only ever in an engine,
and what comes back is read without following links, within limits, by a parser of ours. What a
library answers is evidence about the library; how long it says that it took is not even that.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness import untrusted
from harness.build import last_lines
from harness.engines.interface import Engine, Mount, RunOutcome, RunSpec
from harness.environments import Environment
from harness.errors import HarnessError
from harness.models import Limits
from harness.store import remove_tree
from harness.text import printable
from harness.untrusted import UntrustedFileError
from harness.variations import control

CONTRACT = 1
Array = np.ndarray[Any, Any]
Case = Mapping[str, Array]  # name of an input → its value

MAX_OUTPUTS = 256  # of one case
MAX_DIMENSIONS = 16
MAX_ARRAY_BYTES = 2**30
MAX_TIMING_BYTES = 2**20
LIMITS = Limits(wall_seconds=600, output_bytes=2 * 2**30)

# Our own, whatever other folders of toolchains are in use: a runner is never a toolchain's.
_TOOLCHAINS = Path(__file__).resolve().parent.parent / "toolchains"
_ROOT = "/run-library"
_TYPES = ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"]
# What numpy writes for plain arrays, and nothing else that a .npy header may hold.
_HEADER = re.compile(
    rb"\{'descr': '([|<][bifu][1248])', 'fortran_order': False, "
    rb"'shape': \(((?:[0-9]{1,12}(?:, [0-9]{1,12})*,?)?)\), \} *\n"
)


class ExecutionError(HarnessError):
    """A library could not be run, or what came back is not what the runner contract asks for."""


@dataclass(frozen=True)
class Executed:
    """``outputs``: for each case the model's outputs, in order. ``seconds``: how long the first
    case took, each of the runs that were asked for, after one that does not count."""

    outputs: tuple[tuple[Array, ...], ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class _Timing:
    __pydantic_config__ = ConfigDict(extra="forbid")

    seconds: list[float]


def has_runner(compiler: str) -> bool:
    """Whether libraries of this compiler can be run."""
    return _runner(compiler).is_file()


def execute(
    compiler: str,
    environment: Environment,
    library: Path,
    cases: Sequence[Case],
    engine: Engine,
    *,
    repeat: int = 0,
    limits: Limits = LIMITS,
) -> Executed:
    """Run ``library`` on every case, all in one process that sees nothing else.

    compiler: whose runner is used. environment: holds the runtime; that of the toolchain that
    built the library, or a clean one of the same release. cases: each the same inputs, in the
    order in which the model takes them. repeat: how often the first case is run again for time.
    Raises ExecutionError if the library does not load, fails, exceeds ``limits`` or leaves
    something else than its outputs.
    """
    names = _names(cases)
    runner = _runner(compiler)
    if not runner.is_file():
        raise ExecutionError(
            f"there is no runner for {compiler}: its libraries cannot be run",
            f"Write toolchains/{compiler}/runner.py; see toolchains/README.md.",
        )
    environment.confirm()
    with _folder() as scratch:
        spec = _spec(runner, environment, library, names, cases, engine, repeat, scratch, limits)
        result = engine.run(spec)
        if result.outcome is not RunOutcome.EXITED or result.exit_code != 0:
            said = last_lines(result.output).splitlines()
            why = said[-1] if said else result.detail
            ended = result.outcome.value
            if result.outcome in (RunOutcome.EXITED, RunOutcome.SIGNALLED):
                ended += f" ({result.exit_code})"
            raise ExecutionError(
                f"running the library ended with {ended}: {printable(why, 300)}",
                "It is the library or the runtime that fails: see whether another input does, too.",
            )
        outputs = tuple(_outputs(spec.out, number) for number in range(len(cases)))
        if len({len(found) for found in outputs}) != 1:
            raise ExecutionError("the library left more outputs for one case than for another")
        return Executed(outputs, _seconds(spec.out, repeat))


def _names(cases: Sequence[Case]) -> tuple[str, ...]:
    if not cases:
        raise ExecutionError("no case to run", "Give at least one.")
    names = tuple(cases[0])
    for case in cases:
        if case.keys() != cases[0].keys():
            raise ExecutionError("not every case has the same inputs", "Give each one all inputs.")
    return names


def _runner(compiler: str) -> Path:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", compiler):
        raise ExecutionError(f"{printable(compiler, 80)!r} is no compiler's name")
    return _TOOLCHAINS / compiler / "runner.py"


@contextmanager
def _folder() -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix="harness-"))
    try:
        yield scratch
    finally:
        remove_tree(scratch)


def _spec(
    runner: Path,
    environment: Environment,
    library: Path,
    names: Sequence[str],
    cases: Sequence[Case],
    engine: Engine,
    repeat: int,
    scratch: Path,
    limits: Limits,
) -> RunSpec:
    given, out, engine_scratch = (scratch / name for name in ("in", "out", "engine"))
    for folder in (given, out, engine_scratch):
        folder.mkdir()
    seen = engine.visible(given, f"{_ROOT}/in")
    shutil.copyfile(library, given / "model.so")
    (given / "runner.py").write_bytes(runner.read_bytes())
    (given / "request.json").write_text(
        json.dumps(
            {
                "contract": CONTRACT,
                "library": f"{seen}/model.so",
                "inputs": list(names),
                "cases": [
                    {
                        "inputs": {
                            name: f"{seen}/{_place(number, at)}" for at, name in enumerate(names)
                        }
                    }
                    for number in range(len(cases))
                ],
                "out": engine.visible(out, f"{_ROOT}/out"),
                "repeat": repeat,
            }
        ),
        encoding="utf-8",
    )
    for number, case in enumerate(cases):
        for at, name in enumerate(names):
            array = np.asarray(case[name], order="C")
            np.save(given / _place(number, at), array, allow_pickle=False)
    mounts = [Mount(given, f"{_ROOT}/in")]
    if not environment.inside:
        mounts.append(Mount(environment.root, "/toolchain"))
    return RunSpec(
        argv=(engine.python, f"{seen}/runner.py", f"{seen}/request.json"),
        mounts=tuple(mounts),
        scratch=engine_scratch,
        out=out,
        out_target=f"{_ROOT}/out",
        variation=control(),
        limits=replace(limits, output_files=len(cases) * (MAX_OUTPUTS + 1) + 1),
        search_path=engine.visible(environment.root, "/toolchain"),
        image=environment.image,
    )


def _place(case: int, at: int) -> str:
    return f"{case}-{at}.npy"


def _outputs(out: Path, case: int) -> tuple[Array, ...]:
    try:
        names = untrusted.names(out, str(case))
    except UntrustedFileError:
        raise ExecutionError(f"the library left no output for case {case}") from None
    if names != {f"{index}.npy" for index in range(len(names))} or not names:
        raise ExecutionError(f"case {case} holds something else than outputs")
    if len(names) > MAX_OUTPUTS:
        raise ExecutionError(f"the library left more than {MAX_OUTPUTS} outputs for one case")
    return tuple(read_array(out, f"{case}/{index}.npy") for index in range(len(names)))


def read_array(folder: Path, name: str, limit: int = MAX_ARRAY_BYTES) -> Array:
    """The array in a .npy file that somebody hostile wrote: of a plain type, in C order, whole.

    ``name`` is its path below ``folder``. Never unpickles, and never takes more memory than the
    file's own size, ``limit`` bytes at most.
    """
    data = _read(folder, name, limit + 2**16)
    version, length = data[6:8], int.from_bytes(data[8:10], "little")
    header = _HEADER.fullmatch(data[10 : 10 + length])
    if data[:6] != b"\x93NUMPY" or version != b"\x01\x00" or header is None:
        raise ExecutionError(f"output {name} is not a plain .npy file")
    kind = header[1].decode("ascii")
    shape = tuple(int(size) for size in header[2].split(b",") if size.strip())
    if kind not in _TYPES or len(shape) > MAX_DIMENSIONS:
        raise ExecutionError(f"output {name} has a type or a rank that no tensor has")
    dtype = np.dtype(kind)
    body = memoryview(data)[10 + length :]
    if math.prod(shape) * dtype.itemsize != len(body) or max(shape, default=0) > limit:
        raise ExecutionError(f"output {name} is not as long as its shape says")
    if kind == "|b1" and max(body, default=0) > 1:
        raise ExecutionError(f"output {name} holds truth values other than 0 and 1")
    return np.frombuffer(body, dtype).reshape(shape)


def _read(folder: Path, name: str, limit: int) -> bytes:
    try:
        return untrusted.read(folder, name, limit)
    except UntrustedFileError as error:
        raise ExecutionError(str(error)) from None


def _seconds(out: Path, repeat: int) -> tuple[float, ...]:
    data = _read(out, "timing.json", MAX_TIMING_BYTES)
    try:
        seconds = tuple(TypeAdapter(_Timing).validate_json(data).seconds)
    except ValidationError:
        raise ExecutionError("timing.json is not what the runner contract asks for") from None
    if len(seconds) != repeat or not all(math.isfinite(s) and s >= 0 for s in seconds):
        raise ExecutionError(f"timing.json does not hold {repeat} durations")
    return seconds
