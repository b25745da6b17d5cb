"""A stream whose failure costs its drafts, not the request."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.guarded.calls import open_stream
from draftwood.guarded.health import DrafterHealth
from draftwood.guarded.rules import NO_RULES, DraftRules, checked_draft
from draftwood.protocols import Abandoning, Drafter, Feedback, Stream

log = logging.getLogger("draftwood.guarded")


class GuardedStream:
    """A stream whose failure costs its drafts, not the request.

    failures: how many times the drafter raised, or gave a draft that is not fit to be verified.
    After a failure the stream proposes nothing for the rest of the sequence, since it may have lost
    its place. stream: what is guarded; None once it has failed or was closed. health: shared by
    the drafter's streams in a run; None: of this stream only.
    """

    def __init__(
        self,
        drafter: Drafter,
        prompt: TokenIds,
        namespace: str = "",
        prediction: Sequence[TokenIds] = (),
        *,
        rules: DraftRules = NO_RULES,
        health: DrafterHealth | None = None,
    ) -> None:
        self.failures = 0
        self.stream: Stream | None = None
        self.health = DrafterHealth(drafter) if health is None else health
        self._rules = rules
        if self.health.off:
            return
        try:
            self.stream = open_stream(drafter, prompt, namespace, prediction)
        except Exception:
            self.failed("open")

    def propose(self, budget: Budget) -> Draft:
        """The stream's draft, cut to the budget; empty once the stream has failed."""
        if self.stream is None or not budget.reach:
            return Draft.empty()
        try:
            return self._usable(self.stream.propose(budget), budget)
        except Exception:
            self.failed("propose")
            return Draft.empty()

    def take(self, draft: Draft, budget: Budget) -> Draft:
        """The same for a draft that came from a call for all."""
        try:
            return self._usable(draft, budget)
        except Exception:
            self.failed("propose")
            return Draft.empty()

    def _usable(self, draft: Draft, budget: Budget) -> Draft:
        kept = checked_draft(draft, budget, self._rules)
        if kept is not draft:
            self.health.cut(draft, budget)
        return kept

    def observe(self, feedback: Feedback) -> None:
        """Pass the feedback on."""
        if self.stream is None:
            return
        try:
            self.stream.observe(feedback)
        except Exception:
            self.failed("observe")

    def close(self) -> None:
        """Close the stream, if it still lives."""
        stream, self.stream = self.stream, None
        if stream is None:
            return
        try:
            stream.close()
        except Exception:
            self.failed("close")

    def abandon(self) -> None:
        """End the stream without learning from what it has not learned, where it can do that."""
        stream: object = self.stream
        if not isinstance(stream, Abandoning):
            self.close()
            return
        self.stream = None
        try:
            stream.abandon()
        except Exception:
            self.failed("close")

    def failed(self, verb: str) -> None:
        """To be called where its exception is handled: go on without the stream."""
        self.health.failed(verb, "this sequence goes on without drafts")
        self.failures += 1
        self.drop()

    def drop(self) -> None:
        """Close the stream, which has lost its place, and ask it no more."""
        stream, self.stream = self.stream, None
        if stream is not None:
            try:
                stream.close()
            except Exception:
                log.debug("closing the failed drafter failed too", exc_info=True)
