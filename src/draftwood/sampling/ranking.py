"""The k likeliest tokens of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftwood.errors import UnsupportedModel
from draftwood.protocols import RankedRows, Rows, Top

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


def likely_tokens(rows: Rows, count: int, k: int) -> Top | None:
    """The k likeliest tokens of `count` rows; None where rows have no logits.

    By the rows' own `top` where they have one, else row by row.
    """
    if isinstance(rows, RankedRows):
        return rows.top(k)
    try:
        logits = np.stack([np.asarray(rows.logits(row), dtype=np.float32) for row in range(count)])
    except UnsupportedModel:
        return None
    high = logits.max(axis=1, keepdims=True)
    total = high + np.log(np.exp(logits - high).sum(axis=1, keepdims=True))
    return k_likeliest(logits - total, k)
