"""Replay: recorded responses served in order through the loop, once for each drafter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from draftwood.budget.cost import VerifyCost
from draftwood.budget.spender import Spender
from draftwood.errors import InvalidOption, TraceError
from draftwood.protocols import Drafter
from draftwood.replay.cost import Clock
from draftwood.replay.service import Figures, Passes, Service, Turns
from draftwood.replay.trace import Record, Trace


def replay(
    records: Iterable[Record],
    drafters: Mapping[str, Drafter],
    *,
    spenders: Mapping[str, Spender | None] | None = None,
    cost: VerifyCost | None = None,
    interleave: int = 1,
    batch: int = 1,
    limit_tokens: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Figures]:
    """Serve `records` with each drafter by itself; figures by the drafter's name.

    The records are read once and kept no longer than needed. spenders: by drafter's name, what
    cuts its drafts (none: 64 nodes). cost: what a pass takes; with it the figures predict a
    speed-up, and spenders see simulated time. interleave: requests in flight at once, a step each
    in turn; a call of a session waits for the session's call before it. batch: the same, but all
    of them share a pass and what it may cost. limit_tokens: the first so many output tokens only;
    the response that crosses the limit is cut. progress: told the output tokens handed out so
    far, after each record.

    Raises:
        InvalidOption: interleave, batch or limit_tokens below 1, or both of the first above.
    """
    if interleave < 1 or batch < 1:
        name, value = ("interleave", interleave) if interleave < 1 else ("batch", batch)
        raise InvalidOption(f"{name} is {value}; keep at least 1 request in flight")
    if interleave > 1 and batch > 1:
        raise InvalidOption(
            f"interleave is {interleave} and batch {batch}; requests either take turns or share "
            "passes, give one of them"
        )
    if limit_tokens is not None and limit_tokens < 1:
        raise InvalidOption(f"limit_tokens is {limit_tokens}; ask for at least 1")

    def serve(name: str, drafter: Drafter) -> Service:
        spender = (spenders or {}).get(name)
        clock = None if cost is None else Clock(cost, spender)
        figures = Figures(clock=clock)
        way, places = (Passes, batch) if batch > 1 else (Turns, interleave)
        return way(drafter, places, spender=clock or spender, figures=figures)

    services = {name: serve(name, drafter) for name, drafter in drafters.items()}
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
    spenders: Mapping[str, Spender | None] | None = None,
    cost: VerifyCost | None = None,
    interleave: int = 1,
    batch: int = 1,
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
        trace,
        drafters,
        spenders=spenders,
        cost=cost,
        interleave=interleave,
        batch=batch,
        limit_tokens=limit_tokens,
        progress=report,
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
