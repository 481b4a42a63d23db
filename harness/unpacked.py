"""A build backend that builds nothing: the package in a source archive becomes a wheel as it is.

For packages of plain Python that are published without a wheel. pip is given this module under
setuptools' name, so that the archive's own setup.py never runs while it is installed.
:mod:`harness.packages` copies the file; it imports nothing of ours.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from email.parser import HeaderParser
from pathlib import Path

MAX_BYTES = 64 * 2**20  # of all files together
MAX_FILES = 5000
MIDNIGHT = (1980, 1, 1, 0, 0, 0)


class Unpacked:
    """The hooks that pip calls, with the unpacked archive as the working directory."""

    def build_wheel(
        self,
        wheel_directory: str,
        config_settings: object = None,  # noqa: ARG002 - the standard's
        metadata_directory: str | None = None,  # noqa: ARG002 - the standard's
    ) -> str:
        """Writes the wheel; returns its name. Raises ValueError for what is no plain package."""
        says = Path("PKG-INFO").read_text("utf-8")
        headers = HeaderParser().parsestr(says)
        name = re.sub(r"[-_.]+", "_", headers["Name"]).lower()
        stem = f"{name}-{headers['Version']}"
        if not re.fullmatch(r"[a-z0-9_]+-[0-9A-Za-z.+!]+", stem):
            raise ValueError(f"{stem!r} is no name and version of a package")
        files = {path.as_posix(): path.read_bytes() for path in sources(Path(name))}
        files[f"{stem}.dist-info/METADATA"] = says.encode()
        files[f"{stem}.dist-info/WHEEL"] = (
            b"Wheel-Version: 1.0\nGenerator: harness\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        record = f"{stem}.dist-info/RECORD"
        lines = [f"{path},sha256={digest(data)},{len(data)}" for path, data in files.items()]
        files[record] = "".join(f"{line}\n" for line in [*lines, f"{record},,"]).encode()
        wheel = f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(Path(wheel_directory, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in files.items():
                member = zipfile.ZipInfo(path, MIDNIGHT)
                member.external_attr = 0o100644 << 16
                archive.writestr(member, data)
        return wheel


def sources(package: Path) -> list[Path]:
    """The files of a package, sorted. Raises ValueError."""
    if package.is_symlink() or not (package / "__init__.py").is_file():
        raise ValueError(f"the archive holds no package {package.name}")
    found = []
    for path in sorted(package.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path} is no regular file")
        if path.is_file():
            found.append(path)
    if len(found) > MAX_FILES or sum(path.stat().st_size for path in found) > MAX_BYTES:
        raise ValueError(f"{package} is too large")
    return found


def digest(data: bytes) -> str:
    found = hashlib.sha256(data).digest()
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode()


backend = Unpacked()
__legacy__ = backend  # pip's name for it where an archive has no [build-system] table
build_wheel = backend.build_wheel
