"""The same loop over many sequences at once: one pass of the target for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import Any

from numpy.typing import ArrayLike

from draftwood.budget.spender import Spender, Spent, spender_of
from draftwood.decode import reach
from draftwood.draft import Budget, Draft, TokenIds, as_tokens
from draftwood.errors import InvalidOption, InvalidTokens
from draftwood.guarded import Guarded, GuardedBatch
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
from draftwood.text.stop import Stop


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One sequence to generate.

    prompt: token ids [>= 1]. verifier, stop: its own, since both may remember where they are.
    namespace: what is learned here is drafted only here. drafter: asked instead of the run's, for
    one that knows this request's noise; streams are then no longer served in one call. prediction:
    likely answers, int32 tokens each, for drafters that can use them.
    """

    prompt: ArrayLike
    verifier: Verifier
    stop: Stop = field(default_factory=Stop)
    namespace: str = ""
    drafter: Drafter | None = None
    prediction: Sequence[TokenIds] = ()


def decode_batch(
    target: Target,
    drafter: Drafter,
    requests: Iterable[Request | None],
    *,
    max_batch: int = 8,
    budget: Budget | Spender | None = None,
) -> Iterator[tuple[int, Step]]:
    """Generate for every request what `decode` would; yields (number of the request, its step).

    requests: taken one after the other, whenever fewer than `max_batch` sequences are running, so
    they may be made on demand; a sequence joins and leaves between passes. None among them says
    that nobody waits now, so that the next pass begins without. budget: the most that
    one sequence's draft may hold (None: 64 nodes), or a spender that cuts the drafts of a pass to
    what pays, all together.

    A target with `batches` takes all running sequences in one pass, whatever the shapes of their
    drafts; any other takes one after the other. The texts equal those of `decode` as far as the
    target computes the same rows in both (in float32 all but always). A step's `seconds` are its
    share of what was done for all, `verify` is its own. A `BatchDrafter` is asked for all drafts in
    one call. A drafter that raises costs that sequence its drafts. Peak memory is that of the
    target's batch of `max_batch` (`TransformersBatch` states it), plus a stream each.

    Raises:
        InvalidOption: for a batch below one sequence.
        InvalidTokens, ContextTooLong: for a prompt that is none or too long, when its turn comes;
            sequences that are running end with it.
    """
    if max_batch < 1:
        raise InvalidOption(f"max_batch is {max_batch}; use 1 or more")
    return _steps(target, drafter, enumerate(requests), max_batch, spender_of(budget))


def _steps(
    target: Target,
    drafter: Drafter,
    waiting: Iterator[tuple[int, Request | None]],
    max_batch: int,
    spender: Spender,
) -> Iterator[tuple[int, Step]]:
    running: list[_Running] = []
    streams = GuardedBatch(drafter)
    with closing(_open(target, max_batch)) as batch:
        padded = batch.padded
        try:
            while True:
                joined = list(_joining(islice(waiting, max_batch - len(running))))
                for number, request in joined:
                    running.append(_Running(number, request, batch, streams))
                if not running:
                    return
                start = perf_counter()
                guards = [one.stream for one in running]
                context = max(one.context for one in running)
                budget = spender.plan(len(running), context, padded=padded)
                drafts = streams.propose(guards, [one.within(budget) for one in running])
                if not target.trees:
                    drafts = [draft.to_chain() for draft in drafts]
                drafts = spender.spend(drafts, context, padded=padded)
                drafted = perf_counter()
                scored = batch.score([one.seat for one in running], drafts)
                passed = perf_counter()
                told = [
                    one.settle(draft, rows)
                    for one, draft, rows in zip(running, drafts, scored, strict=True)
                ]
                verified = perf_counter()
                streams.observe(guards, told)
                observed = perf_counter()
                prompts = batch.prompt_seconds
                spender.observe(
                    Spent(
                        asked=budget.nodes > 0,
                        drafts=drafts,
                        accepted=[len(each.verdict.path) for each in told],
                        context=context,
                        padded=padded,
                        draft_seconds=drafted - start,
                        pass_seconds=None if prompts is None else observed - drafted - prompts,
                    )
                )
                share = 1.0 / len(running)
                steps = [
                    (
                        one.number,
                        one.step(
                            each,
                            (drafted - start) * share,
                            (passed - drafted) * share,
                            (observed - verified) * share,
                        ),
                    )
                    for one, each in zip(running, told, strict=True)
                ]
                for one in running:
                    if one.finish is not None:
                        one.close()
                running = [one for one in running if one.finish is None]
                yield from steps
        finally:
            for one in running:
                one.close()


