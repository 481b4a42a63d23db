"""Every parser of something that a toolchain or a user writes: its name, its seeds, its properties.

A target takes any bytes. It returns, or raises: :class:`tests.fuzz.holds.Broken` where a property
does not hold, and any other error where the parser raised what it does not document. Hypothesis
(``tests/unit/test_fuzz.py``) and atheris (``tests/fuzz/atheris_run.py``) run the same targets.

A comparator reads two files. An input with SPLIT in it is both; any other is held against the
target's first seed, on either side.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from harness import (
    build,
    components,
    distributions,
    ledger,
    lockfile,
    modelfile,
    opened,
    origins,
    packages,
    plan,
    records,
    replay,
    sbom,
    settings,
    sources,
    toolchains,
)
from harness.comparators.archive import Archive
from harness.comparators.elf import Elf
from harness.comparators.examine import comparators, equal, examine, kind_of
from harness.comparators.interface import Comparator, Examined, NotThisFormatError
from harness.comparators.llvm_ir import LlvmIr
from harness.comparators.onnx_model import OnnxModel
from harness.comparators.script import Script
from harness.comparators.tensor import ELEMENTS, Tensor
from harness.errors import HarnessError, ModelError, StoreError, ToolchainError, UsageError
from harness.models import Limits, Report
from harness.normalizers import NORMALIZERS
from harness.reports.html import HtmlReporter
from harness.reports.junit import JunitReporter
from harness.reports.markdown import MarkdownReporter
from harness.reports.sarif import SarifReporter
from harness.reports.terminal import TerminalReporter
from harness.text import MARK, printable
from harness.variations import control
from tests.fuzz import accounting, seeds, signoff
from tests.fuzz import normalizers as held
from tests.fuzz.holds import BOUNDS, answer, claim, only, safe
from tests.unit.samples import MODEL, toolchain

SPLIT = b"\xff\n<<<and>>>\n\xff"
TODAY = datetime.date(2026, 11, 23)


@dataclass(frozen=True)
class Target:
    """``reads``: where the parser is, for the reader; ``seeds``: valid inputs, small."""

    reads: str
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


@cache
def folder() -> Path:
    """A private folder of this process, for parsers that read files."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def written(name: str, data: bytes) -> Path:
    path = folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# Comparators -------------------------------------------------------------------------------------


