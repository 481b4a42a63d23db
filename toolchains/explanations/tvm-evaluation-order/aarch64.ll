; ModuleID = 'TVMMod'
source_filename = "TVMMod"
target datalayout = "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-i128:128-f80:128-n8:16:32:64-S128"
target triple = "x86_64-unknown-linux-gnu"

%0 = type { i32, i32, double }
%1 = type { ptr, %2, i32, %3, ptr, ptr, i64 }
%2 = type { i32, i32 }
%3 = type { i8, i8, i16 }

@__tvm_ffi__library_ctx = linkonce dllexport global ptr null, align 8
@__TVMFFIFunctionCall = linkonce dllexport global ptr null, align 8
@__TVMFFIEnvModLookupFromImports = linkonce dllexport global ptr null, align 8
@__TVMFFIHandleInitOnce = linkonce dllexport global ptr null, align 8
@__TVMFFIErrorSetRaisedFromCStr = linkonce dllexport global ptr null, align 8
@__TVMBackendParallelLaunch = linkonce dllexport global ptr null, align 8
@__TVMBackendParallelBarrier = linkonce dllexport global ptr null, align 8
@.str = private constant [10 x i8] c"TypeError\00", align 1
@.str.1 = private constant [10 x i8] c"Expected \00", align 1
@.str.2 = private constant [2 x i8] c"3\00", align 1
@.str.3 = private constant [11 x i8] c" arguments\00", align 1
@.str.4 = private constant [19 x i8] c" when calling:\0A  `\00", align 1
@.str.5 = private constant [181 x i8] c"fused_subtract_tir_tanh(x: Tensor([T.int64(4), T.int64(9)], float32), y: Tensor([T.int64(4), T.int64(9)], float32), compute_intermediate: Tensor([T.int64(4), T.int64(9)], float32))\00", align 1
@.str.6 = private constant [2 x i8] c"`\00", align 1
@.str.7 = private constant [21 x i8] c"args pointer is NULL\00", align 1
@.str.8 = private constant [30 x i8] c"Mismatched type on argument #\00", align 1
@.str.9 = private constant [2 x i8] c"0\00", align 1
@.str.10 = private constant [15 x i8] c"`,\0A  expected \00", align 1
@.str.11 = private constant [7 x i8] c"Tensor\00", align 1
@.str.12 = private constant [2 x i8] c"1\00", align 1
@.str.13 = private constant [2 x i8] c"2\00", align 1
@.str.14 = private constant [11 x i8] c"ValueError\00", align 1
@.str.15 = private constant [12 x i8] c"Mismatched \00", align 1
@.str.16 = private constant [2 x i8] c"x\00", align 1
@.str.17 = private constant [20 x i8] c".ndim on argument #\00", align 1
@.str.18 = private constant [21 x i8] c".dtype on argument #\00", align 1
@.str.19 = private constant [8 x i8] c"float32\00", align 1
@.str.20 = private constant [27 x i8] c".device_type on argument #\00", align 1
@.str.21 = private constant [4 x i8] c"cpu\00", align 1
@.str.22 = private constant [2 x i8] c"y\00", align 1
@.str.23 = private constant [21 x i8] c"compute_intermediate\00", align 1
@.str.24 = private constant [23 x i8] c".strides on argument #\00", align 1
@.str.25 = private constant [34 x i8] c"`,\0A  expected to be compact array\00", align 1
@.str.26 = private constant [36 x i8] c" data pointer is NULL on argument #\00", align 1
@.str.27 = private constant [36 x i8] c"`,\0A  expected non-NULL data pointer\00", align 1
@.str.28 = private constant [12 x i8] c"y.device_id\00", align 1
@.str.29 = private constant [15 x i8] c" on argument #\00", align 1
@.str.30 = private constant [24 x i8] c"`,\0A  expected to match \00", align 1
@.str.31 = private constant [12 x i8] c"x.device_id\00", align 1
@.str.32 = private constant [31 x i8] c"compute_intermediate.device_id\00", align 1
@.str.33 = private constant [9 x i8] c"Invalid \00", align 1
@.str.34 = private constant [11 x i8] c"x.shape[0]\00", align 1
@.str.35 = private constant [2 x i8] c"4\00", align 1
@.str.36 = private constant [11 x i8] c"x.shape[1]\00", align 1
@.str.37 = private constant [2 x i8] c"9\00", align 1
@.str.38 = private constant [14 x i8] c"x.byte_offset\00", align 1
@.str.39 = private constant [11 x i8] c"y.shape[0]\00", align 1
@.str.40 = private constant [11 x i8] c"y.shape[1]\00", align 1
@.str.41 = private constant [14 x i8] c"y.byte_offset\00", align 1
@.str.42 = private constant [30 x i8] c"compute_intermediate.shape[0]\00", align 1
@.str.43 = private constant [30 x i8] c"compute_intermediate.shape[1]\00", align 1
@.str.44 = private constant [33 x i8] c"compute_intermediate.byte_offset\00", align 1
@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 65535, ptr @__tvm_module_startup, ptr null }]

define dllexport i32 @__tvm_ffi_fused_subtract_tir_tanh(ptr noalias %self_handle, ptr noalias %args, i32 %num_args, ptr noalias %result) #0 !dbg !5 {
entry:
  %0 = alloca ptr, align 8, !dbg !15
    #dbg_declare(ptr %0, !11, !DIExpression(), !15)
  store ptr %self_handle, ptr %0, align 8, !dbg !15
  %1 = alloca ptr, align 8, !dbg !15
    #dbg_declare(ptr %1, !12, !DIExpression(), !15)
  store ptr %args, ptr %1, align 8, !dbg !15
  %2 = alloca i32, align 4, !dbg !15
    #dbg_declare(ptr %2, !13, !DIExpression(), !15)
  store i32 %num_args, ptr %2, align 4, !dbg !15
  %3 = alloca ptr, align 8, !dbg !15
    #dbg_declare(ptr %3, !14, !DIExpression(), !15)
  store ptr %result, ptr %3, align 8, !dbg !15
  %4 = icmp eq i32 %num_args, 3, !dbg !15
  br i1 %4, label %assert_end, label %assert_fail, !dbg !15, !prof !16

assert_fail:                                      ; preds = %entry
  call void @__tvm_set_raised_6(ptr @.str, i32 6, ptr @.str.1, ptr @.str.2, ptr @.str.3, ptr @.str.4, ptr @.str.5, ptr @.str.6), !dbg !15
  ret i32 -1, !dbg !15

assert_end:                                       ; preds = %entry
  %5 = icmp eq ptr %args, null, !dbg !15
  %6 = xor i1 %5, true, !dbg !15
  br i1 %6, label %assert_end2, label %assert_fail1, !dbg !15, !prof !16

