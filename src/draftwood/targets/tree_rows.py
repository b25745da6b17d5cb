"""A draft tree in a pass of a model: where each row stands, and what it sees.

rows       0    1    2    3    4      0, 1: pending tokens    2, 3: nodes 0, 1 behind them
position   p   p+1  p+2  p+2  p+3     4: node 2, behind node 0
sees       0   01   012  013  0124    and the whole cached context, of p tokens
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import Draft


def row_positions(draft: Draft, past: int, pending: int) -> NDArray[np.int64]:
    """int64 [pending + n]: the position of every row of a pass behind `past` cached tokens."""
    positions = np.arange(past, past + pending + len(draft))
    positions[pending:] = past + pending - 1 + draft.depths
    return positions


def tree_mask(
    draft: Draft, past: int, pending: int, *, window: int | None = None
) -> NDArray[np.bool_]:
    """bool [pending + n, past + pending + n]: which cached token, pending token or node a row sees.

    window: how many positions a row sees at most, its own included; None: all.
    """
    rows, context = pending + len(draft), past + pending
    visible = np.ones((rows, past + rows), dtype=np.bool_)
    visible[:pending, past:] = np.arange(rows) <= np.arange(pending)[:, None]
    visible[pending:, context:] = draft.mask()
    if window is not None and past + rows > window:
        at = row_positions(draft, past, pending)
        keys = np.concatenate((np.arange(past), at))
        visible &= at[:, None] - keys < window
    return visible
