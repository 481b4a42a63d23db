"""The container engine against commands that mean harm, and against a daemon that goes away.

Needs a Docker engine. `make images` makes what these tests run in; they make it if it is missing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import images, settings, toolchains
from harness.engines.container import OWNER
from harness.engines.daemon import Daemon
from harness.engines.docker import FILE_ORDER, Docker, remove_orphans
from harness.engines.interface import Mount, RunOutcome, RunResult, RunSpec
from harness.errors import EngineError
from harness.process import Interrupted, descendants, kill_all
from harness.sources import fetch
from tests.conftest import CLEAN, ROOT, Harness
from tests.integration.test_engines import LIMITS, VARIED, remaining, said, spec_for, written

pytestmark = pytest.mark.integration

# What Docker's default seccomp filter and its file systems leave open.
HERE = replace(VARIED, aslr=True, file_order=0)


@pytest.fixture(scope="module")
def engine() -> Docker:
    found = Docker()
    status = found.status()
    if not status.works:
        pytest.skip(f"no Docker engine: {status.reason}")
    return found


@pytest.fixture(scope="module")
def image(engine: Docker) -> str:
    return images.ensure_base(engine.daemon(), images.DEFAULT_BASE)


@pytest.fixture
def place(engine: Docker, tmp_path: Path) -> Iterator[Path]:
    before = mine(engine.daemon())
    yield tmp_path
    assert mine(engine.daemon()) == before  # every container is removed, however its run ended


def mine(daemon: Daemon) -> set[str]:
    return {str(container["Id"]) for container in daemon.labelled(OWNER)}


Run = Callable[..., RunResult]


@pytest.fixture
def run(engine: Docker, image: str, place: Path) -> Run:
    def call(code: str, **changes: Any) -> RunResult:
        return engine.run(spec(engine, image, place, code, **changes))

    return call


def spec(engine: Docker, image: str, place: Path, code: str, **changes: Any) -> RunSpec:
    made = spec_for(engine, place, code, **{"variation": HERE, **changes})
    return replace(made, image=image)


# What a run gets


def test_output_exit_code_and_numbers(run: Run, place: Path) -> None:
    burn = "while time.process_time() < 0.3: pass\n"
    code = burn + "x = b'x' * 60_000_000; open(OUT + '/a', 'w').write('1'); print('done')"
    result = run(code)
    assert said(result) == "done"
    assert (place / "out0" / "a").read_text() == "1"
    assert [path.name for path in (place / "out0").iterdir()] == ["a"]
    assert result.cpu_seconds >= 0.3
    assert result.peak_memory_bytes >= 60_000_000
    assert run("sys.exit(3)").exit_code == 3


def test_a_signal_of_its_own_is_no_limit(run: Run) -> None:
    result = run("os.kill(os.getpid(), signal.SIGABRT)")
    assert (result.outcome, result.exit_code) == (RunOutcome.SIGNALLED, -signal.SIGABRT)


def test_every_variation_is_applied(run: Run) -> None:
    code = (
        "u = os.umask(0); import pwd\n"
        "print(os.environ['PYTHONHASHSEED'], os.getcwd(), os.environ['HOME'], os.uname()[1],\n"
        "  os.getuid(), os.getgid(), pwd.getpwuid(os.getuid())[0], os.environ['LC_ALL'],\n"
        "  time.strftime('%H%z', time.localtime(0)), oct(u), len(os.sched_getaffinity(0)),\n"
        "  os.environ['COLOUR'], abs(time.time() - 1111111111) < 5, sep='|')\n"
    )
    result = run(code)
    assert said(result) == (
        "4242|/somewhere/deep/build|/home/somebody|elsewhere|4321|1234|somebody|C.UTF-8"
        "|09+0900|0o27|1|green|True"
    )
    assert result.not_applied == {}
    assert result.observed["host_name"] == "elsewhere"


def test_what_a_container_cannot_vary_is_named(run: Run) -> None:
    result = run("", variation=VARIED)
    assert set(result.not_applied) <= {"aslr", "file-order"}
    assert result.not_applied["file-order"] == FILE_ORDER


def test_an_image_that_is_not_here_is_said(engine: Docker, place: Path) -> None:
    result = engine.run(spec(engine, f"sha256:{'0' * 64}", place, ""))
    assert result.outcome is RunOutcome.NOT_STARTED
    assert "make images" in result.detail


# Escapes


def test_the_network_is_unreachable(run: Run) -> None:
    code = (
        "import socket\n"
        "print(open('/proc/net/dev').read().count(':'))\n"
        "for address in ('192.0.2.1', '172.17.0.1'):\n"
        "    try: socket.create_connection((address, 80), 5)\n"
        "    except OSError as e: print(e.errno)\n"
        "try: socket.getaddrinfo('example.org', 80)\n"
        "except OSError: print('unresolved')\n"
    )
    assert said(run(code)).split() == ["1", "101", "101", "unresolved"]


def test_host_files_and_the_store_are_unseen(run: Run, place: Path) -> None:
    (place / "store").mkdir()
    (place / "store" / "object").write_text("secret")
    code = f"print(os.path.exists({str(place)!r}), os.path.exists('/proc/1/root/{place}'))\n"
    assert said(run(code + "print(os.listdir('/home'))")) == "False False\n['somebody']"


def test_there_is_no_socket_to_the_daemon(run: Run) -> None:
    code = (
        "import socket\n"
        "for path in ('/var/run/docker.sock', '/run/docker.sock', '/run/containerd'):\n"
        "    try: socket.socket(socket.AF_UNIX).connect(path)\n"
        "    except OSError as e: print(e.errno)\n"
    )
    assert said(run(code)).split() == ["2", "2", "2"]


def test_other_containers_are_unseen(engine: Docker, image: str, place: Path, run: Run) -> None:
    other = spec(engine, image, place, "open(OUT + '/on', 'w'); time.sleep(3)")
    thread = threading.Thread(target=engine.run, args=(other,))
    thread.start()
    while not (other.out / "on").exists():
        time.sleep(0.02)
    seen = said(run("print(len([n for n in os.listdir('/proc') if n.isdigit()]))"))
    assert seen == "2"  # the launcher and itself
    thread.join()


def test_only_the_output_can_be_written(run: Run, place: Path) -> None:
    tools = place / "tools"
    tools.mkdir()
    (tools / "driver").write_text("clean")
    mounts = (Mount(tools, "/env"), Mount(tools, "/in", spread=True))
    code = (
        "paths = ['/env/driver', '/env/new', '/in/driver', '/in/new', '/usr/new', '/etc/passwd',\n"
        "  '/etc/hosts', '/.harness/launcher.py', '/new', '/dev/new', '/var/tmp/new', '/run/new',\n"
        "  '/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/sys/kernel/uevent_helper',\n"
        "  '/toolchain/new', '/out/new', '/tmp/new', os.getcwd() + '/new',\n"
        "  os.environ['HOME'] + '/new', '/dev/shm/new', '/dev/null']\n"
        "for path in paths:\n"
        "    try: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)); print(path)\n"
        "    except OSError: pass\n"
    )
    allowed = ["/out/new", "/tmp/new", f"{HERE.build_path}/new", f"{HERE.home}/new"]
    assert said(run(code, mounts=mounts)).split() == [*allowed, "/dev/shm/new", "/dev/null"]
    assert (tools / "driver").read_text() == "clean"


def test_no_privilege_is_left(run: Run) -> None:
    code = (
        "lines = [l.split() for l in open('/proc/self/status')]\n"
        "print(*[l[1] for l in lines if l[0].startswith(('Cap', 'NoNewPrivs', 'Seccomp:'))])\n"
        "import ctypes; libc = ctypes.CDLL(None)\n"
        "print(libc.unshare(0x10000000), libc.mount(b'x', b'/tmp', b'tmpfs', 0, None))\n"
        "print(libc.ptrace(16, 1, 0, 0), libc.setuid(0))"
    )
    zero = "0" * 16
    assert said(run(code)).split() == [*([zero] * 5), "1", "2", *(["-1"] * 4)]


def test_the_report_pipe_is_closed_to_the_command(run: Run) -> None:
    code = (
        "print(*sorted(os.listdir('/proc/self/fd')), *os.listdir(OUT))\n"
        "try: os.open('/proc/1/fd/100', os.O_WRONLY)\n"
        "except OSError: print('closed')"
    )
    real_clock = replace(HERE, clock=None)  # libfaketime keeps a file of its own open
    assert said(run(code, variation=real_clock)).split() == ["0", "1", "2", "3", "closed"]


def test_the_environment_is_only_what_was_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    shown = said(run("print(*os.environ, os.environ['COLOUR'])")).split()
    assert "SECRET_TOKEN" not in shown
    assert "green" in shown


# Limits

TOO_MUCH = {
    "time": ("time.sleep(10000)", RunOutcome.TIMED_OUT),
    "processes": (
        "while True:\n    try: os.fork()\n    except OSError: pass",
        RunOutcome.TOO_MANY_PROCESSES,
    ),
    "memory": (
        "x = []\nwhile True: x.append(bytearray(8 << 20))",
        RunOutcome.TOO_MUCH_MEMORY,
    ),
    "memory of many processes": (
        "for _ in range(8):\n    if os.fork() == 0: break\nx = b'x' * (40 << 20)\ntime.sleep(100)",
        RunOutcome.TOO_MUCH_MEMORY,
    ),
    "temporary files": (
        "for d in ('/tmp', os.getcwd(), os.environ['HOME'], '/dev/shm'):\n"
        "    for i in range(1000):\n"
        "        try: open(f'{d}/{i}', 'wb').write(b'x' * (4 << 20))\n"
        "        except OSError: break\n"
        "x = b'x' * (100 << 20)\ntime.sleep(100)",
        RunOutcome.TOO_MUCH_MEMORY,
    ),
    "disk": (
        "for i in range(1024): open(f'{OUT}/{i}', 'wb').write(b'x' * (5 << 20)); time.sleep(0.02)",
        RunOutcome.TOO_MUCH_OUTPUT,
    ),
    "one file": (
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "f = open(OUT + '/big', 'wb')\nwhile True: f.write(b'x' * (1 << 20))",
        RunOutcome.TOO_MUCH_OUTPUT,
    ),
    "files": ("for i in range(100000): os.mkdir(f'{OUT}/{i}')", RunOutcome.TOO_MANY_FILES),
    "print": ("while True: os.write(1, b'x' * 65536)", RunOutcome.TIMED_OUT),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_more_than_allowed_ends_the_run(run: Run, place: Path, what: str) -> None:
    code, expected = TOO_MUCH[what]
    short = replace(LIMITS, wall_seconds=3 if expected is RunOutcome.TIMED_OUT else 60)
    result = run(code, limits=short)
    assert result.outcome is expected, (result.outcome, result.detail, result.output[-500:])
    assert len(result.output) <= 65536
    assert written(place) < 2**30


def test_a_container_killed_for_memory_says_so(run: Run) -> None:
    # Faster than the watchdog looks: only the kernel can end this.
    code = (
        "x = bytearray(150 << 20)\nif os.fork() == 0: x = bytearray(b'y') * (149 << 20)\nos.wait()"
    )
    result = run(code)
    assert result.outcome is RunOutcome.TOO_MUCH_MEMORY
    assert result.peak_memory_bytes >= LIMITS.memory_bytes


def test_a_full_disk_ends_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.engines.watch.MIN_FREE_BYTES", 2**60)
    result = run("time.sleep(20)")
    assert result.outcome is RunOutcome.TOO_MUCH_OUTPUT
    assert "are free where output is written" in result.detail


# Ends


def test_kill_all_ends_a_run_in_another_thread(engine: Docker, image: str, place: Path) -> None:
    caught: list[BaseException] = []
    wanted = spec(engine, image, place, "open(OUT + '/on', 'w'); time.sleep(99)")

    def work() -> None:
        try:
            engine.run(wanted)
        except Interrupted as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not (wanted.out / "on").exists():
        time.sleep(0.02)
    kill_all()
    thread.join()
    assert len(caught) == 1


def test_orphans_of_a_killed_harness_are_removed_and_no_others(
    engine: Docker, image: str, place: Path
) -> None:
    daemon = engine.daemon()
    before = mine(daemon)
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.integration.test_docker import Docker, spec\n"
        "engine = Docker()\n"
        'code = \'open(OUT + "/on", "w"); time.sleep(99)\'\n'
        "engine.run(spec(engine, sys.argv[1], Path(sys.argv[2]), code))\n"
    )
    own = place / "own"
    own.mkdir()
    harness = subprocess.Popen([sys.executable, "-c", program, image, str(own)], cwd=ROOT)
    while not (own / "out0" / "on").exists():
        assert harness.poll() is None
        time.sleep(0.02)
    live = mine(daemon) - before
    foreign = daemon.create(
        {"Image": image, "Cmd": ["true"], "Labels": {OWNER: "a stranger's"}}, None
    )
    try:
        remove_orphans(daemon)
        assert mine(daemon) - before == live | {foreign}  # its harness is alive
        harness.kill()
        harness.wait()
        remove_orphans(daemon)
        assert mine(daemon) - before == {foreign}
    finally:
        daemon.remove(foreign)


def test_without_a_daemon_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    status = Docker().status()
    assert not status.works
    assert "does not answer" in status.reason
    assert "start the daemon" in status.hint


def end_shims(place: str) -> None:
    """End what a killed daemon below ``place`` left running, and with it its containers."""
    for shim in remaining(place):
        for pid in (*descendants(shim), shim):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def own_daemon(engine: Docker, image: str, tmp_path: Path) -> Iterator[Callable[[], int]]:
    """Starts a Docker daemon of this test's own, with the base image in it; returns its pid."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a Docker daemon of its own")
    short = Path(tempfile.mkdtemp(prefix="dockerd-"))  # a socket's path must be short
    started: list[subprocess.Popen[bytes]] = []

    def start() -> int:
        for each in started:
            each.wait(10)  # its pid file counts as long as its process id is taken
        end_shims(str(short))
        command = ["dockerd", "--bridge=none", "--iptables=false", f"--host=unix://{short}/s"]
        command += [
            f"--data-root={short}/data",
            f"--exec-root={short}/x{len(started)}",
            f"--pidfile={short}/pid",
        ]
        with (short / "log").open("ab") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        for _ in range(200):
            if (
                subprocess.run(
                    ["curl", "-sf", "--unix-socket", f"{short}/s", "http://d/_ping"],
                    capture_output=True,
                    check=False,
                ).returncode
                == 0
            ):
                return started[-1].pid
            time.sleep(0.1)
        raise AssertionError((short / "log").read_text()[-3000:])

    os.environ["DOCKER_HOST"], before = f"unix://{short}/s", os.environ.get("DOCKER_HOST")
    try:
        yield start
    finally:
        if before is None:
            del os.environ["DOCKER_HOST"]
        else:
            os.environ["DOCKER_HOST"] = before
        for each in started:
            each.terminate()
            each.wait(60)
        end_shims(str(short))
        for mount in sorted(Path("/proc/self/mounts").read_text().split("\n"), reverse=True):
            if str(short) in mount:
                subprocess.run(["umount", "-l", mount.split()[1]], check=False)
        subprocess.run(["rm", "-rf", str(short)], check=False)


