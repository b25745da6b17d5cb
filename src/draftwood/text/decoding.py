"""Decoding token ids to text, and how much of the end of a text later tokens may still change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

from draftwood.text.token_bytes import TokenBytes, steps_of

Decode: TypeAlias = Callable[[list[int]], str]
"""From token ids to their text; bytes that are no character (yet) become U+FFFD."""

Pattern: TypeAlias = tuple[str, str]
"""A string that a decoder replaces, and what it puts in its place."""

CLEAN_UP: Final[tuple[Pattern, ...]] = (
    *((f" {mark}", mark) for mark in ".?!,"),
    (" ' ", "'"),
    *((f" {ending}", ending) for ending in ("n't", "'m", "'s", "'ve", "'re")),
)
"""What `clean_up_tokenization_spaces` of transformers replaces, in this order."""

NOTHING, BYTE, OTHER = range(3)

_BYTE: Final = re.compile(r"<0x(?:[0-9A-Fa-f]{2}|\+[0-9A-Fa-f])>")


@dataclass(frozen=True, slots=True)
class Decoding:
    """Decodes token ids, and says which part of the text is final while more ids are to come.

    decode: the text of ids, without special tokens. special: the strings of the special tokens.
    kind: of a token: BYTE, one of a run that is decoded as a whole (byte fallback); NOTHING, left
    out; or OTHER; None where all are OTHER. last_token: whether later tokens may change the text of
    the last token. held: characters at the end that may change for other reasons; None: all.
    touched: characters that a replacement step of the decoder may remove or insert. token_bytes: of
    each token by itself, for stop strings; None: they are looked for in the text alone. reshaped:
    whether a later step of the decoder changes the strings that runs of bytes became.
    """

    decode: Decode
    special: Mapping[int, str] = field(default_factory=dict)
    kind: Callable[[int], int] | None = None
    last_token: bool = False
    held: int | None = 0
    touched: frozenset[str] = frozenset()
    token_bytes: TokenBytes | None = None
    reshaped: bool = False

    @property
    def as_bytes(self) -> bool:
        """Whether the text of a run of byte tokens is that of its bytes, and of nothing beside."""
        exact = self.held == 0 and not (self.last_token or self.touched or self.reshaped)
        return exact and self.kind is not None and self.token_bytes is not None

    @classmethod
    def of(cls, tokenizer: Any) -> Decoding:
        """The decoding of a tokenizer of transformers, or of any object with the same `decode`.

        Where the tokenizer is not built on the tokenizers library, only unfinished characters at
        the end of a text (up to three U+FFFD) are taken to be unfinished.
        """
        if not isinstance(tokenizer, Backed):
            return cls(
                lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)),
                token_bytes=TokenBytes.of(tokenizer),
            )
        cleans = _cleans(tokenizer)

        def decode(ids: list[int]) -> str:
            text: str = tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=cleans
            )
            return text

        backend = tokenizer.backend_tokenizer
        special = {
            token: added.content
            for token, added in backend.get_added_tokens_decoder().items()
            if added.special
        }
        # a way of its own
        if type(tokenizer)._decode.__module__ != "transformers.tokenization_utils_tokenizers":
            return cls(decode, special, held=None, token_bytes=TokenBytes.of(tokenizer))
        steps = steps_of(backend.decoder)
        end = _End()
        for step in steps:
            end.follow(step)
        if cleans:
            end.fused = True
            for pattern in CLEAN_UP:
                end.replace(*pattern)
        kinds = None
        if end.last_token or any(step["type"] == "ByteFallback" for step in steps):
            kinds = _kinds(backend, steps, special)
        return cls(
            decode,
            special,
            kinds,
            end.last_token,
            end.held,
            frozenset(end.touched),
            TokenBytes.of(tokenizer, steps),
            end.reshaped,
        )


@runtime_checkable
class Backed(Protocol):
    """A tokenizer of transformers that is built on the tokenizers library."""

    backend_tokenizer: Any
    clean_up_tokenization_spaces: bool

    def decode(self, token_ids: Any, **options: Any) -> Any:
        """The text of ids."""

    def _decode(self, token_ids: Any, **options: Any) -> Any: ...


class _End:
    """How much of the end of a text is uncertain after the steps of a decoder so far."""

    def __init__(self) -> None:
        self.fused = False  # whether the step's input is one string
        self.last_token = False
        self.odd = False  # whether tokens may vanish, or become bytes, before bytes are decoded
        self.in_bytes = self.reshaped = False  # whether bytes were decoded; and changed after that
        self.half = 0  # a character whose bytes are not all there: one U+FFFD
        self.held: int | None = 0
        self.touched: set[str] = set()

    def follow(self, step: Mapping[str, Any]) -> None:
        """Go through one more step."""
        kind = step["type"]
        if kind == "Fuse":
            self.fused = True
        elif kind == "ByteLevel" and not self.fused:
            self.fused = True
            self.half = 1
        elif not self.fused:
            self.reshaped |= self.in_bytes
            self.in_bytes |= kind == "ByteFallback"
            self.last_token |= kind == "BPEDecoder"
            if kind == "ByteFallback" and self.odd:
                self.held = None
            self.odd |= kind == "CTC" or "Regex" in step.get("pattern", ())
        elif kind == "Strip":
            if self.held:
                self.held += step["stop"]
        elif kind == "Replace":
            pattern = step["pattern"]
            if pattern.get("String"):
                self.replace(pattern["String"], step["content"])
            else:
                self.held = None
        elif kind == "BPEDecoder":
            self.replace(step["suffix"], "")
        elif kind != "Metaspace":
            self.held = None

    def replace(self, old: str, new: str) -> None:
        """A replacement in the text as a whole: a match may begin in what is there."""
        self.touched.update(old, new)
        if self.held is not None:
            left = self.held + self.half + len(old) - 1
            self.half = 0
            self.held = left + max(0, len(new) - len(old)) * (left // len(old))


def _cleans(tokenizer: Backed) -> bool:
    """Whether the tokenizer removes spaces before punctuation; transformers spares BPE by now."""
    if not tokenizer.clean_up_tokenization_spaces:
        return False
    spared = type(tokenizer.backend_tokenizer.model).__name__ == "BPE"
    insists = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
    return not spared or bool(getattr(tokenizer, insists, False))


def _kinds(
    backend: Any, steps: Sequence[Mapping[str, Any]], special: Mapping[int, str]
) -> Callable[[int], int]:
    """`Decoding.kind` for a decoder of these steps."""
    names = [step["type"] for step in steps]
    bytes_at = names.index("ByteFallback") if "ByteFallback" in names else None
    known: dict[int, int] = {}

    def classify(token: int) -> int:
        text = None if token in special else backend.id_to_token(token)
        if text is None:
            return NOTHING
        for step in steps[:bytes_at]:
            if step["type"] == "Replace" and "String" in step["pattern"]:
                text = text.replace(step["pattern"]["String"], step["content"])
        return BYTE if bytes_at is not None and _BYTE.search(text) else OTHER

    def kind(token: int) -> int:
        if token not in known:
            known[token] = classify(token)
        return known[token]

    return kind
