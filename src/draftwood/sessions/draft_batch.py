"""The drafts of one step for many sequences, in the array layouts that engines take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from draftwood import _native
from draftwood.draft import NO_TOKENS, Draft, TokenIds
from draftwood.errors import InvalidOption


@dataclass(frozen=True, slots=True, eq=False)
class PaddedDrafts:
    """Drafts of n sequences, padded to a fixed number of slots each, for tree attention kernels.

    tokens: int32 [n, slots]. mask: bool [n, slots, slots]; entry (i, j) says that slot i sees slot
    j, which is itself or an ancestor. depths: int32 [n, slots], tokens from the last committed
    token to the slot: its position id is the length of the committed text - 1 + depth; the root's
    depth is 0. counts: int32 [n], slots in use, the root included. An unused slot holds the fill
    token and sees only itself and the root.
    """

    tokens: TokenIds
    mask: NDArray[np.bool_]
    depths: NDArray[np.int32]
    counts: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class DraftBatch:
    """Drafts of n sequences; draft i is [offsets[i] : offsets[i + 1]] of each flat array.

    tokens, parents: int32 (parents count within their own draft; -1: the committed text).
    confidence: float32. source: uint8. offsets: int32 [n + 1]. last: int32 [n], the last committed
    token of each sequence; 0 where there is none. A batch is a sequence of `Draft`s, too:
    `len(batch)`, `batch[i]`, iteration.
    """

    tokens: TokenIds
    parents: NDArray[np.int32]
    confidence: NDArray[np.float32]
    source: NDArray[np.uint8]
    offsets: NDArray[np.int32]
    last: TokenIds

    @classmethod
    def empty(cls, count: int) -> DraftBatch:
        """No drafts for `count` sequences."""
        return cls(
            NO_TOKENS,
            NO_TOKENS,
            np.empty(0, np.float32),
            np.empty(0, np.uint8),
            np.zeros(count + 1, np.int32),
            np.zeros(count, np.int32),
        )

    @classmethod
    def of(cls, drafts: Sequence[Draft], last: TokenIds) -> DraftBatch:
        """The drafts, concatenated."""
        offsets = np.zeros(len(drafts) + 1, np.int32)
        np.cumsum([len(draft) for draft in drafts], out=offsets[1:])
        if not offsets[-1]:
            return cls(*_NO_NODES, offsets, last)
        return cls(
            np.concatenate([draft.tokens for draft in drafts]),
            np.concatenate([draft.parents for draft in drafts]),
            np.concatenate([draft.confidence for draft in drafts]),
            np.concatenate([draft.source for draft in drafts]),
            offsets,
            last,
        )

    def __len__(self) -> int:
        return len(self.last)

    def __getitem__(self, index: int) -> Draft:
        at = range(len(self))[index]
        part = slice(int(self.offsets[at]), int(self.offsets[at + 1]))
        return Draft.trusted(
            self.tokens[part], self.parents[part], self.confidence[part], self.source[part]
        )

    def __iter__(self) -> Iterator[Draft]:
        return (self[at] for at in range(len(self)))

    def lists(self) -> list[list[int]]:
        """The tokens of every draft, as Python lists."""
        return _parted(self.tokens, self.offsets)

    def chains(self, most: int | None = None) -> list[list[int]]:
        """The best chain of every draft, cut to `most` tokens, as Python lists.

        Of a tree it is the path that always takes the most confident child. Better than cutting
        trees is to draft chains in the first place: `Sessions(..., trees=False)`.
        """
        found = self.lists()
        for at, parents in enumerate(_parted(self.parents, self.offsets)):
            if parents != list(range(-1, len(parents) - 1)):
                found[at] = self[at].to_chain().tokens.tolist()
        return found if most is None else [chain[: max(most, 0)] for chain in found]

    def trees(self) -> list[tuple[list[int], list[int]]]:
        """Tokens and parents of every draft, as Python lists."""
        parents = _parted(self.parents, self.offsets)
        return list(zip(self.lists(), parents, strict=True))

    def cut(self, most: Sequence[int]) -> DraftBatch:
        """The first nodes of every draft, which are its best: at most `most[i]` of draft i."""
        sizes = np.minimum(np.diff(self.offsets), np.maximum(np.asarray(most, np.int32), 0))
        ends = np.zeros(len(self) + 1, np.int32)
        np.cumsum(sizes, out=ends[1:])
        nodes = np.arange(int(ends[-1])) + np.repeat(self.offsets[:-1] - ends[:-1], sizes)
        return DraftBatch(
            self.tokens[nodes],
            self.parents[nodes],
            self.confidence[nodes],
            self.source[nodes],
            ends,
            self.last,
        )

    def spread(self, places: Sequence[int], count: int) -> DraftBatch:
        """The same drafts as rows `places` (ascending) of `count` rows; the others are empty."""
        sizes, last = np.zeros(count, np.int32), np.zeros(count, np.int32)
        sizes[places] = np.diff(self.offsets)
        last[places] = self.last
        offsets = np.zeros(count + 1, np.int32)
        np.cumsum(sizes, out=offsets[1:])
        return DraftBatch(self.tokens, self.parents, self.confidence, self.source, offsets, last)

    def padded(self, slots: int, *, root: bool = False, fill: int = 0) -> PaddedDrafts:
        """Every draft in exactly `slots` slots, with the mask that tree attention needs.

        root: whether slot 0 is the last committed token (`last`), as SGLang's trees have it. A
        draft of more nodes than fit is cut to its first ones, which are its best. fill: the token
        of unused slots.

        Raises:
            InvalidOption: no slots at all.
        """
        if slots < 1:
            raise InvalidOption(f"slots is {slots}; use 1 or more, such as 16")
        n, first = len(self), int(root)
        sizes = np.minimum(np.diff(self.offsets), slots - first)
        ends = np.zeros(n + 1, np.int32)
        np.cumsum(sizes, out=ends[1:])
        rows = np.repeat(np.arange(n), sizes)
        places = np.arange(int(ends[-1])) - ends[:-1][rows]
        nodes = self.offsets[:-1][rows] + places
        tokens = np.full((n, slots), fill, np.int32)
        tokens[rows, places + first] = self.tokens[nodes]
        if root:
            tokens[:, 0] = self.last
        mask = np.empty((n, slots, slots), np.bool_)
        depths = np.empty((n, slots), np.int32)
        parents = np.ascontiguousarray(self.parents[nodes])
        _native.fill_tree_masks(parents, ends, slots, root, mask, depths)
        return PaddedDrafts(tokens, mask, depths, (sizes + first).astype(np.int32))


_NO_NODES = (NO_TOKENS, NO_TOKENS, np.empty(0, np.float32), np.empty(0, np.uint8))


def _parted(flat: NDArray[np.int32], offsets: NDArray[np.int32]) -> list[list[int]]:
    values: list[int] = flat.tolist()
    return [values[first:last] for first, last in pairwise(offsets.tolist())]
