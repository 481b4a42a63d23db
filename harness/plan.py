"""Models × toolchains × variations → builds, and builds → comparisons. Pure.

The whole plan exists before the first container starts, so a run that ends early knows what it
has not done.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

from harness.models import BuildRecord, Comparison, ComparisonKind, Model, Toolchain, Variation
from harness.variations import CONTROL, control, draw


@dataclass(frozen=True)
class Build:
    """One build to be done. ``id`` is its name everywhere: in logs, paths and reports."""

    model: Model
    toolchain: Toolchain
    variation: Variation

    @property
    def id(self) -> str:
        return build_id(self.model.name, self.toolchain.name, self.variation.name)


def build_id(model: str, toolchain: str, variation: str) -> str:
    return f"{model}/{toolchain}/{variation}"


def model_name(stem: str) -> str:
    """What to call a model whose file is called that: plain enough for paths and terminals."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-")[:64] or "model"


def builds(
    models: Sequence[Model],
    toolchains: Sequence[Toolchain],
    seed: int,
    per_toolchain: int,
    locales: Sequence[str] = (),
    without: Collection[tuple[str, str]] = (),
) -> tuple[Build, ...]:
    """``per_toolchain`` builds of every model by every toolchain: one control, the rest varied.

    ``without``: pairs of a model's and a toolchain's name that are not built.
    """
    variations = [control(), *(draw(seed, number, locales) for number in range(1, per_toolchain))]
    return tuple(
        Build(model, toolchain, variation)
        for model in models
        for variation in variations
        for toolchain in toolchains
        if (model.name, toolchain.name) not in without
    )


def comparisons(records: Sequence[BuildRecord]) -> tuple[Comparison, ...]:
    """What to hold against what, for builds that were built.

    Within a toolchain every build against the control (``repeat``); across toolchains control
    against control, all pairs, so that an odd one out can be told. Compilers that share no stage
    are not compared by bytes.
    """
    found: list[Comparison] = []
    for model in dict.fromkeys(record.model for record in records):
        own = [record for record in records if record.model == model]
        controls = [record for record in own if record.variation.name == CONTROL]
        for reference in controls:
            for record in own:
                if record.toolchain == reference.toolchain and record.id != reference.id:
                    found += _stages(ComparisonKind.REPEAT, reference, record)
        for left, right in combinations(controls, 2):
            found += _stages(kind_of(left, right), left, right)
    return tuple(found)


def kind_of(left: BuildRecord, right: BuildRecord) -> ComparisonKind:
    if left.toolchain == right.toolchain:
        return ComparisonKind.REPEAT
    if left.compiler != right.compiler:
        return ComparisonKind.VENDOR
    if left.version != right.version:
        return ComparisonKind.VERSION
    return ComparisonKind.REBUILD


def _stages(kind: ComparisonKind, left: BuildRecord, right: BuildRecord) -> list[Comparison]:
    if kind is ComparisonKind.VENDOR:
        return []
    stages = dict.fromkeys((*left.stages, *right.stages))
    return [Comparison(kind, left.model, stage, left.id, right.id) for stage in stages]
