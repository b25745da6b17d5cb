"""Rows whose logits lie in an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.protocols import NOT_A_NUMBER


class HostRows:
    """The rows of one sequence in memory.

    logits: float32 [n + 1, V], the rows' own. context: the committed tokens, borrowed.
    """

    __slots__ = ("_best", "_context", "_logits")

    def __init__(self, logits: NDArray[np.float32], context: TokenIds) -> None:
        self._logits = logits
        self._context = context
        self._best: TokenIds | None = None

    @property
    def context(self) -> TokenIds:
        """The committed tokens, which row 0 follows. Borrowed: valid until the next commit."""
        return self._context

    def argmax(self) -> TokenIds:
        """int32 [n + 1]: the most likely next token of every row; ties go to the lowest id."""
        if self._best is None:
            best = self._logits.argmax(-1).astype(np.int32)  # of NaN the first
            nan = np.isnan(self._logits[np.arange(len(best)), best])
            self._best = np.where(nan, np.int32(NOT_A_NUMBER), best)
        return self._best

    def logits(self, row: int) -> NDArray[np.float32]:
        """float32 [V]: the logits after `row`; not to be changed."""
        if not 0 <= row < len(self._logits):
            raise IndexError(f"row {row} of a draft of {len(self._logits) - 1} nodes")
        found: NDArray[np.float32] = self._logits[row]
        return found