def test_a_daemon_that_dies_in_the_middle_is_no_answer_and_the_next_run_goes_on(
    engine: Docker, image: str, own_daemon: Callable[[], int], tmp_path: Path
) -> None:
    with tempfile.NamedTemporaryFile(suffix=".tar") as layer:
        engine.daemon().copy_out(image, "/", layer)  # type: ignore[arg-type]
        layer.flush()
        archive = tmp_path / "image.tar"
        tag = images.base_tag(images.DEFAULT_BASE)
        images.pack(images.BASES[images.DEFAULT_BASE], Path(layer.name), tag, archive)
    pid = own_daemon()
    other = Docker()
    other.daemon().load(archive)
    place = tmp_path / "place"
    place.mkdir()
    wanted = spec(other, tag, place, "open(OUT + '/on', 'w'); time.sleep(60)")
    caught: list[EngineError] = []

    def work() -> None:
        try:
            other.run(wanted)
        except EngineError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not (wanted.out / "on").exists():
        assert thread.is_alive()
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    thread.join(30)
    assert "does not answer" in caught[0].what
    assert "run again" in caught[0].hint

    own_daemon()
    assert said(Docker().run(spec(Docker(), tag, place, "print('again')"))) == "again"


# Toolchains


def test_one_toolchain_makes_the_same_bytes_in_both_engines(
    harness: Harness, small: Callable[..., Path], engine: Docker
) -> None:
    found = []
    for name in ("sandbox", "docker"):
        options = ("--engine", name, "--toolchain", CLEAN[0], "--json")
        done = harness("run", small(), "--input", "x=2x8", *options, timeout=900)
        assert done.code == 0, done.err
        assert done.report["isolation"] == {"sandbox": "namespaces", "docker": "container"}[name]
        build = done.report["builds"][0]
        assert build["variation"]["name"] == "control"
        found.append({f"{a['stage']}/{a['name']}": a["sha256"] for a in build["artifacts"]})
        if name == "docker":
            assert build["host"]["image"] == f"sha256:{build['environment_sha256']}"
    differing = {name for name in found[0] if found[0][name] != found[1].get(name)}
    # Heap addresses name TBAA nodes: these two differ in every process, in whatever engine.
    assert differing <= {"llvm-unoptimized/module.ll", "llvm/module.ll"}
    assert found[0].keys() == found[1].keys()


