"""The tokens of a call's texts side by side: what streamers are told, and what is returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from draftwood.transformers.generated_text import GeneratedText


class InStep:
    """Texts that are steps apart, written column by column as `generate` does.

    streamer: of transformers, or None. texts: of one call. pad: the token after a finished text.
    """

    def __init__(self, streamer: Any, texts: Sequence[GeneratedText], pad: int) -> None:
        self._streamer = streamer
        self._texts = texts
        self._pad = pad
        self._written = 0

    def put(self) -> None:
        """Write the columns to which all texts have come."""
        running = [len(text.tokens) for text in self._texts if not text.done]
        if running and all(text.stopped is None or text.done for text in self._texts):
            self._put_to(min(running))

    def end(self) -> None:
        """Write what is left, and end the streamer."""
        self._put_to(self._length())
        if self._streamer is not None:
            self._streamer.end()

    def columns(self) -> list[list[int]]:
        """The tokens of each step, one for each text."""
        return [self._column(at) for at in range(self._length())]

    def _length(self) -> int:
        """Steps that `generate` would have made: until all texts had stopped."""
        return max(
            len(text.tokens) if text.stopped is None else text.stopped for text in self._texts
        )

    def _put_to(self, end: int) -> None:
        if self._streamer is not None:
            for at in range(self._written, end):
                self._streamer.put(torch.tensor(self._column(at)))
        self._written = max(self._written, end)

    def _column(self, at: int) -> list[int]:
        return [text.tokens[at] if at < len(text.tokens) else self._pad for text in self._texts]
