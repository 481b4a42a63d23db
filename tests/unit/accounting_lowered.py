"""The two small models of ``accounting_samples`` for a batch of two, lowered by TVM 0.27.0.post1.

``lowered_NAME.txt`` is tensor IR, ``lowered_NAME.ll.xz`` unoptimised LLVM IR (``x86-64-v3``),
``lowered_NAME.npz`` the constants that tensor IR names.
"""

from __future__ import annotations

import hashlib
import lzma
import re
from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray

from harness.accounting.interface import Array
from harness.accounting.onnx_values import Source, draw, evaluate
from tests.unit.accounting_samples import ASSETS, image_model, text_model

NAMES = ("image", "text")


@cache
def model(name: str) -> onnx.ModelProto:
    made = image_model() if name == "image" else text_model()
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    return made


@cache
def tensor_ir(name: str) -> str:
    return (ASSETS / f"lowered_{name}.txt").read_text("ascii")


@cache
def llvm(name: str) -> str:
    return lzma.decompress((ASSETS / f"lowered_{name}.ll.xz").read_bytes()).decode("ascii")


@cache
def constants(name: str) -> dict[str, Array]:
    held: dict[str, Array] = {}
    with np.load(ASSETS / f"lowered_{name}.npz") as file:
        for key in file:
            array: NDArray[np.generic] = file[key]
            held[hashlib.sha256(array.tobytes()).hexdigest()] = array
    return held


@cache
def inputs(name: str) -> dict[str, Array]:
    shapes = {"x": (2, 3, 16, 16)} if name == "image" else {"ids": (2, 20)}
    return dict(draw(model(name), shapes))


@cache
def source(name: str) -> Source:
    return evaluate(model(name), inputs(name))


def swapped(text: str, old: str, new: str, after: str = "") -> str:
    """The text with the first ``old`` behind ``after`` replaced, which must be there."""
    start = text.index(after)
    at = text.index(old, start)
    return text[:at] + new + text[at + len(old) :]


def within(text: str, name: str) -> tuple[int, int]:
    """Where the LLVM function of this name is."""
    found = re.search(rf"^define [^\n]*@{re.escape(name)}\(", text, re.MULTILINE)
    assert found, name
    return found.start(), text.index("\n}\n", found.start()) + 3


def stored(text: str, name: str, lines: str, value: str, which: int = -1) -> str:
    """LLVM IR with ``lines`` in front of a function's float store, which stores ``value`` instead.

    ``OLD`` in the lines is what it stored; ``which``: counted among the stores of computed floats.
    """
    start, end = within(text, name)
    body = text[start:end]
    stores = list(re.finditer(r"  store float (%[a-zA-Z0-9._]+), ", body))
    one = stores[which]
    added = "".join(
        f"\n{line}\n" if line.endswith(":") else f"  {line}\n"
        for line in lines.replace("OLD", one[1]).split("\n")
    )
    changed = body[: one.start()] + added + f"  store float {value}, " + body[one.end() :]
    return text[:start] + changed + text[end:]


def edited(text: str, name: str, old: str, new: str) -> str:
    """LLVM IR with the first ``old`` (an expression) inside a function replaced."""
    start, end = within(text, name)
    changed, count = re.subn(old, new, text[start:end], count=1)
    assert count == 1, old
    return text[:start] + changed + text[end:]
