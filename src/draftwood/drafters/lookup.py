"""Prompt lookup: what followed the last few tokens earlier in the request's own context.

Saxena, "Prompt Lookup Decoding" (2023), as measured by Spec-Bench (arXiv 2401.07851): try the
last `max_ngram` tokens, then one token fewer, down to `min_ngram`; the first n-gram that stood in
the context before is copied on from there.

    context   S E L E C T   n a m e   F R O M   t   ;   S E L E C T
                          |--------- copied -------     |- n-gram -|
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from draftwood.draft import Budget, Draft, TokenIds, as_tokens
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback
from draftwood.sources import LOOKUP

_ID_BYTES = np.dtype(np.int32).itemsize


class PromptLookup:
    """Copies what followed the same last tokens earlier in the request's own context.

    max_ngram, min_ngram: tokens that have to match, longest first. nodes: the most tokens to
    copy. match: which of several places to copy from. Safe to use from any number of threads.

    Raises:
        InvalidOption: for n-grams shorter than 1 or in the wrong order, or fewer than 1 node.
    """

    def __init__(
        self,
        *,
        max_ngram: int = 3,
        min_ngram: int = 1,
        nodes: int = 10,
        match: Literal["earliest", "latest"] = "earliest",
    ) -> None:
        if not 1 <= min_ngram <= max_ngram:
            raise InvalidOption(
                f"n-grams of {min_ngram} to {max_ngram} tokens; need 1 <= min_ngram <= max_ngram"
            )
        if nodes < 1:
            raise InvalidOption(f"lookup drafts of {nodes} nodes; ask for at least 1")
        if match not in ("earliest", "latest"):
            raise InvalidOption(f"match is {match!r}; choose earliest or latest")
        self._sizes = range(max_ngram, min_ngram - 1, -1)
        self._latest = match == "latest"
        self._parents = np.arange(-1, nodes - 1, dtype=np.int32)
        self._source = np.full(nodes, LOOKUP, dtype=np.uint8)

    def __repr__(self) -> str:
        return f"PromptLookup(max_ngram={self._sizes.start}, nodes={len(self._parents)})"

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> LookupStream:
        """A stream whose index holds the prompt; nothing is shared, so `namespace` has no effect.

        prediction: likely answers; they stand in the index before the prompt.
        """
        text = _Text.of(prompt, prediction, self._sizes.start)
        return LookupStream(text, self._sizes, self._latest, self._parents, self._source)

    def close(self) -> None:
        """Nothing to release."""


class LookupStream:
    """One request's context and, for each n-gram length, where an n-gram stood before.

    A look-up costs one hash a length; a new token costs the same. Memory: about 150 bytes a
    context token and length, until `close`.
    """

    def __init__(
        self,
        text: _Text,
        sizes: range,
        latest: bool,
        parents: TokenIds,
        source: np.ndarray[tuple[int], np.dtype[np.uint8]],
    ) -> None:
        self._latest = latest
        self._parents, self._source = parents, source
        self._context = bytearray(text.tokens.tobytes())
        self._lead = text.lead
        # n-gram (as bytes) -> position of the token that followed it; the context's last n-gram
        # has no follower yet and is entered when the next token comes
        self._index = {size: _index(text, size, latest) for size in sizes}

    def propose(self, budget: Budget) -> Draft:
        """The tokens after the longest n-gram found, as a chain."""
        context, room = self._context, min(budget.reach, len(self._parents))
        if room <= 0:
            return Draft.empty()
        length = len(self)
        for size, index in self._index.items():
            at = index.get(bytes(context[-size * _ID_BYTES :])) if size <= length else None
            if at is not None:
                copied = context[at * _ID_BYTES : (at + room) * _ID_BYTES]
                tokens = np.frombuffer(copied, dtype=np.int32)
                if at < self._lead and tokens.min() < 0:
                    tokens = tokens[: int(np.argmax(tokens < 0))]
                n = len(tokens)
                # a rough guess, good enough to compare: longer matches are more often right
                confidence = np.full(n, size / (size + 1), dtype=np.float32)
                return Draft.trusted(tokens, self._parents[:n], confidence, self._source[:n])
        return Draft.empty()

    def observe(self, feedback: Feedback | TokenIds) -> None:
        """Extend the context; its former last n-grams now have a follower.

        The tokens alone are enough.
        """
        context = self._context
        tokens = feedback.tokens if isinstance(feedback, Feedback) else as_tokens(feedback)
        for token in tokens:
            end = len(context)
            at = end // _ID_BYTES
            for size, index in self._index.items():
                if size <= at - self._lead:
                    gram = bytes(context[end - size * _ID_BYTES :])
                    if self._latest:
                        index[gram] = at
                    else:
                        index.setdefault(gram, at)
            context += token.tobytes()

    def __len__(self) -> int:
        return len(self._context) // _ID_BYTES - self._lead

    def close(self) -> None:
        """Free the index."""
        self._index.clear()


@dataclass(frozen=True, slots=True, eq=False)
class _Text:
    """What is indexed: the predictions, then the prompt.

    tokens: for each prediction the prompt's end, the prediction and a separator (-1); the prompt.
    lead: tokens before the prompt. copied: bool, which tokens may be copied: neither separators nor
    the prompt's end where it is repeated, so that a prediction follows it.
    """

    tokens: TokenIds
    lead: int
    copied: np.ndarray[tuple[int], np.dtype[np.bool_]]

    @classmethod
    def of(cls, prompt: TokenIds, prediction: Sequence[TokenIds], end: int) -> _Text:
        tail = prompt[-end:]
        parts: list[TokenIds] = []
        for answer in prediction:
            parts += [tail, as_tokens(answer), np.full(1, -1, np.int32)]
        parts.append(prompt)
        kept = [len(part) * [at % 3 == 1] for at, part in enumerate(parts[:-1])]
        lead = sum(map(len, kept))
        copied = np.ones(lead + len(prompt), np.bool_)
        copied[:lead] = [each for part in kept for each in part]
        return cls(np.concatenate(parts), lead, copied)


def _index(text: _Text, size: int, latest: bool) -> dict[bytes, int]:
    """Every n-gram of the text that has a follower to copy -> the follower's position."""
    count = len(text.tokens) - size
    if count <= 0:
        return {}
    windows = np.lib.stride_tricks.sliding_window_view(text.tokens, size)[:count]
    grams = np.ascontiguousarray(windows).view(f"V{size * _ID_BYTES}").ravel().tolist()
    places: Sequence[int] = range(size, len(text.tokens))
    if text.lead:
        places = [place for place in places if text.copied[place]]
        grams = [grams[place - size] for place in places]
    if latest:  # the last of equal keys stays in a dict
        return dict(zip(grams, places, strict=True))
    return dict(zip(reversed(grams), reversed(places), strict=True))
