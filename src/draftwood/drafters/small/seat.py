"""The protocols of a small model that drafts: `DraftModel`, and a `DraftSeat` for each sequence.

Implement both to draft with a model of your own; `testing.ToyDraftModel` is the shortest example.
A seat that derives from `DraftSeat` ranks its rows by `root` and `expand`; one whose rows lie on a
GPU ranks them there, and brings over only the likeliest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from draftwood.draft import TokenIds
from draftwood.protocols import PairsWithTarget, TargetInfo, Top
from draftwood.sampling.ranking import k_likeliest


class DraftSeat(Protocol):
    """One sequence in a small model: the cache of its context, and the nodes drafted below it.

    Nodes are numbered from 0 in the order in which they were added since the last `keep`. Used by
    one thread at a time.
    """

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the context; None: no limit."""

    @property
    def passes(self) -> int:
        """Passes of the model so far, the prompt's included."""

    def root(self) -> NDArray[np.float32]:
        """float32 [V]: log-probabilities after the context; one pass over what is not cached."""

    def expand(self, tokens: TokenIds, parents: NDArray[np.int32]) -> NDArray[np.float32]:
        """Add m nodes in one pass; float32 [m, V]: log-probabilities after each of them.

        parents: int32 [m], ROOT or a node added in an earlier call. A node sees the context and its
        ancestors only. Call `root` first: it brings the cache up to the context.
        """

    def root_top(self, k: int) -> Top:
        """As `root`, the k likeliest tokens only: [1, k]."""
        return k_likeliest(self.root()[None], k)

    def expand_top(self, tokens: TokenIds, parents: NDArray[np.int32], k: int) -> Top:
        """As `expand`, the k likeliest tokens of each row only: [m, k]."""
        return k_likeliest(self.expand(tokens, parents), k)

    def keep(self, path: NDArray[np.int32], tokens: TokenIds) -> None:
        """Append `tokens` to the context and forget all nodes but those on `path`.

        path: int32 [k], nodes from the context down that hold the first k of `tokens`, so that
        nothing accepted is computed again; it may be shorter than what was accepted.
        """

    def close(self) -> None:
        """Give the cache back; the seat is not used again."""


class DraftModel(Protocol):
    """A small language model that drafts. Shared by all sequences; seats may live side by side.

    One that cannot serve every target is `PairsWithTarget`, too.
    """

    @property
    def vocab_size(self) -> int:
        """V, of its rows."""

    @property
    def end_tokens(self) -> Collection[int]:
        """Tokens that end a text: nothing is drafted after them. May be empty."""

    def open(self, prompt: TokenIds) -> DraftSeat:
        """A seat whose context is `prompt`."""


def pair_models(models: Iterable[DraftModel], target_info: TargetInfo) -> None:
    """Raise PairMismatch where one of the models, if it can tell, does not suit the target."""
    for model in models:
        if isinstance(model, PairsWithTarget):
            model.pair(target_info)
