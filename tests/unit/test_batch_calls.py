"""Batch calls of the native indexes given what is no batch: one error, and nothing moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from draftwood.draft import Budget, Draft
from draftwood.drafters.recall import RecallDrafter
from draftwood.drafters.suffix import SuffixDrafter
from draftwood.errors import InvalidOption
from draftwood.index import recall_stream as index
from draftwood.index.recall import Recall
from draftwood.index.recall_stream import RecallStream
from draftwood.protocols import Feedback

PROMPT = np.tile(np.arange(20, dtype=np.int32), 5)
BUDGET = Budget(8)


def feedback(count: int) -> list[Feedback]:
    return [Feedback.of(Draft.empty(), np.array([3, 4], dtype=np.int32)) for _ in range(count)]


@pytest.fixture(params=[SuffixDrafter, RecallDrafter])
def drafter(request: pytest.FixtureRequest) -> Any:
    return request.param(threads=2)


def refuse(drafter: Any, streams: list[Any]) -> None:
    with pytest.raises(InvalidOption):
        drafter.propose_all(streams, [BUDGET] * len(streams))
    with pytest.raises(InvalidOption):
        drafter.observe_all(streams, feedback(len(streams)))


def test_a_stream_given_twice_is_refused_and_does_not_move(drafter: Any) -> None:
    stream, other = drafter.open(PROMPT), drafter.open(PROMPT)
    before = stream.propose(BUDGET).tokens.tolist()
    refuse(drafter, [stream] * 64)
    refuse(drafter, [stream, other, stream])
    assert stream.propose(BUDGET).tokens.tolist() == before


@pytest.mark.parametrize("bad", [None, 7, "stream", object()])
def test_what_is_no_stream_is_refused(drafter: Any, bad: object) -> None:
    refuse(drafter, [drafter.open(PROMPT), bad])


def test_streams_of_another_index_are_refused(drafter: Any) -> None:
    for make in (SuffixDrafter, RecallDrafter):
        refuse(drafter, [drafter.open(PROMPT), make().open(PROMPT)])
        refuse(drafter, [make().open(PROMPT)])


def test_closed_streams_do_nothing_in_a_batch(drafter: Any) -> None:
    closed, stream = drafter.open(PROMPT), drafter.open(PROMPT)
    closed.close()
    drafter.observe_all([closed, stream], feedback(2))
    drafts = drafter.propose_all([closed, stream], [BUDGET] * 2)
    assert len(drafts[0]) == 0
    assert len(drafts[1]) > 0


def test_batches_and_budgets_of_different_length_are_refused(drafter: Any) -> None:
    streams = [drafter.open(PROMPT), drafter.open(PROMPT)]
    with pytest.raises(ValueError, match=r"."):
        drafter.propose_all(streams, [BUDGET])
    with pytest.raises(ValueError, match=r"."):
        drafter.observe_all(streams, feedback(1))


def test_the_index_itself_refuses_them_too() -> None:
    recall, other = Recall(4096), Recall(4096)
    stream = RecallStream(recall, PROMPT)
    for streams in ([stream, stream], [stream, None], [stream, RecallStream(other, PROMPT)]):
        with pytest.raises(InvalidOption):
            index.propose_all(streams, [BUDGET] * 2)  # type: ignore[arg-type]
        with pytest.raises(InvalidOption):
            index.observe_all(streams, [PROMPT[:1]] * 2)  # type: ignore[arg-type]