DRIVER = """
import hashlib, json, os, runpy, sys
request = json.load(open(sys.argv[1]))
compiler = runpy.run_path("/opt/toy/compiler.py")
os.makedirs(request["out"] + "/object")
with open(request["out"] + "/object/model.bin", "wb") as file:
    file.write(compiler["build"](open(request["model"], "rb").read()))
with open(request["out"] + "/manifest.json", "w") as file:
    json.dump({"contract": 1, "compiler": "toy", "version": "1.0",
               "stages": [{"name": "object", "artifacts": ["model.bin"]}]}, file)
"""
DOCKERFILE = """
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY compiler.py /opt/toy/compiler.py
ENTRYPOINT ["/bin/false"]
"""


def test_somebody_else_s_image_joins_by_a_toml_file(
    harness: Harness,
    small: Callable[..., Path],
    engine: Docker,
    image: str,
    third_party: Callable[..., str],
    tmp_path: Path,
) -> None:
    compiler = "import hashlib\ndef build(data): return hashlib.sha512(data).digest()\n"
    digest = third_party(image, {"compiler.py": compiler})
    folder = tmp_path / "mine" / "toy"
    folder.mkdir(parents=True)
    (folder / "driver.py").write_text(DRIVER)
    (folder / "1.0-me-x86_64.toml").write_text(
        'version = "1.0"\npublisher = "me"\narch = "x86_64"\n'
        '[target]\nmtriple = "x86_64-unknown-linux-gnu"\nmcpu = "x86-64-v3"\n'
        f'[image]\ndigest = "{digest}"\n'
    )
    options = ("--toolchains-dir", tmp_path / "mine", "--toolchain", "toy/1.0-me-x86_64", "--json")
    done = harness("run", small(), "--input", "x=2x8", "--engine", "docker", *options)
    assert done.code == 0, done.err
    assert {build["host"]["image"] for build in done.report["builds"]} == {digest}
    assert done.stage("object")["verdict"] == "IDENTICAL"
    # What it is made of: its system's packages, as the system itself has them.
    run = tmp_path / "results" / done.report["run"]
    bill = json.loads((run / "sbom/toy/1.0-me-x86_64.cdx.json").read_text("utf-8"))
    packages = {part["name"]: part["version"] for part in bill["components"] if "purl" in part}
    ask = "['dpkg-query', '-W', '-f', '${Version}', 'libc6']"
    there = said(
        engine.run(spec(engine, digest, tmp_path, f"import subprocess as s; s.run({ask})"))
    )
    assert there[:1].isdigit()
    assert packages["libc6"] == there
    bases = {o["toolchain"]: o["base"] for o in done.report["independence"]["origins"]}
    assert bases["toy/1.0-me-x86_64"] == f"image {digest[:19]}: debian 12"
    # The sandbox cannot have it, and says so.
    refused = harness("run", small(), "--input", "x=2x8", "--engine", "sandbox", *options)
    assert refused.code == 2
    assert "use --engine docker" in refused.err


