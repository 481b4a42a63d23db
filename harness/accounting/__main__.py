"""``python -m harness.accounting REQUEST RESULT``: one build, in a process that may die of it.

REQUEST is JSON: ``model`` (a path), ``inputs`` (name → shape), ``artifacts`` (``stage/name`` → a
path). RESULT becomes a JSON list of :class:`~harness.accounting.interface.Accounted`.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import onnx
from pydantic import TypeAdapter

from harness.accounting.everything import account
from harness.accounting.interface import Accounted

MEMORY = 12 * 2**30  # bytes of address space
MAX_ARTIFACT = 2**30


def main(request: Path, result: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.setrecursionlimit(10_000)
    asked = json.loads(request.read_bytes())
    files = {
        name: Path(path).read_bytes()
        for name, path in asked["artifacts"].items()
        if Path(path).stat().st_size <= MAX_ARTIFACT
    }
    model = onnx.load(asked["model"])
    found = account(model, asked["inputs"], files)
    result.write_bytes(TypeAdapter(tuple[Accounted, ...]).dump_json(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
