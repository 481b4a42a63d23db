"""Imports point one way, and what is called pure touches nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "harness").rglob("*.py"))
}
PURE = ("plan", "variations", "verdict", "models", "errors", "bisect", "text")
IMPURE = {
    "os", "io", "pathlib", "subprocess", "shutil", "socket", "sys", "tempfile", "time", "datetime",
    "threading", "multiprocessing", "asyncio", "secrets", "uuid", "glob", "fcntl", "signal",
    "platform", "urllib", "http", "ctypes", "logging", "importlib",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text("utf-8"))


def imports(module: str) -> Iterator[str]:
    """Dotted names of everything that a module imports, at its top or inside a function."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module: str) -> set[str]:
    """Which of our own modules it imports. A package's name alone counts only where it is used
    as a module of its own: ``from harness.x import y`` is not an import of ``harness``.
    """
    return {name for name in imports(module) if name in MODULES} - {"harness", module}


def pure() -> list[str]:
    named = [f"harness.{name}" for name in PURE]
    return [*named, *(name for name in MODULES if name.startswith("harness.normalizers"))]


def test_modules_are_found() -> None:
    assert {"harness.cli", "harness.audit", *pure()} <= MODULES.keys()
    assert "harness.audit" in ours("harness.commands.building")


@pytest.mark.parametrize("module", pure())
def test_what_is_pure_touches_nothing(module: str) -> None:
    assert not {name.partition(".")[0] for name in imports(module)} & IMPURE
    called = {
        node.func.id
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & IMPURE_CALLS
    assert all(inner in pure() for inner in ours(module)), ours(module)


def test_the_vocabulary_imports_nothing_of_ours() -> None:
    assert not ours("harness.models")
    assert not ours("harness.errors")


@pytest.mark.slow
def test_nothing_imports_the_command() -> None:
    for module in MODULES:
        if module != "harness.__main__":
            assert "harness.cli" not in ours(module), module
        if module != "harness.cli" and not module.startswith("harness.commands"):
            assert not any(name.startswith("harness.commands") for name in ours(module)), module


def test_only_the_command_and_what_resolves_for_it_import_the_story() -> None:
    users = {module for module in MODULES if "harness.audit" in ours(module)}
    assert users <= {
        "harness.commands.building",
        "harness.commands.compare",
        "harness.commands.releasing",
        "harness.diverging",
        "harness.pytest_plugin",
        "harness.redteam",
        "harness.resolve",
        "harness.signoff.publishing",
        "harness.signoff.signing",
        "harness.upgrading",
    }


def test_imports_point_one_way() -> None:
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " → ".join([*above[above.index(module) :], module])
        if module not in done:
            for inner in ours(module):
                visit(inner, (*above, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_one_file_starts_processes() -> None:
    users = {
        module
        for module in MODULES
        for name in imports(module)
        if name.partition(".")[0] in {"subprocess", "multiprocessing", "pty"}
    }
    assert users == {"harness.process"}
    # The launcher runs inside a build's own process, where it comes before the command.
    for module in MODULES.keys() - {"harness.process", "harness.engines.launcher"}:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                assert name not in {"os.system", "os.popen", "os.fork", "os.posix_spawn"}, module


def test_drivers_import_nothing_of_the_harness() -> None:
    scripts = [
        *(ROOT / "toolchains").rglob("driver.py"),
        *(ROOT / "toolchains").rglob("prepare.py"),
        *(ROOT / "toolchains").rglob("runner.py"),
        *(ROOT / "toolchains").rglob("start.py"),
        *(ROOT / "redteam" / "overlay").rglob("*.py"),
    ]
    assert scripts
    for path in scripts:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                found = [str(node.module)]
            assert not any(name.partition(".")[0] == "harness" for name in found), path
