"""Targets for what reads the stages to account for a model, and for diffoscope's answers."""

from __future__ import annotations

from functools import partial

from harness.accounting import llvm_text, relax_script, tir, vm_executable
from harness.accounting.interface import NotInterpretedError
from harness.diffoscope_tree import MalformedError, parse, walk
from tests.fuzz import seeds
from tests.fuzz.holds import claim, only, safe

NAME = "stage/module"
TREE = b"""{"diffoscope-json-version": 1, "source1": "a", "source2": "b", "unified_diff": null,
"details": [{"source1": "file list", "source2": "file list", "comments": ["c"],
"unified_diff": "@@ -1 +1 @@\\n-a\\n+b\\n"}]}"""


def relax(data: bytes) -> None:
    with only(NotInterpretedError):
        relax_script.functions(data, NAME)


def tensor_ir(data: bytes) -> None:
    with only(NotInterpretedError):
        tir.read(data, NAME)


def ir(data: bytes) -> None:
    with only(NotInterpretedError):
        llvm_text.read(data, NAME)


def executable(data: bytes) -> None:
    with only(NotInterpretedError):
        found = vm_executable.read_executable(data)
        safe(vm_executable.as_text(found), "an executable", newlines=True)


def tree(data: bytes) -> None:
    with only(MalformedError):
        for above, node in walk(parse(data)):
            claim(len(above) < 1000, "a tree without an end")
            claim(node is not None, "a tree with holes")


def targets() -> dict[str, tuple[str, partial[None], tuple[bytes, ...]]]:
    texts = {
        "relax": (relax_script.__name__, relax, seeds.SCRIPT),
        "tensor-ir": (tir.__name__, tensor_ir, seeds.SCRIPT),
        "llvm-account": (llvm_text.__name__, ir, seeds.IR),
        "diffoscope": (parse.__module__, tree, TREE),
    }
    return {name: (reads, partial(run), (seed,)) for name, (reads, run, seed) in texts.items()}
