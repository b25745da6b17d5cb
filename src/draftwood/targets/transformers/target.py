"""Hugging Face causal language models as targets: a whole token tree in one pass.

    rows of a pass     pending tokens (committed, not yet in the cache), then the draft's nodes
    positions          a node stands behind its parent, not behind the row before it
    mask               a row sees the context, its ancestors and itself; none is passed where the
                       draft is a chain, since a causal pass is just that

What a model can do is found out by its behavior: short passes over a few tokens are compared with
plain ones when the target is made (`probe`).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from draftwood.draft import ROOT, Draft, TokenIds, as_tokens
from draftwood.errors import ContextTooLong, InvalidDraft, InvalidTokens, UnsupportedModel
from draftwood.protocols import Verdict
from draftwood.targets.committed import Committed
from draftwood.targets.transformers.cache import SequenceCache
from draftwood.targets.transformers.probe import (
    attention_layers,
    disagreement,
    refuse_other_kinds,
    rope_switch,
    spread,
)
from draftwood.targets.transformers.rows import TransformersRows
from draftwood.targets.tree_rows import row_positions, tree_mask

if TYPE_CHECKING:
    from draftwood.targets.transformers.batch import TransformersBatch

log = logging.getLogger(__name__)

PREFILL_ROWS = 1024
"""Rows of a prompt in one pass: bounds masks and activations of a long prompt."""


class TransformersTarget:
    """A causal language model of the transformers library, on any device and in any dtype.

    model: in evaluation mode, with ordinary (full or sliding-window) attention; `sdpa` and `eager`
    attention take trees, other kernels chains. Shared by any number of cursors; passes of several
    threads may run beside one another as far as the model allows it.

    trees: whether drafts may branch; False where the model's attention takes no mask of ours.
    batches: whether sequences of different lengths share passes; found out when first asked for.
    context_limit: tokens of prompt and text in all, or None.

    Raises:
        UnsupportedModel: where a draft could not be verified exactly: recurrent or linear-attention
            state, an encoder, a cache of another kind, training mode.
    """

    def __init__(self, model: Any, *, probe: bool = True, prefill_rows: int = PREFILL_ROWS) -> None:
        self.model = model
        self.prefill_rows = prefill_rows
        self._config = model.config.get_text_config(decoder=True)
        refuse_other_kinds(model)
        self.layers = attention_layers(self._config)
        parameters = inspect.signature(model.forward).parameters
        self._takes_rows_to_keep = "logits_to_keep" in parameters
        self._additive = self._config._attn_implementation == "eager"
        embedding = model.get_input_embeddings().weight
        self.vocab_size = int(embedding.shape[0])
        self.device: torch.device = embedding.device
        self.dtype: torch.dtype = model.dtype
        self.context_limit: int | None = getattr(self._config, "max_position_embeddings", None)
        self.trees = self.layers.tree_masks and "position_ids" in parameters
        self._probed = probe
        self._warned = False
        if probe:
            self._probe()

    def open(self, prompt: TokenIds) -> TransformersCursor:
        """A cursor behind `prompt`; its first `score` computes the prompt. Raises as `admit`."""
        prompt, limit = self.admit(prompt)
        return TransformersCursor(self, prompt, limit)

    def close(self) -> None:
        """Nothing to give back: the model is its maker's, and every cache its cursor's."""

    def open_batch(self, size: int) -> TransformersBatch:
        """A batch of at most `size` sequences in one pass; `TransformersBatch` states its memory.

        Raises:
            UnsupportedModel: where `batches` is False.
        """
        from draftwood.targets.transformers.batch import TransformersBatch

        if not self.batches:
            raise UnsupportedModel(
                f"{type(self.model).__name__} takes no sequences of different lengths in one pass; "
                "use sdpa or eager attention, or decode the sequences one by one"
            )
        return TransformersBatch(self, size)

    @cached_property
    def batches(self) -> bool:
        """Whether sequences of different lengths, each with its own tree, may share a pass."""
        switch = rope_switch(self._config)
        if switch is not None and switch[0] == "longrope":
            return False  # the longest sequence of a pass would turn the keys of all others
        if not self.trees or not self._probed:
            return self.trees
        from draftwood.targets.transformers.batch import Accompanied

        problem = disagreement(Accompanied(self), self._plain, self._tree(), 5, self.allowed)
        if problem is not None:
            log.info(
                "%s takes no sequences of different lengths in one pass (%s): they are passed one "
                "by one",
                type(self.model).__name__,
                problem,
            )
        return problem is None

    def admit(self, prompt: TokenIds) -> tuple[TokenIds, int | None]:
        """The prompt, once it is sure to fit, and how many tokens its sequence may reach.

        Raises:
            ContextTooLong: for a prompt that leaves no room for a generated token.
            InvalidTokens: for an empty prompt, or ids beyond the model's vocabulary.
        """
        prompt = as_tokens(prompt, vocab_size=self.vocab_size)
        if not len(prompt):
            raise InvalidTokens("the prompt has 0 tokens; begin with at least one, such as BOS")
        limit = self.limit(len(prompt))
        if limit is not None and len(prompt) >= limit:
            raise ContextTooLong(
                f"the prompt has {len(prompt)} tokens and the model's context holds {limit}, the "
                f"generated ones included; shorten the prompt to {limit - 1} tokens at most"
            )
        return prompt, limit

    def forward(
        self,
        tokens: NDArray[np.integer[Any]],
        cache: SequenceCache,
        *,
        keep: int,
        draft: Draft | None = None,
    ) -> torch.Tensor:
        """One pass over `tokens` behind the cache; logits [keep, V] of the last `keep` rows.

        draft: where the last len(draft) tokens are the nodes of a tree. The rows' keys and values
        are in the cache afterwards.
        """
        inputs: dict[str, Any] = {}
        if draft is not None and not draft.is_chain:
            pending = len(tokens) - len(draft)
            positions = row_positions(draft, cache.length, pending)
            inputs["position_ids"] = torch.from_numpy(positions[None]).to(self.device)
            inputs["attention_mask"] = self.masks(
                {
                    name: tree_mask(draft, cache.length, pending, window=window)[None]
                    for name, window in self.layers.windows.items()
                }
            )
        if self._takes_rows_to_keep:
            inputs["logits_to_keep"] = keep
        ids = torch.from_numpy(tokens.astype(np.int64)[None]).to(self.device)
        output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **inputs)
        logits: torch.Tensor = output.logits[0, -keep:]
        return logits

    def prefill(self, tokens: TokenIds, cache: SequenceCache) -> None:
        """Compute tokens that are not in the cache, all but a last chunk of `prefill_rows`."""
        while len(tokens) - cache.length > self.prefill_rows:
            chunk = tokens[cache.length : cache.length + self.prefill_rows]
            self.forward(chunk, cache, keep=1)

    def masks(
        self, visible: Mapping[str, NDArray[np.bool_]]
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Masks as the model takes them; visible: bool [batch, rows, keys] by type of layer."""
        masks = {name: self._mask(sees) for name, sees in visible.items()}
        return masks if len(masks) > 1 else next(iter(masks.values()))

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

    def _mask(self, visible: NDArray[np.bool_]) -> torch.Tensor:
        mask = torch.from_numpy(visible[:, None]).to(self.device)
        if not self._additive:
            return mask
        additive = torch.zeros(mask.shape, dtype=self.dtype, device=self.device)
        return additive.masked_fill_(~mask, torch.finfo(self.dtype).min)

    def limit(self, prompt: int) -> int | None:
        """Tokens that a sequence with so long a prompt may reach."""
        switch = rope_switch(self._config)
        if switch is None:
            return self.context_limit
        kind, at = switch
        return self.context_limit if kind == "longrope" and prompt > at else at

    def _probe(self) -> None:
        """Compare a chain and a tree with plain passes.

        Raises:
            UnsupportedModel: where not even a chain gives the rows of a plain pass.
        """
        chain = Draft.chain(spread(self.vocab_size, 3))
        problem = disagreement(self, self._plain, chain, ROOT, self.allowed)
        if problem is not None:
            raise UnsupportedModel(
                f"{type(self.model).__name__} gives other logits for several tokens at once than "
                f"for one after the other ({problem}); use a model with ordinary attention"
            )
        if self.trees:
            problem = disagreement(self, self._plain, self._tree(), 5, self.allowed)
            self.trees = problem is None
        if not self.trees:
            log.info(
                "%s takes no trees with %s attention (%s): drafts are cut to chains",
                type(self.model).__name__,
                self._config._attn_implementation,
                problem or "its masks are not by position",
            )

    def _tree(self) -> Draft:
        """A tree for probes: node 5 is deep, and its path not in the order of nodes."""
        return Draft.tree(spread(self.vocab_size, 6), [ROOT, ROOT, 0, 1, 0, 3])

    @property
    def allowed(self) -> float:
        """How far logits of passes of other shapes may be off, in standard deviations."""
        return 1e-3 if self.dtype in (torch.float32, torch.float64) else 0.25

    def _plain(self, tokens: TokenIds) -> NDArray[np.float32]:
        """float32 [n, V]: the logits after each of n tokens, by one pass without a cache."""
        with torch.inference_mode():
            ids = torch.from_numpy(tokens.astype(np.int64)[None]).to(self.device)
            logits = self.model(input_ids=ids, use_cache=False).logits[0]
        rows: NDArray[np.float32] = logits.to("cpu", torch.float32).numpy()
        return rows


