"""Not run on a GPU: Draftwood as a drafter of TensorRT-LLM, read and tested on its sources.

    llm = LLM(MODEL, speculative_config=draftwood.tensorrt_llm.speculative_config(MODEL),
              disable_overlap_scheduler=True)

Importing this package imports nothing of TensorRT-LLM. docs/tensorrt-llm.md says the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draftwood.errors import InvalidOption, MissingExtra
from draftwood.tensorrt_llm.opened_late import OpenedLate


def speculative_config(
    model: str,
    *,
    max_draft_len: int = 16,
    max_seq_len: int = 1_000_000,
    max_num_requests: int = 4096,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """A `UserProvidedDecodingConfig` for a model.

    model: its folder or name, for its tokenizer. max_draft_len: tokens of a draft. max_seq_len:
    tokens of a request; the engine's own limit holds besides. max_num_requests: at once. options:
    those of `draftwood.serving.options.EngineOptions`, such as {"path": FOLDER}.

    Raises:
        InvalidOption: a value outside its range, or no such option.
        MissingExtra: TensorRT-LLM is not installed, or has no such config any more.
    """
    if max_draft_len < 1:
        raise InvalidOption(f"max_draft_len is {max_draft_len}; use 1 or more, such as 16")
    late = OpenedLate(model, max_draft_len, max_seq_len, options)
    try:
        from tensorrt_llm.llmapi.llm_args import UserProvidedDecodingConfig

        from draftwood.tensorrt_llm.drafting import DraftwoodDrafter, DraftwoodManager
    except ImportError as error:
        raise MissingExtra(
            f"this needs a TensorRT-LLM that takes drafters, from 1.0 on: {error}; "
            "docs/tensorrt-llm.md says which versions were read"
        ) from error
    return UserProvidedDecodingConfig(
        max_draft_len=max_draft_len,
        drafter=DraftwoodDrafter(late, max_draft_len),
        resource_manager=DraftwoodManager(late, max_num_requests),
    )
