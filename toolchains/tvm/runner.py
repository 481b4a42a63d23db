"""Runner for Apache TVM: a built library and inputs in, what it answers out.

Runs inside a container as ``python runner.py request.json``, with the environment of the same TVM
release that built the library, and imports nothing of the harness. What the request holds and
what is left behind is the runner contract (``toolchains/README.md``). The library is anybody's
code: the host believes nothing that is written here, timings included.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax

Main = Callable[..., Any]


def main(request_path: str) -> None:
    request = json.loads(Path(request_path).read_text("utf-8"))
    out = Path(request["out"])
    library = tvm.runtime.load_module(request["library"])
    run: Main = relax.VirtualMachine(library, tvm.cpu())["main"]
    order = request["inputs"]

    seconds: list[float] = []
    for number, case in enumerate(request["cases"]):
        files = [case["inputs"][name] for name in order]
        inputs = [tvm.runtime.tensor(np.load(path, allow_pickle=False)) for path in files]
        answer = run(*inputs)
        folder = out / str(number)
        folder.mkdir()
        for index, array in enumerate(arrays(answer)):
            np.save(folder / f"{index}.npy", np.asarray(array, order="C"), allow_pickle=False)
        if number == 0:  # the run above was the warm-up
            seconds = [timed(run, inputs) for _ in range(request["repeat"])]
    (out / "timing.json").write_text(json.dumps({"seconds": seconds}), "utf-8")


def timed(run: Main, inputs: list[Any]) -> float:
    began = time.perf_counter()
    run(*inputs)
    return time.perf_counter() - began


def arrays(answer: Any) -> list[Any]:
    """The tensors of an answer, which may be a tuple of tuples, in order."""
    if hasattr(answer, "numpy"):
        return [answer.numpy()]
    return [array for part in answer for array in arrays(part)]


if __name__ == "__main__":
    main(sys.argv[1])
