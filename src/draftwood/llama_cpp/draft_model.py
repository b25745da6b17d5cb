"""Drafts for `Llama(draft_model=...)` of llama-cpp-python."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from draftwood.budget.spender import Spender
from draftwood.drafters.catalog import make_drafter
from draftwood.errors import InvalidOption
from draftwood.protocols import Drafter, PairsWithTarget, TargetInfo
from draftwood.sessions import Sessions

_ANY_ID: Final = 2**31 - 1
"""A vocabulary that holds every token id."""


class LlamaCppDraftModel:
    """A draft model for one `Llama`: chains that Recall, or another drafter, expects.

    `Llama` gives it all tokens before every pass and tells it nothing else: how a draft went, which
    conversation goes on and which one is new follow from the tokens. Conversations may take turns;
    each is closed, and then learned to its end, once it has stayed away for 256 calls.

    drafter: a spec, or a drafter of your own, which stays open. nodes: the longest chain. spender:
    cuts drafts to what pays (`Spending`); None: they are not cut, and on a CPU a long chain costs
    time. namespace: what is learned here is drafted only here. model_path: the GGUF file that
    `Llama` runs, for drafters with a history file, which must be of the same tokenizer; None: it is
    not checked.

    Never raises while it drafts: whatever goes wrong costs drafts (`Sessions`).

    Raises:
        InvalidSpec, InvalidOption: for a spec that names no drafter, or a size below its limit.
        TokenizerMismatch: for a history of another tokenizer.
    """

    def __init__(
        self,
        drafter: str | Drafter = "recall:mode=chain,share=16",
        *,
        nodes: int = 8,
        spender: Spender | None = None,
        namespace: str = "",
        model_path: str | Path | None = None,
    ) -> None:
        if nodes < 1:
            raise InvalidOption(f"nodes is {nodes}; use 1 or more, such as 8")
        self._owned = isinstance(drafter, str)
        self._drafter = make_drafter(drafter) if isinstance(drafter, str) else drafter
        vocab = None if model_path is None else _vocab(Path(model_path))
        size = _ANY_ID if vocab is None else 1 + max(vocab.values())
        if isinstance(self._drafter, PairsWithTarget):
            self._drafter.pair(TargetInfo(vocab, size))
        self.sessions = Sessions(
            self._drafter,
            vocab_size=size,
            context_limit=_ANY_ID,
            nodes=nodes,
            spender=spender,
            trees=False,
        )
        self._namespace = namespace
        self._numbers = count()

    def __call__(self, input_ids: NDArray[np.intc], /, **_: Any) -> NDArray[np.intc]:
        """intc [k]: the tokens that are expected after input_ids [n], k at most `nodes`."""
        tokens = np.ascontiguousarray(input_ids, dtype=np.int32)
        (key,) = self.sessions.recognize([tokens])
        if key is None:
            key = next(self._numbers)
            self.sessions.open(key, tokens, namespace=self._namespace)
        new = tokens[self.sessions.length(key) :]
        (draft,) = self.sessions.step([key], [new]).chains()
        return np.array(draft, dtype=np.intc)

    def close(self) -> None:
        """Close the drafter, where it was made from a spec; files and locks are given back."""
        if self._owned:
            self._drafter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _vocab(path: Path) -> dict[str, int]:
    from draftwood.targets.transformers.gguf_tokenizer import gguf_tokenizer

    vocab: dict[str, int] = gguf_tokenizer(path).get_vocab()
    return vocab
