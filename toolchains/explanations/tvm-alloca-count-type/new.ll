define void @f() {
entry:
  %a = alloca float, i64 214, align 16, !dbg !5
  %b = alloca float, i64 1, align 16
  %c.1 = alloca %0, i64 2, align 8
  ret void
}
