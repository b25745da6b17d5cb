"""Calls to the streams of a drafter: in one call where it takes that, else one by one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import cast

from draftwood.draft import Budget, Draft, TokenIds
from draftwood.protocols import BatchDrafter, Composed, Drafter, Feedback, Stream


def open_stream(
    drafter: Drafter, prompt: TokenIds, namespace: str = "", prediction: Sequence[TokenIds] = ()
) -> Stream:
    """A stream of the drafter's; `prediction` is passed on as a keyword only where there is one."""
    if len(prediction):
        return drafter.open(prompt, namespace=namespace, prediction=prediction)
    return drafter.open(prompt, namespace=namespace)


def batch_drafter(drafter: Drafter) -> BatchDrafter | None:
    """The drafter, where it takes a call for all of its streams."""
    return cast(BatchDrafter, drafter) if _takes_calls_for_all(type(drafter)) else None


@cache
def _takes_calls_for_all(kind: type) -> bool:
    return issubclass(kind, BatchDrafter)  # many microseconds, so once for a class


def shares_calls(drafter: Drafter) -> bool:
    """Whether one call for many streams is more than a call for each of them.

    A drafter made of others (`Composed`) always takes the call; it shares one where a part does.
    """
    if batch_drafter(drafter) is None:
        return False
    return not isinstance(drafter, Composed) or any(map(shares_calls, drafter.parts))


def ask_all(
    drafter: Drafter, streams: Sequence[Stream], budgets: Sequence[Budget]
) -> Sequence[Draft]:
    """A draft of each stream of a drafter: in one call where it takes that, else one by one.

    No stream may be given twice. Raises what the drafter raises; `GuardedStreams` handles that.
    """
    together = batch_drafter(drafter)
    if together is not None:
        return together.propose_all(streams, budgets) if streams else []
    return [stream.propose(budget) for stream, budget in zip(streams, budgets, strict=True)]


def tell_all(drafter: Drafter, streams: Sequence[Stream], feedback: Sequence[Feedback]) -> None:
    """Move each stream of a drafter, in one call where it takes that, else one by one."""
    together = batch_drafter(drafter)
    if together is not None:
        if streams:
            together.observe_all(streams, feedback)
        return
    for stream, each in zip(streams, feedback, strict=True):
        stream.observe(each)
