"""ELF files: each difference is found, named, and told from what only moved."""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import _pydantic_core

from harness.comparators import elf_filler, elf_functions
from harness.comparators.elf import Elf
from harness.comparators.elf_file import ElfFile
from harness.comparators.elf_look import Look
from harness.comparators.elf_suspects import rarest_first
from harness.comparators.interface import Bounds, Examined, NotThisFormatError, Part, Status
from harness.comparators.tensor import BLOCK, Blob, Tensor

BOUNDS = Bounds(parts=50, lines=40, seconds=10)
RET = b"\xc3"
ADD = b"\x83\xc0\x01" + RET  # add eax, 1; ret
ADD2 = b"\x83\xc0\x02" + RET
NOPS = b"\x90" * 15 + RET
X86, AARCH64 = 62, 183


@dataclass(frozen=True)
class Function:
    name: str
    code: bytes
    calls: tuple[tuple[int, str], ...] = ()  # (offset of the displacement, name)


@dataclass(frozen=True)
class Program:
    """What the tiny writer below makes an ELF file of: linked if it has an address."""

    functions: tuple[Function, ...] = (Function("f", ADD), Function("g", NOPS))
    constants: tuple[tuple[str, bytes], ...] = (("w", bytes(range(64))), ("b", b"bias" * 4))
    comment: bytes = b"\0maker 1.0\0"
    comment_name: str = ".comment"
    address: int = 0
    machine: int = X86
    named: bool = True
    filler: int = 0xCC
    tail: bytes = b""
    note: bytes = b"\x01\x02\x03\x04"


def section_row(
    name: int, kind: int, flags: int, address: int, offset: int, size: int,
    link: int = 0, info: int = 0, align: int = 1, entry: int = 0,
) -> bytes:  # fmt: skip
    return struct.pack(
        "<IIQQQQIIQQ", name, kind, flags, address, offset, size, link, info, align, entry
    )


def write(program: Program) -> bytes:
    """An ELF file for a 64 bit little-endian machine, with its functions aligned to 16 bytes."""
    strings, symbols, relocations = b"\0", bytes(24), b""
    text, starts = bytearray(), []
    for function in program.functions:
        text += bytes([program.filler]) * (-len(text) % 16)
        starts.append(len(text))
        text += function.code
    places = dict(zip((one.name for one in program.functions), starts, strict=True))
    numbers = {function.name: 1 + index for index, function in enumerate(program.functions)}
    for function, start in zip(program.functions, starts, strict=True):
        for at, target in function.calls:
            where = start + at
            if program.address:
                struct.pack_into("<i", text, where, places[target] - where - 4)
            else:
                relocations += struct.pack("<QQq", where, numbers[target] << 32 | 4, -4)
    data, constants = b"", {}
    for name, content in program.constants:
        constants[name] = len(data)
        data += content
    bases = (program.address, program.address and program.address + 0x10000)
    for function, start in zip(program.functions, starts, strict=True):
        value = bases[0] + start
        symbols += struct.pack("<IBBHQQ", len(strings), 0x12, 0, 1, value, len(function.code))
        strings += function.name.encode() + b"\0"
    for name, content in program.constants:
        value = bases[1] + constants[name]
        symbols += struct.pack("<IBBHQQ", len(strings), 0x11, 0, 2, value, len(content))
        strings += name.encode() + b"\0"
    note = struct.pack("<III", 4, len(program.note), 3) + b"GNU\0" + program.note
    pieces = [
        (".text", 1, 6, bytes(text), 0, 0, 0), (".rodata", 1, 2, data, 0, 0, 0),
        (program.comment_name, 1, 0x30, program.comment, 0, 0, 1), (".note", 7, 2, note, 0, 0, 0),
    ]  # fmt: skip
    if program.named:
        pieces += [(".symtab", 2, 0, symbols, 6, 1, 24), (".strtab", 3, 0, strings, 0, 0, 0)]
    if program.named and not program.address:
        pieces.append((".rela.text", 4, 0x40, relocations, 5, 1, 24))
    names = b"\0" + b"".join(one[0].encode() + b"\0" for one in pieces) + b".shstrtab\0"
    pieces.append((".shstrtab", 3, 0, names, 0, 0, 0))
    out, rows = bytearray(64), [bytes(64)]
    for index, (name, kind, flags, content, link, info, entry) in enumerate(pieces):
        out += bytes(-len(out) % 16)
        address = bases[index] if index < 2 else 0
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        rows.append(
            section_row(at, kind, flags, address, len(out), len(content), link, info, 1, entry)
        )
        out += content
    out += bytes(-len(out) % 16)
    kind = 3 if program.address else 1
    out[:64] = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH",
        kind, program.machine, 1, 0, 0, len(out), 0, 64, 56, 0, 64, len(rows), len(rows) - 1,
    )  # fmt: skip
    return bytes(out) + b"".join(rows) + program.tail


