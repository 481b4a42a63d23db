"""What the daemon is asked for: every wall and limit is in the request, whatever the run is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.engines.container import ENTRY, PYTHON, Place, create_request
from harness.engines.docker import is_orphan, owner, run_name, well_formed
from harness.engines.interface import Mount, RunSpec
from harness.engines.sandbox import probe
from harness.models import Limits

VARIATION = replace(
    probe("", Path(), Path()).variation, host_name="elsewhere", uid=4321, gid=1234, cpus=1
)
SPEC = RunSpec(
    argv=("python3", "driver.py"),
    mounts=(Mount(Path("/host/model"), "/build/in", spread=True), Mount(Path("/host/l"), "/l")),
    scratch=Path("/results/20260101-run/scratch/7/engine"),
    out=Path("/host/out"),
    out_target="/build/out",
    variation=VARIATION,
    limits=Limits(wall_seconds=30, memory_bytes=2**28, processes=10),
    image="sha256:0",
)
PLACE = Place("/h/launcher.py", "/s/etc", ".report", "", 4321, 1234, 2, {"A": "1"}, "/lib/clock.so")
REQUEST = create_request(SPEC, "sha256:0", PLACE, "{}", {"label": "x"})
HOST: dict[str, Any] = REQUEST["HostConfig"]


@pytest.mark.parametrize(
    ("key", "value"),
    {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "IpcMode": "private",
        "Memory": 2**28,
        "MemorySwap": 2**28,
        "PidsLimit": 4 * 10 + 256,
        "NanoCpus": 10**9,
        "LogConfig": {"Type": "none"},
    }.items(),
)
def test_every_wall_is_asked_for(key: str, value: object) -> None:
    assert HOST[key] == value


def test_nothing_opens_a_way_out() -> None:
    opened = {"Binds", "Devices", "CapAdd", "PidMode", "VolumesFrom", "PortBindings", "Links"}
    assert not opened & HOST.keys()
    assert not any("seccomp" in option for option in HOST["SecurityOpt"])
    assert not any("docker.sock" in mount["Source"] for mount in HOST["Mounts"])


def test_only_the_output_is_writable() -> None:
    assert [m["Target"] for m in HOST["Mounts"] if not m["ReadOnly"]] == ["/build/out"]
    assert {m["Target"] for m in HOST["Mounts"]} == {
        *("/build/in", "/l", "/build/out", "/etc/passwd", "/etc/group"),
        *("/.harness/launcher.py", "/.harness/clock.so"),
    }


def test_memory_file_systems_have_a_size_and_an_owner() -> None:
    assert set(HOST["Tmpfs"]) == {"/tmp", "/build", "/home/probe"}
    for options in HOST["Tmpfs"].values():
        assert f"size={2**26}" in options
        assert "uid=4321,gid=1234" in options
        assert "nosuid" in options


def test_it_is_never_root_and_has_the_variation_s_name() -> None:
    assert (REQUEST["User"], REQUEST["Hostname"]) == ("4321:1234", "elsewhere")
    assert REQUEST["Labels"] == {"label": "x"}


def test_the_image_s_own_entry_point_never_runs() -> None:
    assert REQUEST["Entrypoint"][:5] == [PYTHON, "-I", "-S", "-c", ENTRY]
    assert REQUEST["Entrypoint"][5:] == ["/build/out/.report", "", "90", "{}", "--", *SPEC.argv]
    assert REQUEST["Cmd"] == []
    assert REQUEST["Healthcheck"] == {"Test": ["NONE"]}


def test_no_more_cpus_than_there_are() -> None:
    for cpus, expected in ((0, 2), (1, 1), (64, 2)):
        spec = replace(SPEC, variation=replace(VARIATION, cpus=cpus))
        request = create_request(spec, "sha256:0", PLACE, "{}", {})
        assert request["HostConfig"]["NanoCpus"] == expected * 10**9


def test_the_run_is_named_by_its_folder() -> None:
    assert run_name(SPEC) == "20260101-run"
    assert run_name(replace(SPEC, scratch=Path("/tmp/abc"))) == "abc"


def test_only_what_this_machine_s_dead_processes_left_is_an_orphan() -> None:
    mine = owner()
    machine, boot, namespace, pid, started = mine.split(" ")
    assert pid == str(os.getpid())
    assert not is_orphan(mine)
    assert is_orphan(" ".join((machine, boot, namespace, pid, "1")))  # the number was used again
    assert is_orphan(" ".join((machine, boot, namespace, str(2**22 + 1), started)))
    assert is_orphan(" ".join((machine, "another-boot", namespace, pid, started)))
    assert not is_orphan(" ".join(("another-machine", boot, namespace, "4194305", started)))
    assert not is_orphan(" ".join((machine, boot, "pid:[1]", "4194305", started)))
    assert not is_orphan("")
    assert not is_orphan("somebody else's")


@pytest.mark.parametrize(
    "found",
    [{}, {"a": 1}, {"a": "x"}, {"a": True, "b": "x"}, {"a": 1, "b": "x", "c": 0}],
)
def test_a_report_of_another_form_is_none(found: dict[str, Any]) -> None:
    assert not well_formed(found, {"a": int, "b": str})
    assert well_formed({"a": 1, "b": "x"}, {"a": int, "b": str})
