"""Finding stop strings in the bytes of tokens, the prompt's last ones included."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from draftwood.text.token_bytes import TokenBytes, encoded


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the tokens a stop string begins: some tokens before the last one (0: in it).

    tokens: of the text, from the one with the first byte to the last one; None: in the prompt.
    before: the bytes of the first of them that come before the stop string.
    """

    tokens: int | None
    before: bytes


class StopSearch:
    """Stop strings as `generate(stop_strings=...)` of transformers finds them.

    A stop string is found with the token in which it ends, wherever in it that is, and may begin
    in the prompt. Special tokens are strings like all others. Used by one thread, for one text.

    token_bytes: of the tokenizer. stops: none of them empty. prompt: token ids before the text.
    """

    def __init__(
        self, token_bytes: TokenBytes, stops: Sequence[str], prompt: Sequence[int] = ()
    ) -> None:
        self._bytes_of = token_bytes
        self._stops = [encoded(stop) for stop in stops]
        most = token_bytes.most_tokens(stops)
        self._pieces: deque[bytes] = deque(maxlen=most)
        self._joined = b""
        self._own = 0  # tokens of the text among the pieces, at most
        for token in prompt[max(0, len(prompt) - most) :]:
            self.push(token)
        self._own = 0

    def push(self, token: int) -> None:
        """Take one more token."""
        piece = self._bytes_of(token)
        if piece is None:
            self._pieces.clear()
            piece = b""
        self._own += 1
        self._pieces.append(piece)
        self._joined = b"".join(self._pieces)

    @property
    def last(self) -> bytes:
        """The bytes of the last token."""
        return self._pieces[-1] if self._pieces else b""

    def found(self) -> Place | None:
        """Where the earliest stop string begins that ends in the last token; None: none does."""
        joined = self._joined
        earlier = len(joined) - len(self.last)
        if earlier == len(joined):
            return None
        starts = [
            at
            for stop in self._stops
            if (at := joined.find(stop, max(0, earlier - len(stop) + 1))) >= 0
        ]
        return self._place(min(starts)) if starts else None

    def begun(self) -> Place | None:
        """Where the earliest stop string begins that later tokens may complete; None: none does."""
        overlap = max((_overlap(self._joined, stop) for stop in self._stops), default=0)
        return self._place(len(self._joined) - overlap) if overlap else None

    def _place(self, at: int) -> Place:
        """The place of byte number `at` of the pieces."""
        left = len(self._pieces)
        for piece in self._pieces:
            if at < len(piece):
                return Place(left if left <= self._own else None, piece[:at])
            at -= len(piece)
            left -= 1
        raise AssertionError("a place lies within the pieces")


def _overlap(data: bytes, stop: bytes) -> int:
    """The length of the longest end of `data` with which `stop` begins, the whole excluded."""
    for length in range(min(len(data), len(stop) - 1), 0, -1):
        if data.endswith(stop[:length]):
            return length
    return 0