def examine(folder: Path, left: bytes, right: bytes, bounds: Bounds = BOUNDS) -> Examined:
    for name, content in (("left", left), ("right", right)):
        (folder / name).write_bytes(content)
    return Elf().examine(folder / "left", folder / "right", bounds)


def compared(folder: Path, left: Program, right: Program) -> Examined:
    return examine(folder, write(left), write(right))


def named(found: Examined, kind: str) -> dict[str, Part]:
    return {part.name: part for part in found.parts if part.kind == kind}


LINKED = Program(address=0x1000)


@pytest.mark.parametrize("program", [Program(), LINKED], ids=["object", "library"])
def test_equal_files_have_no_parts(tmp_path: Path, program: Program) -> None:
    found = compared(tmp_path, program, program)
    assert (found.parts, found.notes, found.truncated) == ((), (), False)
    assert found.same >= 6


@pytest.mark.parametrize("program", [Program(), LINKED], ids=["object", "library"])
def test_a_changed_function_is_named_and_disassembled(tmp_path: Path, program: Program) -> None:
    changed = replace(program, functions=(Function("f", ADD2), Function("g", NOPS)))
    found = compared(tmp_path, program, changed)
    functions = named(found, "function")
    assert set(functions) == {"f"}
    assert [line for line in functions["f"].lines if line[0] in "+-"] == [
        "-add eax, 1",
        "+add eax, 2",
    ]
    assert named(found, "section").keys() == {".text"}
    assert "1 byte differs, first at 0x2: 0x01 → 0x02" in named(found, "section")[".text"].note


def test_jumps_within_a_function_do_not_turn_red_when_it_grows_before_them(tmp_path: Path) -> None:
    loop = b"\x48\xff\xc8" + b"\x75\xfb" + RET  # dec rax; jne .-3; ret
    functions = (Function("f", loop), Function("g", NOPS))
    grown = (Function("f", b"\x31\xdb" + loop), Function("g", NOPS))  # xor ebx, ebx
    found = compared(
        tmp_path, replace(LINKED, functions=functions), replace(LINKED, functions=grown)
    )
    part = named(found, "function")["f"]
    assert [line for line in part.lines if line[0] in "+-"] == ["+xor ebx, ebx"]
    assert " jne .-0x3" in part.lines
    assert (part.left_size, part.right_size) == (6, 8)


def caller(target: str, shift: bytes = b"") -> tuple[Function, ...]:
    return (
        Function("first", NOPS + shift),
        Function("h", b"\xe8\0\0\0\0" + RET, ((1, target),)),
        Function("f", ADD),
        Function("g", ADD2),
    )