def test_what_an_image_says_of_its_system_is_no_way_to_the_host(
    engine: Docker, image: str, third_party: Callable[..., str], tmp_path: Path
) -> None:
    """Links are not followed here: the host's own files would pass for the image's."""
    lines = (
        "ARG BASE_IMAGE",
        "FROM ${BASE_IMAGE}",
        "RUN rm /etc/os-release && ln -s /etc/passwd /etc/os-release",
        "RUN rm -r /var/lib/dpkg && ln -s /etc /var/lib/dpkg && ln -s /etc/shadow /etc/status",
        "RUN mkdir /toolchain && ln -s / /toolchain/root",
        "COPY compiler.py /toolchain/compiler.py",
    )
    # Another content each time: what was copied out of an image is kept.
    content = uuid.uuid4().hex
    digest = third_party(image, {"Dockerfile": "\n".join(lines), "compiler.py": content})
    definition = planted(tmp_path, f'digest = "{digest}"\n')
    root = images.installed(engine.daemon(), definition).root
    assert [path.name for path in root.iterdir()] == ["compiler.py"]
    found = [path for path in root.parent.joinpath("system").rglob("*") if not path.is_dir()]
    assert [path.name for path in found] == ["os-release"]  # the one in usr/lib, a file
    assert "ID=debian" in found[0].read_text()
    assert not found[0].is_symlink()


