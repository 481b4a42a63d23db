"""The sandbox's command line, as a pure function of what is to run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.engines.interface import Mount, RunSpec
from harness.engines.launch import clock_environment, environment, laid_down, not_applied
from harness.engines.sandbox import (
    Entry,
    Layout,
    command,
    diagnose,
    memory_file_systems,
    probe,
    read_entries,
)

LAYOUT = Layout(
    bwrap="/x/bwrap",
    python=Path("/opt/py/bin/python3"),
    prefix=Path("/opt/py"),
    bare_python=Path("/s/python"),
    files=Path("/s/etc"),
    launcher=Path("/h/launcher.py"),
    faketime=None,
    devices=Path("/s/dev"),
)
SYSTEM = (("/lib", "usr/lib"), ("/sbin", None))


def spec() -> RunSpec:
    return replace(
        probe("/opt/py/bin/python3", Path("/s"), Path("/o")),
        mounts=(Mount(Path("/cache/env"), "/env"), Mount(Path("/models/m"), "/in", spread=True)),
        argv=("/opt/py/bin/python3", "driver.py"),
    )


def line(changed: RunSpec | None = None, layout: Layout = LAYOUT) -> tuple[str, ...]:
    entries: dict[str, tuple[Entry, ...]] = {"/in": (Entry("b"), Entry("a", link="/etc/passwd"))}
    return command(changed or spec(), layout, entries, SYSTEM, {"FAKETIME": "-5"}, "{}")


def pairs(words: tuple[str, ...], option: str, count: int) -> Iterator[tuple[str, ...]]:
    for index, word in enumerate(words):
        if word == option:
            yield words[index + 1 : index + 1 + count]


@pytest.mark.parametrize(
    "option",
    [
        "--unshare-user",
        "--disable-userns",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
    ],
)
def test_every_wall_is_there(option: str) -> None:
    assert option in line()


def test_all_capabilities_are_dropped() -> None:
    assert list(pairs(line(), "--cap-drop", 1)) == [("ALL",)]


def test_only_the_output_is_writable_on_the_host() -> None:
    assert list(pairs(line(), "--bind", 2)) == [("/o", "/out")]
    sources = {source for source, _ in pairs(line(), "--ro-bind", 2)}
    expected = {"/usr", "/sbin", "/opt/py", "/h/launcher.py", "/cache/env", "/models/m/b"}
    assert sources == expected | {"/s/python", "/s/etc/passwd", "/s/etc/group", "/s/etc/hosts"}
    assert {source for source, _ in pairs(line(), "--dev-bind", 2)} == {
        f"/s/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")
    }


def test_whatever_has_no_size_limit_is_made_read_only_last() -> None:
    assert list(pairs(line(), "--remount-ro", 1)) == [("/in",), ("/proc",), ("/dev",), ("/",)]
    words = line()
    assert words.index("--bind") < words.index("--remount-ro", words.index("/out"))


def test_a_link_at_the_top_of_a_spread_mount_stays_a_link() -> None:
    assert ("/etc/passwd", "/in/a") in pairs(line(), "--symlink", 2)
    assert "/models/m/a" not in line()


def test_spread_entries_keep_their_order() -> None:
    words = line()
    assert words.index("/in/b") < words.index("/in/a")


def test_user_and_host_come_from_the_variation() -> None:
    varied = replace(spec(), variation=replace(spec().variation, uid=7, gid=8, host_name="h"))
    words = line(varied)
    assert list(pairs(words, "--uid", 1)) == [("7",)]
    assert list(pairs(words, "--gid", 1)) == [("8",)]
    assert list(pairs(words, "--hostname", 1)) == [("h",)]


def test_an_interpreter_below_usr_needs_no_mount_of_its_own() -> None:
    assert "/usr/local" not in line(layout=replace(LAYOUT, prefix=Path("/usr/local")))


def test_the_launcher_runs_the_command() -> None:
    words = line()
    assert words[-3:] == ("--", "/opt/py/bin/python3", "driver.py")
    assert words[words.index("-I") :][:4] == ("-I", "-S", "/.harness/launcher.py", "{}")
    assert list(pairs(words, "--setenv", 2)) == [("FAKETIME", "-5")]


def test_memory_file_systems_are_sized_and_parents_come_first() -> None:
    varied = replace(spec().variation, home="/tmp/a/home", build_path="/b")
    assert memory_file_systems(varied) == ("/b", "/tmp", "/tmp/a/home")
    words = line()
    assert words.count("--tmpfs") == words.count("--size") + 1  # /dev is made read-only instead


def test_file_order_is_sorted_or_seeded() -> None:
    names = [f"f{number}" for number in range(20)]
    assert laid_down(reversed(names), 0) == sorted(names)
    assert laid_down(names, 5) == laid_down(reversed(names), 5) != sorted(names)
    assert sorted(laid_down(names, 5)) == sorted(names)


def test_entries_are_files_directories_and_links_only(tmp_path: Path) -> None:
    import os

    (tmp_path / "file").touch()
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("/nowhere")
    os.mkfifo(tmp_path / "fifo")
    found = read_entries(tmp_path, 0)
    assert found == (Entry("dir"), Entry("file"), Entry("link", "/nowhere"))


def test_the_clock_is_an_offset() -> None:
    assert clock_environment(1000, "/f.so", 1500.9)["FAKETIME"] == "-500"
    assert clock_environment(2000, "/f.so", 1500.9)["FAKETIME"] == "+500"
    assert clock_environment(None, "/f.so", 0) == clock_environment(5, None, 0) == {}


def test_extra_environment_cannot_replace_what_varies_by_name() -> None:
    varied = replace(spec().variation, environment=(("HOME", "/x"), ("EXTRA", "1")))
    found = environment(varied, "/home/me", "/env")
    assert (found["HOME"], found["EXTRA"], found["PYTHONPATH"]) == ("/home/me", "1", "/env")


OBSERVED = {
    "host_name": "probe", "uid": 1000, "gid": 1000, "user": "probe", "work": "/build",
    "home": "/home/probe", "umask": 0o022, "cpus": 2, "aslr": True, "clock": 5, "time_zone": "UTC",
    "time_zone_known": True, "locale": "C.UTF-8", "locale_known": True, "hash_seed": "0",
    "listings": {"/in": ["a", "b", "c"]},
}  # fmt: skip


def missed(order: list[str] | None = None, **changed: Any) -> dict[str, str]:
    variation = replace(spec().variation, clock=5)
    orders = {"/in": order or ["a", "b", "c"]}
    return not_applied(variation, {**OBSERVED, **changed}, "/build", "/home/probe", orders, {})


def test_what_was_observed_as_requested_is_not_listed() -> None:
    assert missed() == missed(["c", "b", "a"]) == {}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("host-name", "host_name", "other"),
        ("user", "gid", 0),
        ("build-path", "work", "/"),
        ("home", "home", "/"),
        ("umask", "umask", 0),
        ("aslr", "aslr", False),
        ("clock", "clock", 500),
        ("time-zone", "time_zone_known", False),
        ("locale", "locale_known", False),
        ("hash-seed", "hash_seed", "1"),
    ],
)
def test_what_was_observed_otherwise_is_listed(name: str, key: str, value: Any) -> None:
    assert list(missed(**{key: value})) == [name]


def test_another_listing_order_is_listed() -> None:
    assert list(missed(["b", "a", "c"])) == ["file-order"]


@pytest.mark.parametrize(
    ("said", "settings", "reason"),
    [
        ("x", {"kernel.unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=0"),
        ("x", {"user.max_user_namespaces": "0"}, "user.max_user_namespaces=0"),
        (
            "x",
            {"kernel.apparmor_restrict_unprivileged_userns": "1"},
            "kernel.apparmor_restrict_unprivileged_userns=1",
        ),
        ("bwrap: Can't mount proc on /newroot/proc", {"masked proc": "1"}, "/proc are masked"),
        ("No permissions to create new namespace", {"seccomp": "2"}, "seccomp"),
        ("cannot start bwrap: Exec format error", {}, "another architecture"),
        ("something else", {"seccomp": "0"}, "something else"),
    ],
)
def test_the_setting_that_forbids_the_sandbox_is_named(
    said: str, settings: dict[str, str], reason: str
) -> None:
    status = diagnose(said, settings)
    assert not status.works
    assert reason in status.reason
    assert status.hint