def test_a_call_that_only_moved_is_told_from_one_to_another_function(tmp_path: Path) -> None:
    """``mid`` grows by 16 bytes, and so does the way from ``last`` back to ``f``.

    To ``f2`` it is now as far as it was to ``f``: other meaning, and the very same bytes.
    """

    def functions(shift: bytes, target: str) -> tuple[Function, ...]:
        return (
            Function("f", ADD), Function("f2", ADD2), Function("mid", NOPS + shift),
            Function("last", b"\xe8\0\0\0\0" + RET, ((1, target),)),
        )  # fmt: skip

    left = replace(LINKED, functions=functions(b"", "f"))
    moved = compared(tmp_path, left, replace(LINKED, functions=functions(RET * 16, "f")))
    assert set(named(moved, "function")) == {"mid", "(addresses only)", "(places)"}
    assert named(moved, "function")["(addresses only)"].status is Status.MOVED
    other = compared(tmp_path, left, replace(LINKED, functions=functions(RET * 16, "f2")))
    part = named(other, "function")["last"]
    assert [line for line in part.lines if line[0] in "+-"] == ["-call f", "+call f2"]


def test_code_that_reads_another_place_comes_after_other_code(tmp_path: Path) -> None:
    def functions(at: int, code: bytes) -> tuple[Function, ...]:
        load = b"\x48\x8d\x05" + struct.pack("<i", 0x10000 + at - 7) + RET  # lea rax, [rip + …]
        return (Function("reads", load), Function("z", code))

    base = replace(LINKED, constants=(("", bytes(64)),))
    left = replace(base, functions=functions(4, ADD))
    found = named(compared(tmp_path, left, replace(base, functions=functions(8, ADD2))), "function")
    assert list(found) == ["z", "reads"]
    assert "+lea rax, [rip → .rodata+0x8]" in found["reads"].lines


def test_a_relocation_to_another_function_is_found_in_equal_code(tmp_path: Path) -> None:
    found = compared(tmp_path, Program(functions=caller("f")), Program(functions=caller("g")))
    part = named(found, "function")["h"]
    assert [line for line in part.lines if line[0] in "+-"] == [
        "-call ?  ; R_X86_64_PLT32 f-0x4", "+call ?  ; R_X86_64_PLT32 g-0x4",
    ]  # fmt: skip
    assert ".rela.text" in named(found, "section")


def test_a_renamed_function_is_no_change_of_it_or_of_its_callers(tmp_path: Path) -> None:
    def functions(name: str) -> tuple[Function, ...]:
        call = Function("h", b"\xe8\0\0\0\0" + RET, ((1, name),))
        return (Function(name, ADD), call)

    for program in (Program(), LINKED):
        left = replace(program, functions=functions("f"))
        right = replace(program, functions=functions("another"))
        found = named(compared(tmp_path, left, right), "function")
        assert found["f"].status is Status.RENAMED
        assert found["f"].new_name == "another"
        assert set(found) <= {"f", "(addresses only)"}


def test_reordered_functions_are_the_same(tmp_path: Path) -> None:
    right = replace(LINKED, functions=tuple(reversed(LINKED.functions)))
    found = compared(tmp_path, LINKED, right)
    (part,) = named(found, "function").values()
    assert (part.status, part.note) == (Status.MOVED, "2 functions lie at other addresses")
    assert ".text" in named(found, "section")


def test_callers_of_functions_that_changed_places_call_others(tmp_path: Path) -> None:
    """The caller keeps its bytes and its place, and what it calls is another function now."""
    call = Function("h", b"\xe8\0\0\0\0" + RET, ((1, "f"),))
    other = replace(call, calls=((1, "g"),))
    f, g = Function("f", ADD), Function("g", ADD2)
    found = compared(
        tmp_path, replace(LINKED, functions=(f, g, call)), replace(LINKED, functions=(g, f, other))
    )
    part = named(found, "function")["h"]
    assert [line for line in part.lines if line[0] in "+-"] == ["-call f", "+call g"]


def test_functions_that_share_a_name_are_paired_by_content(tmp_path: Path) -> None:
    left = replace(LINKED, functions=(Function("f", ADD), Function("f", NOPS)))
    right = replace(LINKED, functions=(Function("f", NOPS), Function("f", ADD)))
    assert set(named(compared(tmp_path, left, right), "function")) == {"(places)"}


