"""From tokens to text while they come: whole characters only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

Decode: TypeAlias = Callable[[list[int]], str]
"""A tokenizer's own way from ids to text; bytes that are no character (yet) become U+FFFD."""

UNKNOWN: Final = "\ufffd"
LONGEST_HALF: Final = 3
"""The most U+FFFD that the bytes of one unfinished character can decode to."""

WINDOW: Final = 32
"""Tokens decoded again with each new one, at most about so many: long texts stay cheap."""


class Detokenizer:
    """The text of a growing list of tokens, in pieces that hold whole characters.

    The pieces, put together, are the tokenizer's text of all tokens. That needs a tokenizer which
    does not take back what it has said: `clean_up_tokenization_spaces` must be off, and one that
    falls back to single bytes spoils the valid characters of a byte run which turns out to be no
    UTF-8, where the pieces keep them.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._shown = 0  # characters of the window's text that were given out
        self._whole = 0  # tokens of the window whose text was all given out

    def push(self, tokens: Sequence[int]) -> str:
        """Append tokens; the characters that are whole now."""
        self._window.extend(tokens)
        text = self._decode(self._window)
        whole = len(text)
        while whole and len(text) - whole < LONGEST_HALF and text[whole - 1] == UNKNOWN:
            whole -= 1
        piece = text[self._shown : whole]
        self._shown = max(self._shown, whole)
        if piece and whole == len(text):
            self._move_window()
        return piece

    def finish(self) -> str:
        """The rest: what is no whole character, as U+FFFD."""
        text = self._decode(self._window)
        piece = text[self._shown :]
        self._shown = len(text)
        return piece

    def _move_window(self) -> None:
        """Forget tokens before the last ones with text, whose spaces the next ones depend on."""
        if len(self._window) > WINDOW and self._whole:
            rest = self._window[self._whole :]
            text = self._decode(rest)
            if text:
                self._window, self._shown = rest, len(text)
        self._whole = len(self._window)
