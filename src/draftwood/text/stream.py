"""The text of one generation, cut before a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption
from draftwood.text.detokenizer import Decode, Detokenizer


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
