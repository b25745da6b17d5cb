"""A bounded table of the target's likeliest next tokens, by the last one or two tokens.

    last two tokens   SELECT name  ->  FROM 0.8   , 0.15   AS 0.01 ...        k of each,
    last token               name  ->  text 0.4   FROM 0.2   , 0.2 ...        averaged over rows

Token Recycling (Luo et al. 2024, arXiv 2408.08696, section 3.1) keeps the candidates of the last
token; this table also keeps those of the last two, and averages what it is told again.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock

_WORD: Final = (1 << 64) - 1
_STEP: Final = 0x9E3779B97F4A7C15
_FACTOR: Final = 0xBF58476D1CE4E5B9
ALONE: Final = -1
"""In the place of the token before last: the last token counts alone."""


class RecycledTable:
    """The k likeliest next tokens after two tokens, and after one.

    slots: entries, a power of two; on a hash collision the newer one stays. k: next tokens of an
    entry. 16 + 8 k bytes an entry, all taken at once and counted by `nbytes`. kept: weight of an
    entry's average so far when a row of the same tokens comes; 0: only the newest row counts.
    space: a namespace's 64-bit key (`namespace_key`); what is added in one is found only there.
    Thread-safe.

    Raises:
        InvalidOption: slots that are no power of two from 2 to 2**28, k outside [1, 64], or kept
            outside [0, 1).
    """

    def __init__(self, slots: int = 2**17, k: int = 8, *, kept: float = 0.5) -> None:
        if not 2 <= slots <= 2**28 or slots & (slots - 1):
            raise InvalidOption(f"slots is {slots}; use a power of two from 2 to 2**28")
        if not 1 <= k <= 64:
            raise InvalidOption(f"k is {k}; keep 1 to 64 next tokens of each row")
        if not 0.0 <= kept < 1.0:
            raise InvalidOption(f"kept is {kept}; use a weight from 0 to below 1, such as 0.5")
        self.k, self._kept = k, np.float32(kept)
        self._shift = 64 - (slots.bit_length() - 1)
        self._spaces = np.zeros(slots, dtype=np.uint64)
        self._pairs = np.zeros(slots, dtype=np.uint64)
        self._tokens = np.zeros((slots, k), dtype=np.int32)
        self._shares = np.zeros((slots, k), dtype=np.float32)  # an empty slot's first share is 0
        self._lock = fork_lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all entries, fixed at creation."""
        parts = (self._spaces, self._pairs, self._tokens, self._shares)
        return sum(part.nbytes for part in parts)

    def add(
        self,
        space: int,
        before: TokenIds,
        last: TokenIds,
        tokens: NDArray[np.int32],
        shares: NDArray[np.float32],
    ) -> None:
        """Add rows, each under its last two tokens and under its last.

        before, last: int32 [m], the token before last (`ALONE`: none) and the last. tokens: int32
        [m, <= k], distinct in a row. shares: float32 of the same shape, their probabilities.
        """
        before = np.concatenate((before, np.full(len(before), ALONE, dtype=np.int32)))
        pairs = before.astype(np.uint64) << np.uint64(32) | np.tile(last, 2).astype(np.uint64)
        tokens, shares = np.tile(tokens, (2, 1)), np.tile(shares, (2, 1))
        word = (pairs + np.uint64(1)) * np.uint64(_STEP) ^ np.uint64(space)
        word ^= word >> np.uint64(32)
        slots = (word * np.uint64(_FACTOR)) >> np.uint64(self._shift)
        with self._lock:
            known = (self._pairs[slots] == pairs) & (self._spaces[slots] == np.uint64(space))
            tokens, shares = self._averaged(slots, known, tokens, shares)
            self._spaces[slots] = space
            self._pairs[slots] = pairs
            self._tokens[slots] = tokens
            self._shares[slots] = shares

    def find(self, space: int, before: int, last: int) -> tuple[list[int], list[float]] | None:
        """The next tokens after these two and their shares, the likeliest first; None: unknown."""
        pair = (before & 0xFFFFFFFF) << 32 | last
        word = (pair + 1) * _STEP & _WORD ^ space
        word ^= word >> 32
        slot = (word * _FACTOR & _WORD) >> self._shift
        with self._lock:
            if self._pairs[slot] != pair or self._spaces[slot] != space:
                return None
            shares = self._shares[slot].tolist()
            return (self._tokens[slot].tolist(), shares) if shares[0] else None

    def _averaged(
        self,
        slots: NDArray[np.uint64],
        known: NDArray[np.bool_],
        tokens: NDArray[np.int32],
        shares: NDArray[np.float32],
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """New rows and what the slots held under the same key: the k largest averages."""
        kept = np.where(known, self._kept, np.float32(0))[:, None]
        old, held = self._tokens[slots], self._shares[slots] * kept
        shares = shares * (1 - kept)
        same = old[:, :, None] == tokens[:, None, :]
        held += np.einsum("mij,mj->mi", same, shares) * known[:, None]
        again = same.any(axis=1) & known[:, None]
        all_tokens = np.concatenate((tokens, old), axis=1)
        all_shares = np.concatenate((np.where(again, np.float32(0), shares), held), axis=1)
        best = np.argsort(-all_shares, axis=1, kind="stable")[:, : self.k]
        rows = np.arange(len(best))[:, None]
        return all_tokens[rows, best], all_shares[rows, best]
