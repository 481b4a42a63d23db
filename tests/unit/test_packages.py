"""What pip said, in one line. The outputs are pip's own; real runs are in the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.packages import cache_folder, distil, pip_environment

OUTPUTS = {
    "hash": (
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If ...\n"
        "    six==1.17.0 from file:///w/six.whl#sha256=1 (from -r lock (line 1)):\n"
        f"        Expected sha256 {'a' * 64}\n        Expected     or {'c' * 64}\n"
        f"             Got        {'b' * 64}\n",
        f"six==1.17.0 does not match its locked hash: got sha256 {'b' * 64}",
    ),
    "disk": (
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
        "the disk is full",
    ),
    "network": (
        "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConn...'\n"
        "ERROR: Could not find a version that satisfies six==1 (from versions: none)\n"
        "ERROR: No matching distribution found for six==1\n",
        "six==1 cannot be fetched: the package index does not answer",
    ),
    "no pip": ("/usr/bin/python3: No module named pip\n", "this Python has no pip"),
    "silent": ("\n", "pip failed: it says nothing"),
    "secret": (
        "ERROR: 403 for url https://me:secret@index/six\n",
        "pip failed: 403 for url https://index/six",
    ),
    "escapes": ("ERROR: \x1b[31mred\n", "pip failed: \\x1b[31mred"),
}


@pytest.mark.parametrize(("output", "line"), OUTPUTS.values(), ids=OUTPUTS)
def test_distil(output: str, line: str) -> None:
    what, hint = distil(output)
    assert what == line
    assert hint


def test_a_hiccup_is_not_the_cause() -> None:
    """The index answered in the end, and has other versions."""
    what, _ = distil(
        "WARNING: Retrying (Retry(total=4))\n"
        "ERROR: Could not find a version that satisfies six==1 (from versions: 2, 3)\n"
        "ERROR: No matching distribution found for six==1\n"
    )
    assert what.startswith("no wheel of six==1 for Python 3.")


@given(st.text())
def test_always_one_line(output: str) -> None:
    for line in distil(output):
        assert len(line.splitlines()) == 1
        assert line.isprintable()


def test_sources_of_packages_are_the_users_own() -> None:
    outer = {"PIP_INDEX_URL": "x", "PIP_CERT": "y", "HTTPS_PROXY": "z", "HOME": "/h"}
    assert outer.items() <= pip_environment(outer).items()
    assert "PIP_TARGET" not in pip_environment({"PIP_TARGET": "elsewhere"})


def test_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ml-compiler-harness"
