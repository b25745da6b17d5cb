"""What a drafter's confidence promised, beside what was accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from draftwood.draft import ROOT, Budget, Draft, TokenIds
from draftwood.protocols import Drafter, Feedback, Stream

BINS = 10


@dataclass(slots=True)
class Promise:
    """What a drafter's confidence promised, and what was accepted, after `warm` tokens."""

    warm: int
    tokens: int = 0
    promised: float = 0.0
    accepted: int = 0
    bins: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros((BINS, 3)))
    """Of each tenth of path probability: nodes, the sum of their probabilities, the accepted."""

    @property
    def error(self) -> float:
        """How far the sum of confidence is from the accepted tokens, as a part of these."""
        return self.promised / max(self.accepted, 1) - 1


class Watched:
    """A drafter whose promises are counted; the last step of a response, which is cut, is not."""

    def __init__(self, drafter: Drafter, promise: Promise) -> None:
        self.drafter, self.promise = drafter, promise

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> WatchedStream:
        """The drafter's stream."""
        stream = self.drafter.open(prompt, namespace=namespace, prediction=prediction)
        return WatchedStream(stream, self.promise)

    def close(self) -> None:
        """Close the drafter."""
        self.drafter.close()


class WatchedStream:
    """A stream whose promises are counted."""

    def __init__(self, stream: Stream, promise: Promise) -> None:
        self.stream, self.promise = stream, promise
        self._step: Feedback | None = None

    def propose(self, budget: Budget) -> Draft:
        """The stream's draft; the step before it was not the last."""
        if self._step is not None and self.promise.tokens > self.promise.warm:
            self._count(self._step)
        return self.stream.propose(budget)

    def observe(self, feedback: Feedback) -> None:
        """Pass the feedback on."""
        self._step = feedback
        self.promise.tokens += len(feedback.tokens)
        self.stream.observe(feedback)

    def close(self) -> None:
        """Close the stream."""
        self.stream.close()

    def _count(self, step: Feedback) -> None:
        path = np.empty(len(step.draft))
        for node, parent in enumerate(step.draft.parents.tolist()):
            above = 1.0 if parent == ROOT else path[parent]
            path[node] = above * step.draft.confidence[node]
        accepted = np.isin(np.arange(len(path)), step.verdict.path)
        bins = np.minimum((path * BINS).astype(int), BINS - 1)
        for column, weights in enumerate((None, path, accepted)):
            self.promise.bins[:, column] += np.bincount(bins, weights, minlength=BINS)
        self.promise.promised += float(path.sum())
        self.promise.accepted += len(step.verdict.path)
