"""``llvm-evaluation-order`` against a real LLVM, which prints the canonical form as we do."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import environments, toolchains
from harness.normalizers import NORMALIZERS
from harness.normalizers.llvm_function import COMPUTING
from harness.process import run

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "toolchains" / "explanations" / "tvm-evaluation-order"
LLVM = "llvm/22.1.8-xtc-x86_64"
HOSTS = ("x86_64", "aarch64")


@pytest.fixture(scope="module")
def llvm() -> dict[str, str]:
    toolchain = toolchains.find(toolchains.load([ROOT / "toolchains"]), LLVM)
    root = environments.prepare(toolchain).root
    return {name: str(root / tool.path) for name, tool in toolchain.tools.items()}


def canonical(text: bytes) -> bytes:
    for name in ("llvm-tbaa-names", "llvm-evaluation-order", "llvm-tbaa-names"):
        text = NORMALIZERS[name].normalize(text).data
    return text


def reprinted(llvm: dict[str, str], text: bytes, folder: Path) -> bytes:
    """The text through LLVM's own reader, verifier and printer."""
    source, code, result = (folder / name for name in ("in.ll", "code.bc", "out.ll"))
    source.write_bytes(text)
    for command in (
        [llvm["as"], str(source), "-o", str(code)],
        [llvm["opt"], "-passes=verify", str(code), "-o", str(code)],
        [llvm["dis"], str(code), "-o", str(result)],
    ):
        done = run(command, timeout=60)
        assert done.exit_code == 0, done.output
    return result.read_bytes().replace(str(code).encode(), b"TVMMod")


@pytest.mark.parametrize("host", HOSTS)
def test_llvm_prints_the_canonical_form_as_it_is(
    host: str, llvm: dict[str, str], tmp_path: Path
) -> None:
    """So the order is legal, and values and metadata are numbered as LLVM itself numbers them."""
    form = canonical((ASSETS / f"{host}.ll").read_bytes())
    assert reprinted(llvm, form, tmp_path) == form


def test_both_hosts_meet_after_llvm_read_them(llvm: dict[str, str], tmp_path: Path) -> None:
    left, right = (
        reprinted(llvm, (ASSETS / f"{host}.ll").read_bytes(), tmp_path) for host in HOSTS
    )
    assert left != right
    assert canonical(left) == canonical(right)


def test_llvm_itself_says_that_these_intrinsics_only_compute(
    llvm: dict[str, str], tmp_path: Path
) -> None:
    """Whatever a module declares: LLVM's own table replaces it, as the proof relies on."""
    lines = []
    for place, name in enumerate(name.decode() for name in COMPUTING):
        kind = "i32" if name[1:] in ("min", "max") else "float"
        suffix = "i32" if kind == "i32" else "f32"
        count = 3 if name.startswith("fm") else 2 if place >= COMPUTING.index(b"pow") else 1
        arguments = ", ".join([kind] * count)
        lines.append(f"declare {kind} @llvm.{name}.{suffix}({arguments}) #0")
    text = "\n".join([*lines, "", "attributes #0 = { noreturn memory(readwrite) }", ""])
    printed = reprinted(llvm, text.encode(), tmp_path).decode()
    groups = [line for line in printed.split("\n") if line.startswith("attributes ")]
    assert printed.count("declare ") == len(COMPUTING)
    assert groups
    for group in groups:
        assert "noreturn" not in group
        for word in ("nounwind", "speculatable", "willreturn", "memory(none)"):
            assert word in group