def test_steps_of_a_build_do_not_stay_and_nothing_else_goes(
    engine: Docker, image: str, tmp_path: Path
) -> None:
    daemon = engine.daemon()
    mark = f"ml-compiler-harness.test={uuid.uuid4().hex}"
    before = unnamed(daemon, f"{mark}-foreign", image)
    # A hostile Dockerfile names images that are not its own.
    lines = (
        "ARG BASE_IMAGE",
        "FROM ${BASE_IMAGE} AS install",
        f"LABEL {mark}",
        *(f"RUN echo '---> {each.removeprefix('sha256:')}'" for each in (before, image)),
        f"RUN echo {mark} > /made",
        "FROM ${BASE_IMAGE}",
        "COPY --from=install /made /toolchain/made",
    )
    definition = planted(
        tmp_path, 'dockerfile = "x.Dockerfile"\nbase = "bookworm-amd64"\nonly = true\n', lines
    )
    made = images.ensure(daemon, definition)
    try:
        assert labelled(daemon, mark) == []
        assert labelled(daemon, f"{mark}-foreign") == [before]
        assert images.ensure_base(daemon, images.DEFAULT_BASE, refuse) == image
        assert images.ensure(daemon, definition, refuse) == made
    finally:
        for label in (mark, f"{mark}-foreign"):
            for each in labelled(daemon, label):
                daemon.remove_image(each)
        daemon.remove_image(made)


