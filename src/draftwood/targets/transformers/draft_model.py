"""Hugging Face causal language models as drafters: what is in their cache is not computed again.

    cache       | context ............ | nodes 0 1 2 3 4 |   free   |
    expand        one pass over new nodes: each sees the context, its ancestors and itself
    keep 1 4    | context ............ 1 4 |        free            |  accepted rows are moved, not
                                                                       computed again

Models that draft are small, so what surrounds the arithmetic decides: masks and positions go into
the model ready-made, a node's mask is that of the node above with itself added, and the
log-probabilities of all new nodes come out in one piece.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import ContextTooLong, InvalidDraft, UnsupportedModel
from draftwood.protocols import TargetInfo, Top
from draftwood.sampling.ranking import k_likeliest
from draftwood.targets.committed import Committed
from draftwood.targets.pairing import require_pair
from draftwood.targets.transformers.cache import SequenceCache
from draftwood.targets.transformers.load import read_model
from draftwood.targets.transformers.network import PREFILL_ROWS
from draftwood.targets.transformers.rows import top_of
from draftwood.targets.transformers.target import TransformersTarget
from draftwood.targets.tree_rows import GrowingTree

SHORT_ROWS = 32
"""Rows up to which a pass gets a mask of ours; beyond, the model's own causal pass is as quick."""


class TransformersDraftModel:
    """A causal language model of the transformers library that drafts; a `DraftModel`.

    model: in evaluation mode, with full or sliding-window attention (`sdpa` or `eager`), whose
    cache can forget a token. tokenizer: its own, for the check against the target's (`pair`).
    name: what errors call it. lean: make short passes bare where its kind is known (`LeanPass`).
    probe: compare short passes with plain ones first. Shared by any number of seats; passes of
    several threads may run beside one another as far as the model allows it.

    end_tokens: those of its generation config; nothing is drafted after them.

    Raises:
        UnsupportedModel: for recurrent or linear-attention state, an encoder, a cache of another
            kind, attention that takes no mask, training mode.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        name: str = "",
        lean: bool = True,
        probe: bool = True,
        prefill_rows: int = PREFILL_ROWS,
    ) -> None:
        target = TransformersTarget(
            model, probe=probe, prefill_rows=prefill_rows, lean=lean, static=False
        )
        if not target.trees:
            raise UnsupportedModel(
                f"{type(model).__name__} takes no tree masks, which a drafter's cache needs; load "
                "it with sdpa or eager attention, or draft with another model"
            )
        self.network = target.network
        self.tokenizer = tokenizer
        ends = model.generation_config.eos_token_id
        self.end_tokens = frozenset([ends] if isinstance(ends, int) else ends or ())
        self.name = name or type(model).__name__
        head = model.get_output_embeddings() or model.get_input_embeddings()
        self._row_size = int(head.weight.shape[0])

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        dtype: str | None = None,
        attention: str | None = None,
    ) -> TransformersDraftModel:
        """The model of a folder or the Hugging Face Hub; options and errors as `draftwood.load`."""
        network, tokenizer = read_model(
            path, device=device, dtype=dtype, attention=attention, tokenizer_needed=False
        )
        return cls(network, tokenizer, name=str(path))

    @property
    def vocab_size(self) -> int:
        """V, of its rows."""
        return self._row_size

    @property
    def context_limit(self) -> int | None:
        """Tokens that a sequence may hold, or None."""
        return self.network.context_limit

    def pair(self, target_info: TargetInfo) -> None:
        """Check that token ids mean the same to this model and the target.

        A context shorter than the target's is no mismatch: drafts end with it.

        Raises:
            PairMismatch: for a tokenizer that is missing on either side, or another one; for fewer
                rows than its tokens.
        """
        require_pair(self.name, self.tokenizer, self.vocab_size, target_info)

    @property
    def lean(self) -> bool:
        """Whether its passes are lean ones."""
        return self.network.lean is not None

    def forward(
        self,
        tokens: TokenIds,
        cache: SequenceCache,
        positions: NDArray[np.int64],
        recent: NDArray[np.bool_],
        *,
        keep: int = 0,
    ) -> torch.Tensor:
        """Logits [keep, V] of the last `keep` rows (0: all) of a pass over `tokens`.

        positions: int64 [n], of the n last rows of the cache as it will be, those of this pass at
        the end. recent: bool [m, n], which of these a row of this pass sees; it sees all that is
        cached before them.
        """
        count, held = len(tokens), cache.length + len(tokens)
        visible = np.ones((count, held), dtype=np.bool_)
        visible[:, held - len(positions) :] = recent
        layers = self.network.by_layer(visible, positions)
        at = positions[-count:]
        return self.network.run(tokens[None], at[None], layers, cache, keep=keep)[0]

    def open(self, prompt: TokenIds) -> TransformersDraftSeat:
        """A seat after `prompt`, which may be longer than the model's context: no room is left."""
        return TransformersDraftSeat(self, as_tokens(prompt))


