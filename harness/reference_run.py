"""The ONNX reference evaluator on given inputs, in a process of its own that can be ended.

Run by path as ``python reference_run.py FOLDER``, where FOLDER/request.json names the model and
how many cases there are. Imports nothing of the harness.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


class GlobalMaxPool(OpRun):  # type: ignore[misc]
    """As the standard has it. The evaluator's own takes the wrong axes unless there are two."""

    op_domain = ""

    def _run(self, x: Any) -> tuple[Any]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class BatchNormalization(OpRun):  # type: ignore[misc]
    """Inference, as the standard has it. Up to opset 13 the evaluator's own always trains."""

    op_domain = ""

    def _run(
        self, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, epsilon: float, **_: Any
    ) -> tuple[Any]:
        node = self.onnx_node
        asked = any(entry.name == "training_mode" and entry.i for entry in node.attribute)
        if asked or any(node.output[1:]):
            raise RuntimeError("BatchNormalization is asked to train")
        shape = (-1, *[1] * (x.ndim - 2))
        scale, bias, mean, variance = (a.reshape(shape) for a in (scale, bias, mean, variance))
        y = scale * (x - mean) / np.sqrt(variance + epsilon) + bias
        return (y.astype(x.dtype),)


class LRN(OpRun):  # type: ignore[misc]
    """As the standard has it. The evaluator's own leaves channels out of the sums."""

    op_domain = ""

    def _run(self, x: Any, alpha: float, beta: float, bias: float, size: int) -> tuple[Any]:
        sums = np.zeros_like(x)
        for c in range(x.shape[1]):
            first, last = max(0, c - (size - 1) // 2), c + size // 2
            sums[:, c] = (x[:, first : last + 1] ** 2).sum(axis=1)
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


CORRECTED = [GlobalMaxPool, BatchNormalization, LRN]


def main(folder: Path) -> None:
    request = json.loads((folder / "request.json").read_text("utf-8"))
    most = request["memory_bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    session = ReferenceEvaluator(request["model"], new_ops=CORRECTED)
    for number in range(request["cases"]):
        with np.load(folder / f"in-{number}.npz", allow_pickle=False) as given:
            inputs = {name: given[str(at)] for at, name in enumerate(request["inputs"])}
        outputs = session.run(None, inputs)
        named = {str(at): np.asarray(array) for at, array in enumerate(outputs)}
        np.savez(folder / f"out-{number}.part.npz", allow_pickle=False, **named)
        (folder / f"out-{number}.part.npz").rename(folder / f"out-{number}.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
