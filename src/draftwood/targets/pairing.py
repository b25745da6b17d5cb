"""Checks that a small model and a target use the same token ids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from draftwood.errors import PairMismatch
from draftwood.protocols import TargetInfo

ADDED_TOKENS: Final = 256
"""Tokens that one tokenizer of a pair may have more than the other, after its last."""


def require_pair(name: str, tokenizer: Any, vocab_size: int, target_info: TargetInfo) -> None:
    """Refuse a small model that does not suit the target.

    name: what errors call the model. tokenizer: its own, or None. vocab_size: entries of its rows;
    they may be padded to more than the tokenizer has.

    Raises:
        PairMismatch: for a tokenizer that is missing on either side, or another one; for fewer
            entries than tokens.
    """
    vocab = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else None
    if vocab is None or target_info.vocab is None:
        whose = f"the drafter {name!r}" if vocab is None else "the target"
        raise PairMismatch(
            f"{whose} has no tokenizer that tells its vocabulary, so its token ids may mean "
            "anything; save the tokenizer of the pair beside its weights"
        )
    problem = vocabulary_mismatch(vocab, target_info.vocab)
    if problem is not None:
        raise PairMismatch(
            f"the drafter {name!r} and the target have different tokenizers ({problem}); "
            "pair models of one family that share a tokenizer"
        )
    shared = min(len(vocab), len(target_info.vocab))
    if min(vocab_size, target_info.vocab_size) < shared:
        raise PairMismatch(
            f"the drafter {name!r} has rows of {vocab_size} tokens, the target of "
            f"{target_info.vocab_size}, and their tokenizer has {shared}; use weights and a "
            "tokenizer that belong together"
        )


def vocabulary_mismatch(ours: Mapping[str, int], theirs: Mapping[str, int]) -> str | None:
    """The first difference between a drafter's vocabulary and the target's; None: they agree.

    One of them may have a few tokens more, such as a pad token.
    """
    if ours == theirs:
        return None
    one, other = ({index: text for text, index in vocab.items()} for vocab in (ours, theirs))
    for index in sorted(one.keys() & other.keys()):
        if one[index] != other[index]:
            return f"token {index} is {one[index]!r} in the drafter, {other[index]!r} in the target"
    if abs(len(ours) - len(theirs)) > ADDED_TOKENS:
        return f"{len(ours)} tokens in the drafter, {len(theirs)} in the target"
    return None
