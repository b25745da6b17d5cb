"""Rotary positions that turn with the length of the text: LongRoPE and dynamic NTK.

A pass of such a model turns all its rows by the length that the pass reaches, and `generate` passes
one token at a time. So a row is what `generate` computes only in a pass that reaches no further
than to its own side:

    length     1 ... switch | switch + 1 ...
    longrope   one side     | another; Phi-3 computes all keys anew when it gets there
    dynamic    one side     | every length by itself

A draft across a switch is therefore passed in several parts (`parts`).

LongRoPE: Ding et al. 2024 (arXiv 2402.13753). Dynamic NTK: bloc97 and emozilla, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import Cache, DynamicLayer


@dataclass(frozen=True, slots=True)
class LengthRope:
    """A rotary embedding that depends on the length of a pass.

    switch: the last length with the positions that short texts have. every: whether each length
    beyond it is a side by itself (dynamic NTK), or all of them are one (LongRoPE). anew: whether
    the model computes the whole text again where it crosses the switch. factor: by which dynamic
    NTK extends the context.
    """

    switch: int
    every: bool
    anew: bool
    factor: float = 1.0

    def side(self, length: int) -> int:
        """Lengths with the same number have the same positions; 0 up to the switch."""
        if length <= self.switch:
            return 0
        return length if self.every else self.switch + 1

    def limit(self, context_limit: int | None) -> int | None:
        """Tokens that a sequence may reach, from the limit that the configuration names."""
        if context_limit is None or not self.every:
            return context_limit
        return max(context_limit, int(self.switch * self.factor))

    def one_side(self, prompt: int, context_limit: int | None) -> int | None:
        """Tokens that a sequence with so long a prompt may reach before it crosses the switch."""
        return self.switch if prompt <= self.switch else self.limit(context_limit)

    def parts(self, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Which rows go through the model together, in the order of the passes.

        lengths: int64 [n], the length of the text that ends with each row; those of a row's
        ancestors are less.
        """
        sides = [self.side(length) for length in lengths.tolist()]
        order = sorted(range(len(sides)), key=sides.__getitem__)
        return [np.array(list(rows)) for _, rows in groupby(order, key=sides.__getitem__)]


def length_rope(model: Any) -> LengthRope | None:
    """The length-dependent rotary embedding of a model; None: its positions are ordinary ones."""
    config = model.config.get_text_config(decoder=True)
    ropes = getattr(config, "rope_parameters", None) or {}
    for rope in (ropes, *ropes.values()):
        kind = rope.get("rope_type") if isinstance(rope, dict) else None
        if kind == "longrope":
            at = rope.get("original_max_position_embeddings") or config.max_position_embeddings
            return LengthRope(int(at), every=False, anew=_computes_anew(model, int(at)))
        if kind == "dynamic":
            at = int(config.max_position_embeddings)
            return LengthRope(at, every=True, anew=False, factor=float(rope.get("factor", 1.0)))
    return None


def _computes_anew(model: Any, switch: int) -> bool:
    """Whether `generate` drops its cache where a text grows beyond `switch` tokens."""
    held = DynamicLayer()
    held.get_seq_length = lambda: switch
    inputs = model.prepare_inputs_for_generation(
        torch.zeros((1, switch + 1), dtype=torch.int64),
        past_key_values=Cache(layers=[held]),
        next_sequence_length=1,
    )
    return inputs.get("past_key_values") is None
