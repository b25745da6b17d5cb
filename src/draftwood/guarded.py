"""Streams whose failure costs their drafts, not the requests."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.protocols import BatchDrafter, Drafter, Feedback, Stream

log = logging.getLogger(__name__)


def open_stream(
    drafter: Drafter, prompt: TokenIds, namespace: str = "", prediction: Sequence[TokenIds] = ()
) -> Stream:
    """A stream of the drafter's; `prediction` is passed on as a keyword only where there is one."""
    if len(prediction):
        return drafter.open(prompt, namespace=namespace, prediction=prediction)
    return drafter.open(prompt, namespace=namespace)


class Guarded:
    """A stream whose failure costs its drafts, not the request: logged once, then silent.

    failures: how many times the drafter raised or gave a draft beyond its budget. After a failure
    the stream proposes nothing for the rest of the sequence, since it may have lost its place.
    stream: what is guarded; None once it has failed or was closed.
    """

    def __init__(
        self,
        drafter: Drafter,
        prompt: TokenIds,
        namespace: str = "",
        prediction: Sequence[TokenIds] = (),
    ) -> None:
        self.failures = 0
        self.stream: Stream | None = None
        try:
            self.stream = open_stream(drafter, prompt, namespace, prediction)
        except Exception:
            self.failed("open")

    def propose(self, budget: Budget) -> Draft:
        """The stream's draft, cut to the budget's nodes; empty once the stream has failed."""
        if self.stream is None or not budget.reach:
            return Draft.empty()
        try:
            return _within(self.stream.propose(budget), budget)
        except Exception:
            self.failed("propose")
            return Draft.empty()

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

    def failed(self, verb: str) -> None:
        """To be called where its exception is handled: go on without the stream."""
        log.exception("drafter failed in %s; this sequence goes on without drafts", verb)
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


class GuardedBatch:
    """The streams of a run: served in one call where the drafter can, each by itself where not.

    A call for all that raises is not made again. What it was to propose is asked of every stream by
    itself, so that only those that fail by themselves lose their drafts; where it was to move the
    streams, none knows its place any more, and all that were running lose them.
    """

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._all: BatchDrafter | None = drafter if isinstance(drafter, BatchDrafter) else None

    def open(
        self, prompt: TokenIds, namespace: str = "", prediction: Sequence[TokenIds] = ()
    ) -> Guarded:
        """A guarded stream."""
        return Guarded(self._drafter, prompt, namespace, prediction)

    def apart(self) -> None:
        """Serve the streams one by one from now on, as one of another drafter is among them."""
        self._all = None

    def propose(self, guards: Sequence[Guarded], budgets: Sequence[Budget]) -> list[Draft]:
        """A draft of each stream, within its budget."""
        if self._all is None:
            return [guard.propose(budget) for guard, budget in zip(guards, budgets, strict=True)]
        asked = [
            at
            for at, (guard, budget) in enumerate(zip(guards, budgets, strict=True))
            if guard.stream is not None and budget.reach
        ]
        drafts = [Draft.empty()] * len(guards)
        if not asked:
            return drafts
        try:
            given = self._all.propose_all(
                [guards[at].stream for at in asked], [budgets[at] for at in asked]
            )
            for at, draft in zip(asked, given, strict=True):
                drafts[at] = _within(draft, budgets[at])
        except Exception:
            self._split("propose")
            return self.propose(guards, budgets)
        return drafts

    def observe(self, guards: Sequence[Guarded], feedback: Sequence[Feedback]) -> None:
        """Pass the feedback on, to each its own."""
        if self._all is None:
            for guard, each in zip(guards, feedback, strict=True):
                guard.observe(each)
            return
        alive = [
            (guard, each)
            for guard, each in zip(guards, feedback, strict=True)
            if guard.stream is not None
        ]
        if not alive:
            return
        try:
            self._all.observe_all([guard.stream for guard, _ in alive], [each for _, each in alive])
        except Exception:
            self._split("observe")
            for guard, _ in alive:
                guard.failures += 1
                guard.drop()

    def _split(self, verb: str) -> None:
        log.exception("drafter failed in %s_all; its streams are served one by one", verb)
        self._all = None


def _within(draft: Draft, budget: Budget) -> Draft:
    """The part of a draft that a budget allows."""
    draft = draft.cut(nodes=budget.nodes)
    return draft if draft.height <= budget.reach else draft.shallow(budget.reach)
