"""``harness diff`` of files that are larger than the memory it may take.

The peak is what the kernel counted for the process, mapped pages included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import pairs

pytestmark = pytest.mark.integration
MOST = 500 * 10**6  # bytes of memory
MEASURE = """
import sys
from pathlib import Path
from benchmarks.diff import measured
code, _, _, memory, _ = measured(sys.argv[2:], 300, Path(sys.argv[1]))
print(code, memory)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Not kept, as other temporary files are: it holds gigabytes."""
    place = tmp_path_factory.mktemp("large")
    yield place
    shutil.rmtree(place)


def peak(folder: Path, left: Path, right: Path, seconds: float = 60) -> tuple[int, str]:
    """Bytes, and the answer."""
    words = [sys.executable, "-m", "harness", "diff", f"--seconds={seconds}", str(left), str(right)]
    # A process is counted from the size of the one that started it: let that be a small one.
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder / "answer"), *words],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    code, memory = done.stdout.split()
    assert code == "1"
    return int(memory), (folder / "answer").read_text("utf-8")


@pytest.mark.parametrize("kind", ["function", "shifted"])
def test_a_pair_of_libraries(folder: Path, kind: str) -> None:
    left, right = pairs.pair(folder, 300, kind)
    memory, answer = peak(folder, left, right, seconds=15)
    assert left.stat().st_size > 290 * 10**6
    assert f"! function {pairs.KINDS[kind]}: changed" in answer
    assert memory < MOST


def test_a_pair_of_data_files(folder: Path) -> None:
    """Sparse files: they take no space."""
    sides = [folder / "left", folder / "right"]
    for number, path in enumerate(sides):
        with open(path, "wb") as stream:
            os.truncate(stream.fileno(), 2 * 10**9)
            stream.seek(2 * 10**9 - 7)
            stream.write(bytes([number]))
    memory, answer = peak(folder, sides[0], sides[1])
    assert "! range bytes 1999999993 to 1999999993" in answer
    assert memory < MOST


def test_a_pair_of_texts(folder: Path) -> None:
    sides = [folder / "left", folder / "right"]
    block = b"".join(b"line %d of a text that is long\n" % number for number in range(30_000))
    for number, path in enumerate(sides):
        with open(path, "wb") as stream:
            stream.writelines([block] * 400)
            stream.write(b"changed %d\n" % number)
            stream.writelines([block] * 200)
    assert sides[0].stat().st_size > MOST
    memory, answer = peak(folder, sides[0], sides[1])
    assert "+changed 1" in answer
    assert memory < MOST
