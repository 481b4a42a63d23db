"""The executable in a real object: every byte is read or reported, and nothing is believed."""

from __future__ import annotations

import random
import struct
from dataclasses import replace

import pytest

from harness.accounting.interface import NotInterpretedError
from harness.accounting.packed_data import (
    DATA,
    Binary,
    Piece,
    account_data,
    pieces_of_code,
    pieces_of_library,
    pieces_of_weights,
)
from harness.accounting.vm_executable import (
    DataType,
    Executable,
    PoolShape,
    PoolTensor,
    as_text,
    read_executable,
    read_library_blob,
)
from tests.unit import accounting_build as samples


def test_a_real_executable_is_read_to_its_last_byte() -> None:
    own = samples.executable()
    assert as_text(own).encode() == samples.text("executable")
    assert own.functions[0].name == "main"
    assert own.functions[0].parameters == ("x",)
    assert len(samples.tensors()) == 8
    assert own.constants[0] == DataType("float32", 32)
    assert PoolShape((1, 4, 4, 4)) in own.constants
    assert not own.oddities and not own.scopes


def outcome(data: bytes) -> Executable | None:
    try:
        return read_library_blob(data)
    except NotInterpretedError:
        return None


@pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_no_byte_is_ignored(step: int) -> None:
    blob, own = samples.blob(), samples.executable()
    for place in range(0, len(blob), step):
        changed = bytearray(blob)
        changed[place] ^= 1 << place % 8
        assert outcome(bytes(changed)) != own, f"byte {place} does not matter"


def test_what_is_cut_is_refused() -> None:
    blob = samples.blob()
    for size in range(0, len(blob) - 8, 5):
        assert outcome(blob[: 8 + size]) is None
        assert outcome(size.to_bytes(8, "little") + blob[8 : 8 + size]) is None


def test_random_damage_ends_in_an_answer() -> None:
    chance = random.Random(7)
    blob = samples.blob()
    for _ in range(500):
        changed = bytearray(blob)
        for _ in range(chance.randint(1, 12)):
            changed[chance.randrange(len(blob))] = chance.choice((0, 1, 127, 128, 255))
        outcome(bytes(changed))  # anything but the error would fail


def executable_bytes() -> bytes:
    blob = samples.blob()
    start = blob.index(b"relax.VMExecutable") + 18
    size = struct.unpack_from("<Q", blob, start)[0]
    return blob[start + 8 : start + 8 + size]


def test_bytes_that_follow_are_reported() -> None:
    own = read_executable(executable_bytes() + b"payload")
    assert own.oddities == ("7 bytes follow the instructions: nothing reads them",)
    within = samples.blob() + b"payload"
    assert read_library_blob(within).oddities == ("7 bytes follow the modules within the symbol",)


def test_bytes_between_fields_are_reported() -> None:
    data = executable_bytes()
    # A tensor's reserved field, its device, and the numbers of a function that has none.
    place = data.index(struct.pack("<Q", 0xDD5E40F096B4A13F))
    odd = data[: place + 8] + b"\1" + data[place + 9 :]
    assert "reserved" in read_executable(odd).oddities[0]
    odd = data[: place + 20] + b"\1" + data[place + 21 :]
    assert "device 1:1" in read_executable(odd).oddities[0]
    place = data.index(b"vm.builtin.null_value") + len(b"vm.builtin.null_value")
    odd = data[:place] + b"\1" + data[place + 1 :]
    assert "numbers that nothing reads" in read_executable(odd).oddities[0]


@pytest.mark.parametrize("count", [2**63, 2**40, 200_001])
def test_a_count_beyond_the_limits_is_refused_at_once(count: int) -> None:
    head = struct.pack("<QQ", 0xD225DE2F4214151E, 4) + b"0.14"
    with pytest.raises(NotInterpretedError, match="functions"):
        read_executable(head + struct.pack("<Q", count))


@pytest.mark.parametrize(("start", "end"), [(0, 23), (1, 22), (-1, 22), (0, 2**62), (22, 0)])
def test_a_function_that_lies_elsewhere_is_refused(start: int, end: int) -> None:
    data = executable_bytes()
    at = data.index(b"main") + 4
    changed = data[:at] + struct.pack("<qq", start, end) + data[at + 16 :]
    with pytest.raises(NotInterpretedError, match="function main is not laid out so"):
        read_executable(changed)
    shorter = data[:at] + struct.pack("<qq", 0, 21) + data[at + 16 :]
    assert read_executable(shorter).oddities == ("instructions that belong to no function: 1",)


def test_other_modules_are_refused() -> None:
    blob = samples.blob()
    other = blob.replace(b"relax.VMExecutable", b"relax.VMExecutablf")
    with pytest.raises(NotInterpretedError, match=r"modules relax\.VMExecutablf, _lib"):
        read_library_blob(other)


# The data around it.


def read(name: str, data: bytes | None = None) -> Binary:
    return Binary(samples.binary(name) if data is None else data, name)


def left(pieces: list[Piece]) -> list[Piece]:
    return [piece for piece in pieces if not piece.what]


def test_the_data_of_a_real_build_are_accounted_for() -> None:
    found = account_data(read("devc.o"), read("lib0.o"), read("model.so"))
    assert [one.stage for one in found] == ["object", "object", "library"]
    for one in found:
        assert one.things == one.attributed > 0
        assert not one.findings and not one.unknown
    code = pieces_of_code(read("lib0.o"))
    assert any(piece.what.startswith("a literal: ") for piece in code)
    assert any(piece.what == "text: TypeError" for piece in code)


def test_the_library_exports_what_the_bytecode_calls() -> None:
    called = {one.name for one in samples.executable().functions[1:]}
    assert {name for name in called if not name.startswith("vm.builtin.")} <= samples.library()


