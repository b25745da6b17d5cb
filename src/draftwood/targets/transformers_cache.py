"""Keys and values of one sequence, kept so that a rejected draft costs nothing to forget.

       buffer    | context ............ | draft nodes 0 1 2 3 4 |  free  |
       accepted                           -> 1, 4
       keep      | context ............ 1 4 |          free              |

A pass writes the rows of its draft behind the context. Keeping a path moves only those accepted
rows that stand in the wrong place; the context is neither copied nor computed again. Every layer
keeps all rows, sliding-window layers too: which of them a row sees is the mask's business.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

FIRST_ROWS = 256
"""Rows that a buffer holds at first; it doubles from there."""


class GrowingLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, [batch, heads, rows, head size], in growing buffers."""

    is_sliding = False
    is_croppable = True

    def __init__(self) -> None:
        self.length = 0
        self.is_initialized = False
        self._keys = self._values = torch.empty(0)

    @property
    def keys(self) -> torch.Tensor:
        """The keys of all rows held; a view."""
        return self._keys[:, :, : self.length]

    @property
    def values(self) -> torch.Tensor:
        """The values of all rows held; a view."""
        return self._values[:, :, : self.length]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take shape, type and device from the first rows."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self._keys, self._values = _rows_like(key_states, 0), _rows_like(value_states, 0)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append rows; all keys and values that the pass may attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self.length, self.length + key_states.shape[-2]
        if end > self._keys.shape[-2]:
            self._grow(end)
        self._keys[:, :, start:end] = key_states
        self._values[:, :, start:end] = value_states
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def keep(self, length: int, rows: torch.Tensor | None) -> None:
        """Keep the first `length` rows, then `rows` (int64, each at or beyond `length`)."""
        self.length = length
        if rows is None or not self.is_initialized:
            return
        self.length += len(rows)
        rows = rows.to(self._keys.device)
        self._keys[:, :, length : self.length] = self._keys.index_select(2, rows)
        self._values[:, :, length : self.length] = self._values.index_select(2, rows)

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last -`tokens_to_remove` rows, in the manner of transformers' own layers."""
        self.length += min(0, tokens_to_remove)

    def get_seq_length(self) -> int:
        """Rows held."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a pass of `query_length` rows attends to, and the position of the first."""
        return self.length + query_length, 0

    def get_max_length(self) -> int:
        """-1: no limit."""
        return -1

    def _grow(self, rows: int) -> None:
        capacity = max(FIRST_ROWS, 2 * self._keys.shape[-2], rows)
        for name in ("_keys", "_values"):
            old = getattr(self, name)
            new = _rows_like(old, capacity)
            new[:, :, : self.length] = old[:, :, : self.length]
            setattr(self, name, new)


class SequenceCache(Cache):  # type: ignore[misc]
    """The growing layers of one sequence. Used by one thread at a time."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[GrowingLayer() for _ in range(layers)])

    @property
    def length(self) -> int:
        """Rows held: tokens whose keys and values need not be computed again."""
        return self.layers[0].length if self.layers else 0

    def keep(self, length: int, rows: Sequence[int] = ()) -> None:
        """Keep the first `length` rows, then `rows` (ascending, >= `length`); forget the others."""
        moved = 0
        while moved < len(rows) and rows[moved] == length + moved:
            moved += 1
        index = torch.tensor(rows[moved:]) if moved < len(rows) else None
        for layer in self.layers:
            layer.keep(length + moved, index)

    def nbytes(self) -> int:
        """Bytes of all buffers, free rows included."""
        return sum(layer._keys.nbytes + layer._values.nbytes for layer in self.layers)


def _rows_like(states: torch.Tensor, rows: int) -> torch.Tensor:
    batch, heads, _, size = states.shape
    return states.new_empty((batch, heads, rows, size))
