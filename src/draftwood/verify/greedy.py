"""Greedy verification: the target's most likely token, always."""

from __future__ import annotations

import numpy as np

from draftwood.draft import Draft
from draftwood.protocols import Rows, Verdict
from draftwood.sampling.law import Sampling
from draftwood.verify.match import follow, seen


class Greedy:
    """Lossless at temperature 0: token for token what plain greedy decoding gives.

    sampling: where it has a repetition penalty, that is applied to each row first. Safe to share
    between threads.
    """

    lossless = True

    def __init__(self, sampling: Sampling | None = None) -> None:
        self._sampling = sampling if sampling is not None and sampling.penalizes else None

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The longest path of most likely tokens, and the most likely token after it."""
        sampling = self._sampling
        if sampling is None:
            best = rows.argmax().tolist()
            return follow(draft, lambda row, accepted: best[row])

        def penalized_best(row: int, accepted: list[int]) -> int:
            return int(np.argmax(sampling.scores(rows.logits(row), seen(rows, accepted))))

        return follow(draft, penalized_best)
