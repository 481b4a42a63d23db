"""Whether a path leads through a folder: what is trusted must not come from what is checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MOST_LINKS = 40  # as Linux follows


def leads_through(path: Path, folder: Path) -> bool:
    """Whether ``path`` is inside ``folder``, or a link there was followed on the way to it.

    By identity, not by name: neither ``..`` nor links nor a second mount of the folder hide it. A
    path that cannot be followed to its end is judged by how far it leads.
    """
    try:
        wanted = _identity(folder)
    except OSError:
        return False
    return any(
        _known(each) == wanted for place in _deciding(path) for each in (place, *place.parents)
    )


def _deciding(path: Path) -> Iterator[Path]:
    """The links that are followed on the way, and the end; none of them has links above it."""
    place, rest, links = Path("/"), list(path.absolute().parts[:0:-1]), 0
    while rest:
        part = rest.pop()
        place = place.parent if part == ".." else place / part
        if place.is_symlink():
            yield place
            links += 1
            if links > MOST_LINKS:
                return
            target = place.readlink()
            rest += [word for word in target.parts[::-1] if word != "/"]
            place = Path("/") if target.is_absolute() else place.parent
    yield place


def _identity(place: Path) -> tuple[int, int]:
    status = place.stat()
    return status.st_dev, status.st_ino


def _known(place: Path) -> tuple[int, int] | None:
    try:
        return _identity(place)
    except OSError:
        return None
