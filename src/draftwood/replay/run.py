"""Replay: recorded responses served again through the decode loop, once with each drafter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from draftwood.budget.cost import VerifyCost
from draftwood.budget.spender import Spender
from draftwood.errors import InvalidOption, TraceError
from draftwood.logs.call import Record
from draftwood.logs.log import Log
from draftwood.protocols import Drafter, PairsWithTarget
from draftwood.replay.cost import Clock
from draftwood.replay.figures import Figures, Watch
from draftwood.replay.simulation import Batched, Interleaved, Simulation


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
    watch: Watch | None = None,
) -> dict[str, Figures]:
    """Serve `records` once with each drafter; returns figures by the drafter's name.

    Records are read once and not kept longer than needed. spenders: by the drafter's name, what
    cuts its drafts; without one, drafts have up to 64 nodes. cost: the time of a pass; with it the
    figures predict a speed-up, and spenders are told simulated times. interleave: requests in
    flight that take turns, a step each; a session's call waits for the call before it. batch:
    requests in flight that share every pass and its budget. limit_tokens: serve only the first so
    many output tokens; the response that crosses the limit is cut. progress: called after each
    record with the output tokens taken up so far. watch: told of every step.

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

    def simulate(name: str, drafter: Drafter) -> Simulation:
        spender = (spenders or {}).get(name)
        clock = None if cost is None else Clock(cost, spender)
        figures = Figures(clock=clock, watch=watch)
        way, places = (Batched, batch) if batch > 1 else (Interleaved, interleave)
        return way(drafter, places, spender=clock or spender, figures=figures)

    simulations = {name: simulate(name, drafter) for name, drafter in drafters.items()}
    tokens = 0
    for record in _first(records, limit_tokens):
        for simulation in simulations.values():
            simulation.submit(record)
        tokens += len(record.response)
        if progress is not None:
            progress(tokens)
    for simulation in simulations.values():
        simulation.drain()
    return {name: each.figures for name, each in simulations.items()}


def replay_trace(
    log: Log,
    drafters: Mapping[str, Drafter],
    *,
    spenders: Mapping[str, Spender | None] | None = None,
    cost: VerifyCost | None = None,
    interleave: int = 1,
    batch: int = 1,
    limit_tokens: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[dict[str, Any]]:
    """Replay a log; one row for each drafter, as `replay --json` prints it.

    progress: called after each record with the part of the work that is done, 0 to 1. Where the
    trace has a tokenizer, drafters that work for some targets only
    (`PairsWithTarget`) are paired with it first.

    Raises:
        PairMismatch: a small model of another tokenizer.
        TokenizerMismatch: a history of another tokenizer.
        TraceError: the file cannot be read, or none of its lines can be used.
        InvalidOption: options that `replay` or `Log` refuses.
        MissingExtra: a log whose format needs a package that is not installed.
    """
    target_info = log.target_info
    if target_info is not None:
        for drafter in drafters.values():
            if isinstance(drafter, PairsWithTarget):
                drafter.pair(target_info)

    def report(tokens: int) -> None:
        if progress is not None:
            progress(max(log.fraction_read, tokens / limit_tokens if limit_tokens else 0.0))

    figures = replay(
        log,
        drafters,
        spenders=spenders,
        cost=cost,
        interleave=interleave,
        batch=batch,
        limit_tokens=limit_tokens,
        progress=report,
    )
    if not any(each.stats.steps for each in figures.values()):
        raise TraceError(
            f"{log.paths[0]} holds no record to replay; see what is left out, if anything"
        )
    names = {"trace": log.name, "path": str(log.paths[0])}
    return [{**names, "drafter": name, **each.as_dict()} for name, each in figures.items()]


def _first(records: Iterable[Record], limit: int | None) -> Iterator[Record]:
    """The records up to `limit` response tokens; those without a response have no step to count."""
    for record in records:
        size = len(record.response)
        if limit is not None and size >= limit:
            yield replace(record, response=record.response[:limit])
            return
        if limit is not None:
            limit -= size
        if size:
            yield record
