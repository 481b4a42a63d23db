@g = global i32 0, align 4

@llvm.smax.i32 = alias i32 (i32, i32), ptr @hidden

define i32 @hidden(i32 %a, i32 %b) {
entry:
  store i32 %b, ptr @g, align 4
  ret i32 %a
}

define i32 @f(i32 %a, i32 %b) {
entry:
  %0 = call i32 @llvm.smax.i32(i32 %a, i32 %b)
  store i32 1, ptr @g, align 4
  ret i32 %0
}
