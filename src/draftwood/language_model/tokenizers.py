"""What a model's tokenizer says to drafters, and about where texts end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from draftwood.protocols import TargetInfo

if TYPE_CHECKING:
    from draftwood.targets.engine_model import LoadedTarget


def target_info_of(target: LoadedTarget, tokenizer: Any) -> TargetInfo:
    """What drafters may know of a model."""
    vocab = getattr(tokenizer, "get_vocab", None)
    return TargetInfo(None if vocab is None else vocab(), target.vocab_size, target.context_limit)


def end_tokens_of(tokenizer: Any) -> frozenset[int]:
    """The ids that end a text, by the tokenizer alone."""
    ids = getattr(tokenizer, "eos_token_id", None)
    if ids is None:
        return frozenset()
    return frozenset([ids] if isinstance(ids, int) else ids)
