"""From names to objects: `load` a model with a drafter, `generate` or `stream` text.

llm = load("path/or/hub-id")
for piece in llm.stream("Rewrite this file ...", max_tokens=256):
    print(piece, end="", flush=True)
print(llm.stats)
"""

from __future__ import annotations

from pathlib import Path

from draftwood.budget.measured import MeasuredCost
from draftwood.budget.spending import Spending
from draftwood.draft import Budget
from draftwood.drafters.catalog import Service, make_service
from draftwood.language_model import Generation, LanguageModel, Options
from draftwood.protocols import Drafter
from draftwood.targets.transformers.load import read_model

__all__ = ["Generation", "LanguageModel", "Options", "load"]


def load(
    model: str | Path,
    drafter: str | Drafter = "recall",
    *,
    device: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    budget: Budget | None = None,
) -> LanguageModel:
    """A causal language model from a folder or the Hugging Face Hub, with a drafter.

    drafter: a spec such as "recall", "suffix:mode=tree" or "none", or a drafter of your own.
    device: "cpu", "cuda" or "cuda:1"; None: CUDA where there is one. dtype: "float32", "bfloat16",
    "float16" or "auto" (as stored); None: "auto" on CUDA, float32 on a CPU. attention: "sdpa" or
    "eager"; None: the model's choice. budget: the most a draft may hold; None: 64 nodes.

    With `cost` in the spec, drafts are cut to what pays and drafting is switched off where it does
    not: "recall:cost=auto" measures what verification costs, for up to a second here and then
    while it generates; "suffix:cost=0.01" is told.

    Raises:
        InvalidSpec: for an unknown drafter or option.
        MissingExtra: where torch or transformers is not installed.
        ModelNotFound: for a path that holds no model, or a name that cannot be reached.
        UnsupportedModel: for a model whose drafts could not be verified exactly.
    """
    service = make_service(drafter) if isinstance(drafter, str) else Service(drafter)
    spender = None if service.cost is None else Spending.of(service.cost, limit=budget)
    network, tokenizer = read_model(model, device=device, dtype=dtype, attention=attention)
    from draftwood.targets.transformers.target import TransformersTarget

    target = TransformersTarget(network)
    if spender is not None and isinstance(spender.cost, MeasuredCost):
        spender.cost.sweep(
            target, [0] * 32, sizes=(0, 2, 8, 24), batches=(1, 8), rounds=3, seconds=1.0
        )
    return LanguageModel(target, tokenizer, service.drafter, budget=spender or budget)
