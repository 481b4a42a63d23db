"""The instructions in the binary are those of tensor-ir's main; each thing planted is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.accounting import relax_script, tir_script
from harness.accounting.bytecode import account_bytecode, account_dump
from harness.accounting.copies import is_copy
from harness.accounting.interface import Accounted, Kind
from harness.accounting.shipped import (
    CODE,
    DUMP,
    FILES,
    GRAPH,
    LIBRARY,
    SIMPLIFIED,
    TENSOR_IR,
    WEIGHTS,
    account_shipped,
)
from harness.accounting.vm_executable import (
    CALL,
    GOTO,
    IF,
    MACHINE,
    RET,
    VOID,
    Argument,
    DataType,
    Executable,
    FunctionKind,
    Instruction,
    PoolShape,
    PoolTensor,
    VmFunction,
    as_text,
)
from tests.unit import accounting_build as samples
from tests.unit.accounting_build import constant, immediate, register

FIRST = "fused_conv2d_add_maximum_minimum"
SECOND = "fused_conv2d1_add_relu_add1"
THIRD = "conv2d1"
LAST = "fused_matmul_tir_tanh"


def account(
    executable: Executable,
    main: relax_script.Function | None = None,
    library: frozenset[str] | None = None,
    copies: frozenset[str] | None = None,
) -> Accounted:
    reshaping = samples.copies() if copies is None else copies
    return account_bytecode(
        executable,
        main or samples.main(),
        samples.library() if library is None else library,
        lambda name: name in reshaping,
    )


def findings_of(executable: Executable) -> str:
    """All findings: where, and what."""
    found = account(executable)
    assert found.findings, "nothing was found"
    return "\n".join(f"{one.where} | {one.what}" for one in found.findings)


def call(name: str) -> int:
    (number,) = samples.calls(name)
    return number


def test_a_real_build_is_what_tensor_ir_says() -> None:
    found = account(samples.executable())
    assert (found.kind, found.stage) == (Kind.GRAPH, "object")
    assert found.things == found.attributed == 22
    assert not found.findings and not found.unknown
    assert account_dump(samples.executable(), samples.text("executable")).attributed == 22


def test_a_dump_that_lies_is_found() -> None:
    own = samples.executable()
    number = call(SECOND)
    exchanged = samples.with_argument(number, 1, constant(12))
    found = account_dump(exchanged, samples.text("executable"))
    assert found.findings[0].where == f"line {number + 2}"
    assert "c[12], c[11]" in found.findings[0].what and "c[10], c[11]" in found.findings[0].what
    longer = samples.text("executable") + b"@payload packed_func;\n\n"
    assert "the dump @payload packed_func;" in account_dump(own, longer).findings[0].what
    assert account_dump(own, as_text(own).encode()[:-1]).findings


def test_two_exchanged_constants_of_one_shape_are_found() -> None:
    number = call(SECOND)
    assert "operand 1 is the constant" in findings_of(
        samples.with_argument(number, 1, constant(12))
    )
    own = samples.executable()
    pool = list(own.constants)
    pool[10], pool[12] = pool[12], pool[10]
    assert "operand 1 is the constant" in findings_of(replace(own, constants=tuple(pool)))


def test_swapped_operands_are_found() -> None:
    number = call(FIRST)
    own = samples.executable().instructions[number]
    changed = (own.arguments[0], *own.arguments[1:3], own.arguments[4], own.arguments[3])
    put = replace(own, arguments=(*changed, own.arguments[5]))
    assert "operand 3 is the constant" in findings_of(samples.with_instruction(number, put))


@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD, LAST, "vm.builtin.reshape"])
def test_a_missing_call_is_found(name: str) -> None:
    assert account(samples.with_instruction(call(name))).findings


@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD, LAST])
def test_a_call_that_is_made_twice_is_found(name: str) -> None:
    number = call(name)
    one = samples.executable().instructions[number]
    found = account(samples.with_instruction(number, one, one))
    assert found.findings and found.attributed < found.things


def with_call(name: str, *arguments: int, at: int = 20) -> Executable:
    """One more call, of a function that is in no dump."""
    own, target = samples.with_function(name)
    put = Instruction(CALL, target, VOID, tuple(register(number) for number in arguments))
    changed = (*own.instructions[:at], put, *own.instructions[at:])
    functions = (replace(own.functions[0], end=len(changed)), *own.functions[1:])
    return replace(own, instructions=changed, functions=functions)


def test_an_extra_call_is_found() -> None:
    extra = with_call("payload", 0, 8, at=20)
    assert "no function of the library has this name" in findings_of(extra)
    found = account(extra, library=samples.library() | {"payload"})
    assert [one.what for one in found.findings] == [
        "tensor-ir's main has no such call: all of its calls are done"
    ]


@pytest.mark.parametrize(
    "name", ["vm.builtin.invoke_closure", "vm.builtin.to_device", "vm.builtin."]
)
def test_a_builtin_that_is_not_known_is_found(name: str) -> None:
    assert "the meaning of this builtin is not known" in findings_of(with_call(name, 0))


def test_a_builtin_that_the_library_replaces_is_found() -> None:
    found = account(samples.executable(), library=samples.library() | {"vm.builtin.reshape"})
    assert [one.what for one in found.findings] == [
        "the library has a function in the place of a builtin"
    ]


def test_a_call_of_no_function_of_the_library_is_found() -> None:
    found = account(samples.executable(), library=samples.library() - {THIRD})
    assert found.findings[0].where == f"function {THIRD}"


def test_a_function_that_nothing_calls_is_found() -> None:
    own, _ = samples.with_function("vm.builtin.copy")
    assert "no instruction calls it" in findings_of(own)


def test_a_constant_that_nothing_uses_is_found() -> None:
    own = samples.executable()
    found = account(replace(own, constants=(*own.constants, "payload")))
    assert (found.findings[0].kind, found.findings[0].where) == (Kind.CONSTANTS, "constant 17")


@pytest.mark.parametrize(
    "jump", [Instruction(IF, 0, 2), Instruction(GOTO, 1), Instruction(GOTO, -3)]
)
@pytest.mark.parametrize("at", [2, 10, 20])
def test_a_branch_is_found(jump: Instruction, at: int) -> None:
    one = samples.executable().instructions[at]
    assert "a jump" in findings_of(samples.with_instruction(at, jump, one))


def test_another_function_of_instructions_is_found() -> None:
    own = samples.executable()
    more = VmFunction(FunctionKind.BYTECODE, "payload", 22, 23, 0, 1, ())
    changed = replace(
        own,
        functions=(*own.functions, more),
        instructions=(*own.instructions, Instruction(RET, VOID)),
    )
    assert "the model's graph has no such function" in findings_of(changed)
    renamed = replace(own, functions=(replace(own.functions[0], name="other"), *own.functions[1:]))
    assert account(renamed).findings


# Memory.


def test_storage_that_two_living_tensors_share_is_found() -> None:
    # The second result into the storage of the first, which the same call still reads.
    number = samples.calls("vm.builtin.alloc_tensor")[1]
    assert "memory that it reads from" in findings_of(samples.with_argument(number, 0, register(1)))


def test_a_tensor_that_is_written_over_while_needed_is_found() -> None:
    # The last result's tensor where the reshaped value still lies.
    number = samples.calls("vm.builtin.alloc_tensor")[-1]
    own = samples.with_argument(number, 0, register(1))
    one = own.instructions
    keep = tuple(
        line for at, line in enumerate(one)
        if not (line.operation == CALL and line.other == 1 and at > 3)
    )  # fmt: skip
    assert "memory that it reads from" in findings_of(samples.with_instructions(*keep))
    # A call in between that leaves its result in the memory of a value that a later call needs.
    third = call(THIRD)
    instruction = samples.executable().instructions[third]
    into = replace(instruction, arguments=(*instruction.arguments[:2], register(2)))
    drop = samples.calls("vm.builtin.null_value")[1]
    lines = list(samples.executable().instructions)
    lines[third] = into
    del lines[drop]
    assert account(samples.with_instructions(*lines)).findings


def test_a_value_that_was_overwritten_before_its_use_is_found() -> None:
    # The third call needs the result of the first, and the second one is given its memory.
    text = samples.text("tensor-ir").decode()
    text = text.replace(f"cls.{SECOND}, (lv,", f"cls.{SECOND}, (x,")
    text = text.replace("cls.conv2d1, (lv1,", "cls.conv2d1, (lv,")
    main = relax_script.functions(text.encode(), "tensor-ir")["main"]
    lines = list(samples.executable().instructions)
    second, third = call(SECOND), call(THIRD)
    lines[second] = replace(
        lines[second],
        arguments=tuple(register(0) if one == register(2) else one
                        for one in lines[second].arguments),
    )  # fmt: skip
    arguments = lines[third].arguments
    lines[third] = replace(lines[third], arguments=(register(2), *arguments[1:]))
    number = samples.calls("vm.builtin.alloc_tensor")[2]
    lines[number] = replace(
        lines[number], arguments=(register(7), *lines[number].arguments[1:])
    )  # the third result has memory of its own
    lines.insert(number, replace(lines[samples.calls("vm.builtin.alloc_storage")[0]], other=7))
    without_nulls = [one for one in lines if not _is_null(one)]
    found = account(samples.with_instructions(*without_nulls), main)
    assert [one.where for one in found.findings] == ["function vm.builtin.null_value"]
    shared = samples.calls("vm.builtin.alloc_tensor")[1]
    lines[shared] = replace(lines[shared], arguments=(register(1), *lines[shared].arguments[1:]))
    without_nulls = [one for one in lines if not _is_null(one)]
    found = account(samples.with_instructions(*without_nulls), main)
    assert any("written over since" in one.what for one in found.findings)


def _is_null(one: Instruction) -> bool:
    name = samples.executable().functions[one.target].name
    return one.operation == CALL and name == "vm.builtin.null_value"


def test_a_tensor_that_does_not_fit_is_found() -> None:
    number = samples.calls("vm.builtin.alloc_tensor")[0]
    assert "does not fit" in findings_of(samples.with_argument(number, 1, immediate(4)))
    assert "does not fit" in findings_of(samples.with_argument(number, 1, immediate(-4)))
    assert "does not fit" in findings_of(samples.with_constant(2, PoolShape((252,))))


def test_reading_what_was_never_written_is_found() -> None:
    assert "nothing has been written" in findings_of(
        samples.with_argument(call(SECOND), 0, register(4))
    )


@pytest.mark.parametrize("into", [register(0), constant(6), constant(16)])
def test_writing_to_an_input_or_a_constant_is_found(into: Argument) -> None:
    own = samples.executable()
    changed = samples.with_argument(call(FIRST), 5, into)
    assert "it writes to an input or a constant" in findings_of(changed)
    assert own != changed


def test_returning_another_value_is_found() -> None:
    end = len(samples.executable().instructions) - 1
    for number in (0, 6, 7):
        assert account(samples.with_instruction(end, Instruction(RET, number))).findings
    assert "instruction 20" in findings_of(
        samples.with_instruction(20, Instruction(RET, 0), Instruction(RET, 8))
    )
    assert "without a return" in findings_of(samples.with_instruction(end))


def test_what_follows_the_return_is_found() -> None:
    end = len(samples.executable().instructions) - 1
    twice = samples.with_instruction(end, Instruction(RET, 8), Instruction(RET, 8))
    assert "never runs" in findings_of(twice)


# Builtins.


@pytest.mark.parametrize(
    ("name", "at", "argument"),
    [
        ("vm.builtin.check_tensor_info", 1, immediate(3)),
        ("vm.builtin.check_tensor_info", 2, constant(3)),
        ("vm.builtin.check_tensor_info", 3, constant(4)),
        ("vm.builtin.match_shape", 1, register(0)),
        ("vm.builtin.match_shape", 2, immediate(3)),
        ("vm.builtin.match_shape", 3, immediate(1)),
        ("vm.builtin.match_shape", 6, immediate(3)),
        ("vm.builtin.reshape", 1, constant(15)),
        ("vm.builtin.reshape", 0, register(0)),
    ],
)
def test_a_changed_builtin_is_found(name: str, at: int, argument: Argument) -> None:
    found = account(samples.with_argument(call(name), at, argument)).findings
    if (name, at, argument) == ("vm.builtin.check_tensor_info", 3, constant(4)):
        assert not found  # another plain text of an error
    else:
        assert f"of main: call  {name}" in found[0].where


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_memory_from_elsewhere_is_found(at: int) -> None:
    number = samples.calls("vm.builtin.alloc_storage")[0]
    other = (register(0), constant(4), immediate(1), constant(2), constant(1))[at]
    assert account(samples.with_argument(number, at, other)).findings


def test_an_error_text_that_is_no_text_is_found() -> None:
    assert "no plain text" in findings_of(samples.with_constant(1, "a\0payload"))
    assert "no plain text" in findings_of(samples.with_constant(1, "a" * 3000))
    assert "no plain text" in findings_of(samples.with_constant(1, DataType("int8", 8)))


@pytest.mark.parametrize("number", [99, -1, VOID, MACHINE])
def test_registers_and_constants_that_do_not_exist_are_found(number: int) -> None:
    second = call(SECOND)
    assert account(samples.with_argument(second, 0, register(number))).findings
    assert account(samples.with_argument(second, 1, constant(number))).findings
    storage = samples.calls("vm.builtin.alloc_storage")[0]
    put = replace(samples.executable().instructions[storage], other=number)
    assert f"register {number} does not exist" in findings_of(
        samples.with_instruction(storage, put)
    )
    put = replace(samples.executable().instructions[second], target=number)
    assert f"function {number} does not exist" in findings_of(samples.with_instruction(second, put))


def test_a_result_that_is_kept_is_found() -> None:
    for name in (FIRST, "vm.builtin.check_tensor_info", "vm.builtin.match_shape"):
        put = replace(samples.executable().instructions[call(name)], other=1)
        assert "it keeps" in findings_of(samples.with_instruction(call(name), put))


def test_other_parameters_are_found() -> None:
    own = samples.executable()
    for change in ({"parameters": ("y",)}, {"arguments": 2}):
        function = replace(own.functions[0], **change)
        assert "its parameters are not" in findings_of(
            replace(own, functions=(function, *own.functions[1:]))
        )


def test_a_parameter_is_printed_as_an_identifier() -> None:
    own = samples.executable()
    function = replace(own.functions[0], parameters=("serving:0/a.b",))
    renamed = replace(own, functions=(function, *own.functions[1:]))
    assert not account(
        renamed, main_with("def main(x:", "def main(serving_0_a_b:", ("(x,", "(serving_0_a_b,"))
    ).findings
    assert account(
        renamed, main_with("def main(x:", "def main(serving_0_a_c:", ("(x,", "(serving_0_a_c,"))
    ).findings


def test_constants_in_other_memory_are_found() -> None:
    assert "other memory" in findings_of(replace(samples.executable(), scopes=((6, "global"),)))


# What tensor-ir says.


def main_with(old: str, new: str, *more: tuple[str, str]) -> relax_script.Function:
    text = samples.text("tensor-ir").decode()
    for one, other in ((old, new), *more):
        assert one in text
        text = text.replace(one, other)
    return relax_script.functions(text.encode(), "tensor-ir")["main"]


def test_a_reshape_in_the_place_of_anything_else_is_found() -> None:
    found = account(samples.executable(), copies=frozenset())
    assert "which is no reshape" in found.findings[0].what


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("R.call_tir(cls.conv2d1, (lv1,", "R.call_tir(cls.conv2d1, (lv,"),
        ("R.call_tir(cls.conv2d1,", "R.call_tir(cls.conv2d2,"),
        ("R.output(gv)\n        return gv", "R.output(gv)\n        return lv15"),
        ('R.const(6.0, "float32")', 'R.const(6.5, "float32")'),
        ("(lv14,), out_ty=R.Tensor((1, 64)", "(lv14,), out_ty=R.Tensor((2, 32)"),
        ("R.call_tir(cls.reshape1, (lv14,)", "R.call_tir(cls.reshape1, (lv1,)"),
    ],
)
def test_a_binary_that_does_something_else_than_tensor_ir_is_found(old: str, new: str) -> None:
    assert account(samples.executable(), main_with(old, new)).findings


def test_both_spellings_of_a_release_are_read() -> None:
    text = samples.text("tensor-ir").decode()
    older = text.replace("out_ty=", "out_sinfo=").replace("ir.GenericConst", "relax.expr.Constant")
    assert older != text
    main = relax_script.functions(older.encode(), "tensor-ir")["main"]
    assert account(samples.executable(), main).attributed == 22


def test_what_tensor_ir_holds_and_is_not_known_is_no_answer() -> None:
    found = account(samples.executable(), main_with("R.call_tir(cls.conv2d1, ", "R.mystery("))
    assert not found.attributed and "R.mystery" in found.unknown[0]


def test_only_what_keeps_every_element_in_order_is_a_reshape() -> None:
    assert samples.copies() == {"reshape1"}
    text = samples.text("tensor-ir").decode()
    start = text.index("    def reshape1(")
    end = text.index("    @", start)
    own = text[start:end]
    store = next(line for line in own.splitlines() if "T_reshape[v_ax0, v_ax1] = lv14" in line)
    for old, new in (
        ("T.int64(16)", "T.int64(8)"),
        ("lv14[T.int64(0)", "T.float32(2) * lv14[T.int64(0)"),
        ("v_ax1 % T.int64(4)", "(v_ax1 + T.int64(1)) % T.int64(4)"),
        ("= lv14[", "= T_reshape[v_ax0, v_ax1] + lv14["),
    ):
        assert old in store
        changed = text.replace(store, store.replace(old, new))
        tree = relax_script.syntax(changed.encode(), "tensor-ir")
        read = tir_script.functions_of(tree, "tensor-ir").read
        assert "reshape1" not in read or not is_copy(read["reshape1"]), new


# All of it.


def files() -> dict[str, bytes]:
    return {
        SIMPLIFIED: (samples.BUILD / "simplified.onnx").read_bytes(),
        GRAPH: samples.text("graph"),
        TENSOR_IR: samples.text("tensor-ir"),
        DUMP: samples.text("executable"),
        WEIGHTS: samples.binary("devc.o"),
        CODE: samples.binary("lib0.o"),
        LIBRARY: samples.binary("model.so"),
    }


def test_all_of_a_real_build_is_accounted_for() -> None:
    found = account_shipped(samples.model(), samples.INPUTS, files())
    assert len(found) == 9
    for one in found:
        assert one.things == one.attributed > 0
        assert not one.findings and not one.unknown


@pytest.mark.parametrize("name", FILES)
def test_what_is_missing_or_no_such_file_is_unknown(name: str) -> None:
    for put in (None, b"", b"\0\xff junk"):
        given = files()
        del given[name]
        if put is not None:
            given[name] = put
        found = account_shipped(samples.model(), samples.INPUTS, given)
        assert any(one.unknown or one.findings for one in found), (name, put)
        stages = {one.stage for one in found if one.attributed == one.things > 0}
        assert len(stages) >= 2, "what can be answered still is"


def test_a_weight_changed_in_the_object_alone_is_found() -> None:
    given = files()
    number = samples.tensors()[-1]
    held = samples.executable().constants[number]
    assert isinstance(held, PoolTensor)
    for name in (WEIGHTS, LIBRARY):
        at = given[name].index(held.data) + 401
        byte = bytes([given[name][at] ^ 1])
        given[name] = given[name][:at] + byte + given[name][at + 1 :]
    found = account_shipped(samples.model(), samples.INPUTS, given)
    where = [finding.where for one in found for finding in one.findings]
    assert any(one.startswith(f"constant {number} ") for one in where)
    assert any(f"call  {LAST}" in one for one in where)  # the digest in tensor-ir is another
