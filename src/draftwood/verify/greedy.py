"""Greedy verification: the target's most likely token, always."""

from __future__ import annotations

from draftwood.draft import Draft
from draftwood.errors import UnusableLogits
from draftwood.protocols import NOT_A_NUMBER, Rows, Verdict
from draftwood.sampling.law import Sampling
from draftwood.verify.match import follow, seen


class Greedy:
    """Lossless at temperature 0: token for token what plain greedy decoding gives.

    sampling: its repetition penalty and its logits processors are applied to each row that is
    visited; None, or where it has neither: the rows as they are. Safe to share between threads
    where the processors are.
    """

    lossless = True

    def __init__(self, sampling: Sampling | None = None) -> None:
        self._sampling = sampling if sampling is not None and sampling.changes_logits else None

    def __repr__(self) -> str:
        return "Greedy()" if self._sampling is None else f"Greedy({self._sampling!r})"

    def verify(self, draft: Draft, rows: Rows) -> Verdict:
        """The longest path of most likely tokens, and the most likely token after it.

        Raises:
            UnusableLogits: for a row on that path that holds NaN, or has no token left.
        """
        sampling = self._sampling
        if sampling is not None:
            law = sampling
            return follow(
                draft, lambda row, accepted: law.likeliest(rows.logits(row), seen(rows, accepted))
            )
        best = rows.argmax().tolist()

        def known_best(row: int, accepted: list[int]) -> int:
            token: int = best[row]
            if token == NOT_A_NUMBER:
                raise UnusableLogits.after(len(rows.context) + len(accepted))
            return token

        return follow(draft, known_best)
