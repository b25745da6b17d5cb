"""Two drafters as one: history where it expects enough accepted tokens, else another drafter.

SuffixDecoding (arXiv 2411.04975 v2/v3, section 4.3): take the suffix draft when its SCORE, the
tokens it expects to be accepted, reaches tau; else use the other drafter. With tau near the other
drafter's mean accepted length, each step takes the draft that promises more; with tau = 0 the other
is never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.errors import InvalidOption
from draftwood.fork import fork_lock
from draftwood.guarded import ask_all, open_stream, tell_all
from draftwood.protocols import Drafter, Feedback, PairsWithTarget, Stream, TargetInfo, Verdict

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
        self._lock = fork_lock()

    @property
    def tau(self) -> float:
        """The threshold now: accepted tokens a step."""
        return self._tau

    @property
    def parts(self) -> tuple[Drafter, Drafter]:
        """The first and the other."""
        return self._first, self._other

    def __repr__(self) -> str:
        return f"Hybrid({self._first!r}, {self._other!r}, tau={self._tau:.3g})"

    def open(
        self, prompt: TokenIds, *, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> HybridStream:
        """A stream of each, after the same prompt."""
        with ExitStack() as opened:
            first = open_stream(self._first, prompt, namespace, prediction)
            opened.callback(first.close)
            other = open_stream(self._other, prompt, namespace, prediction)
            opened.pop_all()
        return HybridStream(self, first, other)

    def close(self) -> None:
        """Close both drafters."""
        try:
            self._first.close()
        finally:
            self._other.close()

    def pair(self, target_info: TargetInfo) -> None:
        """Raise PairMismatch where one of the drafters does not suit the target."""
        for drafter in self.parts:
            if isinstance(drafter, PairsWithTarget):
                drafter.pair(target_info)

    def learn(self, accepted: int) -> None:
        """Move a learned tau towards the accepted length of one more draft of the other's."""
        if self._learn:
            with self._lock:
                self._tau = _FORGET * self._tau + (1 - _FORGET) * accepted

    def propose_all(
        self, streams: Sequence[HybridStream], budgets: Sequence[Budget]
    ) -> list[Draft]:
        """What `propose` gives for each stream; one call to each drafter that supports batches."""
        firsts = ask_all(self._first, [stream.first for stream in streams], budgets)
        doubtful = [at for at, draft in enumerate(firsts) if draft.expected < self.tau]
        others = ask_all(
            self._other, [streams[at].other for at in doubtful], [budgets[at] for at in doubtful]
        )
        instead = dict(zip(doubtful, others, strict=True))
        return [
            stream.choose(draft, instead.get(at))
            for at, (stream, draft) in enumerate(zip(streams, firsts, strict=True))
        ]

    def observe_all(self, streams: Sequence[HybridStream], feedback: Sequence[Feedback]) -> None:
        """What `observe` does for each stream; one call to each drafter that supports batches."""
        parted = [stream.part(each) for stream, each in zip(streams, feedback, strict=True)]
        tell_all(self._first, [s.first for s in streams], [first for first, _ in parted])
        tell_all(self._other, [s.other for s in streams], [other for _, other in parted])
        for stream, each in zip(streams, feedback, strict=True):
            stream.learn(each)


class HybridStream:
    """One sequence of a `Hybrid`. first, other: its streams."""

    def __init__(self, drafter: Hybrid, first: Stream, other: Stream) -> None:
        self._drafter, self.first, self.other = drafter, first, other
        self._from_other = False

    def propose(self, budget: Budget) -> Draft:
        """The first's draft if it expects enough; else the other's, unless that has nothing."""
        draft = self.first.propose(budget)
        doubtful = draft.expected < self._drafter.tau
        return self.choose(draft, self.other.propose(budget) if doubtful else None)

    def choose(self, draft: Draft, instead: Draft | None) -> Draft:
        """The first's draft or the other's. instead: the other's, where it was asked for."""
        self._from_other = instead is not None and len(instead) > 0
        return instead if instead is not None and self._from_other else draft

    def observe(self, feedback: Feedback) -> None:
        """Both move; the verdict goes to the one whose draft it was."""
        first, other = self.part(feedback)
        self.first.observe(first)
        self.other.observe(other)
        self.learn(feedback)

    def part(self, feedback: Feedback) -> tuple[Feedback, Feedback]:
        """The feedback for the first and for the other."""
        whole = feedback.verified or feedback
        moved_on = Feedback(Draft.empty(), _NO_VERDICT, feedback.tokens, feedback.rows, whole)
        return (moved_on, feedback) if self._from_other else (feedback, moved_on)

    def learn(self, feedback: Feedback) -> None:
        """Let tau learn from a draft of the other's."""
        if self._from_other:
            self._drafter.learn(len(feedback.verdict.path))

    def close(self) -> None:
        """Close both."""
        try:
            self.first.close()
        finally:
            self.other.close()


_NO_VERDICT = Verdict(np.empty(0, dtype=np.int32), None)