def calling(names: tuple[str, str], shift: bytes, target: int, more: bytes = RET) -> Program:
    """``last`` calls one of the first two functions, the one at ``target``, from behind ``mid``."""
    mid = NOPS + shift
    distance = target - (32 + len(mid) + 5)
    last = b"\xe8" + struct.pack("<i", distance) + more
    functions = (
        Function(names[0], ADD), Function(names[1], ADD2), Function("mid", mid),
        Function("last", last),
    )  # fmt: skip
    return replace(LINKED, functions=functions)


@pytest.mark.parametrize(
    "names",
    [("s", "s"), ("n" * 170 + "a", "n" * 170 + "b"), ("n" * 170 + "a", "n" * 170 + "a")],
    ids=["one name", "long names", "one long name"],
)
def test_a_call_of_another_function_that_looks_alike(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    left = calling(names, b"", 0)
    moved = named(compared(tmp_path, left, calling(names, RET * 32, 0)), "function")
    assert set(moved) == {"mid", "(addresses only)", "(places)"}
    other = named(compared(tmp_path, left, calling(names, RET * 32, 16)), "function")
    assert set(other) == {"mid", "last", "(places)"}
    minus, plus = (line for line in other["last"].lines if line[0] in "+-")
    assert minus[1:] != plus[1:]
    assert minus.startswith(f"-call {names[0][:100]}")


@pytest.mark.parametrize(
    ("here", "there", "what"),
    [
        (b"\x89\xd8\xc3", b"\x89\xd8\xc3", "(addresses only)"),
        (b"\x89\xd8\xc3", b"\x8b\xc3\xc3", "last"),  # mov eax, ebx in two encodings
        (b"\x06\xc3", b"\x06\xc3", "(addresses only)"),  # no instruction
        (b"\x06\xc3", b"\x07\xc3", "last"),
        (b"\xc5\x06\xc3", b"\xc5\xf8\x77", "last"),  # no instruction | vzeroupper
    ],
)
def test_code_that_moved_and_changed_is_changed(
    tmp_path: Path, here: bytes, there: bytes, what: str
) -> None:
    left, right = calling(("f", "g"), b"", 0, here), calling(("f", "g"), RET * 32, 0, there)
    found = named(compared(tmp_path, left, right), "function")
    assert set(found) == {"mid", "(places)", what}


def test_what_changed_as_no_other_did_is_looked_into_first(tmp_path: Path) -> None:
    def functions(step: int, odd: int) -> tuple[Function, ...]:
        return tuple(
            Function(f"f{n}", b"\xb8" + struct.pack("<I", n * 77 + step + (n == odd)) + RET)
            for n in range(20)
        )

    sides = [
        write(replace(LINKED, functions=functions(step, odd))) for step, odd in ((0, -1), (48, 13))
    ]
    for name, content in zip("ab", sides, strict=True):
        (tmp_path / name).write_bytes(content)
    with Blob(tmp_path / "a") as a, Blob(tmp_path / "b") as b:
        look = Look(ElfFile(a), ElfFile(b), BOUNDS)
        pairs = list(zip(look.left.functions, look.right.functions, strict=True))
        order = [one.name.decode() for one, _ in rarest_first(look, pairs, time.monotonic() + 60)]
    assert order == ["f13", *(f"f{n}" for n in range(20) if n != 13)]


def test_constants_that_share_a_name_are_all_compared(tmp_path: Path) -> None:
    sides = [
        write(replace(LINKED, constants=(("t", first), ("u", b"second" * 4))))
        for first in (bytes(64), bytes(63) + b"\1")
    ]
    left, right = (side.replace(b"\0t\0u\0", b"\0t\0t\0") for side in sides)
    found = examine(tmp_path, left, right)
    assert named(found, "constant")["t"].left_size == 64


def test_added_and_removed_functions(tmp_path: Path) -> None:
    right = replace(LINKED, functions=(Function("f", ADD), Function("new", b"\x31\xc0" + RET)))
    found = named(compared(tmp_path, LINKED, right), "function")
    assert (found["g"].status, found["g"].left_size) == (Status.REMOVED, 16)
    assert (found["new"].status, found["new"].right_size) == (Status.ADDED, 3)


@pytest.mark.parametrize("program", [Program(), LINKED], ids=["object", "library"])
def test_one_bit_of_a_constant(tmp_path: Path, program: Program) -> None:
    changed = bytearray(range(64))
    changed[5] ^= 0x80
    right = replace(program, constants=(("w", bytes(changed)), program.constants[1]))
    found = compared(tmp_path, program, right)
    assert set(named(found, "constant")) == {"w"}
    part = named(found, "constant")["w"]
    assert part.note == "in .rodata: 1 byte differs, first at 0x5: 0x05 → 0x85"
    assert part.lines[0].startswith("-00000000  00 01")


def test_constants_added_removed_renamed(tmp_path: Path) -> None:
    right = replace(LINKED, constants=(("b", b"bias" * 4), ("w2", bytes(range(64)))))
    found = named(compared(tmp_path, LINKED, right), "constant")
    assert (found["w"].status, found["w"].new_name) == (Status.RENAMED, "w2")
    assert set(found) == {"w", "(places)"}


def test_without_symbols_the_places_are_named(tmp_path: Path) -> None:
    left = replace(LINKED, named=False)
    right = replace(
        left, functions=(Function("f", ADD2), Function("g", NOPS)), constants=(("w", b"\1" * 80),)
    )
    found = compared(tmp_path, left, right)
    sections = named(found, "section")
    assert "first at 0x2" in sections[".text"].note
    assert sections[".text"].lines
    assert sections[".rodata"].lines
    assert any("no symbols" in note for note in found.notes)


def test_stripped_libraries_have_functions_by_their_unwind_table(tmp_path: Path) -> None:
    table = b"\x01\x1b\x03\x3b" + struct.pack("<iIiiii", 0, 2, 0x1000, 0, 0x1010, 0)
    left, right = (
        replace(
            LINKED, named=False, comment=table, comment_name=".eh_frame_hdr",
            functions=(Function("f", NOPS), Function("g", code)),
        )
        for code in (ADD, ADD2)
    )  # fmt: skip
    found = named(compared(tmp_path, left, right), "function")
    assert set(found) == {"(no name) .text+0x10"}
    assert "+add eax, 2" in found["(no name) .text+0x10"].lines


def test_filler_between_functions_and_data_behind_the_end(tmp_path: Path) -> None:
    found = compared(tmp_path, LINKED, replace(LINKED, filler=0x90, tail=b"payload"))
    assert found.parts
    assert named(found, "filler")[".text (between functions)"].lines
    gap = named(found, "gap")["after the section headers"]
    assert (gap.status, gap.right_size) == (Status.ADDED, 7)
    assert not named(found, "function")


def test_long_code_is_compared_without_being_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elf_filler, "WHOLE", 1)
    monkeypatch.setattr(elf_functions, "MAX_CODE_BYTES", 3)
    right = replace(LINKED, functions=(Function("f", ADD2), Function("g", NOPS)), filler=0x90)
    found = compared(tmp_path, LINKED, right)
    (filler,) = named(found, "filler").values()
    assert (filler.left_size, filler.right_size) == (12, 12)
    part = named(found, "function")["f"]
    assert part.note == "in .text; not disassembled: too long"
    assert [line[0] for line in part.lines] == ["@", "-", "+"]
    assert compared(tmp_path, LINKED, LINKED).parts == ()


