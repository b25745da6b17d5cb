"""What a sequence holds: tokens that are settled, in a buffer that grows."""

from __future__ import annotations

import numpy as np

from draftwood.draft import TokenIds


class Committed:
    """The tokens of one sequence, prompt first, in a buffer that grows."""

    __slots__ = ("_buffer", "count")

    def __init__(self, prompt: TokenIds) -> None:
        self.count = len(prompt)
        self._buffer = np.empty(2 * self.count + 64, dtype=np.int32)
        self._buffer[: self.count] = prompt

    @property
    def tokens(self) -> TokenIds:
        """int32 [count]; a view that is valid until tokens are appended."""
        return self._buffer[: self.count]

    def append(self, tokens: TokenIds) -> None:
        """Append tokens."""
        end = self.count + len(tokens)
        if end > len(self._buffer):
            self._buffer = np.concatenate((self.tokens, np.empty(end + 64, dtype=np.int32)))
        self._buffer[self.count : end] = tokens
        self.count = end
