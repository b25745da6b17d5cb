"""A Llama's pass, bare: what a short pass of a model costs beside its arithmetic.

A pass over a few tokens through transformers takes hundreds of microseconds a layer on a CPU, most
of it around the arithmetic: masks made and checked, hooks, containers, keys and values repeated for
grouped heads. This is the same arithmetic in fewer calls and nothing around it:

    rows        of all sequences of a pass one after the other, without padding
    layers      by native code in float32 on a CPU (`native_layers`), else by PyTorch's operators
    products    of one input are one, where their weights lie together (`pack_linears`)
    attention   the query heads of a group are rows of one product with the group's keys, which
                are read where they lie; each sequence attends to its own keys only

It serves targets and models that draft, for a family it knows, once its rows were seen to be the
model's own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from draftwood.draft import TokenIds, as_tokens
from draftwood.targets.transformers.cache import BatchCache, SequenceCache
from draftwood.targets.transformers.layers import attention_layers
from draftwood.targets.transformers.lean_layer import LeanLayer, RmsNorm, Span
from draftwood.targets.transformers.native_layers import NativeLayers
from draftwood.targets.transformers.rope import length_rope

log = logging.getLogger(__name__)

FAMILIES = tuple(
    f"{name}ForCausalLM"
    for name in ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "Phi3")
)
"""Models with this arithmetic: RMS norms, rotary positions, gated units, heads in groups or not."""

LONGEST = 64
"""Rows of a sequence in a bare pass; for more the library's own pass is as quick."""


_MAKERS = ("transformers.", "torch.nn.", "draftwood.")
"""Whose modules a bare pass knows; an adapter's may be as good as none when it is looked at."""


def spread(vocab_size: int, count: int) -> TokenIds:
    """`count` token ids spread over the vocabulary."""
    return as_tokens([(1 + i * 7919) % vocab_size for i in range(count)])


def rounded(dtype: torch.dtype, layers: int, *, at_least: float) -> float:
    """How far the logits of a model may be off those of a pass of other shapes.

    In standard deviations, the largest of some hundred thousand logits. What 16 bits round away
    adds up with the layers: 0.11 for 24 of them, 0.23 for 32, between our pass and the library's
    on a GPU with random weights. A pass that computes something else is off by several.
    """
    if dtype in (torch.float32, torch.float64):
        return 1e-3
    return at_least + layers / 64


def lean_pass(model: Any) -> LeanPass | None:
    """The bare pass of `model`; None where it is of another kind, or its rows are not the same."""
    name = type(model).__name__
    try:
        lean = _made(model)
        if lean is None:
            return None
        limit, off = lean.allowed, lean.difference()
        if lean.native is not None and not off <= limit:
            if not math.isnan(off):
                log.warning("the native layers of %s are off by %.2g: they are not used", name, off)
            lean.native = None
            off = lean.difference()
    except Exception as error:  # a model of this name that is built in another way
        log.info("%s has no bare pass: %s", name, error)
        return None
    if math.isnan(off):  # the model's own logits are no numbers, which its probe will say
        return None
    if not off <= limit:
        log.warning(
            "the bare pass of %s differs from its own by %.2g standard deviations: it is not used",
            name,
            off,
        )
        return None
    return lean


def passes_natively(model: Any) -> bool:
    """Whether native layers will make the short passes of `model`, from its weights as they lie."""
    try:
        lean = _made(model)
    except Exception:  # a model of this name that is built in another way
        return False
    return lean is not None and lean.native is not None


def _made(model: Any) -> LeanPass | None:
    """The bare pass of a model of a known kind, not compared with the model's own yet."""
    config = model.config.get_text_config(decoder=True)
    if (
        type(model).__name__ not in FAMILIES
        or getattr(config, "attn_logit_softcapping", None) is not None
        or length_rope(model) is not None
        or not attention_layers(config).tree_masks
        or any(_is_changed(module) for module in model.modules())
    ):
        return None
    return LeanPass(model)


