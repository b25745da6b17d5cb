"""What a pass takes in vLLM, estimated from prompts of different lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from draftwood.budget.curve import BATCHES, DRAFTED, CostCurve, check_sizes, estimated_curve
from draftwood.errors import InvalidOption, MissingExtra

_LARGEST_BLOCK = 256
"""Tokens of a block of vLLM's cache at most, on the platforms that we know."""


def measured_vllm(
    model: str,
    *,
    batches: Sequence[int] = BATCHES,
    drafted: Sequence[int] = DRAFTED,
    context: int = 256,
    repeats: int = 5,
    progress: Callable[[float], None] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> CostCurve:
    """An estimate of the curve of a model in vLLM, which is loaded here, with prefix caching.

    context is rounded up to whole blocks of the cache, as only these are computed once. arguments:
    of `vllm.LLM`, such as {"tensor_parallel_size": 2}.

    Raises:
        InvalidOption: sizes that cannot be measured, or vLLM does not start with such a model.
        MissingExtra: vLLM is not installed.
    """
    check_sizes(batches, drafted, context, repeats)
    try:
        import vllm
    except ImportError:
        raise MissingExtra("--vllm needs vLLM; install draftwood[vllm]") from None
    room = context + _LARGEST_BLOCK + max(drafted) + 32
    settings = {"max_model_len": room, "enable_prefix_caching": True, **(arguments or {})}
    try:
        engine: Any = vllm.LLM(model, **settings)
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        what = str(error).strip().splitlines()
        raise InvalidOption(
            f"vLLM does not start with {model} ({what[0] if what else type(error).__name__}); what "
            "it says above tells why"
        ) from None
    block = int(engine.llm_engine.vllm_config.cache_config.block_size or 1)
    context = -(-context // block) * block
    random = np.random.default_rng(0)
    vocab = engine.llm_engine.model_config.get_vocab_size()

    def tokens_of(count: int) -> list[int]:
        return [int(each) for each in random.integers(vocab // 4, vocab // 2, count)]

    def batch_of(size: int) -> Callable[[int, int], float]:
        begins = [tokens_of(context) for _ in range(size)]

        def at_once(extra: int, tokens: int) -> float:
            prompts = [{"prompt_token_ids": [*each, *tokens_of(extra)]} for each in begins]
            sampling = vllm.SamplingParams(max_tokens=tokens, temperature=0, ignore_eos=True)
            start = perf_counter()
            engine.generate(prompts, sampling, use_tqdm=False)
            return perf_counter() - start

        return at_once

    about = {"model": model, "how": "vLLM, estimated from prompts of different lengths"}
    return estimated_curve(
        batch_of,
        batches=batches,
        drafted=drafted,
        repeats=repeats,
        about={**about, "context": context},
        progress=progress,
    )
