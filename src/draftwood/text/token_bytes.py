"""The bytes that each token stands for, whatever stands beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

BEFORE: Final = "abcdef"
"""Text that is put before a token, since the first token of a text may lose its space."""

_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@runtime_checkable
class Spelling(Protocol):
    """A tokenizer that can say what a token of its vocabulary looks like."""

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any:
        """A mapping with the `input_ids` of a text."""

    def convert_ids_to_tokens(self, ids: int) -> str | None:
        """The string of an id in the vocabulary."""

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of strings of the vocabulary."""


class TokenBytes:
    """The bytes of tokens as `generate(stop_strings=...)` of transformers has them.

    Special tokens are their own strings, half characters are what they are, and spaces stand where
    they stand in the middle of a text. Shared by any number of texts.

    steps: what the tokenizer's decoder does (`steps_of`).
    """

    def __init__(self, tokenizer: Spelling, steps: Sequence[Mapping[str, Any]] = ()) -> None:
        names = {step["type"] for step in steps}
        self._tokenizer = tokenizer
        self._fallback = "ByteFallback" in names
        self._level = _byte_level() if "ByteLevel" in names and not self._fallback else {}
        self._known: dict[int, bytes | None] = {}
        ids = tokenizer(BEFORE, add_special_tokens=False)["input_ids"]
        self._before = [tokenizer.convert_ids_to_tokens(each) or "" for each in ids]

    @classmethod
    def of(cls, tokenizer: Any, steps: Sequence[Mapping[str, Any]] = ()) -> TokenBytes | None:
        """None where the tokenizer cannot say what its tokens look like."""
        if not isinstance(tokenizer, Spelling):
            return None
        try:
            return cls(tokenizer, steps)
        except (ValueError, TypeError, KeyError, NotImplementedError):
            return None  # it has no such text

    def __call__(self, token: int) -> bytes | None:
        """The bytes of a token id; None for an id that is no token."""
        if token not in self._known:
            self._known[token] = self._bytes(token)
        return self._known[token]

    def most_tokens(self, stops: Sequence[str]) -> int:
        """How many tokens a stop string may reach over: as many as it has bytes, or characters."""
        by_bytes = self._fallback or bool(self._level)
        return max(len(encoded(stop) if by_bytes else stop) for stop in stops)

    def _bytes(self, token: int) -> bytes | None:
        string = self._tokenizer.convert_ids_to_tokens(token)
        if string is None:
            return None
        if self._fallback and (byte := _BYTE.fullmatch(string)):
            return bytes([int(byte[1], 16)])
        if self._level and all(letter in self._level for letter in string):
            return bytes(self._level[letter] for letter in string)
        text = self._tokenizer.convert_tokens_to_string([*self._before, string])
        _, found, after = text.partition(BEFORE)
        return encoded(after if found else self._tokenizer.convert_tokens_to_string([string]))


def encoded(text: str) -> bytes:
    """UTF-8; of a lone surrogate, bytes that no text has."""
    return text.encode(errors="surrogatepass")


def steps_of(decoder: Any) -> list[Mapping[str, Any]]:
    """The steps of a decoder of the tokenizers library, as its files describe them."""
    waiting = [] if decoder is None else [json.loads(decoder.__getstate__())]
    steps = []
    while waiting:
        step = waiting.pop()
        if step["type"] == "Sequence":
            waiting.extend(reversed(step["decoders"]))
        else:
            steps.append(step)
    return steps


def _byte_level() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for (GPT-2's table).

    Printable bytes of Latin-1 stand for themselves, the others for the letters from U+0100 on.
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    table = {chr(byte): byte for byte in own}
    return table | {chr(0x100 + at): byte for at, byte in enumerate(others)}