class LeanPass:
    """The pass of one model. Shared by any number of caches, as the model is.

    It holds the model's own weights, no copies. layers, embedding: those. native: its layers in
    native code where these serve and are faster; None: PyTorch's operators make the pass.
    """

    @torch.inference_mode()
    def __init__(self, model: Any) -> None:
        body, config = model.model, model.config.get_text_config(decoder=True)
        kinds = attention_layers(config)
        names = getattr(config, "layer_types", None) or [next(iter(kinds.windows))] * kinds.count
        self._model = model
        self.embedding = body.embed_tokens
        self.layers = [
            LeanLayer(layer, config, name) for layer, name in zip(body.layers, names, strict=True)
        ]
        self._norm, self._head = RmsNorm(body.norm), model.lm_head
        self._cap: float | None = getattr(config, "final_logit_softcapping", None)
        self._rotary = body.rotary_emb
        self._turns: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._kinds = list(dict.fromkeys(layer.kind for layer in self.layers))
        self.native = NativeLayers.of(self.layers, self._norm, self._head)
        self._modules = list(model.modules())
        self._parts = [
            (owner, name, part)
            for module in self._modules
            for owner in (module._modules, module._parameters)
            for name, part in owner.items()
        ]

    def is_current(self) -> bool:
        """Whether the model consists of the same modules and weights still, with no code in them.

        Adapters, hooks and new layers may come to a model that was loaded before.
        """
        same = all(owner.get(name) is part for owner, name, part in self._parts)
        return same and not any(map(_is_changed, self._modules))

    def __call__(
        self,
        tokens: NDArray[np.integer[Any]],
        positions: NDArray[np.int64],
        spans: Sequence[Span],
        cache: SequenceCache | BatchCache,
        *,
        keep: int = 0,
    ) -> torch.Tensor:
        """Logits [keep, V] of the last `keep` rows (0: all); the pass's rows are cached then.

        tokens, positions: [n], of all spans in their order.
        """
        device = self.device
        ids = torch.from_numpy(tokens.astype(np.int64)).to(device)
        first, last = int(positions[0]), int(positions.max())
        rows: slice | torch.Tensor
        if last - first + 1 == len(positions) and bool((np.diff(positions) == 1).all()):
            rows = slice(first, last + 1)  # a chain's turns need no copies
        else:
            rows = torch.from_numpy(positions).to(device)
        tables = {kind: self.table(kind, last) for kind in self._kinds}
        turns = {kind: (cosine[rows], sine[rows]) for kind, (cosine, sine) in tables.items()}
        x = self.embedding(ids)
        if self.native is not None and not self.native.is_current():
            self.native = None  # the weights have moved to another device, or to another dtype
        if self.native is not None:
            return self._capped(self.native.logits(self.native(x, turns, spans, cache)[-keep:]))
        return self.logits(self._by_torch(x, turns, spans, cache)[-keep:])

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, V] of rows [n, hidden] that went through all layers."""
        return self._capped(self._head(self._norm(x)))

    def _capped(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        device: torch.device = self.embedding.weight.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        dtype: torch.dtype = self.embedding.weight.dtype
        return dtype

    @property
    def allowed(self) -> float:
        """How far its logits may be off those of another pass, in standard deviations."""
        return rounded(self.dtype, len(self.layers), at_least=0.1)

    def _by_torch(
        self,
        x: torch.Tensor,
        turns: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
        spans: Sequence[Span],
        cache: SequenceCache | BatchCache,
    ) -> torch.Tensor:
        """Rows [n, hidden] after all layers."""
        sees = {kind: [self._mask(span, kind) for span in spans] for kind in self._kinds}
        for layer, cached in zip(self.layers, cache.layers, strict=True):
            x = layer(x, turns[layer.kind], spans, sees[layer.kind], cached)
        return x

    @torch.inference_mode()
    def difference(self) -> float:
        """How far its logits are from the model's own, in standard deviations of these."""
        weight = self.embedding.weight
        tokens = spread(int(weight.shape[0]), 5)
        ids = torch.from_numpy(tokens.astype(np.int64)[None]).to(weight.device)
        expected = self._model(input_ids=ids, use_cache=False).logits[0].float()
        cache, rows = SequenceCache(len(self.layers)), []
        for first, end in ((0, 3), (3, 5)):
            sees = np.tri(end - first, end, first, dtype=np.bool_)
            span = Span(0, end - first, end, {layer.kind: sees for layer in self.layers})
            rows.append(self(tokens[first:end], np.arange(first, end), [span], cache))
        return float((torch.cat(rows).float() - expected).abs().max() / expected.std())

    def _mask(self, span: Span, kind: str) -> torch.Tensor | None:
        """What is added to the scores of a span's rows, for the query heads of a group each."""
        if span.visible is not None:
            visible = torch.from_numpy(span.visible[kind])
        elif span.rows > 1:
            chain = np.tri(span.rows, span.end, span.end - span.rows, dtype=np.bool_)
            visible = torch.from_numpy(chain)
        else:
            return None
        mask = torch.zeros(visible.shape, dtype=self.embedding.weight.dtype)
        mask.masked_fill_(~visible, -torch.inf)
        return mask.repeat(self.layers[0].each, 1).to(self.embedding.weight.device)

    def table(self, kind: str, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine [n, 1, size] of all positions up to `last` at least.

        The first half of the sine has its sign turned, so that a rotation needs no negation.
        """
        turns = self._turns.get(kind)
        if turns is None or last >= len(turns[0]):
            all_ = torch.arange(max(256, 2 * last), device=self.embedding.weight.device)
            by_kind = (kind,) if hasattr(self._rotary, "layer_types") else ()
            both = self._rotary(self.embedding.weight, all_[None], *by_kind)
            cosine, sine = (part[0, :, None].clone() for part in both)
            sine[..., : sine.shape[-1] // 2].neg_()
            turns = self._turns[kind] = (cosine, sine)
        return turns


def _is_changed(module: Any) -> bool:
    """Whether a module has code that is not its model's, or is another kind of linear layer."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return (
        bool(hooks)
        or "forward" in vars(module)
        or not type(module).__module__.startswith(_MAKERS)
        or (isinstance(module, torch.nn.Linear) and type(module) is not torch.nn.Linear)
    )
