"""The text of one generation, cut before a stop string."""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption
from draftwood.text.decoding import Decoding
from draftwood.text.detokenizer import UNKNOWN, Detokenizer
from draftwood.text.stop_search import Place, StopSearch

_CONTINUE: Final = bytes(range(0x80, 0xC0))
"""The bytes of UTF-8 that go on with a character."""


class TextStream:
    """The text of one generation, in pieces; in `Stop.ends`, it ends it at a stop string.

    Generation ends with the first token after which the text so far holds a stop string, or in
    which a stop string ends among the tokens of prompt and text, special tokens included
    (`StopSearch`); the text ends before that. Until then, text that may belong to a stop string is
    not given out. Used by one thread, for one sequence.

    decoding: the tokenizer's. stops: one stop string or several, none of them empty. prompt: the
    token ids before the text.

    Raises:
        InvalidOption: for a stop string that is empty, or no string.
    """

    def __init__(
        self, decoding: Decoding, stops: str | Sequence[str] = (), prompt: Sequence[int] = ()
    ) -> None:
        self.decoding = decoding
        self._stops = stop_strings(stops)
        self._special = decoding.special
        self._detokenizer = Detokenizer(decoding)
        self._search: StopSearch | None = None
        self._seen: StopSearch | None = None  # without special tokens; for runs of bytes
        self._marks: deque[_Mark] = deque()
        if self._stops and decoding.token_bytes is not None:
            self._search = StopSearch(decoding.token_bytes, self._stops, prompt)
            self._marks = deque(maxlen=decoding.token_bytes.most_tokens(self._stops))
            if decoding.as_bytes:
                self._seen = StopSearch(decoding.token_bytes, self._stops)
        self._ready: list[str] = []
        self._given = 0  # characters that are in `ready` or were taken from it
        self._held = ""  # certain text after them that may belong to a stop string
        self._end = self._half = 0  # characters of the text so far; with those that are unfinished
        self._run: _Run | None = None  # of bytes, that reaches to the end
        self._ended = False

    def __call__(self, tokens: TokenIds) -> int | None:
        """Take a step's tokens; how many to keep where they complete a stop string, else None."""
        if not self._stops:
            self._ready.append(self._detokenizer.push(tokens.tolist()))
            return None
        for count, token in enumerate(tokens.tolist(), start=1):
            if self._completes(token):
                return count
        return None

    def take(self) -> str:
        """The new text that later tokens cannot change."""
        text = "".join(self._ready)
        self._ready.clear()
        return text

    def finish(self) -> str:
        """The last text: what was held back, unless a stop string ended it."""
        if not self._ended:
            last = self._detokenizer.finish()
            if not self._cut(last):
                self._ready.append(self._held + last)
        self._ended = True
        return self.take()

    def _completes(self, token: int) -> bool:
        """Take a token; whether a stop string is complete with it."""
        shows = token not in self._special
        self._marks.append(_Mark(self._end, self._half, shows))
        if self._search is not None:
            self._search.push(token)
        if shows:
            if self._seen is not None:
                self._seen.push(token)
            self._held += self._detokenizer.push([token])
        place = None if self._search is None else self._search.found()
        if self._seen is None or not self._detokenizer.in_run:
            self._run = None
        elif place is None and self._seen.found() is None:
            self._run = self._run or _Run(self._end)  # its text is decoded when it ends
            self._end = self._half = self._run.end(self._seen.last if shows else b"")
            return False
        whole = self._detokenizer.tail
        tail = whole.rstrip(UNKNOWN)  # it may be half a character
        self._end = self._given + len(self._held) + len(tail)
        self._half = self._end + len(whole) - len(tail)
        return self._cut(tail, place)

    def _cut(self, tail: str, place: Place | None = None) -> bool:
        """Give out what cannot belong to a stop string; whether one is there.

        tail: what would come after the certain text if generation ended now. place: where a stop
        string begins that is complete.
        """
        text = self._held + tail
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if place is not None and (not found or place.tokens is None):
            found.append(min(max(self._at(place) - self._given, 0), len(text)))
        if found:
            self._give(text[: min(found)])
            self._ended = True
            return True
        overlaps = (_overlap(self._held, stop) for stop in self._stops)
        start = len(self._held) - max(overlaps, default=0)
        begun = None if self._search is None else self._search.begun()
        if begun is not None:
            start = min(start, max(self._at(begun) - self._given, 0))
        self._give(self._held[:start])
        self._held = self._held[start:]
        return False

    def _at(self, place: Place) -> int:
        """The character of the text at which a stop string begins."""
        if place.tokens is None:
            return 0
        mark = self._marks[-place.tokens]
        if not mark.shows:
            return mark.end
        rest = place.before.lstrip(_CONTINUE)
        if len(rest) < len(place.before):  # they end the character that was unfinished
            return mark.end + 1 + len(rest.decode(errors="ignore"))
        return mark.half + len(rest.decode(errors="ignore"))

    def _give(self, piece: str) -> None:
        self._ready.append(piece)
        self._given += len(piece)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a token begins. end, half: characters before it; with those that were unfinished then.

    shows: whether it is in the text at all.
    """

    end: int
    half: int
    shows: bool


class _Run:
    """Counts the characters of a text that goes on in a run of bytes. begin: those before it."""

    def __init__(self, begin: int) -> None:
        self._begin = begin
        self._count = 0
        self._decoder: IncrementalDecoder | None = getincrementaldecoder("utf-8")()

    def end(self, data: bytes) -> int:
        """Characters of the text with these bytes; without the whole run where it is no text."""
        if self._decoder is not None:
            try:
                self._count += len(self._decoder.decode(data))
            except UnicodeDecodeError:
                self._decoder, self._count = None, 0
        return self._begin + self._count


def stop_strings(stops: str | Sequence[str]) -> tuple[str, ...]:
    """Stop strings as a tuple; a bare string is one.

    Raises:
        InvalidOption: for one that is empty, or no string.
    """
    found: Any = (stops,) if isinstance(stops, str) else stops
    if not isinstance(found, Iterable):
        raise InvalidOption(f"stop is {stops!r}; give a string or a list of strings")
    found = tuple(found)
    for stop in found:
        if not isinstance(stop, str):
            raise InvalidOption(f"stop string {stop!r} is no string; give text, or stop_token_ids")
        if not stop:
            raise InvalidOption("a stop string is empty; give at least one character")
    checked: tuple[str, ...] = found
    return checked


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` with which `stop` begins."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
