"""A Llama's pass, bare: what a short pass of a small model costs beside its arithmetic.

A pass over a few tokens through transformers takes hundreds of microseconds a layer on a CPU, most
of it around the arithmetic: masks made and checked, hooks, containers. A drafter makes several such
passes a step. This is the same arithmetic in fewer calls and nothing around it:
projections of one input are one product, a norm is one call, a rotation three. It is for drafters
only: the rows of a target come from the model itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from draftwood.draft import TokenIds
from draftwood.targets.transformers.cache import SequenceCache
from draftwood.targets.transformers.layers import attention_layers
from draftwood.targets.transformers.probe import spread
from draftwood.targets.transformers.rope import length_rope

log = logging.getLogger(__name__)

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Models with this arithmetic: RMS norms (in Qwen3 of queries and keys too), rotary positions,
gated SiLU, heads in groups or not."""

COPIED_BYTES = 1 << 28
"""Projections that are joined stand in memory twice; beyond so many bytes in all they are not."""


def lean_pass(model: Any) -> LeanPass | None:
    """The bare pass of `model`; None where it is of another kind, or its rows are not the same."""
    config = model.config.get_text_config(decoder=True)
    if (
        type(model).__name__ not in FAMILIES
        or config.hidden_act != "silu"
        or length_rope(model) is not None
        or sum(part.nbytes for part in _joined_weights(model)) > COPIED_BYTES
        or any(window is not None for window in attention_layers(config).windows.values())
    ):
        return None
    lean = LeanPass(model)
    off = lean.difference()
    if off > (1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1):
        log.warning(
            "the bare pass of %s differs from its own by %.2g standard deviations: it is not used",
            type(model).__name__,
            off,
        )
        return None
    return lean


class LeanPass:
    """The pass of one model. Shared by any number of caches, as the model is."""

    @torch.inference_mode()
    def __init__(self, model: Any) -> None:
        body = model.model
        self._model = model
        self._embedding = body.embed_tokens.weight
        self._layers = [_Layer(layer) for layer in body.layers]
        self._norm, self._head = body.norm, model.lm_head
        self._rotary = body.rotary_emb
        self._turns: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(
        self,
        tokens: TokenIds,
        positions: NDArray[np.int64],
        mask: NDArray[np.float32],
        cache: SequenceCache,
        *,
        keep: int = 0,
    ) -> torch.Tensor:
        """Logits [keep, V] of the last `keep` rows (0: all); the pass's rows are cached then.

        tokens: [m]. positions: [m]. mask: [m, cached + m], 0 where a row sees another, else -inf.
        """
        device = self._embedding.device
        ids = torch.from_numpy(tokens.astype(np.int64)).to(device)
        sees = torch.from_numpy(mask).to(device, self._embedding.dtype)
        at = torch.from_numpy(positions).to(device)
        cosine, sine = (table[at] for table in self._table(int(positions.max())))
        x = functional.embedding(ids, self._embedding)
        for layer, cached in zip(self._layers, cache.layers, strict=True):
            x = layer(x, cosine, sine, sees, cached)
        logits: torch.Tensor = self._head(_normed(self._norm, x[-keep:]))
        return logits

    @torch.inference_mode()
    def difference(self) -> float:
        """How far its logits are from the model's own, in standard deviations of these."""
        tokens = spread(int(self._embedding.shape[0]), 5)
        ids = torch.from_numpy(tokens.astype(np.int64)[None]).to(self._embedding.device)
        expected = self._model(input_ids=ids, use_cache=False).logits[0].float()
        cache = SequenceCache(len(self._layers))
        mask = np.triu(np.full((5, 5), -np.inf, dtype=np.float32), 1)
        rows = [
            self(tokens[part], np.arange(5)[part], mask[part, : part.stop], cache)
            for part in (slice(0, 3), slice(3, 5))
        ]
        return float((torch.cat(rows).float() - expected).abs().max() / expected.std())

    def _table(self, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine [n, 1, head size] of all positions up to `last` at least.

        The first half of the sine has its sign turned, so that a rotation needs no negation.
        """
        turns = self._turns
        if turns is None or last >= len(turns[0]):
            all_ = torch.arange(max(256, 2 * last), device=self._embedding.device)
            both = self._rotary(self._embedding, all_[None])
            cosine, sine = (part[0, :, None].clone() for part in both)
            sine[..., : sine.shape[-1] // 2].neg_()
            turns = self._turns = (cosine, sine)
        return turns


class _Layer:
    """The weights of one decoder layer, and its part of the pass."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.size, self.scale = int(attention.head_dim), float(attention.scaling)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.heads, self.groups = (part.weight.shape[0] // self.size for part in projections[:2])
        self.before, self.between = layer.input_layernorm, layer.post_attention_layernorm
        self.heads_in, self.gate_up = _joined(projections), _joined((mlp.gate_proj, mlp.up_proj))
        self.heads_out, self.down = attention.o_proj, mlp.down_proj
        self.head_norms = None
        if hasattr(attention, "q_norm"):
            self.head_norms = attention.q_norm, attention.k_norm

    def __call__(
        self,
        x: torch.Tensor,
        cosine: torch.Tensor,
        sine: torch.Tensor,
        sees: torch.Tensor,
        cached: Any,
    ) -> torch.Tensor:
        count, heads, groups = len(x), self.heads, self.groups
        y = functional.linear(_normed(self.before, x), *self.heads_in).view(count, -1, self.size)
        turned = y[:, : heads + groups]
        if self.head_norms is not None:
            norms, query, key = self.head_norms, turned[:, :heads], turned[:, heads:]
            turned = torch.cat((_normed(norms[0], query), _normed(norms[1], key)), 1)
        # rotary positions, halves apart (RoFormer, arXiv 2104.09864, as Llama lays it out)
        turned = torch.addcmul(turned * cosine, turned.roll(self.size // 2, -1), sine)
        turned, fresh = turned.transpose(0, 1), y[:, heads + groups :].transpose(0, 1)
        keys, values = cached.update(turned[None, heads:], fresh[None])
        seen = functional.scaled_dot_product_attention(
            turned[None, :heads], keys, values, sees, scale=self.scale, enable_gqa=groups < heads
        )
        x = _added(x, seen[0].transpose(0, 1).reshape(count, -1), self.heads_out)
        gate, up = functional.linear(_normed(self.between, x), *self.gate_up).chunk(2, -1)
        return _added(x, functional.silu(gate) * up, self.down)


def _joined_weights(model: Any) -> Iterator[torch.Tensor]:
    """The weights of which a bare pass holds a copy."""
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        yield from (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
        yield from (mlp.gate_proj.weight, mlp.up_proj.weight)


def _joined(layers: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of several linear layers of one input as one."""
    weight = torch.cat([layer.weight for layer in layers])
    return weight, None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])


def _normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _added(x: torch.Tensor, y: torch.Tensor, layer: Any) -> torch.Tensor:
    """x + y W + b, in one call where there is no bias."""
    x = torch.addmm(x, y, layer.weight.t())
    return x if layer.bias is None else x + layer.bias
