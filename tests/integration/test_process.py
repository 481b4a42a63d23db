"""Starting and ending processes: results, tails, timeouts, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.process import Interrupted, Supervised, descendants, kill_all, run, supervise

pytestmark = pytest.mark.integration

PYTHON = (sys.executable, "-I", "-S", "-c")
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def python(code: str, timeout: float = 20, tail_bytes: int = 65536) -> Supervised[str]:
    return supervise((*PYTHON, code), env=ENVIRONMENT, timeout=timeout, tail_bytes=tail_bytes)


def wait_for_file(path: Path) -> str:
    for _ in range(1000):
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text()
        time.sleep(0.01)
    raise AssertionError(f"{path} was never written")


def test_an_exit_code_is_no_error() -> None:
    done = run((*PYTHON, "print('hello'); raise SystemExit(3)"), timeout=20)
    assert (done.exit_code, done.output, done.timed_out) == (3, "hello\n", False)


def test_a_signal_is_a_negative_exit_code() -> None:
    assert run((*PYTHON, "import os; os.kill(os.getpid(), 9)"), timeout=20).exit_code == -9


def test_tools_run_in_a_fixed_language_and_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    code = "import os; print(os.environ['TZ'], os.environ['LANG'])"
    assert run((*PYTHON, code), timeout=20).output == "UTC C.UTF-8\n"


def test_an_environment_given_is_the_whole_environment() -> None:
    code = "import os; print('HOME' in os.environ, os.environ['A'])"
    assert run((*PYTHON, code), env={"A": "b"}, timeout=20).output == "False b\n"


def test_a_missing_tool_is_named() -> None:
    with pytest.raises(HarnessError, match="cannot start /nowhere/tool"):
        run(("/nowhere/tool",), timeout=5)


def test_only_the_tail_of_the_output_is_kept() -> None:
    done = python("import sys; sys.stdout.write('x' * 5_000_000 + 'end')", tail_bytes=1000)
    assert done.output == b"x" * 997 + b"end"


def test_stdout_and_stderr_come_together_and_stdin_is_empty() -> None:
    code = (
        "import os,sys; os.write(1, b'1'); os.write(2, b'2'); os.write(1, sys.stdin.buffer.read())"
    )
    assert python(code).output == b"12"


def test_wall_time_is_enforced_on_a_tree_that_ignores_signals(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    code = (
        "import os,signal,time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pid = os.fork()\n"
        "if pid == 0: os.setsid()\n"
        f"else: open({str(note)!r}, 'w').write(f'{{os.getpid()}} {{pid}}\\n')\n"
        "time.sleep(1000)\n"
    )
    done = python(code, timeout=1)
    assert done.timed_out
    assert done.exit_code == -signal.SIGKILL
    assert not any(alive(int(pid)) for pid in wait_for_file(note).split())


def test_a_violation_ends_the_run_and_is_returned() -> None:
    done = supervise(
        (*PYTHON, "import time; time.sleep(1000)"),
        env=ENVIRONMENT,
        timeout=60,
        poll=lambda pid: f"saw {pid > 0}",
    )
    assert done.violation == "saw True"
    assert not done.timed_out


def test_an_error_in_the_poll_leaves_no_process() -> None:
    seen: list[int] = []

    def poll(pid: int) -> None:
        seen.append(pid)
        raise RuntimeError("poll failed")

    with pytest.raises(RuntimeError, match="poll failed"):
        supervise((*PYTHON, "import time; time.sleep(99)"), env=ENVIRONMENT, timeout=60, poll=poll)
    assert not alive(seen[0])


def test_cpu_time_is_per_run_when_runs_overlap() -> None:
    results: dict[str, float] = {}

    def measure(name: str, code: str) -> None:
        results[name] = python(code).cpu_seconds

    burn = "import time\nwhile time.process_time() < 0.5: pass"
    threads = [
        threading.Thread(target=measure, args=("busy", burn)),
        threading.Thread(target=measure, args=("idle", "import time; time.sleep(0.6)")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results["busy"] >= 0.5 > results["idle"]


def test_cpu_time_of_children_counts() -> None:
    code = (
        "import os,time\n"
        "if os.fork() == 0:\n"
        "    while time.process_time() < 0.3: pass\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    assert python(code).cpu_seconds >= 0.3


def test_file_descriptors_are_passed_only_when_named() -> None:
    reader, writer = os.pipe()
    code = f"import os; os.write({writer}, b'through')"
    supervise((*PYTHON, code), env=ENVIRONMENT, timeout=20, pass_fds=(writer,))
    assert os.read(reader, 100) == b"through"
    assert python(code).exit_code == 1
    os.close(reader)
    os.close(writer)


def test_kill_all_ends_the_runs_of_other_threads(tmp_path: Path) -> None:
    ended: list[BaseException] = []

    def work(number: int) -> None:
        note = tmp_path / str(number)
        code = (
            f"import os,time; open({str(note)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(99)"
        )
        try:
            python(code, timeout=60)
        except Interrupted as error:
            ended.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    pids = [int(wait_for_file(tmp_path / str(number))) for number in range(3)]
    assert all(map(alive, pids))
    kill_all()
    assert not any(map(alive, pids))
    for thread in threads:
        thread.join()
    assert len(ended) == 3


def test_ctrl_c_in_the_main_thread_ends_its_run(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"import os,time; open({str(note)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(99)"

    def interrupt() -> None:
        wait_for_file(note)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        python(code, timeout=60)
    assert not alive(int(note.read_text()))


def test_descendants_are_found_through_generations(tmp_path: Path) -> None:
    seen: list[int] = []

    def poll(pid: int) -> str | None:
        seen.append(len(descendants(pid)))
        return "found" if seen[-1] == 2 else None

    code = "import os,time\nif os.fork() == 0: os.fork()\ntime.sleep(99)"
    done = supervise((*PYTHON, code), env=ENVIRONMENT, timeout=20, poll=poll)
    assert done.violation == "found"
