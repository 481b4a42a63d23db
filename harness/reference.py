"""What a model answers according to ONNX itself: the reference evaluator, slow and bounded.

It shares no code with any compiler. It does not run every model, and where it does not, the answer
is the reason.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.process import run
from harness.text import printable

Array = np.ndarray[Any, Any]
SECONDS = 60.0
MEMORY_BYTES = 8 * 2**30
_SCRIPT = Path(__file__).with_name("reference_run.py")


def evaluate(
    model: Path, cases: Sequence[Mapping[str, Array]], seconds: float = SECONDS
) -> tuple[tuple[tuple[Array, ...], ...], str]:
    """(outputs of each of the first cases, why there are not all of them).

    ``seconds`` for all cases together; those that were done by then count. The reason is one line,
    empty where every case was evaluated.
    """
    names = list(cases[0]) if cases else []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        request = {
            "model": str(model.absolute()),
            "inputs": names,
            "cases": len(cases),
            "memory_bytes": MEMORY_BYTES,
        }
        (folder / "request.json").write_text(json.dumps(request), "utf-8")
        for number, case in enumerate(cases):
            arrays: dict[str, Any] = {str(at): case[name] for at, name in enumerate(names)}
            np.savez(folder / f"in-{number}.npz", allow_pickle=False, **arrays)
        # -P: this folder must not come first on the module path.
        done = run([sys.executable, "-P", str(_SCRIPT), place], timeout=seconds)
        found = []
        for number in range(len(cases)):
            path = folder / f"out-{number}.npz"
            if not path.exists():
                break
            with np.load(path, allow_pickle=False) as outputs:
                found.append(tuple(outputs[str(at)] for at in range(len(outputs.files))))
    if done.timed_out:
        return tuple(found), f"it was not done within {seconds:.0f} s"
    if done.exit_code != 0:
        lines = [line.strip() for line in done.output.splitlines() if line.strip()]
        return tuple(found), printable(lines[-1] if lines else f"exit code {done.exit_code}", 300)
    return tuple(found), ""
