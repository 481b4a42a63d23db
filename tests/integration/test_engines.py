"""Both engines against commands that mean harm. Everything hostile here is one line of Python."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.engines.interface import Engine, Mount, RunOutcome, RunResult, RunSpec
from harness.engines.plain import Plain
from harness.engines.sandbox import Sandbox, probe
from harness.engines.select import choose
from harness.errors import EngineError, UsageError
from harness.models import Isolation, Limits, Variation
from harness.process import Interrupted, kill_all

pytestmark = pytest.mark.integration

MIB = 2**20
LIMITS = Limits(
    wall_seconds=30,
    memory_bytes=200 * MIB,
    processes=30,
    output_bytes=20 * MIB,
    output_files=200,
)
VARIED = replace(
    probe("", Path(), Path()).variation,
    hash_seed=4242,
    build_path="/somewhere/deep/build",
    home="/home/somebody",
    host_name="elsewhere",
    uid=4321,
    gid=1234,
    user="somebody",
    time_zone="Asia/Tokyo",
    clock=1_111_111_111,
    umask=0o027,
    cpus=1,
    file_order=7,
    environment=(("COLOUR", "green"),),
)


@pytest.fixture(params=["sandbox", "plain"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return choose(request.param)[0]


@pytest.fixture(scope="module")
def sandbox() -> Engine:
    return choose("sandbox")[0]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    # Hostile commands leave no process behind: none may still name this test's own directory.
    assert remaining(str(tmp_path)) == []


def remaining(word: str) -> list[int]:
    """Processes other than this one that have ``word`` in their command line."""
    found = []
    for table in Path("/proc").iterdir():
        if table.name.isdigit() and int(table.name) != os.getpid():
            try:
                if word.encode() in (table / "cmdline").read_bytes():
                    found.append(int(table.name))
            except OSError:
                continue
    return found


def spec_for(
    engine: Engine,
    place: Path,
    code: str,
    *,
    variation: Variation = VARIED,
    limits: Limits = LIMITS,
    mounts: tuple[Mount, ...] = (),
) -> RunSpec:
    """A run of Python code, in which OUT is the output directory."""
    number = len(list(place.iterdir()))
    scratch, out = place / f"scratch{number}", place / f"out{number}"
    scratch.mkdir(mode=0o700)
    out.mkdir()
    head = f"import os,sys,time,signal; OUT={engine.visible(out, '/out')!r}; TAG={str(place)!r}\n"
    return RunSpec(
        argv=(engine.python, "-I", "-S", "-c", head + code),
        mounts=mounts,
        scratch=scratch,
        out=out,
        out_target="/out",
        variation=variation,
        limits=limits,
    )


def run(engine: Engine, place: Path, code: str, **changes: Any) -> RunResult:
    return engine.run(spec_for(engine, place, code, **changes))


def said(result: RunResult) -> str:
    assert result.outcome is RunOutcome.EXITED, (result.outcome, result.detail, result.output)
    assert result.exit_code == 0, result.output
    return result.output.decode().strip()


# What a run gets


def test_python_knows_nothing_but_its_standard_library(engine: Engine, place: Path) -> None:
    """What this machine has installed for itself must not be found by an optional import."""
    spec = spec_for(engine, place, "")
    code = (
        "import sys, os, json\n"
        "from importlib.metadata import distributions\n"
        "third = [p for p in sys.path if 'packages' in p and os.path.isdir(p) and os.listdir(p)]\n"
        "print(json.dumps([third, sorted(d.name for d in distributions())]))"
    )
    result = engine.run(replace(spec, argv=(engine.python, "-c", code)))
    assert json.loads(said(result)) == [[], []]


def test_output_exit_code_and_numbers(engine: Engine, place: Path) -> None:
    burn = "while time.process_time() < 0.3: pass\n"
    code = burn + "x = b'x' * 60_000_000; open(OUT + '/a', 'w').write('1'); print('done')"
    result = run(engine, place, code)
    assert said(result) == "done"
    assert (place / "out0" / "a").read_text() == "1"
    assert result.cpu_seconds >= 0.3
    assert result.peak_memory_bytes >= 60_000_000
    assert run(engine, place, "sys.exit(3)").exit_code == 3


def test_a_signal_of_its_own_is_no_limit(engine: Engine, place: Path) -> None:
    result = run(engine, place, "os.kill(os.getpid(), signal.SIGABRT)")
    assert (result.outcome, result.exit_code) == (RunOutcome.SIGNALLED, -signal.SIGABRT)


def test_cpu_time_of_orphans_counts(engine: Engine, place: Path) -> None:
    code = (
        "reader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        "        while time.process_time() < 0.4: pass\n"
        "        os.write(writer, b'x')\n"
        "    os._exit(0)\n"
        "os.wait(); os.read(reader, 1); time.sleep(0.1)\n"
    )
    assert run(engine, place, code).cpu_seconds >= 0.4


def test_a_missing_program_is_said(engine: Engine, place: Path) -> None:
    spec = replace(spec_for(engine, place, ""), argv=("/nowhere/driver",))
    result = engine.run(spec)
    assert result.exit_code == 127
    assert b"cannot start /nowhere/driver" in result.output


# Isolation


def test_the_network_is_unreachable(sandbox: Engine, place: Path) -> None:
    code = (
        "import socket\n"
        "print(open('/proc/net/dev').read().count(':'))\n"
        "try: socket.create_connection(('192.0.2.1', 80), 5)\n"
        "except OSError as e: print(e.errno)\n"
    )
    assert said(run(sandbox, place, code)).split() == ["1", "101"]


def test_host_files_are_unseen(sandbox: Engine, place: Path) -> None:
    (place / "secret").write_text("x")
    result = run(sandbox, place, "print(*sorted(os.listdir('/')), *sorted(os.listdir('/etc')))")
    shown = set(said(result).split())
    assert shown >= {"out", "tmp", "usr", "passwd"}
    own = {".harness", "build", "dev", "etc", "home", "out", "proc", "somewhere", "tmp", "usr"}
    system = {"bin", "lib", "lib32", "lib64", "libx32", "sbin"}
    etc = {"group", "hosts", "ld.so.cache", "passwd"}
    prefix = {Path(sys.base_prefix).parts[1]}
    assert shown <= own | system | etc | prefix
    tree = f"print(os.path.exists({str(place / 'secret')!r}), os.listdir('/home'))"
    assert said(run(sandbox, place, tree)) == "False ['somebody']"


def test_no_process_of_the_host_is_seen(sandbox: Engine, place: Path) -> None:
    code = "print(*[n for n in os.listdir('/proc') if n.isdigit()])"
    assert said(run(sandbox, place, code)) == "1 2"


def test_only_the_output_can_be_written(sandbox: Engine, place: Path) -> None:
    tools = place / "tools"
    tools.mkdir()
    (tools / "driver").write_text("clean")
    mounts = (Mount(tools, "/env"), Mount(tools, "/in", spread=True))
    code = (
        "paths = ['/env/driver', '/env/new', '/in/driver', '/in/new', '/usr/new', '/etc/passwd',\n"
        "  '/.harness/launcher.py', '/new', '/dev/new', '/proc/sys/kernel/core_pattern',\n"
        "  '/proc/sysrq-trigger', sys.executable, '/out/new', '/tmp/new', os.getcwd() + '/new',\n"
        "  os.environ['HOME'] + '/new', '/dev/shm/new', '/dev/null']\n"
        "for path in paths:\n"
        "    try: os.close(os.open(path, os.O_WRONLY | os.O_CREAT)); print(path)\n"
        "    except OSError: pass\n"
    )
    result = run(sandbox, place, code, mounts=mounts)
    allowed = ["/out/new", "/tmp/new", f"{VARIED.build_path}/new", f"{VARIED.home}/new"]
    assert said(result).split() == [*allowed, "/dev/shm/new", "/dev/null"]
    assert (tools / "driver").read_text() == "clean"


def test_device_nodes_of_the_host_keep_their_mode(sandbox: Engine, place: Path) -> None:
    before = Path("/dev/null").stat().st_mode
    code = "try: os.chmod('/dev/null', 0o600)\nexcept OSError: pass"
    run(sandbox, place, code)
    assert Path("/dev/null").stat().st_mode == before


def test_no_privilege_is_left(sandbox: Engine, place: Path) -> None:
    code = (
        "print(*[l.split()[1] for l in open('/proc/self/status') if l.startswith('Cap')])\n"
        "import ctypes; print(ctypes.CDLL(None).unshare(0x10000000))"
    )
    assert set(said(run(sandbox, place, code)).split()) == {"0" * 16, "-1"}


def test_a_link_in_a_spread_mount_does_not_reach_the_host(sandbox: Engine, place: Path) -> None:
    (place / "secret").write_text("secret")
    source = place / "source"
    source.mkdir()
    (source / "link").symlink_to(place / "secret")
    code = "print(os.path.exists('/in/link'), os.readlink('/in/link'))"
    result = run(sandbox, place, code, mounts=(Mount(source, "/in", spread=True),))
    assert said(result) == f"False {place / 'secret'}"


def test_the_environment_is_only_what_was_asked_for(
    engine: Engine, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    shown = said(run(engine, place, "print(*os.environ, os.environ['COLOUR'])")).split()
    assert "SECRET_TOKEN" not in shown
    assert "green" in shown


def test_the_report_pipe_is_closed_to_the_command(engine: Engine, place: Path) -> None:
    code = "print(*sorted(os.listdir('/proc/self/fd')))"
    real_clock = replace(VARIED, clock=None)  # libfaketime keeps a file of its own open
    shown = said(run(engine, place, code, variation=real_clock)).split()
    assert shown == ["0", "1", "2", "3"]  # 3 is the directory itself


# Variations


def test_every_variation_is_applied(sandbox: Engine, place: Path) -> None:
    code = (
        "u = os.umask(0); import pwd\n"
        "print(os.environ['PYTHONHASHSEED'], os.getcwd(), os.environ['HOME'], os.uname()[1],\n"
        "  os.getuid(), os.getgid(), pwd.getpwuid(os.getuid())[0], os.environ['LC_ALL'],\n"
        "  time.strftime('%H%z', time.localtime(0)), oct(u), len(os.sched_getaffinity(0)),\n"
        "  os.environ['COLOUR'], abs(time.time() - 1111111111) < 5, sep='|')\n"
    )
    result = run(sandbox, place, code)
    assert said(result) == (
        "4242|/somewhere/deep/build|/home/somebody|elsewhere|4321|1234|somebody|C.UTF-8"
        "|09+0900|0o27|1|green|True"
    )
    assert result.not_applied == {}
    assert result.observed["host_name"] == "elsewhere"


def test_plain_applies_what_it_can_and_says_what_it_cannot(place: Path) -> None:
    code = (
        "u = os.umask(0)\n"
        "print(os.environ['PYTHONHASHSEED'], time.strftime('%H%z', time.localtime(0)), oct(u),\n"
        "  len(os.sched_getaffinity(0)), abs(time.time() - 1111111111) < 5, sep='|')\n"
        "print(os.getcwd()); print(os.environ['HOME'])"
    )
    result = run(Plain(), place, code)
    values, work, home = said(result).splitlines()
    assert values == "4242|09+0900|0o27|1|True"
    assert work == str(place / "scratch0/work/somewhere/deep/build")
    assert home == str(place / "scratch0/home/home/somebody")
    assert set(result.not_applied) == {"host-name", "user", "file-order"}


def test_directory_order_follows_the_seed(sandbox: Engine, place: Path) -> None:
    source = place / "source"
    source.mkdir()
    for number in range(12):
        (source / f"f{number:02}").write_text("")
    mounts = (Mount(source, "/in", spread=True),)
    listings: dict[int, list[str]] = {}
    for seed in (0, 1, 2, 1):
        varied = replace(VARIED, file_order=seed)
        result = run(sandbox, place, "print(*os.listdir('/in'))", variation=varied, mounts=mounts)
        listing = said(result).split()
        assert result.not_applied == {}
        assert listings.setdefault(seed, listing) == listing
    assert listings[0] in (sorted(listings[0]), sorted(listings[0], reverse=True))
    assert len({tuple(listing) for listing in listings.values()}) == 3


def test_address_randomisation_can_be_switched_off(engine: Engine, place: Path) -> None:
    code = "import ctypes; print(ctypes.cast(ctypes.CDLL(None).printf, ctypes.c_void_p).value)"
    off, on = replace(VARIED, aslr=False), replace(VARIED, aslr=True)
    assert len({said(run(engine, place, code, variation=off)) for _ in range(3)}) == 1
    assert len({said(run(engine, place, code, variation=on)) for _ in range(3)}) > 1


def test_time_runs_on_and_timeouts_work_under_a_false_clock(engine: Engine, place: Path) -> None:
    code = (
        "import threading\n"
        "began, real = time.time(), time.monotonic()\n"
        "threading.Event().wait(0.2); threading.Lock().acquire(timeout=0.1); time.sleep(0.1)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    print(int(time.time()) - 1111111111 in (0, 1, 2, 3), flush=True); os._exit(0)\n"
        "os.wait(); print(0.2 < time.time() - began < 3, time.monotonic() - real < 3)"
    )
    assert said(run(engine, place, code)).split() == ["True", "True", "True"]


def belongs_to_a_process(path: Path) -> bool:
    return Path("/proc", path.name.rpartition("_")[2]).exists()


def test_a_killed_run_leaves_nothing_in_shared_memory(place: Path) -> None:
    def left() -> set[Path]:
        return set(Path("/dev/shm").glob("*faketime*"))

    before = left()
    code = "time.sleep(100)"
    run(Plain(), place, code, limits=replace(LIMITS, wall_seconds=1))
    for _ in range(100):  # what other tests have going on comes and goes
        if left() <= before:
            return
        before |= {path for path in left() if belongs_to_a_process(path)}
        time.sleep(0.1)
    raise AssertionError(left() - before)


def test_a_variation_that_cannot_be_had_is_named(engine: Engine, place: Path) -> None:
    varied = replace(VARIED, cpus=4096, locale="xx_XX.UTF-8", time_zone="No/Where")
    assert set(run(engine, place, "", variation=varied).not_applied) >= {
        "cpus",
        "locale",
        "time-zone",
    }


# Hostile commands


def test_sleeping_for_ever(engine: Engine, place: Path) -> None:
    code = (
        "for n in range(1, 32):\n"
        "    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except OSError: pass\n"
        "time.sleep(10000)"
    )
    result = run(engine, place, code, limits=replace(LIMITS, wall_seconds=1))
    assert result.outcome is RunOutcome.TIMED_OUT


def test_a_fork_bomb(engine: Engine, place: Path) -> None:
    code = "while True:\n    try: os.fork()\n    except OSError: pass"
    assert run(engine, place, code).outcome is RunOutcome.TOO_MANY_PROCESSES


def test_forks_in_sessions_of_their_own(engine: Engine, place: Path) -> None:
    code = "while True:\n    try:\n        if os.fork() == 0: os.setsid()\n    except OSError: pass"
    assert run(engine, place, code).outcome is RunOutcome.TOO_MANY_PROCESSES


def test_one_process_takes_all_memory(engine: Engine, place: Path) -> None:
    code = "x = []\nwhile True: x.append(bytearray(8 << 20)); time.sleep(0.01)"
    result = run(engine, place, code)
    assert result.outcome is RunOutcome.TOO_MUCH_MEMORY
    assert result.peak_memory_bytes > LIMITS.memory_bytes


def test_one_huge_allocation_is_refused(engine: Engine, place: Path) -> None:
    code = "try: bytearray(10 << 30)\nexcept MemoryError: print('refused')"
    assert said(run(engine, place, code)) == "refused"


def test_many_processes_take_all_memory(engine: Engine, place: Path) -> None:
    code = (
        "for _ in range(8):\n    if os.fork() == 0: break\nx = b'x' * (40 << 20)\ntime.sleep(100)"
    )
    assert run(engine, place, code).outcome is RunOutcome.TOO_MUCH_MEMORY


def test_memory_shared_by_forks_counts_once(engine: Engine, place: Path) -> None:
    code = (
        "x = b'x' * (80 << 20)\nfor _ in range(5):\n    if os.fork() == 0: break\ntime.sleep(0.7)"
    )
    assert run(engine, place, code).outcome is RunOutcome.EXITED


def test_temporary_files_count_as_memory(sandbox: Engine, place: Path) -> None:
    code = (
        "x = b'x' * (40 << 20)\n"
        "for d in ('/tmp', os.getcwd(), os.environ['HOME'], '/dev/shm'):\n"
        "    for i in range(1000):\n"
        "        try: open(f'{d}/{i}', 'wb').write(b'x' * (4 << 20)); time.sleep(0.005)\n"
        "        except OSError: break\n"
        "time.sleep(100)"
    )
    limits = replace(LIMITS, memory_bytes=100 * MIB)
    assert run(sandbox, place, code, limits=limits).outcome is RunOutcome.TOO_MUCH_MEMORY


def written(place: Path) -> int:
    files = (path for path in place.glob("out*/**/*") if path.is_file())
    return sum(path.stat().st_size for path in files)


def test_ten_gigabytes_in_many_files(engine: Engine, place: Path) -> None:
    code = (
        "for i in range(1024): open(f'{OUT}/{i}', 'wb').write(b'x' * (10 << 20)); time.sleep(0.02)"
    )
    assert run(engine, place, code).outcome is RunOutcome.TOO_MUCH_OUTPUT
    assert written(place) < 2**30


def test_ten_gigabytes_in_one_file(engine: Engine, place: Path) -> None:
    code = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "f = open(OUT + '/big', 'wb')\nwhile True: f.write(b'x' * (1 << 20))"
    )
    assert run(engine, place, code).outcome is RunOutcome.TOO_MUCH_OUTPUT
    assert written(place) < 2**30


def test_a_sparse_file_of_ten_gigabytes(engine: Engine, place: Path) -> None:
    code = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nopen(OUT + '/big', 'wb').truncate(10 << 30)"
    )
    assert run(engine, place, code).outcome is RunOutcome.TOO_MUCH_OUTPUT
    assert written(place) == 0


def test_too_many_files(engine: Engine, place: Path) -> None:
    code = "for i in range(100000): os.mkdir(f'{OUT}/{i}')"
    assert run(engine, place, code).outcome is RunOutcome.TOO_MANY_FILES


def test_directories_nested_without_end(engine: Engine, place: Path) -> None:
    code = "os.chdir(OUT)\nfor _ in range(150): os.mkdir('d'); os.chdir('d')"
    assert run(engine, place, code).outcome is RunOutcome.TOO_MANY_FILES


def test_links_in_the_output_are_not_followed(engine: Engine, place: Path) -> None:
    code = (
        "os.symlink('/', OUT + '/root'); os.symlink('.', OUT + '/loop'); os.mkfifo(OUT + '/fifo')"
    )
    assert run(engine, place, code).outcome is RunOutcome.EXITED


def test_a_flood_of_output_keeps_its_raw_tail(engine: Engine, place: Path) -> None:
    flood = "for _ in range(300): os.write(1, b'\\x1b[2J\\x1b]0;owned\\x07' * 10000)\n"
    code = flood + "os.write(2, b'end')"
    result = run(engine, place, code)
    assert result.outcome is RunOutcome.EXITED
    assert len(result.output) == 65536
    assert result.output.endswith(b"\x1b]0;owned\x07end")


def test_a_flood_without_end_is_stopped(engine: Engine, place: Path) -> None:
    code = "while True: os.write(1, b'x' * 65536)"
    result = run(engine, place, code, limits=replace(LIMITS, wall_seconds=1))
    assert result.outcome is RunOutcome.TIMED_OUT
    assert len(result.output) == 65536


def test_a_daemon_does_not_outlive_its_run(engine: Engine, place: Path) -> None:
    code = (
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "        time.sleep(1.5); open(OUT + '/late', 'w')\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    assert run(engine, place, code).outcome is RunOutcome.EXITED
    assert remaining(str(place)) == []
    time.sleep(1.6)
    assert not (place / "out0" / "late").exists()


def test_killing_the_launcher_gains_nothing(engine: Engine, place: Path) -> None:
    code = (
        "if os.fork() == 0: os.setsid(); time.sleep(100)\n"
        "try: os.kill(os.getppid(), 9)\n"
        "except OSError: pass\n"
        "time.sleep(1); sys.exit(5)"
    )
    result = run(engine, place, code)
    expected = {"sandbox": (RunOutcome.EXITED, 5), "plain": (RunOutcome.SIGNALLED, -9)}
    assert (result.outcome, result.exit_code) == expected[engine.name]


def test_kill_all_ends_a_run_in_another_thread(engine: Engine, place: Path) -> None:
    caught: list[BaseException] = []
    code = "open(OUT + '/started', 'w').close()\nif os.fork() == 0: os.setsid()\ntime.sleep(99)"
    spec = spec_for(engine, place, code)

    def work() -> None:
        try:
            engine.run(spec)
        except Interrupted as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not (spec.out / "started").exists():
        time.sleep(0.02)
    kill_all()
    thread.join()
    assert len(caught) == 1


def test_kill_9_of_the_harness_leaves_no_process(engine: Engine, place: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.integration.test_engines import run, choose\n"
        'code = \'open(OUT + "/started", "w").close(); os.fork(); time.sleep(99)\'\n'
        "run(choose(sys.argv[1])[0], Path(sys.argv[2]), code)\n"
    )
    root = Path(__file__).parents[2]
    own = place / "own"
    own.mkdir()
    harness = subprocess.Popen([sys.executable, "-c", program, engine.name, str(own)], cwd=root)
    while not (own / "out0" / "started").exists():
        assert harness.poll() is None
        time.sleep(0.02)
    harness.kill()
    harness.wait()
    for _ in range(100):
        if not remaining(str(own)):
            break
        time.sleep(0.05)
    assert remaining(str(own)) == []


def test_a_full_disk_ends_the_run(
    engine: Engine, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.engines.watch.MIN_FREE_BYTES", 2**60)
    result = run(engine, place, "time.sleep(20)")
    assert result.outcome is RunOutcome.TOO_MUCH_OUTPUT
    assert re.search("are free where output is written", result.detail)


# Which engine


def test_auto_takes_the_sandbox_where_it_works() -> None:
    engine, notes = choose("auto")
    assert (engine.name, engine.isolation, notes) == ("sandbox", Isolation.NAMESPACES, ())


def test_without_bwrap_auto_falls_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.engines.sandbox.find_bwrap", lambda: None)
    engine, notes = choose("auto")
    assert engine.isolation is Isolation.NONE
    assert "bwrap is missing" in notes[0]
    assert "weaker" in notes[0]
    with pytest.raises(EngineError, match="bwrap is missing"):
        choose("sandbox")


def test_a_bwrap_that_cannot_run_is_no_crash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    foreign = tmp_path / "bwrap"
    foreign.write_bytes(b"\x7fELF nonsense")
    foreign.chmod(0o755)
    monkeypatch.setattr("harness.engines.sandbox.find_bwrap", lambda: str(foreign))
    status = Sandbox().status()
    assert not status.works
    assert "another architecture" in status.reason


def test_an_unknown_engine_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown engine 'podman'"):
        choose("podman")
