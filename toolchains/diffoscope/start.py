"""Starts diffoscope in its run: ``python start.py STATUS ARGUMENT…``.

diffoscope cannot start where libmagic or libarchive is missing. libmagic comes with its
environment; libarchive is the system's. Where there is none, the formats that need it are taken
out, and STATUS, a JSON file, names them: diffoscope then compares such files byte by byte. Where
diff and cmp are missing it breaks off at random, so that it is not started; STATUS says that too.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import types


class Names(types.ModuleType):
    """Stands in for a module of libarchive's: every name is there and says nothing."""

    def __getattr__(self, name: str) -> None:
        return None


def without_libarchive() -> list[str]:
    """Take out the formats that need it; their modules' names."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "libarchive"]:
        del sys.modules[name]
    stand_in = Names("libarchive")
    stand_in.__dict__.update(
        ffi=Names("libarchive.ffi"),
        exception=types.SimpleNamespace(ArchiveError=OSError),
        ArchiveEntry=type("ArchiveEntry", (), {"mtime_nsec": None}),
    )
    sys.modules["libarchive"] = stand_in
    manager = importlib.import_module("diffoscope.comparators").ComparatorManager
    container = importlib.import_module("diffoscope.comparators.utils.libarchive")
    kept, lost = [], set()
    for choice in manager.COMPARATORS:
        module, _, name = choice[0].partition(".")
        try:
            found = getattr(importlib.import_module(f"diffoscope.comparators.{module}"), name)
        except ImportError:  # one that diffoscope has a second choice for
            kept.append(choice)
            continue
        needs = getattr(found, "CONTAINER_CLASSES", ())
        if any(issubclass(each, container.LibarchiveContainer) for each in needs):
            lost.add(module)
        else:
            kept.append(choice)
    manager.COMPARATORS = tuple(kept)
    return sorted(lost)


def main() -> None:
    status, arguments = sys.argv[1], sys.argv[2:]
    importlib.import_module("pylibmagic")  # makes its libmagic and database known
    lost: list[str] = []
    try:
        importlib.import_module("libarchive")
    except (ImportError, AttributeError, OSError, TypeError):
        lost = without_libarchive()
    missing = [name for name in ("diff", "cmp") if shutil.which(name) is None]
    with open(status, "w", encoding="utf-8") as stream:
        json.dump({"missing": missing, "without_libarchive": lost}, stream)
    if missing:
        sys.exit(f"{' and '.join(missing)}: not on this machine, and diffoscope needs it")
    sys.argv = ["diffoscope", *arguments]
    importlib.import_module("diffoscope.main").main()


if __name__ == "__main__":
    main()
