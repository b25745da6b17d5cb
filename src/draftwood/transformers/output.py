"""What a call returns: the token ids, or the output that `generate` makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from draftwood.transformers.generated_text import GeneratedText
from draftwood.transformers.prepared import Prepared


def output_of(
    ids: torch.Tensor,
    columns: Sequence[Sequence[int]],
    prepared: Prepared,
    texts: Sequence[GeneratedText],
    config: Any,
) -> Any:
    """Token ids [B, L + steps], or the output that `generate` makes of them."""
    new = torch.tensor(columns, dtype=ids.dtype, device=ids.device).T
    sequences = torch.cat([ids, new], dim=-1)
    if not config.return_dict_in_generate:
        return sequences
    from transformers.generation import GenerateDecoderOnlyOutput

    steps = len(columns)
    return GenerateDecoderOnlyOutput(
        sequences=sequences,
        scores=_by_step([t.scores for t in texts], steps) if prepared.keep_scores else None,
        logits=_by_step([t.logits for t in texts], steps) if prepared.keep_logits else None,
    )


def _by_step(texts: Sequence[Sequence[torch.Tensor]], steps: int) -> tuple[torch.Tensor, ...]:
    """[B, V] for each step; zeros where a text has ended."""
    zeros = torch.zeros_like(texts[0][0])
    return tuple(
        torch.cat([rows[step] if step < len(rows) else zeros for rows in texts])
        for step in range(steps)
    )
