"""What is in the constants of a run: their claimed types, and a summary of their numbers.

The digests and sizes are the host's own. Type and shape are what the toolchain's ``index.json``
says; a claim that does not fit the size is not used. All of it is for reading, nothing is judged.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from harness.comparators.tensor import Blob
from harness.constants import INDEX, Key, Summary, by_interest, files_of
from harness.errors import StoreError
from harness.models import Artifact, BuildRecord, Report
from harness.store import Store

MOST_INDEX = 4 * 2**20  # bytes of an index that is read
MOST_CLAIMS = 100_000  # entries of it
MOST_SUMMARIES = 120  # of one model
MOST_BYTES = 256 * 2**20  # read for one report
SECONDS = 10.0  # for one report
SAMPLE = 2**20  # bytes of one constant that are summarised
BINS = 24
FIRST = 6  # values shown
# As numpy and TVM name them; bfloat16 is widened here.
TYPES = {
    "bool": "u1", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2", "int32": "<i4",
    "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "float16": "<f2", "float32": "<f4",
    "float64": "<f8", "bfloat16": "<u2",
}  # fmt: skip


def summaries(report: Report, store: Store) -> dict[Key, Summary]:
    """A summary of each constant that a page has room for. What the store has lost is left out."""
    deadline = time.monotonic() + SECONDS
    left = MOST_BYTES
    found: dict[Key, Summary] = {}
    known: dict[tuple[str, str], Summary] = {}
    for model, names in files_of(report).items():
        claims = dict(_claims(names.get(INDEX, {}), store))
        total = len({build.id for versions in names.values() for own in versions.values()
                     for build in own})  # fmt: skip
        for name, _ in by_interest(names, total)[:MOST_SUMMARIES]:
            for artifact in names[name]:
                claim = next(
                    (claims[digest, name] for digest in _indices(names, artifact, name)
                     if (digest, name) in claims),
                    ("", ()),
                )  # fmt: skip
                words = _fitting(claim, artifact.size)
                key = (artifact.sha256, words)
                if key not in known:
                    if artifact.size > left or time.monotonic() > deadline:
                        continue
                    left -= artifact.size
                    try:
                        known[key] = _summary(artifact, words, claim[0], store)
                    except (StoreError, OSError):
                        continue
                found[model, name, artifact.sha256] = known[key]
    return found


def _indices(
    names: Mapping[str, Mapping[Artifact, list[BuildRecord]]], artifact: Artifact, name: str
) -> Iterator[str]:
    """Digests of the indices of the builds that left this version."""
    builds = {build.id for build in names[name][artifact]}
    for index, own in names.get(INDEX, {}).items():
        if any(build.id in builds for build in own):
            yield index.sha256


def _claims(
    indices: Iterable[Artifact], store: Store
) -> Iterator[tuple[tuple[str, str], tuple[str, tuple[int, ...]]]]:
    """By index and file: its claimed type and shape."""
    for index in indices:
        if index.size > MOST_INDEX:
            continue
        try:
            entries = json.loads(store.read(index.sha256))
        except (StoreError, ValueError, RecursionError):
            continue
        if not isinstance(entries, list):
            continue
        for entry in entries[:MOST_CLAIMS]:
            if not isinstance(entry, dict):
                continue
            name, kind, shape = entry.get("file"), entry.get("dtype"), entry.get("shape")
            if not (isinstance(name, str) and isinstance(kind, str) and isinstance(shape, list)):
                continue
            whole = all(type(side) is int and 0 <= side < 2**48 for side in shape)
            if kind in TYPES and len(shape) <= 16 and whole:
                yield (index.sha256, name), (kind, tuple(shape))


def _fitting(claim: tuple[str, tuple[int, ...]], size: int) -> str:
    """The claim in words, where as many elements of this type are as large as the file."""
    kind, shape = claim
    if kind not in TYPES or math.prod(shape) * np.dtype(TYPES[kind]).itemsize != size:
        return ""
    return f"{kind} {'x'.join(map(str, shape)) or 'scalar'}"


def _summary(artifact: Artifact, words: str, kind: str, store: Store) -> Summary:
    if not words:
        return Summary("")
    path = store.verified(artifact.sha256)
    with Blob(path) as blob:
        data = blob.read(0, min(artifact.size, SAMPLE))
    step = np.dtype(TYPES[kind]).itemsize
    raw = np.frombuffer(data[: len(data) // step * step], TYPES[kind])
    numbers = (raw.astype("<u4") << 16).view("<f4") if kind == "bfloat16" else raw
    first = tuple(f"{value:.6g}" for value in numbers[:FIRST].tolist())
    elements = artifact.size // step
    values = numbers.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Summary(words, elements, numbers.size, first, not_finite=int(values.size))
    low, high = float(finite.min()), float(finite.max())
    bins: tuple[int, ...] = ()
    if low < high and math.isfinite(high - low):
        bins = tuple(int(n) for n in np.histogram(finite, BINS, (low, high))[0])
    return Summary(
        words, elements, numbers.size, first,
        f"{low:.4g}", f"{high:.4g}", f"{_mean(finite):.4g}",
        int(np.count_nonzero(numbers == 0)), int(values.size - finite.size), bins,
    )  # fmt: skip


def _mean(values: np.ndarray) -> float:
    """Without overflow: each value is made small before they are added."""
    return float(np.sum(values / values.size))
