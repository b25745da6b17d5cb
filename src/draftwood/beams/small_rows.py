"""The small model's output after the texts of several beams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftwood.beams.pool import Prefix
from draftwood.draft import ROOT, TokenIds
from draftwood.drafters.small.seat import DraftSeat
from draftwood.sampling.law import Law
from draftwood.verify.laws import Probabilities, normalized


class SmallModelRows:
    """The small model's rows after prefixes, each computed once while the seat holds it."""

    def __init__(self, seat: DraftSeat, law: Law) -> None:
        self._seat, self._law = seat, law
        self._rows: dict[Prefix, NDArray[Any]] = {}
        self._nodes: dict[Prefix, int] = {(): ROOT}

    def rows(self, prefixes: Sequence[Prefix]) -> bool:
        """Compute the rows after prefixes, a pass a level; False where the context is full."""
        room = self._seat.room
        if room is not None and max(map(len, prefixes)) > room:
            return False
        if () not in self._rows:
            self._rows[()] = self._seat.root()
        missing = {
            prefix[:end] for prefix in prefixes for end in range(1, len(prefix) + 1)
        } - self._rows.keys()
        for length in sorted({len(prefix) for prefix in missing}):
            level = sorted(prefix for prefix in missing if len(prefix) == length)
            tokens = np.array([prefix[-1] for prefix in level], dtype=np.int32)
            parents = np.array([self._nodes[prefix[:-1]] for prefix in level], dtype=np.int32)
            first = len(self._nodes) - 1
            self._nodes |= {prefix: first + at for at, prefix in enumerate(level)}
            self._rows |= zip(level, self._seat.expand(tokens, parents), strict=True)
        return True

    def law(self, committed: TokenIds, prefix: Prefix) -> Probabilities:
        """q after a prefix, once its row is there."""
        seen = np.concatenate((committed, np.array(prefix, dtype=np.int32)))
        return normalized(self._law(self._rows[prefix], seen))

    def keep(self, settled: Prefix) -> None:
        """Append the tokens that all beams begin with to the context."""
        ends = range(1, len(settled) + 1)
        path = [self._nodes[settled[:end]] for end in ends if settled[:end] in self._nodes]
        self._seat.keep(np.array(path, dtype=np.int32), np.array(settled, dtype=np.int32))
        self._rows, self._nodes = {}, {(): ROOT}
