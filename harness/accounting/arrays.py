"""Arrays whose type is known when the program is read, not before."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
