define void @f() {
entry:
  %a = alloca float, i32 214, align 16, !dbg !5
  %b = alloca float, align 16
  %c.1 = alloca %0, i32 2, align 8
  ret void
}
