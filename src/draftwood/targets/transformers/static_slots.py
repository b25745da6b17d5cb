"""Keys and values of several sequences in one buffer, whose place CUDA graphs remember.

    buffer    [layers, keys | values, slots, heads, rows, head size]

As `BatchCache`, but one tensor for all layers: accepted rows move in two calls, not in two a layer.
"""

from __future__ import annotations

from typing import Any

import torch

from draftwood.targets.transformers.cache import FIRST_ROWS, SequenceCache
from draftwood.targets.transformers.static_rows import KEYS, PassShape


class StaticSlots:
    """The caches of `size` sequences; each owns a slot from row 0. Used by one thread at a time.

    recorded: passes that were recorded for this buffer, by shape; forgotten when it grows. uses:
    how often a shape was asked for. made_for: what weights and tables those were recorded with.
    """

    def __init__(self, layers: int, size: int, heads: int, width: int, like: torch.Tensor) -> None:
        self.size = size
        self.buffer = like.new_zeros((layers, 2, size, heads, 0, width))
        self.recorded: dict[PassShape, Any] = {}
        self.uses: dict[PassShape, int] = {}
        self.made_for: Any = None

    @property
    def capacity(self) -> int:
        """Rows that a slot holds."""
        return self.buffer.shape[4]

    def reserve(self, rows: int) -> None:
        """Make room for so many rows. New rows hold zeros: what is masked must still be finite."""
        held = self.capacity
        if rows <= held:
            return
        shape = list(self.buffer.shape)
        shape[4] = max(FIRST_ROWS, 2 * held, -(-rows // KEYS) * KEYS)
        self.recorded.clear()
        grown = self.buffer.new_zeros(shape)
        grown[..., :held, :] = self.buffer
        self.buffer = grown

    def adopt(self, slot: int, cache: SequenceCache) -> None:
        """Copy a sequence of its own into a slot."""
        self.reserve(cache.length)
        for layer, other in zip(self.buffer, cache.layers, strict=True):
            layer[0, slot, :, : cache.length] = other.keys[0]
            layer[1, slot, :, : cache.length] = other.values[0]

    def copy(self, source: int, place: int, rows: int) -> None:
        """Copy the first rows of a slot to another."""
        self.buffer[:, :, place, :, :rows] = self.buffer[:, :, source, :, :rows]

    def move(self, slots: torch.Tensor, sources: torch.Tensor, places: torch.Tensor) -> None:
        """Move rows within their slots, all at once; three int64 [n]."""
        self.buffer[:, :, slots, :, places] = self.buffer[:, :, slots, :, sources]

    def nbytes(self) -> int:
        """Bytes of the buffer, free rows and slots included."""
        return self.buffer.nbytes
