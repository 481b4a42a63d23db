"""The watchdog, where a run ends while it looks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.engines import watch
from harness.models import Limits

LIMITS = Limits()


def watchdog() -> watch.Watch:
    return watch.Watch(LIMITS, (), contained=True)


def test_a_run_that_has_just_ended_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its namespace was there a moment ago; a build was lost to that."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    answers = [f"/proc/{done.pid}/root", None]
    monkeypatch.setattr(watch, "namespace_root", lambda _: answers.pop(0))
    assert watchdog().tables(os.getpid(), 10) == []
    assert not answers


def test_a_run_that_cannot_be_counted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is still there, so this is no end, but perhaps a way out of the limits."""
    monkeypatch.setattr(watch, "namespace_root", lambda _: "/nowhere")
    with pytest.raises(FileNotFoundError):
        watchdog().tables(os.getpid(), 10)
