"""One decoder layer of a bare pass, in PyTorch's operators: on any device, in any dtype.

It is what the native code (`native_layers`) is compared with as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from draftwood.targets.transformers.packed import side_by_side


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one sequence in a pass.

    slot: its place in the cache. rows: how many. end: keys it has with this pass. visible: which of
    these each row sees, bool [rows, end], by type of layer; None: a chain, each row sees all up to
    its own.
    """

    slot: int
    rows: int
    end: int
    visible: Mapping[str, NDArray[np.bool_]] | None


class LeanLayer:
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
        self.heads_in = Product(attention, "qkv_proj", ("q_proj", "k_proj", "v_proj"))
        self.gate_up = Product(mlp, "gate_up_proj", ("gate_proj", "up_proj"))
        self.heads_out, self.down = attention.o_proj, mlp.down_proj
        self.activation = mlp.activation_fn if hasattr(mlp, "activation_fn") else mlp.act_fn
        self.before, second = (
            RmsNorm(layer.input_layernorm),
            RmsNorm(layer.post_attention_layernorm),
        )
        self.between, self.after = second, None
        if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma 2 and 3 norm what is added, too
            self.between = RmsNorm(layer.pre_feedforward_layernorm)
            self.after = second, RmsNorm(layer.post_feedforward_layernorm)
        self.head_norms = None
        if hasattr(attention, "q_norm"):
            self.head_norms = RmsNorm(attention.q_norm), RmsNorm(attention.k_norm)

    def __call__(
        self,
        x: torch.Tensor,
        turns: tuple[torch.Tensor, ...],
        spans: Sequence[Span],
        sees: Sequence[torch.Tensor | None],
        cached: Any,
    ) -> torch.Tensor:
        """Rows [n, hidden] after the layer; their keys and values are in `cached` then."""
        query, keys, values = self.project(x, turns)
        cached.append(keys, values)
        seen, first = [], 0
        for span, mask in zip(spans, sees, strict=True):
            all_keys, held = cached.held(span.slot, span.end)
            own = query[first : first + span.rows]
            first += span.rows
            seen.append(self._attend(own, all_keys, held, mask))
        return self.finish(x, seen[0] if len(seen) == 1 else torch.cat(seen))

    def project(
        self, x: torch.Tensor, turns: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries [n, heads, size], keys and values [n, groups, size] of rows, turned."""
        heads = self.heads
        y = self.heads_in(self.before(x)).view(len(x), -1, self.size)
        turned, values = y[:, : heads + self.groups], y[:, heads + self.groups :]
        if self.head_norms is not None:
            query, key = self.head_norms
            turned = torch.cat((query(turned[:, :heads]), key(turned[:, heads:])), 1)
        turned = _turned(turned, *turns)
        return turned[:, :heads], turned[:, heads:], values

    def finish(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """Rows after the layer, from those before it and what these saw, [n, heads * size]."""
        x = _added(x, attended, self.heads_out, self.after and self.after[0])
        gate, up = self.gate_up(self.between(x)).chunk(2, -1)
        return _added(x, self.activation(gate) * up, self.down, self.after and self.after[1])

    def linears(self) -> list[Any]:
        """Its linear layers, modules of the model."""
        return [*self.heads_in.parts, self.heads_out, *self.gate_up.parts, self.down]

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


class Product:
    """Projections of one input, side by side: in one product where their weights lie together."""

    def __init__(self, owner: Any, fused: str, names: Sequence[str]) -> None:
        self.parts = [getattr(owner, fused)] if hasattr(owner, fused) else []
        self.parts = self.parts or [getattr(owner, name) for name in names]
        self.weight = side_by_side([part.weight for part in self.parts])
        biases = [part.bias for part in self.parts]
        self.bias = None if biases[0] is None or self.weight is None else torch.cat(biases)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs [n, .] of all of them."""
        if self.weight is not None:
            return functional.linear(x, self.weight, self.bias)
        return torch.cat([part(x) for part in self.parts], -1)


class RmsNorm:
    """An RMS norm; Gemma's multiply by one more than their weight, before they round."""

    def __init__(self, norm: Any) -> None:
        self.gemma = type(norm).__name__.startswith("Gemma")
        self.weight = 1 + norm.weight.float() if self.gemma else norm.weight
        self.epsilon: float = norm.eps if self.gemma else norm.variance_epsilon

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Rows [n, size], normed."""
        rows = x.float() if self.gemma else x
        normed = functional.rms_norm(rows, self.weight.shape, self.weight, self.epsilon)
        return normed.to(x.dtype)


def steady_attention(device: torch.device) -> AbstractContextManager[object]:
    """Attention on a GPU by kernels that take any shape at once.

    cuDNN's makes a plan for each new number of rows or keys, which takes longer than the pass; and
    with every step that is decoded the keys are more.
    """
    if device.type != "cuda":
        return nullcontext()
    steady = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
    return sdpa_kernel(list(steady))


def _turned(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary positions, halves apart (RoFormer, arXiv 2104.09864, as Llama lays it out)."""
    size = cosine.shape[-1]
    if size < x.shape[-1]:  # Phi may turn a part of a head only
        return torch.cat((_turned(x[..., :size], cosine, sine), x[..., size:]), -1)
    return torch.addcmul(x * cosine, x.roll(size // 2, -1), sine)


def _added(x: torch.Tensor, y: torch.Tensor, layer: Any, norm: RmsNorm | None) -> torch.Tensor:
    """x + y W + b, in one call where nothing comes between."""
    if norm is not None:
        return x + norm(layer(y))
    x = torch.addmm(x, y, layer.weight.t())
    return x if layer.bias is None else x + layer.bias
