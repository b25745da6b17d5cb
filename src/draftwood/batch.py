"""The same loop over many sequences at once: one pass of the target for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import Any

from numpy.typing import ArrayLike

from draftwood.decode import Guarded, reach
from draftwood.draft import Budget, Draft, TokenIds, as_tokens
from draftwood.errors import InvalidOption, InvalidTokens
from draftwood.protocols import (
    Batch,
    BatchTarget,
    Cursor,
    Drafter,
    Feedback,
    Rows,
    Seat,
    Seconds,
    Step,
    Target,
    Verifier,
)
from draftwood.stop import Stop


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One sequence to generate.

    prompt: token ids [>= 1]. verifier, stop: its own, since both may remember where they are.
    namespace: what is learned here is drafted only here.
    """

    prompt: ArrayLike
    verifier: Verifier
    stop: Stop = field(default_factory=Stop)
    namespace: str = ""


def decode_batch(
    target: Target,
    drafter: Drafter,
    requests: Iterable[Request],
    *,
    max_batch: int = 8,
    budget: Budget | None = None,
) -> Iterator[tuple[int, Step]]:
    """Generate for every request what `decode` would; yields (number of the request, its step).

    requests: taken one after the other, whenever fewer than `max_batch` sequences are running, so
    they may be made on demand; a sequence joins and leaves between passes. budget: the most that
    one sequence's draft may hold (None: 64 nodes).

    A target with `batches` takes all running sequences in one pass, whatever the shapes of their
    drafts; any other takes one after the other. The texts equal those of `decode` as far as the
    target computes the same rows in both (in float32 all but always). A step's `seconds.score` is
    its share of the pass. A drafter that raises costs that sequence its drafts. Peak memory is that
    of the target's batch of `max_batch` (`TransformersBatch` states it), plus a stream each.

    Raises:
        InvalidOption: for a batch below one sequence.
        InvalidTokens, ContextTooLong: for a prompt that is none or too long, when its turn comes;
            sequences that are running end with it.
    """
    if max_batch < 1:
        raise InvalidOption(f"max_batch is {max_batch}; use 1 or more")
    return _steps(target, drafter, enumerate(requests), max_batch, budget or Budget(64))


def _steps(
    target: Target,
    drafter: Drafter,
    waiting: Iterator[tuple[int, Request]],
    max_batch: int,
    budget: Budget,
) -> Iterator[tuple[int, Step]]:
    running: list[_Running] = []
    with closing(_open(target, max_batch)) as batch:
        try:
            while True:
                for number, request in islice(waiting, max_batch - len(running)):
                    running.append(_Running(number, request, batch, drafter))
                if not running:
                    return
                drafts = [one.propose(budget, trees=target.trees) for one in running]
                start = perf_counter()
                scored = batch.score([one.seat for one in running], drafts)
                share = (perf_counter() - start) / len(running)
                steps = [
                    (one.number, one.settle(draft, rows, share))
                    for one, draft, rows in zip(running, drafts, scored, strict=True)
                ]
                for one in running:
                    if one.finish is not None:
                        one.close()
                running = [one for one in running if one.finish is None]
                yield from steps
        finally:
            for one in running:
                one.close()


class _Running:
    """A sequence between its joining and its leaving."""

    def __init__(self, number: int, request: Request, batch: Batch[Any], drafter: Drafter) -> None:
        prompt = as_tokens(request.prompt)
        if not len(prompt):
            raise InvalidTokens(
                f"the prompt of request {number} has 0 tokens; begin with at least one, such as BOS"
            )
        self.number = number
        self.finish: str | None = None
        self.seat: Seat = batch.open(prompt)
        self._request = request
        self._stream = Guarded(drafter, prompt, request.namespace)
        self._generated = 0
        self._draft_seconds = 0.0

    def propose(self, budget: Budget, *, trees: bool) -> Draft:
        start = perf_counter()
        depth = reach(self._request.stop, self._generated, self.seat.room, budget)
        draft = self._stream.propose(budget.within(depth))
        if not trees:
            draft = draft.to_chain()
        self._draft_seconds = perf_counter() - start
        return draft

    def settle(self, draft: Draft, rows: Rows, score_seconds: float) -> Step:
        start = perf_counter()
        verdict = self._request.verifier.verify(draft, rows)
        verdict, self.finish = self._request.stop.clip(
            draft, verdict, generated=self._generated, room=self.seat.room
        )
        self.seat.commit(draft, verdict)
        verified = perf_counter()
        tokens = verdict.tokens(draft)
        self._stream.observe(Feedback(draft, verdict, tokens, rows))
        self._generated += len(tokens)
        seconds = Seconds(
            self._draft_seconds, score_seconds, verified - start, perf_counter() - verified
        )
        return Step(draft, verdict, tokens, seconds, self.finish)

    def close(self) -> None:
        self._stream.close()
        self.seat.close()


class OneByOne:
    """Any target as a batch: a pass for each sequence."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def open(self, prompt: TokenIds) -> Cursor:
        """The target's own cursor."""
        return self._target.open(prompt)

    def score(self, seats: Sequence[Cursor], drafts: Sequence[Draft]) -> list[Rows]:
        """A pass for each sequence."""
        return [cursor.score(draft) for cursor, draft in zip(seats, drafts, strict=True)]

    def close(self) -> None:
        """Cursors are closed one by one."""


def _open(target: Target, size: int) -> Batch[Any]:
    if isinstance(target, BatchTarget) and target.batches:
        return target.open_batch(size)
    return OneByOne(target)