assert_fail1:                                     ; preds = %assert_end
  call void @__tvm_set_raised_6(ptr @.str, i32 4, ptr @.str.7, ptr @.str.4, ptr @.str.5, ptr @.str.6, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end2:                                      ; preds = %assert_end
  %7 = getelementptr inbounds %0, ptr %args, i32 0, i32 0, !dbg !15
  %x.type_index = load i32, ptr %7, align 4, !dbg !15
    #dbg_value(i32 %x.type_index, !17, !DIExpression(), !15)
    #dbg_value(i32 %x.type_index, !17, !DIExpression(), !15)
  %8 = icmp eq i32 %x.type_index, 0, !dbg !15
  %9 = icmp eq i32 %x.type_index, 4, !dbg !15
  %10 = or i1 %8, %9, !dbg !15
  %11 = icmp eq i32 %x.type_index, 7, !dbg !15
  %12 = or i1 %10, %11, !dbg !15
  %13 = icmp sge i32 %x.type_index, 64, !dbg !15
  %14 = or i1 %12, %13, !dbg !15
  br i1 %14, label %assert_end4, label %assert_fail3, !dbg !15, !prof !16

assert_fail3:                                     ; preds = %assert_end2
  call void @__tvm_set_raised_6(ptr @.str, i32 6, ptr @.str.8, ptr @.str.9, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.11), !dbg !15
  ret i32 -1, !dbg !15

assert_end4:                                      ; preds = %assert_end2
  %15 = icmp eq i32 %x.type_index, 70, !dbg !15
  br i1 %15, label %if_then, label %if_else, !dbg !15

if_then:                                          ; preds = %assert_end4
  %16 = getelementptr inbounds %0, ptr %args, i32 0, i32 2, !dbg !15
  %17 = load ptr, ptr %16, align 8, !dbg !15
  %18 = getelementptr inbounds i8, ptr %17, i32 24, !dbg !15
  br label %if_end, !dbg !15

if_else:                                          ; preds = %assert_end4
  %19 = getelementptr inbounds %0, ptr %args, i32 0, i32 2, !dbg !15
  %20 = load ptr, ptr %19, align 8, !dbg !15
  br label %if_end, !dbg !15

if_end:                                           ; preds = %if_else, %if_then
  %x.handle = phi ptr [ %18, %if_then ], [ %20, %if_else ], !dbg !15
    #dbg_declare(ptr %x.handle, !18, !DIExpression(), !15)
    #dbg_declare(ptr %x.handle, !18, !DIExpression(), !15)
  %21 = getelementptr inbounds %0, ptr %args, i32 1, i32 0, !dbg !15
  %y.type_index = load i32, ptr %21, align 4, !dbg !15
    #dbg_value(i32 %y.type_index, !19, !DIExpression(), !15)
    #dbg_value(i32 %y.type_index, !19, !DIExpression(), !15)
  %22 = icmp eq i32 %y.type_index, 0, !dbg !15
  %23 = icmp eq i32 %y.type_index, 4, !dbg !15
  %24 = or i1 %22, %23, !dbg !15
  %25 = icmp eq i32 %y.type_index, 7, !dbg !15
  %26 = or i1 %24, %25, !dbg !15
  %27 = icmp sge i32 %y.type_index, 64, !dbg !15
  %28 = or i1 %26, %27, !dbg !15
  br i1 %28, label %assert_end6, label %assert_fail5, !dbg !15, !prof !16

assert_fail5:                                     ; preds = %if_end
  call void @__tvm_set_raised_6(ptr @.str, i32 6, ptr @.str.8, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.11), !dbg !15
  ret i32 -1, !dbg !15

assert_end6:                                      ; preds = %if_end
  %29 = icmp eq i32 %y.type_index, 70, !dbg !15
  br i1 %29, label %if_then7, label %if_else8, !dbg !15

if_then7:                                         ; preds = %assert_end6
  %30 = getelementptr inbounds %0, ptr %args, i32 1, i32 2, !dbg !15
  %31 = load ptr, ptr %30, align 8, !dbg !15
  %32 = getelementptr inbounds i8, ptr %31, i32 24, !dbg !15
  br label %if_end9, !dbg !15

if_else8:                                         ; preds = %assert_end6
  %33 = getelementptr inbounds %0, ptr %args, i32 1, i32 2, !dbg !15
  %34 = load ptr, ptr %33, align 8, !dbg !15
  br label %if_end9, !dbg !15

if_end9:                                          ; preds = %if_else8, %if_then7
  %y.handle = phi ptr [ %32, %if_then7 ], [ %34, %if_else8 ], !dbg !15
    #dbg_declare(ptr %y.handle, !20, !DIExpression(), !15)
    #dbg_declare(ptr %y.handle, !20, !DIExpression(), !15)
  %35 = getelementptr inbounds %0, ptr %args, i32 2, i32 0, !dbg !15
  %compute_intermediate.type_index = load i32, ptr %35, align 4, !dbg !15
    #dbg_value(i32 %compute_intermediate.type_index, !21, !DIExpression(), !15)
    #dbg_value(i32 %compute_intermediate.type_index, !21, !DIExpression(), !15)
  %36 = icmp eq i32 %compute_intermediate.type_index, 0, !dbg !15
  %37 = icmp eq i32 %compute_intermediate.type_index, 4, !dbg !15
  %38 = or i1 %36, %37, !dbg !15
  %39 = icmp eq i32 %compute_intermediate.type_index, 7, !dbg !15
  %40 = or i1 %38, %39, !dbg !15
  %41 = icmp sge i32 %compute_intermediate.type_index, 64, !dbg !15
  %42 = or i1 %40, %41, !dbg !15
  br i1 %42, label %assert_end11, label %assert_fail10, !dbg !15, !prof !16

assert_fail10:                                    ; preds = %if_end9
  call void @__tvm_set_raised_6(ptr @.str, i32 6, ptr @.str.8, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.11), !dbg !15
  ret i32 -1, !dbg !15

assert_end11:                                     ; preds = %if_end9
  %43 = icmp eq i32 %compute_intermediate.type_index, 70, !dbg !15
  br i1 %43, label %if_then12, label %if_else13, !dbg !15

if_then12:                                        ; preds = %assert_end11
  %44 = getelementptr inbounds %0, ptr %args, i32 2, i32 2, !dbg !15
  %45 = load ptr, ptr %44, align 8, !dbg !15
  %46 = getelementptr inbounds i8, ptr %45, i32 24, !dbg !15
  br label %if_end14, !dbg !15

if_else13:                                        ; preds = %assert_end11
  %47 = getelementptr inbounds %0, ptr %args, i32 2, i32 2, !dbg !15
  %48 = load ptr, ptr %47, align 8, !dbg !15
  br label %if_end14, !dbg !15

if_end14:                                         ; preds = %if_else13, %if_then12
  %compute_intermediate.handle = phi ptr [ %46, %if_then12 ], [ %48, %if_else13 ], !dbg !15
    #dbg_declare(ptr %compute_intermediate.handle, !22, !DIExpression(), !15)
    #dbg_declare(ptr %compute_intermediate.handle, !22, !DIExpression(), !15)
  %49 = icmp eq ptr %x.handle, null, !dbg !15
  %50 = xor i1 %49, true, !dbg !15
  br i1 %50, label %assert_end16, label %assert_fail15, !dbg !15, !prof !16

assert_fail15:                                    ; preds = %if_end14
  call void @__tvm_set_raised_6(ptr @.str, i32 6, ptr @.str.8, ptr @.str.9, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.11), !dbg !15
  ret i32 -1, !dbg !15

assert_end16:                                     ; preds = %if_end14
  %51 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 2, !dbg !15
  %52 = load i32, ptr %51, align 4, !dbg !15
  %53 = icmp eq i32 2, %52, !dbg !15
  br i1 %53, label %assert_end18, label %assert_fail17, !dbg !15, !prof !16

assert_fail17:                                    ; preds = %assert_end16
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.15, ptr @.str.16, ptr @.str.17, ptr @.str.9, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.13, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end18:                                     ; preds = %assert_end16
  %54 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 3, i32 0, !dbg !15
  %55 = load i8, ptr %54, align 1, !dbg !15
  %56 = icmp eq i8 %55, 2, !dbg !15
  %57 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 3, i32 1, !dbg !15
  %58 = load i8, ptr %57, align 1, !dbg !15
  %59 = icmp eq i8 %58, 32, !dbg !15
  %60 = and i1 %56, %59, !dbg !15
  %61 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 3, i32 2, !dbg !15
  %62 = load i16, ptr %61, align 2, !dbg !15
  %63 = icmp eq i16 %62, 1, !dbg !15
  %64 = and i1 %60, %63, !dbg !15
  br i1 %64, label %assert_end20, label %assert_fail19, !dbg !15, !prof !16

assert_fail19:                                    ; preds = %assert_end18
  call void @__tvm_set_raised_12(ptr @.str, i32 8, ptr @.str.15, ptr @.str.16, ptr @.str.18, ptr @.str.9, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.19, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end20:                                     ; preds = %assert_end18
  %65 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 4, !dbg !15
  %fused_subtract_tir_tanh.x_shape = load ptr, ptr %65, align 8, !dbg !15
    #dbg_declare(ptr %fused_subtract_tir_tanh.x_shape, !23, !DIExpression(), !15)
    #dbg_declare(ptr %fused_subtract_tir_tanh.x_shape, !23, !DIExpression(), !15)
  %66 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 5, !dbg !15
  %fused_subtract_tir_tanh.x_strides = load ptr, ptr %66, align 8, !dbg !15
    #dbg_declare(ptr %fused_subtract_tir_tanh.x_strides, !26, !DIExpression(), !15)
    #dbg_declare(ptr %fused_subtract_tir_tanh.x_strides, !26, !DIExpression(), !15)
  %67 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 1, i32 0, !dbg !15
  %68 = load i32, ptr %67, align 4, !dbg !15
  %69 = icmp eq i32 %68, 1, !dbg !15
  br i1 %69, label %assert_end22, label %assert_fail21, !dbg !15, !prof !16

assert_fail21:                                    ; preds = %assert_end20
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.15, ptr @.str.16, ptr @.str.20, ptr @.str.9, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.21, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end22:                                     ; preds = %assert_end20
  %70 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 1, i32 1, !dbg !15
  %dev_id = load i32, ptr %70, align 4, !dbg !15
    #dbg_value(i32 %dev_id, !27, !DIExpression(), !15)
    #dbg_value(i32 %dev_id, !27, !DIExpression(), !15)
  %71 = icmp eq ptr %y.handle, null, !dbg !15
  %72 = xor i1 %71, true, !dbg !15
  br i1 %72, label %assert_end24, label %assert_fail23, !dbg !15, !prof !16

assert_fail23:                                    ; preds = %assert_end22
  call void @__tvm_set_raised_6(ptr @.str, i32 6, ptr @.str.8, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.11), !dbg !15
  ret i32 -1, !dbg !15

assert_end24:                                     ; preds = %assert_end22
  %73 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 2, !dbg !15
  %74 = load i32, ptr %73, align 4, !dbg !15
  %75 = icmp eq i32 2, %74, !dbg !15
  br i1 %75, label %assert_end26, label %assert_fail25, !dbg !15, !prof !16

assert_fail25:                                    ; preds = %assert_end24
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.15, ptr @.str.22, ptr @.str.17, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.13, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end26:                                     ; preds = %assert_end24
  %76 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 3, i32 0, !dbg !15
  %77 = load i8, ptr %76, align 1, !dbg !15
  %78 = icmp eq i8 %77, 2, !dbg !15
  %79 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 3, i32 1, !dbg !15
  %80 = load i8, ptr %79, align 1, !dbg !15
  %81 = icmp eq i8 %80, 32, !dbg !15
  %82 = and i1 %78, %81, !dbg !15
  %83 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 3, i32 2, !dbg !15
  %84 = load i16, ptr %83, align 2, !dbg !15
  %85 = icmp eq i16 %84, 1, !dbg !15
  %86 = and i1 %82, %85, !dbg !15
  br i1 %86, label %assert_end28, label %assert_fail27, !dbg !15, !prof !16

assert_fail27:                                    ; preds = %assert_end26
  call void @__tvm_set_raised_12(ptr @.str, i32 8, ptr @.str.15, ptr @.str.22, ptr @.str.18, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.19, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end28:                                     ; preds = %assert_end26
  %87 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 4, !dbg !15
  %fused_subtract_tir_tanh.y_shape = load ptr, ptr %87, align 8, !dbg !15
    #dbg_declare(ptr %fused_subtract_tir_tanh.y_shape, !28, !DIExpression(), !15)
    #dbg_declare(ptr %fused_subtract_tir_tanh.y_shape, !28, !DIExpression(), !15)
  %88 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 5, !dbg !15
  %fused_subtract_tir_tanh.y_strides = load ptr, ptr %88, align 8, !dbg !15
    #dbg_declare(ptr %fused_subtract_tir_tanh.y_strides, !29, !DIExpression(), !15)
    #dbg_declare(ptr %fused_subtract_tir_tanh.y_strides, !29, !DIExpression(), !15)
  %89 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 1, i32 0, !dbg !15
  %90 = load i32, ptr %89, align 4, !dbg !15
  %91 = icmp eq i32 %90, 1, !dbg !15
  br i1 %91, label %assert_end30, label %assert_fail29, !dbg !15, !prof !16

assert_fail29:                                    ; preds = %assert_end28
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.15, ptr @.str.22, ptr @.str.20, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.21, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end30:                                     ; preds = %assert_end28
  %92 = icmp eq ptr %compute_intermediate.handle, null, !dbg !15
  %93 = xor i1 %92, true, !dbg !15
  br i1 %93, label %assert_end32, label %assert_fail31, !dbg !15, !prof !16

assert_fail31:                                    ; preds = %assert_end30
  call void @__tvm_set_raised_6(ptr @.str, i32 6, ptr @.str.8, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.11), !dbg !15
  ret i32 -1, !dbg !15

assert_end32:                                     ; preds = %assert_end30
  %94 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 2, !dbg !15
  %95 = load i32, ptr %94, align 4, !dbg !15
  %96 = icmp eq i32 2, %95, !dbg !15
  br i1 %96, label %assert_end34, label %assert_fail33, !dbg !15, !prof !16

assert_fail33:                                    ; preds = %assert_end32
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.15, ptr @.str.23, ptr @.str.17, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.13, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end34:                                     ; preds = %assert_end32
  %97 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 3, i32 0, !dbg !15
  %98 = load i8, ptr %97, align 1, !dbg !15
  %99 = icmp eq i8 %98, 2, !dbg !15
  %100 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 3, i32 1, !dbg !15
  %101 = load i8, ptr %100, align 1, !dbg !15
  %102 = icmp eq i8 %101, 32, !dbg !15
  %103 = and i1 %99, %102, !dbg !15
  %104 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 3, i32 2, !dbg !15
  %105 = load i16, ptr %104, align 2, !dbg !15
  %106 = icmp eq i16 %105, 1, !dbg !15
  %107 = and i1 %103, %106, !dbg !15
  br i1 %107, label %assert_end36, label %assert_fail35, !dbg !15, !prof !16

assert_fail35:                                    ; preds = %assert_end34
  call void @__tvm_set_raised_12(ptr @.str, i32 8, ptr @.str.15, ptr @.str.23, ptr @.str.18, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.19, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end36:                                     ; preds = %assert_end34
  %108 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 4, !dbg !15
  %fused_subtract_tir_tanh.compute_intermediate_shape = load ptr, ptr %108, align 8, !dbg !15
    #dbg_declare(ptr %fused_subtract_tir_tanh.compute_intermediate_shape, !30, !DIExpression(), !15)
    #dbg_declare(ptr %fused_subtract_tir_tanh.compute_intermediate_shape, !30, !DIExpression(), !15)
  %109 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 5, !dbg !15
  %fused_subtract_tir_tanh.compute_intermediate_strides = load ptr, ptr %109, align 8, !dbg !15
    #dbg_declare(ptr %fused_subtract_tir_tanh.compute_intermediate_strides, !31, !DIExpression(), !15)
    #dbg_declare(ptr %fused_subtract_tir_tanh.compute_intermediate_strides, !31, !DIExpression(), !15)
  %110 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 1, i32 0, !dbg !15
  %111 = load i32, ptr %110, align 4, !dbg !15
  %112 = icmp eq i32 %111, 1, !dbg !15
  br i1 %112, label %assert_end38, label %assert_fail37, !dbg !15, !prof !16

assert_fail37:                                    ; preds = %assert_end36
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.15, ptr @.str.23, ptr @.str.20, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.21, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end38:                                     ; preds = %assert_end36
  %113 = icmp eq ptr %fused_subtract_tir_tanh.x_strides, null, !dbg !15
  %114 = xor i1 %113, true, !dbg !15
  br i1 %114, label %if_then39, label %if_end40, !dbg !15, !prof !16

if_then39:                                        ; preds = %assert_end38
  %115 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.x_strides, i32 1, !dbg !15
  %116 = load i64, ptr %115, align 8, !dbg !15
  %117 = icmp eq i64 1, %116, !dbg !15
  %118 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.x_strides, i32 0, !dbg !15
  %119 = load i64, ptr %118, align 8, !dbg !15
  %120 = icmp eq i64 9, %119, !dbg !15
  %121 = and i1 %117, %120, !dbg !15
  br i1 %121, label %assert_end42, label %assert_fail41, !dbg !15, !prof !16

if_end40:                                         ; preds = %assert_end42, %assert_end38
  %122 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 0, !dbg !15
  %123 = load ptr, ptr %122, align 8, !dbg !15
  %124 = icmp eq ptr %123, null, !dbg !15
  %125 = xor i1 %124, true, !dbg !15
  br i1 %125, label %assert_end44, label %assert_fail43, !dbg !15, !prof !16

assert_fail41:                                    ; preds = %if_then39
  call void @__tvm_set_raised_12(ptr @.str.14, i32 7, ptr @.str.15, ptr @.str.16, ptr @.str.24, ptr @.str.9, ptr @.str.4, ptr @.str.5, ptr @.str.25, ptr null, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end42:                                     ; preds = %if_then39
  br label %if_end40, !dbg !15

assert_fail43:                                    ; preds = %if_end40
  call void @__tvm_set_raised_6(ptr @.str.14, i32 6, ptr @.str.16, ptr @.str.26, ptr @.str.9, ptr @.str.4, ptr @.str.5, ptr @.str.27), !dbg !15
  ret i32 -1, !dbg !15

assert_end44:                                     ; preds = %if_end40
  %126 = icmp eq ptr %fused_subtract_tir_tanh.y_strides, null, !dbg !15
  %127 = xor i1 %126, true, !dbg !15
  br i1 %127, label %if_then45, label %if_end46, !dbg !15, !prof !16

if_then45:                                        ; preds = %assert_end44
  %128 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.y_strides, i32 1, !dbg !15
  %129 = load i64, ptr %128, align 8, !dbg !15
  %130 = icmp eq i64 1, %129, !dbg !15
  %131 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.y_strides, i32 0, !dbg !15
  %132 = load i64, ptr %131, align 8, !dbg !15
  %133 = icmp eq i64 9, %132, !dbg !15
  %134 = and i1 %130, %133, !dbg !15
  br i1 %134, label %assert_end48, label %assert_fail47, !dbg !15, !prof !16

if_end46:                                         ; preds = %assert_end48, %assert_end44
  %135 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 1, i32 1, !dbg !15
  %136 = load i32, ptr %135, align 4, !dbg !15
  %137 = icmp eq i32 %dev_id, %136, !dbg !15
  br i1 %137, label %assert_end50, label %assert_fail49, !dbg !15, !prof !16

assert_fail47:                                    ; preds = %if_then45
  call void @__tvm_set_raised_12(ptr @.str.14, i32 7, ptr @.str.15, ptr @.str.22, ptr @.str.24, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.25, ptr null, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end48:                                     ; preds = %if_then45
  br label %if_end46, !dbg !15

assert_fail49:                                    ; preds = %if_end46
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.15, ptr @.str.28, ptr @.str.29, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.30, ptr @.str.31, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end50:                                     ; preds = %if_end46
  %138 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 0, !dbg !15
  %139 = load ptr, ptr %138, align 8, !dbg !15
  %140 = icmp eq ptr %139, null, !dbg !15
  %141 = xor i1 %140, true, !dbg !15
  br i1 %141, label %assert_end52, label %assert_fail51, !dbg !15, !prof !16

assert_fail51:                                    ; preds = %assert_end50
  call void @__tvm_set_raised_6(ptr @.str.14, i32 6, ptr @.str.22, ptr @.str.26, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.27), !dbg !15
  ret i32 -1, !dbg !15

assert_end52:                                     ; preds = %assert_end50
  %142 = icmp eq ptr %fused_subtract_tir_tanh.compute_intermediate_strides, null, !dbg !15
  %143 = xor i1 %142, true, !dbg !15
  br i1 %143, label %if_then53, label %if_end54, !dbg !15, !prof !16

if_then53:                                        ; preds = %assert_end52
  %144 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.compute_intermediate_strides, i32 1, !dbg !15
  %145 = load i64, ptr %144, align 8, !dbg !15
  %146 = icmp eq i64 1, %145, !dbg !15
  %147 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.compute_intermediate_strides, i32 0, !dbg !15
  %148 = load i64, ptr %147, align 8, !dbg !15
  %149 = icmp eq i64 9, %148, !dbg !15
  %150 = and i1 %146, %149, !dbg !15
  br i1 %150, label %assert_end56, label %assert_fail55, !dbg !15, !prof !16

if_end54:                                         ; preds = %assert_end56, %assert_end52
  %151 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 1, i32 1, !dbg !15
  %152 = load i32, ptr %151, align 4, !dbg !15
  %153 = icmp eq i32 %dev_id, %152, !dbg !15
  br i1 %153, label %assert_end58, label %assert_fail57, !dbg !15, !prof !16

assert_fail55:                                    ; preds = %if_then53
  call void @__tvm_set_raised_12(ptr @.str.14, i32 7, ptr @.str.15, ptr @.str.23, ptr @.str.24, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.25, ptr null, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end56:                                     ; preds = %if_then53
  br label %if_end54, !dbg !15

assert_fail57:                                    ; preds = %if_end54
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.15, ptr @.str.32, ptr @.str.29, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.30, ptr @.str.31, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end58:                                     ; preds = %if_end54
  %154 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 0, !dbg !15
  %155 = load ptr, ptr %154, align 8, !dbg !15
  %156 = icmp eq ptr %155, null, !dbg !15
  %157 = xor i1 %156, true, !dbg !15
  br i1 %157, label %assert_end60, label %assert_fail59, !dbg !15, !prof !16

assert_fail59:                                    ; preds = %assert_end58
  call void @__tvm_set_raised_6(ptr @.str.14, i32 6, ptr @.str.23, ptr @.str.26, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.27), !dbg !15
  ret i32 -1, !dbg !15

assert_end60:                                     ; preds = %assert_end58
  %158 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.x_shape, i32 0, !dbg !15
  %159 = load i64, ptr %158, align 8, !dbg !15
  %160 = icmp eq i64 %159, 4, !dbg !15
  br i1 %160, label %assert_end62, label %assert_fail61, !dbg !15, !prof !16

assert_fail61:                                    ; preds = %assert_end60
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.33, ptr @.str.34, ptr @.str.29, ptr @.str.9, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.35, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end62:                                     ; preds = %assert_end60
  %161 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.x_shape, i32 1, !dbg !15
  %162 = load i64, ptr %161, align 8, !dbg !15
  %163 = icmp eq i64 %162, 9, !dbg !15
  br i1 %163, label %assert_end64, label %assert_fail63, !dbg !15, !prof !16

assert_fail63:                                    ; preds = %assert_end62
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.33, ptr @.str.36, ptr @.str.29, ptr @.str.9, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.37, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end64:                                     ; preds = %assert_end62
  %164 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 6, !dbg !15
  %165 = load i64, ptr %164, align 8, !dbg !15
  %166 = icmp eq i64 0, %165, !dbg !15
  br i1 %166, label %assert_end66, label %assert_fail65, !dbg !15, !prof !16

assert_fail65:                                    ; preds = %assert_end64
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.33, ptr @.str.38, ptr @.str.29, ptr @.str.9, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.9, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end66:                                     ; preds = %assert_end64
  %167 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.y_shape, i32 0, !dbg !15
  %168 = load i64, ptr %167, align 8, !dbg !15
  %169 = icmp eq i64 %168, 4, !dbg !15
  br i1 %169, label %assert_end68, label %assert_fail67, !dbg !15, !prof !16

assert_fail67:                                    ; preds = %assert_end66
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.33, ptr @.str.39, ptr @.str.29, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.35, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end68:                                     ; preds = %assert_end66
  %170 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.y_shape, i32 1, !dbg !15
  %171 = load i64, ptr %170, align 8, !dbg !15
  %172 = icmp eq i64 %171, 9, !dbg !15
  br i1 %172, label %assert_end70, label %assert_fail69, !dbg !15, !prof !16

assert_fail69:                                    ; preds = %assert_end68
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.33, ptr @.str.40, ptr @.str.29, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.37, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end70:                                     ; preds = %assert_end68
  %173 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 6, !dbg !15
  %174 = load i64, ptr %173, align 8, !dbg !15
  %175 = icmp eq i64 0, %174, !dbg !15
  br i1 %175, label %assert_end72, label %assert_fail71, !dbg !15, !prof !16

assert_fail71:                                    ; preds = %assert_end70
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.33, ptr @.str.41, ptr @.str.29, ptr @.str.12, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.9, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end72:                                     ; preds = %assert_end70
  %176 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.compute_intermediate_shape, i32 0, !dbg !15
  %177 = load i64, ptr %176, align 8, !dbg !15
  %178 = icmp eq i64 %177, 4, !dbg !15
  br i1 %178, label %assert_end74, label %assert_fail73, !dbg !15, !prof !16

assert_fail73:                                    ; preds = %assert_end72
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.33, ptr @.str.42, ptr @.str.29, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.35, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end74:                                     ; preds = %assert_end72
  %179 = getelementptr inbounds i64, ptr %fused_subtract_tir_tanh.compute_intermediate_shape, i32 1, !dbg !15
  %180 = load i64, ptr %179, align 8, !dbg !15
  %181 = icmp eq i64 %180, 9, !dbg !15
  br i1 %181, label %assert_end76, label %assert_fail75, !dbg !15, !prof !16

assert_fail75:                                    ; preds = %assert_end74
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.33, ptr @.str.43, ptr @.str.29, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.37, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end76:                                     ; preds = %assert_end74
  %182 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 6, !dbg !15
  %183 = load i64, ptr %182, align 8, !dbg !15
  %184 = icmp eq i64 0, %183, !dbg !15
  br i1 %184, label %assert_end78, label %assert_fail77, !dbg !15, !prof !16

assert_fail77:                                    ; preds = %assert_end76
  call void @__tvm_set_raised_12(ptr @.str.14, i32 8, ptr @.str.33, ptr @.str.44, ptr @.str.29, ptr @.str.13, ptr @.str.4, ptr @.str.5, ptr @.str.10, ptr @.str.9, ptr null, ptr null, ptr null, ptr null), !dbg !15
  ret i32 -1, !dbg !15

assert_end78:                                     ; preds = %assert_end76
  %185 = getelementptr inbounds %1, ptr %x.handle, i32 0, i32 0, !dbg !15
  %x = load ptr, ptr %185, align 8, !dbg !15
    #dbg_declare(ptr %x, !32, !DIExpression(), !15)
  call void @llvm.assume(i1 true) [ "align"(ptr %x, i64 64) ], !dbg !15
  %186 = getelementptr inbounds %1, ptr %y.handle, i32 0, i32 0, !dbg !15
  %y = load ptr, ptr %186, align 8, !dbg !15
    #dbg_declare(ptr %y, !35, !DIExpression(), !15)
  call void @llvm.assume(i1 true) [ "align"(ptr %y, i64 64) ], !dbg !15
  %187 = getelementptr inbounds %1, ptr %compute_intermediate.handle, i32 0, i32 0, !dbg !15
  %compute_intermediate = load ptr, ptr %187, align 8, !dbg !15
    #dbg_declare(ptr %compute_intermediate, !36, !DIExpression(), !15)
  call void @llvm.assume(i1 true) [ "align"(ptr %compute_intermediate, i64 64) ], !dbg !15
  %188 = call i32 @fused_subtract_tir_tanh_compute_(ptr %x, ptr %y, ptr %compute_intermediate), !dbg !15
  %189 = icmp eq i32 %188, 0, !dbg !15
  br i1 %189, label %call_end, label %call_fail, !dbg !15, !prof !16

call_fail:                                        ; preds = %assert_end78
  ret i32 %188, !dbg !15

call_end:                                         ; preds = %assert_end78
  ret i32 0, !dbg !15

ret_dummy:                                        ; No predecessors!
  ret i32 0, !dbg !15
}

; Function Attrs: noinline
define internal void @__tvm_set_raised_6(ptr %0, i32 %1, ptr %2, ptr %3, ptr %4, ptr %5, ptr %6, ptr %7) #1 {
entry:
  %8 = alloca [6 x ptr], align 8
  %9 = getelementptr inbounds [6 x ptr], ptr %8, i32 0, i32 0
  store ptr %2, ptr %9, align 8
  %10 = getelementptr inbounds [6 x ptr], ptr %8, i32 0, i32 1
  store ptr %3, ptr %10, align 8
  %11 = getelementptr inbounds [6 x ptr], ptr %8, i32 0, i32 2
  store ptr %4, ptr %11, align 8
  %12 = getelementptr inbounds [6 x ptr], ptr %8, i32 0, i32 3
  store ptr %5, ptr %12, align 8
  %13 = getelementptr inbounds [6 x ptr], ptr %8, i32 0, i32 4
  store ptr %6, ptr %13, align 8
  %14 = getelementptr inbounds [6 x ptr], ptr %8, i32 0, i32 5
  store ptr %7, ptr %14, align 8
  %15 = getelementptr inbounds [6 x ptr], ptr %8, i32 0, i32 0
  call void @TVMFFIErrorSetRaisedFromCStrParts(ptr %0, ptr %15, i32 %1)
  ret void
}

declare void @TVMFFIErrorSetRaisedFromCStrParts(ptr, ptr, i32)

; Function Attrs: noinline
define internal void @__tvm_set_raised_12(ptr %0, i32 %1, ptr %2, ptr %3, ptr %4, ptr %5, ptr %6, ptr %7, ptr %8, ptr %9, ptr %10, ptr %11, ptr %12, ptr %13) #1 {
entry:
  %14 = alloca [12 x ptr], align 8
  %15 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 0
  store ptr %2, ptr %15, align 8
  %16 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 1
  store ptr %3, ptr %16, align 8
  %17 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 2
  store ptr %4, ptr %17, align 8
  %18 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 3
  store ptr %5, ptr %18, align 8
  %19 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 4
  store ptr %6, ptr %19, align 8
  %20 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 5
  store ptr %7, ptr %20, align 8
  %21 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 6
  store ptr %8, ptr %21, align 8
  %22 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 7
  store ptr %9, ptr %22, align 8
  %23 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 8
  store ptr %10, ptr %23, align 8
  %24 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 9
  store ptr %11, ptr %24, align 8
  %25 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 10
  store ptr %12, ptr %25, align 8
  %26 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 11
  store ptr %13, ptr %26, align 8
  %27 = getelementptr inbounds [12 x ptr], ptr %14, i32 0, i32 0
  call void @TVMFFIErrorSetRaisedFromCStrParts(ptr %0, ptr %27, i32 %1)
  ret void
}

; Function Attrs: nocallback nofree nosync nounwind willreturn memory(inaccessiblemem: write)
declare void @llvm.assume(i1 noundef) #2

; Function Attrs: noinline
define internal i32 @fused_subtract_tir_tanh_compute_(ptr noalias align 64 %x, ptr noalias align 64 %y, ptr noalias align 64 %compute_intermediate) #3 !dbg !37 {
entry:
  %0 = alloca ptr, align 8, !dbg !44
    #dbg_declare(ptr %0, !41, !DIExpression(), !44)
  store ptr %x, ptr %0, align 8, !dbg !44
  %1 = alloca ptr, align 8, !dbg !44
    #dbg_declare(ptr %1, !42, !DIExpression(), !44)
  store ptr %y, ptr %1, align 8, !dbg !44
  %2 = alloca ptr, align 8, !dbg !44
    #dbg_declare(ptr %2, !43, !DIExpression(), !44)
  store ptr %compute_intermediate, ptr %2, align 8, !dbg !44
  %T_subtract_intermediate = alloca float, i64 36, align 16, !dbg !44
    #dbg_declare(ptr %T_subtract_intermediate, !45, !DIExpression(), !44)
    #dbg_declare(ptr %x, !46, !DIExpression(), !44)
  call void @llvm.assume(i1 true) [ "align"(ptr %x, i64 64) ], !dbg !44
    #dbg_declare(ptr %y, !47, !DIExpression(), !44)
  call void @llvm.assume(i1 true) [ "align"(ptr %y, i64 64) ], !dbg !44
    #dbg_declare(ptr %compute_intermediate, !48, !DIExpression(), !44)
  call void @llvm.assume(i1 true) [ "align"(ptr %compute_intermediate, i64 64) ], !dbg !44
  br label %for_begin_ax0, !dbg !44

for_begin_ax0:                                    ; preds = %for_next_ax0, %entry
  %ax0 = phi i32 [ 0, %entry ], [ %4, %for_next_ax0 ], !dbg !44
    #dbg_value(i32 %ax0, !49, !DIExpression(), !44)
  %3 = icmp slt i32 %ax0, 4, !dbg !44
  br i1 %3, label %for_body_ax0, label %for_end_ax0, !dbg !44, !prof !16

for_body_ax0:                                     ; preds = %for_begin_ax0
  br label %for_begin_ax1, !dbg !44

for_end_ax0:                                      ; preds = %for_begin_ax0
  br label %for_begin_i0, !dbg !44

for_next_ax0:                                     ; preds = %for_end_ax1
  %4 = add nsw i32 %ax0, 1, !dbg !44
  br label %for_begin_ax0, !dbg !44

for_begin_ax1:                                    ; preds = %for_next_ax1, %for_body_ax0
  %ax1 = phi i32 [ 0, %for_body_ax0 ], [ %13, %for_next_ax1 ], !dbg !44
    #dbg_value(i32 %ax1, !50, !DIExpression(), !44)
  %5 = icmp slt i32 %ax1, 9, !dbg !44
  br i1 %5, label %for_body_ax1, label %for_end_ax1, !dbg !44, !prof !16

for_body_ax1:                                     ; preds = %for_begin_ax1
  %6 = mul nsw i32 %ax0, 9, !dbg !44
  %cse_v1 = add nsw i32 %6, %ax1, !dbg !44
    #dbg_value(i32 %cse_v1, !51, !DIExpression(), !44)
    #dbg_value(i32 %cse_v1, !51, !DIExpression(), !44)
  %7 = getelementptr inbounds float, ptr %x, i32 %cse_v1, !dbg !44
  %8 = load float, ptr %7, align 4, !dbg !44, !tbaa !52
  %9 = getelementptr inbounds float, ptr %y, i32 %cse_v1, !dbg !44
  %10 = load float, ptr %9, align 4, !dbg !44, !tbaa !55
  %11 = fsub float %8, %10, !dbg !44
  %12 = getelementptr inbounds float, ptr %T_subtract_intermediate, i32 %cse_v1, !dbg !44
  store float %11, ptr %12, align 4, !dbg !44, !tbaa !57
  br label %for_next_ax1, !dbg !44

for_end_ax1:                                      ; preds = %for_begin_ax1
  br label %for_next_ax0, !dbg !44

for_next_ax1:                                     ; preds = %for_body_ax1
  %13 = add nsw i32 %ax1, 1, !dbg !44
  br label %for_begin_ax1, !dbg !44

for_begin_i0:                                     ; preds = %for_next_i0, %for_end_ax0
  %i0 = phi i32 [ 0, %for_end_ax0 ], [ %15, %for_next_i0 ], !dbg !44
    #dbg_value(i32 %i0, !59, !DIExpression(), !44)
  %14 = icmp slt i32 %i0, 4, !dbg !44
  br i1 %14, label %for_body_i0, label %for_end_i0, !dbg !44, !prof !16

for_body_i0:                                      ; preds = %for_begin_i0
  br label %for_begin_i1, !dbg !44

for_end_i0:                                       ; preds = %for_begin_i0
  ret i32 0, !dbg !44

for_next_i0:                                      ; preds = %for_end_i1
  %15 = add nsw i32 %i0, 1, !dbg !44
  br label %for_begin_i0, !dbg !44

for_begin_i1:                                     ; preds = %for_next_i1, %for_body_i0
  %i1 = phi i32 [ 0, %for_body_i0 ], [ %45, %for_next_i1 ], !dbg !44
    #dbg_value(i32 %i1, !60, !DIExpression(), !44)
  %16 = icmp slt i32 %i1, 9, !dbg !44
  br i1 %16, label %for_body_i1, label %for_end_i1, !dbg !44, !prof !16

for_body_i1:                                      ; preds = %for_begin_i1
  %17 = mul nsw i32 %i0, 9, !dbg !44
  %cse_v2 = add nsw i32 %17, %i1, !dbg !44
    #dbg_value(i32 %cse_v2, !61, !DIExpression(), !44)
    #dbg_value(i32 %cse_v2, !61, !DIExpression(), !44)
  %18 = getelementptr inbounds float, ptr %T_subtract_intermediate, i32 %cse_v2, !dbg !44
  %19 = load float, ptr %18, align 4, !dbg !44, !tbaa !57
  %20 = fcmp oge float %19, 0.000000e+00, !dbg !44
  %21 = getelementptr inbounds float, ptr %T_subtract_intermediate, i32 %cse_v2, !dbg !44
  %22 = load float, ptr %21, align 4, !dbg !44, !tbaa !57
  %23 = fmul float -2.000000e+00, %22, !dbg !44
  %24 = call float @llvm.exp.f32(float %23), !dbg !44
  %25 = fsub float 1.000000e+00, %24, !dbg !44
  %26 = getelementptr inbounds float, ptr %T_subtract_intermediate, i32 %cse_v2, !dbg !44
  %27 = load float, ptr %26, align 4, !dbg !44, !tbaa !57
  %28 = fmul float -2.000000e+00, %27, !dbg !44
  %29 = call float @llvm.exp.f32(float %28), !dbg !44
  %30 = fadd float 1.000000e+00, %29, !dbg !44
  %31 = fdiv float %25, %30, !dbg !44
  %32 = getelementptr inbounds float, ptr %T_subtract_intermediate, i32 %cse_v2, !dbg !44
  %33 = load float, ptr %32, align 4, !dbg !44, !tbaa !57
  %34 = fmul float 2.000000e+00, %33, !dbg !44
  %35 = call float @llvm.exp.f32(float %34), !dbg !44
  %36 = fsub float %35, 1.000000e+00, !dbg !44
  %37 = getelementptr inbounds float, ptr %T_subtract_intermediate, i32 %cse_v2, !dbg !44
  %38 = load float, ptr %37, align 4, !dbg !44, !tbaa !57
  %39 = fmul float 2.000000e+00, %38, !dbg !44
  %40 = call float @llvm.exp.f32(float %39), !dbg !44
  %41 = fadd float %40, 1.000000e+00, !dbg !44
  %42 = fdiv float %36, %41, !dbg !44
  %43 = select i1 %20, float %31, float %42, !dbg !44
  %44 = getelementptr inbounds float, ptr %compute_intermediate, i32 %cse_v2, !dbg !44
  store float %43, ptr %44, align 4, !dbg !44, !tbaa !62
  br label %for_next_i1, !dbg !44

for_end_i1:                                       ; preds = %for_begin_i1
  br label %for_next_i0, !dbg !44

for_next_i1:                                      ; preds = %for_body_i1
  %45 = add nsw i32 %i1, 1, !dbg !44
  br label %for_begin_i1, !dbg !44
}

; Function Attrs: nocallback nocreateundeforpoison nofree nosync nounwind speculatable willreturn memory(none)
declare float @llvm.exp.f32(float) #4

define weak dllexport i32 @__tvm_ffi_main(ptr %0, ptr %1, i32 %2, ptr %3) {
entry:
  %4 = call i32 @__tvm_ffi_fused_subtract_tir_tanh(ptr %0, ptr %1, i32 %2, ptr %3), !dbg !15
  ret i32 %4, !dbg !15
}

define internal void @__tvm_module_startup() #0 {
entry:
  ret void, !dbg !15
}

; Function Attrs: nounwind memory(none)
define weak dso_local half @__truncsfhf2(float %a0) local_unnamed_addr #5 section ".text.tvm.fp16.conv" {
b0:
  %v0 = bitcast float %a0 to i32
  %v1 = and i32 %v0, 2147483647
  %v2 = add nsw i32 %v1, -947912704
  %v3 = add nsw i32 %v1, -1199570944
  %v4 = icmp ult i32 %v2, %v3
  br i1 %v4, label %b1, label %b5

b1:                                               ; preds = %b0
  %v5 = lshr i32 %v0, 13
  %v6 = and i32 %v5, 65535
  %v7 = add nuw nsw i32 %v6, -114688
  %v8 = and i32 %v0, 8191
  %v9 = icmp ugt i32 %v8, 4096
  br i1 %v9, label %b2, label %b3

b2:                                               ; preds = %b1
  %v10 = add nuw nsw i32 %v6, -114687
  br label %b13

b3:                                               ; preds = %b1
  %v11 = icmp eq i32 %v8, 4096
  br i1 %v11, label %b4, label %b13

b4:                                               ; preds = %b3
  %v12 = and i32 %v7, 65535
  %v13 = and i32 %v5, 1
  %v14 = add nuw nsw i32 %v12, %v13
  br label %b13

b5:                                               ; preds = %b0
  %v15 = icmp ugt i32 %v1, 2139095040
  br i1 %v15, label %b6, label %b7

b6:                                               ; preds = %b5
  %v16 = lshr i32 %v0, 13
  %v17 = and i32 %v16, 511
  %v18 = or i32 %v17, 32256
  br label %b13

b7:                                               ; preds = %b5
  %v19 = icmp ugt i32 %v1, 1199570943
  br i1 %v19, label %b13, label %b8

b8:                                               ; preds = %b7
  %v20 = icmp ult i32 %v1, 754974720
  br i1 %v20, label %b13, label %b9

b9:                                               ; preds = %b8
  %v21 = lshr i32 %v1, 23
  %v22 = sub nsw i32 113, %v21
  %v23 = and i32 %v0, 8388607
  %v24 = or i32 %v23, 8388608
  %v25 = add nsw i32 %v21, -81
  %v26 = shl i32 %v24, %v25
  %v27 = icmp ne i32 %v26, 0
  %v28 = lshr i32 %v24, %v22
  %v29 = zext i1 %v27 to i32
  %v30 = lshr i32 %v28, 13
  %v31 = and i32 %v28, 8191
  %v32 = or i32 %v31, %v29
  %v33 = icmp ugt i32 %v32, 4096
  br i1 %v33, label %b10, label %b11

b10:                                              ; preds = %b9
  %v34 = add nuw nsw i32 %v30, 1
  br label %b13

b11:                                              ; preds = %b9
  %v35 = icmp eq i32 %v32, 4096
  br i1 %v35, label %b12, label %b13

b12:                                              ; preds = %b11
  %v36 = and i32 %v30, 1
  %v37 = add nuw nsw i32 %v36, %v30
  br label %b13

b13:                                              ; preds = %b12, %b11, %b10, %b8, %b7, %b6, %b4, %b3, %b2
  %v38 = phi i32 [ %v18, %b6 ], [ %v10, %b2 ], [ %v14, %b4 ], [ %v7, %b3 ], [ 31744, %b7 ], [ 0, %b8 ], [ %v34, %b10 ], [ %v37, %b12 ], [ %v30, %b11 ]
  %v39 = lshr i32 %v0, 16
  %v40 = and i32 %v39, 32768
  %v41 = or i32 %v38, %v40
  %vlast = trunc i32 %v41 to i16
  %vres = bitcast i16 %vlast to half
  ret half %vres
}

; Function Attrs: nounwind memory(none)
define weak dso_local float @__extendhfsf2(half %a0) local_unnamed_addr #5 section ".text.tvm.fp16.conv" {
b0:
  %vinp = bitcast half %a0 to i16
  %v1 = and i16 %vinp, 32767
  %v2 = zext i16 %v1 to i32
  %v3 = add nsw i16 %v1, -1024
  %v4 = icmp ult i16 %v3, 30720
  br i1 %v4, label %b1, label %b2

b1:                                               ; preds = %b0
  %v5 = shl nuw nsw i32 %v2, 13
  %v6 = add nuw nsw i32 %v5, 939524096
  br label %b6

b2:                                               ; preds = %b0
  %v7 = icmp ugt i16 %v1, 31743
  br i1 %v7, label %b3, label %b4

b3:                                               ; preds = %b2
  %v8 = shl nuw nsw i32 %v2, 13
  %v9 = or i32 %v8, 2139095040
  br label %b6

b4:                                               ; preds = %b2
  %v10 = icmp eq i16 %v1, 0
  br i1 %v10, label %b6, label %b5

b5:                                               ; preds = %b4
  %v11 = icmp ult i16 %v1, 256
  %v12 = lshr i32 %v2, 8
  %v13 = select i1 %v11, i32 %v2, i32 %v12
  %v14 = select i1 %v11, i32 32, i32 24
  %v15 = icmp ult i32 %v13, 16
  %v16 = lshr i32 %v13, 4
  %v17 = add nsw i32 %v14, -4
  %v18 = select i1 %v15, i32 %v13, i32 %v16
  %v19 = select i1 %v15, i32 %v14, i32 %v17
  %v20 = icmp ult i32 %v18, 4
  %v21 = lshr i32 %v18, 2
  %v22 = add nsw i32 %v19, -2
  %v23 = select i1 %v20, i32 %v18, i32 %v21
  %v24 = select i1 %v20, i32 %v19, i32 %v22
  %v25 = icmp ult i32 %v23, 2
  %v26 = sub nsw i32 0, %v23
  %v27 = select i1 %v25, i32 %v26, i32 -2
  %v28 = add nsw i32 %v27, %v24
  %v29 = add nsw i32 %v28, -8
  %v30 = shl i32 %v2, %v29
  %v31 = xor i32 %v30, 8388608
  %v32 = shl i32 %v28, 23
  %v33 = sub i32 1124073472, %v32
  %v34 = or i32 %v31, %v33
  br label %b6

b6:                                               ; preds = %b5, %b4, %b3, %b1
  %v35 = phi i32 [ %v6, %b1 ], [ %v9, %b3 ], [ %v34, %b5 ], [ 0, %b4 ]
  %v36 = and i16 %vinp, -32768
  %v37 = zext i16 %v36 to i32
  %v38 = shl nuw i32 %v37, 16
  %v39 = or i32 %v35, %v38
  %v40 = bitcast i32 %v39 to float
  ret float %v40
}

