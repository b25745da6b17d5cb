"""Two drafters behind one door: history where it is sure, any other drafter where it is not.

SuffixDecoding (arXiv 2411.04975 v2/v3, section 4.3): take the suffix draft when its SCORE, the
tokens it expects to be accepted, reaches tau; else ask the other drafter. With tau near the other
drafter's mean accepted length, each step takes what promises more; tau = 0 never asks it.
"""

from __future__ import annotations

from contextlib import ExitStack
from threading import Lock

import numpy as np

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.errors import InvalidOption
from draftwood.protocols import Drafter, Feedback, Stream, Verdict

_FORGET = 0.99
"""Weight of the past in the learned tau: about the last hundred of the other drafter's drafts."""


class Hybrid:
    """The first drafter's draft when it expects at least tau accepted tokens, else the other's.

    tau: expected accepted tokens (>= 0), or "auto": the other drafter's mean accepted length,
    learned online over all sequences, beginning at 1. Safe to use from several threads if both
    drafters are.

    Raises:
        InvalidOption: a tau that is neither "auto" nor a number >= 0.
    """

    def __init__(self, first: Drafter, other: Drafter, *, tau: float | str = "auto") -> None:
        self._first, self._other = first, other
        self._learn = tau == "auto"
        try:
            self._tau = 1.0 if self._learn else float(tau)
        except ValueError:
            self._tau = -1.0
        if not self._tau >= 0.0:
            raise InvalidOption(f"tau is {tau!r}; give a number >= 0, or 'auto' to learn it")
        self._lock = Lock()

    @property
    def tau(self) -> float:
        """The threshold now: accepted tokens a step."""
        return self._tau

    def open(self, prompt: TokenIds, *, namespace: str = "") -> HybridStream:
        """One stream of each, behind the same prompt."""
        with ExitStack() as opened:
            first = self._first.open(prompt, namespace=namespace)
            opened.callback(first.close)
            other = self._other.open(prompt, namespace=namespace)
            opened.pop_all()
        return HybridStream(self, first, other)

    def learn(self, accepted: int) -> None:
        """Move a learned tau towards the accepted length of one more draft of the other's."""
        if self._learn:
            with self._lock:
                self._tau = _FORGET * self._tau + (1 - _FORGET) * accepted


class HybridStream:
    """One sequence of a `Hybrid`."""

    def __init__(self, drafter: Hybrid, first: Stream, other: Stream) -> None:
        self._drafter, self._first, self._other = drafter, first, other
        self._from_other = False

    def propose(self, budget: Budget) -> Draft:
        """The first's draft if it expects enough; else the other's, unless that has nothing."""
        self._from_other = False
        draft = self._first.propose(budget)
        if draft.expected >= self._drafter.tau:
            return draft
        instead = self._other.propose(budget)
        self._from_other = len(instead) > 0
        return instead if self._from_other else draft

    def observe(self, feedback: Feedback) -> None:
        """Both move; the verdict goes to the one whose draft it was."""
        moved_on = Feedback(Draft.empty(), _NO_VERDICT, feedback.tokens, feedback.rows)
        self._first.observe(moved_on if self._from_other else feedback)
        self._other.observe(feedback if self._from_other else moved_on)
        if self._from_other:
            self._drafter.learn(len(feedback.verdict.path))

    def close(self) -> None:
        """Close both."""
        try:
            self._first.close()
        finally:
            self._other.close()


_NO_VERDICT = Verdict(np.empty(0, dtype=np.int32), None)