def test_the_makers_and_the_build_id(tmp_path: Path) -> None:
    right = replace(LINKED, comment=b"\0maker 2.0\0", note=b"\x01\x02\x03\x05")
    found = named(compared(tmp_path, LINKED, right), "section")
    assert [line for line in found[".comment"].lines if line[0] in "+-"] == [
        "-maker 1.0",
        "+maker 2.0",
    ]
    assert "+GNU type 3 01020305" in found[".note"].lines


def test_another_machine_is_disassembled_and_an_unknown_one_is_not(tmp_path: Path) -> None:
    codes = bytes.fromhex("20008052c0035fd6"), bytes.fromhex("40008052c0035fd6")
    for machine, expected in ((AARCH64, ["-mov w0, #1", "+mov w0, #2"]), (9999, [])):
        left, right = (
            replace(LINKED, functions=(Function("f", code),), machine=machine) for code in codes
        )
        part = named(compared(tmp_path, left, right), "function")["f"]
        if expected:
            assert [line for line in part.lines if line[0] in "+-"] == expected
        else:
            assert "not disassembled" in part.note


def test_hostile_names_are_safe_to_print(tmp_path: Path) -> None:
    left = replace(LINKED, functions=(Function("a\x1b[2J", ADD),))
    right = replace(LINKED, functions=(Function("a\x1b[2J", ADD2),))
    found = compared(tmp_path, left, right)
    assert "a\\x1b[2J" in named(found, "function")
    assert "\x1b" not in repr([(part.name, part.lines) for part in found.parts])