def _joining(waiting: Iterable[tuple[int, Request | None]]) -> Iterator[tuple[int, Request]]:
    """The requests up to the first None."""
    for number, request in waiting:
        if request is None:
            return
        yield number, request


class _Running:
    """A sequence between its joining and its leaving."""

    def __init__(
        self, number: int, request: Request, batch: Batch[Any], streams: GuardedBatch
    ) -> None:
        prompt = as_tokens(request.prompt)
        if not len(prompt):
            raise InvalidTokens(
                f"the prompt of request {number} has 0 tokens; begin with at least one, such as BOS"
            )
        self.number = number
        self.finish: str | None = None
        self.seat: Seat = batch.open(prompt)
        if request.drafter is None:
            self.stream: Guarded = streams.open(prompt, request.namespace, request.prediction)
        else:
            streams.apart()
            self.stream = Guarded(request.drafter, prompt, request.namespace, request.prediction)
        self._request = request
        self._prompted = len(prompt)
        self._generated = 0
        self._verify_seconds = 0.0

    @property
    def context(self) -> int:
        """Tokens so far, the prompt's included."""
        return self._prompted + self._generated

    def within(self, budget: Budget) -> Budget:
        """The budget as deep as this sequence may still go."""
        return budget.within(reach(self._request.stop, self._generated, self.seat.room, budget))

    def settle(self, draft: Draft, rows: Rows) -> Feedback:
        """Verify and commit."""
        start = perf_counter()
        verdict = self._request.verifier.verify(draft, rows)
        verdict, self.finish = self._request.stop.clip(
            draft, verdict, generated=self._generated, room=self.seat.room
        )
        self.seat.commit(draft, verdict)
        tokens = verdict.tokens(draft)
        self._generated += len(tokens)
        self._verify_seconds = perf_counter() - start
        return Feedback(draft, verdict, tokens, rows)

    def step(self, told: Feedback, draft: float, score: float, observe: float) -> Step:
        """What the step was; its own share of the seconds."""
        seconds = Seconds(draft, score, self._verify_seconds, observe)
        return Step(told.draft, told.verdict, told.tokens, seconds, self.finish)

    def close(self) -> None:
        """Leave."""
        self.stream.close()
        self.seat.close()


class OneByOne:
    """Any target as a batch: a pass for each sequence.

    prompt_seconds: None after a pass in which a prompt was computed as well.
    """

    padded = False

    def __init__(self, target: Target) -> None:
        self.prompt_seconds: float | None = 0.0
        self._target = target
        self._joined = False

    def open(self, prompt: TokenIds) -> Cursor:
        """The target's own cursor."""
        self._joined = True
        return self._target.open(prompt)

    def score(self, seats: Sequence[Cursor], drafts: Sequence[Draft]) -> list[Rows]:
        """A pass for each sequence."""
        self.prompt_seconds = None if self._joined else 0.0
        self._joined = False
        return [cursor.score(draft) for cursor, draft in zip(seats, drafts, strict=True)]

    def close(self) -> None:
        """Cursors are closed one by one."""


def _open(target: Target, size: int) -> Batch[Any]:
    if isinstance(target, BatchTarget) and target.batches:
        return target.open_batch(size)
    return OneByOne(target)
