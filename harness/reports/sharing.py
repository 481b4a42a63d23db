"""``harness independence``: what the toolchains of a run share, as tables of 100 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from harness.components import COMPILER, LLVM, NAMES
from harness.models import Independence, Origin
from harness.reports.terminal import independence_lines

CAUTION = (
    "Agreement between builds that share a component proves nothing about that component. "
    "Shares are of bytes that the runs opened, identical by content; a patched copy counts as "
    "another file. Publishers and compilers are claims."
)


def parts(independence: Independence) -> Iterator[RenderableType]:
    """Who is who, what each pair shares, and for each model how many independent builders."""
    yield _who(independence)
    for number, origin in enumerate(independence.origins, 1):
        yield from _details(number, origin)
    yield Text()
    yield _matrix(independence)
    yield Text("* counts as one builder of this component, by its publisher or by its bytes", "dim")
    yield from _facets(independence)
    yield _claims(independence)
    for model in dict.fromkeys(stage.model for stage in independence.stages):
        yield Text()
        yield Text(model, style="bold")
        yield from independence_lines(independence, model)
    yield Text()
    yield Text(CAUTION)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _who(independence: Independence) -> Table:
    table = _table("", "toolchain", "publisher", "arch", "compiler files")
    for number, origin in enumerate(independence.origins, 1):
        part = next(part for part in origin.components if part.name == COMPILER)
        how = "opened" if origin.measured else "installed"
        size = f"{part.files:,} {how}, {part.size / 2**20:,.0f} MiB"
        names = (str(number), origin.toolchain, origin.publisher, origin.arch, size)
        table.add_row(*map(Text, names))
    return table


def _details(number: int, origin: Origin) -> Iterator[RenderableType]:
    if not origin.measured:
        yield Text(f"{number}: all installed files stand for those opened: {origin.reason}", "dim")


def _matrix(independence: Independence) -> Table:
    number = {o.toolchain: str(n) for n, o in enumerate(independence.origins, 1)}
    table = _table("pair", "all bytes", *NAMES)
    for pair in independence.pairs:
        shares = [
            f"{percent(pair.components[name])}{' *' if name in pair.same_builder else ''}"
            for name in NAMES
        ]
        which = f"{number[pair.left]} – {number[pair.right]}"
        table.add_row(which, percent(pair.bytes_shared), *shares)
    return table


def _facets(independence: Independence) -> Iterator[RenderableType]:
    """What is equal, once for all pairs that share the same things."""
    number = {o.toolchain: str(n) for n, o in enumerate(independence.origins, 1)}
    groups: dict[tuple[str, ...], list[str]] = {}
    for pair in independence.pairs:
        groups.setdefault(pair.facets, []).append(f"{number[pair.left]}–{number[pair.right]}")
    for facets, pairs in groups.items():
        words = ", ".join(facets) or "nothing of what was looked at"
        yield Text(f"{' '.join(pairs)} have in common: {words}")


def _claims(independence: Independence) -> Table:
    """What lies below the toolchains, and what their LLVMs say of themselves: who says the same."""
    table = _table("", "same in")
    groups: dict[str, list[str]] = {}
    for number, origin in enumerate(independence.origins, 1):
        llvm = next(part for part in origin.components if part.name == LLVM)
        lines = [f"base {origin.base}", f"Python {origin.python}"]
        lines += [f"LLVM {version}" for version in llvm.llvm]
        lines += [f"LLVM's files built by {maker}" for maker in llvm.built_by]
        for line in lines:
            groups.setdefault(line, []).append(str(number))
    for line in sorted(groups):
        table.add_row(Text(line), Text(" ".join(groups[line])))
    return table


def percent(share: float) -> str:
    """Rounded towards the middle: 100 % and 0 % are said only where they are exact."""
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{min(max(share * 100, 0.1), 99.9):.1f}%"