def pairs(base: bytes, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    one, split, other = data.partition(SPLIT)
    if split:
        yield one, other
    else:
        yield base, data
        yield data, base


def compared(comparator: Comparator, base: bytes, data: bytes) -> None:
    """A comparator by itself: the documented refusal, or an answer."""
    for left, right in pairs(base, data):
        try:
            found = comparator.examine(written("left", left), written("right", right), BOUNDS)
        except NotThisFormatError as reason:
            safe(printable(str(reason), 300), "a reason")
            continue
        answer(found)
        check_sameness(found, left == right)


def check_sameness(found: Examined, same: bool) -> None:
    """Equal bytes have no differing part. The other way round is :func:`examined`'s to say."""
    if same:
        claim(not found.parts, "equal bytes have parts that differ")


def examined(base: bytes, data: bytes) -> None:
    """The way that ``harness diff A B`` goes: never a refusal, a fault, or equal for unequal."""
    for left, right in pairs(base, data):
        found = examine(written("left", left), written("right", right), BOUNDS)
        answer(found)
        claim(equal(found) == (left == right), "equal and unequal bytes are taken for each other")
        for note in found.notes:
            claim("fault of the harness" not in note, note)
        list(comparators(kind_of(left[:65536]), kind_of(right[:65536])))


def tensors(element: str, data: bytes) -> None:
    with contextlib.suppress(NotThisFormatError):
        for left, right in pairs(bytes(64), data):
            paths = written("left", left), written("right", right)
            found = Tensor(element).examine(*paths, BOUNDS)
            answer(found)
            claim(equal(found) == (left == right), "equal and unequal bytes are taken for another")


# Files with a form -------------------------------------------------------------------------------


def model(data: bytes) -> None:
    for inputs in ({}, {"x": (2, 2)}):
        with only(ModelError):
            found = modelfile.check_model(written("m.onnx", data), inputs)
            claim(all(size > 0 for shape in found.inputs.values() for size in shape), "a shape")


def manifest(data: bytes) -> None:
    out = folder() / "out"
    for name in ("graph/module.py", "object/a.o"):
        written(f"out/{name}", b"")
    written("out/manifest.json", data)
    asked = plan.Build(MODEL, toolchain(), control())
    with only(build.MalformedOutputError):
        found = build.read_manifest(out, asked, Limits())
        listed = {f"{stage.name}/{name}" for stage in found.stages for name in stage.artifacts}
        claim(listed == {"graph/module.py", "object/a.o"}, "a manifest with other files")


def said(data: bytes) -> None:
    safe(build.last_lines(data), "what a build printed", newlines=True)


def makers(data: bytes) -> None:
    found = origins.makers(written("library.so", data))
    for text in (*found.built_by, *found.llvm) if found else ():
        safe(text, "a maker")


def lock(data: bytes) -> None:
    with only(ToolchainError):
        path = written("some.lock", data)
        pinned = lockfile.parse_lock(path)
        hashes = lockfile.hashes_of(path)
        claim({name for name, _ in hashes} == set(pinned), "two readings of a lock")
        claim(all(hashes.values()), "a package without a hash")


def toml(load: Callable[[Path], object], name: str, error: type[Exception], data: bytes) -> None:
    with only(error):
        load(written(name, data))


def definition(path: Path) -> None:
    toolchains.load([path.parent.parent])


def cases(path: Path) -> None:
    from harness.fixtures import _ADAPTER
    from harness.tomlfile import read_toml

    read_toml(path, _ADAPTER, UsageError)


def recipes(path: Path) -> None:
    tools = toolchain(opt="bin/opt", llc="bin/llc")
    for recipe in replay.load_recipes(path.parent):
        lines = replay.command_lines(recipe, tools, tools.target, "/root", "/in", "/out")
        size = sum(len(word) for line in lines for word in line)
        asked = sum(len(word) for step in recipe.steps for word in step)
        claim(size <= 40 * asked + 1000, f"{asked} characters of a recipe become {size}")


def entries(path: Path) -> None:
    for entry in ledger.load(path, TODAY).entries:
        claim(entry.expires <= TODAY + ledger.LONGEST, "an entry that expires too late")
        claim(bool(entry.owner.strip()), "an entry without an owner")
        safe(entry.reason, "a reason")


def report(data: bytes) -> None:
    with only(StoreError):
        found = records.load_report(written("report.json", data))
        rendered(found)
        again = records.load_report(written("again.json", records.dump_report(found)))
        claim(again == found, "a report that is not what it was when written")


def rendered(found: Report) -> None:
    """Whatever a report holds, every form of it comes out, and none acts on what shows it."""
    safe(TerminalReporter().render(found), "the terminal's report", newlines=True)
    safe(MarkdownReporter().render(found), "the summary", newlines=True)
    safe(JunitReporter().render(found), "the JUnit report", newlines=True)
    SarifReporter().render(found)
    safe(HtmlReporter().render(found), "the page", newlines=True)


def record(data: bytes) -> None:
    with only(StoreError):
        records.load_build(written("build.json", data))


def listing(data: bytes) -> None:
    found = opened.load(data)
    if found is not None:
        claim(opened.load(opened.dump(found)) == found, "a listing that does not come back")


def debian(data: bytes) -> None:
    written("image/var/lib/dpkg/status", data)
    for package in sbom.debian_packages(folder() / "image"):
        for text in package:
            safe(text, "a package")


def recorded(data: bytes) -> None:
    root = folder() / "site"
    name = "tvm-0.27.0.dist-info/RECORD"
    written(f"site/{name}", data)
    installed = {name: ("0" * 64, len(data)), "tvm/__init__.py": ("1" * 64, 0)}
    for found in distributions.distributions(root, installed):
        safe(found.name, "a distribution")
        safe(found.version, "a version")
    distributions.owners(root, installed)


def system(data: bytes) -> None:
    written("root/etc/os-release", data)
    safe(components.os_name(folder() / "root"), "a system's name")


def pip(data: bytes) -> None:
    for text in packages.distil(data.decode("utf-8", "replace")):
        safe(text, "what pip said")


def shape(data: bytes) -> None:
    with only(UsageError):
        _, found = sources.parse_input(data.decode("utf-8", "replace"))
        claim(bool(found) and min(found) > 0, "an empty shape")


def shown(data: bytes) -> None:
    for newlines in (False, True):
        for limit in (len(MARK), 80, 4000):
            found = printable(data, limit, newlines=newlines)
            safe(found, "printable text", newlines=newlines)
            claim(len(found) <= limit, "printable text is too long")
            text = data.decode("utf-8", "replace")
            safe(printable(text, limit, newlines=newlines), "printable text", newlines=newlines)


# The registry ------------------------------------------------------------------------------------


def against(comparator: Comparator, found: tuple[bytes, ...]) -> Target:
    reads = f"harness.comparators: {comparator.format}"
    return Target(reads, partial(compared, comparator, found[0]), found)


def of_toml(
    reads: str, load: Callable[[Path], object], name: str, error: type[HarnessError], *globs: str
) -> Target:
    return Target(reads, partial(toml, load, name, error), seeds.shipped(*globs))


def targets() -> dict[str, Target]:
    ir = (seeds.IR, *seeds.shipped("explanations/*/*.ll"))
    scripts = (seeds.SCRIPT, seeds.MLIR)
    texts = seeds.shipped("explanations/*/*.txt")
    anything = (
        seeds.IR, *seeds.elves(), *scripts, *seeds.models(), *seeds.packed(), seeds.SAID,
    )  # fmt: skip
    found = {
        "elf": against(Elf(), seeds.elves()),
        "llvm-ir": against(LlvmIr(), ir),
        "script": against(Script(), scripts),
        "onnx": against(OnnxModel(), seeds.models()),
        "archive": against(Archive(), seeds.packed()),
        "examine": Target(
            "harness.comparators.examine", partial(examined, seeds.IR), anything
        ),
        "examine-elf": Target(
            "harness.comparators.examine", partial(examined, seeds.elves()[1]), seeds.elves()
        ),
        "examine-script": Target(
            "harness.comparators.examine", partial(examined, seeds.SCRIPT), scripts
        ),
        "examine-archive": Target(
            "harness.comparators.examine", partial(examined, seeds.packed()[0]), seeds.packed()
        ),
        "examine-onnx": Target(
            "harness.comparators.examine", partial(examined, seeds.models()[0]), seeds.models()
        ),
        "examine-data": Target(
            "harness.comparators.examine", partial(examined, seeds.SAID * 20), (seeds.SAID * 20,)
        ),
        "model": Target("harness.modelfile", model, seeds.models()),
        "manifest": Target("harness.build.read_manifest", manifest, (seeds.manifest(),)),
        "output": Target("harness.build.last_lines", said, (seeds.SAID,)),
        "makers": Target("harness.origins", makers, seeds.elves()),
        "lock": Target("harness.lockfile", lock, seeds.shipped("*/*.lock")),
        "settings": Target(
            "harness.settings", partial(toml, settings.load, "nightly.toml", UsageError),
            ((seeds.ROOT / "nightly.toml").read_bytes(),),
        ),
        "toolchain": of_toml(
            "harness.toolchains", definition, "defs/tvm/1-a-x86_64.toml", ToolchainError,
            "tvm/[0-9]*.toml", "llvm/[0-9]*.toml",
        ),
        "recipes": of_toml(
            "harness.replay", recipes, "replay.toml", ToolchainError, "tvm/replay.toml"
        ),
        "ledger": of_toml(
            "harness.ledger.load", entries, "explanations.toml", UsageError, "explanations.toml"
        ),
        "cases": of_toml(
            "harness.fixtures", cases, "cases.toml", UsageError, "explanations/*/cases.toml"
        ),
        "report": Target("harness.records, harness.reports", report, seeds.reports()),
        "record": Target("harness.records", record, seeds.builds()),
        "opened": Target("harness.opened", listing, seeds.listings()),
        "dpkg": Target("harness.sbom.debian_packages", debian, (seeds.DPKG,)),
        "wheel-record": Target("harness.distributions", recorded, (seeds.RECORD,)),
        "os-release": Target("harness.components.os_name", system, (seeds.OS_RELEASE,)),
        "pip": Target("harness.packages.distil", pip, (seeds.PIP,)),
        "shape": Target("harness.sources.parse_input", shape, (b"x=1x3x48x192", b"a=b=1")),
        "printable": Target("harness.text", shown, (seeds.SAID, "é\u202e\U000e0001".encode())),
        "lines": Target("harness.normalizers.llvm_text", held.lines, ir),
        "explain": Target("harness.ledger.explain", partial(held.explained, ir[0]), ir),
    }  # fmt: skip
    for element in ("", *sorted(ELEMENTS)):
        name = f"tensor-{element or 'bytes'}"
        seed = (bytes(range(64)), bytes(64))
        found[name] = Target("harness.comparators.tensor", partial(tensors, element), seed)
    for name in NORMALIZERS:
        text = texts if name.startswith("tvm-") else ir
        found[name] = Target("harness.normalizers", partial(held.normalized, name), text)
    for more in (accounting, signoff):
        found |= {name: Target(*each) for name, each in more.targets().items()}
    return found


TARGETS = targets()
