"""Which removed line stands beside which added line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest

MOST = 150  # pairs of lines that are held against each other in one run; above it, in their order
ALIKE = 0.5  # share of words in common from which two lines are taken for one that was changed
_WORD = re.compile(r"\w+|[^\w\s]")

Row = tuple[int | None, int | None]  # places among the removed and the added lines


def aligned(gone: Sequence[str], came: Sequence[str]) -> list[Row]:
    """Rows of two columns: lines that are alike in one row, all in their order.

    What is between two such rows is put side by side in its order.
    """
    rows: list[Row] = []
    i = j = 0
    for left, right in [*_alike(gone, came), (len(gone), len(came))]:
        rows += zip_longest(range(i, left), range(j, right))
        if left < len(gone):
            rows.append((left, right))
        i, j = left + 1, right + 1
    return rows


def _alike(gone: Sequence[str], came: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs in order that have most words in common, all together."""
    if not gone or not came or len(gone) * len(came) > MOST:
        return []
    ours, theirs = ([set(_WORD.findall(line[1:])) for line in side] for side in (gone, came))
    # best[i][j]: the most that lines from i and j on can have in common
    best = [[0.0] * (len(came) + 1) for _ in range(len(gone) + 1)]
    score = [[_share(a, b) for b in theirs] for a in ours]
    for i in reversed(range(len(gone))):
        for j in reversed(range(len(came))):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + score[i][j])
    found = []
    i = j = 0
    while i < len(gone) and j < len(came):
        if score[i][j] and best[i][j] == best[i + 1][j + 1] + score[i][j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found


def _share(a: set[str], b: set[str]) -> float:
    share = 2 * len(a & b) / (len(a) + len(b)) if a or b else 0.0
    return share if share >= ALIKE else 0.0
