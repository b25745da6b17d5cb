"""From tokens to text while they come: whole characters only, cut before a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption

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


class TextStream:
    """The text of one generation; as a rule of `Stop.ends` it also ends it at a stop string.

    Text is held back while it may be the beginning of a stop string, and ends before one.
    Used by one thread, for one sequence.

    decode: the tokenizer's. stops: stop strings, none of them empty.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        if "" in stops:
            raise InvalidOption("a stop string is empty; give at least one character")
        self._detokenizer = Detokenizer(decode)
        self._stops = tuple(stops)
        self._ready: list[str] = []
        self._held = ""
        self._ended = False

    def __call__(self, tokens: TokenIds) -> int | None:
        """Take a step's tokens; how many of them to keep where a stop string is complete."""
        if not self._stops:
            self._ready.append(self._detokenizer.push(tokens.tolist()))
            return None
        for count, token in enumerate(tokens.tolist(), start=1):
            if self._add(self._detokenizer.push([token])):
                return count
        return None

    def take(self) -> str:
        """The text that is certain and was not taken before."""
        text = "".join(self._ready)
        self._ready.clear()
        return text

    def finish(self) -> str:
        """The last text: what was held back, unless a stop string ended it."""
        if not self._ended and not self._add(self._detokenizer.finish()):
            self._ready.append(self._held)
            self._held = ""
        self._ended = True
        return self.take()

    def _add(self, piece: str) -> bool:
        """Hold the piece, give out what cannot belong to a stop string; whether one is there."""
        self._held += piece
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self._ready.append(self._held[: min(found)])
            self._held = ""
            self._ended = True
            return True
        certain = len(self._held) - max((_overlap(self._held, s) for s in self._stops), default=0)
        self._ready.append(self._held[:certain])
        self._held = self._held[certain:]
        return False


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` with which `stop` begins."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
