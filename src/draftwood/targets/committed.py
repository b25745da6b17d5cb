"""The committed tokens of a sequence, and how many more fit."""

from __future__ import annotations

import numpy as np

from draftwood.draft import TokenIds, as_tokens
from draftwood.errors import ContextTooLong, InvalidTokens


class Committed:
    """The committed tokens of one sequence, prompt first, in a buffer that grows.

    limit: tokens that the sequence may reach in all; None: no limit.
    """

    __slots__ = ("_buffer", "count", "limit")

    def __init__(self, prompt: TokenIds, limit: int | None = None) -> None:
        self.count = len(prompt)
        self.limit = limit
        self._buffer = np.empty(2 * self.count + 64, dtype=np.int32)
        self._buffer[: self.count] = prompt

    @property
    def tokens(self) -> TokenIds:
        """int32 [count]; a view that is valid until tokens are appended."""
        return self._buffer[: self.count]

    @property
    def room(self) -> int | None:
        """Tokens that still fit after these, 0 where there are too many; None: no limit."""
        return None if self.limit is None else max(0, self.limit - self.count)

    def append(self, tokens: TokenIds) -> None:
        """Append tokens."""
        end = self.count + len(tokens)
        if end > len(self._buffer):
            self._buffer = np.concatenate((self.tokens, np.empty(end + 64, dtype=np.int32)))
        self._buffer[self.count : end] = tokens
        self.count = end


def admitted(prompt: TokenIds, *, vocab_size: int, limit: int | None) -> Committed:
    """A sequence of the tokens of `prompt`, once it is sure that one more fits.

    vocab_size: ids are below it. limit: tokens that a sequence may reach; None: no limit.

    Raises:
        ContextTooLong: for a prompt that leaves no room for a generated token.
        InvalidTokens: for an empty prompt, or ids beyond the model's vocabulary.
    """
    prompt = as_tokens(prompt, vocab_size=vocab_size)
    if not len(prompt):
        raise InvalidTokens("the prompt has 0 tokens; begin with at least one, such as BOS")
    if limit is not None and len(prompt) >= limit:
        raise ContextTooLong(
            f"the prompt has {len(prompt)} tokens and the model's context holds {limit}, the "
            f"generated ones included; shorten the prompt to {limit - 1} tokens at most"
        )
    return Committed(prompt, limit)
