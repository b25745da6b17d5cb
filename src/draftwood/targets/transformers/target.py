"""Hugging Face causal language models as targets: a whole token tree in one pass.

What a model can do is found out by its behavior: when the target is made, a few short passes are
compared with what `generate` computes (`probe`).
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from draftwood.draft import TokenIds
from draftwood.errors import UnsupportedModel
from draftwood.targets.committed import Committed
from draftwood.targets.transformers.batch import TransformersBatch
from draftwood.targets.transformers.cursor import TransformersCursor
from draftwood.targets.transformers.lean import lean_pass
from draftwood.targets.transformers.network import PREFILL_ROWS, Network
from draftwood.targets.transformers.probe import PROBE_TOKENS, Probe
from draftwood.targets.transformers.solo import SoloCursor
from draftwood.targets.transformers.static_pass import static_pass

log = logging.getLogger(__name__)


class TransformersTarget:
    """A causal language model of the transformers library, on any device and in any dtype.

    model: in evaluation mode, with ordinary (full or sliding-window) attention; `sdpa` and `eager`
    attention take trees, other kernels chains. probe: whether to compare short passes with
    `generate` first. prefill_rows: rows of a prompt in one pass. lean: whether to make short passes
    bare where the model is of a kind that `LeanPass` knows. static: whether to make them in static
    shapes, as CUDA graphs; None: on a GPU, where that is faster. Shared by any number of cursors;
    passes of several threads may run beside one another as far as the model allows it.

    trees: whether drafts may branch; False where the model's attention takes no mask of ours.
    batches: whether sequences of different lengths share passes; found out when first asked for.
    context_limit: tokens of prompt and text in all, or None. network: the passes of the model.

    Raises:
        UnsupportedModel: where a draft could not be verified exactly: recurrent or linear-attention
            state, an encoder, a cache of another kind, training mode, or logits that are not those
            of `generate`.
    """

    def __init__(
        self,
        model: Any,
        *,
        probe: bool = True,
        prefill_rows: int = PREFILL_ROWS,
        lean: bool = True,
        static: bool | None = None,
    ) -> None:
        self.model = model
        self.network = Network(model, prefill_rows=prefill_rows, lean=lean, static=static)
        self.vocab_size = self.network.vocab_size
        self.context_limit = self.network.context_limit
        self.trees = self.network.takes_masks
        self._probe = self._probe_of_passes() if probe else None
        if self._probe is not None and self.network.lean is None:
            self._try(self._probe)

    def __repr__(self) -> str:
        kind, limit = type(self.model).__name__, self.context_limit
        return f"TransformersTarget({kind}, vocab_size={self.vocab_size}, context_limit={limit})"

    def open(self, prompt: TokenIds) -> TransformersCursor | SoloCursor:
        """A cursor after `prompt`; its first `score` computes the prompt. Raises as `admit`."""
        self._look_again()
        if self.network.static is not None:
            return SoloCursor(self.network, prompt)
        return TransformersCursor(self.network, self.admit(prompt), trees=self.trees)

    def close(self) -> None:
        """Nothing to give back: the model is its maker's, and every cache its cursor's."""

    def open_batch(self, size: int) -> TransformersBatch:
        """A batch of at most `size` sequences in one pass; `TransformersBatch` states its memory.

        Raises:
            UnsupportedModel: where `batches` is False.
        """
        self._look_again()
        if not self.batches:
            raise UnsupportedModel(
                f"{type(self.model).__name__} takes no sequences of different lengths in one pass; "
                "use sdpa or eager attention, or decode the sequences one by one"
            )
        return TransformersBatch(self.network, size)

    @cached_property
    def batches(self) -> bool:
        """Whether sequences of different lengths, each with its own tree, may share a pass."""
        if self.network.rope is not None:
            return False  # the longest sequence of a pass would turn the keys of all others
        if not self.trees or self._probe is None:
            return self.trees
        problem = self._probe.batch_problem()
        if problem is not None:
            log.info(
                "%s takes no sequences of different lengths in one pass (%s): they are passed one "
                "by one",
                type(self.model).__name__,
                problem,
            )
        return problem is None

    def admit(self, prompt: TokenIds) -> Committed:
        """A sequence of the tokens of `prompt`, once it is sure that one more fits.

        Raises:
            ContextTooLong: for a prompt that leaves no room for a generated token.
            InvalidTokens: for an empty prompt, or ids beyond the model's vocabulary.
        """
        return self.network.admit(prompt)

    def _look_again(self) -> None:
        """Find out anew what the model can do, where it was changed after it was loaded.

        Raises:
            UnsupportedModel: as `_try`.
        """
        lean = self.network.lean
        if lean is None or lean.is_current():
            return
        network = self.network
        network.lean = lean_pass(self.model)
        if network.static is not None:
            windows, own = network.layers.windows, network.lean
            network.static = None if own is None else static_pass(own, windows, wanted=True)
        if self.network.lean is None and self._probe is not None:
            vars(self).pop("batches", None)
            self.trees, self._probe = self.network.takes_masks, Probe(self.model, lean=False)
            self._try(self._probe)

    def _probe_of_passes(self) -> Probe:
        """The probe of the best passes of ours that are right; else that of the library's own."""
        network = self.network
        while True:
            probe = Probe(
                self.model, lean=network.lean is not None, static=network.static is not None
            )
            if network.lean is None:
                return probe
            problem = probe.chain_problem() or probe.tree_problem()
            if problem is None:
                return probe
            if network.static is not None:
                network.static, way = None, "in static shapes"
            else:
                network.lean, way = None, "bare"
            log.info("%s is not passed %s: %s", type(self.model).__name__, way, problem)

    def _try(self, probe: Probe) -> None:
        """Find out whether drafts may branch.

        Raises:
            UnsupportedModel: where not even a chain gets the logits of `generate`.
        """
        name = type(self.model).__name__
        if self.context_limit is not None and self.context_limit < PROBE_TOKENS:
            raise UnsupportedModel(
                f"the configuration of {name} gives it a context of {self.context_limit} tokens, "
                f"and {PROBE_TOKENS} are needed to try it; correct max_position_embeddings"
            )
        problem = probe.chain_problem()
        if problem is not None:
            raise UnsupportedModel(
                f"{name} does not give for several tokens at once the logits that `generate` "
                f"computes one after the other ({problem}); use a model with ordinary attention"
            )
        problem = probe.tree_problem() if self.trees else "its masks are not by position"
        self.trees = problem is None
        if problem is not None:
            log.info(
                "%s takes no trees with %s attention (%s): drafts are cut to chains",
                name,
                self.network.attention,
                problem,
            )
