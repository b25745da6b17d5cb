"""Streaming detokenization: gives out only text that no later token can change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from draftwood.text.decoding import BYTE, NOTHING, OTHER, Decoding

UNKNOWN: Final = "\ufffd"
LONGEST_HALF: Final = 3
"""The most U+FFFD that the bytes of one unfinished character can decode to."""

WINDOW: Final = 32
"""Tokens that are kept and decoded again with each new one, about: long texts stay cheap."""


class Detokenizer:
    """The text of a growing list of tokens, in pieces that later tokens cannot change.

    All pieces, with the last one from `finish`, concatenate to the text that the tokenizer gives
    for all tokens at once. Used by one thread, for one sequence.
    """

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._window: list[int] = []
        self._settled = 0  # tokens of the window whose text no longer changes
        self._shown = 0  # characters of the window's text that were given out
        self._border = 0  # where a later window may begin
        self._attempt = WINDOW  # the length at which to try that
        self._run: int | None = None  # where a run of bytes begins that reaches to the end
        self._text = ""  # of the settled tokens

    def push(self, tokens: Sequence[int]) -> str:
        """Append tokens; returns the new text that can no longer change."""
        settled = self._append(tokens)
        if settled == self._settled or self._decoding.held is None:
            return ""
        self._settled = settled
        text = self._text = self._decoding.decode(self._window[:settled])
        end = len(text)
        if self._decoding.last_token:
            end = _common(text, self._decoding.decode(self._window))
        end -= self._decoding.held
        whole = end
        while 0 < whole > end - LONGEST_HALF and text[whole - 1] == UNKNOWN:
            whole -= 1
        piece = text[self._shown : max(whole, 0)]
        self._shown = max(self._shown, whole)
        self._move_window()
        return piece

    def _append(self, tokens: Sequence[int]) -> int:
        """Append tokens; how many of the window have a text that no longer changes."""
        kind_of = self._decoding.kind
        if kind_of is None:
            self._window.extend(tokens)
            return len(self._window)
        for token in tokens:
            kind = kind_of(token)
            if kind == OTHER:
                self._run = None
            elif kind == BYTE and self._run is None:
                self._run = len(self._window)
            if kind != NOTHING:
                self._window.append(token)
        settled = len(self._window) if self._run is None else self._run
        if self._decoding.last_token:
            settled = min(settled, max(0, len(self._window) - 1))
        return settled

    @property
    def in_run(self) -> bool:
        """Whether the text ends in a run of bytes that the next tokens may go on with."""
        return self._run is not None

    @property
    def tail(self) -> str:
        """The rest of the text if no further token came."""
        if self._settled < len(self._window) or self._decoding.held is None:
            return self._decoding.decode(self._window)[self._shown :]
        return self._text[self._shown :]

    def finish(self) -> str:
        """The rest of the text; call it after the last token."""
        piece = self.tail
        self._shown += len(piece)
        return piece

    def _move_window(self) -> None:
        """Forget tokens whose text cannot matter any more.

        A window that begins later gives the same text from the first character on that no
        replacement reaches across; where that has been given out, it takes the place of this one.
        It does not begin within a character: its text and that of the tokens before it are then
        together another one.
        """
        if len(self._window) > self._attempt:
            left = self._decoding.decode(self._window[self._border : self._settled])
            touched = self._decoding.touched
            first = next((at for at, c in enumerate(left) if c not in touched), len(left))
            removed = len(self._text) - len(left)
            if self._shown > removed + first >= 0 and self._fits(left, first):
                self._shown -= removed
                self._settled -= self._border
                if self._run is not None:
                    self._run -= self._border
                del self._window[: self._border]
                self._text = left
                self._attempt = WINDOW
            else:
                self._attempt = len(self._window) + WINDOW
            self._border = 0
        whole = not self._text.endswith(UNKNOWN)
        if not self._border and self._settled > WINDOW - 8 and (whole or self._long):
            self._border = self._settled

    @property
    def _long(self) -> bool:
        """Whether the window has waited long enough for a text that ends in a whole character."""
        return len(self._window) > 2 * WINDOW

    def _fits(self, left: str, first: int) -> bool:
        """Whether the text of a later window is the end of this one's from `first` on."""
        if not self._text.endswith(left[first:]):
            return False
        before = self._decoding.decode(self._window[: self._border])
        return not before.endswith(UNKNOWN) or before + left == self._text


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    length = min(len(one), len(other))
    return next((at for at in range(length) if one[at] != other[at]), length)