def test_parts_and_lines_are_bounded(tmp_path: Path) -> None:
    left, right = (
        replace(LINKED, functions=tuple(Function(f"f{n}", code * 200) for n in range(40)))
        for code in (b"\x83\xc0\x01", b"\x83\xc0\x02")
    )
    found = examine(tmp_path, write(left), write(right), Bounds(parts=10, lines=7, seconds=10))
    assert len(named(found, "function")) == 7  # room is kept for what is no function
    assert found.truncated
    assert any("more functions differ" in note for note in found.notes)
    assert max(len(part.lines) for part in found.parts) <= 7
    assert any(part.kind == "section" for part in found.parts)


def test_without_time_all_that_differs_is_still_said(tmp_path: Path) -> None:
    right = replace(LINKED, functions=(Function("f", ADD2), Function("g", b"\x91" + NOPS[1:])))
    found = examine(tmp_path, write(LINKED), write(right), Bounds(50, 40, 0))
    assert {"f", "g"} <= set(named(found, "function"))
    assert ".text" in named(found, "section")


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + bytes(10)]
)
def test_what_is_not_elf(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(NotThisFormatError):
        examine(tmp_path, content, write(LINKED))
    with pytest.raises(NotThisFormatError):
        examine(tmp_path, write(LINKED), content)


def test_sections_over_each_other_are_refused(tmp_path: Path) -> None:
    """Else a small file could make us compare the same bytes a thousand times."""
    content = bytearray(write(LINKED))
    (offset,) = struct.unpack_from("<Q", content, 0x28)
    row = section_row(0, 1, 0, 0, 0, offset)
    content[offset:] = bytes(64) + row * 8000
    struct.pack_into("<HH", content, 0x3C, 8001, 0)
    with pytest.raises(NotThisFormatError, match="over each other"):
        examine(tmp_path, bytes(content), bytes(content))


def test_symbols_over_each_other_do_not_cost_their_product(tmp_path: Path) -> None:
    """Each of 2000 symbols claims all the code: read one by one that would be 600 MB."""
    body = NOPS * 10
    functions = tuple(Function(f"f{n}", body) for n in range(2000))
    sides = []
    for last in (ADD, ADD2):
        raw = bytearray(write(replace(LINKED, functions=(*functions, Function("z", last)))))
        for n in range(2000):  # the size is the last field of a row
            at = raw.index(struct.pack("<Q", 0x1000 + n * 160) + struct.pack("<Q", 160))
            struct.pack_into("<Q", raw, at + 8, 2000 * 160 - n * 160)
        sides.append(bytes(raw))
    found = examine(tmp_path, sides[0], sides[1])
    assert set(named(found, "function")) == {"z"}
    assert any("over each other" in note for note in found.notes)


@pytest.mark.parametrize("program", [Program(), LINKED], ids=["object", "library"])
@pytest.mark.slow
def test_every_changed_byte_is_said(tmp_path: Path, program: Program) -> None:
    """Nothing falls between the parts: headers, tables, padding, what follows the end."""
    content = write(replace(program, tail=b"tail"))
    for at in (*range(64), *range(64, len(content), 5), len(content) - 1):
        changed = content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :]
        try:
            found = examine(tmp_path, content, changed)
        except NotThisFormatError:
            continue
        assert found.parts, at


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_hostile_files_end_in_an_answer(tmp_path: Path, data: st.DataObject) -> None:
    base = write(data.draw(st.sampled_from([Program(functions=caller("f")), LINKED])))
    content = bytearray(base)
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 1] = data.draw(
            st.sampled_from([b"\xff", b"\0", b"\x7f", b"\x01", b"\xff\xff\xff\xff", b""])
        )
        content = content or bytearray(b"\0")
    cut = data.draw(st.integers(0, len(content)))
    for hostile in (bytes(content), bytes(content[:cut])):
        try:
            found = examine(tmp_path, base, hostile)
        except NotThisFormatError:
            continue
        assert len(found.parts) <= BOUNDS.parts
        assert (hostile == base) == (not found.parts)


