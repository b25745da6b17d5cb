"""One sequence in a transformers model: its committed tokens and the cache of their keys."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from draftwood.draft import Draft, TokenIds
from draftwood.errors import InvalidDraft
from draftwood.protocols import Verdict
from draftwood.targets.committed import Committed
from draftwood.targets.transformers.cache import SequenceCache
from draftwood.targets.transformers.network import Network
from draftwood.targets.transformers.rope import LengthRope
from draftwood.targets.transformers.rows import PassLogits, TransformersRows


class TransformersCursor:
    """One sequence in a `TransformersTarget`. Used by one thread at a time.

    trees: whether the drafts to be scored may branch.
    """

    def __init__(self, network: Network, committed: Committed, *, trees: bool = True) -> None:
        self._network = network
        self._committed = committed
        self._trees = trees
        self._cache = SequenceCache(network.layers.count)
        self._draft: Draft | None = None
        self._places: NDArray[np.int64] | None = None

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the committed ones; None: no limit."""
        return self._committed.room

    @property
    def context(self) -> TokenIds:
        """The committed tokens; a view that is valid until the next commit."""
        return self._committed.tokens

    def score(self, draft: Draft) -> TransformersRows:
        """One pass over the whole draft (before it, at first: over the prompt).

        Raises:
            InvalidDraft: for a draft that branches where the target takes chains only.
        """
        if not (self._trees or draft.is_chain):
            raise InvalidDraft(
                f"a draft of {len(draft)} nodes branches and this model takes chains only; "
                "pass draft.to_chain()"
            )
        network, cache, context = self._network, self._cache, self.context
        with torch.inference_mode():
            if cache.length >= len(context):
                cache.keep(len(context) - 1)
            if network.rope is None:
                network.prefill(context, cache)
                logits = network.forward(context, cache, keep=len(draft) + 1, draft=draft)
            else:
                logits = self._score_by_side(draft, network.rope)
        self._draft = draft
        return TransformersRows(PassLogits(logits), 0, len(draft), context)

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted path and the next token; forget the rest of the scored draft.

        Raises:
            InvalidDraft: for another draft than the one scored last.
        """
        if draft is not self._draft:
            raise InvalidDraft("the draft to commit is not the one scored last; score it first")
        count = self._committed.count
        path = verdict.path if self._places is None else self._places[verdict.path]
        with torch.inference_mode():
            self._cache.keep(count, (path + count).tolist())
        self._draft = self._places = None
        self._committed.append(verdict.tokens(draft))

    def close(self) -> None:
        """Give the cache back; the cursor is not used again."""
        self._cache = SequenceCache(0)

    def _score_by_side(self, draft: Draft, rope: LengthRope) -> torch.Tensor:
        """Logits [n + 1, V], from a pass for each side of the rope's switch that has rows."""
        network, cache, context = self._network, self._cache, self.context
        lengths = len(context) + np.concatenate(([0], draft.depths))
        parts = rope.parts(lengths)
        order = np.concatenate(parts)  # row 0, the context's, is the first
        places = np.argsort(order)
        nodes = order[1:] - 1
        sorted_draft = Draft.tree(
            draft.tokens[nodes], [places[p + 1] - 1 for p in draft.parents[nodes]]
        )
        logits: list[torch.Tensor] = []
        done = 0
        for rows in parts:
            done += len(rows)
            longest = int(lengths[rows].max())
            if rope.every and longest >= rope.switch:
                network.forget_length()
            if rope.anew and cache.side != rope.side(longest):
                cache.keep(0)
            cache.side = rope.side(longest)
            if done == len(rows):
                network.prefill(context, cache)
            now = sorted_draft.cut(nodes=done - 1)
            logits.append(network.forward(context, cache, keep=len(rows), draft=now))
        self._places = places[1:] - 1
        return torch.cat(logits)[torch.from_numpy(places).to(logits[0].device)]
