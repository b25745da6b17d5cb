"""The loop: draft, score, verify, commit. Everything else is a fold over its steps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from time import perf_counter

from numpy.typing import ArrayLike

from draftwood.draft import Budget, Draft, TokenIds, as_tokens
from draftwood.errors import InvalidTokens
from draftwood.protocols import (
    Drafter,
    Feedback,
    Seconds,
    Step,
    Stream,
    Target,
    Verifier,
)
from draftwood.stop import Stop

log = logging.getLogger(__name__)


def decode(
    target: Target,
    drafter: Drafter,
    verifier: Verifier,
    prompt: ArrayLike,
    *,
    budget: Budget | None = None,
    stop: Stop | None = None,
    namespace: str = "",
) -> Iterator[Step]:
    """Generate behind `prompt`, a step at a time; each step yields one or more tokens.

    prompt: token ids [>= 1]. budget: the most a draft may hold (None: 64 nodes; a drafter's own
    limit applies as well). stop: when to end (None: at the context's end only). namespace: what is
    learned here is drafted only here.

    A drafter that raises costs its drafts, not the request (logged once a sequence).

    Raises:
        InvalidTokens: an empty prompt, or ids that are none.
        ContextTooLong: from the target, for a prompt beyond its context.
    """
    prompt = as_tokens(prompt)
    if not len(prompt):
        raise InvalidTokens("the prompt has 0 tokens; begin with at least one, such as BOS")
    return _steps(
        target, drafter, verifier, prompt, budget or Budget(64), stop or Stop(), namespace
    )


def _steps(
    target: Target,
    drafter: Drafter,
    verifier: Verifier,
    prompt: TokenIds,
    budget: Budget,
    stop: Stop,
    namespace: str,
) -> Iterator[Step]:
    generated, finish = 0, None
    with (
        closing(target.open(prompt)) as cursor,
        closing(Guarded(drafter, prompt, namespace)) as stream,
    ):
        while finish is None:
            start = perf_counter()
            room = cursor.room
            draft = stream.propose(budget.within(reach(stop, generated, room, budget)))
            if not target.trees:
                draft = draft.to_chain()
            drafted = perf_counter()
            rows = cursor.score(draft)
            scored = perf_counter()
            verdict = verifier.verify(draft, rows)
            verdict, finish = stop.clip(draft, verdict, generated=generated, room=room)
            cursor.commit(draft, verdict)
            verified = perf_counter()
            tokens = verdict.tokens(draft)
            stream.observe(Feedback(draft, verdict, tokens, rows))
            generated += len(tokens)
            seconds = Seconds(
                drafted - start, scored - drafted, verified - scored, perf_counter() - verified
            )
            yield Step(draft, verdict, tokens, seconds, finish)


def reach(stop: Stop, generated: int, room: int | None, budget: Budget) -> int:
    """How deep a draft is worth checking: the step's last token is the target's own."""
    limits = [budget.reach]
    if room is not None:
        limits.append(room - 1)
    if stop.max_tokens is not None:
        limits.append(stop.max_tokens - generated - 1)
    return max(0, min(limits))


class Guarded:
    """A stream whose failure costs its drafts, not the request: logged once, then silent.

    failures: how many times the drafter raised or gave a draft beyond its budget. After a failure
    the stream proposes nothing for the rest of the sequence, since it may have lost its place.
    """

    def __init__(self, drafter: Drafter, prompt: TokenIds, namespace: str = "") -> None:
        self.failures = 0
        self._stream: Stream | None = None
        try:
            self._stream = drafter.open(prompt, namespace=namespace)
        except Exception:
            self._failed("open")

    def propose(self, budget: Budget) -> Draft:
        """The stream's draft, cut to the budget's nodes; empty once the stream has failed."""
        if self._stream is None or not budget.reach:
            return Draft.empty()
        try:
            draft = self._stream.propose(budget).cut(nodes=budget.nodes)
            return draft if draft.height <= budget.reach else draft.shallow(budget.reach)
        except Exception:
            self._failed("propose")
            return Draft.empty()

    def observe(self, feedback: Feedback) -> None:
        """Pass the feedback on."""
        if self._stream is None:
            return
        try:
            self._stream.observe(feedback)
        except Exception:
            self._failed("observe")

    def close(self) -> None:
        """Close the stream, if it still lives."""
        if self._stream is None:
            return
        try:
            self._stream.close()
        except Exception:
            self._failed("close")

    def _failed(self, verb: str) -> None:
        log.exception("drafter failed in %s; this sequence goes on without drafts", verb)
        self.failures += 1
        stream, self._stream = self._stream, None
        if stream is not None and verb != "close":
            try:
                stream.close()
            except Exception:
                log.debug("closing the failed drafter failed too", exc_info=True)
