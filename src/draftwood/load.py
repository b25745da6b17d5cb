"""From names to objects: `load` a model with a drafter, `generate` or `stream` text.

llm = load("path/or/hub-id")
for piece in llm.stream("Rewrite this file ...", max_tokens=256):
    print(piece, end="", flush=True)
print(llm.stats)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Unpack

from draftwood.budget.measured import MeasuredCost
from draftwood.draft import Budget
from draftwood.language_model import LanguageModel
from draftwood.language_model.drafting import Drafters
from draftwood.language_model.generation import Generation
from draftwood.language_model.option_checks import CostOption, cost_of
from draftwood.language_model.options import Options
from draftwood.protocols import Drafter, Target
from draftwood.share import ShareOptions
from draftwood.share.host import beside_follower
from draftwood.signatures import shows
from draftwood.targets.engines import read_target
from draftwood.targets.transformers.load_options import LoadOptions, shown_options

__all__ = ["Generation", "LanguageModel", "Options", "load"]

_SWEEP_SECONDS: Final = 0.5
"""No pass of a sweep over one batch size begins later than this after its first one."""

_QUICK: Final = 0.02
"""Seconds of a plain step up to which passes over several sequences are timed beforehand, too."""


@shows(shown_options())
def load(
    model: str | Path | Any,
    drafter: str | Drafter = "recall",
    *,
    cost: CostOption = "auto",
    budget: Budget | None = None,
    share: ShareOptions | str | Mapping[str, Any] | None = None,
    engine: str | None = None,
    **options: Unpack[LoadOptions],
) -> LanguageModel:
    """A causal language model, with a drafter.

    model: a folder, a name on the Hugging Face Hub, a `.gguf` file (extra `gguf`), "demo" for the
    bundled model, or a model object of the transformers library, with its `tokenizer`.
    drafter: a spec such as "recall", "suffix:mode=tree" or "none", or a drafter of your own.
    cost: what a drafted token costs, where the spec does not say (`recall:cost=none`): "auto":
    measured, for up to a second here and then while it generates; a part of a plain step, such as
    0.01; None or "none": drafts are not cut to what pays. The text is the same with all of them.
    budget: the most a draft may hold; None: 64 nodes. share: the URL of a log through which
    replicas share what they generate, such as "redis://broker:6379/0", or `ShareOptions`. engine:
    what runs the model: "transformers" (None); "llama.cpp" (extra `llama-cpp`) for a `.gguf` file,
    whose weights stay quantized; "onnx" (extra `onnx`) for a folder of ONNX Runtime GenAI.

    tokenizer: an object, or where to find one; None: the one beside the weights. device: "cpu",
    "cuda" or "cuda:1"; None: CUDA where there is one. dtype: "float32", "bfloat16", "float16" or
    "auto" (as stored); None: "auto" on CUDA, float32 on a CPU. attention: "sdpa" or "eager"; None:
    the model's choice. revision: branch, tag or commit of a Hub id. trust_remote_code: whether
    Python code that comes with the model may run; nobody is asked. device_map, quantization_config:
    as `from_pretrained` of transformers takes them. packed: whether linear weights on a CPU are
    stored again, in place, in the order in which passes over few rows read them faster; their
    values stay. None: only where a model that is loaded by name has no native pass, which reads
    weights as they are.

    Raises:
        InvalidSpec: for a spec that names no drafter, or options that it does not have.
        InvalidOption: for an option that there is not, or a value outside its range.
        MissingExtra: where torch, transformers or gguf is not installed.
        ModelNotFound: for a path that holds no model, or a name that cannot be reached.
        UnsupportedModel: for a model whose drafts could not be verified exactly.
        UnsupportedEngine: for a version of an engine that lacks what is needed of it.
        BrokenModel: for weights or a tokenizer that are cut, missing or of other shapes.
        PairMismatch: for a small model of another tokenizer.
        TokenizerMismatch: for a history of another tokenizer.
    """
    shared = None if share is None else ShareOptions.of(share)
    if shared is not None and shared.follower is not None:
        drafter = beside_follower(drafter, shared.follower)
    drafters = Drafters(drafter, cost=cost_of("cost", cost), budget=budget)
    try:
        target, tokenizer = read_target(model, engine, options)
        if drafters.default_cost == "auto":
            _sweep(drafters.measured, target)
        name = str(model) if isinstance(model, (str, Path)) else None
        return LanguageModel(target, tokenizer, drafters, name=name, share=shared)
    except BaseException:
        drafters.close()
        raise


def _sweep(cost: MeasuredCost, target: Target) -> None:
    """Time a few passes, so that the first steps know what a drafted token costs."""
    for batch in (1, 8):
        if batch == 1 or cost.seconds(0) < _QUICK:
            cost.sweep(
                target,
                [0] * 32,
                sizes=(0, 2, 8, 24),
                batches=(batch,),
                rounds=3,
                seconds=_SWEEP_SECONDS,
            )
