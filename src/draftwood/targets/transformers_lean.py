"""A Llama's pass, bare: what a short pass of a small model costs beside its arithmetic.

A pass over a few tokens through transformers takes hundreds of microseconds a layer on a CPU, most
of it around the arithmetic: masks made and checked, hooks, containers. A drafter makes several such
passes a step. This is the same arithmetic on the same weights, nothing copied, and nothing around
it. It is for drafters only: the rows of a target come from the model itself.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from draftwood.draft import TokenIds
from draftwood.targets.transformers_cache import SequenceCache
from draftwood.targets.transformers_probe import attention_layers, rope_switch, spread

log = logging.getLogger(__name__)

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Models with this arithmetic: RMS norms (in Qwen3 of queries and keys too), rotary positions,
gated SiLU, heads in groups or not."""


def lean_pass(model: Any) -> LeanPass | None:
    """The bare pass of `model`; None where it is of another kind, or its rows are not the same."""
    config = model.config.get_text_config(decoder=True)
    if (
        type(model).__name__ not in FAMILIES
        or config.hidden_act != "silu"
        or rope_switch(config) is not None
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

    def __init__(self, model: Any) -> None:
        body = model.model
        attention = body.layers[0].self_attn
        self._model = model
        self._embedding = body.embed_tokens.weight
        self._layers = list(body.layers)
        self._norm, self._head = body.norm, model.lm_head
        self._head_size = attention.head_dim
        self._grouped = attention.num_key_value_groups > 1
        self._norms_heads = hasattr(attention, "q_norm")
        self._rotary = body.rotary_emb
        self._cosine = self._sine = torch.empty(0)

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
        cosine, sine = self._turns(torch.from_numpy(positions).to(device), int(positions.max()))
        count, size = len(tokens), self._head_size
        x = functional.embedding(ids, self._embedding)
        for layer, cached in zip(self._layers, cache.layers, strict=True):
            block = layer.self_attn
            y = _normed(layer.input_layernorm, x)
            heads = [
                part(y).view(count, -1, size).transpose(0, 1)
                for part in (block.q_proj, block.k_proj, block.v_proj)
            ]
            if self._norms_heads:
                heads[0], heads[1] = (
                    _normed(block.q_norm, heads[0]),
                    _normed(block.k_norm, heads[1]),
                )
            query, key = _turned(heads[0], cosine, sine), _turned(heads[1], cosine, sine)
            keys, values = cached.update(key[None], heads[2][None])
            seen = functional.scaled_dot_product_attention(
                query[None], keys, values, sees, scale=block.scaling, enable_gqa=self._grouped
            )
            x = x + block.o_proj(seen[0].transpose(0, 1).reshape(count, -1))
            y = _normed(layer.post_attention_layernorm, x)
            gate = layer.mlp
            x = x + gate.down_proj(functional.silu(gate.gate_proj(y)) * gate.up_proj(y))
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

    def _turns(self, positions: torch.Tensor, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine [m, head size] of each position, from a table that grows."""
        if last >= len(self._cosine):
            all_ = torch.arange(max(256, 2 * last), device=self._embedding.device)
            cosine, sine = self._rotary(self._embedding, all_[None])
            # one attribute after the other: a thread that comes between finds a table long enough
            self._sine, self._cosine = sine[0], cosine[0]
        return self._cosine[positions], self._sine[positions]


def _normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _turned(heads: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary positions, halves apart (RoFormer, arXiv 2104.09864, as Llama lays it out)."""
    first, second = heads.chunk(2, dim=-1)
    return heads * cosine + torch.cat((-second, first), dim=-1) * sine
