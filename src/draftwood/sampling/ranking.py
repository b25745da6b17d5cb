"""The k likeliest tokens of rows in CPU memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftwood.protocols import Top

_FEW = 8
"""Up to here so many searches for a maximum are quicker than a partition, at any vocabulary."""


def k_likeliest(rows: NDArray[np.floating[Any]], k: int) -> Top:
    """The k likeliest tokens of each row, the likeliest first, equals by the lower id.

    rows: float [m, V], log-probabilities. k: >= 1; fewer where V is less.
    """
    m, size = rows.shape
    k = min(k, size)
    if k == 1:
        best = rows.argmax(1)[:, None]
    elif k <= _FEW:
        best = np.empty((m, k), dtype=np.int64)
        left, every = np.array(rows), np.arange(m)
        for place in range(k):
            best[:, place] = left.argmax(1)
            left[every, best[:, place]] = -np.inf
    else:
        best = np.argpartition(rows, size - k, axis=1)[:, size - k :]
        order = np.lexsort((best, -np.take_along_axis(rows, best, 1)))
        best = np.take_along_axis(best, order, 1)
    found = np.take_along_axis(rows, best, 1)
    return Top(best.astype(np.int32), found.astype(np.float32, copy=False))