def refuse(line: str) -> None:
    raise AssertionError(line)


def labelled(daemon: Daemon, label: str) -> list[str]:
    """The ids of all images with ``label``, those of steps too."""
    found = daemon._client.images(all=True, filters={"label": label})
    return [str(each["Id"]) for each in found]


def unnamed(daemon: Daemon, label: str, base: str) -> str:
    context = in_context({"Dockerfile": f"FROM {base}\nLABEL {label}\n"})
    assert list(daemon.build(context, {"rm": True}))
    (found,) = labelled(daemon, label)
    return found


def planted(folder: Path, image: str, dockerfile: tuple[str, ...] = ()) -> toolchains.Definition:
    """The definition ``toy/1.0-me-x86_64`` with this image."""
    place = folder / "planted" / "toy"
    place.mkdir(parents=True)
    (place / "x.Dockerfile").write_text("\n".join(dockerfile))
    (place / "1.0-me-x86_64.toml").write_text(
        f'version = "1.0"\npublisher = "me"\narch = "x86_64"\n[image]\n{image}'
    )
    return toolchains.load([place.parent])["toy/1.0-me-x86_64"]


def in_context(files: dict[str, str]) -> io.BytesIO:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    context.seek(0)
    return context


@pytest.fixture
def third_party(engine: Docker) -> Iterator[Callable[[str, dict[str, str]], str]]:
    """``third_party(base, files)`` → the id of an image that somebody else might have built."""
    daemon = engine.daemon()
    tags: list[str] = []

    def build(base: str, files: dict[str, str]) -> str:
        tags.append(f"third-party/toy:{uuid.uuid4().hex}")
        options = {"tag": tags[-1], "buildargs": {"BASE_IMAGE": base}, "rm": True}
        context = in_context({"Dockerfile": DOCKERFILE, **files})
        assert list(daemon.build(context, {**options, "network_mode": "none"}))
        found = daemon.image(tags[-1])
        assert found is not None
        return str(found["Id"])

    yield build
    for tag in tags:
        daemon.remove_image(tag)