def test_a_real_library_with_a_changed_byte(tmp_path: Path) -> None:
    content = Path(_pydantic_core.__file__).read_bytes()
    (offset,) = struct.unpack_from("<Q", content, 0x28)
    changed = bytearray(content)
    changed[offset // 4] ^= 1  # where it is does not matter: code, constants, tables
    found = examine(tmp_path, content, bytes(changed))
    assert found.parts
    assert found.same > 5
    with pytest.raises(NotThisFormatError):
        examine(tmp_path, content, content[: offset - 100])


# Raw constants.


def raw(folder: Path, left: bytes, right: bytes, element: str = "") -> Examined:
    (folder / "left").write_bytes(left)
    (folder / "right").write_bytes(right)
    return Tensor(element).examine(folder / "left", folder / "right", BOUNDS)


def test_elements_of_a_raw_constant(tmp_path: Path) -> None:
    left = struct.pack("<4f", 1, 2, 3, 4)
    right = struct.pack("<4f", 1, 2, 3.5, 4)
    (part,) = raw(tmp_path, left, right, "float32").parts
    assert "1 byte differs, first at 0xa: 0x40 → 0x60" in part.note
    assert part.note.endswith("elements of 4 float32: [2] 3.0 → 3.5")
    assert raw(tmp_path, left, left, "float32") == Examined("raw constant", (), same=1)


def test_a_difference_over_the_edge_of_a_block_is_one(tmp_path: Path) -> None:
    left = bytes(BLOCK + 10)
    (part,) = raw(tmp_path, left, left[: BLOCK - 1] + b"ab" + left[BLOCK + 1 :]).parts
    assert part.note.startswith(f"2 bytes differ, first at 0x{BLOCK - 1:x}: 0x0000 → 0x6162")


def test_raw_constants_of_two_sizes(tmp_path: Path) -> None:
    (part,) = raw(tmp_path, b"abcd", b"abcde").parts
    assert (part.left_size, part.right_size) == (4, 5)
    assert part.lines


@given(st.binary(max_size=300), st.integers(0, 299), st.integers(1, 255))
@settings(suppress_health_check=list(HealthCheck), deadline=None)
def test_every_differing_byte_is_counted(
    tmp_path: Path, content: bytes, at: int, flip: int
) -> None:
    if at < len(content):
        changed = content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
        (part,) = raw(tmp_path, content, changed).parts
        assert f"1 byte differs, first at 0x{at:x}:" in part.note
