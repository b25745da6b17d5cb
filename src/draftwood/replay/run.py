"""Replay: recorded responses served in order through the loop, once for each drafter."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from draftwood.decode import decode
from draftwood.errors import InvalidOption, TraceError
from draftwood.protocols import Drafter, Step
from draftwood.replay.trace import Record, Trace
from draftwood.stats import Stats
from draftwood.targets.replay import ReplayTarget
from draftwood.verify.greedy import Greedy

_LOOK_AHEAD = 16
"""Waiting records a request in flight, among which one with an idle session is looked for."""


@dataclass(slots=True)
class Figures:
    """What one drafter did on one trace. stats: counts; draft_us: microseconds to draft, a step.

    open_seconds and prompt_tokens: what it took to open the requests, and how much they held.
    """

    stats: Stats = field(default_factory=Stats)
    draft_us: array[float] = field(default_factory=lambda: array("f"))
    open_seconds: float = 0.0
    prompt_tokens: int = 0

    def add(self, step: Step) -> None:
        """Count one step."""
        self.stats.add(step)
        self.draft_us.append(step.seconds.draft * 1e6)

    def as_dict(self) -> dict[str, Any]:
        """The row of `replay --json`, without the names of trace and drafter.

        accepted_by_position[d], drafted_by_position[d]: how many steps accepted, drafted more
        than d tokens on a path. Times are microseconds of wall clock, the loop's share included.
        """
        stats = self.stats
        p50, p99 = np.percentile(self.draft_us, (50, 99)).tolist() if self.draft_us else (0.0, 0.0)
        return {
            "records": stats.sequences,
            **stats.as_dict(),
            "draft_us_p50": p50,
            "draft_us_p99": p99,
            "observe_us_per_token": 1e6 * stats.observe_seconds / max(stats.tokens, 1),
            "open_us_per_token": 1e6 * self.open_seconds / max(self.prompt_tokens, 1),
        }


def replay(
    records: Iterable[Record],
    drafters: Mapping[str, Drafter],
    *,
    interleave: int = 1,
    limit_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Figures]:
    """Serve `records` with each drafter by itself; figures by the drafter's name.

    The records are read once and kept no longer than needed. interleave: requests in flight at
    once, a step each in turn; a call of a session waits for the session's call before it.
    limit_tokens: the first so many output tokens only; the response that crosses the limit is
    cut. progress: told the output tokens handed out so far, after each record.

    Raises:
        InvalidOption: interleave or limit_tokens below 1.
    """
    if interleave < 1:
        raise InvalidOption(f"interleave is {interleave}; keep at least 1 request in flight")
    if limit_tokens is not None and limit_tokens < 1:
        raise InvalidOption(f"limit_tokens is {limit_tokens}; ask for at least 1")
    services = {name: _Service(drafter, interleave) for name, drafter in drafters.items()}
    tokens = 0
    for record in _first(records, limit_tokens):
        for service in services.values():
            service.submit(record)
        tokens += len(record.response)
        if progress is not None:
            progress(tokens)
    for service in services.values():
        service.drain()
    return {name: service.figures for name, service in services.items()}


def replay_trace(
    trace: Trace,
    drafters: Mapping[str, Drafter],
    *,
    interleave: int = 1,
    limit_tokens: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[dict[str, Any]]:
    """Replay a trace file; one row for each drafter, as `replay --json` prints it.

    progress: told which part of the work is done, 0 to 1, after each record.

    Raises:
        TraceError: the file cannot be read, or none of its lines can be used.
        InvalidOption, MissingExtra: as `replay` and `Trace` say.
    """

    def report(tokens: int) -> None:
        if progress is not None:
            progress(max(trace.fraction_read, tokens / limit_tokens if limit_tokens else 0.0))

    figures = replay(
        trace, drafters, interleave=interleave, limit_tokens=limit_tokens, progress=report
    )
    if not any(each.stats.steps for each in figures.values()):
        raise TraceError(f"{trace.path} holds no record to replay; see the lines left out, if any")
    names = {"trace": trace.name, "path": str(trace.path)}
    return [{**names, "drafter": name, **each.as_dict()} for name, each in figures.items()]


def _first(records: Iterable[Record], limit: int | None) -> Iterator[Record]:
    """The records up to `limit` response tokens; those without a response have no step to count."""
    for record in records:
        size = len(record.response)
        if limit is not None and size >= limit:
            yield Record(record.prompt, record.response[:limit], record.session)
            return
        if limit is not None:
            limit -= size
        if size:
            yield record


class _Service:
    """One drafter's requests: those in flight, and those that wait for a place or their session."""

    def __init__(self, drafter: Drafter, places: int) -> None:
        self.figures = Figures()
        self._drafter = drafter
        self._places = places
        self._patience = _LOOK_AHEAD * places if places > 1 else 0
        self._waiting: list[Record] = []
        self._flight: list[tuple[Record, Iterator[Step]]] = []

    def submit(self, record: Record) -> None:
        """Take a record; serve others until not too many wait."""
        self._waiting.append(record)
        self._admit()
        while len(self._waiting) > self._patience:
            self._round()

    def drain(self) -> None:
        """Serve all that is left."""
        while self._flight or self._waiting:
            self._round()

    def _admit(self) -> None:
        """Fill free places with the first records whose session is not being served."""
        if not self._waiting or len(self._flight) == self._places:
            return
        busy = {record.session for record, _ in self._flight}
        for record in list(self._waiting):
            if len(self._flight) == self._places:
                return
            if record.session is None or record.session not in busy:
                busy.add(record.session)
                self._waiting.remove(record)
                self._open(record)

    def _open(self, record: Record) -> None:
        target = ReplayTarget(record.response)
        steps = decode(target, self._drafter, Greedy(), record.prompt, stop=target.stop())
        start = perf_counter()
        first = next(steps)  # opens the stream, which indexes the prompt
        self.figures.open_seconds += perf_counter() - start - first.seconds.total
        self.figures.prompt_tokens += len(record.prompt)
        if self._goes_on(first, steps):
            self._flight.append((record, steps))

    def _round(self) -> None:
        """One step of every request in flight; those that end make room."""
        self._flight = [
            (record, steps) for record, steps in self._flight if self._goes_on(next(steps), steps)
        ]
        self._admit()

    def _goes_on(self, step: Step, steps: Iterator[Step]) -> bool:
        self.figures.add(step)
        if step.finish is not None:
            next(steps, None)  # past the last step, where cursor and stream are closed
        return step.finish is None
