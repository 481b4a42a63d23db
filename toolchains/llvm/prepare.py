"""Make the glibc stubs that libraries are linked against: sysroot/lib/libc.so.6 and libm.so.6.

Runs once, after Zig has been installed: ``prepare.py ENVIRONMENT OUTPUT``. ENVIRONMENT is only
read; what is left in OUTPUT is copied into it. Imports nothing of the harness.

Zig carries the symbol lists of every glibc release and makes the stubs when it first links for
one. Asking for them here, once, lets builds call ``zig ld.lld`` directly, without Zig's cache and
without the seconds that filling it takes. ``-s`` matters: with debug information the stubs name
the cache directory, and would differ from one preparation to the next.

Exit code 0, or 1 with one line that says what went wrong.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TARGET = "x86_64-linux-gnu.2.28"
STUBS = ("libc.so.6", "libm.so.6")


def make_stubs(zig: Path, output: Path) -> str | None:
    """Leave the stubs in ``output``; return what went wrong, or None."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "empty.c").touch()
        environment = {
            "HOME": folder,
            "PATH": os.defpath,
            "TMPDIR": folder,
            "ZIG_GLOBAL_CACHE_DIR": str(work / "global"),
            "ZIG_LOCAL_CACHE_DIR": str(work / "local"),
        }
        command = [str(zig), "cc", "-target", TARGET, "-shared", "-s", "-o", "out.so", "empty.c"]
        linked = subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        if linked.returncode:
            return (
                f"zig cc failed with exit code {linked.returncode}: {linked.stderr.strip()[-500:]}"
            )
        output.mkdir(parents=True)
        for name in STUBS:
            found = list((work / "global").glob(f"o/*/{name}"))
            if len(found) != 1:
                return f"zig left {len(found)} files called {name} in its cache, not one"
            shutil.copyfile(found[0], output / name)
    return None


if __name__ == "__main__":
    problem = make_stubs(
        Path(sys.argv[1]) / "ziglang" / "zig", Path(sys.argv[2]) / "sysroot" / "lib"
    )
    if problem:
        sys.exit(problem)