def test_an_image_with_a_volume_is_refused(engine: Docker, image: str, place: Path) -> None:
    context = in_context({"Dockerfile": f"FROM {image}\nVOLUME /data\n"})
    list(engine.daemon().build(context, {"tag": "third-party/volume:test", "rm": True}))
    result = engine.run(spec(engine, "third-party/volume:test", place, ""))
    assert result.outcome is RunOutcome.NOT_STARTED
    assert "/data" in result.detail


def test_nothing_is_built_twice(engine: Docker, image: str) -> None:
    assert images.ensure_base(engine.daemon(), images.DEFAULT_BASE, refuse) == image


def test_a_build_on_another_architecture_is_proven_to_be_the_same_program(
    engine: Docker, harness: Harness
) -> None:
    """The aarch64 wheel, emulated, emits operations in another order; nothing else may differ."""
    source = settings.load(ROOT / "nightly.toml").models[0]
    done = harness(
        "run", fetch(source), "--input", "bytes=1x2048", "--engine", "docker", "--repeat", "1",
        "--toolchain", CLEAN[0], "--toolchain", "tvm/0.27.0.post1-pypi-aarch64",
        "--replayer", "llvm/22.1.8-xtc-x86_64", "--replayer", "llvm/22.1.8-debian-x86_64", "--json",
        timeout=900,
    )  # fmt: skip
    assert done.code == 0, done.err
    explained = {
        result["comparison"]["stage"]: {
            name for difference in result["differences"] for name in difference["explained_by"]
        }
        for result in done.report["comparisons"]
        if result["verdict"] == "EXPLAINED"
    }
    assert "tvm-evaluation-order" in explained.pop("llvm-unoptimized")
    assert set(explained) == {"llvm", "assembly", "object", "library"}
    assert all(ids == {"tvm-follows-from-proven-ir"} for ids in explained.values())
    assert {replay["verdict"] for replay in done.report["replays"]} == {"IDENTICAL"}
    assert len({replay["replayer"] for replay in done.report["replays"]}) == 3


# A compromised toolchain that is consistent with itself: what it links is what it leaves, so that
# every replay holds. It is the packed weights that it changes, which no replay makes.
ONE_BIT = """
import os, sys
arguments = getattr(sys, "orig_argv", [])
if arguments and arguments[-1].endswith("request.json"):
    import tvm.support.cc
    from tvm.relax.vm_build import VMExecutable
    honest = VMExecutable.export_library
    def export(self, name, *, fcompile=None, **options):
        def link(output, objects, **more):
            (packed,) = [path for path in objects if os.path.basename(path) == "devc.o"]
            with open(packed, "r+b") as file:
                file.seek(os.path.getsize(packed) // 2)
                byte = file.read(1)[0]
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte ^ 1]))
            return fcompile(output, objects, **more)
        return honest(self, name, fcompile=link, **options)
    VMExecutable.export_library = export
"""
TRIXIE = "tvm/0.27.0.post1-trixie-x86_64"
WEIGHTS = "tvm/0.27.0.post1-evil-x86_64"


