"""Requests in flight: recorded responses served side by side, each session's calls in order."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from draftwood.batch import Request, decode_batch
from draftwood.budget.spender import Spender
from draftwood.decode import decode
from draftwood.draft import TokenIds
from draftwood.protocols import Drafter, Step
from draftwood.replay.cost import Clock
from draftwood.replay.trace import Record
from draftwood.stats import Stats
from draftwood.targets.replay import ReplayCursor, ReplayTarget
from draftwood.verify.greedy import Greedy

_LOOK_AHEAD = 16
"""Waiting records a request in flight, among which one with an idle session is looked for."""


@dataclass(slots=True)
class Figures:
    """What one drafter did on one trace. stats: counts; draft_us: microseconds to draft, a step.

    open_seconds and prompt_tokens: what it took to open the requests, and how much they held; no
    prompt is counted where requests share passes. clock: simulated time, where a cost was given;
    plain_seconds: the same for as many tokens without drafts.
    """

    stats: Stats = field(default_factory=Stats)
    draft_us: array[float] = field(default_factory=lambda: array("f"))
    open_seconds: float = 0.0
    prompt_tokens: int = 0
    clock: Clock | None = None
    plain_seconds: float = 0.0

    def add(self, step: Step) -> None:
        """Count one step; the clock stands where its pass ended."""
        self.stats.add(step)
        self.draft_us.append(step.seconds.draft * 1e6)
        if self.clock is not None:
            self.plain_seconds += len(step.tokens) * self.clock.plain_token

    @property
    def predicted_speedup(self) -> float | None:
        """Simulated time without drafts over that with them; None where no cost was given."""
        if self.clock is None:
            return None
        return self.plain_seconds / self.clock.seconds if self.clock.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The row of `replay --json`, without the names of trace and drafter.

        accepted_by_position[d], drafted_by_position[d]: how many steps accepted, drafted more
        than d tokens on a path. Times are microseconds of wall clock, the loop's share included.
        predicted_speedup stands there where a cost was given.
        """
        stats = self.stats
        p50, p99 = np.percentile(self.draft_us, (50, 99)).tolist() if self.draft_us else (0.0, 0.0)
        priced = {} if self.clock is None else {"predicted_speedup": self.predicted_speedup}
        return {
            "records": stats.sequences,
            **stats.as_dict(),
            **priced,
            "draft_us_p50": p50,
            "draft_us_p99": p99,
            "observe_us_per_token": 1e6 * stats.observe_seconds / max(stats.tokens, 1),
            "open_us_per_token": 1e6 * self.open_seconds / max(self.prompt_tokens, 1),
        }


class Service(Protocol):
    """One drafter's requests: those in flight, and those that wait for a place."""

    figures: Figures

    def submit(self, record: Record) -> None:
        """Take a record; serve others until not too many wait."""

    def drain(self) -> None:
        """Serve all that is left."""


class Waiting:
    """Records that wait for a place, in order; a session's call waits for the one before it.

    room: records that may wait. A record that has no session waits for none.
    """

    def __init__(self, places: int) -> None:
        self.room = _LOOK_AHEAD * places if places > 1 else 0
        self._records: list[Record] = []
        self._busy: set[str] = set()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """The last in line."""
        self._records.append(record)

    def take(self) -> Record | None:
        """The first record whose session is not being served, which now is; None: there is none."""
        for number, record in enumerate(self._records):
            if record.session is None:
                return self._records.pop(number)
            if record.session not in self._busy:
                self._busy.add(record.session)
                return self._records.pop(number)
        return None

    def done(self, record: Record) -> None:
        """The record was served; its session's next call may be."""
        if record.session is not None:
            self._busy.discard(record.session)


class Turns:
    """Every request in flight makes a step of its own, in turn."""

    def __init__(
        self, drafter: Drafter, places: int = 1, *, spender: Spender | None, figures: Figures
    ) -> None:
        self.figures = figures
        self._drafter, self._spender = drafter, spender
        self._places = places
        self._waiting = Waiting(places)
        self._flight: list[tuple[Record, Iterator[Step]]] = []

    def submit(self, record: Record) -> None:
        """Take a record; serve others until not too many wait."""
        self._waiting.add(record)
        self._admit()
        while len(self._waiting) > self._waiting.room:
            self._round()

    def drain(self) -> None:
        """Serve all that is left."""
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
        self.figures.add(step)
        if step.finish is not None:
            next(steps, None)  # past the last step, where cursor and stream are closed
            self._waiting.done(record)
        return step.finish is None


class Passes:
    """All requests in flight go through one pass together, within one budget."""

    trees: bool = True

    def __init__(
        self, drafter: Drafter, places: int, *, spender: Spender | None, figures: Figures
    ) -> None:
        self.figures = figures
        self._waiting = Waiting(places)
        self._served: dict[int, Record] = {}
        self._asked = 0
        self._opening: deque[TokenIds] = deque()
        self._steps = decode_batch(
            self, drafter, self._requests(), max_batch=places, budget=spender
        )

    def submit(self, record: Record) -> None:
        """Take a record; serve others until not too many wait."""
        self._waiting.add(record)
        while len(self._waiting) > self._waiting.room:
            self._step()

    def drain(self) -> None:
        """Serve all that is left."""
        while self._served or self._waiting:
            self._step()
        self._steps.close()

    def open(self, prompt: TokenIds) -> ReplayCursor:
        """The response of the request that was handed out first and is not open yet."""
        return ReplayTarget(self._opening.popleft()).open(prompt)

    def close(self) -> None:
        """Nothing to give back."""

    def _step(self) -> None:
        number, step = next(self._steps)
        self.figures.add(step)
        if step.finish is not None:
            self._waiting.done(self._served.pop(number))

    def _requests(self) -> Iterator[Request | None]:
        """The next request, or None while the sessions of all that wait are being served."""
        while True:
            record = self._waiting.take()
            if record is None:
                yield None
            else:
                self._served[self._asked] = record
                self._opening.append(record.response)
                stop = ReplayTarget(record.response).stop()
                yield Request(record.prompt, Greedy(), stop)
            self._asked += 1
