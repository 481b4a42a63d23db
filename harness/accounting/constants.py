"""Where does every constant of a build come from? Bit for bit, from the model alone.

A constant of the executable in the binary, or of the simplified model, has to be

- a constant of the model, or what its own constant nodes evaluate to (``folding``), or what a
  simplifier makes of it by drawing one operator into another (``fusions``),
- one of these as another implementation of its operators rounds it,
- one of these with its elements in another arrangement: reshaped, transposed, cast, broadcast,
- a number that the lowering of one of the model's operators needs, alone or filling a tensor,
- or what the imported graph computes of such constants (``relax_folding``).

What is none of these is left over, and listed. Whether it stands at the right place is not asked
here: the values that the program computes say that.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx

from harness.accounting.folding import Folded, Source, fold, held_by
from harness.accounting.fusions import fusions
from harness.accounting.interface import Accounted, Array, Kind, Unaccounted
from harness.accounting.lowering import MAX_SIDES, numbers, shapes
from harness.accounting.relax_folding import fold_graph
from harness.accounting.roundings import Between
from harness.accounting.vm_executable import Executable, PoolTensor
from harness.text import printable

MAX_WORK = 2**34  # bytes compared to find how constants were arranged
MAX_NEAR = 2**28  # bytes compared to say what a left-over constant is nearly
MAX_FINDINGS = 200
SHOWN = 200

TYPES = frozenset(
    {"bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
     "float32", "float64"}
)  # fmt: skip


class Known:
    """All that follows from a model, to look constants up in."""

    def __init__(self, folded: Folded) -> None:
        self.sources = [*folded.sources(), *fusions(folded), *shapes(folded)]
        self.by_data: dict[tuple[str, bytes], str] = {}
        self.by_digest: dict[str, Source] = {}
        self.by_size: defaultdict[int, list[Source]] = defaultdict(list)
        self.scalars: dict[tuple[str, bytes], str] = {}
        self.rounded: defaultdict[int, list[Between]] = defaultdict(list)
        for one in folded.rounded():
            self.rounded[one.low.size].append(one)
        self.left = MAX_WORK
        self.turned: dict[int, list[tuple[bytes, Source]]] = {}
        for source in self.sources:
            self.add(source)
        for number, what in numbers(folded):
            self._scalar(number, what)

    def add(self, source: Source) -> None:
        value = source.value
        digest = hashlib.sha256(value.tobytes())
        key = (str(value.dtype), digest.digest())
        if key in self.by_data:
            return
        self.by_data[key] = source.what
        self.by_digest.setdefault(digest.hexdigest(), source)
        self.by_size[value.size].append(source)
        if value.size == 1:
            self._scalar(value.reshape(()), source.what)

    def _scalar(self, number: Array | float, what: str) -> None:
        """In every type that holds it exactly, and rounded to a shorter float."""
        exact = np.asarray(number)
        if exact.dtype.kind not in "biuf":
            return
        names = {str(exact.dtype)} if exact.dtype.kind == "b" else TYPES - {"bool"}
        with np.errstate(all="ignore"):
            for name in names:
                cast = exact.astype(name)
                lost = np.dtype(name).kind != "f" and not np.array_equal(cast, exact)
                if not lost:
                    self.scalars.setdefault((name, cast.tobytes()), what)

    def extended(self, more: Iterable[Source]) -> Known:
        """The same, and more; this one stays as it is."""
        other = copy.copy(self)
        other.left = MAX_WORK
        other.by_data, other.by_digest = dict(self.by_data), dict(self.by_digest)
        other.scalars, other.turned = dict(self.scalars), {}
        other.by_size = defaultdict(list, {size: [*own] for size, own in self.by_size.items()})
        for source in more:
            other.add(source)
        return other

    def tensor(self, digest: str) -> Array | None:
        """The constant of this sha256, in hexadecimal digits."""
        found = self.by_digest.get(digest)
        return None if found is None else found.value

    def is_number(self, name: str, data: bytes) -> bool:
        return (name, data) in self.scalars

    def origin(self, name: str, shape: Sequence[int], data: bytes) -> str:
        """Where this constant comes from, or ``""``."""
        found = self.by_data.get((name, hashlib.sha256(data).digest()))
        if found is not None:
            return found
        if name not in TYPES:
            return ""
        value = np.frombuffer(data, name)
        if value.size == 0:
            return "nothing: it is empty"
        first = data[: value.itemsize]
        if data == first * value.size and (name, first) in self.scalars:
            return f"filled with {self.scalars[name, first]}"
        return (
            self._cast(value)
            or self._turned(value)
            or self._broadcast(value.reshape(shape))
            or self._otherwise(value)
        )

    def _otherwise(self, value: Array) -> str:
        for one in self.rounded.get(value.size, ()):
            if not self._may_look(value):
                return ""
            if one.holds(value):
                return f"{one.what}, rounded otherwise"
        return ""

    def _may_look(self, value: Array) -> bool:
        """Whether there is work left for one more comparison; without it nothing is explained."""
        self.left -= value.nbytes + 1024
        return self.left > 0

    def _cast(self, value: Array) -> str:
        for source in self.by_size[value.size]:
            if not self._may_look(value):
                return ""
            own, other = value.dtype.kind, source.value.dtype.kind
            if source.value.dtype == value.dtype or own not in "iuf" or other not in "biuf":
                continue
            with np.errstate(all="ignore"):
                cast = source.value.astype(value.dtype)
            exact = own == "f" or np.array_equal(cast, source.value)
            if exact and cast.tobytes() == value.tobytes():
                return f"{source.what}, cast to {value.dtype}"
        return ""

    def _turned(self, value: Array) -> str:
        """A transpose of a source, whatever its shape is called now."""
        if value.size not in self.turned:
            self.turned[value.size] = [
                (_sorted(source.value), source)
                for source in self.by_size[value.size]
                if 2 <= source.value.ndim <= MAX_SIDES
            ]
        own, raw = _sorted(value), value.tobytes()
        for other, source in self.turned[value.size]:
            if other != own or source.value.dtype != value.dtype:
                continue
            for order in itertools.permutations(range(source.value.ndim)):
                if not self._may_look(value):
                    return ""
                if source.value.transpose(order).tobytes() == raw:
                    return f"{source.what}, transposed"
        return ""

    def _broadcast(self, value: Array) -> str:
        for size, sources in self.by_size.items():
            if not 1 < size < value.size or value.size % size:
                continue
            for source in sources:
                if source.value.dtype != value.dtype or source.value.ndim > value.ndim:
                    continue
                if not self._may_look(value):
                    return ""
                try:
                    wide = np.broadcast_to(source.value, value.shape)
                except ValueError:
                    continue
                if wide.tobytes() == value.tobytes():
                    return f"{source.what}, broadcast"
        return ""

    def nearly(self, name: str, data: bytes) -> str:
        """What a left-over constant differs from least, in words."""
        if name not in TYPES:
            return ""
        value = np.frombuffer(data, name)
        best: tuple[int, Source] | None = None
        spent = 0
        for source in self.by_size[value.size]:
            if str(source.value.dtype) != name or (spent := spent + len(data)) > MAX_NEAR:
                continue
            count = int(np.count_nonzero(_bits(source.value) != _bits(value)))
            if best is None or count < best[0]:
                best = count, source
        if best is None or best[0] * 2 > value.size:
            return ""
        other = best[1].value.reshape(-1)
        at = int(np.argmax(_bits(other) != _bits(value)))
        return (
            f"it differs from {best[1].what} in {best[0]:,} of {value.size:,} elements, "
            f"first in element {at:,}: {other[at]!s} there, {value[at]!s} here"
        )


def _bits(value: Array) -> Array:
    flat = np.ascontiguousarray(value).reshape(-1)
    return flat.view(f"u{flat.itemsize}" if flat.itemsize in (1, 2, 4, 8) else "u1")


def _sorted(value: Array) -> bytes:
    return hashlib.sha256(np.sort(_bits(value)).tobytes()).digest()


def account_executable(
    known: Known, executable: Executable, stage: str, graph: bytes | None = None
) -> Accounted:
    """Every tensor in the executable's constants.

    graph: the text of the imported graph, for what the compiler folds after importing. It helps to
    explain, and is not believed: what it computes from is looked up like anything else.
    """
    known = known.extended(())
    findings: list[Unaccounted] = []
    unknown: list[str] = []
    tensors = [
        (number, one) for number, one in enumerate(executable.constants)
        if isinstance(one, PoolTensor)
    ]  # fmt: skip
    left = 0
    for number, one in tensors:
        name = str(one.dtype)
        if known.origin(name, one.shape, one.data):
            continue
        if graph is not None:
            made, notes = fold_graph(graph, known.tensor, known.is_number)
            graph = None
            unknown += [f"graph: {note}" for note in notes]
            known = known.extended(made)
        if known.origin(name, one.shape, one.data):
            continue
        left += 1
        if len(findings) < MAX_FINDINGS:
            shape = "x".join(map(str, one.shape)) or "scalar"
            where = (
                f"constant {number} ({name} {shape}), bytes {one.start:,} to "
                f"{one.start + len(one.data):,} of the executable"
            )
            findings.append(_leftover(known, stage, where, name, one.data))
    for text in executable.oddities:
        findings.append(
            Unaccounted(Kind.CONSTANTS, stage, "the executable", printable(text, SHOWN))
        )
    return Accounted(
        Kind.CONSTANTS, stage, len(tensors), len(tensors) - left, tuple(findings), tuple(unknown)
    )


def account_simplified(known: Known, simplified: onnx.ModelProto) -> Accounted:
    """Every constant that the simplified model itself holds.

    Raises NotInterpretedError where they cannot be read.
    """
    known = known.extended(())
    findings: list[Unaccounted] = []
    unknown: list[str] = []
    total = left = 0
    held = held_by(simplified)
    for source in held.sources():
        total += 1
        name = str(source.value.dtype)
        data = source.value.tobytes()
        if known.origin(name, source.value.shape, data):
            continue
        left += 1
        if len(findings) < MAX_FINDINGS:
            shape = "x".join(map(str, source.value.shape)) or "scalar"
            where = f"{source.what} ({name} {shape}), {len(data):,} bytes"
            findings.append(_leftover(known, "simplified", where, name, data))
    unknown += [f"simplified: {note}" for note in held.notes]
    return Accounted(
        Kind.CONSTANTS, "simplified", total, total - left, tuple(findings), tuple(unknown)
    )


def _leftover(known: Known, stage: str, where: str, name: str, data: bytes) -> Unaccounted:
    what = "no constant of the model gives it"
    near = known.nearly(name, data)
    return Unaccounted(
        Kind.CONSTANTS, stage, printable(where, SHOWN),
        printable(f"{what}; {near}" if near else what, 2 * SHOWN),
    )  # fmt: skip


def known_of(model: onnx.ModelProto, inputs: Mapping[str, Sequence[int]]) -> Known:
    """Raises NotInterpretedError where the model's constants cannot be read."""
    return Known(fold(model, inputs))