class TransformersCursor:
    """One sequence in a TransformersTarget. Used by one thread at a time."""

    def __init__(self, target: TransformersTarget, prompt: TokenIds, limit: int | None) -> None:
        self._target = target
        self._limit = limit
        self._committed = Committed(prompt)
        self._cache = SequenceCache(target.layers.count)
        self._draft: Draft | None = None

    @property
    def room(self) -> int | None:
        """Tokens that still fit behind the committed ones; None: no limit."""
        return None if self._limit is None else self._limit - self._committed.count

    @property
    def context(self) -> TokenIds:
        """The committed tokens; a view that is valid until the next commit."""
        return self._committed.tokens

    def score(self, draft: Draft) -> TransformersRows:
        """One pass over the whole draft (before it, at first: over the prompt).

        Raises:
            InvalidDraft: for a draft that branches where the target takes chains only.
        """
        if not (self._target.trees or draft.is_chain):
            raise InvalidDraft(
                f"a draft of {len(draft)} nodes branches and this model takes chains only; "
                "pass draft.to_chain()"
            )
        with torch.inference_mode():
            if self._cache.length >= self._committed.count:
                self._cache.keep(self._committed.count - 1)
            self._target.prefill(self.context, self._cache)
            pending = self.context[self._cache.length :]
            tokens = np.concatenate((pending, self._target.known(draft.tokens)))
            logits = self._target.forward(tokens, self._cache, keep=len(draft) + 1, draft=draft)
        self._draft = draft
        return TransformersRows(logits, self.context)

    def commit(self, draft: Draft, verdict: Verdict) -> None:
        """Keep the accepted path and the next token; forget the rest of the scored draft.

        Raises:
            InvalidDraft: for another draft than the one scored last.
        """
        if draft is not self._draft:
            raise InvalidDraft("the draft to commit is not the one scored last; score it first")
        count = self._committed.count
        with torch.inference_mode():
            self._cache.keep(count, (verdict.path + count).tolist())
        self._draft = None
        self._committed.append(verdict.tokens(draft))

    def close(self) -> None:
        """Give the cache back; the cursor is not used again."""
        self._cache = SequenceCache(0)
