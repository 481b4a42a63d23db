@g = global i32 0, align 4

define i32 @f(ptr %p, ptr %q, i32 %a, i32 %b) #0 {
entry:
  %0 = load i32, ptr %p, align 4, !tbaa !0
  %1 = sub nsw i32 %0, %a
  %2 = icmp slt i32 %1, 7
  store i32 %1, ptr %q, align 4
  store i32 %a, ptr %p, align 4
  %3 = load i32, ptr %q, align 4
  %4 = call i32 @h(i32 %3)
  %5 = udiv exact i32 %4, %b
  %6 = load volatile i32, ptr %p, align 4
  %7 = load volatile i32, ptr %q, align 4
  fence seq_cst
  %8 = getelementptr inbounds i32, ptr %q, i32 %6
  br i1 %2, label %yes, label %no, !prof !1

yes:
  %9 = add i32 %5, %7
  br label %no

no:
  %10 = phi i32 [ %9, %yes ], [ %3, %entry ]
  %11 = load i32, ptr %8, align 4
  %12 = add i32 %10, %11
  ret i32 %12
}

declare i32 @h(i32)

attributes #0 = { nounwind }

!0 = !{!0}
!1 = !{!0, !1}
