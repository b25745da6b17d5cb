"""What a pass takes in vLLM, estimated from prompts of different lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from draftwood.budget.curve import BATCHES, DRAFTED, CostCurve, check_sizes, estimated_curve
from draftwood.errors import MissingExtra


def measured_vllm(
    model: str,
    *,
    batches: Sequence[int] = BATCHES,
    drafted: Sequence[int] = DRAFTED,
    context: int = 256,
    repeats: int = 5,
    progress: Callable[[float], None] | None = None,
) -> CostCurve:
    """An estimate of the curve of a model in vLLM, which is loaded here, with prefix caching.

    Raises:
        InvalidOption: sizes that cannot be measured.
        MissingExtra: vLLM is not installed.
    """
    check_sizes(batches, drafted, context, repeats)
    try:
        import vllm
    except ImportError:
        raise MissingExtra("--vllm needs vLLM; install draftwood[vllm]") from None
    room = context + max(drafted) + 32
    engine: Any = vllm.LLM(model, max_model_len=room, enable_prefix_caching=True)
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
