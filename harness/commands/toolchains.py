"""`harness toolchains`: list, prepare, build and check them."""

from __future__ import annotations

import sys
from pathlib import Path
from platform import machine

import click
from rich.table import Table
from rich.text import Text

from harness import environments, images, pruning, toolchains
from harness.commands.common import Terminal, folder_option
from harness.engines.docker import Docker
from harness.packages import cache_folder
from harness.resolve import Options, folders


@click.group("toolchains")
def toolchains_group() -> None:
    """List, prepare and check toolchains."""


@toolchains_group.command("list")
@folder_option
def list_toolchains(extra: tuple[Path, ...]) -> None:
    """List all toolchains and what they are for."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("toolchain", "does", "target", "identity"):
        table.add_column(column, no_wrap=True)
    for name, definition in toolchains.load(folders(Options(toolchain_folders=extra))).items():
        tools = f"regenerates: {', '.join(definition.tools)}"
        does = "builds" if definition.driver else tools if definition.tools else "looks into files"
        target = definition.target.get("mcpu", "–")
        table.add_row(Text(name), Text(does), Text(target), definition.identity[:12])
    Terminal().print(table)


@toolchains_group.command()
@click.argument("names", nargs=-1)
@click.option("--force", is_flag=True, help="Make them anew.")
@folder_option
def prepare(names: tuple[str, ...], force: bool, extra: tuple[Path, ...]) -> None:
    """Make the environments of toolchains (default: all) from hash-checked packages."""
    known = toolchains.load(folders(Options(toolchain_folders=extra)))
    made = [n for n, d in known.items() if not (d.image and d.image.only) and d.arch == machine()]
    for name in names or made:
        environment = environments.prepare(
            toolchains.find(known, name), force=force, say=click.echo
        )
        click.echo(f"{name}  {environment.sha256[:12]}  {environment.root}")


@toolchains_group.command()
@click.option(
    "--days",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Keep what was used within so many days.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(days: int, dry_run: bool) -> None:
    """Remove from the cache what no run has used for a while: all of it is made again on demand."""
    total = 0
    for found in pruning.unused(cache_folder().absolute(), days):
        gone = dry_run or pruning.remove(found.path)
        total += found.size if gone else 0
        note = "" if gone else "  kept: in use"
        click.echo(f"{found.size / 1e6:8.0f} MB  {found.days} days  {found.path}{note}")
    click.echo(f"{'would free' if dry_run else 'freed'} {total / 1e6:.0f} MB")


@toolchains_group.command()
@click.argument("names", nargs=-1)
@click.option(
    "--base-image",
    "references",
    multiple=True,
    envvar="BASE_IMAGE",
    metavar="[BASE=]NAME@sha256:…",
    help="Your own base image instead of Debian's packages. Can be given several times.",
)
@click.option("--buildkit", is_flag=True, help="Build with BuildKit, by the docker command.")
@click.option("--again", is_flag=True, help="Make each base a second time and compare the bytes.")
@folder_option
def build(
    names: tuple[str, ...],
    references: tuple[str, ...],
    buildkit: bool,
    again: bool,
    extra: tuple[Path, ...],
) -> None:
    """Make the container images of toolchains (default: all) without a registry.

    What is there already is not made again.
    """
    known = toolchains.load(folders(Options(toolchain_folders=extra)))
    daemon = Docker().daemon()
    for text in references:
        base, _, reference = text.rpartition("=")
        click.echo(images.use_base(daemon, base or images.DEFAULT_BASE, reference))
    every = [name for name, d in known.items() if d.image and d.image.dockerfile]
    for name in names or every:
        definition = toolchains.find(known, name)
        image = images.ensure(daemon, definition, click.echo, buildkit)
        images.installed(daemon, definition, click.echo)
        click.echo(f"{name}  {image}")
    if again:
        found = [(base, *images.again(daemon, base)) for base in images.BASES]
        for base, first, second in found:
            click.echo(
                f"{base}  {'the same bytes' if first == second else 'OTHER BYTES'}  {second}"
            )
        sys.exit(any(first != second for _, first, second in found))


@toolchains_group.command()
@folder_option
def check(extra: tuple[Path, ...]) -> None:
    """Check every definition, lock and prepared environment. Makes nothing."""
    for name, definition in toolchains.load(folders(Options(toolchain_folders=extra))).items():
        state = "environment verified" if environments.verify(definition) else "not prepared yet"
        click.echo(f"{name}  ok, {state}")
