"""A causal language model of the transformers library, run once over rows that are given.

    rows of a pass     pending tokens (committed, not yet in the cache), then the draft's nodes
    positions          a node stands one after its parent, not one after the row before it
    mask               a row sees the context, its ancestors and itself; none is passed where the
                       draft is a chain, since a causal pass is just that

Targets, batches and models that draft all stand on this.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from draftwood.draft import Draft, TokenIds
from draftwood.targets.committed import Committed, admitted
from draftwood.targets.transformers.cache import BatchCache, SequenceCache
from draftwood.targets.transformers.layers import attention_layers, refuse_other_kinds
from draftwood.targets.transformers.lean import LONGEST, lean_pass
from draftwood.targets.transformers.lean_layer import Span, steady_attention
from draftwood.targets.transformers.rope import length_rope
from draftwood.targets.transformers.static_pass import static_pass
from draftwood.targets.tree_rows import row_positions, tree_mask, within_window

log = logging.getLogger(__name__)

PREFILL_ROWS = 1024
"""Rows of a prompt in one pass: bounds masks and activations of a long prompt."""


class Network:
    """The passes of one model. Shared by any number of caches.

    model: in evaluation mode. prefill_rows: rows of a prompt in one pass. layers: its attention
    layers. rope: its rotary embedding where that depends on the length of a text, else None.
    vocab_size: token ids that it takes. context_limit: tokens of prompt and text in all, or None.
    takes_masks: whether masks and positions of ours may be passed at all. lean: its bare pass,
    which short passes are made by; None: it has none, or none is wanted. static: the same in static
    shapes, which then makes the passes over drafts; asked for by True (on any device), or by None
    on a GPU where it is faster.

    Raises:
        UnsupportedModel: for recurrent or linear-attention state, an encoder, a cache of another
            kind, training mode.
    """

    def __init__(
        self,
        model: Any,
        *,
        prefill_rows: int = PREFILL_ROWS,
        lean: bool = True,
        static: bool | None = None,
    ) -> None:
        refuse_other_kinds(model)
        config = model.config.get_text_config(decoder=True)
        parameters = inspect.signature(model.forward).parameters
        embedding = model.get_input_embeddings().weight
        self.model = model
        self.prefill_rows = prefill_rows
        self.layers = attention_layers(config)
        self.rope = length_rope(model)
        self.attention: str = config._attn_implementation
        self.vocab_size = int(embedding.shape[0])
        self.device: torch.device = embedding.device
        self.dtype: torch.dtype = model.dtype
        self.context_limit: int | None = getattr(config, "max_position_embeddings", None)
        if self.rope is not None:
            self.context_limit = self.rope.limit(self.context_limit)
        self._takes_positions = "position_ids" in parameters
        self._takes_rows_to_keep = "logits_to_keep" in parameters
        self.takes_masks = self.layers.tree_masks and self._takes_positions
        self.lean = lean_pass(model) if lean else None
        self.static = (
            None
            if self.lean is None
            else static_pass(self.lean, self.layers.windows, wanted=static)
        )
        self._warned = False

    def admit(self, prompt: TokenIds) -> Committed:
        """A sequence of the tokens of `prompt`, once it is sure that one more fits.

        Raises:
            ContextTooLong: for a prompt that leaves no room for a generated token.
            InvalidTokens: for an empty prompt, or ids beyond the model's vocabulary.
        """
        return admitted(prompt, vocab_size=self.vocab_size, limit=self.context_limit)

    def known(self, tokens: TokenIds) -> TokenIds:
        """A draft's tokens, ids beyond the vocabulary replaced: no verifier can accept those."""
        last = self.vocab_size - 1
        if not len(tokens) or int(tokens.max()) <= last:
            return tokens
        if not self._warned:
            self._warned = True
            log.warning(
                "a draft holds token id %d, the model's last is %d; such tokens are never "
                "accepted: use a drafter that learned from this model's tokenizer",
                int(tokens.max()),
                last,
            )
        return np.minimum(tokens, np.int32(last))

    def prefill(self, context: TokenIds, cache: SequenceCache) -> None:
        """Cache the tokens of `context`, all but a last chunk of at most `prefill_rows`.

        Where positions depend on the length of a pass, a context beyond their switch stays in one
        piece, as in `generate`.
        """
        if self.rope is not None and self.rope.side(len(context)):
            return
        while len(context) - cache.length > self.prefill_rows:
            self.forward(context[: cache.length + self.prefill_rows], cache, keep=1)

    def forward(
        self, context: TokenIds, cache: SequenceCache, *, keep: int, draft: Draft | None = None
    ) -> torch.Tensor:
        """One pass over what is not cached of `context` and of the draft's nodes after it.

        keep: for how many of the last rows logits [keep, V] are wanted. All keys and values are in
        the cache afterwards, the nodes' in their order after the context's.
        """
        count, nodes = len(context), 0 if draft is None else len(draft)
        past = min(cache.length, count)
        fresh = context[cache.length :]
        visible, positions = None, np.arange(cache.length, count + nodes)
        if draft is not None and nodes:
            done = max(0, cache.length - count)
            fresh = np.concatenate((fresh, self.known(draft.tokens[done:])))
            if not draft.is_chain:
                positions = row_positions(draft, past, count - past)
                visible = self.by_layer(tree_mask(draft, past, count - past)[done:], positions)
                positions = positions[done:]
        return self.run(fresh[None], positions[None], visible, cache, keep=keep)[0]

    def by_layer(
        self, visible: NDArray[np.bool_], positions: NDArray[np.int64]
    ) -> dict[str, NDArray[np.bool_]]:
        """What each row sees, bool [1, rows, keys], by type of layer; both as `within_window`."""
        return {
            name: within_window(visible, positions, window)[None]
            for name, window in self.layers.windows.items()
        }

    def run(
        self,
        tokens: NDArray[np.integer[Any]],
        positions: NDArray[np.int64],
        visible: Mapping[str, NDArray[np.bool_]] | None,
        cache: SequenceCache | BatchCache,
        *,
        keep: int = 0,
    ) -> torch.Tensor:
        """Logits [batch, keep, V] of the last `keep` rows (0: all) of a pass over `tokens`.

        tokens, positions: [batch, rows]. visible: bool [batch, rows, keys] by type of layer; None:
        each row sees all before it.
        """
        short = tokens.shape[1] <= LONGEST
        if self.lean is not None and isinstance(cache, SequenceCache) and short:
            span = self._span(positions[0], visible, cache)
            with steady_attention(self.device):
                return self.lean(tokens[0], positions[0], [span], cache, keep=keep)[None]
        inputs: dict[str, Any] = {}
        if self._takes_positions:
            inputs["position_ids"] = torch.from_numpy(positions).to(self.device)
        if visible is not None:
            masks = {name: self._mask(sees) for name, sees in visible.items()}
            inputs["attention_mask"] = masks if len(masks) > 1 else next(iter(masks.values()))
        if self._takes_rows_to_keep:
            inputs["logits_to_keep"] = keep
        ids = torch.from_numpy(tokens.astype(np.int64)).to(self.device)
        with steady_attention(self.device):
            logits: torch.Tensor = self.model(
                input_ids=ids, past_key_values=cache, use_cache=True, **inputs
            ).logits
        return logits[:, -keep:]

    def _span(
        self,
        positions: NDArray[np.int64],
        visible: Mapping[str, NDArray[np.bool_]] | None,
        cache: SequenceCache,
    ) -> Span:
        """The one sequence of a bare pass."""
        rows = len(positions)
        end = cache.length + rows
        if visible is None:
            return Span(0, rows, end, self.chain(positions, end))
        return Span(0, rows, end, {name: sees[0] for name, sees in visible.items()})

    def chain(self, positions: NDArray[np.int64], end: int) -> dict[str, NDArray[np.bool_]] | None:
        """What the rows of a chain see of `end` keys, theirs the last; None: all up to themselves.

        Bool [rows, end], by type of layer.
        """
        rows = len(positions)
        windows = self.layers.windows
        if all(window is None or end <= window for window in windows.values()):
            return None
        sees = np.tri(rows, end, end - rows, dtype=np.bool_)
        return {name: within_window(sees, positions, window) for name, window in windows.items()}

    def forget_length(self) -> None:
        """Bring dynamic NTK back to short texts: it keeps the base of the longest pass so far."""
        ids = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
        self.model(input_ids=ids, use_cache=False)

    def _mask(self, visible: NDArray[np.bool_]) -> torch.Tensor:
        mask = torch.from_numpy(visible[:, None]).to(self.device)
        if self.attention != "eager":
            return mask
        additive = torch.zeros(mask.shape, dtype=self.dtype, device=self.device)
        return additive.masked_fill_(~mask, torch.finfo(self.dtype).min)
