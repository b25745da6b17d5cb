"""Streams that tell somebody what was generated, such as those who share it with other hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from draftwood.draft import NO_TOKENS, TokenIds, as_tokens
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.protocols import Feedback

CONTEXT: int = 8
"""Tokens of a prompt that are told with a text: as many as Recall matches."""


@dataclass(frozen=True, slots=True, eq=False)
class FinishedText:
    """What a request generated.

    context: int32 [0 to 8], the end of its prompt. tokens: int32; none where an engine moved the
    stream natively, and knows them itself. namespace: as the request named it. sequence: its number
    in Recall, for `Recall.remove`; 0: it is not there.
    """

    context: TokenIds
    tokens: TokenIds
    namespace: str
    sequence: int


class HistoryListener(Protocol):
    """Who is told of every text that a drafter's requests have finished."""

    def name_of(self, namespace: str) -> str:
        """What Recall calls a request's namespace."""

    def finished(self, text: FinishedText) -> object:
        """A request was closed. Not called for one that was abandoned. Must not wait or raise."""


class ToldStream(RecallStream):
    """A stream that keeps what was generated, and tells a listener of it when it is closed."""

    __slots__ = ("_came", "_context", "_listener", "_namespace")

    def __init__(
        self,
        recall: Recall,
        prompt: ArrayLike,
        listener: HistoryListener,
        *,
        namespace: str = "",
        **options: Any,
    ) -> None:
        super().__init__(recall, prompt, namespace=listener.name_of(namespace), **options)
        self._listener = listener
        self._namespace = namespace
        self._context = as_tokens(prompt)[-CONTEXT:].copy()
        self._came: list[TokenIds] | None = []

    def observe(self, feedback: Feedback | ArrayLike) -> None:
        """Move past what was generated, and keep it."""
        super().observe(feedback)
        self.keep(feedback.tokens if isinstance(feedback, Feedback) else as_tokens(feedback))

    def keep(self, tokens: TokenIds) -> None:
        """Keep tokens that the stream has been moved past in a call for many."""
        if self._came is not None:
            self._came.append(tokens.copy())  # they may be borrowed

    def close(self) -> None:
        """Share what is left, and tell; a second call does nothing."""
        super().close()
        came, self._came = self._came, None
        if came is not None:
            tokens = np.concatenate(came) if came else NO_TOKENS
            self._listener.finished(
                FinishedText(self._context, tokens, self._namespace, self.sequence)
            )

    def abandon(self) -> None:
        """End and tell nobody."""
        self._came = None
        super().abandon()