attributes #0 = { "target-cpu"="x86-64-v3" }
attributes #1 = { noinline }
attributes #2 = { nocallback nofree nosync nounwind willreturn memory(inaccessiblemem: write) }
attributes #3 = { noinline "target-cpu"="x86-64-v3" }
attributes #4 = { nocallback nocreateundeforpoison nofree nosync nounwind speculatable willreturn memory(none) }
attributes #5 = { nounwind memory(none) "target-cpu"="x86-64-v3" "target-features" }

!llvm.dbg.cu = !{!0}
!llvm.module.flags = !{!2, !3, !4}

!0 = distinct !DICompileUnit(language: DW_LANG_C, file: !1, producer: "TVM", isOptimized: false, runtimeVersion: 0, emissionKind: FullDebug)
!1 = !DIFile(filename: "IRModule.CodeGenLLVM", directory: ".")
!2 = !{i32 2, !"tvm_target", !"{\22kind\22:\22llvm\22,\22mtriple\22:\22x86_64-unknown-linux-gnu\22,\22mcpu\22:\22x86-64-v3\22,\22opt-level\22:0}"}
!3 = !{i32 4, !"Debug Info Version", i32 3}
!4 = !{i32 4, !"Dwarf Version", i32 4}
!5 = distinct !DISubprogram(name: "__tvm_ffi_fused_subtract_tir_tanh", scope: !1, file: !1, type: !6, flags: DIFlagPrototyped, spFlags: DISPFlagLocalToUnit | DISPFlagDefinition | DISPFlagOptimized, unit: !0, retainedNodes: !10)
!6 = !DISubroutineType(types: !7)
!7 = !{!8, !9, !9, !8, !9}
!8 = !DIBasicType(name: "int32", size: 32, encoding: DW_ATE_signed)
!9 = !DIDerivedType(tag: DW_TAG_pointer_type, baseType: null)
!10 = !{!11, !12, !13, !14}
!11 = !DILocalVariable(name: "self_handle", arg: 1, scope: !5, file: !1, type: !9)
!12 = !DILocalVariable(name: "args", arg: 2, scope: !5, file: !1, type: !9)
!13 = !DILocalVariable(name: "num_args", arg: 3, scope: !5, file: !1, type: !8)
!14 = !DILocalVariable(name: "result", arg: 4, scope: !5, file: !1, type: !9)
!15 = !DILocation(line: 0, scope: !5)
!16 = !{!"branch_weights", i32 1048576, i32 1}
!17 = !DILocalVariable(name: "x.type_index", scope: !5, file: !1, type: !8)
!18 = !DILocalVariable(name: "x.handle", scope: !5, file: !1, type: !9)
!19 = !DILocalVariable(name: "y.type_index", scope: !5, file: !1, type: !8)
!20 = !DILocalVariable(name: "y.handle", scope: !5, file: !1, type: !9)
!21 = !DILocalVariable(name: "compute_intermediate.type_index", scope: !5, file: !1, type: !8)
!22 = !DILocalVariable(name: "compute_intermediate.handle", scope: !5, file: !1, type: !9)
!23 = !DILocalVariable(name: "fused_subtract_tir_tanh.x_shape", scope: !5, file: !1, type: !24)
!24 = !DIDerivedType(tag: DW_TAG_pointer_type, baseType: !25)
!25 = !DIBasicType(name: "int64", size: 64, encoding: DW_ATE_signed)
!26 = !DILocalVariable(name: "fused_subtract_tir_tanh.x_strides", scope: !5, file: !1, type: !24)
!27 = !DILocalVariable(name: "dev_id", scope: !5, file: !1, type: !8)
!28 = !DILocalVariable(name: "fused_subtract_tir_tanh.y_shape", scope: !5, file: !1, type: !24)
!29 = !DILocalVariable(name: "fused_subtract_tir_tanh.y_strides", scope: !5, file: !1, type: !24)
!30 = !DILocalVariable(name: "fused_subtract_tir_tanh.compute_intermediate_shape", scope: !5, file: !1, type: !24)
!31 = !DILocalVariable(name: "fused_subtract_tir_tanh.compute_intermediate_strides", scope: !5, file: !1, type: !24)
!32 = !DILocalVariable(name: "x", scope: !5, file: !1, type: !33)
!33 = !DIDerivedType(tag: DW_TAG_pointer_type, baseType: !34)
!34 = !DIBasicType(name: "float32", size: 32, encoding: DW_ATE_float)
!35 = !DILocalVariable(name: "y", scope: !5, file: !1, type: !33)
!36 = !DILocalVariable(name: "compute_intermediate", scope: !5, file: !1, type: !33)
!37 = distinct !DISubprogram(name: "fused_subtract_tir_tanh_compute_", scope: !1, file: !1, type: !38, flags: DIFlagPrototyped, spFlags: DISPFlagLocalToUnit | DISPFlagDefinition | DISPFlagOptimized, unit: !0, retainedNodes: !40)
!38 = !DISubroutineType(types: !39)
!39 = !{!8, !33, !33, !33}
!40 = !{!41, !42, !43}
!41 = !DILocalVariable(name: "x", arg: 1, scope: !37, file: !1, type: !33)
!42 = !DILocalVariable(name: "y", arg: 2, scope: !37, file: !1, type: !33)
!43 = !DILocalVariable(name: "compute_intermediate", arg: 3, scope: !37, file: !1, type: !33)
!44 = !DILocation(line: 0, scope: !37)
!45 = !DILocalVariable(name: "T_subtract_intermediate", scope: !37, file: !1, type: !33)
!46 = !DILocalVariable(name: "x", scope: !37, file: !1, type: !33)
!47 = !DILocalVariable(name: "y", scope: !37, file: !1, type: !33)
!48 = !DILocalVariable(name: "compute_intermediate", scope: !37, file: !1, type: !33)
!49 = !DILocalVariable(name: "ax0", scope: !37, file: !1, type: !8)
!50 = !DILocalVariable(name: "ax1", scope: !37, file: !1, type: !8)
!51 = !DILocalVariable(name: "cse_v1", scope: !37, file: !1, type: !8)
!52 = !{!53, !53, i64 0}
!53 = !{!"0x16d5a60", !54, i64 0}
!54 = !{!"tvm-tbaa"}
!55 = !{!56, !56, i64 0}
!56 = !{!"0x16d46f0", !54, i64 0}
!57 = !{!58, !58, i64 0}
!58 = !{!"0x17d5330", !54, i64 0}
!59 = !DILocalVariable(name: "i0", scope: !37, file: !1, type: !8)
!60 = !DILocalVariable(name: "i1", scope: !37, file: !1, type: !8)
!61 = !DILocalVariable(name: "cse_v2", scope: !37, file: !1, type: !8)
!62 = !{!63, !63, i64 0}
!63 = !{!"0x16d5a20", !54, i64 0}