def section_row(data: bytes, name: str) -> tuple[int, tuple[int, ...]]:
    """Where the header of a section lies, and its fields."""
    one = next(s for s in read("?", data).elf.sections if s.key == name)
    start = struct.unpack_from("<Q", data, 40)[0] + 64 * one.number
    return start, struct.unpack_from("<IIQQQQIIQQ", data, start)


def with_field(data: bytes, name: str, field: int, value: int) -> bytes:
    start, row = section_row(data, name)
    changed = [*row]
    changed[field] = value
    return data[:start] + struct.pack("<IIQQQQIIQQ", *changed) + data[start + 64 :]


def test_data_beside_the_weights_are_found() -> None:
    data = samples.binary("devc.o")
    # The section reaches further than its one symbol.
    _, row = section_row(data, ".rodata")
    wider = with_field(data, ".rodata", 5, row[5] + 24)
    assert left(pieces_of_weights(read("devc.o", wider))) == [Piece(".rodata", row[5], 24, "")]
    # Another section holds something.
    code = with_field(with_field(data, ".text", 5, 16), ".text", 4, 64)
    assert Piece(".text", 0, 16, "") in left(pieces_of_weights(read("devc.o", code)))
    # Something follows that no section covers.
    assert left(pieces_of_weights(read("devc.o", data + b"payload")))


def test_a_symbol_that_is_there_twice_is_refused() -> None:
    data = samples.binary("devc.o")
    table = next(s for s in read("?", data).elf.sections if s.key == ".symtab")
    size = table.size
    twice = data + data[table.offset : table.offset + size] + data[table.offset + size - 24 :][:24]
    moved = with_field(with_field(twice, ".symtab", 4, len(data)), ".symtab", 5, size + 24)
    with pytest.raises(NotInterpretedError, match="2 symbols hold"):
        read("devc.o", moved).library_blob()


def test_a_large_table_in_the_data_of_the_code_is_found() -> None:
    data = samples.binary("lib0.o")
    _, row = section_row(data, ".rodata")

    def with_table(size: int) -> list[Piece]:
        at = row[4] + 40
        changed = data[:at] + b"\x81\x07" * (size // 2) + data[at + size :]
        return left(pieces_of_code(read("lib0.o", changed)))

    assert not with_table(10)  # as LLVM makes some itself
    assert len(with_table(600)) == 1


def in_library(data: bytes) -> list[Piece]:
    return left(pieces_of_library(read("model.so", data), read("devc.o"), read("lib0.o")))


def test_another_executable_in_the_library_is_found() -> None:
    data = samples.binary("model.so")
    blob = samples.blob()
    at = data.index(blob) + len(blob) // 2
    changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    assert [piece.size for piece in in_library(changed)] == [len(blob)]


def test_other_data_in_the_library_are_found() -> None:
    data = samples.binary("model.so")
    at = data.index(b"TypeError\0Expected") + 3
    changed = data[:at] + b"\x07" + data[at + 1 :]
    assert sum(piece.size for piece in in_library(changed)) > 1000
    _, row = section_row(data, ".rodata")
    literal = data[: row[4]] + b"\x13\x37\x13\x37" + data[row[4] + 4 :]
    assert in_library(literal)[0].start == 0


def test_code_that_runs_on_loading_is_found() -> None:
    data = samples.binary("model.so")
    at = section_row(data, ".dynamic")[1][4]
    rows = [struct.unpack_from("<QQ", data, at + 16 * n) for n in range(30)]
    flags = next(n for n, row in enumerate(rows) if row[0] == 30)
    changed = bytearray(data)
    struct.pack_into("<QQ", changed, at + 16 * flags, 25, 0x1000)  # DT_INIT_ARRAY
    assert [piece.section for piece in in_library(bytes(changed))] == ["DT_INIT_ARRAY"]
    where = account_data(read("devc.o"), read("lib0.o"), read("model.so", bytes(changed)))[2]
    assert "the loader runs code" in where.findings[0].what


def test_weights_that_the_loader_changes_are_found() -> None:
    data = samples.binary("model.so")
    table = section_row(data, ".rela.plt")[1][4]
    section, start, _ = read("model.so").library_blob()
    changed = bytearray(data)
    struct.pack_into("<Q", changed, table, section.address + start + 100)
    assert [piece.section for piece in in_library(bytes(changed))] == ["DT_JMPREL"]
    struct.pack_into("<QQ", changed, table, *struct.unpack_from("<Q", data, table), 37)
    assert [piece.section for piece in in_library(bytes(changed))] == ["DT_JMPREL"]


def test_sections_that_hide_what_is_loaded_are_refused() -> None:
    data = samples.binary("model.so")
    _, row = section_row(data, ".rodata")
    moved = with_field(data + samples.blob(), ".rodata", 4, len(data))
    with pytest.raises(NotInterpretedError):
        read("model.so", moved)
    elsewhere = with_field(data, ".dynsym", 3, row[3])
    with pytest.raises(NotInterpretedError, match="not where a loader looks"):
        read("model.so", elsewhere)


def test_what_is_no_object_is_refused() -> None:
    for data in (b"", b"\x7fELF", samples.binary("devc.o")[:100], b"MZ" * 100):
        with pytest.raises(NotInterpretedError):
            Binary(data, "object/devc.o")
    assert DATA in samples.binary("devc.o")


def test_a_tensor_says_where_it_lies() -> None:
    data = executable_bytes()
    for number in samples.tensors():
        one = samples.executable().constants[number]
        assert isinstance(one, PoolTensor)
        assert data[one.start : one.start + len(one.data)] == one.data
        assert replace(one, start=0).sha256 == one.sha256
