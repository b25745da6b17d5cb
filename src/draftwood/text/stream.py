"""The text of one generation, cut before a stop string."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from draftwood.draft import TokenIds
from draftwood.errors import InvalidOption
from draftwood.text.decoding import Decoding
from draftwood.text.detokenizer import UNKNOWN, Detokenizer


class TextStream:
    """The text of one generation, in pieces; in `Stop.ends`, it ends it at a stop string.

    Generation ends with the first token after which the text so far, with or without the special
    tokens that are left out of it, holds a stop string; the text ends before that. Until then, text
    that may be the beginning of a stop string is not given out. Used by one thread, for one
    sequence.

    decoding: the tokenizer's. stops: one stop string or several, none of them empty.

    Raises:
        InvalidOption: for a stop string that is empty, or no string.
    """

    def __init__(self, decoding: Decoding, stops: str | Sequence[str] = ()) -> None:
        self.decoding = decoding
        self._stops = stop_strings(stops)
        self._special = decoding.special
        self._detokenizer = Detokenizer(decoding)
        self._ready: list[str] = []
        self._held = _Held()
        self._ended = False

    def __call__(self, tokens: TokenIds) -> int | None:
        """Take a step's tokens; how many to keep where they complete a stop string, else None."""
        if not self._stops:
            self._ready.append(self._detokenizer.push(tokens.tolist()))
            return None
        for count, token in enumerate(tokens.tolist(), start=1):
            mark = self._special.get(token)
            if mark is None:
                self._held.append(self._detokenizer.push([token]))
                tail = self._detokenizer.tail.rstrip(UNKNOWN)  # it may be half a character
            else:
                tail = self._detokenizer.tail.rstrip(UNKNOWN)
                self._held.mark(tail, mark)
            if self._cut(tail):
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
                self._ready.append(self._held.text + last)
        self._ended = True
        return self.take()

    def _cut(self, tail: str) -> bool:
        """Give out what cannot belong to a stop string; whether one is there.

        tail: what would come after the certain text if generation ended now.
        """
        at = self._held.find(tail, self._stops)
        if at is None:
            self._ready.append(self._held.release(self._stops))
            return False
        self._ready.append((self._held.text + tail)[:at])
        self._ended = True
        return True


class _Held:
    """Certain text that is held back, and the special tokens that stand in it unseen."""

    def __init__(self) -> None:
        self.text = ""
        self._marks: list[tuple[int, str]] = []  # where, counted in seen characters, and what

    def append(self, piece: str) -> None:
        """Hold more text back."""
        self.text += piece

    def mark(self, tail: str, string: str) -> None:
        """A special token after the text and `tail`."""
        self._marks.append((len(self.text) + len(tail), string))

    def find(self, tail: str, stops: Sequence[str]) -> int | None:
        """Where in text + tail the first stop string begins, None where there is none."""
        text = self.text + tail
        found = [at for stop in stops if (at := text.find(stop)) >= 0]
        if self._marks:
            marked, seen = self._marked(text)
            found += [seen[at] for stop in stops if (at := marked.find(stop)) >= 0]
        return min(found, default=None)

    def release(self, stops: Sequence[str]) -> str:
        """Give out the text with which no stop string can begin."""
        start = len(self.text) - max((_overlap(self.text, stop) for stop in stops), default=0)
        if self._marks:
            marked, seen = self._marked(self.text)
            begin = len(marked) - max(_overlap(marked, stop) for stop in stops)
            start = min(start, seen[begin])
            kept, length = [], 0
            for at, string in self._marks:
                length += len(string)
                if at > start or (at == start and at + length > begin):
                    kept.append((at - start, string))
            self._marks = kept
        piece, self.text = self.text[:start], self.text[start:]
        return piece

    def _marked(self, text: str) -> tuple[str, list[int]]:
        """The text with its special tokens, and for each of its places that in the seen text."""
        marked, seen, begin = "", [], 0
        for at, string in self._marks:
            if at > len(text):
                break
            marked += text[begin:at] + string
            seen += [*range(begin, at), *[at] * len(string)]
            begin = at
        return marked + text[begin:], [*seen, *range(begin, len(text) + 1)]


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
