"""Prompt lookup: what followed the last few tokens earlier in the request's own context.

Saxena, "Prompt Lookup Decoding" (2023), as measured by Spec-Bench (arXiv 2401.07851): try the
last `max_ngram` tokens, then one token fewer, down to `min_ngram`; the first n-gram that stood in
the context before is copied on from there.

    context   S E L E C T   n a m e   F R O M   t   ;   S E L E C T
                          |--------- copied -------     |- n-gram -|
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.errors import InvalidOption
from draftwood.protocols import Feedback

_ID_BYTES = np.dtype(np.int32).itemsize


class PromptLookup:
    """A drafter that knows each request's own context only; it shares and keeps nothing.

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
        self._source = np.zeros(nodes, dtype=np.uint8)

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> LookupStream:
        """A stream whose index holds the prompt; nothing is shared, so `namespace` is moot."""
        return LookupStream(prompt, self._sizes, self._latest, self._parents, self._source)

    def close(self) -> None:
        """Nothing to give back."""


class LookupStream:
    """One request's context and, for each n-gram length, where an n-gram stood before.

    A look-up costs one hash a length; a new token costs the same. Memory: about 150 bytes a
    context token and length, until `close`.
    """

    def __init__(
        self,
        prompt: TokenIds,
        sizes: range,
        latest: bool,
        parents: TokenIds,
        source: np.ndarray[tuple[int], np.dtype[np.uint8]],
    ) -> None:
        self._latest = latest
        self._parents, self._source = parents, source
        self._context = bytearray(prompt.tobytes())
        # n-gram (as bytes) -> position of the token that followed it; the context's last n-gram
        # has no follower yet and is entered when the next token comes
        self._index = {size: _index(prompt, size, latest) for size in sizes}

    def propose(self, budget: Budget) -> Draft:
        """The tokens after the longest n-gram found, as a chain."""
        context, room = self._context, min(budget.reach, len(self._parents))
        if room <= 0:
            return Draft.empty()
        for size, index in self._index.items():
            at = index.get(bytes(context[-size * _ID_BYTES :]))
            if at is not None:
                copied = context[at * _ID_BYTES : (at + room) * _ID_BYTES]
                tokens = np.frombuffer(copied, dtype=np.int32)
                n = len(tokens)
                # a rough guess, good enough to compare: longer matches are more often right
                confidence = np.full(n, size / (size + 1), dtype=np.float32)
                return Draft(tokens, self._parents[:n], confidence, self._source[:n])
        return Draft.empty()

    def observe(self, feedback: Feedback) -> None:
        """Extend the context; its former last n-grams now have a follower."""
        context = self._context
        for token in feedback.tokens:
            end = len(context)
            at = end // _ID_BYTES
            for size, index in self._index.items():
                if size <= at:
                    gram = bytes(context[end - size * _ID_BYTES :])
                    if self._latest:
                        index[gram] = at
                    else:
                        index.setdefault(gram, at)
            context += token.tobytes()

    def close(self) -> None:
        """Free the index."""
        self._index.clear()


def _index(prompt: TokenIds, size: int, latest: bool) -> dict[bytes, int]:
    """Every n-gram of the prompt that has a follower -> the follower's position."""
    count = len(prompt) - size
    if count <= 0:
        return {}
    windows = np.lib.stride_tricks.sliding_window_view(prompt, size)[:count]
    grams = np.ascontiguousarray(windows).view(f"V{size * _ID_BYTES}").ravel().tolist()
    places = range(size, len(prompt))
    if latest:  # the last of equal keys stays in a dict
        return dict(zip(grams, places, strict=True))
    return dict(zip(reversed(grams), reversed(places), strict=True))
