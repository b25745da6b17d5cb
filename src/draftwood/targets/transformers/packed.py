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
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

import torch
from torch.nn import functional

log = logging.getLogger(__name__)

SMALLEST = 1 << 14
"""Numbers of a weight; what is smaller stays in the nearest cache whatever its layout."""

TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of projections of one input, in the order in which they are laid side by side."""

_TIMED = 1 << 22
"""Numbers of a weight of which at most is timed: a part costs per number what the whole does."""

_ROUNDS = 5
"""How often each layout is timed, in turns; the quickest counts."""

_FEW = 8
"""Rows of a pass that verifies a draft."""


def pack_linears(model: Any) -> int:
    """Lay out a model's linear weights for few rows where that is faster, in place.

    Projections of one input (`TOGETHER`) come to lie side by side, each a view of the whole; on a
    GPU that is all, output by output as before, so that they are one product. Memory: one of these
    at most stands there twice at any time. Only `torch.nn.Linear` is packed, on a CPU in float32 or
    bfloat16; weights that layers share stay shared. Returns the bytes packed.
    """
    faster: dict[tuple[Any, ...], bool] = {}
    total, packed = 0, dict[tuple[Any, ...], torch.Tensor]()
    for layers in _by_input(model):
        weights = [layer.weight for layer in layers]
        kinds = [(weight.data_ptr(), weight.shape, weight.dtype) for weight in weights]
        if len(kinds) == 1 and kinds[0] in packed:
            weights[0].data = packed[kinds[0]]  # another layer's as well
        elif joinable(weights):
            total += sum(weight.nbytes for weight in weights)
            _point(weights, torch.cat([weight.detach() for weight in weights]))
        elif packable(weights):
            outputs = sum(len(weight) for weight in weights)
            kind = (outputs, weights[0].shape[1], weights[0].dtype)
            if kind not in faster:
                faster[kind] = faster_packed(torch.cat(_first_rows(weights)))
            if faster[kind]:
                total += sum(weight.nbytes for weight in weights)
                _point(weights, in_by_out(weights))
                packed |= {key: weight.data for weight, key in zip(weights, kinds, strict=True)}
    if total:
        model.register_state_dict_post_hook(_as_stored)  # what saves it expects rows in order
        log.info("packed %.0f MB of linear weights for passes over few rows", total / 1e6)
    return total


def joinable(weights: Sequence[torch.Tensor]) -> bool:
    """Whether weights [out, in] of one input are to lie side by side on a GPU, and do not yet."""
    first = weights[0]
    return (
        len(weights) > 1
        and side_by_side(weights) is None
        and all(
            type(weight.data) is torch.Tensor
            and weight.device.type == "cuda"
            and weight.device == first.device
            and weight.dtype == first.dtype
            and weight.is_floating_point()
            and weight.shape[1] == first.shape[1]
            and weight.is_contiguous()
            for weight in weights
        )
    )


def _point(weights: Sequence[torch.Tensor], whole: torch.Tensor) -> None:
    """Make weights [out, in] views of one, in their order."""
    end = 0
    for weight in weights:
        first, end = end, end + len(weight)
        weight.data = whole[first:end]


def side_by_side(weights: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Weights [out, in] as one where they are views of it in their order."""
    first = weights[0].detach()
    at, strides = first.data_ptr(), first.stride()
    for weight in weights:
        if weight.data_ptr() != at or weight.stride() != strides:
            return None
        at += len(weight) * strides[0] * weight.element_size()
    outputs = sum(len(weight) for weight in weights)
    if (outputs - 1) * strides[0] + (first.shape[1] - 1) * strides[1] >= (
        first.untyped_storage().nbytes() // first.element_size() - first.storage_offset()
    ):
        return None
    return first.as_strided((outputs, first.shape[1]), strides)


def _by_input(model: Any) -> Iterator[list[Any]]:
    """The linear layers of a model, those with one input in one list, each layer once."""
    seen: set[int] = set()
    for module in model.modules():
        for names in TOGETHER:
            layers: list[Any] = [getattr(module, name, None) for name in names]
            if all(type(layer) is torch.nn.Linear for layer in layers):
                seen.update(map(id, layers))
                weights = [layer.weight for layer in layers]
                if len({weight.data_ptr() for weight in weights}) == len(weights):
                    yield layers
                else:
                    yield from ([layer] for layer in layers)
    for module in model.modules():
        if type(module) is torch.nn.Linear and id(module) not in seen:
            yield [module]


def _first_rows(weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """As much of weights as is timed."""
    left = max(1, _TIMED // weights[0].shape[1])
    parts = []
    for weight in weights:
        parts.append(weight.detach()[: max(0, left)])
        left -= len(weight)
    return parts


def _as_stored(model: Any, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Give a state dict its weights output by output again; those that are shared, shared."""
    stored: dict[int, torch.Tensor] = {}
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.ndim != 2:
            continue
        whole = value.untyped_storage().nbytes() == value.nbytes
        if value.stride(0) == 1 or not (whole or value.device.type == "cpu"):
            at = value.data_ptr()
            if at not in stored:
                stored[at] = value.clone(memory_format=torch.contiguous_format)
            state[name] = stored[at]


def packable(weights: Sequence[torch.Tensor]) -> bool:
    """Whether packing is for these weights [out, in] of one input, and none is packed yet."""
    first = weights[0]
    return sum(weight.numel() for weight in weights) >= SMALLEST and all(
        type(weight.data) is torch.Tensor
        and weight.device.type == "cpu"
        and weight.dtype == first.dtype
        and weight.dtype in (torch.float32, torch.bfloat16)
        and weight.shape[1] == first.shape[1]
        and weight.is_contiguous()
        for weight in weights
    )


def in_by_out(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """A copy of weights [out, in], one after the other, the outputs of an input side by side.

    Where the bytes between two inputs would be a multiple of 1024, a cache line is left free
    between them: the same place of many inputs would otherwise fall into a few sets of the cache.
    """
    outputs, inputs = sum(len(weight) for weight in weights), weights[0].shape[1]
    size = weights[0].element_size()
    width = outputs + (64 // size if outputs * size % 1024 == 0 else 0)
    room = torch.empty((inputs, width), dtype=weights[0].dtype, device=weights[0].device)
    laid = room[:, :outputs].t()
    done = 0
    for weight in weights:
        laid[done : done + len(weight)].copy_(weight.detach())
        done += len(weight)
    return laid


@torch.inference_mode()
def faster_packed(weight: torch.Tensor) -> bool:
    """Whether passes over few rows are faster with `weight` packed, and plain steps no slower."""
    packed = in_by_out([weight])
    one, few = (
        _seconds(torch.ones((rows, weight.shape[1]), dtype=weight.dtype), weight, packed)
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
