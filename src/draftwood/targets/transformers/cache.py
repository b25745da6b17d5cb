"""Keys and values of sequences, kept so that a rejected draft costs nothing to forget.

       buffer    | context ............ | draft nodes 0 1 2 3 4 |  free  |
       accepted                           -> 1, 4
       keep      | context ............ 1 4 |          free              |

A pass writes the rows of its draft after the context. Keeping a path moves only those accepted
rows that stand in the wrong place; the context is neither copied nor computed again. Every layer
keeps all rows, sliding-window layers too: which of them a row sees is the mask's business.

`SequenceCache` holds one sequence, `BatchCache` many side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, CacheLayerMixin

Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Buffers of keys and values as native code reads and writes them: float32 on a CPU."""

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

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Append rows [n, heads, head size]."""
        self.update(keys.transpose(0, 1)[None], values.transpose(0, 1)[None])

    def reserve(self, heads: int, size: int, rows: int) -> Arrays:
        """Append so many rows, to be written into the buffers [1, heads, capacity, size]."""
        if not self.is_initialized:
            none = torch.empty((1, heads, 0, size))
            self.lazy_initialization(none, none)
        end = self.length + rows
        if end > self._keys.shape[-2]:
            self._grow(end)
        self.length = end
        return self._keys.numpy(), self._values.numpy()

    def held(self, slot: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values [1, heads, end, head size] of the first `end` rows; views."""
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
        self._keys = self._grown(self._keys, capacity)
        self._values = self._grown(self._values, capacity)

    def _grown(self, old: torch.Tensor, capacity: int) -> torch.Tensor:
        new = _rows_like(old, capacity)
        new[:, :, : self.length] = old[:, :, : self.length]
        return new


class SequenceCache(Cache):  # type: ignore[misc]
    """The growing layers of one sequence. Used by one thread at a time.

    side: on which side of a length-dependent rotary embedding its keys were computed
    (`LengthRope.side`).
    """

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[GrowingLayer() for _ in range(layers)])
        self.side = 0

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


class BatchLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, [size, heads, rows, head size], each slot from row 0."""

    is_sliding = False

    def __init__(self, size: int) -> None:
        self.places = self.slots = torch.empty((0, 0), dtype=torch.int64)
        self.end = 0
        self.is_initialized = False
        self._size = size
        self.keys = self.values = torch.empty(0)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Take shape, type and device from the first rows, [batch, heads, rows, head size]."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = self._room(key_states, 0), self._room(value_states, 0)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a pass's rows to their places; the keys and values of all slots in use."""
        self.fit(key_states, value_states, self.end)
        count, end = len(self.places), self.end
        slots = torch.arange(count, device=key_states.device)[:, None]
        self.keys[slots, :, self.places] = key_states.transpose(1, 2)
        self.values[slots, :, self.places] = value_states.transpose(1, 2)
        return self.keys[:count, :, :end], self.values[:count, :, :end]

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write rows [n, heads, head size], of all slots in turn, to their places."""
        self.fit(keys.transpose(0, 1)[None], values.transpose(0, 1)[None], self.end)
        self.keys[self.slots, :, self.places] = keys
        self.values[self.slots, :, self.places] = values

    def reserve(self, heads: int, size: int, rows: int) -> Arrays:
        """The buffers [slots, heads, capacity, size], with room for the `rows` of a pass."""
        none = torch.empty((1, heads, 0, size))
        self.fit(none, none, self.end)
        return self.keys.numpy(), self.values.numpy()

    def held(self, slot: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values [1, heads, end, head size] of a slot's first `end` rows; views."""
        return self.keys[slot : slot + 1, :, :end], self.values[slot : slot + 1, :, :end]

    def fit(self, key_states: torch.Tensor, value_states: torch.Tensor, rows: int) -> None:
        """Make room for so many rows. New rows hold zeros: what is masked must still be finite."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.keys.shape[-2]
        if rows > held:
            capacity = max(FIRST_ROWS, 2 * held, rows)
            self.keys = self._grown(self.keys, capacity)
            self.values = self._grown(self.values, capacity)

    def get_seq_length(self) -> int:
        """Rows of the longest slot before this pass."""
        return self.end - self.places.shape[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a pass attends to, and the position of the first."""
        return self.end, 0

    def get_max_length(self) -> int:
        """-1: no limit."""
        return -1

    def _grown(self, old: torch.Tensor, capacity: int) -> torch.Tensor:
        new = self._room(old, capacity)
        new[:, :, : old.shape[-2]] = old
        return new

    def _room(self, like: torch.Tensor, rows: int) -> torch.Tensor:
        return like.new_zeros((self._size, like.shape[1], rows, like.shape[3]))


class BatchCache(Cache):  # type: ignore[misc]
    """The layers of a batch."""

    def __init__(self, layers: int, size: int) -> None:
        super().__init__(layers=[BatchLayer(size) for _ in range(layers)])

    def begin(self, places: torch.Tensor, end: int, slots: torch.Tensor | None = None) -> None:
        """Say where the next pass writes: int64 [slots, rows], each below `end`.

        slots: int64 [n], the slot of each row of a pass without padding; places are [n] then.
        """
        for layer in self.layers:
            layer.places, layer.end = places, end
            if slots is not None:
                layer.slots = slots

    def adopt(self, slot: int, cache: SequenceCache) -> None:
        """Copy a sequence of its own into a slot."""
        for layer, other in zip(self.layers, cache.layers, strict=True):
            layer.fit(other.keys, other.values, other.length)
            layer.keys[slot, :, : other.length] = other.keys[0]
            layer.values[slot, :, : other.length] = other.values[0]

    def copy(self, source: int, place: int, rows: int) -> None:
        """Copy the first rows of a slot to another."""
        for layer in self.layers:
            layer.keys[place, :, :rows] = layer.keys[source, :, :rows]
            layer.values[place, :, :rows] = layer.values[source, :, :rows]

    def move(self, slots: torch.Tensor, sources: torch.Tensor, places: torch.Tensor) -> None:
        """Move rows within their slots, all at once; three int64 [n]."""
        for layer in self.layers:
            layer.keys[slots, :, places] = layer.keys[slots, :, sources]
            layer.values[slots, :, places] = layer.values[slots, :, sources]

    def nbytes(self) -> int:
        """Bytes of all buffers, free rows and slots included."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)


def _rows_like(states: torch.Tensor, rows: int) -> torch.Tensor:
    batch, heads, _, size = states.shape
    return states.new_empty((batch, heads, rows, size))
