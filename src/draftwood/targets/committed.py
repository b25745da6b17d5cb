"""The committed tokens of a sequence, and how many more fit."""

from __future__ import annotations

import numpy as np

from draftwood.draft import TokenIds


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
