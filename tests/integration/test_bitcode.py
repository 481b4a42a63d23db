"""LLVM bitcode, read by the real llvm-dis in the real sandbox."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import bitcode
from harness.bitcode import disassembled, is_bitcode
from harness.comparators.examine import equal, examine
from harness.comparators.interface import Bounds, Examined
from harness.engines.interface import Engine
from harness.engines.plain import Plain
from harness.engines.select import choose
from harness.inspection import Kit, kit
from tests.conftest import Harness

pytestmark = pytest.mark.integration

IR = """define i32 @first(i32 %x) {
  %y = add i32 %x, 1
  ret i32 %y
}

define i32 @second(i32 %x) {
  ret i32 %x
}
"""
Assemble = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def tools() -> tuple[Engine, Kit]:
    return choose("sandbox")[0], kit(bitcode.NAME, print)


@pytest.fixture
def assemble(tools: tuple[Engine, Kit], tmp_path: Path) -> Assemble:
    """Text → bitcode. Both sides are made of a file of the same name, which goes into it."""

    def call(name: str, text: str) -> Path:
        tool = tools[1].definition.tools["as"]
        program = tools[1].environment.root / tool.path
        (tmp_path / "module.ll").write_text(text)
        out = tmp_path / name
        subprocess.run([program, "module.ll", "-o", out], cwd=tmp_path, check=True)
        return out

    return call


def read(left: Path, right: Path, tools: tuple[Engine, Kit]) -> Examined:
    assert is_bitcode(left, right)
    plainly = examine(left, right)
    return disassembled(left, right, lambda: tools, Bounds(), plainly)


def test_the_function_is_named(assemble: Assemble, tools: tuple[Engine, Kit]) -> None:
    left = assemble("a.bc", IR)
    found = read(left, assemble("b.bc", IR.replace("%x, 1", "%x, 2")), tools)
    assert [(part.kind, part.name) for part in found.parts] == [("function", "first")]
    assert found.format == "LLVM bitcode"
    assert found.notes == ("read as text by llvm-dis of llvm/22.1.8-xtc-x86_64",)


def test_a_wrapper_is_read_too(assemble: Assemble, tools: tuple[Engine, Kit]) -> None:
    def wrapped(path: Path) -> Path:
        data = path.read_bytes()
        path.write_bytes(struct.pack("<5I", 0x0B17C0DE, 0, 20, len(data), 0x01000007) + data)
        return path

    left = wrapped(assemble("a.bc", IR))
    found = read(left, wrapped(assemble("b.bc", IR.replace("%x, 1", "%x, 2"))), tools)
    assert [part.name for part in found.parts] == ["first"]


def test_a_difference_that_the_text_does_not_show_is_said(
    assemble: Assemble, tools: tuple[Engine, Kit]
) -> None:
    left = assemble("a.bc", IR)
    right = left.with_name("b.bc")
    right.write_bytes(left.read_bytes() + b"\0\0\0\0")
    found = read(left, right, tools)
    assert found.parts == ()
    assert not equal(found)
    assert "the bytes differ, but the text that llvm-dis makes of them does not" in found.notes


def test_what_llvm_dis_cannot_read_is_not_examined(
    assemble: Assemble, tools: tuple[Engine, Kit]
) -> None:
    left = assemble("a.bc", IR)
    right = left.with_name("b.bc")
    right.write_bytes(left.read_bytes()[:200])
    found = read(left, right, tools)
    assert found.parts, "the answer by bytes stays"
    assert found.notes[0].startswith("not examined: functions and globals: the right file: llvm-")
    right.write_bytes(b"BC\xc0\xde\x1b[31m garbage")
    assert read(left, right, tools).notes[0].startswith("not examined: ")


def test_without_an_engine_it_is_not_examined(
    assemble: Assemble, tools: tuple[Engine, Kit]
) -> None:
    left, right = assemble("a.bc", IR), assemble("b.bc", IR.replace("%x, 1", "%x, 2"))
    found = read(left, right, (Plain(), tools[1]))
    assert "isolates nothing" in found.notes[0]


def test_the_command(harness: Harness, assemble: Assemble) -> None:
    assemble("a.bc", IR)
    assemble("b.bc", IR.replace("%x, 1", "%x, 2"))
    done = harness("diff", "a.bc", "b.bc")
    assert done.code == 1
    assert "! function first: changed" in done.out
    assert harness("diff", "a.bc", "a.bc").code == 0
