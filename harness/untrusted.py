"""Reading single files out of a folder that somebody hostile wrote: no links, no surprises."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class UntrustedFileError(Exception):
    """The file is not there, is no regular file, or is too large; the text says which."""


def read(folder: Path, name: str, limit: int) -> bytes:
    """The bytes of the regular file ``name`` (parts joined by ``/``) below ``folder``.

    Follows no link on the way below ``folder``. limit: most bytes.
    """
    above = _folder(folder, name.split("/")[:-1])
    last = name.rpartition("/")[2]
    try:
        with open(os.open(last, _FLAGS, dir_fd=above), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UntrustedFileError(f"{name} is not a regular file")
            data = file.read(limit + 1)
    except OSError as error:
        raise UntrustedFileError(f"{name} cannot be read: {error.strerror}") from None
    finally:
        os.close(above)
    if len(data) > limit:
        raise UntrustedFileError(f"{name} is larger than {limit} bytes")
    return data


def names(folder: Path, name: str) -> set[str]:
    """What the folder ``name`` below ``folder`` holds."""
    descriptor = _folder(folder, name.split("/"))
    try:
        return set(os.listdir(descriptor))  # noqa: PTH208 - of a descriptor
    finally:
        os.close(descriptor)


_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def _folder(folder: Path, parts: list[str]) -> int:
    """A descriptor of the folder below ``folder``; the caller closes it."""
    flags = _FLAGS | os.O_DIRECTORY
    at = folder.name
    try:
        descriptor = os.open(folder, flags)
        for at in parts:
            if at in ("", ".", ".."):
                os.close(descriptor)
                raise UntrustedFileError(f"{at!r} is no name of a folder")
            above = descriptor
            try:
                descriptor = os.open(at, flags, dir_fd=above)
            finally:
                os.close(above)
    except OSError as error:
        raise UntrustedFileError(f"folder {at} cannot be read: {error.strerror}") from None
    return descriptor
