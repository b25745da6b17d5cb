"""The rows of a pass in a static shape: a few arrays that say what stands where.

    slot 0   t n0 n1 n2      t: the last committed token    n: draft nodes
    slot 1   t n0  .  .      .: padding, at t's position, sees what t sees; nobody sees it
    slot 2   .  .  .  .      a slot that nobody has

Shapes are rounded up, so that few of them come: sequences, rows of each, and keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import Draft, TokenIds

ROWS = (1, 2, 4, 8, 16, 32, 64)
"""Rows of a sequence that passes are rounded up to; beyond, multiples of 32."""
KEYS = 256
"""Keys that passes are rounded up to a multiple of; from 1024 on, of half of their size."""


class PassShape(NamedTuple):
    """Sequences of a pass, rows of each, and keys that each row is compared with."""

    slots: int
    rows: int
    keys: int

    @classmethod
    def holding(cls, sequences: int, rows: int, past: int, *, size: int) -> PassShape:
        """The smallest shape for so many sequences, rows and cached tokens, of `size` slots."""
        slots = 1 << (sequences - 1).bit_length()
        rows = next((each for each in ROWS if each >= rows), -(-rows // 32) * 32)
        keys = past + rows
        step = max(KEYS, (1 << (keys.bit_length() - 1)) // 2)
        return cls(min(slots, size), rows, -(-keys // step) * step)


@dataclass(frozen=True, slots=True)
class StaticRows:
    """A pass over drafts of several sequences.

    inputs: int32 [slots, 1 + 2 rows + rows^2]: cached tokens, then the ids and positions of the
    rows, then for each row which rows of this pass it sees. wanted: int64, the rows of all that
    are no padding; None: all. firsts: the first row of each sequence among those.
    """

    shape: PassShape
    inputs: NDArray[np.int32]
    wanted: NDArray[np.int64] | None
    firsts: list[int]

    @classmethod
    def of(
        cls,
        contexts: Sequence[TokenIds],
        drafts: Sequence[Draft],
        known: Callable[[TokenIds], TokenIds],
        shape: PassShape,
    ) -> StaticRows:
        """One row for the last token of each context, whose others are cached, and its draft's.

        known: replaces drafted ids beyond the vocabulary. shape: one that holds all of them.
        """
        counts = [1 + len(draft) for draft in drafts]
        pasts = np.array([len(context) - 1 for context in contexts], dtype=np.int32)
        slots, rows, _ = shape
        ids = np.zeros((slots, rows), dtype=np.int32)
        at = np.zeros((slots, rows), dtype=np.int32)
        sees = np.zeros((slots, rows, rows), dtype=np.int32)
        sees[:, :, 0] = 1
        used = len(contexts)
        ids[:used] = np.array([context[-1] for context in contexts], dtype=np.int32)[:, None]
        at[:used] = pasts[:, None]
        for slot, (draft, count) in enumerate(zip(drafts, counts, strict=True)):
            if count > 1:
                ids[slot, 1:count] = known(draft.tokens)
                at[slot, 1:count] += draft.depths
                sees[slot, 1:count, 1:count] = draft.mask()
        past = np.zeros((slots, 1), dtype=np.int32)
        past[:used, 0] = pasts
        wanted = None
        if used * rows != sum(counts) or used != slots:
            wanted = np.concatenate(
                [slot * rows + np.arange(count) for slot, count in enumerate(counts)]
            )
        firsts = [0, *np.cumsum(counts)[:-1].tolist()]
        inputs = np.concatenate((past, ids, at, sees.reshape(slots, -1)), axis=1)
        return cls(shape, inputs, wanted, firsts)
