"""A Llama's pass, bare: what a short pass of a model costs beside its arithmetic.

A pass over a few tokens through transformers takes hundreds of microseconds a layer on a CPU, most
of it around the arithmetic: masks made and checked, hooks, containers, keys and values repeated for
grouped heads. This is the same arithmetic in fewer calls and nothing around it:

    rows        of all sequences of a pass one after the other, without padding
    products    of one input are one, where their weights lie together (`pack_linears`)
    attention   the query heads of a group are rows of one product with the group's keys, which
                are read where they lie; each sequence attends to its own keys only

It serves targets and models that draft, for a family it knows, once its rows were seen to be the
model's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from draftwood.draft import TokenIds, as_tokens
from draftwood.targets.transformers.cache import BatchCache, SequenceCache
from draftwood.targets.transformers.layers import attention_layers
from draftwood.targets.transformers.packed import side_by_side
from draftwood.targets.transformers.rope import length_rope

log = logging.getLogger(__name__)

FAMILIES = tuple(
    f"{name}ForCausalLM"
    for name in ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Gemma2", "Gemma3", "Phi3")
)
"""Models with this arithmetic: RMS norms, rotary positions, gated units, heads in groups or not."""

LONGEST = 64
"""Rows of a sequence in a bare pass; for more the library's own pass is as quick."""


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one sequence in a pass.

    slot: its place in the cache. rows: how many. end: keys it has with this pass. visible: which of
    these each row sees, bool [rows, end], by type of layer; None: all of them.
    """

    slot: int
    rows: int
    end: int
    visible: Mapping[str, NDArray[np.bool_]] | None


def spread(vocab_size: int, count: int) -> TokenIds:
    """`count` token ids spread over the vocabulary."""
    return as_tokens([(1 + i * 7919) % vocab_size for i in range(count)])


def lean_pass(model: Any) -> LeanPass | None:
    """The bare pass of `model`; None where it is of another kind, or its rows are not the same."""
    config = model.config.get_text_config(decoder=True)
    if (
        type(model).__name__ not in FAMILIES
        or getattr(config, "attn_logit_softcapping", None) is not None
        or length_rope(model) is not None
        or not attention_layers(config).tree_masks
        or any(_is_changed(module) for module in model.modules())
    ):
        return None
    try:
        lean = LeanPass(model)
        off = lean.difference()
    except Exception as error:  # a model of this name that is built in another way
        log.info("%s has no bare pass: %s", type(model).__name__, error)
        return None
    if not off <= (1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1):
        log.warning(
            "the bare pass of %s differs from its own by %.2g standard deviations: it is not used",
            type(model).__name__,
            off,
        )
        return None
    return lean


class LeanPass:
    """The pass of one model. Shared by any number of caches, as the model is.

    It holds the model's own weights, no copies.
    """

    @torch.inference_mode()
    def __init__(self, model: Any) -> None:
        body, config = model.model, model.config.get_text_config(decoder=True)
        kinds = attention_layers(config)
        names = getattr(config, "layer_types", None) or [next(iter(kinds.windows))] * kinds.count
        self._model = model
        self._embedding = body.embed_tokens
        self._layers = [
            _Layer(layer, config, name) for layer, name in zip(body.layers, names, strict=True)
        ]
        self._norm, self._head = _Norm(body.norm), model.lm_head
        self._cap: float | None = getattr(config, "final_logit_softcapping", None)
        self._rotary = body.rotary_emb
        self._turns: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

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
        device = self._embedding.weight.device
        ids = torch.from_numpy(tokens.astype(np.int64)).to(device)
        at, last = torch.from_numpy(positions).to(device), int(positions.max())
        kinds = {layer.kind for layer in self._layers}
        turns = {kind: tuple(part[at] for part in self._table(kind, last)) for kind in kinds}
        sees = {kind: [self._mask(span, kind) for span in spans] for kind in kinds}
        x = self._embedding(ids)
        for layer, cached in zip(self._layers, cache.layers, strict=True):
            x = layer(x, turns[layer.kind], spans, sees[layer.kind], cached)
        logits: torch.Tensor = self._head(self._norm(x[-keep:]))
        return logits if self._cap is None else torch.tanh(logits / self._cap) * self._cap

    @torch.inference_mode()
    def difference(self) -> float:
        """How far its logits are from the model's own, in standard deviations of these."""
        weight = self._embedding.weight
        tokens = spread(int(weight.shape[0]), 5)
        ids = torch.from_numpy(tokens.astype(np.int64)[None]).to(weight.device)
        expected = self._model(input_ids=ids, use_cache=False).logits[0].float()
        cache, rows = SequenceCache(len(self._layers)), []
        for first, end in ((0, 3), (3, 5)):
            sees = np.tri(end - first, end, first, dtype=np.bool_)
            span = Span(0, end - first, end, {layer.kind: sees for layer in self._layers})
            rows.append(self(tokens[first:end], np.arange(first, end), [span], cache))
        return float((torch.cat(rows).float() - expected).abs().max() / expected.std())

    def _mask(self, span: Span, kind: str) -> torch.Tensor | None:
        """What is added to the scores of a span's rows, for the query heads of a group each."""
        if span.visible is None:
            return None
        visible = torch.from_numpy(span.visible[kind])
        mask = torch.zeros(visible.shape, dtype=self._embedding.weight.dtype)
        mask.masked_fill_(~visible, -torch.inf)
        return mask.repeat(self._layers[0].each, 1).to(self._embedding.weight.device)

    def _table(self, kind: str, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine [n, 1, size] of all positions up to `last` at least.

        The first half of the sine has its sign turned, so that a rotation needs no negation.
        """
        turns = self._turns.get(kind)
        if turns is None or last >= len(turns[0]):
            all_ = torch.arange(max(256, 2 * last), device=self._embedding.weight.device)
            by_kind = (kind,) if hasattr(self._rotary, "layer_types") else ()
            both = self._rotary(self._embedding.weight, all_[None], *by_kind)
            cosine, sine = (part[0, :, None].clone() for part in both)
            sine[..., : sine.shape[-1] // 2].neg_()
            turns = self._turns[kind] = (cosine, sine)
        return turns


class _Layer:
    """The weights of one decoder layer, and its part of the pass.

    kind: the type of its attention. each: query heads for each head of keys and values.
    """

    def __init__(self, layer: Any, config: Any, kind: str) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.kind = kind
        self.size, self.scale = int(attention.head_dim), float(attention.scaling)
        self.heads = int(config.num_attention_heads)
        self.groups = int(config.num_key_value_heads)
        self.each = self.heads // self.groups
        self.heads_in = _Product(attention, "qkv_proj", ("q_proj", "k_proj", "v_proj"))
        self.gate_up = _Product(mlp, "gate_up_proj", ("gate_proj", "up_proj"))
        self.heads_out, self.down = attention.o_proj, mlp.down_proj
        self.activation = mlp.activation_fn if hasattr(mlp, "activation_fn") else mlp.act_fn
        self.before, second = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)
        self.between, self.after = second, None
        if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma 2 and 3 norm what is added, too
            self.between = _Norm(layer.pre_feedforward_layernorm)
            self.after = second, _Norm(layer.post_feedforward_layernorm)
        self.head_norms = None
        if hasattr(attention, "q_norm"):
            self.head_norms = _Norm(attention.q_norm), _Norm(attention.k_norm)

    def __call__(
        self,
        x: torch.Tensor,
        turns: tuple[torch.Tensor, ...],
        spans: Sequence[Span],
        sees: Sequence[torch.Tensor | None],
        cached: Any,
    ) -> torch.Tensor:
        count, heads = len(x), self.heads
        y = self.heads_in(self.before(x)).view(count, -1, self.size)
        turned, values = y[:, : heads + self.groups], y[:, heads + self.groups :]
        if self.head_norms is not None:
            query, key = self.head_norms
            turned = torch.cat((query(turned[:, :heads]), key(turned[:, heads:])), 1)
        turned = _turned(turned, *turns)
        cached.append(turned[:, heads:], values)
        seen, first = [], 0
        for span, mask in zip(spans, sees, strict=True):
            keys, held = cached.held(span.slot, span.end)
            own = turned[first : first + span.rows, :heads]
            first += span.rows
            seen.append(self._attend(own, keys, held, mask))
        attended = seen[0] if len(seen) == 1 else torch.cat(seen)
        x = _added(x, attended, self.heads_out, self.after and self.after[0])
        gate, up = self.gate_up(self.between(x)).chunk(2, -1)
        return _added(x, self.activation(gate) * up, self.down, self.after and self.after[1])

    def _attend(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """What the rows of one sequence see, [m, heads * size], from query [m, heads, size].

        keys, values: [1, groups, end, size]. mask: [each * m, end], as the rows of a group lie.
        """
        rows, groups, each = len(query), self.groups, self.each
        grouped = query.view(rows, groups, each, self.size).permute(1, 2, 0, 3)
        grouped = grouped.reshape(1, groups, each * rows, self.size)
        seen = functional.scaled_dot_product_attention(
            grouped, keys, values, mask, scale=self.scale
        )
        return seen.view(groups, each, rows, self.size).permute(2, 0, 1, 3).reshape(rows, -1)


class _Product:
    """Projections of one input, side by side: in one product where their weights lie together."""

    def __init__(self, owner: Any, fused: str, names: Sequence[str]) -> None:
        self.parts = [getattr(owner, fused)] if hasattr(owner, fused) else []
        self.parts = self.parts or [getattr(owner, name) for name in names]
        self.weight = side_by_side([part.weight for part in self.parts])
        biases = [part.bias for part in self.parts]
        self.bias = None if biases[0] is None or self.weight is None else torch.cat(biases)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.weight is not None:
            return functional.linear(x, self.weight, self.bias)
        return torch.cat([part(x) for part in self.parts], -1)


class _Norm:
    """An RMS norm; Gemma's multiply by one more than their weight, before they round."""

    def __init__(self, norm: Any) -> None:
        self.gemma = type(norm).__name__.startswith("Gemma")
        self.weight = 1 + norm.weight.float() if self.gemma else norm.weight
        self.epsilon: float = norm.eps if self.gemma else norm.variance_epsilon

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.float() if self.gemma else x
        normed = functional.rms_norm(rows, self.weight.shape, self.weight, self.epsilon)
        return normed.to(x.dtype)


def _turned(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary positions, halves apart (RoFormer, arXiv 2104.09864, as Llama lays it out)."""
    size = cosine.shape[-1]
    if size < x.shape[-1]:  # Phi may turn a part of a head only
        return torch.cat((_turned(x[..., :size], cosine, sine), x[..., size:]), -1)
    return torch.addcmul(x * cosine, x.roll(size // 2, -1), sine)


def _added(x: torch.Tensor, y: torch.Tensor, layer: Any, norm: _Norm | None) -> torch.Tensor:
    """x + y W + b, in one call where nothing comes between."""
    if norm is not None:
        return x + norm(layer(y))
    x = torch.addmm(x, y, layer.weight.t())
    return x if layer.bias is None else x + layer.bias


def _is_changed(module: Any) -> bool:
    """Whether somebody put code of his own into a module, or another kind of linear layer."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return (
        bool(hooks)
        or "forward" in vars(module)
        or (isinstance(module, torch.nn.Linear) and type(module) is not torch.nn.Linear)
    )
