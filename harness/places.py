"""Where things lie."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent.parent  # the checkout: toolchains/ lies beside harness/
