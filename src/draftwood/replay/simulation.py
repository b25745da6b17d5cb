"""Recorded responses served side by side: taking turns, or in shared passes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import Protocol

from draftwood.batch import Request, decode_batch
from draftwood.budget.spender import Spender
from draftwood.decode import decode
from draftwood.draft import TokenIds
from draftwood.logs.call import Record
from draftwood.protocols import Drafter
from draftwood.replay.figures import Figures
from draftwood.replay.queue import SessionQueue
from draftwood.step import Step
from draftwood.targets.replay import ReplayCursor, ReplayTarget
from draftwood.verify.greedy import Greedy


class Simulation(Protocol):
    """Serves recorded requests with one drafter, several in flight at a time."""

    figures: Figures

    def submit(self, record: Record) -> None:
        """Add a record; take steps until no more records wait than the queue has room for."""

    def drain(self) -> None:
        """Serve all records that are left, to their ends."""


class Interleaved:
    """The requests in flight take turns: a step of each, every step a pass of its own."""

    def __init__(
        self, drafter: Drafter, places: int = 1, *, spender: Spender | None, figures: Figures
    ) -> None:
        self.figures = figures
        self._drafter, self._spender = drafter, spender
        self._places = places
        self._waiting = SessionQueue(places)
        self._flight: list[tuple[Record, Iterator[Step]]] = []

    def submit(self, record: Record) -> None:
        """Add a record; take steps until no more records wait than the queue has room for."""
        self._waiting.add(record)
        self._admit()
        while len(self._waiting) > self._waiting.room:
            self._round()

    def drain(self) -> None:
        """Serve all records that are left, to their ends."""
        while self._flight or self._waiting:
            self._round()

    def _admit(self) -> None:
        while len(self._flight) < self._places and (record := self._waiting.take()) is not None:
            self._open(record)

    def _open(self, record: Record) -> None:
        target = ReplayTarget(record.response)
        steps = decode(
            target,
            self._drafter,
            Greedy(),
            record.prompt,
            budget=self._spender,
            stop=target.stop(),
            namespace=record.namespace,
            prediction=record.prediction,
        )
        start = perf_counter()
        first = next(steps)  # opens the stream, which indexes the prompt
        self.figures.open_seconds += perf_counter() - start - first.seconds.total
        self.figures.prompt_tokens += len(record.prompt)
        if self._goes_on(record, first, steps):
            self._flight.append((record, steps))

    def _round(self) -> None:
        """One step of every request in flight; those that end make room."""
        self._flight = [
            (record, steps)
            for record, steps in self._flight
            if self._goes_on(record, next(steps), steps)
        ]
        self._admit()

    def _goes_on(self, record: Record, step: Step, steps: Iterator[Step]) -> bool:
        self.figures.add(step, record)
        if step.finish is not None:
            next(steps, None)  # past the last step, where cursor and stream are closed
            self._waiting.done(record)
        return step.finish is None


class Batched:
    """The requests in flight share every pass, and one budget for its drafts.

    It is the target of `decode_batch` itself: each request is opened with its own response.
    """

    trees: bool = True

    def __init__(
        self, drafter: Drafter, places: int, *, spender: Spender | None, figures: Figures
    ) -> None:
        self.figures = figures
        self._waiting = SessionQueue(places)
        self._served: dict[int, Record] = {}
        self._asked = 0
        self._opening: deque[TokenIds] = deque()
        self._steps = decode_batch(
            self, drafter, self._requests(), max_batch=places, budget=spender
        )

    def submit(self, record: Record) -> None:
        """Add a record; take steps until no more records wait than the queue has room for."""
        self._waiting.add(record)
        while len(self._waiting) > self._waiting.room:
            self._step()

    def drain(self) -> None:
        """Serve all records that are left, to their ends."""
        while self._served or self._waiting:
            self._step()
        self._steps.close()

    def open(self, prompt: TokenIds) -> ReplayCursor:
        """A cursor over the response of the oldest request that is handed out and not yet open."""
        return ReplayTarget(self._opening.popleft()).open(prompt)

    def close(self) -> None:
        """Nothing to give back."""

    def _step(self) -> None:
        number, step = next(self._steps)
        self.figures.add(step, self._served[number])
        if step.finish is not None:
            self._waiting.done(self._served.pop(number))

    def _requests(self) -> Iterator[Request | None]:
        """The next request; None while there is none, or the sessions of all that wait are busy."""
        while True:
            record = self._waiting.take()
            if record is None:
                yield None
            else:
                self._served[self._asked] = record
                self._opening.append(record.response)
                stop = ReplayTarget(record.response).stop()
                yield Request(
                    *(record.prompt, Greedy(), stop),
                    namespace=record.namespace,
                    prediction=record.prediction,
                )
            self._asked += 1
