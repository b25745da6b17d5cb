"""One sequence of a batch: what is asked for, and its state while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from numpy.typing import ArrayLike

from draftwood.decode import reach
from draftwood.draft import Budget, Draft, TokenIds, as_tokens
from draftwood.errors import InvalidTokens
from draftwood.guarded import GuardedStream, GuardedStreams
from draftwood.protocols import Batch, Drafter, Feedback, Rows, Seat, Verifier
from draftwood.step import Seconds, Step
from draftwood.text.stop import Stop


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One sequence to generate.

    prompt: token ids [>= 1]. verifier, stop: not shared with other requests, since both may keep
    state. namespace: what is learned here is drafted only here. drafter: used for this request in
    place of the decoder's, such as one that knows this request's noise. prediction: likely answers,
    int32 tokens each, for drafters that can use them.
    """

    prompt: ArrayLike
    verifier: Verifier
    stop: Stop = field(default_factory=Stop)
    namespace: str = ""
    drafter: Drafter | None = None
    prediction: Sequence[TokenIds] = ()


class RunningRequest:
    """A sequence between its joining and its leaving."""

    seat: Seat
    stream: GuardedStream

    def __init__(self, number: int, request: Request) -> None:
        self.number = number
        self.finish: str | None = None
        self._request = request
        self._prompted = self._generated = 0
        self._verify_seconds = 0.0
        self._opened = ExitStack()

    def open(self, batch: Batch[Any], streams: GuardedStreams) -> None:
        """Take a seat and a stream.

        Raises:
            InvalidTokens: for a prompt that is empty or holds no token ids.
            ContextTooLong: for one that leaves no room in the target's context.
        """
        request = self._request
        prompt = as_tokens(request.prompt)
        if not len(prompt):
            raise InvalidTokens(
                f"the prompt of request {self.number} has 0 tokens; begin with at least one, such "
                "as BOS"
            )
        self._prompted = len(prompt)
        self.seat = self._opened.enter_context(closing(batch.open(prompt)))
        self.stream = self._opened.enter_context(
            closing(
                streams.open(prompt, request.namespace, request.prediction, drafter=request.drafter)
            )
        )

    @property
    def context(self) -> int:
        """Tokens so far, the prompt's included."""
        return self._prompted + self._generated

    def within(self, budget: Budget) -> Budget:
        """The budget as deep as this sequence may still go."""
        return budget.within(reach(self._request.stop, self._generated, self.seat.room, budget))

    def verify(self, draft: Draft, rows: Rows) -> Feedback:
        """Verify a draft and commit what is accepted."""
        start = perf_counter()
        verdict = self._request.verifier.verify(draft, rows)
        verdict, self.finish = self._request.stop.apply(
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
        """Leave: close the stream, then the seat."""
        self._opened.close()