def test_one_bit_of_the_packed_weights_is_found_and_no_derivation_explains_it(
    engine: Docker, harness: Harness, third_party: Callable[..., str], tmp_path: Path
) -> None:
    """Somebody's own image of a release that others built, too: same version, so a rebuild."""
    known = toolchains.load([ROOT / "toolchains"])
    dockerfile = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY sitecustomize.py /toolchain/\n"
    digest = third_party(
        images.ensure(engine.daemon(), known[CLEAN[0]]),
        {"Dockerfile": dockerfile, "sitecustomize.py": ONE_BIT},
    )
    folder = tmp_path / "mine" / "tvm"
    folder.mkdir(parents=True)
    (folder / "driver.py").write_bytes((ROOT / "toolchains/tvm/driver.py").read_bytes())
    (folder / "0.27.0.post1-evil-x86_64.toml").write_text(
        'version = "0.27.0.post1"\npublisher = "evil"\narch = "x86_64"\n'
        'linker = "llvm/22.1.8-ziglang-x86_64"\n'
        '[target]\nmtriple = "x86_64-unknown-linux-gnu"\nmcpu = "x86-64-v3"\n'
        f'[image]\ndigest = "{digest}"\n'
    )
    source = settings.load(ROOT / "nightly.toml").models[0]
    done = harness(
        "run", fetch(source), "--input", "bytes=1x2048", "--engine", "docker", "--repeat", "1",
        "--toolchains-dir", tmp_path / "mine", "--toolchain", CLEAN[0], "--toolchain", TRIXIE,
        "--toolchain", WEIGHTS, "--json",
        timeout=900,
    )  # fmt: skip
    assert done.code == 1, done.err
    assert done.verdict()["first_divergence"] == "object"
    assert done.verdict()["odd_ones_out"] == [WEIGHTS]
    assert done.stage("object")["verdict"] == "UNEXPLAINED"
    assert {replay["verdict"] for replay in done.report["replays"]} == {"IDENTICAL"}
    for result in done.report["comparisons"]:
        comparison = result["comparison"]
        assert comparison["kind"] == "rebuild"
        differing = {each["name"]: each["explained_by"] for each in result["differences"]}
        if comparison["stage"] not in ("object", "library"):
            continue
        if WEIGHTS in comparison["left"] + comparison["right"]:
            assert result["verdict"] == "UNEXPLAINED"
            assert differing in ({"devc.o": []}, {"model.so": []})
        else:
            assert result["verdict"] == "IDENTICAL"


def test_what_cannot_be_built_is_left_out_and_said(
    engine: Docker, harness: Harness, small: Callable[..., Path], tmp_path: Path
) -> None:
    small()
    (tmp_path / "nightly.toml").write_text(
        f'toolchains = ["{CLEAN[0]}", "{CLEAN[1]}"]\n[docker]\n'
        f'toolchains = ["{CLEAN[0]}", "{CLEAN[1]}", "{TRIXIE}"]\n'
        "[variations]\nbuilds = 1\n[policy]\nmin_builds = 1\nmin_toolchains = 2\n"
        '[[model]]\nname = "whole"\npath = "small.onnx"\ninputs = ["x=2x8"]\n'
        '[[model]]\nname = "part"\npath = "small.onnx"\ninputs = ["x=2x8"]\n'
        f'[model.without]\n"{TRIXIE}" = "its Python is too new"\n'
    )
    done = harness("nightly", "--engine", "docker", "--json")
    assert done.code == 0, done.err
    left_out = f"part/{TRIXIE}/control"
    ids = {build["id"] for build in done.report["builds"]}
    assert ids == {f"{m}/{t}/control" for m in ("whole", "part") for t in (*CLEAN[:2], TRIXIE)} - {
        left_out
    }
    note = f"part is not built with {TRIXIE}: its Python is too new"
    assert note in done.report["notes"]
    shown = " ".join(harness("show", "latest").out.split())
    assert f"note: {note}" in shown
