"""Small valid inputs: what real toolchains write, cut down, and what the unit tests build."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from harness import opened
from harness.records import dump_build, dump_report
from tests.unit import test_comparators_archive as archives
from tests.unit import test_comparators_elf as elf
from tests.unit import test_comparators_onnx as onnx
from tests.unit.samples import agreeing, names, record, replayed, report, twice

ROOT = Path(__file__).parents[2]
TOOLCHAINS = ROOT / "toolchains"
CASES = TOOLCHAINS / "explanations"

IR = b"""\
; ModuleID = 'TVMMod'
source_filename = "TVMMod"
target triple = "x86_64-unknown-linux-gnu"

%0 = type { i32, i32, double }

@g = internal constant [4 x float] [float 1.0, float 2.0, float 3.0, float 4.0], align 16
@.str = private constant [10 x i8] c"TypeError\\00", align 1

; Function Attrs: noinline
define i32 @f(ptr noalias %p, ptr %q, i32 %n) #0 !dbg !5 {
entry:
  %buffer = alloca float, i32 4, align 16
  %one = alloca %0, i64 1, align 8
    #dbg_declare(ptr %p, !6, !DIExpression(), !7)
  %0 = icmp sgt i32 %n, 0
  br i1 %0, label %loop, label %done, !prof !8

loop:                                             ; preds = %loop, %entry
  %i = phi i32 [ 0, %entry ], [ %1, %loop ]
  %1 = add nsw i32 %i, 1
  %2 = getelementptr inbounds float, ptr %p, i32 %i
  %3 = load float, ptr %2, align 4, !tbaa !0
  %4 = call float @llvm.exp.f32(float %3)
  %5 = fmul fast float %4, 2.000000e+00
  %6 = getelementptr inbounds float, ptr %q, i32 %i
  store float %5, ptr %6, align 4, !tbaa !0
  %7 = icmp slt i32 %1, %n
  br i1 %7, label %loop, label %done

done:                                             ; preds = %loop, %entry
  %8 = call i32 @h(i32 %n)
  ret i32 %8
}

declare float @llvm.exp.f32(float) #1

declare i32 @h(i32)

attributes #0 = { noinline "target-cpu"="x86-64-v3" }
attributes #1 = { nocallback nofree nosync nounwind speculatable willreturn memory(none) }

!llvm.module.flags = !{!9}

!0 = !{!1, !1, i64 0}
!1 = !{!"0x5570b193e0f0.w1024.b0", !2, i64 0}
!2 = !{!"0x5570b193e0f0", !3, i64 0}
!3 = !{!"tvm-tbaa"}
!4 = !{!"0x5570b1000000", !3, i64 0}
!5 = distinct !{}
!6 = !{!4}
!7 = !{!5}
!8 = !{!"branch_weights", i32 1, i32 4}
!9 = !{i32 2, !"Debug Info Version", i32 3}
"""
SCRIPT = b"""\
# from tvm.script import ir as I
# from tvm.script import tirx as T

@I.ir_module
class Module:
    @T.prim_func(private=True, s_tir=True)
    def relu(x: T.Buffer((T.int64(1), T.int64(32)), "float32"), y: T.Buffer((32,), "float32")):
        T.func_attr({"tirx.noalias": True})
        for i0, i1 in T.grid(T.int64(1), T.int64(32)):
            with T.sblock("compute"):
                v_i0, v_i1 = T.axis.remap("SS", [i0, i1])
                y[v_i1] = T.max(x[v_i0, v_i1], T.float32(0.0))

    @R.function
    def main(x: R.Tensor((1, 32), dtype="float32")) -> R.Tensor((1, 32), dtype="float32"):
        with R.dataflow():
            lv = R.add(x, metadata["relax.expr.Constant"][sha256:%s:float32:1x32])
            R.output(lv)
        return lv
""" % (b"0a" * 32)
MLIR = b"""\
module {
  func.func @main(%arg0: tensor<1x8xf32>) -> tensor<1x8xf32> {
    %0 = "tosa.const"() {value = dense<1.0> : tensor<8xf32>} : () -> tensor<8xf32>
    %1 = tosa.add %arg0, %0 : (tensor<1x8xf32>, tensor<8xf32>) -> tensor<1x8xf32>
    return %1 : tensor<1x8xf32>
  }
  func.func private @other()
}
"""
DPKG = b"""\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9
Description: GNU C Library
 Shared libraries

Package: gone
Status: deinstall ok config-files
Version: 1
"""
RECORD = b"""\
tvm/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0
"tvm/a,b.py",sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,12
tvm-0.27.0.dist-info/RECORD,,
"""
PIP = b"""\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.
    numpy==2.4.6 from x/numpy-2.4.6.whl:
        Expected sha256 09a4e95fb4f0d381c02d422f35a1a531e736191eb7ff47f2852ebe936d48f484
             Got        63a5d54b2b73f70e0bf197584c056ce0f2be6e772a4a13a64c0d268882274d49
"""
OS_RELEASE = b'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n'
SAID = (
    b'Traceback (most recent call last):\n  File "x", line 1\nInternalError: \x1b[31mno\x1b[0m\r\n'
)


def manifest() -> bytes:
    stages = [
        {"name": "graph", "artifacts": ["module.py"]},
        {"name": "object", "artifacts": ["a.o"]},
    ]
    content = {"contract": 1, "compiler": "tvm", "version": "1", "stages": stages}
    return json.dumps(content).encode()


@cache
def reports() -> tuple[bytes, ...]:
    records = twice(*names(2))
    made = report(records, agreeing(records), [replayed(records[0])])
    return (dump_report(made),)


def builds() -> tuple[bytes, ...]:
    return (dump_build(record()),)


def listings() -> tuple[bytes, ...]:
    return (opened.dump(opened.Opened({"a": ("x", "y/z")}, True)),)


@cache
def elves() -> tuple[bytes, ...]:
    return elf.write(elf.Program(functions=elf.caller("f"))), elf.write(elf.LINKED)


@cache
def packed() -> tuple[bytes, ...]:
    return tuple(make(archives.FILES) for make in archives.MAKERS.values())


@cache
def models() -> tuple[bytes, ...]:
    return (onnx.model().SerializeToString(),)


def shipped(*patterns: str) -> tuple[bytes, ...]:
    """The repository's own files below ``toolchains``, those of at most 12,000 bytes."""
    found = (path.read_bytes() for pattern in patterns for path in sorted(TOOLCHAINS.glob(pattern)))
    return tuple(data for data in found if len(data) <= 12_000)
