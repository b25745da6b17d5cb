"""Weights of linear layers, laid out for passes over few rows.

    as stored    out x in     few rows x weight: every output is a sum by itself
    packed       in x out     a row of outputs at a time, of all rows of the pass at once

PyTorch stores a linear layer output by output. On a CPU its product for two to sixteen rows then
costs up to four times that for one; with the same numbers laid out input by input it costs hardly
more than the reading of the weight. A packed weight is an ordinary tensor with other strides: its
shape and values, the state dict, copies, tied embeddings and every row count stay as they are.

Where this is faster is found out by timing a part of each shape of layer (`faster_packed`).
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

import torch
from torch.nn import functional

log = logging.getLogger(__name__)

SMALLEST = 1 << 14
"""Numbers of a weight; what is smaller stays in the nearest cache whatever its layout."""

_TIMED = 1 << 22
"""Numbers of a weight of which at most is timed: a part costs per number what the whole does."""

_ROUNDS = 5
"""How often each layout is timed, in turns; the quickest counts."""

_FEW = 8
"""Rows of a pass that verifies a draft."""


def pack(model: Any) -> int:
    """Lay out a model's linear weights for few rows where that is faster, in place.

    Memory: one weight at most stands there twice at any time. Only `torch.nn.Linear` on a CPU, in
    float32 or bfloat16, is packed; weights that layers share stay shared. Returns the bytes packed.
    """
    faster: dict[tuple[Any, ...], bool] = {}
    packed: dict[tuple[Any, ...], torch.Tensor] = {}
    for module in model.modules():
        if type(module) is not torch.nn.Linear or not packable(module.weight):
            continue
        weight = module.weight
        kind = (weight.shape, weight.dtype)
        if kind not in faster:
            faster[kind] = faster_packed(weight)
        if faster[kind]:
            where = (weight.data_ptr(), *kind)
            if where not in packed:
                packed[where] = in_by_out(weight.detach())
                packed[(packed[where].data_ptr(), *kind)] = packed[where]
            weight.data = packed[where]
    kept = {tensor.data_ptr(): tensor.nbytes for tensor in packed.values()}
    total = sum(kept.values())
    if total:
        model.register_state_dict_post_hook(_as_stored)  # what saves it expects rows in order
        log.info("packed %.0f MB of linear weights for passes over few rows", total / 1e6)
    return total


def _as_stored(model: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Give a state dict its weights output by output again; those that are shared, shared."""
    stored: dict[int, torch.Tensor] = {}
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and value.ndim == 2 and value.stride(0) == 1:
            at = value.data_ptr()
            state[name] = stored[at] = stored.get(at, value.contiguous())


def packable(weight: torch.Tensor) -> bool:
    """Whether a weight [out, in] is one that packing is for, and not packed yet."""
    return (
        type(weight.data) is torch.Tensor
        and weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and weight.numel() >= SMALLEST
        and weight.is_contiguous()
    )


def in_by_out(weight: torch.Tensor) -> torch.Tensor:
    """A copy of a weight [out, in] whose outputs of one input lie side by side.

    Where the bytes between two inputs would be a multiple of 1024, a cache line is left free
    between them: the same place of many inputs would otherwise fall into a few sets of the cache.
    """
    outputs, inputs = weight.shape
    line = 64 // weight.element_size()
    width = outputs + (line if outputs * weight.element_size() % 1024 == 0 else 0)
    room = torch.empty((inputs, width), dtype=weight.dtype, device=weight.device)
    laid = room[:, :outputs].t()
    return laid.copy_(weight)


@torch.inference_mode()
def faster_packed(weight: torch.Tensor) -> bool:
    """Whether passes over few rows are faster with `weight` packed, and plain steps no slower."""
    outputs = max(1, min(weight.shape[0], _TIMED // weight.shape[1]))
    stored = weight.detach()[:outputs]
    packed = in_by_out(stored)
    one, few = (
        _seconds(torch.ones((rows, weight.shape[1]), dtype=weight.dtype), stored, packed)
        for rows in (1, _FEW)
    )
    return few[1] < 0.9 * few[0] and one[1] - one[0] < few[0] - few[1]


def _seconds(x: torch.Tensor, *layouts: torch.Tensor) -> list[float]:
    """The quickest product of x with each of the layouts."""
    best = [float("inf")] * len(layouts)
    for _ in range(_ROUNDS):
        for at, weight in enumerate(layouts):
            start = perf_counter()
            functional.linear(x, weight)
            best[at] = min(best[at], perf_counter() - start)
    return best