class TransformersDraftSeat:
    """One sequence in a `TransformersDraftModel`; a `RankedSeat`. Used by one thread at a time.

    passes: passes of the model so far, the prompt's included. rows: tokens and nodes that went
    through it.
    """

    def __init__(self, model: TransformersDraftModel, prompt: TokenIds) -> None:
        self.passes = self.rows = 0
        self._model, self._network = model, model.network
        rope, limit = self._network.rope, self._network.context_limit
        self._committed = Committed(
            self._network.known(prompt),
            limit if rope is None else rope.one_side(len(prompt), limit),
        )
        self._cache = SequenceCache(self._network.layers.count)
        self._tree = GrowingTree()
        self._after: list[torch.Tensor] = []  # logits after the nodes, a tensor for each pass
        self._root: torch.Tensor | None = None

    @property
    def room(self) -> int | None:
        """Tokens that still fit after the context, 0 where it is too long; None: no limit."""
        return self._committed.room

    def root(self) -> NDArray[np.float32]:
        """float32 [V]: log-probabilities after the context; one pass over what is not cached.

        Pending tokens beyond `prefill_rows` take a pass for each chunk of so many.

        Raises:
            ContextTooLong: for a context beyond the model's.
        """
        row: NDArray[np.float32] = _log_probabilities(self._reach_context())[0]
        return row

    def root_top(self, k: int) -> Top:
        """The k likeliest tokens after the context; raises as `root`."""
        return _top(self._reach_context(), k)

    def expand(self, tokens: TokenIds, parents: NDArray[np.int32]) -> NDArray[np.float32]:
        """Add m nodes in one pass; float32 [m, V]: log-probabilities after each of them.

        parents: int32 [m], ROOT or a node added in an earlier call. A node sees the context and its
        ancestors only.

        Raises:
            InvalidDraft: for a parent that is not there yet, or before `root`.
            ContextTooLong: for a node deeper than `room`.
        """
        return _log_probabilities(self._add(tokens, parents))

    def expand_top(self, tokens: TokenIds, parents: NDArray[np.int32], k: int) -> Top:
        """Add m nodes in one pass; the k likeliest tokens after each; raises as `expand`."""
        return _top(self._add(tokens, parents), k)

    def keep(self, path: NDArray[np.int32], tokens: TokenIds) -> None:
        """Append `tokens` to the context and forget all nodes but those on `path`.

        path: int32 [k], nodes from the context down that hold the first k of `tokens`.

        Raises:
            InvalidDraft: where they hold other tokens, or are no path.
        """
        at = np.asarray(path).tolist()
        added = self._network.known(np.asarray(tokens, dtype=np.int32))
        self._tree.require(at, added[: len(at)].tolist())
        count = self._committed.count
        if self._cache.length >= count:
            with torch.inference_mode():
                self._cache.keep(count, [count + node for node in at])
        if len(added):
            self._root = self._row_after(at[-1]) if len(at) == len(added) else None
        self._forget_nodes()
        self._committed.append(added)

    def close(self) -> None:
        """Give the cache back; the seat is not used again."""
        self._cache = SequenceCache(0)
        self._forget_nodes()
        self._root = None

    def _forget_nodes(self) -> None:
        self._tree = GrowingTree()
        self._after = []

    def _row_after(self, node: int) -> torch.Tensor:
        """The logits [1, V] after a node."""
        for logits in self._after:
            if node < len(logits):
                return logits[node : node + 1]
            node -= len(logits)
        raise InvalidDraft(f"node {node} is beyond those that were expanded")

    def _reach_context(self) -> torch.Tensor:
        """Logits [1, V] after the context."""
        if self._root is None:
            context, limit = self._committed.tokens, self._committed.limit
            if limit is not None and len(context) > limit:
                raise ContextTooLong(
                    f"the context has {len(context)} tokens and the drafter's holds {limit}; "
                    "propose nothing where `room` is 0"
                )
            with torch.inference_mode():
                before = self._cache.length
                self._network.prefill(context, self._cache)
                self._count(self._cache.length - before)
                self._root = self._continue(context)
        return self._root

    def _add(self, tokens: TokenIds, parents: NDArray[np.int32]) -> torch.Tensor:
        """Logits [m, V] after m new nodes."""
        if self._root is None:
            raise InvalidDraft("expand before root: the cache does not reach the context yet")
        known = self._network.known(np.asarray(tokens, dtype=np.int32))
        above = np.asarray(parents).tolist()
        depth = self._tree.depth_below(above)
        if self.room is not None and depth > self.room:
            raise ContextTooLong(
                f"a node {depth} tokens below a context of {self._committed.count} is beyond the "
                f"drafter's {self._committed.limit}; go no deeper than `room`, {self.room}"
            )
        visible = self._tree.add(known.tolist(), above)
        positions = np.array(self._tree.depths) + (self._committed.count - 1)
        with torch.inference_mode():
            logits = self._model.forward(known, self._cache, positions, visible)
        self._count(len(known))
        self._after.append(logits)
        return logits

    def _continue(self, context: TokenIds) -> torch.Tensor:
        """Pass what is not cached of the context; the logits [1, V] after it."""
        past, end = self._cache.length, len(context)
        self._count(end - past)
        if end - past > SHORT_ROWS:
            return self._network.forward(context, self._cache, keep=1)
        sees = np.tri(end - past, dtype=np.bool_)
        return self._model.forward(context[past:], self._cache, np.arange(past, end), sees, keep=1)

    def _count(self, rows: int) -> None:
        if rows:
            self.passes += -(-rows // self._network.prefill_rows)
            self.rows += rows


def _log_probabilities(logits: torch.Tensor) -> NDArray[np.float32]:
    """float32 [m, V], in memory of the CPU."""
    rows: NDArray[np.float32] = logits.to(torch.float32).log_softmax(-1).cpu().numpy()
    return rows


def _top(logits: torch.Tensor, k: int) -> Top:
    """The k likeliest, found on the device; on a CPU by NumPy, which is quicker at it for few."""
    if logits.device.type == "cpu":
        return k_likeliest(_log_probabilities(logits), k)
    return top_of(logits, k)
