"""The slow Recall's rows: what the target found likely, by the tokens before it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from draftwood.index.recall import namespace_key

KEPT = 8
"""Tokens of a row."""
ALONE = -1
"""In the place of the token before last: the last token counts alone."""
_WORD = 2**64 - 1
Row = list[tuple[int, int]]
"""Tokens and their shares (16 bits), the likeliest first."""


def row_of(tokens: Sequence[int], logprobs: Sequence[float]) -> Row:
    """A row as it is kept: without tokens of less than one part in 65536."""
    row: Row = []
    for token, logprob in list(zip(tokens, logprobs, strict=True))[:KEPT]:
        share = math.exp(logprob) * 65536
        if not share >= 1:
            break
        row.append((token, int(min(share, 65535))))
    return row


class SlowRows:
    """The twin of the native `KeptRows`: of rows whose tokens hash alike, the newer one stays."""

    def __init__(self, key: int) -> None:
        self._bits = 17 if key == namespace_key("") else 15
        self._slots: dict[int, tuple[int, Row, int]] = {}

    def add(self, before: int, last: int, row: Row) -> None:
        """Keep a row under two tokens, averaged with what was known."""
        if not row:
            return
        key = (before & 0xFFFFFFFF) << 32 | last
        slot = self._slot(key)
        known, old, rows = self._slots.get(slot, (0, [], 0))
        if not rows or known != key:
            self._slots[slot] = (key, row, 1)
            return
        shares = dict(row)
        for token, share in old:
            shares[token] = shares.get(token, 0) + share
        best = sorted(shares.items(), key=lambda each: -each[1])[:KEPT]
        self._slots[slot] = (key, [(t, s // 2) for t, s in best if s > 1], min(rows + 1, 255))

    def find(self, before: int, last: int) -> tuple[Row, bool]:
        """The row under two tokens, empty where none is known; whether it is one of several."""
        key = (before & 0xFFFFFFFF) << 32 | last & 0xFFFFFFFF
        known, row, rows = self._slots.get(self._slot(key), (0, [], 0))
        return (row, rows > 1) if rows and known == key else ([], False)

    def forget(self) -> None:
        """Keep nothing."""
        self._slots.clear()

    def __bool__(self) -> bool:
        return bool(self._slots)

    def _slot(self, key: int) -> int:
        word = (key + 1) * 0x9E3779B97F4A7C15 & _WORD
        word ^= word >> 32
        return (word * 0xBF58476D1CE4E5B9 & _WORD) >> (64 - self._bits)
