"""Two faults of the sampler in vLLM's CPU backend, worked around where a self-test shows them.

With anything drafted and one request of a batch at a temperature above 0, vLLM 0.32 on a CPU gives
wrong greedy text, or ends, with every method of speculation (docs/vllm-reports.md). GPUs have other
kernels, and nothing is touched there.
"""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger("vllm.draftwood")

EXPANSION = "temperatures, top_k and top_p of a request are not expanded to its drafted tokens"
NO_ROWS = "top_k over no rows ends the engine"


def mend_cpu_sampler() -> list[str]:
    """Work around the faults that are there; returns their names. Nothing to do but on a CPU."""
    try:
        from vllm.platforms import current_platform

        if not current_platform.is_cpu():
            return []
        from vllm.v1.sample import rejection_sampler
        from vllm.v1.sample.ops import topk_topp_sampler

        top_k = topk_topp_sampler.apply_top_k_only
        _ = rejection_sampler.expand_batch_to_tokens
    except (ImportError, AttributeError):  # no vLLM, or one that is made otherwise
        return []
    found = []
    if not expands_right(rejection_sampler):
        rejection_sampler.expand_batch_to_tokens = expanded_by_request
        found.append(EXPANSION)
    if not takes_no_rows(topk_topp_sampler):
        topk_topp_sampler.apply_top_k_only = over_rows(top_k)
        found.append(NO_ROWS)
    for fault in found:
        log.warning("vLLM's CPU sampler has a known fault, which is worked around: %s", fault)
    return found


def expands_right(module: Any) -> bool:
    """Whether values of requests are repeated for each of their drafted tokens."""
    import torch

    values, ends = torch.tensor([0.8, 0.0, 0.5]), torch.tensor([2, 3, 3], dtype=torch.int32)
    try:
        found = module.expand_batch_to_tokens(values, ends, 3, 0, 1)
        counts = module.expand_batch_to_tokens(torch.tensor([7, 8, 9]), ends, 3)
    except Exception:
        return False
    return bool(
        torch.equal(found, torch.tensor([0.8, 0.8, 1.0]))
        and torch.equal(counts, torch.tensor([7, 7, 8]))
    )


def expanded_by_request(
    x: Any, cu_num_tokens: Any, num_tokens: int, replace_from: int = 0, replace_to: int = 0
) -> Any:
    """What vLLM's `expand_batch_to_tokens` promises: x[i] as often as request i has tokens."""
    import torch

    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
    values = torch.where(x == replace_from, torch.full_like(x, replace_to), x)
    return torch.repeat_interleave(values, counts.to(torch.int64), output_size=num_tokens)


def takes_no_rows(module: Any) -> bool:
    """Whether top_k may be applied where there are no rows."""
    import torch

    try:
        module.apply_top_k_only(torch.empty(0, 4), torch.empty(0, dtype=torch.int32))
    except Exception:
        return False
    return True


def over_rows(apply: Any) -> Any:
    """The same function, which returns no rows as they are."""

    def apply_top_k_only(logits: Any, k: Any) -> Any:
        return apply(logits, k) if len(logits) else logits

    return apply_top_k_only
