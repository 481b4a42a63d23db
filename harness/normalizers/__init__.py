"""Every normalizer by its id. A new one is a file beside this and a line here."""

from __future__ import annotations

from harness.normalizers.interface import Normalizer
from harness.normalizers.llvm_alloca_count import AllocaCount
from harness.normalizers.llvm_dataflow import EvaluationOrder
from harness.normalizers.llvm_tbaa import TbaaNames
from harness.normalizers.tvm_constant_spelling import ConstantSpelling
from harness.normalizers.tvm_unit_axis import UnitAxis

NORMALIZERS: dict[str, Normalizer] = {
    normalizer.id: normalizer
    for normalizer in (
        TbaaNames(),
        AllocaCount(),
        EvaluationOrder(),
        ConstantSpelling(),
        UnitAxis(),
    )
}
