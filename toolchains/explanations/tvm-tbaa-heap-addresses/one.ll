; ModuleID = 'TVMMod'
source_filename = "TVMMod"
@.str = private constant [16 x i8] c"it's 0x55a8\0A; \22!\00", align 1

define float @f(ptr %p) !dbg !4 {
entry:                                            ; preds = %start
  %v = load float, ptr %p, align 4, !dbg !5, !tbaa !2
  store float %v, ptr %p, !tbaa !9
  ret float %v
}

!llvm.module.flags = !{!0, !1}

!0 = !{i32 4, !"Debug Info Version", i32 3}
!1 = !{i32 2, !"note", !"0x55a800c24f70"}
!2 = !{!3, !3, i64 0}
!3 = !{!"0x55a800c24f70.w512.b512", !6, i64 0}
!4 = distinct !DISubprogram(name: "f", retainedNodes: !8)
!5 = !DILocation(line: 0, scope: !4)
!6 = !{!"0x55a800c24f70.w1024.b0", !7, i64 0}
!7 = !{!"0x55a800c24f70", !11, i64 0}
!8 = !{!0}
!9 = !{!10, !10, i64 0}
!10 = !{!"0x55a8deadbee0", !11, i64 0}
!11 = !{!"tvm-tbaa"}
